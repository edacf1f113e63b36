//! What `make sim` runs: simulated worlds by their seeds, one world told as a story, or a scenario from a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Parser;
use dms_tests::sim::scenario::Scenario;
use dms_tests::sim::seeds::{self, Regression};
use dms_tests::sim::story::Filter;
use dms_tests::sim::world::{self, Outcome, Telling};

/// Runs simulated worlds: whole nodes in virtual time, with faults by a seed.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 50)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many nodes each world has.
    #[arg(long, default_value_t = 7)]
    nodes: usize,
    /// Runs this one seed, and prints its scenario.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Runs the scenario in this file instead of one made from a seed.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "first", "nodes"])]
    file: Option<PathBuf>,
    /// Runs the large world: this many jobs in an hour of virtual time.
    #[arg(long, requires = "seed")]
    large: Option<usize>,
    /// Tells what happens, line by line, and draws who talked to whom to `sim-SEED.svg`.
    #[arg(long)]
    trace: bool,
    /// Of the story, only what concerns this node (0 is the first).
    #[arg(long, requires = "trace")]
    node: Option<usize>,
    /// Of the story, only what concerns this job (`j1` is the first, or the beginning of its id).
    #[arg(long, requires = "trace")]
    job: Option<String>,
    /// Keeps a seed that fails as a test, in tests/seeds.
    #[arg(long)]
    keep: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let is_whole = match (&arguments.file, arguments.seed) {
        (Some(file), _) => run_one(&read(file)?, &arguments)?,
        (None, Some(seed)) => run_one(&scenario(seed, &arguments), &arguments)?,
        (None, None) => run_many(&arguments)?,
    };
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn scenario(seed: u64, arguments: &Arguments) -> Scenario {
    match arguments.large {
        Some(jobs) => Scenario::large(seed, arguments.nodes, jobs, 60),
        None => Scenario::of_seed(seed, arguments.nodes),
    }
}

fn read(file: &Path) -> anyhow::Result<Scenario> {
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let scenario: Scenario =
        toml::from_str(&text).with_context(|| format!("{} is no scenario", file.display()))?;
    let count = scenario.nodes.len();
    let strays = scenario.jobs.iter().filter(|job| job.node >= count).count();
    if count == 0 || strays > 0 {
        bail!("{} has {count} nodes, and {strays} jobs at others", file.display());
    }
    Ok(scenario)
}

/// Runs one world and tells of it; true if it kept every promise.
fn run_one(scenario: &Scenario, arguments: &Arguments) -> anyhow::Result<bool> {
    if arguments.large.is_none() {
        println!("{scenario}");
    }
    let telling = if arguments.trace { Telling::Whole } else { Telling::Digest };
    let began = Instant::now();
    let outcome = world::run(scenario, telling);
    let took = began.elapsed();
    if arguments.trace {
        let filter = Filter { node: arguments.node, job: arguments.job.clone() };
        print!("{}", outcome.story.timeline(&filter));
        let drawing = format!("sim-{}.svg", scenario.seed);
        fs::write(&drawing, outcome.story.svg()).with_context(|| format!("{drawing} cannot be written"))?;
        println!("drawn: {drawing}");
    }
    println!("{:#?}", outcome.summary);
    println!(
        "{:.1} s of virtual time in {:.2} s, {:.0} x real time; quiet {:.1} s after the last fault; digest {}",
        outcome.lasted.as_secs_f64(),
        took.as_secs_f64(),
        outcome.lasted.as_secs_f64() / took.as_secs_f64(),
        outcome.settled.as_secs_f64(),
        hex(&outcome.story.digest()),
    );
    report(scenario, &outcome, arguments)
}

/// Runs worlds of many seeds; true if all kept every promise.
fn run_many(arguments: &Arguments) -> anyhow::Result<bool> {
    let began = Instant::now();
    let (mut lasted, mut longest, mut broken) = (Duration::ZERO, (Duration::ZERO, 0), 0_u64);
    for seed in arguments.first..arguments.first.saturating_add(arguments.seeds) {
        let scenario = scenario(seed, arguments);
        let outcome = world::run(&scenario, Telling::Digest);
        lasted += outcome.lasted;
        longest = longest.max((outcome.settled, seed));
        broken += u64::from(!report(&scenario, &outcome, arguments)?);
    }
    let took = began.elapsed();
    println!(
        "{} seeds of {} nodes: {broken} broken; {:.0} s of virtual time in {:.1} s, {:.0} x real time; \
         the longest was quiet {:.1} s after its last fault (seed {})",
        arguments.seeds,
        arguments.nodes,
        lasted.as_secs_f64(),
        took.as_secs_f64(),
        lasted.as_secs_f64() / took.as_secs_f64(),
        longest.0.as_secs_f64(),
        longest.1,
    );
    Ok(broken == 0)
}

/// Says what was broken, and how to see it again; true if nothing was.
fn report(scenario: &Scenario, outcome: &Outcome, arguments: &Arguments) -> anyhow::Result<bool> {
    let Some(breach) = &outcome.breach else { return Ok(true) };
    let (seed, nodes) = (scenario.seed, scenario.nodes.len());
    println!("seed {seed} breaks a promise: {breach}");
    println!("    see it: make sim SEED={seed} NODES={nodes} TRACE=1");
    if arguments.keep {
        let regression = Regression {
            found: breach.text.clone(),
            rule: breach.rule.to_owned(),
            commit: commit(),
            scenario: scenario.clone(),
        };
        let kept = seeds::store(&seeds::directory(), &regression)?;
        println!("    kept: {}", kept.display());
    } else {
        println!("    keep it as a test: make sim SEED={seed} NODES={nodes} KEEP=1");
    }
    Ok(false)
}

/// The commit that is checked out, as far as it can be known.
fn commit() -> String {
    let asked = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let text = asked.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(|| "unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
