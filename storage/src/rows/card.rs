//! The node's introduction, one row beside the schema version in the family `meta`.
//!
//! ```text
//! key    `card`
//! value  | version: u8 = 1 | CBOR of the signed `NodeCard`, as its bytes |
//! ```

use dms_messages::{NodeCard, Signed};

use crate::books::Books;
use crate::rows::{Current, Index, OrderedKey};
use crate::schema::Family;

/// The only key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CardKey;

impl OrderedKey for CardKey {
    fn to_bytes(&self) -> Vec<u8> {
        b"card".to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes == b"card").then_some(Self)
    }

    fn to_text(&self) -> String {
        "card".to_owned()
    }
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Card {}

impl Index for Card {
    const FAMILY: Family = Family::Meta;
    type Key = CardKey;
    type Value = Signed<NodeCard>;
}

impl Current for Card {
    fn bytes(books: &Books, _key: &CardKey) -> Option<Vec<u8>> {
        books.card().map(Self::encode)
    }

    fn keys(books: &Books) -> Vec<CardKey> {
        books.card().map(|_| CardKey).into_iter().collect()
    }
}
