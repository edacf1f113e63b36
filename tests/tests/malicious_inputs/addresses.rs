//! Addresses that strangers tell and people mistype: those that a peer claims, and those of the settings.

use std::fmt::Write;

use dms_messages::{Advert, Keypair, Signed};
use dms_p2p::{P2p, P2pConfig, claimed_address, did_of};
use dms_tests::hostile::{context, issuer, reader, sign, words};

use super::{Table, told};

/// The inputs.
pub(super) fn family(table: &mut Table) {
    claimed(table);
    named(table);
    bootstrap(table);
    settings(table);
}

/// As adverts carry them: whoever believes one dials it.
fn claimed(table: &mut Table) {
    let (me, other) = (issuer().did().peer_id(), reader().peer_id());
    let mut texts: Vec<String> = [
        "",
        "/",
        "//",
        "10.0.0.1:4001",
        "10.0.0.1",
        "localhost",
        "http://10.0.0.1:80",
        "/ip4",
        "/ip4/",
        "/ip4/10.0.0.1",
        "/ip4/10.0.0.1/",
        "/ip4/10.0.0.1/tcp",
        "/ip4/10.0.0.1/tcp/",
        "/ip4/10.0.0.1/tcp/x",
        "/ip4/10.0.0.1/tcp/-1",
        "/ip4/10.0.0.1/tcp/65536",
        "/ip4/10.0.0.1/tcp/0",
        "/ip4/10.0.0.1/tcp/1/tcp/2",
        "/ip4/10.0.0.1/udp/4001",
        "/ip4/10.0.0.1/udp/0/quic-v1",
        "/ip4/10.0.0.1/udp/4001/quic",
        "/ip4/10.0.0.1/udp/4001/quic-v1/webtransport",
        "/ip4/10.0.0.1/tcp/4001/ws",
        "/ip4/10.0.0.1/tcp/4001/wss",
        "/ip4/10.0.0.1/tcp/4001/http",
        "/ip4/10.0.0.1/tcp/4001/tls",
        "/ip4/10.0.0.1/sctp/4001",
        "/ip4/10.0.0.1/dccp/4001",
        "/ip4/0.0.0.0/tcp/4001",
        "/ip4/255.255.255.255/tcp/4001",
        "/ip4/224.0.0.1/tcp/4001",
        "/ip4/239.255.255.255/udp/1/quic-v1",
        "/ip4/256.0.0.1/tcp/4001",
        "/ip4/10.0.0/tcp/4001",
        "/ip4/0x7f.1/tcp/4001",
        "/ip4/010.0.0.1/tcp/4001",
        "/ip6/::/tcp/4001",
        "/ip6/ff02::1/tcp/4001",
        "/ip6/:::1/tcp/4001",
        "/ip6/fe80::1%eth0/tcp/4001",
        "/ip6zone/eth0/ip6/fe80::1/tcp/4001",
        "/dns/example.org/tcp/4001",
        "/dns4/example.org/tcp/4001",
        "/dns6/example.org/tcp/4001",
        "/dnsaddr/example.org",
        "/unix/tmp/x.sock",
        "/memory/1",
        "/onion3/x:1",
        "/garlic64/x",
        "/p2p-circuit",
        "/ip4/10.0.0.1/tcp/4001/p2p-circuit",
        "/tcp/4001/ip4/10.0.0.1",
        "/tcp/4001",
        "/ip4/10.0.0.1/ip4/10.0.0.2/tcp/1",
        "/ip4/10.0.0.1/tcp/1\0",
        "/ip4/10.0.0.1/tcp/1\n",
        " /ip4/10.0.0.1/tcp/1",
        "/ip4/10.0.0.1/tcp/1/p2p/",
        "/ip4/10.0.0.1/tcp/1/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC",
        "/ip4/10.0.0.1/tcp/1/p2p/x",
        "/ip4/10.0.0.1/tcp/1/unknown/7",
        "/\u{fc}/1",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push(format!("/ip4/10.0.0.1/tcp/1/p2p/{other}"));
    texts.push(format!("/ip4/10.0.0.1/tcp/1/p2p/{me}/p2p/{other}"));
    texts.push(format!("/ip4/10.0.0.1/tcp/1/p2p/{me}/p2p-circuit"));
    texts.push(format!("/ip4/10.0.0.1/tcp/1/p2p/{other}/p2p-circuit/p2p/{me}"));
    texts.push(format!("/p2p/{me}"));
    texts.push(format!("/p2p/{me}/ip4/10.0.0.1/tcp/1"));
    texts.push("/".repeat(10_000));
    texts.push("/ip4/10.0.0.1".repeat(10_000));
    texts.push(format!("/dns4/{}/tcp/1", "a".repeat(100_000)));
    for text in texts {
        let name = format!("the claim {}", super::shown(&text));
        table.refuse(name, text, "none is kept", |bytes| {
            let kept = claimed_address(&issuer().did(), std::str::from_utf8(bytes).unwrap());
            kept.map_or(Err("none is kept".to_owned()), |_| Ok(()))
        });
    }
    // The word around them counts and measures them.
    for count in [9, 100] {
        let mut advert = words::advert();
        advert.addresses = vec!["/ip4/10.0.0.1/tcp/1".into(); count];
        let document = dms_tests::hostile::Parts::of(&advert).seal();
        table.refuse(format!("an advert of {count} addresses"), document, "more than 8 addresses", |bytes| {
            super::judged(Signed::<Advert>::verify(bytes, &context()))
        });
    }
    assert!(Signed::<Advert>::verify(sign(words::advert()).bytes(), &context()).is_ok());
}

/// Where a person names a peer by its address.
fn named(table: &mut Table) {
    let read = |text: &str| told(did_of(text));
    table.texts(
        "the peer at",
        &[
            ("", "does not end in /p2p/"),
            ("x", "cannot be used"),
            ("/ip4/10.0.0.1/tcp/1", "does not end in /p2p/"),
            ("/ip4/10.0.0.1/tcp/1/p2p/x", "cannot be used"),
            (
                "/ip4/10.0.0.1/tcp/1/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC",
                "not the peer id of an Ed25519",
            ),
            ("/ip4/300.0.0.1/tcp/1/p2p/x", "cannot be used"),
        ],
        read,
    );
}

/// Starts a node on these settings, which it refuses before it binds anything.
fn start(config: P2pConfig) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { told(P2p::start(&Keypair::from_secret(&[7; 32]), config).await) })
}

fn bootstrap(table: &mut Table) {
    let me = issuer().did().peer_id();
    let only_a_name = format!("/p2p/{me}");
    for (text, reason) in [
        ("", "it is empty"),
        ("127.0.0.1:80", "127.0.0.1:80 cannot be used"),
        ("/ip4/127.0.0.1/tcp/70000", "cannot be used"),
        (
            "/ip4/127.0.0.1/tcp/1/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC",
            "not that of an Ed25519 key",
        ),
        (only_a_name.as_str(), "names a peer and no place to dial"),
        ("/ip4/127.0.0.1/tcp/1/p2p/12D3KooW", "cannot be used"),
    ] {
        table.refuse(format!("to dial first: {text:?}"), text, reason, |bytes| {
            let bootstrap = vec![String::from_utf8(bytes.to_vec()).unwrap()];
            start(P2pConfig { listen: vec![], bootstrap, ..P2pConfig::default() })
        });
    }
    for (text, reason) in [
        ("", "it is empty"),
        ("0.0.0.0", "cannot be used"),
        ("/ip4/127.0.0.1/tcp", "cannot be used"),
        ("/ip4/1.2.3/tcp/1", "cannot be used"),
    ] {
        table.refuse(format!("to listen on: {text:?}"), text, reason, |bytes| {
            start(P2pConfig {
                listen: vec![String::from_utf8(bytes.to_vec()).unwrap()],
                ..P2pConfig::default()
            })
        });
    }
    for count in [65, 1000] {
        let list = "/ip4/1.2.3.4/tcp/1\n".repeat(count);
        table.refuse(format!("{count} to dial first"), list, "bootstrap addresses are too many", |bytes| {
            let list = std::str::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
            start(P2pConfig { listen: vec![], bootstrap: list, ..P2pConfig::default() })
        });
    }
    let long = "a".repeat(33);
    for name in ["", "Main", "a/b", "a b", "a_b", "ä", "../x", "a\0", long.as_str()] {
        table.refuse(format!("the mesh {name:?}"), name, "is no network name", |bytes| {
            let network = String::from_utf8(bytes.to_vec()).unwrap();
            start(P2pConfig { listen: vec![], network, ..P2pConfig::default() })
        });
    }
}

/// In config.toml.
fn settings(table: &mut Table) {
    let read = |text: &str| told(dms_node::config::Layer::from_toml("config.toml".as_ref(), text));
    let mut many = "bootstrap = [".to_owned();
    for n in 0..65 {
        write!(many, "\"/ip4/10.0.0.1/tcp/{n}\", ").unwrap();
    }
    many.push(']');
    let long = format!("listen = [\"/ip4/{}\"]", "1".repeat(300));
    table.texts(
        "settings",
        &[
            ("listen = [\"0.0.0.0:4001\"]", "is not a multiaddr"),
            ("listen = [\"\"]", "is not a multiaddr"),
            ("listen = [\"/ip4/0.0.0.0/tcp/ 1\"]", "is not a multiaddr"),
            ("listen = \"/ip4/0.0.0.0/tcp/1\"", "listen: invalid type"),
            ("bootstrap = [1]", "invalid type"),
            ("bootstrap = [\"example.org\"]", "is not a multiaddr"),
            (&many, "more than 64 entries"),
            (&long, "is not a multiaddr"),
        ],
        read,
    );
}
