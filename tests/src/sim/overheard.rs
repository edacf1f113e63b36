//! A transport that is listened to: how many bytes came to a node from whom, for whoever draws who talked to whom.
//!
//! It is there whether or not anybody listens, so that a world that is told runs as one that is not.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use dms_actors::transport::{OpenError, Pipe, Transport, TransportEvent};
use dms_messages::Did;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

use super::facts::{Channel, Fact, NodeIndex};
use super::sink::{Sink, index_of};

/// Events of the transport that wait to be passed on; there is room for as many behind them.
const EVENTS: usize = 16;

/// Who listens to a node's transport.
#[derive(Debug, Clone)]
pub struct Listening {
    /// The node.
    pub me: NodeIndex,
    /// The names of all.
    pub dids: Arc<[Did]>,
    /// Who is told; none if nobody wants to know.
    pub sink: Option<Sink>,
}

/// A transport, and who listens.
pub struct Overheard {
    inner: Arc<dyn Transport>,
    listening: Listening,
}

impl fmt::Debug for Overheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overheard").field("listening", &self.listening).finish_non_exhaustive()
    }
}

impl Overheard {
    /// Listens to `inner`.
    pub fn new(inner: Arc<dyn Transport>, listening: Listening) -> Self {
        Self { inner, listening }
    }
}

impl Listening {
    fn to(&self, peer: Did, pipe: Pipe) -> Pipe {
        let from = self.sink.clone().and_then(|sink| Some((sink, index_of(&self.dids, peer)?)));
        Box::new(Tapped { inner: pipe, me: self.me, from })
    }
}

impl Transport for Overheard {
    fn open(&self, peer: Did, protocol: &'static str) -> BoxFuture<'static, Result<Pipe, OpenError>> {
        let (opening, listening) = (self.inner.open(peer, protocol), self.listening.clone());
        Box::pin(async move { opening.await.map(|pipe| listening.to(peer, pipe)) })
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
        let mut events = self.inner.take_events()?;
        let (passed_on, passed) = mpsc::channel(EVENTS);
        let listening = self.listening.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let event = match event {
                    TransportEvent::Opened { peer, protocol, pipe } => {
                        TransportEvent::Opened { peer, protocol, pipe: listening.to(peer, pipe) }
                    }
                    event => event,
                };
                if passed_on.send(event).await.is_err() {
                    return;
                }
            }
        });
        Some(passed)
    }
}

/// One end of a pipe.
struct Tapped {
    inner: Pipe,
    me: NodeIndex,
    /// Whom to tell, and who is at the other end.
    from: Option<(Sink, NodeIndex)>,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let bytes = (buf.filled().len() - before) as u64;
        if let Some((sink, from)) = &self.from
            && bytes > 0
        {
            sink.tell(self.me, Fact::Heard { from: *from, by: Channel::Stream, bytes });
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
