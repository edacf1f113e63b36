//! Figures as JSON lines, and `BENCHMARKS.md`: one section per group, each with the run that it is from.
//!
//! The file is read only to keep the sections of groups that did not run; what a section holds is not understood.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

/// How the workspace is compiled; the one profile that it has.
pub(crate) const PROFILE: &str = "dev (dependencies optimised at level 2, our crates at level 1)";
/// What the file begins with.
const HEAD: &str = "# Benchmarks\n\n\
    Written by `make bench`; edits are lost. Each section says when, where and of what it was measured. `time_vs_x` is our\n\
    time over x's, `rate_vs_x` our rate over x's, `size_vs_x` our size over x's, all of the same run. `make bench NAME=job`\n\
    shows one group and writes nothing; the groups `actors`, `remote`, `remote_runs`, `sim` and `build` run, and are written, only\n\
    when they are named (`make bench NAME=actors`).\n";

/// What a figure should be at least or at most.
#[derive(Debug, Clone)]
struct Bar {
    text: String,
    is_met: bool,
}

/// One measured number.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    bench: String,
    value: f64,
    unit: String,
    /// Our value over another's, by name.
    ratios: Vec<(String, f64)>,
    bar: Option<Bar>,
    means: String,
    /// The line of the program that measured it, if it was another one: it may say more.
    line: Option<String>,
}

impl Figure {
    /// A number with its unit.
    pub(crate) fn new(bench: &str, value: f64, unit: &str) -> Self {
        let (bench, unit) = (bench.to_owned(), unit.to_owned());
        Self { bench, value, unit, ratios: Vec::new(), bar: None, means: String::new(), line: None }
    }

    /// Reads the line of another program.
    pub(crate) fn read(line: &str) -> anyhow::Result<Self> {
        let fields: BTreeMap<String, Value> = serde_json::from_str(line)?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        // What could not be measured is null.
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let value = number(fields.get("value").context("it has no value")?);
        let mut figure =
            Self::new(text("bench").context("it has no name")?, value, text("unit").unwrap_or(""));
        let is_ratio = |name: &str| name.contains("_vs_");
        let ratios = fields.iter().filter(|(name, _)| is_ratio(name));
        figure.ratios = ratios.map(|(name, ratio)| (name.clone(), number(ratio))).collect();
        figure.bar = text("bar").map(|bar| Bar {
            text: bar.to_owned(),
            is_met: fields.get("met").and_then(Value::as_bool).unwrap_or(false),
        });
        figure.line = Some(line.to_owned());
        Ok(figure)
    }

    /// Says what it is over another of the same run.
    pub(crate) fn beside(mut self, ratio: &str, other: f64) -> Self {
        self.ratios.push((ratio.to_owned(), self.value / other));
        self
    }

    /// Says what it should be, and whether it is.
    pub(crate) fn bar(mut self, text: &str, is_met: bool) -> Self {
        self.bar = Some(Bar { text: text.to_owned(), is_met });
        self
    }

    /// Says what was done to get it.
    pub(crate) fn means(mut self, text: impl Into<String>) -> Self {
        self.means = text.into();
        self
    }

    /// The bar that it misses.
    pub(crate) fn missed(&self) -> Option<String> {
        let bar = self.bar.as_ref().filter(|bar| !bar.is_met)?;
        Some(format!("{} misses {}: {}", self.bench, bar.text, self.json()))
    }

    /// One line for programs.
    pub(crate) fn json(&self) -> String {
        if let Some(line) = &self.line {
            return line.clone();
        }
        let mut line = format!(
            "{{\"bench\":\"{}\",\"value\":{},\"unit\":\"{}\"",
            self.bench,
            short(self.value),
            self.unit
        );
        for (name, ratio) in &self.ratios {
            // Writing to a string does not fail.
            let _ = write!(line, ",\"{name}\":{}", short(*ratio));
        }
        if let Some(bar) = &self.bar {
            let _ = write!(line, ",\"bar\":\"{}\",\"met\":{}", bar.text, bar.is_met);
        }
        line.push('}');
        line
    }

    fn row(&self) -> String {
        let mut beside: Vec<String> =
            self.ratios.iter().map(|(name, ratio)| format!("{name} {}", short(*ratio))).collect();
        if let Some(bar) = &self.bar {
            beside.push(format!("bar {}: {}", bar.text, if bar.is_met { "met" } else { "**missed**" }));
        }
        let (bench, value, unit) = (&self.bench, short(self.value), &self.unit);
        format!("| `{bench}` | {value} {unit} | {} | {} |\n", beside.join(", "), self.means)
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value {
        value if !value.is_finite() => "null".to_owned(),
        value if value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// The smallest of `values` that `part` of them do not exceed; not a number if there are none.
pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// What was measured together.
pub(crate) struct Measured {
    pub(crate) group: &'static str,
    /// How it was compiled.
    pub(crate) profile: String,
    pub(crate) figures: Vec<Figure>,
}

/// Rewrites the sections of `measured` groups in `BENCHMARKS.md`.
pub(crate) fn write<'a>(measured: impl IntoIterator<Item = &'a Measured>) -> anyhow::Result<()> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join("BENCHMARKS.md");
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    let section = |of: &Measured| (of.group.to_owned(), section(&this_run(&of.profile), &of.figures));
    let new = measured.into_iter().map(section).collect();
    std::fs::write(&path, merged(&old, new)).with_context(|| format!("cannot write {}", path.display()))
}

fn section(run: &str, figures: &[Figure]) -> String {
    let rows: String = figures.iter().map(Figure::row).collect();
    let lines: String = figures.iter().map(|figure| figure.json() + "\n").collect();
    format!(
        "\n{run}\n\n| figure | value | beside | what was measured |\n|---|---|---|---|\n{rows}\n```json\n{lines}```\n"
    )
}

/// The new sections, and the old ones of groups that have no new one, by name.
fn merged(old: &str, new: BTreeMap<String, String>) -> String {
    let old_sections = old.split("\n## ").skip(1).filter_map(|text| text.split_once('\n'));
    let mut sections: BTreeMap<String, String> = old_sections
        .map(|(name, text)| (name.trim().to_owned(), format!("{}\n", text.trim_end_matches('\n'))))
        .collect();
    sections.extend(new);
    let sections: String = sections.iter().map(|(name, text)| format!("\n## {name}\n{text}")).collect();
    format!("{HEAD}{sections}")
}

/// When, of what and where.
fn this_run(profile: &str) -> String {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
        text.map(|text| String::from_utf8_lossy(&text).trim().to_owned()).filter(|text| !text.is_empty())
    };
    let unknown = || "unknown".to_owned();
    let date = said("date", &["-u", "+%Y-%m-%d"]).unwrap_or_else(unknown);
    let commit = said("git", &["describe", "--always", "--dirty", "--exclude", "*"]).unwrap_or_else(unknown);
    let system = said("uname", &["-srm"]).unwrap_or_else(unknown);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line_of = |text: String, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).and_then(|line| line.split_once(':'));
        line.map(|(_, value)| value.trim().to_owned())
    };
    let processor =
        line_of(read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "processor unknown".to_owned());
    let memory = line_of(read("/proc/meminfo"), "MemTotal").unwrap_or_else(|| "memory unknown".to_owned());
    let disk =
        said("df", &["--output=fstype", "/var/tmp"]).and_then(|text| text.lines().last().map(str::to_owned));
    let disk = disk.unwrap_or_else(|| "file system unknown".to_owned());
    let load = read("/proc/loadavg").split_whitespace().nth(1).unwrap_or("unknown").to_owned();
    format!(
        "{date}, commit `{commit}`, profile {profile}.\n{processor}, {cores} cores, {memory}, {disk}, {system}; \
         load over 5 minutes {load}."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_members_of_what_was_measured() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        for (part, expected) in [(0.5, 100.0), (0.99, 198.0), (1.0, 200.0), (0.0, 1.0)] {
            assert_eq!(percentile(&values, part), expected, "{part}");
        }
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_figure_is_one_json_line() {
        let figure = Figure::new("x_p50", 12.345, "ms").beside("time_vs_y", 4.0);
        assert_eq!(figure.json(), r#"{"bench":"x_p50","value":12.3,"unit":"ms","time_vs_y":3.09}"#);
        assert_eq!(Figure::new("x", f64::NAN, "ms").json(), r#"{"bench":"x","value":null,"unit":"ms"}"#);
    }

    #[test]
    fn the_line_of_another_program_is_kept_and_its_bar_is_read() {
        let line =
            r#"{"bench":"x","value":76,"unit":"ns","time_vs_y":1.6,"bar":"time_vs_y <= 1.5","met":false}"#;
        let figure = Figure::read(line).unwrap().means("how");
        assert_eq!(figure.json(), line);
        assert_eq!(
            figure.row(),
            "| `x` | 76.0 ns | time_vs_y 1.60, bar time_vs_y <= 1.5: **missed** | how |\n"
        );
        assert!(figure.missed().unwrap().starts_with("x misses time_vs_y <= 1.5"));
        assert!(Figure::read(&line.replace("false", "true")).unwrap().missed().is_none());
        assert!(Figure::read("{}").is_err());
    }

    #[test]
    fn a_group_that_did_not_run_keeps_its_section() {
        let section = |text: &str| format!("\n{text}\n");
        let first =
            merged("", BTreeMap::from([("build".into(), section("old")), ("job".into(), section("1"))]));
        let second = merged(&first, BTreeMap::from([("job".into(), section("2"))]));
        assert!(second.contains("## build\n\nold\n") && second.contains("## job\n\n2\n"), "{second}");
        assert!(!second.contains("\n1\n"));
        assert_eq!(merged(&second, BTreeMap::new()), second, "nothing moves when nothing was measured");
    }
}
