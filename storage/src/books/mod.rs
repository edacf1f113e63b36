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

mod event;
mod fold;
mod index;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::{
    AllocationId, AllocationResult, AttemptId, BidId, BidRequestId, Capability, ContentId, Did, DocumentId,
    JobId, NodeCard, Pod, Resources, Signed, Timestamp,
};

pub use event::{Entry, Event, Lock, LockEnd};
pub use index::Row;
pub(crate) use index::{ROW_FAMILIES, all_rows, row_value};
pub use rows::{
    AllocationRow, AttemptRow, AttemptState, BidReceivedRow, BidRequestReceivedRow, BidRequestSentRow,
    BidSentRow, ContractRow, JobRow, LockState, NodeAnswer,
};

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
    available: Resources,
    locks: BTreeMap<BidId, Lock>,
    allocations: BTreeMap<AllocationId, AllocationRow>,
    /// Those that have not ended: every change of the books sums them up, so ended ones must not be in the way.
    live: BTreeSet<AllocationId>,
    /// Attempts are named by their requester: nobody can take another's numbers.
    allocation_of: BTreeMap<(Did, AttemptId), AllocationId>,
    requests_sent: BTreeMap<BidRequestId, BidRequestSentRow>,
    requests_received: BTreeMap<BidRequestId, BidRequestReceivedRow>,
    bids_sent: BTreeMap<BidId, BidSentRow>,
    bids_received: BTreeMap<BidId, BidReceivedRow>,
    jobs: BTreeMap<JobId, JobRow>,
    contracts: BTreeMap<ContentId, ContractRow>,
    seen: BTreeMap<DocumentId, Timestamp>,
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

    /// What is neither locked nor allocated.
    #[doc(alias = "getAvailableCapability")]
    pub fn available(&self) -> &Resources {
        &self.available
    }

    /// The live locks.
    #[doc(alias = "getLockedCapabilities")]
    pub fn locks(&self) -> &BTreeMap<BidId, Lock> {
        &self.locks
    }

    /// The sum of the live locks.
    pub fn locked(&self) -> Resources {
        sum(self.locks.values().map(|lock| &lock.resources))
    }

    /// The sum of the live allocations.
    pub fn allocated(&self) -> Resources {
        sum(self.live_allocations().map(|row| &row.resources))
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

    /// The allocation that runs or ran an attempt.
    pub fn allocation_of(&self, requester: Did, attempt: AttemptId) -> Option<&AllocationRow> {
        self.allocations.get(self.allocation_of.get(&(requester, attempt))?)
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

    /// The seen words, for the row writer and the check.
    pub(crate) fn seen(&self) -> &BTreeMap<DocumentId, Timestamp> {
        &self.seen
    }

    /// The contents that something still needs: modules, inputs and results.
    pub fn live_contents(&self) -> LiveContents {
        let mut live = LiveContents::default();
        for row in self.jobs.values() {
            row.job.pods.iter().for_each(|pod| live.add_pod(pod));
            row.attempts.iter().for_each(|attempt| live.add(attempt.result.as_ref()));
        }
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
        let expected = self.expected_available("check")?;
        if expected == self.available { Ok(()) } else { Err(BooksError::Overcommitted { event: "check" }) }
    }

    /// What must be available: registered minus every live lock and allocation.
    fn expected_available(&self, event: &'static str) -> Result<Resources, BooksError> {
        let registered =
            self.registered.as_ref().map(|capability| capability.resources.clone()).unwrap_or_default();
        let promised = self.locks.values().map(|lock| &lock.resources);
        promised
            .chain(self.live_allocations().map(|row| &row.resources))
            .try_fold(registered, |left, part| left.checked_sub(part))
            .ok_or(BooksError::Overcommitted { event })
    }
}

/// Contents that something still needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveContents {
    /// Single blobs.
    pub blobs: BTreeSet<ContentId>,
    /// File trees; the files that they list are needed too.
    pub trees: BTreeSet<ContentId>,
}

impl LiveContents {
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

/// The sum of parts that are known to fit into what is registered.
fn sum<'a>(parts: impl Iterator<Item = &'a Resources>) -> Resources {
    parts.fold(Resources::default(), |sum, part| sum.checked_add(part).unwrap_or(sum))
}

#[cfg(test)]
mod tests;
