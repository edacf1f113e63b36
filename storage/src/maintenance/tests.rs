//! What a check finds, what a rebuild mends, and that a backup is worth its name.

mod torn;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dms_messages::{JobId, Timestamp, from_canonical_within};
use tempfile::TempDir;

use super::*;
use crate::MAX_ENTRY_LENGTH;
use crate::books::{Entry, Event};
use crate::committer::Committer;
use crate::engine::{Batch, Durability, Engine, MemoryEngine, RocksEngine, RocksOptions};
use crate::engine::{EngineError, ScanRange};
use crate::schema::{SCHEMA_VERSION, SCHEMA_VERSION_KEY};
use crate::store::{Store, StoreOptions};

const NOW: Timestamp = Timestamp(1_780_000_000_000);

/// Small numbers, so that a short story brings snapshots and cuts of the log.
const OFTEN: StoreOptions = StoreOptions { snapshot_rows: 40, snapshot_events: 20, keep_events: 30 };

/// A job with bids, and an allocation that ran under a contract; signed by real keys. Without the attempts, which were
/// written for both parties of the contract at once, and its other party is one only.
fn fixture() -> Vec<Entry> {
    let lines = include_str!("../migration/version_1.txt").lines();
    let events = lines.filter_map(|line| line.strip_prefix("events ")?.split_once(' '));
    let bytes = |hex: &str| -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect()
    };
    let entry = |value: &str| from_canonical_within(&bytes(value)[1..], MAX_ENTRY_LENGTH).expect("an event");
    let entries = events.map(|(_, value)| -> Entry { entry(value) });
    entries.filter(|entry| !entry.event.name().starts_with("attempt_")).collect()
}

/// The fixture, more jobs than end, a settling in the middle of them, and words that were seen.
fn story(length: usize) -> Vec<Entry> {
    let mut entries = fixture();
    let job = entries.iter().find_map(|entry| match &entry.event {
        Event::JobSubmitted { job } => Some(job.clone()),
        _ => None,
    });
    let job = job.expect("the fixture submits a job");
    for n in 0u64.. {
        if entries.len() >= length {
            break;
        }
        let mut id = [7; 16];
        id[8..].copy_from_slice(&n.to_be_bytes());
        let event = match n % 4 {
            0 => Event::JobSubmitted { job: dms_messages::Job { id: JobId::from_bytes(id), ..job.clone() } },
            1 if n == 9 => Event::Settled { ended_before: Timestamp(u64::MAX) },
            _ => Event::DocumentSeen { id: dms_messages::DocumentId(id), until: Timestamp(u64::MAX) },
        };
        entries.push(Entry { at: Timestamp(1_000 + n), event });
    }
    entries
}

fn record(engine: &Arc<dyn Engine>, options: StoreOptions, entries: &[Entry]) {
    let committer = Committer::inline(Arc::clone(engine));
    let (mut store, mut books) = Store::open_with(Arc::clone(engine), committer, options).expect("opens");
    for entry in entries {
        store.record(&mut books, std::slice::from_ref(entry)).expect("fits").wait().expect("commits");
    }
}

fn in_memory(options: StoreOptions) -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::new());
    let shared: Arc<dyn Engine> = engine.clone();
    record(&shared, options, &story(120));
    engine
}

fn on_disk(path: &Path, options: StoreOptions) -> RocksEngine {
    let engine = Arc::new(RocksEngine::open(path, &RocksOptions::default()).expect("creates"));
    let shared: Arc<dyn Engine> = engine.clone();
    record(&shared, options, &story(120));
    drop(shared);
    Arc::into_inner(engine).expect("the store is gone")
}

fn everything(engine: &dyn Engine) -> BTreeMap<(Family, Vec<u8>), Vec<u8>> {
    let rows = |family| engine.scan(family, ScanRange::all(), usize::MAX).expect("scans");
    let with = |family| rows(family).into_iter().map(move |(key, value)| ((family, key), value));
    Family::ALL.into_iter().flat_map(with).collect()
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn sound(engine: &dyn Engine) -> CheckReport {
    let report = check(engine).expect("reads");
    assert_eq!(report.findings, []);
    assert!(report.is_sound());
    report
}

#[test]
fn sound_books_have_no_findings() {
    for options in [StoreOptions::default(), OFTEN] {
        let directory = temporary();
        let (memory, disk) = (in_memory(options), on_disk(directory.path(), options));
        let before = everything(&*memory);
        let report = sound(&*memory);
        assert_eq!(everything(&*memory), before, "a check changes nothing");
        assert_eq!(sound(&disk), report, "on disk as in memory");
        assert_eq!((report.schema, report.last_event), (SCHEMA_VERSION, Some(120)));
        assert_eq!(report.archived, 3, "a job, an allocation and their contract are over");
        assert!(report.rows > 60, "{report:?}");
        let is_cut = options == OFTEN;
        assert_eq!(report.first_event != Some(1), is_cut);
        assert_eq!(report.snapshot.is_some(), is_cut);
        assert_eq!(report.events, 121 - report.first_event.expect("there are events"));
        assert!(report.signatures >= if is_cut { 5 } else { 7 }, "{report:?}");
    }
    let empty = sound(&MemoryEngine::new());
    assert_eq!((empty.events, empty.rows, empty.last_event), (0, 0, None));
}

/// Some row of a family, for a table of damages.
fn first_row(engine: &dyn Engine, family: Family) -> (Vec<u8>, Vec<u8>) {
    engine.scan(family, ScanRange::all(), 1).expect("scans").pop().expect("there is a row")
}

fn put(engine: &dyn Engine, family: Family, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(family, key, value);
    engine.write(batch, Durability::Synced).expect("writes");
}

fn delete(engine: &dyn Engine, family: Family, key: &[u8]) {
    let mut batch = Batch::new();
    batch.delete(family, key);
    engine.write(batch, Durability::Synced).expect("writes");
}

/// Changes the last byte of the last 64-byte string in a row, which is a signature where there is one.
fn forge(engine: &dyn Engine, family: Family, is_wanted: impl Fn(&[u8], &[u8]) -> bool) {
    let rows = engine.scan(family, ScanRange::all(), usize::MAX).expect("scans");
    let (key, mut value) = rows.into_iter().find(|(key, value)| is_wanted(key, value)).expect("such a row");
    let at = value.windows(2).rposition(|bytes| bytes == [0x58, 0x40]).expect("a string of 64 bytes");
    value[at + 2 + 20] ^= 1;
    put(engine, family, &key, &value);
}

/// A damage, and the part of the database that it is to be found in.
type Damage = (&'static str, StoreOptions, fn(&dyn Engine), Part);

#[test]
fn every_kind_of_damage_is_found_where_it_is() {
    const ONCE: StoreOptions =
        StoreOptions { snapshot_rows: usize::MAX, snapshot_events: u64::MAX, keep_events: 0 };
    let damages: [Damage; 17] = [
        ("an event is missing", OFTEN, |e| delete(e, Family::Events, &110u64.to_be_bytes()), Part::Log),
        (
            "an event is cut short",
            ONCE,
            |e| put(e, Family::Events, &50u64.to_be_bytes(), &[1, 0xa2]),
            Part::Log,
        ),
        (
            "an event has another version",
            ONCE,
            |e| put(e, Family::Events, &50u64.to_be_bytes(), &[9]),
            Part::Log,
        ),
        (
            "an event is forged",
            ONCE,
            |e| forge(e, Family::Events, |_, v| v.windows(8).any(|w| w == b"bid_sent")),
            Part::Signature,
        ),
        ("a key is no number", ONCE, |e| put(e, Family::Events, b"\xffx", &[1]), Part::Log),
        (
            "the log ends too early",
            OFTEN,
            |e| (91..=120u64).for_each(|n| delete(e, Family::Events, &n.to_be_bytes())),
            Part::Log,
        ),
        ("a row is missing", OFTEN, |e| delete(e, Family::Jobs, &first_row(e, Family::Jobs).0), Part::Rows),
        ("a row differs", OFTEN, |e| put(e, Family::Available, b"now", &[1, 0xa0]), Part::Rows),
        ("a row is nobody's", OFTEN, |e| put(e, Family::SeenIds, &[9; 16], &[1, 0]), Part::Rows),
        (
            "a contract is not found by its peer",
            OFTEN,
            |e| delete(e, Family::ContractsByPeer, &first_row(e, Family::ContractsByPeer).0),
            Part::Rows,
        ),
        (
            "the snapshot's mark is broken",
            OFTEN,
            |e| put(e, Family::Meta, b"snapshot", &[0xff]),
            Part::Snapshot,
        ),
        ("the snapshot's mark is gone", OFTEN, |e| delete(e, Family::Meta, b"snapshot"), Part::Snapshot),
        (
            "a row of the snapshot is broken",
            OFTEN,
            |e| put(e, Family::Snapshot, &first_row(e, Family::Snapshot).0, &[1]),
            Part::Snapshot,
        ),
        (
            "a bid in the snapshot is forged",
            OFTEN,
            |e| forge(e, Family::Snapshot, |k, _| k[0] == Family::BidsSent.tag()),
            Part::Signature,
        ),
        (
            "an archived row is broken",
            OFTEN,
            |e| put(e, Family::Archive, &first_row(e, Family::Archive).0, &[1]),
            Part::Archive,
        ),
        (
            "an archived contract is forged",
            OFTEN,
            |e| forge(e, Family::Archive, |k, _| k[0] == 3),
            Part::Signature,
        ),
        (
            "an archived row is not listed",
            OFTEN,
            |e| delete(e, Family::ArchiveByTime, &first_row(e, Family::ArchiveByTime).0),
            Part::Rows,
        ),
    ];
    for (name, options, damage, part) in damages {
        let engine = in_memory(options);
        damage(&*engine);
        let before = everything(&*engine);
        let report = check(&*engine).expect("a check reports, it does not fail");
        assert!(!report.is_sound(), "{name}");
        assert!(report.findings.iter().any(|finding| finding.part == part), "{name}: {:?}", report.findings);
        assert_eq!(everything(&*engine), before, "{name}: a check changes nothing");
    }
}

#[test]
fn a_report_is_bounded_and_says_how_much_more_there_is() {
    let engine = in_memory(OFTEN);
    for n in 0..250u128 {
        put(&*engine, Family::BidsReceived, &n.to_be_bytes(), &[1, 0]);
    }
    let report = check(&*engine).expect("reads");
    assert_eq!((report.findings.len(), report.further_findings), (MAX_FINDINGS, 150));
    let text = serde_json::to_string(&report).expect("a report is plain data");
    assert_eq!(serde_json::from_str::<CheckReport>(&text).expect("and reads back"), report);
}

#[test]
fn a_rebuild_writes_exactly_what_was_there() {
    for options in [StoreOptions::default(), OFTEN] {
        let engine = in_memory(options);
        let before = everything(&*engine);
        let report = rebuild(&*engine).expect("rebuilds");
        let count = |report: &RebuildReport, of: fn(&RebuiltFamily) -> u64| {
            report.families.iter().map(of).sum::<u64>()
        };
        assert_eq!((count(&report, |f| f.mended), count(&report, |f| f.removed)), (0, 0));
        assert_eq!(everything(&*engine), before);

        // Every family that can be rebuilt is emptied, and something foreign is put into each.
        let mut batch = Batch::new();
        for family in ROW_FAMILIES.into_iter().chain([Family::ContractsByPeer, Family::ArchiveByTime]) {
            for (key, _) in engine.scan(family, ScanRange::all(), usize::MAX).expect("scans") {
                batch.delete(family, key);
            }
            batch.put(family, b"foreign", b"row");
        }
        engine.write(batch, Durability::Synced).expect("writes");
        assert!(!check(&*engine).expect("reads").is_sound());
        let report = rebuild(&*engine).expect("rebuilds");
        assert_eq!(everything(&*engine), before, "byte by byte");
        assert_eq!(count(&report, |f| f.removed), 17);
        assert!(count(&report, |f| f.mended) > 60, "{report:?}");
        assert_eq!(report.last_event, Some(120));
        sound(&*engine);
    }
}

#[test]
fn a_rebuild_does_not_mend_the_truth() {
    let engine = in_memory(OFTEN);
    // The log begins behind the snapshot, and now nothing says what was before.
    delete(&*engine, Family::Meta, b"snapshot");
    let before = everything(&*engine);
    assert!(rebuild(&*engine).is_err());
    assert_eq!(everything(&*engine), before);
}

#[test]
fn stats_tell_without_reading_it_all() {
    let directory = temporary();
    let disk = on_disk(directory.path(), OFTEN);
    let told = stats(&disk).expect("tells");
    assert_eq!(told.path.as_deref(), Some(directory.path()));
    assert_eq!((told.schema, told.last_event), (SCHEMA_VERSION, Some(120)));
    assert!(told.first_event > Some(1) && told.snapshot.is_some_and(|mark| mark.sequence >= 100), "{told:?}");
    assert_eq!(stats(&*in_memory(OFTEN)).expect("tells").path, None);
}

/// A backup of a database, and where the database is.
struct Saved {
    directory: TempDir,
    rows: BTreeMap<(Family, Vec<u8>), Vec<u8>>,
}

impl Saved {
    fn new() -> Self {
        let directory = temporary();
        let engine = on_disk(&directory.path().join("books"), OFTEN);
        let rows = everything(&engine);
        let report = backup(&engine, &directory.path().join("saved"), NOW).expect("saves");
        assert_eq!((report.last_event, report.schema, report.at), (Some(120), SCHEMA_VERSION, NOW));
        assert!(report.files > 3 && report.bytes > 1000, "{report:?}");
        assert_eq!(everything(&engine), rows, "the original is as it was");
        Self { directory, rows }
    }

    fn books(&self) -> PathBuf {
        self.directory.path().join("books")
    }

    fn backup(&self) -> PathBuf {
        self.directory.path().join("saved")
    }

    fn restore(&self) -> Result<RestoreReport, RestoreError> {
        restore(&self.backup(), &self.books(), NOW)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).expect("lists");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("lists").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn open(path: &Path) -> RocksEngine {
    RocksEngine::open_existing(path, &RocksOptions::default()).expect("opens")
}

#[test]
fn a_restored_backup_is_what_was_saved_and_the_old_books_are_kept() {
    let saved = Saved::new();
    put(&open(&saved.books()), Family::Notes, b"later", b"than the backup");
    let report = saved.restore().expect("restores");
    let aside = saved.directory.path().join("books.before-20260528T202640Z");
    assert_eq!(report.moved_aside.as_deref(), Some(&*aside));
    assert_eq!((report.last_event, report.made), (Some(120), NOW));
    assert_eq!(saved.names(), ["books", "books.before-20260528T202640Z", "saved"]);
    assert_eq!(everything(&open(&saved.books())), saved.rows);
    let old = open(&aside).get(Family::Notes, b"later");
    assert_eq!(old, Ok(Some(b"than the backup".to_vec())), "never deleted");

    // Where nothing was, nothing is moved; and a second backup of the restored books is one too.
    fs::rename(saved.books(), saved.directory.path().join("elsewhere")).expect("moves");
    assert_eq!(saved.restore().expect("restores").moved_aside, None);
    let again = backup(&open(&saved.books()), &saved.directory.path().join("again"), NOW).expect("saves");
    assert_eq!(again.last_event, Some(120));
    // The restored books go on.
    let engine: Arc<dyn Engine> = Arc::new(open(&saved.books()));
    record(
        &engine,
        OFTEN,
        &[Entry {
            at: NOW,
            event: Event::DocumentSeen { id: dms_messages::DocumentId([77; 16]), until: NOW },
        }],
    );
    assert_eq!(sound(&*engine).last_event, Some(121));
}

#[test]
fn books_in_memory_are_saved_too() {
    let directory = temporary();
    let engine = in_memory(OFTEN);
    backup(&*engine, &directory.path().join("saved"), NOW).expect("saves");
    restore(&directory.path().join("saved"), &directory.path().join("books"), NOW).expect("restores");
    assert_eq!(everything(&open(&directory.path().join("books"))), everything(&*engine));
}

/// A damage to a backup, and a word of the refusal.
type Refusal = (&'static str, fn(&Path), &'static str);

fn edit(backup: &Path, change: impl Fn(&mut Manifest)) {
    let path = backup.join(BACKUP_FILE);
    let mut manifest = serde_json::from_slice(&fs::read(&path).expect("reads")).expect("a manifest");
    change(&mut manifest);
    fs::write(path, serde_json::to_vec(&manifest).expect("plain data")).expect("writes");
}

fn some_file(backup: &Path, extension: &str) -> PathBuf {
    let entries = fs::read_dir(backup.join(BACKUP_DATABASE)).expect("lists");
    let paths = entries.map(|entry| entry.expect("lists").path());
    paths.into_iter().find(|path| path.to_string_lossy().contains(extension)).expect("there is one")
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("writes");
}

#[test]
fn what_is_not_as_it_was_saved_is_not_restored() {
    let refusals: [Refusal; 15] = [
        ("no manifest", |b| fs::remove_file(b.join(BACKUP_FILE)).expect("removes"), "no finished backup"),
        ("no text", |b| fs::write(b.join(BACKUP_FILE), b"{").expect("writes"), "no finished backup"),
        ("another form", |b| edit(b, |m| m.format = 2), "its form is 2"),
        ("a newer schema", |b| edit(b, |m| m.schema = 99), "schema version 99"),
        ("another schema", |b| edit(b, |m| m.schema = 1), "its schema, last event or owner"),
        ("another last event", |b| edit(b, |m| m.last_event = Some(7)), "its schema, last event or owner"),
        (
            "a way out",
            |b| {
                edit(b, |m| {
                    let digest = m.files.values().next().expect("a file").clone();
                    m.files.insert("../../etc/passwd".to_owned(), digest);
                })
            },
            "is no name of a file",
        ),
        ("a flipped bit in a table", |b| flip(&some_file(b, ".sst")), "its SHA-256 is"),
        ("a flipped bit in the manifest", |b| flip(&some_file(b, "MANIFEST")), "its SHA-256 is"),
        ("a flipped bit in CURRENT", |b| flip(&some_file(b, "CURRENT")), "its SHA-256 is"),
        ("a flipped bit in the options", |b| flip(&some_file(b, "OPTIONS")), "its SHA-256 is"),
        ("a shorter table", |b| fs::write(some_file(b, ".sst"), b"").expect("writes"), "bytes long"),
        ("a missing table", |b| fs::remove_file(some_file(b, ".sst")).expect("removes"), "it is missing"),
        (
            "one file more",
            |b| fs::write(b.join(BACKUP_DATABASE).join("999999.sst"), b"x").expect("writes"),
            "not named",
        ),
        ("no database", |b| fs::remove_dir_all(b.join(BACKUP_DATABASE)).expect("removes"), "No such file"),
    ];
    let saved = Saved::new();
    let original = saved.directory.path().join("original");
    fs::rename(saved.backup(), &original).expect("moves");
    for (name, damage, words) in refusals {
        copy_tree(&original, &saved.backup());
        damage(&saved.backup());
        let error = saved.restore().expect_err(name);
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert_eq!(saved.names(), ["books", "original", "saved"], "{name}: nothing is left behind");
        fs::remove_dir_all(saved.backup()).expect("removes");
    }
    assert_eq!(everything(&open(&saved.books())), saved.rows, "the books are untouched");
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).expect("creates");
    for entry in fs::read_dir(from).expect("lists") {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("lists");
        if path.is_dir() {
            copy_tree(&path, &to.join(name));
        } else {
            fs::copy(path, to.join(name)).expect("copies");
        }
    }
}

#[test]
fn books_in_use_are_not_replaced() {
    let saved = Saved::new();
    let running = open(&saved.books());
    let error = saved.restore().expect_err("a node is running");
    assert!(matches!(error, RestoreError::Engine(EngineError::AlreadyOpen { .. })), "{error:?}");
    drop(running);
    saved.restore().expect("restores");
}

#[test]
fn unsound_books_are_not_saved_and_nothing_is_overwritten() {
    let directory = temporary();
    let target = directory.path().join("saved");
    let engine = in_memory(OFTEN);
    put(&*engine, Family::Available, b"now", &[1, 0xa0]);
    let error = backup(&*engine, &target, NOW).expect_err("not sound");
    assert!(
        matches!(&error, BackupError::Unsound(report) if report.findings[0].part == Part::Rows),
        "{error:?}"
    );
    assert!(!target.exists(), "nothing is left behind");
    rebuild(&*engine).expect("rebuilds");
    backup(&*engine, &target, NOW).expect("saves");
    let before = fs::read(target.join(BACKUP_FILE)).expect("reads");
    let error = backup(&*engine, &target, NOW).expect_err("it is there");
    assert!(matches!(error, BackupError::Engine(EngineError::Exists { .. })), "{error:?}");
    assert_eq!(fs::read(target.join(BACKUP_FILE)).expect("reads"), before);
}

/// An older version's rows are checked as far as they have the form of today, and come to it by a rebuild.
#[test]
fn older_books_are_sound_as_they_are() {
    let engine = MemoryEngine::new();
    let mut batch = Batch::new();
    let digits = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    };
    for line in include_str!("../migration/version_1.txt").lines() {
        let mut words = line.split(' ');
        let family = words.next().and_then(Family::from_name).expect("a family");
        let mut next = || digits(words.next().expect("three words"));
        batch.put(family, next(), next());
    }
    engine.write(batch, Durability::Synced).expect("writes");
    assert_eq!(sound(&engine).schema, 1);
    rebuild(&engine).expect("rebuilds");
    assert_eq!(sound(&engine).schema, SCHEMA_VERSION);
    assert_eq!(engine.get(Family::Meta, SCHEMA_VERSION_KEY), Ok(Some(SCHEMA_VERSION.to_be_bytes().to_vec())));
    let shared: Arc<dyn Engine> = Arc::new(engine);
    record(&shared, OFTEN, &[]);
}

#[test]
fn file_times_are_dates() {
    let cases = [
        (0, "19700101T000000Z"),
        (951_782_399_999, "20000228T235959Z"),
        (951_782_400_000, "20000229T000000Z"),
        (1_709_251_199_000, "20240229T235959Z"),
        (4_107_542_400_000, "21000301T000000Z"),
    ];
    for (millis, text) in cases {
        assert_eq!(super::backup::file_time(Timestamp(millis)), text);
    }
}
