//! What `dms db` does with a database: it is told from damage, copied while the node runs, put back, rebuilt, and
//! never touched under a node's hands.

use std::fs;
use std::path::{Path, PathBuf};

use dms_storage::engine::ScanRange;
use dms_storage::schema::Family;
use dms_storage::{Batch, Durability, Engine, RocksEngine, RocksOptions};
use dms_tests::{Home, Run, example, pair};
use serde_json::Value;

/// Runs a command that must end with this code, and say this on either side.
#[track_caller]
fn says(home: &Home, words: &[&str], code: i32, expected: &[&str]) -> Run {
    let run = home.dms(words);
    assert_eq!(run.code(), Some(code), "{words:?}: {run}");
    for part in expected {
        let is_there = run.stdout.contains(part) || run.stderr.contains(part);
        assert!(is_there, "{words:?} does not say {part:?}: {run}");
    }
    run
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are plain")
}

/// Does what damage would do.
fn tamper(home: &Home, change: impl FnOnce(&dyn Engine, &mut Batch)) {
    let engine =
        RocksEngine::open(home.path().join("db"), &RocksOptions::default()).expect("a node that has stopped");
    let mut batch = Batch::new();
    change(&engine, &mut batch);
    engine.write(batch, Durability::Synced).expect("it writes");
}

fn first_key(engine: &dyn Engine, family: Family) -> Vec<u8> {
    engine.scan(family, ScanRange::all(), 1).expect("it reads").remove(0).0
}

#[test]
fn a_running_nodes_database_is_measured_queried_and_backed_up_and_otherwise_left_alone() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let run = requester_home.dms(&["job", "run", "--wasm", &example("programs/hello.wat")]);
    assert_eq!(run.code(), Some(0), "{run}");
    let job = requester_home.json(&["job", "ls"])[0]["id"].as_str().expect("an id").to_owned();
    let aside = Home::new();
    let backup = aside.path().join("backup");

    for words in [vec!["db", "check"], vec!["db", "rebuild"], vec!["db", "restore", path(&backup)]] {
        says(&requester_home, &words, 75, &["a node is running at", "stop it before you"]);
        // A socket elsewhere does not hide it: the directory itself is locked.
        let hidden = [&words[..], &["--api", "/tmp/dms-no-such.sock"]].concat();
        says(&requester_home, &hidden, 75, &["is in use by a running node"]);
    }
    says(&requester_home, &["log", "--api", "/tmp/dms-no-such.sock"], 75, &["is in use by a running node"]);

    let stats = requester_home.json(&["db", "stats"]);
    assert_eq!(stats["schema"], 4);
    assert!(stats["last_event"].as_u64() > Some(5), "{stats}");
    says(&requester_home, &["db", "stats"], 0, &["1 to ", "on disk", "FAMILY", "jobs"]);

    let rows = requester_home.json(&["db", "query", "jobs"]);
    assert_eq!(rows["rows"][0]["name"], job.as_str());
    assert_eq!(rows["rows"][0]["row"]["job"]["phase"], "succeeded", "{rows}");
    says(&requester_home, &["db", "query", "jobs", "--prefix", &job[..9]], 0, &[&job, "succeeded; tries: 1"]);
    says(&requester_home, &["db", "query", "contracts"], 0, &["signed by both", "try 1 of job"]);
    let other = if job.starts_with('0') { "1" } else { "0" };
    says(&requester_home, &["db", "query", "jobs", "--prefix", other], 0, &["no such rows in jobs"]);
    says(&requester_home, &["db", "query", "locked"], 0, &["no rows in locked"]);
    says(&requester_home, &["db", "query", "job"], 2, &["there is no family \"job\"", "jobs, allocations"]);
    says(&requester_home, &["db", "query", "jobs", "--prefix", "x y"], 2, &["\"x y\""]);
    let by_peer = ["db", "query", "contracts_by_peer", "--prefix", &provider.did()];
    says(&requester_home, &by_peer, 0, &["contract bafi"]);
    let page =
        says(&requester_home, &["db", "query", "events", "--limit", "2"], 0, &["--after 000000000000000"]);
    assert_eq!(page.stdout.lines().count(), 3, "{page}");

    says(
        &requester_home,
        &["db", "backup", path(&backup)],
        0,
        &[path(&backup), &requester.did(), "not in it: the key"],
    );
    says(&requester_home, &["db", "backup", path(&backup)], 73, &["exists already"]);
    says(&requester_home, &["db", "backup", path(&aside.path().join("no/such"))], 1, &["no/such"]);
    let is_open = fs::metadata(&backup).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&is_open.permissions()) & 0o077,
        0,
        "it is nobody else's"
    );
    requester.stop();

    // The same without a node.
    assert_eq!(requester_home.json(&["db", "query", "jobs"]), rows);
    assert!(requester_home.json(&["db", "stats"])["last_event"].as_u64() >= stats["last_event"].as_u64());
    let second = aside.path().join("second");
    says(&requester_home, &["db", "backup", path(&second)], 0, &[path(&second)]);
    says(&requester_home, &["db", "check"], 0, &["the books hold"]);
    says(&requester_home, &["db", "rebuild"], 0, &["every row was as it should be"]);

    // Back to what was: the node knows its job again, and what was there is kept.
    let restored = requester_home.json(&["db", "restore", path(&backup)]);
    let before = restored["moved_aside"].as_str().expect("it was moved aside");
    assert!(before.contains("db.before-") && Path::new(before).join("CURRENT").exists(), "{restored}");
    assert_eq!(restored["has_key"], true);
    let requester = requester_home.start(&["--open"]);
    assert_eq!(requester_home.json(&["job", "ls"])[0]["id"], job.as_str());
    requester.stop();

    // Not into another node's place, and not without its key.
    provider.stop();
    says(
        &provider_home,
        &["db", "restore", path(&backup)],
        78,
        &["and the key in this data directory is that of"],
    );
    says(&provider_home, &["db", "check"], 0, &["the books hold"]);
    let keyless = Home::new();
    says(&keyless, &["db", "restore", path(&backup)], 0, &["put it back before the node starts"]);
    says(&keyless, &["run"], 78, &["put the key back"]);
    fs::copy(requester_home.path().join("key"), keyless.path().join("key")).unwrap();
    let node = keyless.start(&[]);
    assert_eq!(keyless.json(&["job", "ls"])[0]["id"], job.as_str());
    drop(node);
}

#[test]
fn a_backup_that_is_damaged_or_none_is_refused_and_changes_nothing() {
    let home = Home::new();
    home.onboard("1", "64MiB");
    let aside = Home::new();
    let backup = aside.path().join("backup");
    says(&home, &["db", "backup", path(&backup)], 0, &[]);
    let list = |home: &Home| {
        let mut names: Vec<_> =
            fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = list(&home);
    let log = home.dms(&["log", "--from", "first"]).stdout;

    let empty = aside.path().join("empty");
    fs::create_dir(&empty).unwrap();
    says(&home, &["db", "restore", path(&empty)], 65, &["is no finished backup", "nothing was changed"]);
    says(&home, &["db", "restore", path(&aside.path().join("none"))], 65, &["is no finished backup"]);
    let db = home.path().join("db");
    says(&home, &["db", "restore", path(&db)], 65, &["is no finished backup"]);

    let files = backup.join("books");
    let mut names: Vec<_> = fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() > 3, "{names:?}");
    // The engine's own text log is not part of the database.
    let is_kept = |file: &&PathBuf| {
        let name = file.file_name().unwrap().to_str().unwrap();
        !name.starts_with("LOG") && fs::metadata(file).unwrap().len() > 0
    };
    for file in names.iter().filter(is_kept) {
        let whole = fs::read(file).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        fs::write(file, &flipped).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        says(&home, &["db", "restore", path(&backup)], 65, &[name, "is not as it was backed up"]);
        fs::write(file, &whole).unwrap();
    }
    let current = files.join("CURRENT");
    fs::remove_file(&current).unwrap();
    says(&home, &["db", "restore", path(&backup)], 65, &["it is missing"]);
    assert_eq!(list(&home), before, "nothing is left behind");
    assert_eq!(home.dms(&["log", "--from", "first"]).stdout, log);

    let nobody = Home::new();
    let nowhere = nobody.path().join("nowhere");
    says(&nobody, &["db", "restore", path(&backup), "--data", path(&nowhere)], 65, &["it is missing"]);
    assert!(!nowhere.exists(), "a refused restore makes nothing");
}

#[test]
fn a_row_that_is_not_what_the_log_says_is_found_and_rebuilt() {
    let home = Home::new();
    home.onboard("1", "64MiB");
    says(&home, &["db", "check"], 0, &["the books hold"]);
    tamper(&home, |engine, batch| {
        batch.delete(Family::Registered, first_key(engine, Family::Registered));
    });
    let check = says(&home, &["db", "check"], 65, &["registered", "the books do not hold", "db rebuild"]);
    assert!(!check.stdout.contains("the books hold\n"), "{check}");
    let report: Value = serde_json::from_str(&home.dms(&["db", "check", "--json"]).stdout).unwrap();
    assert_eq!(report["findings"][0]["part"], "rows", "{report}");
    let refused = home.run_in_vain(&[]);
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("registered"), "{refused}");
    says(&home, &["db", "rebuild"], 0, &["FAMILY", "registered"]);
    says(&home, &["db", "check"], 0, &["the books hold"]);
    assert!(home.start(&[]).stop().0.success());
}

#[test]
fn a_log_that_is_damaged_is_named_and_cannot_be_rebuilt() {
    let home = Home::new();
    home.onboard("1", "64MiB");
    home.onboard("1", "65MiB");
    tamper(&home, |_, batch| batch.put(Family::Events, 2u64.to_be_bytes(), *b"\x01nonsense"));
    let check = says(&home, &["db", "check"], 65, &["2", "the books do not hold", "db restore DIR"]);
    assert!(!check.stderr.contains("db rebuild"), "{check}");
    says(&home, &["db", "rebuild"], 65, &["event 2"]);
    says(&home, &["log", "--from", "first"], 65, &["event 2 in the log cannot be read"]);
    let aside = Home::new();
    says(&home, &["db", "backup", path(&aside.path().join("b"))], 65, &["no backup was made"]);
    assert!(!aside.path().join("b").exists(), "what is no backup does not look like one");
}

#[test]
fn what_has_no_database_is_told_so_and_gets_none() {
    let home = Home::new();
    for words in [
        vec!["db", "check"],
        vec!["db", "rebuild"],
        vec!["db", "stats"],
        vec!["db", "query", "jobs"],
        vec!["db", "backup", "/tmp/dms-never-made"],
    ] {
        says(&home, &words, 1, &["there are no books in"]);
    }
    assert!(fs::read_dir(home.path()).unwrap().next().is_none(), "nothing was made");
    fs::create_dir(home.path().join("db")).unwrap();
    fs::write(home.path().join("db/letter"), "mine").unwrap();
    for words in [vec!["db", "check"], vec!["db", "stats"], vec!["log"]] {
        says(&home, &words, 1, &["there is no database in"]);
    }
    assert_eq!(fs::read(home.path().join("db/letter")).unwrap(), b"mine");
}

#[test]
fn readers_share_a_database_and_keep_a_node_from_starting_under_their_hands() {
    let home = Home::new();
    home.onboard("1", "64MiB");
    home.start(&[]).stop();
    let lock = fs::File::open(home.path().join("lock")).unwrap();
    lock.try_lock_shared().unwrap();
    says(&home, &["db", "stats"], 0, &["schema"]);
    says(&home, &["db", "rebuild"], 75, &["another command"]);
    let refused = home.run_in_vain(&["--listen", "/ip4/127.0.0.1/tcp/0"]);
    assert!(refused.stderr.contains("is in use by another"), "{refused}");
    drop(lock);
    assert!(home.start(&[]).stop().0.success());
}
