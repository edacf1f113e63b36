//! A provider put together by hand over the in-memory transport, on whatever engine a test gives it, and requesters
//! that speak to it: for tests that need a real Node and many peers in one process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dms_actors::clock::{SharedClock, SystemClock};
use dms_actors::directory::memory::MemoryDirectory;
use dms_actors::mesh::Mesh;
use dms_actors::mesh::memory::MemoryMesh;
use dms_actors::transport::Transport;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{ActorRef, ActorSystem, Address, Keypair, Recipient, Supervision, Workers};
use dms_messages::{
    AttemptId, Bid, BidRequest, BidRequestId, Capability, Contract, Did, Invocation, JobId, Message, Millis,
    Pod, Signed, WireMessage,
};
use dms_node::benchmark::GivenMachine;
use dms_node::blobs::BlobStore;
use dms_node::commands::{CapabilityView, GetCapability, GetStatus, NodeStatus, Onboard};
use dms_node::executors::{Execution, ExecutionUsage, Executor, Exit, Limits, Outcome, Workload};
use dms_node::monitor::Monitoring;
use dms_node::network::NetworkParts;
use dms_node::node::{BooksOpener, Node, NodeParts, NodeTimes, ProviderRules, open_books};
use dms_node::orchestrator::job_state::JobRules;
use dms_node::signer::Signer;
use dms_storage::Engine;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::DEADLINE;
use crate::ear::{self, Said};
use crate::hand_made;

/// The one network of these stages.
const NETWORK: &str = "test";
/// How long a word is fresh.
const MINUTE: Duration = Duration::from_secs(60);

/// A Node without a process.
pub struct Provider {
    /// Its actor.
    pub node: ActorRef<Node>,
    /// Its name.
    pub did: Did,
    /// How many words are on their way to the network.
    pub words: watch::Receiver<usize>,
    system: ActorSystem,
    network: MemoryNetwork,
    mesh: MemoryMesh,
    clock: SharedClock,
    _data: tempfile::TempDir,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("did", &self.did).finish_non_exhaustive()
    }
}

impl Provider {
    /// A provider of `capability` that is open to all, on `engine`. Every module of [`hand_made::pod`] is there.
    pub async fn start(
        engine: Arc<dyn Engine>,
        executor: Arc<dyn Executor>,
        capability: Capability,
        lease: Duration,
    ) -> Self {
        Self::start_whole(|transport| transport, engine, executor, capability, lease, None).await
    }

    /// [`Provider::start`] on a machine that is measured.
    pub async fn start_measured(
        engine: Arc<dyn Engine>,
        executor: Arc<dyn Executor>,
        capability: Capability,
        lease: Duration,
        monitoring: Monitoring,
    ) -> Self {
        Self::start_whole(|transport| transport, engine, executor, capability, lease, Some(monitoring)).await
    }

    /// [`Provider::start`] over a transport that `wrap` has made of the one in memory.
    pub async fn start_over(
        wrap: impl FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport>,
        engine: Arc<dyn Engine>,
        executor: Arc<dyn Executor>,
        capability: Capability,
        lease: Duration,
    ) -> Self {
        Self::start_whole(wrap, engine, executor, capability, lease, None).await
    }

    async fn start_whole(
        wrap: impl FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport>,
        engine: Arc<dyn Engine>,
        executor: Arc<dyn Executor>,
        capability: Capability,
        lease: Duration,
        monitoring: Option<Monitoring>,
    ) -> Self {
        let clock = SystemClock::shared();
        let network = MemoryNetwork::default();
        let keypair = Keypair::from_secret(&[1; 32]);
        let did = keypair.did();
        // One handle: a second one for the same name would be another peer.
        let transport = wrap(network.transport(did));
        let system = ActorSystem::builder(did, NETWORK)
            .transport(Arc::clone(&transport))
            .start()
            .expect("a system of its own starts");
        let data = tempfile::tempdir().expect("a directory can be made");
        let blobs = BlobStore::open(data.path(), did, 1 << 30).expect("an empty directory opens");
        blobs.put(hand_made::MODULE).expect("a few bytes can be stored");
        let pending = watch::Sender::new(0);
        let words = pending.subscribe();
        let mesh = MemoryMesh::default();
        let member: Arc<dyn Mesh> = mesh.member(did);
        let parts = NodeParts {
            opened: Arc::new(Mutex::new(Some(open_books(&engine).expect("the books open")))),
            engine,
            signer: Signer::new(Arc::new(keypair), Arc::clone(&clock), NETWORK),
            clock: Arc::clone(&clock),
            gate: hand_made::open_gate(did, NETWORK, &clock),
            job_rules: JobRules { auction: Duration::from_millis(20), ..JobRules::default() },
            provider_rules: ProviderRules { lease, max_output: 1024 },
            max_jobs: 10,
            monitoring,
            times: NodeTimes::default(),
            opener: BooksOpener::default(),
            workers: Workers::threads(Handle::current()),
            blobs: Arc::new(blobs),
            executor,
            machine: Arc::new(GivenMachine::default()),
            network: NetworkParts {
                connections: watch::channel(Vec::new()).1,
                transport_status: watch::channel(Default::default()).1,
                system: system.clone(),
                transport,
                mesh: member,
                directory: MemoryDirectory::default().member(did),
                runtime: Handle::current(),
                pending,
            },
        };
        let node = system.spawn(move || Node::new(parts.clone()), Supervision::never());
        dms_node::startup::register(&system, &node).expect("nobody else is there");
        let onboarded = node.ask(Onboard { capability }).timeout(DEADLINE).await;
        onboarded.expect("the node answers").expect("the capability is sound");
        Self { node, did, words, system, network, mesh, clock, _data: data }
    }

    /// A requester that speaks to this provider; the seed makes its name and must not be the provider's (1).
    pub fn requester(&self, seed: u8) -> Requester {
        assert_ne!(seed, 1, "this one is the provider");
        let keypair = Keypair::from_secret(&[seed; 32]);
        let did = keypair.did();
        let system = ActorSystem::builder(did, NETWORK)
            .transport(self.network.transport(did))
            .start()
            .expect("a system of its own starts");
        drop(self.mesh.member(did));
        let heard = ear::listen(&system);
        let signer = Signer::new(Arc::new(keypair), Arc::clone(&self.clock), NETWORK);
        Requester { did, provider: self.did, signer, system, heard }
    }

    /// How it stands.
    pub async fn status(&self) -> NodeStatus {
        self.node.ask(GetStatus).timeout(DEADLINE).await.expect("the node answers")
    }

    /// What it has registered, promised and left.
    pub async fn capability(&self) -> CapabilityView {
        self.node.ask(GetCapability).timeout(DEADLINE).await.expect("the node answers")
    }

    /// Looks until the node is in a state; panics with the last one when it is not in time.
    pub async fn wait(&self, is_there: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
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

    /// Ends it.
    pub async fn stop(self) {
        self.system.stop(DEADLINE).await.expect("the actors end in time");
    }
}

/// A peer that asks and invokes by hand.
pub struct Requester {
    /// Its name.
    pub did: Did,
    provider: Did,
    signer: Signer,
    system: ActorSystem,
    heard: mpsc::Receiver<Said>,
}

impl std::fmt::Debug for Requester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requester").field("did", &self.did).finish_non_exhaustive()
    }
}

impl Requester {
    /// Says a word to the provider.
    pub async fn tell<M: Message<Reply = ()> + WireMessage>(&self, word: M) {
        let address = Address::new(self.provider, "/node").expect("a plain path");
        let to: Recipient<M> = self.system.resolve(&address);
        let told = tokio::time::timeout(DEADLINE, to.tell(word)).await.expect("the link takes it in time");
        told.expect("the provider is there");
    }

    /// The next word that it hears.
    pub async fn hear(&mut self) -> Said {
        let heard = tokio::time::timeout(DEADLINE, self.heard.recv()).await.expect("a word in time");
        heard.expect("its system lives")
    }

    /// Asks for a bid on one pod of `job`.
    pub async fn ask(&self, job: JobId, request: BidRequestId, pod: &Pod) {
        let request = BidRequest {
            id: request,
            job,
            pod: 0,
            requirement: pod.requirement.clone(),
            run_time: pod.run_time(),
            max_price: None,
            wanted: 1,
            addresses: vec![],
            credentials: Default::default(),
        };
        let signed = self.signer.sign(request, Some(self.provider), MINUTE);
        self.tell(signed.expect("a small document can be signed")).await;
    }

    /// Invokes `bid` for an attempt of `pod`.
    pub async fn invoke(&self, bid: &Bid, attempt: AttemptId, pod: Pod) {
        self.tell(self.invocation(bid, attempt, pod)).await;
    }

    /// The word that takes `bid`.
    pub fn invocation(&self, bid: &Bid, attempt: AttemptId, pod: Pod) -> Signed<Invocation> {
        let contract = Contract {
            requester: self.did,
            provider: self.provider,
            attempt,
            request: bid.request,
            bid: bid.id,
            resources: bid.resources.clone(),
            price: bid.price,
            pod,
            orphan_after: Millis(600_000),
        };
        let contract = self.signer.sign(contract, Some(self.provider), MINUTE);
        let contract = contract.expect("a small document can be signed");
        let signed = self.signer.sign(Invocation { bid: bid.id, contract }, Some(self.provider), MINUTE);
        signed.expect("a small document can be signed")
    }

    /// Ends it.
    pub async fn stop(self) {
        self.system.stop(DEADLINE).await.expect("the actors end in time");
    }
}

/// Starts whatever it is given, which then runs until it is stopped; remembers by its first argument how often.
#[derive(Debug)]
pub struct HoldingExecutor {
    runtime: Handle,
    starts: Mutex<BTreeMap<String, usize>>,
    running: watch::Sender<usize>,
}

impl HoldingExecutor {
    /// One whose workloads are watched on the current runtime.
    pub fn shared() -> Arc<Self> {
        Arc::new(Self {
            runtime: Handle::current(),
            starts: Mutex::default(),
            running: watch::Sender::new(0),
        })
    }

    /// How often each workload was started, by its first argument.
    pub fn starts(&self) -> BTreeMap<String, usize> {
        self.starts.lock().expect("nobody panics under the lock").clone()
    }

    /// How many run now.
    pub fn running(&self) -> watch::Receiver<usize> {
        self.running.subscribe()
    }
}

impl Executor for HoldingExecutor {
    fn start(&self, workload: Workload, _: Limits) -> Execution {
        let name = workload.args.first().cloned().unwrap_or_default();
        *self.starts.lock().expect("nobody panics under the lock").entry(name).or_default() += 1;
        self.running.send_modify(|count| *count += 1);
        let (stop, stopped) = oneshot::channel::<()>();
        let (ended, outcome) = oneshot::channel();
        let running = self.running.clone();
        self.runtime.spawn(async move {
            // Fired or dropped, it is a stop either way.
            let _ = stopped.await;
            running.send_modify(|count| *count -= 1);
            // The actor may be gone already.
            let _ = ended.send(Outcome { exit: Exit::Stopped, usage: ExecutionUsage::default() });
        });
        Execution { output: mpsc::channel(1).1, outcome, stop, gauge: Default::default() }
    }
}
