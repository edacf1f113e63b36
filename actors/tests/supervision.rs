//! Failure: who is restarted, what survives, who is told.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use dms_actors::{Actor, AskError, Context, DeadLetterReason, ExitReason, Restart, Supervision};

fn quick() -> Supervision {
    Supervision { backoff_min: Duration::from_millis(1), ..Supervision::transient() }
}

#[tokio::test]
async fn a_panic_restarts_from_the_factory_keeps_the_queue_and_buries_the_message() {
    let system = builder(1).start().unwrap();
    let mut dead = system.dead_letters();
    let seen = Seen::default();
    let actor = probe(&system, &seen, quick());
    actor.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    let release = hold(&actor).await;
    let lost = tokio::spawn(actor.ask(Panic).timeout(PATIENCE));
    until("asked", || actor.depth() == 1).await;
    let queued = tokio::spawn(actor.ask(Note(2)).timeout(PATIENCE));
    until("queued", || actor.depth() == 2).await;
    drop(release);
    assert!(matches!(lost.await.unwrap(), Err(AskError::Lost)));
    // A new state: nothing was noted before.
    assert!(matches!(queued.await.unwrap(), Ok(0)));
    assert_eq!(seen.count("probe started"), 2);
    let letter = soon("a dead letter", dead.recv()).await.unwrap();
    assert_eq!(letter.reason, DeadLetterReason::Panicked("on purpose".into()));
    assert_eq!(letter.type_name, Some(std::any::type_name::<Panic>()));
    assert!(actor.is_alive());
    // A state that panicked is not asked to stop in order.
    assert_eq!(seen.all().iter().filter(|text| text.contains("panicked")).count(), 0);
    stop(&[&system]).await;
}

#[tokio::test]
async fn when_the_restarts_are_used_up_the_watcher_is_told() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let watcher = probe(&system, &seen, Supervision::never());
    let failing = probe(&system, &Seen::default(), Supervision { max_restarts: 2, ..quick() });
    let watched = failing.clone();
    watcher
        .ask(Do::new(move |_, ctx: &mut Context<'_, Probe>| {
            ctx.watch(&watched, |probe: &mut Probe, reason, _| probe.seen.push(reason.to_string()));
        }))
        .timeout(PATIENCE)
        .await
        .unwrap();
    for _ in 0..3 {
        failing.tell(Panic).await.unwrap();
    }
    let reason = soon("it ends", failing.closed()).await;
    let last = "panicked: on purpose".to_owned();
    assert_eq!(reason, ExitReason::RestartsExhausted { restarts: 2, last });
    seen.wait(&reason.to_string()).await;
    // Also when it has ended already.
    watcher
        .ask(Do::new(move |_, ctx: &mut Context<'_, Probe>| {
            ctx.watch(&failing, |probe: &mut Probe, _, _| probe.seen.push("told late"));
        }))
        .timeout(PATIENCE)
        .await
        .unwrap();
    seen.wait("told late").await;
    stop(&[&system]).await;
}

#[tokio::test]
async fn work_and_timers_of_a_dead_state_never_reach_the_next() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, quick());
    let (release, released) = tokio::sync::watch::channel(false);
    let held = released.clone();
    let work = Do::new(move |_, ctx: &mut Context<'_, Probe>| {
        let mut released = released.clone();
        ctx.pipe(async move { released.wait_for(|is| *is).await.is_ok() }, |probe: &mut Probe, _, _| {
            probe.seen.push("stale pipe");
        });
        ctx.every(Duration::from_millis(1), |probe: &mut Probe, _| probe.seen.push("tick"));
        // Holds the lane: a restart must let go of it.
        ctx.exclusive(async { panic!("in the work") }, |_, (), _| {});
    });
    actor.tell(work).await.unwrap();
    until("restarted", || seen.count("probe started") == 2).await;
    assert_eq!(actor.ask(Note(1)).timeout(PATIENCE).await.unwrap(), 0);
    assert_eq!(held.borrow().to_string(), "false");
    let ticks = seen.count("tick");
    // The future is gone, not only its result.
    until("the pipe is dropped", || release.receiver_count() == 1).await;
    release.send(true).unwrap();
    actor.ask(Note(2)).timeout(PATIENCE).await.unwrap();
    assert_eq!((seen.count("stale pipe"), seen.count("tick")), (0, ticks));
    stop(&[&system]).await;
}

#[tokio::test]
async fn which_endings_restart() {
    type End = fn(&mut Context<'_, Probe>);
    let stops: End = |ctx| ctx.stop();
    let fails: End = |ctx| ctx.fail("enough");
    let failed = || ExitReason::Failed("enough".into());
    let table = [
        (Restart::Never, stops, Some(ExitReason::Stopped)),
        (Restart::Never, fails, Some(failed())),
        (Restart::Transient, stops, Some(ExitReason::Stopped)),
        (Restart::Transient, fails, None),
        (Restart::Permanent, stops, None),
        (Restart::Permanent, fails, None),
    ];
    let system = builder(1).start().unwrap();
    for (restart, end, expected) in table {
        let seen = Seen::default();
        let actor = probe(&system, &seen, Supervision { restart, ..quick() });
        actor.tell(Do::new(move |_, ctx| end(ctx))).await.unwrap();
        match &expected {
            Some(reason) => {
                assert_eq!(soon("it ends", actor.closed()).await, *reason);
                // A state that did not panic is stopped in order.
                assert_eq!(seen.count(&format!("probe {reason}")), 1);
            }
            None => until("restarted", || seen.count("probe started") == 2).await,
        }
        actor.stop();
        let reason = soon("it ends", actor.closed()).await;
        assert_eq!(reason, expected.unwrap_or(ExitReason::Stopped));
    }
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_stop_ends_an_actor_that_pauses_before_its_restart() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let hour = Duration::from_secs(3600);
    let actor = probe(&system, &seen, Supervision { backoff_min: hour, backoff_max: hour, ..quick() });
    let mut dead = system.dead_letters();
    actor.tell(Panic).await.unwrap();
    soon("it failed", dead.recv()).await.unwrap();
    actor.tell(Note(1)).await.unwrap();
    actor.stop();
    assert_eq!(soon("it ends", actor.closed()).await, ExitReason::Stopped);
    assert_eq!(soon("the queue", dead.recv()).await.unwrap().reason, DeadLetterReason::ActorEnded);
    assert_eq!(seen.count("probe started"), 1);
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_restart_takes_the_children_along() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let child_seen = Seen::default();
    let actor = probe(&system, &seen, quick());
    let started = child_seen.clone();
    actor
        .ask(Do::new(move |_, ctx: &mut Context<'_, Probe>| {
            let seen = started.clone();
            ctx.spawn_child(move || Probe::named("child", &seen), Supervision::permanent());
        }))
        .timeout(PATIENCE)
        .await
        .unwrap();
    actor.tell(Panic).await.unwrap();
    until("restarted", || seen.count("probe started") == 2).await;
    assert_eq!(child_seen.all(), ["child started", "child stopped"]);
    stop(&[&system]).await;
}

/// Panics when it is dropped after its end.
struct Grudge;

impl Future for Grudge {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::task::Poll::Ready(())
    }
}

impl Drop for Grudge {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "in a destructor");
    }
}

#[tokio::test]
async fn a_panic_anywhere_in_a_state_restarts_it() {
    type Trap = fn(&mut Context<'_, Probe>);
    let table: [(&str, Trap); 8] = [
        ("handler", |_| panic!("on purpose")),
        ("timer", |ctx| {
            ctx.after(Duration::ZERO, |_, _| panic!("on purpose"));
        }),
        ("recurring timer", |ctx| {
            ctx.every(Duration::from_millis(1), |_, _| panic!("on purpose"));
        }),
        ("pipe", |ctx| ctx.pipe(async { panic!("on purpose") }, |_, (), _| {})),
        ("pipe's result", |ctx| ctx.pipe(async {}, |_, (), _| panic!("on purpose"))),
        ("exclusive work", |ctx| ctx.exclusive(async { panic!("on purpose") }, |_, (), _| {})),
        ("a finished future's destructor", |ctx| ctx.pipe(Grudge, |_, (), _| {})),
        ("watch", |ctx| {
            let child = ctx.spawn_child(|| Probe::named("child", &Seen::default()), Supervision::never());
            ctx.watch(&child, |_, _, _| panic!("on purpose"));
            child.stop();
        }),
    ];
    let system = builder(1).start().unwrap();
    for (place, trap) in table {
        let seen = Seen::default();
        let actor = probe(&system, &seen, quick());
        actor.tell(Do::new(move |_, ctx| trap(ctx))).await.unwrap();
        until(place, || seen.count("probe started") == 2).await;
        // Nothing was noted before, so it is a new state; and the lane is not held any more.
        assert_eq!(actor.ask(Note(1)).timeout(PATIENCE).await.unwrap(), 0, "{place}");
        actor.stop();
        assert_eq!(soon(place, actor.closed()).await, ExitReason::Stopped);
    }
    stop(&[&system]).await;
}

/// Fails wherever its flags say.
struct Fragile {
    in_start: bool,
    in_stop: bool,
    in_drop: bool,
}

impl Actor for Fragile {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        assert!(!self.in_start, "in start");
        ctx.stop();
    }

    fn stopped(&mut self, _: &ExitReason) {
        assert!(!self.in_stop, "in stop");
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.in_drop, "in drop");
    }
}

#[tokio::test]
async fn panics_in_factory_start_stop_and_drop_are_caught_and_told() {
    let system = builder(1).start().unwrap();
    let builds = Arc::new(AtomicUsize::new(0));
    let counter = builds.clone();
    let factory = move || -> Fragile {
        counter.fetch_add(1, Ordering::Relaxed);
        panic!("in factory")
    };
    let actor = system.spawn(factory, Supervision { max_restarts: 1, ..quick() });
    let reason = soon("it ends", actor.closed()).await;
    let last = "panicked: in factory".to_owned();
    assert_eq!(reason, ExitReason::RestartsExhausted { restarts: 1, last });
    assert_eq!(builds.load(Ordering::Relaxed), 2);

    let table = [
        ((true, false, false), ExitReason::Panicked("in start".into())),
        ((false, true, false), ExitReason::Stopped),
        ((false, false, true), ExitReason::Stopped),
        ((false, true, true), ExitReason::Stopped),
        ((true, true, true), ExitReason::Panicked("in start".into())),
    ];
    for ((in_start, in_stop, in_drop), expected) in table {
        let actor = system.spawn(move || Fragile { in_start, in_stop, in_drop }, Supervision::never());
        assert_eq!(soon("it ends", actor.closed()).await, expected);
    }
    // The thread has survived all of it.
    let alive = probe(&system, &Seen::default(), Supervision::never());
    assert_eq!(alive.ask(Note(1)).timeout(PATIENCE).await.unwrap(), 0);
    stop(&[&system]).await;
}

/// Says that it is dropped, maybe with a panic.
struct Dropped(Seen, bool);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.push("dropped");
        assert!(!self.1, "in a destructor");
    }
}

#[tokio::test]
async fn a_destructor_that_panics_takes_no_other_work_along() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, quick());
    let noted = seen.clone();
    let work = Do::new(move |_, ctx: &mut Context<'_, Probe>| {
        for panics in [false, true, false, true, false] {
            let dropped = Dropped(noted.clone(), panics);
            ctx.pipe(
                async move {
                    let _dropped = dropped;
                    std::future::pending::<()>().await;
                },
                |_, (), _| {},
            );
        }
    });
    actor.ask(work).timeout(PATIENCE).await.unwrap();
    actor.tell(Panic).await.unwrap();
    until("restarted", || seen.count("probe started") == 2).await;
    assert_eq!(seen.count("dropped"), 5);
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_path_given_while_the_actor_ends_is_free_again() {
    /// Gives an actor a path when it is dropped.
    struct Registers(dms_actors::ActorSystem, dms_actors::ActorRef<Probe>, Seen);
    impl Drop for Registers {
        fn drop(&mut self) {
            let is_registered = self.0.register("/late", &self.1).is_ok();
            self.2.push(format!("registered: {is_registered}"));
        }
    }

    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let _release = hold(&actor).await;
    let registers = Registers(system.clone(), actor.clone(), seen.clone());
    actor.tell(Do::new(move |_, _| drop(registers))).await.unwrap();
    actor.stop();
    soon("it ends", actor.closed()).await;
    assert_eq!(seen.count("registered: true"), 1, "its waiting message is lost before anybody is told");
    until("the path is free", || system.list().is_empty()).await;
    let next = probe(&system, &seen, Supervision::never());
    assert!(system.register("/late", &next).is_ok());
    stop(&[&system]).await;
}
