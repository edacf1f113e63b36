//! The contracts that a job or an allocation in memory refers to, ours and the peers'.
//!
//! ```text
//! key    CID: 36 bytes, of the requester's signed document: who has the document finds the row
//! value  | version: u8 = 1 | CBOR of `ContractRow` |
//! ```

use dms_messages::ContentId;

use crate::books::{Books, ContractRow};
use crate::rows::{Current, Index};
use crate::schema::Family;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Contracts {}

impl Index for Contracts {
    const FAMILY: Family = Family::Contracts;
    type Key = ContentId;
    type Value = ContractRow;
}

impl Current for Contracts {
    fn bytes(books: &Books, key: &ContentId) -> Option<Vec<u8>> {
        books.contracts().get(key).map(Self::encode)
    }

    fn keys(books: &Books) -> Vec<ContentId> {
        books.contracts().keys().copied().collect()
    }
}
