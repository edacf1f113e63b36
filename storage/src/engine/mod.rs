//! Keeps bytes: ordered rows in column families, written in atomic batches. The seam between the books and a disk.
//!
//! Called by the committer (writes) and by the books and the log (reads). Two engines: [`RocksEngine`] on disk and
//! [`MemoryEngine`] for tests and the simulator; the same tests run on both. An engine knows nothing of events, and
//! it refuses to guess: a second process, a newer schema and damage are each an error of their own.

mod access;
mod memory;
mod rocks;
mod wal;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::schema::Family;

pub use self::memory::MemoryEngine;
pub use self::rocks::{RocksEngine, RocksOptions};

/// How the name of a restore's own copy goes on behind the name of the database whose place it is to take.
pub(crate) const RESTORING: &str = ".restoring-";

/// How the name of a database goes on that a restore moved aside.
pub(crate) const BEFORE: &str = ".before-";

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
    /// [`EngineError::Io`], [`EngineError::NoSpace`] or [`EngineError::Damaged`]. After an error it is unknown whether
    /// the batch will be there after a reopen (all of it or nothing), so nobody may write on before [`Self::reopen`].
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

    /// Closes the database and opens it again with every check of a first opening: what a restart of the process
    /// would do. Nothing is created, and calls of other threads wait meanwhile.
    ///
    /// First it makes sure that the disk takes some more, so that a full disk is [`EngineError::NoSpace`] here, with
    /// the engine as it was, and not a little later. If closing was done and opening fails, every call fails with
    /// that error until a later `reopen` succeeds.
    ///
    /// # Errors
    /// Those of opening, and [`EngineError::Unsupported`].
    fn reopen(&self) -> Result<(), EngineError> {
        Err(EngineError::Unsupported { operation: "reopening" })
    }

    /// Copies the whole database as of one instant into `directory`, which must not exist, while reads and writes
    /// go on; the copy is on the disk when this returns, and [`RocksEngine::open`] opens it.
    ///
    /// On the same file system a large database costs little: files that never change are linked, not copied.
    ///
    /// # Errors
    /// [`EngineError::Exists`] if there is such a file or directory; [`EngineError::Io`], [`EngineError::NoSpace`],
    /// [`EngineError::Damaged`] or [`EngineError::Unsupported`]. What was copied until then may be left behind.
    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError> {
        let _ = directory;
        Err(EngineError::Unsupported { operation: "checkpoints" })
    }

    /// How much there is, for people: on disk estimates by the engine, in memory exact.
    ///
    /// # Errors
    /// [`EngineError::Io`], [`EngineError::Damaged`] or [`EngineError::Unsupported`].
    fn sizes(&self) -> Result<Sizes, EngineError> {
        Err(EngineError::Unsupported { operation: "telling sizes" })
    }

    /// The directory that holds the database, for an engine with a disk.
    fn path(&self) -> Option<&Path> {
        None
    }
}

/// How large a database is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Every file in the directory together, text logs included. Bytes; 0 without a disk.
    pub disk_bytes: u64,
    /// Write-ahead logs. Bytes; 0 without a disk.
    pub log_bytes: u64,
    /// Rows not yet in table files. Bytes.
    pub write_buffer_bytes: u64,
    /// Cached blocks, indices and filters, and the write buffers charged to them. Bytes; 0 without a disk.
    pub cache_bytes: u64,
    /// Each family, in the order of [`Family::ALL`].
    pub families: Vec<FamilySize>,
}

/// How large a column family is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilySize {
    /// Its name on disk.
    pub family: String,
    /// How many rows; an estimate on disk, where deleted rows count until they are compacted.
    pub rows: u64,
    /// Keys and values: on disk its table files, in memory its rows. Bytes.
    pub bytes: u64,
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
    /// There is no database where one was expected, and nothing was created.
    #[error("there is no database in {}", path.display())]
    Missing {
        /// The data directory.
        path: PathBuf,
    },
    /// There is something where a copy was to be made, and nothing was overwritten.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file or directory.
        path: PathBuf,
    },
    /// The disk is full, or what this user may take of it is: free some space. What was written before is sound.
    #[error("no space is left on the disk of the database: {reason}")]
    NoSpace {
        /// What the system said.
        reason: String,
    },
    /// The data directory can be read but nothing can be created in it.
    #[error("the data directory is read-only: {}", path.display())]
    ReadOnlyDirectory {
        /// The data directory.
        path: PathBuf,
    },
    /// A file of the database may not be read and written by the user this process runs as.
    #[error("{} belongs to user {owner} and cannot be read and written by this process's user", path.display())]
    NotOurs {
        /// The file or directory.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// This engine cannot do that, or it was opened for reading only.
    #[error("this database does not support {operation}")]
    Unsupported {
        /// What was asked for.
        operation: &'static str,
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

    pub(crate) fn io(doing: &str, error: &io::Error) -> Self {
        let reason = format!("{doing}: {error}");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { reason }
            }
            _ => Self::Io { reason },
        }
    }

    /// Whether the same database may well work later without anybody having touched its files: a disk that was full
    /// or away, a directory that was mounted for reading. Worth an [`Engine::reopen`] now and then; after any other
    /// error a person must look.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::AlreadyOpen { .. }
            | Self::NoSpace { .. }
            | Self::ReadOnlyDirectory { .. }
            | Self::NotOurs { .. }
            | Self::Io { .. } => true,
            Self::NewerSchema { .. }
            | Self::Damaged { .. }
            | Self::Missing { .. }
            | Self::Exists { .. }
            | Self::Unsupported { .. }
            | Self::Panicked { .. } => false,
        }
    }
}

/// Hands every row of a family to `row`, in the order of their keys and a page at a time.
pub(crate) fn for_each_row<E: From<EngineError>>(
    engine: &dyn Engine,
    family: Family,
    row: impl FnMut(Vec<u8>, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    for_each_row_in(engine, family, ScanRange::all(), row)
}

/// [`for_each_row`] of those whose keys lie in `range`.
pub(crate) fn for_each_row_in<E: From<EngineError>>(
    engine: &dyn Engine,
    family: Family,
    mut range: ScanRange,
    mut row: impl FnMut(Vec<u8>, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    /// Rows read at a time.
    const PAGE: usize = 1_024;
    loop {
        let page = engine.scan(family, range.clone(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        range.start = [last.as_slice(), &[0]].concat();
        for (key, value) in page {
            row(key, value)?;
        }
    }
}

/// Refuses to write where something is, even if it is a link to nothing.
pub(crate) fn refuse_existing(path: &Path) -> Result<(), EngineError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(EngineError::Exists { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(EngineError::io(&format!("look at {}", path.display()), &error)),
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
