//! The transports: QUIC and TCP side by side, and names.
//!
//! A private mesh has TCP alone, each connection encrypted with the mesh's key before anybody says who it is. Else
//! QUIC is tried first and TCP a moment later (see [`crate::addresses::first_choice`] for the one
//! exception); the first proven connection wins. Names are only looked up for bootstrap addresses:
//! nothing else in the address book can be one.

use std::fmt;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use libp2p::core::Transport as _;
use libp2p::core::transport::dummy::DummyTransport;
use libp2p::core::upgrade::Version;
use libp2p::pnet::{PnetConfig, PreSharedKey};
use libp2p::{Multiaddr, Swarm, dns, identity, noise, quic, tcp, yamux};

use crate::behaviour::Behaviour;
use crate::config::Timing;
use crate::listen::{Place, place};
use crate::node::P2pError;

/// Streams on one connection: bounds what one peer can make us hold (256 KiB of window each on TCP,
/// [`QUIC_CONNECTION_WINDOW`] together on QUIC).
const MAX_STREAMS: usize = 128;
/// What one QUIC stream may have in flight: enough for 200 Mbit/s over 80 ms.
const QUIC_STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// What all streams of one QUIC connection may have in flight.
const QUIC_CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// A QUIC connection whose other end was killed ends after this time: no system answers for it, as one
/// does on TCP. Short, because whoever waits for that peer waits that long.
const QUIC_IDLE: Duration = Duration::from_secs(6);
/// Twice within [`QUIC_IDLE`] and a bit, so that one lost packet ends nothing.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// An address where nobody answers costs a dial this long: one round trip, with room for a lost packet.
const QUIC_HANDSHAKE: Duration = Duration::from_secs(3);

/// Builds the swarm with all transports, or with TCP alone behind the key of a private mesh.
pub(crate) fn swarm(
    key: identity::Keypair,
    behaviour: Behaviour,
    timing: &Timing,
    pre_shared_key: Option<PreSharedKey>,
) -> Result<Swarm<Behaviour>, P2pError> {
    let internal = |error: &dyn fmt::Display| P2pError::Internal(error.to_string());
    let builder = libp2p::SwarmBuilder::with_existing_identity(key).with_tokio();
    // Several types, hence the last steps more than once.
    macro_rules! finish {
        ($builder:expr) => {
            $builder
                .with_behaviour(|_| behaviour)
                .map_err(|error| internal(&error))?
                .with_swarm_config(|swarm| {
                    swarm.with_idle_connection_timeout(timing.idle_timeout).with_smart_dial()
                })
                .with_connection_timeout(timing.dial_timeout)
                .build()
        };
    }
    macro_rules! with_names {
        ($transports:expr) => {{
            // Asked beforehand on a transport of no use, because the builder is gone after an error.
            let is_configured = dns::tokio::Transport::system(DummyTransport::<()>::new());
            match is_configured {
                Ok(_) => finish!($transports.with_dns().map_err(|error| internal(&error))?),
                Err(error) => {
                    tracing::warn!(%error, "names in bootstrap addresses will not resolve: no resolver is configured");
                    let nowhere = dns::ResolverConfig::from_parts(None, Vec::new(), Vec::new());
                    finish!($transports.with_dns_config(nowhere, dns::ResolverOpts::default()))
                }
            }
        }};
    }
    let tcp = || tcp::Config::new().nodelay(true);
    Ok(match pre_shared_key {
        None => {
            let transports = builder
                .with_tcp(tcp(), noise::Config::new, multiplexer)
                .map_err(|error| internal(&error))?
                .with_quic_config(quic_config);
            with_names!(transports)
        }
        Some(pre_shared_key) => {
            let transports = builder
                .with_other_transport(|key| {
                    let private = tcp::tokio::Transport::new(tcp())
                        .and_then(move |socket, _| PnetConfig::new(pre_shared_key).handshake(socket));
                    let authenticated =
                        private.upgrade(Version::V1Lazy).authenticate(noise::Config::new(key)?);
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(authenticated.multiplex(multiplexer()))
                })
                .map_err(|error| internal(&error))?;
            with_names!(transports)
        }
    })
}

fn multiplexer() -> yamux::Config {
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(MAX_STREAMS);
    yamux
}

fn quic_config(mut config: quic::Config) -> quic::Config {
    config.handshake_timeout = QUIC_HANDSHAKE;
    config.max_idle_timeout = u32::try_from(QUIC_IDLE.as_millis()).expect("a few seconds");
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_concurrent_stream_limit = u32::try_from(MAX_STREAMS).expect("a small number");
    config.max_stream_data = QUIC_STREAM_WINDOW;
    config.max_connection_data = QUIC_CONNECTION_WINDOW;
    config
}

/// True if the system itself says that nobody listens at this QUIC address of our own host. A dial
/// would be silent until [`QUIC_HANDSHAKE`] is over, because a QUIC endpoint does not hear refusals.
/// Never waits; without an answer (another system, another host) it is false.
pub(crate) fn is_refused(address: &Multiaddr) -> bool {
    let Some(Place::Udp(remote)) = place(address).filter(|place| match place {
        Place::Udp(remote) => remote.ip().is_loopback(),
        Place::Tcp(_) => false,
    }) else {
        return false;
    };
    let local =
        if remote.is_ipv4() { (Ipv4Addr::LOCALHOST, 0).into() } else { (Ipv6Addr::LOCALHOST, 0).into() };
    let ask = |local: std::net::SocketAddr| -> std::io::Result<()> {
        let socket = UdpSocket::bind(local)?;
        socket.set_nonblocking(true)?;
        socket.connect(remote)?;
        // QUIC ignores an empty datagram. The refusal of the first is told to the second.
        socket.send(&[])?;
        socket.send(&[]).map(drop)
    };
    ask(local).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_quic_address_of_our_own_host_is_known_without_a_dial() {
        for ip in ["127.0.0.1", "::1"] {
            let Ok(socket) = UdpSocket::bind((ip, 0)) else { continue };
            let kind = if ip.contains(':') { "ip6" } else { "ip4" };
            let port = socket.local_addr().unwrap().port();
            let address: Multiaddr = format!("/{kind}/{ip}/udp/{port}/quic-v1").parse().unwrap();
            assert!(!is_refused(&address), "somebody is there");
            drop(socket);
            assert_eq!(is_refused(&address), cfg!(target_os = "linux"), "{address}");
        }
        for other in ["/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1", "/dns4/localhost/udp/1/quic-v1"]
        {
            assert!(!is_refused(&other.parse().unwrap()), "{other}");
        }
    }
}
