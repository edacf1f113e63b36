//! What a newcomer waits for: how many crates the program is made of, and how long compiling all of it takes.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::report::Figure;

/// The group `crates`: what the `dms` program links, itself and ours included; build tools and tests not.
pub(crate) fn crate_count() -> anyhow::Result<Vec<Figure>> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--offline", "-p", "dms-node", "-e", "normal", "--prefix", "none"]);
    let output = tree.args(["--format", "{p}"]).output().context("cargo cannot be run")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let crates: BTreeSet<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    Ok(vec![
        Figure::new("crate_count", crates.len() as f64, "crates")
            .means("packages behind the `dms` program on this platform, its own included"),
    ])
}

/// The group `build`: `cargo build --workspace --all-targets` into an empty directory, downloads not counted.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let target = tempfile::Builder::new().prefix("dms-cold").tempdir_in("/var/tmp")?;
    let fetched = cargo().args(["fetch", "--quiet", "--locked"]).status().context("cargo cannot be run")?;
    ensure!(fetched.success(), "cargo fetch failed");
    let start = Instant::now();
    let mut build = cargo();
    build.args(["build", "--workspace", "--all-targets", "--locked", "--offline"]);
    let built = build.env("CARGO_TARGET_DIR", target.path()).status().context("cargo cannot be run")?;
    if !built.success() {
        bail!("the build failed");
    }
    Ok(vec![Figure::new("cold_build_minutes", start.elapsed().as_secs_f64() / 60.0, "min").means(
        "`make build` into an empty directory, tests included, downloads not (`make bench NAME=build`)",
    )])
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}
