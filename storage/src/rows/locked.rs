//! The live locks, by the bid that each of them backs.
//!
//! ```text
//! key    bid id: 16 bytes, random: a scan has no order but pages well, and a shortened id is a range
//! value  | version: u8 = 1 | CBOR of `Lock` |
//! ```

use dms_messages::BidId;

use crate::books::{Books, Lock};
use crate::rows::{Current, Index};
use crate::schema::Family;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Locked {}

impl Index for Locked {
    const FAMILY: Family = Family::Locked;
    type Key = BidId;
    type Value = Lock;
}

impl Current for Locked {
    fn bytes(books: &Books, key: &BidId) -> Option<Vec<u8>> {
        books.locks().get(key).map(Self::encode)
    }

    fn keys(books: &Books) -> Vec<BidId> {
        books.locks().keys().copied().collect()
    }
}
