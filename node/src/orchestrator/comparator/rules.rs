//! The rules that every node has. Each knows one thing.

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::{CpuMillis, Did, DiskMib, ExecutorKind, Figure, MemoryMib, Millis, Price};

use super::{Candidate, Rejection, Request, Rule, Verdict};

/// `resources`: nobody who offers less than is needed.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResourcesRule;

impl Rule for ResourcesRule {
    fn name(&self) -> &str {
        "resources"
    }

    fn judge(&self, request: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        let (need, offer) = (request.requirement, candidate.resources);
        let reason = if offer.cpu < need.cpu || offer.memory < need.memory || offer.disk < need.disk {
            "offers less than is needed"
        } else if offer.gpus.len() < need.gpus.len() {
            "offers fewer GPUs than are needed"
        } else if offer.ports.len() < usize::from(need.ports) {
            "offers fewer ports than are needed"
        } else {
            return Verdict::Accept;
        };
        Verdict::Reject(Rejection::passing(reason))
    }
}

/// `needs`: nobody who says of itself that it is not what the job asks for: that it runs other things, stands elsewhere,
/// has another label. Whoever does not say is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs;

impl Rule for Needs {
    fn name(&self) -> &str {
        "needs"
    }

    fn judge(&self, request: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        let need = request.requirement;
        if candidate.executors.is_some_and(|executors| !executors.contains(&need.executor)) {
            return Verdict::Reject(Rejection::lasting(format!("does not run {}", need.executor)));
        }
        let elsewhere = candidate.location.filter(|_| !need.locations.is_empty());
        if let Some(place) = elsewhere.filter(|place| !need.locations.iter().any(|wanted| wanted == place)) {
            return Verdict::Reject(Rejection::lasting(format!(
                "stands in {place}, which the job does not want"
            )));
        }
        let had = |(key, value): (&String, &String)| {
            let had = candidate.labels.get(key).filter(|had| *had != value)?;
            Some(format!("has the label {key}={had}, and the job wants {key}={value}"))
        };
        match need.labels.iter().find_map(had) {
            Some(reason) => Verdict::Reject(Rejection::lasting(reason)),
            None => Verdict::Accept,
        }
    }

    fn is_lasting(&self) -> bool {
        true
    }
}

/// `limit`: nobody who wants more of a machine than this, at a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limit {
    /// The most cores.
    pub cpu: Option<CpuMillis>,
    /// The most memory.
    pub memory: Option<MemoryMib>,
    /// The most disk.
    pub disk: Option<DiskMib>,
    /// The longest run time.
    pub run_time: Option<Millis>,
}

impl Rule for Limit {
    fn name(&self) -> &str {
        "limit"
    }

    fn judge(&self, request: &Request<'_>, _: &Candidate<'_>) -> Verdict {
        let need = request.requirement;
        let what = if self.cpu.is_some_and(|most| need.cpu > most) {
            "more cores"
        } else if self.memory.is_some_and(|most| need.memory > most) {
            "more memory"
        } else if self.disk.is_some_and(|most| need.disk > most) {
            "more disk"
        } else if self.run_time.is_some_and(|most| request.run_time > most) {
            "to run for longer"
        } else {
            return Verdict::Accept;
        };
        Verdict::Reject(Rejection::lasting(format!("wants {what} than is given")))
    }
}

/// `price`: nobody over a limit, the job's or the owner's; the cheaper the better.
#[derive(Debug, Clone, Copy, Default)]
pub struct PriceRule {
    /// The owner's limit per hour.
    pub max: Option<Price>,
}

impl Rule for PriceRule {
    fn name(&self) -> &str {
        "price"
    }

    fn judge(&self, request: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        let price = candidate.price;
        let limits = [request.max_price, self.max].into_iter().flatten().min();
        match limits.filter(|limit| price > *limit) {
            // It may be cheaper when less of it is taken.
            Some(limit) => {
                Verdict::Reject(Rejection::passing(format!("is over the price limit: {price}, not {limit}")))
            }
            None => Verdict::Score(-i64::try_from(price.0).unwrap_or(i64::MAX)),
        }
    }

    fn score_text(&self, score: i64) -> String {
        Price(score.unsigned_abs()).to_string()
    }
}

/// `fit`: the better a pod fits, as the node says, the better. Whoever does not say so yet is the worst.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fit;

impl Rule for Fit {
    fn name(&self) -> &str {
        "fit"
    }

    fn judge(&self, _: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        candidate.fit.map_or(Verdict::Accept, |fit| Verdict::Score(i64::from(fit)))
    }
}

/// `pin`: nobody but these.
#[derive(Debug, Clone, Default)]
pub struct Pin(pub BTreeSet<Did>);

impl Rule for Pin {
    fn name(&self) -> &str {
        "pin"
    }

    fn judge(&self, _: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        match self.0.contains(&candidate.did) {
            true => Verdict::Accept,
            false => Verdict::Reject(Rejection::lasting("is none of those that are pinned")),
        }
    }

    fn is_lasting(&self) -> bool {
        true
    }
}

/// `exclude`: never these.
#[derive(Debug, Clone, Default)]
pub struct Exclude(pub BTreeSet<Did>);

impl Rule for Exclude {
    fn name(&self) -> &str {
        "exclude"
    }

    fn judge(&self, _: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        match self.0.contains(&candidate.did) {
            true => Verdict::Reject(Rejection::lasting("is excluded")),
            false => Verdict::Accept,
        }
    }

    fn is_lasting(&self) -> bool {
        true
    }
}

/// `executors`: nobody who runs none of these.
#[derive(Debug, Clone, Default)]
pub struct Executors(pub BTreeSet<ExecutorKind>);

impl Rule for Executors {
    fn name(&self) -> &str {
        "executors"
    }

    fn judge(&self, _: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        // Whoever does not say what it runs bids on what it can.
        match candidate.executors.is_none_or(|executors| !executors.is_disjoint(&self.0)) {
            true => Verdict::Accept,
            false => Verdict::Reject(Rejection::lasting("runs none of the wanted kinds of workload")),
        }
    }

    fn is_lasting(&self) -> bool {
        true
    }
}

/// `location`: whoever stands in an accepted place, else whoever does not stand in a rejected one; with a list of
/// accepted places nobody else. What is accepted wins over what is rejected; letters of either case are the same.
#[derive(Debug, Clone, Default)]
pub struct Location {
    /// Accepted places; if there are none, everywhere that is not rejected.
    pub accept: Vec<String>,
    /// Rejected places.
    pub reject: Vec<String>,
}

impl Rule for Location {
    fn name(&self) -> &str {
        "location"
    }

    fn judge(&self, _: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        let is_in = |list: &[String], place: &str| list.iter().any(|entry| entry.eq_ignore_ascii_case(place));
        let place = candidate.location;
        if place.is_some_and(|place| is_in(&self.accept, place)) {
            return Verdict::Accept;
        }
        match place {
            Some(place) if is_in(&self.reject, place) => {
                Verdict::Reject(Rejection::lasting(format!("stands in {place}, which is rejected")))
            }
            _ if self.accept.is_empty() => Verdict::Accept,
            Some(place) => {
                Verdict::Reject(Rejection::lasting(format!("stands in {place}, which is not accepted")))
            }
            None => Verdict::Reject(Rejection::lasting("does not say where it stands")),
        }
    }

    fn is_lasting(&self) -> bool {
        true
    }
}

/// `labels`: nobody without the required ones, or with a rejected one.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// What must be there, with this value.
    pub require: BTreeMap<String, String>,
    /// What must not be there with this value.
    pub reject: BTreeMap<String, String>,
}

impl Rule for Labels {
    fn name(&self) -> &str {
        "labels"
    }

    fn judge(&self, _: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        let has = |(key, value): &(&String, &String)| candidate.labels.get(*key) == Some(*value);
        let missing = self.require.iter().find(|label| !has(label));
        let unwanted = self.reject.iter().find(has);
        match (missing, unwanted) {
            (Some((key, value)), _) => {
                Verdict::Reject(Rejection::lasting(format!("lacks the label {key}={value}")))
            }
            (None, Some((key, value))) => {
                Verdict::Reject(Rejection::lasting(format!("has the label {key}={value}")))
            }
            (None, None) => Verdict::Accept,
        }
    }

    fn is_lasting(&self) -> bool {
        true
    }
}

/// `benchmark`: nobody slower than this; the faster the better.
#[derive(Debug, Clone)]
pub struct BenchmarkRule {
    /// The least of each figure.
    pub minimum: BTreeMap<Figure, u32>,
    /// The figure that is the score.
    pub by: Figure,
}

impl Rule for BenchmarkRule {
    fn name(&self) -> &str {
        "benchmark"
    }

    fn judge(&self, _: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        let is_less = |(figure, least): &(&Figure, &u32)| candidate.figure(**figure) < **least;
        match self.minimum.iter().find(is_less) {
            Some((figure, least)) => {
                let (name, had) = (figure.key(), candidate.figure(*figure));
                let reason = match had {
                    0 => format!("was not measured ({name})"),
                    had => format!("is too slow: {name} {had}, not {least}"),
                };
                Verdict::Reject(Rejection::lasting(reason))
            }
            None => Verdict::Score(i64::from(candidate.figure(self.by))),
        }
    }

    fn is_lasting(&self) -> bool {
        true
    }
}

/// `reputation`: nobody whose dealings with this node ended badly too often; the better the better.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReputationRule {
    /// The least [`super::Reputation::score`].
    pub minimum: u16,
}

impl Rule for ReputationRule {
    fn name(&self) -> &str {
        "reputation"
    }

    fn judge(&self, _: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        let reputation = candidate.reputation;
        match reputation.score() {
            score if score < self.minimum => Verdict::Reject(Rejection::passing(format!(
                "has a reputation of {score} ({} ended well, {} badly), not {}",
                reputation.well, reputation.badly, self.minimum
            ))),
            score => Verdict::Score(i64::from(score)),
        }
    }

    fn is_lasting(&self) -> bool {
        true
    }
}

/// `load`: nobody of whom more is taken; the less the better. Whoever does not say how much is taken is as one of whom
/// nothing is.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The most, in thousandths.
    pub max: u16,
}

impl Rule for Load {
    fn name(&self) -> &str {
        "load"
    }

    fn judge(&self, _: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        match candidate.load.unwrap_or_default() {
            load if load > self.max => {
                Verdict::Reject(Rejection::passing(format!("has a load of {load}, not {}", self.max)))
            }
            load => Verdict::Score(-i64::from(load)),
        }
    }

    fn score_text(&self, score: i64) -> String {
        score.unsigned_abs().to_string()
    }
}
