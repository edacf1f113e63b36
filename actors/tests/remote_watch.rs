//! How an actor of another system ended, told by its owner and by nobody else.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::wire::*;
use common::*;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{
    ActorPath, ActorSystem, DeadLetterReason, Did, ExitReason, Kind, Policy, Refusal, RefusalCode,
    Supervision,
};
use tokio::io::AsyncWriteExt;

fn at(system: &ActorSystem, path: &str, supervision: Supervision) -> dms_actors::ActorRef<Probe> {
    let actor = probe(system, &Seen::default(), supervision);
    let _ = system.register(path, &actor).unwrap().accepts::<Panic>();
    actor
}

#[tokio::test]
async fn every_end_is_told_near_and_far_as_it_was() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    for system in [&a, &b] {
        let stopped = at(&b, "/w/stopped", Supervision::never());
        let failed = at(&b, "/w/failed", Supervision::never());
        let panicked = at(&b, "/w/panicked", Supervision::never());
        let exhausted = at(&b, "/w/exhausted", Supervision { max_restarts: 0, ..Supervision::transient() });
        let watch = |path: &str| tokio::spawn(system.watch(&address(2, path)));
        let watches = [watch("/w/stopped"), watch("/w/failed"), watch("/w/panicked"), watch("/w/exhausted")];
        // Behind the watches on the same link: when it is found, they are in place.
        system.lookup::<Panic>(&address(2, "/w/stopped")).await.unwrap();
        tokio::task::yield_now().await;
        until("all are watched", || watches.iter().all(|watch| !watch.is_finished())).await;
        system.lookup::<Panic>(&address(2, "/w/stopped")).await.unwrap();
        stopped.stop();
        failed.tell(Do::new(|_, ctx| ctx.fail("no more"))).await.unwrap();
        panicked.tell(Panic).await.unwrap();
        exhausted.tell(Panic).await.unwrap();
        let expected = [
            ExitReason::Stopped,
            ExitReason::Failed("no more".into()),
            ExitReason::Panicked("on purpose".into()),
            ExitReason::RestartsExhausted { restarts: 0, last: "panicked: on purpose".into() },
        ];
        for (watch, expected) in watches.into_iter().zip(expected) {
            assert_eq!(soon("ended", watch).await.unwrap(), expected);
        }
        assert_eq!(soon("gone", system.watch(&address(2, "/w/stopped"))).await, ExitReason::NobodyThere);
    }
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn an_actor_watches_an_address() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let (seen, target) = (Seen::default(), at(&b, "/w", Supervision::never()));
    let watcher = probe(&a, &seen, Supervision::never());
    let watch = Do::new(|_: &mut Probe, ctx| {
        ctx.watch_address(&address(2, "/w"), |probe, reason, _| probe.seen.push(format!("ended: {reason}")));
    });
    watcher.tell(watch).await.unwrap();
    // A restart is no end.
    a.lookup::<Panic>(&address(2, "/w")).await.unwrap();
    target.stop();
    // Stopped if it was watched before, nobody there if it was gone before.
    until("it is told", || seen.all().iter().any(|text| text.starts_with("ended: "))).await;
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn a_lost_peer_ends_every_watch_of_it() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    at(&b, "/w", Supervision::never());
    at(&b, "/v", Supervision::never());
    let watches = ["/w", "/v"].map(|path| tokio::spawn(a.watch(&address(2, path))));
    a.lookup::<Panic>(&address(2, "/w")).await.unwrap();
    network.kill(did(2));
    for watch in watches {
        assert_eq!(soon("lost", watch).await.unwrap(), ExitReason::PeerLost);
    }
    assert_eq!(soon("no route", a.watch(&address(2, "/w"))).await, ExitReason::PeerLost);
    let alone = builder(3).start().unwrap();
    assert_eq!(soon("no network", alone.watch(&address(2, "/w"))).await, ExitReason::PeerLost);
    stop(&[&a, &b, &alone]).await;
}

#[tokio::test]
async fn nobody_but_the_owner_reports_an_end() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let victim = at(&b, "/w", Supervision::never());
    let mut evil = Evil::join(&network);
    // The first watch of each link has the same number.
    let watch = tokio::spawn(a.watch(&address(2, "/w")));
    let own = tokio::spawn(a.watch(&address(66, "/w")));
    let mut accepted = evil.accepted().await;
    assert_eq!(next(&mut accepted, WATCH).await.text(1), "/w");
    for request in [2, 3, 1, 1] {
        accepted.write_all(&frame(&(ENDED, request, 0, "", 0), b"")).await.unwrap();
    }
    assert_eq!(soon("its own", own).await.unwrap(), ExitReason::Stopped);
    // Over the link that it opened it may not say so at all.
    let mut opened = evil.link().await;
    opened.write_all(&frame(&(ENDED, 1, 0, "", 0), b"")).await.unwrap();
    closed(&mut opened).await;
    assert_eq!(a.counters().malformed_frames, 1);
    a.lookup::<Panic>(&address(2, "/w")).await.unwrap();
    assert!(!watch.is_finished() && victim.is_alive());
    victim.tell(Panic).await.unwrap();
    assert_eq!(soon("ended", watch).await.unwrap(), ExitReason::Panicked("on purpose".into()));
    stop(&[&a, &b]).await;
}

/// Lets nobody watch.
struct Private;
impl Policy for Private {
    fn admit(&self, _: Did, path: &ActorPath, kind: &Kind) -> Result<(), Refusal> {
        assert_eq!((path.as_str(), kind.to_string().as_str()), ("/w", "actor.watch/1"));
        Err(Refusal::new(RefusalCode::NotTrusted, "a stranger"))
    }
}

#[tokio::test]
async fn the_policy_may_refuse_a_watch() {
    let network = MemoryNetwork::default();
    let a = member(&network, 1);
    let b = builder(2).transport(network.transport(did(2))).policy(Arc::new(Private)).start().unwrap();
    at(&b, "/w", Supervision::never());
    let refused = soon("refused", a.watch(&address(2, "/w"))).await;
    assert!(matches!(refused, ExitReason::WatchRefused(refusal) if refusal.code == RefusalCode::NotTrusted));
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn watches_are_bounded_on_both_sides_and_a_dropped_one_is_taken_back() {
    let network = MemoryNetwork::default();
    let b = member(&network, 1);
    let actor = at(&b, "/w", Supervision::never());
    let evil = Evil::join(&network);
    let mut pipe = evil.link().await;
    for request in 1..=1025_u64 {
        pipe.write_all(&frame(&(WATCH, request, "/w"), b"")).await.unwrap();
    }
    let denied = next(&mut pipe, DENIED).await;
    assert_eq!((denied.number(0), denied.text(1)), (1025, "busy"));
    pipe.write_all(&frame(&(UNWATCH, 7), b"")).await.unwrap();
    pipe.write_all(&frame(&(UNWATCH, 7_777), b"")).await.unwrap();
    pipe.write_all(&frame(&(WATCH, 1026, "/w"), b"")).await.unwrap();
    pipe.write_all(&frame(&(PING,), b"")).await.unwrap();
    assert_eq!(soon("pong", read(&mut pipe)).await.unwrap().number, PONG);
    actor.stop();
    let mut ended: Vec<u64> = Vec::new();
    for _ in 0..1024 {
        ended.push(next(&mut pipe, ENDED).await.number(0));
    }
    ended.sort_unstable();
    let expected: Vec<u64> = (1..=1026).filter(|request| ![7, 1025].contains(request)).collect();
    assert_eq!(ended, expected);
    drop(pipe);
    stop(&[&b]).await;

    let a = member(&network, 1);
    let mut evil = Evil::join(&network);
    let first = tokio::spawn(a.watch(&address(66, "/w")));
    let mut pipe = evil.accepted().await;
    next(&mut pipe, WATCH).await;
    let others: Vec<_> = (0..1023).map(|_| tokio::spawn(a.watch(&address(66, "/w")))).collect();
    for _ in 0..1023 {
        next(&mut pipe, WATCH).await;
    }
    let refused = soon("refused", a.watch(&address(66, "/w"))).await;
    assert!(matches!(refused, ExitReason::WatchRefused(refusal) if refusal.code == RefusalCode::Busy));
    first.abort();
    assert_eq!(next(&mut pipe, UNWATCH).await.number(0), 1);
    drop(pipe);
    for other in others {
        assert_eq!(soon("lost", other).await.unwrap(), ExitReason::PeerLost);
    }
    stop(&[&a]).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_lost_and_one_that_answers_pings_is_not() {
    let network = MemoryNetwork::default();
    let a = member(&network, 1);
    let mut evil = Evil::join(&network);
    let watch = tokio::spawn(a.watch(&address(66, "/w")));
    let mut pipe = evil.accepted().await;
    next(&mut pipe, WATCH).await;
    let start = tokio::time::Instant::now();
    for beat in 1..=10 {
        assert_eq!(next(&mut pipe, PING).await.fields.len(), 0);
        assert_eq!(start.elapsed().as_secs(), 5 * beat);
        pipe.write_all(&frame(&(PONG,), b"")).await.unwrap();
    }
    assert!(!watch.is_finished());
    // Now it says nothing more, though its stream stays open.
    let lost = tokio::time::timeout(Duration::from_secs(60), watch).await.unwrap();
    assert_eq!(lost.unwrap(), ExitReason::PeerLost);
    assert_eq!(start.elapsed().as_secs(), 65);
    assert_eq!(a.counters().silent_links, 1);
    tokio::time::resume();
    stop(&[&a]).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_is_left_in_peace() {
    let network = MemoryNetwork::default();
    let a = member(&network, 1);
    let mut evil = Evil::join(&network);
    let told = tokio::spawn(a.resolve::<Note>(&address(66, "/w")).tell(Note(1)));
    let mut pipe = evil.accepted().await;
    next(&mut pipe, WORD).await;
    told.await.unwrap().unwrap();
    pipe.write_all(&frame(&(TAKEN, "/w", 1), b"")).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_secs(3600), read(&mut pipe)).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!(a.counters().silent_links, 0);
    tokio::time::resume();
    stop(&[&a]).await;
}

#[tokio::test(start_paused = true)]
async fn a_word_that_a_silent_peer_never_takes_is_reported() {
    let network = MemoryNetwork::default();
    let a = member(&network, 1);
    let mut dead = a.dead_letters();
    let mut evil = Evil::join(&network);
    let told = tokio::spawn(a.resolve::<Note>(&address(66, "/w")).tell(Note(1)));
    let mut pipe = evil.accepted().await;
    next(&mut pipe, WORD).await;
    told.await.unwrap().unwrap();
    // Its stream stays open, and it says nothing.
    let letter = tokio::time::timeout(Duration::from_secs(60), dead.recv()).await.unwrap().unwrap();
    assert_eq!(letter.reason, DeadLetterReason::LinkLost);
    assert_eq!(a.counters().silent_links, 1);
    tokio::time::resume();
    stop(&[&a]).await;
}
