//! A mesh with a pre-shared key.

use dms_actors::transport::LINK_PROTOCOL;
use dms_p2p::{P2p, P2pConfig, P2pError, PreSharedKey};

use crate::harness::{Events, config, config_to, echo, exchange, key, start, until, within};

fn with_key(config: P2pConfig, byte: u8) -> P2pConfig {
    P2pConfig { pre_shared_key: Some(PreSharedKey::new([byte; 32])), ..config }
}

#[tokio::test]
async fn those_who_have_the_key_speak_and_those_who_have_not_do_not_connect() {
    let a = start(1, with_key(config(), 7)).await;
    let mut events = Events::of(&a);
    for outsider in [start(2, config_to(&a)).await, start(3, with_key(config_to(&a), 8)).await] {
        until("a dial in vain", &outsider, |status| !status.unreached_bootstraps.is_empty()).await;
        assert_eq!(outsider.status().connected_peers, []);
    }
    let b = start(4, with_key(config_to(&a), 7)).await;
    // The first that ever came up.
    events.up(b.did()).await;
    let link = within("a link", b.transport().open(a.did(), LINK_PROTOCOL)).await.unwrap();
    tokio::spawn(echo(events.opened(b.did(), LINK_PROTOCOL).await));
    assert_eq!(within("an echo", exchange(link, b"word".to_vec())).await.unwrap(), b"word");
}

#[tokio::test]
async fn quic_knows_no_such_key_and_is_refused_by_name() {
    let listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()];
    let started = P2p::start(&key(1), with_key(P2pConfig { listen, ..config() }, 7)).await;
    let Err(P2pError::Config(error)) = started else { panic!("a private mesh over QUIC") };
    assert!(error.to_string().contains("a private mesh speaks TCP alone"), "{error}");
}
