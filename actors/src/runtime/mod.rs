//! Mailboxes, references, supervision and links: how a message reaches an actor, near or far.
//!
//! Applications call what is exported here; nothing here knows a word of theirs. An [`ActorSystem`]
//! is a value that owns one thread for its actors. An [`Actor`] handles [`Message`](crate::Message)s one at a time,
//! never waits in its turn, and is rebuilt from its factory after a panic. An [`ActorRef`] sends to
//! an actor of this process, a [`Recipient`] to one that may be on another machine.
//!
//! Actors that depend on each other restart together in a [`Group`]; several of a kind share their work in
//! a [`Pool`]; a [`Topic`] tells all who have subscribed; a [`BlockingPool`] keeps what blocks away from the
//! actors' thread, and an [`Arbiter`] is one more such thread.
//!
//! # What is promised
//!
//! * A mailbox never holds more than its capacity, whoever sends and through however many clones. Senders
//!   that wait are served in the order in which they came; an [`Overflow`] policy can refuse or drop instead.
//! * Commands (stop) go before messages; timers and finished work go before messages too, but a message has
//!   its turn after 16 of them. An actor makes at most 32 steps before its neighbours have their turn.
//! * `tell` is at most once and in order (per sender and target). A word that was taken and then
//!   lost is a [`DeadLetter`].
//! * `ask` has exactly one outcome: the reply, a refusal, a timeout ("unknown whether done") or lost. A message
//!   whose asker has gone, or whose deadline has passed, is not begun.
//! * Whoever watches an actor is told how it ended, always.
//! * A stop ends children before parents, the youngest first, joins every thread by its deadline, and names
//!   those that stand still.
//! * A panic in the factory, a handler, a timer, finished work or a destructor ends the state, never the
//!   thread; a new state finds the queue as it was, without the message that was handled.
//!
//! # Traces
//!
//! While a handler runs, and while a future that it started is polled, the [`TraceContext`] of the message is
//! [current](TraceContext::current), and every message sent meanwhile carries it, over links as well. Where a
//! `tracing` subscriber enables the target `dms_actors::message` (level debug), each handling of a message is a
//! span below its sender's, with the fields `actor`, `message`, `sender` (if it came over a link), `trace_id`,
//! `span_id` and `parent_span_id`, and a message without a trace begins one. Nothing of this is paid for while
//! nobody listens.
//!
//! # Metrics
//!
//! With the feature `metrics`, for whichever recorder the application gives the `metrics` facade:
//!
//! | name | kind | label | meaning |
//! |---|---|---|---|
//! | `dms_actor_messages_total` | counter | `actor` | messages handled |
//! | `dms_actor_handle_seconds` | histogram | `actor` | how long a handler ran, of 1 message in 64 |
//! | `dms_actor_wait_seconds` | histogram | `actor` | how long a message lay in the mailbox, of the same ones |
//! | `dms_actor_mailbox_depth` | gauge | `actor` | messages that wait, all mailboxes of the type together |
//! | `dms_actor_restarts_total` | counter | `actor` | states begun after the first |
//! | `dms_actor_panics_total` | counter | `actor` | panics that ended a state |
//! | `dms_dead_letters_total` | counter | `reason` | messages taken and lost ([`DeadLetterReason::name`]) |
//!
//! `actor` is the Rust type. An actor takes its handles when it starts, so a recorder that is installed later
//! hears only of the actors that start after it. Counter and gauge follow at the timed messages and whenever a
//! mailbox is empty.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use dms_actors::*;
//!
//! struct Ping(u32);
//! impl Message for Ping { type Reply = u32; }
//!
//! struct Counter { total: u32 }
//! impl Actor for Counter {}
//! impl Handler<Ping> for Counter {
//!     fn handle(&mut self, ping: Ping, _: &mut Context<'_, Self>) -> Answer<u32> {
//!         self.total += ping.0;
//!         self.total.into()
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let me = Keypair::generate()?.did();
//! let system = ActorSystem::builder(me, "example").start()?;
//! let counter = system.spawn(|| Counter { total: 0 }, Supervision::never());
//! counter.tell(Ping(40)).await?;
//! assert_eq!(counter.ask(Ping(2)).await?, 42);
//! system.stop(Duration::from_secs(1)).await?;
//! # Ok(())
//! # })
//! # }
//! ```

mod actor_ref;
mod address;
mod blocking;
mod context;
mod dead_letter;
mod engine;
mod error;
pub(crate) mod expansion;
mod group;
mod lane;
mod letter;
mod link;
mod message;
mod metrics;
mod placement;
mod policy;
mod pool;
mod recipient;
mod registry;
mod send;
mod short_forms;
mod streams;
mod supervision;
mod system;
mod topic;
mod trace;
mod workers;

pub use actor_ref::{ActorId, ActorRef, WeakRef};
pub use address::{ActorPath, Address, AddressError};
pub use blocking::{BlockingError, BlockingPool};
pub use context::{Context, TimerHandle};
pub use dead_letter::{DeadLetter, DeadLetterReason};
pub use engine::run;
pub use error::{AskError, SendFailure, TellError};
pub use group::{Group, GroupSupervision, Members, Strategy};
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use link::fuzz;
pub use link::{CREDIT, KindLimits, Limits, LookupError, MAX_BODY_LENGTH};
pub use message::{Actor, Answer, Handler, Later, Overflow, Responder};
pub use placement::Arbiter;
pub use policy::{AdmitAll, MAX_CREDENTIALS, Policy, Refusal, RefusalCode};
pub use pool::{Pool, PoolBuilder, Routing};
pub use recipient::Recipient;
pub use registry::{RegisterError, Registration};
pub use send::{Ask, AskRecipient, DEFAULT_ASK_TIMEOUT, Tell};
pub use short_forms::RemoteHandlers;
pub use streams::StreamHandle;
pub use supervision::{ExitReason, Restart, Supervision};
pub use system::{ActorSystem, ActorSystemBuilder, Counters, PeerEvent, StartError, StopError};
pub use topic::{OpenTopic, Published, Slow, Subscribe, SubscribeError, Subscription, Topic, Unsubscribe};
pub use trace::{TraceContext, TraceError};
pub use workers::{Workers, Working};

#[cfg(feature = "testing")]
pub(crate) use system::Observer;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose critical sections only move data and so leave it whole even if one panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
