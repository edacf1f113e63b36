//! The table at the end: what each tile cost, how long it took, and who said no to it. Makes text of plain data.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use dms_messages::{Did, Price, Timestamp};
use dms_node::api::types::JobView;
use dms_storage::books::{AttemptRow, AttemptState};

use crate::mesh::NodeFacts;
use crate::tiles::Killed;

/// What is told.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// The providers.
    pub(crate) nodes: &'a [NodeFacts],
    /// Each tile's job at its end, by the number of the tile.
    pub(crate) tiles: &'a [JobView],
    /// How long the mesh took for all of them.
    pub(crate) mesh_time: Duration,
    /// How long this machine took alone.
    pub(crate) alone_time: Duration,
    /// Who was killed on purpose.
    pub(crate) killed: Option<&'a Killed>,
    /// Where the picture is.
    pub(crate) picture: &'a Path,
    /// Its length.
    pub(crate) bytes: usize,
}

/// Everything that is said at the end.
pub(crate) fn whole(facts: &Facts<'_>) -> String {
    let names: BTreeMap<Did, &str> = facts.nodes.iter().map(|node| (node.did, node.provider.name)).collect();
    let mut text = format!("\n{}\n{}", tiles(facts.tiles, &names), providers(facts.nodes, facts.tiles));
    text.push_str(&format!("\n{}\n", declines(facts.tiles, &names)));
    if let Some(killed) = facts.killed {
        text.push_str(&format!("\n{}\n", losses(killed, facts.tiles, &names)));
    }
    text.push_str(&format!(
        "\nThe mesh took {:.1} s, this machine alone {:.1} s.\nBoth pictures are the same, byte for byte ({} bytes):\n{}\n",
        facts.mesh_time.as_secs_f64(),
        facts.alone_time.as_secs_f64(),
        facts.bytes,
        facts.picture.display(),
    ));
    text
}

/// Milliseconds from the submission to `then`.
fn since(view: &JobView, then: Option<Timestamp>) -> String {
    then.map_or_else(
        || "-".to_owned(),
        |then| then.saturating_since(view.row.job.submitted).as_millis().to_string(),
    )
}

fn name(names: &BTreeMap<Did, &str>, did: Did) -> String {
    names.get(&did).map_or_else(|| did.short(), |name| (*name).to_owned())
}

/// One row for each tile; it fits into 80 columns.
fn tiles(tiles: &[JobView], names: &BTreeMap<Did, &str>) -> String {
    let head = ["TILE", "WON BY", "DID", "PRICE/H", "BID MS", "RUN MS", "DONE MS", "TRIES", "DECLINED", ""];
    let row = |(number, view): (usize, &JobView)| {
        let attempt = view.row.current_attempt();
        let lost = view.row.attempts.iter().filter(|attempt| is_lost(attempt));
        let lost: Vec<String> = lost.map(|attempt| name(names, attempt.provider)).collect();
        let after = if lost.is_empty() { String::new() } else { format!("lost by {}", lost.join(", ")) };
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            number.to_string(),
            or_dash(attempt.map(|attempt| name(names, attempt.provider))),
            or_dash(attempt.map(|attempt| attempt.provider.short())),
            or_dash(attempt.map(|attempt| attempt.price.to_string())),
            since(view, view.row.first_bid),
            since(view, attempt.and_then(|attempt| attempt.running)),
            since(view, Some(view.row.moved)),
            view.row.attempts.len().to_string(),
            view.row.declines.values().flat_map(BTreeMap::values).sum::<u32>().to_string(),
            after,
        ]
    };
    let rows: Vec<_> = tiles.iter().enumerate().map(row).collect();
    let legend = "Milliseconds from the submission to the first bid, to running, to the result.";
    format!("{}{legend}\n", table(&head, &rows, &[0, 3, 4, 5, 6, 7, 8]))
}

/// One row for each provider.
fn providers(nodes: &[NodeFacts], tiles: &[JobView]) -> String {
    let head = ["PROVIDER", "DID", "CORES", "MEMORY", "TILES", "RAN", "EARNED", "LOST", "DECLINED"];
    let row = |node: &NodeFacts| {
        let attempts =
            || tiles.iter().flat_map(|view| &view.row.attempts).filter(|row| row.provider == node.did);
        let done: Vec<&AttemptRow> = attempts().filter(|attempt| !is_lost(attempt)).collect();
        let wall: u64 =
            done.iter().filter_map(|attempt| attempt.result.as_ref()).map(|result| result.wall.0).sum();
        // A price is for an hour, of which the time that it ran is earned. Divided once, so that nothing is lost with
        // each tile.
        let by_the_hour: u128 = done
            .iter()
            .filter_map(|attempt| {
                Some(u128::from(attempt.price.0) * u128::from(attempt.result.as_ref()?.wall.0))
            })
            .sum();
        let earned = u64::try_from(by_the_hour / 3_600_000).unwrap_or(u64::MAX);
        let said_no: u32 =
            tiles.iter().filter_map(|view| view.row.declines.get(&node.did)).flat_map(BTreeMap::values).sum();
        vec![
            node.provider.name.to_owned(),
            node.did.short(),
            node.cores.to_string(),
            format!("{} MiB", node.provider.memory_mib),
            done.len().to_string(),
            format!("{:.1} s", Duration::from_millis(wall).as_secs_f64()),
            Price(earned).to_string(),
            attempts().filter(|attempt| is_lost(attempt)).count().to_string(),
            said_no.to_string(),
        ]
    };
    table(&head, &nodes.iter().map(row).collect::<Vec<_>>(), &[2, 3, 4, 5, 6, 7, 8])
}

/// How often tiles were declined, by reason and by whom.
fn declines(tiles: &[JobView], names: &BTreeMap<Did, &str>) -> String {
    let mut reasons: BTreeMap<&str, BTreeMap<String, u32>> = BTreeMap::new();
    for (did, codes) in tiles.iter().flat_map(|view| &view.row.declines) {
        for (code, count) in codes {
            *reasons.entry(code).or_default().entry(name(names, *did)).or_default() += count;
        }
    }
    let all: u32 = reasons.values().flat_map(BTreeMap::values).sum();
    if all == 0 {
        return "Nobody declined a tile.".to_owned();
    }
    let mut text = format!("Tiles were declined {all} times, and asked for again:");
    for (code, by) in reasons {
        let count: u32 = by.values().sum();
        let by: Vec<String> = by.iter().map(|(name, count)| format!("{name} {count}")).collect();
        text.push_str(&format!("\n  {count} × {}: {} ({})", words(code), meaning(code), by.join(", ")));
    }
    text
}

/// A reason's code as people read it.
fn words(code: &str) -> String {
    code.replace('_', " ")
}

/// What a reason means.
fn meaning(code: &str) -> &'static str {
    match code {
        "busy" => "its cores or memory were taken",
        "lock_share" => "the requester held its share of locks already",
        "draining" => "it was stopping",
        _ => "for good",
    }
}

fn is_lost(attempt: &AttemptRow) -> bool {
    matches!(attempt.state, AttemptState::Lost { .. })
}

/// What the kill did.
fn losses(killed: &Killed, tiles: &[JobView], names: &BTreeMap<Did, &str>) -> String {
    let victim = name(names, killed.provider);
    let mut text = format!(
        "{victim} ({}) was killed without warning when {} of {} tiles were done, while it ran",
        killed.provider.short(),
        killed.done_count,
        tiles.len(),
    );
    let mut lost = Vec::new();
    for (number, view) in tiles.iter().enumerate() {
        let gone = view.row.attempts.iter().find(|row| row.provider == killed.provider && is_lost(row));
        if let (Some(gone), Some(last)) = (gone, view.row.current_attempt()) {
            let reason = match &gone.state {
                AttemptState::Lost { reason } => reason.as_str(),
                _ => "",
            };
            let again = last.minted.saturating_since(gone.moved).as_millis();
            let winner = name(names, last.provider);
            lost.push(format!(
                "  tile {number}: lost ({reason}), placed again with {winner} after {again} ms"
            ));
        }
    }
    match lost.as_slice() {
        // It ended in the moment of the kill, and its result was there.
        [] => text.push_str(" its last tile; that had just been finished, so nothing was lost."),
        [_] => text.push_str(&format!(" one tile:\n{}", lost.join("\n"))),
        _ => text.push_str(&format!(" {} tiles:\n{}", lost.len(), lost.join("\n"))),
    }
    text
}

/// Columns aligned by their widest cell; those in `right` to the right. Nothing at line ends.
fn table(head: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&head).chain(rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    std::iter::once(&head).chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let rows = vec![vec!["1".to_owned(), "größer".to_owned()], vec!["23".to_owned(), String::new()]];
        assert_eq!(table(&["ID", "NAME"], &rows, &[0]), "ID  NAME\n 1  größer\n23\n");
    }

    #[test]
    fn reasons_read_as_words() {
        assert_eq!(words("lock_share"), "lock share");
        assert_eq!(meaning("too_big"), "for good");
    }
}
