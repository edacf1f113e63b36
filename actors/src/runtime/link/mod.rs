//! Words over pipes: frames, credit, acknowledgements and the life of a link.
//!
//! A link carries the words of one system to one peer, over one stream that the sender opened; what
//! the peer says to us comes over the link that it opened. Replies, credit and refusals go back over
//! the stream of their word, so they need no route.
//!
//! * [`frame`]: the bytes.
//! * [`outgoing`]: our words to a peer. A word needs credit for its target before it is queued.
//! * [`incoming`]: a peer's words to us. One target that stands still holds up nobody else.
//! * [`network`]: which links there are; opens and accepts them.
//!
//! Each stream is driven by one task: two tasks on the two halves of one yamux stream can hang.

mod far;
mod frame;
mod incoming;
mod network;
mod outgoing;

pub(crate) use far::Far;
pub use frame::MAX_BODY_LENGTH;
pub(crate) use network::Links;

use std::time::Duration;

/// Words that may be under way to one target of a link before its mailbox has taken the first. A
/// round trip's worth at full speed on a local network; more only moves the queue away from the sender.
pub const CREDIT: usize = 64;

/// How long the dial and each half of the handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks of one link that may be unanswered at once: each holds a few hundred bytes on both sides.
const MAX_OPEN_ASKS: usize = 1024;

/// Bytes that are gathered for one write: large enough that its overhead is small, small enough that
/// credit and refusals do not wait behind it for long.
const WRITE_CHUNK: usize = 60 * 1024;

/// The read buffer of each link.
const READ_BUFFER: usize = 64 * 1024;

/// Frames after which a reader lets others run, however much is buffered.
const READ_TURN: u32 = 32;
