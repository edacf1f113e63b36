//! One supervised actor: its state between its lanes, rebuilt from its factory when it fails.
//!
//! ```text
//!              built ok                 failure, told to stop
//!   Starting ───────────▶ Running ─────────────────────────────▶ Ending (children first)
//!      ▲                                                         │          │
//!      │   pause over              budget left                   │          │ no restart
//!      └─────────────── Pausing ◀────────────────────────────────┘          ▼
//!                          └──────────── told to stop ───────────────────▶ Ended
//! ```
//!
//! Whatever runs code of the application runs under `catch_unwind`: factory, `started`, handlers,
//! finished work, timers, `stopped` and destructors.

use std::panic::{AssertUnwindSafe, catch_unwind};

use actix::{ActorContext, AsyncContext, StreamHandler};
use tracing::{debug, warn};

use super::super::actor_ref::{Control, Lanes};
use super::super::context::{Core, Wish};
use super::super::letter::{Envelope, Origin};
use super::super::supervision::{Budget, Verdict};
use super::super::{
    Actor, ActorRef, ActorSystem, Context, DeadLetter, DeadLetterReason, ExitReason, Restart, Supervision,
};
use super::work::{ControlLane, Ready, TaskLane, UserLane, Work};
use super::{Factory, panic_text, type_name};
use crate::Did;

/// Starts an actor on the current thread, which must be one of an engine.
pub(crate) fn start_here<A: Actor>(
    system: ActorSystem,
    me: Unended<A>,
    lanes: Lanes<A>,
    factory: Factory<A>,
    supervision: Supervision,
) {
    let work = Work::new(lanes.user);
    let core = Core { me: me.0.clone(), system, work, children: Vec::new(), wish: None };
    let host = Host {
        actor: None,
        factory,
        supervision,
        core,
        budget: Budget::default(),
        phase: Phase::Starting,
        control: Some(lanes.control),
        _unended: me,
    };
    actix::Context::new().run(host);
}

enum Phase {
    Starting,
    Running,
    /// Waits for the children.
    Ending {
        reason: ExitReason,
        next: Next,
    },
    /// Waits to restart.
    Pausing,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Restart,
    End,
}

struct Host<A: Actor> {
    /// `None` before the start, after a panic, and while it waits to restart.
    actor: Option<A>,
    factory: Factory<A>,
    supervision: Supervision,
    core: Core<A>,
    budget: Budget,
    phase: Phase,
    control: Option<tokio::sync::mpsc::Receiver<Control>>,
    _unended: Unended<A>,
}

/// An actor on its way to its end: wherever it is dropped, even before its start, whoever waits for
/// the end is told.
pub(crate) struct Unended<A: Actor>(pub(crate) ActorRef<A>);

impl<A: Actor> Drop for Unended<A> {
    fn drop(&mut self) {
        // Only its thread's end takes an actor away; for one that has ended this changes nothing.
        self.0.set_exit(ExitReason::SystemStopped);
    }
}

/// The state is never pinned: every use of it is through `&mut`.
impl<A: Actor> Unpin for Host<A> {}

type Ctx<A> = actix::Context<Host<A>>;

impl<A: Actor> Host<A> {
    fn start(&mut self, ctx: &mut Ctx<A>) {
        self.phase = Phase::Starting;
        match catch_unwind(AssertUnwindSafe(|| (self.factory)())) {
            Ok(actor) => {
                self.actor = Some(actor);
                self.phase = Phase::Running;
                self.core.work.open();
                let me = self.core.system.me();
                self.dispatch(ctx, me, |actor, ctx| actor.started(ctx));
            }
            Err(payload) => self.end(ctx, ExitReason::Panicked(panic_text(&*payload)), None),
        }
    }

    /// Lets code of the application run; says with which text it panicked.
    fn dispatch(
        &mut self,
        ctx: &mut Ctx<A>,
        sender: Did,
        run: impl FnOnce(&mut A, &mut Context<'_, A>),
    ) -> Option<String> {
        let actor = self.actor.as_mut()?;
        let core = &mut self.core;
        let result = catch_unwind(AssertUnwindSafe(|| run(actor, &mut Context::new(core, sender))));
        if let Err(payload) = result {
            let text = panic_text(&*payload);
            self.panicked(ctx, text.clone());
            return Some(text);
        }
        match self.core.wish.take() {
            None => {}
            Some(Wish::Stop) => self.end(ctx, ExitReason::Stopped, None),
            Some(Wish::Fail(text)) => self.end(ctx, ExitReason::Failed(text), None),
        }
        None
    }

    fn panicked(&mut self, ctx: &mut Ctx<A>, text: String) {
        self.core.wish = None;
        self.drop_actor();
        self.end(ctx, ExitReason::Panicked(text), None);
    }

    fn drop_actor(&mut self) {
        let actor = self.actor.take();
        // A destructor may panic too; the state is gone either way.
        if catch_unwind(AssertUnwindSafe(|| drop(actor))).is_err() {
            warn!(actor = type_name::<A>(), id = %self.core.me.id(), "a destructor panicked");
        }
    }

    /// Ends the current state: its work at once, then its children, then itself. What follows is up to
    /// the supervision, unless it is `forced`.
    fn end(&mut self, ctx: &mut Ctx<A>, reason: ExitReason, forced: Option<Next>) {
        let restarts = match (&reason, self.supervision.restart) {
            (_, Restart::Never) => false,
            (ExitReason::Stopped, restart) => restart == Restart::Permanent,
            _ => true,
        };
        let next = forced.unwrap_or(if restarts { Next::Restart } else { Next::End });
        debug!(actor = type_name::<A>(), id = %self.core.me.id(), %reason, restarts = next == Next::Restart,
            "actor ends");
        self.core.work.clear();
        self.phase = Phase::Ending { reason, next };
        let mut children = std::mem::take(&mut self.core.children);
        children.retain(|child| child.is_alive());
        if children.is_empty() {
            return self.children_gone(ctx);
        }
        // One by one, the youngest first, since it may use its elders. Their control lanes work while
        // they wait for anything, so only code that blocks the thread could keep this from ending.
        self.core.work.push(Box::pin(async move {
            for child in children.into_iter().rev() {
                child.stop(ExitReason::Stopped);
                child.closed().await;
            }
            Ready::ChildrenGone
        }));
    }

    fn children_gone(&mut self, ctx: &mut Ctx<A>) {
        let Phase::Ending { reason, next } = std::mem::replace(&mut self.phase, Phase::Pausing) else {
            return;
        };
        if let Some(actor) = self.actor.as_mut()
            && catch_unwind(AssertUnwindSafe(|| actor.stopped(&reason))).is_err()
        {
            warn!(actor = type_name::<A>(), id = %self.core.me.id(), "stopped() panicked");
        }
        self.drop_actor();
        if next == Next::End {
            return self.finish(ctx, reason);
        }
        let clock = self.core.system.clock();
        match self.budget.spend(&self.supervision, clock.monotonic(), clock.random()[0]) {
            Verdict::After(pause) => {
                warn!(actor = type_name::<A>(), id = %self.core.me.id(), %reason, ?pause, "actor restarts");
                self.core.work.push(Box::pin(async move {
                    tokio::time::sleep(pause).await;
                    Ready::PauseOver
                }));
            }
            Verdict::Exhausted(restarts) => {
                self.finish(ctx, ExitReason::RestartsExhausted { restarts, last: reason.to_string() });
            }
        }
    }

    /// Ends for good: the queue becomes dead letters, whoever watches is told.
    fn finish(&mut self, ctx: &mut Ctx<A>, reason: ExitReason) {
        self.phase = Phase::Ended;
        self.core.work.clear();
        if let Some(mut user) = self.core.work.take_user_lane() {
            user.close();
            let system = self.core.system.clone();
            // Senders that reserved room before the close put their message in after it; the lane ends
            // once the last of them has.
            actix::spawn(async move {
                while let Some(envelope) = user.recv().await {
                    bury(&system, envelope.type_name(), envelope, DeadLetterReason::ActorEnded);
                }
            });
        }
        self.core.system.forget(self.core.me.id());
        debug!(actor = type_name::<A>(), id = %self.core.me.id(), %reason, "actor ended");
        self.core.me.set_exit(reason);
        ctx.stop();
    }

    fn told_to_stop(&mut self, ctx: &mut Ctx<A>, why: ExitReason) {
        match &mut self.phase {
            Phase::Running => self.end(ctx, why, Some(Next::End)),
            Phase::Ending { next, .. } => *next = Next::End,
            Phase::Starting | Phase::Pausing => self.finish(ctx, why),
            Phase::Ended => {}
        }
    }
}

/// Makes an undelivered or poisoned message a dead letter; its body is dropped, which resolves an ask.
fn bury<A: Actor>(
    system: &ActorSystem,
    type_name: &'static str,
    mut envelope: Box<dyn Envelope<A>>,
    reason: DeadLetterReason,
) {
    let origin = envelope.take_origin();
    bury_origin(system, type_name, origin, reason);
    let _ = catch_unwind(AssertUnwindSafe(|| drop(envelope)));
}

fn bury_origin(
    system: &ActorSystem,
    type_name: &'static str,
    origin: Option<Box<Origin>>,
    reason: DeadLetterReason,
) {
    let unknown =
        DeadLetter { reason, peer: None, path: None, type_name: Some(type_name), kind: None, id: None };
    system.bury(match origin {
        None => unknown,
        Some(origin) => DeadLetter {
            peer: Some(origin.peer),
            path: Some(origin.path),
            kind: Some(origin.kind),
            id: Some(origin.id),
            ..unknown
        },
    });
}

impl<A: Actor> actix::Actor for Host<A> {
    type Context = Ctx<A>;

    fn started(&mut self, ctx: &mut Ctx<A>) {
        // In this order they are polled: commands, finished work, messages.
        if let Some(control) = self.control.take() {
            ctx.add_stream(ControlLane(control));
        }
        ctx.add_stream(TaskLane(self.core.work.clone()));
        ctx.add_stream(UserLane(self.core.work.clone()));
        self.start(ctx);
    }
}

impl<A: Actor> StreamHandler<Control> for Host<A> {
    fn handle(&mut self, Control::Stop(reason): Control, ctx: &mut Ctx<A>) {
        self.told_to_stop(ctx, reason);
    }

    fn finished(&mut self, _: &mut Ctx<A>) {}
}

impl<A: Actor> StreamHandler<Ready<A>> for Host<A> {
    fn handle(&mut self, ready: Ready<A>, ctx: &mut Ctx<A>) {
        match ready {
            Ready::Run(kind, completion) => {
                self.core.work.finished(kind);
                let me = self.core.system.me();
                self.dispatch(ctx, me, completion);
            }
            Ready::Panicked(text) => self.panicked(ctx, text),
            Ready::ChildrenGone => self.children_gone(ctx),
            Ready::PauseOver => self.start(ctx),
        }
    }

    fn finished(&mut self, _: &mut Ctx<A>) {}
}

impl<A: Actor> StreamHandler<Box<dyn Envelope<A>>> for Host<A> {
    fn handle(&mut self, mut envelope: Box<dyn Envelope<A>>, ctx: &mut Ctx<A>) {
        let type_name = envelope.type_name();
        let origin = envelope.take_origin();
        let sender = origin.as_ref().map_or_else(|| self.core.system.me(), |origin| origin.peer);
        let panicked = self.dispatch(ctx, sender, |actor, ctx| envelope.deliver(actor, ctx));
        if let Some(text) = panicked {
            bury_origin(&self.core.system, type_name, origin, DeadLetterReason::Panicked(text));
        }
    }

    fn finished(&mut self, _: &mut Ctx<A>) {}
}
