//! identify: what peers say about themselves, of which only dialable addresses are used.
//!
//! The loop hands every event to [`on_event`]. A claim never makes an address ours or confirms
//! anything; it only adds to the address book, within the bounds kept there.

use libp2p::multiaddr::Multiaddr;
use libp2p::{identify, identity};

use crate::addresses::AddressBook;

/// The protocol family, shown to peers and compared for the log only.
const PROTOCOL_VERSION: &str = "/dms/1";
/// The software and its version, shown to peers.
const AGENT_VERSION: &str = concat!("dms/", env!("CARGO_PKG_VERSION"));

/// The behaviour: new listen addresses are pushed at once. libp2p's own cache is off, because a dial
/// must know all of its addresses from the address book, or `NoRoute` would not be true.
pub(crate) fn behaviour(key: &identity::Keypair) -> identify::Behaviour {
    identify::Behaviour::new(
        identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
            .with_agent_version(AGENT_VERSION.to_owned())
            .with_push_listen_addr_updates(true)
            .with_cache_size(0),
    )
}

/// Takes the addresses out of what a peer said; `remote` is where it is connected.
pub(crate) fn on_event(event: identify::Event, remote: Option<&Multiaddr>, book: &mut AddressBook) {
    match event {
        identify::Event::Received { peer_id, info, .. } => {
            if info.protocol_version != PROTOCOL_VERSION {
                tracing::debug!(peer = %peer_id, "peer is of another protocol family");
            }
            if let Some(remote) = remote {
                book.add_heard(peer_id, &info.listen_addrs, remote);
            }
        }
        identify::Event::Error { peer_id, error, .. } => {
            tracing::debug!(peer = %peer_id, %error, "identify failed")
        }
        identify::Event::Sent { .. } | identify::Event::Pushed { .. } => {}
    }
}
