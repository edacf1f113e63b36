//! What an actor can do from inside a handler: start work, set timers, have children, end.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::time::{Instant, sleep, sleep_until};

use super::actor_ref::Lifecycle;
use super::engine::{self, TaskKind, Work};
use super::letter::Meta;
use super::{Actor, ActorPath, ActorRef, ActorSystem, Address, ExitReason, Supervision, TraceContext};
use crate::Did;

/// The shortest period of a recurring timer, so that none can fill its thread.
const MIN_PERIOD: Duration = Duration::from_millis(1);

/// How the actor wants to end.
#[derive(Debug)]
pub(crate) enum Wish {
    Stop,
    Fail(ExitReason),
}

/// What belongs to an actor besides its state.
pub(crate) struct Core<A: Actor> {
    pub(crate) me: ActorRef<A>,
    pub(crate) system: ActorSystem,
    pub(crate) work: Work<A>,
    /// In the order of their start; dead ones are pruned when the list doubles.
    pub(crate) children: Vec<Arc<dyn Lifecycle>>,
    /// Set by the handler that runs, read when it has returned.
    pub(crate) wish: Option<Wish>,
}

/// The actor's side of the runtime, lent to each handler.
pub struct Context<'a, A: Actor> {
    core: &'a mut Core<A>,
    /// Of the message that is handled, if it has any.
    meta: Option<&'a Meta>,
    trace: Option<TraceContext>,
}

impl<'a, A: Actor> Context<'a, A> {
    pub(crate) fn new(core: &'a mut Core<A>, meta: Option<&'a Meta>, trace: Option<TraceContext>) -> Self {
        Self { core, meta, trace }
    }

    /// This actor.
    pub fn me(&self) -> ActorRef<A> {
        self.core.me.clone()
    }

    /// The system the actor lives in.
    pub fn system(&self) -> &ActorSystem {
        &self.core.system
    }

    /// Who sent the message being handled: the proven DID of the peer whose link it came over, or the
    /// system's own for everything else (messages from inside, results, timers).
    pub fn sender(&self) -> Did {
        let origin = self.meta.and_then(|meta| meta.origin.as_ref());
        origin.map_or_else(|| self.core.system.me(), |origin| origin.peer)
    }

    /// Where the sender of the message being handled says it lives in its system, if it came over a link and
    /// says so ([`ActorSystem::resolve_from`]). Only [`Self::sender`] is proven: this is the word of that system.
    pub fn sender_path(&self) -> Option<&ActorPath> {
        self.meta.and_then(|meta| meta.origin.as_ref()).and_then(|origin| origin.from.as_ref())
    }

    /// Until when the asker of the message being handled waits, if it said so: what is asked of others on its
    /// behalf should not take longer. `None` for everything else (tells, results, timers).
    ///
    /// ```
    /// # use dms_actors::*;
    /// # struct Price;
    /// # impl Message for Price { type Reply = u64; }
    /// # struct Shop { stock: Recipient<Price> }
    /// # impl Actor for Shop {}
    /// impl Handler<Price> for Shop {
    ///     fn handle(&mut self, price: Price, ctx: &mut Context<'_, Self>) -> Answer<u64> {
    ///         let (responder, answer) = Answer::later();
    ///         let mut ask = self.stock.ask(price);
    ///         if let Some(deadline) = ctx.deadline() {
    ///             ask = ask.deadline(deadline);
    ///         }
    ///         ctx.pipe(ask, |_, price, _| {
    ///             if let Ok(price) = price {
    ///                 responder.reply(price + 1);
    ///             }
    ///         });
    ///         answer
    ///     }
    /// }
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.meta.and_then(|meta| meta.deadline)
    }

    /// The trace that the message being handled, or the work that has finished, belongs to. Whatever is
    /// sent by the handler carries it without further ado.
    pub fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// Runs `future` beside the actor, on its thread, and brings its output back to it. Both are
    /// dropped if the actor restarts or ends first; a panic of the future is a panic of the actor.
    ///
    /// While an actor has 1,024 of these unfinished it takes no further message.
    pub fn pipe<F, T>(&mut self, future: F, then: impl FnOnce(&mut A, T, &mut Context<'_, A>) + 'static)
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        self.start(TaskKind::Pipe, future, then);
    }

    /// Like [`Self::pipe`], and no message is handled until the output is back. Commands, timers and
    /// other finished work still are.
    pub fn exclusive<F, T>(&mut self, future: F, then: impl FnOnce(&mut A, T, &mut Context<'_, A>) + 'static)
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        self.start(TaskKind::Exclusive, future, then);
    }

    /// Calls `then` once, after `delay`, unless the actor has restarted or ended.
    pub fn after(
        &mut self,
        delay: Duration,
        then: impl FnOnce(&mut A, &mut Context<'_, A>) + 'static,
    ) -> TimerHandle {
        let handle = TimerHandle::default();
        let cancelled = handle.clone();
        let fired = handle.clone().or_cancelled(sleep(delay));
        self.start(TaskKind::Timer, fired, move |actor, (), ctx| {
            if !cancelled.is_cancelled() {
                then(actor, ctx);
            }
        });
        handle
    }

    /// Calls `then` every `period` (at least 1 ms), first after one period, unless the actor has
    /// restarted or ended. Periods that pass while the actor is busy are skipped, not made up for.
    pub fn every(
        &mut self,
        period: Duration,
        then: impl FnMut(&mut A, &mut Context<'_, A>) + 'static,
    ) -> TimerHandle {
        let handle = TimerHandle::default();
        let period = period.max(MIN_PERIOD);
        self.arm(Instant::now() + period, period, handle.clone(), Box::new(then));
        handle
    }

    fn arm(&mut self, at: Instant, period: Duration, handle: TimerHandle, mut then: Tick<A>) {
        let fired = handle.clone().or_cancelled(sleep_until(at));
        self.start(TaskKind::Timer, fired, move |actor, (), ctx| {
            if handle.is_cancelled() {
                return;
            }
            then(actor, ctx);
            let now = Instant::now();
            let next = if at + period > now { at + period } else { now + period };
            ctx.arm(next, period, handle, then);
        });
    }

    /// Ends the actor when this handler has returned; a `Permanent` one is restarted.
    pub fn stop(&mut self) {
        // A failure said before is not taken back.
        self.core.wish.get_or_insert(Wish::Stop);
    }

    /// Ends the actor as failed when this handler has returned; its supervision may restart it.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.fail_as(ExitReason::Failed(reason.into()));
    }

    /// Like [`Self::fail`], with a reason that says more.
    pub(super) fn fail_as(&mut self, reason: ExitReason) {
        self.core.wish = Some(Wish::Fail(reason));
    }

    /// Starts a child on the same thread. It ends before this actor does, and also when this actor
    /// restarts: the new state starts its own children.
    pub fn spawn_child<C: Actor>(
        &mut self,
        factory: impl FnMut() -> C + Send + 'static,
        supervision: Supervision,
    ) -> ActorRef<C> {
        let child = ActorRef::new(self.core.system.next_actor_id(), self.core.system.shared());
        let unended = engine::Unended::new(child.clone());
        self.adopt(child.lifecycle(), supervision.escalates);
        engine::start_here(self.core.system.clone(), unended, Box::new(factory), supervision, None);
        child
    }

    /// Makes an actor a child of this one: it ends before this one does, and its failure for good is this
    /// one's if it `escalates`.
    pub(super) fn adopt(&mut self, child: Arc<dyn Lifecycle>, escalates: bool) {
        if escalates {
            let id = child.id();
            self.start(TaskKind::Watch, child.clone().closed(), move |_, reason, ctx| {
                if reason.is_failure() {
                    ctx.fail_as(ExitReason::ChildFailed { child: id, reason: Box::new(reason) });
                }
            });
        }
        let children = &mut self.core.children;
        if children.len().is_power_of_two() {
            children.retain(|child| child.is_alive());
        }
        children.push(child);
    }

    /// Calls `then` when `actor` has ended for good; at once if it has already. The watch ends with
    /// this state: a restarted watcher watches again in [`Actor::started`].
    pub fn watch<B: Actor>(
        &mut self,
        actor: &ActorRef<B>,
        then: impl FnOnce(&mut A, ExitReason, &mut Context<'_, A>) + 'static,
    ) {
        self.start(TaskKind::Watch, actor.closed(), then);
    }

    /// Calls `then` when the actor at `address`, near or far, has ended for good, or its system is lost:
    /// see [`ActorSystem::watch`]. The watch ends with this state.
    pub fn watch_address(
        &mut self,
        address: &Address,
        then: impl FnOnce(&mut A, ExitReason, &mut Context<'_, A>) + 'static,
    ) {
        let ended = self.core.system.watch(address);
        self.start(TaskKind::Watch, ended, then);
    }

    /// Starts a task of the actor.
    pub(super) fn start<F, T>(
        &mut self,
        kind: TaskKind,
        future: F,
        then: impl FnOnce(&mut A, T, &mut Context<'_, A>) + 'static,
    ) where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let Some(trace) = self.trace else {
            return self.core.work.start(kind, async move {
                let output = future.await;
                let run: engine::Completion<A> = Box::new(move |actor, ctx| then(actor, output, ctx));
                run
            });
        };
        self.core.work.start(kind, async move {
            let output = trace.scope(future).await;
            let run: engine::Completion<A> = Box::new(move |actor, ctx| {
                let _entered = trace.enter();
                ctx.trace = Some(trace);
                then(actor, output, ctx);
            });
            run
        });
    }
}

impl<A: Actor> fmt::Debug for Context<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("me", &self.core.me).field("sender", &self.sender()).finish()
    }
}

/// What a recurring timer calls.
type Tick<A> = Box<dyn FnMut(&mut A, &mut Context<'_, A>)>;

/// Cancels a timer. Dropping it does not.
#[derive(Debug, Clone, Default)]
pub struct TimerHandle(Arc<Cancel>);

#[derive(Debug, Default)]
struct Cancel {
    is_cancelled: AtomicBool,
    waker: AtomicWaker,
}

impl TimerHandle {
    /// Cancels the timer: it does not fire after this, however close it is.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::Acquire)
    }

    /// Waits for `timer` or the cancellation, so that a cancelled timer frees its memory at once.
    async fn or_cancelled(self, timer: impl Future<Output = ()>) {
        let mut timer = pin!(timer);
        std::future::poll_fn(|cx| {
            self.0.waker.register(cx.waker());
            if self.is_cancelled() { Poll::Ready(()) } else { timer.as_mut().poll(cx) }
        })
        .await;
    }
}
