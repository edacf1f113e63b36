//! Documents that can be checked offline: a COSE_Sign1 around the deterministic CBOR of a value.
//!
//! A frame is proven by its channel; a document is proven by itself, so it can be stored, relayed and
//! shown to a third party. The form (RFC 9052, tag 18, EdDSA):
//!
//! ```text
//! 18([ protected, {}, payload, signature ])
//! protected = { 1: -8,                 alg EdDSA
//!               3: "dms.bid/1",        content type: the kind
//!               15: { 1: text,         iss, the signer's did:key
//!                     3: text,         aud, a did:key (may be absent)
//!                     4: int, 6: int,  exp and iat
//!                     7: bytes .size 16,   cti, the id
//!                     "dms-net": text } }  the name of the mesh
//! payload   = deterministic CBOR of the value
//! ```
//!
//! *Any COSE library can check a document.* The external data is empty, on purpose: kind and mesh are
//! protected header fields, so a signature over one kind or mesh is no signature over another, and
//! whoever checks needs nothing but the bytes and the key inside of the issuer's did:key. `dms-net` is a
//! private CWT claim (RFC 8392 leaves text names to private use).
//!
//! *Times.* RFC 8392 counts whole seconds. Signing rounds issued-at down and the expiry up, so a document
//! holds at least as long as it was meant to, and less than two seconds longer. The header that the
//! signer keeps has the rounded times, the same that every reader sees.
//!
//! *What is refused.* Bytes that [`crate::cbor::check`] refuses, any header field that is not drawn
//! above, a non-empty unprotected header (it is not signed), detached payloads, other algorithms, weak
//! keys and malleable signatures. The signature is checked over the bytes received, nothing is
//! re-encoded, and one document has one encoding.
//!
//! The callers: every signed word of an application ([`Signed::verify`] by way of
//! [`crate::WireMessage::decode_body`]), stores ([`Signed::verify_offline`] by way of serde), and gossip,
//! which judges documents whose word it does not know ([`verify_header`], [`SignedHeader::check`]).

mod trusting;

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ciborium::Value;
use coset::cwt::{ClaimName, ClaimsSet, ClaimsSetBuilder};
use coset::{
    AsCborValue, CoseSign1, CoseSign1Builder, Header, HeaderBuilder, ProtectedHeader, TaggedCborSerializable,
    iana,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cbor::{self, CborError, MAX_LENGTH};
use crate::clock::Timestamp;
use crate::identity::DidError;
use crate::wire::{DecodeContext, DecodeError};
use crate::{ContentId, Did, Keypair, Kind, WireMessage};

/// How far two clocks may differ before a document counts as expired or as not yet valid.
pub const SKEW: Duration = Duration::from_secs(30);

/// Longest accepted time between issued-at and expiry: a year and some weeks, because contracts and
/// node cards live long; whoever wants longer signs again.
pub const MAX_LIFETIME: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Longest accepted name of a mesh in bytes: a name that people type.
pub const MAX_NETWORK_LENGTH: usize = 64;

/// Most documents within one another (an invocation holds a contract). The limit guards the stack:
/// each level is decoded inside of the level around it.
pub const MAX_NESTING: usize = 8;

/// What rounding to whole seconds may add to a lifetime of [`MAX_LIFETIME`].
const ROUNDING: Duration = Duration::from_secs(1);

/// The private claim that names the mesh.
const NETWORK_CLAIM: &str = "dms-net";

/// Why a document does not hold, or cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedError {
    /// More bytes than a document may have ([`MAX_LENGTH`]).
    #[error("a document of {0} bytes is too long (at most {MAX_LENGTH})")]
    TooLong(usize),
    /// The envelope is not deterministic CBOR.
    #[error("malformed document")]
    Malformed(#[source] CborError),
    /// Deterministic CBOR, but not a document of the form above.
    #[error("not a signed document: {0}")]
    Structure(&'static str),
    /// Another algorithm than EdDSA.
    #[error("only EdDSA signatures are accepted")]
    Algorithm,
    /// The issuer is not a did:key that we accept.
    #[error("the issuer is not a usable DID")]
    Issuer(#[source] DidError),
    /// The audience is not a did:key that we accept.
    #[error("the audience is not a usable DID")]
    AudienceDid(#[source] DidError),
    /// Not the issuer's signature of these bytes.
    #[error("the signature does not hold")]
    Signature,
    /// A document of another kind than expected.
    #[error("a document of kind {found} where {expected} is expected")]
    Kind {
        /// The kind that was expected.
        expected: Kind,
        /// The kind that the document has.
        found: Kind,
    },
    /// The document is addressed to somebody else.
    #[error("addressed to somebody else")]
    Audience,
    /// The document names nobody, and its kind is for one reader ([`Document::IS_DIRECTED`]).
    #[error("addressed to nobody")]
    NoAudience,
    /// The document belongs to another mesh.
    #[error("of another mesh")]
    Network,
    /// The expiry is past, by more than [`SKEW`].
    #[error("expired")]
    Expired,
    /// Issued in the future, by more than [`SKEW`].
    #[error("issued in the future")]
    NotYetValid,
    /// Expires before it is issued, or lives longer than [`MAX_LIFETIME`].
    #[error("the lifetime is not accepted")]
    Lifetime,
    /// The payload is not the deterministic CBOR of a value of its kind.
    #[error("malformed payload")]
    Payload(#[source] CborError),
    /// The value breaks a rule of its type.
    #[error("invalid value: {0}")]
    Invalid(String),
}

/// A value that is signed: plain data with its own rules.
pub trait Document: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The dotted name chosen by the author (`dms.bid`).
    const KIND: &'static str;
    /// The version of its meaning.
    const VERSION: u16;
    /// True if it is said to one reader: whoever receives one that names nobody refuses it, so that what was said to
    /// one cannot be said to another.
    const IS_DIRECTED: bool = false;

    /// The rules that the type alone does not express (a deadline in order, a list within its bound).
    /// Asked before signing and after decoding.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The random id of a document: readers remember it until the expiry, so that a repeat is noticed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId(pub [u8; 16]);

/// The text is not 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a document id is 32 lower-case hexadecimal digits")]
pub struct DocumentIdError;

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DocumentId({self})")
    }
}

impl FromStr for DocumentId {
    type Err = DocumentIdError;

    fn from_str(text: &str) -> Result<Self, DocumentIdError> {
        // The length first: nothing long is decoded.
        let bytes = (text.len() == 32).then(|| from_hex(text)).flatten().ok_or(DocumentIdError)?;
        Ok(Self(bytes.try_into().map_err(|_| DocumentIdError)?))
    }
}

impl Serialize for DocumentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DocumentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = DocumentId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a document id")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DocumentId, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// What the protected header of a document says: all that can be judged without knowing the word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeader {
    /// The kind of the value.
    pub kind: Kind,
    /// Who signed.
    pub issuer: Did,
    /// Whom it is for; everybody if absent.
    pub audience: Option<Did>,
    /// When it was signed, by the issuer's clock; whole seconds.
    pub issued_at: Timestamp,
    /// When it ends, by the issuer's clock; whole seconds.
    pub expires_at: Timestamp,
    /// The random id.
    pub id: DocumentId,
    /// The name of the mesh that it belongs to.
    pub network: String,
}

impl SignedHeader {
    /// Refuses a document that is not for this reader now: freshness, audience, mesh.
    pub fn check(&self, context: &DecodeContext) -> Result<(), SignedError> {
        if self.issued_at > context.now.saturating_add(SKEW) {
            return Err(SignedError::NotYetValid);
        }
        if self.expires_at.saturating_add(SKEW) <= context.now {
            return Err(SignedError::Expired);
        }
        if self.audience.is_some_and(|audience| audience != context.me) {
            return Err(SignedError::Audience);
        }
        if self.network != context.network {
            return Err(SignedError::Network);
        }
        Ok(())
    }

    fn check_lifetime(&self) -> Result<(), SignedError> {
        let lifetime = self.expires_at.saturating_since(self.issued_at);
        if lifetime.is_zero() || lifetime > MAX_LIFETIME + ROUNDING {
            return Err(SignedError::Lifetime);
        }
        Ok(())
    }
}

/// How to sign a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOptions {
    /// The name of the mesh, 1 to [`MAX_NETWORK_LENGTH`] bytes.
    pub network: String,
    /// Whom it is for; everybody if absent.
    pub audience: Option<Did>,
    /// The signer's clock now.
    pub issued_at: Timestamp,
    /// How long it holds, more than zero and at most [`MAX_LIFETIME`].
    pub ttl: Duration,
    /// A fresh random id.
    pub id: DocumentId,
}

/// A value with its issuer's signature. A value of this type has always been verified: there is no
/// other way to make one than to sign or to verify, or to read back what was verified before it was kept
/// ([`without_verifying`]). A clone shares the document.
pub struct Signed<T>(Arc<Parts<T>>);

struct Parts<T> {
    header: SignedHeader,
    value: T,
    bytes: Box<[u8]>,
    /// Hashed when it is first asked for.
    content_id: OnceLock<ContentId>,
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Document> Signed<T> {
    /// Signs `value`.
    pub fn sign(value: T, keypair: &Keypair, options: SignOptions) -> Result<Self, SignedError> {
        value.check().map_err(SignedError::Invalid)?;
        if options.ttl.is_zero() || options.ttl > MAX_LIFETIME {
            return Err(SignedError::Lifetime);
        }
        let payload = cbor::to_canonical(&value).map_err(SignedError::Payload)?;
        let sign1 = CoseSign1Builder::new()
            .protected(protected_header(&Self::kind(), keypair.did(), options)?)
            .payload(payload)
            .create_signature(b"", |message| keypair.sign(message).to_vec())
            .build();
        let bytes =
            sign1.to_tagged_vec().map_err(|_| SignedError::Structure("the envelope cannot be encoded"))?;
        // The header is read back from the bytes, so the signer sees what every reader will see and
        // signs nothing that readers refuse.
        let (header, _) = open(&bytes)?;
        header.check_lifetime()?;
        Ok(Self::from_parts(header, value, bytes))
    }

    /// Checks a received document against all that can be checked without asking anybody: signature,
    /// freshness, audience, mesh, kind, and the rules of the value.
    pub fn verify(bytes: &[u8], context: &DecodeContext) -> Result<Self, SignedError> {
        Self::verify_with(bytes, |header| {
            if T::IS_DIRECTED && header.audience.is_none() {
                return Err(SignedError::NoAudience);
            }
            header.check(context)
        })
    }

    /// Checks a kept document: signature, kind, and the rules of the value, but not freshness, audience
    /// and mesh. A contract stays provable after its end, and to others than its audience.
    pub fn verify_offline(bytes: &[u8]) -> Result<Self, SignedError> {
        Self::verify_with(bytes, |_| Ok(()))
    }

    fn verify_with(
        bytes: &[u8],
        check: impl FnOnce(&SignedHeader) -> Result<(), SignedError>,
    ) -> Result<Self, SignedError> {
        #[cfg(feature = "testing")]
        if let Some(known) = crate::identity::memo::document::<Self>(bytes) {
            check(known.header())?;
            return Ok(known);
        }
        // Whoever calls this by name wants it, also inside of `without_verifying`.
        let _trust = Trust::set(false);
        let (header, sign1) = open_verified(bytes)?;
        check(&header)?;
        let expected = Self::kind();
        if header.kind != expected {
            return Err(SignedError::Kind { expected, found: header.kind });
        }
        let payload = sign1.payload.as_deref().unwrap_or_default();
        let value: T = cbor::from_canonical(payload).map_err(SignedError::Payload)?;
        value.check().map_err(SignedError::Invalid)?;
        let signed = Self::from_parts(header, value, bytes);
        #[cfg(feature = "testing")]
        crate::identity::memo::keep_document(bytes, &signed);
        Ok(signed)
    }

    /// Reads what was verified before it was kept: structure, kind and value, but no signature.
    fn trust(bytes: &[u8]) -> Result<Self, SignedError> {
        let (header, payload) = trusting::open(bytes)?;
        let expected = Self::kind();
        if header.kind != expected {
            return Err(SignedError::Kind { expected, found: header.kind });
        }
        let value: T = cbor::from_canonical(payload).map_err(SignedError::Payload)?;
        Ok(Self::from_parts(header, value, bytes))
    }

    fn kind() -> Kind {
        Kind { name: T::KIND.to_owned(), version: T::VERSION }
    }
}

impl<T> Signed<T> {
    fn from_parts(header: SignedHeader, value: T, bytes: impl Into<Box<[u8]>>) -> Self {
        Self(Arc::new(Parts { header, value, bytes: bytes.into(), content_id: OnceLock::new() }))
    }

    /// What the protected header says.
    pub fn header(&self) -> &SignedHeader {
        &self.0.header
    }

    /// The signed value.
    pub fn value(&self) -> &T {
        &self.0.value
    }

    /// The signed value without its proof.
    pub fn into_value(self) -> T
    where
        T: Clone,
    {
        Arc::try_unwrap(self.0).map_or_else(|shared| shared.value.clone(), |parts| parts.value)
    }

    /// The exact bytes that are signed, to be stored or relayed.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The identifier of the document, signature included.
    pub fn content_id(&self) -> ContentId {
        *self.0.content_id.get_or_init(|| ContentId::of_document(&self.0.bytes))
    }

    /// Who signed.
    pub fn issuer(&self) -> Did {
        self.0.header.issuer
    }

    /// The random id.
    pub fn id(&self) -> DocumentId {
        self.0.header.id
    }
}

impl<T: fmt::Debug> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed")
            .field("header", &self.0.header)
            .field("value", &self.0.value)
            .field("length", &self.0.bytes.len())
            .finish()
    }
}

/// Two documents are equal if their bytes are; the same value signed twice is two documents.
impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl<T> Eq for Signed<T> {}

/// A document is told, never asked: what answers it is another document.
// A type that is no message should be made one, not be signed.
#[diagnostic::do_not_recommend]
impl<T: Document> crate::Message for Signed<T> {
    type Reply = ();
}

#[diagnostic::do_not_recommend]
impl<T: Document> WireMessage for Signed<T> {
    const KIND: &'static str = T::KIND;
    const VERSION: u16 = T::VERSION;

    fn encode_body(&self) -> Result<Vec<u8>, CborError> {
        Ok(self.0.bytes.to_vec())
    }

    fn decode_body(bytes: &[u8], context: &DecodeContext) -> Result<Self, DecodeError> {
        Self::verify(bytes, context).map_err(DecodeError::Signed)
    }
}

/// A byte string of the signed bytes, or their hexadecimal digits in formats that people read.
impl<T> Serialize for Signed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.serialize_str(&to_hex(&self.0.bytes));
        }
        serializer.serialize_bytes(&self.0.bytes)
    }
}

/// Verifies again, as [`Signed::verify_offline`] does (but for [`without_verifying`]): whoever holds a
/// document within another must check its audience, freshness and mesh where they matter.
impl<'de, T: Document> Deserialize<'de> for Signed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<T: Document> serde::de::Visitor<'_> for Visitor<T> {
            type Value = Signed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a signed document of kind {}/{}", T::KIND, T::VERSION)
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Signed<T>, E> {
                let _level = NestingLevel::enter().ok_or_else(|| E::custom("too many nested documents"))?;
                let opened = if is_trusting() { Signed::trust(bytes) } else { Signed::verify_offline(bytes) };
                opened.map_err(|error| E::custom(chain(&error)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Signed<T>, E> {
                if text.len() > 2 * MAX_LENGTH {
                    return Err(E::custom(SignedError::TooLong(text.len() / 2)));
                }
                let bytes = from_hex(text).ok_or_else(|| E::custom("not hexadecimal"))?;
                self.visit_bytes(&bytes)
            }
        }

        if deserializer.is_human_readable() {
            return deserializer.deserialize_str(Visitor(std::marker::PhantomData));
        }
        deserializer.deserialize_byte_buf(Visitor(std::marker::PhantomData))
    }
}

/// Checks signature and structure of a document whose word is not known here, and says what its header
/// says. Freshness, audience and mesh are left to [`SignedHeader::check`].
pub fn verify_header(bytes: &[u8]) -> Result<SignedHeader, SignedError> {
    let _trust = Trust::set(false);
    open_verified(bytes).map(|(header, _)| header)
}

thread_local! {
    /// How many documents are being decoded inside of one another on this thread: serde has no other way
    /// to tell a value how deep it lies.
    static NESTING: Cell<usize> = const { Cell::new(0) };
}

thread_local! {
    /// Whether this thread reads what it wrote itself.
    static TRUSTING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `read`, in which documents that are decoded on this thread are not verified again, and CBOR is not checked
/// for its canonical form: for a store that reads back what it verified before it wrote it, from a disk whose
/// checksums have just been checked. Signatures are most of what reading a log would cost otherwise.
///
/// What is read is checked for structure, kind and type all the same, so damage is an error and never a panic. It is
/// never for bytes that came from somebody else since; a check of a whole store verifies all of them.
/// [`Signed::verify`], [`Signed::verify_offline`] and [`verify_header`] verify as always.
///
/// ```
/// use dms_actors::{Keypair, cbor, signed};
/// let did = Keypair::from_secret(&[7; 32]).did();
/// let kept = cbor::to_canonical(&did)?;
/// assert_eq!(signed::without_verifying(|| cbor::from_canonical(&kept)), Ok(did));
/// # Ok::<(), cbor::CborError>(())
/// ```
pub fn without_verifying<R>(read: impl FnOnce() -> R) -> R {
    let _trust = Trust::set(true);
    read()
}

/// Whether this thread is inside of [`without_verifying`].
pub(crate) fn is_trusting() -> bool {
    TRUSTING.get()
}

/// Gives back what was before when it is dropped, also by a panic.
struct Trust {
    before: bool,
}

impl Trust {
    fn set(is_trusting: bool) -> Self {
        Self { before: TRUSTING.replace(is_trusting) }
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        TRUSTING.set(self.before);
    }
}

struct NestingLevel;

impl NestingLevel {
    fn enter() -> Option<Self> {
        NESTING.with(|nesting| {
            let is_allowed = nesting.get() < MAX_NESTING;
            is_allowed.then(|| {
                nesting.set(nesting.get() + 1);
                Self
            })
        })
    }
}

impl Drop for NestingLevel {
    fn drop(&mut self) {
        NESTING.with(|nesting| nesting.set(nesting.get() - 1));
    }
}

/// The error with its causes: serde keeps only text.
fn chain(error: &SignedError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn protected_header(kind: &Kind, issuer: Did, options: SignOptions) -> Result<Header, SignedError> {
    let issued_at = options.issued_at.0 / 1000;
    let expires_at = options.issued_at.saturating_add(options.ttl).0.div_ceil(1000);
    let mut claims = ClaimsSetBuilder::new()
        .issuer(issuer.to_string())
        .expiration_time(numeric_date(expires_at)?)
        .issued_at(numeric_date(issued_at)?)
        .cwt_id(options.id.0.to_vec())
        .text_claim(NETWORK_CLAIM.to_owned(), Value::Text(options.network));
    if let Some(audience) = options.audience {
        claims = claims.audience(audience.to_string());
    }
    let claims =
        claims.build().to_cbor_value().map_err(|_| SignedError::Structure("the claims cannot be encoded"))?;
    Ok(HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .content_type(kind.to_string())
        .value(iana::HeaderParameter::CwtClaims as i64, claims)
        .build())
}

fn numeric_date(seconds: u64) -> Result<coset::cwt::Timestamp, SignedError> {
    let seconds = i64::try_from(seconds).map_err(|_| SignedError::Lifetime)?;
    Ok(coset::cwt::Timestamp::WholeSeconds(seconds))
}

fn open_verified(bytes: &[u8]) -> Result<(SignedHeader, CoseSign1), SignedError> {
    let (header, sign1) = open(bytes)?;
    let is_valid = header.issuer.is_signature_valid(&sign1.tbs_data(b""), &sign1.signature);
    if !is_valid {
        return Err(SignedError::Signature);
    }
    header.check_lifetime()?;
    Ok((header, sign1))
}

/// Reads the envelope without checking the signature.
///
/// The envelope is taken apart here and not by coset's parser, because that one follows counter
/// signatures (label 7) through byte strings without a limit, where no walker sees the depth. coset gets
/// the one header map whose labels are known to be harmless, with the bytes that were received.
fn open(bytes: &[u8]) -> Result<(SignedHeader, CoseSign1), SignedError> {
    if bytes.len() > MAX_LENGTH {
        return Err(SignedError::TooLong(bytes.len()));
    }
    cbor::check(bytes, MAX_LENGTH).map_err(SignedError::Malformed)?;
    let Value::Tag(cbor::SIGN1_TAG, envelope) = cbor::decode(bytes).map_err(SignedError::Malformed)? else {
        return Err(SignedError::Structure("not tagged as COSE_Sign1"));
    };
    let parts = envelope.into_array().map_err(|_| SignedError::Structure("not an array"))?;
    let Ok([protected, unprotected, payload, signature]) = <[Value; 4]>::try_from(parts) else {
        return Err(SignedError::Structure("not an array of four"));
    };
    let Value::Bytes(protected) = protected else {
        return Err(SignedError::Structure("the protected header is not a byte string"));
    };
    if unprotected != Value::Map(Vec::new()) {
        return Err(SignedError::Structure("the unprotected header is not an empty map"));
    }
    let Value::Bytes(payload) = payload else {
        return Err(SignedError::Structure("the payload is not a byte string"));
    };
    let Value::Bytes(signature) = signature else {
        return Err(SignedError::Structure("the signature is not a byte string"));
    };
    let header = read_protected(&protected)?;
    let signed_header = read_header(&header)?;
    let sign1 = CoseSign1 {
        // `original_data` makes coset build the signed message from the received bytes.
        protected: ProtectedHeader { original_data: Some(protected), header },
        unprotected: Header::default(),
        payload: Some(payload),
        signature,
    };
    Ok((signed_header, sign1))
}

fn read_protected(bytes: &[u8]) -> Result<Header, SignedError> {
    let value: Value = cbor::from_canonical(bytes).map_err(SignedError::Malformed)?;
    let Value::Map(entries) = &value else {
        return Err(SignedError::Structure("the protected header is not a map"));
    };
    // Algorithm, content type, CWT claims; the walker has made sure that they are sorted.
    let is_known = entries.iter().map(|(label, _)| label).eq(&[1.into(), 3.into(), 15.into()]);
    if !is_known {
        return Err(SignedError::Structure("the protected header has other fields than 1, 3 and 15"));
    }
    if entries[0].1 != Value::from(iana::Algorithm::EdDSA as i64) {
        return Err(SignedError::Algorithm);
    }
    Header::from_cbor_value(value)
        .map_err(|_| SignedError::Structure("a protected header field is malformed"))
}

fn read_header(header: &Header) -> Result<SignedHeader, SignedError> {
    let Some(coset::ContentType::Text(kind)) = &header.content_type else {
        return Err(SignedError::Structure("the content type is not a text"));
    };
    let kind = Kind::parse(kind).ok_or(SignedError::Structure("the content type is not a kind"))?;
    let claims = header.rest.first().ok_or(SignedError::Structure("no claims"))?.1.clone();
    let claims = ClaimsSet::from_cbor_value(claims)
        .map_err(|_| SignedError::Structure("the claims are not a CWT claims set"))?;
    let ClaimsSet {
        issuer: Some(issuer),
        subject: None,
        audience,
        expiration_time: Some(expires_at),
        not_before: None,
        issued_at: Some(issued_at),
        cwt_id: Some(id),
        rest,
    } = claims
    else {
        return Err(SignedError::Structure("a claim is missing or not known"));
    };
    let network = match <[_; 1]>::try_from(rest) {
        Ok([(ClaimName::Text(name), Value::Text(network))]) if name == NETWORK_CLAIM => network,
        _ => return Err(SignedError::Structure("the private claims are not the one of the mesh")),
    };
    if network.is_empty() || network.len() > MAX_NETWORK_LENGTH {
        return Err(SignedError::Structure("the name of the mesh is empty or too long"));
    }
    let id = id.try_into().map_err(|_| SignedError::Structure("the id does not have 16 bytes"))?;
    Ok(SignedHeader {
        kind,
        issuer: issuer.parse().map_err(SignedError::Issuer)?,
        audience: audience.map(|did| did.parse()).transpose().map_err(SignedError::AudienceDid)?,
        issued_at: read_time(issued_at)?,
        expires_at: read_time(expires_at)?,
        id: DocumentId(id),
        network,
    })
}

fn read_time(time: coset::cwt::Timestamp) -> Result<Timestamp, SignedError> {
    let coset::cwt::Timestamp::WholeSeconds(seconds) = time else {
        return Err(SignedError::Structure("a time is not in whole seconds"));
    };
    let milliseconds = u64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1000));
    milliseconds.map(Timestamp).ok_or(SignedError::Structure("a time is out of range"))
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// Reads lower-case digits only, so that one document has one text.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_500);

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Offer {
        price: u64,
        note: String,
    }

    impl Document for Offer {
        const KIND: &'static str = "test.offer";
        const VERSION: u16 = 1;

        fn check(&self) -> Result<(), String> {
            if self.price == 0 { Err("a price is more than zero".to_owned()) } else { Ok(()) }
        }
    }

    /// The same form under another name.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Order {
        price: u64,
        note: String,
    }

    impl Document for Order {
        const KIND: &'static str = "test.order";
        const VERSION: u16 = 1;
    }

    /// A document that holds others of its own kind.
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Chain {
        parent: Option<Box<Signed<Chain>>>,
    }

    impl Document for Chain {
        const KIND: &'static str = "test.chain";
        const VERSION: u16 = 1;
    }

    fn issuer() -> Keypair {
        Keypair::from_secret(&[7; 32])
    }

    fn reader() -> Did {
        Keypair::from_secret(&[8; 32]).did()
    }

    fn offer() -> Offer {
        Offer { price: 42, note: "per hour".into() }
    }

    fn options() -> SignOptions {
        SignOptions {
            network: "testnet".into(),
            audience: Some(reader()),
            issued_at: NOW,
            ttl: Duration::from_secs(60),
            id: DocumentId([9; 16]),
        }
    }

    fn context() -> DecodeContext {
        DecodeContext { me: reader(), now: NOW, network: "testnet".into() }
    }

    fn signed() -> Signed<Offer> {
        Signed::sign(offer(), &issuer(), options()).unwrap()
    }

    /// Reads as a store reads what it wrote.
    fn trusted<T: DeserializeOwned>(kept: &[u8]) -> Result<T, CborError> {
        without_verifying(|| cbor::from_canonical(kept))
    }

    fn keep(document: &[u8]) -> Vec<u8> {
        cbor::to_canonical(serde_bytes::Bytes::new(document)).unwrap()
    }

    #[test]
    fn what_was_verified_before_it_was_kept_is_not_verified_again() {
        let open = SignOptions { audience: None, ..options() };
        for document in [signed(), Signed::sign(offer(), &issuer(), open).unwrap()] {
            let read: Signed<Offer> = trusted(&keep(document.bytes())).unwrap();
            assert_eq!(read, document);
            assert_eq!((read.header(), read.value()), (document.header(), document.value()));
            assert_eq!(read.content_id(), document.content_id());
            // Only there, and only by way of serde.
            let mut forged = document.bytes().to_vec();
            *forged.last_mut().unwrap() ^= 1;
            assert!(trusted::<Signed<Offer>>(&keep(&forged)).is_ok());
            assert!(cbor::from_canonical::<Signed<Offer>>(&keep(&forged)).is_err());
            without_verifying(|| {
                assert_eq!(Signed::<Offer>::verify_offline(&forged).unwrap_err(), SignedError::Signature);
                assert_eq!(Signed::<Offer>::verify(&forged, &context()).unwrap_err(), SignedError::Signature);
                assert_eq!(verify_header(&forged).unwrap_err(), SignedError::Signature);
                assert!(is_trusting(), "and it goes on after them");
            });
        }
        let caught = std::panic::catch_unwind(|| without_verifying(|| panic!("while reading")));
        assert!(caught.is_err() && !is_trusting(), "a panic leaves no trust behind");
    }

    #[test]
    fn a_document_read_in_trust_is_checked_for_its_kind_and_form() {
        assert!(trusted::<Signed<Order>>(&keep(signed().bytes())).is_err(), "another kind");
        let bytes = signed().bytes().to_vec();
        let mut readable = 0;
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[position] ^= 1 << bit;
                // Read or refused, never a panic; what is not covered by the form is the checksum's to find.
                readable += usize::from(trusted::<Signed<Offer>>(&keep(&flipped)).is_ok());
            }
        }
        assert!(readable > 0 && readable < bytes.len() * 8, "{readable}");
        for end in 0..bytes.len() {
            assert!(trusted::<Signed<Offer>>(&keep(&bytes[..end])).is_err(), "{end}");
        }
        let long = vec![0; MAX_LENGTH + 1];
        let long = cbor::to_canonical_within(serde_bytes::Bytes::new(&long), usize::MAX).unwrap();
        let read = without_verifying(|| cbor::from_canonical_within::<Signed<Offer>>(&long, usize::MAX));
        assert!(read.is_err());
    }

    #[test]
    fn documents_within_documents_are_read_in_trust_and_bounded_all_the_same() {
        let sign = |parent| Signed::sign(Chain { parent }, &issuer(), options()).unwrap();
        let mut chain = sign(None);
        for _ in 1..MAX_NESTING {
            chain = sign(Some(Box::new(chain)));
        }
        let read: Signed<Chain> = trusted(&keep(chain.bytes())).unwrap();
        assert_eq!(read.value().parent, chain.value().parent);
        let deeper = sign(Some(Box::new(chain)));
        assert!(trusted::<Signed<Chain>>(&keep(deeper.bytes())).is_err());
    }

    /// The document of fixed key, id, time and value. If this changes, every stored document is void.
    const GOLDEN: &str = concat!(
        "d28458b7a30127036c746573742e6f666665722f310fa60178386469643a6b65793a7a364d6b76447147543534635865",
        "735947764142704631556170564e776a43715263616669345078365468763554335a0378386469643a6b65793a7a364d",
        "6b666d6d353766736236564c377a56757350387a65413953596b434b6476556862793247375968387676513150041a6b",
        "49d23d061a6b49d20007500909090909090909090909090909090967646d732d6e657467746573746e6574a057a2646e",
        "6f74656870657220686f7572657072696365182a5840055d55c3b66122be0eeae48389f2f03c39b92325faddcdc636d3",
        "33748729c41398b5601ef3ab77f55194beeaa145f080476b27079caededd408b804ced3bb500",
    );

    #[test]
    fn the_bytes_of_a_document_never_change() {
        assert_eq!(to_hex(signed().bytes()), GOLDEN);
        let read = Signed::<Offer>::verify(&from_hex(GOLDEN).unwrap(), &context()).unwrap();
        assert_eq!(read.value(), &offer());
        assert_eq!(read.content_id(), ContentId::of_document(&from_hex(GOLDEN).unwrap()));
    }

    #[test]
    fn signer_and_reader_see_the_same() {
        let document = signed();
        let read = Signed::<Offer>::verify(document.bytes(), &context()).unwrap();
        assert_eq!(read, document);
        assert_eq!(read.header(), document.header());
        assert_eq!(verify_header(document.bytes()).unwrap(), *document.header());
        let header = read.header();
        assert_eq!(header.kind.to_string(), "test.offer/1");
        assert_eq!(read.issuer(), issuer().did());
        assert_eq!(header.audience, Some(reader()));
        assert_eq!(read.id(), DocumentId([9; 16]));
        assert_eq!(header.network, "testnet");
        // Rounded outwards to whole seconds.
        assert_eq!(header.issued_at, Timestamp(1_800_000_000_000));
        assert_eq!(header.expires_at, Timestamp(1_800_000_061_000));
    }

    #[test]
    fn a_message_is_its_document() {
        let document = signed();
        assert_eq!(Kind::of::<Signed<Offer>>().to_string(), "test.offer/1");
        let body = document.encode_body().unwrap();
        assert_eq!(Signed::<Offer>::decode_body(&body, &context()).unwrap(), document);
        assert_eq!(
            Signed::<Offer>::decode_body(b"\xf6", &context()).unwrap_err(),
            DecodeError::Signed(SignedError::Structure("not tagged as COSE_Sign1"))
        );
    }

    #[test]
    fn a_plain_cose_library_checks_it_with_the_bytes_and_the_key_only() {
        let document = signed();
        let sign1 = CoseSign1::from_tagged_slice(document.bytes()).unwrap();
        let key = issuer().did();
        sign1
            .verify_signature(
                b"",
                |signature, message| {
                    if key.is_signature_valid(message, signature) { Ok(()) } else { Err(()) }
                },
            )
            .unwrap();
        assert_eq!(sign1.payload, Some(cbor::to_canonical(&offer()).unwrap()));
    }

    #[test]
    fn no_changed_bit_goes_unnoticed() {
        let bytes = signed().bytes().to_vec();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut forged = bytes.clone();
                forged[position] ^= 1 << bit;
                assert!(Signed::<Offer>::verify_offline(&forged).is_err(), "bit {bit} of byte {position}");
                assert!(verify_header(&forged).is_err(), "bit {bit} of byte {position}");
            }
        }
        for end in 0..bytes.len() {
            assert!(verify_header(&bytes[..end]).is_err(), "cut at {end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(verify_header(&longer), Err(SignedError::Malformed(CborError::Trailing(1))));
    }

    #[test]
    fn the_reader_refuses_what_is_not_for_it_now() {
        type Change = fn(&mut SignOptions, &mut DecodeContext);
        let table: &[(&str, Change, Result<(), SignedError>)] = &[
            ("as it is", |_, _| {}, Ok(())),
            ("to everybody", |sign, _| sign.audience = None, Ok(())),
            (
                "to somebody else",
                |sign, _| sign.audience = Some(Keypair::from_secret(&[3; 32]).did()),
                Err(SignedError::Audience),
            ),
            (
                "to the issuer itself",
                |sign, _| sign.audience = Some(issuer().did()),
                Err(SignedError::Audience),
            ),
            ("of another mesh", |sign, _| sign.network = "othernet".into(), Err(SignedError::Network)),
            ("of a mesh with a longer name", |sign, _| sign.network.push('2'), Err(SignedError::Network)),
            ("fast clock within the skew", |_, context| context.now.0 -= 30_500, Ok(())),
            (
                "fast clock beyond the skew",
                |_, context| context.now.0 -= 30_501,
                Err(SignedError::NotYetValid),
            ),
            ("expired within the skew", |_, context| context.now.0 += 60_500 + 29_999, Ok(())),
            (
                "expired beyond the skew",
                |_, context| context.now.0 += 60_500 + 30_000,
                Err(SignedError::Expired),
            ),
            ("long ago", |_, context| context.now = Timestamp(u64::MAX), Err(SignedError::Expired)),
            (
                "at the beginning of time",
                |_, context| context.now = Timestamp(0),
                Err(SignedError::NotYetValid),
            ),
        ];
        for (name, change, expected) in table {
            let (mut sign, mut context) = (options(), context());
            change(&mut sign, &mut context);
            let document = Signed::sign(offer(), &issuer(), sign).unwrap();
            let result = Signed::<Offer>::verify(document.bytes(), &context).map(drop);
            assert_eq!(result, *expected, "{name}");
            assert_eq!(document.header().check(&context), *expected, "{name}");
            // What is kept is provable to anybody at any time.
            assert_eq!(Signed::<Offer>::verify_offline(document.bytes()).map(drop), Ok(()), "{name}");
        }
    }

    #[test]
    fn one_kind_is_not_another_of_the_same_form() {
        let found = Kind { name: "test.offer".into(), version: 1 };
        let expected = Kind { name: "test.order".into(), version: 1 };
        assert_eq!(
            Signed::<Order>::verify(signed().bytes(), &context()).unwrap_err(),
            SignedError::Kind { expected, found }
        );
    }

    #[test]
    fn what_readers_refuse_is_not_signed() {
        let sign = |change: fn(&mut SignOptions)| {
            let mut options = options();
            change(&mut options);
            Signed::sign(offer(), &issuer(), options).map(drop)
        };
        assert_eq!(sign(|options| options.ttl = Duration::ZERO), Err(SignedError::Lifetime));
        assert_eq!(sign(|options| options.ttl = Duration::from_millis(1)), Ok(()));
        assert_eq!(sign(|options| options.ttl = MAX_LIFETIME), Ok(()));
        assert_eq!(
            sign(|options| options.ttl = MAX_LIFETIME + Duration::from_millis(1)),
            Err(SignedError::Lifetime)
        );
        assert_eq!(sign(|options| options.ttl = Duration::MAX), Err(SignedError::Lifetime));
        assert!(matches!(sign(|options| options.network.clear()), Err(SignedError::Structure(_))));
        assert!(matches!(sign(|options| options.network = "n".repeat(65)), Err(SignedError::Structure(_))));
        assert_eq!(sign(|options| options.network = "n".repeat(64)), Ok(()));
        assert!(sign(|options| options.issued_at = Timestamp(u64::MAX)).is_err());

        let worthless = Offer { price: 0, ..offer() };
        assert!(matches!(Signed::sign(worthless, &issuer(), options()), Err(SignedError::Invalid(_))));
        let too_long = Offer { note: "n".repeat(MAX_LENGTH), ..offer() };
        assert!(matches!(
            Signed::sign(too_long, &issuer(), options()),
            Err(SignedError::Payload(CborError::TooLong { .. }))
        ));
        let too_long_with_its_header = Offer { note: "n".repeat(MAX_LENGTH - 100), ..offer() };
        assert!(matches!(
            Signed::sign(too_long_with_its_header, &issuer(), options()),
            Err(SignedError::TooLong(_))
        ));
    }

    /// A document taken apart, to be put together wrongly and signed rightly.
    struct Parts {
        protected: Vec<(Value, Value)>,
        claims: Vec<(Value, Value)>,
        unprotected: Value,
        payload: Value,
    }

    impl Parts {
        fn new() -> Self {
            let claims = vec![
                (1.into(), issuer().did().to_string().into()),
                (3.into(), reader().to_string().into()),
                (4.into(), 1_800_000_061.into()),
                (6.into(), 1_800_000_000.into()),
                (7.into(), Value::Bytes(vec![9; 16])),
                ("dms-net".into(), "testnet".into()),
            ];
            Self {
                protected: vec![(1.into(), (-8).into()), (3.into(), "test.offer/1".into())],
                claims,
                unprotected: Value::Map(vec![]),
                payload: Value::Bytes(cbor::to_canonical(&offer()).unwrap()),
            }
        }

        /// Puts it together without the code under test: RFC 9052 §4.4 by hand, plain ciborium.
        fn sign(mut self) -> Vec<u8> {
            if !self.claims.is_empty() {
                self.protected.insert(2.min(self.protected.len()), (15.into(), Value::Map(self.claims)));
            }
            let protected = Value::Bytes(plain(&Value::Map(self.protected)));
            let message = Value::Array(vec![
                "Signature1".into(),
                protected.clone(),
                Value::Bytes(vec![]),
                self.payload.clone(),
            ]);
            let signature = Value::Bytes(issuer().sign(&plain(&message)).to_vec());
            let envelope = Value::Array(vec![protected, self.unprotected, self.payload, signature]);
            plain(&Value::Tag(18, Box::new(envelope)))
        }
    }

    fn plain(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_form_is_the_one_of_the_rfc_put_together_by_hand() {
        assert_eq!(to_hex(&Parts::new().sign()), GOLDEN);
    }

    /// Counter signatures within counter signatures, each in the protected header of the next one.
    fn counter_signatures(levels: usize) -> Value {
        let leaf = vec![Value::Bytes(vec![]), Value::Map(vec![]), Value::Bytes(vec![1])];
        (0..levels).fold(Value::Array(leaf), |inner, _| {
            let protected = plain(&Value::Map(vec![(7.into(), inner)]));
            Value::Array(vec![Value::Bytes(protected), Value::Map(vec![]), Value::Bytes(vec![1])])
        })
    }

    #[test]
    fn rightly_signed_documents_of_a_wrong_form_are_refused() {
        fn set(claims: &mut [(Value, Value)], name: impl Into<Value>, value: impl Into<Value>) {
            let name = name.into();
            claims.iter_mut().find(|claim| claim.0 == name).unwrap().1 = value.into();
        }
        fn is_structure(error: &SignedError) -> bool {
            matches!(error, SignedError::Structure(_))
        }
        fn is_lifetime(error: &SignedError) -> bool {
            matches!(error, SignedError::Lifetime)
        }
        type Case = (&'static str, fn(&mut Parts), fn(&SignedError) -> bool);
        let table: &[Case] = &[
            (
                "unprotected field",
                |p| p.unprotected = Value::Map(vec![(4.into(), Value::Bytes(vec![1]))]),
                is_structure,
            ),
            ("unprotected null", |p| p.unprotected = Value::Null, is_structure),
            ("detached payload", |p| p.payload = Value::Null, is_structure),
            ("text payload", |p| p.payload = "x".into(), is_structure),
            ("ES256", |p| p.protected[0].1 = (-7).into(), |e| *e == SignedError::Algorithm),
            ("algorithm by name", |p| p.protected[0].1 = "EdDSA".into(), |e| *e == SignedError::Algorithm),
            ("no algorithm", |p| drop(p.protected.remove(0)), is_structure),
            ("no content type", |p| drop(p.protected.remove(1)), is_structure),
            ("content format number", |p| p.protected[1].1 = 60.into(), is_structure),
            ("content type without version", |p| p.protected[1].1 = "test.offer".into(), is_structure),
            ("content type in capitals", |p| p.protected[1].1 = "Test.Offer/1".into(), is_structure),
            ("version with a zero", |p| p.protected[1].1 = "test.offer/01".into(), is_structure),
            ("no claims", |p| p.claims.clear(), is_structure),
            ("key id", |p| p.protected.push((16.into(), Value::Bytes(vec![1]))), is_structure),
            ("text label", |p| p.protected.push(("x".into(), 1.into())), is_structure),
            ("no issuer", |p| drop(p.claims.remove(0)), is_structure),
            ("no expiry", |p| drop(p.claims.remove(2)), is_structure),
            ("no issued-at", |p| drop(p.claims.remove(3)), is_structure),
            ("no id", |p| drop(p.claims.remove(4)), is_structure),
            ("no mesh", |p| drop(p.claims.remove(5)), is_structure),
            ("not before", |p| p.claims.insert(3, (5.into(), 1.into())), is_structure),
            ("subject", |p| p.claims.insert(1, (2.into(), "x".into())), is_structure),
            ("unknown claim", |p| p.claims.push(("dms-new".into(), 1.into())), is_structure),
            ("mesh by number", |p| set(&mut p.claims, "dms-net", 1), is_structure),
            ("empty mesh", |p| set(&mut p.claims, "dms-net", ""), is_structure),
            ("long mesh", |p| set(&mut p.claims, "dms-net", "n".repeat(65)), is_structure),
            ("short id", |p| set(&mut p.claims, 7, Value::Bytes(vec![9; 15])), is_structure),
            ("long id", |p| set(&mut p.claims, 7, Value::Bytes(vec![9; 17])), is_structure),
            ("issuer is no text", |p| set(&mut p.claims, 1, 1), is_structure),
            (
                "issuer is no DID",
                |p| set(&mut p.claims, 1, "alice"),
                |e| *e == SignedError::Issuer(DidError::Method),
            ),
            (
                "issuer is another",
                |p| set(&mut p.claims, 1, reader().to_string()),
                |e| *e == SignedError::Signature,
            ),
            (
                "audience is no DID",
                |p| set(&mut p.claims, 3, "bob"),
                |e| *e == SignedError::AudienceDid(DidError::Method),
            ),
            ("time before 1970", |p| set(&mut p.claims, 6, -1), is_structure),
            ("time beyond all", |p| set(&mut p.claims, 4, i64::MAX), is_structure),
            ("time beyond 64 bits", |p| set(&mut p.claims, 4, u64::MAX), is_structure),
            (
                "fractional time",
                |p| set(&mut p.claims, 4, 1.5),
                |e| *e == SignedError::Malformed(CborError::Float),
            ),
            ("no lifetime", |p| set(&mut p.claims, 4, 1_800_000_000), is_lifetime),
            ("negative lifetime", |p| set(&mut p.claims, 4, 1_700_000_000), is_lifetime),
            ("endless lifetime", |p| set(&mut p.claims, 4, 1_800_000_002 + 400 * 86_400), is_lifetime),
            (
                "unsorted header",
                |p| p.protected.swap(0, 1),
                |e| *e == SignedError::Malformed(CborError::UnsortedKeys),
            ),
            (
                "unsorted claims",
                |p| p.claims.swap(0, 1),
                |e| *e == SignedError::Malformed(CborError::UnsortedKeys),
            ),
            (
                "duplicate claim",
                |p| p.claims.insert(1, (1.into(), "x".into())),
                |e| *e == SignedError::Malformed(CborError::DuplicateKey),
            ),
            (
                "counter signatures",
                |p| p.protected.insert(2, (7.into(), counter_signatures(3_000))),
                |e| matches!(e, SignedError::Structure(_) | SignedError::Malformed(_)),
            ),
            (
                "unprotected counter signatures",
                |p| {
                    p.unprotected = Value::Map(vec![(7.into(), counter_signatures(3_000))]);
                },
                is_structure,
            ),
        ];
        for (name, change, is_expected) in table {
            let mut parts = Parts::new();
            change(&mut parts);
            let bytes = parts.sign();
            for error in
                [Signed::<Offer>::verify_offline(&bytes).unwrap_err(), verify_header(&bytes).unwrap_err()]
            {
                assert!(is_expected(&error), "{name}: {error:?}");
            }
        }
        let longest = |p: &mut Parts| set(&mut p.claims, 4, 1_800_000_001 + 400 * 86_400);
        let mut parts = Parts::new();
        longest(&mut parts);
        assert!(verify_header(&parts.sign()).is_ok());
    }

    #[test]
    fn rightly_signed_payloads_that_are_no_value_are_refused() {
        type Case = (&'static [u8], fn(&SignedError) -> bool);
        let table: &[Case] = &[
            (b"", |e| *e == SignedError::Payload(CborError::Truncated)),
            (b"\x80", |e| matches!(e, SignedError::Payload(CborError::Decode(_)))),
            (b"\xa2\x65price\x01\x64note\x60", |e| *e == SignedError::Payload(CborError::UnsortedKeys)),
            (b"\xa2\x64note\x60\x65price\x18\x01", |e| *e == SignedError::Payload(CborError::NotShortest)),
            (b"\xd2\xa2\x64note\x60\x65price\x01", |e| *e == SignedError::Payload(CborError::Tag(18))),
            (b"\xa2\x64note\x60\x65price\x00", |e| matches!(e, SignedError::Invalid(_))),
            (b"\xa1\x65price\x01", |e| matches!(e, SignedError::Payload(CborError::Decode(_)))),
        ];
        for (payload, is_expected) in table {
            let bytes = Parts { payload: Value::Bytes(payload.to_vec()), ..Parts::new() }.sign();
            let error = Signed::<Offer>::verify(&bytes, &context()).unwrap_err();
            assert!(is_expected(&error), "{payload:02x?}: {error:?}");
            // The header can be judged by whoever does not know the word.
            assert!(verify_header(&bytes).is_ok());
        }
    }

    #[test]
    fn the_envelope_has_one_form() {
        let bytes = signed().bytes().to_vec();
        assert_eq!(verify_header(&bytes[1..]), Err(SignedError::Structure("not tagged as COSE_Sign1")));
        let retagged = [&[0xd8, 18], &bytes[1..]].concat();
        assert_eq!(verify_header(&retagged), Err(SignedError::Malformed(CborError::NotShortest)));
        let long = vec![0; MAX_LENGTH + 1];
        assert_eq!(verify_header(&long), Err(SignedError::TooLong(MAX_LENGTH + 1)));
        // The signature's scalar plus the order of the group: valid for a lax verifier.
        let order = from_hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let mut malleated = bytes.clone();
        let scalar = malleated.len() - 32;
        let mut carry = 0;
        for (byte, addend) in malleated[scalar..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(addend) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert_eq!(verify_header(&malleated), Err(SignedError::Signature));
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Envelope {
        contract: Signed<Offer>,
        others: Vec<Signed<Offer>>,
    }

    #[test]
    fn a_nested_document_is_verified_again() {
        let long = Offer { note: "n".repeat(10_000), ..offer() };
        let long = Signed::sign(long, &issuer(), options()).unwrap();
        let envelope = Envelope { contract: signed(), others: vec![long] };
        let bytes = cbor::to_canonical(&envelope).unwrap();
        assert_eq!(cbor::from_canonical::<Envelope>(&bytes).unwrap(), envelope);
        let position = bytes.windows(8).position(|window| window == b"per hour").unwrap();
        let mut forged = bytes.clone();
        forged[position] = b'P';
        let Err(CborError::Decode(reason)) = cbor::from_canonical::<Envelope>(&forged) else {
            panic!("a forged nested document was accepted");
        };
        assert!(reason.contains("signature"), "{reason}");
    }

    #[test]
    fn formats_that_people_read_have_digits_and_verify_them() {
        use serde::de::IntoDeserializer;

        struct Shown(Signed<Offer>);
        impl fmt::Display for Shown {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.serialize(f)
            }
        }
        fn read(text: &str) -> Result<Signed<Offer>, serde::de::value::Error> {
            Signed::deserialize(text.into_deserializer())
        }
        assert_eq!(Shown(signed()).to_string(), GOLDEN);
        assert_eq!(read(GOLDEN), Ok(signed()));
        for wrong in ["", "0", "zz", &GOLDEN.to_uppercase(), &GOLDEN[2..], &"0".repeat(2 * MAX_LENGTH + 2)] {
            assert!(read(wrong).is_err());
        }
    }

    #[test]
    fn documents_within_documents_end_before_the_stack_does() {
        let sign = |parent| Signed::sign(Chain { parent }, &issuer(), options()).unwrap();
        let mut chain = sign(None);
        for _ in 0..MAX_NESTING {
            chain = sign(Some(Box::new(chain)));
            assert!(Signed::<Chain>::verify(chain.bytes(), &context()).is_ok());
        }
        for _ in 0..300 {
            chain = sign(Some(Box::new(chain)));
            let error = Signed::<Chain>::verify(chain.bytes(), &context()).unwrap_err();
            assert!(matches!(&error, SignedError::Payload(CborError::Decode(_))), "{error:?}");
        }
        // A refusal leaves nothing behind.
        assert!(Signed::<Chain>::verify(sign(Some(Box::new(sign(None)))).bytes(), &context()).is_ok());
    }

    #[test]
    fn an_id_is_its_digits() {
        let id = DocumentId([0xa0; 16]);
        assert_eq!(id.to_string(), "a0".repeat(16));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(cbor::from_canonical(&cbor::to_canonical(&id).unwrap()), Ok(id));
        for wrong in ["", "a0", &"A0".repeat(16), &"a0".repeat(17), &"g0".repeat(16), &"\u{fc}".repeat(16)] {
            assert_eq!(wrong.parse::<DocumentId>(), Err(DocumentIdError), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(verify_header(&bytes).is_err());
            prop_assert!(Signed::<Offer>::verify(&bytes, &context()).is_err());
        }

        #[test]
        fn a_document_with_strange_parts_is_judged_without_panic(
            protected in proptest::collection::vec(any::<u8>(), 0..100),
            payload in proptest::collection::vec(any::<u8>(), 0..100),
            signature in proptest::collection::vec(any::<u8>(), 60..70),
        ) {
            let parts = [protected, payload, signature].map(Value::Bytes);
            let [protected, payload, signature] = parts;
            let envelope = Value::Array(vec![protected, Value::Map(vec![]), payload, signature]);
            prop_assert!(verify_header(&plain(&Value::Tag(18, Box::new(envelope)))).is_err());
        }

        #[test]
        fn any_value_comes_back(price in 1u64.., note in ".{0,40}", id in any::<[u8; 16]>(), ttl in 1u64..10_000_000) {
            let options = SignOptions { id: DocumentId(id), ttl: Duration::from_millis(ttl), ..options() };
            let document = Signed::sign(Offer { price, note }, &issuer(), options).unwrap();
            let read = Signed::<Offer>::verify(document.bytes(), &context()).unwrap();
            prop_assert_eq!(read.value(), document.value());
            prop_assert_eq!(read.header(), document.header());
        }
    }
}
