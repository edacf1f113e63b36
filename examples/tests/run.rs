//! Each example is run as a newcomer runs it: it ends by itself, well, and says what it is about.
//!
//! `submit` needs a node and is run by `tests/`, as is `demo`.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Longer than any of them takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where cargo has put the examples: beside the folder of this test's own program.
fn program(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("a test knows where it is");
    let profile = me.parent().and_then(|deps| deps.parent()).expect("it is in a target directory");
    profile.join("examples").join(name)
}

/// Runs an example to its end and returns what it said.
fn run(name: &str) -> String {
    let program = program(name);
    let mut child = Command::new(&program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}: build the workspace first", program.display()));
    let mut output = child.stdout.take().expect("it is piped");
    let (said_tx, said_rx) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut said = String::new();
        let read = output.read_to_string(&mut said).map(|_| said);
        // Nobody listens any more to one that took too long.
        let _ = said_tx.send(read);
    });
    let Ok(said) = said_rx.recv_timeout(PATIENCE) else {
        let _ = child.kill();
        panic!("{name} does not end");
    };
    let said = said.expect("it speaks UTF-8");
    let status = child.wait().expect("it is ours");
    assert!(status.success(), "{name}: {status}\n{said}");
    said
}

#[test]
fn ping_is_answered() {
    let said = run("ping");
    assert!(said.contains("pings 41\nthe answer is 42\n"), "{said}");
}

#[test]
fn a_supervised_worker_is_built_three_times_and_given_up() {
    let said = run("supervised");
    assert_eq!(said.matches("a worker is built\n").count(), 3, "{said}");
    for line in ["job 2 is done, the 2. of this worker", "job 3 is done, the 1. of this worker"] {
        assert!(said.contains(line), "{said}");
    }
    assert!(said.ends_with("the foreman has failed: no worker\n"), "{said}");
}

#[test]
fn a_pool_shares_work_and_keeps_together_what_belongs_together() {
    let said = run("pool");
    assert!(said.contains("there are 2262 primes below 20000\n"), "{said}");
    assert!(said.contains("ada, for the 3. time, at worker "), "{said}");
}

#[test]
fn a_topic_reaches_subscribers_here_and_elsewhere() {
    let said = run("pubsub");
    assert_eq!(said.matches("2 screens have the price of ").count(), 2, "{said}");
    assert!(said.ends_with("in the window 2, in the hall 3\n"), "{said}");
}

#[test]
fn a_rule_of_ones_own_ranks_and_rejects() {
    let said = run("own_rule");
    assert_eq!(
        said, "1. CH\n2. eu-north\n3. eu-west\nnot us-east: near-home: is too far from home\n",
        "{said}"
    );
}
