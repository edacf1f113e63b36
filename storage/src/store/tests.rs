//! The store over long random stories with small thresholds: opened at every commit boundary, cut, forgotten, damaged.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::story::Story;
use super::*;
use crate::books::Event;
use crate::engine::ScanRange;
use crate::engine::tests::engines;
use crate::engine::{Engine, MemoryEngine};
use crate::snapshot::SNAPSHOT_KEY;

/// Snapshots every few commits, and a log that is cut all the time.
const SMALL: StoreOptions = StoreOptions { snapshot_rows: 40, snapshot_events: 25, keep_events: 30 };
/// Neither.
const WHOLE: StoreOptions =
    StoreOptions { snapshot_rows: usize::MAX / 8, snapshot_events: u64::MAX, keep_events: u64::MAX };
/// Snapshots, and the whole log.
const UNCUT: StoreOptions = StoreOptions { keep_events: u64::MAX, ..SMALL };

/// Everything the books hold, in one number: private indices too.
fn state(books: &Books) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{books:?}").hash(&mut hasher);
    hasher.finish()
}

fn open(engine: &Arc<dyn Engine>, options: StoreOptions) -> (Store, Books) {
    let committer = Committer::inline(Arc::clone(engine));
    Store::open_with(Arc::clone(engine), committer, options).unwrap()
}

fn open_error(engine: &Arc<dyn Engine>) -> StoreError {
    Store::open(Arc::clone(engine), Committer::inline(Arc::clone(engine))).map(drop).unwrap_err()
}

/// Records `count` commits of a story.
fn tell(store: &mut Store, books: &mut Books, story: &mut Story, count: usize) -> Vec<Entry> {
    let mut told = Vec::new();
    for _ in 0..count {
        let entries = story.next(books);
        store.record(books, &entries).unwrap().wait().unwrap();
        told.extend(entries);
    }
    told
}

fn rows(engine: &dyn Engine, skipped: &[Family]) -> BTreeMap<(Family, Vec<u8>), Vec<u8>> {
    let families = Family::ALL.into_iter().filter(|family| !skipped.contains(family));
    families
        .flat_map(|family| {
            let page = engine.scan(family, ScanRange::all(), usize::MAX).unwrap();
            page.into_iter().map(move |(key, value)| ((family, key), value))
        })
        .collect()
}

fn write(engine: &dyn Engine, change: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    change(&mut batch);
    engine.write(batch, Durability::Synced).unwrap();
}

#[test]
fn a_crash_at_every_commit_leaves_the_books_of_some_event_after_the_last_synced_one() {
    for seed in 1..=3 {
        let memory = Arc::new(MemoryEngine::new());
        let engine: Arc<dyn Engine> = memory.clone();
        let (mut store, mut books) = open(&engine, SMALL);
        let mut story = Story::new(seed);
        // After how many events the books are in which state.
        let mut states = vec![state(&books)];
        let mut fold = Books::default();
        let (mut synced, mut snapshots, mut archived) = (0, 0, 0);
        for _ in 0..400 {
            let entries = story.next(&books);
            store.record(&mut books, &entries).unwrap().wait().unwrap();
            for entry in &entries {
                fold.apply(entry).unwrap();
                states.push(state(&fold));
            }
            assert_eq!(states.last(), Some(&state(&books)));
            if entries.iter().any(|entry| entry.event.durability() == Durability::Synced) {
                synced = states.len() - 1;
            }
            let crashed: Arc<dyn Engine> = Arc::new(memory.crash());
            let (store, found) = open(&crashed, SMALL);
            let reached = store.event_count() as usize;
            assert!((synced..states.len()).contains(&reached), "{reached} of {synced} synced events");
            assert_eq!(state(&found), states[reached], "seed {seed}, after event {reached}");
            found.check().unwrap();
            assert_eq!(state(&store.reload().unwrap()), states[reached]);
            snapshots += usize::from(SnapshotMark::read(&*crashed).unwrap().is_some());
        }
        archived += engine.scan(Family::Archive, ScanRange::all(), usize::MAX).unwrap().len();
        assert!(snapshots > 300 && archived > 10, "{snapshots} times with a snapshot, {archived} archived");
        let first = EventLog::first_sequence(&*engine).unwrap().unwrap();
        assert!(first > 300, "the log was cut: it begins with {first}");
    }
}

#[test]
fn reopened_again_and_again_nothing_changes_on_both_engines() {
    for engine in engines() {
        let shared = engine.shared();
        let mut story = Story::new(7);
        let mut fold = Books::default();
        for _ in 0..40 {
            let (mut store, mut books) = open(&shared, SMALL);
            assert_eq!(state(&books), state(&fold));
            for entry in tell(&mut store, &mut books, &mut story, 12) {
                fold.apply(&entry).unwrap();
            }
        }
        assert!(SnapshotMark::read(&*shared).unwrap().is_some());
    }
}

#[test]
fn a_committer_of_its_own_thread_takes_the_same_snapshots() {
    for engine in engines() {
        let shared = engine.shared();
        let committer = Committer::start(Arc::clone(&shared));
        let (mut store, mut books) = Store::open_with(Arc::clone(&shared), committer, SMALL).unwrap();
        let mut story = Story::new(11);
        let mut last = None;
        // Recorded on while snapshots are copied: each holds its own event's rows and no later ones.
        for _ in 0..500 {
            let entries = story.next(&books);
            last = Some(store.record(&mut books, &entries).unwrap());
        }
        last.unwrap().wait().unwrap();
        drop(store);
        let (store, found) = open(&shared, SMALL);
        assert_eq!(state(&found), state(&books));
        let mark = SnapshotMark::read(&*shared).unwrap().unwrap();
        assert!(mark.sequence + 2 * SMALL.snapshot_events > store.event_count(), "{mark:?}");
    }
}

#[test]
fn snapshot_and_suffix_are_the_whole_log() {
    for engine in engines() {
        let shared = engine.shared();
        let (mut store, mut books) = open(&shared, UNCUT);
        // Enough for many pages of the replay.
        tell(&mut store, &mut books, &mut Story::new(21), 1_000);
        let count = store.event_count();
        drop(store);
        let with = replay(&*shared).unwrap();
        assert!(
            with.events < 60 && with.snapshot_rows > 0,
            "{} events, {} rows",
            with.events,
            with.snapshot_rows
        );
        let snapshot = shared.scan(Family::Snapshot, ScanRange::all(), usize::MAX).unwrap();
        write(&*shared, |batch| {
            batch.delete(Family::Meta, SNAPSHOT_KEY);
            snapshot.into_iter().for_each(|(key, _)| batch.delete(Family::Snapshot, key));
        });
        let without = replay(&*shared).unwrap();
        assert_eq!((without.events, without.snapshot), (count, None));
        assert_eq!(state(&with.books), state(&without.books));
        assert_eq!(state(&books), state(&without.books));
    }
}

#[test]
fn a_snapshot_that_was_never_taken_is_taken_when_the_books_are_opened() {
    for engine in engines() {
        let shared = engine.shared();
        let (mut store, mut books) = open(&shared, WHOLE);
        tell(&mut store, &mut books, &mut Story::new(31), 400);
        let count = store.event_count();
        drop(store);
        assert_eq!(SnapshotMark::read(&*shared), Ok(None));
        let (_, found) = open(&shared, SMALL);
        assert_eq!(state(&found), state(&books));
        let mark = SnapshotMark::read(&*shared).unwrap().unwrap();
        assert_eq!(mark.sequence, count);
        assert_eq!(EventLog::first_sequence(&*shared), Ok(Some(count + 1 - SMALL.keep_events)));
        let replayed = replay(&*shared).unwrap();
        assert_eq!((replayed.events, state(&replayed.books)), (0, state(&books)));
    }
}

#[test]
fn a_first_snapshot_that_was_cut_short_is_none_and_is_made_again() {
    for engine in engines() {
        let shared = engine.shared();
        let (mut store, mut books) = open(&shared, WHOLE);
        tell(&mut store, &mut books, &mut Story::new(32), 400);
        let count = store.event_count();
        drop(store);
        // Rows of another time, and no mark.
        write(&*shared, |batch| {
            batch.put(Family::Snapshot, [&[Family::Jobs.tag()][..], &[7; 16]].concat(), [1]);
        });
        let report = crate::maintenance::check(&*shared).unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
        let (_, found) = open(&shared, SMALL);
        assert_eq!(state(&found), state(&books));
        let replayed = replay(&*shared).unwrap();
        assert_eq!((replayed.events, state(&replayed.books)), (0, state(&books)));
        assert_eq!(replayed.snapshot.map(|mark| mark.sequence), Some(count));
        // And never over one that is there.
        let mark = SnapshotMark { sequence: count, at: Timestamp(0) };
        assert!(snapshot::make_first(&*shared, &books, mark, 0).is_err());
    }
}

#[test]
fn what_is_gone_between_snapshot_and_log_is_refused_by_name() {
    for engine in engines() {
        let shared = engine.shared();
        let (mut store, mut books) = open(&shared, UNCUT);
        let mut story = Story::new(41);
        tell(&mut store, &mut books, &mut story, 300);
        let reached = SnapshotMark::read(&*shared).unwrap().unwrap().sequence;
        while store.event_count() < reached + 5 {
            tell(&mut store, &mut books, &mut story, 1);
        }
        let last = store.event_count();
        drop(store);
        let event = |n: u64| (n, shared.get(Family::Events, &n.to_be_bytes()).unwrap().unwrap());
        let kept: Vec<(u64, Vec<u8>)> = (1..=last).map(event).collect();
        let without = |gone: &dyn Fn(u64) -> bool| {
            write(&*shared, |batch| {
                for (n, bytes) in &kept {
                    match gone(*n) {
                        true => batch.delete(Family::Events, n.to_be_bytes()),
                        false => batch.put(Family::Events, n.to_be_bytes(), bytes.clone()),
                    }
                }
            });
        };
        // Behind the snapshot all may be gone, and with a gap: nothing of it is needed.
        without(&|n| n <= reached);
        assert_eq!(state(&open(&shared, UNCUT).1), state(&books));
        without(&|n| n <= reached + 1);
        let error = open_error(&shared);
        assert!(
            matches!(error, StoreError::CutTooFar { snapshot, first } if (snapshot, first) == (reached, reached + 2)),
            "{error}"
        );
        without(&|n| n == reached + 2);
        let error = open_error(&shared);
        assert!(matches!(error, StoreError::Engine(EngineError::Damaged { .. })), "{error}");
        without(&|n| n >= reached);
        let error = open_error(&shared);
        assert!(
            matches!(error, StoreError::SnapshotAhead { snapshot, last } if (snapshot, last) == (reached, reached - 1)),
            "{error}"
        );
        without(&|_| false);
        assert_eq!(state(&open(&shared, UNCUT).1), state(&books));
    }
}

#[test]
fn an_event_far_inside_that_cannot_be_read_or_does_not_fit_is_named() {
    for engine in engines() {
        let shared = engine.shared();
        let (mut store, mut books) = open(&shared, WHOLE);
        tell(&mut store, &mut books, &mut Story::new(51), 1_000);
        assert!(store.event_count() > 1_000);
        drop(store);
        let at = Timestamp(1);
        let unfit = Entry {
            at,
            event: Event::LockRenewed { bid: dms_messages::BidId::from_bytes([0; 16]), expires: at },
        };
        let good = shared.get(Family::Events, &700u64.to_be_bytes()).unwrap().unwrap();
        for (bytes, is_unfit) in
            [(dms_messages::to_canonical(&unfit).unwrap(), true), (vec![0xa0], false), (vec![], false)]
        {
            write(&*shared, |batch| EventLog::append(batch, 700, &bytes));
            match open_error(&shared) {
                StoreError::Inconsistent { sequence: 700, .. } => assert!(is_unfit),
                StoreError::Unreadable { sequence: 700, .. } => assert!(!is_unfit),
                other => panic!("{other}"),
            }
        }
        write(&*shared, |batch| batch.delete(Family::Events, 700u64.to_be_bytes()));
        assert!(open_error(&shared).to_string().contains("event 700 is missing"));
        write(&*shared, |batch| batch.put(Family::Events, 700u64.to_be_bytes(), good));
        assert_eq!(state(&open(&shared, WHOLE).1), state(&books));
    }
}

#[test]
fn a_row_of_the_snapshot_that_is_missing_wrong_or_unreadable_is_refused() {
    let memory = Arc::new(MemoryEngine::new());
    let engine: Arc<dyn Engine> = memory.clone();
    let (mut store, mut books) = open(&engine, SMALL);
    tell(&mut store, &mut books, &mut Story::new(61), 300);
    drop(store);
    let snapshot = engine.scan(Family::Snapshot, ScanRange::all(), usize::MAX).unwrap();
    assert!(snapshot.len() > 10);
    for (key, value) in snapshot {
        let damages: [(&str, Option<Vec<u8>>); 3] =
            [("gone", None), ("cut", Some(value[..value.len() - 1].to_vec())), ("empty", Some(vec![]))];
        for (what, damage) in damages {
            let copy: Arc<dyn Engine> = Arc::new(memory.crash());
            // The survivor may be older, and without this row.
            if copy.get(Family::Snapshot, &key).unwrap().is_none() {
                continue;
            }
            write(&*copy, |batch| match damage {
                Some(bytes) => batch.put(Family::Snapshot, key.clone(), bytes),
                None => batch.delete(Family::Snapshot, key.clone()),
            });
            // Found when it is read, when a later event does not fit, or by the live rows.
            let opened = Store::open(Arc::clone(&copy), Committer::inline(copy));
            let replaced = opened.is_ok() && what == "gone";
            // A row that the suffix deletes or writes anew may be missing without a difference.
            assert!(opened.is_err() || replaced, "{what}: {key:02x?}");
        }
    }
    write(&*engine, |batch| batch.put(Family::Meta, SNAPSHOT_KEY, [0xff]));
    assert!(matches!(open_error(&engine), StoreError::Engine(EngineError::Damaged { .. })));
}

#[test]
fn what_is_forgotten_was_over_before_and_the_books_do_not_notice() {
    for engine in engines() {
        let shared = engine.shared();
        let (mut store, mut books) = open(&shared, SMALL);
        let mut story = Story::new(71);
        tell(&mut store, &mut books, &mut story, 800);
        let count = |family| shared.scan(family, ScanRange::all(), usize::MAX).unwrap().len();
        let times = || -> Vec<u64> {
            let archive = shared.scan(Family::Archive, ScanRange::all(), usize::MAX).unwrap();
            let end = |row: &[u8]| {
                let archived: crate::books::Archived = rows::decode(Family::Archive, row).unwrap();
                archived.at.max(archived.ended).0
            };
            archive.iter().map(|(_, row)| end(row)).collect()
        };
        let mut sorted = times();
        sorted.sort_unstable();
        let before = Timestamp(sorted[sorted.len() / 2]);
        let (all, by_peer, old) = (
            sorted.len(),
            count(Family::ContractsByPeer),
            sorted.iter().filter(|at| **at < before.0).count(),
        );
        assert!(old > 20 && all == count(Family::Archive), "{old} of {all}");
        // A few of each of the three kinds at a time.
        store.forget(before, 2).unwrap().wait().unwrap();
        assert!(count(Family::Archive) >= all - 6);
        // To the end, and then what the first call looked at and left.
        store.forget(before, usize::MAX).unwrap().wait().unwrap();
        store.forget(before, usize::MAX).unwrap().wait().unwrap();
        assert!(times().iter().all(|at| *at >= before.0));
        assert_eq!((count(Family::Archive), count(Family::ArchiveByTime)), (all - old, all - old));
        assert!(count(Family::ContractsByPeer) < by_peer);
        let report = crate::maintenance::check(&*shared).unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
        tell(&mut store, &mut books, &mut story, 50);
        drop(store);
        assert_eq!(state(&open(&shared, SMALL).1), state(&books));
    }
}

#[test]
fn rows_that_are_lost_are_rebuilt_byte_by_byte() {
    for engine in engines() {
        let shared = engine.shared();
        let (mut store, mut books) = open(&shared, SMALL);
        tell(&mut store, &mut books, &mut Story::new(81), 500);
        drop(store);
        let before = rows(&*shared, &[]);
        let truth = [Family::Meta, Family::Events, Family::Snapshot, Family::Archive, Family::Notes];
        write(&*shared, |batch| {
            rows(&*shared, &truth).into_keys().for_each(|(family, key)| batch.delete(family, key));
        });
        assert!(matches!(open_error(&shared), StoreError::RowDiffers { .. }));
        crate::maintenance::rebuild(&*shared).unwrap();
        assert_eq!(rows(&*shared, &[]), before);
        assert_eq!(state(&open(&shared, SMALL).1), state(&books));
    }
}

#[test]
fn a_failed_snapshot_is_a_failed_commit() {
    let memory = Arc::new(MemoryEngine::new());
    let engine: Arc<dyn Engine> = memory.clone();
    let (mut store, mut books) = open(&engine, SMALL);
    let mut story = Story::new(91);
    tell(&mut store, &mut books, &mut story, 100);
    let (known, disk) = (store.event_count(), rows(&*engine, &[]));
    memory.fail_writes(true);
    loop {
        let entries = story.next(&books);
        if store.record(&mut books, &entries).unwrap().wait().is_err() {
            break;
        }
    }
    assert!(store.is_poisoned());
    memory.fail_writes(false);
    assert_eq!(rows(&*engine, &[]), disk, "nothing is written after a failure, no snapshot either");
    drop(store);
    assert_eq!(open(&engine, SMALL).0.event_count(), known);
}
