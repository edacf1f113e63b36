//! What it costs to bring a message to a program: from the requester's node to the Allocation actor of the provider's,
//! which answers when the message lies in the program's inbox. Beside a plain ask of the runtime, of the same length,
//! between two systems on the same transport.
//!
//! All of it runs in this process, over libp2p on loopback, one ask after another; the program reads what comes. Asks
//! come in short bursts: a node reads 2,000 words a second of a peer, and the plain system knows no such limit.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dms_actors::{Actor, ActorSystem, Address, Answer, Handler, Keypair, Supervision};
use dms_messages::{
    AllocationId, AllocationMessage, AllocationRefusal, ContentId, JobId, MessageContent, Millis, Timestamp,
    to_canonical,
};
use dms_node::allocation::route::{AllocationTarget, RouteError, RouteToAllocation, route_to_allocation};
use dms_node::commands::{GetStatus, Onboard, SubmitJob};
use dms_node::config::{EngineKind, Settings};
use dms_node::identity::Identity;
use dms_node::listings::Page;
use dms_node::listings::contracts::ListAllocations;
use dms_node::startup::RunningNode;
use dms_p2p::{P2p, P2pConfig};
use dms_tests::hand_made::{capability, job};
use serde::{Deserialize, Serialize};

use crate::report::{Figure, percentile};

/// Bursts, and asks of each kind in one: far below what a node reads at once.
const ROUNDS: usize = 12;
const ASKS: usize = 200;
/// Rest between two bursts.
const REST: Duration = Duration::from_millis(500);
/// Bytes of a message's body.
const BODY: usize = 64;
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a state.
const POLL: Duration = Duration::from_millis(20);

/// Reads messages for ever.
const READER: &str = r#"(module
  (import "dms_v1" "message_wait" (func $wait (param i64) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (loop (drop (call $wait (i64.const -1))) (br 0))))"#;

/// As long as the messages.
#[derive(Debug, Serialize, Deserialize)]
struct Ping {
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
}
dms_actors::wire_message!(Ping, "bench.ping", 1, reply = bool);

struct Echo;

impl Actor for Echo {}

impl Handler<Ping> for Echo {
    fn handle(&mut self, _: Ping, _: &mut dms_actors::Context<'_, Self>) -> Answer<bool> {
        true.into()
    }
}

/// The figures of the group `node` about messages.
pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let plain = Plain::start().await?;
    let pair = Pair::start().await?;
    let mut times = [const { Vec::new() }; 3];
    for round in 0..=ROUNDS {
        let burst = [plain.burst().await?, pair.burst_at_address().await?, pair.burst_by_node().await?];
        // The first one is a warm-up.
        for (times, burst) in times.iter_mut().zip(burst).filter(|_| round > 0) {
            times.extend(burst);
        }
        tokio::time::sleep(REST).await;
    }
    pair.stop().await;
    plain.stop().await;
    let [plain, direct, routed] = times.map(|times| percentile(&times, 0.5));
    let bar = |time: f64| time / plain <= 1.3;
    Ok(vec![
        Figure::new("remote_ask_p50", plain, "us")
            .means("a plain ask between two systems over libp2p on loopback, 64 bytes, one after another"),
        Figure::new("allocation_message_p50", direct, "us")
            .beside("time_vs_remote_ask", plain)
            .bar("time_vs_remote_ask <= 1.3", bar(direct))
            .means("the same to /node/alloc/ID of a node, through its gate, to the answer that it is in the inbox"),
        Figure::new("route_to_allocation_p50", routed, "us")
            .beside("time_vs_remote_ask", plain)
            .bar("time_vs_remote_ask <= 1.3", bar(routed))
            .means("the same as a command of the requester's Node, which finds the provider in its books"),
    ])
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Times one ask after another.
async fn timed(mut ask: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(ASKS);
    let begun = Instant::now();
    while times.len() < ASKS {
        let start = Instant::now();
        match ask().await {
            Ok(()) => times.push(micros(start.elapsed())),
            // On a busy machine the program may be behind, which is not what is measured.
            Err(error) if is_inbox_full(&error) && begun.elapsed() < DEADLINE => {
                tokio::time::sleep(POLL).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(times)
}

fn is_inbox_full(error: &anyhow::Error) -> bool {
    let refusal = AllocationRefusal::InboxFull;
    matches!(error.downcast_ref(), Some(RouteError::Refused { refusal: why, .. }) if *why == refusal)
}

/// Two systems without nodes.
struct Plain {
    peers: Vec<(P2p, ActorSystem)>,
    address: Address,
    length: usize,
}

impl Plain {
    async fn start() -> anyhow::Result<Self> {
        let mut peers: Vec<(P2p, ActorSystem)> = Vec::new();
        let key = |seed: u8| Keypair::from_secret(&[seed; 32]);
        for seed in [31, 32] {
            let bootstrap = peers.first().map(|(p2p, _)| p2p.transport().listen_addresses());
            let config = P2pConfig {
                listen: vec![LISTEN.to_owned()],
                bootstrap: bootstrap.unwrap_or_default(),
                network: "bench-plain".into(),
                ..P2pConfig::default()
            };
            let p2p = P2p::start(&key(seed), config).await?;
            let system =
                ActorSystem::builder(key(seed).did(), "bench-plain").transport(p2p.transport()).start()?;
            peers.push((p2p, system));
        }
        let echo = peers[0].1.spawn(|| Echo, Supervision::never());
        peers[0].1.register("/echo", &echo)?.accepts::<Ping>();
        let address = Address::new(key(31).did(), "/echo")?;
        let message = AllocationMessage { content: content()?, wants_reply: false };
        let plain = Self { peers, address, length: to_canonical(&message)?.len() };
        let start = Instant::now();
        while plain.ask().await.is_err() {
            anyhow::ensure!(start.elapsed() < DEADLINE, "two systems did not find each other");
            tokio::time::sleep(POLL).await;
        }
        Ok(plain)
    }

    async fn ask(&self) -> anyhow::Result<()> {
        let recipient = self.peers[1].1.resolve::<Ping>(&self.address);
        let answer = recipient.ask(Ping { body: vec![7; self.length] }).timeout(DEADLINE).await;
        answer.map(drop).map_err(|error| anyhow::anyhow!("a plain ask: {error}"))
    }

    async fn burst(&self) -> anyhow::Result<Vec<f64>> {
        timed(async || self.ask().await).await
    }

    async fn stop(self) {
        for (p2p, system) in self.peers {
            let _ = system.stop(DEADLINE).await;
            p2p.shutdown().await;
        }
    }
}

const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

fn content() -> anyhow::Result<MessageContent> {
    Ok(MessageContent::new("x", vec![7; BODY])?)
}

/// A requester and a provider, and a program of the one's that runs at the other.
struct Pair {
    requester: RunningNode,
    provider: RunningNode,
    to: AllocationId,
    at: dms_actors::Did,
    _directories: [tempfile::TempDir; 2],
}

impl Pair {
    async fn start() -> anyhow::Result<Self> {
        let directories = [tempfile::tempdir()?, tempfile::tempdir()?];
        let settings = |directory: &tempfile::TempDir, bootstrap: Vec<String>| Settings {
            listen: vec![LISTEN.to_owned()],
            bootstrap,
            mdns: false,
            open: true,
            engine: EngineKind::Memory,
            ..Settings::for_data_dir(directory.path())
        };
        let identity = |directory: &tempfile::TempDir| Identity::load_or_create(directory.path());
        let provider =
            RunningNode::start(&settings(&directories[0], Vec::new()), identity(&directories[0])?).await?;
        provider.node.ask(Onboard { capability: capability() }).timeout(DEADLINE).await??;
        let addresses = provider.node.ask(GetStatus).timeout(DEADLINE).await?.addresses;
        let requester =
            RunningNode::start(&settings(&directories[1], addresses), identity(&directories[1])?).await?;
        wait("the provider", async || {
            let status = requester.node.ask(GetStatus).timeout(DEADLINE).await.ok()?;
            status.peers.iter().any(|peer| peer.is_provider).then_some(())
        })
        .await?;
        requester.blobs.put(READER.as_bytes())?;
        let mut job = job(Millis(3_600_000));
        job.id = JobId::from_random([9; 16]);
        job.submitted = Timestamp(requester.clock.now().0);
        job.pods[0].tasks[0].module = ContentId::of_bytes(READER.as_bytes());
        requester.node.ask(SubmitJob { job }).timeout(DEADLINE).await??;
        let view = wait("the allocation", async || {
            let list = ListAllocations { page: Page::default() };
            requester.node.ask(list).timeout(DEADLINE).await.ok()?.ok()?.pop()
        })
        .await?;
        let (to, at) = (view.id, view.provider);
        let pair = Self { requester, provider, to, at, _directories: directories };
        wait("the program", async || pair.route().await.ok()).await?;
        Ok(pair)
    }

    fn message() -> anyhow::Result<AllocationMessage> {
        Ok(AllocationMessage { content: content()?, wants_reply: false })
    }

    async fn route(&self) -> anyhow::Result<()> {
        let to = AllocationTarget::Known(self.to.to_string());
        let route = RouteToAllocation { to, message: Self::message()?, patience: DEADLINE };
        let answer = self.requester.node.ask(route).timeout(DEADLINE).await?;
        answer.map(drop).context("a message by way of the Node")
    }

    async fn burst_by_node(&self) -> anyhow::Result<Vec<f64>> {
        timed(async || self.route().await).await
    }

    async fn burst_at_address(&self) -> anyhow::Result<Vec<f64>> {
        timed(async || {
            let system = self.requester.system();
            let answer = route_to_allocation(system, self.at, self.to, Self::message()?, DEADLINE).await;
            answer.map(drop).map_err(|error: RouteError| error.into())
        })
        .await
    }

    async fn stop(self) {
        self.requester.stop(DEADLINE).await;
        self.provider.stop(DEADLINE).await;
    }
}

async fn wait<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if start.elapsed() > DEADLINE {
            bail!("{what} did not come");
        }
        tokio::time::sleep(POLL).await;
    }
}
