//! The remote program of the READMEs: the same in all places, and it does what they say, as two processes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Longer than two processes take to meet on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file of this workspace; counted from this crate's folder.
fn read(path: &str) -> String {
    // Asked when run: a target directory may be shared by several checkouts.
    let crate_root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    fs::read_to_string(crate_root.join(path)).unwrap()
}

/// The code block of a page that joins a network.
fn remote_program(page: &str) -> &str {
    let blocks = page.split("\n```").filter_map(|block| block.strip_prefix("rust"));
    let code = blocks.filter_map(|block| block.split_once('\n')).map(|(_, code)| code);
    code.filter(|code| code.contains("dms_p2p::join")).last().unwrap().trim()
}

#[test]
fn every_page_shows_the_same_program_of_at_most_25_lines() {
    let example = read("examples/readme.rs");
    let (_, program) = example.split_once("\n\n").unwrap();
    assert_eq!(remote_program(&read("README.md")), program.trim());
    assert_eq!(remote_program(&read("../actors/README.md")), program.trim());
    assert!(program.lines().filter(|line| !line.trim().is_empty()).count() <= 25);
}

/// A running program, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the example and returns what it prints, line by line.
fn start(arguments: &[&str]) -> (Running, mpsc::Receiver<String>) {
    let me = std::env::current_exe().unwrap();
    let program = me.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join("readme");
    let child = Command::new(&program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{}: {error}: build it first", program.display()));
    let output = BufReader::new(child.stdout.take().unwrap());
    let (lines_tx, lines) = mpsc::sync_channel(16);
    thread::spawn(move || {
        for line in output.lines() {
            // Nobody listens after the test.
            let _ = lines_tx.send(line.unwrap_or_default());
        }
    });
    (Running(child), lines)
}

#[test]
fn the_second_process_asks_the_first() {
    let (_first, said) = start(&[]);
    let words = said.recv_timeout(PATIENCE).unwrap();
    let (place, pinger) = words.split_once(' ').unwrap();
    let (_second, said) = start(&[place, pinger]);
    let own_words = said.recv_timeout(PATIENCE).unwrap();
    assert_ne!(own_words, words);
    assert_eq!(said.recv_timeout(PATIENCE).unwrap(), "Ok(42)");
}
