//! A thousand concurrent invocations for a hundred slots: exactly a hundred start, each once, and when they are over
//! everything is as it was before.
//!
//! Forty requesters, made by hand over the in-memory transport, ask a real Node for bids and invoke whatever they can:
//! their own bids, each other's, bids that never were, and the same bid for two attempts. While they do, the law
//! `registered = available + locked + allocated` is looked at from outside, again and again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dms_messages::{
    Accepted, Acknowledge, AttemptId, Bid, BidId, BidRequestId, Cancel, Capability, CpuMillis, DiskMib,
    ExecutorKind, JobId, MemoryMib, Millis, Pod, Price, Resources, StopCause,
};
use dms_node::commands::CapabilityView;
use dms_storage::MemoryEngine;
use dms_tests::ear::Said;
use dms_tests::stage::{HoldingExecutor, Provider, Requester};
use dms_tests::{DEADLINE, hand_made, proof, size};
use tokio::task::JoinSet;

/// How many pods fit into the machine at once.
const SLOTS: usize = 100;
const REQUESTERS: usize = 40;
/// How many invocations each requester makes a round: as many locks as a quarter of the machine, the most it may hold.
const INVOCATIONS: usize = 25;
/// How many rounds one Node sees: what it remembers of each is bounded by an hour, not by this test.
const ROUNDS_PER_NODE: usize = 5;

/// A machine for exactly [`SLOTS`] pods, in every dimension.
fn machine() -> Capability {
    let slots = SLOTS as u64;
    let need = hand_made::pod(Millis(1)).requirement;
    let resources = Resources {
        cpu: CpuMillis(need.cpu.0 * slots),
        memory: MemoryMib(need.memory.0 * slots),
        disk: DiskMib(need.disk.0 * slots),
        ..hand_made::machine()
    };
    let executors = BTreeSet::from([ExecutorKind::Wasm]);
    Capability { resources, executors, ..Capability::default() }
}

/// The pod of an attempt; its argument tells the executor which one.
fn pod(attempt: AttemptId) -> Pod {
    let mut pod = hand_made::pod(Millis(600_000));
    pod.tasks[0].args = vec![attempt.to_string()];
    pod
}

fn id(round: usize, requester: usize, number: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (place, value) in [round, requester, number].into_iter().enumerate() {
        bytes[place * 4..place * 4 + 4].copy_from_slice(&(value as u32).to_be_bytes());
    }
    bytes
}

/// What one requester got in one round.
#[derive(Default)]
struct Got {
    accepted: Vec<Accepted>,
    refused: usize,
}

/// Asks for as much as it may, and invokes as often, rightly or not.
async fn storm(requester: &mut Requester, round: usize, me: usize, others: &Mutex<Vec<Bid>>) -> Got {
    let job = |number| JobId::from_random(id(round, me, number));
    for number in 0..INVOCATIONS {
        let request = BidRequestId::from_random(id(round, me, number));
        requester.ask(job(number), request, &hand_made::pod(Millis(600_000))).await;
    }
    let mut got = Got::default();
    let mut own: Vec<(Bid, AttemptId)> = Vec::new();
    let mut invoked = 0;
    while got.accepted.len() + got.refused < INVOCATIONS {
        match requester.hear().await {
            Said::Bid(bid) => {
                let bid = bid.into_value();
                let number = (0..INVOCATIONS)
                    .find(|number| BidRequestId::from_random(id(round, me, *number)) == bid.request)
                    .expect("a bid on a request of this round");
                let attempt = AttemptId { job: job(number), pod: 0, number: 1 };
                others.lock().expect("nobody panics under the lock").push(bid.clone());
                own.push((bid.clone(), attempt));
                requester.invoke(&bid, attempt, pod(attempt)).await;
                invoked += 1;
            }
            Said::Decline(_) => {
                let (bid, attempt) = wrong(invoked, &own, others, round, me);
                requester.invoke(&bid, attempt, pod(attempt)).await;
                invoked += 1;
            }
            Said::Accepted(accepted) => got.accepted.push(accepted),
            Said::Refused(_) => got.refused += 1,
            Said::Status(_) => {}
        }
    }
    assert_eq!(invoked, INVOCATIONS, "every request had one answer");
    got
}

/// A bid that must not be taken, and for what it is tried.
fn wrong(
    kind: usize,
    own: &[(Bid, AttemptId)],
    others: &Mutex<Vec<Bid>>,
    round: usize,
    me: usize,
) -> (Bid, AttemptId) {
    let attempt = AttemptId { job: JobId::from_random(id(round, me, kind)), pod: 0, number: 1 };
    match (kind % 3, own.last()) {
        // The same bid, for one more attempt of the same pod.
        (0, Some((bid, taken))) => {
            (bid.clone(), AttemptId { number: 2 + u32::try_from(kind).expect("small"), ..*taken })
        }
        (1, _) if !others.lock().expect("nobody panics under the lock").is_empty() => {
            let all = others.lock().expect("nobody panics under the lock");
            (all[kind % all.len()].clone(), attempt)
        }
        _ => {
            let bid = Bid {
                id: BidId::from_random(id(round, me, 1000 + kind)),
                request: BidRequestId::from_random(id(round, me, kind)),
                resources: machine().resources,
                price: Price(0),
                score: 0,
                lease: Millis(60_000),
                profile: Default::default(),
            };
            (bid, attempt)
        }
    }
}

fn assert_law(view: &CapabilityView) {
    let registered = &view.registered.as_ref().expect("it is onboarded").resources;
    let promised = view.locked.checked_add(&view.allocated).expect("it adds up");
    let whole = view.available.checked_add(&promised).expect("it adds up");
    assert_eq!(whole, *registered, "registered = available + locked + allocated");
}

/// One round; gives how many looks at the law were had.
async fn round(
    provider: &Provider,
    executor: &HoldingExecutor,
    requesters: Vec<Requester>,
    round: usize,
) -> (Vec<Requester>, usize) {
    let before = provider.capability().await;
    assert_eq!(before.registered.as_ref().map(|it| &it.resources), Some(&before.available));
    let others = Arc::new(Mutex::new(Vec::new()));
    let mut storms = JoinSet::new();
    for (me, mut requester) in requesters.into_iter().enumerate() {
        let others = Arc::clone(&others);
        storms.spawn(async move {
            let got = storm(&mut requester, round, me, &others).await;
            (me, requester, got)
        });
    }
    let mut ended = Vec::new();
    let mut looks = 0;
    while ended.len() < REQUESTERS {
        tokio::select! {
            biased;
            one = storms.join_next() => ended.push(one.expect("as many as there are").expect("it goes well")),
            view = provider.capability() => {
                assert_law(&view);
                looks += 1;
            }
        }
    }
    let accepted: usize = ended.iter().map(|(_, _, got)| got.accepted.len()).sum();
    let refused: usize = ended.iter().map(|(_, _, got)| got.refused).sum();
    assert_eq!((accepted, refused), (SLOTS, REQUESTERS * INVOCATIONS - SLOTS), "round {round}");
    let allocations: BTreeSet<_> =
        ended.iter().flat_map(|(_, _, got)| &got.accepted).map(|accepted| accepted.allocation).collect();
    assert_eq!(allocations.len(), SLOTS, "each its own");
    let full = provider.capability().await;
    assert_law(&full);
    assert_eq!((full.locks.len(), full.allocations.len()), (0, SLOTS));
    assert_eq!(full.available, Resources::default(), "nothing is left");
    let mut running = executor.running();
    let all = tokio::time::timeout(DEADLINE, running.wait_for(|count| *count == SLOTS)).await;
    all.expect("all of them run in time").expect("the executor lives");

    let mut cancels = JoinSet::new();
    for (me, mut requester, got) in ended {
        cancels.spawn(async move {
            for Accepted { attempt, .. } in &got.accepted {
                requester.tell(Cancel { attempt: *attempt, cause: StopCause::Cancelled }).await;
            }
            let mut open: BTreeSet<AttemptId> = got.accepted.iter().map(|word| word.attempt).collect();
            while !open.is_empty() {
                match requester.hear().await {
                    Said::Status(status) if status.state.is_terminal() && open.remove(&status.attempt) => {
                        requester.tell(Acknowledge { attempt: status.attempt }).await;
                    }
                    Said::Status(_) => {}
                    other => panic!("all is decided: {other:?}"),
                }
            }
            (me, requester)
        });
    }
    let mut back: Vec<(usize, Requester)> = cancels.join_all().await;
    provider.wait(|status| status.active_allocation_count == 0 && status.lock_count == 0).await;
    let after = provider.capability().await;
    assert_law(&after);
    assert_eq!(after.available, before.available, "exactly what was there before");
    assert_eq!(after.registered, before.registered);
    back.sort_by_key(|(me, _)| *me);
    (back.into_iter().map(|(_, requester)| requester).collect(), looks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_concurrent_invocations_for_a_hundred_slots_start_exactly_a_hundred() {
    let rounds = size(5, 200);
    let mut looks = 0;
    for first in (0..rounds).step_by(ROUNDS_PER_NODE) {
        let executor = HoldingExecutor::shared();
        let engine = Arc::new(MemoryEngine::new());
        let lease = Duration::from_secs(120);
        let shared: Arc<dyn dms_node::executors::Executor> = Arc::<HoldingExecutor>::clone(&executor);
        let provider = Provider::start(engine, shared, machine(), lease).await;
        let mut requesters: Vec<Requester> =
            (0..REQUESTERS).map(|me| provider.requester(2 + u8::try_from(me).expect("few"))).collect();
        for number in first..rounds.min(first + ROUNDS_PER_NODE) {
            let looked;
            (requesters, looked) = round(&provider, &executor, requesters, number).await;
            looks += looked;
        }
        let starts = executor.starts();
        let expected = SLOTS * (rounds.min(first + ROUNDS_PER_NODE) - first);
        assert_eq!(starts.len(), expected);
        assert!(starts.values().all(|count| *count == 1), "no attempt started twice");
        for requester in requesters {
            requester.stop().await;
        }
        provider.stop().await;
    }
    proof(&format!(
        "slots: {rounds} rounds of {} concurrent invocations for {SLOTS} slots, exactly {SLOTS} accepted and started \
         once in each, {looks} looks at the law",
        REQUESTERS * INVOCATIONS
    ));
}
