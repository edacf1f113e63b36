//! Keeps rows on disk in RocksDB, tuned for a node that is a guest on somebody's machine.
//!
//! Opened by the node's start-up. What it promises beyond RocksDB: a second process, a newer schema,
//! a lost or foreign column family, a vanished `CURRENT` file and damage before an intact record are refused with an
//! error that names them, and nothing is changed or repaired on the way. A torn last record (nobody was told that it
//! is saved) is dropped. Every call blocks.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, Cache, ChecksumType, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, Direction, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch,
    WriteBufferManager, WriteOptions,
};

use super::{Batch, Durability, Engine, EngineError, Row, ScanRange, Write, wal};
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
    db: DB,
    path: PathBuf,
}

impl RocksEngine {
    /// Opens the database in `path`, or creates it (with its directory) if there is none.
    ///
    /// # Errors
    /// - [`EngineError::AlreadyOpen`]: another process has it open, or this one has.
    /// - [`EngineError::NewerSchema`]: a newer program wrote it; nothing was changed.
    /// - [`EngineError::Damaged`]: files are missing or broken in a way a crash cannot explain; nothing was repaired.
    /// - [`EngineError::Io`]: the directory or a file cannot be used.
    pub fn open(path: impl AsRef<Path>, options: &RocksOptions) -> Result<Self, EngineError> {
        let path = path.as_ref();
        fs::create_dir_all(path)
            .map_err(|error| EngineError::io(&format!("create {}", path.display()), &error))?;
        let is_new = !path
            .join("CURRENT")
            .try_exists()
            .map_err(|error| EngineError::io(&format!("look into {}", path.display()), &error))?;
        let is_complete = if is_new {
            refuse_remains(path)?;
            false
        } else {
            let is_complete = check_families(path, options)?;
            if let Err(damage) = wal::check_directory(path) {
                // A log that is being written looks torn to a reader: ask first whether somebody writes it.
                return Err(if is_locked(path) {
                    EngineError::AlreadyOpen { path: path.to_owned() }
                } else {
                    damage
                });
            }
            is_complete
        };

        let mut database = database_options(options);
        database.create_if_missing(is_new);
        // Only while creation is unfinished: later a missing family is damage, not a wish for an empty one.
        database.create_missing_column_families(!is_complete);
        let family = family_options(options, &mut database);
        let families = Family::ALL.iter().map(|f| ColumnFamilyDescriptor::new(f.name(), family.clone()));
        let db =
            DB::open_cf_descriptors(&database, path, families).map_err(|error| open_error(path, error))?;
        let engine = Self { db, path: path.to_owned() };
        engine.settle_schema()?;
        if is_new {
            sync_parent(path)?;
        }
        Ok(engine)
    }

    /// The data directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks the schema version, or writes it as the first batch of a new database. An older one stays: the store
    /// brings the rows up to date.
    fn settle_schema(&self) -> Result<(), EngineError> {
        if let Some(row) = self.get(Family::Meta, schema::SCHEMA_VERSION_KEY)? {
            schema::check_version(&row)?;
            return Ok(());
        }
        // Creation may have been cut short before this batch; then every family is still empty.
        for family in Family::ALL {
            if !self.scan(family, ScanRange::all(), 1)?.is_empty() {
                return Err(EngineError::damaged(format!(
                    "there are rows in {} but no schema version",
                    family.name()
                )));
            }
        }
        let mut first = Batch::new();
        first.put(Family::Meta, schema::SCHEMA_VERSION_KEY, schema::version_row());
        self.write(first, Durability::Synced)
    }

    fn handle(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("open() opens every family")
    }

    fn collect(
        &self,
        family: Family,
        range: ScanRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Row>, EngineError> {
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
        self.db
            .iterator_cf_opt(self.handle(family), read, mode)
            .take(limit)
            .map(|row| row.map(|(key, value)| (key.into_vec(), value.into_vec())).map_err(use_error))
            .collect()
    }
}

impl fmt::Debug for RocksEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksEngine").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Engine for RocksEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let mut rows = WriteBatch::with_capacity_bytes(batch.byte_len());
        for Write { family, key, value } in batch.writes() {
            match value {
                Some(value) => rows.put_cf(self.handle(*family), key, value),
                None => rows.delete_cf(self.handle(*family), key),
            }
        }
        let mut write = WriteOptions::default();
        write.set_sync(durability == Durability::Synced);
        self.db.write_opt(rows, &write).map_err(use_error)
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.db.get_cf(self.handle(family), key).map_err(use_error)
    }

    fn scan(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.collect(family, range, limit, Direction::Forward)
    }

    fn scan_back(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.collect(family, range, limit, Direction::Reverse)
    }
}

/// Refuses to create a database where one was.
///
/// Without `CURRENT`, RocksDB takes the directory for empty, creates a new database and deletes the old one's files.
/// Creation itself writes the first manifest before `CURRENT`, so that one alone may be there.
fn refuse_remains(path: &Path) -> Result<(), EngineError> {
    let reading = |error| EngineError::io(&format!("read {}", path.display()), &error);
    for entry in fs::read_dir(path).map_err(reading)? {
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

/// Whether exactly our families are there; an unfinished creation lacks some.
///
/// A newer program's database may have other families, with which it cannot be opened for writing at all; its version
/// is read without changing it, so that the error is the right one.
fn check_families(path: &Path, options: &RocksOptions) -> Result<bool, EngineError> {
    let mut database = database_options(options);
    let found = DB::list_cf(&database, path).map_err(|error| open_error(path, error))?;
    let is_ours = |name: &str| Family::ALL.iter().any(|family| family.name() == name);
    let unknown: Vec<&String> =
        found.iter().filter(|name| *name != rocksdb::DEFAULT_COLUMN_FAMILY_NAME && !is_ours(name)).collect();
    let missing: Vec<&str> =
        Family::ALL.iter().map(|f| f.name()).filter(|name| !found.iter().any(|f| f == name)).collect();
    if unknown.is_empty() && missing.is_empty() {
        return Ok(true);
    }

    let mut version = None;
    if !missing.contains(&Family::Meta.name()) {
        let family = family_options(options, &mut database);
        let families = found.iter().map(|name| ColumnFamilyDescriptor::new(name, family.clone()));
        let db = DB::open_cf_descriptors_read_only(&database, path, families, false)
            .map_err(|error| open_error(path, error))?;
        let meta = db.cf_handle(Family::Meta.name()).expect("it was found and opened");
        if let Some(row) = db.get_cf(meta, schema::SCHEMA_VERSION_KEY).map_err(use_error)? {
            version = Some(schema::check_version(&row)?);
        }
    }
    if version.is_some() || !unknown.is_empty() {
        return Err(EngineError::damaged(format!(
            "column families do not fit: {missing:?} missing, {unknown:?} unknown"
        )));
    }
    Ok(false)
}

/// Whether a process holds the lock of the database in `path`; changes nothing there but RocksDB's own text log.
fn is_locked(path: &Path) -> bool {
    // Takes the lock, then refuses because a database exists, then lets the lock go.
    let mut probe = Options::default();
    probe.set_error_if_exists(true);
    DB::open(&probe, path).is_err_and(|error| is_lock_error(error.as_ref()))
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
        _ => EngineError::Io { reason: error.into() },
    }
}

fn use_error(error: rocksdb::Error) -> EngineError {
    match error.kind() {
        ErrorKind::Corruption => EngineError::damaged(error),
        _ => EngineError::Io { reason: error.into() },
    }
}
