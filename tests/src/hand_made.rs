//! Parts of nodes and jobs for tests that put them together by hand: a machine, a job that fits it, and an
//! executor that runs nothing.

use std::collections::{BTreeMap, BTreeSet};

use dms_actors::clock::SharedClock;
use dms_messages::{
    Capability, ContentId, CpuMillis, Did, DiskMib, ExecutorKind, Job, JobId, MemoryMib, Millis, Pod,
    Requirement, Resources, Task, Timestamp,
};
use dms_node::executors::{Execution, Executor, Limits, Workload};
use dms_node::trust::{Gate, Trust};
use tokio::sync::{mpsc, oneshot};

/// Runs nothing: what these tests start never gets its module.
#[derive(Debug)]
pub struct NoExecutor;

impl Executor for NoExecutor {
    fn start(&self, _: Workload, _: Limits) -> Execution {
        Execution {
            output: mpsc::channel(1).1,
            outcome: oneshot::channel().1,
            stop: oneshot::channel().0,
            gauge: Default::default(),
        }
    }
}

/// The gate of a node to which nobody is a stranger.
pub fn open_gate(me: Did, network: &str, clock: &SharedClock) -> Gate {
    Gate::new(me, network, &Trust { is_open: true, ..Trust::default() }, clock.clone())
}

/// Nothing, in every dimension.
pub fn nothing() -> Resources {
    Resources::default()
}

/// A machine with room for more than any test asks.
pub fn machine() -> Resources {
    Resources { cpu: CpuMillis(8000), memory: MemoryMib(8000), disk: DiskMib(8000), ..Resources::default() }
}

/// The whole machine, offered for WebAssembly.
pub fn capability() -> Capability {
    let executors = BTreeSet::from([ExecutorKind::Wasm]);
    Capability { resources: machine(), executors, ..Capability::default() }
}

/// What stands for a module; only who says so has it.
pub const MODULE: &[u8] = b"nowhere";

/// A small pod whose module nobody has.
pub fn pod(timeout: Millis) -> Pod {
    let requirement = Requirement {
        cpu: CpuMillis(500),
        memory: MemoryMib(64),
        disk: DiskMib(1),
        gpus: vec![],
        executor: ExecutorKind::Wasm,
        locations: BTreeSet::new(),
        labels: BTreeMap::new(),
        ..Requirement::default()
    };
    let task = Task {
        name: "held".into(),
        module: ContentId::of_bytes(MODULE),
        args: vec![],
        env: BTreeMap::new(),
        stdin: None,
        input: None,
        timeout,
        resources: None,
    };
    Pod { requirement, tasks: vec![task] }
}

/// A job of that pod, for one bid and one attempt.
pub fn job(timeout: Millis) -> Job {
    Job {
        id: JobId::from_random([7; 16]),
        name: "held".into(),
        pods: vec![pod(timeout)],
        max_price: None,
        wanted: 1,
        wait: Millis(60_000),
        max_attempts: 1,
        submitted: Timestamp(1),
    }
}
