//! What the loop publishes about itself: a snapshot that anyone may read without asking the loop.

use dms_actors::Did;
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
