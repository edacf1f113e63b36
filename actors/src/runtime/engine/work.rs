//! What an actor has started and waits for: pipes, timers, watches, and its own next step.
//!
//! It belongs to one state of the actor: when that ends, everything is dropped at once and nothing of it
//! can reach the next one.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};

use super::super::{Actor, Context};
use super::panic_text;

/// Unfinished pipes at which the user lane waits: each may hold a message's worth of memory, and an
/// actor that starts more than it finishes must slow its senders down instead of growing.
const MAX_PIPES: u32 = 1024;

/// What the actor does with a finished task.
pub(crate) type Completion<A> = Box<dyn FnOnce(&mut A, &mut Context<'_, A>)>;

/// Why a task runs; decides what it holds up meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskKind {
    Pipe,
    Exclusive,
    Timer,
    Watch,
}

/// Something of an actor is ready.
pub(super) enum Ready<A: Actor> {
    /// A task has finished and the actor takes its output.
    Run(TaskKind, Completion<A>),
    /// A task has panicked.
    Panicked(String),
    /// All children have ended.
    ChildrenGone,
    /// The pause before a restart is over.
    PauseOver,
}

/// An unfinished task. Dropped with a panic, it would take those beside it along: the set that holds them
/// leaks whatever is left in it when it unwinds. So it keeps the panic to itself.
struct Task<A: Actor>(Option<LocalBoxFuture<'static, Ready<A>>>);

impl<A: Actor> Future for Task<A> {
    type Output = Ready<A>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Ready<A>> {
        match &mut self.0 {
            Some(task) => task.as_mut().poll(cx),
            // Only its drop takes it out.
            None => Poll::Pending,
        }
    }
}

impl<A: Actor> Drop for Task<A> {
    fn drop(&mut self) {
        let task = self.0.take();
        // What a destructor of a dead state says no longer matters to anybody.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
    }
}

/// The unfinished tasks of an actor and the gate before its user lane.
pub(crate) struct Work<A: Actor> {
    /// `None` until something is started: most actors of most applications never have any.
    tasks: Option<FuturesUnordered<Task<A>>>,
    pipes: u32,
    holds: u32,
    is_open: bool,
}

impl<A: Actor> Work<A> {
    /// Nothing started, the gate closed.
    pub(super) fn new() -> Self {
        Self { tasks: None, pipes: 0, holds: 0, is_open: false }
    }

    /// Starts a task of the actor; a panic in it is caught.
    pub(crate) fn start(&mut self, kind: TaskKind, task: impl Future<Output = Completion<A>> + 'static) {
        match kind {
            TaskKind::Pipe => self.pipes += 1,
            TaskKind::Exclusive => self.holds += 1,
            TaskKind::Timer | TaskKind::Watch => {}
        }
        let task = AssertUnwindSafe(task).catch_unwind();
        self.push(Box::pin(async move {
            match task.await {
                Ok(completion) => Ready::Run(kind, completion),
                Err(payload) => Ready::Panicked(panic_text(&*payload)),
            }
        }));
    }

    /// Starts a step of the actor's own life.
    pub(super) fn push(&mut self, step: LocalBoxFuture<'static, Ready<A>>) {
        self.tasks.get_or_insert_default().push(Task(Some(step)));
    }

    /// True if nothing is unfinished.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.as_ref().is_none_or(FuturesUnordered::is_empty)
    }

    /// The next task that has finished.
    pub(super) fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Ready<A>> {
        let Some(tasks) = &mut self.tasks else {
            return Poll::Pending;
        };
        // Tasks catch their own panics; here are left those of the destructors of finished ones.
        match catch_unwind(AssertUnwindSafe(|| tasks.poll_next_unpin(cx))) {
            Ok(Poll::Ready(Some(Ready::Run(kind, completion)))) => {
                self.finished(kind);
                Poll::Ready(Ready::Run(kind, completion))
            }
            Ok(Poll::Ready(Some(ready))) => Poll::Ready(ready),
            Ok(Poll::Ready(None) | Poll::Pending) => Poll::Pending,
            Err(payload) => Poll::Ready(Ready::Panicked(panic_text(&*payload))),
        }
    }

    /// A task of this kind is done: it holds up nothing any more.
    fn finished(&mut self, kind: TaskKind) {
        match kind {
            TaskKind::Pipe => self.pipes -= 1,
            TaskKind::Exclusive => self.holds -= 1,
            TaskKind::Timer | TaskKind::Watch => {}
        }
    }

    /// Lets messages through.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// Whether messages stand still now.
    pub(super) fn is_held(&self) -> bool {
        !self.is_open || self.holds > 0 || self.pipes >= MAX_PIPES
    }

    /// Drops all tasks and closes the gate. A panic in a dropped task is caught.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }
}
