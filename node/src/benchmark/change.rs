//! How a benchmark differs from the one before it. Pure.

use dms_messages::Benchmark;
use serde::{Deserialize, Serialize};

use super::Figure;

/// How one figure has changed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub figure: Figure,
    /// What it was, if it was measured before.
    pub before: Option<u32>,
    /// What it is.
    pub after: u32,
    /// By how much that is more, in percent of what it was, to a tenth.
    pub change_percent: Option<f64>,
}

/// How every figure has changed, in their order.
pub fn changes(before: Option<&Benchmark>, after: &Benchmark) -> Vec<Change> {
    let change = |figure: Figure| {
        let before = before.map(|before| figure.of(before)).filter(|value| *value > 0);
        let after = figure.of(after);
        Change { figure, before, after, change_percent: before.map(|before| percent(before, after)) }
    };
    Figure::ALL.into_iter().map(change).collect()
}

/// By how much `after` is more than `before`, which is not 0, in percent and to a tenth.
fn percent(before: u32, after: u32) -> f64 {
    let (before, after) = (f64::from(before), f64::from(after));
    let tenths = ((after - before) / before * 1000.0).round() / 10.0;
    // A little less than nothing is nothing: no minus is shown before a zero.
    if tenths == 0.0 { 0.0 } else { tenths }
}

impl Change {
    /// The change as a person reads it (`+3.1 %`).
    pub fn text(&self) -> String {
        match self.change_percent {
            Some(0.0) => "0 %".to_owned(),
            Some(percent) => format!("{percent:+.1} %"),
            None => "new".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_in_percent_of_what_was() {
        let table = [
            (0, 5, None, "new"),
            (100, 100, Some(0.0), "0 %"),
            (100_000, 99_999, Some(0.0), "0 %"),
            (100, 103, Some(3.0), "+3.0 %"),
            (300, 299, Some(-0.3), "-0.3 %"),
            (100, 0, Some(-100.0), "-100.0 %"),
            (1, 1000, Some(99_900.0), "+99900.0 %"),
            (u32::MAX, u32::MAX, Some(0.0), "0 %"),
        ];
        for (before, after, percent, text) in table {
            let before = Benchmark { wasm: before, ..Benchmark::default() };
            let after = Benchmark { wasm: after, ..Benchmark::default() };
            let change = changes(Some(&before), &after).pop().unwrap();
            assert_eq!((change.figure, change.change_percent), (Figure::Wasm, percent));
            assert_eq!(change.text(), text);
        }
    }

    #[test]
    fn without_a_before_everything_is_new_and_nothing_is_left_out() {
        let changes = changes(None, &Benchmark { cpu_single: 3, ..Benchmark::default() });
        assert_eq!(changes.iter().map(|change| change.figure).collect::<Vec<_>>(), Figure::ALL);
        assert!(changes.iter().all(|change| change.before.is_none() && change.change_percent.is_none()));
        assert_eq!(changes[0].after, 3);
    }
}
