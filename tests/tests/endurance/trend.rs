//! Whether numbers that are looked at again and again stay where they are. Pure.

/// The value in the middle; the mean of both where two are. None of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    Some(match values.len() % 2 {
        0 => (values[values.len() / 2 - 1] + upper) / 2.0,
        _ => *upper,
    })
}

/// By how much the line through these points that fits them best (least squares) climbs with each unit; none where
/// there is no such line: fewer than two points, or all at one place.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (middle, height) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - middle).powi(2)).sum();
    let together: f64 = points.iter().map(|(x, y)| (x - middle) * (y - height)).sum();
    (spread > 0.0).then(|| together / spread)
}

/// The points of one quarter (0 to 3) of a time that ends at `end`.
pub(crate) fn quarter(points: &[(f64, f64)], end: f64, number: u8) -> impl Iterator<Item = f64> {
    let (from, to) = (end * f64::from(number) / 4.0, end * f64::from(number + 1) / 4.0);
    points.iter().filter(move |(x, _)| (from..=to).contains(x)).map(|(_, y)| *y)
}

/// By how much the median of the last quarter is above that of the second; none if one of them has no points.
pub(crate) fn growth(points: &[(f64, f64)], end: f64) -> Option<f64> {
    Some(median(quarter(points, end, 3))? - median(quarter(points, end, 1))?)
}

#[test]
fn medians_are_in_the_middle() {
    let table: [(&[f64], Option<f64>); 5] = [
        (&[], None),
        (&[3.0], Some(3.0)),
        (&[4.0, 1.0], Some(2.5)),
        (&[9.0, 1.0, 2.0], Some(2.0)),
        (&[1.0, 100.0, 3.0, 2.0], Some(2.5)),
    ];
    for (values, expected) in table {
        assert_eq!(median(values.iter().copied()), expected, "{values:?}");
    }
}

#[test]
fn slopes_are_those_of_the_best_line() {
    type Row<'a> = (&'a [(f64, f64)], Option<f64>);
    let table: [Row<'_>; 6] = [
        (&[], None),
        (&[(1.0, 5.0)], None),
        (&[(1.0, 5.0), (1.0, 7.0)], None),
        (&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)], Some(2.0)),
        (&[(0.0, 4.0), (5.0, 4.0)], Some(0.0)),
        // Up and down about a line that falls.
        (&[(0.0, 1.0), (1.0, -2.0), (2.0, -1.0), (3.0, -4.0)], Some(-1.4)),
    ];
    for (points, expected) in table {
        let found = slope(points);
        let is_near = match (found, expected) {
            (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
            (found, expected) => found == expected,
        };
        assert!(is_near, "{points:?}: {found:?}, not {expected:?}");
    }
}

#[test]
fn growth_is_from_the_second_quarter_to_the_last() {
    let steps: Vec<(f64, f64)> = (0..=40).map(|x| (f64::from(x), if x < 30 { 10.0 } else { 17.0 })).collect();
    assert_eq!(growth(&steps, 40.0), Some(7.0));
    // What happens while it warms up does not count, nor does one outlier.
    let mut warm: Vec<(f64, f64)> =
        (0..=40).map(|x| (f64::from(x), if x < 10 { 0.0 } else { 10.0 })).collect();
    warm[35].1 = 1_000.0;
    assert_eq!(growth(&warm, 40.0), Some(0.0));
    assert_eq!(growth(&steps[..20], 40.0), None);
    assert_eq!(quarter(&steps, 40.0, 0).count(), 11);
}
