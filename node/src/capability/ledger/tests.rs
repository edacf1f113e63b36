//! What may be held, taken and registered, as tables; the law of the books under any sequence.

use std::collections::BTreeSet;
use std::sync::Arc;

use dms_messages::{CpuMillis, Dimension, Gpu, MemoryMib, Price};
use dms_storage::LockEnd;
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
    apply(&mut books, dms_storage::Event::CapabilityRegistered { capability: offer });
    let need = |demands: &[(Option<&str>, u64)]| {
        let mut need = requirement(1, 1);
        need.gpus = demands
            .iter()
            .map(|(vendor, memory)| GpuRequirement {
                vendor: vendor.map(Into::into),
                memory: MemoryMib(*memory),
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
}

#[test]
fn a_capability_that_breaks_a_promise_is_not_registered() {
    let clock = Arc::new(StillClock::default());
    let me = signer(1, &clock);
    let mut books = books(4000, 1000);
    lock(&mut books, &me, did(2), 1, resources(3000, 500));
    assert_eq!(register(&books, &capability(3000, 500)), Ok(()));
    assert!(register(&books, &capability(2999, 500)).unwrap_err().contains("promised"));
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
                    apply(&mut books, dms_storage::Event::LockEnded { bid, end: LockEnd::Released });
                }
            } else if let Ok(resources) = hold(&books, did(10 + who), me.me(), &need) {
                lock(&mut books, &me, did(10 + who), number, resources);
            }
            let promised = books.locked().checked_add(&books.allocated()).unwrap();
            prop_assert_eq!(books.available().checked_add(&promised).unwrap(), before.clone());
        }
        let far = me.now().saturating_add(Duration::from_secs(60));
        for bid in expired(&books, far) {
            apply(&mut books, dms_storage::Event::LockEnded { bid, end: LockEnd::Expired });
        }
        prop_assert_eq!(books.available(), &before);
        prop_assert_eq!(next_expiry(&books), None);
    }
}
