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

/// One figure of a [`Benchmark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// What one core hashes.
    CpuSingle,
    /// What all cores hash together.
    CpuMulti,
    /// What is copied within memory.
    Memory,
    /// What is written to the disk in order.
    DiskWrite,
    /// Writes that are synced one by one.
    DiskSyncs,
    /// Steps of a WebAssembly program.
    Wasm,
}

impl Figure {
    /// All of them, in the order in which they are measured and shown.
    pub const ALL: [Self; 6] =
        [Self::CpuSingle, Self::CpuMulti, Self::Memory, Self::DiskWrite, Self::DiskSyncs, Self::Wasm];

    /// Its value; 0 if it was not measured.
    pub fn of(self, benchmark: &Benchmark) -> u32 {
        match self {
            Self::CpuSingle => benchmark.cpu_single,
            Self::CpuMulti => benchmark.cpu_multi,
            Self::Memory => benchmark.memory,
            Self::DiskWrite => benchmark.disk_write,
            Self::DiskSyncs => benchmark.disk_syncs,
            Self::Wasm => benchmark.wasm,
        }
    }

    /// Where its value is kept.
    pub fn of_mut(self, benchmark: &mut Benchmark) -> &mut u32 {
        match self {
            Self::CpuSingle => &mut benchmark.cpu_single,
            Self::CpuMulti => &mut benchmark.cpu_multi,
            Self::Memory => &mut benchmark.memory,
            Self::DiskWrite => &mut benchmark.disk_write,
            Self::DiskSyncs => &mut benchmark.disk_syncs,
            Self::Wasm => &mut benchmark.wasm,
        }
    }

    /// Its name in preferences, and of the field.
    pub fn key(self) -> &'static str {
        match self {
            Self::CpuSingle => "cpu_single",
            Self::CpuMulti => "cpu_multi",
            Self::Memory => "memory",
            Self::DiskWrite => "disk_write",
            Self::DiskSyncs => "disk_syncs",
            Self::Wasm => "wasm",
        }
    }

    /// What a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CpuSingle => "one core",
            Self::CpuMulti => "all cores",
            Self::Memory => "memory",
            Self::DiskWrite => "disk",
            Self::DiskSyncs => "disk syncs",
            Self::Wasm => "wasm",
        }
    }

    /// A value of it with its unit; 0 is what was not measured.
    pub fn text(self, value: u32) -> String {
        match (self, value) {
            (_, 0) => "not measured".to_owned(),
            (Self::DiskSyncs, value) => format!("{value} a second"),
            (Self::Wasm, value) => format!("{value} M steps/s"),
            // From here on the last digits of MiB are no use to anybody.
            (_, mib @ 10_240..) => format!("{:.1} GiB/s", f64::from(mib) / 1024.0),
            (_, mib) => format!("{mib} MiB/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_in_units_that_a_person_reads() {
        let table = [
            (Figure::CpuSingle, 0, "not measured"),
            (Figure::CpuSingle, 412, "412 MiB/s"),
            (Figure::CpuMulti, 10_239, "10239 MiB/s"),
            (Figure::Memory, 10_240, "10.0 GiB/s"),
            (Figure::Memory, u32::MAX, "4194304.0 GiB/s"),
            (Figure::DiskWrite, 1, "1 MiB/s"),
            (Figure::DiskSyncs, 20_000, "20000 a second"),
            (Figure::Wasm, 312, "312 M steps/s"),
        ];
        for (figure, value, text) in table {
            assert_eq!(figure.text(value), text);
        }
    }
}
