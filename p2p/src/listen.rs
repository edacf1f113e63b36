//! Binding listeners: every one must be bound before a peer counts as started.
//!
//! libp2p lets two processes of one user listen on one TCP port at once (SO_REUSEPORT), and the system
//! then deals connections out to either: a second node on the same port would half work. So a port that
//! was asked for by number is probed first, without that option. Two nodes that start within the same
//! millisecond can still slip through. UDP ports (QUIC) are probed too, for the same error.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;

use crate::node::P2pError;

/// Fails if `address` names a TCP or UDP port that somebody listens on.
pub(crate) fn probe(address: &Multiaddr) -> Result<(), P2pError> {
    let bound = match place(address) {
        Some(Place::Tcp(socket)) if socket.port() != 0 => TcpListener::bind(socket).map(drop),
        Some(Place::Udp(socket)) if socket.port() != 0 => UdpSocket::bind(socket).map(drop),
        _ => return Ok(()),
    };
    bound.map_err(|error| failed(address, describe(&error)))
}

/// The error of one address.
pub(crate) fn failed(address: &Multiaddr, reason: impl Into<String>) -> P2pError {
    P2pError::ListenFailed { address: address.to_string(), reason: reason.into() }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
        _ => error.to_string(),
    }
}

/// Where an address is, as the system counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Udp(SocketAddr),
}

/// The place of `address`, if it begins with one.
pub(crate) fn place(address: &Multiaddr) -> Option<Place> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(Place::Tcp(SocketAddr::new(ip, port))),
        Protocol::Udp(port) => Some(Place::Udp(SocketAddr::new(ip, port))),
        _ => None,
    }
}

/// The listeners that are not bound yet.
#[derive(Debug, Default)]
pub(crate) struct Pending(Vec<(ListenerId, Multiaddr)>);

impl Pending {
    /// A listener was begun.
    pub(crate) fn add(&mut self, listener: ListenerId, address: Multiaddr) {
        self.0.push((listener, address));
    }

    /// A listener has an address.
    pub(crate) fn on_bound(&mut self, listener: ListenerId) {
        self.0.retain(|(pending, _)| *pending != listener);
    }

    /// A listener ended; the error if it was still to be bound.
    pub(crate) fn on_closed(
        &mut self,
        listener: ListenerId,
        reason: &Result<(), io::Error>,
    ) -> Option<P2pError> {
        let index = self.0.iter().position(|(pending, _)| *pending == listener)?;
        let (_, address) = self.0.remove(index);
        Some(failed(&address, reason.as_ref().err().map_or_else(|| "it closed at once".to_owned(), describe)))
    }

    /// True if every listener is bound.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One that is not bound, to name it.
    pub(crate) fn first(&self) -> Option<&Multiaddr> {
        self.0.first().map(|(_, address)| address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(address: &str) -> bool {
        match probe(&address.parse().unwrap()) {
            Ok(()) => false,
            Err(P2pError::ListenFailed { reason, .. }) if reason.contains("in use") => true,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_port_in_use_is_noticed_and_port_zero_never_is() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp_address = format!("/ip4/127.0.0.1/tcp/{}", tcp.local_addr().unwrap().port());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp_address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().unwrap().port());
        assert!(is_taken(&tcp_address) && is_taken(&udp_address));
        drop((tcp, udp));
        assert!(!is_taken(&tcp_address) && !is_taken(&udp_address));
        assert!(!is_taken("/ip4/127.0.0.1/tcp/0") && !is_taken("/ip4/127.0.0.1/udp/0/quic-v1"));
    }
}
