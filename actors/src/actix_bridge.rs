//! Puts an existing actix actor behind a path, unchanged.
//!
//! [`expose`] starts a [`Bridge`]: an ordinary actor of an [`ActorSystem`] that hands what it is sent to the
//! actix actor and its results back. Whoever speaks to it, near or far, sees an actor of this crate: bounded
//! mailbox, deadlines, typed failures, watches. The actix actor runs where it always ran, on its own arbiter.
//!
//! A message has to be known to both sides: [`Message`] here and `actix::Message` there, with
//! one type of answer.
//!
//! ```
//! use dms_actors::bridge::{self, actix};
//! use dms_actors::{ActorSystem, Address, Keypair};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Add(u64);
//! dms_actors::wire_message!(Add, "example.add", 1, reply = u64);
//!
//! // What the application has already:
//! struct Sum(u64);
//! impl actix::Actor for Sum {
//!     type Context = actix::Context<Self>;
//! }
//! impl actix::Message for Add {
//!     type Result = u64;
//! }
//! impl actix::Handler<Add> for Sum {
//!     type Result = u64;
//!     fn handle(&mut self, add: Add, _: &mut Self::Context) -> u64 {
//!         self.0 += add.0;
//!         self.0
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! actix::System::new().block_on(async {
//!     let sum = actix::Actor::start(Sum(40));
//!     // What makes it reachable:
//!     let system = ActorSystem::builder(Keypair::generate()?.did(), "example").start()?;
//!     let exposed = bridge::expose(&system, "/sum", sum)?.accepts::<Add>();
//!
//!     let address = Address::new(system.me(), "/sum")?;
//!     let answer = system.resolve::<Add>(&address).ask(Add(2)).await?;
//!     assert_eq!(answer, 42);
//!     exposed.actor().stop();
//!     system.stop(std::time::Duration::from_secs(1)).await?;
//!     Ok(())
//! })
//! # }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The actix of this crate, so that a bridge and its actor mean the same one.
pub use actix;
use actix::dev::ToEnvelope;
use tokio::sync::Semaphore;

use crate::Message;
use crate::runtime::{
    Actor, ActorRef, ActorSystem, Answer, Context, Handler, RegisterError, Registration, Supervision,
};

/// Messages that an actix actor may have at once from one bridge, waiting in its mailbox or being worked on.
/// Further ones wait in the bridge's own mailbox, which stops their senders. Enough to keep an actor busy
/// that answers later; actix's own bound does not hold (every clone of an `Addr` has one place more).
pub const IN_FLIGHT: usize = 64;

/// How often a bridge that nobody speaks to looks whether its actor still lives: actix tells nobody.
const LOOK: Duration = Duration::from_millis(500);

/// Gives an actix actor the path `path`. Chain [`Registration::accepts`] for each message that it should
/// understand from elsewhere; [`Registration::actor`] is the bridge itself.
///
/// The bridge ends when the actix actor does ([`ExitReason::Failed`](crate::ExitReason::Failed)), which takes
/// the path away, closes the mailbox and tells who watches. Asks that the actix actor had not answered are
/// `Lost`. Stopping the bridge leaves the actix actor alone; but like every `Addr`, the bridge's keeps it alive.
///
/// # Errors
/// As [`ActorSystem::register`]; no bridge is left then.
pub fn expose<T>(
    system: &ActorSystem,
    path: &str,
    actor: actix::Addr<T>,
) -> Result<Registration<Bridge<T>>, RegisterError>
where
    T: actix::Actor,
{
    let bridge = start(system, actor);
    let registration = system.register(path, &bridge);
    if registration.is_err() {
        bridge.stop();
    }
    registration
}

/// The same without a path: a reference for senders of this process.
pub fn start<T>(system: &ActorSystem, actor: actix::Addr<T>) -> ActorRef<Bridge<T>>
where
    T: actix::Actor,
{
    // A new state could only speak to the same actor, so a bridge is not restarted.
    system.spawn(move || Bridge::to(actor.clone()), Supervision::never())
}

/// An actor that stands for an actix actor.
pub struct Bridge<T: actix::Actor> {
    actor: actix::Addr<T>,
    places: Arc<Semaphore>,
}

impl<T: actix::Actor> Bridge<T> {
    fn to(actor: actix::Addr<T>) -> Self {
        Self { actor, places: Arc::new(Semaphore::new(IN_FLIGHT)) }
    }
}

impl<T: actix::Actor> fmt::Debug for Bridge<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bridge<{}>", std::any::type_name::<T>())
    }
}

/// Why a bridge ended by itself.
const GONE: &str = "the actix actor has ended";

impl<T: actix::Actor> Actor for Bridge<T> {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.every(LOOK, |bridge, ctx| {
            if !bridge.actor.connected() {
                ctx.fail(GONE);
            }
        });
    }
}

impl<T, M> Handler<M> for Bridge<T>
where
    T: actix::Actor + actix::Handler<M>,
    T::Context: ToEnvelope<T, M>,
    M: Message + actix::Message<Result = <M as Message>::Reply>,
{
    fn handle(&mut self, message: M, ctx: &mut Context<'_, Self>) -> Answer<M::Reply> {
        let (responder, answer) = Answer::later();
        // There is a place: the lane stands still while there is none.
        let place = self.places.clone().try_acquire_owned().ok();
        // A clone for every message: its place in actix's queue is taken at once, so that messages keep
        // their order. An `Addr` whose mailbox is full would hand out a request that nothing wakes again.
        let request = self.actor.clone().send(message);
        let answered = async move {
            let result = request.await;
            drop(place);
            result
        };
        ctx.pipe(answered, move |bridge, result, ctx| match result {
            Ok(reply) => responder.reply(reply),
            // Whoever asked is told `Lost`, because the responder goes.
            Err(_) if !bridge.actor.connected() => ctx.fail(GONE),
            // It dropped this answer only, or is just about to end.
            Err(_) => {}
        });
        if self.places.available_permits() == 0 {
            let places = self.places.clone();
            ctx.exclusive(async move { drop(places.acquire().await) }, |_, (), _| {});
        }
        answer
    }
}
