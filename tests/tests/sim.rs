//! Whole worlds by their seeds: that every promise is kept whatever goes wrong, that a seed is a run, that what once
//! broke stays mended, and that the judge would have seen it.

use std::collections::BTreeMap;
use std::time::Instant;

use dms_storage::sabotage::{self, Bug};
use dms_tests::sim::scenario::Scenario;
use dms_tests::sim::seeds;
use dms_tests::sim::story::first_difference;
use dms_tests::sim::world::{self, Outcome, Telling};
use dms_tests::{proof, size};

/// Nodes of a world; few, because most bugs need few.
const NODES: usize = 7;
/// Seeds within which each deliberate bug must be found.
const SEEDS_PER_BUG: u64 = 60;

#[track_caller]
fn assert_kept(scenario: &Scenario, outcome: &Outcome) {
    let (seed, nodes) = (scenario.seed, scenario.nodes.len());
    if let Some(breach) = &outcome.breach {
        panic!("{breach}\nsee it: make sim SEED={seed} NODES={nodes} TRACE=1\n{scenario}");
    }
    assert_eq!(outcome.rejected_gossip, 0, "honest gossip was called wrong; seed {seed}, {nodes} nodes");
}

#[test]
fn every_promise_is_kept_whatever_goes_wrong() {
    let seeds = size(50, 1_000) as u64;
    let began = Instant::now();
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    let mut lasted = 0.0;
    for seed in 0..seeds {
        let scenario = Scenario::of_seed(seed, NODES);
        let outcome = world::run(&scenario, Telling::Digest);
        assert_kept(&scenario, &outcome);
        lasted += outcome.lasted.as_secs_f64();
        let it = outcome.summary;
        for (name, count) in [
            ("events", it.events),
            ("jobs", it.jobs_submitted),
            ("attempts", it.attempts),
            ("runs", it.runs),
            ("locks", it.locks),
            ("crashes", it.crashes),
            ("restarts", it.restarts),
        ] {
            *sums.entry(name).or_default() += count;
        }
    }
    // Worlds in which nothing happens prove nothing.
    for (name, least) in [("jobs", 5), ("attempts", 5), ("crashes", 1), ("restarts", 1)] {
        assert!(sums[name] >= least * seeds, "{name}: {sums:?}");
    }
    let sums: Vec<String> = sums.iter().map(|(name, count)| format!("{count} {name}")).collect();
    proof(&format!(
        "worlds: {seeds} seeds of {NODES} nodes, {}; 0 breaches, all jobs ended; {lasted:.0} s in {:.0} s",
        sums.join(", "),
        began.elapsed().as_secs_f64()
    ));
}

#[test]
fn a_seed_is_one_run_byte_for_byte() {
    for seed in [3, 8, 9] {
        let scenario = Scenario::of_seed(seed, NODES);
        let [one, other] = [0, 1].map(|_| world::run(&scenario, Telling::Whole));
        let difference = first_difference(one.story.log(), other.story.log());
        assert!(difference.is_none(), "seed {seed}: {difference:?}");
        assert_eq!(one.story.digest(), other.story.digest(), "seed {seed}");
        assert!(one.story.log().len() > 10_000, "seed {seed} tells of little");
    }
    let digests =
        [1, 2].map(|seed| world::run(&Scenario::of_seed(seed, NODES), Telling::Digest).story.digest());
    assert_ne!(digests[0], digests[1], "another seed is another run");
}

#[test]
fn what_once_broke_stays_mended() {
    let kept = seeds::load_all(&seeds::directory()).expect("the kept seeds can be read");
    for regression in &kept {
        let outcome = world::run(&regression.scenario, Telling::Digest);
        assert_kept(&regression.scenario, &outcome);
    }
    proof(&format!("worlds: {} that once broke a promise keep it", kept.len()));
}

#[test]
fn the_judge_finds_every_deliberate_bug() {
    let mut found = Vec::new();
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let _made = sabotage::make(bug);
        let breach = (0..SEEDS_PER_BUG).find_map(|seed| {
            let outcome = world::run(&Scenario::of_seed(seed, NODES), Telling::Digest);
            outcome.breach.map(|breach| (seed, breach))
        });
        match breach {
            Some((seed, breach)) => found.push(format!("{bug:?} by {} in seed {seed}", breach.rule)),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS_PER_BUG} seeds: {missed:?}; found: {found:#?}");
    proof(&format!("worlds: {} deliberate bugs, all found: {}", found.len(), found.join(", ")));
}
