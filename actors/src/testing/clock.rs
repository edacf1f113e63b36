//! A clock that follows tokio's virtual time, with chance from a seed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::chance::Chance;
use crate::clock::{Clock, SharedClock, Timestamp};
use crate::runtime::lock;

/// When every virtual clock begins: 2030-01-01 UTC. Fixed, so that a run does not depend on its day.
const BEGINNING: Timestamp = Timestamp(1_893_456_000_000);

/// Wall clock and monotonic time as tokio's clock has them (virtual where it is paused), randomness from a
/// seed. Begins on 2030-01-01.
pub struct VirtualClock {
    start: Instant,
    /// The latest time given out, in nanoseconds: outside of the paused runtime tokio shows the real time,
    /// which may be behind.
    latest: AtomicU64,
    chance: Mutex<Chance>,
    /// What the wall clock showed at the start.
    beginning: Timestamp,
}

impl VirtualClock {
    /// A clock that begins now.
    pub fn shared(seed: u64) -> SharedClock {
        Self::begin(Chance::of(seed, &[b"clock"]), 0, Instant::now())
    }

    /// The clock of whoever is called `name`, in a world that began at `start`: its wall clock is so many milliseconds
    /// ahead of the world's (or behind it), and its chance is its own.
    pub fn of(seed: u64, name: &str, ahead_ms: i64, start: Instant) -> SharedClock {
        Self::begin(Chance::of(seed, &[b"clock", name.as_bytes()]), ahead_ms, start)
    }

    fn begin(chance: Chance, ahead_ms: i64, start: Instant) -> SharedClock {
        let beginning = Timestamp(BEGINNING.0.saturating_add_signed(ahead_ms));
        Arc::new(Self { start, latest: AtomicU64::new(0), chance: Mutex::new(chance), beginning })
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.beginning.saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        let since = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.latest.fetch_max(since, Ordering::AcqRel).max(since))
    }

    fn random(&self) -> [u8; 16] {
        let mut chance = lock(&self.chance);
        let both = (u128::from(chance.next()) << 64) | u128::from(chance.next());
        both.to_be_bytes()
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualClock").field("monotonic", &self.monotonic()).finish_non_exhaustive()
    }
}
