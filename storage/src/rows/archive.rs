//! What is over: jobs, allocations and contracts that left the memory. Written once, never changed, one day forgotten.
//!
//! ```text
//! key    | kind: u8, 1 job, 2 allocation, 3 contract | id: 16, a contract's CID 36 |
//! value  | version: u8 = 1 | CBOR of `Archived` |
//! ```

use std::fmt;

use dms_messages::{AllocationId, ContentId, JobId};
use serde::{Deserialize, Serialize};

use crate::books::{Archived, ArchivedRow};
use crate::rows::{Index, OrderedKey};
use crate::schema::Family;

/// What kind of thing is over. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveKind {
    /// A job of ours.
    Job = 1,
    /// An allocation that ran here.
    Allocation = 2,
    /// A contract.
    Contract = 3,
}

/// Names one archived thing. In this order it lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveId {
    /// A job of ours.
    Job(JobId),
    /// An allocation that ran here.
    Allocation(AllocationId),
    /// A contract.
    Contract(ContentId),
}

impl ArchiveId {
    /// Of what kind it is.
    pub fn kind(&self) -> ArchiveKind {
        match self {
            Self::Job(_) => ArchiveKind::Job,
            Self::Allocation(_) => ArchiveKind::Allocation,
            Self::Contract(_) => ArchiveKind::Contract,
        }
    }

    /// Names what `archived` holds. Hashes the document, if it is a contract.
    pub fn of(archived: &Archived) -> Self {
        match &archived.row {
            ArchivedRow::Job(row) => Self::Job(row.job.id),
            ArchivedRow::Allocation(row) => Self::Allocation(row.id),
            ArchivedRow::Contract(row) => Self::Contract(row.contract.content_id()),
        }
    }

    /// The bytes of the id alone.
    pub(crate) fn id_bytes(&self) -> Vec<u8> {
        match self {
            Self::Job(id) => id.as_bytes().to_vec(),
            Self::Allocation(id) => id.as_bytes().to_vec(),
            Self::Contract(id) => id.to_bytes(),
        }
    }

    /// Reads [`ArchiveId::id_bytes`] of a kind.
    pub(crate) fn from_parts(kind: u8, id: &[u8]) -> Option<Self> {
        match kind {
            1 => Some(Self::Job(JobId::from_bytes(id.try_into().ok()?))),
            2 => Some(Self::Allocation(AllocationId::from_bytes(id.try_into().ok()?))),
            3 => Some(Self::Contract(OrderedKey::from_bytes(id)?)),
            _ => None,
        }
    }
}

impl fmt::Display for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => write!(f, "job {id}"),
            Self::Allocation(id) => write!(f, "allocation {id}"),
            Self::Contract(id) => write!(f, "contract {id}"),
        }
    }
}

impl OrderedKey for ArchiveId {
    fn to_bytes(&self) -> Vec<u8> {
        [&[self.kind() as u8][..], &self.id_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, id) = bytes.split_first()?;
        Self::from_parts(*kind, id)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum ArchiveRows {}

impl Index for ArchiveRows {
    const FAMILY: Family = Family::Archive;
    type Key = ArchiveId;
    type Value = Archived;
}
