//! Runs WebAssembly workloads: the embedded executor that needs no daemon and no root.
//!
//! An Allocation actor calls [`WasmExecutor::start`]. Core modules run as WASI preview 1 commands
//! (`_start`), components as WASI preview 2 commands (`wasi:cli/run`); the text format is taken too.
//!
//! Every guest has a thread of its own with a current-thread runtime. The shared runtime would be the
//! cheaper choice in threads, but a guest computes for whole 10 ms slices between two yields, and on a
//! shared worker those slices would be taken from the network and the actors. How many guests run at once
//! is bounded by what the node has granted, not here.
//!
//! What it refuses: any right that was not handed over. No environment, no network, no directory besides
//! `/input` and `/output`, no memory, disk, output or time over the grant, and no module that imports
//! anything but WASI and, for messages, `dms_v1` (`wasm/messages.rs`).

mod disk;
mod guest;
mod messages;
mod output;
mod prepare;
#[cfg(test)]
mod tests;
mod throttle;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use wasmtime::{Config, Engine};

use self::prepare::Preparer;
use super::{
    Execution, ExecutionFailure, ExecutionUsage, Executor, Exit, Gauge, Limits, Outcome, OutputChunk,
    Workload,
};

/// Time between two points at which a computing guest lets go of its thread. A stop or a time limit
/// takes effect within one or two of these; shorter ones cost every guest speed.
const EPOCH: Duration = Duration::from_millis(10);

/// Stack a guest may use for its own calls. Deep recursion beyond it traps.
const GUEST_STACK_BYTES: usize = 1 << 20;

/// Stack of the fibre a guest runs on: its own share and 1 MiB for the host functions it calls.
const FIBRE_STACK_BYTES: usize = 2 << 20;

/// Address space (not memory) kept for each 32-bit linear memory. At 4 GiB the compiler can leave out
/// bounds checks; with [`guest::MEMORIES_MAX`] memories each, thousands of guests fit in 47 bits.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// Chunks of output that wait for the reader before the guest is held back: at most 512 KiB per guest.
const OUTPUT_QUEUE_CHUNKS: usize = 32;

/// How long the end of a run waits for a file operation that is still under way. One that hangs (a named
/// pipe in `/input`, a dead network disk) is left behind on its thread: the outcome matters more.
const LAST_FILE_OPERATION: Duration = Duration::from_millis(100);

/// Threads for file operations and compiling per guest. A guest waits for each operation it starts, so one
/// is the usual number; the rest is for operations of cancelled polls.
const BLOCKING_THREADS_MAX: usize = 4;

/// Longest message about a guest's failure, in characters; names in it are the guest's choice.
const MESSAGE_CHARS_MAX: usize = 300;

/// Why a [`WasmExecutor`] could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WasmExecutorError {
    /// The WebAssembly engine does not work on this machine with these settings.
    #[error("the WebAssembly engine could not be made")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The thread that interrupts guests could not be started.
    #[error("the thread that interrupts guests could not be started")]
    Ticker(#[source] std::io::Error),
}

/// The WebAssembly executor: one engine, one cache of compiled modules, any number of guests.
///
/// Dropping it lets running guests finish under their limits.
pub struct WasmExecutor {
    engine: Engine,
    preparer: Arc<Preparer>,
    ticker: JoinHandle<()>,
    pulse: PulseOwner,
}

impl WasmExecutor {
    /// Makes the engine and starts the thread that interrupts guests; it ends when the executor and its
    /// last guest are gone.
    ///
    /// # Errors
    /// [`WasmExecutorError`] if the engine or the thread cannot be had on this machine.
    pub fn new() -> Result<Self, WasmExecutorError> {
        let engine_error = |error: wasmtime::Error| WasmExecutorError::Engine(error.into_boxed_dyn_error());
        let engine = new_engine().map_err(engine_error)?;
        let preparer = Arc::new(Preparer::new(&engine).map_err(engine_error)?);
        let pulse = Arc::new(Pulse::default());
        let (ticked, beating) = (engine.clone(), Arc::clone(&pulse));
        let ticker = thread::Builder::new()
            .name("dms-wasm-epoch".into())
            .spawn(move || tick(&ticked, &beating))
            .map_err(WasmExecutorError::Ticker)?;
        Ok(Self { engine, preparer, ticker, pulse: PulseOwner(pulse) })
    }

    /// Modules compiled so far; runs served from the cache do not count.
    #[must_use]
    pub fn compiled_modules(&self) -> u64 {
        self.preparer.compiled()
    }
}

/// An engine as guests have it; also what is measured of this machine.
pub(crate) fn new_engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .async_stack_size(FIBRE_STACK_BYTES)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        // Nobody sees frames here, and collecting them after a deep recursion is work a guest could order.
        .wasm_backtrace_max_frames(None);
    Engine::new(&config)
}

impl fmt::Debug for WasmExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmExecutor")
            .field("compiled_modules", &self.compiled_modules())
            .field("is_ticking", &!self.ticker.is_finished())
            .finish_non_exhaustive()
    }
}

impl Executor for WasmExecutor {
    fn start(&self, workload: Workload, limits: Limits) -> Execution {
        let (output_tx, output) = mpsc::channel(OUTPUT_QUEUE_CHUNKS);
        let (outcome_tx, outcome) = oneshot::channel();
        let (stop, stop_rx) = oneshot::channel();
        let guest = PulseGuest::enter(&self.pulse.0);
        let meter = Arc::<Meter>::default();
        let gauge = Arc::clone(&meter.gauge);
        let run = Run {
            started: Instant::now(),
            engine: self.engine.clone(),
            preparer: Arc::clone(&self.preparer),
            meter,
            workload,
            limits,
            stop: stop_rx,
            output: output_tx,
        };
        let spawned = thread::Builder::new().name("dms-wasm".into()).spawn(move || {
            let (started, meter) = (run.started, Arc::clone(&run.meter));
            let exit = guarded(|| run.execute());
            tracing::debug!(?exit, "guest ended");
            drop(guest);
            // Nobody may be waiting any more; then nobody is told.
            let _ = outcome_tx.send(Outcome { exit, usage: meter.usage(started) });
        });
        match spawned {
            Ok(_) => Execution { output, outcome, stop, gauge },
            Err(error) => {
                let (refusal_tx, outcome) = oneshot::channel();
                let failure = ExecutionFailure::Host(format!("no thread for the program: {error}"));
                let _ = refusal_tx
                    .send(Outcome { exit: Exit::Failed(failure), usage: ExecutionUsage::default() });
                Execution { output, outcome, stop, gauge }
            }
        }
    }
}

/// What a run used, counted from inside the guest's store and read when it has ended.
#[derive(Debug, Default)]
struct Meter {
    gauge: Arc<Gauge>,
    output_dropped_bytes: AtomicU64,
}

impl Meter {
    fn usage(&self, started: Instant) -> ExecutionUsage {
        ExecutionUsage {
            wall: started.elapsed(),
            peak_memory_bytes: self.gauge.read().peak_memory_bytes,
            output_dropped_bytes: self.output_dropped_bytes.load(Ordering::Relaxed),
        }
    }
}

/// One guest from start to end, on its own thread.
struct Run {
    started: Instant,
    engine: Engine,
    preparer: Arc<Preparer>,
    meter: Arc<Meter>,
    workload: Workload,
    limits: Limits,
    stop: oneshot::Receiver<()>,
    output: mpsc::Sender<OutputChunk>,
}

impl Run {
    /// Runs the guest. When this returns, nothing holds the output channel's sender any more.
    fn execute(self) -> Exit {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("dms-wasm-io")
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return Exit::Failed(ExecutionFailure::Host(format!("no runtime: {error}"))),
        };
        // A panic is caught inside, because dropping a runtime waits for its file operations without end.
        let exit = guarded(|| runtime.block_on(self.until_stopped()));
        runtime.shutdown_timeout(LAST_FILE_OPERATION);
        exit
    }

    async fn until_stopped(self) -> Exit {
        let Self { started, engine, preparer, meter, workload, limits, stop, output } = self;
        let output_directory = workload.output.clone();
        let left = limits.timeout.saturating_sub(started.elapsed());
        let gauge = Arc::clone(&meter.gauge);
        let guest = throttle::throttled(limits.cpu_millis, &gauge, async {
            let prepared = match preparer.prepare(Arc::clone(&workload.module)).await {
                Ok(prepared) => prepared,
                Err(failure) => return Exit::Failed(failure),
            };
            guest::run(&engine, prepared, workload, limits, meter, output).await
        });
        let exit = tokio::select! {
            biased;
            // Fired or dropped, it is a stop either way.
            _ = stop => Exit::Stopped,
            () = tokio::time::sleep(left) => {
                Exit::Failed(ExecutionFailure::TimedOut { limit: limits.timeout })
            }
            exit = guest => exit,
        };
        // A guest that ended by itself may have written after the last look.
        match exit {
            Exit::Code(_) => match disk::check(&output_directory, limits.disk_bytes) {
                Ok(bytes) => {
                    gauge.set_disk(bytes);
                    exit
                }
                Err(failure) => Exit::Failed(failure),
            },
            _ => exit,
        }
    }
}

/// Runs `work` and turns a panic into the executor's own failure, so that an outcome is always given.
fn guarded(work: impl FnOnce() -> Exit) -> Exit {
    // Whatever the panic left half-done belongs to this one guest and is dropped with it.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Exit::Failed(ExecutionFailure::Host(one_line(&format!("panic in the executor: {text}"))))
    })
}

/// Whether there is anybody to interrupt: without guests the ticker rests, so that an idle node does not wake its
/// machine a hundred times a second. A lock and not a channel, because two kinds of news end one wait.
#[derive(Default)]
struct Pulse {
    state: Mutex<PulseState>,
    changed: Condvar,
}

#[derive(Default)]
struct PulseState {
    guest_count: usize,
    is_executor_gone: bool,
}

impl Pulse {
    fn change(&self, change: impl FnOnce(&mut PulseState)) {
        // Nothing that could panic is done under the lock.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Waits for a guest; false if none will come any more.
    fn wait_for_guest(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |state: &mut PulseState| state.guest_count == 0 && !state.is_executor_gone;
        let state = self.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner);
        state.guest_count > 0
    }
}

/// The executor's part: its end lets the ticker end.
struct PulseOwner(Arc<Pulse>);

impl Drop for PulseOwner {
    fn drop(&mut self) {
        self.0.change(|state| state.is_executor_gone = true);
    }
}

/// A guest's part: as long as it lives the ticker ticks.
struct PulseGuest(Arc<Pulse>);

impl PulseGuest {
    fn enter(pulse: &Arc<Pulse>) -> Self {
        pulse.change(|state| state.guest_count += 1);
        Self(Arc::clone(pulse))
    }
}

impl Drop for PulseGuest {
    fn drop(&mut self) {
        self.0.change(|state| state.guest_count -= 1);
    }
}

/// Advances the epoch while there are guests, until the executor and the last of them are gone.
#[expect(clippy::disallowed_methods, reason = "the clock of the guests is the one thread that has to sleep")]
fn tick(engine: &Engine, pulse: &Pulse) {
    while pulse.wait_for_guest() {
        thread::sleep(EPOCH);
        engine.increment_epoch();
    }
}

/// Makes one bounded line of a text in which a guest may have had a say.
fn one_line(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = String::new();
    for word in clean.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
