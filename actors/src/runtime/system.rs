//! An actor system: a value that owns a thread for actors, a registry of paths, and links to others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout, timeout_at};

use super::actor_ref::Lifecycle;
use super::engine::{self, Engine};
use super::link::{self, Far, Limits, Links, LookupError};
use super::recipient::Port;
use super::registry::Registry;
use super::send::Until;
use super::{
    Actor, ActorId, ActorPath, ActorRef, Address, AdmitAll, Arbiter, AskError, DeadLetter, ExitReason,
    Policy, Recipient, RegisterError, Registration, SendFailure, Supervision, TellError, Workers, lock,
    metrics,
};
use crate::blob::{BlobServer, BlobSource};
use crate::clock::{SharedClock, SystemClock};
use crate::transport::Transport;
use crate::wire::DecodeContext;
use crate::{Did, Kind, Message, WireMessage};

/// Dead letters that wait for a slow listener; it is told how many it missed.
const DEAD_LETTERS: usize = 1024;
/// Threads of actors beside the main one. Each costs a stack and an event loop, and more threads than
/// cores help only actors that block; a program that names them after jobs or peers should use a
/// [`BlockingPool`](super::BlockingPool) instead.
const MAX_ARBITERS: usize = 64;
/// The longest time a stop is given, so that adding it to now stays within the clock.
const LONGEST_STOP: Duration = Duration::from_secs(365 * 24 * 3600);
/// Peer events that wait for a slow listener; it is told how many it missed and should ask the
/// transport who is connected.
const PEER_EVENTS: usize = 256;

/// A connection to another system came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEvent {
    /// The first connection to the peer is up.
    Up(Did),
    /// The last connection to the peer is gone.
    Down(Did),
}

/// Why a system could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system gave no thread or event loop.
    #[error("the actors' thread could not be started")]
    Thread(#[source] std::io::Error),
    /// The operating system gave no randomness for a key.
    #[error("no key could be made")]
    Key(#[source] getrandom::Error),
    /// The transport's events belong to another system already.
    #[error("the transport is in use by another system")]
    TransportInUse,
    /// [`ActorSystemBuilder::start_on_current`] needs a `LocalSet` on a current-thread tokio runtime
    /// around it, such as [`run`](super::run) makes.
    #[error("there is no current-thread runtime with a LocalSet here")]
    NotOnCurrentThread,
    /// The system has [64 arbiters](ActorSystem::arbiter) already.
    #[error("there are {MAX_ARBITERS} arbiters already")]
    TooManyArbiters,
    /// The system is stopping or has stopped.
    #[error("the system has stopped")]
    Stopped,
}

/// Why a system did not stop cleanly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// [`ActorSystem::stop_blocking`] was called on a thread of the system itself, which would wait for its
    /// own end. Nothing was stopped.
    #[error("a thread of the system cannot wait for the system's end")]
    OnOwnThread,
    /// Some actors had not ended at the deadline; their threads end as soon as they can.
    #[error("{alive} actors and these threads had not ended at the deadline: {threads:?}")]
    DeadlinePassed {
        /// How many top-level actors were left.
        alive: usize,
        /// The threads that had not ended, named as their [arbiters](ActorSystem::arbiter) are: something
        /// blocks them. The system's own is `actors-` with the short form of its DID.
        threads: Vec<String>,
    },
}

/// How often the system met misbehaviour or loss since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Links closed because of bytes that are no frame, or a frame out of place.
    pub malformed_frames: u64,
    /// Links closed because a peer sent more words than it had credit for.
    pub credit_overruns: u64,
    /// Words of peers that were refused, for whatever reason.
    pub refused_words: u64,
    /// Of these: because a [limit](Limits) of the peer, or another bound, was reached.
    pub busy_words: u64,
    /// Of these: because their body was longer than the [limit](Limits).
    pub too_long_words: u64,
    /// How often reading from a peer made a pause because it was quicker than its [limit](Limits).
    pub throttled_reads: u64,
    /// Links closed because a peer said nothing while somebody waited for it.
    pub silent_links: u64,
    /// Dead letters, whether anybody listened or not.
    pub dead_letters: u64,
}

/// What the links need of their system; outlives no link.
pub(crate) struct Shared {
    pub(crate) me: Did,
    pub(crate) network: String,
    pub(crate) clock: SharedClock,
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) registry: Registry,
    pub(crate) peers: broadcast::Sender<PeerEvent>,
    pub(crate) malformed_frames: AtomicU64,
    pub(crate) credit_overruns: AtomicU64,
    pub(crate) refused_words: AtomicU64,
    pub(crate) busy_words: AtomicU64,
    pub(crate) too_long_words: AtomicU64,
    pub(crate) throttled_reads: AtomicU64,
    pub(crate) silent_links: AtomicU64,
    pub(crate) limits: Limits,
    dead_letter_count: AtomicU64,
    dead_letters: broadcast::Sender<DeadLetter>,
    /// The actors without a parent; their numbers give the order of their start.
    roots: Mutex<BTreeMap<ActorId, Arc<dyn Lifecycle>>>,
}

impl Shared {
    /// An actor has ended.
    pub(crate) fn forget(&self, actor: ActorId) {
        self.registry.forget(actor);
        let root = lock(&self.roots).remove(&actor);
        // After the lock is released: it may be the last that knew the actor.
        drop(root);
    }

    pub(crate) fn bury(&self, letter: DeadLetter) {
        self.dead_letter_count.fetch_add(1, Ordering::Relaxed);
        metrics::dead_letter(&letter.reason);
        tracing::debug!(reason = %letter.reason, peer = ?letter.peer, path = ?letter.path, kind = ?letter.kind,
            type_name = letter.type_name, id = letter.id, "dead letter");
        // Nobody listening is normal.
        let _ = self.dead_letters.send(letter);
    }

    pub(crate) fn decode_context(&self) -> DecodeContext {
        DecodeContext { me: self.me, now: self.clock.now(), network: self.network.clone() }
    }
}

/// What makes an [`ActorSystem`]; see [`ActorSystem::builder`].
#[must_use = "a builder does nothing until it is started"]
pub struct ActorSystemBuilder {
    me: Did,
    network: String,
    clock: SharedClock,
    transport: Option<Arc<dyn Transport>>,
    policy: Arc<dyn Policy>,
    blobs: Option<Arc<dyn BlobSource>>,
    limits: Limits,
    runtime: Option<Handle>,
    workers: Option<Workers>,
}

impl ActorSystemBuilder {
    /// Where time and chance come from; the operating system's by default.
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// How other systems are reached; without it the system is alone.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Who may say what; everybody everything by default.
    pub fn policy(mut self, policy: Arc<dyn Policy>) -> Self {
        self.policy = policy;
        self
    }

    /// What each peer may cost; see [`Limits`] for the defaults.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves blobs to peers; by default every request for one is answered `NotFound`.
    pub fn blobs(mut self, blobs: Arc<dyn BlobSource>) -> Self {
        self.blobs = Some(blobs);
        self
    }

    /// Where links run (and messages are decoded). By default the tokio runtime that calls
    /// [`Self::start`], or else the actors' own thread.
    pub fn network_runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Where blobs are read. By default the threads that the links' runtime keeps for such work.
    pub fn workers(mut self, workers: Workers) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Starts the system's thread and takes the transport's events.
    ///
    /// # Errors
    /// `Thread`, `TransportInUse`.
    pub fn start(self) -> Result<ActorSystem, StartError> {
        let engine = Engine::start(self.thread_name()).map_err(StartError::Thread)?;
        self.start_in(engine)
    }

    /// Starts a system whose actors run on the caller's thread, inside of its `LocalSet`, so that
    /// actors, links and (if it was started there) the network share one thread: no message crosses
    /// threads, and tokio's paused clock holds for all of it. Hundreds of systems fit on one thread.
    ///
    /// An [arbiter](ActorSystem::arbiter) of such a system is a thread all the same, with a clock of its own.
    ///
    /// The price: whatever blocks the current thread, in whichever system, blocks all of them. Without a
    /// `LocalSet` at hand, call it inside of [`run`](super::run). The actors go with the `LocalSet`.
    ///
    /// # Errors
    /// `NotOnCurrentThread` (on finding no `LocalSet` tokio panics inside; the panic is caught, and the
    /// process's panic hook hears of it), `TransportInUse`.
    pub fn start_on_current(self) -> Result<ActorSystem, StartError> {
        let engine = Engine::start_on_current(self.thread_name());
        let engine = engine.map_err(|_| StartError::NotOnCurrentThread)?;
        self.start_in(engine)
    }

    fn thread_name(&self) -> String {
        format!("actors-{}", self.me.short())
    }

    fn start_in(self, engine: Engine) -> Result<ActorSystem, StartError> {
        let runtime =
            self.runtime.or_else(|| Handle::try_current().ok()).unwrap_or_else(|| engine.runtime().clone());
        let (dead_letters, _) = broadcast::channel(DEAD_LETTERS);
        let (peers, _) = broadcast::channel(PEER_EVENTS);
        let shared = Arc::new(Shared {
            me: self.me,
            network: self.network,
            clock: self.clock,
            policy: self.policy,
            registry: Registry::default(),
            peers,
            malformed_frames: AtomicU64::new(0),
            credit_overruns: AtomicU64::new(0),
            refused_words: AtomicU64::new(0),
            busy_words: AtomicU64::new(0),
            too_long_words: AtomicU64::new(0),
            throttled_reads: AtomicU64::new(0),
            silent_links: AtomicU64::new(0),
            limits: self.limits,
            dead_letter_count: AtomicU64::new(0),
            dead_letters,
            roots: Mutex::default(),
        });
        let links = match self.transport {
            None => None,
            Some(transport) => {
                let Some(events) = transport.take_events() else {
                    engine.stop();
                    return Err(StartError::TransportInUse);
                };
                let workers = self.workers.unwrap_or_else(|| Workers::threads(runtime.clone()));
                let blobs = BlobServer::new(self.blobs, workers);
                Some(Links::start(shared.clone(), transport, events, blobs, runtime))
            }
        };
        let inner = Inner {
            shared,
            engine,
            arbiters: Mutex::default(),
            links,
            next_id: AtomicU64::new(1),
            is_stopping: AtomicBool::new(false),
        };
        Ok(ActorSystem(Arc::new(inner)))
    }
}

impl fmt::Debug for ActorSystemBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorSystemBuilder")
            .field("me", &self.me)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// Looks at a system without keeping it.
#[cfg(feature = "testing")]
pub(crate) struct Observer(std::sync::Weak<Inner>);

#[cfg(feature = "testing")]
impl Observer {
    /// The actors without a parent, if the system was neither stopped nor dropped.
    pub(crate) fn running(&self) -> Option<Vec<String>> {
        let inner = self.0.upgrade()?;
        let roots = lock(&inner.shared.roots);
        let has_stopped = inner.is_stopping.load(Ordering::Acquire) && roots.is_empty();
        let names = || roots.iter().map(|(id, root)| format!("{} {id}", root.type_name())).collect();
        (!has_stopped).then(names)
    }
}

struct Inner {
    shared: Arc<Shared>,
    engine: Engine,
    arbiters: Mutex<BTreeMap<String, Arbiter>>,
    links: Option<Arc<Links>>,
    next_id: AtomicU64,
    is_stopping: AtomicBool,
}

impl Drop for Inner {
    /// The last handle is gone, and with it every actor: nobody could stop the system any more.
    fn drop(&mut self) {
        if let Some(links) = &self.links {
            links.close();
        }
        self.engine.stop();
        for arbiter in lock(&self.arbiters).values() {
            arbiter.engine().stop();
        }
    }
}

/// Actors that share an identity, a thread and a registry. Cheap to clone; lives until
/// [stopped](Self::stop). Several live in one process without knowing of each other.
#[derive(Clone)]
pub struct ActorSystem(Arc<Inner>);

impl ActorSystem {
    /// Begins a system that speaks as `identity` within the named network; systems of different
    /// networks refuse each other's links.
    pub fn builder(identity: Did, network: impl Into<String>) -> ActorSystemBuilder {
        ActorSystemBuilder {
            me: identity,
            network: network.into(),
            clock: SystemClock::shared(),
            transport: None,
            policy: Arc::new(AdmitAll),
            blobs: None,
            limits: Limits::default(),
            runtime: None,
            workers: None,
        }
    }

    /// Whom the system speaks as.
    pub fn me(&self) -> Did {
        self.0.shared.me
    }

    /// Where its time and chance come from.
    pub fn clock(&self) -> SharedClock {
        self.0.shared.clock.clone()
    }

    /// The network it belongs to.
    pub fn network(&self) -> &str {
        &self.0.shared.network
    }

    /// Starts an actor from its factory, on the system's thread. In a system that is stopping the
    /// reference is that of an actor that has ended.
    pub fn spawn<A: Actor>(
        &self,
        factory: impl FnMut() -> A + Send + 'static,
        supervision: Supervision,
    ) -> ActorRef<A> {
        self.spawn_in(&self.0.engine, factory, supervision)
    }

    /// Like [`Self::spawn`], on the thread of an [`arbiter`](Self::arbiter). Its children will live
    /// there too. (An arbiter of another system lends its thread for as long as that system lives.)
    pub fn spawn_on<A: Actor>(
        &self,
        arbiter: &Arbiter,
        factory: impl FnMut() -> A + Send + 'static,
        supervision: Supervision,
    ) -> ActorRef<A> {
        self.spawn_in(arbiter.engine(), factory, supervision)
    }

    fn spawn_in<A: Actor>(
        &self,
        engine: &Engine,
        factory: impl FnMut() -> A + Send + 'static,
        supervision: Supervision,
    ) -> ActorRef<A> {
        let actor = ActorRef::new(self.next_actor_id(), &self.0.shared);
        if !self.adopt(actor.id(), actor.lifecycle()) {
            drop(engine::Unended::new(actor.clone()));
            return actor;
        }
        let (system, me) = (self.clone(), engine::Unended::new(actor.clone()));
        let start = move || engine::start_here(system, me, Box::new(factory), supervision, None);
        if let Err(not_taken) = engine.run(Box::new(start)) {
            self.forget(actor.id());
            not_taken.tell(&actor);
        }
        actor
    }

    /// Makes an actor one of those without a parent; false if the system is stopping.
    fn adopt(&self, id: ActorId, actor: Arc<dyn Lifecycle>) -> bool {
        // Under the lock, so that a stopping system sees either the actor or no start.
        let mut roots = lock(&self.0.shared.roots);
        if self.0.is_stopping.load(Ordering::Acquire) {
            return false;
        }
        roots.insert(id, actor);
        true
    }

    /// One more thread for actors, under a name of its own; the same name gives the same thread again.
    /// [`Self::stop`] stops and joins it with the rest.
    ///
    /// Ask for one when an actor computes for long or blocks, not to be faster: an ask between actors of
    /// one thread takes about 0.2 µs, across two threads about 50 µs, because each hop wakes a sleeping
    /// thread. Children live where their parent lives.
    ///
    /// ```
    /// # use dms_actors::*;
    /// # struct Hasher; impl Actor for Hasher {}
    /// # let me = Keypair::generate().unwrap().did();
    /// # let system = ActorSystem::builder(me, "example").start().unwrap();
    /// let heavy = system.arbiter("heavy")?;
    /// let hasher = system.spawn_on(&heavy, || Hasher, Supervision::transient());
    /// # system.stop_blocking(std::time::Duration::from_secs(5)).unwrap();
    /// # Ok::<(), StartError>(())
    /// ```
    ///
    /// # Errors
    /// `Thread`, `TooManyArbiters`, `Stopped`.
    pub fn arbiter(&self, name: &str) -> Result<Arbiter, StartError> {
        let mut arbiters = lock(&self.0.arbiters);
        // A stop takes this lock after it has set the flag, so it sees every thread.
        if self.0.is_stopping.load(Ordering::Acquire) {
            return Err(StartError::Stopped);
        }
        if let Some(arbiter) = arbiters.get(name) {
            return Ok(arbiter.clone());
        }
        if arbiters.len() >= MAX_ARBITERS {
            return Err(StartError::TooManyArbiters);
        }
        let arbiter = Arbiter::new(Engine::start(name.to_owned()).map_err(StartError::Thread)?);
        arbiters.insert(name.to_owned(), arbiter.clone());
        Ok(arbiter)
    }

    /// Gives the actor a path. Chain [`Registration::accepts`] for each kind it understands.
    pub fn register<A: Actor>(
        &self,
        path: &str,
        actor: &ActorRef<A>,
    ) -> Result<Registration<A>, RegisterError> {
        Registration::new(self.clone(), path, actor)
    }

    /// Takes a path away; false if nobody had it.
    pub fn unregister(&self, path: &str) -> bool {
        path.parse().is_ok_and(|path| self.0.shared.registry.remove(&path))
    }

    /// All paths, sorted.
    pub fn list(&self) -> Vec<ActorPath> {
        self.0.shared.registry.list()
    }

    /// The paths that are `prefix` or lie beneath it (`/node` and `/node/alloc`, not `/nodes`), sorted.
    pub fn list_under(&self, prefix: &ActorPath) -> Vec<ActorPath> {
        self.0.shared.registry.list_under(prefix)
    }

    /// A way to send `M` to `address`: to this system's own registry, or over a link. Who is there is
    /// looked up at each send, so the recipient survives restarts and new links.
    pub fn resolve<M>(&self, address: &Address) -> Recipient<M>
    where
        M: Message + WireMessage,
        M::Reply: DeserializeOwned,
    {
        if address.did == self.me() {
            Recipient::new(Arc::new(Named { shared: self.0.shared.clone(), path: address.path.clone() }))
        } else {
            Recipient::new(Arc::new(Far::new::<M>(self.0.links.clone(), address, None)))
        }
    }

    /// Like [`Self::resolve`], for words whose receiver shall know who in this system sends them: it is told
    /// `from`. The receiver has proof of this system's DID only; the path is our word.
    pub fn resolve_from<M>(&self, from: &ActorPath, address: &Address) -> Recipient<M>
    where
        M: Message + WireMessage,
        M::Reply: DeserializeOwned,
    {
        if address.did == self.me() {
            return self.resolve(address);
        }
        Recipient::new(Arc::new(Far::new::<M>(self.0.links.clone(), address, Some(from.clone()))))
    }

    /// A way to send `M` to `address`, after its owner has said that somebody there understands `M`.
    /// It is as of now: the actor may end, and a recipient from [`Self::resolve`] is as good if it is
    /// there. Needs a tokio context for its timer.
    ///
    /// ```
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Ping;
    /// # dms_actors::wire_message!(Ping, "example.ping", 1);
    /// # async fn find(system: dms_actors::ActorSystem, address: dms_actors::Address) {
    /// use dms_actors::LookupError;
    ///
    /// match system.lookup::<Ping>(&address).await {
    ///     Ok(recipient) => drop(recipient.tell(Ping).await),
    ///     Err(LookupError::NobodyThere) => println!("{address} is free"),
    ///     Err(error) => println!("try again later: {error}"),
    /// }
    /// # }
    /// ```
    ///
    /// Errors: every [`LookupError`].
    pub fn lookup<M>(
        &self,
        address: &Address,
    ) -> impl Future<Output = Result<Recipient<M>, LookupError>> + Send + use<M>
    where
        M: Message + WireMessage,
        M::Reply: DeserializeOwned,
    {
        let (system, address) = (self.clone(), address.clone());
        async move {
            if address.did == system.me() {
                system.0.shared.registry.near::<M>(&address.path)?;
            } else {
                link::look_up(system.0.links.clone(), address.clone(), Kind::of::<M>()).await?;
            }
            Ok(system.resolve(&address))
        }
    }

    /// Waits until the actor that is now at `address`, near or far, has ended for good, and says how. The
    /// owner of the address is asked over this system's own link, so nobody else can report an end;
    /// its [`Policy`] knows the question by the kind `actor.watch/1`.
    ///
    /// It is also over when the link is lost or says nothing for 15 seconds, pings included
    /// ([`ExitReason::PeerLost`]), when nobody is there ([`ExitReason::NobodyThere`]), and when the owner does
    /// not tell, or more than 1,024 of its actors are watched ([`ExitReason::WatchRefused`]).
    pub fn watch(&self, address: &Address) -> impl Future<Output = ExitReason> + Send + use<> {
        let near = (address.did == self.me()).then(|| self.0.shared.registry.closed(&address.path));
        let (links, address) = (self.0.links.clone(), address.clone());
        async move {
            match near {
                Some(Some(closed)) => closed.await,
                Some(None) => ExitReason::NobodyThere,
                None => link::watch(links, address).await,
            }
        }
    }

    /// Listens to words that were taken and then lost. A listener that falls 1,024 behind is told how
    /// many it missed.
    pub fn dead_letters(&self) -> broadcast::Receiver<DeadLetter> {
        self.0.shared.dead_letters.subscribe()
    }

    /// Listens to peers that come and go. A listener that falls 256 behind is told so and should ask
    /// the transport who is connected.
    pub fn peers(&self) -> broadcast::Receiver<PeerEvent> {
        self.0.shared.peers.subscribe()
    }

    /// How often misbehaviour and loss were met.
    pub fn counters(&self) -> Counters {
        let shared = &self.0.shared;
        Counters {
            malformed_frames: shared.malformed_frames.load(Ordering::Relaxed),
            credit_overruns: shared.credit_overruns.load(Ordering::Relaxed),
            refused_words: shared.refused_words.load(Ordering::Relaxed),
            busy_words: shared.busy_words.load(Ordering::Relaxed),
            too_long_words: shared.too_long_words.load(Ordering::Relaxed),
            throttled_reads: shared.throttled_reads.load(Ordering::Relaxed),
            silent_links: shared.silent_links.load(Ordering::Relaxed),
            dead_letters: shared.dead_letter_count.load(Ordering::Relaxed),
        }
    }

    /// Waits until every word sent over a link so far was taken (or refused) at its receiver, or `deadline`
    /// has passed: the last thing to do before a system is stopped whose last words matter. What is sent
    /// meanwhile is not waited for. False if the time is over, or a link was lost with such a word on
    /// its way. Needs a tokio context for its timer.
    pub async fn flush(&self, deadline: Duration) -> bool {
        match &self.0.links {
            Some(links) => timeout(deadline, links.settle()).await.unwrap_or(false),
            None => true,
        }
    }

    /// Shows every peer anew what [`Policy::credentials`] says: what is said from now on is judged by it.
    pub fn introduce(&self) {
        if let Some(links) = &self.0.links {
            links.introduce();
        }
    }

    /// Stops the system: no new actors; the others end one by one, the youngest first, each after its
    /// children; then links close and the threads (the arbiters' too) are joined. Stopping twice is
    /// harmless. Needs a tokio context for its timer. Called on a thread of the system itself, that
    /// thread is not waited for.
    ///
    /// When eight tenths of the time have gone, the actors that are left are told all at once, so that
    /// one that stands still does not keep the others from ending in order; after one tenth more the
    /// threads are told to end, which drops what is left.
    ///
    /// # Errors
    /// `DeadlinePassed`: something blocks its thread. That thread is not waited for; it ends, and its
    /// actors' watchers are told, as soon as what blocks it returns.
    pub async fn stop(&self, deadline: Duration) -> Result<(), StopError> {
        {
            let _roots = lock(&self.0.shared.roots);
            self.0.is_stopping.store(true, Ordering::Release);
        }
        let end = Instant::now() + deadline.min(LONGEST_STOP);
        let tenth = deadline.min(LONGEST_STOP) / 10;
        if timeout_at(end - 2 * tenth, self.end_in_order()).await.is_err() {
            // What has not ended by then is dropped with its thread, which tells those who watch.
            let _ = timeout_at(end - tenth, self.end_at_once()).await;
        }
        let alive = lock(&self.0.shared.roots).len();
        if let Some(links) = &self.0.links {
            links.close();
        }
        let arbiters: Vec<Arbiter> = lock(&self.0.arbiters).values().cloned().collect();
        let engines = || arbiters.iter().map(Arbiter::engine).chain([&self.0.engine]);
        engines().for_each(Engine::stop);
        let joined = timeout_at(end, join_all(engines().map(Engine::join))).await;
        let threads = if joined.is_ok() {
            Vec::new()
        } else {
            let left = engines().filter(|engine| !engine.has_ended());
            left.map(|engine| engine.name().to_owned()).collect()
        };
        if alive == 0 && threads.is_empty() {
            return Ok(());
        }
        Err(StopError::DeadlinePassed { alive, threads })
    }

    async fn end_in_order(&self) {
        let mut roots: Vec<_> = lock(&self.0.shared.roots).values().cloned().collect();
        while let Some(root) = roots.pop() {
            root.stop(ExitReason::SystemStopped);
            root.closed().await;
        }
    }

    async fn end_at_once(&self) {
        let roots: Vec<_> = lock(&self.0.shared.roots).values().cloned().collect();
        for root in &roots {
            root.stop(ExitReason::SystemStopped);
        }
        join_all(roots.into_iter().map(|root| root.closed())).await;
    }

    /// [`Self::stop`] for callers outside of any runtime. Not for handlers, nor for the thread of a system
    /// that was [started on the current thread](ActorSystemBuilder::start_on_current): while that thread
    /// waits here, no actor on it can end.
    ///
    /// # Errors
    /// As [`Self::stop`]; `OnOwnThread`, at once, on a thread where actors of the system run.
    pub fn stop_blocking(&self, deadline: Duration) -> Result<(), StopError> {
        let is_own =
            self.0.engine.is_here() || lock(&self.0.arbiters).values().any(|it| it.engine().is_here());
        if is_own {
            return Err(StopError::OnOwnThread);
        }
        let timed_out =
            || StopError::DeadlinePassed { alive: lock(&self.0.shared.roots).len(), threads: Vec::new() };
        let stop = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.map_err(|_| timed_out())?.block_on(self.stop(deadline))
        };
        // On a thread of its own, so that it also works inside of a runtime.
        std::thread::scope(|scope| scope.spawn(stop).join().unwrap_or_else(|_| Err(timed_out())))
    }

    /// For leak checks.
    #[cfg(feature = "testing")]
    pub(crate) fn observe(&self) -> Observer {
        Observer(Arc::downgrade(&self.0))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.shared.registry
    }

    pub(crate) fn next_actor_id(&self) -> ActorId {
        ActorId(self.0.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// An actor has ended.
    pub(crate) fn forget(&self, actor: ActorId) {
        self.0.shared.forget(actor);
    }
}

impl fmt::Debug for ActorSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorSystem")
            .field("me", &self.me())
            .field("network", &self.network())
            .finish_non_exhaustive()
    }
}

/// A path of this very system.
struct Named {
    shared: Arc<Shared>,
    path: ActorPath,
}

impl<M: Message + WireMessage> Port<M> for Named {
    fn tell(self: Arc<Self>, message: M) -> BoxFuture<'static, Result<(), TellError<M>>> {
        Box::pin(async move {
            match self.shared.registry.near::<M>(&self.path) {
                Ok(recipient) => recipient.tell(message).await,
                Err(refusal) => Err(TellError { message, reason: SendFailure::Refused(refusal) }),
            }
        })
    }

    fn try_tell(self: Arc<Self>, message: M) -> Result<(), TellError<M>> {
        match self.shared.registry.near::<M>(&self.path) {
            Ok(recipient) => recipient.try_tell(message),
            Err(refusal) => Err(TellError { message, reason: SendFailure::Refused(refusal) }),
        }
    }

    fn ask(self: Arc<Self>, message: M, until: Until) -> BoxFuture<'static, Result<M::Reply, AskError<M>>> {
        Box::pin(async move {
            match self.shared.registry.near::<M>(&self.path) {
                Ok(recipient) => recipient.0.ask(message, until).await,
                Err(refusal) => Err(AskError::NotSent { message, reason: SendFailure::Refused(refusal) }),
            }
        })
    }

    /// As of now: nobody is there, or somebody who has ended.
    fn is_closed(&self) -> bool {
        self.shared.registry.near::<M>(&self.path).map_or(true, |recipient| recipient.is_closed())
    }
}
