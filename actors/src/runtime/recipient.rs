//! Whoever understands one message, near or far behind one type.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::send::Until;
use super::{AskError, AskRecipient, TellError};
use crate::Message;

/// A way to send `M`: into a mailbox, by a path of this system, or over a link.
pub(crate) trait Port<M: Message>: Send + Sync {
    /// Takes the message if that needs no wait; otherwise gives it back, to be told.
    fn offer(&self, message: M) -> Result<(), M> {
        Err(message)
    }
    fn tell(self: Arc<Self>, message: M) -> BoxFuture<'static, Result<(), TellError<M>>>;
    fn try_tell(self: Arc<Self>, message: M) -> Result<(), TellError<M>>;
    fn ask(self: Arc<Self>, message: M, until: Until) -> BoxFuture<'static, Result<M::Reply, AskError<M>>>;
    /// True if it is known here that nobody will ever take a message.
    fn is_closed(&self) -> bool {
        false
    }
}

/// A receiver of `M`, in this process or on another machine. Cheap to clone and to send.
pub struct Recipient<M: Message>(pub(super) Arc<dyn Port<M>>);

impl<M: Message> Recipient<M> {
    pub(crate) fn new(port: Arc<dyn Port<M>>) -> Self {
        Self(port)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends `message`, waiting for room (and, far away, for the link and for credit). `Ok` means that
    /// it is queued: a word that is lost after that becomes a dead letter.
    ///
    /// Errors: any [`SendFailure`](super::SendFailure), `Full` only from an actor whose
    /// [`Overflow`](super::Overflow) policy is to reject.
    pub fn tell(&self, message: M) -> impl Future<Output = Result<(), TellError<M>>> + Send + use<M> {
        let port = self.0.clone();
        async move {
            match port.offer(message) {
                Ok(()) => Ok(()),
                Err(message) => port.tell(message).await,
            }
        }
    }

    /// Sends `message` if it can be queued now. It never blocks; far away, a link that is not up
    /// answers `NoRouteYet` and starts to be opened.
    ///
    /// Errors: any [`SendFailure`](super::SendFailure).
    pub fn try_tell(&self, message: M) -> Result<(), TellError<M>> {
        self.0.clone().try_tell(message)
    }

    /// Sends `message` and waits for its reply: a future, on which [`AskRecipient::timeout`] or
    /// [`AskRecipient::deadline`] say how long at most; without either, 30 s. An explicit time travels: a
    /// receiver does not begin what its asker no longer waits for. Needs a tokio context for its timer.
    ///
    /// Errors: every [`AskError`].
    pub fn ask(&self, message: M) -> AskRecipient<M> {
        AskRecipient::new(self.0.clone(), message)
    }
}

impl<M: Message> Clone for Recipient<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Message> fmt::Debug for Recipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient<{}>", std::any::type_name::<M>())
    }
}
