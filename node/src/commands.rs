//! What the API, the CLI and tests ask the Node actor; each is one message with one reply.
//!
//! Nothing here travels between machines: words that do are in `dms-messages`.

use std::net::SocketAddr;

use dms_actors::Message;
use dms_messages::{
    AllocationId, AttemptId, Benchmark, Capability, DeclineReason, Did, Job, JobEnd, JobId, JobPhase, NodeId,
    OutputStream, RefusedReason, Resources, Timestamp,
};
use dms_storage::Lock;
use dms_storage::books::{AllocationRow, JobRow};
use serde::{Deserialize, Serialize};

use crate::listings::Noun;

/// Why the Node does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The job breaks a rule.
    #[error("the job is not acceptable: {0}")]
    InvalidJob(dms_messages::JobError),
    /// The capability breaks a rule, or less than what is promised.
    #[error("the capability is not acceptable: {0}")]
    InvalidCapability(String),
    /// No such job.
    #[error("no job {0} is known here")]
    UnknownJob(JobId),
    /// A job of this id was handed in before.
    #[error("job {0} is known here already")]
    JobKnown(JobId),
    /// What is over lies on the disk, and the disk does not give it.
    #[error("what is over cannot be read: {0}")]
    Archive(String),
    /// No such thing.
    #[error("no {noun} {id} is known here")]
    UnknownId {
        /// What was asked for.
        noun: Noun,
        /// Its id, or the beginning of it, as it was given.
        id: String,
    },
    /// The beginning of an id fits several.
    #[error("several {noun}s are meant by {id}; give more of the id{}", noun.other_name())]
    AmbiguousId {
        /// What was asked for.
        noun: Noun,
        /// The beginning, as it was given.
        id: String,
    },
    /// The beginning of an id would be looked for in more than is read for it.
    #[error("{noun} {id} is not among the newest {limit} archived contracts; give the whole id")]
    TooFarBack {
        /// What was asked for.
        noun: Noun,
        /// The beginning, as it was given.
        id: String,
        /// How many contracts were read.
        limit: usize,
    },
    /// Nothing is registered.
    #[error("this node offers nothing")]
    NotOnboarded,
    /// What is to be withdrawn is in use.
    #[error("{}", running_text(*count, named))]
    AllocationsRunning {
        /// How many run.
        count: usize,
        /// Some of them.
        named: Vec<RunningAllocation>,
    },
    /// The job has ended.
    #[error("job {0} has already ended")]
    JobEnded(JobId),
    /// Too many jobs are running or waiting.
    #[error("this node follows {limit} unfinished jobs already")]
    TooManyJobs {
        /// The limit.
        limit: usize,
    },
    /// The preferences break a rule.
    #[error("the preferences are not acceptable: {0}")]
    InvalidPreferences(String),
    /// What is to be granted, or whom, is not possible.
    #[error("not possible: {0}")]
    InvalidTrust(String),
    /// This node does not bid on what it was asked for.
    #[error("this node does not bid: {0}")]
    Declined(DeclineReason),
    /// The job is not what capacity was locked for.
    #[error("the job does not fit what is locked: {0}")]
    BeyondLock(String),
    /// This node does not start what it was invoked for.
    #[error("this node does not start it: {0}")]
    Refused(RefusedReason),
    /// There is nothing that a benchmark could be a part of.
    #[error("this node offers nothing, so there is nothing to register the benchmark with")]
    NothingOffered,
    /// The machine is being measured already.
    #[error("the machine is being measured already; ask again when that has ended")]
    Measuring,
    /// The machine could not be measured; nothing was changed.
    #[error("the machine was not measured: {0}")]
    NotMeasured(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Draining,
    /// The node cannot write its books.
    #[error("the node is read-only: {0}")]
    ReadOnly(String),
    /// The node has more to write than it can; ask again.
    #[error("the node is busy")]
    Busy,
}

/// An allocation that keeps the capacity from being withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningAllocation {
    /// Its id.
    pub id: AllocationId,
    /// The job.
    pub job: JobId,
    /// For whom.
    pub requester: Did,
}

fn running_text(count: usize, named: &[RunningAllocation]) -> String {
    let mut text = match count {
        1 => "1 allocation runs here:".to_owned(),
        count => format!("{count} allocations run here:"),
    };
    for (index, RunningAllocation { id, job, requester }) in named.iter().enumerate() {
        let comma = if index == 0 { "" } else { ";" };
        text.push_str(&format!("{comma} {id} (job {job} of {requester})"));
    }
    match count - named.len() {
        0 => text,
        rest => format!("{text}; and {rest} more"),
    }
}

/// Hands in a job. Answered when it is on disk.
#[derive(Debug)]
pub struct SubmitJob {
    /// The job, complete with its id.
    pub job: Job,
}

impl Message for SubmitJob {
    type Reply = Result<JobId, CommandError>;
}

/// Wants a job ended. Answered when the wish is on disk; the job ends a little later.
#[derive(Debug)]
pub struct CancelJob {
    /// Which.
    pub job: JobId,
}

impl Message for CancelJob {
    type Reply = Result<(), CommandError>;
}

/// Asks for every job, newest first, at most `limit` (and at most what a page holds).
#[derive(Debug)]
pub struct ListJobs {
    /// How many at most.
    pub limit: usize,
}

impl Message for ListJobs {
    type Reply = Result<Vec<JobRow>, CommandError>;
}

/// Asks how the one job stands that a person means.
#[derive(Debug)]
pub struct FindJob {
    /// Its id, or the beginning of it.
    pub id: String,
}

impl Message for FindJob {
    type Reply = Result<JobRow, CommandError>;
}

/// Asks how a job stands.
#[derive(Debug)]
pub struct ShowJob {
    /// Which.
    pub job: JobId,
}

impl Message for ShowJob {
    type Reply = Result<JobRow, CommandError>;
}

/// Asks for live output of a job's newest attempt.
#[derive(Debug)]
pub struct ReadOutput {
    /// Which job.
    pub job: JobId,
    /// Which task of its pod, from 0.
    pub task: u16,
    /// Which stream.
    pub stream: OutputStream,
    /// From which byte on.
    pub offset: u64,
}

/// A piece of live output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPiece {
    /// The attempt it is of; when it changes, output begins again at 0.
    pub attempt: Option<AttemptId>,
    /// Where the piece begins.
    pub offset: u64,
    /// The bytes; empty if there is nothing new.
    pub bytes: Vec<u8>,
}

impl Message for ReadOutput {
    type Reply = Result<OutputPiece, CommandError>;
}

/// Asks why each node did or did not take a job.
#[derive(Debug)]
pub struct ExplainJob {
    /// Which.
    pub job: JobId,
}

impl Message for ExplainJob {
    type Reply = Result<Explanation, CommandError>;
}

/// Why each node did or did not take a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The job.
    pub job: JobId,
    /// Where it stands.
    pub phase: JobPhase,
    /// How it ended, if it did.
    pub end: Option<JobEnd>,
    /// One line per reason, the most frequent first.
    pub groups: Vec<ReasonGroup>,
    /// How many known nodes were not asked.
    pub not_asked_count: usize,
    /// The attempts, oldest first: who, and what became of it.
    pub attempts: Vec<String>,
}

/// Nodes that gave one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonGroup {
    /// The reason, in words.
    pub reason: String,
    /// True if asking again later may help.
    pub is_later: bool,
    /// Who gave it.
    pub nodes: Vec<Did>,
}

/// Asks how the node stands.
#[derive(Debug)]
pub struct GetStatus;

/// What the node may do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum NodeMode {
    /// Everything.
    Serving,
    /// Stopping: nothing new is taken.
    Draining,
    /// The books cannot be written.
    ReadOnly {
        /// Why.
        reason: String,
        /// Since when.
        since: Timestamp,
        /// True if it is tried again by itself; else the node must be restarted, or its books restored first.
        is_retried: bool,
    },
}

/// How a node stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its names.
    pub id: NodeId,
    /// What it may do now.
    pub mode: NodeMode,
    /// True if the mesh is private: whoever has not its key connects to no node of it.
    #[serde(default)]
    pub is_private: bool,
    /// True if it offers capacity.
    pub is_onboarded: bool,
    /// True while no new bids are made because the owner withdraws the capability.
    #[serde(default)]
    pub is_offboarding: bool,
    /// The peers that are connected, and whether each is known to offer capacity.
    pub peers: Vec<PeerStatus>,
    /// How many nodes the mesh has, this one included, as its members tell each other (`crate::graph`).
    #[serde(default)]
    pub mesh_size: u64,
    /// The bootstrap peers that were dialled in vain, and why.
    #[serde(default)]
    pub unreached_bootstraps: Vec<UnreachedBootstrap>,
    /// Where it can be dialled.
    pub addresses: Vec<String>,
    /// Jobs of its own that have not ended.
    pub active_job_count: usize,
    /// Jobs of its own, without those that are over for so long that they are archived.
    pub job_count: usize,
    /// Allocations running for others (or itself).
    pub active_allocation_count: usize,
    /// Live locks.
    pub lock_count: usize,
    /// Events in its log.
    pub event_count: u64,
    /// Attempts, since the start, on which a peer's books and ours differed; each was mended.
    #[serde(default)]
    pub difference_count: u64,
    /// Messages that wait for the Node actor, behind the question itself.
    #[serde(default)]
    pub waiting_messages: usize,
    /// Tasks of the process's tokio runtime that have not ended. The actor runs on other threads and says 0; whoever
    /// answers through the API knows it.
    #[serde(default)]
    pub task_count: usize,
    /// The port that the API is served at beside its socket, if it is. As with the tasks, the actor says none.
    #[serde(default)]
    pub api_listen: Option<SocketAddr>,
    /// When it was started.
    pub started: Timestamp,
    /// The program's version.
    pub version: String,
}

/// A bootstrap peer that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreachedBootstrap {
    /// Where it should be.
    pub address: String,
    /// Why the last dial failed.
    pub reason: String,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Who.
    pub did: Did,
    /// True if it advertises capacity.
    pub is_provider: bool,
    /// True if this node trusts it.
    pub is_trusted: bool,
}

impl Message for GetStatus {
    type Reply = NodeStatus;
}

/// Asks for the capability books.
#[derive(Debug)]
pub struct GetCapability;

/// The capability books: in every dimension registered = available + locked + allocated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityView {
    /// What is registered, if the node is onboarded.
    pub registered: Option<Capability>,
    /// What of what is available may be promised now: less while the machine's owner uses it.
    #[serde(default)]
    pub offered: Resources,
    /// What is free.
    pub available: Resources,
    /// What is locked for bids.
    pub locked: Resources,
    /// What is allocated.
    pub allocated: Resources,
    /// The live locks.
    pub locks: Vec<Lock>,
    /// The live allocations.
    pub allocations: Vec<AllocationRow>,
    /// True while no new bids are made because the owner withdraws the capability.
    #[serde(default)]
    pub is_offboarding: bool,
}

impl Message for GetCapability {
    type Reply = CapabilityView;
}

/// Registers what this machine offers. Answered when it is on disk.
#[derive(Debug)]
#[doc(alias = "setRegisteredCapability")]
pub struct Onboard {
    /// What is offered from now on.
    pub capability: Capability,
}

impl Message for Onboard {
    type Reply = Result<(), CommandError>;
}

/// Has the node measure how fast its machine is. Answered when that is done, which takes many seconds, and on disk if it
/// is to be registered.
#[derive(Debug, Clone, Copy)]
#[doc(alias = "benchmarkCapability")]
pub struct BenchmarkCapability {
    /// Whether what is measured becomes a part of what is registered.
    pub is_registered: bool,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Benchmarked {
    /// What was registered until then, if anything was.
    pub before: Option<Benchmark>,
    /// What was measured.
    pub after: Benchmark,
    /// True if it is registered now.
    pub is_registered: bool,
    /// Allocations that ran when measuring began: the machine was theirs, too.
    pub running_count: usize,
}

impl Message for BenchmarkCapability {
    type Reply = Result<Benchmarked, CommandError>;
}

/// What is done with that which runs while a capability is withdrawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OffboardMode {
    /// Nothing: the withdrawal is refused while anything runs.
    #[default]
    AtOnce,
    /// It may end; no new bids meanwhile.
    Wait,
    /// It is stopped.
    Force,
}

/// Withdraws what this machine offers. Answered when that is on disk, or at once with what is waited for.
#[derive(Debug)]
pub struct Offboard {
    /// What is done with that which runs.
    pub mode: OffboardMode,
}

/// How far a withdrawal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offboarded {
    /// True if nothing is registered any more, on disk.
    pub is_withdrawn: bool,
    /// Allocations that still run.
    pub running_count: usize,
    /// Locks that still hold.
    pub lock_count: usize,
}

impl Message for Offboard {
    type Reply = Result<Offboarded, CommandError>;
}

/// Stops taking new work, stops what runs, and answers when everything is on disk and told.
#[derive(Debug)]
pub struct Drain;

impl Message for Drain {
    type Reply = ();
}
