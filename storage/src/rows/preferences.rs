//! By what the node chooses, one row beside its card in the family `meta`.
//!
//! ```text
//! key    `preferences`
//! value  | version: u8 = 1 | CBOR of the text, as the owner wrote it |
//! ```
//!
//! There is none until the owner says something; an empty text takes that back, and the row stays.

use crate::books::Books;
use crate::rows::{Current, Index, OrderedKey};
use crate::schema::Family;

/// The only key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PreferencesKey;

impl OrderedKey for PreferencesKey {
    fn to_bytes(&self) -> Vec<u8> {
        b"preferences".to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes == b"preferences").then_some(Self)
    }

    fn to_text(&self) -> String {
        "preferences".to_owned()
    }
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Preferences {}

impl Index for Preferences {
    const FAMILY: Family = Family::Meta;
    type Key = PreferencesKey;
    type Value = String;
}

impl Current for Preferences {
    fn bytes(books: &Books, _key: &PreferencesKey) -> Option<Vec<u8>> {
        books.preferences().map(|text| Self::encode(&text.to_string()))
    }

    fn keys(books: &Books) -> Vec<PreferencesKey> {
        books.preferences().map(|_| PreferencesKey).into_iter().collect()
    }
}
