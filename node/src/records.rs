//! What people and programs may see of the books on disk: the event log and the rows, in pages.
//!
//! Called by the API of a running node and by commands that work without one: both read the same database, and
//! neither asks the Node, so that looking costs it nothing. It only reads, and every page is bounded.

use std::collections::BTreeSet;
use std::sync::Arc;

use dms_messages::{AllocationId, BidId, Did, from_canonical_within};
use dms_storage::log::EventLog;
use dms_storage::rows::RowError;
use dms_storage::schema::Family;
use dms_storage::{Engine, EngineError, Entry, Reader, ReaderError};
use serde::{Deserialize, Serialize};

use crate::log_lines::{JobFilter, LogLine};
use crate::row_lines::{RowLine, hex};

/// Most lines of a page: each is at most a few hundred bytes, or a few KiB with its whole event.
pub const MAX_PAGE_LINES: usize = 1_000;
/// Most events that one page looks at to find those of a job: some 50 ms of work.
const MAX_PAGE_EVENTS: usize = 8_192;
/// Events read at a time: an event is seldom more than a few KiB and never more than 4 MiB.
const READ_EVENTS: usize = 64;
/// No page goes on after so many bytes of events, whatever was asked for.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Longest event, as the store has it.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Where a page of the log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStart {
    /// With this event; 0 is the first one that is kept.
    From(u64),
    /// With that event which is followed by the newest ones, so many in all.
    Newest(usize),
}

/// Which part of the log is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Where to begin.
    pub start: LogStart,
    /// Most lines.
    pub limit: usize,
    /// Only the events of the job whose id begins like this.
    pub job: Option<String>,
    /// Locks of that job which the page before knew.
    pub bids: BTreeSet<BidId>,
    /// Allocations of that job which the page before knew.
    pub allocations: BTreeSet<AllocationId>,
    /// True for lines with their whole events.
    pub is_whole: bool,
}

impl LogQuery {
    /// Takes the lines of an answer, and asks for what follows them from now on.
    pub fn go_on(&mut self, page: LogPage) -> Vec<LogLine> {
        self.start = LogStart::From(page.next);
        self.bids = page.bids;
        self.allocations = page.allocations;
        page.lines
    }
}

/// A part of the log, oldest event first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// The first event that is kept; 1 if there never was an event.
    pub first: u64,
    /// Where the next page begins.
    pub next: u64,
    /// True if nothing follows yet.
    pub is_end: bool,
    /// Live locks of the job that was asked for: to be handed in with the next page.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub bids: BTreeSet<BidId>,
    /// Its allocations here that are not acknowledged yet, likewise.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allocations: BTreeSet<AllocationId>,
}

/// Why a page cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// The log does not begin that early any more, or cannot be read.
    #[error(transparent)]
    Log(#[from] ReaderError),
    /// A row cannot be read.
    #[error(transparent)]
    Row(#[from] RowError),
    /// There is no such family.
    #[error("there is no family {0:?}; there are {names}", names = family_names())]
    UnknownFamily(String),
    /// What should be the beginning of a key is none.
    #[error("{0:?} is not the beginning of a key: neither an id nor hexadecimal digits")]
    Malformed(String),
}

fn family_names() -> String {
    Family::ALL.map(Family::name).join(", ")
}

impl From<EngineError> for RecordsError {
    fn from(error: EngineError) -> Self {
        Self::Log(error.into())
    }
}

/// The number of the newest event; 0 if there never was one.
///
/// # Errors
/// The engine's.
pub fn last_event(engine: &dyn Engine) -> Result<u64, RecordsError> {
    Ok(EventLog::last_sequence(engine)?.unwrap_or(0))
}

fn entry_of(sequence: u64, bytes: &[u8]) -> Result<Entry, RecordsError> {
    from_canonical_within(bytes, MAX_EVENT_BYTES)
        .map_err(|source| ReaderError::Unreadable { sequence, source }.into())
}

/// A page of the log.
///
/// # Errors
/// [`ReaderError::Cut`] if the page should begin with an event that is not kept any more; the engine's.
pub fn log_page(engine: &Arc<dyn Engine>, query: &LogQuery) -> Result<LogPage, RecordsError> {
    let first = EventLog::first_sequence(&**engine)?.unwrap_or(1);
    let last = last_event(&**engine)?;
    let from = match query.start {
        LogStart::From(0) => first,
        LogStart::From(from) => from,
        LogStart::Newest(count) => {
            first.max(last.saturating_add(1).saturating_sub(u64::try_from(count).unwrap_or(u64::MAX)))
        }
    };
    let limit = query.limit.clamp(1, MAX_PAGE_LINES);
    let mut filter = query
        .job
        .as_deref()
        .map(|job| JobFilter::new(job).knowing(query.bids.clone(), query.allocations.clone()));
    let mut page = LogPage { first, next: from, ..LogPage::default() };
    let mut reader = Reader::new(Arc::clone(engine), from);
    let (mut byte_count, mut event_count) = (0, 0);
    'page: while page.lines.len() < limit && byte_count < MAX_PAGE_BYTES && event_count < MAX_PAGE_EVENTS {
        // Without a filter every event is a line: no more are read than fit.
        let wanted = if filter.is_some() { READ_EVENTS } else { READ_EVENTS.min(limit - page.lines.len()) };
        let events = reader.next_page(wanted)?;
        if events.is_empty() {
            page.is_end = true;
            break;
        }
        for (sequence, bytes) in events {
            if page.lines.len() == limit {
                break 'page;
            }
            let entry = entry_of(sequence, &bytes)?;
            if filter.as_mut().is_none_or(|filter| filter.takes(&entry.event)) {
                page.lines.push(LogLine::of(sequence, &entry, query.is_whole));
            }
            page.next = sequence + 1;
            byte_count += bytes.len();
            event_count += 1;
        }
    }
    if let Some(filter) = filter {
        (page.bids, page.allocations) = filter.into_known();
    }
    Ok(page)
}

/// Most rows of a page.
pub const MAX_PAGE_ROWS: usize = 1_000;
/// Longest prefix that is understood, in characters: a DID and a CID have about 60.
const MAX_PREFIX: usize = 256;

/// Which rows are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowQuery {
    /// Of which family, by its name on disk.
    pub family: String,
    /// Only those whose keys begin like this: an id or the beginning of one, or hexadecimal digits.
    pub prefix: Option<String>,
    /// Only those behind this key, in hexadecimal digits.
    pub after: Option<String>,
    /// Most rows.
    pub limit: usize,
    /// True for lines with their whole rows.
    pub is_whole: bool,
}

/// A part of a family, in the order of its keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RowPage {
    /// The rows.
    pub rows: Vec<RowLine>,
    /// The key that the next page comes after; none if nothing follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The family with this name.
///
/// # Errors
/// [`RecordsError::UnknownFamily`].
pub fn family(name: &str) -> Result<Family, RecordsError> {
    let family = Family::ALL.into_iter().find(|family| family.name() == name);
    family.ok_or_else(|| RecordsError::UnknownFamily(name.chars().take(64).collect()))
}

/// A page of rows.
///
/// # Errors
/// [`RecordsError`].
pub fn row_page(engine: &Arc<dyn Engine>, query: &RowQuery) -> Result<RowPage, RecordsError> {
    let family = family(&query.family)?;
    let prefix = match &query.prefix {
        Some(text) => KeyPrefix::read(family, text)?,
        None => KeyPrefix::default(),
    };
    let after = query.after.as_deref().map(|text| whole_bytes(text).ok_or_else(|| malformed(text)));
    let mut after = after.transpose()?;
    let limit = query.limit.clamp(1, MAX_PAGE_ROWS);
    let reader = Reader::new(Arc::clone(engine), 0);
    let mut page = RowPage::default();
    let mut byte_count = 0;
    loop {
        let rows = reader.query(family, &prefix.bytes, after.as_deref(), READ_EVENTS)?;
        let Some(last) = rows.last() else { return Ok(page) };
        after = Some(last.key.clone());
        for row in rows.iter().filter(|row| prefix.is_of(&row.key)) {
            // Only now it is known that something follows.
            if page.rows.len() == limit || byte_count > MAX_PAGE_BYTES {
                page.next = page.rows.last().map(|row| row.key.clone());
                return Ok(page);
            }
            let line = RowLine::of(row, query.is_whole);
            byte_count += line.key.len() + line.text.len() + line.row.as_ref().map_or(0, json_bytes);
            page.rows.push(line);
        }
    }
}

/// About how long a value is as text.
fn json_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(json_bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + json_bytes(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

/// How keys begin: whole bytes, and the digits of the key that they are a part of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct KeyPrefix {
    bytes: Vec<u8>,
    /// With the last half byte, if half a byte was given.
    digits: String,
}

impl KeyPrefix {
    /// Reads what a person gives for the beginning of a key of `family`.
    fn read(family: Family, text: &str) -> Result<Self, RecordsError> {
        if text.len() > MAX_PREFIX {
            return Err(malformed(text));
        }
        if let Ok(did) = text.parse::<Did>() {
            return Ok(Self::of(did.public_key().to_vec()));
        }
        if family == Family::Events && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = text.parse::<u64>().map_err(|_| malformed(text))?;
            return Ok(Self::of(number.to_be_bytes().to_vec()));
        }
        if matches!(family, Family::Archive | Family::ArchiveByTime)
            && let Some((kind, id)) = text.split_once(':')
        {
            let kinds = [("job", 1), ("allocation", 2), ("contract", 3)];
            let kind = kinds.iter().find(|(name, _)| *name == kind).ok_or_else(|| malformed(text))?.1;
            let Self { bytes, digits } = Self::id(id).ok_or_else(|| malformed(text))?;
            return Ok(Self { bytes: [&[kind], &bytes[..]].concat(), digits: format!("{kind:02x}{digits}") });
        }
        match Self::id(text) {
            Some(prefix) => Ok(prefix),
            // Keys of the family of notes and the like are words.
            None if family == Family::Meta => Ok(Self::of(text.as_bytes().to_vec())),
            None => Err(malformed(text)),
        }
    }

    /// An id that is shown as hexadecimal digits, or as a CID; or the beginning of one.
    fn id(text: &str) -> Option<Self> {
        let digits: String =
            text.chars().filter(|letter| *letter != '-').map(|letter| letter.to_ascii_lowercase()).collect();
        if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let bytes = whole_bytes(&digits[..digits.len() / 2 * 2])?;
            return Some(Self { bytes, digits });
        }
        // A CID of ours begins with `b` and goes on in base 32, five bits a letter. The last bits may be too few for a
        // byte: they are left out, and rows that differ only there are shown too.
        let letters = text.strip_prefix('b')?;
        let (mut bits, mut bit_count, mut bytes) = (0u32, 0, Vec::new());
        for letter in letters.bytes() {
            let value = match letter {
                b'a'..=b'z' => letter - b'a',
                b'2'..=b'7' => letter - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u32::from(value);
            bit_count += 5;
            if bit_count >= 8 {
                bit_count -= 8;
                bytes.push(u8::try_from(bits >> bit_count & 0xff).expect("eight bits are a byte"));
            }
        }
        Some(Self::of(bytes))
    }

    fn of(bytes: Vec<u8>) -> Self {
        Self { digits: hex(&bytes), bytes }
    }

    fn is_of(&self, key: &[u8]) -> bool {
        // The whole bytes are already known to fit.
        self.digits.len().is_multiple_of(2) || hex(key).starts_with(&self.digits)
    }
}

/// Reads an even number of hexadecimal digits.
fn whole_bytes(digits: &str) -> Option<Vec<u8>> {
    let is_hex = digits.len().is_multiple_of(2) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    is_hex.then(|| (0..digits.len()).step_by(2).map(pair).collect()).flatten()
}

fn malformed(text: &str) -> RecordsError {
    RecordsError::Malformed(text.chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_messages::{AllocationState, JobId, JobPhase, Timestamp, to_canonical};
    use dms_storage::{Batch, Durability, Event, MemoryEngine};

    fn job(number: u8) -> JobId {
        JobId::from_bytes([number; 16])
    }

    /// A log whose event n moves job n modulo 3.
    fn log_of(count: u64) -> Arc<dyn Engine> {
        let engine = MemoryEngine::new();
        let mut batch = Batch::new();
        for sequence in 1..=count {
            let number = u8::try_from(sequence % 3).unwrap();
            let event = Event::JobMoved { job: job(number), phase: JobPhase::Bidding };
            let entry = Entry { at: Timestamp(sequence), event };
            EventLog::append(&mut batch, sequence, &to_canonical(&entry).unwrap());
        }
        engine.write(batch, Durability::Unsynced).unwrap();
        Arc::new(engine)
    }

    fn query(start: LogStart, limit: usize, job: Option<&str>) -> LogQuery {
        LogQuery {
            start,
            limit,
            job: job.map(str::to_owned),
            bids: BTreeSet::new(),
            allocations: BTreeSet::new(),
            is_whole: false,
        }
    }

    fn numbers(page: &LogPage) -> Vec<u64> {
        page.lines.iter().map(|line| line.sequence).collect()
    }

    #[test]
    fn pages_joined_are_the_log_whatever_their_length() {
        let engine = log_of(200);
        for wanted in [None, Some("02020202")] {
            let expected: Vec<u64> = (1..=200).filter(|n| wanted.is_none() || n % 3 == 2).collect();
            for limit in [1, 2, 7, 63, 64, 65, 199, 200, 201, usize::MAX] {
                let mut query = query(LogStart::From(0), limit, wanted);
                let mut joined = Vec::new();
                loop {
                    let page = log_page(&engine, &query).unwrap();
                    assert!(page.lines.len() <= limit);
                    joined.extend(numbers(&page));
                    let is_end = page.is_end;
                    query.go_on(page);
                    if is_end {
                        break;
                    }
                }
                assert_eq!(joined, expected, "{wanted:?} by {limit}");
                assert_eq!(query.start, LogStart::From(201));
            }
        }
    }

    #[test]
    fn a_page_begins_where_it_is_asked_to_or_says_why_not() {
        let engine = log_of(10);
        let page = |start, limit| log_page(&engine, &query(start, limit, None)).map(|page| numbers(&page));
        assert_eq!(page(LogStart::Newest(3), 50).unwrap(), [8, 9, 10]);
        assert_eq!(page(LogStart::Newest(3), 2).unwrap(), [8, 9]);
        assert_eq!(page(LogStart::Newest(usize::MAX), 50).unwrap().len(), 10);
        assert_eq!(page(LogStart::From(9), 50).unwrap(), [9, 10]);
        assert_eq!(page(LogStart::From(11), 50).unwrap(), Vec::<u64>::new());
        assert_eq!(page(LogStart::From(u64::MAX), 50).unwrap(), Vec::<u64>::new());
        assert_eq!(page(LogStart::From(1), 0).unwrap(), [1], "a page is never without hope");

        let mut batch = Batch::new();
        EventLog::cut(&*engine, &mut batch, 5, 10).unwrap();
        engine.write(batch, Durability::Unsynced).unwrap();
        assert_eq!(page(LogStart::From(0), 2).unwrap(), [5, 6]);
        assert_eq!(page(LogStart::Newest(100), 1).unwrap(), [5]);
        let cut = page(LogStart::From(2), 2).unwrap_err();
        assert!(matches!(cut, RecordsError::Log(ReaderError::Cut { wanted: 2, first: 5 })), "{cut:?}");

        let empty: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let nothing = log_page(&empty, &query(LogStart::Newest(5), 5, None)).unwrap();
        assert_eq!(nothing, LogPage { first: 1, next: 1, is_end: true, ..LogPage::default() });
    }

    #[test]
    fn an_event_that_cannot_be_read_is_named() {
        let engine = log_of(3);
        let mut batch = Batch::new();
        EventLog::append(&mut batch, 4, b"nonsense");
        engine.write(batch, Durability::Unsynced).unwrap();
        let error = log_page(&engine, &query(LogStart::From(1), 9, None)).unwrap_err();
        assert!(matches!(error, RecordsError::Log(ReaderError::Unreadable { sequence: 4, .. })), "{error:?}");
        assert_eq!(numbers(&log_page(&engine, &query(LogStart::From(1), 3, None)).unwrap()), [1, 2, 3]);
    }

    #[test]
    fn what_the_page_before_knew_of_a_job_goes_on() {
        let allocation = AllocationId::from_bytes([9; 16]);
        let engine = MemoryEngine::new();
        let mut batch = Batch::new();
        let event = Event::AllocationMoved { allocation, state: AllocationState::Running };
        EventLog::append(&mut batch, 1, &to_canonical(&Entry { at: Timestamp(1), event }).unwrap());
        engine.write(batch, Durability::Unsynced).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(engine);
        let mut query = query(LogStart::From(0), 9, Some("01"));
        assert_eq!(numbers(&log_page(&engine, &query).unwrap()), Vec::<u64>::new());
        query.allocations.insert(allocation);
        let page = log_page(&engine, &query).unwrap();
        assert_eq!((numbers(&page), page.allocations.len()), (vec![1], 1));
    }

    #[test]
    fn rows_come_in_pages_by_any_beginning_of_their_keys() {
        let engine = log_of(100);
        let rows = |prefix: Option<&str>, limit| {
            let (mut keys, mut after) = (Vec::new(), None);
            loop {
                let prefix = prefix.map(str::to_owned);
                let family = "events".to_owned();
                let query = RowQuery { family, prefix, after, limit, is_whole: false };
                let page = row_page(&engine, &query)?;
                assert!(page.rows.len() <= limit);
                keys.extend(page.rows.into_iter().map(|row| row.name));
                after = page.next;
                if after.is_none() {
                    return Ok::<_, RecordsError>(keys);
                }
            }
        };
        let all: Vec<String> = (1..=100).map(|number| number.to_string()).collect();
        for limit in [1, 3, 64, 100, 1000] {
            assert_eq!(rows(None, limit).unwrap(), all);
            assert_eq!(rows(Some("17"), limit).unwrap(), ["17"]);
            // Half a byte: 0x10 to 0x1f.
            let half: Vec<String> = (16..32).map(|number| number.to_string()).collect();
            assert_eq!(rows(Some("000000-00000000-1"), limit).unwrap(), half);
        }
        assert_eq!(rows(Some("ff"), 5).unwrap(), Vec::<String>::new());
        assert!(matches!(rows(Some("x"), 5), Err(RecordsError::Malformed(_))));
        let query = |family: &str, after: Option<&str>| RowQuery {
            family: family.to_owned(),
            prefix: None,
            after: after.map(str::to_owned),
            limit: 5,
            is_whole: true,
        };
        let unknown = row_page(&engine, &query("job", None)).unwrap_err();
        assert!(unknown.to_string().contains("jobs, allocations"), "{unknown}");
        assert!(matches!(row_page(&engine, &query("jobs", Some("0"))), Err(RecordsError::Malformed(_))));
    }

    #[test]
    fn beginnings_of_keys_are_read_as_ids_are_printed() {
        let cid = dms_messages::ContentId::of_bytes(b"x");
        let did = dms_messages::Keypair::from_secret(&[1; 32]).did();
        let whole = |bytes: &[u8]| KeyPrefix::of(bytes.to_vec());
        let half =
            |bytes: &[u8], digits: &str| KeyPrefix { bytes: bytes.to_vec(), digits: digits.to_owned() };
        let jobs = |text: &str| KeyPrefix::read(Family::Jobs, text).ok();
        assert_eq!(jobs(""), Some(KeyPrefix::default()));
        assert_eq!(jobs("01aB"), Some(whole(&[0x01, 0xab])));
        assert_eq!(jobs("01a"), Some(half(&[0x01], "01a")));
        assert_eq!(jobs("0192abcd-12"), Some(whole(&[0x01, 0x92, 0xab, 0xcd, 0x12])));
        assert_eq!(jobs(&did.to_string()), Some(whole(did.public_key())));
        for text in ["xyz", "b18x", "did:key:z", "0 1", "b\u{e4}", &"0".repeat(300)] {
            assert_eq!(jobs(text), None, "{text}");
        }
        let text = cid.to_string();
        assert_eq!(KeyPrefix::read(Family::Contracts, &text).unwrap(), whole(&cid.to_bytes()));
        let beginning = KeyPrefix::read(Family::Contracts, &text[..18]).unwrap();
        assert!(beginning.bytes.len() == 10 && cid.to_bytes().starts_with(&beginning.bytes), "{beginning:?}");
        assert_eq!(KeyPrefix::read(Family::Events, "258").unwrap(), whole(&258u64.to_be_bytes()));
        assert_eq!(KeyPrefix::read(Family::Archive, "allocation:a").unwrap(), half(&[2], "02a"));
        assert_eq!(KeyPrefix::read(Family::Archive, "job:").unwrap(), whole(&[1]));
        assert!(KeyPrefix::read(Family::Archive, "bid:01").is_err());
        assert_eq!(KeyPrefix::read(Family::Meta, "card").unwrap(), whole(b"card"));
        assert!(half(&[0x01], "01a").is_of(&[0x01, 0xaf]) && !half(&[0x01], "01a").is_of(&[0x01, 0xbf]));
    }
}
