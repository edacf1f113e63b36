//! The contracts by the other party: with one scan everything that was ever agreed with a peer.
//!
//! Current and archived contracts alike, so a contract that settles keeps its row; only forgetting removes it.
//!
//! ```text
//! key    | public key of the other party: 32 | CID: 36 |
//! value  empty: the contract itself lies in `contracts` or in the archive
//! ```

use dms_messages::{ContentId, Did};

use crate::books::Books;
use crate::rows::{Current, Index, OrderedKey, RowError, empty};
use crate::schema::Family;

/// A contract and with whom it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerContract {
    /// The other party.
    pub peer: Did,
    /// The contract.
    pub contract: ContentId,
}

impl OrderedKey for PeerContract {
    fn to_bytes(&self) -> Vec<u8> {
        [&self.peer.public_key()[..], &self.contract.to_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (peer, contract) = bytes.split_at_checked(32)?;
        Some(Self { peer: OrderedKey::from_bytes(peer)?, contract: OrderedKey::from_bytes(contract)? })
    }

    fn to_text(&self) -> String {
        format!("{} {}", self.peer, self.contract)
    }
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum ContractsByPeer {}

impl Index for ContractsByPeer {
    const FAMILY: Family = Family::ContractsByPeer;
    type Key = PeerContract;
    type Value = ();

    fn encode((): &()) -> Vec<u8> {
        Vec::new()
    }

    fn decode(bytes: &[u8]) -> Result<(), RowError> {
        empty::<Self>(bytes)
    }
}

impl Current for ContractsByPeer {
    fn bytes(books: &Books, key: &PeerContract) -> Option<Vec<u8>> {
        books.contracts().get(&key.contract).is_some_and(|row| row.peer == key.peer).then(Vec::new)
    }

    fn keys(books: &Books) -> Vec<PeerContract> {
        books.contracts().iter().map(|(id, row)| PeerContract { peer: row.peer, contract: *id }).collect()
    }
}
