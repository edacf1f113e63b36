//! Keeps the live rows as of one event, so that the books open without their whole history and the log can be cut.
//!
//! Called by the store, which counts what changed since the last snapshot and has the committer's thread copy those
//! rows at their turn: the engine then holds exactly what was recorded before, and nothing of what comes after.
//!
//! ```text
//! snapshot       | family tag: u8 | the row's key |  ->  the row's bytes as of the event
//! meta/snapshot  CBOR {sequence, at}                     the event, and when it was
//! ```
//!
//! The tag comes first, so that a snapshot is read family by family, what is registered before what is promised of it.
//! Only families that the books are put together from are copied. Rows, mark and cut are one batch: whatever of it is
//! lost is lost whole, and then the older snapshot and the longer log are still there. The first snapshot of a long log
//! is made page by page instead, before the books are used: rows without a mark are no snapshot, and the whole log is
//! still there. It refuses to cut what is not behind a snapshot.

use std::collections::BTreeSet;

use dms_messages::{Timestamp, from_canonical, to_canonical};
use serde::{Deserialize, Serialize};

use crate::books::{Books, Row};
use crate::engine::{Batch, Durability, Engine, EngineError, for_each_row};
use crate::log::EventLog;
use crate::rows::{RowError, all_rows, row_value};
use crate::schema::Family;

/// The row of [`Family::Meta`] that says how far the snapshot goes.
pub const SNAPSHOT_KEY: &[u8] = b"snapshot";

/// Most events that are cut with one snapshot: twice what comes between two of them, so that a long log becomes short,
/// and few enough that nobody waits for it.
const MAX_CUT: usize = 16_384;

/// How much of the first snapshot is written at a time. Bytes.
const BATCH_BYTES: usize = 1024 * 1024;

/// How far a snapshot goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMark {
    /// The last event in it.
    pub sequence: u64,
    /// When that event was, by the node's wall clock.
    pub at: Timestamp,
}

impl SnapshotMark {
    /// That of the newest snapshot, if one was taken.
    ///
    /// # Errors
    /// The engine's, and [`EngineError::Damaged`] if it cannot be read.
    pub fn read(engine: &dyn Engine) -> Result<Option<Self>, EngineError> {
        let row = engine.get(Family::Meta, SNAPSHOT_KEY)?;
        let mark = row.map(|row| from_canonical(&row)).transpose();
        mark.map_err(|error| EngineError::damaged(format!("the snapshot's mark cannot be read: {error}")))
    }
}

/// Which rows differ from the snapshot's.
#[derive(Debug, Clone)]
pub(crate) enum Dirty {
    /// These may.
    Rows(BTreeSet<Row>),
    /// Any may, for there is no snapshot yet, and too many changed to remember which.
    All,
}

impl Dirty {
    pub(crate) fn none() -> Self {
        Self::Rows(BTreeSet::new())
    }

    /// Takes note of a changed row.
    pub(crate) fn add(&mut self, row: Row) {
        if let Self::Rows(rows) = self
            && Books::is_restored_from(row.family())
        {
            rows.insert(row);
        }
    }

    /// Whether more than `limit` rows may differ.
    pub(crate) fn exceeds(&self, limit: usize) -> bool {
        match self {
            Self::Rows(rows) => rows.len() > limit,
            Self::All => true,
        }
    }
}

/// The batch that brings the snapshot to what the engine holds now, which must be everything up to `mark` and nothing
/// later, and then cuts the log before the event `cut_before`, or behind the snapshot if that is earlier.
///
/// # Errors
/// The engine's.
pub(crate) fn advance(
    engine: &dyn Engine,
    dirty: &BTreeSet<Row>,
    mark: SnapshotMark,
    cut_before: u64,
) -> Result<Batch, EngineError> {
    let mut batch = Batch::new();
    for row in dirty {
        let key = snapshot_key(row.family(), &row.key());
        match engine.get(row.family(), &row.key())? {
            Some(value) => batch.put(Family::Snapshot, key, value),
            None => batch.delete(Family::Snapshot, key),
        }
    }
    put_mark(engine, &mut batch, mark, cut_before)?;
    Ok(batch)
}

fn put_mark(
    engine: &dyn Engine,
    batch: &mut Batch,
    mark: SnapshotMark,
    cut_before: u64,
) -> Result<(), EngineError> {
    let row = to_canonical(&mark).expect("two numbers");
    batch.put(Family::Meta, SNAPSHOT_KEY, row);
    EventLog::cut(engine, batch, cut_before.min(mark.sequence.saturating_add(1)), MAX_CUT)?;
    Ok(())
}

/// Makes the first snapshot, of `books` as of `mark`, a page at a time. Only where there is none: until the mark is
/// written, with the last page, the books are those of the whole log, and what a crash left of the rows is nobody's.
///
/// Nobody else may write meanwhile.
///
/// # Errors
/// The engine's, and [`EngineError::Damaged`] if there is a snapshot: it may be all that is left of a log that was cut.
pub(crate) fn make_first(
    engine: &dyn Engine,
    books: &Books,
    mark: SnapshotMark,
    cut_before: u64,
) -> Result<(), EngineError> {
    if let Some(found) = SnapshotMark::read(engine)? {
        return Err(EngineError::damaged(format!("there is a snapshot of event {} already", found.sequence)));
    }
    let mut batch = Batch::new();
    for_each_row(engine, Family::Snapshot, |key, _| {
        batch.delete(Family::Snapshot, key);
        flush_large(engine, &mut batch)
    })?;
    for row in all_rows(books).into_iter().filter(|row| Books::is_restored_from(row.family())) {
        if let Some(value) = row_value(books, &row) {
            batch.put(Family::Snapshot, snapshot_key(row.family(), &row.key()), value);
            flush_large(engine, &mut batch)?;
        }
    }
    put_mark(engine, &mut batch, mark, cut_before)?;
    engine.write(batch, Durability::Synced)
}

/// Writes `batch` if it has become large. Later writes are not on the disk before earlier ones.
pub(crate) fn flush_large(engine: &dyn Engine, batch: &mut Batch) -> Result<(), EngineError> {
    if batch.byte_len() < BATCH_BYTES {
        return Ok(());
    }
    engine.write(std::mem::take(batch), Durability::Unsynced)
}

/// The books as the snapshot holds them, and how many rows those are.
///
/// # Errors
/// [`RowError`] if a row cannot be read or does not fit the others.
pub(crate) fn restore(engine: &dyn Engine) -> Result<(Books, u64), RowError> {
    let mut books = Books::default();
    let mut count = 0;
    for_each_row(engine, Family::Snapshot, |key, value| {
        let unknown = RowError::Key { family: Family::Snapshot.name() };
        let (tag, key) = key.split_first().ok_or(unknown.clone())?;
        let family = Family::from_tag(*tag).ok_or(unknown)?;
        count += 1;
        books.restore(family, key, &value)
    })?;
    books.finish_restore();
    Ok((books, count))
}

fn snapshot_key(family: Family, key: &[u8]) -> Vec<u8> {
    [&[family.tag()], key].concat()
}
