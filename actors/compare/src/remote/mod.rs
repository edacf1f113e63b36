//! The figures between two processes on loopback: 100 bytes there and back, and bursts of tells.
//!
//! Ours runs in its default layout, where actors have a thread of their own, links and swarm are on a tokio runtime
//! with one worker, and whoever asks is on the actors' thread; and with all of it on one thread. kameo, ractor and the floor run on
//! `#[tokio::main]`'s runtime, as their documentation shows them.

mod floor;
mod group;
mod load;
mod ours;
mod pair;
mod with_kameo;
mod with_ractor;

use std::future::Future;
use std::io::Read;

use anyhow::bail;

pub use self::group::main;
use self::load::Client;
use crate::rounds::Sample;

/// Bytes of every message.
const PAYLOAD: usize = 100;

/// What carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Tcp,
    Quic,
}

impl Over {
    fn parse(text: &str) -> anyhow::Result<Self> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "quic" => Ok(Self::Quic),
            _ => bail!("there is no transport {text:?}"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        }
    }

    /// A free port of loopback.
    fn multiaddr(self) -> &'static str {
        match self {
            Self::Tcp => "/ip4/127.0.0.1/tcp/0",
            Self::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
        }
    }
}

/// A way for two processes to talk.
trait Stack {
    type Client: Client;

    /// Serves until the process is killed, after it has said its address with [`announce`].
    fn serve(&self, over: Over) -> anyhow::Result<()>;

    /// Connects to a server and runs the load where this stack's callers run.
    fn run<F>(
        &self,
        over: Over,
        address: &str,
        load: impl FnOnce(Self::Client) -> F + Send + 'static,
    ) -> anyhow::Result<Sample>
    where
        F: Future<Output = anyhow::Result<Sample>> + Send + 'static;
}

/// Says where the server is, on one line.
fn announce(address: &str) {
    println!("{address}");
}

/// Returns when whoever started this process has gone.
fn until_abandoned() {
    // An error is an end as well.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// The payload that carries `number`.
fn payload(number: u64) -> Vec<u8> {
    let mut bytes = vec![0xd5; PAYLOAD];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Which tells arrived.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    received: u64,
    out_of_order: u64,
    /// One more than the highest number so far.
    next: u64,
}

impl Seen {
    fn take(&mut self, payload: &[u8]) {
        let number = payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        self.received += 1;
        self.out_of_order += u64::from(number < self.next);
        self.next = self.next.max(number + 1);
    }

    /// As a reply that every stack can carry.
    fn bytes(self) -> Vec<u8> {
        [self.received.to_be_bytes(), self.out_of_order.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (received, rest) = bytes.split_first_chunk()?;
        let out_of_order = u64::from_be_bytes(*rest.first_chunk()?);
        Some(Self { received: u64::from_be_bytes(*received), out_of_order, next: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overtakes_is_seen() {
        let mut seen = Seen::default();
        [0, 1, 4, 2, 3, 5].iter().for_each(|number| seen.take(&payload(*number)));
        let read = Seen::read(&seen.bytes()).unwrap();
        assert_eq!((read.received, read.out_of_order), (6, 2));
    }
}
