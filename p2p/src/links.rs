//! Streams of our protocols over libp2p connections.
//!
//! `swarm` asks [`Behaviour::open`] for a stream to a connected peer, and gets every stream that peers
//! open as an [`Incoming`] event, in order with the connection events. Nothing is read or written here.
//! `embedded` does the same inside of somebody else's swarm.
//!
//! Why not `libp2p-stream`: it hands accepted streams over a channel of one slot and drops what does
//! not fit, so two peers that open at the same moment can lose a stream after the opener was told that
//! it is open; and its streams do not come in order with connection events, so one could be seen
//! before its peer is up.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use dms_actors::transport::PROTOCOLS;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, StreamUpgradeError,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};
use tokio::sync::oneshot;

/// Why no stream was opened; the seam adds whose it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpenFailure {
    /// No address is known and no connection exists.
    NoRoute,
    /// Dialling or negotiating failed.
    Unreachable(String),
    /// The peer does not speak the protocol.
    Unsupported,
}

/// A wish for one stream. Dropped unanswered only if its connection or the whole loop ends; whoever
/// waits sees its channel close then.
#[derive(Debug)]
pub struct OpenStream {
    pub(crate) protocol: &'static str,
    pub(crate) reply: oneshot::Sender<Result<Stream, OpenFailure>>,
}

impl OpenStream {
    /// Answers the wish; nobody may be waiting any more, and that is fine.
    pub(crate) fn fail(self, failure: OpenFailure) {
        let _ = self.reply.send(Err(failure));
    }
}

/// A stream that a peer opened.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) peer: PeerId,
    pub(crate) protocol: &'static str,
    pub(crate) stream: Stream,
}

/// Opens and accepts streams on every connection.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    /// The connections of each peer in the order of their establishment.
    connections: BTreeMap<PeerId, Vec<ConnectionId>>,
    /// Wishes on their way to a connection; bounded by the opens under way (see `opening`).
    wishes: VecDeque<(PeerId, NotifyHandler, OpenStream)>,
    /// Bounded by the streams that connections may hold between two polls of the swarm.
    incoming: VecDeque<Incoming>,
}

impl Behaviour {
    /// Opens a stream over the newest connection to `peer` (an older one may be half dead); hands
    /// the wish back if there is none.
    pub(crate) fn open(&mut self, peer: PeerId, wish: OpenStream) -> Result<(), OpenStream> {
        let Some(newest) = self.connections.get(&peer).and_then(|connections| connections.last()) else {
            return Err(wish);
        };
        self.wishes.push_back((peer, NotifyHandler::One(*newest), wish));
        Ok(())
    }

    /// The next wish to be handed to a connection's handler.
    pub(crate) fn next_wish(&mut self) -> Option<(PeerId, NotifyHandler, OpenStream)> {
        self.wishes.pop_front()
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Incoming;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.connections.entry(event.peer_id).or_default().push(event.connection_id);
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Some(connections) = self.connections.get_mut(&event.peer_id) {
                    connections.retain(|connection| *connection != event.connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&event.peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        self.incoming.push_back(event.by(peer));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // No waker: both are filled only by the task that polls the swarm, between two polls.
        if let Some(incoming) = self.incoming.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(incoming));
        }
        match self.next_wish() {
            Some((peer_id, handler, event)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event })
            }
            None => Poll::Pending,
        }
    }
}

/// A stream that the remote end of one connection opened.
#[derive(Debug)]
pub struct Accepted {
    protocol: &'static str,
    stream: Stream,
}

impl Accepted {
    /// The same with the name of who opened it.
    pub(crate) fn by(self, peer: PeerId) -> Incoming {
        Incoming { peer, protocol: self.protocol, stream: self.stream }
    }
}

/// The two ends of our protocols on one connection. Streams that are open keep the connection alive;
/// this handler does not.
#[derive(Debug, Default)]
pub struct Handler {
    /// True if none of our protocols is spoken on this connection.
    is_deaf: bool,
    /// Wishes not yet asked of the connection.
    wishes: VecDeque<OpenStream>,
    /// Accepted streams not yet reported: at most a few, because the connection reports them before
    /// it accepts more.
    accepted: VecDeque<Accepted>,
}

impl Handler {
    /// For a connection to a peer that has no DID: to it we are somebody who speaks other protocols.
    pub(crate) fn deaf() -> Self {
        Self { is_deaf: true, ..Self::default() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenStream;
    type ToBehaviour = Accepted;
    type InboundProtocol = AnyProtocol;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenStream;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        SubstreamProtocol::new(AnyProtocol { is_deaf: self.is_deaf }, ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        if let Some(accepted) = self.accepted.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(accepted));
        }
        while let Some(wish) = self.wishes.pop_front() {
            if !wish.reply.is_closed() {
                let upgrade = ReadyUpgrade::new(StreamProtocol::new(wish.protocol));
                let protocol = SubstreamProtocol::new(upgrade, wish);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, wish: Self::FromBehaviour) {
        self.wishes.push_back(wish);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: accepted, ..
            }) => {
                self.accepted.push_back(accepted);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: wish,
            }) => {
                // If nobody waits any more, the stream is reset by being dropped.
                let _ = wish.reply.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: wish, error }) => {
                wish.fail(match error {
                    StreamUpgradeError::NegotiationFailed => OpenFailure::Unsupported,
                    StreamUpgradeError::Timeout => {
                        OpenFailure::Unreachable("the peer did not answer in time".to_owned())
                    }
                    StreamUpgradeError::Io(error) => OpenFailure::Unreachable(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                })
            }
            _ => {}
        }
    }
}

/// Accepts each of our protocols (or none of them) and says which one it was.
#[derive(Debug, Clone, Copy)]
pub struct AnyProtocol {
    is_deaf: bool,
}

impl UpgradeInfo for AnyProtocol {
    type Info = &'static str;
    type InfoIter = std::iter::Take<std::array::IntoIter<&'static str, { PROTOCOLS.len() }>>;

    fn protocol_info(&self) -> Self::InfoIter {
        PROTOCOLS.into_iter().take(if self.is_deaf { 0 } else { PROTOCOLS.len() })
    }
}

impl InboundUpgrade<Stream> for AnyProtocol {
    type Output = Accepted;
    type Error = Infallible;
    type Future = Ready<Result<Accepted, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: &'static str) -> Self::Future {
        ready(Ok(Accepted { protocol, stream }))
    }
}
