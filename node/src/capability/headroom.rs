//! The headroom: how much of what is registered may be newly promised while the machine's owner uses the machine, too.
//!
//! ```text
//!   sample ──► room (what the machine has for all that is promised) ──► smoothed ──► bound for new locks
//!              = what is free + what our own programs use − the reserve
//! ```
//!
//! Called by the Node with each sample, and by [`crate::orchestrator::matching`] with each request. It bounds what is
//! promised from now on and never touches the books: locks that are given hold and what runs goes on, however much the
//! owner takes. What our own programs use is known and counted as ours, so that a busy node does not stop itself.

use std::collections::VecDeque;

use dms_messages::{
    CpuMillis, DeclineReason, Dimension, DiskMib, MemoryMib, Resources, Shortfall, Timestamp,
};
use dms_storage::Accounts;
use serde::{Deserialize, Serialize};

/// How many samples in a row must lie below the bound before it falls: 15 s at the usual period. A burst of the owner's
/// (a page that opens, a program that is linked) is over by then, and limits are enforced on what runs meanwhile.
const FALL_SAMPLES: usize = 3;
/// How many in a row must lie above it before it rises: a minute. Whoever works at a machine pauses; what is promised in
/// a pause stands in the way for as long as a job takes.
const RISE_SAMPLES: usize = 12;
/// Processor time of others that is nobody's work, in hundredths of the machine: what a desktop does by itself.
const IDLE_PERCENT: u64 = 10;
/// Tasks that wait for each core beyond which no core is promised, whatever the processor's use says: a machine that
/// swaps, or whose disk hangs, is idle and overloaded at once.
const OVERLOADED_PER_CORE: u64 = 4;

/// What the machine does at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSample {
    /// All of the processor: a thousand for each logical core.
    pub cpu: CpuMillis,
    /// How much of it was used since the sample before, by anybody.
    pub cpu_used: CpuMillis,
    /// How much of that by this node's own process, the programs that it runs among it.
    pub cpu_own: CpuMillis,
    /// Tasks that ran or waited, on average over the last minute, in hundredths; none where the system does not say.
    pub load_hundredths: Option<u32>,
    /// Memory in all.
    pub memory: MemoryMib,
    /// Memory free now, caches counted as free.
    pub memory_free: MemoryMib,
    /// Memory that this node's own process holds, the programs that it runs among it.
    pub memory_own: MemoryMib,
    /// Disk where the data directory is.
    pub disk: DiskMib,
    /// Disk free there now.
    pub disk_free: DiskMib,
    /// Bytes that came over all of the machine's interfaces but its own loop, since it was started.
    pub received_bytes: u64,
    /// Bytes that left over them.
    pub sent_bytes: u64,
    /// The hottest part that is measured, in degrees Celsius; none where nothing is.
    pub temperature: Option<i16>,
}

/// A sample and when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedSample {
    /// When, by this node's clock.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub machine: MachineSample,
}

/// What bids leave free for the machine's owner, whatever is registered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Of the processor.
    pub cpu: CpuMillis,
    /// Of the memory.
    pub memory: MemoryMib,
    /// Of the disk.
    pub disk: DiskMib,
}

/// What this node's programs use that the machine's sample does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnUse {
    /// What they have written.
    pub disk: DiskMib,
    /// How many run: each is a task that is counted in the machine's load.
    pub running: usize,
}

/// What a machine has for all that its node promises together, whether it is in use already or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Processor time.
    pub cpu: CpuMillis,
    /// Memory.
    pub memory: MemoryMib,
    /// Disk.
    pub disk: DiskMib,
}

impl Room {
    /// No bound but the books'.
    pub const UNBOUNDED: Self =
        Self { cpu: CpuMillis(u64::MAX), memory: MemoryMib(u64::MAX), disk: DiskMib(u64::MAX) };

    /// What there is by one sample.
    pub fn of(sample: &MachineSample, own: &OwnUse, reserve: &Reserve) -> Self {
        let others = sample.cpu_used.0.saturating_sub(sample.cpu_own.0);
        let idle = sample.cpu.0 * IDLE_PERCENT / 100;
        let cpu = sample.cpu.0.saturating_sub(others.saturating_sub(idle)).saturating_sub(reserve.cpu.0);
        let running = u64::try_from(own.running).unwrap_or(u64::MAX);
        let waiting = u64::from(sample.load_hundredths.unwrap_or(0) / 100).saturating_sub(running);
        let is_overloaded = waiting.saturating_mul(1000) > sample.cpu.0.saturating_mul(OVERLOADED_PER_CORE);
        // What the owner registered beyond the machine is none of ours to judge: all of the machine is no bound.
        let cpu = if is_overloaded { 0 } else { cpu };
        let free = |free: u64, own: u64, reserve: u64| free.saturating_add(own).saturating_sub(reserve);
        Self {
            cpu: if cpu >= sample.cpu.0 { Self::UNBOUNDED.cpu } else { CpuMillis(cpu) },
            memory: MemoryMib(free(sample.memory_free.0, sample.memory_own.0, reserve.memory.0)),
            disk: DiskMib(free(sample.disk_free.0, own.disk.0, reserve.disk.0)),
        }
    }

    /// What of the free capacity may be promised now.
    pub fn available(&self, accounts: &Accounts) -> Resources {
        let left =
            |room: u64, locked: u64, allocated: u64| room.saturating_sub(locked.saturating_add(allocated));
        let (available, locked, allocated) = (accounts.available(), accounts.locked(), accounts.allocated());
        Resources {
            cpu: available.cpu.min(CpuMillis(left(self.cpu.0, locked.cpu.0, allocated.cpu.0))),
            memory: available.memory.min(MemoryMib(left(self.memory.0, locked.memory.0, allocated.memory.0))),
            disk: available.disk.min(DiskMib(left(self.disk.0, locked.disk.0, allocated.disk.0))),
            ..available.clone()
        }
    }

    /// Whether `wanted`, which the books have, may be promised now.
    ///
    /// # Errors
    /// `Busy` with what the owner's use leaves, in each dimension that is short of it.
    pub fn admit(&self, accounts: &Accounts, wanted: &Resources) -> Result<(), DeclineReason> {
        let had = self.available(accounts);
        let dimensions = [
            (Dimension::Cpu, wanted.cpu.0, had.cpu.0),
            (Dimension::Memory, wanted.memory.0, had.memory.0),
            (Dimension::Disk, wanted.disk.0, had.disk.0),
        ];
        let short = dimensions.into_iter().filter(|(_, needed, had)| needed > had);
        let shortfalls: Vec<Shortfall> = short
            .map(|(dimension, needed, had)| Shortfall { dimension, needed, had, is_owners: true })
            .collect();
        if shortfalls.is_empty() { Ok(()) } else { Err(DeclineReason::Busy { shortfalls }) }
    }
}

/// The room of the last samples, smoothed: it falls to what the last `FALL_SAMPLES` have at most, and rises to what
/// the last `RISE_SAMPLES` have at least. In between it stays, so a use that goes up and down moves nothing.
#[derive(Debug, Clone)]
pub struct Headroom {
    /// The newest last, at most [`RISE_SAMPLES`].
    recent: VecDeque<Room>,
    room: Room,
}

impl Default for Headroom {
    fn default() -> Self {
        Self { recent: VecDeque::with_capacity(RISE_SAMPLES), room: Room::UNBOUNDED }
    }
}

impl Headroom {
    /// Takes the room of one more sample.
    pub fn note(&mut self, room: Room) {
        if self.recent.len() == RISE_SAMPLES {
            self.recent.pop_front();
        }
        self.recent.push_back(room);
        self.room = Room {
            cpu: CpuMillis(self.smoothed(self.room.cpu.0, |room| room.cpu.0)),
            memory: MemoryMib(self.smoothed(self.room.memory.0, |room| room.memory.0)),
            disk: DiskMib(self.smoothed(self.room.disk.0, |room| room.disk.0)),
        };
    }

    fn smoothed(&self, now: u64, of: impl Fn(&Room) -> u64) -> u64 {
        let fallen = self.recent.iter().rev().take(FALL_SAMPLES).map(&of).max();
        let ceiling = fallen.filter(|_| self.recent.len() >= FALL_SAMPLES).unwrap_or(u64::MAX);
        let risen = self.recent.iter().map(&of).min();
        let floor = risen.filter(|_| self.recent.len() >= RISE_SAMPLES).unwrap_or(0);
        // The least of the last is never more than the most of the newest among them.
        now.clamp(floor, ceiling)
    }

    /// The bound now.
    pub fn room(&self) -> Room {
        self.room
    }
}

#[cfg(test)]
mod tests;
