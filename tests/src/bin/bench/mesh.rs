//! Four nodes on loopback, each a process with its own directory: one that asks and three that run.
//!
//! Every node holds one end of a pipe: it ends when this program does, however that ends. Dropping a node kills it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dms_node::api::client::ApiClient;
use dms_node::commands::NodeStatus;
use tempfile::TempDir;

/// How many nodes offer capacity.
pub(crate) const PROVIDERS: usize = 3;
/// How long a node, and then the mesh, may take to be there.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a state.
const POLL: Duration = Duration::from_millis(20);

/// What keeps the nodes' books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// RocksDB, every promise synced.
    Disk,
    /// Memory alone: what is left when the disk costs nothing.
    Memory,
}

/// A node that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    process: Child,
    /// Its API.
    pub(crate) api: ApiClient,
    log: PathBuf,
}

impl Node {
    pub(crate) fn start(home: &Path, engine: Engine, arguments: &[&str]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(home)?;
        let log = home.join("log");
        let mut command = dms(home);
        command.args(["run", "--open", "--no-mdns", "--stop-on-eof"]);
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0"]).args(arguments);
        if engine == Engine::Memory {
            command.args(["--engine", "memory"]);
        }
        let process = command
            // The other nodes on this machine, and what measures them, are no owner's work.
            .env("DMS_OWNER_FIRST", "false")
            .env("DMS_LOG", std::env::var("DMS_BENCH_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("a node cannot be started")?;
        Ok(Self { process, api: ApiClient::new(home.join("api.sock")), log })
    }

    /// Its process, for whoever reads what the system counts about it.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Looks until its status is as wanted.
    pub(crate) async fn wait_until(
        &mut self,
        what: &str,
        is_there: impl Fn(&NodeStatus) -> bool,
    ) -> anyhow::Result<NodeStatus> {
        let start = Instant::now();
        loop {
            let status = self.api.status().await;
            if let Ok(status) = &status
                && is_there(status)
            {
                return Ok(status.clone());
            }
            if self.process.try_wait()?.is_some() || start.elapsed() > DEADLINE {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{what} did not come: {status:?}\n{log}");
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// Who asks. It offers nothing.
    pub(crate) requester: Node,
    /// Who runs.
    pub(crate) providers: Vec<Node>,
    // After the nodes: they are gone when it is removed.
    directory: TempDir,
}

impl Mesh {
    /// Starts it, and waits until the requester knows every provider.
    pub(crate) async fn start(engine: Engine) -> anyhow::Result<Self> {
        let directory = directory()?;
        let mut providers = Vec::new();
        let mut addresses: Vec<String> = Vec::new();
        for number in 1..=PROVIDERS {
            let home = directory.path().join(format!("p{number}"));
            onboard(&home, engine)?;
            let mut node = Node::start(&home, engine, &bootstrap(&addresses))?;
            if engine == Engine::Memory {
                let status = node.wait_until("a provider", |_| true).await?;
                anyhow::ensure!(!status.is_onboarded, "books in memory remember nothing");
                run(&home, &ONBOARD)?;
            }
            let status = node.wait_until("a provider", |status| status.is_onboarded).await?;
            addresses.extend(status.addresses);
            providers.push(node);
        }
        let mut requester = Node::start(&directory.path().join("r"), engine, &bootstrap(&addresses))?;
        let has_all =
            |status: &NodeStatus| status.peers.iter().filter(|peer| peer.is_provider).count() >= PROVIDERS;
        let status = requester.wait_until("the whole mesh", has_all).await?;
        // A stranger is served at a stranger's pace.
        let did = status.id.did.to_string();
        for number in 1..=PROVIDERS {
            run(&directory.path().join(format!("p{number}")), &["trust", "add", &did])?;
        }
        Ok(Self { requester, providers, directory })
    }

    /// The directory of all of it.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// What each provider offers: what any machine has. Jobs are small beside it, so that all in flight have room.
const ONBOARD: [&str; 9] =
    ["onboard", "--yes", "--skip-benchmark", "--cpu", "1", "--memory", "1GiB", "--disk", "1GiB"];

pub(crate) fn onboard(home: &Path, engine: Engine) -> anyhow::Result<()> {
    // Books in memory begin with the node: it is onboarded when it runs.
    if engine == Engine::Disk { run(home, &ONBOARD) } else { Ok(()) }
}

/// The program with a directory of its own and nothing else of the caller's settings.
pub(crate) fn dms(home: &Path) -> Command {
    let mut command = Command::new(dms_tests::dms());
    // Whoever measures may have a node of their own, and settings for it.
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("DMS_") {
            command.env_remove(variable);
        }
    }
    command.arg("--data").arg(home);
    command
}

fn run(home: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = dms(home).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    bail!("dms {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))
}

fn bootstrap(addresses: &[String]) -> Vec<&str> {
    addresses.iter().flat_map(|address| ["--bootstrap", address.as_str()]).collect()
}

/// A directory with a short path (sockets have room for 107 bytes) on a real disk: `/tmp` may be memory, and
/// then a sync would cost nothing.
pub(crate) fn directory() -> anyhow::Result<TempDir> {
    let builder = || tempfile::Builder::new().prefix("dms").tempdir_in("/var/tmp");
    builder().or_else(|_| tempfile::Builder::new().prefix("dms").tempdir()).context("no temporary directory")
}
