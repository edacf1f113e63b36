//! The fold: how each event changes the books. Called live and at rebuild, and by nothing else.
//!
//! Each arm checks first and changes after, so that a refused event leaves the books as they were.

use std::time::Duration;

use dms_messages::{AllocationState, AttemptId, JobId, JobPhase, Timestamp};

use super::event::{Entry, Event, LockEnd};
use super::index::Row;
use super::rows::{
    AllocationRow, AttemptRow, AttemptState, BidReceivedRow, BidRequestReceivedRow, BidRequestSentRow,
    BidSentRow, ContractRow, JobRow, LockState, NodeAnswer,
};
use super::{Books, BooksError};

/// Most nodes whose answers a job row keeps: a gossiped request may be answered by a whole mesh, and the
/// row is rewritten with every change.
const MAX_ANSWERS: usize = 256;

/// How long a result is kept for a requester that does not come for it.
const KEEP_RESULTS: Duration = Duration::from_secs(24 * 3600);

impl Books {
    /// Changes the books by one event and names the rows that changed.
    pub fn apply(&mut self, entry: &Entry) -> Result<Vec<Row>, BooksError> {
        let at = entry.at;
        let name = entry.event.name();
        let unknown =
            |what: &dyn std::fmt::Display| BooksError::Unknown { event: name, what: what.to_string() };
        let out_of_order =
            |what: &dyn std::fmt::Display| BooksError::OutOfOrder { event: name, what: what.to_string() };
        match &entry.event {
            Event::NodeNamed { card } => {
                self.card = Some(card.clone());
                Ok(vec![Row::Card])
            }
            Event::CapabilityRegistered { capability } => {
                let previous = self.registered.replace(capability.clone());
                self.rebalance(name).inspect_err(|_| self.registered = previous)?;
                Ok(vec![Row::Registered, Row::Available])
            }
            Event::CapabilityWithdrawn => {
                let previous = self.registered.take();
                self.rebalance(name).inspect_err(|_| self.registered = previous)?;
                Ok(vec![Row::Registered, Row::Available])
            }
            Event::BidRequestSent { request, expires } => {
                let row = BidRequestSentRow { request: request.clone(), at, expires: *expires };
                self.requests_sent.insert(request.id, row);
                Ok(vec![Row::BidRequestSent(request.id)])
            }
            Event::BidRequestReceived { requester, request, declined } => {
                let row = BidRequestReceivedRow {
                    requester: *requester,
                    request: request.clone(),
                    at,
                    declined: declined.clone(),
                };
                self.requests_received.insert(request.id, row);
                Ok(vec![Row::BidRequestReceived(request.id)])
            }
            Event::BidSent { bid, lock } => {
                if self.bids_sent.contains_key(&lock.bid) {
                    return Err(out_of_order(&lock.bid));
                }
                self.locks.insert(lock.bid, lock.clone());
                self.rebalance(name).inspect_err(|_| drop(self.locks.remove(&lock.bid)))?;
                let row =
                    BidSentRow { requester: lock.requester, bid: bid.clone(), at, lock: LockState::Held };
                self.bids_sent.insert(lock.bid, row);
                Ok(vec![Row::BidSent(lock.bid), Row::Locked(lock.bid), Row::Available])
            }
            Event::LockEnded { bid, end } => {
                self.locks.remove(bid).ok_or_else(|| unknown(bid))?;
                self.end_bid(*bid, *end);
                self.rebalance(name)?;
                Ok(vec![Row::BidSent(*bid), Row::Locked(*bid), Row::Available])
            }
            Event::BidReceived { job, bid } => {
                let row = self.jobs.get_mut(job).ok_or_else(|| unknown(job))?;
                answer(row, bid.issuer(), NodeAnswer::Bid { bid: bid.value().id });
                row.first_bid.get_or_insert(at);
                let received = BidReceivedRow { job: *job, bid: bid.clone(), at };
                self.bids_received.insert(bid.value().id, received);
                Ok(vec![Row::BidReceived(bid.value().id), Row::Job(*job)])
            }
            Event::DeclineReceived { job, provider, reason } => {
                let row = self.jobs.get_mut(job).ok_or_else(|| unknown(job))?;
                answer(row, *provider, NodeAnswer::Declined { reason: reason.clone() });
                count_decline(row, *provider, reason);
                Ok(vec![Row::Job(*job)])
            }
            Event::NotAsked { job, provider, reason } => {
                let row = self.jobs.get_mut(job).ok_or_else(|| unknown(job))?;
                answer(row, *provider, NodeAnswer::NotAsked { reason: reason.clone() });
                Ok(vec![Row::Job(*job)])
            }
            Event::AllocationAccepted { allocation, contract, accepted } => {
                let terms = contract.value();
                if self.allocation_of.contains_key(&(terms.requester, terms.attempt)) {
                    return Err(out_of_order(&terms.attempt));
                }
                let lock = self.locks.remove(&terms.bid).ok_or_else(|| unknown(&terms.bid))?;
                let row = AllocationRow {
                    id: *allocation,
                    attempt: terms.attempt,
                    requester: terms.requester,
                    contract: contract.content_id(),
                    bid: terms.bid,
                    resources: lock.resources.clone(),
                    state: AllocationState::Accepted,
                    result: None,
                    accepted: at,
                    moved: at,
                    is_acknowledged: false,
                };
                self.end_bid(terms.bid, LockEnd::Taken);
                self.allocations.insert(*allocation, row);
                self.live.insert(*allocation);
                self.allocation_of.insert((terms.requester, terms.attempt), *allocation);
                let contract_row = ContractRow {
                    peer: terms.requester,
                    contract: contract.clone(),
                    accepted: Some(accepted.clone()),
                };
                self.contracts.insert(contract.content_id(), contract_row);
                self.rebalance(name)?;
                Ok(vec![
                    Row::BidSent(terms.bid),
                    Row::Locked(terms.bid),
                    Row::Allocated(*allocation),
                    Row::Allocation(*allocation),
                    Row::Contract(contract.content_id()),
                    Row::Available,
                ])
            }
            Event::AllocationMoved { allocation, state } => {
                let row = self.allocations.get_mut(allocation).ok_or_else(|| unknown(allocation))?;
                if state.is_terminal() || state.rank() <= row.state.rank() {
                    return Err(out_of_order(allocation));
                }
                row.state = state.clone();
                row.moved = at;
                Ok(vec![Row::Allocation(*allocation)])
            }
            Event::AllocationEnded { allocation, state, result } => {
                let row = self.allocations.get_mut(allocation).ok_or_else(|| unknown(allocation))?;
                if row.state.is_terminal() || !state.is_terminal() {
                    return Err(out_of_order(allocation));
                }
                row.state = state.clone();
                row.result.clone_from(result);
                row.moved = at;
                self.live.remove(allocation);
                self.rebalance(name)?;
                Ok(vec![Row::Allocated(*allocation), Row::Allocation(*allocation), Row::Available])
            }
            Event::AllocationAcknowledged { allocation } => {
                let row = self.allocations.get_mut(allocation).ok_or_else(|| unknown(allocation))?;
                if !row.state.is_terminal() {
                    return Err(out_of_order(allocation));
                }
                row.is_acknowledged = true;
                Ok(vec![Row::Allocation(*allocation)])
            }
            Event::JobSubmitted { job } => {
                if self.jobs.contains_key(&job.id) {
                    return Err(out_of_order(&job.id));
                }
                let row = JobRow {
                    job: job.clone(),
                    phase: JobPhase::Submitted,
                    is_cancel_wanted: false,
                    attempts: Vec::new(),
                    answers: Default::default(),
                    first_bid: None,
                    declines: Default::default(),
                    end: None,
                    moved: at,
                };
                self.jobs.insert(job.id, row);
                Ok(vec![Row::Job(job.id)])
            }
            Event::JobMoved { job, phase } => {
                let row = self.live_job(*job, name)?;
                if phase.is_terminal() {
                    return Err(out_of_order(job));
                }
                row.phase = *phase;
                row.moved = at;
                Ok(vec![Row::Job(*job)])
            }
            Event::JobCancelWanted { job } => {
                self.live_job(*job, name)?.is_cancel_wanted = true;
                Ok(vec![Row::Job(*job)])
            }
            Event::AttemptMinted { attempt, provider, addresses, contract } => {
                let row = self.live_job(attempt.job, name)?;
                if row.attempts.iter().any(|known| known.id.number >= attempt.number) {
                    return Err(out_of_order(attempt));
                }
                row.attempts.push(AttemptRow {
                    id: *attempt,
                    provider: *provider,
                    addresses: addresses.clone(),
                    contract: contract.content_id(),
                    price: contract.value().price,
                    allocation: None,
                    state: AttemptState::Invoked,
                    result: None,
                    minted: at,
                    running: None,
                    moved: at,
                });
                row.phase = JobPhase::Invoking;
                row.moved = at;
                // A node that invokes itself already holds, or will hold, the same contract as provider.
                let contract_row =
                    ContractRow { peer: *provider, contract: contract.clone(), accepted: None };
                self.contracts.entry(contract.content_id()).or_insert(contract_row);
                Ok(vec![Row::Job(attempt.job), Row::Contract(contract.content_id())])
            }
            Event::AttemptAccepted { accepted } => {
                let terms = accepted.value();
                let row = self.attempt(terms.attempt, name)?;
                row.allocation = Some(terms.allocation);
                row.moved = at;
                if row.state == AttemptState::Invoked {
                    row.state = AttemptState::Observed { state: AllocationState::Accepted };
                }
                if let Some(job) = self.jobs.get_mut(&terms.attempt.job) {
                    job.phase = JobPhase::Running;
                    job.moved = at;
                }
                let contract =
                    self.contracts.get_mut(&terms.contract).ok_or_else(|| unknown(&terms.contract))?;
                contract.accepted = Some(accepted.clone());
                Ok(vec![Row::Job(terms.attempt.job), Row::Contract(terms.contract)])
            }
            Event::AttemptRefused { attempt, reason } => {
                self.end_attempt(*attempt, name, at, AttemptState::Refused { reason: reason.clone() })
            }
            Event::AttemptLost { attempt, reason } => {
                self.end_attempt(*attempt, name, at, AttemptState::Lost { reason: reason.clone() })
            }
            Event::AttemptObserved { attempt, state, result } => {
                let row = self.attempt(*attempt, name)?;
                row.state = AttemptState::Observed { state: state.clone() };
                row.result.clone_from(result);
                row.moved = at;
                if *state == AllocationState::Running {
                    row.running.get_or_insert(at);
                }
                if let Some(job) = self.jobs.get_mut(&attempt.job) {
                    job.phase = JobPhase::Running;
                    job.moved = at;
                }
                Ok(vec![Row::Job(attempt.job)])
            }
            Event::JobEnded { job, end } => {
                let row = self.live_job(*job, name)?;
                row.phase = end.phase();
                row.end = Some(end.clone());
                row.moved = at;
                Ok(vec![Row::Job(*job)])
            }
            Event::DocumentSeen { id, until } => {
                self.seen.insert(*id, *until);
                Ok(vec![Row::Seen(*id)])
            }
            Event::Pruned { before } => Ok(self.prune(*before)),
        }
    }

    /// Recomputes what is available after a change of registered, locked or allocated.
    fn rebalance(&mut self, event: &'static str) -> Result<(), BooksError> {
        self.available = self.expected_available(event)?;
        Ok(())
    }

    fn end_bid(&mut self, bid: dms_messages::BidId, end: LockEnd) {
        if let Some(row) = self.bids_sent.get_mut(&bid) {
            row.lock = LockState::Ended(end);
        }
    }

    fn live_job(&mut self, job: JobId, event: &'static str) -> Result<&mut JobRow, BooksError> {
        match self.jobs.get_mut(&job) {
            Some(row) if row.phase.is_terminal() => {
                Err(BooksError::OutOfOrder { event, what: job.to_string() })
            }
            Some(row) => Ok(row),
            None => Err(BooksError::Unknown { event, what: job.to_string() }),
        }
    }

    /// The attempt, if it is not over.
    fn attempt(&mut self, attempt: AttemptId, event: &'static str) -> Result<&mut AttemptRow, BooksError> {
        let job = self.live_job(attempt.job, event)?;
        match job.attempts.iter_mut().find(|row| row.id == attempt) {
            Some(row) if row.state.is_over() => {
                Err(BooksError::OutOfOrder { event, what: attempt.to_string() })
            }
            Some(row) => Ok(row),
            None => Err(BooksError::Unknown { event, what: attempt.to_string() }),
        }
    }

    fn end_attempt(
        &mut self,
        attempt: AttemptId,
        event: &'static str,
        at: Timestamp,
        state: AttemptState,
    ) -> Result<Vec<Row>, BooksError> {
        let row = self.attempt(attempt, event)?;
        row.state = state;
        row.moved = at;
        Ok(vec![Row::Job(attempt.job)])
    }

    /// Forgets what is over and older than `before`: requests, bids, seen words, acknowledged allocations.
    /// Jobs and contracts stay.
    fn prune(&mut self, before: Timestamp) -> Vec<Row> {
        let mut changed = Vec::new();
        self.requests_sent
            .retain(|id, row| keep(row.expires >= before, Row::BidRequestSent(*id), &mut changed));
        self.requests_received
            .retain(|id, row| keep(row.at >= before, Row::BidRequestReceived(*id), &mut changed));
        let locks = &self.locks;
        self.bids_sent.retain(|id, row| {
            keep(row.at >= before || locks.contains_key(id), Row::BidSent(*id), &mut changed)
        });
        let jobs = &self.jobs;
        self.bids_received.retain(|id, row| {
            let is_live = jobs.get(&row.job).is_some_and(|job| !job.phase.is_terminal());
            keep(row.at >= before || is_live, Row::BidReceived(*id), &mut changed)
        });
        self.seen.retain(|id, until| keep(*until >= before, Row::Seen(*id), &mut changed));
        let allocations = &mut self.allocations;
        allocations.retain(|id, row| {
            let is_given_up = row.moved.saturating_add(KEEP_RESULTS) < before;
            let is_over =
                row.state.is_terminal() && row.moved < before && (row.is_acknowledged || is_given_up);
            keep(!is_over, Row::Allocation(*id), &mut changed)
        });
        self.allocation_of.retain(|_, id| allocations.contains_key(id));
        changed
    }
}

fn keep(is_kept: bool, row: Row, changed: &mut Vec<Row>) -> bool {
    if !is_kept {
        changed.push(row);
    }
    is_kept
}

fn answer(row: &mut JobRow, provider: dms_messages::Did, answer: NodeAnswer) {
    if row.answers.len() < MAX_ANSWERS || row.answers.contains_key(&provider) {
        row.answers.insert(provider, answer);
    }
}

fn count_decline(row: &mut JobRow, provider: dms_messages::Did, reason: &dms_messages::DeclineReason) {
    // Only of nodes whose answers are kept, so that both have the same bound.
    if row.answers.contains_key(&provider) {
        let count = row.declines.entry(provider).or_default().entry(reason.code().to_owned()).or_insert(0);
        *count = count.saturating_add(1);
    }
}
