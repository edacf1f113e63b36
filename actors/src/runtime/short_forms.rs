//! Short forms of what a system and its registry offer, for first programs and for most others.
//! Whatever they do can also be said at length with [`ActorSystem::builder`], [`ActorSystem::spawn`] and
//! [`ActorSystem::register`].

use super::{
    Actor, ActorRef, ActorSystem, Address, AddressError, RegisterError, Registration, StartError, Supervision,
};
use crate::Keypair;

/// The messages that an actor takes from other machines, all at once.
///
/// [`#[handlers]`](macro@crate::handlers) implements it for the methods marked `#[handler(remote)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` takes no messages from other machines",
    note = "mark the methods that do with `#[handler(remote)]` in an impl block under `#[handlers]`, or \
            `register` it and say what it `accepts`"
)]
pub trait RemoteHandlers: Actor {
    /// Accepts each of them.
    fn accept(registration: Registration<Self>) -> Registration<Self>;
}

impl Default for Supervision {
    /// [`Supervision::transient`].
    fn default() -> Self {
        Self::transient()
    }
}

impl ActorSystem {
    /// Starts a system without network, under a key that is made for it and ends with it.
    ///
    /// # Errors
    /// `Key` and `Thread`: the operating system gave no randomness, thread or event loop.
    pub fn local() -> Result<Self, StartError> {
        let key = Keypair::generate().map_err(StartError::Key)?;
        Self::builder(key.did(), "local").start()
    }

    /// Starts an actor that is restarted after failures, within the bounds of
    /// [`Supervision::transient`]; [`spawn`](Self::spawn) takes any other supervision.
    pub fn start<A: Actor>(&self, factory: impl FnMut() -> A + Send + 'static) -> ActorRef<A> {
        self.spawn(factory, Supervision::default())
    }

    /// The address under which `path` of this system is known everywhere.
    ///
    /// # Errors
    /// `SegmentCount` and `Segment`: the text is not a path.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let system = dms_actors::ActorSystem::local()?;
    /// let address = system.address("/printer")?;
    /// assert_eq!(address.to_string(), format!("{}/printer", system.me()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn address(&self, path: &str) -> Result<Address, AddressError> {
        Address::new(self.me(), path)
    }

    /// Gives the actor a path and accepts there, also from other machines, every message that it
    /// handles in a method marked `#[handler(remote)]`.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    ///
    /// ```
    /// use dms_actors::{Actor, ActorSystem, WireMessage, handlers};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize, WireMessage)]
    /// #[wire(kind = "example.print")]
    /// struct Print(String);
    ///
    /// #[derive(Actor)]
    /// struct Printer;
    ///
    /// #[handlers]
    /// impl Printer {
    ///     #[handler(remote)]
    ///     fn print(&mut self, Print(text): Print) {
    ///         println!("{text}");
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let system = ActorSystem::local()?;
    /// let printer = system.start(|| Printer);
    /// system.expose("/printer", &printer)?;
    /// let by_address = system.resolve(&system.address("/printer")?);
    /// by_address.try_tell(Print("hello".to_owned()))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn expose<A: RemoteHandlers>(
        &self,
        path: &str,
        actor: &ActorRef<A>,
    ) -> Result<Registration<A>, RegisterError> {
        Ok(A::accept(self.register(path, actor)?))
    }
}
