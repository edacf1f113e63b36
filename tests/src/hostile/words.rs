//! One valid example of every word that travels, of every thing that is gossiped or lies in the directory, and of what
//! a person carries: what damage starts from.

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::*;

use super::{issuer, reader, sign};
use crate::hand_made;

/// An attempt.
pub fn attempt() -> AttemptId {
    AttemptId { job: JobId::from_random([1; 16]), pod: 0, number: 2 }
}

/// What a small pod needs.
pub fn requirement() -> Requirement {
    let gpu =
        GpuRequirement { vendor: Some("nvidia".into()), memory: MemoryMib(8192), model: Some("A100".into()) };
    Requirement {
        cpu: CpuMillis(1000),
        memory: MemoryMib(64),
        disk: DiskMib(16),
        gpus: vec![gpu],
        locations: BTreeSet::from(["CH".to_owned()]),
        labels: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]),
        ports: 2,
        architecture: Some("x86_64".into()),
        ..Requirement::default()
    }
}

/// What is granted to it.
pub fn resources() -> Resources {
    Resources {
        cpu: CpuMillis(1000),
        memory: MemoryMib(64),
        disk: DiskMib(16),
        gpus: BTreeSet::from([GpuId(1)]),
        ports: BTreeSet::from([8080, 8081]),
        slots: BTreeMap::from([(ExecutorKind::Wasm, 1)]),
    }
}

/// A node's introduction.
pub fn card() -> NodeCard {
    let did = issuer().did();
    NodeCard { uuid: NodeUuid::from_random([4; 16]), did, peer_id: did.peer_id(), created: Timestamp(1) }
}

/// An offer.
pub fn advert() -> Advert {
    Advert {
        card: ContentId::of_bytes(b"card"),
        addresses: vec!["/ip4/10.0.0.1/tcp/1".into(), "/ip4/10.0.0.1/udp/1/quic-v1".into()],
        executors: BTreeSet::from([ExecutorKind::Wasm]),
        available: resources(),
        prices: PriceList { core_hour: Price(250_000), ..PriceList::default() },
        sequence: 9,
        credentials: credentials(),
        profile: Default::default(),
    }
}

/// How a node stands.
pub fn node_status() -> NodeStatus {
    NodeStatus {
        role: NodeRole::Provider,
        mode: ServingMode::Serving,
        available: ResourceSummary::from(&resources()),
        allocations: 1,
        locks: 2,
        jobs: 3,
        peers: 4,
        sequence: 9,
    }
}

/// A call for bids.
pub fn bid_request() -> BidRequest {
    BidRequest {
        id: BidRequestId::from_random([2; 16]),
        job: attempt().job,
        pod: 0,
        requirement: requirement(),
        run_time: Millis(60_000),
        max_price: Some(Price(500_000)),
        wanted: 3,
        addresses: vec!["/ip4/10.0.0.2/tcp/1".into()],
        credentials: credentials(),
    }
}

/// A promise of capacity.
pub fn bid() -> Bid {
    Bid {
        id: BidId::from_random([3; 16]),
        request: BidRequestId::from_random([2; 16]),
        resources: resources(),
        price: Price(250_000),
        score: 900,
        lease: Millis(10_000),
        profile: Default::default(),
    }
}

/// The terms of an attempt.
pub fn contract() -> Contract {
    Contract {
        requester: issuer().did(),
        provider: reader(),
        attempt: attempt(),
        request: BidRequestId::from_random([2; 16]),
        bid: bid().id,
        resources: resources(),
        price: Price(250_000),
        pod: hand_made::pod(Millis(60_000)),
        orphan_after: Millis(60_000),
    }
}

/// A report with its result.
pub fn allocation_status() -> AllocationStatus {
    AllocationStatus {
        attempt: attempt(),
        allocation: AllocationId::from_random([6; 16]),
        task: 0,
        state: AllocationState::Failed { cause: FailureCause::Trapped { text: "unreachable".into() } },
        result: Some(AllocationResult {
            stdout: ContentId::of_bytes(b"out"),
            stderr: ContentId::of_bytes(b""),
            output: Some(ContentId::of_bytes(b"tree")),
            wall: Millis(12),
            peak_memory: MemoryMib(1),
            output_dropped: 0,
        }),
    }
}

/// What an issuer lets.
pub fn token() -> Token {
    Token {
        abilities: Role::Member.abilities(),
        topics: Some(BTreeSet::from(["advert".to_owned()])),
        depth: 2,
        parent: Some(ContentId::of_bytes(b"parent")),
    }
}

/// What is shown when a link opens.
pub fn credentials() -> Credentials {
    Credentials::of([&sign(token()), &sign(Token { topics: None, parent: None, ..token() })])
}

/// One line of text that lets a machine in.
pub fn invite() -> Invite {
    Invite {
        inviter: issuer().did(),
        network: super::NETWORK.into(),
        addresses: vec!["/ip4/10.0.0.1/tcp/4001".into()],
        secret: InviteSecret::from_random([7; 16]),
        role: Role::Member,
        expires: Timestamp(1_900_000_000_000),
        pre_shared_key: Some(PreSharedKey([8; 32])),
    }
}

/// A directory of two files.
pub fn file_tree() -> FileTree {
    let entry =
        |content: &[u8]| FileEntry { content: ContentId::of_bytes(content), length: content.len() as u64 };
    let path = |text: &str| RelativePath::new(text).expect("a plain path");
    FileTree { files: BTreeMap::from([(path("a/b.txt"), entry(b"x")), (path("c"), entry(b"yz"))]) }
}

/// What is signed, by its kind and as its payload; the first of a kind is the plainest.
///
/// # Panics
/// Never: every value here has a form.
pub fn payloads() -> Vec<(String, Vec<u8>)> {
    fn of<T: Document>(value: T) -> (String, Vec<u8>) {
        let payload = to_canonical(sign(value).value()).expect("an example has a form");
        (format!("{}/{}", T::KIND, T::VERSION), payload)
    }
    let shortfalls =
        vec![Shortfall { dimension: Dimension::Memory, needed: 8192, had: 4096, is_owners: false }];
    let reason = DeclineReason::Busy { shortfalls };
    let decline = Decline { request: BidRequestId::from_random([2; 16]), reason, retry: Retry::Later };
    let contract_id = ContentId::of_bytes(b"contract");
    let allocation = AllocationId::from_random([6; 16]);
    let what = RefusedReason::ContractDiffers { what: "price".into() };
    vec![
        of(card()),
        of(advert()),
        of(node_status()),
        of(bid_request()),
        of(bid()),
        of(decline),
        of(contract()),
        of(Invocation { bid: bid().id, contract: sign(contract()) }),
        of(Accepted { attempt: attempt(), contract: contract_id, allocation }),
        of(Refused { attempt: attempt(), reason: what }),
        of(allocation_status()),
        of(token()),
        of(Revocation { token: sign(token()).content_id() }),
        of(succession()),
    ]
}

/// What is said without a signature, by its kind and as its body.
///
/// # Panics
/// Never: every value here has a form.
pub fn bodies() -> Vec<(String, Vec<u8>)> {
    fn of<M: WireMessage>(word: M) -> (String, Vec<u8>) {
        (Kind::of::<M>().to_string(), word.encode_body().expect("an example has a form"))
    }
    let requested =
        RequestedAttempt { attempt: attempt(), stage: AttemptStage::Invoked, is_countersigned: false };
    let provided = ProvidedAttempt { attempt: attempt(), stage: AttemptStage::Ended };
    let stream = OutputStream::Stderr;
    let content = MessageContent::new("text/plain", "hello").expect("it is short");
    let secret = InviteSecret::from_random([7; 16]);
    let revocation = sign(Revocation { token: sign(token()).content_id() });
    vec![
        of(Release { bid: bid().id, cause: ReleaseCause::NotChosen }),
        of(AllocationStatusRequest {
            attempt: attempt(),
            stdout_offset: 1,
            stderr_offset: 2,
            others: Vec::new(),
        }),
        of(Acknowledge { attempt: attempt() }),
        of(Cancel { attempt: attempt(), cause: StopCause::Cancelled }),
        of(AllocationMessage { content, wants_reply: true }),
        of(AllocationCheck { allocation: AllocationId::from_random([6; 16]) }),
        of(AllocationOutput { attempt: attempt(), task: 0, stream, offset: 3, bytes: b"hi".to_vec() }),
        of(Reconcile { requested: vec![requested; 3], provided: vec![provided; 2] }),
        of(Census { question: 1, epoch: 2, digest: 3, sample: sample() }),
        of(CensusReply { question: 1, epoch: 2, digest: 3, sample: sample() }),
        of(Join { secret }),
        of(Renew {}),
        of(Admitted { invite: Some(secret.invite()), credentials: credentials() }),
        of(NotAdmitted { invite: None, reason: NotAdmittedReason::Used }),
        of(Revocations { revocations: vec![revocation.bytes().to_vec().into()] }),
        of(successions()),
    ]
}

/// Two of whom somebody has heard.
fn sample() -> Sample {
    Sample::of([*issuer().did().public_key(), *reader().public_key()])
}

/// The reader is who the issuer was.
fn succession() -> Succession {
    Succession { new: reader() }
}

/// The same, to be said.
pub fn successions() -> Successions {
    Successions::of([&sign(succession())])
}
