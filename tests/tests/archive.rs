//! What is over leaves the memory of a node, and people find it as before; until it is forgotten.
//!
//! The books are written by hand before the node opens them: jobs of its own that ran elsewhere, and allocations of
//! others' jobs that ran here.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dms_actors::Handler;
use dms_actors::clock::SystemClock;
use dms_messages::*;
use dms_node::commands::*;
use dms_node::listings::contracts::{ListAllocations, ListContracts, ShowAllocation, ShowContract};
use dms_node::listings::{Noun, Page};
use dms_node::node::{Node, NodeTimes, open_books};
use dms_node::signer::Signer;
use dms_storage::{Engine, Entry, Event, Lock, MemoryEngine};
use dms_tests::DEADLINE;
use dms_tests::hand_made::{capability, job, pod};
use dms_tests::pair::{HandMade, PROVIDER, REQUESTER, World, key, wait_until};

const ME: u8 = REQUESTER;
const OTHER: u8 = PROVIDER;
const MINUTE: Duration = Duration::from_secs(60);
/// Jobs here, and allocations here; each began a minute after the one before.
const COUNT: u8 = 9;

fn signer(seed: u8) -> Signer {
    Signer::new(Arc::new(key(seed)), SystemClock::shared(), "test")
}

fn job_id(number: u8) -> JobId {
    JobId::from_random([number; 16])
}

fn result(number: u8) -> AllocationResult {
    AllocationResult {
        stdout: ContentId::of_bytes(&[number]),
        stderr: ContentId::of_bytes(b""),
        output: None,
        wall: Millis(1),
        peak_memory: MemoryMib(1),
        output_dropped: 0,
    }
}

fn contract(requester: u8, provider: u8, number: u8) -> Signed<Contract> {
    let resources = Resources { cpu: CpuMillis(10), memory: MemoryMib(1), ..Resources::default() };
    let contract = Contract {
        requester: key(requester).did(),
        provider: key(provider).did(),
        attempt: AttemptId { job: job_id(number), pod: 0, number: 1 },
        request: BidRequestId::from_random([number; 16]),
        bid: BidId::from_random([number; 16]),
        resources,
        price: Price(5),
        pod: pod(Millis(1000)),
        orphan_after: Millis(60_000),
    };
    signer(requester).sign(contract, Some(key(provider).did()), MINUTE).unwrap()
}

fn accepted(contract: &Signed<Contract>, provider: u8, number: u8) -> Signed<Accepted> {
    let accepted = Accepted {
        attempt: contract.value().attempt,
        contract: contract.content_id(),
        allocation: AllocationId::from_random([number; 16]),
    };
    signer(provider).sign(accepted, Some(contract.value().requester), MINUTE).unwrap()
}

/// A job of ours that ran elsewhere, and succeeded.
fn a_job(number: u8) -> Vec<Event> {
    let contract = contract(ME, OTHER, number);
    let accepted = accepted(&contract, OTHER, number);
    let attempt = contract.value().attempt;
    let (addresses, provider) = (Vec::new(), key(OTHER).did());
    let state = AllocationState::Succeeded;
    vec![
        Event::AttemptMinted { attempt, provider, addresses, contract },
        Event::AttemptAccepted { accepted },
        Event::AttemptObserved { attempt, state, result: Some(result(number)) },
        Event::JobEnded { job: attempt.job, end: JobEnd::Succeeded },
    ]
}

/// An allocation of somebody's that ran here, and is acknowledged.
fn an_allocation(number: u8) -> Vec<Event> {
    let contract = contract(OTHER, ME, number);
    let accepted = accepted(&contract, ME, number);
    let allocation = accepted.value().allocation;
    let terms = contract.value();
    let bid = Bid {
        id: terms.bid,
        request: terms.request,
        resources: terms.resources.clone(),
        price: terms.price,
        score: 1,
        lease: Millis(1000),
        profile: Default::default(),
    };
    let lock = Lock {
        bid: terms.bid,
        request: terms.request,
        requester: terms.requester,
        job: terms.attempt.job,
        pod: 0,
        resources: terms.resources.clone(),
        expires: Timestamp(u64::MAX),
    };
    let bid = signer(ME).sign(bid, None, MINUTE).unwrap();
    let state = AllocationState::Succeeded;
    vec![
        Event::BidSent { bid, lock },
        Event::AllocationAccepted { allocation, contract, accepted },
        Event::AllocationEnded { allocation, state, result: Some(result(number)) },
        Event::AllocationAcknowledged { allocation },
    ]
}

/// The moment of something, counted from `start`.
fn at(start: Timestamp, number: u8) -> Timestamp {
    start.saturating_add(MINUTE * u32::from(number))
}

/// Everything, made once, so that two books can have the same documents.
fn story(start: Timestamp) -> Vec<Entry> {
    let now = |event| Entry { at: start, event };
    let mut entries = vec![now(Event::CapabilityRegistered { capability: capability() })];
    for number in 1..=COUNT {
        let at = at(start, number);
        let job = Job { id: job_id(number), submitted: at, ..job(Millis(1000)) };
        let events = [Event::JobSubmitted { job }].into_iter().chain(a_job(number));
        entries.extend(events.chain(an_allocation(number + 100)).map(|event| Entry { at, event }));
    }
    entries
}

async fn engine(entries: &[Entry]) -> MemoryEngine {
    let engine = Arc::new(MemoryEngine::new());
    let shared: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(&engine);
    let (mut store, mut books) = open_books(&shared).unwrap();
    for entries in entries.chunks(50) {
        store.record(&mut books, entries).unwrap().await.unwrap();
    }
    // What a power cut would leave: all of it, once something synced follows.
    store.record(&mut books, &entries[..1]).unwrap().await.unwrap();
    engine.crash()
}

async fn ask<M: Message>(node: &HandMade, message: M) -> M::Reply
where
    Node: Handler<M>,
{
    node.node.ask(message).timeout(DEADLINE).await.unwrap()
}

fn page(limit: usize, after: Option<&str>) -> Page {
    Page { limit, after: after.map(str::to_owned) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_archived_is_shown_as_it_was_in_memory() {
    let start = Timestamp(1_700_000_000_000);
    let story = story(start);
    let of_old = World::default().node(ME, engine(&story).await, &[]);
    // None of them, the older half, all.
    for settled in [0, COUNT / 2, COUNT] {
        let ended_before = Timestamp(at(start, settled).0 + 1);
        let settle = Entry { at: at(start, COUNT), event: Event::Settled { ended_before } };
        let entries: Vec<Entry> = story.iter().cloned().chain([settle]).collect();
        let node = World::default().node(ME, engine(&entries).await, &[]);
        let in_memory = usize::from(COUNT - settled);
        assert_eq!(ask(&node, GetStatus).await.job_count, in_memory, "the others left the memory");

        for limit in [0, 1, 4, 5, 100] {
            let jobs = ask(&node, ListJobs { limit }).await.unwrap();
            assert_eq!(jobs, ask(&of_old, ListJobs { limit }).await.unwrap(), "{settled} {limit}");
            let ids: Vec<JobId> = (1..=COUNT).rev().map(job_id).take(limit).collect();
            assert_eq!(jobs.iter().map(|row| row.job.id).collect::<Vec<_>>(), ids);
        }
        for number in 1..=COUNT {
            let job = job_id(number);
            let shown = ask(&node, ShowJob { job }).await.unwrap();
            assert_eq!(shown, ask(&of_old, ShowJob { job }).await.unwrap());
            let short = job.to_string()[..2].to_owned();
            assert_eq!(ask(&node, FindJob { id: short }).await, Ok(shown.clone()));
            let explained = ask(&node, ExplainJob { job }).await;
            assert_eq!(explained, ask(&of_old, ExplainJob { job }).await);
            let read = ReadOutput { job, task: 0, stream: OutputStream::Stdout, offset: 7 };
            let piece = ask(&node, read).await.unwrap();
            assert_eq!((piece.attempt, piece.offset), (Some(shown.attempts[0].id), 7));
            assert_eq!(ask(&node, CancelJob { job }).await, Err(CommandError::JobEnded(job)));
        }

        // Allocations and contracts of both roles, by pages of each size, from one to the next.
        let whole = ask(&of_old, ListAllocations { page: page(100, None) }).await.unwrap();
        assert_eq!(whole.len(), 2 * usize::from(COUNT));
        for limit in [1, 2, 3, 100] {
            let (mut joined, mut after) = (Vec::new(), None::<String>);
            loop {
                let list = ListAllocations { page: page(limit, after.as_deref()) };
                let part = ask(&node, list).await.unwrap();
                let Some(last) = part.last() else { break };
                after = Some(last.id.to_string());
                joined.extend(part);
            }
            assert_eq!(joined, whole, "{settled} {limit}");
        }
        let whole = ask(&of_old, ListContracts { page: page(100, None) }).await.unwrap();
        for limit in [1, 4, 100] {
            let (mut joined, mut after) = (Vec::new(), None::<String>);
            loop {
                let list = ListContracts { page: page(limit, after.as_deref()) };
                let part = ask(&node, list).await.unwrap();
                let Some(last) = part.last() else { break };
                after = Some(last.cid.to_string());
                joined.extend(part);
            }
            assert_eq!(joined, whole, "{settled} {limit}");
        }
        for view in &whole {
            let id = view.allocation.unwrap().to_string()[..8].to_owned();
            let shown = ask(&node, ShowAllocation { id: id.clone() }).await.unwrap();
            assert_eq!(shown, ask(&of_old, ShowAllocation { id }).await.unwrap());
            let names = [view.cid.to_string(), view.bid.to_string(), shown.id.to_string()[..8].to_owned()];
            for id in names {
                let shown = ask(&node, ShowContract { id: id.clone() }).await.unwrap();
                let known = ask(&of_old, ShowContract { id }).await.unwrap();
                assert_eq!((&shown.view, shown.terms), (view, known.terms));
                assert_eq!(shown.contract_document.bytes(), known.contract_document.bytes());
                assert_eq!(shown.accepted_document, known.accepted_document);
            }
        }
        node.stop().await;
    }
    of_old.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_was_is_in_no_archive_and_a_known_job_is_not_taken_again() {
    let start = Timestamp(1_700_000_000_000);
    let settle = Entry { at: start, event: Event::Settled { ended_before: at(start, COUNT) } };
    let entries: Vec<Entry> = story(start).into_iter().chain([settle]).collect();
    let node = World::default().node(ME, engine(&entries).await, &[]);
    let unknown = job_id(0x77);
    assert_eq!(ask(&node, ShowJob { job: unknown }).await, Err(CommandError::UnknownJob(unknown)));
    assert_eq!(ask(&node, ExplainJob { job: unknown }).await, Err(CommandError::UnknownJob(unknown)));
    assert_eq!(ask(&node, CancelJob { job: unknown }).await, Err(CommandError::UnknownJob(unknown)));
    // All begin with a nought: eight are over, and the ninth is in memory, so it is meant.
    assert_eq!(ask(&node, FindJob { id: "0".into() }).await.unwrap().job.id, job_id(COUNT));
    for (id, error) in [
        ("77", CommandError::UnknownId { noun: Noun::Job, id: "77".into() }),
        ("", CommandError::UnknownId { noun: Noun::Job, id: String::new() }),
    ] {
        assert_eq!(ask(&node, FindJob { id: id.into() }).await, Err(error));
    }
    let unknown = |noun| CommandError::UnknownId { noun, id: "77".into() };
    let show = ShowAllocation { id: "77".into() };
    assert_eq!(ask(&node, show).await, Err(unknown(Noun::Allocation)));
    assert_eq!(ask(&node, ShowContract { id: "77".into() }).await.unwrap_err(), unknown(Noun::Contract));
    let list = ListAllocations { page: page(1, Some("77")) };
    assert_eq!(ask(&node, list).await, Err(unknown(Noun::Allocation)));
    let list = ListContracts { page: page(1, Some("77")) };
    assert_eq!(ask(&node, list).await, Err(unknown(Noun::Contract)));

    let known = Job { id: job_id(COUNT), ..job(Millis(1000)) };
    let submitted = ask(&node, SubmitJob { job: known }).await;
    assert_eq!(submitted, Err(CommandError::JobKnown(job_id(COUNT))));
    assert_eq!(ask(&node, GetStatus).await.mode, NodeMode::Serving, "a repeat is no reason to stop writing");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn housekeeping_archives_what_is_over_and_sweeps_only_what_nobody_can_ask_for() {
    let soon = Duration::from_millis(20);
    let now = signer(ME).now();
    // The last one began two hours ago.
    let start = Timestamp(now.0 - 3 * 3_600_000);
    let world = World::with(NodeTimes { housekeeping: soon, ..World::default().times });
    let node = world.node(ME, engine(&story(start)).await, &[]);
    // Contents of long ago: the output of the oldest job, and one that nothing refers to.
    let kept = node.blobs.put(&[1]).unwrap();
    let unneeded = node.blobs.put(b"unneeded").unwrap();
    for id in [kept, unneeded] {
        let path = node.data.path().join("blobs").join(id.to_string());
        let long_ago = SystemTime::now() - Duration::from_secs(24 * 3600);
        File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    node.wait("an empty memory", |status| status.job_count == 0).await;
    wait_until("a sweep", async || node.blobs.get(&unneeded).unwrap().is_none().then_some(())).await;
    assert!(node.blobs.get(&kept).unwrap().is_some(), "an archived job's output can be fetched");
    let jobs = ask(&node, ListJobs { limit: 100 }).await.unwrap();
    assert_eq!(jobs.len(), usize::from(COUNT));
    let engine = node.engine.crash();
    node.stop().await;

    // The same books, and a node that keeps them for less than it is since the older ones began.
    let keep = Duration::from_millis(now.0 - at(start, 4).0) - MINUTE / 10;
    let times = NodeTimes { keep_history: keep, ..world.times };
    let node = World::with(times).node(ME, engine, &[]);
    let left = wait_until("forgetting", async || {
        let jobs = ask(&node, ListJobs { limit: 100 }).await.unwrap();
        (jobs.len() < usize::from(COUNT)).then_some(jobs)
    })
    .await;
    let ids: Vec<JobId> = left.iter().map(|row| row.job.id).collect();
    assert_eq!(ids, (5..=COUNT).rev().map(job_id).collect::<Vec<_>>());
    let contracts = ask(&node, ListContracts { page: page(100, None) }).await.unwrap();
    // A contract is over when it is archived, which is later than its job's end.
    assert!(contracts.len() >= 2 * ids.len(), "{} of {}", contracts.len(), ids.len());
    let gone = ShowJob { job: job_id(1) };
    assert_eq!(ask(&node, gone).await, Err(CommandError::UnknownJob(job_id(1))));
    node.stop().await;
}
