//! The `testing` feature held to its own promises: it fires when it should, and the same seed is the same run.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as the tests do")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use common::{Note, Probe as Noting, Seen, did};
use dms_actors::testing::{
    self, Faults, FaultyNetwork, InjectedFault, Member, PARTITION_TIMEOUT, Probe, WhatFailed, World,
    transport_conformance,
};
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::transport::{LINK_PROTOCOL, OpenError, TransportEvent};
use dms_actors::{
    Actor, ActorSystem, AskError, Context, DeadLetterReason, PeerEvent, SendFailure, Supervision,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The text with which `run` panics.
fn panic_of(run: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("it should panic");
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .expect("panics have a text")
}

/// Beats at a rhythm of its own and tells the others.
struct Beat {
    world: World,
    name: &'static str,
    beats: u64,
    to: dms_actors::Recipient<Note>,
}

impl Actor for Beat {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        let chance = u64::from(ctx.system().clock().random()[0]);
        ctx.every(Duration::from_secs(60 + chance), |beat, ctx| {
            beat.beats += 1;
            let sent = beat.to.try_tell(Note(beat.beats)).is_ok();
            beat.world.log(format_args!("{} beats {} sent {sent}", beat.name, beat.beats));
            if beat.beats.is_multiple_of(7) {
                ctx.fail("a beat was missed");
            }
        });
    }
}

/// An hour of two systems over a bad line, with restarts, a partition and a reset.
fn an_hour(seed: u64) -> (Vec<String>, Vec<InjectedFault>) {
    testing::run(seed, |world| async move {
        world.network().set_faults(Faults { reset_after: Some(300..=900), ..Faults::rough() });
        let (a, b) = (world.system("a"), world.system("b"));
        let mut peers = a.peers();
        let seen = Seen::default();
        let notes = {
            let seen = seen.clone();
            b.spawn(move || Noting::new(&seen), Supervision::never())
        };
        let _ = b.register("/notes", &notes).unwrap().accepts::<Note>();
        let to = a.resolve::<Note>(&dms_actors::Address::new(b.me(), "/notes").unwrap());
        for name in ["first", "second"] {
            let (world, to) = (world.clone(), to.clone());
            a.spawn(
                move || Beat { world: world.clone(), name, beats: 0, to: to.clone() },
                Supervision { max_restarts: 1000, ..Supervision::transient() },
            );
        }
        tokio::time::sleep(HOUR / 2).await;
        world.network().partition(a.me(), b.me());
        tokio::time::sleep(HOUR / 2).await;
        world.network().heal(a.me(), b.me());
        tokio::time::sleep(HOUR / 2).await;
        while let Ok(event) = peers.try_recv() {
            world.log(format_args!("{event:?}"));
        }
        for line in seen.all() {
            world.log(line);
        }
        world.stop().await;
        for letter in world.dead_letters() {
            world.log(format_args!("{letter:?}"));
        }
        (world.history(), world.network().injected())
    })
}

#[test]
fn an_hour_passes_in_a_moment_and_the_same_seed_is_the_same_hour() {
    let begin = Instant::now();
    let (log, faults) = an_hour(1);
    assert!(log.len() > 50 && faults.len() > 1, "{log:?} {faults:?}");
    for _ in 0..3 {
        let (again, faults_again) = an_hour(1);
        assert_eq!(log, again);
        assert_eq!(faults, faults_again);
    }
    assert_ne!(log, an_hour(2).0, "another seed is another hour");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn the_clock_of_a_world_is_virtual_and_its_chance_is_the_seeds() {
    let draw = |seed| {
        testing::run(seed, |world| async move {
            let clock = world.clock();
            let (now, monotonic) = (clock.now(), clock.monotonic());
            tokio::time::sleep(HOUR).await;
            assert_eq!(clock.now().saturating_since(now), HOUR);
            assert_eq!(clock.monotonic() - monotonic, HOUR);
            (now, clock.random())
        })
    };
    assert_eq!(draw(5), draw(5));
    assert_ne!(draw(5).1, draw(6).1);
}

#[test]
fn a_system_that_was_not_stopped_is_named_with_its_actors() {
    let text = panic_of(|| {
        testing::run(1, |world| async move {
            let system = world.system("forgotten");
            let probe = Probe::<Note>::of(&system);
            // As an application would that never ends its actors.
            std::mem::forget(probe);
        });
    });
    assert!(text.contains("system forgotten still runs, with 1 actors"), "{text}");
    assert!(text.contains("Recorder"), "{text}");
}

#[test]
fn tasks_and_pipes_that_are_left_are_counted() {
    let text = panic_of(|| {
        testing::run(1, |world| async move {
            tokio::spawn(std::future::pending::<()>());
            let (a, b) = (world.did("a"), world.did("b"));
            let (ta, tb) = (world.network().transport(a), world.network().transport(b));
            let mut events = tb.take_events().unwrap();
            let pipe = ta.open(b, LINK_PROTOCOL).await;
            assert!(matches!(events.recv().await, Some(TransportEvent::Up(_))));
            let opened = events.recv().await;
            std::mem::forget((pipe, opened));
        });
    });
    assert!(text.contains("1 pipes are open") && text.contains("1 tasks have not ended"), "{text}");
}

#[test]
fn dead_letters_are_leaks_unless_they_are_expected_or_read() {
    async fn one_dies(world: &World) {
        let system = world.system("one");
        let seen = Seen::default();
        let actor = system.spawn(move || Noting::new(&seen), Supervision::never());
        let held = common::hold(&actor).await;
        actor.tell(Note(1)).await.unwrap();
        actor.stop();
        actor.closed().await;
        drop(held);
        world.stop().await;
    }
    let text = panic_of(|| testing::run(1, |world| async move { one_dies(&world).await }));
    assert!(text.contains("1 dead letters where 0 were expected") && text.contains("Note"), "{text}");
    testing::run(1, |world| async move {
        one_dies(&world).await;
        world.expect_dead_letters(1);
    });
    testing::run(1, |world| async move {
        one_dies(&world).await;
        // The last sweep of a mailbox is a task of its own.
        tokio::time::sleep(SECOND).await;
        let letters = world.dead_letters();
        assert!(matches!(letters[..], [ref letter] if letter.reason == DeadLetterReason::ActorEnded));
    });
    let text = panic_of(|| testing::run(1, |world| async move { world.expect_dead_letters(2) }));
    assert!(text.contains("0 dead letters where 2 were expected"), "{text}");
}

#[test]
fn a_failed_test_keeps_its_own_failure() {
    let text = panic_of(|| {
        testing::run(1, |world| async move {
            let system = world.system("left");
            let _probe = Probe::<Note>::of(&system);
            panic!("the test's own");
        })
    });
    assert_eq!(text, "the test's own");
}

#[tokio::test]
async fn a_check_that_is_dropped_looks_at_systems_with_threads_of_their_own() {
    let start = || ActorSystem::builder(did(1), "test").start().unwrap();
    let system = start();
    let mut check = testing::LeakCheck::new();
    check.watch("threaded", &system);
    let probe = Probe::<Note>::of(&system);
    assert!(matches!(&check.leaks()[..], [testing::Leak::SystemRuns { actors, .. }] if actors.len() == 1));
    let text = panic_of(move || drop(check));
    assert!(text.contains("system threaded still runs"), "{text}");
    drop(probe);
    system.stop(Duration::from_secs(20)).await.unwrap();

    let system = start();
    let mut check = testing::LeakCheck::new();
    check.watch("stopped", &system);
    system.stop(Duration::from_secs(20)).await.unwrap();
    drop(check);
}

#[test]
fn a_probe_that_waits_in_vain_says_where_and_how_long() {
    let text = panic_of(|| {
        testing::run(1, |world| async move {
            let mut probe = Probe::<Note>::of(&world.system("one")).with_patience(SECOND);
            probe.recipient().tell(Note(1)).await.unwrap();
            probe.next().await;
            probe.next().await;
        });
    });
    assert!(text.contains("testing.rs:") && text.contains("got no message within 1s"), "{text}");
    assert!(text.contains("Note") && text.contains("alive, 1 taken before"), "{text}");
}

#[test]
fn a_probe_that_expects_nothing_says_who_spoke() {
    let text = panic_of(|| {
        testing::run(1, |world| async move {
            let mut probe = Probe::<Note>::of(&world.system("one"));
            let to = probe.recipient();
            tokio::spawn(async move {
                tokio::time::sleep(ms(999)).await;
                to.tell(Note(1)).await.unwrap();
            });
            probe.expect_none_for(SECOND).await;
        });
    });
    assert!(text.contains("not expected within 1s"), "{text}");
}

#[test]
fn a_probe_answers_by_script_or_by_the_test_or_not_at_all() {
    testing::run(1, |world| async move {
        let (near, far) = (world.system("near"), world.system("far"));
        let mut probe = Probe::<Note>::at(&far, "/probe").unwrap();
        let to = near.resolve(probe.address().unwrap());
        probe.will_reply(7);
        assert_eq!(to.ask(Note(1)).timeout(SECOND).await.unwrap(), 7);
        assert_eq!(probe.next_received().await.sender(), near.me());

        let asked = tokio::spawn(to.ask(Note(2)).timeout(SECOND));
        assert_eq!(probe.next_received().await.reply(8), Note(2));
        assert_eq!(asked.await.unwrap().unwrap(), 8);

        let asked = tokio::spawn(to.ask(Note(3)).timeout(SECOND));
        drop(probe.next_received().await);
        assert!(matches!(asked.await.unwrap(), Err(AskError::Lost)));

        probe.answer_with(|note| note.0.is_multiple_of(2).then_some(note.0 / 2));
        assert_eq!(to.ask(Note(20)).timeout(SECOND).await.unwrap(), 10);
        let asked = tokio::spawn(to.ask(Note(21)).timeout(SECOND));
        assert!(matches!(asked.await.unwrap(), Err(AskError::TimedOut)));
        assert_eq!(probe.drain(), [Note(20), Note(21)]);
        probe.expect_none_for(HOUR).await;
        drop(probe);
        world.stop().await;
    });
}

#[test]
fn a_probe_that_is_not_read_stops_its_senders() {
    testing::run(1, |world| async move {
        let system = world.system("one");
        let mut probe = Probe::<Note>::of(&system);
        let to = probe.recipient();
        let telling = tokio::spawn(async move {
            for note in 0..5_000 {
                to.tell(Note(note)).await.unwrap();
            }
        });
        tokio::time::sleep(SECOND).await;
        assert!(!telling.is_finished());
        for note in 0..5_000 {
            assert_eq!(probe.next().await, Note(note));
        }
        drop(probe);
        world.stop().await;
    });
}

/// A probe at `/probe` of `b`, and how `a` reaches it.
fn across(world: &World) -> (ActorSystem, ActorSystem, Probe<Note>, dms_actors::Recipient<Note>) {
    let (a, b) = (world.system("a"), world.system("b"));
    let probe = Probe::<Note>::at(&b, "/probe").unwrap();
    probe.answer_with(|note| Some(note.0));
    let to = a.resolve(probe.address().unwrap());
    (a, b, probe, to)
}

#[test]
fn words_keep_their_order_over_a_bad_line_of_any_seed() {
    for seed in 0..20 {
        testing::run(seed, |world| async move {
            world.network().set_faults(Faults { max_chunk: Some(13), ..Faults::rough() });
            let (a, _b, mut probe, to) = across(&world);
            let telling = tokio::spawn(async move {
                for note in 0..300 {
                    to.tell(Note(note)).await.unwrap();
                }
            });
            for note in 0..300 {
                assert_eq!(probe.next().await, Note(note), "seed {seed}");
            }
            telling.await.unwrap();
            assert!(a.flush(HOUR).await, "what has arrived is acknowledged sooner or later");
            drop(probe);
            world.stop().await;
        });
    }
}

#[test]
fn delay_and_bandwidth_take_the_time_they_should() {
    testing::run(1, |world| async move {
        let delay = ms(250);
        world.network().set_faults(Faults { delay, ..Faults::none() });
        let (a, b) = (world.did("a"), world.did("b"));
        let (ta, tb) = (world.network().transport(a), world.network().transport(b));
        let mut events = tb.take_events().unwrap();
        let mut pipe = ta.open(b, LINK_PROTOCOL).await.unwrap();
        assert_eq!(world.elapsed().as_millis(), 500, "opening is a round trip");
        events.recv().await.unwrap();
        let Some(TransportEvent::Opened { pipe: mut theirs, .. }) = events.recv().await else { panic!() };
        pipe.write_all(b"x").await.unwrap();
        theirs.read_u8().await.unwrap();
        assert_eq!(world.elapsed().as_millis(), 750);

        let line = Faults { bandwidth: Some(10_000), ..Faults::none() };
        world.network().set_faults_between(a, b, line);
        let mut slow = ta.open(b, LINK_PROTOCOL).await.unwrap();
        let Some(TransportEvent::Opened { pipe: mut theirs, .. }) = events.recv().await else { panic!() };
        let begin = world.elapsed();
        slow.write_all(&[1; 20_000]).await.unwrap();
        drop(slow);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        let took = (world.elapsed() - begin).as_millis();
        assert!(all.len() == 20_000 && (1990..2100).contains(&took), "{took}");
    });
}

#[test]
fn a_pipe_is_reset_after_exactly_the_drawn_bytes() {
    let after = |seed| {
        testing::run(seed, |world| async move {
            let faults = Faults { reset_after: Some(100..=10_000), max_chunk: Some(100), ..Faults::none() };
            let (a, b) = (world.did("a"), world.did("b"));
            world.network().set_faults_between(a, b, faults);
            let (ta, tb) = (world.network().transport(a), world.network().transport(b));
            let mut events = tb.take_events().unwrap();
            let mut pipe = ta.open(b, LINK_PROTOCOL).await.unwrap();
            events.recv().await.unwrap();
            let Some(TransportEvent::Opened { pipe: mut theirs, .. }) = events.recv().await else { panic!() };
            let sent = pipe.write_all(&[7; 20_000]).await.unwrap_err();
            assert_eq!(sent.kind(), std::io::ErrorKind::ConnectionReset);
            let mut got = Vec::new();
            let end = theirs.read_to_end(&mut got).await.unwrap_err();
            assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
            let injected = world.network().injected();
            let what = WhatFailed::Reset { after: got.len() as u64 };
            assert_eq!(injected, [InjectedFault { from: a, to: b, number: 1, what }]);
            assert_eq!(ta.connected_peers(), [b], "the connection is still there");
            got.len()
        })
    };
    assert_eq!(after(1), after(1));
    assert!((100..=10_000).contains(&after(2)));
    assert!((3..8).any(|seed| after(seed) != after(1)));
}

#[test]
fn a_link_dies_at_the_chosen_frame_and_the_next_one_lives() {
    testing::run(1, |world| async move {
        let (a, b) = (world.did("a"), world.did("b"));
        // The greeting and three words.
        let faults = Faults { reset_at_frame: Some(5), ..Faults::none() };
        world.network().set_faults_between(a, b, faults);
        let (sa, _sb, mut probe, to) = across(&world);
        for note in 1..=3 {
            to.tell(Note(note)).await.unwrap();
            assert_eq!(probe.next().await, Note(note));
        }
        world.network().set_faults_between(a, b, Faults::none());
        assert!(matches!(to.ask(Note(4)).timeout(SECOND).await, Err(AskError::Lost)));
        probe.expect_none_for(SECOND).await;
        assert_eq!(to.ask(Note(5)).timeout(SECOND).await.unwrap(), 5);
        assert_eq!(probe.next().await, Note(5));
        assert!(matches!(
            world.network().injected()[..],
            [InjectedFault { what: WhatFailed::Reset { .. }, .. }]
        ));
        drop((probe, sa));
        world.stop().await;
    });
}

#[test]
fn what_is_sent_into_a_partition_arrives_after_it_and_a_long_one_ends_the_connection() {
    testing::run(1, |world| async move {
        let (a, b, mut probe, to) = across(&world);
        let mut peers = a.peers();
        assert_eq!(to.ask(Note(1)).timeout(SECOND).await.unwrap(), 1);
        probe.next().await;
        peers.recv().await.unwrap();

        world.network().partition(a.me(), b.me());
        to.tell(Note(2)).await.unwrap();
        assert!(matches!(to.ask(Note(3)).timeout(SECOND).await, Err(AskError::TimedOut)));
        probe.expect_none_for(SECOND).await;
        world.network().heal(a.me(), b.me());
        assert_eq!(probe.next().await, Note(2));
        assert!(peers.try_recv().is_err(), "a short partition is only a pause");

        world.network().partition(a.me(), b.me());
        let begin = world.elapsed();
        to.tell(Note(4)).await.unwrap();
        let down = tokio::time::timeout(HOUR, peers.recv()).await.expect("a down");
        assert_eq!(down.unwrap(), PeerEvent::Down(b.me()));
        assert_eq!(world.elapsed() - begin, PARTITION_TIMEOUT);
        let unreachable = to.ask(Note(5)).timeout(HOUR).await;
        assert!(matches!(unreachable, Err(AskError::NotSent { reason: SendFailure::Unreachable(_), .. })));
        world.network().heal(a.me(), b.me());
        assert_eq!(to.ask(Note(6)).timeout(SECOND).await.unwrap(), 6);
        // The ask that timed out may have been handled when the first partition ended, and the word is lost.
        let after = probe.drain();
        assert!(after.ends_with(&[Note(6)]) && !after.contains(&Note(4)), "{after:?}");
        let letters = world.dead_letters();
        assert!(
            letters.iter().any(|letter| letter.reason == DeadLetterReason::LinkLost),
            "the word that was under way: {letters:?}"
        );
        drop(probe);
        world.stop().await;
    });
}

#[test]
fn a_partition_of_one_way_lets_the_other_pass() {
    testing::run(1, |world| async move {
        let (a, b, mut probe, to) = across(&world);
        assert_eq!(to.ask(Note(1)).timeout(SECOND).await.unwrap(), 1);
        probe.next().await;
        // The answer does not come back, the question arrives.
        world.network().partition_one_way(b.me(), a.me());
        assert!(matches!(to.ask(Note(2)).timeout(SECOND).await, Err(AskError::TimedOut)));
        assert_eq!(probe.next().await, Note(2));
        world.network().heal(b.me(), a.me());
        assert_eq!(to.ask(Note(3)).timeout(SECOND).await.unwrap(), 3);
        drop(probe);
        world.stop().await;
    });
}

#[test]
fn opens_are_refused_as_often_as_was_set() {
    testing::run(1, |world| async move {
        world.network().set_faults(Faults { refuse_one_in: Some(4), ..Faults::none() });
        let (a, b) = (world.did("a"), world.did("b"));
        let (ta, tb) = (world.network().transport(a), world.network().transport(b));
        let mut events = tb.take_events().unwrap();
        let mut refused = 0;
        for _ in 0..400 {
            match ta.open(b, LINK_PROTOCOL).await {
                Ok(_) => while events.try_recv().is_ok() {},
                Err(error) => {
                    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
                    refused += 1;
                }
            }
        }
        assert!((50..150).contains(&refused), "{refused}");
    });
}

fn members(network: &FaultyNetwork, kill: impl Fn(dms_actors::Did) + Clone + Send + 'static) -> [Member; 2] {
    [1, 2].map(|n| {
        let kill = kill.clone();
        Member::new(did(n), network.transport(did(n)), async move { kill(did(n)) })
    })
}

#[tokio::test]
async fn the_memory_network_keeps_the_promises_of_a_transport() {
    transport_conformance(|| async {
        let network = MemoryNetwork::default();
        [1, 2].map(|n| {
            let (transport, network) = (network.transport(did(n)), network.clone());
            Member::new(did(n), transport, async move { network.kill(did(n)) })
        })
    })
    .await;
}

#[test]
fn the_faulty_network_keeps_the_promises_of_a_transport() {
    for faults in [Faults::none(), Faults { bandwidth: None, ..Faults::rough() }] {
        testing::run(1, |_| async move {
            transport_conformance(|| async {
                let network = FaultyNetwork::new(1);
                network.set_faults(faults.clone());
                let killing = network.clone();
                members(&network, move |who| killing.kill(who))
            })
            .await;
        });
    }
}

/// A transport that breaks one promise, to see that it is noticed.
struct Broken(std::sync::Arc<dyn dms_actors::transport::Transport>);

impl dms_actors::transport::Transport for Broken {
    fn open(
        &self,
        peer: dms_actors::Did,
        protocol: &'static str,
    ) -> futures::future::BoxFuture<'static, Result<dms_actors::transport::Pipe, OpenError>> {
        self.0.open(peer, protocol)
    }

    fn add_addresses(&self, _: dms_actors::Did, _: Vec<String>) {}

    fn listen_addresses(&self) -> Vec<String> {
        Vec::new()
    }

    fn connected_peers(&self) -> Vec<dms_actors::Did> {
        Vec::new()
    }

    fn take_events(&self) -> Option<tokio::sync::mpsc::Receiver<TransportEvent>> {
        self.0.take_events()
    }
}

#[test]
fn a_transport_that_breaks_a_promise_does_not_conform() {
    let text = panic_of(|| {
        testing::run(1, |_| async {
            transport_conformance(|| async {
                let network = MemoryNetwork::default();
                [1, 2].map(|n| {
                    let transport = std::sync::Arc::new(Broken(network.transport(did(n))));
                    Member::new(did(n), transport, async {})
                })
            })
            .await;
        });
    });
    assert!(text.contains("a peer that is up is connected"), "{text}");
}
