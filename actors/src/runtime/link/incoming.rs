//! A peer's words to us: admitted, decoded, and put into mailboxes in the order of their target.
//!
//! A word whose mailbox has room goes straight in. One whose mailbox is full waits in a queue of its
//! target, at most as long as the credit, with a forwarder that waits for the mailbox; other targets
//! go on. A peer that sends beyond its credit loses the link.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::debug;

use super::super::letter::Origin;
use super::super::registry::{Incoming, unknown_path};
use super::super::system::Shared;
use super::super::{ActorPath, Refusal, RefusalCode, SendFailure, lock};
use super::frame::{self, FrameError, Header, Word};
use super::{CREDIT, MAX_OPEN_ASKS, READ_BUFFER, READ_TURN, WRITE_CHUNK};
use crate::{Did, Kind};

/// Targets of one link that may stand still at once; words to further ones are refused as busy.
const MAX_STALLED_TARGETS: usize = 256;
/// Refusals that wait to be written; a peer that lets them pile up does not read.
const MAX_QUEUED_REFUSALS: usize = MAX_OPEN_ASKS + REFUSALS_PER_SECOND as usize;
/// Refusals of tells said per second and link: enough to see what is wrong, too few to be a lever.
const REFUSALS_PER_SECOND: u32 = 100;

/// The reply of an ask, when it is there.
type Answer = BoxFuture<'static, (u64, ActorPath, Option<Result<Vec<u8>, Refusal>>)>;

/// A word that waits for its mailbox, or the place of one that was refused.
enum Waiting {
    Word { id: u64, word: Box<dyn Incoming>, is_ask: bool, expires: Option<Instant> },
    Refused { id: u64 },
}

#[derive(Default)]
struct Inbox {
    queue: VecDeque<Waiting>,
    /// The queue and what its forwarder holds.
    outstanding: usize,
}

#[derive(Default)]
struct State {
    /// Targets with words that wait; each has one forwarder.
    inboxes: BTreeMap<ActorPath, Inbox>,
    /// Acknowledgements to be written: the last word per target says it all.
    taken: BTreeMap<ActorPath, u64>,
    /// Refusals to be written, encoded.
    refusals: VecDeque<Vec<u8>>,
    /// Refusals of tells that may still be said in the second that began then.
    allowance: (Option<Instant>, u32),
}

/// The receiving end of a link.
pub(super) struct Receiver {
    shared: Arc<Shared>,
    peer: Did,
    state: Mutex<State>,
    /// Something is to be written.
    news: Notify,
    open_asks: AtomicUsize,
    answers: mpsc::Sender<Answer>,
}

/// Drives an accepted link until it ends or `kill` is notified.
pub(super) async fn run<R, W>(shared: Arc<Shared>, peer: Did, reader: BufReader<R>, writer: W, kill: &Notify)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (answers, answered) = mpsc::channel(MAX_OPEN_ASKS);
    let receiver = Arc::new(Receiver {
        shared: shared.clone(),
        peer,
        state: Mutex::default(),
        news: Notify::new(),
        open_asks: AtomicUsize::new(0),
        answers,
    });
    // Dropped with the link: words that still wait for a mailbox were not acknowledged.
    let mut forwarders = JoinSet::new();
    let ended = tokio::select! {
        biased;
        () = kill.notified() => Ok(()),
        read = receiver.read(reader, &mut forwarders) => read.map(|never| match never {}),
        written = receiver.write(writer, answered) => written,
    };
    if let Err(error) = ended {
        shared.report_link_end(&error);
    }
}

impl Receiver {
    async fn read<R: AsyncRead + Unpin>(
        self: &Arc<Self>,
        mut reader: BufReader<R>,
        forwarders: &mut JoinSet<()>,
    ) -> Result<std::convert::Infallible, FrameError> {
        let mut turn = 0;
        let mut last_id = 0;
        loop {
            let (header, body) = frame::read(&mut reader).await?;
            let Header::Word(word) = header else {
                return Err(FrameError::OutOfPlace("only words come this way"));
            };
            if word.id <= last_id {
                return Err(FrameError::OutOfPlace("the numbers of words must rise"));
            }
            last_id = word.id;
            self.receive(&word, &body, forwarders)?;
            turn += 1;
            if turn % READ_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn receive(
        self: &Arc<Self>,
        word: &Word,
        body: &[u8],
        forwarders: &mut JoinSet<()>,
    ) -> Result<(), FrameError> {
        let expires = word.ttl_ms.and_then(|ttl| Instant::now().checked_add(Duration::from_millis(ttl)));
        let is_new = !lock(&self.state).inboxes.contains_key(&word.to);
        let waiting = match self.admit(word, body) {
            Ok(mut incoming) => {
                if is_new {
                    // Only this task makes inboxes: while there is none, nothing can overtake.
                    match incoming.offer() {
                        Ok(()) => {
                            self.delivered(word.id, &word.to, incoming, word.ask);
                            return Ok(());
                        }
                        Err(SendFailure::Full) => {}
                        Err(_) => {
                            self.refuse(word.id, &word.to, word.ask, unknown_path(&word.to))?;
                            self.acknowledge(&word.to, word.id);
                            return Ok(());
                        }
                    }
                }
                Waiting::Word { id: word.id, word: incoming, is_ask: word.ask, expires }
            }
            Err(refusal) => {
                self.refuse(word.id, &word.to, word.ask, refusal)?;
                if is_new {
                    self.acknowledge(&word.to, word.id);
                    return Ok(());
                }
                // Acknowledgements are cumulative, so it takes its place behind those that wait.
                Waiting::Refused { id: word.id }
            }
        };
        self.enqueue(&word.to, waiting, forwarders)
    }

    /// Admits and decodes a word, or says why not. The cheapest checks come first.
    fn admit(&self, word: &Word, body: &[u8]) -> Result<Box<dyn Incoming>, Refusal> {
        let no_kind = || Refusal::new(RefusalCode::Malformed, "the kind is not name/version");
        let kind = Kind::parse(&word.kind).ok_or_else(no_kind)?;
        self.shared.policy.admit(self.peer, &word.to, &kind)?;
        let entry = self.shared.registry.find(&word.to, &kind)?;
        if word.ask && self.open_asks.load(Ordering::Relaxed) >= MAX_OPEN_ASKS {
            return Err(Refusal::new(RefusalCode::Busy, "too many asks are unanswered"));
        }
        let context = self.shared.decode_context();
        let origin = Origin { peer: self.peer, path: word.to.clone(), kind, id: word.id };
        // An application's decoder that panics must not take the link down.
        let decode = || entry.decode(body, &context, origin, word.ask);
        let incoming = match catch_unwind(AssertUnwindSafe(decode)) {
            Ok(Ok(incoming)) => incoming,
            Ok(Err(error)) => return Err(Refusal::new(RefusalCode::Malformed, chain(&error))),
            Err(_) => return Err(Refusal::new(RefusalCode::Malformed, "the decoder panicked")),
        };
        if word.ask {
            self.open_asks.fetch_add(1, Ordering::Relaxed);
        }
        Ok(incoming)
    }

    fn enqueue(
        self: &Arc<Self>,
        to: &ActorPath,
        waiting: Waiting,
        forwarders: &mut JoinSet<()>,
    ) -> Result<(), FrameError> {
        let mut state = lock(&self.state);
        // A forwarder may have finished meanwhile; then its inbox starts anew.
        let is_new = !state.inboxes.contains_key(to);
        if is_new && state.inboxes.len() >= MAX_STALLED_TARGETS {
            drop(state);
            if let Waiting::Word { id, is_ask, .. } = waiting {
                self.close_ask(is_ask);
                self.refuse(id, to, is_ask, Refusal::new(RefusalCode::Busy, "too many actors stand still"))?;
                self.acknowledge(to, id);
            }
            return Ok(());
        }
        let inbox = state.inboxes.entry(to.clone()).or_default();
        if inbox.outstanding >= CREDIT {
            return Err(FrameError::Overrun(to.clone()));
        }
        inbox.outstanding += 1;
        inbox.queue.push_back(waiting);
        drop(state);
        if is_new {
            while forwarders.try_join_next().is_some() {}
            forwarders.spawn(self.clone().forward(to.clone()));
        }
        Ok(())
    }

    /// Puts the waiting words of one target into its mailbox, one after the other.
    async fn forward(self: Arc<Self>, to: ActorPath) {
        loop {
            let waiting = {
                let mut state = lock(&self.state);
                let next = state.inboxes.get_mut(&to).and_then(|inbox| inbox.queue.pop_front());
                let Some(next) = next else {
                    state.inboxes.remove(&to);
                    return;
                };
                next
            };
            let id = match waiting {
                Waiting::Refused { id } => id,
                Waiting::Word { id, mut word, is_ask, expires } => {
                    let refusal = match put_before(expires, word.put()).await {
                        Some(Ok(())) => None,
                        Some(Err(_)) => Some(unknown_path(&to)),
                        None => Some(Refusal::new(RefusalCode::Expired, "it waited for room too long")),
                    };
                    match refusal {
                        None => self.started(id, &to, word, is_ask),
                        Some(refusal) => {
                            self.close_ask(is_ask);
                            if self.refuse(id, &to, is_ask, refusal).is_err() {
                                // The reader meets the same bound at its next refusal and closes.
                                debug!(%to, "a refusal could not be queued");
                            }
                        }
                    }
                    id
                }
            };
            let mut state = lock(&self.state);
            if let Some(inbox) = state.inboxes.get_mut(&to) {
                inbox.outstanding -= 1;
            }
            state.taken.insert(to.clone(), id);
            drop(state);
            self.news.notify_one();
        }
    }

    fn delivered(&self, id: u64, to: &ActorPath, incoming: Box<dyn Incoming>, is_ask: bool) {
        self.started(id, to, incoming, is_ask);
        self.acknowledge(to, id);
    }

    /// The mailbox has the word; an ask's answer is awaited from now on.
    fn started(&self, id: u64, to: &ActorPath, mut incoming: Box<dyn Incoming>, is_ask: bool) {
        if is_ask {
            let (to, reply) = (to.clone(), incoming.reply());
            let answer: Answer = Box::pin(async move { (id, to, reply.await) });
            // There are never more open asks than places, and a closed channel is a link that ended.
            let _ = self.answers.try_send(answer);
        }
    }

    fn close_ask(&self, is_ask: bool) {
        if is_ask {
            self.open_asks.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn acknowledge(&self, to: &ActorPath, id: u64) {
        lock(&self.state).taken.insert(to.clone(), id);
        self.news.notify_one();
    }

    fn refuse(&self, id: u64, to: &ActorPath, is_ask: bool, refusal: Refusal) -> Result<(), FrameError> {
        self.shared.refused_words.fetch_add(1, Ordering::Relaxed);
        debug!(peer = %self.peer.short(), %to, id, code = %refusal.code, text = %refusal.text, "word refused");
        let mut state = lock(&self.state);
        if !is_ask {
            let now = Instant::now();
            let (since, left) = state.allowance;
            let is_over = since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1));
            let (since, left) = if is_over { (Some(now), REFUSALS_PER_SECOND) } else { (since, left) };
            state.allowance = (since, left.saturating_sub(1));
            if left == 0 {
                return Ok(());
            }
        }
        if state.refusals.len() >= MAX_QUEUED_REFUSALS {
            return Err(FrameError::NotReading);
        }
        let refusal = Refusal::new(refusal.code, refusal.text);
        if let Ok(frame) = frame::encode(&Header::Refused { id, to: to.clone(), refusal }, &[]) {
            state.refusals.push_back(frame);
        }
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    /// Writes what goes back: refusals and acknowledgements first, then replies.
    async fn write<W: AsyncWrite + Unpin>(
        &self,
        mut writer: W,
        mut answered: mpsc::Receiver<Answer>,
    ) -> Result<(), FrameError> {
        let mut open = FuturesUnordered::new();
        let mut replies = Vec::new();
        let mut chunk = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = self.news.notified() => {}
                Some(answer) = answered.recv() => open.push(answer),
                Some(answer) = open.next(), if !open.is_empty() => self.reply(&mut replies, answer),
            }
            while replies.len() < WRITE_CHUNK {
                if let Ok(answer) = answered.try_recv() {
                    open.push(answer);
                } else if let Some(Some(answer)) = open.next().now_or_never() {
                    self.reply(&mut replies, answer);
                } else {
                    break;
                }
            }
            chunk.clear();
            self.take_news(&mut chunk);
            chunk.append(&mut replies);
            if !chunk.is_empty() {
                writer.write_all(&chunk).await.map_err(FrameError::Pipe)?;
                writer.flush().await.map_err(FrameError::Pipe)?;
                chunk.shrink_to(WRITE_CHUNK);
            }
        }
    }

    fn take_news(&self, chunk: &mut Vec<u8>) {
        let (refusals, taken) = {
            let mut state = lock(&self.state);
            (std::mem::take(&mut state.refusals), std::mem::take(&mut state.taken))
        };
        // A refusal goes before the acknowledgement that would settle its word.
        for frame in refusals {
            chunk.extend_from_slice(&frame);
        }
        for (to, through) in taken {
            // A path and a number always fit into a header.
            let _ = frame::append(chunk, &Header::Taken { to, through }, &[]);
        }
    }

    fn reply(&self, replies: &mut Vec<u8>, answer: (u64, ActorPath, Option<Result<Vec<u8>, Refusal>>)) {
        self.close_ask(true);
        let (id, to, reply) = answer;
        let written = match reply {
            Some(Ok(body)) => frame::append(replies, &Header::Reply { in_reply_to: id }, &body),
            Some(Err(refusal)) => frame::append(replies, &Header::Refused { id, to, refusal }, &[]),
            None => frame::append(replies, &Header::Lost { in_reply_to: id }, &[]),
        };
        if written.is_err() {
            // Encoding checked the length of the body, and every header is bounded.
            debug!(id, "a reply could not be written");
        }
    }
}

async fn put_before<T>(expires: Option<Instant>, put: impl Future<Output = T>) -> Option<T> {
    match expires {
        Some(expires) => tokio::time::timeout_at(expires, put).await.ok(),
        None => Some(put.await),
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

/// The read buffer of an accepted stream.
pub(super) fn buffered<R: AsyncRead>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(READ_BUFFER, reader)
}
