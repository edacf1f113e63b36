//! The traits an application implements: actors, and how an actor answers a message.

use std::fmt;

use tokio::sync::oneshot;

use super::{Context, ExitReason};
use crate::Message;

/// What happens to a message when the mailbox is full.
///
/// ```
/// use dms_actors::{Actor, Overflow};
///
/// /// Shows the latest readings; old ones are of no use.
/// struct Gauge;
///
/// impl Actor for Gauge {
///     const MAILBOX: usize = 8;
///     const OVERFLOW: Overflow = Overflow::DropOldest;
/// }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// Its sender waits for room, in the order in which senders came.
    #[default]
    Wait,
    /// Its sender is told `Full` at once: for actors whose senders have something better to do.
    Reject,
    /// It is taken, and the oldest waiting message becomes a dead letter (`Overflowed`; its asker is told
    /// `Lost`): for actors to whom only the latest matters. No sender ever waits.
    DropOldest,
}

/// State that handles one message at a time, on one thread.
///
/// It need not be `Send`: it is built by its factory on the thread where it lives. A panic in any of
/// its methods drops the state; its [`Supervision`](super::Supervision) says whether a new one is built.
#[expect(unused_variables, reason = "the default methods do nothing and their arguments should read well")]
pub trait Actor: Sized + 'static {
    /// How many messages may wait: enough to ride out a burst, few enough that a stuck actor shows.
    const MAILBOX: usize = 256;

    /// What happens to a message when that many wait already.
    const OVERFLOW: Overflow = Overflow::Wait;

    /// Runs first, before any message.
    fn started(&mut self, ctx: &mut Context<'_, Self>) {}

    /// Runs last, after all children have stopped, once per state. Not called for a state that
    /// panicked: nothing is known of what it holds.
    fn stopped(&mut self, reason: &ExitReason) {}
}

/// An actor that understands `M`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle this message",
    note = "implement `Handler` for it, or mark a method with `#[handler]` in an impl block under `#[handlers]`"
)]
pub trait Handler<M: Message>: Actor {
    /// Checks, decides and changes state. It must not block: work that takes time is started with
    /// [`Context::pipe`] and comes back.
    fn handle(&mut self, message: M, ctx: &mut Context<'_, Self>) -> Answer<M::Reply>;
}

/// A handler's answer: at once, or later through a [`Responder`].
#[derive(Debug)]
pub enum Answer<R> {
    /// The answer.
    Now(R),
    /// It will come through the [`Responder`] made with it.
    Later(Later<R>),
}

impl<R> Answer<R> {
    /// An answer that is given later, and what gives it. Dropping the responder unused tells an asker
    /// that the answer is lost.
    ///
    /// ```
    /// let (responder, answer) = dms_actors::Answer::later();
    /// responder.reply(42);
    /// # let _: dms_actors::Answer<i32> = answer;
    /// ```
    pub fn later() -> (Responder<R>, Self) {
        let (tx, rx) = oneshot::channel();
        (Responder(tx), Self::Later(Later(rx)))
    }

    /// Waits for the answer; `None` if its responder was dropped.
    pub(crate) async fn resolve(self) -> Option<R> {
        match self {
            Self::Now(reply) => Some(reply),
            Self::Later(Later(rx)) => rx.await.ok(),
        }
    }
}

impl<R> From<R> for Answer<R> {
    fn from(reply: R) -> Self {
        Self::Now(reply)
    }
}

/// The promise inside [`Answer::Later`].
pub struct Later<R>(pub(super) oneshot::Receiver<R>);

impl<R> fmt::Debug for Later<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

/// Gives the answer of one message, once, from anywhere.
pub struct Responder<R>(oneshot::Sender<R>);

impl<R> Responder<R> {
    /// Answers. Nothing happens if nobody waits any more (see [`Self::is_awaited`]).
    pub fn reply(self, reply: R) {
        // Nobody waiting is normal: the message was told, or its asker gave up.
        let _ = self.0.send(reply);
    }

    /// True while somebody waits for the answer.
    pub fn is_awaited(&self) -> bool {
        !self.0.is_closed()
    }
}

impl<R> fmt::Debug for Responder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("is_awaited", &self.is_awaited()).finish()
    }
}
