//! Blocking work: at most so much at a time, the rest in a bounded row, nothing lost without a word.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use common::*;
use dms_actors::{ActorRef, BlockingError, BlockingPool, Context, Supervision};

/// A gate that blocking work waits at; it knows how many wait and have ever waited at a time.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>, Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Gate {
    fn pass(&self) {
        let inside = self.1.fetch_add(1, Ordering::SeqCst) + 1;
        self.2.fetch_max(inside, Ordering::SeqCst);
        let mut is_open = self.0.0.lock().unwrap();
        while !*is_open {
            is_open = self.0.1.wait(is_open).unwrap();
        }
        self.1.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn inside(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }

    fn most(&self) -> usize {
        self.2.load(Ordering::SeqCst)
    }
}

/// Opens the gate also when the test fails, so that no thread is left behind it.
struct Opened(Gate);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[tokio::test]
async fn never_more_at_a_time_than_threads_nor_more_waiting_than_the_bound() {
    let pool = BlockingPool::new(3);
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let admitted: Vec<_> = (0..3 + 3 * 256)
        .map(|number| {
            let gate = gate.clone();
            tokio::spawn(pool.run(move || {
                gate.pass();
                number
            }))
        })
        .collect();
    // A place is taken when the work is handed over, not when somebody looks.
    assert_eq!(pool.depth(), 3 + 3 * 256);
    until("the threads are busy", || gate.inside() == 3).await;
    assert_eq!(pool.run(|| ()).await, Err(BlockingError::Full));
    assert_eq!(pool.clone().run(|| ()).await, Err(BlockingError::Full));
    gate.open();
    for (number, work) in admitted.into_iter().enumerate() {
        assert_eq!(soon("done", work).await.unwrap(), Ok(number));
    }
    assert_eq!(gate.most(), 3);
    until("all places are free", || pool.depth() == 0).await;
    assert_eq!(pool.run(|| 7).await, Ok(7));
}

#[tokio::test]
async fn a_panic_is_told_and_frees_its_thread() {
    let pool = BlockingPool::new(1);
    for _ in 0..3 {
        let panicked = soon("told", pool.run(|| -> u8 { panic!("in the work") })).await;
        assert_eq!(panicked, Err(BlockingError::Panicked("in the work".into())));
    }
    assert_eq!(soon("it works on", pool.run(|| 1)).await, Ok(1));
}

#[tokio::test]
async fn work_that_nobody_waits_for_any_more_is_not_begun() {
    let pool = BlockingPool::new(1);
    let gate = Gate::default();
    let _opened = Opened(gate.clone());
    let first = gate.clone();
    let running = tokio::spawn(pool.run(move || first.pass()));
    until("it runs", || gate.inside() == 1).await;
    let begun = Arc::new(AtomicUsize::new(0));
    let count = begun.clone();
    let waiting = tokio::spawn(pool.run(move || count.fetch_add(1, Ordering::SeqCst)));
    tokio::task::yield_now().await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    // One that has begun keeps its thread until it is done, though nobody waits.
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert_eq!(pool.depth(), 1);
    gate.open();
    assert_eq!(soon("the thread is free", pool.run(|| 2)).await, Ok(2));
    assert_eq!(begun.load(Ordering::SeqCst), 0);
}

/// Lets the probe start work on the pool that passes the gate; it sees the outcome.
async fn work(actor: &ActorRef<Probe>, pool: &BlockingPool, gate: &Gate) {
    let (pool, gate) = (pool.clone(), gate.clone());
    let start = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        let work = move || {
            gate.pass();
            7
        };
        ctx.blocking(&pool, work, |probe: &mut Probe, outcome, _| {
            probe.seen.push(format!("outcome {outcome:?}"));
        });
    };
    actor.ask(Do::new(start)).timeout(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn an_actor_goes_on_meanwhile_and_an_outcome_after_its_end_is_dropped() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let (pool, gate) = (BlockingPool::new(1), Gate::default());
    let _opened = Opened(gate.clone());
    let actor = probe(&system, &seen, Supervision::permanent());
    let other = probe(&system, &seen, Supervision::permanent());
    work(&actor, &pool, &gate).await;
    until("it runs", || gate.inside() == 1).await;
    work(&other, &pool, &gate).await;
    for actor in [&actor, &other] {
        actor.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    }
    assert_eq!(pool.depth(), 2);
    actor.stop();
    soon("it ends, whatever blocks", actor.closed()).await;
    assert_eq!(pool.depth(), 2, "its thread is still at work");
    gate.open();
    seen.wait("outcome Ok(7)").await;
    until("all is done", || pool.depth() == 0).await;
    other.ask(Note(2)).timeout(PATIENCE).await.unwrap();
    assert_eq!(seen.count("outcome Ok(7)"), 1, "only the living one hears");
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_full_pool_and_a_panic_are_told_to_the_actor() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let (pool, gate) = (BlockingPool::new(1), Gate::default());
    let _opened = Opened(gate.clone());
    let actor = probe(&system, &seen, Supervision::never());
    for _ in 0..258 {
        work(&actor, &pool, &gate).await;
    }
    seen.wait("outcome Err(Full)").await;
    assert_eq!(seen.count("outcome Err(Full)"), 1);
    gate.open();
    until("the others are done", || seen.count("outcome Ok(7)") == 257).await;
    let panics = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        ctx.blocking(
            &pool,
            || -> u8 { panic!("in the work") },
            |probe: &mut Probe, outcome, _| {
                probe.seen.push(format!("outcome {outcome:?}"));
            },
        );
    };
    actor.tell(Do::new(panics)).await.unwrap();
    seen.wait(r#"outcome Err(Panicked("in the work"))"#).await;
    assert!(actor.is_alive());
    stop(&[&system]).await;
}
