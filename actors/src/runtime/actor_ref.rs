//! References to actors of this process: one `Arc`, sent and cloned freely.
//!
//! A reference does not keep its actor alive and its actor does not end when the last one is dropped:
//! an actor ends when it is stopped or its parent ends.

use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::lane::{Arrival, Command, Hand, Lane, Pace, Sealed, Ticket};
use super::letter::{Letter, bury};
use super::recipient::Port;
use super::send::{Ask, Tell, Until};
use super::system::Shared;
use super::{Actor, AskError, DeadLetterReason, ExitReason, Handler, Recipient, SendFailure, TellError};
use crate::Message;

/// The number of an actor within its system; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub(crate) u64);

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// How an actor ended, once it has.
#[derive(Default)]
struct Exit {
    reason: OnceLock<ExitReason>,
    told: Notify,
}

impl Exit {
    /// Records the end; the first record stays.
    fn set(&self, reason: ExitReason) {
        if self.reason.set(reason).is_ok() {
            self.told.notify_waiters();
        }
    }

    async fn wait(&self) -> ExitReason {
        loop {
            // Listens from here on, so that an end after the look is not missed.
            let told = self.told.notified();
            if let Some(reason) = self.reason.get() {
                return reason.clone();
            }
            told.await;
        }
    }
}

/// What an actor and its references share. The order keeps what senders write and what the actor writes for each
/// letter on different cache lines.
#[repr(C)]
pub(crate) struct Mailbox<A: Actor> {
    lane: Lane<A>,
    exit: Exit,
    id: ActorId,
    /// Where lost letters are reported. Weak: the registry of the system holds references.
    system: Weak<Shared>,
    pace: Pace,
}

impl<A: Actor> Mailbox<A> {
    /// A sender's letter displaced this one.
    fn displaced(&self, letter: Option<Sealed<A>>) {
        if let Some(letter) = letter {
            bury(self.system.upgrade().as_deref(), letter, DeadLetterReason::Overflowed);
        }
    }

    pub(super) fn try_put<M: Message>(&self, letter: &mut Option<Box<Letter<M>>>) -> Result<(), SendFailure>
    where
        A: Handler<M>,
    {
        self.displaced(self.lane.try_put(&self.pace, letter)?);
        Ok(())
    }

    pub(super) fn poll_put<M: Message>(
        &self,
        letter: &mut Option<Box<Letter<M>>>,
        ticket: &mut Option<Ticket>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), SendFailure>>
    where
        A: Handler<M>,
    {
        self.displaced(ready!(self.lane.poll_put(&self.pace, letter, ticket, cx))?);
        Poll::Ready(Ok(()))
    }

    pub(super) fn leave(&self, ticket: Ticket) {
        self.lane.leave(&self.pace, ticket);
    }
}

/// What can be done to an actor of any type.
pub(crate) trait Lifecycle: Send + Sync {
    fn id(&self) -> ActorId;
    /// What it is, for people.
    #[cfg(feature = "testing")]
    fn type_name(&self) -> &'static str;
    fn is_alive(&self) -> bool;
    /// Gives it a command.
    fn command(&self, command: Command);
    /// Waits until it has ended.
    fn closed(self: Arc<Self>) -> BoxFuture<'static, ExitReason>;
}

impl<A: Actor> Lifecycle for Mailbox<A> {
    fn id(&self) -> ActorId {
        self.id
    }

    #[cfg(feature = "testing")]
    fn type_name(&self) -> &'static str {
        std::any::type_name::<A>()
    }

    fn is_alive(&self) -> bool {
        self.exit.reason.get().is_none()
    }

    fn command(&self, command: Command) {
        self.lane.command(&self.pace, command);
    }

    fn closed(self: Arc<Self>) -> BoxFuture<'static, ExitReason> {
        Box::pin(async move { self.exit.wait().await })
    }
}

impl dyn Lifecycle {
    /// Asks it to end.
    pub(crate) fn stop(&self, reason: ExitReason) {
        self.command(Command::Stop(reason));
    }
}

/// A reference to an actor of type `A` in this process. Two references are equal if they are of the same
/// actor.
pub struct ActorRef<A: Actor>(pub(super) Arc<Mailbox<A>>);

impl<A: Actor> ActorRef<A> {
    pub(crate) fn new(id: ActorId, system: &Arc<Shared>) -> Self {
        let system = Arc::downgrade(system);
        Self(Arc::new(Mailbox {
            id,
            lane: Lane::new(),
            exit: Exit::default(),
            system,
            pace: Pace::default(),
        }))
    }

    /// Sends `message`, waiting for room in the mailbox (if that is the actor's
    /// [`Overflow`](super::Overflow) policy). Nothing is sent before the returned future is polled, and the
    /// message is not taken if it is dropped unfinished.
    ///
    /// Errors: `Closed`; `Full` if the policy is to reject.
    pub fn tell<M: Message>(&self, message: M) -> Tell<'_, A, M>
    where
        A: Handler<M>,
    {
        Tell::new(&self.0, message)
    }

    /// Sends `message` if the mailbox has room now (or drops its oldest to make some, if that is the
    /// actor's policy).
    ///
    /// Errors: `Full`, `Closed`.
    pub fn try_tell<M: Message>(&self, message: M) -> Result<(), TellError<M>>
    where
        A: Handler<M>,
    {
        let mut letter = Letter::tell(message);
        letter.stamp(None);
        let mut letter = Some(letter);
        self.0.try_put(&mut letter).map_err(|reason| {
            let letter = letter.expect("a letter that is not taken stays where it was");
            TellError { message: letter.message, reason }
        })
    }

    /// Sends `message` and waits for its reply: a future, on which [`Ask::timeout`] or [`Ask::deadline`]
    /// say how long at most; without either, 30 s. Needs a tokio context for its timer.
    ///
    /// If the future is dropped, or its time is over, before the actor has begun with the message, the
    /// message is not handled at all and becomes a dead letter (`Expired`).
    ///
    /// An actor may ask itself only beside its turn, with [`Context::pipe`](super::Context::pipe); inside
    /// [`Context::exclusive`](super::Context::exclusive) the message would wait for the work that waits for
    /// its answer.
    ///
    /// Errors: `NotSent` (`Full` if the mailbox had no room all the time, `Expired` if the deadline had
    /// passed before), `TimedOut`, `Lost`.
    pub fn ask<M: Message>(&self, message: M) -> Ask<A, M>
    where
        A: Handler<M>,
    {
        Ask::new(self.0.clone(), message)
    }

    /// Asks the actor to end. It does so before any waiting message, also while it holds its user lane
    /// or pauses before a restart; its children end first.
    pub fn stop(&self) {
        self.0.command(Command::Stop(ExitReason::Stopped));
    }

    /// The same actor, for senders of `M` only.
    pub fn recipient<M: Message>(&self) -> Recipient<M>
    where
        A: Handler<M>,
    {
        Recipient::new(self.0.clone())
    }

    /// A reference that does not keep the mailbox's memory, for those that remember actors and should not
    /// have to be told when one ends.
    pub fn downgrade(&self) -> WeakRef<A> {
        WeakRef(Arc::downgrade(&self.0))
    }

    /// How many messages wait, those being put in counted.
    pub fn depth(&self) -> usize {
        self.0.lane.depth(&self.0.pace)
    }

    /// How many messages may wait: [`Actor::MAILBOX`].
    pub fn capacity(&self) -> usize {
        Lane::<A>::CAPACITY
    }

    /// True until the actor has ended; true while it restarts.
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    /// The actor's number in its system.
    pub fn id(&self) -> ActorId {
        self.0.id
    }

    /// Waits until the actor has ended for good, and says how.
    pub fn closed(&self) -> impl Future<Output = ExitReason> + Send + use<A> {
        let mailbox = self.0.clone();
        async move { mailbox.exit.wait().await }
    }

    pub(crate) fn lifecycle(&self) -> Arc<dyn Lifecycle> {
        self.0.clone()
    }

    /// The actor takes the command that waits, if any.
    pub(crate) fn take_command(&self) -> Option<Command> {
        self.0.lane.take_command(&self.0.pace)
    }

    /// The actor takes what comes next, or is woken when something has come.
    pub(crate) fn take(
        &self,
        hand: &mut Hand<A>,
        wants_letters: bool,
        cx: &Context<'_>,
    ) -> Option<Arrival<A>> {
        self.0.lane.take(&self.0.pace, hand, wants_letters, cx)
    }

    /// It has ended for this reason: what it has in hand and what still waits is lost, and whoever watches is
    /// told. The first end stays.
    pub(crate) fn end(&self, hand: &mut Hand<A>, reason: ExitReason) {
        let (held, waiting) = (hand.empty(), self.0.lane.close(&self.0.pace));
        if !held.is_empty() || !waiting.is_empty() {
            let system = self.0.system.upgrade();
            for letter in held.into_iter().chain(waiting) {
                bury(system.as_deref(), letter, DeadLetterReason::ActorEnded);
            }
        }
        self.0.exit.set(reason);
    }

    /// It has ended: its system knows it no more.
    pub(crate) fn forget(&self) {
        if let Some(system) = self.0.system.upgrade() {
            system.forget(self.0.id);
        }
    }

    /// It takes no more messages. True a little before it is no longer alive: what waits is lost in between.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lane.is_closed()
    }

    /// Puts in a letter that came over a link, if there is room.
    pub(crate) fn try_put<M: Message>(&self, letter: &mut Option<Box<Letter<M>>>) -> Result<(), SendFailure>
    where
        A: Handler<M>,
    {
        self.0.try_put(letter)
    }

    /// Puts in a letter that came over a link, waiting for room. Dropped before that, the letter stays
    /// where it is.
    pub(crate) async fn put<M: Message>(&self, letter: &mut Option<Box<Letter<M>>>) -> Result<(), SendFailure>
    where
        A: Handler<M>,
    {
        let mut place = Place { mailbox: &self.0, ticket: None };
        std::future::poll_fn(|cx| self.0.poll_put(letter, &mut place.ticket, cx)).await
    }
}

/// A place in the row before a mailbox; given up when it is dropped.
struct Place<'a, A: Actor> {
    mailbox: &'a Mailbox<A>,
    ticket: Option<Ticket>,
}

impl<A: Actor> Drop for Place<'_, A> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.mailbox.leave(ticket);
        }
    }
}

impl<A: Handler<M>, M: Message> Port<M> for Mailbox<A> {
    fn offer(&self, message: M) -> Result<(), M> {
        let mut letter = Letter::tell(message);
        letter.stamp(None);
        let mut letter = Some(letter);
        match self.try_put(&mut letter) {
            Ok(()) => Ok(()),
            Err(_) => Err(letter.expect("a letter that is not taken stays where it was").message),
        }
    }

    fn tell(self: Arc<Self>, message: M) -> BoxFuture<'static, Result<(), TellError<M>>> {
        Box::pin(async move { Tell::new(&self, message).await })
    }

    fn try_tell(self: Arc<Self>, message: M) -> Result<(), TellError<M>> {
        ActorRef(self).try_tell(message)
    }

    fn ask(self: Arc<Self>, message: M, until: Until) -> BoxFuture<'static, Result<M::Reply, AskError<M>>> {
        Box::pin(Ask::new(self, message).until(until))
    }

    fn is_closed(&self) -> bool {
        self.lane.is_closed()
    }
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor> PartialEq for ActorRef<A> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<A: Actor> Eq for ActorRef<A> {}

impl<A: Actor> Hash for ActorRef<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl<A: Actor> fmt::Debug for ActorRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorRef({}{})", std::any::type_name::<A>(), self.0.id)
    }
}

/// A reference that is of use only while its actor lives.
///
/// ```
/// use dms_actors::*;
///
/// struct Quiet;
/// impl Actor for Quiet {}
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let system = ActorSystem::builder(Keypair::generate()?.did(), "example").start()?;
/// let actor = system.spawn(|| Quiet, Supervision::never());
/// let weak = actor.downgrade();
/// assert_eq!(weak.upgrade(), Some(actor.clone()));
/// actor.stop();
/// actor.closed().await;
/// assert_eq!(weak.upgrade(), None);
/// # Ok(())
/// # })
/// # }
/// ```
pub struct WeakRef<A: Actor>(Weak<Mailbox<A>>);

impl<A: Actor> WeakRef<A> {
    /// The actor, unless it has ended.
    pub fn upgrade(&self) -> Option<ActorRef<A>> {
        self.0.upgrade().map(ActorRef).filter(ActorRef::is_alive)
    }
}

impl<A: Actor> Clone for WeakRef<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor> fmt::Debug for WeakRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WeakRef({})", std::any::type_name::<A>())
    }
}
