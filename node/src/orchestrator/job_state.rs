//! The life of a job at its requester, as a pure machine.
//!
//! ```text
//!   Submitted ──► Bidding ──► Invoking ──► Running ──► Succeeded
//!                   ▲  │          │           │  └───► Failed
//!                   │  └─► Failed └────┬──────┘
//!                   └─── Rescheduling ◄┘ (refused, lost, or the provider's own failure)
//!   Cancelled: from everywhere
//! ```
//!
//! Attempts fence: the number is minted and recorded before the invocation leaves, grows by one each
//! time, and answers about any other number are not listened to. What is to be recorded and what is to be
//! said after the record are one [`Effect::Record`], so nothing can be said before it is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dms_messages::{
    Accepted, Acknowledge, AllocationResult, AllocationState, AllocationStatus, AllocationStatusRequest,
    AttemptId, Bid, BidRequest, BidRequestId, Cancel, Contract, Credentials, DeclineReason, Did,
    FailureCause, Invocation, Job, JobEnd, JobFailure, JobPhase, Millis, RefusedReason, Release,
    ReleaseCause, Retry, Signed, StopCause, bounded_text,
};
use dms_storage::Event;
use dms_storage::books::{AttemptRow, AttemptState, JobRow};
use dms_storage::sabotage::{self, Bug};

use super::auction::{Auction, BidVerdict, Judge};
use super::turns::RoundEnd;
use crate::signer::{ANSWER_TTL, RECORD_TTL, Signer};
use crate::word::{Addressed, Word};

/// The requester's times and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobRules {
    /// How long an auction waits for bids.
    pub auction: Duration,
    /// How long an invocation waits for its answer.
    pub invocation: Duration,
    /// How often a running attempt's provider is asked; also our sign of life to it.
    pub heartbeat: Duration,
    /// After how long without a word from it a provider is lost.
    pub silence: Duration,
    /// How long a cancelled attempt's provider has to say that it stopped.
    pub cancel: Duration,
    /// First and longest pause before asking again.
    pub retry: (Duration, Duration),
    /// How much longer it may be for each other job that rests: a crowd that waits for capacity must not fill the
    /// memory of those who have none with its questions, which is what they then decline the next one for. Whoever
    /// finds a winner, or ends, wakes the next without a pause.
    pub retry_each: Duration,
    /// Most candidates asked directly in one round.
    pub max_asked: usize,
    /// After how long without us a provider stops by itself; part of the contract.
    pub orphan_after: Duration,
}

impl Default for JobRules {
    fn default() -> Self {
        Self {
            auction: Duration::from_secs(2),
            invocation: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            cancel: Duration::from_secs(5),
            retry: (Duration::from_millis(250), Duration::from_secs(2)),
            // Some twenty rounds a second, however many jobs wait.
            retry_each: Duration::from_millis(50),
            max_asked: 16,
            orphan_after: Duration::from_secs(60),
        }
    }
}

/// Somebody who may be asked for a bid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub did: Did,
    /// Where it can be dialled, as it says.
    pub addresses: Vec<String>,
}

/// What can be asked now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Known providers, the most promising first.
    pub known: Vec<Candidate>,
    /// True if there are peers that a gossiped request would reach.
    pub can_gossip: bool,
    /// Where this node can be dialled.
    pub own_addresses: Vec<String>,
    /// How many jobs of this node have asked in vain and rest.
    pub resting: usize,
    /// What lets this node ask whoever hears it by gossip.
    pub credentials: Credentials,
    /// Known providers that the owner's preferences keep from being asked, and why.
    pub rejected: Vec<(Did, String)>,
    /// By what the bids are judged.
    pub judge: Judge,
}

/// A timer of the machine; one that fires late, for a round or attempt that is over, does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// An auction's time is up.
    Auction(u32),
    /// Ask again.
    Retry(u32),
    /// An invocation's time is up.
    Invocation(u32),
    /// Ask the provider of this attempt.
    Heartbeat(u32),
    /// A cancelled attempt's provider has had its time.
    Cancel(u32),
    /// The provider of this attempt, whose result is here, has had its time to countersign.
    Countersignature(u32),
    /// The wait of a job that has had so many attempts is over.
    Wait(u32),
}

/// A word that a peer did not let this node say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarredWord {
    /// A request for bids.
    BidRequest,
    /// An invocation.
    Invocation,
}

/// What happens to a job.
#[derive(Debug, Clone)]
pub enum Input {
    /// Its actor has started: for the first time, or again after a restart of the node.
    Started,
    /// Who can be asked.
    Candidates(Candidates),
    /// A bid arrived.
    Bid(Signed<Bid>),
    /// A provider said no to a request.
    Decline {
        /// Who.
        from: Did,
        /// To which request.
        request: BidRequestId,
        /// Why.
        reason: DeclineReason,
        /// Whether asking again may help, as it says.
        retry: Retry,
    },
    /// A word could not be brought to a peer.
    Unreachable {
        /// Who.
        peer: Did,
        /// Why.
        reason: String,
    },
    /// A peer is there and does not let this node say what it said.
    Barred {
        /// Who.
        peer: Did,
        /// What it was.
        word: BarredWord,
        /// What this node lacks, as the peer says it.
        lacks: String,
    },
    /// The last connection to a peer is gone.
    PeerDown(Did),
    /// The provider countersigned.
    Accepted(Signed<Accepted>),
    /// The provider refused the attempt.
    Refused {
        /// Who.
        from: Did,
        /// The attempt.
        attempt: AttemptId,
        /// Why.
        reason: RefusedReason,
    },
    /// The provider reported.
    Status(Signed<AllocationStatus>),
    /// How much live output was received; kept for the next heartbeat.
    OutputReceived {
        /// Of which task of the pod, from 0.
        task: u16,
        /// Bytes of standard output.
        stdout: u64,
        /// Bytes of standard error.
        stderr: u64,
    },
    /// The result's contents were pulled, or not.
    Collected {
        /// Whose.
        attempt: AttemptId,
        /// What went wrong, if it did.
        outcome: Result<(), CollectFailure>,
    },
    /// Capacity came free somewhere: a job that rests between two rounds asks now.
    AskNow,
    /// The provider says that this attempt is not as far as we know it to be, or farther.
    Differs(AttemptId),
    /// Somebody wants the job ended.
    Cancel,
    /// A timer fired.
    Timer(Timer),
}

/// Why a result's contents are not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectFailure {
    /// The provider did not give them.
    Provider(String),
    /// This node could not keep them now; another attempt would not help, and they stay where they are.
    Local(String),
    /// This node will never keep them, wherever they come from.
    Unacceptable(String),
}

/// What the job's actor has to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Record the events in one batch; when they are on disk, say the words.
    Record {
        /// The events.
        events: Vec<Event>,
        /// The words.
        words: Vec<Addressed>,
    },
    /// Wait for a turn to ask and find out who can be asked; the answer is an input.
    FindCandidates,
    /// The turn that came with the candidates is over.
    RoundOver(RoundEnd),
    /// Remember where a peer can be dialled.
    Remember(Candidate),
    /// Let a provider read what the job consists of, before anything that follows.
    Grant(AttemptId, Did),
    /// Say a request to the whole mesh.
    Gossip(Signed<BidRequest>),
    /// Let a timer fire.
    After(Duration, Timer),
    /// Pull the contents of every task's result from the provider.
    Collect {
        /// Whose.
        attempt: AttemptId,
        /// From whom.
        provider: Did,
        /// What, by task.
        results: Vec<(u16, AllocationResult)>,
    },
    /// Forget live output: another attempt begins.
    ForgetOutput(AttemptId),
    /// The attempt is over: its provider has nothing to read any more.
    Revoke(AttemptId),
    /// Nothing follows: the actor may stop.
    Finish,
}

/// The attempt that counts.
#[derive(Debug, Clone)]
struct Current {
    id: AttemptId,
    provider: Did,
    /// When it was last heard of, on the monotonic clock.
    heard: Duration,
    is_accepted: bool,
    /// How the pod stands.
    state: AllocationState,
    /// How each of its tasks does, and what it left.
    tasks: Vec<(AllocationState, Option<AllocationResult>)>,
    /// How the pod ended, while the contents of its results are pulled.
    collecting: Option<AllocationState>,
    /// True once the heartbeat goes round.
    is_beating: bool,
    /// When it was first known to run, on the monotonic clock.
    since: Duration,
    /// Of how much output the provider knows that it is here.
    output_told: u64,
    /// Our contract, until its countersignature is here.
    awaited: Option<Box<Signed<Contract>>>,
    /// How often the invocation was said again for the countersignature.
    repeat_count: u32,
    /// True once the result is here, and only the countersignature is waited for.
    is_collected: bool,
}

#[derive(Debug, Clone)]
enum Stage {
    /// Between rounds: candidates or a timer are waited for.
    Waiting,
    /// A round is open.
    Auction { auction: Auction, sent: Duration },
    /// An attempt is out.
    Attempt(Current),
    /// Over.
    Done,
}

/// In which of the fruitless rounds strangers are asked too although somebody known is only busy: a gossiped round
/// lasts as long as an auction may, and a job in it hears of no capacity that comes free.
const GOSSIP_EVERY: u32 = 4;
/// After how much new output the provider is told how much is here; a quarter of the window that it keeps to.
const OUTPUT_REPORT: u64 = 64 * 1024;
/// How often a provider that runs an attempt is asked again for its countersignature, once a heartbeat: one that does
/// not give it then never will.
const MAX_REPEATS: u32 = 8;
/// How long a job whose wait is over may still wait for the turn that it wanted last: longer than a look-up of
/// candidates takes, so that one that need not queue gets its last round.
const LAST_TURN: Duration = Duration::from_secs(5);
/// How long after its time limit a program may still be said to run: fetching its inputs included.
const OVERTIME: Duration = Duration::from_secs(15 * 60);

/// The machine.
#[derive(Debug)]
pub struct JobMachine {
    job: Job,
    rules: JobRules,
    phase: JobPhase,
    stage: Stage,
    /// Number of the newest attempt.
    last_attempt: u32,
    /// Counts rounds, so that late timers are recognised.
    round: u32,
    /// Rounds without a winner since the job last went (back) to bidding.
    fruitless: u32,
    /// When the job first wanted to ask since it last went (back) to bidding: its wait runs from then on, also while
    /// it waits for its turn.
    asking_since: Option<Duration>,
    /// Until when its turn must have come, on the monotonic clock.
    turn_deadline: Duration,
    /// Nodes that lost an attempt of this job, and the number of the newest one that each lost. They come last: they
    /// are asked when nobody else who is known may yet take the job, and chosen when nobody else bids.
    lost: BTreeMap<Did, u32>,
    /// Nodes that could not be reached or gave no answer when they were last asked, since the job last went (back) to
    /// bidding.
    silent: BTreeSet<Did>,
    /// Nodes that said no for good since the job last went (back) to bidding.
    said_no: BTreeSet<Did>,
    /// How often each node was asked since then: those asked least come first.
    asked: BTreeMap<Did, u32>,
    /// True between two rounds, while nothing but the pause is waited for.
    is_resting: bool,
    /// True if a provider said in this turn that we hold too many locks there.
    is_crowded: bool,
    /// True if a provider said in this turn that it may take the job later.
    is_later: bool,
    /// True if the last direct round left out candidates that are to be asked in a later one.
    has_more: bool,
    is_cancel_wanted: bool,
    /// True if everybody asked in the last direct round said no for good.
    is_hopeless: bool,
    /// What the last round's candidates were.
    candidates: Candidates,
    /// How much live output of each task is here.
    output: Vec<(u64, u64)>,
    /// An attempt that is out since before a restart.
    resumed: Option<Candidate>,
}

impl JobMachine {
    /// The machine of a job as the books have it; `contract` is its current attempt's.
    pub fn resume(row: &JobRow, contract: Option<Signed<Contract>>, rules: JobRules, now: Duration) -> Self {
        let lost = row
            .attempts
            .iter()
            .filter(|attempt| matches!(attempt.state, AttemptState::Lost { .. }))
            .map(|attempt| (attempt.provider, attempt.id.number))
            .collect();
        let live = row.current_attempt().filter(|attempt| !attempt.state.is_over());
        let task_count = row.job.pods[0].tasks.len();
        let stage = match live {
            _ if row.phase.is_terminal() => Stage::Done,
            Some(attempt) => Stage::Attempt(Current {
                id: attempt.id,
                provider: attempt.provider,
                heard: now,
                is_accepted: attempt.state != AttemptState::Invoked,
                state: match &attempt.state {
                    AttemptState::Observed { state } => state.clone(),
                    _ => AllocationState::Accepted,
                },
                tasks: resumed_tasks(attempt, task_count),
                collecting: None,
                is_beating: false,
                since: now,
                output_told: 0,
                awaited: contract.filter(|_| attempt.allocation.is_none()).map(Box::new),
                repeat_count: 0,
                is_collected: false,
            }),
            None => Stage::Waiting,
        };
        Self {
            job: row.job.clone(),
            rules,
            phase: row.phase,
            stage,
            last_attempt: row.current_attempt().map_or(0, |attempt| attempt.id.number),
            round: 0,
            fruitless: 0,
            asking_since: None,
            turn_deadline: now,
            lost,
            silent: BTreeSet::new(),
            said_no: BTreeSet::new(),
            asked: BTreeMap::new(),
            is_resting: false,
            is_crowded: false,
            is_later: false,
            has_more: false,
            is_cancel_wanted: row.is_cancel_wanted,
            is_hopeless: false,
            candidates: Candidates::default(),
            output: vec![(0, 0); task_count],
            resumed: live
                .map(|attempt| Candidate { did: attempt.provider, addresses: attempt.addresses.clone() }),
        }
    }

    /// Where the job stands.
    pub fn phase(&self) -> JobPhase {
        self.phase
    }

    /// The attempt that is out, if one is.
    pub fn current_attempt(&self) -> Option<AttemptId> {
        match &self.stage {
            Stage::Attempt(current) => Some(current.id),
            _ => None,
        }
    }

    /// Takes one input and says what to do.
    pub fn step(&mut self, input: Input, signer: &Signer) -> Vec<Effect> {
        match input {
            _ if matches!(self.stage, Stage::Done) => self.after_the_end(input),
            Input::Started => self.start(signer),
            Input::Candidates(candidates) => self.open_round(candidates, signer),
            Input::Bid(bid) => self.bid(bid, signer),
            Input::Decline { from, request, reason, retry } => {
                self.decline(from, request, reason, retry, signer)
            }
            Input::Unreachable { peer, reason } => self.unreachable(peer, &reason, signer),
            Input::Barred { peer, word, lacks } => self.barred(peer, word, lacks, signer),
            Input::PeerDown(peer) => self.peer_down(peer),
            Input::Accepted(accepted) => self.accepted(accepted, signer),
            Input::Refused { from, attempt, reason } => self.refused(from, attempt, reason, signer),
            Input::Status(status) => self.status(&status, signer),
            Input::OutputReceived { task, stdout, stderr } => {
                self.output_received(task, (stdout, stderr), signer)
            }
            Input::Collected { attempt, outcome } => self.collected(attempt, outcome, signer),
            Input::AskNow => self.ask_now(signer),
            Input::Differs(attempt) => self.differs(attempt),
            Input::Cancel => self.cancel(),
            Input::Timer(timer) => self.timer(timer, signer),
        }
    }

    fn start(&mut self, signer: &Signer) -> Vec<Effect> {
        if self.is_cancel_wanted && !matches!(self.stage, Stage::Attempt(_)) {
            return self.finish(JobEnd::Cancelled, Vec::new(), Vec::new());
        }
        let Stage::Attempt(current) = &self.stage else {
            return self.want_to_ask(signer);
        };
        let (id, provider) = (current.id, current.provider);
        let mut effects: Vec<Effect> = self.resumed.take().map(Effect::Remember).into_iter().collect();
        let word = match self.is_cancel_wanted {
            true => Word::Cancel(Cancel { attempt: id, cause: StopCause::Cancelled }),
            false => self.status_request(id),
        };
        let words = [Addressed::new(provider, word)].into_iter().chain(self.repeat_invocation(signer));
        effects.push(say(words.collect()));
        effects.extend(self.begin_heartbeat(id.number));
        if self.is_cancel_wanted {
            effects.push(Effect::After(self.rules.cancel, Timer::Cancel(id.number)));
        }
        effects
    }

    /// A round among the candidates known now: directly, or by gossip if nobody is known.
    fn open_round(&mut self, mut candidates: Candidates, signer: &Signer) -> Vec<Effect> {
        if !matches!(self.stage, Stage::Waiting) {
            return vec![self.end_turn(false)];
        }
        (self.is_crowded, self.is_later) = (false, false);
        let known_count = candidates.known.len();
        candidates.known.retain(|candidate| !self.said_no.contains(&candidate.did));
        // Everybody known has said no for good: only strangers could help now.
        let have_all_said_no = known_count > 0 && candidates.known.is_empty();
        let left_out = self.leave_out_the_lost(&mut candidates.known);
        candidates.known.sort_by_key(|candidate| self.asked.get(&candidate.did).copied().unwrap_or(0));
        let not_asked = candidates.known.split_off(candidates.known.len().min(self.rules.max_asked));
        self.has_more = !not_asked.is_empty() || !left_out.is_empty();
        let is_gossip = candidates.known.is_empty();
        let rejected = std::mem::take(&mut candidates.rejected);
        let rejected = rejected.into_iter().map(|(did, why)| (did, format!("not asked: {why}")));
        self.candidates = candidates;
        self.is_hopeless = have_all_said_no;
        if is_gossip && !self.candidates.can_gossip {
            let mut effects: Vec<Effect> = self.note_not_asked(rejected).into_iter().collect();
            effects.extend(if have_all_said_no { self.nobody_can() } else { self.fruitless_round(signer) });
            return effects;
        }
        for candidate in &self.candidates.known {
            *self.asked.entry(candidate.did).or_insert(0) += 1;
        }
        let mut effects = self.open_auction(is_gossip, signer);
        let enough =
            not_asked.into_iter().map(|it| (it.did, "not asked: enough others were asked".to_owned()));
        let left_out = left_out.into_iter().map(|(did, number)| {
            (did, format!("not asked: it lost attempt {number} of this job, and others may yet take it"))
        });
        effects.extend(self.note_not_asked(left_out.chain(rejected).chain(enough)));
        effects
    }

    /// What is recorded of those who could have been asked and were not.
    fn note_not_asked(&self, of: impl Iterator<Item = (Did, String)>) -> Option<Effect> {
        let note =
            |(provider, reason)| Event::NotAsked { job: self.job.id, provider, reason: bounded_text(reason) };
        let events: Vec<Event> = of.map(note).take(64).collect();
        (!events.is_empty()).then_some(Effect::Record { events, words: Vec::new() })
    }

    /// Takes those out of `known` that lost an attempt, while somebody else there may yet take the job: whoever has
    /// not said no for good, and has not just been silent. Gives who that was, and which attempt each lost.
    fn leave_out_the_lost(&self, known: &mut Vec<Candidate>) -> Vec<(Did, u32)> {
        let may_take_it = |it: &Candidate| !self.lost.contains_key(&it.did) && !self.silent.contains(&it.did);
        if !known.iter().any(may_take_it) {
            return Vec::new();
        }
        let lost = known.extract_if(.., |candidate| self.lost.contains_key(&candidate.did));
        lost.map(|candidate| (candidate.did, self.lost[&candidate.did])).collect()
    }

    fn open_auction(&mut self, is_gossip: bool, signer: &Signer) -> Vec<Effect> {
        let pod = &self.job.pods[0];
        let mut addresses = self.candidates.own_addresses.clone();
        addresses.truncate(dms_messages::MAX_ADDRESSES);
        let request = BidRequest {
            id: BidRequestId::from_random(signer.random()),
            job: self.job.id,
            pod: 0,
            requirement: pod.requirement.clone(),
            run_time: pod.run_time(),
            max_price: self.job.max_price,
            wanted: self.job.wanted,
            addresses,
            // Whoever is asked directly has seen them when the link was opened.
            credentials: if is_gossip { self.candidates.credentials.clone() } else { Credentials::default() },
        };
        let signed = match signer.sign(request.clone(), None, ANSWER_TTL) {
            Ok(signed) => signed,
            Err(error) => return self.broken(&error.to_string()),
        };
        self.round += 1;
        let mut events: Vec<Event> = self.begin_bidding().into_iter().collect();
        events.push(Event::BidRequestSent { request: request.bare(), expires: signed.header().expires_at });
        let asked: BTreeSet<Did> = match is_gossip {
            true => BTreeSet::new(),
            false => self.candidates.known.iter().map(|candidate| candidate.did).collect(),
        };
        let words = asked.iter().map(|did| Addressed::new(*did, Word::BidRequest(signed.clone()))).collect();
        let mut effects = Vec::new();
        if !is_gossip {
            effects.extend(self.candidates.known.iter().cloned().map(Effect::Remember));
        }
        effects.push(Effect::Record { events, words });
        if is_gossip {
            effects.push(Effect::Gossip(signed));
        }
        effects.push(Effect::After(self.rules.auction, Timer::Auction(self.round)));
        let last = self.lost.keys().copied().collect();
        let auction = Auction::open(request, asked, is_gossip)
            .with_last_choice(last)
            .judged_by(self.candidates.judge.clone());
        self.stage = Stage::Auction { auction, sent: signer.monotonic() };
        effects
    }

    fn bid(&mut self, bid: Signed<Bid>, signer: &Signer) -> Vec<Effect> {
        let received = Event::BidReceived { job: self.job.id, bid: bid.clone() };
        let bidder = bid.issuer();
        let id = bid.value().id;
        let let_go = |cause| {
            let word = Word::Release(Release { bid: id, cause });
            vec![say(vec![Addressed::new(bidder, word)])]
        };
        let Stage::Auction { auction, .. } = &mut self.stage else {
            return let_go(ReleaseCause::TooLate);
        };
        if auction.request().id != bid.value().request {
            return let_go(ReleaseCause::TooLate);
        }
        let is_first = !auction.has_answer_of(bidder);
        match auction.enter(bid) {
            BidVerdict::Repeated => Vec::new(),
            // Told once a round: nobody fills the log with what is not taken.
            BidVerdict::NotAcceptable(_) if !is_first => let_go(ReleaseCause::NotAcceptable),
            BidVerdict::NotAcceptable(refusal) => {
                self.silent.remove(&bidder);
                let word = Word::Release(Release { bid: id, cause: ReleaseCause::NotAcceptable });
                let reason = bounded_text(format!("made a bid that is not acceptable: {refusal}"));
                let events = vec![Event::NotAsked { job: self.job.id, provider: bidder, reason }];
                let mut effects = vec![Effect::Record { events, words: vec![Addressed::new(bidder, word)] }];
                effects.extend(self.close_if_decided(signer));
                effects
            }
            BidVerdict::Surplus => let_go(ReleaseCause::NotChosen),
            BidVerdict::Entered => {
                self.silent.remove(&bidder);
                let mut effects = vec![Effect::Record { events: vec![received], words: Vec::new() }];
                effects.extend(self.close_if_decided(signer));
                effects
            }
        }
    }

    fn decline(
        &mut self,
        from: Did,
        request: BidRequestId,
        reason: DeclineReason,
        retry: Retry,
        signer: &Signer,
    ) -> Vec<Effect> {
        let Stage::Auction { auction, .. } = &mut self.stage else { return Vec::new() };
        // A no counts from those who were asked, once.
        if auction.request().id != request || !auction.is_waiting_for(from) {
            return Vec::new();
        }
        auction.decline(from, retry);
        self.silent.remove(&from);
        self.is_crowded |= matches!(reason, DeclineReason::LockShare);
        self.is_later |= retry == Retry::Later;
        if retry == Retry::Final {
            self.said_no.insert(from);
        }
        let event = Event::DeclineReceived { job: self.job.id, provider: from, reason };
        let mut effects = vec![Effect::Record { events: vec![event], words: Vec::new() }];
        effects.extend(self.close_if_decided(signer));
        effects
    }

    fn close_if_decided(&mut self, signer: &Signer) -> Vec<Effect> {
        match &self.stage {
            Stage::Auction { auction, .. } if auction.is_decided() => self.close_round(signer),
            _ => Vec::new(),
        }
    }

    /// The round is over: invoke the winner, or ask on.
    fn close_round(&mut self, signer: &Signer) -> Vec<Effect> {
        let stage = std::mem::replace(&mut self.stage, Stage::Waiting);
        let Stage::Auction { auction, sent } = stage else {
            self.stage = stage;
            return Vec::new();
        };
        let was_gossip = auction.is_gossiped();
        // A gossiped round that found nobody leaves what the direct round before it found.
        self.is_hopeless = if was_gossip { self.is_hopeless } else { auction.is_hopeless() };
        let silent: Vec<Did> = auction.silent().collect();
        self.silent.extend(&silent);
        let request = auction.request().clone();
        // A lease counts from when the request was said: our view of it ends before the provider's.
        let spent = signer.monotonic().saturating_sub(sent);
        let (winner, others) = auction.close(spent);
        let mut words: Vec<Addressed> = others
            .into_iter()
            .map(|bid| {
                let release = Release { bid: bid.value().id, cause: ReleaseCause::NotChosen };
                Addressed::new(bid.issuer(), Word::Release(release))
            })
            .collect();
        if let Some(winner) = winner {
            return self.invoke(&request, &winner, words, signer);
        }
        let notes: Vec<Event> = silent
            .into_iter()
            .map(|provider| Event::NotAsked {
                job: self.job.id,
                provider,
                reason: "gave no answer in time".to_owned(),
            })
            .collect();
        let mut effects = Vec::new();
        if !notes.is_empty() || !words.is_empty() {
            effects.push(Effect::Record { events: notes, words: std::mem::take(&mut words) });
        }
        let knows_too_few = self.candidates.known.len() < usize::from(self.job.wanted);
        // Whoever is only busy will be free again, and calls: strangers are asked beside only every so often.
        let is_worth_it = !self.is_later || self.fruitless % GOSSIP_EVERY == GOSSIP_EVERY - 1;
        if !was_gossip && self.candidates.can_gossip && knows_too_few && is_worth_it {
            effects.extend(self.open_auction(true, signer));
        } else if self.is_hopeless && !self.has_more {
            effects.extend(self.nobody_can());
        } else {
            effects.extend(self.fruitless_round(signer));
        }
        effects
    }

    /// Everybody said no for good.
    fn nobody_can(&mut self) -> Vec<Effect> {
        let failure = JobFailure::NobodyTookIt { is_final: true };
        self.finish(JobEnd::Failed { failure }, Vec::new(), Vec::new())
    }

    /// Nobody took it this time: ask again after a pause, until the job's wait is over.
    fn fruitless_round(&mut self, signer: &Signer) -> Vec<Effect> {
        self.let_judge_go();
        let left = self.wait_end(signer).saturating_sub(signer.monotonic());
        if left.is_zero() {
            let failure = JobFailure::NobodyTookIt { is_final: false };
            return self.finish(JobEnd::Failed { failure }, Vec::new(), Vec::new());
        }
        let (first, longest) = self.rules.retry;
        let crowd = u32::try_from(self.candidates.resting).unwrap_or(u32::MAX);
        let longest = longest.max(self.rules.retry_each.saturating_mul(crowd));
        let pause = backoff((first, longest), self.fruitless, signer.random()[0]);
        self.fruitless += 1;
        self.round += 1;
        self.is_resting = true;
        // Also if nobody was there to be asked: it goes on looking.
        let begun =
            self.begin_bidding().map(|event| Effect::Record { events: vec![event], words: Vec::new() });
        let rest = [Effect::After(pause.min(left), Timer::Retry(self.round)), self.end_turn(false)];
        begun.into_iter().chain(rest).collect()
    }

    /// Goes to bidding; gives what is to be recorded of it if the job was not there yet.
    fn begin_bidding(&mut self) -> Option<Event> {
        let before = std::mem::replace(&mut self.phase, JobPhase::Bidding);
        (before != JobPhase::Bidding)
            .then_some(Event::JobMoved { job: self.job.id, phase: JobPhase::Bidding })
    }

    /// Gives the turn to ask back.
    fn end_turn(&self, has_winner: bool) -> Effect {
        Effect::RoundOver(RoundEnd { has_winner, is_crowded: self.is_crowded })
    }

    /// Wants a turn to ask. Its wait runs meanwhile: somebody who would wait a minute is told then, however many
    /// other jobs are in front.
    fn want_to_ask(&mut self, signer: &Signer) -> Vec<Effect> {
        let now = signer.monotonic();
        let is_first = self.asking_since.is_none();
        let end = self.wait_end(signer);
        self.turn_deadline = end.max(now.saturating_add(LAST_TURN));
        let mut effects = vec![Effect::FindCandidates];
        // One timer for the whole wait, and one for each of the few questions at its end.
        if is_first || self.turn_deadline > end {
            let left = self.turn_deadline.saturating_sub(now);
            effects.push(Effect::After(left, Timer::Wait(self.last_attempt)));
        }
        effects
    }

    /// When the job's wait is over, on the monotonic clock.
    fn wait_end(&mut self, signer: &Signer) -> Duration {
        let since = *self.asking_since.get_or_insert_with(|| signer.monotonic());
        since.saturating_add(self.job.wait.duration())
    }

    /// The wait is over while the job waits for its turn.
    fn turn_did_not_come(&mut self, signer: &Signer) -> Vec<Effect> {
        let left = self.turn_deadline.saturating_sub(signer.monotonic());
        if !left.is_zero() {
            return vec![Effect::After(left, Timer::Wait(self.last_attempt))];
        }
        let failure = match self.fruitless {
            0 => JobFailure::NotItsTurn,
            // Those who were asked before have said why not.
            _ => JobFailure::NobodyTookIt { is_final: false },
        };
        self.finish(JobEnd::Failed { failure }, Vec::new(), Vec::new())
    }

    /// The pause is over, by its timer or because there is something to ask for.
    fn ask_now(&mut self, signer: &Signer) -> Vec<Effect> {
        if !matches!(self.stage, Stage::Waiting) || !std::mem::replace(&mut self.is_resting, false) {
            return Vec::new();
        }
        // The timer that may still fire belongs to a round that is over.
        self.round += 1;
        self.want_to_ask(signer)
    }

    /// What was known of the bidders is as much as the node remembers of anybody: held only while bids are judged.
    fn let_judge_go(&mut self) {
        self.candidates.judge = Judge::default();
    }

    /// Mints the next attempt and invokes the winner.
    fn invoke(
        &mut self,
        request: &BidRequest,
        winner: &Signed<Bid>,
        mut words: Vec<Addressed>,
        signer: &Signer,
    ) -> Vec<Effect> {
        self.let_judge_go();
        let provider = winner.issuer();
        let bid = winner.value();
        let attempt = AttemptId { job: self.job.id, pod: request.pod, number: self.last_attempt + 1 };
        let contract = terms(signer.me(), winner, attempt, &self.job, self.rules.orphan_after);
        let signed = signer.sign(contract, Some(provider), RECORD_TTL).and_then(|contract| {
            let invocation = Invocation { bid: bid.id, contract: contract.clone() };
            Ok((contract, signer.sign(invocation, Some(provider), ANSWER_TTL)?))
        });
        let (contract, invocation) = match signed {
            Ok(signed) => signed,
            Err(error) => return self.broken(&error.to_string()),
        };
        if !sabotage::has(Bug::MintsAgain) {
            self.last_attempt = attempt.number;
        }
        self.phase = JobPhase::Invoking;
        let task_count = self.output.len();
        self.output = vec![(0, 0); task_count];
        self.stage = Stage::Attempt(Current {
            id: attempt,
            provider,
            heard: signer.monotonic(),
            is_accepted: false,
            state: AllocationState::Accepted,
            tasks: vec![(AllocationState::Accepted, None); task_count],
            collecting: None,
            is_beating: false,
            since: signer.monotonic(),
            output_told: 0,
            awaited: Some(Box::new(contract.clone())),
            repeat_count: 0,
            is_collected: false,
        });
        words.insert(0, Addressed::new(provider, Word::Invocation(Box::new(invocation))));
        let addresses = self.candidates.known.iter().find(|candidate| candidate.did == provider);
        let minted = Event::AttemptMinted {
            attempt,
            provider,
            addresses: addresses.map(|candidate| candidate.addresses.clone()).unwrap_or_default(),
            contract,
        };
        vec![
            Effect::ForgetOutput(attempt),
            Effect::Grant(attempt, provider),
            Effect::Record { events: vec![minted], words },
            // After the words that let the others' locks go, so that whoever is next finds them gone.
            self.end_turn(true),
            Effect::After(self.rules.invocation, Timer::Invocation(attempt.number)),
        ]
    }

    fn accepted(&mut self, accepted: Signed<Accepted>, signer: &Signer) -> Vec<Effect> {
        let attempt = accepted.value().attempt;
        let is_cancel_wanted = self.is_cancel_wanted;
        let Some(current) = self.current(attempt, accepted.issuer()) else {
            return self.disown(attempt, accepted.issuer());
        };
        current.heard = signer.monotonic();
        // It may come long after a status that proved the run: what it is waited for is the countersignature.
        if current.awaited.take().is_none() {
            return Vec::new();
        }
        let is_collected = current.is_collected;
        let is_first_sign =
            !std::mem::replace(&mut current.is_accepted, true) && current.collecting.is_none();
        self.phase = JobPhase::Running;
        let mut words = Vec::new();
        if is_cancel_wanted && is_first_sign {
            let cancel = Cancel { attempt, cause: StopCause::Cancelled };
            words.push(Addressed::new(accepted.issuer(), Word::Cancel(cancel)));
        }
        let mut effects = vec![Effect::Record { events: vec![Event::AttemptAccepted { accepted }], words }];
        effects.extend(self.begin_heartbeat(attempt.number));
        if is_collected {
            effects.extend(self.collected(attempt, Ok(()), signer));
        }
        effects
    }

    /// The invocation again, to a provider that has the attempt and whose countersignature is not here: it answers
    /// with the acceptance that it gave. Never to one that may not have it: a repeat must not start anything.
    fn repeat_invocation(&mut self, signer: &Signer) -> Option<Addressed> {
        let Stage::Attempt(current) = &mut self.stage else { return None };
        let is_running = current.is_accepted || current.collecting.is_some();
        if !is_running || current.repeat_count >= MAX_REPEATS {
            return None;
        }
        let contract = current.awaited.as_deref()?.clone();
        current.repeat_count += 1;
        let invocation = Invocation { bid: contract.value().bid, contract };
        let signed = signer.sign(invocation, Some(current.provider), ANSWER_TTL).ok()?;
        Some(Addressed::new(current.provider, Word::Invocation(Box::new(signed))))
    }

    fn refused(
        &mut self,
        from: Did,
        attempt: AttemptId,
        reason: RefusedReason,
        signer: &Signer,
    ) -> Vec<Effect> {
        // Once its result is known the attempt has run: whatever its provider says now, the result is fetched or lost.
        if self.current(attempt, from).is_none_or(|current| current.collecting.is_some()) {
            return Vec::new();
        }
        self.reschedule(Event::AttemptRefused { attempt, reason }, Vec::new(), signer)
    }

    fn status(&mut self, status: &Signed<AllocationStatus>, signer: &Signer) -> Vec<Effect> {
        let report = status.value();
        let attempt = report.attempt;
        let provider = status.issuer();
        let now = signer.monotonic();
        let Some(current) = self.current(attempt, provider) else {
            if report.state.is_terminal() {
                // Nothing is left to stop: let it be forgotten.
                let word = Word::Acknowledge(Acknowledge { attempt });
                return vec![say(vec![Addressed::new(provider, word)])];
            }
            return self.disown(attempt, provider);
        };
        current.heard = now;
        if current.collecting.is_some() {
            return Vec::new();
        }
        let is_several = current.tasks.len() > 1;
        let Some((known, left)) = current.tasks.get_mut(usize::from(report.task)) else { return Vec::new() };
        let is_further = report.state.rank() > known.rank();
        if !known.is_terminal() && (is_further || !current.is_accepted) {
            (*known, *left) = (report.state.clone(), report.result.clone());
        }
        let state = AllocationState::of_pod(current.tasks.iter().map(|(state, _)| state));
        // The last of several may have been heard of before a restart.
        if !is_further && current.is_accepted && !state.is_terminal() {
            return Vec::new();
        }
        let task = report.task;
        let of_task =
            Event::TaskObserved { attempt, task, state: report.state.clone(), result: report.result.clone() };
        let mut events: Vec<Event> = (is_several && is_further).then_some(of_task).into_iter().collect();
        if state.is_terminal() {
            // What another attempt will do again is not worth fetching, least of all from a provider that stops. How
            // long it ran is known all the same.
            let left = (0..).zip(&current.tasks).filter(|_| state.is_kept());
            let results: Vec<_> =
                left.filter_map(|(task, (_, result))| Some((task, result.clone()?))).collect();
            current.collecting = Some(state);
            let words: Vec<Addressed> = self.repeat_invocation(signer).into_iter().collect();
            let mut effects = Vec::new();
            if !events.is_empty() || !words.is_empty() {
                effects.push(Effect::Record { events, words });
            }
            match results.is_empty() {
                false => effects.push(Effect::Collect { attempt, provider, results }),
                true => effects.extend(self.collected(attempt, Ok(()), signer)),
            }
            return effects;
        }
        // A status of an attempt whose countersignature was lost on the way proves that it runs.
        let is_moved = !std::mem::replace(&mut current.is_accepted, true) || state != current.state;
        current.state = state.clone();
        self.phase = JobPhase::Running;
        events.extend(is_moved.then_some(Event::AttemptObserved { attempt, state, result: None }));
        let words = self.repeat_invocation(signer).into_iter().collect();
        let mut effects = vec![Effect::Record { events, words }];
        effects.extend(self.begin_heartbeat(attempt.number));
        effects
    }

    /// Output is a sign of life; every so often the provider learns how much of it is here.
    fn output_received(&mut self, task: u16, output: (u64, u64), signer: &Signer) -> Vec<Effect> {
        let Some(known) = self.output.get_mut(usize::from(task)) else { return Vec::new() };
        *known = output;
        let Stage::Attempt(current) = &mut self.stage else { return Vec::new() };
        current.heard = signer.monotonic();
        let both = self.output.iter().map(|(stdout, stderr)| stdout.saturating_add(*stderr));
        let sum = both.fold(0, u64::saturating_add);
        if sum.saturating_sub(current.output_told) < OUTPUT_REPORT {
            return Vec::new();
        }
        current.output_told = sum;
        let (id, provider) = (current.id, current.provider);
        vec![say(vec![Addressed::new(provider, self.status_request(id))])]
    }

    /// The result is here (or there was none): the job ends, or goes back to bidding.
    fn collected(
        &mut self,
        attempt: AttemptId,
        outcome: Result<(), CollectFailure>,
        signer: &Signer,
    ) -> Vec<Effect> {
        let Stage::Attempt(current) = &mut self.stage else { return Vec::new() };
        if current.id != attempt {
            return Vec::new();
        }
        if outcome.is_ok()
            && current.awaited.is_some()
            && current.collecting.is_some()
            && !current.is_collected
        {
            // Once the attempt is over the provider may forget it: now or never. Asked for by the last report.
            current.is_collected = true;
            return vec![Effect::After(self.rules.invocation, Timer::Countersignature(attempt.number))];
        }
        let Some(state) = current.collecting.take() else { return Vec::new() };
        let provider = current.provider;
        // Those of several were recorded as they came.
        let result = match current.tasks.as_mut_slice() {
            [(_, result)] => result.take(),
            _ => None,
        };
        match outcome {
            Ok(()) => {}
            Err(CollectFailure::Provider(reason)) => {
                return self.lose(&format!("its results could not be fetched: {reason}"), signer);
            }
            Err(failure @ (CollectFailure::Local(_) | CollectFailure::Unacceptable(_))) => {
                let (text, is_let_go) = match failure {
                    CollectFailure::Unacceptable(text) => (text, true),
                    CollectFailure::Local(text) | CollectFailure::Provider(text) => (text, false),
                };
                let cause = FailureCause::OutputRefused { text: dms_messages::bounded_text(text) };
                let observed = Event::AttemptObserved { attempt, state, result: None };
                // The only copy of a result that may be wanted still is not thrown away.
                let acknowledge = Addressed::new(provider, Word::Acknowledge(Acknowledge { attempt }));
                let words = is_let_go.then_some(acknowledge).into_iter().collect();
                let failure = JobFailure::Program { cause };
                return self.finish(JobEnd::Failed { failure }, vec![observed], words);
            }
        }
        let observed = Event::AttemptObserved { attempt, state: state.clone(), result };
        let words = vec![Addressed::new(provider, Word::Acknowledge(Acknowledge { attempt }))];
        let end = match state {
            AllocationState::Succeeded => JobEnd::Succeeded,
            AllocationState::Failed { cause } if cause.is_programs_own() => {
                JobEnd::Failed { failure: JobFailure::Program { cause } }
            }
            _ if self.is_cancel_wanted => JobEnd::Cancelled,
            // The provider's own trouble, or its stop: somebody else may do better.
            _ => return self.reschedule(observed, words, signer),
        };
        self.finish(end, vec![observed], words)
    }

    fn cancel(&mut self) -> Vec<Effect> {
        if std::mem::replace(&mut self.is_cancel_wanted, true) {
            return Vec::new();
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Waiting);
        match stage {
            Stage::Attempt(current) => {
                let cancel = Cancel { attempt: current.id, cause: StopCause::Cancelled };
                let number = current.id.number;
                let words = vec![Addressed::new(current.provider, Word::Cancel(cancel))];
                self.stage = Stage::Attempt(current);
                vec![say(words), Effect::After(self.rules.cancel, Timer::Cancel(number))]
            }
            Stage::Auction { auction, .. } => {
                let (winner, others) = auction.close(Duration::ZERO);
                let release = |bid: Signed<Bid>| {
                    let release = Release { bid: bid.value().id, cause: ReleaseCause::Cancelled };
                    Addressed::new(bid.issuer(), Word::Release(release))
                };
                let words = winner.into_iter().chain(others).map(release).collect();
                self.finish(JobEnd::Cancelled, Vec::new(), words)
            }
            Stage::Waiting | Stage::Done => self.finish(JobEnd::Cancelled, Vec::new(), Vec::new()),
        }
    }

    fn timer(&mut self, timer: Timer, signer: &Signer) -> Vec<Effect> {
        match (timer, &self.stage) {
            (Timer::Auction(round), Stage::Auction { .. }) if round == self.round => self.close_round(signer),
            (Timer::Retry(round), Stage::Waiting) if round == self.round => self.ask_now(signer),
            (Timer::Wait(number), Stage::Waiting) if number == self.last_attempt && !self.is_resting => {
                self.turn_did_not_come(signer)
            }
            (Timer::Countersignature(number), Stage::Attempt(current))
                if current.id.number == number && current.is_collected =>
            {
                self.collected(current.id, Ok(()), signer)
            }
            (Timer::Invocation(number), Stage::Attempt(current)) if current.id.number == number => {
                if current.is_accepted || current.collecting.is_some() {
                    return Vec::new();
                }
                self.lose("it did not answer the invocation", signer)
            }
            (Timer::Heartbeat(number), Stage::Attempt(current)) if current.id.number == number => {
                if current.collecting.is_none()
                    && signer.monotonic().saturating_sub(current.heard) >= self.rules.silence
                {
                    return self.lose("it was silent for too long", signer);
                }
                let limit = self.job.pods[0].run_time().duration() + OVERTIME;
                if current.collecting.is_none() && signer.monotonic().saturating_sub(current.since) >= limit {
                    return self.lose("it said to run long after its time limit", signer);
                }
                let word = Addressed::new(current.provider, self.status_request(current.id));
                let words = [word].into_iter().chain(self.repeat_invocation(signer));
                vec![say(words.collect()), Effect::After(self.rules.heartbeat, Timer::Heartbeat(number))]
            }
            (Timer::Cancel(number), Stage::Attempt(current)) if current.id.number == number => {
                // It will stop by itself when it has not heard of us for long enough.
                let lost = Event::AttemptLost {
                    attempt: current.id,
                    reason: "it did not confirm the cancellation".to_owned(),
                };
                self.finish(JobEnd::Cancelled, vec![lost], Vec::new())
            }
            _ => Vec::new(),
        }
    }

    fn unreachable(&mut self, peer: Did, reason: &str, signer: &Signer) -> Vec<Effect> {
        match &mut self.stage {
            // Whoever pulls the result asks again for a while; the result is kept for us.
            Stage::Attempt(current) if current.provider == peer && current.collecting.is_none() => {
                self.lose(reason, signer)
            }
            Stage::Auction { auction, .. } if auction.is_waiting_for(peer) => {
                auction.decline(peer, Retry::Later);
                self.silent.insert(peer);
                let event = Event::NotAsked {
                    job: self.job.id,
                    provider: peer,
                    reason: dms_messages::bounded_text(reason),
                };
                let mut effects = vec![Effect::Record { events: vec![event], words: Vec::new() }];
                effects.extend(self.close_if_decided(signer));
                effects
            }
            _ => Vec::new(),
        }
    }

    /// Refused before it was read: as if the provider had said no by itself.
    fn barred(&mut self, peer: Did, word: BarredWord, lacks: String, signer: &Signer) -> Vec<Effect> {
        match (&self.stage, word) {
            (Stage::Auction { auction, .. }, BarredWord::BidRequest) => {
                let (request, ability) = (auction.request().id, dms_messages::bounded_text(lacks));
                let reason = DeclineReason::Lacks { ability };
                let retry = reason.retry();
                self.decline(peer, request, reason, retry, signer)
            }
            (Stage::Attempt(current), BarredWord::Invocation) => {
                self.refused(peer, current.id, RefusedReason::NotTrusted, signer)
            }
            _ => Vec::new(),
        }
    }

    /// A link broke: ask at once, which dials again; if that fails the peer is unreachable.
    fn peer_down(&mut self, peer: Did) -> Vec<Effect> {
        match &self.stage {
            Stage::Attempt(current) if current.provider == peer => {
                vec![say(vec![Addressed::new(peer, self.status_request(current.id))])]
            }
            _ => Vec::new(),
        }
    }

    /// Asks how an attempt stands, unless its end is here and its result on the way.
    fn differs(&mut self, attempt: AttemptId) -> Vec<Effect> {
        match &self.stage {
            Stage::Attempt(current) if current.id == attempt && current.collecting.is_none() => {
                vec![say(vec![Addressed::new(current.provider, self.status_request(attempt))])]
            }
            _ => Vec::new(),
        }
    }

    fn lose(&mut self, reason: &str, signer: &Signer) -> Vec<Effect> {
        let Stage::Attempt(current) = &self.stage else { return Vec::new() };
        let (attempt, provider) = (current.id, current.provider);
        self.lost.insert(provider, attempt.number);
        let cancel = Word::Cancel(Cancel { attempt, cause: StopCause::Superseded });
        let event = Event::AttemptLost { attempt, reason: dms_messages::bounded_text(reason) };
        self.reschedule(event, vec![Addressed::new(provider, cancel)], signer)
    }

    /// The attempt is over without an end for the job.
    fn reschedule(&mut self, event: Event, words: Vec<Addressed>, signer: &Signer) -> Vec<Effect> {
        let over = self.current_attempt().map(Effect::Revoke);
        self.stage = Stage::Waiting;
        let mut events = vec![event];
        if self.is_cancel_wanted {
            return self.finish(JobEnd::Cancelled, events, words);
        }
        if self.last_attempt >= self.job.max_attempts {
            let failure = JobFailure::AttemptsExhausted { attempts: self.last_attempt };
            return self.finish(JobEnd::Failed { failure }, events, words);
        }
        self.phase = JobPhase::Rescheduling;
        self.said_no.clear();
        self.silent.clear();
        self.asked.clear();
        self.asking_since = None;
        events.push(Event::JobMoved { job: self.job.id, phase: JobPhase::Rescheduling });
        self.fruitless = 0;
        self.round += 1;
        self.is_resting = true;
        // The more attempts were lost, the longer the pause.
        let pause = backoff(self.rules.retry, self.last_attempt.saturating_sub(1), signer.random()[0]);
        let mut effects =
            vec![Effect::Record { events, words }, Effect::After(pause, Timer::Retry(self.round))];
        effects.extend(over);
        effects
    }

    fn finish(&mut self, end: JobEnd, mut events: Vec<Event>, words: Vec<Addressed>) -> Vec<Effect> {
        let over = self.current_attempt().map(Effect::Revoke);
        self.stage = Stage::Done;
        self.phase = end.phase();
        events.push(Event::JobEnded { job: self.job.id, end });
        over.into_iter().chain([Effect::Record { events, words }, Effect::Finish]).collect()
    }

    /// A document of ours could not be signed: only a job that should not have been accepted gets here.
    fn broken(&mut self, text: &str) -> Vec<Effect> {
        let cause = FailureCause::Executor { text: dms_messages::bounded_text(text) };
        self.finish(JobEnd::Failed { failure: JobFailure::Program { cause } }, Vec::new(), Vec::new())
    }

    /// Answers about an attempt that does not count any more: it must stop.
    fn disown(&self, attempt: AttemptId, provider: Did) -> Vec<Effect> {
        let cancel = Word::Cancel(Cancel { attempt, cause: StopCause::Superseded });
        vec![say(vec![Addressed::new(provider, cancel)])]
    }

    fn after_the_end(&self, input: Input) -> Vec<Effect> {
        match input {
            Input::Bid(bid) => {
                let release = Release { bid: bid.value().id, cause: ReleaseCause::TooLate };
                vec![say(vec![Addressed::new(bid.issuer(), Word::Release(release))])]
            }
            Input::Accepted(accepted) => self.disown(accepted.value().attempt, accepted.issuer()),
            _ => Vec::new(),
        }
    }

    /// The current attempt, if it is this one and runs at this provider.
    fn current(&mut self, attempt: AttemptId, provider: Did) -> Option<&mut Current> {
        match &mut self.stage {
            Stage::Attempt(current)
                if sabotage::has(Bug::NoFencing)
                    || (current.id == attempt && current.provider == provider) =>
            {
                Some(current)
            }
            _ => None,
        }
    }

    /// Starts the heartbeat of the current attempt, once.
    fn begin_heartbeat(&mut self, number: u32) -> Option<Effect> {
        let Stage::Attempt(current) = &mut self.stage else { return None };
        let was_beating = std::mem::replace(&mut current.is_beating, true);
        (!was_beating).then_some(Effect::After(self.rules.heartbeat, Timer::Heartbeat(number)))
    }

    fn status_request(&self, attempt: AttemptId) -> Word {
        let (stdout_offset, stderr_offset) = self.output.first().copied().unwrap_or_default();
        let others = self.output.get(1..).unwrap_or_default().to_vec();
        let request = AllocationStatusRequest { attempt, stdout_offset, stderr_offset, others };
        Word::AllocationStatusRequest(request)
    }
}

/// How the tasks of an attempt stood when the books were written.
fn resumed_tasks(attempt: &AttemptRow, count: usize) -> Vec<(AllocationState, Option<AllocationResult>)> {
    let unheard = match &attempt.state {
        AttemptState::Observed { state } if count == 1 => state.clone(),
        _ => AllocationState::Accepted,
    };
    let known = attempt.tasks.iter().map(|row| (row.state.clone(), row.result.clone()));
    known.chain(std::iter::repeat((unheard, None))).take(count).collect()
}

/// Words about which nothing needs to be recorded.
fn say(words: Vec<Addressed>) -> Effect {
    Effect::Record { events: Vec::new(), words }
}

/// Exponential back-off with jitter: between half and all of the doubled pause.
fn backoff((first, longest): (Duration, Duration), tries: u32, random: u8) -> Duration {
    let pause = first.saturating_mul(1 << tries.min(16)).min(longest);
    pause / 2 + pause.mul_f64(f64::from(random) / 512.0)
}

/// What a requester offers to whoever made `bid`, for an attempt at a pod of `job`.
pub(crate) fn terms(
    requester: Did,
    bid: &Signed<Bid>,
    attempt: AttemptId,
    job: &Job,
    orphan_after: Duration,
) -> Contract {
    let offer = bid.value();
    Contract {
        requester,
        provider: bid.issuer(),
        attempt,
        request: offer.request,
        bid: offer.id,
        resources: offer.resources.clone(),
        price: offer.price,
        pod: job.pods[0].clone(),
        orphan_after: Millis::from(orphan_after),
    }
}

#[cfg(test)]
mod tests;
