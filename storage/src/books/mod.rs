//! The books: what the node knows and owes, as one fold over its events.
//!
//! [`Books::apply`] is the only code that changes state, live and at rebuild. It reports which rows
//! changed; the rows on disk are written from the state in the same atomic batch as the event
//! ([`crate::Store`]). The law it keeps after every event, in every dimension:
//!
//! ```text
//!   registered = available + locked + allocated        locked + allocated ≤ registered
//! ```
//!
//! It makes no decision: an event that breaks the law or names something unknown is refused, which
//! is a bug of whoever recorded it, or damage.

mod accounts;
mod archived;
mod event;
mod fold;
mod restore;
mod rows;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dms_messages::{
    AllocationId, AllocationResult, AllocationState, AttemptId, BidId, BidRequestId, Capability, ContentId,
    Did, DocumentId, JobId, NodeCard, Pod, Resources, Signed, Timestamp,
};
use serde::{Deserialize, Serialize};

pub use crate::rows::Row;
pub use accounts::{ALLOWANCE, Accounts, AccountsError, Holding, StandingRow, Suspects};
pub use archived::{Archived, ArchivedRow, Change};
pub use event::{Entry, Event, Lock, LockEnd};
pub use rows::{
    AllocationRow, AttemptRow, AttemptState, BidReceivedRow, BidRequestReceivedRow, BidRequestSentRow,
    BidSentRow, ContractRow, JobRow, LockState, NodeAnswer, StartedRow, TaskRow,
};
pub use trust::{Grant, InviteRow, JoinRow, Root, SuccessionRow, TokenRow, TrustBooks, TrustEvent, TrustRow};

/// Why an event does not fit the books.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BooksError {
    /// Locked and allocated would exceed what is registered.
    #[error("{event}: more would be promised than is registered")]
    Overcommitted {
        /// The event.
        event: &'static str,
    },
    /// The event names something that is not in the books.
    #[error("{event}: {what} is not in the books")]
    Unknown {
        /// The event.
        event: &'static str,
        /// What it names.
        what: String,
    },
    /// The event happened already, or cannot happen any more.
    #[error("{event}: {what} cannot happen to it now")]
    OutOfOrder {
        /// The event.
        event: &'static str,
        /// What it names.
        what: String,
    },
}

/// Everything the node knows and owes. One owner: the Node actor.
#[derive(Debug, Clone, Default)]
pub struct Books {
    card: Option<Signed<NodeCard>>,
    registered: Option<Capability>,
    preferences: Option<Arc<str>>,
    accounts: Accounts,
    allocations: BTreeMap<AllocationId, AllocationRow>,
    /// Those that have not ended: whoever walks over them must not be slowed down by ended ones.
    live: BTreeSet<AllocationId>,
    /// The others by when they ended: what settles first is the first here.
    ended_allocations: BTreeSet<(Timestamp, AllocationId)>,
    /// The first task's allocation of each attempt. Attempts are named by their requester: nobody can take another's
    /// numbers. Holds what `allocations` holds and what the rows of `bids_sent` remember of allocations that are there
    /// no more.
    allocation_of: BTreeMap<(Did, AttemptId), AllocationId>,
    requests_sent: BTreeMap<BidRequestId, BidRequestSentRow>,
    requests_received: BTreeMap<BidRequestId, BidRequestReceivedRow>,
    bids_sent: BTreeMap<BidId, BidSentRow>,
    bids_received: BTreeMap<BidId, BidReceivedRow>,
    jobs: BTreeMap<JobId, JobRow>,
    /// The ended ones by when they ended.
    ended_jobs: BTreeSet<(Timestamp, JobId)>,
    contracts: BTreeMap<ContentId, ContractRow>,
    /// Those that no job and no allocation in memory refers to: they wait to be archived.
    left_contracts: BTreeSet<ContentId>,
    seen: BTreeMap<DocumentId, Timestamp>,
    trust: TrustBooks,
}

impl Books {
    /// The node's introduction, once it has one.
    pub fn card(&self) -> Option<&Signed<NodeCard>> {
        self.card.as_ref()
    }

    /// What the machine's owner registered, if the node is onboarded.
    #[doc(alias = "getRegisteredCapability")]
    pub fn registered(&self) -> Option<&Capability> {
        self.registered.as_ref()
    }

    /// By what the owner wants this node to choose, as written; none if nothing was ever said. The same allocation for
    /// as long as nothing else is said.
    #[doc(alias = "getPreferences")]
    pub fn preferences(&self) -> Option<&Arc<str>> {
        self.preferences.as_ref()
    }

    /// What is neither locked nor allocated.
    #[doc(alias = "getAvailableCapability")]
    pub fn available(&self) -> &Resources {
        self.accounts.available()
    }

    /// The running sums of everything promised, and who holds how much of it.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The live locks.
    #[doc(alias = "getLockedCapabilities")]
    pub fn locks(&self) -> &BTreeMap<BidId, Lock> {
        self.accounts.locks()
    }

    /// The sum of the live locks.
    pub fn locked(&self) -> Resources {
        self.accounts.locked().clone()
    }

    /// The sum of the live allocations.
    pub fn allocated(&self) -> Resources {
        self.accounts.allocated().clone()
    }

    /// Every allocation ever started here that is not pruned.
    #[doc(alias = "getAllocation")]
    pub fn allocations(&self) -> &BTreeMap<AllocationId, AllocationRow> {
        &self.allocations
    }

    /// The allocations that have not ended.
    pub fn live_allocations(&self) -> impl Iterator<Item = &AllocationRow> {
        self.live.iter().filter_map(|id| self.allocations.get(id))
    }

    /// How many ended jobs are in memory: more than a few, and it is time to settle.
    pub fn ended_job_count(&self) -> usize {
        self.ended_jobs.len()
    }

    /// How many ended allocations are in memory, those among them that wait for their requester.
    pub fn ended_allocation_count(&self) -> usize {
        self.ended_allocations.len()
    }

    /// The `ended_before` of an [`Event::Settled`] that moves what ended before `before`, but not many more than
    /// `limit` jobs and `limit` allocations: one event is one batch on disk. None if nothing ended before, and no
    /// contract is left over from what was settled or pruned.
    pub fn next_settling(&self, before: Timestamp, limit: usize) -> Option<Timestamp> {
        let jobs = self.ended_jobs.iter().map(|(ended, _)| *ended);
        let jobs: Vec<Timestamp> = jobs.take_while(|ended| *ended < before).take(limit).collect();
        let ended = self.ended_allocations.iter().filter_map(|(_, id)| self.allocations.get(id));
        let settling = ended.map(AllocationRow::settles_after).filter(|after| *after < before);
        let mut allocations: Vec<Timestamp> = settling.collect();
        allocations.sort_unstable();
        allocations.truncate(limit);
        if jobs.is_empty() && allocations.is_empty() && self.left_contracts.is_empty() {
            return None;
        }
        // What ended in the same millisecond goes together: the event says exactly what it moves.
        let border = |times: &[Timestamp]| match times.last() {
            Some(last) if times.len() >= limit => Timestamp(last.0.saturating_add(1)),
            _ => before,
        };
        Some(border(&jobs).min(border(&allocations)))
    }

    /// The allocation that was ever started for an attempt, also if it left the memory meanwhile.
    pub fn started(&self, requester: Did, attempt: AttemptId) -> Option<AllocationId> {
        self.allocation_of.get(&(requester, attempt)).copied()
    }

    /// The allocations that run or ran an attempt, in the order of its tasks, as far as they are in memory.
    pub fn allocations_of(&self, requester: Did, attempt: AttemptId) -> impl Iterator<Item = &AllocationRow> {
        // A pod leaves the memory as one: where the first task's row is, the others' are.
        let first = self.allocation_of.get(&(requester, attempt)).and_then(|id| self.allocations.get(id));
        first.into_iter().flat_map(|first| {
            (0..first.task_count).filter_map(|task| self.allocations.get(&first.id.of_task(task)))
        })
    }

    /// How the pod of an attempt stands here; none if nothing of it is in memory.
    pub fn pod_state(&self, requester: Did, attempt: AttemptId) -> Option<AllocationState> {
        let states: Vec<&AllocationState> =
            self.allocations_of(requester, attempt).map(|row| &row.state).collect();
        (!states.is_empty()).then(|| AllocationState::of_pod(states))
    }

    /// True if an allocation for `requester` is remembered: it has invoked a bid here.
    pub fn has_allocation_for(&self, requester: Did) -> bool {
        // The lowest of all attempts, so that the first one from here on is the requester's if it has any.
        let lowest = AttemptId { job: JobId::from_bytes([0; 16]), pod: 0, number: 0 };
        let mut from = self.allocation_of.range((requester, lowest)..);
        from.next().is_some_and(|((of, _), _)| *of == requester)
    }

    /// The newest attempt of the same pod for which an allocation was ever started here.
    pub fn newest_attempt_like(&self, requester: Did, attempt: AttemptId) -> Option<AttemptId> {
        let from = (requester, AttemptId { number: 0, ..attempt });
        let to = (requester, AttemptId { number: u32::MAX, ..attempt });
        self.allocation_of.range(from..=to).next_back().map(|((_, attempt), _)| *attempt)
    }

    /// Our own requests for bids.
    #[doc(alias = "BidRequestsSentIndex")]
    pub fn requests_sent(&self) -> &BTreeMap<BidRequestId, BidRequestSentRow> {
        &self.requests_sent
    }

    /// The peers' requests for bids.
    #[doc(alias = "BidRequestsReceivedIndex")]
    pub fn requests_received(&self) -> &BTreeMap<BidRequestId, BidRequestReceivedRow> {
        &self.requests_received
    }

    /// Our own bids.
    #[doc(alias = "BidsSentIndex")]
    #[doc(alias = "getRegisteredBids")]
    pub fn bids_sent(&self) -> &BTreeMap<BidId, BidSentRow> {
        &self.bids_sent
    }

    /// The peers' bids on our jobs.
    #[doc(alias = "BidsReceivedIndex")]
    pub fn bids_received(&self) -> &BTreeMap<BidId, BidReceivedRow> {
        &self.bids_received
    }

    /// Our jobs.
    #[doc(alias = "JobIndex")]
    pub fn jobs(&self) -> &BTreeMap<JobId, JobRow> {
        &self.jobs
    }

    /// The contracts of both roles.
    pub fn contracts(&self) -> &BTreeMap<ContentId, ContractRow> {
        &self.contracts
    }

    /// True if a signed word was seen before.
    pub fn has_seen(&self, id: DocumentId) -> bool {
        self.seen.contains_key(&id)
    }

    /// How many seen words are remembered.
    pub fn seen_count(&self) -> usize {
        self.seen.len()
    }

    /// Whom the node trusts, by what right, and whom it lets in.
    pub fn trust(&self) -> &TrustBooks {
        &self.trust
    }

    /// The seen words, for the row writer and the check.
    pub(crate) fn seen(&self) -> &BTreeMap<DocumentId, Timestamp> {
        &self.seen
    }

    /// The contents that something still needs: modules, inputs and results.
    pub fn live_contents(&self) -> LiveContents {
        let mut live = LiveContents::default();
        self.jobs.values().for_each(|row| live.add_job(row));
        for row in self.allocations.values().filter(|row| !row.is_acknowledged) {
            live.add(row.result.as_ref());
            if let Some(contract) = self.contracts.get(&row.contract).filter(|_| !row.state.is_terminal()) {
                live.add_pod(&contract.contract.value().pod);
            }
        }
        live
    }

    /// Recomputes the law from the rows themselves; the error says what does not add up.
    pub fn check(&self) -> Result<(), BooksError> {
        let overcommitted = BooksError::Overcommitted { event: "check" };
        let registered = self.registered.as_ref().map(|capability| &capability.resources);
        if *self.accounts.registered() != registered.cloned().unwrap_or_default() {
            return Err(overcommitted);
        }
        let live = self.allocations.values().filter(|row| !row.state.is_terminal());
        self.accounts.check(live.map(|row| &row.resources)).map_err(|_| overcommitted)
    }
}

/// Contents that something still needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveContents {
    /// Single blobs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub blobs: BTreeSet<ContentId>,
    /// File trees; the files that they list are needed too.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub trees: BTreeSet<ContentId>,
}

impl LiveContents {
    fn add_job(&mut self, row: &JobRow) {
        row.job.pods.iter().for_each(|pod| self.add_pod(pod));
        let results = row.attempts.iter().flat_map(AttemptRow::results);
        results.for_each(|(_, result)| self.add(Some(result)));
    }

    fn add_pod(&mut self, pod: &Pod) {
        for task in &pod.tasks {
            self.blobs.extend(task.blobs());
            self.trees.extend(task.input);
        }
    }

    fn add(&mut self, result: Option<&AllocationResult>) {
        if let Some(result) = result {
            self.blobs.extend([result.stdout, result.stderr]);
            self.trees.extend(result.output);
        }
    }
}

#[cfg(test)]
mod tests;
