//! Processes that measure: killed when dropped, read line by line under a deadline.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::rounds::{self, Sample};

/// A process that is killed when dropped, and the lines it prints.
pub(crate) struct Process {
    child: Child,
    /// Held until it is dropped, so that the process knows when this one is gone; waiting would close it.
    _stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Process {
    /// Runs `program` with `arguments`.
    pub(crate) fn start(program: &OsStr, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a process cannot be started")?;
        let output = child.stdout.take().context("its output is a pipe")?;
        Ok(Self { _stdin: child.stdin.take(), child, lines: lines(output) })
    }

    /// Its next line; an error when it ends or the time is over.
    pub(crate) fn line(&self, deadline: Instant) -> anyhow::Result<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Ok(line),
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("it hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("it ended"),
        }
    }

    /// What it measured: its last line. It has to end well.
    pub(crate) fn sample(mut self, line: &str) -> anyhow::Result<Sample> {
        let status = self.child.wait()?;
        ensure!(status.success(), "it ended with {status}");
        rounds::parse(line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads on a thread of its own, because a pipe has no deadline. A process prints few lines.
fn lines(output: ChildStdout) -> mpsc::Receiver<String> {
    let (to, lines) = mpsc::sync_channel(16);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
