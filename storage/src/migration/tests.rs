//! Databases of older versions, as their programs wrote them: they open, once, and show the same books.

use std::sync::{Arc, Mutex};

use dms_messages::from_canonical_within;

use super::*;
use crate::MAX_ENTRY_LENGTH;
use crate::books::Entry;
use crate::committer::Committer;
use crate::engine::{Durability, MemoryEngine, RocksEngine, RocksOptions, Row};
use crate::log::EventLog;
use crate::store::{Store, StoreError};

/// A job with a bid, a decline and an attempt that ran, both roles at once, written by a program of version 1.
const VERSION_1: &str = include_str!("version_1.txt");

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).expect("hexadecimal") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn load(engine: &dyn Engine, fixture: &str) {
    let mut batch = Batch::new();
    for line in fixture.lines() {
        let [name, key, value] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("three words: {line}")
        };
        let family = Family::ALL.into_iter().find(|family| family.name() == name).expect("a family");
        batch.put(family, bytes(key), bytes(value));
    }
    engine.write(batch, Durability::Synced).expect("writes");
}

fn version_1() -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::new());
    load(&*engine, VERSION_1);
    engine
}

fn open(engine: Arc<dyn Engine>) -> Result<(Store, Books), StoreError> {
    Store::open(Arc::clone(&engine), Committer::inline(engine))
}

fn rows(engine: &dyn Engine) -> Vec<(Family, Row)> {
    let scan = |family| engine.scan(family, ScanRange::all(), usize::MAX).expect("scans");
    Family::ALL
        .into_iter()
        .flat_map(|family| scan(family).into_iter().map(move |row| (family, row)))
        .collect()
}

/// What a program of this version would have stored of the same events.
fn recorded_anew(old: &dyn Engine) -> (Arc<MemoryEngine>, Books) {
    let engine = Arc::new(MemoryEngine::new());
    let (mut store, mut books) = open(engine.clone()).expect("a new database opens");
    for (sequence, event) in EventLog::read(old, 1, usize::MAX).expect("reads") {
        let entry: Entry = from_canonical_within(&event, MAX_ENTRY_LENGTH).expect("readable for ever");
        store.record(&mut books, &[entry]).expect("fits").wait().expect("commits");
        assert_eq!(store.event_count(), sequence);
    }
    (engine, books)
}

/// Counts its writes, and tells how durable they were to be.
#[derive(Debug)]
struct CountingEngine {
    inner: Arc<MemoryEngine>,
    writes: Mutex<Vec<Durability>>,
}

impl Engine for CountingEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.writes.lock().expect("one thread").push(durability);
        self.inner.write(batch, durability)
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.inner.get(family, key)
    }

    fn scan(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.inner.scan(family, range, limit)
    }

    fn scan_back(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.inner.scan_back(family, range, limit)
    }
}

#[test]
fn every_version_before_this_one_has_its_step() {
    assert_eq!(outdated_families(SCHEMA_VERSION), BTreeSet::new());
    assert_eq!(outdated_families(1), BTreeSet::from([Family::Jobs]));
}

#[test]
fn version_1_opens_with_one_synced_write_and_then_is_this_version() {
    let old = version_1();
    let (new, expected) = recorded_anew(&*old);
    let differing = |family| {
        let of = |engine: &dyn Engine| engine.scan(family, ScanRange::all(), usize::MAX).expect("scans");
        of(&*old) != of(&*new)
    };
    let outdated: Vec<Family> = Family::ALL.into_iter().filter(|family| differing(*family)).collect();
    assert_eq!(outdated, [Family::Meta, Family::Jobs], "the fixture is of the version before");

    let engine = Arc::new(CountingEngine { inner: old, writes: Mutex::default() });
    for opening in ["the first", "the second"] {
        let (_, books) = open(engine.clone()).expect(opening);
        assert_eq!(format!("{books:?}"), format!("{expected:?}"), "{opening}");
        assert_eq!(*engine.writes.lock().expect("one thread"), [Durability::Synced], "{opening}");
        assert_eq!(rows(&engine.inner.crash()), rows(&*new), "{opening}");
    }
    let row = expected.jobs().values().next().expect("there is a job");
    assert!(row.first_bid.is_some() && !row.declines.is_empty() && row.attempts[0].running.is_some());
}

#[test]
fn version_1_opens_from_disk() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let from_disk =
        || Arc::new(RocksEngine::open(directory.path(), &RocksOptions::default()).expect("opens"));
    load(&*from_disk(), VERSION_1);
    let (new, _) = recorded_anew(&*version_1());
    for opening in ["the first", "the second"] {
        let engine = from_disk();
        drop(open(engine.clone()).expect(opening));
        assert_eq!(rows(&*engine), rows(&*new), "{opening}");
    }
}

#[test]
fn a_migration_that_cannot_be_written_leaves_the_old_version() {
    let engine = version_1();
    let before = rows(&*engine);
    engine.fail_writes(true);
    assert!(matches!(open(engine.clone()), Err(StoreError::Engine(EngineError::Io { .. }))));
    assert_eq!(rows(&*engine), before);
    engine.fail_writes(false);
    drop(open(engine).expect("opens when it can be written"));
}

#[test]
fn rows_that_are_in_the_log_no_more_do_not_outlive_the_step() {
    let engine = version_1();
    let mut batch = Batch::new();
    batch.put(Family::Jobs, [7; 16], b"of no job");
    engine.write(batch, Durability::Synced).expect("writes");
    drop(open(engine.clone()).expect("the log is the truth about jobs"));
    assert_eq!(rows(&*engine), rows(&*recorded_anew(&*engine).0));
}

#[test]
fn damage_elsewhere_is_refused_in_an_old_version_too() {
    type Damage = fn(&mut Batch, Vec<u8>);
    let table: [Damage; 2] = [
        |batch, key| batch.put(Family::Contracts, key, b"other".to_vec()),
        |batch, key| batch.delete(Family::Contracts, key),
    ];
    for damage in table {
        let engine = version_1();
        let (key, _) = engine.scan(Family::Contracts, ScanRange::all(), 1).expect("scans").remove(0);
        let mut batch = Batch::new();
        damage(&mut batch, key);
        engine.write(batch, Durability::Synced).expect("writes");
        let before = rows(&*engine);
        let opened = open(engine.clone());
        assert!(matches!(opened, Err(StoreError::RowDiffers { family: "contracts" })), "{opened:?}");
        assert_eq!(rows(&*engine), before, "and left alone");
    }
}

#[test]
fn newer_and_missing_versions_are_refused_by_name() {
    let engine = version_1();
    let mut batch = Batch::new();
    batch.put(Family::Meta, SCHEMA_VERSION_KEY, 3u32.to_be_bytes());
    engine.write(batch, Durability::Synced).expect("writes");
    let before = rows(&*engine);
    let newer = EngineError::NewerSchema { found: 3, known: 2 };
    assert!(matches!(open(engine.clone()), Err(StoreError::Engine(error)) if error == newer));
    assert_eq!(rows(&*engine), before);

    let mut batch = Batch::new();
    batch.delete(Family::Meta, SCHEMA_VERSION_KEY);
    engine.write(batch, Durability::Synced).expect("writes");
    assert!(matches!(open(engine), Err(StoreError::Engine(EngineError::Damaged { .. }))));
}
