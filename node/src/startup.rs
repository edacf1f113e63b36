//! Who knows whom: the only place that builds the parts of a node and joins them.
//!
//! ```text
//!   key ─► engine ─► books ─► p2p ─► actor system ─► Node ─► registered, listening ─► API ─► ready
//!   stop: API ─► drain (10 s) ─► said ─► actors ─► p2p ─► committer
//! ```
//!
//! Everything that can be wrong is found before anything is promised: a corrupt key, a directory that
//! another node holds, damaged books, a port in use, a socket path that is too long.

pub mod offline;
pub mod rotation;

use std::fs::{File, TryLockError};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dms_actors::clock::{SharedClock, SystemClock};
use dms_actors::{ActorRef, ActorSystem, Limits, RegisterError, StartError, Supervision, Workers};
use dms_messages::PreSharedKey;
use dms_messages::{
    Accepted, Acknowledge, Admitted, Advert, AllocationCheck, AllocationOutput, AllocationState,
    AllocationStatus, AllocationStatusRequest, Bid, BidRequest, Cancel, Capability, Census, CensusReply,
    Decline, Did, FailureCause, Invocation, Join, NodeId, NotAdmitted, Reconcile, Refused, Release, Renew,
    Revocations, Signed, Successions,
};
use dms_p2p::{P2p, P2pConfig, P2pError, Timing};
use dms_storage::{
    Books, CommitError, Engine, EngineError, Entry, Event, LockEnd, MemoryEngine, RecordError, RocksEngine,
    RocksOptions, StoreError,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::api::server::{self, ApiLimits, ApiListener, ApiState, BindError, TcpApi};
use crate::api::token::{TOKEN_FILE, Token, TokenError};
use crate::api::types::JobDefaults;
use crate::benchmark::SystemMachine;
use crate::blobs::{BlobError, BlobStore};
use crate::capability::headroom::Reserve;
use crate::capability::ledger;
use crate::commands::{Drain, GetCapability, GetStatus};
use crate::config::{EngineKind, Settings};
use crate::directory::WordCheck;
use crate::executors::wasm::{WasmExecutor, WasmExecutorError};
use crate::files::close_directory;
use crate::identity::{BOOKS, Identity, IdentityError, KeyFile};
use crate::monitor::{Monitoring, SystemMeter};
use crate::network::{self, NetworkParts};
use crate::node::{self, BooksOpener, Node, NodeParts, NodeTimes, OwnRules, ProviderRules};
use crate::orchestrator::job_state::JobRules;
use crate::paths::NODE_PATH;
use crate::signer::Signer;
use crate::swarm_key::{self, SwarmKeyError};
use crate::trust::{Gate, Trust};

/// The file whose lock says that a node runs on the data directory.
const LOCK: &str = "lock";
/// How long running allocations may take to stop when the node does.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// Longest pause before a lost bootstrap peer is dialled again: well within the time that a job waits.
const REDIAL_MAX: Duration = Duration::from_secs(15);
/// How long the last words may take to leave.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(2);
/// Words that one peer may say in a second, and at once: a requester that hands in three hundred jobs a second says some
/// seven hundred to each provider. A core checks the signatures of twenty thousand.
const WORDS_PER_SECOND: u32 = 2_000;
/// Most unfinished jobs that a node follows: an actor and its output each.
const MAX_JOBS: usize = 10_000;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartupError {
    /// The data directory cannot be made.
    #[error("the directory {} cannot be made, or closed to others", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key cannot be used.
    #[error("this node has no usable identity")]
    Identity(#[from] IdentityError),
    /// Another node runs on the data directory, or a command works with its books.
    #[error("the data directory {} is in use by another node, or by a command that works with its books", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// There are no books without a running node.
    #[error("the books are kept in memory (engine = memory): start the node first, then onboard it")]
    NoBooks,
    /// The database cannot be opened.
    #[error("the books cannot be opened")]
    Engine(#[from] EngineError),
    /// The books do not hold.
    #[error("the books do not hold")]
    Store(#[from] StoreError),
    /// The books are those of a node with another key.
    #[error("the books in this directory are those of {owner}, and the key is that of {key}")]
    ForeignBooks {
        /// Whose books.
        owner: Did,
        /// Whose key.
        key: Did,
    },
    /// The key of the private mesh cannot be used.
    #[error("the key of the private mesh cannot be used")]
    SwarmKey(#[from] SwarmKeyError),
    /// The contents cannot be opened.
    #[error("the contents cannot be opened")]
    Blobs(#[from] BlobError),
    /// The network does not start.
    #[error("the network does not start")]
    P2p(#[from] P2pError),
    /// The actors do not start.
    #[error("the actors do not start")]
    Actors(#[from] StartError),
    /// The Node cannot be addressed.
    #[error("the node cannot be addressed")]
    Register(#[from] RegisterError),
    /// The executor does not start.
    #[error("the executor does not start")]
    Executor(#[from] WasmExecutorError),
    /// The API does not start.
    #[error("the API does not start")]
    Api(#[from] BindError),
    /// The API has no token.
    #[error("the API cannot be served over TCP")]
    ApiToken(#[from] TokenError),
    /// The Node ended by itself.
    #[error("the node ended by itself: {0}")]
    NodeEnded(String),
    /// The capability is not acceptable.
    #[error("the capability is not acceptable: {0}")]
    Capability(String),
    /// An event could not be recorded.
    #[error("the books could not be written")]
    Record(#[from] RecordError),
    /// An event could not be made durable.
    #[error("the books could not be written")]
    Commit(#[from] CommitError),
}

impl StartupError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::P2p(P2pError::ListenFailed { .. }) => Some(
                "choose other addresses with --listen (or `listen` in config.toml); port 0 takes any that is free",
            ),
            Self::Api(BindError::Port { .. }) => Some(
                "choose another port with --api-listen (or `api_listen` in config.toml); port 0 takes any that is free",
            ),
            _ => None,
        }
    }
}

/// True if the network cannot start because of what it was told: an address that is none, most likely.
pub fn is_misconfigured(error: &P2pError) -> bool {
    matches!(error, P2pError::Config(_))
}

/// A node that can be used.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Its names.
    pub id: NodeId,
    /// Where it can be dialled.
    pub addresses: Vec<String>,
    /// The API's socket.
    pub api: PathBuf,
    /// The port that it is served at, too, and the file of the token that is asked for there.
    pub api_listen: Option<(SocketAddr, PathBuf)>,
    /// True if it offers capacity.
    pub is_onboarded: bool,
    /// What it offers, if it does.
    pub registered: Option<Capability>,
}

/// A running node without its API: what [`run`] and tests start.
#[derive(Debug)]
pub struct RunningNode {
    /// The Node actor.
    pub node: ActorRef<Node>,
    /// The books on disk.
    pub engine: Arc<dyn Engine>,
    /// The contents.
    pub blobs: Arc<BlobStore>,
    /// The clock.
    pub clock: SharedClock,
    system: ActorSystem,
    p2p: P2p,
    pending: watch::Sender<usize>,
    /// Held until this node has ended.
    _lock: File,
}

/// Where the books lie below the data directory.
fn database_path(data: &Path) -> PathBuf {
    data.join(BOOKS)
}

/// Refuses the books of a node with another key.
fn check_owner(books: &Books, me: Did) -> Result<(), StartupError> {
    match books.card().map(|card| card.issuer()) {
        Some(owner) if owner != me => Err(StartupError::ForeignBooks { owner, key: me }),
        _ => Ok(()),
    }
}

/// Refuses an identity that is not that of the data directory any more: it was opened before the directory was held.
fn check_key(settings: &Settings, me: Did) -> Result<(), IdentityError> {
    let file = KeyFile::of_node(&settings.data);
    if file.read()?.did() == me { Ok(()) } else { Err(IdentityError::Changed { path: file.path() }) }
}

/// Makes the data directory, closed to others.
fn make_directory(data: &Path) -> Result<(), StartupError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(data).map_err(|source| StartupError::Directory { path: data.to_path_buf(), source })
}

/// Where the node listens: in a private mesh not by QUIC, which the defaults name too. If nothing else is named, the
/// network says what is wrong with it.
fn listen_addresses(settings: &Settings, is_private: bool) -> Vec<String> {
    let mut listen = settings.listen.clone();
    if is_private && listen.iter().any(|address| !is_quic(address)) {
        listen.retain(|address| !is_quic(address));
    }
    listen
}

fn is_quic(address: &str) -> bool {
    address.contains("/quic")
}

/// Keeps a second node out of the data directory for as long as the file is open: RocksDB would notice it,
/// books in memory would not, and one key must not speak from two nodes.
fn lock_directory(data: &Path) -> Result<File, StartupError> {
    let failed = |source| StartupError::Directory { path: data.to_path_buf(), source };
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.create(true).append(true).open(data.join(LOCK)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartupError::InUse { path: data.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn open_engine(settings: &Settings) -> Result<Arc<dyn Engine>, StartupError> {
    Ok(match settings.engine {
        EngineKind::Rocksdb => {
            let path = database_path(&settings.data);
            // RocksDB's files can be read by all; their directory cannot be entered.
            close_directory(&path)
                .map_err(|source| StartupError::Directory { path: path.clone(), source })?;
            Arc::new(RocksEngine::open(path, &RocksOptions::default())?)
        }
        EngineKind::Memory => Arc::new(MemoryEngine::new()),
    })
}

/// How this machine is measured.
fn monitoring(settings: &Settings) -> Monitoring {
    Monitoring {
        meter: Arc::new(SystemMeter::new(&settings.data)),
        period: settings.monitor_period.duration(),
        is_owner_first: settings.owner_first,
        reserve: Reserve {
            cpu: settings.owner_reserve_cpu,
            memory: settings.owner_reserve_memory,
            disk: settings.owner_reserve_disk,
        },
    }
}

/// Puts the Node where peers' words find it.
pub fn register(system: &ActorSystem, node: &ActorRef<Node>) -> Result<(), RegisterError> {
    system
        .register(NODE_PATH, node)?
        .accepts::<Signed<Advert>>()
        .accepts::<Signed<BidRequest>>()
        .accepts::<Signed<Bid>>()
        .accepts::<Signed<Decline>>()
        .accepts::<Release>()
        .accepts::<Signed<Invocation>>()
        .accepts::<Signed<Accepted>>()
        .accepts::<Signed<Refused>>()
        .accepts::<Signed<AllocationStatus>>()
        .accepts::<AllocationStatusRequest>()
        .accepts::<AllocationOutput>()
        .accepts::<Acknowledge>()
        .accepts::<Cancel>()
        .accepts::<AllocationCheck>()
        .accepts::<Reconcile>()
        .accepts::<Census>()
        .accepts::<CensusReply>()
        .accepts::<Join>()
        .accepts::<Renew>()
        .accepts::<Admitted>()
        .accepts::<NotAdmitted>()
        .accepts::<Revocations>()
        .accepts::<Successions>();
    Ok(())
}

impl RunningNode {
    /// Builds the parts and joins them, for the identity that lies in the data directory. Needs a multi-threaded
    /// tokio runtime: links, gossip and contents run on it, actors have a thread of their own.
    pub async fn start(settings: &Settings, identity: Identity) -> Result<Self, StartupError> {
        Self::start_with(settings, identity, OwnRules::none()).await
    }

    /// The same, for a program that brings along rules of its own.
    pub async fn start_with(
        settings: &Settings,
        identity: Identity,
        rules: OwnRules,
    ) -> Result<Self, StartupError> {
        make_directory(&settings.data)?;
        let lock = lock_directory(&settings.data)?;
        check_key(settings, identity.did())?;
        let engine = open_engine(settings)?;
        let opened = node::open_books(&engine)?;
        let clock = SystemClock::shared();
        let me = identity.did();
        check_owner(&opened.1, me)?;
        let blobs =
            Arc::new(BlobStore::open(&settings.data, me, settings.blobs_max_mib.saturating_mul(1 << 20))?);
        let executor = Arc::new(WasmExecutor::new()?);
        let pre_shared_key = swarm_key::load(&settings.data)?;
        let p2p_config = P2pConfig {
            listen: listen_addresses(settings, pre_shared_key.is_some()),
            bootstrap: settings.bootstrap.clone(),
            network: settings.network.clone(),
            timing: Timing { redial_max: REDIAL_MAX, ..Timing::default() },
            mdns: settings.mdns,
            record_check: Some(Arc::new(WordCheck::new(me, &settings.network, Arc::clone(&clock)))),
            pre_shared_key: pre_shared_key.map(|PreSharedKey(bytes)| dms_p2p::PreSharedKey::new(bytes)),
            ..P2pConfig::default()
        };
        let p2p = P2p::start(&identity.keypair, p2p_config).await?;
        let peers = settings.trust.iter().copied().collect();
        let trust = Trust { is_open: settings.open, peers, pre_shared_key };
        let gate = Gate::new(me, &settings.network, &trust, Arc::clone(&clock));
        let system = ActorSystem::builder(me, settings.network.clone())
            .clock(Arc::clone(&clock))
            .transport(p2p.transport())
            .blobs(Arc::<BlobStore>::clone(&blobs))
            .policy(Arc::new(gate.clone()))
            .limits(Limits {
                words_per_second: WORDS_PER_SECOND,
                burst: WORDS_PER_SECOND,
                ..Limits::default()
            })
            .network_runtime(Handle::current())
            .start()?;
        let pending = watch::Sender::new(0);
        let network = NetworkParts {
            system: system.clone(),
            transport: p2p.transport(),
            mesh: p2p.mesh(),
            directory: p2p.directory(),
            connections: p2p.watch_peers(),
            transport_status: p2p.watch_status(),
            runtime: Handle::current(),
            pending: pending.clone(),
        };
        let parts = NodeParts {
            engine: Arc::clone(&engine),
            signer: Signer::new(Arc::new(identity.keypair), Arc::clone(&clock), &settings.network),
            clock: Arc::clone(&clock),
            gate: gate.clone(),
            job_rules: JobRules {
                auction: settings.auction.duration(),
                orphan_after: settings.orphan_after.duration(),
                // Four signs of life within the time after which a provider gives us up.
                heartbeat: JobRules::default().heartbeat.min(settings.orphan_after.duration() / 4),
                ..JobRules::default()
            },
            provider_rules: ProviderRules {
                lease: settings.lease.duration(),
                max_output: settings.max_output,
            },
            max_jobs: MAX_JOBS,
            times: NodeTimes { keep_history: settings.keep_history.duration(), ..NodeTimes::default() },
            opener: BooksOpener::default(),
            workers: Workers::threads(Handle::current()),
            blobs: Arc::clone(&blobs),
            executor,
            monitoring: Some(monitoring(settings)),
            machine: Arc::new(SystemMachine::new(&settings.data, settings.benchmark_time.duration())),
            network: network.clone(),
            opened: Arc::new(Mutex::new(Some(opened))),
        };
        let node = system
            .spawn(move || Node::new(parts.clone()).with_rules(rules.clone()), Supervision::transient());
        register(&system, &node)?;
        network::listen(&network, &gate, &node);
        Ok(Self { node, engine, blobs, clock, system, p2p, pending, _lock: lock })
    }

    /// The actor system, for programs that embed a node beside actors of their own, and address those of others.
    pub fn system(&self) -> &ActorSystem {
        &self.system
    }

    /// Takes nothing new, stops what runs, says the last words, and ends.
    pub async fn stop(self, drain: Duration) {
        if self.node.ask(Drain).timeout(drain).await.is_err() {
            tracing::warn!("not everything that ran could be stopped in time");
        }
        let mut pending = self.pending.subscribe();
        // Peers that do not take their last word learn it by asking.
        let _ = tokio::time::timeout(FAREWELL_DEADLINE, pending.wait_for(|count| *count == 0)).await;
        self.system.flush(FAREWELL_DEADLINE).await;
        if let Err(error) = self.system.stop(FAREWELL_DEADLINE).await {
            tracing::warn!(%error, "the actors did not end in time");
        }
        self.p2p.shutdown().await;
    }
}

/// Binds the API's socket and, on request, its port.
async fn bind(settings: &Settings) -> Result<(ApiListener, Option<TcpApi>), StartupError> {
    let socket = ApiListener::bind(&settings.api).await?;
    let tcp = match settings.api_listen {
        Some(address) => Some(TcpApi::bind(address, Token::load_or_create(&settings.data)?).await?),
        None => None,
    };
    Ok((socket, tcp))
}

/// Runs a node until `shutdown` resolves (its first resolution drains, dropping this future ends at once).
pub async fn run(
    settings: Settings,
    identity: Identity,
    shutdown: impl Future<Output = ()> + Send + 'static,
    on_ready: impl FnOnce(Ready),
) -> Result<(), StartupError> {
    let running = RunningNode::start(&settings, identity).await?;
    let (socket, tcp) = match bind(&settings).await {
        Ok(bound) => bound,
        Err(error) => {
            running.stop(DRAIN_DEADLINE).await;
            return Err(error);
        }
    };
    let status = running.node.ask(GetStatus).timeout(DRAIN_DEADLINE).await;
    let status = status.map_err(|error| StartupError::NodeEnded(error.to_string()))?;
    let books = running.node.ask(GetCapability).timeout(DRAIN_DEADLINE).await;
    let books = books.map_err(|error| StartupError::NodeEnded(error.to_string()))?;
    let api_listen = tcp.as_ref().map(|tcp| (tcp.address(), settings.data.join(TOKEN_FILE)));
    if let Some((address, token)) = &api_listen {
        tracing::info!(%address, token = %token.display(), "the api is served over tcp to whoever has the token");
    }
    on_ready(Ready {
        id: status.id,
        addresses: status.addresses,
        api: settings.api.clone(),
        api_listen,
        is_onboarded: status.is_onboarded,
        registered: books.registered,
    });
    let state = ApiState {
        node: running.node.clone(),
        engine: Arc::clone(&running.engine),
        blobs: Arc::clone(&running.blobs),
        clock: Arc::clone(&running.clock),
        defaults: JobDefaults::default(),
    };
    let ended = running.node.closed();
    let (cause, causes) = tokio::sync::oneshot::channel();
    let until = async move {
        tokio::select! {
            biased;
            () = shutdown => {}
            reason = ended => drop(cause.send(reason)),
        }
    };
    server::serve(socket, tcp, state, ApiLimits::default(), until).await;
    tracing::info!("stopping");
    running.stop(DRAIN_DEADLINE).await;
    match causes.await {
        Ok(reason) => Err(StartupError::NodeEnded(format!("{reason:?}"))),
        Err(_) => Ok(()),
    }
}

/// What is registered in the books of a node that does not run; none if it has no books yet.
pub fn registered_offline(settings: &Settings) -> Result<Option<Capability>, StartupError> {
    if settings.engine == EngineKind::Memory || !database_path(&settings.data).exists() {
        return Ok(None);
    }
    let engine = open_engine(settings)?;
    let (_, books) = node::open_books(&engine)?;
    Ok(books.registered().cloned())
}

/// Registers a capability in the books of a node that does not run; makes its introduction if it has none.
pub async fn onboard_offline(
    settings: &Settings,
    identity: Identity,
    capability: Capability,
) -> Result<NodeId, StartupError> {
    if settings.engine == EngineKind::Memory {
        return Err(StartupError::NoBooks);
    }
    make_directory(&settings.data)?;
    let engine = open_engine(settings)?;
    let (mut store, mut books) = node::open_books(&engine)?;
    check_owner(&books, identity.did())?;
    ledger::register(&books, &capability).map_err(|error| StartupError::Capability(error.to_string()))?;
    let clock = SystemClock::shared();
    let signer = Signer::new(Arc::new(identity.keypair), Arc::clone(&clock), &settings.network);
    let card = match books.card() {
        Some(card) => card.clone(),
        None => node::new_card(&signer)
            .ok_or_else(|| StartupError::Capability("the node's card cannot be signed".to_owned()))?,
    };
    let id = node::node_id(&card);
    let mut events = Vec::new();
    if books.card().is_none() {
        events.push(Event::NodeNamed { card });
    }
    events.push(Event::CapabilityRegistered { capability });
    let entries: Vec<Entry> = events.into_iter().map(|event| Entry { at: clock.now(), event }).collect();
    store.record(&mut books, &entries)?.await?;
    Ok(id)
}

/// Withdraws what is registered in the books of a node that does not run; false if there is nothing to
/// withdraw. What the last life left running is over, as a start would find it.
pub async fn offboard_offline(settings: &Settings) -> Result<bool, StartupError> {
    if !database_path(&settings.data).exists() {
        return Ok(false);
    }
    let me = KeyFile::of_node(&settings.data).read()?.did();
    let engine = open_engine(settings)?;
    let (mut store, mut books) = node::open_books(&engine)?;
    check_owner(&books, me)?;
    if books.registered().is_none() {
        return Ok(false);
    }
    let locks = books.locks().keys().map(|bid| Event::LockEnded { bid: *bid, end: LockEnd::Withdrawn });
    let state = AllocationState::Failed { cause: FailureCause::NodeRestarted };
    let left = books.live_allocations().map(|row| row.id).map(|allocation| Event::AllocationEnded {
        allocation,
        state: state.clone(),
        result: None,
    });
    let events: Vec<Event> = locks.chain(left).chain([Event::CapabilityWithdrawn]).collect();
    let at = SystemClock::shared().now();
    let entries: Vec<Entry> = events.into_iter().map(|event| Entry { at, event }).collect();
    store.record(&mut books, &entries)?.await?;
    Ok(true)
}
