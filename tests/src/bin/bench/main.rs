//! Measures what the mesh promises about time and size: `make bench`, `make bench NAME=job`.
//!
//! One JSON line per figure goes to standard output, each beside a floor or a peer measured in the same run.
//! Without a name every group but the slow one runs and `BENCHMARKS.md` is rewritten; a group that did not run
//! keeps what it had. It decides nothing: no test depends on a figure. The nodes it starts end with it.

mod build;
mod disk;
mod idle;
mod job;
mod mesh;
mod report;

use std::process::ExitCode;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::report::Figure;

/// What is measured together. The names are those of `make bench NAME=…`.
const GROUPS: [(&str, Cost); 4] =
    [("job", Cost::Minutes), ("idle", Cost::Minutes), ("crates", Cost::Minutes), ("build", Cost::Long)];

/// Whether a group belongs to a run without a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// It does.
    Minutes,
    /// Only when it is named: it compiles everything from nothing.
    Long,
}

#[tokio::main]
async fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let ended = tokio::select! {
        biased;
        ended = run(&names) => ended,
        stopped = stopped() => stopped,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends with an error when a person or the system wants an end: what was started is then dropped, and so killed.
async fn stopped() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for signals")?,
        _ = terminate.recv() => {}
    }
    bail!("stopped; nothing was written")
}

async fn run(names: &[String]) -> anyhow::Result<()> {
    let is_known = |name: &String| GROUPS.iter().any(|(known, _)| known == name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
        bail!("there is no group {unknown:?}; there are {}", known.join(", "));
    }
    let is_wanted = |name: &str, cost| match names {
        [] => cost == Cost::Minutes,
        names => names.iter().any(|wanted| wanted == name),
    };
    let mut measured = Vec::new();
    for (name, _) in GROUPS.into_iter().filter(|(name, cost)| is_wanted(name, *cost)) {
        let figures = measure(name).await.with_context(|| format!("group {name}"))?;
        figures.iter().for_each(|figure| println!("{}", figure.json()));
        measured.push((name, figures));
    }
    // A single group is a look; only the whole run, and the one that is never part of it, is written down.
    if names.is_empty() || names.iter().any(|name| name == "build") {
        report::write(&measured)?;
    }
    Ok(())
}

async fn measure(group: &str) -> anyhow::Result<Vec<Figure>> {
    match group {
        "job" => job::measure().await,
        "idle" => idle::measure().await,
        "crates" => build::crate_count(),
        "build" => build::measure(),
        _ => bail!("it is listed and not known"),
    }
}
