//! What the macros' expansions call at run time.

use std::future::Future;
use std::time::Duration;

use super::{ActorSystem, Answer};
use crate::Message;

/// How long the actors of a `#[main]` program have for their end: far more than an orderly one takes.
const STOP_TIME: Duration = Duration::from_secs(10);

/// What a method marked `#[handler]` may return when its message's reply is `R`.
#[diagnostic::on_unimplemented(
    message = "the reply of this message is `{R}`, and its handler returns `{Self}`",
    label = "must be `{R}`, or `Answer<{R}>` to answer later",
    note = "the reply is what the message says: `#[message(reply = …)]`, or `()` where it says nothing"
)]
pub trait IntoAnswer<R> {
    /// The answer.
    fn into_answer(self) -> Answer<R>;
}

impl<R> IntoAnswer<R> for R {
    fn into_answer(self) -> Answer<R> {
        Answer::Now(self)
    }
}

impl<R> IntoAnswer<R> for Answer<R> {
    fn into_answer(self) -> Answer<R> {
        self
    }
}

/// Makes what a handler returned the answer to its message. The message is named by the caller, so that
/// a wrong reply is said in these words and not as a mismatch of inferred types.
pub fn answer<M: Message, R: IntoAnswer<M::Reply>>(returned: R) -> Answer<M::Reply> {
    returned.into_answer()
}

/// Runs `program` with a system of its own, which is stopped in order at its end.
///
/// # Panics
/// If the operating system gives no thread, event loop or randomness: nothing has begun then.
pub fn run<F: Future>(program: impl FnOnce(ActorSystem) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a program is given an event loop");
    runtime.block_on(async {
        let system = ActorSystem::local().expect("a program is given a thread and randomness");
        let output = program(system.clone()).await;
        if let Err(error) = system.stop(STOP_TIME).await {
            tracing::warn!(%error, "the program ends with actors that did not");
        }
        output
    })
}
