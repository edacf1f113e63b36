//! Actors of one system: mailboxes, asks, timers, work, children.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use dms_actors::{
    Actor, Answer, AskError, Context, DeadLetterReason, ExitReason, Handler, Message, RegisterError,
    SendFailure, Supervision, TellError,
};

#[tokio::test]
async fn a_told_and_an_asked_message_are_handled_in_order() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    actor.tell(Note(5)).await.unwrap();
    actor.recipient::<Note>().try_tell(Note(6)).unwrap();
    assert_eq!(actor.recipient().ask(Note(7)).timeout(PATIENCE).await.unwrap(), 2);
    let me = did(1).short();
    let notes = [5, 6, 7].map(|n| format!("note {n} from {me}"));
    assert_eq!(seen.all()[1..], notes);
    actor.stop();
    assert_eq!(actor.closed().await, ExitReason::Stopped);
    assert!(!actor.is_alive());
    let TellError { message, reason } = actor.tell(Note(8)).await.unwrap_err();
    assert_eq!((message, reason), (Note(8), SendFailure::Closed));
    let closed = actor.ask(Note(9)).timeout(PATIENCE).await;
    assert!(matches!(closed, Err(AskError::NotSent { message: Note(9), reason: SendFailure::Closed })));
    stop(&[&system]).await;
    // Stopping twice is harmless.
    stop(&[&system]).await;
}

#[tokio::test]
async fn an_answer_can_be_given_later_or_never() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let waiting = tokio::spawn(actor.ask(Await).timeout(PATIENCE));
    seen.wait("awaiting 1").await;
    actor.tell(Note(42)).await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Ok(42)));

    let timed_out = actor.ask(Await).timeout(Duration::from_millis(20)).await;
    assert!(matches!(timed_out, Err(AskError::TimedOut)));
    let lost = tokio::spawn(actor.ask(Await).timeout(PATIENCE));
    seen.wait("awaiting 2").await;
    actor.ask(Do::new(|probe: &mut Probe, _| probe.awaiting.clear())).timeout(PATIENCE).await.unwrap();
    assert!(matches!(lost.await.unwrap(), Err(AskError::Lost)));
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_mailbox_never_holds_more_than_its_capacity_through_any_number_of_clones() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let release = hold(&actor).await;
    let mut taken = 0;
    for n in 0..1000 {
        taken += u64::from(actor.clone().try_tell(Note(n)).is_ok());
    }
    assert_eq!(taken, Probe::MAILBOX as u64);
    let tell = |n| {
        let actor = actor.clone();
        tokio::spawn(async move { actor.tell(Note(n)).await })
    };
    let waiting: Vec<_> = (0..100).map(tell).collect();
    let asking = actor.ask(Note(0)).timeout(Duration::from_millis(20)).await;
    assert!(matches!(asking, Err(AskError::NotSent { reason: SendFailure::Full, .. })));
    assert_eq!(actor.depth(), Probe::MAILBOX);
    drop(release);
    for tell in waiting {
        soon("room", tell).await.unwrap().unwrap();
        assert!(actor.depth() <= Probe::MAILBOX);
    }
    assert_eq!(actor.ask(Note(0)).timeout(PATIENCE).await.unwrap(), taken + 100);
    stop(&[&system]).await;
}

/// Tells itself for ever.
struct Flood {
    ticks: Arc<AtomicUsize>,
    handled: u64,
}

struct Again;
impl Message for Again {
    type Reply = ();
}

impl Actor for Flood {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.every(Duration::from_millis(5), |flood, _| {
            flood.ticks.fetch_add(1, Ordering::Relaxed);
        });
        for _ in 0..Self::MAILBOX {
            ctx.me().try_tell(Again).unwrap();
        }
    }
}

impl Handler<Again> for Flood {
    fn handle(&mut self, _: Again, ctx: &mut Context<'_, Self>) -> Answer<()> {
        self.handled += 1;
        // Its own place is free now, so the mailbox stays full.
        let _ = ctx.me().try_tell(Again);
        ().into()
    }
}

#[tokio::test]
async fn an_actor_that_floods_itself_starves_neither_its_timer_nor_others_nor_its_end() {
    let system = builder(1).start().unwrap();
    let ticks = Arc::new(AtomicUsize::new(0));
    let counter = ticks.clone();
    let flood = system.spawn(move || Flood { ticks: counter.clone(), handled: 0 }, Supervision::never());
    until("the timer ticks", || ticks.load(Ordering::Relaxed) >= 5).await;
    let seen = Seen::default();
    let other = probe(&system, &seen, Supervision::never());
    assert_eq!(other.ask(Note(1)).timeout(PATIENCE).await.unwrap(), 0);
    flood.stop();
    assert_eq!(soon("it stops", flood.closed()).await, ExitReason::Stopped);
    stop(&[&system]).await;
}

#[tokio::test]
async fn exclusive_work_holds_messages_but_not_timers_work_or_stop() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let release = hold(&actor).await;
    // Nothing is handled now; that timers and pipes are is set up before, in the next exclusive turn.
    actor.tell(Note(1)).await.unwrap();
    drop(release);
    actor
        .ask(Do::new(|_, ctx: &mut Context<'_, Probe>| {
            ctx.exclusive(std::future::pending::<()>(), |_, (), _| {});
            ctx.after(Duration::from_millis(1), |probe: &mut Probe, _| probe.seen.push("timer"));
            ctx.pipe(async { 7 }, |probe: &mut Probe, n, _| probe.seen.push(format!("piped {n}")));
            let cancelled = ctx.after(Duration::ZERO, |probe: &mut Probe, _| probe.seen.push("cancelled"));
            cancelled.cancel();
        }))
        .timeout(PATIENCE)
        .await
        .unwrap();
    actor.tell(Note(2)).await.unwrap();
    seen.wait("timer").await;
    seen.wait("piped 7").await;
    let me = did(1).short();
    assert_eq!((seen.count(&format!("note 1 from {me}")), seen.count(&format!("note 2 from {me}"))), (1, 0));
    assert_eq!((actor.depth(), seen.count("cancelled")), (1, 0));
    let mut dead = system.dead_letters();
    actor.stop();
    assert_eq!(soon("it stops", actor.closed()).await, ExitReason::Stopped);
    let letter = soon("a dead letter", dead.recv()).await.unwrap();
    assert_eq!(letter.reason, DeadLetterReason::ActorEnded);
    assert_eq!(letter.type_name, Some(std::any::type_name::<Note>()));
    stop(&[&system]).await;
}

#[tokio::test]
async fn more_pipes_than_allowed_hold_the_mailbox_until_some_finish() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let (release, released) = tokio::sync::watch::channel(false);
    actor
        .ask(Do::new(move |_, ctx: &mut Context<'_, Probe>| {
            for _ in 0..1024 {
                let mut released = released.clone();
                ctx.pipe(async move { released.wait_for(|is| *is).await.is_ok() }, |_, _, _| {});
            }
        }))
        .timeout(PATIENCE)
        .await
        .unwrap();
    let mut dead = system.dead_letters();
    let held = actor.ask(Note(1)).timeout(Duration::from_millis(50)).await;
    assert!(matches!(held, Err(AskError::TimedOut)));
    assert_eq!(actor.depth(), 1);
    release.send(true).unwrap();
    assert_eq!(actor.ask(Note(2)).timeout(PATIENCE).await.unwrap(), 0);
    // Nobody waited any more for the first when the mailbox was let through.
    assert_eq!(soon("a dead letter", dead.recv()).await.unwrap().reason, DeadLetterReason::Expired);
    stop(&[&system]).await;
}

#[tokio::test]
async fn children_end_before_their_parent_youngest_first() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let child_seen = seen.clone();
    actor
        .ask(Do::new(move |_, ctx: &mut Context<'_, Probe>| {
            for name in ["first", "second"] {
                let seen = child_seen.clone();
                ctx.spawn_child(move || Probe::named(name, &seen), Supervision::permanent());
            }
        }))
        .timeout(PATIENCE)
        .await
        .unwrap();
    seen.wait("second started").await;
    stop(&[&system]).await;
    assert_eq!(seen.all()[3..], ["second stopped", "first stopped", "probe the system stopped"]);
    assert_eq!(actor.closed().await, ExitReason::SystemStopped);
    let late = system.spawn(|| -> Probe { unreachable!("the system has stopped") }, Supervision::never());
    assert_eq!(late.closed().await, ExitReason::SystemStopped);
}

#[tokio::test]
async fn a_path_has_one_actor_and_goes_with_it() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = registered_probe(&system, &seen);
    let other = probe(&system, &seen, Supervision::never());
    let path = "/probe".parse().unwrap();
    assert_eq!(system.register("probe", &other).unwrap_err(), RegisterError::Taken(path));
    assert!(matches!(system.register("/Probe", &other), Err(RegisterError::Path(_))));

    let recipient = system.resolve::<Note>(&address(1, "/probe"));
    recipient.tell(Note(1)).await.unwrap();
    let unheard = system.resolve::<Unheard>(&address(1, "/probe")).tell(Unheard).await.unwrap_err();
    assert!(matches!(unheard.reason, SendFailure::Refused(refusal)
        if refusal.code == dms_actors::RefusalCode::UnknownKind));
    actor.stop();
    actor.closed().await;
    assert_eq!(system.list(), []);
    let gone = recipient.tell(Note(2)).await.unwrap_err();
    assert!(matches!(gone.reason, SendFailure::Refused(refusal)
        if refusal.code == dms_actors::RefusalCode::UnknownPath));
    assert_eq!(system.register("/probe", &actor).unwrap_err(), RegisterError::Closed);

    // A recipient looks up who is there at each send.
    let _ = system.register("/probe", &other).unwrap().accepts::<Note>();
    assert_eq!(recipient.ask(Note(3)).timeout(PATIENCE).await.unwrap(), 0);
    assert!(system.unregister("/probe"));
    assert!(!system.unregister("/probe"));
    stop(&[&system]).await;
}

#[test]
fn a_system_works_without_a_runtime_of_the_caller_and_two_do_not_meet() {
    let systems = [builder(1).start().unwrap(), builder(2).start().unwrap()];
    let seen = Seen::default();
    for system in &systems {
        registered_probe(system, &seen).try_tell(Note(1)).unwrap();
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while seen.all().len() < 4 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    for system in &systems {
        system.stop_blocking(PATIENCE).unwrap();
    }
    assert_eq!(seen.count("probe the system stopped"), 2);
}

#[tokio::test]
async fn a_handler_that_blocks_makes_the_stop_miss_its_deadline_and_say_so() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let blocks = Do::new(move |probe: &mut Probe, _| {
        probe.seen.push("blocks");
        let _ = released.recv();
    });
    actor.try_tell(blocks).unwrap();
    seen.wait("blocks").await;
    let unstarted = probe(&system, &seen, Supervision::never());
    let stopped = system.stop(Duration::from_millis(50)).await;
    let threads = vec![format!("actors-{}", did(1).short())];
    assert_eq!(stopped, Err(dms_actors::StopError::DeadlinePassed { alive: 2, threads }));
    drop(release);
    for actor in [actor, unstarted] {
        soon("its watchers are told", actor.closed()).await;
    }
}
