//! What `dms log` tells: every event once and in order, with a running node and without, as long as somebody
//! reads and somebody writes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use dms_tests::{Home, Killed, dms, example, pair, wait_for};
use serde_json::Value;

/// A `dms log --follow` that runs.
struct Follower {
    process: Killed,
    lines: BufReader<ChildStdout>,
    errors: ChildStderr,
}

impl Follower {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut command = Command::new(dms());
        command.arg("--data").arg(home.path()).args(["log", "--follow"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child: Child = command.spawn().expect("the program can be run");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let errors = child.stderr.take().expect("it is piped");
        Self { process: Killed(child), lines, errors }
    }

    /// The next line; it ends the test by its deadline if none comes, because the node then is stopped.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the pipe can be read");
        line
    }

    /// Lines up to the first one with `words` in it.
    fn until(&mut self, words: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "{words} did not come: {lines:?}");
            let is_last = line.contains(words);
            lines.push(line);
            if is_last {
                return lines;
            }
        }
    }

    fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.process.0.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()));
    }

    /// How it ended, what it printed last, and what it said beside.
    fn end(mut self) -> (ExitStatus, String, String) {
        let status = wait_for("the end of dms log", || match self.process.0.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(other),
        });
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.lines.read_to_string(&mut stdout).expect("text");
        self.errors.read_to_string(&mut stderr).expect("text");
        (status, stdout, stderr)
    }
}

fn sequence(line: &str) -> u64 {
    let number = line.split_whitespace().next().unwrap_or_default();
    number.parse().unwrap_or_else(|_| panic!("no number in {line:?}"))
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|line| line["name"].as_str().expect("a name")).collect()
}

/// True if `parts` are in `whole` in this order.
fn has_in_order(whole: &[&str], parts: &[&str]) -> bool {
    let mut rest = whole.iter();
    parts.iter().all(|part| rest.any(|name| name == part))
}

#[test]
fn a_job_is_told_on_both_sides_and_in_the_same_words_when_the_node_has_stopped() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    // Another job is not the one that is asked for.
    for _ in 0..2 {
        let run = requester_home.dms(&["job", "run", "--wasm", &example("programs/hello.wat")]);
        assert_eq!(run.code(), Some(0), "{run}");
    }
    let job = requester_home.json(&["job", "ls"])[0]["id"].as_str().expect("an id").to_owned();
    wait_for("the acknowledgement", || {
        let run = provider_home.dms(&["log", "--job", &job[..8]]);
        if run.stdout.contains("the requester has the result") { Ok(()) } else { Err(run) }
    });

    let ours = requester_home.json(&["log", "--job", &job[..8]]);
    let story = [
        "job_submitted",
        "bid_request_sent",
        "bid_received",
        "attempt_minted",
        "attempt_accepted",
        "attempt_observed",
        "job_ended",
    ];
    assert!(has_in_order(&names(&ours), &story), "{ours:#}");
    assert!(ours.as_array().unwrap().iter().all(|line| line["job"] == job.as_str()), "{ours:#}");
    assert_eq!(ours[0]["event"]["job_submitted"]["job"]["id"], job.as_str(), "the whole event");

    let theirs = provider_home.json(&["log", "--job", &job[..8]]);
    let story = [
        "bid_request_received",
        "bid_sent",
        "allocation_accepted",
        "allocation_moved",
        "allocation_ended",
        "allocation_acknowledged",
    ];
    assert!(has_in_order(&names(&theirs), &story), "{theirs:#}");
    let shown = provider_home.dms(&["log", "--job", &job[..8]]);
    for words in [&format!("for job {}", &job[..8]), "free; locked", "succeeded, ran", ": running\n"] {
        assert!(shown.stdout.contains(words), "{words}: {shown}");
    }

    let before = provider_home.dms(&["log", "--from", "first", "--limit", "12"]);
    let sequences: Vec<u64> = before.stdout.lines().map(sequence).collect();
    assert_eq!(sequences, (1..=12).collect::<Vec<_>>(), "{before}");
    assert!(before.stdout.contains("  capability_registered    offers 2 cores, 1 GiB memory"), "{before}");
    assert!(before.stderr.is_empty(), "{before}");
    provider.stop();
    requester.stop();
    let after = provider_home.dms(&["log", "--from", "first", "--limit", "12"]);
    assert_eq!((after.code(), &after.stdout), (Some(0), &before.stdout), "{after}");
    let offline = provider_home.json(&["log", "--job", &job]);
    assert_eq!(offline, theirs, "the same events, whole");

    // The newest, and how to get at the others.
    let newest = provider_home.dms(&["log", "--limit", "3"]);
    assert_eq!((newest.code(), newest.stdout.lines().count()), (Some(0), 3), "{newest}");
    let first = sequence(&newest.stdout);
    assert!(newest.stderr.contains(&format!("--from 1 --limit {}", first - 1)), "{newest}");
    let newest = provider_home.json(&["log", "--job", &job, "--limit", "2"]);
    let all = theirs.as_array().unwrap();
    assert_eq!(newest.as_array().unwrap()[..], all[all.len() - 2..]);
}

#[test]
fn following_shows_every_event_once_and_ends_with_the_node() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (_provider, requester) = pair(&provider_home, &requester_home);
    let mut text = Follower::start(&requester_home, &["--from", "first"]);
    let mut documents = Follower::start(&requester_home, &["--from", "1", "--json"]);
    let run = requester_home.dms(&["job", "run", "--wasm", &example("programs/hello.wat")]);
    assert_eq!(run.code(), Some(0), "{run}");
    let seen = text.until("job_ended");
    let sequences: Vec<u64> = seen.iter().map(|line| sequence(line)).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    for line in documents.until("\"job_ended\"") {
        let line: Value = serde_json::from_str(&line).expect("one document a line");
        assert!(line["sequence"].is_u64() && line["event"] != Value::Null, "{line}");
    }
    let (status, log) = requester.stop();
    assert!(status.success(), "whoever follows keeps no node from ending: {log}");
    for follower in [text, documents] {
        let (status, _, stderr) = follower.end();
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(!stderr.contains("error"), "{stderr}");
    }
}

#[test]
fn following_ends_with_ctrl_c_a_killed_node_enough_events_or_a_reader_that_went_away() {
    let home = Home::new();
    let node = home.onboard("2", "1GiB").start(&[]);
    let mut interrupted = Follower::start(&home, &[]);
    assert!(interrupted.line().contains("node_named"), "what is there comes first");
    interrupted.signal("INT");
    let (status, _, stderr) = interrupted.end();
    assert_eq!((status.code(), &*stderr), (Some(130), ""), "quietly");

    let next = home.json(&["log"]).as_array().unwrap().len() + 1;
    let counted = Follower::start(&home, &["--from", &next.to_string(), "--limit", "2"]);
    let (mut left, mut killed) = (Follower::start(&home, &[]), Follower::start(&home, &["--json"]));
    let first_line = left.line();
    assert!(first_line.contains("node_named"), "{first_line}");
    let Follower { mut process, lines, errors: _errors } = left;
    drop(lines);
    for memory in ["512MiB", "640MiB", "768MiB"] {
        home.onboard("2", memory);
    }
    let (status, stdout, stderr) = counted.end();
    assert_eq!((status.code(), stdout.lines().count()), (Some(0), 2), "{stdout}{stderr}");
    assert!(stdout.contains("512 MiB") && stdout.contains("640 MiB"), "{stdout}");
    wait_for("the end of a command that nobody reads", || match process.0.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(other),
    });

    killed.until("768 MiB");
    node.kill();
    let (status, _, stderr) = killed.end();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let again = home.dms(&["log", "--from", "first"]);
    assert!(again.stdout.contains("768 MiB"), "a killed node's books are read, too: {again}");
    assert!(home.start(&[]).stop().0.success(), "and reading them was no harm");
}

#[test]
fn what_cannot_be_shown_is_said() {
    let home = Home::new();
    let nowhere = home.path().join("nowhere");
    let missing = home.dms(&["log", "--data", nowhere.to_str().unwrap()]);
    assert_eq!(missing.code(), Some(1), "{missing}");
    assert!(missing.stderr.contains("there are no books in"), "{missing}");
    assert!(!nowhere.exists(), "looking makes nothing");
    home.onboard("1", "64MiB");
    let table: [(&[&str], i32, &str); 8] = [
        (&["log", "--follow"], 69, "no node is running"),
        (&["log", "--job", "00000000"], 1, "no event of a job that begins with 00000000"),
        (&["log", "--job", "a/b"], 2, "not an id"),
        (&["log", "--from", "last"], 2, "neither the number of an event nor `first`"),
        (&["log", "--limit", "0"], 2, "0"),
        (&["log", "--from", "1000"], 0, "no events"),
        (&["log", "--from", "-1"], 2, "-1"),
        (&["log", "--data", "/dev/null"], 78, "/dev/null"),
    ];
    for (words, code, message) in table {
        let run = home.dms(words);
        assert_eq!(run.code(), Some(code), "{words:?}: {run}");
        assert!(run.stderr.contains(message), "{words:?}: {run}");
        assert!(run.stdout.is_empty(), "{words:?}: {run}");
    }
    assert_eq!(home.json(&["log", "--from", "1000"]), serde_json::json!([]));
    let config = home.path().join("config.toml");
    std::fs::write(config, "engine = \"memory\"\n").unwrap();
    let run = home.dms(&["log"]);
    assert_eq!(run.code(), Some(1), "{run}");
    assert!(run.stderr.contains("kept in memory"), "{run}");
}
