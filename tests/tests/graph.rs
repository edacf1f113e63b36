//! The mesh as a graph, by whole nodes: everybody knows how many there are, how far its neighbours are, and what a liar
//! can do about it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use dms_actors::testing::{Faults, FaultyNetwork, Stall, VirtualClock, remember_proofs};
use dms_actors::{ActorSystem, Address, Keypair};
use dms_messages::{
    Census, CpuMillis, Did, DiskMib, ExecutorKind, MAX_SAMPLE, MemoryMib, Millis, Pod, Requirement, Sample,
    Task,
};
use dms_node::api::client::ApiClient;
use dms_node::api::types::NewJob;
use dms_node::commands::GetStatus;
use dms_node::graph::edge::Micros;
use dms_node::graph::mesh_size::EPOCH;
use dms_node::graph::view::{GetGraph, GraphView};
use dms_node::peers::GetPeers;
use dms_tests::hand_made::open_gate;
use dms_tests::sim::mesh::Air;
use dms_tests::sim::node::{SimNode, Surroundings, keypair};
use dms_tests::sim::oracle::{Oracle, Rules};
use dms_tests::sim::scenario::{NetworkPlan, NodePlan};
use dms_tests::sim::sink::Sink;
use dms_tests::sim::story::Story;
use dms_tests::{DEADLINE, Home, example, is_soak, pair, proof, skip, wait_for};
use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Handle};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

/// How long a node may take to answer, in virtual time.
const PATIENCE: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
/// How long words take one way.
const DELAY_MS: u64 = 30;

/// Whole nodes that offer nothing, connected as a test says, in virtual time.
struct Mesh {
    nodes: Vec<SimNode>,
    dids: Vec<Did>,
    links: FaultyNetwork,
    _data: tempfile::TempDir,
}

/// Runs `test` over so many nodes with these connections, on this thread. Of each piece of a link, and of each gossiped
/// message, one in `lose_one_in` is lost: on a link it comes later, as it is sent again.
fn run(count: usize, edges: &[(usize, usize)], lose_one_in: u32, test: impl AsyncFnOnce(Mesh)) {
    let _remembering = remember_proofs();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (seed, start, data) = (1, Instant::now(), tempfile::tempdir().unwrap());
        let plan =
            NetworkPlan { delay_ms: DELAY_MS, lose_gossip_one_in: lose_one_in, ..NetworkPlan::default() };
        let dids: Vec<Did> = (0..count).map(|index| keypair(index).did()).collect();
        // Clocks are up to twenty seconds apart.
        let ahead = |index: usize| i64::try_from(index * 7 % 20).unwrap() * 1_000;
        let clocks: Vec<_> = (0..count)
            .map(|index| VirtualClock::of(seed, &format!("node {index}"), ahead(index), start))
            .collect();
        let oracle = Oracle::new(Rules::default(), dids.clone());
        let sink = Sink::new(start, oracle, Story::digest_only(dids.clone()), clocks.clone());
        let links = FaultyNetwork::new(seed);
        let delay = Duration::from_millis(DELAY_MS);
        let stall = (lose_one_in > 0)
            .then_some(Stall { one_in: lose_one_in, lasts: 2 * delay + Duration::from_millis(200) });
        links.set_faults(Faults { delay, stall, ..Faults::none() });
        let air = Air::new(seed, plan, dids.clone(), sink.clone(), false);
        let surroundings =
            Surroundings { links: links.clone(), air, sink, dids: dids.clone().into(), is_told: false };
        let mut nodes = Vec::new();
        for (index, clock) in clocks.into_iter().enumerate() {
            let plan = NodePlan { cpu: 0, memory: 0, ahead_ms: ahead(index), sync_ms: 8 };
            let data = data.path().join(index.to_string());
            let mut node = SimNode::new(index, seed, plan, clock, surroundings.clone(), data);
            node.start().await;
            nodes.push(node);
        }
        edges.iter().for_each(|(a, b)| links.reconnect(dids[*a], dids[*b]));
        test(Mesh { nodes, dids, links, _data: data }).await;
    });
}

impl Mesh {
    /// What everybody who lives knows of the graph.
    async fn graphs(&self) -> BTreeMap<Did, GraphView> {
        let mut graphs = BTreeMap::new();
        for actor in self.nodes.iter().filter_map(SimNode::actor) {
            let graph = actor.ask(GetGraph).timeout(PATIENCE).await.expect("a node answers");
            let status = actor.ask(GetStatus).timeout(PATIENCE).await.expect("a node answers");
            assert_eq!(status.mesh_size, graph.mesh_size, "both say the same");
            graphs.insert(graph.me, graph);
        }
        graphs
    }

    /// Waits until everybody is within a quarter of how many live.
    async fn wait_until_close(&self, within: Duration, what: &str) {
        let start = Instant::now();
        loop {
            sleep(Duration::from_secs(10)).await;
            let graphs = self.graphs().await;
            let truth = graphs.len() as u64;
            let sizes: BTreeSet<u64> = graphs.values().map(|graph| graph.mesh_size).collect();
            if sizes.iter().all(|size| size * 4 >= truth * 3 && size * 4 <= truth * 5) {
                return;
            }
            assert!(start.elapsed() < within, "{what}: {truth} live, and they estimate {sizes:?}");
        }
    }
}

/// Everybody knows those beside it and the next but one, and one in four somebody far away: eight edges at most.
fn small_world(count: usize) -> Vec<(usize, usize)> {
    let ring = (0..count).flat_map(|at| [(at, (at + 1) % count), (at, (at + 2) % count)]);
    let chords = (0..count / 4).map(|at| (at * 4, (at * 4 + count / 2 + at % 7) % count));
    ring.chain(chords).filter(|(a, b)| a != b).collect()
}

#[test]
fn a_hundred_nodes_know_how_many_they_are_and_forget_the_half_that_leaves() {
    run(100, &small_world(100), 20, async |mut mesh| {
        mesh.wait_until_close(3 * MINUTE, "all of them").await;
        for node in mesh.nodes.iter_mut().skip(1).step_by(2) {
            node.crash();
        }
        mesh.wait_until_close(2 * EPOCH + 2 * MINUTE, "half of them").await;
        let graphs = mesh.graphs().await;
        let sizes: Vec<u64> = graphs.values().map(|graph| graph.mesh_size).collect();
        proof(&format!(
            "mesh size: 100 whole nodes by eight edges at most, with 5 % loss, then 50: {} to {}",
            sizes.iter().min().unwrap(),
            sizes.iter().max().unwrap()
        ));
    });
}

#[test]
fn whoever_is_connected_to_everybody_counts_them_too_and_whoever_is_alone_itself() {
    let everybody: Vec<_> = (0..40).flat_map(|a| (a + 1..40).map(move |b| (a, b))).collect();
    run(41, &everybody, 0, async |mesh| {
        // One of them has no connection.
        sleep(3 * MINUTE).await;
        let graphs = mesh.graphs().await;
        for (did, graph) in graphs {
            let is_alone = did == mesh.dids[40];
            assert_eq!(graph.mesh_size, if is_alone { 1 } else { 40 }, "{did}");
            assert_eq!(graph.neighbours.len(), if is_alone { 0 } else { 39 }, "{did}");
        }
    });
}

#[test]
fn edges_are_as_long_as_the_network_makes_them() {
    let edges: Vec<_> = (1..10).map(|at| (at - 1, at)).collect();
    run(10, &[], 0, async |mesh| {
        // One way is far.
        let far = Faults { delay: Duration::from_millis(150), ..Faults::none() };
        mesh.links.set_faults_between(mesh.dids[3], mesh.dids[4], far);
        edges.iter().for_each(|(a, b)| mesh.links.reconnect(mesh.dids[*a], mesh.dids[*b]));
        sleep(20 * MINUTE).await;
        let graphs = mesh.graphs().await;
        for (a, b) in &edges {
            let (a, b) = (mesh.dids[*a], mesh.dids[*b]);
            for (me, other) in [(a, b), (b, a)] {
                let neighbours = &graphs[&me].neighbours;
                let found = neighbours.iter().find(|neighbour| neighbour.did == other);
                let edge = found.expect("they are neighbours").edge;
                let is_far = [a, b] == [mesh.dids[3], mesh.dids[4]];
                let truth = if is_far { 180_000 } else { 60_000 };
                let Micros(trip) = edge.round_trip.expect("it was measured");
                assert!(trip.abs_diff(truth) <= truth / 10, "{trip} us, and it is {truth}");
                assert!(edge.deviation.expect("it was measured").0 <= truth / 10, "{edge:?}");
                assert!(edge.reliability.expect("it was measured").0 > 990_000, "{edge:?}");
                assert_eq!(edge.bandwidth, None);
            }
        }
    });
}

/// Where a key stands in an epoch, as `graph/sketch.rs` has it.
fn rank(epoch: u64, key: &[u8; 32]) -> u64 {
    let hash = Sha256::new().chain_update(b"dms census").chain_update(epoch.to_be_bytes()).chain_update(key);
    u64::from_be_bytes(hash.finalize()[..8].try_into().unwrap())
}

/// Keys without nodes: of so many those of the least ranks.
fn forged(tries: u64, epoch: u64) -> Sample {
    let mut best = BTreeMap::new();
    for number in 0..tries {
        let mut key = [0xee; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        best.insert(rank(epoch, &key), key);
        if best.len() > MAX_SAMPLE {
            best.pop_last();
        }
    }
    Sample::of(best.into_values())
}

#[test]
fn a_liar_is_believed_no_more_than_it_works_for_and_silences_nobody() {
    const TRIES: u64 = 20_000;
    run(10, &small_world(10), 0, async |mesh| {
        mesh.wait_until_close(3 * MINUTE, "before the liar").await;
        let liar = Keypair::from_secret(&[0x1e; 32]).did();
        let clock = mesh.nodes[0].clock().clone();
        let system = ActorSystem::builder(liar, "sim")
            .policy(std::sync::Arc::new(open_gate(liar, "sim", &clock)))
            .clock(clock.clone())
            .transport(mesh.links.transport(liar))
            .network_runtime(Handle::current())
            .start_on_current()
            .expect("there is a LocalSet");
        let to = system.resolve::<Census>(&Address::new(mesh.dids[0], "/node").unwrap());
        // Three times a second, which is more than is heard, for three epochs.
        let until = Instant::now() + 3 * EPOCH;
        let mut forgery = None;
        let mut question = 0;
        while Instant::now() < until {
            let epoch = clock.now().0 / u64::try_from(EPOCH.as_millis()).unwrap();
            if forgery.as_ref().is_none_or(|(of, _)| *of != epoch) {
                forgery = Some((epoch, forged(TRIES, epoch)));
            }
            let sample = forgery.as_ref().map(|(_, sample)| sample.clone()).unwrap_or_default();
            question += 1;
            let _ = to.tell(Census { question, epoch, digest: question, sample }).await;
            sleep(Duration::from_millis(333)).await;
        }
        for (did, graph) in mesh.graphs().await {
            let size = graph.mesh_size;
            assert!(size >= 10, "{did}: {size}, smaller than it is");
            assert!(size <= TRIES * 5 / 4, "{did}: {size}, more than the liar has worked for");
            assert!(size > 1_000, "{did}: {size}, the liar did not lie well enough to be a test");
        }
        // Everybody has heard of nine, and so paces itself for 160 at most: statuses come each minute as before.
        for actor in mesh.nodes.iter().filter_map(SimNode::actor) {
            let peers = actor.ask(GetPeers { limit: 100 }).timeout(PATIENCE).await.expect("a node answers");
            let ages: Vec<_> = peers.iter().filter_map(|peer| Some(peer.status.as_ref()?.age)).collect();
            assert_eq!(ages.len(), 9, "everybody is heard of");
            assert!(ages.iter().all(|age| *age <= Millis(90_000)), "{ages:?}");
        }
        // It is gone, and soon forgotten.
        mesh.links.kill(liar);
        drop(system);
        mesh.wait_until_close(2 * EPOCH + 2 * MINUTE, "after the liar").await;
    });
}

#[test]
fn a_thousand_nodes_know_how_many_they_are() {
    if !is_soak() {
        return skip(
            "a thousand whole nodes (make soak NAME=graph); the program alone counts them in its own tests",
        );
    }
    let began = std::time::Instant::now();
    run(1_000, &small_world(1_000), 20, async |mesh| {
        mesh.wait_until_close(EPOCH, "all of them").await;
        let graphs = mesh.graphs().await;
        let sizes: Vec<u64> = graphs.values().map(|graph| graph.mesh_size).collect();
        proof(&format!(
            "mesh size: 1,000 whole nodes by eight edges at most, with 5 % loss: {} to {}, in {:.0} s",
            sizes.iter().min().unwrap(),
            sizes.iter().max().unwrap(),
            began.elapsed().as_secs_f64()
        ));
    });
}

#[tokio::test]
async fn two_real_nodes_show_the_edge_between_them() -> Result<(), Box<dyn Error>> {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (_provider, requester) = pair(&provider_home, &requester_home);
    let other = provider_home.did();
    // Something of size goes to the provider.
    let api = ApiClient::new(requester_home.path().join("api.sock"));
    let module = api.put_blob(std::fs::read(example("programs/hello.wat"))?).await?.cid;
    let stdin = api.put_blob(vec![7; 2 << 20]).await?.cid;
    let requirement = Requirement {
        cpu: CpuMillis(100),
        memory: MemoryMib(64),
        disk: DiskMib(8),
        executor: ExecutorKind::Wasm,
        ..Requirement::default()
    };
    let task = Task {
        name: "hello".to_owned(),
        module,
        args: Vec::new(),
        env: Default::default(),
        stdin: Some(stdin),
        input: None,
        timeout: Millis(60_000),
        resources: None,
    };
    let job = NewJob {
        name: "hello".to_owned(),
        pods: vec![Pod { requirement, tasks: vec![task] }],
        max_price: None,
        wanted: None,
        wait: None,
        max_attempts: None,
    };
    api.submit(&job).await?;
    let start = std::time::Instant::now();
    while api.status().await?.active_job_count > 0 {
        assert!(start.elapsed() < DEADLINE, "not ended: {:?}", api.jobs(5).await);
        sleep(Duration::from_millis(50)).await;
    }
    let measured = |home: &Home, peer: &str, what: &str| {
        let graph = home.json(&["graph"]);
        let neighbour = graph["neighbours"].as_array().into_iter().flatten().find(|it| it["did"] == peer);
        let is_there = neighbour.is_some_and(|it| it[what].is_u64() && it["is_connected"] == true);
        if is_there && graph["mesh_size"] == 2 { Ok(()) } else { Err(graph) }
    };
    wait_for("the way to the provider to be measured", || measured(&requester_home, &other, "round_trip"));
    let me = requester.did();
    wait_for("the transfer to be measured", || measured(&provider_home, &me, "bandwidth"));
    let text = requester_home.dms(&["graph"]);
    assert!(text.stdout.starts_with("mesh  about 2 nodes") && text.stdout.contains(" ms"), "{text}");
    let dot = requester_home.dms(&["graph", "--format", "dot"]);
    assert!(dot.stdout.contains(&format!("\"{me}\" -- \"{other}\" [label=")), "{dot}");
    let json = requester_home.dms(&["graph", "--format", "json"]);
    assert!(json.status.success() && json.stdout.starts_with('{'), "{json}");
    assert_eq!(requester_home.dms(&["graph", "--format", "dot", "--json"]).code(), Some(2));
    let status = requester_home.dms(&["status"]);
    assert!(status.stdout.contains("about 2 nodes"), "{status}");
    Ok(())
}
