//! Keeps rows on disk in RocksDB, tuned for a node that is a guest on somebody's machine.
//!
//! Opened by the node's start-up. What it promises beyond RocksDB: a second process, a newer schema,
//! a lost or foreign column family, a vanished `CURRENT` file or write-ahead log, damage before an intact record, a
//! read-only directory, files of another user and a full disk are refused with an error that names them, and nothing
//! is changed or repaired on the way. A torn last record (nobody was told that it is saved) is dropped. Every call
//! blocks.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ChecksumType, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, Direction, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch,
    WriteBufferManager, WriteOptions, properties,
};

use super::{
    BEFORE, Batch, Durability, Engine, EngineError, FamilySize, RESTORING, Row, ScanRange, Sizes, Write,
    access, wal,
};
use crate::schema::{self, Family};

/// How much of the machine the database may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// Memory for cached blocks, indices and filters of all families together; the write buffers are charged to it
    /// too. Bytes; 16 MiB.
    pub cache_bytes: usize,
    /// Memory for rows not yet in table files, all families together. Bytes; half the cache (8 MiB), so that writing
    /// never pushes all indices out of it.
    pub write_buffers_bytes: usize,
    /// The same for one family. Bytes; 4 MiB. RocksDB's default of 64 MiB times our families would be a gigabyte.
    pub family_write_buffer_bytes: usize,
    /// Open table files; 128, a fraction of the usual limit of 1,024 per process, which sockets need.
    pub max_open_files: i32,
    /// Threads for flushing and compacting; 2, one of each.
    pub background_jobs: i32,
    /// Write-ahead log kept before the oldest family is flushed. Bytes; 32 MiB, replayed within a second at start.
    pub max_wal_bytes: u64,
    /// RocksDB's own text logs kept, each 1 MiB at most; 5.
    pub info_log_count: usize,
}

impl Default for RocksOptions {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            cache_bytes: 16 * MIB,
            write_buffers_bytes: 8 * MIB,
            family_write_buffer_bytes: 4 * MIB,
            max_open_files: 128,
            background_jobs: 2,
            max_wal_bytes: 32 * MIB as u64,
            info_log_count: 5,
        }
    }
}

/// A RocksDB database with the families of [`Family::ALL`].
pub struct RocksEngine {
    // A lock, because `reopen` replaces the database under readers and the committer, which hold this engine and not
    // the database. Written to by `reopen` alone; everybody else shares it.
    database: RwLock<Database>,
    path: PathBuf,
    options: RocksOptions,
}

enum Database {
    Open {
        db: DB,
        mode: Mode,
    },
    /// A reopen closed it and could not open it again.
    Closed(EngineError),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Mode {
    ReadWrite,
    ReadOnly,
}

/// What an opening takes for granted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// A database or none, which then is created.
    Anything,
    /// A database that was in use: it has a write-ahead log.
    Database,
    /// A copy just made, which may have no write-ahead log yet.
    Copy,
}

impl RocksEngine {
    /// Opens the database in `path`, or creates it (with its directory) if there is none.
    ///
    /// # Errors
    /// - [`EngineError::AlreadyOpen`]: another process has it open, or this one has.
    /// - [`EngineError::NewerSchema`]: a newer program wrote it; nothing was changed.
    /// - [`EngineError::Damaged`]: files are missing or broken in a way a crash cannot explain; nothing was repaired.
    /// - [`EngineError::ReadOnlyDirectory`], [`EngineError::NotOurs`], [`EngineError::NoSpace`]: the directory or a
    ///   file cannot be used for this reason; [`EngineError::Io`]: for another one.
    pub fn open(path: impl AsRef<Path>, options: &RocksOptions) -> Result<Self, EngineError> {
        Self::open_expecting(path.as_ref(), options, Expected::Anything)
    }

    /// Opens the database in `path`, and creates nothing.
    ///
    /// # Errors
    /// Those of [`Self::open`], and [`EngineError::Missing`].
    pub fn open_existing(path: impl AsRef<Path>, options: &RocksOptions) -> Result<Self, EngineError> {
        Self::open_expecting(path.as_ref(), options, Expected::Database)
    }

    /// Opens the database in `path` for reading, as it is now, with the same checks; writing and reopening are
    /// refused. Nothing is created or changed but RocksDB's own text log, and the directory may be read-only.
    ///
    /// A family that the database is too old to have reads as empty.
    ///
    /// # Errors
    /// Those of [`Self::open_existing`]; a running node is [`EngineError::AlreadyOpen`] here too, because it deletes
    /// files from under a reader.
    pub fn open_read_only(path: impl AsRef<Path>, options: &RocksOptions) -> Result<Self, EngineError> {
        let path = path.as_ref();
        if !has_database(path)? {
            return Err(EngineError::Missing { path: path.to_owned() });
        }
        access::check_readable(path)?;
        if is_locked(path) {
            return Err(EngineError::AlreadyOpen { path: path.to_owned() });
        }
        let families = check_families(path, options)?;
        check_logs(path, families != Families::Unfinished)?;
        let mut database = database_options(options);
        let found = DB::list_cf(&database, path).map_err(|error| open_error(path, error))?;
        let family = family_options(options, &mut database);
        let families = found.iter().map(|name| ColumnFamilyDescriptor::new(name, family.clone()));
        let db = DB::open_cf_descriptors_read_only(&database, path, families, false)
            .map_err(|error| open_error(path, error))?;
        let engine = Self::around(path, options, db, Mode::ReadOnly);
        match engine.get(Family::Meta, schema::SCHEMA_VERSION_KEY)? {
            Some(row) => schema::check_version(&row).map(|_| engine),
            None => Err(EngineError::Missing { path: path.to_owned() }),
        }
    }

    /// Refuses a directory whose database a process has open; nothing is changed.
    ///
    /// # Errors
    /// [`EngineError::AlreadyOpen`].
    pub fn refuse_in_use(path: &Path) -> Result<(), EngineError> {
        if is_locked(path) { Err(EngineError::AlreadyOpen { path: path.to_owned() }) } else { Ok(()) }
    }

    fn open_expecting(path: &Path, options: &RocksOptions, expected: Expected) -> Result<Self, EngineError> {
        let db = open_database(path, options, expected)?;
        Ok(Self::around(path, options, db, Mode::ReadWrite))
    }

    fn around(path: &Path, options: &RocksOptions, db: DB, mode: Mode) -> Self {
        Self {
            database: RwLock::new(Database::Open { db, mode }),
            path: path.to_owned(),
            options: options.clone(),
        }
    }

    /// The data directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> RwLockReadGuard<'_, Database> {
        // A panic in `reopen` leaves `Closed` or an open database, never something between.
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Database {
    fn db(&self) -> Result<&DB, EngineError> {
        match self {
            Self::Open { db, .. } => Ok(db),
            Self::Closed(error) => Err(error.clone()),
        }
    }

    fn writable(&self, operation: &'static str) -> Result<&DB, EngineError> {
        match self {
            Self::Open { mode: Mode::ReadOnly, .. } => Err(EngineError::Unsupported { operation }),
            _ => self.db(),
        }
    }
}

/// Opens or creates the database, with all checks.
fn open_database(path: &Path, options: &RocksOptions, expected: Expected) -> Result<DB, EngineError> {
    let is_new = !has_database(path)?;
    if is_new && expected != Expected::Anything {
        refuse_remains(path)?;
        return Err(EngineError::Missing { path: path.to_owned() });
    }
    if is_new {
        refuse_unfinished_restore(path)?;
        create_directory(path)?;
        refuse_remains(path)?;
    }
    access::check_writable(path)?;
    let mut are_complete = false;
    if !is_new {
        let families = check_families(path, options)?;
        are_complete = families == Families::Complete;
        let is_log_due = families != Families::Unfinished && expected != Expected::Copy;
        if let Err(damage) = check_logs(path, is_log_due) {
            // A log that is being written looks torn to a reader: ask first whether somebody writes it.
            return Err(if is_locked(path) {
                EngineError::AlreadyOpen { path: path.to_owned() }
            } else {
                damage
            });
        }
    }

    let mut database = database_options(options);
    database.create_if_missing(is_new);
    // Only while creation is unfinished or the schema older: later a missing family is damage, not a wish for an
    // empty one.
    database.create_missing_column_families(!are_complete);
    let family = family_options(options, &mut database);
    let families = Family::ALL.iter().map(|f| ColumnFamilyDescriptor::new(f.name(), family.clone()));
    let db = DB::open_cf_descriptors(&database, path, families).map_err(|error| open_error(path, error))?;
    settle_schema(&db, path)?;
    if is_new {
        sync_parent(path)?;
    }
    Ok(db)
}

/// Checks the schema version, or writes it as the first batch of a new database. An older one stays: the store
/// brings the rows up to date.
fn settle_schema(db: &DB, path: &Path) -> Result<(), EngineError> {
    if let Some(row) = get(db, Family::Meta, schema::SCHEMA_VERSION_KEY)? {
        schema::check_version(&row)?;
        return Ok(());
    }
    // Creation may have been cut short before this batch; then every family is still empty.
    for family in Family::ALL {
        if !collect(db, family, ScanRange::all(), 1, Direction::Forward)?.is_empty() {
            return Err(EngineError::damaged(format!(
                "there are rows in {} but no schema version",
                family.name()
            )));
        }
    }
    let mut first = Batch::new();
    first.put(Family::Meta, schema::SCHEMA_VERSION_KEY, schema::version_row());
    write(db, path, &first, Durability::Synced)
}

/// The family's handle; none if the database was opened for reading and is too old to have it.
fn handle(db: &DB, family: Family) -> Option<&ColumnFamily> {
    db.cf_handle(family.name())
}

/// Writes a batch; waits while RocksDB has to flush or compact first, but not for a disk that is full.
///
/// Left to itself RocksDB would: a writer that waits for a flush, which then fails for lack of space, waits on until
/// there is space again, and nobody is told.
fn write(db: &DB, path: &Path, batch: &Batch, durability: Durability) -> Result<(), EngineError> {
    /// Between two attempts.
    const PAUSE: Duration = Duration::from_millis(2);
    /// After this long, and again, it is asked whether the disk is full: a flush of 4 MiB takes a fraction of it.
    const ASK_AFTER: Duration = Duration::from_secs(1);
    /// The disk does not work, although it says nothing.
    const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

    let mut options = WriteOptions::default();
    options.set_sync(durability == Durability::Synced);
    // Says that it would wait instead of waiting.
    options.set_no_slowdown(true);
    let mut waiting_since = None;
    let mut ask_at = ASK_AFTER;
    loop {
        let error = match db.write_opt(write_batch(db, batch), &options) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Incomplete => error,
            Err(error) => return Err(use_error(error)),
        };
        let waited = waiting_since.get_or_insert_with(Instant::now).elapsed();
        if waited >= ask_at {
            access::check_room(path)?;
            ask_at = waited + ASK_AFTER;
        }
        if waited >= GIVE_UP_AFTER {
            return Err(use_error(error));
        }
        #[expect(clippy::disallowed_methods, reason = "RocksDB tells nobody when it goes on")]
        thread::sleep(PAUSE);
    }
}

fn write_batch(db: &DB, batch: &Batch) -> WriteBatch {
    let mut rows = WriteBatch::with_capacity_bytes(batch.byte_len());
    for Write { family, key, value } in batch.writes() {
        let family = handle(db, *family).expect("opening for writing opens every family");
        match value {
            Some(value) => rows.put_cf(family, key, value),
            None => rows.delete_cf(family, key),
        }
    }
    rows
}

fn get(db: &DB, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
    match handle(db, family) {
        Some(family) => db.get_cf(family, key).map_err(use_error),
        None => Ok(None),
    }
}

fn collect(
    db: &DB,
    family: Family,
    range: ScanRange,
    limit: usize,
    direction: Direction,
) -> Result<Vec<Row>, EngineError> {
    let Some(family) = handle(db, family) else { return Ok(Vec::new()) };
    if range.is_empty() || limit == 0 {
        return Ok(Vec::new());
    }
    // Bounds and not only a start: an iterator without them walks over deleted rows beyond its range.
    let mut read = ReadOptions::default();
    let mode = match direction {
        Direction::Forward => IteratorMode::Start,
        Direction::Reverse => IteratorMode::End,
    };
    read.set_iterate_lower_bound(range.start);
    if let Some(end) = range.end {
        read.set_iterate_upper_bound(end);
    }
    db.iterator_cf_opt(family, read, mode)
        .take(limit)
        .map(|row| row.map(|(key, value)| (key.into_vec(), value.into_vec())).map_err(use_error))
        .collect()
}

impl fmt::Debug for RocksEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksEngine").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Engine for RocksEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        write(self.lock().writable("writing")?, &self.path, &batch, durability)
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        get(self.lock().db()?, family, key)
    }

    fn scan(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        collect(self.lock().db()?, family, range, limit, Direction::Forward)
    }

    fn scan_back(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        collect(self.lock().db()?, family, range, limit, Direction::Reverse)
    }

    fn reopen(&self) -> Result<(), EngineError> {
        if matches!(&*self.lock(), Database::Open { mode: Mode::ReadOnly, .. }) {
            return Err(EngineError::Unsupported { operation: "reopening" });
        }
        if has_database(&self.path)? {
            access::check_room(&self.path)?;
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Closed before it is opened: the lock on the directory is this process's own.
        *database = Database::Closed(EngineError::Io { reason: "the database is being reopened".to_owned() });
        match open_database(&self.path, &self.options, Expected::Database) {
            Ok(db) => {
                *database = Database::Open { db, mode: Mode::ReadWrite };
                Ok(())
            }
            Err(error) => {
                *database = Database::Closed(error.clone());
                Err(error)
            }
        }
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError> {
        super::refuse_existing(directory)?;
        {
            let database = self.lock();
            let db = database.writable("checkpoints")?;
            Checkpoint::new(db)
                .and_then(|checkpoint| checkpoint.create_checkpoint(directory))
                .map_err(use_error)?;
        }
        // A copy has no write-ahead log of its own before somebody opens it, and later a missing one is damage. It
        // also shows at once whether the copy opens.
        drop(Self::open_expecting(directory, &self.options, Expected::Copy)?);
        sync_parent(directory)
    }

    fn sizes(&self) -> Result<Sizes, EngineError> {
        let database = self.lock();
        let db = database.db()?;
        let mut sizes = Sizes { disk_bytes: directory_bytes(&self.path)?, ..Sizes::default() };
        for log in wal::log_files(&self.path)? {
            sizes.log_bytes += fs::metadata(log).map_or(0, |found| found.len());
        }
        for family in Family::ALL {
            let property = |name| match handle(db, family) {
                Some(handle) => db.property_int_value_cf(handle, name).map_err(use_error),
                None => Ok(None),
            };
            sizes.write_buffer_bytes += property(properties::CUR_SIZE_ALL_MEM_TABLES)?.unwrap_or(0);
            // One cache for all: the first family that answers has said it.
            sizes.cache_bytes = sizes.cache_bytes.max(property(properties::BLOCK_CACHE_USAGE)?.unwrap_or(0));
            sizes.families.push(FamilySize {
                family: family.name().to_owned(),
                rows: property(properties::ESTIMATE_NUM_KEYS)?.unwrap_or(0),
                bytes: property(properties::TOTAL_SST_FILES_SIZE)?.unwrap_or(0),
            });
        }
        Ok(sizes)
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

fn has_database(path: &Path) -> Result<bool, EngineError> {
    path.join("CURRENT")
        .try_exists()
        .map_err(|error| EngineError::io(&format!("look into {}", path.display()), &error))
}

fn create_directory(path: &Path) -> Result<(), EngineError> {
    fs::create_dir_all(path).map_err(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => EngineError::ReadOnlyDirectory { path: path.to_owned() },
        _ => EngineError::io(&format!("create {}", path.display()), &error),
    })
}

fn directory_bytes(path: &Path) -> Result<u64, EngineError> {
    let reading = |error| EngineError::io(&format!("read {}", path.display()), &error);
    let mut bytes = 0;
    for entry in fs::read_dir(path).map_err(reading)? {
        // A file that is gone meanwhile takes no space.
        bytes += entry.map_err(reading)?.metadata().map_or(0, |found| found.len());
    }
    Ok(bytes)
}

/// Refuses damaged logs, and if `is_log_due` a database without any.
///
/// Every opening for writing leaves a log, so none at all means that it was lost with whatever was only in it. RocksDB
/// itself takes that for a database that was closed cleanly.
fn check_logs(path: &Path, is_log_due: bool) -> Result<(), EngineError> {
    if is_log_due && wal::log_files(path)?.is_empty() {
        return Err(EngineError::damaged(format!(
            "{} has no write-ahead log (<number>.log), which every database has that was in use",
            path.display()
        )));
    }
    wal::check_directory(path)
}

/// Refuses to create a database where a restore was cut short between moving the old one aside and putting the new
/// one in its place, or where the new one is gone: the node would begin with empty books, as somebody who owes nothing.
fn refuse_unfinished_restore(path: &Path) -> Result<(), EngineError> {
    let absolute = std::path::absolute(path)
        .map_err(|error| EngineError::io(&format!("look for {}", path.display()), &error))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else { return Ok(()) };
    let name = name.to_string_lossy();
    let [copy, aside] = [RESTORING, BEFORE].map(|suffix| format!("{name}{suffix}"));
    let reading = |error| EngineError::io(&format!("read {}", parent.display()), &error);
    let entries = match fs::read_dir(parent) {
        // Without the parent nothing was ever here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(reading)?,
    };
    for entry in entries {
        let entry = entry.map_err(reading)?;
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if found.starts_with(&copy) {
            return Err(EngineError::damaged(format!(
                "a restore was cut short, its copy is {}: restore again, or move the copy away",
                entry.path().display()
            )));
        }
        if found.starts_with(&aside) {
            return Err(EngineError::damaged(format!(
                "there is no database, but {} was moved aside by a restore: restore again, or move it away",
                entry.path().display()
            )));
        }
    }
    Ok(())
}

/// Refuses to create a database where one was.
///
/// Without `CURRENT`, RocksDB takes the directory for empty, creates a new database and deletes the old one's files.
/// Creation itself writes the first manifest before `CURRENT`, so that one alone may be there.
fn refuse_remains(path: &Path) -> Result<(), EngineError> {
    let reading = |error| EngineError::io(&format!("read {}", path.display()), &error);
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(reading)?,
    };
    for entry in entries {
        let name = entry.map_err(reading)?.file_name();
        let name = name.to_string_lossy();
        let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
        let is_numbered = stem.parse::<u64>().is_ok();
        let is_data = is_numbered && matches!(extension, "sst" | "log" | "blob");
        let is_later_manifest = name.starts_with("MANIFEST-") && name != "MANIFEST-000001";
        if is_data || is_later_manifest {
            return Err(EngineError::damaged(format!(
                "{} has the file {name} but not the file CURRENT",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Which of our families a database has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Families {
    /// All.
    Complete,
    /// All of its own schema version, which is older.
    Older,
    /// Some: it was never made to its end, and holds nothing.
    Unfinished,
}

/// Whether exactly our families are there; an unfinished creation lacks some, and so does a database of an older
/// schema version, which gets those that came since.
///
/// A newer program's database may have other families, with which it cannot be opened for writing at all; its version
/// is read without changing it, so that the error is the right one.
fn check_families(path: &Path, options: &RocksOptions) -> Result<Families, EngineError> {
    let mut database = database_options(options);
    let found = DB::list_cf(&database, path).map_err(|error| open_error(path, error))?;
    let is_ours = |name: &str| Family::ALL.iter().any(|family| family.name() == name);
    let unknown: Vec<&String> =
        found.iter().filter(|name| *name != rocksdb::DEFAULT_COLUMN_FAMILY_NAME && !is_ours(name)).collect();
    let is_missing = |family: &Family| !found.iter().any(|name| name == family.name());
    let missing: Vec<Family> = Family::ALL.into_iter().filter(is_missing).collect();
    if unknown.is_empty() && missing.is_empty() {
        return Ok(Families::Complete);
    }

    let mut version = None;
    if !missing.contains(&Family::Meta) {
        let family = family_options(options, &mut database);
        let families = found.iter().map(|name| ColumnFamilyDescriptor::new(name, family.clone()));
        let db = DB::open_cf_descriptors_read_only(&database, path, families, false)
            .map_err(|error| open_error(path, error))?;
        let meta = db.cf_handle(Family::Meta.name()).expect("it was found and opened");
        if let Some(row) = db.get_cf(meta, schema::SCHEMA_VERSION_KEY).map_err(use_error)? {
            version = Some(schema::check_version(&row)?);
        }
    }
    let is_newer = |family: &Family| version.is_some_and(|version| family.since() > version);
    if !unknown.is_empty() || (version.is_some() && !missing.iter().all(is_newer)) {
        let missing: Vec<&str> = missing.into_iter().map(Family::name).collect();
        return Err(EngineError::damaged(format!(
            "column families do not fit: {missing:?} missing, {unknown:?} unknown"
        )));
    }
    Ok(if version.is_some() { Families::Older } else { Families::Unfinished })
}

/// Whether a process holds the lock of the database in `path`; changes nothing there but RocksDB's own text log.
fn is_locked(path: &Path) -> bool {
    /// Readers of this process ask one after the other.
    static PROBING: Mutex<()> = Mutex::new(());
    /// Another process may be asking too and holds the lock for a moment: whoever has the database open holds it
    /// every time.
    const PROBES: usize = 20;
    let _probing = PROBING.lock().unwrap_or_else(PoisonError::into_inner);
    // Takes the lock, then refuses because a database exists, then lets the lock go.
    let mut probe = Options::default();
    probe.set_error_if_exists(true);
    (0..PROBES).all(|_| DB::open(&probe, path).is_err_and(|error| is_lock_error(error.as_ref())))
}

fn database_options(options: &RocksOptions) -> Options {
    let mut database = Options::default();
    // A wrong checksum is an error at the moment it is met, not a row that silently is not there.
    database.set_paranoid_checks(true);
    // The default, point in time, opens at an older state on damage and so forgets acknowledged writes in silence.
    // This one drops only a torn tail; what it mistakes for one, `wal` finds first.
    database.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // A whole log that has vanished or shrunk after it was closed and synced is found too.
    database.set_track_and_verify_wals_in_manifest(true);
    database.set_max_open_files(options.max_open_files);
    database.set_max_background_jobs(options.background_jobs);
    database.set_max_total_wal_size(options.max_wal_bytes);
    database.set_keep_log_file_num(options.info_log_count);
    database.set_max_log_file_size(1024 * 1024);
    database.set_log_level(LogLevel::Warn);
    // Nobody reads these; they would wake an idle machine every ten minutes.
    database.set_stats_dump_period_sec(0);
    database.set_stats_persist_period_sec(0);
    database
}

/// Options every family shares, with the memory they share put into `database` too.
fn family_options(options: &RocksOptions, database: &mut Options) -> Options {
    let cache = Cache::new_lru_cache(options.cache_bytes);
    // Never stalls writers: it flushes earlier instead.
    database.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
        options.write_buffers_bytes,
        false,
        cache.clone(),
    ));

    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // Most look-ups of seen ids find nothing; ten bits a key answer 99 of 100 of them without a read.
    table.set_bloom_filter(10.0, false);
    table.set_checksum_type(ChecksumType::XXH3);

    let mut family = Options::default();
    family.set_block_based_table_factory(&table);
    family.set_compression_type(DBCompressionType::Lz4);
    family.set_write_buffer_size(options.family_write_buffer_bytes);
    family.set_max_write_buffer_number(2);
    // `write` waits while writes are stopped; slowed down before that, they would have to wait for their turn in a
    // queue that it does not stand in. The trigger is that of the stop.
    family.set_level_zero_slowdown_writes_trigger(36);
    family.set_soft_pending_compaction_bytes_limit(0);
    // Memory is taken in pieces of this size by every family written to; the default would be an eighth of 4 MiB.
    family.set_arena_block_size(64 * 1024);
    family
}

/// A created directory's own entry must outlive the power as well; RocksDB syncs only what is inside.
fn sync_parent(path: &Path) -> Result<(), EngineError> {
    let absolute = fs::canonicalize(path);
    let parent = absolute.as_deref().ok().and_then(Path::parent).unwrap_or(path);
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| EngineError::io(&format!("sync {}", parent.display()), &error))
}

fn is_lock_error(message: &str) -> bool {
    // RocksDB has no error kind for it. The first is another process's lock, the second is our own.
    message.contains("While lock file") || message.contains("lock hold by current process")
}

fn open_error(path: &Path, error: rocksdb::Error) -> EngineError {
    let message: &str = error.as_ref();
    if is_lock_error(message) {
        return EngineError::AlreadyOpen { path: path.to_owned() };
    }
    // What the manifest names and the directory lacks is damage, although RocksDB only says that it cannot be read.
    let is_file_missing = message.contains("No such file or directory");
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotSupported => {
            EngineError::damaged(error)
        }
        _ if is_file_missing => EngineError::damaged(error),
        _ => system_error(error),
    }
}

fn use_error(error: rocksdb::Error) -> EngineError {
    match error.kind() {
        ErrorKind::Corruption => EngineError::damaged(error),
        _ => system_error(error),
    }
}

fn system_error(error: rocksdb::Error) -> EngineError {
    // RocksDB passes on the system's words (ENOSPC, EDQUOT, EFBIG) and no number; "Space limit reached" is its own.
    const FULL: [&str; 4] =
        ["No space left on device", "Disk quota exceeded", "File too large", "Space limit reached"];
    let reason: String = error.into();
    if FULL.iter().any(|words| reason.contains(words)) {
        EngineError::NoSpace { reason }
    } else {
        EngineError::Io { reason }
    }
}
