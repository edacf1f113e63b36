//! What the disk does where the data directory is: long writes in order, and short ones that are synced one by one.
//!
//! The file has no name (or loses it in the moment it is made), so it is gone with the process, however that ends. Syncs
//! are counted, since without them it would be memory that is measured. Where the system does not sync a file without
//! a name (btrfs leaves out its log for one), the rate of syncs is better than what the books get.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dms_messages::DiskMib;

use super::runs::{Budget, Run, repeat};
use super::{BenchmarkError, MIB, per_second};
use crate::host;

/// Longest file; longer than what the buffers of most disks take.
const MOST: DiskMib = DiskMib(256);
/// The part of the free disk that the file takes at most.
const PART: u64 = 4;
/// Shortest file: one of the short runs.
const LEAST: DiskMib = DiskMib(4);
/// What one run writes in order, in MiB: the sync at its end is a small part of it.
const LONG: u64 = 32;
/// The same on a disk that would take too long for it, and of the write that finds that out.
const SHORT: u64 = 4;
/// A disk that takes longer than this for a short run has short runs.
const SLOW: Duration = Duration::from_millis(100);
/// How much is handed to the system at a time, in bytes.
const PIECE: usize = 1 << 20;
/// What is synced at a time, in bytes: a page, as an event of the books is.
const PAGE: usize = 4096;
/// How long one run of syncs takes: many of them, so that the odd slow one is a part of every run.
const SYNCS_TIME: Duration = Duration::from_millis(50);

/// A file without a name, and what is written to it.
struct Scratch {
    file: File,
    path: PathBuf,
    bytes: Vec<u8>,
    /// How long it may become.
    length: u64,
    at: u64,
}

impl Scratch {
    fn new(data: &Path) -> Result<Self, BenchmarkError> {
        let path = host::existing(data).to_path_buf();
        let failed = |source| failure(&path, source);
        // First of all, so that what is not writable is called so.
        let file = tempfile::tempfile_in(&path).map_err(failed)?;
        let space = rustix::fs::statvfs(&path).map_err(|error| failure(&path, error.into()))?;
        let free = DiskMib(space.f_bavail.saturating_mul(space.f_frsize) / MIB);
        let length = MOST.min(DiskMib(free.0 / PART));
        if length < LEAST {
            return Err(full(&path));
        }
        // Nothing that a file system or a disk could make shorter.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = Vec::with_capacity(PIECE);
        while bytes.len() < PIECE {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        Ok(Self { file, path, bytes, length: length.0 * MIB, at: 0 })
    }

    /// Writes `length` bytes behind what was written last, from the beginning when there is no room for them.
    fn write(&mut self, length: usize) -> Result<(), BenchmarkError> {
        let write = |scratch: &mut Self| {
            if scratch.at + length as u64 > scratch.length {
                scratch.at = 0;
                scratch.file.seek(SeekFrom::Start(0))?;
            }
            scratch.file.write_all(&scratch.bytes[..length])
        };
        write(self).map_err(|source| failure(&self.path, source))?;
        self.at += length as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BenchmarkError> {
        self.file.sync_data().map_err(|source| failure(&self.path, source))
    }
}

fn full(path: &Path) -> BenchmarkError {
    BenchmarkError::DiskFull { path: path.to_path_buf(), needed: DiskMib(LEAST.0 * PART) }
}

/// What went wrong with the disk, in words that say what helps.
fn failure(path: &Path, source: io::Error) -> BenchmarkError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(path),
        _ => BenchmarkError::Disk { path: path.to_path_buf(), source },
    }
}

/// Long writes.
struct Long<'a, 'b> {
    scratch: Scratch,
    budget: &'a Budget<'b>,
    mib: u64,
}

impl Run for Long<'_, '_> {
    fn run(&mut self) -> Result<u64, BenchmarkError> {
        for _ in 0..self.mib {
            // A slow disk is not waited for longer than for a piece.
            self.budget.check()?;
            self.scratch.write(PIECE)?;
        }
        self.scratch.sync()?;
        Ok(self.mib * MIB)
    }
}

/// Short, synced writes.
struct Synced(Scratch);

impl Run for Synced {
    fn run(&mut self) -> Result<u64, BenchmarkError> {
        let started = Instant::now();
        let mut count = 0;
        while count == 0 || started.elapsed() < SYNCS_TIME {
            self.0.write(PAGE)?;
            self.0.sync()?;
            count += 1;
        }
        Ok(count)
    }
}

/// MiB written in order in a second, the sync at the end included.
pub(super) fn written(data: &Path, budget: &Budget<'_>) -> Result<u32, BenchmarkError> {
    let mut long = Long { scratch: Scratch::new(data)?, budget, mib: SHORT };
    let started = Instant::now();
    long.run()?;
    if started.elapsed() < SLOW && long.scratch.length >= LONG * MIB {
        long.mib = LONG;
    }
    repeat(budget, &mut long).map(|rate| per_second(rate, MIB))
}

/// Writes of 4 KiB, each synced before the next, in a second.
pub(super) fn synced(data: &Path, budget: &Budget<'_>) -> Result<u32, BenchmarkError> {
    budget.check()?;
    repeat(budget, &mut Synced(Scratch::new(data)?)).map(|rate| per_second(rate, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_one_that_cannot_be_written() {
        let path = Path::new("/data");
        let table = [
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::QuotaExceeded, true),
            (io::ErrorKind::PermissionDenied, false),
            (io::ErrorKind::ReadOnlyFilesystem, false),
        ];
        for (kind, is_full) in table {
            let error = failure(path, kind.into());
            assert_eq!(matches!(error, BenchmarkError::DiskFull { .. }), is_full, "{kind:?}");
            assert!(error.to_string().contains("/data"), "{error}");
        }
    }

    #[test]
    fn a_file_stays_within_its_length_and_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::new(directory.path()).unwrap();
        scratch.length = 3 * PAGE as u64;
        for _ in 0..10 {
            scratch.write(PAGE).unwrap();
            scratch.sync().unwrap();
        }
        assert_eq!(scratch.file.metadata().unwrap().len(), scratch.length);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "also while it is written");
    }
}
