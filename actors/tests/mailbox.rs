//! The mailbox under stress: its bound, its overflow policies, and messages that nobody waits for any more.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::HashSet;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::*;
use dms_actors::{
    Actor, ActorRef, Answer, AskError, Context, DeadLetter, DeadLetterReason, ExitReason, Handler, Message,
    Overflow, SendFailure, Supervision, TellError,
};
use tokio::sync::broadcast;
use tokio::time::Instant;

/// Polls the future once.
async fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

async fn next(dead: &mut broadcast::Receiver<DeadLetter>) -> DeadLetterReason {
    soon("a dead letter", dead.recv()).await.unwrap().reason
}

#[tokio::test]
async fn ten_thousand_sends_of_each_kind_to_a_stalled_actor_never_exceed_its_capacity() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    assert_eq!(actor.capacity(), Probe::MAILBOX);
    let release = hold(&actor).await;
    let accepted = (0..10_000).filter(|n| actor.clone().try_tell(Note(*n)).is_ok()).count();
    let by_recipient = (0..10_000).filter(|n| actor.clone().recipient().try_tell(Note(*n)).is_ok()).count();
    assert_eq!((accepted, by_recipient), (Probe::MAILBOX, 0));

    // All of them wait at once, each behind its own clone.
    let tell = |n| {
        let actor = actor.clone();
        Box::pin(async move { actor.tell(Note(n)).await })
    };
    let mut tells: Vec<_> = (0..10_000).map(tell).collect();
    let mut asks: Vec<_> = (0..10_000).map(|n| actor.clone().ask(Note(n))).collect();
    let mut far_asks: Vec<_> = (0..10_000).map(|n| actor.clone().recipient().ask(Note(n))).collect();
    let mut far_tells: Vec<_> =
        (0..10_000).map(|n| Box::pin(actor.clone().recipient().tell(Note(n)))).collect();
    for at in 0..10_000 {
        assert!(once(&mut tells[at]).await.is_pending());
        assert!(once(&mut asks[at]).await.is_pending());
        assert!(once(&mut far_asks[at]).await.is_pending());
        assert!(once(&mut far_tells[at]).await.is_pending());
    }
    assert_eq!(actor.depth(), Probe::MAILBOX);
    // Nothing of what gives up is ever handled.
    drop((asks, far_asks, far_tells));
    let waited = tokio::spawn(async move {
        for tell in tells {
            tell.await.unwrap();
        }
    });
    drop(release);
    while !waited.is_finished() {
        assert!(actor.depth() <= Probe::MAILBOX);
        tokio::task::yield_now().await;
    }
    let handled = actor.ask(Note(0)).timeout(PATIENCE).await.unwrap();
    assert_eq!(handled, 10_000 + Probe::MAILBOX as u64);
    stop(&[&system]).await;
}

#[tokio::test]
async fn senders_that_wait_are_served_in_their_order_and_those_that_leave_hold_up_nobody() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let release = hold(&actor).await;
    while actor.try_tell(Note(0)).is_ok() {}
    let mut waiting: Vec<_> = (1..=9).map(|n| actor.tell(Note(n))).collect();
    for tell in &mut waiting {
        assert!(once(tell).await.is_pending());
    }
    drop(release);
    // Two leave, maybe just when a place is promised to them.
    drop(waiting.remove(0));
    drop(waiting.remove(3));
    for tell in waiting {
        soon("room", tell).await.unwrap();
    }
    actor.ask(Note(0)).timeout(PATIENCE).await.unwrap();
    let me = did(1).short();
    let noted: Vec<_> = seen.all().into_iter().filter(|text| !text.contains("note 0 ")).collect();
    let expected = [2, 3, 4, 6, 7, 8, 9].map(|n| format!("note {n} from {me}"));
    assert_eq!(noted[1..], expected);
    assert_eq!(actor.depth(), 0);
    stop(&[&system]).await;
}

/// Notes numbers, with a mailbox that does not wait.
struct Rejecting(Seen);

impl Actor for Rejecting {
    const MAILBOX: usize = 2;
    const OVERFLOW: Overflow = Overflow::Reject;
}

struct Dropping(Seen);

impl Actor for Dropping {
    const MAILBOX: usize = 3;
    const OVERFLOW: Overflow = Overflow::DropOldest;
}

macro_rules! notes {
    ($actor:ty) => {
        impl Handler<Note> for $actor {
            fn handle(&mut self, note: Note, _: &mut Context<'_, Self>) -> Answer<u64> {
                self.0.push(note.0.to_string());
                note.0.into()
            }
        }

        impl Handler<Do<Self>> for $actor {
            fn handle(&mut self, what: Do<Self>, ctx: &mut Context<'_, Self>) -> Answer<()> {
                what.0(self, ctx);
                ().into()
            }
        }
    };
}
notes!(Rejecting);
notes!(Dropping);

/// Holds the actor's user lane until the returned sender is dropped.
async fn stall<A: Handler<Do<A>>>(actor: &ActorRef<A>) -> tokio::sync::oneshot::Sender<()> {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let held = Do::new(move |_: &mut A, ctx: &mut Context<'_, A>| ctx.exclusive(released, |_, _, _| {}));
    actor.ask(held).timeout(PATIENCE).await.unwrap();
    release
}

#[tokio::test]
async fn a_mailbox_that_rejects_tells_every_sender_at_once() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let state = seen.clone();
    let actor = system.spawn(move || Rejecting(state.clone()), Supervision::never());
    let release = stall(&actor).await;
    actor.tell(Note(1)).await.unwrap();
    actor.tell(Note(2)).await.unwrap();
    let TellError { message, reason } = actor.tell(Note(3)).await.unwrap_err();
    assert_eq!((message, reason), (Note(3), SendFailure::Full));
    let refused = actor.recipient().tell(Note(4)).await.unwrap_err();
    assert_eq!(refused.reason, SendFailure::Full);
    let refused = actor.ask(Note(5)).await;
    assert!(matches!(refused, Err(AskError::NotSent { message: Note(5), reason: SendFailure::Full })));
    drop(release);
    seen.wait("2").await;
    assert_eq!(actor.ask(Note(6)).await.unwrap(), 6);
    assert_eq!(seen.all(), ["1", "2", "6"]);
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_mailbox_that_drops_its_oldest_never_makes_a_sender_wait() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let state = seen.clone();
    let actor = system.spawn(move || Dropping(state.clone()), Supervision::never());
    let release = stall(&actor).await;
    let mut dead = system.dead_letters();
    let mut asked = actor.ask(Note(1));
    assert!(once(&mut asked).await.is_pending());
    for n in 2..=1000 {
        actor.tell(Note(n)).await.unwrap();
        assert!(actor.depth() <= 3);
    }
    actor.try_tell(Note(1001)).unwrap();
    let recipient = actor.recipient();
    recipient.tell(Note(1002)).await.unwrap();
    // The asker of the first was displaced.
    assert!(matches!(asked.await, Err(AskError::Lost)));
    for _ in 0..999 {
        let letter = soon("a dead letter", dead.recv()).await.unwrap();
        assert_eq!(letter.reason, DeadLetterReason::Overflowed);
        assert_eq!(letter.type_name, Some(std::any::type_name::<Note>()));
    }
    drop(release);
    seen.wait("1002").await;
    assert_eq!(seen.all(), ["1000", "1001", "1002"]);
    stop(&[&system]).await;
}

#[tokio::test]
async fn an_ask_that_was_dropped_or_timed_out_is_not_handled() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let release = hold(&actor).await;
    let mut dead = system.dead_letters();
    let mut dropped = actor.ask(Note(1));
    assert!(once(&mut dropped).await.is_pending());
    drop(dropped);
    // Kept after its time is over, as a select in a loop may do.
    let mut late = pin!(actor.ask(Note(2)).timeout(Duration::from_millis(10)));
    assert!(matches!(late.as_mut().await, Err(AskError::TimedOut)));
    let far = actor.recipient().ask(Note(3)).timeout(Duration::from_millis(10)).await;
    assert!(matches!(far, Err(AskError::TimedOut)));
    assert_eq!(actor.depth(), 3);
    drop(release);
    assert_eq!(actor.ask(Note(4)).timeout(PATIENCE).await.unwrap(), 0);
    for _ in 0..3 {
        assert_eq!(next(&mut dead).await, DeadLetterReason::Expired);
    }
    assert_eq!(seen.all()[1..], [format!("note 4 from {}", did(1).short())]);
    // A deadline that has passed already is not even sent.
    let passed = actor.ask(Note(5)).deadline(Instant::now()).await;
    assert!(matches!(passed, Err(AskError::NotSent { message: Note(5), reason: SendFailure::Expired })));
    stop(&[&system]).await;
}

/// Replies whether it was given a deadline, and which.
struct Deadline;
impl Message for Deadline {
    type Reply = Option<Instant>;
}

/// Asks the next, within what is left.
struct Relay(Option<ActorRef<Relay>>);

impl Actor for Relay {}

impl Handler<Deadline> for Relay {
    fn handle(&mut self, _: Deadline, ctx: &mut Context<'_, Self>) -> Answer<Option<Instant>> {
        let deadline = ctx.deadline();
        let Some(next) = &self.0 else {
            return deadline.into();
        };
        let (responder, answer) = Answer::later();
        let mut ask = next.ask(Deadline);
        if let Some(deadline) = deadline {
            ask = ask.deadline(deadline);
        }
        ctx.pipe(ask, |_, asked, ctx| {
            assert_eq!(ctx.deadline(), None, "it belongs to the message, not to the work");
            responder.reply(asked.unwrap());
        });
        answer
    }
}

#[tokio::test]
async fn a_deadline_is_passed_on_and_one_that_was_not_said_is_not() {
    let system = builder(1).start().unwrap();
    let last = system.spawn(|| Relay(None), Supervision::never());
    let first = system.spawn(move || Relay(Some(last.clone())), Supervision::never());
    let deadline = Instant::now() + PATIENCE;
    assert_eq!(first.ask(Deadline).deadline(deadline).await.unwrap(), Some(deadline));
    assert_eq!(first.recipient().ask(Deadline).deadline(deadline).await.unwrap(), Some(deadline));
    assert_eq!(first.ask(Deadline).await.unwrap(), None);
    let told = first.ask(Deadline).timeout(PATIENCE).await.unwrap().unwrap();
    assert!(told >= deadline && told <= Instant::now() + PATIENCE);
    // Beyond the clock's range there is nothing to wait for.
    assert!(first.ask(Deadline).timeout(Duration::MAX).await.unwrap().is_some());
    stop(&[&system]).await;
}

#[tokio::test]
async fn an_ask_of_an_actor_that_ends_is_lost_at_once() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let awaited = tokio::spawn(actor.ask(Await));
    seen.wait("awaiting 1").await;
    let _release = hold(&actor).await;
    let mut queued = actor.ask(Note(1));
    assert!(once(&mut queued).await.is_pending());
    while actor.try_tell(Note(0)).is_ok() {}
    let mut outside = actor.ask(Note(2));
    assert!(once(&mut outside).await.is_pending());
    actor.stop();
    assert!(matches!(soon("lost", awaited).await.unwrap(), Err(AskError::Lost)));
    assert!(matches!(soon("lost", queued).await, Err(AskError::Lost)));
    let refused = soon("closed", outside).await;
    assert!(matches!(refused, Err(AskError::NotSent { message: Note(2), reason: SendFailure::Closed })));
    assert_eq!(actor.closed().await, ExitReason::Stopped);
    stop(&[&system]).await;
}

#[tokio::test]
async fn an_actor_can_ask_itself_beside_its_turn() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let asks = Do::new(|_, ctx: &mut Context<'_, Probe>| {
        let ask = ctx.me().ask(Note(1));
        ctx.pipe(ask, |probe: &mut Probe, asked, _| probe.seen.push(format!("asked {}", asked.is_ok())));
    });
    actor.tell(asks).await.unwrap();
    seen.wait("asked true").await;
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_weak_reference_is_of_use_only_while_its_actor_lives() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let other = probe(&system, &seen, Supervision::never());
    let weak = actor.downgrade();
    #[expect(clippy::mutable_key_type, reason = "what is hashed, the actor's number, does not change")]
    let both: HashSet<_> = [actor.clone(), weak.upgrade().unwrap(), other.clone()].into();
    assert_eq!(both.len(), 2);
    assert_ne!(actor, other);
    drop(both);
    actor.stop();
    actor.closed().await;
    // The other reference is still there; the actor is not.
    assert!(weak.clone().upgrade().is_none());
    assert!(!actor.is_alive());
    drop(actor);
    assert!(weak.upgrade().is_none());
    stop(&[&system]).await;
}

/// Counts, and is told by a flood of finished work.
struct Busy {
    finished: Arc<AtomicU64>,
    handled: Arc<AtomicU64>,
}

impl Actor for Busy {
    const MAILBOX: usize = 4;
}

/// Starts work that is finished as soon as it is begun, for ever.
struct Begin;
impl Message for Begin {
    type Reply = ();
}

impl Busy {
    fn go_on(&mut self, ctx: &mut Context<'_, Self>) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        ctx.pipe(std::future::ready(()), |busy, (), ctx| busy.go_on(ctx));
    }
}

impl Handler<Begin> for Busy {
    fn handle(&mut self, _: Begin, ctx: &mut Context<'_, Self>) -> Answer<()> {
        for _ in 0..100 {
            self.go_on(ctx);
        }
        ().into()
    }
}

impl Handler<Note> for Busy {
    fn handle(&mut self, _: Note, _: &mut Context<'_, Self>) -> Answer<u64> {
        self.handled.fetch_add(1, Ordering::Relaxed);
        self.finished.load(Ordering::Relaxed).into()
    }
}

#[tokio::test]
async fn work_that_finishes_without_end_leaves_messages_and_stop_their_turn() {
    let system = builder(1).start().unwrap();
    let (finished, handled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counters = (finished.clone(), handled.clone());
    let factory = move || Busy { finished: counters.0.clone(), handled: counters.1.clone() };
    let busy = system.spawn(factory, Supervision::never());
    busy.tell(Begin).await.unwrap();
    let other = probe(&system, &Seen::default(), Supervision::never());
    for _ in 0..100 {
        soon("its turn", busy.ask(Note(1))).await.unwrap();
        soon("a neighbour's turn", other.ask(Note(1))).await.unwrap();
    }
    assert_eq!(handled.load(Ordering::Relaxed), 100);
    assert!(finished.load(Ordering::Relaxed) > 100);
    busy.stop();
    assert_eq!(soon("it stops", busy.closed()).await, ExitReason::Stopped);
    stop(&[&system]).await;
}

/// Handles one message at a time, and has room for one more.
struct Narrow;

impl Actor for Narrow {
    const MAILBOX: usize = 1;
}

impl Handler<Do<Self>> for Narrow {
    fn handle(&mut self, what: Do<Self>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        what.0(self, ctx);
        ().into()
    }
}

fn nothing() -> Do<Narrow> {
    Do::new(|_, _| {})
}

async fn hold_narrow(actor: &ActorRef<Narrow>) -> tokio::sync::oneshot::Sender<()> {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let held = Do::new(move |_: &mut Narrow, ctx: &mut Context<'_, Narrow>| {
        ctx.exclusive(released, |_, _, _| {});
    });
    actor.ask(held).timeout(PATIENCE).await.unwrap();
    release
}

#[tokio::test]
async fn an_ask_that_found_no_room_keeps_none_while_it_is_kept() {
    let system = builder(1).start().unwrap();
    let actor = system.spawn(|| Narrow, Supervision::never());
    let release = hold_narrow(&actor).await;
    actor.try_tell(nothing()).unwrap();
    let mut kept = pin!(actor.ask(nothing()).timeout(Duration::from_millis(1)));
    let late = soon("it is late", kept.as_mut()).await;
    assert!(matches!(late, Err(AskError::NotSent { reason: SendFailure::Full, .. })));
    drop(release);
    // The only place is nobody's.
    soon("there is room", actor.ask(nothing())).await.unwrap();
    assert_eq!(actor.depth(), 0);
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_send_polled_after_its_end_panics_and_takes_no_place() {
    let system = builder(1).start().unwrap();
    let actor = system.spawn(|| Narrow, Supervision::never());
    let mut tell = actor.tell(nothing());
    soon("told", &mut tell).await.unwrap();
    let mut ask = Box::pin(actor.ask(nothing()));
    soon("answered", &mut ask).await.unwrap();
    let mut late = Box::pin(actor.ask(nothing()).deadline(Instant::now()));
    assert!(soon("too late", &mut late).await.is_err());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let panics =
        |poll: &mut dyn FnMut()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)).is_err();
    assert!(panics(&mut || drop(Pin::new(&mut tell).poll(&mut cx))));
    assert!(panics(&mut || drop(ask.as_mut().poll(&mut cx))));
    assert!(panics(&mut || drop(late.as_mut().poll(&mut cx))));
    assert_eq!(actor.depth(), 0);
    soon("there is room", actor.ask(nothing())).await.unwrap();
    stop(&[&system]).await;
}
