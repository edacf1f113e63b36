//! What one peer may cost: too fast is slowed down, too many and too long is refused, and what was
//! taken is given back however it ends.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::wire::*;
use common::*;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{
    Actor, ActorPath, ActorRef, ActorSystem, Answer, AskError, Context, Did, Handler, Kind, KindLimits,
    Limits, Policy, Refusal, RefusalCode, Supervision,
};
use tokio::io::AsyncWriteExt;

/// A member that asks, and one with limits and a probe.
fn pair(limits: Limits) -> (ActorSystem, ActorSystem, ActorRef<Probe>, Seen) {
    let network = MemoryNetwork::default();
    let a = member(&network, 1);
    let b = builder(2).transport(network.transport(did(2))).limits(limits).start().unwrap();
    let seen = Seen::default();
    let probe = registered_probe(&b, &seen);
    (a, b, probe, seen)
}

fn code<M, R>(result: Result<R, AskError<M>>) -> Option<RefusalCode> {
    match result {
        Err(AskError::Refused(refusal)) => Some(refusal.code),
        _ => None,
    }
}

#[tokio::test]
async fn a_peer_that_is_too_quick_is_read_slower_and_loses_nothing() {
    let (a, b, probe, seen) = pair(Limits { words_per_second: 200, burst: 10, ..Limits::default() });
    let far = a.resolve::<Note>(&address(2, "/probe"));
    let start = Instant::now();
    for n in 0..60 {
        far.tell(Note(n)).await.unwrap();
    }
    assert_eq!(ask_far(&far, Note(60)).await.unwrap(), 60);
    // 61 words, of which 10 are free, at 5 ms each.
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    let notes: Vec<_> = (0..=60).map(|n| format!("note {n} from {}", did(1).short())).collect();
    assert_eq!(seen.all()[1..], notes);
    let counters = b.counters();
    assert!(counters.throttled_reads > 0);
    assert_eq!((counters.refused_words, a.counters().dead_letters, probe.depth()), (0, 0, 0));
    stop(&[&a, &b]).await;
}

/// Refuses every note, makes each refusal cost a tenth of a second, and doubles every pause.
#[derive(Default)]
struct Strict {
    refused: AtomicU32,
    paused: AtomicU32,
}

impl Policy for Strict {
    fn admit(&self, _: Did, _: &ActorPath, _: &Kind) -> Result<(), Refusal> {
        Err(Refusal::new(RefusalCode::NotTrusted, "no notes"))
    }

    fn on_refused(&self, peer: Did, refusal: &Refusal) -> u32 {
        assert_eq!((peer, refusal.code), (did(1), RefusalCode::NotTrusted));
        self.refused.fetch_add(1, Ordering::Relaxed);
        20
    }

    fn on_too_fast(&self, peer: Did, pause: Duration) -> Duration {
        assert_eq!(peer, did(1));
        self.paused.fetch_add(1, Ordering::Relaxed);
        pause * 2
    }
}

#[tokio::test]
async fn refusals_are_said_as_slowly_as_the_policy_says() {
    let network = MemoryNetwork::default();
    let a = member(&network, 1);
    let policy = Arc::new(Strict::default());
    let limits = Limits { words_per_second: 200, burst: 20, ..Limits::default() };
    let transport = network.transport(did(2));
    let b = builder(2).transport(transport).limits(limits).policy(policy.clone()).start().unwrap();
    let far = a.resolve::<Note>(&address(2, "/probe"));
    let start = Instant::now();
    for n in 0..5 {
        assert_eq!(code(ask_far(&far, Note(n)).await), Some(RefusalCode::NotTrusted));
    }
    // The first is within the burst, and pays for itself; each further one waits a tenth of a second, twice over.
    assert!(start.elapsed() >= Duration::from_millis(600), "{:?}", start.elapsed());
    assert_eq!(policy.refused.load(Ordering::Relaxed), 5);
    assert!(policy.paused.load(Ordering::Relaxed) >= 4);
    stop(&[&a, &b]).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_makes_pauses_gives_signs_of_life() {
    let network = MemoryNetwork::default();
    let limits = Limits { words_per_second: 1, burst: 1, ..Limits::default() };
    let b = builder(1).transport(network.transport(did(1))).limits(limits).start().unwrap();
    let evil = Evil::join(&network);
    let mut pipe = evil.link().await;
    let start = tokio::time::Instant::now();
    for request in 0..60 {
        pipe.write_all(&frame(&(UNWATCH, request), b"")).await.unwrap();
    }
    // This one waits a minute for its turn.
    pipe.write_all(&frame(&(PING,), b"")).await.unwrap();
    for _ in 0..11 {
        next(&mut pipe, PONG).await;
        assert!(start.elapsed().as_secs() <= 60);
    }
    next(&mut pipe, PONG).await;
    tokio::time::resume();
    stop(&[&b]).await;
}

#[tokio::test]
async fn open_asks_are_limited_and_an_answer_makes_room() {
    let (a, b, _probe, seen) = pair(Limits { in_flight_asks: 2, ..Limits::default() });
    let (waits, notes) =
        (a.resolve::<Await>(&address(2, "/probe")), a.resolve::<Note>(&address(2, "/probe")));
    let open: Vec<_> = (1..=2)
        .map(|_| {
            let waits = waits.clone();
            tokio::spawn(async move { ask_far(&waits, Await).await })
        })
        .collect();
    seen.wait("awaiting 2").await;
    assert_eq!(code(ask_far(&notes, Note(1)).await), Some(RefusalCode::Busy));
    assert_eq!((b.counters().busy_words, b.counters().refused_words), (1, 1));
    // Told words are not limited by asks; this one answers both.
    notes.tell(Note(2)).await.unwrap();
    for ask in open {
        assert!(matches!(soon("answered", ask).await.unwrap(), Ok(2)));
    }
    assert_eq!(ask_far(&notes, Note(3)).await.unwrap(), 1);
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn a_kind_has_its_own_limits_and_may_be_the_first_to_be_turned_away() {
    let limits = Limits { in_flight_asks: 3, ..Limits::default() }
        .kind::<Await>(KindLimits { in_flight_asks: 2, ..KindLimits::default() })
        .kind::<Note>(KindLimits { admit_below: 1, ..KindLimits::default() })
        .kind::<Bulk>(KindLimits { body_length: 100, ..KindLimits::default() });
    let (a, b, probe, seen) = pair(limits);
    let (waits, notes) =
        (a.resolve::<Await>(&address(2, "/probe")), a.resolve::<Note>(&address(2, "/probe")));
    let bulk = a.resolve::<Bulk>(&address(2, "/probe"));
    // Below the threshold the kind is taken like any other.
    assert_eq!(ask_far(&notes, Note(0)).await.unwrap(), 0);
    let ask = |waits: &dms_actors::Recipient<Await>| {
        let waits = waits.clone();
        tokio::spawn(async move { ask_far(&waits, Await).await })
    };
    let open = [ask(&waits), ask(&waits)];
    seen.wait("awaiting 2").await;
    assert_eq!(code(ask_far(&waits, Await).await), Some(RefusalCode::Busy), "its own limit");
    assert_eq!(code(ask_far(&notes, Note(1)).await), Some(RefusalCode::Busy), "the threshold");
    let mut dead = a.dead_letters();
    notes.tell(Note(2)).await.unwrap();
    soon("the threshold holds for what is told, too", dead.recv()).await.unwrap();
    assert!(ask_far(&bulk, Bulk(vec![0; 10])).await.is_ok(), "room for the kinds that matter more");
    assert_eq!(code(ask_far(&bulk, Bulk(vec![0; 101])).await), Some(RefusalCode::TooLong));
    assert_eq!((b.counters().busy_words, b.counters().too_long_words), (3, 1));
    // A near sender is not asked for any limit.
    probe.tell(Note(7)).await.unwrap();
    for ask in open {
        assert!(matches!(soon("answered", ask).await.unwrap(), Ok(7)));
    }
    assert_eq!(ask_far(&notes, Note(8)).await.unwrap(), 2);
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn a_place_is_given_back_however_the_ask_ends() {
    let limit = KindLimits { in_flight_asks: 1, ..KindLimits::default() };
    let limits = Limits { in_flight_asks: 1, ..Limits::default() }.kind::<Panic>(limit).kind::<Note>(limit);
    let (a, b, probe, seen) = pair(limits);
    let panics = a.resolve::<Panic>(&address(2, "/probe"));
    for _ in 0..3 {
        assert!(matches!(ask_far(&panics, Panic).await, Err(AskError::Lost)), "the handler panics");
    }
    let nobody = a.resolve::<Note>(&address(2, "/nobody"));
    assert_eq!(code(ask_far(&nobody, Note(0)).await), Some(RefusalCode::UnknownPath));
    let notes = a.resolve::<Note>(&address(2, "/probe"));
    assert_eq!(ask_far(&notes, Note(1)).await.unwrap(), 0);
    // The actor ends with the ask in its hands.
    let waits = a.resolve::<Await>(&address(2, "/probe"));
    let open = tokio::spawn(async move { ask_far(&waits, Await).await });
    seen.wait("awaiting 1").await;
    assert_eq!(code(ask_far(&notes, Note(2)).await), Some(RefusalCode::Busy));
    probe.stop();
    assert!(matches!(soon("lost", open).await.unwrap(), Err(AskError::Lost)));
    soon("ended", probe.closed()).await;
    registered_probe(&b, &seen);
    assert_eq!(ask_far(&notes, Note(3)).await.unwrap(), 0);
    assert_eq!(b.counters().busy_words, 1);
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_by_name_and_the_link_goes_on() {
    let (a, b, _probe, seen) = pair(Limits { body_length: 1000, ..Limits::default() });
    let bulk = a.resolve::<Bulk>(&address(2, "/probe"));
    assert_eq!(code(ask_far(&bulk, Bulk(vec![0; 1000])).await), Some(RefusalCode::TooLong));
    assert!(ask_far(&bulk, Bulk(vec![0; 997])).await.is_ok());
    assert_eq!((b.counters().too_long_words, b.counters().refused_words), (1, 1));
    assert_eq!((seen.count("bulk 997"), seen.count("bulk 1000")), (1, 0));
    stop(&[&a, &b]).await;
}

/// Something large, wanted.
#[derive(serde::Serialize, serde::Deserialize)]
struct Fetch;
dms_actors::wire_message!(Fetch, "test.fetch", 1, reply = serde_bytes::ByteBuf);

/// Gives what is wanted, at once or later.
struct Store {
    given: u64,
}
impl Actor for Store {}
impl Handler<Fetch> for Store {
    fn handle(&mut self, _: Fetch, _: &mut Context<'_, Self>) -> Answer<serde_bytes::ByteBuf> {
        self.given += 1;
        let bytes = serde_bytes::ByteBuf::from(vec![7; 200_000]);
        if self.given.is_multiple_of(3) {
            let (responder, answer) = Answer::later();
            responder.reply(bytes);
            return answer;
        }
        bytes.into()
    }
}

#[tokio::test]
async fn replies_that_are_not_read_wait_and_none_is_lost() {
    let network = MemoryNetwork::default();
    let b = member(&network, 1);
    let store = b.spawn(|| Store { given: 0 }, Supervision::never());
    let _ = b.register("/probe", &store).unwrap().accepts::<Fetch>();
    let evil = Evil::join(&network);
    let mut pipe = evil.link().await;
    // 20 MB of replies, many more than are written ahead.
    for id in 1..=100 {
        pipe.write_all(&ask(id, "test.fetch/1", &Fetch)).await.unwrap();
    }
    until("all are handled", || store.depth() == 0).await;
    let mut answered: Vec<u64> = Vec::new();
    for _ in 0..100 {
        let reply = next(&mut pipe, REPLY).await;
        assert!(reply.body.len() > 200_000);
        answered.push(reply.number(0));
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=100).collect::<Vec<_>>());
    drop(pipe);
    stop(&[&b]).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_replies_is_not_read_either() {
    let network = MemoryNetwork::default();
    let b = member(&network, 1);
    let seen = Seen::default();
    registered_probe(&b, &seen);
    let evil = Evil::join(&network);
    let mut pipe = evil.link().await;
    // Refusals without end, none of which is read: they pile up to a bound and then nothing is read.
    let mut id = 0_u64;
    let mut words = Vec::new();
    while words.len() < 2_000_000 {
        id += 1;
        words.extend(frame(&(WORD, "/nobody", "test.note/1", id, true), b""));
    }
    let (mut reader, mut writer) = tokio::io::split(&mut pipe);
    let writing = async {
        writer.write_all(&words).await.unwrap();
    };
    let mut writing = std::pin::pin!(writing);
    let stalled = async {
        // It stands still when the same count is seen for a while.
        let mut last = u64::MAX;
        loop {
            let count = b.counters().refused_words;
            if count == last && count > 0 {
                return count;
            }
            last = count;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let refused = tokio::select! {
        biased;
        () = &mut writing => panic!("all of it was read"),
        count = stalled => count,
    };
    assert!(refused < id, "{refused} of {id}");
    // Once it reads, everything is answered.
    let mut sink = tokio::io::sink();
    tokio::select! {
        biased;
        () = async { writing.await; until("all are refused", || b.counters().refused_words == id).await } => {}
        copied = tokio::io::copy(&mut reader, &mut sink) => panic!("the link ended: {copied:?}"),
    }
    stop(&[&b]).await;
}
