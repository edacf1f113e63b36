//! `NodeStatus`: how a node stands, in a few numbers. Every node gossips its own, signed: a little after
//! something changed, and once a minute. The newest sequence of one issuer wins; void after 3 minutes.

use std::fmt;

use dms_actors::signed::Document;
use serde::{Deserialize, Serialize};

use crate::capability::Resources;
use crate::units::{CpuMillis, DiskMib, MemoryMib};

/// Longest signed status, in bytes: everybody hears everybody's, so each must be cheap.
pub const MAX_NODE_STATUS_LENGTH: usize = 512;

/// A node's digest of itself. A hint, not a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// What it does in the mesh.
    pub role: NodeRole,
    /// Whether it takes new work.
    pub mode: ServingMode,
    /// What is available; nothing at a node that offers nothing.
    pub available: ResourceSummary,
    /// Allocations that are live.
    pub allocations: u32,
    /// Locks that are live.
    pub locks: u32,
    /// Jobs of its own that have not ended.
    pub jobs: u32,
    /// Peers that are connected.
    pub peers: u32,
    /// Grows with every status of this issuer, as an advert's does and on the same clock (milliseconds): of a
    /// status and an advert the one with the higher sequence is the later word.
    pub sequence: u64,
}

impl Document for NodeStatus {
    const KIND: &'static str = "dms.node-status";
    const VERSION: u16 = 1;
}

/// What a node does in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// It only asks.
    Requester,
    /// It offers capacity, and may ask too.
    Provider,
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requester => "requester",
            Self::Provider => "provider",
        })
    }
}

/// Whether a node takes new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServingMode {
    /// It does.
    Serving,
    /// It is stopping.
    Draining,
    /// It cannot write its books.
    ReadOnly,
}

impl fmt::Display for ServingMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::ReadOnly => "read-only",
        })
    }
}

/// [`Resources`] in four numbers: GPUs are counted, not named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceSummary {
    /// Processor time, in thousandths of a core.
    pub cpu: CpuMillis,
    /// Memory.
    pub memory: MemoryMib,
    /// Disk.
    pub disk: DiskMib,
    /// How many GPUs.
    pub gpus: u16,
}

impl From<&Resources> for ResourceSummary {
    fn from(resources: &Resources) -> Self {
        let gpus = u16::try_from(resources.gpus.len()).unwrap_or(u16::MAX);
        Self { cpu: resources.cpu, memory: resources.memory, disk: resources.disk, gpus }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dms_actors::signed::{DocumentId, MAX_NETWORK_LENGTH, SignOptions};
    use dms_actors::{Keypair, Signed};

    use super::*;
    use crate::Timestamp;

    #[test]
    fn the_longest_status_keeps_to_its_limit() {
        let status = NodeStatus {
            role: NodeRole::Requester,
            mode: ServingMode::ReadOnly,
            available: ResourceSummary {
                cpu: CpuMillis(u64::MAX),
                memory: MemoryMib(u64::MAX),
                disk: DiskMib(u64::MAX),
                gpus: u16::MAX,
            },
            allocations: u32::MAX,
            locks: u32::MAX,
            jobs: u32::MAX,
            peers: u32::MAX,
            sequence: u64::MAX,
        };
        let options = SignOptions {
            network: "n".repeat(MAX_NETWORK_LENGTH),
            audience: None,
            issued_at: Timestamp(u64::from(u32::MAX) * 1000),
            ttl: Duration::from_secs(180),
            id: DocumentId([0xff; 16]),
        };
        let signed = Signed::sign(status, &Keypair::from_secret(&[7; 32]), options).unwrap();
        let length = signed.bytes().len();
        assert!(length <= MAX_NODE_STATUS_LENGTH, "{length} bytes");
    }
}
