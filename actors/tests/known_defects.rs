//! Defects that users of other actor crates have reported, about supervision, links, registries and
//! pools: a test each that they are not this crate's. The comments name the report.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use dms_actors::{
    Actor, Answer, Context, ExitReason, Handler, Message, PoolBuilder, Restart, Slow, Supervision, Topic,
};

fn quick() -> Supervision {
    Supervision { backoff_min: Duration::from_millis(1), ..Supervision::transient() }
}

/// Panics in its start.
struct Stillborn;

impl Actor for Stillborn {
    fn started(&mut self, _: &mut Context<'_, Self>) {
        panic!("in start");
    }
}

/// kameo #229: a linked actor is not told when `on_start` fails.
#[tokio::test]
async fn a_watcher_is_told_when_a_start_fails() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let watcher = probe(&system, &seen, Supervision::never());
    for (supervision, expected) in [
        (Supervision::never(), "panicked: in start"),
        (Supervision { max_restarts: 1, ..quick() }, "failed 1 times too often, at last: panicked: in start"),
    ] {
        let watch = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
            let child = ctx.spawn_child(|| Stillborn, supervision);
            ctx.watch(&child, |probe: &mut Probe, reason, _| probe.seen.push(reason.to_string()));
        };
        watcher.tell(Do::new(watch)).await.unwrap();
        seen.wait(expected).await;
    }
    assert!(watcher.is_alive());
    stop(&[&system]).await;
}

/// kameo: an actor lives as long as its references do, so its own example of supervision leaks a box to
/// keep a child.
#[tokio::test]
async fn a_child_lives_without_any_reference_to_it() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let parent = probe(&system, &seen, Supervision::never());
    let spawn = |probe: &mut Probe, ctx: &mut Context<'_, Probe>| {
        struct Ticker(Seen);
        impl Actor for Ticker {
            fn started(&mut self, ctx: &mut Context<'_, Self>) {
                ctx.every(Duration::from_millis(1), |ticker, _| ticker.0.push("tick"));
            }
            fn stopped(&mut self, reason: &ExitReason) {
                self.0.push(format!("child {reason}"));
            }
        }
        let seen = probe.seen.clone();
        drop(ctx.spawn_child(move || Ticker(seen.clone()), Supervision::never()));
    };
    parent.tell(Do::new(spawn)).await.unwrap();
    until("it ticks", || seen.count("tick") >= 5).await;
    // And the parent does not live by references either.
    let closed = parent.closed();
    parent.stop();
    drop(parent);
    assert_eq!(soon("it ends", closed).await, ExitReason::Stopped);
    assert_eq!(seen.count("child stopped"), 1);
    stop(&[&system]).await;
}

/// kameo: one swarm and one registry for each process, so that two nodes cannot live in one.
/// kameo #105: no local registry without networking.
#[tokio::test]
async fn two_systems_of_one_process_have_the_same_path_without_a_network() {
    let systems = [builder(1).start().unwrap(), builder(2).start().unwrap()];
    let seen = [Seen::default(), Seen::default()];
    for (system, seen) in systems.iter().zip(&seen) {
        registered_probe(system, seen);
    }
    for (n, system) in (1..).zip(&systems) {
        let recipient = system.resolve::<Note>(&address(n, "/probe"));
        recipient.ask(Note(u64::from(n))).await.unwrap();
        assert_eq!(system.list().len(), 1);
    }
    for (n, seen) in (1..).zip(&seen) {
        let notes: Vec<_> = seen.all().into_iter().filter(|text| text.starts_with("note")).collect();
        assert_eq!(notes, [format!("note {n} from {}", did(n).short())]);
    }
    stop(&[&systems[0], &systems[1]]).await;
}

/// A message whose handler may fail.
struct Try;
impl Message for Try {
    type Reply = Result<(), &'static str>;
}

/// Answers with an error.
struct Refuser;
impl Actor for Refuser {}
impl Handler<Try> for Refuser {
    fn handle(&mut self, _: Try, _: &mut Context<'_, Self>) -> Answer<Result<(), &'static str>> {
        Err("refused").into()
    }
}

/// kameo: a `tell` to a handler that answers with an error stops the actor.
#[tokio::test]
async fn an_answer_that_is_an_error_is_an_answer() {
    let system = builder(1).start().unwrap();
    let actor = system.spawn(|| Refuser, Supervision::never());
    actor.tell(Try).await.unwrap();
    assert_eq!(actor.ask(Try).await.unwrap(), Err("refused"));
    assert!(actor.is_alive());
    stop(&[&system]).await;
}

/// actix #158, #204, #110, #157 and ractor #114: a supervised actor that panics is not restarted, or keeps
/// the state that it panicked with.
#[tokio::test]
async fn a_panic_anywhere_brings_a_new_state() {
    type Fail = fn(&mut Context<'_, Probe>);
    let system = builder(1).start().unwrap();
    let places: [Fail; 5] = [
        |_| panic!("in the handler"),
        |ctx| drop(ctx.after(Duration::ZERO, |_, _| panic!("in a timer"))),
        |ctx| ctx.pipe(async { panic!("in the work") }, |_, (), _| {}),
        |ctx| ctx.pipe(async {}, |_, (), _| panic!("with its output")),
        |ctx| {
            ctx.stream(futures::stream::iter([1]), |_, _, _| panic!("in a stream"), |_, _| {});
        },
    ];
    for fail in places {
        let seen = Seen::default();
        let actor = probe(&system, &seen, quick());
        actor.ask(Note(1)).await.unwrap();
        actor.tell(Do::new(move |_, ctx| fail(ctx))).await.unwrap();
        until("restarted", || seen.count("probe started") == 2).await;
        assert_eq!(actor.ask(Note(2)).await.unwrap(), 0, "it remembers nothing");
    }
    stop(&[&system]).await;
}

/// ractor: a child that dies takes its parent along unless the parent handles the event.
#[tokio::test]
async fn a_parent_that_does_not_care_survives_its_child() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let parent = probe(&system, &seen, Supervision::never());
    let spawn = |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        let child = ctx.spawn_child(|| Stillborn, Supervision::never());
        ctx.watch(&child, |probe: &mut Probe, _, _| probe.seen.push("it died"));
    };
    parent.tell(Do::new(spawn)).await.unwrap();
    seen.wait("it died").await;
    assert_eq!(parent.ask(Note(1)).await.unwrap(), 0);
    stop(&[&system]).await;
}

/// ractor #278, #107: stopping a parent does not wait for its children, so that they see it gone.
#[tokio::test]
async fn children_of_children_end_first_and_are_waited_for() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let noted = seen.clone();
    let root = probe(&system, &seen, Supervision::never());
    let spawn = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        let child_seen = noted.clone();
        let child = ctx.spawn_child(move || Probe::named("child", &child_seen), Supervision::never());
        let grandchildren = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
            for name in ["elder", "younger"] {
                let seen = noted.clone();
                ctx.spawn_child(move || Probe::named(name, &seen), Supervision::never());
            }
        };
        child.try_tell(Do::new(grandchildren)).unwrap();
    };
    root.tell(Do::new(spawn)).await.unwrap();
    seen.wait("younger started").await;
    root.stop();
    soon("it ends", root.closed()).await;
    let ends: Vec<_> = seen.all().into_iter().filter(|text| text.ends_with("stopped")).collect();
    assert_eq!(ends, ["younger stopped", "elder stopped", "child stopped", "probe stopped"]);
    stop(&[&system]).await;
}

/// actix #296: a system's end does not join its arbiters. (`arbiters.rs` shows it with thread locals.)
#[tokio::test]
async fn what_actors_of_an_arbiter_own_is_dropped_when_the_stop_returns() {
    struct Owner(Arc<AtomicUsize>);
    impl Actor for Owner {}
    impl Drop for Owner {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let system = builder(1).start().unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    for number in 0..8 {
        let arbiter = system.arbiter(&format!("arbiter {number}")).unwrap();
        let counted = dropped.clone();
        system.spawn_on(&arbiter, move || Owner(counted.clone()), Supervision::permanent());
    }
    until("they are built", || Arc::strong_count(&dropped) > 16).await;
    stop(&[&system]).await;
    assert_eq!(dropped.load(Ordering::SeqCst), 8);
    assert_eq!(Arc::strong_count(&dropped), 1, "factories are gone, too");
}

/// actix-broker (actix #534): a subscriber whose mailbox was full once is detached for ever.
#[tokio::test]
async fn a_subscriber_that_was_slow_once_still_hears() {
    #[derive(Clone)]
    struct Beat;
    impl Message for Beat {
        type Reply = ();
    }
    struct Listener(Seen);
    impl Actor for Listener {
        const MAILBOX: usize = 1;
    }
    impl Handler<Beat> for Listener {
        fn handle(&mut self, _: Beat, _: &mut Context<'_, Self>) -> Answer<()> {
            self.0.push("heard");
            ().into()
        }
    }
    let system = builder(1).start().unwrap();
    let (topic, seen) = (Topic::new(&system), Seen::default());
    let noted = seen.clone();
    let listener = system.spawn(move || Listener(noted.clone()), Supervision::never());
    let subscription = topic.subscribe(listener.recipient(), Slow::Drop).unwrap();
    let overrun = async {
        while subscription.lost() == 0 {
            topic.publish(Beat).await;
        }
    };
    soon("it is too slow once", overrun).await;
    let before = seen.count("heard");
    until("it has room", || listener.depth() == 0).await;
    topic.publish(Beat).await;
    until("it hears", || seen.count("heard") > before).await;
    stop(&[&system]).await;
}

/// kameo's pool, ractor's first factories: one worker that stands still holds up messages that another
/// could take.
#[tokio::test]
async fn a_worker_that_stands_still_holds_up_nobody_else() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let noted = seen.clone();
    let pool = PoolBuilder::new(2).supervision(quick()).spawn(&system, move |_| Probe::new(&noted));
    let _release = hold(&pool.workers()[0]).await;
    while pool.workers()[0].depth() < Probe::MAILBOX {
        pool.workers()[0].tell(Note(0)).await.unwrap();
    }
    for note in 0..100 {
        soon("answered", pool.ask(Note(note))).await.unwrap();
    }
    stop(&[&system]).await;
}

/// quickwit #2086, #4248: an actor ends when the last reference to its mailbox does, by accident.
#[tokio::test]
async fn an_actor_of_a_group_or_a_root_outlives_every_reference() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    drop(registered_probe(&system, &seen));
    let noted = seen.clone();
    let supervision = dms_actors::GroupSupervision::new(dms_actors::Strategy::OneForAll);
    drop(system.spawn_group(supervision, move |group| {
        drop(group.child(move || Probe::named("member", &noted), Restart::Permanent));
    }));
    seen.wait("member started").await;
    let recipient = system.resolve::<Note>(&address(1, "/probe"));
    assert_eq!(recipient.ask(Note(1)).await.unwrap(), 0);
    assert!(!seen.all().iter().any(|text| text.ends_with("stopped")));
    stop(&[&system]).await;
    assert_eq!(seen.count("member stopped"), 1);
}
