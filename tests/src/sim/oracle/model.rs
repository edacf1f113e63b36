//! What the logs of all nodes say, as far as the rules need it. Changed by the fold alone.
//!
//! Every statement keeps its [`Place`]: whose log, which number. Whether it is synced is then one comparison. What is
//! not synced is kept beside as what to put back ([`Undo`]), and put back when the power goes.

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::{
    AllocationId, AllocationState, AttemptId, BidId, ContentId, Did, JobEnd, JobId, Resources,
};

use super::capacity::{Capacity, HeldLock};
use super::rules::FORGOTTEN;
use super::{Judged, NodeIndex, wrong};

/// Where something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// In whose log.
    pub(super) node: NodeIndex,
    /// The number of the event.
    pub(super) sequence: u64,
}

/// A job, by its requester's log.
#[derive(Debug, Clone)]
pub(super) struct KnownJob {
    pub(super) place: Place,
    /// The event with which somebody wanted it ended.
    pub(super) cancel: Option<u64>,
    /// Oldest first.
    pub(super) attempts: Vec<KnownAttempt>,
    pub(super) end: Option<(u64, JobEnd)>,
}

impl KnownJob {
    pub(super) fn attempt(&self, id: AttemptId) -> Option<&KnownAttempt> {
        self.attempts.iter().find(|attempt| attempt.id == id)
    }

    /// The newest attempt of a pod.
    pub(super) fn newest(&self, pod: u16) -> Option<&KnownAttempt> {
        self.attempts.iter().filter(|attempt| attempt.id.pod == pod).max_by_key(|attempt| attempt.id.number)
    }

    /// The event since which the requester has done with an attempt: it is over, a newer one was minted, or the job
    /// has ended.
    pub(super) fn done_with(&self, id: AttemptId) -> Option<u64> {
        let over = self.attempt(id).and_then(|attempt| attempt.over);
        let newer = self.attempts.iter().filter(|it| it.id.pod == id.pod && it.id.number > id.number);
        let newer = newer.map(|attempt| attempt.sequence).min();
        let ended = self.end.as_ref().map(|(sequence, _)| *sequence);
        [over, newer, ended].into_iter().flatten().min()
    }
}

/// An attempt, by its requester's log.
#[derive(Debug, Clone)]
pub(super) struct KnownAttempt {
    pub(super) id: AttemptId,
    pub(super) sequence: u64,
    pub(super) provider: Did,
    pub(super) contract: ContentId,
    /// Its last state, if the provider reported one.
    pub(super) observed: Option<AllocationState>,
    /// The event with which it was over.
    pub(super) over: Option<u64>,
}

/// An allocation, by its provider's log: one task of a pod.
#[derive(Debug, Clone)]
pub(super) struct KnownAllocation {
    pub(super) place: Place,
    pub(super) attempt: AttemptId,
    pub(super) requester: Did,
    /// The allocations of the whole pod, in the order of its tasks.
    pub(super) pod: Vec<AllocationId>,
    pub(super) resources: Resources,
    pub(super) end: Option<(u64, AllocationState)>,
    pub(super) is_acknowledged: bool,
}

/// The log of one node.
#[derive(Debug, Default)]
pub(super) struct NodeLog {
    pub(super) capacity: Capacity,
    /// Allocations that have not ended.
    pub(super) live: BTreeSet<AllocationId>,
    /// The newest event.
    last: u64,
    /// The newest event that survives a loss of power.
    synced: u64,
    /// What to put back if what is not synced is lost, the newest last, with the event that changed it.
    tail: Vec<(u64, Undo)>,
}

/// What was there before an event.
#[derive(Debug)]
pub(super) enum Undo {
    Registered(Resources),
    Promised(Resources),
    Lock(BidId, Option<HeldLock>),
    Bid(BidId, Option<Place>),
    Job(JobId, Option<Box<KnownJob>>),
    Allocation(AllocationId, Option<Box<KnownAllocation>>),
}

/// The logs of all nodes.
#[derive(Debug)]
pub(super) struct Model {
    index: BTreeMap<Did, NodeIndex>,
    nodes: Vec<NodeLog>,
    bids: BTreeMap<BidId, Place>,
    jobs: BTreeMap<JobId, KnownJob>,
    allocations: BTreeMap<AllocationId, KnownAllocation>,
    /// The first allocation of each attempt.
    by_attempt: BTreeMap<AttemptId, AllocationId>,
    /// Jobs that have not ended.
    open: BTreeSet<JobId>,
    /// Allocations that have not ended, or whose result is not acknowledged.
    unsettled: BTreeSet<AllocationId>,
}

impl Model {
    pub(super) fn new(dids: Vec<Did>) -> Self {
        Self {
            nodes: dids.iter().map(|_| NodeLog::default()).collect(),
            index: dids.into_iter().enumerate().map(|(index, did)| (did, index)).collect(),
            bids: BTreeMap::new(),
            jobs: BTreeMap::new(),
            allocations: BTreeMap::new(),
            by_attempt: BTreeMap::new(),
            open: BTreeSet::new(),
            unsettled: BTreeSet::new(),
        }
    }

    /// Which node this is, if it is one of the world's.
    pub(super) fn index_of(&self, did: Did) -> Option<NodeIndex> {
        self.index.get(&did).copied()
    }

    pub(super) fn node(&self, node: NodeIndex) -> &NodeLog {
        &self.nodes[node]
    }

    pub(super) fn node_mut(&mut self, node: NodeIndex) -> &mut NodeLog {
        &mut self.nodes[node]
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &NodeLog)> {
        self.nodes.iter().enumerate()
    }

    pub(super) fn bid(&self, bid: BidId) -> Option<Place> {
        self.bids.get(&bid).copied()
    }

    /// Sets where a bid is; gives where it was.
    pub(super) fn set_bid(&mut self, bid: BidId, place: Place) -> Option<Place> {
        self.bids.insert(bid, place)
    }

    pub(super) fn jobs(&self) -> &BTreeMap<JobId, KnownJob> {
        &self.jobs
    }

    pub(super) fn open(&self) -> &BTreeSet<JobId> {
        &self.open
    }

    pub(super) fn allocations(&self) -> &BTreeMap<AllocationId, KnownAllocation> {
        &self.allocations
    }

    pub(super) fn unsettled(&self) -> &BTreeSet<AllocationId> {
        &self.unsettled
    }

    /// The allocation of an attempt, if a provider accepted it.
    pub(super) fn allocation_of(&self, attempt: AttemptId) -> Option<(AllocationId, &KnownAllocation)> {
        let id = self.by_attempt.get(&attempt)?;
        self.allocations.get(id).map(|known| (*id, known))
    }

    /// How the pod of an allocation ended, and with which event; none while one of its tasks has not.
    pub(super) fn pod_end(&self, known: &KnownAllocation) -> Option<(u64, AllocationState)> {
        let ends = known.pod.iter().map(|id| self.allocations.get(id).and_then(|known| known.end.as_ref()));
        let ends: Vec<&(u64, AllocationState)> = ends.collect::<Option<_>>()?;
        let last = ends.iter().map(|(sequence, _)| *sequence).max()?;
        let states: Vec<&AllocationState> = ends.iter().map(|(_, state)| state).collect();
        Some((last, AllocationState::of_pod(states)))
    }

    /// True if what stands there survives a loss of power.
    pub(super) fn is_synced(&self, node: NodeIndex, sequence: u64) -> bool {
        sequence <= self.nodes[node].synced
    }

    /// Takes the number of the next event: they have no gaps, and none is written again.
    pub(super) fn number(&mut self, node: NodeIndex, sequence: u64) -> Judged {
        let last = std::mem::replace(&mut self.nodes[node].last, sequence);
        if sequence == last + 1 {
            return Ok(());
        }
        wrong(FORGOTTEN, format!("event {sequence} was written behind event {last} of the log"))
    }

    /// Everything that is written survives from now on.
    pub(super) fn sync(&mut self, node: NodeIndex) {
        let log = &mut self.nodes[node];
        log.synced = log.last;
        log.tail.clear();
    }

    /// Everything up to this event survives, and what is behind it does not unless it is synced.
    pub(super) fn sync_to(&mut self, node: NodeIndex, last_event: u64) {
        let log = &mut self.nodes[node];
        log.synced = log.synced.max(last_event);
        log.tail.retain(|(sequence, _)| *sequence > last_event);
    }

    /// Remembers what was there before the newest event.
    pub(super) fn push_undo(&mut self, node: NodeIndex, undo: Undo) {
        let log = &mut self.nodes[node];
        log.tail.push((log.last, undo));
    }

    /// What is not synced is lost.
    pub(super) fn lose_tail(&mut self, node: NodeIndex) {
        for (_, undo) in std::mem::take(&mut self.nodes[node].tail).into_iter().rev() {
            let capacity = &mut self.nodes[node].capacity;
            match undo {
                Undo::Registered(resources) => drop(capacity.register(resources)),
                Undo::Promised(resources) => drop(capacity.set_promised(resources)),
                Undo::Lock(bid, lock) => drop(capacity.set_lock(bid, lock)),
                Undo::Bid(bid, Some(place)) => drop(self.bids.insert(bid, place)),
                Undo::Bid(bid, None) => drop(self.bids.remove(&bid)),
                Undo::Job(id, job) => drop(self.set_job(id, job.map(|job| *job))),
                Undo::Allocation(id, known) => drop(self.set_allocation(node, id, known.map(|known| *known))),
            }
        }
        self.nodes[node].last = self.nodes[node].synced;
    }

    /// A node has opened its log: it is what was synced, no less and no more.
    pub(super) fn restarted(&mut self, node: NodeIndex, last_event: u64) -> Judged {
        let log = &self.nodes[node];
        match (last_event, log.last) {
            (found, known) if found == known => Ok(()),
            (found, known) if found < known => {
                wrong(FORGOTTEN, format!("its log ends with event {found}, and event {known} was synced"))
            }
            (found, known) => wrong(
                FORGOTTEN,
                format!(
                    "its log ends with event {found}, and nothing that was written behind {known} was kept"
                ),
            ),
        }
    }

    /// Sets or removes a job; gives what was there.
    pub(super) fn set_job(&mut self, id: JobId, job: Option<KnownJob>) -> Option<KnownJob> {
        match &job {
            Some(job) if job.end.is_none() => drop(self.open.insert(id)),
            _ => drop(self.open.remove(&id)),
        }
        match job {
            Some(job) => self.jobs.insert(id, job),
            None => self.jobs.remove(&id),
        }
    }

    /// Sets or removes an allocation; gives what was there.
    pub(super) fn set_allocation(
        &mut self,
        node: NodeIndex,
        id: AllocationId,
        known: Option<KnownAllocation>,
    ) -> Option<KnownAllocation> {
        let is_live = known.as_ref().is_some_and(|known| known.end.is_none());
        let is_unsettled = is_live || known.as_ref().is_some_and(|known| !known.is_acknowledged);
        include(&mut self.nodes[node].live, id, is_live);
        include(&mut self.unsettled, id, is_unsettled);
        match known {
            Some(known) => {
                if known.pod.first().is_none_or(|first| *first == id) {
                    self.by_attempt.entry(known.attempt).or_insert(id);
                }
                self.allocations.insert(id, known)
            }
            None => {
                let before = self.allocations.remove(&id)?;
                if self.by_attempt.get(&before.attempt) == Some(&id) {
                    self.by_attempt.remove(&before.attempt);
                }
                Some(before)
            }
        }
    }
}

fn include<T: Ord>(set: &mut BTreeSet<T>, item: T, is_in: bool) {
    if is_in {
        set.insert(item);
    } else {
        set.remove(&item);
    }
}
