//! The directory of a run, and the caretaker that removes it whatever happens.
//!
//! The caretaker is this same program in a process group of its own, with a pipe from the demo. It hears which
//! processes the demo has started; when the pipe ends (the demo is done, has failed, panicked, or was killed
//! without warning), it waits for what is still running, ends what does not end by itself, and removes the directory.
//! So there is one way in which a run is cleared away, and it is taken every time.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// How every such directory's name begins; the caretaker removes no other.
const PREFIX: &str = "dms-demo-";
/// Longest path of the place for temporary files: a node's socket lies below, and sockets have room for 107 bytes.
const BASE_MAX: usize = 60;
/// How long a node whose demo is gone may take to stop by itself: its own drain has 10 s.
const GRACE: Duration = Duration::from_secs(15);
/// Between two looks at processes that are to end.
const LOOK: Duration = Duration::from_millis(50);

/// What a process is to the caretaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Stops by itself when its input ends.
    Node,
    /// Is ended at once.
    Worker,
}

/// The directory of one run.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    caretaker: Child,
    /// Dropped to let the caretaker begin.
    pipe: Option<ChildStdin>,
}

impl Home {
    /// Makes a new directory, with its caretaker.
    ///
    /// # Errors
    /// If either cannot be had.
    pub(crate) fn make(is_kept: bool) -> io::Result<Self> {
        let place = std::env::temp_dir();
        let is_short = place.as_os_str().len() <= BASE_MAX;
        let base = if is_short { place.as_path() } else { Path::new("/tmp") };
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base)?.keep();
        let caretaker = Command::new(std::env::current_exe()?)
            .arg("--caretaker")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let mut caretaker = caretaker.inspect_err(|_| drop(std::fs::remove_dir(&path)))?;
        let pipe = caretaker.stdin.take();
        let home = Self { path, caretaker, pipe };
        if is_kept {
            home.tell("keep");
        }
        Ok(home)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A process was started.
    pub(crate) fn started(&self, role: Role, process: u32) {
        match role {
            Role::Node => self.tell(&format!("node {process}")),
            Role::Worker => self.tell(&format!("worker {process}")),
        }
    }

    /// A process has ended and was seen to.
    pub(crate) fn ended(&self, process: u32) {
        self.tell(&format!("ended {process}"));
    }

    fn tell(&self, line: &str) {
        // A caretaker that somebody killed takes care of nothing; the demo itself still clears its processes.
        let _ = self.pipe.as_ref().map(|mut pipe| writeln!(pipe, "{line}"));
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.caretaker.wait();
    }
}

/// What the caretaker knows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Charge {
    nodes: BTreeSet<u32>,
    workers: BTreeSet<u32>,
    is_kept: bool,
}

impl Charge {
    fn hear(&mut self, line: &str) {
        let (word, process) = line.split_once(' ').unwrap_or((line, ""));
        match (word, process.parse()) {
            ("keep", _) => self.is_kept = true,
            ("node", Ok(process)) => drop(self.nodes.insert(process)),
            ("worker", Ok(process)) => drop(self.workers.insert(process)),
            ("ended", Ok(process)) => {
                self.nodes.remove(&process);
                self.workers.remove(&process);
            }
            // Half a line of a demo that was killed while it wrote.
            _ => {}
        }
    }
}

/// The caretaker's whole life.
pub(crate) fn take_care(directory: &Path) {
    let mut charge = Charge::default();
    for line in io::stdin().lock().lines() {
        match line {
            Ok(line) => charge.hear(&line),
            Err(_) => break,
        }
    }
    charge.workers.iter().for_each(|process| send("-KILL", *process));
    let mut left: BTreeSet<u32> = charge.nodes.union(&charge.workers).copied().collect();
    wait(&mut left, GRACE);
    left.iter().for_each(|process| send("-KILL", *process));
    wait(&mut left, GRACE);
    let is_ours = directory.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    if is_ours && !charge.is_kept {
        // It may be gone already, and there is nobody left to tell.
        let _ = std::fs::remove_dir_all(directory);
    }
}

fn wait(left: &mut BTreeSet<u32>, limit: Duration) {
    let start = Instant::now();
    loop {
        left.retain(|process| is_alive(*process));
        if left.is_empty() || start.elapsed() > limit {
            return;
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the caretaker is one thread that waits for processes not its own"
)]
fn pause() {
    std::thread::sleep(LOOK);
}

fn is_alive(process: u32) -> bool {
    // A process that has ended and that nobody has collected is listed, but it holds nothing any more.
    let is_zombie = std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')));
    !is_zombie && kill("-0", process)
}

fn send(signal: &str, process: u32) {
    // It may have ended by itself since it was looked at.
    kill(signal, process);
}

fn kill(signal: &str, process: u32) -> bool {
    let command = Command::new("kill")
        .arg(signal)
        .arg(process.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    command.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caretaker_knows_what_still_runs() {
        let mut charge = Charge::default();
        for line in ["node 12", "worker 13", "node 14", "ended 12", "", "node", "node x", "nod"] {
            charge.hear(line);
        }
        assert_eq!(charge, Charge { nodes: [14].into(), workers: [13].into(), is_kept: false });
        charge.hear("keep");
        assert!(charge.is_kept);
    }

    #[test]
    fn this_process_lives_and_an_impossible_one_does_not() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX >> 1));
    }
}
