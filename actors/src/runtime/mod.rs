//! Mailboxes, references, supervision and links: how a message reaches an actor, near or far.
//!
//! Applications call what is exported here; nothing here knows a word of theirs. An [`ActorSystem`]
//! is a value that owns one thread for its actors. An [`Actor`] handles [`Message`](crate::Message)s one at a time,
//! never waits in its turn, and is rebuilt from its factory after a panic. An [`ActorRef`] sends to
//! an actor of this process, a [`Recipient`] to one that may be on another machine.
//!
//! # What is promised
//!
//! * A mailbox never holds more than its capacity, whoever sends and through however many clones.
//! * Commands (stop) go before messages; timers and finished work go before messages too.
//! * `tell` is at most once and in order (per sender and target). A word that was taken and then
//!   lost is a [`DeadLetter`].
//! * `ask` has exactly one outcome: the reply, a refusal, a timeout ("unknown whether done") or lost.
//! * Whoever watches an actor is told how it ended, always.
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
//! assert_eq!(counter.ask(Ping(2), Duration::from_secs(1)).await?, 42);
//! system.stop(Duration::from_secs(1)).await?;
//! # Ok(())
//! # })
//! # }
//! ```

mod actor_ref;
mod address;
mod context;
mod dead_letter;
mod engine;
mod error;
mod letter;
mod link;
mod message;
mod policy;
mod recipient;
mod registry;
mod supervision;
mod system;

pub use actor_ref::{ActorId, ActorRef};
pub use address::{ActorPath, Address, AddressError};
pub use context::{Context, TimerHandle};
pub use dead_letter::{DeadLetter, DeadLetterReason};
pub use error::{AskError, SendFailure, TellError};
pub use link::{CREDIT, MAX_BODY_LENGTH};
pub use message::{Actor, Answer, Handler, Later, Responder};
pub use policy::{AdmitAll, Policy, Refusal, RefusalCode};
pub use recipient::Recipient;
pub use registry::{RegisterError, Registration};
pub use supervision::{ExitReason, Restart, Supervision};
pub use system::{ActorSystem, ActorSystemBuilder, Counters, PeerEvent, StartError, StopError};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose critical sections only move data and so leave it whole even if one panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
