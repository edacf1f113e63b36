//! What the first implementation's tests asked of its allocator, row by row, over what has its meaning here: a *commit* is a
//! lock, to *allocate* is to take it by an invocation, and a *job* is a pod under its contract.

use std::sync::Arc;

use dms_messages::{
    Accepted, AllocationId, AllocationState, AttemptId, Capability, Contract, CpuMillis, DeclineReason, Did,
    Invocation, MemoryMib, RefusedReason, Requirement, Resources, TaskResources,
};
use dms_storage::books::BooksError;
use dms_storage::{Books, Entry, Event, Lock, LockEnd};

use crate::capability::ledger;
use crate::signer::{RECORD_TTL, Signer};
use crate::testing::*;

/// A machine of four cores, 1,000 MiB and the ports 8000 to 8003, and somebody who asks it.
pub(super) struct Machine {
    pub(super) books: Books,
    pub(super) me: Signer,
    requester: Signer,
    numbers: u8,
}

impl Machine {
    pub(super) fn new() -> Self {
        let clock = Arc::new(StillClock::default());
        let mut books = Books::default();
        let resources = Resources { ports: (8000..8004).collect(), ..resources(4000, 1000) };
        let capability = Capability { resources, ..capability(4000, 1000) };
        apply(&mut books, Event::CapabilityRegistered { capability });
        Self { books, me: signer(1, &clock), requester: signer(2, &clock), numbers: 0 }
    }

    fn requester(&self) -> Did {
        self.requester.me()
    }

    /// Locks what a pod needs, if it may be locked. The node asks itself: no share binds it.
    pub(super) fn commit(&mut self, need: &Requirement) -> Result<Lock, DeclineReason> {
        let granted = ledger::hold(&self.books, self.me.me(), self.me.me(), need)?;
        self.numbers += 1;
        Ok(lock(&mut self.books, &self.me, self.requester.me(), self.numbers, granted))
    }

    fn uncommit(&mut self, lock: &Lock) -> Result<(), BooksError> {
        self.try_apply(Event::LockEnded { bid: lock.bid, end: LockEnd::Released })
    }

    /// Takes a lock, with whatever `change` makes of its contract.
    pub(super) fn allocate_as(
        &mut self,
        lock: &Lock,
        change: impl FnOnce(&mut Contract),
    ) -> Result<AllocationId, RefusedReason> {
        let mut terms = contract(lock, &self.requester, self.me.me(), 1);
        change(&mut terms);
        let contract = sign_contract(terms, &self.requester);
        let invocation = Invocation { bid: lock.bid, contract: contract.clone() };
        ledger::take(&self.books, self.requester(), &invocation, self.me.now())?;
        let allocation = AllocationId::from_random(self.me.random());
        let attempt = contract.value().attempt;
        let accepted = Accepted { attempt, contract: contract.content_id(), allocation };
        let accepted = self.me.sign(accepted, Some(self.requester()), RECORD_TTL).unwrap();
        apply(&mut self.books, Event::AllocationAccepted { allocation, contract, accepted });
        Ok(allocation)
    }

    pub(super) fn allocate(&mut self, lock: &Lock) -> Result<AllocationId, RefusedReason> {
        self.allocate_as(lock, |_| {})
    }

    pub(super) fn deallocate(&mut self, allocation: AllocationId) -> Result<(), BooksError> {
        let state = AllocationState::Failed { cause: dms_messages::FailureCause::Panic };
        self.try_apply(Event::AllocationEnded { allocation, state, result: None })
    }

    pub(super) fn try_apply(&mut self, event: Event) -> Result<(), BooksError> {
        let outcome = self.books.apply(&Entry { at: self.me.now(), event }).map(drop);
        self.books.check().unwrap();
        outcome
    }

    pub(super) fn free(&self) -> Resources {
        self.books.available().clone()
    }

    /// Nothing is promised to anybody.
    fn is_whole(&self) -> bool {
        self.books.locked().is_empty()
            && self.books.allocated().is_empty()
            && *self.books.available() == self.books.registered().unwrap().resources
    }
}

pub(super) fn with_ports(cpu: u64, memory: u64, ports: u16) -> Requirement {
    Requirement { ports, ..requirement(cpu, memory) }
}

/// Two tasks instead of one, which share what the contract grants.
fn in_two(terms: &mut Contract, second: TaskResources) {
    let whole = &terms.resources;
    let first = TaskResources {
        cpu: CpuMillis(whole.cpu.0.saturating_sub(second.cpu.0)),
        memory: MemoryMib(whole.memory.0.saturating_sub(second.memory.0)),
        disk: whole.disk,
    };
    let task = terms.pod.tasks.remove(0);
    terms.pod.tasks = [("first", first), ("second", second)]
        .map(|(name, share)| dms_messages::Task { name: name.into(), resources: Some(share), ..task.clone() })
        .into();
}

fn share(cpu: u64, memory: u64) -> TaskResources {
    TaskResources { cpu: CpuMillis(cpu), memory: MemoryMib(memory), ..TaskResources::default() }
}

#[test]
fn commit_and_uncommit() {
    let mut machine = Machine::new();
    let lock = machine.commit(&with_ports(1000, 100, 1)).unwrap();
    assert_eq!((machine.free().cpu, machine.free().ports.len()), (CpuMillis(3000), 3));
    machine.uncommit(&lock).unwrap();
    assert!(machine.is_whole());
}

#[test]
fn uncommit_unknown_is_fine() {
    let mut machine = Machine::new();
    let lock = machine.commit(&requirement(1000, 100)).unwrap();
    assert!(ledger::may_release(&machine.books, machine.requester(), lock.bid));
    machine.uncommit(&lock).unwrap();
    // Asked again it is not there, which changes nothing: the Node does not even record it.
    assert!(!ledger::may_release(&machine.books, machine.requester(), lock.bid));
    assert!(matches!(machine.uncommit(&lock), Err(BooksError::Unknown { .. })));
    assert!(machine.is_whole());
}

#[test]
fn second_commit_is_refused() {
    let mut machine = Machine::new();
    let lock = machine.commit(&requirement(1000, 100)).unwrap();
    let bid = machine.books.bids_sent()[&lock.bid].bid.clone();
    let (free, again) = (machine.free(), Event::BidSent { bid, lock });
    assert!(matches!(machine.try_apply(again), Err(BooksError::OutOfOrder { .. })));
    assert_eq!(machine.free(), free);
}

#[test]
fn beyond_resources_or_port_range_is_refused_with_nothing_left_reserved() {
    let table = [
        ("cpu", with_ports(4001, 1, 0)),
        ("memory", with_ports(1, 1001, 0)),
        ("ports", with_ports(1, 1, 5)),
        // All but one of them would do.
        ("ports beside the rest", with_ports(4000, 1000, 5)),
    ];
    for (what, need) in table {
        let mut machine = Machine::new();
        let refused = machine.commit(&need);
        assert!(matches!(refused, Err(DeclineReason::TooBig { .. })), "{what}: {refused:?}");
        assert!(machine.is_whole(), "{what}");
    }
    // Free is less than all.
    let mut machine = Machine::new();
    machine.commit(&with_ports(1000, 100, 3)).unwrap();
    let free = machine.free();
    for need in [with_ports(3001, 1, 0), with_ports(1, 1, 2)] {
        assert!(matches!(machine.commit(&need), Err(DeclineReason::Busy { .. })), "{need:?}");
        assert_eq!(machine.free(), free);
    }
}

#[test]
fn allocate_without_commit_is_refused() {
    let mut machine = Machine::new();
    let lock = machine.commit(&requirement(1000, 100)).unwrap();
    let unknown = Lock { bid: dms_messages::BidId::from_random([9; 16]), ..lock.clone() };
    assert_eq!(machine.allocate(&unknown), Err(RefusedReason::UnknownBid));
    machine.uncommit(&lock).unwrap();
    assert_eq!(machine.allocate(&lock), Err(RefusedReason::LeaseEnded));
    assert!(machine.is_whole());
}

#[test]
fn allocate_consumes_the_commit() {
    let mut machine = Machine::new();
    let lock = machine.commit(&with_ports(1000, 100, 2)).unwrap();
    let (free, locked) = (machine.free(), machine.books.locked());
    machine.allocate(&lock).unwrap();
    assert!(machine.books.locks().is_empty() && machine.books.locked().is_empty());
    assert_eq!((machine.free(), machine.books.allocated()), (free, locked));
    // The same lock is not taken twice, whatever the attempt is called.
    let again = machine.allocate_as(&lock, |terms| terms.attempt = AttemptId { number: 2, ..terms.attempt });
    assert_eq!(again, Err(RefusedReason::LeaseEnded));
}

#[test]
fn a_job_larger_than_its_commit_is_refused() {
    type Change = fn(&mut Contract);
    let table: [(&str, Change); 6] = [
        ("resources", |terms| terms.resources.cpu = CpuMillis(2000)),
        ("the pod's needs", |terms| terms.pod.requirement.memory = MemoryMib(101)),
        ("the number of ports", |terms| terms.pod.requirement.ports = 1),
        ("the shares of its tasks", |terms| in_two(terms, share(1001, 10))),
        ("the shares of its tasks", |terms| in_two(terms, share(10, 101))),
        ("the shares of its tasks", |terms| {
            in_two(terms, share(10, 10));
            terms.pod.tasks[0].resources = Some(share(1000, 90));
        }),
    ];
    for (what, change) in table {
        let mut machine = Machine::new();
        let lock = machine.commit(&requirement(1000, 100)).unwrap();
        let free = machine.free();
        let mut terms = contract(&lock, &machine.requester, machine.me.me(), 1);
        change(&mut terms);
        // Past the document's own check, as a requester of another make might send it.
        let Ok(contract) = machine.requester.sign(terms.clone(), Some(machine.me.me()), RECORD_TTL) else {
            assert!(terms.pod.check().is_err(), "{what}");
            continue;
        };
        let invocation = Invocation { bid: lock.bid, contract };
        let taken = ledger::take(&machine.books, machine.requester(), &invocation, machine.me.now());
        let differs = RefusedReason::ContractDiffers { what: what.into() };
        assert_eq!(taken.map(|lock| lock.bid), Err(differs), "{what}");
        assert_eq!((machine.free(), machine.books.locks().len()), (free, 1), "the lock still holds");
    }
}

#[test]
fn one_of_two_tasks_that_is_not_valid_lets_nothing_start() {
    type Change = fn(&mut Contract);
    let table: [(&str, Change); 3] = [
        ("called", |terms| terms.pod.tasks[1].name = terms.pod.tasks[0].name.clone()),
        ("timeout", |terms| terms.pod.tasks[1].timeout = dms_messages::Millis(0)),
        ("each of several", |terms| terms.pod.tasks[1].resources = None),
    ];
    for (expected, change) in table {
        let mut machine = Machine::new();
        let lock = machine.commit(&requirement(1000, 100)).unwrap();
        let mut terms = contract(&lock, &machine.requester, machine.me.me(), 1);
        in_two(&mut terms, share(400, 40));
        change(&mut terms);
        let error = machine.requester.sign(terms, Some(machine.me.me()), RECORD_TTL).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(machine.books.allocations().is_empty() && machine.books.allocated().is_empty());
        machine.uncommit(&lock).unwrap();
        assert!(machine.is_whole());
    }
}

#[test]
fn of_two_pods_that_do_not_fit_together_one_wins_whole() {
    let mut machine = Machine::new();
    let need = with_ports(2500, 600, 3);
    let first = machine.commit(&need).unwrap();
    let free = machine.free();
    assert!(
        matches!(machine.commit(&need), Err(DeclineReason::Busy { shortfalls }) if shortfalls.len() == 3)
    );
    assert_eq!(machine.free(), free, "nothing of the second is held");
    let allocation = machine.allocate_as(&first, |terms| in_two(terms, share(1000, 200))).unwrap();
    assert_eq!(machine.books.live_allocations().count(), 2);
    for task in 0..2 {
        machine.deallocate(allocation.of_task(task)).unwrap();
    }
    assert!(machine.is_whole());
    assert!(machine.commit(&need).is_ok());
}

#[test]
fn stop_clears_commits() {
    let mut machine = Machine::new();
    for _ in 0..3 {
        machine.commit(&with_ports(1000, 100, 1)).unwrap();
    }
    // A node that was stopped finds every lock run out when it starts again.
    let started = machine.me.now().saturating_add(std::time::Duration::from_secs(60));
    let expired = ledger::expired(&machine.books, started);
    assert_eq!(expired.len(), 3);
    for bid in expired {
        let end = ledger::end_of_expired(&machine.books, bid, started);
        assert_eq!(end, LockEnd::Withdrawn, "it counts against nobody");
        machine.try_apply(Event::LockEnded { bid, end }).unwrap();
    }
    assert!(machine.is_whole());
    // One that withdraws its offer takes them back before.
    let mut machine = Machine::new();
    let lock = machine.commit(&requirement(1000, 100)).unwrap();
    assert!(machine.try_apply(Event::CapabilityWithdrawn).is_err());
    machine.try_apply(Event::LockEnded { bid: lock.bid, end: LockEnd::Withdrawn }).unwrap();
    machine.try_apply(Event::CapabilityWithdrawn).unwrap();
    assert!(machine.books.registered().is_none() && machine.free().is_empty());
}

#[test]
fn release_removes() {
    let mut machine = Machine::new();
    let lock = machine.commit(&with_ports(1000, 100, 2)).unwrap();
    let allocation = machine.allocate(&lock).unwrap();
    machine.deallocate(allocation).unwrap();
    assert!(machine.is_whole() && machine.books.live_allocations().next().is_none());
    assert!(matches!(machine.deallocate(allocation), Err(BooksError::OutOfOrder { .. })));
    assert!(machine.is_whole(), "it does not come back twice");
}

#[test]
fn availability_by_ports_and_resources() {
    let table = [
        (with_ports(3000, 900, 3), true),
        (with_ports(3001, 900, 3), false),
        (with_ports(3000, 901, 3), false),
        (with_ports(3000, 900, 4), false),
        (with_ports(1, 1, 0), true),
    ];
    let mut machine = Machine::new();
    machine.commit(&with_ports(1000, 100, 1)).unwrap();
    for (need, fits) in table {
        let held = ledger::hold(&machine.books, machine.me.me(), machine.me.me(), &need);
        assert_eq!(held.is_ok(), fits, "{need:?}");
    }
}

#[test]
fn ports_are_released_and_reused_and_the_range_is_exact() {
    let mut machine = Machine::new();
    let ports = |lock: &Lock| lock.resources.ports.iter().copied().collect::<Vec<u16>>();
    let (first, second) =
        (machine.commit(&with_ports(1, 1, 2)).unwrap(), machine.commit(&with_ports(1, 1, 2)).unwrap());
    assert_eq!((ports(&first), ports(&second)), (vec![8000, 8001], vec![8002, 8003]), "the whole range");
    assert!(machine.commit(&with_ports(1, 1, 1)).is_err(), "and not one beyond it");
    machine.uncommit(&first).unwrap();
    let third = machine.commit(&with_ports(1, 1, 1)).unwrap();
    assert_eq!(ports(&third), [8000], "what was given back is given out again");
    let allocation = machine.allocate(&third).unwrap();
    assert_eq!(machine.free().ports, [8001].into(), "a port that is allocated is not free");
    machine.deallocate(allocation).unwrap();
    assert_eq!(machine.free().ports, [8000, 8001].into());
}
