//! Groups of siblings and escalation: who ends, who comes back, and who is told when it is enough.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use dms_actors::{
    Actor, ActorRef, ActorSystem, Context, DeadLetterReason, ExitReason, Group, GroupSupervision, Members,
    Restart, Strategy, Supervision,
};

fn quick(strategy: Strategy) -> GroupSupervision {
    GroupSupervision { backoff_min: Duration::from_millis(1), ..GroupSupervision::new(strategy) }
}

fn quick_alone() -> Supervision {
    Supervision { backoff_min: Duration::from_millis(1), ..Supervision::transient() }
}

fn member(group: &mut Members, seen: &Seen, name: &'static str, restart: Restart) -> ActorRef<Probe> {
    let seen = seen.clone();
    group.child(move || Probe::named(name, &seen), restart)
}

/// Three members named a, b and c.
fn trio(system: &ActorSystem, supervision: GroupSupervision, seen: &Seen) -> (Group, [ActorRef<Probe>; 3]) {
    system.spawn_group(supervision, |group| {
        ["a", "b", "c"].map(|name| member(group, seen, name, Restart::Permanent))
    })
}

/// What was seen of starts and ends.
fn life(seen: &Seen) -> Vec<String> {
    let of_life = |text: &String| text.ends_with("started") || text.ends_with("stopped");
    seen.all().into_iter().filter(of_life).collect()
}

#[tokio::test]
async fn the_strategy_says_who_is_restarted_with_whom() {
    let system = builder(1).start().unwrap();
    let table: [(Strategy, usize, &[&str]); 5] = [
        (Strategy::OneForOne, 1, &["b started"]),
        (Strategy::OneForAll, 1, &["c stopped", "a stopped", "a started", "b started", "c started"]),
        (Strategy::RestForOne, 0, &["c stopped", "b stopped", "a started", "b started", "c started"]),
        (Strategy::RestForOne, 1, &["c stopped", "b started", "c started"]),
        (Strategy::RestForOne, 2, &["c started"]),
    ];
    for (strategy, failing, expected) in table {
        let seen = Seen::default();
        let (group, members) = trio(&system, quick(strategy), &seen);
        members[2].ask(Note(1)).timeout(PATIENCE).await.unwrap();
        assert_eq!(life(&seen), ["a started", "b started", "c started"]);
        members[failing].tell(Panic).await.unwrap();
        until("restarted", || life(&seen).len() >= 3 + expected.len()).await;
        for member in &members {
            member.ask(Note(2)).timeout(PATIENCE).await.unwrap();
        }
        assert_eq!(life(&seen)[3..], *expected, "{strategy:?}, {failing} failed");
        group.stop();
        assert_eq!(soon("it ends", group.closed()).await, ExitReason::Stopped);
        assert_eq!(life(&seen)[3 + expected.len()..], ["c stopped", "b stopped", "a stopped"]);
        for member in &members {
            assert_eq!(member.closed().await, ExitReason::Stopped);
        }
    }
    stop(&[&system]).await;
}

#[tokio::test]
async fn references_and_queues_of_all_members_survive() {
    let system = builder(1).start().unwrap();
    let mut dead = system.dead_letters();
    let seen = Seen::default();
    let (_, [a, b, _]) = trio(&system, quick(Strategy::OneForAll), &seen);
    a.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    let _release = hold(&a).await;
    let queued = tokio::spawn(a.ask(Note(2)).timeout(PATIENCE));
    until("queued", || a.depth() == 1).await;
    b.tell(Panic).await.unwrap();
    // A new state, no longer held: nothing was noted before.
    assert_eq!(soon("answered", queued).await.unwrap().unwrap(), 0);
    let letter = soon("the poisoned message", dead.recv()).await.unwrap();
    assert_eq!(letter.reason, DeadLetterReason::Panicked("on purpose".into()));
    assert!(dead.try_recv().is_err(), "nothing else was lost");
    stop(&[&system]).await;
}

/// Panics in its start as long as there is something left to fail.
struct Faltering {
    failures: Arc<AtomicUsize>,
    starts: Arc<AtomicUsize>,
}

impl Actor for Faltering {
    fn started(&mut self, _: &mut Context<'_, Self>) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        let take = |left: usize| left.checked_sub(1);
        let failing = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        assert!(failing.is_err(), "in start");
    }
}

/// Starts a group with a member that falters, and fails when that group does.
struct Overseer {
    failures: Arc<AtomicUsize>,
    starts: Arc<AtomicUsize>,
    seen: Seen,
}

impl Actor for Overseer {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        self.seen.push("overseer started");
        let supervision = GroupSupervision { max_restarts: 2, ..quick(Strategy::OneForAll) };
        let (failures, starts, seen) = (self.failures.clone(), self.starts.clone(), self.seen.clone());
        ctx.spawn_group(supervision.escalate(), |group| {
            member(group, &seen, "elder", Restart::Permanent);
            let falter = move || Faltering { failures: failures.clone(), starts: starts.clone() };
            group.child(falter, Restart::Permanent);
        });
    }

    fn stopped(&mut self, reason: &ExitReason) {
        self.seen.push(format!("overseer: {reason}"));
    }
}

/// The one above: its supervision decides about the overseer's failure.
struct Chief(Option<Overseer>, Seen);

impl Actor for Chief {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        self.1.push("chief started");
        if let Some(Overseer { failures, starts, seen }) = self.0.take() {
            let overseer =
                move || Overseer { failures: failures.clone(), starts: starts.clone(), seen: seen.clone() };
            ctx.spawn_child(overseer, Supervision { max_restarts: 1, ..quick_alone() }.escalate());
        }
    }
}

#[tokio::test]
async fn a_start_that_never_succeeds_escalates_level_by_level() {
    let system = builder(1).start().unwrap();
    let (seen, starts) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let (noted, counted) = (seen.clone(), starts.clone());
    let chief = move || {
        let failures = Arc::new(AtomicUsize::new(usize::MAX));
        let overseer = Overseer { failures, starts: counted.clone(), seen: noted.clone() };
        Chief(Some(overseer), noted.clone())
    };
    let chief = system.spawn(chief, Supervision { max_restarts: 1, ..quick_alone() });
    let watcher = probe(&system, &seen, Supervision::never());
    let watched = chief.clone();
    let watch = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        ctx.watch(&watched, |probe: &mut Probe, reason, _| probe.seen.push(format!("told: {reason}")));
    };
    watcher.tell(Do::new(watch)).await.unwrap();

    let reason = soon("it ends", chief.closed()).await;
    let ExitReason::RestartsExhausted { restarts: 1, last } = &reason else { panic!("{reason}") };
    // The whole chain: the overseer's restarts, then the group's, then the panic.
    assert!(last.contains("its child"), "{last}");
    assert!(last.contains("failed 1 times too often"), "{last}");
    assert!(last.contains("failed 2 times too often, at last: panicked: in start"), "{last}");
    seen.wait(&format!("told: {reason}")).await;
    assert_eq!(seen.count("chief started"), 2);
    assert_eq!(seen.count("overseer started"), 4);
    // Three attempts in each group.
    assert_eq!(starts.load(Ordering::Relaxed), 12);
    // Its elder was stopped and started with it, but the group ended before a last start.
    assert_eq!((seen.count("elder started"), seen.count("elder stopped")), (12, 12));
    // No other actor suffers.
    assert!(watcher.is_alive());
    stop(&[&system]).await;
}

#[tokio::test]
async fn at_the_root_a_group_that_has_failed_ends_with_the_reason_and_tells_it() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let supervision = GroupSupervision { max_restarts: 1, ..quick(Strategy::OneForAll) }.escalate();
    let (group, [a, b, c]) = trio(&system, supervision, &seen);
    let watcher = probe(&system, &seen, Supervision::never());
    let watched = group.clone();
    let watch = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        ctx.watch_group(&watched, |probe: &mut Probe, reason, _| probe.seen.push(format!("told: {reason}")));
    };
    watcher.tell(Do::new(watch)).await.unwrap();
    b.tell(Panic).await.unwrap();
    b.tell(Panic).await.unwrap();
    let expected = ExitReason::RestartsExhausted { restarts: 1, last: "panicked: on purpose".into() };
    assert_eq!(soon("it ends", group.closed()).await, expected);
    // The one that failed says so; its siblings were stopped.
    assert_eq!(b.closed().await, expected);
    assert_eq!(a.closed().await, ExitReason::Stopped);
    assert_eq!(c.closed().await, ExitReason::Stopped);
    seen.wait(&format!("told: {expected}")).await;
    assert!(!group.is_alive());
    stop(&[&system]).await;
}

#[tokio::test]
async fn members_that_fail_while_the_group_restarts() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let (failures, starts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (left, counted, noted) = (failures.clone(), starts.clone(), seen.clone());
    /// Panics when it is told to end.
    struct Sore(Seen);
    impl Actor for Sore {
        fn started(&mut self, _: &mut Context<'_, Self>) {
            self.0.push("sore started");
        }
        fn stopped(&mut self, _: &ExitReason) {
            panic!("in stop");
        }
    }
    impl Drop for Sore {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("in drop");
            }
        }
    }
    let (group, (first, _, _)) = system.spawn_group(quick(Strategy::OneForAll), |group| {
        let first = member(group, &seen, "first", Restart::Permanent);
        let falter = move || Faltering { failures: left.clone(), starts: counted.clone() };
        let faltering = group.child(falter, Restart::Permanent);
        (first, faltering, group.child(move || Sore(noted.clone()), Restart::Permanent))
    });
    seen.wait("sore started").await;
    // The next two starts of the second fail, after the first has started; the third panics in its end.
    failures.store(2, Ordering::Relaxed);
    first.tell(Panic).await.unwrap();
    until("all are back", || seen.count("sore started") == 2).await;
    assert_eq!(starts.load(Ordering::Relaxed), 4);
    assert_eq!(seen.count("first started"), 4);
    first.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    assert!(group.is_alive());
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_group_that_is_told_to_stop_in_the_midst_of_a_restart_stops() {
    let system = builder(1).start().unwrap();
    let mut dead = system.dead_letters();
    let hour = Duration::from_secs(3600);
    let paused = GroupSupervision { backoff_min: hour, backoff_max: hour, ..quick(Strategy::OneForAll) };
    let seen = Seen::default();
    let (group, members) = trio(&system, paused.clone(), &seen);
    members[2].ask(Note(1)).timeout(PATIENCE).await.unwrap();
    members[1].tell(Panic).await.unwrap();
    soon("it failed", dead.recv()).await.unwrap();
    until("the others have ended", || life(&seen).len() == 5).await;
    members[0].tell(Note(2)).await.unwrap();
    group.stop();
    assert_eq!(soon("it ends", group.closed()).await, ExitReason::Stopped);
    for member in &members {
        assert_eq!(member.closed().await, ExitReason::Stopped);
    }
    assert_eq!(soon("the queue", dead.recv()).await.unwrap().reason, DeadLetterReason::ActorEnded);
    assert_eq!(life(&seen), ["a started", "b started", "c started", "c stopped", "a stopped"]);

    // So does one whose whole system is told to.
    let (group, members) = trio(&system, paused, &seen);
    members[0].tell(Panic).await.unwrap();
    soon("it failed", dead.recv()).await.unwrap();
    stop(&[&system]).await;
    assert_eq!(group.closed().await, ExitReason::SystemStopped);
}

#[tokio::test]
async fn a_member_that_is_told_to_stop_stays_away_and_takes_nobody_along() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let (group, [a, b, c]) = trio(&system, quick(Strategy::OneForAll), &seen);
    c.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    b.stop();
    assert_eq!(soon("it ends", b.closed()).await, ExitReason::Stopped);
    a.tell(Panic).await.unwrap();
    until("restarted", || seen.count("c started") == 2).await;
    assert_eq!(seen.count("b started"), 1);

    // Also while it waits for its start, an hour off.
    let hour = Duration::from_secs(3600);
    let paused = GroupSupervision { backoff_min: hour, backoff_max: hour, ..quick(Strategy::OneForOne) };
    let seen = Seen::default();
    let mut dead = system.dead_letters();
    let (waiting, [first, ..]) = trio(&system, paused, &seen);
    first.tell(Panic).await.unwrap();
    soon("it failed", dead.recv()).await.unwrap();
    first.stop();
    assert_eq!(soon("it ends", first.closed()).await, ExitReason::Stopped);
    assert!(waiting.is_alive());

    // When the last has gone, so has the group.
    a.stop();
    c.stop();
    assert_eq!(soon("it ends", group.closed()).await, ExitReason::Stopped);
    stop(&[&system]).await;
}

#[tokio::test]
async fn each_member_has_its_own_restart_kind() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let (group, (never, transient, permanent)) = system.spawn_group(quick(Strategy::OneForOne), |group| {
        (
            member(group, &seen, "never", Restart::Never),
            member(group, &seen, "transient", Restart::Transient),
            member(group, &seen, "permanent", Restart::Permanent),
        )
    });
    // A failure that restarts nothing is the member's own affair.
    never.tell(Panic).await.unwrap();
    assert_eq!(soon("it ends", never.closed()).await, ExitReason::Panicked("on purpose".into()));
    transient.tell(Panic).await.unwrap();
    until("restarted", || seen.count("transient started") == 2).await;
    let stops = || Do::new(|_: &mut Probe, ctx: &mut Context<'_, Probe>| ctx.stop());
    permanent.tell(stops()).await.unwrap();
    until("restarted", || seen.count("permanent started") == 2).await;
    transient.tell(stops()).await.unwrap();
    assert_eq!(soon("it ends", transient.closed()).await, ExitReason::Stopped);
    assert!(group.is_alive() && permanent.is_alive());
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_group_across_threads_keeps_its_order() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let (one, two) = (system.arbiter("one").unwrap(), system.arbiter("two").unwrap());
    let (_, members) = system.spawn_group(quick(Strategy::OneForAll), |group| {
        let mut add = |name, arbiter| {
            let seen = seen.clone();
            group.child_on(arbiter, move || Probe::named(name, &seen), Restart::Permanent)
        };
        [add("a", &one), add("b", &two), add("c", &one)]
    });
    members[2].ask(Note(1)).timeout(PATIENCE).await.unwrap();
    let mut expected: Vec<_> = ["a started", "b started", "c started"].map(str::to_owned).into();
    for round in 0..4 {
        members[1].tell(Panic).await.unwrap();
        until("restarted", || seen.count("c started") == round + 2).await;
        expected.extend(["c stopped", "a stopped", "a started", "b started", "c started"].map(str::to_owned));
        assert_eq!(life(&seen), expected);
    }
    stop(&[&system]).await;
}

#[tokio::test]
async fn members_on_two_threads_that_fail_at_once_all_come_back_or_all_end() {
    let system = builder(1).start().unwrap();
    let (one, two) = (system.arbiter("one").unwrap(), system.arbiter("two").unwrap());
    for _ in 0..50 {
        let seen = Seen::default();
        let supervision = GroupSupervision { max_restarts: 4, ..quick(Strategy::RestForOne) };
        let (group, members) = system.spawn_group(supervision, |group| {
            let mut add = |name, arbiter| {
                let seen = seen.clone();
                group.child_on(arbiter, move || Probe::named(name, &seen), Restart::Permanent)
            };
            [add("a", &one), add("b", &two), add("c", &one), add("d", &two)]
        });
        for member in &members {
            let _ = member.try_tell(Panic);
        }
        // Four failures are within the budget, however they fall together.
        for member in &members {
            soon("it answers", member.ask(Note(1)).timeout(PATIENCE)).await.unwrap();
        }
        assert!(group.is_alive());
        group.stop();
        soon("it ends", group.closed()).await;
    }
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_child_escalates_only_if_it_is_told_to() {
    let system = builder(1).start().unwrap();
    for (escalates, restarts) in [(false, 0), (true, 1)] {
        let seen = Seen::default();
        let parent = probe(&system, &seen, quick_alone());
        let (child_tx, child) = tokio::sync::oneshot::channel();
        let spawn = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
            let supervision = Supervision { escalates, ..Supervision::never() };
            let _ = child_tx.send(ctx.spawn_child(|| Probe::new(&Seen::default()), supervision));
        };
        parent.tell(Do::new(spawn)).await.unwrap();
        let child = soon("a child", child).await.unwrap();
        child.tell(Panic).await.unwrap();
        soon("it ends", child.closed()).await;
        until("the parent", || seen.count("probe started") == restarts + 1).await;
        parent.ask(Note(1)).timeout(PATIENCE).await.unwrap();
        let reason = format!("probe its child {} panicked: on purpose", child.id());
        assert_eq!(seen.count(&reason), restarts);
        // A child that just stops is no failure.
        let spawn = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
            let stops = |_: &mut Probe, ctx: &mut Context<'_, Probe>| ctx.stop();
            let child = ctx.spawn_child(|| Probe::new(&Seen::default()), Supervision::never().escalate());
            child.try_tell(Do::new(stops)).unwrap();
            ctx.watch(&child, |probe: &mut Probe, reason, _| probe.seen.push(format!("child {reason}")));
        };
        parent.tell(Do::new(spawn)).await.unwrap();
        seen.wait("child stopped").await;
        parent.ask(Note(1)).timeout(PATIENCE).await.unwrap();
        assert_eq!(seen.count("probe started"), restarts + 1);
    }
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_group_that_was_never_started_tells_those_who_wait_for_its_members() {
    let system = builder(1).start().unwrap();
    stop(&[&system]).await;
    let (group, members) = trio(&system, quick(Strategy::OneForAll), &Seen::default());
    assert_eq!(soon("told", group.closed()).await, ExitReason::SystemStopped);
    for member in &members {
        assert_eq!(soon("told", member.closed()).await, ExitReason::SystemStopped);
    }
}
