//! Everything that the original design's Node interface promises, on a live node: each method by itself, and what of it
//! people reach from the command line.

use std::time::Duration;

use dms_messages::{
    AllocationMessage, AllocationState, AttemptId, BidRequest, BidRequestId, Contract, CpuMillis,
    Credentials, DeclineReason, DocumentId, Invocation, JobId, MessageContent, Millis, RefusedReason,
    Resources, SignOptions, Signed, Timestamp,
};
use dms_node::allocation::route::RouteError;
use dms_node::commands::CommandError;
use dms_node::interface::{Amounts, InterfaceError, MAX_OWN_LEASE, NodeInterface, SetAvailableCapability};
use dms_storage::MemoryEngine;
use dms_storage::books::AttemptState;
use dms_tests::hand_made::{capability, machine, pod};
use dms_tests::pair::{PROVIDER, World, key, wait_until};
use dms_tests::{Home, example};

const LEASE: Duration = Duration::from_secs(60);

fn request(number: u8) -> BidRequest {
    BidRequest {
        id: BidRequestId::from_random([number; 16]),
        job: JobId::from_random([number; 16]),
        pod: 0,
        requirement: pod(Millis(10_000)).requirement,
        run_time: Millis(10_000),
        max_price: None,
        wanted: 1,
        addresses: vec![],
        credentials: Credentials::default(),
    }
}

fn signed<T: dms_messages::Document>(value: T, number: u8) -> Signed<T> {
    let options = SignOptions {
        network: "test".into(),
        audience: Some(key(PROVIDER).did()),
        issued_at: now(),
        ttl: Duration::from_secs(60),
        id: DocumentId([number; 16]),
    };
    Signed::sign(value, &key(PROVIDER), options).expect("it is small")
}

fn now() -> Timestamp {
    dms_actors::clock::SystemClock::shared().now()
}

/// What the node signs to itself to take its own lock.
fn invocation(bid: &dms_messages::Bid, number: u8) -> Signed<Invocation> {
    let me = key(PROVIDER).did();
    let contract = Contract {
        requester: me,
        provider: me,
        attempt: AttemptId { job: request(number).job, pod: 0, number: 1 },
        request: bid.request,
        bid: bid.id,
        resources: bid.resources.clone(),
        price: bid.price,
        pod: pod(Millis(10_000)),
        orphan_after: Millis(60_000),
    };
    signed(Invocation { bid: bid.id, contract: signed(contract, number) }, number + 100)
}

fn declined<T: std::fmt::Debug>(outcome: Result<T, InterfaceError>) -> DeclineReason {
    match outcome {
        Err(InterfaceError::Command(CommandError::Declined(reason))) => reason,
        other => panic!("{other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, InterfaceError>) -> RefusedReason {
    match outcome {
        Err(InterfaceError::Command(CommandError::Refused(reason))) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_method_of_the_interface_does_what_it_says() {
    let world = World::default();
    let made = world.node(PROVIDER, MemoryEngine::new(), &[]);
    let node = &made.node;

    // Nothing is offered yet.
    assert_eq!(node.get_registered_capability().await.unwrap(), None);
    assert_eq!(node.get_available_capability().await.unwrap(), Resources::default());
    assert_eq!(declined(node.lock_capability(request(1), LEASE).await), DeclineReason::NotOnboarded);
    let free = node.set_available_capability(machine()).await;
    assert!(matches!(free, Err(InterfaceError::Command(CommandError::NotOnboarded))), "{free:?}");

    node.set_registered_capability(capability()).await.unwrap();
    assert_eq!(node.get_registered_capability().await.unwrap(), Some(capability()));
    assert_eq!(node.get_available_capability().await.unwrap(), machine());

    // A lock is a bid to oneself.
    let bid = node.lock_capability(request(1), LEASE).await.unwrap();
    let locks = node.get_locked_capabilities().await.unwrap();
    assert_eq!((locks.len(), locks[0].bid, locks[0].job), (1, bid.value().id, request(1).job));
    assert_eq!(locks[0].resources, bid.value().resources);
    let rest = machine().checked_sub(&bid.value().resources).unwrap();
    assert_eq!(node.get_available_capability().await.unwrap(), rest);
    let bids = node.get_registered_bids(request(1).id).await.unwrap();
    assert_eq!((bids.bids.len(), bids.bids[0].id), (1, bid.value().id));
    let unknown = node.get_registered_bids(request(9).id).await;
    assert!(unknown.is_err() || unknown.is_ok_and(|list| list.bids.is_empty()));

    // The same request twice, none that is sound, and a lease without end are not locked for.
    for (request, lease) in [
        (request(1), LEASE),
        (request(2), Duration::ZERO),
        (request(2), MAX_OWN_LEASE + Duration::from_millis(1)),
        (BidRequest { requirement: Default::default(), ..request(2) }, LEASE),
    ] {
        let reason = declined(node.lock_capability(request, lease).await);
        assert!(matches!(reason, DeclineReason::Unsupported { .. }), "{reason:?}");
    }
    let mut large = request(2);
    large.requirement.cpu = CpuMillis(machine().cpu.0 + 1);
    let reason = declined(node.lock_capability(large, LEASE).await);
    assert!(matches!(reason, DeclineReason::TooBig { .. }), "{reason:?}");

    // What is free is said; what is promised stays on top of it.
    let half = Resources { cpu: CpuMillis(1_000), ..machine() };
    node.set_available_capability(half.clone()).await.unwrap();
    // Who says something of one thing alone changes nothing else.
    let available = Amounts { memory: Some(half.memory), ..Amounts::default() };
    node.ask(SetAvailableCapability { available }).await.unwrap().unwrap();
    assert_eq!(node.get_available_capability().await.unwrap(), half);
    let registered = node.get_registered_capability().await.unwrap().unwrap().resources;
    assert_eq!(registered, half.checked_add(&bid.value().resources).unwrap());
    let less = node.set_registered_capability(dms_messages::Capability::default()).await;
    assert!(matches!(less, Err(InterfaceError::Command(CommandError::InvalidCapability(_)))), "{less:?}");

    // The lock becomes an allocation, once.
    let other = dms_messages::Bid { id: dms_messages::BidId::from_random([9; 16]), ..bid.value().clone() };
    assert_eq!(refused(node.start_allocation(invocation(&other, 1)).await), RefusedReason::UnknownBid);
    let mut greedy = bid.value().clone();
    greedy.resources.cpu = CpuMillis(greedy.resources.cpu.0 + 1);
    let reason = refused(node.start_allocation(invocation(&greedy, 1)).await);
    assert!(matches!(reason, RefusedReason::ContractDiffers { .. }), "{reason:?}");
    let accepted = node.start_allocation(invocation(bid.value(), 1)).await.unwrap();
    let again = node.start_allocation(invocation(bid.value(), 1)).await.unwrap();
    assert_eq!(accepted.value().allocation, again.value().allocation, "one allocation");
    assert!(node.get_locked_capabilities().await.unwrap().is_empty());
    let view = node.get_allocation(accepted.value().allocation).await.unwrap();
    assert_eq!((view.attempt.job, view.resources), (request(1).job, Some(bid.value().resources.clone())));
    let unknown = node.get_allocation(dms_messages::AllocationId::from_random([3; 16])).await;
    assert!(matches!(unknown, Err(InterfaceError::Command(CommandError::UnknownId { .. }))), "{unknown:?}");

    // It is asked, and spoken to.
    let id = accepted.value().allocation;
    let checked = node.check_allocation_status(id).await.unwrap();
    assert_eq!((checked.provider, checked.report.allocation), (key(PROVIDER).did(), id));
    let content = MessageContent::new("text/plain", "hello").expect("it is short");
    let message = AllocationMessage { content, wants_reply: false };
    // The program of this test takes none.
    let refusal = node.route_to_allocation(id, message.clone()).await;
    assert!(matches!(refusal, Err(InterfaceError::Route(RouteError::Refused { .. }))), "{refusal:?}");
    let nobody = dms_messages::AllocationId::from_random([3; 16]);
    for outcome in [
        node.check_allocation_status(nobody).await.map(drop),
        node.route_to_allocation(nobody, message).await.map(drop),
    ] {
        assert!(matches!(outcome, Err(InterfaceError::Route(_))), "{outcome:?}");
    }

    // What it chooses by, and how fast it is.
    assert_eq!(node.get_preferences().await.unwrap().text, "");
    let text = "[provider]\nmax_load = 900\n".to_owned();
    assert!(!node.set_preferences(text.clone()).await.unwrap().is_empty());
    assert_eq!(node.get_preferences().await.unwrap().text, text);
    let broken = node.set_preferences("[provider]\nmax_lod = 900\n".to_owned()).await;
    let is_refused = matches!(broken, Err(InterfaceError::Command(CommandError::InvalidPreferences(_))));
    assert!(is_refused, "{broken:?}");
    assert_eq!(node.get_preferences().await.unwrap().text, text, "as it was");
    let measured = node.benchmark_capability().await.unwrap();
    let registered_now = node.get_registered_capability().await.unwrap().unwrap();
    assert_eq!((measured.before, registered_now.benchmark), (None, Some(measured.after)));

    // No job of the node's asked for it, so it ends by itself, and all is as before.
    made.executor.may_end.send_replace(true);
    wait_until("the allocation to end", async || {
        let view = node.get_allocation(accepted.value().allocation).await.ok()?;
        let is_over = |state: &AllocationState| state.is_terminal();
        matches!(&view.state, AttemptState::Observed { state } if is_over(state)).then_some(())
    })
    .await;
    assert_eq!(node.get_available_capability().await.unwrap(), registered);
    made.stop().await;
}

/// The original design's words, each of which a reader must be able to find.
const ORIGINAL: [&str; 25] = [
    "Node_interface",
    "getAllocation",
    "setRegisteredCapability",
    "getRegisteredCapability",
    "setAvailableCapability",
    "getAvailableCapability",
    "lockCapability",
    "getLockedCapabilities",
    "getRegisteredBids",
    "startAllocation",
    "routeToAllocation",
    "checkAllocationStatus",
    "setPreferences",
    "getPreferences",
    "Vertex_interface",
    "benchmarkCapability",
    "NodeID",
    "AllocationID",
    "CapabilityComparator",
    "JobIndex",
    "BidRequestsSentIndex",
    "BidRequestsReceivedIndex",
    "BidsSentIndex",
    "BidsReceivedIndex",
    "LocalDatabaseCollector",
];

#[test]
fn each_word_of_the_original_design_is_found_by_its_name() {
    let sources = dms_tests::sources::sources();
    let is_found = |word: &&&str| {
        let alias = format!("#[doc(alias = \"{word}\")]");
        sources.iter().any(|(path, text)| !path.starts_with("tests/") && text.contains(&alias))
    };
    let missing: Vec<_> = ORIGINAL.iter().filter(|word| !is_found(word)).collect();
    assert!(missing.is_empty(), "nothing is called {missing:?} to whoever searches the documentation");
}

#[test]
fn capacity_is_locked_by_hand_and_a_job_started_on_it() {
    let home = Home::new();
    home.onboard("2", "1GiB");
    let node = home.start(&["--no-mdns"]);
    let job = example("jobs/wordcount.yaml");
    let locked = home.json(&["capability", "lock", &job, "--lease", "5m"]);
    let bid = locked["bid"].as_str().unwrap();
    let locks = home.dms(&["capability", "locks"]);
    for column in ["BID", "JOB", "POD", "LOCKED", "LEASE LEFT"] {
        assert!(locks.stdout.contains(column), "{locks}");
    }
    let listed = home.json(&["capability", "locks"]);
    assert_eq!((&listed[0]["bid"], &listed[0]["job"]), (&locked["bid"], &locked["job"]));

    // Live: what is free is said while a lock holds.
    let shown = home.dms(&["capability", "free", "--cpu", "1", "--memory", "512MiB"]);
    assert_eq!(shown.code(), Some(0), "{shown}");
    let books = home.json(&["capability"]);
    assert_eq!((&books["available"]["cpu"], &books["available"]["memory"]), (&1000.into(), &512.into()));

    // More than the machine has is not offered, and nothing changes.
    let too_much = home.dms(&["capability", "free", "--cpu", "100000"]);
    assert_eq!(too_much.code(), Some(2), "{too_much}");
    assert!(too_much.stderr.contains("this machine has"), "{too_much}");
    assert_eq!(home.json(&["capability"])["available"], books["available"]);

    // A job that wants more than is locked is not begun, nor put out to bid; the lock stays.
    let text = std::fs::read_to_string(&job).unwrap().replace("timeout: 60s", "timeout: 2h");
    let text = text.replace("../programs/", &example("programs/"));
    let longer = home.path().join("longer.yaml");
    std::fs::write(&longer, text.replace("input: texts", &format!("input: {}", example("jobs/texts"))))
        .unwrap();
    let refused = home.dms(&["alloc", "start", bid, longer.to_str().unwrap()]);
    assert_ne!(refused.code(), Some(0), "{refused}");
    assert!(refused.stderr.contains("run time"), "{refused}");
    assert_eq!(home.json(&["job", "ls"]), serde_json::json!([]), "no job was taken");

    let started = home.json(&["alloc", "start", bid, &job]);
    assert_eq!(started["job"], locked["job"]);
    let view = node.wait_for_job(started["job"].as_str().unwrap(), &["succeeded", "failed"]);
    assert_eq!((&view["phase"], &view["exit_code"]), (&"succeeded".into(), &0.into()), "{view}");
    let output = home.dms(&["job", "logs", started["job"].as_str().unwrap()]);
    assert!(!output.stdout.is_empty(), "{output}");
    node.wait_until_all_is_free();

    // A lock that is gone starts nothing, and another is let go by hand.
    let gone = home.dms(&["alloc", "start", bid, &job]);
    assert_eq!(gone.code(), Some(1), "{gone}");
    assert!(gone.stderr.contains("no lock"), "{gone}");
    let second = home.json(&["capability", "lock", &job]);
    let unlocked = home.dms(&["capability", "unlock", &second["bid"].as_str().unwrap()[..12]]);
    assert_eq!(unlocked.code(), Some(0), "{unlocked}");
    node.wait_until_all_is_free();
    let too_long = home.dms(&["capability", "lock", &job, "--lease", "1h"]);
    assert_ne!(too_long.code(), Some(0), "{too_long}");
    assert!(too_long.stderr.contains("600 s"), "{too_long}");
}
