//! A rule of one's own among those that choose who runs a job: `cargo run --example own_rule`.
//!
//! A program that embeds a node hands its rules in when it starts it:
//! `RunningNode::start_with(&settings, identity, OwnRules { requester: vec![Arc::new(NearHome)], ..OwnRules::none() })`.

use std::collections::BTreeMap;
use std::sync::Arc;

use dms_messages::{BidRequestId, CpuMillis, Keypair, MemoryMib, Millis, Price, Requirement, Resources};
use dms_node::orchestrator::comparator::{Candidate, Rejection, Reputation, Request, Rule, Verdict};
use dms_node::orchestrator::preferences::{OwnRules, Preferences};

/// Nobody overseas, and whoever stands at home first.
#[derive(Debug)]
struct NearHome;

impl Rule for NearHome {
    fn name(&self) -> &str {
        "near-home"
    }

    fn judge(&self, _: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        match candidate.location {
            Some("CH") => Verdict::Score(2),
            Some(place) if place.starts_with("eu-") => Verdict::Score(1),
            _ => Verdict::Reject(Rejection::lasting("is too far from home")),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let own = OwnRules { requester: vec![Arc::new(NearHome)], ..OwnRules::none() };
    // What the owner prefers beside; the rule's name can stand in an `order`, and comes first without one.
    let chain = Preferences::parse("[requester]\nmax_price = \"1\"", &own)?.requester;
    let requirement = Requirement { cpu: CpuMillis(1000), memory: MemoryMib(64), ..Requirement::default() };
    let request = Request { requirement: &requirement, run_time: Millis(60_000), max_price: None };
    let (resources, labels) = (
        Resources { cpu: CpuMillis(2000), memory: MemoryMib(1024), ..Resources::default() },
        BTreeMap::new(),
    );
    let places = [("eu-west", 200_000), ("us-east", 100_000), ("CH", 900_000), ("eu-north", 150_000)];
    let candidates = places.iter().zip(1..).map(|((place, price), seed)| Candidate {
        did: Keypair::from_secret(&[seed; 32]).did(),
        resources: &resources,
        price: Price(*price),
        fit: Some(500),
        executors: None,
        location: Some(place),
        labels: &labels,
        benchmark: None,
        load: None,
        reputation: Reputation::default(),
    });
    let candidates: Vec<_> = candidates.collect();
    let (ranked, refused) = chain.rank(BidRequestId::from_random([1; 16]), &request, &candidates);
    ranked.iter().zip(1..).for_each(|(index, rank)| println!("{rank}. {}", places[*index].0));
    refused.iter().for_each(|(index, refusal)| println!("not {}: {refusal}", places[*index].0));
    Ok(())
}
