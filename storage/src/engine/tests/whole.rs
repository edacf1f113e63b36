//! What an engine does with the database as a whole: reopen it, copy it, read it only, tell its size.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{damage, engines, keys, open, put, temporary};
use crate::engine::{
    Batch, Durability, Engine, EngineError, Family, MemoryEngine, RocksEngine, RocksOptions, ScanRange, wal,
};
use crate::schema;

fn open_read_only(path: &Path) -> Result<RocksEngine, EngineError> {
    RocksEngine::open_read_only(path, &RocksOptions::default())
}

fn open_existing(path: &Path) -> Result<RocksEngine, EngineError> {
    RocksEngine::open_existing(path, &RocksOptions::default())
}

/// Every file but RocksDB's own text log and lock.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("lists").map(|entry| entry.expect("lists").path());
    let named = entries.map(|path| (path.file_name().expect("named").to_string_lossy().into_owned(), path));
    let kept = named.filter(|(name, _)| !name.starts_with("LO"));
    kept.map(|(name, path)| (name, fs::read(path).expect("reads"))).collect()
}

#[test]
fn a_reopened_engine_goes_on_with_everything() {
    for engine in engines() {
        put(&*engine, Family::Jobs, &[(b"a", b"1")]);
        let mut batch = Batch::new();
        batch.put(Family::Jobs, b"b", b"2");
        engine.write(batch, Durability::Unsynced).expect("writes");
        for _ in 0..2 {
            engine.reopen().expect("reopens");
            assert_eq!(keys(engine.scan(Family::Jobs, ScanRange::all(), 9)), [b"a", b"b"]);
        }
        put(&*engine, Family::Jobs, &[(b"c", b"3")]);
        assert_eq!(engine.scan(Family::Jobs, ScanRange::all(), 9).map(|rows| rows.len()), Ok(3));
    }
}

#[test]
fn readers_wait_while_it_is_reopened() {
    for engine in engines() {
        put(&*engine, Family::Jobs, &[(b"a", b"1")]);
        let is_over = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (engine, is_over) = (engine.shared(), Arc::clone(&is_over));
                thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        assert_eq!(engine.get(Family::Jobs, b"a"), Ok(Some(b"1".to_vec())));
                    }
                })
            })
            .collect();
        let reopened: Result<(), EngineError> = (0..5).try_for_each(|_| engine.reopen());
        is_over.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().expect("every read succeeds"));
        assert_eq!(reopened, Ok(()));
    }
}

#[test]
fn a_reopening_that_fails_closes_until_one_succeeds() {
    let directory = temporary();
    let engine = open(directory.path()).expect("a new directory opens");
    put(&engine, Family::Jobs, &[(b"a", b"1")]);
    let current = directory.path().join("CURRENT");
    let sound = fs::read(&current).expect("reads");
    fs::write(&current, b"MANIFEST-999999\n").expect("writes");
    let error = engine.reopen().expect_err("no such manifest");
    assert!(matches!(error, EngineError::Damaged { .. }), "{error:?}");
    assert!(!error.may_pass());
    assert_eq!(engine.get(Family::Jobs, b"a"), Err(error.clone()));
    assert_eq!(engine.write(Batch::new(), Durability::Synced), Err(error.clone()));
    assert_eq!(engine.reopen(), Err(error));
    fs::write(&current, sound).expect("writes");
    engine.reopen().expect("sound again");
    assert_eq!(engine.get(Family::Jobs, b"a"), Ok(Some(b"1".to_vec())));
    put(&engine, Family::Jobs, &[(b"b", b"2")]);
}

#[test]
fn a_database_that_has_vanished_is_not_created_anew() {
    let directory = temporary();
    let path = directory.path().join("books");
    let engine = open(&path).expect("a new directory opens");
    fs::remove_dir_all(&path).expect("removes");
    assert_eq!(engine.reopen(), Err(EngineError::Missing { path: path.clone() }));
    assert_eq!(open_existing(&path).expect_err("nothing"), EngineError::Missing { path: path.clone() });
    assert_eq!(open_read_only(&path).expect_err("nothing"), EngineError::Missing { path: path.clone() });
    assert!(!path.exists(), "nothing was created");
}

/// The memory engine fails as a disk does: full is noticed before anything is closed.
#[test]
fn memory_fails_like_a_disk() {
    let engine = MemoryEngine::new();
    put(&engine, Family::Jobs, &[(b"a", b"1")]);
    let full = EngineError::NoSpace { reason: "as told".to_owned() };
    let broken = EngineError::Io { reason: "as told".to_owned() };
    engine.fail_with(Some(full.clone()));
    assert_eq!(engine.write(Batch::new(), Durability::Unsynced), Err(full.clone()));
    assert_eq!(engine.reopen(), Err(full));
    assert_eq!(engine.get(Family::Jobs, b"a"), Ok(Some(b"1".to_vec())));
    engine.fail_with(Some(broken.clone()));
    assert_eq!(engine.reopen(), Err(broken.clone()));
    assert_eq!(engine.get(Family::Jobs, b"a"), Err(broken));
    engine.fail_with(None);
    assert!(engine.get(Family::Jobs, b"a").is_err(), "only a reopening helps");
    engine.reopen().expect("reopens");
    put(&engine, Family::Jobs, &[(b"b", b"2")]);
    assert_eq!(keys(engine.scan(Family::Jobs, ScanRange::all(), 9)), [b"a", b"b"]);
}

#[test]
fn a_checkpoint_is_a_database_of_its_own() {
    for engine in engines() {
        for n in 0..500u32 {
            put(&*engine, Family::Jobs, &[(&n.to_be_bytes(), &n.to_be_bytes().repeat(50))]);
        }
        put(&*engine, Family::SeenIds, &[(b"a", b"1")]);
        let directory = temporary();
        let copy = directory.path().join("copy");
        engine.checkpoint(&copy).expect("copies");
        put(&*engine, Family::SeenIds, &[(b"b", b"later")]);

        let opened = open_existing(&copy).expect("opens like any database");
        for family in Family::ALL.into_iter().filter(|family| *family != Family::SeenIds) {
            let rows = |engine: &dyn Engine| engine.scan(family, ScanRange::all(), usize::MAX);
            assert_eq!(rows(&opened), rows(&*engine), "{}", family.name());
        }
        assert_eq!(keys(opened.scan(Family::SeenIds, ScanRange::all(), 9)), [b"a"]);
        put(&opened, Family::SeenIds, &[(b"c", b"of the copy")]);
        assert_eq!(keys(engine.scan(Family::SeenIds, ScanRange::all(), 9)), [b"a", b"b"]);
    }
}

#[test]
fn a_checkpoint_overwrites_nothing() {
    for engine in engines() {
        let directory = temporary();
        let [file, empty, link] = ["file", "empty", "link"].map(|name| directory.path().join(name));
        fs::write(&file, b"somebody's").expect("writes");
        fs::create_dir(&empty).expect("creates");
        symlink(directory.path().join("nowhere"), &link).expect("links");
        for path in [&file, &empty, &link] {
            assert_eq!(engine.checkpoint(path), Err(EngineError::Exists { path: path.clone() }));
        }
        assert_eq!(fs::read(&file).expect("reads"), b"somebody's");
        let nowhere = directory.path().join("no/such/parent");
        assert!(matches!(engine.checkpoint(&nowhere), Err(EngineError::Io { .. })));
    }
}

/// Rows of two families in each batch: the copy holds whole batches, and every one up to its last.
#[test]
fn a_checkpoint_taken_while_it_is_written_to_is_a_prefix() {
    const MOST_ROWS: u32 = 20_000;
    for engine in engines() {
        let is_over = Arc::new(AtomicBool::new(false));
        let writer = thread::spawn({
            let (engine, is_over) = (engine.shared(), Arc::clone(&is_over));
            move || {
                for n in 0..MOST_ROWS {
                    if is_over.load(Ordering::Relaxed) {
                        return n;
                    }
                    let mut batch = Batch::new();
                    batch.put(Family::Events, n.to_be_bytes(), n.to_be_bytes().repeat(100));
                    batch.put(Family::Jobs, n.to_be_bytes(), b"row");
                    engine.write(batch, Durability::Unsynced).expect("writes");
                }
                MOST_ROWS
            }
        });
        let directory = temporary();
        let mut last = 0;
        for round in 0..5 {
            let copy = directory.path().join(round.to_string());
            engine.checkpoint(&copy).expect("copies");
            let copy = open_existing(&copy).expect("opens");
            let events = keys(copy.scan(Family::Events, ScanRange::all(), usize::MAX));
            let expected: Vec<Vec<u8>> = (0..events.len() as u32).map(|n| n.to_be_bytes().to_vec()).collect();
            assert_eq!(events, expected, "no event is missing in the middle");
            assert_eq!(keys(copy.scan(Family::Jobs, ScanRange::all(), usize::MAX)), expected);
            assert!(events.len() >= last, "a later copy holds no less");
            last = events.len();
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(writer.join().expect("the writer succeeds") as usize >= last);
    }
}

#[test]
fn sizes_are_told_by_family() {
    for engine in engines() {
        put(&*engine, Family::Jobs, &[(b"a", &[7; 1000]), (b"b", &[7; 1000])]);
        let sizes = engine.sizes().expect("tells");
        let names: Vec<&str> = sizes.families.iter().map(|family| family.family.as_str()).collect();
        assert_eq!(names, Family::ALL.map(Family::name));
        let rows = |family: Family| sizes.families[family as usize].rows;
        assert_eq!((rows(Family::Jobs), rows(Family::Locked), rows(Family::Meta)), (2, 0, 1));
        assert!(sizes.write_buffer_bytes >= 2000, "{sizes:?}");
        let Some(path) = engine.path() else { continue };
        let logs: u64 = wal::log_files(path)
            .expect("lists")
            .iter()
            .map(|log| fs::metadata(log).expect("there").len())
            .sum();
        assert_eq!(sizes.log_bytes, logs);
        assert!(sizes.log_bytes >= 2000 && sizes.disk_bytes > sizes.log_bytes, "{sizes:?}");
    }
}

#[test]
fn what_is_opened_for_reading_is_not_changed() {
    let directory = temporary();
    let engine = open(directory.path()).expect("a new directory opens");
    put(&engine, Family::Jobs, &[(b"a", b"1")]);
    let running = open_read_only(directory.path()).expect_err("a node is running");
    assert_eq!(running, EngineError::AlreadyOpen { path: directory.path().to_owned() });
    drop(engine);

    let before = contents(directory.path());
    let reader = open_read_only(directory.path()).expect("opens");
    assert_eq!(reader.get(Family::Jobs, b"a"), Ok(Some(b"1".to_vec())), "rows only in the log are read");
    assert_eq!(keys(reader.scan_back(Family::Jobs, ScanRange::all(), 9)), [b"a"]);
    let refused = |operation| Err(EngineError::Unsupported { operation });
    assert_eq!(reader.write(Batch::new(), Durability::Synced), refused("writing"));
    assert_eq!(reader.reopen(), refused("reopening"));
    assert_eq!(reader.checkpoint(&directory.path().join("copy")), refused("checkpoints"));
    assert!(reader.sizes().is_ok());
    // A reader is in nobody's way.
    let second = open_read_only(directory.path()).expect("opens twice");
    drop((reader, second));
    assert_eq!(contents(directory.path()), before);
    put(&open(directory.path()).expect("opens"), Family::Jobs, &[(b"b", b"2")]);
}

#[test]
fn reading_refuses_what_writing_refuses() {
    let directory = temporary();
    let engine = open(directory.path()).expect("a new directory opens");
    put(&engine, Family::Meta, &[(schema::SCHEMA_VERSION_KEY, &99u32.to_be_bytes())]);
    drop(engine);
    let newer = EngineError::NewerSchema { found: 99, known: schema::SCHEMA_VERSION };
    assert_eq!(open_read_only(directory.path()).expect_err("newer"), newer);

    let log = wal::log_files(directory.path()).expect("lists").pop().expect("there is a log");
    let mut bytes = fs::read(&log).expect("reads");
    bytes[10] ^= 1;
    bytes.extend(fs::read(&log).expect("reads"));
    fs::write(&log, bytes).expect("writes");
    assert!(damage(open_read_only(directory.path())).contains(".log"));
}

#[test]
fn a_vanished_write_ahead_log_is_damage_by_name() {
    let directory = temporary();
    let engine = open(directory.path()).expect("a new directory opens");
    put(&engine, Family::Jobs, &[(b"a", b"1")]);
    drop(engine);
    let logs = wal::log_files(directory.path()).expect("lists");
    assert!(!logs.is_empty());
    let aside = temporary();
    for log in &logs {
        let name = log.file_name().expect("named");
        fs::copy(log, aside.path().join(name)).expect("copies");
        fs::remove_file(log).expect("removes");
    }
    for opened in [open(directory.path()), open_existing(directory.path()), open_read_only(directory.path())]
    {
        let reason = damage(opened);
        assert!(reason.contains("no write-ahead log"), "{reason}");
    }
    for log in &logs {
        fs::copy(aside.path().join(log.file_name().expect("named")), log).expect("copies");
    }
    let engine = open(directory.path()).expect("refused means untouched");
    assert_eq!(engine.get(Family::Jobs, b"a"), Ok(Some(b"1".to_vec())));
}

/// Between moving the old database aside and putting the new one in its place, nothing is there: a node that starts
/// just then must not begin with empty books.
#[test]
fn a_restore_cut_short_is_not_an_empty_directory() {
    let directory = temporary();
    let path = directory.path().join("books");
    fs::create_dir(directory.path().join("books.restoring-20260101T000000Z")).expect("creates");
    assert!(damage(open(&path)).contains("a restore was cut short"));
    assert!(!path.exists());
    drop(open(&directory.path().join("others")).expect("another database is not meant"));
    fs::remove_dir(directory.path().join("books.restoring-20260101T000000Z")).expect("removes");
    drop(open(&path).expect("creates"));
    // With a database in place the leftover is only a leftover.
    fs::create_dir(directory.path().join("books.restoring-20260102T000000Z")).expect("creates");
    drop(open(&path).expect("opens"));
}
