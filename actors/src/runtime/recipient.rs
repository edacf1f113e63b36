//! Whoever understands one message, near or far behind one type.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use super::{AskError, TellError};
use crate::Message;

/// A way to send `M`: into a mailbox, by a path of this system, or over a link.
pub(crate) trait Port<M: Message>: Send + Sync {
    fn tell(self: Arc<Self>, message: M) -> BoxFuture<'static, Result<(), TellError<M>>>;
    fn try_tell(self: Arc<Self>, message: M) -> Result<(), TellError<M>>;
    fn ask(self: Arc<Self>, message: M, time: Duration) -> BoxFuture<'static, Result<M::Reply, AskError<M>>>;
}

/// A receiver of `M`, in this process or on another machine. Cheap to clone and to send.
pub struct Recipient<M: Message>(Arc<dyn Port<M>>);

impl<M: Message> Recipient<M> {
    pub(crate) fn new(port: Arc<dyn Port<M>>) -> Self {
        Self(port)
    }

    /// Sends `message`, waiting for room (and, far away, for the link and for credit). `Ok` means that
    /// it is queued: a word that is lost after that becomes a dead letter.
    ///
    /// Errors: any [`SendFailure`](super::SendFailure) but `Full`.
    pub fn tell(&self, message: M) -> impl Future<Output = Result<(), TellError<M>>> + Send + use<M> {
        self.0.clone().tell(message)
    }

    /// Sends `message` if it can be queued now. It never blocks; far away, a link that is not up
    /// answers `NoRouteYet` and starts to be opened.
    ///
    /// Errors: any [`SendFailure`](super::SendFailure).
    pub fn try_tell(&self, message: M) -> Result<(), TellError<M>> {
        self.0.clone().try_tell(message)
    }

    /// Sends `message` and waits for its reply, at most `time` in all. The time travels: a receiver
    /// does not begin what its asker no longer waits for. Needs a tokio context for its timer.
    ///
    /// Errors: every [`AskError`].
    pub fn ask(
        &self,
        message: M,
        time: Duration,
    ) -> impl Future<Output = Result<M::Reply, AskError<M>>> + Send + use<M> {
        self.0.clone().ask(message, time)
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
