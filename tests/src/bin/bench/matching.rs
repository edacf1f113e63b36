//! What a node's own decisions cost.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use dms_messages::{
    Benchmark, BidRequestId, CpuMillis, Did, ExecutorKind, Keypair, MemoryMib, Millis, Price, Requirement,
    Resources,
};
use dms_node::orchestrator::comparator::{
    BenchmarkRule, Candidate, Comparator, Exclude, Executors, Expression, Labels, Load, Location, PriceRule,
    Reputation, ReputationRule, Request, ResourcesRule, Rule,
};

use crate::report::Figure;

/// Candidates of one ranking.
const CANDIDATES: usize = 10_000;
/// How often they are ranked; the quickest counts, as with any figure that others on the machine only make worse.
const ROUNDS: usize = 10;
/// Keys that the candidates have: what a key is costs nothing to compare, and to make one does.
const KEYS: usize = 100;

/// Nine rules that all accept, and two expressions: everybody goes through all of them.
fn chain() -> anyhow::Result<Comparator> {
    let excluded = (200..=255).map(|seed| Keypair::from_secret(&[seed; 32]).did()).collect();
    let places = ["CH", "DE", "eu-west"].map(str::to_owned).to_vec();
    let rules: Vec<Arc<dyn Rule>> = vec![
        Arc::new(ResourcesRule),
        Arc::new(PriceRule { max: Some(Price(u64::MAX)) }),
        Arc::new(Load { max: 1000 }),
        Arc::new(ReputationRule { minimum: 100 }),
        Arc::new(Exclude(excluded)),
        Arc::new(Executors(BTreeSet::from([ExecutorKind::Wasm]))),
        Arc::new(BenchmarkRule {
            minimum: [(dms_messages::Figure::Wasm, 1)].into(),
            by: dms_messages::Figure::Wasm,
        }),
        Arc::new(Location { accept: places, reject: vec!["us".to_owned()] }),
        Arc::new(Labels { require: [("disk".to_owned(), "ssd".to_owned())].into(), ..Labels::default() }),
        Arc::new(Expression::compile("enough", "price < 5.0 && memory_mib >= needed_memory_mib")?),
        Arc::new(Expression::compile("value", "double(wasm) / (price + 0.01)")?),
    ];
    Ok(Comparator::new(rules, &["value", "price", "reputation"])?)
}

/// The group `node`.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let dids: Vec<Did> = (0..KEYS).map(|seed| Keypair::from_secret(&[seed as u8; 32]).did()).collect();
    let resources: Vec<Resources> = (0..CANDIDATES as u64)
        .map(|n| Resources {
            cpu: CpuMillis(2000 + n % 7),
            memory: MemoryMib(1024 + n),
            ..Resources::default()
        })
        .collect();
    let executors = BTreeSet::from([ExecutorKind::Wasm]);
    let labels: BTreeMap<String, String> = [("disk".to_owned(), "ssd".to_owned())].into();
    let candidates: Vec<Candidate<'_>> = resources
        .iter()
        .enumerate()
        .map(|(n, resources)| Candidate {
            did: dids[n % KEYS],
            resources,
            price: Price(1_000_000 + (n as u64 * 7919) % 1_000_000),
            fit: Some((n % 1000) as u16),
            executors: Some(&executors),
            location: Some(["CH", "DE", "eu-west"][n % 3]),
            labels: &labels,
            benchmark: Some(Benchmark { wasm: 100 + (n % 400) as u32, ..Benchmark::default() }),
            load: Some((n % 900) as u16),
            reputation: Reputation { well: (n % 50) as u32, badly: 1 },
        })
        .collect();
    let requirement = Requirement { cpu: CpuMillis(1000), memory: MemoryMib(512), ..Requirement::default() };
    let request = Request { requirement: &requirement, run_time: Millis(60_000), max_price: None };
    let chain = chain()?;
    let id = BidRequestId::from_random([7; 16]);
    let rank = |chain: &Comparator| -> anyhow::Result<f64> {
        let mut quickest: Option<f64> = None;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let (ranked, refused) = black_box(chain.rank(id, &request, black_box(&candidates)));
            let spent = start.elapsed().as_secs_f64() * 1e3;
            ensure!(
                ranked.len() == CANDIDATES && refused.is_empty(),
                "everybody is accepted: {:?}",
                refused.first()
            );
            quickest = Some(quickest.map_or(spent, |before| before.min(spent)));
        }
        quickest.context("nothing was measured")
    };
    let default = rank(&Comparator::default())?;
    let whole = rank(&chain)?;
    Ok(vec![
        Figure::new("match_10k", whole, "ms").bar("value <= 10", whole <= 10.0).means(format!(
            "{CANDIDATES} nodes judged and ranked by nine rules that accept them all and two CEL expressions, both computed for each; without the expressions, by the default rules, {default:.1} ms"
        )),
    ])
}
