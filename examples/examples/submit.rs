//! Hands a job to a running node and waits for it: `cargo run --example submit -- <data dir> <program.wasm>`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use dms_messages::{CpuMillis, DiskMib, ExecutorKind, MemoryMib, Millis, Pod, Requirement, Task};
use dms_node::api::client::ApiClient;
use dms_node::api::types::NewJob;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(data), Some(program)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: submit <data dir of a running node> <program.wasm or .wat>");
    };
    let node = ApiClient::new(Path::new(&data).join("api.sock"));
    let module = node.put_blob(std::fs::read(&program).context(program)?).await?.cid;
    let requirement = Requirement {
        cpu: CpuMillis(1000),
        memory: MemoryMib(64),
        disk: DiskMib(16),
        gpus: Vec::new(),
        executor: ExecutorKind::Wasm,
        locations: BTreeSet::new(),
        labels: BTreeMap::new(),
        ..Requirement::default()
    };
    let task = Task {
        name: "submitted".into(),
        module,
        args: arguments.collect(),
        env: BTreeMap::new(),
        stdin: None,
        input: None,
        timeout: Millis(60_000),
        resources: None,
    };
    let job = NewJob {
        name: "submitted".into(),
        pods: vec![Pod { requirement, tasks: vec![task] }],
        max_price: None,
        wanted: None,
        wait: None,
        max_attempts: None,
    };
    let id = node.submit(&job).await?;
    let view = loop {
        let view = node.job(id).await?;
        if view.is_terminal {
            break view;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!("{}: {} {}", id, view.phase, view.detail);
    if let Some(stdout) = view.stdout {
        print!("{}", String::from_utf8_lossy(&node.blob(&stdout).await?));
    }
    Ok(())
}
