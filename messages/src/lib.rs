//! The words of the mesh, in the order they are spoken.
//!
//! A node introduces itself ([`NodeCard`], [`Advert`]) and says how it stands ([`NodeStatus`]). A requester asks for capacity ([`BidRequest`]);
//! providers answer with a [`Bid`] (backed by a lock) or a [`Decline`]. The winner gets an
//! [`Invocation`] holding the [`Contract`] and answers [`Accepted`] or [`Refused`]; everybody else gets
//! a [`Release`]. The allocation reports [`AllocationStatus`] and [`AllocationOutput`], and keeps its
//! result until [`Acknowledge`]d. [`Cancel`] ends it early. While it runs it takes [`AllocationMessage`]s, and
//! [`AllocationCheck`] asks how it stands. What got lost on the way is found by [`Reconcile`].
//!
//! How large the mesh is, neighbours tell each other by a [`Census`].
//!
//! Who may say which of them is an [`Ability`], proven by [`Token`]s; an [`Invite`] brings a node its first one.
//! A node with a new key says so first of all ([`Successions`]).
//!
//! Plain data with checked constructors and units: no I/O, no clock, no decision. Documents are
//! [`Signed`] (COSE) and can be checked offline; the rest are frames, proven by the link they arrive on.

pub mod ability;
mod advert;
mod allocation_message;
mod benchmark;
mod bid;
mod bid_request;
mod bounded;
mod capability;
pub mod carried;
mod census;
mod class;
mod contract;
mod file_tree;
mod ids;
mod invocation;
mod job;
mod membership;
mod node_card;
mod node_status;
mod profile;
mod reconcile;
mod status;
mod succession;
mod token;
mod units;

pub use ability::{Ability, Role};
pub use advert::{Advert, MAX_ADDRESSES};
pub use allocation_message::{
    AllocationCheck, AllocationMessage, AllocationRefusal, AllocationReport, AllocationUsage, ContentError,
    Delivered, MAX_MESSAGE_LENGTH, MAX_MESSAGE_TYPE_LENGTH, MessageContent,
};
pub use benchmark::{Benchmark, Figure};
pub use bid::{Bid, Decline, DeclineReason, Release, ReleaseCause, Retry};
pub use bid_request::{BidRequest, MAX_WANTED};
pub use capability::{
    Capability, CpuInfo, Dimension, ExecutorKind, Gpu, GpuId, GpuRequirement, MAX_PORTS, PriceList,
    Requirement, Resources, Shortfall,
};
pub use census::{Census, CensusReply, MAX_SAMPLE, Sample};
pub use class::CapabilityClass;
pub use contract::Contract;
pub use file_tree::{FileEntry, FileTree, FileTreeError, RelativePath};
pub use ids::{AllocationId, AttemptId, BidId, BidRequestId, IdError, JobId, NodeId, NodeUuid};
pub use invocation::{Accepted, Invocation, Refused, RefusedReason};
pub use job::{
    Job, JobEnd, JobError, JobFailure, JobPhase, MAX_TASK_NAME, MAX_TASKS, Pod, Task, TaskResources,
    check_task_name,
};
pub use membership::{
    Admitted, Invite, InviteSecret, Join, MAX_REVOCATIONS, NotAdmitted, NotAdmittedReason, PreSharedKey,
    Renew, Revocations,
};
pub use node_card::NodeCard;
pub use node_status::{MAX_NODE_STATUS_LENGTH, NodeRole, NodeStatus, ResourceSummary, ServingMode};
pub use profile::{MAX_PROFILE_LABELS, MAX_PROFILE_TEXT, Profile};
pub use reconcile::{AttemptStage, MAX_RECONCILED, ProvidedAttempt, Reconcile, RequestedAttempt};
pub use status::{
    Acknowledge, AllocationOutput, AllocationResult, AllocationState, AllocationStatus,
    AllocationStatusRequest, Cancel, FailureCause, OutputStream, StopCause,
};
pub use succession::{MAX_SUCCESSIONS, Succession, Successions};
pub use token::{
    Credentials, CredentialsError, MAX_SHOWN_TOKENS, MAX_TOKEN_DEPTH, MAX_TOKEN_LENGTH, Revocation, Token,
};
pub use units::{CpuMillis, DiskMib, MemoryMib, Millis, Price, UnitError};

pub use dms_actors::cbor::{
    CborError, from_canonical, from_canonical_within, to_canonical, to_canonical_within,
};
pub use dms_actors::clock::Timestamp;
pub use dms_actors::signed::{Document, DocumentId, SignOptions, without_verifying};
pub use dms_actors::{ContentId, Did, Keypair, Kind, Message, Signed, WireMessage};

/// Longest free text in a word (reasons, names), in bytes; longer text is refused, never cut.
pub const MAX_TEXT_LENGTH: usize = 512;

/// Cuts `text` to [`MAX_TEXT_LENGTH`] at a character boundary, for text that comes from errors.
pub fn bounded_text(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > MAX_TEXT_LENGTH {
        let mut end = MAX_TEXT_LENGTH - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Refuses text over [`MAX_TEXT_LENGTH`], naming the field.
fn check_text(field: &str, text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT_LENGTH {
        Err(format!("{field} is longer than {MAX_TEXT_LENGTH} bytes"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod golden;
