//! What the loop publishes about itself: snapshots that anyone may read without asking the loop.

use std::fmt;
use std::time::Duration;

use dms_actors::Did;
use dms_actors::clock::Timestamp;
use dms_actors::mesh::Topic;

/// A snapshot of the transport and the mesh, refreshed with every connection and every second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct P2pStatus {
    /// Where this peer can be dialled, each ending in `/p2p/<peer id>`, in order.
    pub listen_addresses: Vec<String>,
    /// The connected peers in the order of their DIDs.
    pub connected_peers: Vec<Did>,
    /// How many connections they have together.
    pub connection_count: usize,
    /// How many dials are under way.
    pub dial_count: usize,
    /// The topics that this peer listens to, in order.
    pub topics: Vec<TopicStatus>,
    /// Streams from peers that were dropped because their consumer lagged.
    pub dropped_streams: u64,
    /// Gossip that was dropped because its consumer lagged, or was too long to be passed on.
    pub dropped_gossip: u64,
    /// How many peers are in the routing table of the directory.
    pub routing_peer_count: usize,
    /// How many records are kept for the directory, ours included.
    pub record_count: usize,
    /// How many peers of the local network were found by mDNS and dialled since the start.
    pub mdns_found_count: u64,
    /// The bootstrap peers that were dialled in vain and are not connected, in the order in which they were given.
    pub unreached_bootstraps: Vec<UnreachedBootstrap>,
}

/// A bootstrap peer that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreachedBootstrap {
    /// Where it should be, without `/p2p/…`.
    pub address: String,
    /// Why the last dial failed.
    pub reason: String,
}

/// One topic that this peer listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicStatus {
    /// The topic.
    pub topic: Topic,
    /// How many peers are known to listen to it too.
    pub listener_count: usize,
    /// How many of them are in our mesh (they get every message at once).
    pub mesh_count: usize,
}

/// One connected peer, by its newest connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who it is.
    pub did: Did,
    /// Where it is connected: for a connection that it opened, the port is no place to dial.
    pub address: String,
    /// What carries the connection.
    pub transport: TransportKind,
    /// Who opened it.
    pub direction: Direction,
    /// Since when it is open.
    pub since: Timestamp,
    /// How long the last ping took; none before the first.
    pub round_trip: Option<Duration>,
    /// The software that it says it is, at most 64 printable characters; empty before it has said so.
    pub agent: String,
}

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    /// QUIC over UDP.
    Quic,
    /// TCP with noise and yamux.
    Tcp,
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        })
    }
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This peer.
    Dialled,
    /// The other one.
    Accepted,
}
