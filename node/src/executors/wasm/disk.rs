//! Holds a guest to its disk grant by looking at its output directory from time to time.
//!
//! [`super::guest`] looks at epoch yields, [`super::Run`] once more at the end. Between two looks a guest
//! can run ahead of its grant by what the disk takes in that time; the grant is a limit on what may stay,
//! not a quota of the file system.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::executors::{ExecutionFailure, Gauge};

/// Files, directories and links a guest may have in its output directory. Each one costs an inode and a
/// step of every later walk.
pub(super) const ENTRIES_MAX: usize = 4096;

/// Directories within directories. Deeper ones reach the longest path a system takes and could not be
/// measured or removed.
const DEPTH_MAX: usize = 32;

/// Shortest time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A look that took long is paid for with this many times its length of peace.
const LOOK_COST_FACTOR: u32 = 20;

/// Looks at one guest's output directory, not too often.
#[derive(Debug)]
pub(super) struct DiskWatch {
    directory: PathBuf,
    granted_bytes: u64,
    next_look: Instant,
    gauge: Arc<Gauge>,
}

impl DiskWatch {
    pub(super) fn new(directory: PathBuf, granted_bytes: u64, gauge: Arc<Gauge>) -> Self {
        Self { directory, granted_bytes, next_look: Instant::now() + LOOK_INTERVAL, gauge }
    }

    /// Looks if it is time to.
    ///
    /// # Errors
    /// `DiskExceeded` if the guest has more than it was granted, `Host` if the directory cannot be read.
    pub(super) fn check(&mut self) -> Result<(), ExecutionFailure> {
        let began = Instant::now();
        if began < self.next_look {
            return Ok(());
        }
        self.gauge.set_disk(check(&self.directory, self.granted_bytes)?);
        let ended = Instant::now();
        self.next_look = ended + LOOK_INTERVAL.max((ended - began) * LOOK_COST_FACTOR);
        Ok(())
    }
}

/// Measures `directory` once: how many bytes it holds.
///
/// # Errors
/// `DiskExceeded` if it holds more than `granted_bytes`, more than [`ENTRIES_MAX`] entries, or directories
/// too deep to measure; `Host` if it cannot be read.
pub(super) fn check(directory: &Path, granted_bytes: u64) -> Result<u64, ExecutionFailure> {
    match measure(directory, granted_bytes) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(ExecutionFailure::DiskExceeded { granted_bytes }),
        Err(error) => Err(ExecutionFailure::Host(format!("the output directory cannot be read: {error}"))),
    }
}

/// The bytes in `directory`; none if they are more than granted. Walks without following links. Lengths are counted as they appear, so that a sparse file counts in full
/// and a file with two names twice: both are what a copy of the directory would take.
fn measure(directory: &Path, granted_bytes: u64) -> io::Result<Option<u64>> {
    let mut bytes = deleted_but_open_bytes(directory);
    let mut entry_count = 0;
    // Paths wait here, not handles: a wide tree must not cost the node its file descriptors.
    let mut pending = vec![(directory.to_path_buf(), 0)];
    while let Some((path, depth)) = pending.pop() {
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // What the guest made too long or too strange to measure is not granted.
            Err(_) => return Ok(None),
        };
        for entry in entries {
            let entry = entry?;
            entry_count += 1;
            if entry_count > ENTRIES_MAX {
                return Ok(None);
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => {
                    if depth == DEPTH_MAX {
                        return Ok(None);
                    }
                    pending.push((entry.path(), depth + 1));
                }
                Ok(metadata) => bytes = bytes.saturating_add(metadata.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => return Ok(None),
            }
        }
        if bytes > granted_bytes {
            return Ok(None);
        }
    }
    Ok((bytes <= granted_bytes).then_some(bytes))
}

/// Bytes of files that were deleted from `directory` but are still open: they take disk and no walk finds
/// them. Linux names them among the process's own descriptors; elsewhere they go uncounted until closed.
fn deleted_but_open_bytes(directory: &Path) -> u64 {
    use std::os::unix::ffi::OsStrExt;

    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return 0 };
    descriptors
        .flatten()
        .filter_map(|descriptor| {
            let target = fs::read_link(descriptor.path()).ok()?;
            let is_ours =
                target.starts_with(directory) && target.as_os_str().as_bytes().ends_with(b" (deleted)");
            // The descriptor may have been closed, and its number taken by another, since it was listed.
            // That is seen again on the next look; here it can only count too little.
            is_ours.then(|| fs::metadata(descriptor.path()).ok()).flatten()
        })
        .filter(fs::Metadata::is_file)
        .fold(0, |sum, metadata| sum.saturating_add(metadata.len()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn is_exceeded(directory: &Path, granted_bytes: u64) -> io::Result<bool> {
        measure(directory, granted_bytes).map(|bytes| bytes.is_none())
    }

    #[test]
    fn lengths_add_up_to_the_limit_and_not_over() {
        let directory = directory();
        fs::create_dir(directory.path().join("inner")).unwrap();
        fs::write(directory.path().join("a"), [0; 600]).unwrap();
        fs::write(directory.path().join("inner/b"), [0; 400]).unwrap();
        assert_eq!(measure(directory.path(), 1000).unwrap(), Some(1000));
        assert!(is_exceeded(directory.path(), 999).unwrap());
    }

    #[test]
    fn links_are_not_followed() {
        let (directory, outside) = (directory(), directory());
        fs::write(outside.path().join("big"), [0; 100_000]).unwrap();
        std::os::unix::fs::symlink(outside.path(), directory.path().join("there")).unwrap();
        std::os::unix::fs::symlink(directory.path(), directory.path().join("round")).unwrap();
        assert!(!is_exceeded(directory.path(), 1000).unwrap());
    }

    #[test]
    fn sparse_files_count_in_full() {
        let directory = directory();
        fs::File::create(directory.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert!(is_exceeded(directory.path(), 1 << 30).unwrap());
    }

    #[test]
    fn too_many_entries_and_too_deep_trees_are_refused() {
        let wide = directory();
        for number in 0..=ENTRIES_MAX {
            fs::File::create(wide.path().join(number.to_string())).unwrap();
        }
        assert!(is_exceeded(wide.path(), 1 << 30).unwrap());
        fs::remove_file(wide.path().join("0")).unwrap();
        assert!(!is_exceeded(wide.path(), 1 << 30).unwrap());

        let deep = directory();
        let mut path = deep.path().to_path_buf();
        for _ in 0..DEPTH_MAX {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        assert!(!is_exceeded(deep.path(), 1 << 30).unwrap());
        fs::create_dir(path.join("d")).unwrap();
        assert!(is_exceeded(deep.path(), 1 << 30).unwrap());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_deleted_file_that_is_still_open_counts() {
        let directory = directory();
        let root = directory.path().canonicalize().unwrap();
        let mut file = fs::File::create(root.join("hidden")).unwrap();
        file.write_all(&[0; 5000]).unwrap();
        fs::remove_file(root.join("hidden")).unwrap();
        assert!(is_exceeded(&root, 4999).unwrap());
        drop(file);
        assert!(!is_exceeded(&root, 0).unwrap());
    }

    #[test]
    fn a_directory_that_vanished_is_the_hosts_failure() {
        let directory = directory();
        let gone = directory.path().join("gone");
        assert!(matches!(check(&gone, 1), Err(ExecutionFailure::Host(_))));
    }
}
