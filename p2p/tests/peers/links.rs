//! Streams, ups and downs between peers that live, die, lie or say nothing.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use dms_actors::transport::{BLOB_PROTOCOL, LINK_PROTOCOL, OpenError};
use dms_p2p::P2pConfig;
use futures::StreamExt;
use libp2p::Swarm;
use libp2p::swarm::SwarmEvent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{
    DEADLINE, Events, config, config_to, echo, exchange, key, start, until, until_connected, within,
};

/// Bytes that no shift or repeat of themselves equals.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

/// A loopback address that nobody listens on.
fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port())
}

/// A libp2p peer that knows nothing of ours.
fn ping_only_peer(seed: u8) -> Swarm<libp2p::ping::Behaviour> {
    let identity = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
    libp2p::SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| libp2p::ping::Behaviour::default())
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(DEADLINE * 2))
        .build()
}

/// Lets it live.
async fn drive(mut swarm: Swarm<libp2p::ping::Behaviour>) {
    loop {
        swarm.select_next_some().await;
    }
}

#[tokio::test]
async fn two_peers_connect_by_bootstrap_and_their_protocols_do_not_mix() {
    let a = start(1, config()).await;
    let b = start(2, config_to(&a)).await;
    let (mut a_events, mut b_events) = (Events::of(&a), Events::of(&b));
    assert!(a.transport().take_events().is_none(), "events have one reader");
    a_events.up(b.did()).await;
    b_events.up(a.did()).await;
    assert_eq!(b.transport().connected_peers(), [a.did()]);

    let link = within("a link", b.transport().open(a.did(), LINK_PROTOCOL)).await.unwrap();
    tokio::spawn(echo(a_events.opened(b.did(), LINK_PROTOCOL).await));
    let blob = within("a blob stream", b.transport().open(a.did(), BLOB_PROTOCOL)).await.unwrap();
    tokio::spawn(echo(a_events.opened(b.did(), BLOB_PROTOCOL).await));

    let long = bytes(1024 * 1024);
    let (over_link, over_blob) = within("both echoes", async {
        tokio::join!(exchange(link, long.clone()), exchange(blob, b"blob".to_vec()))
    })
    .await;
    assert!(over_link.unwrap() == long, "one MiB comes back unchanged");
    assert_eq!(over_blob.unwrap(), b"blob");
    assert_eq!(a.status().connection_count, 1, "streams share the connection");
}

#[tokio::test]
async fn whoever_is_shut_out_loses_its_connections_and_has_none_until_it_is_let_in() {
    let a = start(1, config()).await;
    let b = start(2, config_to(&a)).await;
    let mut events = Events::of(&a);
    events.up(b.did()).await;
    within("the ban", a.transport().shut_out(b.did(), DEADLINE * 10)).await;
    events.down(b.did()).await;
    // Its bootstrap goes on trying, and so does whoever asks.
    let error = within("an error", b.transport().open(a.did(), LINK_PROTOCOL)).await.err();
    assert!(error.is_some());
    let error = within("an error", a.transport().open(b.did(), LINK_PROTOCOL)).await.err();
    assert!(error.is_some(), "nor is it dialled");
    assert_eq!(a.transport().connected_peers(), []);
    within("the pardon", a.transport().shut_out(b.did(), Duration::ZERO)).await;
    events.up(b.did()).await;
    // A cut ends what there is, and forbids nothing.
    within("the cut", a.transport().shut_out(b.did(), Duration::ZERO)).await;
    events.down(b.did()).await;
    events.up(b.did()).await;
}

#[tokio::test]
async fn opening_to_a_peer_nobody_told_us_about_has_no_route() {
    let (a, stranger) = (start(1, config()).await, key(2).did());
    let error = within("an error", a.transport().open(stranger, LINK_PROTOCOL)).await.err();
    assert_eq!(error, Some(OpenError::NoRoute(stranger)));
    // Addresses that say nothing, or lead to somebody else, change nothing.
    let elsewhere = format!("{}/p2p/{}", dead_address(), key(3).did().peer_id());
    a.transport().add_addresses(stranger, vec!["rubbish".to_owned(), elsewhere]);
    let error = within("an error", a.transport().open(stranger, LINK_PROTOCOL)).await.err();
    assert_eq!(error, Some(OpenError::NoRoute(stranger)));
}

#[tokio::test]
async fn a_dead_address_is_unreachable_at_once() {
    let (a, peer) = (start(1, config()).await, key(2).did());
    a.transport().add_addresses(peer, vec![dead_address()]);
    let error = within("an error", a.transport().open(peer, LINK_PROTOCOL)).await.err();
    assert!(matches!(&error, Some(OpenError::Unreachable { peer: who, .. }) if *who == peer), "{error:?}");
}

#[tokio::test]
async fn an_address_that_never_answers_is_unreachable_within_the_dial_timeout() {
    // The system accepts for it, and nobody ever speaks.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port());
    let mut quick = config();
    quick.timing.dial_timeout = Duration::from_millis(500);
    let (a, peer) = (start(1, quick).await, key(2).did());
    a.transport().add_addresses(peer, vec![address]);
    let begin = Instant::now();
    let error = within("an error", a.transport().open(peer, LINK_PROTOCOL)).await.err();
    assert!(matches!(error, Some(OpenError::Unreachable { .. })), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn another_key_at_the_address_is_unreachable_and_named() {
    let (a, b) = (start(1, config()).await, start(2, config()).await);
    let (wanted, address) = (key(3).did(), b.listen_addresses()[0].split("/p2p/").next().unwrap().to_owned());
    a.transport().add_addresses(wanted, vec![address]);
    match within("an error", a.transport().open(wanted, LINK_PROTOCOL)).await.err() {
        Some(OpenError::Unreachable { peer, reason }) => {
            assert_eq!(peer, wanted);
            assert!(reason.contains(&b.did().peer_id()), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let error = within("an error", a.transport().open(wanted, LINK_PROTOCOL)).await.err();
    assert_eq!(error, Some(OpenError::NoRoute(wanted)), "the false address is forgotten");
}

#[tokio::test]
async fn a_peer_that_speaks_no_protocol_of_ours_is_unsupported() {
    let mut stranger = ping_only_peer(2);
    stranger.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = within("an address", async {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = stranger.select_next_some().await {
                return address;
            }
        }
    })
    .await;
    tokio::spawn(drive(stranger));

    let (a, peer) = (start(1, config()).await, key(2).did());
    a.transport().add_addresses(peer, vec![address.to_string()]);
    let error = within("an error", a.transport().open(peer, LINK_PROTOCOL)).await.err();
    assert_eq!(error, Some(OpenError::Unsupported { peer, protocol: LINK_PROTOCOL }));
    let error = within("an error", a.transport().open(peer, "/dms/none/1")).await.err();
    assert_eq!(error, Some(OpenError::Unsupported { peer, protocol: "/dms/none/1" }));
}

#[tokio::test]
async fn the_death_of_a_peer_is_a_down_and_the_end_of_its_streams() {
    let a = start(1, config()).await;
    let b = start(2, config_to(&a)).await;
    let mut a_events = Events::of(&a);
    a_events.up(b.did()).await;
    let mut pipe = within("a link", a.transport().open(b.did(), LINK_PROTOCOL)).await.unwrap();
    b.shutdown().await;
    a_events.down(b.did()).await;
    assert_eq!(a.transport().connected_peers(), []);
    let mut rest = Vec::new();
    // An end or an error, but never silence.
    let read = within("the end of the stream", pipe.read_to_end(&mut rest)).await;
    assert!(read.is_err() || rest.is_empty());
}

#[tokio::test]
async fn a_peer_that_vanishes_without_a_word_is_found_by_its_missing_pings() {
    let mut quick = config();
    quick.timing.ping_interval = Duration::from_millis(100);
    quick.timing.ping_timeout = Duration::from_millis(300);
    let (a, b) = (start(1, quick).await, start(2, config()).await);

    // A wire that can be cut so that both ends still look open.
    let wire = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", wire.local_addr().unwrap().port());
    let port: u16 = b.listen_addresses()[0].split('/').nth(4).unwrap().parse().unwrap();
    let (cut, mut is_cut) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        let (mut near, _) = wire.accept().await.unwrap();
        let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        tokio::select! {
            biased;
            _ = is_cut.wait_for(|is_cut| *is_cut) => {}
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        }
        std::future::pending::<()>().await;
    });

    let mut a_events = Events::of(&a);
    a.transport().add_addresses(b.did(), vec![address]);
    let _pipe = within("a link", a.transport().open(b.did(), LINK_PROTOCOL)).await.unwrap();
    a_events.up(b.did()).await;
    cut.send(true).unwrap();
    a_events.down(b.did()).await;
}

#[tokio::test]
async fn an_idle_connection_to_a_peer_that_does_not_gossip_ends() {
    let mut idle = config();
    idle.timing.idle_timeout = Duration::from_millis(200);
    let a = start(1, idle).await;
    let mut events = Events::of(&a);
    let mut stranger = ping_only_peer(2);
    stranger.dial(a.listen_addresses()[0].parse::<libp2p::Multiaddr>().unwrap()).unwrap();
    tokio::spawn(drive(stranger));
    events.up(key(2).did()).await;
    events.down(key(2).did()).await;
}

#[tokio::test]
async fn a_peer_that_went_and_came_back_is_dialled_where_it_answered_before() {
    let (a, b) = (start(1, config()).await, start(2, config()).await);
    let place = b.listen_addresses()[0].split("/p2p/").next().unwrap().to_owned();
    let mut events = Events::of(&a);
    a.transport().add_addresses(b.did(), vec![place.clone()]);
    let _pipe = within("a link", a.transport().open(b.did(), LINK_PROTOCOL)).await.unwrap();
    events.up(b.did()).await;
    b.shutdown().await;
    events.down(b.did()).await;
    let error = within("an error", a.transport().open(b.did(), LINK_PROTOCOL)).await.err();
    assert!(matches!(error, Some(OpenError::Unreachable { .. })), "{error:?}");
    let b = start(2, P2pConfig { listen: vec![place], ..config() }).await;
    let _pipe = within("a link", a.transport().open(b.did(), LINK_PROTOCOL)).await.unwrap();
    events.up(b.did()).await;
}

#[tokio::test]
async fn peers_that_dial_each_other_at_the_same_moment_both_get_through() {
    for round in 0..8 {
        let (a, b) = (start(10 + round, config()).await, start(100 + round, config()).await);
        Events::of(&a).echo();
        Events::of(&b).echo();
        a.transport().add_addresses(b.did(), b.listen_addresses());
        b.transport().add_addresses(a.did(), a.listen_addresses());
        let (a_to_b, b_to_a) = within("both links", async {
            tokio::join!(
                a.transport().open(b.did(), LINK_PROTOCOL),
                b.transport().open(a.did(), LINK_PROTOCOL)
            )
        })
        .await;
        for pipe in [a_to_b.unwrap(), b_to_a.unwrap()] {
            assert_eq!(within("an echo", exchange(pipe, b"hello".to_vec())).await.unwrap(), b"hello");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_is_lost_when_many_peers_open_many_at_once() {
    let hub = start(1, config()).await;
    Events::of(&hub).echo();
    let mut spokes = Vec::new();
    for seed in 2..10 {
        spokes.push(start(seed, config_to(&hub)).await);
    }
    let hub_did = hub.did();
    let mut exchanges = Vec::new();
    for spoke in &spokes {
        for number in 0..20_u8 {
            let transport = spoke.transport();
            exchanges.push(tokio::spawn(async move {
                let pipe = transport.open(hub_did, BLOB_PROTOCOL).await.expect("a stream");
                exchange(pipe, vec![number; 1000]).await.expect("an echo") == vec![number; 1000]
            }));
        }
    }
    for exchange in exchanges {
        assert!(within("an exchange", exchange).await.unwrap());
    }
    assert_eq!(hub.status().dropped_streams, 0);
}

#[tokio::test]
async fn garbage_on_the_port_harms_nobody() {
    let a = start(1, config()).await;
    let port: u16 = a.listen_addresses()[0].split('/').nth(4).unwrap().parse().unwrap();
    let mut half_open = Vec::new();
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"\x13/multistream/1.0.0\n\xff\xff\xff\xff", b""]
    {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // It may be refused in the middle.
        let _ = socket.write_all(garbage).await;
        half_open.push(socket);
    }
    let b = start(2, config_to(&a)).await;
    until_connected(&a, &b).await;
    assert_eq!(a.transport().connected_peers(), [b.did()]);
}

#[tokio::test]
async fn a_flood_of_half_open_connections_is_bounded_and_passes() {
    let mut narrow = config();
    narrow.limits.pending_incoming = 4;
    narrow.timing.dial_timeout = Duration::from_secs(1);
    let a = start(1, narrow).await;
    let port: u16 = a.listen_addresses()[0].split('/').nth(4).unwrap().parse().unwrap();
    let mut half_open = Vec::new();
    for _ in 0..64 {
        half_open.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    // Refused while the flood lasts; the bootstrap dial is repeated until it passes.
    let b = start(2, config_to(&a)).await;
    until_connected(&a, &b).await;
}

#[tokio::test]
async fn after_shutdown_everything_says_closed() {
    let a = start(1, config()).await;
    let transport = a.transport();
    within("shutdown", a.shutdown()).await;
    within("a second shutdown", a.shutdown()).await;
    assert_eq!(
        within("open", transport.open(key(2).did(), LINK_PROTOCOL)).await.err(),
        Some(OpenError::Closed)
    );
    assert!(transport.listen_addresses().is_empty() && transport.connected_peers().is_empty());
}

#[tokio::test]
async fn an_open_that_waits_for_a_dial_is_ended_by_shutdown() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port());
    let mut slow = config();
    slow.timing.dial_timeout = DEADLINE * 2;
    let (a, peer) = (start(1, slow).await, key(2).did());
    a.transport().add_addresses(peer, vec![address]);
    let opening = tokio::spawn(a.transport().open(peer, LINK_PROTOCOL));
    until("the dial", &a, |status| status.dial_count == 1).await;
    within("shutdown", a.shutdown()).await;
    assert_eq!(within("the open", opening).await.unwrap().err(), Some(OpenError::Closed));
}

#[tokio::test]
async fn a_peer_that_only_dials_needs_no_listener() {
    let a = start(1, config()).await;
    let b = start(2, P2pConfig { listen: Vec::new(), ..config_to(&a) }).await;
    until_connected(&a, &b).await;
    Events::of(&b).echo();
    assert!(b.listen_addresses().is_empty());
    let pipe = within("a link back", a.transport().open(b.did(), LINK_PROTOCOL)).await.unwrap();
    assert_eq!(within("an echo", exchange(pipe, b"hello".to_vec())).await.unwrap(), b"hello");
}
