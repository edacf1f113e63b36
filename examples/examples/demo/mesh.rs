//! The four nodes: onboarded, started, joined to one mesh, stopped. Each is a `dms` process with its own directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use dms_messages::{AllocationState, AttemptId, Did};
use dms_node::api::client::ApiClient;
use serde::Deserialize;
use tokio::time::Instant;

use crate::home::{Home, Role};
use crate::plan::{PROVIDERS, Provider};
use crate::process::{LOOK, Process};
use crate::progress::Progress;

/// The one that asks.
const REQUESTER: &str = "requester";
/// How long one step of the start may take: two slow cores that also compile.
const LIMIT: Duration = Duration::from_secs(60);
/// Disk that each provider shares, in MiB.
const DISK_MIB: u64 = 256;
/// Lines of each node's log that are shown after a failure.
const TAIL_LINES: usize = 12;

/// What a node says when it can be used.
#[derive(Debug, Deserialize)]
struct Ready {
    addresses: Vec<String>,
    api: PathBuf,
    id: Names,
}

#[derive(Debug, Deserialize)]
struct Names {
    did: Did,
}

/// A node that runs.
#[derive(Debug)]
struct Node<'h> {
    name: &'static str,
    process: Process<'h>,
    ready: Option<Ready>,
    is_killed: bool,
}

/// What the report says of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    /// The provider.
    pub(crate) provider: Provider,
    /// Its name on the mesh.
    pub(crate) did: Did,
    /// The cores it really shares.
    pub(crate) cores: u32,
}

/// The mesh.
#[derive(Debug)]
pub(crate) struct Mesh<'h> {
    home: &'h Home,
    dms: PathBuf,
    /// A name of its own, so that two demos never meet.
    network: String,
    nodes: Vec<Node<'h>>,
}

impl<'h> Mesh<'h> {
    /// A mesh without nodes.
    pub(crate) fn new(home: &'h Home, dms: &Path) -> Self {
        // The directory's name is unique on this machine, and nobody else is asked.
        let unique = home.path().file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let plain: String = unique.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        Self { home, dms: dms.to_path_buf(), network: plain, nodes: Vec::new() }
    }

    /// Onboards and starts everybody, and waits until the requester knows every provider.
    ///
    /// # Errors
    /// If a node does not do its part in time.
    pub(crate) async fn start(&mut self, progress: &Progress) -> anyhow::Result<()> {
        progress.phase("onboarding three providers");
        let mut onboarding = Vec::new();
        for provider in &PROVIDERS {
            onboarding.push((provider.name, self.onboard(provider)?));
        }
        for (name, mut process) in onboarding {
            let status = process.end_within(LIMIT).await.with_context(|| format!("onboarding {name}"))?;
            ensure!(status.success(), "onboarding {name} ended with {status}: {}", process.log_tail(3));
        }
        progress.phase("starting four nodes");
        let [first, others @ ..] = &PROVIDERS;
        let hub = self.run(first.name, &[]).await?;
        for provider in others {
            self.spawn(provider.name, std::slice::from_ref(&hub))?;
        }
        let mut addresses = vec![hub];
        for provider in others {
            addresses.push(self.wait_until_ready(provider.name).await?);
        }
        self.run(REQUESTER, &addresses).await?;
        progress.phase("waiting until they know each other");
        self.wait_until_joined().await?;
        progress.joined(&self.facts());
        Ok(())
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn onboard(&self, provider: &Provider) -> anyhow::Result<Process<'h>> {
        let directory = self.directory(provider.name);
        std::fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let Provider { core_hour, memory_gib_hour, .. } = provider;
        let config =
            format!("[prices]\ncore_hour = \"{core_hour}\"\nmemory_gib_hour = \"{memory_gib_hour}\"\n");
        std::fs::write(directory.join("config.toml"), config).context("cannot write the settings")?;
        let arguments = [
            "--data".to_owned(),
            directory.display().to_string(),
            "onboard".to_owned(),
            "--yes".to_owned(),
            // Three at once would measure each other.
            "--skip-benchmark".to_owned(),
            "--cpu".to_owned(),
            shared_cores(provider).to_string(),
            "--memory".to_owned(),
            format!("{}MiB", provider.memory_mib),
            "--disk".to_owned(),
            format!("{DISK_MIB}MiB"),
        ];
        Process::start(self.home, Role::Worker, &format!("{}-onboard", provider.name), &self.dms, arguments)
    }

    /// Starts a node and waits until it can be used; gives its address.
    async fn run(&mut self, name: &'static str, bootstrap: &[String]) -> anyhow::Result<String> {
        self.spawn(name, bootstrap)?;
        self.wait_until_ready(name).await
    }

    fn spawn(&mut self, name: &'static str, bootstrap: &[String]) -> anyhow::Result<()> {
        let directory = self.directory(name).display().to_string();
        let mut arguments: Vec<&str> = vec!["--data", &directory, "run", "--json", "--open", "--network"];
        arguments.extend([&self.network, "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--stop-on-eof"]);
        for address in bootstrap {
            arguments.extend(["--bootstrap", address]);
        }
        let process = Process::start(self.home, Role::Node, name, &self.dms, arguments)?;
        self.nodes.push(Node { name, process, ready: None, is_killed: false });
        Ok(())
    }

    fn node(&mut self, name: &str) -> anyhow::Result<&mut Node<'h>> {
        self.nodes
            .iter_mut()
            .find(|node| node.name == name)
            .with_context(|| format!("{name} was not started"))
    }

    async fn wait_until_ready(&mut self, name: &str) -> anyhow::Result<String> {
        let start = Instant::now();
        let node = self.node(name)?;
        loop {
            let printed = node.process.printed();
            // Half a line is not read: it ends with the line's own end.
            if let Some((line, _)) = printed.split_once('\n') {
                let ready: Ready = serde_json::from_str(line)
                    .with_context(|| format!("what {name} said is not understood"))?;
                let address =
                    ready.addresses.first().cloned().with_context(|| format!("{name} has no address"))?;
                node.ready = Some(ready);
                return Ok(address);
            }
            if let Some(status) = node.process.ended() {
                bail!("{name} did not start: {status}: {}", node.process.log_tail(3));
            }
            ensure!(start.elapsed() < LIMIT, "{name} was not ready within {} s", LIMIT.as_secs());
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn wait_until_joined(&mut self) -> anyhow::Result<()> {
        let requester = self.requester()?;
        let start = Instant::now();
        loop {
            self.check()?;
            let status = requester.status().await?;
            let known = status.peers.iter().filter(|peer| peer.is_provider).count();
            if known >= PROVIDERS.len() {
                return Ok(());
            }
            let limit = LIMIT.as_secs();
            ensure!(start.elapsed() < LIMIT, "the requester knew {known} of 3 providers after {limit} s");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn api(&self, name: &str) -> Option<ApiClient> {
        let node = self.nodes.iter().find(|node| node.name == name)?;
        node.ready.as_ref().map(|ready| ApiClient::new(&ready.api))
    }

    /// The API of the requester.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn requester(&self) -> anyhow::Result<ApiClient> {
        self.api(REQUESTER).context("the requester does not run")
    }

    /// Fails if a node has ended that nobody killed.
    ///
    /// # Errors
    /// A sentence with its name.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        for node in self.nodes.iter_mut().filter(|node| !node.is_killed) {
            if let Some(status) = node.process.ended() {
                bail!("{} ended unexpectedly: {status}", node.name);
            }
        }
        Ok(())
    }

    /// Kills the provider without warning if by its own books it is running `attempt` at this very moment.
    pub(crate) async fn kill_if_running(&mut self, provider: Did, attempt: AttemptId) -> bool {
        let is_it = |node: &Node| node.ready.as_ref().is_some_and(|ready| ready.id.did == provider);
        let Some(client) = self.nodes.iter().find(|node| is_it(node)).and_then(|node| self.api(node.name))
        else {
            return false;
        };
        let Ok(books) = client.capability().await else { return false };
        let is_running = books
            .allocations
            .iter()
            .any(|row| row.attempt == attempt && row.state == AllocationState::Running);
        if is_running && let Some(node) = self.nodes.iter_mut().find(|node| is_it(node)) {
            node.process.kill();
            node.is_killed = true;
        }
        is_running
    }

    /// What the report says of the providers.
    pub(crate) fn facts(&self) -> Vec<NodeFacts> {
        let dids: BTreeMap<&str, Did> =
            self.nodes.iter().filter_map(|node| Some((node.name, node.ready.as_ref()?.id.did))).collect();
        PROVIDERS
            .iter()
            .filter_map(|provider| {
                let did = *dids.get(provider.name)?;
                Some(NodeFacts { provider: *provider, did, cores: shared_cores(provider) })
            })
            .collect()
    }

    /// The last lines of each node's log.
    pub(crate) fn log_tails(&self) -> String {
        let tail = |node: &Node| format!("--- log of {}\n{}\n", node.name, node.process.log_tail(TAIL_LINES));
        self.nodes.iter().map(tail).collect()
    }

    /// Lets everybody stop by themselves; kills whoever takes longer than `limit`.
    pub(crate) async fn stop(&mut self, limit: Duration) {
        let start = Instant::now();
        self.nodes.iter_mut().for_each(|node| node.process.close_input());
        for node in &mut self.nodes {
            let left = limit.saturating_sub(start.elapsed());
            if node.process.end_within(left).await.is_err() {
                node.process.kill();
            }
        }
    }

    /// Kills everybody.
    pub(crate) fn kill(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.process.kill());
    }
}

/// Nobody can share more cores than there are.
fn shared_cores(provider: &Provider) -> u32 {
    let cores =
        std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    provider.cores.min(cores)
}
