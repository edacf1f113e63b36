//! The rows that the books consist of, in memory and on disk alike.

use std::collections::BTreeMap;
use std::time::Duration;

use dms_messages::{
    Accepted, AllocationId, AllocationResult, AllocationState, AttemptId, Bid, BidId, BidRequest, ContentId,
    Contract, DeclineReason, Did, Job, JobEnd, JobId, JobPhase, Price, RefusedReason, Resources, Signed,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use super::event::LockEnd;

/// A request for bids of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BidRequestSentRow {
    /// The request.
    pub request: BidRequest,
    /// When it was put out.
    pub at: Timestamp,
    /// When it is void.
    pub expires: Timestamp,
}

/// A request for bids of a peer's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BidRequestReceivedRow {
    /// Who asked.
    pub requester: Did,
    /// The request.
    pub request: BidRequest,
    /// When it was answered.
    pub at: Timestamp,
    /// The reason of the decline; none if a bid was made.
    pub declined: Option<DeclineReason>,
}

/// What became of a bid of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockState {
    /// Its lock holds.
    Held,
    /// Its lock ended.
    Ended(LockEnd),
}

/// A bid of ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BidSentRow {
    /// For whom.
    pub requester: Did,
    /// The bid.
    pub bid: Signed<Bid>,
    /// When it was made.
    pub at: Timestamp,
    /// What became of it.
    pub lock: LockState,
    /// What its lock was taken for. Outlives the allocation in memory, so that no attempt starts twice while its bid
    /// is remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<StartedRow>,
}

/// The attempt that a bid's lock was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedRow {
    /// The attempt.
    pub attempt: AttemptId,
    /// The allocation that ran it.
    pub allocation: AllocationId,
}

/// A bid of a peer's on a job of ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BidReceivedRow {
    /// The job.
    pub job: JobId,
    /// The bid.
    pub bid: Signed<Bid>,
    /// When it arrived.
    pub at: Timestamp,
}

/// True for the first task, which rows do not say: most pods have no other.
fn is_first(task: &u16) -> bool {
    *task == 0
}

fn is_one(count: &u16) -> bool {
    *count == 1
}

fn one() -> u16 {
    1
}

/// An allocation that was ever started here: one task of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationRow {
    /// The allocation.
    pub id: AllocationId,
    /// Which attempt it runs.
    pub attempt: AttemptId,
    /// Which task of the pod, from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub task: u16,
    /// How many tasks the pod has.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub task_count: u16,
    /// For whom.
    pub requester: Did,
    /// Under which contract.
    pub contract: ContentId,
    /// By which bid.
    pub bid: BidId,
    /// What is granted: its share of the pod's. What the tasks have in common (ports, GPUs, the slot) is with one of
    /// those that have not ended.
    pub resources: Resources,
    /// How it stands.
    pub state: AllocationState,
    /// What it left.
    pub result: Option<AllocationResult>,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// When it last moved.
    pub moved: Timestamp,
    /// When the last of several tasks ended: until then none of them is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_ended: Option<Timestamp>,
    /// True once the requester has the result.
    pub is_acknowledged: bool,
}

/// How long a result is kept for a requester that does not come for it.
const KEEP_RESULTS: Duration = Duration::from_secs(24 * 3600);

impl AllocationRow {
    /// From when on it is over, if it has ended: its requester has the result, or did not come for it in time.
    pub fn settles_after(&self) -> Timestamp {
        let ended = self.pod_ended.unwrap_or(self.moved);
        if self.is_acknowledged { ended } else { ended.saturating_add(KEEP_RESULTS) }
    }

    /// When its pod ended; none while one of its tasks has not.
    pub fn ended(&self) -> Option<Timestamp> {
        match self.task_count {
            1 => self.state.is_terminal().then_some(self.moved),
            _ => self.pod_ended,
        }
    }

    /// True if it ended before `before` and is over: its requester has the result, or did not come for it in time.
    pub(crate) fn is_over(&self, before: Timestamp) -> bool {
        self.ended().is_some() && self.settles_after() < before
    }
}

/// A contract, ours or a peer's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContractRow {
    /// The other party.
    pub peer: Did,
    /// Signed by the requester.
    pub contract: Signed<Contract>,
    /// Countersigned by the provider, once it is.
    pub accepted: Option<Signed<Accepted>>,
    /// When it was first recorded here.
    #[serde(default)]
    pub first: Timestamp,
}

/// How an attempt of ours stands, as far as we know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "attempt", rename_all = "snake_case")]
pub enum AttemptState {
    /// The invocation may have left; no answer yet.
    Invoked,
    /// The provider reported this.
    Observed {
        /// The state.
        state: AllocationState,
    },
    /// The provider refused or disowned it.
    Refused {
        /// Why.
        reason: RefusedReason,
    },
    /// The provider is lost.
    Lost {
        /// Why it is counted lost.
        reason: String,
    },
}

impl AttemptState {
    /// True if the attempt is over, one way or another.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Invoked => false,
            Self::Observed { state } => state.is_terminal(),
            Self::Refused { .. } | Self::Lost { .. } => true,
        }
    }
}

/// How one of several tasks of an attempt stands, as far as we know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRow {
    /// How it stands.
    pub state: AllocationState,
    /// What it left, as its provider says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<AllocationResult>,
    /// When it last moved.
    pub moved: Timestamp,
}

/// One try to run a job of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// The attempt.
    pub id: AttemptId,
    /// Where it runs.
    pub provider: Did,
    /// Where that provider can be dialled.
    pub addresses: Vec<String>,
    /// Under which contract.
    pub contract: ContentId,
    /// For how much an hour, as the contract says.
    #[serde(default)]
    pub price: Price,
    /// The provider's allocation, once accepted: the first task's.
    pub allocation: Option<AllocationId>,
    /// How it stands.
    pub state: AttemptState,
    /// What it left, as its provider says; the contents are here only if the job may end with `state`. None of a pod
    /// of several tasks: `tasks` has theirs.
    pub result: Option<AllocationResult>,
    /// How its tasks stand, in their order, if there are several; as many as were reported on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskRow>,
    /// When it was minted.
    pub minted: Timestamp,
    /// When its provider's report that it runs arrived, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Timestamp>,
    /// When it last moved.
    pub moved: Timestamp,
}

impl AttemptRow {
    /// What every task left, with which task it was, in their order.
    pub fn results(&self) -> impl Iterator<Item = (u16, &AllocationResult)> {
        let several = self.tasks.iter().map(|task| task.result.as_ref());
        let all = (0..).zip(self.result.iter().map(Some).chain(several));
        all.filter_map(|(task, result)| Some((task, result?)))
    }
}

/// Why one node does not run a job of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum NodeAnswer {
    /// It said no.
    Declined {
        /// Why.
        reason: DeclineReason,
    },
    /// It was not asked, or could not be.
    NotAsked {
        /// Why.
        reason: String,
    },
    /// It made a bid.
    Bid {
        /// The bid.
        bid: BidId,
    },
}

/// A job of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// The job.
    pub job: Job,
    /// Where it stands.
    pub phase: JobPhase,
    /// True once somebody wants it ended.
    pub is_cancel_wanted: bool,
    /// Its attempts, oldest first; bounded by the job's `max_attempts`.
    pub attempts: Vec<AttemptRow>,
    /// The last answer of each node.
    pub answers: BTreeMap<Did, NodeAnswer>,
    /// When the first bid arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bid: Option<Timestamp>,
    /// How often each node said no, by the reason's code.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub declines: BTreeMap<Did, BTreeMap<String, u32>>,
    /// How it ended.
    pub end: Option<JobEnd>,
    /// When it last moved.
    pub moved: Timestamp,
}

impl JobRow {
    /// The attempt that counts: the newest.
    pub fn current_attempt(&self) -> Option<&AttemptRow> {
        self.attempts.last()
    }

    /// The exit code that a person's shell should see, if the program ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        match &self.current_attempt()?.state {
            AttemptState::Observed { state } => state.exit_code(),
            _ => None,
        }
    }
}
