//! The ledger: whether capacity may be held, kept, taken or changed. It decides; the books record.
//!
//! Called by the Node actor, the single serial owner of the books, so nothing can change between a
//! decision and its record. Decisions are made over running sums ([`Accounts`]): none walks over all that is promised.
//! The life of a lock:
//!
//! ```text
//!             ┌─────┐ renewed: asked again within its lease, to three leases in all
//!   bid ──► Held ◄──┘
//!             ├────► Taken      (invocation within the lease: becomes an allocation)
//!             ├────► Released   (the requester let it go)
//!             ├────► Expired    (lease and grace over)
//!             └────► Withdrawn  (by this node, or while it was away: counts against nobody)
//! ```

mod gpus;
mod shares;

use std::collections::BTreeSet;
use std::time::Duration;

use dms_messages::{
    BidId, BidRequestId, Capability, DeclineReason, Did, ExecutorKind, GpuId, Invocation, RefusedReason,
    Requirement, Resources, Timestamp,
};
use dms_storage::sabotage::{self, Bug};
use dms_storage::{Accounts, Books, Lock, LockEnd};

pub use self::shares::{Asker, Company};

/// How long a lock outlives its lease, so that an invocation sent at the last moment still finds it.
pub const LEASE_GRACE: Duration = Duration::from_secs(1);
/// How many leases a lock may last in all: who has not decided by then asks anew, behind others.
const MAX_LEASES: u32 = 3;

/// Most live locks: each is a row, and a line of what the node says of itself.
const MAX_LOCKS: usize = 256;
/// Most live locks of one requester: an eighth, so that a few greedy ones leave room for others.
pub const MAX_LOCKS_PER_REQUESTER: usize = MAX_LOCKS / 8;

/// What would be locked for `requirement`, if it is free and `requester` may hold so much.
#[doc(alias = "lockCapability")]
pub fn hold(
    books: &Books,
    requester: Did,
    me: Did,
    requirement: &Requirement,
) -> Result<Resources, DeclineReason> {
    let registered = books.registered().ok_or(DeclineReason::NotOnboarded)?;
    hold_within(registered, books.accounts(), &Asker::judge(books, requester, me), requirement)
}

/// [`hold`], over the accounts alone.
pub fn hold_within(
    registered: &Capability,
    accounts: &Accounts,
    asker: &Asker,
    requirement: &Requirement,
) -> Result<Resources, DeclineReason> {
    let too_big = registered.shortfalls(&registered.resources, requirement);
    if !too_big.is_empty() {
        return Err(DeclineReason::TooBig { shortfalls: too_big });
    }
    let has_no_regard = sabotage::has(Bug::OverCommits);
    let available = if has_no_regard { &registered.resources } else { accounts.available() };
    let shortfalls = registered.shortfalls(available, requirement);
    let gpus = gpus::pick(registered, &available.gpus, &requirement.gpus);
    let (true, Ok(gpus)) = (shortfalls.is_empty(), gpus) else {
        // Enough GPUs are free but none of the kind: say so as a shortage of matching ones.
        return Err(match gpus::pick(registered, &registered.resources.gpus, &requirement.gpus) {
            Ok(_) => DeclineReason::Busy { shortfalls },
            Err(shortfall) => DeclineReason::TooBig { shortfalls: vec![shortfall] },
        });
    };
    let is_limited = registered.resources.slots.contains_key(&requirement.executor);
    let wanted = Resources {
        cpu: requirement.cpu,
        memory: requirement.memory,
        disk: requirement.disk,
        gpus,
        ports: available.ports.iter().copied().take(usize::from(requirement.ports)).collect(),
        slots: is_limited.then_some((requirement.executor, 1)).into_iter().collect(),
    };
    if accounts.holding(asker.did).is_some_and(|holding| holding.locks >= MAX_LOCKS_PER_REQUESTER) {
        return Err(DeclineReason::LockShare);
    }
    if accounts.locks().len() >= MAX_LOCKS {
        return Err(DeclineReason::Busy { shortfalls: Vec::new() });
    }
    if !shares::may_hold(&registered.resources, accounts, asker, &wanted) {
        return Err(DeclineReason::LockShare);
    }
    Ok(wanted)
}

/// What a lock's lease becomes when its request is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// The lock's bid.
    pub bid: BidId,
    /// When the lock ends from now on, grace included.
    pub expires: Timestamp,
    /// What is left of the lease, to be said.
    pub lease: Duration,
    /// False if it ends when it would have anyway: there is nothing to record.
    pub is_longer: bool,
}

/// The lease of the lock that backs `requester`'s bid on `request`, asked for again `now`: whole again, but to
/// three in all. None if no such lock lives, or nothing is left of its lease.
pub fn renew(
    books: &Books,
    requester: Did,
    me: Did,
    request: BidRequestId,
    lease: Duration,
    now: Timestamp,
) -> Option<Renewal> {
    let mut locks = books.locks().values();
    let lock = locks.find(|lock| lock.request == request && lock.requester == requester)?;
    if lock.expires <= now {
        return None;
    }
    let made = books.bids_sent().get(&lock.bid)?.at;
    let asker = Asker::judge(books, requester, me);
    let may_renew = shares::may_renew(books.accounts().registered(), books.accounts(), &asker);
    let leases = if may_renew { MAX_LEASES } else { 1 };
    let last = made.saturating_add(lease * leases + LEASE_GRACE);
    let expires = now.saturating_add(lease + LEASE_GRACE).min(last).max(lock.expires);
    let left = expires.saturating_since(now).checked_sub(LEASE_GRACE).filter(|left| !left.is_zero())?;
    Some(Renewal { bid: lock.bid, expires, lease: left, is_longer: expires > lock.expires })
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
    if usize::from(requirement.ports) > granted.ports.len() {
        return differs("the number of ports");
    }
    let asked = books.requests_received().get(&lock.request);
    // A slot is of a kind.
    if asked.is_none_or(|row| row.request.requirement.executor != requirement.executor) {
        return differs("the executor");
    }
    if asked.is_none_or(|row| terms.pod.run_time() > row.request.run_time) {
        return differs("run time");
    }
    if terms.pod.shares(granted).is_none() {
        return differs("the shares of its tasks");
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
pub fn expired(books: &Books, now: Timestamp) -> Vec<BidId> {
    if sabotage::has(Bug::NeverEndsLocks) {
        return Vec::new();
    }
    books.accounts().by_expiry().iter().take_while(|(at, _)| *at <= now).map(|(_, bid)| *bid).collect()
}

/// How a lock ended that is over by its time. What was promised before the node took up its books could not be taken
/// all the while: the node was away, or recorded nothing, and counts it against nobody.
pub fn end_of_expired(books: &Books, bid: BidId, taken_up: Timestamp) -> LockEnd {
    let is_of_before = books.bids_sent().get(&bid).is_none_or(|row| row.at <= taken_up);
    if is_of_before { LockEnd::Withdrawn } else { LockEnd::Expired }
}

/// When the next lock expires, if any is live.
pub fn next_expiry(books: &Books) -> Option<Timestamp> {
    books.accounts().by_expiry().first().map(|(at, _)| *at)
}

/// Why a capability cannot replace what is registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResizeError {
    /// It breaks a rule of its own.
    #[error("{0}")]
    Invalid(String),
    /// It would break what is promised.
    #[error("{promised} are promised to jobs that run or may start: {missing}")]
    Promised {
        /// What the live locks and allocations have.
        promised: Resources,
        /// What of it the new capability does not have, in words.
        missing: String,
    },
}

/// Whether a capability may replace what is registered: it must cover what is promised.
///
/// # Errors
/// Says what of the promised it does not cover.
#[doc(alias = "setRegisteredCapability")]
pub fn register(books: &Books, capability: &Capability) -> Result<(), ResizeError> {
    capability.check().map_err(ResizeError::Invalid)?;
    let (locked, allocated) = (books.accounts().locked(), books.accounts().allocated());
    let promised = locked.checked_add(allocated).expect("both are parts of what is registered");
    let uncounted = uncounted(books, &capability.resources);
    if capability.resources.fits(&promised) && uncounted.is_empty() {
        return Ok(());
    }
    let missing = [missing(&capability.resources, &promised), uncounted];
    let missing = missing.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    Err(ResizeError::Promised { promised, missing })
}

/// Which limits cannot begin now: what was promised without one is not counted, and would not be.
fn uncounted(books: &Books, offered: &Resources) -> String {
    let live = books.live_allocations().map(|row| &row.resources);
    let promised: Vec<&Resources> = books.locks().values().map(|lock| &lock.resources).chain(live).collect();
    let begins =
        |kind: &&ExecutorKind| books.registered().is_some_and(|it| it.resources.slots_of(**kind) == 0);
    let kinds = offered.slots.keys().filter(begins).filter(|_| !promised.is_empty());
    let parts = kinds.map(|kind| format!("a limit of {kind} slots can begin when nothing is promised"));
    parts.collect::<Vec<_>>().join("; ")
}

/// What of `promised` is not in `offered`.
fn missing(offered: &Resources, promised: &Resources) -> String {
    let mut parts = Vec::new();
    if offered.cpu < promised.cpu {
        parts.push(format!("{} would be too few", offered.cpu.cores()));
    }
    if offered.memory < promised.memory {
        parts.push(format!("{} memory would be too little", offered.memory));
    }
    if offered.disk < promised.disk {
        parts.push(format!("{} disk would be too little", offered.disk));
    }
    let named = |names: Vec<String>| names.join(", ");
    let gpus: BTreeSet<GpuId> = promised.gpus.difference(&offered.gpus).copied().collect();
    if !gpus.is_empty() {
        parts.push(format!("GPU {} is in use", named(gpus.iter().map(|gpu| gpu.0.to_string()).collect())));
    }
    let ports: Vec<String> = promised.ports.difference(&offered.ports).map(u16::to_string).collect();
    if !ports.is_empty() {
        parts.push(format!("port {} is in use", named(ports)));
    }
    for (kind, count) in &promised.slots {
        match offered.slots_of(*kind) {
            // They are counted: a limit can be lifted when nothing is.
            0 => parts.push(format!("the limit of {kind} slots can be lifted when none is taken")),
            offered if offered < *count => parts.push(format!("{offered} {kind} slots would be too few")),
            _ => {}
        }
    }
    parts.join("; ")
}

/// True if `sender` may let a lock go: only the requester it was made for.
pub fn may_release(books: &Books, sender: Did, bid: dms_messages::BidId) -> bool {
    books.locks().get(&bid).is_some_and(|lock| lock.requester == sender)
}

#[cfg(test)]
mod tests;
