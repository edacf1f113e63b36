//! Answers that are work: begun by the actor, brought to their end by whoever asked.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::time::Duration;

use common::*;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{
    Actor, ActorRef, ActorSystem, Answer, AskError, Context, ExitReason, Handler, Message, Recipient,
    Supervision,
};
use serde::{Deserialize, Serialize};

/// Passes questions on.
struct Front {
    probe: Recipient<Await>,
    seen: Seen,
}

impl Actor for Front {}

/// Is answered with what the probe answers, and one more.
#[derive(Debug, Serialize, Deserialize)]
struct PassOn;
dms_actors::wire_message!(PassOn, "test.pass-on", 1, reply = u64);

/// Says when it is dropped.
struct Dropped(Seen);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.push("the work is dropped");
    }
}

impl Handler<PassOn> for Front {
    fn handle(&mut self, _: PassOn, _: &mut Context<'_, Self>) -> Answer<u64> {
        let asked = self.probe.ask(Await).timeout(PATIENCE);
        let guard = Dropped(self.seen.clone());
        self.seen.push("passed on");
        Answer::begun(async move {
            let _guard = guard;
            asked.await.map_or(0, |number| number + 1)
        })
    }
}

/// Is answered with work that is over when it begins, or panics: at its beginning, or later.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Work {
    Over,
    PanicsAtOnce,
    PanicsLater,
}
dms_actors::wire_message!(Work, "test.work", 1, reply = u64);

impl Handler<Work> for Front {
    fn handle(&mut self, work: Work, _: &mut Context<'_, Self>) -> Answer<u64> {
        Answer::begun(async move {
            if work == Work::PanicsLater {
                tokio::task::yield_now().await;
            }
            assert_eq!(work, Work::Over, "on purpose");
            7
        })
    }
}

/// A front that asks the probe of system 2, in `system`.
fn front(system: &ActorSystem, seen: &Seen) -> ActorRef<Front> {
    let probe = system.resolve::<Await>(&address(2, "/probe"));
    let seen = seen.clone();
    let make = move || Front { probe: probe.clone(), seen: seen.clone() };
    let front = system.spawn(make, Supervision::never());
    let _ = system.register("/front", &front).unwrap().accepts::<PassOn>().accepts::<Work>();
    front
}

/// Systems 1 (which asks), 2 (with a probe) and 3 (with a front).
struct Three {
    systems: [ActorSystem; 3],
    probe: ActorRef<Probe>,
    front: ActorRef<Front>,
    seen: Seen,
}

impl Three {
    fn start() -> Self {
        let network = MemoryNetwork::default();
        let systems = [1, 2, 3].map(|n| member(&network, n));
        let seen = Seen::default();
        let (probe, front) = (registered_probe(&systems[1], &seen), front(&systems[2], &seen));
        Self { systems, probe, front, seen }
    }

    /// The front as its own system has it, and as another one does.
    fn ways<M>(&self) -> [Recipient<M>; 2]
    where
        M: Message<Reply = u64> + dms_actors::WireMessage,
        Front: Handler<M>,
    {
        [self.front.recipient(), self.systems[0].resolve(&address(3, "/front"))]
    }

    async fn stop(self) {
        stop(&self.systems.each_ref()).await;
    }
}

#[tokio::test]
async fn what_another_answers_reaches_the_asker_even_when_the_actor_has_ended() {
    let three = Three::start();
    for (number, way) in (1..).zip(three.ways::<PassOn>()) {
        let asked = tokio::spawn(way.ask(PassOn).timeout(PATIENCE));
        until("the probe is asked", || three.seen.count("awaiting 1") == number).await;
        if number == 2 {
            three.front.stop();
            assert_eq!(three.front.closed().await, ExitReason::Stopped);
        }
        three.probe.tell(Note(41)).await.unwrap();
        assert!(matches!(asked.await.unwrap(), Ok(42)), "way {number}");
        until("its work is over", || three.seen.count("the work is dropped") == number).await;
    }
    three.stop().await;
}

#[tokio::test]
async fn work_that_nobody_waits_for_is_dropped() {
    let three = Three::start();
    let mut dropped = 0;
    for way in three.ways::<PassOn>() {
        way.tell(PassOn).await.unwrap();
        dropped += 1;
        until("the work of a told message", || three.seen.count("the work is dropped") == dropped).await;
    }
    // Asked, and given up: near, the work goes with the ask.
    let [near, far] = three.ways::<PassOn>();
    let late = near.ask(PassOn).timeout(Duration::from_millis(30)).await;
    assert!(matches!(late, Err(AskError::TimedOut)), "{late:?}");
    dropped += 1;
    until("the work of a late answer", || three.seen.count("the work is dropped") == dropped).await;
    // Far, with the link.
    let asked = tokio::spawn(far.ask(PassOn).timeout(PATIENCE));
    until("it is passed on", || three.seen.count("passed on") == 4).await;
    stop(&[&three.systems[0]]).await;
    assert!(matches!(asked.await.unwrap(), Err(AskError::Lost)));
    dropped += 1;
    until("the work of a lost link", || three.seen.count("the work is dropped") == dropped).await;
    stop(&[&three.systems[1], &three.systems[2]]).await;
}

#[tokio::test]
async fn work_that_panics_is_a_lost_answer_and_harms_neither_actor_nor_link() {
    let three = Three::start();
    for way in three.ways::<Work>() {
        for work in [Work::PanicsAtOnce, Work::PanicsLater] {
            let asked = way.ask(work).timeout(PATIENCE).await;
            assert!(matches!(asked, Err(AskError::Lost)), "{work:?}: {asked:?}");
        }
        assert!(matches!(way.ask(Work::Over).timeout(PATIENCE).await, Ok(7)));
    }
    assert!(three.front.is_alive(), "it was never restarted either");
    three.stop().await;
}
