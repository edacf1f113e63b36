//! A peer that speaks the protocol by hand, well or badly.
//!
//! Frames are written here apart from the crate's own code, so this is also the check that the format
//! does not change.

use std::sync::Arc;

use ciborium::Value;
use dms_actors::cbor::{from_canonical, to_canonical};
use dms_actors::transport::memory::{MemoryNetwork, MemoryTransport};
use dms_actors::transport::{LINK_PROTOCOL, Pipe, Transport, TransportEvent};
use dms_actors::{ActorSystem, AskError, Did, Message, Recipient};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{Note, PATIENCE, address, did, member, soon, stop};

pub const HELLO: u64 = 0;
pub const WELCOME: u64 = 1;
pub const UNWELCOME: u64 = 2;
pub const WORD: u64 = 3;
pub const TAKEN: u64 = 4;
pub const REFUSED: u64 = 5;
pub const REPLY: u64 = 6;
pub const LOST: u64 = 7;
pub const LOOKUP: u64 = 8;
pub const FOUND: u64 = 9;
pub const DENIED: u64 = 10;
pub const WATCH: u64 = 11;
pub const UNWATCH: u64 = 12;
pub const ENDED: u64 = 13;
pub const PING: u64 = 14;
pub const PONG: u64 = 15;

/// The version of the protocol.
pub const VERSION: u64 = 2;

/// A frame as it was read: its number, its fields and options, its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub number: u64,
    pub fields: Vec<Value>,
    pub body: Vec<u8>,
}

impl Frame {
    /// A field that is a text.
    pub fn text(&self, at: usize) -> &str {
        self.fields[at].as_text().unwrap()
    }

    /// A field that is a number.
    pub fn number(&self, at: usize) -> u64 {
        self.fields[at].as_integer().unwrap().try_into().unwrap()
    }
}

/// The bytes of a frame; `header` is a tuple that begins with the number.
pub fn frame(header: &impl Serialize, body: &[u8]) -> Vec<u8> {
    raw_frame(&to_canonical(header).unwrap(), body)
}

/// The bytes of a frame around any header.
pub fn raw_frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(2 + header.len() + body.len()).unwrap().to_be_bytes();
    let header_length = u16::try_from(header.len()).unwrap().to_be_bytes();
    [&length[..], &header_length[..], header, body].concat()
}

pub async fn read(pipe: &mut Pipe) -> std::io::Result<Frame> {
    let length = pipe.read_u32().await?;
    let mut rest = vec![0; length as usize];
    pipe.read_exact(&mut rest).await?;
    let (header, body) = rest[2..].split_at(usize::from(u16::from_be_bytes([rest[0], rest[1]])));
    let mut fields: Vec<Value> = from_canonical(header).unwrap();
    let number = fields.remove(0).as_integer().unwrap().try_into().unwrap();
    Ok(Frame { number, fields, body: body.to_vec() })
}

pub fn hello(did: Did) -> Vec<u8> {
    frame(&(HELLO, VERSION, "test", did), b"")
}

/// Tells the probe a note.
pub fn word(id: u64, note: &Note) -> Vec<u8> {
    frame(&(WORD, "/probe", "test.note/1", id, false), &to_canonical(note).unwrap())
}

/// Asks the probe.
pub fn ask(id: u64, kind: &str, body: &impl Serialize) -> Vec<u8> {
    frame(&(WORD, "/probe", kind, id, true), &to_canonical(body).unwrap())
}

/// The member 66, who speaks by hand; the system it speaks to is member 1.
pub struct Evil {
    pub transport: Arc<MemoryTransport>,
    events: mpsc::Receiver<TransportEvent>,
}

impl Evil {
    pub fn join(network: &MemoryNetwork) -> Self {
        let transport = network.transport(did(66));
        let events = transport.take_events().unwrap();
        Self { transport, events }
    }

    /// A stream on which nothing was said.
    pub async fn pipe(&self) -> Pipe {
        self.transport.open(did(1), LINK_PROTOCOL).await.unwrap()
    }

    /// A link that is up.
    pub async fn link(&self) -> Pipe {
        let mut pipe = self.pipe().await;
        pipe.write_all(&hello(did(66))).await.unwrap();
        let welcome = soon("welcome", read(&mut pipe)).await.unwrap();
        assert_eq!((welcome.number, welcome.number(0), welcome.text(1)), (WELCOME, VERSION, "test"));
        assert_eq!(welcome.text(2), did(1).to_string());
        pipe
    }

    /// The next stream that the other side opens.
    pub async fn opened(&mut self) -> Pipe {
        loop {
            match soon("a stream", self.events.recv()).await.unwrap() {
                TransportEvent::Opened { pipe, .. } => return pipe,
                TransportEvent::Up(_) | TransportEvent::Down(_) => {}
            }
        }
    }

    /// The next link that the other side opens, up.
    pub async fn accepted(&mut self) -> Pipe {
        let mut pipe = self.opened().await;
        assert_eq!(soon("hello", read(&mut pipe)).await.unwrap().number, HELLO);
        pipe.write_all(&frame(&(WELCOME, VERSION, "test", did(66)), b"")).await.unwrap();
        pipe
    }
}

/// Waits until the other side has closed, whatever it says before.
pub async fn closed(pipe: &mut Pipe) {
    let mut rest = Vec::new();
    let _ = soon("the link is closed", pipe.read_to_end(&mut rest)).await;
}

/// The next frame of this number; others before it are passed over.
pub async fn next(pipe: &mut Pipe, number: u64) -> Frame {
    loop {
        let frame = soon(&format!("frame {number}"), read(pipe)).await.unwrap();
        if frame.number == number {
            return frame;
        }
    }
}

pub async fn still_works(network: &MemoryNetwork, system: &ActorSystem) {
    let friend = member(network, 2);
    friend.resolve::<Note>(&address(1, "/probe")).ask(Note(1)).timeout(PATIENCE).await.unwrap();
    stop(&[&friend, system]).await;
}

/// Asks with all the patience there is.
pub async fn ask_far<M: Message>(far: &Recipient<M>, message: M) -> Result<M::Reply, AskError<M>> {
    far.ask(message).timeout(PATIENCE).await
}
