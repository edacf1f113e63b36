//! Nothing is promised before it is on disk: a node whose disk stands still says nothing, and one whose disk
//! fails says so.
//!
//! The node is built by hand over the in-memory transport; its engine holds each synced write until the test
//! lets it pass. "Says nothing" is not waited for: the count of words handed to the network is exact.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dms_actors::clock::SystemClock;
use dms_actors::directory::memory::MemoryDirectory;
use dms_actors::mesh::Mesh;
use dms_actors::mesh::memory::MemoryMesh;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{ActorRef, ActorSystem, Address, Keypair, Recipient, Supervision};
use dms_messages::*;
use dms_node::blobs::BlobStore;
use dms_node::commands::{GetStatus, NodeMode, NodeStatus, Onboard};
use dms_node::executors::{Execution, Executor, Limits, Workload};
use dms_node::network::NetworkParts;
use dms_node::node::{Node, NodeParts, ProviderRules, Trust, open_books};
use dms_node::orchestrator::job_state::JobRules;
use dms_node::signer::Signer;
use dms_storage::engine::{Row, ScanRange};
use dms_storage::schema::Family;
use dms_storage::{Batch, Durability, Engine, EngineError, MemoryEngine};
use dms_tests::DEADLINE;
use dms_tests::ear::{self, Said};
use tokio::sync::{mpsc, oneshot, watch};

/// An engine whose synced writes wait until they are let through.
#[derive(Debug)]
struct GatedEngine {
    inner: MemoryEngine,
    is_open: Mutex<bool>,
    changed: Condvar,
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

/// Runs nothing: what these tests start never gets its module.
#[derive(Debug)]
struct NoExecutor;

impl Executor for NoExecutor {
    fn start(&self, _: Workload, _: Limits) -> Execution {
        Execution { output: mpsc::channel(1).1, outcome: oneshot::channel().1, stop: oneshot::channel().0 }
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
        });
        let shared: Arc<dyn Engine> = Arc::<GatedEngine>::clone(&engine);
        let pending = watch::Sender::new(0);
        let words = pending.subscribe();
        let mesh: Arc<dyn Mesh> = MemoryMesh::default().member(provider);
        let parts = NodeParts {
            opened: Arc::new(Mutex::new(Some(open_books(&shared).unwrap()))),
            engine: shared,
            signer: Signer::new(Arc::new(ours), Arc::clone(&clock), "test"),
            clock: Arc::clone(&clock),
            trust: Trust { is_open: true, peers: BTreeSet::new() },
            job_rules: JobRules::default(),
            provider_rules: ProviderRules { lease: Duration::from_secs(60), max_output: 1024 },
            max_jobs: 10,
            blobs: Arc::new(BlobStore::open(data.path(), provider, 1 << 20).unwrap()),
            executor: Arc::new(NoExecutor),
            network: NetworkParts {
                connections: tokio::sync::watch::channel(Vec::new()).1,
                system: systems[0].clone(),
                transport,
                mesh,
                directory: MemoryDirectory::default().member(provider),
                runtime: tokio::runtime::Handle::current(),
                pending,
            },
        };
        let node = systems[0].spawn(move || Node::new(parts.clone()), Supervision::never());
        dms_node::startup::register(&systems[0], &node).unwrap();
        let heard = ear::listen(&systems[1]);
        let resources = Resources {
            cpu: CpuMillis(8000),
            memory: MemoryMib(8000),
            disk: DiskMib(8000),
            gpus: BTreeSet::new(),
        };
        let executors = BTreeSet::from([ExecutorKind::Wasm]);
        let capability = Capability { resources, executors, ..Capability::default() };
        node.ask(Onboard { capability }, DEADLINE).await.unwrap().unwrap();
        let requester = Signer::new(Arc::new(theirs), clock, "test");
        Self { engine, node, words, systems, requester, provider, heard, _data: data }
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

    async fn status(&self) -> NodeStatus {
        self.node.ask(GetStatus, DEADLINE).await.unwrap()
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
        tokio::time::timeout(DEADLINE, look).await.expect("the state to come")
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
    let requirement = Requirement {
        cpu: CpuMillis(500),
        memory: MemoryMib(64),
        disk: DiskMib(1),
        gpus: vec![],
        executor: ExecutorKind::Wasm,
        locations: BTreeSet::new(),
        labels: BTreeMap::new(),
    };
    let task = Task {
        name: "held".into(),
        module: ContentId::of_bytes(b"nowhere"),
        args: vec![],
        env: BTreeMap::new(),
        stdin: None,
        input: None,
        timeout: Millis(1000),
    };
    Pod { requirement, tasks: vec![task] }
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
    stage.tell(AllocationStatusRequest { attempt, stdout_offset: 0, stderr_offset: 0 }).await;
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
    stage.tell(AllocationStatusRequest { attempt, stdout_offset: 0, stderr_offset: 0 }).await;
    match stage.hear().await {
        Said::Refused(refused) => assert_eq!(refused.reason, RefusedReason::ReadOnly),
        Said::Status(status) => panic!("{status:?}"),
        other => panic!("{other:?}"),
    }
    stage.stop().await;
}
