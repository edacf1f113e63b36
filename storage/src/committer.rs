//! Commits batches in one order, many with one sync: the only writer of an engine that is in use.
//!
//! Called by the Node actor, which reserves a place ([`Committer::reserve`]) *before* it changes its memory, then
//! commits and speaks only once the [`CommitTicket`] says that the batch is on the disk.
//!
//! ```text
//! caller:  reserve -> change memory -> permit.commit(batch) -> await ticket -> speak
//! thread:  take first -> take what has arrived (64 commits, 1 MiB at most) -> ONE write -> all tickets, in order
//! ```
//!
//! The next write is whatever arrived during the last one, so a lone commit waits for nobody and a crowd shares a
//! sync. What nobody asked to have synced is synced [`MAX_UNSYNCED`] later at the latest, so that a power cut never
//! finds a long tail that may reach the disk in pieces; with nothing un-synced the thread sleeps until it is called.
//! After one failed write nothing is tried again: what reached the disk is unknown, and a later batch may be
//! built on a lost one. The committer refuses to queue without bound and to acknowledge out of order.
//!
//! The thread may be a task instead ([`Committer::on_task`]), whose writes take as long as it is told: a disk in virtual
//! time. Queue, groups, order and failure are the same.
//!
//! A batch may also be made at its turn ([`CommitPermit::commit_with`]), from what the engine holds then: all that was
//! committed before it and nothing of what comes after. That is how rows are copied as of one event while the owner
//! goes on recording.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout_at;

use crate::engine::{Batch, Durability, Engine, EngineError};
use crate::failpoints;

/// Commits waiting or promised a place. At about 250 syncs a second with 64 commits each, a full queue is drained in
/// a tenth of a second; more would only hide that the disk is too slow.
pub const QUEUE_CAPACITY: usize = 1_024;
/// Commits in one write: what one sync is worth sharing among. More gains little and delays the first of them.
pub const MAX_GROUP_COMMITS: usize = 64;
/// Bytes in one write; the size up to which RocksDB itself groups. A single larger batch is written alone.
pub const MAX_GROUP_BYTES: usize = 1024 * 1024;

/// How long a write may stay un-synced if nothing synced follows it. Counted from the first such write and not from
/// the last, or a steady trickle would put it off for ever; one sync a second is nothing to any disk.
pub const MAX_UNSYNCED: Duration = Duration::from_secs(1);

/// Why a commit is not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// There was no room and nothing was queued; the same commit may succeed later.
    #[error("too many commits are waiting")]
    Overloaded,
    /// The write this commit was part of failed: whether it is on disk is unknown until the engine is reopened.
    #[error("the commit's write failed")]
    Failed(#[source] Arc<EngineError>),
    /// An earlier write failed; this one was not tried and never will be.
    #[error("an earlier write failed")]
    Poisoned(#[source] Arc<EngineError>),
    /// The committer was dropped before the permit was used; nothing was written.
    #[error("the committer is closed")]
    Closed,
    /// The committer's thread is gone without an answer: whether the commit is on disk is unknown.
    #[error("the committer's thread is gone")]
    Lost,
}

/// There is no room for another commit now.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many commits are waiting")]
pub struct Overloaded;

impl From<Overloaded> for CommitError {
    fn from(_: Overloaded) -> Self {
        Self::Overloaded
    }
}

/// What a committer has done since its start.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitterStats {
    /// Commits acknowledged as done.
    pub commits: u64,
    /// Writes done for them.
    pub writes: u64,
    /// The most commits one write has carried.
    pub largest_group: usize,
    /// The most bytes one write has carried.
    pub largest_write_bytes: usize,
    /// Commits waiting now, those being written not counted.
    pub queued: usize,
}

/// The one writer of an engine. Dropping it writes what is queued and syncs, which may block for some syncs.
pub struct Committer {
    shared: Arc<Shared>,
    /// `None`: commits on the caller's thread, or in a task.
    thread: Option<JoinHandle<()>>,
}

/// How long the disk takes, where it is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteTime {
    /// Until the write is done: a crash before that finds nothing of it.
    pub write: Duration,
    /// From then until anybody is told.
    pub answer: Duration,
}

/// What the callers and the thread share. A mutex and not a channel, because a place must be reservable apart from
/// its use, and dropping the committer must not wait for reservations that are never used. Held for moments only;
/// over a write only when inline, where it is what keeps the order.
struct Shared {
    engine: Arc<dyn Engine>,
    is_inline: bool,
    state: Mutex<State>,
    /// Signalled when a commit has been queued or the committer is closed; only the thread waits for it.
    changed: Condvar,
    /// The same for a task.
    changed_for_task: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    reserved: usize,
    is_closed: bool,
    poison: Option<Arc<EngineError>>,
    stats: CommitterStats,
}

struct Queued {
    work: Work,
    durability: Durability,
    answer: Tell,
}

type Tell = oneshot::Sender<Result<(), CommitError>>;
type Written = Result<(), Arc<EngineError>>;

/// What a commit writes.
enum Work {
    /// This.
    Now(Batch),
    /// What this makes of the engine once everything before it is written; written alone.
    AtItsTurn(MakeBatch),
}

type MakeBatch = Box<dyn FnOnce(&dyn Engine) -> Result<Batch, EngineError> + Send>;

impl Committer {
    /// Starts a committer with its own thread, `dms-committer`.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn try_start(engine: Arc<dyn Engine>) -> std::io::Result<Self> {
        let shared = Shared::new(engine, false);
        let thread = thread::Builder::new().name("dms-committer".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// [`Committer::try_start`] for a program that cannot go on without.
    ///
    /// # Panics
    /// If the system gives no thread.
    pub fn start(engine: Arc<dyn Engine>) -> Self {
        Self::try_start(engine).expect("the system gives a thread at start-up")
    }

    /// A committer that writes at once on the caller's thread, one write a commit: for simulations, where a thread
    /// of its own would make two runs differ. Its tickets are settled from the beginning; what is un-synced stays so
    /// until a synced commit follows.
    pub fn inline(engine: Arc<dyn Engine>) -> Self {
        Self { shared: Shared::new(engine, true), thread: None }
    }

    /// A committer whose thread is a task of `runtime`: for simulations. `disk` says how long each write takes, in the
    /// runtime's time. Dropping it writes what is queued at once.
    pub fn on_task(
        engine: Arc<dyn Engine>,
        runtime: &Handle,
        disk: impl FnMut(Durability) -> WriteTime + Send + 'static,
    ) -> Self {
        let shared = Shared::new(engine, false);
        runtime.spawn(Arc::clone(&shared).run_as_task(disk));
        Self { shared, thread: None }
    }

    /// Reserves a place for one commit. Take it before changing memory: with it, the commit cannot be turned away.
    ///
    /// # Errors
    /// [`Overloaded`] if [`QUEUE_CAPACITY`] commits are waiting or promised a place.
    pub fn reserve(&self) -> Result<CommitPermit, Overloaded> {
        let mut state = self.shared.lock();
        if !state.has_room(1) {
            return Err(Overloaded);
        }
        state.reserved += 1;
        Ok(CommitPermit { shared: Some(Arc::clone(&self.shared)) })
    }

    /// Whether `count` commits would find room now. Only [`Committer::reserve`] keeps it.
    pub fn has_room(&self, count: usize) -> bool {
        self.shared.lock().has_room(count)
    }

    /// Reserves and commits at once, for a caller with no memory to keep in step. Never blocks on the disk (unless
    /// inline); without room the ticket is settled with [`CommitError::Overloaded`] and nothing is queued.
    pub fn commit(&self, batch: Batch, durability: Durability) -> CommitTicket {
        match self.reserve() {
            Ok(permit) => permit.commit(batch, durability),
            Err(overloaded) => CommitTicket::settled(Err(overloaded.into())),
        }
    }

    /// Whether a write has failed; then every commit fails until the engine is opened again under a new committer.
    pub fn is_poisoned(&self) -> bool {
        self.shared.lock().poison.is_some()
    }

    /// What has been done so far.
    pub fn stats(&self) -> CommitterStats {
        let state = self.shared.lock();
        CommitterStats { queued: state.queue.len(), ..state.stats }
    }
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer")
            .field("engine", &self.shared.engine)
            .field("is_inline", &self.shared.is_inline)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.notify();
        match self.thread.take() {
            Some(thread) => {
                if thread.join().is_err() {
                    tracing::error!("the committer's thread panicked");
                }
            }
            None if self.shared.is_inline => {}
            // A task: whoever opens the engine next must find what was queued.
            None => self.shared.finish(),
        }
    }
}

/// A reserved place for one commit; dropped unused, the place is free again.
#[must_use = "a reserved place that is dropped is given back"]
pub struct CommitPermit {
    /// `None` once used.
    shared: Option<Arc<Shared>>,
}

impl CommitPermit {
    /// Commits `batch` after everything committed before it. Never blocks on the disk (unless inline).
    pub fn commit(self, batch: Batch, durability: Durability) -> CommitTicket {
        self.commit_work(Work::Now(batch), durability)
    }

    /// Commits what `make` makes of the engine after everything committed before it, and before anything committed
    /// later. It runs on the committer's thread (the caller's if inline) and is written alone: commits wait for it, so
    /// it must be bounded. An error of it is a failed write.
    pub fn commit_with(
        self,
        make: impl FnOnce(&dyn Engine) -> Result<Batch, EngineError> + Send + 'static,
        durability: Durability,
    ) -> CommitTicket {
        self.commit_work(Work::AtItsTurn(Box::new(make)), durability)
    }

    fn commit_work(mut self, work: Work, durability: Durability) -> CommitTicket {
        let shared = self.shared.take().expect("a permit is used once: commit() takes it");
        let mut state = shared.lock();
        state.reserved -= 1;
        if state.is_closed {
            return CommitTicket::settled(Err(CommitError::Closed));
        }
        if shared.is_inline {
            return CommitTicket::settled(shared.commit_inline(&mut state, work, durability));
        }
        let (answer, receiver) = oneshot::channel();
        state.queue.push_back(Queued { work, durability, answer });
        drop(state);
        shared.notify();
        CommitTicket { answer: Answer::Awaited(receiver) }
    }
}

impl Drop for CommitPermit {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.lock().reserved -= 1;
        }
    }
}

impl fmt::Debug for CommitPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitPermit").finish_non_exhaustive()
    }
}

/// The answer to one commit: a future, which may also be waited for outside of one. Dropping it takes nothing back.
#[derive(Debug)]
#[must_use = "nothing may be promised before the commit is acknowledged"]
pub struct CommitTicket {
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Settled(Result<(), CommitError>),
    Awaited(oneshot::Receiver<Result<(), CommitError>>),
}

impl CommitTicket {
    fn settled(result: Result<(), CommitError>) -> Self {
        Self { answer: Answer::Settled(result) }
    }

    /// Blocks this thread until the answer is there: for command lines and tests.
    ///
    /// # Errors
    /// See [`CommitError`].
    ///
    /// # Panics
    /// Inside an asynchronous runtime, unless the answer is already there; await the ticket there.
    pub fn wait(self) -> Result<(), CommitError> {
        match self.answer {
            Answer::Settled(result) => result,
            Answer::Awaited(mut receiver) => match receiver.try_recv() {
                Ok(result) => result,
                Err(_) => receiver.blocking_recv().unwrap_or(Err(CommitError::Lost)),
            },
        }
    }
}

impl Future for CommitTicket {
    type Output = Result<(), CommitError>;

    fn poll(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.answer {
            Answer::Settled(result) => Poll::Ready(result.clone()),
            Answer::Awaited(receiver) => {
                let answer = ready!(Pin::new(receiver).poll(ctx));
                Poll::Ready(answer.unwrap_or(Err(CommitError::Lost)))
            }
        }
    }
}

impl State {
    fn has_room(&self, count: usize) -> bool {
        self.queue.len() + self.reserved + count <= QUEUE_CAPACITY
    }

    /// The first waiting commits that one write may carry.
    fn take_group(&mut self) -> Vec<Queued> {
        let mut bytes = 0;
        let batches = self.queue.iter().map_while(|queued| match &queued.work {
            Work::Now(batch) => Some(batch),
            Work::AtItsTurn(_) => None,
        });
        let count = batches
            .take(MAX_GROUP_COMMITS)
            .take_while(|batch| {
                let is_first = bytes == 0;
                bytes += batch.byte_len();
                is_first || bytes <= MAX_GROUP_BYTES
            })
            .count();
        // None: the first is made at its turn, which is now.
        let count = count.max(1).min(self.queue.len());
        self.queue.drain(..count).collect()
    }

    fn record_write(&mut self, commit_count: usize, byte_len: usize) {
        let stats = &mut self.stats;
        stats.commits += commit_count as u64;
        stats.writes += 1;
        stats.largest_group = stats.largest_group.max(commit_count);
        stats.largest_write_bytes = stats.largest_write_bytes.max(byte_len);
    }
}

impl Shared {
    fn new(engine: Arc<dyn Engine>, is_inline: bool) -> Arc<Self> {
        Arc::new(Self {
            engine,
            is_inline,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            changed_for_task: Notify::new(),
        })
    }

    fn notify(&self) {
        self.changed.notify_one();
        self.changed_for_task.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of ours panics under the lock, and an engine that does is caught in `write`.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: until closed, drained and synced.
    fn run(&self) {
        // When the sync of what is written but not synced is due.
        let mut sync_due: Option<Instant> = None;
        loop {
            let state = self.wait_for_work(sync_due);
            let is_overdue = sync_due.is_some_and(|due| due <= Instant::now());
            sync_due = match next_turn(state, sync_due.is_some(), is_overdue) {
                Turn::End => return,
                Turn::Refused => None,
                Turn::Write(group, durability) => {
                    self.commit_group(group, durability);
                    (durability == Durability::Unsynced)
                        .then(|| sync_due.unwrap_or_else(|| Instant::now() + MAX_UNSYNCED))
                }
            };
        }
    }

    /// The same as a task; a write begins when there is something to write, takes its time, and then carries what has
    /// come until its end.
    async fn run_as_task(self: Arc<Self>, mut disk: impl FnMut(Durability) -> WriteTime) {
        type Instant = tokio::time::Instant;
        let mut sync_due: Option<Instant> = None;
        loop {
            self.wait_as_task(sync_due).await;
            let asked = self.lock().queue.iter().map(|queued| queued.durability).max();
            let time = disk(asked.unwrap_or(Durability::Synced));
            tokio::time::sleep(time.write).await;
            let is_overdue = sync_due.is_some_and(|due| due <= Instant::now());
            let turn = next_turn(self.lock(), sync_due.is_some(), is_overdue);
            sync_due = match turn {
                Turn::End => return,
                Turn::Refused => None,
                Turn::Write(group, durability) => {
                    let (answers, result) = self.write_group(group, durability);
                    tokio::time::sleep(time.answer).await;
                    acknowledge(answers, &result);
                    (durability == Durability::Unsynced)
                        .then(|| sync_due.unwrap_or_else(|| Instant::now() + MAX_UNSYNCED))
                }
            };
        }
    }

    async fn wait_as_task(&self, sync_due: Option<tokio::time::Instant>) {
        loop {
            let changed = self.changed_for_task.notified();
            {
                let state = self.lock();
                if !state.queue.is_empty() || state.is_closed {
                    return;
                }
            }
            match sync_due {
                Some(due) => {
                    if timeout_at(due, changed).await.is_err() {
                        return;
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Writes what is queued, and syncs, on the caller's thread, when nobody will any more.
    fn finish(&self) {
        let mut is_unsynced = true;
        loop {
            match next_turn(self.lock(), is_unsynced, false) {
                Turn::Write(group, _) => self.commit_group(group, Durability::Synced),
                Turn::Refused => {}
                Turn::End => return,
            }
            is_unsynced = false;
        }
    }

    /// Waits for commits, for the end, or until a sync is due; without one, for as long as it takes.
    fn wait_for_work(&self, sync_due: Option<Instant>) -> MutexGuard<'_, State> {
        let is_idle = |state: &mut State| state.queue.is_empty() && !state.is_closed;
        let mut state = self.lock();
        let Some(due) = sync_due else {
            return self.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner);
        };
        loop {
            // Asked anew after each wait, which may end early.
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || !is_idle(&mut state) {
                return state;
            }
            let waited = self.changed.wait_timeout_while(state, left, is_idle);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn commit_group(&self, group: Vec<Queued>, durability: Durability) {
        let (answers, result) = self.write_group(group, durability);
        acknowledge(answers, &result);
    }

    fn write_group(&self, group: Vec<Queued>, durability: Durability) -> (Vec<Tell>, Written) {
        let mut merged = Work::Now(Batch::new());
        let mut answers = Vec::with_capacity(group.len());
        for queued in group {
            match (&mut merged, queued.work) {
                (Work::Now(merged), Work::Now(batch)) => merged.append(batch),
                // Alone in its group.
                (merged, work) => *merged = work,
            }
            answers.push(queued.answer);
        }
        let (result, byte_len) = match self.write(merged, durability) {
            Ok(byte_len) => (Ok(()), byte_len),
            Err(cause) => (Err(cause), 0),
        };
        {
            // Counted and poisoned before the first answer, so that whoever hears it sees them.
            let mut state = self.lock();
            match &result {
                // A sync of its own carries no commit.
                Ok(()) if answers.is_empty() => {}
                Ok(()) => state.record_write(answers.len(), byte_len),
                Err(cause) => state.poison = Some(Arc::clone(cause)),
            }
        }
        (answers, result)
    }

    fn commit_inline(
        &self,
        state: &mut State,
        work: Work,
        durability: Durability,
    ) -> Result<(), CommitError> {
        if let Some(cause) = &state.poison {
            return Err(CommitError::Poisoned(Arc::clone(cause)));
        }
        match self.write(work, durability) {
            Ok(byte_len) => {
                state.record_write(1, byte_len);
                Ok(())
            }
            Err(cause) => {
                state.poison = Some(Arc::clone(&cause));
                Err(CommitError::Failed(cause))
            }
        }
    }

    /// One write to the engine; how many bytes. A panic in it is one more way to fail: it must not leave tickets
    /// without an answer.
    fn write(&self, work: Work, durability: Durability) -> Result<usize, Arc<EngineError>> {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let batch = match work {
                Work::Now(batch) => batch,
                Work::AtItsTurn(make) => make(&*self.engine)?,
            };
            let byte_len = batch.byte_len();
            failpoints::pass(failpoints::BEFORE_WRITE);
            let written = self.engine.write(batch, durability);
            failpoints::pass(failpoints::AFTER_WRITE);
            written.map(|()| byte_len)
        }));
        let result = caught.unwrap_or_else(|payload| {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let reason = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Err(EngineError::Panicked { reason: reason.unwrap_or_else(|| "no message".to_owned()) })
        });
        result.map_err(|error| {
            tracing::error!(%error, "a commit failed, nothing more will be written");
            Arc::new(error)
        })
    }
}

/// What comes next for whoever writes.
enum Turn {
    /// This group, with this durability at least.
    Write(Vec<Queued>, Durability),
    /// Nothing: a write has failed, and those who waited were told.
    Refused,
    /// The end: closed, drained and synced.
    End,
}

fn next_turn(mut state: MutexGuard<'_, State>, is_unsynced: bool, is_overdue: bool) -> Turn {
    let group = state.take_group();
    let poison = state.poison.clone();
    let is_closed = state.is_closed;
    drop(state);
    if let Some(cause) = poison {
        if group.is_empty() && is_closed {
            return Turn::End;
        }
        answer(group, Err(CommitError::Poisoned(cause)));
        return Turn::Refused;
    }
    let asked = group.iter().map(|queued| queued.durability).max();
    match asked {
        Some(asked) if !is_overdue => Turn::Write(group, asked),
        None if !is_unsynced && is_closed => Turn::End,
        // Due, or the last chance: the next commits carry the sync, or nothing does.
        _ => Turn::Write(group, Durability::Synced),
    }
}

fn acknowledge(answers: Vec<Tell>, result: &Written) {
    for answer in answers {
        failpoints::pass(failpoints::BEFORE_ACKNOWLEDGE);
        // Whoever dropped the ticket does not want to know.
        let _ = answer.send(result.clone().map_err(CommitError::Failed));
    }
}

fn answer(group: Vec<Queued>, result: Result<(), CommitError>) {
    for queued in group {
        // Whoever dropped the ticket does not want to know.
        let _ = queued.answer.send(result.clone());
    }
}

#[cfg(test)]
mod tests;
