//! What the machine's owner registered: one row, none if the node is not onboarded.
//!
//! ```text
//! key    `now`: there is one
//! value  | version: u8 = 1 | CBOR of `Capability` |
//! ```

use dms_messages::Capability;

use crate::books::Books;
use crate::rows::{Current, Index, Now};
use crate::schema::Family;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Registered {}

impl Index for Registered {
    const FAMILY: Family = Family::Registered;
    type Key = Now;
    type Value = Capability;
}

impl Current for Registered {
    fn bytes(books: &Books, _key: &Now) -> Option<Vec<u8>> {
        books.registered().map(Self::encode)
    }

    fn keys(books: &Books) -> Vec<Now> {
        books.registered().map(|_| Now).into_iter().collect()
    }
}
