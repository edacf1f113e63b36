//! What a rule is told: the request, and what is known of whoever is judged. Plain and borrowed: many are judged at once.

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::{
    Advert, Benchmark, Bid, BidRequest, Capability, Did, ExecutorKind, Figure, Millis, Price, Requirement,
    Resources,
};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What the pod needs.
    pub requirement: &'a Requirement,
    /// How long it may run at most.
    pub run_time: Millis,
    /// The requester's own limit per hour, if it says one.
    pub max_price: Option<Price>,
}

impl<'a> Request<'a> {
    /// What a request for bids asks for.
    pub fn of(request: &'a BidRequest) -> Self {
        Self { requirement: &request.requirement, run_time: request.run_time, max_price: request.max_price }
    }
}

/// How what was begun with a node has ended so far, as this node remembers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reputation {
    /// How often well.
    pub well: u32,
    /// How often badly.
    pub badly: u32,
}

impl Reputation {
    /// From 0 to 1000: the share that ended well, as if it had once done so and once not. 500 for a stranger.
    pub fn score(self) -> u16 {
        let (well, badly) = (u64::from(self.well) + 1, u64::from(self.badly) + 1);
        u16::try_from(1000 * well / (well + badly)).unwrap_or(1000)
    }
}

/// Whoever is judged. For a requester that is a node that may run its pod, by its advert or its bid. For a provider it
/// is the requester: who that is, how it behaved, and what it wants; price, benchmark and load are this node's own.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Who.
    pub did: Did,
    /// What it offers, or has free; what a requester wants.
    pub resources: &'a Resources,
    /// What the pod costs there per hour.
    pub price: Price,
    /// How well the pod fits there, 0 to 1000, as the node says; only bids say it.
    pub fit: Option<u16>,
    /// What it runs, if it says so; what a requester wants run.
    pub executors: Option<&'a BTreeSet<ExecutorKind>>,
    /// Where it stands, if it says so.
    pub location: Option<&'a str>,
    /// Its labels; those that a requester asks for.
    pub labels: &'a BTreeMap<String, String>,
    /// How fast it is, if it was measured.
    pub benchmark: Option<Benchmark>,
    /// How much of it is taken, 0 to 1000, if it says so; for a provider, of its own machine if it takes the pod.
    pub load: Option<u16>,
    /// How it behaved.
    pub reputation: Reputation,
}

impl<'a> Candidate<'a> {
    /// A figure of its benchmark; 0 where it was not measured.
    pub fn figure(&self, figure: Figure) -> u32 {
        self.benchmark.map_or(0, |benchmark| figure.of(&benchmark))
    }

    /// Whoever made a bid.
    pub fn of_bid(bidder: Did, bid: &'a Bid, reputation: Reputation) -> Self {
        Self {
            did: bidder,
            resources: &bid.resources,
            price: bid.price,
            fit: Some(bid.score),
            // Who bids runs what was asked for.
            executors: None,
            location: bid.profile.location.as_deref(),
            labels: &bid.profile.labels,
            benchmark: bid.profile.benchmark,
            load: bid.profile.load,
            reputation,
        }
    }

    /// Whoever advertises, at the price that what is asked for costs there.
    pub fn of_advert(issuer: Did, advert: &'a Advert, price: Price, reputation: Reputation) -> Self {
        Self {
            did: issuer,
            resources: &advert.available,
            price,
            fit: None,
            executors: Some(&advert.executors),
            location: advert.profile.location.as_deref(),
            labels: &advert.profile.labels,
            benchmark: advert.profile.benchmark,
            load: advert.profile.load,
            reputation,
        }
    }

    /// A machine as its own node knows it, of which `available` is free and `load` thousandths are taken.
    pub fn of_capability(
        did: Did,
        capability: &'a Capability,
        available: &'a Resources,
        price: Price,
        load: u16,
        reputation: Reputation,
    ) -> Self {
        Self {
            did,
            resources: available,
            price,
            fit: None,
            executors: Some(&capability.executors),
            location: capability.location.as_deref(),
            labels: &capability.labels,
            benchmark: capability.benchmark,
            load: Some(load),
            reputation,
        }
    }
}
