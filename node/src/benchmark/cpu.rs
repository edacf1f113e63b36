//! What the processor does: SHA-256, on one core and on all that this process may use.
//!
//! Hashing is what nodes do with every content and every document; it needs no memory beyond the caches, and every
//! processor has been built for it.

use std::hint::black_box;
use std::thread::available_parallelism;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::runs::{Budget, Run, repeat, together};
use super::{BenchmarkError, MIB, StopFlag, per_second};

/// What one run hashes: a fraction of a millisecond, so that many runs are not interrupted.
const BYTES: &[u8] = &[0x5a; 256 * 1024];
/// How long the quick look takes that every onboarding has.
const QUICK: Duration = Duration::from_millis(16);

struct Hash;

impl Run for Hash {
    fn run(&mut self) -> Result<u64, BenchmarkError> {
        black_box(Sha256::digest(black_box(BYTES)));
        Ok(BYTES.len() as u64)
    }
}

/// MiB a second on one core.
pub(super) fn single(budget: &Budget<'_>) -> Result<u32, BenchmarkError> {
    repeat(budget, &mut Hash).map(|rate| per_second(rate, MIB))
}

/// MiB a second on all cores together: as many as the process may use by its affinity and its group's limit.
pub(super) fn multi(budget: &Budget<'_>) -> Result<u32, BenchmarkError> {
    let cores = available_parallelism().map_or(1, usize::from);
    together(budget, (0..cores).map(|_| Hash).collect()).map(|rate| per_second(rate, MIB))
}

/// A quick look at one core, by the measure of [`single`]; 0 if there is none.
pub(crate) fn score() -> u32 {
    let stop = StopFlag::default();
    single(&Budget::new(QUICK, &stop)).unwrap_or(0)
}
