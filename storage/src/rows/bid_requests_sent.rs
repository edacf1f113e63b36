//! Our own requests for bids, until they are void and pruned.
//!
//! ```text
//! key    bid request id: 16 bytes, random: a scan has no order but pages well, and a shortened id is a range
//! value  | version: u8 = 1 | CBOR of `BidRequestSentRow` |
//! ```

use dms_messages::BidRequestId;

use crate::books::{BidRequestSentRow, Books};
use crate::rows::{Current, Index};
use crate::schema::Family;

/// See the module.
#[doc(alias = "BidRequestsSentIndex")]
#[derive(Debug, Clone, Copy)]
pub enum BidRequestsSent {}

impl Index for BidRequestsSent {
    const FAMILY: Family = Family::BidRequestsSent;
    type Key = BidRequestId;
    type Value = BidRequestSentRow;
}

impl Current for BidRequestsSent {
    fn bytes(books: &Books, key: &BidRequestId) -> Option<Vec<u8>> {
        books.requests_sent().get(key).map(Self::encode)
    }

    fn keys(books: &Books) -> Vec<BidRequestId> {
        books.requests_sent().keys().copied().collect()
    }
}
