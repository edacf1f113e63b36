//! The fold: how each event changes the books. Called live and at rebuild, and by nothing else.
//!
//! Each arm checks first and changes after, so that a refused event leaves the books as they were.

use std::collections::BTreeSet;

use dms_messages::{
    AllocationId, AllocationState, AttemptId, BidId, BidRequestId, ContentId, Did, JobId, JobPhase,
    Resources, Timestamp,
};

use super::accounts::AccountsError;
use super::archived::{Archived, Change};
use super::event::{Entry, Event, Lock, LockEnd};
use super::rows::{
    AllocationRow, AttemptRow, AttemptState, BidReceivedRow, BidRequestReceivedRow, BidRequestSentRow,
    BidSentRow, ContractRow, JobRow, LockState, NodeAnswer, StartedRow, TaskRow,
};
use super::{Books, BooksError};
use crate::rows::Row;
use crate::rows::contracts_by_peer::PeerContract;
use crate::rows::locks_by_expiry::LockExpiry;
use crate::sabotage::{self, Bug};

/// Most nodes whose answers a job row keeps: a gossiped request may be answered by a whole mesh, and the
/// row is rewritten with every change.
const MAX_ANSWERS: usize = 256;

/// Most contracts that one settling archives, in the order of their CIDs; the others wait for the next one. Part of the
/// fold's meaning: with another number, an old log says something else.
const MAX_SETTLED_CONTRACTS: usize = 1_024;

impl Books {
    /// Changes the books by one event; returns what changes on disk.
    ///
    /// # Errors
    /// If the event does not fit; the books are as they were.
    pub fn apply(&mut self, entry: &Entry) -> Result<Vec<Change>, BooksError> {
        match &entry.event {
            Event::Settled { ended_before } => Ok(self.settle(*ended_before, entry.at)),
            _ => Ok(self.apply_to_rows(entry)?.into_iter().map(Change::Row).collect()),
        }
    }

    /// The events that change rows of what is current, and archive nothing.
    fn apply_to_rows(&mut self, entry: &Entry) -> Result<Vec<Row>, BooksError> {
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
                self.accounts.register(Some(capability.resources.clone())).map_err(refused(name, &name))?;
                self.registered = Some(capability.clone());
                Ok(vec![Row::Registered, Row::Available])
            }
            Event::CapabilityWithdrawn => {
                self.accounts.register(None).map_err(refused(name, &name))?;
                self.registered = None;
                // Whoever's lock the owner took back could not use it: with a new offer everybody begins anew.
                let forgiven = self.accounts.forgive_all().into_iter().map(Row::Standing);
                Ok([Row::Registered, Row::Available].into_iter().chain(forgiven).collect())
            }
            Event::PreferencesSet { text } => {
                self.preferences = Some(text.as_str().into());
                Ok(vec![Row::Preferences])
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
                self.accounts.lock(lock.clone()).map_err(refused(name, &lock.bid))?;
                let row = BidSentRow {
                    requester: lock.requester,
                    bid: bid.clone(),
                    at,
                    lock: LockState::Held,
                    started: None,
                };
                self.bids_sent.insert(lock.bid, row);
                Ok(vec![
                    Row::BidSent(lock.bid),
                    Row::Locked(lock.bid),
                    lock_by_expiry(lock.expires, lock.bid),
                    Row::Available,
                ])
            }
            Event::LockEnded { bid, end } => {
                let held = self.held(*bid, at);
                let lock = self.accounts.end_lock(*bid, *end, held, at).map_err(refused(name, bid))?;
                if let Some(row) = self.bids_sent.get_mut(bid) {
                    row.lock = LockState::Ended(*end);
                }
                if sabotage::has(Bug::StaleRows) {
                    return Ok(Vec::new());
                }
                Ok(lock_rows(&lock))
            }
            Event::LockRenewed { bid, expires } => {
                let before = self.accounts.renewed(*bid, *expires).map_err(refused(name, bid))?;
                Ok(vec![Row::Locked(*bid), lock_by_expiry(before, *bid), lock_by_expiry(*expires, *bid)])
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
                let granted = self.accounts.locks().get(&terms.bid).ok_or_else(|| unknown(&terms.bid))?;
                // All of the pod's tasks or none: the lock is theirs together.
                let shares = terms.pod.shares(&granted.resources);
                let shares = shares.ok_or(BooksError::Overcommitted { event: name })?;
                let task_count = u16::try_from(shares.len()).map_err(|_| out_of_order(&terms.attempt))?;
                let tasks: Vec<AllocationId> = (0..task_count).map(|task| allocation.of_task(task)).collect();
                if let Some(known) = tasks.iter().find(|id| self.allocations.contains_key(id)) {
                    return Err(out_of_order(known));
                }
                let lock = self.accounts.take(terms.bid, at).map_err(refused(name, &terms.bid))?;
                let contract_id = contract.content_id();
                if let Some(row) = self.bids_sent.get_mut(&terms.bid) {
                    row.lock = LockState::Ended(LockEnd::Taken);
                    row.started = Some(StartedRow { attempt: terms.attempt, allocation: *allocation });
                }
                for ((task, id), resources) in (0..).zip(&tasks).zip(shares) {
                    let row = AllocationRow {
                        id: *id,
                        attempt: terms.attempt,
                        task,
                        task_count,
                        requester: terms.requester,
                        contract: contract_id,
                        bid: terms.bid,
                        resources,
                        state: AllocationState::Accepted,
                        result: None,
                        accepted: at,
                        moved: at,
                        pod_ended: None,
                        is_acknowledged: false,
                    };
                    self.allocations.insert(*id, row);
                    self.live.insert(*id);
                }
                self.allocation_of.insert((terms.requester, terms.attempt), *allocation);
                // A node that invokes itself recorded the contract when it minted the attempt.
                let known = self.contracts.get(&contract_id);
                let first = known.map_or(at, |row| row.first);
                let peers = [terms.requester, known.map_or(terms.requester, |row| row.peer)];
                let contract_row = ContractRow {
                    peer: terms.requester,
                    contract: contract.clone(),
                    accepted: Some(accepted.clone()),
                    first,
                };
                self.contracts.insert(contract_id, contract_row);
                self.note_contract(contract_id);
                let mut rows = lock_rows(&lock);
                rows.extend(tasks.iter().flat_map(|id| [Row::Allocated(*id), Row::Allocation(*id)]));
                rows.push(Row::Contract(contract_id));
                rows.extend(peers.map(|peer| contract_by_peer(peer, contract_id)));
                Ok(rows)
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
                let row = self.allocations.get(allocation).ok_or_else(|| unknown(allocation))?;
                if row.state.is_terminal() || !state.is_terminal() {
                    return Err(out_of_order(allocation));
                }
                let pod: Vec<AllocationId> = match row.task_count {
                    1 => vec![*allocation],
                    _ => self.allocations_of(row.requester, row.attempt).map(|row| row.id).collect(),
                };
                let heir = pod.iter().find(|id| *id != allocation && self.live.contains(id)).copied();
                let (freed, common) = match heir {
                    Some(_) => divided(&row.resources),
                    None => (row.resources.clone(), Resources::default()),
                };
                if !sabotage::has(Bug::LosesRelease) {
                    self.accounts.release(&freed).map_err(refused(name, allocation))?;
                }
                let mut rows = Vec::new();
                if let Some(heir) = heir.filter(|_| !common.is_empty())
                    && let Some(heir) = self.allocations.get_mut(&heir)
                {
                    heir.resources =
                        heir.resources.checked_add(&common).expect("parts of one grant do not overlap");
                    rows.extend([Row::Allocated(heir.id), Row::Allocation(heir.id)]);
                }
                if let Some(row) = self.allocations.get_mut(allocation) {
                    row.resources = freed;
                    row.state = state.clone();
                    row.result.clone_from(result);
                    row.moved = at;
                }
                self.live.remove(allocation);
                if heir.is_none() {
                    let is_several = pod.len() > 1;
                    for id in pod {
                        let row = self.allocations.get_mut(&id).filter(|_| is_several);
                        row.into_iter().for_each(|row| row.pod_ended = Some(at));
                        self.ended_allocations.insert((at, id));
                        rows.extend((id != *allocation).then_some(Row::Allocation(id)));
                    }
                }
                rows.extend([Row::Allocated(*allocation), Row::Allocation(*allocation), Row::Available]);
                Ok(rows)
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
                    tasks: Vec::new(),
                    minted: at,
                    running: None,
                    moved: at,
                });
                row.phase = JobPhase::Invoking;
                row.moved = at;
                // A node that invokes itself already holds, or will hold, the same contract as provider.
                let contract_id = contract.content_id();
                let contract_row =
                    ContractRow { peer: *provider, contract: contract.clone(), accepted: None, first: at };
                let peer = self.contracts.entry(contract_id).or_insert(contract_row).peer;
                self.note_contract(contract_id);
                Ok(vec![
                    Row::Job(attempt.job),
                    Row::Contract(contract_id),
                    contract_by_peer(peer, contract_id),
                ])
            }
            Event::AttemptAccepted { accepted } => {
                let terms = accepted.value();
                if !self.contracts.contains_key(&terms.contract) {
                    self.attempt(terms.attempt, name)?;
                    return Err(unknown(&terms.contract));
                }
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
                if let Some(contract) = self.contracts.get_mut(&terms.contract) {
                    contract.accepted = Some(accepted.clone());
                }
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
            Event::TaskObserved { attempt, task, state, result } => {
                let pod = self.jobs.get(&attempt.job).and_then(|row| row.job.pods.first());
                let count = pod.map_or(0, |pod| pod.tasks.len());
                let task = usize::from(*task);
                let row = self.attempt(*attempt, name)?;
                let is_behind =
                    |known: &TaskRow| known.state.is_terminal() || known.state.rank() > state.rank();
                if task >= count || row.tasks.get(task).is_some_and(is_behind) {
                    return Err(out_of_order(attempt));
                }
                // Which of them is heard of first is chance.
                let unheard = || TaskRow { state: AllocationState::Accepted, result: None, moved: at };
                row.tasks.resize_with(row.tasks.len().max(task + 1), unheard);
                row.tasks[task] = TaskRow { state: state.clone(), result: result.clone(), moved: at };
                row.moved = at;
                Ok(vec![Row::Job(attempt.job)])
            }
            Event::JobEnded { job, end } => {
                let row = self.live_job(*job, name)?;
                row.phase = end.phase();
                row.end = Some(end.clone());
                row.moved = at;
                self.ended_jobs.insert((at, *job));
                Ok(vec![Row::Job(*job)])
            }
            Event::DocumentSeen { id, until } => {
                self.seen.insert(*id, *until);
                Ok(vec![Row::Seen(*id)])
            }
            Event::Pruned { before } => Ok(self.prune(*before, at)),
            Event::Trust { change } => Ok(vec![self.trust.apply(change, at)?]),
            Event::Settled { .. } => unreachable!("apply() keeps it to itself"),
        }
    }

    /// For how long a lock that ends now was held, in millionths of the lease that its bid promised first: a renewed
    /// lock has more than one. How late it is swept is the node's affair and does not count.
    fn held(&self, bid: BidId, at: Timestamp) -> u32 {
        let (Some(row), Some(lock)) = (self.bids_sent.get(&bid), self.accounts.locks().get(&bid)) else {
            return 0;
        };
        let held = at.min(lock.expires).saturating_since(row.at).as_millis().saturating_mul(1_000_000);
        u32::try_from(held / u128::from(row.bid.value().lease.0.max(1))).unwrap_or(u32::MAX)
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
    /// Jobs and contracts stay. Standings are brought up to date.
    fn prune(&mut self, before: Timestamp, at: Timestamp) -> Vec<Row> {
        let mut changed = Vec::new();
        self.requests_sent
            .retain(|id, row| keep(row.expires >= before, Row::BidRequestSent(*id), &mut changed));
        let locks = self.accounts.locks();
        // Whoever takes a lock is held to what was asked for.
        let locked: BTreeSet<BidRequestId> = locks.values().map(|lock| lock.request).collect();
        self.requests_received.retain(|id, row| {
            keep(row.at >= before || locked.contains(id), Row::BidRequestReceived(*id), &mut changed)
        });
        self.bids_sent.retain(|id, row| {
            keep(row.at >= before || locks.contains_key(id), Row::BidSent(*id), &mut changed)
        });
        let jobs = &self.jobs;
        self.bids_received.retain(|id, row| {
            let is_live = jobs.get(&row.job).is_some_and(|job| !job.phase.is_terminal());
            keep(row.at >= before || is_live, Row::BidReceived(*id), &mut changed)
        });
        self.seen.retain(|id, until| keep(*until >= before, Row::Seen(*id), &mut changed));
        changed.extend(self.trust.prune(before));
        changed.extend(self.accounts.forgive(at).into_iter().map(Row::Standing));
        let allocations = &mut self.allocations;
        let mut contracts = Vec::new();
        allocations.retain(|id, row| {
            let is_over = row.is_over(before);
            contracts.extend(is_over.then_some(row.contract));
            keep(!is_over, Row::Allocation(*id), &mut changed)
        });
        self.ended_allocations.retain(|(_, id)| allocations.contains_key(id));
        let started = self.bids_sent.values().filter_map(|row| row.started);
        let remembered: BTreeSet<AllocationId> = started.map(|row| row.allocation).collect();
        self.allocation_of.retain(|_, id| allocations.contains_key(id) || remembered.contains(id));
        contracts.into_iter().for_each(|id| self.note_contract(id));
        changed
    }

    /// Moves what is over and ended before `before` into the archive. The bids of the allocations that go still say
    /// which attempt they started, until they are pruned.
    fn settle(&mut self, before: Timestamp, at: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut contracts: Vec<ContentId> = Vec::new();
        let mut archive = |row: Row, archived: Archived| {
            changes.extend([Change::Archive(Box::new(archived)), Change::Row(row)]);
        };
        while let Some((ended, job)) = self.ended_jobs.first().copied().filter(|(ended, _)| *ended < before) {
            self.ended_jobs.remove(&(ended, job));
            if let Some(row) = self.jobs.remove(&job) {
                contracts.extend(row.attempts.iter().map(|attempt| attempt.contract));
                archive(Row::Job(job), row.into());
            }
        }
        let ended = self.ended_allocations.range(..(before, AllocationId::from_bytes([0; 16])));
        let is_over = |id: &AllocationId| self.allocations.get(id).is_some_and(|row| row.is_over(before));
        let over: Vec<_> = ended.filter(|(_, id)| is_over(id)).copied().collect();
        for (ended, id) in over {
            self.ended_allocations.remove(&(ended, id));
            if let Some(row) = self.allocations.remove(&id) {
                contracts.push(row.contract);
                // A bid that was pruned meanwhile remembers nothing.
                if self.bids_sent.get(&row.bid).and_then(|bid| bid.started).is_none() {
                    self.allocation_of.remove(&(row.requester, row.attempt));
                }
                archive(Row::Allocation(id), row.into());
            }
        }
        contracts.into_iter().for_each(|id| self.note_contract(id));
        for _ in 0..MAX_SETTLED_CONTRACTS {
            let Some(id) = self.left_contracts.pop_first() else { break };
            if let Some(row) = self.contracts.remove(&id) {
                archive(Row::Contract(id), Archived::contract(row, at));
            }
        }
        changes
    }

    /// Looks again whether anything current refers to a contract.
    pub(super) fn note_contract(&mut self, id: ContentId) {
        if !self.contracts.contains_key(&id) || self.is_contract_current(&id) {
            self.left_contracts.remove(&id);
        } else {
            self.left_contracts.insert(id);
        }
    }

    /// True if a job or an allocation in memory refers to the contract.
    fn is_contract_current(&self, id: &ContentId) -> bool {
        let Some(row) = self.contracts.get(id) else { return false };
        let terms = row.contract.value();
        let mut allocations = self.allocations_of(terms.requester, terms.attempt);
        let job = self.jobs.get(&terms.attempt.job);
        allocations.any(|row| row.contract == *id)
            || job.is_some_and(|job| job.attempts.iter().any(|attempt| attempt.contract == *id))
    }
}

/// The rows of a lock that ends, however it does.
fn lock_rows(lock: &Lock) -> Vec<Row> {
    vec![
        Row::BidSent(lock.bid),
        Row::Locked(lock.bid),
        lock_by_expiry(lock.expires, lock.bid),
        Row::Standing(lock.requester),
        Row::Available,
    ]
}

fn lock_by_expiry(expires: Timestamp, bid: BidId) -> Row {
    Row::LockByExpiry(LockExpiry { expires, bid })
}

fn contract_by_peer(peer: Did, contract: ContentId) -> Row {
    Row::ContractByPeer(PeerContract { peer, contract })
}

/// What is a task's own, and what the tasks of its pod have in common: the latter is needed until the last of them ends.
fn divided(resources: &Resources) -> (Resources, Resources) {
    let Resources { cpu, memory, disk, gpus, ports, slots } = resources.clone();
    let own = Resources { cpu, memory, disk, ..Resources::default() };
    (own, Resources { gpus, ports, slots, ..Resources::default() })
}

/// What the accounts refused, in the words of the books.
fn refused<'a>(
    event: &'static str,
    what: &'a dyn std::fmt::Display,
) -> impl FnOnce(AccountsError) -> BooksError + 'a {
    move |error| match error {
        AccountsError::Overcommitted => BooksError::Overcommitted { event },
        AccountsError::NoLock => BooksError::Unknown { event, what: what.to_string() },
        AccountsError::Locked => BooksError::OutOfOrder { event, what: what.to_string() },
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
