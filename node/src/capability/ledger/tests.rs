//! What may be held, taken and registered, as tables; the law of the books under any sequence.

mod flood;
mod nunet_allocator;
mod nunet_resource_manager;

use std::collections::BTreeSet;
use std::sync::Arc;

use dms_messages::{CpuMillis, Dimension, ExecutorKind, Gpu, GpuRequirement, MemoryMib, Price, Shortfall};
use dms_storage::{Event, LockEnd};
use proptest::prelude::*;

use super::*;
use crate::testing::*;

#[test]
fn what_may_be_held_is_decided_by_registered_available_and_share() {
    let clock = Arc::new(StillClock::default());
    let me = signer(1, &clock);
    let (requester, other) = (did(2), did(3));
    let mut books = books(4000, 1000);
    // Half of the machine is held by somebody else, a quarter of it by the requester.
    lock(&mut books, &me, other, 1, resources(2000, 500));
    lock(&mut books, &me, requester, 2, resources(500, 100));
    let ask = |who, cpu, memory| hold(&books, who, me.me(), &requirement(cpu, memory));
    assert_eq!(ask(did(4), 1500, 400), Ok(resources(1500, 400)), "a newcomer may take all that is free");
    assert_eq!(ask(requester, 500, 100), Ok(resources(500, 100)), "up to a quarter");
    assert_eq!(ask(requester, 501, 100), Err(DeclineReason::LockShare), "not more than a quarter");
    assert_eq!(ask(me.me(), 1500, 400), Ok(resources(1500, 400)), "the share does not bind the node itself");
    assert!(matches!(ask(did(4), 1501, 1), Err(DeclineReason::Busy { shortfalls }) if shortfalls.len() == 1));
    match ask(did(4), 5000, 2000) {
        Err(DeclineReason::TooBig { shortfalls }) => {
            assert_eq!(
                shortfalls.iter().map(|s| s.dimension).collect::<Vec<_>>(),
                [Dimension::Cpu, Dimension::Memory]
            );
            assert_eq!((shortfalls[1].needed, shortfalls[1].had), (2000, 1000));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        hold(&Books::default(), requester, me.me(), &requirement(1, 1)),
        Err(DeclineReason::NotOnboarded)
    );
}

#[test]
fn gpus_are_picked_as_distinct_things_the_smallest_that_does() {
    let gpu =
        |vendor: &str, memory| Gpu { vendor: vendor.into(), model: "m".into(), memory: MemoryMib(memory) };
    let mut offer = capability(4000, 1000);
    offer.gpus =
        [(GpuId(0), gpu("nvidia", 24_000)), (GpuId(1), gpu("nvidia", 8000)), (GpuId(2), gpu("amd", 8000))]
            .into();
    offer.resources.gpus = offer.gpus.keys().copied().collect();
    let mut books = Books::default();
    apply(&mut books, Event::CapabilityRegistered { capability: offer });
    let need = |demands: &[(Option<&str>, u64)]| {
        let mut need = requirement(1, 1);
        need.gpus = demands
            .iter()
            .map(|(vendor, memory)| GpuRequirement {
                vendor: vendor.map(Into::into),
                memory: MemoryMib(*memory),
                ..GpuRequirement::default()
            })
            .collect();
        hold(&books, did(2), did(1), &need).map(|resources| resources.gpus)
    };
    assert_eq!(need(&[(Some("nvidia"), 8000)]), Ok(BTreeSet::from([GpuId(1)])), "the small one");
    assert_eq!(need(&[(None, 8000), (Some("nvidia"), 16_000)]), Ok(BTreeSet::from([GpuId(0), GpuId(1)])));
    assert!(matches!(need(&[(Some("intel"), 1)]), Err(DeclineReason::TooBig { .. })));
    assert!(matches!(need(&[(Some("amd"), 1), (Some("amd"), 1)]), Err(DeclineReason::TooBig { .. })));
}

#[test]
fn an_invocation_takes_only_its_own_living_lock_on_its_own_terms() {
    let clock = Arc::new(StillClock::default());
    let (me, requester) = (signer(1, &clock), signer(2, &clock));
    let mut books = books(4000, 1000);
    let held = lock(&mut books, &me, requester.me(), 1, resources(1000, 64));
    let invoke = |change: &dyn Fn(&mut dms_messages::Contract), sender, now| {
        let mut terms = contract(&held, &requester, me.me(), 1);
        change(&mut terms);
        let bid = terms.bid;
        let invocation = Invocation { bid, contract: sign_contract(terms, &requester) };
        take(&books, sender, &invocation, now).map(|lock| lock.bid)
    };
    let now = me.now();
    let late = now.saturating_add(Duration::from_secs(11));
    let who = requester.me();
    assert_eq!(invoke(&|_| {}, who, now), Ok(held.bid));
    assert_eq!(invoke(&|_| {}, did(3), now), Err(RefusedReason::NotYours));
    assert_eq!(invoke(&|_| {}, who, late), Err(RefusedReason::LeaseEnded));
    let unknown = dms_messages::BidId::from_random([9; 16]);
    assert_eq!(invoke(&|terms| terms.bid = unknown, who, now), Err(RefusedReason::UnknownBid));
    let differs = |what: &str| Err(RefusedReason::ContractDiffers { what: what.into() });
    assert_eq!(invoke(&|terms| terms.price = Price(4), who, now), differs("price"));
    assert_eq!(invoke(&|terms| terms.resources.cpu = CpuMillis(2000), who, now), differs("resources"));
    assert_eq!(invoke(&|terms| terms.attempt.pod = 1, who, now), differs("job"));
    let longer = dms_messages::Millis(60_001);
    assert_eq!(invoke(&|terms| terms.pod.tasks[0].timeout = longer, who, now), differs("run time"));
    assert_eq!(
        invoke(&|terms| terms.pod.requirement.memory = MemoryMib(65), who, now),
        differs("the pod's needs")
    );
    assert_eq!(invoke(&|terms| terms.pod.requirement.ports = 1, who, now), differs("the number of ports"));
    let gpus = vec![GpuRequirement::default()];
    let invoked = invoke(&|terms| terms.pod.requirement.gpus = gpus.clone(), who, now);
    assert_eq!(invoked, differs("the number of GPUs"));
}

#[test]
fn whether_all_gpus_can_be_served_does_not_depend_on_who_comes_first() {
    let gpu =
        |vendor: &str, memory| Gpu { vendor: vendor.into(), model: "X1".into(), memory: MemoryMib(memory) };
    let mut offer = capability(4000, 1000);
    offer.gpus = [(GpuId(0), gpu("amd", 8000)), (GpuId(1), gpu("nvidia", 16_000))].into();
    offer.resources.gpus = offer.gpus.keys().copied().collect();
    let any = GpuRequirement { memory: MemoryMib(8000), ..GpuRequirement::default() };
    let amd = GpuRequirement { vendor: Some("amd".into()), ..GpuRequirement::default() };
    let both = Ok(BTreeSet::from([GpuId(0), GpuId(1)]));
    for demands in [[any.clone(), amd.clone()], [amd.clone(), any.clone()]] {
        assert_eq!(gpus::pick(&offer, &offer.resources.gpus, &demands), both, "the small one is left to amd");
    }
    let short = Shortfall { dimension: Dimension::Gpu, needed: 3, had: 2, is_owners: false };
    assert_eq!(gpus::pick(&offer, &offer.resources.gpus, &[any.clone(), amd, any]), Err(short));
    let model = GpuRequirement { model: Some("x2".into()), ..GpuRequirement::default() };
    let short = Shortfall { dimension: Dimension::Gpu, needed: 1, had: 0, is_owners: false };
    assert_eq!(gpus::pick(&offer, &offer.resources.gpus, &[model]), Err(short));
}

#[test]
fn ports_are_given_by_number_and_slots_only_where_they_are_limited() {
    let clock = Arc::new(StillClock::default());
    let me = signer(1, &clock);
    let mut offer = capability(4000, 1000);
    let mut books = Books::default();
    apply(&mut books, Event::CapabilityRegistered { capability: offer.clone() });
    let ask =
        |books: &Books, ports| hold(books, me.me(), me.me(), &Requirement { ports, ..requirement(1, 1) });
    let lacks = |dimension, needed, had| vec![Shortfall { dimension, needed, had, is_owners: false }];
    assert_eq!(ask(&books, 0), Ok(resources(1, 1)), "no limit, no slot");
    assert_eq!(ask(&books, 1), Err(DeclineReason::TooBig { shortfalls: lacks(Dimension::Ports, 1, 0) }));

    offer.resources.ports = BTreeSet::from([80, 90, 100]);
    offer.resources.slots = [(ExecutorKind::Wasm, 2)].into();
    apply(&mut books, Event::CapabilityRegistered { capability: offer });
    let first = ask(&books, 2).unwrap();
    assert_eq!((&first.ports, first.slots_of(ExecutorKind::Wasm)), (&BTreeSet::from([80, 90]), 1));
    let held = lock(&mut books, &me, me.me(), 1, first);
    let busy = |shortfalls| Err(DeclineReason::Busy { shortfalls });
    assert_eq!(ask(&books, 2), busy(lacks(Dimension::Ports, 2, 1)));
    let second = ask(&books, 1).unwrap();
    assert_eq!(second.ports, BTreeSet::from([100]), "another one");
    lock(&mut books, &me, me.me(), 2, second);
    assert_eq!(ask(&books, 0), busy(lacks(Dimension::Slots, 1, 0)), "used up is not unlimited");
    apply(&mut books, Event::LockEnded { bid: held.bid, end: LockEnd::Released });
    assert_eq!(ask(&books, 2).unwrap().ports, BTreeSet::from([80, 90]), "what came back is given again");
}

/// Books in which `wasters` let a lock on all of it run out, and `proven` invoked one.
fn books_with_history(wasters: std::ops::Range<u8>, proven: u8) -> (Books, crate::signer::Signer) {
    let clock = Arc::new(StillClock::default());
    let (me, requester) = (signer(1, &clock), signer(proven, &clock));
    let mut books = books(8000, 8000);
    for waster in wasters {
        let held = lock(&mut books, &me, did(waster), waster, resources(8000, 8000));
        let event = Event::LockEnded { bid: held.bid, end: LockEnd::Expired };
        books.apply(&dms_storage::Entry { at: held.expires, event }).unwrap();
    }
    let held = lock(&mut books, &me, requester.me(), proven, resources(1000, 64));
    flood::accept(&mut books, &me, &requester, &held, 1);
    (books, me)
}

#[test]
fn how_much_may_be_held_depends_on_what_was_done_with_it() {
    const QUARTER: u64 = 2000;
    const SIXTEENTH: u64 = 500;
    const PROVEN: u8 = 99;
    let ask = |books: &Books, me: &crate::signer::Signer, who, cpu| {
        hold(books, did(who), me.me(), &requirement(cpu, 1)).is_ok()
    };
    // Few are in bad standing: newcomers and the proven may hold one large lock.
    let (books, me) = books_with_history(10..14, PROVEN);
    let table = [
        ("newcomer", 2, 7000, true),
        ("proven", PROVEN, 7000, true),
        ("bad, a sixteenth", 10, SIXTEENTH, true),
        ("bad, more", 10, SIXTEENTH + 1, false),
        ("the node itself", 1, 7000, true),
    ];
    for (name, who, cpu, is_held) in table {
        assert_eq!(ask(&books, &me, who, cpu), is_held, "{name}");
    }
    // The bad ones share their sixteenth.
    let mut shared = books;
    lock(&mut shared, &me, did(10), 200, resources(SIXTEENTH / 2, 1));
    assert!(ask(&shared, &me, 11, SIXTEENTH / 2) && !ask(&shared, &me, 11, SIXTEENTH / 2 + 1));
    assert!(ask(&shared, &me, 2, QUARTER), "others are not bound by it");

    // One more, and newcomers are bound too, but not together with the bad ones.
    let (mut books, me) = books_with_history(10..15, PROVEN);
    lock(&mut books, &me, did(10), 200, resources(SIXTEENTH, 1));
    assert!(ask(&books, &me, 2, SIXTEENTH) && !ask(&books, &me, 2, SIXTEENTH + 1));
    assert!(ask(&books, &me, PROVEN, 6000), "the proven are not");
    lock(&mut books, &me, did(2), 201, resources(SIXTEENTH, 1));
    assert!(!ask(&books, &me, 2, 1), "one has a sixteenth");
    for newcomer in 3..10 {
        assert!(ask(&books, &me, newcomer, SIXTEENTH));
        lock(&mut books, &me, did(newcomer), 200 + newcomer, resources(SIXTEENTH, 1));
    }
    assert!(!ask(&books, &me, 20, 1), "together they have a half");
    // With an offer that is taken back and made again, everybody begins anew.
    for bid in books.locks().keys().copied().collect::<Vec<_>>() {
        apply(&mut books, Event::LockEnded { bid, end: LockEnd::Released });
    }
    for allocation in books.live_allocations().map(|row| row.id).collect::<Vec<_>>() {
        flood::end(&mut books, allocation);
    }
    apply(&mut books, Event::CapabilityWithdrawn);
    apply(&mut books, Event::CapabilityRegistered { capability: capability(8000, 8000) });
    assert!(ask(&books, &me, 4, 8000) && ask(&books, &me, 10, 8000));
}

#[test]
fn what_counts_is_how_much_was_held_for_how_long_but_not_by_fault_of_the_node() {
    const WHOLE: u32 = 1_000_000;
    let seconds = Duration::from_secs;
    // How it ended, after how long, the part of the machine (of 8000), what counts of it. The lease is 10 s.
    let table = [
        ("given back after an auction", LockEnd::Released, seconds(2), 2000, WHOLE / 20),
        ("given back before half of the lease", LockEnd::Released, seconds(4), 8000, WHOLE * 2 / 5),
        ("ran out", LockEnd::Expired, seconds(11), 4000, WHOLE * 11 / 20),
        ("swept late", LockEnd::Expired, seconds(12), 4000, WHOLE * 11 / 20),
        ("swept much later", LockEnd::Expired, seconds(14), 4000, 0),
        ("taken back", LockEnd::Withdrawn, seconds(9), 8000, 0),
        ("found over after the node was away", LockEnd::Withdrawn, seconds(12), 8000, 0),
        ("next to nothing, one of many locks", LockEnd::Released, seconds(10), 1, WHOLE.div_ceil(256)),
    ];
    for (name, end, after, cpu, counted) in table {
        let clock = Arc::new(StillClock::default());
        let me = signer(1, &clock);
        let mut books = books(8000, 8000);
        let held = lock(&mut books, &me, did(2), 1, resources(cpu, 1));
        let event = Event::LockEnded { bid: held.bid, end };
        let at = me.now().saturating_add(after);
        books.apply(&dms_storage::Entry { at, event }).unwrap();
        let standing = books.accounts().standing(did(2)).map_or(0, |standing| standing.unused);
        assert!(standing.abs_diff(counted) <= 500, "{name}: {standing}, not {counted}");
    }
    // A renewed lock is judged by the time that it was promised.
    let clock = Arc::new(StillClock::default());
    let me = signer(1, &clock);
    let mut books = books(8000, 8000);
    let held = lock(&mut books, &me, did(2), 1, resources(4000, 1));
    let expires = held.expires.saturating_add(seconds(10));
    apply(&mut books, Event::LockRenewed { bid: held.bid, expires });
    let event = Event::LockEnded { bid: held.bid, end: LockEnd::Expired };
    books.apply(&dms_storage::Entry { at: expires, event }).unwrap();
    assert_eq!(books.accounts().standing(did(2)).unwrap().unused, 2 * WHOLE, "over the allowance");
    assert_eq!(books.accounts().suspects().count, 1);
}

#[test]
fn who_asks_a_score_of_providers_and_chooses_one_stays_in_good_standing() {
    let clock = Arc::new(StillClock::default());
    let (me, requester) = (signer(1, &clock), signer(2, &clock));
    // A quarter of the machine each time: nineteen lost auctions, one that is won, for days.
    let mut books = books(8000, 8000);
    let apply_at = |books: &mut Books, event| {
        books.apply(&dms_storage::Entry { at: me.now(), event }).unwrap();
    };
    for round in 1..=9u32 {
        for number in 1..=20u8 {
            let id = number + 20 * u8::try_from(round).unwrap();
            let held = lock(&mut books, &me, requester.me(), id, resources(2000, 64));
            if number < 20 {
                let bid = held.bid;
                // Made at the beginning of time by `lock`: held for two seconds.
                let at = books.bids_sent()[&bid].at.saturating_add(Duration::from_secs(2));
                let event = Event::LockEnded { bid, end: LockEnd::Released };
                books.apply(&dms_storage::Entry { at, event }).unwrap();
            } else {
                let allocation = flood::accept(&mut books, &me, &requester, &held, round);
                let state = dms_messages::AllocationState::Succeeded;
                apply_at(&mut books, Event::AllocationEnded { allocation, state, result: None });
            }
            assert_eq!(books.accounts().suspects().count, 0, "round {round}, auction {number}");
        }
        assert_eq!(books.accounts().standing(requester.me()), None, "made good");
    }
}

#[test]
fn what_was_promised_before_the_node_came_back_ends_without_blame() {
    let clock = Arc::new(StillClock::default());
    let me = signer(1, &clock);
    let mut books = books(4000, 1000);
    let held = lock(&mut books, &me, did(2), 1, resources(1000, 64));
    let later = me.now().saturating_add(Duration::from_secs(1));
    assert_eq!(end_of_expired(&books, held.bid, later), LockEnd::Withdrawn);
    assert_eq!(end_of_expired(&books, held.bid, Timestamp(held.expires.0 - 11_001)), LockEnd::Expired);
}

#[test]
fn a_lease_is_renewed_to_three_in_all_and_only_to_those_who_may() {
    const LEASE: Duration = Duration::from_secs(10);
    const PROVEN: u8 = 99;
    let (mut books, me) = books_with_history(10..14, PROVEN);
    let made = me.now();
    let mut held = |who: u8, number, cpu| lock(&mut books, &me, did(who), number, resources(cpu, 1));
    let (small, large, bad) = (held(2, 200, 2000), held(3, 201, 2001), held(10, 202, 1000));
    let renew_at = |held: &Lock, seconds| {
        let now = made.saturating_add(Duration::from_secs(seconds));
        renew(&books, held.requester, me.me(), held.request, LEASE, now)
    };
    let said = |held: &Lock, seconds| {
        renew_at(held, seconds)
            .map(|renewal| (renewal.expires.saturating_since(made).as_secs(), renewal.lease.as_secs()))
    };
    // Seconds after the bid: when the lock ends, and the lease that is said.
    assert_eq!(said(&small, 0), Some((11, 10)));
    assert_eq!(said(&small, 4), Some((15, 10)));
    assert_eq!(said(&small, 10), Some((21, 10)));
    assert_eq!(said(&small, 11), None, "it ended");
    assert!(renew_at(&small, 4).unwrap().is_longer && !renew_at(&small, 0).unwrap().is_longer);
    assert_eq!(said(&large, 4), Some((11, 6)), "what is held by exception lasts as long as was said");
    assert_eq!(said(&bad, 4), Some((11, 6)), "and so does what one in bad standing holds");
    assert_eq!(said(&bad, 10), None);
    let stranger = renew(&books, did(3), me.me(), small.request, LEASE, made);
    assert_eq!(stranger, None, "nobody renews another's");
    // As long as the books have it, from its first moment.
    let expires = made.saturating_add(Duration::from_secs(29));
    apply(&mut books, Event::LockRenewed { bid: small.bid, expires });
    let renewed = |seconds| {
        let now = made.saturating_add(Duration::from_secs(seconds));
        renew(&books, small.requester, me.me(), small.request, LEASE, now)
            .map(|renewal| (renewal.expires.saturating_since(made).as_secs(), renewal.lease.as_secs()))
    };
    assert_eq!(renewed(25), Some((31, 5)), "three leases and the grace");
    assert_eq!(renewed(28), Some((31, 2)));
    let over: BTreeSet<_> =
        expired(&books, made.saturating_add(Duration::from_secs(28))).into_iter().collect();
    assert_eq!(over, BTreeSet::from([large.bid, bad.bid]));
    assert_eq!(next_expiry(&books), Some(large.expires));
}

#[test]
fn a_capability_that_breaks_a_promise_is_refused_by_what_it_lacks() {
    let clock = Arc::new(StillClock::default());
    let me = signer(1, &clock);
    let mut offer = capability(4000, 1000);
    offer.resources.ports = BTreeSet::from([80, 81]);
    offer.resources.slots = [(ExecutorKind::Wasm, 4)].into();
    offer.resources.gpus = BTreeSet::from([GpuId(1)]);
    offer.gpus = [(GpuId(1), Gpu { vendor: "amd".into(), model: "m".into(), memory: MemoryMib(1) })].into();
    let mut books = Books::default();
    apply(&mut books, Event::CapabilityRegistered { capability: offer.clone() });
    let promised = Resources {
        ports: BTreeSet::from([81]),
        slots: [(ExecutorKind::Wasm, 2)].into(),
        gpus: BTreeSet::from([GpuId(1)]),
        ..resources(3000, 500)
    };
    lock(&mut books, &me, did(2), 1, promised.clone());
    let exact = Capability { resources: promised.clone(), ..offer.clone() };
    assert_eq!(register(&books, &exact), Ok(()), "exactly what is promised is enough");
    type Change = fn(&mut Resources);
    let table: [(Change, &str); 6] = [
        (|offer| offer.cpu.0 = 2999, "2.999 cores would be too few"),
        (|offer| offer.memory.0 = 499, "499 MiB memory would be too little"),
        (|offer| offer.gpus.clear(), "GPU 1 is in use"),
        (|offer| offer.ports = BTreeSet::from([80]), "port 81 is in use"),
        (|offer| offer.slots = [(ExecutorKind::Wasm, 1)].into(), "1 wasm slots would be too few"),
        (|offer| offer.slots.clear(), "the limit of wasm slots can be lifted when none is taken"),
    ];
    for (change, missing) in table {
        let mut smaller = offer.clone();
        change(&mut smaller.resources);
        let error = register(&books, &smaller).unwrap_err();
        assert!(error.to_string().ends_with(&format!("jobs that run or may start: {missing}")), "{error}");
    }
    // What runs without a limit is not counted: a limit that began now would let as many run beside it.
    let without = Capability { resources: resources(4000, 1000), gpus: Default::default(), ..offer.clone() };
    let mut unlimited = Books::default();
    apply(&mut unlimited, Event::CapabilityRegistered { capability: without.clone() });
    let limited = Capability {
        resources: Resources { slots: [(ExecutorKind::Wasm, 4)].into(), ..resources(4000, 1000) },
        ..without
    };
    assert_eq!(register(&unlimited, &limited), Ok(()), "nothing is promised");
    lock(&mut unlimited, &me, did(2), 2, resources(1000, 100));
    let error = register(&unlimited, &limited).unwrap_err().to_string();
    assert!(error.ends_with("a limit of wasm slots can begin when nothing is promised"), "{error}");
    let invalid = Capability { gpus: Default::default(), ..offer };
    assert_eq!(register(&books, &invalid), Err(ResizeError::Invalid("GPU 1 is not described".into())));
}

proptest! {
    /// The law, after any sequence of holds, releases and expiries, in any order.
    #[test]
    fn nothing_is_ever_promised_twice_and_everything_comes_back(
        steps in proptest::collection::vec((0u8..4, 1u64..2500, 1u64..600), 1..60),
    ) {
        let clock = Arc::new(StillClock::default());
        let me = signer(1, &clock);
        let mut books = books(4000, 1000);
        let before = books.available().clone();
        for (number, (who, cpu, memory)) in (10u8..).zip(steps) {
            let need = requirement(cpu, memory);
            if who == 0 {
                if let Some(bid) = books.locks().keys().next().copied() {
                    apply(&mut books, Event::LockEnded { bid, end: LockEnd::Released });
                }
            } else if let Ok(resources) = hold(&books, did(10 + who), me.me(), &need) {
                lock(&mut books, &me, did(10 + who), number, resources);
            }
            let promised = books.locked().checked_add(&books.allocated()).unwrap();
            prop_assert_eq!(books.available().checked_add(&promised).unwrap(), before.clone());
        }
        let far = me.now().saturating_add(Duration::from_secs(60));
        for bid in expired(&books, far) {
            apply(&mut books, Event::LockEnded { bid, end: LockEnd::Expired });
        }
        prop_assert_eq!(books.available(), &before);
        prop_assert_eq!(next_expiry(&books), None);
    }
}
