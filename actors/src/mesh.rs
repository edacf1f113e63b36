//! The mesh seam: what is said to everyone rather than to one peer.
//!
//! Gossip is unreliable by nature: a published message reaches most subscribers, once or more, some
//! time soon. State is never derived from "it was published". Every message heard must be given a
//! [`Verdict`], which decides whether this peer forwards it and what its forwarder is worth.

pub mod memory;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::Did;

/// A gossip topic, as text (`/dms/<network>/<name>`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub String);

/// Names one heard message when its verdict is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GossipId(pub Vec<u8>);

/// A message heard on a topic.
#[derive(Debug, Clone)]
pub struct Gossip {
    /// Names the message for [`Mesh::verdict`].
    pub id: GossipId,
    /// The topic it was heard on.
    pub topic: Topic,
    /// The peer who published it (proven by the gossip signature).
    pub source: Did,
    /// The peer who forwarded it to us.
    pub forwarder: Did,
    /// The body, at most [`MAX_GOSSIP_LENGTH`] bytes.
    pub body: Vec<u8>,
}

/// Longest gossip body in bytes: bid requests and adverts fit; artefacts never travel by gossip.
pub const MAX_GOSSIP_LENGTH: usize = 16 * 1024;

/// What becomes of a heard message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Valid: forward it.
    Accept,
    /// Of no use (late, repeated): do not forward, nobody is to blame.
    Ignore,
    /// Invalid: do not forward, and hold it against the forwarder.
    Reject,
}

/// Why a message could not be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The body is longer than [`MAX_GOSSIP_LENGTH`].
    #[error("a gossip message of {0} bytes is too long")]
    TooLong(usize),
    /// Nobody else listens to the topic; normal in the first second and on a lonely node.
    #[error("nobody listens to this topic")]
    NobodyListens,
    /// Every peer's queue is full, or the command queue is.
    #[error("the network is saturated")]
    Busy,
    /// The mesh is shut down.
    #[error("the mesh is closed")]
    Closed,
}

/// Speaks to and hears the whole mesh. Cheap to share.
pub trait Mesh: Send + Sync + 'static {
    /// Publishes `body` on `topic`. `Ok` means handed to at least one peer, not delivered.
    fn publish(&self, topic: Topic, body: Vec<u8>) -> BoxFuture<'static, Result<(), PublishError>>;

    /// Starts to listen to `topic`.
    fn subscribe(&self, topic: Topic) -> BoxFuture<'static, Result<(), PublishError>>;

    /// Gives the verdict on a heard message; must follow within about two seconds.
    fn verdict(&self, id: GossipId, forwarder: Did, verdict: Verdict);

    /// Takes the stream of heard messages; only the first call gets it. When its reader lags, new
    /// messages are dropped and ignored, never queued without bound.
    fn take_gossip(&self) -> Option<mpsc::Receiver<Gossip>>;
}
