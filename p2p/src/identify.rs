//! identify: what peers say about themselves, of which only little is used.
//!
//! The loop takes every event apart with [`said`]. A claim never makes an address ours or confirms
//! anything: it adds to the address book and the routing table, within the bounds kept there, and a
//! peer that says it is of another network is let go.

use libp2p::multiaddr::Multiaddr;
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, StreamProtocol, identify, identity};

/// Before the network's name in the protocol version of every peer of ours.
const FAMILY: &str = "dms/";
/// The software and its version, shown to peers.
const AGENT_VERSION: &str = concat!("dms/", env!("CARGO_PKG_VERSION"));
/// Longest part of a peer's agent that is shown.
const MAX_AGENT_LENGTH: usize = 64;

/// What a peer said about itself.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) protocol_version: String,
    /// Its software: printable and short, whatever was sent.
    pub(crate) agent: String,
    /// Where it says that it listens.
    pub(crate) addresses: Vec<Multiaddr>,
    /// Where it sees us.
    pub(crate) observed: Multiaddr,
    pub(crate) protocols: Vec<StreamProtocol>,
}

/// The behaviour: new listen addresses are pushed at once. libp2p's own cache is off, because a dial
/// must know all of its addresses from the address book, or `NoRoute` would not be true.
pub(crate) fn behaviour(key: &identity::Keypair, network: &str) -> identify::Behaviour {
    identify::Behaviour::new(
        identify::Config::new(format!("{FAMILY}{network}/1"), key.public())
            .with_agent_version(AGENT_VERSION.to_owned())
            .with_push_listen_addr_updates(true)
            .with_cache_size(0),
    )
}

/// What a peer said, if the event is that.
pub(crate) fn said(event: identify::Event) -> Option<Said> {
    match event {
        identify::Event::Received { connection_id, peer_id, info } => Some(Said {
            peer: peer_id,
            connection: connection_id,
            protocol_version: info.protocol_version,
            agent: printable(&info.agent_version),
            addresses: info.listen_addrs,
            observed: info.observed_addr,
            protocols: info.protocols,
        }),
        identify::Event::Error { peer_id, error, .. } => {
            tracing::debug!(peer = %peer_id, %error, "identify failed");
            None
        }
        identify::Event::Sent { .. } | identify::Event::Pushed { .. } => None,
    }
}

/// True if a protocol version names a network of ours by another name than `network`. A version of
/// other software is nobody's network: such a peer may well speak our topics.
pub(crate) fn is_of_another_network(protocol_version: &str, network: &str) -> bool {
    protocol_version
        .strip_prefix(FAMILY)
        .is_some_and(|rest| rest.split('/').next().is_some_and(|named| named != network))
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_AGENT_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_peer_that_names_another_network_of_ours_is_of_another_network() {
        let table = [
            ("dms/test/1", false),
            ("dms/test/2", false),
            ("dms/other/1", true),
            ("dms/test-2/1", true),
            ("dms/", true),
            ("/dms/1", false),
            ("ipfs/0.1.0", false),
            ("", false),
        ];
        for (version, expected) in table {
            assert_eq!(is_of_another_network(version, "test"), expected, "{version}");
        }
    }

    #[test]
    fn an_agent_is_short_and_cannot_write_to_a_terminal() {
        assert_eq!(printable("dms/1\u{1b}[2J\n"), "dms/1[2J");
        assert_eq!(printable(&"x".repeat(1000)).len(), MAX_AGENT_LENGTH);
    }
}
