//! What is neither locked nor allocated: a look-up row, derived from the others and never a second truth.
//!
//! There is none if the node is not onboarded: then there is nothing to be available.
//!
//! ```text
//! key    `now`: there is one
//! value  | version: u8 = 1 | CBOR of `Resources` |
//! ```

use dms_messages::Resources;

use crate::books::Books;
use crate::rows::{Current, Index, Now};
use crate::schema::Family;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Available {}

impl Index for Available {
    const FAMILY: Family = Family::Available;
    type Key = Now;
    type Value = Resources;
}

impl Current for Available {
    fn bytes(books: &Books, _key: &Now) -> Option<Vec<u8>> {
        books.registered().map(|_| Self::encode(books.available()))
    }

    fn keys(books: &Books) -> Vec<Now> {
        books.registered().map(|_| Now).into_iter().collect()
    }
}
