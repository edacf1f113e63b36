//! Preferences: by what a node chooses, as its owner writes it (TOML), checked and made into chains of rules.
//!
//! ```text
//!   text ──► every key, list and expression checked, with its line ──► Preferences { requester, provider, surcharge }
//! ```
//!
//! `[requester]` judges whom this node asks and whose bids it takes, `[provider]` whose requests it bids on, `[pricing]`
//! lets its prices rise with what is taken. Every key and its default stands in [`DEFAULTS`]. The text itself is kept in
//! the books; what is made of it here is thrown away with every change. Nothing of it decides by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use dms_messages::{CpuMillis, Did, DiskMib, ExecutorKind, Figure, MemoryMib, Millis, Price};
use serde::{Deserialize, Deserializer, Serialize};
use toml::Spanned;

use super::comparator::{
    BenchmarkRule, Comparator, Exclude, Executors, Expression, Fit, Labels, Limit, Load, Location, Needs,
    Pin, PriceRule, ReputationRule, ResourcesRule, Rule,
};
use super::pricing::{Surcharge, WHOLE};

/// Every key with its default, as a file that changes nothing.
pub const DEFAULTS: &str = include_str!("preferences/defaults.toml");
/// Longest text, in bytes: it is one event of the books.
pub const MAX_TEXT: usize = 16 * 1024;
/// Most entries of a list of places, and of labels.
const MAX_ITEMS: usize = 64;
/// Longest place, label or value, in bytes.
const MAX_ITEM: usize = 64;
/// Most expressions of a role.
const MAX_EXPRESSIONS: usize = 8;
/// Most rules of one's own that a program hands in for a role.
pub const MAX_OWN_RULES: usize = 6;
/// Longest name of a rule, in bytes.
const MAX_NAME: usize = 32;
/// Most that a price may rise, in thousandths: a hundred times.
const MAX_FACTOR: u32 = 100 * WHOLE;
/// What the rules of a node are called: an expression must not pass for one.
const BUILT_IN: [&str; 14] = [
    "needs",
    "resources",
    "limit",
    "price",
    "fit",
    "pin",
    "exclude",
    "executors",
    "location",
    "labels",
    "benchmark",
    "reputation",
    "load",
    "chance",
];

/// Why a text is no preferences.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", position(*.place))]
pub struct PreferencesError {
    /// Line and column, from 1, if the problem is at one place.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub problem: String,
}

fn position(place: Option<(usize, usize)>) -> String {
    place.map_or_else(String::new, |(line, column)| format!("line {line}, column {column}: "))
}

/// Rules that a program which embeds a node brings along: they stand in the chains of their role, and preferences may
/// name them in an order. At most [`MAX_OWN_RULES`] of each.
#[derive(Debug, Clone, Default)]
pub struct OwnRules {
    /// They judge whom this node asks, and the bids.
    pub requester: Vec<Arc<dyn Rule>>,
    /// They judge whose requests this node bids on.
    pub provider: Vec<Arc<dyn Rule>>,
}

impl OwnRules {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }
}

/// By what a node chooses.
#[derive(Debug, Clone)]
pub struct Preferences {
    /// Judges and ranks those that may run a job of ours.
    pub requester: Arc<Comparator>,
    /// Judges those who ask us to run something.
    pub provider: Arc<Comparator>,
    /// How our prices rise.
    pub surcharge: Surcharge,
    /// True if whom a job asks is chosen by the requester's chain, and not by what the adverts cost alone.
    pub has_requester_rules: bool,
    /// True if some are pinned, or excluded, as providers.
    pub names_providers: bool,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            requester: Arc::default(),
            provider: Arc::new(Comparator::new(Vec::new(), &[]).expect("no rules break none")),
            surcharge: Surcharge::default(),
            has_requester_rules: false,
            names_providers: false,
        }
    }
}

impl Preferences {
    /// Checks a text and makes rules of it. An empty one is the default.
    ///
    /// # Errors
    /// [`PreferencesError`].
    pub fn parse(text: &str, own: &OwnRules) -> Result<Self, PreferencesError> {
        let broken = |span: Option<Range<usize>>, problem: String| {
            let place = span.map(|span| line_and_column(text, span.start));
            PreferencesError { place, problem }
        };
        if text.len() > MAX_TEXT {
            return Err(broken(None, format!("more than {MAX_TEXT} bytes")));
        }
        let file: File = toml::from_str(text).map_err(|error| {
            // The first line says what is wrong; what follows would repeat the place.
            broken(error.span(), error.message().lines().next().unwrap_or_default().to_owned())
        })?;
        let names_providers = !file.requester.pin.is_empty() || !file.requester.exclude.is_empty();
        let (requester, has_rules) =
            file.requester.chain(&own.requester).map_err(|(span, problem)| broken(span, problem))?;
        let provider = file.provider.chain(&own.provider).map_err(|problem| broken(None, problem))?;
        Ok(Self {
            requester: Arc::new(requester),
            provider: Arc::new(provider),
            surcharge: file.pricing.surcharge(),
            has_requester_rules: has_rules,
            names_providers,
        })
    }
}

/// The line and the column, from 1, of a byte of `text`.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (line, String::from_utf8_lossy(&before[begin..]).chars().count() + 1)
}

/// One value that differs between two texts of preferences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The key (`requester.max_price`).
    pub key: String,
    /// What it was, as TOML; none if it was not said.
    pub from: Option<String>,
    /// What it is, as TOML; none if it is not said any more.
    pub to: Option<String>,
}

/// What differs, in the order of the keys. A text that is no TOML says nothing.
pub fn changes(before: &str, after: &str) -> Vec<Change> {
    let (before, after) = (values(before), values(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| Change { key: key.clone(), from: before.get(key).cloned(), to: after.get(key).cloned() })
        .collect()
}

/// Every value of a text by its whole key.
fn values(text: &str) -> BTreeMap<String, String> {
    fn collect(prefix: &str, table: toml::Table, into: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(table) => collect(&key, table, into),
                toml::Value::Array(list) if list.iter().all(toml::Value::is_table) && !list.is_empty() => {
                    for (value, number) in list.into_iter().zip(1..) {
                        if let toml::Value::Table(table) = value {
                            collect(&format!("{key}[{number}]"), table, into);
                        }
                    }
                }
                value => drop(into.insert(key, value.to_string())),
            }
        }
    }
    let mut found = BTreeMap::new();
    if let Ok(table) = text.parse() {
        collect("", table, &mut found);
    }
    found
}

/// The text as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    requester: RequesterForm,
    provider: ProviderForm,
    pricing: PricingForm,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RequesterForm {
    order: Option<Vec<Spanned<String>>>,
    pin: BTreeSet<Did>,
    exclude: BTreeSet<Did>,
    #[serde(deserialize_with = "parsed")]
    max_price: Option<Price>,
    min_reputation: Thousandths,
    max_load: Option<Thousandths>,
    executors: BTreeSet<ExecutorKind>,
    location: LocationForm,
    labels: LabelsForm,
    benchmark: BenchmarkForm,
    expression: Expressions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ProviderForm {
    pin: BTreeSet<Did>,
    exclude: BTreeSet<Did>,
    min_reputation: Thousandths,
    max_load: Option<Thousandths>,
    executors: BTreeSet<ExecutorKind>,
    labels: LabelsForm,
    limit: LimitForm,
    expression: Expressions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LocationForm {
    accept: Items,
    reject: Items,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LabelsForm {
    require: LabelMap,
    reject: LabelMap,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BenchmarkForm {
    minimum: BTreeMap<Figure, u32>,
    by: Option<Figure>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitForm {
    #[serde(deserialize_with = "parsed")]
    cpu: Option<CpuMillis>,
    #[serde(deserialize_with = "parsed")]
    memory: Option<MemoryMib>,
    #[serde(deserialize_with = "parsed")]
    disk: Option<DiskMib>,
    #[serde(deserialize_with = "parsed")]
    run_time: Option<Millis>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PricingForm {
    #[serde(deserialize_with = "parsed")]
    minimum: Option<Price>,
    full: FullForm,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FullForm {
    cpu: Factor,
    memory: Factor,
    disk: Factor,
    gpu: Factor,
    overall: Factor,
}

/// 0 to 1000.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(try_from = "u32")]
struct Thousandths(u16);

impl TryFrom<u32> for Thousandths {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match u16::try_from(number) {
            Ok(number) if u32::from(number) <= WHOLE => Ok(Self(number)),
            _ => Err(format!("{number} is not 0 to {WHOLE} (thousandths)")),
        }
    }
}

/// By how much something costs more when all of it is taken, in thousandths.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u32")]
struct Factor(u32);

impl Default for Factor {
    fn default() -> Self {
        Self(WHOLE)
    }
}

impl TryFrom<u32> for Factor {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match (WHOLE..=MAX_FACTOR).contains(&number) {
            true => Ok(Self(number)),
            false => Err(format!("{number} is not {WHOLE} to {MAX_FACTOR} (thousandths of the price)")),
        }
    }
}

/// A few short texts.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
struct Items(Vec<String>);

impl TryFrom<Vec<String>> for Items {
    type Error = String;

    fn try_from(items: Vec<String>) -> Result<Self, String> {
        check_count(items.len())?;
        items.iter().try_for_each(|item| check_item(item))?;
        Ok(Self(items))
    }
}

/// A few labels.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
struct LabelMap(BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, String>> for LabelMap {
    type Error = String;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, String> {
        check_count(labels.len())?;
        labels.iter().try_for_each(|(key, value)| check_item(key).and(check_item(value)))?;
        Ok(Self(labels))
    }
}

fn check_count(count: usize) -> Result<(), String> {
    if count > MAX_ITEMS { Err(format!("more than {MAX_ITEMS} entries")) } else { Ok(()) }
}

fn check_item(item: &str) -> Result<(), String> {
    let is_fine = !item.is_empty() && item.len() <= MAX_ITEM && !item.chars().any(char::is_control);
    if is_fine { Ok(()) } else { Err(format!("an entry is a text of 1 to {MAX_ITEM} bytes")) }
}

/// A few expressions, each under a name of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Vec<ExpressionForm>")]
struct Expressions(Vec<Arc<dyn Rule>>);

impl TryFrom<Vec<ExpressionForm>> for Expressions {
    type Error = String;

    fn try_from(forms: Vec<ExpressionForm>) -> Result<Self, String> {
        if forms.len() > MAX_EXPRESSIONS {
            return Err(format!("more than {MAX_EXPRESSIONS} expressions"));
        }
        let rules = forms.into_iter().map(|form| form.0).collect::<Vec<_>>();
        let names: BTreeSet<&str> = rules.iter().map(|rule| rule.name()).collect();
        if names.len() < rules.len() {
            return Err("two expressions have one name".to_owned());
        }
        Ok(Self(rules))
    }
}

/// One expression, compiled while it is read, so that what is wrong with it is said with its line.
#[derive(Debug, Deserialize)]
#[serde(try_from = "ExpressionText")]
struct ExpressionForm(Arc<dyn Rule>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpressionText {
    name: String,
    cel: String,
}

impl TryFrom<ExpressionText> for ExpressionForm {
    type Error = String;

    fn try_from(form: ExpressionText) -> Result<Self, String> {
        check_name(&form.name)?;
        let compiled = Expression::compile(&form.name, &form.cel);
        Ok(Self(Arc::new(compiled.map_err(|error| format!("expression {:?}: {error}", form.name))?)))
    }
}

/// What rules of one's own may be called, expressions or not.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_plain) {
        let shown: String = name.chars().take(MAX_NAME).collect();
        return Err(format!(
            "{shown:?} is no name for a rule: 1 to {MAX_NAME} lower case letters, digits and dashes"
        ));
    }
    match BUILT_IN.contains(&name) {
        true => Err(format!("every node has a rule {name:?}: an own one needs another name")),
        false => Ok(()),
    }
}

/// Reads an amount as people write it everywhere else (`"0.5"`, `"4GiB"`, `"1h"`).
fn parsed<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// What is wrong, and where.
type Misplaced = (Option<Range<usize>>, String);

fn check_own(own: &[Arc<dyn Rule>]) -> Result<(), String> {
    if own.len() > MAX_OWN_RULES {
        return Err(format!("more than {MAX_OWN_RULES} rules of one's own"));
    }
    own.iter().try_for_each(|rule| check_name(rule.name()))
}

impl RequesterForm {
    /// The chain, and whether it is another than that of a node without preferences.
    fn chain(self, own: &[Arc<dyn Rule>]) -> Result<(Comparator, bool), Misplaced> {
        check_own(own).map_err(|problem| (None, problem))?;
        let order: Option<Vec<Spanned<String>>> = self.order;
        let is_named = |name: &str| order.iter().flatten().any(|entry| entry.get_ref() == name);
        // Cheap ones first; the expressions are asked of whoever is left.
        let mut rules: Vec<Arc<dyn Rule>> = vec![Arc::new(Needs), Arc::new(ResourcesRule)];
        let mut add = |is_wanted: bool, rule: Arc<dyn Rule>| rules.extend(is_wanted.then_some(rule));
        add(true, Arc::new(PriceRule { max: self.max_price }));
        add(self.max_load.is_some() || is_named("load"), Arc::new(Load { max: most(self.max_load) }));
        let minimum = self.min_reputation.0;
        add(minimum > 0 || is_named("reputation"), Arc::new(ReputationRule { minimum }));
        add(!self.pin.is_empty(), Arc::new(Pin(self.pin)));
        add(!self.exclude.is_empty(), Arc::new(Exclude(self.exclude)));
        add(!self.executors.is_empty(), Arc::new(Executors(self.executors)));
        let BenchmarkForm { minimum, by } = self.benchmark;
        let is_measured = !minimum.is_empty() || by.is_some() || is_named("benchmark");
        add(is_measured, Arc::new(BenchmarkRule { minimum, by: by.unwrap_or(Figure::CpuSingle) }));
        let LocationForm { accept: Items(accept), reject: Items(reject) } = self.location;
        add(!accept.is_empty() || !reject.is_empty(), Arc::new(Location { accept, reject }));
        let LabelsForm { require: LabelMap(require), reject: LabelMap(reject) } = self.labels;
        add(!require.is_empty() || !reject.is_empty(), Arc::new(Labels { require, reject }));
        add(true, Arc::new(Fit));
        let Expressions(expressions) = self.expression;
        rules.extend(own.iter().chain(&expressions).cloned());
        // What somebody has written for it comes before the price.
        let own_names = own.iter().chain(&expressions).map(|rule| rule.name());
        let ordered: Vec<&str> = match &order {
            None => own_names.chain(["price", "fit"]).collect(),
            Some(order) => order.iter().map(|entry| entry.get_ref().as_str()).collect(),
        };
        let has_rules = rules.len() > 4 || ordered != ["price", "fit"] || self.max_price.is_some();
        let chain = Comparator::new(rules, &ordered);
        let place = order.as_ref().and_then(|order| Some(order.first()?.span()));
        Ok((chain.map_err(|error| (place, error.to_string()))?, has_rules))
    }
}

impl ProviderForm {
    fn chain(self, own: &[Arc<dyn Rule>]) -> Result<Comparator, String> {
        check_own(own)?;
        let mut rules: Vec<Arc<dyn Rule>> = Vec::new();
        let mut add = |is_wanted: bool, rule: Arc<dyn Rule>| rules.extend(is_wanted.then_some(rule));
        add(!self.pin.is_empty(), Arc::new(Pin(self.pin)));
        add(!self.exclude.is_empty(), Arc::new(Exclude(self.exclude)));
        add(!self.executors.is_empty(), Arc::new(Executors(self.executors)));
        let LimitForm { cpu, memory, disk, run_time } = self.limit;
        let is_limited = cpu.is_some() || memory.is_some() || disk.is_some() || run_time.is_some();
        add(is_limited, Arc::new(Limit { cpu, memory, disk, run_time }));
        let LabelsForm { require: LabelMap(require), reject: LabelMap(reject) } = self.labels;
        add(!require.is_empty() || !reject.is_empty(), Arc::new(Labels { require, reject }));
        add(self.max_load.is_some(), Arc::new(Load { max: most(self.max_load) }));
        let minimum = self.min_reputation.0;
        add(minimum > 0, Arc::new(ReputationRule { minimum }));
        let Expressions(expressions) = self.expression;
        rules.extend(own.iter().cloned().chain(expressions));
        // Whoever asks first is answered first: requests are not ranked.
        Comparator::new(rules, &[]).map_err(|error| error.to_string())
    }
}

fn most(max: Option<Thousandths>) -> u16 {
    max.map_or(1000, |Thousandths(max)| max)
}

impl PricingForm {
    fn surcharge(self) -> Surcharge {
        let FullForm { cpu, memory, disk, gpu, overall } = self.full;
        Surcharge {
            cpu: cpu.0,
            memory: memory.0,
            disk: disk.0,
            gpu: gpu.0,
            overall: overall.0,
            minimum: self.minimum.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
