//! Bytes that are made of valid ones by damage, given to every decoder that a peer can reach.
//!
//! The words are taken from the node's own table of what may be said, so none can be forgotten; the other ways in are
//! in `fuzz_decoders/targets.rs`. Each begins with the files of `tests/corpus/<target>`, which are replayed as they are
//! and then damaged: a small number of cases with every test, as many as fit into `FUZZ_SECONDS` (`make fuzz`), other
//! ones each time. What breaks a decoder is made small and kept in its corpus as `found`; `tests/README.md` says how it
//! becomes a test.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "fuzz_decoders/damage.rs"]
mod damage;
#[path = "fuzz_decoders/seeds.rs"]
mod seeds;
#[path = "fuzz_decoders/targets.rs"]
mod targets;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use damage::Attempt;
use dms_node::trust::needs;
use peak_alloc::PeakAlloc;
use targets::Target;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Cases of a target where nobody has said for how long.
const CASES: usize = 100;
/// What reading may take whatever the input claims: far below what a length that is believed would take.
const MEMORY: usize = 2 * 1024 * 1024;
/// And for each byte that is really there.
const MEMORY_OF_A_BYTE: usize = 200;

/// Where the seeds of a target are kept.
fn corpus(target: &str) -> PathBuf {
    // Asked when run: a target directory may be shared by several checkouts.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("corpus").join(target)
}

/// The seeds of a target, in the order of their names.
fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    let directory = corpus(target);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths: BTreeSet<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Reads one input; keeps it if it breaks the decoder.
fn give(target: &Target, bytes: &[u8]) {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        (target.read)(bytes);
        let allocated = ALLOCATED.peak_usage().saturating_sub(before);
        let most = MEMORY + MEMORY_OF_A_BYTE * bytes.len();
        assert!(allocated <= most, "{} bytes make {allocated} bytes of memory (at most {most})", bytes.len());
    }));
    if let Err(panic) = outcome {
        // While it is made smaller this is written again and again; the smallest is the last.
        let path = corpus(&target.name).join("found");
        let kept = fs::write(&path, bytes);
        eprintln!("{}: broken by {} bytes, in {} ({kept:?})", target.name, bytes.len(), path.display());
        resume_unwind(panic);
    }
}

/// Tries a target for a number of cases, or for as long as this. Says how many inputs there were.
fn try_target(target: &Target, time: Option<Duration>, cases: &Cell<u64>) {
    let seeds = seeds_of(&target.name);
    for seed in &seeds {
        give(target, seed);
        cases.set(cases.get() + 1);
    }
    let check = bolero::check!(name = target.name).with_type::<Attempt>();
    let check = match time {
        Some(time) => check.with_test_time(time),
        None => check.with_iterations(CASES),
    };
    let test = AssertUnwindSafe(|attempt: &Attempt| {
        cases.set(cases.get() + 1);
        give(target, &attempt.apply(&seeds));
    });
    // Whole, not by its field: what is asserted of it holds for it as a whole.
    check.for_each(move |attempt: &Attempt| (*test)(attempt));
}

#[test]
fn every_decoder_that_a_peer_can_reach_takes_whatever_comes() {
    let targets = targets::all();
    let seconds: Option<u64> = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let share = seconds.map(|seconds| Duration::from_secs(seconds) / u32::try_from(targets.len()).unwrap());
    let cases = Cell::new(0);
    let start = Instant::now();
    for target in &targets {
        let (before, began) = (cases.get(), Instant::now());
        try_target(target, share, &cases);
        if seconds.is_some() {
            println!("{}: {} inputs in {:?}", target.name, cases.get() - before, began.elapsed());
        }
    }
    dms_tests::proof(&format!(
        "fuzz: {} decoders that a peer can reach took {} inputs in {} s, none with a panic, none with memory for what \
         was only claimed",
        targets.len(),
        cases.get(),
        start.elapsed().as_secs()
    ));
}

#[test]
fn every_word_has_a_target_and_every_corpus_is_somebodys() {
    let names: BTreeSet<String> = targets::all().into_iter().map(|target| target.name).collect();
    for word in needs::table() {
        let name = targets::file_name(&word.kind.to_string());
        assert!(names.contains(&format!("word.{name}")), "nobody tries {}", word.kind);
    }
    let kept = fs::read_dir(corpus("")).unwrap().map(|entry| entry.unwrap());
    let kept = kept.filter(|entry| entry.file_type().unwrap().is_dir());
    let kept: BTreeSet<String> = kept.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(kept, names);
    for name in names {
        assert!(!seeds_of(&name).is_empty(), "{name} has nothing to begin with");
    }
}

/// The examples are the beginning of every corpus; `DMS_CORPUS=write` writes those that are not there or not the same.
#[test]
fn every_corpus_begins_with_what_is_valid_today() {
    let is_writing = std::env::var_os("DMS_CORPUS").is_some_and(|value| value == "write");
    for (target, name, bytes) in seeds::all() {
        let path = corpus(&target).join(&name);
        if is_writing {
            fs::create_dir_all(corpus(&target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(kept, bytes, "{}: write it again with DMS_CORPUS=write", path.display());
    }
}
