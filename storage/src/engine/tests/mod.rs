//! What every engine promises, asked of each: the same functions run on RocksDB and on memory.

mod crash;
mod refused;
mod torn;
mod whole;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;

use rocksdb::DB;
use tempfile::TempDir;

use super::*;
use crate::schema;

/// A new engine of either kind, with the directory it needs.
pub(crate) struct TestEngine {
    engine: Arc<dyn Engine>,
    _directory: Option<TempDir>,
}

impl Deref for TestEngine {
    type Target = dyn Engine;

    fn deref(&self) -> &Self::Target {
        &*self.engine
    }
}

impl TestEngine {
    pub(crate) fn shared(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine)
    }
}

/// A new engine of each kind.
pub(crate) fn engines() -> [TestEngine; 2] {
    let directory = temporary();
    let rocks = open(directory.path()).expect("a new directory opens");
    [
        TestEngine { engine: Arc::new(MemoryEngine::new()), _directory: None },
        TestEngine { engine: Arc::new(rocks), _directory: Some(directory) },
    ]
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn open(path: &Path) -> Result<RocksEngine, EngineError> {
    RocksEngine::open(path, &RocksOptions::default())
}

fn damage(result: Result<RocksEngine, EngineError>) -> String {
    match result {
        Err(EngineError::Damaged { reason }) => reason,
        other => panic!("expected damage, got {other:?}"),
    }
}

fn put(engine: &dyn Engine, family: Family, rows: &[(&[u8], &[u8])]) {
    let mut batch = Batch::new();
    for (key, value) in rows {
        batch.put(family, *key, *value);
    }
    engine.write(batch, Durability::Synced).expect("writes");
}

fn keys(rows: Result<Vec<Row>, EngineError>) -> Vec<Vec<u8>> {
    rows.expect("scans").into_iter().map(|(key, _)| key).collect()
}

#[test]
fn rows_are_kept_replaced_and_deleted_by_family() {
    for engine in engines() {
        put(&*engine, Family::Jobs, &[(b"a", b"1"), (b"b", b""), (b"", b"empty key")]);
        put(&*engine, Family::BidsSent, &[(b"a", b"other")]);
        assert_eq!(engine.get(Family::Jobs, b"a"), Ok(Some(b"1".to_vec())));
        assert_eq!(engine.get(Family::Jobs, b"b"), Ok(Some(vec![])), "an empty value is a value");
        assert_eq!(engine.get(Family::Jobs, b""), Ok(Some(b"empty key".to_vec())));
        assert_eq!(engine.get(Family::Jobs, b"c"), Ok(None));
        put(&*engine, Family::Jobs, &[(b"a", b"2")]);
        assert_eq!(engine.get(Family::Jobs, b"a"), Ok(Some(b"2".to_vec())));
        let mut batch = Batch::new();
        batch.delete(Family::Jobs, b"a");
        batch.delete(Family::Jobs, b"never there");
        engine.write(batch, Durability::Unsynced).expect("writes");
        assert_eq!(engine.get(Family::Jobs, b"a"), Ok(None));
        assert_eq!(engine.get(Family::BidsSent, b"a"), Ok(Some(b"other".to_vec())));
    }
}

#[test]
fn every_family_is_a_key_space_of_its_own() {
    for engine in engines() {
        let mut batch = Batch::new();
        for family in Family::ALL {
            batch.put(family, b"key", family.name());
        }
        engine.write(batch, Durability::Synced).expect("writes");
        for family in Family::ALL {
            assert_eq!(engine.get(family, b"key"), Ok(Some(family.name().into())));
        }
    }
}

#[test]
fn within_a_batch_the_later_write_wins() {
    for engine in engines() {
        let mut batch = Batch::new();
        batch.put(Family::Jobs, b"twice", b"first");
        batch.put(Family::Jobs, b"twice", b"second");
        batch.put(Family::Jobs, b"gone", b"value");
        batch.delete(Family::Jobs, b"gone");
        batch.delete(Family::Jobs, b"back");
        let mut later = Batch::new();
        later.put(Family::Jobs, b"back", b"value");
        later.put(Family::Jobs, b"twice", b"third");
        batch.append(later);
        engine.write(batch, Durability::Synced).expect("writes");
        assert_eq!(engine.get(Family::Jobs, b"twice"), Ok(Some(b"third".to_vec())));
        assert_eq!(engine.get(Family::Jobs, b"gone"), Ok(None));
        assert_eq!(engine.get(Family::Jobs, b"back"), Ok(Some(b"value".to_vec())));
    }
}

#[test]
fn batches_count_what_they_hold() {
    let mut batch = Batch::new();
    assert!(batch.is_empty());
    assert_eq!(batch.byte_len(), 0);
    batch.put(Family::Jobs, b"key", b"value");
    let one = batch.byte_len();
    assert!(one >= 8);
    batch.delete(Family::Jobs, b"key");
    assert!(!batch.is_empty());
    assert_eq!(batch.len(), 2);
    let mut both = batch.clone();
    both.append(batch.clone());
    assert_eq!(both.len(), 4);
    assert_eq!(both.byte_len(), 2 * batch.byte_len());
    assert_eq!(both.writes()[..2], batch.writes()[..]);
}

#[test]
fn scans_are_ordered_bounded_and_limited_both_ways() {
    let stored: [&[u8]; 7] = [b"", b"a", b"a\0", b"ab", b"b", b"\xff", b"\xff\xff"];
    let cases: [(ScanRange, &[&[u8]]); 11] = [
        (ScanRange::all(), &stored),
        (ScanRange::from(b"a".as_slice()), &stored[1..]),
        (ScanRange::between(b"a".as_slice(), b"b".as_slice()), &[b"a", b"a\0", b"ab"]),
        (ScanRange::between(b"a\0".as_slice(), b"ab".as_slice()), &[b"a\0"]),
        (ScanRange::between(b"a".as_slice(), b"a".as_slice()), &[]),
        (ScanRange::between(b"b".as_slice(), b"a".as_slice()), &[]),
        (ScanRange::between(b"".as_slice(), b"".as_slice()), &[]),
        (ScanRange::prefix(b"a".as_slice()), &[b"a", b"a\0", b"ab"]),
        (ScanRange::prefix(b"\xff".as_slice()), &[b"\xff", b"\xff\xff"]),
        (ScanRange::prefix(b"".as_slice()), &stored),
        (ScanRange::from(b"\xff\xff\xff".as_slice()), &[]),
    ];
    for engine in engines() {
        put(&*engine, Family::Contracts, &[(b"a", b"a neighbour family")]);
        // Written in an order that is not the keys'.
        for key in stored.iter().rev() {
            put(&*engine, Family::Jobs, &[(key, b"value")]);
        }
        for (range, expected) in &cases {
            for limit in 0..=stored.len() + 1 {
                let forward: Vec<&[u8]> = expected.iter().copied().take(limit).collect();
                let backward: Vec<&[u8]> = expected.iter().rev().copied().take(limit).collect();
                let (scan, back) = (
                    engine.scan(Family::Jobs, range.clone(), limit),
                    engine.scan_back(Family::Jobs, range.clone(), limit),
                );
                assert_eq!(keys(scan), forward, "{range:?} up to {limit}");
                assert_eq!(keys(back), backward, "{range:?} back up to {limit}");
            }
        }
        let every = usize::MAX;
        assert_eq!(keys(engine.scan(Family::Jobs, ScanRange::all(), every)), stored);
    }
}

#[test]
fn prefix_ranges_end_where_the_prefix_does() {
    let cases: [(&[u8], Option<&[u8]>); 5] = [
        (b"", None),
        (b"a", Some(b"b")),
        (b"a\xff", Some(b"b")),
        (b"\xff\xff", None),
        (b"\x00\xfe\xff\xff", Some(b"\x00\xff")),
    ];
    for (prefix, end) in cases {
        assert_eq!(
            ScanRange::prefix(prefix),
            ScanRange { start: prefix.to_vec(), end: end.map(<[u8]>::to_vec) }
        );
    }
}

/// A reader sees each batch whole or not at all, even while it is written.
#[test]
fn batches_are_atomic_for_readers() {
    const ROUNDS: u8 = 200;
    for engine in engines() {
        let start = Arc::new(Barrier::new(2));
        let writer = thread::spawn({
            let (engine, start) = (engine.shared(), Arc::clone(&start));
            move || {
                start.wait();
                for round in 1..=ROUNDS {
                    let mut batch = Batch::new();
                    for key in 0..20u8 {
                        batch.put(Family::Jobs, [key], [round]);
                    }
                    engine.write(batch, Durability::Unsynced).expect("writes");
                }
            }
        });
        start.wait();
        loop {
            // Asked before the scan: then the scan after the writer's end sees its last batch.
            let is_finished = writer.is_finished();
            let rows = engine.scan(Family::Jobs, ScanRange::all(), 100).expect("scans");
            let values: BTreeSet<&Vec<u8>> = rows.iter().map(|(_, value)| value).collect();
            assert!(values.len() <= 1, "a scan saw two batches: {values:?}");
            assert!(rows.is_empty() || rows.len() == 20);
            if is_finished {
                assert!(values.first().is_some_and(|value| ***value == [ROUNDS]), "the last batch is there");
                break;
            }
        }
        writer.join().expect("the writer succeeds");
    }
}

#[test]
fn a_reopened_database_shows_the_same() {
    let directory = temporary();
    // Small buffers, so that rows are in table files as well as in the log.
    let options = RocksOptions { family_write_buffer_bytes: 64 * 1024, ..RocksOptions::default() };
    let value = |n: u32| n.to_be_bytes().repeat(64);
    let rows = |engine: &RocksEngine| engine.scan(Family::Jobs, ScanRange::all(), usize::MAX).expect("scans");
    let engine = RocksEngine::open(directory.path(), &options).expect("a new directory opens");
    for n in 0..2_000u32 {
        let mut batch = Batch::new();
        batch.put(Family::Jobs, n.to_be_bytes(), value(n));
        batch.put(Family::Contracts, b"last", n.to_be_bytes());
        engine.write(batch, Durability::Unsynced).expect("writes");
    }
    let before = rows(&engine);
    assert_eq!(before.len(), 2_000);
    drop(engine);
    for _ in 0..2 {
        let engine = RocksEngine::open(directory.path(), &options).expect("reopens");
        assert_eq!(rows(&engine), before);
        assert_eq!(engine.get(Family::Contracts, b"last"), Ok(Some(1_999u32.to_be_bytes().to_vec())));
        assert_eq!(
            engine.get(Family::Meta, schema::SCHEMA_VERSION_KEY),
            Ok(Some(schema::version_row().to_vec()))
        );
    }
}

#[test]
fn missing_parents_are_created() {
    let directory = temporary();
    let path = directory.path().join("some/where/deep");
    drop(open(&path).expect("creates its directory"));
    assert_eq!(open(&path).expect("reopens").path(), path);
}

#[test]
fn a_second_open_is_refused_and_harms_nothing() {
    let directory = temporary();
    let engine = open(directory.path()).expect("a new directory opens");
    put(&engine, Family::Jobs, &[(b"a", b"1")]);
    let second = open(directory.path()).expect_err("it is open already");
    assert_eq!(second, EngineError::AlreadyOpen { path: directory.path().to_owned() });
    put(&engine, Family::Jobs, &[(b"b", b"2")]);
    drop(engine);
    let engine = open(directory.path()).expect("the lock is free again");
    assert_eq!(keys(engine.scan(Family::Jobs, ScanRange::all(), 9)), [b"a", b"b"]);
}

#[test]
fn a_lock_file_that_cannot_be_opened_is_not_another_node() {
    let directory = temporary();
    drop(open(directory.path()).expect("a new directory opens"));
    fs::remove_file(directory.path().join("LOCK")).expect("removes");
    fs::create_dir(directory.path().join("LOCK")).expect("creates");
    let error = open(directory.path()).expect_err("a directory is no lock file");
    assert!(matches!(error, EngineError::Io { .. }), "{error:?}");
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let directory = temporary();
    let engine = open(directory.path()).expect("a new directory opens");
    put(&engine, Family::Meta, &[(schema::SCHEMA_VERSION_KEY, &7u32.to_be_bytes())]);
    drop(engine);
    let newer = EngineError::NewerSchema { found: 7, known: schema::SCHEMA_VERSION };
    assert_eq!(open(directory.path()).expect_err("newer"), newer);

    // A family this program has never heard of, with which RocksDB would not open at all.
    let with_raw = |change: &dyn Fn(&mut DB)| {
        let options = rocksdb::Options::default();
        let families = DB::list_cf(&options, directory.path()).expect("lists");
        let mut db = DB::open_cf(&options, directory.path(), families).expect("opens");
        change(&mut db);
    };
    with_raw(&|db| db.create_cf("ratings", &rocksdb::Options::default()).expect("creates"));
    assert_eq!(open(directory.path()).expect_err("newer"), newer);
    with_raw(&|db| db.drop_cf("seen_ids").expect("drops"));
    assert_eq!(open(directory.path()).expect_err("newer"), newer);
    let families = DB::list_cf(&rocksdb::Options::default(), directory.path()).expect("lists");
    assert!(families.iter().any(|name| name == "ratings") && !families.iter().any(|name| name == "seen_ids"));

    // The same families under our own version are no schema of ours.
    with_raw(&|db| {
        let meta = db.cf_handle("meta").expect("opened");
        db.put_cf(meta, schema::SCHEMA_VERSION_KEY, schema::version_row()).expect("writes");
    });
    let reason = damage(open(directory.path()));
    assert!(reason.contains("ratings") && reason.contains("seen_ids"), "{reason}");
}

#[test]
fn a_lost_family_is_damage_and_not_an_empty_one() {
    let directory = temporary();
    drop(open(directory.path()).expect("a new directory opens"));
    let names = Family::ALL.map(Family::name);
    let mut db = DB::open_cf(&rocksdb::Options::default(), directory.path(), names).expect("opens");
    db.drop_cf("locked").expect("drops");
    drop(db);
    for _ in 0..2 {
        assert!(damage(open(directory.path())).contains("locked"));
    }
}

#[test]
fn rows_without_a_schema_version_are_damage() {
    let directory = temporary();
    let engine = open(directory.path()).expect("a new directory opens");
    put(&engine, Family::Notes, &[(b"a", b"1")]);
    let mut batch = Batch::new();
    batch.delete(Family::Meta, schema::SCHEMA_VERSION_KEY);
    engine.write(batch, Durability::Synced).expect("writes");
    drop(engine);
    assert!(damage(open(directory.path())).contains("notes"));
}

/// Killed while creating: any part of the families, no version. Opening again finishes the work.
#[test]
fn an_unfinished_creation_is_finished() {
    let directory = temporary();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    drop(DB::open_cf(&options, directory.path(), ["meta", "events"]).expect("creates a part"));
    let engine = open(directory.path()).expect("finishes");
    put(&engine, Family::SeenIds, &[(b"a", b"1")]);
    drop(engine);
    let engine = open(directory.path()).expect("reopens");
    assert_eq!(engine.get(Family::SeenIds, b"a"), Ok(Some(b"1".to_vec())));
}

#[test]
fn errors_say_what_a_person_can_do_with_them() {
    let cases = [
        (
            EngineError::AlreadyOpen { path: "/data".into() },
            "another node is running on this data directory: /data",
        ),
        (
            EngineError::NewerSchema { found: 3, known: 1 },
            "the database has schema version 3, this program knows versions up to 1",
        ),
        (EngineError::damaged("so"), "the database is damaged: so"),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
    }
}
