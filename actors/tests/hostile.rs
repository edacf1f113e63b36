//! A peer that does not keep to the protocol: its link goes, the system and other peers stay.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::wire::*;
use common::*;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{
    Actor, Answer, AskError, CREDIT, Context, ExitReason, Handler, MAX_BODY_LENGTH, RefusalCode, SendFailure,
    Supervision,
};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn bytes_that_are_no_frames_close_the_stream_and_nothing_else() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    registered_probe(&system, &Seen::default());
    let evil = Evil::join(&network);
    let out_of_place = frame(&(TAKEN, "/probe", 1), b"");
    let reply = frame(&(REPLY, 1), b"");
    let deep = [vec![0x86, 3, 0x60, 0x60, 0, 0xf4, 0xa1, 0x09], vec![0x81; 2000], vec![0xfb]].concat();
    let mut count = 0;
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 1000],
        vec![0; 1000],
        vec![0, 0, 0, 6, 0, 4, 0xff, 0xff, 0xff, 0xff],
        out_of_place,
        reply,
        frame(&(WORD, "probe", "test.note/1", 1, false), b""),
        frame(&(WORD, "/probe", "test.note/1", 1), b""),
        frame(&(WORD, "/probe", "test.note/1", 1, false, (), ()), b""),
        frame(&(WORD, "/probe", "test.note/1", -1, false), b""),
        frame(&(LOOKUP, 1, "probe", "test.note/1"), b""),
        frame(&(WATCH, 1, "probe"), b""),
        // A number that no version has yet.
        frame(&(99, 1), b""),
        raw_frame(&deep, b""),
        raw_frame(b"", b""),
    ] {
        // Both instead of a greeting and after one.
        for mut pipe in [evil.pipe().await, evil.link().await] {
            let _ = pipe.write_all(&garbage).await;
            closed(&mut pipe).await;
            count += 1;
            until("it is counted", || system.counters().malformed_frames == count).await;
        }
    }
    // Half a frame, then nothing more: no fault, but an end.
    let mut pipe = evil.link().await;
    pipe.write_all(&word(1, &Note(1))[..9]).await.unwrap();
    pipe.shutdown().await.unwrap();
    closed(&mut pipe).await;
    assert_eq!(system.counters().malformed_frames, count);
    still_works(&network, &system).await;
}

#[tokio::test]
async fn a_greeting_of_another_network_version_or_key_is_refused_by_name() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let evil = Evil::join(&network);
    let table = [
        (frame(&(HELLO, VERSION, "other", did(66)), b""), "other-network"),
        (frame(&(HELLO, VERSION + 1, "test", did(66)), b""), "other-version"),
        (frame(&(HELLO, u64::MAX, "test", did(66)), b""), "other-version"),
        (frame(&(HELLO, VERSION, "test", did(2)), b""), "not-trusted"),
    ];
    for (hello, expected) in table {
        let mut pipe = evil.pipe().await;
        pipe.write_all(&hello).await.unwrap();
        let answer = soon("an answer", read(&mut pipe)).await.unwrap();
        assert_eq!((answer.number, answer.text(0)), (UNWELCOME, expected));
        closed(&mut pipe).await;
    }
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_peer_that_sends_beyond_its_credit_loses_the_link() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let seen = Seen::default();
    let actor = registered_probe(&system, &seen);
    let release = hold(&actor).await;
    let evil = Evil::join(&network);
    let mut pipe = evil.link().await;
    let allowed = (Probe::MAILBOX + CREDIT) as u64;
    for id in 1..=allowed {
        pipe.write_all(&word(id, &Note(id))).await.unwrap();
    }
    while next(&mut pipe, TAKEN).await.number(1) != Probe::MAILBOX as u64 {}
    assert_eq!((system.counters().credit_overruns, actor.depth()), (0, Probe::MAILBOX));
    pipe.write_all(&word(allowed + 1, &Note(0))).await.unwrap();
    closed(&mut pipe).await;
    assert_eq!(system.counters().credit_overruns, 1);
    // What was queued beyond the mailbox went with the link.
    drop(release);
    until("the mailbox is empty", || actor.depth() == 0).await;
    assert_eq!(actor.ask(Note(0)).timeout(PATIENCE).await.unwrap(), Probe::MAILBOX as u64);
    still_works(&network, &system).await;
}

#[tokio::test]
async fn a_word_said_twice_closes_the_link() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let seen = Seen::default();
    registered_probe(&system, &seen);
    let evil = Evil::join(&network);
    let mut pipe = evil.link().await;
    pipe.write_all(&word(1, &Note(5))).await.unwrap();
    pipe.write_all(&word(1, &Note(5))).await.unwrap();
    closed(&mut pipe).await;
    assert_eq!(system.counters().malformed_frames, 1);
    assert!(seen.count(&format!("note 5 from {}", did(66).short())) <= 1);
    still_works(&network, &system).await;
}

#[tokio::test]
async fn a_second_link_of_a_peer_replaces_the_first() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let evil = Evil::join(&network);
    let mut first = evil.link().await;
    let _second = evil.link().await;
    closed(&mut first).await;
    stop(&[&system]).await;
}

#[tokio::test]
async fn answers_that_make_no_sense_give_nothing_to_the_peer() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let mut evil = Evil::join(&network);
    let far = system.resolve::<Note>(&address(66, "/probe"));
    let asking = tokio::spawn({
        let far = far.clone();
        async move { far.ask(Note(1)).timeout(PATIENCE).await }
    });
    let mut pipe = evil.accepted().await;
    let word = next(&mut pipe, WORD).await;
    assert_eq!((word.text(0), word.text(1), word.number(2)), ("/probe", "test.note/1", 1));
    assert_eq!(word.fields[3].as_bool(), Some(true));
    // Credit for words never sent, replies to asks never made: no effect.
    for bytes in [
        frame(&(TAKEN, "/probe", u64::MAX), b""),
        frame(&(TAKEN, "/probe", u64::MAX), b""),
        frame(&(TAKEN, "/never-sent", 7), b""),
        frame(&(REPLY, 99), b""),
        frame(&(LOST, 98), b""),
        frame(&(REFUSED, 97, "busy", "x"), b""),
        frame(&(FOUND, 1), b""),
        frame(&(DENIED, 1, "busy", "x"), b""),
        frame(&(ENDED, 1, 0, "", 0), b""),
        frame(&(PONG,), b""),
        frame(&(REPLY, 1), b"\xff"),
    ] {
        pipe.write_all(&bytes).await.unwrap();
    }
    assert!(matches!(soon("answered", asking).await.unwrap(), Err(AskError::Reply(_))));
    let mut taken = 0;
    while far.try_tell(Note(taken)).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, CREDIT as u64);
    assert_eq!(far.try_tell(Note(0)).unwrap_err().reason, SendFailure::Full);
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_costs_a_bounded_queue() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let mut evil = Evil::join(&network);
    let first = tokio::spawn(system.resolve::<Bulk>(&address(66, "/a")).tell(Bulk(vec![0; 200_000])));
    let _pipe = evil.accepted().await;
    soon("queued", first).await.unwrap().unwrap();
    // Credit is per target; bytes are per link: about 4 MiB whatever the number of targets.
    let mut queued = 0;
    for n in 0..100 {
        let far = system.resolve::<Bulk>(&address(66, &format!("/a/{n}")));
        match far.try_tell(Bulk(vec![0; 200_000])) {
            Ok(()) => queued += 200_000,
            Err(error) => assert_eq!(error.reason, SendFailure::Full),
        }
        tokio::task::yield_now().await;
    }
    assert!((3_000_000..5_000_000).contains(&queued), "{queued}");
    stop(&[&system]).await;
}

/// Counts notes, and takes them as fast as they come.
struct Tally(Arc<AtomicU64>);

impl Actor for Tally {
    const MAILBOX: usize = 8192;
}

impl Handler<Note> for Tally {
    fn handle(&mut self, _: Note, _: &mut Context<'_, Self>) -> Answer<u64> {
        self.0.fetch_add(1, Ordering::SeqCst).into()
    }
}

#[tokio::test]
async fn acknowledgements_that_are_not_read_pile_up_to_a_bound() {
    const PATHS: u64 = 4000;
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let handled = Arc::new(AtomicU64::new(0));
    let tally = system.spawn(
        {
            let handled = handled.clone();
            move || Tally(handled.clone())
        },
        Supervision::never(),
    );
    // Long, so that few of the acknowledgements fit into the pipe.
    let path = |n: u64| format!("/{}/{n}", vec!["a".repeat(60); 7].join("/"));
    let mut words = Vec::new();
    for n in 1..=PATHS {
        let _ = system.register(&path(n), &tally).unwrap().accepts::<Note>();
        let note = dms_actors::cbor::to_canonical(&Note(n)).unwrap();
        words.extend(frame(&(WORD, path(n), "test.note/1", n, false), &note));
    }
    let evil = Evil::join(&network);
    let (mut reader, mut writer) = tokio::io::split(evil.link().await);
    let mut writing = std::pin::pin!(writer.write_all(&words));
    let stalled = async {
        // It stands still when the same count is seen for a while.
        let mut last = 0;
        loop {
            let count = handled.load(Ordering::SeqCst);
            if count == last && count > 0 {
                return count;
            }
            last = count;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let taken = tokio::select! {
        biased;
        count = stalled => count,
        written = &mut writing => panic!("all of it was read: {written:?}"),
    };
    assert!(taken < PATHS / 2, "{taken}");
    // Once it reads, everything is taken.
    let mut sink = tokio::io::sink();
    tokio::select! {
        biased;
        () = async {
            writing.await.unwrap();
            until("all are handled", || handled.load(Ordering::SeqCst) == PATHS).await;
        } => {}
        copied = tokio::io::copy(&mut reader, &mut sink) => panic!("the link ended: {copied:?}"),
    }
    stop(&[&system]).await;
}

#[tokio::test(start_paused = true)]
async fn questions_that_are_taken_back_and_not_read_are_bounded_and_the_silence_is_noticed() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let mut evil = Evil::join(&network);
    let at = address(66, "/w");
    let first = tokio::spawn(system.watch(&at));
    let _pipe = evil.accepted().await;
    tokio::task::yield_now().await;
    let mut refused = None;
    for _ in 0..100_000 {
        let mut watch = std::pin::pin!(system.watch(&at));
        let once = std::future::poll_fn(|cx| std::task::Poll::Ready(watch.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(reason) = once {
            refused = Some(reason);
            break;
        }
    }
    assert!(matches!(refused, Some(ExitReason::WatchRefused(refusal)) if refusal.code == RefusalCode::Busy));
    first.abort();
    // Nobody waits for an answer any more, yet the peer is found out.
    until("the silence is noticed", || system.counters().silent_links == 1).await;
    tokio::time::resume();
    stop(&[&system]).await;
}

#[tokio::test]
async fn words_that_wait_for_room_are_bounded_in_bytes_too() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let seen = Seen::default();
    let (first, second) =
        (registered_probe(&system, &seen), probe(&system, &Seen::default(), Supervision::never()));
    let _ = system.register("/second", &second).unwrap().accepts::<Bulk>();
    let (release_first, release_second) = (hold(&first).await, hold(&second).await);
    let evil = Evil::join(&network);
    let mut pipe = evil.link().await;
    let bulk = dms_actors::cbor::to_canonical(&Bulk(vec![0; MAX_BODY_LENGTH - 100])).unwrap();
    let mut id = 0;
    // All the credit of one actor, in the longest words: all of it waits.
    for _ in 0..Probe::MAILBOX + CREDIT {
        id += 1;
        pipe.write_all(&frame(&(WORD, "/probe", "test.bulk/1", id, false), &bulk)).await.unwrap();
    }
    for _ in 0..=Probe::MAILBOX {
        id += 1;
        pipe.write_all(&frame(&(WORD, "/second", "test.bulk/1", id, false), &bulk)).await.unwrap();
    }
    let refused = next(&mut pipe, REFUSED).await;
    assert_eq!((refused.number(0), refused.text(1)), (id, "busy"));
    assert_eq!((system.counters().busy_words, system.counters().credit_overruns), (1, 0));
    drop((release_first, release_second));
    let all = format!("bulk {}", MAX_BODY_LENGTH - 100);
    until("the others are handled", || seen.count(&all) == Probe::MAILBOX + CREDIT).await;
    // There is room again.
    id += 1;
    pipe.write_all(&frame(&(WORD, "/second", "test.bulk/1", id, true), &bulk)).await.unwrap();
    assert_eq!(next(&mut pipe, REPLY).await.number(0), id);
    still_works(&network, &system).await;
}
