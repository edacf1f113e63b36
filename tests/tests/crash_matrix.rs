//! A node that is killed again and again, at random moments and at every named failpoint, loses nothing that it
//! acknowledged, leaks nothing and starts nothing twice.
//!
//! One real `dms` process bids on its own jobs, gets 200 commands a second through its API, dies by SIGKILL and is
//! started again on the same directory. Outside of it an oracle remembers every acknowledged submission and
//! cancellation and every end that was shown. From time to time the node is left in peace until every job has ended;
//! then nothing may be locked or running, and its event log is read behind its back and judged by the rules of the
//! simulated worlds. Other harm than sudden death is done to two nodes that work for each other: see [`harms`].

#[path = "crash_matrix/harms.rs"]
mod harms;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dms_messages::{
    AllocationId, AllocationState, AttemptId, BidId, ContentId, CpuMillis, Did, DiskMib, JobId, JobPhase,
    MemoryMib, Millis, Pod, Task, TaskResources,
};
use dms_node::api::client::{ApiClient, ClientError};
use dms_node::api::types::NewJob;
use dms_node::identity::BOOKS;
use dms_storage::reader::{MAX_PAGE_EVENTS, Reader};
use dms_storage::{Entry, Event, RocksEngine, RocksOptions, failpoints};
use dms_tests::sim::facts::Breach;
use dms_tests::sim::oracle::rules::DISAGREE;
use dms_tests::sim::post_mortem::PostMortem;
use dms_tests::{DEADLINE, Home, Killed, dms, hand_made, is_soak, proof, size};
use tokio::task::JoinSet;

/// Commands in a second, as long as the node keeps up.
const RATE: u64 = 200;
/// Most commands that wait for an answer at once.
const IN_FLIGHT: usize = 64;
/// Kills between two rests.
const REST_EVERY: usize = 12;
/// The first `_start` of an attempt leaves this exit code as it is; a second one in the same place would find the
/// first one's mark and end with 99.
const STARTED_TWICE: i32 = 99;
/// How long a failpoint may take to be passed often enough, before the node is killed anyway.
const LONGEST_LIFE: Duration = Duration::from_secs(10);
/// How long a node lives before it has compared what it has with itself, which it does every half a minute. With
/// others it does so when they meet.
const AGREES_WITH_ITSELF: Duration = Duration::from_secs(35);
const SIGKILL: i32 = 9;

/// Makes a file that must not be there yet, then ends, or goes on for ever.
fn program(is_endless: bool) -> String {
    let rest = if is_endless { "(loop $forever (br $forever))" } else { "" };
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "started")
  (func (export "_start")
    ;; Create, exclusively, with the right to write.
    (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 7) (i32.const 5)
          (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32))
      (then (call $proc_exit (i32.const {STARTED_TWICE}))))
    {rest}))"#
    )
}

/// Small steps of a random walk that a seed repeats.
struct Random(u64);

impl Random {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What the node has acknowledged about one job.
#[derive(Debug, Clone)]
struct Known {
    name: String,
    is_cancelled: bool,
    shown_end: Option<JobPhase>,
}

/// Everything that was acknowledged.
#[derive(Debug, Default)]
struct Oracle {
    jobs: BTreeMap<JobId, Known>,
    /// In the order of their acknowledgement, since the last rest.
    recent: Vec<JobId>,
    commands: u64,
    acknowledged: u64,
}

type SharedOracle = Arc<Mutex<Oracle>>;

fn lock(oracle: &SharedOracle) -> MutexGuard<'_, Oracle> {
    // A command that panicked has failed the test by itself.
    oracle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A life of the node.
struct Life {
    process: Killed,
    client: ApiClient,
}

impl Life {
    /// Starts it and waits until it answers; the exit status if it died before.
    async fn start(home: &Home, log: &Path, failpoint: Option<(&str, u64)>) -> Result<Self, ExitStatus> {
        let mut command = Command::new(dms());
        command.arg("--data").arg(home.path());
        command.env("DMS_OWNER_FIRST", "false");
        command.args(["run", "--listen", "/ip4/127.0.0.1/tcp/0"]);
        if let Some((name, count)) = failpoint {
            command.env(failpoints::VARIABLE, format!("{name}:{count}"));
        }
        Self::of(command, home.path(), log).await
    }

    /// The same for a command that is complete but for what every node here is told; its socket lies in `data`.
    async fn of(mut command: Command, data: &Path, log: &Path) -> Result<Self, ExitStatus> {
        let log = File::options().create(true).append(true).open(log).expect("a log can be written");
        // Its end of the pipe: whatever becomes of this test, no node stays behind.
        command.args(["--no-mdns", "--stop-on-eof"]);
        command.env("DMS_LOG", "info").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let process = Killed(command.spawn().expect("the program can be run"));
        let mut life = Self { process, client: ApiClient::new(data.join("api.sock")) };
        let start = Instant::now();
        loop {
            if let Some(status) = life.ended() {
                return Err(status);
            }
            if life.client.status().await.is_ok() {
                return Ok(life);
            }
            assert!(start.elapsed() < DEADLINE, "the node does not start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.process.0.try_wait().expect("it is our child")
    }

    /// Kills it, unless that has happened.
    fn kill(mut self) -> ExitStatus {
        if let Some(status) = self.ended() {
            return status;
        }
        // It may die in this very moment.
        let _ = self.process.0.kill();
        self.process.0.wait().expect("it is our child")
    }
}

/// Gives commands at the rate until the time is over or the node is gone; true if it was not gone by itself.
async fn load(
    life: &mut Life,
    oracle: &SharedOracle,
    pods: &[Pod],
    time: Duration,
    random: &mut Random,
) -> bool {
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    let start = Instant::now();
    let mut commands = JoinSet::new();
    while life.ended().is_none() && start.elapsed() < time {
        ticks.tick().await;
        if commands.len() >= IN_FLIGHT {
            // A node that does not keep up gets the next command when it has answered one.
            commands.join_next().await.expect("some are on their way").expect("it ends well or is refused");
        }
        while let Some(ended) = commands.try_join_next() {
            ended.expect("a command ends well or is refused");
        }
        let recent = {
            let mut oracle = lock(oracle);
            oracle.commands += 1;
            let count = oracle.recent.len() as u64;
            let back = random.below(count.clamp(1, 40));
            (count > 0).then(|| oracle.recent[(count - 1 - back) as usize])
        };
        let client = life.client.clone();
        let oracle = Arc::clone(oracle);
        match (random.below(4), recent) {
            (0, Some(job)) => commands.spawn(async move { cancel(&client, &oracle, job).await }),
            (1, Some(job)) => commands.spawn(async move { show(&client, &oracle, job).await }),
            (number, _) => {
                let pod = pods[usize::from(number == 3 && random.below(4) == 0)].clone();
                let pod = in_tasks(pod, 1 + random.below(3));
                let name = format!("job {}", random.below(u64::MAX));
                commands.spawn(async move { submit(&client, &oracle, name, pod).await })
            }
        };
    }
    // Killed while commands are on their way; what they still hear counts.
    let is_alive = life.ended().is_none();
    let _ = life.process.0.kill();
    while let Some(ended) = commands.join_next().await {
        ended.expect("a command ends well or is refused");
    }
    is_alive
}

async fn submit(client: &ApiClient, oracle: &SharedOracle, name: String, pod: Pod) {
    let job = NewJob {
        name: name.clone(),
        pods: vec![pod],
        max_price: None,
        wanted: Some(1),
        wait: Some(Millis(600_000)),
        max_attempts: Some(20),
    };
    if let Ok(id) = client.submit(&job).await {
        let mut oracle = lock(oracle);
        oracle.acknowledged += 1;
        oracle.jobs.insert(id, Known { name, is_cancelled: false, shown_end: None });
        oracle.recent.push(id);
    }
}

async fn cancel(client: &ApiClient, oracle: &SharedOracle, job: JobId) {
    match client.cancel(job).await {
        Ok(()) => {
            let mut oracle = lock(oracle);
            oracle.acknowledged += 1;
            oracle.jobs.get_mut(&job).expect("it was acknowledged").is_cancelled = true;
        }
        Err(ClientError::Refused(error)) => {
            assert_ne!(error.code, "unknown_job", "an acknowledged job is gone")
        }
        // The node died: nobody knows.
        Err(_) => {}
    }
}

async fn show(client: &ApiClient, oracle: &SharedOracle, job: JobId) {
    match client.job(job).await {
        Ok(view) if view.is_terminal => {
            let mut oracle = lock(oracle);
            oracle.acknowledged += 1;
            oracle.jobs.get_mut(&job).expect("it was acknowledged").shown_end = Some(view.phase);
        }
        Err(ClientError::Refused(error)) => {
            assert_ne!(error.code, "unknown_job", "an acknowledged job is gone")
        }
        _ => {}
    }
}

/// Every record that was acknowledged is there. Where a failpoint is armed the node may die while it is asked; the
/// next life is asked again.
async fn check_acknowledged(client: &ApiClient, jobs: Vec<(JobId, Known)>, may_die: bool, is_at_rest: bool) {
    for (id, known) in jobs {
        let view = match client.job(id).await {
            Ok(view) => view,
            Err(ClientError::Refused(error)) => panic!("{id} {known:?} is lost: {error}"),
            Err(_) if may_die => return,
            Err(error) => panic!("the node does not answer: {error}"),
        };
        assert_eq!(view.name, known.name, "{id}");
        let is_kept = !known.is_cancelled || view.row.is_cancel_wanted || view.is_terminal;
        assert!(is_kept, "the cancellation of {id} is lost: {view:?}");
        if let Some(end) = known.shown_end {
            assert_eq!(view.phase, end, "{id} was shown to have ended");
        }
        assert_ne!(view.exit_code, Some(STARTED_TWICE), "{id}: an attempt was started twice");
        assert!(view.is_terminal || !is_at_rest, "{id} has not ended: {view:?}");
    }
}

fn known(oracle: &SharedOracle, only_recent: bool) -> Vec<(JobId, Known)> {
    let oracle = lock(oracle);
    if only_recent {
        oracle.recent.iter().map(|id| (*id, oracle.jobs[id].clone())).collect()
    } else {
        oracle.jobs.iter().map(|(id, known)| (*id, known.clone())).collect()
    }
}

/// Reads the log in a data directory on from the event `next`; no node runs there.
fn read_log(data: &Path, next: &mut u64) -> Vec<(u64, Entry)> {
    let engine =
        RocksEngine::open_read_only(data.join(BOOKS), &RocksOptions::default()).expect("the books open");
    let mut reader = Reader::new(Arc::new(engine), *next);
    let mut entries = Vec::new();
    loop {
        let page = reader.next_entries(MAX_PAGE_EVENTS).expect("the log has no hole");
        if page.is_empty() {
            *next = reader.next_sequence();
            return entries;
        }
        entries.extend(page);
    }
}

/// The log of the node, read behind its back whenever it is dead: a log that is never more than one life ahead of its
/// reader is not cut before it was read.
#[derive(Debug)]
struct Follower {
    next: u64,
    check: LogCheck,
    judge: PostMortem,
}

impl Follower {
    fn new(did: Did) -> Self {
        Self { next: 1, check: LogCheck::default(), judge: PostMortem::new(vec![did]) }
    }

    /// Takes what its last life has written; everything that is wrong with it.
    fn read(&mut self, data: &Path) -> Vec<Breach> {
        let entries = read_log(data, &mut self.next);
        entries.iter().for_each(|(sequence, entry)| self.check.apply(*sequence, &entry.event));
        self.judge.read(vec![entries])
    }
}

/// What one log has shown so far.
#[derive(Debug, Default)]
struct LogCheck {
    attempts: BTreeSet<(Did, AttemptId)>,
    live: BTreeSet<AllocationId>,
    run: BTreeSet<AllocationId>,
    locks: BTreeSet<BidId>,
    submitted: BTreeSet<JobId>,
    ended: BTreeSet<JobId>,
}

impl LogCheck {
    /// At rest nothing may be open.
    fn check(&self, oracle: &SharedOracle) {
        assert!(self.live.is_empty(), "allocations that never ended: {:?}", self.live);
        assert!(self.locks.is_empty(), "locks that never ended: {:?}", self.locks);
        for id in &lock(oracle).recent {
            assert!(self.submitted.contains(id), "{id} was acknowledged and is not in the log");
            assert!(self.ended.contains(id), "{id} has no end in the log");
        }
    }

    fn apply(&mut self, sequence: u64, event: &Event) {
        match event {
            Event::BidSent { lock, .. } => assert!(self.locks.insert(lock.bid), "event {sequence}"),
            Event::LockEnded { bid, .. } => assert!(self.locks.remove(bid), "event {sequence}"),
            Event::AllocationAccepted { allocation, contract, .. } => {
                let terms = contract.value();
                assert!(self.locks.remove(&terms.bid), "event {sequence}: a lock is taken once");
                let is_new = self.attempts.insert((terms.requester, terms.attempt));
                assert!(is_new, "event {sequence}: {} is started twice", terms.attempt);
                for task in 0..terms.pod.tasks.len() {
                    let id = allocation.of_task(u16::try_from(task).expect("a pod has few"));
                    assert!(self.live.insert(id), "event {sequence}");
                }
            }
            Event::AllocationMoved { allocation, state: AllocationState::Running } => {
                assert!(self.live.contains(allocation), "event {sequence}");
                assert!(self.run.insert(*allocation), "event {sequence}: {allocation} runs twice");
            }
            Event::AllocationEnded { allocation, .. } => {
                assert!(self.live.remove(allocation), "event {sequence}")
            }
            Event::JobSubmitted { job } => assert!(self.submitted.insert(job.id), "event {sequence}"),
            Event::JobEnded { job, .. } => assert!(self.ended.insert(*job), "event {sequence}"),
            _ => {}
        }
    }
}

/// Waits until every job has ended and everything is free, and checks all that can be seen from outside.
async fn rest(client: &ApiClient, data: &Path, oracle: &SharedOracle, only_recent: bool) {
    let start = Instant::now();
    loop {
        // A machine that does much else may not answer at once.
        let (Ok(status), Ok(books)) = (client.status().await, client.capability().await) else {
            assert!(start.elapsed() < DEADLINE * 3, "no answer");
            continue;
        };
        let registered = books.registered.as_ref().expect("it stays onboarded");
        let is_free = books.available == registered.resources
            && books.locks.is_empty()
            && books.allocations.is_empty()
            && status.active_allocation_count == 0;
        if is_free && status.active_job_count == 0 {
            break;
        }
        assert!(start.elapsed() < DEADLINE * 3, "no rest: {status:?} {books:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    check_acknowledged(client, known(oracle, only_recent), false, true).await;
    // Removed by a thread of its own, a moment after the end.
    let work = data.join("work");
    let start = Instant::now();
    loop {
        let left: Vec<_> = std::fs::read_dir(&work).expect("it is there").flatten().collect();
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "work directories are left: {left:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How often the log says that each allocation began to run, over all lives.
fn assert_each_ran_once(log: &Path) -> usize {
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(log).expect("a log").lines() {
        if !line.contains("allocation moved") || !line.contains("state=running") {
            continue;
        }
        let allocation = line.split_whitespace().find_map(|word| word.strip_prefix("allocation="));
        *runs.entry(allocation.expect("it says which").to_owned()).or_default() += 1;
    }
    assert!(runs.values().all(|count| *count == 1), "started twice: {runs:?}");
    runs.len()
}

/// A pod of a twentieth of a core.
fn pod(module: ContentId, timeout: Millis) -> Pod {
    let mut pod = hand_made::pod(timeout);
    pod.requirement.cpu = CpuMillis(50);
    pod.requirement.memory = MemoryMib(1);
    pod.requirement.disk = DiskMib(1);
    pod.tasks[0].module = module;
    pod
}

/// The pod with so many tasks like its own, each with as much as that one had.
fn in_tasks(mut pod: Pod, count: u64) -> Pod {
    if count == 1 {
        return pod;
    }
    let need = &mut pod.requirement;
    let share = TaskResources { cpu: need.cpu, memory: need.memory, disk: need.disk };
    (need.cpu.0, need.memory.0, need.disk.0) =
        (count * share.cpu.0, count * share.memory.0, count * share.disk.0);
    let task = pod.tasks.remove(0);
    let named = |number| Task { name: format!("task-{number}"), resources: Some(share), ..task.clone() };
    pod.tasks = (0..count).map(named).collect();
    pod
}

/// A moment for the next kill: a failpoint with its count, or none and a time.
fn next_kill(number: usize, random: &mut Random) -> (Option<(&'static str, u64)>, Duration) {
    let point = number / 2 % failpoints::ALL.len();
    if number % 2 == 1 {
        let name = failpoints::ALL[point];
        // About as often as each is passed in a second.
        let end = match name {
            failpoints::BEFORE_SPAWN | failpoints::AFTER_SPAWN | failpoints::MID_RELEASE => 30,
            failpoints::BEFORE_ACKNOWLEDGE => 200,
            _ => 100,
        };
        (Some((name, 1 + random.below(end))), LONGEST_LIFE)
    } else {
        (None, Duration::from_micros(random.below(800_000)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_at_any_moment_loses_and_leaks_nothing() {
    let kills = size(24, 1000);
    let seed = std::env::var("DMS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) | 0x5eed << 32);
    println!("DMS_SEED={seed}");
    let mut random = Random(seed);
    let home = Home::new();
    std::fs::write(home.path().join("config.toml"), "lease = \"2s\"\nauction = \"50ms\"\n").expect("written");
    home.onboard("2", "1GiB");
    let logs = Home::new();
    let log = logs.path().join("log");
    let oracle = SharedOracle::default();
    let mut follower = Follower::new(home.did().parse().expect("a DID"));
    let mut killed: BTreeMap<&str, usize> = BTreeMap::new();
    let mut loaded = Duration::ZERO;
    for number in 0..kills {
        let (failpoint, time) = next_kill(number, &mut random);
        let mut at = failpoint.map_or("random", |(name, _)| name);
        let status = match Life::start(&home, &log, failpoint).await {
            // The failpoint was reached before it answered anybody.
            Err(status) => status,
            Ok(mut life) => {
                check_acknowledged(&life.client, known(&oracle, true), failpoint.is_some(), false).await;
                let mut pods = Vec::new();
                for (is_endless, timeout) in [(false, Millis(60_000)), (true, Millis(400))] {
                    // The node may die while it stores a module; the next one asks for it again.
                    let module = program(is_endless);
                    let _ = life.client.put_blob(module.clone()).await;
                    pods.push(pod(ContentId::of_bytes(module.as_bytes()), timeout));
                }
                let start = Instant::now();
                if load(&mut life, &oracle, &pods, time, &mut random).await {
                    at = "random";
                }
                loaded += start.elapsed();
                life.kill()
            }
        };
        assert_eq!(status.signal(), Some(SIGKILL), "the node ended by itself: see {}", log.display());
        *killed.entry(at).or_default() += 1;
        assert_eq!(follower.read(home.path()), [], "DMS_SEED={seed}");
        let is_last = number + 1 == kills;
        if (number + 1) % REST_EVERY == 0 || is_last {
            let start = Instant::now();
            loop {
                let life = Life::start(&home, &log, None).await.expect("it starts");
                if is_last && is_soak() {
                    tokio::time::sleep(AGREES_WITH_ITSELF).await;
                }
                rest(&life.client, home.path(), &oracle, !is_last).await;
                life.kill();
                assert_eq!(follower.read(home.path()), [], "DMS_SEED={seed}");
                follower.check.check(&oracle);
                let mut unsettled = follower.judge.finish();
                // Its last word to itself, that a result has arrived, may have been on its way when it was killed.
                unsettled.retain(|breach| breach.rule != DISAGREE || (is_last && is_soak()));
                if unsettled.is_empty() {
                    break;
                }
                assert!(start.elapsed() < DEADLINE * 3, "DMS_SEED={seed}: {unsettled:?}");
            }
            lock(&oracle).recent.clear();
        }
    }
    let run = assert_each_ran_once(&log);
    let Oracle { jobs, commands, acknowledged, .. } = &*lock(&oracle);
    assert!(run > 0 && !jobs.is_empty(), "nothing was shown");
    assert_eq!(killed.len(), 1 + failpoints::ALL.len(), "not every failpoint was reached: {killed:?}");
    let mut at = String::new();
    for (name, count) in &killed {
        let _ = write!(at, ", {count} {name}");
    }
    proof(&format!(
        "crashes: {kills} kills ({}), {commands} commands at {:.0}/s, {acknowledged} acknowledged and 0 lost, {} jobs \
         all ended, {} attempts and {run} runs none twice, 0 locks and 0 workloads left; {} events of its log judged, 0 \
         breaches",
        at.trim_start_matches(", "),
        *commands as f64 / loaded.as_secs_f64(),
        jobs.len(),
        follower.check.attempts.len(),
        follower.judge.summary().events,
    ));
}

/// Otherwise a misspelt failpoint would kill nobody and prove everything.
#[test]
fn a_failpoint_that_does_not_exist_is_refused() {
    let home = Home::new();
    for wrong in ["nowhere:1", "before-write", "before-write:0"] {
        let run = home.run_in_vain_under(&["env", &format!("{}={wrong}", failpoints::VARIABLE)], &[]);
        assert!(!run.status.success() && run.stderr.contains("is not NAME:COUNT"), "{wrong}: {run}");
    }
}
