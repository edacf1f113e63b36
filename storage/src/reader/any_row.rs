//! Rows of any family, typed and ready to be shown.

use dms_messages::{
    BidId, Capability, ContentId, Did, NodeCard, Resources, Signed, Timestamp, from_canonical_within,
    without_verifying,
};
use serde::Serialize;

use crate::MAX_ENTRY_LENGTH;
use crate::books::{
    AllocationRow, Archived, BidReceivedRow, BidRequestReceivedRow, BidRequestSentRow, BidSentRow,
    ContractRow, Entry, JobRow, LiveContents, Lock, StandingRow, TrustRow,
};
use crate::engine::Engine;
use crate::log::EventLog;
use crate::rows::{
    Index, MAX_PAGE_ROWS, OrderedKey, RowError, allocated::Allocated, allocations::Allocations,
    archive::ArchiveRows, archive_by_time::ArchiveByTime, archive_by_time::ArchiveTime, available::Available,
    bid_requests_received::BidRequestsReceived, bid_requests_sent::BidRequestsSent,
    bids_received::BidsReceived, bids_sent::BidsSent, card::Card, contracts::Contracts,
    contracts_by_peer::ContractsByPeer, jobs::Jobs, locked::Locked, locks_by_expiry::LocksByExpiry,
    page_range, preferences::Preferences, registered::Registered, seen_ids::SeenIds, standing::Standing,
    trust::Trust,
};
use crate::schema::{Family, SCHEMA_VERSION_KEY};

/// A row as it was found.
#[derive(Debug, Clone, Serialize)]
pub struct QueriedRow {
    /// The key's bytes, in hexadecimal.
    #[serde(serialize_with = "as_hex")]
    pub key: Vec<u8>,
    /// The key for people: an id, a time, a number.
    pub name: String,
    /// What it says.
    pub row: AnyRow,
}

/// What a row of any family says.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnyRow {
    /// `meta`: the schema version.
    SchemaVersion(u32),
    /// `meta`: the node's card.
    Card(Signed<NodeCard>),
    /// `meta`: by what the node chooses.
    Preferences(String),
    /// `events`.
    Event(Box<Entry>),
    /// `registered`.
    Registered(Box<Capability>),
    /// `available` and `allocated`.
    Resources(Resources),
    /// `locked`.
    Lock(Box<Lock>),
    /// `bid_requests_sent`.
    BidRequestSent(Box<BidRequestSentRow>),
    /// `bid_requests_received`.
    BidRequestReceived(Box<BidRequestReceivedRow>),
    /// `bids_sent`.
    BidSent(Box<BidSentRow>),
    /// `bids_received`.
    BidReceived(Box<BidReceivedRow>),
    /// `jobs`.
    Job(Box<JobRow>),
    /// `allocations`.
    Allocation(Box<AllocationRow>),
    /// `contracts`.
    Contract(Box<ContractRow>),
    /// `seen_ids`: until when.
    Seen(Timestamp),
    /// `locks_by_expiry`.
    LockExpiry {
        /// When its lease ends.
        expires: Timestamp,
        /// The bid it backs.
        bid: BidId,
    },
    /// `contracts_by_peer`.
    PeerContract {
        /// The other party.
        peer: Did,
        /// The contract.
        contract: ContentId,
    },
    /// `standing`.
    Standing(StandingRow),
    /// `trust`.
    Trust(TrustRow),
    /// `archive`.
    Archived(Box<Archived>),
    /// `archive_by_time`.
    Contents {
        /// When it began, and which.
        of: ArchiveTime,
        /// What it needs.
        contents: LiveContents,
    },
    /// `snapshot`: a row of another family, as of the snapshot.
    Snapshot {
        /// The family's name.
        family: &'static str,
        /// What the row says.
        row: Box<AnyRow>,
    },
    /// A row that no type is known for (`notes`): its bytes, in hexadecimal.
    Bytes(#[serde(serialize_with = "as_hex")] Vec<u8>),
}

/// See [`crate::Reader::query`].
pub(super) fn query(
    engine: &dyn Engine,
    family: Family,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<QueriedRow>, RowError> {
    let page = engine.scan(family, page_range(prefix, after), limit.min(MAX_PAGE_ROWS))?;
    let row = |(key, value): (Vec<u8>, Vec<u8>)| {
        let (name, row) = read(family, &key, &value)?;
        Ok(QueriedRow { key, name, row })
    };
    without_verifying(|| page.into_iter().map(row).collect())
}

/// Reads one row, whatever it is.
fn read(family: Family, key: &[u8], value: &[u8]) -> Result<(String, AnyRow), RowError> {
    fn typed<I: Index>(
        key: &[u8],
        value: &[u8],
        row: impl FnOnce(I::Key, I::Value) -> AnyRow,
    ) -> Result<(String, AnyRow), RowError> {
        let key = I::key(key)?;
        Ok((key.to_text(), row(key, I::decode(value)?)))
    }
    macro_rules! boxed {
        ($index:ident, $row:ident) => {
            typed::<$index>(key, value, |_, row| AnyRow::$row(Box::new(row)))
        };
    }
    match family {
        Family::Meta if key == SCHEMA_VERSION_KEY => {
            let version = value.try_into().map(u32::from_be_bytes);
            let version = version.map_err(|_| RowError::Value { family: family.name(), source: None })?;
            Ok((text_or_hex(key), AnyRow::SchemaVersion(version)))
        }
        Family::Meta if Card::key(key).is_ok() => typed::<Card>(key, value, |_, row| AnyRow::Card(row)),
        Family::Meta if Preferences::key(key).is_ok() => {
            typed::<Preferences>(key, value, |_, text| AnyRow::Preferences(text))
        }
        Family::Meta | Family::Notes => Ok((text_or_hex(key), AnyRow::Bytes(value.to_vec()))),
        Family::Events => {
            let (sequence, event) = EventLog::parse(key, value)?;
            let entry = from_canonical_within(event, MAX_ENTRY_LENGTH)
                .map_err(|source| RowError::Value { family: family.name(), source: Some(source) })?;
            Ok((sequence.to_string(), AnyRow::Event(Box::new(entry))))
        }
        Family::Registered => boxed!(Registered, Registered),
        Family::Available => typed::<Available>(key, value, |_, row| AnyRow::Resources(row)),
        Family::Locked => boxed!(Locked, Lock),
        Family::Allocated => typed::<Allocated>(key, value, |_, row| AnyRow::Resources(row)),
        Family::BidRequestsSent => boxed!(BidRequestsSent, BidRequestSent),
        Family::BidRequestsReceived => boxed!(BidRequestsReceived, BidRequestReceived),
        Family::BidsSent => boxed!(BidsSent, BidSent),
        Family::BidsReceived => boxed!(BidsReceived, BidReceived),
        Family::Jobs => boxed!(Jobs, Job),
        Family::Allocations => boxed!(Allocations, Allocation),
        Family::Contracts => boxed!(Contracts, Contract),
        Family::SeenIds => typed::<SeenIds>(key, value, |_, until| AnyRow::Seen(until)),
        Family::LocksByExpiry => typed::<LocksByExpiry>(key, value, |key, ()| AnyRow::LockExpiry {
            expires: key.expires,
            bid: key.bid,
        }),
        Family::ContractsByPeer => typed::<ContractsByPeer>(key, value, |key, ()| AnyRow::PeerContract {
            peer: key.peer,
            contract: key.contract,
        }),
        Family::Standing => typed::<Standing>(key, value, |_, row| AnyRow::Standing(row)),
        Family::Trust => typed::<Trust>(key, value, |_, row| AnyRow::Trust(row)),
        Family::Archive => boxed!(ArchiveRows, Archived),
        Family::ArchiveByTime => {
            typed::<ArchiveByTime>(key, value, |of, contents| AnyRow::Contents { of, contents })
        }
        Family::Snapshot => {
            let unknown = || RowError::Key { family: family.name() };
            let (tag, key) = key.split_first().ok_or_else(unknown)?;
            // A snapshot of a snapshot would let a few bytes of damage recurse without end.
            let of = Family::from_tag(*tag).filter(|of| *of != family).ok_or_else(unknown)?;
            let (name, row) = read(of, key, value)?;
            let row = AnyRow::Snapshot { family: of.name(), row: Box::new(row) };
            Ok((format!("{} {name}", of.name()), row))
        }
    }
}

fn text_or_hex(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|letter| letter.is_ascii_graphic()) => text.to_owned(),
        _ => hex(bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

// serde hands fields by reference.
fn as_hex<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(bytes))
}
