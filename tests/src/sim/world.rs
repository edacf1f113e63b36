//! A simulated world from its beginning to its end: nodes, people who hand in jobs, and what goes wrong.
//!
//! Everything runs on the calling thread, one task at a time, on a paused clock that jumps to the next thing that is
//! due. First anything goes wrong, then nothing does: by the end of that every job has ended, all capacity is free, and
//! both parties of every contract say the same.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use dms_actors::AskError;
use dms_actors::testing::{Chance, Faults, FaultyNetwork, Stall, VirtualClock, remember_proofs};
use dms_messages::{ContentId, Did, Job, JobId, Millis, Task, TaskResources, Timestamp};
use dms_node::commands::{CancelJob, CommandError, Offboard, OffboardMode, Onboard, SubmitJob};
use dms_node::preferences::SetPreferences;
use futures::future::join_all;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::facts::{Breach, Fact, NodeIndex};
use super::machine;
use super::mesh::Air;
use super::node::{MODULE, SimNode, Surroundings, keypair};
use super::oracle::{Oracle, Rules, Summary};
use super::scenario::{Fault, JobPlan, NetworkPlan, Scenario};
use super::sink::Sink;
use super::story::Story;
use crate::hand_made;

/// How often every node of a small world is asked how it stands; in a large one less often, so that the looks of a
/// second stay as many.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Nodes of a small world.
const SMALL: usize = 20;
/// How long a person waits for an answer before asking again, and between two tries.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries of a person.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a world that looks quiet is watched further.
const QUIET: Duration = Duration::from_secs(5);

/// How much of a world is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// Whether two runs are the same.
    Digest,
    /// Everything that people read, and who talked to whom.
    Whole,
}

/// A world that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// The first promise that was broken, if one was.
    pub breach: Option<Breach>,
    /// What happened, in numbers.
    pub summary: Summary,
    /// How long it lasted, in virtual time.
    pub lasted: Duration,
    /// How long after the last fault everything was over, in virtual time.
    pub settled: Duration,
    /// Messages of gossip that an honest node called wrong.
    pub rejected_gossip: u64,
    /// The story.
    pub story: Story,
}

/// Runs a world on this thread.
///
/// # Panics
/// If a part of the world itself breaks; a node that does is a breach.
pub fn run(scenario: &Scenario, telling: Telling) -> Outcome {
    let _remembering = remember_proofs();
    let data = tempfile::tempdir().expect("a directory can be made");
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without input and output needs nothing of the system");
    LocalSet::new().block_on(&runtime, async {
        let world = World::new(scenario, telling, data.path());
        world.run(scenario).await
    })
}

/// A world. Cheap to clone; one thread.
#[derive(Debug, Clone)]
struct World {
    start: Instant,
    nodes: Rc<Vec<RefCell<SimNode>>>,
    dids: Rc<Vec<Did>>,
    links: FaultyNetwork,
    air: Air,
    sink: Sink,
    /// How much longer bytes take on each way than the plan says.
    slowness: Rc<RefCell<std::collections::BTreeMap<(NodeIndex, NodeIndex), Duration>>>,
    plan: NetworkPlan,
}

/// What the plan does to every link, and `more` to this one.
fn link_faults(plan: &NetworkPlan, more: Duration) -> Faults {
    let delay = Duration::from_millis(plan.delay_ms) + more;
    let jitter = Duration::from_millis(plan.jitter_ms);
    // What is lost is sent again when its acknowledgement is missed, and holds up what follows.
    let stall = (plan.lose_one_in > 0)
        .then(|| Stall { one_in: plan.lose_one_in, lasts: 2 * delay + jitter + Duration::from_millis(200) });
    let longest = 2_000 * u64::from(plan.break_one_in);
    Faults {
        delay,
        jitter,
        bandwidth: plan.bytes_per_second,
        stall,
        reset_after: (plan.break_one_in > 0).then_some(0..=longest),
        ..Faults::none()
    }
}

impl World {
    fn new(scenario: &Scenario, telling: Telling, data: &Path) -> Self {
        let (seed, start) = (scenario.seed, Instant::now());
        let dids: Vec<Did> = (0..scenario.nodes.len()).map(|index| keypair(index).did()).collect();
        let clocks: Vec<_> = scenario
            .nodes
            .iter()
            .enumerate()
            .map(|(index, plan)| VirtualClock::of(seed, &format!("node {index}"), plan.ahead_ms, start))
            .collect();
        let title = format!("seed {seed}, {} nodes", dids.len());
        let story = match telling {
            Telling::Digest => Story::digest_only(dids.clone()),
            Telling::Whole => Story::new(title, dids.clone()),
        };
        let oracle = Oracle::new(Rules::default(), dids.clone());
        let sink = Sink::new(start, oracle, story, clocks.clone());
        let links = FaultyNetwork::new(seed);
        links.set_faults(link_faults(&scenario.network, Duration::ZERO));
        let is_told = telling == Telling::Whole;
        let air = Air::new(seed, scenario.network, dids.clone(), sink.clone(), is_told);
        let surroundings = Surroundings {
            links: links.clone(),
            air: air.clone(),
            sink: sink.clone(),
            dids: dids.clone().into(),
            is_told,
        };
        let nodes = scenario.nodes.iter().zip(clocks).enumerate().map(|(index, (plan, clock))| {
            let data = data.join(index.to_string());
            RefCell::new(SimNode::new(index, seed, plan.clone(), clock, surroundings.clone(), data))
        });
        Self {
            start,
            nodes: Rc::new(nodes.collect()),
            dids: Rc::new(dids),
            links,
            air,
            sink,
            slowness: Rc::default(),
            plan: scenario.network,
        }
    }

    async fn run(self, scenario: &Scenario) -> Outcome {
        for index in 0..self.nodes.len() {
            let world = self.clone();
            tokio::task::spawn_local(async move { world.begin(index).await });
        }
        for (number, plan) in scenario.jobs.iter().enumerate() {
            let (world, plan, seed) = (self.clone(), plan.clone(), scenario.seed);
            tokio::task::spawn_local(async move { world.person(seed, number, plan).await });
        }
        let safety = Duration::from_millis(scenario.safety_ms);
        for fault in scenario.faults.iter().cloned() {
            let world = self.clone();
            let begins = Duration::from_millis(fault.at_ms);
            let ends = Duration::from_millis(fault.at_ms.saturating_add(fault.for_ms)).min(safety);
            tokio::task::spawn_local(async move { world.fault(fault.what, begins, ends).await });
        }
        let looking = self.clone();
        let looks = tokio::task::spawn_local(async move { looking.keep_looking().await });

        self.until(safety).await;
        self.mend().await;
        let deadline = safety + Duration::from_millis(scenario.liveness_ms);
        let mut settled = Duration::ZERO;
        let mut quiet_since = None;
        while self.sink.breach().is_none() && self.start.elapsed() < deadline {
            sleep(Duration::from_secs(1)).await;
            if !self.sink.is_quiet() {
                quiet_since = None;
                continue;
            }
            let now = self.start.elapsed();
            let since = *quiet_since.get_or_insert(now);
            settled = since.saturating_sub(safety);
            if now - since >= QUIET {
                break;
            }
        }
        self.sink.finish();
        looks.abort();
        let lasted = self.start.elapsed();
        Outcome {
            breach: self.sink.breach(),
            summary: self.sink.with_oracle(Oracle::summary),
            lasted,
            settled,
            rejected_gossip: self.air.rejected(),
            story: self.sink.take_story(),
        }
    }

    /// Waits for an instant of the world.
    async fn until(&self, at: Duration) {
        sleep_until(self.start + at).await;
    }

    fn say(&self, node: NodeIndex, text: impl Into<String>) {
        self.sink.tell(node, Fact::Fault { text: text.into() });
    }

    #[expect(clippy::await_holding_refcell_ref, reason = "whoever starts or stops a node has it alone")]
    async fn start(&self, index: NodeIndex) {
        // Somebody else who starts or stops it is at work.
        if let Ok(mut node) = self.nodes[index].try_borrow_mut() {
            node.start().await;
        }
    }

    #[expect(clippy::await_holding_refcell_ref, reason = "whoever starts or stops a node has it alone")]
    async fn stop(&self, index: NodeIndex) {
        if let Ok(mut node) = self.nodes[index].try_borrow_mut() {
            node.stop().await;
        }
    }

    fn crash(&self, index: NodeIndex) {
        if let Ok(mut node) = self.nodes[index].try_borrow_mut() {
            node.crash();
        }
    }

    /// Starts a node for the first time and offers what it has.
    async fn begin(&self, index: NodeIndex) {
        self.start(index).await;
        self.offer(index, 1_000).await;
    }

    /// Its owner offers a part of what the node has, until the node has taken it, or has refused it.
    async fn offer(&self, index: NodeIndex, thousandths: u64) {
        let offered = self.nodes[index].try_borrow().ok().and_then(|node| node.capability(thousandths));
        let Some(capability) = offered else { return };
        let answer = self
            .ask_until_answered(
                index,
                || Onboard { capability: capability.clone() },
                |answer| !matches!(answer, Err(CommandError::ReadOnly(_) | CommandError::Busy)),
            )
            .await;
        if let Err(error) = answer {
            self.say(index, format!("does not take it: {error}"));
        }
    }

    /// Its owner chooses by these preferences from now on.
    async fn prefer(&self, index: NodeIndex, text: String) {
        let answer = self
            .ask_until_answered(
                index,
                || SetPreferences { text: text.clone() },
                |answer| !matches!(answer, Err(CommandError::ReadOnly(_) | CommandError::Busy)),
            )
            .await;
        if let Err(error) = answer {
            self.say(index, format!("does not take it: {error}"));
        }
    }

    /// Asks a node again and again until it gives an answer that counts.
    async fn ask_until_answered<M, T>(
        &self,
        index: NodeIndex,
        make: impl Fn() -> M,
        counts: impl Fn(&M::Reply) -> bool,
    ) -> M::Reply
    where
        M: dms_actors::Message<Reply = Result<T, CommandError>>,
        dms_node::node::Node: dms_actors::Handler<M>,
        T: Send + 'static,
    {
        loop {
            let actor = self.nodes[index].try_borrow().ok().and_then(|node| node.actor());
            if let Some(actor) = actor {
                let answer: Result<M::Reply, AskError<M>> = actor.ask(make()).timeout(PATIENCE).await;
                if let Ok(answer) = answer
                    && counts(&answer)
                {
                    return answer;
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Somebody hands in a job, and may want it ended.
    async fn person(&self, seed: u64, number: usize, plan: JobPlan) {
        self.until(Duration::from_millis(plan.at_ms)).await;
        let id = job_id(seed, number);
        let node = plan.node;
        let answer = self
            .ask_until_answered(
                node,
                || SubmitJob { job: job(id, &plan, self.wall(node)) },
                |answer| {
                    matches!(answer, Ok(_) | Err(CommandError::JobKnown(_) | CommandError::InvalidJob(_)))
                },
            )
            .await;
        if let Err(CommandError::InvalidJob(error)) = answer {
            panic!("the scenario's job {number} is none: {error}");
        }
        self.sink.tell(node, Fact::SubmitAnswered { job: id });
        let Some(after) = plan.cancel_after_ms else { return };
        sleep(Duration::from_millis(after)).await;
        let answer = self
            .ask_until_answered(
                node,
                || CancelJob { job: id },
                |answer| {
                    matches!(answer, Ok(()) | Err(CommandError::JobEnded(_) | CommandError::UnknownJob(_)))
                },
            )
            .await;
        if answer.is_ok() {
            self.sink.tell(node, Fact::CancelAnswered { job: id });
        }
    }

    fn wall(&self, node: NodeIndex) -> Timestamp {
        self.nodes[node].try_borrow().map(|node| node.clock().now()).unwrap_or_default()
    }

    /// Lets a fault happen, and ends it.
    async fn fault(&self, fault: Fault, begins: Duration, ends: Duration) {
        self.until(begins).await;
        match fault {
            Fault::Crash { node } => {
                self.crash(node);
                self.until(ends).await;
                self.start(node).await;
            }
            Fault::Stop { node } => {
                self.say(node, "is told to stop");
                self.stop(node).await;
                self.until(ends).await;
                self.start(node).await;
            }
            Fault::Partition { islands } => {
                self.say(0, format!("the mesh parts: {islands:?}"));
                self.part(&islands);
                self.until(ends).await;
                self.say(0, "the mesh is whole again");
                self.part(&vec![0; islands.len()]);
            }
            Fault::OneWay { from, to } => {
                self.say(from, format!("is not heard by node {to}"));
                self.links.partition_one_way(self.dids[from], self.dids[to]);
                self.until(ends).await;
                self.say(from, format!("is heard by node {to} again"));
                self.links.heal(self.dids[from], self.dids[to]);
            }
            Fault::Break { a, b } => {
                self.say(a, format!("the link to node {b} breaks"));
                self.links.interrupt(self.dids[a], self.dids[b]);
            }
            Fault::SlowLink { a, b, delay_ms } => {
                self.say(a, format!("what passes to and from node {b} takes {delay_ms} ms longer"));
                self.slow_link(a, b, Duration::from_millis(delay_ms));
                self.until(ends).await;
                self.slow_link(a, b, Duration::ZERO);
            }
            Fault::DiskFull { node } => {
                self.with(node, |node| node.fill_disk(true));
                self.until(ends).await;
                self.with(node, |node| node.fill_disk(false));
            }
            Fault::SlowDisk { node, write_ms } => {
                self.say(node, format!("its disk takes {write_ms} ms longer"));
                self.with(node, |node| node.pace().slow_down(Duration::from_millis(write_ms)));
                self.until(ends).await;
                self.with(node, |node| node.pace().slow_down(Duration::ZERO));
            }
            Fault::Offboard { node } => {
                self.say(node, "its owner withdraws what it offers");
                let _ = self.ask_once(node, Offboard { mode: OffboardMode::Wait }).await;
                self.until(ends).await;
                self.offer(node, 1_000).await;
            }
            Fault::Prefer { node, taste, other } => {
                self.say(node, format!("its owner chooses otherwise: {taste:?}, of node {other}"));
                self.prefer(node, taste.text(self.dids[other])).await;
                self.until(ends).await;
                self.prefer(node, String::new()).await;
            }
            Fault::Halve { node } => {
                self.say(node, "its owner offers half");
                if let Some(capability) = self.nodes[node].try_borrow().ok().and_then(|it| it.capability(500))
                {
                    let _ = self.ask_once(node, Onboard { capability }).await;
                }
                self.until(ends).await;
                self.offer(node, 1_000).await;
            }
        }
    }

    async fn ask_once<M, T>(&self, index: NodeIndex, message: M) -> Option<M::Reply>
    where
        M: dms_actors::Message<Reply = Result<T, CommandError>>,
        dms_node::node::Node: dms_actors::Handler<M>,
        T: Send + 'static,
    {
        let actor = self.nodes[index].try_borrow().ok().and_then(|node| node.actor())?;
        actor.ask(message).timeout(PATIENCE).await.ok()
    }

    fn with(&self, index: NodeIndex, act: impl FnOnce(&SimNode)) {
        if let Ok(node) = self.nodes[index].try_borrow() {
            act(&node);
        }
    }

    fn part(&self, islands: &[u8]) {
        self.air.part(islands);
        for (a, did) in self.dids.iter().enumerate() {
            for (b, other) in self.dids.iter().enumerate().skip(a + 1) {
                if islands[a] == islands[b] {
                    self.links.heal(*did, *other);
                } else {
                    self.links.partition(*did, *other);
                }
            }
        }
    }

    fn slow_link(&self, a: NodeIndex, b: NodeIndex, by: Duration) {
        self.slowness.borrow_mut().insert((a, b), by);
        let faults = link_faults(&self.plan, by);
        for (from, to) in [(a, b), (b, a)] {
            self.links.set_faults_between(self.dids[from], self.dids[to], faults.clone());
        }
    }

    /// From now on nothing is broken.
    async fn mend(&self) {
        self.say(0, "everything is mended");
        self.part(&vec![0; self.dids.len()]);
        let plan = NetworkPlan { break_one_in: 0, ..self.plan };
        let faults = link_faults(&plan, Duration::ZERO);
        self.links.set_faults(faults.clone());
        for (a, b) in self.slowness.take().into_keys() {
            for (from, to) in [(a, b), (b, a)] {
                self.links.set_faults_between(self.dids[from], self.dids[to], faults.clone());
            }
        }
        for index in 0..self.nodes.len() {
            self.with(index, |node| {
                node.fill_disk(false);
                node.pace().slow_down(Duration::ZERO);
            });
            let world = self.clone();
            tokio::task::spawn_local(async move {
                // Somebody may be stopping it just now.
                while !world.nodes[index].try_borrow().is_ok_and(|node| node.is_up()) {
                    world.start(index).await;
                    sleep(PAUSE).await;
                }
            });
        }
    }

    async fn keep_looking(&self) {
        let period = LOOK_PERIOD * u32::try_from(self.nodes.len().div_ceil(SMALL)).unwrap_or(u32::MAX);
        loop {
            sleep(period).await;
            let at = self.start.elapsed();
            let ears =
                self.nodes.iter().filter_map(|node| node.try_borrow().ok().and_then(|node| node.ear()));
            for look in join_all(ears.map(|ear| ear.look(at))).await.iter().flatten() {
                self.sink.look(look);
            }
        }
    }
}

/// The id of a scenario's job.
fn job_id(seed: u64, number: usize) -> JobId {
    let mut chance = Chance::of(seed, &[b"job", &number.to_be_bytes()]);
    let both = (u128::from(chance.next()) << 64) | u128::from(chance.next());
    JobId::from_random(both.to_be_bytes())
}

fn job(id: JobId, plan: &JobPlan, now: Timestamp) -> Job {
    let mut job = hand_made::job(Millis(300_000));
    job.id = id;
    job.name = "simulated".to_owned();
    job.wanted = 3;
    job.wait = Millis(plan.wait_ms);
    job.max_attempts = plan.attempts;
    job.submitted = now;
    let pod = &mut job.pods[0];
    pod.requirement.cpu = dms_messages::CpuMillis(plan.cpu);
    pod.requirement.memory = dms_messages::MemoryMib(plan.memory);
    let count = plan.tasks.max(1);
    let whole = TaskResources {
        cpu: pod.requirement.cpu,
        memory: pod.requirement.memory,
        disk: pod.requirement.disk,
    };
    let one = pod.tasks[0].clone();
    pod.tasks = (0..count)
        .map(|task| {
            let run = Duration::from_millis(plan.run_ms) / u32::from(task + 1);
            let exit = if task + 1 == count { plan.exit } else { 0 };
            Task {
                name: if count == 1 { one.name.clone() } else { format!("task-{task}") },
                module: ContentId::of_bytes(MODULE),
                args: machine::arguments(run, exit),
                resources: (count > 1).then(|| part(whole, u64::from(count), task == 0)),
                ..one.clone()
            }
        })
        .collect();
    job
}

/// An equal part of what a pod needs; the first has what is left over, too.
fn part(whole: TaskResources, count: u64, is_first: bool) -> TaskResources {
    let of = |amount: u64| amount / count + if is_first { amount % count } else { 0 };
    TaskResources {
        cpu: dms_messages::CpuMillis(of(whole.cpu.0)),
        memory: dms_messages::MemoryMib(of(whole.memory.0)),
        disk: dms_messages::DiskMib(of(whole.disk.0)),
    }
}
