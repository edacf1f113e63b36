//! What runs programs on a simulated machine: nothing runs, but as long, and with the outcome, that its arguments say.
//!
//! The state machine around it is the node's own; what the machine did is told to the sink and not to the node alone, so
//! that a node that starts something twice cannot hide it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dms_messages::AllocationId;
use dms_node::executors::{
    Execution, ExecutionUsage, Executor, Exit, Limits, Outcome, OutputChunk, OutputStream, Workload,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::facts::{Fact, NodeIndex};
use super::sink::Sink;

/// The machine under one life of a node.
pub struct Machine {
    node: NodeIndex,
    sink: Sink,
    runtime: Handle,
    runs: Arc<Mutex<Runs>>,
}

#[derive(Default)]
struct Runs {
    /// What runs now, and what ends it with the power.
    running: BTreeMap<AllocationId, AbortHandle>,
    has_power: bool,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The arguments of a program that runs for so long and ends so.
pub fn arguments(run: Duration, exit: i32) -> Vec<String> {
    vec![run.as_millis().to_string(), exit.to_string()]
}

impl Machine {
    /// A machine with power; programs run on the current runtime.
    pub fn new(node: NodeIndex, sink: Sink) -> Self {
        let runs = Arc::new(Mutex::new(Runs { has_power: true, ..Runs::default() }));
        Self { node, sink, runtime: Handle::current(), runs }
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes: nothing runs any more.
    pub fn lose_power(&self) {
        let ended = {
            let mut runs = self.lock();
            runs.has_power = false;
            std::mem::take(&mut runs.running)
        };
        for (allocation, run) in ended {
            run.abort();
            self.sink.tell(self.node, Fact::RunEnded { allocation });
        }
    }
}

/// Which allocation a workload is: its directories are called so.
fn allocation_of(workload: &Workload) -> AllocationId {
    let name = workload.output.parent().and_then(|path| path.file_name()).and_then(|name| name.to_str());
    name.and_then(|name| name.parse().ok()).expect("an output directory below that of its allocation")
}

impl Executor for Machine {
    fn start(&self, workload: Workload, limits: Limits) -> Execution {
        let (output_tx, output) = mpsc::channel(4);
        let (outcome_tx, outcome) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        if !self.lock().has_power {
            return Execution { output, outcome, stop, gauge: Default::default() };
        }
        let allocation = allocation_of(&workload);
        let number = |index: usize| workload.args.get(index).and_then(|text| text.parse::<u64>().ok());
        let wanted = Duration::from_millis(number(0).unwrap_or(0));
        let code = i32::try_from(number(1).unwrap_or(0)).unwrap_or(1);
        self.sink.tell(self.node, Fact::RunBegan { allocation });
        let (sink, node, runs) = (self.sink.clone(), self.node, Arc::clone(&self.runs));
        let run = self.runtime.spawn(async move {
            let bytes = format!("{wanted:?}\n").into_bytes();
            // Its reader may be gone; then it is about to be stopped.
            let _ = output_tx.send(OutputChunk { stream: OutputStream::Stdout, bytes }).await;
            let exit = tokio::select! {
                biased;
                // Fired or dropped, it is a stop either way.
                _ = stopped => Exit::Stopped,
                () = sleep(wanted.min(limits.timeout)) => {
                    if wanted > limits.timeout {
                        Exit::Failed(dms_node::executors::ExecutionFailure::TimedOut { limit: limits.timeout })
                    } else {
                        Exit::Code(code)
                    }
                }
            };
            drop(output_tx);
            let was_running =
                runs.lock().unwrap_or_else(PoisonError::into_inner).running.remove(&allocation).is_some();
            if was_running {
                sink.tell(node, Fact::RunEnded { allocation });
            }
            let usage = ExecutionUsage { wall: wanted, ..ExecutionUsage::default() };
            // The actor may be gone already.
            let _ = outcome_tx.send(Outcome { exit, usage });
        });
        self.lock().running.insert(allocation, run.abort_handle());
        Execution { output, outcome, stop, gauge: Default::default() }
    }
}
