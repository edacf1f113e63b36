//! Keeps bytes: ordered rows in column families, written in atomic batches. The seam between the books and a disk.
//!
//! Called by the committer (writes) and by the books and the log (reads). Two engines: [`RocksEngine`] on disk and
//! [`MemoryEngine`] for tests and the simulator; the same tests run on both. An engine knows nothing of events, and
//! it refuses to guess: a second process, a newer schema and damage are each an error of their own.

mod memory;
mod rocks;
mod wal;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt::Debug;
use std::path::PathBuf;

use crate::schema::Family;

pub use self::memory::MemoryEngine;
pub use self::rocks::{RocksEngine, RocksOptions};

/// One row: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Ordered rows in column families.
///
/// All calls block. Reads may come from any thread; writes are meant to come from one, the committer.
pub trait Engine: Send + Sync + Debug + 'static {
    /// Writes the whole batch or nothing of it; within the batch later writes win over earlier ones.
    ///
    /// With [`Durability::Synced`] the batch *and everything written before it* is on the disk when this returns,
    /// even if the batch is empty.
    ///
    /// # Errors
    /// [`EngineError::Io`] or [`EngineError::Damaged`]. After an error it is unknown whether the batch will be there
    /// after a reopen (all of it or nothing), so nobody may write on.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError>;

    /// The value under `key`.
    ///
    /// # Errors
    /// [`EngineError::Io`] or [`EngineError::Damaged`].
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// At most `limit` rows of `range` in ascending key order, as of one instant.
    ///
    /// # Errors
    /// [`EngineError::Io`] or [`EngineError::Damaged`].
    fn scan(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError>;

    /// At most `limit` rows of `range` in descending key order, as of one instant: the last rows, last first.
    ///
    /// # Errors
    /// [`EngineError::Io`] or [`EngineError::Damaged`].
    fn scan_back(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError>;
}

/// How far a write has gone when the engine says it is done.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Handed to the operating system: outlives this process, not the power. The committer syncs it a little later.
    Unsynced,
    /// On the disk, and everything written before it too.
    Synced,
}

/// Why an engine could not be opened, read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Somebody holds the directory's lock: another process, or this one a second time.
    #[error("another node is running on this data directory: {}", path.display())]
    AlreadyOpen {
        /// The data directory.
        path: PathBuf,
    },
    /// A newer program wrote this database; nothing of it was read or changed.
    #[error("the database has schema version {found}, this program knows versions up to {known}")]
    NewerSchema {
        /// The version on disk.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// What is stored is not what was written. Nothing is repaired by guessing: restore, or rebuild knowingly.
    #[error("the database is damaged: {reason}")]
    Damaged {
        /// What was found, and where.
        reason: String,
    },
    /// The disk or the system refused; the rows may be sound.
    #[error("the database could not be read or written: {reason}")]
    Io {
        /// What the system said.
        reason: String,
    },
    /// The engine panicked during a write: a defect in the program, and the write's fate is unknown.
    #[error("the storage engine panicked: {reason}")]
    Panicked {
        /// The panic's message.
        reason: String,
    },
}

impl EngineError {
    pub(crate) fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged { reason: reason.into() }
    }

    pub(crate) fn io(doing: &str, error: &std::io::Error) -> Self {
        Self::Io { reason: format!("{doing}: {error}") }
    }
}

/// Rows to write and delete together, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    writes: Vec<Write>,
    byte_len: usize,
}

/// One step of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub family: Family,
    /// Which row.
    pub key: Vec<u8>,
    /// The new value; `None` deletes the row, which need not exist.
    pub value: Option<Vec<u8>>,
}

impl Batch {
    /// What one write costs beside its key and value, roughly: RocksDB's tag, family id and two lengths.
    const WRITE_OVERHEAD_BYTES: usize = 8;

    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the row `key` of `family` to `value`.
    pub fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.push(Write { family, key: key.into(), value: Some(value.into()) });
    }

    /// Removes the row `key` of `family`; no error if there is none.
    pub fn delete(&mut self, family: Family, key: impl Into<Vec<u8>>) {
        self.push(Write { family, key: key.into(), value: None });
    }

    /// Adds the writes of `later` after those already here, so where both touch a row, `later` wins.
    pub fn append(&mut self, later: Self) {
        self.byte_len += later.byte_len;
        self.writes.extend(later.writes);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many writes there are.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// About how many bytes this batch takes in the log on disk.
    pub fn byte_len(&self) -> usize {
        self.byte_len
    }

    /// The writes, in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The writes, in order, for an engine that keeps them.
    pub fn into_writes(self) -> Vec<Write> {
        self.writes
    }

    fn push(&mut self, write: Write) {
        self.byte_len +=
            Self::WRITE_OVERHEAD_BYTES + write.key.len() + write.value.as_ref().map_or(0, Vec::len);
        self.writes.push(write);
    }
}

/// Which keys a scan covers: from `start` (inclusive) to `end` (exclusive).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRange {
    /// The first key that may be in the range; empty means from the beginning.
    pub start: Vec<u8>,
    /// The first key that is not in it any more; `None` means to the end of the family.
    pub end: Option<Vec<u8>>,
}

impl ScanRange {
    /// Every row of the family.
    pub fn all() -> Self {
        Self { start: Vec::new(), end: None }
    }

    /// From `start` to the end of the family.
    pub fn from(start: impl Into<Vec<u8>>) -> Self {
        Self { start: start.into(), end: None }
    }

    /// From `start` (inclusive) to `end` (exclusive); nothing if `end` is not after `start`.
    pub fn between(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self { start: start.into(), end: Some(end.into()) }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let start = prefix.into();
        // The first key past the prefix: its last byte that can be raised, raised. None can be in [0xff, …].
        let end = start.iter().rposition(|byte| *byte != u8::MAX).map(|last| {
            let mut end = start[..=last].to_vec();
            end[last] += 1;
            end
        });
        Self { start, end }
    }

    /// Whether no key can be in the range.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}
