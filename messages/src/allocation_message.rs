//! `AllocationMessage`: somebody says something to a program that runs. Who asked for the allocation says it, or
//! whoever has the ability [`crate::ability::allocation`] of it; its provider's owner says it at that machine.
//!
//! An ask, direct, to the address of the allocation itself (`did:key:…/node/alloc/ID`): a frame, proven by its link.
//! It is answered [`Delivered`] once it lies in the program's inbox, or, if a reply is wanted, with what the program
//! says to it; or [`AllocationRefusal`] says why not. Nothing of it is kept: what must not be lost is an input of the job.
//!
//! `AllocationCheck` asks a provider's node how an allocation stands, live or ended, and is answered with an
//! [`AllocationReport`]. Unlike [`crate::AllocationStatusRequest`] it is no sign of life and moves no live output, so
//! that looking changes nothing.

use std::fmt;

use dms_actors::clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{AllocationId, AttemptId};
use crate::status::{AllocationResult, AllocationState};
use crate::units::Millis;

/// Longest body of a message in bytes: a few milliseconds of a slow link, so that it holds up no word behind it, and
/// sixteen of them fill an inbox. What is longer is a blob, and the message its identifier.
pub const MAX_MESSAGE_LENGTH: usize = 64 * 1024;
/// Longest type of a message in bytes.
pub const MAX_MESSAGE_TYPE_LENGTH: usize = 128;

/// Why something is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// The body is too long.
    #[error("a message has at most {MAX_MESSAGE_LENGTH} bytes, and this one has more")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
    },
    /// The type is none.
    #[error(
        "the type of a message is 1 to {MAX_MESSAGE_TYPE_LENGTH} letters, digits and characters of ._+-/ (text/plain)"
    )]
    Type,
}

/// What is said: bytes, and what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct MessageContent {
    /// What the bytes are, as their two ends have agreed: `text/plain`, `order.created`.
    #[serde(rename = "type")]
    content_type: String,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
}

/// As it arrives; not yet known to be within the bounds.
#[derive(Deserialize)]
struct Unchecked {
    #[serde(rename = "type")]
    content_type: String,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
}

impl TryFrom<Unchecked> for MessageContent {
    type Error = ContentError;

    fn try_from(Unchecked { content_type, body }: Unchecked) -> Result<Self, ContentError> {
        Self::new(content_type, body)
    }
}

impl MessageContent {
    /// A message of this type.
    ///
    /// # Errors
    /// [`ContentError`] if the body is too long or the type is none.
    pub fn new(content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Result<Self, ContentError> {
        let (content_type, body) = (content_type.into(), body.into());
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-/".contains(&byte);
        if !(1..=MAX_MESSAGE_TYPE_LENGTH).contains(&content_type.len())
            || !content_type.bytes().all(is_allowed)
        {
            return Err(ContentError::Type);
        }
        if body.len() > MAX_MESSAGE_LENGTH {
            return Err(ContentError::TooLarge { length: body.len() });
        }
        Ok(Self { content_type, body })
    }

    /// What the bytes are.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The bytes.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// How much memory it takes, in bytes.
    pub fn length(&self) -> usize {
        self.content_type.len() + self.body.len()
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationMessage {
    /// What is said.
    pub content: MessageContent,
    /// True if the sender waits for what the program says to it.
    pub wants_reply: bool,
}

dms_actors::wire_message!(
    AllocationMessage,
    "dms.allocation-message",
    1,
    reply = Result<Delivered, AllocationRefusal>
);

/// The message lies in the program's inbox, or the program has had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// What the program said to it; none if no reply was wanted, or the program went on, or ended, without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<MessageContent>,
}

/// Why an allocation does not take a message, or says nothing of itself.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AllocationRefusal {
    /// The node knows no such allocation, or none any more.
    #[error("no such allocation is known there")]
    UnknownAllocation,
    /// It is somebody else's.
    #[error("the allocation is another's, and no token lets this node speak to it")]
    NotYours,
    /// Its program does not run yet.
    #[error("the program does not run yet")]
    NotStarted,
    /// Its program has ended.
    #[error("the program has ended")]
    Ended,
    /// Its program takes no messages: it does not import what receives them.
    #[error("the program does not take messages")]
    NotListening,
    /// Its program has not read what came before.
    #[error("the program's inbox is full: it has not read what came before")]
    InboxFull,
    /// The node cannot write its books: it can say nothing, and what ran there is stopped.
    #[error("the provider is read-only, and says nothing of what ran there")]
    ReadOnly,
    /// The message is longer than the receiver takes.
    #[error("the message is longer than is taken there")]
    TooLarge,
}

impl AllocationRefusal {
    /// Every reason, with the word that programs see.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::UnknownAllocation, "unknown_allocation"),
        (Self::NotYours, "not_yours"),
        (Self::NotStarted, "not_started"),
        (Self::Ended, "ended"),
        (Self::NotListening, "not_listening"),
        (Self::InboxFull, "inbox_full"),
        (Self::ReadOnly, "read_only"),
        (Self::TooLarge, "too_large"),
    ];

    /// The word that programs see.
    pub fn code(self) -> &'static str {
        Self::ALL.iter().find(|(refusal, _)| *refusal == self).map_or("refused", |(_, code)| code)
    }

    /// True if asking again later may help.
    pub fn is_later(self) -> bool {
        matches!(self, Self::NotStarted | Self::InboxFull | Self::ReadOnly)
    }
}

/// How does this allocation stand? See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[doc(alias = "checkAllocationStatus")]
pub struct AllocationCheck {
    /// Which.
    pub allocation: AllocationId,
}

dms_actors::wire_message!(
    AllocationCheck,
    "dms.allocation-check",
    1,
    reply = Result<AllocationReport, AllocationRefusal>
);

/// How an allocation stands now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationReport {
    /// The allocation.
    pub allocation: AllocationId,
    /// Which attempt it runs.
    pub attempt: AttemptId,
    /// How it stands.
    pub state: AllocationState,
    /// Since when, by its provider's clock.
    pub since: Timestamp,
    /// What it uses, while it is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<AllocationUsage>,
    /// What it left, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<AllocationResult>,
}

/// What a live allocation uses, as far as its provider counts it while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationUsage {
    /// For how long its program has run; 0 before it does.
    pub ran: Millis,
    /// Bytes of standard output so far.
    pub stdout: u64,
    /// Bytes of standard error so far.
    pub stderr: u64,
    /// Messages that it was brought.
    pub messages: u64,
    /// Those among them that it has not read.
    pub waiting_messages: u64,
}

impl fmt::Display for AllocationUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ran, stdout, stderr, messages, waiting_messages } = self;
        write!(f, "ran {ran}, {stdout} + {stderr} bytes of output, ")?;
        write!(f, "{messages} messages ({waiting_messages} not read)")
    }
}

#[cfg(test)]
mod tests {
    use dms_actors::WireMessage;
    use dms_actors::cbor::to_canonical;
    use dms_actors::wire::DecodeContext;

    use super::*;

    #[test]
    fn a_content_is_within_its_bounds_or_there_is_none() {
        let long = "a".repeat(MAX_MESSAGE_TYPE_LENGTH + 1);
        for content_type in ["a", "text/plain", "order.created_2+x-Y", &long[1..]] {
            assert!(MessageContent::new(content_type, "").is_ok(), "{content_type}");
        }
        for content_type in ["", &long, "text plain", "a;b", "ä", "a\n", "a\0", "\""] {
            assert_eq!(MessageContent::new(content_type, ""), Err(ContentError::Type), "{content_type:?}");
        }
        let largest = MessageContent::new("x", vec![7; MAX_MESSAGE_LENGTH]).unwrap();
        assert_eq!((largest.length(), largest.body().len()), (MAX_MESSAGE_LENGTH + 1, MAX_MESSAGE_LENGTH));
        let length = MAX_MESSAGE_LENGTH + 1;
        assert_eq!(MessageContent::new("x", vec![7; length]), Err(ContentError::TooLarge { length }));
    }

    #[test]
    fn what_is_out_of_bounds_is_not_read() {
        #[derive(Serialize)]
        struct Raw<'a> {
            content: RawContent<'a>,
            wants_reply: bool,
        }
        #[derive(Serialize)]
        struct RawContent<'a> {
            body: &'a serde_bytes::Bytes,
            r#type: &'a str,
        }
        let read = |content_type: &str, length: usize| {
            let body = vec![0; length];
            let content = RawContent { body: serde_bytes::Bytes::new(&body), r#type: content_type };
            let bytes = to_canonical(&Raw { content, wants_reply: true }).unwrap();
            let me = dms_actors::Keypair::from_secret(&[1; 32]).did();
            let context = DecodeContext { me, now: Timestamp(1), network: "test".to_owned() };
            AllocationMessage::decode_body(&bytes, &context)
        };
        let content = MessageContent::new("a", vec![0; MAX_MESSAGE_LENGTH]).unwrap();
        assert_eq!(read("a", MAX_MESSAGE_LENGTH), Ok(AllocationMessage { content, wants_reply: true }));
        assert!(read("a", MAX_MESSAGE_LENGTH + 1).is_err());
        assert!(read("", 0).is_err());
    }

    #[test]
    fn a_refusal_is_written_as_programs_see_it() {
        for (refusal, code) in AllocationRefusal::ALL {
            assert_eq!(refusal.code(), code);
            assert_eq!(to_canonical(&refusal).unwrap(), to_canonical(code).unwrap());
        }
    }
}
