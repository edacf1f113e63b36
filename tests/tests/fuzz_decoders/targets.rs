//! The ways in: one target for each decoder that a peer's bytes reach.

use std::str::FromStr;
use std::sync::Arc;

use dms_actors::blob::{self, BlobRefusal, BlobSource};
use dms_actors::cbor;
use dms_actors::clock::SharedClock;
use dms_actors::directory::RecordCheck;
use dms_actors::mesh::{Gossip, GossipId};
use dms_actors::signed::{Document, verify_header};
use dms_actors::transport::PROTOCOLS;
use dms_actors::{ActorPath, Address, Policy};
use dms_messages::*;
use dms_node::directory::{WordCheck, advert_key, card_key};
use dms_node::network::{advert_topic, bid_request_topic, judge_gossip, revocation_topic, status_topic};
use dms_node::trust::{Gate, Trust, needs};
use dms_node::{network, proof};
use dms_p2p::{claimed_address, did_of};
use dms_tests::hostile::surroundings::{Answering, StillClock};
use dms_tests::hostile::{NETWORK, NOW, Parts, context, issuer, reader};
use serde_bytes::ByteBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Whoever reads what a peer has said.
type Reader = Box<dyn Fn(&[u8])>;

/// A decoder.
pub(super) struct Target {
    /// Also the directory of its corpus.
    pub(super) name: String,
    /// Reads bytes as a peer's are read, and keeps its promises or panics.
    pub(super) read: Reader,
}

/// A kind as a part of a file's name.
pub(super) fn file_name(kind: &str) -> String {
    kind.replace('/', ".")
}

/// Every target.
pub(super) fn all() -> Vec<Target> {
    let mut targets = Vec::new();
    for word in needs::table() {
        let kind = word.kind.to_string();
        targets.push(target(format!("word.{}", file_name(&kind)), move |bytes| {
            let _ = (word.read)(bytes, &context());
            // As a payload that somebody has signed: damage behind a signature that holds.
            let _ = (word.read)(&Parts::new(&kind, bytes.to_vec()).seal(), &context());
        }));
    }
    targets.extend([kept::<NodeCard>(), kept::<NodeStatus>(), kept::<Contract>()]);
    targets.extend([kept::<Token>(), kept::<Revocation>(), kept::<Succession>()]);
    targets.extend([gossip(), records(), credentials(), frames(), canonical(), headers()]);
    targets.extend(PROTOCOLS.iter().filter_map(|protocol| match *protocol {
        // What a link says is tried by `frames`, and whole links by the tests of the runtime.
        dms_actors::transport::LINK_PROTOCOL => None,
        dms_actors::transport::BLOB_PROTOCOL => Some(blob_requests()),
        other => panic!("nobody tries what is said over {other}"),
    }));
    targets.extend([blob_answers(), trees(), proofs()]);
    targets.extend([
        carried::<Invite>("invite", "dms-invite-1-"),
        carried::<Credentials>("tokens", "dms-token-1-"),
        carried::<Successions>("successions", "dms-succession-1-"),
    ]);
    targets.extend([dids(), content_ids(), addresses(), names()]);
    targets
}

fn target(name: impl Into<String>, read: impl Fn(&[u8]) + 'static) -> Target {
    Target { name: name.into(), read: Box::new(read) }
}

/// A document that lies within others, or is kept.
fn kept<T: Document>() -> Target {
    let kind = format!("{}/{}", T::KIND, T::VERSION);
    target(format!("document.{}", file_name(&kind)), move |bytes| {
        for document in [bytes.to_vec(), Parts::new(&kind, bytes.to_vec()).seal()] {
            let Ok(signed) = Signed::<T>::verify_offline(&document) else { continue };
            assert_eq!(signed.bytes(), document, "a document is its bytes");
            assert_eq!(signed.value().check(), Ok(()), "what is read keeps the rules of its type");
        }
    })
}

fn gossip() -> Target {
    let topics = [
        ("dms.bid-request/1", bid_request_topic(NETWORK)),
        ("dms.advert/1", advert_topic(NETWORK)),
        ("dms.node-status/1", status_topic(NETWORK)),
        ("dms.revocation/1", revocation_topic(NETWORK)),
    ];
    target("gossip", move |bytes| {
        for (kind, topic) in &topics {
            for body in [bytes.to_vec(), Parts::new(kind, bytes.to_vec()).seal()] {
                let (id, source) = (GossipId(vec![1]), issuer().did());
                let heard = Gossip { id, topic: topic.clone(), source, forwarder: reader(), body };
                let outcome = judge_gossip(&heard, &context());
                assert!(!matches!(outcome, Err(network::Unheard::Reject(reason)) if reason.is_empty()));
            }
        }
    })
}

/// What others store in the directory, as Kademlia brings it.
fn records() -> Target {
    let clock: SharedClock = Arc::new(StillClock);
    let check = WordCheck::new(reader(), NETWORK, clock);
    target("record", move |bytes| {
        for kind in ["dms.advert/1", "dms.node-card/1"] {
            for value in [bytes.to_vec(), Parts::new(kind, bytes.to_vec()).seal()] {
                let _ = check.check(&advert_key(issuer().did()), &value);
                let _ = check.check(&card_key(ContentId::of_document(&value)), &value);
            }
        }
    })
}

/// What a peer shows when a link opens.
fn credentials() -> Target {
    let clock: SharedClock = Arc::new(StillClock);
    let gate = Gate::new(reader(), NETWORK, &Trust::default(), clock);
    target("credentials", move |bytes| {
        let _ = gate.introduce(issuer().did(), bytes);
        let token = Parts::new("dms.token/1", bytes.to_vec()).seal();
        if let Ok(shown) = Credentials::try_from(vec![ByteBuf::from(token)]) {
            gate.show(issuer().did(), &shown);
        }
        assert!(gate.may(issuer().did(), "/dms/admin", None).is_err(), "nobody here is trusted");
        assert!(gate.may(issuer().did(), ability::REQUEST_BIDS, None).is_err(), "nobody here is trusted");
    })
}

fn frames() -> Target {
    target("frames", |bytes| {
        dms_actors::fuzz::decode(bytes);
        // As a header of its own, too.
        let header = &bytes[..bytes.len().min(2_000)];
        let length = u32::try_from(2 + header.len()).unwrap();
        let framed = [&length.to_be_bytes(), &(header.len() as u16).to_be_bytes()[..], header].concat();
        dms_actors::fuzz::decode(&framed);
    })
}

fn canonical() -> Target {
    target("cbor", |bytes| {
        let checked = cbor::check(bytes, cbor::MAX_LENGTH);
        let Ok(value) = cbor::from_canonical::<ciborium::Value>(bytes) else { return };
        assert_eq!(checked, Ok(()), "what is read has passed the walker");
        assert_eq!(cbor::to_canonical(&value).as_deref(), Ok(bytes), "a value has one form");
    })
}

fn headers() -> Target {
    target("header", |bytes| {
        let _ = verify_header(bytes);
        // Behind a signature that holds: damage to what is signed first of all.
        let mut items = Parts::new("dms.bid/1", vec![0xa0]).items();
        items[0] = ciborium::Value::Bytes(bytes.to_vec());
        let _ = verify_header(&dms_tests::hostile::envelope(items));
    })
}

/// Gives what is asked for.
struct Given;

impl BlobSource for Given {
    fn open(&self, _: Did, _: &ContentId) -> Result<Vec<u8>, BlobRefusal> {
        Ok(b"given".to_vec())
    }
}

/// Runs something that waits; on a paused clock, because bytes that never come are waited for.
fn wait<R>(work: impl Future<Output = R>) -> R {
    let builder = &mut tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(work)
}

fn blob_requests() -> Target {
    target("blob-request", |bytes| {
        let answer = wait(async {
            let (mut near, far) = tokio::io::duplex(64 * 1024);
            let ask = async {
                let _ = near.write_all(&bytes[..bytes.len().min(1000)]).await;
                let _ = near.shutdown().await;
                let mut answer = Vec::new();
                let _ = near.read_to_end(&mut answer).await;
                answer
            };
            tokio::join!(ask, blob::serve(Box::new(far), reader(), &Given)).0
        });
        assert!(answer.is_empty() || answer == [1] || answer == b"\0\0\0\0\x05given", "{answer:?}");
    })
}

fn blob_answers() -> Target {
    target("blob-answer", |bytes| {
        let id = ContentId::of_bytes(b"wanted");
        let fetched = wait(async {
            let transport = Answering { answer: bytes.to_vec(), stays: false };
            blob::fetch(&transport, reader(), id, 64).await
        });
        assert!(
            fetched.is_err() || fetched.is_ok_and(|bytes| bytes == b"wanted"),
            "a content is what it is called"
        );
    })
}

fn trees() -> Target {
    target("file-tree", |bytes| {
        let Ok(tree) = FileTree::from_blob(bytes) else { return };
        assert!(tree.to_blob().is_ok(), "what is read can be written");
        for path in tree.files.keys() {
            let below = path.below("/base".as_ref());
            assert!(
                below.starts_with("/base") && below.components().count() > 2,
                "{path} leaves its directory"
            );
            assert!(!below.components().any(|part| part == std::path::Component::ParentDir), "{path} climbs");
        }
    })
}

fn proofs() -> Target {
    target("contract-file", |bytes| {
        let _ = proof::verify(bytes, NOW);
        let contract = Parts::new("dms.contract/1", bytes.to_vec()).seal();
        let _ = proof::verify(&contract, NOW);
        let accepted = Parts::new("dms.accepted/1", bytes.to_vec()).seal();
        let _ = proof::verify(&[contract, accepted].concat(), NOW);
    })
}

/// What people carry from a stranger's machine: as text, and as what a whole text says.
fn carried<T: FromStr + ToString>(name: &str, prefix: &'static str) -> Target {
    target(name, move |bytes| {
        let body = bs58::encode(&bytes[..bytes.len().min(2_000)]).with_check().into_string();
        for text in [String::from_utf8_lossy(bytes).into_owned(), format!("{prefix}{body}")] {
            let Ok(value) = text.parse::<T>() else { continue };
            assert!(value.to_string().parse::<T>().is_ok(), "what is read can be carried on");
        }
    })
}

fn dids() -> Target {
    target("did", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let encoded = format!("did:key:z{}", bs58::encode(&bytes[..bytes.len().min(40)]).into_string());
        for text in [text.as_ref(), &encoded] {
            if let Ok(did) = text.parse::<Did>() {
                assert_eq!(did.to_string(), text, "a DID has one form");
            }
        }
        if let Ok(did) = Did::from_peer_id_bytes(bytes) {
            assert_eq!(did.peer_id_bytes(), bytes);
        }
    })
}

fn content_ids() -> Target {
    target("content-id", |bytes| {
        if let Ok(id) = ContentId::from_bytes(bytes) {
            assert_eq!(id.to_bytes(), bytes, "an identifier has one binary form");
        }
        if let Ok(id) = String::from_utf8_lossy(bytes).parse::<ContentId>() {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    })
}

/// As adverts carry them, and as people name a peer.
fn addresses() -> Target {
    target("multiaddr", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let peer = issuer().did();
        if let Some(kept) = claimed_address(&peer, &text) {
            assert_eq!(
                claimed_address(&peer, &kept.to_string()),
                Some(kept),
                "what is kept can be dialled again"
            );
        }
        let _ = did_of(&text);
    })
}

/// Names in the headers of frames and in words.
fn names() -> Target {
    target("names", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(path) = text.parse::<ActorPath>() {
            assert_eq!(path.as_str().parse(), Ok(path));
        }
        if let Ok(address) = text.parse::<Address>() {
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        if let Some(kind) = Kind::parse(&text) {
            assert_eq!(kind.to_string(), text);
        }
        if let Ok(ability) = text.parse::<Ability>() {
            assert_eq!(ability.as_str(), text);
        }
        if let Ok(path) = RelativePath::new(&text) {
            assert_eq!(path.as_str(), text);
        }
        let _ = (text.parse::<JobId>(), text.parse::<DocumentId>(), text.parse::<Role>());
    })
}
