//! Content identifiers: the SHA-256 CIDv1 of raw bytes or of a canonical CBOR document.

use std::fmt;
use std::str::FromStr;

use cid::{Cid, multibase};
use multihash::Multihash;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Multicodec of raw bytes.
const RAW: u64 = 0x55;
/// Multicodec of deterministic CBOR (`dag-cbor` allows less and is not claimed).
const CBOR: u64 = 0x51;
/// Multihash code of SHA-256.
const SHA2_256: u64 = 0x12;
/// How many bytes the binary form of every supported CID has: four codes and the digest.
const BINARY_LENGTH: usize = 36;

/// The identifier of a piece of content. Two contents with one identifier are the same bytes.
///
/// Kept as what it says (33 bytes), not as a general CID (96).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId {
    codec: Codec,
    digest: [u8; 32],
}

/// What the bytes are, in the order of the codes, so that identifiers are ordered as their binary forms are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Codec {
    Cbor,
    Raw,
}

impl Codec {
    fn code(self) -> u64 {
        match self {
            Self::Raw => RAW,
            Self::Cbor => CBOR,
        }
    }
}

/// Why a text or bytes are not a content identifier that we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentIdError {
    /// Not a CID at all.
    #[error("not a content identifier")]
    Malformed,
    /// A CID, but not version 1 over SHA-256 of raw bytes or CBOR.
    #[error("only CIDv1 with SHA-256 of raw bytes or CBOR is used here")]
    Unsupported,
}

impl ContentId {
    /// The identifier of raw bytes (a module, an input file, a log).
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self { codec: Codec::Raw, digest: Sha256::digest(bytes).into() }
    }

    /// The identifier of a canonical CBOR document.
    pub fn of_document(bytes: &[u8]) -> Self {
        Self { codec: Codec::Cbor, digest: Sha256::digest(bytes).into() }
    }

    /// True if `bytes` are the content that this identifies.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        self.digest == *Sha256::digest(bytes)
    }

    fn cid(&self) -> Cid {
        let hash = Multihash::wrap(SHA2_256, &self.digest).expect("32 bytes fit into a multihash");
        Cid::new_v1(self.codec.code(), hash)
    }

    /// The binary form.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.cid().to_bytes()
    }

    /// Reads the binary form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ContentIdError> {
        let id = Self::checked(Cid::try_from(bytes).map_err(|_| ContentIdError::Malformed)?)?;
        // The library does not look at what follows after the digest.
        if bytes.len() == BINARY_LENGTH { Ok(id) } else { Err(ContentIdError::Malformed) }
    }

    fn checked(cid: Cid) -> Result<Self, ContentIdError> {
        let codec = match cid.codec() {
            RAW => Codec::Raw,
            CBOR => Codec::Cbor,
            _ => return Err(ContentIdError::Unsupported),
        };
        let digest = cid.hash().digest().try_into().map_err(|_| ContentIdError::Unsupported)?;
        let is_supported = cid.version() == cid::Version::V1 && cid.hash().code() == SHA2_256;
        is_supported.then_some(Self { codec, digest }).ok_or(ContentIdError::Unsupported)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.cid(), f)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl FromStr for ContentId {
    type Err = ContentIdError;

    fn from_str(text: &str) -> Result<Self, ContentIdError> {
        // The longest text of a supported CID has 59 characters (base32); base64 and others are shorter.
        if text.len() > 128 {
            return Err(ContentIdError::Malformed);
        }
        if text.starts_with("Qm") {
            Self::checked(Cid::from_str(text).map_err(|_| ContentIdError::Malformed)?)?;
        }
        // Not by `Cid::from_str`, which also takes whatever stands before `/ipfs/`.
        let (_, bytes) = multibase::decode(text).map_err(|_| ContentIdError::Malformed)?;
        Self::from_bytes(&bytes)
    }
}

impl Serialize for ContentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ContentId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a content identifier")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ContentId, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identifier_of_an_empty_file_is_the_one_every_other_tool_prints() {
        let text = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
        assert_eq!(ContentId::of_bytes(b"").to_string(), text);
        assert_eq!(text.parse(), Ok(ContentId::of_bytes(b"")));
    }

    #[test]
    fn other_hashes_and_versions_are_refused() {
        let version_0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";
        assert_eq!(version_0.parse::<ContentId>(), Err(ContentIdError::Unsupported));
        for text in ["", "b", "not a cid", &"b".repeat(1000)] {
            assert_eq!(text.parse::<ContentId>(), Err(ContentIdError::Malformed), "{text}");
        }
    }

    #[test]
    fn nothing_stands_before_or_after_an_identifier() {
        let id = ContentId::of_bytes(b"abc");
        let longer = [&id.to_bytes()[..], &[0]].concat();
        assert_eq!(ContentId::from_bytes(&longer), Err(ContentIdError::Malformed));
        let texts = [
            multibase::encode(multibase::Base::Base32Lower, &longer),
            format!("https://example.org/ipfs/{id}"),
            format!("/ipfs/{id}"),
            format!("{id}/"),
            format!(" {id}"),
        ];
        for text in texts {
            assert_eq!(text.parse::<ContentId>(), Err(ContentIdError::Malformed), "{text}");
        }
        // The bases that other tools print are read.
        for base in [multibase::Base::Base58Btc, multibase::Base::Base16Lower] {
            assert_eq!(multibase::encode(base, id.to_bytes()).parse(), Ok(id));
        }
    }

    #[test]
    fn one_changed_bit_is_another_content() {
        let id = ContentId::of_bytes(b"abc");
        assert!(id.is_of(b"abc"));
        assert!(!id.is_of(b"abb"));
        assert_eq!(ContentId::from_bytes(&id.to_bytes()), Ok(id));
    }
}
