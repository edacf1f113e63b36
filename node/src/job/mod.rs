//! The Job actor: follows one job of ours to its end; effects around
//! [`JobMachine`].
//!
//! It keeps the live output of the newest attempt, bounded, for whoever watches. Everything it wants
//! recorded or said goes through the Node, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use dms_actors::{Actor, ActorRef, Answer, Context, Handler, Message};
use dms_messages::{
    AllocationOutput, AllocationResult, AttemptId, CapabilityClass, Contract, Did, JobId, OutputStream,
    Signed,
};
use dms_storage::books::JobRow;

use crate::blobs::{BlobError, GrantId};
use crate::commands::{OutputPiece, ReadOutput};
use crate::errors::whole;
use crate::node::{Author, Commit, Node, NodeParts};
use crate::orchestrator::job_state::{Candidate, Candidates, CollectFailure, Effect, Input, JobMachine};
use crate::orchestrator::turns::RoundEnd;

/// Most live output kept, of each stream: what a person can still read; the whole is in the result. The tasks of a job
/// share it.
const MAX_LIVE_OUTPUT: usize = 1024 * 1024;
/// Longest piece of live output in one answer.
const OUTPUT_PIECE: usize = 256 * 1024;
/// How long the results are asked for before they count as lost: longer than a link flaps or a node restarts.
const COLLECT_DEADLINE: Duration = Duration::from_secs(600);
/// How long one question to the Node waits for the job's turn; then it is asked again, and the place in the line is
/// kept. What ends a wait for a turn is the job's own wait; only one that is longer than this gets here.
const TURN_DEADLINE: Duration = Duration::from_secs(3600);
/// First and longest pause between two tries.
const COLLECT_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Something happened to the job.
#[derive(Debug)]
pub struct Happened(pub Input);

impl Message for Happened {
    type Reply = ();
}

/// A piece of live output came.
#[derive(Debug)]
pub struct Output(pub AllocationOutput);

impl Message for Output {
    type Reply = ();
}

/// Asks the Node who can be asked for bids. Answered when it is the job's turn to ask; the turn ends with
/// [`RoundOver`], or with the job's actor.
#[derive(Debug)]
pub struct FindCandidates {
    /// Whose turn it is to be.
    pub job: JobId,
    /// What kind of node the job needs, should too few be known.
    pub class: CapabilityClass,
    /// How many bids are wanted.
    pub wanted: u16,
}

impl Message for FindCandidates {
    type Reply = Candidates;
}

/// The turn that came with the candidates is over.
#[derive(Debug)]
pub struct RoundOver {
    /// Whose.
    pub job: JobId,
    /// How the round ended.
    pub end: RoundEnd,
}

impl Message for RoundOver {
    type Reply = ();
}

/// Asks the Node to say a request to the whole mesh.
#[derive(Debug)]
pub struct GossipRequest(pub dms_messages::Signed<dms_messages::BidRequest>);

impl Message for GossipRequest {
    type Reply = ();
}

/// Asks the Node to remember where a peer can be dialled.
#[derive(Debug)]
pub struct Remember(pub Candidate);

impl Message for Remember {
    type Reply = ();
}

/// What is not yet in the Node's mailbox.
#[derive(Debug)]
enum Outgoing {
    /// Lets the provider read what it will run; done before the invocation that follows it leaves.
    Grant(AttemptId, Did),
    Commit(Commit),
    Gossip(Box<GossipRequest>),
    Remember(Remember),
    RoundOver(RoundOver),
}

/// The live output of one task.
#[derive(Debug, Clone, Default)]
struct Live {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// The actor.
#[derive(Debug)]
pub struct JobActor {
    node: ActorRef<Node>,
    parts: NodeParts,
    row: JobRow,
    machine: JobMachine,
    attempt: Option<AttemptId>,
    /// Of each task.
    live: Vec<Live>,
    outgoing: VecDeque<Outgoing>,
    is_sending: bool,
    is_finished: bool,
}

impl JobActor {
    /// An actor for a job as the books have it; `contract` is its current attempt's.
    pub fn new(
        row: JobRow,
        contract: Option<Signed<Contract>>,
        node: ActorRef<Node>,
        parts: NodeParts,
    ) -> Self {
        let machine = JobMachine::resume(&row, contract, parts.job_rules, parts.clock.monotonic());
        Self {
            attempt: machine.current_attempt(),
            machine,
            node,
            parts,
            live: vec![Live::default(); row.job.pods[0].tasks.len()],
            row,
            outgoing: VecDeque::new(),
            is_sending: false,
            is_finished: false,
        }
    }

    fn step(&mut self, input: Input, ctx: &mut Context<'_, Self>) {
        let before = self.machine.phase();
        let signer = self.parts.signer.clone();
        let effects = self.machine.step(input, &signer);
        // Known before the last commit is sent: that one is waited for.
        self.is_finished |= effects.iter().any(|effect| matches!(effect, Effect::Finish));
        effects.into_iter().for_each(|effect| self.carry_out(effect, ctx));
        let after = self.machine.phase();
        if before != after {
            tracing::info!(job = %self.row.job.id, from = %before, to = %after, "job moved");
        }
    }

    fn carry_out(&mut self, effect: Effect, ctx: &mut Context<'_, Self>) {
        match effect {
            Effect::Record { events, words } => {
                let author = Author::Job(self.row.job.id, ctx.me().id());
                self.send(Outgoing::Commit(Commit { author, events, words }), ctx);
            }
            Effect::Grant(attempt, provider) => self.send(Outgoing::Grant(attempt, provider), ctx),
            Effect::Revoke(attempt) => self.parts.blobs.revoke(GrantId::Attempt(attempt)),
            Effect::Gossip(request) => self.send(Outgoing::Gossip(Box::new(GossipRequest(request))), ctx),
            Effect::Remember(candidate) => self.send(Outgoing::Remember(Remember(candidate)), ctx),
            Effect::FindCandidates => {
                let node = self.node.clone();
                let job = &self.row.job;
                let class = CapabilityClass::needed(&job.pods[0].requirement);
                let find = FindCandidates { job: job.id, class, wanted: job.wanted };
                let asked = async move { node.ask(find).timeout(TURN_DEADLINE).await };
                ctx.pipe(asked, |actor, candidates, ctx| {
                    // A Node too busy to answer knows nobody: the round is fruitless and comes again.
                    actor.step(Input::Candidates(candidates.unwrap_or_default()), ctx);
                });
            }
            Effect::RoundOver(end) => {
                self.send(Outgoing::RoundOver(RoundOver { job: self.row.job.id, end }), ctx);
            }
            Effect::After(delay, timer) => {
                ctx.after(delay, move |actor, ctx| actor.step(Input::Timer(timer), ctx));
            }
            Effect::Collect { attempt, provider, results } => self.collect(attempt, provider, results, ctx),
            Effect::ForgetOutput(attempt) => {
                self.attempt = Some(attempt);
                self.live.fill(Live::default());
            }
            Effect::Finish => self.flush(ctx),
        }
    }

    /// Pulls every task's result, patiently: they are kept for us until we say that we have them.
    fn collect(
        &mut self,
        attempt: AttemptId,
        provider: Did,
        results: Vec<(u16, AllocationResult)>,
        ctx: &mut Context<'_, Self>,
    ) {
        let blobs = Arc::clone(&self.parts.blobs);
        let transport = Arc::clone(&self.parts.network.transport);
        let pod = &self.row.job.pods[0];
        let limited = results.into_iter().map(|(task, result)| {
            let task = pod.tasks.get(usize::from(task));
            (task.map_or(pod.requirement.disk, |task| task.disk_of(pod)).bytes(), result)
        });
        let results: Vec<(u64, AllocationResult)> = limited.collect();
        let pulled = self.parts.network.runtime.spawn(async move {
            let (mut pause, longest) = COLLECT_PAUSE;
            let mut failure =
                CollectFailure::Provider(format!("not within {} s", COLLECT_DEADLINE.as_secs()));
            let tries = async {
                let fetch = async || {
                    for (limit, result) in &results {
                        blobs.fetch_result(&*transport, provider, result, *limit).await?;
                    }
                    Ok(())
                };
                loop {
                    match fetch().await {
                        Ok(()) => return Ok(()),
                        Err(error) => match collect_failure(&error) {
                            CollectFailure::Unacceptable(text) => {
                                return Err(CollectFailure::Unacceptable(text));
                            }
                            CollectFailure::Local(text) => {
                                tracing::warn!(%attempt, error = text, "a result cannot be kept yet");
                                failure = CollectFailure::Local(text);
                            }
                            CollectFailure::Provider(text) => {
                                tracing::debug!(%attempt, error = text, "a result is not here yet");
                                failure = CollectFailure::Provider(text);
                            }
                        },
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
            };
            match tokio::time::timeout(COLLECT_DEADLINE, tries).await {
                Ok(outcome) => outcome,
                Err(_) => Err(failure),
            }
        });
        ctx.pipe(pulled, move |actor, pulled, ctx| {
            let outcome = pulled.unwrap_or_else(|error| Err(CollectFailure::Local(error.to_string())));
            actor.step(Input::Collected { attempt, outcome }, ctx);
        });
    }

    /// Hands things to the Node in order, whatever room its mailbox has.
    fn send(&mut self, outgoing: Outgoing, ctx: &mut Context<'_, Self>) {
        self.outgoing.push_back(outgoing);
        self.flush(ctx);
    }

    fn flush(&mut self, ctx: &mut Context<'_, Self>) {
        if self.is_sending {
            return;
        }
        let Some(next) = self.outgoing.pop_front() else {
            if self.is_finished {
                ctx.stop();
            }
            return;
        };
        self.is_sending = true;
        let node = self.node.clone();
        let is_last = self.is_finished && self.outgoing.is_empty();
        let blobs = Arc::clone(&self.parts.blobs);
        let workers = self.parts.workers.clone();
        let pods = self.row.job.pods.clone();
        let sent = async move {
            // What fails here fails because the Node has ended; so will this actor, then.
            let _ = match next {
                // The last commit is waited for: until it is on disk, the books need this actor.
                Outgoing::Commit(commit) if is_last => {
                    node.ask(commit).timeout(Duration::from_secs(60)).await.is_ok()
                }
                Outgoing::Commit(commit) => node.tell(commit).await.is_ok(),
                Outgoing::Grant(attempt, provider) => {
                    let grant = move || blobs.grant_pods(attempt, provider, &pods);
                    workers.run(grant).await.is_ok()
                }
                Outgoing::Gossip(request) => node.tell(*request).await.is_ok(),
                Outgoing::Remember(candidate) => node.tell(candidate).await.is_ok(),
                Outgoing::RoundOver(over) => node.tell(over).await.is_ok(),
            };
        };
        ctx.pipe(sent, |actor, (), ctx| {
            actor.is_sending = false;
            actor.flush(ctx);
        });
    }
}

/// What a try to pull a result that came to this says about the next one.
fn collect_failure(error: &BlobError) -> CollectFailure {
    let text = whole(error);
    match error {
        BlobError::Fetch { .. } | BlobError::Tree(_) => CollectFailure::Provider(text),
        // Room is made, and disks are mended.
        BlobError::Full { .. } | BlobError::Io { .. } | BlobError::Damaged { .. } => {
            CollectFailure::Local(text)
        }
        BlobError::TooLong { .. } | BlobError::OverGrant { .. } | BlobError::Unpackable(_) => {
            CollectFailure::Unacceptable(text)
        }
    }
}

impl Actor for JobActor {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        self.step(Input::Started, ctx);
    }
}

impl Handler<Happened> for JobActor {
    fn handle(&mut self, Happened(input): Happened, ctx: &mut Context<'_, Self>) -> Answer<()> {
        self.step(input, ctx);
        ().into()
    }
}

impl Handler<Output> for JobActor {
    fn handle(&mut self, Output(output): Output, ctx: &mut Context<'_, Self>) -> Answer<()> {
        if self.attempt != Some(output.attempt) {
            return ().into();
        }
        let task = output.task;
        let most = MAX_LIVE_OUTPUT / self.live.len().max(1);
        let Some(live) = self.live.get_mut(usize::from(task)) else { return ().into() };
        let kept = match output.stream {
            OutputStream::Stdout => &mut live.stdout,
            OutputStream::Stderr => &mut live.stderr,
        };
        let Ok(offset) = usize::try_from(output.offset) else { return ().into() };
        // Pieces may repeat and overlap; one that would leave a gap is asked for again by the heartbeat.
        let known = kept.len();
        if offset <= known && known < most {
            kept.extend(output.bytes.into_iter().skip(known - offset).take(most - known));
        }
        // What finds no room here need not be sent again at every heartbeat.
        let has = |kept: &Vec<u8>| if kept.len() < most { kept.len() as u64 } else { u64::MAX };
        let (stdout, stderr) = (has(&live.stdout), has(&live.stderr));
        self.step(Input::OutputReceived { task, stdout, stderr }, ctx);
        ().into()
    }
}

impl Handler<ReadOutput> for JobActor {
    fn handle(
        &mut self,
        read: ReadOutput,
        _: &mut Context<'_, Self>,
    ) -> Answer<<ReadOutput as Message>::Reply> {
        let live = self.live.get(usize::from(read.task));
        let kept = live.map_or(&[][..], |live| match read.stream {
            OutputStream::Stdout => &live.stdout,
            OutputStream::Stderr => &live.stderr,
        });
        let from = usize::try_from(read.offset).unwrap_or(usize::MAX).min(kept.len());
        let to = kept.len().min(from + OUTPUT_PIECE);
        Ok(OutputPiece { attempt: self.attempt, offset: from as u64, bytes: kept[from..to].to_vec() }).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn only_what_can_never_be_kept_is_given_up_at_once() {
        let io = |kind: io::ErrorKind| BlobError::Io { path: "x".into(), source: kind.into() };
        let table = [
            (BlobError::Full { limit: 1 }, "later"),
            (io(io::ErrorKind::StorageFull), "later"),
            (io(io::ErrorKind::PermissionDenied), "later"),
            (BlobError::OverGrant { limit: 1 }, "never"),
            (BlobError::TooLong { length: 1 }, "never"),
            (BlobError::Unpackable("a link".to_owned()), "never"),
        ];
        for (error, expected) in table {
            let found = match collect_failure(&error) {
                CollectFailure::Local(_) => "later",
                CollectFailure::Unacceptable(_) => "never",
                CollectFailure::Provider(_) => "the provider's",
            };
            assert_eq!(found, expected, "{error}");
        }
    }
}
