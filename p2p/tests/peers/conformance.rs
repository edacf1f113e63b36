//! Both ways to have libp2p under actors keep every promise of a transport.

use std::sync::atomic::{AtomicU8, Ordering};

use dms_actors::testing::{Member, transport_conformance};
use dms_p2p::{P2pConfig, libp2p};
use libp2p::identity::Keypair;

use crate::embedded::{Own, own_swarm};
use crate::harness::{config, key, start};

/// A seed that no other peer of this test has.
fn seed(next: &AtomicU8) -> u8 {
    next.fetch_add(1, Ordering::Relaxed)
}

async fn conforms(listen: &'static str) {
    let next = AtomicU8::new(1);
    transport_conformance(|| async {
        let mut peers = Vec::new();
        for _ in 0..2 {
            let config = P2pConfig { listen: vec![listen.to_owned()], ..config() };
            peers.push(start(seed(&next), config).await);
        }
        let [a, b] = <[_; 2]>::try_from(peers).expect("two");
        a.transport().add_addresses(b.did(), b.listen_addresses());
        b.transport().add_addresses(a.did(), a.listen_addresses());
        [a, b].map(|peer| {
            let (did, transport) = (peer.did(), peer.transport());
            Member::new(did, transport, async move { peer.shutdown().await })
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_over_tcp_keeps_the_promises_of_a_transport() {
    conforms("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_over_quic_keeps_the_promises_of_a_transport() {
    conforms("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_behaviour_in_a_swarm_of_the_users_keeps_the_promises_of_a_transport() {
    let next = AtomicU8::new(1);
    transport_conformance(|| async {
        let mut peers: Vec<Own> = Vec::new();
        for _ in 0..2 {
            let identity = Keypair::ed25519_from_bytes([seed(&next); 32]).unwrap();
            peers.push(own_swarm(identity, "/ip4/127.0.0.1/tcp/0").await);
        }
        let [a, b] = <[_; 2]>::try_from(peers).unwrap_or_else(|_| panic!("two"));
        a.transport.add_addresses(b.did, b.transport.listen_addresses());
        b.transport.add_addresses(a.did, a.transport.listen_addresses());
        [a, b].map(|mut own| {
            let transport = own.transport.clone();
            Member::new(own.did, transport, async move { own.kill().await })
        })
    })
    .await;
}

#[test]
fn keys_of_the_tests_are_those_of_libp2p() {
    let identity = Keypair::ed25519_from_bytes([3; 32]).unwrap();
    assert_eq!(dms_p2p::did_of_peer(&identity.public().to_peer_id()), Ok(key(3).did()));
}
