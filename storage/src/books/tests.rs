//! The fold: capacity comes back, nothing is promised twice, and the disk shows the same books.

use std::sync::Arc;
use std::time::Duration;

use dms_messages::*;

use super::*;
use crate::committer::Committer;
use crate::engine::{Engine, MemoryEngine};
use crate::schema::Family;
use crate::store::{Store, StoreError};
use crate::{Batch, Durability};

const PROVIDER: [u8; 32] = [1; 32];
const REQUESTER: [u8; 32] = [2; 32];

fn signed<T: Document>(value: T, secret: &[u8; 32], id: u8) -> Signed<T> {
    let options = dms_messages::SignOptions {
        network: "test".into(),
        audience: None,
        issued_at: Timestamp(1_700_000_000_000),
        ttl: Duration::from_secs(60),
        id: DocumentId([id; 16]),
    };
    Signed::sign(value, &Keypair::from_secret(secret), options).unwrap()
}

fn resources(cpu: u64) -> Resources {
    Resources { cpu: CpuMillis(cpu), memory: MemoryMib(cpu), disk: DiskMib(1), gpus: Default::default() }
}

fn registered() -> Event {
    let resources = Resources { disk: DiskMib(100), ..resources(4000) };
    Event::CapabilityRegistered { capability: Capability { resources, ..Capability::default() } }
}

fn job() -> Job {
    let requirement = Requirement {
        cpu: CpuMillis(1000),
        memory: MemoryMib(1000),
        disk: DiskMib(1),
        gpus: vec![],
        executor: ExecutorKind::Wasm,
        locations: Default::default(),
        labels: Default::default(),
    };
    let task = Task {
        name: "t".into(),
        module: ContentId::of_bytes(b"m"),
        args: vec![],
        env: Default::default(),
        stdin: None,
        input: None,
        timeout: Millis(1000),
    };
    Job {
        id: JobId::from_random([1; 16]),
        name: "j".into(),
        pods: vec![Pod { requirement, tasks: vec![task] }],
        max_price: None,
        wanted: 1,
        wait: Millis(1000),
        max_attempts: 3,
        submitted: Timestamp(1),
    }
}

fn bid_sent(id: u8, cpu: u64) -> Event {
    let bid = Bid {
        id: BidId::from_random([id; 16]),
        request: BidRequestId::from_random([id; 16]),
        resources: resources(cpu),
        price: Price(1),
        score: 1,
        lease: Millis(10_000),
    };
    let lock = Lock {
        bid: bid.id,
        request: bid.request,
        requester: Keypair::from_secret(&REQUESTER).did(),
        job: job().id,
        pod: 0,
        resources: bid.resources.clone(),
        expires: Timestamp(11_000),
    };
    Event::BidSent { bid: signed(bid, &PROVIDER, id), lock }
}

fn attempt(number: u32) -> AttemptId {
    AttemptId { job: job().id, pod: 0, number }
}

fn contract(bid: u8, number: u32) -> Signed<Contract> {
    let contract = Contract {
        requester: Keypair::from_secret(&REQUESTER).did(),
        provider: Keypair::from_secret(&PROVIDER).did(),
        attempt: attempt(number),
        request: BidRequestId::from_random([bid; 16]),
        bid: BidId::from_random([bid; 16]),
        resources: resources(1000),
        price: Price(1),
        pod: job().pods.remove(0),
        orphan_after: Millis(60_000),
    };
    signed(contract, &REQUESTER, 100 + bid)
}

fn allocation(number: u8) -> AllocationId {
    AllocationId::from_random([number; 16])
}

fn accepted(bid: u8, number: u32) -> Signed<Accepted> {
    let contract = contract(bid, number).content_id();
    signed(Accepted { attempt: attempt(number), contract, allocation: allocation(bid) }, &PROVIDER, 200)
}

fn allocation_accepted(bid: u8, number: u32) -> Event {
    Event::AllocationAccepted {
        allocation: allocation(bid),
        contract: contract(bid, number),
        accepted: accepted(bid, number),
    }
}

fn result() -> AllocationResult {
    let id = ContentId::of_bytes(b"out");
    AllocationResult {
        stdout: id,
        stderr: id,
        output: None,
        wall: Millis(1),
        peak_memory: MemoryMib(1),
        output_dropped: 0,
    }
}

/// One of everything, both roles at once.
fn story() -> Vec<Event> {
    vec![
        registered(),
        Event::JobSubmitted { job: job() },
        Event::JobMoved { job: job().id, phase: JobPhase::Bidding },
        bid_sent(1, 1000),
        bid_sent(2, 500),
        Event::LockEnded { bid: BidId::from_random([2; 16]), end: LockEnd::Released },
        Event::AttemptMinted {
            attempt: attempt(1),
            provider: Keypair::from_secret(&PROVIDER).did(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            contract: contract(1, 1),
        },
        allocation_accepted(1, 1),
        Event::AttemptAccepted { accepted: accepted(1, 1) },
        Event::AllocationMoved { allocation: allocation(1), state: AllocationState::Running },
        Event::AttemptObserved { attempt: attempt(1), state: AllocationState::Running, result: None },
        Event::AllocationEnded {
            allocation: allocation(1),
            state: AllocationState::Succeeded,
            result: Some(result()),
        },
        Event::AttemptObserved {
            attempt: attempt(1),
            state: AllocationState::Succeeded,
            result: Some(result()),
        },
        Event::JobEnded { job: job().id, end: JobEnd::Succeeded },
        Event::AllocationAcknowledged { allocation: allocation(1) },
        Event::DocumentSeen { id: DocumentId([9; 16]), until: Timestamp(99) },
    ]
}

fn entry(event: Event) -> Entry {
    Entry { at: Timestamp(5), event }
}

fn apply(books: &mut Books, event: Event) -> Result<(), BooksError> {
    let outcome = books.apply(&entry(event)).map(|_| ());
    books.check().unwrap();
    outcome
}

#[test]
fn capacity_comes_back_to_exactly_what_it_was() {
    let mut books = Books::default();
    apply(&mut books, registered()).unwrap();
    let before = books.available().clone();
    for event in story().into_iter().skip(1) {
        apply(&mut books, event).unwrap();
    }
    assert_eq!(books.available(), &before);
    assert!(books.locks().is_empty() && books.live_allocations().next().is_none());
    assert_eq!(books.jobs()[&job().id].phase, JobPhase::Succeeded);
    assert_eq!(books.jobs()[&job().id].exit_code(), Some(0));
    assert!(books.contracts().values().all(|row| row.accepted.is_some()));
}

#[test]
fn a_lock_becomes_an_allocation_without_a_gap() {
    let mut books = Books::default();
    apply(&mut books, registered()).unwrap();
    apply(&mut books, bid_sent(1, 1000)).unwrap();
    let available = books.available().clone();
    apply(&mut books, allocation_accepted(1, 1)).unwrap();
    assert_eq!(books.available(), &available);
    assert_eq!((books.locked().cpu, books.allocated().cpu), (CpuMillis(0), CpuMillis(1000)));
}

#[test]
fn events_that_would_break_the_law_or_repeat_are_refused_and_change_nothing() {
    let mut books = Books::default();
    apply(&mut books, registered()).unwrap();
    apply(&mut books, bid_sent(1, 3000)).unwrap();
    let before = books.clone();
    let refused = [
        bid_sent(2, 1001),
        bid_sent(1, 1),
        Event::CapabilityWithdrawn,
        Event::LockEnded { bid: BidId::from_random([7; 16]), end: LockEnd::Expired },
        allocation_accepted(7, 1),
        Event::AllocationEnded { allocation: allocation(7), state: AllocationState::Succeeded, result: None },
        Event::JobMoved { job: job().id, phase: JobPhase::Bidding },
        Event::AttemptAccepted { accepted: accepted(1, 1) },
    ];
    for event in refused {
        let name = event.name();
        assert!(apply(&mut books, event).is_err(), "{name}");
        assert_eq!(format!("{books:?}"), format!("{before:?}"), "{name}");
    }
}

#[test]
fn an_attempt_starts_once_and_an_end_is_an_end() {
    let mut books = Books::default();
    for event in story() {
        apply(&mut books, event).unwrap();
    }
    let again = [
        bid_sent(1, 1),
        allocation_accepted(1, 1),
        Event::AllocationMoved { allocation: allocation(1), state: AllocationState::Running },
        Event::AllocationEnded { allocation: allocation(1), state: AllocationState::Succeeded, result: None },
        Event::JobEnded { job: job().id, end: JobEnd::Cancelled },
        Event::JobCancelWanted { job: job().id },
        Event::JobSubmitted { job: job() },
    ];
    for event in again {
        let name = event.name();
        assert!(matches!(apply(&mut books, event), Err(BooksError::OutOfOrder { .. })), "{name}");
    }
}

#[test]
fn a_job_remembers_when_it_was_bid_on_and_ran_at_what_price_and_who_said_no() {
    let mut books = Books::default();
    let no = |reason| Event::DeclineReceived {
        job: job().id,
        provider: Keypair::from_secret(&PROVIDER).did(),
        reason,
    };
    let bid = |id| {
        let Event::BidSent { bid, .. } = bid_sent(id, 1000) else { unreachable!("it is a bid") };
        Event::BidReceived { job: job().id, bid }
    };
    let running =
        || Event::AttemptObserved { attempt: attempt(1), state: AllocationState::Running, result: None };
    let minted = story().into_iter().find(|event| matches!(event, Event::AttemptMinted { .. })).unwrap();
    let events = [
        Event::JobSubmitted { job: job() },
        no(DeclineReason::Busy { shortfalls: Vec::new() }),
        no(DeclineReason::LockShare),
        no(DeclineReason::Busy { shortfalls: Vec::new() }),
        bid(1),
        bid(2),
        minted,
        running(),
        running(),
    ];
    for (second, event) in (1..).zip(events) {
        books.apply(&Entry { at: Timestamp(second), event }).unwrap();
    }
    let row = &books.jobs()[&job().id];
    assert_eq!(row.first_bid, Some(Timestamp(5)), "the first, not the last");
    assert_eq!(row.attempts[0].running, Some(Timestamp(8)), "the first report, not its repeat");
    assert_eq!(row.attempts[0].price, contract(1, 1).value().price);
    let declines: Vec<_> =
        row.declines.values().flatten().map(|(code, count)| (code.as_str(), *count)).collect();
    assert_eq!(declines, [("busy", 2), ("lock_share", 1)]);
}

#[test]
fn what_is_over_is_forgotten_and_what_is_live_is_not() {
    let mut books = Books::default();
    for event in story() {
        apply(&mut books, event).unwrap();
    }
    apply(&mut books, bid_sent(5, 10)).unwrap();
    apply(&mut books, Event::Pruned { before: Timestamp(1_000_000) }).unwrap();
    assert_eq!(books.bids_sent().len(), 1, "the one with a live lock");
    assert!(books.allocations().is_empty() && books.seen_count() == 0);
    assert_eq!(books.jobs().len(), 1, "jobs and contracts stay");
    assert_eq!(books.contracts().len(), 1);
}

/// The same books at every step, whether folded live, reopened, or rebuilt after a crash.
#[test]
fn a_restart_at_every_step_shows_the_same_books() {
    let engine = Arc::new(MemoryEngine::new());
    let open = || {
        let engine: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(&engine);
        Store::open(Arc::clone(&engine), Committer::inline(engine)).unwrap()
    };
    for (step, event) in story().into_iter().enumerate() {
        let (mut store, mut books) = open();
        assert_eq!(store.event_count(), step as u64);
        store.record(&mut books, &[entry(event)]).unwrap().wait().unwrap();
        let (_, again) = open();
        assert_eq!(format!("{again:?}"), format!("{books:?}"), "after event {step}");
    }
}

#[test]
fn a_row_that_is_not_what_the_log_says_is_damage() {
    let make = || {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let (mut store, mut books) =
            Store::open(Arc::clone(&engine), Committer::inline(Arc::clone(&engine))).unwrap();
        let entries: Vec<Entry> = story().into_iter().take(5).map(entry).collect();
        store.record(&mut books, &entries).unwrap().wait().unwrap();
        engine
    };
    type Damage = fn(&mut Batch, Vec<u8>);
    let table: [(&str, Damage); 3] = [
        ("changed", |batch, key| batch.put(Family::Locked, key, b"other".to_vec())),
        ("gone", |batch, key| batch.delete(Family::Locked, key)),
        ("added", |batch, _| batch.put(Family::Locked, [7; 16], b"more".to_vec())),
    ];
    for (name, damage) in table {
        let engine = make();
        let (key, _) = engine.scan(Family::Locked, crate::engine::ScanRange::all(), 1).unwrap().remove(0);
        let mut batch = Batch::new();
        damage(&mut batch, key);
        engine.write(batch, Durability::Synced).unwrap();
        let opened = Store::open(Arc::clone(&engine), Committer::inline(engine));
        assert!(matches!(opened, Err(StoreError::RowDiffers { family: "locked" })), "{name}");
    }
}

#[test]
fn a_failed_commit_is_told_and_the_disk_is_what_counts() {
    let engine = Arc::new(MemoryEngine::new());
    let shared: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(&engine);
    let (mut store, mut books) = Store::open(Arc::clone(&shared), Committer::inline(shared)).unwrap();
    store.record(&mut books, &[entry(registered())]).unwrap().wait().unwrap();
    engine.fail_writes(true);
    assert!(store.record(&mut books, &[entry(bid_sent(1, 1000))]).unwrap().wait().is_err());
    assert!(store.is_poisoned());
    assert_eq!(books.locks().len(), 1, "memory is ahead");
    assert!(store.reload().unwrap().locks().is_empty(), "the disk is not");
}

#[test]
fn what_a_word_rests_on_is_synced() {
    let lock = BidId::from_random([1; 16]);
    let ended = |state| Event::AllocationEnded { allocation: allocation(1), state, result: None };
    let table = [
        (Event::JobSubmitted { job: job() }, Durability::Synced),
        (bid_sent(1, 1000), Durability::Synced),
        (ended(AllocationState::Succeeded), Durability::Synced),
        (Event::JobEnded { job: job().id, end: JobEnd::Succeeded }, Durability::Synced),
        // Promised on the strength of these is nothing that is not synced itself, and so takes them along.
        (Event::LockEnded { bid: lock, end: LockEnd::Released }, Durability::Unsynced),
        (Event::LockEnded { bid: lock, end: LockEnd::Expired }, Durability::Unsynced),
        (Event::AllocationAcknowledged { allocation: allocation(1) }, Durability::Unsynced),
        (Event::AttemptAccepted { accepted: accepted(1, 1) }, Durability::Unsynced),
    ];
    for (event, expected) in table {
        assert_eq!(event.durability(), expected, "{}", event.name());
    }
}
