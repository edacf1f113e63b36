//! Where work that blocks its thread is done: on threads kept for it, or at once where it is asked for.
//!
//! The second is for simulations: a thread beside the one that simulates would make two runs of one seed differ, and
//! would stand still in virtual time.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::BlockingError;
use super::engine::panic_text;

/// Who does work that blocks. Cheap to clone.
#[derive(Clone)]
pub struct Workers(Kind);

#[derive(Clone)]
enum Kind {
    Threads(Handle),
    Inline,
}

impl Workers {
    /// The threads that a multi-threaded tokio runtime keeps for it.
    pub fn threads(runtime: Handle) -> Self {
        Self(Kind::Threads(runtime))
    }

    /// Whoever asks, at once: for simulations.
    pub fn inline() -> Self {
        Self(Kind::Inline)
    }

    /// True if there are no threads.
    pub fn is_inline(&self) -> bool {
        matches!(self.0, Kind::Inline)
    }

    /// Has `work` done, whether or not anybody waits for it.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Working<T> {
        match &self.0 {
            Kind::Threads(runtime) => Working(State::Waiting(runtime.spawn_blocking(work))),
            Kind::Inline => {
                let output = catch_unwind(AssertUnwindSafe(work));
                let output = output.map_err(|payload| BlockingError::Panicked(panic_text(&*payload)));
                Working(State::Done(Some(output)))
            }
        }
    }

    /// Does `work`, which may borrow, before it returns; a task of the runtime's threads lets them go on meanwhile.
    ///
    /// # Panics
    /// If `work` does; and on a current-thread runtime, where only [`Self::inline`] has a place for it.
    pub fn block<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.0 {
            Kind::Threads(_) => tokio::task::block_in_place(work),
            Kind::Inline => work(),
        }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_inline() { "Workers::inline" } else { "Workers::threads" })
    }
}

/// Work under way; its output is a future. Dropping it takes nothing back.
#[derive(Debug)]
#[must_use = "what it does may be of interest; drop it if it is not"]
pub struct Working<T>(State<T>);

#[derive(Debug)]
enum State<T> {
    Waiting(JoinHandle<T>),
    /// None once it was taken.
    Done(Option<Result<T, BlockingError>>),
}

/// The output is never pinned.
impl<T> Unpin for Working<T> {}

impl<T> Future for Working<T> {
    /// [`BlockingError::Panicked`] or [`BlockingError::Ended`] without an output.
    type Output = Result<T, BlockingError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = match &mut self.0 {
            State::Waiting(handle) => ready!(Pin::new(handle).poll(cx)),
            State::Done(output) => return Poll::Ready(output.take().unwrap_or(Err(BlockingError::Ended))),
        };
        Poll::Ready(ended.map_err(|error| match error.try_into_panic() {
            Ok(payload) => BlockingError::Panicked(panic_text(&*payload)),
            Err(_) => BlockingError::Ended,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn work_is_done_and_a_panic_in_it_is_an_error_wherever_it_is_done() {
        for workers in [Workers::threads(Handle::current()), Workers::inline()] {
            assert_eq!(workers.run(|| 7).await, Ok(7));
            assert_eq!(workers.block(|| 8), 8);
            let panicked = workers.run(|| -> u32 { panic!("broken") }).await;
            assert_eq!(panicked, Err(BlockingError::Panicked("broken".to_owned())));
        }
    }

    #[test]
    fn inline_it_is_done_before_anybody_waits() {
        let (tx, rx) = std::sync::mpsc::sync_channel(1);
        drop(Workers::inline().run(move || tx.send(1)));
        assert_eq!(rx.try_recv(), Ok(1));
    }
}
