//! What the system refuses: a full disk, a read-only directory, files of somebody else.
//!
//! Each scenario is this test binary started again, in a mount and user namespace of its own where it needs a small
//! disk, a read-only mount or a user that is not allowed everything; left out visibly where there are none.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{keys, open, put, temporary};
use crate::engine::{Batch, Durability, Engine, EngineError, Family, RocksEngine, RocksOptions, ScanRange};

const DIRECTORY: &str = "DMS_STORAGE_REFUSED_DIRECTORY";

/// The directory, in a process started by [`run`].
fn given() -> Option<PathBuf> {
    env::var_os(DIRECTORY).map(PathBuf::from)
}

/// Runs one test of this file in another process: a shell that prepares (`$D` is the directory), then becomes it.
fn run(test: &str, directory: &Path, in_namespace: bool, prepare: &str) -> Output {
    let (_, module) = module_path!().split_once("::").expect("a crate and a module");
    let binary = env::current_exe().expect("this binary");
    let script = format!("D=\"${DIRECTORY}\"; {prepare} && exec \"$0\" --exact {module}::{test} --nocapture");
    let mut command = if in_namespace {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--mount", "sh"]);
        unshare
    } else {
        Command::new("sh")
    };
    command.args(["-c", &script]).arg(binary).env(DIRECTORY, directory).output().expect("a shell starts")
}

fn assert_passed(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{}\n{said}\n{}",
        output.status,
        text(&output.stderr)
    );
}

/// Whether this machine lets us have namespaces; says so if not.
fn has_namespaces(what: &str) -> bool {
    let is_there = Command::new("unshare")
        .args(["--map-root-user", "--mount", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !is_there {
        skip(&format!("{what}: no user and mount namespaces here"));
    }
    is_there
}

fn skip(what: &str) {
    println!("skipped: {what}");
    let Some(log) = env::var_os("DMS_SKIP_LOG").filter(|log| !log.is_empty()) else { return };
    let written =
        OpenOptions::new().create(true).append(true).open(log).and_then(|mut log| writeln!(log, "{what}"));
    written.expect("the log of what is skipped can be written");
}

fn small_buffers() -> RocksOptions {
    RocksOptions { family_write_buffer_bytes: 64 * 1024, ..RocksOptions::default() }
}

/// 4,000 bytes that no compression makes smaller (xorshift32).
fn noise(seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()
    };
    (0..1_000).flat_map(|_| next()).collect()
}

/// Writes numbered rows until the engine refuses; how many it took, and why no more.
fn write_until_refused(engine: &dyn Engine, from: u32) -> (u32, EngineError) {
    for n in from..from + 10_000 {
        let mut batch = Batch::new();
        batch.put(Family::Events, n.to_be_bytes(), noise(n));
        if let Err(error) = engine.write(batch, Durability::Unsynced) {
            return (n, error);
        }
    }
    panic!("40 MB fit on a small disk");
}

fn assert_holds(engine: &dyn Engine, at_least: u32) {
    let rows = keys(engine.scan(Family::Events, ScanRange::all(), usize::MAX));
    let expected: Vec<Vec<u8>> = (0..rows.len() as u32).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(rows, expected, "no row is missing in the middle");
    // One more may be there: the fate of the refused write is open.
    assert!((at_least..=at_least + 1).contains(&(rows.len() as u32)), "{at_least}: {}", rows.len());
}

#[test]
fn child_with_a_small_disk() {
    let Some(directory) = given() else { return };
    let ballast = directory.join("ballast");
    let path = directory.join("books");
    let engine = RocksEngine::open(&path, &small_buffers()).expect("there is room at first");
    let fill = || {
        let mut filler = File::options().create(true).append(true).open(&ballast).expect("opens");
        while filler.write_all(&[1; 64 * 1024]).is_ok() {}
        while filler.write_all(&[1; 512]).is_ok() {}
    };
    let mut saved = 0;
    // Full, and room again, and full again.
    for round in 0..3 {
        fill();
        let (taken, error) = write_until_refused(&engine, saved);
        assert!(matches!(error, EngineError::NoSpace { .. }) && error.may_pass(), "round {round}: {error:?}");
        saved = taken;
        let error = engine.reopen().expect_err("still full");
        assert!(matches!(error, EngineError::NoSpace { .. }), "round {round}: {error:?}");
        assert_holds(&engine, saved);
        // A start on a full disk says the same. What was given up above is removed beside us, and leaves some room.
        let refused = (0..100).find_map(|_| {
            fill();
            let opened = RocksEngine::open(directory.join("new"), &small_buffers()).map(drop);
            fs::remove_dir_all(directory.join("new")).expect("removes");
            opened.err()
        });
        let error = refused.expect("no room");
        assert!(matches!(error, EngineError::NoSpace { .. }), "round {round}: {error:?}");

        fs::remove_file(&ballast).expect("removes");
        engine.reopen().expect("there is room again");
        assert_holds(&engine, saved);
        saved = engine.scan(Family::Events, ScanRange::all(), usize::MAX).expect("scans").len() as u32;
        put(&engine, Family::Events, &[(&saved.to_be_bytes(), b"written again")]);
        saved += 1;
    }
    drop(engine);
    assert_holds(&open(&path).expect("opens"), saved);
}

#[test]
fn a_full_disk_is_named_and_left_behind() {
    if !has_namespaces("a full disk under the books") {
        return;
    }
    let directory = temporary();
    let mount = "mount -t tmpfs -o size=48m tmpfs \"$D\"";
    assert_passed(&run("child_with_a_small_disk", directory.path(), true, mount));
}

#[test]
fn child_with_a_limit() {
    let Some(directory) = given() else { return };
    // No flush begins a new log before this one reaches the limit.
    const LARGE: usize = 256 * 1024 * 1024;
    let options = RocksOptions {
        cache_bytes: LARGE,
        write_buffers_bytes: LARGE,
        family_write_buffer_bytes: LARGE,
        max_wal_bytes: LARGE as u64,
        ..RocksOptions::default()
    };
    let engine = RocksEngine::open(directory.join("books"), &options).expect("opens");
    let (taken, error) = write_until_refused(&engine, 0);
    assert!(matches!(error, EngineError::NoSpace { .. }), "{error:?}");
    drop(engine);
    // This process is still limited, and a log that was cut short by the limit opens all the same.
    assert_holds(&open(&directory.join("books")).expect("opens"), taken);
}

/// A quota (EDQUOT) and a limit on a file's size (EFBIG) are a full disk to whoever writes.
#[test]
fn a_limit_on_files_is_a_full_disk() {
    let directory = temporary();
    // In blocks of 512 bytes, or of 1,024 for some shells: 5 or 10 MiB.
    let prepare = "trap '' XFSZ && ulimit -f 10240";
    assert_passed(&run("child_with_a_limit", directory.path(), false, prepare));
}

#[test]
fn child_that_may_only_read() {
    let Some(directory) = given() else { return };
    let books = directory.join("books");
    let read_only = |path: &Path| EngineError::ReadOnlyDirectory { path: path.to_owned() };
    assert_eq!(open(&books).expect_err("read-only"), read_only(&books));
    assert!(read_only(&books).may_pass());
    let engine = RocksEngine::open_read_only(&books, &RocksOptions::default()).expect("reading is possible");
    assert_eq!(engine.get(Family::Jobs, b"a"), Ok(Some(b"1".to_vec())));
    let new = directory.join("new");
    assert_eq!(open(&new).expect_err("read-only"), read_only(&new));
}

#[test]
fn a_read_only_directory_is_named() {
    if !has_namespaces("a read-only directory of the books") {
        return;
    }
    let directory = temporary();
    put(&open(&directory.path().join("books")).expect("creates"), Family::Jobs, &[(b"a", b"1")]);
    let mount = "mount --bind \"$D\" \"$D\" && mount -o remount,bind,ro \"$D\"";
    assert_passed(&run("child_that_may_only_read", directory.path(), true, mount));
}

#[test]
fn child_that_is_somebody_else() {
    let Some(directory) = given() else { return };
    for (case, file) in [("file", Some("CURRENT")), ("lock", Some("LOCK")), ("directory", None)] {
        let books = directory.join(case);
        let path = file.map_or_else(|| books.clone(), |file| books.join(file));
        match open(&books).expect_err("not ours") {
            EngineError::NotOurs { path: named, owner } => {
                assert_eq!(named, path, "{case}");
                // Whoever it is outside, here it is the user that stands for all others.
                assert_eq!(owner, 65_534, "{case}");
            }
            other => panic!("{case}: {other:?}"),
        }
    }
}

#[test]
fn files_of_another_user_are_named() {
    if !has_namespaces("books of another user") {
        return;
    }
    const STRANGER: u32 = 12_345;
    let directory = temporary();
    let give_away = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changes the mode");
        chown(path, Some(STRANGER), Some(STRANGER)).is_ok()
    };
    for (case, file, mode) in
        [("file", Some("CURRENT"), 0o600), ("lock", Some("LOCK"), 0o644), ("directory", None, 0o755)]
    {
        let books = directory.path().join(case);
        drop(open(&books).expect("creates"));
        if !give_away(&file.map_or_else(|| books.clone(), |file| books.join(file)), mode) {
            skip("books of another user: only root may give files away");
            return;
        }
    }
    assert_passed(&run("child_that_is_somebody_else", directory.path(), true, "true"));
}
