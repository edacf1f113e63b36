//! A peer's words to us: admitted, decoded, and put into mailboxes in the order of their target.
//!
//! A word whose mailbox has room goes straight in. One whose mailbox is full waits in a queue of its
//! target, at most as long as the credit, and a future waits for the mailbox; other targets go on. A
//! peer that sends beyond its credit loses the link.
//!
//! All of it is one task's state: whatever happens elsewhere (a reply, room in a mailbox, the end of a
//! watched actor) wakes the task, which looks at everything once and writes once.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{AbortHandle, Aborted, BoxFuture, abortable};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};
use tracing::debug;

use super::super::letter::Origin;
use super::super::registry::{Arrival, Incoming, Received, unknown_path};
use super::super::system::Shared;
use super::super::{ActorPath, ExitReason, Refusal, RefusalCode, SendFailure};
use super::buffer::{Chunk, FrameBuffer, FrameRange, Writing};
use super::frame::{self, FrameError, Header, Word};
use super::limits::Bucket;
use super::lookup::watch_kind;
use super::replies::{Asked, Later, Replies};
use super::routes::{Route, Routes};
use super::{CREDIT, HEARTBEAT, MAX_BODY_LENGTH, MAX_REQUESTS, READ_TURN, WRITE_CHUNK};
use crate::transport::Pipe;
use crate::wire::DecodeContext;
use crate::{Did, Kind};

/// Targets of one link that may stand still at once; words to further ones are refused as busy.
const MAX_STALLED_TARGETS: usize = 256;
/// Bytes of bodies that wait for room in all mailboxes together; beyond it a word to one without room is refused as
/// busy. One actor that stands still is never short of it: it is all the credit of one, used for the longest words.
const MAX_WAITING_BYTES: usize = CREDIT * MAX_BODY_LENGTH;
/// Bytes of refusals and other short frames that wait to be written; beyond it no further word is read.
const MAX_SYSTEM_BYTES: usize = 256 * 1024;
/// Targets with an acknowledgement to be written; beyond it no further word is read. More than a peer uses at a
/// time; without a bound, a peer that names ever new paths and reads nothing would have each remembered.
const MAX_UNSAID_ACKS: usize = 1024;
/// How long the acknowledgement of an ask may wait for a frame that goes the same way (mostly its own
/// reply), so that a quick ask costs one write: far less than anybody waits for.
const ACK_DELAY: Duration = Duration::from_millis(2);
/// Acknowledgements that are written without delay: half of a target's credit, so that a sender at full
/// speed never meets its end.
const MAX_DELAYED_ACKS: usize = CREDIT / 2;

/// Least time between two looks at which of the waiting words nobody waits for any more: a look passes all of them
/// (16,384 at most), and nobody who has given up misses a tenth of a second.
const EXPIRY_TICK: Duration = Duration::from_millis(100);

/// How often a peer may show anew what it is: tokens come and go with people.
const MAX_INTRODUCTIONS: u32 = 16;
/// In how long.
const INTRODUCTIONS_PERIOD: Duration = Duration::from_secs(10);

/// A word that waits for its mailbox, or the place of one that was refused.
enum Waiting {
    Word(Pending),
    Refused { id: u64 },
}

struct Pending {
    id: u64,
    is_ask: bool,
    expires: Option<Instant>,
    /// Of its body.
    length: usize,
    word: Box<dyn Incoming>,
}

/// How the wait of one word for its mailbox ended; without a result it took too long.
type Forwarded = (ActorPath, Pending, Option<Result<(), SendFailure>>);
/// How a watched actor ended.
type Watched = (u64, Result<ExitReason, Aborted>);

/// Drives an accepted link until it ends or is [stopped](super::replies::Signal::stop).
pub(super) async fn run(
    shared: Arc<Shared>,
    peer: Did,
    pipe: Pipe,
    buffer: FrameBuffer,
    replies: Arc<Replies>,
) {
    // Also when this task is dropped with its runtime.
    let _closing = Closing(replies.clone());
    let receiver = Receiver::new(shared.clone(), peer, replies);
    let mut link = Link { pipe, buffer, held: None, pause: None, writing: Writing::default(), receiver };
    if let Err(error) = std::future::poll_fn(|cx| link.poll(cx)).await {
        shared.report_link_end(&error);
    }
}

struct Closing(Arc<Replies>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The stream and what is spoken over it.
struct Link {
    pipe: Pipe,
    buffer: FrameBuffer,
    /// A frame that waits for the end of the pause.
    held: Option<FrameRange>,
    /// Nothing is read until then: the peer was too quick.
    pause: Option<Pin<Box<Sleep>>>,
    writing: Writing,
    receiver: Receiver,
}

impl Link {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FrameError>> {
        self.receiver.replies.signal.register(cx);
        if self.receiver.replies.signal.is_stopped() {
            return Poll::Ready(Ok(()));
        }
        let was_backed_up = self.receiver.is_backed_up();
        let has_more = !was_backed_up && self.read(cx)?;
        self.receiver.poll_waiting(cx);
        let is_backed_up = was_backed_up || self.receiver.is_backed_up();
        let Self { pipe, writing, receiver, .. } = self;
        if let Poll::Ready(written) = writing.poll(pipe, cx, |chunk| receiver.fill(chunk), |_| ()) {
            written.map_err(FrameError::Pipe)?;
        }
        receiver.arm_acks(cx);
        // What was left alone because of what is written now is looked at again.
        if has_more || is_backed_up && !receiver.is_backed_up() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Reads a turn of frames; true if more may be there.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, FrameError> {
        let mut is_first = true;
        for _ in 0..READ_TURN {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return Ok(false);
                }
                self.pause = None;
            }
            let frame = match self.held.take() {
                Some(frame) => frame,
                None => match self.next(cx)? {
                    Some(frame) => frame,
                    None => return Ok(false),
                },
            };
            if let Err(wait) = self.receiver.bucket.take(Instant::now) {
                let pause = self.receiver.pauses(wait);
                // What the policy adds is no time in which more words come to be due.
                self.receiver.bucket.hold(pause.saturating_sub(wait));
                self.pause = Some(Box::pin(sleep(pause)));
                self.held = Some(frame);
                continue;
            }
            if std::mem::take(&mut is_first) {
                self.receiver.context.now = self.receiver.shared.clock.now();
            }
            let (header, body) = self.buffer.parts(frame);
            self.receiver.receive(frame::read_header(header)?, body)?;
        }
        Ok(true)
    }

    /// The next frame, if it is there.
    fn next(&mut self, cx: &mut Context<'_>) -> Result<Option<FrameRange>, FrameError> {
        loop {
            if let Some(frame) = self.buffer.next()? {
                return Ok(Some(frame));
            }
            match self.buffer.poll_fill(&mut self.pipe, cx).map_err(FrameError::Pipe)? {
                Poll::Pending => return Ok(None),
                Poll::Ready(0) => return Err(FrameError::Pipe(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(_) => {}
            }
        }
    }
}

/// The receiving end of a link.
struct Receiver {
    shared: Arc<Shared>,
    peer: Did,
    replies: Arc<Replies>,
    routes: Routes,
    bucket: Bucket,
    /// The last that a pause gave.
    sign_of_life: Instant,
    /// Since when introductions are counted, and how many there were.
    introductions: (Instant, u32),
    context: DecodeContext,
    last_id: u64,
    last_request: u64,
    /// Targets with words that wait: each has one word in `forwards`, and the others behind it here.
    inboxes: BTreeMap<ActorPath, VecDeque<Waiting>>,
    forwards: FuturesUnordered<BoxFuture<'static, Forwarded>>,
    /// The bodies of all words that wait.
    waiting_bytes: usize,
    /// The earliest time at which a word behind the first of its inbox expires, or earlier; when they were looked at
    /// last; the timer for the next look.
    earliest_expiry: Option<Instant>,
    expiry_looked: Instant,
    expiry_timer: Option<Pin<Box<Sleep>>>,
    /// Answers that are not there yet.
    later: FuturesUnordered<Later>,
    watches: FuturesUnordered<BoxFuture<'static, Watched>>,
    watching: BTreeMap<u64, AbortHandle>,
    watch_kind: Kind,
    /// Short frames to be written before everything else.
    system: Vec<u8>,
    /// Acknowledgements to be written: the last word per target says it all.
    taken: BTreeMap<ActorPath, u64>,
    /// How many words they are for, and whether they may still wait for other frames.
    delayed_acks: usize,
    are_acks_due: bool,
    ack_timer: Option<Pin<Box<Sleep>>>,
}

impl Receiver {
    fn new(shared: Arc<Shared>, peer: Did, replies: Arc<Replies>) -> Self {
        let now = Instant::now();
        let bucket = Bucket::new(&shared.limits, now);
        let context = shared.decode_context();
        Self {
            shared,
            peer,
            replies,
            routes: Routes::default(),
            bucket,
            sign_of_life: now,
            introductions: (now, 0),
            context,
            last_id: 0,
            last_request: 0,
            inboxes: BTreeMap::new(),
            forwards: FuturesUnordered::new(),
            waiting_bytes: 0,
            earliest_expiry: None,
            expiry_looked: now,
            expiry_timer: None,
            later: FuturesUnordered::new(),
            watches: FuturesUnordered::new(),
            watching: BTreeMap::new(),
            watch_kind: watch_kind(),
            system: Vec::new(),
            taken: BTreeMap::new(),
            delayed_acks: 0,
            are_acks_due: false,
            ack_timer: None,
        }
    }

    /// True if so much waits to be written that the peer must read before it is read.
    fn is_backed_up(&self) -> bool {
        self.system.len() >= MAX_SYSTEM_BYTES
            || self.taken.len() >= MAX_UNSAID_ACKS
            || self.replies.is_backed_up()
    }

    /// A frame has to wait. So may a ping behind it, so the peer is given a sign of life now and then. Returns for how
    /// long, which the policy may lengthen, up to where the peer would take the link for dead.
    fn pauses(&mut self, wait: Duration) -> Duration {
        self.shared.throttled_reads.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if now.duration_since(self.sign_of_life) >= HEARTBEAT {
            self.sign_of_life = now;
            self.say(&Header::Pong);
        }
        self.shared.policy.on_too_fast(self.peer, wait).clamp(wait, wait.max(HEARTBEAT))
    }

    fn receive(&mut self, header: Header<'_>, body: &[u8]) -> Result<(), FrameError> {
        match header {
            Header::Word(word) => return self.word(&word, body),
            Header::Lookup { request, to, kind } => {
                self.check_request(request)?;
                let answer = match self.look_up(to, kind)? {
                    Ok(()) => Header::Found { request },
                    Err(refusal) => {
                        self.charge(&refusal);
                        Header::Denied { request, refusal }
                    }
                };
                self.say(&answer);
            }
            Header::Watch { request, to } => {
                self.check_request(request)?;
                if let Err(refusal) = self.watch(request, to)? {
                    self.charge(&refusal);
                    self.say(&Header::Denied { request, refusal });
                }
            }
            Header::Unwatch { request } => {
                if let Some(watch) = self.watching.remove(&request) {
                    watch.abort();
                }
            }
            Header::Ping => self.say(&Header::Pong),
            Header::Introduce => self.introduced(body)?,
            _ => return Err(FrameError::OutOfPlace("only words and questions come this way")),
        }
        Ok(())
    }

    /// The peer shows anew what it is. To prove that takes work, so it is not done over and over.
    fn introduced(&mut self, credentials: &[u8]) -> Result<(), FrameError> {
        let now = Instant::now();
        let (since, count) = &mut self.introductions;
        if now.duration_since(*since) >= INTRODUCTIONS_PERIOD {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count > MAX_INTRODUCTIONS {
            return Err(FrameError::OutOfPlace("one more introduction"));
        }
        if let Err(refusal) = self.shared.introduced(self.peer, credentials) {
            // What it showed before still counts.
            debug!(code = %refusal.code, text = %refusal.text, "an introduction is refused");
        }
        Ok(())
    }

    fn check_request(&mut self, request: u64) -> Result<(), FrameError> {
        if request <= self.last_request {
            return Err(FrameError::OutOfPlace("the numbers of requests must rise"));
        }
        self.last_request = request;
        Ok(())
    }

    fn look_up(&mut self, to: &str, kind: &str) -> Result<Result<(), Refusal>, FrameError> {
        let Self { routes, shared, .. } = self;
        Ok(match routes.find(to, kind, &shared.registry, &shared.limits)? {
            Ok(route) => {
                let admitted = shared.policy.admit(self.peer, &route.path, &route.kind);
                admitted.and_then(|()| route.entry.as_ref().map(|_| ()).map_err(Clone::clone))
            }
            Err(refusal) => Err(refusal),
        })
    }

    fn watch(&mut self, request: u64, to: &str) -> Result<Result<(), Refusal>, FrameError> {
        let path = to.strip_prefix('/').and(to.parse::<ActorPath>().ok());
        let path = path.ok_or(FrameError::OutOfPlace("a path out of form"))?;
        if let Err(refusal) = self.shared.policy.admit(self.peer, &path, &self.watch_kind) {
            return Ok(Err(refusal));
        }
        if self.watching.len() >= MAX_REQUESTS {
            return Ok(Err(Refusal::new(RefusalCode::Busy, "too many actors are watched")));
        }
        let Some(closed) = self.shared.registry.closed(&path) else { return Ok(Err(unknown_path(&path))) };
        let (closed, handle) = abortable(closed);
        self.watching.insert(request, handle);
        self.watches.push(Box::pin(async move { (request, closed.await) }));
        Ok(Ok(()))
    }

    fn word(&mut self, word: &Word<'_>, body: &[u8]) -> Result<(), FrameError> {
        if word.id <= self.last_id {
            return Err(FrameError::OutOfPlace("the numbers of words must rise"));
        }
        self.last_id = word.id;
        // Only this task makes inboxes: while there is none, nothing can overtake.
        let may_enter = self.inboxes.is_empty() || !self.inboxes.contains_key(word.to);
        let Self { routes, shared, .. } = self;
        let (path, admitted) = match routes.find(word.to, word.kind, &shared.registry, &shared.limits)? {
            Ok(route) => {
                let side = Side { shared, peer: self.peer, replies: &self.replies, context: &self.context };
                (route.path.clone(), side.admit(route, word, body, may_enter))
            }
            Err(refusal) => {
                let path = word.to.parse().map_err(|_| FrameError::OutOfPlace("a path out of form"))?;
                (path, Err(refusal))
            }
        };
        let waiting = match admitted {
            Ok(Received::Taken) => {
                self.acknowledge(path, word.id, word.is_ask);
                return Ok(());
            }
            Ok(Received::Closed(closed)) => {
                self.refuse_decoded(word.id, &path, closed, unknown_path(&path));
                self.acknowledge(path, word.id, false);
                return Ok(());
            }
            Ok(Received::Waits(waits)) => {
                let ttl = word.ttl_ms.map(Duration::from_millis);
                let expires = ttl.and_then(|ttl| Instant::now().checked_add(ttl));
                let length = body.len();
                Waiting::Word(Pending { id: word.id, is_ask: word.is_ask, expires, length, word: waits })
            }
            Err(refusal) => {
                self.charge(&refusal);
                self.refuse(word.id, &path, word.is_ask, refusal);
                if may_enter {
                    self.acknowledge(path, word.id, false);
                    return Ok(());
                }
                // Acknowledgements are cumulative, so it takes its place behind those that wait.
                Waiting::Refused { id: word.id }
            }
        };
        self.enqueue(path, waiting)
    }

    fn enqueue(&mut self, path: ActorPath, mut waiting: Waiting) -> Result<(), FrameError> {
        let inbox = self.inboxes.get(&path).map(VecDeque::len);
        // The first of them is in `forwards`.
        if inbox.is_some_and(|behind| behind + 1 >= CREDIT) {
            return Err(FrameError::Overrun(path));
        }
        if let Waiting::Word(pending) = waiting {
            let (id, length) = (pending.id, pending.length);
            let too_much = if inbox.is_none() && self.inboxes.len() >= MAX_STALLED_TARGETS {
                Some("too many actors stand still")
            } else if self.waiting_bytes + length > MAX_WAITING_BYTES {
                Some("too much waits for actors that stand still")
            } else {
                None
            };
            waiting = if let Some(text) = too_much {
                self.refuse_decoded(id, &path, pending.word, Refusal::new(RefusalCode::Busy, text));
                Waiting::Refused { id }
            } else {
                self.waiting_bytes += length;
                Waiting::Word(pending)
            };
        }
        match (self.inboxes.get_mut(&path), waiting) {
            (Some(inbox), waiting) => {
                if let Waiting::Word(Pending { expires: Some(expires), .. }) = &waiting
                    && self.earliest_expiry.is_none_or(|earliest| *expires < earliest)
                {
                    self.earliest_expiry = Some(*expires);
                    self.expiry_timer = None;
                }
                inbox.push_back(waiting);
            }
            (None, Waiting::Refused { id }) => self.acknowledge(path, id, false),
            (None, Waiting::Word(pending)) => {
                self.inboxes.insert(path.clone(), VecDeque::new());
                self.forward(path, pending);
            }
        }
        Ok(())
    }

    /// Waits for room for the first word of an inbox.
    fn forward(&mut self, path: ActorPath, mut pending: Pending) {
        self.forwards.push(Box::pin(async move {
            let put = pending.word.put();
            let result = match pending.expires {
                Some(expires) => timeout_at(expires, put).await.ok(),
                None => Some(put.await),
            };
            (path, pending, result)
        }));
    }

    /// Refuses the words whose time is over behind one that still waits.
    fn poll_expiry(&mut self, cx: &mut Context<'_>) {
        while let Some(earliest) = self.earliest_expiry {
            let next_look = earliest.max(self.expiry_looked + EXPIRY_TICK);
            let timer = self.expiry_timer.get_or_insert_with(|| Box::pin(sleep_until(next_look)));
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.expiry_timer = None;
            self.expire(Instant::now());
        }
    }

    fn expire(&mut self, now: Instant) {
        self.expiry_looked = now;
        let mut earliest: Option<Instant> = None;
        let mut expired = Vec::new();
        for (path, inbox) in &mut self.inboxes {
            for waiting in inbox {
                let Waiting::Word(Pending { id, expires: Some(expires), .. }) = waiting else { continue };
                let (id, expires) = (*id, *expires);
                if expires > now {
                    earliest = Some(earliest.map_or(expires, |earliest| earliest.min(expires)));
                } else if let Waiting::Word(pending) = std::mem::replace(waiting, Waiting::Refused { id }) {
                    // Its place stays: acknowledgements are cumulative.
                    expired.push((path.clone(), pending));
                }
            }
        }
        self.earliest_expiry = earliest;
        for (path, pending) in expired {
            self.waiting_bytes -= pending.length;
            self.refuse_decoded(pending.id, &path, pending.word, waited_too_long());
        }
    }

    /// Takes note of everything that others have finished.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) {
        self.poll_expiry(cx);
        while !self.forwards.is_empty()
            && let Poll::Ready(Some((path, pending, result))) = self.forwards.poll_next_unpin(cx)
        {
            self.forwarded(path, pending, result);
        }
        while !self.watches.is_empty()
            && let Poll::Ready(Some((request, ended))) = self.watches.poll_next_unpin(cx)
        {
            if let (Some(_), Ok(reason)) = (self.watching.remove(&request), ended) {
                self.say(&Header::Ended { request, reason });
            }
        }
        self.later.extend(self.replies.take_later());
        // While the peer does not read, the answers wait as they are.
        while !self.later.is_empty()
            && !self.replies.is_backed_up()
            && let Poll::Ready(Some((asked, outcome))) = self.later.poll_next_unpin(cx)
        {
            asked.end(outcome);
        }
        if let Some(timer) = &mut self.ack_timer
            && timer.as_mut().poll(cx).is_ready()
        {
            self.ack_timer = None;
            self.are_acks_due = true;
        }
    }

    /// The first word of an inbox has left it; puts in those behind it while there is room.
    fn forwarded(&mut self, path: ActorPath, pending: Pending, result: Option<Result<(), SendFailure>>) {
        let (mut pending, mut result) = (pending, result);
        loop {
            let (id, is_ask) = (pending.id, pending.is_ask);
            self.waiting_bytes -= pending.length;
            match result {
                Some(Ok(())) => {}
                Some(Err(SendFailure::Full)) => {
                    let refusal = Refusal::new(RefusalCode::Busy, "its mailbox is full and rejects");
                    self.refuse_decoded(id, &path, pending.word, refusal);
                }
                Some(Err(_)) => self.refuse_decoded(id, &path, pending.word, unknown_path(&path)),
                None => {
                    self.refuse_decoded(id, &path, pending.word, waited_too_long());
                }
            }
            self.acknowledge(path.clone(), id, is_ask);
            loop {
                let Some(inbox) = self.inboxes.get_mut(&path) else { return };
                match inbox.pop_front() {
                    None => {
                        self.inboxes.remove(&path);
                        return;
                    }
                    Some(Waiting::Refused { id }) => self.acknowledge(path.clone(), id, false),
                    Some(Waiting::Word(next)) => {
                        pending = next;
                        break;
                    }
                }
            }
            let is_expired = pending.expires.is_some_and(|expires| expires <= Instant::now());
            result = if is_expired { None } else { Some(pending.word.offer()) };
            if result == Some(Err(SendFailure::Full)) {
                // It waits on, now as the first.
                return self.forward(path, pending);
            }
        }
    }

    /// The mailbox has the word, or it was refused; that of an ask may be said with its reply.
    fn acknowledge(&mut self, path: ActorPath, id: u64, may_wait: bool) {
        self.taken.insert(path, id);
        self.delayed_acks += 1;
        self.are_acks_due |= !may_wait || self.delayed_acks >= MAX_DELAYED_ACKS;
    }

    /// Starts the time for which acknowledgements that were not written now may wait.
    fn arm_acks(&mut self, cx: &mut Context<'_>) {
        if self.taken.is_empty() || self.are_acks_due || self.ack_timer.is_some() {
            return;
        }
        let timer = self.ack_timer.insert(Box::pin(sleep(ACK_DELAY)));
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Refuses a word that was decoded: its own way back is used up.
    fn refuse_decoded(&mut self, id: u64, to: &ActorPath, word: Box<dyn Incoming>, refusal: Refusal) {
        self.count_refusal(id, to, &refusal);
        if !word.refuse(refusal.clone()) {
            self.say_refusal(id, to, false, refusal);
        }
    }

    fn refuse(&mut self, id: u64, to: &ActorPath, is_ask: bool, refusal: Refusal) {
        self.count_refusal(id, to, &refusal);
        self.say_refusal(id, to, is_ask, refusal);
    }

    /// A refusal costs what the policy says.
    fn charge(&mut self, refusal: &Refusal) {
        // One is taken for every frame.
        self.bucket.charge(self.shared.policy.on_refused(self.peer, refusal).saturating_sub(1));
    }

    fn count_refusal(&self, id: u64, to: &ActorPath, refusal: &Refusal) {
        self.shared.refused_words.fetch_add(1, Ordering::Relaxed);
        match refusal.code {
            RefusalCode::Busy => self.shared.busy_words.fetch_add(1, Ordering::Relaxed),
            RefusalCode::TooLong => self.shared.too_long_words.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        debug!(peer = %self.peer.short(), %to, id, code = %refusal.code, text = %refusal.text, "word refused");
    }

    fn say_refusal(&mut self, id: u64, to: &ActorPath, is_ask: bool, refusal: Refusal) {
        // Each of them, else its sender would take it for taken; who does not read them is not read either.
        let to = (!is_ask).then_some(to.as_str());
        self.say(&Header::Refused { id, to, refusal });
    }

    fn say(&mut self, header: &Header<'_>) {
        // Paths, numbers and refusals always fit into a header.
        let _ = frame::append(&mut self.system, header, &[]);
    }

    /// What is to be written next: short frames, then replies, and acknowledgements with either.
    fn fill(&mut self, chunk: &mut Chunk) {
        chunk.bytes.append(&mut self.system);
        self.replies.pop_into(chunk);
        if chunk.bytes.is_empty() && !self.are_acks_due {
            return;
        }
        // After the refusals: an acknowledgement settles the words that are not refused. A chunk's worth each
        // time, whatever else is in it, so that replies without end do not hold them back.
        let end = chunk.bytes.len() + WRITE_CHUNK;
        while chunk.bytes.len() < end
            && let Some((to, through)) = self.taken.pop_first()
        {
            let _ = frame::append(&mut chunk.bytes, &Header::Taken { to: to.as_str(), through }, &[]);
        }
        (self.delayed_acks, self.are_acks_due) = (0, !self.taken.is_empty());
    }
}

fn waited_too_long() -> Refusal {
    Refusal::new(RefusalCode::Expired, "it waited for room too long")
}

/// What admitting a word looks at.
struct Side<'a> {
    shared: &'a Shared,
    peer: Did,
    replies: &'a Arc<Replies>,
    context: &'a DecodeContext,
}

impl Side<'_> {
    /// Admits and decodes a word, and puts it in if it may enter, or says why not. The cheapest checks come first.
    fn admit(
        &self,
        route: &Route,
        word: &Word<'_>,
        body: &[u8],
        may_enter: bool,
    ) -> Result<Received, Refusal> {
        self.shared.policy.admit(self.peer, &route.path, &route.kind)?;
        let entry = route.entry.as_ref().map_err(Clone::clone)?;
        let of_kind = self.check_limits(route, word, body)?;
        let from = match word.from.map(str::parse::<ActorPath>) {
            None => None,
            Some(Ok(from)) => Some(from),
            Some(Err(_)) => return Err(Refusal::new(RefusalCode::Malformed, "the sender's path is none")),
        };
        let deadline = word.ttl_ms.and_then(|ttl| Instant::now().checked_add(Duration::from_millis(ttl)));
        let asked = word.is_ask.then(|| Asked::new(self.replies, word.id, of_kind));
        let origin =
            Origin { peer: self.peer, path: route.path.clone(), kind: route.kind.clone(), id: word.id, from };
        let arrival = Arrival { body, origin, deadline, trace: word.trace, asked, may_enter };
        // An application's decoder that panics must not take the link down.
        match catch_unwind(AssertUnwindSafe(|| entry.receive(arrival, self.context))) {
            Ok(Ok(received)) => Ok(received),
            Ok(Err(error)) => {
                // A clock that goes wrong is no lie.
                let code = if error.is_untimely() { RefusalCode::Expired } else { RefusalCode::Malformed };
                Err(Refusal::new(code, chain(&error)))
            }
            Err(_) => Err(Refusal::new(RefusalCode::Malformed, "the decoder panicked")),
        }
    }

    /// The counter of the kind's open asks, if they are counted.
    fn check_limits(
        &self,
        route: &Route,
        word: &Word<'_>,
        body: &[u8],
    ) -> Result<Option<Arc<std::sync::atomic::AtomicUsize>>, Refusal> {
        let limits = &self.shared.limits;
        let busy = |text: &str| Err(Refusal::new(RefusalCode::Busy, text));
        let of_kind = route.limits.as_ref();
        let longest = of_kind.map_or(usize::MAX, |rule| rule.limits.body_length).min(limits.body_length);
        if body.len() > longest {
            let text = format!("{} bytes are more than {longest}", body.len());
            return Err(Refusal::new(RefusalCode::TooLong, text));
        }
        let open = self.replies.open();
        if word.is_ask && open >= limits.in_flight_asks {
            return busy("too many asks are unanswered");
        }
        let Some(rule) = of_kind else { return Ok(None) };
        if open >= rule.limits.admit_below {
            return busy("too many asks are unanswered for one of this kind");
        }
        if word.is_ask && rule.open.load(Ordering::Relaxed) >= rule.limits.in_flight_asks {
            return busy("too many asks of this kind are unanswered");
        }
        Ok(Some(rule.open.clone()))
    }
}

/// An error and what lies beneath it, for a refusal's text.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
