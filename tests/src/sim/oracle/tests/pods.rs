//! Pods of several tasks: what the judge asks of each of them, and of all together.

use super::*;

/// What a pod of two tasks is granted: a core and a MiB for each, and a port for both.
fn granted() -> Resources {
    Resources { ports: [80].into(), ..cores(2) }
}

fn pod_contract() -> Signed<Contract> {
    let mut terms = contract(attempt(1, 1), 1, PROVIDER).into_value();
    let task = terms.pod.tasks.remove(0);
    let share = TaskResources { cpu: CpuMillis(1000), memory: MemoryMib(1), disk: DiskMib(0) };
    terms.pod.tasks =
        ["a", "b"].map(|name| Task { name: name.into(), resources: Some(share), ..task.clone() }).into();
    let need = &mut terms.pod.requirement;
    (need.cpu, need.memory, need.disk) = (CpuMillis(2000), MemoryMib(2), DiskMib(0));
    terms.resources = granted();
    sign(terms, REQUESTER)
}

fn accepted() -> Signed<Accepted> {
    let contract = pod_contract().content_id();
    sign(Accepted { attempt: attempt(1, 1), contract, allocation: allocation(1) }, PROVIDER)
}

fn of(task: u16) -> AllocationId {
    allocation(1).of_task(task)
}

fn ended_task(task: u16, state: AllocationState) -> Event {
    Event::AllocationEnded { allocation: of(task), state, result: None }
}

fn observed_task(task: u16, state: AllocationState) -> Event {
    Event::TaskObserved { attempt: attempt(1, 1), task, state, result: None }
}

fn acknowledged_task(task: u16) -> Event {
    Event::AllocationAcknowledged { allocation: of(task) }
}

/// Both tasks run.
fn running() -> Hand {
    let mut hand = Hand::new();
    hand.good(REQUESTER, [submitted(1)]);
    hand.lock(PROVIDER, 1, granted()).unwrap();
    let (provider, contract) = (did(PROVIDER), pod_contract());
    let minted = Event::AttemptMinted { attempt: attempt(1, 1), provider, addresses: vec![], contract };
    hand.good(REQUESTER, [bid_received(1, PROVIDER, 1), minted]);
    let (contract, accepted) = (pod_contract(), accepted());
    hand.good(PROVIDER, [Event::AllocationAccepted { allocation: of(0), contract, accepted }]);
    hand.good(REQUESTER, [Event::AttemptAccepted { accepted: self::accepted() }]);
    for task in 0..2 {
        hand.see(PROVIDER, Fact::RunBegan { allocation: of(task) }).unwrap();
    }
    hand
}

/// Both tasks have ended so.
fn over(first: AllocationState, second: AllocationState) -> Hand {
    let mut hand = running();
    for (task, state) in [(0, first), (1, second)] {
        hand.see(PROVIDER, Fact::RunEnded { allocation: of(task) }).unwrap();
        hand.good(PROVIDER, [ended_task(task, state)]);
    }
    hand
}

#[test]
fn a_pod_that_goes_well_breaks_nothing() {
    let mut hand = over(SUCCEEDED, SUCCEEDED);
    hand.write(REQUESTER, false, [observed_task(1, SUCCEEDED), observed_task(0, SUCCEEDED)]).unwrap();
    hand.good(REQUESTER, [observed(attempt(1, 1), SUCCEEDED), job_ended(1, JobEnd::Succeeded)]);
    hand.write(PROVIDER, false, [acknowledged_task(0), acknowledged_task(1)]).unwrap();
    assert!(hand.oracle.is_quiet());
    assert_eq!(hand.end(), Vec::<&str>::new());
    // What is not synced is undone for both.
    hand.crash(PROVIDER);
    hand.start(PROVIDER, 5).unwrap();
    assert_eq!(hand.end(), [DISAGREE]);
}

#[test]
fn what_a_pod_has_in_common_is_promised_until_its_last_task_has_ended() {
    let port = || Resources { ports: [80].into(), ..Resources::default() };
    for first in 0..2 {
        let mut hand = running();
        hand.good(PROVIDER, [ended_task(first, SUCCEEDED)]);
        hand.lock(PROVIDER, 7, cores(3)).unwrap();
        assert_eq!(rule(hand.lock(PROVIDER, 8, port())), Some(CONSERVATION), "{first}");
        let mut hand = running();
        hand.good(PROVIDER, [ended_task(first, SUCCEEDED), ended_task(1 - first, SUCCEEDED)]);
        hand.lock(PROVIDER, 7, cores(4)).unwrap();
        hand.lock(PROVIDER, 8, port()).unwrap();
    }
    let mut hand = running();
    hand.good(PROVIDER, [ended_task(1, SUCCEEDED)]);
    assert_eq!(hand.breaks(PROVIDER, [ended_task(1, SUCCEEDED)]), Some(CONSERVATION), "twice");
}

#[test]
fn what_is_heard_of_a_task_or_of_all_was_said() {
    let stopped = || AllocationState::Stopped { cause: StopCause::TaskFailed };
    let exit = || AllocationState::Failed { cause: FailureCause::ExitCode { code: 3 } };
    let mut hand = running();
    assert_eq!(hand.breaks(REQUESTER, [observed_task(1, SUCCEEDED)]), Some(SPOKE_BEFORE_SYNC));
    let mut hand = running();
    hand.good(PROVIDER, [ended_task(1, exit())]);
    hand.good(REQUESTER, [observed_task(1, exit())]);
    let early = hand.breaks(REQUESTER, [observed(attempt(1, 1), exit())]);
    assert_eq!(early, Some(SPOKE_BEFORE_SYNC), "the other one lives");
    let mut hand = over(stopped(), exit());
    assert_eq!(hand.breaks(REQUESTER, [observed_task(0, exit())]), Some(SPOKE_BEFORE_SYNC));
    let mut hand = over(stopped(), exit());
    hand.good(REQUESTER, [observed(attempt(1, 1), exit())]);
    let mut hand = over(stopped(), exit());
    assert_eq!(hand.breaks(REQUESTER, [observed(attempt(1, 1), SUCCEEDED)]), Some(SPOKE_BEFORE_SYNC));
}

#[test]
fn at_the_end_all_tasks_are_over_and_acknowledged() {
    let done = |hand: &mut Hand| {
        hand.good(REQUESTER, [observed(attempt(1, 1), SUCCEEDED), job_ended(1, JobEnd::Succeeded)]);
    };
    let mut hand = over(SUCCEEDED, SUCCEEDED);
    done(&mut hand);
    hand.good(PROVIDER, [acknowledged_task(0)]);
    assert_eq!(hand.end(), [DISAGREE], "half of it is still kept");
    let mut hand = running();
    hand.see(PROVIDER, Fact::RunEnded { allocation: of(0) }).unwrap();
    hand.good(PROVIDER, [ended_task(0, SUCCEEDED)]);
    hand.good(REQUESTER, [lost(attempt(1, 1))]);
    assert!(hand.end().contains(&LEAKED_ALLOCATION));
}
