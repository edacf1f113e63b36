//! Looks after a database as a whole: checks it, rebuilds its rows, tells its size, backs it up and restores it.
//!
//! Called by `dms db`, on a stopped node or through the API of a running one. It decides nothing about the rows: what
//! the log says is what counts, and what cannot be explained by it is reported, never mended on the way. Every call
//! blocks, for seconds on a large database.

mod backup;
mod check;
mod rebuild;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::books::{Books, ContractRow};
use crate::engine::{Engine, Sizes};
use crate::log::EventLog;
use crate::migration;
use crate::rows::{ROW_FAMILIES, all_rows, row_value};
use crate::schema::Family;
use crate::snapshot::SnapshotMark;
use crate::store::StoreError;

pub use self::backup::{
    BACKUP_DATABASE, BACKUP_FILE, BackupError, BackupReport, FileDigest, Manifest, RestoreError,
    RestoreReport, backup, restore,
};
pub use self::check::{CheckReport, Finding, MAX_FINDINGS, Part, check};
pub use self::rebuild::{RebuildReport, RebuiltFamily, rebuild};

/// What is in a database, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsReport {
    /// Where it lies; none in memory.
    pub path: Option<PathBuf>,
    /// The schema version of its rows.
    pub schema: u32,
    /// The first event still kept; none if there never was one.
    pub first_event: Option<u64>,
    /// The last event; none if there never was one.
    pub last_event: Option<u64>,
    /// The newest snapshot, if one was taken.
    pub snapshot: Option<SnapshotMark>,
    /// How large it is.
    pub sizes: Sizes,
}

/// Tells what is in a database without reading it all.
///
/// # Errors
/// [`StoreError::Engine`].
pub fn stats(engine: &dyn Engine) -> Result<StatsReport, StoreError> {
    Ok(StatsReport {
        path: engine.path().map(Into::into),
        schema: migration::stored_version(engine)?,
        first_event: EventLog::first_sequence(engine)?,
        last_event: EventLog::last_sequence(engine)?,
        snapshot: SnapshotMark::read(engine)?,
        sizes: engine.sizes()?,
    })
}

/// What must be in each family that consists of rows of the books; of [`Family::ContractsByPeer`] that of current
/// contracts, of [`Family::Meta`] the card and the preferences.
fn expected_rows(books: &Books) -> BTreeMap<Family, BTreeMap<Vec<u8>, Vec<u8>>> {
    let families = ROW_FAMILIES.into_iter().chain([Family::ContractsByPeer, Family::Meta]);
    let mut expected: BTreeMap<_, BTreeMap<_, _>> =
        families.map(|family| (family, BTreeMap::new())).collect();
    for row in all_rows(books) {
        if let Some(value) = row_value(books, &row) {
            expected.entry(row.family()).or_default().insert(row.key(), value);
        }
    }
    expected
}

/// The key of a contract in [`Family::ContractsByPeer`].
fn peer_key(row: &ContractRow) -> Vec<u8> {
    [&row.peer.public_key()[..], &row.contract.content_id().to_bytes()].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
