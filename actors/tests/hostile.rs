//! A peer that does not keep to the protocol: its link goes, the system and other peers stay.
//!
//! Frames are written here by hand, so this is also the check that the format does not change.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::*;
use dms_actors::cbor::{from_canonical, to_canonical};
use dms_actors::transport::memory::{MemoryNetwork, MemoryTransport};
use dms_actors::transport::{LINK_PROTOCOL, Pipe, Transport, TransportEvent};
use dms_actors::{Actor, ActorSystem, AskError, CREDIT, Did, SendFailure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Hello {
    version: u16,
    network: String,
    did: Did,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Header {
    Hello(Hello),
    Welcome(Hello),
    Unwelcome { code: String, text: String },
    Word { to: String, kind: String, id: u64, ask: bool },
    Taken { to: String, through: u64 },
    Refused { id: u64, to: String },
    Reply { in_reply_to: u64 },
    Lost { in_reply_to: u64 },
}

fn frame(header: &Header, body: &[u8]) -> Vec<u8> {
    let header = to_canonical(header).unwrap();
    let length = u32::try_from(2 + header.len() + body.len()).unwrap().to_be_bytes();
    let header_length = u16::try_from(header.len()).unwrap().to_be_bytes();
    [&length[..], &header_length[..], &header[..], body].concat()
}

async fn read(pipe: &mut Pipe) -> std::io::Result<Header> {
    let length = pipe.read_u32().await?;
    let mut rest = vec![0; length as usize];
    pipe.read_exact(&mut rest).await?;
    let header_length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    Ok(from_canonical(&rest[2..2 + header_length]).unwrap())
}

fn hello(did: Did) -> Header {
    Header::Hello(Hello { version: 1, network: "test".into(), did })
}

fn word(id: u64, body: &Note) -> Vec<u8> {
    let header = Header::Word { to: "/probe".into(), kind: "test.note/1".into(), id, ask: false };
    frame(&header, &to_canonical(body).unwrap())
}

struct Evil {
    transport: std::sync::Arc<MemoryTransport>,
    events: mpsc::Receiver<TransportEvent>,
}

impl Evil {
    fn join(network: &MemoryNetwork) -> Self {
        let transport = network.transport(did(66));
        let events = transport.take_events().unwrap();
        Self { transport, events }
    }

    /// A stream on which nothing was said.
    async fn pipe(&self) -> Pipe {
        self.transport.open(did(1), LINK_PROTOCOL).await.unwrap()
    }

    /// A link that is up.
    async fn link(&self) -> Pipe {
        let mut pipe = self.pipe().await;
        pipe.write_all(&frame(&hello(did(66)), b"")).await.unwrap();
        let welcome = Hello { version: 1, network: "test".into(), did: did(1) };
        assert_eq!(soon("welcome", read(&mut pipe)).await.unwrap(), Header::Welcome(welcome));
        pipe
    }

    /// The next stream that the other side opens.
    async fn opened(&mut self) -> Pipe {
        loop {
            match soon("a stream", self.events.recv()).await.unwrap() {
                TransportEvent::Opened { pipe, .. } => return pipe,
                TransportEvent::Up(_) | TransportEvent::Down(_) => {}
            }
        }
    }
}

/// Waits until the other side has closed, whatever it says before.
async fn closed(pipe: &mut Pipe) {
    let mut rest = Vec::new();
    let _ = soon("the link is closed", pipe.read_to_end(&mut rest)).await;
}

async fn still_works(network: &MemoryNetwork, system: &ActorSystem) {
    let friend = member(network, 2);
    friend.resolve::<Note>(&address(1, "/probe")).ask(Note(1), PATIENCE).await.unwrap();
    stop(&[&friend, system]).await;
}

#[tokio::test]
async fn bytes_that_are_no_frames_close_the_stream_and_nothing_else() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    registered_probe(&system, &Seen::default());
    let evil = Evil::join(&network);
    let out_of_place = frame(&Header::Taken { to: "/probe".into(), through: 1 }, b"");
    let reply = frame(&Header::Reply { in_reply_to: 1 }, b"");
    let bad_path = Header::Word { to: "probe".into(), kind: "test.note/1".into(), id: 1, ask: false };
    let mut count = 0;
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 1000],
        vec![0; 1000],
        vec![0, 0, 0, 6, 0, 4, 0xff, 0xff, 0xff, 0xff],
        out_of_place,
        reply,
        frame(&bad_path, b""),
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
        (Hello { version: 1, network: "other".into(), did: did(66) }, "other-network"),
        (Hello { version: 2, network: "test".into(), did: did(66) }, "other-version"),
        (Hello { version: 1, network: "test".into(), did: did(2) }, "not-trusted"),
    ];
    for (hello, expected) in table {
        let mut pipe = evil.pipe().await;
        pipe.write_all(&frame(&Header::Hello(hello), b"")).await.unwrap();
        let answer = soon("an answer", read(&mut pipe)).await.unwrap();
        assert!(matches!(&answer, Header::Unwelcome { code, .. } if code == expected), "{answer:?}");
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
    let taken = Header::Taken { to: "/probe".into(), through: Probe::MAILBOX as u64 };
    while soon("acknowledged", read(&mut pipe)).await.unwrap() != taken {}
    assert_eq!((system.counters().credit_overruns, actor.depth()), (0, Probe::MAILBOX));
    pipe.write_all(&word(allowed + 1, &Note(0))).await.unwrap();
    closed(&mut pipe).await;
    assert_eq!(system.counters().credit_overruns, 1);
    // What was queued beyond the mailbox went with the link.
    drop(release);
    until("the mailbox is empty", || actor.depth() == 0).await;
    assert_eq!(actor.ask(Note(0), PATIENCE).await.unwrap(), Probe::MAILBOX as u64);
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
        async move { far.ask(Note(1), PATIENCE).await }
    });
    let mut pipe = evil.opened().await;
    assert!(matches!(soon("hello", read(&mut pipe)).await.unwrap(), Header::Hello(_)));
    let welcome = Hello { version: 1, network: "test".into(), did: did(66) };
    pipe.write_all(&frame(&Header::Welcome(welcome), b"")).await.unwrap();
    assert!(matches!(soon("word", read(&mut pipe)).await.unwrap(), Header::Word { id: 1, ask: true, .. }));
    // Credit for words never sent, replies to asks never made: no effect.
    for header in [
        Header::Taken { to: "/probe".into(), through: u64::MAX },
        Header::Taken { to: "/probe".into(), through: u64::MAX },
        Header::Taken { to: "/never-sent".into(), through: 7 },
        Header::Reply { in_reply_to: 99 },
        Header::Lost { in_reply_to: 98 },
    ] {
        pipe.write_all(&frame(&header, b"")).await.unwrap();
    }
    let unreadable = frame(&Header::Reply { in_reply_to: 1 }, b"\xff");
    pipe.write_all(&unreadable).await.unwrap();
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
    let mut pipe = evil.opened().await;
    assert!(matches!(soon("hello", read(&mut pipe)).await.unwrap(), Header::Hello(_)));
    let welcome = Hello { version: 1, network: "test".into(), did: did(66) };
    pipe.write_all(&frame(&Header::Welcome(welcome), b"")).await.unwrap();
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
