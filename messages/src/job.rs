//! `Job`, `Pod`, `Task`: what a person wants run, and how a job stands.
//!
//! A job is made of pods; the tasks of a pod are placed together on one node: one bid, one lock. This
//! version places jobs of one pod with one task; the types carry more.

use std::collections::BTreeMap;
use std::fmt;

use dms_actors::ContentId;
use dms_actors::clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::capability::{ExecutorKind, Requirement};
use crate::ids::JobId;
use crate::status::{FailureCause, StopCause};
use crate::units::{Millis, Price};

/// Most arguments, or environment entries, of a task.
const MAX_ITEMS: usize = 1024;
/// Longest arguments and environment together, in bytes: a contract must fit into a document.
const MAX_ARGUMENT_BYTES: usize = 64 * 1024;
/// Most attempts: each is a row within the job's own.
const MAX_ATTEMPTS: u32 = 100;
/// Longest run time: a contract outlives its attempt, and no document outlives 400 days.
const MAX_TIMEOUT: Millis = Millis(30 * 24 * 3600 * 1000);

/// Why a job is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// Not exactly one pod with one task.
    #[error(
        "this version runs jobs of one pod with one task; this one has {pod_count} pods and {task_count} tasks"
    )]
    Shape {
        /// Pods.
        pod_count: usize,
        /// Tasks in all pods.
        task_count: usize,
    },
    /// A field breaks a rule.
    #[error("{field}: {problem}")]
    Field {
        /// Which field.
        field: &'static str,
        /// Which rule.
        problem: String,
    },
}

impl JobError {
    fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Field { field, problem: problem.into() }
    }
}

/// One program run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// A name for people.
    pub name: String,
    /// The program.
    pub module: ContentId,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What it reads on standard input, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<ContentId>,
    /// The [`crate::FileTree`] it sees as `/input`, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<ContentId>,
    /// How long it may run.
    pub timeout: Millis,
}

/// Tasks that are placed together on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// What all its tasks need together.
    pub requirement: Requirement,
    /// The tasks.
    pub tasks: Vec<Task>,
}

impl Pod {
    /// Checks every rule of a pod and its tasks.
    pub fn check(&self) -> Result<(), JobError> {
        self.requirement.check().map_err(|problem| JobError::field("resources", problem))?;
        self.tasks.iter().try_for_each(Task::check)
    }

    /// The kind of executor that runs it.
    pub fn executor(&self) -> ExecutorKind {
        self.requirement.executor
    }

    /// How long it may run at most.
    pub fn run_time(&self) -> Millis {
        self.tasks.iter().map(|task| task.timeout).max().unwrap_or_default()
    }
}

impl Task {
    /// The single contents that it needs; the input is a tree of more.
    pub fn blobs(&self) -> impl Iterator<Item = ContentId> + use<> {
        [Some(self.module), self.stdin].into_iter().flatten()
    }

    fn check(&self) -> Result<(), JobError> {
        if self.timeout == Millis(0) || self.timeout > MAX_TIMEOUT {
            return Err(JobError::field("timeout", "must be more than 0 and at most 30 days"));
        }
        if self.args.len() > MAX_ITEMS || self.env.len() > MAX_ITEMS {
            return Err(JobError::field("args", format!("more than {MAX_ITEMS} arguments or variables")));
        }
        let args: usize = self.args.iter().map(String::len).sum();
        let env: usize = self.env.iter().map(|(key, value)| key.len() + value.len()).sum();
        if args + env > MAX_ARGUMENT_BYTES {
            return Err(JobError::field(
                "args",
                format!("arguments and environment exceed {MAX_ARGUMENT_BYTES} bytes"),
            ));
        }
        if self.args.iter().any(|arg| arg.contains('\0')) {
            return Err(JobError::field("args", "an argument holds a zero byte"));
        }
        if self
            .env
            .iter()
            .any(|(key, value)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0'))
        {
            return Err(JobError::field("env", "a name is empty, or holds '=' or a zero byte"));
        }
        crate::check_text("name", &self.name).map_err(|problem| JobError::field("name", problem))
    }
}

/// What a person wants run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Names the job.
    pub id: JobId,
    /// A name for people.
    pub name: String,
    /// The pods.
    pub pods: Vec<Pod>,
    /// Highest acceptable price per hour of a pod, if there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<Price>,
    /// How many bids are wanted per pod.
    pub wanted: u16,
    /// How long to go on asking when nobody can take it now.
    pub wait: Millis,
    /// How many attempts a pod may have.
    pub max_attempts: u32,
    /// When it was submitted.
    pub submitted: Timestamp,
}

impl Job {
    /// Checks every rule of a job.
    pub fn check(&self) -> Result<(), JobError> {
        crate::check_text("name", &self.name).map_err(|problem| JobError::field("name", problem))?;
        let task_count = self.pods.iter().map(|pod| pod.tasks.len()).sum();
        if self.pods.len() != 1 || task_count != 1 {
            return Err(JobError::Shape { pod_count: self.pods.len(), task_count });
        }
        if self.wanted == 0 || self.wanted > crate::bid_request::MAX_WANTED {
            return Err(JobError::field(
                "wanted",
                format!("must be 1 to {}", crate::bid_request::MAX_WANTED),
            ));
        }
        if self.max_attempts == 0 || self.max_attempts > MAX_ATTEMPTS {
            return Err(JobError::field("max_attempts", format!("must be 1 to {MAX_ATTEMPTS}")));
        }
        self.pods.iter().try_for_each(Pod::check)
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobPhase {
    /// Saved; nobody was asked yet.
    Submitted,
    /// Put out to bid.
    Bidding,
    /// A winner was chosen and told.
    Invoking,
    /// A provider runs it.
    Running,
    /// The last attempt was lost; the job goes back to bidding.
    Rescheduling,
    /// Done.
    Succeeded,
    /// Not done, for the reason given.
    Failed,
    /// Not wanted any more.
    Cancelled,
}

impl JobPhase {
    /// True if nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for JobPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Submitted => "submitted",
            Self::Bidding => "bidding",
            Self::Invoking => "invoking",
            Self::Running => "running",
            Self::Rescheduling => "rescheduling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "failure", rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobFailure {
    /// Every node asked said no for good, or nobody said yes within the job's wait.
    NobodyTookIt {
        /// True if all answers were final, false if the wait ran out.
        is_final: bool,
    },
    /// It never asked anybody: other jobs of its node were in front until its wait was over.
    NotItsTurn,
    /// The program failed by its own fault.
    Program {
        /// How.
        cause: FailureCause,
    },
    /// Attempt after attempt was lost.
    AttemptsExhausted {
        /// How many.
        attempts: u32,
    },
    /// The provider stopped it.
    Stopped {
        /// Why.
        cause: StopCause,
    },
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyTookIt { is_final: true } => f.write_str("no node can take it"),
            Self::NobodyTookIt { is_final: false } => f.write_str("no node took it in time"),
            Self::NotItsTurn => f.write_str(
                "it waited for its turn until its wait was over: too many jobs of this node were in front",
            ),
            Self::Program { cause } => fmt::Display::fmt(cause, f),
            Self::AttemptsExhausted { attempts } => write!(f, "all {attempts} attempts were lost"),
            Self::Stopped { cause } => write!(f, "stopped by the provider: {cause}"),
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum JobEnd {
    /// Done.
    Succeeded,
    /// Not done.
    Failed {
        /// Why.
        failure: JobFailure,
    },
    /// Not wanted any more.
    Cancelled,
}

impl JobEnd {
    /// The phase that this end leads to.
    pub fn phase(&self) -> JobPhase {
        match self {
            Self::Succeeded => JobPhase::Succeeded,
            Self::Failed { .. } => JobPhase::Failed,
            Self::Cancelled => JobPhase::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::example_job;

    #[test]
    fn every_rule_names_the_field_it_guards() {
        let change = |f: fn(&mut Job)| {
            let mut job = example_job();
            f(&mut job);
            job.check().unwrap_err().to_string()
        };
        assert_eq!(example_job().check(), Ok(()));
        assert!(change(|job| job.pods.clear()).contains("0 pods and 0 tasks"));
        assert!(change(|job| job.wanted = 0).starts_with("wanted: "));
        assert!(change(|job| job.pods[0].tasks[0].timeout = Millis(0)).starts_with("timeout: "));
        assert!(change(|job| job.pods[0].requirement.cpu.0 = 0).starts_with("resources: "));
        assert!(change(|job| job.name = "x".repeat(513)).starts_with("name: "));
        assert!(change(|job| job.pods[0].tasks[0].args = vec!["a".repeat(70_000)]).starts_with("args: "));
        assert!(
            change(|job| drop(job.pods[0].tasks[0].env.insert("A=B".into(), "".into()))).starts_with("env: ")
        );
    }
}
