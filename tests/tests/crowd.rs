//! More jobs than a mesh has room for, all at once: each runs once, in its turn, and nothing stays locked.

use std::error::Error;
use std::time::{Duration, Instant};

use dms_messages::{CpuMillis, DiskMib, ExecutorKind, JobPhase, MemoryMib, Millis, Pod, Requirement, Task};
use dms_node::api::client::ApiClient;
use dms_node::api::types::NewJob;
use dms_tests::{DEADLINE, Home, example, pair};

/// Far more than the one at a time that fits.
const JOBS: usize = 40;

#[tokio::test]
async fn a_crowd_of_jobs_that_fit_one_at_a_time_all_run_once() -> Result<(), Box<dyn Error>> {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    let api = ApiClient::new(requester_home.path().join("api.sock"));
    let module = api.put_blob(std::fs::read(example("programs/hello.wat"))?).await?.cid;
    let requirement = Requirement {
        cpu: CpuMillis(100),
        // All that the provider has.
        memory: MemoryMib(1024),
        disk: DiskMib(1),
        gpus: Vec::new(),
        executor: ExecutorKind::Wasm,
        locations: Default::default(),
        labels: Default::default(),
        ..Requirement::default()
    };
    let task = Task {
        name: "one of many".to_owned(),
        module,
        args: Vec::new(),
        env: Default::default(),
        stdin: None,
        input: None,
        timeout: Millis(10_000),
        resources: None,
    };
    let job = NewJob {
        name: "one of many".to_owned(),
        pods: vec![Pod { requirement, tasks: vec![task] }],
        max_price: None,
        wanted: None,
        wait: None,
        max_attempts: None,
    };
    let handed_in = futures::future::join_all((0..JOBS).map(|_| api.submit(&job))).await;
    let handed_in: Vec<_> = handed_in.into_iter().collect::<Result<_, _>>()?;
    let start = Instant::now();
    while api.status().await?.active_job_count > 0 {
        assert!(start.elapsed() < DEADLINE, "not all ended: {:?}", api.jobs(JOBS).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for id in handed_in {
        let view = api.job(id).await?;
        assert_eq!((view.phase, view.attempt_count), (JobPhase::Succeeded, 1), "{view:?}");
    }
    provider.wait_until_all_is_free();
    Ok(())
}
