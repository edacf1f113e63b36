//! The books of a node that does not run: for whoever reads them, checks them, or puts a backup in their place.
//!
//! Called by `dms log` and `dms db`. The data directory's lock file says who is there: readers share it, whoever
//! changes something holds it alone, and a node holds it alone for as long as it runs. So no node starts under
//! a reader's hands, and nothing is changed under a node's. Nothing is made where nothing was, except by a restore.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dms_messages::{Did, Timestamp};
use dms_storage::maintenance::{self, BackupError, BackupReport, CheckReport, RebuildReport};
use dms_storage::maintenance::{BACKUP_FILE, Manifest, RestoreError, RestoreReport};
use dms_storage::store::replay;
use dms_storage::{Engine, EngineError, RocksEngine, RocksOptions, StoreError};

use super::{LOCK, StartupError, database_path, lock_directory, make_directory};
use crate::config::{EngineKind, Settings};
use crate::files::read_text;
use crate::identity::{IdentityError, KeyFile};

/// Longest `backup.json` whose owner is looked at. Bytes: thousands of files.
const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// Why the books of a node that does not run cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// A node runs on the directory, or another command works with its books.
    #[error("{} is in use by a running node, or by another command that works with its books", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// There are no books without a running node.
    #[error("the books are kept in memory (engine = memory): there are none while the node does not run")]
    InMemory,
    /// There never was a node.
    #[error("there are no books in {}", path.display())]
    Missing {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("the data directory {} cannot be used", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The data directory cannot be made, or locked.
    #[error(transparent)]
    Startup(Box<StartupError>),
    /// The backup is of a node with another key.
    #[error("the backup is of the books of {owner}, and the key in this data directory is that of {key}")]
    ForeignBackup {
        /// Whose books.
        owner: Did,
        /// Whose key.
        key: Did,
    },
    /// The key cannot be read.
    #[error("this node has no usable identity")]
    Identity(#[from] IdentityError),
    /// The database cannot be opened.
    #[error("the books cannot be opened")]
    Engine(#[source] EngineError),
    /// The database cannot be read, or does not hold.
    #[error("the books do not hold")]
    Store(#[from] StoreError),
    /// No backup was made.
    #[error("no backup was made")]
    Backup(#[from] BackupError),
    /// The backup was not restored.
    #[error("the backup was not restored, and nothing was changed")]
    Restore(#[from] RestoreError),
}

impl From<EngineError> for OfflineError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// The books of a node that does not run, and will not as long as they are held.
#[derive(Debug)]
pub struct OfflineBooks {
    engine: Arc<dyn Engine>,
    /// None if no node ever ran here: then there is no file to lock, and none is made.
    _lock: Option<File>,
}

impl OfflineBooks {
    /// The database.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }
}

/// Opens the books for reading; others may read meanwhile, and nothing is changed.
///
/// # Errors
/// See [`OfflineError`].
pub fn read(settings: &Settings) -> Result<OfflineBooks, OfflineError> {
    let path = existing_database(settings)?;
    let lock = share_directory(&settings.data)?;
    let engine = RocksEngine::open_read_only(path, &RocksOptions::default())?;
    Ok(OfflineBooks { engine: Arc::new(engine), _lock: lock })
}

/// Checks the books as a whole; nothing is changed.
///
/// # Errors
/// See [`OfflineError`]. What does not fit is in the report.
pub fn check(settings: &Settings) -> Result<CheckReport, OfflineError> {
    let path = existing_database(settings)?;
    let _lock = hold_directory(&settings.data)?;
    let engine = RocksEngine::open_read_only(path, &RocksOptions::default())?;
    Ok(maintenance::check(&engine)?)
}

/// Writes every row anew from the snapshot and the log.
///
/// # Errors
/// See [`OfflineError`].
pub fn rebuild(settings: &Settings) -> Result<RebuildReport, OfflineError> {
    let path = existing_database(settings)?;
    let _lock = hold_directory(&settings.data)?;
    let engine = RocksEngine::open_existing(path, &RocksOptions::default())?;
    Ok(maintenance::rebuild(&engine)?)
}

/// Copies the books into the new directory `to`.
///
/// # Errors
/// See [`OfflineError`].
pub fn back_up(settings: &Settings, to: &Path, now: Timestamp) -> Result<BackupReport, OfflineError> {
    let path = existing_database(settings)?;
    let _lock = hold_directory(&settings.data)?;
    let engine = RocksEngine::open_existing(path, &RocksOptions::default())?;
    Ok(maintenance::backup(&engine, to, now)?)
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// What was restored.
    #[serde(flatten)]
    pub report: RestoreReport,
    /// True if the key that the books belong to is there.
    pub has_key: bool,
}

/// Puts the backup in `from` in the place of the books. Those that were there are moved aside; a backup of a node
/// with another key is refused.
///
/// # Errors
/// See [`OfflineError`].
pub fn restore(settings: &Settings, from: &Path, now: Timestamp) -> Result<Restored, OfflineError> {
    if settings.engine == EngineKind::Memory {
        return Err(OfflineError::InMemory);
    }
    let key = match KeyFile::of_node(&settings.data).read() {
        Ok(key) => Some(key.did()),
        Err(IdentityError::Missing { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    // What cannot be read is refused by the restore itself, which says what is wrong with it.
    let manifest = read_text(&from.join(BACKUP_FILE), MAX_MANIFEST_BYTES).ok();
    let owner = manifest
        .and_then(|text| serde_json::from_str::<Manifest>(&text).ok())
        .and_then(|manifest| manifest.owner);
    if let (Some(owner), Some(key)) = (owner, key)
        && owner != key
    {
        return Err(OfflineError::ForeignBackup { owner, key });
    }
    let is_new = !settings.data.exists();
    make_directory(&settings.data).map_err(|error| OfflineError::Startup(Box::new(error)))?;
    let restored = hold_directory(&settings.data)
        .and_then(|_lock| Ok(maintenance::restore(from, &database_path(&settings.data), now)?));
    if restored.is_err() && is_new {
        // Only if nothing but our lock is in it.
        let _ = std::fs::remove_file(settings.data.join(LOCK));
        let _ = std::fs::remove_dir(&settings.data);
    }
    Ok(Restored { report: restored?, has_key: key.is_some() })
}

/// Holds the data directory for whoever puts the key of `key` into it: no node runs there, and the books, if there are
/// any, are of that key. The directory is made if need be.
///
/// # Errors
/// `InUse`, `ForeignBooks`, and those of opening the books.
pub fn hold_for_key(settings: &Settings, key: Did) -> Result<File, OfflineError> {
    make_directory(&settings.data).map_err(|error| OfflineError::Startup(Box::new(error)))?;
    let lock = hold_directory(&settings.data)?;
    match owner_of_books(&settings.data)? {
        Some(owner) if owner != key => {
            Err(OfflineError::Startup(Box::new(StartupError::ForeignBooks { owner, key })))
        }
        _ => Ok(lock),
    }
}

/// Whose the books on disk are; none if there are none, or nobody has begun them. The directory is held.
///
/// # Errors
/// Those of opening the books.
pub(super) fn owner_of_books(data: &Path) -> Result<Option<Did>, OfflineError> {
    let path = database_path(data);
    if !path.exists() {
        return Ok(None);
    }
    let engine = RocksEngine::open_read_only(path, &RocksOptions::default())?;
    Ok(replay(&engine)?.books.card().map(|card| card.issuer()))
}

/// Where the books lie, if there are any.
fn existing_database(settings: &Settings) -> Result<PathBuf, OfflineError> {
    if settings.engine == EngineKind::Memory {
        return Err(OfflineError::InMemory);
    }
    let path = database_path(&settings.data);
    match path.try_exists() {
        Ok(true) => Ok(path),
        Ok(false) => Err(OfflineError::Missing { path: settings.data.clone() }),
        Err(source) => Err(OfflineError::Directory { path: settings.data.clone(), source }),
    }
}

/// Keeps nodes out of the data directory, but not other readers.
fn share_directory(data: &Path) -> Result<Option<File>, OfflineError> {
    let failed = |source| OfflineError::Directory { path: data.to_path_buf(), source };
    let file = match File::open(data.join(LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(OfflineError::InUse { path: data.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Keeps everybody else out of the data directory.
pub(super) fn hold_directory(data: &Path) -> Result<File, OfflineError> {
    lock_directory(data).map_err(|error| match error {
        StartupError::InUse { path } => OfflineError::InUse { path },
        error => OfflineError::Startup(Box::new(error)),
    })
}
