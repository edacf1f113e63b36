//! The transport seam: ordered byte streams between peers whose keys are proven.
//!
//! A transport opens and accepts [`Pipe`]s and says which peers are up. It knows no frames and no
//! words; links ([`crate::runtime`]) and blobs ([`crate::blob`]) are spoken over its pipes. The
//! libp2p transport lives in its own crate; [`memory`] is the one for tests and simulations.

pub mod memory;

use std::fmt;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::Did;

/// The protocol of ordered frames between two actor systems.
pub const LINK_PROTOCOL: &str = "/dms/link/1";
/// The protocol that fetches one content by its identifier.
pub const BLOB_PROTOCOL: &str = "/dms/blob/1";
/// Every protocol that a transport must accept and hand to [`TransportEvent::Opened`].
pub const PROTOCOLS: [&str; 2] = [LINK_PROTOCOL, BLOB_PROTOCOL];

/// Both directions of one ordered, reliable byte stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One stream to a peer whose key is proven. One task must drive both halves.
pub type Pipe = Box<dyn Duplex>;

/// What a transport reports. The receiver is bounded; a transport that finds it full waits or
/// refuses new streams, it never drops an up or a down.
pub enum TransportEvent {
    /// At least one connection to the peer is established.
    Up(Did),
    /// The last connection to the peer is gone.
    Down(Did),
    /// The peer opened a stream of the named protocol (one of [`PROTOCOLS`]).
    Opened {
        /// Who opened it.
        peer: Did,
        /// Which protocol is spoken on it.
        protocol: &'static str,
        /// The stream.
        pipe: Pipe,
    },
}

impl fmt::Debug for TransportEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(peer) => f.debug_tuple("Up").field(peer).finish(),
            Self::Down(peer) => f.debug_tuple("Down").field(peer).finish(),
            Self::Opened { peer, protocol, .. } => {
                f.debug_struct("Opened").field("peer", peer).field("protocol", protocol).finish()
            }
        }
    }
}

/// Why no stream could be opened. Callers act differently on each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No address of the peer is known, and no connection exists.
    #[error("no route to {0} is known yet")]
    NoRoute(Did),
    /// The peer could not be reached at any known address.
    #[error("{peer} cannot be reached: {reason}")]
    Unreachable {
        /// The peer.
        peer: Did,
        /// What the dial said.
        reason: String,
    },
    /// The peer is connected and does not speak the protocol.
    #[error("{peer} does not speak {protocol}")]
    Unsupported {
        /// The peer.
        peer: Did,
        /// The protocol asked for.
        protocol: &'static str,
    },
    /// The transport is shut down.
    #[error("the transport is closed")]
    Closed,
}

/// Opens streams to peers. Cheap to share.
pub trait Transport: Send + Sync + 'static {
    /// Opens a stream of `protocol` to `peer`, dialling it first if it is not connected.
    fn open(&self, peer: Did, protocol: &'static str) -> BoxFuture<'static, Result<Pipe, OpenError>>;

    /// Remembers addresses at which `peer` says it can be dialled (multiaddrs as text, untrusted:
    /// malformed ones are ignored, and the number kept per peer is bounded).
    fn add_addresses(&self, peer: Did, addresses: Vec<String>);

    /// The addresses at which this transport can be dialled now.
    fn listen_addresses(&self) -> Vec<String>;

    /// The peers that are connected now, in the order of their DIDs.
    fn connected_peers(&self) -> Vec<Did>;

    /// Takes the stream of events; only the first call gets it.
    fn take_events(&self) -> Option<mpsc::Receiver<TransportEvent>>;
}
