//! Each reason to decline, and a fit.

use std::collections::BTreeSet;

use dms_messages::{PriceList, Timestamp};
use dms_storage::{Entry, Event};

use super::*;
use crate::testing::*;

#[test]
fn each_reason_to_decline_is_found_and_a_fit_is_offered_at_its_price() {
    let mut offer = capability(4000, 1024);
    offer.location = Some("ch".into());
    offer.labels.insert("disk".into(), "ssd".into());
    offer.cpu_info.architecture = "x86_64".into();
    offer.cpu_info.clock_mhz = 3000;
    offer.prices = PriceList { core_hour: Price(100), ..PriceList::default() };
    let mut books = Books::default();
    books
        .apply(&Entry { at: Timestamp(1), event: Event::CapabilityRegistered { capability: offer } })
        .unwrap();
    let ask = |change: &dyn Fn(&mut BidRequest)| {
        let mut request = request(&job());
        change(&mut request);
        decide(&books, &Room::UNBOUNDED, did(2), did(1), &request)
    };
    let fit = ask(&|_| {}).unwrap();
    assert_eq!((fit.price, &fit.resources), (Price(100), &resources(1000, 64)));
    assert_eq!(fit.score, 750, "a quarter of the cores is the tightest dimension");
    assert!(ask(&|r| r.max_price = Some(Price(100))).is_ok());
    assert!(
        ask(&|r| {
            r.requirement.architecture = Some("x86_64".into());
            r.requirement.min_clock_mhz = 3000;
        })
        .is_ok()
    );
    type Case<'a> = (&'a dyn Fn(&mut BidRequest), DeclineReason);
    let table: [Case<'_>; 8] = [
        (
            &|r| r.requirement.architecture = Some("aarch64".into()),
            DeclineReason::Architecture { had: "x86_64".into() },
        ),
        (&|r| r.requirement.min_clock_mhz = 3001, DeclineReason::Clock { needed: 3001, had: 3000 }),
        (&|r| r.requirement.min_score = 1, DeclineReason::Score { needed: 1, had: 0 }),
        (
            &|r| r.requirement.ports = 1,
            DeclineReason::TooBig {
                shortfalls: vec![dms_messages::Shortfall {
                    dimension: Dimension::Ports,
                    needed: 1,
                    had: 0,
                    is_owners: false,
                }],
            },
        ),
        (&|r| r.max_price = Some(Price(99)), DeclineReason::TooExpensive { price: Price(100) }),
        (&|r| r.requirement.locations = BTreeSet::from(["us".into()]), DeclineReason::Location),
        (
            &|r| drop(r.requirement.labels.insert("disk".into(), "hdd".into())),
            DeclineReason::Label { key: "disk".into() },
        ),
        (
            &|r| drop(r.requirement.labels.insert("gpu".into(), "yes".into())),
            DeclineReason::Label { key: "gpu".into() },
        ),
    ];
    for (change, reason) in table {
        assert_eq!(ask(change), Err(reason));
    }
    assert!(matches!(ask(&|r| r.requirement.memory.0 = 1025), Err(DeclineReason::TooBig { .. })));
    assert!(ask(&|r| r.requirement.locations = BTreeSet::from(["ch".into(), "us".into()])).is_ok());
    let nobodys = decide(&Books::default(), &Room::UNBOUNDED, did(2), did(1), &request(&job()));
    assert_eq!(nobodys, Err(DeclineReason::NotOnboarded));
    let full = Room { memory: dms_messages::MemoryMib(63), ..Room::UNBOUNDED };
    let busy = decide(&books, &full, did(2), did(1), &request(&job())).unwrap_err();
    assert!(decide(&books, &full, did(1), did(1), &request(&job())).is_ok(), "the owner's own work");
    assert!(busy.to_string().ends_with("have 63 MiB while the machine's owner uses it"), "{busy}");
}
