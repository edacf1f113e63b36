//! Two nodes that work for each other are killed, frozen and left without space, at random, with jobs all the time.
//!
//! A node that was frozen goes on as if nothing had been: what it holds to be true was true seconds ago. Nothing may
//! start twice because of that, and what it was promised meanwhile has ended. In the end both nodes come to rest, and
//! both logs are judged together.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use dms_node::commands::{NodeMode, NodeStatus};
use dms_storage::LockEnd;
use dms_tests::small_disk::SmallDisk;
use dms_tests::{free_port, skip};

use super::*;

/// Jobs that each node is handed in a second, as long as it keeps up.
const JOBS_PER_SECOND: u64 = 10;
/// How long each node collects bids.
const AUCTION_MS: u64 = 300;
/// Jobs that each node is handed just before one of them is frozen.
const BURST: usize = 8;
/// Harms between two rests, when both logs are read: they hold some 50,000 events each.
const HARMS_PER_ROUND: usize = 6;
/// Room for the books of the whole run, and for the logs that RocksDB sets aside.
const DISK_MIB: u32 = 512;
/// How long a node stays frozen, in milliseconds: mostly for longer than its locks hold, and at full size for longer than
/// whoever waits for its answer does.
fn freeze_time() -> Range<u64> {
    if is_soak() { 100..40_000 } else { 1_000..3_000 }
}

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    Kill,
    Freeze,
    FullDisk,
}

/// A node with its surroundings, whether it lives or not.
struct Party {
    home: Home,
    disk: Option<SmallDisk>,
    /// Its directory, as it is found from here.
    data: PathBuf,
    port: u16,
    bootstrap: Option<String>,
    log: PathBuf,
    oracle: SharedOracle,
    client: ApiClient,
}

impl Party {
    fn new(logs: &Path, number: usize) -> Self {
        let home = Home::new();
        let disk = SmallDisk::mount(home.path(), DISK_MIB);
        let data = disk.as_ref().map_or_else(|| home.path().to_owned(), SmallDisk::seen_from_here);
        // Long auctions and short leases: some locks always wait to be taken, and end while a node is frozen.
        let config = format!("lease = \"700ms\"\nauction = \"{AUCTION_MS}ms\"\n");
        std::fs::write(data.join("config.toml"), config).expect("written");
        let client = ApiClient::new(data.join("api.sock"));
        let party = Self {
            home,
            disk,
            client,
            data,
            port: free_port(),
            bootstrap: None,
            log: logs.join(number.to_string()),
            oracle: SharedOracle::default(),
        };
        let onboard =
            ["onboard", "--yes", "--skip-benchmark", "--cpu", "2", "--memory", "1GiB", "--disk", "256MiB"];
        let run = party.command().args(onboard).output().expect("the program can be run");
        assert!(run.status.success(), "{run:?}");
        party
    }

    /// A command on its directory, which it may be alone to see.
    fn command(&self) -> Command {
        let mut command = match &self.disk {
            Some(disk) => disk.command(dms()),
            None => Command::new(dms()),
        };
        command.arg("--data").arg(self.home.path());
        command
    }

    async fn start(&self) -> Life {
        let mut command = self.command();
        command.env("DMS_OWNER_FIRST", "false");
        command.args(["run", "--open", "--listen", &format!("/ip4/127.0.0.1/tcp/{}", self.port)]);
        command.args(self.bootstrap.iter().flat_map(|address| ["--bootstrap", address]));
        Life::of(command, &self.data, &self.log).await.unwrap_or_else(|status| {
            panic!("the node ended by itself: {status}, see {}", self.log.display());
        })
    }
}

/// Looks until the node stands so.
async fn wait_for(client: &ApiClient, what: &str, is_so: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
    let start = Instant::now();
    loop {
        let status = client.status().await;
        match status {
            Ok(status) if is_so(&status) => return status,
            status => assert!(start.elapsed() < DEADLINE, "{what} did not come: {status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Hands in jobs and cancels some until it is told to stop; whether anybody hears it is not its business.
async fn feed(client: ApiClient, oracle: SharedOracle, pods: Vec<Pod>, stop: Arc<AtomicBool>, seed: u64) {
    let mut random = Random(seed);
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / JOBS_PER_SECOND));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut commands = JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        if commands.len() >= IN_FLIGHT {
            commands.join_next().await.expect("some are on their way").expect("it ends well or is refused");
        }
        let recent = {
            let mut oracle = lock(&oracle);
            oracle.commands += 1;
            oracle.recent.last().copied()
        };
        let (client, oracle) = (client.clone(), Arc::clone(&oracle));
        match (random.below(8), recent) {
            (0, Some(job)) => commands.spawn(async move { cancel(&client, &oracle, job).await }),
            (1, Some(job)) => commands.spawn(async move { show(&client, &oracle, job).await }),
            (number, _) => {
                let pod = in_tasks(pods[usize::from(number == 2)].clone(), 1 + random.below(3));
                let name = format!("job {}", random.below(u64::MAX));
                commands.spawn(async move { submit(&client, &oracle, name, pod).await })
            }
        };
    }
    while let Some(ended) = commands.join_next().await {
        ended.expect("a command ends well or is refused");
    }
}

/// Does it to a node, and waits until that is over and the node serves again.
async fn harm(
    parties: &[Party; 2],
    number: usize,
    life: Life,
    harm: Harm,
    pod: &Pod,
    random: &mut Random,
) -> Life {
    let party = &parties[number];
    let is_serving = |status: &NodeStatus| status.mode == NodeMode::Serving;
    let life = match harm {
        Harm::Kill => {
            let status = life.kill();
            assert_eq!(status.signal(), Some(SIGKILL), "it ended by itself: see {}", party.log.display());
            tokio::time::sleep(Duration::from_millis(random.below(1_000))).await;
            party.start().await
        }
        Harm::Freeze => {
            let Range { start, end } = freeze_time();
            let time = Duration::from_millis(start + random.below(end - start));
            // In the middle of some auctions, with locks on both sides.
            for _ in 0..BURST {
                for party in parties {
                    let name = format!("burst {}", random.below(u64::MAX));
                    submit(&party.client, &party.oracle, name, pod.clone()).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(random.below(AUCTION_MS))).await;
            signal(&life, "STOP");
            tokio::time::sleep(time).await;
            signal(&life, "CONT");
            life
        }
        Harm::FullDisk => {
            let disk = party.disk.as_ref().expect("it was mounted");
            disk.fill();
            // Some space was set aside for the log before: long submissions find its end.
            let mut long = pod.clone();
            long.tasks[0].args = vec!["a".repeat(30_000)];
            let start = Instant::now();
            while is_serving(&party.client.status().await.expect("the node answers")) {
                let name = format!("long {}", random.below(u64::MAX));
                submit(&party.client, &party.oracle, name, long.clone()).await;
                assert!(start.elapsed() < DEADLINE, "the disk is not full");
            }
            tokio::time::sleep(Duration::from_millis(random.below(2_000))).await;
            disk.free();
            life
        }
    };
    wait_for(&party.client, &format!("the end of a {harm:?}"), is_serving).await;
    life
}

fn signal(life: &Life, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(life.process.0.id().to_string()).status();
    assert!(status.is_ok_and(|status| status.success()), "the node is not there to be signalled");
}

/// Does harm to one of the nodes after the other, while both are handed jobs.
async fn do_harm(
    parties: &[Party; 2],
    mut lives: Vec<Life>,
    harms: &[Harm],
    pods: &[Pod],
    random: &mut Random,
) -> Vec<Life> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut feeds = JoinSet::new();
    for party in parties {
        let (client, oracle) = (party.client.clone(), Arc::clone(&party.oracle));
        feeds.spawn(feed(client, oracle, pods.to_vec(), Arc::clone(&stop), 1 + random.below(u64::MAX - 1)));
    }
    for kind in harms {
        let number = random.below(2) as usize;
        let party = &parties[number];
        let life = harm(parties, number, lives.remove(number), *kind, &pods[0], random).await;
        lives.insert(number, life);
        check_acknowledged(&party.client, known(&party.oracle, true), false, false).await;
        tokio::time::sleep(Duration::from_millis(random.below(500))).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = feeds.join_next().await {
        ended.expect("it feeds to the end");
    }
    lives
}

/// What the logs say besides what the judge asks.
#[derive(Debug, Default)]
struct Tally {
    expired: usize,
    refused: usize,
}

impl Tally {
    fn count(&mut self, entries: &[(u64, Entry)]) {
        for (_, entry) in entries {
            match &entry.event {
                Event::LockEnded { end: LockEnd::Expired, .. } => self.expired += 1,
                Event::AttemptRefused { .. } => self.refused += 1,
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_killed_frozen_and_full_agree_in_the_end() {
    let seed = std::env::var("DMS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) | 0x5eed << 32);
    println!("DMS_SEED={seed}");
    let mut random = Random(seed);
    let logs = Home::new();
    let mut parties = [Party::new(logs.path(), 0), Party::new(logs.path(), 1)];
    let mut harms: Vec<Harm> =
        [(Harm::Kill, size(4, 60)), (Harm::Freeze, size(4, 60)), (Harm::FullDisk, size(2, 30))]
            .into_iter()
            .flat_map(|(harm, count)| std::iter::repeat_n(harm, count))
            .collect();
    if parties.iter().any(|party| party.disk.is_none()) {
        skip("crash_matrix: full disks (nobody may mount a file system of its own here)");
        harms.retain(|harm| *harm != Harm::FullDisk);
    }
    for last in (1..harms.len()).rev() {
        harms.swap(last, random.below(last as u64 + 1) as usize);
    }

    let mut lives = Vec::new();
    let mut dids = Vec::new();
    for number in 0..parties.len() {
        lives.push(parties[number].start().await);
        let client = parties[number].client.clone();
        let status = wait_for(&client, "an address", |status| !status.addresses.is_empty()).await;
        dids.push(status.id.did);
        parties[1 - number].bootstrap = status.addresses.first().cloned();
    }
    let mut pods = Vec::new();
    for (is_endless, timeout) in [(false, Millis(60_000)), (true, Millis(400))] {
        let module = program(is_endless);
        for party in &parties {
            party.client.put_blob(module.clone()).await.expect("the node answers");
        }
        pods.push(pod(ContentId::of_bytes(module.as_bytes()), timeout));
    }
    for party in &parties {
        wait_for(&party.client, "its peer", |status| status.peers.iter().any(|peer| peer.is_provider)).await;
    }

    let mut judge = PostMortem::new(dids);
    let mut next = [1; 2];
    let mut tally = Tally::default();
    let mut done: BTreeMap<Harm, usize> = BTreeMap::new();
    for round in harms.chunks(HARMS_PER_ROUND) {
        for party in &parties {
            lock(&party.oracle).recent.clear();
        }
        lives = do_harm(&parties, lives, round, &pods, &mut random).await;
        round.iter().for_each(|kind| *done.entry(*kind).or_default() += 1);
        let start = Instant::now();
        loop {
            for party in &parties {
                rest(&party.client, &party.data, &party.oracle, true).await;
            }
            for life in lives.drain(..) {
                life.kill();
            }
            let mut entries = Vec::new();
            for (party, next) in parties.iter().zip(&mut next) {
                entries.push(read_log(&party.data, next));
                tally.count(entries.last().expect("it was pushed"));
            }
            assert_eq!(judge.read(entries), [], "DMS_SEED={seed}");
            for party in &parties {
                lives.push(party.start().await);
            }
            // Last words, that a result has arrived, may have been on their way when both were killed.
            let unsettled = judge.finish();
            if unsettled.is_empty() {
                break;
            }
            assert!(start.elapsed() < DEADLINE * 2, "DMS_SEED={seed}: {unsettled:?}");
        }
    }
    for party in &parties {
        check_acknowledged(&party.client, known(&party.oracle, false), false, true).await;
    }
    let [one, other] = [0, 1].map(|number| parties[number].log.as_path());
    let run = assert_each_ran_once(one) + assert_each_ran_once(other);
    let summary = judge.summary();
    assert!(run > 0 && summary.jobs_succeeded > 0, "nothing was shown: {summary:?}");
    let count = |harm| done.get(&harm).copied().unwrap_or_default();
    let Range { start, end } = freeze_time();
    proof(&format!(
        "harms: {} kills, {} freezes of {start} to {end} ms and {} full disks at two nodes; {} jobs all ended ({} \
         succeeded), {} attempts and {run} runs none twice, {} locks, {} of them ended by their leases and none taken \
         after, {} invocations refused; {} events of both logs judged together, 0 breaches",
        count(Harm::Kill),
        count(Harm::Freeze),
        count(Harm::FullDisk),
        summary.jobs_submitted,
        summary.jobs_succeeded,
        summary.attempts,
        summary.locks,
        tally.expired,
        tally.refused,
        summary.events,
    ));
}
