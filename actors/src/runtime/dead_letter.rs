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
    /// The link died before the receiver's mailbox took it: unknown whether it was handled.
    #[error("the link was lost before it was acknowledged")]
    LinkLost,
    /// The receiver refused it.
    #[error("refused")]
    Refused(#[source] Refusal),
}
