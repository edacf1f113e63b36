//! What the first implementation's tests asked of its resource manager, row by row: what is free follows from what is
//! registered and promised, in every dimension, also after a restart.

use std::sync::Arc;

use dms_messages::{
    Capability, CpuMillis, DeclineReason, Dimension, DiskMib, MemoryMib, RefusedReason, Requirement,
    Resources,
};
use dms_storage::{Books, Committer, Engine, Entry, Event, MemoryEngine, Store};

use super::nunet_allocator::{Machine, with_ports};
use crate::capability::ledger;
use crate::testing::*;

#[test]
fn allocate_and_deallocate_update_what_is_free() {
    let mut machine = Machine::new();
    let whole = machine.free();
    let mut live = Vec::new();
    for count in 1..=3u64 {
        let lock = machine.commit(&with_ports(1000, 100, 1)).unwrap();
        live.push(machine.allocate(&lock).unwrap());
        let free = machine.free();
        assert_eq!((free.cpu.0, free.memory.0), (4000 - 1000 * count, 1000 - 100 * count));
        assert_eq!(free.ports.len() as u64, 4 - count);
    }
    for allocation in live {
        machine.deallocate(allocation).unwrap();
    }
    assert_eq!(machine.free(), whole);
}

#[test]
fn double_allocate_is_refused() {
    let mut machine = Machine::new();
    let lock = machine.commit(&requirement(1000, 100)).unwrap();
    let allocation = machine.allocate(&lock).unwrap();
    let free = machine.free();
    assert_eq!(machine.allocate(&lock), Err(RefusedReason::LeaseEnded));
    // Nor under a lock of its own: the attempt has started, and starts no second time.
    let other = machine.commit(&requirement(1000, 100)).unwrap();
    let (job, request) = (lock.job, other.request);
    let again = machine.allocate_as(&other, |terms| {
        terms.attempt.job = job;
        terms.request = request;
    });
    assert_eq!(again, Err(RefusedReason::ContractDiffers { what: "job".into() }));
    let contract = machine.books.contracts()[&machine.books.allocations()[&allocation].contract].clone();
    let again = Event::AllocationAccepted {
        allocation,
        contract: contract.contract,
        accepted: contract.accepted.unwrap(),
    };
    assert!(machine.try_apply(again).is_err());
    assert_eq!(machine.free().cpu, CpuMillis(free.cpu.0 - 1000), "only the second lock");
}

#[test]
fn cpu_memory_and_disk_are_each_checked() {
    let mut books = Books::default();
    let resources = Resources { disk: DiskMib(100), ..resources(1000, 200) };
    let capability = Capability { resources: resources.clone(), ..capability(1000, 200) };
    apply(&mut books, Event::CapabilityRegistered { capability });
    let all = Requirement {
        cpu: resources.cpu,
        memory: resources.memory,
        disk: resources.disk,
        ..requirement(1, 1)
    };
    let hold = |need: &Requirement| ledger::hold(&books, did(1), did(1), need);
    assert_eq!(hold(&all), Ok(resources), "exactly what there is");
    let table = [
        (Dimension::Cpu, Requirement { cpu: CpuMillis(1001), ..all.clone() }),
        (Dimension::Memory, Requirement { memory: MemoryMib(201), ..all.clone() }),
        (Dimension::Disk, Requirement { disk: DiskMib(101), ..all }),
    ];
    for (dimension, need) in table {
        match hold(&need) {
            Err(DeclineReason::TooBig { shortfalls }) => {
                assert_eq!(shortfalls.iter().map(|it| it.dimension).collect::<Vec<_>>(), [dimension]);
            }
            other => panic!("{dimension:?}: {other:?}"),
        }
    }
}

#[test]
fn registered_and_free_are_read_from_the_disk_when_nothing_is_in_memory() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let open = || Store::open(Arc::clone(&engine), Committer::start(Arc::clone(&engine))).unwrap();
    let mut machine = Machine::new();
    let registered = machine.books.registered().cloned().unwrap();
    let lock = machine.commit(&with_ports(1000, 100, 1)).unwrap();
    let bid = machine.books.bids_sent()[&lock.bid].bid.clone();
    {
        let (mut store, mut books) = open();
        let events = [
            Event::CapabilityRegistered { capability: registered.clone() },
            Event::BidSent { bid, lock: lock.clone() },
        ];
        let at = machine.me.now();
        let entries = events.map(|event| Entry { at, event });
        store.record(&mut books, &entries).unwrap().wait().unwrap();
    }
    let (_store, books) = open();
    assert_eq!(books.registered(), Some(&registered));
    assert_eq!((books.available(), books.locked()), (&machine.free(), lock.resources));
    assert!(ledger::hold(&books, machine.me.me(), machine.me.me(), &with_ports(3000, 900, 3)).is_ok());
    assert!(ledger::hold(&books, machine.me.me(), machine.me.me(), &with_ports(3001, 900, 3)).is_err());
}

#[test]
fn whoever_comes_first_has_it_in_whatever_order_they_come() {
    // One owner decides and records in one turn: what two ask for at the same time is decided one after the other.
    let needs = [with_ports(3000, 100, 0), with_ports(100, 700, 0), with_ports(100, 100, 4)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut machine = Machine::new();
        let locks = order.map(|index| machine.commit(&needs[index]).unwrap());
        for need in &needs {
            assert!(machine.commit(need).is_err(), "{order:?}");
        }
        for lock in &locks {
            let allocation = machine.allocate(lock).unwrap();
            machine.deallocate(allocation).unwrap();
        }
        assert_eq!(machine.free(), Machine::new().free(), "{order:?}");
    }
}
