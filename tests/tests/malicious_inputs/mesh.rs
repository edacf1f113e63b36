//! What is heard by gossip, and what others store in the directory.

use std::sync::Arc;
use std::time::Duration;

use dms_actors::clock::SharedClock;
use dms_actors::directory::{MAX_RECORD_LENGTH, RecordCheck, RecordKey};
use dms_actors::mesh::{Gossip, GossipId, Topic};
use dms_messages::*;
use dms_node::directory::{WordCheck, advert_key, card_key, class_key};
use dms_node::network::{
    Unheard, advert_topic, bid_request_topic, judge_gossip, revocation_topic, status_topic,
};
use dms_tests::hostile::surroundings::StillClock;
use dms_tests::hostile::{NETWORK, NOW, Parts, context, issuer, options, reader, sign, words};

use super::Table;

/// The inputs.
pub(super) fn family(table: &mut Table) {
    gossip(table);
    records(table);
}

/// Hears this on a topic, published by somebody.
fn hear(topic: Topic, source: Did) -> impl Fn(&[u8]) -> Result<(), String> {
    move |body| {
        let (id, body) = (GossipId(vec![1]), body.to_vec());
        let gossip = Gossip { id, topic: topic.clone(), source, forwarder: reader(), body };
        judge_gossip(&gossip, &context()).map_err(|why| match why {
            Unheard::Ignore => "ignored".to_owned(),
            Unheard::Reject(reason) => format!("rejected: {reason}"),
        })
    }
}

fn signed_as(change: fn(&mut SignOptions)) -> Vec<u8> {
    let mut options = options();
    change(&mut options);
    Signed::sign(words::node_status(), &issuer(), options).unwrap().bytes().to_vec()
}

fn gossip(table: &mut Table) {
    let me = issuer().did();
    let topics = [
        ("bid requests", bid_request_topic(NETWORK), sign(words::bid_request()).bytes().to_vec()),
        ("adverts", advert_topic(NETWORK), sign(words::advert()).bytes().to_vec()),
        ("statuses", status_topic(NETWORK), sign(words::node_status()).bytes().to_vec()),
        ("revocations", revocation_topic(NETWORK), {
            sign(Revocation { token: ContentId::of_bytes(b"token") }).bytes().to_vec()
        }),
    ];
    for (name, topic, good) in &topics {
        assert_eq!(hear(topic.clone(), me)(good), Ok(()), "{name}");
        let add = |table: &mut Table, what: &str, body: Vec<u8>, reason: &str| {
            table.refuse(format!("among {name}: {what}"), body, reason, hear(topic.clone(), me));
        };
        add(table, "nothing", vec![], "rejected: malformed document");
        add(table, "a text", b"hello".to_vec(), "rejected: malformed document");
        add(table, "the first half", good[..good.len() / 2].to_vec(), "rejected: malformed document");
        add(table, "a byte after it", [&good[..], &[0]].concat(), "rejected: ");
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        add(table, "a forged one", forged, "rejected: the signature does not hold");
        let bid = sign(words::bid()).bytes().to_vec();
        let reason = "rejected: a document of kind dms.bid/1 where";
        add(table, "a bid", bid, reason);
        if *name != "revocations" {
            table.refuse(
                format!("among {name}: published by another"),
                good.clone(),
                "rejected: it was published by another than its issuer",
                hear(topic.clone(), reader()),
            );
        }
    }
    let status = status_topic(NETWORK);
    for (name, body, reason) in [
        ("one that has expired", signed_as(|sign| sign.issued_at = Timestamp(NOW.0 - 600_000)), "ignored"),
        ("one from the future", signed_as(|sign| sign.issued_at = Timestamp(NOW.0 + 600_000)), "ignored"),
        ("one of another mesh", signed_as(|sign| sign.network = "other".into()), "rejected: of another mesh"),
        (
            "one for another",
            signed_as(|sign| sign.audience = Some(issuer().did())),
            "rejected: addressed to somebody",
        ),
        ("one of 513 bytes", vec![0; 513], "rejected: a status that is too long"),
        ("one of 16 KiB", vec![0xd2; 16 * 1024], "rejected: a status that is too long"),
    ] {
        table.refuse(format!("among statuses: {name}"), body, reason, hear(status.clone(), me));
    }
    for topic in ["", "/", "/dms/other/advert/1", "/dms/test/adverts", "/dms/test/secrets/1"] {
        let body = [topic.as_bytes(), &topics[1].2].concat();
        table.refuse(format!("on the topic {topic:?}"), body, "ignored", hear(Topic(topic.to_owned()), me));
    }
}

/// Stores this under a key.
fn store(key: RecordKey) -> impl Fn(&[u8]) -> Result<(), String> {
    move |value| {
        let clock: SharedClock = Arc::new(StillClock);
        WordCheck::new(reader(), NETWORK, clock).check(&key, value).map(drop)
    }
}

fn records(table: &mut Table) {
    let me = issuer().did();
    let advert = |change: fn(&mut SignOptions), sequence: u64| {
        let mut options = options();
        change(&mut options);
        let value = Advert { sequence, ..words::advert() };
        Signed::sign(value, &issuer(), options).unwrap().bytes().to_vec()
    };
    let good = advert(|_| {}, 9);
    assert_eq!(store(advert_key(me))(&good), Ok(()));
    let class = CapabilityClass { executor: ExecutorKind::Wasm, architecture: None };
    for (name, key) in [
        ("another's", advert_key(reader())),
        ("a class", class_key(&class)),
        ("no name at all", RecordKey(vec![])),
        ("a name of zeros", RecordKey(vec![0; 32])),
        ("a long name", RecordKey(vec![7; 1000])),
    ] {
        let reason = "the key is not that of its issuer";
        table.refuse(format!("an advert under {name}"), good.clone(), reason, store(key));
    }
    let under = |id: &[u8]| store(card_key(ContentId::of_document(id)));
    table.refuse(
        "an advert under a card's name",
        good.clone(),
        "where dms.node-card/1 is expected",
        under(&good),
    );
    for (name, value, reason) in [
        ("nothing", vec![], "malformed document"),
        ("a text", b"advert".to_vec(), "malformed document"),
        ("half of one", good[..100].to_vec(), "malformed document"),
        ("more than a record", vec![0; MAX_RECORD_LENGTH + 1], "longer than 8192 bytes"),
        ("a quarter of a megabyte", vec![0xd2; 256 * 1024], "longer than 8192 bytes"),
        (
            "one for a single reader",
            advert(|sign| sign.audience = Some(reader()), 9),
            "addressed to one reader",
        ),
        (
            "one for another",
            advert(|sign| sign.audience = Some(issuer().did()), 9),
            "addressed to somebody else",
        ),
        ("one of another mesh", advert(|sign| sign.network = "other".into(), 9), "of another mesh"),
        (
            "one that lives for a day",
            advert(|sign| sign.ttl = Duration::from_secs(86_400), 9),
            "live for too long",
        ),
        ("one that has expired", advert(|sign| sign.issued_at = Timestamp(NOW.0 - 600_000), 9), "expired"),
        (
            "one from the future",
            advert(|sign| sign.issued_at = Timestamp(NOW.0 + 600_000), 9),
            "issued in the future",
        ),
        ("a sequence from the future", advert(|_| {}, NOW.0 + 31_000), "its sequence is from the future"),
        ("the last sequence of all", advert(|_| {}, u64::MAX), "its sequence is from the future"),
        ("a bid", sign(words::bid()).bytes().to_vec(), "where dms.advert/1 is expected"),
    ] {
        table.refuse(format!("stored as an advert: {name}"), value, reason, store(advert_key(me)));
    }
    cards(table);
}

fn cards(table: &mut Table) {
    let card = |change: fn(&mut Parts)| {
        let mut parts = Parts::of(&words::card());
        change(&mut parts);
        parts.seal()
    };
    for (name, value, reason) in [
        ("one of another mesh", card(|parts| parts.set("dms-net", "other")), "a card of the network"),
        (
            "one for a single reader",
            card(|parts| parts.set(3, reader().to_string())),
            "addressed to one reader",
        ),
        (
            "one from the future",
            card(|parts| {
                parts.set(6, dms_tests::hostile::NOW_SECONDS + 3600);
                parts.set(4, dms_tests::hostile::NOW_SECONDS + 7200);
            }),
            "it is from the future",
        ),
        (
            "one that another has signed",
            card(|parts| {
                parts.signer = [8; 32];
                parts.set(1, reader().to_string());
            }),
            "a card of another than its issuer",
        ),
        ("one that nobody has signed", card(|parts| parts.signer = [3; 32]), "the signature does not hold"),
    ] {
        let key = card_key(ContentId::of_document(&value));
        table.refuse(format!("stored as a card: {name}"), value, reason, store(key));
    }
}
