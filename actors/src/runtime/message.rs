//! The traits an application implements: actors, and how an actor answers a message.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{self, Poll, Waker, ready};

use futures::future::{BoxFuture, FutureExt};
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
    /// It will come through the [`Responder`] made with it, or of the work that was begun for it.
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
        (Responder(tx), Self::Later(Later(Coming::Given(rx))))
    }

    /// Waits for the answer; `None` if there will be none.
    pub(crate) async fn resolve(self) -> Option<R> {
        match self {
            Self::Now(reply) => Some(reply),
            Self::Later(later) => later.await,
        }
    }
}

impl<R: Send + 'static> Answer<R> {
    /// The output of `work`, which is begun here and brought to its end by whoever asked: an ask of somebody else that
    /// the actor has no further part in, say. Its reply goes to the asker straight, not by way of the actor's thread.
    ///
    /// The work is dropped when nobody waits for it (any more): the message was told, the asker gave up, the link is
    /// gone. If it panics, the asker is told that the answer is lost.
    ///
    /// ```
    /// # use dms_actors::*;
    /// # struct Get(u32);
    /// # impl Message for Get { type Reply = Option<u32>; }
    /// struct Front {
    ///     store: Recipient<Get>,
    /// }
    ///
    /// impl Actor for Front {}
    ///
    /// impl Handler<Get> for Front {
    ///     fn handle(&mut self, get: Get, _: &mut Context<'_, Self>) -> Answer<Option<u32>> {
    ///         let asked = self.store.ask(get);
    ///         Answer::begun(async move { asked.await.ok().flatten() })
    ///     }
    /// }
    /// ```
    pub fn begun(work: impl Future<Output = R> + Send + 'static) -> Self {
        let mut work = AssertUnwindSafe(work).catch_unwind().boxed();
        // Nobody is to be woken: whoever takes the answer looks at the work again.
        match work.as_mut().poll(&mut task::Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(reply)) => Self::Now(reply),
            Poll::Ready(Err(_)) => Self::later().1,
            Poll::Pending => Self::Later(Later(Coming::Work(work))),
        }
    }
}

impl<R> From<R> for Answer<R> {
    fn from(reply: R) -> Self {
        Self::Now(reply)
    }
}

/// The promise inside [`Answer::Later`].
pub struct Later<R>(Coming<R>);

/// Where an answer comes from.
enum Coming<R> {
    Given(oneshot::Receiver<R>),
    Work(BoxFuture<'static, std::thread::Result<R>>),
}

/// The answer; `None` if there will be none.
impl<R> Future for Later<R> {
    type Output = Option<R>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<R>> {
        Poll::Ready(match &mut self.get_mut().0 {
            Coming::Given(reply) => ready!(Pin::new(reply).poll(cx)).ok(),
            Coming::Work(work) => ready!(work.as_mut().poll(cx)).ok(),
        })
    }
}

/// What is awaited is boxed, and never pinned where it lies.
impl<R> Unpin for Later<R> {}

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
