//! Runs actors on actix; the only module that names its types.
//!
//! actix gives the context (one task per actor) and the thread. Not used
//! is its mailbox, whose capacity binds almost nothing and which starves timers, and its supervisor,
//! which does not restart after a panic: both are replaced, by the mailbox's own lane and in [`host`].

mod host;
mod thread;
mod work;

pub(crate) use host::{Unended, start_here};
pub use thread::run;
pub(crate) use thread::{Engine, NotTaken};
pub(crate) use work::{Completion, TaskKind, Work};

use super::Actor;

/// Builds the state of an actor, at its start and after each failure.
pub(crate) type Factory<A> = Box<dyn FnMut() -> A + Send>;

/// The text of a panic's payload.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without text").to_owned()
}

/// Says what an actor is in logs.
fn type_name<A: Actor>() -> &'static str {
    std::any::type_name::<A>()
}
