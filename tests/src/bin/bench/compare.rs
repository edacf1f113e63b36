//! Our actors beside kameo, ractor and bare tokio: builds the programs of `actors/compare`, a package with a lock
//! file of its own, and reads the figures that they print.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::sync::mpsc;

use crate::report::Figure;

/// How often each figure is measured; the median counts.
const ROUNDS: &str = "5";
/// Loaded runs that have to end.
const RUNS: &str = "200";
/// Lines of output that wait to be read: figures come seconds apart.
const LINES: usize = 64;
/// How often it is looked whether a program has ended; they run for minutes.
const LOOK: Duration = Duration::from_millis(50);

/// The group `actors`: inside one process.
pub(crate) async fn actors() -> anyhow::Result<Vec<Figure>> {
    // What the overhead of tracing and metrics is taken from.
    build("bare").await?;
    build("instrumented").await?;
    figures(&build("local").await?, ["rounds", ROUNDS]).await
}

/// The group `remote`: between two processes.
pub(crate) async fn remote() -> anyhow::Result<Vec<Figure>> {
    figures(&build("remote").await?, ["rounds", ROUNDS]).await
}

/// The group `remote_runs`: whether everything ends, again and again.
pub(crate) async fn remote_runs() -> anyhow::Result<Vec<Figure>> {
    figures(&build("remote").await?, ["runs", RUNS]).await
}

/// How these programs are compiled, and of what.
pub(crate) fn profile() -> String {
    let lock = std::fs::read_to_string(package().join("Cargo.lock")).unwrap_or_default();
    let version = |name: &str| {
        let entry =
            lock.split("[[package]]").find(|entry| entry.contains(&format!("\nname = \"{name}\"\n")))?;
        entry
            .lines()
            .find_map(|line| line.strip_prefix("version = "))
            .map(|text| text.trim_matches('"').to_owned())
    };
    let versions = ["kameo", "ractor", "ractor_cluster", "tokio"]
        .map(|name| format!("{name} {}", version(name).unwrap_or_else(|| "unknown".to_owned())));
    format!("release (cargo's own) with {}", versions.join(", "))
}

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../actors/compare")
}

/// Builds a program, which is named like its feature, and says where it is.
async fn build(program: &str) -> anyhow::Result<PathBuf> {
    // Beside this program's profile: `…/debug/bench` and `…/compare/release/local`.
    let me = std::env::current_exe().context("this program has no path")?;
    let target = me.ancestors().nth(2).context("this program is not in a target directory")?.join("compare");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--bin", program, "--features", program]);
    cargo.arg("--target-dir").arg(&target).current_dir(package());
    let built = Running(cargo.spawn().context("cargo cannot be run")?).ended().await?;
    ensure!(built.success(), "the program {program} of actors/compare cannot be built");
    Ok(target.join("release").join(program))
}

/// Runs a program and reads what it prints: comments that say what was measured, each before its line.
async fn figures(program: &Path, arguments: [&str; 2]) -> anyhow::Result<Vec<Figure>> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{} cannot be run", program.display()))?;
    let output = child.stdout.take().context("its output is a pipe")?;
    let mut running = Running(child);
    let (found, mut lines) = mpsc::channel(LINES);
    // Ends with the pipe, and so with the program.
    std::thread::spawn(move || {
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next()
            && found.blocking_send(line).is_ok()
        {}
    });
    let (mut figures, mut means) = (Vec::new(), String::new());
    while let Some(line) = lines.recv().await {
        let line = line?;
        match line.strip_prefix("# ") {
            Some(text) => means = text.to_owned(),
            None => {
                let figure = Figure::read(&line).with_context(|| format!("no figure: {line}"))?;
                eprintln!("{line}");
                figures.push(figure.means(std::mem::take(&mut means)));
            }
        }
    }
    let ended = running.ended().await?;
    ensure!(ended.success(), "{} ended with {ended}", program.display());
    Ok(figures)
}

/// A program that does not outlive this one.
struct Running(Child);

impl Running {
    async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and that is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
