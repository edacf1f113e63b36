//! The peers' requests for bids and what was answered, until they are pruned.
//!
//! ```text
//! key    bid request id: 16 bytes, random: a scan has no order but pages well, and a shortened id is a range
//! value  | version: u8 = 1 | CBOR of `BidRequestReceivedRow` |
//! ```

use dms_messages::BidRequestId;

use crate::books::{BidRequestReceivedRow, Books};
use crate::rows::{Current, Index};
use crate::schema::Family;

/// See the module.
#[doc(alias = "BidRequestsReceivedIndex")]
#[derive(Debug, Clone, Copy)]
pub enum BidRequestsReceived {}

impl Index for BidRequestsReceived {
    const FAMILY: Family = Family::BidRequestsReceived;
    type Key = BidRequestId;
    type Value = BidRequestReceivedRow;
}

impl Current for BidRequestsReceived {
    fn bytes(books: &Books, key: &BidRequestId) -> Option<Vec<u8>> {
        books.requests_received().get(key).map(Self::encode)
    }

    fn keys(books: &Books) -> Vec<BidRequestId> {
        books.requests_received().keys().copied().collect()
    }
}
