//! Prints by what the node chooses, what a change of it changes, and how nodes are judged.

use super::{escaped, table};
use crate::preferences::{
    Change, JudgedCandidate, PreferencesTest, PreferencesView, RuleVerdict, VerdictKind,
};

/// `dms preferences show`.
pub(in crate::cli) fn preferences(view: &PreferencesView) -> String {
    let mut text = match view.text.trim().is_empty() {
        true => "# nothing is preferred: the defaults hold (`dms preferences show --defaults`)\n".to_owned(),
        false => view.text.lines().map(|line| format!("{}\n", escaped(line))).collect(),
    };
    if let Some(problem) = &view.problem {
        text.push_str(&format!("# not in use, the defaults hold: {}\n", escaped(problem)));
    }
    text
}

/// `dms preferences set`.
pub(in crate::cli) fn preference_changes(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing changes\n".to_owned();
    }
    let shown = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), escaped);
    let row = |change: &Change| vec![escaped(&change.key), shown(&change.from), shown(&change.to)];
    table(&["KEY", "BEFORE", "NOW"], &changes.iter().map(row).collect::<Vec<_>>())
}

/// `dms preferences test`.
pub(in crate::cli) fn preferences_test(tested: &PreferencesTest) -> String {
    let Some(first) = tested.candidates.first() else {
        return "no node is known that offers anything\n".to_owned();
    };
    let rules: Vec<String> = first.verdicts.iter().map(|verdict| verdict.rule.to_uppercase()).collect();
    let head: Vec<&str> = ["RANK", "NODE"].into_iter().chain(rules.iter().map(String::as_str)).collect();
    let row = |candidate: &JudgedCandidate| {
        let rank = candidate.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string());
        let name = match candidate.is_me {
            true => format!("{} (this node)", candidate.did.short()),
            false => candidate.did.short(),
        };
        [rank, name].into_iter().chain(candidate.verdicts.iter().map(word)).collect()
    };
    let rows: Vec<Vec<String>> = tested.candidates.iter().map(row).collect();
    let mut text = table(&head, &rows);
    let rejected = tested.candidates.iter().flat_map(|candidate| {
        let reasons =
            candidate.verdicts.iter().filter_map(|verdict| Some((verdict, verdict.reason.as_ref()?)));
        reasons.map(|(verdict, reason)| {
            format!("{} {}: {}\n", candidate.did.short(), verdict.rule, escaped(reason))
        })
    });
    let reasons: String = rejected.collect();
    if !reasons.is_empty() {
        text.push_str(&format!("\n{reasons}"));
    }
    if !tested.order.is_empty() {
        text.push_str(&format!("\ncompared by {}, then by lot\n", tested.order.join(", then ")));
    }
    text
}

/// A verdict in a cell.
fn word(verdict: &RuleVerdict) -> String {
    match (verdict.verdict, verdict.score) {
        (VerdictKind::Accept, _) => "yes".to_owned(),
        (VerdictKind::Reject, _) => "no".to_owned(),
        (VerdictKind::Score, score) => score.unwrap_or_default().to_string(),
    }
}
