//! One child process: started in a group of its own, so that the terminal's Ctrl-C reaches only the demo, with its
//! output in files and its input a pipe; killed and collected when dropped.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::home::{Home, Role};

/// Between two looks at a state.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Most that is read of a log's end, in bytes.
const TAIL_BYTES: usize = 4096;

/// A child process.
#[derive(Debug)]
pub(crate) struct Process<'h> {
    home: &'h Home,
    child: Child,
    input: Option<ChildStdin>,
    out: PathBuf,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl<'h> Process<'h> {
    /// Starts `program` with `arguments`; what it writes goes to `<name>.out` and `<name>.log` in the home.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start<I: AsRef<std::ffi::OsStr>>(
        home: &'h Home,
        role: Role,
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = I>,
    ) -> anyhow::Result<Self> {
        let file =
            |path: &Path| File::create(path).with_context(|| format!("cannot make {}", path.display()));
        let (out, log) = (home.path().join(format!("{name}.out")), home.path().join(format!("{name}.log")));
        let mut command = Command::new(program);
        // Whoever runs the demo may have a node of their own, and settings for it.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("DMS_") {
                command.env_remove(variable);
            }
        }
        let mut child = command
            .args(arguments)
            .env("TMPDIR", home.path())
            // The other nodes of the demo are no owner's work.
            .env("DMS_OWNER_FIRST", "false")
            .stdin(Stdio::piped())
            .stdout(file(&out)?)
            .stderr(file(&log)?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        home.started(role, child.id());
        let input = child.stdin.take();
        Ok(Self { home, child, input, out, log, status: None })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.status = Some(status);
            self.home.ended(self.child.id());
        }
        self.status
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it takes longer than `limit`.
    pub(crate) async fn end_within(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            anyhow::ensure!(start.elapsed() < limit, "it did not end within {} s", limit.as_secs());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends its input, at which a node stops by itself.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Kills it without warning, and collects it.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            // Fails only if it ended in this very moment.
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
            self.home.ended(self.child.id());
        }
    }

    /// What it printed so far.
    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]).into_owned();
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}
