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
//! A member of a group pauses also before its first start, and its group says when the pause is over.
//!
//! Whatever runs code of the application runs under `catch_unwind`: factory, `started`, handlers,
//! finished work, timers, `stopped` and destructors.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use actix::fut::ActorFuture;
use actix::{ActorContext, AsyncContext};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::super::context::{Core, Wish};
use super::super::group::Seat;
use super::super::lane::{Arrival, Command, Hand, Sealed};
use super::super::letter::{Meta, Outside, dead_letter};
use super::super::metrics::Meter;
use super::super::supervision::{Budget, Verdict};
use super::super::{
    Actor, ActorRef, ActorSystem, Context, DeadLetterReason, ExitReason, Restart, Supervision, TraceContext,
    trace,
};
use super::work::{Ready, Work};
use super::{Factory, panic_text, thread, type_name};

/// Steps that an actor makes in one turn of its thread, before its neighbours have theirs: enough to spread
/// the cost of a turn, few enough that a flooded actor of quick handlers holds up nobody for long.
const TURN: u32 = 32;
/// Finished tasks in a row after which a message is taken first, so that an actor whose work finishes faster
/// than it can be taken still hears.
const TASKS_IN_A_ROW: u32 = 16;

/// Starts an actor on the current thread, which must be one of an engine.
pub(crate) fn start_here<A: Actor>(
    system: ActorSystem,
    me: Unended<A>,
    factory: Factory<A>,
    supervision: Supervision,
    seat: Option<Seat>,
) {
    let core = Core { me: me.actor.clone(), system, work: Work::new(), children: Vec::new(), wish: None };
    let host = Host {
        actor: None,
        factory,
        supervision,
        core,
        budget: Budget::default(),
        phase: if seat.is_some() { Phase::Pausing } else { Phase::Starting },
        seat: seat.map(Box::new),
        place: thread::here(),
        tasks_in_a_row: 0,
        has_begun: false,
        meter: Meter::of::<A>(),
        unended: me,
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

#[derive(PartialEq, Eq)]
enum Next {
    /// If the budget allows, after a pause; a member of a group when its group says so.
    Restart,
    /// For the reason of the state's end.
    End,
    /// For this reason: it would have restarted, and was told to stop before it could.
    EndFor(ExitReason),
}

struct Host<A: Actor> {
    /// `None` before the start, after a panic, and while it waits to restart.
    actor: Option<A>,
    factory: Factory<A>,
    supervision: Supervision,
    core: Core<A>,
    budget: Budget,
    phase: Phase,
    /// Of a member of a group: the group says when it starts and learns how it ends.
    seat: Option<Box<Seat>>,
    place: Option<thread::Place>,
    tasks_in_a_row: u32,
    /// A state was begun before.
    has_begun: bool,
    meter: Meter,
    unended: Unended<A>,
}

/// An actor on its way to its end: wherever it is dropped, even before its start, whoever waits for
/// the end is told.
pub(crate) struct Unended<A: Actor> {
    actor: ActorRef<A>,
    hand: Hand<A>,
    has_ended: bool,
}

impl<A: Actor> Unended<A> {
    pub(crate) fn new(actor: ActorRef<A>) -> Self {
        Self { actor, hand: Hand::new(), has_ended: false }
    }

    fn end(&mut self, reason: ExitReason) {
        self.has_ended = true;
        // Before anybody hears of the end: its path is free by then.
        self.actor.forget();
        self.actor.end(&mut self.hand, reason);
        // Only now does nobody take it for alive any more: in between code of the application, such as the
        // destructor of a message that was lost, may have given it another path.
        self.actor.forget();
    }
}

impl<A: Actor> Drop for Unended<A> {
    fn drop(&mut self) {
        // Only its thread's end takes an actor away.
        if !self.has_ended {
            self.end(ExitReason::SystemStopped);
        }
    }
}

/// The state is never pinned: every use of it is through `&mut`.
impl<A: Actor> Unpin for Host<A> {}

type Ctx<A> = actix::Context<Host<A>>;

impl<A: Actor> Host<A> {
    fn start(&mut self, ctx: &mut Ctx<A>) {
        self.phase = Phase::Starting;
        if std::mem::replace(&mut self.has_begun, true) {
            self.meter.restarted();
        }
        match catch_unwind(AssertUnwindSafe(|| (self.factory)())) {
            Ok(actor) => {
                self.actor = Some(actor);
                self.phase = Phase::Running;
                self.core.work.open();
                self.dispatch(ctx, None, None, |actor, ctx| actor.started(ctx));
            }
            Err(payload) => self.panicked(ctx, panic_text(&*payload)),
        }
    }

    /// Lets code of the application run; says with which text it panicked.
    fn dispatch(
        &mut self,
        ctx: &mut Ctx<A>,
        meta: Option<&Meta>,
        trace: Option<TraceContext>,
        run: impl FnOnce(&mut A, &mut Context<'_, A>),
    ) -> Option<String> {
        let actor = self.actor.as_mut()?;
        let core = &mut self.core;
        let result = catch_unwind(AssertUnwindSafe(|| run(actor, &mut Context::new(core, meta, trace))));
        if let Err(payload) = result {
            let text = panic_text(&*payload);
            self.panicked(ctx, text.clone());
            return Some(text);
        }
        match self.core.wish.take() {
            None => {}
            Some(Wish::Stop) => self.end(ctx, ExitReason::Stopped, None),
            Some(Wish::Fail(reason)) => self.end(ctx, reason, None),
        }
        None
    }

    fn panicked(&mut self, ctx: &mut Ctx<A>, text: String) {
        self.meter.panicked();
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
        match next {
            Next::Restart => {}
            Next::End => return self.finish(ctx, reason),
            Next::EndFor(why) => return self.finish(ctx, why),
        }
        if let Some(seat) = &self.seat {
            return seat.down(reason);
        }
        let clock = self.core.system.clock();
        match self.budget.spend(self.supervision.limits(), clock.monotonic(), clock.random()[0]) {
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
        if reason.is_failure() {
            warn!(actor = type_name::<A>(), id = %self.core.me.id(), %reason, "actor failed for good");
        } else {
            debug!(actor = type_name::<A>(), id = %self.core.me.id(), %reason, "actor ended");
        }
        self.seat = None;
        self.unended.end(reason);
        ctx.stop();
    }

    fn obey(&mut self, ctx: &mut Ctx<A>, command: Command) {
        match (&mut self.phase, command) {
            (Phase::Running, Command::Stop(why)) => self.end(ctx, why, Some(Next::End)),
            (Phase::Ending { next, .. }, Command::Stop(why)) => {
                if *next == Next::Restart {
                    *next = Next::EndFor(why);
                }
            }
            (Phase::Starting | Phase::Pausing, Command::Stop(why)) => self.finish(ctx, why),
            (Phase::Ended, _) => {}
            (_, Command::Start(turn)) => self.told_to_start(ctx, turn),
            (_, Command::Pause(turn)) => self.told_to_pause(ctx, turn),
        }
    }

    /// A member's group lets it start.
    fn told_to_start(&mut self, ctx: &mut Ctx<A>, turn: u32) {
        let Some(seat) = &mut self.seat else { return };
        seat.turn = turn;
        if matches!(self.phase, Phase::Pausing) {
            self.start(ctx);
        }
        if let (Phase::Running, Some(seat)) = (&self.phase, &self.seat) {
            seat.up();
        }
    }

    /// A member's group wants it to end its state and wait.
    fn told_to_pause(&mut self, ctx: &mut Ctx<A>, turn: u32) {
        let Some(seat) = &mut self.seat else { return };
        seat.turn = turn;
        match &self.phase {
            Phase::Running => self.end(ctx, ExitReason::Stopped, Some(Next::Restart)),
            Phase::Starting | Phase::Pausing => seat.down(ExitReason::Stopped),
            // It says so when its children have gone.
            Phase::Ending { .. } | Phase::Ended => {}
        }
    }

    /// Lets the actor handle a message that somebody still waits for.
    fn deliver(&mut self, ctx: &mut Ctx<A>, mut letter: Sealed<A>) {
        let Outside { type_name: message, is_awaited, meta } = letter.outside();
        let deadline = meta.as_ref().and_then(|meta| meta.deadline);
        if !is_awaited || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.core.system.shared().bury(dead_letter(message, meta, DeadLetterReason::Expired));
            // What the destructor of a lost message says matters to nobody.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(letter)));
            return;
        }
        let sent = meta.as_ref().and_then(|meta| meta.sent);
        let timing = self.meter.begin(sent, || self.core.me.depth());
        let parent = meta.as_ref().and_then(|meta| meta.trace);
        let run = |actor: &mut A, ctx: &mut Context<'_, A>| letter.deliver(actor, ctx);
        let panicked = if trace::is_enabled() {
            let clock = self.core.system.clock();
            let own = parent.map_or_else(|| TraceContext::root(&*clock), |parent| parent.child(&*clock));
            let sender = meta.as_ref().and_then(|meta| meta.origin.as_ref()).map(|origin| &origin.peer);
            let span = trace::message_span(type_name::<A>(), message, sender, &own, parent.as_ref());
            span.in_scope(|| {
                let _entered = own.enter();
                self.dispatch(ctx, meta.as_deref(), Some(own), run)
            })
        } else {
            let _entered = parent.map(TraceContext::enter);
            self.dispatch(ctx, meta.as_deref(), parent, run)
        };
        self.meter.end(timing);
        if let Some(text) = panicked {
            let letter = dead_letter(message, meta, DeadLetterReason::Panicked(text));
            self.core.system.shared().bury(letter);
        }
    }

    fn take(&mut self, ctx: &mut Ctx<A>, ready: Ready<A>) {
        match ready {
            Ready::Run(_, completion) => {
                self.dispatch(ctx, None, None, completion);
            }
            Ready::Panicked(text) => self.panicked(ctx, text),
            Ready::ChildrenGone => self.children_gone(ctx),
            Ready::PauseOver => self.start(ctx),
        }
    }

    /// Makes one step: a command first, then finished work, then a message. False if there is nothing to do.
    fn step(&mut self, ctx: &mut Ctx<A>, cx: &mut TaskContext<'_>) -> bool {
        if !self.core.work.is_empty() {
            if let Some(command) = self.core.me.take_command() {
                self.obey(ctx, command);
                return true;
            }
            if self.tasks_in_a_row < TASKS_IN_A_ROW && self.step_of_work(ctx, cx) {
                return true;
            }
        }
        let wants_letters = !self.core.work.is_held();
        match self.core.me.take(&mut self.unended.hand, wants_letters, cx) {
            Some(Arrival::Command(command)) => self.obey(ctx, command),
            Some(Arrival::Letter(letter)) => {
                self.tasks_in_a_row = 0;
                self.deliver(ctx, letter);
            }
            None => {
                // No message used its turn.
                if self.tasks_in_a_row >= TASKS_IN_A_ROW {
                    self.tasks_in_a_row = 0;
                    if self.step_of_work(ctx, cx) {
                        return true;
                    }
                }
                // Messages that are not wanted now wait all the same.
                self.meter.idle(|| if wants_letters { 0 } else { self.core.me.depth() });
                return false;
            }
        }
        true
    }

    fn step_of_work(&mut self, ctx: &mut Ctx<A>, cx: &mut TaskContext<'_>) -> bool {
        let Poll::Ready(ready) = self.core.work.poll(cx) else {
            return false;
        };
        self.tasks_in_a_row += 1;
        self.take(ctx, ready);
        true
    }

    /// Has a turn on the thread; ready when the actor has ended.
    fn turn(&mut self, ctx: &mut Ctx<A>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let _turn = thread::turn_at(self.place);
        // On a thread of the caller the turn may be inside of some scope that is no business of the actor's.
        let _outside = trace::leave();
        if matches!(self.phase, Phase::Starting) {
            self.start(ctx);
        }
        for _ in 0..TURN {
            if matches!(self.phase, Phase::Ended) {
                return Poll::Ready(());
            }
            if !self.step(ctx, cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<A: Actor> actix::Actor for Host<A> {
    type Context = Ctx<A>;

    fn started(&mut self, ctx: &mut Ctx<A>) {
        ctx.spawn(Turns);
    }
}

/// All that the actix context drives for an actor: its turns, until it has ended.
struct Turns;

impl<A: Actor> ActorFuture<Host<A>> for Turns {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        host: &mut Host<A>,
        ctx: &mut Ctx<A>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        host.turn(ctx, cx)
    }
}
