//! What runs a workload: the seam between an Allocation actor and WebAssembly, containers and the rest.
//!
//! An [`Executor`] takes a prepared [`Workload`] and the [`Limits`] that were granted, starts it, and
//! gives an [`Execution`]: a bounded stream of output, one outcome, and a stop. Limits granted are
//! limits enforced; whatever the guest does, the node lives.

mod gauge;
pub mod inbox;
pub mod wasm;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::inbox::Inbox;

pub use self::gauge::{Gauge, LiveUsage};

/// Everything a guest gets to see.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The program's bytes (a WebAssembly module).
    pub module: Arc<[u8]>,
    /// Arguments after the program's own name.
    pub args: Vec<String>,
    /// Environment, in the order given.
    pub env: Vec<(String, String)>,
    /// What the guest reads on standard input.
    pub stdin: Vec<u8>,
    /// A directory the guest may read as `/input`, if any.
    pub input: Option<PathBuf>,
    /// An existing, empty directory the guest may write as `/output`.
    pub output: PathBuf,
    /// Where messages for the guest come in, if anybody may send it any. An executor that cannot hand them on drops it.
    pub inbox: Option<Inbox>,
}

/// What was granted, and is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory in bytes, over all memories of the guest.
    pub memory_bytes: u64,
    /// CPU share in thousandths of a core; a guest with less than 1000 is slowed down to its share.
    pub cpu_millis: u64,
    /// Bytes the guest may keep in its output directory.
    pub disk_bytes: u64,
    /// Wall-clock limit, counted from the start.
    pub timeout: Duration,
    /// Bytes of standard output and standard error kept, each.
    pub output_bytes: u64,
}

/// Which stream a chunk of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output, in the order the guest wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Where it was written.
    pub stream: OutputStream,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Why a guest did not end by itself, or could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutionFailure {
    /// The module is not valid, or imports what this executor does not offer.
    #[error("the module cannot be run: {0}")]
    InvalidModule(String),
    /// The guest trapped (unreachable, division by zero, out of bounds, stack exhausted…).
    #[error("the program trapped: {0}")]
    Trapped(String),
    /// The guest wanted more memory than granted.
    #[error("the program wanted more memory than the {granted_bytes} bytes granted")]
    MemoryExceeded {
        /// The grant in bytes.
        granted_bytes: u64,
    },
    /// The guest ran longer than its limit.
    #[error("the program ran longer than {} s", limit.as_secs_f64())]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The guest wrote more to its output directory than granted.
    #[error("the program wrote more than the {granted_bytes} bytes of disk granted")]
    DiskExceeded {
        /// The grant in bytes.
        granted_bytes: u64,
    },
    /// The input that the guest was to read is longer than its disk grant; it was not started.
    #[error("the input alone is larger than the {granted_bytes} bytes of disk granted")]
    InputExceeded {
        /// The grant in bytes.
        granted_bytes: u64,
    },
    /// The host could not do its part (a directory vanished, no thread could be started…).
    #[error("the executor failed: {0}")]
    Host(String),
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The guest ended by itself with this exit code.
    Code(i32),
    /// It was stopped through [`Execution::stop`].
    Stopped,
    /// It failed.
    Failed(ExecutionFailure),
}

/// What an execution used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecutionUsage {
    /// Wall-clock time from start to end.
    pub wall: Duration,
    /// Highest linear memory in bytes.
    pub peak_memory_bytes: u64,
    /// Bytes of output dropped because the stream was over its limit.
    pub output_dropped_bytes: u64,
}

/// The end of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// What it used.
    pub usage: ExecutionUsage,
}

/// A running guest. Dropping it stops the guest.
#[derive(Debug)]
pub struct Execution {
    /// Output as it comes; bounded, a reader that lags slows the guest down. Ends before `outcome` is given.
    pub output: mpsc::Receiver<OutputChunk>,
    /// The one outcome. A sender dropped without a word is the executor's own failure.
    pub outcome: oneshot::Receiver<Outcome>,
    /// Stops the guest when fired or dropped.
    pub stop: oneshot::Sender<()>,
    /// What it uses now; keeps its last numbers when the guest has ended.
    pub gauge: Arc<Gauge>,
}

/// Starts workloads of one kind.
pub trait Executor: Send + Sync + fmt::Debug {
    /// Starts `workload` under `limits` and returns at once; preparing (compiling) is part of the run and
    /// its failure is an [`Outcome`].
    fn start(&self, workload: Workload, limits: Limits) -> Execution;
}
