//! Streams of our protocols over libp2p connections.
//!
//! `swarm` asks [`Behaviour::open`] for a stream to a connected peer, and gets every stream that peers
//! open as an [`Incoming`] event, in order with the connection events. Nothing is read or written here.
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
pub(crate) struct OpenStream {
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
    /// Bounded by the opens under way (see `node`) and by the streams that connections may hold
    /// between two polls of the swarm.
    actions: VecDeque<ToSwarm<Incoming, OpenStream>>,
}

impl Behaviour {
    /// Opens a stream over the newest connection to `peer` (an older one may be half dead); hands
    /// the wish back if there is none.
    pub(crate) fn open(&mut self, peer: PeerId, wish: OpenStream) -> Result<(), OpenStream> {
        let Some(newest) = self.connections.get(&peer).and_then(|connections| connections.last()) else {
            return Err(wish);
        };
        let handler = NotifyHandler::One(*newest);
        self.actions.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: wish });
        Ok(())
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
        let Accepted { protocol, stream } = event;
        self.actions.push_back(ToSwarm::GenerateEvent(Incoming { peer, protocol, stream }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // No waker: actions are added only by the task that polls the swarm, between two polls.
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// A stream that the remote end of one connection opened.
#[derive(Debug)]
pub(crate) struct Accepted {
    protocol: &'static str,
    stream: Stream,
}

/// The two ends of our protocols on one connection. Streams that are open keep the connection alive;
/// this handler does not.
#[derive(Debug, Default)]
pub(crate) struct Handler {
    /// Wishes not yet asked of the connection.
    wishes: VecDeque<OpenStream>,
    /// Accepted streams not yet reported: at most a few, because the connection reports them before
    /// it accepts more.
    accepted: VecDeque<Accepted>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenStream;
    type ToBehaviour = Accepted;
    type InboundProtocol = AnyProtocol;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenStream;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        SubstreamProtocol::new(AnyProtocol, ())
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

/// Accepts each of our protocols and says which one it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnyProtocol;

impl UpgradeInfo for AnyProtocol {
    type Info = &'static str;
    type InfoIter = std::array::IntoIter<&'static str, { PROTOCOLS.len() }>;

    fn protocol_info(&self) -> Self::InfoIter {
        PROTOCOLS.into_iter()
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
