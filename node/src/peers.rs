//! What is known of each peer, in one place: what the API and the CLI list.

use dms_actors::Message;
use dms_messages::{Did, Millis, NodeStatus, PriceList, ResourceSummary, Resources};
use serde::{Deserialize, Serialize};

use crate::trust::conduct::Standing;

/// Asks for every peer that is connected or kept out, or of which an advert or a status is known. Without this node; the
/// connected first, then in the order of their DIDs.
#[derive(Debug)]
pub struct GetPeers {
    /// How many at most.
    pub limit: usize,
}

impl Message for GetPeers {
    type Reply = Vec<PeerView>;
}

/// A peer as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// Who.
    pub did: Did,
    /// True if there is a connection to it now.
    pub is_connected: bool,
    /// True if it may ask this node, and is asked.
    pub is_trusted: bool,
    /// How it stands, if it does not behave: read slower, or kept out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// Where it can be dialled, as its advert says.
    pub addresses: Vec<String>,
    /// What the connection runs over (`quic`, `tcp`), if there is one.
    pub transport: Option<String>,
    /// How long a ping takes there and back, in microseconds, if it was measured.
    pub round_trip_us: Option<u64>,
    /// What program it says it is, if it said so.
    pub agent: Option<String>,
    /// What it has free, by the later of its advert and its status; none if it offers nothing.
    #[serde(default)]
    pub free: Option<ResourceSummary>,
    /// What it offers, if its advert is known and no later word takes it back.
    pub advert: Option<PeerAdvert>,
    /// How it stands, if it said so within the last three minutes and no later word says otherwise.
    pub status: Option<PeerReport>,
}

/// What a peer offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAdvert {
    /// What was available when it was said.
    pub available: Resources,
    /// What it costs.
    pub prices: PriceList,
    /// How long ago it was heard.
    pub age: Millis,
}

/// How a peer stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// In its own words.
    pub status: NodeStatus,
    /// How long ago it was heard.
    pub age: Millis,
}
