//! Cuts or flips bits in the newest write-ahead log of copies of a database, and opens the books on each.
//!
//! The promise: the copy opens with the books as they were after some event, none of before the damage missing, or it
//! is refused by name. Precisely: cut at a byte, it opens with exactly the events whose records end at or before it.
//! With a flipped bit, it opens only if that bit is in the last record, and then with every event but that record's;
//! otherwise it is refused as damaged. Never a panic, never books that are not those of a prefix.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::{OFTEN, record, story, temporary};
use crate::books::Books;
use crate::committer::Committer;
use crate::engine::{Batch, Durability, Engine, EngineError, RocksEngine, RocksOptions, Row, ScanRange};
use crate::log::EventLog;
use crate::maintenance::{check, expected_rows};
use crate::schema::Family;
use crate::store::{Store, StoreError};

type Rows = BTreeMap<Family, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Events in the database, the first of them in table files.
const EVENTS: usize = 150;
const IN_TABLES: usize = 60;

struct Sample {
    directory: TempDir,
    log: PathBuf,
    bytes: Vec<u8>,
    /// Where in the log each event's record ends, by the event's number; what is in table files ends at 0.
    ends: Vec<usize>,
    /// The rows of the books after each event, none first.
    books: Vec<Rows>,
}

fn log_of(directory: &Path) -> PathBuf {
    let entries = fs::read_dir(directory).expect("lists").map(|entry| entry.expect("lists").path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "log")).max().expect("there is a log")
}

fn open(directory: &Path) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(Arc::new(RocksEngine::open(directory, &RocksOptions::default())?))
}

/// Notes where in the log each event's record ends; a snapshot's own record may follow before the next event's.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn Engine>,
    log: PathBuf,
    ends: Mutex<Vec<usize>>,
}

impl Engine for Watched {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.inner.write(batch, durability)?;
        let last = EventLog::last_sequence(&*self.inner)?.unwrap_or(0) as usize;
        let end = fs::metadata(&self.log).expect("there").len() as usize;
        let mut ends = self.ends.lock().expect("nobody panicked");
        if ends.len() <= last {
            ends.resize(last + 1, end);
        }
        Ok(())
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

fn sample() -> Sample {
    let directory = temporary();
    let entries = story(EVENTS);
    let mut folded = Books::default();
    let mut books = vec![expected_rows(&folded)];
    for entry in &entries {
        folded.apply(entry).expect("the story holds");
        books.push(expected_rows(&folded));
    }
    record(&open(directory.path()).expect("creates"), OFTEN, &entries[..IN_TABLES]);

    // Opening moves what was in the log into table files and begins a new log.
    let inner = open(directory.path()).expect("reopens");
    let log = log_of(directory.path());
    let watched = Arc::new(Watched { inner, log: log.clone(), ends: Mutex::new(vec![0; IN_TABLES + 1]) });
    let engine: Arc<dyn Engine> = watched.clone();
    let committer = Committer::inline(Arc::clone(&engine));
    let (mut store, mut live) = Store::open_with(Arc::clone(&engine), committer, OFTEN).expect("opens");
    for entry in &entries[IN_TABLES..] {
        store.record(&mut live, std::slice::from_ref(entry)).expect("fits").wait().expect("commits");
    }
    let ends = watched.ends.lock().expect("nobody panicked").clone();
    drop((store, engine, watched));
    let bytes = fs::read(&log).expect("reads");
    assert_eq!(log_of(directory.path()), log, "all of it is in one log");
    assert!(ends.is_sorted() && ends.last() <= Some(&bytes.len()));
    Sample { directory, log, bytes, ends, books }
}

/// What became of a copy.
enum Outcome {
    /// It opened with this many events.
    Prefix(usize),
    /// It was refused, in these words.
    Refused(String),
}

impl Sample {
    fn open_with(&self, bytes: &[u8]) -> Outcome {
        let copy = temporary();
        for entry in fs::read_dir(self.directory.path()).expect("lists") {
            let entry = entry.expect("lists");
            fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copies");
        }
        fs::write(copy.path().join(self.log.file_name().expect("named")), bytes).expect("writes");
        let engine = match open(copy.path()) {
            Ok(engine) => engine,
            Err(EngineError::Damaged { reason }) => return Outcome::Refused(reason),
            Err(error) => panic!("neither opened nor refused by name: {error:?}"),
        };
        let committer = Committer::inline(Arc::clone(&engine));
        match Store::open_with(Arc::clone(&engine), committer, OFTEN) {
            Ok((store, books)) => {
                let count = store.event_count() as usize;
                assert_eq!(expected_rows(&books), self.books[count], "the books after event {count}");
                assert_eq!(check(&*engine).expect("reads").findings, [], "and everything on disk with them");
                Outcome::Prefix(count)
            }
            Err(
                error @ (StoreError::Engine(EngineError::Damaged { .. }) | StoreError::RowDiffers { .. }),
            ) => Outcome::Refused(error.to_string()),
            Err(error) => panic!("neither opened nor refused by name: {error:?}"),
        }
    }

    /// How many events have their records whole before `byte`.
    fn events_before(&self, byte: usize) -> usize {
        // The first is the state before any event.
        self.ends.iter().filter(|end| **end <= byte).count() - 1
    }
}

/// Numbers that look random and are the same each time (xorshift64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Says a proof's counts: to whoever watches, and to the log that is shown at the end of all tests.
fn say(line: &str) {
    println!("{line}");
    let Some(log) = env::var_os("DMS_PROOF_LOG").filter(|log| !log.is_empty()) else { return };
    let written =
        OpenOptions::new().create(true).append(true).open(log).and_then(|mut log| writeln!(log, "{line}"));
    written.expect("the log of proofs can be written");
}

#[test]
fn a_torn_log_gives_a_prefix_or_is_refused_by_name() {
    let copies = if env::var_os("DMS_SOAK").is_some_and(|soak| soak == "1") { 1_000 } else { 100 };
    let sample = sample();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let (mut whole, mut prefixes, mut refused) = (0, 0, 0);
    for copy in 0..copies {
        let at = chance.below(sample.bytes.len());
        let mut bytes = sample.bytes.clone();
        let is_cut = copy % 2 == 0;
        if is_cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << chance.below(8);
        }
        let before = sample.events_before(at);
        match sample.open_with(&bytes) {
            Outcome::Prefix(count) => {
                assert_eq!(count, before, "copy {copy}, at byte {at}, cut: {is_cut}");
                if count == EVENTS { whole += 1 } else { prefixes += 1 }
            }
            Outcome::Refused(reason) => {
                assert!(!is_cut, "copy {copy}, cut at byte {at}: {reason}");
                refused += 1;
            }
        }
    }
    say(&format!(
        "torn logs: {copies} copies cut or flipped: {prefixes} opened to a shorter prefix, {whole} to the whole, \
         {refused} refused by name, 0 otherwise"
    ));
    assert_eq!(whole + prefixes + refused, copies);
    assert!(prefixes > copies / 4 && refused > copies / 4, "both halves of the promise were tried");
}

/// The same for every other kind of file: one flipped bit in each, and the books are refused, or are whole because
/// nothing depends on that bit.
#[test]
fn a_flipped_bit_in_any_other_file_is_refused_or_harmless() {
    let sample = sample();
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let (mut refused, mut harmless) = (BTreeMap::new(), BTreeMap::new());
    for kind in [".sst", "MANIFEST-", "CURRENT", "OPTIONS-"] {
        let entries = fs::read_dir(sample.directory.path()).expect("lists").map(|e| e.expect("lists").path());
        let files: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().contains(kind)).collect();
        assert!(!files.is_empty(), "{kind}");
        for file in files {
            let copy = temporary();
            for entry in fs::read_dir(sample.directory.path()).expect("lists") {
                let entry = entry.expect("lists");
                fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copies");
            }
            let mut bytes = fs::read(&file).expect("reads");
            let at = chance.below(bytes.len());
            bytes[at] ^= 1 << chance.below(8);
            fs::write(copy.path().join(file.file_name().expect("named")), bytes).expect("writes");
            let opened = open(copy.path())
                .map_err(StoreError::from)
                .and_then(|engine| Store::open_with(Arc::clone(&engine), Committer::inline(engine), OFTEN));
            match opened {
                Ok((store, books)) => {
                    assert_eq!(store.event_count() as usize, EVENTS, "{}: byte {at}", file.display());
                    assert_eq!(expected_rows(&books), sample.books[EVENTS], "{}: byte {at}", file.display());
                    *harmless.entry(kind).or_insert(0) += 1;
                }
                Err(StoreError::Engine(EngineError::Damaged { .. })) => {
                    *refused.entry(kind).or_insert(0) += 1
                }
                Err(error) => panic!("{}: byte {at}: not by name: {error:?}", file.display()),
            }
        }
    }
    say(&format!("flipped bits in other files: refused by name {refused:?}, harmless {harmless:?}"));
    assert!(
        refused.contains_key("CURRENT") && refused.contains_key("MANIFEST-") && refused.contains_key(".sst")
    );
}
