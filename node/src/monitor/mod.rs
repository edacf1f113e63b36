//! Continuous monitoring: what the machine and each allocation use, sampled every few seconds and kept in memory.
//!
//! ```text
//!   HostMeter (a worker thread) ──► sample ──► History (bounded)      ──► GetSamples ──► `dms status --watch`
//!   Gauge of each program ─────────────┤  └──► Headroom (pure, bounds) ──► bids, adverts, statuses
//!                                      └─────► GetMeasurements ──► `GET /metrics`
//! ```
//!
//! [`crate::handlers`] runs it in the Node actor, which owns what is measured. [`HostMeter`] is the seam behind which
//! tests and simulated worlds put a machine of their own; where none is given, nothing is measured and nothing is
//! bounded. A meter that fails or hangs holds nothing up: after three periods without a sample the bound is lifted,
//! because what is granted is enforced anyway, and a node that bids no more for want of a number would do so unnoticed.

mod history;
mod system;
mod tally;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dms_actors::{Counters, Message};
use dms_messages::{
    AllocationId, AttemptId, CpuMillis, Did, DiskMib, MemoryMib, Millis, Resources, Timestamp,
};
use dms_storage::committer::CommitterStats;
use serde::{Deserialize, Serialize};

pub(crate) use self::history::History;
pub use self::system::SystemMeter;
pub use self::tally::Tally;
use crate::capability::headroom::{Headroom, MachineSample, OwnUse, Reserve, Room, TimedSample};
use crate::commands::{CapabilityView, NodeStatus};
use crate::executors::{Gauge, LiveUsage};

/// After how many periods without a sample the newest is of another time.
const STALE_PERIODS: u32 = 3;
/// Programs of one allocation whose gauges are read: as many as a pod may have tasks.
const MAX_GAUGES: usize = 64;

/// Why there is no sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the machine does not say how it stands: {0}")]
pub struct MeterError(pub String);

/// Where samples of the machine come from.
pub trait HostMeter: fmt::Debug + Send + Sync {
    /// How the machine stands now. May block: it is called on a worker's thread, one call at a time.
    ///
    /// # Errors
    /// If the system does not say.
    fn sample(&self) -> Result<MachineSample, MeterError>;
}

/// What a node is to measure, and what follows from it.
#[derive(Debug, Clone)]
pub struct Monitoring {
    /// Where samples come from.
    pub meter: Arc<dyn HostMeter>,
    /// How often.
    pub period: Duration,
    /// True if bids shrink while the machine's owner uses it.
    pub is_owner_first: bool,
    /// What bids leave free for the owner, whatever is registered.
    pub reserve: Reserve,
}

/// The programs of one allocation.
#[derive(Debug)]
struct Metered {
    gauges: Vec<Arc<Gauge>>,
    /// When the first was started, on the monotonic clock.
    started: Duration,
    /// Processor time at the last sample, and when that was.
    last: (Duration, Duration),
    /// Its share of the processor between the last two.
    share: CpuMillis,
}

impl Metered {
    /// What all of its programs use.
    fn read(&self) -> LiveUsage {
        self.gauges.iter().map(|gauge| gauge.read()).fold(LiveUsage::default(), |sum, one| LiveUsage {
            cpu: sum.cpu + one.cpu,
            memory_bytes: sum.memory_bytes.saturating_add(one.memory_bytes),
            peak_memory_bytes: sum.peak_memory_bytes.saturating_add(one.peak_memory_bytes),
            disk_bytes: sum.disk_bytes.saturating_add(one.disk_bytes),
        })
    }
}

/// What a Node knows of its machine. In memory only: after a restart it is measured anew.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    history: History,
    headroom: Headroom,
    /// When the newest sample was asked for, on the monotonic clock.
    sampled: Option<Duration>,
    /// Since when a sample is being taken; the next waits for it.
    sampling: Option<Duration>,
    /// True once it was said that there are no samples.
    is_failing: bool,
    programs: BTreeMap<AllocationId, Metered>,
    /// What was answered, by reason.
    pub(crate) tally: Tally,
}

impl Monitor {
    /// Begins to take a sample `now`; false if the one before is still being taken.
    pub(crate) fn begin(&mut self, now: Duration) -> bool {
        let may_begin = self.sampling.is_none();
        if may_begin {
            self.sampling = Some(now);
        }
        may_begin
    }

    /// A sample has come, or will not. One that took so long that it is of another time is none.
    pub(crate) fn end(
        &mut self,
        sample: Result<MachineSample, MeterError>,
        monitoring: &Monitoring,
        (at, now): (Timestamp, Duration),
    ) {
        let begun = self.sampling.take().unwrap_or(now);
        let is_late = now.saturating_sub(begun) > monitoring.period * STALE_PERIODS;
        let sample = sample.and_then(|sample| match is_late {
            true => Err(MeterError("it answers too late".to_owned())),
            false => Ok(sample),
        });
        let sample = match sample {
            Ok(sample) => sample,
            Err(error) if self.is_failing => return tracing::debug!(%error, "no sample"),
            Err(error) => {
                self.is_failing = true;
                return tracing::warn!(%error, "no sample; without samples bids are bounded by the books alone");
            }
        };
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("the machine is sampled again");
        }
        if self.is_stale(monitoring, now) {
            // What was before is of another time: nothing is smoothed over the gap.
            self.headroom = Headroom::default();
        }
        self.sampled = Some(begun);
        self.history.push(TimedSample { at, machine: sample });
        let own = self.own_use(now);
        let before = self.headroom.room();
        self.headroom.note(Room::of(&sample, &own, &monitoring.reserve));
        if before != self.headroom.room() {
            tracing::debug!(room = ?self.headroom.room(), "what the owner leaves has changed");
        }
    }

    /// What our programs use, and at the same time each one's share since the sample before.
    fn own_use(&mut self, now: Duration) -> OwnUse {
        let mut disk = 0u64;
        for metered in self.programs.values_mut() {
            let usage = metered.read();
            disk = disk.saturating_add(usage.disk_bytes);
            let (cpu, at) = std::mem::replace(&mut metered.last, (usage.cpu, now));
            let elapsed = now.saturating_sub(at).as_millis().max(1);
            let share = usage.cpu.saturating_sub(cpu).as_millis() * 1000 / elapsed;
            metered.share = CpuMillis(u64::try_from(share).unwrap_or(u64::MAX));
        }
        let running = self.programs.values().map(|metered| metered.gauges.len()).sum();
        OwnUse { disk: DiskMib(disk >> 20), running }
    }

    /// True if the newest sample is of another time, or there was none.
    fn is_stale(&self, monitoring: &Monitoring, now: Duration) -> bool {
        let age = self.sampled.map(|at| now.saturating_sub(at));
        age.is_none_or(|age| age > monitoring.period * STALE_PERIODS)
    }

    /// What the owner leaves, as far as that is known now.
    pub(crate) fn room(&self, monitoring: Option<&Monitoring>, now: Duration) -> Room {
        match monitoring {
            Some(it) if it.is_owner_first && !self.is_stale(it, now) => self.headroom.room(),
            _ => Room::UNBOUNDED,
        }
    }

    /// A program of an allocation has started.
    pub(crate) fn attach(&mut self, allocation: AllocationId, gauge: Arc<Gauge>, now: Duration) {
        let metered = self.programs.entry(allocation).or_insert_with(|| Metered {
            gauges: Vec::new(),
            started: now,
            last: (Duration::ZERO, now),
            share: CpuMillis::default(),
        });
        if metered.gauges.len() < MAX_GAUGES {
            metered.gauges.push(gauge);
        }
    }

    /// An allocation is over.
    pub(crate) fn detach(&mut self, allocation: AllocationId) {
        self.programs.remove(&allocation);
    }

    /// What an allocation uses now, if a program of it runs.
    pub(crate) fn usage(&self, allocation: AllocationId, now: Duration) -> Option<AllocationUsage> {
        let metered = self.programs.get(&allocation)?;
        let usage = metered.read();
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Some(AllocationUsage {
            cpu_time: Millis::from(usage.cpu),
            cpu: metered.share,
            memory: MemoryMib(mib(usage.memory_bytes)),
            peak_memory: MemoryMib(mib(usage.peak_memory_bytes)),
            disk: DiskMib(mib(usage.disk_bytes)),
            run_time: Millis::from(now.saturating_sub(metered.started)),
        })
    }

    /// The newest `limit` samples, and the one before them if there is one, newest first.
    pub(crate) fn newest(&self, limit: usize) -> Vec<TimedSample> {
        self.history.newest(limit)
    }

    /// True if the samples are not of now.
    pub(crate) fn is_blind(&self, monitoring: Option<&Monitoring>, now: Duration) -> bool {
        monitoring.is_none_or(|it| self.is_stale(it, now))
    }
}

/// What a live allocation uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationUsage {
    /// How long its programs kept a processor busy so far.
    pub cpu_time: Millis,
    /// Their share of the processor between the last two samples.
    pub cpu: CpuMillis,
    /// Memory now.
    pub memory: MemoryMib,
    /// The most so far.
    pub peak_memory: MemoryMib,
    /// What they have written and not removed.
    pub disk: DiskMib,
    /// For how long they run.
    pub run_time: Millis,
}

/// A live allocation and what it uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeteredAllocation {
    /// Its id.
    pub id: AllocationId,
    /// For whom.
    pub requester: Did,
    /// Which attempt of which job.
    pub attempt: AttemptId,
    /// What is granted.
    pub granted: Resources,
    /// What is used, once a program of it runs.
    pub usage: Option<AllocationUsage>,
}

/// Asks how the machine and the live allocations stand, and stood.
#[derive(Debug)]
pub struct GetSamples {
    /// How many samples of the past at most, the newest among them.
    pub limit: usize,
}

/// How the machine and the live allocations stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplesView {
    /// How often a sample is taken; none if none ever is.
    pub period: Option<Millis>,
    /// True if the newest sample is older than three periods, or there is none: then nothing is bounded by it.
    pub is_stale: bool,
    /// True if bids shrink while the machine's owner uses it.
    pub is_owner_first: bool,
    /// What the machine has for all promises together, in the dimensions where the owner's use bounds it.
    pub room: RoomView,
    /// What may be promised now: what the books have free, as far as the owner's use leaves it.
    pub offered: Resources,
    /// Bytes a second that came and left between the last two samples.
    pub rates: Option<NetworkRates>,
    /// The live allocations.
    pub allocations: Vec<MeteredAllocation>,
    /// The samples, newest first: each for half an hour at the usual period, then means of twelve for six hours.
    pub samples: Vec<TimedSample>,
}

/// A [`Room`] without what does not bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomView {
    /// Processor time, if it is bounded.
    pub cpu: Option<CpuMillis>,
    /// Memory, likewise.
    pub memory: Option<MemoryMib>,
    /// Disk, likewise.
    pub disk: Option<DiskMib>,
}

impl From<Room> for RoomView {
    fn from(Room { cpu, memory, disk }: Room) -> Self {
        let whole = Room::UNBOUNDED;
        Self {
            cpu: (cpu != whole.cpu).then_some(cpu),
            memory: (memory != whole.memory).then_some(memory),
            disk: (disk != whole.disk).then_some(disk),
        }
    }
}

/// What goes over the machine's interfaces, in bytes a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRates {
    /// What comes.
    pub received: u64,
    /// What leaves.
    pub sent: u64,
}

impl NetworkRates {
    /// The rates between two samples, the newer first; none if they are of one moment.
    pub(crate) fn between(newer: &TimedSample, older: &TimedSample) -> Option<Self> {
        let elapsed = u64::try_from(newer.at.saturating_since(older.at).as_millis()).ok()?;
        // An interface that went away took its count with it.
        let rate =
            |newer: u64, older: u64| newer.saturating_sub(older).saturating_mul(1000).checked_div(elapsed);
        Some(Self {
            received: rate(newer.machine.received_bytes, older.machine.received_bytes)?,
            sent: rate(newer.machine.sent_bytes, older.machine.sent_bytes)?,
        })
    }
}

impl Message for GetSamples {
    type Reply = SamplesView;
}

/// A program of an allocation has started: its executor's gauge.
#[derive(Debug)]
pub struct Attach {
    /// The allocation.
    pub allocation: AllocationId,
    /// What the program uses.
    pub gauge: Arc<Gauge>,
}

impl Message for Attach {
    type Reply = ();
}

/// Asks for everything that is counted, at one moment.
#[derive(Debug)]
pub struct GetMeasurements;

/// Everything that is counted, for [`crate::api`] to write down.
#[derive(Debug, Clone)]
pub struct Measurements {
    /// How the node stands.
    pub status: NodeStatus,
    /// The books.
    pub capability: CapabilityView,
    /// The machine and the allocations.
    pub samples: SamplesView,
    /// Jobs that are current, by phase.
    pub jobs: BTreeMap<String, u64>,
    /// Allocations that are current, by state.
    pub allocations: BTreeMap<String, u64>,
    /// What was answered.
    pub tally: Tally,
    /// What the links and mailboxes have counted.
    pub counters: Counters,
    /// What the writer of the books has done; none while they are closed.
    pub commits: Option<CommitterStats>,
    /// Words that wait for the network.
    pub waiting_words: usize,
    /// Steps of the Node that wait for the disk.
    pub waiting_steps: usize,
}

impl Message for GetMeasurements {
    type Reply = Measurements;
}

#[cfg(test)]
mod tests;
