//! Two real nodes over the in-memory transport, whose links lose the words that a test names, whose disks fail when it
//! says so, and whose programs end when it lets them.
//!
//! A word is lost as a link loses words: it breaks with them on it. Heartbeats and time limits are hours, so that
//! nothing but comparing what they share can mend it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::DEADLINE;
use crate::hand_made::{capability, job, machine, open_gate};
use dms_actors::clock::SystemClock;
use dms_actors::directory::memory::MemoryDirectory;
use dms_actors::mesh::memory::MemoryMesh;
use dms_actors::transport::memory::{MemoryNetwork, MemoryTransport};
use dms_actors::transport::{OpenError, Pipe, Transport, TransportEvent};
use dms_actors::{ActorRef, ActorSystem, Keypair, Supervision, Workers};
use dms_messages::*;
use dms_node::benchmark::GivenMachine;
use dms_node::blobs::BlobStore;
use dms_node::commands::{GetStatus, NodeStatus, Onboard, ShowJob, SubmitJob};
use dms_node::executors::inbox::Inbox;
use dms_node::executors::{Execution, ExecutionUsage, Executor, Exit, Limits, Outcome, Workload};
use dms_node::listings::Page;
use dms_node::listings::contracts::{AllocationView, ListAllocations};
use dms_node::network::{self, NetworkParts};
use dms_node::node::{BooksOpener, Node, NodeParts, NodeTimes, ProviderRules, open_books};
use dms_node::orchestrator::job_state::JobRules;
use dms_node::signer::Signer;
use dms_storage::books::{AttemptState, JobRow};
use dms_storage::{Engine, MemoryEngine};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};

const HOURS: Duration = Duration::from_secs(24 * 3600);
const MODULE: &[u8] = b"a module that the executor of these tests does not look at";
/// Whose jobs run; a key's seed.
pub const REQUESTER: u8 = 1;
/// Who runs them.
pub const PROVIDER: u8 = 2;

/// The kinds of words on which this node's links break now.
type Lost = Arc<Mutex<BTreeSet<&'static str>>>;

/// A transport whose pipes break when a word of a lost kind is written.
struct Losing {
    inner: Arc<MemoryTransport>,
    lost: Lost,
}

impl fmt::Debug for Losing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Losing")
    }
}

impl Transport for Losing {
    fn open(
        &self,
        peer: Did,
        protocol: &'static str,
    ) -> Pin<Box<dyn Future<Output = Result<Pipe, OpenError>> + Send>> {
        let opened = self.inner.open(peer, protocol);
        let lost = Arc::clone(&self.lost);
        Box::pin(async move {
            let pipe: Pipe = Box::new(LosingPipe { inner: Some(opened.await?), lost, tail: Vec::new() });
            Ok(pipe)
        })
    }
    fn add_addresses(&self, peer: Did, addresses: Vec<String>) {
        self.inner.add_addresses(peer, addresses);
    }
    fn listen_addresses(&self) -> Vec<String> {
        self.inner.listen_addresses()
    }
    fn connected_peers(&self) -> Vec<Did> {
        self.inner.connected_peers()
    }
    fn take_events(&self) -> Option<mpsc::Receiver<TransportEvent>> {
        self.inner.take_events()
    }
}

/// Kinds are text in a frame's header, and memory pipes are not encrypted.
struct LosingPipe {
    inner: Option<Pipe>,
    lost: Lost,
    /// The last bytes written: a kind may be written in two pieces.
    tail: Vec<u8>,
}

const TAIL: usize = 64;

impl LosingPipe {
    fn inner(&mut self) -> io::Result<Pin<&mut Pipe>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncRead for LosingPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.inner() {
            Ok(inner) => inner.poll_read(cx, buf),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for LosingPipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let window = [self.tail.as_slice(), buf].concat();
        let lost = self.lost.lock().unwrap().clone();
        if lost.iter().any(|kind| window.windows(kind.len()).any(|it| it == kind.as_bytes())) {
            self.inner = None;
        }
        let written = match self.inner() {
            Ok(inner) => std::task::ready!(inner.poll_write(cx, buf)),
            Err(error) => Err(error),
        };
        if let Ok(count) = written {
            self.tail.extend(&buf[..count]);
            let surplus = self.tail.len().saturating_sub(TAIL);
            self.tail.drain(..surplus);
        }
        Poll::Ready(written)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.inner() {
            Ok(inner) => inner.poll_flush(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.inner() {
            Ok(inner) => inner.poll_shutdown(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// Runs programs that end when the test says so, or when they are stopped.
#[derive(Debug)]
pub struct HeldExecutor {
    runtime: tokio::runtime::Handle,
    /// True: whatever runs ends well, now and later.
    pub may_end: watch::Sender<bool>,
    /// Where messages for the newest program wait, while it runs.
    inbox: Arc<Mutex<Option<Inbox>>>,
}

impl HeldExecutor {
    /// One whose programs are watched on the current runtime, and may not end yet.
    pub fn shared() -> Arc<Self> {
        let runtime = tokio::runtime::Handle::current();
        Arc::new(Self { runtime, may_end: watch::Sender::new(false), inbox: Arc::default() })
    }

    /// Where messages for the newest program wait, while it runs.
    pub fn inbox(&self) -> Option<Inbox> {
        self.inbox.lock().unwrap().clone()
    }
}

impl Executor for HeldExecutor {
    fn start(&self, workload: Workload, _: Limits) -> Execution {
        if let Some(inbox) = &workload.inbox {
            inbox.open();
        }
        *self.inbox.lock().unwrap() = workload.inbox;
        let inbox = Arc::clone(&self.inbox);
        let (stop, stopped) = oneshot::channel();
        let (tell, outcome) = oneshot::channel();
        let mut may_end = self.may_end.subscribe();
        self.runtime.spawn(async move {
            let exit = tokio::select! {
                biased;
                _ = stopped => Exit::Stopped,
                _ = may_end.wait_for(|may| *may) => Exit::Code(0),
            };
            inbox.lock().unwrap().take();
            let _ = tell.send(Outcome { exit, usage: ExecutionUsage::default() });
        });
        Execution { output: mpsc::channel(1).1, outcome, stop, gauge: Default::default() }
    }
}

/// What both nodes share.
#[derive(Debug)]
pub struct World {
    /// How often its nodes look after themselves.
    pub times: NodeTimes,
    network: MemoryNetwork,
    mesh: MemoryMesh,
    directory: MemoryDirectory,
}

/// A node made by hand.
#[derive(Debug)]
pub struct HandMade {
    /// Its Node.
    pub node: ActorRef<Node>,
    system: ActorSystem,
    /// Where its books lie.
    pub engine: Arc<MemoryEngine>,
    /// What runs its programs.
    pub executor: Arc<HeldExecutor>,
    lost: Lost,
    /// Its contents.
    pub blobs: Arc<BlobStore>,
    /// Its data directory.
    pub data: tempfile::TempDir,
}

/// The key of a seed.
pub fn key(seed: u8) -> Keypair {
    Keypair::from_secret(&[seed; 32])
}

impl Default for World {
    fn default() -> Self {
        let soon = Duration::from_millis(20);
        Self {
            times: NodeTimes { reconcile: soon, disk_retry: soon, ..NodeTimes::default() },
            network: MemoryNetwork::default(),
            mesh: MemoryMesh::default(),
            directory: MemoryDirectory::default(),
        }
    }
}

impl World {
    /// A world whose nodes look after themselves at these times.
    pub fn with(times: NodeTimes) -> Self {
        Self { times, ..Self::default() }
    }

    /// A node on these books; one of the same key that ran before is cut off.
    pub fn node(&self, seed: u8, engine: MemoryEngine, lost: &[&'static str]) -> HandMade {
        let did = key(seed).did();
        let clock = SystemClock::shared();
        let lost: Lost = Arc::new(Mutex::new(lost.iter().copied().collect()));
        let inner = self.network.transport(did);
        let transport = Arc::new(Losing { inner, lost: Arc::clone(&lost) });
        let data = tempfile::tempdir().unwrap();
        let blobs = Arc::new(BlobStore::open(data.path(), did, 1 << 20).unwrap());
        blobs.put(MODULE).unwrap();
        let system = ActorSystem::builder(did, "test")
            .transport(transport.clone())
            .blobs(Arc::<BlobStore>::clone(&blobs))
            .start()
            .unwrap();
        let engine = Arc::new(engine);
        let shared: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(&engine);
        let executor = HeldExecutor::shared();
        let gate = open_gate(did, "test", &clock);
        let parts = NodeParts {
            opened: Arc::new(Mutex::new(Some(open_books(&shared).unwrap()))),
            engine: shared,
            signer: Signer::new(Arc::new(key(seed)), Arc::clone(&clock), "test"),
            gate: gate.clone(),
            clock,
            job_rules: JobRules {
                invocation: HOURS,
                heartbeat: HOURS,
                silence: HOURS,
                cancel: HOURS,
                orphan_after: HOURS,
                ..JobRules::default()
            },
            provider_rules: ProviderRules { lease: DEADLINE, max_output: 1024 },
            max_jobs: 10,
            monitoring: None,
            times: self.times,
            opener: BooksOpener::default(),
            workers: Workers::threads(tokio::runtime::Handle::current()),
            blobs: Arc::clone(&blobs),
            executor: Arc::<HeldExecutor>::clone(&executor),
            machine: Arc::new(GivenMachine::default()),
            network: NetworkParts {
                connections: watch::channel(Vec::new()).1,
                transport_status: watch::channel(Default::default()).1,
                system: system.clone(),
                transport,
                mesh: self.mesh.member(did),
                directory: self.directory.member(did),
                runtime: tokio::runtime::Handle::current(),
                pending: watch::Sender::new(0),
            },
        };
        let parts_network = parts.network.clone();
        let node = system.spawn(move || Node::new(parts.clone()), Supervision::never());
        dms_node::startup::register(&system, &node).unwrap();
        network::listen(&parts_network, &gate, &node);
        HandMade { node, system, engine, executor, lost, blobs, data }
    }

    /// A requester and an onboarded provider that see each other.
    pub async fn pair(&self, losses: [&[&'static str]; 2]) -> [HandMade; 2] {
        let requester = self.node(REQUESTER, MemoryEngine::new(), losses[0]);
        let provider = self.node(PROVIDER, MemoryEngine::new(), losses[1]);
        provider.node.ask(Onboard { capability: capability() }).timeout(DEADLINE).await.unwrap().unwrap();
        self.meet(&requester, &provider).await;
        [requester, provider]
    }

    /// Connects two nodes by their keys' seeds.
    pub fn connect(&self, one: u8, other: u8) {
        self.network.connect(key(one).did(), key(other).did());
    }

    /// Connects two nodes, and waits until they know of each other.
    pub async fn meet(&self, requester: &HandMade, provider: &HandMade) {
        self.network.connect(key(REQUESTER).did(), key(PROVIDER).did());
        for node in [requester, provider] {
            node.wait("the peer", |status| status.peers.len() == 1).await;
        }
        // What the onboarding said was said to nobody.
        requester.wait("the provider's offer", |status| status.peers[0].is_provider).await;
    }
}

impl HandMade {
    /// Loses words of these kinds from now on, and no others.
    pub fn lose(&self, kinds: &[&'static str]) {
        *self.lost.lock().unwrap() = kinds.iter().copied().collect();
    }

    /// How it stands.
    pub async fn status(&self) -> NodeStatus {
        self.node.ask(GetStatus).timeout(DEADLINE).await.unwrap()
    }

    /// Waits until it stands so.
    pub async fn wait(&self, what: &str, is_there: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
        wait_until(what, async || Some(self.status().await).filter(|status| is_there(status))).await
    }

    /// Waits until the job stands so.
    pub async fn job(&self, what: &str, is_there: impl Fn(&JobRow) -> bool) -> JobRow {
        wait_until(what, async || {
            let row = self.node.ask(ShowJob { job: a_job().id }).timeout(DEADLINE).await.unwrap();
            row.ok().filter(|row| is_there(row))
        })
        .await
    }

    /// Its allocations, the newest first.
    pub async fn allocations(&self) -> Vec<AllocationView> {
        let list = ListAllocations { page: Page::default() };
        self.node.ask(list).timeout(DEADLINE).await.unwrap().unwrap()
    }

    /// Waits until the newest allocation stands so.
    pub async fn allocation(&self, what: &str, is_there: impl Fn(&AllocationView) -> bool) -> AllocationView {
        wait_until(what, async || self.allocations().await.into_iter().next().filter(|view| is_there(view)))
            .await
    }

    /// Hands the job in.
    pub async fn submit(&self) {
        self.node.ask(SubmitJob { job: a_job() }).timeout(DEADLINE).await.unwrap().unwrap();
    }

    /// Ends it.
    pub async fn stop(self) {
        self.system.stop(DEADLINE).await.unwrap();
    }
}

/// A job of three attempts whose module both nodes have.
pub fn a_job() -> Job {
    let mut job = job(Millis(3_600_000));
    job.max_attempts = 3;
    job.pods[0].tasks[0].module = ContentId::of_bytes(MODULE);
    job
}

/// True if the allocation is in this state.
pub fn is_state(view: &AllocationView, state: &AllocationState) -> bool {
    view.state == AttemptState::Observed { state: state.clone() }
}

/// Looks until a state is there.
pub async fn wait_until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(state) = look().await {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Everything is as before the job, at the provider.
pub async fn is_whole(provider: &HandMade) {
    use dms_node::commands::GetCapability;
    let view = provider.node.ask(GetCapability).timeout(DEADLINE).await.unwrap();
    assert_eq!((view.available, view.locks.len()), (machine(), 0));
}
