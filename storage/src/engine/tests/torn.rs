//! Damages a database's files and opens it: a torn tail gives a prefix, anything else an error; never a panic, never
//! a hole, never fewer events than were intact without saying so.

use std::fs;
use std::path::{Path, PathBuf};

use super::{damage, open, temporary};
use crate::engine::{Batch, Durability, Engine, EngineError, Family, RocksEngine, RocksOptions, wal};
use crate::log::EventLog;

const COMMITS: u64 = 12;

/// Writes one commit: an event, and a row that goes with it in another family.
fn commit(engine: &dyn Engine, sequence: u64) {
    let mut batch = Batch::new();
    EventLog::append(&mut batch, sequence, &sequence.to_be_bytes().repeat(3));
    batch.put(Family::Jobs, b"newest", sequence.to_be_bytes());
    engine.write(batch, Durability::Synced).expect("writes");
}

/// How many commits a database holds; asserts that it is a prefix, whole in both families.
fn prefix_length(engine: &dyn Engine) -> u64 {
    let events = EventLog::read(engine, 1, usize::MAX).expect("no holes");
    for (sequence, event) in &events {
        assert_eq!(*event, sequence.to_be_bytes().repeat(3));
    }
    let length = events.len() as u64;
    let newest = engine.get(Family::Jobs, b"newest").expect("reads");
    assert_eq!(newest, (length > 0).then(|| length.to_be_bytes().to_vec()), "a commit is whole or not there");
    length
}

/// A closed database of [`COMMITS`] commits, all in one log, and where in the log each commit ends.
struct Sample {
    directory: tempfile::TempDir,
    log: PathBuf,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

fn sample() -> Sample {
    let directory = temporary();
    let engine = open(directory.path()).expect("a new directory opens");
    let log = wal::log_files(directory.path()).expect("lists").pop().expect("there is a log");
    let mut ends = Vec::new();
    for sequence in 1..=COMMITS {
        commit(&engine, sequence);
        ends.push(fs::metadata(&log).expect("there").len() as usize);
    }
    drop(engine);
    let bytes = fs::read(&log).expect("reads");
    assert_eq!(ends.last(), Some(&bytes.len()), "closing writes nothing more");
    Sample { directory, log, bytes, ends }
}

impl Sample {
    /// Opens a copy whose log holds `bytes`.
    fn open_with(&self, bytes: &[u8]) -> (tempfile::TempDir, Result<RocksEngine, EngineError>) {
        let copy = temporary();
        copy_files(self.directory.path(), copy.path());
        fs::write(copy.path().join(self.log.file_name().expect("it has a name")), bytes).expect("writes");
        let opened = open(copy.path());
        (copy, opened)
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copies");
    }
}

#[test]
fn a_log_cut_anywhere_opens_at_exactly_the_commits_it_still_holds() {
    let sample = sample();
    let first_end = sample.ends[0];
    // Around every commit's end, and through the whole of the last commits byte by byte or nearly so.
    let edges = sample.ends.iter().flat_map(|end| [end - 1, *end, end + 1]);
    let inside = (sample.ends[COMMITS as usize - 3]..sample.bytes.len()).step_by(5);
    for cut in edges.chain(inside).filter(|cut| (first_end..=sample.bytes.len()).contains(cut)) {
        let (copy, opened) = sample.open_with(&sample.bytes[..cut]);
        let engine = opened.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let expected = sample.ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(prefix_length(&engine), expected, "cut at {cut}");
        // The torn record is really gone: what is written now is there next time.
        commit(&engine, expected + 1);
        drop(engine);
        assert_eq!(prefix_length(&open(copy.path()).expect("reopens")), expected + 1, "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_before_an_intact_commit_is_refused() {
    let sample = sample();
    let last_start = sample.ends[COMMITS as usize - 2];
    let middle_start = sample.ends[4];
    // Every byte of one record's header (checksum, length, type), then every few bytes of everything.
    let header = middle_start..middle_start + 7;
    let spread = (0..last_start).step_by(17);
    for (count, at) in header.chain(spread).enumerate() {
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 1 << (count % 8);
        let reason = damage(sample.open_with(&bytes).1);
        assert!(reason.contains(".log"), "flipped at {at}: {reason}");
    }
    // The high byte of a length, which RocksDB alone takes for a torn tail, forgetting seven commits.
    let mut bytes = sample.bytes.clone();
    bytes[middle_start + 5] ^= 0x80;
    let (copy, opened) = sample.open_with(&bytes);
    damage(opened);
    // Refused means untouched: with the bit put right, everything is there.
    fs::write(copy.path().join(sample.log.file_name().expect("it has a name")), &sample.bytes)
        .expect("writes");
    assert_eq!(prefix_length(&open(copy.path()).expect("sound again")), COMMITS);
}

#[test]
fn a_flipped_bit_in_the_last_commit_costs_at_most_that_commit() {
    let sample = sample();
    let last_start = sample.ends[COMMITS as usize - 2];
    for at in (last_start..last_start + 7).chain((last_start + 7..sample.bytes.len()).step_by(11)) {
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 0x80;
        match sample.open_with(&bytes).1 {
            Ok(engine) => assert_eq!(prefix_length(&engine), COMMITS - 1, "flipped at {at}"),
            Err(error) => assert!(matches!(error, EngineError::Damaged { .. }), "flipped at {at}: {error:?}"),
        }
    }
}

#[test]
fn a_hole_of_zeros_is_refused_and_zeros_at_the_end_are_not() {
    let sample = sample();
    let mut holed = sample.bytes.clone();
    holed[sample.ends[3]..sample.ends[5]].fill(0);
    damage(sample.open_with(&holed).1);
    let mut padded = sample.bytes.clone();
    padded.resize(padded.len() + 100_000, 0);
    let (_copy, opened) = sample.open_with(&padded);
    assert_eq!(prefix_length(&opened.expect("space set aside is no damage")), COMMITS);
}

/// A log that somebody is writing may look broken to a reader; the lock is what counts.
#[test]
fn a_running_node_is_not_mistaken_for_damage() {
    let directory = temporary();
    let engine = open(directory.path()).expect("a new directory opens");
    (1..=COMMITS).for_each(|sequence| commit(&engine, sequence));
    let log = wal::log_files(directory.path()).expect("lists").pop().expect("there is a log");
    let mut bytes = fs::read(&log).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).expect("writes");
    let second = open(directory.path()).expect_err("it is open");
    assert_eq!(second, EngineError::AlreadyOpen { path: directory.path().to_owned() });
    drop(engine);
    damage(open(directory.path()));
}

/// A database with rows in table files and in the log, closed.
fn settled() -> tempfile::TempDir {
    let directory = temporary();
    let options = RocksOptions { family_write_buffer_bytes: 64 * 1024, ..RocksOptions::default() };
    let engine = RocksEngine::open(directory.path(), &options).expect("a new directory opens");
    for sequence in 1..=600u64 {
        let mut batch = Batch::new();
        EventLog::append(&mut batch, sequence, &sequence.to_be_bytes().repeat(100));
        engine.write(batch, Durability::Unsynced).expect("writes");
    }
    drop(engine);
    // Opening writes what is in the log into table files.
    drop(open(directory.path()).expect("reopens"));
    directory
}

fn files(directory: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).expect("lists").map(|entry| entry.expect("lists").path());
    all.filter(|path| is_wanted(&path.file_name().unwrap_or_default().to_string_lossy())).collect()
}

/// Opens and reads everything; the first error on the way.
fn open_and_read(directory: &Path) -> Result<usize, EngineError> {
    let engine = open(directory)?;
    EventLog::read(&engine, 1, usize::MAX).map(|events| events.len())
}

#[test]
fn broken_and_missing_files_are_damage_by_name() {
    let sound = settled();
    assert_eq!(open_and_read(sound.path()), Ok(600));
    type Break = fn(&Path);
    let flip_middle: Break = |path| {
        let mut bytes = fs::read(path).expect("reads");
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("writes");
    };
    let remove: Break = |path| fs::remove_file(path).expect("removes");
    let empty: Break = |path| fs::write(path, []).expect("writes");
    let cases: [(&str, Break); 9] = [
        (".sst", flip_middle),
        (".sst", remove),
        (".sst", empty),
        ("MANIFEST-", flip_middle),
        ("MANIFEST-", remove),
        ("MANIFEST-", empty),
        ("CURRENT", flip_middle),
        ("CURRENT", remove),
        ("CURRENT", empty),
    ];
    for (kind, break_file) in cases {
        let copy = temporary();
        copy_files(sound.path(), copy.path());
        let mut targets = files(copy.path(), |name| name.contains(kind));
        // The largest holds the events; the others may be small and not be read.
        targets.sort_by_key(|path| fs::metadata(path).expect("there").len());
        let target = targets.pop().expect("there is one");
        break_file(&target);
        let before = files(copy.path(), |name| name.ends_with(".sst")).len();
        let read = open_and_read(copy.path());
        assert!(matches!(read, Err(EngineError::Damaged { .. })), "{kind} broken: {read:?}");
        assert_eq!(
            files(copy.path(), |name| name.ends_with(".sst")).len(),
            before,
            "{kind}: nothing is deleted"
        );
    }
}
