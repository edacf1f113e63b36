//! What lies in a mailbox: a message with its way back, ready to be handled by one type of actor.

use tokio::sync::oneshot;

use super::{Actor, ActorPath, Answer, Context, Handler};
use crate::{Did, Kind, Message};

/// Where a message that came over a link is from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The peer, proven by the link's handshake.
    pub(crate) peer: Did,
    pub(crate) path: ActorPath,
    pub(crate) kind: Kind,
    /// The word's number on its link.
    pub(crate) id: u64,
}

/// A message whose type is forgotten, for actors of type `A`.
pub(crate) trait Envelope<A: Actor>: Send {
    /// The message's Rust type, for dead letters.
    fn type_name(&self) -> &'static str;
    /// Takes out where it came from; `None` for messages of this system.
    fn take_origin(&mut self) -> Option<Box<Origin>>;
    /// Lets the actor handle it.
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Context<'_, A>);
}

/// A message and its way back.
pub(crate) struct Letter<M: Message> {
    pub(crate) message: M,
    /// Resolves the ask; dropped unused (by a panic, or with the mailbox) it tells the asker so.
    pub(crate) reply: Option<oneshot::Sender<Answer<M::Reply>>>,
    pub(crate) origin: Option<Box<Origin>>,
}

impl<A: Handler<M>, M: Message> Envelope<A> for Letter<M> {
    fn type_name(&self) -> &'static str {
        std::any::type_name::<M>()
    }

    fn take_origin(&mut self) -> Option<Box<Origin>> {
        self.origin.take()
    }

    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Context<'_, A>) {
        let Self { message, reply, .. } = *self;
        let answer = actor.handle(message, ctx);
        if let Some(reply) = reply {
            // An asker that gave up is no failure of the actor.
            let _ = reply.send(answer);
        }
    }
}
