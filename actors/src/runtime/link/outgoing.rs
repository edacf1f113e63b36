//! Our words to one peer: credit, the queue, unacknowledged words, open asks and watches.
//!
//! A sender takes credit for its target, room in the queue, and (for an ask) a place among the open
//! asks; with all of them at hand it writes its frame into the queue, at one go under one lock. Until
//! then it can give up at no cost. A dead link gives every open ask, watch and unacknowledged word its
//! outcome, once.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::sync::{Semaphore, TryAcquireError, oneshot};
use tokio::time::{Instant, Sleep, sleep_until};

use super::super::system::Shared;
use super::super::{
    ActorPath, DeadLetter, DeadLetterReason, ExitReason, Refusal, SendFailure, TraceContext, lock,
};
use super::buffer::{Chunk, Chunks, FrameBuffer, FrameRange, Writing};
use super::frame::{self, FrameError, Header, Word};
use super::replies::Signal;
use super::{CREDIT, HEARTBEAT, MAX_BODY_LENGTH, MAX_OPEN_ASKS, MAX_REQUESTS, READ_TURN, SILENCE};
use crate::transport::Pipe;
use crate::{Did, Kind};

/// Bytes queued for one peer and not yet written: what a stalled connection may cost us.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of questions that are not yet written; beyond it no more can be asked. A full set of requests fits, however
/// long their paths are.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// What a queued word counts for beside its texts and its body: the rest of its frame, and what is kept of it.
const WORD_OVERHEAD: usize = 128;
/// Targets of a link at which idle ones are forgotten; a forgotten one starts again with full credit,
/// as it does at the receiver.
const MAX_IDLE_TARGETS: usize = 256;
/// Targets of a link in all.
const MAX_TARGETS: usize = 4096;

/// How an ask ended at the link.
pub(super) enum Outcome<'a> {
    Reply(&'a [u8]),
    Refused(Refusal),
    Lost,
}

/// Takes the outcome of one ask; runs in the link's task.
pub(super) type Resolver = Box<dyn FnOnce(Outcome<'_>) + Send>;

/// Where a sender's words go and what they are: the same for all of them.
pub(super) struct Target {
    pub(super) path: ActorPath,
    pub(super) kind: Kind,
    /// `name/version`.
    pub(super) kind_text: String,
    pub(super) type_name: &'static str,
    /// Where the sender says it lives.
    pub(super) from: Option<ActorPath>,
}

/// A word to be sent.
pub(super) struct Outgoing<'a> {
    pub(super) target: &'a Arc<Target>,
    pub(super) body: &'a [u8],
    /// When nobody waits for it any more.
    pub(super) deadline: Option<Instant>,
    pub(super) trace: Option<TraceContext>,
}

impl Outgoing<'_> {
    /// The time that is left for it, as the receiver is told.
    fn ttl_ms(&self) -> Result<Option<u64>, SendFailure> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SendFailure::Expired);
        }
        // Rounded up: what has time left is not sent as if it had none.
        Ok(Some(u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)))
    }

    /// The queued bytes that it counts for, at least as many as its frame has.
    fn room(&self) -> Result<u32, SendFailure> {
        if self.body.len() > MAX_BODY_LENGTH {
            return Err(SendFailure::TooLong);
        }
        let from = self.target.from.as_ref().map_or(0, |from| from.as_str().len());
        let texts = self.target.path.as_str().len() + self.target.kind_text.len() + from;
        u32::try_from(self.body.len() + texts + WORD_OVERHEAD).map_err(|_| SendFailure::TooLong)
    }
}

/// What is kept of a word until the receiver's mailbox took it.
struct Unacknowledged {
    id: u64,
    target: Arc<Target>,
    /// Its outcome is known to somebody: an ask's asker, or the dead letters.
    is_settled: bool,
}

struct Lane {
    credit: Arc<Semaphore>,
    unacknowledged: VecDeque<Unacknowledged>,
}

impl Lane {
    fn new() -> Self {
        Self { credit: Arc::new(Semaphore::new(CREDIT)), unacknowledged: VecDeque::new() }
    }
}

/// A question that waits for its answer.
enum Request {
    Lookup(oneshot::Sender<Result<(), Refusal>>),
    Watch(oneshot::Sender<Result<ExitReason, Refusal>>),
}

/// Somebody waits for the words up to a number.
struct Flush {
    through: u64,
    /// How many of them are not taken yet.
    left: usize,
    done: oneshot::Sender<()>,
}

#[derive(Default)]
struct State {
    is_dead: bool,
    last_id: u64,
    last_request: u64,
    /// By path.
    lanes: BTreeMap<ActorPath, Lane>,
    /// Words in all lanes.
    unacknowledged: usize,
    asks: BTreeMap<u64, Resolver>,
    requests: BTreeMap<u64, Request>,
    /// Who waits until the words that were there are taken: one per caller.
    flushes: Vec<Flush>,
    /// Short frames to be written before the words.
    system: Vec<u8>,
    words: Chunks,
}

impl State {
    fn say(&mut self, header: &Header<'_>) {
        // Paths, kinds and numbers always fit into a header.
        let _ = frame::append(&mut self.system, header, &[]);
    }

    /// True while somebody waits for a sign of the peer, or it has not taken what was said.
    fn is_awaited(&self) -> bool {
        self.unacknowledged > 0
            || !self.asks.is_empty()
            || !self.requests.is_empty()
            || !self.system.is_empty()
    }
}

/// A link to a peer, up until it [dies](Link::die).
pub(super) struct Link {
    shared: Arc<Shared>,
    peer: Did,
    state: Mutex<State>,
    /// Room for queued bytes.
    bytes: Semaphore,
    /// Places for open asks.
    asks: Semaphore,
    signal: Signal,
}

fn link_lost() -> SendFailure {
    SendFailure::Unreachable("the link was lost".to_owned())
}

fn refused(error: TryAcquireError) -> SendFailure {
    match error {
        TryAcquireError::NoPermits => SendFailure::Full,
        TryAcquireError::Closed => link_lost(),
    }
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>, peer: Did) -> Arc<Self> {
        Arc::new(Self {
            shared,
            peer,
            state: Mutex::default(),
            bytes: Semaphore::new(MAX_QUEUED_BYTES),
            asks: Semaphore::new(MAX_OPEN_ASKS),
            signal: Signal::default(),
        })
    }

    /// True once it is of no more use.
    pub(super) fn is_dead(&self) -> bool {
        self.signal.is_stopped()
    }

    /// Lets the link's task end, which settles everything.
    pub(super) fn kill(&self) {
        self.signal.stop();
    }

    /// Told when the peer has taken every word sent to it until now, dropped if the link dies before; `None` if
    /// there is nothing to wait for.
    pub(super) fn settled(&self) -> Option<oneshot::Receiver<()>> {
        let mut state = lock(&self.state);
        if state.unacknowledged == 0 {
            return None;
        }
        let (done, settled) = oneshot::channel();
        let (through, left) = (state.last_id, state.unacknowledged);
        // Those of callers that gave up.
        state.flushes.retain(|flush| !flush.done.is_closed());
        state.flushes.push(Flush { through, left, done });
        Some(settled)
    }

    /// Queues a word, waiting for credit and room; says its number. With a resolver it is an ask.
    pub(super) async fn send(
        &self,
        word: &Outgoing<'_>,
        mut ask: Option<Resolver>,
    ) -> Result<u64, SendFailure> {
        match self.try_send(word, &mut ask) {
            Err(SendFailure::Full) => {}
            sent => return sent,
        }
        let room = word.room()?;
        let credit = {
            let mut state = self.living()?;
            Self::lane(&mut state, &word.target.path)?.credit.clone()
        };
        let credit = credit.acquire().await.map_err(|_| link_lost())?;
        let bytes = self.bytes.acquire_many(room).await.map_err(|_| link_lost())?;
        let place = match &ask {
            Some(_) => Some(self.asks.acquire().await.map_err(|_| link_lost())?),
            None => None,
        };
        let mut state = self.living()?;
        let id = self.commit(&mut state, word, room, &mut ask)?;
        credit.forget();
        bytes.forget();
        if let Some(place) = place {
            place.forget();
        }
        Ok(id)
    }

    /// Queues a word if there is credit and room now. The resolver is taken only by success.
    pub(super) fn try_send(
        &self,
        word: &Outgoing<'_>,
        ask: &mut Option<Resolver>,
    ) -> Result<u64, SendFailure> {
        let room = word.room()?;
        let mut state = self.living()?;
        let credit = Self::lane(&mut state, &word.target.path)?.credit.clone();
        let credit = credit.try_acquire().map_err(refused)?;
        let bytes = self.bytes.try_acquire_many(room).map_err(refused)?;
        let place = match ask {
            Some(_) => Some(self.asks.try_acquire().map_err(refused)?),
            None => None,
        };
        let id = self.commit(&mut state, word, room, ask)?;
        // They come back when the receiver took the word, when it is written, and with the outcome.
        credit.forget();
        bytes.forget();
        if let Some(place) = place {
            place.forget();
        }
        Ok(id)
    }

    fn living(&self) -> Result<MutexGuard<'_, State>, SendFailure> {
        let state = lock(&self.state);
        if state.is_dead || self.is_dead() { Err(link_lost()) } else { Ok(state) }
    }

    /// The lane of a target.
    fn lane<'a>(state: &'a mut State, to: &ActorPath) -> Result<&'a mut Lane, SendFailure> {
        if !state.lanes.contains_key(to) {
            if state.lanes.len() >= MAX_IDLE_TARGETS {
                // Held credit is on its way to a commit.
                let is_used =
                    |lane: &Lane| !lane.unacknowledged.is_empty() || Arc::strong_count(&lane.credit) > 1;
                state.lanes.retain(|_, lane| is_used(lane));
            }
            if state.lanes.len() >= MAX_TARGETS {
                return Err(SendFailure::Full);
            }
        }
        Ok(state.lanes.entry(to.clone()).or_insert_with(Lane::new))
    }

    /// Numbers, records and queues a word in one step, so that numbers and the queue have one order.
    fn commit(
        &self,
        state: &mut State,
        word: &Outgoing<'_>,
        room: u32,
        ask: &mut Option<Resolver>,
    ) -> Result<u64, SendFailure> {
        let target = word.target;
        let id = state.last_id + 1;
        let header = Header::Word(Word {
            to: target.path.as_str(),
            kind: &target.kind_text,
            id,
            is_ask: ask.is_some(),
            // As of now: it may have waited for credit and room.
            ttl_ms: word.ttl_ms()?,
            from: target.from.as_ref().map(ActorPath::as_str),
            trace: word.trace,
        });
        // The credit's holder keeps the lane from being forgotten, so it is there.
        let Some(lane) = state.lanes.get_mut(&target.path) else { return Err(link_lost()) };
        state.words.push(&header, word.body, room as usize).map_err(|_| SendFailure::TooLong)?;
        let is_settled = ask.is_some();
        lane.unacknowledged.push_back(Unacknowledged { id, target: target.clone(), is_settled });
        state.unacknowledged += 1;
        state.last_id = id;
        if let Some(resolver) = ask.take() {
            state.asks.insert(id, resolver);
        }
        self.signal.wake();
        Ok(id)
    }

    /// The asker no longer waits.
    pub(super) fn forget_ask(&self, id: u64) {
        drop(self.take_ask(&mut lock(&self.state), id));
    }

    fn take_ask(&self, state: &mut State, id: u64) -> Option<Resolver> {
        let resolver = state.asks.remove(&id)?;
        self.asks.add_permits(1);
        Some(resolver)
    }

    /// Asks the peer whether an actor at `to` understands the kind.
    pub(super) fn look_up(
        &self,
        to: &ActorPath,
        kind: &str,
    ) -> Result<(u64, oneshot::Receiver<Result<(), Refusal>>), SendFailure> {
        let (tx, rx) = oneshot::channel();
        let header = |request| Header::Lookup { request, to: to.as_str(), kind };
        Ok((self.request(Request::Lookup(tx), header)?, rx))
    }

    /// Asks the peer to be told how the actor at `to` ends.
    pub(super) fn watch(
        &self,
        to: &ActorPath,
    ) -> Result<(u64, oneshot::Receiver<Result<ExitReason, Refusal>>), SendFailure> {
        let (tx, rx) = oneshot::channel();
        let header = |request| Header::Watch { request, to: to.as_str() };
        Ok((self.request(Request::Watch(tx), header)?, rx))
    }

    fn request<'a>(
        &self,
        request: Request,
        header: impl FnOnce(u64) -> Header<'a>,
    ) -> Result<u64, SendFailure> {
        let mut state = self.living()?;
        // Also by bytes: questions that were taken back are no requests any more, but were not written either.
        if state.requests.len() >= MAX_REQUESTS || state.system.len() >= MAX_REQUEST_BYTES {
            return Err(SendFailure::Full);
        }
        state.last_request += 1;
        let number = state.last_request;
        state.requests.insert(number, request);
        state.say(&header(number));
        drop(state);
        self.signal.wake();
        Ok(number)
    }

    /// Shows the peer anew what this system is, before the words that follow.
    pub(super) fn introduce(&self, credentials: &[u8]) {
        let mut state = lock(&self.state);
        // Behind a peer that reads nothing it is not said, and neither is anything else: the next link begins with it.
        if state.is_dead || state.system.len() >= MAX_REQUEST_BYTES {
            return;
        }
        let _ = frame::append(&mut state.system, &Header::Introduce, credentials);
        drop(state);
        self.signal.wake();
    }

    /// Nobody waits for the answer any more.
    pub(super) fn forget_request(&self, number: u64) {
        let mut state = lock(&self.state);
        let Some(request) = state.requests.remove(&number) else { return };
        if matches!(request, Request::Watch(_)) {
            state.say(&Header::Unwatch { request: number });
        }
        drop(state);
        self.signal.wake();
    }

    /// Drives the stream until it breaks, the peer misbehaves, or the link is killed; then settles.
    pub(super) async fn run(self: Arc<Self>, pipe: Pipe, buffer: FrameBuffer) {
        // Also when this task is dropped with its runtime.
        let dying = Dying(self);
        let mut driver = Driver {
            link: &dying.0,
            pipe,
            buffer,
            writing: Writing::default(),
            outcomes: Vec::new(),
            letters: Vec::new(),
            flushed: Vec::new(),
            heard: Instant::now(),
            heartbeat: None,
        };
        if let Err(error) = std::future::poll_fn(|cx| driver.poll(cx)).await {
            dying.0.shared.report_link_end(&error);
        }
    }

    fn taken(state: &mut State, to: &str, through: u64, flushed: &mut Vec<Flush>) {
        let Some(lane) = state.lanes.get_mut(to) else { return };
        let mut count = 0;
        // Credit comes back only for words that were sent, whatever number the peer says.
        while let Some(word) = lane.unacknowledged.pop_front_if(|word| word.id <= through) {
            count += 1;
            for flush in &mut state.flushes {
                flush.left -= usize::from(word.id <= flush.through);
            }
        }
        lane.credit.add_permits(count);
        state.unacknowledged -= count;
        flushed.extend(state.flushes.extract_if(.., |flush| flush.left == 0));
    }

    /// A told word was not taken; its dead letter is to be buried without the lock.
    fn refused(&self, state: &mut State, id: u64, to: &str, refusal: Refusal) -> Option<DeadLetter> {
        let unsettled = |word: &&mut Unacknowledged| word.id == id && !word.is_settled;
        let word = state.lanes.get_mut(to)?.unacknowledged.iter_mut().find(unsettled)?;
        word.is_settled = true;
        Some(self.letter(word, DeadLetterReason::Refused(refusal)))
    }

    fn answered(state: &mut State, number: u64, answer: Result<ExitReason, Refusal>, is_found: bool) {
        // Whoever asked may have gone meanwhile: then the answer is of no use.
        match (state.requests.remove(&number), answer) {
            (Some(Request::Watch(tx)), answer) if !is_found => drop(tx.send(answer)),
            (Some(Request::Lookup(tx)), Ok(_)) if is_found => drop(tx.send(Ok(()))),
            (Some(Request::Lookup(tx)), Err(refusal)) => drop(tx.send(Err(refusal))),
            // An answer to another question than was asked is none.
            (Some(request), _) => drop(state.requests.insert(number, request)),
            (None, _) => {}
        }
    }

    fn letter(&self, word: &Unacknowledged, reason: DeadLetterReason) -> DeadLetter {
        DeadLetter {
            reason,
            peer: Some(self.peer),
            path: Some(word.target.path.clone()),
            type_name: Some(word.target.type_name),
            kind: Some(word.target.kind.clone()),
            id: Some(word.id),
        }
    }

    /// Settles everything once: waiting senders fail, asks are lost, words become dead letters.
    fn die(&self) {
        self.signal.stop();
        let (lanes, asks, requests) = {
            let mut state = lock(&self.state);
            if state.is_dead {
                return;
            }
            let old = std::mem::take(&mut *state);
            state.is_dead = true;
            (old.lanes, old.asks, old.requests)
        };
        self.bytes.close();
        self.asks.close();
        for lane in lanes.into_values() {
            lane.credit.close();
            for word in lane.unacknowledged.iter().filter(|word| !word.is_settled) {
                self.shared.bury(self.letter(word, DeadLetterReason::LinkLost));
            }
        }
        for resolver in asks.into_values() {
            resolve(resolver, Outcome::Lost);
        }
        // Whoever waits for an answer sees its sender go.
        drop(requests);
    }
}

/// An application's decoder that panics must not take the link down.
fn resolve(resolver: Resolver, outcome: Outcome<'_>) {
    let _ = catch_unwind(AssertUnwindSafe(|| resolver(outcome)));
}

struct Dying(Arc<Link>);

impl Drop for Dying {
    fn drop(&mut self) {
        self.0.die();
    }
}

/// How an ask ended, until the lock is free.
enum Ended {
    Reply(FrameRange),
    Refused(Refusal),
    Lost,
}

/// The stream of a link and its task's own state.
struct Driver<'a> {
    link: &'a Link,
    pipe: Pipe,
    buffer: FrameBuffer,
    writing: Writing,
    /// Kept for its memory; empty between turns.
    outcomes: Vec<(Resolver, Ended)>,
    /// As `outcomes`, of words that were told.
    letters: Vec<DeadLetter>,
    /// Those that are over.
    flushed: Vec<Flush>,
    /// When the peer last said anything, or read what had been in the way.
    heard: Instant,
    /// Armed while somebody waits for the peer.
    heartbeat: Option<Pin<Box<Sleep>>>,
}

impl Driver<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FrameError>> {
        self.link.signal.register(cx);
        if self.link.signal.is_stopped() {
            return Poll::Ready(Ok(()));
        }
        let has_more = self.read(cx)?;
        self.poll_heartbeat(cx)?;
        let Self { link, pipe, writing, .. } = self;
        let next = |chunk: &mut Chunk| {
            let mut state = lock(&link.state);
            chunk.bytes.append(&mut state.system);
            state.words.pop_into(chunk);
        };
        if let Poll::Ready(written) = writing.poll(pipe, cx, next, |room| link.bytes.add_permits(room)) {
            written.map_err(FrameError::Pipe)?;
        }
        if self.writing.take_progress() {
            // A ping may stand behind a long word on a slow line. A pipe that was full and has room again has a
            // reader; one that merely had room may belong to nobody.
            self.heard = Instant::now();
        }
        if has_more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Reads a turn of frames; true if more may be there.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, FrameError> {
        let mut left = READ_TURN;
        loop {
            let result = self.take_batch(&mut left);
            // Recorders and subscribers of the application hear of it, and they may send over this very link.
            for letter in self.letters.drain(..) {
                self.link.shared.bury(letter);
            }
            // After the dead letters: who waited for them may count them.
            for flush in self.flushed.drain(..) {
                // Whoever waited may have given up.
                let _ = flush.done.send(());
            }
            for (resolver, ended) in self.outcomes.drain(..) {
                resolve(
                    resolver,
                    match ended {
                        Ended::Reply(frame) => Outcome::Reply(self.buffer.parts(frame).1),
                        Ended::Refused(refusal) => Outcome::Refused(refusal),
                        Ended::Lost => Outcome::Lost,
                    },
                );
            }
            result?;
            if left == 0 {
                return Ok(true);
            }
            match self.buffer.poll_fill(&mut self.pipe, cx).map_err(FrameError::Pipe)? {
                Poll::Pending => return Ok(false),
                Poll::Ready(0) => return Err(FrameError::Pipe(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(_) => self.heard = Instant::now(),
            }
        }
    }

    /// Takes note of the frames that are there, under one lock; who asked is told after it.
    fn take_batch(&mut self, left: &mut u32) -> Result<(), FrameError> {
        let Self { link, buffer, outcomes, letters, flushed, .. } = self;
        let mut locked = None;
        while *left > 0
            && let Some(frame) = buffer.next()?
        {
            *left -= 1;
            let state: &mut State = locked.get_or_insert_with(|| lock(&link.state));
            let (id, ended) = match frame::read_header(buffer.parts(frame.clone()).0)? {
                Header::Reply { id } => (id, Ended::Reply(frame)),
                Header::Refused { id, to: None, refusal } => (id, Ended::Refused(refusal)),
                Header::Lost { id } => (id, Ended::Lost),
                Header::Taken { to, through } => {
                    Link::taken(state, to, through, flushed);
                    continue;
                }
                Header::Refused { id, to: Some(to), refusal } => {
                    letters.extend(link.refused(state, id, to, refusal));
                    continue;
                }
                Header::Found { request } => {
                    Link::answered(state, request, Ok(ExitReason::Stopped), true);
                    continue;
                }
                Header::Denied { request, refusal } => {
                    Link::answered(state, request, Err(refusal), false);
                    continue;
                }
                Header::Ended { request, reason } => {
                    Link::answered(state, request, Ok(reason), false);
                    continue;
                }
                Header::Pong => continue,
                Header::Hello(_) | Header::Welcome(_) | Header::Unwelcome(_) => {
                    return Err(FrameError::OutOfPlace("a second greeting"));
                }
                Header::Word(_)
                | Header::Lookup { .. }
                | Header::Watch { .. }
                | Header::Unwatch { .. }
                | Header::Introduce
                | Header::Ping => return Err(FrameError::OutOfPlace("a word on the way back")),
            };
            if let Some(resolver) = link.take_ask(state, id) {
                outcomes.push((resolver, ended));
            }
        }
        Ok(())
    }

    /// While somebody waits for the peer, a silence is ended by a ping, or ends the link.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Result<(), FrameError> {
        loop {
            if let Some(heartbeat) = &mut self.heartbeat
                && heartbeat.as_mut().poll(cx).is_pending()
            {
                return Ok(());
            }
            let mut state = lock(&self.link.state);
            if !state.is_awaited() && !self.writing.is_busy() {
                self.heartbeat = None;
                return Ok(());
            }
            let now = Instant::now();
            if self.heartbeat.is_none() {
                // A silence before anybody waited is none.
                self.heard = now;
            } else if now.duration_since(self.heard) >= SILENCE {
                self.link.shared.silent_links.fetch_add(1, Ordering::Relaxed);
                return Err(FrameError::Silent);
            } else if now.duration_since(self.heard) >= HEARTBEAT {
                state.say(&Header::Ping);
            }
            drop(state);
            self.heartbeat = Some(Box::pin(sleep_until(now + HEARTBEAT)));
        }
    }
}
