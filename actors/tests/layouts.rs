//! Layouts: actors, links and their caller on one thread, up to whole worlds on a paused clock.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use common::*;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{
    Actor, ActorPath, ActorSystem, Context, Did, ExitReason, Kind, Policy, Refusal, StartError, StopError,
    Supervision, TraceContext,
};
use tokio::task::LocalSet;

/// Notes on which threads links run.
#[derive(Default)]
struct Where(Arc<Mutex<BTreeSet<String>>>);

fn here() -> String {
    let id: ThreadId = thread::current().id();
    format!("{id:?}")
}

impl Policy for Where {
    fn admit(&self, _: Did, _: &ActorPath, _: &Kind) -> Result<(), Refusal> {
        self.0.lock().unwrap().insert(here());
        Ok(())
    }
}

#[test]
fn actors_links_and_their_caller_share_one_thread() {
    dms_actors::run(async {
        let network = MemoryNetwork::default();
        let threads = Arc::new(Mutex::new(BTreeSet::new()));
        let systems: Vec<ActorSystem> = [1, 2]
            .into_iter()
            .map(|n| {
                let transport = network.transport(did(n));
                let policy = Arc::new(Where(threads.clone()));
                builder(n).transport(transport).policy(policy).start_on_current().unwrap()
            })
            .collect();
        let seen = Seen::default();
        let actor = registered_probe(&systems[1], &seen);
        let inside = threads.clone();
        let look = move |_: &mut Probe, _: &mut Context<'_, Probe>| {
            inside.lock().unwrap().insert(here());
        };
        actor.tell(Do::new(look)).await.unwrap();
        let far = systems[0].resolve::<Note>(&address(2, "/probe"));
        assert_eq!(far.ask(Note(7)).timeout(PATIENCE).await.unwrap(), 0);
        stop(&[&systems[0], &systems[1]]).await;
        assert_eq!(threads.lock().unwrap().iter().collect::<Vec<_>>(), [&here()]);
        assert_eq!(seen.count("probe the system stopped"), 1);
    })
    .unwrap();
}

#[test]
fn where_there_is_no_local_set_it_says_so() {
    let refused = || assert!(matches!(builder(1).start_on_current(), Err(StartError::NotOnCurrentThread)));
    // No runtime.
    refused();
    let build = |mut builder: tokio::runtime::Builder| builder.enable_all().build().unwrap();
    // No `LocalSet`.
    build(tokio::runtime::Builder::new_current_thread()).block_on(async { refused() });
    // Links would run on other threads.
    let many = build(tokio::runtime::Builder::new_multi_thread());
    LocalSet::new().block_on(&many, async { refused() });
    // The transport is untouched by a start that failed.
    let network = MemoryNetwork::default();
    let transport = network.transport(did(1));
    assert!(builder(1).transport(transport.clone()).start_on_current().is_err());
    let system = builder(1).transport(transport).start().unwrap();
    system.stop_blocking(PATIENCE).unwrap();

    let inside = dms_actors::run(async { dms_actors::run(async {}).is_err() }).unwrap();
    assert!(inside, "a runtime inside of a runtime");
}

/// Asks its neighbour once an hour.
struct Citizen {
    neighbour: dms_actors::Recipient<Note>,
    seen: Seen,
}

impl Actor for Citizen {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.every(Duration::from_secs(3600), |citizen, ctx| {
            let told = citizen.neighbour.tell(Note(1));
            ctx.pipe(told, |citizen, told, _| {
                told.unwrap();
                citizen.seen.push("told");
            });
        });
    }
}

/// Systems of one world: enough that a thread for each would hurt.
const WORLD: u8 = 200;

#[tokio::test(start_paused = true)]
async fn two_hundred_systems_live_a_day_on_one_thread_within_seconds() {
    let local = LocalSet::new();
    let (seen, notes) = (Seen::default(), Seen::default());
    let began = std::time::Instant::now();
    local
        .run_until(async {
            let network = MemoryNetwork::default();
            let systems: Vec<ActorSystem> = (0..WORLD)
                .map(|n| builder(n).transport(network.transport(did(n))).start_on_current().unwrap())
                .collect();
            for (n, system) in (0..WORLD).zip(&systems) {
                registered_probe(system, &notes);
                let neighbour = system.resolve::<Note>(&address((n + 1) % WORLD, "/probe"));
                let seen = seen.clone();
                let citizen = move || Citizen { neighbour: neighbour.clone(), seen: seen.clone() };
                system.spawn(citizen, Supervision::never());
            }
            tokio::time::sleep(Duration::from_secs(24 * 3600 + 1800)).await;
            for system in &systems {
                system.stop(PATIENCE).await.unwrap();
            }
        })
        .await;
    assert_eq!(seen.count("told"), 24 * usize::from(WORLD));
    assert_eq!(notes.all().iter().filter(|text| text.starts_with("note 1")).count(), 24 * usize::from(WORLD));
    assert!(began.elapsed() < Duration::from_secs(3600));
    // Nothing is left behind: the set itself comes to its end.
    soon("the set is empty", local).await;
}

#[test]
fn others_threads_spawn_onto_the_current_one() {
    dms_actors::run(async {
        let system = builder(1).start_on_current().unwrap();
        let seen = Seen::default();
        let (elsewhere, noted) = (system.clone(), seen.clone());
        let spawned = tokio::task::spawn_blocking(move || {
            let actors: Vec<_> = (0..100).map(|_| probe(&elsewhere, &noted, Supervision::never())).collect();
            for actor in &actors {
                actor.try_tell(Note(1)).unwrap();
            }
            actors
        });
        let actors = soon("spawned", spawned).await.unwrap();
        for actor in &actors {
            assert_eq!(actor.ask(Note(2)).timeout(PATIENCE).await.unwrap(), 1);
        }
        // Stopped from another thread, too.
        let elsewhere = system.clone();
        soon("stopped", tokio::task::spawn_blocking(move || elsewhere.stop_blocking(PATIENCE)))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(seen.count("probe the system stopped"), 100);
    })
    .unwrap();
}

#[test]
fn what_is_left_goes_with_the_local_set() {
    let (system, actor) = dms_actors::run(async {
        let system = builder(1).start_on_current().unwrap();
        let actor = probe(&system, &Seen::default(), Supervision::permanent());
        let _ = system.register("/left", &actor).unwrap();
        actor.ask(Note(1)).timeout(PATIENCE).await.unwrap();
        // Nobody stops it.
        (system, actor)
    })
    .unwrap();
    let closed = |actor: &dms_actors::ActorRef<Probe>| {
        let closed = actor.closed();
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async { soon("told", closed).await })
    };
    assert_eq!(closed(&actor), ExitReason::SystemStopped);
    // A spawn onto it tells so at once.
    let late = system.spawn(|| -> Probe { unreachable!("nothing runs") }, Supervision::never());
    assert_eq!(closed(&late), ExitReason::SystemStopped);
    // It ended by itself, and has nothing to complain about.
    assert_eq!(system.list(), []);
    system.stop_blocking(PATIENCE).unwrap();
}

#[test]
fn an_arbiter_of_a_system_on_the_current_thread_is_a_thread() {
    dms_actors::run(async {
        let system = builder(1).start_on_current().unwrap();
        let arbiter = system.arbiter("heavy").unwrap();
        let seen = Seen::default();
        let noted = seen.clone();
        let actor = system.spawn_on(&arbiter, move || Probe::new(&noted), Supervision::never());
        let look = |probe: &mut Probe, _: &mut Context<'_, Probe>| {
            probe.seen.push(thread::current().name().unwrap_or_default());
        };
        actor.tell(Do::new(look)).await.unwrap();
        seen.wait("heavy").await;
        stop(&[&system]).await;
    })
    .unwrap();
}

#[tokio::test]
async fn a_trace_around_the_thread_is_not_that_of_its_actors() {
    let trace: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let local = LocalSet::new();
    let world = local.run_until(async {
        let system = builder(1).start_on_current().unwrap();
        let seen = Seen::default();
        let actor = probe(&system, &seen, Supervision::never());
        let look = Do::new(|probe: &mut Probe, _: &mut Context<'_, Probe>| {
            probe.seen.push(format!("{:?}", TraceContext::current()));
        });
        // Sent from where there is none.
        thread::scope(|scope| scope.spawn(|| actor.try_tell(look).unwrap()).join().unwrap());
        seen.wait("None").await;
        assert_eq!(TraceContext::current(), Some(trace), "the turn gives it back");
        assert_eq!(system.stop_blocking(PATIENCE), Err(StopError::OnOwnThread));
        stop(&[&system]).await;
    });
    trace.scope(world).await;
}
