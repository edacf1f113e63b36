//! QUIC beside TCP: which is used, what happens when one of them leads nowhere.

use std::net::UdpSocket;

use dms_actors::transport::{BLOB_PROTOCOL, LINK_PROTOCOL, OpenError};
use dms_p2p::{P2p, P2pConfig, P2pError};

use crate::harness::{Events, config, config_to, exchange, key, start, until_connected, within};

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";

fn listening(listen: &[&str]) -> P2pConfig {
    P2pConfig { listen: listen.iter().map(|address| (*address).to_owned()).collect(), ..config() }
}

/// A QUIC address of this host at which nobody listens.
fn dead_quic_address() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    format!("/ip4/127.0.0.1/udp/{}/quic-v1", socket.local_addr().unwrap().port())
}

async fn echo_over(from: &P2p, to: &P2p) {
    Events::of(to).echo();
    let pipe = within("a stream", from.transport().open(to.did(), BLOB_PROTOCOL)).await.expect("opened");
    let long: Vec<u8> = (0..1024 * 1024_u32).map(|index| (index % 251) as u8).collect();
    assert!(within("an echo", exchange(pipe, long.clone())).await.unwrap() == long);
}

#[tokio::test]
async fn two_peers_that_only_have_quic_find_and_hear_each_other() {
    let a = start(1, listening(&[QUIC])).await;
    let b = start(2, P2pConfig { bootstrap: a.listen_addresses(), ..listening(&[QUIC]) }).await;
    until_connected(&a, &b).await;
    for address in a.listen_addresses().iter().chain(&b.listen_addresses()) {
        assert!(address.contains("/quic-v1/p2p/"), "{address}");
    }
    echo_over(&a, &b).await;
    echo_over(&b, &a).await;
}

#[tokio::test]
async fn a_peer_with_both_and_a_peer_with_tcp_only_reach_each_other() {
    let (both, tcp) = (start(1, listening(&[QUIC, TCP])).await, start(2, listening(&[TCP])).await);
    both.transport().add_addresses(tcp.did(), tcp.listen_addresses());
    echo_over(&both, &tcp).await;
    let late = start(3, listening(&[TCP])).await;
    late.transport().add_addresses(both.did(), both.listen_addresses());
    echo_over(&late, &both).await;
}

#[tokio::test]
async fn a_dead_address_of_one_transport_does_not_hide_the_live_one_of_the_other() {
    let (quic, tcp) = (start(1, listening(&[QUIC])).await, start(2, listening(&[TCP])).await);
    let dialling = start(3, config()).await;
    let dead_tcp = format!("/ip4/127.0.0.1/tcp/{}", {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().port()
    });
    for (peer, dead) in [(&quic, dead_tcp), (&tcp, dead_quic_address())] {
        let mut addresses = vec![dead];
        addresses.extend(peer.listen_addresses());
        dialling.transport().add_addresses(peer.did(), addresses);
        echo_over(&dialling, peer).await;
    }
}

#[tokio::test]
async fn a_udp_port_in_use_is_an_error_that_names_it() {
    let a = start(1, listening(&[QUIC])).await;
    let foreign = UdpSocket::bind("127.0.0.1:0").unwrap();
    let foreign_address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", foreign.local_addr().unwrap().port());
    for taken in [a.listen_addresses()[0].split("/p2p/").next().unwrap().to_owned(), foreign_address] {
        match within("start", P2p::start(&key(2), listening(&[&taken]))).await {
            Err(P2pError::ListenFailed { address, reason }) => {
                assert_eq!(address, taken);
                assert!(reason.contains("in use"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_quic_peer_that_vanishes_without_a_word_goes_down_and_is_then_unreachable() {
    let a = start(1, listening(&[QUIC])).await;
    let mut events = Events::of(&a);
    let bootstrap = a.listen_addresses();
    // A runtime of its own, which takes the peer with it as a killed process would: nothing is closed.
    let (doomed, b) = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let b = runtime.block_on(start(2, P2pConfig { bootstrap, ..listening(&[QUIC]) }));
        (runtime, b)
    })
    .await
    .unwrap();
    events.up(b.did()).await;
    let did = b.did();
    a.transport().add_addresses(did, b.listen_addresses());
    doomed.shutdown_background();
    events.down(did).await;
    let error = within("an error", a.transport().open(did, LINK_PROTOCOL)).await.err();
    assert!(matches!(error, Some(OpenError::Unreachable { .. })), "{error:?}");
}

#[tokio::test]
async fn a_wrong_quic_bootstrap_address_does_no_harm() {
    let a = start(1, config()).await;
    let mut lost = config_to(&a);
    lost.bootstrap.insert(0, dead_quic_address());
    let b = start(2, lost).await;
    until_connected(&a, &b).await;
}
