//! The shapes of the local API: what the CLI and other programs on this machine send and get.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | – | [`crate::commands::NodeStatus`] |
//! | `GET /v1/capability` | – | [`crate::commands::CapabilityView`] |
//! | `GET /v1/samples?limit=N` | – | [`crate::monitor::SamplesView`], newest first |
//! | `GET /metrics` | – | text for Prometheus: [`super::metrics`] |
//! | `POST /v1/capability/benchmark?dry_run=false` | – | [`crate::commands::Benchmarked`], after many seconds |
//! | `POST /v1/onboard` | a capability | 204 |
//! | `POST /v1/capability/available` | resources: what is to be free beside what is promised | 204 |
//! | `POST /v1/locks` | [`NewLock`] | [`Locked`] |
//! | `DELETE /v1/locks/{bid}` | – | [`dms_storage::Lock`], which holds no longer |
//! | `POST /v1/locks/{bid}/start` | [`StartLockedJob`] | [`JobCreated`] |
//! | `POST /v1/offboard?mode=at_once` | – | [`crate::commands::Offboarded`]: 200 if withdrawn, 202 if waited for; modes `at_once`, `wait`, `force` |
//! | `GET /v1/preferences` | – | [`crate::preferences::PreferencesView`] |
//! | `POST /v1/preferences` | [`crate::preferences::SetPreferences`] | list of [`crate::preferences::Change`] |
//! | `POST /v1/preferences/test` | [`crate::preferences::TestPreferences`] | [`crate::preferences::PreferencesTest`] |
//! | `GET /v1/peers?limit=N` | – | list of [`crate::peers::PeerView`], connected ones first |
//! | `GET /v1/graph` | – | [`crate::graph::view::GraphView`], the nearest neighbours first |
//! | `GET /v1/bid-requests?direction=sent&limit=N&after=ID` | – | list of [`crate::listings::bids::BidRequestView`], newest first |
//! | `GET /v1/bids?direction=sent&request=ID&limit=N&after=ID` | – | [`crate::listings::bids::BidList`], newest first |
//! | `GET /v1/allocations?limit=N&after=ID` | – | list of [`crate::listings::contracts::AllocationView`], newest first |
//! | `GET /v1/allocations/{id}` | – | [`crate::listings::contracts::AllocationView`] |
//! | `POST /v1/allocations/{id}/messages` | [`super::messages::NewMessage`] | [`super::messages::MessageSent`] |
//! | `GET /v1/allocations/{id}/status?provider=DID` | – | [`crate::allocation::route::CheckedAllocation`] |
//! | `GET /v1/contracts?limit=N&after=CID` | – | list of [`crate::listings::contracts::ContractView`], newest first |
//! | `GET /v1/contracts/{id}` | – | [`crate::listings::contracts::ContractDocuments`] |
//! | `GET /v1/log?from=N&limit=N&job=ID&wait=MS&whole=true` | – | [`crate::records::LogPage`], oldest first |
//! | `GET /v1/db/stats` | – | [`dms_storage::maintenance::StatsReport`] |
//! | `GET /v1/db/rows/{family}?prefix=ID&after=HEX&limit=N&whole=true` | – | [`crate::records::RowPage`], in the order of the keys |
//! | `POST /v1/db/backup` | [`NewBackup`] | [`dms_storage::maintenance::BackupReport`] |
//! | `PUT /v1/blobs` | raw bytes, ≤ 16 MiB | [`BlobStored`] |
//! | `GET /v1/blobs/{cid}` | – | raw bytes |
//! | `POST /v1/jobs` | [`NewJob`] | [`JobCreated`] |
//! | `GET /v1/jobs?limit=N` | – | list of [`JobView`], newest first |
//! | `GET /v1/jobs/{id}` | – | [`JobView`] |
//! | `GET /v1/jobs/{id}/output?stream=stdout&offset=N&task=0` | – | raw bytes; headers `dms-attempt` (number), `dms-offset` |
//! | `GET /v1/jobs/{id}/explain` | – | [`crate::commands::Explanation`] |
//! | `POST /v1/jobs/{id}/cancel` | – | 204 |
//!
//! Ids of allocations, bid requests and contracts may be shortened to a beginning that fits one only; a
//! contract is also found by its bid, its job or its allocation. Lists hold 50 entries if nothing is said and
//! 1000 at most, and one more where the last entry is also there in the other direction; `after` is the id of the
//! last entry of the page before.
//!
//! The log begins with event `from` (0: the first that is kept), or with the `newest` of so many. With `wait` (at most
//! 10 s) an answer without lines comes only when there is nothing new for so long, or the node stops. With `job` the
//! `bids` and `allocations` of the page before go along with the question for the next one, as lists with commas.
//!
//! Bodies are `application/json`, blobs `application/octet-stream`, and say so. Over TCP each request also says whom it asks
//! (`Host`), shows the token (`Authorization: Bearer`) and how long its body is. What no such program sends is refused
//! before any route (`server/guard.rs`): 401 (no token), 403 (another host, a web page), 408 (too slow), 411 (no length),
//! 415 (another type).
//!
//! An error is a JSON [`ApiError`] with status 400 (malformed), 404 (unknown), 409 (ended, ambiguous, not
//! acceptable now), 410 (cut from the log), 413 (too large), 422 (breaks a rule), 500 (damaged, not measured), 503 (busy, stopping, read-only), 507 (no space is left).
//! What another node was asked in vain is 502 (it cannot be reached, or its answer is lost) or 504 (none came in time).

use std::path::PathBuf;

use dms_messages::{
    BidId, ContentId, Did, Job, JobId, JobPhase, MemoryMib, Millis, Pod, Price, Requirement, Resources, Task,
};
use dms_storage::books::JobRow;
use serde::{Deserialize, Serialize};

/// A refused or failed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// A stable word for programs (`unknown_job`, `invalid_job`, `busy`…).
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// Where a backup of the database is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    /// The directory to make, as an absolute path; it must not be there.
    pub directory: PathBuf,
}

/// A blob was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobStored {
    /// Its identifier.
    pub cid: ContentId,
    /// Its length in bytes.
    pub length: u64,
}

/// A job to run; everything it names by identifier was stored before with `PUT /v1/blobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// A name for people.
    pub name: String,
    /// What runs; exactly one pod in this version.
    pub pods: Vec<Pod>,
    /// Highest acceptable price per hour.
    #[serde(default)]
    pub max_price: Option<Price>,
    /// How many bids are wanted; the node's default if absent.
    #[serde(default)]
    pub wanted: Option<u16>,
    /// How long to go on asking; the node's default (60 s) if absent.
    #[serde(default)]
    pub wait: Option<Millis>,
    /// How many attempts; the node's default (5) if absent.
    #[serde(default)]
    pub max_attempts: Option<u32>,
}

/// A job was accepted, and is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCreated {
    /// Its id.
    pub job: JobId,
}

/// Capacity to lock for this node itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLock {
    /// What is needed.
    pub requirement: Requirement,
    /// How long what is started on it may run.
    pub run_time: Millis,
    /// Highest acceptable price per hour.
    #[serde(default)]
    pub max_price: Option<Price>,
    /// How long the lock holds.
    pub lease: Millis,
}

/// Capacity is locked, and that is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// The bid that the lock backs.
    pub bid: BidId,
    /// The job that may be started on it.
    pub job: JobId,
    /// What is locked.
    pub resources: Resources,
    /// What it costs per hour.
    pub price: Price,
    /// For how long.
    pub lease: Millis,
}

/// A job to start on capacity that is locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartLockedJob {
    /// The job; its id will be the lock's.
    pub job: NewJob,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub phase: JobPhase,
    /// A line for people: the allocation's state, or why it failed.
    pub detail: String,
    /// Where its newest attempt runs or ran.
    pub provider: Option<Did>,
    /// How many attempts were made.
    pub attempt_count: u32,
    /// The program's exit code, if it ended by itself.
    pub exit_code: Option<i32>,
    /// True once nothing follows.
    pub is_terminal: bool,
    /// Standard output, once the job has ended and it was collected.
    pub stdout: Option<ContentId>,
    /// Standard error, likewise.
    pub stderr: Option<ContentId>,
    /// The file tree of the output directory, likewise, if anything was in it.
    pub output: Option<ContentId>,
    /// Its tasks, if there are several: then contents are theirs and not the job's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskView>,
    /// The whole row, for programs.
    pub row: JobRow,
}

/// How one of several tasks of a job's newest attempt stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its name.
    pub name: String,
    /// How it stands, for people.
    pub state: String,
    /// Its program's exit code, if it ended by itself.
    pub exit_code: Option<i32>,
    /// How long its program ran, once it has ended.
    pub wall: Option<Millis>,
    /// Highest memory, likewise.
    pub peak_memory: Option<MemoryMib>,
    /// Bytes of output over the limit, which are lost.
    #[serde(default)]
    pub output_dropped: u64,
    /// Standard output, once the job has ended and it was collected.
    pub stdout: Option<ContentId>,
    /// Standard error, likewise.
    pub stderr: Option<ContentId>,
    /// The file tree of its output directory, likewise, if anything was in it.
    pub output: Option<ContentId>,
}

impl NewJob {
    /// The job that this asks for, with the node's defaults.
    pub fn into_job(self, id: JobId, submitted: dms_messages::Timestamp, defaults: &JobDefaults) -> Job {
        Job {
            id,
            name: self.name,
            pods: self.pods,
            max_price: self.max_price,
            wanted: self.wanted.unwrap_or(defaults.wanted),
            wait: self.wait.unwrap_or(defaults.wait),
            max_attempts: self.max_attempts.unwrap_or(defaults.max_attempts),
            submitted,
        }
    }
}

/// What a job gets where it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobDefaults {
    /// Bids wanted.
    pub wanted: u16,
    /// How long to go on asking.
    pub wait: Millis,
    /// Attempts.
    pub max_attempts: u32,
}

impl Default for JobDefaults {
    fn default() -> Self {
        Self { wanted: 3, wait: Millis(60_000), max_attempts: 5 }
    }
}

impl JobView {
    /// What people see of a job row.
    pub fn of(row: JobRow) -> Self {
        use dms_storage::books::AttemptState;
        let attempt = row.current_attempt();
        let detail = match (&row.end, attempt.map(|attempt| &attempt.state)) {
            (Some(dms_messages::JobEnd::Failed { failure }), _) => failure.to_string(),
            (Some(_), _) | (None, None) => String::new(),
            (None, Some(AttemptState::Invoked)) => "waiting for the provider's signature".to_owned(),
            (None, Some(AttemptState::Observed { state })) => state.to_string(),
            (None, Some(AttemptState::Refused { reason })) => format!("refused: {reason}"),
            (None, Some(AttemptState::Lost { reason })) => format!("lost: {reason}"),
        };
        // What an attempt left that does not count was not fetched.
        let is_fetched =
            |state: &AttemptState| matches!(state, AttemptState::Observed { state } if state.is_kept());
        let fetched = attempt.filter(|attempt| is_fetched(&attempt.state));
        let tasks = task_views(&row, row.phase.is_terminal() && fetched.is_some());
        let result = fetched.and_then(|attempt| attempt.result.as_ref());
        Self {
            id: row.job.id,
            name: row.job.name.clone(),
            phase: row.phase,
            detail,
            provider: attempt.map(|attempt| attempt.provider),
            attempt_count: attempt.map_or(0, |attempt| attempt.id.number),
            exit_code: row.exit_code(),
            is_terminal: row.phase.is_terminal(),
            stdout: result.map(|result| result.stdout),
            stderr: result.map(|result| result.stderr),
            output: result.and_then(|result| result.output),
            tasks,
            row,
        }
    }
}

/// The tasks of a job that has several, as its newest attempt has them.
fn task_views(row: &JobRow, is_fetched: bool) -> Vec<TaskView> {
    let Some(pod) = row.job.pods.first().filter(|pod| !pod.is_single()) else { return Vec::new() };
    let attempt = row.current_attempt();
    let view = |(index, task): (usize, &Task)| {
        let known = attempt.and_then(|attempt| attempt.tasks.get(index));
        let result = known.and_then(|known| known.result.as_ref());
        let state = match known {
            Some(known) => known.state.to_string(),
            None if attempt.is_some() && !row.phase.is_terminal() => "waiting".to_owned(),
            None => String::new(),
        };
        let fetched = result.filter(|_| is_fetched);
        TaskView {
            name: task.name.clone(),
            state,
            exit_code: known.and_then(|known| known.state.exit_code()),
            wall: result.map(|result| result.wall),
            peak_memory: result.map(|result| result.peak_memory),
            output_dropped: result.map_or(0, |result| result.output_dropped),
            stdout: fetched.map(|result| result.stdout),
            stderr: fetched.map(|result| result.stderr),
            output: fetched.and_then(|result| result.output),
        }
    };
    pod.tasks.iter().enumerate().map(view).collect()
}
