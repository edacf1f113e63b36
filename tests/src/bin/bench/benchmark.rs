//! Whether what a machine says of its speed is the same again: five benchmarks in a row, as a person would ask for them.

use std::time::Instant;

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

/// The group `node`: the spread of each figure over the runs, and how long one of them takes.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let directory = tempfile::tempdir()?;
    let (mut values, mut seconds) = (vec![Vec::new(); Kind::ALL.len()], Vec::new());
    for _ in 0..RUNS {
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
        values.sort_by(f64::total_cmp);
        let median = values[RUNS / 2];
        let spread = (values[RUNS - 1] - values[0]) / median * 100.0;
        let name = format!("benchmark_spread_{}", kind.name().replace(' ', "_"));
        figures.push(Figure::new(&name, spread, "%").bar("≤ 5 %", spread <= SPREAD).means(format!(
            "(max − min) / median of {RUNS} runs of `dms capability benchmark`; the median is {}",
            kind.text(median as u32)
        )));
    }
    seconds.sort_by(f64::total_cmp);
    let seconds = seconds[RUNS / 2];
    let total = Figure::new("benchmark_seconds", seconds, "s");
    figures
        .push(total.bar("< 20 s", seconds < SECONDS).means("one whole benchmark; median of the same runs"));
    Ok(figures)
}
