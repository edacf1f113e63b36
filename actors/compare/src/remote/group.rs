//! The groups `remote` and `remote_runs`: every figure between two processes, ours beside the others, with its bar.

use anyhow::{Context, bail};

use super::floor::Floor;
use super::ours::Ours;
use super::with_kameo::Kameo;
use super::with_ractor::Ractor;
use super::{Over, Stack, load, pair, until_abandoned};
use crate::figure::Figure;
use crate::rounds::{self, Rounds};

/// Streams that kameo is allowed so that it answers 256 asks at once at all.
const MANY_STREAMS: usize = 4096;

/// What the program of the remote figures does: `serve` and `load` are the two ends of one measurement.
pub fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", stack, over] => dispatch(stack, Serve(Over::parse(over)?)),
        ["load", stack, over, figure, address] => {
            std::thread::spawn(|| {
                until_abandoned();
                std::process::exit(1)
            });
            dispatch(stack, Load { over: Over::parse(over)?, figure, address })
        }
        ["rounds", rounds, ref wanted @ ..] => group(rounds.parse().context("how many rounds?")?, wanted),
        ["runs", runs] => reliability(runs.parse().context("how many runs?")?),
        _ => bail!(
            "usage: rounds COUNT [FIGURE…] | runs COUNT | serve STACK OVER | load STACK OVER FIGURE ADDRESS"
        ),
    }
}

/// What is done with whichever stack.
trait Act {
    fn with(self, stack: impl Stack) -> anyhow::Result<()>;
}

struct Serve(Over);

impl Act for Serve {
    fn with(self, stack: impl Stack) -> anyhow::Result<()> {
        stack.serve(self.0)
    }
}

struct Load<'a> {
    over: Over,
    figure: &'a str,
    address: &'a str,
}

impl Act for Load<'_> {
    fn with(self, stack: impl Stack) -> anyhow::Result<()> {
        let figure = self.figure.to_owned();
        rounds::finish(&stack.run(self.over, self.address, |client| load::run(client, figure))?)
    }
}

fn dispatch(stack: &str, act: impl Act) -> anyhow::Result<()> {
    match stack {
        "ours" => act.with(Ours::OwnThread),
        "same_arbiter" => act.with(Ours::SameArbiter),
        "floor" => act.with(Floor),
        "kameo" => act.with(Kameo { streams: None }),
        "kameo_4096" => act.with(Kameo { streams: Some(MANY_STREAMS) }),
        "ractor" => act.with(Ractor),
        _ => bail!("there is no stack {stack:?}"),
    }
}

/// The stacks that speak over a transport, of those that are wanted.
fn who(over: Over, all: &[&'static str]) -> Vec<&'static str> {
    all.iter().copied().filter(|stack| over == Over::Tcp || *stack != "ractor").collect()
}

/// A layout of ours: its stack, and what its figures' names end in.
struct Layout {
    stack: &'static str,
    suffix: &'static str,
}

const LAYOUTS: [Layout; 2] =
    [Layout { stack: "ours", suffix: "" }, Layout { stack: "same_arbiter", suffix: "_same_arbiter" }];

fn name(figure: &str, layout: &Layout, over: Over) -> String {
    format!("{figure}{}{}", layout.suffix, if over == Over::Quic { "_quic" } else { "" })
}

/// Prints every figure, or those that are wanted.
fn group(count: usize, wanted: &[&str]) -> anyhow::Result<()> {
    let is_wanted = |figure: &str, over: Over| {
        let is_of_it = |layout| wanted.contains(&name(figure, layout, over).as_str());
        wanted.is_empty() || LAYOUTS.iter().any(is_of_it)
    };
    for over in [Over::Tcp, Over::Quic] {
        let take = |figure: &str, all: &[&'static str]| {
            let stacks: Vec<_> = LAYOUTS.iter().map(|layout| layout.stack).chain(who(over, all)).collect();
            Rounds::take(count, &stacks, |stack| pair::measure(stack, over, figure))
        };
        if is_wanted("remote_ask_p50", over) {
            let rounds = take("sequential", &["kameo", "ractor", "floor"])?;
            LAYOUTS.iter().for_each(|layout| sequential(&rounds, over, layout).print());
        }
        if is_wanted("remote_ask_64", over) {
            let rounds = take("in_flight_64", &["kameo", "ractor", "floor"])?;
            LAYOUTS.iter().for_each(|layout| in_flight_64(&rounds, over, layout).print());
        }
        if is_wanted("remote_ask_256", over) {
            let rounds = take("in_flight_256", &["kameo_4096", "kameo", "ractor", "floor"])?;
            LAYOUTS.iter().for_each(|layout| in_flight_256(&rounds, over, layout).print());
        }
        if is_wanted("remote_tell_burst", over) {
            let rounds = take("burst", &["kameo", "ractor"])?;
            LAYOUTS.iter().for_each(|layout| burst(&rounds, over, layout).print());
        }
    }
    Ok(())
}

fn sequential(rounds: &Rounds, over: Over, layout: &Layout) -> Figure {
    let means = "p50 of 4000 asks one after another, 100 bytes echoed between two processes";
    let name = name("remote_ask_p50", layout, over);
    let mut figure = Figure::new(name, rounds.median(layout.stack, "p50_us"), "us", means)
        .with("p99_us", rounds.median(layout.stack, "p99_us"))
        .with("errors", rounds.sum(layout.stack, "errors"));
    for stack in who(over, &["kameo", "ractor", "floor"]) {
        figure = figure
            .with(format!("{stack}_us"), rounds.median(stack, "p50_us"))
            .with(format!("time_vs_{stack}"), rounds.ratio("p50_us", layout.stack, stack));
    }
    figure.at_most("time_vs_kameo", 0.5).at_most("errors", 0.0)
}

/// Rates of a layout beside those of others.
fn rates(mut figure: Figure, rounds: &Rounds, layout: &Layout, stacks: &[&str]) -> Figure {
    for stack in stacks {
        figure = figure
            .with(format!("{stack}_rate"), rounds.median(stack, "rate"))
            .with(format!("rate_vs_{stack}"), rounds.ratio("rate", layout.stack, stack));
    }
    figure
}

fn in_flight_64(rounds: &Rounds, over: Over, layout: &Layout) -> Figure {
    let means = "asks answered in a second with 64 in flight, 100 bytes echoed between two processes";
    let name = name("remote_ask_64", layout, over);
    let figure = Figure::new(name, rounds.median(layout.stack, "rate"), "ask/s", means);
    let figure = rates(figure, rounds, layout, &who(over, &["kameo", "ractor", "floor"]));
    match (layout.suffix, over) {
        ("", Over::Tcp) => figure
            .at_least("rate_vs_kameo", 5.0)
            .at_least("rate_vs_ractor", 1.3)
            .at_least("rate_vs_floor", 0.6),
        ("", Over::Quic) => figure.at_least("rate_vs_kameo", 4.0),
        (_, Over::Tcp) => figure.at_least("rate_vs_kameo", 12.0),
        (_, Over::Quic) => figure.at_least("rate_vs_kameo", 8.0),
    }
}

fn in_flight_256(rounds: &Rounds, over: Over, layout: &Layout) -> Figure {
    let means =
        "the same with 256 in flight; kameo with 4096 streams, and its errors in percent at its default";
    let name = name("remote_ask_256", layout, over);
    let figure = Figure::new(name, rounds.median(layout.stack, "rate"), "ask/s", means)
        .with("errors", rounds.sum(layout.stack, "errors"))
        .with("kameo_error_percent", error_percent(rounds, "kameo"));
    let figure = rates(figure, rounds, layout, &who(over, &["kameo_4096", "ractor", "floor"]));
    let figure = figure.at_most("errors", 0.0);
    match over {
        Over::Tcp => figure.at_least("rate_vs_kameo_4096", 6.0),
        Over::Quic => figure,
    }
}

fn error_percent(rounds: &Rounds, stack: &str) -> f64 {
    let (errors, answered) = (rounds.sum(stack, "errors"), rounds.sum(stack, "answered"));
    errors / (errors + answered) * 100.0
}

fn burst(rounds: &Rounds, over: Over, layout: &Layout) -> Figure {
    let means = "20,000 tells of 100 bytes in one burst; `lost` and `out_of_order` are the worst of all runs, the growth is the sender's";
    let name = name("remote_tell_burst", layout, over);
    let mut figure = Figure::new(name, rounds.median(layout.stack, "rate"), "tell/s", means)
        .with("lost", rounds.worst(layout.stack, "lost"))
        .with("out_of_order", rounds.worst(layout.stack, "out_of_order"))
        .with("growth_mib", rounds.worst(layout.stack, "growth_mib"));
    for stack in who(over, &["kameo", "ractor"]) {
        for number in ["rate", "lost", "out_of_order", "growth_mib"] {
            figure = figure.with(format!("{stack}_{number}"), rounds.median(stack, number));
        }
    }
    figure.at_most("lost", 0.0).at_most("out_of_order", 0.0).at_most("growth_mib", 4.0)
}

/// Runs that only have to end, one after another, and peers that are killed.
fn reliability(runs: usize) -> anyhow::Result<()> {
    for over in [Over::Tcp, Over::Quic] {
        let (mut hung, mut lost, mut slowest) = (0, 0.0, 0.0_f64);
        for run in 0..runs {
            match pair::measure("ours", over, "loaded") {
                Ok(sample) => {
                    lost += sample["lost"];
                    slowest = slowest.max(sample["seconds"]);
                }
                Err(error) => {
                    eprintln!("run {run}: {error:#}");
                    hung += 1;
                }
            }
        }
        let suffix = if over == Over::Quic { "_quic" } else { "" };
        let means =
            "consecutive runs of two processes with 5000 asks, 64 in flight, and 2000 tells meanwhile";
        let figure = Figure::new(format!("remote_runs{suffix}"), runs as f64, "runs", means)
            .with("hung", f64::from(hung))
            .with("lost", lost)
            .with("slowest_s", slowest)
            .at_least("value", 200.0)
            .at_most("hung", 0.0)
            .at_most("lost", 0.0);
        figure.print();

        let kills =
            Rounds::take((runs / 20).max(1), &["ours"], |stack| pair::measure(stack, over, "killed"))?;
        let means =
            "the longest time from a peer's kill until each of 64 asks that waited for it had its outcome";
        let figure =
            Figure::new(format!("remote_peer_kill{suffix}"), kills.worst("ours", "seconds"), "s", means)
                .with("unresolved", kills.sum("ours", "unresolved"))
                .at_most("value", 10.0)
                .at_most("unresolved", 0.0);
        figure.print();
    }
    Ok(())
}
