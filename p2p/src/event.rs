//! What goes out to the consumer: ups and downs, and the streams that peers open, in order.
//!
//! The loop must never wait for a consumer, and an up or a down must never be lost. So the channel is
//! bounded, ups and downs that do not fit wait here, and a stream that does not fit is dropped (its
//! opener sees a reset). What waits here is bounded by the connections: a peer that comes and goes
//! while nobody looks leaves at most a down and an up behind.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use dms_actors::Did;
use dms_actors::transport::{Pipe, TransportEvent};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// Events that fit between the loop and its consumer: a burst of streams from every peer at once.
const CAPACITY: usize = 256;

/// An up or a down that waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Up(Did),
    Down(Did),
}

impl Edge {
    fn peer(self) -> Did {
        match self {
            Self::Up(peer) | Self::Down(peer) => peer,
        }
    }
}

impl From<Edge> for TransportEvent {
    fn from(edge: Edge) -> Self {
        match edge {
            Edge::Up(peer) => Self::Up(peer),
            Edge::Down(peer) => Self::Down(peer),
        }
    }
}

/// The sending end of the consumer's events.
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<TransportEvent>,
    /// The same channel, for the edges that wait for room in it.
    patient: PollSender<TransportEvent>,
    waiting: VecDeque<Edge>,
    dropped_streams: u64,
}

impl Outbox {
    /// An outbox and the consumer's end of it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<TransportEvent>) {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> (Self, mpsc::Receiver<TransportEvent>) {
        let (sender, receiver) = mpsc::channel(capacity);
        let patient = PollSender::new(sender.clone());
        (Self { sender, patient, waiting: VecDeque::new(), dropped_streams: 0 }, receiver)
    }

    /// Reports the first connection to a peer.
    pub(crate) fn up(&mut self, peer: Did) {
        self.report(Edge::Up(peer));
    }

    /// Reports the end of the last connection to a peer.
    pub(crate) fn down(&mut self, peer: Did) {
        let last = self.waiting.iter().rposition(|edge| edge.peer() == peer);
        match last.map(|index| (index, self.waiting[index])) {
            // The up was never seen, so neither is its down. If a down waits before it, that one stays.
            Some((index, Edge::Up(_))) => {
                self.waiting.remove(index);
                if self.waiting.is_empty() {
                    // The place that was waited for goes back to whoever comes next.
                    self.patient.abort_send();
                }
            }
            _ => self.report(Edge::Down(peer)),
        }
    }

    /// Hands over a stream, or drops it if the consumer lags.
    pub(crate) fn opened(&mut self, peer: Did, protocol: &'static str, pipe: Pipe) {
        // A stream must not overtake the up of its peer.
        let has_room = self.waiting.is_empty();
        if !has_room || self.sender.try_send(TransportEvent::Opened { peer, protocol, pipe }).is_err() {
            self.dropped_streams += 1;
            tracing::warn!(peer = %peer, protocol, "dropped a stream because its consumer lags");
        }
    }

    /// How many streams were dropped since the start.
    pub(crate) fn dropped_streams(&self) -> u64 {
        self.dropped_streams
    }

    /// Moves one waiting edge to the consumer as soon as there is room; never ends while none waits.
    /// Cancel-safe: an edge leaves only together with its permit.
    pub(crate) async fn flush_one(&mut self) {
        poll_fn(|cx| self.poll_flush_one(cx)).await;
    }

    /// The same for whoever polls: ready when one edge has left, pending while none waits.
    pub(crate) fn poll_flush_one(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.patient.poll_reserve(cx)) {
            Ok(()) => {
                if let Some(edge) = self.waiting.pop_front() {
                    // Fails only if the consumer has gone since, and then there is nobody to tell.
                    let _ = self.patient.send_item(edge.into());
                }
            }
            // Nobody will ever look again.
            Err(_) => self.waiting.clear(),
        }
        Poll::Ready(())
    }

    fn report(&mut self, edge: Edge) {
        let was_sent = self.waiting.is_empty() && self.sender.try_send(edge.into()).is_ok();
        if !was_sent && !self.sender.is_closed() {
            self.waiting.push_back(edge);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_actors::Keypair;
    use dms_actors::transport::LINK_PROTOCOL;

    fn did(seed: u8) -> Did {
        Keypair::from_secret(&[seed; 32]).did()
    }

    fn pipe() -> Pipe {
        Box::new(tokio::io::duplex(1).0)
    }

    async fn drain(mut outbox: Outbox, mut receiver: mpsc::Receiver<TransportEvent>) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            while let Ok(event) = receiver.try_recv() {
                seen.push(match event {
                    TransportEvent::Up(peer) => format!("up {}", peer.short()),
                    TransportEvent::Down(peer) => format!("down {}", peer.short()),
                    TransportEvent::Opened { peer, .. } => format!("opened {}", peer.short()),
                });
            }
            if outbox.waiting.is_empty() {
                return seen;
            }
            outbox.flush_one().await;
        }
    }

    #[tokio::test]
    async fn a_lagging_consumer_misses_streams_and_no_up_or_down() {
        let (mut outbox, receiver) = Outbox::with_capacity(1);
        let (a, b) = (did(1), did(2));
        outbox.up(a);
        outbox.up(b);
        outbox.opened(b, LINK_PROTOCOL, pipe());
        outbox.down(a);
        outbox.up(a);
        assert_eq!(outbox.dropped_streams(), 1);
        let names = [("up", a), ("up", b), ("down", a), ("up", a)]
            .map(|(what, who)| format!("{what} {}", who.short()));
        assert_eq!(drain(outbox, receiver).await, names);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_however_often_a_peer_comes_and_goes() {
        let (mut outbox, receiver) = Outbox::with_capacity(1);
        let (a, b) = (did(1), did(2));
        outbox.up(a);
        for _ in 0..1000 {
            outbox.down(a);
            outbox.up(a);
            outbox.up(b);
            outbox.down(b);
        }
        assert!(outbox.waiting.len() <= 2, "{:?}", outbox.waiting);
        outbox.down(a);
        assert_eq!(
            drain(outbox, receiver).await,
            [format!("up {}", a.short()), format!("down {}", a.short())]
        );
    }

    #[tokio::test]
    async fn a_consumer_that_is_gone_holds_nothing_back() {
        let (mut outbox, receiver) = Outbox::with_capacity(1);
        outbox.up(did(1));
        outbox.up(did(2));
        drop(receiver);
        outbox.flush_one().await;
        outbox.up(did(3));
        assert!(outbox.waiting.is_empty());
    }
}
