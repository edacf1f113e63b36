//! What people and programs may see of the graph: this node, its neighbours, and the edges to them.

use dms_actors::Message;
use dms_messages::Did;
use serde::{Deserialize, Serialize};

use super::Edge;

/// Asks for this node and its edges.
#[derive(Debug)]
pub struct GetGraph;

impl Message for GetGraph {
    type Reply = GraphView;
}

/// A node and its edges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphView {
    /// The node.
    pub me: Did,
    /// True if it offers capacity.
    pub is_provider: bool,
    /// How many nodes the mesh has, this one included, as its members tell each other.
    pub mesh_size: u64,
    /// How many it has heard of by words of their own, this one included.
    pub heard_count: u64,
    /// Its neighbours: the connected first, then by their round trips, then in the order of their DIDs.
    pub neighbours: Vec<NeighbourView>,
}

/// A neighbour and the edge to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourView {
    /// Who.
    pub did: Did,
    /// True if it is connected now; the edges to those that are not are kept for an hour.
    pub is_connected: bool,
    /// True if it is trusted for anything: only then it is asked, and the edge measured.
    pub is_trusted: bool,
    /// True if it is known to offer capacity.
    pub is_provider: bool,
    /// How many peers it says it is connected to, if it said so lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_count: Option<u32>,
    /// What program it says it is, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What was measured.
    #[serde(flatten)]
    pub edge: Edge,
}

impl GraphView {
    /// Brings the neighbours into their order.
    pub(crate) fn sorted(mut self) -> Self {
        self.neighbours.sort_by_key(|it| {
            let far = it.edge.round_trip.map_or((true, 0), |trip| (false, trip.0));
            (!it.is_connected, far, it.did)
        });
        self
    }
}
