//! A requester made by hand speaks to a real provider: what it says twice, late, for somebody else or about
//! somebody else's things has no effect, and every lock comes back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use dms_messages::{
    AttemptId, Bid, BidRequest, BidRequestId, Cancel, Contract, CpuMillis, DeclineReason, DiskMib,
    Invocation, JobId, MemoryMib, Millis, Pod, Price, RefusedReason, Release, ReleaseCause, Signed,
    StopCause,
};
use dms_tests::ear::Said;
use dms_tests::requester::Requester;
use dms_tests::{Home, hand_made};

fn pod() -> Pod {
    hand_made::pod(Millis(10_000))
}

fn request(number: u8) -> BidRequest {
    BidRequest {
        id: BidRequestId::from_random([number; 16]),
        job: JobId::from_random([number; 16]),
        pod: 0,
        requirement: pod().requirement,
        run_time: Millis(10_000),
        max_price: None,
        wanted: 1,
        addresses: vec![],
        credentials: Default::default(),
    }
}

fn contract(requester: &Requester, bid: &Bid, number: u8, attempt: u32) -> Contract {
    Contract {
        requester: requester.keypair.did(),
        provider: requester.provider,
        attempt: AttemptId { job: JobId::from_random([number; 16]), pod: 0, number: attempt },
        request: bid.request,
        bid: bid.id,
        resources: bid.resources.clone(),
        price: bid.price,
        pod: pod(),
        orphan_after: Millis(60_000),
    }
}

fn invocation(requester: &Requester, terms: Contract) -> Signed<Invocation> {
    let bid = terms.bid;
    requester.sign(Invocation { bid, contract: requester.sign(terms) })
}

fn provider(home: &Home, lease: &str) -> String {
    std::fs::write(home.path().join("config.toml"), format!("lease = \"{lease}\"\n")).unwrap();
    home.onboard("2", "1GiB");
    home.text().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_nobody_invokes_comes_back_when_its_lease_ends() {
    let home = Home::new();
    provider(&home, "500ms");
    let node = home.start(&["--open"]);
    let mut requester = Requester::new(1, &node).await;
    requester.tell(requester.sign(request(1))).await;
    let bid = requester.bid().await.into_value();
    tokio::task::block_in_place(|| node.wait_until_all_is_free());
    requester.tell(invocation(&requester, contract(&requester, &bid, 1, 1))).await;
    assert_eq!(requester.refusal().await, RefusedReason::LeaseEnded);
    requester.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_said_twice_have_one_effect() {
    let home = Home::new();
    provider(&home, "30s");
    let node = home.start(&["--open"]);
    let mut requester = Requester::new(1, &node).await;
    let asked = requester.sign(request(1));
    requester.tell(asked.clone()).await;
    let bid = requester.bid().await;
    requester.tell(asked).await;
    assert_eq!(requester.bid().await.value().id, bid.value().id, "the same bid, not a second lock");
    let books = home.json(&["capability"]);
    assert_eq!(books["locks"].as_array().map(Vec::len), Some(1), "{books}");
    let expires = books["locks"][0]["expires"].as_u64();

    // Signed anew it is the same request still: its lock holds longer, and the bid says for how long.
    requester.tell(requester.sign(request(1))).await;
    let again = requester.bid().await.into_value();
    assert_eq!(
        (again.id, &again.resources, again.price),
        (bid.value().id, &bid.value().resources, bid.value().price)
    );
    assert_eq!(again.lease, Millis(30_000), "a whole lease from now on");
    let books = home.json(&["capability"]);
    assert_eq!(books["locks"].as_array().map(Vec::len), Some(1), "{books}");
    assert!(books["locks"][0]["expires"].as_u64() >= expires && expires.is_some(), "{books}");

    let invocation = invocation(&requester, contract(&requester, bid.value(), 1, 1));
    requester.tell(invocation.clone()).await;
    let first = requester.accepted().await;
    requester.tell(invocation).await;
    assert_eq!(requester.accepted().await.allocation, first.allocation, "not started twice");
    requester.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_has_the_id_of_anothers_is_declined_and_disturbs_nothing() {
    let home = Home::new();
    provider(&home, "30s");
    let node = home.start(&["--open"]);
    let mut owner = Requester::new(1, &node).await;
    let mut thief = Requester::new(2, &node).await;
    owner.tell(owner.sign(request(1))).await;
    let bid = owner.bid().await.into_value();
    // It would run for no time at all, and so make the owner's invocation differ from what was asked.
    thief.tell(thief.sign(BidRequest { run_time: Millis(1), ..request(1) })).await;
    let decline = |answer| if let Said::Decline(decline) = answer { Some(decline) } else { None };
    let declined = thief.hear(decline).await;
    assert!(matches!(declined.reason, DeclineReason::Unsupported { .. }), "{declined:?}");
    assert_eq!(home.json(&["capability"])["locks"].as_array().map(Vec::len), Some(1));
    owner.tell(invocation(&owner, contract(&owner, &bid, 1, 1))).await;
    owner.accepted().await;
    owner.stop().await;
    thief.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_is_resized_but_not_below_what_is_promised() {
    let home = Home::new();
    provider(&home, "30s");
    let node = home.start(&["--open"]);
    let run = |flags: &[&str]| home.dms(&[&["onboard", "--yes", "--skip-benchmark"], flags].concat());
    assert_eq!(run(&["--ports", "8000-8003", "--slots", "2"]).code(), Some(0));
    let mut requester = Requester::new(1, &node).await;
    let mut asked = request(1);
    asked.requirement.ports = 2;
    requester.tell(requester.sign(asked)).await;
    let bid = requester.bid().await.into_value();
    assert_eq!(bid.resources.ports, [8000, 8001].into(), "ports by name");
    for (flags, reason) in [
        (["--cpu", "0.4"], "0.4 cores would be too few"),
        (["--memory", "63MiB"], "63 MiB memory would be too little"),
        (["--ports", "8001-8003"], "port 8000 is in use"),
        (["--slots", "none"], "the limit of wasm slots can be lifted when none is taken"),
    ] {
        let refused = run(&flags);
        assert!(refused.code() != Some(0) && refused.stderr.contains(reason), "{refused}");
    }
    let smaller = run(&["--cpu", "1", "--memory", "64MiB", "--ports", "8000-8001", "--slots", "1"]);
    assert_eq!(smaller.code(), Some(0), "{smaller}");
    let books = home.json(&["capability"]);
    assert_eq!(books["registered"]["resources"]["cpu"], 1000, "{books}");
    assert_eq!(books["available"]["cpu"], 500, "{books}");
    assert!(books["available"]["ports"].is_null() && books["available"]["slots"].is_null(), "{books}");
    requester.tell(Release { bid: bid.id, cause: ReleaseCause::NotChosen }).await;
    tokio::task::block_in_place(|| node.wait_until_all_is_free());
    requester.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_releases_or_cancels_what_is_anothers() {
    let home = Home::new();
    provider(&home, "30s");
    let node = home.start(&["--open"]);
    let mut owner = Requester::new(1, &node).await;
    let mut thief = Requester::new(2, &node).await;
    owner.tell(owner.sign(request(1))).await;
    let bid = owner.bid().await.into_value();

    let stolen = Contract { requester: thief.keypair.did(), ..contract(&owner, &bid, 1, 1) };
    thief.tell(invocation(&thief, stolen)).await;
    assert_eq!(thief.refusal().await, RefusedReason::NotYours);
    // The owner's own contract, in the thief's envelope.
    let signed = owner.sign(contract(&owner, &bid, 1, 1));
    thief.tell(thief.sign(Invocation { bid: bid.id, contract: signed })).await;
    assert_eq!(thief.refusal().await, RefusedReason::NotYours);
    thief.tell(Release { bid: bid.id, cause: ReleaseCause::NotChosen }).await;

    // Cheaper than agreed.
    let cheap = Contract { price: Price(0), resources: pod_resources(2), ..contract(&owner, &bid, 1, 1) };
    owner.tell(invocation(&owner, cheap)).await;
    assert!(matches!(owner.refusal().await, RefusedReason::ContractDiffers { .. }));

    // After all that the lock still holds for its owner.
    owner.tell(invocation(&owner, contract(&owner, &bid, 1, 1))).await;
    let accepted = owner.accepted().await;
    thief.tell(Cancel { attempt: accepted.attempt, cause: StopCause::Cancelled }).await;
    assert_eq!(thief.refusal().await, RefusedReason::UnknownAttempt, "another's attempt is not even known");

    owner.tell(Cancel { attempt: accepted.attempt, cause: StopCause::Cancelled }).await;
    let end = |answer| match answer {
        Said::Status(status) if status.state.is_terminal() => Some(status),
        _ => None,
    };
    assert_eq!(owner.hear(end).await.allocation, accepted.allocation);
    tokio::task::block_in_place(|| node.wait_until_all_is_free());
    owner.stop().await;
    thief.stop().await;
}

fn pod_resources(cpu: u64) -> dms_messages::Resources {
    dms_messages::Resources {
        cpu: CpuMillis(cpu),
        memory: MemoryMib(64),
        disk: DiskMib(1),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_requester_cannot_lock_the_machine_by_asking_and_never_invoking() {
    let home = Home::new();
    provider(&home, "30s");
    let node = home.start(&["--open"]);
    let mut greedy = Requester::new(1, &node).await;
    let mut reasons = Vec::new();
    for number in 1..=4 {
        greedy.tell(greedy.sign(request(number))).await;
        let answer = |answer| match answer {
            Said::Bid(_) => Some(None),
            Said::Decline(decline) => Some(Some(decline.reason)),
            _ => None,
        };
        reasons.push(greedy.hear(answer).await);
    }
    // Half a core each of two cores: the first is free of the rule, a second would be half of the machine.
    let shares: Vec<bool> = reasons.iter().map(|reason| *reason == Some(DeclineReason::LockShare)).collect();
    assert_eq!(shares, [false, true, true, true], "{reasons:?}");
    let mut other = Requester::new(2, &node).await;
    other.tell(other.sign(request(9))).await;
    assert_eq!(other.bid().await.value().request, request(9).id, "others are still served");
    greedy.stop().await;
    other.stop().await;
}
