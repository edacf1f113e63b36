//! The `CapabilityComparator`: ranks bids by a chain of small named rules.
//!
//! Each rule compares two bids; the first that sees a difference decides. What a rule may not accept at
//! all is refused before ranking ([`acceptable`]).

use std::cmp::Ordering;

use dms_messages::{Bid, BidRequest, Did, Signed};
use sha2::{Digest, Sha256};

/// One rule of the chain: orders the better bid first.
type Rule = fn(&BidRequest, &Signed<Bid>, &Signed<Bid>) -> Ordering;

/// The chain: cheapest, then best fit, then by chance that no bidder can steer.
#[doc(alias = "CapabilityComparator")]
pub const RULES: [(&str, Rule); 3] = [("price", by_price), ("score", by_score), ("chance", by_chance)];

/// Orders two bids on `request`, the better first.
pub fn compare(request: &BidRequest, a: &Signed<Bid>, b: &Signed<Bid>) -> Ordering {
    RULES.iter().map(|(_, rule)| rule(request, a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Why a bid cannot be taken at all, if it cannot.
pub fn acceptable(request: &BidRequest, bid: &Bid) -> Result<(), &'static str> {
    let need = &request.requirement;
    let offer = &bid.resources;
    if bid.request != request.id {
        return Err("it answers another request");
    }
    if offer.cpu < need.cpu || offer.memory < need.memory || offer.disk < need.disk {
        return Err("it offers less than is needed");
    }
    if offer.gpus.len() < need.gpus.len() {
        return Err("it offers fewer GPUs than are needed");
    }
    if offer.ports.len() < usize::from(need.ports) {
        return Err("it offers fewer ports than are needed");
    }
    if request.max_price.is_some_and(|limit| bid.price > limit) {
        return Err("it is over the price limit");
    }
    Ok(())
}

fn by_price(_: &BidRequest, a: &Signed<Bid>, b: &Signed<Bid>) -> Ordering {
    a.value().price.cmp(&b.value().price)
}

fn by_score(_: &BidRequest, a: &Signed<Bid>, b: &Signed<Bid>) -> Ordering {
    b.value().score.cmp(&a.value().score)
}

/// Ties are broken by a hash of request and bidder: never by who came first.
fn by_chance(request: &BidRequest, a: &Signed<Bid>, b: &Signed<Bid>) -> Ordering {
    ticket(request, a.issuer()).cmp(&ticket(request, b.issuer()))
}

fn ticket(request: &BidRequest, bidder: Did) -> [u8; 32] {
    Sha256::new().chain_update(request.id.as_bytes()).chain_update(bidder.public_key()).finalize().into()
}
