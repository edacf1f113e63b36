//! Existing actix actors behind a path: asked near and far, bounded, and their end is told.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as the tests do")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use dms_actors::bridge::{self, Bridge, IN_FLIGHT, actix};
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{Actor, ActorSystem, AskError, ExitReason, RegisterError, SendFailure};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// Adds to a sum; replies the sum.
#[derive(Debug, Serialize, Deserialize)]
struct Add(u64);
dms_actors::wire_message!(Add, "test.add", 1, reply = u64);
impl actix::Message for Add {
    type Result = u64;
}

/// Is answered when the test lets it; replies its number.
#[derive(Debug, Serialize, Deserialize)]
struct Slow(u64);
dms_actors::wire_message!(Slow, "test.slow", 1, reply = u64);
impl actix::Message for Slow {
    type Result = u64;
}

#[derive(Debug, Serialize, Deserialize)]
struct Explode;
dms_actors::wire_message!(Explode, "test.explode", 1);
impl actix::Message for Explode {
    type Result = ();
}

#[derive(Debug, Serialize, Deserialize)]
struct Halt;
dms_actors::wire_message!(Halt, "test.halt", 1);
impl actix::Message for Halt {
    type Result = ();
}

/// An actix actor that knows nothing of bridges.
struct Sum {
    sum: u64,
    order: Vec<u64>,
    started: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Sum {
    fn new() -> Self {
        Self { sum: 0, order: Vec::new(), started: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }
}

impl actix::Actor for Sum {
    type Context = actix::Context<Self>;
}

impl actix::Handler<Add> for Sum {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Self::Context) -> u64 {
        self.order.push(add.0);
        assert!(self.order.is_sorted(), "messages of one sender keep their order: {:?}", self.order);
        self.sum += add.0;
        self.sum
    }
}

impl actix::Handler<Slow> for Sum {
    type Result = actix::ResponseFuture<u64>;

    fn handle(&mut self, slow: Slow, _: &mut Self::Context) -> Self::Result {
        self.started.fetch_add(1, Ordering::SeqCst);
        let gate = self.gate.clone();
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            slow.0
        })
    }
}

impl actix::Handler<Explode> for Sum {
    type Result = ();

    fn handle(&mut self, _: Explode, _: &mut Self::Context) {
        panic!("on purpose");
    }
}

impl actix::Handler<Halt> for Sum {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        actix::ActorContext::stop(ctx);
    }
}

/// An actix actor on a thread of its own, as an application has them.
fn on_its_thread(sum: Sum) -> (actix::Addr<Sum>, actix::Arbiter) {
    let arbiter = actix::Arbiter::new();
    let actor = actix::Actor::start_in_arbiter(&arbiter.handle(), |_| sum);
    (actor, arbiter)
}

fn expose(system: &ActorSystem, actor: actix::Addr<Sum>) -> dms_actors::Registration<Bridge<Sum>> {
    bridge::expose(system, "/sum", actor)
        .unwrap()
        .accepts::<Add>()
        .accepts::<Slow>()
        .accepts::<Explode>()
        .accepts::<Halt>()
}

/// Runs a test inside of an actix system, where `Arbiter::new` works.
fn in_actix(test: impl Future<Output = ()>) {
    actix::System::new().block_on(test);
}

#[test]
fn an_actix_actor_of_this_thread_and_of_another_is_asked_near_and_far() {
    in_actix(async {
        let network = MemoryNetwork::default();
        for own_thread in [false, true] {
            let (a, b) = (member(&network, 1), member(&network, 2));
            let mut arbiter = None;
            let actor = if own_thread {
                let (actor, its) = on_its_thread(Sum::new());
                arbiter = Some(its);
                actor
            } else {
                actix::Actor::start(Sum::new())
            };
            let exposed = expose(&b, actor);
            let near = b.resolve::<Add>(&address(2, "/sum"));
            assert_eq!(near.ask(Add(1)).timeout(PATIENCE).await.unwrap(), 1);
            assert_eq!(exposed.actor().ask(Add(2)).timeout(PATIENCE).await.unwrap(), 3);
            let far = a.resolve::<Add>(&address(2, "/sum"));
            for n in 3..500 {
                far.tell(Add(n)).await.unwrap();
            }
            // Behind all of them, so the order and the sum are checked there.
            assert_eq!(far.ask(Add(500)).timeout(PATIENCE).await.unwrap(), (1..=500).sum::<u64>());
            stop(&[&a, &b]).await;
            if let Some(arbiter) = arbiter {
                arbiter.stop();
                arbiter.join().unwrap();
            }
        }
    });
}

#[test]
fn a_slow_actix_actor_stops_its_senders_and_loses_nothing() {
    in_actix(async {
        let sum = Sum::new();
        let (started, gate) = (sum.started.clone(), sum.gate.clone());
        let (actor, arbiter) = on_its_thread(sum);
        let system = builder(1).start().unwrap();
        let bridge = expose(&system, actor).actor().clone();
        let bound = (Bridge::<Sum>::MAILBOX + IN_FLIGHT) as u64;
        let mut taken = 0;
        until("everything is full", || {
            while bridge.try_tell(Slow(taken)).is_ok() {
                taken += 1;
                assert!(taken <= bound, "{taken} of {bound}");
            }
            taken == bound
        })
        .await;
        until("the actor has all it may have", || started.load(Ordering::SeqCst) == IN_FLIGHT).await;
        assert_eq!(bridge.depth(), Bridge::<Sum>::MAILBOX);
        let waiting = tokio::spawn(bridge.ask(Slow(taken)).timeout(PATIENCE));
        assert_eq!(started.load(Ordering::SeqCst), IN_FLIGHT);
        gate.add_permits(taken as usize + 1);
        assert_eq!(soon("the last one", waiting).await.unwrap().unwrap(), taken);
        assert_eq!(started.load(Ordering::SeqCst) as u64, taken + 1);
        assert_eq!(system.counters().dead_letters, 0);
        stop(&[&system]).await;
        arbiter.stop();
        arbiter.join().unwrap();
    });
}

#[test]
fn the_end_of_an_actix_actor_ends_its_bridge_and_is_told() {
    in_actix(async {
        let network = MemoryNetwork::default();
        let (a, b) = (member(&network, 1), member(&network, 2));
        for panics in [false, true] {
            let (actor, arbiter) = on_its_thread(Sum::new());
            let exposed = expose(&b, actor);
            let waiting = tokio::spawn(a.resolve::<Slow>(&address(2, "/sum")).ask(Slow(1)).timeout(PATIENCE));
            assert_eq!(a.resolve::<Add>(&address(2, "/sum")).ask(Add(1)).timeout(PATIENCE).await.unwrap(), 1);
            if panics {
                let outcome = a.resolve::<Explode>(&address(2, "/sum")).ask(Explode).timeout(PATIENCE).await;
                assert!(matches!(outcome, Err(AskError::Lost)), "{outcome:?}");
            } else {
                a.resolve::<Halt>(&address(2, "/sum")).ask(Halt).timeout(PATIENCE).await.unwrap();
            }
            let outcome = soon("an outcome", waiting).await.unwrap();
            assert!(matches!(outcome, Err(AskError::Lost)), "{outcome:?}");
            let reason = soon("the end of the bridge", exposed.actor().closed()).await;
            assert_eq!(reason, ExitReason::Failed("the actix actor has ended".into()));
            let outcome = exposed.actor().ask(Add(1)).timeout(PATIENCE).await;
            assert!(matches!(outcome, Err(AskError::NotSent { reason: SendFailure::Closed, .. })));
            assert!(b.list().is_empty(), "its path is free");
            arbiter.stop();
            // The arbiter's thread survives a panic of one of its actors.
            arbiter.join().unwrap();
        }
        stop(&[&a, &b]).await;
    });
}

#[test]
fn an_actix_actor_that_ends_while_nobody_speaks_is_noticed() {
    in_actix(async {
        let system = builder(1).start().unwrap();
        let (actor, arbiter) = on_its_thread(Sum::new());
        let exposed = expose(&system, actor.clone());
        actor.send(Halt).await.unwrap();
        let reason = soon("the end of the bridge", exposed.actor().closed()).await;
        assert!(matches!(reason, ExitReason::Failed(_)), "{reason}");
        stop(&[&system]).await;
        arbiter.stop();
        arbiter.join().unwrap();
    });
}

#[test]
fn stopping_the_bridge_leaves_the_actix_actor_alone() {
    in_actix(async {
        let system = builder(1).start().unwrap();
        let (actor, arbiter) = on_its_thread(Sum::new());
        let exposed = expose(&system, actor.clone());
        exposed.actor().stop();
        soon("the bridge to end", exposed.actor().closed()).await;
        assert_eq!(actor.send(Add(2)).await.unwrap(), 2);
        assert!(matches!(bridge::expose(&system, "no path", actor), Err(RegisterError::Path(_))));
        until("no bridge is left", || system.list().is_empty()).await;
        stop(&[&system]).await;
        arbiter.stop();
        arbiter.join().unwrap();
    });
}
