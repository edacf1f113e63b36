//! The transport seam: ordered byte streams between peers whose keys are proven.
//!
//! A transport opens and accepts [`Pipe`]s and says which peers are up. It knows no frames and no
//! words; links ([`crate::runtime`]) and blobs ([`crate::blob`]) are spoken over its pipes. The
//! libp2p transport lives in its own crate; [`memory`] is the one for tests and simulations.
//!
//! # A transport of one's own
//!
//! Everything else of this crate rests on what [`Transport`] promises, and nothing on how it is done:
//!
//! | promise | what it is for |
//! |---|---|
//! | A pipe carries bytes in order and once, both ways, until it ends or breaks; each way can be ended by itself. It never breaks in silence: when the other end or the connection is gone, reads and writes end or fail. | A link turns bytes into words and counts them; what it cannot see end, it waits for. |
//! | A writer whose bytes nobody takes waits; the bytes under way in one pipe are bounded, and a pipe that stands still holds up no other. | Back-pressure from a mailbox to its senders on other machines. |
//! | The DID of a peer is *proven*: whoever is named in an event, or reached by [`Transport::open`], holds the key. | Policies and signatures stand on it; nothing above checks it again. |
//! | [`TransportEvent::Up`] when the first connection to a peer is there and before any stream of it, [`TransportEvent::Down`] when the last one is gone and after all of them; each `Down` has its `Up`, neither is ever dropped. Both sides get theirs, whoever has dialled. | Links end with their connection, and watchers are told. |
//! | The channel of events is bounded. When it is full, streams wait or are refused; the transport goes on. | A consumer that lags costs bounded memory and no news. |
//! | [`Transport::open`] always has an outcome, and each failure is one of [`OpenError`]'s. | An ask has an outcome, too. |
//! | Dropping a pipe ends it at the other side. | Links that are given up cost nothing. |
//!
//! In return one task drives both halves of each pipe, and the receiver of events is taken once.
//! `dms_actors::testing::transport_conformance` (feature `testing`) checks all of it; the example
//! `custom_transport` is a whole transport over Unix sockets.

pub mod memory;

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::Did;

/// The protocol of ordered frames between two actor systems.
pub const LINK_PROTOCOL: &str = "/dms/link/2";
/// The protocol that fetches one content by its identifier.
pub const BLOB_PROTOCOL: &str = "/dms/blob/1";
/// Every protocol that a transport must accept and hand to [`TransportEvent::Opened`].
pub const PROTOCOLS: [&str; 2] = [LINK_PROTOCOL, BLOB_PROTOCOL];

/// Both directions of one ordered, reliable byte stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One stream to a peer whose key is proven. One task must drive both halves.
pub type Pipe = Box<dyn Duplex>;

/// What a transport reports, in this order for each connection: `Up`, then its streams, then `Down`. The
/// channel is bounded; a transport that finds it full waits or refuses new streams, it never drops an up or a
/// down.
pub enum TransportEvent {
    /// The first connection to the peer is established, by whomever. Not said again for further ones.
    Up(Did),
    /// The last connection to the peer is gone, and all of its pipes have ended or failed.
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

/// Opens streams to peers. Cheap to share. What it promises is [on the module's page](self).
pub trait Transport: Send + Sync + 'static {
    /// Opens a stream of `protocol` (one of [`PROTOCOLS`]) to `peer`, dialling it first if it is not connected.
    /// Ends within a time that the transport knows; a caller that gives up drops the future.
    ///
    /// # Errors
    /// Each [`OpenError`].
    fn open(&self, peer: Did, protocol: &'static str) -> BoxFuture<'static, Result<Pipe, OpenError>>;

    /// Remembers addresses at which `peer` says it can be dialled (multiaddrs as text, untrusted:
    /// malformed ones are ignored, and the number kept per peer is bounded).
    fn add_addresses(&self, peer: Did, addresses: Vec<String>);

    /// The addresses at which this transport can be dialled now.
    fn listen_addresses(&self) -> Vec<String>;

    /// The peers that are connected now, in the order of their DIDs.
    fn connected_peers(&self) -> Vec<Did>;

    /// Ends every connection to `peer`, and has none with it for so long: it is not dialled, and turned away if it
    /// dials. A time of zero ends what there is, and lets it in again. A transport that cannot does nothing, as by default.
    fn shut_out(&self, peer: Did, time: Duration) -> BoxFuture<'static, ()> {
        let _ = (peer, time);
        Box::pin(std::future::ready(()))
    }

    /// Takes the stream of events; only the first call gets it. It ends with the transport.
    fn take_events(&self) -> Option<mpsc::Receiver<TransportEvent>>;
}
