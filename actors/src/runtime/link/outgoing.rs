//! Our words to one peer: credit, the queue, unacknowledged words and open asks.
//!
//! A sender takes credit for its target, then room in the queue, then commits; until the commit it can
//! give up at no cost. A dead link gives every open ask and unacknowledged word its outcome, once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};

use super::super::system::Shared;
use super::super::{ActorPath, DeadLetter, DeadLetterReason, Refusal, SendFailure, lock};
use super::frame::{self, FrameError, Header, Word};
use super::{CREDIT, MAX_BODY_LENGTH, MAX_OPEN_ASKS, READ_TURN, WRITE_CHUNK};
use crate::{Did, Kind};

/// Words queued for one peer and not yet written.
const MAX_QUEUED: usize = 1024;
/// Bytes queued for one peer and not yet written: what a stalled connection may cost us.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;
/// Targets of a link at which idle ones are forgotten; a forgotten one starts again with full credit,
/// as it does at the receiver.
const MAX_IDLE_TARGETS: usize = 256;
/// Targets of a link in all.
const MAX_TARGETS: usize = 4096;

/// How an ask ended at the link.
pub(super) enum Outcome {
    Reply(Vec<u8>),
    Refused(Refusal),
    Lost,
}

/// Takes the outcome of one ask; runs in the link's task.
pub(super) type Resolver = Box<dyn FnOnce(Outcome) + Send>;

/// A word to be sent.
pub(super) struct Outgoing<'a> {
    pub(super) to: &'a ActorPath,
    pub(super) kind: &'a Kind,
    pub(super) type_name: &'static str,
    pub(super) body: &'a [u8],
    pub(super) ttl_ms: Option<u64>,
}

struct Queued {
    frame: Vec<u8>,
    /// Gives the bytes back when it is written.
    _room: OwnedSemaphorePermit,
}

/// What is kept of a word until the receiver's mailbox took it.
struct Unacknowledged {
    id: u64,
    kind: Kind,
    type_name: &'static str,
    /// Its outcome is known to somebody: an ask's asker, or the dead letters.
    is_settled: bool,
}

struct Target {
    credit: Arc<Semaphore>,
    unacknowledged: VecDeque<Unacknowledged>,
}

#[derive(Default)]
struct State {
    is_dead: bool,
    last_id: u64,
    targets: BTreeMap<ActorPath, Target>,
    asks: BTreeMap<u64, Resolver>,
}

impl State {
    /// True if no word is on its way; a dead link has none.
    fn is_settled(&self) -> bool {
        self.targets.values().all(|target| target.unacknowledged.is_empty())
    }
}

/// A link to a peer, up until it [dies](Link::die).
pub(super) struct Link {
    shared: Arc<Shared>,
    peer: Did,
    state: Mutex<State>,
    queue: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
    kill: Notify,
    /// Fired when nothing is unacknowledged any more.
    settled: Notify,
}

/// The receiving end of a link's queue, for its task.
pub(super) struct Queue(mpsc::Receiver<Queued>);

/// Credit for one word; given back if the word is not committed.
struct Granted<'a> {
    credit: tokio::sync::SemaphorePermit<'a>,
    room: OwnedSemaphorePermit,
    slot: mpsc::Permit<'a, Queued>,
}

fn link_lost() -> SendFailure {
    SendFailure::Unreachable("the link was lost".to_owned())
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>, peer: Did) -> (Arc<Self>, Queue) {
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let link = Self {
            shared,
            peer,
            state: Mutex::default(),
            queue,
            bytes: Arc::new(Semaphore::new(MAX_QUEUED_BYTES)),
            kill: Notify::new(),
            settled: Notify::new(),
        };
        (Arc::new(link), Queue(queued))
    }

    pub(super) fn is_dead(&self) -> bool {
        lock(&self.state).is_dead
    }

    /// Lets the link's task end, which settles everything.
    pub(super) fn kill(&self) {
        self.kill.notify_one();
    }

    /// Waits until the peer has taken every word sent to it, or the link is dead.
    pub(super) async fn settle(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if lock(&self.state).is_settled() {
                return;
            }
            settled.await;
        }
    }

    /// Queues a word, waiting for credit and room.
    pub(super) async fn send(&self, word: &Outgoing<'_>) -> Result<(), SendFailure> {
        self.send_with(word, None).await.map(|_| ())
    }

    /// Queues an ask, waiting for credit and room; says its number.
    pub(super) async fn send_ask(&self, word: &Outgoing<'_>, resolver: Resolver) -> Result<u64, SendFailure> {
        self.send_with(word, Some(resolver)).await
    }

    async fn send_with(&self, word: &Outgoing<'_>, ask: Option<Resolver>) -> Result<u64, SendFailure> {
        let length = frame_room(word)?;
        let credit = self.credit(word.to)?;
        let granted = Granted {
            credit: credit.acquire().await.map_err(|_| link_lost())?,
            room: self.bytes.clone().acquire_many_owned(length).await.map_err(|_| link_lost())?,
            slot: self.queue.reserve().await.map_err(|_| link_lost())?,
        };
        self.commit(word, granted, ask)
    }

    /// Queues a word if there is credit and room now.
    pub(super) fn try_send(&self, word: &Outgoing<'_>) -> Result<(), SendFailure> {
        let length = frame_room(word)?;
        let credit = self.credit(word.to)?;
        let refused = |error| match error {
            TryAcquireError::NoPermits => SendFailure::Full,
            TryAcquireError::Closed => link_lost(),
        };
        let granted = Granted {
            credit: credit.try_acquire().map_err(refused)?,
            room: self.bytes.clone().try_acquire_many_owned(length).map_err(refused)?,
            slot: self.queue.try_reserve().map_err(|error| match error {
                mpsc::error::TrySendError::Full(()) => SendFailure::Full,
                mpsc::error::TrySendError::Closed(()) => link_lost(),
            })?,
        };
        self.commit(word, granted, None).map(|_| ())
    }

    /// The credit of a target.
    fn credit(&self, to: &ActorPath) -> Result<Arc<Semaphore>, SendFailure> {
        let mut state = lock(&self.state);
        if state.is_dead {
            return Err(link_lost());
        }
        if let Some(target) = state.targets.get(to) {
            return Ok(target.credit.clone());
        }
        if state.targets.len() >= MAX_IDLE_TARGETS {
            // Held credit is on its way to a commit.
            state.targets.retain(|_, target| {
                !target.unacknowledged.is_empty() || Arc::strong_count(&target.credit) > 1
            });
        }
        if state.targets.len() >= MAX_TARGETS {
            return Err(SendFailure::Full);
        }
        let credit = Arc::new(Semaphore::new(CREDIT));
        let target = Target { credit: credit.clone(), unacknowledged: VecDeque::new() };
        state.targets.insert(to.clone(), target);
        Ok(credit)
    }

    /// Numbers, records and queues a word in one step, so that numbers and the queue have one order.
    fn commit(
        &self,
        word: &Outgoing<'_>,
        granted: Granted<'_>,
        ask: Option<Resolver>,
    ) -> Result<u64, SendFailure> {
        let mut state = lock(&self.state);
        if state.is_dead {
            return Err(link_lost());
        }
        if ask.is_some() && state.asks.len() >= MAX_OPEN_ASKS {
            return Err(SendFailure::Full);
        }
        let id = state.last_id + 1;
        let header = Header::Word(Word {
            to: word.to.clone(),
            kind: word.kind.to_string(),
            id,
            ask: ask.is_some(),
            ttl_ms: word.ttl_ms,
        });
        let frame = frame::encode(&header, word.body).map_err(|_| SendFailure::TooLong)?;
        // The credit's holder keeps the target from being forgotten, so it is there.
        let Some(target) = state.targets.get_mut(word.to) else { return Err(link_lost()) };
        target.unacknowledged.push_back(Unacknowledged {
            id,
            kind: word.kind.clone(),
            type_name: word.type_name,
            is_settled: ask.is_some(),
        });
        state.last_id = id;
        if let Some(resolver) = ask {
            state.asks.insert(id, resolver);
        }
        // Comes back when the receiver says that it took the word.
        granted.credit.forget();
        granted.slot.send(Queued { frame, _room: granted.room });
        Ok(id)
    }

    /// The asker no longer waits.
    pub(super) fn forget_ask(&self, id: u64) {
        let resolver = lock(&self.state).asks.remove(&id);
        drop(resolver);
    }

    /// Drives the stream until it breaks, the peer misbehaves, or the link is killed; then settles.
    pub(super) async fn run<R, W>(self: Arc<Self>, reader: BufReader<R>, writer: W, queue: Queue)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        // Also when this task is dropped with its runtime.
        let link = Dying(self);
        let ended = tokio::select! {
            biased;
            () = link.0.kill.notified() => Ok(()),
            read = link.0.read(reader) => read.map(|never| match never {}),
            written = write(queue, writer) => written,
        };
        if let Err(error) = ended {
            link.0.shared.report_link_end(&error);
        }
    }

    async fn read<R: AsyncRead + Unpin>(
        &self,
        mut reader: BufReader<R>,
    ) -> Result<std::convert::Infallible, FrameError> {
        let mut turn = 0;
        loop {
            let (header, body) = frame::read(&mut reader).await?;
            match header {
                Header::Taken { to, through } => self.taken(&to, through),
                Header::Refused { id, to, refusal } => self.refused(id, &to, refusal),
                Header::Reply { in_reply_to } => self.resolve(in_reply_to, Outcome::Reply(body)),
                Header::Lost { in_reply_to } => self.resolve(in_reply_to, Outcome::Lost),
                Header::Hello(_) | Header::Welcome(_) | Header::Unwelcome(_) => {
                    return Err(FrameError::OutOfPlace("a second greeting"));
                }
                Header::Word(_) => return Err(FrameError::OutOfPlace("a word on the way back")),
            }
            turn += 1;
            if turn % READ_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn taken(&self, to: &ActorPath, through: u64) {
        let mut state = lock(&self.state);
        let Some(target) = state.targets.get_mut(to) else { return };
        let mut count = 0;
        // Credit comes back only for words that were sent, whatever number the peer says.
        while target.unacknowledged.front().is_some_and(|word| word.id <= through) {
            target.unacknowledged.pop_front();
            count += 1;
        }
        target.credit.add_permits(count);
        if state.is_settled() {
            self.settled.notify_waiters();
        }
    }

    fn refused(&self, id: u64, to: &ActorPath, refusal: Refusal) {
        // Cut again: the peer may not have.
        let refusal = Refusal::new(refusal.code, refusal.text);
        let resolver = lock(&self.state).asks.remove(&id);
        if let Some(resolver) = resolver {
            return resolver(Outcome::Refused(refusal));
        }
        let mut state = lock(&self.state);
        let Some(target) = state.targets.get_mut(to) else { return };
        let Some(word) = target.unacknowledged.iter_mut().find(|word| word.id == id && !word.is_settled)
        else {
            return;
        };
        word.is_settled = true;
        let letter = self.letter(to.clone(), word, DeadLetterReason::Refused(refusal));
        drop(state);
        self.shared.bury(letter);
    }

    fn resolve(&self, id: u64, outcome: Outcome) {
        let resolver = lock(&self.state).asks.remove(&id);
        if let Some(resolver) = resolver {
            resolver(outcome);
        }
    }

    fn letter(&self, to: ActorPath, word: &Unacknowledged, reason: DeadLetterReason) -> DeadLetter {
        DeadLetter {
            reason,
            peer: Some(self.peer),
            path: Some(to),
            type_name: Some(word.type_name),
            kind: Some(word.kind.clone()),
            id: Some(word.id),
        }
    }

    /// Settles everything once: waiting senders fail, asks are lost, words become dead letters.
    fn die(&self) {
        let (targets, asks) = {
            let mut state = lock(&self.state);
            if state.is_dead {
                return;
            }
            state.is_dead = true;
            (std::mem::take(&mut state.targets), std::mem::take(&mut state.asks))
        };
        self.settled.notify_waiters();
        self.bytes.close();
        for (path, target) in targets {
            target.credit.close();
            for word in target.unacknowledged.iter().filter(|word| !word.is_settled) {
                self.shared.bury(self.letter(path.clone(), word, DeadLetterReason::LinkLost));
            }
        }
        for (_, resolver) in asks {
            resolver(Outcome::Lost);
        }
    }
}

struct Dying(Arc<Link>);

impl Drop for Dying {
    fn drop(&mut self) {
        self.0.die();
    }
}

/// The queued bytes that a word may take: its body and the longest header.
fn frame_room(word: &Outgoing<'_>) -> Result<u32, SendFailure> {
    if word.body.len() > MAX_BODY_LENGTH {
        return Err(SendFailure::TooLong);
    }
    u32::try_from(word.body.len() + frame::MAX_HEADER_LENGTH).map_err(|_| SendFailure::TooLong)
}

/// Writes what is queued, as much as is there at a time.
async fn write<W: AsyncWrite + Unpin>(mut queue: Queue, mut writer: W) -> Result<(), FrameError> {
    let mut chunk = Vec::new();
    while let Some(first) = queue.0.recv().await {
        chunk.clear();
        chunk.extend_from_slice(&first.frame);
        // Held until the bytes are written: what is being written still counts as queued.
        let mut written = vec![first];
        while chunk.len() < WRITE_CHUNK
            && let Ok(next) = queue.0.try_recv()
        {
            chunk.extend_from_slice(&next.frame);
            written.push(next);
        }
        writer.write_all(&chunk).await.map_err(FrameError::Pipe)?;
        writer.flush().await.map_err(FrameError::Pipe)?;
        chunk.shrink_to(WRITE_CHUNK);
    }
    Ok(())
}
