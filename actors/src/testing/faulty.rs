//! A network inside this process that fails as networks do, by a seed.
//!
//! [`MemoryNetwork`] knows who is a member and who is connected; here its pipes are slowed, cut into pieces,
//! stalled and reset, and members are partitioned. A pipe stays what every transport promises: bytes arrive in
//! order, once, until it is reset. What happens to a pipe is drawn from the seed, the names of its ends and its
//! number, so another pipe's traffic does not change it: under [`run`](super::run) the same seed gives the
//! same run.
//!
//! ```text
//!  writer ── pieces, resets ──▶ memory pipe ──▶ due times (delay, rate, stall) ── partition? ──▶ reader
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::chance::Chance;
use crate::Did;
use crate::runtime::lock;
use crate::transport::memory::{MemoryNetwork, MemoryPipe, MemoryTransport};
use crate::transport::{OpenError, Pipe, Transport, TransportEvent};

/// How long two partitioned members keep their connection: then their pipes are reset and both hear `Down`, as
/// with a QUIC connection that has gone silent.
pub const PARTITION_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of one direction of a pipe that may be on their way besides the memory pipe's own buffer: like the
/// window of a real connection, it makes `delay` limit what a pipe carries.
const WINDOW: usize = 256 * 1024;
/// The largest piece in which bytes travel.
const PIECE: usize = 4096;
/// Faults that are remembered; more only say that the test is long.
const MAX_INJECTED: usize = 10_000;

/// What goes wrong on the way from one member to another. Nothing, by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// How long bytes take.
    pub delay: Duration,
    /// How much longer they may take; drawn for each piece. They still arrive in order.
    pub jitter: Duration,
    /// Bytes per second; as many as there are without it.
    pub bandwidth: Option<u64>,
    /// The most bytes that one read or write moves; the number is drawn for each.
    pub max_chunk: Option<usize>,
    /// Times when nothing moves.
    pub stall: Option<Stall>,
    /// A pipe is reset after this many bytes in this direction; drawn from the range for each pipe. The bytes
    /// before that arrive.
    pub reset_after: Option<RangeInclusive<u64>>,
    /// A pipe is reset before the first byte of this frame of an actor link, counted from 1 (the greeting).
    pub reset_at_frame: Option<u64>,
    /// One in so many attempts to open a pipe is refused.
    pub refuse_one_in: Option<u32>,
}

/// See [`Faults::stall`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// One in so many pieces of up to 4 KiB stalls.
    pub one_in: u32,
    /// For this long.
    pub lasts: Duration,
}

impl Faults {
    /// No faults.
    pub fn none() -> Self {
        Self::default()
    }

    /// A bad line that still works: 20 to 70 ms, 1 MB/s, bytes in small pieces, now and then a stall.
    pub fn rough() -> Self {
        Self {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(50),
            bandwidth: Some(1_000_000),
            max_chunk: Some(700),
            stall: Some(Stall { one_in: 200, lasts: Duration::from_millis(500) }),
            ..Self::none()
        }
    }
}

/// A fault that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InjectedFault {
    /// From whom the bytes (or the attempt to open) came.
    pub from: Did,
    /// To whom they were going.
    pub to: Did,
    /// The number of the pipe between the two, or of the attempt, in the order of their opening.
    pub number: u64,
    /// What happened.
    pub what: WhatFailed,
}

/// See [`InjectedFault::what`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhatFailed {
    /// The pipe was not opened.
    Refused,
    /// Nothing moved for a while after this many bytes.
    Stalled {
        /// Bytes that had passed.
        after: u64,
    },
    /// The pipe was reset after this many bytes.
    Reset {
        /// Bytes that had passed.
        after: u64,
    },
    /// The partition lasted so long that the connection was given up.
    TimedOut,
}

/// From whom, to whom.
type Way = (Did, Did);

/// What is set and what has happened; every method holds the lock only to look or to write.
struct State {
    seed: u64,
    usual: Faults,
    special: BTreeMap<Way, Faults>,
    blocked: BTreeSet<Way>,
    /// Readers that wait for their way to be free again, in the order of their pipes.
    waiting: BTreeMap<u64, (Way, Waker)>,
    last_reader: u64,
    /// Gives up the connection of a pair (the lesser DID first) whose partition lasts.
    timeouts: BTreeMap<Way, AbortHandle>,
    pipes: BTreeMap<Way, u64>,
    opens: BTreeMap<Way, u64>,
    injected: Vec<InjectedFault>,
}

struct Shared {
    state: Mutex<State>,
    /// Notified when a way is free again.
    healed: Notify,
}

impl Shared {
    fn faults(&self, way: Way) -> Faults {
        let state = lock(&self.state);
        state.special.get(&way).unwrap_or(&state.usual).clone()
    }

    fn note(&self, (from, to): Way, number: u64, what: WhatFailed) {
        let injected = &mut lock(&self.state).injected;
        if injected.len() < MAX_INJECTED {
            injected.push(InjectedFault { from, to, number, what });
        }
    }

    fn chance(&self, (from, to): Way, number: u64, purpose: &[u8]) -> Chance {
        let seed = lock(&self.state).seed;
        let (from, to) = (from.to_string(), to.to_string());
        Chance::of(seed, &[purpose, from.as_bytes(), to.as_bytes(), &number.to_be_bytes()])
    }

    /// Both ends of a new pipe.
    fn shape(self: &Arc<Self>, [opener, acceptor]: [Did; 2], [ours, theirs]: [MemoryPipe; 2]) -> [Pipe; 2] {
        let number = {
            let mut state = lock(&self.state);
            let number = state.pipes.entry((opener, acceptor)).or_default();
            *number += 1;
            *number
        };
        let is_reset = Arc::new(AtomicBool::new(false));
        let end = |inner, me, peer, purpose: [&'static [u8]; 2]| -> Pipe {
            Box::new(End {
                inner: Some(inner),
                is_reset: is_reset.clone(),
                reading: Reading::new(self.clone(), (peer, me), number, purpose[0]),
                writing: Writing::new(self.clone(), (me, peer), number, purpose[1]),
            })
        };
        // Pipes that the two open to each other are told apart by who has opened them.
        [
            end(ours, opener, acceptor, [b"opener reads", b"opener writes"]),
            end(theirs, acceptor, opener, [b"acceptor reads", b"acceptor writes"]),
        ]
    }

    fn is_clear(&self, a: Did, b: Did) -> bool {
        let state = lock(&self.state);
        !state.blocked.contains(&(a, b)) && !state.blocked.contains(&(b, a))
    }

    /// Waits until bytes pass both ways.
    async fn clear(&self, a: Did, b: Did) {
        loop {
            let mut healed = std::pin::pin!(self.healed.notified());
            healed.as_mut().enable();
            if self.is_clear(a, b) {
                return;
            }
            healed.await;
        }
    }
}

/// A network with seeded faults. Cloning it gives another handle to the same network.
///
/// Members that join can reach each other at once, without any fault; then a test makes it worse. Faults are
/// set for pipes that are opened from then on.
///
/// ```
/// # use dms_actors::testing::{self, Faults};
/// # use std::time::Duration;
/// testing::run(1, |world| async move {
///     let network = world.network();
///     network.set_faults(Faults::rough());
///     let (a, b) = (world.did("a"), world.did("b"));
///     // Only what `a` says to `b` takes long.
///     network.set_faults_between(a, b, Faults { delay: Duration::from_secs(2), ..Faults::none() });
///     network.partition_one_way(a, b);
///     network.heal(a, b);
/// });
/// ```
#[derive(Clone)]
pub struct FaultyNetwork {
    memory: MemoryNetwork,
    shared: Arc<Shared>,
}

impl FaultyNetwork {
    /// A network whose faults are drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = State {
            seed,
            usual: Faults::none(),
            special: BTreeMap::new(),
            blocked: BTreeSet::new(),
            waiting: BTreeMap::new(),
            last_reader: 0,
            timeouts: BTreeMap::new(),
            pipes: BTreeMap::new(),
            opens: BTreeMap::new(),
            injected: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), healed: Notify::new() });
        let shaping = shared.clone();
        let memory = MemoryNetwork::shaped(Box::new(move |ends, pipes| shaping.shape(ends, pipes)));
        Self { memory, shared }
    }

    /// The transport of the member `did`, who joins; one who joins again replaces itself.
    pub fn transport(&self, did: Did) -> Arc<dyn Transport> {
        Arc::new(FaultyTransport { me: did, inner: self.memory.transport(did), shared: self.shared.clone() })
    }

    /// The faults of every way that has none of its own.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.shared.state).usual = faults;
    }

    /// The faults of what `from` says to `to`.
    pub fn set_faults_between(&self, from: Did, to: Did, faults: Faults) {
        lock(&self.shared.state).special.insert((from, to), faults);
    }

    /// From now on nothing passes between the two, and nobody is told. What was on its way arrives after
    /// [`Self::heal`]; after [`PARTITION_TIMEOUT`] their connection is given up. Needs a tokio context.
    pub fn partition(&self, a: Did, b: Did) {
        self.block(&[(a, b), (b, a)]);
    }

    /// The same for what `from` says to `to` only. New pipes need both ways, so neither can open one.
    pub fn partition_one_way(&self, from: Did, to: Did) {
        self.block(&[(from, to)]);
    }

    /// Ends a partition, one-way or two-way.
    pub fn heal(&self, a: Did, b: Did) {
        let mut state = lock(&self.shared.state);
        let mut woken = Vec::new();
        for way in [(a, b), (b, a)] {
            state.blocked.remove(&way);
        }
        let blocked = std::mem::take(&mut state.waiting);
        for (reader, (way, waker)) in blocked {
            if state.blocked.contains(&way) {
                state.waiting.insert(reader, (way, waker));
            } else {
                woken.push(waker);
            }
        }
        if let Some(timeout) = state.timeouts.remove(&pair(a, b)) {
            timeout.abort();
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        self.shared.healed.notify_waiters();
    }

    /// Breaks the connection of the two at once: pipes are reset, both hear `Down`, either may connect again.
    pub fn interrupt(&self, a: Did, b: Did) {
        self.memory.interrupt(a, b);
    }

    /// The same, and neither reaches the other until [`Self::reconnect`].
    pub fn disconnect(&self, a: Did, b: Did) {
        self.memory.disconnect(a, b);
    }

    /// Connects the two, and undoes [`Self::disconnect`].
    pub fn reconnect(&self, a: Did, b: Did) {
        self.memory.connect(a, b);
    }

    /// Takes a member out, as if its machine lost power.
    pub fn kill(&self, did: Did) {
        self.memory.kill(did);
    }

    /// How many pipes are open.
    pub fn open_pipes(&self) -> usize {
        self.memory.open_pipes()
    }

    /// The faults that have happened, in their order; the first 10,000.
    pub fn injected(&self) -> Vec<InjectedFault> {
        lock(&self.shared.state).injected.clone()
    }

    fn block(&self, ways: &[Way]) {
        let (a, b) = ways[0];
        lock(&self.shared.state).blocked.extend(ways);
        let (memory, shared) = (self.memory.clone(), self.shared.clone());
        let given_up = tokio::spawn(async move {
            sleep(PARTITION_TIMEOUT).await;
            shared.note((a, b), 0, WhatFailed::TimedOut);
            memory.interrupt(a, b);
        });
        let before = lock(&self.shared.state).timeouts.insert(pair(a, b), given_up.abort_handle());
        if let Some(before) = before {
            before.abort();
        }
    }
}

impl fmt::Debug for FaultyNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = lock(&self.shared.state).seed;
        f.debug_struct("FaultyNetwork").field("seed", &seed).field("memory", &self.memory).finish()
    }
}

fn pair(a: Did, b: Did) -> Way {
    if a < b { (a, b) } else { (b, a) }
}

/// One member's transport.
struct FaultyTransport {
    me: Did,
    inner: Arc<MemoryTransport>,
    shared: Arc<Shared>,
}

impl Transport for FaultyTransport {
    fn open(&self, peer: Did, protocol: &'static str) -> BoxFuture<'static, Result<Pipe, OpenError>> {
        let (me, inner, shared) = (self.me, self.inner.clone(), self.shared.clone());
        Box::pin(async move {
            let (out, back) = (shared.faults((me, peer)), shared.faults((peer, me)));
            let number = {
                let mut state = lock(&shared.state);
                let number = state.opens.entry((me, peer)).or_default();
                *number += 1;
                *number
            };
            let mut chance = shared.chance((me, peer), number, b"open");
            let unreachable = |reason: &str| OpenError::Unreachable { peer, reason: reason.to_owned() };
            // There and back: the agreement on the protocol.
            let round_trip =
                out.delay + chance.duration(out.jitter) + back.delay + chance.duration(back.jitter);
            let refused = out.refuse_one_in.is_some_and(|many| chance.one_in(many));
            if !round_trip.is_zero() {
                sleep(round_trip).await;
            }
            if timeout(PARTITION_TIMEOUT, shared.clear(me, peer)).await.is_err() {
                return Err(unreachable("no answer"));
            }
            if refused {
                shared.note((me, peer), number, WhatFailed::Refused);
                return Err(unreachable("refused"));
            }
            inner.open(peer, protocol).await
        })
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
        self.inner.take_events()
    }
}

/// One end of a pipe.
struct End {
    /// Gone once this end has reset the pipe.
    inner: Option<MemoryPipe>,
    /// Set by the end that resets the pipe; the other one sees it behind the last byte.
    is_reset: Arc<AtomicBool>,
    reading: Reading,
    writing: Writing,
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// Bytes that have been taken from the memory pipe and arrive when they are due.
struct Piece {
    due: Instant,
    bytes: Vec<u8>,
    taken: usize,
}

/// What stands behind the last byte.
enum Last {
    End(Instant),
    Reset(Instant),
}

/// The reading half: when bytes arrive.
struct Reading {
    shared: Arc<Shared>,
    /// Its number among all readers of the network.
    reader: u64,
    way: Way,
    number: u64,
    faults: Faults,
    chance: Chance,
    queue: VecDeque<Piece>,
    queued: usize,
    last: Option<Last>,
    /// When the line has carried everything so far.
    free_at: Instant,
    last_due: Instant,
    passed: u64,
    alarm: Pin<Box<Sleep>>,
}

impl Reading {
    fn new(shared: Arc<Shared>, way: Way, number: u64, purpose: &[u8]) -> Self {
        let (faults, chance, now) = (shared.faults(way), shared.chance(way, number, purpose), Instant::now());
        let reader = {
            let mut state = lock(&shared.state);
            state.last_reader += 1;
            state.last_reader
        };
        Self {
            shared,
            reader,
            way,
            number,
            faults,
            chance,
            queue: VecDeque::new(),
            queued: 0,
            last: None,
            free_at: now,
            last_due: now,
            passed: 0,
            alarm: Box::pin(sleep_until(now)),
        }
    }

    /// When `length` bytes that start now arrive; never before those that started earlier.
    fn due(&mut self, length: usize) -> Instant {
        let now = Instant::now();
        self.free_at = self.free_at.max(now);
        if let Some(rate) = self.faults.bandwidth {
            self.free_at += Duration::from_secs_f64(length as f64 / rate.max(1) as f64);
        }
        let mut due = self.free_at + self.faults.delay + self.chance.duration(self.faults.jitter);
        if let Some(stall) = self.faults.stall
            && length > 0
            && self.chance.one_in(stall.one_in)
        {
            self.shared.note(self.way, self.number, WhatFailed::Stalled { after: self.passed });
            due += stall.lasts;
        }
        self.last_due = self.last_due.max(due);
        self.last_due
    }

    /// Takes what is there, up to the window.
    fn fill(
        &mut self,
        inner: &mut MemoryPipe,
        is_reset: &AtomicBool,
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        let mut scratch = [0; PIECE];
        while self.last.is_none() && self.queued < WINDOW {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *inner).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(result) => result?,
            }
            let bytes = buffer.filled().to_vec();
            let due = self.due(bytes.len());
            if bytes.is_empty() {
                let was_reset = is_reset.load(Ordering::Acquire);
                self.last = Some(if was_reset { Last::Reset(due) } else { Last::End(due) });
            } else {
                self.passed += bytes.len() as u64;
                self.queued += bytes.len();
                self.queue.push_back(Piece { due, bytes, taken: 0 });
            }
        }
        Ok(())
    }

    /// Gives out what is due.
    fn poll_give(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        {
            let mut state = lock(&self.shared.state);
            if state.blocked.contains(&self.way) {
                state.waiting.insert(self.reader, (self.way, cx.waker().clone()));
                return Poll::Pending;
            }
        }
        let due = match (self.queue.front(), &self.last) {
            (Some(piece), _) => piece.due,
            (None, Some(Last::End(due) | Last::Reset(due))) => *due,
            (None, None) => return Poll::Pending,
        };
        if due > Instant::now() {
            self.alarm.as_mut().reset(due);
            ready!(self.alarm.as_mut().poll(cx));
        }
        let Some(piece) = self.queue.front_mut() else {
            return Poll::Ready(if matches!(self.last, Some(Last::Reset(_))) {
                Err(reset())
            } else {
                Ok(())
            });
        };
        let most = (piece.bytes.len() - piece.taken).min(out.remaining());
        let length = chunk(self.faults.max_chunk, &mut self.chance, most);
        out.put_slice(&piece.bytes[piece.taken..piece.taken + length]);
        piece.taken += length;
        self.queued -= length;
        if piece.taken == piece.bytes.len() {
            self.queue.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let waited = lock(&self.shared.state).waiting.remove(&self.reader);
        drop(waited);
    }
}

/// How many of `most` bytes are moved at once.
fn chunk(limit: Option<usize>, chance: &mut Chance, most: usize) -> usize {
    match limit {
        Some(limit) if most > 1 => {
            let most = most.min(limit.max(1));
            1 + usize::try_from(chance.up_to(most as u64 - 1)).unwrap_or(0)
        }
        _ => most,
    }
}

/// The writing half: how many bytes go at once, and when the pipe is reset.
struct Writing {
    shared: Arc<Shared>,
    way: Way,
    number: u64,
    faults: Faults,
    chance: Chance,
    passed: u64,
    reset_after: Option<u64>,
    frames: Frames,
}

impl Writing {
    fn new(shared: Arc<Shared>, way: Way, number: u64, purpose: &[u8]) -> Self {
        let (faults, mut chance) = (shared.faults(way), shared.chance(way, number, purpose));
        let reset_after = faults.reset_after.as_ref().map(|range| {
            range.start().saturating_add(chance.up_to(range.end().saturating_sub(*range.start())))
        });
        Self { shared, way, number, faults, chance, passed: 0, reset_after, frames: Frames::default() }
    }

    /// How many of these bytes may pass now; none if the pipe is to be reset.
    fn allowed(&mut self, bytes: &[u8]) -> usize {
        let mut most = chunk(self.faults.max_chunk, &mut self.chance, bytes.len());
        if let Some(limit) = self.reset_after {
            most = most.min(usize::try_from(limit - self.passed).unwrap_or(usize::MAX));
        }
        if let Some(frame) = self.faults.reset_at_frame {
            most = most.min(self.frames.before(frame, &bytes[..most]));
        }
        most
    }
}

/// Follows the frames of a link through its bytes: a length of four bytes, then as many bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Frames {
    /// How many have begun.
    begun: u64,
    length: [u8; 4],
    /// How many bytes of the length are known.
    known: usize,
    /// How many bytes of the frame are still to come.
    left: usize,
}

impl Frames {
    /// One byte passes; true if it is the first of a frame.
    fn pass(&mut self, byte: u8) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        let is_first = self.known == 0;
        if is_first {
            self.begun += 1;
        }
        self.length[self.known] = byte;
        self.known += 1;
        if self.known == self.length.len() {
            self.left = u32::from_be_bytes(self.length) as usize;
            self.known = 0;
        }
        is_first
    }

    /// How many of `bytes` come before the first byte of frame `number`.
    fn before(mut self, number: u64, bytes: &[u8]) -> usize {
        let is_it = |byte: &u8| self.pass(*byte) && self.begun >= number;
        bytes.iter().position(is_it).unwrap_or(bytes.len())
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Ready(Err(reset())) };
        this.reading.fill(inner, &this.is_reset, cx)?;
        this.reading.poll_give(cx, out)
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Ready(Err(reset())) };
        let allowed = this.writing.allowed(bytes);
        if allowed == 0 && !bytes.is_empty() {
            let writing = &this.writing;
            writing.shared.note(writing.way, writing.number, WhatFailed::Reset { after: writing.passed });
            this.is_reset.store(true, Ordering::Release);
            // Dropping it wakes the other end.
            this.inner = None;
            return Poll::Ready(Err(reset()));
        }
        let written = ready!(Pin::new(inner).poll_write(cx, &bytes[..allowed]))?;
        this.writing.passed += written as u64;
        for byte in &bytes[..written] {
            this.writing.frames.pass(*byte);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Some(inner) => Pin::new(inner).poll_flush(cx),
            None => Poll::Ready(Err(reset())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Some(inner) => Pin::new(inner).poll_shutdown(cx),
            None => Poll::Ready(Err(reset())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_their_bytes_are_cut() {
        // Frames of 2, 0 and 3 bytes.
        let bytes = [0, 0, 0, 2, 7, 7, 0, 0, 0, 0, 0, 0, 0, 3, 8, 8, 8];
        for (number, before) in [(1, 0), (2, 6), (3, 10), (4, bytes.len())] {
            assert_eq!(Frames::default().before(number, &bytes), before, "{number}");
            for cut in 0..before {
                let mut frames = Frames::default();
                for byte in &bytes[..cut] {
                    frames.pass(*byte);
                }
                assert_eq!(frames.before(number, &bytes[cut..]), before - cut, "{number} cut at {cut}");
            }
        }
    }
}
