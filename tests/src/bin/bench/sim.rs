//! How fast the proving ground is, and the large world: a thousand nodes for an hour.

use std::time::Instant;

use anyhow::{Context, ensure};
use dms_tests::sim::scenario::Scenario;
use dms_tests::sim::world::{self, Telling};

use crate::report::Figure;

/// Seeds of small worlds.
const SEEDS: u64 = 50;
/// Nodes of a small world, and of the large one.
const NODES: [usize; 2] = [7, 1_000];
/// Jobs of the large world, and its virtual minutes.
const LARGE: (usize, u64) = (10_000, 60);
/// The seed of the large world.
const LARGE_SEED: u64 = 1;

/// The group `sim`.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut figures = vec![small()?];
    figures.extend(large()?);
    Ok(figures)
}

fn small() -> anyhow::Result<Figure> {
    let began = Instant::now();
    let mut lasted = 0.0;
    for seed in 0..SEEDS {
        let outcome = world::run(&Scenario::of_seed(seed, NODES[0]), Telling::Digest);
        ensure!(outcome.breach.is_none(), "seed {seed} breaks a promise: {:?}", outcome.breach);
        lasted += outcome.lasted.as_secs_f64();
    }
    let speed = lasted / began.elapsed().as_secs_f64();
    Ok(Figure::new("sim_speed", speed, "x real time").bar("value >= 100", speed >= 100.0).means(format!(
        "{SEEDS} seeds of {} nodes, {lasted:.0} s of virtual time, on one core, every invariant checked",
        NODES[0]
    )))
}

fn large() -> anyhow::Result<Vec<Figure>> {
    let (jobs, minutes) = LARGE;
    let scenario = Scenario::large(LARGE_SEED, NODES[1], jobs, minutes);
    let began = Instant::now();
    let outcome = world::run(&scenario, Telling::Digest);
    let took = began.elapsed().as_secs_f64() / 60.0;
    let breaches = usize::from(outcome.breach.is_some());
    if let Some(breach) = &outcome.breach {
        println!("the large world breaks a promise: {breach}");
    }
    let settled = outcome.settled.as_secs_f64();
    let gib = peak_memory()?;
    let it = outcome.summary;
    Ok(vec![
        Figure::new("sim_large", took, "min").bar("value <= 15", took <= 15.0).means(format!(
            "{} nodes for {minutes} virtual minutes, {jobs} jobs, 5 % loss, 0 to 500 ms delay, a tenth of the nodes \
             crashing, three partitions; on one core: {} events, {} attempts, {} runs, {} locks, {} crashes",
            NODES[1], it.events, it.attempts, it.runs, it.locks, it.crashes
        )),
        Figure::new("sim_large_breaches", breaches as f64, "breaches").bar("value <= 0", breaches == 0),
        Figure::new("sim_large_settled", settled, "s").bar("value <= 300", settled <= 300.0).means(
            "virtual time from the last fault until every job had ended, all capacity was free and all books agreed",
        ),
        Figure::new("sim_large_memory", gib, "GiB").bar("value <= 8", gib <= 8.0).means("peak resident memory"),
    ])
}

/// The most memory that this process has had, in GiB.
fn peak_memory() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("no /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1_048_576.0)
}
