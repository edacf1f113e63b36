//! Names in bootstrap addresses.

use dms_p2p::P2pConfig;

use crate::harness::{config, start, until, until_connected, within};

#[tokio::test]
async fn a_bootstrap_peer_is_found_by_its_name() {
    // The hosts file knows this name everywhere, so no name server is asked.
    let a = start(1, config()).await;
    for kind in ["dns4", "dns"] {
        let named = a.listen_addresses()[0].replace("/ip4/127.0.0.1/", &format!("/{kind}/localhost/"));
        let b = start(2, P2pConfig { bootstrap: vec![named], ..config() }).await;
        until_connected(&a, &b).await;
        for peer in [&a, &b] {
            until("the directory", peer, |status| status.routing_peer_count == 1).await;
        }
        within("shutdown", b.shutdown()).await;
        until("it to be gone", &a, |status| status.connection_count == 0).await;
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_failed_dial_and_nothing_more() {
    let a = start(1, config()).await;
    // Nothing under this one ever resolves (RFC 6761).
    let mut bootstrap = vec!["/dns4/nobody.invalid/tcp/4001".to_owned()];
    bootstrap.extend(a.listen_addresses());
    let b = start(2, P2pConfig { bootstrap, ..config() }).await;
    until_connected(&a, &b).await;
}
