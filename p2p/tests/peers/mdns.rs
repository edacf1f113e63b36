//! Finding each other on the local network, where that has multicast.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use dms_p2p::P2pConfig;

use crate::harness::{config, start, until, until_connected, within};

/// A group of the range for private use, to ask whether multicast works at all.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 42, 99);

fn looking(network: &str) -> P2pConfig {
    P2pConfig {
        network: network.to_owned(),
        listen: vec!["/ip4/0.0.0.0/tcp/0".to_owned()],
        mdns: true,
        ..config()
    }
}

/// Whether what is sent to a group on the way to the internet comes back; why not otherwise.
fn multicast() -> Result<(), String> {
    let attempt = || -> std::io::Result<Option<String>> {
        let route = UdpSocket::bind("0.0.0.0:0")?;
        route.connect("192.0.2.1:9")?;
        let SocketAddr::V4(local) = route.local_addr()? else { return Ok(Some("no IPv4".to_owned())) };
        if local.ip().is_loopback() {
            return Ok(Some("only loopback".to_owned()));
        }
        let listening = UdpSocket::bind("0.0.0.0:0")?;
        listening.join_multicast_v4(&GROUP, local.ip())?;
        listening.set_read_timeout(Some(Duration::from_secs(2)))?;
        let sending = UdpSocket::bind((*local.ip(), 0))?;
        sending.send_to(b"?", (GROUP, listening.local_addr()?.port()))?;
        listening.recv(&mut [0; 1]).map(|_| None)
    };
    match attempt() {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => Err(reason),
        Err(error) => Err(error.to_string()),
    }
}

fn skip(reason: &str) {
    let line = format!("peers that find each other by mDNS: no multicast here ({reason})");
    println!("skipped: {line}");
    if let Some(log) = std::env::var_os("DMS_SKIP_LOG").filter(|log| !log.is_empty()) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
        writeln!(file.unwrap(), "{line}").unwrap();
    }
}

#[tokio::test]
async fn peers_of_one_network_find_each_other_and_another_network_is_let_go() {
    if let Err(reason) = tokio::task::spawn_blocking(multicast).await.unwrap() {
        return skip(&reason);
    }
    let network = format!("mdns-{}", std::process::id());
    let other = start(3, looking(&format!("{network}-b"))).await;
    let (a, b) = (start(1, looking(&network)).await, start(2, looking(&network)).await);
    until_connected(&a, &b).await;
    until("a find", &a, |status| status.mdns_found_count > 0 || status.connection_count > 0).await;
    until("the table", &a, |status| status.routing_peer_count == 1).await;
    // The other one is found, too, and does not stay.
    until("the other one to be gone", &other, |status| status.connection_count == 0).await;
    assert_eq!(other.status().routing_peer_count, 0);
    for peer in [&a, &b, &other] {
        within("shutdown", peer.shutdown()).await;
    }
}

#[tokio::test]
async fn a_peer_that_looks_around_starts_even_where_there_is_nothing_to_see() {
    let a = start(1, P2pConfig { mdns: true, network: "mdns-alone".to_owned(), ..config() }).await;
    assert!(!a.listen_addresses().is_empty());
}
