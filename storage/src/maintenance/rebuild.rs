//! Writes the live rows and look-up rows anew from the snapshot and the log.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;

use dms_messages::without_verifying;
use serde::{Deserialize, Serialize};

use super::{expected_rows, peer_key};
use crate::books::{Archived, ArchivedRow};
use crate::engine::{Batch, Durability, Engine, EngineError, ScanRange, for_each_row, for_each_row_in};
use crate::replay::replay;
use crate::rows;
use crate::rows::archive::ArchiveKind;
use crate::schema::{Family, SCHEMA_VERSION_KEY, version_row};
use crate::store::StoreError;

/// How much is written at a time. Bytes.
const BATCH_BYTES: usize = 1024 * 1024;

/// What a rebuild did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildReport {
    /// The last event in the books now.
    pub last_event: Option<u64>,
    /// How many events were applied, those of before the snapshot not among them.
    pub events: u64,
    /// Each family that was rebuilt.
    pub families: Vec<RebuiltFamily>,
}

/// What became of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuiltFamily {
    /// Its name on disk.
    pub family: String,
    /// How many rows it has now.
    pub rows: u64,
    /// How many of them were missing or different before.
    pub mended: u64,
    /// How many rows were removed because the log knows nothing of them.
    pub removed: u64,
}

/// Rebuilds every live row and look-up row from the snapshot and the log, and writes those that differ.
///
/// Cut short, it is simply run again. It cannot mend the log, the snapshot or the archive: those are the truth. A
/// database of an older schema version is brought to this one by it.
///
/// # Errors
/// See [`StoreError`].
pub fn rebuild(engine: &dyn Engine) -> Result<RebuildReport, StoreError> {
    let replayed = replay(engine)?;
    let mut expected = expected_rows(&replayed.books);
    // In two halves side by side, jobs and what follows from them.
    let border = vec![ArchiveKind::Job as u8 + 1];
    let halves = [
        ScanRange { end: Some(border.clone()), ..ScanRange::all() },
        ScanRange { start: border, ..ScanRange::all() },
    ];
    let listed: Vec<Listed> = thread::scope(|scope| {
        let halves = halves.map(|range| scope.spawn(|| list(engine, range)));
        let listed = halves.map(|half| half.join().unwrap_or_else(|panic| resume_unwind(panic)));
        listed.into_iter().collect::<Result<_, StoreError>>()
    })?;
    for Listed { by_time, by_peer } in listed {
        expected.entry(Family::ArchiveByTime).or_default().extend(by_time);
        expected.entry(Family::ContractsByPeer).or_default().extend(by_peer);
    }

    let mut writer = Writer { engine, batch: Batch::new() };
    let last_event = Some(replayed.last_event).filter(|last| *last > 0);
    let mut report = RebuildReport { last_event, events: replayed.events, families: Vec::new() };
    for (family, wanted) in expected {
        report.families.push(rebuild_family(&mut writer, family, wanted)?);
    }
    // Last of all: until here a reader must not take the rows for those of this version.
    writer.batch.put(Family::Meta, SCHEMA_VERSION_KEY, version_row());
    writer.engine.write(writer.batch, Durability::Synced)?;
    Ok(report)
}

/// The look-up rows of what is archived.
#[derive(Default)]
struct Listed {
    by_time: Vec<(Vec<u8>, Vec<u8>)>,
    by_peer: Vec<(Vec<u8>, Vec<u8>)>,
}

fn list(engine: &dyn Engine, range: ScanRange) -> Result<Listed, StoreError> {
    let mut listed = Listed::default();
    for_each_row_in::<StoreError>(engine, Family::Archive, range, |_, value| {
        // Checked before it was written, as `check` does again: here it is only listed.
        let archived: Archived = without_verifying(|| rows::decode(Family::Archive, &value))?;
        listed.by_time.push(rows::row_by_time(&archived));
        if let ArchivedRow::Contract(row) = &archived.row {
            listed.by_peer.push((peer_key(row), Vec::new()));
        }
        Ok(())
    })?;
    Ok(listed)
}

fn rebuild_family(
    writer: &mut Writer<'_>,
    family: Family,
    mut wanted: BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<RebuiltFamily, EngineError> {
    let mut report =
        RebuiltFamily { family: family.name().to_owned(), rows: wanted.len() as u64, mended: 0, removed: 0 };
    for_each_row(writer.engine, family, |key, value| {
        match wanted.remove(&key) {
            Some(bytes) if bytes == value => Ok(()),
            Some(bytes) => {
                report.mended += 1;
                writer.put(family, key, bytes)
            }
            // The database's own facts are not derived from anything.
            None if family == Family::Meta => Ok(()),
            None => {
                report.removed += 1;
                writer.delete(family, key)
            }
        }
    })?;
    for (key, value) in wanted {
        report.mended += 1;
        writer.put(family, key, value)?;
    }
    Ok(report)
}

/// Collects writes and hands them on before they become large.
struct Writer<'e> {
    engine: &'e dyn Engine,
    batch: Batch,
}

impl Writer<'_> {
    fn put(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) -> Result<(), EngineError> {
        self.batch.put(family, key, value);
        self.flush_large()
    }

    fn delete(&mut self, family: Family, key: Vec<u8>) -> Result<(), EngineError> {
        self.batch.delete(family, key);
        self.flush_large()
    }

    fn flush_large(&mut self) -> Result<(), EngineError> {
        if self.batch.byte_len() < BATCH_BYTES {
            return Ok(());
        }
        self.engine.write(std::mem::take(&mut self.batch), Durability::Unsynced)
    }
}
