//! `NodeCard`: who a node is. Signed once by the node when its identity is made; its content identifier
//! is the node's CID. Voided only by key rotation.

use dms_actors::Did;
use dms_actors::clock::Timestamp;
use dms_actors::signed::Document;
use serde::{Deserialize, Serialize};

use crate::ids::NodeUuid;

/// A node's introduction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCard {
    /// The node's own number.
    pub uuid: NodeUuid,
    /// Its DID; must be the issuer.
    pub did: Did,
    /// Its libp2p peer id, as text; must be of the same key.
    pub peer_id: String,
    /// When its identity was made.
    pub created: Timestamp,
}

impl Document for NodeCard {
    const KIND: &'static str = "dms.node-card";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<(), String> {
        if self.peer_id == self.did.peer_id() {
            Ok(())
        } else {
            Err("peer id and DID are of two keys".to_owned())
        }
    }
}
