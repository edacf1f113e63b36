//! The peers' bids on our jobs, until they are pruned.
//!
//! ```text
//! key    bid id: 16 bytes, random: a scan has no order but pages well, and a shortened id is a range
//! value  | version: u8 = 1 | CBOR of `BidReceivedRow` |
//! ```

use dms_messages::BidId;

use crate::books::{BidReceivedRow, Books};
use crate::rows::{Current, Index};
use crate::schema::Family;

/// See the module.
#[doc(alias = "BidsReceivedIndex")]
#[derive(Debug, Clone, Copy)]
pub enum BidsReceived {}

impl Index for BidsReceived {
    const FAMILY: Family = Family::BidsReceived;
    type Key = BidId;
    type Value = BidReceivedRow;
}

impl Current for BidsReceived {
    fn bytes(books: &Books, key: &BidId) -> Option<Vec<u8>> {
        books.bids_received().get(key).map(Self::encode)
    }

    fn keys(books: &Books) -> Vec<BidId> {
        books.bids_received().keys().copied().collect()
    }
}
