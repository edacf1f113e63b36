//! The Allocation actor: prepares, runs, reports and ends one allocation, which is one task of a pod; effects around
//! [`AllocationMachine`]. Of the pod's other tasks it knows nothing: the Node stops them together.
//!
//! ```text
//!   fetch contents ──► execute ──► keep outputs ──► Commit{ended} ──► stop
//!        └── every step is a pipe: the actor always hears Stop, status requests and silence
//! ```

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dms_actors::clock::SharedClock;
use dms_actors::{Actor, ActorRef, Answer, Context, Handler, Message};
use dms_messages::{
    AllocationOutput, AllocationRefusal, AllocationResult, AllocationState, AllocationStatus, Contract, Did,
    DiskMib, FailureCause, MemoryMib, MessageContent, Millis, OutputStream, StopCause, Task, bounded_text,
};
use dms_storage::books::AllocationRow;
use dms_storage::sabotage::{self, Bug};
use dms_storage::{Event, failpoints};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::state::{AllocationMachine, Effect, Input};
use crate::blobs::{BlobError, FetchPlan};
use crate::errors::whole;
use crate::executors::inbox::{Asked, Inbox, Letterbox, inbox};
use crate::executors::{self, Execution, ExecutionFailure, Exit, Limits, Outcome, OutputChunk, Workload};
use crate::monitor::Attach;
use crate::node::{Author, Commit, Node, NodeParts};
use crate::signer::RECORD_TTL;
use crate::word::{Addressed, Word};

/// How often it is checked whether the requester was heard of.
const SILENCE_PERIOD: Duration = Duration::from_secs(1);
/// Longest time that a program goes on without its requester, whatever the contract says.
const MAX_ORPHAN_TIME: Duration = Duration::from_secs(600);
/// How long fetching the module and inputs may take; the capacity is held meanwhile.
const PREPARE_DEADLINE: Duration = Duration::from_secs(600);
/// How much live output may be on its way: the requester says what it has got.
const OUTPUT_WINDOW: usize = 256 * 1024;
/// Longest piece of live output in one word.
const OUTPUT_PIECE: usize = 16 * 1024;

/// Somebody wants the allocation stopped.
#[derive(Debug)]
pub struct Stop(pub StopCause);

impl Message for Stop {
    type Reply = ();
}

/// The requester was heard of.
#[derive(Debug)]
pub struct Heard;

impl Message for Heard {
    type Reply = ();
}

/// The requester has this much live output; it wants what follows.
#[derive(Debug)]
pub struct OutputFrom {
    /// Bytes of standard output it has.
    pub stdout: u64,
    /// Bytes of standard error it has.
    pub stderr: u64,
}

impl Message for OutputFrom {
    type Reply = ();
}

/// One stream of output: kept whole up to the limit, for live pieces and for the result.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// How many there were so far: still known when they have gone into the result.
    length: u64,
    /// How much was told live.
    told: usize,
}

/// The actor.
#[derive(Debug)]
pub struct AllocationActor {
    node: ActorRef<Node>,
    parts: NodeParts,
    row: AllocationRow,
    contract: Contract,
    machine: AllocationMachine,
    clock: SharedClock,
    /// When the requester was last heard of, on the monotonic clock.
    heard: Duration,
    /// Fired to stop the program.
    stop: Option<oneshot::Sender<()>>,
    /// Fired to stop the fetching.
    halt: watch::Sender<bool>,
    work: PathBuf,
    stdout: Kept,
    stderr: Kept,
    /// What is not yet in the Node's mailbox, in order.
    outgoing: VecDeque<Commit>,
    is_sending: bool,
    is_finished: bool,
    /// How much live output the requester said it has, of each stream.
    has: (u64, u64),
    /// Where messages for the program go, once it was started.
    letterbox: Option<Letterbox>,
    /// When it was started, on the monotonic clock.
    started: Option<Duration>,
}

impl AllocationActor {
    /// An actor for an allocation that was accepted and not yet started.
    pub fn new(row: AllocationRow, contract: Contract, node: ActorRef<Node>, parts: NodeParts) -> Self {
        let clock = Arc::clone(&parts.clock);
        Self {
            machine: AllocationMachine::new(contract.orphan_after.duration().min(MAX_ORPHAN_TIME)),
            heard: clock.monotonic(),
            work: parts.blobs.work_directory(row.id),
            clock,
            node,
            parts,
            row,
            contract,
            stop: None,
            halt: watch::Sender::new(false),
            stdout: Kept::default(),
            stderr: Kept::default(),
            outgoing: VecDeque::new(),
            is_sending: false,
            is_finished: false,
            has: (0, 0),
            letterbox: None,
            started: None,
        }
    }

    /// True if `who` may speak to the program.
    pub(super) fn may_address(&self, who: Did) -> bool {
        let me = self.parts.signer.me();
        super::may_address(&self.parts.gate, me, self.row.requester, self.row.id, who)
    }

    /// Puts a message into the program's inbox.
    pub(super) fn deliver(
        &self,
        content: MessageContent,
        wants_reply: bool,
    ) -> Result<Option<Asked>, AllocationRefusal> {
        match &self.letterbox {
            _ if self.is_finished => Err(AllocationRefusal::Ended),
            Some(letterbox) => letterbox.deliver(content, wants_reply),
            None => Err(AllocationRefusal::NotStarted),
        }
    }

    /// How many messages the program was brought, and how many of them it has not read.
    pub(super) fn message_counts(&self) -> (u64, u64) {
        self.letterbox.as_ref().map_or((0, 0), Letterbox::counts)
    }

    /// Bytes of standard output and of standard error so far.
    pub(super) fn output_lengths(&self) -> (u64, u64) {
        (self.stdout.length, self.stderr.length)
    }

    /// For how long the program has run.
    pub(super) fn ran(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |started| self.clock.monotonic().saturating_sub(started))
    }

    fn task(&self) -> &Task {
        &self.contract.pod.tasks[usize::from(self.row.task)]
    }

    /// Most output of each stream: it is in memory, and the tasks of a pod share what one would have.
    fn max_output(&self) -> u64 {
        self.parts.provider_rules.max_output / u64::from(self.row.task_count.max(1))
    }

    fn step(&mut self, input: Input, ctx: &mut Context<'_, Self>) {
        for effect in self.machine.step(input) {
            match effect {
                Effect::Move(state) => self.moved(state, ctx),
                Effect::Prepare => self.prepare(ctx),
                Effect::Run => self.run(ctx),
                Effect::Halt => {
                    self.halt.send_replace(true);
                    self.stop.take().map(|stop| stop.send(()));
                }
                Effect::End(state, result) => self.ended(state, result, ctx),
            }
        }
    }

    /// The word about the state, signed for the requester.
    fn status(&self, state: AllocationState, result: Option<AllocationResult>) -> Vec<Addressed> {
        let AllocationRow { attempt, id: allocation, task, .. } = self.row;
        let status = AllocationStatus { attempt, allocation, task, state, result };
        match self.parts.signer.sign(status, Some(self.row.requester), RECORD_TTL) {
            Ok(signed) => vec![Addressed::new(self.row.requester, Word::AllocationStatus(signed))],
            Err(error) => {
                tracing::error!(allocation = %self.row.id, %error, "a status could not be signed");
                Vec::new()
            }
        }
    }

    fn moved(&mut self, state: AllocationState, ctx: &mut Context<'_, Self>) {
        tracing::info!(allocation = %self.row.id, attempt = %self.row.attempt, %state, "allocation moved");
        let words = self.status(state.clone(), None);
        let event = Event::AllocationMoved { allocation: self.row.id, state };
        self.commit(vec![event], words, ctx);
    }

    fn ended(
        &mut self,
        state: AllocationState,
        result: Option<AllocationResult>,
        ctx: &mut Context<'_, Self>,
    ) {
        tracing::info!(allocation = %self.row.id, attempt = %self.row.attempt, %state, "allocation ended");
        let words = self.status(state.clone(), result.clone());
        let event = Event::AllocationEnded { allocation: self.row.id, state, result };
        self.is_finished = true;
        self.commit(vec![event], words, ctx);
    }

    /// Hands events and words to the Node in order, whatever room its mailbox has.
    fn commit(&mut self, events: Vec<Event>, words: Vec<Addressed>, ctx: &mut Context<'_, Self>) {
        let author = Author::Allocation(self.row.id, ctx.me().id());
        self.outgoing.push_back(Commit { author, events, words });
        self.send(ctx);
    }

    fn send(&mut self, ctx: &mut Context<'_, Self>) {
        if self.is_sending {
            return;
        }
        match self.outgoing.pop_front() {
            Some(commit) => {
                self.is_sending = true;
                let node = self.node.clone();
                let is_last = self.is_finished && self.outgoing.is_empty();
                // The last one is waited for until it is on disk: only then may this actor be gone.
                let sent = async move {
                    if is_last {
                        let _ = node.ask(commit).timeout(Duration::from_secs(60)).await;
                    } else {
                        let _ = node.tell(commit).await;
                    }
                };
                ctx.pipe(sent, |actor, (), ctx| {
                    actor.is_sending = false;
                    actor.send(ctx);
                });
            }
            None if self.is_finished => ctx.stop(),
            None => {}
        }
    }

    fn prepare(&mut self, ctx: &mut Context<'_, Self>) {
        let task = self.task();
        let plan = FetchPlan {
            from: self.row.requester,
            module: task.module,
            stdin: task.stdin,
            input: task.input,
            max_bytes: self.row.resources.disk.bytes(),
            work: self.work.clone(),
        };
        let blobs = Arc::clone(&self.parts.blobs);
        let transport = Arc::clone(&self.parts.network.transport);
        let runtime = self.parts.network.runtime.clone();
        let mut halted = self.halt.subscribe();
        let fetched = runtime.spawn(async move {
            tokio::select! {
                biased;
                _ = halted.wait_for(|is_halted| *is_halted) => {
                    Err(FailureCause::InputUnavailable { text: "stopped while fetching".to_owned() })
                }
                fetched = timeout(PREPARE_DEADLINE, blobs.prepare(&*transport, plan)) => match fetched {
                    Ok(fetched) => fetched.map_err(|error| prepare_failure(&error)),
                    Err(_) => {
                        let text = format!("not here within {} s", PREPARE_DEADLINE.as_secs());
                        Err(FailureCause::InputUnavailable { text })
                    }
                },
            }
        });
        ctx.pipe(fetched, |actor, fetched, ctx| {
            let outcome = match fetched {
                Ok(outcome) => outcome,
                Err(error) => Err(FailureCause::Executor { text: bounded_text(whole(&error)) }),
            };
            actor.step(Input::Prepared(outcome), ctx);
        });
    }

    fn run(&mut self, ctx: &mut Context<'_, Self>) {
        let blobs = Arc::clone(&self.parts.blobs);
        let task = self.task().clone();
        let work = self.work.clone();
        let limits = Limits {
            memory_bytes: self.row.resources.memory.bytes(),
            cpu_millis: self.row.resources.cpu.0,
            disk_bytes: self.row.resources.disk.bytes(),
            timeout: task.timeout.duration(),
            output_bytes: self.max_output(),
        };
        let (letterbox, inbox) = inbox();
        let loaded = self.parts.workers.run(move || load(&blobs, &task, work, inbox));
        ctx.pipe(loaded, move |actor, loaded, ctx| {
            let workload = match loaded.map_err(|error| error.to_string()).and_then(|loaded| loaded) {
                Ok(workload) => workload,
                Err(text) => return actor.run_failed(text, ctx),
            };
            if sabotage::has(Bug::StartsTwice) {
                drop(actor.parts.executor.start(workload.clone(), limits));
            }
            let Execution { output, outcome, stop, gauge } = actor.parts.executor.start(workload, limits);
            failpoints::pass(failpoints::AFTER_SPAWN);
            let (node, attach) = (actor.node.clone(), Attach { allocation: actor.row.id, gauge });
            ctx.pipe(async move { node.tell(attach).await.is_ok() }, |_, _, _| {});
            actor.stop = Some(stop);
            actor.letterbox = Some(letterbox);
            actor.started = Some(actor.clock.monotonic());
            if *actor.halt.borrow() {
                actor.stop.take().map(|stop| stop.send(()));
            }
            actor.read(output, outcome, ctx);
        });
    }

    fn run_failed(&mut self, text: String, ctx: &mut Context<'_, Self>) {
        let exit = Exit::Failed(ExecutionFailure::Host(text.clone()));
        let result = Err(FailureCause::Executor { text: bounded_text(text) });
        self.step(Input::Ended { exit, result }, ctx);
    }

    /// Takes output as it comes, one chunk a turn, then the outcome.
    fn read(
        &mut self,
        mut output: tokio::sync::mpsc::Receiver<OutputChunk>,
        outcome: oneshot::Receiver<Outcome>,
        ctx: &mut Context<'_, Self>,
    ) {
        let next = async move {
            let chunk = output.recv().await;
            (chunk, output)
        };
        ctx.pipe(next, move |actor, (chunk, output), ctx| match chunk {
            Some(chunk) => {
                actor.keep(chunk);
                actor.tell_output(ctx);
                actor.read(output, outcome, ctx);
            }
            None => ctx.pipe(outcome, |actor, outcome, ctx| match outcome {
                Ok(outcome) => actor.collect(outcome, ctx),
                Err(_) => actor.run_failed("the executor gave no outcome".to_owned(), ctx),
            }),
        });
    }

    fn keep(&mut self, chunk: OutputChunk) {
        let max_output = self.max_output();
        let kept = match chunk.stream {
            executors::OutputStream::Stdout => &mut self.stdout,
            executors::OutputStream::Stderr => &mut self.stderr,
        };
        // The executor holds to `output_bytes`; this only repeats the bound where the memory is.
        let room = usize::try_from(max_output).unwrap_or(usize::MAX);
        let room = room.saturating_sub(kept.bytes.len());
        kept.bytes.extend(chunk.bytes.into_iter().take(room));
        kept.length = kept.bytes.len() as u64;
    }

    /// Tells what was not told yet.
    fn tell_output(&mut self, ctx: &mut Context<'_, Self>) {
        let AllocationRow { attempt, task, .. } = self.row;
        let requester = self.row.requester;
        let mut words = Vec::new();
        let streams = [
            (OutputStream::Stdout, &mut self.stdout, self.has.0),
            (OutputStream::Stderr, &mut self.stderr, self.has.1),
        ];
        for (stream, kept, has) in streams {
            // Whoever has more than there is has no room for any.
            if has > kept.bytes.len() as u64 {
                kept.told = kept.bytes.len();
            }
            let window = usize::try_from(has).unwrap_or(usize::MAX).saturating_add(OUTPUT_WINDOW);
            let until = kept.bytes.len().min(window);
            while kept.told < until {
                let end = until.min(kept.told + OUTPUT_PIECE);
                let bytes = kept.bytes[kept.told..end].to_vec();
                let output = AllocationOutput { attempt, task, stream, offset: kept.told as u64, bytes };
                words.push(Addressed::new(requester, Word::AllocationOutput(output)));
                kept.told = end;
            }
        }
        if !words.is_empty() {
            self.commit(Vec::new(), words, ctx);
        }
    }

    /// The program has ended: keep what it left.
    fn collect(&mut self, outcome: Outcome, ctx: &mut Context<'_, Self>) {
        let blobs = Arc::clone(&self.parts.blobs);
        let stdout = std::mem::take(&mut self.stdout.bytes);
        let stderr = std::mem::take(&mut self.stderr.bytes);
        (self.stdout.told, self.stderr.told) = (0, 0);
        let work = self.work.clone();
        let usage = outcome.usage;
        let (allocation, requester) = (self.row.id, self.row.requester);
        let kept = self.parts.workers.run(move || {
            let result = AllocationResult {
                stdout: blobs.put(&stdout)?,
                stderr: blobs.put(&stderr)?,
                output: blobs.pack(&work.join("output"))?,
                wall: Millis::from(usage.wall),
                peak_memory: MemoryMib(usage.peak_memory_bytes.div_ceil(1 << 20)),
                output_dropped: usage.output_dropped_bytes,
            };
            blobs.grant_result(allocation, requester, &result);
            blobs.remove_work_directory(&work);
            Ok::<_, BlobError>(result)
        });
        ctx.pipe(kept, |actor, kept, ctx| {
            let result = match kept {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(error @ BlobError::Unpackable(_))) => {
                    Err(FailureCause::OutputRefused { text: bounded_text(whole(&error)) })
                }
                Ok(Err(error)) => Err(FailureCause::Executor { text: bounded_text(whole(&error)) }),
                Err(error) => Err(FailureCause::Executor { text: bounded_text(whole(&error)) }),
            };
            actor.step(Input::Ended { exit: outcome.exit, result }, ctx);
        });
    }
}

/// What inputs that are not here mean: too long for the grant is the job's own fault, and stays so elsewhere.
fn prepare_failure(error: &BlobError) -> FailureCause {
    match error {
        BlobError::OverGrant { limit } => FailureCause::InputExceeded { granted: DiskMib(limit >> 20) },
        error => FailureCause::InputUnavailable { text: bounded_text(whole(error)) },
    }
}

/// Everything the guest gets to see, from the store; blocking.
fn load(
    blobs: &crate::blobs::BlobStore,
    task: &Task,
    work: PathBuf,
    inbox: Inbox,
) -> Result<Workload, String> {
    let read = |id| match blobs.get(&id) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!("{id} is gone")),
        Err(error) => Err(whole(&error)),
    };
    Ok(Workload {
        module: read(task.module)?.into(),
        args: task.args.clone(),
        env: task.env.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        stdin: task.stdin.map(read).transpose()?.unwrap_or_default(),
        input: task.input.map(|_| work.join("input")),
        output: work.join("output"),
        inbox: Some(inbox),
    })
}

impl Actor for AllocationActor {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.every(SILENCE_PERIOD, |actor, ctx| {
            let silence = actor.clock.monotonic().saturating_sub(actor.heard);
            actor.step(Input::Silence(silence), ctx);
        });
        self.step(Input::Started, ctx);
    }
}

impl Drop for AllocationActor {
    fn drop(&mut self) {
        // Also after a panic: what was fetched and written must not stay behind.
        let blobs = Arc::clone(&self.parts.blobs);
        let work = std::mem::take(&mut self.work);
        drop(self.parts.workers.run(move || blobs.remove_work_directory(&work)));
    }
}

impl Handler<Stop> for AllocationActor {
    fn handle(&mut self, Stop(cause): Stop, ctx: &mut Context<'_, Self>) -> Answer<()> {
        self.step(Input::Stop(cause), ctx);
        ().into()
    }
}

impl Handler<Heard> for AllocationActor {
    fn handle(&mut self, _: Heard, _: &mut Context<'_, Self>) -> Answer<()> {
        self.heard = self.clock.monotonic();
        ().into()
    }
}

impl Handler<OutputFrom> for AllocationActor {
    fn handle(&mut self, from: OutputFrom, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let before = std::mem::replace(&mut self.has, (from.stdout, from.stderr));
        let streams = [(&mut self.stdout, from.stdout, before.0), (&mut self.stderr, from.stderr, before.1)];
        for (kept, has, before) in streams {
            // As much as before, or less: what was told since is lost. More: the rest is on its way.
            if has <= before {
                kept.told = kept.told.min(usize::try_from(has).unwrap_or(usize::MAX));
            }
        }
        self.tell_output(ctx);
        ().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_over_the_grant_is_the_jobs_own_fault_and_not_the_programs() {
        let cause = prepare_failure(&BlobError::OverGrant { limit: 1 << 20 });
        assert_eq!(cause, FailureCause::InputExceeded { granted: DiskMib(1) });
        assert!(cause.is_programs_own(), "another node would find the same");
        assert!(cause.to_string().contains("the input alone is larger than the 1 MiB"), "{cause}");
        let cause = prepare_failure(&BlobError::Full { limit: 1 });
        assert!(matches!(cause, FailureCause::InputUnavailable { .. }) && !cause.is_programs_own());
    }
}
