//! How fast this machine is: six figures, each measured for two seconds and a half, in three looks that are seconds apart.
//!
//! [`crate::cli`] asks where no node runs, the Node actor (off its turn) where one does. [`Machine`] is the seam behind
//! which tests put a machine of their own. What is measured is a claim, for ranking, never for fitting
//! ([`dms_messages::Benchmark`]).
//!
//! | figure | one run of it | file |
//! |---|---|---|
//! | one core, all cores | hash 256 KiB with SHA-256 | `cpu` |
//! | memory | copy 4 MiB, between buffers far larger than the caches, on all cores | `memory` |
//! | disk | write 32 MiB in order, and sync | `disk` |
//! | syncs | write 4 KiB and sync, for 50 ms | `disk` |
//! | WebAssembly | half a million steps of a loop, as the executor compiles it | `wasm` |
//!
//! A figure is the median of the best quarter of many short runs (`runs`), so that it is the same again: what else the
//! machine does takes time from runs and never gives any. For the same reason the best of the looks counts: a disturbance
//! of some seconds spoils one of each figure, and not all of one. It refuses to leave anything behind: the file that is
//! written has no name, so the system takes it back however the process ends.

pub mod change;
mod cpu;
mod disk;
mod memory;
mod runs;
mod wasm;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dms_messages::{Benchmark, Capability, DiskMib, MemoryMib};

use self::runs::Budget;

pub use dms_messages::Figure;

pub(crate) use self::cpu::score;

/// How long one figure is measured if nobody says otherwise, without its warm-up of a quarter of that: long enough for
/// fifty runs of the slowest kind, and six of them stay below 20 s.
pub const FIGURE_TIME: Duration = Duration::from_secs(2);

/// How often each figure is looked at, with all the others between.
pub const LOOKS: u32 = 3;

/// A wish that measuring ends; clones are the same wish.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Wishes it.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once it is wished.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A measurement under way; it is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Measuring(pub(crate) StopFlag);

impl Drop for Measuring {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Why a machine does not say how fast it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchmarkError {
    /// Nothing can be written where the data lies.
    #[error("the disk cannot be measured: nothing can be written in {}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no room to measure with.
    #[error(
        "the disk cannot be measured: too little is free at {} ({needed} would do)",
        path.display()
    )]
    DiskFull {
        /// Where.
        path: PathBuf,
        /// How much must be free.
        needed: DiskMib,
    },
    /// There is no memory to measure with.
    #[error("the memory cannot be measured: {needed} would do, and it is not free")]
    Memory {
        /// How much must be free.
        needed: MemoryMib,
    },
    /// The system does not say what there is.
    #[error("the system does not say what is free")]
    Host(#[from] crate::host::HostError),
    /// A core gets no thread.
    #[error("the cores cannot be measured: no thread can be started")]
    Thread(#[source] io::Error),
    /// The engine does not run the program.
    #[error("the WebAssembly engine does not run the program that measures it: {0}")]
    Wasm(String),
    /// Somebody wished an end.
    #[error("measuring was stopped")]
    Stopped,
}

/// Something whose speed can be measured.
pub trait Machine: fmt::Debug + Send + Sync {
    /// Has one look at a figure; blocks its thread meanwhile.
    ///
    /// # Errors
    /// See [`BenchmarkError`]; `Stopped` soon after `stop` is set.
    fn measure(&self, figure: Figure, stop: &StopFlag) -> Result<u32, BenchmarkError>;
}

/// The machine this runs on.
#[derive(Debug, Clone)]
pub struct SystemMachine {
    data: PathBuf,
    /// Of one look.
    time: Duration,
}

impl SystemMachine {
    /// The machine with the disk of `data`, or of the nearest directory above it that exists; each figure is
    /// measured for `time`, in [`LOOKS`] looks.
    pub fn new(data: &Path, time: Duration) -> Self {
        Self { data: data.to_path_buf(), time: time / LOOKS }
    }
}

impl Machine for SystemMachine {
    fn measure(&self, figure: Figure, stop: &StopFlag) -> Result<u32, BenchmarkError> {
        let budget = Budget::new(self.time, stop);
        match figure {
            Figure::CpuSingle => cpu::single(&budget),
            Figure::CpuMulti => cpu::multi(&budget),
            Figure::Memory => memory::copied(&budget),
            Figure::DiskWrite => disk::written(&self.data, &budget),
            Figure::DiskSyncs => disk::synced(&self.data, &budget),
            Figure::Wasm => wasm::steps(&budget),
        }
    }
}

/// A machine whose figures are given, for simulations and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct GivenMachine(pub Benchmark);

impl Machine for GivenMachine {
    fn measure(&self, figure: Figure, stop: &StopFlag) -> Result<u32, BenchmarkError> {
        if stop.is_set() { Err(BenchmarkError::Stopped) } else { Ok(figure.of(&self.0)) }
    }
}

/// Measures all figures of a machine: looks at one after another, [`LOOKS`] times. `begins` is told of each look, and how
/// many were before it.
///
/// # Errors
/// The first one: figures are had together or not at all.
pub fn measure(
    machine: &dyn Machine,
    stop: &StopFlag,
    mut begins: impl FnMut(Figure, u32),
) -> Result<Benchmark, BenchmarkError> {
    let mut benchmark = Benchmark::default();
    let looks = (0..LOOKS).flat_map(|_| Figure::ALL);
    for (figure, done) in looks.zip(0..) {
        begins(figure, done);
        let best = figure.of_mut(&mut benchmark);
        *best = machine.measure(figure, stop)?.max(*best);
    }
    Ok(benchmark)
}

/// Puts a benchmark into a capability. The score that jobs ask for is what was measured of one core.
pub fn describe(capability: &mut Capability, benchmark: Benchmark) {
    capability.benchmark = Some(benchmark);
    if benchmark.cpu_single > 0 {
        capability.cpu_info.score = benchmark.cpu_single;
    }
}

/// MiB (or millions) a second of a rate in bytes (or ones) a second; at least 1, since it was measured.
fn per_second(rate: u64, unit: u64) -> u32 {
    u32::try_from(rate / unit).unwrap_or(u32::MAX).max(1)
}

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that fails at one figure.
    #[derive(Debug)]
    struct Broken(Figure);

    impl Machine for Broken {
        fn measure(&self, figure: Figure, _: &StopFlag) -> Result<u32, BenchmarkError> {
            let path = PathBuf::from("/data");
            match figure == self.0 {
                true => Err(BenchmarkError::DiskFull { path, needed: DiskMib(16) }),
                false => Ok(7),
            }
        }
    }

    #[test]
    fn every_figure_is_looked_at_in_turn_and_lands_in_its_own_field() {
        let given =
            Benchmark { cpu_single: 1, cpu_multi: 2, memory: 3, disk_write: 4, disk_syncs: 5, wasm: 6 };
        let mut begun = Vec::new();
        let measured = measure(&GivenMachine(given), &StopFlag::default(), |figure, _| begun.push(figure));
        assert_eq!(measured.unwrap(), given);
        assert_eq!(begun, [Figure::ALL; LOOKS as usize].concat());
        let values: Vec<u32> = Figure::ALL.into_iter().map(|figure| figure.of(&given)).collect();
        assert_eq!(values, [1, 2, 3, 4, 5, 6]);
    }

    /// A machine that is disturbed during one look at each figure, and then during another.
    #[derive(Debug, Default)]
    struct Disturbed(std::sync::atomic::AtomicU32);

    impl Machine for Disturbed {
        fn measure(&self, _: Figure, _: &StopFlag) -> Result<u32, BenchmarkError> {
            let look = self.0.fetch_add(1, Ordering::Relaxed) / Figure::ALL.len() as u32;
            Ok([40, 100, 7][look as usize])
        }
    }

    #[test]
    fn the_best_look_counts() {
        let measured = measure(&Disturbed::default(), &StopFlag::default(), |_, _| {}).unwrap();
        assert!(Figure::ALL.into_iter().all(|figure| figure.of(&measured) == 100), "{measured:?}");
    }

    #[test]
    fn one_figure_that_fails_leaves_none() {
        for figure in Figure::ALL {
            let failed = measure(&Broken(figure), &StopFlag::default(), |_, _| {});
            assert!(matches!(failed, Err(BenchmarkError::DiskFull { .. })), "{figure:?}");
        }
        let stop = StopFlag::default();
        drop(Measuring(stop.clone()));
        let stopped = measure(&GivenMachine::default(), &stop, |_, _| {});
        assert!(matches!(stopped, Err(BenchmarkError::Stopped)));
    }

    #[test]
    fn the_score_of_a_capability_is_its_single_core() {
        let mut capability = Capability::default();
        capability.cpu_info.score = 5;
        describe(&mut capability, Benchmark { wasm: 3, ..Benchmark::default() });
        assert_eq!(capability.cpu_info.score, 5, "what was not measured takes nothing's place");
        describe(&mut capability, Benchmark { cpu_single: 9, ..Benchmark::default() });
        assert_eq!((capability.cpu_info.score, capability.benchmark.unwrap().cpu_single), (9, 9));
    }

    #[test]
    fn the_machine_this_runs_on_has_every_figure_and_keeps_its_directory_clean() {
        let directory = tempfile::tempdir().unwrap();
        // Below it nothing is there yet, as before the first onboarding.
        let machine = SystemMachine::new(&directory.path().join("not/yet"), Duration::from_millis(5));
        let benchmark = measure(&machine, &StopFlag::default(), |_, _| {}).unwrap();
        assert!(Figure::ALL.into_iter().all(|figure| figure.of(&benchmark) > 0), "{benchmark:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_place_where_nothing_can_be_written_is_named() {
        // A file where a directory should be: also whoever may write everywhere cannot write in it.
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        let machine = SystemMachine::new(&file, Duration::from_millis(5));
        let failed = measure(&machine, &StopFlag::default(), |_, _| {}).unwrap_err();
        assert!(matches!(failed, BenchmarkError::Disk { .. }), "{failed:?}");
        assert!(failed.to_string().contains("file"), "{failed}");
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    }

    #[test]
    fn a_wish_to_stop_ends_every_figure() {
        let stop = StopFlag::default();
        stop.set();
        let directory = tempfile::tempdir().unwrap();
        let machine = SystemMachine::new(directory.path(), Duration::from_secs(3600));
        for figure in Figure::ALL {
            let stopped = machine.measure(figure, &stop);
            assert!(matches!(stopped, Err(BenchmarkError::Stopped)), "{figure:?} {stopped:?}");
        }
    }

    #[test]
    fn a_key_is_the_word_of_the_wire_and_the_name_of_the_field() {
        for figure in Figure::ALL {
            let mut benchmark = Benchmark::default();
            *figure.of_mut(&mut benchmark) = 7;
            assert_eq!(figure.of(&benchmark), 7);
            let written = serde_json::to_value(benchmark).unwrap();
            assert_eq!(written[figure.key()], 7, "{figure:?}");
            assert_eq!(serde_json::to_value(figure).unwrap(), figure.key());
        }
    }
}
