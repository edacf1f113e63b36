//! Records, providers and peers found through peers: what is kept, refused, and answered when alone.

use std::sync::Arc;
use std::time::Duration;

use dms_actors::directory::{
    Directory, DirectoryError, MAX_KEY_LENGTH, MAX_RECORD_LENGTH, RecordCheck, RecordKey,
};
use dms_actors::transport::{BLOB_PROTOCOL, LINK_PROTOCOL, OpenError};
use dms_p2p::{Direction, P2p, P2pConfig, TransportKind};

use crate::harness::{Events, config, config_to, exchange, key, start, until, until_connected, within};

const TTL: Duration = Duration::from_secs(600);
/// The first byte of a value that is refused.
const BAD: u8 = 0xff;

/// The first byte of a value is its sequence.
#[derive(Debug)]
struct FirstByte;

impl RecordCheck for FirstByte {
    fn check(&self, _: &RecordKey, value: &[u8]) -> Result<u64, String> {
        match value.first() {
            Some(&BAD) | None => Err("it is bad".to_owned()),
            Some(sequence) => Ok(u64::from(*sequence)),
        }
    }
}

fn checking(config: P2pConfig) -> P2pConfig {
    P2pConfig { record_check: Some(Arc::new(FirstByte)), ..config }
}

fn record_key(name: &str) -> RecordKey {
    RecordKey(name.as_bytes().to_vec())
}

async fn until_routing(peer: &P2p, count: usize) {
    until("the routing table", peer, |status| status.routing_peer_count >= count).await;
}

/// Four peers, of which each was told of the one before it only.
async fn chain() -> [P2p; 4] {
    let a = start(1, checking(config())).await;
    let b = start(2, checking(config_to(&a))).await;
    let c = start(3, checking(config_to(&b))).await;
    let d = start(4, checking(config_to(&c))).await;
    for (peer, neighbours) in [(&a, 1), (&b, 2), (&c, 2), (&d, 1)] {
        until_routing(peer, neighbours).await;
    }
    [a, b, c, d]
}

/// Puts until somebody took it, then asks until it is found.
async fn until_found(by: &P2p, name: &str, value: &[u8]) {
    within("the record", async {
        while by.directory().get(record_key(name)).await != Ok(vec![value.to_vec()]) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn until_kept(by: &P2p, count: usize) {
    until("the record to be kept", by, |status| status.record_count >= count).await;
}

async fn put(by: &P2p, name: &str, value: &[u8]) {
    within("put", by.directory().put(record_key(name), value.to_vec(), TTL)).await.expect("taken");
}

#[tokio::test]
async fn a_peer_is_reached_that_nobody_gave_an_address_of() {
    let [a, _b, _c, d] = chain().await;
    Events::of(&d).echo();
    let pipe = within("a stream", a.transport().open(d.did(), BLOB_PROTOCOL)).await.expect("found");
    assert_eq!(within("an echo", exchange(pipe, b"hello".to_vec())).await.unwrap(), b"hello");
}

#[tokio::test]
async fn what_one_end_of_a_chain_puts_and_provides_is_found_at_the_other() {
    let [a, _b, _c, d] = chain().await;
    put(&a, "card", b"\x01card").await;
    until_found(&d, "card", b"\x01card").await;

    within("provide", a.directory().provide(record_key("class"))).await.unwrap();
    within("the provider", async {
        while d.directory().providers(record_key("class")).await != Ok(vec![a.did()]) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(within("providers", a.directory().providers(record_key("class"))).await, Ok(vec![]));
    assert_eq!(within("nothing", d.directory().get(record_key("nothing"))).await, Ok(vec![]));
    assert_eq!(within("nobody", d.directory().providers(record_key("nothing"))).await, Ok(vec![]));
}

#[tokio::test]
async fn a_refused_record_is_not_kept_and_an_older_one_does_not_replace() {
    let keeper = start(1, checking(config())).await;
    // These two send whatever they like.
    let (first, second) = (start(2, config_to(&keeper)).await, start(3, config_to(&keeper)).await);
    until_routing(&keeper, 2).await;
    until_routing(&first, 1).await;
    until_routing(&second, 1).await;

    put(&first, "sequenced", b"\x05five").await;
    until_kept(&keeper, 1).await;
    put(&second, "sequenced", b"\x04four").await;
    put(&second, "bad", &[BAD]).await;
    // Checks are in order: once this one is kept, those before it are decided.
    put(&second, "last", b"\x01last").await;
    until_kept(&keeper, 2).await;

    for peer in [&first, &second] {
        within("shutdown", peer.shutdown()).await;
    }
    until("everybody to be gone", &keeper, |status| status.connection_count == 0).await;
    let directory = keeper.directory();
    for (name, kept) in [("sequenced", vec![b"\x05five".to_vec()]), ("bad", vec![])] {
        within(name, async {
            while directory.get(record_key(name)).await != Ok(kept.clone()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!(keeper.status().record_count, 2);
    // What its own check refuses is never sent.
    let refused = within("put", directory.put(record_key("bad"), vec![BAD], TTL)).await;
    assert!(matches!(refused, Err(DirectoryError::NoAnswer(_))), "{refused:?}");
}

#[tokio::test]
async fn a_newer_record_replaces_an_older_one() {
    let a = start(1, checking(config())).await;
    let b = start(2, checking(config_to(&a))).await;
    until_routing(&a, 1).await;
    until_routing(&b, 1).await;
    put(&a, "card", b"\x01one").await;
    until_found(&b, "card", b"\x01one").await;
    put(&a, "card", b"\x02two").await;
    until_found(&b, "card", b"\x02two").await;
}

#[tokio::test]
async fn what_was_provided_alone_is_told_to_whoever_comes() {
    let a = start(1, config()).await;
    for name in ["class", "withdrawn"] {
        within("provide", a.directory().provide(record_key(name))).await.unwrap();
    }
    a.directory().stop_providing(record_key("withdrawn"));
    let b = start(2, config_to(&a)).await;
    until_routing(&b, 1).await;
    within("the provider", async {
        while b.directory().providers(record_key("class")).await != Ok(vec![a.did()]) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(within("nobody", b.directory().providers(record_key("withdrawn"))).await, Ok(vec![]));
}

#[tokio::test]
async fn a_lonely_peer_is_told_so_at_once() {
    let a = start(1, config()).await;
    let directory = a.directory();
    let alone = within("put", directory.put(record_key("card"), vec![1], TTL)).await;
    assert_eq!(alone, Err(DirectoryError::Alone));
    assert_eq!(within("get", directory.get(record_key("card"))).await, Ok(vec![]));
    assert_eq!(within("providers", directory.providers(record_key("card"))).await, Ok(vec![]));
    assert_eq!(within("provide", directory.provide(record_key("card"))).await, Ok(()));
    within("shutdown", a.shutdown()).await;
    assert_eq!(within("get", directory.get(record_key("card"))).await, Err(DirectoryError::Closed));
}

#[tokio::test]
async fn what_is_too_long_is_refused_and_what_just_fits_is_found() {
    let a = start(1, config()).await;
    let b = start(2, checking(config_to(&a))).await;
    until_routing(&a, 1).await;
    until_routing(&b, 1).await;
    let directory = a.directory();
    let long_key = RecordKey(vec![1; MAX_KEY_LENGTH + 1]);
    let results = [
        within("put", directory.put(long_key.clone(), vec![1], TTL)).await,
        within("put", directory.put(record_key("card"), vec![1; MAX_RECORD_LENGTH + 1], TTL)).await,
        within("get", directory.get(long_key.clone())).await.map(drop),
        within("provide", directory.provide(long_key.clone())).await,
        within("providers", directory.providers(long_key)).await.map(drop),
    ];
    for result in results {
        assert!(matches!(result, Err(DirectoryError::TooLong { .. })), "{result:?}");
    }
    let full_key = RecordKey(vec![1; MAX_KEY_LENGTH]);
    let full = vec![1; MAX_RECORD_LENGTH];
    within("put", directory.put(full_key.clone(), full.clone(), TTL)).await.expect("taken");
    until_kept(&b, 1).await;
    within("shutdown", a.shutdown()).await;
    assert!(within("get", b.directory().get(full_key)).await.unwrap() == [full]);
}

#[tokio::test]
async fn more_queries_than_are_allowed_are_busy_and_the_rest_are_answered() {
    let a = start(1, config()).await;
    let b = start(2, config_to(&a)).await;
    until_routing(&b, 1).await;
    let asked: Vec<_> =
        (0..200).map(|number| tokio::spawn(b.directory().get(record_key(&number.to_string())))).collect();
    let (mut answered, mut busy) = (0, 0);
    for result in asked {
        match within("an answer", result).await.unwrap() {
            Ok(values) => answered += usize::from(values.is_empty()),
            Err(DirectoryError::Busy) => busy += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(answered + busy, 200);
    assert!(answered >= 64, "{answered}");
}

#[tokio::test]
async fn a_peer_of_another_network_is_let_go_and_in_no_table() {
    let a = start(1, config()).await;
    let mut events = Events::of(&a);
    let foreign = P2pConfig { network: "other".to_owned(), ..config_to(&a) };
    let b = start(2, foreign).await;
    events.up(b.did()).await;
    events.down(b.did()).await;
    // Its bootstrap dials go on; a peer of ours is found beside it.
    let c = start(3, config_to(&a)).await;
    until_routing(&a, 1).await;
    until_routing(&c, 1).await;
    assert_eq!((a.status().routing_peer_count, b.status().routing_peer_count), (1, 0));
    assert_eq!(
        within("put", b.directory().put(record_key("card"), vec![1], TTL)).await,
        Err(DirectoryError::Alone)
    );
}

#[tokio::test]
async fn in_a_mesh_an_unknown_peer_has_no_route_and_a_dead_one_is_unreachable() {
    let [a, _b, _c, d] = chain().await;
    let stranger = key(9).did();
    let error = within("an error", a.transport().open(stranger, LINK_PROTOCOL)).await.err();
    assert_eq!(error, Some(OpenError::NoRoute(stranger)));

    Events::of(&d).echo();
    drop(within("a stream", a.transport().open(d.did(), BLOB_PROTOCOL)).await.expect("found"));
    within("shutdown", d.shutdown()).await;
    until("the dead one to be gone", &a, |status| !status.connected_peers.contains(&d.did())).await;
    let error = within("an error", a.transport().open(d.did(), LINK_PROTOCOL)).await.err();
    assert!(matches!(error, Some(OpenError::Unreachable { .. } | OpenError::NoRoute(_))), "{error:?}");
}

#[tokio::test]
async fn connected_peers_are_shown_with_their_connection() {
    let a = start(1, P2pConfig { listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()], ..config() }).await;
    let mut quick = config_to(&a);
    quick.timing.ping_interval = Duration::from_millis(100);
    let b = start(2, quick).await;
    until_connected(&a, &b).await;
    within("a ping", async {
        while b.peers().first().is_none_or(|peer| peer.round_trip.is_none() || peer.agent.is_empty()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let peers = b.peers();
    assert_eq!(peers.len(), 1);
    assert_eq!(
        (peers[0].did, peers[0].transport, peers[0].direction),
        (a.did(), TransportKind::Quic, Direction::Dialled)
    );
    assert!(a.listen_addresses()[0].starts_with(&peers[0].address), "{peers:?}");
    assert!(peers[0].agent.starts_with("dms/"), "{peers:?}");
    assert_eq!(a.peers()[0].direction, Direction::Accepted);
    within("shutdown", b.shutdown()).await;
    assert_eq!(b.peers(), []);
}

/// The trait object that the node gets.
#[tokio::test]
async fn the_directory_is_shared() {
    let a = start(1, config()).await;
    let (one, other): (Arc<dyn Directory>, Arc<dyn Directory>) = (a.directory(), a.directory());
    within("provide", one.provide(record_key("class"))).await.unwrap();
    other.stop_providing(record_key("class"));
    assert_eq!(within("providers", other.providers(record_key("class"))).await, Ok(vec![]));
}
