//! Which actor answers to which path, and which kinds it understands.
//!
//! Works without any network. Entries of an actor that has ended are taken out with it.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::letter::{Letter, Origin};
use super::{
    Actor, ActorId, ActorPath, ActorRef, ActorSystem, AddressError, Answer, Handler, Recipient, Refusal,
    RefusalCode, SendFailure, lock,
};
use crate::cbor;
use crate::wire::{DecodeContext, DecodeError};
use crate::{Kind, Message, WireMessage};

/// Most paths of a system. Each costs a few hundred bytes; an application that wants more has one
/// actor per thing and should address a parent that routes instead.
const MAX_PATHS: usize = 65_536;

/// Why a path could not be given to an actor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The text is not a path.
    #[error("not a path")]
    Path(#[source] AddressError),
    /// Another living actor has the path.
    #[error("{0} is taken")]
    Taken(ActorPath),
    /// The actor has ended.
    #[error("the actor has ended")]
    Closed,
    /// There are too many paths.
    #[error("there are {MAX_PATHS} paths already")]
    TooMany,
}

/// A word that came over a link, decoded, on its way into a mailbox.
pub(crate) trait Incoming: Send {
    /// Puts it in if there is room.
    fn offer(&mut self) -> Result<(), SendFailure>;
    /// Puts it in, waiting for room.
    fn put(&mut self) -> BoxFuture<'_, Result<(), SendFailure>>;
    /// After it was put in: waits for the encoded reply, `None` if it is lost. Only for asks, once.
    fn reply(&mut self) -> BoxFuture<'static, Option<Result<Vec<u8>, Refusal>>>;
}

/// How one actor receives one kind.
pub(crate) trait WireEntry: Send + Sync {
    /// Reads the body (and checks its signatures).
    fn decode(
        &self,
        body: &[u8],
        context: &DecodeContext,
        origin: Origin,
        is_ask: bool,
    ) -> Result<Box<dyn Incoming>, DecodeError>;
    /// The `Recipient<M>` for senders inside the system.
    fn near(&self) -> &dyn Any;
}

struct TypedEntry<A: Actor, M: Message> {
    target: ActorRef<A>,
    near: Recipient<M>,
}

impl<A, M> WireEntry for TypedEntry<A, M>
where
    A: Handler<M>,
    M: Message + WireMessage,
    M::Reply: Serialize + DeserializeOwned,
{
    fn decode(
        &self,
        body: &[u8],
        context: &DecodeContext,
        origin: Origin,
        is_ask: bool,
    ) -> Result<Box<dyn Incoming>, DecodeError> {
        let message = M::decode_body(body, context)?;
        let (reply, answer) = if is_ask {
            let (tx, rx) = oneshot::channel();
            (Some(tx), Some(rx))
        } else {
            (None, None)
        };
        let letter = Some(Letter { message, reply, origin: Some(Box::new(origin)) });
        Ok(Box::new(TypedIncoming { target: self.target.clone(), letter, answer }))
    }

    fn near(&self) -> &dyn Any {
        &self.near
    }
}

struct TypedIncoming<A: Actor, M: Message> {
    target: ActorRef<A>,
    letter: Option<Letter<M>>,
    answer: Option<oneshot::Receiver<Answer<M::Reply>>>,
}

impl<A, M> Incoming for TypedIncoming<A, M>
where
    A: Handler<M>,
    M: Message,
    M::Reply: Serialize,
{
    fn offer(&mut self) -> Result<(), SendFailure> {
        self.target.try_put(&mut self.letter)
    }

    fn put(&mut self) -> BoxFuture<'_, Result<(), SendFailure>> {
        Box::pin(self.target.put(&mut self.letter))
    }

    fn reply(&mut self) -> BoxFuture<'static, Option<Result<Vec<u8>, Refusal>>> {
        let answer = self.answer.take();
        Box::pin(async move {
            let reply = answer?.await.ok()?.resolve().await?;
            Some(cbor::to_canonical(&reply).map_err(|error| {
                Refusal::new(
                    RefusalCode::TooLong,
                    format!("it was done, but the reply cannot travel: {error}"),
                )
            }))
        })
    }
}

struct Entry {
    actor: ActorId,
    kinds: BTreeMap<Kind, Arc<dyn WireEntry>>,
}

/// The paths of one system.
#[derive(Default)]
pub(crate) struct Registry(Mutex<BTreeMap<ActorPath, Entry>>);

impl Registry {
    fn insert(&self, path: ActorPath, actor: ActorId) -> Result<(), RegisterError> {
        let mut paths = lock(&self.0);
        if paths.contains_key(&path) {
            return Err(RegisterError::Taken(path));
        }
        if paths.len() >= MAX_PATHS {
            return Err(RegisterError::TooMany);
        }
        paths.insert(path, Entry { actor, kinds: BTreeMap::new() });
        Ok(())
    }

    fn accept(&self, path: &ActorPath, actor: ActorId, kind: Kind, entry: Arc<dyn WireEntry>) {
        // The path may have been unregistered meanwhile, or belong to a successor.
        if let Some(found) = lock(&self.0).get_mut(path)
            && found.actor == actor
        {
            found.kinds.insert(kind, entry);
        }
    }

    pub(crate) fn remove(&self, path: &ActorPath) -> bool {
        lock(&self.0).remove(path).is_some()
    }

    /// Takes out every path of an actor that has ended.
    pub(crate) fn forget(&self, actor: ActorId) {
        lock(&self.0).retain(|_, entry| entry.actor != actor);
    }

    pub(crate) fn list(&self) -> Vec<ActorPath> {
        lock(&self.0).keys().cloned().collect()
    }

    /// Who receives `kind` at `path`, or the refusal to say.
    pub(crate) fn find(&self, path: &ActorPath, kind: &Kind) -> Result<Arc<dyn WireEntry>, Refusal> {
        let paths = lock(&self.0);
        let Some(entry) = paths.get(path) else {
            return Err(unknown_path(path));
        };
        let unknown_kind =
            || Refusal::new(RefusalCode::UnknownKind, format!("{path} does not understand {kind}"));
        entry.kinds.get(kind).cloned().ok_or_else(unknown_kind)
    }

    /// The sender inside the system for `M` at `path`.
    pub(crate) fn near<M: Message + WireMessage>(&self, path: &ActorPath) -> Result<Recipient<M>, Refusal> {
        let kind = Kind::of::<M>();
        let entry = self.find(path, &kind)?;
        // Two Rust types of one kind: the actor understands the other one.
        let other_type =
            || Refusal::new(RefusalCode::UnknownKind, format!("{path} has another type for {kind}"));
        entry.near().downcast_ref::<Recipient<M>>().cloned().ok_or_else(other_type)
    }
}

/// The refusal of a word to nobody.
pub(crate) fn unknown_path(path: &ActorPath) -> Refusal {
    Refusal::new(RefusalCode::UnknownPath, format!("nobody is at {path}"))
}

/// An actor at its path; says which kinds it accepts from elsewhere. Dropping it changes nothing.
pub struct Registration<A: Actor> {
    system: ActorSystem,
    path: ActorPath,
    actor: ActorRef<A>,
}

impl<A: Actor> Registration<A> {
    pub(crate) fn new(system: ActorSystem, path: &str, actor: &ActorRef<A>) -> Result<Self, RegisterError> {
        let path: ActorPath = path.parse().map_err(RegisterError::Path)?;
        let registry = system.registry();
        if !actor.is_alive() {
            return Err(RegisterError::Closed);
        }
        registry.insert(path.clone(), actor.id())?;
        if !actor.is_alive() {
            // It ended in between, maybe before it could take the path out itself.
            registry.forget(actor.id());
            return Err(RegisterError::Closed);
        }
        Ok(Self { system, path, actor: actor.clone() })
    }

    /// From now on words of this kind reach the actor at its path.
    #[expect(clippy::return_self_not_must_use, reason = "the last call of a chain is a statement")]
    pub fn accepts<M>(self) -> Self
    where
        A: Handler<M>,
        M: Message + WireMessage,
        M::Reply: Serialize + DeserializeOwned,
    {
        let entry = TypedEntry::<A, M> { target: self.actor.clone(), near: self.actor.recipient() };
        let registry = self.system.registry();
        registry.accept(&self.path, self.actor.id(), Kind::of::<M>(), Arc::new(entry));
        self
    }

    /// The path.
    pub fn path(&self) -> &ActorPath {
        &self.path
    }
}

impl<A: Actor> fmt::Debug for Registration<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("path", &self.path).field("actor", &self.actor).finish()
    }
}
