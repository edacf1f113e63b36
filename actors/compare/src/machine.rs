//! What is asked of the operating system: memory, and which core a thread runs on. Linux only.

use anyhow::Context;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps the calling thread on one core, counted from 0; on a machine with fewer, it stays free.
pub fn pin(core: usize) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if core < cores {
        let mut only = CpuSet::new();
        only.set(core);
        // A system that forbids it shows in the figures of all frameworks alike.
        let _ = sched_setaffinity(None, &only);
    }
}

/// Resident memory in bytes.
pub fn resident() -> anyhow::Result<f64> {
    status("VmRSS:")
}

/// The most resident memory so far in bytes.
pub fn peak_resident() -> anyhow::Result<f64> {
    status("VmHWM:")
}

fn status(key: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc is needed")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(key)).context("a line of status is missing")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0)
}
