//! What other crates get wrong between machines, and what is promised here instead: order, loss,
//! identity, one outcome for each ask whenever the peer dies.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::wire::*;
use common::*;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{Actor, Answer, AskError, Context, DeadLetterReason, Handler, SendFailure, Supervision};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

/// Counts what comes in the order in which it must come.
struct Counter {
    next: u64,
    out_of_order: u64,
}

impl Actor for Counter {}

impl Handler<Note> for Counter {
    fn handle(&mut self, note: Note, _: &mut Context<'_, Self>) -> Answer<u64> {
        if note.0 != self.next {
            self.out_of_order += 1;
        }
        self.next = note.0 + 1;
        self.out_of_order.into()
    }
}

/// kameo: 57 % of 20,000 tells in a burst were lost, and most came out of order, with `Ok` for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_twenty_thousand_tells_arrives_whole_and_in_order() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let counter = b.spawn(|| Counter { next: 0, out_of_order: 0 }, Supervision::never());
    let _ = b.register("/counter", &counter).unwrap().accepts::<Note>();
    let far = a.resolve::<Note>(&address(2, "/counter"));
    for n in 0..20_000 {
        far.tell(Note(n)).await.unwrap();
    }
    // Behind all of them on the same way: it says how many were out of order.
    assert_eq!(ask_far(&far, Note(20_000)).await.unwrap(), 0);
    assert_eq!(counter.depth(), 0);
    let counters = (a.counters(), b.counters());
    assert_eq!((counters.0.dead_letters, counters.1.dead_letters, counters.1.refused_words), (0, 0, 0));
    stop(&[&a, &b]).await;
}

/// kameo: half of the asks failed at 256 in flight with default settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_asks_at_once_are_all_answered() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    registered_probe(&b, &Seen::default());
    let far = a.resolve::<Note>(&address(2, "/probe"));
    let mut askers = JoinSet::new();
    // More than the mailbox, the credit, and the places for open asks.
    for _ in 0..2_000 {
        let far = far.clone();
        askers.spawn(async move {
            for _ in 0..4 {
                ask_far(&far, Note(1)).await.unwrap();
            }
        });
    }
    while let Some(done) = soon("answered", askers.join_next()).await {
        done.unwrap();
    }
    let counters = b.counters();
    assert_eq!((counters.refused_words, counters.credit_overruns), (0, 0));
    assert_eq!(ask_far(&far, Note(1)).await.unwrap(), 8_000);
    stop(&[&a, &b]).await;
}

/// The sender's queue is bounded: who would go beyond it waits.
#[tokio::test]
async fn a_sender_is_held_back_rather_than_buffered() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let mut evil = Evil::join(&network);
    let sent = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    for n in 0..64 {
        let (far, sent) = (system.resolve::<Bulk>(&address(66, &format!("/a/{n}"))), sent.clone());
        senders.spawn(async move {
            for _ in 0..10 {
                far.tell(Bulk(vec![0; 100_000])).await.unwrap();
                sent.fetch_add(100_000, Ordering::SeqCst);
            }
        });
    }
    let mut pipe = evil.accepted().await;
    // 64 MB are offered and not read: all senders stand still at about 4 MiB (and what the pipe holds).
    until("the queue is full", || sent.load(Ordering::SeqCst) > 3_900_000).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(sent.load(Ordering::SeqCst) < 4_500_000, "{sent:?}");
    // They go on as soon as the peer reads.
    for _ in 0..640 {
        let word = next(&mut pipe, WORD).await;
        pipe.write_all(&frame(&(TAKEN, word.text(0), word.number(2)), b"")).await.unwrap();
    }
    while let Some(done) = soon("sent", senders.join_next()).await {
        done.unwrap();
    }
    assert!(system.flush(PATIENCE).await);
    assert_eq!(system.counters().dead_letters, 0);
    stop(&[&system]).await;
}

/// kameo, ractor: an ask whose peer dies waits for its timeout, or for ever.
#[tokio::test]
async fn an_ask_has_one_outcome_at_whatever_point_its_peer_dies() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let mut evil = Evil::join(&network);
    let mut dead = system.dead_letters();
    let far = system.resolve::<Note>(&address(66, "/probe"));
    let start = || {
        let (far, asking) = (far.clone(), far.clone());
        (
            tokio::spawn(async move { ask_far(&asking, Note(1)).await }),
            tokio::spawn(async move { far.tell(Note(2)).await }),
        )
    };

    // Before the greeting, and in the middle of it: nothing was sent, and the message comes back.
    for greeting in [vec![], frame(&(WELCOME, VERSION, "test", did(66)), b"")[..20].to_vec()] {
        let (asked, told) = start();
        let mut pipe = evil.opened().await;
        pipe.write_all(&greeting).await.unwrap();
        drop(pipe);
        let asked = soon("asked", asked).await.unwrap();
        assert!(matches!(
            asked,
            Err(AskError::NotSent { message: Note(1), reason: SendFailure::Unreachable(_) })
        ));
        let told = soon("told", told).await.unwrap().unwrap_err();
        assert!(matches!(told.reason, SendFailure::Unreachable(_)));
        assert!(dead.try_recv().is_err());
    }

    // After the greeting; within the answer's frame; after the words were taken and before the answer.
    let half = frame(&(REPLY, 1), b"\x07")[..9].to_vec();
    let taken = frame(&(TAKEN, "/probe", 2), b"");
    for (answer, is_taken) in [(vec![], false), (half, false), (taken, true)] {
        let (asked, told) = start();
        let mut pipe = evil.accepted().await;
        next(&mut pipe, WORD).await;
        next(&mut pipe, WORD).await;
        assert!(soon("told", told).await.unwrap().is_ok());
        pipe.write_all(&answer).await.unwrap();
        drop(pipe);
        assert!(matches!(soon("asked", asked).await.unwrap(), Err(AskError::Lost)));
        if !is_taken {
            let letter = soon("the told word is reported", dead.recv()).await.unwrap();
            assert_eq!(letter.reason, DeadLetterReason::LinkLost);
        }
        // Once, and never for the ask, whose asker knows.
        assert!(dead.try_recv().is_err());
        assert!(system.flush(PATIENCE).await);
    }

    // With the answer already there, the end of the link changes nothing.
    let asked = tokio::spawn({
        let far = far.clone();
        async move { ask_far(&far, Note(1)).await }
    });
    let mut pipe = evil.accepted().await;
    let word = next(&mut pipe, WORD).await;
    pipe.write_all(&frame(&(REPLY, word.number(2)), b"\x07")).await.unwrap();
    pipe.write_all(&frame(&(LOST, word.number(2)), b"")).await.unwrap();
    drop(pipe);
    assert_eq!(soon("asked", asked).await.unwrap().unwrap(), 7);
    stop(&[&system]).await;
}

/// A peer that is gone without a word (its machine lost power): found out by silence.
#[tokio::test(start_paused = true)]
async fn an_ask_of_a_peer_that_falls_silent_is_lost_long_before_its_time_is_over() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let mut evil = Evil::join(&network);
    let far = system.resolve::<Note>(&address(66, "/probe"));
    let asked = tokio::spawn(async move { far.ask(Note(1)).timeout(Duration::from_secs(600)).await });
    let mut pipe = evil.accepted().await;
    next(&mut pipe, WORD).await;
    let start = tokio::time::Instant::now();
    let asked = asked.await.unwrap();
    assert!(matches!(asked, Err(AskError::Lost)));
    assert_eq!(start.elapsed().as_secs(), 15);
    assert_eq!(system.counters().silent_links, 1);
    drop(pipe);
    tokio::time::resume();
    stop(&[&system]).await;
}

/// The receiver loses the link while the actor works: its answer goes nowhere, and nothing waits for it.
#[tokio::test]
async fn an_answer_whose_asker_has_gone_is_dropped() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let seen = Seen::default();
    let probe = registered_probe(&system, &seen);
    let evil = Evil::join(&network);
    let mut pipe = evil.link().await;
    pipe.write_all(&ask(1, "test.await/1", &Await)).await.unwrap();
    seen.wait("awaiting 1").await;
    drop(pipe);
    let mut pipe = evil.link().await;
    probe.tell(Note(5)).await.unwrap();
    // The new link has its own numbers, and hears only its own answers.
    pipe.write_all(&ask(1, "test.note/1", &Note(6))).await.unwrap();
    let reply = next(&mut pipe, REPLY).await;
    assert_eq!((reply.number(0), reply.body.as_slice()), (1, &b"\x01"[..]));
    still_works(&network, &system).await;
}

/// The sender is who the link's key says, whatever the frame claims.
#[tokio::test]
async fn a_sender_is_its_link_and_a_path_is_only_a_claim() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let seen = Seen::default();
    registered_probe(&system, &seen);
    let evil = Evil::join(&network);
    let mut pipe = evil.link().await;
    let note = dms_actors::cbor::to_canonical(&Note(5)).unwrap();
    let claims = |id: u64, from: &str| {
        let options = std::collections::BTreeMap::from([(2, from.to_owned())]);
        frame(&(WORD, "/probe", "test.note/1", id, true, options), &note)
    };
    pipe.write_all(&claims(1, "/node")).await.unwrap();
    assert_eq!(next(&mut pipe, REPLY).await.number(0), 1);
    assert_eq!(seen.count(&format!("note 5 from {}", did(66).short())), 1);
    // An address with another system's name is no path.
    pipe.write_all(&claims(2, &format!("{}/node", did(2)))).await.unwrap();
    assert_eq!(next(&mut pipe, REFUSED).await.text(1), "malformed");
    assert_eq!(seen.count(&format!("note 5 from {}", did(66).short())), 1);
    still_works(&network, &system).await;
}
