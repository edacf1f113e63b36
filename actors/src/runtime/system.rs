//! An actor system: a value that owns a thread for actors, a registry of paths, and links to others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::actor_ref::Lifecycle;
use super::engine::{self, Engine};
use super::link::{Far, Links};
use super::recipient::Port;
use super::registry::Registry;
use super::{
    Actor, ActorId, ActorPath, ActorRef, Address, AdmitAll, AskError, DeadLetter, ExitReason, Policy,
    Recipient, RegisterError, Registration, SendFailure, Supervision, TellError, lock,
};
use crate::blob::BlobSource;
use crate::clock::{SharedClock, SystemClock};
use crate::transport::Transport;
use crate::wire::DecodeContext;
use crate::{Did, Message, WireMessage};

/// Dead letters that wait for a slow listener; it is told how many it missed.
const DEAD_LETTERS: usize = 1024;
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
    /// The transport's events belong to another system already.
    #[error("the transport is in use by another system")]
    TransportInUse,
}

/// Why a system did not stop cleanly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// Some actors had not ended at the deadline; their thread ends as soon as it can.
    #[error("{alive} actors had not ended at the deadline")]
    DeadlinePassed {
        /// How many top-level actors were left.
        alive: usize,
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
    /// Words of peers that were refused.
    pub refused_words: u64,
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
    dead_letter_count: AtomicU64,
    dead_letters: broadcast::Sender<DeadLetter>,
}

impl Shared {
    pub(crate) fn bury(&self, letter: DeadLetter) {
        self.dead_letter_count.fetch_add(1, Ordering::Relaxed);
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
    runtime: Option<Handle>,
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

    /// Starts the system's thread and takes the transport's events.
    pub fn start(self) -> Result<ActorSystem, StartError> {
        let engine = Engine::start(format!("actors-{}", self.me.short())).map_err(StartError::Thread)?;
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
            dead_letter_count: AtomicU64::new(0),
            dead_letters,
        });
        let links = match self.transport {
            None => None,
            Some(transport) => {
                let Some(events) = transport.take_events() else {
                    engine.stop();
                    return Err(StartError::TransportInUse);
                };
                Some(Links::start(shared.clone(), transport, events, self.blobs, runtime))
            }
        };
        let inner = Inner {
            shared,
            engine,
            links,
            next_id: AtomicU64::new(1),
            roots: Mutex::default(),
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

struct Inner {
    shared: Arc<Shared>,
    engine: Engine,
    links: Option<Arc<Links>>,
    next_id: AtomicU64,
    /// The actors without a parent; their numbers give the order of their start.
    roots: Mutex<BTreeMap<ActorId, Arc<dyn Lifecycle>>>,
    is_stopping: AtomicBool,
}

impl Drop for Inner {
    /// The last handle is gone, and with it every actor: nobody could stop the system any more.
    fn drop(&mut self) {
        if let Some(links) = &self.links {
            links.close();
        }
        self.engine.stop();
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
            runtime: None,
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
        let (actor, lanes) = ActorRef::new(self.next_actor_id());
        {
            // Under the lock, so that a stopping system sees either the actor or no start.
            let mut roots = lock(&self.0.roots);
            if self.0.is_stopping.load(Ordering::Acquire) {
                actor.set_exit(ExitReason::SystemStopped);
                return actor;
            }
            roots.insert(actor.id(), actor.lifecycle());
        }
        let (system, me) = (self.clone(), engine::Unended(actor.clone()));
        let started = self.0.engine.run(move || {
            engine::start_here(system, me, lanes, Box::new(factory), supervision);
        });
        if !started {
            self.forget(actor.id());
        }
        actor
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
            Recipient::new(Arc::new(Far::new(self.0.links.clone(), address.clone())))
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
            dead_letters: shared.dead_letter_count.load(Ordering::Relaxed),
        }
    }

    /// Waits until every word sent over a link so far was taken by its receiver's mailbox, or `deadline`
    /// has passed: the last thing to do before a system is stopped whose last words matter. True if all
    /// were taken. Needs a tokio context for its timer.
    pub async fn flush(&self, deadline: Duration) -> bool {
        match &self.0.links {
            Some(links) => timeout(deadline, links.settle()).await.is_ok(),
            None => true,
        }
    }

    /// Stops the system: no new actors; the others end one by one, the youngest first, each after its
    /// children; then links close and the thread is joined. Stopping twice is harmless. Needs a tokio
    /// context for its timer. Called by an actor of the system itself, the thread is not waited for.
    ///
    /// Errors: `DeadlinePassed`; the thread is then told to end and not waited for.
    pub async fn stop(&self, deadline: Duration) -> Result<(), StopError> {
        let stopped = timeout(deadline, self.stop_in_order()).await;
        // Past the deadline what is left is dropped with the thread, which tells those who watch.
        if let Some(links) = &self.0.links {
            links.close();
        }
        self.0.engine.stop();
        stopped.map_err(|_| StopError::DeadlinePassed { alive: lock(&self.0.roots).len() })
    }

    async fn stop_in_order(&self) {
        let mut roots: Vec<_> = {
            let roots = lock(&self.0.roots);
            self.0.is_stopping.store(true, Ordering::Release);
            roots.values().cloned().collect()
        };
        while let Some(root) = roots.pop() {
            root.stop(ExitReason::SystemStopped);
            root.closed().await;
        }
        if let Some(links) = &self.0.links {
            links.close();
        }
        self.0.engine.stop();
        if !self.0.engine.is_current() {
            self.0.engine.join().await;
        }
    }

    /// [`Self::stop`] for callers outside of any runtime.
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub fn stop_blocking(&self, deadline: Duration) -> Result<(), StopError> {
        let timed_out = || StopError::DeadlinePassed { alive: lock(&self.0.roots).len() };
        let stop = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.map_err(|_| timed_out())?.block_on(self.stop(deadline))
        };
        // On a thread of its own, so that it also works inside of a runtime.
        std::thread::scope(|scope| scope.spawn(stop).join().unwrap_or_else(|_| Err(timed_out())))
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.shared.registry
    }

    pub(crate) fn next_actor_id(&self) -> ActorId {
        ActorId(self.0.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// An actor has ended.
    pub(crate) fn forget(&self, actor: ActorId) {
        self.0.shared.registry.forget(actor);
        lock(&self.0.roots).remove(&actor);
    }

    pub(crate) fn bury(&self, letter: DeadLetter) {
        self.0.shared.bury(letter);
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

    fn ask(self: Arc<Self>, message: M, time: Duration) -> BoxFuture<'static, Result<M::Reply, AskError<M>>> {
        Box::pin(async move {
            match self.shared.registry.near::<M>(&self.path) {
                Ok(recipient) => recipient.ask(message, time).await,
                Err(refusal) => Err(AskError::NotSent { message, reason: SendFailure::Refused(refusal) }),
            }
        })
    }
}
