//! Messages that travel: each names its kind and version and knows its bytes.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::Did;
use crate::cbor::{self, CborError};
use crate::clock::Timestamp;
use crate::signed::SignedError;

/// The author-chosen name of a message type: `dms.bid/1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// Dotted lower-case name, at most [`Kind::MAX_NAME_LENGTH`] bytes.
    pub name: String,
    /// The version: a changed meaning is a new version.
    pub version: u16,
}

impl Kind {
    /// Longest accepted name in bytes.
    pub const MAX_NAME_LENGTH: usize = 64;

    /// The kind of `M`.
    pub fn of<M: WireMessage>() -> Self {
        Self { name: M::KIND.to_owned(), version: M::VERSION }
    }

    /// Whether `name` can be that of a kind: 1 to [`Kind::MAX_NAME_LENGTH`] characters of `a-z`, `0-9`,
    /// `.` and `-`. Constant, so that [`wire_message!`](crate::wire_message) and
    /// `#[derive(WireMessage)]` refuse other names when they are compiled.
    ///
    /// ```
    /// const _: () = assert!(dms_actors::Kind::is_name("example.greet"));
    /// assert!(!dms_actors::Kind::is_name("Greet"));
    /// ```
    pub const fn is_name(name: &str) -> bool {
        let name = name.as_bytes();
        let mut at = 0;
        while at < name.len() {
            if !matches!(name[at], b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-') {
                return false;
            }
            at += 1;
        }
        !name.is_empty() && name.len() <= Self::MAX_NAME_LENGTH
    }

    /// Reads the printed form (`name/version`).
    pub fn parse(text: &str) -> Option<Self> {
        let (name, version) = text.rsplit_once('/')?;
        let is_canonical = version == "0" || !version.starts_with(['0', '+']);
        (Self::is_name(name) && is_canonical).then_some(())?;
        Some(Self { name: name.to_owned(), version: version.parse().ok()? })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// What the receiver knows when it decodes: documents are checked against it.
#[derive(Debug, Clone)]
pub struct DecodeContext {
    /// The receiver; a document addressed to somebody else is refused.
    pub me: Did,
    /// The receiver's wall clock.
    pub now: Timestamp,
    /// The name of the mesh; a document of another mesh is refused.
    pub network: String,
}

/// Why a body could not become a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not the deterministic CBOR of this type.
    #[error("malformed body")]
    Cbor(#[source] CborError),
    /// The document does not hold.
    #[error("the document does not hold")]
    Signed(#[source] SignedError),
    /// The value breaks a rule of its type.
    #[error("invalid value: {0}")]
    Invalid(String),
}

impl DecodeError {
    /// True if nothing is wrong but the time: the document has expired, or does not hold yet.
    pub fn is_untimely(&self) -> bool {
        matches!(self, Self::Signed(SignedError::Expired | SignedError::NotYetValid))
    }
}

/// A message an actor can be sent, and the reply that an ask of it gets.
///
/// Defined here, without the runtime, so that crates of plain words can implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    note = "derive it: `#[derive(Message)]` and, unless an ask of it is answered with `()`, `#[message(reply = …)]`"
)]
pub trait Message: Send + 'static {
    /// What an ask is answered with; `()` for words that are only told.
    type Reply: Send + 'static;
}

/// A value that travels between machines.
///
/// The default body is deterministic CBOR of the serde form; [`crate::Signed`] overrides it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is a message that does not travel",
    note = "derive it: `#[derive(Serialize, Deserialize, WireMessage)]` and `#[wire(kind = \"example.greet\")]`"
)]
pub trait WireMessage: Sized + Send + 'static {
    /// The dotted name chosen by the author (`dms.bid`).
    const KIND: &'static str;
    /// The version of its meaning.
    const VERSION: u16;

    /// The bytes that travel.
    fn encode_body(&self) -> Result<Vec<u8>, CborError>;
    /// Reads received bytes, checking all that can be checked without asking anybody.
    fn decode_body(bytes: &[u8], context: &DecodeContext) -> Result<Self, DecodeError>;
}

/// Implements [`WireMessage`] and [`Message`] for a serde type whose body is its deterministic CBOR.
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Ping { count: u64 }
/// dms_actors::wire_message!(Ping, "example.ping", 1, reply = u64);
/// ```
#[macro_export]
macro_rules! wire_message {
    ($type:ty, $kind:literal, $version:literal) => {
        $crate::wire_message!($type, $kind, $version, reply = ());
    };
    ($type:ty, $kind:literal, $version:literal, reply = $reply:ty) => {
        const _: () = ::core::assert!(
            $crate::Kind::is_name($kind),
            "a kind is 1 to 64 characters of a-z, 0-9, `.` and `-`"
        );
        #[diagnostic::do_not_recommend]
        impl $crate::Message for $type {
            type Reply = $reply;
        }
        #[diagnostic::do_not_recommend]
        impl $crate::WireMessage for $type {
            const KIND: &'static str = $kind;
            const VERSION: u16 = $version;
            fn encode_body(&self) -> ::core::result::Result<::std::vec::Vec<u8>, $crate::cbor::CborError> {
                $crate::cbor::to_canonical(self)
            }
            fn decode_body(
                bytes: &[u8],
                _: &$crate::wire::DecodeContext,
            ) -> ::core::result::Result<Self, $crate::wire::DecodeError> {
                $crate::wire::decode_plain(bytes)
            }
        }
    };
}

/// Decodes plain canonical CBOR; what [`wire_message!`](crate::wire_message) uses.
pub fn decode_plain<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    cbor::from_canonical(bytes).map_err(DecodeError::Cbor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_as_it_is_printed() {
        let longest = format!("{}/65535", "a".repeat(Kind::MAX_NAME_LENGTH));
        for text in ["example.greet/1", "a/0", "0-9/10", &longest] {
            assert_eq!(Kind::parse(text).map(|kind| kind.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_no_kind_is_refused() {
        let too_long = format!("{}/1", "a".repeat(Kind::MAX_NAME_LENGTH + 1));
        for text in [
            "", "a", "/1", "A/1", "a b/1", "a_b/1", "é/1", "a/", "a/01", "a/+1", "a/-1", "a/65536", &too_long,
        ] {
            assert_eq!(Kind::parse(text), None, "{text}");
        }
    }
}
