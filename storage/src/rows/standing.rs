//! What requesters held and never invoked; whoever has nothing count against it has no row.
//!
//! ```text
//! key    public key of the requester: 32 bytes
//! value  | version: u8 = 1 | CBOR of `StandingRow` |
//! ```

use dms_messages::Did;

use crate::books::{Books, StandingRow};
use crate::rows::{Current, Index};
use crate::schema::Family;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Standing {}

impl Index for Standing {
    const FAMILY: Family = Family::Standing;
    type Key = Did;
    type Value = StandingRow;
}

impl Current for Standing {
    fn bytes(books: &Books, key: &Did) -> Option<Vec<u8>> {
        books.accounts().standing(*key).map(|row| Self::encode(&row))
    }

    fn keys(books: &Books) -> Vec<Did> {
        let holders = books.accounts().holders().keys();
        holders.copied().filter(|did| books.accounts().standing(*did).is_some()).collect()
    }
}
