//! Golden bytes: the words as they are on the wire. A changed byte here is a changed protocol.
//!
//! Also the examples that the other tests of this crate start from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use dms_actors::signed::{DocumentId, SignOptions, Signed, SignedError};
use dms_actors::wire::{DecodeContext, DecodeError};
use dms_actors::{ContentId, Did, Keypair, WireMessage, cbor};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::*;

/// A job that breaks no rule.
pub(crate) fn example_job() -> Job {
    let task = Task {
        name: "hello".into(),
        module: ContentId::of_bytes(b"module"),
        args: vec!["-v".into()],
        env: BTreeMap::from([("LANG".into(), "C".into())]),
        stdin: None,
        input: Some(ContentId::of_bytes(b"tree")),
        timeout: Millis(60_000),
        resources: None,
    };
    Job {
        id: JobId::from_random([1; 16]),
        name: "hello".into(),
        pods: vec![Pod { requirement: example_requirement(), tasks: vec![task] }],
        max_price: Some(Price(500_000)),
        wanted: 3,
        wait: Millis(60_000),
        max_attempts: 5,
        submitted: Timestamp(1_700_000_000_000),
    }
}

fn example_requirement() -> Requirement {
    Requirement {
        cpu: CpuMillis(1000),
        memory: MemoryMib(64),
        disk: DiskMib(16),
        gpus: vec![],
        executor: ExecutorKind::Wasm,
        locations: BTreeSet::new(),
        labels: BTreeMap::new(),
        ..Requirement::default()
    }
}

fn resources() -> Resources {
    Resources {
        cpu: CpuMillis(1000),
        memory: MemoryMib(64),
        disk: DiskMib(16),
        gpus: BTreeSet::from([GpuId(1)]),
        ..Resources::default()
    }
}

fn keypair() -> Keypair {
    Keypair::from_secret(&[7; 32])
}

fn attempt() -> AttemptId {
    AttemptId { job: JobId::from_random([1; 16]), pod: 0, number: 2 }
}

fn options() -> SignOptions {
    SignOptions {
        network: "test".into(),
        audience: None,
        issued_at: Timestamp(1_700_000_000_000),
        ttl: std::time::Duration::from_secs(60),
        id: DocumentId([5; 16]),
    }
}

fn contract() -> Contract {
    Contract {
        requester: keypair().did(),
        provider: Keypair::from_secret(&[8; 32]).did(),
        attempt: attempt(),
        request: BidRequestId::from_random([2; 16]),
        bid: BidId::from_random([3; 16]),
        resources: resources(),
        price: Price(250_000),
        pod: example_job().pods.remove(0),
        orphan_after: Millis(60_000),
    }
}

/// The golden value is a digest of the canonical bytes where they are long, so that the file stays readable.
#[track_caller]
fn golden<T: Serialize + DeserializeOwned + Debug>(value: &T, digest: &str) {
    let bytes = cbor::to_canonical(value).unwrap();
    cbor::check(&bytes, cbor::MAX_LENGTH).unwrap();
    let back: T = cbor::from_canonical(&bytes).unwrap();
    assert_eq!(format!("{back:?}"), format!("{value:?}"), "round trip");
    let found = ContentId::of_document(&bytes).to_string();
    assert_eq!(&found[found.len() - 16..], digest, "golden bytes of {value:?}");
}

#[test]
fn words_about_pods_of_several_tasks_have_theirs() {
    let mut task = example_job().pods.remove(0).tasks.remove(0);
    task.resources = Some(TaskResources { cpu: CpuMillis(500), memory: MemoryMib(32), disk: DiskMib(8) });
    golden(&task, "avnahhjrtyhveq3i");
    let state = AllocationState::Stopped { cause: StopCause::TaskFailed };
    let allocation = AllocationId::from_random([6; 16]);
    golden(
        &AllocationStatus { attempt: attempt(), allocation, task: 1, state, result: None },
        "mwhg4lap6iedykfu",
    );
    golden(
        &AllocationStatusRequest {
            attempt: attempt(),
            stdout_offset: 1,
            stderr_offset: 2,
            others: vec![(3, 4), (0, 0)],
        },
        "er57pmcqx2kxhuyi",
    );
    let (stream, bytes) = (OutputStream::Stderr, b"hi".to_vec());
    golden(&AllocationOutput { attempt: attempt(), task: 2, stream, offset: 3, bytes }, "itrkqbdh7cqsplni");
}

#[test]
fn every_word_has_its_golden_bytes() {
    let did = keypair().did();
    golden(
        &NodeCard {
            uuid: NodeUuid::from_random([4; 16]),
            did,
            peer_id: did.peer_id(),
            created: Timestamp(1),
        },
        "vw4pzi3d6bmje3oa",
    );
    golden(
        &Advert {
            card: ContentId::of_bytes(b"card"),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            executors: BTreeSet::from([ExecutorKind::Wasm]),
            available: resources(),
            prices: PriceList::default(),
            sequence: 9,
            credentials: Credentials::default(),
            profile: Default::default(),
        },
        "vmn3dqafhhyq33iy",
    );
    golden(
        &NodeStatus {
            role: NodeRole::Provider,
            mode: ServingMode::Serving,
            available: ResourceSummary::from(&resources()),
            allocations: 1,
            locks: 2,
            jobs: 3,
            peers: 4,
            sequence: 9,
        },
        "2mlu4y4g5s2avd6y",
    );
    golden(
        &BidRequest {
            id: BidRequestId::from_random([2; 16]),
            job: attempt().job,
            pod: 0,
            requirement: example_requirement(),
            run_time: Millis(60_000),
            max_price: None,
            wanted: 3,
            addresses: vec![],
            credentials: Credentials::default(),
        },
        "2la26rh5njbj7x3u",
    );
    golden(
        &Bid {
            id: BidId::from_random([3; 16]),
            request: BidRequestId::from_random([2; 16]),
            resources: resources(),
            price: Price(250_000),
            score: 900,
            lease: Millis(10_000),
            profile: Default::default(),
        },
        "emnkkekfrpitttye",
    );
    golden(
        &Profile {
            location: Some("CH".into()),
            labels: BTreeMap::from([("disk".into(), "ssd".into())]),
            benchmark: Some(Benchmark { wasm: 250, ..Benchmark::default() }),
            load: Some(300),
        },
        "m5jnel6nghlf5vqm",
    );
    golden(
        &Decline {
            request: BidRequestId::from_random([2; 16]),
            reason: DeclineReason::Preference { rule: "exclude".into(), retry: Retry::Final },
            retry: Retry::Final,
        },
        "kcki5pdljq6c6op4",
    );
    golden(
        &Decline {
            request: BidRequestId::from_random([2; 16]),
            reason: DeclineReason::DearNow { price: Price(2), lowest: Price(1) },
            retry: Retry::Later,
        },
        "xfc5tpqdq62b4r2u",
    );
    let shortfalls =
        vec![Shortfall { dimension: Dimension::Memory, needed: 8192, had: 4096, is_owners: false }];
    golden(
        &Decline {
            request: BidRequestId::from_random([2; 16]),
            reason: DeclineReason::Busy { shortfalls },
            retry: Retry::Later,
        },
        "6svqtxkquab4ysqe",
    );
    golden(&Release { bid: BidId::from_random([3; 16]), cause: ReleaseCause::NotChosen }, "ahmli5ofs4sitewm");
    golden(&contract(), "ww3fnyagcbbpgnuq");
    golden(
        &Accepted {
            attempt: attempt(),
            contract: ContentId::of_bytes(b"contract"),
            allocation: AllocationId::from_random([6; 16]),
        },
        "qd5sabdd5nnxi4ai",
    );
    golden(&Refused { attempt: attempt(), reason: RefusedReason::LeaseEnded }, "3em6cfd7dp6jfdte");
    golden(
        &AllocationStatus {
            attempt: attempt(),
            allocation: AllocationId::from_random([6; 16]),
            task: 0,
            state: AllocationState::Failed { cause: FailureCause::ExitCode { code: -7 } },
            result: Some(AllocationResult {
                stdout: ContentId::of_bytes(b"out"),
                stderr: ContentId::of_bytes(b""),
                output: None,
                wall: Millis(12),
                peak_memory: MemoryMib(1),
                output_dropped: 0,
            }),
        },
        "xxnnnchjfaaurymi",
    );
    golden(
        &AllocationStatusRequest {
            attempt: attempt(),
            stdout_offset: 1,
            stderr_offset: 2,
            others: Vec::new(),
        },
        "h434uodcmqr4arhi",
    );
    golden(
        &AllocationOutput {
            attempt: attempt(),
            task: 0,
            stream: OutputStream::Stderr,
            offset: 3,
            bytes: b"hi".to_vec(),
        },
        "c4a7ujlohm4yq34a",
    );
    golden(&Acknowledge { attempt: attempt() }, "bsibkek5g57zcray");
    golden(&Cancel { attempt: attempt(), cause: StopCause::Cancelled }, "w4fpgclx77y765ee");
    let content = MessageContent::new("text/plain", "hello").unwrap();
    golden(&AllocationMessage { content: content.clone(), wants_reply: true }, "zce23c63o35wcmuu");
    let answers: [Result<Delivered, AllocationRefusal>; 3] = [
        Ok(Delivered { reply: Some(content) }),
        Ok(Delivered { reply: None }),
        Err(AllocationRefusal::InboxFull),
    ];
    golden(&answers.to_vec(), "mhbjanginudlduke");
    let allocation = AllocationId::from_random([6; 16]);
    golden(&AllocationCheck { allocation }, "67ymypepxkdrhybi");
    let usage = AllocationUsage { ran: Millis(5), stdout: 1, stderr: 2, messages: 4, waiting_messages: 3 };
    let report = AllocationReport {
        allocation,
        attempt: attempt(),
        state: AllocationState::Running,
        since: Timestamp(1_700_000_000_000),
        usage: Some(usage),
        result: None,
    };
    golden(&report, "cysi5y6bup2jio5i");
    let requested =
        RequestedAttempt { attempt: attempt(), stage: AttemptStage::Invoked, is_countersigned: false };
    let provided = ProvidedAttempt { attempt: attempt(), stage: AttemptStage::Ended };
    golden(&Reconcile { requested: vec![requested], provided: vec![provided] }, "mjta64ylrsmnv624");
    let sample = Sample::of([[1; 32], [2; 32]]);
    golden(&Census { question: 1, epoch: 2, digest: 3, sample: sample.clone() }, "vly4q3h3hyfum3he");
    golden(&CensusReply { question: 1, epoch: 2, digest: 3, sample }, "vly4q3h3hyfum3he");
    golden(&example_job(), "vagfe6mbopxu6a6y");
}

#[test]
fn every_word_of_trust_has_its_golden_bytes() {
    let token = Token {
        abilities: Role::Member.abilities(),
        topics: Some(BTreeSet::from(["advert".to_owned()])),
        depth: 2,
        parent: Some(ContentId::of_bytes(b"parent")),
    };
    golden(&token, "kj34aymgattmgxie");
    let token = Signed::sign(token, &keypair(), options()).unwrap();
    golden(&Revocation { token: token.content_id() }, "twlqn7b5kahly4ue");
    let credentials = Credentials::of([&token]);
    golden(&credentials, "j54x4shyul44bjlq");
    let secret = InviteSecret::from_random([7; 16]);
    golden(&Join { secret }, "z4jumopt7a6t4mpe");
    golden(&Renew {}, "duas4b3q2fy6swua");
    golden(&Admitted { invite: Some(secret.invite()), credentials }, "ypg6x4ffxjuhop6a");
    golden(&NotAdmitted { invite: None, reason: NotAdmittedReason::Used }, "fahvhenmpwg7lzfy");
    golden(&Revocations { revocations: vec![b"signed".to_vec().into()] }, "yi7vedilngxx2gyu");
    golden(&Succession { new: keypair().did() }, "j3zjstsr6mllwzqu");
    golden(&Successions { successions: vec![b"signed".to_vec().into()] }, "25grekhm5kfrpz5m");
    let invite = Invite {
        inviter: keypair().did(),
        network: "test".into(),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        secret,
        role: Role::Requester,
        expires: Timestamp(1_700_000_000_000),
        pre_shared_key: Some(PreSharedKey([8; 32])),
    };
    golden(&invite, "cdis6rubt5kvpcai");
}

#[test]
fn one_word_is_written_out_in_full() {
    let release = Release { bid: BidId::from_random([3; 16]), cause: ReleaseCause::TooLate };
    let mut expected = vec![0xa2, 0x63];
    expected.extend(b"bid\x50");
    expected.extend([3, 3, 3, 3, 3, 3, 0x43, 3, 0x83, 3, 3, 3, 3, 3, 3, 3]);
    expected.extend(b"\x65cause\x68too_late");
    assert_eq!(release.encode_body().unwrap(), expected);
}

#[test]
fn an_invocation_carries_its_contract_as_a_document_of_its_own() {
    let me = keypair().did();
    let options = || SignOptions { audience: Some(me), ..options() };
    let contract = Signed::sign(contract(), &keypair(), options()).unwrap();
    let invocation = Invocation { bid: contract.value().bid, contract: contract.clone() };
    let signed = Signed::sign(invocation.clone(), &keypair(), options()).unwrap();
    let context = DecodeContext { me, now: Timestamp(1_700_000_001_000), network: "test".to_owned() };
    let back = Signed::<Invocation>::decode_body(signed.bytes(), &context).unwrap();
    assert_eq!(back.value().contract.bytes(), contract.bytes());

    let other = Invocation { bid: BidId::from_random([9; 16]), ..invocation };
    assert!(Signed::sign(other, &keypair(), options()).is_err(), "a contract for another bid");
}

#[test]
fn a_word_for_one_reader_names_it() {
    fn read<T: Document>(value: T, audience: Option<Did>) -> Result<(), DecodeError> {
        let signed = Signed::sign(value, &keypair(), SignOptions { audience, ..options() }).unwrap();
        let (me, now) = (keypair().did(), Timestamp(1_700_000_001_000));
        let context = DecodeContext { me, now, network: "test".to_owned() };
        Signed::<T>::decode_body(signed.bytes(), &context).map(drop)
    }
    #[track_caller]
    fn is_for_one<T: Document + Clone>(value: &T) {
        assert_eq!(read(value.clone(), Some(keypair().did())), Ok(()));
        assert_eq!(read(value.clone(), None), Err(DecodeError::Signed(SignedError::NoAudience)));
    }
    let (request, bid) = (BidRequestId::from_random([2; 16]), BidId::from_random([3; 16]));
    let allocation = AllocationId::from_random([6; 16]);
    let contract = Signed::sign(contract(), &keypair(), options()).unwrap();
    is_for_one(contract.value());
    is_for_one(&Bid {
        id: bid,
        request,
        resources: resources(),
        price: Price(1),
        score: 1,
        lease: Millis(1),
        profile: Default::default(),
    });
    is_for_one(&Decline { request, reason: DeclineReason::Draining, retry: Retry::Later });
    is_for_one(&Accepted { attempt: attempt(), contract: contract.content_id(), allocation });
    is_for_one(&Refused { attempt: attempt(), reason: RefusedReason::Draining });
    let state = AllocationState::Running;
    is_for_one(&AllocationStatus { attempt: attempt(), allocation, task: 0, state, result: None });
    is_for_one(&Invocation { bid: contract.value().bid, contract });
    // What goes to many, or to whoever hears it.
    let did = keypair().did();
    let (uuid, peer_id) = (NodeUuid::from_random([4; 16]), did.peer_id());
    assert_eq!(read(NodeCard { uuid, did, peer_id, created: Timestamp(1) }, None), Ok(()));
    assert_eq!(read(Revocation { token: ContentId::of_bytes(b"token") }, None), Ok(()));
}

#[test]
fn words_that_break_a_rule_of_their_type_cannot_be_signed() {
    let refuse = |result: Result<(), String>| assert!(result.is_err());
    let stranger: Did = Keypair::from_secret(&[9; 32]).did();
    let card = NodeCard {
        uuid: NodeUuid::from_random([4; 16]),
        did: keypair().did(),
        peer_id: stranger.peer_id(),
        created: Timestamp(1),
    };
    refuse(Document::check(&card));
    refuse(Document::check(&Contract { attempt: AttemptId { number: 0, ..attempt() }, ..contract() }));
    let status = AllocationStatus {
        attempt: attempt(),
        allocation: AllocationId::from_random([6; 16]),
        task: 0,
        state: AllocationState::Succeeded,
        result: None,
    };
    refuse(Document::check(&status));
    let cause = FailureCause::Trapped { text: "x".repeat(MAX_TEXT_LENGTH + 1) };
    refuse(Document::check(&AllocationStatus { state: AllocationState::Failed { cause }, ..status }));
}

#[test]
fn text_from_errors_is_cut_at_a_character() {
    assert_eq!(bounded_text("short"), "short");
    let cut = bounded_text("ä".repeat(MAX_TEXT_LENGTH));
    assert!(cut.len() <= MAX_TEXT_LENGTH && cut.ends_with('…'));
}
