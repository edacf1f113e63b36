//! The way back of an ask that came over a link: from the actor's thread into the link's buffer.
//!
//! An answer is encoded where it is given, so that the link's task only writes; one that comes later, or
//! while the peer does not read, waits in the task as a future. However an ask ends, its place among
//! the peer's open asks is given back, and exactly one frame says what became of it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use serde::Serialize;
use tokio::sync::oneshot;

use super::super::{Answer, Refusal, RefusalCode, lock};
use super::buffer::{Chunk, Chunks};
use super::frame::Header;
use crate::cbor::{self, CborError};

/// Bytes of encoded replies that wait for a peer that does not read them: more than a connection's
/// window, so that a quick peer never meets it. Beyond it the answers themselves wait, at most as many
/// as there may be open asks, and no further word is read.
pub(super) const MAX_REPLY_BYTES: usize = 4 * 1024 * 1024;

/// Wakes the one task of a link, and tells it to end.
#[derive(Default)]
pub(super) struct Signal {
    waker: AtomicWaker,
    is_stopped: AtomicBool,
}

impl Signal {
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// From now on [`Self::is_stopped`].
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Whom to wake. What is looked at after this call is never missed.
    pub(super) fn register(&self, cx: &std::task::Context<'_>) {
        self.waker.register(cx.waker());
    }
}

/// What became of an ask.
pub(super) enum Outcome {
    Reply(Vec<u8>),
    Refused(Refusal),
    Lost,
}

/// An answer that is not there yet.
pub(super) type Later = BoxFuture<'static, (Asked, Outcome)>;

#[derive(Default)]
struct State {
    chunks: Chunks,
    later: Vec<Later>,
}

/// The replies of one link on their way to its task.
#[derive(Default)]
pub(crate) struct Replies {
    state: Mutex<State>,
    /// Asks without an outcome.
    open: AtomicUsize,
    pub(super) signal: Signal,
}

impl Replies {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn is_backed_up(&self) -> bool {
        lock(&self.state).chunks.length() >= MAX_REPLY_BYTES
    }

    /// Moves what is to be written next into `chunk`.
    pub(super) fn pop_into(&self, chunk: &mut Chunk) -> bool {
        lock(&self.state).chunks.pop_into(chunk)
    }

    /// Answers that the task has to wait for.
    pub(super) fn take_later(&self) -> Vec<Later> {
        let mut state = lock(&self.state);
        if state.later.is_empty() { Vec::new() } else { std::mem::take(&mut state.later) }
    }

    /// The link has ended: nothing is kept any more.
    pub(super) fn close(&self) {
        self.signal.stop();
        let state = std::mem::take(&mut *lock(&self.state));
        drop(state);
    }

    fn push(&self, id: u64, outcome: Outcome) {
        if self.signal.is_stopped() {
            return;
        }
        let mut state = lock(&self.state);
        let written = match outcome {
            Outcome::Reply(body) => state.chunks.push(&Header::Reply { id }, &body, 0),
            Outcome::Refused(refusal) => {
                state.chunks.push(&Header::Refused { id, to: None, refusal }, &[], 0)
            }
            Outcome::Lost => state.chunks.push(&Header::Lost { id }, &[], 0),
        };
        drop(state);
        if written.is_err() {
            // Encoding checked the length of the body, and every header is bounded.
            tracing::debug!(id, "a reply could not be written");
        }
        self.signal.wake();
    }

    fn push_later(&self, later: Later) {
        if !self.signal.is_stopped() {
            lock(&self.state).later.push(later);
            self.signal.wake();
        }
    }
}

/// One ask's place among the open ones, given back however it ends.
pub(crate) struct Asked {
    replies: Arc<Replies>,
    id: u64,
    /// The open asks of its kind, if they are counted.
    of_kind: Option<Arc<AtomicUsize>>,
}

impl Asked {
    pub(super) fn new(replies: &Arc<Replies>, id: u64, of_kind: Option<Arc<AtomicUsize>>) -> Self {
        replies.open.fetch_add(1, Ordering::Relaxed);
        if let Some(of_kind) = &of_kind {
            of_kind.fetch_add(1, Ordering::Relaxed);
        }
        Self { replies: replies.clone(), id, of_kind }
    }

    /// Says the outcome. The place is free before that can be heard: who is answered may ask again.
    pub(super) fn end(self, outcome: Outcome) {
        let (replies, id) = (self.replies.clone(), self.id);
        drop(self);
        replies.push(id, outcome);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.replies.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(of_kind) = &self.of_kind {
            of_kind.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Gives the outcome of one ask to its peer; dropped unused, that it is lost.
pub(crate) struct FarReply<R> {
    asked: Option<Asked>,
    encode: fn(&R) -> Result<Vec<u8>, CborError>,
}

impl<R: Serialize> FarReply<R> {
    pub(crate) fn new(asked: Asked) -> Self {
        Self { asked: Some(asked), encode: |reply| cbor::to_canonical(reply) }
    }
}

impl<R> FarReply<R> {
    /// False once the link has gone.
    fn is_awaited(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| !asked.replies.signal.is_stopped())
    }

    /// The ask was not taken after all.
    pub(crate) fn refuse(mut self, refusal: Refusal) {
        if let Some(asked) = self.asked.take() {
            asked.end(Outcome::Refused(refusal));
        }
    }
}

impl<R: Send + 'static> FarReply<R> {
    fn answer(mut self, answer: Answer<R>) {
        if !self.is_awaited() {
            return;
        }
        let encode = self.encode;
        let outcome = move |reply: Option<R>| match reply {
            None => Outcome::Lost,
            Some(reply) => match encode(&reply) {
                Ok(body) => Outcome::Reply(body),
                Err(error) => Outcome::Refused(Refusal::new(
                    RefusalCode::TooLong,
                    format!("it was done, but the reply cannot travel: {error}"),
                )),
            },
        };
        let Some(replies) = self.asked.as_ref().map(|asked| asked.replies.clone()) else { return };
        match answer {
            Answer::Now(reply) if !replies.is_backed_up() => {
                // A reply that panics when it is written leaves `self` behind, which says that it is lost.
                let outcome = outcome(Some(reply));
                if let Some(asked) = self.asked.take() {
                    asked.end(outcome);
                }
            }
            answer => {
                let Some(asked) = self.asked.take() else { return };
                replies.push_later(Box::pin(async move {
                    let reply = answer.resolve().await;
                    // A reply that panics when it is written must not take the link's task down.
                    let outcome = catch_unwind(AssertUnwindSafe(|| outcome(reply)));
                    (asked, outcome.unwrap_or(Outcome::Lost))
                }));
            }
        }
    }
}

impl<R> Drop for FarReply<R> {
    fn drop(&mut self) {
        if let Some(asked) = self.asked.take() {
            asked.end(Outcome::Lost);
        }
    }
}

/// Where the answer of a message goes; dropped unused, the asker is told that it is lost.
pub(crate) enum ReplyTo<R> {
    /// To an asker of this system.
    Near(oneshot::Sender<Answer<R>>),
    /// Over the link that the ask came over.
    Far(FarReply<R>),
}

impl<R> ReplyTo<R> {
    /// False once the asker has given up, or its link has gone.
    pub(crate) fn is_awaited(&self) -> bool {
        match self {
            Self::Near(reply) => !reply.is_closed(),
            Self::Far(reply) => reply.is_awaited(),
        }
    }
}

impl<R: Send + 'static> ReplyTo<R> {
    /// Gives the answer. An asker that gave up is no failure.
    pub(crate) fn send(self, answer: Answer<R>) {
        match self {
            Self::Near(reply) => drop(reply.send(answer)),
            Self::Far(reply) => reply.answer(answer),
        }
    }
}

impl<R> fmt::Debug for ReplyTo<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Near(_) => "Near",
            Self::Far(_) => "Far",
        })
    }
}
