//! One node of a simulated world: the actor as it ships, in everything that it takes from the world.
//!
//! A node lives, dies and lives again on the same disk, key and contents. A life is one task: to lose power is to drop
//! it between two of its steps.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dms_actors::clock::SharedClock;
use dms_actors::testing::{Chance, FaultyNetwork};
use dms_actors::transport::Transport;
use dms_actors::{ActorRef, ActorSystem, Keypair, Supervision, Workers};
use dms_messages::{Capability, CpuMillis, Did, DiskMib, ExecutorKind, MemoryMib, Resources};
use dms_node::benchmark::GivenMachine;
use dms_node::blobs::BlobStore;
use dms_node::commands::{CapabilityView, GetCapability, GetStatus, NodeStatus};
use dms_node::directory::WordCheck;
use dms_node::network::{self, NetworkParts};
use dms_node::node::{BooksOpener, Node, NodeParts, NodeTimes, ProviderRules};
use dms_node::orchestrator::job_state::JobRules;
use dms_node::signer::Signer;
use dms_storage::log::EventLog;
use dms_storage::{Committer, Engine, MemoryEngine};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, LocalSet};

use super::disk::{DiskPace, SimDisk};
use super::facts::{Fact, Look, NodeIndex};
use super::machine::Machine;
use super::mesh::Air;
use super::overheard::{Listening, Overheard};
use super::scenario::NodePlan;
use super::sink::Sink;
use crate::hand_made::open_gate;

/// The mesh of every world.
const NETWORK: &str = "sim";
/// What stands for a program.
pub const MODULE: &[u8] = b"a program of the simulator";
/// How long a bid's lock holds.
const LEASE: Duration = Duration::from_secs(10);
/// How long a node may take to answer when it is asked how it stands, or told to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// What nodes share.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The links.
    pub links: FaultyNetwork,
    /// The gossip and the directory.
    pub air: Air,
    /// Where facts go.
    pub sink: Sink,
    /// The names of all nodes.
    pub dids: Arc<[Did]>,
    /// Whether it is told how much comes from whom.
    pub is_told: bool,
}

/// A node, whether it lives or not.
pub struct SimNode {
    index: NodeIndex,
    plan: NodePlan,
    key: [u8; 32],
    did: Did,
    clock: SharedClock,
    pace: DiskPace,
    /// How much of what was not synced survives.
    chance: Chance,
    surroundings: Surroundings,
    data: PathBuf,
    /// What its disk held when it died.
    left: Option<MemoryEngine>,
    /// Whether that disk is full.
    is_full: Cell<bool>,
    life: Option<Life>,
}

/// What a living node has.
struct Life {
    node: ActorRef<Node>,
    system: ActorSystem,
    disk: Arc<SimDisk>,
    machine: Arc<Machine>,
    pending: watch::Receiver<usize>,
    task: AbortHandle,
}

impl fmt::Debug for SimNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimNode")
            .field("index", &self.index)
            .field("is_up", &self.is_up())
            .finish_non_exhaustive()
    }
}

/// The key of a world's node.
pub fn keypair(index: NodeIndex) -> Keypair {
    Keypair::from_secret(&secret(index))
}

fn secret(index: NodeIndex) -> [u8; 32] {
    let mut secret = [0x5e; 32];
    secret[..8].copy_from_slice(&(index as u64 + 1).to_be_bytes());
    secret
}

impl SimNode {
    /// A node that does not live yet, with an empty disk and its contents below `data`.
    pub fn new(
        index: NodeIndex,
        seed: u64,
        plan: NodePlan,
        clock: SharedClock,
        surroundings: Surroundings,
        data: PathBuf,
    ) -> Self {
        let chance = Chance::of(seed, &[b"disk", &index.to_be_bytes()]);
        let pace = DiskPace::new(chance, Duration::from_millis(plan.sync_ms));
        let chance = Chance::of(seed, &[b"power", &index.to_be_bytes()]);
        let did = keypair(index).did();
        let left = Some(MemoryEngine::new());
        Self {
            index,
            plan,
            key: secret(index),
            did,
            clock,
            pace,
            chance,
            surroundings,
            data,
            left,
            is_full: Cell::new(false),
            life: None,
        }
    }

    /// Whether it lives.
    pub fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// Its actor, while it lives.
    pub fn actor(&self) -> Option<ActorRef<Node>> {
        self.life.as_ref().map(|life| life.node.clone())
    }

    /// The world's clock as this node has it.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// How its disk keeps pace.
    pub fn pace(&self) -> &DiskPace {
        &self.pace
    }

    /// What its owner offers: all of it, or a part in thousandths.
    pub fn capability(&self, thousandths: u64) -> Option<Capability> {
        let part = |amount: u64| amount * thousandths / 1_000;
        (self.plan.cpu > 0).then(|| Capability {
            resources: Resources {
                cpu: CpuMillis(part(self.plan.cpu)),
                memory: MemoryMib(part(self.plan.memory)),
                disk: DiskMib(10_000),
                ..Resources::default()
            },
            executors: BTreeSet::from([ExecutorKind::Wasm]),
            ..Capability::default()
        })
    }

    /// Its disk is full, or has room again.
    pub fn fill_disk(&self, is_full: bool) {
        if let Some(life) = &self.life
            && self.is_full.replace(is_full) != is_full
        {
            life.disk.fill(is_full);
        }
    }

    /// A life begins; nothing happens if one goes on. Whoever starts a node makes room on its disk first.
    pub async fn start(&mut self) {
        let Some(left) = self.left.take() else { return };
        let Surroundings { links, air, sink, .. } = self.surroundings.clone();
        if self.is_full.take() {
            sink.tell(self.index, Fact::Disk { works: true });
        }
        sink.begin_life(self.index);
        let last_event = EventLog::last_sequence(&left).expect("a disk in memory reads").unwrap_or(0);
        sink.tell(self.index, Fact::Started { last_event });
        let disk = Arc::new(SimDisk::new(left, self.index, sink.clone()));
        let machine = Arc::new(Machine::new(self.index, sink.clone()));
        let told = self.surroundings.is_told.then(|| sink.clone());
        let listening = Listening { me: self.index, dids: Arc::clone(&self.surroundings.dids), sink: told };
        let transport = Arc::new(Overheard::new(links.transport(self.did), listening));
        let check = WordCheck::new(self.did, NETWORK, Arc::clone(&self.clock));
        let ear = air.join(self.index, Arc::new(check));
        let pace = self.pace.clone();
        let runtime = Handle::current();
        let opener = BooksOpener::new(move |engine| {
            let pace = pace.clone();
            Committer::on_task(engine, &runtime, move |durability| pace.next(durability))
        });
        let engine: Arc<dyn Engine> = Arc::<SimDisk>::clone(&disk);
        let opened = match opener.open(&engine) {
            Ok(opened) => opened,
            Err(error) => {
                let text = format!("its books do not open: {error}");
                return self.surroundings.sink.break_promise(self.index, "does-not-open", text);
            }
        };
        let blobs = BlobStore::open(&self.data, self.did, 1 << 30).expect("the directory opens");
        let blobs = Arc::new(blobs.simulated(Arc::clone(&self.clock)));
        blobs.put(MODULE).expect("a few bytes can be stored");
        let pending = watch::Sender::new(0);
        let parts = LifeParts {
            engine,
            opener,
            machine: Arc::clone(&machine),
            blobs,
            pending: pending.clone(),
            transport,
            ear,
            did: self.did,
            clock: Arc::clone(&self.clock),
            signer: Signer::new(Arc::new(Keypair::from_secret(&self.key)), Arc::clone(&self.clock), NETWORK),
            opened: Arc::new(Mutex::new(Some(opened))),
        };
        let (ready_tx, ready) = oneshot::channel();
        let life = LocalSet::new();
        let task = tokio::task::spawn_local(async move {
            life.run_until(async move {
                let (system, node) = parts.begin();
                if ready_tx.send((system, node)).is_ok() {
                    // Until the power goes.
                    std::future::pending::<()>().await;
                }
            })
            .await;
        });
        let (system, node) = ready.await.expect("the actors start");
        let task = task.abort_handle();
        self.life = Some(Life { node, system, disk, machine, pending: pending.subscribe(), task });
    }

    /// The power goes, between two steps of whatever the node does.
    pub fn crash(&mut self) {
        let Some(life) = self.life.take() else { return };
        self.left = Some(life.disk.crash(&mut self.chance));
        self.vanish(&life);
        self.surroundings.sink.tell(self.index, Fact::Crashed);
    }

    /// The node is stopped in order. It dies all the same if it does not end in time.
    pub async fn stop(&mut self) {
        let Some(life) = self.life.take() else { return };
        // As `RunningNode::stop` does.
        let _ = life.node.ask(dms_node::commands::Drain).timeout(Duration::from_secs(10)).await;
        let mut pending = life.pending.clone();
        let _ = tokio::time::timeout(Duration::from_secs(2), pending.wait_for(|count| *count == 0)).await;
        life.system.flush(Duration::from_secs(2)).await;
        let stopped = life.system.stop(Duration::from_secs(2)).await;
        // A full disk does not take the last sync.
        let fact = if stopped.is_ok() && !self.is_full.get() { Fact::Stopped } else { Fact::Crashed };
        self.left = Some(life.disk.crash(&mut self.chance));
        self.vanish(&life);
        self.surroundings.sink.tell(self.index, fact);
    }

    fn vanish(&self, life: &Life) {
        life.machine.lose_power();
        self.surroundings.links.kill(self.did);
        self.surroundings.air.leave(self.index);
        life.task.abort();
    }

    /// Whom to ask how it stands, if it lives.
    pub fn ear(&self) -> Option<Ear> {
        let life = self.life.as_ref()?;
        let (node, pending) = (life.node.clone(), life.pending.clone());
        Some(Ear { index: self.index, node, pending, clock: Arc::clone(&self.clock) })
    }
}

/// Asks a life of a node how it stands, without holding the node.
#[derive(Debug)]
pub struct Ear {
    index: NodeIndex,
    node: ActorRef<Node>,
    pending: watch::Receiver<usize>,
    clock: SharedClock,
}

impl Ear {
    /// How it stands, if it answers. The time is that of the question: what it says is of then or later.
    pub async fn look(self, at: Duration) -> Option<Look> {
        let (wall, waiting, pending_words) = (self.clock.now(), self.node.depth(), *self.pending.borrow());
        let (capability, status) = ask(&self.node).await?;
        Some(Look { at, wall, node: self.index, capability, status, waiting, pending_words })
    }
}

async fn ask(node: &ActorRef<Node>) -> Option<(CapabilityView, NodeStatus)> {
    let capability = node.ask(GetCapability).timeout(PATIENCE).await.ok()?;
    let status = node.ask(GetStatus).timeout(PATIENCE).await.ok()?;
    Some((capability, status))
}

/// What a life begins with.
struct LifeParts {
    engine: Arc<dyn Engine>,
    opener: BooksOpener,
    machine: Arc<Machine>,
    blobs: Arc<BlobStore>,
    pending: watch::Sender<usize>,
    transport: Arc<dyn Transport>,
    ear: Arc<super::mesh::Listener>,
    did: Did,
    clock: SharedClock,
    signer: Signer,
    opened: Arc<Mutex<Option<(dms_storage::Store, dms_storage::Books)>>>,
}

impl LifeParts {
    /// Starts the actors in the current `LocalSet`, as `RunningNode::start` does on threads.
    fn begin(self) -> (ActorSystem, ActorRef<Node>) {
        let gate = open_gate(self.did, NETWORK, &self.clock);
        let builder = ActorSystem::builder(self.did, NETWORK)
            .policy(Arc::new(gate.clone()))
            .clock(Arc::clone(&self.clock))
            .transport(Arc::clone(&self.transport))
            .blobs(Arc::<BlobStore>::clone(&self.blobs))
            .workers(Workers::inline())
            .network_runtime(Handle::current());
        let system = builder.start_on_current().expect("there is a LocalSet");
        let network = NetworkParts {
            system: system.clone(),
            transport: self.transport,
            mesh: Arc::<super::mesh::Listener>::clone(&self.ear),
            directory: self.ear,
            connections: watch::channel(Vec::new()).1,
            transport_status: watch::channel(Default::default()).1,
            runtime: Handle::current(),
            pending: self.pending,
        };
        let parts = NodeParts {
            engine: self.engine,
            signer: self.signer,
            clock: self.clock,
            gate: gate.clone(),
            job_rules: JobRules::default(),
            provider_rules: ProviderRules { lease: LEASE, max_output: 1 << 20 },
            max_jobs: 10_000,
            monitoring: None,
            times: NodeTimes::default(),
            opener: self.opener,
            workers: Workers::inline(),
            blobs: self.blobs,
            executor: self.machine,
            machine: Arc::new(GivenMachine::default()),
            network: network.clone(),
            opened: self.opened,
        };
        let node = system.spawn(move || Node::new(parts.clone()), Supervision::transient());
        dms_node::startup::register(&system, &node).expect("nobody else is there");
        network::listen(&network, &gate, &node);
        (system, node)
    }
}
