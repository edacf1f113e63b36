//! Events as lines that people read: when, which, and what happened in words.
//!
//! Called for `dms log`, by a running node and without one. Pure: it reads no books and no clock, so a line says
//! only what its event says. Ids are shortened as in every list; the whole event is beside its words for programs.
//! Texts of peers stand in the words as they came: whoever prints them escapes them.

mod trust;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use dms_messages::{
    AllocationId, AllocationResult, AttemptId, BidId, BidRequest, ContentId, DeclineReason, JobEnd, JobId,
    Price, Requirement, Resources, Timestamp,
};
use dms_storage::{Entry, Event, Lock, LockEnd};
use serde::{Deserialize, Serialize};

pub(crate) use self::trust::row_text as trust_row;
use crate::time_text;

/// Characters of an id that lines show and commands accept.
const SHORT_ID: usize = 8;
/// The same of a CID: all contracts share the first eight.
const SHORT_CID: usize = 18;

/// One event, as people and programs see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number; the first event ever has 1.
    pub sequence: u64,
    /// When it happened, by the node's wall clock.
    pub at: Timestamp,
    /// Its name (`bid_sent`).
    pub name: String,
    /// The job that it names, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// What happened, in words. May hold texts of peers.
    pub text: String,
    /// The whole event, if it was asked for: its fields below its name; signed documents as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<serde_json::Value>,
}

impl LogLine {
    /// The line of an entry; with the whole event if `is_whole`.
    pub fn of(sequence: u64, entry: &Entry, is_whole: bool) -> Self {
        let whole = || match &entry.event {
            Event::Trust { change } => serde_json::to_value(change),
            event => serde_json::to_value(event),
        };
        let event = is_whole.then(|| whole().expect("an event is plain data"));
        Self {
            sequence,
            at: entry.at,
            name: entry.event.name().to_owned(),
            job: job_of(&entry.event),
            text: text_of(entry),
            event,
        }
    }
}

/// The line for people: number, time, name, words.
impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequence, name, text, .. } = self;
        write!(f, "{sequence:>7}  {}  {name:<23}  {text}", time_text::to_the_millisecond(self.at))
    }
}

/// Finds the events of one job. Some only name a bid or an allocation; which of these are the job's is learned from
/// the events before, so the events must come in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    prefix: String,
    bids: BTreeSet<BidId>,
    allocations: BTreeSet<AllocationId>,
}

impl JobFilter {
    /// A filter for the job whose id begins with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_ascii_lowercase(), ..Self::default() }
    }

    /// A filter that has seen locks and allocations of the job before.
    pub fn knowing(mut self, bids: BTreeSet<BidId>, allocations: BTreeSet<AllocationId>) -> Self {
        self.bids = bids;
        self.allocations = allocations;
        self
    }

    /// The job's live locks, and its allocations here whose requester does not have the result yet.
    pub fn into_known(self) -> (BTreeSet<BidId>, BTreeSet<AllocationId>) {
        (self.bids, self.allocations)
    }

    /// True if it is the job's id, or begins as the one wanted.
    pub fn is_wanted(&self, job: &JobId) -> bool {
        job.to_string().starts_with(&self.prefix)
    }

    /// True if the event is the job's.
    pub fn takes(&mut self, event: &Event) -> bool {
        match event {
            Event::BidSent { lock, .. } if self.is_wanted(&lock.job) => {
                self.bids.insert(lock.bid);
                true
            }
            Event::LockRenewed { bid, .. } => self.bids.contains(bid),
            Event::LockEnded { bid, .. } => self.bids.remove(bid),
            Event::AllocationAccepted { allocation, contract, .. }
                if self.is_wanted(&contract.value().attempt.job) =>
            {
                self.bids.remove(&contract.value().bid);
                let tasks = (0..).zip(&contract.value().pod.tasks);
                self.allocations.extend(tasks.map(|(task, _)| allocation.of_task(task)));
                true
            }
            Event::AllocationMoved { allocation, .. } | Event::AllocationEnded { allocation, .. } => {
                self.allocations.contains(allocation)
            }
            Event::AllocationAcknowledged { allocation } => self.allocations.remove(allocation),
            event => job_of(event).is_some_and(|job| self.is_wanted(&job)),
        }
    }
}

/// The job that an event names.
fn job_of(event: &Event) -> Option<JobId> {
    Some(match event {
        Event::BidRequestSent { request, .. } | Event::BidRequestReceived { request, .. } => request.job,
        Event::BidSent { lock, .. } => lock.job,
        Event::BidReceived { job, .. }
        | Event::DeclineReceived { job, .. }
        | Event::NotAsked { job, .. }
        | Event::JobMoved { job, .. }
        | Event::JobCancelWanted { job }
        | Event::JobEnded { job, .. } => *job,
        Event::JobSubmitted { job } => job.id,
        Event::AllocationAccepted { contract, .. } => contract.value().attempt.job,
        Event::AttemptAccepted { accepted } => accepted.value().attempt.job,
        Event::AttemptMinted { attempt, .. }
        | Event::AttemptRefused { attempt, .. }
        | Event::AttemptObserved { attempt, .. }
        | Event::TaskObserved { attempt, .. }
        | Event::AttemptLost { attempt, .. } => attempt.job,
        Event::NodeNamed { .. }
        | Event::CapabilityRegistered { .. }
        | Event::CapabilityWithdrawn
        | Event::PreferencesSet { .. }
        | Event::LockRenewed { .. }
        | Event::LockEnded { .. }
        | Event::AllocationMoved { .. }
        | Event::AllocationEnded { .. }
        | Event::AllocationAcknowledged { .. }
        | Event::DocumentSeen { .. }
        | Event::Trust { .. }
        | Event::Pruned { .. }
        | Event::Settled { .. } => return None,
    })
}

/// What happened, in words.
pub(crate) fn text_of(Entry { at, event }: &Entry) -> String {
    match event {
        Event::NodeNamed { card } => format!("this node is {}", card.issuer().short()),
        Event::CapabilityRegistered { capability } => format!("offers {}", capability.resources),
        Event::CapabilityWithdrawn => "offers nothing any more".to_owned(),
        Event::PreferencesSet { text } if text.is_empty() => "chooses as it did at first".to_owned(),
        Event::PreferencesSet { text } => {
            format!("chooses by other preferences ({} lines)", text.lines().count())
        }
        Event::BidRequestSent { request, expires } => {
            format!("asked for bids, {}; void after {}", asked(request), lasting(*at, *expires))
        }
        Event::BidRequestReceived { requester, request, declined } => {
            let answer = match declined {
                None => "a bid is made".to_owned(),
                Some(reason) => format!("declined: {}", declined_because(reason)),
            };
            format!("{} asks for bids, {}; {answer}", requester.short(), asked(request))
        }
        Event::BidSent { bid, lock } => {
            let Lock { request, requester, job, resources, expires, .. } = lock;
            format!(
                "bid {} to {} on request {} for job {}: {}; locked {resources} for {}",
                id(&lock.bid),
                requester.short(),
                id(request),
                id(job),
                an_hour(bid.value().price),
                lasting(*at, *expires)
            )
        }
        Event::LockRenewed { bid, expires } => {
            format!("the lock of bid {} holds for {} more", id(bid), lasting(*at, *expires))
        }
        Event::LockEnded { bid, end } => {
            format!("the lock of bid {} {}", id(bid), ended(*end))
        }
        Event::BidReceived { job, bid } => format!(
            "bid {} of {} for job {}: {}, held for {}",
            id(&bid.value().id),
            bid.issuer().short(),
            id(job),
            an_hour(bid.value().price),
            bid.value().lease
        ),
        Event::DeclineReceived { job, provider, reason } => {
            format!("{} declined job {}: {}", provider.short(), id(job), declined_because(reason))
        }
        Event::NotAsked { job, provider, reason } => {
            format!("{} was not asked for job {}: {reason}", provider.short(), id(job))
        }
        Event::AllocationAccepted { allocation, contract, .. } => {
            let terms = contract.value();
            format!(
                "allocation {} for {}: {}, {}, {}; bid {}, contract {}",
                id(allocation),
                terms.requester.short(),
                attempt(&terms.attempt),
                terms.resources,
                an_hour(terms.price),
                id(&terms.bid),
                cid(&contract.content_id())
            )
        }
        Event::AllocationMoved { allocation, state } => format!("allocation {}: {state}", id(allocation)),
        Event::AllocationEnded { allocation, state, result } => {
            format!("allocation {}: {state}{}", id(allocation), left(result.as_ref()))
        }
        Event::AllocationAcknowledged { allocation } => {
            format!("the requester has the result of allocation {}", id(allocation))
        }
        Event::JobSubmitted { job } => {
            let needs: Vec<_> = job.pods.iter().map(|pod| needs(&pod.requirement)).collect();
            let most = job.max_price.map(|price| format!(", for at most {price} an hour"));
            format!(
                "job {} {:?} was handed in: needs {}{}",
                id(&job.id),
                job.name,
                needs.join("; "),
                most.unwrap_or_default()
            )
        }
        Event::JobMoved { job, phase } => format!("job {}: {phase}", id(job)),
        Event::JobCancelWanted { job } => format!("job {}: somebody wants it ended", id(job)),
        Event::AttemptMinted { attempt: it, provider, contract, .. } => format!(
            "{} goes to {}: {}; bid {}, contract {}",
            attempt(it),
            provider.short(),
            an_hour(contract.value().price),
            id(&contract.value().bid),
            cid(&contract.content_id())
        ),
        Event::AttemptAccepted { accepted } => format!(
            "{} was accepted by {} as allocation {}",
            attempt(&accepted.value().attempt),
            accepted.issuer().short(),
            id(&accepted.value().allocation)
        ),
        Event::AttemptRefused { attempt: it, reason } => format!("{} was refused: {reason}", attempt(it)),
        Event::AttemptObserved { attempt: it, state, result } => {
            format!("{}: {state}{}", attempt(it), left(result.as_ref()))
        }
        Event::TaskObserved { attempt: it, task, state, result } => {
            format!("{}, task {task}: {state}{}", attempt(it), left(result.as_ref()))
        }
        Event::AttemptLost { attempt: it, reason } => format!("{} is lost: {reason}", attempt(it)),
        Event::JobEnded { job, end } => match end {
            JobEnd::Failed { failure } => format!("job {} failed: {failure}", id(job)),
            JobEnd::Succeeded | JobEnd::Cancelled => format!("job {} {}", id(job), end.phase()),
        },
        Event::DocumentSeen { id: it, until } => {
            format!("signed word {} was seen, and is remembered for {}", id(it), lasting(*at, *until))
        }
        Event::Trust { change } => trust::text_of(change, *at),
        Event::Pruned { before } => {
            format!("forgot requests, bids and words that were over {}", ago(*at, *before))
        }
        Event::Settled { ended_before } => {
            format!("put what was over {} into the archive", ago(*at, *ended_before))
        }
    }
}

/// What became of a lock.
pub(crate) fn ended(end: LockEnd) -> &'static str {
    match end {
        LockEnd::Taken => "became an allocation",
        LockEnd::Released => "was given back",
        LockEnd::Expired => "ran out",
        LockEnd::Withdrawn => "was taken back by this node",
    }
}

pub(crate) fn id(id: &impl fmt::Display) -> String {
    id.to_string().chars().take(SHORT_ID).collect()
}

pub(crate) fn cid(cid: &ContentId) -> String {
    cid.to_string().chars().take(SHORT_CID).collect()
}

pub(crate) fn attempt(attempt: &AttemptId) -> String {
    format!("try {} of job {}", attempt.number, id(&attempt.job))
}

pub(crate) fn an_hour(price: Price) -> String {
    if price.0 == 0 { "free".to_owned() } else { format!("{price} an hour") }
}

/// A request in short.
pub(crate) fn asked(request: &BidRequest) -> String {
    let most = request.max_price.map(|price| format!(" for at most {price} an hour")).unwrap_or_default();
    format!(
        "request {} for job {}: {} wanted, needs {}{most}",
        id(&request.id),
        id(&request.job),
        request.wanted,
        needs(&request.requirement)
    )
}

/// What is counted of a requirement, in the words for what is offered.
fn needs(requirement: &Requirement) -> String {
    let Requirement { cpu, memory, disk, .. } = *requirement;
    let gpus = (0..).map(dms_messages::GpuId).take(requirement.gpus.len()).collect();
    Resources { cpu, memory, disk, gpus, ..Resources::default() }.to_string()
}

/// The code is what people search for; where the reason is only the code in words, it is not repeated.
pub(crate) fn declined_because(reason: &DeclineReason) -> String {
    format!("{} ({reason})", reason.code())
}

/// What a program left, in short.
pub(crate) fn left(result: Option<&AllocationResult>) -> String {
    match result {
        None => String::new(),
        Some(result) => format!(", ran {}, peak memory {}", result.wall, result.peak_memory),
    }
}

/// How long it is from one instant to another that should be later.
fn lasting(from: Timestamp, until: Timestamp) -> String {
    span(until.saturating_since(from))
}

/// How long an instant lies before the event.
fn ago(at: Timestamp, before: Timestamp) -> String {
    match at.saturating_since(before) {
        Duration::ZERO => "by then".to_owned(),
        age => format!("{} before", span(age)),
    }
}

/// A duration in the one unit that a person would say.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dms_messages::{
        Accepted, AllocationState, DocumentId, FailureCause, JobFailure, JobPhase, MemoryMib, Millis,
        RefusedReason,
    };

    use super::*;
    use crate::signer::RECORD_TTL;
    use crate::testing::{self, StillClock};

    /// A story that has every event once, in the order of their declaration.
    fn every_event() -> Vec<Event> {
        let clock = Arc::new(StillClock::default());
        let (requester, provider) = (testing::signer(1, &clock), testing::signer(2, &clock));
        let job = testing::job();
        let mut books = testing::books(2000, 1024);
        let lock = testing::lock(&mut books, &provider, requester.me(), 1, testing::resources(1000, 64));
        let request = BidRequest { id: lock.request, ..testing::request(&job) };
        let bid = testing::bid(&request, 250_000, &provider);
        let lock = Lock { bid: bid.value().id, job: job.id, ..lock };
        let terms = testing::contract(&lock, &requester, provider.me(), 1);
        let attempt = terms.attempt;
        let contract = testing::sign_contract(terms, &requester);
        let allocation = AllocationId::from_random([7; 16]);
        let accepted = Accepted { attempt, contract: contract.content_id(), allocation };
        let accepted = provider.sign(accepted, Some(requester.me()), RECORD_TTL).unwrap();
        let result = AllocationResult {
            stdout: ContentId::of_bytes(b""),
            stderr: ContentId::of_bytes(b""),
            output: None,
            wall: Millis(1500),
            peak_memory: MemoryMib(12),
            output_dropped: 0,
        };
        let failed = AllocationState::Failed { cause: FailureCause::ExitCode { code: 3 } };
        let later = lock.expires.saturating_add(Duration::from_secs(10));
        let over = Timestamp(lock.expires.0 - 7_200_000);
        let reason = || "a link\nbroke".to_owned();
        vec![
            Event::NodeNamed { card: crate::node::new_card(&provider).unwrap() },
            Event::CapabilityRegistered { capability: testing::capability(2000, 1024) },
            Event::CapabilityWithdrawn,
            Event::PreferencesSet { text: "[pricing]\nminimum = \"1\"\n".to_owned() },
            Event::BidRequestSent { request: request.clone(), expires: lock.expires },
            Event::BidRequestReceived { requester: requester.me(), request: request.clone(), declined: None },
            Event::BidRequestReceived {
                requester: requester.me(),
                request,
                declined: Some(DeclineReason::LockShare),
            },
            Event::BidSent { bid: bid.clone(), lock: lock.clone() },
            Event::LockRenewed { bid: lock.bid, expires: later },
            Event::LockEnded { bid: lock.bid, end: LockEnd::Expired },
            Event::BidReceived { job: job.id, bid },
            Event::DeclineReceived {
                job: job.id,
                provider: provider.me(),
                reason: DeclineReason::NotOnboarded,
            },
            Event::NotAsked { job: job.id, provider: provider.me(), reason: reason() },
            Event::AllocationAccepted { allocation, contract: contract.clone(), accepted: accepted.clone() },
            Event::AllocationMoved { allocation, state: AllocationState::Running },
            Event::AllocationEnded { allocation, state: failed.clone(), result: Some(result.clone()) },
            Event::AllocationAcknowledged { allocation },
            Event::JobSubmitted { job: job.clone() },
            Event::JobMoved { job: job.id, phase: JobPhase::Bidding },
            Event::JobCancelWanted { job: job.id },
            Event::AttemptMinted { attempt, provider: provider.me(), addresses: vec![], contract },
            Event::AttemptAccepted { accepted },
            Event::AttemptRefused { attempt, reason: RefusedReason::LeaseEnded },
            Event::AttemptObserved { attempt, state: failed, result: Some(result) },
            Event::AttemptLost { attempt, reason: reason() },
            Event::JobEnded {
                job: job.id,
                end: JobEnd::Failed { failure: JobFailure::NobodyTookIt { is_final: false } },
            },
            Event::DocumentSeen { id: DocumentId([5; 16]), until: later },
            Event::Settled { ended_before: over },
            Event::Pruned { before: over },
        ]
    }

    fn entry(event: Event) -> Entry {
        Entry { at: Timestamp(1_700_000_000_000), event }
    }

    #[test]
    fn every_event_is_a_sentence_with_short_ids() {
        let lines: Vec<String> = every_event()
            .into_iter()
            .zip(1..)
            .map(|(event, sequence)| LogLine::of(sequence, &entry(event), false).to_string())
            .collect();
        // The keys and ids of the examples stand still; contracts are signed with them.
        let table = [
            "node_named               this node is z6Mk",
            "capability_registered    offers 2 cores, 1 GiB memory, 0 MiB disk",
            "capability_withdrawn     offers nothing any more",
            "preferences_set          chooses by other preferences (2 lines)",
            "bid_request_sent         asked for bids, request 01010101 for job 01010101: 2 wanted, needs 1 core, 64 MiB memory, 0 MiB disk; void after 11 s",
            "; a bid is made",
            "; declined: lock_share (the requester already holds its share of locks)",
            ": 0.25 an hour; locked 1 core, 64 MiB memory, 0 MiB disk for 11 s",
            "holds for 21 s more",
            " ran out",
            " for job 01010101: 0.25 an hour, held for 10 s",
            " declined job 01010101: not_onboarded (offers no capacity (not onboarded))",
            " was not asked for job 01010101: a link\nbroke",
            "allocation 07070707 for z6Mk",
            "allocation_moved         allocation 07070707: running",
            "allocation 07070707: failed: the program ended with exit code 3, ran 1.5 s, peak memory 12 MiB",
            "the requester has the result of allocation 07070707",
            "job_submitted            job 01010101 \"job\" was handed in: needs 1 core, 64 MiB memory, 0 MiB disk",
            "job_moved                job 01010101: bidding",
            "job 01010101: somebody wants it ended",
            "attempt_minted           try 1 of job 01010101 goes to z6Mk",
            " as allocation 07070707",
            "try 1 of job 01010101 was refused: the bid's lease has ended",
            "try 1 of job 01010101: failed: the program ended with exit code 3, ran 1.5 s, peak memory 12 MiB",
            "try 1 of job 01010101 is lost: a link\nbroke",
            "job_ended                job 01010101 failed: no node took it in time",
            "signed word 05050505 was seen, and is remembered for 21 s",
            "settled                  put what was over 119 min before into the archive",
            "pruned                   forgot requests, bids and words that were over 119 min before",
        ];
        assert_eq!(lines.len(), table.len());
        for ((line, words), sequence) in lines.iter().zip(table).zip(1..) {
            assert!(line.starts_with(&format!("{sequence:>7}  2023-11-14T22:13:20.000Z  ")), "{line}");
            assert!(line.contains(words), "{line:?} does not say {words:?}");
            // No whole id, DID or CID: a line is for people, and fits.
            assert!(line.split([' ', ',', ';', ':']).all(|word| word.chars().count() <= 30), "{line}");
        }
    }

    #[test]
    fn a_whole_line_is_json_that_can_be_read_again() {
        for (event, sequence) in every_event().into_iter().zip(1..) {
            let name = event.name();
            let line = LogLine::of(sequence, &entry(event), true);
            let fields = line.event.as_ref().unwrap();
            assert!(fields.get(name).is_some() || fields == name, "{name}: {fields}");
            let text = serde_json::to_string(&line).unwrap();
            assert!(!text.contains('\n'), "one line, whatever peers wrote: {text}");
            assert_eq!(serde_json::from_str::<LogLine>(&text).unwrap(), line);
        }
    }

    #[test]
    fn a_jobs_events_are_found_also_where_they_only_name_a_bid_or_an_allocation() {
        let names = |filter: &mut JobFilter, events: Vec<Event>| -> Vec<&'static str> {
            events.iter().filter(|event| filter.takes(event)).map(Event::name).collect()
        };
        let is_nobodys = |name: &str| {
            ["node_named", "capability_", "preferences_", "document_seen", "settled", "pruned"]
                .iter()
                .any(|other| name.starts_with(other))
        };
        let expected: Vec<_> =
            every_event().iter().map(Event::name).filter(|name| !is_nobodys(name)).collect();
        let mut filter = JobFilter::new("01010101");
        assert_eq!(names(&mut filter, every_event()), expected);
        assert_eq!(filter.clone().into_known(), Default::default(), "what is over is known no more");
        assert_eq!(names(&mut JobFilter::new("01010101-0101-4101"), every_event()), expected);

        let mut other = JobFilter::new("02");
        assert_eq!(names(&mut other, every_event()), Vec::<&str>::new());
        // Without what came before, a lock is nobody's; with what the page before knew, it is the job's.
        let ends = || every_event().into_iter().skip(8).take(2).collect::<Vec<_>>();
        assert_eq!(names(&mut JobFilter::new("01"), ends()), Vec::<&str>::new());
        let mut before = JobFilter::new("01");
        names(&mut before, every_event().into_iter().take(8).collect());
        let (bids, allocations) = before.into_known();
        assert_eq!((bids.len(), allocations.len()), (1, 0));
        let mut after = JobFilter::new("01").knowing(bids, allocations);
        assert_eq!(names(&mut after, ends()), ["lock_renewed", "lock_ended"]);
    }
}
