//! `Job`, `Pod`, `Task`: what a person wants run, and how a job stands.
//!
//! A job is made of pods; the tasks of a pod are placed together on one node: one bid, one lock, and an
//! allocation for each task. This version places jobs of one pod; the types carry more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dms_actors::ContentId;
use dms_actors::clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::capability::{ExecutorKind, Requirement, Resources};
use crate::ids::JobId;
use crate::status::{FailureCause, StopCause};
use crate::units::{CpuMillis, DiskMib, MemoryMib, Millis, Price};

/// Most tasks of a pod: each is an allocation of its own, whose program runs beside the others.
pub const MAX_TASKS: usize = 16;
/// Longest name of one of several tasks, in bytes: it is a directory's name and the beginning of a line.
pub const MAX_TASK_NAME: usize = 64;
/// Most arguments, or environment entries, of a task.
const MAX_ITEMS: usize = 1024;
/// Longest arguments and environment of all tasks together, in bytes: a contract must fit into a document.
const MAX_ARGUMENT_BYTES: usize = 64 * 1024;
/// Most attempts: each is a row within the job's own.
const MAX_ATTEMPTS: u32 = 100;
/// Longest run time: a contract outlives its attempt, and no document outlives 400 days.
const MAX_TIMEOUT: Millis = Millis(30 * 24 * 3600 * 1000);

/// Why a job is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// Not exactly one pod.
    #[error(
        "this version runs jobs of exactly one pod; this one has {pod_count}: tasks that belong together are one pod, \
         and others are jobs of their own"
    )]
    Shape {
        /// Pods.
        pod_count: usize,
    },
    /// A pod without a task, or with too many.
    #[error("a pod has 1 to {MAX_TASKS} tasks; this one has {task_count}")]
    TaskCount {
        /// Tasks in the pod.
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

/// What one task gets of what is granted to its pod: the limits under which its program runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskResources {
    /// Processor time.
    pub cpu: CpuMillis,
    /// Memory.
    pub memory: MemoryMib,
    /// Disk.
    pub disk: DiskMib,
}

impl TaskResources {
    /// The sum, unless it overflows.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        Some(Self {
            cpu: self.cpu.checked_add(other.cpu)?,
            memory: self.memory.checked_add(other.memory)?,
            disk: self.disk.checked_add(other.disk)?,
        })
    }
}

impl From<TaskResources> for Resources {
    fn from(of: TaskResources) -> Self {
        Self { cpu: of.cpu, memory: of.memory, disk: of.disk, ..Self::default() }
    }
}

/// One program run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// A name for people; of several tasks each has its own, which its files and lines are told apart by.
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
    /// Its share of what the pod needs. Each of several tasks has one; one that is alone gets everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<TaskResources>,
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
        if self.tasks.is_empty() || self.tasks.len() > MAX_TASKS {
            return Err(JobError::TaskCount { task_count: self.tasks.len() });
        }
        self.tasks.iter().try_for_each(Task::check)?;
        let length: usize = self.tasks.iter().map(Task::argument_bytes).sum();
        if length > MAX_ARGUMENT_BYTES {
            return Err(JobError::field(
                "args",
                format!("arguments and environment of all tasks exceed {MAX_ARGUMENT_BYTES} bytes"),
            ));
        }
        if self.is_single() {
            return self.check_shares();
        }
        let mut names = BTreeSet::new();
        for task in &self.tasks {
            check_task_name(&task.name).map_err(|problem| JobError::field("name", problem))?;
            // Names are directories, and some file systems do not tell cases apart.
            if !names.insert(task.name.to_ascii_lowercase()) {
                return Err(JobError::field("name", format!("two tasks are called `{}`", task.name)));
            }
        }
        self.check_shares()
    }

    /// What the tasks get is exactly what the pod needs, so that nothing is locked for nobody.
    fn check_shares(&self) -> Result<(), JobError> {
        let shares: Vec<TaskResources> = self.tasks.iter().filter_map(|task| task.resources).collect();
        if shares.is_empty() && self.is_single() {
            return Ok(());
        }
        let problem = |text: &str| Err(JobError::field("resources", text));
        if shares.len() < self.tasks.len() {
            return problem("each of several tasks says what it needs");
        }
        if shares.iter().any(|share| share.cpu.0 == 0 || share.memory.0 == 0) {
            return problem("a task needs some cpu and some memory");
        }
        let sum = shares.iter().try_fold(TaskResources::default(), |sum, share| sum.checked_add(share));
        let Requirement { cpu, memory, disk, .. } = self.requirement;
        if sum != Some(TaskResources { cpu, memory, disk }) {
            return problem("the pod's cpu, memory and disk are not the sums of its tasks'");
        }
        Ok(())
    }

    /// True if one task has everything for itself.
    pub fn is_single(&self) -> bool {
        self.tasks.len() == 1
    }

    /// What each task gets of what is granted, in their order. What is not divided (ports, GPUs, the pod's slot) is
    /// with the first. None if the grant is less than what the tasks say to need.
    pub fn shares(&self, granted: &Resources) -> Option<Vec<Resources>> {
        let mut rest = granted.clone();
        let mut shares = vec![Resources::default()];
        for task in self.tasks.iter().skip(1) {
            let share = Resources::from(task.resources?);
            rest = rest.checked_sub(&share)?;
            shares.push(share);
        }
        let first = self.tasks.first()?.resources.unwrap_or_default();
        rest.fits(&first.into()).then_some(())?;
        shares[0] = rest;
        Some(shares)
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

    /// The disk that it may fill: its share of its pod's, or all of it.
    pub fn disk_of(&self, pod: &Pod) -> DiskMib {
        self.resources.map_or(pod.requirement.disk, |share| share.disk)
    }

    fn argument_bytes(&self) -> usize {
        let args: usize = self.args.iter().map(String::len).sum();
        args + self.env.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
    }

    fn check(&self) -> Result<(), JobError> {
        if self.timeout == Millis(0) || self.timeout > MAX_TIMEOUT {
            return Err(JobError::field("timeout", "must be more than 0 and at most 30 days"));
        }
        if self.args.len() > MAX_ITEMS || self.env.len() > MAX_ITEMS {
            return Err(JobError::field("args", format!("more than {MAX_ITEMS} arguments or variables")));
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

/// Refuses a name that cannot be a directory of its own, or the beginning of a line.
///
/// # Errors
/// Which rule it breaks.
pub fn check_task_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_TASK_NAME || name.starts_with('.') || !name.chars().all(is_plain) {
        let rule = "letters, digits, '-', '_' and '.', and does not begin with '.'";
        return Err(format!("a task's name has 1 to {MAX_TASK_NAME} {rule}"));
    }
    Ok(())
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
        if self.pods.len() != 1 {
            return Err(JobError::Shape { pod_count: self.pods.len() });
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
        let two_pods = change(|job| job.pods.push(job.pods[0].clone()));
        assert!(two_pods.contains("jobs of exactly one pod; this one has 2"), "{two_pods}");
        assert!(change(|job| job.pods.clear()).contains("exactly one pod; this one has 0"));
        assert!(change(|job| job.pods[0].tasks.clear()).contains("1 to 16 tasks; this one has 0"));
        assert!(change(|job| job.wanted = 0).starts_with("wanted: "));
        assert!(change(|job| job.pods[0].tasks[0].timeout = Millis(0)).starts_with("timeout: "));
        assert!(change(|job| job.pods[0].requirement.cpu.0 = 0).starts_with("resources: "));
        assert!(change(|job| job.name = "x".repeat(513)).starts_with("name: "));
        assert!(change(|job| job.pods[0].tasks[0].args = vec!["a".repeat(70_000)]).starts_with("args: "));
        assert!(
            change(|job| drop(job.pods[0].tasks[0].env.insert("A=B".into(), "".into()))).starts_with("env: ")
        );
    }

    /// The example's task three times over, each with a third of what it needs.
    fn example_pod() -> Pod {
        let mut pod = example_job().pods.remove(0);
        let task = pod.tasks.remove(0);
        let share = TaskResources { cpu: CpuMillis(500), memory: MemoryMib(32), disk: DiskMib(8) };
        let named = |name: &str| Task { name: name.into(), resources: Some(share), ..task.clone() };
        pod.tasks = ["a", "b", "c"].map(named).into();
        let Requirement { cpu, memory, disk, .. } = &mut pod.requirement;
        (*cpu, *memory, *disk) = (CpuMillis(1500), MemoryMib(96), DiskMib(24));
        pod
    }

    #[test]
    fn a_pod_is_checked_as_a_whole() {
        assert_eq!(example_pod().check(), Ok(()));
        type Change = fn(&mut Pod);
        let table: [(&str, Change); 11] = [
            ("1 to 16 tasks; this one has 17", |pod| {
                let task = pod.tasks[0].clone();
                pod.tasks = vec![task; 17];
            }),
            ("two tasks are called `A`", |pod| pod.tasks[2].name = "A".into()),
            ("name: a task's name has", |pod| pod.tasks[1].name = "..".into()),
            ("name: a task's name has", |pod| pod.tasks[1].name = "a/b".into()),
            ("name: a task's name has", |pod| pod.tasks[1].name = "x".repeat(65)),
            ("each of several tasks says", |pod| pod.tasks[1].resources = None),
            ("some cpu and some memory", |pod| pod.tasks[1].resources = Some(TaskResources::default())),
            ("not the sums", |pod| pod.requirement.cpu.0 += 1),
            ("not the sums", |pod| {
                let most = TaskResources { disk: DiskMib(u64::MAX), ..pod.tasks[0].resources.unwrap() };
                pod.tasks[1].resources = Some(most);
            }),
            ("timeout: ", |pod| pod.tasks[2].timeout = Millis(0)),
            ("args: arguments and environment of all tasks", |pod| {
                pod.tasks.iter_mut().for_each(|task| task.args = vec!["a".repeat(30_000)]);
            }),
        ];
        for (expected, change) in table {
            let mut pod = example_pod();
            change(&mut pod);
            let error = pod.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn shares_add_up_to_the_grant_and_a_grant_that_is_too_small_has_none() {
        let pod = example_pod();
        let share = Resources::from(pod.tasks[0].resources.unwrap());
        let granted = Resources {
            cpu: CpuMillis(1500),
            memory: MemoryMib(96),
            disk: DiskMib(24),
            ports: [8000, 8001].into(),
            slots: [(ExecutorKind::Wasm, 1)].into(),
            ..Resources::default()
        };
        let shares = pod.shares(&granted).unwrap();
        let whole = shares.iter().try_fold(Resources::default(), |sum, share| sum.checked_add(share));
        assert_eq!(whole.as_ref(), Some(&granted));
        assert_eq!((&shares[1], &shares[2]), (&share, &share));
        assert_eq!((shares[0].ports.len(), shares[0].cpu), (2, share.cpu));
        for short in [
            Resources { cpu: CpuMillis(1499), ..granted.clone() },
            Resources { memory: MemoryMib(95), ..granted.clone() },
            Resources { disk: DiskMib(23), ..granted },
        ] {
            assert_eq!(pod.shares(&short), None, "{short}");
        }
        // One that is alone gets what there is, as ever.
        let single = example_job().pods.remove(0);
        assert_eq!(single.shares(&share), Some(vec![share.clone()]));
    }
}
