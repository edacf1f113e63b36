//! One guest's store: what it may see, what it may take, and how it ended.
//!
//! [`super::Run`] calls [`run`]. The rights are built here and nowhere else, from an empty WASI context.

use std::sync::Arc;

use tokio::sync::mpsc;
use wasmtime::{Engine, ResourceLimiter, Store, Trap, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder, WasiCtxView, WasiView};

use super::disk::DiskWatch;
use super::messages::Messages;
use super::output::Stdio;
use super::prepare::{Prepared, START};
use super::{Meter, one_line};
use crate::executors::{ExecutionFailure, Exit, Limits, OutputChunk, OutputStream, Workload};

/// Linear memories a guest may have. One is the rule; a component has one per module inside it.
pub(super) const MEMORIES_MAX: usize = 8;

/// Tables a guest may have, with [`TABLE_ELEMENTS_MAX`] elements over all of them.
const TABLES_MAX: usize = 32;

/// Function pointers of the largest programs are some ten thousands; each takes a host pointer.
const TABLE_ELEMENTS_MAX: usize = 1 << 18;

/// Instances a guest may have; a component has some per module inside it.
const INSTANCES_MAX: usize = 64;

/// Open files, directories, streams and polls of one guest. Open files are file descriptors of the whole
/// node, which has 1,024 of them on many systems.
const HANDLES_MAX: usize = 128;

/// Most that one host call may copy out of a guest, in bytes. Such copies are host memory beside the
/// grant, so a guest with less memory also gets less here; no buffer of its is larger than that anyway.
const HOST_COPY_BYTES_MAX: u64 = 128 << 20;

/// Random bytes for one call.
const RANDOM_BYTES_MAX: u64 = 16 << 20;

/// What a guest calls itself.
const PROGRAM_NAME: &str = "program";

/// What a guest's store holds.
pub(super) struct Guest {
    pub(super) wasi: WasiP1Ctx,
    pub(super) messages: Messages,
    limiter: Limiter,
    disk: DiskWatch,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

/// Runs a prepared guest until it ends by itself or is cut off; dropping the future also ends it.
pub(super) async fn run(
    engine: &Engine,
    prepared: Prepared,
    workload: Workload,
    limits: Limits,
    meter: Arc<Meter>,
    output: mpsc::Sender<OutputChunk>,
) -> Exit {
    let guest = match guest(workload, limits, meter, output) {
        Ok(guest) => guest,
        Err(failure) => return Exit::Failed(failure),
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.limiter);
    let host_copy_bytes = limits.memory_bytes.min(HOST_COPY_BYTES_MAX);
    store.set_hostcall_fuel(usize::try_from(host_copy_bytes).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| {
        context.data_mut().disk.check()?;
        Ok(UpdateDeadline::Yield(1))
    });
    match call(&mut store, prepared).await {
        Ok(code) => Exit::Code(code),
        Err(ended) => ended,
    }
}

/// Instantiates and calls the program, gives its exit code or how else it ended.
async fn call(store: &mut Store<Guest>, prepared: Prepared) -> Result<i32, Exit> {
    match prepared {
        Prepared::Module { linked, is_listening } => {
            store.data().messages.decide(is_listening);
            let instance =
                linked.instantiate_async(&mut *store).await.map_err(|error| before_start(&error))?;
            let start = instance
                .get_typed_func::<(), ()>(&mut *store, START)
                .map_err(|error| before_start(&error))?;
            start.call_async(store, ()).await.map_err(|error| ending(&error))?;
            Ok(0)
        }
        Prepared::Component(component) => {
            store.data().messages.decide(false);
            let command =
                component.instantiate_async(&mut *store).await.map_err(|error| before_start(&error))?;
            match command.wasi_cli_run().call_run(store).await.map_err(|error| ending(&error))? {
                Ok(()) => Ok(0),
                Err(()) => Ok(1),
            }
        }
    }
}

/// The guest's store data: an empty WASI context and what the workload names.
fn guest(
    workload: Workload,
    limits: Limits,
    meter: Arc<Meter>,
    output: mpsc::Sender<OutputChunk>,
) -> Result<Guest, ExecutionFailure> {
    let host = |what: &str, error: &dyn std::fmt::Display| {
        ExecutionFailure::Host(one_line(&format!("the {what} directory cannot be opened: {error}")))
    };
    // Its real name, because that is the one under which the system lists what is open in it.
    let output_directory = workload.output.canonicalize().map_err(|error| host("output", &error))?;
    let gauge = Arc::clone(&meter.gauge);
    let stdio = |stream| Stdio::new(stream, output.clone(), limits.output_bytes, Arc::clone(&meter));
    let mut builder = WasiCtxBuilder::new();
    builder
        .arg(PROGRAM_NAME)
        .args(&workload.args)
        .envs(&workload.env)
        .stdin(MemoryInputPipe::new(workload.stdin))
        .stdout(stdio(OutputStream::Stdout))
        .stderr(stdio(OutputStream::Stderr))
        .max_random_size(RANDOM_BYTES_MAX)
        // Not left to the defaults of a library, because everything hangs on them.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .allow_blocking_current_thread(false);
    builder
        .preopened_dir(&output_directory, "/output", FsPerms::ReadWrite)
        .map_err(|error| host("output", &error))?;
    if let Some(input) = &workload.input {
        builder.preopened_dir(input, "/input", FsPerms::ReadOnly).map_err(|error| host("input", &error))?;
    }
    let mut wasi = builder.build_p1();
    wasi.ctx().table.set_max_capacity(HANDLES_MAX);
    Ok(Guest {
        wasi,
        messages: Messages::new(workload.inbox),
        limiter: Limiter::new(limits.memory_bytes, meter),
        disk: DiskWatch::new(output_directory, limits.disk_bytes, gauge),
    })
}

/// How a run ended that was cut off, by itself or by us.
fn ending(error: &wasmtime::Error) -> Exit {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Exit::Code(*code);
    }
    if let Some(failure) = error.downcast_ref::<ExecutionFailure>() {
        return Exit::Failed(failure.clone());
    }
    let text = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => format!("{error:#}"),
    };
    Exit::Failed(ExecutionFailure::Trapped(one_line(&text)))
}

/// How a run ended that did not reach its start. A trap here is one of the module's own start function;
/// anything else is a module that asks for what no guest gets.
fn before_start(error: &wasmtime::Error) -> Exit {
    match ending(error) {
        Exit::Failed(ExecutionFailure::Trapped(text)) if !error.is::<Trap>() => {
            Exit::Failed(ExecutionFailure::InvalidModule(text))
        }
        exit => exit,
    }
}

/// Holds a guest to its memory over all its linear memories, and bounds what else it can make.
struct Limiter {
    granted_bytes: u64,
    taken_bytes: u64,
    /// The growth allowed last, taken back if the system refuses it.
    last_growth_bytes: u64,
    table_elements: usize,
    last_growth_elements: usize,
    meter: Arc<Meter>,
}

impl Limiter {
    fn new(granted_bytes: u64, meter: Arc<Meter>) -> Self {
        Self {
            granted_bytes,
            taken_bytes: 0,
            last_growth_bytes: 0,
            table_elements: 0,
            last_growth_elements: 0,
            meter,
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.last_growth_bytes = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own limit, which it set for itself and may run into.
            return Ok(false);
        }
        let growth = desired.saturating_sub(current) as u64;
        let wanted = self.taken_bytes.saturating_add(growth);
        if wanted > self.granted_bytes {
            // An error and not a refusal: most programs meet a refused growth by a crash that says nothing.
            return Err(ExecutionFailure::MemoryExceeded { granted_bytes: self.granted_bytes }.into());
        }
        self.taken_bytes = wanted;
        self.last_growth_bytes = growth;
        self.meter.gauge.set_memory(wanted);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::warn!(%error, "the system refused memory that a guest was granted");
        self.taken_bytes -= std::mem::take(&mut self.last_growth_bytes);
        self.meter.gauge.set_memory(self.taken_bytes);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.last_growth_elements = 0;
        let growth = desired.saturating_sub(current);
        let wanted = self.table_elements.saturating_add(growth);
        if wanted > TABLE_ELEMENTS_MAX {
            return Ok(false);
        }
        self.table_elements = wanted;
        self.last_growth_elements = growth;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // The table's own maximum; the guest is told by the instruction's result.
        self.table_elements -= std::mem::take(&mut self.last_growth_elements);
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_over_all_memories_and_a_failed_growth_is_given_back() {
        let meter = Arc::new(Meter::default());
        let mut limiter = Limiter::new(300, Arc::clone(&meter));
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        assert!(limiter.memory_growing(0, 200, Some(200)).unwrap());
        let error = limiter.memory_growing(100, 101, None).unwrap_err();
        assert!(matches!(
            ending(&error),
            Exit::Failed(ExecutionFailure::MemoryExceeded { granted_bytes: 300 })
        ));
        assert_eq!(meter.gauge.read().peak_memory_bytes, 300);

        let mut limiter = Limiter::new(300, meter);
        assert!(limiter.memory_growing(0, 300, None).unwrap());
        limiter.memory_grow_failed(wasmtime::format_err!("no memory")).unwrap();
        assert_eq!(limiter.meter.gauge.read().memory_bytes, 0);
        assert!(limiter.memory_growing(0, 300, None).unwrap());
        assert!(!limiter.memory_growing(300, 400, Some(300)).unwrap(), "the module's own maximum");
    }

    #[test]
    fn table_elements_are_counted_over_all_tables() {
        let mut limiter = Limiter::new(0, Arc::default());
        assert!(limiter.table_growing(0, TABLE_ELEMENTS_MAX, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
    }
}
