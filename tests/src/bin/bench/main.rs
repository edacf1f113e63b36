//! Measures what the mesh promises about time and size: `make bench`, `make bench NAME=job`.
//!
//! One JSON line per figure goes to standard output, each beside a floor or a peer measured in the same run.
//! Without a name every group but the slow ones runs and `BENCHMARKS.md` is rewritten; a slow one is written when
//! it is named, and a group that did not run keeps what it had. Bars that are missed are listed at the end; with
//! `--strict` they are a failure, without it they are not, because machines differ and no test depends on a figure.
//! The processes it starts end with it.

mod benchmark;
mod build;
mod compare;
mod disk;
mod idle;
mod job;
mod matching;
mod mesh;
mod monitor;
mod report;
mod route;
mod sim;
mod storage;
mod trust;

use std::process::ExitCode;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::report::{Figure, Measured};

/// What is measured together. The names are those of `make bench NAME=…`.
const GROUPS: [(&str, Cost); 11] = [
    ("job", Cost::Minutes),
    ("idle", Cost::Minutes),
    ("node", Cost::Minutes),
    ("storage", Cost::Minutes),
    ("trust", Cost::Minutes),
    ("crates", Cost::Minutes),
    ("build", Cost::Long),
    ("sim", Cost::Long),
    ("actors", Cost::Long),
    ("remote", Cost::Long),
    ("remote_runs", Cost::Long),
];
/// Makes a missed bar a failure.
const STRICT: &str = "--strict";

/// Whether a group belongs to a run without a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// It does.
    Minutes,
    /// Only when it is named: it compiles everything from nothing, or what we compare ourselves with.
    Long,
}

#[tokio::main]
async fn main() -> ExitCode {
    let (flags, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument == STRICT);
    let ended = tokio::select! {
        biased;
        ended = run(&names) => ended,
        stopped = stopped() => stopped,
    };
    match ended {
        Ok(0) => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("{missed} bars are missed");
            if flags.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends with an error when a person or the system wants an end: what was started is then dropped, and so killed.
async fn stopped() -> anyhow::Result<usize> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for signals")?,
        _ = terminate.recv() => {}
    }
    bail!("stopped; nothing was written")
}

/// Measures, and says how many bars are missed.
async fn run(names: &[String]) -> anyhow::Result<usize> {
    let is_known = |name: &String| GROUPS.iter().any(|(known, _)| known == name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
        bail!("there is no group {unknown:?}; there are {}", known.join(", "));
    }
    let is_wanted = |name: &str, cost| match names {
        [] => cost == Cost::Minutes,
        names => names.iter().any(|wanted| wanted == name),
    };
    let (mut measured, mut missed) = (Vec::new(), Vec::new());
    for (group, cost) in GROUPS.into_iter().filter(|(name, cost)| is_wanted(name, *cost)) {
        let (figures, profile) = measure(group).await.with_context(|| format!("group {group}"))?;
        figures.iter().for_each(|figure| println!("{}", figure.json()));
        missed.extend(figures.iter().filter_map(Figure::missed));
        measured.push((cost, Measured { group, profile, figures }));
    }
    // A quick group by itself is a look; only the whole run, and what is never part of it, is written down.
    let is_kept = |cost: Cost| names.is_empty() || cost == Cost::Long;
    if measured.iter().any(|(cost, _)| is_kept(*cost)) {
        report::write(measured.iter().filter(|(cost, _)| is_kept(*cost)).map(|(_, measured)| measured))?;
    }
    missed.iter().for_each(|missed| eprintln!("{missed}"));
    Ok(missed.len())
}

/// The figures of a group, and how what they are of was compiled.
async fn measure(group: &str) -> anyhow::Result<(Vec<Figure>, String)> {
    let dev = |figures| (figures, report::PROFILE.to_owned());
    let compared = |figures| (figures, compare::profile());
    match group {
        "job" => job::measure().await.map(dev),
        "idle" => idle::measure().await.map(dev),
        "node" => node_figures().await.map(dev),
        "storage" => storage::measure().await.map(dev),
        "trust" => tokio::task::spawn_blocking(trust::measure).await?.map(dev),
        "sim" => tokio::task::spawn_blocking(sim::measure).await?.map(dev),
        "crates" => build::crate_count().map(dev),
        "build" => build::measure().map(dev),
        "actors" => compare::actors().await.map(compared),
        "remote" => compare::remote().await.map(compared),
        "remote_runs" => compare::remote_runs().await.map(compared),
        _ => bail!("it is listed and not known"),
    }
}

/// What the parts of a node cost.
async fn node_figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = tokio::task::spawn_blocking(monitor::measure).await??;
    figures.extend(route::measure().await?);
    figures.extend(tokio::task::spawn_blocking(benchmark::measure).await??);
    figures.extend(tokio::task::spawn_blocking(matching::measure).await??);
    Ok(figures)
}
