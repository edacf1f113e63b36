//! Why a send failed. The message comes back whenever it was not taken.

use std::error::Error;
use std::fmt;

use super::Refusal;
use crate::wire::DecodeError;

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendFailure {
    /// The mailbox, the link's queue or the target's credit is used up. It may have room later.
    #[error("full")]
    Full,
    /// The deadline had passed before it could be sent.
    #[error("the deadline had passed")]
    Expired,
    /// The actor has ended and will not come back.
    #[error("the actor has ended")]
    Closed,
    /// It was refused by name (nobody at the path, unknown kind, another network).
    #[error("refused")]
    Refused(#[source] Refusal),
    /// The peer could not be reached, or its link was lost before the message was queued.
    #[error("the peer cannot be reached: {0}")]
    Unreachable(String),
    /// No address of the peer is known, or (`try_tell` only) its link is still being opened.
    #[error("no route to the peer yet")]
    NoRouteYet,
    /// The encoded message is longer than [`MAX_BODY_LENGTH`](super::MAX_BODY_LENGTH).
    #[error("too long for a frame")]
    TooLong,
}

/// A message that was not taken, and why.
pub struct TellError<M> {
    /// The message, unharmed.
    pub message: M,
    /// Why it was not taken.
    pub reason: SendFailure,
}

impl<M> fmt::Debug for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TellError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<M> fmt::Display for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message was not taken")
    }
}

impl<M> Error for TellError<M> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.reason)
    }
}

/// Why an ask has no reply.
#[non_exhaustive]
pub enum AskError<M> {
    /// The message was not taken; nothing was done.
    NotSent {
        /// The message, unharmed.
        message: M,
        /// Why it was not taken.
        reason: SendFailure,
    },
    /// The time is over: unknown whether it was done.
    TimedOut,
    /// The link was lost or the actor ended before it answered: unknown whether it was done.
    Lost,
    /// The receiver refused it; nothing was done (unless the code is
    /// [`TooLong`](super::RefusalCode::TooLong) and the text says that only the reply was).
    Refused(Refusal),
    /// It was done, and the reply cannot be read.
    Reply(DecodeError),
}

impl<M> fmt::Debug for AskError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent { reason, .. } => {
                f.debug_struct("NotSent").field("reason", reason).finish_non_exhaustive()
            }
            Self::TimedOut => f.write_str("TimedOut"),
            Self::Lost => f.write_str("Lost"),
            Self::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
            Self::Reply(error) => f.debug_tuple("Reply").field(error).finish(),
        }
    }
}

impl<M> fmt::Display for AskError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent { .. } => "the message was not taken",
            Self::TimedOut => "no answer in time: unknown whether it was done",
            Self::Lost => "the answer is lost: unknown whether it was done",
            Self::Refused(_) => "the receiver refused it",
            Self::Reply(_) => "the reply cannot be read",
        })
    }
}

impl<M> Error for AskError<M> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotSent { reason, .. } => Some(reason),
            Self::TimedOut | Self::Lost => None,
            Self::Refused(refusal) => Some(refusal),
            Self::Reply(error) => Some(error),
        }
    }
}
