//! Which actor answers to which path, and which kinds it understands.
//!
//! Works without any network. Entries of an actor that has ended are taken out with it.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::actor_ref::Lifecycle;
use super::letter::{Letter, Meta, Origin};
use super::link::{Asked, FarReply, ReplyTo};
use super::metrics::Sent;
use super::{
    Actor, ActorId, ActorPath, ActorRef, ActorSystem, AddressError, ExitReason, Handler, Recipient, Refusal,
    RefusalCode, SendFailure, TraceContext, lock,
};
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

/// A word that came over a link and is not yet decoded.
pub(crate) struct Arrival<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) origin: Origin,
    /// Nobody waits for it after this.
    pub(crate) deadline: Option<Instant>,
    /// The span that it continues.
    pub(crate) trace: Option<TraceContext>,
    /// The way back of an ask.
    pub(crate) asked: Option<Asked>,
    /// Puts it into the mailbox at once if there is room.
    pub(crate) may_enter: bool,
}

/// What became of an [`Arrival`].
pub(crate) enum Received {
    /// The mailbox has it.
    Taken,
    /// It waits for the mailbox.
    Waits(Box<dyn Incoming>),
    /// The actor has ended.
    Closed(Box<dyn Incoming>),
}

/// A word that came over a link, decoded, on its way into a mailbox.
pub(crate) trait Incoming: Send {
    /// Puts it in if there is room.
    fn offer(&mut self) -> Result<(), SendFailure>;
    /// Puts it in, waiting for room. Nothing is lost if the future is dropped.
    fn put(&mut self) -> BoxFuture<'_, Result<(), SendFailure>>;
    /// Refuses it: an ask's asker is told. False if nobody waits for it.
    fn refuse(self: Box<Self>, refusal: Refusal) -> bool;
}

/// How one actor receives one kind.
pub(crate) trait WireEntry: Send + Sync {
    /// Reads the body (and checks its signatures).
    fn receive(&self, arrival: Arrival<'_>, context: &DecodeContext) -> Result<Received, DecodeError>;
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
    fn receive(&self, arrival: Arrival<'_>, context: &DecodeContext) -> Result<Received, DecodeError> {
        let Arrival { body, origin, deadline, trace, asked, may_enter } = arrival;
        let message = M::decode_body(body, context)?;
        let reply = asked.map(|asked| ReplyTo::Far(FarReply::new(asked)));
        let meta = Some(Box::new(Meta { origin: Some(origin), deadline, trace, sent: Sent::sample() }));
        let mut letter = Some(Box::new(Letter { message, reply, meta }));
        let entered = if may_enter { self.target.try_put(&mut letter) } else { Err(SendFailure::Full) };
        let waits = |letter| Box::new(TypedIncoming { target: self.target.clone(), letter });
        Ok(match entered {
            Ok(()) => Received::Taken,
            Err(SendFailure::Full) => Received::Waits(waits(letter)),
            Err(_) => Received::Closed(waits(letter)),
        })
    }

    fn near(&self) -> &dyn Any {
        &self.near
    }
}

struct TypedIncoming<A: Actor, M: Message> {
    target: ActorRef<A>,
    letter: Option<Box<Letter<M>>>,
}

impl<A, M> Incoming for TypedIncoming<A, M>
where
    A: Handler<M>,
    M: Message,
{
    fn offer(&mut self) -> Result<(), SendFailure> {
        self.target.try_put(&mut self.letter)
    }

    fn put(&mut self) -> BoxFuture<'_, Result<(), SendFailure>> {
        Box::pin(self.target.put(&mut self.letter))
    }

    fn refuse(mut self: Box<Self>, refusal: Refusal) -> bool {
        match self.letter.take().and_then(|letter| letter.reply) {
            Some(ReplyTo::Far(reply)) => reply.refuse(refusal),
            Some(ReplyTo::Near(_)) | None => return false,
        }
        true
    }
}

struct Entry {
    actor: Arc<dyn Lifecycle>,
    id: ActorId,
    kinds: BTreeMap<Kind, Arc<dyn WireEntry>>,
}

#[derive(Default)]
struct Paths {
    entries: BTreeMap<ActorPath, Entry>,
    /// The same paths by their actor, so that the end of one costs only its own.
    by_actor: BTreeMap<ActorId, Vec<ActorPath>>,
}

impl Paths {
    /// False if the actor had none.
    fn forget(&mut self, actor: ActorId) -> bool {
        let Some(gone) = self.by_actor.remove(&actor) else { return false };
        for path in gone {
            self.entries.remove(&path);
        }
        true
    }
}

/// The paths of one system.
#[derive(Default)]
pub(crate) struct Registry {
    paths: Mutex<Paths>,
    /// Counts changes, so that what was found before can be kept until the next.
    generation: AtomicU64,
}

impl Registry {
    /// What [`Self::find`] said holds as long as this number stands.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// To be called under the lock, after a change.
    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn insert<A: Actor>(&self, path: ActorPath, actor: &ActorRef<A>) -> Result<(), RegisterError> {
        let mut paths = lock(&self.paths);
        if let Some(entry) = paths.entries.get(&path) {
            if entry.actor.is_alive() {
                return Err(RegisterError::Taken(path));
            }
            // Its actor has just ended and is about to be forgotten, or was never able to say so.
            let gone = entry.id;
            paths.forget(gone);
        }
        if paths.entries.len() >= MAX_PATHS {
            return Err(RegisterError::TooMany);
        }
        paths.by_actor.entry(actor.id()).or_default().push(path.clone());
        let entry = Entry { actor: actor.lifecycle(), id: actor.id(), kinds: BTreeMap::new() };
        paths.entries.insert(path, entry);
        self.changed();
        Ok(())
    }

    fn accept(&self, path: &ActorPath, actor: ActorId, kind: Kind, entry: Arc<dyn WireEntry>) {
        let mut paths = lock(&self.paths);
        // The path may have been unregistered meanwhile, or belong to a successor.
        if let Some(found) = paths.entries.get_mut(path)
            && found.id == actor
        {
            found.kinds.insert(kind, entry);
            self.changed();
        }
    }

    pub(crate) fn remove(&self, path: &ActorPath) -> bool {
        let mut paths = lock(&self.paths);
        let Some(entry) = paths.entries.remove(path) else { return false };
        if let Some(others) = paths.by_actor.get_mut(&entry.id) {
            others.retain(|other| other != path);
            if others.is_empty() {
                paths.by_actor.remove(&entry.id);
            }
        }
        self.changed();
        true
    }

    /// Takes out every path of an actor that has ended.
    pub(crate) fn forget(&self, actor: ActorId) {
        let mut paths = lock(&self.paths);
        if paths.forget(actor) {
            self.changed();
        }
    }

    pub(crate) fn list(&self) -> Vec<ActorPath> {
        lock(&self.paths).entries.keys().cloned().collect()
    }

    /// The path itself and those beneath it, in their order.
    pub(crate) fn list_under(&self, prefix: &ActorPath) -> Vec<ActorPath> {
        let paths = lock(&self.paths);
        let from_there = paths.entries.range(prefix.clone()..).map(|(path, _)| path);
        // "/a-b" lies between "/a" and "/a/b", and is not beneath "/a".
        let with_rest =
            from_there.map_while(|path| Some((path, path.as_str().strip_prefix(prefix.as_str())?)));
        let beneath = with_rest.filter(|(_, rest)| rest.is_empty() || rest.starts_with('/'));
        beneath.map(|(path, _)| path.clone()).collect()
    }

    /// Waits until the actor at `path` has ended; `None` if nobody is there.
    pub(crate) fn closed(&self, path: &ActorPath) -> Option<BoxFuture<'static, ExitReason>> {
        lock(&self.paths).entries.get(path).map(|entry| entry.actor.clone().closed())
    }

    /// Who receives `kind` at `path`, or the refusal to say.
    pub(crate) fn find(&self, path: &ActorPath, kind: &Kind) -> Result<Arc<dyn WireEntry>, Refusal> {
        let paths = lock(&self.paths);
        let Some(entry) = paths.entries.get(path) else {
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
        registry.insert(path.clone(), actor)?;
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

    /// The actor.
    pub fn actor(&self) -> &ActorRef<A> {
        &self.actor
    }
}

impl<A: Actor> fmt::Debug for Registration<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("path", &self.path).field("actor", &self.actor).finish()
    }
}
