//! Prints what is known of the database as a whole: its size, a check, a rebuild, a backup.

use dms_messages::Timestamp;
use dms_storage::maintenance::{
    BackupReport, CheckReport, Finding, RebuildReport, RebuiltFamily, StatsReport,
};

use super::{age, count, escaped, fields, table};
use crate::records::{RowPage, RowQuery};
use crate::startup::offline::Restored;
use crate::time_text::to_the_second;

/// Bytes in the unit that a person would say.
fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let power = (number.ilog2() / 10).clamp(1, 4);
    // Rounded down: nothing is said to be more than it is.
    let tenths = u128::from(number) * 10 / (1u128 << (10 * power));
    let unit = UNITS[power as usize - 1];
    if tenths < 100 {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", tenths / 10)
    }
}

fn range(first: Option<u64>, last: Option<u64>) -> String {
    match (first, last) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => "none yet".to_owned(),
    }
}

fn path(path: &std::path::Path) -> String {
    escaped(&path.display().to_string())
}

/// `dms db stats`.
pub(in crate::cli) fn db_stats(report: &StatsReport, now: Timestamp) -> String {
    let StatsReport { path: place, schema, first_event, last_event, snapshot, sizes } = report;
    let mut lines = vec![
        ("database", place.as_deref().map_or_else(|| "in memory".to_owned(), path)),
        ("schema", schema.to_string()),
        ("events", range(*first_event, *last_event)),
        (
            "snapshot",
            match snapshot {
                Some(it) => format!("of event {}, {} ago", it.sequence, age(it.at, now)),
                None => "none yet: the log is whole".to_owned(),
            },
        ),
    ];
    if place.is_some() {
        let log = bytes(sizes.log_bytes);
        lines.push(("on disk", format!("{}, of which write-ahead log {log}", bytes(sizes.disk_bytes))));
    }
    let (buffers, cache) = (bytes(sizes.write_buffer_bytes), bytes(sizes.cache_bytes));
    lines.push(("in memory", format!("not yet in tables {buffers}, cache {cache}")));
    let rows: Vec<_> = sizes
        .families
        .iter()
        .map(|size| vec![size.family.clone(), size.rows.to_string(), bytes(size.bytes)])
        .collect();
    let about = if place.is_some() { "ROWS (ABOUT)" } else { "ROWS" };
    format!("{}\n{}", fields(&lines), table(&["FAMILY", about, "IN TABLES"], &rows))
}

/// `dms db check`.
pub(in crate::cli) fn db_check(report: &CheckReport) -> String {
    let mut text = fields(&[
        ("schema", report.schema.to_string()),
        ("events", format!("{}, {} read", range(report.first_event, report.last_event), report.events)),
        (
            "snapshot",
            match report.snapshot {
                Some(sequence) => format!("of event {sequence}, {}", count_u64(report.snapshot_rows, "row")),
                None => "none yet".to_owned(),
            },
        ),
        ("rows", format!("{} compared with the log", report.rows)),
        ("archived", format!("{} read", report.archived)),
        ("signatures", format!("{} verified", report.signatures)),
    ]);
    if report.is_sound() {
        text.push_str("\nthe books hold\n");
        return text;
    }
    let row = |Finding { part, place, what }: &Finding| {
        let part = serde_json::to_value(part).ok();
        let part = part.as_ref().and_then(|part| part.as_str()).unwrap_or_default().to_owned();
        vec![part, escaped(place), escaped(what)]
    };
    let rows: Vec<_> = report.findings.iter().map(row).collect();
    text.push('\n');
    text.push_str(&table(&["PART", "WHERE", "WHAT DOES NOT FIT"], &rows));
    if report.further_findings > 0 {
        text.push_str(&format!("… and {} more\n", report.further_findings));
    }
    text
}

fn count_u64(number: u64, one: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), one)
}

/// `dms db rebuild`.
pub(in crate::cli) fn db_rebuilt(report: &RebuildReport) -> String {
    let rows: u64 = report.families.iter().map(|family| family.rows).sum();
    let is_changed = |family: &&RebuiltFamily| family.mended + family.removed > 0;
    let changed: Vec<_> = report.families.iter().filter(is_changed).collect();
    let mut text = format!(
        "{} of the log up to event {}: {} in {}\n",
        count_u64(report.events, "event"),
        report.last_event.unwrap_or(0),
        count_u64(rows, "row"),
        match report.families.len() {
            1 => "1 family".to_owned(),
            number => format!("{number} families"),
        }
    );
    if changed.is_empty() {
        text.push_str("every row was as it should be\n");
        return text;
    }
    let row = |family: &&RebuiltFamily| {
        vec![
            family.family.clone(),
            family.rows.to_string(),
            family.mended.to_string(),
            family.removed.to_string(),
        ]
    };
    let rows: Vec<_> = changed.iter().map(row).collect();
    text.push('\n');
    text.push_str(&table(&["FAMILY", "ROWS", "MENDED", "REMOVED"], &rows));
    text
}

/// `dms db query`.
pub(in crate::cli) fn db_rows(page: &RowPage, query: &RowQuery) -> String {
    if page.rows.is_empty() {
        return match (&query.prefix, &query.after) {
            (None, None) => format!("no rows in {}\n", query.family),
            _ => format!("no such rows in {}\n", query.family),
        };
    }
    // What a row says is what is asked for: it is not cut to the width of a cell.
    let rows: Vec<_> = page.rows.iter().map(|row| vec![escaped(&row.name), escaped(&row.text)]).collect();
    table(&["KEY", "ROW"], &rows)
}

/// `dms db backup`.
pub(in crate::cli) fn db_backup(report: &BackupReport) -> String {
    fields(&[
        ("backup", path(&report.directory)),
        ("of", report.owner.map_or_else(|| "a node without a name".to_owned(), |did| did.to_string())),
        ("events", format!("up to {}", report.last_event.unwrap_or(0))),
        ("schema", report.schema.to_string()),
        ("size", format!("{} in {}", bytes(report.bytes), count_u64(report.files, "file"))),
    ])
}

/// `dms db restore`.
pub(in crate::cli) fn db_restored(Restored { report, .. }: &Restored, now: Timestamp) -> String {
    let mut lines = vec![
        ("database", path(&report.database)),
        ("of", report.owner.map_or_else(|| "a node without a name".to_owned(), |did| did.to_string())),
        ("made", format!("{} ({} ago)", to_the_second(report.made), age(report.made, now))),
        ("events", format!("up to {}", report.last_event.unwrap_or(0))),
        ("size", format!("{} in {}", bytes(report.bytes), count_u64(report.files, "file"))),
    ];
    if let Some(aside) = &report.moved_aside {
        lines.push(("before", format!("{} (moved aside)", path(aside))));
    }
    fields(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_said_in_one_unit_and_never_too_many() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10 * 1024 - 1, "9.9 KiB"),
            (10 * 1024, "10 KiB"),
            ((1 << 20) - 1, "1023 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "16777215 TiB"),
        ];
        for (number, text) in table {
            assert_eq!(bytes(number), text);
        }
    }
}
