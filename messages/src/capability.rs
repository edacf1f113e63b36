//! What a machine can do and what a pod needs: typed vectors, compared dimension by dimension.
//!
//! [`Resources`] is the part that is counted (added, subtracted, locked); [`Capability`] adds what is
//! only described (processor, location, labels, prices). Amounts are never folded into one number for
//! fitting, and GPUs are distinct things, not a sum.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::check_text;
use crate::units::{CpuMillis, DiskMib, MemoryMib, Price};

/// Most GPUs, labels or locations in one vector; a machine with more must be several nodes.
const MAX_ITEMS: usize = 64;

/// The index of a GPU on its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GpuId(pub u16);

/// What can be counted, locked and given away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time, in thousandths of a core.
    pub cpu: CpuMillis,
    /// Memory.
    pub memory: MemoryMib,
    /// Disk.
    pub disk: DiskMib,
    /// The GPUs, by index.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub gpus: BTreeSet<GpuId>,
}

/// One dimension of [`Resources`], for reasons and tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// Disk.
    Disk,
    /// Graphics processors.
    Gpu,
}

/// How much of one dimension is missing: in thousandths of a core, MiB, or GPUs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shortfall {
    /// The dimension.
    pub dimension: Dimension,
    /// What is needed.
    pub needed: u64,
    /// What there is.
    pub had: u64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dimension {
            Dimension::Cpu => {
                write!(f, "needs {}, have {}", CpuMillis(self.needed).cores(), CpuMillis(self.had))
            }
            Dimension::Memory => {
                write!(f, "needs {} memory, have {}", MemoryMib(self.needed), MemoryMib(self.had))
            }
            Dimension::Disk => write!(f, "needs {} disk, have {}", DiskMib(self.needed), DiskMib(self.had)),
            Dimension::Gpu => write!(f, "needs {} matching GPUs, have {}", self.needed, self.had),
        }
    }
}

impl Resources {
    /// The sum in every dimension, unless one overflows or a GPU would be counted twice.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        self.gpus.is_disjoint(&other.gpus).then_some(())?;
        Some(Self {
            cpu: self.cpu.checked_add(other.cpu)?,
            memory: self.memory.checked_add(other.memory)?,
            disk: self.disk.checked_add(other.disk)?,
            gpus: self.gpus.union(&other.gpus).copied().collect(),
        })
    }

    /// The difference in every dimension, unless one would be negative or a GPU is not there.
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        other.gpus.is_subset(&self.gpus).then_some(())?;
        Some(Self {
            cpu: self.cpu.checked_sub(other.cpu)?,
            memory: self.memory.checked_sub(other.memory)?,
            disk: self.disk.checked_sub(other.disk)?,
            gpus: self.gpus.difference(&other.gpus).copied().collect(),
        })
    }

    /// True if `other` fits into this in every dimension.
    pub fn fits(&self, other: &Self) -> bool {
        self.checked_sub(other).is_some()
    }

    /// True if nothing is in any dimension.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every dimension in which this is less than `need`, by amount (GPUs are counted).
    pub fn shortfalls(&self, need: &Requirement) -> Vec<Shortfall> {
        let dimensions = [
            (Dimension::Cpu, need.cpu.0, self.cpu.0),
            (Dimension::Memory, need.memory.0, self.memory.0),
            (Dimension::Disk, need.disk.0, self.disk.0),
            (Dimension::Gpu, need.gpus.len() as u64, self.gpus.len() as u64),
        ];
        dimensions
            .into_iter()
            .filter(|(_, needed, had)| needed > had)
            .map(|(dimension, needed, had)| Shortfall { dimension, needed, had })
            .collect()
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} memory, {} disk", self.cpu.cores(), self.memory, self.disk)?;
        if !self.gpus.is_empty() {
            write!(f, ", {} GPU{}", self.gpus.len(), if self.gpus.len() == 1 { "" } else { "s" })?;
        }
        Ok(())
    }
}

/// What runs a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutorKind {
    /// A WebAssembly module with WASI.
    Wasm,
}

impl fmt::Display for ExecutorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wasm => f.write_str("wasm"),
        }
    }
}

/// A processor, as described by the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuInfo {
    /// Instruction set (`x86_64`, `aarch64`).
    pub architecture: String,
    /// Model name, as the machine gives it.
    pub model: String,
    /// Logical cores of the machine, whether shared or not.
    pub cores: u32,
    /// Clock in MHz; 0 where the machine does not say.
    pub clock_mhz: u32,
}

/// One graphics processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Vendor in lower case (`nvidia`, `amd`, `intel`).
    pub vendor: String,
    /// Model name.
    pub model: String,
    /// Video memory.
    pub memory: MemoryMib,
}

/// What capacity costs, per hour and unit. The default is free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PriceList {
    /// Per core and hour.
    pub core_hour: Price,
    /// Per GiB of memory and hour.
    pub memory_gib_hour: Price,
    /// Per GiB of disk and hour.
    pub disk_gib_hour: Price,
    /// Per GPU and hour.
    pub gpu_hour: Price,
    /// Least price per hour of anything.
    pub minimum: Price,
}

/// Everything a node offers, or has registered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// What can be counted.
    pub resources: Resources,
    /// The processor.
    pub cpu_info: CpuInfo,
    /// The GPUs behind the indices in `resources`.
    #[serde(default)]
    pub gpus: BTreeMap<GpuId, Gpu>,
    /// What can be run.
    pub executors: BTreeSet<ExecutorKind>,
    /// Where the machine stands, as its owner says (`eu-west`, `CH`), if said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it costs.
    #[serde(default)]
    pub prices: PriceList,
}

impl Capability {
    /// Checks counts, texts, and that every counted GPU is described.
    pub fn check(&self) -> Result<(), String> {
        if self.gpus.len() > MAX_ITEMS || self.labels.len() > MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} GPUs or labels"));
        }
        if let Some(gpu) = self.resources.gpus.iter().find(|gpu| !self.gpus.contains_key(gpu)) {
            return Err(format!("GPU {} is not described", gpu.0));
        }
        check_text("location", self.location.as_deref().unwrap_or_default())?;
        check_text("cpu model", &self.cpu_info.model)?;
        check_text("architecture", &self.cpu_info.architecture)?;
        self.labels
            .iter()
            .try_for_each(|(key, value)| check_text("label", key).and(check_text("label", value)))
    }
}

/// One GPU that a pod needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuRequirement {
    /// The vendor, if it matters.
    pub vendor: Option<String>,
    /// Least video memory.
    pub memory: MemoryMib,
}

/// What a pod needs of the node it runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Processor time.
    pub cpu: CpuMillis,
    /// Memory.
    pub memory: MemoryMib,
    /// Disk.
    pub disk: DiskMib,
    /// Distinct GPUs.
    #[serde(default)]
    pub gpus: Vec<GpuRequirement>,
    /// What runs it.
    pub executor: ExecutorKind,
    /// Acceptable locations; empty means anywhere.
    #[serde(default)]
    pub locations: BTreeSet<String>,
    /// Labels the node must carry.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Requirement {
    /// Refuses empty demands and oversized lists.
    pub fn check(&self) -> Result<(), String> {
        if self.cpu.0 == 0 || self.memory.0 == 0 {
            return Err("a pod needs some cpu and some memory".to_owned());
        }
        if self.gpus.len() > MAX_ITEMS || self.labels.len() > MAX_ITEMS || self.locations.len() > MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} GPUs, labels or locations"));
        }
        self.locations.iter().try_for_each(|location| check_text("location", location))?;
        self.labels
            .iter()
            .try_for_each(|(key, value)| check_text("label", key).and(check_text("label", value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resources(cpu: u64, memory: u64, gpus: &[u16]) -> Resources {
        Resources {
            cpu: CpuMillis(cpu),
            memory: MemoryMib(memory),
            disk: DiskMib(0),
            gpus: gpus.iter().copied().map(GpuId).collect(),
        }
    }

    #[test]
    fn fitting_is_decided_by_every_dimension_alone() {
        let whole = resources(1000, 100, &[0, 1]);
        let table = [
            (resources(1000, 100, &[0, 1]), true),
            (resources(0, 0, &[]), true),
            (resources(1001, 0, &[]), false),
            (resources(0, 101, &[]), false),
            (resources(0, 0, &[2]), false),
        ];
        for (part, is_fitting) in table {
            assert_eq!(whole.fits(&part), is_fitting, "{part:?}");
        }
    }

    #[test]
    fn a_gpu_is_never_counted_twice() {
        assert_eq!(resources(1, 1, &[0]).checked_add(&resources(1, 1, &[0])), None);
    }

    #[test]
    fn shortfalls_name_each_missing_dimension_in_words() {
        let need = Requirement {
            cpu: CpuMillis(500),
            memory: MemoryMib(8192),
            disk: DiskMib(0),
            gpus: vec![],
            executor: ExecutorKind::Wasm,
            locations: BTreeSet::new(),
            labels: BTreeMap::new(),
        };
        let shortfalls = resources(1000, 4096, &[]).shortfalls(&need);
        assert_eq!(shortfalls.len(), 1);
        assert_eq!(shortfalls[0].to_string(), "needs 8 GiB memory, have 4 GiB");
    }

    proptest! {
        #[test]
        fn taking_away_what_was_added_gives_exactly_the_prior_value(a: (u64, u64), b: (u64, u64)) {
            let (a, b) = (resources(a.0, a.1, &[1]), resources(b.0, b.1, &[2]));
            if let Some(sum) = a.checked_add(&b) {
                prop_assert_eq!(sum.checked_sub(&b), Some(a));
            }
        }
    }
}
