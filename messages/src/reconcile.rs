//! `Reconcile`: what two nodes share, as its sender's books have it. Either side says it when their link comes up and
//! every half minute while there is something to compare, so that no lost word leaves them apart for longer.
//!
//! A frame and direct: the link proves the sender, and attempts are named by their requester, so nobody speaks of
//! another's. The receiver compares and says the words that mend: a provider its [`crate::AllocationStatus`],
//! [`crate::Accepted`] or [`crate::Refused`], a requester its [`crate::Acknowledge`], [`crate::Cancel`] or
//! [`crate::AllocationStatusRequest`]. Where both agree, nothing is said.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::AttemptId;
use crate::status::AllocationState;

/// Most attempts in one word: about 24 KiB of CBOR, and a few milliseconds of work for whoever hears it.
pub const MAX_RECONCILED: usize = 256;

/// How far an attempt is, as far as both sides may differ on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptStage {
    /// The requester has invoked it and heard nothing since. No provider says so.
    Invoked,
    /// It is accepted.
    Accepted,
    /// Its inputs are being fetched.
    Preparing,
    /// It runs.
    Running,
    /// It has ended, and its result waits to be acknowledged. No requester says so: what ended there is over.
    Ended,
}

impl From<&AllocationState> for AttemptStage {
    fn from(state: &AllocationState) -> Self {
        match state {
            AllocationState::Accepted => Self::Accepted,
            AllocationState::Preparing => Self::Preparing,
            AllocationState::Running => Self::Running,
            AllocationState::Succeeded | AllocationState::Failed { .. } | AllocationState::Stopped { .. } => {
                Self::Ended
            }
        }
    }
}

impl fmt::Display for AttemptStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invoked => "invoked",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Ended => "ended",
        })
    }
}

/// An attempt that the sender wants the receiver to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedAttempt {
    /// The attempt.
    pub attempt: AttemptId,
    /// How far it is, as far as the sender knows.
    pub stage: AttemptStage,
    /// True if the sender has the receiver's countersignature.
    pub is_countersigned: bool,
}

/// An attempt that the sender runs for the receiver, or has run and keeps the result of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvidedAttempt {
    /// The attempt.
    pub attempt: AttemptId,
    /// How far it is.
    pub stage: AttemptStage,
}

/// A page of what the sender shares with the receiver; pages say nothing of what is not in them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Page")]
pub struct Reconcile {
    /// The sender is their requester; only the newest of each job that has not ended.
    pub requested: Vec<RequestedAttempt>,
    /// The sender is their provider; those that have not ended, and those whose results are not acknowledged.
    pub provided: Vec<ProvidedAttempt>,
}

dms_actors::wire_message!(Reconcile, "dms.reconcile", 1);

impl Reconcile {
    /// How many attempts are in it.
    pub fn len(&self) -> usize {
        self.requested.len() + self.provided.len()
    }

    /// True if there is nothing to compare.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// As it arrives; not yet known to be within the bound.
#[derive(Deserialize)]
struct Page {
    #[serde(deserialize_with = "bounded")]
    requested: Vec<RequestedAttempt>,
    #[serde(deserialize_with = "bounded")]
    provided: Vec<ProvidedAttempt>,
}

/// Refuses a list over [`MAX_RECONCILED`].
fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.len() > MAX_RECONCILED { Err(D::Error::custom(too_long())) } else { Ok(list) }
}

fn too_long() -> String {
    format!("more than {MAX_RECONCILED} attempts")
}

impl TryFrom<Page> for Reconcile {
    type Error = String;

    fn try_from(Page { requested, provided }: Page) -> Result<Self, String> {
        let page = Self { requested, provided };
        if page.len() > MAX_RECONCILED { Err(too_long()) } else { Ok(page) }
    }
}

#[cfg(test)]
mod tests {
    use dms_actors::{WireMessage, cbor};

    use super::*;
    use crate::{FailureCause, JobId, StopCause};

    fn attempt(number: usize) -> AttemptId {
        let number = u32::try_from(number).unwrap();
        AttemptId { job: JobId::from_random([1; 16]), pod: 0, number }
    }

    #[test]
    fn a_word_is_bounded_when_it_is_read() {
        let requested = |count: usize| -> Vec<RequestedAttempt> {
            let one = |n| RequestedAttempt {
                attempt: attempt(n),
                stage: AttemptStage::Running,
                is_countersigned: true,
            };
            (0..count).map(one).collect()
        };
        let provided = |count: usize| -> Vec<ProvidedAttempt> {
            (0..count).map(|n| ProvidedAttempt { attempt: attempt(n), stage: AttemptStage::Ended }).collect()
        };
        let table = [
            (0, 0, true),
            (256, 0, true),
            (0, 256, true),
            (128, 128, true),
            (257, 0, false),
            (0, 257, false),
            (129, 128, false),
        ];
        for (ours, theirs, is_read) in table {
            let word = Reconcile { requested: requested(ours), provided: provided(theirs) };
            let bytes = word.encode_body().unwrap();
            let back = cbor::from_canonical::<Reconcile>(&bytes);
            assert_eq!(back.as_ref().ok() == Some(&word), is_read, "{ours} and {theirs}: {back:?}");
        }
    }

    #[test]
    fn a_state_is_as_far_as_its_stage_says() {
        let stopped = AllocationState::Stopped { cause: StopCause::Orphaned };
        let failed = AllocationState::Failed { cause: FailureCause::Panic };
        let table = [
            (AllocationState::Accepted, AttemptStage::Accepted),
            (AllocationState::Preparing, AttemptStage::Preparing),
            (AllocationState::Running, AttemptStage::Running),
            (AllocationState::Succeeded, AttemptStage::Ended),
            (failed, AttemptStage::Ended),
            (stopped, AttemptStage::Ended),
        ];
        let mut last = AttemptStage::Invoked;
        for (state, stage) in table {
            assert_eq!(AttemptStage::from(&state), stage, "{state}");
            assert!(stage >= last);
            last = stage;
        }
    }
}
