//! A real node with its real gate on links and gossip in memory, the peers that speak to it by hand, and everything that
//! a word could have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dms_actors::clock::{Clock, SharedClock, SystemClock, Timestamp};
use dms_actors::directory::memory::MemoryDirectory;
use dms_actors::mesh::memory::MemoryMesh;
use dms_actors::mesh::{Mesh, Topic, Verdict};
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{ActorPath, ActorRef, ActorSystem, Kind, Policy, Refusal, Supervision, Workers};
use dms_messages::{Credentials, Did, Document, Keypair, ResourceSummary, Resources, Signed, to_canonical};
use dms_node::benchmark::GivenMachine;
use dms_node::blobs::BlobStore;
use dms_node::commands::{CapabilityView, GetCapability, GetStatus, NodeStatus};
use dms_node::network::{self, NetworkParts};
use dms_node::node::{BooksOpener, Node, NodeParts, NodeTimes, ProviderRules, open_books};
use dms_node::orchestrator::job_state::JobRules;
use dms_node::peers::GetPeers;
use dms_node::signer::Signer;
use dms_node::trust::{Gate, Trust};
use dms_storage::engine::ScanRange;
use dms_storage::schema::Family;
use dms_storage::{Engine, MemoryEngine};
use dms_tests::DEADLINE;
use dms_tests::hand_made::MODULE;
use dms_tests::pair::{HeldExecutor, wait_until};
use tokio::sync::watch;

use super::words::{self, Heard, MINUTE, NETWORK, Seal, Word};

/// Nothing of these tests waits for a timer of the node.
pub(crate) const HOURS: Duration = Duration::from_secs(24 * 3600);
/// Most gossip that may wait for a node: a memory mesh drops what is more.
const GOSSIP_AT_A_TIME: usize = 256;

pub(crate) fn key(seed: u8) -> Keypair {
    Keypair::from_secret(&[seed; 32])
}

/// The system's clock, which the test moves forward.
#[derive(Debug)]
pub(crate) struct MovedClock {
    system: SharedClock,
    ahead_ms: AtomicU64,
}

impl MovedClock {
    pub(crate) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).expect("a short time");
        self.ahead_ms.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        self.system.now().saturating_add(Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed)))
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic() + Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }

    fn random(&self) -> [u8; 16] {
        self.system.random()
    }
}

/// What everybody shares.
pub(crate) struct World {
    pub(crate) clock: Arc<MovedClock>,
    pub(crate) network: MemoryNetwork,
    pub(crate) mesh: MemoryMesh,
}

/// A real node.
pub(crate) struct Subject {
    pub(crate) node: ActorRef<Node>,
    pub(crate) did: Did,
    pub(crate) system: ActorSystem,
    pub(crate) executor: Arc<HeldExecutor>,
    engine: Arc<MemoryEngine>,
    data: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = MovedClock { system: SystemClock::shared(), ahead_ms: AtomicU64::new(0) };
        Self { clock: Arc::new(clock), network: MemoryNetwork::default(), mesh: MemoryMesh::default() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How an honest peer signs for `audience` now.
    pub(crate) fn seal<'k>(&self, by: &'k Keypair, audience: Option<Did>) -> Seal<'k> {
        Seal { by, network: NETWORK, audience, issued_at: self.now(), ttl: MINUTE }
    }

    /// A node of this seed that trusts these by name, on an empty disk.
    pub(crate) fn node(&self, seed: u8, trusted: &[Did], mesh: &MemoryMesh) -> Subject {
        let data = tempfile::tempdir().expect("a directory can be made");
        self.node_on(seed, trusted, mesh, MemoryEngine::new(), data)
    }

    /// The same node again, on what its disk has of it.
    pub(crate) async fn restart(&self, subject: Subject, seed: u8, trusted: &[Did]) -> Subject {
        let Subject { system, engine, data, .. } = subject;
        system.stop(DEADLINE).await.expect("the actors end in time");
        let left = engine.crash();
        self.node_on(seed, trusted, &self.mesh, left, data)
    }

    fn node_on(
        &self,
        seed: u8,
        trusted: &[Did],
        mesh: &MemoryMesh,
        engine: MemoryEngine,
        data: tempfile::TempDir,
    ) -> Subject {
        let did = key(seed).did();
        let clock: SharedClock = Arc::<MovedClock>::clone(&self.clock);
        let trust = Trust { peers: trusted.iter().copied().collect(), ..Trust::default() };
        let gate = Gate::new(did, NETWORK, &trust, Arc::clone(&clock));
        let blobs = Arc::new(BlobStore::open(data.path(), did, 1 << 20).expect("the directory is ours"));
        blobs.put(MODULE).expect("a few bytes can be stored");
        let transport = self.network.transport(did);
        let system = ActorSystem::builder(did, NETWORK)
            .policy(Arc::new(gate.clone()))
            .clock(Arc::clone(&clock))
            .transport(transport.clone())
            .blobs(Arc::<BlobStore>::clone(&blobs))
            .start()
            .expect("a system of its own starts");
        let engine = Arc::new(engine);
        let shared: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(&engine);
        let executor = HeldExecutor::shared();
        let parts = NodeParts {
            opened: Arc::new(Mutex::new(Some(open_books(&shared).expect("the books open")))),
            engine: shared,
            signer: Signer::new(Arc::new(key(seed)), Arc::clone(&clock), NETWORK),
            gate: gate.clone(),
            clock,
            job_rules: JobRules {
                auction: HOURS,
                invocation: HOURS,
                heartbeat: HOURS,
                silence: HOURS,
                cancel: HOURS,
                orphan_after: HOURS,
                retry: (HOURS, HOURS),
                ..JobRules::default()
            },
            provider_rules: ProviderRules { lease: HOURS, max_output: 1024 },
            max_jobs: 10,
            monitoring: None,
            times: NodeTimes { reconcile: HOURS, housekeeping: HOURS, ..NodeTimes::default() },
            opener: BooksOpener::default(),
            workers: Workers::threads(tokio::runtime::Handle::current()),
            blobs,
            executor: Arc::<HeldExecutor>::clone(&executor),
            machine: Arc::new(GivenMachine::default()),
            network: NetworkParts {
                connections: watch::channel(Vec::new()).1,
                transport_status: watch::channel(Default::default()).1,
                system: system.clone(),
                transport,
                mesh: mesh.member(did),
                directory: MemoryDirectory::default().member(did),
                runtime: tokio::runtime::Handle::current(),
                pending: watch::Sender::new(0),
            },
        };
        let network = parts.network.clone();
        let node = system.spawn(move || Node::new(parts.clone()), Supervision::never());
        dms_node::startup::register(&system, &node).expect("nobody else is there");
        network::listen(&network, &gate, &node);
        Subject { node, did, system, executor, engine, data }
    }

    /// A peer made by hand.
    pub(crate) fn voice(&self, seed: u8, shown: &Credentials) -> Voice {
        let key = key(seed);
        let did = key.did();
        let shown = Arc::new(Mutex::new(to_canonical(shown).expect("they are bounded")));
        let system = ActorSystem::builder(did, NETWORK)
            .policy(Arc::new(Shows(Arc::clone(&shown))))
            .transport(self.network.transport(did))
            .start()
            .expect("a system of its own starts");
        let heard = Heard::default();
        words::listen(&system, &heard);
        Voice { key, did, system, mesh: self.mesh.member(did), heard, read: Mutex::new(0), shown }
    }
}

/// Admits everybody, and shows what it is given.
struct Shows(Arc<Mutex<Vec<u8>>>);

impl Policy for Shows {
    fn admit(&self, _: Did, _: &ActorPath, _: &Kind) -> Result<(), Refusal> {
        Ok(())
    }

    fn credentials(&self) -> Vec<u8> {
        self.0.lock().expect("nobody panics under the lock").clone()
    }
}

/// A peer that says what the test lets it say.
pub(crate) struct Voice {
    pub(crate) key: Keypair,
    pub(crate) did: Did,
    pub(crate) system: ActorSystem,
    mesh: Arc<dyn Mesh>,
    heard: Heard,
    /// How much of it the test has looked at.
    read: Mutex<usize>,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Voice {
    pub(crate) async fn tell(&self, to: Did, word: Word, bytes: Vec<u8>) {
        words::tell(&self.system, to, word, bytes).await;
    }

    /// Shows these from now on.
    pub(crate) fn show(&self, credentials: &Credentials) {
        *self.shown.lock().expect("nobody panics under the lock") =
            to_canonical(credentials).expect("they are bounded");
        self.system.introduce();
    }

    /// All that it was told so far.
    pub(crate) fn heard(&self) -> Vec<(Word, Vec<u8>)> {
        self.heard.lock().expect("nobody panics under the lock").clone()
    }

    /// The next word of this kind that it was told.
    pub(crate) async fn hear(&self, word: Word) -> Vec<u8> {
        wait_until(&format!("a {word:?}"), async || {
            let heard = self.heard.lock().expect("nobody panics under the lock");
            let mut read = self.read.lock().expect("nobody panics under the lock");
            let next = heard.iter().skip(*read).position(|(kind, _)| *kind == word)? + *read;
            *read = next + 1;
            Some(heard[next].1.clone())
        })
        .await
    }

    /// The next document of this kind that it was told.
    pub(crate) async fn hear_document<T: Document>(&self, word: Word) -> Signed<T> {
        Signed::verify_offline(&self.hear(word).await).expect("a node signs well")
    }

    /// Says a body to the whole mesh, once somebody listens.
    async fn gossip(&self, topic: &Topic, body: &[u8]) {
        wait_until("a listener", async || self.mesh.publish(topic.clone(), body.to_vec()).await.ok()).await;
    }
}

/// Says bodies to the whole mesh, and gives what the subject says of each of them.
pub(crate) async fn gossip(
    world: &World,
    subject: &Subject,
    by: &Voice,
    topic: &Topic,
    bodies: Vec<Vec<u8>>,
) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let said = || {
        let all = world.mesh.verdicts().into_iter();
        all.filter(|(did, ..)| *did == subject.did).map(|(_, id, verdict)| (id.0, verdict))
    };
    for chunk in bodies.chunks(GOSSIP_AT_A_TIME) {
        let before = said().map(|(id, _)| id).max().unwrap_or_default();
        for body in chunk {
            by.gossip(topic, body).await;
        }
        let new = wait_until("the verdicts", async || {
            let new: BTreeMap<Vec<u8>, Verdict> = said().filter(|(id, _)| *id > before).collect();
            (new.len() >= chunk.len()).then_some(new)
        })
        .await;
        verdicts.extend(new.into_values());
        // What was let in has been handled when this is answered.
        subject.status().await;
    }
    verdicts
}

/// Everything that a word could have changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Look {
    events: u64,
    capability: CapabilityView,
    jobs: (usize, usize),
    rows: BTreeMap<(Family, Vec<u8>), Vec<u8>>,
    peers: Vec<Known>,
}

/// What the node knows of a peer.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    did: Did,
    is_trusted: bool,
    addresses: Vec<String>,
    offer: Option<Resources>,
    status: Option<ResourceSummary>,
}

impl Look {
    /// What differs, in few words.
    pub(crate) fn difference(&self, later: &Self) -> String {
        let changed: BTreeSet<&str> = self
            .rows
            .iter()
            .filter(|(key, value)| later.rows.get(*key) != Some(*value))
            .chain(later.rows.iter().filter(|(key, _)| !self.rows.contains_key(*key)))
            .map(|((family, _), _)| family.name())
            .collect();
        let (events, books) = (later.events - self.events, self.capability == later.capability);
        let peers = self.peers == later.peers;
        // Its name is to be read in it, whatever else is not text.
        let last = later.rows.iter().rfind(|((family, _), _)| *family == Family::Events);
        let last = last.map(|(_, row)| String::from_utf8_lossy(row).into_owned());
        format!(
            "{events} events, the last {last:?}; rows of {changed:?}; same capability: {books}; \
             same peers: {peers}"
        )
    }
}

impl Subject {
    pub(crate) async fn status(&self) -> NodeStatus {
        self.node.ask(GetStatus).timeout(DEADLINE).await.expect("the node answers")
    }

    /// The rows of one family.
    pub(crate) fn rows(&self, family: Family) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.engine.scan(family, ScanRange::all(), usize::MAX).expect("memory can be read")
    }

    /// Looks at everything, once all that was recorded is on disk.
    pub(crate) async fn look(&self) -> Look {
        let status = wait_until("the disk to have every event", async || {
            let status = self.status().await;
            (self.rows(Family::Events).len() as u64 == status.event_count).then_some(status)
        })
        .await;
        let capability = self.node.ask(GetCapability).timeout(DEADLINE).await.expect("the node answers");
        let peers = self.node.ask(GetPeers { limit: usize::MAX }).timeout(DEADLINE).await;
        let peers = peers.expect("the node answers").into_iter().map(|view| Known {
            did: view.did,
            is_trusted: view.is_trusted,
            addresses: view.addresses,
            offer: view.advert.map(|advert| advert.available),
            status: view.status.map(|report| report.status.available),
        });
        // What a snapshot has is what the rows have, and when one is made is the committer's affair.
        let families =
            Family::ALL.into_iter().filter(|family| !matches!(family, Family::Meta | Family::Snapshot));
        let rows = families
            .flat_map(|family| self.rows(family).into_iter().map(move |(key, value)| ((family, key), value)));
        Look {
            events: status.event_count,
            capability,
            jobs: (status.job_count, status.active_job_count),
            rows: rows.collect(),
            peers: peers.collect(),
        }
    }
}
