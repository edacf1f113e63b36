//! The Node actor: the only writer of the books, and the one every word of the mesh is addressed to.
//!
//! ```text
//!   words ──► handlers ──► decide (pure) ──► record ──► (on disk) ──► say
//!   jobs, allocations ──► Commit{events, words} ──────┘
//! ```
//!
//! Its children are one [`JobActor`] per unfinished job and one [`AllocationActor`] per live allocation.
//! It never waits: what takes time is piped and comes back. When a commit fails it drops what memory
//! knew beyond the disk, turns read-only and says so, and goes on when the disk works again (`node/recovery.rs`).

mod recovery;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dms_actors::clock::{SharedClock, Timestamp};
use dms_actors::wire::DecodeContext;
use dms_actors::{
    Actor, ActorId, ActorRef, Answer, Context, Did, ExitReason, Handler, Message, Responder, Supervision,
    Workers,
};
use dms_messages::ability::PROVIDE_BID;
use dms_messages::{
    Advert, AllocationId, AllocationState, AllocationStatus, AttemptId, FailureCause, JobId, NodeCard,
    NodeId, NodeStatus, NodeUuid, Signed, StopCause,
};
use dms_storage::books::AllocationRow;
use dms_storage::committer::CommitterStats;
use dms_storage::rows::archive::ArchiveKind;
use dms_storage::sabotage::Bug;
use dms_storage::{
    Archive, Books, CommitError, CommitTicket, Committer, Engine, Entry, Event, RecordError, Store,
    StoreError, failpoints, sabotage,
};
use tokio::sync::Semaphore;

use crate::allocation::{AllocationActor, Stop};
use crate::announce::Announcements;
use crate::benchmark::{Machine, Measuring};
use crate::blobs::BlobStore;
use crate::capability::ledger;
use crate::commands::{NodeMode, OffboardMode};
use crate::errors::whole;
use crate::executors::Executor;
use crate::graph::mesh_size::MeshSize;
use crate::handlers::candidates::ClassLookUps;
use crate::handlers::preferences::CurrentPreferences;
use crate::handlers::turns::WaitingTurn;
use crate::handlers::{MAX_REQUESTS, MAX_ROUTED, Shares};
use crate::job::JobActor;
use crate::monitor::{Monitor, Monitoring};
use crate::network::{Network, NetworkParts};
use crate::notes::Notes;
use crate::orchestrator::job_state::JobRules;
use crate::orchestrator::reconcile::Round;
use crate::orchestrator::turns::Turns;
use crate::signer::{RECORD_TTL, Signer};
use crate::trust::Gate;
use crate::trust::issue::TOKEN_TTL;
use crate::word::{Addressed, Word};

pub use crate::orchestrator::preferences::OwnRules;

/// How long an advert is believed.
pub(crate) const ADVERT_TTL: Duration = Duration::from_secs(30 * 60);
/// How long a status is believed in a mesh of a few hundred nodes.
pub(crate) const STATUS_TTL: Duration = Duration::from_secs(3 * 60);
/// How long it is believed at most: in a large mesh it is said less often.
pub(crate) const MAX_STATUS_TTL: Duration = Duration::from_secs(30 * 60);
/// How long what is over is kept, for repeats and for people; longer than any word is fresh.
const PRUNE_AFTER: Duration = Duration::from_secs(3600);
/// How long it is kept when there is much of it. Whatever is forgotten then cannot be said again with effect: a seen word
/// is remembered for so much longer than it is fresh, and what a request has locked, which its row says, is kept as
/// long as it is locked.
const PRUNE_EARLY_AFTER: Duration = Duration::from_secs(60);
/// Most jobs that have ended, and most such allocations, in memory: what is over lies in the archive.
const MAX_ENDED: usize = 1024;
/// How many ended jobs, and allocations, are archived with one batch: a few MiB.
const MAX_SETTLED: usize = 512;
/// How long they stay there at least when there are more: until their last words have arrived, most likely.
const SETTLE_EARLY_AFTER: Duration = Duration::from_secs(15);
/// Things of each kind that are forgotten at a time, so that commits wait for no longer than for a few of their own.
const MAX_FORGOTTEN: usize = 512;
/// Rounds of it in one go.
const MAX_FORGET_ROUNDS: u32 = 128;
/// Archived jobs whose contents are read at a time.
const CONTENTS_PAGE: usize = 1024;
/// How often it is looked whether there is much of it.
const TIDY_PERIOD: Duration = Duration::from_secs(15);
/// Most things that wait for the disk before messages are held: as many as commits can wait.
const MAX_LATER: usize = 1024;
/// Least pause between two sweeps of leases.
const MIN_SWEEP_PAUSE: Duration = Duration::from_millis(50);
/// How long a commit waits when the committer's queue is full.
pub(crate) const OVERLOAD_PAUSE: Duration = Duration::from_millis(5);

/// How often something is done for strangers in a second; beyond it they are met with silence, so that a flood of them
/// costs them more than us.
#[derive(Debug)]
pub(crate) struct Allowance(u32);

impl Allowance {
    const FULL: Self = Self(20);

    /// Takes one of what is left; false if nothing is.
    pub(crate) fn take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// The provider's times and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderRules {
    /// How long a bid's lock holds.
    pub lease: Duration,
    /// Bytes of standard output, and of standard error, kept of each program.
    pub max_output: u64,
}

/// How often a Node looks after what nobody asks it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeTimes {
    /// How often what is shared with a peer is compared with it.
    pub reconcile: Duration,
    /// How often books that could not be written are opened again.
    pub disk_retry: Duration,
    /// How long what is over is kept on disk.
    pub keep_history: Duration,
    /// How often what is over leaves the memory, is forgotten, and its contents are removed.
    pub housekeeping: Duration,
    /// How long a token holds that this node signs; it is renewed at half of that.
    pub token_ttl: Duration,
}

impl Default for NodeTimes {
    fn default() -> Self {
        Self {
            reconcile: Duration::from_secs(30),
            disk_retry: Duration::from_secs(5),
            keep_history: Duration::from_secs(30 * 24 * 3600),
            housekeeping: Duration::from_secs(600),
            token_ttl: TOKEN_TTL,
        }
    }
}

/// Everything a Node is made of; outlives its restarts.
#[derive(Debug, Clone)]
pub struct NodeParts {
    /// Where the books lie.
    pub engine: Arc<dyn Engine>,
    /// The pen.
    pub signer: Signer,
    /// The clock.
    pub clock: SharedClock,
    /// Who may.
    pub gate: Gate,
    /// The requester's rules.
    pub job_rules: JobRules,
    /// The provider's rules.
    pub provider_rules: ProviderRules,
    /// Most unfinished jobs.
    pub max_jobs: usize,
    /// How often it looks after itself.
    pub times: NodeTimes,
    /// How the books are opened again.
    pub opener: BooksOpener,
    /// Who does what blocks.
    pub workers: Workers,
    /// The contents.
    pub blobs: Arc<BlobStore>,
    /// What runs workloads.
    pub executor: Arc<dyn Executor>,
    /// How the machine is measured; if not at all, bids are bounded by the books alone.
    pub monitoring: Option<Monitoring>,
    /// What is measured.
    pub machine: Arc<dyn Machine>,
    /// The mesh.
    pub network: NetworkParts,
    /// Books that were opened already, for the first start.
    pub opened: Arc<Mutex<Option<(Store, Books)>>>,
}

/// Opens the books, and a committer with a thread of its own.
pub fn open_books(engine: &Arc<dyn Engine>) -> Result<(Store, Books), StoreError> {
    BooksOpener::default().open(engine)
}

/// Opens books, with the committer that it is made for.
#[derive(Clone)]
pub struct BooksOpener(Arc<dyn Fn(Arc<dyn Engine>) -> Committer + Send + Sync>);

impl BooksOpener {
    /// Books that are written by what `start` makes.
    pub fn new(start: impl Fn(Arc<dyn Engine>) -> Committer + Send + Sync + 'static) -> Self {
        Self(Arc::new(start))
    }

    /// Opens the books, as [`open_books`] does.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(&self, engine: &Arc<dyn Engine>) -> Result<(Store, Books), StoreError> {
        Store::open(Arc::clone(engine), (self.0)(Arc::clone(engine)))
    }
}

impl Default for BooksOpener {
    fn default() -> Self {
        Self::new(Committer::start)
    }
}

impl fmt::Debug for BooksOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BooksOpener")
    }
}

/// The Node actor.
#[derive(Debug)]
pub struct Node {
    pub(crate) parts: NodeParts,
    pub(crate) network: Network,
    pub(crate) books: Books,
    store: Option<Store>,
    /// What the store had recorded, while there is none.
    event_count: u64,
    /// Books that were opened again, until the children of the life before have ended.
    opened: Option<recovery::Opened>,
    pub(crate) mode: NodeMode,
    pub(crate) jobs: BTreeMap<JobId, ActorRef<JobActor>>,
    /// Whose turn it is to ask for bids, and the jobs that wait for theirs.
    pub(crate) turns: Turns,
    pub(crate) waiting_turns: BTreeMap<JobId, WaitingTurn>,
    pub(crate) allocations: BTreeMap<AllocationId, ActorRef<AllocationActor>>,
    pub(crate) adverts: Notes<Advert>,
    pub(crate) statuses: Notes<NodeStatus>,
    pub(crate) announcements: Announcements,
    /// What the machine does, and what was answered.
    pub(crate) monitor: Monitor,
    pub(crate) class_look_ups: ClassLookUps,
    /// By what it chooses.
    pub(crate) preferences: CurrentPreferences,
    pub(crate) peers: BTreeSet<Did>,
    /// The graph program that this node is a vertex of, with the edges to its peers.
    pub(crate) mesh_size: MeshSize,
    pub(crate) started: Timestamp,
    /// How many more strangers are answered this second.
    pub(crate) stranger_answers: Allowance,
    /// Requests of strangers, declined, that are kept in this second.
    pub(crate) stranger_notes: Allowance,
    /// Places for questions to allocations that wait for their answers.
    pub(crate) routed: Arc<Semaphore>,
    /// How the memory of requests is shared.
    pub(crate) request_shares: Shares,
    /// How many differences of each peer were mended this second; bounded as the connections are.
    pub(crate) mended: BTreeMap<Did, usize>,
    /// Whose turn it is to be dialled because of a result that waits here.
    pub(crate) absent_requesters: Round,
    /// Who does not renew the tokens that this node holds of it, and when it last said so, on the monotonic clock.
    pub(crate) not_renewed: BTreeMap<Did, Duration>,
    /// Differences mended since the start.
    pub(crate) difference_count: u64,
    /// Counts how often memory was thrown away for what the disk has: what was decided before is not said after.
    life: u64,
    /// When the armed lease timer fires, and its number.
    lease_timer: Option<(Timestamp, u64)>,
    /// Lease timers armed so far: one that fires and is not the newest does nothing.
    lease_timer_count: u64,
    /// True while old things are being forgotten.
    is_forgetting: bool,
    /// True if memory may have what never reached the disk: nothing is said from it.
    is_beyond_disk: bool,
    /// Since when the node acts by the books as they are: what was promised before could not be taken meanwhile.
    taken_up: Timestamp,
    /// What waits for the disk, in order; words that need nothing recorded wait their turn here too.
    later: VecDeque<Step>,
    is_waiting: bool,
    is_driving: bool,
    /// Acceptances on their way to the disk, and the stop that is wanted as soon as they start.
    accepting: BTreeMap<AllocationId, Option<StopCause>>,
    /// Set while the owner withdraws what is offered: no new bids, no adverts.
    pub(crate) withdrawal: Option<OffboardMode>,
    /// Set while the machine is measured.
    pub(crate) measuring: Option<Measuring>,
    drain: Vec<Responder<()>>,
    /// True once the node stops: it does not go on, whatever the disk does.
    is_draining: bool,
}

/// Why something was not recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRecorded {
    #[error("the node is read-only: {0}")]
    ReadOnly(String),
    /// Nothing was changed; here are the events again.
    #[error("the node has more to write than it can")]
    Overloaded(Vec<Event>),
}

/// What is done when its turn comes.
type Then = Box<dyn FnOnce(&mut Node, Result<(), NotRecorded>, &mut Context<'_, Node>)>;

/// One thing that waits for everything recorded before it.
enum Step {
    /// Done when the batch is on disk.
    Written(CommitTicket, Then),
    /// Done in its turn, or told that the books it was decided by (those of this life) were thrown away.
    Ready(u64, Then),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Written(..) => "Written",
            Self::Ready(..) => "Ready",
        })
    }
}

/// Which child speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The actor of a job.
    Job(JobId, ActorId),
    /// The actor of an allocation.
    Allocation(AllocationId, ActorId),
}

/// What a child wants recorded, and said once it is.
#[derive(Debug)]
pub struct Commit {
    /// Who wants it; what a child that has ended left in the mailbox is not recorded.
    pub author: Author,
    /// The events, in one batch.
    pub events: Vec<Event>,
    /// The words, said when the batch is on disk.
    pub words: Vec<Addressed>,
}

impl Message for Commit {
    type Reply = ();
}

impl Node {
    /// A node as its books have it. Books that cannot be opened again make it read-only.
    pub fn new(parts: NodeParts) -> Self {
        let opened = parts.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (store, books, mode) = match opened.map_or_else(|| parts.opener.open(&parts.engine), Ok) {
            Ok((store, books)) => (Some(store), books, NodeMode::Serving),
            Err(error) => {
                let (reason, is_retried) = (whole(&error), recovery::may_open_later(&error));
                let since = parts.clock.now();
                (None, Books::default(), NodeMode::ReadOnly { reason, since, is_retried })
            }
        };
        Self {
            network: Network::new(parts.network.clone()),
            books,
            store,
            event_count: 0,
            opened: None,
            mode,
            jobs: BTreeMap::new(),
            turns: Turns::default(),
            waiting_turns: BTreeMap::new(),
            allocations: BTreeMap::new(),
            adverts: Notes::new(ADVERT_TTL),
            statuses: Notes::new(MAX_STATUS_TTL),
            announcements: Announcements::new(),
            monitor: Monitor::default(),
            class_look_ups: ClassLookUps::default(),
            preferences: CurrentPreferences::default(),
            peers: BTreeSet::new(),
            mesh_size: MeshSize::new(parts.signer.me()),
            started: parts.clock.now(),
            stranger_answers: Allowance::FULL,
            stranger_notes: Allowance::FULL,
            routed: Arc::new(Semaphore::new(MAX_ROUTED)),
            request_shares: Shares::default(),
            mended: BTreeMap::new(),
            absent_requesters: Round::default(),
            difference_count: 0,
            life: 0,
            lease_timer: None,
            lease_timer_count: 0,
            is_forgetting: false,
            is_beyond_disk: false,
            taken_up: Timestamp::default(),
            later: VecDeque::new(),
            is_waiting: false,
            is_driving: false,
            not_renewed: BTreeMap::new(),
            accepting: BTreeMap::new(),
            withdrawal: None,
            measuring: None,
            drain: Vec::new(),
            is_draining: false,
            parts,
        }
    }

    /// This node's DID.
    pub(crate) fn me(&self) -> Did {
        self.parts.signer.me()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// What a document that came within another word is checked against.
    pub(crate) fn decode_context(&self) -> DecodeContext {
        let network = self.parts.network.system.network().to_owned();
        DecodeContext { me: self.me(), now: self.now(), network }
    }

    /// True if `did` may bid on our jobs.
    pub(crate) fn may_provide(&self, did: Did) -> bool {
        self.parts.gate.may(did, PROVIDE_BID, None).is_ok()
    }

    /// True if `did` is trusted for anything.
    pub(crate) fn knows(&self, did: Did) -> bool {
        self.parts.gate.is_known(did)
    }

    /// The node's names, once it has introduced itself.
    pub(crate) fn id(&self) -> Option<NodeId> {
        self.books.card().map(node_id)
    }

    pub(crate) fn event_count(&self) -> u64 {
        self.store.as_ref().map_or(self.event_count, Store::event_count)
    }

    /// Records `events` in one batch and calls `then` when they are on disk, or never will be; calls come
    /// in the order of the records. Without events it is called in its turn: after everything that was
    /// recorded before.
    ///
    /// Memory changes at once; whoever decides next sees it. Nothing may be said before `then`.
    pub(crate) fn record(
        &mut self,
        ctx: &mut Context<'_, Self>,
        events: Vec<Event>,
        then: impl FnOnce(&mut Self, Result<(), NotRecorded>, &mut Context<'_, Self>) + 'static,
    ) {
        if events.is_empty() {
            return self.do_later(ctx, Step::Ready(self.life, Box::new(then)));
        }
        if let NodeMode::ReadOnly { reason, .. } = &self.mode {
            let reason = reason.clone();
            return then(self, Err(NotRecorded::ReadOnly(reason)), ctx);
        }
        let at = self.now();
        let entries: Vec<Entry> = events.into_iter().map(|event| Entry { at, event }).collect();
        let Some(store) = &mut self.store else {
            return then(self, Err(NotRecorded::ReadOnly("the books are not open".to_owned())), ctx);
        };
        match store.record(&mut self.books, &entries) {
            Ok(ticket) => {
                for entry in &entries {
                    tracing::debug!(event = entry.event.name(), "recorded");
                    self.note_party(&entry.event);
                    self.preferences.note(entry, &self.books);
                    if matches!(entry.event, Event::LockEnded { .. } | Event::AllocationEnded { .. }) {
                        failpoints::pass(failpoints::MID_RELEASE);
                    }
                }
                self.arm_lease_timer(ctx);
                self.do_later(ctx, Step::Written(ticket, Box::new(then)));
                self.finish_withdrawal(ctx);
            }
            Err(RecordError::Overloaded(_)) => {
                let events = entries.into_iter().map(|entry| entry.event).collect();
                then(self, Err(NotRecorded::Overloaded(events)), ctx);
            }
            Err(error) => {
                // A decision that does not fit the books is a bug; what memory has of it must go.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an event was refused by the books"
                );
                // It would be decided again.
                self.turn_read_only(&error, false, ctx);
                then(self, Err(NotRecorded::ReadOnly(error.to_string())), ctx);
            }
        }
    }

    /// Whoever has a contract with this node may say what belongs to it, whatever becomes of its tokens.
    fn note_party(&self, event: &Event) {
        match event {
            Event::AllocationAccepted { contract, .. } => self.parts.gate.add_party(contract.issuer()),
            Event::AttemptMinted { provider, .. } => self.parts.gate.add_party(*provider),
            _ => {}
        }
    }

    /// What the writer of the books has done, and how many steps wait for it.
    pub(crate) fn commit_stats(&self) -> (Option<CommitterStats>, usize) {
        (self.store.as_ref().map(Store::commit_stats), self.later.len())
    }

    fn do_later(&mut self, ctx: &mut Context<'_, Self>, step: Step) {
        self.later.push_back(step);
        if self.later.len() > MAX_LATER {
            // The disk stalls: take no more messages than it can follow.
            ctx.exclusive(tokio::time::sleep(OVERLOAD_PAUSE), |_, (), _| {});
        }
        self.drive(ctx);
    }

    /// Does what is due, in order, up to the first thing that is not on disk yet.
    fn drive(&mut self, ctx: &mut Context<'_, Self>) {
        if self.is_driving {
            return;
        }
        self.is_driving = true;
        while !self.is_waiting {
            match self.later.pop_front() {
                None => break,
                Some(Step::Ready(life, then)) if life == self.life => then(self, Ok(()), ctx),
                Some(Step::Ready(_, then)) => {
                    let reason = "what it was to say is not on the disk".to_owned();
                    then(self, Err(NotRecorded::ReadOnly(reason)), ctx);
                }
                Some(Step::Written(_, then)) if sabotage::has(Bug::SpeaksBeforeSync) => {
                    then(self, Ok(()), ctx)
                }
                Some(Step::Written(ticket, then)) => {
                    self.is_waiting = true;
                    ctx.pipe(ticket, |node, outcome: Result<(), CommitError>, ctx| {
                        node.is_waiting = false;
                        // What is said by `then` is said now, before what waits behind it.
                        node.is_driving = true;
                        match outcome {
                            Ok(()) => then(node, Ok(()), ctx),
                            Err(error) => {
                                node.turn_read_only(&error, recovery::may_write_later(&error), ctx);
                                then(node, Err(NotRecorded::ReadOnly(error.to_string())), ctx);
                            }
                        }
                        node.is_driving = false;
                        node.drive(ctx);
                    });
                }
            }
        }
        self.is_driving = false;
        self.finish_recovery(ctx);
    }

    /// Says words to peers' nodes, after everything that was recorded before: memory may be ahead of the
    /// disk, and what is said from it must not be.
    pub(crate) fn say(&mut self, ctx: &mut Context<'_, Self>, words: Vec<Addressed>) {
        if self.is_driving || (self.later.is_empty() && !self.is_waiting) {
            let me = ctx.me();
            words.into_iter().for_each(|word| self.network.say(&me, word));
        } else if !words.is_empty() {
            let then =
                move |node: &mut Self, outcome: Result<(), NotRecorded>, ctx: &mut Context<'_, Self>| {
                    if outcome.is_ok() {
                        node.say(ctx, words);
                    }
                };
            self.do_later(ctx, Step::Ready(self.life, Box::new(then)));
        }
    }

    /// Signs for one reader; a document that cannot be signed is a bug and is not said.
    pub(crate) fn sign<T: dms_messages::Document>(
        &self,
        value: T,
        audience: Did,
        ttl: Duration,
    ) -> Option<Signed<T>> {
        self.parts
            .signer
            .sign(value, Some(audience), ttl)
            .inspect_err(|error| tracing::error!(kind = T::KIND, %error, "a document could not be signed"))
            .ok()
    }

    /// The status word of an allocation, as the books have it.
    pub(crate) fn status_word(&self, row: &AllocationRow) -> Option<Addressed> {
        let status = AllocationStatus {
            attempt: row.attempt,
            allocation: row.id,
            task: row.task,
            state: row.state.clone(),
            result: row.result.clone(),
        };
        let signed = self.sign(status, row.requester, RECORD_TTL)?;
        Some(Addressed::new(row.requester, Word::AllocationStatus(signed)))
    }

    /// Starts the actor that follows a job.
    pub(crate) fn spawn_job(&mut self, ctx: &mut Context<'_, Self>, job: JobId) {
        let Some(row) = self.books.jobs().get(&job).cloned() else { return };
        let contract =
            row.current_attempt().and_then(|attempt| self.books.contracts().get(&attempt.contract));
        let contract = contract.map(|row| row.contract.clone());
        let parts = self.parts.clone();
        let node = ctx.me();
        let actor = ctx.spawn_child(
            move || JobActor::new(row.clone(), contract.clone(), node.clone(), parts.clone()),
            // A job whose actor failed is taken up again from the books, by `job_actor_ended`.
            Supervision::never(),
        );
        ctx.watch(&actor, move |node, reason, ctx| node.job_actor_ended(job, &reason, ctx));
        self.jobs.insert(job, actor);
    }

    /// Follows a job no more whose submission will never be on disk.
    pub(crate) fn abandon_job(&mut self, job: JobId, ctx: &mut Context<'_, Self>) {
        if let Some(actor) = self.jobs.remove(&job) {
            actor.stop();
            self.end_turn(job, ctx);
        }
    }

    fn job_actor_ended(&mut self, job: JobId, reason: &ExitReason, ctx: &mut Context<'_, Self>) {
        self.jobs.remove(&job);
        self.end_turn(job, ctx);
        let is_unfinished = self.books.jobs().get(&job).is_some_and(|row| !row.phase.is_terminal());
        if is_unfinished && matches!(reason, ExitReason::Panicked(_) | ExitReason::Failed(_)) {
            tracing::error!(%job, ?reason, "a job's actor failed and is started again");
            ctx.after(Duration::from_secs(1), move |node, ctx| {
                // The books may have been taken up again meanwhile, and every job with them.
                if !node.jobs.contains_key(&job) && node.mode == NodeMode::Serving {
                    node.spawn_job(ctx, job);
                }
            });
        }
        self.finish_recovery(ctx);
    }

    /// Starts the actor that runs an allocation.
    #[doc(alias = "startAllocation")]
    pub(crate) fn spawn_allocation(&mut self, ctx: &mut Context<'_, Self>, allocation: AllocationId) {
        let Some(row) = self.books.allocations().get(&allocation).cloned() else { return };
        let Some(contract) = self.books.contracts().get(&row.contract).map(|row| row.contract.clone()) else {
            return;
        };
        let parts = self.parts.clone();
        let node = ctx.me();
        let published = row.clone();
        failpoints::pass(failpoints::BEFORE_SPAWN);
        let actor = ctx.spawn_child(
            move || AllocationActor::new(row.clone(), contract.value().clone(), node.clone(), parts.clone()),
            // An allocation whose actor panicked has failed: the program must not start twice.
            Supervision::never(),
        );
        ctx.watch(&actor, move |node, reason, ctx| node.allocation_actor_ended(allocation, &reason, ctx));
        if self.mode != NodeMode::Serving {
            let _ = actor.try_tell(Stop(StopCause::NodeStopping));
        }
        self.publish_allocation(&published, &actor);
        self.allocations.insert(allocation, actor);
    }

    /// Wants the live allocations of an attempt stopped; false if there are none, or not all of them heard it.
    pub(crate) fn stop_allocations(&mut self, requester: Did, attempt: AttemptId, cause: StopCause) -> bool {
        let rows = self.books.allocations_of(requester, attempt).filter(|row| !row.state.is_terminal());
        let live: Vec<AllocationId> = rows.map(|row| row.id).collect();
        let mut have_heard = !live.is_empty();
        for allocation in live {
            have_heard &= match self.allocations.get(&allocation) {
                Some(actor) => actor.try_tell(Stop(cause)).is_ok(),
                // Accepted in memory, not yet on disk: it is stopped as soon as it starts.
                None => self.accepting.get_mut(&allocation).map(|stop| *stop = Some(cause)).is_some(),
            };
        }
        have_heard
    }

    /// Stops the others of a pod of which one task has ended badly: they are wanted together or not at all.
    fn end_pod_of(&mut self, allocation: AllocationId, ctx: &mut Context<'_, Self>) {
        let Some(row) = self.books.allocations().get(&allocation) else { return };
        let cause = match &row.state {
            AllocationState::Failed { .. } => StopCause::TaskFailed,
            AllocationState::Stopped { cause } => *cause,
            _ => return,
        };
        let (requester, attempt) = (row.requester, row.attempt);
        let is_live = |row: &AllocationRow| !row.state.is_terminal();
        if self.books.allocations_of(requester, attempt).any(is_live)
            && !self.stop_allocations(requester, attempt, cause)
            && !matches!(self.mode, NodeMode::ReadOnly { .. })
        {
            // A mailbox that is full has room a little later; one that is gone ends its allocation meanwhile.
            ctx.after(OVERLOAD_PAUSE, move |node, ctx| node.end_pod_of(allocation, ctx));
        }
    }

    /// Remembers that an acceptance is on its way to the disk.
    pub(crate) fn begin_accepting(&mut self, allocation: AllocationId) {
        self.accepting.insert(allocation, None);
    }

    /// The acceptance is on disk, or never will be; gives the stop that was wanted meanwhile.
    pub(crate) fn end_accepting(&mut self, allocation: AllocationId) -> Option<StopCause> {
        self.accepting.remove(&allocation).flatten()
    }

    /// True if an allocation's acceptance is still on its way to the disk.
    pub(crate) fn is_accepting(&self, allocation: AllocationId) -> bool {
        self.accepting.contains_key(&allocation)
    }

    /// The live allocation behind `row` is running, or about to; one whose actor is gone is ended.
    pub(crate) fn is_attended(&mut self, allocation: AllocationId, ctx: &mut Context<'_, Self>) -> bool {
        if self.allocations.contains_key(&allocation) || self.is_accepting(allocation) {
            return true;
        }
        let state = AllocationState::Failed { cause: FailureCause::Panic };
        self.end_allocation(ctx, allocation, state);
        false
    }

    /// True if memory may have what never reached the disk, and never will.
    pub(crate) fn is_beyond_disk(&self) -> bool {
        self.is_beyond_disk
    }

    fn allocation_actor_ended(
        &mut self,
        allocation: AllocationId,
        reason: &ExitReason,
        ctx: &mut Context<'_, Self>,
    ) {
        self.allocations.remove(&allocation);
        self.withdraw_allocation(allocation);
        self.monitor.detach(allocation);
        let is_live = self.books.allocations().get(&allocation).is_some_and(|row| !row.state.is_terminal());
        if is_live {
            tracing::error!(%allocation, ?reason, "an allocation's actor ended before its allocation");
            let state = AllocationState::Failed { cause: FailureCause::Panic };
            self.end_allocation(ctx, allocation, state);
        }
        self.finish_drain();
        self.finish_recovery(ctx);
    }

    /// Ends an allocation whose actor is gone, and says so to its requester.
    fn end_allocation(
        &mut self,
        ctx: &mut Context<'_, Self>,
        allocation: AllocationId,
        state: AllocationState,
    ) {
        if self.books.allocations().get(&allocation).is_none_or(|row| row.state.is_terminal()) {
            return;
        }
        let event = Event::AllocationEnded { allocation, state: state.clone(), result: None };
        self.record(ctx, vec![event], move |node, outcome, ctx| {
            if let Err(NotRecorded::Overloaded(_)) = outcome {
                ctx.after(OVERLOAD_PAUSE, move |node, ctx| node.end_allocation(ctx, allocation, state));
                return;
            }
            if outcome.is_ok()
                && let Some(word) =
                    node.books.allocations().get(&allocation).and_then(|row| node.status_word(row))
            {
                node.say(ctx, vec![word]);
                node.end_pod_of(allocation, ctx);
            }
            node.finish_drain();
        });
    }

    /// Fires when the next lease ends.
    fn arm_lease_timer(&mut self, ctx: &mut Context<'_, Self>) {
        let Some(next) = ledger::next_expiry(&self.books) else { return };
        let is_armed = self.lease_timer.is_some_and(|(armed, _)| armed <= next);
        if is_armed || matches!(self.mode, NodeMode::ReadOnly { .. }) {
            return;
        }
        self.lease_timer_count += 1;
        let timer = (next, self.lease_timer_count);
        self.lease_timer = Some(timer);
        let delay = next.saturating_since(self.now()).max(MIN_SWEEP_PAUSE);
        ctx.after(delay, move |node, ctx| {
            // One that an earlier one, or a recovery, took the place of would begin a second chain.
            if node.lease_timer == Some(timer) {
                node.lease_timer = None;
                node.expire_locks(ctx);
                node.arm_lease_timer(ctx);
            }
        });
    }

    fn expire_locks(&mut self, ctx: &mut Context<'_, Self>) {
        let expired = ledger::expired(&self.books, self.now());
        let events = expired
            .into_iter()
            .map(|bid| Event::LockEnded { bid, end: ledger::end_of_expired(&self.books, bid, self.taken_up) })
            .collect();
        self.record(ctx, events, |_, _, _| {});
    }

    /// Begins to act by the books as they are.
    fn take_up(&mut self, ctx: &mut Context<'_, Self>) {
        self.taken_up = self.now();
        self.parts.gate.forget_allocations();
        self.preferences.take_books(&self.books);
        self.parts.gate.take_books(self.me(), &self.books);
        self.parts.gate.take_parties(self.books.contracts().values().map(|row| row.peer).collect());
        self.introduce(ctx);
        self.recover(ctx);
        self.arm_lease_timer(ctx);
    }

    /// What the last life left: locks that ran out, allocations that cannot be adopted, jobs to follow.
    fn recover(&mut self, ctx: &mut Context<'_, Self>) {
        self.expire_locks(ctx);
        let orphans: Vec<AllocationId> = self.books.live_allocations().map(|row| row.id).collect();
        for allocation in orphans {
            if sabotage::has(Bug::RestartsWhatRan) {
                self.spawn_allocation(ctx, allocation);
                continue;
            }
            let state = AllocationState::Failed { cause: FailureCause::NodeRestarted };
            self.end_allocation(ctx, allocation, state);
        }
        let jobs: Vec<JobId> =
            self.books.jobs().values().filter(|row| !row.phase.is_terminal()).map(|row| row.job.id).collect();
        for job in jobs {
            self.spawn_job(ctx, job);
        }
        self.grant_contents();
    }

    /// Tells the blob store who may read what, as far as it follows from the books.
    fn grant_contents(&self) {
        let attempts = self.books.jobs().values().filter(|row| !row.phase.is_terminal()).filter_map(|row| {
            let attempt = row.current_attempt().filter(|attempt| !attempt.state.is_over())?;
            Some((attempt.id, attempt.provider, row.job.pods.clone()))
        });
        let results = self.books.allocations().values().filter(|row| !row.is_acknowledged);
        let results = results.filter_map(|row| Some((row.id, row.requester, row.result.clone()?)));
        let (attempts, results): (Vec<_>, Vec<_>) = (attempts.collect(), results.collect());
        let blobs = Arc::clone(&self.parts.blobs);
        // Trees are read from the disk.
        let granted = self.parts.workers.run(move || {
            attempts.iter().for_each(|(id, provider, pods)| blobs.grant_pods(*id, *provider, pods));
            results.iter().for_each(|(id, requester, result)| blobs.grant_result(*id, *requester, result));
        });
        // Nobody waits for it.
        drop(granted);
    }

    /// Introduces the node to the world, once in its life.
    fn introduce(&mut self, ctx: &mut Context<'_, Self>) {
        if self.books.card().is_some() {
            return;
        }
        if let Some(card) = new_card(&self.parts.signer) {
            self.record(ctx, vec![Event::NodeNamed { card }], |_, _, _| {});
        }
    }

    /// The instant that was `age` ago.
    fn before(&self, age: Duration) -> Timestamp {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.now().0.saturating_sub(age))
    }

    /// Forgets what has been over for `age`, what is to be found later being archived first, and then goes on if that
    /// is on disk.
    fn prune(
        &mut self,
        age: Duration,
        ctx: &mut Context<'_, Self>,
        then: impl FnOnce(&mut Self, &mut Context<'_, Self>) + 'static,
    ) {
        let before = self.before(age);
        self.settle(before, ctx, move |node, ctx| {
            node.record(ctx, vec![Event::Pruned { before }], |node, outcome, ctx| {
                if outcome.is_ok() {
                    then(node, ctx);
                }
            });
        });
    }

    /// Moves what ended before `before` to the archive, then goes on: one batch at a time, each on its way to the disk
    /// only when the one before it is there, so that a hundred thousand ended jobs are no hundred MiB at once. If it
    /// is cut short, the next round goes on.
    fn settle(
        &mut self,
        before: Timestamp,
        ctx: &mut Context<'_, Self>,
        then: impl FnOnce(&mut Self, &mut Context<'_, Self>) + 'static,
    ) {
        let Some(ended_before) = self.books.next_settling(before, MAX_SETTLED) else {
            return then(self, ctx);
        };
        self.record(ctx, vec![Event::Settled { ended_before }], move |node, outcome, ctx| {
            if outcome.is_ok() {
                node.settle(before, ctx, then);
            }
        });
    }

    /// A busy provider would otherwise decline for an hour because of what it remembers, and a busy requester's memory
    /// grow with every job.
    fn tidy(&mut self, ctx: &mut Context<'_, Self>) {
        let remembered = self.books.requests_received().len().max(self.books.seen_count());
        if remembered > MAX_REQUESTS / 2 {
            self.prune(PRUNE_EARLY_AFTER, ctx, |_, _| {});
        }
        self.request_shares.recount(self.books.requests_received().values().map(|row| row.requester));
        if self.books.ended_job_count().max(self.books.ended_allocation_count()) > MAX_ENDED {
            self.settle(self.before(SETTLE_EARLY_AFTER), ctx, |_, _| {});
        }
        self.forget(ctx);
    }

    /// Forgets what is archived for so long that nobody is to see it any more.
    fn forget(&mut self, ctx: &mut Context<'_, Self>) {
        if !std::mem::replace(&mut self.is_forgetting, true) {
            self.forget_on(MAX_FORGET_ROUNDS, ctx);
        }
    }

    /// One round of it, then the next while there is more: one round a tick would be slower than a busy node archives.
    /// Each waits for the one before, so that other commits have their turn between them.
    fn forget_on(&mut self, rounds: u32, ctx: &mut Context<'_, Self>) {
        let before = self.before(self.parts.times.keep_history);
        let store = self.store.as_ref().filter(|_| rounds > 0 && self.mode == NodeMode::Serving);
        // Without room it is done a little later; if it fails, so does everything that follows.
        let Some(Ok(ticket)) = store.map(|store| store.forget(before, MAX_FORGOTTEN)) else {
            self.is_forgetting = false;
            return;
        };
        let archive = Archive::new(self.parts.engine.clone());
        let workers = self.parts.workers.clone();
        let forgotten = async move {
            if ticket.await.is_err() {
                return false;
            }
            workers.run(move || has_older(&archive, before)).await.unwrap_or(false)
        };
        ctx.pipe(forgotten, move |node, has_more, ctx| {
            node.forget_on(if has_more { rounds - 1 } else { 0 }, ctx);
        });
    }

    fn housekeeping(&mut self, ctx: &mut Context<'_, Self>) {
        let now = self.now();
        self.adverts.prune(now);
        self.statuses.prune(now);
        self.mesh_size.prune(self.parts.clock.monotonic());
        if self.mode != NodeMode::Serving {
            return;
        }
        self.forget(ctx);
        self.prune(PRUNE_AFTER, ctx, Self::sweep_contents);
    }

    /// Removes contents that nothing needs any more, neither what is current nor what is archived. Only books that are
    /// open and on disk say what that is: others may lack what the disk has, or have let go what never got there.
    fn sweep_contents(&mut self, ctx: &mut Context<'_, Self>) {
        if self.mode != NodeMode::Serving {
            return;
        }
        let live = self.books.live_contents();
        let blobs = Arc::clone(&self.parts.blobs);
        let sweep = move |archive: &Archive| {
            let mut live = live;
            let mut after = None;
            loop {
                // What cannot be read may be needed: then nothing is removed.
                let page = archive.contents(after, CONTENTS_PAGE)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(*last);
                for (_, contents) in page {
                    live.blobs.extend(contents.blobs);
                    live.trees.extend(contents.trees);
                }
            }
            blobs.sweep(&live, PRUNE_AFTER);
            Ok(())
        };
        self.with_archive(ctx, sweep, |_, swept, _| {
            if let Err(error) = swept {
                tracing::warn!(%error, "the contents are not swept");
            }
        });
    }

    /// Begins to stop: nothing new is taken, what runs is stopped.
    pub(crate) fn begin_drain(&mut self, responder: Responder<()>) {
        self.is_draining = true;
        if self.mode == NodeMode::Serving {
            self.mode = NodeMode::Draining;
            self.mode_changed();
        }
        self.drain.push(responder);
        if let Some(Measuring(stop)) = &self.measuring {
            stop.set();
        }
        for actor in self.allocations.values() {
            // A mailbox that is full belongs to an allocation that the end of the process will stop.
            let _ = actor.try_tell(Stop(StopCause::NodeStopping));
        }
        self.finish_drain();
    }

    fn finish_drain(&mut self) {
        let is_read_only = matches!(self.mode, NodeMode::ReadOnly { .. });
        let is_idle =
            self.allocations.is_empty() && (is_read_only || self.books.live_allocations().next().is_none());
        if self.mode != NodeMode::Serving && is_idle {
            self.drain.drain(..).for_each(|responder| responder.reply(()));
        }
    }

    /// The actors of the live allocations that run an attempt for `requester`, with the task of each.
    #[doc(alias = "routeToAllocation")]
    pub(crate) fn route_to_allocations(
        &self,
        requester: Did,
        attempt: AttemptId,
    ) -> impl Iterator<Item = (u16, &ActorRef<AllocationActor>)> {
        let rows = self.books.allocations_of(requester, attempt);
        rows.filter_map(|row| Some((row.task, self.allocations.get(&row.id)?)))
    }

    /// The actor that follows a job of ours.
    pub(crate) fn route_to_job(&self, job: JobId) -> Option<&ActorRef<JobActor>> {
        self.jobs.get(&job)
    }
}

/// True if the archive has something that began before `before`.
fn has_older(archive: &Archive, before: Timestamp) -> bool {
    let kinds = [ArchiveKind::Job, ArchiveKind::Allocation, ArchiveKind::Contract];
    // What cannot be read is not waited for.
    kinds.into_iter().any(|kind| archive.oldest(kind).is_ok_and(|at| at.is_some_and(|at| at < before)))
}

/// A new node's signed introduction.
pub fn new_card(signer: &Signer) -> Option<Signed<NodeCard>> {
    let did = signer.me();
    let card = NodeCard {
        uuid: NodeUuid::from_random(signer.random()),
        did,
        peer_id: did.peer_id(),
        created: signer.now(),
    };
    signer.sign(card, None, RECORD_TTL).ok()
}

/// All the names of the node behind a card.
pub fn node_id(card: &Signed<NodeCard>) -> NodeId {
    NodeId {
        uuid: card.value().uuid,
        cid: card.content_id(),
        peer_id: card.value().peer_id.clone(),
        did: card.value().did,
    }
}

impl Actor for Node {
    // Bursts of live output, statuses and commits of every child pass through here.
    const MAILBOX: usize = 4096;

    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        self.take_up(ctx);
        // Books that could not be opened now may be a little later.
        self.retry_later(ctx);
        // After a restart of this actor, peers that stayed connected come up for it.
        for peer in self.network.peers() {
            self.peer_up(peer, ctx);
        }
        ctx.every(Duration::from_secs(1), |node, _| {
            (node.stranger_answers, node.stranger_notes) = (Allowance::FULL, Allowance::FULL);
            node.mended.clear();
        });
        ctx.every(self.parts.times.reconcile, |node, ctx| node.reconcile(ctx));
        self.start_announcing(ctx);
        self.start_monitoring(ctx);
        self.start_graph(ctx);
        self.start_renewing(ctx);
        ctx.every(TIDY_PERIOD, |node, ctx| node.tidy(ctx));
        ctx.every(self.parts.times.housekeeping, |node, ctx| node.housekeeping(ctx));
    }
}

impl Handler<Commit> for Node {
    fn handle(&mut self, commit: Commit, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let (responder, answer) = Answer::later();
        self.commit(ctx, commit, responder);
        answer
    }
}

impl Node {
    fn is_mine(&self, author: Author) -> bool {
        match author {
            Author::Job(id, actor) => self.jobs.get(&id).is_some_and(|known| known.id() == actor),
            Author::Allocation(id, actor) => {
                self.allocations.get(&id).is_some_and(|known| known.id() == actor)
            }
        }
    }

    /// Those of a child's words that may be said now. A child goes on while the disk fails, and what it knows may be
    /// ahead of the books: a result that it has seen and that is nowhere on disk is not given up.
    fn sayable(&self, mut words: Vec<Addressed>) -> Vec<Addressed> {
        if matches!(self.mode, NodeMode::ReadOnly { .. }) {
            words.retain(|said| !matches!(said.word, Word::Acknowledge(_)));
        }
        words
    }

    /// Records a child's events; when the committer is full, holds all messages until there is room.
    fn commit(&mut self, ctx: &mut Context<'_, Self>, commit: Commit, responder: Responder<()>) {
        let Commit { author, events, words } = commit;
        let ended = events.iter().find_map(|event| match event {
            Event::AllocationEnded { allocation, .. } => Some(*allocation),
            _ => None,
        });
        if !self.is_mine(author) {
            tracing::warn!(?author, "what a child that has ended wanted recorded is dropped");
            return;
        }
        self.record(ctx, events, move |node, outcome, ctx| match outcome {
            Ok(()) => {
                node.say(ctx, node.sayable(words));
                responder.reply(());
                if let Some(allocation) = ended {
                    node.end_pod_of(allocation, ctx);
                }
            }
            Err(NotRecorded::Overloaded(events)) => {
                ctx.exclusive(tokio::time::sleep(OVERLOAD_PAUSE), move |node, (), ctx| {
                    node.commit(ctx, Commit { author, events, words }, responder);
                });
            }
            // The books are closed: nothing may be said.
            Err(NotRecorded::ReadOnly(_)) => drop(responder),
        });
    }
}
