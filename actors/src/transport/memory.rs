//! A transport inside one process, for tests and simulations: every member can reach every other
//! until they are cut off from each other.
//!
//! Keys are taken on trust: whoever asks the hub for a member's transport is that member.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;

use super::{OpenError, Pipe, Transport, TransportEvent};
use crate::Did;
use crate::runtime::lock;

/// Bytes in flight per direction of a pipe; like a connection's window, so that senders feel a
/// receiver that does not read.
const PIPE_BUFFER: usize = 64 * 1024;
/// Events that wait for a member. Streams are refused when half are taken, so that there is room for
/// ups and downs; a member that lets even those pile up is removed.
const EVENTS: usize = 1024;

/// A network inside this process. Cloning it gives another handle to the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<Hub>>);

#[derive(Default)]
struct Hub {
    members: BTreeMap<Did, mpsc::Sender<TransportEvent>>,
    /// Pairs that are connected, the lesser DID first.
    connected: BTreeSet<(Did, Did)>,
    /// Pairs that cannot connect.
    cut: BTreeSet<(Did, Did)>,
    /// Both ends of each pipe.
    pipes: BTreeMap<(Did, Did), Vec<[Weak<PipeEnd>; 2]>>,
    /// What every pipe goes through, if this network is the ground of another one.
    shape: Option<Shape>,
}

/// Makes the two ends of a pipe, the opener's first, from the two ends of a plain one; called while the
/// network is locked.
pub(crate) type Shape = Box<dyn Fn([Did; 2], [MemoryPipe; 2]) -> [Pipe; 2] + Send>;

/// A stream that the hub can take away.
type PipeEnd = Mutex<Option<DuplexStream>>;

fn pair(a: Did, b: Did) -> (Did, Did) {
    if a < b { (a, b) } else { (b, a) }
}

impl MemoryNetwork {
    /// The transport of the member `did`, who joins; one who joins again replaces itself.
    pub fn transport(&self, did: Did) -> Arc<MemoryTransport> {
        let (tx, rx) = mpsc::channel(EVENTS);
        let mut hub = lock(&self.0);
        hub.remove(did);
        hub.members.insert(did, tx);
        drop(hub);
        Arc::new(MemoryTransport { network: self.clone(), me: did, events: Mutex::new(Some(rx)) })
    }

    /// Connects two members (and lets them connect by themselves again).
    pub fn connect(&self, a: Did, b: Did) {
        let mut hub = lock(&self.0);
        hub.cut.remove(&pair(a, b));
        hub.connect(a, b);
    }

    /// Cuts two members off from each other: their pipes break, both hear of it, and neither reaches
    /// the other until [`Self::connect`].
    pub fn disconnect(&self, a: Did, b: Did) {
        let mut hub = lock(&self.0);
        hub.cut.insert(pair(a, b));
        hub.separate(a, b);
    }

    /// Breaks the connection of two members, as if their network had failed for a moment: their pipes break
    /// and both hear of it; either may connect again at once.
    pub fn interrupt(&self, a: Did, b: Did) {
        lock(&self.0).separate(a, b);
    }

    /// How many pipes are open: both of their ends are held by somebody.
    pub fn open_pipes(&self) -> usize {
        let is_open = |ends: &&[Weak<PipeEnd>; 2]| ends.iter().all(|end| end.strong_count() > 0);
        lock(&self.0).pipes.values().flatten().filter(is_open).count()
    }

    /// A network whose pipes go through `shape`.
    #[cfg(feature = "testing")]
    pub(crate) fn shaped(shape: Shape) -> Self {
        Self(Arc::new(Mutex::new(Hub { shape: Some(shape), ..Hub::default() })))
    }

    /// Takes a member out, as if its machine lost power: its pipes break, the others hear of it.
    pub fn kill(&self, did: Did) {
        lock(&self.0).remove(did);
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hub = lock(&self.0);
        f.debug_struct("MemoryNetwork")
            .field("members", &hub.members.len())
            .field("connected", &hub.connected.len())
            .finish()
    }
}

impl Hub {
    fn connect(&mut self, a: Did, b: Did) {
        let can = a != b && self.members.contains_key(&a) && self.members.contains_key(&b);
        if can && self.connected.insert(pair(a, b)) {
            self.tell(a, TransportEvent::Up(b));
            self.tell(b, TransportEvent::Up(a));
        }
    }

    fn separate(&mut self, a: Did, b: Did) {
        for end in self.pipes.remove(&pair(a, b)).unwrap_or_default().into_iter().flatten() {
            if let Some(end) = end.upgrade() {
                // Dropping one end wakes whoever waits on the other.
                let stream = lock(&end).take();
                drop(stream);
            }
        }
        if self.connected.remove(&pair(a, b)) {
            self.tell(a, TransportEvent::Down(b));
            self.tell(b, TransportEvent::Down(a));
        }
    }

    fn remove(&mut self, did: Did) {
        self.members.remove(&did);
        let pairs: Vec<_> = self.connected.iter().filter(|(a, b)| *a == did || *b == did).copied().collect();
        for (a, b) in pairs {
            self.separate(a, b);
        }
    }

    fn tell(&mut self, member: Did, event: TransportEvent) {
        let Some(events) = self.members.get(&member) else { return };
        if events.try_send(event).is_err() {
            self.remove(member);
        }
    }

    fn open(&mut self, me: Did, peer: Did, protocol: &'static str) -> Result<Pipe, OpenError> {
        if !self.members.contains_key(&me) {
            return Err(OpenError::Closed);
        }
        if !self.members.contains_key(&peer) || peer == me {
            return Err(OpenError::NoRoute(peer));
        }
        let unreachable = |reason: &str| OpenError::Unreachable { peer, reason: reason.to_owned() };
        if self.cut.contains(&pair(me, peer)) {
            return Err(unreachable("disconnected"));
        }
        self.connect(me, peer);
        // Gone if it lets its events pile up.
        let Some(events) = self.members.get(&peer) else { return Err(unreachable("gone")) };
        if events.capacity() < EVENTS / 2 {
            return Err(unreachable("busy"));
        }
        let (ours, theirs) = duplex(PIPE_BUFFER);
        let (ours, our_end) = MemoryPipe::new(ours);
        let (theirs, their_end) = MemoryPipe::new(theirs);
        let [ours, theirs]: [Pipe; 2] = match &self.shape {
            Some(shape) => shape([me, peer], [ours, theirs]),
            None => [Box::new(ours), Box::new(theirs)],
        };
        let opened = TransportEvent::Opened { peer: me, protocol, pipe: theirs };
        if events.try_send(opened).is_err() {
            self.remove(peer);
            return Err(unreachable("gone"));
        }
        let pipes = self.pipes.entry(pair(me, peer)).or_default();
        pipes.retain(|ends| ends.iter().any(|end| end.strong_count() > 0));
        pipes.push([our_end, their_end]);
        Ok(ours)
    }
}

/// One member's transport.
pub struct MemoryTransport {
    network: MemoryNetwork,
    me: Did,
    events: Mutex<Option<mpsc::Receiver<TransportEvent>>>,
}

impl fmt::Debug for MemoryTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransport").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Transport for MemoryTransport {
    fn open(&self, peer: Did, protocol: &'static str) -> BoxFuture<'static, Result<Pipe, OpenError>> {
        let opened = lock(&self.network.0).open(self.me, peer, protocol);
        Box::pin(async move { opened })
    }

    fn add_addresses(&self, _: Did, _: Vec<String>) {}

    fn listen_addresses(&self) -> Vec<String> {
        Vec::new()
    }

    fn connected_peers(&self) -> Vec<Did> {
        let hub = lock(&self.network.0);
        let other = |(a, b): &(Did, Did)| {
            if *a == self.me { Some(*b) } else { (*b == self.me).then_some(*a) }
        };
        let mut peers: Vec<_> = hub.connected.iter().filter_map(other).collect();
        peers.sort_unstable();
        peers
    }

    fn take_events(&self) -> Option<mpsc::Receiver<TransportEvent>> {
        lock(&self.events).take()
    }
}

/// One end of a pipe, which the hub can break.
pub(crate) struct MemoryPipe(Arc<PipeEnd>);

impl MemoryPipe {
    fn new(stream: DuplexStream) -> (Self, Weak<PipeEnd>) {
        let end = Arc::new(Mutex::new(Some(stream)));
        let weak = Arc::downgrade(&end);
        (Self(end), weak)
    }

    fn poll<T>(
        &self,
        poll: impl FnOnce(Pin<&mut DuplexStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *lock(&self.0) {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncRead for MemoryPipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for MemoryPipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}
