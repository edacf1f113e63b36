//! References to actors of this process: one `Arc`, sent and cloned freely.
//!
//! A reference does not keep its actor alive and its actor does not end when the last one is dropped:
//! an actor ends when it is stopped or its parent ends.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::letter::{Envelope, Letter};
use super::recipient::Port;
use super::{Actor, AskError, ExitReason, Handler, Recipient, SendFailure, TellError};
use crate::Message;

/// Commands that can wait at once. All of them are stops and one suffices, so a full lane loses none.
const CONTROL_LANE: usize = 4;

/// The number of an actor within its system; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub(crate) u64);

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A command; handled before every message.
#[derive(Debug)]
pub(crate) enum Control {
    /// End for this reason, whatever the supervision says.
    Stop(ExitReason),
}

/// The sending half of an actor: both lanes and how it ended.
pub(crate) struct Mailbox<A: Actor> {
    id: ActorId,
    user: mpsc::Sender<Box<dyn Envelope<A>>>,
    control: mpsc::Sender<Control>,
    exit: watch::Sender<Option<ExitReason>>,
}

/// The receiving half of a mailbox, moved to the actor's thread.
pub(crate) struct Lanes<A: Actor> {
    pub(crate) user: mpsc::Receiver<Box<dyn Envelope<A>>>,
    pub(crate) control: mpsc::Receiver<Control>,
}

/// What can be done to an actor of any type.
pub(crate) trait Lifecycle: Send + Sync {
    fn is_alive(&self) -> bool;
    /// Asks it to end.
    fn stop(&self, reason: ExitReason);
    /// Waits until it has ended.
    fn closed(&self) -> BoxFuture<'static, ExitReason>;
}

impl<A: Actor> Lifecycle for Mailbox<A> {
    fn is_alive(&self) -> bool {
        self.exit.borrow().is_none()
    }

    fn stop(&self, reason: ExitReason) {
        // A full lane holds a stop already; a closed one belongs to an actor that has ended.
        let _ = self.control.try_send(Control::Stop(reason));
    }

    fn closed(&self) -> BoxFuture<'static, ExitReason> {
        let mut exit = self.exit.subscribe();
        Box::pin(async move {
            match exit.wait_for(Option::is_some).await {
                Ok(reason) => (*reason).clone().unwrap_or(ExitReason::SystemStopped),
                // The mailbox went without a word: only a thread that died does that.
                Err(_) => ExitReason::SystemStopped,
            }
        })
    }
}

/// A reference to an actor of type `A` in this process.
pub struct ActorRef<A: Actor>(Arc<Mailbox<A>>);

impl<A: Actor> ActorRef<A> {
    pub(crate) fn new(id: ActorId) -> (Self, Lanes<A>) {
        let (user_tx, user) = mpsc::channel(A::MAILBOX.max(1));
        let (control_tx, control) = mpsc::channel(CONTROL_LANE);
        let (exit, _) = watch::channel(None);
        let mailbox = Mailbox { id, user: user_tx, control: control_tx, exit };
        (Self(Arc::new(mailbox)), Lanes { user, control })
    }

    /// Sends `message`, waiting for room in the mailbox. The message is not taken if the returned
    /// future is dropped.
    ///
    /// Errors: `Closed`.
    pub fn tell<M: Message>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<(), TellError<M>>> + Send + use<A, M>
    where
        A: Handler<M>,
    {
        let mailbox = self.0.clone();
        async move {
            match mailbox.user.reserve().await {
                Ok(room) => {
                    room.send(Box::new(Letter { message, reply: None, origin: None }));
                    Ok(())
                }
                Err(_) => Err(TellError { message, reason: SendFailure::Closed }),
            }
        }
    }

    /// Sends `message` if the mailbox has room now.
    ///
    /// Errors: `Full`, `Closed`.
    pub fn try_tell<M: Message>(&self, message: M) -> Result<(), TellError<M>>
    where
        A: Handler<M>,
    {
        match self.0.user.try_reserve() {
            Ok(room) => {
                room.send(Box::new(Letter { message, reply: None, origin: None }));
                Ok(())
            }
            Err(TrySendError::Full(())) => Err(TellError { message, reason: SendFailure::Full }),
            Err(TrySendError::Closed(())) => Err(TellError { message, reason: SendFailure::Closed }),
        }
    }

    /// Sends `message` and waits for its reply, at most `time` in all. Needs a tokio context for its
    /// timer. An actor must not wait for its own reply; handlers [`tell`](Self::tell) instead.
    ///
    /// Errors: `NotSent` (`Full` if the mailbox had no room all the time), `TimedOut`, `Lost`.
    pub fn ask<M: Message>(
        &self,
        message: M,
        time: Duration,
    ) -> impl Future<Output = Result<M::Reply, AskError<M>>> + Send + use<A, M>
    where
        A: Handler<M>,
    {
        let mailbox = self.0.clone();
        async move {
            let deadline = Instant::now().checked_add(time);
            // Without waiting first: an ask with room costs one timer, not two.
            let room = match mailbox.user.try_reserve() {
                Ok(room) => room,
                Err(TrySendError::Closed(())) => {
                    return Err(AskError::NotSent { message, reason: SendFailure::Closed });
                }
                Err(TrySendError::Full(())) => match within(deadline, mailbox.user.reserve()).await {
                    Some(Ok(room)) => room,
                    Some(Err(_)) => {
                        return Err(AskError::NotSent { message, reason: SendFailure::Closed });
                    }
                    None => return Err(AskError::NotSent { message, reason: SendFailure::Full }),
                },
            };
            let (reply, answer) = oneshot::channel();
            room.send(Box::new(Letter { message, reply: Some(reply), origin: None }));
            let reply = async { answer.await.ok()?.resolve().await };
            match within(deadline, reply).await {
                Some(Some(reply)) => Ok(reply),
                Some(None) => Err(AskError::Lost),
                None => Err(AskError::TimedOut),
            }
        }
    }

    /// Asks the actor to end. It does so before any waiting message, also while it holds its user lane
    /// or pauses before a restart; its children end first.
    pub fn stop(&self) {
        Lifecycle::stop(&*self.0, ExitReason::Stopped);
    }

    /// The same actor, for senders of `M` only.
    pub fn recipient<M: Message>(&self) -> Recipient<M>
    where
        A: Handler<M>,
    {
        Recipient::new(self.0.clone())
    }

    /// How many messages wait, those being put in counted.
    pub fn depth(&self) -> usize {
        self.0.user.max_capacity() - self.0.user.capacity()
    }

    /// True until the actor has ended; true while it restarts.
    pub fn is_alive(&self) -> bool {
        Lifecycle::is_alive(&*self.0)
    }

    /// The actor's number in its system.
    pub fn id(&self) -> ActorId {
        self.0.id
    }

    /// Waits until the actor has ended for good, and says how.
    pub fn closed(&self) -> impl Future<Output = ExitReason> + Send + use<A> {
        Lifecycle::closed(&*self.0)
    }

    pub(crate) fn lifecycle(&self) -> Arc<dyn Lifecycle> {
        self.0.clone()
    }

    /// Records how the actor ended; the first record stays.
    pub(crate) fn set_exit(&self, reason: ExitReason) {
        self.0.exit.send_if_modified(|exit| {
            let is_first = exit.is_none();
            exit.get_or_insert(reason);
            is_first
        });
    }

    /// Puts in a letter that came over a link, if there is room.
    pub(crate) fn try_put<M: Message>(&self, letter: &mut Option<Letter<M>>) -> Result<(), SendFailure>
    where
        A: Handler<M>,
    {
        let room = self.0.user.try_reserve().map_err(|error| match error {
            TrySendError::Full(()) => SendFailure::Full,
            TrySendError::Closed(()) => SendFailure::Closed,
        })?;
        if let Some(letter) = letter.take() {
            room.send(Box::new(letter));
        }
        Ok(())
    }

    /// Puts in a letter that came over a link, waiting for room.
    pub(crate) async fn put<M: Message>(&self, letter: &mut Option<Letter<M>>) -> Result<(), SendFailure>
    where
        A: Handler<M>,
    {
        let room = self.0.user.reserve().await.map_err(|_| SendFailure::Closed)?;
        if let Some(letter) = letter.take() {
            room.send(Box::new(letter));
        }
        Ok(())
    }
}

/// Waits for `future` until `deadline`; for ever if the deadline is beyond the clock's range.
async fn within<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => timeout(Duration::MAX, future).await.ok(),
    }
}

impl<A: Handler<M>, M: Message> Port<M> for Mailbox<A> {
    fn tell(self: Arc<Self>, message: M) -> BoxFuture<'static, Result<(), TellError<M>>> {
        Box::pin(ActorRef(self).tell(message))
    }

    fn try_tell(self: Arc<Self>, message: M) -> Result<(), TellError<M>> {
        ActorRef(self).try_tell(message)
    }

    fn ask(self: Arc<Self>, message: M, time: Duration) -> BoxFuture<'static, Result<M::Reply, AskError<M>>> {
        Box::pin(ActorRef(self).ask(message, time))
    }
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor> fmt::Debug for ActorRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorRef({}{})", std::any::type_name::<A>(), self.0.id)
    }
}
