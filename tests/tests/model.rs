//! The books against a model of another make: random operations, crashes, restarts and failing disks, and after every
//! step the law and every number compared.
//!
//! The model knows nothing of events, rows or folds: it has amounts as plain numbers, GPUs as bits, and two copies of
//! itself, as memory has it and as the disk must have it after a power cut. It says beforehand whether the books may
//! take an operation. A history that fails is made smaller by proptest before it is shown.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dms_messages::{
    Accepted, AllocationId, AllocationState, AttemptId, Bid, BidId, BidRequestId, Capability, Contract,
    CpuMillis, Did, DiskMib, Document, DocumentId, Gpu, GpuId, JobEnd, JobId, Keypair, MemoryMib, Millis,
    Price, Resources, SignOptions, Signed, StopCause, Timestamp,
};
use dms_storage::{
    Books, CommitError, Committer, Durability, Engine, Entry, Event, Lock, LockEnd, MemoryEngine,
    RecordError, Store, StoreOptions,
};
use dms_tests::{hand_made, proof, size};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

/// Operations in one history: long enough that locks, allocations and jobs of all ages meet.
const LENGTH: usize = 500;
const GPUS: u16 = 8;
const PEERS: u8 = 4;

/// What is counted, as plain numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    numbers: [u64; 3],
    gpus: u8,
}

impl Amount {
    fn plus(self, other: Self) -> Option<Self> {
        let mut sum = self;
        for (mine, theirs) in sum.numbers.iter_mut().zip(other.numbers) {
            *mine += theirs;
        }
        sum.gpus |= other.gpus;
        (self.gpus & other.gpus == 0).then_some(sum)
    }

    fn minus(self, other: Self) -> Option<Self> {
        let mut difference = self;
        for (mine, theirs) in difference.numbers.iter_mut().zip(other.numbers) {
            *mine = mine.checked_sub(theirs)?;
        }
        difference.gpus &= !other.gpus;
        (other.gpus & !self.gpus == 0).then_some(difference)
    }

    fn resources(self) -> Resources {
        let [cpu, memory, disk] = self.numbers;
        let gpus = (0..GPUS).filter(|gpu| self.gpus & (1 << gpu) != 0).map(GpuId).collect();
        Resources {
            cpu: CpuMillis(cpu),
            memory: MemoryMib(memory),
            disk: DiskMib(disk),
            gpus,
            ..hand_made::nothing()
        }
    }

    fn of(resources: &Resources) -> Self {
        let gpus = resources.gpus.iter().fold(0, |gpus, GpuId(gpu)| gpus | 1 << gpu);
        Self { numbers: [resources.cpu.0, resources.memory.0, resources.disk.0], gpus }
    }
}

/// Something that somebody does.
#[derive(Debug, Clone)]
enum Op {
    Register(Amount),
    Withdraw,
    Bid(u8, Amount),
    EndLock(usize, LockEnd),
    /// Takes a lock; `true`: for an attempt that was started before, if there was one.
    Accept(usize, bool),
    Move(usize),
    End(usize),
    Acknowledge(usize),
    Submit,
    MoveJob(usize),
    EndJob(usize),
    See(usize),
    /// Holds a lock for longer.
    Renew(usize),
    Prune(u64),
    /// What ended longer ago than this leaves the memory for the archive.
    Settle(u64),
    /// The process ends and starts again.
    Restart,
    /// The power is cut.
    Crash,
    /// The disk takes nothing; the process starts again on what it has.
    FailDisk,
}

fn amount(most: u64) -> impl Strategy<Value = Amount> {
    let number = move || 0..=most;
    // Few GPUs most of the time.
    ([number(), number(), number()], any::<u8>(), any::<u8>())
        .prop_map(|(numbers, a, b)| Amount { numbers, gpus: a & b })
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..64usize;
    let end = prop_oneof![Just(LockEnd::Released), Just(LockEnd::Expired)];
    prop_oneof![
        2 => amount(2000).prop_map(Op::Register),
        1 => Just(Op::Withdraw),
        24 => (0..PEERS, amount(60)).prop_map(|(peer, amount)| {
            Op::Bid(peer, Amount { gpus: amount.gpus & 0x11, ..amount })
        }),
        8 => (which.clone(), end).prop_map(|(which, end)| Op::EndLock(which, end)),
        14 => (which.clone(), any::<u8>()).prop_map(|(which, kind)| Op::Accept(which, kind < 32)),
        8 => which.clone().prop_map(Op::Move),
        14 => which.clone().prop_map(Op::End),
        6 => which.clone().prop_map(Op::Acknowledge),
        4 => Just(Op::Submit),
        4 => which.clone().prop_map(Op::MoveJob),
        3 => which.clone().prop_map(Op::EndJob),
        3 => which.clone().prop_map(Op::See),
        3 => which.prop_map(Op::Renew),
        1 => (0..200u64).prop_map(Op::Prune),
        2 => (0..200u64).prop_map(Op::Settle),
        1 => Just(Op::Restart),
        2 => Just(Op::Crash),
        1 => Just(Op::FailDisk),
    ]
}

/// A lock that holds.
#[derive(Debug, Clone)]
struct Held {
    /// When the bid was made.
    at: u64,
    peer: u8,
    amount: Amount,
    bid: Bid,
    job: JobId,
}

/// The other make of the books.
#[derive(Debug, Clone, Default)]
struct Model {
    registered: Option<Amount>,
    locks: BTreeMap<BidId, Held>,
    /// Live allocations and how often they moved.
    live: BTreeMap<AllocationId, (Amount, u8)>,
    over: BTreeSet<AllocationId>,
    /// Attempts that were started, by what and on a bid of when: as long as the books know the allocation or its bid,
    /// none may start again.
    started: BTreeMap<(u8, AttemptId), (AllocationId, u64)>,
    /// Bids of before this moment are forgotten.
    pruned: u64,
    jobs: BTreeMap<JobId, bool>,
}

impl Model {
    fn promised(&self) -> Amount {
        let parts =
            self.locks.values().map(|held| held.amount).chain(self.live.values().map(|(amount, _)| *amount));
        parts.fold(Amount::default(), |sum, part| sum.plus(part).expect("GPUs are promised once"))
    }

    fn available(&self) -> Amount {
        self.registered.unwrap_or_default().minus(self.promised()).expect("never more than is registered")
    }
}

/// Who signs what; the signatures are real, because the log is read back.
struct Pens {
    provider: Keypair,
    peers: Vec<Keypair>,
}

impl Pens {
    fn sign<T: Document>(&self, by: &Keypair, value: T, number: u64) -> Signed<T> {
        let options = SignOptions {
            network: "test".into(),
            audience: None,
            issued_at: Timestamp(number),
            ttl: Duration::from_secs(60),
            id: DocumentId(id(number)),
        };
        Signed::sign(value, by, options).expect("a small document can be signed")
    }
}

fn id(number: u64) -> [u8; 16] {
    (u128::from(number) << 64 | u128::from(number)).to_be_bytes()
}

/// One history as it happens.
struct World<'a> {
    pens: &'a Pens,
    engine: Arc<MemoryEngine>,
    store: Store,
    books: Books,
    /// As memory has it, and as a power cut would leave it.
    model: Model,
    synced: Model,
    /// The clock, and what makes every id new.
    now: u64,
    /// What the operations of this history did.
    counts: &'a RefCell<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    operations: usize,
    recorded: usize,
    refused: usize,
    opened: usize,
}

fn open(engine: &Arc<MemoryEngine>) -> (Store, Books) {
    let shared: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(engine);
    let committer = Committer::inline(Arc::clone(&shared));
    // Small, so that histories of this length go through many snapshots and cuts of the log.
    let options = StoreOptions { snapshot_rows: 16, snapshot_events: 40, keep_events: 20 };
    Store::open_with(shared, committer, options).expect("the books open")
}

fn gpu_card() -> Gpu {
    Gpu { vendor: "nvidia".into(), model: "any".into(), memory: MemoryMib(1) }
}

fn pick<K: Copy, V>(from: &BTreeMap<K, V>, which: usize) -> Option<K> {
    from.keys().nth(which.checked_rem(from.len())?).copied()
}

impl<'a> World<'a> {
    fn new(pens: &'a Pens, counts: &'a RefCell<Counts>) -> Self {
        let engine = Arc::new(MemoryEngine::new());
        let (store, books) = open(&engine);
        let model = Model::default();
        Self { pens, engine, store, books, synced: model.clone(), model, now: 1, counts }
    }

    /// Does one operation and compares.
    fn step(&mut self, op: &Op) {
        self.now += 1;
        self.counts.borrow_mut().operations += 1;
        match op {
            Op::Restart => self.reopen(),
            Op::Crash => {
                self.engine = Arc::new(self.engine.crash());
                self.model = self.synced.clone();
                self.reopen();
            }
            Op::FailDisk => {
                self.engine.fail_writes(true);
                let entry = Entry { at: Timestamp(self.now), event: self.seen(self.now) };
                let ticket = self.store.record(&mut self.books, &[entry]).expect("memory takes it");
                assert!(matches!(ticket.wait(), Err(CommitError::Failed(_))));
                self.engine.fail_writes(false);
                let after = Entry { at: Timestamp(self.now), event: self.seen(self.now + 1) };
                let ticket = self.store.record(&mut self.books, &[after]).expect("memory takes it");
                assert!(
                    matches!(ticket.wait(), Err(CommitError::Poisoned(_))),
                    "a later batch must not be there"
                );
                self.reopen();
            }
            op => self.act(op),
        }
        self.compare();
    }

    fn reopen(&mut self) {
        self.counts.borrow_mut().opened += 1;
        (self.store, self.books) = open(&self.engine);
    }

    /// Records an event that changes the model like this; `None`: that the books must refuse.
    fn record(&mut self, event: Event, changed: Option<Model>) {
        let durability = event.durability();
        let entry = Entry { at: Timestamp(self.now), event };
        match (self.store.record(&mut self.books, std::slice::from_ref(&entry)), changed) {
            (Ok(ticket), Some(model)) => {
                ticket.wait().expect("memory writes");
                self.counts.borrow_mut().recorded += 1;
                self.model = model;
                if durability == Durability::Synced {
                    self.synced = self.model.clone();
                }
            }
            (Err(RecordError::Books(_)), None) => self.counts.borrow_mut().refused += 1,
            (Ok(_), None) => panic!("the books took what they must refuse: {entry:?}"),
            (Err(error), changed) => panic!("{error:?}, but the model says {changed:?}: {entry:?}"),
        }
    }

    fn seen(&self, number: u64) -> Event {
        Event::DocumentSeen { id: DocumentId(id(number)), until: Timestamp(number + 50) }
    }

    fn act(&mut self, op: &Op) {
        let mut model = self.model.clone();
        match op {
            Op::Register(amount) => {
                let resources = amount.resources();
                let gpus = resources.gpus.iter().map(|gpu| (*gpu, gpu_card())).collect();
                let capability = Capability { resources, gpus, ..Capability::default() };
                let fits = amount.minus(model.promised()).is_some();
                model.registered = Some(*amount);
                self.record(Event::CapabilityRegistered { capability }, fits.then_some(model));
            }
            Op::Withdraw => {
                let fits = model.promised() == Amount::default();
                model.registered = None;
                self.record(Event::CapabilityWithdrawn, fits.then_some(model));
            }
            Op::Bid(peer, amount) => {
                let fits = model.available().minus(*amount).is_some();
                let (event, held) = self.bid(*peer, *amount);
                model.locks.insert(held.bid.id, held);
                self.record(event, fits.then_some(model));
            }
            Op::EndLock(which, end) => {
                // Now and then one that is not there.
                let bid = if which % 16 == 0 { None } else { pick(&model.locks, *which) };
                let is_held = bid.is_some_and(|bid| model.locks.remove(&bid).is_some());
                let bid = bid.unwrap_or(BidId::from_random(id(u64::MAX)));
                self.record(Event::LockEnded { bid, end: *end }, is_held.then_some(model));
            }
            Op::Accept(which, is_again) => self.accept(*which, *is_again, model),
            Op::Move(which) => {
                let Some(allocation) = pick(&model.live, *which) else { return };
                let (_, moves) = model.live.get_mut(&allocation).expect("it was picked");
                *moves += 1;
                let state = match moves {
                    1 => AllocationState::Preparing,
                    _ => AllocationState::Running,
                };
                let may = *moves <= 2;
                self.record(Event::AllocationMoved { allocation, state }, may.then_some(model));
            }
            Op::End(which) => {
                let is_over = which % 8 == 0;
                let over = || model.over.iter().nth(which / 8).copied();
                let Some(allocation) = (if is_over { over() } else { pick(&model.live, *which) }) else {
                    return;
                };
                let is_live = model.live.remove(&allocation).is_some();
                model.over.insert(allocation);
                let state = AllocationState::Stopped { cause: StopCause::Cancelled };
                self.record(
                    Event::AllocationEnded { allocation, state, result: None },
                    is_live.then_some(model),
                );
            }
            Op::Acknowledge(which) => {
                let live = pick(&model.live, *which).filter(|_| which % 8 == 0);
                let Some(allocation) = live.or_else(|| model.over.iter().nth(which % 8).copied()) else {
                    return;
                };
                let event = Event::AllocationAcknowledged { allocation };
                self.record(event, live.is_none().then_some(model));
            }
            Op::Submit => {
                let job = JobId::from_random(id(self.now));
                model.jobs.insert(job, false);
                let job = dms_messages::Job { id: job, ..hand_made::job(Millis(1000)) };
                self.record(Event::JobSubmitted { job }, Some(model));
            }
            Op::MoveJob(which) => {
                let Some(job) = pick(&model.jobs, *which) else { return };
                let is_over = model.jobs[&job];
                let event = Event::JobMoved { job, phase: dms_messages::JobPhase::Bidding };
                self.record(event, (!is_over).then_some(model));
            }
            Op::EndJob(which) => {
                let Some(job) = pick(&model.jobs, *which) else { return };
                let was_over = model.jobs.insert(job, true) == Some(true);
                self.record(Event::JobEnded { job, end: JobEnd::Cancelled }, (!was_over).then_some(model));
            }
            Op::See(which) => self.record(self.seen(*which as u64), Some(model)),
            Op::Renew(which) => {
                let bid = if which % 16 == 0 { None } else { pick(&model.locks, *which) };
                let event = Event::LockRenewed {
                    bid: bid.unwrap_or(BidId::from_random(id(u64::MAX))),
                    expires: Timestamp(self.now + 200),
                };
                self.record(event, bid.map(|_| model));
            }
            Op::Prune(age) => {
                let before = Timestamp(self.now.saturating_sub(*age));
                model.pruned = model.pruned.max(before.0);
                self.record(Event::Pruned { before }, Some(model));
                self.forget_over();
            }
            Op::Settle(age) => {
                let ended_before = Timestamp(self.now.saturating_sub(*age));
                self.record(Event::Settled { ended_before }, Some(model));
                self.forget_over();
            }
            Op::Restart | Op::Crash | Op::FailDisk => unreachable!("not recorded"),
        }
    }

    /// What is over may leave the memory, and only that: the model follows the books.
    fn forget_over(&mut self) {
        let kept = |id: &AllocationId| self.books.allocations().contains_key(id);
        self.model.over.retain(kept);
        let Model { live, over, started, pruned, .. } = &mut self.model;
        started.retain(|_, (id, bid)| live.contains_key(id) || over.contains(id) || *bid >= *pruned);
    }

    fn bid(&self, peer: u8, amount: Amount) -> (Event, Held) {
        let bid = Bid {
            id: BidId::from_random(id(self.now)),
            request: BidRequestId::from_random(id(self.now)),
            resources: amount.resources(),
            price: Price(1),
            score: 1,
            lease: Millis(10),
            profile: Default::default(),
        };
        let job = JobId::from_random(id(self.now));
        let lock = Lock {
            bid: bid.id,
            request: bid.request,
            requester: self.peer(peer),
            job,
            pod: 0,
            resources: bid.resources.clone(),
            expires: Timestamp(self.now + 100),
        };
        let signed = self.pens.sign(&self.pens.provider, bid.clone(), self.now);
        (Event::BidSent { bid: signed, lock }, Held { at: self.now, peer, amount, bid, job })
    }

    fn peer(&self, peer: u8) -> Did {
        self.pens.peers[usize::from(peer)].did()
    }

    fn accept(&mut self, which: usize, is_again: bool, mut model: Model) {
        let Some(bid) = pick(&model.locks, which) else { return };
        let held = model.locks.remove(&bid).expect("it was picked");
        let mut attempt = AttemptId { job: held.job, pod: 0, number: 1 };
        let mut may = true;
        let again = model.started.keys().find(|(peer, _)| *peer == held.peer).filter(|_| is_again);
        if let Some((_, started)) = again {
            attempt = *started;
            may = false;
        }
        let allocation = AllocationId::from_random(id(self.now));
        let contract = Contract {
            requester: self.peer(held.peer),
            provider: self.pens.provider.did(),
            attempt,
            request: held.bid.request,
            bid,
            resources: held.bid.resources.clone(),
            price: held.bid.price,
            pod: hand_made::pod(Millis(1000)),
            orphan_after: Millis(1000),
        };
        let contract = self.pens.sign(&self.pens.peers[usize::from(held.peer)], contract, self.now);
        let accepted = Accepted { attempt, contract: contract.content_id(), allocation };
        let accepted = self.pens.sign(&self.pens.provider, accepted, self.now);
        model.live.insert(allocation, (held.amount, 0));
        model.started.insert((held.peer, attempt), (allocation, held.at));
        self.record(Event::AllocationAccepted { allocation, contract, accepted }, may.then_some(model));
    }

    /// Every number of the books is the model's.
    fn compare(&self) {
        let (books, model) = (&self.books, &self.model);
        books.check().expect("the law holds");
        let registered = books.registered().map(|capability| Amount::of(&capability.resources));
        assert_eq!(registered, model.registered);
        let (available, locked, allocated) =
            (Amount::of(books.available()), Amount::of(&books.locked()), Amount::of(&books.allocated()));
        let whole = available.plus(locked).and_then(|sum| sum.plus(allocated));
        assert_eq!(whole, Some(registered.unwrap_or_default()), "the law, in the model's numbers");
        assert_eq!(available, model.available());
        assert!(books.locks().keys().eq(model.locks.keys()), "the same locks");
        for (id, lock) in books.locks() {
            assert_eq!(Amount::of(&lock.resources), model.locks[id].amount);
        }
        let live: BTreeSet<AllocationId> = books.live_allocations().map(|row| row.id).collect();
        assert!(live.iter().eq(model.live.keys()), "the same allocations run");
        for ((peer, attempt), (allocation, _)) in &model.started {
            let started = books.started(self.peer(*peer), *attempt);
            assert_eq!(started, Some(*allocation), "what was started is not started again, in memory or not");
        }
        for (job, is_over) in &model.jobs {
            let row = books.jobs().get(job);
            // What is over may have left memory.
            assert_eq!(row.is_none_or(|row| row.phase.is_terminal()), *is_over, "{job}");
        }
    }
}

#[test]
fn the_books_are_those_of_a_model_of_another_make_after_every_step() {
    let operations = size(10_000, 100_000);
    let peers = (0..PEERS).map(|peer| Keypair::from_secret(&[10 + peer; 32])).collect();
    let pens = Pens { provider: Keypair::from_secret(&[1; 32]), peers };
    let counts = RefCell::new(Counts::default());
    let cases = u32::try_from(operations.div_ceil(LENGTH)).expect("few");
    // A history that failed is printed whole; nothing is kept in files beside the sources.
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let ran = TestRunner::new(config).run(&prop::collection::vec(op(), LENGTH), |ops| {
        let mut world = World::new(&pens, &counts);
        ops.iter().for_each(|op| world.step(op));
        Ok(())
    });
    if let Err(TestError::Fail(reason, ops)) = &ran {
        panic!("{reason}: {ops:?}");
    }
    ran.expect("histories can be made");
    let Counts { operations, recorded, refused, opened } = counts.into_inner();
    assert!(recorded > operations / 3 && refused > operations / 100 && opened > operations / 100);
    proof(&format!(
        "model: {operations} operations ({recorded} recorded, {refused} refused, {opened} crashes and restarts), the \
         law and every number after each"
    ));
}
