//! Our own bids and what became of their locks, until they are pruned.
//!
//! A bid remembers the attempt that it started after the allocation has left the memory: as long as a word can be
//! repeated, nothing starts twice.
//!
//! ```text
//! key    bid id: 16 bytes, random: a scan has no order but pages well, and a shortened id is a range
//! value  | version: u8 = 1 | CBOR of `BidSentRow` |
//! ```

use dms_messages::BidId;

use crate::books::{BidSentRow, Books};
use crate::rows::{Current, Index};
use crate::schema::Family;

/// See the module.
#[doc(alias = "BidsSentIndex")]
#[derive(Debug, Clone, Copy)]
pub enum BidsSent {}

impl Index for BidsSent {
    const FAMILY: Family = Family::BidsSent;
    type Key = BidId;
    type Value = BidSentRow;
}

impl Current for BidsSent {
    fn bytes(books: &Books, key: &BidId) -> Option<Vec<u8>> {
        books.bids_sent().get(key).map(Self::encode)
    }

    fn keys(books: &Books) -> Vec<BidId> {
        books.bids_sent().keys().copied().collect()
    }
}
