//! Whether what a machine says of its speed is the same again: five benchmarks in a row, as a person would ask for them.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use dms_node::benchmark::Figure as Kind;
use serde_json::Value;

use crate::mesh;
use crate::report::Figure;

/// How often everything is measured.
const RUNS: usize = 5;
/// The most that the runs of a figure should differ, in percent of their median.
const SPREAD: f64 = 5.0;
/// The longest that one benchmark should take, in seconds.
const SECONDS: f64 = 20.0;

/// What the system under the benchmark is asked for by itself, too: where that differs as much from run to run, it is the
/// machine that does.
const BARE: [Kind; 3] = [Kind::Memory, Kind::DiskWrite, Kind::DiskSyncs];
/// How long a bare loop takes, and the windows whose rates are compared.
const BARE_TIME: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_millis(50);

/// (max − min) / median in percent, and the median.
fn spread(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    ((values[values.len() - 1] - values[0]) / median * 100.0, median)
}

/// How often a second the calls of a figure succeed: the median of the best quarter, as in the benchmark.
fn bare_loop(kind: Kind, directory: &Path) -> anyhow::Result<f64> {
    if kind == Kind::Memory {
        return Ok(bare_copies());
    }
    let mut file = tempfile::tempfile_in(directory)?;
    let bytes = vec![0x5a; if kind == Kind::DiskSyncs { 4096 } else { 32 << 20 }];
    let (begun, mut rates) = (Instant::now(), Vec::new());
    while begun.elapsed() < BARE_TIME {
        let (start, mut count) = (Instant::now(), 0.0);
        while start.elapsed() < WINDOW {
            if file.stream_position()? >= 256 << 20 {
                file.rewind()?;
            }
            file.write_all(&bytes)?;
            file.sync_data()?;
            count += 1.0;
        }
        rates.push(count / start.elapsed().as_secs_f64());
    }
    Ok(best_quarter(rates))
}

fn best_quarter(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(|a, b| b.total_cmp(a));
    rates[rates.len().div_ceil(4) / 2]
}

/// How often a second 4 MiB are copied by all cores together, between buffers of 128 MiB.
fn bare_copies() -> f64 {
    const PIECE: usize = 4 << 20;
    let (copies, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let copy = || {
        let (from, mut to) = (vec![1_u8; 32 * PIECE], vec![2_u8; 32 * PIECE]);
        for at in (0..32).cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
            let place = at * PIECE..(at + 1) * PIECE;
            to[place.clone()].copy_from_slice(black_box(&from[place]));
            black_box(&mut to);
            copies.fetch_add(1, Ordering::Relaxed);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        (0..cores).for_each(|_| drop(scope.spawn(copy)));
        let (begun, mut rates) = (Instant::now(), Vec::new());
        while begun.elapsed() < BARE_TIME {
            let (start, before) = (Instant::now(), copies.load(Ordering::Relaxed));
            rest();
            let count = copies.load(Ordering::Relaxed) - before;
            rates.push(count as f64 / start.elapsed().as_secs_f64());
        }
        is_over.store(true, Ordering::Relaxed);
        best_quarter(rates)
    })
}

#[expect(clippy::disallowed_methods, reason = "it rests between two looks at what other threads do")]
fn rest() {
    std::thread::sleep(WINDOW);
}

/// The group `node`: the spread of each figure over the runs, and how long one of them takes.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let directory = tempfile::tempdir()?;
    let (mut values, mut seconds) = (vec![Vec::new(); Kind::ALL.len()], Vec::new());
    let mut bare: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
    for _ in 0..RUNS {
        for kind in BARE {
            bare.entry(kind).or_default().push(bare_loop(kind, directory.path())?);
        }
        let started = Instant::now();
        let output = mesh::dms(directory.path())
            .args(["capability", "benchmark", "--dry-run", "--json"])
            .output()
            .context("the program can be run")?;
        seconds.push(started.elapsed().as_secs_f64());
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        for (kind, values) in Kind::ALL.iter().zip(&mut values) {
            let name = serde_json::to_value(kind)?;
            let name = name.as_str().context("a figure has a name")?;
            values.push(answer["after"][name].as_f64().with_context(|| format!("no {name} in {answer}"))?);
        }
    }
    let mut figures = Vec::new();
    for (kind, mut values) in Kind::ALL.into_iter().zip(values) {
        let (spread, median) = spread(&mut values);
        let name = format!("benchmark_spread_{}", kind.name().replace(' ', "_"));
        let means = format!(
            "(max − min) / median of {RUNS} runs of `dms capability benchmark`; the median is {}",
            kind.text(median as u32)
        );
        let figure = Figure::new(&name, spread, "%").bar("≤ 5 %", spread <= SPREAD);
        figures.push(match bare.get_mut(&kind) {
            Some(bare) => {
                let (bare, _) = self::spread(bare);
                figure
                    .means(format!("{means}; a bare loop that does the same, in turn with them: {bare:.1} %"))
            }
            None => figure.means(means),
        });
    }
    seconds.sort_by(f64::total_cmp);
    let seconds = seconds[RUNS / 2];
    let total = Figure::new("benchmark_seconds", seconds, "s");
    figures
        .push(total.bar("< 20 s", seconds < SECONDS).means("one whole benchmark; median of the same runs"));
    Ok(figures)
}
