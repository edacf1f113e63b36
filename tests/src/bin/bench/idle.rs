//! What a node costs its host while nothing happens: memory, and CPU over a window.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::mesh::{Engine, Mesh};
use crate::report::Figure;

/// How long the mesh settles first: links, first adverts, identification.
const SETTLE: Duration = Duration::from_secs(10);
/// How long CPU is counted; the system counts in hundredths of a second, so 20 s show 0.05 %.
const WINDOW: Duration = Duration::from_secs(20);

/// The group `idle`: the mean over the providers of a mesh in which nobody asks for anything.
pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    if !cfg!(target_os = "linux") {
        println!("skipped: idle (it reads /proc)");
        return Ok(Vec::new());
    }
    let mesh = Mesh::start(Engine::Disk).await?;
    tokio::time::sleep(SETTLE).await;
    let all = || mesh.providers.iter().map(|node| cpu(node.process_id())).sum::<anyhow::Result<f64>>();
    let (start, before) = (Instant::now(), all()?);
    tokio::time::sleep(WINDOW).await;
    let (window, after) = (start.elapsed(), all()?);
    let count = mesh.providers.len() as f64;
    let memory = mesh.providers.iter().map(|node| memory(node.process_id())).sum::<anyhow::Result<f64>>()?;
    Ok(vec![
        Figure::new("idle_rss_mib", memory / count, "MiB").means(
            "resident memory of an onboarded provider in a mesh of four, 30 s after its start; mean of 3",
        ),
        Figure::new("idle_cpu_percent", (after - before) / window.as_secs_f64() / count * 100.0, "%")
            .means("of one core, over 20 s in the same mesh; mean of 3"),
    ])
}

/// Resident memory in MiB.
pub(crate) fn memory(process: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// CPU time spent since its start, of all threads, in seconds.
fn cpu(process: u32) -> anyhow::Result<f64> {
    // Linux shows these in hundredths of a second on every machine we build for (USER_HZ).
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // After the name, which is in brackets and may hold anything: fields 3 and on; 14 and 15 are what we want.
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field =
        |number: usize| fields.get(number - 3).context("stat is short")?.parse::<f64>().context("stat");
    Ok((field(14)? + field(15)?) / TICKS)
}
