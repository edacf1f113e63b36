//! Reads everything in a database and says what does not fit; changes nothing.
//!
//! Opening the books trusts what was verified when it was written; a check does not. Every event and every row of the
//! snapshot and of the archive is decoded strictly and its signatures are verified. The live rows need no such look:
//! they must be, byte by byte, what those say.

use std::collections::BTreeMap;
use std::error::Error;

use dms_messages::{CborError, from_canonical_within, without_verifying};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{expected_rows, hex, peer_key};
use crate::MAX_ENTRY_LENGTH;
use crate::books::{Archived, ArchivedRow, Books, ContractRow, Entry, Event};
use crate::engine::{Batch, Engine, EngineError, ScanRange, Write, for_each_row};
use crate::log::EventLog;
use crate::migration;
use crate::replay::{FIRST_SEQUENCE, replay};
use crate::rows::archive_by_time::ArchiveByTime;
use crate::rows::{self, Index, OrderedKey, Row};
use crate::schema::{Family, SCHEMA_VERSION};
use crate::snapshot::{self, SnapshotMark};
use crate::store::StoreError;

/// How many rows or events are read at a time.
const PAGE: usize = 1024;

/// Most findings a report spells out; a database in pieces would otherwise fill the memory with them.
pub const MAX_FINDINGS: usize = 100;

/// What a check read and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// The schema version of the rows.
    pub schema: u32,
    /// The first event still kept; none if there never was one.
    pub first_event: Option<u64>,
    /// The last event; none if there never was one.
    pub last_event: Option<u64>,
    /// How many events were read.
    pub events: u64,
    /// The last event in the snapshot; none without one.
    pub snapshot: Option<u64>,
    /// How many live and look-up rows were compared with the log.
    pub rows: u64,
    /// How many rows the snapshot holds.
    pub snapshot_rows: u64,
    /// How many archived things were read.
    pub archived: u64,
    /// How many signatures were verified.
    pub signatures: u64,
    /// What does not fit, in the order found; at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many more findings there were.
    pub further_findings: u64,
}

/// One thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which part of the database.
    pub part: Part,
    /// Where in it: an event's number, a family and a key in hexadecimal.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

/// A part of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The event log.
    Log,
    /// The snapshot.
    Snapshot,
    /// The live and look-up rows.
    Rows,
    /// What is over.
    Archive,
    /// `registered = available + locked + allocated`.
    Law,
    /// A signature in an event or a row that can be read otherwise.
    Signature,
}

impl CheckReport {
    /// Whether nothing was found.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Reads everything: the log must have no gap, and snapshot and log together must give the live rows byte by byte;
/// archived rows must be readable and indexed, the law must hold, and every signature must be good.
///
/// Meant for a database that nobody writes to: what is written meanwhile would look like a difference.
///
/// # Errors
/// [`StoreError::Engine`] if the engine cannot be read at all; whatever is wrong with what was read is a finding.
pub fn check(engine: &dyn Engine) -> Result<CheckReport, StoreError> {
    let mut report = CheckReport { schema: migration::stored_version(engine)?, ..CheckReport::default() };
    check_log(engine, &mut report)?;
    let mut by_peer = BTreeMap::new();
    check_archive(engine, &mut report, &mut by_peer)?;
    check_snapshot(engine, &mut report)?;
    match replay(engine) {
        Ok(replayed) => check_rows(engine, &replayed.books, by_peer, &mut report)?,
        Err(StoreError::Engine(error)) if !matches!(error, EngineError::Damaged { .. }) => {
            return Err(error.into());
        }
        Err(error) => report.find(Part::Log, "the books", &chain(&error)),
    }
    Ok(report)
}

impl CheckReport {
    fn find(&mut self, part: Part, place: &str, what: &str) {
        if self.findings.len() == MAX_FINDINGS {
            self.further_findings += 1;
            return;
        }
        self.findings.push(Finding { part, place: place.to_owned(), what: what.to_owned() });
    }
}

/// Reads and verifies every event.
fn check_log(engine: &dyn Engine, report: &mut CheckReport) -> Result<(), EngineError> {
    let bounds =
        EventLog::first_sequence(engine).and_then(|first| Ok((first, EventLog::last_sequence(engine)?)));
    (report.first_event, report.last_event) = match bounds {
        Err(EngineError::Damaged { reason }) => {
            report.find(Part::Log, "events", &reason);
            return Ok(());
        }
        other => other?,
    };
    let Some(mut next) = report.first_event else { return Ok(()) };
    loop {
        let page = match EventLog::read(engine, next, PAGE) {
            Err(EngineError::Damaged { reason }) => {
                report.find(Part::Log, &format!("event {next} and later"), &reason);
                // One event at a time up to the damage, then on behind it.
                match skip_damage(engine, next, report)? {
                    Some(behind) => next = behind,
                    None => return Ok(()),
                }
                continue;
            }
            other => other?,
        };
        let Some((last, _)) = page.last() else { return Ok(()) };
        next = last.saturating_add(1);
        for (sequence, bytes) in page {
            check_event(sequence, &bytes, report);
        }
    }
}

/// Reads on one by one from `next`; the first event behind the first that cannot be read, or is missing.
fn skip_damage(
    engine: &dyn Engine,
    mut next: u64,
    report: &mut CheckReport,
) -> Result<Option<u64>, EngineError> {
    loop {
        match EventLog::read(engine, next, 1) {
            Ok(page) => {
                let Some((sequence, bytes)) = page.first() else { return Ok(None) };
                check_event(*sequence, bytes, report);
                next = sequence.saturating_add(1);
            }
            Err(EngineError::Damaged { .. }) => {
                let Some(behind) = next.checked_add(1) else { return Ok(None) };
                let behind = ScanRange::from(behind.to_be_bytes());
                let key = engine.scan(Family::Events, behind, 1)?.into_iter().next().map(|(key, _)| key);
                // A key that is no number was found by the last number already.
                return Ok(key.and_then(|key| key.try_into().ok()).map(u64::from_be_bytes));
            }
            Err(error) => return Err(error),
        }
    }
}

fn check_event(sequence: u64, bytes: &[u8], report: &mut CheckReport) {
    report.events += 1;
    match from_canonical_within::<Entry>(bytes, MAX_ENTRY_LENGTH) {
        Ok(entry) => report.signatures += signed_words(&entry.event),
        Err(error) => {
            let part = match error {
                CborError::Decode(_)
                    if is_readable(|| from_canonical_within::<Entry>(bytes, MAX_ENTRY_LENGTH)) =>
                {
                    Part::Signature
                }
                _ => Part::Log,
            };
            report.find(part, &format!("event {sequence}"), &chain(&error));
        }
    }
}

/// Whether something is well-formed and can be read while signatures are not looked at: then one of them was wrong.
fn is_readable<T, E>(read: impl FnOnce() -> Result<T, E>) -> bool {
    without_verifying(read).is_ok()
}

/// How many signatures an event holds; decoding it verified them.
fn signed_words(event: &Event) -> u64 {
    match event {
        Event::AllocationAccepted { .. } => 2,
        Event::NodeNamed { .. }
        | Event::BidSent { .. }
        | Event::BidReceived { .. }
        | Event::AttemptMinted { .. }
        | Event::AttemptAccepted { .. } => 1,
        _ => 0,
    }
}

/// Reads and verifies what is archived, and the index over it; the rows by peer of archived contracts go to `by_peer`.
fn check_archive(
    engine: &dyn Engine,
    report: &mut CheckReport,
    by_peer: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(), EngineError> {
    for_each_row(engine, Family::Archive, |key, value| {
        report.archived += 1;
        let place = place(Family::Archive, &key);
        let archived: Archived = match decode_row(Family::Archive, &value) {
            Ok(archived) => archived,
            Err(what) => {
                let is_readable = is_readable(|| decode_row::<Archived>(Family::Archive, &value));
                let part = if is_readable { Part::Signature } else { Part::Archive };
                report.find(part, &place, &what);
                return Ok(());
            }
        };
        if let ArchivedRow::Contract(row) = &archived.row {
            report.signatures += 1 + u64::from(row.accepted.is_some());
            by_peer.insert(peer_key(row), Vec::new());
        }
        // What writing it now would write is what must be there.
        let mut batch = Batch::new();
        rows::put_archived(&mut batch, &archived);
        for Write { family, key: wanted_key, value: wanted } in batch.into_writes() {
            let (found_key, found) = if family == Family::Archive {
                (key.clone(), Some(value.clone()))
            } else {
                (wanted_key.clone(), engine.get(family, &wanted_key)?)
            };
            if found_key != wanted_key {
                report.find(Part::Archive, &place, "its key is not that of what it holds");
            } else if found.is_none() {
                report.find(Part::Rows, &place, &format!("it is missing in {}", family.name()));
            } else if found != wanted {
                report.find(Part::Rows, &place, &format!("{} says something else", family.name()));
            }
        }
        Ok(())
    })?;
    // The index can be made again from the archive, so what is wrong in it is wrong in a row.
    for_each_row(engine, Family::ArchiveByTime, |key, _| {
        let is_archived = match ArchiveByTime::key(&key) {
            // With another time, it was archived anew since.
            Ok(time) => engine.get(Family::Archive, &time.id.to_bytes())?.is_some(),
            Err(_) => false,
        };
        if !is_archived {
            report.find(Part::Rows, &place(Family::ArchiveByTime, &key), "it names nothing that is archived");
        }
        Ok(())
    })
}

/// Reads and verifies every row of the snapshot, and whether they are books at all.
fn check_snapshot(engine: &dyn Engine, report: &mut CheckReport) -> Result<(), StoreError> {
    let mark = match SnapshotMark::read(engine) {
        Err(EngineError::Damaged { reason }) => {
            report.find(Part::Snapshot, "meta", &reason);
            return Ok(());
        }
        other => other?,
    };
    report.snapshot = mark.map(|mark| mark.sequence);
    for_each_row::<EngineError>(engine, Family::Snapshot, |key, value| {
        report.snapshot_rows += 1;
        let signed = match key.first().copied().and_then(Family::from_tag) {
            Some(Family::Meta) => u64::from(key[1..] == Row::Card.key()),
            Some(Family::BidsSent | Family::BidsReceived) => 1,
            Some(Family::Contracts) => decode_row::<ContractRow>(Family::Contracts, &value)
                .map_or(0, |row| 1 + u64::from(row.accepted.is_some())),
            _ => 0,
        };
        report.signatures += signed;
        Ok(())
    })?;
    if mark.is_none() {
        // With the whole log there, they are what a crash left of the first snapshot: nobody reads them.
        if report.snapshot_rows > 0 && report.first_event != Some(FIRST_SEQUENCE) {
            report.find(Part::Snapshot, "meta", "there are rows, but nothing says of which event");
        }
        return Ok(());
    }
    // Unlike an opening, this verifies every signature on the way.
    match snapshot::restore(engine) {
        Ok((books, _)) => {
            if let Err(error) = books.check() {
                report.find(Part::Law, "the snapshot", &chain(&error));
            }
        }
        Err(error) => {
            let part =
                if is_readable(|| snapshot::restore(engine)) { Part::Signature } else { Part::Snapshot };
            report.find(part, "the rows", &chain(&error));
        }
    }
    Ok(())
}

/// Compares every live row and look-up row with the books.
fn check_rows(
    engine: &dyn Engine,
    books: &Books,
    archived_by_peer: BTreeMap<Vec<u8>, Vec<u8>>,
    report: &mut CheckReport,
) -> Result<(), EngineError> {
    if let Err(error) = books.check() {
        report.find(Part::Law, "the books", &chain(&error));
    }
    let outdated = if report.schema < SCHEMA_VERSION {
        migration::outdated_families(report.schema)
    } else {
        Default::default()
    };
    let mut expected = expected_rows(books);
    expected.entry(Family::ContractsByPeer).or_default().extend(archived_by_peer);
    for (family, mut wanted) in expected.into_iter().filter(|(family, _)| !outdated.contains(family)) {
        for_each_row(engine, family, |key, value| {
            if family == Family::Meta && !wanted.contains_key(&key) {
                // The database's own facts.
                return Ok(());
            }
            report.rows += 1;
            let what = match wanted.remove(&key) {
                Some(bytes) if bytes == value => return Ok(()),
                Some(_) => "it is not what the log says",
                None => "the log knows nothing of it",
            };
            report.find(Part::Rows, &place(family, &key), what);
            Ok(())
        })?;
        for key in wanted.into_keys() {
            report.find(Part::Rows, &place(family, &key), "it is missing");
        }
    }
    Ok(())
}

fn decode_row<T: DeserializeOwned>(family: Family, value: &[u8]) -> Result<T, String> {
    rows::decode(family, value).map_err(|error| chain(&error))
}

fn place(family: Family, key: &[u8]) -> String {
    format!("{} {}", family.name(), hex(key))
}

/// An error with what is beneath it, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(error) = beneath {
        text = format!("{text}: {error}");
        beneath = error.source();
    }
    text
}
