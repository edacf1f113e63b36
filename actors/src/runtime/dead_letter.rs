//! Words that were taken and then lost, as a stream with reasons.

use super::{ActorPath, Refusal};
use crate::{Did, Kind};

/// A message that was taken from its sender and never handled. Its body is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why it was lost.
    pub reason: DeadLetterReason,
    /// The other machine: the sender of a word received, the receiver of a word sent. `None` if the
    /// word never left this system.
    pub peer: Option<Did>,
    /// The path of the target, if it was addressed by path.
    pub path: Option<ActorPath>,
    /// The Rust type of the message, if it was known here.
    pub type_name: Option<&'static str>,
    /// The kind, if it travelled.
    pub kind: Option<Kind>,
    /// The word's number on its link, if it travelled.
    pub id: Option<u64>,
}

/// Why a word was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterReason {
    /// Its handler panicked with this text. It is not handled again.
    #[error("its handler panicked: {0}")]
    Panicked(String),
    /// The actor ended while it waited in the mailbox.
    #[error("the actor ended before it was handled")]
    ActorEnded,
    /// It was published on a [`Topic`](super::Topic), and this subscriber was too slow or out of reach.
    #[error("a subscriber was too slow for it")]
    Overrun,
    /// Its deadline had passed, or its asker had gone, before it was begun.
    #[error("nobody waited for it any more")]
    Expired,
    /// It was the oldest in a full mailbox whose policy is to [drop the oldest](super::Overflow::DropOldest).
    #[error("it was displaced by a newer one")]
    Overflowed,
    /// The link died before the receiver's mailbox took it: unknown whether it was handled.
    #[error("the link was lost before it was acknowledged")]
    LinkLost,
    /// The receiver refused it.
    #[error("refused")]
    Refused(#[source] Refusal),
}

impl DeadLetterReason {
    /// A name for programs, without details: what the reason is called in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Panicked(_) => "panicked",
            Self::ActorEnded => "actor-ended",
            Self::Expired => "expired",
            Self::Overflowed => "overflowed",
            Self::Overrun => "overrun",
            Self::LinkLost => "link-lost",
            Self::Refused(_) => "refused",
        }
    }
}
