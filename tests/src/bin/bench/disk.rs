//! The floor under every promise: one small append and one sync, on the file system that the nodes use.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

/// What is appended before each sync: about a batch of the books.
const BLOCK: [u8; 4096] = [0xd5; 4096];

/// A file that is appended to and synced.
#[derive(Debug)]
pub(crate) struct Floor {
    file: File,
}

impl Floor {
    /// A new file in `directory`.
    pub(crate) fn new(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("floor");
        Ok(Self { file: File::create(&path).with_context(|| format!("cannot make {}", path.display()))? })
    }

    /// Appends 4 KiB and syncs the data; says how long both took. Blocks on the disk.
    pub(crate) fn sync(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.file
            .write_all(&BLOCK)
            .and_then(|()| self.file.sync_data())
            .context("cannot write to the disk")?;
        Ok(start.elapsed())
    }
}
