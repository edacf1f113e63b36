//! How many connections there may be, and who is admitted at all.
//!
//! libp2p has no limits of its own. Composed by `behaviour`; a refused connection is an error of its
//! dial or its listener and never becomes an up.

use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId, connection_limits};

use crate::peer;

/// How many connections are begun and kept. The established limits leave room for about 100 peers,
/// and keep a part of it for peers that we chose to dial, so that strangers cannot fill the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Inbound connections that have not proven a key yet: each holds a socket for up to the dial
    /// timeout, which is what a flood of half-open connections costs at most.
    pub pending_incoming: u32,
    /// Dials under way. Higher than our own cap on dials, so that it never refuses one of ours.
    pub pending_outgoing: u32,
    /// Established connections that peers opened.
    pub established_incoming: u32,
    /// Established connections that we opened.
    pub established_outgoing: u32,
    /// Established connections in all: less than both of the above together.
    pub established: u32,
    /// Established connections to one peer: two, because two peers that dial each other at the same
    /// moment would otherwise close both.
    pub established_per_peer: u32,
}

impl ConnectionLimits {
    /// At this many established connections no more peers are dialled that nobody asked for: the other
    /// half of the table stays free for what jobs dial and for peers that come to us.
    pub(crate) fn unasked(&self) -> usize {
        usize::try_from(self.established / 2).unwrap_or(usize::MAX)
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            // A mesh of dozens of nodes that start on one host at once must not refuse itself.
            pending_incoming: 64,
            pending_outgoing: 64,
            established_incoming: 90,
            established_outgoing: 110,
            established: 130,
            established_per_peer: 2,
        }
    }
}

/// The behaviour that enforces `limits`.
pub(crate) fn behaviour(limits: &ConnectionLimits) -> connection_limits::Behaviour {
    connection_limits::Behaviour::new(
        connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(limits.pending_incoming))
            .with_max_pending_outgoing(Some(limits.pending_outgoing))
            .with_max_established_incoming(Some(limits.established_incoming))
            .with_max_established_outgoing(Some(limits.established_outgoing))
            .with_max_established(Some(limits.established))
            .with_max_established_per_peer(Some(limits.established_per_peer)),
    )
}

/// Denies every connection whose key is not a usable Ed25519 key, so that everywhere else an
/// established peer has a DID.
#[derive(Debug, Default)]
pub(crate) struct Admission;

fn admit(peer: &PeerId) -> Result<(), ConnectionDenied> {
    peer::did_of_peer(peer).map(|_| ()).map_err(ConnectionDenied::new)
}

impl NetworkBehaviour for Admission {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        admit(&peer).map(|()| dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        admit(&peer).map(|()| dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;

    #[test]
    fn only_ed25519_peers_are_admitted() {
        assert!(admit(&test_peer(1)).is_ok());
        assert!(admit(&"QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC".parse().unwrap()).is_err());
    }
}
