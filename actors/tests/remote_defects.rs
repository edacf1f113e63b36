//! What other crates get wrong between machines, and what is promised here instead: order, loss,
//! identity, one outcome for each ask whenever the peer dies.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::wire::*;
use common::*;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::transport::{OpenError, Pipe, Transport, TransportEvent};
use dms_actors::{
    Actor, Answer, AskError, CREDIT, Context, DeadLetterReason, Did, Handler, PeerEvent, SendFailure,
    Supervision,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
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

/// A transport whose events come from elsewhere.
struct Relayed {
    inner: Arc<dyn Transport>,
    events: Mutex<Option<mpsc::Receiver<TransportEvent>>>,
}

impl Transport for Relayed {
    fn open(
        &self,
        peer: Did,
        protocol: &'static str,
    ) -> futures::future::BoxFuture<'static, Result<Pipe, OpenError>> {
        self.inner.open(peer, protocol)
    }
    fn add_addresses(&self, peer: Did, addresses: Vec<String>) {
        self.inner.add_addresses(peer, addresses);
    }
    fn listen_addresses(&self) -> Vec<String> {
        self.inner.listen_addresses()
    }
    fn connected_peers(&self) -> Vec<Did> {
        self.inner.connected_peers()
    }
    fn take_events(&self) -> Option<mpsc::Receiver<TransportEvent>> {
        self.events.lock().unwrap().take()
    }
}

/// A transport that ends says nothing more of anybody: what went over it is lost, and its peers are down.
#[tokio::test]
async fn the_end_of_the_transport_is_the_end_of_every_link_over_it() {
    let network = MemoryNetwork::default();
    let inner = network.transport(did(1));
    let mut said = inner.take_events().unwrap();
    let (tx, events) = mpsc::channel(16);
    let relay = tokio::spawn(async move {
        while let Some(event) = said.recv().await {
            tx.send(event).await.unwrap();
        }
    });
    let a =
        builder(1).transport(Arc::new(Relayed { inner, events: Mutex::new(Some(events)) })).start().unwrap();
    let b = member(&network, 2);
    let seen = Seen::default();
    registered_probe(&b, &seen);
    let mut peers = a.peers();
    let asking = tokio::spawn(a.resolve::<Await>(&address(2, "/probe")).ask(Await).timeout(PATIENCE));
    seen.wait("awaiting 1").await;
    assert_eq!(soon("up", peers.recv()).await.unwrap(), PeerEvent::Up(did(2)));
    relay.abort();
    assert!(matches!(soon("lost", asking).await.unwrap(), Err(AskError::Lost)));
    assert_eq!(soon("down", peers.recv()).await.unwrap(), PeerEvent::Down(did(2)));
    let told = a.resolve::<Note>(&address(2, "/probe")).tell(Note(1)).await.unwrap_err();
    assert!(matches!(told.reason, SendFailure::Unreachable(_)), "{:?}", told.reason);
    stop(&[&a, &b]).await;
}

/// The receiver is told how long an ask is waited for when it sets out, not when it was begun.
#[tokio::test(start_paused = true)]
async fn the_time_that_an_ask_waits_for_credit_is_not_left_for_its_answer() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let mut evil = Evil::join(&network);
    let far = system.resolve::<Note>(&address(66, "/probe"));
    let first = tokio::spawn(far.tell(Note(0)));
    let mut pipe = evil.accepted().await;
    first.await.unwrap().unwrap();
    for n in 1..CREDIT as u64 {
        far.tell(Note(n)).await.unwrap();
    }
    let asked = tokio::spawn(far.ask(Note(64)).timeout(Duration::from_secs(10)));
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_secs(6)).await;
    pipe.write_all(&frame(&(TAKEN, "/probe", CREDIT), b"")).await.unwrap();
    let word = loop {
        let word = next(&mut pipe, WORD).await;
        if word.fields[3].as_bool() == Some(true) {
            break word;
        }
    };
    let options = word.fields[4].as_map().unwrap();
    let ttl: u64 = options[0].1.as_integer().unwrap().try_into().unwrap();
    assert!((3_000..=4_000).contains(&ttl), "{ttl}");
    pipe.write_all(&frame(&(REPLY, word.number(2)), b"\x07")).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), 7);
    tokio::time::resume();
    stop(&[&system]).await;
}

/// As near: too late is said as such, and nothing is sent.
#[tokio::test]
async fn an_ask_that_begins_too_late_is_not_sent_whether_the_link_is_up_or_not() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    registered_probe(&b, &Seen::default());
    let far = a.resolve::<Note>(&address(2, "/probe"));
    for _ in 0..2 {
        let late = far.ask(Note(9)).timeout(Duration::ZERO).await;
        assert!(matches!(late, Err(AskError::NotSent { message: Note(9), reason: SendFailure::Expired })));
        let late = far.ask(Note(9)).deadline(tokio::time::Instant::now()).await;
        assert!(matches!(late, Err(AskError::NotSent { message: Note(9), reason: SendFailure::Expired })));
        ask_far(&far, Note(1)).await.unwrap();
    }
    assert_eq!(ask_far(&far, Note(1)).await.unwrap(), 2);
    stop(&[&a, &b]).await;
}

/// A flush is about what was sent before it: whatever is sent meanwhile, and whatever becomes of the link.
#[tokio::test]
async fn a_flush_waits_for_its_own_words_and_says_if_they_were_lost() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let mut evil = Evil::join(&network);
    let far = system.resolve::<Note>(&address(66, "/probe"));
    let flush = || {
        let system = system.clone();
        tokio::spawn(async move { system.flush(PATIENCE).await })
    };
    let told = tokio::spawn(far.tell(Note(1)));
    let mut pipe = evil.accepted().await;
    told.await.unwrap().unwrap();
    let flushed = flush();
    tokio::task::yield_now().await;
    far.tell(Note(2)).await.unwrap();
    pipe.write_all(&frame(&(TAKEN, "/probe", 1), b"")).await.unwrap();
    assert!(soon("taken", flushed).await.unwrap(), "the second word was sent later");
    let flushed = flush();
    tokio::task::yield_now().await;
    drop(pipe);
    assert!(!soon("the link is lost", flushed).await.unwrap());
    stop(&[&system]).await;
}

/// Behind a word that waits for room, too, nothing is kept that nobody waits for.
#[tokio::test]
async fn an_ask_behind_a_word_that_stands_still_expires_in_its_own_time() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let seen = Seen::default();
    let actor = registered_probe(&system, &seen);
    let release = hold(&actor).await;
    let evil = Evil::join(&network);
    let mut pipe = evil.link().await;
    let head = Probe::MAILBOX as u64 + 1;
    for id in 1..=head {
        pipe.write_all(&word(id, &Note(id))).await.unwrap();
    }
    let note = dms_actors::cbor::to_canonical(&Note(head + 1)).unwrap();
    let ttl = BTreeMap::from([(1, 50)]);
    pipe.write_all(&frame(&(WORD, "/probe", "test.note/1", head + 1, true, ttl), &note)).await.unwrap();
    let refused = next(&mut pipe, REFUSED).await;
    assert_eq!((refused.number(0), refused.text(1)), (head + 1, "expired"));
    drop(release);
    // Its place is acknowledged with the others, and the order is kept.
    pipe.write_all(&ask(head + 2, "test.note/1", &Note(head + 2))).await.unwrap();
    assert_eq!(next(&mut pipe, REPLY).await.body, [head as u8]);
    assert_eq!(seen.count(&format!("note {} from {}", head + 1, did(66).short())), 0);
    still_works(&network, &system).await;
}

/// What is slow is not silent: only a peer that reads nothing is lost.
#[tokio::test(start_paused = true)]
async fn a_long_word_over_a_slow_line_is_no_silence() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let mut evil = Evil::join(&network);
    let told = tokio::spawn(system.resolve::<Bulk>(&address(66, "/a")).tell(Bulk(vec![0; 200_000])));
    let mut pipe = evil.accepted().await;
    told.await.unwrap().unwrap();
    let mut some = vec![0; 4096];
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        pipe.read_exact(&mut some).await.unwrap();
    }
    assert_eq!(system.counters().silent_links, 0);
    // Now it reads no more.
    let start = tokio::time::Instant::now();
    until("it is noticed", || system.counters().silent_links == 1).await;
    assert!((13..=21).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    tokio::time::resume();
    stop(&[&system]).await;
}

/// However many are refused, each is reported where it was sent.
#[tokio::test]
async fn every_refused_tell_becomes_a_dead_letter_of_its_sender() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let far = a.resolve::<Note>(&address(2, "/nobody"));
    for n in 0..1000 {
        far.tell(Note(n)).await.unwrap();
    }
    assert!(a.flush(PATIENCE).await);
    assert_eq!((a.counters().dead_letters, b.counters().refused_words), (1000, 1000));
    stop(&[&a, &b]).await;
}
