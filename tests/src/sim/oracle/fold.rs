//! The judge's own fold: what each event means for the rules. Of everything else it takes only the number.

use dms_messages::{AllocationId, AllocationState, AttemptId, BidId, JobId, Resources};
use dms_storage::Event;

use super::capacity::{Capacity, HeldLock};
use super::model::{KnownAllocation, KnownAttempt, KnownJob, Model, Place, Undo};
use super::rules::{CONSERVATION, FENCING};
use super::{Judged, Moment, NodeIndex, first_of, wrong};

impl Model {
    /// Folds one event; what was there before can be put back unless the event is synced.
    pub(super) fn apply(
        &mut self,
        node: NodeIndex,
        moment: Moment,
        sequence: u64,
        event: &Event,
        is_synced: bool,
    ) -> Judged {
        let mut change = Changing { model: self, node, is_synced };
        let place = Place { node, sequence };
        match event {
            Event::CapabilityRegistered { capability } => change.register(capability.resources.clone()),
            Event::CapabilityWithdrawn => change.register(Resources::default()),
            Event::BidSent { bid, lock } => {
                change.bid(bid.value().id, place);
                change.lock(lock.bid, HeldLock::new(lock.resources.clone(), lock.expires, moment))
            }
            Event::LockRenewed { bid, expires } => {
                let resources = change.capacity().lock(*bid).map(|it| it.resources.clone());
                match resources {
                    Some(resources) => {
                        change.set_lock(*bid, Some(HeldLock::new(resources, *expires, moment)));
                        Ok(())
                    }
                    None => {
                        wrong(CONSERVATION, format!("the lock of bid {bid} is renewed and there is none"))
                    }
                }
            }
            Event::LockEnded { bid, .. } => change.end_lock(*bid),
            Event::AllocationAccepted { allocation, contract, .. } => {
                let terms = contract.value();
                let unlocked = change.end_lock(terms.bid);
                let count = u16::try_from(terms.pod.tasks.len()).unwrap_or(u16::MAX);
                let pod: Vec<AllocationId> = (0..count).map(|task| allocation.of_task(task)).collect();
                // The first task has what the others do not say is theirs.
                let mut rest = terms.resources.clone();
                let mut judged = unlocked;
                for (id, task) in pod.iter().zip(&terms.pod.tasks).rev() {
                    let share = task.resources.filter(|_| id != allocation).map(Resources::from);
                    let resources = match share.map(|share| (rest.checked_sub(&share), share)) {
                        Some((Some(left), share)) => {
                            rest = left;
                            share
                        }
                        Some((None, share)) => {
                            let text = format!("task {:?} has ({share}) of ({rest}) that is left", task.name);
                            return wrong(CONSERVATION, text);
                        }
                        None => std::mem::take(&mut rest),
                    };
                    let known = KnownAllocation {
                        place,
                        attempt: terms.attempt,
                        requester: terms.requester,
                        pod: pod.clone(),
                        resources,
                        end: None,
                        is_acknowledged: false,
                    };
                    judged = first_of(judged, change.allocate(*id, known));
                }
                judged
            }
            Event::AllocationEnded { allocation, state, .. } => {
                change.end_allocation(*allocation, (sequence, state.clone()))
            }
            Event::AllocationAcknowledged { allocation } => {
                change.allocation(*allocation, |known| known.is_acknowledged = true);
                Ok(())
            }
            Event::JobSubmitted { job } => {
                let known = KnownJob { place, cancel: None, attempts: Vec::new(), end: None };
                change.set_job(job.id, Some(known));
                Ok(())
            }
            Event::JobCancelWanted { job } => change.job(*job, |known| {
                known.cancel.get_or_insert(sequence);
            }),
            Event::AttemptMinted { attempt, provider, contract, .. } => {
                let known = KnownAttempt {
                    id: *attempt,
                    sequence,
                    provider: *provider,
                    contract: contract.content_id(),
                    observed: None,
                    over: None,
                };
                change.job(attempt.job, |job| job.attempts.push(known))
            }
            Event::AttemptRefused { attempt, .. } | Event::AttemptLost { attempt, .. } => {
                change.attempt(*attempt, |known| {
                    known.over.get_or_insert(sequence);
                })
            }
            Event::AttemptObserved { attempt, state, .. } if state.is_terminal() => {
                change.attempt(*attempt, |known| {
                    known.over.get_or_insert(sequence);
                    known.observed = Some(state.clone());
                })
            }
            Event::JobEnded { job, end } => change.job(*job, |known| {
                known.end.get_or_insert((sequence, end.clone()));
            }),
            _ => Ok(()),
        }
    }
}

/// The model while one event of one node changes it.
struct Changing<'a> {
    model: &'a mut Model,
    node: NodeIndex,
    is_synced: bool,
}

impl Changing<'_> {
    fn remember(&mut self, undo: Undo) {
        if !self.is_synced {
            self.model.push_undo(self.node, undo);
        }
    }

    fn capacity(&mut self) -> &mut Capacity {
        &mut self.model.node_mut(self.node).capacity
    }

    fn register(&mut self, resources: Resources) -> Judged {
        let before = self.capacity().register(resources);
        self.remember(Undo::Registered(before));
        self.capacity().check()
    }

    fn set_promised(&mut self, sum: Resources) {
        let before = self.capacity().set_promised(sum);
        self.remember(Undo::Promised(before));
    }

    fn promise(&mut self, resources: &Resources) -> Judged {
        let sum = self.capacity().with(resources)?;
        self.set_promised(sum);
        self.capacity().check()
    }

    fn give_back(&mut self, resources: &Resources) -> Judged {
        let sum = self.capacity().without(resources)?;
        self.set_promised(sum);
        Ok(())
    }

    fn bid(&mut self, bid: BidId, place: Place) {
        let before = self.model.set_bid(bid, place);
        self.remember(Undo::Bid(bid, before));
    }

    fn set_lock(&mut self, bid: BidId, lock: Option<HeldLock>) {
        let before = self.capacity().set_lock(bid, lock);
        self.remember(Undo::Lock(bid, before));
    }

    fn lock(&mut self, bid: BidId, lock: HeldLock) -> Judged {
        if self.capacity().has_lock(bid) {
            return wrong(CONSERVATION, format!("bid {bid} has two locks"));
        }
        let resources = lock.resources.clone();
        self.set_lock(bid, Some(lock));
        self.promise(&resources)
    }

    fn end_lock(&mut self, bid: BidId) -> Judged {
        let Some(lock) = self.capacity().lock(bid).cloned() else {
            return wrong(CONSERVATION, format!("the lock of bid {bid} ends and there is none"));
        };
        self.set_lock(bid, None);
        self.give_back(&lock.resources)
    }

    fn set_allocation(&mut self, id: AllocationId, known: KnownAllocation) {
        let before = self.model.set_allocation(self.node, id, Some(known));
        self.remember(Undo::Allocation(id, before.map(Box::new)));
    }

    fn allocate(&mut self, id: AllocationId, known: KnownAllocation) -> Judged {
        let resources = known.resources.clone();
        self.set_allocation(id, known);
        self.promise(&resources)
    }

    fn allocation(&mut self, id: AllocationId, change: impl FnOnce(&mut KnownAllocation)) {
        let node = self.node;
        let known = self.model.allocations().get(&id).filter(|known| known.place.node == node);
        if let Some(mut known) = known.cloned() {
            change(&mut known);
            self.set_allocation(id, known);
        }
    }

    fn end_allocation(&mut self, id: AllocationId, end: (u64, AllocationState)) -> Judged {
        if !self.model.node_mut(self.node).live.contains(&id) {
            return wrong(CONSERVATION, format!("allocation {id} ends and does not live here"));
        }
        let Some(known) = self.model.allocations().get(&id).cloned() else { return Ok(()) };
        self.allocation(id, |known| known.end = Some(end));
        let live = &self.model.node_mut(self.node).live;
        let Some(heir) = known.pod.iter().find(|it| live.contains(it)).copied() else {
            return self.give_back(&known.resources);
        };
        // What a pod has as one is given back with its last task.
        let Resources { cpu, memory, disk, gpus, ports, slots } = known.resources;
        let common = Resources { gpus, ports, slots, ..Resources::default() };
        let Some(both) = self.model.allocations()[&heir].resources.checked_add(&common) else {
            return wrong(CONSERVATION, format!("allocations {id} and {heir} of one pod share ({common})"));
        };
        self.allocation(heir, |known| known.resources = both);
        self.give_back(&Resources { cpu, memory, disk, ..Resources::default() })
    }

    fn set_job(&mut self, id: JobId, job: Option<KnownJob>) {
        let before = self.model.set_job(id, job);
        self.remember(Undo::Job(id, before.map(Box::new)));
    }

    fn job(&mut self, id: JobId, change: impl FnOnce(&mut KnownJob)) -> Judged {
        let node = self.node;
        let job = self.model.jobs().get(&id).filter(|job| job.place.node == node);
        let Some(mut job) = job.cloned() else {
            return wrong(FENCING, format!("job {id} goes on and is not in this log"));
        };
        change(&mut job);
        self.set_job(id, Some(job));
        Ok(())
    }

    fn attempt(&mut self, id: AttemptId, change: impl FnOnce(&mut KnownAttempt)) -> Judged {
        let mut is_known = false;
        let job = self.job(id.job, |job| {
            let known = job.attempts.iter_mut().find(|attempt| attempt.id == id);
            is_known = known.map(change).is_some();
        });
        match is_known {
            _ if job.is_err() => job,
            true => Ok(()),
            false => wrong(FENCING, format!("attempt {id} goes on and was never minted here")),
        }
    }
}
