//! `did:key` identifiers of Ed25519 keys: the checked codec for text that strangers send.
//!
//! Format (W3C did:key method): `did:key:z` + base58btc(`0xed 0x01` + 32 key bytes). Anything else
//! is refused by name: another method, another multibase, another key type, a wrong length, bytes
//! that are no curve point, or a weak (small-order) key.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::signed::is_trusting;

/// Multicodec prefix of an Ed25519 public key, as an unsigned varint (0xed).
const ED25519_MULTICODEC: [u8; 2] = [0xed, 0x01];
/// What every did:key in base58btc begins with.
const PREFIX: &str = "did:key:z";
/// How many characters every Ed25519 DID has.
const TEXT_LENGTH: usize = 56;
/// Anything longer is refused before it is decoded.
const MAX_TEXT_LENGTH: usize = 64;
/// libp2p's identity multihash of the protobuf-encoded public key: `00 24` + `08 01 12 20`.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// Keys that a thread remembers as checked: the peers of a conversation and then some. A power of two;
/// 200 bytes each.
const REMEMBERED_KEYS: usize = 64;

thread_local! {
    /// Keys that were found usable on this thread, each in the place that its first byte names. Documents name
    /// the same few peers again and again, and to check a point costs half of what checking a signature does.
    /// A stranger's keys can only push others out of their places.
    static USABLE: RefCell<[Option<VerifyingKey>; REMEMBERED_KEYS]> =
        const { RefCell::new([None; REMEMBERED_KEYS]) };

    /// Texts that were read on this thread, each in the place that its end names: base58 is slow to read, and a log
    /// says the same few DIDs in every event.
    static READ: RefCell<[Option<ReadText>; REMEMBERED_KEYS]> =
        const { RefCell::new([None; REMEMBERED_KEYS]) };
}

/// Such a text.
pub(super) type DidText = [u8; TEXT_LENGTH];

/// A text and the key that it says.
#[derive(Clone, Copy)]
struct ReadText {
    text: DidText,
    did: Did,
    /// False if it was read in trust: then its key may not be a point of the curve.
    is_checked: bool,
}

impl ReadText {
    fn place(text: &DidText) -> usize {
        // The last characters of a base58 text depend on all of its bytes.
        (usize::from(text[TEXT_LENGTH - 1]) * 31 + usize::from(text[TEXT_LENGTH - 2])) % REMEMBERED_KEYS
    }

    fn recall(text: &DidText, is_trusting: bool) -> Option<Did> {
        let known = READ.with_borrow(|texts| texts[Self::place(text)]);
        known.filter(|known| known.text == *text && (known.is_checked || is_trusting)).map(|known| known.did)
    }

    fn remember(self) {
        READ.with_borrow_mut(|texts| texts[Self::place(&self.text)] = Some(self));
    }
}

/// The key of these bytes, if it is a point of the curve and not of small order.
fn usable_key(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    let place = usize::from(bytes[0]) % REMEMBERED_KEYS;
    let known = USABLE.with_borrow(|keys| keys[place]).filter(|key| key.as_bytes() == bytes);
    known.or_else(|| {
        let key = VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak())?;
        USABLE.with_borrow_mut(|keys| keys[place] = Some(key));
        Some(key)
    })
}

/// A peer's decentralised identifier: an Ed25519 public key that is known to be a valid point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Did([u8; 32]);

/// Why a text or a key is not a DID that we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DidError {
    /// The text does not begin with `did:key:z`.
    #[error("not a did:key in base58btc (it must begin with did:key:z)")]
    Method,
    /// The text is longer than any Ed25519 DID.
    #[error("a did:key of {0} characters is too long")]
    TooLong(usize),
    /// The text after `z` is not base58btc.
    #[error("not base58btc")]
    Base58,
    /// The key is of another type than Ed25519.
    #[error("not an Ed25519 key")]
    KeyType,
    /// The key does not have 32 bytes.
    #[error("an Ed25519 key has 32 bytes, this one has {0}")]
    Length(usize),
    /// The bytes are not a point of the curve, or one of small order.
    #[error("not a usable point of the curve")]
    Point,
    /// The bytes are not the peer id of an Ed25519 key.
    #[error("not the peer id of an Ed25519 key")]
    PeerId,
}

impl Did {
    /// Accepts 32 public key bytes if they are a usable curve point.
    pub fn from_public_key(bytes: &[u8]) -> Result<Self, DidError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| DidError::Length(bytes.len()))?;
        #[cfg(feature = "testing")]
        if super::memo::text(&bytes).is_some() {
            return Ok(Self(bytes));
        }
        let did = usable_key(&bytes).map(|_| Self(bytes)).ok_or(DidError::Point)?;
        #[cfg(feature = "testing")]
        super::memo::keep_key(bytes, || did.text());
        Ok(did)
    }

    /// Its text, in base58, which has as many characters for every key.
    fn text(&self) -> DidText {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&ED25519_MULTICODEC);
        bytes[2..].copy_from_slice(&self.0);
        let mut text = [0; TEXT_LENGTH];
        text[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        let written = bs58::encode(bytes).onto(&mut text[PREFIX.len()..]);
        debug_assert_eq!(written, Ok(TEXT_LENGTH - PREFIX.len()), "the multicodec fixes the length");
        text
    }

    /// Its text as a simulation remembers it.
    fn known_text(&self) -> Option<DidText> {
        #[cfg(feature = "testing")]
        return super::memo::text(&self.0);
        #[cfg(not(feature = "testing"))]
        None
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.0
    }

    /// The libp2p peer id of the same key, as bytes (an identity multihash).
    pub fn peer_id_bytes(&self) -> [u8; 38] {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        bytes
    }

    /// The libp2p peer id of the same key, as the text that libp2p prints (`12D3Koo…`).
    pub fn peer_id(&self) -> String {
        bs58::encode(self.peer_id_bytes()).into_string()
    }

    /// The DID of the key inside a libp2p peer id.
    pub fn from_peer_id_bytes(bytes: &[u8]) -> Result<Self, DidError> {
        let key = bytes.strip_prefix(&PEER_ID_PREFIX[..]).ok_or(DidError::PeerId)?;
        Self::from_public_key(key)
    }

    /// True if `signature` is this key's signature over `message` (strict verification: no
    /// malleable or small-order forms).
    pub fn is_signature_valid(&self, message: &[u8], signature: &[u8]) -> bool {
        let Some(key) = usable_key(&self.0) else { return false };
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        key.verify_strict(message, &signature).is_ok()
    }

    /// A short form for tables and logs: the first and last characters of the key.
    pub fn short(&self) -> String {
        let text = self.to_string();
        let key = &text["did:key:".len()..];
        format!("{}…{}", &key[..8], &key[key.len() - 4..])
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.known_text().unwrap_or_else(|| self.text());
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Did({self})")
    }
}

impl FromStr for Did {
    type Err = DidError;

    fn from_str(text: &str) -> Result<Self, DidError> {
        if text.len() > MAX_TEXT_LENGTH {
            return Err(DidError::TooLong(text.len()));
        }
        let is_trusting = is_trusting();
        let whole = <&[u8; TEXT_LENGTH]>::try_from(text.as_bytes()).ok();
        if let Some(known) = whole.and_then(|text| ReadText::recall(text, is_trusting)) {
            return Ok(known);
        }
        #[cfg(feature = "testing")]
        if let Some(key) = whole.and_then(super::memo::key) {
            return Ok(Self(key));
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(DidError::Method)?;
        let bytes = bs58::decode(encoded).into_vec().map_err(|_| DidError::Base58)?;
        let key = bytes.strip_prefix(&ED25519_MULTICODEC[..]).ok_or(DidError::KeyType)?;
        let did = if is_trusting {
            Self(key.try_into().map_err(|_| DidError::Length(key.len()))?)
        } else {
            Self::from_public_key(key)?
        };
        if let Some(text) = whole {
            ReadText { text: *text, did, is_checked: !is_trusting }.remember();
        }
        Ok(did)
    }
}

impl Serialize for Did {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Did {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Did;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a did:key of an Ed25519 key")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Did, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Keypair;
    use proptest::prelude::*;

    /// The example of the did:key specification.
    const EXAMPLE: &str = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";

    #[test]
    fn the_specifications_example_is_read_and_printed_unchanged() {
        assert_eq!(EXAMPLE.parse::<Did>().unwrap().to_string(), EXAMPLE);
    }

    #[test]
    fn hostile_text_is_refused_by_name() {
        let wrong_type =
            format!("did:key:z{}", bs58::encode([&[0xe7, 0x01][..], &[2; 33]].concat()).into_string());
        let short =
            format!("did:key:z{}", bs58::encode([&[0xed, 0x01][..], &[2; 31]].concat()).into_string());
        let small_order =
            format!("did:key:z{}", bs58::encode([&[0xed, 0x01][..], &[0; 32]].concat()).into_string());
        let table: &[(&str, DidError)] = &[
            ("", DidError::Method),
            ("did:key:", DidError::Method),
            ("did:key:u6Mkha", DidError::Method),
            ("did:web:example.org", DidError::Method),
            ("did:key:z", DidError::KeyType),
            ("did:key:z1", DidError::KeyType),
            ("did:key:zI0l", DidError::Base58),
            ("did:key:z6Mk\u{fc}", DidError::Base58),
            (&wrong_type, DidError::KeyType),
            (&short, DidError::Length(31)),
            (&small_order, DidError::Point),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Did>().unwrap_err(), *error, "{text}");
        }
        let long = format!("{EXAMPLE}{}", "1".repeat(1000));
        assert_eq!(long.parse::<Did>().unwrap_err(), DidError::TooLong(long.len()));
    }

    #[test]
    fn peer_id_and_did_are_two_names_of_one_key() {
        let did = Keypair::from_secret(&[7; 32]).did();
        assert!(did.peer_id().starts_with("12D3Koo"));
        assert_eq!(Did::from_peer_id_bytes(&did.peer_id_bytes()), Ok(did));
        assert_eq!(Did::from_peer_id_bytes(&[0; 38]), Err(DidError::PeerId));
    }

    #[test]
    fn a_remembered_key_vouches_for_no_other_in_its_place() {
        let known = Keypair::from_secret(&[7; 32]).did();
        let mut other = *known.public_key();
        // The same place, other bytes: no key we know, and by its own check no point, or another one.
        let is_point = |bytes: &[u8; 32]| VerifyingKey::from_bytes(bytes).is_ok_and(|key| !key.is_weak());
        for last in 0..=255 {
            other[31] = last;
            assert_eq!(Did::from_public_key(&other).is_ok(), is_point(&other), "{last}");
            assert!(Did::from_public_key(known.public_key()).is_ok());
        }
        // The places are empty at first, and an empty one is no key of zeros.
        assert_eq!(Did::from_public_key(&[0; 32]), Err(DidError::Point));
    }

    #[test]
    fn what_was_read_in_trust_is_checked_where_nobody_trusts() {
        let weak = bs58::encode([&[0xed, 0x01][..], &[0; 32]].concat()).into_string();
        let weak = format!("did:key:z{weak}");
        assert_eq!(weak.len(), TEXT_LENGTH, "or it would not be remembered");
        let did = crate::signed::without_verifying(|| weak.parse::<Did>()).unwrap();
        assert!(!did.is_signature_valid(b"", &[0; 64]));
        assert_eq!(weak.parse::<Did>(), Err(DidError::Point));
        // Two texts in one place, in turn, many times.
        let dids: Vec<Did> = (0..=255).map(|n| Keypair::from_secret(&[n; 32]).did()).collect();
        for _ in 0..2 {
            for did in &dids {
                assert_eq!(did.to_string().parse(), Ok(*did));
                assert_eq!(crate::signed::without_verifying(|| did.to_string().parse()), Ok(*did));
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in "did:key:z[1-9A-Za-z]{0,60}|.{0,80}") {
            if let Ok(did) = text.parse::<Did>() {
                prop_assert_eq!(did.to_string(), text);
            }
        }

        #[test]
        fn any_key_round_trips(secret in any::<[u8; 32]>()) {
            let did = Keypair::from_secret(&secret).did();
            prop_assert_eq!(did.to_string().parse::<Did>(), Ok(did));
        }
    }
}
