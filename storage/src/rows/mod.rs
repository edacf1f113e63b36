//! Where every row lies on disk and what its bytes are: one file per index.
//!
//! Called by the store, which writes rows; by the check, which compares them; and by [`crate::reader`], which shows
//! them to people. Every value is one version byte and the canonical CBOR of its type; every key is typed and lies on
//! disk in the order of its type.
//!
//! | file | family | rows |
//! |---|---|---|
//! | [`card`], [`preferences`] | meta | the node's introduction; by what it chooses |
//! | [`registered`], [`available`] | the same | one row each |
//! | [`locked`], [`locks_by_expiry`] | the same | live locks; by when they end |
//! | [`allocated`] | the same | what live allocations have |
//! | [`bid_requests_sent`], [`bid_requests_received`] | the same | requests of both directions |
//! | [`bids_sent`], [`bids_received`] | the same | bids of both directions |
//! | [`jobs`], [`allocations`], [`contracts`] | the same | what is current |
//! | [`contracts_by_peer`] | the same | contracts by the other party, archived ones too |
//! | [`seen_ids`], [`standing`] | the same | words already seen; requesters not in good standing |
//! | [`trust`] | the same | whom the node trusts, and whom it lets in |
//! | [`archive`], [`archive_by_time`] | the same | what is over |
//!
//! Nothing here is a second truth: all but the archive is derived from [`Books`], which is rebuilt from snapshot and
//! log and then compared. A row that is gone from the books is deleted on disk. Nothing here decides, and the fold
//! never reads any of it.

pub mod allocated;
pub mod allocations;
pub mod archive;
pub mod archive_by_time;
pub mod available;
pub mod bid_requests_received;
pub mod bid_requests_sent;
pub mod bids_received;
pub mod bids_sent;
pub mod card;
pub mod contracts;
pub mod contracts_by_peer;
pub mod jobs;
pub mod locked;
pub mod locks_by_expiry;
pub mod preferences;
pub mod registered;
pub mod seen_ids;
pub mod standing;
pub mod trust;

use std::collections::BTreeMap;

use dms_messages::{
    AllocationId, BidId, BidRequestId, CborError, ContentId, Did, DocumentId, JobId, Timestamp,
    without_verifying,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::archive::{ArchiveId, ArchiveKind, ArchiveRows};
use self::archive_by_time::{ArchiveByTime, ArchiveTime};
use self::card::CardKey;
use self::contracts_by_peer::{ContractsByPeer, PeerContract};
use self::locks_by_expiry::LockExpiry;
use self::preferences::PreferencesKey;
use self::trust::TrustKey;
use crate::books::{Archived, ArchivedRow, Books};
use crate::engine::{Batch, Engine, EngineError, ScanRange};
use crate::schema::Family;

/// Most rows a page holds, so that no caller's number becomes memory.
pub const MAX_PAGE_ROWS: usize = 1_024;

/// Version byte in front of each value.
const ROW_VERSION: u8 = 1;

/// The families that consist of rows of the books and nothing else. [`Family::ContractsByPeer`] is none of them: it
/// holds the archive's too.
pub const ROW_FAMILIES: [Family; 15] = [
    Family::Registered,
    Family::Available,
    Family::Locked,
    Family::Allocated,
    Family::BidRequestsSent,
    Family::BidRequestsReceived,
    Family::BidsSent,
    Family::BidsReceived,
    Family::Jobs,
    Family::Allocations,
    Family::Contracts,
    Family::SeenIds,
    Family::LocksByExpiry,
    Family::Standing,
    Family::Trust,
];

/// Why a row cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The key is not one of its family.
    #[error("a key in {family} cannot be read")]
    Key {
        /// The column family.
        family: &'static str,
    },
    /// The value is not one of its family.
    #[error("a row in {family} cannot be read")]
    Value {
        /// The column family.
        family: &'static str,
        /// Why, where the version was known.
        #[source]
        source: Option<CborError>,
    },
    /// The family holds no such rows.
    #[error("there are no such rows in {family}")]
    Family {
        /// The column family.
        family: &'static str,
    },
}

/// A key whose bytes lie in the order of the keys themselves.
pub trait OrderedKey: Sized + Ord + Clone {
    /// The bytes on disk.
    fn to_bytes(&self) -> Vec<u8>;

    /// Reads the bytes on disk; none if no key has exactly these.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;

    /// The key for people.
    fn to_text(&self) -> String;
}

/// Some rows of an index, in the order of their keys.
pub type Page<I> = Vec<(<I as Index>::Key, <I as Index>::Value)>;

/// One index: a column family with typed keys and values.
pub trait Index {
    /// Where its rows lie.
    const FAMILY: Family;
    /// What finds a row.
    type Key: OrderedKey;
    /// What a row says.
    type Value: Serialize + DeserializeOwned;

    /// The bytes of a value: a version byte and the canonical CBOR.
    fn encode(value: &Self::Value) -> Vec<u8> {
        encode(value)
    }

    /// Reads what [`Index::encode`] wrote.
    ///
    /// # Errors
    /// [`RowError::Value`].
    fn decode(bytes: &[u8]) -> Result<Self::Value, RowError> {
        decode(Self::FAMILY, bytes)
    }

    /// Reads the bytes of a key.
    ///
    /// # Errors
    /// [`RowError::Key`].
    fn key(bytes: &[u8]) -> Result<Self::Key, RowError> {
        Self::Key::from_bytes(bytes).ok_or(RowError::Key { family: Self::FAMILY.name() })
    }

    /// The row of `key`, if there is one. Its signatures were verified before it was written and are not again.
    ///
    /// # Errors
    /// [`RowError`].
    fn get(engine: &dyn Engine, key: &Self::Key) -> Result<Option<Self::Value>, RowError> {
        let row = engine.get(Self::FAMILY, &key.to_bytes())?;
        without_verifying(|| row.map(|bytes| Self::decode(&bytes)).transpose())
    }

    /// At most `limit` rows, and at most [`MAX_PAGE_ROWS`], whose keys begin with `prefix` and come after `after`. As
    /// with [`Index::get`], signatures are not verified again.
    ///
    /// # Errors
    /// [`RowError`].
    fn page(
        engine: &dyn Engine,
        prefix: &[u8],
        after: Option<&Self::Key>,
        limit: usize,
    ) -> Result<Page<Self>, RowError> {
        let range = page_range(prefix, after.map(Self::Key::to_bytes).as_deref());
        let page = engine.scan(Self::FAMILY, range, limit.min(MAX_PAGE_ROWS))?;
        let row = |(key, value): (Vec<u8>, Vec<u8>)| Ok((Self::key(&key)?, Self::decode(&value)?));
        without_verifying(|| page.into_iter().map(row).collect())
    }
}

/// The keys that begin with `prefix` and come after `after`.
pub(crate) fn page_range(prefix: &[u8], after: Option<&[u8]>) -> ScanRange {
    let mut range = ScanRange::prefix(prefix);
    if let Some(after) = after {
        // The least key above `after`: itself and a zero.
        range.start = range.start.max([after, &[0]].concat());
    }
    range
}

/// An index whose rows are derived from the books.
pub trait Current: Index {
    /// The bytes of a row as the books stand now; none if it is not in them.
    fn bytes(books: &Books, key: &Self::Key) -> Option<Vec<u8>>;

    /// Every key in the books.
    fn keys(books: &Books) -> Vec<Self::Key>;
}

/// Names one row that is derived from the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// The node's card.
    Card,
    /// By what the node chooses.
    Preferences,
    /// What is registered.
    Registered,
    /// What is available.
    Available,
    /// A live lock.
    Locked(BidId),
    /// A live allocation's resources.
    Allocated(AllocationId),
    /// An allocation ever started.
    Allocation(AllocationId),
    /// A request of ours.
    BidRequestSent(BidRequestId),
    /// A peer's request.
    BidRequestReceived(BidRequestId),
    /// A bid of ours.
    BidSent(BidId),
    /// A peer's bid.
    BidReceived(BidId),
    /// A job of ours.
    Job(JobId),
    /// A contract.
    Contract(ContentId),
    /// A signed word that was seen.
    Seen(DocumentId),
    /// A live lock, by when its lease ends.
    LockByExpiry(LockExpiry),
    /// A contract, by the other party.
    ContractByPeer(PeerContract),
    /// What a requester did with locks that it never invoked.
    Standing(Did),
    /// Somebody who is trusted or let in, a token, a revocation, an invite.
    Trust(TrustKey),
}

/// Says of a [`Row`] which index it is in and under which key: the one list of both.
macro_rules! with_index {
    ($row:expr, |$index:ident, $key:ident| $body:expr) => {
        match $row {
            Row::Card => with_index!(@ card::Card, &CardKey, $index, $key, $body),
            Row::Preferences => {
                with_index!(@ preferences::Preferences, &PreferencesKey, $index, $key, $body)
            }
            Row::Registered => with_index!(@ registered::Registered, &Now, $index, $key, $body),
            Row::Available => with_index!(@ available::Available, &Now, $index, $key, $body),
            Row::Locked(id) => with_index!(@ locked::Locked, id, $index, $key, $body),
            Row::Allocated(id) => with_index!(@ allocated::Allocated, id, $index, $key, $body),
            Row::Allocation(id) => with_index!(@ allocations::Allocations, id, $index, $key, $body),
            Row::BidRequestSent(id) => {
                with_index!(@ bid_requests_sent::BidRequestsSent, id, $index, $key, $body)
            }
            Row::BidRequestReceived(id) => {
                with_index!(@ bid_requests_received::BidRequestsReceived, id, $index, $key, $body)
            }
            Row::BidSent(id) => with_index!(@ bids_sent::BidsSent, id, $index, $key, $body),
            Row::BidReceived(id) => with_index!(@ bids_received::BidsReceived, id, $index, $key, $body),
            Row::Job(id) => with_index!(@ jobs::Jobs, id, $index, $key, $body),
            Row::Contract(id) => with_index!(@ contracts::Contracts, id, $index, $key, $body),
            Row::Seen(id) => with_index!(@ seen_ids::SeenIds, id, $index, $key, $body),
            Row::LockByExpiry(key) => {
                with_index!(@ locks_by_expiry::LocksByExpiry, key, $index, $key, $body)
            }
            Row::ContractByPeer(key) => with_index!(@ ContractsByPeer, key, $index, $key, $body),
            Row::Standing(did) => with_index!(@ standing::Standing, did, $index, $key, $body),
            Row::Trust(key) => with_index!(@ trust::Trust, key, $index, $key, $body),
        }
    };
    (@ $type:ty, $value:expr, $index:ident, $key:ident, $body:expr) => {{
        type $index = $type;
        let $key: &<$index as Index>::Key = $value;
        $body
    }};
}

impl Row {
    /// The column family it lies in.
    pub fn family(&self) -> Family {
        with_index!(self, |I, _key| I::FAMILY)
    }

    /// Its key within the family.
    pub fn key(&self) -> Vec<u8> {
        with_index!(self, |I, key| <<I as Index>::Key as OrderedKey>::to_bytes(key))
    }
}

/// The bytes of a row as the books stand now; none if it is not in the books.
pub fn row_value(books: &Books, row: &Row) -> Option<Vec<u8>> {
    with_index!(row, |I, key| I::bytes(books, key))
}

/// Every row that the books consist of, for the check after a rebuild.
pub fn all_rows(books: &Books) -> Vec<Row> {
    fn of<I: Current>(books: &Books, row: fn(I::Key) -> Row) -> impl Iterator<Item = Row> {
        I::keys(books).into_iter().map(row)
    }
    let one = [Row::Card, Row::Preferences, Row::Registered, Row::Available];
    one.into_iter()
        .filter(|row| row_value(books, row).is_some())
        .chain(of::<locked::Locked>(books, Row::Locked))
        .chain(of::<allocated::Allocated>(books, Row::Allocated))
        .chain(of::<allocations::Allocations>(books, Row::Allocation))
        .chain(of::<bid_requests_sent::BidRequestsSent>(books, Row::BidRequestSent))
        .chain(of::<bid_requests_received::BidRequestsReceived>(books, Row::BidRequestReceived))
        .chain(of::<bids_sent::BidsSent>(books, Row::BidSent))
        .chain(of::<bids_received::BidsReceived>(books, Row::BidReceived))
        .chain(of::<jobs::Jobs>(books, Row::Job))
        .chain(of::<contracts::Contracts>(books, Row::Contract))
        .chain(of::<seen_ids::SeenIds>(books, Row::Seen))
        .chain(of::<locks_by_expiry::LocksByExpiry>(books, Row::LockByExpiry))
        .chain(of::<ContractsByPeer>(books, Row::ContractByPeer))
        .chain(of::<standing::Standing>(books, Row::Standing))
        .chain(of::<trust::Trust>(books, Row::Trust))
        .collect()
}

/// Adds to `batch` the rows of something that is over. They are never changed afterwards, unless the same becomes
/// current and is over once more (a contract that is recorded anew): then the newer row counts, and of the older one a
/// row by time stays until it is forgotten, which readers skip.
///
/// A contract's row in `contracts_by_peer` is there already: it is kept from the first record on.
pub fn put_archived(batch: &mut Batch, archived: &Archived) {
    batch.put(ArchiveRows::FAMILY, ArchiveId::of(archived).to_bytes(), ArchiveRows::encode(archived));
    let (key, value) = row_by_time(archived);
    batch.put(ArchiveByTime::FAMILY, key, value);
}

/// The look-up row by time of something archived.
pub(crate) fn row_by_time(archived: &Archived) -> (Vec<u8>, Vec<u8>) {
    let time = ArchiveTime { at: archived.at, id: ArchiveId::of(archived) };
    (time.to_bytes(), ArchiveByTime::encode(&archived.contents()))
}

/// Where forgetting goes on, by kind: the first key that was not looked at yet. In memory only; without one it begins
/// with the oldest.
pub(crate) type ForgetCursors = BTreeMap<ArchiveKind, Vec<u8>>;

/// The batch that looks at `limit` things of each kind that began before `before`, oldest first, and removes those
/// that ended before it too from the archive, with everything that names them. What it leaves does not stand in the
/// way of what comes behind it: the next call goes on there.
///
/// A row by time that names nothing archived, or what was archived anew with another time, is removed alone.
///
/// # Errors
/// The engine's. A row that cannot be read is left where it is, with a warning: damage is not cleared away, and the
/// node goes on.
pub(crate) fn forget_archived(
    engine: &dyn Engine,
    before: Timestamp,
    limit: usize,
    cursors: &mut ForgetCursors,
) -> Result<Batch, EngineError> {
    let mut batch = Batch::new();
    for kind in [ArchiveKind::Job, ArchiveKind::Allocation, ArchiveKind::Contract] {
        let first = cursors.remove(&kind).unwrap_or_else(|| ArchiveTime::border(kind, Timestamp(0)));
        let page = engine.scan(
            ArchiveByTime::FAMILY,
            ScanRange::between(first, ArchiveTime::border(kind, before)),
            limit,
        )?;
        if page.len() >= limit
            && let Some((last, _)) = page.last()
        {
            cursors.insert(kind, [last.as_slice(), &[0]].concat());
        }
        for (key, _) in page {
            match forget_one(engine, &mut batch, &key, before) {
                Err(RowError::Engine(error)) => return Err(error),
                Err(error) => tracing::warn!(%error, "an archived row cannot be read and is not forgotten"),
                Ok(()) => {}
            }
        }
    }
    Ok(batch)
}

fn forget_one(engine: &dyn Engine, batch: &mut Batch, key: &[u8], before: Timestamp) -> Result<(), RowError> {
    let ArchiveTime { at, id } = ArchiveByTime::key(key)?;
    let Some(archived) = ArchiveRows::get(engine, &id)? else {
        tracing::warn!(%id, "it is listed by time but not in the archive; the row by time is removed");
        batch.delete(ArchiveByTime::FAMILY, key);
        return Ok(());
    };
    if archived.at != at {
        // Archived anew since: that row has a time of its own.
        batch.delete(ArchiveByTime::FAMILY, key);
        return Ok(());
    }
    if archived.ended >= before {
        return Ok(());
    }
    if let (ArchiveId::Contract(contract), ArchivedRow::Contract(row)) = (id, &archived.row) {
        // Current again, the row by peer is the live one's.
        let is_current = engine.get(Family::Contracts, &OrderedKey::to_bytes(&contract))?.is_some();
        if !is_current {
            batch.delete(ContractsByPeer::FAMILY, PeerContract { peer: row.peer, contract }.to_bytes());
        }
    }
    batch.delete(ArchiveRows::FAMILY, id.to_bytes());
    batch.delete(ArchiveByTime::FAMILY, key);
    Ok(())
}

/// The only key of an index with one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now;

impl OrderedKey for Now {
    fn to_bytes(&self) -> Vec<u8> {
        b"now".to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes == b"now").then_some(Self)
    }

    fn to_text(&self) -> String {
        "now".to_owned()
    }
}

macro_rules! key_of_16_bytes {
    ($($id:ident),*) => {$(
        impl OrderedKey for $id {
            fn to_bytes(&self) -> Vec<u8> {
                self.as_bytes().to_vec()
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_bytes(bytes.try_into().ok()?))
            }

            fn to_text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

key_of_16_bytes!(JobId, AllocationId, BidId, BidRequestId);

impl OrderedKey for DocumentId {
    fn to_bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl OrderedKey for ContentId {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        // A CID can be written in more than one way; a key cannot.
        Self::from_bytes(bytes).ok().filter(|id| id.to_bytes() == bytes)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl OrderedKey for Did {
    fn to_bytes(&self) -> Vec<u8> {
        self.public_key().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_public_key(bytes).ok()
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

pub(crate) fn decode<T: DeserializeOwned>(family: Family, bytes: &[u8]) -> Result<T, RowError> {
    let family = family.name();
    match bytes.split_first() {
        Some((&ROW_VERSION, cbor)) => dms_messages::from_canonical_within(cbor, crate::MAX_ENTRY_LENGTH)
            .map_err(|source| RowError::Value { family, source: Some(source) }),
        _ => Err(RowError::Value { family, source: None }),
    }
}

pub(crate) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    let cbor = dms_messages::to_canonical_within(row, crate::MAX_ENTRY_LENGTH)
        .expect("rows are bounded and hold no floats");
    let mut bytes = Vec::with_capacity(1 + cbor.len());
    bytes.push(ROW_VERSION);
    bytes.extend(cbor);
    bytes
}

/// Reads the value of an index whose keys say everything.
pub(crate) fn empty<I: Index>(bytes: &[u8]) -> Result<(), RowError> {
    if bytes.is_empty() { Ok(()) } else { Err(RowError::Value { family: I::FAMILY.name(), source: None }) }
}

#[cfg(test)]
mod tests;
