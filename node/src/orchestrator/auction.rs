//! One auction: a request, who was asked, who answered, and when it is over.
//!
//! ```text
//!   asked directly ──► (k bids | everybody answered | time) ──► best bid, or none
//! ```
//!
//! A gossiped round has no "everybody": only enough bids or the time end it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dms_messages::{Bid, BidId, BidRequest, Did, Retry, Signed, Timestamp};

use super::comparator::{self, Candidate, Comparator, Refusal, Rejection, Request, Scores};
use super::history::History;

/// Most bids that one auction keeps: a gossiped request may be answered by a whole mesh.
const MAX_BIDS: usize = 64;

/// By what the bids of a round are judged: as it was when the round began.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    /// The chain.
    pub comparator: Arc<Comparator>,
    /// How the bidders behaved.
    pub history: Arc<History>,
    /// When that was.
    pub at: Timestamp,
}

impl PartialEq for Judge {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.comparator, &other.comparator)
            && self.history == other.history
            && self.at == other.at
    }
}

impl Eq for Judge {}

/// A running auction.
#[derive(Debug, Clone)]
pub struct Auction {
    request: BidRequest,
    /// Who was asked directly; none answered yet if not in `answers`.
    asked: BTreeSet<Did>,
    is_gossiped: bool,
    /// Who wins only if nobody else bids.
    last_choice: BTreeSet<Did>,
    bids: BTreeMap<BidId, (Signed<Bid>, Scores)>,
    judge: Judge,
    answered: BTreeMap<Did, Answer>,
}

/// How one node answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Bid,
    No(Retry),
}

/// What becomes of a bid that arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BidVerdict {
    /// It takes part.
    Entered,
    /// It cannot be taken; let it go.
    NotAcceptable(Refusal),
    /// The bidder has bid already, or there are enough; let it go.
    Surplus,
    /// The very same bid again; nothing to do.
    Repeated,
}

impl Auction {
    /// Opens an auction among `asked`, and the whole mesh if gossiped.
    pub fn open(request: BidRequest, asked: BTreeSet<Did>, is_gossiped: bool) -> Self {
        Self {
            request,
            asked,
            is_gossiped,
            last_choice: BTreeSet::new(),
            bids: BTreeMap::new(),
            judge: Judge::default(),
            answered: BTreeMap::new(),
        }
    }

    /// The same, in which these win only if nobody else bids.
    pub fn with_last_choice(self, last_choice: BTreeSet<Did>) -> Self {
        Self { last_choice, ..self }
    }

    /// The same, in which bids are judged so.
    pub fn judged_by(self, judge: Judge) -> Self {
        Self { judge, ..self }
    }

    /// The request.
    pub fn request(&self) -> &BidRequest {
        &self.request
    }

    /// A bid arrived.
    pub fn enter(&mut self, bid: Signed<Bid>) -> BidVerdict {
        let bidder = bid.issuer();
        if self.bids.contains_key(&bid.value().id) {
            return BidVerdict::Repeated;
        }
        let scores = match self.judge(bidder, bid.value()) {
            Ok(scores) => scores,
            Err(refusal) => {
                // What the owner prefers may change while the job waits.
                self.answered.entry(bidder).or_insert(Answer::No(Retry::Later));
                return BidVerdict::NotAcceptable(refusal);
            }
        };
        if self.answered.get(&bidder) == Some(&Answer::Bid) || self.bids.len() >= MAX_BIDS {
            return BidVerdict::Surplus;
        }
        self.answered.insert(bidder, Answer::Bid);
        self.bids.insert(bid.value().id, (bid, scores));
        BidVerdict::Entered
    }

    fn judge(&self, bidder: Did, bid: &Bid) -> Result<Scores, Refusal> {
        if bid.request != self.request.id {
            let rejection = Rejection::passing("answers another request");
            return Err(Refusal { rule: "request".to_owned(), rejection });
        }
        let candidate = Candidate::of_bid(bidder, bid, self.judge.history.provider(bidder, self.judge.at));
        self.judge.comparator.judge(&Request::of(&self.request), &candidate)
    }

    /// A node said no, or could not be asked.
    pub fn decline(&mut self, who: Did, retry: Retry) {
        self.answered.entry(who).or_insert(Answer::No(retry));
    }

    /// True if nothing more is waited for (but time).
    pub fn is_decided(&self) -> bool {
        // Whoever comes last does not keep others from being heard.
        let first = self.bids.values().filter(|(bid, _)| !self.last_choice.contains(&bid.issuer()));
        let has_enough = first.count() >= usize::from(self.request.wanted);
        let has_all = !self.is_gossiped && self.asked.iter().all(|did| self.answered.contains_key(did));
        has_enough || has_all
    }

    /// True if everybody who was asked said no for good, so that asking again is useless.
    pub fn is_hopeless(&self) -> bool {
        let is_final = |did| self.answered.get(did) == Some(&Answer::No(Retry::Final));
        !self.asked.is_empty() && self.bids.is_empty() && self.asked.iter().all(is_final)
    }

    /// True if it was put to the whole mesh.
    pub fn is_gossiped(&self) -> bool {
        self.is_gossiped
    }

    /// True if this node was asked directly and has not answered.
    pub fn is_waiting_for(&self, who: Did) -> bool {
        self.asked.contains(&who) && !self.answered.contains_key(&who)
    }

    /// True if this node has answered, one way or another.
    pub fn has_answer_of(&self, who: Did) -> bool {
        self.answered.contains_key(&who)
    }

    /// Who was asked and has not answered.
    pub fn silent(&self) -> impl Iterator<Item = Did> {
        self.asked.iter().filter(|did| !self.answered.contains_key(did)).copied()
    }

    /// Ends the auction `spent` after its request was said: the winner, if a lease that is not over backs
    /// one, and everybody else's bids to be let go.
    pub fn close(self, spent: Duration) -> (Option<Signed<Bid>>, Vec<Signed<Bid>>) {
        let (mut bids, late): (Vec<_>, Vec<_>) =
            self.bids.into_values().partition(|(bid, _)| spent < bid.value().lease.duration());
        let ticket = |bid: &(Signed<Bid>, Scores)| comparator::ticket(self.request.id, bid.0.issuer());
        comparator::sort(&mut bids, |(_, scores)| *scores, ticket);
        // Stable: among those of either kind the order stays.
        bids.sort_by_key(|(bid, _)| self.last_choice.contains(&bid.issuer()));
        let mut bids = bids.into_iter().map(|(bid, _)| bid);
        (bids.next(), bids.chain(late.into_iter().map(|(bid, _)| bid)).collect())
    }
}

#[cfg(test)]
mod tests;
