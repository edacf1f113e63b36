//! Names every column family and the schema version, once; both engines and the books read them here.
//!
//! A family is added by adding a variant *and* raising [`SCHEMA_VERSION`] with a migration step from the version
//! before (a function from n to n+1 with a stored fixture, in `migration`). So is a field of a row: rows are compared
//! with the log byte by byte, and another form of the same row would be taken for damage. A database with a newer
//! version is refused, never guessed at: its rows may mean something this program cannot know.

use crate::engine::EngineError;

/// The layout this program reads and writes.
pub const SCHEMA_VERSION: u32 = 4;

/// The row of [`Family::Meta`] that holds the schema version: four bytes, big-endian. Reserved; no other code writes it.
pub const SCHEMA_VERSION_KEY: &[u8] = b"schema_version";

/// A column family: one ordered key space of its own, in the same atomic batches as the others.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Facts about the database itself: the schema version, the node's uuid, the newest snapshot; by what the node chooses.
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
    /// Live locks by when their lease ends: the next one to sweep is the first row.
    LocksByExpiry,
    /// Contracts by the other party, current and archived alike.
    ContractsByPeer,
    /// What requesters did with locks they never invoked.
    Standing,
    /// Whom the node trusts, by what right, and whom it lets in.
    Trust,
    /// What is over: jobs, allocations and contracts that left the memory. Never changed, only forgotten.
    Archive,
    /// The archive by time: the order of lists, and of forgetting.
    ArchiveByTime,
    /// The live rows as of one event, from which the books are opened and behind which the log is cut.
    Snapshot,
    /// Notes outside the log (peers, adverts, samples): written unsynced, may be lost.
    Notes,
}

impl Family {
    /// Every family, in the order of their declaration.
    pub const ALL: [Self; 22] = [
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
        Self::LocksByExpiry,
        Self::ContractsByPeer,
        Self::Standing,
        Self::Trust,
        Self::Archive,
        Self::ArchiveByTime,
        Self::Snapshot,
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
            Self::LocksByExpiry => "locks_by_expiry",
            Self::ContractsByPeer => "contracts_by_peer",
            Self::Standing => "standing",
            Self::Trust => "trust",
            Self::Archive => "archive",
            Self::ArchiveByTime => "archive_by_time",
            Self::Snapshot => "snapshot",
            Self::Notes => "notes",
        }
    }

    /// The schema version that brought it: in a database of an older one it is not missing but not there yet.
    pub const fn since(self) -> u32 {
        match self {
            Self::LocksByExpiry
            | Self::ContractsByPeer
            | Self::Standing
            | Self::Archive
            | Self::ArchiveByTime
            | Self::Snapshot => 3,
            Self::Trust => 4,
            _ => 1,
        }
    }

    /// The byte that stands for it in keys of other families ([`Family::Snapshot`]). Never changed.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Meta => 0,
            Self::Events => 1,
            Self::Registered => 2,
            Self::Available => 3,
            Self::Locked => 4,
            Self::Allocated => 5,
            Self::BidRequestsSent => 6,
            Self::BidRequestsReceived => 7,
            Self::BidsSent => 8,
            Self::BidsReceived => 9,
            Self::Jobs => 10,
            Self::Allocations => 11,
            Self::Contracts => 12,
            Self::SeenIds => 13,
            Self::Notes => 14,
            Self::LocksByExpiry => 15,
            Self::ContractsByPeer => 16,
            Self::Standing => 17,
            Self::Archive => 18,
            Self::ArchiveByTime => 19,
            Self::Snapshot => 20,
            Self::Trust => 21,
        }
    }

    /// The family that a byte stands for, if it is one's.
    pub fn from_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.tag() == tag)
    }

    /// The family of this name on disk, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
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
        for family in Family::ALL {
            assert_eq!(Family::from_tag(family.tag()), Some(family));
            assert_eq!(Family::from_name(family.name()), Some(family));
            assert!((1..=SCHEMA_VERSION).contains(&family.since()));
        }
        // The last variant's discriminant counts the variants, so a family left out of `ALL` shows here.
        assert_eq!(Family::Notes as usize + 1, Family::ALL.len());
        assert!(!names.contains("default"), "RocksDB's own family is not ours");
    }

    #[test]
    fn version_rows() {
        let damaged = |row: &[u8]| matches!(check_version(row), Err(EngineError::Damaged { .. }));
        assert_eq!(check_version(&version_row()), Ok(SCHEMA_VERSION));
        assert_eq!(check_version(&1u32.to_be_bytes()), Ok(1), "older versions are migrated");
        assert_eq!(check_version(&2u32.to_be_bytes()), Ok(2));
        assert_eq!(check_version(&3u32.to_be_bytes()), Ok(3));
        assert_eq!(check_version(&5u32.to_be_bytes()), Err(EngineError::NewerSchema { found: 5, known: 4 }));
        assert_eq!(
            check_version(&u32::MAX.to_be_bytes()),
            Err(EngineError::NewerSchema { found: u32::MAX, known: 4 })
        );
        assert!(damaged(&[0; 4]));
        assert!(damaged(&[]));
        assert!(damaged(&[0, 0, 1]));
        assert!(damaged(&[0, 0, 0, 0, 1]));
    }
}
