//! The ledger: whether capacity may be held, taken or changed. It decides; the books record.
//!
//! Called by the Node actor, the single serial owner of the books, so nothing can change between a
//! decision and its record. The life of a lock:
//!
//! ```text
//!   bid ──► Held ──► Taken      (invocation within the lease: becomes an allocation)
//!             ├────► Released   (the requester let it go, or the bid could not be sent)
//!             └────► Expired    (lease and grace over)
//! ```

use std::time::Duration;

use dms_messages::{
    Capability, DeclineReason, Did, GpuId, GpuRequirement, Invocation, RefusedReason, Requirement, Resources,
    Timestamp,
};
use dms_storage::{Books, Lock};

/// No DID may hold more than this part (a quarter) of any registered dimension in locks it has not
/// invoked: otherwise one greedy requester could lock a machine by asking and never invoking.
const LOCK_SHARE_DIVISOR: u64 = 4;

/// How long a lock outlives its lease, so that an invocation sent at the last moment still finds it.
pub const LEASE_GRACE: Duration = Duration::from_secs(1);

/// Most live locks: each is a row that every change of the books sums up.
const MAX_LOCKS: usize = 256;
/// Most live locks of one requester: an eighth, so that a few greedy ones leave room for others.
pub const MAX_LOCKS_PER_REQUESTER: usize = MAX_LOCKS / 8;

/// What would be locked for `requirement`, if it is free and `requester` may hold it.
///
/// The share rule does not apply to the node itself, nor to a requester that holds no lock: a job that
/// needs more than a quarter of the machine must still be able to run.
#[doc(alias = "lockCapability")]
pub fn hold(
    books: &Books,
    requester: Did,
    me: Did,
    requirement: &Requirement,
) -> Result<Resources, DeclineReason> {
    let registered = books.registered().ok_or(DeclineReason::NotOnboarded)?;
    let too_big = registered.resources.shortfalls(requirement);
    if !too_big.is_empty() {
        return Err(DeclineReason::TooBig { shortfalls: too_big });
    }
    let shortfalls = books.available().shortfalls(requirement);
    let gpus = pick_gpus(registered, &books.available().gpus, &requirement.gpus);
    let (true, Some(gpus)) = (shortfalls.is_empty(), gpus) else {
        // Enough GPUs are free but none of the kind: say so as a shortage of matching ones.
        return Err(match pick_gpus(registered, &registered.resources.gpus, &requirement.gpus) {
            Some(_) => DeclineReason::Busy { shortfalls },
            None => DeclineReason::TooBig { shortfalls: vec![gpu_shortfall(&requirement.gpus)] },
        });
    };
    let wanted = Resources { cpu: requirement.cpu, memory: requirement.memory, disk: requirement.disk, gpus };
    let held = books.locks().values().filter(|lock| lock.requester == requester).count();
    if held >= MAX_LOCKS_PER_REQUESTER {
        return Err(DeclineReason::LockShare);
    }
    if books.locks().len() >= MAX_LOCKS {
        return Err(DeclineReason::Busy { shortfalls: Vec::new() });
    }
    if requester != me && !is_within_share(books, registered, requester, &wanted) {
        return Err(DeclineReason::LockShare);
    }
    Ok(wanted)
}

fn gpu_shortfall(gpus: &[GpuRequirement]) -> dms_messages::Shortfall {
    dms_messages::Shortfall { dimension: dms_messages::Dimension::Gpu, needed: gpus.len() as u64, had: 0 }
}

fn is_within_share(books: &Books, registered: &Capability, requester: Did, wanted: &Resources) -> bool {
    let mut held = books.locks().values().filter(|lock| lock.requester == requester).peekable();
    if held.peek().is_none() {
        return true;
    }
    let Some(total) = held.try_fold(wanted.clone(), |sum, lock| sum.checked_add(&lock.resources)) else {
        return false;
    };
    let whole = &registered.resources;
    let is_small = |part: u64, whole: u64| part.saturating_mul(LOCK_SHARE_DIVISOR) <= whole;
    is_small(total.cpu.0, whole.cpu.0)
        && is_small(total.memory.0, whole.memory.0)
        && is_small(total.disk.0, whole.disk.0)
        && is_small(total.gpus.len() as u64, whole.gpus.len() as u64)
}

/// Distinct GPUs for each demand, the most demanding first, the smallest that does.
fn pick_gpus(
    capability: &Capability,
    free: &std::collections::BTreeSet<GpuId>,
    demands: &[GpuRequirement],
) -> Option<std::collections::BTreeSet<GpuId>> {
    let mut demands: Vec<&GpuRequirement> = demands.iter().collect();
    demands.sort_by(|a, b| b.memory.cmp(&a.memory).then(b.vendor.is_some().cmp(&a.vendor.is_some())));
    let mut picked = std::collections::BTreeSet::new();
    for demand in demands {
        let is_match = |id: &GpuId| {
            capability.gpus.get(id).is_some_and(|gpu| {
                gpu.memory >= demand.memory
                    && demand.vendor.as_ref().is_none_or(|vendor| *vendor == gpu.vendor)
            })
        };
        let best = free
            .iter()
            .filter(|id| !picked.contains(*id) && is_match(id))
            .min_by_key(|id| (capability.gpus[id].memory, **id))?;
        picked.insert(*best);
    }
    Some(picked)
}

/// The lock that an invocation takes, if it may.
pub fn take<'a>(
    books: &'a Books,
    sender: Did,
    invocation: &Invocation,
    now: Timestamp,
) -> Result<&'a Lock, RefusedReason> {
    let terms = invocation.contract.value();
    let differs = |what: &str| Err(RefusedReason::ContractDiffers { what: what.to_owned() });
    let Some(sent) = books.bids_sent().get(&invocation.bid) else {
        return Err(RefusedReason::UnknownBid);
    };
    if sent.requester != sender || terms.requester != sender || invocation.contract.issuer() != sender {
        return Err(RefusedReason::NotYours);
    }
    let Some(lock) = books.locks().get(&invocation.bid).filter(|lock| lock.expires > now) else {
        return Err(RefusedReason::LeaseEnded);
    };
    if terms.attempt.job != lock.job || terms.attempt.pod != lock.pod || terms.request != lock.request {
        return differs("job");
    }
    if terms.resources != lock.resources {
        return differs("resources");
    }
    if terms.price != sent.bid.value().price {
        return differs("price");
    }
    let requirement = &terms.pod.requirement;
    let granted = &lock.resources;
    if requirement.cpu > granted.cpu || requirement.memory > granted.memory || requirement.disk > granted.disk
    {
        return differs("the pod's needs");
    }
    if requirement.gpus.len() > granted.gpus.len() {
        return differs("the number of GPUs");
    }
    let asked = books.requests_received().get(&lock.request);
    if asked.is_none_or(|row| terms.pod.run_time() > row.request.run_time) {
        return differs("run time");
    }
    if books
        .newest_attempt_like(sender, terms.attempt)
        .is_some_and(|newest| newest.number >= terms.attempt.number)
    {
        return Err(RefusedReason::Superseded);
    }
    Ok(lock)
}

/// The locks whose lease and grace are over, to be recorded as expired.
pub fn expired(books: &Books, now: Timestamp) -> Vec<dms_messages::BidId> {
    books.locks().values().filter(|lock| lock.expires <= now).map(|lock| lock.bid).collect()
}

/// When the next lock expires, if any is live.
pub fn next_expiry(books: &Books) -> Option<Timestamp> {
    books.locks().values().map(|lock| lock.expires).min()
}

/// Whether a capability may replace what is registered: it must cover what is promised.
pub fn register(books: &Books, capability: &Capability) -> Result<(), String> {
    capability.check()?;
    let promised = books.locked().checked_add(&books.allocated());
    match promised {
        Some(promised) if capability.resources.fits(&promised) => Ok(()),
        Some(promised) => Err(format!("{promised} are promised to jobs that run or may start")),
        None => Err("the promised amounts do not add up".to_owned()),
    }
}

/// True if `sender` may let a lock go: only the requester it was made for.
pub fn may_release(books: &Books, sender: Did, bid: dms_messages::BidId) -> bool {
    books.locks().get(&bid).is_some_and(|lock| lock.requester == sender)
}

#[cfg(test)]
mod tests;
