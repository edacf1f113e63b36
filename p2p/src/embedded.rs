//! Actors over somebody else's swarm: [`ActorBehaviour`], one behaviour beside the user's own.
//!
//! It adds to [`links`](crate::links) what `swarm` does for [`P2p`](crate::P2p): wishes for streams come
//! over a channel, peers that are not connected are dialled through the swarm, and ups, downs and streams
//! go out in order. It owns no connection and no task, never waits, and closes nothing that is not its own.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use dms_actors::Did;
use dms_actors::clock::SystemClock;
use dms_actors::transport::{OpenError, Pipe, Transport, TransportEvent};
use futures::future::BoxFuture;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::PeerAddresses;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::compat::FuturesAsyncReadCompatExt;

use crate::addresses::{by_use, is_loopback, without_peer};
use crate::dial::{Dialer, SharedBook};
use crate::event::Outbox;
use crate::links;
use crate::opening::{NEGOTIATION_TIME, Open, Opener};
use crate::peer::{self, NoDid};

/// Wishes on their way to the behaviour; it empties the channel each time the swarm is polled.
const WISHES: usize = 256;
/// Longest time to open a stream: libp2p's usual limit for a dial, and the agreement on the protocol.
const OPEN_TIME: Duration = Duration::from_secs(10).saturating_add(NEGOTIATION_TIME);
/// Peers of which addresses are kept that other behaviours report; ten addresses each.
const MAX_TOLD: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// What the behaviour reports to the swarm it lives in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActorEvent {
    /// A peer is connected that has no DID. No actor hears of it and none of our protocols is spoken
    /// with it; its connection is left alone.
    Ignored(NoDid),
}

/// Lets actors speak over the swarm of an application, beside the application's own behaviours.
///
/// It opens and accepts the streams of actor systems on the swarm's connections. A peer that is not
/// connected is dialled, at the addresses that were [told](Transport::add_addresses) and at those that
/// other behaviours know (`identify`, Kademlia, [`Swarm::add_peer_address`](libp2p::Swarm::add_peer_address)).
/// An idle connection is not kept open for it; one with a link is, because a link is a stream.
///
/// The swarm decides how soon a silent peer is down: with TCP add a `ping` behaviour and close the
/// connections whose pings fail; QUIC has a limit of its own.
///
/// ```
/// use dms_actors::ActorSystem;
/// use dms_p2p::{ActorBehaviour, did_of_peer, libp2p};
/// use libp2p::swarm::NetworkBehaviour;
///
/// #[derive(NetworkBehaviour)]
/// #[behaviour(prelude = "dms_p2p::libp2p::swarm::derive_prelude")]
/// struct Mine {
///     ping: libp2p::ping::Behaviour,
///     actors: ActorBehaviour,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = libp2p::identity::Keypair::generate_ed25519();
/// let me = key.public().to_peer_id();
/// let (actors, transport) = ActorBehaviour::new(me)?;
/// let mut swarm = libp2p::SwarmBuilder::with_existing_identity(key)
///     .with_tokio()
///     .with_quic()
///     .with_behaviour(|_| Mine { ping: Default::default(), actors })?
///     .build();
/// swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?;
/// let system = ActorSystem::builder(did_of_peer(&me)?, "example").transport(transport).start()?;
/// // …and the application polls its swarm as it always did.
/// # system.stop(std::time::Duration::from_secs(1)).await?;
/// # Ok(())
/// # }
/// ```
pub struct ActorBehaviour {
    local: PeerId,
    links: links::Behaviour,
    wishes: mpsc::Receiver<Open>,
    dialer: Dialer,
    /// What other behaviours say about where peers are.
    told: PeerAddresses,
    outbox: Outbox,
    /// For the swarm; emptied whenever it polls.
    events: VecDeque<ActorEvent>,
    seen: Seen,
}

impl ActorBehaviour {
    /// A behaviour for the swarm of `local`, and the transport that an
    /// [`ActorSystem`](dms_actors::ActorSystem) takes. When the swarm is dropped, the transport is closed.
    ///
    /// # Errors
    /// [`NoDid`] if the swarm's own key is not an Ed25519 key.
    pub fn new(local: PeerId) -> Result<(Self, Arc<dyn Transport>), NoDid> {
        peer::did_of_peer(&local)?;
        let book = SharedBook::default();
        let seen = Seen::default();
        let (wish_sender, wishes) = mpsc::channel(WISHES);
        let (outbox, events) = Outbox::new();
        let transport = Embedded {
            local,
            opener: Opener::new(wish_sender, OPEN_TIME),
            book: book.clone(),
            seen: seen.clone(),
            events: Mutex::new(Some(events)),
        };
        let behaviour = Self {
            local,
            links: links::Behaviour::default(),
            wishes,
            dialer: Dialer::embedded(book, SystemClock::shared()),
            told: PeerAddresses::new(MAX_TOLD),
            outbox,
            events: VecDeque::new(),
            seen,
        };
        Ok((behaviour, Arc::new(transport)))
    }

    /// How many streams of peers were dropped because the actor system did not take its events in time.
    pub fn dropped_streams(&self) -> u64 {
        self.outbox.dropped_streams()
    }

    fn handler(peer: &PeerId) -> links::Handler {
        if peer::did(peer).is_some() { links::Handler::default() } else { links::Handler::deaf() }
    }

    /// Somebody wants a stream.
    fn on_wish(&mut self, Open { peer, wish }: Open) {
        if let Err(wish) = self.links.open(peer, wish)
            && let Err(wish) = self.dialer.want(peer, wish)
        {
            wish.fail(links::OpenFailure::NoRoute);
        }
    }

    fn on_listeners_changed(&mut self, change: impl FnOnce(&mut BTreeSet<Multiaddr>)) {
        let mut seen = self.seen.lock();
        change(&mut seen.listening);
        self.dialer.set_listens_on_host(seen.listening.iter().any(is_loopback));
    }
}

impl fmt::Debug for ActorBehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorBehaviour").field("local", &self.local).finish_non_exhaustive()
    }
}

impl Drop for ActorBehaviour {
    fn drop(&mut self) {
        // With the swarm every connection and listener is gone.
        *self.seen.lock() = State::default();
    }
}

impl NetworkBehaviour for ActorBehaviour {
    type ConnectionHandler = links::Handler;
    type ToSwarm = ActorEvent;

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        Ok(peer.map(|peer| self.told.get(&peer).collect()).unwrap_or_default())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Self::handler(&peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Self::handler(&peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.told.on_swarm_event(&event);
        self.links.on_swarm_event(event);
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                match peer::did_of_peer(&event.peer_id) {
                    Ok(did) if event.other_established == 0 => {
                        self.seen.lock().connected.insert(did);
                        self.outbox.up(did);
                    }
                    Err(none) if event.other_established == 0 => {
                        self.events.push_back(ActorEvent::Ignored(none));
                    }
                    _ => {}
                }
                let wishes = self.dialer.on_established(
                    event.peer_id,
                    event.connection_id,
                    event.endpoint,
                    Instant::now(),
                );
                for wish in wishes {
                    self.on_wish(Open { peer: event.peer_id, wish });
                }
            }
            FromSwarm::ConnectionClosed(event) if event.remaining_established == 0 => {
                if let Some(did) = peer::did(&event.peer_id) {
                    self.seen.lock().connected.remove(&did);
                    self.outbox.down(did);
                }
            }
            FromSwarm::DialFailure(event) => {
                // Nobody to look further for it: whoever waited has been told.
                let _ = self.dialer.on_failed(event.connection_id, event.error, Instant::now());
            }
            FromSwarm::NewListenAddr(event) => self.on_listeners_changed(|listening| {
                listening.insert(event.addr.clone());
            }),
            FromSwarm::ExpiredListenAddr(event) => self.on_listeners_changed(|listening| {
                listening.remove(event.addr);
            }),
            FromSwarm::ExternalAddrConfirmed(event) => self.on_listeners_changed(|listening| {
                listening.insert(event.addr.clone());
            }),
            FromSwarm::ExternalAddrExpired(event) => self.on_listeners_changed(|listening| {
                listening.remove(event.addr);
            }),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        // At once and not by the queue of `links`: the next thing the swarm says may be that the peer is down.
        let incoming = event.by(peer);
        if let Some(did) = peer::did(&peer) {
            self.outbox.opened(did, incoming.protocol, Box::new(incoming.stream.compat()));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        while self.outbox.poll_flush_one(cx).is_ready() {}
        // At most as many as the channel holds. It closes when nobody has the transport any more.
        while let Poll::Ready(Some(open)) = self.wishes.poll_recv(cx) {
            self.on_wish(open);
        }
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        if let Some(opts) = self.dialer.next_dial(Instant::now()) {
            return Poll::Ready(ToSwarm::Dial { opts });
        }
        // Only wishes on their way to a connection: streams of peers have gone out already.
        match self.links.next_wish() {
            Some((peer_id, handler, event)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event })
            }
            None => Poll::Pending,
        }
    }
}

/// What the transport's handle may look at without asking the swarm; behind a mutex because the swarm may
/// run on another thread, and held only to copy.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    connected: BTreeSet<Did>,
    listening: BTreeSet<Multiaddr>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Sets are whole after each of the calls that are made on them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The transport of one [`ActorBehaviour`].
struct Embedded {
    local: PeerId,
    opener: Opener<Open>,
    book: SharedBook,
    seen: Seen,
    events: Mutex<Option<mpsc::Receiver<TransportEvent>>>,
}

impl Transport for Embedded {
    fn open(&self, peer: Did, protocol: &'static str) -> BoxFuture<'static, Result<Pipe, OpenError>> {
        self.opener.open(peer, protocol)
    }

    fn add_addresses(&self, peer: Did, addresses: Vec<String>) {
        self.book.lock().add_texts(peer::peer_id(&peer), &addresses);
    }

    fn listen_addresses(&self) -> Vec<String> {
        let suffix = format!("/p2p/{}", self.local);
        let listening = by_use(self.seen.lock().listening.iter().cloned().collect(), None);
        listening.iter().map(|address| format!("{}{suffix}", without_peer(address))).collect()
    }

    fn connected_peers(&self) -> Vec<Did> {
        self.seen.lock().connected.iter().copied().collect()
    }

    fn take_events(&self) -> Option<mpsc::Receiver<TransportEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;
    use futures::task::noop_waker_ref;
    use libp2p::core::ConnectedPoint;
    use libp2p::core::upgrade::UpgradeInfo;
    use libp2p::swarm::ConnectionHandler;
    use libp2p::swarm::behaviour::ConnectionEstablished;

    /// A peer whose key is not Ed25519.
    fn stranger() -> PeerId {
        "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC".parse().unwrap()
    }

    #[test]
    fn a_swarm_without_a_did_is_refused() {
        assert_eq!(ActorBehaviour::new(stranger()).err(), Some(NoDid(stranger())));
    }

    #[tokio::test]
    async fn a_peer_without_a_did_is_reported_and_none_of_our_protocols_is_offered_to_it() {
        let (mut behaviour, transport) = ActorBehaviour::new(test_peer(1)).unwrap();
        let (id, address) = (ConnectionId::new_unchecked(1), "/ip4/127.0.0.1/tcp/1".parse().unwrap());
        for (peer, protocols) in [(test_peer(2), 2), (stranger(), 0)] {
            let handler =
                behaviour.handle_established_inbound_connection(id, peer, &address, &address).unwrap();
            assert_eq!(handler.listen_protocol().upgrade().protocol_info().count(), protocols);
            let endpoint =
                ConnectedPoint::Listener { local_addr: address.clone(), send_back_addr: address.clone() };
            behaviour.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id: id,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
        }
        let mut cx = Context::from_waker(noop_waker_ref());
        let Poll::Ready(ToSwarm::GenerateEvent(event)) = behaviour.poll(&mut cx) else { panic!("an event") };
        assert_eq!(event, ActorEvent::Ignored(NoDid(stranger())));
        assert!(behaviour.poll(&mut cx).is_pending());
        let did = peer::did(&test_peer(2)).unwrap();
        assert_eq!(transport.connected_peers(), [did]);
        let mut events = transport.take_events().unwrap();
        assert!(matches!(events.try_recv(), Ok(TransportEvent::Up(who)) if who == did));
        assert!(events.try_recv().is_err());
    }
}
