//! Words over pipes: frames, credit, acknowledgements and the life of a link.
//!
//! A link carries the words of one system to one peer, over one stream that the sender opened; what
//! the peer says to us comes over the link that it opened. Replies, credit and refusals go back over
//! the stream of their word, so they need no route; so does the news that an actor ended, and nobody but
//! the peer itself can give it.
//!
//! * [`frame`]: the bytes. [`buffer`]: the bytes that are not yet frames, the frames not yet written.
//! * [`outgoing`]: our words to a peer. A word needs credit for its target before it is queued.
//! * [`incoming`]: a peer's words to us. One target that stands still holds up nobody else.
//!   [`routes`]: what is remembered of the words before; [`replies`]: the way back of an ask.
//! * [`limits`]: what a peer may cost.
//! * [`network`]: which links there are; opens and accepts them.
//! * [`far`]: the sender's side of one actor; [`lookup`]: questions about one.
//!
//! Each stream is driven by one task, and each task is one state machine that is polled: two tasks on
//! the two halves of one yamux stream can hang, and the state needs no lock.

mod buffer;
mod far;
mod frame;
#[cfg(feature = "testing")]
pub mod fuzz;
mod incoming;
mod limits;
mod lookup;
mod network;
mod outgoing;
mod replies;
mod routes;

pub(crate) use far::Far;
pub use frame::MAX_BODY_LENGTH;
pub use limits::{KindLimits, Limits};
pub use lookup::LookupError;
pub(crate) use lookup::{look_up, watch};
pub(crate) use network::Links;
pub(crate) use replies::{Asked, FarReply, ReplyTo};

use std::time::Duration;

/// Words that may be under way to one target of a link before its mailbox has taken the first. A
/// round trip's worth at full speed on a local network; more only moves the queue away from the sender.
pub const CREDIT: usize = 64;

/// How long the dial and each half of the handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks of one link that may be unanswered at once: each holds a few hundred bytes on both sides.
const MAX_OPEN_ASKS: usize = 1024;

/// Watches of one link at once, and lookups: each holds about a hundred bytes on both sides.
const MAX_REQUESTS: usize = 1024;

/// Bytes that are gathered for one write: large enough that its overhead is small, small enough that
/// credit and refusals do not wait behind it for long.
const WRITE_CHUNK: usize = 60 * 1024;

/// The read buffer of each link, once it is busy.
const READ_BUFFER: usize = 64 * 1024;

/// Frames after which a reader lets others run, however much is buffered.
const READ_TURN: u32 = 32;

/// A peer whose words somebody waits for and that says nothing for this long is asked for a sign of
/// life: rare enough to cost nothing, often enough for two chances before [`SILENCE`].
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A peer that says nothing for this long, though it was asked, is lost: longer than what a busy machine or a
/// radio link takes to recover, shorter than the patience of whoever waits.
const SILENCE: Duration = Duration::from_secs(15);
