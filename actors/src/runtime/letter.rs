//! What lies in a mailbox: a message with its way back, ready to be handled by one type of actor.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::lane::Sealed;
use super::link::ReplyTo;
use super::metrics::Sent;
use super::system::Shared;
use super::{Actor, ActorPath, Answer, Context, DeadLetter, DeadLetterReason, Handler, TraceContext};
use crate::{Did, Kind, Message};

/// Where a message that came over a link is from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The peer, proven by the link's handshake.
    pub(crate) peer: Did,
    pub(crate) path: ActorPath,
    pub(crate) kind: Arc<Kind>,
    /// The word's number on its link.
    pub(crate) id: u64,
    /// Where the sending actor says it lives in the peer's system.
    pub(crate) from: Option<ActorPath>,
}

/// What is known of a message besides itself. Most have none of it and carry no more than a null pointer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meta {
    /// `None` for messages of this system.
    pub(crate) origin: Option<Origin>,
    /// Not begun after this.
    pub(crate) deadline: Option<Instant>,
    /// What the sender was doing.
    pub(crate) trace: Option<TraceContext>,
    /// Of the few whose times are measured.
    pub(crate) sent: Option<Sent>,
}

/// The outside of a letter, read before it is delivered.
pub(crate) struct Outside {
    /// The message's Rust type, for dead letters.
    pub(crate) type_name: &'static str,
    /// False if it was asked and its asker has gone.
    pub(crate) is_awaited: bool,
    pub(crate) meta: Option<Box<Meta>>,
}

/// A message whose type is forgotten, for actors of type `A`.
pub(crate) trait Envelope<A: Actor>: Send {
    /// Reads the outside; its meta is there once.
    fn outside(&mut self) -> Outside;
    /// Lets the actor handle it.
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Context<'_, A>);
}

/// A message and its way back.
pub(crate) struct Letter<M: Message> {
    pub(crate) message: M,
    /// Resolves the ask; dropped unused (by a panic, or with the mailbox) it tells the asker so.
    pub(crate) reply: Option<ReplyTo<M::Reply>>,
    pub(crate) meta: Option<Box<Meta>>,
}

impl<M: Message> Letter<M> {
    pub(crate) fn tell(message: M) -> Box<Self> {
        Box::new(Self { message, reply: None, meta: None })
    }

    pub(crate) fn ask(message: M) -> (Box<Self>, oneshot::Receiver<Answer<M::Reply>>) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Self { message, reply: Some(ReplyTo::Near(reply)), meta: None }), answer)
    }

    /// Notes what its sender knows when it sends.
    pub(crate) fn stamp(&mut self, deadline: Option<Instant>) {
        let (trace, sent) = (TraceContext::current(), Sent::sample());
        if trace.is_some() || deadline.is_some() || sent.is_some() {
            self.meta = Some(Box::new(Meta { origin: None, deadline, trace, sent }));
        }
    }
}

impl<A: Handler<M>, M: Message> Envelope<A> for Letter<M> {
    fn outside(&mut self) -> Outside {
        Outside {
            type_name: std::any::type_name::<M>(),
            is_awaited: self.reply.as_ref().is_none_or(ReplyTo::is_awaited),
            meta: self.meta.take(),
        }
    }

    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Context<'_, A>) {
        let Self { message, reply, .. } = *self;
        let answer = actor.handle(message, ctx);
        if let Some(reply) = reply {
            reply.send(answer);
        }
    }
}

/// Makes an undelivered letter a dead one; its body is dropped, which resolves an ask. Without a system
/// (it is gone) nobody is told.
pub(crate) fn bury<A: Actor>(system: Option<&Shared>, mut letter: Sealed<A>, reason: DeadLetterReason) {
    let Outside { type_name, meta, .. } = letter.outside();
    if let Some(system) = system {
        system.bury(dead_letter(type_name, meta, reason));
    }
    // What the destructor of a lost message says matters to nobody.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(letter)));
}

/// What is said of a message that is lost.
pub(crate) fn dead_letter(
    type_name: &'static str,
    meta: Option<Box<Meta>>,
    reason: DeadLetterReason,
) -> DeadLetter {
    let unknown =
        DeadLetter { reason, peer: None, path: None, type_name: Some(type_name), kind: None, id: None };
    match meta.and_then(|meta| meta.origin) {
        None => unknown,
        Some(origin) => DeadLetter {
            peer: Some(origin.peer),
            path: Some(origin.path),
            kind: Some((*origin.kind).clone()),
            id: Some(origin.id),
            ..unknown
        },
    }
}
