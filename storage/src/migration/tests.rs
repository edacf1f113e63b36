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
/// The same, and requests of both directions, a live lock, one that ran out, and an allocation that runs, written by a
/// program of version 2.
const VERSION_2: &str = include_str!("version_2.txt");
/// The same, with what was over in the archive, written by a program of version 3.
const VERSION_3: &str = include_str!("version_3.txt");

/// Every older version: its number, its database, and the families that its program wrote otherwise.
const VERSIONS: [(u32, &str, &[Family]); 3] = [
    (
        1,
        VERSION_1,
        &[Family::Meta, Family::BidsSent, Family::Jobs, Family::Contracts, Family::ContractsByPeer],
    ),
    (
        2,
        VERSION_2,
        &[Family::Meta, Family::BidsSent, Family::Contracts, Family::LocksByExpiry, Family::ContractsByPeer],
    ),
    (3, VERSION_3, &[Family::Meta]),
];

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

fn old(fixture: &str) -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::new());
    load(&*engine, fixture);
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

/// Without the snapshot, which is taken at another event.
fn live_rows(engine: &dyn Engine) -> Vec<(Family, Row)> {
    let is_live = |(family, (key, _)): &(Family, Row)| {
        *family != Family::Snapshot && !(*family == Family::Meta && key == crate::snapshot::SNAPSHOT_KEY)
    };
    rows(engine).into_iter().filter(is_live).collect()
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
fn every_version_before_this_one_has_its_step_and_its_fixture() {
    let older: Vec<u32> = VERSIONS.iter().map(|(version, ..)| *version).collect();
    assert_eq!(older, (1..SCHEMA_VERSION).collect::<Vec<_>>());
    assert_eq!(outdated_families(SCHEMA_VERSION), BTreeSet::new());
    for (version, fixture, _) in VERSIONS {
        assert_eq!(stored_version(&*old(fixture)), Ok(version));
    }
    let by_2: BTreeSet<Family> = outdated_families(2);
    assert!(by_2.contains(&Family::Standing) && !by_2.contains(&Family::Jobs));
    assert!(outdated_families(1).is_superset(&by_2) && outdated_families(1).contains(&Family::Jobs));
}

#[test]
fn older_versions_open_with_one_synced_write_and_then_are_this_version() {
    for (version, fixture, outdated) in VERSIONS {
        let old = old(fixture);
        let (new, expected) = recorded_anew(&*old);
        let differing = |family| {
            let of = |engine: &dyn Engine| engine.scan(family, ScanRange::all(), usize::MAX).expect("scans");
            of(&*old) != of(&*new)
        };
        let found: BTreeSet<Family> = Family::ALL.into_iter().filter(|family| differing(*family)).collect();
        assert_eq!(found, outdated.iter().copied().collect(), "the fixture is of version {version}");

        let engine = Arc::new(CountingEngine { inner: old, writes: Mutex::default() });
        for opening in ["the first", "the second"] {
            let (store, books) = open(engine.clone()).expect(opening);
            assert_eq!(format!("{books:?}"), format!("{expected:?}"), "{version}, {opening}");
            // The snapshot that follows is the store's own affair.
            drop(store);
            let writes = engine.writes.lock().expect("one thread").clone();
            assert_eq!(writes.first(), Some(&Durability::Synced), "{version}, {opening}");
            let synced = writes.iter().filter(|durability| **durability == Durability::Synced).count();
            assert_eq!(synced, 1, "{version}, {opening}");
            assert_eq!(live_rows(&engine.inner.crash()), live_rows(&*new), "{version}, {opening}");
        }
        let row = expected.jobs().values().next().expect("there is a job");
        assert!(version != 1 || row.first_bid.is_some() && !row.declines.is_empty());
        assert!(version > 2 || row.attempts[0].running.is_some());
    }
}

#[test]
fn older_versions_open_from_disk() {
    for (version, fixture, _) in VERSIONS {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let from_disk =
            || Arc::new(RocksEngine::open(directory.path(), &RocksOptions::default()).expect("opens"));
        load(&*from_disk(), fixture);
        let (new, _) = recorded_anew(&*old(fixture));
        for opening in ["the first", "the second"] {
            let engine = from_disk();
            drop(open(engine.clone()).expect(opening));
            assert_eq!(live_rows(&*engine), live_rows(&*new), "{version}, {opening}");
        }
    }
}

#[test]
fn a_migration_that_cannot_be_written_leaves_the_old_version() {
    for (version, fixture, _) in VERSIONS {
        let engine = old(fixture);
        let before = rows(&*engine);
        engine.fail_writes(true);
        assert!(matches!(open(engine.clone()), Err(StoreError::Engine(EngineError::Io { .. }))));
        assert_eq!(rows(&*engine), before, "{version}");
        engine.fail_writes(false);
        drop(open(engine).expect("opens when it can be written"));
    }
}

#[test]
fn rows_that_are_in_the_log_no_more_do_not_outlive_the_step() {
    for (version, fixture, outdated) in VERSIONS {
        let engine = old(fixture);
        let mut batch = Batch::new();
        for family in outdated.iter().filter(|family| **family != Family::Meta) {
            batch.put(*family, [7; 16], b"of nothing");
        }
        engine.write(batch, Durability::Synced).expect("writes");
        drop(open(engine.clone()).expect("the log is the truth"));
        assert_eq!(live_rows(&*engine), live_rows(&*recorded_anew(&*engine).0), "{version}");
    }
}

#[test]
fn damage_elsewhere_is_refused_in_an_old_version_too() {
    type Damage = fn(&mut Batch, Vec<u8>);
    let table: [Damage; 2] = [
        |batch, key| batch.put(Family::Allocations, key, b"other".to_vec()),
        |batch, key| batch.delete(Family::Allocations, key),
    ];
    for (damage, (_, fixture, _)) in table.into_iter().flat_map(|damage| VERSIONS.map(|old| (damage, old))) {
        let engine = old(fixture);
        let (key, _) = engine.scan(Family::Allocations, ScanRange::all(), 1).expect("scans").remove(0);
        let mut batch = Batch::new();
        damage(&mut batch, key);
        engine.write(batch, Durability::Synced).expect("writes");
        let before = rows(&*engine);
        let opened = open(engine.clone());
        assert!(matches!(opened, Err(StoreError::RowDiffers { family: "allocations" })), "{opened:?}");
        assert_eq!(rows(&*engine), before, "and left alone");
    }
}

#[test]
fn newer_and_missing_versions_are_refused_by_name() {
    let engine = old(VERSION_2);
    let mut batch = Batch::new();
    batch.put(Family::Meta, SCHEMA_VERSION_KEY, (SCHEMA_VERSION + 1).to_be_bytes());
    engine.write(batch, Durability::Synced).expect("writes");
    let before = rows(&*engine);
    let newer = EngineError::NewerSchema { found: SCHEMA_VERSION + 1, known: SCHEMA_VERSION };
    assert!(matches!(open(engine.clone()), Err(StoreError::Engine(error)) if error == newer));
    assert_eq!(rows(&*engine), before);

    let mut batch = Batch::new();
    batch.delete(Family::Meta, SCHEMA_VERSION_KEY);
    engine.write(batch, Durability::Synced).expect("writes");
    assert!(matches!(open(engine), Err(StoreError::Engine(EngineError::Damaged { .. }))));
}
