//! What the suites about hostile input share: bytes put together by hand, and one valid example of every word to
//! start from.
//!
//! [`Parts`] makes documents that no honest signer makes, rightly signed, without the code under test.

pub mod surroundings;
pub mod words;

use std::time::Duration;

use ciborium::Value;
use dms_actors::clock::Timestamp;
use dms_actors::signed::{Document, DocumentId, SignOptions, Signed};
use dms_actors::wire::DecodeContext;
use dms_messages::{Did, Keypair};

/// The mesh of these suites.
pub const NETWORK: &str = "test";
/// The wall clock of these suites, in whole seconds.
pub const NOW_SECONDS: i64 = 1_800_000_000;
/// The same in milliseconds.
pub const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// The kinds of documents that are for one reader.
const DIRECTED: [&str; 7] = [
    "dms.bid/1",
    "dms.decline/1",
    "dms.invocation/1",
    "dms.contract/1",
    "dms.accepted/1",
    "dms.refused/1",
    "dms.allocation-status/1",
];

/// The key of whoever signs.
pub fn issuer() -> Keypair {
    Keypair::from_secret(&[7; 32])
}

/// Who reads.
pub fn reader() -> Did {
    Keypair::from_secret(&[8; 32]).did()
}

/// What the reader knows.
pub fn context() -> DecodeContext {
    DecodeContext { me: reader(), now: NOW, network: NETWORK.to_owned() }
}

/// How everything is signed that should hold.
pub fn options() -> SignOptions {
    SignOptions {
        network: NETWORK.to_owned(),
        audience: None,
        issued_at: NOW,
        ttl: Duration::from_secs(60),
        id: DocumentId([9; 16]),
    }
}

/// How a document of a type is signed that should hold.
pub fn options_of<T: Document>() -> SignOptions {
    SignOptions { audience: T::IS_DIRECTED.then(reader), ..options() }
}

/// `value` as the issuer signs it.
///
/// # Panics
/// If it breaks a rule of its type.
pub fn sign<T: Document>(value: T) -> Signed<T> {
    Signed::sign(value, &issuer(), options_of::<T>()).expect("an example breaks no rule")
}

/// A document taken apart, to be put together wrongly and signed rightly.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The protected header but for the claims.
    pub protected: Vec<(Value, Value)>,
    /// The claims; left out if there are none.
    pub claims: Vec<(Value, Value)>,
    /// The unprotected header.
    pub unprotected: Value,
    /// The payload.
    pub payload: Value,
    /// What is signed beside the message (RFC 9052 §4.3).
    pub external: Vec<u8>,
    /// The context of the signature (RFC 9052 §4.4).
    pub context: &'static str,
    /// Who signs; its name stands in the claims whatever this is.
    pub signer: [u8; 32],
}

impl Parts {
    /// The parts of a document of `kind` (`dms.bid/1`) around these bytes, which holds.
    pub fn new(kind: &str, payload: Vec<u8>) -> Self {
        let mut parts = Self {
            protected: vec![(1.into(), (-8).into()), (3.into(), kind.into())],
            claims: vec![
                (1.into(), issuer().did().to_string().into()),
                (4.into(), (NOW_SECONDS + 60).into()),
                (6.into(), NOW_SECONDS.into()),
                (7.into(), Value::Bytes(vec![9; 16])),
                ("dms-net".into(), NETWORK.into()),
            ],
            unprotected: Value::Map(vec![]),
            payload: Value::Bytes(payload),
            external: vec![],
            context: "Signature1",
            signer: [7; 32],
        };
        if DIRECTED.contains(&kind) {
            parts.set(3, reader().to_string());
        }
        parts
    }

    /// The parts of a document around a value of its type, whether or not it breaks a rule of it.
    ///
    /// # Panics
    /// If the value has no CBOR form.
    pub fn of<T: Document>(value: &T) -> Self {
        let payload = dms_messages::to_canonical(value).expect("a value of a word has a form");
        Self::new(&format!("{}/{}", T::KIND, T::VERSION), payload)
    }

    /// Gives a claim another value, or one that it did not have.
    pub fn set(&mut self, name: impl Into<Value>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        match self.claims.iter_mut().find(|claim| claim.0 == name) {
            Some(claim) => claim.1 = value,
            None => {
                self.claims.push((name, value));
                self.claims.sort_by_key(|(name, _)| plain(name));
            }
        }
    }

    /// The protected header, as bytes.
    pub fn protected_bytes(&self) -> Vec<u8> {
        let mut protected = self.protected.clone();
        if !self.claims.is_empty() {
            protected.insert(2.min(protected.len()), (15.into(), Value::Map(self.claims.clone())));
        }
        plain(&Value::Map(protected))
    }

    /// The signature, as RFC 9052 §4.4 has it.
    pub fn signature(&self) -> Vec<u8> {
        let message = Value::Array(vec![
            self.context.into(),
            Value::Bytes(self.protected_bytes()),
            Value::Bytes(self.external.clone()),
            self.payload.clone(),
        ]);
        Keypair::from_secret(&self.signer).sign(&plain(&message)).to_vec()
    }

    /// The four items of the envelope.
    pub fn items(&self) -> Vec<Value> {
        let protected = Value::Bytes(self.protected_bytes());
        vec![protected, self.unprotected.clone(), self.payload.clone(), Value::Bytes(self.signature())]
    }

    /// The document.
    pub fn seal(&self) -> Vec<u8> {
        envelope(self.items())
    }
}

/// A tagged envelope of these items.
pub fn envelope(items: Vec<Value>) -> Vec<u8> {
    plain(&Value::Tag(18, Box::new(Value::Array(items))))
}

/// The CBOR of a value, in the order in which it is given.
///
/// # Panics
/// If there is no memory for it.
pub fn plain(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("a value can be written to memory");
    bytes
}

/// The head of a CBOR item in its shortest form: major type and argument.
pub fn head(major: u8, argument: u64) -> Vec<u8> {
    let bytes = argument.to_be_bytes();
    let (info, width) = match argument {
        0..=23 => return vec![major << 5 | bytes[7]],
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    [&[major << 5 | info], &bytes[8 - width..]].concat()
}

/// A CBOR text or byte string (major type 2 or 3).
pub fn string(major: u8, content: &[u8]) -> Vec<u8> {
    [&head(major, content.len() as u64), content].concat()
}
