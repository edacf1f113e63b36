//! The life of an allocation, as a pure machine: shared by the real actor and any simulated one.
//!
//! ```text
//!   Accepted ──► Preparing ──► Running ──► Succeeded
//!       │            │            │  └────► Failed(cause)
//!       └────────────┴────────────┴───────► Stopped(cause)
//! ```

use std::time::Duration;

use dms_messages::{
    AllocationResult, AllocationState, FailureCause, MemoryMib, Millis, StopCause, bounded_text,
};
use dms_storage::sabotage::{self, Bug};

use crate::executors::{ExecutionFailure, Exit};

/// What happens to an allocation.
#[derive(Debug, Clone)]
pub enum Input {
    /// Its actor has started.
    Started,
    /// The module and inputs are there, or not.
    Prepared(Result<(), FailureCause>),
    /// The program ended and its outputs were kept, or not.
    Ended {
        /// How it ended.
        exit: Exit,
        /// What it left; an error if it could not be kept.
        result: Result<AllocationResult, FailureCause>,
    },
    /// Somebody wants it stopped.
    Stop(StopCause),
    /// Time has passed since the requester was last heard of.
    Silence(Duration),
}

/// What its actor has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Record and tell the new state.
    Move(AllocationState),
    /// Fetch the module and inputs.
    Prepare,
    /// Start the program.
    Run,
    /// Stop the program, or the fetching; its end will be an input.
    Halt,
    /// Record and tell the end, then stop.
    End(AllocationState, Option<AllocationResult>),
}

/// The machine.
#[derive(Debug, Clone)]
pub struct AllocationMachine {
    state: AllocationState,
    stop_wanted: Option<StopCause>,
    orphan_after: Duration,
}

impl AllocationMachine {
    /// An accepted allocation that ends itself after `orphan_after` without its requester.
    pub fn new(orphan_after: Duration) -> Self {
        Self { state: AllocationState::Accepted, stop_wanted: None, orphan_after }
    }

    /// How it stands.
    pub fn state(&self) -> &AllocationState {
        &self.state
    }

    /// Takes one input and says what to do.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        if self.state.is_terminal() {
            return Vec::new();
        }
        match (input, &self.state) {
            (Input::Started, AllocationState::Accepted) => {
                self.state = AllocationState::Preparing;
                vec![Effect::Move(AllocationState::Preparing), Effect::Prepare]
            }
            (Input::Prepared(Ok(())), AllocationState::Preparing) => match self.stop_wanted {
                Some(cause) => self.end(AllocationState::Stopped { cause }, None),
                None => {
                    self.state = AllocationState::Running;
                    vec![Effect::Move(AllocationState::Running), Effect::Run]
                }
            },
            (Input::Prepared(Err(cause)), AllocationState::Preparing) => {
                let state = match self.stop_wanted {
                    Some(cause) => AllocationState::Stopped { cause },
                    None => AllocationState::Failed { cause },
                };
                self.end(state, None)
            }
            (Input::Ended { exit, result }, AllocationState::Running) => {
                let (result, kept) = match result {
                    Ok(result) => (Some(result), None),
                    Err(cause) => (None, Some(cause)),
                };
                let state = match (exit, self.stop_wanted, kept) {
                    (_, _, Some(cause)) => AllocationState::Failed { cause },
                    // A program that ended by itself before the stop reached it has ended by itself.
                    (Exit::Code(0), ..) => AllocationState::Succeeded,
                    (Exit::Code(code), ..) => {
                        AllocationState::Failed { cause: FailureCause::ExitCode { code } }
                    }
                    (Exit::Stopped, Some(cause), _) => AllocationState::Stopped { cause },
                    (Exit::Stopped, None, _) => AllocationState::Failed {
                        cause: FailureCause::Executor { text: "stopped by nobody".to_owned() },
                    },
                    (Exit::Failed(failure), ..) => AllocationState::Failed { cause: failure_cause(failure) },
                };
                self.end(state, result)
            }
            (Input::Stop(cause), AllocationState::Accepted) => {
                self.end(AllocationState::Stopped { cause }, None)
            }
            (Input::Stop(cause), _) if self.stop_wanted.is_none() => {
                self.stop_wanted = Some(cause);
                vec![Effect::Halt]
            }
            (Input::Silence(_), _) if sabotage::has(Bug::KeepsOrphans) => Vec::new(),
            (Input::Silence(silence), _) if silence >= self.orphan_after => {
                self.step(Input::Stop(StopCause::Orphaned))
            }
            _ => Vec::new(),
        }
    }

    fn end(&mut self, state: AllocationState, result: Option<AllocationResult>) -> Vec<Effect> {
        self.state = state.clone();
        vec![Effect::End(state, result)]
    }
}

/// What an executor's failure is called on the mesh.
pub fn failure_cause(failure: ExecutionFailure) -> FailureCause {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    match failure {
        ExecutionFailure::InvalidModule(text) => FailureCause::InvalidModule { text: bounded_text(text) },
        ExecutionFailure::Trapped(text) => FailureCause::Trapped { text: bounded_text(text) },
        ExecutionFailure::MemoryExceeded { granted_bytes } => {
            FailureCause::MemoryExceeded { granted: MemoryMib(mib(granted_bytes)) }
        }
        ExecutionFailure::TimedOut { limit } => FailureCause::TimedOut { limit: Millis::from(limit) },
        ExecutionFailure::DiskExceeded { granted_bytes } => {
            FailureCause::DiskExceeded { granted: dms_messages::DiskMib(mib(granted_bytes)) }
        }
        ExecutionFailure::InputExceeded { granted_bytes } => {
            FailureCause::InputExceeded { granted: dms_messages::DiskMib(mib(granted_bytes)) }
        }
        ExecutionFailure::Host(text) => FailureCause::Executor { text: bounded_text(text) },
    }
}

#[cfg(test)]
mod tests;
