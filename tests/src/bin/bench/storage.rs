//! What the books cost: commits that share a sync, the way back from the log, opening a long history, and the ledger.
//!
//! The histories are those of a node that bids on its own jobs: every event of both roles, with real signatures.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use dms_messages::{
    Accepted, AllocationId, AllocationResult, AllocationState, AttemptId, Bid, BidId, BidRequest,
    BidRequestId, Capability, ContentId, Contract, Document, DocumentId, ExecutorKind, Job, JobEnd, JobId,
    JobPhase, Keypair, MemoryMib, Millis, Price, Resources, SignOptions, Signed, Timestamp,
};
use dms_node::capability::rehearsal::hold_and_release;
use dms_node::identity::{BOOKS, Identity};
use dms_storage::log::EventLog;
use dms_storage::schema::Family;
use dms_storage::{
    Batch, Books, CommitTicket, Committer, Durability, Engine, Entry, Event, Lock, RocksEngine, RocksOptions,
    Store, StoreOptions,
};
use dms_tests::hand_made;

use crate::mesh;
use crate::report::{Figure, percentile};

/// Commits that are counted, many waiting at a time.
const GROUPED_COMMITS: u64 = 20_000;
/// Commits that are counted, each alone.
const SINGLE_COMMITS: u64 = 1_000;
/// How many wait at a time: several groups, so that the disk is never idle.
const WAITING: usize = 256;
/// Jobs whose whole history is folded again: some 200,000 events.
const REBUILT_JOBS: u64 = 12_500;
/// Jobs that a node remembers when it is opened.
const OPENED_JOBS: u64 = 100_000;
/// Jobs that end before what is over is settled.
const SETTLE_EVERY: u64 = 500;
/// Holds that are counted; each is released again, which counts too.
const LEDGER_HOLDS: u32 = 1_000_000;

/// The group `storage`. Blocks; everything runs on this thread but what has a thread of its own.
pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut figures = tokio::task::block_in_place(|| -> anyhow::Result<Vec<Figure>> {
        let mut figures = commits()?;
        figures.push(rebuild()?);
        figures.push(ledger()?);
        Ok(figures)
    })?;
    figures.extend(long_history().await?);
    Ok(figures)
}

fn open_engine(directory: &Path) -> anyhow::Result<Arc<dyn Engine>> {
    Ok(Arc::new(RocksEngine::open(directory, &RocksOptions::default())?))
}

/// A commit like those of the books: an event and a row.
fn batch(sequence: u64) -> Batch {
    let mut batch = Batch::new();
    EventLog::append(&mut batch, sequence, &[0xd5; 600]);
    batch.put(Family::Jobs, sequence.to_be_bytes(), vec![0x5d; 300]);
    batch
}

fn commits() -> anyhow::Result<Vec<Figure>> {
    let directory = mesh::directory()?;
    let engine = open_engine(&directory.path().join("db"))?;
    let committer = Committer::start(engine);
    let batches: Vec<Batch> = (1..=SINGLE_COMMITS + GROUPED_COMMITS).map(batch).collect();
    let mut batches = batches.into_iter();
    let start = Instant::now();
    for batch in batches.by_ref().take(SINGLE_COMMITS as usize) {
        committer.commit(batch, Durability::Synced).wait()?;
    }
    let single = SINGLE_COMMITS as f64 / start.elapsed().as_secs_f64();
    let mut waiting: VecDeque<(Instant, CommitTicket)> = VecDeque::new();
    let mut latencies = Vec::new();
    let mut settle = |(since, ticket): (Instant, CommitTicket)| -> anyhow::Result<()> {
        ticket.wait()?;
        latencies.push(since.elapsed().as_secs_f64() * 1e3);
        Ok(())
    };
    let start = Instant::now();
    for batch in batches {
        if waiting.len() == WAITING {
            settle(waiting.pop_front().context("it is full")?)?;
        }
        waiting.push_back((Instant::now(), committer.commit(batch, Durability::Synced)));
    }
    waiting.into_iter().try_for_each(&mut settle)?;
    let grouped = GROUPED_COMMITS as f64 / start.elapsed().as_secs_f64();
    let groups = committer.stats().largest_group;
    Ok(vec![
        Figure::new("commit_grouped", grouped, "commands/s")
            .beside("rate_vs_single_sync", single)
            .bar("rate_vs_single_sync >= 20", grouped / single >= 20.0)
            .means(format!(
                "20,000 commits of 1 KiB, each synced before it is acknowledged, {WAITING} waiting at a time, at most \
                 {groups} to a sync; beside one sync for each"
            )),
        Figure::new("commit_grouped_p99", percentile(&latencies, 0.99), "ms")
            .means("of the same, from the commit to its acknowledgement"),
    ])
}

/// A node's books as they fill.
struct Story {
    me: Keypair,
    store: Store,
    books: Books,
    /// The node's clock, in milliseconds.
    now: u64,
    events: u64,
    /// Not yet acknowledged; bounded, as the committer's queue is.
    waiting: VecDeque<CommitTicket>,
}

impl Story {
    fn open(engine: Arc<dyn Engine>, me: Keypair, options: StoreOptions) -> anyhow::Result<Self> {
        let committer = Committer::start(Arc::clone(&engine));
        let (store, books) = Store::open_with(engine, committer, options)?;
        // Some days ago, so that all of it is over and none of it too old to be kept.
        let now = wall_clock().saturating_sub(3 * 24 * 3600 * 1000);
        Ok(Self { me, store, books, now, events: 0, waiting: VecDeque::new() })
    }

    fn record(&mut self, events: Vec<Event>) -> anyhow::Result<()> {
        self.now += 1;
        self.events += events.len() as u64;
        let at = Timestamp(self.now);
        let entries: Vec<Entry> = events.into_iter().map(|event| Entry { at, event }).collect();
        if self.waiting.len() == WAITING {
            self.waiting.pop_front().context("it is full")?.wait()?;
        }
        self.waiting.push_back(self.store.record(&mut self.books, &entries)?);
        Ok(())
    }

    fn sign<T: Document>(&self, value: T, number: u64, kind: u8) -> anyhow::Result<Signed<T>> {
        let mut id = id(number);
        id[0] = kind;
        let options = SignOptions {
            network: "main".into(),
            audience: None,
            issued_at: Timestamp(self.now),
            ttl: Duration::from_secs(60),
            id: DocumentId(id),
        };
        Ok(Signed::sign(value, &self.me, options)?)
    }

    fn onboard(&mut self) -> anyhow::Result<()> {
        let executors = BTreeSet::from([ExecutorKind::Wasm]);
        let capability = Capability { resources: hand_made::machine(), executors, ..Capability::default() };
        self.record(vec![Event::CapabilityRegistered { capability }])
    }

    /// A job from its submission to its acknowledged end.
    fn job(&mut self, number: u64) -> anyhow::Result<()> {
        let me = self.me.did();
        let job = Job {
            id: JobId::from_random(id(number)),
            name: format!("job {number}"),
            submitted: Timestamp(self.now),
            ..hand_made::job(Millis(10_000))
        };
        let attempt = AttemptId { job: job.id, pod: 0, number: 1 };
        let need = job.pods[0].requirement.clone();
        let resources =
            Resources { cpu: need.cpu, memory: need.memory, disk: need.disk, ..Resources::default() };
        let request = BidRequest {
            id: BidRequestId::from_random(id(number)),
            job: job.id,
            pod: 0,
            requirement: need,
            run_time: job.pods[0].run_time(),
            max_price: None,
            wanted: 1,
            addresses: vec![],
            credentials: Default::default(),
        };
        let bid = Bid {
            id: BidId::from_random(id(number)),
            request: request.id,
            resources: resources.clone(),
            price: Price(1),
            score: 500,
            lease: Millis(10_000),
            profile: Default::default(),
        };
        let lock = Lock {
            bid: bid.id,
            request: request.id,
            requester: me,
            job: job.id,
            pod: 0,
            resources: resources.clone(),
            expires: Timestamp(self.now + 11_000),
        };
        let contract = Contract {
            requester: me,
            provider: me,
            attempt,
            request: request.id,
            bid: bid.id,
            resources,
            price: bid.price,
            pod: job.pods[0].clone(),
            orphan_after: Millis(60_000),
        };
        let bid = self.sign(bid, number, 1)?;
        let contract = self.sign(contract, number, 2)?;
        let allocation = AllocationId::from_random(id(number));
        let accepted =
            self.sign(Accepted { attempt, contract: contract.content_id(), allocation }, number, 3)?;
        let result = Some(AllocationResult {
            stdout: ContentId::of_bytes(b"out"),
            stderr: ContentId::of_bytes(b""),
            output: None,
            wall: Millis(12),
            peak_memory: MemoryMib(1),
            output_dropped: 0,
        });
        let expires = Timestamp(self.now + 60_000);
        let moved = |state| Event::AllocationMoved { allocation, state };
        let seen = |kind: u8| {
            let mut id = id(number);
            id[0] = kind;
            Event::DocumentSeen { id: DocumentId(id), until: expires }
        };
        let id = job.id;
        self.record(vec![
            Event::JobSubmitted { job },
            Event::JobMoved { job: id, phase: JobPhase::Bidding },
            Event::BidRequestSent { request: request.clone(), expires },
            Event::BidRequestReceived { requester: me, request, declined: None },
            Event::BidSent { bid: bid.clone(), lock },
            seen(4),
            Event::BidReceived { job: id, bid },
            Event::AttemptMinted { attempt, provider: me, addresses: vec![], contract: contract.clone() },
            Event::AllocationAccepted { allocation, contract, accepted: accepted.clone() },
            Event::AttemptAccepted { accepted },
            moved(AllocationState::Preparing),
            moved(AllocationState::Running),
            Event::AttemptObserved { attempt, state: AllocationState::Running, result: None },
            Event::AllocationEnded { allocation, state: AllocationState::Succeeded, result: result.clone() },
            Event::AttemptObserved { attempt, state: AllocationState::Succeeded, result },
            Event::JobEnded { job: id, end: JobEnd::Succeeded },
            Event::AllocationAcknowledged { allocation },
        ])
    }

    /// What housekeeping does: what is over settles, and what nobody needs is forgotten.
    fn settle(&mut self) -> anyhow::Result<()> {
        let ended_before = Timestamp(self.now);
        // Past the minutes for which words are remembered.
        self.now += 120_000;
        let before = Timestamp(self.now);
        self.record(vec![Event::Settled { ended_before }, Event::Pruned { before }])
    }

    fn end(self) -> anyhow::Result<u64> {
        for ticket in self.waiting {
            ticket.wait()?;
        }
        Ok(self.events)
    }
}

fn wall_clock() -> u64 {
    use dms_actors::clock::SystemClock;
    SystemClock::shared().now().0
}

fn id(number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    // Spread, as random ids are.
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id
}

fn rebuild() -> anyhow::Result<Figure> {
    let directory = mesh::directory()?;
    let path = directory.path().join("db");
    // No snapshot: all of it has to be folded again.
    let options =
        StoreOptions { snapshot_rows: usize::MAX / 8, snapshot_events: u64::MAX, ..StoreOptions::default() };
    let mut story = Story::open(open_engine(&path)?, Keypair::from_secret(&[1; 32]), options)?;
    story.onboard()?;
    for number in 0..REBUILT_JOBS {
        story.job(number)?;
        if number % SETTLE_EVERY == SETTLE_EVERY - 1 {
            story.settle()?;
        }
    }
    let events = story.end()?;
    let engine = open_engine(&path)?;
    let start = Instant::now();
    let report = dms_storage::maintenance::rebuild(&*engine)?;
    let rate = report.events as f64 / start.elapsed().as_secs_f64();
    ensure!(report.events == events, "{} events of {events} were applied", report.events);
    Ok(Figure::new("rebuild", rate, "events/s").bar("value >= 300000", rate >= 300_000.0).means(format!(
        "{events} events of {REBUILT_JOBS} jobs, both roles, from the log to every row and look-up row"
    )))
}

fn ledger() -> anyhow::Result<Figure> {
    let start = Instant::now();
    let operations = hold_and_release(LEDGER_HOLDS);
    let rate = operations as f64 / start.elapsed().as_secs_f64();
    Ok(Figure::new("ledger_hold_release", rate, "ops/s").bar("value >= 1000000", rate >= 1e6).means(
        "holds and releases in memory, each decided and applied, each one op; 16 requesters, 64 locks standing",
    ))
}

/// Opening the books of a node that has seen a great many jobs, and its memory then.
async fn long_history() -> anyhow::Result<Vec<Figure>> {
    let directory = mesh::directory()?;
    let home = directory.path().join("n");
    mesh::onboard(&home, mesh::Engine::Disk)?;
    let me = Identity::load_or_create(&home)?.keypair;
    let path = home.join(BOOKS);
    let (events, seconds) = tokio::task::block_in_place(|| -> anyhow::Result<(u64, f64)> {
        let mut story = Story::open(open_engine(&path)?, me, StoreOptions::default())?;
        story.onboard()?;
        for number in 0..OPENED_JOBS {
            story.job(number)?;
            if number % SETTLE_EVERY == SETTLE_EVERY - 1 {
                story.settle()?;
            }
        }
        let events = story.end()?;
        // As after a stop: what is in the log of the engine was written to its tables by the opening before.
        drop(open_engine(&path)?);
        let start = Instant::now();
        let engine = open_engine(&path)?;
        let committer = Committer::start(Arc::clone(&engine));
        let (store, books) = Store::open(engine, committer)?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(store.event_count() >= events, "{} events of {events} are there", store.event_count());
        drop((store, books));
        Ok((events, seconds))
    })?;
    let mut node = mesh::Node::start(&home, mesh::Engine::Disk, &[])?;
    node.wait_until("a node with a long history", |status| status.is_onboarded).await?;
    let memory = crate::idle::memory(node.process_id())?;
    Ok(vec![
        Figure::new("open_100k", seconds, "s").bar("value <= 2", seconds < 2.0).means(format!(
            "engine and books of a node with {OPENED_JOBS} finished jobs ({events} events), every current row compared"
        )),
        Figure::new("open_100k_rss_mib", memory, "MiB")
            .bar("value <= 80", memory <= 80.0)
            .means("resident memory of `dms run` on those books, once it answers"),
    ])
}
