//! Who may say what to whom, decided before a word's body is decoded, and how a refusal is said.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ActorPath;
use crate::{Did, Kind};

/// Decides about words that come from other machines. Words inside the system are not asked about.
///
/// It runs in the link's task, never on the actors' thread, and must not block.
pub trait Policy: Send + Sync + 'static {
    /// Admits the word, or says why not. `sender` is proven by the link's handshake. A lookup is asked
    /// about like a word of its kind, a [watch](super::ActorSystem::watch) as `actor.watch/1`.
    fn admit(&self, sender: Did, path: &ActorPath, kind: &Kind) -> Result<(), Refusal>;

    /// What this system shows of itself whenever a link opens, at most [`MAX_CREDENTIALS`] bytes: tokens, say. The
    /// peer's policy [is introduced](Policy::introduce) to it before anything is said.
    fn credentials(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes what a peer shows of itself, in its own form, before its first word is asked about; or refuses the link.
    fn introduce(&self, peer: Did, credentials: &[u8]) -> Result<(), Refusal> {
        let _ = (peer, credentials);
        Ok(())
    }

    /// Hears that a word of a peer's was refused, here or because it does not decode, and says how many of
    /// [`Limits::words_per_second`](super::Limits) it costs: 1 unless another says more. So refusals are said to a
    /// peer that brings them upon itself as slowly as it deserves.
    fn on_refused(&self, peer: Did, refusal: &Refusal) -> u32 {
        let _ = (peer, refusal);
        1
    }

    /// Hears that a peer speaks faster than its limits allow, and says for how long it is not read: `pause`, after
    /// which it may say one more word, or longer.
    fn on_too_fast(&self, peer: Did, pause: Duration) -> Duration {
        let _ = peer;
        pause
    }
}

/// Most bytes that a system shows of itself when a link opens. More is not sent, and not looked at.
pub const MAX_CREDENTIALS: usize = 32 * 1024;

/// The policy of a system that names no other: whoever can connect may speak.
#[derive(Debug, Clone, Copy, Default)]
pub struct AdmitAll;

impl Policy for AdmitAll {
    fn admit(&self, _: Did, _: &ActorPath, _: &Kind) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Why a receiver did not take a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {text}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people, at most [`Refusal::MAX_TEXT_LENGTH`] bytes.
    pub text: String,
}

impl Refusal {
    /// Longest text in bytes; longer ones are cut, so that a refusal always fits into a frame.
    pub const MAX_TEXT_LENGTH: usize = 256;

    /// A refusal whose text is cut to fit.
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        let mut text = text.into();
        let end = (0..=Self::MAX_TEXT_LENGTH.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
        Self { code, text }
    }
}

/// What kind of refusal it is; callers act differently on each.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RefusalCode {
    /// The sender may not say this here.
    #[error("not trusted")]
    NotTrusted,
    /// No actor is registered at the path.
    #[error("unknown path")]
    UnknownPath,
    /// The actor at the path does not understand the kind.
    #[error("unknown kind")]
    UnknownKind,
    /// The body does not decode, or its signature does not hold.
    #[error("malformed")]
    Malformed,
    /// A bound of the receiver is reached; asking again later may help.
    #[error("busy")]
    Busy,
    /// The word or its reply is longer than a frame may be.
    #[error("too long")]
    TooLong,
    /// The word's time to live ended before it was handled.
    #[error("expired")]
    Expired,
    /// The two systems belong to different networks.
    #[error("other network")]
    OtherNetwork,
    /// The two systems speak different versions of the link protocol.
    #[error("other version")]
    OtherVersion,
    /// Anything else, including codes of a later version.
    #[serde(other)]
    #[error("refused")]
    Other,
}

impl RefusalCode {
    /// How it is said on the wire and in documents.
    const TEXTS: [(Self, &'static str); 10] = [
        (Self::NotTrusted, "not-trusted"),
        (Self::UnknownPath, "unknown-path"),
        (Self::UnknownKind, "unknown-kind"),
        (Self::Malformed, "malformed"),
        (Self::Busy, "busy"),
        (Self::TooLong, "too-long"),
        (Self::Expired, "expired"),
        (Self::OtherNetwork, "other-network"),
        (Self::OtherVersion, "other-version"),
        (Self::Other, "other"),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Self::TEXTS.iter().find(|(code, _)| *code == self).map_or("other", |(_, text)| text)
    }

    /// A text of a later version is `Other`.
    pub(crate) fn from_text(text: &str) -> Self {
        Self::TEXTS.iter().find(|(_, known)| *known == text).map_or(Self::Other, |(code, _)| *code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_one_text() {
        for (code, text) in RefusalCode::TEXTS {
            assert_eq!((code.as_str(), RefusalCode::from_text(text)), (text, code));
            assert_eq!(crate::cbor::to_canonical(&code), crate::cbor::to_canonical(text));
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let refusal = Refusal::new(RefusalCode::Other, "é".repeat(1000));
        assert_eq!(refusal.text, "é".repeat(Refusal::MAX_TEXT_LENGTH / 2));
        let odd = Refusal::new(RefusalCode::Other, format!("a{}", "é".repeat(1000)));
        assert_eq!(odd.text.len(), Refusal::MAX_TEXT_LENGTH - 1);
    }

    #[test]
    fn a_code_of_a_later_version_reads_as_other() {
        let bytes = crate::cbor::to_canonical(&"gone-fishing").unwrap();
        assert_eq!(crate::cbor::from_canonical::<RefusalCode>(&bytes), Ok(RefusalCode::Other));
        for code in [RefusalCode::NotTrusted, RefusalCode::Busy, RefusalCode::OtherNetwork] {
            let bytes = crate::cbor::to_canonical(&code).unwrap();
            assert_eq!(crate::cbor::from_canonical::<RefusalCode>(&bytes), Ok(code));
        }
    }
}
