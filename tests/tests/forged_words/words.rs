//! Words as bytes on their way: rightly signed, and wrong in every way that the tests name.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dms_actors::signed::MAX_LIFETIME;
use dms_messages::{
    CborError, Did, Document, DocumentId, Keypair, Message, SignOptions, Signed, Timestamp, WireMessage,
};
use serde::{Deserialize, Serialize};

/// The mesh of these tests.
pub(crate) const NETWORK: &str = "test";
/// How long a word is fresh.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// What COSE signs under (RFC 9052 §4.4).
const CONTEXT: &str = "Signature1";

/// With what a document is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal<'k> {
    pub(crate) by: &'k Keypair,
    pub(crate) network: &'static str,
    pub(crate) audience: Option<Did>,
    pub(crate) issued_at: Timestamp,
    pub(crate) ttl: Duration,
}

/// A value that waits for its seal.
pub(crate) trait Draft {
    fn sign(&self, seal: &Seal<'_>) -> Vec<u8>;
    /// The same in the next version of its kind.
    fn sign_as_next(&self, seal: &Seal<'_>) -> Vec<u8>;
}

impl<T: Document + Clone> Draft for T {
    fn sign(&self, seal: &Seal<'_>) -> Vec<u8> {
        signed(self.clone(), seal).bytes().to_vec()
    }

    fn sign_as_next(&self, seal: &Seal<'_>) -> Vec<u8> {
        signed(Next(self.clone()), seal).bytes().to_vec()
    }
}

/// A word of a version that nobody knows yet.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Next<T>(T);

impl<T: Document> Document for Next<T> {
    const KIND: &'static str = T::KIND;
    const VERSION: u16 = T::VERSION + 1;
}

pub(crate) fn signed<T: Document>(value: T, seal: &Seal<'_>) -> Signed<T> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let Seal { by, network, audience, issued_at, ttl } = *seal;
    let options = SignOptions { network: network.to_owned(), audience, issued_at, ttl, id: DocumentId(id) };
    Signed::sign(value, by, options).expect("a small document can be signed")
}

/// What is wrong with a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    /// Signed by another than it says.
    Forged,
    /// One bit is another.
    Mutated,
    /// Something is missing at its end, or too much.
    Cut,
    /// Over for longer than the skew.
    Expired,
    /// Of a time that is farther ahead than the skew.
    NotYetValid,
    /// Meant to live for longer than anything may.
    TooLongLived,
    /// For somebody else.
    MisAddressed,
    /// For nobody by name, though it is for one.
    NoAudience,
    /// Of another mesh.
    Network,
    /// Rightly signed, and another kind of word than it is said to be.
    Kind,
    /// Of another version of its kind.
    Version,
    /// The issuer's signature of the same bytes, for another purpose.
    Purpose,
}

impl Wrong {
    pub(crate) const ALL: [Self; 12] = [
        Self::Forged,
        Self::Mutated,
        Self::Cut,
        Self::Expired,
        Self::NotYetValid,
        Self::TooLongLived,
        Self::MisAddressed,
        Self::NoAudience,
        Self::Network,
        Self::Kind,
        Self::Version,
        Self::Purpose,
    ];

    /// A draft with this wrong done to it, the `number`th time; `right` is how it would be sealed, `other` a word of
    /// another kind, and `thief` whoever does it.
    pub(crate) fn done_to(
        self,
        draft: &dyn Draft,
        other: &dyn Draft,
        right: &Seal<'_>,
        thief: &Keypair,
        number: usize,
    ) -> Vec<u8> {
        let step = Duration::from_secs(number as u64 % 1000);
        match self {
            Self::Forged => sealed_by(&draft.sign(right), thief, CONTEXT),
            Self::Mutated => {
                let mut bytes = draft.sign(right);
                let place = number % bytes.len();
                bytes[place] ^= 1 << (number / bytes.len() % 8);
                bytes
            }
            Self::Cut => {
                let mut bytes = draft.sign(right);
                match number % 4 {
                    0 => bytes.push(0),
                    _ => bytes.truncate(number % bytes.len()),
                }
                bytes
            }
            Self::Expired => {
                // The expiry is rounded up to a second.
                let age = right.ttl + Duration::from_secs(31) + step;
                let issued_at = earlier(right.issued_at, age);
                draft.sign(&Seal { issued_at, ..*right })
            }
            Self::NotYetValid => {
                // And the issue down; its way here takes a moment, too.
                let issued_at = right.issued_at.saturating_add(Duration::from_secs(40) + step);
                draft.sign(&Seal { issued_at, ..*right })
            }
            Self::TooLongLived => {
                too_long_lived(&draft.sign(&Seal { ttl: MAX_LIFETIME, ..*right }), right.by)
            }
            Self::MisAddressed => {
                let audience = Some(Keypair::from_secret(&[number as u8 | 0x80; 32]).did());
                draft.sign(&Seal { audience, ..*right })
            }
            Self::NoAudience => draft.sign(&Seal { audience: None, ..*right }),
            Self::Network => {
                let network = ["tes", "test2", "TEST", "main"][number % 4];
                draft.sign(&Seal { network, ..*right })
            }
            Self::Kind => other.sign(right),
            Self::Version => draft.sign_as_next(right),
            Self::Purpose => {
                let context = ["Signature", "CounterSignature", "MAC0", "dms"][number % 4];
                sealed_by(&draft.sign(right), right.by, context)
            }
        }
    }
}

pub(crate) fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_sub(u64::try_from(by.as_millis()).expect("a short time")))
}

/// The document with another signature: of `by`, over the same header and payload, under this context. Taken apart
/// by hand, as whoever forges does.
pub(crate) fn sealed_by(document: &[u8], by: &Keypair, context: &str) -> Vec<u8> {
    // Tag 18, an array of four: protected header, no other header, payload, signature.
    let unsigned = &document[..document.len() - 66];
    let (protected, rest) = unsigned[2..].split_at(byte_string_length(&unsigned[2..]));
    let payload = &rest[1..];
    let mut message = vec![0x84, 0x60 + u8::try_from(context.len()).expect("a short text")];
    message.extend(context.as_bytes());
    message.extend(protected);
    message.push(0x40);
    message.extend(payload);
    [unsigned, &[0x58, 0x40], by.sign(&message).as_slice()].concat()
}

/// The document with an expiry a year later, signed rightly: what no honest pen signs.
fn too_long_lived(document: &[u8], by: &Keypair) -> Vec<u8> {
    let mut bytes = document.to_vec();
    // Claim 4, four bytes of seconds, and then claim 6.
    let expiry = bytes.windows(7).position(|seen| seen[..2] == [4, 0x1a] && seen[6] == 6);
    let expiry = expiry.expect("every document has one") + 2;
    let seconds = u32::from_be_bytes(bytes[expiry..expiry + 4].try_into().expect("four bytes"));
    bytes[expiry..expiry + 4].copy_from_slice(&(seconds + 365 * 24 * 3600).to_be_bytes());
    sealed_by(&bytes, by, CONTEXT)
}

/// How long the byte string is that these bytes begin with, its head included.
fn byte_string_length(bytes: &[u8]) -> usize {
    match bytes[0] {
        head @ 0x40..=0x57 => 1 + usize::from(head - 0x40),
        0x58 => 2 + usize::from(bytes[1]),
        0x59 => 3 + usize::from(u16::from_be_bytes([bytes[1], bytes[2]])),
        head => panic!("{head:x} begins no byte string of a document of these tests"),
    }
}

/// What is told to a node: bytes, and as which kind.
macro_rules! words {
    ($($name:ident => $kind:literal),+ $(,)?) => {
        /// A word as it is told.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Word { $($name),+ }

        $(
            /// The bytes of one.
            pub(crate) struct $name(pub(crate) Vec<u8>);

            impl Message for $name {
                type Reply = ();
            }

            impl WireMessage for $name {
                const KIND: &'static str = $kind;
                const VERSION: u16 = 1;

                fn encode_body(&self) -> Result<Vec<u8>, CborError> {
                    Ok(self.0.clone())
                }

                fn decode_body(
                    bytes: &[u8],
                    _: &dms_actors::wire::DecodeContext,
                ) -> Result<Self, dms_actors::wire::DecodeError> {
                    Ok(Self(bytes.to_vec()))
                }
            }

            impl dms_actors::Handler<$name> for Ear {
                fn handle(
                    &mut self,
                    word: $name,
                    _: &mut dms_actors::Context<'_, Self>,
                ) -> dms_actors::Answer<()> {
                    self.0.lock().expect("nobody panics under the lock").push((Word::$name, word.0));
                    ().into()
                }
            }
        )+

        /// Tells one, and waits until the link has it.
        pub(crate) async fn tell(system: &dms_actors::ActorSystem, to: Did, word: Word, bytes: Vec<u8>) {
            let address = dms_actors::Address::new(to, "/node").expect("a plain path");
            let told = async {
                match word {
                    $(Word::$name => system.resolve::<$name>(&address).tell($name(bytes)).await.is_ok()),+
                }
            };
            let told = tokio::time::timeout(dms_tests::DEADLINE, told).await;
            assert_eq!(told, Ok(true), "the link takes a word");
        }

        /// Lets an ear hear all of them.
        pub(crate) fn listen(system: &dms_actors::ActorSystem, heard: &Heard) {
            let heard = std::sync::Arc::clone(heard);
            let ear = system.spawn(
                move || Ear(std::sync::Arc::clone(&heard)),
                dms_actors::Supervision::never(),
            );
            let hearing = system.register("/node", &ear).expect("nobody else is there");
            hearing$(.accepts::<$name>())+;
        }
    };
}

/// What a peer made by hand was told, in order.
pub(crate) type Heard = std::sync::Arc<std::sync::Mutex<Vec<(Word, Vec<u8>)>>>;

/// Hears whatever a node says.
pub(crate) struct Ear(Heard);

impl dms_actors::Actor for Ear {}

words! {
    Advert => "dms.advert",
    BidRequest => "dms.bid-request",
    Bid => "dms.bid",
    Decline => "dms.decline",
    Release => "dms.release",
    Invocation => "dms.invocation",
    Accepted => "dms.accepted",
    Refused => "dms.refused",
    AllocationStatus => "dms.allocation-status",
    AllocationStatusRequest => "dms.allocation-status-request",
    AllocationOutput => "dms.allocation-output",
    Acknowledge => "dms.acknowledge",
    Cancel => "dms.cancel",
    Reconcile => "dms.reconcile",
    Census => "dms.census",
    CensusReply => "dms.census-reply",
    Join => "dms.join",
    Renew => "dms.renew",
    Admitted => "dms.admitted",
    NotAdmitted => "dms.not-admitted",
    Revocations => "dms.revocations",
}

#[test]
fn the_forger_can_sign() {
    let key = Keypair::from_secret(&[7; 32]);
    let token = dms_messages::ContentId::of_bytes(b"token");
    let issued_at = Timestamp(1_800_000_000_000);
    let seal = Seal { by: &key, network: NETWORK, audience: None, issued_at, ttl: MINUTE };
    let document = dms_messages::Revocation { token }.sign(&seal);
    assert_eq!(
        sealed_by(&document, &key, CONTEXT),
        document,
        "what it makes is wrong only where it wants to be"
    );
    assert_ne!(sealed_by(&document, &key, "dms"), document);
}
