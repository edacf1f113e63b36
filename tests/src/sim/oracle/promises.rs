//! What an entry says that others promised: it is on their disks already. And what attempts promise: one number after
//! the other, one contract each, and only the newest one's result counts.
//!
//! Judged before the entry is folded, over the logs as they are. Whoever is none of the world's nodes promised nothing.

use dms_messages::{Accepted, AllocationId, AttemptId, Contract, Did, JobEnd, JobId, Signed};
use dms_messages::{AllocationState, Bid};
use dms_storage::Event;

use super::model::Model;
use super::rules::{FENCING, RAN_BEFORE_RECORDED, SPOKE_BEFORE_SYNC, TWO_CONTRACTS};
use super::{Judged, NodeIndex, wrong};

/// Judges an event that `node` writes.
pub(super) fn check(model: &Model, node: NodeIndex, event: &Event) -> Judged {
    match event {
        Event::BidReceived { bid, .. } => check_bid(model, bid),
        Event::AttemptMinted { attempt, .. } => check_mint(model, *attempt),
        Event::AllocationAccepted { allocation, contract, accepted } => {
            check_contract(model, contract.value().attempt, *allocation)?;
            check_invocation(model, node, contract, accepted)
        }
        Event::AttemptAccepted { accepted } => check_acceptance(model, accepted),
        Event::AttemptObserved { attempt, state, .. } if state.is_terminal() => {
            check_observation(model, *attempt, state)
        }
        Event::TaskObserved { attempt, task, state, .. } if state.is_terminal() => {
            check_task(model, *attempt, *task, state)
        }
        Event::AllocationAcknowledged { allocation } => check_acknowledgement(model, *allocation),
        Event::JobEnded { job, end } => check_end(model, *job, end),
        _ => Ok(()),
    }
}

/// A program begins to run: its acceptance is synced on the node that runs it.
pub(super) fn check_run(model: &Model, node: NodeIndex, allocation: AllocationId) -> Judged {
    let known = model.allocations().get(&allocation).filter(|known| known.place.node == node);
    let Some(known) = known else {
        let text = format!("allocation {allocation} begins to run, and its acceptance is not in the log");
        return wrong(RAN_BEFORE_RECORDED, text);
    };
    if model.is_synced(node, known.place.sequence) {
        return Ok(());
    }
    let (attempt, sequence) = (known.attempt, known.place.sequence);
    wrong(
        RAN_BEFORE_RECORDED,
        format!("allocation {allocation} of {attempt} begins to run, and event {sequence} is not synced"),
    )
}

/// What was heard is synced at whoever said it.
fn check_said(model: &Model, said: Option<(NodeIndex, u64)>, what: impl Fn() -> String) -> Judged {
    match said {
        Some((node, sequence)) if model.is_synced(node, sequence) => Ok(()),
        Some((node, sequence)) => wrong(
            SPOKE_BEFORE_SYNC,
            format!("{}, and event {sequence} of node {node} that says so is not synced", what()),
        ),
        None => wrong(SPOKE_BEFORE_SYNC, format!("{}, and no log says so", what())),
    }
}

fn check_bid(model: &Model, bid: &Signed<Bid>) -> Judged {
    let Some(bidder) = model.index_of(bid.issuer()) else { return Ok(()) };
    let id = bid.value().id;
    let sent = model.bid(id).filter(|place| place.node == bidder);
    check_said(model, sent.map(|place| (place.node, place.sequence)), || {
        format!("bid {id} of node {bidder} was heard")
    })
}

fn check_mint(model: &Model, attempt: AttemptId) -> Judged {
    let Some(job) = model.jobs().get(&attempt.job) else {
        return wrong(FENCING, format!("attempt {attempt} is minted for a job that no log has"));
    };
    if let Some((sequence, end)) = &job.end {
        return wrong(FENCING, format!("attempt {attempt} is minted after event {sequence}: {end:?}"));
    }
    let last = job.newest(attempt.pod).map_or(0, |newest| newest.id.number);
    if attempt.number == last + 1 {
        return Ok(());
    }
    wrong(FENCING, format!("attempt {attempt} is minted, and the newest before it is number {last}"))
}

/// No attempt is accepted twice, here or elsewhere.
fn check_contract(model: &Model, attempt: AttemptId, allocation: AllocationId) -> Judged {
    if let Some((other, known)) = model.allocation_of(attempt) {
        let how = if known.end.is_none() { "which lives" } else { "which has ended" };
        let place = known.place.node;
        return wrong(
            TWO_CONTRACTS,
            format!(
                "attempt {attempt} is accepted as {allocation}, and node {place} has it as {other}, {how}"
            ),
        );
    }
    if let Some(known) = model.allocations().get(&allocation) {
        let other = known.attempt;
        return wrong(
            TWO_CONTRACTS,
            format!("allocation {allocation} is accepted for {attempt}, and was for {other}"),
        );
    }
    Ok(())
}

/// What is accepted was minted before by its requester, for this provider, with this contract.
fn check_invocation(
    model: &Model,
    node: NodeIndex,
    contract: &Signed<Contract>,
    accepted: &Signed<Accepted>,
) -> Judged {
    let (id, requester) = (contract.value().attempt, contract.value().requester);
    let Some(requester) = model.index_of(requester) else { return Ok(()) };
    let job = model.jobs().get(&id.job).filter(|job| job.place.node == requester);
    let minted = job.and_then(|job| job.attempt(id));
    let Some(minted) = minted else {
        return wrong(FENCING, format!("attempt {id} is accepted, and node {requester} has not minted it"));
    };
    check_said(model, Some((requester, minted.sequence)), || format!("the invocation of {id} was heard"))?;
    let is_meant = model.index_of(minted.provider) == Some(node);
    if is_meant && minted.contract == contract.content_id() && minted.contract == accepted.value().contract {
        return Ok(());
    }
    wrong(FENCING, format!("attempt {id} is accepted, and was minted for another provider or contract"))
}

fn check_acceptance(model: &Model, accepted: &Signed<Accepted>) -> Judged {
    let Some(provider) = model.index_of(accepted.issuer()) else { return Ok(()) };
    let Accepted { attempt, allocation, .. } = *accepted.value();
    let known = model.allocations().get(&allocation);
    let known = known.filter(|known| known.place.node == provider && known.attempt == attempt);
    check_said(model, known.map(|known| (known.place.node, known.place.sequence)), || {
        format!("node {provider}'s acceptance of {attempt} as {allocation} was heard")
    })
}

fn check_observation(model: &Model, attempt: AttemptId, state: &AllocationState) -> Judged {
    let job = model.jobs().get(&attempt.job);
    let Some(minted) = job.and_then(|job| job.attempt(attempt)) else {
        return wrong(FENCING, format!("attempt {attempt} is reported as {state:?}, and was never minted"));
    };
    let Some(provider) = model.index_of(minted.provider) else { return Ok(()) };
    let known = model.allocation_of(attempt).filter(|(_, known)| known.place.node == provider);
    let end = known.and_then(|(_, known)| model.pod_end(known)).filter(|(_, end)| end == state);
    check_said(model, end.map(|(sequence, _)| (provider, sequence)), || {
        format!("node {provider}'s report of {attempt} as {state:?} was heard")
    })
}

/// What is heard of one of several tasks is synced at its provider.
fn check_task(model: &Model, attempt: AttemptId, task: u16, state: &AllocationState) -> Judged {
    let minted = model.jobs().get(&attempt.job).and_then(|job| job.attempt(attempt));
    let Some(minted) = minted else {
        return wrong(FENCING, format!("task {task} of {attempt} is reported on, and was never minted"));
    };
    let Some(provider) = model.index_of(minted.provider) else { return Ok(()) };
    let pod = model.allocation_of(attempt).map(|(_, known)| known.pod.as_slice()).unwrap_or_default();
    let known = pod.get(usize::from(task)).and_then(|id| model.allocations().get(id));
    let end = known.filter(|known| known.place.node == provider).and_then(|known| known.end.as_ref());
    let end = end.filter(|(_, end)| end == state);
    check_said(model, end.map(|(sequence, _)| (provider, *sequence)), || {
        format!("node {provider}'s report of task {task} of {attempt} as {state:?} was heard")
    })
}

/// Whoever acknowledges a result has it, or has done with the attempt.
fn check_acknowledgement(model: &Model, allocation: AllocationId) -> Judged {
    let Some(known) = model.allocations().get(&allocation) else { return Ok(()) };
    let Some(requester) = requester_of(model, known.requester, known.attempt) else { return Ok(()) };
    let attempt = known.attempt;
    let job = model.jobs().get(&attempt.job).filter(|job| job.place.node == requester);
    let done = job.and_then(|job| job.done_with(attempt));
    check_said(model, done.map(|sequence| (requester, sequence)), || {
        format!("node {requester}'s acknowledgement of {attempt} was heard")
    })
}

/// The requester, if it is one of the world's and has ever minted the attempt: of one that it never had, it says that
/// it does not wait for it.
fn requester_of(model: &Model, requester: Did, attempt: AttemptId) -> Option<NodeIndex> {
    let has_minted = model.jobs().get(&attempt.job).is_some_and(|job| job.attempt(attempt).is_some());
    model.index_of(requester).filter(|_| has_minted)
}

/// A job ends once, and succeeds by its newest attempts alone.
fn check_end(model: &Model, id: JobId, end: &JobEnd) -> Judged {
    let Some(job) = model.jobs().get(&id) else {
        return wrong(FENCING, format!("job {id} ends and is in no log"));
    };
    if let Some((sequence, before)) = &job.end {
        return wrong(FENCING, format!("job {id} ends as {end:?}, and event {sequence} said {before:?}"));
    }
    if *end != JobEnd::Succeeded {
        return Ok(());
    }
    if job.attempts.is_empty() {
        return wrong(FENCING, format!("job {id} succeeded without an attempt"));
    }
    for attempt in &job.attempts {
        let newest = job.newest(attempt.id.pod).unwrap_or(attempt);
        if newest.observed != Some(AllocationState::Succeeded) {
            let (newest, seen) = (newest.id, &newest.observed);
            return wrong(
                FENCING,
                format!("job {id} succeeded, and what is known of its newest attempt {newest} is {seen:?}"),
            );
        }
    }
    Ok(())
}
