//! Why each node did or did not take a job, in words, grouped by reason.

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::{Did, Retry};
use dms_storage::books::{AttemptState, JobRow, NodeAnswer};

use crate::commands::{Explanation, ReasonGroup};

/// Explains a job; `strangers` are known providers that were not asked because they are not trusted.
pub fn explain(row: &JobRow, strangers: &BTreeSet<Did>) -> Explanation {
    let mut groups: BTreeMap<String, (bool, Vec<Did>)> = BTreeMap::new();
    let mut not_asked_count = 0;
    for (did, answer) in &row.answers {
        let (reason, is_later) = match answer {
            NodeAnswer::Declined { reason } => (reason.to_string(), reason.retry() == Retry::Later),
            NodeAnswer::NotAsked { reason } => {
                not_asked_count += 1;
                (reason.clone(), true)
            }
            NodeAnswer::Bid { .. } => ("made a bid".to_owned(), false),
        };
        groups.entry(reason).or_insert((is_later, Vec::new())).1.push(*did);
    }
    let unknown: Vec<Did> = strangers.iter().filter(|did| !row.answers.contains_key(did)).copied().collect();
    not_asked_count += unknown.len();
    if !unknown.is_empty() {
        groups.insert(
            "not asked: this node does not trust it (`dms run --trust DID` or `--open`)".to_owned(),
            (false, unknown),
        );
    }
    let mut groups: Vec<ReasonGroup> = groups
        .into_iter()
        .map(|(reason, (is_later, nodes))| ReasonGroup { reason, is_later, nodes })
        .collect();
    groups.sort_by(|a, b| b.nodes.len().cmp(&a.nodes.len()).then_with(|| a.reason.cmp(&b.reason)));
    let attempts = row.attempts.iter().map(|attempt| {
        let outcome = match &attempt.state {
            AttemptState::Invoked => "invoked, not yet answered".to_owned(),
            AttemptState::Observed { state } => state.to_string(),
            AttemptState::Refused { reason } => format!("refused: {reason}"),
            AttemptState::Lost { reason } => format!("lost: {reason}"),
        };
        format!("attempt {} at {}: {outcome}", attempt.id.number, attempt.provider)
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
