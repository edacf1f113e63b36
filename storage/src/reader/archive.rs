//! Reads what is over: by id, by a range of ids, newest first, and the contents that it needs.
//!
//! ```text
//!   archive_by_time  ──(newest first)──► ids ──► archive ──► rows
//! ```

use std::ops::RangeInclusive;
use std::sync::Arc;

use dms_messages::{AllocationId, ContentId, Did, JobId, Timestamp, without_verifying};

use crate::books::{AllocationRow, Archived, ArchivedRow, ContractRow, JobRow, LiveContents};
use crate::engine::{Engine, ScanRange};
use crate::rows::archive::{ArchiveId, ArchiveKind, ArchiveRows};
use crate::rows::archive_by_time::{ArchiveByTime, ArchiveTime};
use crate::rows::contracts_by_peer::{ContractsByPeer, PeerContract};
use crate::rows::{Index, MAX_PAGE_ROWS, OrderedKey, RowError};

/// What is over.
#[derive(Clone, Debug)]
pub struct Archive {
    engine: Arc<dyn Engine>,
}

/// A page of rows, each with its place in time; the last one's place is where the next page begins.
pub type ArchivePage<T> = Vec<(ArchiveTime, T)>;

/// The methods that jobs, allocations and contracts share: by id, newest first, by a range of ids.
macro_rules! archived {
    ($kind:ident, $id:ty, $row:ty, $one:ident, $many:ident, $between:ident, $what:literal) => {
        #[doc = concat!("The archived ", $what, " of this id, if there is one.")]
        ///
        /// # Errors
        /// [`RowError`].
        pub fn $one(&self, id: $id) -> Result<Option<$row>, RowError> {
            let id = ArchiveId::$kind(id);
            match ArchiveRows::get(&*self.engine, &id)? {
                Some(Archived { row: ArchivedRow::$kind(row), .. }) => Ok(Some(row)),
                Some(_) => Err(other_kind()),
                None => Ok(None),
            }
        }

        #[doc = concat!("At most `limit` archived ", $what, "s, newest first, of those before the place `before`.")]
        ///
        /// # Errors
        /// [`RowError`].
        pub fn $many(
            &self,
            before: Option<ArchiveTime>,
            limit: usize,
        ) -> Result<ArchivePage<$row>, RowError> {
            let times = self.times_back(ArchiveKind::$kind, before, limit)?;
            let row = |time: ArchiveTime| match ArchiveRows::get(&*self.engine, &time.id)? {
                // Archived anew since: it comes at that time.
                Some(Archived { at, .. }) if at != time.at => Ok(None),
                Some(Archived { row: ArchivedRow::$kind(row), .. }) => Ok(Some((time, row))),
                Some(_) => Err(other_kind()),
                // Forgotten between the two reads.
                None => Ok(None),
            };
            times.into_iter().filter_map(|time| row(time).transpose()).collect()
        }

        #[doc = concat!("At most `limit` archived ", $what, "s whose ids lie in a range, in their order: what a")]
        /// shortened id means.
        ///
        /// # Errors
        /// [`RowError`].
        pub fn $between(&self, ids: RangeInclusive<$id>, limit: usize) -> Result<Vec<$row>, RowError> {
            let [from, to] = [ids.start(), ids.end()].map(|id| ArchiveId::$kind(*id).to_bytes());
            let range = ScanRange::between(from, [to.as_slice(), &[0]].concat());
            let page = self.engine.scan(ArchiveRows::FAMILY, range, limit.min(MAX_PAGE_ROWS))?;
            let row = |(_, value): (Vec<u8>, Vec<u8>)| match ArchiveRows::decode(&value)?.row {
                ArchivedRow::$kind(row) => Ok(row),
                _ => Err(other_kind()),
            };
            without_verifying(|| page.into_iter().map(row).collect())
        }
    };
}

impl Archive {
    /// Reads the archive in `engine`.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    archived!(Job, JobId, JobRow, job, jobs, jobs_between, "job");
    archived!(
        Allocation,
        AllocationId,
        AllocationRow,
        allocation,
        allocations,
        allocations_between,
        "allocation"
    );
    archived!(Contract, ContentId, ContractRow, contract, contracts, contracts_between, "contract");

    /// The contents that archived jobs still need, at most `limit` jobs' of those after the place `after`, oldest
    /// first: what a sweep of blobs must keep.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn contents(
        &self,
        after: Option<ArchiveTime>,
        limit: usize,
    ) -> Result<ArchivePage<LiveContents>, RowError> {
        // Only jobs need any, so the other kinds are not read.
        ArchiveByTime::page(&*self.engine, &[ArchiveKind::Job as u8], after.as_ref(), limit)
    }

    /// At most `limit` of the contracts ever made with `peer`, current and archived, in the order of their CIDs, of
    /// those after `after`.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn contracts_of(
        &self,
        peer: Did,
        after: Option<ContentId>,
        limit: usize,
    ) -> Result<Vec<ContentId>, RowError> {
        let after = after.map(|contract| PeerContract { peer, contract });
        let page = ContractsByPeer::page(&*self.engine, peer.public_key(), after.as_ref(), limit)?;
        Ok(page.into_iter().map(|(key, ())| key.contract).collect())
    }

    fn times_back(
        &self,
        kind: ArchiveKind,
        before: Option<ArchiveTime>,
        limit: usize,
    ) -> Result<Vec<ArchiveTime>, RowError> {
        let mut range = ScanRange::prefix([kind as u8]);
        if let Some(before) = before {
            // A place of another kind would otherwise let the page run into that kind's rows.
            let end = before.to_bytes();
            range.end = Some(range.end.map_or_else(|| end.clone(), |last| last.min(end.clone())));
        }
        let page = self.engine.scan_back(ArchiveByTime::FAMILY, range, limit.min(MAX_PAGE_ROWS))?;
        page.into_iter().map(|(key, _)| ArchiveByTime::key(&key)).collect()
    }

    /// When the oldest archived thing of a kind began.
    ///
    /// # Errors
    /// [`RowError`].
    pub fn oldest(&self, kind: ArchiveKind) -> Result<Option<Timestamp>, RowError> {
        let page = self.engine.scan(ArchiveByTime::FAMILY, ScanRange::prefix([kind as u8]), 1)?;
        page.first().map(|(key, _)| ArchiveByTime::key(key).map(|time| time.at)).transpose()
    }
}

/// A row under another kind's key: no program writes it.
fn other_kind() -> RowError {
    RowError::Value { family: ArchiveRows::FAMILY.name(), source: None }
}

#[cfg(test)]
mod tests;
