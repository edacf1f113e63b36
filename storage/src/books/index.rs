//! The indices: where each row lies on disk, and its bytes.
//!
//! Every value is one version byte (1) and the canonical CBOR of its row. Keys:
//!
//! | family | key | value |
//! |---|---|---|
//! | meta | `card` | the node's signed card |
//! | registered, available | `now` | capability; resources |
//! | locked | bid id (16 bytes) | [`super::Lock`] |
//! | allocated | allocation id (16) | resources of a live allocation |
//! | allocations | allocation id (16) | [`super::AllocationRow`], ever started |
//! | bid requests sent / received | bid request id (16) | row |
//! | bids sent / received | bid id (16) | row |
//! | jobs | job id (16) | [`super::JobRow`] |
//! | contracts | CID bytes (36) | [`super::ContractRow`] |
//! | seen ids | document id (16) | until when, as a timestamp |
//!
//! Ids are random, so a scan of one family has no meaning of its own but paging; times live in the rows.
//! A row that is gone from the books is deleted on disk. Nothing here is a second truth: all of it is
//! rebuilt from the log, and [`crate::Store::open`] compares.

use dms_messages::{AllocationId, BidId, BidRequestId, ContentId, DocumentId, JobId};
use serde::Serialize;

use super::Books;
use crate::schema::Family;

/// Version byte in front of each value.
const ROW_VERSION: u8 = 1;

/// The families that consist of rows of the books and nothing else.
pub(crate) const ROW_FAMILIES: [Family; 12] = [
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
];

/// Names one row on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// The node's card.
    Card,
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
}

impl Row {
    /// The column family it lies in.
    pub fn family(&self) -> Family {
        match self {
            Self::Card => Family::Meta,
            Self::Registered => Family::Registered,
            Self::Available => Family::Available,
            Self::Locked(_) => Family::Locked,
            Self::Allocated(_) => Family::Allocated,
            Self::Allocation(_) => Family::Allocations,
            Self::BidRequestSent(_) => Family::BidRequestsSent,
            Self::BidRequestReceived(_) => Family::BidRequestsReceived,
            Self::BidSent(_) => Family::BidsSent,
            Self::BidReceived(_) => Family::BidsReceived,
            Self::Job(_) => Family::Jobs,
            Self::Contract(_) => Family::Contracts,
            Self::Seen(_) => Family::SeenIds,
        }
    }

    /// Its key within the family.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Self::Card => b"card".to_vec(),
            Self::Registered | Self::Available => b"now".to_vec(),
            Self::Locked(id) | Self::BidSent(id) | Self::BidReceived(id) => id.as_bytes().to_vec(),
            Self::Allocated(id) | Self::Allocation(id) => id.as_bytes().to_vec(),
            Self::BidRequestSent(id) | Self::BidRequestReceived(id) => id.as_bytes().to_vec(),
            Self::Job(id) => id.as_bytes().to_vec(),
            Self::Contract(id) => id.to_bytes(),
            Self::Seen(id) => id.0.to_vec(),
        }
    }
}

/// The bytes of a row as the books stand now; none if it is not in the books.
pub(crate) fn row_value(books: &Books, row: &Row) -> Option<Vec<u8>> {
    match row {
        Row::Card => encode(books.card()?),
        Row::Registered => encode(books.registered()?),
        // Without a registered capability there is nothing to be available.
        Row::Available => books.registered().and_then(|_| encode(books.available())),
        Row::Locked(id) => encode(books.locks().get(id)?),
        Row::Allocated(id) => encode(
            &books.allocations().get(id).filter(|allocation| !allocation.state.is_terminal())?.resources,
        ),
        Row::Allocation(id) => encode(books.allocations().get(id)?),
        Row::BidRequestSent(id) => encode(books.requests_sent().get(id)?),
        Row::BidRequestReceived(id) => encode(books.requests_received().get(id)?),
        Row::BidSent(id) => encode(books.bids_sent().get(id)?),
        Row::BidReceived(id) => encode(books.bids_received().get(id)?),
        Row::Job(id) => encode(books.jobs().get(id)?),
        Row::Contract(id) => encode(books.contracts().get(id)?),
        Row::Seen(id) => encode(books.seen().get(id)?),
    }
}

/// Every row that the books consist of, for the check after a rebuild.
pub(crate) fn all_rows(books: &Books) -> Vec<Row> {
    let mut rows = vec![Row::Card, Row::Registered, Row::Available];
    rows.extend(books.locks().keys().map(|id| Row::Locked(*id)));
    rows.extend(books.live_allocations().map(|row| Row::Allocated(row.id)));
    rows.extend(books.allocations().keys().map(|id| Row::Allocation(*id)));
    rows.extend(books.requests_sent().keys().map(|id| Row::BidRequestSent(*id)));
    rows.extend(books.requests_received().keys().map(|id| Row::BidRequestReceived(*id)));
    rows.extend(books.bids_sent().keys().map(|id| Row::BidSent(*id)));
    rows.extend(books.bids_received().keys().map(|id| Row::BidReceived(*id)));
    rows.extend(books.jobs().keys().map(|id| Row::Job(*id)));
    rows.extend(books.contracts().keys().map(|id| Row::Contract(*id)));
    rows.extend(books.seen().keys().map(|id| Row::Seen(*id)));
    rows
}

fn encode<T: Serialize>(row: &T) -> Option<Vec<u8>> {
    let mut bytes = vec![ROW_VERSION];
    bytes.extend(
        dms_messages::to_canonical_within(row, crate::MAX_ENTRY_LENGTH)
            .expect("rows are bounded and hold no floats"),
    );
    Some(bytes)
}
