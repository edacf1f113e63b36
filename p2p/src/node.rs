//! Starting, asking and stopping one peer: [`P2p`], and the handles that `dms-actors` speaks to.
//!
//! The handles send commands to the loop through a bounded channel and read its published status;
//! they own no part of the swarm. Every wait ends: with an answer, with a time limit, or with the loop.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dms_actors::clock::SystemClock;
use dms_actors::directory::{Directory, DirectoryError, RecordCheck, RecordKey, check_lengths};
use dms_actors::mesh::{Gossip, GossipId, MAX_GOSSIP_LENGTH, Mesh, PublishError, Topic, Verdict};
use dms_actors::transport::{OpenError, Pipe, Transport, TransportEvent};
use dms_actors::{Did, Keypair};
use futures::future::BoxFuture;
use libp2p::identity;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::behaviour::{self, Behaviour};
use crate::bootstrap::Bootstrap;
use crate::config::{Checked, ConfigError, P2pConfig};
use crate::dial::{Dialer, SharedBook};
use crate::directory::{Clerk, Request};
use crate::event::Outbox;
use crate::gossip::Desk;
use crate::listen::{self, Pending};
use crate::opening::{NEGOTIATION_TIME, Opener};
use crate::status::{P2pStatus, PeerStatus};
use crate::swarm::{Command, Judgement, Loop};
use crate::{dht, lookup, peer, transports};

/// Commands on their way to the loop; it empties the channel before it looks at the network.
const COMMANDS: usize = 256;
/// Verdicts on their way: four times what can wait for one, so that none is lost to a burst.
const VERDICTS: usize = 1024;
/// Longest wait for the directory: a query and a moment, in case the loop is late.
const DIRECTORY_TIME: Duration = dht::QUERY_TIME.saturating_add(Duration::from_secs(2));
/// Longest time to bind the listeners: the system answers at once or never.
const BINDING_TIME: Duration = Duration::from_secs(10);

/// Why a peer could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum P2pError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on; usually its port is in use.
    #[error("cannot listen on {address}: {reason}")]
    ListenFailed {
        /// The address as it was given.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// libp2p refused what we built; a mistake in this crate.
    #[error("the peer could not be built: {0}")]
    Internal(String),
}

/// One peer on the network. Runs until [`P2p::shutdown`], or until it and all of its handles are dropped.
pub struct P2p {
    handle: Arc<Handle>,
    did: Did,
    stop: CancellationToken,
    stopped: CancellationToken,
}

impl P2p {
    /// Starts a peer with the given key and returns when all of its listeners are bound. Must be
    /// called inside a tokio runtime; the swarm lives on that runtime in one task.
    pub async fn start(keypair: &Keypair, config: P2pConfig) -> Result<Self, P2pError> {
        let config = config.check()?;
        for address in &config.listen {
            listen::probe(address)?;
        }
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let (started_sender, mut started) = oneshot::channel();
        let (swarm_loop, handle) = build(keypair, config, started_sender)?;

        let (loop_stop, has_stopped) = (stop.clone(), stopped.clone().drop_guard());
        tokio::spawn(async move {
            swarm_loop.run(loop_stop).await;
            // Only now is the swarm gone and its ports are free.
            drop(has_stopped);
        });

        let peer = Self { handle: Arc::new(handle), did: keypair.did(), stop, stopped };
        let result = match tokio::time::timeout(BINDING_TIME, &mut started).await {
            Ok(result) => result,
            Err(_) => {
                // The loop names what is still unbound when it is told to stop.
                peer.stop.cancel();
                started.await
            }
        };
        match result {
            Ok(Ok(())) => Ok(peer),
            Ok(Err(error)) => {
                peer.shutdown().await;
                Err(error)
            }
            Err(_) => Err(P2pError::Internal("the loop ended while it started".to_owned())),
        }
    }

    /// Who this peer is.
    pub fn did(&self) -> Did {
        self.did
    }

    /// Streams to and from other peers.
    pub fn transport(&self) -> Arc<dyn Transport> {
        self.handle.clone()
    }

    /// Gossip with every peer of the network.
    pub fn mesh(&self) -> Arc<dyn Mesh> {
        self.handle.clone()
    }

    /// Records and providers, looked up among all peers of the network.
    pub fn directory(&self) -> Arc<dyn Directory> {
        self.handle.clone()
    }

    /// Where this peer can be dialled, each address ending in `/p2p/<peer id>`.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.handle.listen_addresses()
    }

    /// What the loop last published about itself.
    pub fn status(&self) -> P2pStatus {
        self.handle.status.borrow().clone()
    }

    /// The connected peers in the order of their DIDs, with what is known of their connections; at most
    /// a second old.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.handle.peers.borrow().clone()
    }

    /// The same as it changes; ends when the peer is stopped.
    pub fn watch_peers(&self) -> watch::Receiver<Vec<PeerStatus>> {
        self.handle.peers.clone()
    }

    /// The status as it changes; ends when the peer is stopped.
    pub fn watch_status(&self) -> watch::Receiver<P2pStatus> {
        self.handle.status.clone()
    }

    /// Closes every connection and frees the ports; returns when that is done, within about a second.
    /// Streams end, waiting calls fail with `Closed`, and a second call returns at once.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.stopped.cancelled().await;
    }
}

impl fmt::Debug for P2p {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("P2p").field("did", &self.did).finish_non_exhaustive()
    }
}

/// Builds the loop with its listeners begun, and the handle that speaks to it.
fn build(
    keypair: &Keypair,
    config: Checked,
    started: oneshot::Sender<Result<(), P2pError>>,
) -> Result<(Loop, Handle), P2pError> {
    let mut swarm = build_swarm(keypair, &config)?;
    let mut pending = Pending::default();
    for address in &config.listen {
        let listener = swarm.listen_on(address.clone());
        let listener = listener.map_err(|error| listen::failed(address, error.to_string()))?;
        pending.add(listener, address.clone());
    }

    let timing = &config.timing;
    let local = *swarm.local_peer_id();
    let bootstrap =
        Bootstrap::new(config.bootstrap, local, timing.redial_initial, timing.redial_max, Instant::now());
    let kad_protocol = dht::protocol(&config.network)?;
    let unasked = config.limits.unasked();
    let book = SharedBook::default();
    let (commands_sender, commands) = mpsc::channel(COMMANDS);
    let (verdicts_sender, verdicts) = mpsc::channel(VERDICTS);
    let (outbox, events) = Outbox::new();
    let (desk, gossip) = Desk::new(&config.network);
    let (status, status_receiver) = watch::channel(P2pStatus::default());
    let (peers, peers_receiver) = watch::channel(Vec::new());
    let (clerk, checked) = Clerk::new(local, config.record_check.clone(), Instant::now());
    let clock = SystemClock::shared();

    let handle = Handle {
        opener: Opener::new(
            commands_sender.clone(),
            lookup::SEARCH_TIME + timing.dial_timeout + NEGOTIATION_TIME,
        ),
        commands: commands_sender,
        verdicts: verdicts_sender,
        book: book.clone(),
        status: status_receiver,
        peers: peers_receiver,
        record_check: config.record_check,
        events: Mutex::new(Some(events)),
        gossip: Mutex::new(Some(gossip)),
    };
    let swarm_loop = Loop {
        swarm,
        commands,
        verdicts,
        dialer: Dialer::new(book.clone(), bootstrap, clock.clone()),
        book,
        desk,
        outbox,
        network: config.network,
        kad_protocol,
        clerk,
        checked,
        seeker: Default::default(),
        foreigners: Default::default(),
        shut_out: Default::default(),
        finder: Default::default(),
        next_meeting: Instant::now(),
        clock,
        status,
        peers,
        pending,
        started: Some(started),
        unasked,
        connections: Default::default(),
    };
    Ok((swarm_loop, handle))
}

fn build_swarm(keypair: &Keypair, config: &Checked) -> Result<libp2p::Swarm<Behaviour>, P2pError> {
    let internal = |error: &dyn fmt::Display| P2pError::Internal(error.to_string());
    let mut secret = keypair.secret();
    // Wipes the secret that it is given.
    let key = identity::Keypair::ed25519_from_bytes(&mut secret[..]).map_err(|error| internal(&error))?;
    let behaviour = behaviour::build(&key, config)?;
    transports::swarm(key, behaviour, &config.timing, config.pre_shared_key)
}

/// The handle behind `Transport`, `Mesh` and `Directory`.
struct Handle {
    opener: Opener<Command>,
    commands: mpsc::Sender<Command>,
    verdicts: mpsc::Sender<Judgement>,
    book: SharedBook,
    status: watch::Receiver<P2pStatus>,
    peers: watch::Receiver<Vec<PeerStatus>>,
    record_check: Option<Arc<dyn RecordCheck>>,
    events: Mutex<Option<mpsc::Receiver<TransportEvent>>>,
    gossip: Mutex<Option<mpsc::Receiver<Gossip>>>,
}

impl Transport for Handle {
    fn open(&self, peer: Did, protocol: &'static str) -> BoxFuture<'static, Result<Pipe, OpenError>> {
        self.opener.open(peer, protocol)
    }

    fn add_addresses(&self, peer: Did, addresses: Vec<String>) {
        self.book.lock().add_texts(peer::peer_id(&peer), &addresses);
    }

    fn listen_addresses(&self) -> Vec<String> {
        self.status.borrow().listen_addresses.clone()
    }

    fn connected_peers(&self) -> Vec<Did> {
        self.status.borrow().connected_peers.clone()
    }

    fn shut_out(&self, peer: Did, time: Duration) -> BoxFuture<'static, ()> {
        let commands = self.commands.clone();
        Box::pin(async move {
            // Without a loop there is no connection either.
            let _ = commands.send(Command::ShutOut { peer, time }).await;
        })
    }

    fn take_events(&self) -> Option<mpsc::Receiver<TransportEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Mesh for Handle {
    fn publish(&self, topic: Topic, body: Vec<u8>) -> BoxFuture<'static, Result<(), PublishError>> {
        let commands = self.commands.clone();
        Box::pin(async move {
            // Checked before the loop so that a huge body never waits in a queue.
            if body.len() > MAX_GOSSIP_LENGTH {
                return Err(PublishError::TooLong(body.len()));
            }
            let (reply, answer) = oneshot::channel();
            commands.try_send(Command::Publish { topic, body, reply }).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => PublishError::Busy,
                mpsc::error::TrySendError::Closed(_) => PublishError::Closed,
            })?;
            answer.await.unwrap_or(Err(PublishError::Closed))
        })
    }

    fn subscribe(&self, topic: Topic) -> BoxFuture<'static, Result<(), PublishError>> {
        let commands = self.commands.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            commands.send(Command::Subscribe { topic, reply }).await.map_err(|_| PublishError::Closed)?;
            answer.await.unwrap_or(Err(PublishError::Closed))
        })
    }

    fn verdict(&self, id: GossipId, forwarder: Did, verdict: Verdict) {
        // A verdict that does not fit is a message that is not forwarded: gossip allows for that.
        if self.verdicts.try_send(Judgement { id, forwarder, verdict }).is_err() {
            tracing::debug!("a verdict was dropped");
        }
    }

    fn take_gossip(&self) -> Option<mpsc::Receiver<Gossip>> {
        self.gossip.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Handle {
    /// Hands a request to the loop and waits for its answer. A full channel is a busy directory: a
    /// query must not wait in a line that it makes longer.
    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, DirectoryError>>) -> Request,
    ) -> impl Future<Output = Result<T, DirectoryError>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.try_send(Command::Directory(request(reply))).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => DirectoryError::Busy,
            mpsc::error::TrySendError::Closed(_) => DirectoryError::Closed,
        });
        async move {
            sent?;
            match tokio::time::timeout(DIRECTORY_TIME, answer).await {
                Ok(answer) => answer.unwrap_or(Err(DirectoryError::Closed)),
                Err(_) => Err(DirectoryError::NoAnswer(format!("no answer within {DIRECTORY_TIME:?}"))),
            }
        }
    }
}

impl Directory for Handle {
    fn put(
        &self,
        key: RecordKey,
        value: Vec<u8>,
        ttl: Duration,
    ) -> BoxFuture<'static, Result<(), DirectoryError>> {
        // Checked here, so that nothing is sent that every other peer would refuse.
        let sequence = check_lengths(&key, &value).and_then(|()| {
            let check = self.record_check.as_ref().map(|check| check.check(&key, &value));
            check.transpose().map_err(|reason| DirectoryError::NoAnswer(format!("it is refused: {reason}")))
        });
        match sequence {
            Ok(sequence) => Box::pin(self.ask(|reply| Request::Put { key, value, sequence, ttl, reply })),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn get(&self, key: RecordKey) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DirectoryError>> {
        match check_lengths(&key, &[]) {
            Ok(()) => Box::pin(self.ask(|reply| Request::Get { key, reply })),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn provide(&self, key: RecordKey) -> BoxFuture<'static, Result<(), DirectoryError>> {
        match check_lengths(&key, &[]) {
            Ok(()) => Box::pin(self.ask(|reply| Request::Provide { key, reply })),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn stop_providing(&self, key: RecordKey) {
        // Without room for it the key is announced for longer than true: whoever asks is told no then.
        if self.commands.try_send(Command::Directory(Request::StopProviding { key })).is_err() {
            tracing::debug!("the end of providing a key was dropped");
        }
    }

    fn providers(&self, key: RecordKey) -> BoxFuture<'static, Result<Vec<Did>, DirectoryError>> {
        match check_lengths(&key, &[]) {
            Ok(()) => Box::pin(self.ask(|reply| Request::Providers { key, reply })),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}
