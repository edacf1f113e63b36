//! Placement: which thread an actor lives on, and that no thread outlives its system.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::cell::RefCell;
use std::time::Duration;

use common::*;
use dms_actors::{ActorRef, ActorSystem, Context, ExitReason, StartError, StopError, Supervision};

/// The thread that an actor's handlers run on.
async fn thread_of(actor: &ActorRef<Probe>) -> String {
    let seen = Seen::default();
    let name = seen.clone();
    let look = move |_: &mut Probe, _: &mut Context<'_, Probe>| {
        name.push(std::thread::current().name().unwrap_or_default());
    };
    actor.tell(Do::new(look)).await.unwrap();
    until("the thread is known", || !seen.all().is_empty()).await;
    seen.all().remove(0)
}

/// Lets the thread of `actor` push its name to `seen` when it ends.
async fn mourn(actor: &ActorRef<Probe>, seen: &Seen) {
    struct Last(Seen);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.push("thread ended");
        }
    }
    thread_local!(static LAST: RefCell<Option<Last>> = const { RefCell::new(None) });
    let (last, armed) = (Last(seen.clone()), Seen::default());
    let is_armed = armed.clone();
    let arm = move |_: &mut Probe, _: &mut Context<'_, Probe>| {
        LAST.set(Some(last));
        is_armed.push("armed");
    };
    actor.tell(Do::new(arm)).await.unwrap();
    armed.wait("armed").await;
}

/// Blocks the actor's thread until the returned sender is dropped.
async fn block(actor: &ActorRef<Probe>) -> std::sync::mpsc::SyncSender<()> {
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let blocks = Do::new(move |probe: &mut Probe, _: &mut Context<'_, Probe>| {
        probe.seen.push("blocks");
        let _ = released.recv();
    });
    let seen = Seen::default();
    let watched = seen.clone();
    actor.tell(Do::new(move |probe: &mut Probe, _| watched.push(probe.name))).await.unwrap();
    until("it runs", || !seen.all().is_empty()).await;
    actor.try_tell(blocks).unwrap();
    until("it blocks", || actor.depth() == 0).await;
    release
}

fn on(system: &ActorSystem, arbiter: &str, seen: &Seen, name: &'static str) -> ActorRef<Probe> {
    let arbiter = system.arbiter(arbiter).unwrap();
    let seen = seen.clone();
    system.spawn_on(&arbiter, move || Probe::named(name, &seen), Supervision::transient())
}

#[tokio::test]
async fn an_actor_lives_where_it_was_put_and_its_children_with_it() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let main = probe(&system, &seen, Supervision::never());
    let heavy = on(&system, "heavy", &seen, "heavy");
    assert_eq!(thread_of(&heavy).await, "heavy");
    assert_ne!(thread_of(&main).await, "heavy");
    assert_eq!(system.arbiter("heavy").unwrap().name(), "heavy");
    assert_eq!(thread_of(&on(&system, "heavy", &seen, "again")).await, "heavy");

    let (children_tx, children) = tokio::sync::oneshot::channel();
    let light = system.arbiter("light").unwrap();
    let spawn = move |probe: &mut Probe, ctx: &mut Context<'_, Probe>| {
        let (near, far) = (probe.seen.clone(), probe.seen.clone());
        let near = ctx.spawn_child(move || Probe::named("near", &near), Supervision::never());
        let far = ctx.spawn_child_on(&light, move || Probe::named("far", &far), Supervision::never());
        let _ = children_tx.send((near, far));
    };
    heavy.tell(Do::new(spawn)).await.unwrap();
    let (near, far) = soon("children", children).await.unwrap();
    assert_eq!(thread_of(&near).await, "heavy");
    assert_eq!(thread_of(&far).await, "light");
    heavy.stop();
    assert_eq!(soon("it ends", heavy.closed()).await, ExitReason::Stopped);
    // The youngest first, wherever it lives.
    let ends: Vec<_> = seen.all().into_iter().filter(|text| text.ends_with("stopped")).collect();
    assert_eq!(ends, ["far stopped", "near stopped", "heavy stopped"]);
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_stop_ends_the_actors_in_order_and_joins_every_thread() {
    let system = builder(1).start().unwrap();
    let (seen, threads) = (Seen::default(), Seen::default());
    for (arbiter, name) in [("one", "first"), ("two", "second"), ("one", "third")] {
        let actor = on(&system, arbiter, &seen, name);
        if name != "third" {
            mourn(&actor, &threads).await;
        }
    }
    mourn(&probe(&system, &seen, Supervision::never()), &threads).await;
    let arbiter = system.arbiter("one").unwrap();
    stop(&[&system]).await;
    let ends: Vec<_> = seen.all().into_iter().filter(|text| text.ends_with("system stopped")).collect();
    let expected = ["probe", "third", "second", "first"].map(|name| format!("{name} the system stopped"));
    assert_eq!(ends, expected);
    // Joined: what a thread does last is done.
    assert_eq!(threads.count("thread ended"), 3);

    assert!(matches!(system.arbiter("late"), Err(StartError::Stopped)));
    assert!(matches!(system.arbiter("one"), Err(StartError::Stopped)));
    let late = system.spawn_on(&arbiter, || -> Probe { unreachable!("it has ended") }, Supervision::never());
    assert_eq!(soon("told", late.closed()).await, ExitReason::SystemStopped);
    // Twice is harmless.
    stop(&[&system]).await;
}

#[tokio::test]
async fn an_arbiter_that_stands_still_is_named_and_keeps_nobody_else_from_ending_in_order() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let elder = probe(&system, &seen, Supervision::never());
    let healthy = on(&system, "healthy", &seen, "healthy");
    let stuck = on(&system, "stuck", &seen, "stuck");
    let release = block(&stuck).await;
    let started = std::time::Instant::now();
    let StopError::DeadlinePassed { alive, threads } = system.stop(Duration::from_secs(2)).await.unwrap_err()
    else {
        panic!("another error");
    };
    assert!(started.elapsed() < PATIENCE, "it does not wait for the thread");
    assert_eq!((alive, threads), (1, vec!["stuck".to_owned()]));
    // It was the youngest, and yet the others were told and could say their last words.
    assert_eq!(seen.count("probe the system stopped"), 1);
    assert_eq!(seen.count("healthy the system stopped"), 1);
    for actor in [&elder, &healthy] {
        assert_eq!(soon("told", actor.closed()).await, ExitReason::SystemStopped);
    }
    assert!(stuck.is_alive());
    drop(release);
    assert_eq!(soon("told", stuck.closed()).await, ExitReason::SystemStopped);
}

#[tokio::test]
async fn threads_are_bounded() {
    let system = builder(1).start().unwrap();
    for number in 0..64 {
        system.arbiter(&format!("arbiter {number}")).unwrap();
    }
    assert!(matches!(system.arbiter("one more"), Err(StartError::TooManyArbiters)));
    // One that exists is not one more. A name that the operating system cannot take is changed there.
    assert_eq!(system.arbiter("arbiter 3").unwrap().name(), "arbiter 3");
    stop(&[&system]).await;
    let other = builder(2).start().unwrap();
    assert_eq!(other.arbiter("a\0b").unwrap().name(), "a\0b");
    stop(&[&other]).await;
}

#[tokio::test]
async fn threads_go_with_the_last_handle_when_no_actor_is_left() {
    let system = builder(1).start().unwrap();
    let (seen, threads) = (Seen::default(), Seen::default());
    let actors = [probe(&system, &seen, Supervision::never()), on(&system, "one", &seen, "one")];
    for actor in &actors {
        mourn(actor, &threads).await;
        actor.stop();
        soon("it ends", actor.closed()).await;
    }
    let arbiter = system.arbiter("one").unwrap();
    drop(system);
    until("the threads end", || threads.count("thread ended") == 2).await;
    assert_eq!(arbiter.name(), "one");
}

#[tokio::test]
async fn blocking_work_that_goes_on_does_not_keep_a_thread_from_ending() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = on(&system, "one", &seen, "one");
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let pool = dms_actors::BlockingPool::new(1);
    let (begun_tx, begun) = tokio::sync::oneshot::channel();
    let work = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        let work = move || {
            let _ = begun_tx.send(());
            let _ = released.recv();
        };
        ctx.blocking(&pool, work, |probe: &mut Probe, _, _| probe.seen.push("too late"));
    };
    actor.tell(Do::new(work)).await.unwrap();
    soon("it begins", begun).await.unwrap();
    stop(&[&system]).await;
    drop(release);
    assert_eq!(seen.count("too late"), 0);
}

/// Both layouts: an actor can be started from any task of its thread's runtime, also from one outside of
/// the `LocalSet` that actors live in, where nothing can be started directly.
#[test]
fn actors_are_started_from_every_kind_of_task() {
    dms_actors::run(async {
        for system in [builder(1).start().unwrap(), builder(2).start_on_current().unwrap()] {
            let seen = Seen::default();
            let actor = probe(&system, &seen, Supervision::never());
            let spawn = |probe: &mut Probe, ctx: &mut Context<'_, Probe>| {
                let (system, seen) = (ctx.system().clone(), probe.seen.clone());
                let named = move |name| {
                    let seen = seen.clone();
                    system.spawn(move || Probe::named(name, &seen), Supervision::never())
                };
                named("in the turn");
                let (piped, task, local) = (named.clone(), named.clone(), named);
                ctx.pipe(async move { piped("in a pipe") }, |_, _, _| {});
                drop(tokio::spawn(async move { task("in a task") }));
                drop(tokio::task::spawn_local(async move { local("in a local task") }));
            };
            actor.tell(Do::new(spawn)).await.unwrap();
            for name in ["in the turn", "in a pipe", "in a task", "in a local task"] {
                seen.wait(&format!("{name} started")).await;
            }
            stop(&[&system]).await;
            assert_eq!(seen.all().iter().filter(|text| text.ends_with("the system stopped")).count(), 5);
        }
    })
    .unwrap();
}

#[tokio::test]
async fn an_actor_dropped_with_a_lent_thread_is_forgotten() {
    let (system, lender) = (builder(1).start().unwrap(), builder(2).start().unwrap());
    let lent = lender.arbiter("lent").unwrap();
    let actor = system.spawn_on(&lent, || Probe::new(&Seen::default()), Supervision::permanent());
    let _ = system.register("/lent", &actor).unwrap();
    actor.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    stop(&[&lender]).await;
    assert_eq!(soon("it ends", actor.closed()).await, ExitReason::SystemStopped);
    let next = probe(&system, &Seen::default(), Supervision::never());
    let _ = system.register("/lent", &next).unwrap();
    // Nobody is left who had not ended.
    stop(&[&system]).await;
}

#[tokio::test]
async fn told_to_stop_while_a_failed_state_ends_it_ends_as_told() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::permanent());
    let slow = system.arbiter("slow").unwrap();
    let (child_tx, child) = tokio::sync::oneshot::channel();
    let spawn = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        let child = ctx.spawn_child_on(&slow, || Probe::new(&Seen::default()), Supervision::never());
        let _ = child_tx.send(child);
    };
    actor.ask(Do::new(spawn)).timeout(PATIENCE).await.unwrap();
    let release = block(&soon("a child", child).await.unwrap()).await;
    let fails = Do::new(|_: &mut Probe, ctx: &mut Context<'_, Probe>| ctx.fail("enough"));
    actor.ask(fails).timeout(PATIENCE).await.unwrap();
    // It waits for its child now.
    actor.stop();
    drop(release);
    assert_eq!(soon("it ends", actor.closed()).await, ExitReason::Stopped);
    // The state itself is told why it ended.
    assert_eq!(seen.count("probe failed: enough"), 1, "{seen:?}");
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_blocking_stop_on_a_thread_of_the_system_is_refused_at_once() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    for actor in [probe(&system, &seen, Supervision::never()), on(&system, "heavy", &seen, "heavy")] {
        let (inside, (stopped_tx, stopped)) = (system.clone(), tokio::sync::oneshot::channel());
        let stops = Do::new(move |_: &mut Probe, _: &mut Context<'_, Probe>| {
            let _ = stopped_tx.send(inside.stop_blocking(Duration::from_secs(3600)));
        });
        actor.tell(stops).await.unwrap();
        assert_eq!(soon("refused", stopped).await.unwrap(), Err(StopError::OnOwnThread));
        assert!(actor.is_alive(), "nothing was stopped");
    }
    stop(&[&system]).await;
}
