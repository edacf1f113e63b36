//! The macros, documented where they can be shown at work.

/// Implements [`Message`](trait@crate::Message).
///
/// `#[message(reply = Type)]` says what an ask is answered with; without it the reply is `()`. A message
/// owns what it says, so lifetime parameters are refused; type parameters are bound to `Send + 'static`.
///
/// ```
/// use dms_actors::Message;
///
/// /// Told, not asked.
/// #[derive(Message)]
/// struct Forget;
///
/// #[derive(Message)]
/// #[message(reply = Option<u64>)]
/// struct Find { name: String }
/// ```
pub use dms_actors_macros::Message;

/// Implements [`Message`](trait@crate::Message) and [`WireMessage`](trait@crate::WireMessage) for a type
/// that serde can write and read; its body is its deterministic CBOR.
///
/// * `kind = "author.name"`: the name under which the message travels, chosen by its author and never
///   derived from Rust names, so that a refactoring does not change the wire. Checked by the compiler:
///   1 to 64 characters of `a-z`, `0-9`, `.` and `-`.
/// * `version = 2`: from 1 (the default) to 65535. A changed meaning is a new version.
/// * `reply = Type`: `()` by default. Serde must be able to write and read it, too.
///
/// ```
/// use dms_actors::{Kind, WireMessage};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, WireMessage)]
/// #[wire(kind = "example.greet", version = 2, reply = String)]
/// struct Greet { name: String }
///
/// assert_eq!(Kind::of::<Greet>().to_string(), "example.greet/2");
/// ```
pub use dms_actors_macros::WireMessage;

/// Implements [`Actor`](trait@crate::Actor) for a state without hooks; one that wants `started` or
/// `stopped` is given its implementation by hand.
///
/// * `#[actor(mailbox = 64)]`: how many messages may wait, as any constant expression.
/// * `#[actor(overflow = DropOldest)]`: what happens when they do, as a variant of
///   [`Overflow`](crate::Overflow).
///
/// ```
/// use dms_actors::{Actor, Overflow};
///
/// #[derive(Actor)]
/// #[actor(mailbox = 64, overflow = DropOldest)]
/// struct Latest<T> { all: Vec<T> }
///
/// assert_eq!(Latest::<String>::MAILBOX, 64);
/// assert_eq!(Latest::<String>::OVERFLOW, Overflow::DropOldest);
/// ```
#[cfg(feature = "runtime")]
pub use dms_actors_macros::Actor;

/// Makes each method marked `#[handler]` of an inherent impl block an implementation of
/// [`Handler`](crate::Handler). Methods without the mark are left alone.
///
/// A handler is `fn name(&mut self, message: M) -> R`, with `ctx: &mut Context<'_, Self>` as third
/// parameter where it is needed. `R` is the reply of the message (nothing for `()`), or `Answer<R>` to
/// give it later. The method stays an ordinary method: tests can call it without any system.
///
/// * `#[handler]`: for messages of this process.
/// * `#[handler(remote)]`: for messages that peers may send, too. The block then also implements
///   [`RemoteHandlers`](crate::RemoteHandlers), so that [`ActorSystem::expose`](crate::ActorSystem::expose)
///   registers all of them at once. One block of each actor can have such handlers.
/// * `#[handler(message)]`: the method declares its message as well; no `#[derive(Message)]` is needed
///   and the reply is what the method returns. For messages that only this actor handles.
///
/// The block may have parameters and conditions (`impl<T: Send + 'static> Handles<T>`).
///
/// ```
/// use dms_actors::{Actor, ActorSystem, Answer, Context, Message, handlers};
///
/// #[derive(Message)]
/// #[message(reply = u64)]
/// struct Add(u64);
///
/// struct Total;
///
/// #[derive(Actor)]
/// struct Adder {
///     total: u64,
/// }
///
/// #[handlers]
/// impl Adder {
///     #[handler]
///     fn add(&mut self, Add(more): Add) -> u64 {
///         self.raise(more)
///     }
///
///     /// Answers when the work has come back to the actor.
///     #[handler(message)]
///     fn total(&mut self, _: Total, ctx: &mut Context<'_, Self>) -> Answer<u64> {
///         let (responder, answer) = Answer::later();
///         ctx.pipe(async { /* slow work */ }, move |me: &mut Self, (), _| responder.reply(me.total));
///         answer
///     }
///
///     fn raise(&mut self, more: u64) -> u64 {
///         self.total += more;
///         self.total
///     }
/// }
/// ```
#[cfg(feature = "runtime")]
pub use dms_actors_macros::handlers;

/// Runs an `async fn main` that is lent a [local](crate::ActorSystem::local) system. When the function
/// has returned the system is stopped in order, with ten seconds for it.
///
/// Programs that speak to other machines, or that have a runtime of their own already, start their
/// systems with [`ActorSystem::builder`](crate::ActorSystem::builder) instead.
///
/// ```
/// #[dms_actors::main]
/// async fn main(system: dms_actors::ActorSystem) {
///     println!("{} has no actors yet", system.me());
/// }
/// ```
#[cfg(feature = "runtime")]
pub use dms_actors_macros::main;
