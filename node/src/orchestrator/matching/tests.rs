//! Each reason to decline, and a fit.

use std::collections::BTreeSet;

use dms_messages::{GpuRequirement, PriceList, Timestamp};
use dms_storage::{Entry, Event};

use super::*;
use crate::testing::*;

fn terms(preferences: &Preferences) -> Terms<'_> {
    Terms { preferences, reputation: Reputation::default(), room: &Room::UNBOUNDED }
}

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
        decide(&books, did(2), did(1), &request, terms(&Preferences::default()))
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
    let nobody = decide(&Books::default(), did(2), did(1), &request(&job()), terms(&Preferences::default()));
    assert_eq!(nobody, Err(DeclineReason::NotOnboarded));
    let full = Room { memory: dms_messages::MemoryMib(63), ..Room::UNBOUNDED };
    let preferences = Preferences::default();
    let terms = Terms { room: &full, ..terms(&preferences) };
    let busy = decide(&books, did(2), did(1), &request(&job()), terms).unwrap_err();
    assert!(decide(&books, did(1), did(1), &request(&job()), terms).is_ok(), "the owner's own work");
    assert!(busy.to_string().ends_with("have 63 MiB while the machine's owner uses it"), "{busy}");
}

/// Asks a machine of four cores that costs 100 an hour each, of which `taken` are taken, by these preferences.
fn ask(
    preferences: &str,
    taken: u64,
    requester: u8,
    reputation: Reputation,
    change: impl FnOnce(&mut BidRequest),
) -> Result<Offer, DeclineReason> {
    let mut offer = capability(4000, 1024);
    offer.prices = PriceList { core_hour: Price(100), ..PriceList::default() };
    let mut books = Books::default();
    apply(&mut books, Event::CapabilityRegistered { capability: offer });
    if taken > 0 {
        let clock = std::sync::Arc::new(StillClock::default());
        lock(&mut books, &signer(1, &clock), did(9), 3, resources(taken, 0));
    }
    let mut request = request(&job());
    change(&mut request);
    let preferences = Preferences::parse(preferences, &Default::default()).unwrap();
    decide(
        &books,
        did(requester),
        did(1),
        &request,
        Terms { preferences: &preferences, reputation, room: &Room::UNBOUNDED },
    )
}

#[test]
fn what_can_never_be_cheaper_is_told_as_the_lowest_price_and_what_is_dear_now_as_that() {
    let rising = "[pricing.full]\noverall = 2000\n";
    let minimum = "[pricing]\nminimum = \"0.0002\"\n[pricing.full]\ncpu = 2000\n";
    let limit = |price| move |request: &mut BidRequest| request.max_price = Some(Price(price));
    let ask = |preferences, taken, price| ask(preferences, taken, 2, Reputation::default(), limit(price));
    assert_eq!(ask(rising, 0, 100).unwrap().price, Price(100));
    assert_eq!(ask(rising, 2000, 150).map(|offer| (offer.price, offer.load)), Ok((Price(150), 500)));
    let dear = DeclineReason::DearNow { price: Price(150), lowest: Price(100) };
    assert_eq!(ask(rising, 2000, 149), Err(dear.clone()));
    assert_eq!(dear.retry(), dms_messages::Retry::Later);
    // Whatever becomes free, it never costs less than that: for good, however dear it is now.
    let too_expensive = DeclineReason::TooExpensive { price: Price(100) };
    assert_eq!(ask(rising, 2000, 99), Err(too_expensive.clone()));
    assert_eq!(too_expensive.retry(), dms_messages::Retry::Final);
    assert_eq!(ask(minimum, 2000, 199), Err(DeclineReason::TooExpensive { price: Price(200) }));
    assert_eq!(ask(minimum, 2000, 200).unwrap().price, Price(200));
    // Nothing is taken that would be enough: that is told, and not the price.
    assert!(matches!(ask(rising, 3500, 100), Err(DeclineReason::Busy { .. })));
}

#[test]
fn an_expression_sees_what_the_requester_wants() {
    let rule = |cel: &str| format!("[[provider.expression]]\nname = \"own\"\ncel = \"{cel}\"");
    let ask = |cel: &str, gpus: usize, ports: u16| {
        ask(&rule(cel), 0, 2, Reputation::default(), |request| {
            request.requirement.gpus = vec![GpuRequirement::default(); gpus];
            request.requirement.ports = ports;
        })
    };
    let is_by_rule =
        |reason: DeclineReason| matches!(reason, DeclineReason::Preference { rule, .. } if rule == "own");
    assert!(ask("gpus == 0 && ports == 0", 0, 0).is_ok());
    assert!(ask("gpus == 0", 1, 0).is_err_and(is_by_rule));
    assert!(ask("ports < 3", 0, 3).is_err_and(is_by_rule));
    // Let through by the rule, it is declined for what the machine has not.
    assert!(!ask("gpus == 2 && ports == 3", 2, 3).is_err_and(is_by_rule));
}

/// The rows of the conformance list's "Bid gate", in its words, as far as they are decided here. The others are decided
/// before: a node does not hear its own broadcast (`handlers/bid_request`), what cannot be parsed is refused
/// (`tests/tests/malicious_inputs.rs`), and a repeat has no second effect (`tests/tests/forged_words.rs`).
mod nunet_bid_gate {
    use dms_messages::Retry;

    use super::*;

    #[test]
    fn not_onboarded_excluded_executor_missing_not_allowed_contract_and_own_request() {
        let declined = |rule: &str, retry| DeclineReason::Preference { rule: rule.to_owned(), retry };
        let good = Reputation { well: 9, badly: 0 };
        let stranger = Reputation::default();
        let exclude = format!("[provider]\nexclude = [\"{}\"]", did(2));
        let pin = format!("[provider]\npin = [\"{}\"]", did(3));
        type Row<'a> = (&'a str, &'a str, u8, Reputation, Result<(), DeclineReason>);
        let table: [Row<'_>; 13] = [
            ("first request answered", "", 2, stranger, Ok(())),
            ("excluded peer", &exclude, 2, stranger, Err(declined("exclude", Retry::Final))),
            ("another than the excluded peer", &exclude, 3, stranger, Ok(())),
            ("peer that is not pinned", &pin, 2, stranger, Err(declined("pin", Retry::Final))),
            ("pinned peer", &pin, 3, stranger, Ok(())),
            // Nothing runs with privileges here; what a pod may have at most is what its owner limits.
            (
                "privileged not allowed",
                "[provider.limit]\ncpu = \"0.5\"",
                2,
                stranger,
                Err(declined("limit", Retry::Final)),
            ),
            ("allowed", "[provider.limit]\ncpu = \"1\"", 2, stranger, Ok(())),
            // Every job has a contract; what can be required is that earlier ones were kept.
            (
                "contract required and missing",
                "[provider]\nmin_reputation = 600",
                2,
                stranger,
                Err(declined("reputation", Retry::Later)),
            ),
            ("contract required and kept", "[provider]\nmin_reputation = 600", 2, good, Ok(())),
            ("contract rule waived for own request", "[provider]\nmin_reputation = 600", 1, stranger, Ok(())),
            (
                "too much of the machine taken",
                "[provider]\nmax_load = 499",
                2,
                stranger,
                Err(declined("load", Retry::Later)),
            ),
            (
                "as much as may be taken, with what is asked for",
                "[provider]\nmax_load = 500",
                2,
                stranger,
                Ok(()),
            ),
            (
                "an expression that does not hold",
                "[[provider.expression]]\nname = \"worth-it\"\ncel = \"price >= 1.0\"",
                2,
                stranger,
                Err(declined("worth-it", Retry::Later)),
            ),
        ];
        for (row, preferences, requester, reputation, expected) in table {
            let found = ask(preferences, 1000, requester, reputation, |_| {});
            assert_eq!(found.map(drop), expected, "{row}");
        }
        let nobody =
            decide(&Books::default(), did(2), did(1), &request(&job()), terms(&Preferences::default()));
        assert_eq!(nobody, Err(DeclineReason::NotOnboarded), "not onboarded");
        let mut bare = capability(4000, 1024);
        bare.executors.clear();
        let mut books = Books::default();
        apply(&mut books, Event::CapabilityRegistered { capability: bare });
        let executor = decide(&books, did(2), did(1), &request(&job()), terms(&Preferences::default()));
        assert!(matches!(executor, Err(DeclineReason::NoExecutor { .. })), "executor missing");
    }

    #[test]
    fn what_a_job_asks_for_is_judged_by_the_providers_labels_and_executors() {
        let table = [
            ("[provider]\nexecutors = [\"wasm\"]", true),
            ("[provider.labels]\nreject = { tenant = \"x\" }", true),
            ("[provider.labels]\nrequire = { tenant = \"x\" }", false),
            (
                "[[provider.expression]]\nname = \"small\"\ncel = \"needed_cores <= 1.0 && memory_mib == 64\"",
                true,
            ),
            ("[[provider.expression]]\nname = \"short\"\ncel = \"run_time_s < 60\"", false),
        ];
        for (preferences, is_taken) in table {
            let found = ask(preferences, 0, 2, Reputation::default(), |_| {});
            assert_eq!(found.is_ok(), is_taken, "{preferences}: {found:?}");
        }
    }
}
