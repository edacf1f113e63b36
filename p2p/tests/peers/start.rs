//! Starting, listening, and finding bootstrap peers that come late or come back.

use std::net::TcpListener;

use dms_p2p::{P2p, P2pConfig, P2pError};

use crate::harness::{Events, config, config_to, key, start, until, until_connected, within};

/// A configuration that listens on the port of `address`.
fn on_port_of(address: &str) -> P2pConfig {
    let place = address.split("/p2p/").next().unwrap();
    P2pConfig { listen: vec![place.to_owned()], ..config() }
}

#[tokio::test]
async fn listen_addresses_are_bound_when_start_returns_and_name_the_key() {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned(), "/ip4/0.0.0.0/tcp/0".to_owned()];
    let a = start(1, P2pConfig { listen, ..config() }).await;
    let addresses = a.listen_addresses();
    assert!(addresses.len() >= 2, "{addresses:?}");
    for address in addresses {
        assert!(address.ends_with(&format!("/p2p/{}", a.did().peer_id())), "{address}");
        assert!(!address.contains("/tcp/0"), "{address}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let a = start(1, config()).await;
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign_address = format!("/ip4/127.0.0.1/tcp/{}", foreign.local_addr().unwrap().port());
    for taken in [a.listen_addresses()[0].split("/p2p/").next().unwrap().to_owned(), foreign_address] {
        match within("start", P2p::start(&key(2), on_port_of(&taken))).await {
            Err(P2pError::ListenFailed { address, reason }) => {
                assert_eq!(address, taken);
                assert!(reason.contains("in use"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_address_of_another_host_or_transport_cannot_be_listened_on() {
    for listen in ["/ip4/192.0.2.1/tcp/0", "/ip4/127.0.0.1/udp/0", "/ip4/127.0.0.1/tcp/0/ws"] {
        let result =
            within("start", P2p::start(&key(1), P2pConfig { listen: vec![listen.into()], ..config() })).await;
        assert!(matches!(result, Err(P2pError::ListenFailed { .. })), "{listen}: {result:?}");
    }
    let result =
        within("start", P2p::start(&key(1), P2pConfig { listen: vec!["x".into()], ..config() })).await;
    assert!(matches!(result, Err(P2pError::Config(_))), "{result:?}");
}

#[tokio::test]
async fn a_bootstrap_peer_that_appears_later_is_found() {
    let address = {
        let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("/ip4/127.0.0.1/tcp/{}", reserved.local_addr().unwrap().port())
    };
    for bootstrap in [address.clone(), format!("{address}/p2p/{}", key(2).did().peer_id())] {
        let a = start(1, P2pConfig { bootstrap: vec![bootstrap], ..config() }).await;
        until("the first dial", &a, |status| status.dial_count == 0).await;
        let b = start(2, on_port_of(&address)).await;
        until_connected(&a, &b).await;
        b.shutdown().await;
        a.shutdown().await;
    }
}

#[tokio::test]
async fn a_bootstrap_peer_that_was_lost_is_connected_again() {
    let b = start(2, config()).await;
    let address = b.listen_addresses()[0].clone();
    let a = start(1, config_to(&b)).await;
    let mut events = Events::of(&a);
    events.up(b.did()).await;
    b.shutdown().await;
    events.down(b.did()).await;
    let b = start(2, on_port_of(&address)).await;
    events.up(b.did()).await;
}

#[tokio::test]
async fn a_bootstrap_address_with_another_key_is_never_connected() {
    let b = start(2, config()).await;
    let place = b.listen_addresses()[0].split("/p2p/").next().unwrap().to_owned();
    let mut wrong = config();
    wrong.bootstrap = vec![format!("{place}/p2p/{}", key(3).did().peer_id())];
    let a = start(1, wrong).await;
    // A peer that is dialled after it, at the same place, comes first and alone.
    let mut events = Events::of(&a);
    a.transport().add_addresses(b.did(), vec![place]);
    let link = a.transport().open(b.did(), dms_actors::transport::LINK_PROTOCOL);
    let _pipe = within("a link", link).await.unwrap();
    events.up(b.did()).await;
    assert_eq!(a.transport().connected_peers(), [b.did()]);
}

#[tokio::test]
async fn our_own_address_among_the_bootstrap_peers_is_harmless() {
    let b = start(2, config()).await;
    let own = {
        let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("/ip4/127.0.0.1/tcp/{}", reserved.local_addr().unwrap().port())
    };
    let mut config = on_port_of(&own);
    config.bootstrap = vec![own.clone(), format!("{own}/p2p/{}", key(1).did().peer_id())];
    config.bootstrap.extend(b.listen_addresses());
    let a = start(1, config).await;
    until_connected(&a, &b).await;
    until("the dials to end", &a, |status| status.dial_count == 0).await;
    assert_eq!(a.transport().connected_peers(), [b.did()]);
}
