//! Whether this node bids on a request, and what it offers. A decision over the books; nothing is changed.

use std::collections::BTreeSet;

use dms_messages::{
    BidRequest, CpuInfo, DeclineReason, Did, Dimension, GpuId, Price, Requirement, Resources,
};
use dms_storage::Books;

use crate::capability::headroom::Room;
use crate::capability::ledger;
use crate::orchestrator::comparator::{Candidate, Reputation, Request};
use crate::orchestrator::preferences::Preferences;
use crate::orchestrator::pricing::{self, Loads, price_per_hour};

/// What a bid would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What would be locked.
    pub resources: Resources,
    /// Price per hour.
    pub price: Price,
    /// How well it fits, 0 to 1000: the share of the machine that stays free.
    pub score: u16,
    /// How much of the machine was taken before, 0 to 1000.
    pub load: u16,
}

/// By what the owner wants requests answered, and what is known of who asks.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The owner's preferences.
    pub preferences: &'a Preferences,
    /// How the requester has behaved here.
    pub reputation: Reputation,
    /// What the machine's owner leaves.
    pub room: &'a Room,
}

/// Decides on a request: first what can never change, then what may.
pub fn decide(
    books: &Books,
    requester: Did,
    me: Did,
    request: &BidRequest,
    terms: Terms<'_>,
) -> Result<Offer, DeclineReason> {
    let capability = books.registered().ok_or(DeclineReason::NotOnboarded)?;
    let need: &Requirement = &request.requirement;
    if !capability.executors.contains(&need.executor) {
        return Err(DeclineReason::NoExecutor { executor: need.executor });
    }
    if !need.locations.is_empty()
        && !capability.location.as_ref().is_some_and(|location| need.locations.contains(location))
    {
        return Err(DeclineReason::Location);
    }
    if let Some((key, _)) =
        need.labels.iter().find(|(key, value)| capability.labels.get(*key) != Some(*value))
    {
        return Err(DeclineReason::Label { key: key.clone() });
    }
    check_processor(&capability.cpu_info, need)?;
    // The price of what is asked, before it is known whether it is free: dear stays dear.
    let surcharge = &terms.preferences.surcharge;
    let lowest = price_per_hour(&capability.prices, need).max(surcharge.minimum);
    if request.max_price.is_some_and(|limit| lowest > limit) {
        return Err(DeclineReason::TooExpensive { price: lowest });
    }
    // By what is taken before: the price does not rise with what is asked for.
    let loads = Loads::of(&capability.resources, books.available());
    let price = pricing::price_at(&capability.prices, surcharge, &loads, need);
    let load = u16::try_from(loads.highest()).unwrap_or(u16::MAX);
    // The owner's own jobs are welcome, whatever is said of others.
    if requester != me {
        // Which GPUs and ports is decided later; here they are only counted.
        let wanted = Resources {
            cpu: need.cpu,
            memory: need.memory,
            disk: need.disk,
            gpus: (0..).map(GpuId).take(need.gpus.len()).collect(),
            ports: (0..need.ports).collect(),
            ..Resources::default()
        };
        let after = Loads::with(&capability.resources, books.available(), &wanted);
        let executors = BTreeSet::from([need.executor]);
        let asker = Candidate {
            did: requester,
            resources: &wanted,
            price,
            fit: None,
            executors: Some(&executors),
            location: None,
            labels: &need.labels,
            benchmark: capability.benchmark,
            load: Some(u16::try_from(after.highest()).unwrap_or(u16::MAX)),
            reputation: terms.reputation,
        };
        terms.preferences.provider.judge(&Request::of(request), &asker).map_err(|refusal| {
            DeclineReason::Preference { rule: refusal.rule, retry: refusal.rejection.retry }
        })?;
    }
    let resources = ledger::hold(books, requester, me, need)?;
    // What this node asks of itself is its owner's own work.
    if requester != me {
        terms.room.admit(books.accounts(), &resources)?;
    }
    if request.max_price.is_some_and(|limit| price > limit) {
        return Err(DeclineReason::DearNow { price, lowest });
    }
    let score = score(books.available(), &resources, &capability.resources);
    Ok(Offer { resources, price, score, load })
}

/// How much of this machine is taken, 0 to 1000: of the dimension of which most is.
pub fn load(books: &Books) -> u16 {
    let loads = books.registered().map(|capability| Loads::of(&capability.resources, books.available()));
    u16::try_from(loads.unwrap_or_default().highest()).unwrap_or(u16::MAX)
}

/// How well a pod fits here, 0 to 1000, as a bid would say; none where it does not fit.
pub fn fit(books: &Books, need: &Requirement) -> Option<u16> {
    let wanted = Resources { cpu: need.cpu, memory: need.memory, disk: need.disk, ..Resources::default() };
    let registered = books.registered()?;
    books.available().fits(&wanted).then(|| score(books.available(), &wanted, &registered.resources))
}

/// What no waiting changes: how the processor is made.
fn check_processor(cpu: &CpuInfo, need: &Requirement) -> Result<(), DeclineReason> {
    if need.architecture.as_ref().is_some_and(|architecture| *architecture != cpu.architecture) {
        return Err(DeclineReason::Architecture { had: cpu.architecture.clone() });
    }
    if cpu.clock_mhz < need.min_clock_mhz {
        return Err(DeclineReason::Clock { needed: need.min_clock_mhz, had: cpu.clock_mhz });
    }
    if cpu.score < need.min_score {
        return Err(DeclineReason::Score { needed: need.min_score, had: cpu.score });
    }
    Ok(())
}

/// The smallest free share over the dimensions after the lock, in thousandths.
fn score(available: &Resources, taken: &Resources, registered: &Resources) -> u16 {
    let share = |free: u64, taken: u64, whole: u64| {
        free.saturating_sub(taken).saturating_mul(1000).checked_div(whole).unwrap_or(1000)
    };
    let amounts = available.amounts().into_iter().zip(taken.amounts()).zip(registered.amounts());
    // GPUs are either needed or not: a machine whose GPUs are all free is no better a fit for what needs none.
    let smallest = amounts
        .filter(|(_, (dimension, _))| *dimension != Dimension::Gpu)
        .map(|(((_, free), (_, taken)), (_, whole))| share(free, taken, whole))
        .min()
        .unwrap_or(0);
    u16::try_from(smallest.min(1000)).unwrap_or(1000)
}

#[cfg(test)]
mod tests;
