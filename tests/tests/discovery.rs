//! Nodes that do not know each other meet through the directory, and nobody who says that it stops is asked.
//!
//! The nodes are built by hand over the in-memory transport, mesh and directory, so that what each one knows is
//! exactly what the test let it hear.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dms_actors::clock::{SharedClock, SystemClock};
use dms_actors::directory::memory::MemoryDirectory;
use dms_actors::directory::{Directory, RecordCheck};
use dms_actors::mesh::Mesh;
use dms_actors::mesh::memory::MemoryMesh;
use dms_actors::transport::memory::{MemoryNetwork, MemoryTransport};
use dms_actors::transport::{OpenError, Pipe, Transport, TransportEvent};
use dms_actors::{ActorRef, ActorSystem, Keypair, Supervision, Workers};
use dms_messages::*;
use dms_node::benchmark::GivenMachine;
use dms_node::blobs::BlobStore;
use dms_node::commands::{GetCapability, Onboard, ShowJob, SubmitJob};
use dms_node::directory::{WordCheck, advert_key, class_key};
use dms_node::job::FindCandidates;
use dms_node::network::{self, NetworkParts, advert_topic, bid_request_topic, status_topic};
use dms_node::node::{BooksOpener, Node, NodeParts, NodeTimes, ProviderRules, open_books};
use dms_node::orchestrator::job_state::JobRules;
use dms_node::peers::{GetPeers, PeerView};
use dms_node::signer::Signer;
use dms_storage::{Engine, MemoryEngine};
use dms_tests::DEADLINE;
use dms_tests::ear::{self, Said};
use dms_tests::hand_made::{self, NoExecutor, capability, machine};
use tokio::sync::{mpsc, watch};

const MINUTE: Duration = Duration::from_secs(60);

/// A transport that reaches only peers that are connected, or of whom it was told an address, as a real one does.
struct ByAddress {
    inner: Arc<MemoryTransport>,
    told: Mutex<BTreeSet<Did>>,
}

impl fmt::Debug for ByAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByAddress")
    }
}

impl Transport for ByAddress {
    fn open(
        &self,
        peer: Did,
        protocol: &'static str,
    ) -> Pin<Box<dyn Future<Output = Result<Pipe, OpenError>> + Send>> {
        let is_connected = self.inner.connected_peers().contains(&peer);
        if is_connected || self.told.lock().unwrap().contains(&peer) {
            self.inner.open(peer, protocol)
        } else {
            Box::pin(async move { Err(OpenError::NoRoute(peer)) })
        }
    }
    fn add_addresses(&self, peer: Did, addresses: Vec<String>) {
        if !addresses.is_empty() {
            self.told.lock().unwrap().insert(peer);
        }
    }
    fn listen_addresses(&self) -> Vec<String> {
        vec!["/ip4/127.0.0.1/tcp/1".to_owned()]
    }
    fn connected_peers(&self) -> Vec<Did> {
        self.inner.connected_peers()
    }
    fn take_events(&self) -> Option<mpsc::Receiver<TransportEvent>> {
        self.inner.take_events()
    }
}

/// What all nodes of a test share.
#[derive(Clone)]
struct World {
    clock: SharedClock,
    network: MemoryNetwork,
    mesh: MemoryMesh,
    directory: MemoryDirectory,
}

impl World {
    fn new() -> Self {
        let clock = SystemClock::shared();
        let check: Arc<dyn RecordCheck> =
            Arc::new(WordCheck::new(key(0xff).did(), "test", Arc::clone(&clock)));
        Self {
            clock,
            network: MemoryNetwork::default(),
            mesh: MemoryMesh::default(),
            directory: MemoryDirectory::with_check(check),
        }
    }

    fn signer(&self, seed: u8) -> Signer {
        Signer::new(Arc::new(key(seed)), Arc::clone(&self.clock), "test")
    }

    /// A peer that is only a voice: it hears what nodes say to it.
    fn voice(&self, seed: u8) -> Voice {
        let did = key(seed).did();
        let transport = self.network.transport(did);
        let system = ActorSystem::builder(did, "test").transport(transport).start().unwrap();
        let heard = ear::listen(&system);
        let (mesh, directory) = (self.mesh.member(did), self.directory.member(did));
        Voice { signer: self.signer(seed), system, mesh, directory, heard }
    }

    fn node(&self, seed: u8) -> HandMade {
        let did = key(seed).did();
        let inner = self.network.transport(did);
        let transport = Arc::new(ByAddress { inner, told: Mutex::default() });
        let system = ActorSystem::builder(did, "test").transport(transport.clone()).start().unwrap();
        let data = tempfile::tempdir().unwrap();
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let gate = hand_made::open_gate(did, "test", &self.clock);
        let parts = NodeParts {
            opened: Arc::new(Mutex::new(Some(open_books(&engine).unwrap()))),
            engine,
            signer: self.signer(seed),
            clock: Arc::clone(&self.clock),
            gate: gate.clone(),
            job_rules: JobRules::default(),
            provider_rules: ProviderRules { lease: MINUTE, max_output: 1024 },
            max_jobs: 10,
            monitoring: None,
            times: NodeTimes::default(),
            opener: BooksOpener::default(),
            workers: Workers::threads(tokio::runtime::Handle::current()),
            blobs: Arc::new(BlobStore::open(data.path(), did, 1 << 20).unwrap()),
            executor: Arc::new(NoExecutor),
            machine: Arc::new(GivenMachine::default()),
            network: NetworkParts {
                connections: tokio::sync::watch::channel(Vec::new()).1,
                transport_status: tokio::sync::watch::channel(Default::default()).1,
                system: system.clone(),
                transport,
                mesh: self.mesh.member(did),
                directory: self.directory.member(did),
                runtime: tokio::runtime::Handle::current(),
                pending: watch::Sender::new(0),
            },
        };
        let network = parts.network.clone();
        let node = system.spawn(move || Node::new(parts.clone()), Supervision::never());
        dms_node::startup::register(&system, &node).unwrap();
        network::listen(&network, &gate, &node);
        HandMade { node, system, _data: data }
    }
}

fn key(seed: u8) -> Keypair {
    Keypair::from_secret(&[seed; 32])
}

struct Voice {
    signer: Signer,
    system: ActorSystem,
    mesh: Arc<dyn Mesh>,
    directory: Arc<dyn Directory>,
    heard: mpsc::Receiver<Said>,
}

impl Voice {
    fn did(&self) -> Did {
        self.signer.me()
    }

    fn advert(&self) -> Signed<Advert> {
        let advert = Advert {
            card: ContentId::of_bytes(b"card"),
            addresses: vec!["/ip4/127.0.0.1/tcp/2".into()],
            executors: BTreeSet::from([ExecutorKind::Wasm]),
            available: machine(),
            prices: PriceList::default(),
            sequence: self.signer.now().0,
            credentials: Default::default(),
            profile: Default::default(),
        };
        self.signer.sign(advert, None, MINUTE).unwrap()
    }

    fn status(&self, mode: ServingMode) -> Signed<NodeStatus> {
        let status = NodeStatus {
            role: NodeRole::Provider,
            mode,
            available: ResourceSummary::from(&machine()),
            allocations: 1,
            locks: 2,
            jobs: 3,
            peers: 4,
            sequence: self.signer.now().0,
        };
        self.signer.sign(status, None, MINUTE).unwrap()
    }

    /// Gossips, as soon as somebody listens.
    async fn gossip<T>(&self, topic: dms_actors::mesh::Topic, document: &Signed<T>) {
        let publish = async {
            while self.mesh.publish(topic.clone(), document.bytes().to_vec()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, publish).await.expect("a listener");
    }

    async fn hear(&mut self) -> Said {
        tokio::time::timeout(DEADLINE, self.heard.recv()).await.expect("a word in time").unwrap()
    }

    fn request(&self) -> Signed<BidRequest> {
        let request = BidRequest {
            id: BidRequestId::from_random([1; 16]),
            job: JobId::from_random([1; 16]),
            pod: 0,
            requirement: job().pods[0].requirement.clone(),
            run_time: Millis(1000),
            max_price: None,
            wanted: 1,
            addresses: vec![],
            credentials: Default::default(),
        };
        self.signer.sign(request, None, MINUTE).unwrap()
    }
}

struct HandMade {
    node: ActorRef<Node>,
    system: ActorSystem,
    _data: tempfile::TempDir,
}

impl HandMade {
    async fn onboard(self) -> Self {
        let capability = capability();
        self.node.ask(Onboard { capability }).timeout(DEADLINE).await.unwrap().unwrap();
        self
    }

    async fn peers(&self) -> Vec<PeerView> {
        self.node.ask(GetPeers { limit: 100 }).timeout(DEADLINE).await.unwrap()
    }

    async fn candidates(&self) -> Vec<Did> {
        let class = CapabilityClass::needed(&job().pods[0].requirement);
        let found = self
            .node
            .ask(FindCandidates { job: job().id, class, wanted: 1 })
            .timeout(DEADLINE)
            .await
            .unwrap();
        found.known.into_iter().map(|candidate| candidate.did).collect()
    }

    async fn lock_count(&self) -> usize {
        self.node.ask(GetCapability).timeout(DEADLINE).await.unwrap().locks.len()
    }

    async fn stop(self) {
        self.system.stop(DEADLINE).await.unwrap();
    }
}

/// Looks until a state is there.
async fn wait_until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.unwrap_or_else(|_| panic!("{what} did not come"));
}

fn job() -> Job {
    hand_made::job(Millis(60_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requester_that_knows_nobody_finds_a_provider_by_its_class_and_asks_it() {
    let world = World::new();
    let requester = world.node(1);
    // It says its offer where nobody listens.
    let elsewhere = World { mesh: MemoryMesh::default(), ..world.clone() };
    let provider = elsewhere.node(2).onboard().await;
    let (ours, theirs) = (key(1).did(), key(2).did());
    // What the provider puts is there as soon as it is onboarded, not at some later tick.
    let shelf = world.directory.member(ours);
    let class = class_key(&CapabilityClass::needed(&job().pods[0].requirement));
    wait_until("the provider in the directory", async || {
        let is_listed = shelf.providers(class.clone()).await.unwrap() == [theirs];
        is_listed && !shelf.get(advert_key(theirs)).await.unwrap().is_empty()
    })
    .await;
    let known = requester.peers().await;
    assert!(known.is_empty(), "the directory is the only way: {known:?}");

    requester.node.ask(SubmitJob { job: job() }).timeout(DEADLINE).await.unwrap().unwrap();
    wait_until("an attempt", async || {
        let row = requester.node.ask(ShowJob { job: job().id }).timeout(DEADLINE).await.unwrap().unwrap();
        row.attempts.iter().any(|attempt| attempt.provider == theirs)
    })
    .await;
    let known = requester.peers().await;
    assert_eq!(known[0].did, theirs);
    assert_eq!(known[0].addresses, ["/ip4/127.0.0.1/tcp/1"], "as its advert says");
    requester.stop().await;
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_says_it_is_draining_is_not_asked_until_it_is_back() {
    let world = World::new();
    let provider = world.voice(2);
    let requester = world.node(1);
    provider.gossip(advert_topic("test"), &provider.advert()).await;
    wait_until("the candidate", async || requester.candidates().await == [provider.did()]).await;

    provider.gossip(status_topic("test"), &provider.status(ServingMode::Draining)).await;
    wait_until("the status", async || requester.peers().await[0].status.is_some()).await;
    assert_eq!(requester.candidates().await, []);
    let view = &requester.peers().await[0];
    let report = view.status.as_ref().unwrap();
    assert_eq!((report.status.mode, report.status.peers), (ServingMode::Draining, 4));
    assert!(view.is_trusted && !view.is_connected && view.advert.is_some());

    // A status signed by one and published by another is not believed.
    let forger = world.voice(3);
    forger.gossip(status_topic("test"), &provider.status(ServingMode::ReadOnly)).await;
    // The same road keeps the order: when this one is here, the other would have been.
    provider.gossip(status_topic("test"), &provider.status(ServingMode::Serving)).await;
    wait_until("the candidate", async || requester.candidates().await == [provider.did()]).await;
    requester.stop().await;
    provider.system.stop(DEADLINE).await.unwrap();
    forger.system.stop(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_for_a_peer_of_unknown_address_finds_its_way_through_the_directory() {
    let world = World::new();
    let mut requester = world.voice(2);
    let provider = world.node(1).onboard().await;
    let put =
        requester.directory.put(advert_key(requester.did()), requester.advert().bytes().to_vec(), MINUTE);
    put.await.unwrap();
    // Without an address: only the advert says where the bid must go.
    requester.gossip(bid_request_topic("test"), &requester.request()).await;
    match requester.hear().await {
        Said::Bid(bid) => assert_eq!(bid.issuer(), key(1).did()),
        other => panic!("{other:?}"),
    }
    provider.stop().await;
    requester.system.stop(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bid_that_cannot_be_brought_to_anybody_holds_nothing() {
    let world = World::new();
    let requester = world.voice(2);
    let provider = world.node(1).onboard().await;
    let events = async || {
        let status = provider.node.ask(dms_node::commands::GetStatus).timeout(DEADLINE).await.unwrap();
        status.event_count
    };
    let before = events().await;
    requester.gossip(bid_request_topic("test"), &requester.request()).await;
    // Request, bid, document; then the lock's end.
    wait_until("the end of the lock", async || {
        events().await >= before + 4 && provider.lock_count().await == 0
    })
    .await;
    provider.stop().await;
    requester.system.stop(DEADLINE).await.unwrap();
}
