//! Placement: which thread an actor lives on.
//!
//! By default all actors of a system share one thread, where a message between two of them costs a
//! fraction of a microsecond. An [`Arbiter`] is one more thread, for actors that compute or block.

use std::fmt;
use std::sync::Arc;

use super::engine::{self, Engine, NotTaken};
use super::lane::Hand;
use super::{Actor, ActorRef, Context, ExitReason, Supervision};

/// One more thread of a system for actors; see [`ActorSystem::arbiter`](super::ActorSystem::arbiter).
///
/// A name, cheap to clone: dropping it ends nothing. The thread ends when its system is
/// [stopped](super::ActorSystem::stop) or gone; an actor that is spawned on it after that has ended with
/// [`ExitReason::SystemStopped`].
#[derive(Clone)]
pub struct Arbiter(Arc<Engine>);

impl Arbiter {
    pub(crate) fn new(engine: Engine) -> Self {
        Self(Arc::new(engine))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0
    }

    /// The name it was made with; also the name of its thread.
    pub fn name(&self) -> &str {
        self.0.name()
    }
}

impl fmt::Debug for Arbiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Arbiter").field(&self.name()).finish()
    }
}

impl NotTaken {
    /// The actor that was to be started learns that it never will be.
    pub(crate) fn tell<A: Actor>(self, actor: &ActorRef<A>) {
        if self.is_full {
            let reason = ExitReason::Failed("too many actors wait to be started on its thread".into());
            actor.end(&mut Hand::new(), reason);
        }
        // Of a thread that has ended, the dropped job tells it.
        drop(self.job);
    }
}

impl<A: Actor> Context<'_, A> {
    /// Like [`Self::spawn_child`], on the thread of an arbiter. The child's own children will live there
    /// too; it ends before this actor does all the same.
    pub fn spawn_child_on<C: Actor>(
        &mut self,
        arbiter: &Arbiter,
        factory: impl FnMut() -> C + Send + 'static,
        supervision: Supervision,
    ) -> ActorRef<C> {
        let child = ActorRef::new(self.system().next_actor_id(), self.system().shared());
        let (system, me) = (self.system().clone(), engine::Unended::new(child.clone()));
        self.adopt(child.lifecycle(), supervision.escalates);
        let start = move || engine::start_here(system, me, Box::new(factory), supervision, None);
        if let Err(not_taken) = arbiter.engine().run(Box::new(start)) {
            not_taken.tell(&child);
        }
        child
    }
}
