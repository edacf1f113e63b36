//! The futures that send: [`Tell`] and [`Ask`] to an actor of this process, [`AskRecipient`] to any
//! recipient.
//!
//! What needs no wait costs no box and no timer: a tell to a mailbox with room is done at the first poll,
//! and an ask makes its timer only when it is polled a second time without an answer. An actor on the
//! asker's own thread has had its turn by then.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use super::actor_ref::Mailbox;
use super::lane::Ticket;
use super::letter::Letter;
use super::recipient::Port;
use super::{Answer, AskError, Handler, Later, SendFailure, TellError};
use crate::Message;

/// How long an ask waits that says nothing else: long enough for work that is under way, short enough that
/// a lost answer is noticed while somebody still wonders.
pub const DEFAULT_ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that an ask can wait; beyond it a clock may overflow and nobody is waiting.
const MAX_ASK: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long an ask waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// [`DEFAULT_ASK_TIMEOUT`], which the receiver is not told.
    Default,
    /// From the first poll on; the receiver is told.
    Timeout(Duration),
    /// The receiver is told.
    Deadline(Instant),
}

impl Until {
    /// The deadline of an ask that begins now.
    pub(crate) fn deadline(self) -> Instant {
        match self {
            Self::Default => Instant::now() + DEFAULT_ASK_TIMEOUT,
            Self::Timeout(time) => Instant::now() + time.min(MAX_ASK),
            Self::Deadline(deadline) => deadline,
        }
    }
}

/// A letter on its way into a mailbox; `P` points to the [`Mailbox`].
pub(crate) struct Putting<P, A, M>
where
    P: Deref<Target = Mailbox<A>>,
    A: Handler<M>,
    M: Message,
{
    mailbox: P,
    /// Until it is in.
    letter: Option<Box<Letter<M>>>,
    ticket: Option<Ticket>,
}

impl<P, A, M> Putting<P, A, M>
where
    P: Deref<Target = Mailbox<A>>,
    A: Handler<M>,
    M: Message,
{
    pub(crate) fn new(mailbox: P, letter: Box<Letter<M>>) -> Self {
        Self { mailbox, letter: Some(letter), ticket: None }
    }

    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<(), SendFailure>> {
        // Otherwise it would take a place for no letter, and nobody would ever give it back.
        assert!(self.letter.is_some(), "a send is polled after it was done");
        self.mailbox.poll_put(&mut self.letter, &mut self.ticket, cx)
    }

    fn stamp(&mut self, deadline: Option<Instant>) {
        if let Some(letter) = &mut self.letter {
            letter.stamp(deadline);
        }
    }

    fn take_message(&mut self) -> M {
        // The finished future may be kept for a while; its place in the row may not.
        self.leave();
        self.letter.take().expect("a letter that is not taken stays where it was").message
    }

    fn leave(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.mailbox.leave(ticket);
        }
    }
}

impl<P, A, M> Drop for Putting<P, A, M>
where
    P: Deref<Target = Mailbox<A>>,
    A: Handler<M>,
    M: Message,
{
    fn drop(&mut self) {
        self.leave();
    }
}

/// A message being told; see [`ActorRef::tell`](super::ActorRef::tell).
#[must_use = "nothing is sent before it is awaited"]
pub struct Tell<'a, A: Handler<M>, M: Message> {
    putting: Putting<&'a Mailbox<A>, A, M>,
    is_begun: bool,
}

impl<'a, A: Handler<M>, M: Message> Tell<'a, A, M> {
    pub(crate) fn new(mailbox: &'a Mailbox<A>, message: M) -> Self {
        Self { putting: Putting::new(mailbox, Letter::tell(message)), is_begun: false }
    }
}

impl<A: Handler<M>, M: Message> Future for Tell<'_, A, M> {
    type Output = Result<(), TellError<M>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !this.is_begun {
            this.is_begun = true;
            this.putting.stamp(None);
        }
        let put = ready!(this.putting.poll(cx));
        Poll::Ready(put.map_err(|reason| TellError { message: this.putting.take_message(), reason }))
    }
}

impl<A: Handler<M>, M: Message> fmt::Debug for Tell<'_, A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tell<{}>", std::any::type_name::<M>())
    }
}

/// When an ask begins to watch the time.
enum Timer {
    /// It was never polled.
    Unbegun,
    /// It was polled and did not have to wait.
    Unneeded,
    /// It had to wait, and has asked to be polled again after everybody else.
    Yielded,
    Set(Pin<Box<Sleep>>),
}

impl Timer {
    /// True if the time is over.
    fn poll(&mut self, until: Until, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Unbegun | Self::Unneeded => {
                *self = Self::Yielded;
                cx.waker().wake_by_ref();
                false
            }
            Self::Yielded => {
                let mut sleep = Box::pin(sleep_until(until.deadline()));
                let is_over = sleep.as_mut().poll(cx).is_ready();
                *self = Self::Set(sleep);
                is_over
            }
            Self::Set(sleep) => sleep.as_mut().poll(cx).is_ready(),
        }
    }
}

enum Stage<R> {
    /// The letter is not in the mailbox yet.
    Putting,
    /// The actor has not handled it yet.
    Waiting,
    /// It has, and will answer later.
    Promised(Later<R>),
    /// The outcome was taken.
    Done,
}

/// A message whose answer is awaited; see [`ActorRef::ask`](super::ActorRef::ask).
///
/// ```no_run
/// # use std::time::Duration;
/// # use dms_actors::*;
/// # struct Add(u32);
/// # impl Message for Add { type Reply = u32; }
/// # async fn example<A: Handler<Add>>(counter: ActorRef<A>) -> Result<(), AskError<Add>> {
/// let total = counter.ask(Add(1)).await?;
/// let total = counter.ask(Add(1)).timeout(Duration::from_millis(100)).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is sent before it is awaited"]
pub struct Ask<A: Handler<M>, M: Message> {
    putting: Putting<Arc<Mailbox<A>>, A, M>,
    answer: oneshot::Receiver<Answer<M::Reply>>,
    stage: Stage<M::Reply>,
    until: Until,
    timer: Timer,
}

impl<A: Handler<M>, M: Message> Ask<A, M> {
    pub(crate) fn new(mailbox: Arc<Mailbox<A>>, message: M) -> Self {
        let (letter, answer) = Letter::ask(message);
        Self {
            putting: Putting::new(mailbox, letter),
            answer,
            stage: Stage::Putting,
            until: Until::Default,
            timer: Timer::Unbegun,
        }
    }

    /// Waits at most this long, from its first poll on. The actor is told
    /// ([`Context::deadline`](super::Context::deadline)).
    pub fn timeout(self, time: Duration) -> Self {
        self.until(Until::Timeout(time))
    }

    /// Waits at most until then. The actor is told ([`Context::deadline`](super::Context::deadline)).
    pub fn deadline(self, deadline: Instant) -> Self {
        self.until(Until::Deadline(deadline))
    }

    pub(crate) fn until(mut self, until: Until) -> Self {
        self.until = until;
        self
    }

    /// Begins; false if it is too late for that.
    fn begin(&mut self) -> bool {
        self.timer = Timer::Unneeded;
        let deadline = match self.until {
            Until::Default => None,
            Until::Timeout(_) | Until::Deadline(_) => {
                let deadline = self.until.deadline();
                self.until = Until::Deadline(deadline);
                Some(deadline)
            }
        };
        self.putting.stamp(deadline);
        deadline.is_none_or(|deadline| deadline > Instant::now())
    }

    fn not_sent(&mut self, reason: SendFailure) -> Poll<Result<M::Reply, AskError<M>>> {
        Poll::Ready(Err(AskError::NotSent { message: self.putting.take_message(), reason }))
    }

    fn poll_stages(&mut self, cx: &mut Context<'_>) -> Poll<Result<M::Reply, AskError<M>>> {
        if matches!(self.timer, Timer::Unbegun) && !self.begin() {
            return self.not_sent(SendFailure::Expired);
        }
        if matches!(self.stage, Stage::Putting) {
            match self.putting.poll(cx) {
                Poll::Ready(Ok(())) => self.stage = Stage::Waiting,
                Poll::Ready(Err(reason)) => return self.not_sent(reason),
                Poll::Pending => {}
            }
        }
        if matches!(self.stage, Stage::Waiting)
            && let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(cx)
        {
            match answer {
                Ok(Answer::Now(reply)) => return Poll::Ready(Ok(reply)),
                Ok(Answer::Later(later)) => self.stage = Stage::Promised(later),
                Err(_) => return Poll::Ready(Err(AskError::Lost)),
            }
        }
        if let Stage::Promised(reply) = &mut self.stage
            && let Poll::Ready(reply) = Pin::new(reply).poll(cx)
        {
            return Poll::Ready(reply.ok_or(AskError::Lost));
        }
        if !self.timer.poll(self.until, cx) {
            return Poll::Pending;
        }
        match &mut self.stage {
            Stage::Putting => return self.not_sent(SendFailure::Full),
            // Nobody waits any more, though this future may be kept for a while.
            Stage::Waiting => self.answer.close(),
            // Dropped when this ends, and with it the work that was begun.
            Stage::Promised(_) | Stage::Done => {}
        }
        Poll::Ready(Err(AskError::TimedOut))
    }
}

impl<A: Handler<M>, M: Message> Future for Ask<A, M> {
    type Output = Result<M::Reply, AskError<M>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        assert!(!matches!(this.stage, Stage::Done), "an ask is polled after it was done");
        let outcome = ready!(this.poll_stages(cx));
        this.stage = Stage::Done;
        Poll::Ready(outcome)
    }
}

impl<A: Handler<M>, M: Message> fmt::Debug for Ask<A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask<{}>", std::any::type_name::<M>())
    }
}

/// A message to a [`Recipient`](super::Recipient) whose answer is awaited; see
/// [`Recipient::ask`](super::Recipient::ask).
#[must_use = "nothing is sent before it is awaited"]
pub struct AskRecipient<M: Message> {
    port: Arc<dyn Port<M>>,
    /// Until it is begun.
    message: Option<M>,
    until: Until,
    begun: Option<BoxFuture<'static, Result<M::Reply, AskError<M>>>>,
}

impl<M: Message> AskRecipient<M> {
    pub(crate) fn new(port: Arc<dyn Port<M>>, message: M) -> Self {
        Self { port, message: Some(message), until: Until::Default, begun: None }
    }

    /// Waits at most this long, from its first poll on. The receiver is told
    /// ([`Context::deadline`](super::Context::deadline)), also on another machine.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.until = Until::Timeout(time);
        self
    }

    /// Waits at most until then. The receiver is told ([`Context::deadline`](super::Context::deadline)),
    /// also on another machine.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.until = Until::Deadline(deadline);
        self
    }
}

/// The message is moved, never pinned.
impl<M: Message> Unpin for AskRecipient<M> {}

impl<M: Message> Future for AskRecipient<M> {
    type Output = Result<M::Reply, AskError<M>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(message) = this.message.take() {
            this.begun = Some(this.port.clone().ask(message, this.until));
        }
        this.begun.as_mut().expect("it is begun at the first poll").as_mut().poll(cx)
    }
}

impl<M: Message> fmt::Debug for AskRecipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AskRecipient<{}>", std::any::type_name::<M>())
    }
}
