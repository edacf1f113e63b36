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
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::Superseded => "a newer attempt has taken its place",
            Self::Orphaned => "its requester was not heard of for too long",
            Self::NodeStopping => "the provider is stopping",
            Self::Offboarding => "the provider takes its offer back",
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

/// How an attempt stands. The last one, with the result, is the receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationStatus {
    /// The attempt.
    pub attempt: AttemptId,
    /// The allocation.
    pub allocation: AllocationId,
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
    /// How much standard output and standard error the requester has, in bytes; live output goes on there.
    pub stdout_offset: u64,
    /// The same of standard error.
    pub stderr_offset: u64,
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
