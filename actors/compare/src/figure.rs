//! One line of the result: a figure, what it is beside others of the same run, and whether its bar is met.

use serde_json::{Map, Value, json};

/// A figure on its way to a JSON line.
#[derive(Debug, Clone)]
pub struct Figure {
    bench: String,
    unit: &'static str,
    means: &'static str,
    /// By name, unrounded; the first is `value`.
    fields: Vec<(String, f64)>,
    /// The parts of the bar as text, and whether all of them are met.
    bar: Option<(Vec<String>, bool)>,
}

impl Figure {
    /// A number with its unit, and what was done to get it.
    pub fn new(bench: impl Into<String>, value: f64, unit: &'static str, means: &'static str) -> Self {
        Self { bench: bench.into(), unit, means, fields: vec![("value".to_owned(), value)], bar: None }
    }

    /// Adds a number: a ratio, or another one of the same measurement.
    pub fn with(mut self, name: impl Into<String>, number: f64) -> Self {
        self.fields.push((name.into(), number));
        self
    }

    /// Sets a bar: the named number must not be above `limit`.
    pub fn at_most(self, name: &str, limit: f64) -> Self {
        let is_met = self.number(name) <= limit;
        self.bar(format!("{name} <= {limit}"), is_met)
    }

    /// Sets a bar: the named number must not be below `limit`.
    pub fn at_least(self, name: &str, limit: f64) -> Self {
        let is_met = self.number(name) >= limit;
        self.bar(format!("{name} >= {limit}"), is_met)
    }

    /// Not a number, and so no bar met, if it was not measured.
    fn number(&self, name: &str) -> f64 {
        self.fields.iter().find(|(known, _)| known == name).map_or(f64::NAN, |(_, number)| *number)
    }

    fn bar(mut self, text: String, is_met: bool) -> Self {
        let (texts, all_met) = self.bar.get_or_insert((Vec::new(), true));
        texts.push(text);
        *all_met &= is_met;
        self
    }

    /// Prints it: what was done as a comment, then the line.
    pub fn print(&self) {
        println!("# {}\n{}", self.means, self.json());
    }

    /// The line.
    fn json(&self) -> String {
        let mut line = Map::new();
        line.insert("bench".to_owned(), json!(self.bench));
        for (name, number) in &self.fields {
            line.insert(name.clone(), short(*number));
            if name == "value" {
                line.insert("unit".to_owned(), json!(self.unit));
            }
        }
        if let Some((texts, is_met)) = &self.bar {
            line.insert("bar".to_owned(), json!(texts.join(", ")));
            line.insert("met".to_owned(), json!(is_met));
        }
        Value::Object(line).to_string()
    }
}

/// Three digits that count; whole numbers stay whole.
fn short(number: f64) -> Value {
    if !number.is_finite() {
        return Value::Null;
    }
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return json!(number as i64);
    }
    match number.abs() {
        size if size >= 100.0 => json!(number.round() as i64),
        size if size >= 10.0 => json!((number * 10.0).round() / 10.0),
        size if size >= 0.1 => json!((number * 100.0).round() / 100.0),
        _ => json!((number * 1000.0).round() / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_only_if_all_of_its_parts_are() {
        let figure = Figure::new("x", 76.4, "ns", "").with("time_vs_y", 1.38).with("rate_vs_z", 2.9);
        let met = figure.clone().at_most("time_vs_y", 1.5);
        assert!(met.json().contains(r#""bar":"time_vs_y <= 1.5","met":true"#), "{}", met.json());
        let missed = figure.at_most("time_vs_y", 1.5).at_least("rate_vs_z", 3.0);
        assert!(missed.json().contains(r#""met":false"#), "{}", missed.json());
    }

    #[test]
    fn what_was_not_measured_meets_no_bar() {
        let figure = Figure::new("x", f64::NAN, "ns", "");
        assert!(figure.clone().at_most("value", 1.0).json().contains(r#""value":null"#));
        assert!(figure.at_least("rate_vs_y", 1.0).json().contains(r#""met":false"#));
    }
}
