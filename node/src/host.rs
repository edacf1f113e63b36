//! The machine: what it is made of, and how much of it is sensible to share.
//!
//! [`crate::cli`] asks at onboarding. [`HostFacts`] is the seam behind which tests put a machine of their
//! own; [`default_capability`] is pure. Nothing here is looked at again later: what was registered holds
//! until its owner registers something else. How fast the machine is, [`crate::benchmark`] measures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use dms_messages::{
    Capability, CpuInfo, CpuMillis, DiskMib, ExecutorKind, Gpu, MAX_TEXT_LENGTH, MemoryMib, PriceList,
    Resources,
};
use sysinfo::{CpuRefreshKind, DiskRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System};

use crate::{benchmark, gpus};

/// The part of the processor that is shared, in percent: the rest keeps the owner's desktop alive.
const CPU_PERCENT: u64 = 80;
/// The part of the memory free now that is shared, in percent.
const MEMORY_PERCENT: u64 = 80;
/// The part of the disk free now that is shared, in percent: disks fill up over months.
const DISK_PERCENT: u64 = 50;

/// What a machine is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInfo {
    /// The processor.
    pub cpu_info: CpuInfo,
    /// Memory in all.
    pub memory_total: MemoryMib,
    /// Memory free now, caches counted as free.
    pub memory_available: MemoryMib,
    /// Disk free now where the data directory is.
    pub disk_free: DiskMib,
    /// The graphics processors that were found; a place here is what `dms onboard --gpus` calls one by.
    pub gpus: Vec<Gpu>,
}

/// Why a machine does not say what it is made of.
#[derive(Debug, thiserror::Error)]
#[error("the system does not say what it is made of: {0}")]
pub struct HostError(String);

/// Where facts about the machine come from.
pub trait HostFacts: fmt::Debug + Send + Sync {
    /// The facts now; disk is that of `data_dir`, or of the nearest directory above it that exists.
    fn facts(&self, data_dir: &Path) -> Result<HostInfo, HostError>;
}

/// The machine this runs on.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemHost;

impl HostFacts for SystemHost {
    fn facts(&self, data_dir: &Path) -> Result<HostInfo, HostError> {
        let refresh = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_frequency());
        let system = System::new_with_specifics(refresh).map_err(failed)?;
        let first = system.cpus().first();
        let cpu_info = CpuInfo {
            architecture: plain(&System::cpu_arch()),
            model: plain(first.map_or("", |cpu| cpu.brand())),
            cores: u32::try_from(system.cpus().len()).unwrap_or(u32::MAX),
            clock_mhz: first.map_or(0, |cpu| u32::try_from(cpu.frequency()).unwrap_or(0)),
            score: benchmark::score(),
        };
        let (memory_total, memory_available) = memory()?;
        let directory = existing(data_dir).canonicalize().map_err(|error| HostError(error.to_string()))?;
        let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage())
            .map_err(failed)?;
        let disk = disks
            .iter()
            .filter(|disk| directory.starts_with(disk.mount_point()))
            .max_by_key(|disk| disk.mount_point().components().count());
        let disk_free = DiskMib(disk.map_or(0, |disk| disk.available_space()) >> 20);
        Ok(HostInfo { cpu_info, memory_total, memory_available, disk_free, gpus: gpus::found() })
    }
}

fn failed(error: sysinfo::Error) -> HostError {
    HostError(error.to_string())
}

/// Memory in all, and what of it is free now.
pub(crate) fn memory() -> Result<(MemoryMib, MemoryMib), HostError> {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    Ok(memory_of(&System::new_with_specifics(refresh).map_err(failed)?))
}

/// The same of what was looked at already.
pub(crate) fn memory_of(system: &System) -> (MemoryMib, MemoryMib) {
    let (mut total, mut free) = (system.total_memory(), system.available_memory());
    // Inside a container the group's limit counts, not the machine's memory; its caches are free, too.
    if let Some(limits) = system.cgroup_limits() {
        total = total.min(limits.total_memory);
        free = free.min(limits.total_memory.saturating_sub(limits.rss));
    }
    (MemoryMib(total >> 20), MemoryMib(free.min(total) >> 20))
}

/// The directory, or the nearest one above it that exists.
pub(crate) fn existing(data_dir: &Path) -> &Path {
    data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// A text of the machine's in a form that may travel.
pub(crate) fn plain(text: &str) -> String {
    let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    if text.len() <= MAX_TEXT_LENGTH { text } else { dms_messages::bounded_text(text) }
}

/// The sensible share of a machine: most of the processor and of the free memory, half of the free disk,
/// each rounded down to something a person can read. Never more than there is; at least one thousandth of
/// a core.
pub fn default_capability(host: &HostInfo) -> Capability {
    let share = |amount: u64, percent: u64| amount.saturating_mul(percent) / 100;
    let cpu = share(u64::from(host.cpu_info.cores) * 1000, CPU_PERCENT);
    let memory = share(host.memory_available.0.min(host.memory_total.0), MEMORY_PERCENT);
    let disk = share(host.disk_free.0, DISK_PERCENT);
    Capability {
        resources: Resources {
            cpu: CpuMillis(rounded_down(cpu, 100).max(1)),
            memory: MemoryMib(rounded_down(memory, 256)),
            disk: DiskMib(rounded_down(disk, 1024)),
            ..Resources::default()
        },
        cpu_info: host.cpu_info.clone(),
        gpus: BTreeMap::new(),
        executors: BTreeSet::from([ExecutorKind::Wasm]),
        location: None,
        labels: BTreeMap::new(),
        prices: PriceList::default(),
        benchmark: None,
    }
}

/// `amount` rounded down to a multiple of `step`; as it is if that would leave nothing.
fn rounded_down(amount: u64, step: u64) -> u64 {
    if amount < step { amount } else { amount - amount % step }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(cores: u32, total: u64, available: u64, disk: u64) -> HostInfo {
        HostInfo {
            cpu_info: CpuInfo { cores, ..CpuInfo::default() },
            memory_total: MemoryMib(total),
            memory_available: MemoryMib(available),
            disk_free: DiskMib(disk),
            gpus: Vec::new(),
        }
    }

    #[test]
    fn a_sensible_share_leaves_something_to_the_owner() {
        let table = [
            (host(8, 16384, 10_000, 200_000), (6400, 7936, 99_328)),
            (host(1, 1024, 200, 500), (800, 160, 250)),
            // A machine that claims more free memory than it has.
            (host(2, 1000, 4000, 0), (1600, 768, 0)),
            (host(0, 0, 0, 0), (1, 0, 0)),
        ];
        for (host, (cpu, memory, disk)) in table {
            let shared = default_capability(&host).resources;
            assert_eq!((shared.cpu.0, shared.memory.0, shared.disk.0), (cpu, memory, disk), "{host:?}");
        }
    }

    #[test]
    fn the_system_says_what_it_is_made_of_and_the_share_is_acceptable() {
        let facts = SystemHost.facts(Path::new("/tmp/does/not/exist")).unwrap();
        assert!(facts.cpu_info.cores > 0 && facts.cpu_info.score > 0);
        assert!(facts.memory_total.0 > 0 && facts.memory_available <= facts.memory_total);
        assert_eq!(default_capability(&facts).check(), Ok(()));
    }
}
