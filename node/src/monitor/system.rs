//! The meter of the machine that this runs on: what `sysinfo` reads, and only what is asked for.
//!
//! Each sample reads a dozen files of the kernel's and asks one file system how full it is; no list of processes, of
//! disks or of users is ever made. What it costs is a figure of `make bench` (`monitor_cost`).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dms_messages::{CpuMillis, DiskMib, MemoryMib};
use sysinfo::{
    Components, CpuRefreshKind, Disk, DiskRefreshKind, Disks, MemoryRefreshKind, Networks, Pid,
    ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System,
};

use super::{HostMeter, MeterError};
use crate::capability::headroom::MachineSample;
use crate::host::memory_of;

/// Samples between two looks for sensors and interfaces that came since: some minutes at the usual period. Listing
/// them costs more than all the rest.
const LIST_EVERY: u32 = 60;

/// The machine this runs on.
///
/// A lock and no thread of its own: one sample is taken at a time, on whatever worker is free.
#[derive(Debug)]
pub struct SystemMeter {
    data_dir: PathBuf,
    state: Mutex<Option<State>>,
}

/// What is kept from one sample to the next.
#[derive(Debug)]
struct State {
    system: System,
    process: Pid,
    disk: Option<Disk>,
    networks: Networks,
    components: Components,
    /// Processor time of this process at the last sample, in milliseconds, and when that was.
    own: (u64, Instant),
    samples: u32,
}

impl SystemMeter {
    /// A meter of this machine; disk is that where `data_dir` is.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_path_buf(), state: Mutex::new(None) }
    }
}

fn failed(error: impl std::fmt::Display) -> MeterError {
    MeterError(error.to_string())
}

impl State {
    fn new(data_dir: &Path) -> Result<Self, MeterError> {
        let refresh = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let data_dir = data_dir.canonicalize().map_err(failed)?;
        let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
        let disks: Vec<Disk> = disks.map_err(failed)?.into();
        let disk = disks
            .into_iter()
            .filter(|disk| data_dir.starts_with(disk.mount_point()))
            .max_by_key(|disk| disk.mount_point().components().count());
        Ok(Self {
            system: System::new_with_specifics(refresh).map_err(failed)?,
            process: sysinfo::get_current_pid().map_err(failed)?,
            disk,
            networks: Networks::new_with_refreshed_list().map_err(failed)?,
            components: Components::new_with_refreshed_list().map_err(failed)?,
            own: (0, Instant::now()),
            samples: 0,
        })
    }

    fn sample(&mut self) -> Result<MachineSample, MeterError> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.process]), false, what);
        let process =
            self.system.process(self.process).ok_or_else(|| failed("it does not know this process"))?;
        let (spent, now) = (process.accumulated_cpu_time(), Instant::now());
        let (spent_before, before) = std::mem::replace(&mut self.own, (spent, now));
        let is_first = self.samples == 0;
        let elapsed = u64::try_from(now.duration_since(before).as_millis()).unwrap_or(u64::MAX).max(1);
        // Without a sample before there is no share, only a sum.
        let own =
            if is_first { 0 } else { spent.saturating_sub(spent_before).saturating_mul(1000) / elapsed };
        let cores = self.system.cpus().len() as u64;
        let used = f64::from(self.system.global_cpu_usage()) * 10.0 * cores as f64;
        let (memory, memory_free) = memory_of(&self.system);
        let own_memory = process.memory();
        if let Some(disk) = &mut self.disk {
            disk.refresh_specifics(DiskRefreshKind::nothing().with_storage());
        }
        self.refresh_lists();
        let outward = self.networks.iter().filter(|(name, _)| *name != "lo" && *name != "lo0");
        let (received, sent) = outward.fold((0u64, 0u64), |(received, sent), (_, it)| {
            (received.saturating_add(it.total_received()), sent.saturating_add(it.total_transmitted()))
        });
        let hottest = self.components.iter().filter_map(|component| component.temperature());
        let hottest = hottest
            .filter(|degrees| degrees.is_finite())
            .fold(None, |most: Option<f32>, one| Some(most.map_or(one, |most| most.max(one))));
        let load = System::load_average().ok().map(|load| load.one).filter(|load| load.is_finite());
        let space = |of: fn(&Disk) -> u64| DiskMib(self.disk.as_ref().map_or(0, of) >> 20);
        Ok(MachineSample {
            cpu: CpuMillis(cores * 1000),
            cpu_used: CpuMillis((used.max(0.0) as u64).min(cores * 1000)),
            cpu_own: CpuMillis(own),
            load_hundredths: load.map(|load| (load.max(0.0) * 100.0) as u32),
            memory,
            memory_free,
            memory_own: MemoryMib(own_memory >> 20),
            disk: space(Disk::total_space),
            disk_free: space(Disk::available_space),
            received_bytes: received,
            sent_bytes: sent,
            temperature: hottest.map(|degrees| degrees as i16),
        })
    }

    /// Reads the sensors and interfaces that are known, and from time to time looks for others.
    fn refresh_lists(&mut self) {
        if self.samples.is_multiple_of(LIST_EVERY) {
            self.components.refresh(true);
        } else {
            self.components.iter_mut().for_each(|component| component.refresh());
        }
        self.networks.refresh(true);
        self.samples = self.samples.wrapping_add(1);
    }
}

impl HostMeter for SystemMeter {
    fn sample(&self) -> Result<MachineSample, MeterError> {
        // A panic leaves at worst a sample half taken.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_none() {
            *state = Some(State::new(&self.data_dir)?);
        }
        match &mut *state {
            Some(state) => state.sample(),
            None => Err(failed("it was not opened")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_says_how_it_stands() {
        let directory = tempfile::tempdir().unwrap();
        let meter = SystemMeter::new(directory.path());
        let first = meter.sample().unwrap();
        // Something is done between the two, so that a share can be seen.
        let until = Instant::now() + std::time::Duration::from_millis(300);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        let second = meter.sample().unwrap();
        for sample in [first, second] {
            assert!(sample.cpu.0 >= 1000 && sample.cpu_used <= sample.cpu, "{sample:?}");
            assert!(sample.memory.0 > 0 && sample.memory_free <= sample.memory, "{sample:?}");
            assert!(sample.memory_own.0 > 0 && sample.memory_own <= sample.memory, "{sample:?}");
            assert!(sample.disk.0 > 0 && sample.disk_free <= sample.disk, "{sample:?}");
            assert!(sample.load_hundredths.is_some(), "{sample:?}");
        }
        assert_eq!(first.cpu_own, CpuMillis(0), "no share without a sample before");
        assert!(second.cpu_own.0 > 0, "{second:?}");
        assert!(second.received_bytes >= first.received_bytes);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_and_no_panic() {
        let meter = SystemMeter::new(Path::new("/does/not/exist"));
        assert!(meter.sample().is_err());
    }
}
