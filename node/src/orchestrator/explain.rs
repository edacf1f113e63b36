//! Why each node did or did not take a job, in words, grouped by reason.

use std::collections::BTreeMap;

use dms_messages::{BidId, Did, JobPhase, Retry};
use dms_storage::books::{AttemptState, JobRow, NodeAnswer};

use crate::commands::{Explanation, ReasonGroup};

/// What is known beside the job's own row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Which attempt each bid that was taken became.
    pub taken: BTreeMap<BidId, u32>,
    /// Known providers that are not asked because they are not trusted.
    pub strangers: Vec<Did>,
    /// Known nodes that are not asked now, because of what they last said of themselves.
    pub unwilling: BTreeMap<Did, &'static str>,
}

/// Explains a job.
pub fn explain(row: &JobRow, surroundings: &Surroundings) -> Explanation {
    let mut groups: BTreeMap<String, (bool, Vec<Did>)> = BTreeMap::new();
    let mut not_asked_count = 0;
    for (did, answer) in &row.answers {
        let (reason, is_later) = match answer {
            NodeAnswer::Declined { reason } => (reason.to_string(), reason.retry() == Retry::Later),
            NodeAnswer::NotAsked { reason } => {
                not_asked_count += 1;
                (reason.clone(), true)
            }
            NodeAnswer::Bid { bid } => (became_of(row, surroundings.taken.get(bid).copied()), false),
        };
        groups.entry(reason).or_insert((is_later, Vec::new())).1.push(*did);
    }
    let mut not_asked = |reason: String, is_later: bool, did: Did| {
        if !row.answers.contains_key(&did) {
            not_asked_count += 1;
            groups.entry(reason).or_insert((is_later, Vec::new())).1.push(did);
        }
    };
    for did in &surroundings.strangers {
        let reason = "not asked: this node does not trust it (`dms run --trust DID` or `--open`)";
        not_asked(reason.to_owned(), false, *did);
    }
    // Who took a job need not be asked why others were not.
    if !matches!(row.phase, JobPhase::Invoking | JobPhase::Running | JobPhase::Succeeded) {
        for (did, reason) in &surroundings.unwilling {
            not_asked(format!("not asked: {reason}"), true, *did);
        }
    }
    let mut groups: Vec<ReasonGroup> = groups
        .into_iter()
        .map(|(reason, (is_later, nodes))| ReasonGroup { reason, is_later, nodes })
        .collect();
    groups.sort_by(|a, b| b.nodes.len().cmp(&a.nodes.len()).then_with(|| a.reason.cmp(&b.reason)));
    let attempts = row.attempts.iter().map(|attempt| {
        format!("attempt {} at {}: {}", attempt.id.number, attempt.provider, outcome(&attempt.state))
    });
    Explanation {
        job: row.job.id,
        phase: row.phase,
        end: row.end.clone(),
        groups,
        not_asked_count,
        attempts: attempts.collect(),
    }
}

/// What became of a bid that was `taken` for an attempt, or not.
fn became_of(row: &JobRow, taken: Option<u32>) -> String {
    let attempt = taken.and_then(|number| row.attempts.iter().find(|attempt| attempt.id.number == number));
    match attempt {
        Some(attempt) => {
            format!("its bid was taken for attempt {}: {}", attempt.id.number, outcome(&attempt.state))
        }
        None if row.phase == JobPhase::Bidding => "made a bid".to_owned(),
        None => "made a bid that was not taken".to_owned(),
    }
}

/// How an attempt stands or ended.
fn outcome(state: &AttemptState) -> String {
    match state {
        AttemptState::Invoked => "invoked, not yet answered".to_owned(),
        AttemptState::Observed { state } => state.to_string(),
        AttemptState::Refused { reason } => format!("refused: {reason}"),
        AttemptState::Lost { reason } => format!("lost: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dms_messages::{DeclineReason, JobPhase};
    use dms_storage::{Books, Event, Lock};

    use super::*;
    use crate::testing::signer;
    use crate::testing::{StillClock, apply, bid, contract, did, job, request, resources, sign_contract};

    fn reasons(books: &Books, surroundings: &Surroundings) -> Vec<(String, bool)> {
        let explained = explain(books.jobs().values().next().unwrap(), surroundings);
        explained.groups.into_iter().map(|group| (group.reason, group.is_later)).collect()
    }

    #[test]
    fn a_bid_that_was_taken_and_lost_is_not_told_as_the_answer_of_today() {
        let clock = Arc::new(StillClock::default());
        let (me, provider) = (signer(1, &clock), signer(2, &clock));
        let (mut books, job) = (Books::default(), job());
        let request = request(&job);
        let bid = bid(&request, 5, &provider);
        let id = job.id;
        apply(&mut books, Event::JobSubmitted { job });
        apply(&mut books, Event::JobMoved { job: id, phase: JobPhase::Bidding });
        apply(&mut books, Event::BidReceived { job: id, bid: bid.clone() });
        let mut surroundings = Surroundings::default();
        assert_eq!(reasons(&books, &surroundings), [("made a bid".to_owned(), false)]);
        let lock = Lock {
            bid: bid.value().id,
            request: request.id,
            requester: me.me(),
            job: id,
            pod: 0,
            resources: resources(1000, 64),
            expires: me.now(),
        };
        let contract = sign_contract(contract(&lock, &me, did(2), 1), &me);
        let attempt = contract.value().attempt;
        apply(&mut books, Event::AttemptMinted { attempt, provider: did(2), addresses: vec![], contract });
        surroundings.taken.insert(bid.value().id, 1);
        let taken = "its bid was taken for attempt 1: invoked, not yet answered";
        assert_eq!(reasons(&books, &surroundings), [(taken.to_owned(), false)]);
        apply(&mut books, Event::AttemptLost { attempt, reason: "refused".to_owned() });
        apply(&mut books, Event::JobMoved { job: id, phase: JobPhase::Rescheduling });
        let lost = "its bid was taken for attempt 1: lost: refused";
        assert_eq!(reasons(&books, &surroundings), [(lost.to_owned(), false)]);
        let reason = "not asked: it lost attempt 1 of this job, and others may yet take it".to_owned();
        apply(&mut books, Event::NotAsked { job: id, provider: did(2), reason: reason.clone() });
        assert_eq!(reasons(&books, &surroundings), [(reason, true)]);
    }

    #[test]
    fn whoever_is_known_and_was_not_asked_is_named_with_the_reason() {
        let (mut books, job) = (Books::default(), job());
        let id = job.id;
        apply(&mut books, Event::JobSubmitted { job });
        let surroundings = Surroundings {
            taken: BTreeMap::new(),
            strangers: vec![did(3)],
            unwilling: BTreeMap::from([(did(4), "it is stopping"), (did(5), "it is stopping")]),
        };
        let explained = explain(&books.jobs()[&id], &surroundings);
        let stopping = &explained.groups[0];
        assert_eq!((stopping.reason.as_str(), stopping.is_later), ("not asked: it is stopping", true));
        assert_eq!(stopping.nodes.len(), 2);
        assert_eq!((explained.groups.len(), explained.not_asked_count), (2, 3));
        // Its own answer says more than what it said to everybody.
        apply(
            &mut books,
            Event::DeclineReceived { job: id, provider: did(4), reason: DeclineReason::Draining },
        );
        let explained = explain(&books.jobs()[&id], &surroundings);
        let of_four: Vec<_> = explained.groups.iter().filter(|group| group.nodes.contains(&did(4))).collect();
        assert_eq!((of_four.len(), of_four[0].reason.as_str()), (1, "is stopping"));
    }
}
