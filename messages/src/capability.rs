//! What a machine can do and what a pod needs: typed vectors, compared dimension by dimension.
//!
//! [`Resources`] is the part that is counted (added, subtracted, locked); [`Capability`] adds what is
//! only described (processor, location, labels, prices). Amounts are never folded into one number for
//! fitting, and GPUs are distinct things, not a sum.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::benchmark::Benchmark;
use crate::check_text;
use crate::units::{CpuMillis, DiskMib, MemoryMib, Price};

/// Most GPUs, labels or locations in one vector; a machine with more must be several nodes.
const MAX_ITEMS: usize = 64;
/// Most ports in one vector: it travels in bids and lies in rows, so its size must be bounded.
pub const MAX_PORTS: usize = 256;

/// The index of a GPU on its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GpuId(pub u16);

/// What can be counted, locked and given away.
///
/// Plain vector arithmetic: what is not there counts as nothing. Whether slots are limited at all is said by what a
/// machine has registered ([`Capability::shortfalls`]), not by a sum or a rest of it.
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
    /// The ports, by number: distinct things, at most [`MAX_PORTS`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ports: BTreeSet<u16>,
    /// How many pods of a kind, where their number is limited. An entry is never 0, so that equal amounts are equal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<ExecutorKind, u32>,
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
    /// Ports.
    Ports,
    /// Pods that an executor runs at the same time.
    Slots,
}

/// How much of one dimension is missing: in thousandths of a core, MiB, GPUs, ports, or pods.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shortfall {
    /// The dimension.
    pub dimension: Dimension,
    /// What is needed.
    pub needed: u64,
    /// What there is.
    pub had: u64,
    /// True if more than that is not promised to anybody, and is kept back because the machine's owner uses it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub is_owners: bool,
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
            Dimension::Ports => write!(f, "needs {} ports, have {}", self.needed, self.had),
            Dimension::Slots => write!(f, "needs {} slots for pods, have {}", self.needed, self.had),
        }?;
        if self.is_owners { f.write_str(" while the machine's owner uses it") } else { Ok(()) }
    }
}

impl Resources {
    /// The sum in every dimension, unless one overflows or a GPU or port would be counted twice.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        (self.gpus.is_disjoint(&other.gpus) && self.ports.is_disjoint(&other.ports)).then_some(())?;
        let mut slots = self.slots.clone();
        for (kind, count) in &other.slots {
            let slot = slots.entry(*kind).or_insert(0);
            *slot = slot.checked_add(*count)?;
        }
        Some(Self {
            cpu: self.cpu.checked_add(other.cpu)?,
            memory: self.memory.checked_add(other.memory)?,
            disk: self.disk.checked_add(other.disk)?,
            gpus: self.gpus.union(&other.gpus).copied().collect(),
            ports: self.ports.union(&other.ports).copied().collect(),
            slots,
        })
    }

    /// The difference in every dimension, unless one would be negative or a GPU or port is not there.
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        (other.gpus.is_subset(&self.gpus) && other.ports.is_subset(&self.ports)).then_some(())?;
        let mut slots = self.slots.clone();
        for (kind, count) in other.slots.iter().filter(|(_, count)| **count > 0) {
            match slots.get(kind)?.checked_sub(*count)? {
                // An entry of nothing would make equal amounts differ.
                0 => drop(slots.remove(kind)),
                left => drop(slots.insert(*kind, left)),
            }
        }
        Some(Self {
            cpu: self.cpu.checked_sub(other.cpu)?,
            memory: self.memory.checked_sub(other.memory)?,
            disk: self.disk.checked_sub(other.disk)?,
            gpus: self.gpus.difference(&other.gpus).copied().collect(),
            ports: self.ports.difference(&other.ports).copied().collect(),
            slots,
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

    /// How many pods of a kind there is room for, where that is limited.
    pub fn slots_of(&self, kind: ExecutorKind) -> u32 {
        self.slots.get(&kind).copied().unwrap_or(0)
    }

    /// How much there is of each dimension, as a number: slots are added up over the kinds.
    pub fn amounts(&self) -> [(Dimension, u64); 6] {
        [
            (Dimension::Cpu, self.cpu.0),
            (Dimension::Memory, self.memory.0),
            (Dimension::Disk, self.disk.0),
            (Dimension::Gpu, self.gpus.len() as u64),
            (Dimension::Ports, self.ports.len() as u64),
            (Dimension::Slots, self.slots.values().map(|count| u64::from(*count)).sum()),
        ]
    }

    /// Refuses what is too long to travel, and entries that no arithmetic makes.
    pub fn check(&self) -> Result<(), String> {
        if self.gpus.len() > MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} GPUs"));
        }
        if self.ports.len() > MAX_PORTS {
            return Err(format!("more than {MAX_PORTS} ports"));
        }
        if self.ports.contains(&0) {
            return Err("port 0 is no port".to_owned());
        }
        if self.slots.values().any(|count| *count == 0) {
            return Err("a limit of 0 slots: without room for a pod nothing runs".to_owned());
        }
        Ok(())
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} memory, {} disk", self.cpu.cores(), self.memory, self.disk)?;
        if !self.gpus.is_empty() {
            write!(f, ", {} GPU{}", self.gpus.len(), if self.gpus.len() == 1 { "" } else { "s" })?;
        }
        if !self.ports.is_empty() {
            write!(f, ", {} port{}", self.ports.len(), if self.ports.len() == 1 { "" } else { "s" })?;
        }
        self.slots.iter().try_for_each(|(kind, count)| {
            write!(f, ", {count} {kind} slot{}", if *count == 1 { "" } else { "s" })
        })
    }
}

/// What runs a workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutorKind {
    /// A WebAssembly module with WASI.
    #[default]
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
    /// How fast one core is: MiB that it hashes with SHA-256 in a second; 0 where it was not measured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub score: u32,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
    /// How fast the machine is, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<Benchmark>,
}

impl Capability {
    /// Every dimension in which `free`, a part of what is registered here, is less than `need`, by amount (GPUs and
    /// ports are counted). Slots are a dimension only where their number is registered.
    pub fn shortfalls(&self, free: &Resources, need: &Requirement) -> Vec<Shortfall> {
        let is_limited = self.resources.slots.contains_key(&need.executor);
        let dimensions = [
            (Dimension::Cpu, need.cpu.0, free.cpu.0),
            (Dimension::Memory, need.memory.0, free.memory.0),
            (Dimension::Disk, need.disk.0, free.disk.0),
            (Dimension::Gpu, need.gpus.len() as u64, free.gpus.len() as u64),
            (Dimension::Ports, u64::from(need.ports), free.ports.len() as u64),
            (Dimension::Slots, u64::from(is_limited), u64::from(free.slots_of(need.executor))),
        ];
        dimensions
            .into_iter()
            .filter(|(_, needed, had)| needed > had)
            .map(|(dimension, needed, had)| Shortfall { dimension, needed, had, is_owners: false })
            .collect()
    }

    /// Checks counts, texts, and that every counted GPU is described.
    pub fn check(&self) -> Result<(), String> {
        if self.gpus.len() > MAX_ITEMS || self.labels.len() > MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} GPUs or labels"));
        }
        self.resources.check()?;
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
    /// A part of the model's name (`A100`), in any case, if it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl GpuRequirement {
    /// True if this GPU does.
    pub fn accepts(&self, gpu: &Gpu) -> bool {
        let has = |model: &String| gpu.model.to_lowercase().contains(&model.to_lowercase());
        gpu.memory >= self.memory
            && self.vendor.as_ref().is_none_or(|vendor| *vendor == gpu.vendor)
            && self.model.as_ref().is_none_or(has)
    }
}

/// What a pod needs of the node it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// How many ports.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ports: u16,
    /// The instruction set (`x86_64`), if it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Least clock in MHz; 0 if it does not matter. A machine that does not say its clock does not fulfil one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_clock_mhz: u32,
    /// Least score ([`CpuInfo::score`]); 0 if it does not matter. A machine that was not measured does not fulfil one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_score: u32,
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
        if usize::from(self.ports) > MAX_PORTS {
            return Err(format!("more than {MAX_PORTS} ports"));
        }
        if self.architecture.as_ref().is_some_and(String::is_empty) {
            return Err("an architecture without a name".to_owned());
        }
        check_text("architecture", self.architecture.as_deref().unwrap_or_default())?;
        for gpu in &self.gpus {
            check_text("GPU vendor", gpu.vendor.as_deref().unwrap_or_default())?;
            check_text("GPU model", gpu.model.as_deref().unwrap_or_default())?;
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
            ..Resources::default()
        }
    }

    fn with(ports: &[u16], slots: u32) -> Resources {
        let slots = (slots > 0).then_some((ExecutorKind::Wasm, slots));
        Resources {
            ports: ports.iter().copied().collect(),
            slots: slots.into_iter().collect(),
            ..Resources::default()
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
            (with(&[80, 81], 2), true),
            (with(&[81], 1), true),
            (with(&[82], 0), false),
            (with(&[], 3), false),
        ];
        let whole = whole.checked_add(&with(&[80, 81], 2)).unwrap();
        for (part, is_fitting) in table {
            assert_eq!(whole.fits(&part), is_fitting, "{part:?}");
        }
    }

    #[test]
    fn a_gpu_or_port_is_never_counted_twice_and_nothing_overflows() {
        let table = [
            (resources(1, 1, &[0]), resources(1, 1, &[0])),
            (with(&[80], 0), with(&[80, 81], 0)),
            (with(&[], 1), with(&[], u32::MAX)),
            (resources(1, 0, &[]), resources(u64::MAX, 0, &[])),
            (resources(0, u64::MAX, &[]), resources(0, 1, &[])),
        ];
        for (a, b) in table {
            assert_eq!((a.checked_add(&b), b.checked_add(&a)), (None, None), "{a:?} {b:?}");
        }
    }

    #[test]
    fn what_is_used_up_is_gone_and_not_an_entry_of_nothing() {
        let all = with(&[80], 2);
        assert_eq!(all.checked_sub(&all), Some(Resources::default()));
        assert_eq!(Resources::default().checked_sub(&with(&[], 1)), None);
        let zero = Resources { slots: BTreeMap::from([(ExecutorKind::Wasm, 0)]), ..Resources::default() };
        assert_eq!(Resources::default().checked_sub(&zero), Some(Resources::default()));
        assert!(zero.check().is_err());
    }

    #[test]
    fn vectors_that_cannot_travel_are_refused() {
        let many = |count: u16| Resources { ports: (1..=count).collect(), ..Resources::default() };
        assert_eq!(many(256).check(), Ok(()));
        assert!(many(257).check().unwrap_err().contains("256 ports"));
        assert!(with(&[0], 0).check().unwrap_err().contains("port 0"));
        let need = |change: fn(&mut Requirement)| {
            let mut need = Requirement { cpu: CpuMillis(1), memory: MemoryMib(1), ..Requirement::default() };
            change(&mut need);
            need.check()
        };
        assert_eq!(need(|need| need.ports = 256), Ok(()));
        assert!(need(|need| need.ports = 257).unwrap_err().contains("ports"));
        assert!(need(|need| need.architecture = Some(String::new())).is_err());
        assert!(need(|need| need.architecture = Some("x".repeat(513))).is_err());
        let gpu = GpuRequirement { model: Some("x".repeat(513)), ..GpuRequirement::default() };
        assert!(Requirement { gpus: vec![gpu], ..need_something() }.check().is_err());
    }

    fn need_something() -> Requirement {
        Requirement { cpu: CpuMillis(500), memory: MemoryMib(8192), ..Requirement::default() }
    }

    /// The vectors as they were before ports, slots, scores and models: a machine that has none of them, and a pod
    /// that asks for none, are the same bytes, so that rows, logs and older peers are not disturbed.
    #[test]
    fn what_was_written_before_is_written_the_same() {
        #[derive(Serialize)]
        struct OldResources {
            cpu: CpuMillis,
            memory: MemoryMib,
            disk: DiskMib,
            gpus: BTreeSet<GpuId>,
        }
        #[derive(Serialize)]
        struct OldCpuInfo {
            architecture: String,
            model: String,
            cores: u32,
            clock_mhz: u32,
        }
        #[derive(Serialize)]
        struct OldGpuRequirement {
            vendor: Option<String>,
            memory: MemoryMib,
        }
        #[derive(Serialize)]
        struct OldRequirement {
            cpu: CpuMillis,
            memory: MemoryMib,
            disk: DiskMib,
            gpus: Vec<OldGpuRequirement>,
            executor: ExecutorKind,
            locations: BTreeSet<String>,
            labels: BTreeMap<String, String>,
        }
        fn same<Old: Serialize, New>(old: &Old, new: &New)
        where
            New: Serialize + serde::de::DeserializeOwned + PartialEq + fmt::Debug,
        {
            let bytes = crate::to_canonical(old).unwrap();
            assert_eq!(crate::to_canonical(new).unwrap(), bytes);
            assert_eq!(&crate::from_canonical::<New>(&bytes).unwrap(), new);
        }
        let (cpu, memory, disk) = (CpuMillis(500), MemoryMib(8192), DiskMib(3));
        let gpus = BTreeSet::from([GpuId(1)]);
        same(
            &OldResources { cpu, memory, disk, gpus: gpus.clone() },
            &Resources { cpu, memory, disk, gpus, ..Resources::default() },
        );
        let (architecture, model) = ("x86_64".to_owned(), "m".to_owned());
        same(
            &OldCpuInfo { architecture: architecture.clone(), model: model.clone(), cores: 4, clock_mhz: 3 },
            &CpuInfo { architecture, model, cores: 4, clock_mhz: 3, ..CpuInfo::default() },
        );
        same(
            &OldRequirement {
                cpu,
                memory,
                disk,
                gpus: vec![OldGpuRequirement { vendor: None, memory }],
                executor: ExecutorKind::Wasm,
                locations: BTreeSet::new(),
                labels: BTreeMap::new(),
            },
            &Requirement {
                disk,
                gpus: vec![GpuRequirement { memory, ..GpuRequirement::default() }],
                ..need_something()
            },
        );
    }

    #[test]
    fn a_gpu_is_accepted_by_vendor_memory_and_a_part_of_its_name() {
        let gpu =
            Gpu { vendor: "nvidia".into(), model: "NVIDIA A100-SXM4-80GB".into(), memory: MemoryMib(81_920) };
        let table = [
            (None, 0, None, true),
            (Some("nvidia"), 81_920, Some("a100"), true),
            (Some("amd"), 0, None, false),
            (None, 81_921, None, false),
            (None, 0, Some("H100"), false),
        ];
        for (vendor, memory, model, is_accepted) in table {
            let need = GpuRequirement {
                vendor: vendor.map(Into::into),
                memory: MemoryMib(memory),
                model: model.map(Into::into),
            };
            assert_eq!(need.accepts(&gpu), is_accepted, "{need:?}");
        }
    }

    #[test]
    fn shortfalls_name_each_missing_dimension_in_words() {
        let free = resources(1000, 4096, &[]);
        let machine =
            |resources: &Resources| Capability { resources: resources.clone(), ..Capability::default() };
        let texts = |capability: &Capability, free: &Resources, need: &Requirement| {
            let shortfalls = capability.shortfalls(free, need);
            shortfalls.iter().map(Shortfall::to_string).collect::<Vec<_>>()
        };
        assert_eq!(texts(&machine(&free), &free, &need_something()), ["needs 8 GiB memory, have 4 GiB"]);
        let need = Requirement { memory: MemoryMib(1), ports: 2, ..need_something() };
        assert_eq!(texts(&machine(&free), &free, &need), ["needs 2 ports, have 0"], "slots are not limited");
        let limited = machine(&free.checked_add(&with(&[80, 81], 1)).unwrap());
        assert_eq!(texts(&limited, &limited.resources, &need), [""; 0]);
        let used_up = limited.resources.checked_sub(&with(&[80], 1)).unwrap();
        assert_eq!(
            texts(&limited, &used_up, &need),
            ["needs 2 ports, have 1", "needs 1 slots for pods, have 0"]
        );
    }

    proptest! {
        #[test]
        fn taking_away_what_was_added_gives_exactly_the_prior_value(a: (u64, u64), b: (u64, u64)) {
            let more = |sum: Resources, ports: &[u16], slots: u64| sum.checked_add(&with(ports, slots as u32 / 2)).unwrap();
            let a = more(resources(a.0, a.1, &[1]), &[80], a.0);
            let b = more(resources(b.0, b.1, &[2]), &[81, 82], b.1);
            if let Some(sum) = a.checked_add(&b) {
                prop_assert_eq!(sum.checked_sub(&b), Some(a));
            }
        }
    }
}
