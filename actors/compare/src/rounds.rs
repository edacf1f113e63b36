//! Rounds of measurements, one process each, and their medians.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::process::Process;

/// What one process measured: numbers by name.
pub type Sample = BTreeMap<String, f64>;

/// How long one measurement may take: a hundred times what it does take.
const DEADLINE: Duration = Duration::from_secs(120);

/// Prints what this process measured and ends it: what still runs in it has no more to say.
pub fn finish(sample: &Sample) -> ! {
    println!("{}", serde_json::json!(sample));
    std::process::exit(0)
}

/// Makes a sample of one number.
pub fn sample<const N: usize>(numbers: [(&str, f64); N]) -> Sample {
    numbers.map(|(name, number)| (name.to_owned(), number)).into()
}

/// Reads what a process printed.
pub fn parse(output: &str) -> anyhow::Result<Sample> {
    let line = output.lines().last().context("nothing was printed")?;
    let numbers: BTreeMap<String, Option<f64>> =
        serde_json::from_str(line).context("no sample was printed")?;
    Ok(numbers.into_iter().map(|(name, number)| (name, number.unwrap_or(f64::NAN))).collect())
}

/// Runs `program` with `arguments`, which prints a sample; killed when it takes too long.
pub fn measure(program: &OsStr, arguments: &[&str]) -> anyhow::Result<Sample> {
    let what = || arguments.join(" ");
    let process = Process::start(program, arguments).with_context(what)?;
    let line = process.line(Instant::now() + DEADLINE).with_context(what)?;
    process.sample(&line).with_context(what)
}

/// The samples of several frameworks, taken in turns.
#[derive(Debug, Default)]
pub struct Rounds(BTreeMap<&'static str, Vec<Sample>>);

impl Rounds {
    /// Lets `measure` be called `count` times for each of `who`, in turns.
    pub fn take(
        count: usize,
        who: &[&'static str],
        mut measure: impl FnMut(&'static str) -> anyhow::Result<Sample>,
    ) -> anyhow::Result<Self> {
        let mut rounds = Self::default();
        for round in 0..count {
            for place in 0..who.len() {
                // Another one begins each round, so that none always follows the same.
                let name = who[(round + place) % who.len()];
                rounds.0.entry(name).or_default().push(measure(name)?);
            }
        }
        Ok(rounds)
    }

    /// The median of a number.
    pub fn median(&self, who: &str, number: &str) -> f64 {
        median(self.all(who, number))
    }

    /// The largest of a number.
    pub fn worst(&self, who: &str, number: &str) -> f64 {
        self.all(who, number).fold(f64::NAN, f64::max)
    }

    /// The sum of a number.
    pub fn sum(&self, who: &str, number: &str) -> f64 {
        self.all(who, number).sum()
    }

    /// The median of one's number over another's of the same round.
    pub fn ratio(&self, number: &str, one: &str, other: &str) -> f64 {
        median(self.all(one, number).zip(self.all(other, number)).map(|(one, other)| one / other))
    }

    fn all(&self, who: &str, number: &str) -> impl Iterator<Item = f64> {
        let samples = self.0.get(who).map_or(&[][..], Vec::as_slice);
        samples.iter().map(move |sample| sample.get(number).copied().unwrap_or(f64::NAN))
    }
}

/// The one in the middle; of an even number of them the mean of both. Not a number if there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    percentile(values, 0.5)
}

/// The value that `part` of `values` do not exceed, between two of them if need be.
pub fn percentile(values: impl IntoIterator<Item = f64>, part: f64) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let rank = last as f64 * part;
    let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    low + (high - low) * rank.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
        assert_eq!(percentile((0..=100).map(f64::from), 0.99), 99.0);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // Twice as fast in every round, while the machine gets slower.
        let mut time = 1.0;
        let rounds = Rounds::take(3, &["ours", "theirs"], |who| {
            time *= if who == "ours" { 1.0 } else { 10.0 };
            Ok(sample([("ns", if who == "ours" { 1.0 } else { 2.0 })]))
        });
        assert_eq!(rounds.unwrap().ratio("ns", "ours", "theirs"), 0.5);
    }

    #[test]
    fn what_is_not_a_number_is_read_as_such() {
        let read = parse("{\"ns\":1.5,\"p50\":null}").unwrap();
        assert_eq!(read["ns"], 1.5);
        assert!(read["p50"].is_nan());
        assert!(parse("").is_err());
    }
}
