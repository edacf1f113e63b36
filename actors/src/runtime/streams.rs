//! Streams: an actor takes in items from outside, one after the other, between its messages.

use std::fmt;
use std::pin::Pin;

use futures::stream::{AbortHandle, Abortable, Stream, StreamExt, abortable};

use super::engine::TaskKind;
use super::{Actor, Context};

impl<A: Actor> Context<'_, A> {
    /// Gives the items of `stream` to the actor, one by one, and calls `ended` after the last. The next
    /// item is taken only when `then` has returned from the one before, so a stream that knows
    /// back-pressure feels it; and however many items are ready, messages get their turns in between.
    ///
    /// Like other work in progress it goes on while the actor is [`exclusive`](Self::exclusive), belongs
    /// to this state of the actor and is dropped when it restarts or ends. A panic of the stream is a
    /// panic of the actor.
    ///
    /// ```
    /// use dms_actors::*;
    ///
    /// struct Sum(u64);
    /// impl Actor for Sum {
    ///     fn started(&mut self, ctx: &mut Context<'_, Self>) {
    ///         let numbers = futures::stream::iter([1, 2, 3]);
    ///         ctx.stream(numbers, |sum, number, _| sum.0 += number, |_, ctx| ctx.stop());
    ///     }
    ///     fn stopped(&mut self, _: &ExitReason) {
    ///         assert_eq!(self.0, 6);
    ///     }
    /// }
    /// # let me = Keypair::generate().unwrap().did();
    /// # let system = ActorSystem::builder(me, "example").start().unwrap();
    /// # system.spawn(|| Sum(0), Supervision::never());
    /// # system.stop_blocking(std::time::Duration::from_secs(5)).unwrap();
    /// ```
    pub fn stream<S>(
        &mut self,
        stream: S,
        then: impl FnMut(&mut A, S::Item, &mut Context<'_, A>) + 'static,
        ended: impl FnOnce(&mut A, &mut Context<'_, A>) + 'static,
    ) -> StreamHandle
    where
        S: Stream + 'static,
    {
        let (stream, handle) = abortable(stream);
        let inflow = Inflow { stream: Box::pin(stream), then, ended };
        inflow.take(self);
        StreamHandle(handle)
    }
}

/// A stream on its way into an actor.
struct Inflow<S, T, E> {
    stream: Pin<Box<Abortable<S>>>,
    then: T,
    ended: E,
}

impl<S: Stream + 'static, T: 'static, E: 'static> Inflow<S, T, E> {
    fn take<A: Actor>(self, ctx: &mut Context<'_, A>)
    where
        T: FnMut(&mut A, S::Item, &mut Context<'_, A>),
        E: FnOnce(&mut A, &mut Context<'_, A>),
    {
        let Self { mut stream, mut then, ended } = self;
        let next = async move {
            let item = stream.next().await;
            (stream, item)
        };
        // Holds up nothing, as a watch does.
        ctx.start(TaskKind::Watch, next, move |actor, (stream, item), ctx| {
            // Cancelled since the item was taken: neither it nor the end is news any more.
            if stream.is_aborted() {
                return;
            }
            match item {
                Some(item) => {
                    then(actor, item, ctx);
                    Inflow { stream, then, ended }.take(ctx);
                }
                None => ended(actor, ctx),
            }
        });
    }
}

/// Cancels a [stream](Context::stream). Dropping it does not.
#[derive(Clone)]
pub struct StreamHandle(AbortHandle);

impl StreamHandle {
    /// Drops the stream: no item reaches the actor after this, however close it is, and its end is not
    /// told.
    pub fn cancel(&self) {
        self.0.abort();
    }
}

impl fmt::Debug for StreamHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamHandle").field("is_cancelled", &self.0.is_aborted()).finish()
    }
}
