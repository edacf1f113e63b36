//! A job's way through a mesh of four processes: how long until it runs, and how many end in a second.
//!
//! The job is the smallest program there is: an empty `_start`. *Submit* is the moment before the client sends
//! `POST /v1/jobs`; *running* is the moment when the client's look at the requester first shows that the provider
//! said that the program runs (or has ended since: it ends within a millisecond). Both are of one clock, the
//! client's; a look takes about half a millisecond and the next follows a millisecond later, which is in the figure.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use dms_messages::{
    AllocationState, ContentId, CpuMillis, DiskMib, ExecutorKind, JobId, JobPhase, MemoryMib, Millis, Pod,
    Requirement, Task,
};
use dms_node::api::client::{ApiClient, ClientError};
use dms_node::api::types::NewJob;
use dms_storage::books::{AttemptState, JobRow};

use crate::disk::Floor;
use crate::mesh::{Engine, Mesh};
use crate::report::{Figure, percentile};

/// Jobs whose way is timed, one after another.
const TIMED_JOBS: usize = 200;
/// Jobs before those, so that programs are compiled and links are warm.
const WARM_UP_JOBS: usize = 10;
/// Jobs that are counted, many at a time.
const COUNTED_JOBS: usize = 1000;
/// Jobs in flight while they are counted: what one patient client would hand in at a time.
const IN_FLIGHT: usize = 32;
/// Jobs that are handed in at once although only one at a time fits on each provider.
const CROWD: usize = 60;
/// What a job asks for so that all in flight have room.
const SMALL: CpuMillis = CpuMillis(10);
/// What a job asks for to have a provider to itself.
const WHOLE: CpuMillis = CpuMillis(1000);
/// Between two looks at a job that is timed.
const LOOK: Duration = Duration::from_millis(1);
/// Between two looks at how many jobs are in flight.
const COUNT_LOOK: Duration = Duration::from_millis(5);
/// Rest between a job's end and the next: what the last one left to be written is written.
const REST: Duration = Duration::from_millis(25);
/// How long all of one measurement may take.
const DEADLINE: Duration = Duration::from_secs(180);

/// The smallest command.
const NO_OP: &str = r#"(module (memory (export "memory") 0) (func (export "_start")))"#;

/// The group `job`.
pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let synced = of(Engine::Disk).await.context("books on disk")?;
    let memory = of(Engine::Memory).await.context("books in memory")?;
    let floor = percentile(&synced.floor, 0.5);
    let way = "200 no-op jobs one after another, requester and 3 providers as processes on loopback; \
               from the client's POST to its first sight that the program runs";
    let timed = |name: &'static str, part: f64, times: &Times| {
        Figure::new(name, percentile(&times.running, part), "ms")
    };
    Ok(vec![
        Figure::new("fdatasync_p50", floor, "ms")
            .means("4 KiB appended and synced, between the jobs below and on their file system"),
        timed("job_submit_to_running_p50", 0.5, &synced).beside("time_vs_fdatasync", floor).means(way),
        timed("job_submit_to_running_p99", 0.99, &synced)
            .beside("time_vs_fdatasync", floor)
            .means("the same jobs"),
        Figure::new("job_submit_to_accepted_p50", percentile(&synced.accepted, 0.5), "ms")
            .beside("time_vs_fdatasync", floor)
            .means("the same jobs, to the first sight of the contract that the provider countersigned"),
        Figure::new("job_submit_to_result_p50", percentile(&synced.ended, 0.5), "ms")
            .beside("time_vs_fdatasync", floor)
            .means("the same jobs, to the end with the results at the requester"),
        timed("job_submit_to_running_memory_p50", 0.5, &memory)
            .beside("time_vs_synced", percentile(&synced.running, 0.5))
            .means("the same with `--engine memory`: nothing is synced"),
        timed("job_submit_to_running_memory_p99", 0.99, &memory)
            .beside("time_vs_synced", percentile(&synced.running, 0.99))
            .means("the same with `--engine memory`"),
        Figure::new("job_throughput", synced.rate, "jobs/s")
            .means("1,000 no-op jobs through one requester to three providers, at most 32 in flight, to the last end"),
        Figure::new("job_crowd_throughput", synced.crowd_rate, "jobs/s")
            .means("60 no-op jobs handed in at once, each of which needs a whole provider"),
        Figure::new("job_throughput_memory", memory.rate, "jobs/s")
            .beside("rate_vs_synced", synced.rate)
            .means("the same with `--engine memory`"),
    ])
}

/// What one mesh showed; times in milliseconds.
#[derive(Debug, Default)]
struct Times {
    floor: Vec<f64>,
    accepted: Vec<f64>,
    running: Vec<f64>,
    ended: Vec<f64>,
    /// Small jobs per second.
    rate: f64,
    /// Large jobs per second.
    crowd_rate: f64,
}

async fn of(engine: Engine) -> anyhow::Result<Times> {
    let mesh = Mesh::start(engine).await?;
    let mut times = Times::default();
    timed(&mesh, WARM_UP_JOBS, &mut Times::default()).await?;
    timed(&mesh, TIMED_JOBS, &mut times).await?;
    let api = &mesh.requester.api;
    times.rate = rate(api, &no_op(api, SMALL).await?, COUNTED_JOBS, IN_FLIGHT).await?;
    times.crowd_rate = rate(api, &no_op(api, WHOLE).await?, CROWD, CROWD).await?;
    Ok(times)
}

async fn timed(mesh: &Mesh, count: usize, times: &mut Times) -> anyhow::Result<()> {
    let api = &mesh.requester.api;
    let job = no_op(api, SMALL).await?;
    let mut floor = Floor::new(mesh.directory())?;
    let begin = Instant::now();
    for _ in 0..count {
        tokio::time::sleep(REST).await;
        times.floor.push(millis(floor.sync()?));
        let start = Instant::now();
        let id = api.submit(&job).await?;
        let (mut accepted, mut running) = (None, None);
        loop {
            let view = api.job(id).await?;
            let now = millis(start.elapsed());
            if is_accepted(&view.row) {
                accepted.get_or_insert(now);
            }
            if is_running(&view.row) {
                running.get_or_insert(now);
            }
            if view.is_terminal {
                ensure!(view.phase == JobPhase::Succeeded, "a no-op job failed: {}", view.detail);
                times.ended.push(now);
                break;
            }
            ensure!(begin.elapsed() < DEADLINE, "the jobs did not end in time; the last: {view:?}");
            tokio::time::sleep(LOOK).await;
        }
        times.accepted.extend(accepted);
        times.running.extend(running);
    }
    Ok(())
}

/// The provider's countersignature is here. A word of it that the program runs may come first: then the job is
/// `Running` before it.
fn is_accepted(row: &JobRow) -> bool {
    row.current_attempt().is_some_and(|attempt| attempt.allocation.is_some())
}

/// The provider said that the program runs, or has run.
fn is_running(row: &JobRow) -> bool {
    let attempt = row.current_attempt().map(|attempt| &attempt.state);
    let runs = AllocationState::Running.rank();
    matches!(attempt, Some(AttemptState::Observed { state }) if state.rank() >= runs)
}

/// How many of `count` jobs end in a second, with at most `in_flight` handed in and not ended.
async fn rate(api: &ApiClient, job: &NewJob, count: usize, in_flight: usize) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut ids: Vec<JobId> = Vec::new();
    loop {
        let active = api.status().await?.active_job_count;
        if ids.len() == count && active == 0 {
            break;
        }
        ensure!(start.elapsed() < DEADLINE, "the jobs did not end in time: {active} of {} run", ids.len());
        let room = in_flight.saturating_sub(active).min(count - ids.len());
        // Handed in together, so that their commits share syncs.
        let handed_in = (0..room).map(|_| api.submit(job));
        for id in futures::future::join_all(handed_in).await {
            ids.push(id?);
        }
        tokio::time::sleep(COUNT_LOOK).await;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    for id in ids {
        let view = api.job(id).await?;
        ensure!(view.phase == JobPhase::Succeeded, "a no-op job failed: {}", view.detail);
    }
    Ok(rate)
}

/// The job, with its program at the requester.
async fn no_op(api: &ApiClient, cpu: CpuMillis) -> Result<NewJob, ClientError> {
    let module: ContentId = api.put_blob(NO_OP).await?.cid;
    let requirement = Requirement {
        cpu,
        memory: MemoryMib(8),
        disk: DiskMib(1),
        gpus: Vec::new(),
        executor: ExecutorKind::Wasm,
        locations: Default::default(),
        labels: Default::default(),
        ..Requirement::default()
    };
    let task = Task {
        name: "no-op".to_owned(),
        module,
        args: Vec::new(),
        env: Default::default(),
        stdin: None,
        input: None,
        timeout: Millis(10_000),
        resources: None,
    };
    Ok(NewJob {
        name: "no-op".to_owned(),
        pods: vec![Pod { requirement, tasks: vec![task] }],
        max_price: None,
        wanted: None,
        wait: None,
        max_attempts: None,
    })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_actors::Did;
    use dms_messages::{AllocationId, AttemptId, Job, Price, Timestamp};
    use dms_storage::books::AttemptRow;

    #[test]
    fn a_job_is_accepted_by_the_countersignature_and_not_by_a_word_that_it_runs() {
        let id = JobId::from_random([1; 16]);
        let attempt = |allocation| AttemptRow {
            id: AttemptId { job: id, pod: 0, number: 1 },
            provider: "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".parse::<Did>().unwrap(),
            addresses: vec![],
            contract: ContentId::of_document(b""),
            price: Price(0),
            allocation,
            state: AttemptState::Observed { state: AllocationState::Running },
            result: None,
            tasks: Vec::new(),
            minted: Timestamp(0),
            running: None,
            moved: Timestamp(0),
        };
        let row = |attempts| JobRow {
            job: Job {
                id,
                name: String::new(),
                pods: vec![],
                max_price: None,
                wanted: 1,
                wait: Millis(1),
                max_attempts: 1,
                submitted: Timestamp(0),
            },
            phase: JobPhase::Running,
            is_cancel_wanted: false,
            attempts,
            answers: Default::default(),
            first_bid: None,
            declines: Default::default(),
            end: None,
            moved: Timestamp(0),
        };
        let unsigned = row(vec![attempt(None)]);
        assert!(is_running(&unsigned) && !is_accepted(&unsigned));
        assert!(is_accepted(&row(vec![attempt(Some(AllocationId::from_random([2; 16])))])));
        assert!(!is_accepted(&row(vec![])));
    }
}
