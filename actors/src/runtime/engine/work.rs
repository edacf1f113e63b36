//! What an actor has started and waits for: pipes, timers, watches, and its own next step.
//!
//! All of it is one stream beside the mailbox, so that one poll of the actor touches only what is
//! ready. It belongs to one state of the actor: when that ends, everything is dropped at once and
//! nothing of it can reach the next one.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};

use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{FuturesUnordered, Stream, StreamExt};
use tokio::sync::mpsc;

use super::super::actor_ref::Control;
use super::super::letter::Envelope;
use super::super::{Actor, Context};
use super::panic_text;

/// Unfinished pipes at which the user lane waits: each may hold a message's worth of memory, and an
/// actor that starts more than it finishes must slow its senders down instead of growing.
const MAX_PIPES: usize = 1024;

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

/// The unfinished tasks of an actor and the gate before its user lane.
pub(crate) struct Work<A: Actor> {
    tasks: RefCell<FuturesUnordered<LocalBoxFuture<'static, Ready<A>>>>,
    /// The actor's task: all its streams share it.
    waker: RefCell<Option<Waker>>,
    pipes: Cell<usize>,
    holds: Cell<usize>,
    is_open: Cell<bool>,
    user: RefCell<Option<mpsc::Receiver<Box<dyn Envelope<A>>>>>,
}

impl<A: Actor> Work<A> {
    /// Nothing started, the gate closed.
    pub(super) fn new(user: mpsc::Receiver<Box<dyn Envelope<A>>>) -> Rc<Self> {
        Rc::new(Self {
            tasks: RefCell::default(),
            waker: RefCell::default(),
            pipes: Cell::new(0),
            holds: Cell::new(0),
            is_open: Cell::new(false),
            user: RefCell::new(Some(user)),
        })
    }

    /// Starts a task of the actor; a panic in it is caught.
    pub(crate) fn start(&self, kind: TaskKind, task: impl Future<Output = Completion<A>> + 'static) {
        match kind {
            TaskKind::Pipe => self.pipes.set(self.pipes.get() + 1),
            TaskKind::Exclusive => self.holds.set(self.holds.get() + 1),
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
    pub(super) fn push(&self, step: LocalBoxFuture<'static, Ready<A>>) {
        self.tasks.borrow_mut().push(step);
        self.wake();
    }

    /// A task of this kind is done: it holds up nothing any more.
    pub(super) fn finished(&self, kind: TaskKind) {
        match kind {
            TaskKind::Pipe => self.pipes.set(self.pipes.get().saturating_sub(1)),
            TaskKind::Exclusive => self.holds.set(self.holds.get().saturating_sub(1)),
            TaskKind::Timer | TaskKind::Watch => {}
        }
        self.wake();
    }

    /// Lets messages through.
    pub(super) fn open(&self) {
        self.is_open.set(true);
        self.wake();
    }

    /// Drops all tasks and closes the gate. A panic in a dropped task is caught.
    pub(super) fn clear(&self) {
        self.is_open.set(false);
        self.pipes.set(0);
        self.holds.set(0);
        let tasks = self.tasks.take();
        // What a destructor of a dead state says no longer matters to anybody.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(tasks)));
    }

    /// Takes the user lane away, for the last sweep.
    pub(super) fn take_user_lane(&self) -> Option<mpsc::Receiver<Box<dyn Envelope<A>>>> {
        self.user.take()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn remember(&self, cx: &TaskContext<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn is_held(&self) -> bool {
        !self.is_open.get() || self.holds.get() > 0 || self.pipes.get() >= MAX_PIPES
    }
}

/// The control lane as a stream.
pub(super) struct ControlLane(pub(super) mpsc::Receiver<Control>);

impl Stream for ControlLane {
    type Item = Control;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Control>> {
        // The actor holds a sender to itself, so the lane does not end before it.
        self.0.poll_recv(cx)
    }
}

/// The unfinished tasks as a stream that never ends.
pub(super) struct TaskLane<A: Actor>(pub(super) Rc<Work<A>>);

impl<A: Actor> Stream for TaskLane<A> {
    type Item = Ready<A>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Ready<A>>> {
        self.0.remember(cx);
        match self.0.tasks.borrow_mut().poll_next_unpin(cx) {
            Poll::Ready(Some(ready)) => Poll::Ready(Some(ready)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// The user lane as a stream that never ends and stands still while it is held.
pub(super) struct UserLane<A: Actor>(pub(super) Rc<Work<A>>);

impl<A: Actor> Stream for UserLane<A> {
    type Item = Box<dyn Envelope<A>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0.remember(cx);
        if self.0.is_held() {
            return Poll::Pending;
        }
        match &mut *self.0.user.borrow_mut() {
            Some(user) => user.poll_recv(cx),
            None => Poll::Pending,
        }
    }
}
