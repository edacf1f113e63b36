//! Our jobs, until they have ended and settled into the archive.
//!
//! ```text
//! key    job id: 16 bytes, random: a scan has no order but pages well, and a shortened id is a range
//! value  | version: u8 = 1 | CBOR of `JobRow` |
//! ```

use dms_messages::JobId;

use crate::books::{Books, JobRow};
use crate::rows::{Current, Index};
use crate::schema::Family;

/// See the module.
#[doc(alias = "JobIndex")]
#[derive(Debug, Clone, Copy)]
pub enum Jobs {}

impl Index for Jobs {
    const FAMILY: Family = Family::Jobs;
    type Key = JobId;
    type Value = JobRow;
}

impl Current for Jobs {
    fn bytes(books: &Books, key: &JobId) -> Option<Vec<u8>> {
        books.jobs().get(key).map(Self::encode)
    }

    fn keys(books: &Books) -> Vec<JobId> {
        books.jobs().keys().copied().collect()
    }
}
