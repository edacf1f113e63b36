//! Nothing is promised before it is on disk: a node whose disk stands still says nothing, and one whose disk
//! fails says so.
//!
//! The node is built by hand over the in-memory transport; its engine holds each synced write until the test
//! lets it pass. "Says nothing" is not waited for: the count of words handed to the network is exact.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dms_actors::clock::SystemClock;
use dms_actors::directory::memory::MemoryDirectory;
use dms_actors::mesh::memory::MemoryMesh;
use dms_actors::mesh::{Gossip, Mesh};
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{ActorRef, ActorSystem, Address, Keypair, PeerEvent, Recipient, Supervision, Workers};
use dms_messages::*;
use dms_node::benchmark::GivenMachine;
use dms_node::blobs::BlobStore;
use dms_node::commands::{
    CommandError, GetCapability, GetStatus, NodeMode, NodeStatus, Offboard, OffboardMode, Offboarded,
    Onboard, SubmitJob,
};
use dms_node::network::{NetworkParts, PeerChanged, bid_request_topic};
use dms_node::node::{BooksOpener, Node, NodeParts, NodeTimes, ProviderRules, open_books};
use dms_node::orchestrator::job_state::JobRules;
use dms_node::signer::Signer;
use dms_storage::committer::QUEUE_CAPACITY;
use dms_storage::engine::{Row, ScanRange};
use dms_storage::schema::Family;
use dms_storage::{Batch, Durability, Engine, EngineError, MemoryEngine};
use dms_tests::DEADLINE;
use dms_tests::ear::{self, Said};
use dms_tests::hand_made::{self, NoExecutor, capability};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// An engine whose synced writes wait until they are let through.
#[derive(Debug)]
struct GatedEngine {
    inner: MemoryEngine,
    is_open: Mutex<bool>,
    changed: Condvar,
    /// True while a write stands at the gate.
    is_held: watch::Sender<bool>,
}

impl GatedEngine {
    fn set_open(&self, is_open: bool) {
        *self.is_open.lock().unwrap() = is_open;
        self.changed.notify_all();
    }
}

impl Engine for GatedEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        if durability == Durability::Synced {
            let is_open = self.is_open.lock().unwrap();
            self.is_held.send_replace(!*is_open);
            drop(self.changed.wait_timeout_while(is_open, DEADLINE, |is_open| !*is_open).unwrap());
        }
        self.inner.write(batch, durability)
    }
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.inner.get(family, key)
    }
    fn scan(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.inner.scan(family, range, limit)
    }
    fn scan_back(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.inner.scan_back(family, range, limit)
    }
}

/// A provider made by hand, and a requester that speaks to it.
struct Stage {
    engine: Arc<GatedEngine>,
    node: ActorRef<Node>,
    words: watch::Receiver<usize>,
    systems: [ActorSystem; 2],
    requester: Signer,
    provider: Did,
    heard: mpsc::Receiver<Said>,
    /// Requests that the provider says to the whole mesh.
    gossip: mpsc::Receiver<Gossip>,
    _data: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let clock = SystemClock::shared();
        let network = MemoryNetwork::default();
        let (ours, theirs) = (Keypair::from_secret(&[1; 32]), Keypair::from_secret(&[2; 32]));
        let (provider, requester) = (ours.did(), theirs.did());
        // One handle each: a second one for the same name would be another peer.
        let transport = network.transport(provider);
        let ours_system =
            ActorSystem::builder(provider, "test").transport(transport.clone()).start().unwrap();
        let theirs_system =
            ActorSystem::builder(requester, "test").transport(network.transport(requester)).start().unwrap();
        let systems = [ours_system, theirs_system];
        let data = tempfile::tempdir().unwrap();
        let engine = Arc::new(GatedEngine {
            inner: MemoryEngine::new(),
            is_open: Mutex::new(true),
            changed: Condvar::new(),
            is_held: watch::Sender::new(false),
        });
        let shared: Arc<dyn Engine> = Arc::<GatedEngine>::clone(&engine);
        let pending = watch::Sender::new(0);
        let words = pending.subscribe();
        let whole = MemoryMesh::default();
        let ours_mesh: Arc<dyn Mesh> = whole.member(provider);
        let theirs_mesh = whole.member(requester);
        theirs_mesh.subscribe(bid_request_topic("test")).await.unwrap();
        let gossip = theirs_mesh.take_gossip().unwrap();
        let parts = NodeParts {
            opened: Arc::new(Mutex::new(Some(open_books(&shared).unwrap()))),
            engine: shared,
            signer: Signer::new(Arc::new(ours), Arc::clone(&clock), "test"),
            clock: Arc::clone(&clock),
            gate: hand_made::open_gate(provider, "test", &clock),
            job_rules: JobRules { auction: Duration::from_millis(20), ..JobRules::default() },
            provider_rules: ProviderRules { lease: Duration::from_secs(60), max_output: 1024 },
            max_jobs: 10,
            monitoring: None,
            times: NodeTimes::default(),
            opener: BooksOpener::default(),
            workers: Workers::threads(tokio::runtime::Handle::current()),
            blobs: Arc::new(BlobStore::open(data.path(), provider, 1 << 20).unwrap()),
            executor: Arc::new(NoExecutor),
            machine: Arc::new(GivenMachine::default()),
            network: NetworkParts {
                connections: tokio::sync::watch::channel(Vec::new()).1,
                transport_status: tokio::sync::watch::channel(Default::default()).1,
                system: systems[0].clone(),
                transport,
                mesh: ours_mesh,
                directory: MemoryDirectory::default().member(provider),
                runtime: tokio::runtime::Handle::current(),
                pending,
            },
        };
        let node = systems[0].spawn(move || Node::new(parts.clone()), Supervision::never());
        dms_node::startup::register(&systems[0], &node).unwrap();
        let heard = ear::listen(&systems[1]);
        node.ask(Onboard { capability: capability() }).timeout(DEADLINE).await.unwrap().unwrap();
        let requester = Signer::new(Arc::new(theirs), clock, "test");
        Self { engine, node, words, systems, requester, provider, heard, gossip, _data: data }
    }

    async fn tell<M: Message<Reply = ()> + WireMessage>(&self, word: M) {
        let address = Address::new(self.provider, "/node").unwrap();
        let to: Recipient<M> = self.systems[1].resolve(&address);
        to.tell(word).await.unwrap();
    }

    /// Asks for bids.
    async fn ask(&self, number: u8) {
        let request = BidRequest {
            id: BidRequestId::from_random([number; 16]),
            job: JobId::from_random([number; 16]),
            pod: 0,
            requirement: pod().requirement,
            run_time: Millis(1000),
            max_price: None,
            wanted: 1,
            addresses: vec![],
            credentials: Default::default(),
        };
        self.tell(self.requester.sign(request, Some(self.provider), Duration::from_secs(60)).unwrap()).await;
    }

    fn invocation(&self, bid: &Bid, number: u8) -> Signed<Invocation> {
        let minute = Duration::from_secs(60);
        let contract = Contract {
            requester: self.requester.me(),
            provider: self.provider,
            attempt: AttemptId { job: JobId::from_random([number; 16]), pod: 0, number: 1 },
            request: bid.request,
            bid: bid.id,
            resources: bid.resources.clone(),
            price: bid.price,
            pod: pod(),
            orphan_after: Millis(60_000),
        };
        let contract = self.requester.sign(contract, Some(self.provider), minute).unwrap();
        let invocation = Invocation { bid: bid.id, contract };
        self.requester.sign(invocation, Some(self.provider), minute).unwrap()
    }

    async fn offboard(&self, mode: OffboardMode) -> Result<Offboarded, CommandError> {
        self.node.ask(Offboard { mode }).timeout(DEADLINE).await.unwrap()
    }

    /// With a closed disk: hands in a job that only the whole mesh can take, and waits until its second round is
    /// open; what the first one said was said by then.
    async fn submit_and_ask_twice(&self) -> JoinHandle<Result<JobId, CommandError>> {
        let before = self.status().await.event_count;
        let (node, submit) = (self.node.clone(), SubmitJob { job: hand_made::job(Millis(1000)) });
        let submitted = tokio::spawn(async move { node.ask(submit).timeout(DEADLINE).await.unwrap() });
        // Submitted, moved, requested; requested again.
        self.wait(|status| status.event_count >= before + 4).await;
        submitted
    }

    async fn status(&self) -> NodeStatus {
        self.node.ask(GetStatus).timeout(DEADLINE).await.unwrap()
    }

    /// Looks until the node is in a state.
    async fn wait(&self, is_there: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
        let look = async {
            loop {
                let status = self.status().await;
                if is_there(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, look).await {
            Ok(status) => status,
            Err(_) => panic!("the state did not come; last: {:?}", self.status().await),
        }
    }

    async fn hear(&mut self) -> Said {
        tokio::time::timeout(DEADLINE, self.heard.recv()).await.expect("a word in time").unwrap()
    }

    async fn bid(&mut self) -> Bid {
        match self.hear().await {
            Said::Bid(bid) => bid.into_value(),
            other => panic!("{other:?}"),
        }
    }

    /// Closes the disk; from here on every word that is handed to the network is seen.
    async fn close(&mut self) {
        self.words.wait_for(|count| *count == 0).await.unwrap();
        self.engine.set_open(false);
        self.words.mark_unchanged();
    }

    #[track_caller]
    fn nothing_was_said(&self) {
        assert!(!self.words.has_changed().unwrap(), "a word left before its promise was on disk");
    }

    async fn stop(self) {
        self.engine.set_open(true);
        for system in &self.systems {
            system.stop(DEADLINE).await.unwrap();
        }
    }
}

fn pod() -> Pod {
    hand_made::pod(Millis(1000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bid_and_an_acceptance_leave_only_after_their_sync() {
    let mut stage = Stage::new().await;
    stage.close().await;
    stage.ask(1).await;
    stage.wait(|status| status.lock_count == 1).await;
    stage.nothing_was_said();
    stage.engine.set_open(true);
    let bid = stage.bid().await;

    stage.close().await;
    let invocation = stage.invocation(&bid, 1);
    stage.tell(invocation.clone()).await;
    // Said again, and asked about, while the acceptance is only in memory.
    stage.tell(invocation).await;
    let attempt = AttemptId { job: JobId::from_random([1; 16]), pod: 0, number: 1 };
    stage
        .tell(AllocationStatusRequest { attempt, stdout_offset: 0, stderr_offset: 0, others: Vec::new() })
        .await;
    // The same link keeps the order: when this one is decided, those before it are.
    stage.ask(2).await;
    stage.wait(|status| status.active_allocation_count == 1 && status.lock_count == 1).await;
    stage.nothing_was_said();
    stage.engine.set_open(true);
    match stage.hear().await {
        Said::Accepted(accepted) => assert_eq!(accepted.attempt, attempt),
        other => panic!("the acceptance comes first, not {other:?}"),
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_makes_the_node_read_only_and_its_memory_what_the_disk_has() {
    let mut stage = Stage::new().await;
    stage.ask(1).await;
    let bid = stage.bid().await;
    stage.engine.inner.fail_writes(true);
    stage.tell(stage.invocation(&bid, 1)).await;
    match stage.hear().await {
        Said::Refused(refused) => assert_eq!(refused.reason, RefusedReason::ReadOnly),
        other => panic!("{other:?}"),
    }
    let status = stage.wait(|status| matches!(status.mode, NodeMode::ReadOnly { .. })).await;
    assert_eq!((status.active_allocation_count, status.lock_count), (0, 1), "what the disk has");
    // It answers, and it bids no more.
    let attempt = AttemptId { job: JobId::from_random([1; 16]), pod: 0, number: 1 };
    stage
        .tell(AllocationStatusRequest { attempt, stdout_offset: 0, stderr_offset: 0, others: Vec::new() })
        .await;
    match stage.hear().await {
        Said::Refused(refused) => assert_eq!(refused.reason, RefusedReason::ReadOnly),
        Said::Status(status) => panic!("{status:?}"),
        other => panic!("{other:?}"),
    }
    stage.stop().await;
}

/// A node that offers nothing and knows one peer: its jobs are said to the whole mesh.
async fn asking_stage() -> Stage {
    let mut stage = Stage::new().await;
    stage.ask(1).await;
    stage.bid().await;
    stage.offboard(OffboardMode::AtOnce).await.unwrap();
    // Somebody is there to hear.
    let peer = stage.requester.me();
    stage.node.ask(PeerChanged(PeerEvent::Up(peer))).timeout(DEADLINE).await.unwrap();
    stage.close().await;
    stage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_gossiped_only_after_the_submission_is_on_disk() {
    let mut stage = asking_stage().await;
    let submitted = stage.submit_and_ask_twice().await;
    assert!(stage.gossip.try_recv().is_err(), "the mesh heard of a job that is not on disk");
    stage.engine.set_open(true);
    submitted.await.unwrap().unwrap();
    tokio::time::timeout(DEADLINE, stage.gossip.recv()).await.expect("gossip in time").unwrap();
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_submission_the_disk_does_not_take_is_never_spoken_of() {
    let mut stage = asking_stage().await;
    let submitted = stage.submit_and_ask_twice().await;
    stage.engine.inner.fail_writes(true);
    stage.engine.set_open(true);
    let refused = submitted.await.unwrap();
    assert!(matches!(refused, Err(CommandError::ReadOnly(_))), "{refused:?}");
    // Answered in its turn: all that was to be said before has been, or never will be.
    stage.node.ask(GetCapability).timeout(DEADLINE).await.unwrap();
    assert!(stage.gossip.try_recv().is_err(), "the mesh heard of a job that is not on disk");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bid_whose_lock_was_withdrawn_while_it_was_written_is_not_made() {
    let mut stage = Stage::new().await;
    stage.close().await;
    stage.ask(1).await;
    stage.wait(|status| status.lock_count == 1).await;
    let withdrawing = async {
        let withdrawn = async {
            stage.wait(|status| !status.is_onboarded && status.lock_count == 0).await;
            stage.engine.set_open(true);
        };
        tokio::join!(stage.offboard(OffboardMode::AtOnce), withdrawn).0
    };
    withdrawing.await.unwrap();
    match stage.hear().await {
        Said::Decline(decline) => assert_eq!(decline.reason, DeclineReason::NotOnboarded),
        other => panic!("{other:?}"),
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawal_is_seen_only_when_it_is_on_disk() {
    let mut stage = Stage::new().await;
    stage.ask(1).await;
    let bid = stage.bid().await;
    assert!(!stage.offboard(OffboardMode::Wait).await.unwrap().is_withdrawn, "its lock is waited for");
    stage.close().await;
    stage.tell(Release { bid: bid.id, cause: ReleaseCause::NotChosen }).await;
    stage.wait(|status| !status.is_onboarded).await;
    {
        let mut looked = std::pin::pin!(stage.node.ask(GetCapability).timeout(DEADLINE));
        // Asked first; whatever is answered at once would be here first.
        tokio::select! {
            biased;
            view = &mut looked => panic!("{view:?}"),
            _ = stage.status() => {}
        }
        stage.engine.set_open(true);
        assert_eq!(looked.await.unwrap().registered, None);
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawal_that_finds_no_room_leaves_the_one_before_it_as_it_was() {
    let mut stage = Stage::new().await;
    stage.ask(1).await;
    stage.bid().await;
    stage.close().await;
    let mut writes = JoinSet::new();
    let mut onboard = || {
        let (node, onboard) = (stage.node.clone(), Onboard { capability: capability() });
        writes.spawn(async move { node.ask(onboard).timeout(DEADLINE).await.unwrap() });
    };
    onboard();
    stage.engine.is_held.subscribe().wait_for(|is_held| *is_held).await.unwrap();
    // One write stands at the gate: the queue behind it fills, and stays full.
    (0..=QUEUE_CAPACITY).for_each(|_| onboard());
    let refused = tokio::time::timeout(DEADLINE, writes.join_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(refused, Err(CommandError::Busy)), "{refused:?}");
    let at_once = async {
        let refused = stage.offboard(OffboardMode::AtOnce).await;
        stage.engine.set_open(true);
        refused
    };
    let (waits, refused) = tokio::join!(stage.offboard(OffboardMode::Wait), at_once);
    assert!(!waits.unwrap().is_withdrawn);
    assert!(matches!(refused, Err(CommandError::Busy)), "{refused:?}");
    let view = stage.node.ask(GetCapability).timeout(DEADLINE).await.unwrap();
    assert!(view.is_offboarding && view.registered.is_some(), "{view:?}");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acceptance_that_a_requester_lost_is_said_again_also_when_the_attempt_is_over() {
    let mut stage = Stage::new().await;
    stage.ask(1).await;
    let bid = stage.bid().await;
    let invocation = stage.invocation(&bid, 1);
    stage.tell(invocation.clone()).await;
    let allocation = match stage.hear().await {
        Said::Accepted(accepted) => accepted.allocation,
        other => panic!("{other:?}"),
    };
    let attempt = invocation.value().contract.value().attempt;
    stage.tell(Cancel { attempt, cause: StopCause::Cancelled }).await;
    while !matches!(stage.hear().await, Said::Status(status) if status.state.is_terminal()) {}
    // The same contract in a new envelope, as one says it who has started again.
    let again = Invocation { bid: bid.id, contract: invocation.value().contract.clone() };
    let again = stage.requester.sign(again, Some(stage.provider), Duration::from_secs(60)).unwrap();
    stage.tell(again).await;
    loop {
        match stage.hear().await {
            Said::Accepted(accepted) => break assert_eq!(accepted.allocation, allocation),
            Said::Status(_) => {}
            other => panic!("{other:?}"),
        }
    }
    stage.stop().await;
}
