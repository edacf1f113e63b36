//! Finds out, before RocksDB touches anything, whether this process may use a data directory and has room in it.
//!
//! Called by `RocksEngine` when it opens or reopens. RocksDB reports a wrong owner, a read-only mount and a full disk
//! as "IO error" with whatever file it stumbled over first, sometimes after it has moved others; a person needs the
//! cause and the path. Nothing is left behind but what was there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::EngineError;

/// The file that is made and removed to see whether anything can be written. RocksDB leaves foreign names alone.
const PROBE_NAME: &str = "room.probe";

/// How much must fit on the disk: the flush of one family's write buffer (4 MiB by default), and what RocksDB sets
/// aside for a manifest (4 MiB), which it gives back when a full disk stops it. With less, a reopened database would
/// soon stop again.
pub(super) const ROOM_BYTES: usize = 8 * 1024 * 1024;

/// Refuses a directory in which this process cannot create files, or whose files it cannot read and write.
pub(super) fn check_writable(directory: &Path) -> Result<(), EngineError> {
    check_files(directory, true)?;
    probe(directory, 1)
}

/// Refuses a directory whose files this process cannot read.
pub(super) fn check_readable(directory: &Path) -> Result<(), EngineError> {
    check_files(directory, false)
}

/// Refuses a disk without room for [`ROOM_BYTES`] more.
pub(super) fn check_room(directory: &Path) -> Result<(), EngineError> {
    probe(directory, ROOM_BYTES)
}

fn probe(directory: &Path, bytes: usize) -> Result<(), EngineError> {
    let path = directory.join(PROBE_NAME);
    let written = write_probe(&path, bytes);
    let removed = fs::remove_file(&path);
    let error = match (written, removed) {
        (Ok(()), Ok(())) => return Ok(()),
        (Err(error), _) => error,
        (_, Err(error)) => error,
    };
    if !is_refusal(&error) {
        return Err(EngineError::io(&format!("write {}", path.display()), &error));
    }
    // A directory of somebody else's, or one that nobody may write to now.
    Err(match fs::metadata(directory) {
        Ok(found) if error.kind() == io::ErrorKind::PermissionDenied && Some(found.uid()) != own_user() => {
            EngineError::NotOurs { path: directory.to_owned(), owner: found.uid() }
        }
        _ => EngineError::ReadOnlyDirectory { path: directory.to_owned() },
    })
}

fn write_probe(path: &Path, bytes: usize) -> io::Result<()> {
    let mut file = File::create(path)?;
    // Not zeros, which some file systems do not store.
    file.write_all(&vec![0xa5; bytes])?;
    // Space is often taken only now; what cannot be synced is no room.
    file.sync_all()
}

/// Opens every file in the way the database will, without changing any.
fn check_files(directory: &Path, for_writing: bool) -> Result<(), EngineError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if is_refusal(&error) => return Err(refused(directory, &error)),
        other => other.map_err(|error| EngineError::io(&format!("read {}", directory.display()), &error))?,
    };
    for entry in entries {
        let path =
            entry.map_err(|error| EngineError::io(&format!("read {}", directory.display()), &error))?.path();
        // Follows links, and leaves out what is no file: RocksDB has no directories, and a pipe would block.
        if !fs::metadata(&path).is_ok_and(|found| found.is_file()) {
            continue;
        }
        match OpenOptions::new().read(true).write(for_writing).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                return Err(EngineError::ReadOnlyDirectory { path: directory.to_owned() });
            }
            Err(error) if is_refusal(&error) => return Err(refused(&path, &error)),
            // Gone meanwhile, out of handles, a broken disk: opening the database meets it again and says it better.
            _ => {}
        }
    }
    Ok(())
}

fn refused(path: &Path, error: &io::Error) -> EngineError {
    match fs::metadata(path) {
        Ok(found) => EngineError::NotOurs { path: path.to_owned(), owner: found.uid() },
        Err(_) => EngineError::io(&format!("read {}", path.display()), error),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// The user this process runs as; none where there is no `/proc`.
fn own_user() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|found| found.uid())
}
