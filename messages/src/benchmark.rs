//! `Benchmark`: how fast a machine is, as it has measured itself.

use serde::{Deserialize, Serialize};

/// How fast a machine is, as it has measured itself: a claim, for ranking, never for fitting. More is better
/// everywhere; 0 is what was not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Benchmark {
    /// MiB that one core hashes with SHA-256 in a second.
    pub cpu_single: u32,
    /// MiB that all cores together hash with SHA-256 in a second.
    pub cpu_multi: u32,
    /// MiB that are copied within memory in a second, all cores together.
    pub memory: u32,
    /// MiB that are written to the data directory's disk in a second, in order, the last sync included.
    pub disk_write: u32,
    /// Writes of 4 KiB, each synced before the next, in a second.
    pub disk_syncs: u32,
    /// Millions of steps that a WebAssembly program does in a second on one core.
    pub wasm: u32,
}
