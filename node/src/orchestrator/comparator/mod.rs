//! The `CapabilityComparator`: judges and ranks nodes by a chain of small named rules.
//!
//! ```text
//!   candidate ──► rule ──► rule ──► … ──► accepted, with the scores that are compared
//!                  └──► rejected, with the rule's name and its reason
//! ```
//!
//! A requester judges those that it may ask and the bids that it gets; a provider judges whoever asks it. Each rule
//! sees the same two things, a [`Request`] and a [`Candidate`], and says one [`Verdict`]. Cheap rules stand first, and
//! the first that rejects ends the judgement. Of two candidates the one with the higher score in the most important
//! ordering rule is better, then in the next; what is equal in all of them is put in order by chance that no candidate
//! can steer ([`ticket`]). It knows neither books nor preferences: who makes a chain is
//! [`super::preferences`], what is known of a node is gathered by whoever calls.

mod expression;
mod facts;
mod rules;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use dms_messages::{BidRequestId, Did, Retry};
use sha2::{Digest, Sha256};

pub use self::expression::{Expression, ExpressionError, MAX_EXPRESSION_LENGTH};
pub use self::facts::{Candidate, Reputation, Request};
pub use self::rules::{
    BenchmarkRule, Exclude, Executors, Fit, Labels, Limit, Load, Location, Needs, Pin, PriceRule,
    ReputationRule, ResourcesRule,
};

/// Most rules of one chain.
pub const MAX_RULES: usize = 32;
/// Most rules whose scores are compared.
pub const MAX_ORDERED: usize = 16;

/// Why a rule does not take a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Why, for people: a part of a sentence about the candidate ("stands in CH").
    pub reason: String,
    /// Whether judging it again later may end otherwise.
    pub retry: Retry,
}

impl Rejection {
    /// One that stays.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: Retry::Final }
    }

    /// One that may pass.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: Retry::Later }
    }
}

/// What one rule says of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be taken.
    Accept,
    /// It may not.
    Reject(Rejection),
    /// It may be taken, and is so good: more is better. What a score counts is the rule's affair; it is compared with
    /// scores of the same rule alone.
    Score(i64),
}

/// One rule of the chain. Rules of one's own are handed to the node that is to use them
/// ([`crate::node::OwnRules`]).
///
/// It is asked for every candidate, on the node's own thread: it must decide from what it is given, at once and always
/// the same way.
pub trait Rule: fmt::Debug + Send + Sync {
    /// Its name, by which preferences put it in order and people are told who decided: lower case letters, digits and
    /// dashes.
    fn name(&self) -> &str;

    /// What it says of a candidate.
    fn judge(&self, request: &Request<'_>, candidate: &Candidate<'_>) -> Verdict;

    /// A score of its as people read it: a price, a share.
    fn score_text(&self, score: i64) -> String {
        score.to_string()
    }

    /// True if what it says by a node's advert holds for its bids too. Then whoever it rejects is not even asked.
    fn is_lasting(&self) -> bool {
        false
    }
}

/// The scores that are compared, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scores([i64; MAX_ORDERED]);

impl Scores {
    /// Orders the better first.
    pub fn compare(&self, other: &Self) -> Ordering {
        other.0.cmp(&self.0)
    }
}

/// A candidate that a rule of the chain rejects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The rule.
    pub rule: String,
    /// Why.
    pub rejection: Rejection,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.rejection.reason)
    }
}

/// Why rules are no chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// There are too many.
    #[error("more than {MAX_RULES} rules, or more than {MAX_ORDERED} in an order")]
    TooMany,
    /// Two have one name.
    #[error("two rules are called {0:?}")]
    Twice(String),
    /// The order names a rule that is not there, or one twice.
    #[error("there is no rule {0:?} to order by, or it is named twice")]
    Order(String),
}

/// The chain.
#[doc(alias = "CapabilityComparator")]
#[derive(Debug, Clone)]
pub struct Comparator {
    rules: Vec<Arc<dyn Rule>>,
    /// By rule: at which place its score is compared, if it is.
    places: Vec<Option<usize>>,
}

impl Default for Comparator {
    /// The cheapest that has what is needed, then the best fit.
    fn default() -> Self {
        Self {
            rules: vec![
                Arc::new(Needs),
                Arc::new(ResourcesRule),
                Arc::new(PriceRule::default()),
                Arc::new(Fit),
            ],
            places: vec![None, None, Some(0), Some(1)],
        }
    }
}

impl Comparator {
    /// A chain of these rules, in the order in which they are asked; `order` names those whose scores are compared, the
    /// most important first.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn new(rules: Vec<Arc<dyn Rule>>, order: &[&str]) -> Result<Self, ChainError> {
        if rules.len() > MAX_RULES || order.len() > MAX_ORDERED {
            return Err(ChainError::TooMany);
        }
        for (index, rule) in rules.iter().enumerate() {
            if rules[..index].iter().any(|other| other.name() == rule.name()) {
                return Err(ChainError::Twice(rule.name().to_owned()));
            }
        }
        let mut places = vec![None; rules.len()];
        for (place, name) in order.iter().enumerate() {
            let rule = rules.iter().position(|rule| rule.name() == *name);
            match rule.filter(|index| places[*index].is_none()) {
                Some(index) => places[index] = Some(place),
                None => return Err(ChainError::Order((*name).to_owned())),
            }
        }
        Ok(Self { rules, places })
    }

    /// The names of the rules, in the order in which they are asked.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name())
    }

    /// The names of the rules whose scores are compared, the most important first.
    pub fn order(&self) -> Vec<&str> {
        let mut ordered: Vec<(usize, &str)> = self
            .places
            .iter()
            .zip(self.names())
            .filter_map(|(place, name)| Some(((*place)?, name)))
            .collect();
        ordered.sort_unstable();
        ordered.into_iter().map(|(_, name)| name).collect()
    }

    /// Asks the rules in turn, up to the first that rejects.
    ///
    /// # Errors
    /// What that one says.
    pub fn judge(&self, request: &Request<'_>, candidate: &Candidate<'_>) -> Result<Scores, Refusal> {
        self.judge_by(request, candidate, |_| true)
    }

    /// Asks the rules about an advert: only what lasts rejects, for a bid may say something else. Whoever another rule
    /// would reject is the worst by it.
    ///
    /// # Errors
    /// What the first that rejects says.
    pub fn judge_advert(&self, request: &Request<'_>, candidate: &Candidate<'_>) -> Result<Scores, Refusal> {
        self.judge_by(request, candidate, |rule| rule.is_lasting())
    }

    fn judge_by(
        &self,
        request: &Request<'_>,
        candidate: &Candidate<'_>,
        may_reject: impl Fn(&dyn Rule) -> bool,
    ) -> Result<Scores, Refusal> {
        let mut scores = Scores([0; MAX_ORDERED]);
        for (rule, place) in self.rules.iter().zip(&self.places) {
            match (rule.judge(request, candidate), place) {
                (Verdict::Reject(rejection), _) if may_reject(rule.as_ref()) => {
                    return Err(Refusal { rule: rule.name().to_owned(), rejection });
                }
                (Verdict::Score(score), Some(place)) => scores.0[*place] = score,
                (Verdict::Reject(_), Some(place)) => scores.0[*place] = i64::MIN,
                (Verdict::Score(_) | Verdict::Accept | Verdict::Reject(_), _) => {}
            }
        }
        Ok(scores)
    }

    /// What every rule says, also behind one that rejects: for people.
    pub fn explain<'a>(
        &'a self,
        request: &Request<'_>,
        candidate: &Candidate<'_>,
    ) -> Vec<(&'a dyn Rule, Verdict)> {
        self.rules.iter().map(|rule| (rule.as_ref(), rule.judge(request, candidate))).collect()
    }

    /// Judges all candidates: the indices of the accepted ones, the best first, and what is said of the others.
    pub fn rank(
        &self,
        id: BidRequestId,
        request: &Request<'_>,
        candidates: &[Candidate<'_>],
    ) -> (Vec<usize>, Vec<(usize, Refusal)>) {
        let mut refused = Vec::new();
        let mut accepted: Vec<(usize, Scores)> = Vec::with_capacity(candidates.len());
        for (index, candidate) in candidates.iter().enumerate() {
            match self.judge(request, candidate) {
                Ok(scores) => accepted.push((index, scores)),
                Err(refusal) => refused.push((index, refusal)),
            }
        }
        sort(&mut accepted, |(_, scores)| *scores, |(index, _)| ticket(id, candidates[*index].did));
        (accepted.into_iter().map(|(index, _)| index).collect(), refused)
    }
}

/// Puts the better first; the tickets of what is equal are drawn once each.
pub fn sort<T>(items: &mut [T], scores: impl Fn(&T) -> Scores, ticket: impl Fn(&T) -> Ticket) {
    items.sort_by(|a, b| scores(a).compare(&scores(b)));
    for equals in items.chunk_by_mut(|a, b| scores(a) == scores(b)).filter(|equals| equals.len() > 1) {
        equals.sort_by_cached_key(&ticket);
    }
}

/// What breaks a tie; the lower wins.
pub type Ticket = [u8; 32];

/// A hash of request and candidate: never who came first.
pub fn ticket(request: BidRequestId, candidate: Did) -> Ticket {
    Sha256::new().chain_update(request.as_bytes()).chain_update(candidate.public_key()).finalize().into()
}

#[cfg(test)]
mod tests;
