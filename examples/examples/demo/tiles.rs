//! Hands the tiles in as jobs, watches them, brings them home; kills a provider half-way if asked to.
//!
//! Everything goes through the requester's API, as any program on that machine could.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use dms_messages::{
    AllocationState, AttemptId, ContentId, CpuMillis, Did, DiskMib, ExecutorKind, FileTree, JobId, JobPhase,
    MemoryMib, Millis, Pod, Requirement, Task,
};
use dms_node::api::client::ApiClient;
use dms_node::api::types::{JobView, NewJob};
use dms_storage::books::{AttemptRow, AttemptState};

use crate::mesh::Mesh;
use crate::picture::Picture;
use crate::plan::{Plan, TILE_CPU_MILLIS, TILE_DISK_MIB, TILE_MEMORY_MIB};
use crate::progress::Progress;

/// The program; its source is `examples/programs/render.c`.
pub(crate) const RENDER: &[u8] = include_bytes!("../../programs/render.wasm");

/// How long one tile may run. A provider that wins and hangs holds its tile no longer.
const TILE_LIMIT: Millis = Millis(120_000);
/// How long the requester goes on asking for a tile: the last ones wait for all others.
const TILE_WAIT: Millis = Millis(300_000);
/// How long all tiles together may take.
const LIMIT: Duration = Duration::from_secs(300);
/// Between two looks: often enough to feel live.
const LOOK: Duration = Duration::from_millis(80);

/// What the tiles became.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// The picture, put together.
    pub(crate) picture: Picture,
    /// Each tile's job at its end, by the number of the tile.
    pub(crate) tiles: Vec<JobView>,
    /// From the first submission to the last result.
    pub(crate) time: Duration,
    /// Who was killed, if somebody was to be.
    pub(crate) killed: Option<Killed>,
}

/// A provider that was killed on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Killed {
    /// Who.
    pub(crate) provider: Did,
    /// The attempt that it ran, by its own books.
    pub(crate) attempt: AttemptId,
    /// How many tiles were done by then.
    pub(crate) done_count: usize,
}

/// Renders the picture on the mesh.
///
/// # Errors
/// If a tile fails, a node ends unexpectedly, or it takes too long.
pub(crate) async fn render(
    plan: &Plan,
    mesh: &mut Mesh<'_>,
    progress: &Progress,
    is_killing: bool,
) -> anyhow::Result<Rendered> {
    let client = mesh.requester()?;
    let module = client.put_blob(RENDER).await.context("handing in the program")?.cid;
    progress.phase(&format!("rendering {} tiles on the mesh", plan.tile_count()));
    let start = Instant::now();
    let mut tiles: BTreeMap<JobId, usize> = BTreeMap::new();
    for tile in 0..plan.tile_count() {
        let job = client.submit(&job(plan, module, tile)).await;
        tiles.insert(job.with_context(|| format!("handing in tile {tile}"))?, tile);
    }
    let mut picture = Picture::new(plan.size);
    let mut done: BTreeMap<usize, JobView> = BTreeMap::new();
    let mut killed = None;
    while done.len() < tiles.len() {
        mesh.check()?;
        ensure!(
            start.elapsed() < LIMIT,
            "{} of {} tiles were not done within {} s{}",
            tiles.len() - done.len(),
            tiles.len(),
            LIMIT.as_secs(),
            stragglers(&client, &tiles, &done).await
        );
        let views = client.jobs(tiles.len()).await?;
        for view in views {
            let Some(tile) = tiles.get(&view.id).copied().filter(|tile| !done.contains_key(tile)) else {
                continue;
            };
            progress.tile(tile, &view);
            if !view.is_terminal {
                continue;
            }
            if view.phase != JobPhase::Succeeded {
                bail!("tile {tile} {}: {}", view.phase, view.detail);
            }
            let pixels = fetch(&client, plan, tile, &view).await.with_context(|| format!("tile {tile}"))?;
            picture.put(plan.area(tile), &pixels);
            progress.pixels(plan.area(tile), &pixels);
            done.insert(tile, view);
        }
        if is_killing && killed.is_none() && done.len() * 2 >= tiles.len() {
            killed = kill(&client, mesh, &tiles, done.len()).await?;
            if let Some(killed) = &killed {
                progress.killed(killed);
            }
        }
        progress.draw();
        tokio::time::sleep(LOOK).await;
    }
    let time = start.elapsed();
    ensure!(
        !is_killing || killed.is_some(),
        "no provider could be killed while it ran a tile: the tiles are too short"
    );
    Ok(Rendered { picture, tiles: done.into_values().collect(), time, killed })
}

/// The job that renders one tile.
fn job(plan: &Plan, module: ContentId, tile: usize) -> NewJob {
    let name = format!("tile {tile}");
    let requirement = Requirement {
        cpu: CpuMillis(TILE_CPU_MILLIS),
        memory: MemoryMib(TILE_MEMORY_MIB),
        disk: DiskMib(TILE_DISK_MIB),
        gpus: Vec::new(),
        executor: ExecutorKind::Wasm,
        locations: BTreeSet::new(),
        labels: BTreeMap::new(),
        ..Requirement::default()
    };
    let task = Task {
        name: name.clone(),
        module,
        args: plan.tile_arguments(tile),
        env: BTreeMap::new(),
        stdin: None,
        input: None,
        timeout: TILE_LIMIT,
        resources: None,
    };
    NewJob {
        name,
        pods: vec![Pod { requirement, tasks: vec![task] }],
        max_price: None,
        wanted: None,
        wait: Some(TILE_WAIT),
        max_attempts: None,
    }
}

/// The pixels of a tile that is done.
async fn fetch(client: &ApiClient, plan: &Plan, tile: usize, view: &JobView) -> anyhow::Result<Picture> {
    let output = view.output.context("the program left no file")?;
    let tree = FileTree::from_blob(&client.blob(&output).await?)?;
    let file = tree.files.iter().find(|(path, _)| path.as_str() == "picture.ppm");
    let (_, file) = file.context("the program left no picture.ppm")?;
    Picture::from_ppm(&client.blob(&file.content).await?, plan.area(tile).size)
}

/// Kills the provider of the attempt that began to run last, if it still runs by its own books.
async fn kill(
    client: &ApiClient,
    mesh: &mut Mesh<'_>,
    tiles: &BTreeMap<JobId, usize>,
    done_count: usize,
) -> anyhow::Result<Option<Killed>> {
    let views = client.jobs(tiles.len()).await?;
    let newest =
        views.iter().filter_map(|view| view.row.current_attempt()).filter(|attempt| is_running(attempt));
    let Some(attempt) = newest.max_by_key(|attempt| attempt.running) else { return Ok(None) };
    let (provider, attempt) = (attempt.provider, attempt.id);
    let is_killed = mesh.kill_if_running(provider, attempt).await;
    Ok(is_killed.then_some(Killed { provider, attempt, done_count }))
}

/// True if the provider said that it runs.
pub(crate) fn is_running(attempt: &AttemptRow) -> bool {
    attempt.state == AttemptState::Observed { state: AllocationState::Running }
}

/// What is said of tiles that are not done in time.
async fn stragglers(
    client: &ApiClient,
    tiles: &BTreeMap<JobId, usize>,
    done: &BTreeMap<usize, JobView>,
) -> String {
    let mut text = String::new();
    for view in client.jobs(tiles.len()).await.unwrap_or_default() {
        if let Some(tile) = tiles.get(&view.id).filter(|tile| !done.contains_key(tile)) {
            text.push_str(&format!("\n  tile {tile}: {} {}", view.phase, view.detail));
        }
    }
    text
}
