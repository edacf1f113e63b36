//! What a running guest uses now: written by its executor as it goes, read by whoever looks.
//!
//! A gauge and not a message: a guest's numbers change a hundred times a second and are looked at every few seconds,
//! so the executor stores them where they cost it an instruction and nobody waits for anybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The live numbers of one guest. Each is right by itself; together they are of about the same moment.
#[derive(Debug, Default)]
pub struct Gauge {
    cpu_micros: AtomicU64,
    memory_bytes: AtomicU64,
    peak_memory_bytes: AtomicU64,
    disk_bytes: AtomicU64,
}

/// What a guest uses at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveUsage {
    /// How long it kept a processor busy so far. A guest that the system preempts is charged as if it ran.
    pub cpu: Duration,
    /// Linear memory now, in bytes.
    pub memory_bytes: u64,
    /// The most linear memory so far, in bytes.
    pub peak_memory_bytes: u64,
    /// What lay in its output directory when it was looked at last, in bytes.
    pub disk_bytes: u64,
}

impl Gauge {
    /// The guest kept its thread busy for so much longer.
    pub fn add_cpu(&self, busy: Duration) {
        let micros = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
        self.cpu_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The guest has this much memory now.
    pub fn set_memory(&self, bytes: u64) {
        self.memory_bytes.store(bytes, Ordering::Relaxed);
        self.peak_memory_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// The guest's output directory holds this much.
    pub fn set_disk(&self, bytes: u64) {
        self.disk_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What it shows now.
    pub fn read(&self) -> LiveUsage {
        LiveUsage {
            cpu: Duration::from_micros(self.cpu_micros.load(Ordering::Relaxed)),
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            peak_memory_bytes: self.peak_memory_bytes.load(Ordering::Relaxed),
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_adds_up_the_peak_stays_and_the_rest_is_as_it_was_last() {
        let gauge = Gauge::default();
        assert_eq!(gauge.read(), LiveUsage::default());
        for (busy, memory, disk) in [(10, 100, 5), (30, 300, 50), (0, 200, 0)] {
            gauge.add_cpu(Duration::from_millis(busy));
            gauge.set_memory(memory);
            gauge.set_disk(disk);
        }
        let usage = LiveUsage {
            cpu: Duration::from_millis(40),
            memory_bytes: 200,
            peak_memory_bytes: 300,
            disk_bytes: 0,
        };
        assert_eq!(gauge.read(), usage);
    }
}
