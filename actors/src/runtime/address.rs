//! Where an actor is, as data: the DID of its system and its path there. Parsed from text that
//! strangers send; whatever is not exactly in form is refused by name.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Did;
use crate::identity::DidError;

/// Most segments of a path: deep enough for any tree of actors, short enough to read.
const MAX_SEGMENTS: usize = 8;
/// Longest segment in bytes.
const MAX_SEGMENT_LENGTH: usize = 64;

/// Why a text is no path or address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The DID does not hold.
    #[error("the DID of the address does not hold")]
    Did(#[source] DidError),
    /// There is no path.
    #[error("a path has 1 to {MAX_SEGMENTS} segments, this one has {0}")]
    SegmentCount(usize),
    /// A segment is empty, too long, or has another character than `a-z`, `0-9` and `-`.
    #[error("a segment of a path is 1 to {MAX_SEGMENT_LENGTH} characters of a-z, 0-9 and -")]
    Segment,
}

/// The name of an actor inside its system: `/node/alloc/1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorPath(Arc<str>);

impl ActorPath {
    /// The text, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A path is ordered like its text, so that maps can be asked with what arrived.
impl Borrow<str> for ActorPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for ActorPath {
    type Err = AddressError;

    /// Reads `/node/alloc/1`; the leading slash may be left out.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let inner = text.strip_prefix('/').unwrap_or(text);
        if inner.is_empty() {
            return Err(AddressError::SegmentCount(0));
        }
        let count = inner.split('/').count();
        if count > MAX_SEGMENTS {
            return Err(AddressError::SegmentCount(count));
        }
        let is_segment = |segment: &str| {
            (1..=MAX_SEGMENT_LENGTH).contains(&segment.len())
                && segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if !inner.split('/').all(is_segment) {
            return Err(AddressError::Segment);
        }
        Ok(Self(if text.len() == inner.len() { format!("/{inner}").into() } else { text.into() }))
    }
}

impl fmt::Display for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorPath({})", self.0)
    }
}

/// An actor anywhere: `did:key:z6Mk…/node/alloc/1`. It travels inside messages; a system's
/// [`resolve`](super::ActorSystem::resolve) makes it something to send to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The system it lives in.
    pub did: Did,
    /// Its name there.
    pub path: ActorPath,
}

impl Address {
    /// The actor at `path` of the system `did`.
    pub fn new(did: Did, path: &str) -> Result<Self, AddressError> {
        Ok(Self { did, path: path.parse()? })
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (did, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        Ok(Self { did: did.parse().map_err(AddressError::Did)?, path: path.parse()? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.did, self.path)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Serde as text. A path on the wire has its leading slash: one path, one encoding.
macro_rules! serde_as_text {
    ($type:ty, $expecting:literal, $is_canonical:expr) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        let is_canonical: fn(&str) -> bool = $is_canonical;
                        if !is_canonical(text) {
                            return Err(E::custom(AddressError::Segment));
                        }
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

serde_as_text!(Address, "an actor's address (did:key:z…/path)", |_| true);
serde_as_text!(ActorPath, "an actor's path (/node/alloc)", |text| text.starts_with('/'));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::{from_canonical, to_canonical};

    const DID: &str = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";

    #[test]
    fn an_address_is_printed_as_it_is_read_and_travels_as_text() {
        let text = format!("{DID}/node/alloc/1");
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
        assert_eq!(address, Address::new(DID.parse().unwrap(), "node/alloc/1").unwrap());
        let bytes = to_canonical(&address).unwrap();
        assert_eq!(from_canonical::<Address>(&bytes), Ok(address));
    }

    #[test]
    fn paths_out_of_form_are_refused_by_name() {
        let long = "a".repeat(65);
        let table: &[(&str, Result<&str, AddressError>)] = &[
            ("/a", Ok("/a")),
            ("a/b-1", Ok("/a/b-1")),
            ("/1/2/3/4/5/6/7/8", Ok("/1/2/3/4/5/6/7/8")),
            ("/1/2/3/4/5/6/7/8/9", Err(AddressError::SegmentCount(9))),
            ("", Err(AddressError::SegmentCount(0))),
            ("/", Err(AddressError::SegmentCount(0))),
            ("//a", Err(AddressError::Segment)),
            ("/a/", Err(AddressError::Segment)),
            ("/A", Err(AddressError::Segment)),
            ("/a b", Err(AddressError::Segment)),
            ("/é", Err(AddressError::Segment)),
            (&long, Err(AddressError::Segment)),
        ];
        for (text, expected) in table {
            let read = text.parse::<ActorPath>();
            assert_eq!(read.as_ref().map(ActorPath::as_str), expected.as_ref().map(|text| *text), "{text}");
        }
    }

    #[test]
    fn one_path_has_one_encoding() {
        assert!(from_canonical::<ActorPath>(&to_canonical(&"/node").unwrap()).is_ok());
        assert!(from_canonical::<ActorPath>(&to_canonical(&"node").unwrap()).is_err());
    }

    #[test]
    fn an_address_without_a_did_or_path_is_refused() {
        assert!(matches!("/node".parse::<Address>(), Err(AddressError::Did(_))));
        assert_eq!(DID.parse::<Address>(), Err(AddressError::SegmentCount(0)));
    }
}
