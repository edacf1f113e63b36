//! What decoders are tried in: a clock that stands still, and a peer that says the same to everybody.

use std::time::Duration;

use dms_actors::clock::{Clock, Timestamp};
use dms_actors::transport::{OpenError, Pipe, Transport, TransportEvent};
use dms_messages::Did;
use futures::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::NOW;

/// The most that a peer says.
const MAX_ANSWER: usize = 256 * 1024;

/// A clock at [`NOW`].
#[derive(Debug, Clone, Copy, Default)]
pub struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn random(&self) -> [u8; 16] {
        [7; 16]
    }
}

/// A transport on which every peer says the same.
#[derive(Debug, Clone)]
pub struct Answering {
    /// What it says.
    pub answer: Vec<u8>,
    /// True if it neither says more nor goes away; else it goes.
    pub stays: bool,
}

impl Transport for Answering {
    fn open(&self, _: Did, _: &'static str) -> BoxFuture<'static, Result<Pipe, OpenError>> {
        let (mut near, far) = tokio::io::duplex(MAX_ANSWER);
        let Self { answer, stays } = self.clone();
        Box::pin(async move {
            near.write_all(&answer).await.expect("there is room");
            if stays {
                // For as long as the test may take.
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(near);
                });
            }
            let pipe: Pipe = Box::new(far);
            Ok(pipe)
        })
    }

    fn add_addresses(&self, _: Did, _: Vec<String>) {}

    fn listen_addresses(&self) -> Vec<String> {
        Vec::new()
    }

    fn connected_peers(&self) -> Vec<Did> {
        Vec::new()
    }

    fn take_events(&self) -> Option<mpsc::Receiver<TransportEvent>> {
        None
    }
}
