//! The archive by time: the order of lists, newest last, and of forgetting, oldest first.
//!
//! ```text
//! key    | kind: u8 | at: u64 ms, big-endian, so that key order is time within a kind | id: 16, or a CID 36 |
//! value  | version: u8 = 1 | CBOR of the `LiveContents` that a person may still ask for |
//! ```
//!
//! The contents lie here and not only within the archived row, so that whoever sweeps blobs reads a hundredth of it.

use std::cmp::Ordering;

use dms_messages::Timestamp;
use serde::{Deserialize, Serialize};

use super::archive::{ArchiveId, ArchiveKind};
use crate::books::LiveContents;
use crate::rows::{Index, OrderedKey};
use crate::schema::Family;

/// When an archived thing began, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ArchiveTime {
    /// A job's submission, an allocation's acceptance, a contract's first record.
    pub at: Timestamp,
    /// Which.
    pub id: ArchiveId,
}

impl Ord for ArchiveTime {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.id.kind(), self.at, self.id).cmp(&(other.id.kind(), other.at, other.id))
    }
}

impl PartialOrd for ArchiveTime {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl ArchiveTime {
    /// The first bytes of all keys of `kind` at `at` and later; up to them lies what is older.
    pub(crate) fn border(kind: ArchiveKind, at: Timestamp) -> Vec<u8> {
        [&[kind as u8][..], &at.0.to_be_bytes()].concat()
    }
}

impl OrderedKey for ArchiveTime {
    fn to_bytes(&self) -> Vec<u8> {
        [Self::border(self.id.kind(), self.at), self.id.id_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (at, id) = rest.split_first_chunk()?;
        Some(Self { at: Timestamp(u64::from_be_bytes(*at)), id: ArchiveId::from_parts(*kind, id)? })
    }

    fn to_text(&self) -> String {
        format!("{} {}", self.at.0, self.id)
    }
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum ArchiveByTime {}

impl Index for ArchiveByTime {
    const FAMILY: Family = Family::ArchiveByTime;
    type Key = ArchiveTime;
    type Value = LiveContents;
}
