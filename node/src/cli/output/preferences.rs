//! Prints by what the node chooses, what a change of it changes, and how nodes are judged.

use super::{escaped, table};
use crate::preferences::{
    Change, JudgedCandidate, PreferencesTest, PreferencesView, RuleVerdict, VerdictKind,
};

/// `dms preferences show`.
pub(in crate::cli) fn preferences(view: &PreferencesView) -> String {
    let mut text = match view.text.trim().is_empty() {
        true => "# nothing is preferred: the defaults hold (`dms preferences show --defaults`)\n".to_owned(),
        false => view.text.lines().map(line).collect(),
    };
    if let Some(problem) = &view.problem {
        text.push_str(&format!("# not in use, the defaults hold: {}\n", escaped(problem)));
    }
    text
}

/// A line that can be set again as it is shown.
fn line(line: &str) -> String {
    let parts: Vec<String> = line.split('\t').map(escaped).collect();
    format!("{}\n", parts.join("\t"))
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
        let rank = match candidate.rank {
            Some(rank) => rank.to_string(),
            None if candidate.is_asked => "asked".to_owned(),
            None => "-".to_owned(),
        };
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
    if tested.candidates.iter().any(|candidate| candidate.rank.is_none() && candidate.is_asked) {
        text.push_str("\nasked: rejected as it stands, and asked all the same, since that may change\n");
    }
    text.push_str("\nbids are judged again when they come, and may be dearer than adverts say\n");
    if !tested.order.is_empty() {
        text.push_str(&format!("compared by {}, then by lot\n", tested.order.join(", then ")));
    }
    text
}

/// A verdict in a cell.
fn word(verdict: &RuleVerdict) -> String {
    match verdict.verdict {
        // An advert does not say it.
        VerdictKind::Accept if verdict.rule == "fit" => "-".to_owned(),
        VerdictKind::Accept => "yes".to_owned(),
        VerdictKind::Reject => "no".to_owned(),
        // A rule of one's own may write anything.
        VerdictKind::Score => verdict.score_text.as_deref().map_or_else(String::new, escaped),
    }
}
