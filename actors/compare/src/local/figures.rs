//! What is timed, the same for every framework.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Context, bail};

use super::{Cores, Countdown, Framework, Ring, Tally, Ticks, Way};
use crate::machine::{peak_resident, resident};
use crate::rounds::{Sample, sample};

/// Messages told to one actor.
const TELLS: u64 = 1_000_000;
/// Asks, one after another.
const ASKS: u64 = 200_000;
/// Actors that are started.
const SPAWNS: usize = 100_000;
/// Actors in a ring, and the hops of the one message in it.
const RING: usize = 1000;
const HOPS: u64 = 1_000_000;
/// Messages offered to an actor that takes none.
const OFFERS: u64 = 1_000_000;
/// Looks at the clock beside a flood: a second of them.
const TICKS: u32 = 10;

/// Measures one figure in this process, which should do nothing else.
pub(super) fn measure<F: Framework>(figure: &str) -> anyhow::Result<Sample> {
    match figure {
        "tell" => Ok(tell::<F>(Cores::One, 1)),
        "tell_two_cores" => Ok(tell::<F>(Cores::Two, 1)),
        "fan_in" => Ok(tell::<F>(Cores::One, 8)),
        "fan_in_two_cores" => Ok(tell::<F>(Cores::Two, 8)),
        "ask" => Ok(ask::<F>()),
        "ring" => Ok(ring::<F>()),
        "spawn" => spawn::<F>(),
        "stalled" => stalled::<F>(),
        "flood" => flood::<F>(),
        _ => bail!("there is no figure {figure:?}"),
    }
}

fn per_operation(start: Instant, count: u64) -> Sample {
    sample([("ns", start.elapsed().as_secs_f64() * 1e9 / count as f64)])
}

fn tell<F: Framework>(cores: Cores, producers: u64) -> Sample {
    F::run(cores, move |framework| async move {
        let all = Countdown::new(1);
        let sink = framework.sink(Tally::new(TELLS, &all)).await;
        let start = Instant::now();
        for _ in 0..producers {
            let sink = sink.clone();
            framework.fork(async move {
                for number in 0..TELLS / producers {
                    F::tell(&sink, number).await;
                }
            });
        }
        all.over().await;
        per_operation(start, TELLS)
    })
}

fn ask<F: Framework>() -> Sample {
    F::run(Cores::One, |framework| async move {
        let echo = framework.echo().await;
        let start = Instant::now();
        for number in 0..ASKS {
            assert_eq!(F::ask(&echo, number).await, number + 1);
        }
        per_operation(start, ASKS)
    })
}

fn ring<F: Framework>() -> Sample {
    F::run(Cores::One, |framework| async move {
        let all = Countdown::new(1);
        let members = Arc::new(OnceLock::new());
        let mut nodes = Vec::new();
        for place in 0..RING {
            nodes.push(framework.node(Ring { members: members.clone(), place }, Tally::new(1, &all)).await);
        }
        let first = nodes[0].clone();
        assert!(members.set(nodes).is_ok(), "a ring is closed once");
        let start = Instant::now();
        F::hop(&first, HOPS).await;
        all.over().await;
        per_operation(start, HOPS)
    })
}

/// Starts actors and tells each one message; their memory is what they hold when all of them are idle again.
fn spawn<F: Framework>() -> anyhow::Result<Sample> {
    F::run(Cores::One, |framework| async move {
        let all = Countdown::new(SPAWNS as u64);
        let mut sinks = Vec::with_capacity(SPAWNS);
        let (before, start) = (resident()?, Instant::now());
        for _ in 0..SPAWNS {
            sinks.push(framework.sink(Tally::new(1, &all)).await);
        }
        for sink in &sinks {
            F::tell(sink, 1).await;
        }
        all.over().await;
        let time = start.elapsed().as_secs_f64() / SPAWNS as f64;
        Ok(sample([("ns", time * 1e9), ("bytes", (resident()? - before) / SPAWNS as f64)]))
    })
}

/// Offers messages in every way, each through a clone of its own, to an actor that takes none.
fn stalled<F: Framework>() -> anyhow::Result<Sample> {
    F::run(Cores::One, |framework| async move {
        let echo = framework.stalled().await;
        let before = peak_resident()?;
        let (mut accepted, mut deepest) = (0_u64, 0);
        for number in 0..OFFERS {
            let way = [Way::Try, Way::Tell, Way::Ask][number as usize % 3];
            accepted += u64::from(F::offer(&echo.clone(), number, way).await);
            deepest = deepest.max(F::depth(&echo).unwrap_or(0));
            if number % 32 == 0 {
                // tokio lets a task that never yields find every channel full.
                tokio::task::yield_now().await;
            }
        }
        let queued = (deepest as f64).max(accepted as f64);
        Ok(sample([("queued", queued), ("growth_mib", (peak_resident()? - before) / 1024.0 / 1024.0)]))
    })
}

fn flood<F: Framework>() -> anyhow::Result<Sample> {
    F::run(Cores::One, |framework| async move {
        let (ticks, worst) = Ticks::new(TICKS);
        framework.flood(ticks).await;
        let worst = worst.await.context("the timer was lost")?;
        Ok(sample([("late_ms", worst.as_secs_f64() * 1e3)]))
    })
}
