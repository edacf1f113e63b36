//! Whether this node bids on a request, and what it offers. A decision over the books; nothing is changed.

use dms_messages::{BidRequest, DeclineReason, Did, Price, Requirement, Resources};
use dms_storage::Books;

use crate::capability::ledger;
use crate::orchestrator::pricing::price_per_hour;

/// What a bid would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What would be locked.
    pub resources: Resources,
    /// Price per hour.
    pub price: Price,
    /// How well it fits, 0 to 1000: the share of the machine that stays free.
    pub score: u16,
}

/// Decides on a request: first what can never change, then what may.
pub fn decide(books: &Books, requester: Did, me: Did, request: &BidRequest) -> Result<Offer, DeclineReason> {
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
    // The price of what is asked, before it is known whether it is free: dear stays dear.
    let asked = Resources { cpu: need.cpu, memory: need.memory, disk: need.disk, gpus: Default::default() };
    let lowest = price_per_hour(&capability.prices, &asked);
    if request.max_price.is_some_and(|limit| lowest > limit) {
        return Err(DeclineReason::TooExpensive { price: lowest });
    }
    let resources = ledger::hold(books, requester, me, need)?;
    let price = price_per_hour(&capability.prices, &resources);
    if request.max_price.is_some_and(|limit| price > limit) {
        return Err(DeclineReason::TooExpensive { price });
    }
    let score = score(books.available(), &resources, &capability.resources);
    Ok(Offer { resources, price, score })
}

/// The smallest free share over the dimensions after the lock, in thousandths.
fn score(available: &Resources, taken: &Resources, registered: &Resources) -> u16 {
    let share = |free: u64, taken: u64, whole: u64| {
        free.saturating_sub(taken).saturating_mul(1000).checked_div(whole).unwrap_or(1000)
    };
    let smallest = [
        share(available.cpu.0, taken.cpu.0, registered.cpu.0),
        share(available.memory.0, taken.memory.0, registered.memory.0),
        share(available.disk.0, taken.disk.0, registered.disk.0),
    ]
    .into_iter()
    .min()
    .unwrap_or(0);
    u16::try_from(smallest.min(1000)).unwrap_or(1000)
}

#[cfg(test)]
mod tests;
