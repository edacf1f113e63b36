//! The group `actors`: every local figure, ours beside the others, with its bar.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::figures::measure;
use super::ours::Ours;
use super::with_tokio::Tokio;
use crate::figure::Figure;
use crate::rounds::{self, Rounds, Sample};

/// Whose figures are taken, in turns.
const WHO: [&str; 4] = ["ours", "tokio", "kameo", "ractor"];

/// A figure that is a time for each operation.
struct Time {
    bench: &'static str,
    figure: &'static str,
    /// Most of our time over the floor's.
    vs_tokio: f64,
    /// Least of our rate over kameo's.
    vs_kameo: Option<f64>,
    means: &'static str,
}

const TIMES: [Time; 7] = [
    Time {
        bench: "tell_bounded",
        figure: "tell",
        vs_tokio: 1.5,
        vs_kameo: Some(3.0),
        means: "1 M tells from one producer to one actor, capacity 1024, one thread",
    },
    Time {
        bench: "ask_local",
        figure: "ask",
        vs_tokio: 1.25,
        vs_kameo: Some(1.7),
        means: "200,000 asks one after another, one thread",
    },
    Time {
        bench: "ring_hop",
        figure: "ring",
        vs_tokio: 1.35,
        vs_kameo: None,
        means: "1 M hops of one message round 1000 actors, one thread",
    },
    Time {
        bench: "fan_in_8",
        figure: "fan_in",
        vs_tokio: 1.8,
        vs_kameo: None,
        means: "8 producers, 125,000 tells each, to one actor, one thread",
    },
    Time {
        bench: "fan_in_8_two_cores",
        figure: "fan_in_two_cores",
        vs_tokio: 1.7,
        vs_kameo: None,
        means: "the same on two pinned cores",
    },
    Time {
        bench: "tell_two_cores",
        figure: "tell_two_cores",
        vs_tokio: 2.2,
        vs_kameo: Some(1.5),
        means: "1 M tells between two pinned cores",
    },
    Time {
        bench: "spawn",
        figure: "spawn",
        vs_tokio: 2.0,
        vs_kameo: None,
        means: "an actor's start and its first message, of 100,000",
    },
];

/// What the programs of the local figures do: `one FIGURE FRAMEWORK` measures, anything else is for [`group`].
pub fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["one", figure, who] => rounds::finish(&one(figure, who)?),
        ["rounds", rounds, ref wanted @ ..] => group(rounds.parse().context("how many rounds?")?, wanted),
        _ => bail!("usage: rounds COUNT [FIGURE…] | one FIGURE FRAMEWORK"),
    }
}

fn one(figure: &str, who: &str) -> anyhow::Result<Sample> {
    match who {
        "ours" => measure::<Ours>(figure),
        "tokio" => measure::<Tokio>(figure),
        #[cfg(feature = "local")]
        "kameo" => measure::<super::with_kameo::Kameo>(figure),
        #[cfg(feature = "local")]
        "ractor" => measure::<super::with_ractor::Ractor>(figure),
        _ => bail!("there is no framework {who:?} in this program"),
    }
}

/// Prints every figure, or those that are wanted.
fn group(count: usize, wanted: &[&str]) -> anyhow::Result<()> {
    let me = std::env::current_exe().context("this program has no path")?;
    let is_wanted = |bench: &str| wanted.is_empty() || wanted.contains(&bench);
    let take =
        |figure| Rounds::take(count, &WHO, |who| rounds::measure(me.as_os_str(), &["one", figure, who]));
    for time in TIMES {
        let has_memory = time.figure == "spawn";
        if is_wanted(time.bench) || has_memory && is_wanted("memory_per_actor") {
            let rounds = take(time.figure)?;
            timed(&time, &rounds).print();
            if has_memory {
                memory(&rounds).print();
            }
        }
    }
    if is_wanted("stalled_mailbox") {
        stalled(&take("stalled")?).print();
    }
    if is_wanted("timer_beside_flood") {
        flood(&take("flood")?).print();
    }
    for (bench, figure) in [("tell_instrumented", "tell"), ("ask_instrumented", "ask")] {
        if is_wanted(bench) {
            instrumented(bench, figure, count)?;
        }
    }
    Ok(())
}

fn timed(time: &Time, rounds: &Rounds) -> Figure {
    let mut figure = Figure::new(time.bench, rounds.median("ours", "ns"), "ns", time.means);
    for who in &WHO[1..] {
        figure = figure.with(format!("{who}_ns"), rounds.median(who, "ns"));
    }
    figure = figure
        .with("time_vs_tokio", rounds.ratio("ns", "ours", "tokio"))
        .with("rate_vs_kameo", rounds.ratio("ns", "kameo", "ours"))
        .with("rate_vs_ractor", rounds.ratio("ns", "ractor", "ours"))
        .at_most("time_vs_tokio", time.vs_tokio);
    match time.vs_kameo {
        Some(limit) => figure.at_least("rate_vs_kameo", limit),
        None => figure,
    }
}

fn memory(rounds: &Rounds) -> Figure {
    let means = "resident memory of an idle actor that has had one message, its reference included";
    let mut figure = Figure::new("memory_per_actor", rounds.median("ours", "bytes"), "B", means);
    for who in &WHO[1..] {
        figure = figure
            .with(format!("{who}_bytes"), rounds.median(who, "bytes"))
            .with(format!("size_vs_{who}"), rounds.ratio("bytes", "ours", who));
    }
    figure.at_most("size_vs_kameo", 0.333)
}

fn stalled(rounds: &Rounds) -> Figure {
    let means = "1 M tells, tries and asks through as many clones to an actor that takes none: how many are ever queued";
    let mut figure = Figure::new("stalled_mailbox", rounds.worst("ours", "queued"), "messages", means)
        .with("growth_mib", rounds.worst("ours", "growth_mib"));
    for who in &WHO[1..] {
        figure = figure
            .with(format!("{who}_queued"), rounds.worst(who, "queued"))
            .with(format!("{who}_growth_mib"), rounds.worst(who, "growth_mib"));
    }
    figure.at_most("value", super::CAPACITY as f64).at_most("growth_mib", 2.0)
}

fn flood(rounds: &Rounds) -> Figure {
    let means = "lateness of the latest of ten 100 ms ticks of an actor that sends to itself without end";
    let mut figure = Figure::new("timer_beside_flood", rounds.median("ours", "late_ms"), "ms", means);
    for who in &WHO[1..] {
        figure = figure.with(format!("{who}_ms"), rounds.median(who, "late_ms"));
    }
    figure.at_most("value", 10.0)
}

/// Ours beside ours without tracing and metrics; needs the two programs beside this one.
fn instrumented(bench: &'static str, figure: &str, count: usize) -> anyhow::Result<()> {
    let beside = |name: &str| -> anyhow::Result<PathBuf> {
        let path = std::env::current_exe()?.with_file_name(name);
        if path.is_file() { Ok(path) } else { bail!("{bench} needs {}", path.display()) }
    };
    let programs = [("instrumented", beside("instrumented")?), ("bare", beside("bare")?)];
    let rounds = Rounds::take(count, &["instrumented", "bare"], |name| {
        let program = programs.iter().find(|(known, _)| *known == name).map(|(_, path)| path.as_os_str());
        rounds::measure(program.unwrap_or(OsStr::new(name)), &["one", figure, "ours"])
    })?;
    let means =
        "the same with tracing and metrics compiled in and nobody listening, beside a build without them";
    let figure = Figure::new(bench, rounds.median("instrumented", "ns"), "ns", means)
        .with("bare_ns", rounds.median("bare", "ns"))
        .with("time_vs_bare", rounds.ratio("ns", "instrumented", "bare"))
        .at_most("time_vs_bare", 1.1);
    figure.print();
    Ok(())
}
