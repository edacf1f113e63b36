//! Pools: who gets a message, and what a failing worker does not do to the others.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::*;
use dms_actors::{
    Actor, ActorSystem, AskError, Context, DeadLetterReason, ExitReason, Pool, PoolBuilder, Recipient,
    Routing, SendFailure, Supervision,
};

/// Four probes that see for themselves, with their seeings.
fn four(system: &ActorSystem, routing: Routing) -> (Pool<Probe>, Vec<Seen>) {
    let seen: Vec<Seen> = (0..4).map(|_| Seen::default()).collect();
    let each = seen.clone();
    let quick = Supervision { backoff_min: Duration::from_millis(1), ..Supervision::transient() };
    let pool = PoolBuilder::new(4).routing(routing).supervision(quick);
    (pool.spawn(system, move |number| Probe::new(&each[number])), seen)
}

/// How many notes each has handled.
fn notes(seen: &[Seen]) -> Vec<usize> {
    let count = |seen: &Seen| seen.all().iter().filter(|text| text.starts_with("note")).count();
    seen.iter().map(count).collect()
}

#[tokio::test]
async fn each_in_turn_and_the_full_are_passed_over() {
    let system = builder(1).start().unwrap();
    let (pool, seen) = four(&system, Routing::RoundRobin);
    for note in 0..40 {
        pool.ask(Note(note)).await.unwrap();
    }
    assert_eq!(notes(&seen), [10, 10, 10, 10]);

    let release = hold(&pool.workers()[2]).await;
    for note in 0..4 * Probe::MAILBOX as u64 {
        // The one that stands still fills up; from then on the others take its share.
        soon("room", pool.tell(Note(note))).await.unwrap();
    }
    assert_eq!(pool.workers()[2].depth(), Probe::MAILBOX);
    for note in 0..40 {
        soon("the others answer", pool.ask(Note(note))).await.unwrap();
    }
    drop(release);
    until("the queue is handled", || pool.depth() == 0).await;
    stop(&[&system]).await;
}

#[tokio::test]
async fn full_only_when_every_worker_is() {
    let system = builder(1).start().unwrap();
    for routing in [Routing::RoundRobin, Routing::LeastBusy] {
        let (pool, seen) = four(&system, routing);
        let mut releases = Vec::new();
        for worker in pool.workers() {
            releases.push(hold(worker).await);
        }
        for note in 0..4 * Probe::MAILBOX as u64 {
            pool.try_tell(Note(note)).unwrap();
        }
        let refused = pool.try_tell(Note(99)).unwrap_err();
        assert_eq!((refused.message, refused.reason), (Note(99), SendFailure::Full));
        let waiting = tokio::spawn(pool.tell(Note(100)));
        let asked = pool.ask(Note(101)).timeout(Duration::from_millis(20)).await;
        assert!(matches!(asked, Err(AskError::NotSent { message: Note(101), reason: SendFailure::Full })));
        releases.clear();
        soon("room", waiting).await.unwrap().unwrap();
        until("all are handled", || notes(&seen).iter().sum::<usize>() == 4 * Probe::MAILBOX + 1).await;
    }
    stop(&[&system]).await;
}

#[tokio::test]
async fn the_least_busy_gets_it() {
    let system = builder(1).start().unwrap();
    let (pool, seen) = four(&system, Routing::LeastBusy);
    let mut releases = Vec::new();
    for (worker, queued) in [(0, 3), (1, 2), (3, 5)] {
        releases.push(hold(&pool.workers()[worker]).await);
        for note in 0..queued {
            pool.workers()[worker].tell(Note(note)).await.unwrap();
        }
    }
    for note in 0..10 {
        pool.ask(Note(note)).await.unwrap();
    }
    assert_eq!(notes(&seen), [0, 0, 10, 0]);
    releases.push(hold(&pool.workers()[2]).await);
    for note in 0..6 {
        pool.try_tell(Note(note)).unwrap();
    }
    // 3, 2, 0, 5 were filled up evenly.
    let mut depths: Vec<_> = pool.workers().iter().map(dms_actors::ActorRef::depth).collect();
    depths.sort_unstable();
    assert_eq!(depths, [3, 4, 4, 5]);
    drop(releases);
    stop(&[&system]).await;
}

#[tokio::test]
async fn equal_keys_have_one_worker_in_order_also_after_it_has_ended() {
    let system = builder(1).start().unwrap();
    let (pool, seen) = four(&system, Routing::RoundRobin);
    let by_tens: Recipient<Note> = pool.recipient_by(|note: &Note| note.0 / 10);
    let mut homes = BTreeSet::new();
    for key in 0..50_u64 {
        let home = pool.worker_for(&key).id();
        homes.insert(home);
        for note in 0..10 {
            by_tens.tell(Note(10 * key + note)).await.unwrap();
            assert_eq!(pool.clone().worker_for(&key).id(), home);
        }
    }
    assert_eq!(homes.len(), 4, "fifty keys use every worker");
    until("all are handled", || notes(&seen).iter().sum::<usize>() == 500).await;
    let me = did(1).short();
    let worker = pool.workers().iter().position(|worker| worker.id() == pool.worker_for(&7_u64).id());
    let of_seven: Vec<_> = seen[worker.unwrap()].all();
    let expected: Vec<_> = (70..80).map(|note| format!("note {note} from {me}")).collect();
    let ours: Vec<_> = of_seven.into_iter().filter(|text| expected.contains(text)).collect();
    assert_eq!(ours, expected);
    // Text finds the same home as owned and as borrowed.
    assert_eq!(pool.worker_for("a customer").id(), pool.worker_for(&"a customer".to_owned()).id());

    let gone = pool.worker_for(&7_u64).clone();
    gone.stop();
    gone.closed().await;
    let refused = by_tens.tell(Note(70)).await.unwrap_err();
    assert_eq!((refused.message, refused.reason), (Note(70), SendFailure::Closed));
    let other = (0..50_u64).find(|key| pool.worker_for(key).id() != gone.id()).unwrap();
    by_tens.tell(Note(10 * other)).await.unwrap();
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_worker_that_panics_keeps_its_queue_and_the_others_busy() {
    let system = builder(1).start().unwrap();
    let mut dead = system.dead_letters();
    let (pool, seen) = four(&system, Routing::RoundRobin);
    let failing = &pool.workers()[1];
    let release = hold(failing).await;
    failing.tell(Panic).await.unwrap();
    for note in 0..5 {
        failing.tell(Note(note)).await.unwrap();
    }
    drop(release);
    for note in 0..100 {
        soon("answered", pool.ask(Note(note))).await.unwrap();
    }
    until("its queue is handled", || notes(&seen)[1] >= 5).await;
    assert_eq!(seen[1].count("probe started"), 2);
    for other in [0, 2, 3] {
        assert_eq!(seen[other].count("probe started"), 1);
    }
    let letter = soon("the poisoned message", dead.recv()).await.unwrap();
    assert_eq!(letter.reason, DeadLetterReason::Panicked("on purpose".into()));
    assert!(dead.try_recv().is_err(), "nothing else was lost");
    assert_eq!(notes(&seen).iter().sum::<usize>(), 105);
    stop(&[&system]).await;
}

#[tokio::test]
async fn one_that_has_ended_is_passed_over_until_none_is_left() {
    let system = builder(1).start().unwrap();
    for routing in [Routing::RoundRobin, Routing::LeastBusy] {
        let (pool, seen) = four(&system, routing);
        let recipient: Recipient<Note> = pool.recipient();
        for (number, worker) in pool.workers().iter().enumerate() {
            worker.stop();
            worker.closed().await;
            if number < 3 {
                pool.try_tell(Note(1)).unwrap();
                recipient.tell(Note(2)).await.unwrap();
                recipient.ask(Note(3)).await.unwrap();
                pool.ask(Note(4)).await.unwrap();
            }
        }
        assert_eq!(notes(&seen).iter().sum::<usize>(), 12);
        assert_eq!(notes(&seen)[0], 0);
        let refused = pool.try_tell(Note(5)).unwrap_err();
        assert_eq!((refused.message, refused.reason), (Note(5), SendFailure::Closed));
        assert_eq!(recipient.tell(Note(6)).await.unwrap_err().reason, SendFailure::Closed);
        let asked = pool.ask(Note(7)).await;
        assert!(matches!(asked, Err(AskError::NotSent { message: Note(7), reason: SendFailure::Closed })));
        soon("closed", pool.closed()).await;
    }
    stop(&[&system]).await;
}

#[tokio::test]
async fn senders_that_wait_for_a_worker_that_ends_are_served_by_another() {
    let system = builder(1).start().unwrap();
    let (pool, _) = four(&system, Routing::RoundRobin);
    let mut releases = Vec::new();
    for worker in pool.workers() {
        releases.push(hold(worker).await);
        for note in 0..Probe::MAILBOX as u64 {
            worker.tell(Note(note)).await.unwrap();
        }
    }
    let waiting: Vec<_> = (0..8).map(|note| tokio::spawn(pool.tell(Note(note)))).collect();
    let asking: Vec<_> = (0..8).map(|note| tokio::spawn(pool.ask(Note(note)).into_future())).collect();
    tokio::task::yield_now().await;
    for worker in &pool.workers()[..3] {
        worker.stop();
        worker.closed().await;
    }
    releases.clear();
    for tell in waiting {
        soon("told", tell).await.unwrap().unwrap();
    }
    for ask in asking {
        // One that a worker had taken before it ended is lost, and says so; none is left hanging.
        let answer = soon("answered", ask).await.unwrap();
        assert!(matches!(answer, Ok(_) | Err(AskError::Lost)), "{answer:?}");
    }
    stop(&[&system]).await;
}

#[tokio::test]
async fn workers_are_spread_over_arbiters_and_end_with_their_parent() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let arbiters = ["one", "two"].map(|name| system.arbiter(name).unwrap());
    let parent = probe(&system, &seen, Supervision::never());
    let (pool_tx, pool) = tokio::sync::oneshot::channel();
    let noted = seen.clone();
    let spawn = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        let pool =
            PoolBuilder::new(4).spread(arbiters).spawn_children(ctx, move |_| Probe::named("worker", &noted));
        let _ = pool_tx.send(pool);
    };
    parent.tell(Do::new(spawn)).await.unwrap();
    let pool = soon("a pool", pool).await.unwrap();
    for worker in pool.workers() {
        let look = |probe: &mut Probe, _: &mut Context<'_, Probe>| {
            probe.seen.push(std::thread::current().name().unwrap_or_default());
        };
        worker.tell(Do::new(look)).await.unwrap();
    }
    until("all have looked", || seen.count("one") + seen.count("two") == 4).await;
    assert_eq!((seen.count("one"), seen.count("two")), (2, 2));
    parent.stop();
    assert_eq!(soon("it ends", parent.closed()).await, ExitReason::Stopped);
    assert_eq!(seen.count("worker stopped"), 4);
    soon("all have ended", pool.closed()).await;

    // Nonsense is made sense of: there is at least one worker.
    let least = PoolBuilder::new(0).spawn(&system, move |_| Probe::new(&seen));
    assert_eq!(least.workers().len(), 1);
    least.ask(Note(1)).await.unwrap();
    least.stop();
    soon("it ends", least.closed()).await;
    stop(&[&system]).await;
}
