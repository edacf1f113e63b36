//! What each live allocation has: together with `locked` everything that is promised.
//!
//! ```text
//! key    allocation id: 16 bytes, random: a scan has no order but pages well, and a shortened id is a range
//! value  | version: u8 = 1 | CBOR of `Resources` |
//! ```

use dms_messages::{AllocationId, Resources};

use crate::books::Books;
use crate::rows::{Current, Index};
use crate::schema::Family;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Allocated {}

impl Index for Allocated {
    const FAMILY: Family = Family::Allocated;
    type Key = AllocationId;
    type Value = Resources;
}

impl Current for Allocated {
    fn bytes(books: &Books, key: &AllocationId) -> Option<Vec<u8>> {
        let row = books.allocations().get(key).filter(|row| !row.state.is_terminal())?;
        Some(Self::encode(&row.resources))
    }

    fn keys(books: &Books) -> Vec<AllocationId> {
        books.live_allocations().map(|row| row.id).collect()
    }
}
