//! The same picture without a mesh: `dms job run --local`, on this machine alone.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::home::{Home, Role};
use crate::picture::Picture;
use crate::plan::{Plan, TILE_MEMORY_MIB};
use crate::process::Process;
use crate::progress::Progress;
use crate::tiles::RENDER;

/// How long it may take: a slow core, and then some.
const LIMIT: Duration = Duration::from_secs(300);

/// Renders the whole picture; gives how long it took as well.
///
/// # Errors
/// If the program fails, or takes too long.
pub(crate) async fn render(
    plan: &Plan,
    home: &Home,
    dms: &Path,
    progress: &Progress,
) -> anyhow::Result<(Picture, Duration)> {
    let start = Instant::now();
    let (module, output) = (home.path().join("render.wasm"), home.path().join("alone"));
    std::fs::write(&module, RENDER).context("cannot write the program")?;
    let text = |path: &Path| path.display().to_string();
    let memory = format!("{TILE_MEMORY_MIB}MiB");
    let mut arguments: Vec<String> =
        ["job", "run", "--local", "--memory", &memory, "--timeout", "300s", "--wasm"]
            .map(str::to_owned)
            .to_vec();
    arguments.extend([text(&module), "--output".to_owned(), text(&output), "--".to_owned()]);
    arguments.extend(plan.whole_arguments());
    let mut process = Process::start(home, Role::Worker, "alone", dms, arguments)?;
    progress.alone();
    let status = {
        let ended = process.end_within(LIMIT);
        let mut ended = std::pin::pin!(ended);
        loop {
            tokio::select! {
                biased;
                status = &mut ended => break status,
                () = tokio::time::sleep(Duration::from_millis(100)) => progress.draw(),
            }
        }
    };
    let status = status.context("`dms job run --local`")?;
    ensure!(status.success(), "`dms job run --local` ended with {status}: {}", process.log_tail(3));
    let ppm = std::fs::read(output.join("picture.ppm")).context("`dms job run --local` left no picture")?;
    Ok((Picture::from_ppm(&ppm, plan.size)?, start.elapsed()))
}
