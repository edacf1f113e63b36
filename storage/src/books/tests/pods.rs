//! Pods of several tasks: one lock becomes all of their allocations or none, and each gives back what it had.

use super::*;

/// A contract for a pod of three tasks that has 1,000 thousandths, 1,000 MiB, 1 MiB of disk, two ports and a slot.
fn pod_contract(bid: u8, number: u32) -> Signed<Contract> {
    let mut terms = contract(bid, number).into_value();
    let task = terms.pod.tasks.remove(0);
    let share = |cpu, memory, disk| TaskResources {
        cpu: CpuMillis(cpu),
        memory: MemoryMib(memory),
        disk: DiskMib(disk),
    };
    let tasks = [("a", share(500, 400, 1)), ("b", share(300, 300, 0)), ("c", share(200, 300, 0))];
    let named = |(name, share): (&str, TaskResources)| Task {
        name: name.into(),
        resources: Some(share),
        ..task.clone()
    };
    terms.pod.tasks = tasks.map(named).into();
    terms.resources = granted();
    signed(terms, &REQUESTER, 100 + bid)
}

fn granted() -> Resources {
    Resources { ports: [8000, 8001].into(), slots: [(ExecutorKind::Wasm, 1)].into(), ..resources(1000) }
}

fn pod_accepted(bid: u8, number: u32) -> Event {
    let contract = pod_contract(bid, number);
    let accepted =
        Accepted { attempt: attempt(number), contract: contract.content_id(), allocation: allocation(bid) };
    let accepted = signed(accepted, &PROVIDER, 200);
    Event::AllocationAccepted { allocation: allocation(bid), contract, accepted }
}

fn pod_bid_sent(id: u8) -> Event {
    match bid_sent(id, 1000) {
        Event::BidSent { bid, mut lock } => {
            lock.resources = granted();
            Event::BidSent { bid, lock }
        }
        other => other,
    }
}

fn offered() -> Event {
    let resources = Resources {
        disk: DiskMib(100),
        ports: (8000..8004).collect(),
        slots: [(ExecutorKind::Wasm, 2)].into(),
        ..resources(4000)
    };
    Event::CapabilityRegistered { capability: Capability { resources, ..Capability::default() } }
}

fn ended(task: u16, state: AllocationState) -> Event {
    Event::AllocationEnded { allocation: allocation(1).of_task(task), state, result: None }
}

fn requester() -> Did {
    Keypair::from_secret(&REQUESTER).did()
}

fn stopped() -> AllocationState {
    AllocationState::Stopped { cause: StopCause::TaskFailed }
}

/// Books in which a pod of three runs.
fn running() -> Books {
    let mut books = Books::default();
    for event in [offered(), pod_bid_sent(1), pod_accepted(1, 1)] {
        apply(&mut books, event).unwrap();
    }
    books
}

#[test]
fn one_lock_becomes_an_allocation_for_each_task() {
    let books = running();
    let rows: Vec<&AllocationRow> = books.allocations_of(requester(), attempt(1)).collect();
    assert_eq!(
        rows.iter().map(|row| (row.task, row.task_count)).collect::<Vec<_>>(),
        [(0, 3), (1, 3), (2, 3)]
    );
    let sum = rows.iter().try_fold(Resources::default(), |sum, row| sum.checked_add(&row.resources));
    assert_eq!((sum.as_ref(), books.allocated()), (Some(&granted()), granted()));
    assert_eq!(rows[1].resources.cpu, CpuMillis(300));
    assert_eq!(rows[0].resources.ports.len(), 2, "what they have in common is with the first");
    assert!(books.locks().is_empty());
    assert_eq!(books.started(requester(), attempt(1)), Some(allocation(1)));
    assert_eq!(books.pod_state(requester(), attempt(1)), Some(AllocationState::Accepted));
}

#[test]
fn a_pod_larger_than_its_lock_takes_nothing_of_it() {
    let mut books = Books::default();
    apply(&mut books, offered()).unwrap();
    apply(&mut books, bid_sent(1, 400)).unwrap();
    let (available, locked) = (books.available().clone(), books.locked());
    let refused = apply(&mut books, pod_accepted(1, 1));
    assert!(matches!(refused, Err(BooksError::Overcommitted { .. })), "{refused:?}");
    assert_eq!((books.available(), &books.locked()), (&available, &locked));
    assert!(books.allocations().is_empty() && books.contracts().is_empty());
}

#[test]
fn each_task_gives_back_its_own_and_the_last_what_they_had_in_common() {
    let mut books = running();
    apply(&mut books, ended(0, AllocationState::Succeeded)).unwrap();
    assert_eq!(books.available().cpu, CpuMillis(3500));
    assert_eq!(books.available().ports.len(), 2, "a port is not free while a task of its pod runs");
    assert_eq!(books.allocations()[&allocation(1).of_task(1)].resources.ports.len(), 2, "handed on");
    apply(&mut books, ended(2, stopped())).unwrap();
    assert_eq!(books.allocated().slots_of(ExecutorKind::Wasm), 1);
    assert_eq!(books.pod_state(requester(), attempt(1)), Some(AllocationState::Running));
    let cause = FailureCause::ExitCode { code: 3 };
    apply(&mut books, ended(1, AllocationState::Failed { cause: cause.clone() })).unwrap();
    assert!(books.allocated().is_empty());
    assert_eq!(books.available().ports.len(), 4);
    assert_eq!(books.pod_state(requester(), attempt(1)), Some(AllocationState::Failed { cause }));
    let twice = apply(&mut books, ended(1, stopped()));
    assert!(matches!(twice, Err(BooksError::OutOfOrder { .. })), "{twice:?}");
}

#[test]
fn a_pod_leaves_the_memory_as_one_and_not_before_its_last_task_ended() {
    let mut books = running();
    let at =
        |books: &mut Books, at: u64, event| drop(books.apply(&Entry { at: Timestamp(at), event }).unwrap());
    at(&mut books, 10, ended(0, AllocationState::Succeeded));
    let month = 30 * 24 * 3_600_000;
    assert_eq!(books.next_settling(Timestamp(month), 10), None, "two of its tasks run");
    at(&mut books, month, ended(1, AllocationState::Succeeded));
    at(&mut books, month + 5, ended(2, AllocationState::Succeeded));
    for task in 0..3 {
        let allocation = allocation(1).of_task(task);
        at(&mut books, month + 6, Event::AllocationAcknowledged { allocation });
    }
    at(&mut books, month + 7, Event::Settled { ended_before: Timestamp(month + 5) });
    assert_eq!(books.allocations().len(), 3, "by when the last of them ended");
    at(&mut books, month + 8, Event::Settled { ended_before: Timestamp(month + 6) });
    assert_eq!((books.allocations().len(), books.contracts().len()), (0, 0));
    books.check().unwrap();
}

#[test]
fn every_step_of_a_pod_survives_a_restart() {
    let story = [
        offered(),
        pod_bid_sent(1),
        pod_accepted(1, 1),
        Event::AllocationMoved { allocation: allocation(1).of_task(2), state: AllocationState::Running },
        ended(0, AllocationState::Succeeded),
        ended(2, stopped()),
        ended(1, stopped()),
        Event::AllocationAcknowledged { allocation: allocation(1).of_task(1) },
    ];
    for length in 1..=story.len() {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let open = || Store::open(Arc::clone(&engine), Committer::start(Arc::clone(&engine))).unwrap();
        let (mut store, mut books) = open();
        for event in &story[..length] {
            store.record(&mut books, &[entry(event.clone())]).unwrap().wait().unwrap();
        }
        drop(store);
        let (_store, again) = open();
        again.check().unwrap();
        assert_eq!(again.allocations(), books.allocations(), "after {length}");
        assert_eq!((again.available(), again.allocated()), (books.available(), books.allocated()));
        assert_eq!(again.pod_state(requester(), attempt(1)), books.pod_state(requester(), attempt(1)));
    }
}

#[test]
fn a_requester_remembers_how_each_task_stands() {
    let mut job = job();
    job.pods[0] = pod_contract(1, 1).into_value().pod;
    let mut books = Books::default();
    let minted = Event::AttemptMinted {
        attempt: attempt(1),
        provider: Keypair::from_secret(&PROVIDER).did(),
        addresses: vec![],
        contract: pod_contract(1, 1),
    };
    apply(&mut books, Event::JobSubmitted { job }).unwrap();
    apply(&mut books, minted).unwrap();
    let observed = |task, state: AllocationState, result| Event::TaskObserved {
        attempt: attempt(1),
        task,
        state,
        result,
    };
    // The second is heard of first.
    apply(&mut books, observed(1, AllocationState::Running, None)).unwrap();
    apply(&mut books, observed(1, AllocationState::Succeeded, Some(result()))).unwrap();
    let row = &books.jobs()[&self::job().id].attempts[0];
    let states: Vec<u8> = row.tasks.iter().map(|task| task.state.rank()).collect();
    assert_eq!(states, [0, 3]);
    assert_eq!(row.results().map(|(task, _)| task).collect::<Vec<_>>(), [1]);
    assert!(books.live_contents().blobs.contains(&result().stdout), "what it left is still wanted");
    for wrong in [
        observed(1, AllocationState::Running, None),
        observed(1, stopped(), None),
        observed(3, AllocationState::Running, None),
    ] {
        let refused = apply(&mut books, wrong);
        assert!(matches!(refused, Err(BooksError::OutOfOrder { .. })), "{refused:?}");
    }
}

#[test]
fn a_row_of_one_task_says_what_it_always_did() {
    let mut books = Books::default();
    for event in [registered(), bid_sent(1, 1000), allocation_accepted(1, 1)] {
        apply(&mut books, event).unwrap();
    }
    let row = serde_json::to_value(&books.allocations()[&allocation(1)]).unwrap();
    let names: Vec<&String> = row.as_object().unwrap().keys().collect();
    for new in ["task", "task_count", "pod_ended"] {
        assert!(!names.iter().any(|name| *name == new), "{names:?}");
    }
    let read: AllocationRow = serde_json::from_value(row).unwrap();
    assert_eq!((read.task, read.task_count, read.pod_ended), (0, 1, None));
}
