//! What the memory does: copying between buffers far larger than the caches, on all cores at once.

use std::hint::black_box;
use std::thread::available_parallelism;

use dms_messages::MemoryMib;

use super::runs::{Budget, Run, together};
use super::{BenchmarkError, MIB, per_second};
use crate::host;

/// What one run copies, in bytes: around a millisecond.
const PIECE: usize = 4 << 20;
/// All buffers together, at most: what a core has of it is more than its part of the largest caches.
const MOST: MemoryMib = MemoryMib(512);
/// A part of the memory free now that is taken at most: programs that run here need theirs.
const PART: u64 = 4;
/// All buffers together, at least: below that it would be the caches that are measured.
const LEAST: MemoryMib = MemoryMib(64);

/// A core with two buffers of its own.
struct Copy {
    from: Vec<u8>,
    to: Vec<u8>,
    length: usize,
    at: usize,
}

impl Copy {
    /// Buffers of `length` bytes each, whose pages are not touched yet: the core that uses them does, so that they
    /// lie near it.
    fn new(length: usize) -> Option<Self> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        from.try_reserve_exact(length).ok()?;
        to.try_reserve_exact(length).ok()?;
        Some(Self { from, to, length, at: 0 })
    }
}

impl Run for Copy {
    fn prepare(&mut self) {
        // The room is there already.
        self.from.resize(self.length, 0x5a);
        self.to.resize(self.length, 0xa5);
    }

    fn run(&mut self) -> Result<u64, BenchmarkError> {
        let end = (self.at + PIECE).min(self.length);
        self.to[self.at..end].copy_from_slice(black_box(&self.from[self.at..end]));
        black_box(&mut self.to);
        let copied = end - self.at;
        self.at = if end == self.length { 0 } else { end };
        Ok(copied as u64)
    }
}

/// MiB copied in a second by all cores together; a byte that is read and written counts once.
pub(super) fn copied(budget: &Budget<'_>) -> Result<u32, BenchmarkError> {
    budget.check()?;
    let (_, free) = host::memory()?;
    let total = MOST.min(MemoryMib(free.0 / PART));
    let too_little = || BenchmarkError::Memory { needed: MemoryMib(LEAST.0 * PART) };
    if total < LEAST {
        return Err(too_little());
    }
    let cores = available_parallelism().map_or(1, usize::from);
    let length = usize::try_from(total.bytes()).unwrap_or(usize::MAX) / cores / 2;
    // Whole pieces, so that all runs are alike.
    let length = (length - length % PIECE).max(PIECE);
    let copies: Option<Vec<Copy>> = (0..cores).map(|_| Copy::new(length)).collect();
    together(budget, copies.ok_or_else(too_little)?).map(|rate| per_second(rate, MIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_goes_through_its_buffers_piece_by_piece_and_begins_again() {
        let mut copy = Copy::new(2 * PIECE).unwrap();
        copy.prepare();
        let places: Vec<usize> = (0..4)
            .map(|_| {
                assert_eq!(copy.run().unwrap(), PIECE as u64);
                copy.at
            })
            .collect();
        assert_eq!(places, [PIECE, 0, PIECE, 0]);
        assert_eq!(copy.from, copy.to);
    }

    #[test]
    fn memory_that_nobody_has_is_not_taken() {
        assert!(Copy::new(usize::MAX).is_none());
    }
}
