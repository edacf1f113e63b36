//! Kills a process in the middle of its commits: whatever it acknowledged is there afterwards.
//!
//! The child is this test binary itself, started with the directory in an environment variable and told to run only
//! the test that does the writing.

use std::collections::VecDeque;
use std::env;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::{open, temporary};
use crate::committer::Committer;
use crate::engine::{Batch, Durability, Engine, EngineError, Family, ScanRange};
use crate::log::EventLog;

const DIRECTORY: &str = "DMS_STORAGE_CRASH_DIRECTORY";
/// Commits in flight at once, so that the kill finds some queued, some being written and some done.
const IN_FLIGHT: usize = 40;
/// Where a child nobody kills gives up, so that none outlives a broken parent.
const MOST_COMMITS: u64 = 200_000;

fn event(sequence: u64) -> Vec<u8> {
    sequence.to_be_bytes().repeat(1 + usize::try_from(sequence % 50).expect("small"))
}

/// The child: commits until it is killed and prints each sequence once it is acknowledged.
#[test]
fn child() {
    let Ok(directory) = env::var(DIRECTORY) else { return };
    let engine: Arc<dyn Engine> = Arc::new(open(Path::new(&directory)).expect("opens"));
    let first = EventLog::last_sequence(&*engine).expect("reads").unwrap_or(0) + 1;
    let committer = Committer::start(engine);
    let mut in_flight = VecDeque::new();
    let mut out = std::io::stdout();
    writeln!(out, "opened").expect("the parent listens");
    for sequence in first..first + MOST_COMMITS {
        let mut batch = Batch::new();
        EventLog::append(&mut batch, sequence, &event(sequence));
        batch.put(Family::Jobs, sequence.to_be_bytes(), b"row");
        in_flight.push_back((sequence, committer.commit(batch, Durability::Synced)));
        if in_flight.len() == IN_FLIGHT {
            let (sequence, ticket) = in_flight.pop_front().expect("it is full");
            ticket.wait().expect("commits");
            writeln!(out, "saved {sequence}").expect("the parent listens");
            out.flush().expect("the parent listens");
        }
    }
}

fn spawn_child(directory: &Path) -> Child {
    // "module::path::crash" without the crate's name, which the test names do not have.
    let (_, module) = module_path!().split_once("::").expect("a crate and a module");
    Command::new(env::current_exe().expect("this binary"))
        .args(["--exact", &format!("{module}::child"), "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged() {
    let directory = temporary();
    let mut saved_before = 0;
    // The same directory each time: a recovered database is killed again.
    for acknowledgements in [0, 1, 17, 150, 400, 3] {
        let mut child = spawn_child(directory.path());
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut next_line = || lines.next().map(|line| line.expect("reads"));
        // The harness may have begun the line with the test's name.
        while !next_line().expect("the child opens the database").ends_with("opened") {}

        let second = open(directory.path()).expect_err("another process has it");
        assert_eq!(second, EngineError::AlreadyOpen { path: directory.path().to_owned() });

        let number =
            |line: String| line.strip_prefix("saved ").map(|n| n.parse::<u64>().expect("a sequence"));
        let mut last_saved = saved_before;
        for _ in 0..acknowledgements {
            last_saved = number(next_line().expect("the child goes on")).expect("an acknowledgement");
        }
        child.kill().expect("SIGKILL");
        // What it said before the kill but had not been read yet counts as well.
        let said: Vec<String> = std::iter::from_fn(next_line).collect();
        last_saved = said.into_iter().filter_map(number).next_back().unwrap_or(last_saved);
        child.wait().expect("it is gone");

        let engine = open(directory.path()).expect("opens after a kill");
        let events = EventLog::read(&engine, 1, usize::MAX).expect("no holes");
        let last_stored = events.len() as u64;
        assert!(last_stored >= last_saved, "{last_saved} was acknowledged, the log ends at {last_stored}");
        assert!(last_saved >= saved_before + acknowledgements);
        for (sequence, bytes) in events {
            assert_eq!(bytes, event(sequence));
        }
        let rows = engine.scan(Family::Jobs, ScanRange::all(), usize::MAX).expect("scans");
        let expected: Vec<Vec<u8>> = (1..=last_stored).map(|n| n.to_be_bytes().to_vec()).collect();
        let keys: Vec<Vec<u8>> = rows.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, expected, "every event came with its row");
        saved_before = last_stored;
    }
}
