//! The events: everything that ever happened to the books, in the node's own words.
//!
//! An event says what happened, never what to do. Fields are only added; a changed meaning is a new
//! variant. The first version of each is kept readable for ever, because the log is the books.

use dms_messages::{
    Accepted, AllocationId, AllocationResult, AllocationState, AttemptId, Bid, BidId, BidRequest,
    BidRequestId, Capability, Contract, DeclineReason, Did, DocumentId, Job, JobEnd, JobId, JobPhase,
    NodeCard, RefusedReason, Resources, Signed, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::trust::TrustEvent;
use crate::engine::Durability;
use crate::sabotage::{self, Bug};

/// One line of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// When it happened, by the node's wall clock.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// What became of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockEnd {
    /// It became an allocation.
    Taken,
    /// The requester gave it back.
    Released,
    /// Its lease ended.
    Expired,
    /// This node took it back, or could not keep it, for reasons of its own: its bid could not be brought to the
    /// requester, the offer was withdrawn, the invocation was refused by a node that is busy, closed or about to
    /// stop, or the node was away. Nothing of it counts against the requester.
    Withdrawn,
}

/// A lock on capacity, made for a bid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The bid it backs.
    pub bid: BidId,
    /// The request that was bid on.
    pub request: BidRequestId,
    /// For whom.
    pub requester: Did,
    /// For which job.
    pub job: JobId,
    /// For which pod.
    pub pod: u16,
    /// What is locked.
    pub resources: Resources,
    /// When its lease ends, grace included, by the node's wall clock.
    pub expires: Timestamp,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The node's identity was made and introduced.
    NodeNamed {
        /// The signed card.
        card: Signed<NodeCard>,
    },
    /// The machine's owner registered this capability (onboarding, or a resize).
    CapabilityRegistered {
        /// What is offered from now on.
        capability: Capability,
    },
    /// The machine's owner offers nothing any more.
    CapabilityWithdrawn,
    /// The machine's owner said by what this node chooses, and at what price it offers.
    PreferencesSet {
        /// The preferences, as the owner wrote them (TOML); empty for those that a node begins with.
        text: String,
    },
    /// A request for bids was put out for a job of ours.
    BidRequestSent {
        /// The request.
        request: BidRequest,
        /// When it is void.
        expires: Timestamp,
    },
    /// A peer asked for bids, and this is what was answered.
    BidRequestReceived {
        /// Who asked.
        requester: Did,
        /// The request.
        request: BidRequest,
        /// The reason of the decline; none if a bid was made.
        declined: Option<DeclineReason>,
    },
    /// A bid was made, with the capacity locked for it.
    BidSent {
        /// The signed bid, ready to leave.
        bid: Signed<Bid>,
        /// Its lock.
        lock: Lock,
    },
    /// A lock ended.
    LockEnded {
        /// Its bid.
        bid: BidId,
        /// How (never [`LockEnd::Taken`]: that is part of [`Event::AllocationAccepted`]).
        end: LockEnd,
    },
    /// A lock's lease was renewed: its request was repeated within it, and the bid is said again.
    LockRenewed {
        /// Its bid.
        bid: BidId,
        /// When the lease ends from now on, grace included, by the node's wall clock.
        expires: Timestamp,
    },
    /// A peer's bid on a job of ours arrived.
    BidReceived {
        /// The job.
        job: JobId,
        /// The bid.
        bid: Signed<Bid>,
    },
    /// A peer declined a job of ours.
    DeclineReceived {
        /// The job.
        job: JobId,
        /// Who.
        provider: Did,
        /// Why.
        reason: DeclineReason,
    },
    /// A node that could have been asked was not, or could not be reached.
    NotAsked {
        /// The job.
        job: JobId,
        /// Who.
        provider: Did,
        /// Why.
        reason: String,
    },
    /// A bid of ours was invoked: its lock became an allocation for each task of the pod, under the countersigned
    /// contract.
    AllocationAccepted {
        /// The first task's allocation; the others' follow from it ([`AllocationId::of_task`]).
        allocation: AllocationId,
        /// The requester's contract.
        contract: Signed<Contract>,
        /// Our countersignature.
        accepted: Signed<Accepted>,
    },
    /// A running allocation moved on.
    AllocationMoved {
        /// The allocation.
        allocation: AllocationId,
        /// Its new state.
        state: AllocationState,
    },
    /// An allocation ended; its capacity is available again. What its pod's tasks share (ports, GPUs, the slot) goes on to
    /// one of them that has not ended, if there is one.
    AllocationEnded {
        /// The allocation.
        allocation: AllocationId,
        /// Its last state.
        state: AllocationState,
        /// What it left.
        result: Option<AllocationResult>,
    },
    /// The requester has an ended allocation's result.
    AllocationAcknowledged {
        /// The allocation.
        allocation: AllocationId,
    },
    /// A person handed in a job.
    JobSubmitted {
        /// The job.
        job: Job,
    },
    /// A job of ours moved on.
    JobMoved {
        /// The job.
        job: JobId,
        /// Its new phase (never a terminal one: that is [`Event::JobEnded`]).
        phase: JobPhase,
    },
    /// A person wants a job of ours ended.
    JobCancelWanted {
        /// The job.
        job: JobId,
    },
    /// An attempt was minted: recorded before its invocation leaves.
    AttemptMinted {
        /// The attempt.
        attempt: AttemptId,
        /// The chosen provider.
        provider: Did,
        /// Where it can be dialled.
        addresses: Vec<String>,
        /// The contract we signed.
        contract: Signed<Contract>,
    },
    /// The provider countersigned.
    AttemptAccepted {
        /// The countersignature.
        accepted: Signed<Accepted>,
    },
    /// The provider refused the invocation, or disowned the attempt.
    AttemptRefused {
        /// The attempt.
        attempt: AttemptId,
        /// Why.
        reason: RefusedReason,
    },
    /// The provider reported a change of state.
    AttemptObserved {
        /// The attempt.
        attempt: AttemptId,
        /// The state reported.
        state: AllocationState,
        /// What it left; none of a pod of several tasks ([`Event::TaskObserved`] has theirs).
        result: Option<AllocationResult>,
    },
    /// The provider reported a change of one of several tasks; how the pod stands with it is an
    /// [`Event::AttemptObserved`].
    TaskObserved {
        /// The attempt.
        attempt: AttemptId,
        /// Which task of the pod, from 0.
        task: u16,
        /// The state reported.
        state: AllocationState,
        /// What it left.
        result: Option<AllocationResult>,
    },
    /// The provider was lost.
    AttemptLost {
        /// The attempt.
        attempt: AttemptId,
        /// Why it is counted lost.
        reason: String,
    },
    /// A job of ours ended.
    JobEnded {
        /// The job.
        job: JobId,
        /// How.
        end: JobEnd,
    },
    /// A signed word was seen, and must not have an effect again.
    DocumentSeen {
        /// The word.
        id: DocumentId,
        /// Until when it must be remembered.
        until: Timestamp,
    },
    /// The owner changed whom the node trusts or lets in, or a token came or went.
    Trust {
        /// What.
        change: TrustEvent,
    },
    /// What ended before this instant left the memory for the archive: ended jobs; ended allocations whose result
    /// its requester has, or did not come for within a day; and contracts that nothing in memory refers to.
    Settled {
        /// The instant.
        ended_before: Timestamp,
    },
    /// Ended requests, bids and seen words of before this instant were forgotten.
    Pruned {
        /// The instant.
        before: Timestamp,
    },
}

impl Event {
    /// Whether the event must be on disk before anything is said about it. What may be un-synced is
    /// only told, never promised: losing it with the power loses no acknowledgement.
    ///
    /// The log is one file: whatever is synced takes everything before it along. So an end of a lock may be
    /// un-synced, because what the freed capacity is promised to next is not (a lock that comes back runs out); so may
    /// an acknowledgement be (its requester is told the result again, and acknowledges again), and a provider's
    /// acceptance (nothing is said on its strength, the job's end takes it along, and asking brings back how it stands).
    pub fn durability(&self) -> Durability {
        if sabotage::has(Bug::NeverSyncs) {
            return Durability::Unsynced;
        }
        match self {
            Self::BidRequestReceived { .. }
            | Self::BidReceived { .. }
            | Self::DeclineReceived { .. }
            | Self::NotAsked { .. }
            | Self::BidRequestSent { .. }
            | Self::DocumentSeen { .. }
            | Self::LockEnded { .. }
            | Self::AllocationAcknowledged { .. }
            | Self::AttemptAccepted { .. }
            | Self::JobMoved { .. }
            | Self::AllocationMoved { .. }
            | Self::TaskObserved { .. }
            | Self::Settled { .. }
            | Self::Pruned { .. } => Durability::Unsynced,
            Self::AttemptObserved { state, .. } if !state.is_terminal() => Durability::Unsynced,
            _ => Durability::Synced,
        }
    }

    /// The event's name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NodeNamed { .. } => "node_named",
            Self::CapabilityRegistered { .. } => "capability_registered",
            Self::CapabilityWithdrawn => "capability_withdrawn",
            Self::PreferencesSet { .. } => "preferences_set",
            Self::BidRequestSent { .. } => "bid_request_sent",
            Self::BidRequestReceived { .. } => "bid_request_received",
            Self::BidSent { .. } => "bid_sent",
            Self::LockEnded { .. } => "lock_ended",
            Self::LockRenewed { .. } => "lock_renewed",
            Self::BidReceived { .. } => "bid_received",
            Self::DeclineReceived { .. } => "decline_received",
            Self::NotAsked { .. } => "not_asked",
            Self::AllocationAccepted { .. } => "allocation_accepted",
            Self::AllocationMoved { .. } => "allocation_moved",
            Self::AllocationEnded { .. } => "allocation_ended",
            Self::AllocationAcknowledged { .. } => "allocation_acknowledged",
            Self::JobSubmitted { .. } => "job_submitted",
            Self::JobMoved { .. } => "job_moved",
            Self::JobCancelWanted { .. } => "job_cancel_wanted",
            Self::AttemptMinted { .. } => "attempt_minted",
            Self::AttemptAccepted { .. } => "attempt_accepted",
            Self::AttemptRefused { .. } => "attempt_refused",
            Self::AttemptObserved { .. } => "attempt_observed",
            Self::TaskObserved { .. } => "task_observed",
            Self::AttemptLost { .. } => "attempt_lost",
            Self::JobEnded { .. } => "job_ended",
            Self::DocumentSeen { .. } => "document_seen",
            Self::Trust { change } => change.name(),
            Self::Settled { .. } => "settled",
            Self::Pruned { .. } => "pruned",
        }
    }
}
