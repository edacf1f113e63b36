//! What is over is found again: by id, by range, newest first, with what it needs; and forgotten whole.

use dms_messages::{
    CpuMillis, DiskMib, ExecutorKind, Job, JobEnd, MemoryMib, Millis, Pod, Requirement, Task,
};

use super::*;
use crate::books::{Entry, Event};
use crate::committer::Committer;
use crate::engine::{Batch, Durability, MemoryEngine};
use crate::rows::{ForgetCursors, forget_archived};
use crate::schema::Family;
use crate::store::Store;

/// Two jobs are handed in at each instant, so that time alone does not order them.
const JOBS: u8 = 10;

fn job(n: u8) -> Job {
    let requirement = Requirement {
        cpu: CpuMillis(1),
        memory: MemoryMib(1),
        disk: DiskMib(1),
        gpus: vec![],
        executor: ExecutorKind::Wasm,
        locations: Default::default(),
        labels: Default::default(),
        ports: 0,
        architecture: None,
        min_clock_mhz: 0,
        min_score: 0,
    };
    let task = Task {
        name: "t".into(),
        module: ContentId::of_bytes(&[n]),
        args: vec![],
        env: Default::default(),
        stdin: None,
        input: None,
        timeout: Millis(1),
        resources: None,
    };
    Job {
        id: JobId::from_random([n; 16]),
        name: "j".into(),
        pods: vec![Pod { requirement, tasks: vec![task] }],
        max_price: None,
        wanted: 1,
        wait: Millis(1),
        max_attempts: 1,
        submitted: Timestamp(u64::from(n / 2) * 300),
    }
}

/// A database with [`JOBS`] archived jobs and one that goes on.
fn archived() -> (Arc<dyn Engine>, Archive) {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let (mut store, mut books) =
        Store::open(Arc::clone(&engine), Committer::inline(Arc::clone(&engine))).unwrap();
    let ended = (0..JOBS).flat_map(|n| {
        [Event::JobSubmitted { job: job(n) }, Event::JobEnded { job: job(n).id, end: JobEnd::Cancelled }]
    });
    let last = [
        Event::JobSubmitted { job: job(JOBS) },
        Event::Settled { ended_before: Timestamp(6) },
        Event::JobMoved { job: job(JOBS).id, phase: dms_messages::JobPhase::Bidding },
    ];
    let entries: Vec<Entry> = ended.chain(last).map(|event| Entry { at: Timestamp(5), event }).collect();
    store.record(&mut books, &entries).unwrap().wait().unwrap();
    assert_eq!(books.jobs().len(), 1, "the others are over");
    let archive = Archive::new(Arc::clone(&engine));
    (engine, archive)
}

fn ids<'a>(rows: impl IntoIterator<Item = &'a JobRow>) -> Vec<JobId> {
    rows.into_iter().map(|row| row.job.id).collect()
}

#[test]
fn jobs_are_found_by_id_by_range_and_newest_first() {
    let (_, archive) = archived();
    assert_eq!(archive.job(job(3).id).unwrap().map(|row| row.job), Some(job(3)));
    assert_eq!(archive.job(job(JOBS).id), Ok(None), "it goes on");
    assert_eq!(archive.allocation(AllocationId::from_random([3; 16])), Ok(None), "another kind");

    let mut expected: Vec<ArchiveTime> =
        (0..JOBS).map(job).map(|job| ArchiveTime { at: job.submitted, id: ArchiveId::Job(job.id) }).collect();
    expected.sort_unstable();
    expected.reverse();
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = archive.jobs(before, 3).unwrap();
        let Some((last, _)) = page.last() else { break };
        before = Some(*last);
        assert!(page.iter().all(|(time, row)| time.id == ArchiveId::Job(row.job.id)));
        found.extend(page.into_iter().map(|(time, _)| time));
    }
    assert_eq!(found, expected);
    let other_kind = ArchiveTime { at: Timestamp(1), id: ArchiveId::Contract(ContentId::of_bytes(b"")) };
    assert_eq!(archive.jobs(Some(other_kind), 100).unwrap().len(), usize::from(JOBS), "never past its kind");
    assert!(archive.allocations(None, 100).unwrap().is_empty());
    assert!(archive.contracts(None, 100).unwrap().is_empty());

    let between = |from, to, limit| ids(&archive.jobs_between(job(from).id..=job(to).id, limit).unwrap());
    assert_eq!(between(2, 2, 10), [job(2).id]);
    assert_eq!(between(2, 4, 10), [job(2).id, job(3).id, job(4).id]);
    assert_eq!(between(2, 9, 2), [job(2).id, job(3).id]);
    assert_eq!(between(4, 2, 10), []);
}

#[test]
fn a_sweep_learns_page_by_page_what_archived_jobs_need() {
    let (_, archive) = archived();
    let mut after = None;
    let mut modules = Vec::new();
    loop {
        let page = archive.contents(after, 4).unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        modules.extend(page.into_iter().flat_map(|(_, contents)| contents.blobs));
    }
    modules.sort_unstable();
    let mut expected: Vec<ContentId> = (0..JOBS).map(|n| ContentId::of_bytes(&[n])).collect();
    expected.sort_unstable();
    assert_eq!(modules, expected);
}

#[test]
fn what_is_forgotten_is_gone_whole_oldest_first() {
    let (engine, archive) = archived();
    let mut cursors = ForgetCursors::new();
    let mut forget = |before, limit| {
        let batch = forget_archived(&*engine, Timestamp(before), limit, &mut cursors).unwrap();
        engine.write(batch, Durability::Unsynced).unwrap();
        let count = |family| engine.scan(family, ScanRange::all(), usize::MAX).unwrap().len();
        assert_eq!(count(Family::Archive), count(Family::ArchiveByTime));
        count(Family::Archive)
    };
    assert_eq!(forget(0, 100), 10);
    assert_eq!(forget(300, 100), 8, "those of before that instant, not of it");
    assert_eq!(archive.oldest(ArchiveKind::Job), Ok(Some(Timestamp(300))));
    assert_eq!(forget(1_000_000, 3), 5);
    assert_eq!(archive.oldest(ArchiveKind::Job), Ok(Some(Timestamp(600))));
    assert_eq!(archive.job(job(0).id), Ok(None));
    assert_eq!(forget(1_000_000, 100), 0);
    assert_eq!(archive.oldest(ArchiveKind::Job), Ok(None));
}

#[test]
fn rows_that_are_none_are_an_error_and_not_skipped() {
    let (engine, archive) = archived();
    let id = ArchiveId::Job(job(3).id);
    let mut batch = Batch::new();
    batch.put(Family::Archive, id.to_bytes(), b"other");
    engine.write(batch, Durability::Synced).unwrap();
    let unreadable = |error: RowError| matches!(error, RowError::Value { family: "archive", .. });
    assert!(unreadable(archive.job(job(3).id).unwrap_err()));
    assert!(unreadable(archive.jobs(None, 100).unwrap_err()));
    assert!(unreadable(archive.jobs_between(job(0).id..=job(9).id, 100).unwrap_err()));
}

#[test]
fn a_row_by_time_that_names_nothing_is_forgotten_alone() {
    let (engine, archive) = archived();
    let lost = ArchiveTime { at: Timestamp(1), id: ArchiveId::Contract(ContentId::of_document(b"")) };
    let mut batch = Batch::new();
    batch.put(Family::ArchiveByTime, lost.to_bytes(), ArchiveByTime::encode(&LiveContents::default()));
    engine.write(batch, Durability::Synced).unwrap();
    // The same job under another time: it was archived anew since.
    let older = ArchiveTime { at: Timestamp(1), id: ArchiveId::Job(job(3).id) };
    let mut batch = Batch::new();
    batch.put(Family::ArchiveByTime, older.to_bytes(), ArchiveByTime::encode(&LiveContents::default()));
    engine.write(batch, Durability::Synced).unwrap();
    assert_eq!(archive.jobs(None, 100).unwrap().len(), usize::from(JOBS), "it is listed once");
    let batch = forget_archived(&*engine, Timestamp(2), 100, &mut ForgetCursors::new()).unwrap();
    assert_eq!(batch.len(), 2);
    engine.write(batch, Durability::Synced).unwrap();
    assert_eq!(engine.get(Family::ArchiveByTime, &lost.to_bytes()), Ok(None));
    assert_eq!(engine.get(Family::ArchiveByTime, &older.to_bytes()), Ok(None));
    assert!(archive.job(job(3).id).unwrap().is_some());
}

#[test]
fn what_was_over_later_is_kept_and_does_not_stand_in_the_way() {
    let (engine, archive) = archived();
    // The oldest two went on for long.
    let mut times: Vec<_> = archive.jobs(None, 100).unwrap();
    times.reverse();
    let mut batch = Batch::new();
    for (time, row) in times.iter().take(2) {
        let archived =
            Archived { at: time.at, ended: Timestamp(2_000_000), row: ArchivedRow::Job(row.clone()) };
        crate::rows::put_archived(&mut batch, &archived);
    }
    engine.write(batch, Durability::Synced).unwrap();
    let mut cursors = ForgetCursors::new();
    for _ in 0..10 {
        let batch = forget_archived(&*engine, Timestamp(1_000_000), 2, &mut cursors).unwrap();
        engine.write(batch, Durability::Synced).unwrap();
    }
    assert_eq!(archive.jobs(None, 100).unwrap().len(), 2);
    for _ in 0..3 {
        let batch = forget_archived(&*engine, Timestamp(3_000_000), 2, &mut cursors).unwrap();
        engine.write(batch, Durability::Synced).unwrap();
    }
    assert!(archive.jobs(None, 100).unwrap().is_empty());
}

#[test]
fn every_family_can_be_shown_and_pages_go_on() {
    let (engine, _) = archived();
    let reader = crate::Reader::new(Arc::clone(&engine), 1);
    for family in Family::ALL {
        let rows = reader.query(family, &[], None, usize::MAX).unwrap();
        let stored = engine.scan(family, ScanRange::all(), usize::MAX).unwrap();
        let keys: Vec<_> = stored.into_iter().map(|(key, _)| key).collect();
        assert_eq!(rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), keys, "{family:?}");
        let mut paged = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        while let Some(row) = reader.query(family, &[], after.as_deref(), 1).unwrap().pop() {
            after = Some(row.key.clone());
            paged.push(row.name);
        }
        assert_eq!(paged, rows.into_iter().map(|row| row.name).collect::<Vec<_>>(), "{family:?}");
    }
    let of_kind = reader.query(Family::Archive, &[ArchiveKind::Job as u8], None, 3).unwrap();
    assert!(matches!(of_kind[..], [ref first, _, _] if first.name == format!("job {}", job(0).id)));
    let mut reader = reader;
    let entries = reader.next_entries(2).unwrap();
    assert!(matches!(entries[..], [(1, Entry { event: Event::JobSubmitted { .. }, .. }), (2, _)]));
}
