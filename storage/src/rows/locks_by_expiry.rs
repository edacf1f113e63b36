//! The live locks by when their lease ends: the next one to sweep is the first row. A look-up, derived from `locked`.
//!
//! ```text
//! key    | expires: u64 ms, big-endian, so that key order is time | bid id: 16 |
//! value  empty: the key says it all, the lock itself lies in `locked`
//! ```

use dms_messages::{BidId, Timestamp};

use crate::books::Books;
use crate::rows::{Current, Index, OrderedKey, RowError, empty};
use crate::schema::Family;

/// When a lock's lease ends, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockExpiry {
    /// When the lease ends, grace included.
    pub expires: Timestamp,
    /// The bid it backs.
    pub bid: BidId,
}

impl OrderedKey for LockExpiry {
    fn to_bytes(&self) -> Vec<u8> {
        [&self.expires.0.to_be_bytes()[..], self.bid.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (expires, bid) = bytes.split_first_chunk()?;
        Some(Self {
            expires: Timestamp(u64::from_be_bytes(*expires)),
            bid: BidId::from_bytes(bid.try_into().ok()?),
        })
    }

    fn to_text(&self) -> String {
        format!("{} {}", self.expires.0, self.bid)
    }
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum LocksByExpiry {}

impl Index for LocksByExpiry {
    const FAMILY: Family = Family::LocksByExpiry;
    type Key = LockExpiry;
    type Value = ();

    fn encode((): &()) -> Vec<u8> {
        Vec::new()
    }

    fn decode(bytes: &[u8]) -> Result<(), RowError> {
        empty::<Self>(bytes)
    }
}

impl Current for LocksByExpiry {
    fn bytes(books: &Books, key: &LockExpiry) -> Option<Vec<u8>> {
        books.accounts().by_expiry().contains(&(key.expires, key.bid)).then(Vec::new)
    }

    fn keys(books: &Books) -> Vec<LockExpiry> {
        books.accounts().by_expiry().iter().map(|&(expires, bid)| LockExpiry { expires, bid }).collect()
    }
}
