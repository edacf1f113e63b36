//! The committer against an engine that is slow, failing or panicking on command; time decides no test.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::task::Waker;
use std::time::Duration;

use super::*;
use crate::engine::tests::engines;
use crate::engine::{MemoryEngine, Row, ScanRange};
use crate::log::EventLog;
use crate::schema::Family;

/// A bound for what comes at once unless something is broken; no test waits for it to pass.
const DEADLINE: Duration = Duration::from_secs(30);

/// More writes than any test has at the gate, so that neither side waits for the other to read.
const WRITES: usize = 64;

/// What a write at the gate is told to do.
enum Verdict {
    Write,
    Fail,
    Panic,
}

/// A memory engine whose every write announces itself and then waits at a gate for its verdict.
#[derive(Debug)]
struct GatedEngine {
    inner: MemoryEngine,
    announce: SyncSender<(usize, Durability)>,
    gate: Mutex<Receiver<Verdict>>,
}

impl Engine for GatedEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.announce.send((batch.len(), durability)).expect("the test listens");
        match self.gate.lock().expect("one writer").recv_timeout(DEADLINE).expect("the test decides") {
            Verdict::Write => self.inner.write(batch, durability),
            Verdict::Fail => Err(EngineError::Io { reason: "told to".to_owned() }),
            Verdict::Panic => panic!("told to"),
        }
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.inner.get(family, key)
    }

    fn scan(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.inner.scan(family, range, limit)
    }

    fn scan_back(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.inner.scan_back(family, range, limit)
    }
}

/// The test's side of the gate.
struct Gate {
    engine: Arc<GatedEngine>,
    announced: Receiver<(usize, Durability)>,
    verdicts: SyncSender<Verdict>,
}

impl Gate {
    fn new() -> (Self, Committer) {
        let (announce, announced) = mpsc::sync_channel(WRITES);
        let (verdicts, gate) = mpsc::sync_channel(WRITES);
        let engine = Arc::new(GatedEngine { inner: MemoryEngine::new(), announce, gate: Mutex::new(gate) });
        let committer = Committer::start(engine.clone());
        (Self { engine, announced, verdicts }, committer)
    }

    /// Waits until a write stands at the gate: how many rows it has, and how durable it shall be.
    fn arrival(&self) -> (usize, Durability) {
        self.announced.recv_timeout(DEADLINE).expect("a write comes")
    }

    fn decide(&self, verdict: Verdict) {
        self.verdicts.send(verdict).expect("the engine waits");
    }

    /// Lets `count` further writes through as they come.
    fn open_for(&self, count: usize) {
        for _ in 0..count {
            self.decide(Verdict::Write);
        }
    }

    fn events(&self) -> Vec<u64> {
        let events = EventLog::read(&*self.engine, 1, usize::MAX).expect("no holes");
        events.into_iter().map(|(sequence, _)| sequence).collect()
    }
}

fn event(sequence: u64) -> Batch {
    let mut batch = Batch::new();
    EventLog::append(&mut batch, sequence, b"event");
    batch
}

fn sized(bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(Family::Notes, b"large", vec![0; bytes]);
    batch
}

/// Asks the ticket once, as a runtime would.
fn poll(ticket: &mut CommitTicket) -> Option<Result<(), CommitError>> {
    match Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

#[test]
fn commits_that_arrive_during_a_write_share_the_next_one() {
    let (gate, committer) = Gate::new();
    let mut tickets = vec![committer.commit(event(1), Durability::Unsynced)];
    assert_eq!(gate.arrival(), (1, Durability::Unsynced), "a lone commit waits for nobody");
    for sequence in 2..=64 {
        let durability = if sequence == 40 { Durability::Synced } else { Durability::Unsynced };
        tickets.push(committer.commit(event(sequence), durability));
    }
    gate.decide(Verdict::Write);
    assert_eq!(gate.arrival(), (63, Durability::Synced), "one write, as durable as the strongest asked");
    gate.decide(Verdict::Write);
    for ticket in tickets {
        ticket.wait().expect("commits");
    }
    assert_eq!(gate.events(), (1..=64).collect::<Vec<_>>());
    let stats = committer.stats();
    assert_eq!((stats.commits, stats.writes, stats.largest_group, stats.queued), (64, 2, 63, 0));
    assert!(stats.largest_write_bytes >= 63 * event(1).byte_len());
}

#[test]
fn a_write_is_bounded_in_commits_and_in_bytes() {
    let (gate, committer) = Gate::new();
    let mut tickets = vec![committer.commit(event(1), Durability::Synced)];
    gate.arrival();
    tickets.extend((2..=131).map(|sequence| committer.commit(event(sequence), Durability::Synced)));
    let half = MAX_GROUP_BYTES / 2;
    // Two halves do not fit with their keys; one that is too large by itself goes alone.
    let sizes = [half, half, 10, MAX_GROUP_BYTES * 2, 10, 10];
    tickets.extend(sizes.map(|bytes| committer.commit(sized(bytes), Durability::Unsynced)));
    let mut groups = Vec::new();
    for _ in 0..6 {
        gate.decide(Verdict::Write);
        groups.push(gate.arrival().0);
    }
    gate.decide(Verdict::Write);
    for ticket in tickets {
        ticket.wait().expect("commits");
    }
    // For the sync of the last ones, when the committer is dropped.
    gate.open_for(1);
    // 2 events and the first half; the second half and ten bytes; the large one; the rest.
    assert_eq!(groups, [64, 64, 3, 2, 1, 2]);
}

#[test]
fn an_acknowledgement_comes_after_the_sync_and_in_order() {
    let (gate, committer) = Gate::new();
    let mut first = committer.commit(event(1), Durability::Synced);
    gate.arrival();
    let mut second = committer.commit(event(2), Durability::Synced);
    assert!(poll(&mut first).is_none(), "the write has begun but is not done");
    gate.decide(Verdict::Write);
    first.wait().expect("commits");
    gate.arrival();
    // What a power cut now would leave holds what was acknowledged, and no more was.
    assert_eq!(EventLog::last_sequence(&gate.engine.inner.crash()), Ok(Some(1)));
    assert!(poll(&mut second).is_none());
    gate.decide(Verdict::Write);
    second.wait().expect("commits");
    assert_eq!(EventLog::last_sequence(&gate.engine.inner.crash()), Ok(Some(2)));
}

#[test]
fn a_full_queue_turns_away_before_memory_is_changed() {
    let (gate, committer) = Gate::new();
    let first = committer.commit(event(1), Durability::Synced);
    gate.arrival();
    // The first is being written; the queue is empty and has all its places.
    assert!(committer.has_room(QUEUE_CAPACITY));
    assert!(!committer.has_room(QUEUE_CAPACITY + 1));
    let permit = committer.reserve().expect("there is room");
    let unused = committer.reserve().expect("there is room");
    let capacity = QUEUE_CAPACITY as u64;
    let mut tickets: Vec<CommitTicket> =
        (2..capacity).map(|sequence| committer.commit(event(sequence), Durability::Synced)).collect();
    assert!(!committer.has_room(1));
    assert_eq!(committer.reserve().expect_err("full"), Overloaded);
    let refused = committer.commit(event(9_999), Durability::Synced);
    assert!(matches!(refused.wait(), Err(CommitError::Overloaded)));

    // A place given back can be had; a place kept is kept, however full the queue is.
    drop(unused);
    tickets.push(committer.commit(event(capacity), Durability::Synced));
    assert!(committer.reserve().is_err());
    tickets.push(permit.commit(event(capacity + 1), Durability::Synced));
    assert_eq!(committer.stats().queued, QUEUE_CAPACITY);
    gate.open_for(1 + QUEUE_CAPACITY / MAX_GROUP_COMMITS);
    for ticket in std::iter::once(first).chain(tickets) {
        ticket.wait().expect("commits");
    }
    assert_eq!(gate.events().len() as u64, capacity + 1, "and the refused one is nowhere");
    assert!(committer.has_room(QUEUE_CAPACITY));
}

#[test]
fn after_one_failure_nothing_is_tried_again() {
    for (verdict, message) in [
        (Verdict::Fail, "the database could not be read or written: told to"),
        (Verdict::Panic, "the storage engine panicked: told to"),
    ] {
        let (gate, committer) = Gate::new();
        let failing = committer.commit(event(1), Durability::Synced);
        gate.arrival();
        let queued: Vec<_> = (2..=100).map(|n| committer.commit(event(n), Durability::Synced)).collect();
        let permit = committer.reserve().expect("there is room");
        assert!(!committer.is_poisoned());
        gate.decide(verdict);
        match failing.wait() {
            Err(CommitError::Failed(cause)) => assert_eq!(cause.to_string(), message),
            other => panic!("{other:?}"),
        }
        assert!(committer.is_poisoned(), "whoever hears of the failure sees the poison");
        let later =
            [permit.commit(event(101), Durability::Synced), committer.commit(event(102), Durability::Synced)];
        for ticket in queued.into_iter().chain(later) {
            match ticket.wait() {
                Err(CommitError::Poisoned(cause)) => {
                    assert_eq!(cause.to_string(), message, "the first cause")
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(committer.stats().writes, 0);
        assert!(gate.events().is_empty());
        drop(committer);
        assert!(gate.announced.try_recv().is_err(), "no second write was tried");
    }
}

#[test]
fn all_commits_of_a_failed_write_fail_as_unknown() {
    let (gate, committer) = Gate::new();
    let done = committer.commit(event(1), Durability::Synced);
    gate.arrival();
    let group =
        [committer.commit(event(2), Durability::Synced), committer.commit(event(3), Durability::Synced)];
    gate.decide(Verdict::Write);
    gate.decide(Verdict::Fail);
    done.wait().expect("commits");
    for ticket in group {
        assert!(matches!(ticket.wait(), Err(CommitError::Failed(_))));
    }
}

#[test]
fn dropping_drains_and_a_late_permit_is_closed() {
    for engine in engines() {
        let committer = Committer::start(engine.shared());
        let permit = committer.reserve().expect("there is room");
        let unused = committer.reserve().expect("there is room");
        let tickets: Vec<_> = (1..=500).map(|n| committer.commit(event(n), Durability::Unsynced)).collect();
        drop(committer);
        assert_eq!(EventLog::last_sequence(&*engine), Ok(Some(500)));
        for ticket in tickets {
            ticket.wait().expect("written before the drop returned");
        }
        assert!(matches!(permit.commit(event(501), Durability::Synced).wait(), Err(CommitError::Closed)));
        drop(unused);
        assert_eq!(EventLog::last_sequence(&*engine), Ok(Some(500)));
    }
}

#[test]
fn what_nobody_syncs_is_synced_a_little_later_and_once() {
    let (gate, committer) = Gate::new();
    let ticket = committer.commit(event(1), Durability::Unsynced);
    assert_eq!(gate.arrival(), (1, Durability::Unsynced));
    gate.decide(Verdict::Write);
    ticket.wait().expect("an acknowledgement does not wait for the sync");
    assert_eq!(EventLog::last_sequence(&gate.engine.inner.crash()), Ok(None));

    assert_eq!(gate.arrival(), (0, Durability::Synced), "though nobody commits");
    gate.decide(Verdict::Write);
    // Carries nothing over: what is synced asks for no sync of its own, neither later nor at the end.
    let ticket = committer.commit(event(2), Durability::Synced);
    assert_eq!(gate.arrival(), (1, Durability::Synced));
    assert_eq!(
        EventLog::last_sequence(&gate.engine.inner.crash()),
        Ok(Some(1)),
        "before the second is synced"
    );
    gate.decide(Verdict::Write);
    ticket.wait().expect("commits");
    let stats = committer.stats();
    assert_eq!((stats.commits, stats.writes), (2, 2), "a sync of its own is no commit's write");
    drop(committer);
    assert!(gate.announced.try_recv().is_err(), "no further sync");
}

#[test]
fn a_trickle_of_unsynced_commits_does_not_put_the_sync_off() {
    let (gate, committer) = Gate::new();
    let started = Instant::now();
    for sequence in 1.. {
        let ticket = committer.commit(event(sequence), Durability::Unsynced);
        let (_, durability) = gate.arrival();
        gate.decide(Verdict::Write);
        if durability == Durability::Synced {
            break;
        }
        ticket.wait().expect("commits");
        assert!(started.elapsed() < DEADLINE, "{sequence} commits and no sync");
    }
    // One for the last commit, if the sync came without it; one for the sync at the end.
    gate.open_for(2);
}

#[test]
fn dropping_syncs_what_is_not() {
    let engine = Arc::new(MemoryEngine::new());
    let committer = Committer::start(engine.clone());
    committer.commit(event(1), Durability::Unsynced).wait().expect("commits");
    drop(committer);
    assert_eq!(EventLog::last_sequence(&engine.crash()), Ok(Some(1)));
}

#[test]
fn a_sync_that_fails_poisons() {
    let (gate, committer) = Gate::new();
    let ticket = committer.commit(event(1), Durability::Unsynced);
    gate.arrival();
    gate.decide(Verdict::Write);
    ticket.wait().expect("commits");
    assert_eq!(gate.arrival(), (0, Durability::Synced));
    gate.decide(Verdict::Fail);
    let later = committer.commit(event(2), Durability::Synced);
    assert!(matches!(later.wait(), Err(CommitError::Poisoned(_))));
    drop(committer);
    assert!(gate.announced.try_recv().is_err(), "and is not tried again");
}

#[test]
fn a_dropped_ticket_takes_nothing_back() {
    for engine in engines() {
        let committer = Committer::start(engine.shared());
        drop(committer.commit(event(1), Durability::Unsynced));
        committer.commit(event(2), Durability::Synced).wait().expect("commits");
        assert_eq!(EventLog::read(&*engine, 1, 9).map(|events| events.len()), Ok(2));
    }
}

#[test]
fn order_is_kept_where_batches_touch_the_same_row() {
    for engine in engines() {
        let committer = Committer::start(engine.shared());
        let mut last = None;
        for n in 0..300u32 {
            let mut batch = Batch::new();
            batch.put(Family::Jobs, b"row", n.to_be_bytes());
            last = Some(committer.commit(batch, Durability::Unsynced));
        }
        last.expect("there was one").wait().expect("commits");
        assert_eq!(engine.get(Family::Jobs, b"row"), Ok(Some(299u32.to_be_bytes().to_vec())));
    }
}

#[test]
fn inline_gives_the_same_results_at_once() {
    for engine in engines() {
        let committer = Committer::inline(engine.shared());
        for sequence in 1..=10 {
            let permit = committer.reserve().expect("there is room");
            let mut ticket = permit.commit(event(sequence), Durability::Synced);
            assert!(matches!(poll(&mut ticket), Some(Ok(()))), "settled from the beginning");
            assert_eq!(EventLog::last_sequence(&*engine), Ok(Some(sequence)));
        }
        assert_eq!(committer.stats().commits, 10);
        assert_eq!(committer.stats().writes, 10);
        assert!(committer.has_room(QUEUE_CAPACITY));
        let late = committer.reserve().expect("there is room");
        drop(committer);
        assert!(matches!(late.commit(event(11), Durability::Synced).wait(), Err(CommitError::Closed)));
    }
    let engine = Arc::new(MemoryEngine::new());
    let committer = Committer::inline(engine.clone());
    engine.fail_writes(true);
    assert!(matches!(committer.commit(event(1), Durability::Synced).wait(), Err(CommitError::Failed(_))));
    engine.fail_writes(false);
    assert!(committer.is_poisoned());
    assert!(matches!(committer.commit(event(1), Durability::Synced).wait(), Err(CommitError::Poisoned(_))));
    assert_eq!(EventLog::last_sequence(&*engine), Ok(None));
}

#[test]
fn tickets_are_futures() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for engine in engines() {
        for committer in [Committer::start(engine.shared()), Committer::inline(engine.shared())] {
            let last = EventLog::last_sequence(&*engine).expect("reads").unwrap_or(0);
            runtime.block_on(async {
                let first = committer.commit(event(last + 1), Durability::Synced);
                let second = committer.commit(event(last + 2), Durability::Synced);
                second.await.expect("commits");
                // What was acknowledged may be asked for without blocking, on a runtime too.
                first.wait().expect("commits");
            });
        }
        assert_eq!(EventLog::last_sequence(&*engine), Ok(Some(4)));
    }
}

/// A deferred batch: one row that says how many events the engine has when it is made.
fn count_events(engine: &dyn Engine) -> Result<Batch, EngineError> {
    let last = EventLog::last_sequence(engine)?.unwrap_or(0);
    let mut batch = Batch::new();
    batch.put(Family::Notes, b"count", last.to_be_bytes());
    Ok(batch)
}

fn counted(engine: &dyn Engine) -> Option<u64> {
    let row = engine.get(Family::Notes, b"count").expect("reads")?;
    Some(u64::from_be_bytes(row.try_into().expect("written above")))
}

#[test]
fn a_batch_made_at_its_turn_sees_what_came_before_and_nothing_later() {
    let (gate, committer) = Gate::new();
    let mut tickets = vec![committer.commit(event(1), Durability::Synced)];
    gate.arrival();
    tickets.extend((2..=3).map(|sequence| committer.commit(event(sequence), Durability::Unsynced)));
    let permit = committer.reserve().expect("there is room");
    tickets.push(permit.commit_with(count_events, Durability::Unsynced));
    tickets.extend((4..=5).map(|sequence| committer.commit(event(sequence), Durability::Unsynced)));
    let mut groups = Vec::new();
    for _ in 0..3 {
        gate.decide(Verdict::Write);
        groups.push(gate.arrival().0);
    }
    gate.open_for(2);
    for ticket in tickets {
        ticket.wait().expect("commits");
    }
    assert_eq!(groups, [2, 1, 2], "it is written alone, in its place");
    assert_eq!(counted(&*gate.engine), Some(3));
    assert_eq!(committer.stats().commits, 6);
}

#[test]
fn a_batch_made_at_its_turn_on_both_engines_and_both_committers() {
    for engine in engines() {
        for committer in [Committer::start(engine.shared()), Committer::inline(engine.shared())] {
            let last = EventLog::last_sequence(&*engine).expect("reads").unwrap_or(0);
            let before = committer.commit(event(last + 1), Durability::Unsynced);
            let permit = committer.reserve().expect("there is room");
            let made = permit.commit_with(count_events, Durability::Unsynced);
            let after = committer.commit(event(last + 2), Durability::Synced);
            for ticket in [before, made, after] {
                ticket.wait().expect("commits");
            }
            assert_eq!(counted(&*engine), Some(last + 1));
        }
    }
}

#[test]
fn a_batch_that_cannot_be_made_is_a_failed_write() {
    type Make = fn(&dyn Engine) -> Result<Batch, EngineError>;
    let makes: [(Make, &str); 2] = [
        (|_| Err(EngineError::damaged("told to")), "the database is damaged: told to"),
        (|_| panic!("told to"), "the storage engine panicked: told to"),
    ];
    for (make, message) in makes {
        let engine = Arc::new(MemoryEngine::new());
        for committer in [Committer::start(engine.clone()), Committer::inline(engine.clone())] {
            let made = committer.reserve().expect("there is room").commit_with(make, Durability::Synced);
            let later = committer.commit(event(1), Durability::Synced);
            match made.wait() {
                Err(CommitError::Failed(cause)) => assert_eq!(cause.to_string(), message),
                other => panic!("{other:?}"),
            }
            assert!(matches!(later.wait(), Err(CommitError::Poisoned(_))));
            assert_eq!(EventLog::last_sequence(&*engine), Ok(None));
        }
    }
}

/// How many events an engine has.
fn count(engine: &dyn Engine) -> usize {
    EventLog::read(engine, 1, usize::MAX).expect("no holes").len()
}

/// A committer in a task of the current runtime, each of whose writes takes so long.
fn on_task(engine: &Arc<MemoryEngine>, write: Duration, answer: Duration) -> Committer {
    let engine: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(engine);
    Committer::on_task(engine, &Handle::current(), move |_| WriteTime { write, answer })
}

#[tokio::test]
async fn in_a_task_a_write_takes_what_has_come_until_its_end_and_order_holds() {
    let engine = Arc::new(MemoryEngine::new());
    let committer = on_task(&engine, Duration::from_millis(1), Duration::ZERO);
    let tickets: Vec<CommitTicket> =
        (1..=10).map(|number| committer.commit(event(number), Durability::Synced)).collect();
    assert_eq!(count(&*engine), 0, "nothing is written before the disk has had its time");
    for ticket in tickets {
        ticket.await.expect("it is written");
    }
    assert_eq!(count(&*engine), 10);
    let stats = committer.stats();
    assert_eq!((stats.commits, stats.writes), (10, 1));
}

#[tokio::test]
async fn in_a_task_what_is_not_synced_is_synced_a_little_later() {
    let engine = Arc::new(MemoryEngine::new());
    let committer = on_task(&engine, Duration::ZERO, Duration::ZERO);
    committer.commit(event(1), Durability::Unsynced).await.expect("it is written");
    assert_eq!((count(&*engine), count(&engine.crash())), (1, 0));
    let synced = async {
        while count(&engine.crash()) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, synced).await.expect("it is synced by itself");
}

#[tokio::test]
async fn a_committer_in_a_task_that_is_dropped_writes_what_is_queued_and_syncs() {
    let engine = Arc::new(MemoryEngine::new());
    let committer = on_task(&engine, Duration::from_secs(3600), Duration::ZERO);
    let tickets = [Durability::Unsynced, Durability::Synced, Durability::Unsynced]
        .into_iter()
        .zip(1..)
        .map(|(durability, number)| committer.commit(event(number), durability))
        .collect::<Vec<_>>();
    drop(committer);
    assert_eq!(count(&engine.crash()), 3);
    for ticket in tickets {
        ticket.wait().expect("it is written");
    }
}

#[tokio::test]
async fn in_a_task_after_a_failed_write_nothing_is_tried_again() {
    let engine = Arc::new(MemoryEngine::new());
    let committer = on_task(&engine, Duration::from_millis(1), Duration::from_millis(1));
    engine.fail_writes(true);
    assert!(matches!(committer.commit(event(1), Durability::Synced).await, Err(CommitError::Failed(_))));
    engine.fail_writes(false);
    assert!(matches!(committer.commit(event(2), Durability::Synced).await, Err(CommitError::Poisoned(_))));
    assert_eq!(count(&*engine), 0);
}
