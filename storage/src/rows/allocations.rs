//! The allocations ever started here, until they are over and settled into the archive.
//!
//! ```text
//! key    allocation id: 16 bytes, random: a scan has no order but pages well, and a shortened id is a range
//! value  | version: u8 = 1 | CBOR of `AllocationRow` |
//! ```

use dms_messages::AllocationId;

use crate::books::{AllocationRow, Books};
use crate::rows::{Current, Index};
use crate::schema::Family;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Allocations {}

impl Index for Allocations {
    const FAMILY: Family = Family::Allocations;
    type Key = AllocationId;
    type Value = AllocationRow;
}

impl Current for Allocations {
    fn bytes(books: &Books, key: &AllocationId) -> Option<Vec<u8>> {
        books.allocations().get(key).map(Self::encode)
    }

    fn keys(books: &Books) -> Vec<AllocationId> {
        books.allocations().keys().copied().collect()
    }
}
