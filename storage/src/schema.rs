//! Names every column family and the schema version, once; both engines and the books read them here.
//!
//! A family is added by adding a variant *and* raising [`SCHEMA_VERSION`] with a migration step from the version
//! before (a function from n to n+1 with a stored fixture, in `migration`). So is a field of a row: rows are compared
//! with the log byte by byte, and another form of the same row would be taken for damage. A database with a newer
//! version is refused, never guessed at: its rows may mean something this program cannot know.

use crate::engine::EngineError;

/// The layout this program reads and writes.
pub const SCHEMA_VERSION: u32 = 2;

/// The row of [`Family::Meta`] that holds the schema version: four bytes, big-endian. Reserved; no other code writes it.
pub const SCHEMA_VERSION_KEY: &[u8] = b"schema_version";

/// A column family: one ordered key space of its own, in the same atomic batches as the others.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Facts about the database itself: the schema version, the node's uuid, the newest snapshot.
    Meta,
    /// The event log, the truth everything but [`Family::Notes`] is rebuilt from.
    Events,
    /// Registered capability.
    Registered,
    /// Available capability: a look-up row, derived, never a second truth.
    Available,
    /// Live locks.
    Locked,
    /// Live allocations' capability.
    Allocated,
    /// Bid requests this node sent.
    #[doc(alias = "BidRequestsSentIndex")]
    BidRequestsSent,
    /// Bid requests this node received.
    #[doc(alias = "BidRequestsReceivedIndex")]
    BidRequestsReceived,
    /// Bids this node sent.
    #[doc(alias = "BidsSentIndex")]
    BidsSent,
    /// Bids this node received.
    #[doc(alias = "BidsReceivedIndex")]
    BidsReceived,
    /// Jobs.
    #[doc(alias = "JobIndex")]
    Jobs,
    /// Every allocation ever started here.
    Allocations,
    /// Contracts.
    Contracts,
    /// Ids of signed words already seen, so that a repeat is a no-op.
    SeenIds,
    /// Notes outside the log (peers, adverts, samples): written unsynced, may be lost.
    Notes,
}

impl Family {
    /// Every family, in the order of their declaration.
    pub const ALL: [Self; 15] = [
        Self::Meta,
        Self::Events,
        Self::Registered,
        Self::Available,
        Self::Locked,
        Self::Allocated,
        Self::BidRequestsSent,
        Self::BidRequestsReceived,
        Self::BidsSent,
        Self::BidsReceived,
        Self::Jobs,
        Self::Allocations,
        Self::Contracts,
        Self::SeenIds,
        Self::Notes,
    ];

    /// The name on disk. Never changed: a renamed family is a lost family.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Events => "events",
            Self::Registered => "registered",
            Self::Available => "available",
            Self::Locked => "locked",
            Self::Allocated => "allocated",
            Self::BidRequestsSent => "bid_requests_sent",
            Self::BidRequestsReceived => "bid_requests_received",
            Self::BidsSent => "bids_sent",
            Self::BidsReceived => "bids_received",
            Self::Jobs => "jobs",
            Self::Allocations => "allocations",
            Self::Contracts => "contracts",
            Self::SeenIds => "seen_ids",
            Self::Notes => "notes",
        }
    }
}

/// The stored form of this program's schema version.
pub(crate) const fn version_row() -> [u8; 4] {
    SCHEMA_VERSION.to_be_bytes()
}

/// Reads a stored schema version and refuses one this program cannot serve.
///
/// # Errors
/// [`EngineError::NewerSchema`] if a newer program wrote it, [`EngineError::Damaged`] if no program ever did.
pub(crate) fn check_version(row: &[u8]) -> Result<u32, EngineError> {
    let bytes: [u8; 4] = row
        .try_into()
        .map_err(|_| EngineError::damaged(format!("schema version is {} bytes long, not 4", row.len())))?;
    match u32::from_be_bytes(bytes) {
        0 => Err(EngineError::damaged("schema version is 0, which no program writes")),
        found if found > SCHEMA_VERSION => Err(EngineError::NewerSchema { found, known: SCHEMA_VERSION }),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn families_are_listed_once_and_named_apart() {
        let listed: BTreeSet<Family> = Family::ALL.into_iter().collect();
        let names: BTreeSet<&str> = Family::ALL.into_iter().map(Family::name).collect();
        assert_eq!(listed.len(), Family::ALL.len());
        assert_eq!(names.len(), Family::ALL.len());
        // The last variant's discriminant counts the variants, so a family left out of `ALL` shows here.
        assert_eq!(Family::Notes as usize + 1, Family::ALL.len());
        assert!(!names.contains("default"), "RocksDB's own family is not ours");
    }

    #[test]
    fn version_rows() {
        let damaged = |row: &[u8]| matches!(check_version(row), Err(EngineError::Damaged { .. }));
        assert_eq!(check_version(&version_row()), Ok(SCHEMA_VERSION));
        assert_eq!(check_version(&1u32.to_be_bytes()), Ok(1), "older versions are migrated");
        assert_eq!(check_version(&3u32.to_be_bytes()), Err(EngineError::NewerSchema { found: 3, known: 2 }));
        assert_eq!(
            check_version(&u32::MAX.to_be_bytes()),
            Err(EngineError::NewerSchema { found: u32::MAX, known: 2 })
        );
        assert!(damaged(&[0; 4]));
        assert!(damaged(&[]));
        assert!(damaged(&[0, 0, 1]));
        assert!(damaged(&[0, 0, 0, 0, 1]));
    }
}
