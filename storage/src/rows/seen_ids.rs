//! The ids of signed words already seen, so that a repeat is a no-op.
//!
//! ```text
//! key    document id: 16 bytes, random
//! value  | version: u8 = 1 | CBOR of the `Timestamp` until when it is remembered |
//! ```

use dms_messages::{DocumentId, Timestamp};

use crate::books::Books;
use crate::rows::{Current, Index};
use crate::schema::Family;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum SeenIds {}

impl Index for SeenIds {
    const FAMILY: Family = Family::SeenIds;
    type Key = DocumentId;
    type Value = Timestamp;
}

impl Current for SeenIds {
    fn bytes(books: &Books, key: &DocumentId) -> Option<Vec<u8>> {
        books.seen().get(key).map(Self::encode)
    }

    fn keys(books: &Books) -> Vec<DocumentId> {
        books.seen().keys().copied().collect()
    }
}
