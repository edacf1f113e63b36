//! Copies a database aside while it runs, and puts such a copy in the place of a database.
//!
//! ```text
//! DIR/backup.json    what the copy is, and the SHA-256 of each of its files; written last
//! DIR/books/         a database of its own, opened and checked once
//! ```
//!
//! A restore trusts nothing: every file must be there with its digest, the copy is opened and checked beside the
//! target, and only then takes its place. The database that was there is moved aside and never deleted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dms_messages::{Did, NodeCard, Signed, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::check::{CheckReport, check};
use super::hex;
use crate::engine::{BEFORE, Engine, EngineError, RESTORING, RocksEngine, RocksOptions, refuse_existing};
use crate::log::EventLog;
use crate::migration;
use crate::rows::{self, Row};
use crate::schema::{Family, SCHEMA_VERSION};
use crate::store::StoreError;

/// The file that says what a backup is.
pub const BACKUP_FILE: &str = "backup.json";
/// The directory in a backup that holds the database.
pub const BACKUP_DATABASE: &str = "books";
/// The only form of [`Manifest`] so far.
const FORMAT: u32 = 1;
/// Longest `backup.json` that is read. Bytes: thousands of files.
const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
/// How much of a file is copied and hashed at a time. Bytes.
const COPY_BYTES: usize = 256 * 1024;

/// What a backup is: the contents of `backup.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this file: 1.
    pub format: u32,
    /// The schema version of the rows.
    pub schema: u32,
    /// The last event; none if there never was one.
    pub last_event: Option<u64>,
    /// Whose books these are, if the node had a name.
    pub owner: Option<Did>,
    /// When it was made, in milliseconds since 1970-01-01 UTC.
    pub at: Timestamp,
    /// Each file of the database, by name.
    pub files: BTreeMap<String, FileDigest>,
}

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Its length in bytes.
    pub bytes: u64,
    /// The SHA-256 of its contents, in lower-case hexadecimal.
    pub sha256: String,
}

/// What was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    /// Where the backup lies.
    pub directory: PathBuf,
    /// The schema version of the rows.
    pub schema: u32,
    /// The last event in it; none if there never was one.
    pub last_event: Option<u64>,
    /// Whose books these are, if the node had a name.
    pub owner: Option<Did>,
    /// When it was made.
    pub at: Timestamp,
    /// How many files the database has.
    pub files: u64,
    /// How long they are together, in bytes.
    pub bytes: u64,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// Where the database lies now.
    pub database: PathBuf,
    /// Where the one that was there lies now; none if there was none.
    pub moved_aside: Option<PathBuf>,
    /// The schema version of the rows.
    pub schema: u32,
    /// The last event; none if there never was one.
    pub last_event: Option<u64>,
    /// Whose books these are, if the node had a name.
    pub owner: Option<Did>,
    /// When the backup was made.
    pub made: Timestamp,
    /// How many files were copied.
    pub files: u64,
    /// How long they are together, in bytes.
    pub bytes: u64,
}

/// Why no backup was made. The directory is removed again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The engine failed, or there is something where the backup was to be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An older program wrote the database; nothing was copied. Started once, the node brings it to this version.
    #[error(
        "the database has schema version {found} and is brought to {SCHEMA_VERSION} when the node starts: start it \
         once, then back it up"
    )]
    OlderSchema {
        /// The version on disk.
        found: u32,
    },
    /// The copy could not be read.
    #[error("the copy cannot be checked")]
    Store(#[from] StoreError),
    /// The books themselves are not sound, so neither would the backup be.
    #[error("the books are not sound, and neither would their backup be: {}", first_finding(.0))]
    Unsound(Box<CheckReport>),
}

/// Why a backup was not restored. The database that was there is untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// This directory is no backup, or an unfinished one.
    #[error("{} is no finished backup: {reason}", path.display())]
    NotABackup {
        /// The directory.
        path: PathBuf,
        /// What is missing or cannot be read.
        reason: String,
    },
    /// A file is not what was backed up.
    #[error("{} is not as it was backed up: {reason}", path.display())]
    FileDiffers {
        /// The file.
        path: PathBuf,
        /// How it differs.
        reason: String,
    },
    /// The engine failed: the database is in use, the disk is full, the backup is of a newer schema.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The copy could not be read.
    #[error("the restored copy cannot be checked")]
    Store(#[from] StoreError),
    /// The copy is as it was backed up and does not hold all the same.
    #[error("the restored copy is not sound: {}", first_finding(.0))]
    Unsound(Box<CheckReport>),
}

fn first_finding(report: &CheckReport) -> String {
    match report.findings.first() {
        Some(finding) => format!("{}: {}", finding.place, finding.what),
        None => "nothing was found".to_owned(),
    }
}

/// Copies the database of `engine` into the new directory `directory`, while the node goes on, and checks the copy.
///
/// `at` is the time now. On the same file system it costs little space until the originals change.
///
/// # Errors
/// See [`BackupError`].
pub fn backup(engine: &dyn Engine, directory: &Path, at: Timestamp) -> Result<BackupReport, BackupError> {
    refuse_existing(directory)?;
    // Opening the copy would give it the newer families, and it would be neither version's.
    let found = migration::stored_version(engine)?;
    if found < SCHEMA_VERSION {
        return Err(BackupError::OlderSchema { found });
    }
    // It holds what its owner's jobs were told: nobody else looks into it.
    fs::DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .map_err(|error| failed("create", directory, &error))?;
    let made = fill(engine, directory, at);
    if made.is_err()
        && let Err(error) = fs::remove_dir_all(directory)
    {
        tracing::warn!(directory = %directory.display(), %error, "an unfinished backup could not be removed");
    }
    made
}

fn fill(engine: &dyn Engine, directory: &Path, at: Timestamp) -> Result<BackupReport, BackupError> {
    let database = directory.join(BACKUP_DATABASE);
    engine.checkpoint(&database)?;
    let (schema, last_event, owner) = {
        let copy = RocksEngine::open_existing(&database, &RocksOptions::default())?;
        let report = check(&copy)?;
        if !report.is_sound() {
            return Err(BackupError::Unsound(Box::new(report)));
        }
        (migration::stored_version(&copy)?, EventLog::last_sequence(&copy)?, owner(&copy)?)
    };
    let mut files = BTreeMap::new();
    for name in file_names(&database)? {
        let digest = copy_file(&database.join(&name), None)?;
        files.insert(name, digest);
    }
    let manifest = Manifest { format: FORMAT, schema, last_event, owner, at, files };
    let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is numbers and text");
    write_new(&directory.join(BACKUP_FILE), &text)?;
    sync_directory(directory)?;
    if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_directory(parent)?;
    }
    Ok(BackupReport {
        directory: directory.to_owned(),
        schema,
        last_event,
        owner,
        at,
        files: manifest.files.len() as u64,
        bytes: manifest.files.values().map(|file| file.bytes).sum(),
    })
}

/// Puts the backup in `from` in the place of the database in `to`, which nobody may have open, or which is not there.
///
/// `at` is the time now: what was in `to` is moved to `<to>.before-<time>` beside it.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(from: &Path, to: &Path, at: Timestamp) -> Result<RestoreReport, RestoreError> {
    let manifest = read_manifest(from)?;
    let is_there = match fs::symlink_metadata(to) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed("look at", to, &error).into()),
    };
    if is_there {
        RocksEngine::refuse_in_use(to)?;
    }
    let time = file_time(at);
    let staged = beside(to, &format!("{RESTORING}{time}"))?;
    let moved_aside = if is_there { Some(beside(to, &format!("{BEFORE}{time}"))?) } else { None };
    for path in [Some(&staged), moved_aside.as_ref()].into_iter().flatten() {
        refuse_existing(path)?;
    }
    if let Err(error) = stage(from, &manifest, &staged) {
        if let Err(error) = fs::remove_dir_all(&staged) {
            tracing::warn!(directory = %staged.display(), %error, "an unfinished restore could not be removed");
        }
        return Err(error);
    }
    if let Some(aside) = &moved_aside {
        fs::rename(to, aside).map_err(|error| failed("move", to, &error))?;
    }
    // Killed here, nothing is at `to`; the two beside it keep a node from beginning with empty books.
    if let Err(error) = fs::rename(&staged, to) {
        if let Some(aside) = &moved_aside {
            fs::rename(aside, to).map_err(|error| failed("move back", aside, &error))?;
        }
        return Err(failed("move", &staged, &error).into());
    }
    if let Some(parent) = to.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_directory(parent)?;
    }
    Ok(RestoreReport {
        database: to.to_owned(),
        moved_aside,
        schema: manifest.schema,
        last_event: manifest.last_event,
        owner: manifest.owner,
        made: manifest.at,
        files: manifest.files.len() as u64,
        bytes: manifest.files.values().map(|file| file.bytes).sum(),
    })
}

fn read_manifest(from: &Path) -> Result<Manifest, RestoreError> {
    let not_a_backup = |reason: String| RestoreError::NotABackup { path: from.to_owned(), reason };
    let path = from.join(BACKUP_FILE);
    let file = File::open(&path).map_err(|error| not_a_backup(format!("{BACKUP_FILE}: {error}")))?;
    let mut text = Vec::new();
    file.take(MAX_MANIFEST_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| not_a_backup(format!("{BACKUP_FILE}: {error}")))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| not_a_backup(format!("{BACKUP_FILE}: {error}")))?;
    if manifest.format != FORMAT {
        return Err(not_a_backup(format!("its form is {}, this program knows {FORMAT}", manifest.format)));
    }
    if manifest.schema > SCHEMA_VERSION {
        return Err(EngineError::NewerSchema { found: manifest.schema, known: SCHEMA_VERSION }.into());
    }
    // Names become paths below.
    let is_plain =
        |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    match manifest.files.keys().find(|name| !is_plain(name)) {
        Some(name) => Err(not_a_backup(format!("{name:?} is no name of a file"))),
        None => Ok(manifest),
    }
}

/// Copies the backup into the new directory `staged`, and checks what arrived.
fn stage(from: &Path, manifest: &Manifest, staged: &Path) -> Result<(), RestoreError> {
    let database = from.join(BACKUP_DATABASE);
    fs::create_dir(staged).map_err(|error| failed("create", staged, &error))?;
    if let Some(name) = file_names(&database)?.into_iter().find(|name| !manifest.files.contains_key(name)) {
        return Err(RestoreError::FileDiffers {
            path: database.join(name),
            reason: format!("it is not named in {BACKUP_FILE}"),
        });
    }
    for (name, wanted) in &manifest.files {
        let path = database.join(name);
        let differs = |reason| RestoreError::FileDiffers { path: path.clone(), reason };
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            return Err(differs("it is missing".to_owned()));
        }
        let found = copy_file(&path, Some(&staged.join(name)))?;
        if found.bytes != wanted.bytes {
            return Err(differs(format!("it is {} bytes long, not {}", found.bytes, wanted.bytes)));
        }
        if found.sha256 != wanted.sha256 {
            return Err(differs(format!("its SHA-256 is {}, not {}", found.sha256, wanted.sha256)));
        }
    }
    sync_directory(staged)?;
    let copy = RocksEngine::open_existing(staged, &RocksOptions::default())?;
    let report = check(&copy)?;
    if !report.is_sound() {
        return Err(RestoreError::Unsound(Box::new(report)));
    }
    let found = (migration::stored_version(&copy)?, EventLog::last_sequence(&copy)?, owner(&copy)?);
    if found != (manifest.schema, manifest.last_event, manifest.owner) {
        return Err(RestoreError::FileDiffers {
            path: from.join(BACKUP_FILE),
            reason: "its schema, last event or owner is not that of the files".to_owned(),
        });
    }
    Ok(())
}

/// Whose books these are.
fn owner(engine: &dyn Engine) -> Result<Option<Did>, EngineError> {
    let Some(row) = engine.get(Family::Meta, &Row::Card.key())? else { return Ok(None) };
    match rows::decode::<Signed<NodeCard>>(Family::Meta, &row) {
        Ok(card) => Ok(Some(card.issuer())),
        Err(_) => Err(EngineError::damaged("the node's card cannot be read")),
    }
}

/// The names of the files in a database's directory, in order; directories and links are none.
fn file_names(directory: &Path) -> Result<Vec<String>, EngineError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| failed("read", directory, &error))? {
        let entry = entry.map_err(|error| failed("read", directory, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_kept(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The lock and RocksDB's own text log are not the database.
fn is_kept(name: &str) -> bool {
    name != "LOCK" && name != "LOG" && !name.starts_with("LOG.old")
}

/// Reads a file to its end, writing it to the new file `to` if given; its length and digest.
fn copy_file(from: &Path, to: Option<&Path>) -> Result<FileDigest, EngineError> {
    let mut source = File::open(from).map_err(|error| failed("read", from, &error))?;
    let mut target = match to {
        Some(to) => Some((to, File::create_new(to).map_err(|error| failed("create", to, &error))?)),
        None => None,
    };
    let mut digest = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let length = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed("read", from, &error)),
        };
        digest.update(&buffer[..length]);
        bytes += length as u64;
        if let Some((to, file)) = &mut target {
            file.write_all(&buffer[..length]).map_err(|error| failed("write", to, &error))?;
        }
    }
    if let Some((to, file)) = target {
        file.sync_all().map_err(|error| failed("sync", to, &error))?;
    }
    Ok(FileDigest { bytes, sha256: hex(&digest.finalize()) })
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    File::create_new(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(|error| failed("write", path, &error))
}

fn sync_directory(path: &Path) -> Result<(), EngineError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| failed("sync", path, &error))
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> EngineError {
    EngineError::io(&format!("{doing} {}", path.display()), error)
}

/// `path` with `suffix` behind its last name.
fn beside(path: &Path, suffix: &str) -> Result<PathBuf, EngineError> {
    let Some(name) = path.file_name() else {
        return Err(EngineError::Io { reason: format!("{} is no place for a database", path.display()) });
    };
    let mut name = name.to_owned();
    name.push(suffix);
    Ok(path.with_file_name(name))
}

/// An instant as part of a file name that sorts by time: `20260131T235959Z`.
pub(super) fn file_time(at: Timestamp) -> String {
    let seconds = at.0 / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the Gregorian calendar, counting years from March so that leap days come last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}
