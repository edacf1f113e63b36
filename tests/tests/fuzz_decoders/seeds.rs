//! What every corpus begins with: valid bytes of each target.

use dms_messages::*;
use dms_tests::hostile::{Parts, issuer, plain, reader, sign, words};

use super::targets::file_name;

/// A target, the file's name, and its bytes.
type Seed = (String, String, Vec<u8>);

/// Every seed.
pub(super) fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add =
        |target: &str, name: &str, bytes: Vec<u8>| seeds.push((target.to_owned(), name.to_owned(), bytes));
    let is_kept = |kind: &str| {
        [
            "dms.node-card/1",
            "dms.node-status/1",
            "dms.contract/1",
            "dms.token/1",
            "dms.revocation/1",
            "dms.succession/1",
        ]
        .contains(&kind)
    };
    for (kind, payload) in words::payloads() {
        let target = format!("{}.{}", if is_kept(&kind) { "document" } else { "word" }, file_name(&kind));
        let signed = Parts::new(&kind, payload.clone()).seal();
        if ["dms.advert/1", "dms.bid-request/1", "dms.node-status/1", "dms.revocation/1"]
            .contains(&kind.as_str())
        {
            add("gossip", &file_name(&kind), payload.clone());
        }
        if ["dms.advert/1", "dms.node-card/1"].contains(&kind.as_str()) {
            add("record", &file_name(&kind), payload.clone());
        }
        add("header", &file_name(&kind), Parts::new(&kind, vec![]).protected_bytes());
        add("cbor", &file_name(&kind), payload.clone());
        add(&target, "payload", payload);
        add(&target, "signed", signed);
    }
    for (kind, body) in words::bodies() {
        add(&format!("word.{}", file_name(&kind)), "body", body);
    }
    let credentials = words::credentials();
    add("credentials", "shown", to_canonical(&credentials).unwrap());
    add("credentials", "token", to_canonical(&words::token()).unwrap());
    add("tokens", "text", credentials.to_string().into_bytes());
    add("tokens", "cbor", to_canonical(&credentials).unwrap());
    add("successions", "text", words::successions().to_string().into_bytes());
    add("successions", "cbor", to_canonical(&words::successions()).unwrap());
    add("invite", "text", words::invite().to_string().into_bytes());
    add("invite", "cbor", to_canonical(&words::invite()).unwrap());
    add("file-tree", "two-files", words::file_tree().to_blob().unwrap());
    let mut parts = Parts::of(&words::contract());
    parts.set(3, reader().to_string());
    add("contract-file", "offer", parts.seal());
    add("contract-file", "terms", to_canonical(&words::contract()).unwrap());
    let did = issuer().did();
    add("did", "text", did.to_string().into_bytes());
    add("did", "key", [&[0xed, 0x01], &did.public_key()[..]].concat());
    add("did", "peer-id", did.peer_id_bytes().to_vec());
    let id = sign(words::bid()).content_id();
    add("content-id", "text", id.to_string().into_bytes());
    add("content-id", "binary", id.to_bytes());
    let request = [&[36], &ContentId::of_bytes(b"given").to_bytes()[..]].concat();
    add("blob-request", "request", request);
    add("blob-answer", "whole", b"\x00\x00\x00\x00\x06wanted".to_vec());
    add("blob-answer", "busy", vec![3]);
    for (name, text) in [
        ("tcp", "/ip4/10.0.0.1/tcp/4001".to_owned()),
        ("quic", "/ip6/2001:db8::1/udp/4001/quic-v1".to_owned()),
        ("with-peer", format!("/ip4/10.0.0.1/tcp/4001/p2p/{}", did.peer_id())),
        ("name", "/dns4/example.org/tcp/4001".to_owned()),
    ] {
        add("multiaddr", name, text.into_bytes());
    }
    for (name, text) in [
        ("path", "/node/alloc/1".to_owned()),
        ("address", format!("{did}/node")),
        ("kind", "dms.bid/1".to_owned()),
        ("ability", "/dms/request/bids".to_owned()),
        ("file", "a/b c/d.txt".to_owned()),
        ("id", "00000000-0000-4000-8000-000000000000".to_owned()),
        ("role", "member".to_owned()),
    ] {
        add("names", name, text.into_bytes());
    }
    frames(&mut add);
    seeds
}

/// A frame of each number that has fields of its own.
fn frames(add: &mut impl FnMut(&str, &str, Vec<u8>)) {
    let did = issuer().did().to_string();
    let trace = ciborium::Value::Bytes(vec![7; 25]);
    let options = vec![(1.into(), 5000.into()), (2.into(), "/asker".into()), (3.into(), trace)];
    let word = vec![3.into(), "/node".into(), "dms.bid/1".into(), 1.into(), true.into()];
    let with_options = [word.clone(), vec![ciborium::Value::Map(options)]].concat();
    let frames: Vec<(&str, Vec<ciborium::Value>)> = vec![
        ("hello", vec![0.into(), 2.into(), "test".into(), did.into()]),
        ("unwelcome", vec![2.into(), "other-network".into(), "no".into()]),
        ("word", word),
        ("word-with-options", with_options),
        ("taken", vec![4.into(), "/node".into(), 7.into()]),
        ("refused", vec![5.into(), 1.into(), "busy".into(), "later".into()]),
        ("reply", vec![6.into(), 1.into()]),
        ("lookup", vec![8.into(), 1.into(), "/node".into(), "dms.bid/1".into()]),
        ("watch", vec![11.into(), 1.into(), "/node".into()]),
        ("ended", vec![13.into(), 1.into(), 3.into(), "too often".into(), 5.into()]),
        ("ping", vec![14.into()]),
    ];
    for (name, header) in frames {
        let header = plain(&ciborium::Value::Array(header));
        let body = if name.starts_with("word") { &b"\xa0"[..] } else { b"" };
        let length = u32::try_from(2 + header.len() + body.len()).unwrap();
        let prefix =
            [&length.to_be_bytes()[..], &u16::try_from(header.len()).unwrap().to_be_bytes()].concat();
        add("frames", name, [&prefix[..], &header, body].concat());
    }
}
