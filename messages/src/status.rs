//! What an allocation says while it lives, and what its requester says to it.
//!
//! `AllocationStatus` is signed (the last one is the receipt) and direct, sent at each change and when
//! asked; the result is kept until it is acknowledged. `AllocationStatusRequest`, `AllocationOutput`,
//! `Acknowledge` and `Cancel` are frames.

use std::fmt;

use dms_actors::ContentId;
use dms_actors::signed::Document;
use serde::{Deserialize, Serialize};

use crate::check_text;
use crate::ids::{AllocationId, AttemptId};
use crate::units::{DiskMib, MemoryMib, Millis};

/// Why an allocation failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureCause {
    /// The program ended by itself with a code other than 0.
    ExitCode {
        /// The code.
        code: i32,
    },
    /// The module is not valid, or imports what is not offered.
    InvalidModule {
        /// What is wrong.
        text: String,
    },
    /// The program trapped.
    Trapped {
        /// The trap.
        text: String,
    },
    /// The program wanted more memory than granted.
    MemoryExceeded {
        /// The grant.
        granted: MemoryMib,
    },
    /// The program wrote more than the disk granted.
    DiskExceeded {
        /// The grant.
        granted: DiskMib,
    },
    /// The program ran longer than its limit.
    TimedOut {
        /// The limit.
        limit: Millis,
    },
    /// The input alone is larger than the disk granted: the program was not started.
    InputExceeded {
        /// The grant.
        granted: DiskMib,
    },
    /// The module or an input could not be fetched.
    InputUnavailable {
        /// What, and why.
        text: String,
    },
    /// The outputs could not be kept.
    OutputRefused {
        /// Why.
        text: String,
    },
    /// The provider's executor failed.
    Executor {
        /// How.
        text: String,
    },
    /// The provider was restarted meanwhile.
    NodeRestarted,
    /// The allocation's actor panicked.
    Panic,
}

impl FailureCause {
    /// True if the program itself is to blame, so that another try would end the same way.
    pub fn is_programs_own(&self) -> bool {
        match self {
            Self::ExitCode { .. }
            | Self::InvalidModule { .. }
            | Self::Trapped { .. }
            | Self::MemoryExceeded { .. }
            | Self::DiskExceeded { .. }
            | Self::InputExceeded { .. }
            | Self::OutputRefused { .. }
            | Self::TimedOut { .. } => true,
            Self::InputUnavailable { .. } | Self::Executor { .. } | Self::NodeRestarted | Self::Panic => {
                false
            }
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::InvalidModule { text }
            | Self::Trapped { text }
            | Self::InputUnavailable { text }
            | Self::OutputRefused { text }
            | Self::Executor { text } => text,
            _ => "",
        }
    }
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExitCode { code } => write!(f, "the program ended with exit code {code}"),
            Self::InvalidModule { text } => write!(f, "the module cannot be run: {text}"),
            Self::Trapped { text } => write!(f, "the program trapped: {text}"),
            Self::MemoryExceeded { granted } => {
                write!(f, "the program wanted more than the {granted} of memory granted")
            }
            Self::DiskExceeded { granted } => {
                write!(f, "the program wrote more than the {granted} of disk granted")
            }
            Self::InputExceeded { granted } => {
                write!(f, "the input alone is larger than the {granted} of disk granted")
            }
            Self::TimedOut { limit } => write!(f, "the program ran longer than {limit}"),
            Self::InputUnavailable { text } => write!(f, "an input could not be fetched: {text}"),
            Self::OutputRefused { text } => write!(f, "the outputs could not be kept: {text}"),
            Self::Executor { text } => write!(f, "the executor failed: {text}"),
            Self::NodeRestarted => f.write_str("the provider was restarted"),
            Self::Panic => f.write_str("the allocation's actor panicked"),
        }
    }
}

/// Why an allocation was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopCause {
    /// Its requester cancelled it.
    Cancelled,
    /// A newer attempt has taken its place.
    Superseded,
    /// Its requester was not heard of for too long.
    Orphaned,
    /// The provider stops.
    NodeStopping,
    /// The provider takes its offer back.
    Offboarding,
    /// Another task of its pod failed.
    TaskFailed,
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::Superseded => "a newer attempt has taken its place",
            Self::Orphaned => "its requester was not heard of for too long",
            Self::NodeStopping => "the provider is stopping",
            Self::Offboarding => "the provider takes its offer back",
            Self::TaskFailed => "another task of its pod failed",
        })
    }
}

/// The life of an allocation, as its provider sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AllocationState {
    /// The lock has become an allocation.
    Accepted,
    /// The module and inputs are being fetched.
    Preparing,
    /// The program runs.
    Running,
    /// The program ended with exit code 0.
    Succeeded,
    /// It failed.
    Failed {
        /// Why.
        cause: FailureCause,
    },
    /// It was stopped.
    Stopped {
        /// Why.
        cause: StopCause,
    },
}

impl AllocationState {
    /// How a pod stands, from how each of its tasks does. It runs as soon as one of them does, and has ended when all
    /// have: as the first that failed did (by its program's own fault, if there is one), or else as the first that was
    /// stopped.
    pub fn of_pod<'a>(tasks: impl IntoIterator<Item = &'a Self, IntoIter: Clone>) -> Self {
        let tasks = tasks.into_iter();
        if !tasks.clone().all(Self::is_terminal) {
            return match tasks.map(Self::rank).max().unwrap_or(0) {
                0 => Self::Accepted,
                1 => Self::Preparing,
                _ => Self::Running,
            };
        }
        let is_own = |it: &&Self| matches!(it, Self::Failed { cause } if cause.is_programs_own());
        let is_failed = |it: &&Self| matches!(it, Self::Failed { .. });
        // What follows from another's end says less than that end.
        let is_stopped =
            |it: &&Self| matches!(it, Self::Stopped { cause } if *cause != StopCause::TaskFailed);
        let find = |is_it: &dyn Fn(&&Self) -> bool| tasks.clone().find(|it| is_it(it));
        let worst = find(&is_own).or_else(|| find(&is_failed)).or_else(|| find(&is_stopped));
        worst.or_else(|| find(&|it| **it != Self::Succeeded)).cloned().unwrap_or(Self::Succeeded)
    }

    /// True if nothing follows.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed { .. } | Self::Stopped { .. })
    }

    /// Orders the states of one attempt: a later state has a higher rank.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Preparing => 1,
            Self::Running => 2,
            Self::Succeeded | Self::Failed { .. } | Self::Stopped { .. } => 3,
        }
    }

    /// True if a job may end with this state, so that its requester fetches what the program left.
    pub fn is_kept(&self) -> bool {
        match self {
            Self::Succeeded | Self::Stopped { cause: StopCause::Cancelled } => true,
            Self::Failed { cause } => cause.is_programs_own(),
            _ => false,
        }
    }

    /// The exit code that a person's shell should see, if the program ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Succeeded => Some(0),
            Self::Failed { cause: FailureCause::ExitCode { code } } => Some(*code),
            _ => None,
        }
    }
}

impl fmt::Display for AllocationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Preparing => f.write_str("preparing"),
            Self::Running => f.write_str("running"),
            Self::Succeeded => f.write_str("succeeded"),
            Self::Failed { cause } => write!(f, "failed: {cause}"),
            Self::Stopped { cause } => write!(f, "stopped: {cause}"),
        }
    }
}

/// What an ended allocation leaves, to be pulled by its identifiers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationResult {
    /// Standard output, whole up to the limit.
    pub stdout: ContentId,
    /// Standard error, whole up to the limit.
    pub stderr: ContentId,
    /// The [`crate::FileTree`] of the output directory, if anything is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<ContentId>,
    /// Wall-clock time of the program.
    pub wall: Millis,
    /// Highest memory.
    pub peak_memory: MemoryMib,
    /// Bytes of output dropped over the limit.
    pub output_dropped: u64,
}

/// True for the first task, which documents do not say: most pods have no other.
fn is_first(task: &u16) -> bool {
    *task == 0
}

/// How a task of an attempt stands. The last one, with the result, is the receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationStatus {
    /// The attempt.
    pub attempt: AttemptId,
    /// The allocation.
    pub allocation: AllocationId,
    /// Which task of the pod it runs, from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub task: u16,
    /// How it stands.
    pub state: AllocationState,
    /// What it left; only in a terminal state, and only if the program was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<AllocationResult>,
}

impl Document for AllocationStatus {
    const KIND: &'static str = "dms.allocation-status";
    const VERSION: u16 = 1;
    const IS_DIRECTED: bool = true;

    fn check(&self) -> Result<(), String> {
        if usize::from(self.task) >= crate::job::MAX_TASKS {
            return Err("no pod has so many tasks".to_owned());
        }
        if self.result.is_some() && !self.state.is_terminal() {
            return Err("only a terminal state has a result".to_owned());
        }
        match &self.state {
            AllocationState::Succeeded if self.result.is_none() => Err("a success has a result".to_owned()),
            AllocationState::Failed { cause } => check_text("cause", cause.text()),
            _ => Ok(()),
        }
    }
}

/// The requester asks how an attempt stands; also its sign of life. Answered with an
/// [`AllocationStatus`] or [`crate::Refused`].
#[doc(alias = "checkAllocationStatus")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationStatusRequest {
    /// The attempt.
    pub attempt: AttemptId,
    /// How much standard output the requester has, in bytes: live output goes on there. The largest number if it has
    /// room for no more.
    pub stdout_offset: u64,
    /// The same of standard error.
    pub stderr_offset: u64,
    /// The same of the tasks after the first, both streams, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<(u64, u64)>,
}

dms_actors::wire_message!(AllocationStatusRequest, "dms.allocation-status-request", 1);

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of live output. A convenience: what counts is the result's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationOutput {
    /// The attempt.
    pub attempt: AttemptId,
    /// Which task of the pod wrote it, from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub task: u16,
    /// Which stream.
    pub stream: OutputStream,
    /// Where the piece begins within the stream, in bytes.
    pub offset: u64,
    /// The piece, at most 16 KiB.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

dms_actors::wire_message!(AllocationOutput, "dms.allocation-output", 1);

/// The requester has the result on disk; the provider may forget it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// The attempt.
    pub attempt: AttemptId,
}

dms_actors::wire_message!(Acknowledge, "dms.acknowledge", 1);

/// The requester wants an attempt stopped. Answered with the resulting [`AllocationStatus`] or
/// [`crate::Refused`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The attempt.
    pub attempt: AttemptId,
    /// Why.
    pub cause: StopCause,
}

dms_actors::wire_message!(Cancel, "dms.cancel", 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_stands_as_its_tasks_do() {
        use AllocationState::{Accepted, Preparing, Running, Succeeded};
        let failed = |cause| AllocationState::Failed { cause };
        let exit = |code| failed(FailureCause::ExitCode { code });
        let stopped = |cause| AllocationState::Stopped { cause };
        let (another, cancelled) = (stopped(StopCause::TaskFailed), stopped(StopCause::Cancelled));
        let table: &[(&[AllocationState], AllocationState)] = &[
            (&[Accepted], Accepted),
            (&[Accepted, Preparing], Preparing),
            (&[Accepted, Running], Running),
            // Whatever has ended, the pod runs until all have.
            (&[Succeeded, Accepted], Running),
            (&[exit(1), Running], Running),
            (&[Succeeded, Succeeded], Succeeded),
            (&[exit(3)], exit(3)),
            (&[another.clone(), exit(3), Succeeded], exit(3)),
            (&[exit(4), exit(3)], exit(4)),
            // What a program did by itself another try would not change.
            (&[failed(FailureCause::NodeRestarted), exit(3)], exit(3)),
            (&[Succeeded, failed(FailureCause::NodeRestarted)], failed(FailureCause::NodeRestarted)),
            (&[another.clone(), failed(FailureCause::Panic)], failed(FailureCause::Panic)),
            (&[Succeeded, cancelled.clone()], cancelled.clone()),
            (&[another.clone(), cancelled.clone()], cancelled),
            (&[Succeeded, another.clone()], another),
        ];
        for (tasks, pod) in table {
            assert_eq!(AllocationState::of_pod(*tasks), *pod, "{tasks:?}");
        }
    }

    #[test]
    fn the_allocations_of_a_pod_are_named_by_its_first() {
        let first = AllocationId::from_random([7; 16]);
        assert_eq!(first.of_task(0), first);
        let all: std::collections::BTreeSet<String> = (0..crate::MAX_TASKS as u16)
            .map(|task| first.of_task(task).to_string()[..8].to_owned())
            .collect();
        assert_eq!(all.len(), crate::MAX_TASKS, "people tell them apart by their beginning");
        // Both sides, and every version, must find the same ones.
        assert_eq!(first.of_task(1).to_string(), "72bf57d4-faf4-4d62-8ce5-7b854db4d1df");
    }
}
