//! Nodes that have work all the time for hours need no more of anything at the end than in the middle: no memory, no
//! file, no thread, no task, no message that waits; and no lock is left.
//!
//! `make soak HOURS=n` runs it with twenty real nodes; `make test` runs four of them for a minute, which finds only what
//! leaks fast. A quarter of the nodes are killed and started again from time to time, which the others have to live
//! with. Whatever a node needs while it warms up, in the first half, does not count. Ended jobs stay in memory for an
//! hour, so memory is flat only in the second half of two hours or more.

#[path = "endurance/trend.rs"]
mod trend;

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dms_actors::Actor;
use dms_messages::{ContentId, CpuMillis, Did, DiskMib, MemoryMib, Millis, Pod};
use dms_node::api::client::ApiClient;
use dms_node::api::types::NewJob;
use dms_node::commands::NodeStatus;
use dms_node::identity::BOOKS;
use dms_node::node::Node;
use dms_storage::log::EventLog;
use dms_storage::reader::{MAX_PAGE_EVENTS, Reader};
use dms_storage::{Entry, RocksEngine, RocksOptions};
use dms_tests::sim::oracle::rules::DISAGREE;
use dms_tests::sim::post_mortem::PostMortem;
use dms_tests::{DEADLINE, Home, Killed, dms, example, free_port, hand_made, proof};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Jobs that the mesh is handed in a second.
const JOBS_PER_SECOND: u64 = 4;
/// Most jobs that wait to be taken by a node; it may be dead for a while.
const IN_FLIGHT: usize = 64;
/// How often some node of those that are mortal dies in the whole time.
const KILLS: usize = 6;
/// How long a node stays dead.
const DEAD: Duration = Duration::from_secs(1);
/// How much memory a node may need more with every hour.
const MIB_PER_HOUR: f64 = 1.0;
/// How much more it may need at the end than in the middle, of a time that is too short for slopes: pages of the
/// allocator and the memtables of RocksDB are still being filled.
const MIB_OF_SHORT: f64 = 16.0;
/// How many more files may be open: RocksDB keeps a table or two of each column family open, the first of which come with
/// the first snapshot, and links to nodes that were restarted come and go.
const FILES: f64 = 32.0;
/// How many more threads: those that wait for disks and programs are kept for ten seconds after their last work.
const THREADS: f64 = 6.0;
/// How many more tasks: some for each link, and each job and allocation that is just running.
const TASKS: f64 = 24.0;
/// Messages that wait for a node at half of the looks: those of the moment.
const WAITING: f64 = 8.0;

/// How long, how many and how often.
#[derive(Debug, Clone, Copy)]
struct Plan {
    nodes: usize,
    time: Duration,
    between_looks: Duration,
}

impl Plan {
    /// As the environment asks for it.
    fn of_environment() -> Self {
        let hours = std::env::var("DMS_SOAK_HOURS").ok().filter(|text| !text.is_empty());
        match hours.map(|text| text.parse::<f64>()) {
            Some(Ok(hours)) if hours > 0.0 && hours < 10_000.0 => Self {
                nodes: 20,
                time: Duration::from_secs_f64(hours * 3600.0),
                between_looks: Duration::from_secs(10),
            },
            Some(hours) => panic!("DMS_SOAK_HOURS is a number of hours, not {hours:?}"),
            None => Self { nodes: 4, time: Duration::from_secs(60), between_looks: Duration::from_secs(1) },
        }
    }

    /// How many nodes are killed now and then.
    fn mortals(&self) -> usize {
        self.nodes / 4
    }

    /// True if it lasts for long enough that memory is judged by the hour.
    fn is_long(&self) -> bool {
        self.time >= Duration::from_secs(3600)
    }
}

/// What a node needs at one moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    memory_mib: f64,
    files: f64,
    threads: f64,
    tasks: f64,
    waiting: f64,
}

/// What the system says of a process; none if it is gone.
fn look_at_process(process: u32) -> Option<(f64, f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let number = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?.count();
    Some((number("VmRSS:")? / 1024.0, files as f64, number("Threads:")?))
}

/// A node with all that was seen of it.
struct Member {
    home: Home,
    log: PathBuf,
    port: u16,
    client: ApiClient,
    process: Option<Killed>,
    bootstrap: Option<String>,
    deaths: u32,
    /// Since the process that runs now was started, by seconds since the beginning.
    looks: Vec<(f64, Look)>,
    most_waiting: f64,
}

impl Member {
    fn new(logs: &Path, number: usize) -> Self {
        let home = Home::new();
        // The least time for which ended jobs can be kept in memory.
        let config = format!("keep_history = \"1h\"\nlabels = {{ number = \"{number}\" }}\n");
        std::fs::write(home.path().join("config.toml"), config).expect("written");
        home.onboard("1", "512MiB");
        Self {
            client: ApiClient::new(home.path().join("api.sock")),
            home,
            log: logs.join(number.to_string()),
            port: free_port(),
            process: None,
            bootstrap: None,
            deaths: 0,
            looks: Vec::new(),
            most_waiting: 0.0,
        }
    }

    async fn start(&mut self) -> NodeStatus {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log can be written");
        let mut command = Command::new(dms());
        command.arg("--data").arg(self.home.path());
        // Twenty nodes share this machine: none of them is another's owner.
        command.env("DMS_OWNER_FIRST", "false");
        command.args(["run", "--open", "--no-mdns", "--stop-on-eof"]);
        command.args(["--listen", &format!("/ip4/127.0.0.1/tcp/{}", self.port)]);
        command.args(self.bootstrap.iter().flat_map(|address| ["--bootstrap", address]));
        command.env("DMS_LOG", "warn").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.process = Some(Killed(command.spawn().expect("the program can be run")));
        self.looks.clear();
        let log = self.log.clone();
        wait_for(&self.client, &format!("the start of a node, see {}", log.display()), |status| {
            !status.addresses.is_empty()
        })
        .await
    }

    fn kill(&mut self) {
        self.process = None;
        self.deaths += 1;
    }

    /// Sees what it needs now; nothing if it is dead.
    async fn look(&mut self, at: f64) {
        let Some(process) = &self.process else { return };
        let Some((memory_mib, files, threads)) = look_at_process(process.0.id()) else {
            panic!("a node ended by itself: see {}", self.log.display());
        };
        // A node that is too busy to answer now is looked at again.
        let Ok(status) = self.client.status().await else { return };
        let (tasks, waiting) = (status.task_count as f64, status.waiting_messages as f64);
        self.most_waiting = self.most_waiting.max(waiting);
        self.looks.push((at, Look { memory_mib, files, threads, tasks, waiting }));
    }

    fn points(&self, of: fn(&Look) -> f64) -> Vec<(f64, f64)> {
        self.looks.iter().map(|(at, look)| (*at, of(look))).collect()
    }
}

/// Looks until the node stands so.
async fn wait_for(client: &ApiClient, what: &str, is_so: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
    let start = Instant::now();
    loop {
        match client.status().await {
            Ok(status) if is_so(&status) => return status,
            status => assert!(start.elapsed() < DEADLINE * 3, "{what} did not come: {status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Small jobs: one that says a word, one that reads its input, one that fails.
fn pods() -> Vec<(Vec<u8>, Pod)> {
    let programs = ["programs/hello.wat", "programs/wordcount.wasm", "programs/trap.wat"];
    let pods = programs.map(|name| {
        let module = std::fs::read(example(name)).expect("an example is there");
        let mut pod = hand_made::pod(Millis(10_000));
        pod.requirement.cpu = CpuMillis(100);
        pod.requirement.memory = MemoryMib(16);
        pod.requirement.disk = DiskMib(1);
        pod.tasks[0].module = ContentId::of_bytes(&module);
        (module, pod)
    });
    pods.into()
}

/// What every node needs at the end, and what of it is too much.
#[derive(Debug, Default)]
struct Verdict {
    table: String,
    wrong: Vec<String>,
    highest_slope: f64,
    highest_growth: f64,
}

impl Verdict {
    fn judge(&mut self, plan: Plan, end: f64, number: usize, member: &Member) {
        // What warms up again after a restart is not what leaks.
        let growth = |of| trend::growth(&member.points(of), end).filter(|_| member.deaths == 0);
        let late = |of: fn(&Look) -> f64| {
            let points = member.points(of).into_iter().filter(|(at, _)| *at >= end / 2.0);
            points.collect::<Vec<_>>()
        };
        let middle =
            |of: fn(&Look) -> f64| trend::median(late(of).into_iter().map(|(_, y)| y)).unwrap_or_default();
        let slope = trend::slope(&late(|look| look.memory_mib)).unwrap_or_default() * 3600.0;
        let text = |growth: Option<f64>| growth.map_or("-".to_owned(), |growth| format!("{growth:+.0}"));
        /// What it is, how it is read, and how much more of it there may be.
        type Held = (&'static str, fn(&Look) -> f64, f64);
        let of: [Held; 4] = [
            ("MiB", |look| look.memory_mib, MIB_OF_SHORT),
            ("files", |look| look.files, FILES),
            ("threads", |look| look.threads, THREADS),
            ("tasks", |look| look.tasks, TASKS),
        ];
        let _ = write!(self.table, "{number:>4} {:>6} {:>6}", member.deaths, member.looks.len());
        for (name, of, bound) in of {
            let _ = write!(self.table, " {:>7.0} {:>5}", middle(of), text(growth(of)));
            let Some(growth) = growth(of) else { continue };
            let is_memory = name == "MiB";
            if is_memory {
                self.highest_growth = self.highest_growth.max(growth);
            }
            let is_too_much = match is_memory {
                true => !plan.is_long() && growth >= bound,
                // Fewer at the end is as strange as more.
                false => growth.abs() > bound,
            };
            if is_too_much {
                self.wrong.push(format!("node {number} has {growth:+.1} {name}, and {bound} are allowed"));
            }
        }
        let waiting = middle(|look| look.waiting);
        let _ = writeln!(self.table, " {slope:>8.2} {waiting:>4.0} {:>4.0}", member.most_waiting);
        if member.deaths == 0 && plan.is_long() {
            self.highest_slope = self.highest_slope.max(slope);
            if slope >= MIB_PER_HOUR {
                self.wrong.push(format!("node {number} needs {slope:+.2} MiB more every hour"));
            }
        }
        if waiting > WAITING || member.most_waiting >= Node::MAILBOX as f64 {
            let most = member.most_waiting;
            self.wrong.push(format!("{waiting} messages wait for node {number}, and {most} did once"));
        }
    }
}

/// The log of a node that does not run; none if its beginning was cut, as it is after 50,000 events.
fn read_log(home: &Home) -> Option<Vec<(u64, Entry)>> {
    let engine = RocksEngine::open_read_only(home.path().join(BOOKS), &RocksOptions::default());
    let engine = engine.expect("the books open");
    if EventLog::first_sequence(&engine).expect("the log is whole") != Some(1) {
        return None;
    }
    let mut reader = Reader::new(std::sync::Arc::new(engine), 1);
    let mut entries = Vec::new();
    loop {
        let page = reader.next_entries(MAX_PAGE_EVENTS).expect("the log is whole");
        if page.is_empty() {
            return Some(entries);
        }
        entries.extend(page);
    }
}

/// Starts all of them, as one mesh.
async fn start_mesh(members: &mut [Member]) -> Vec<Did> {
    let mut dids = Vec::new();
    for number in 0..members.len() {
        let status = members[number].start().await;
        dids.push(status.id.did);
        let address = status.addresses.first().cloned();
        // Everybody knows the first one, which knows the second one when it is started again.
        match number {
            0 => members[1..].iter_mut().for_each(|member| member.bootstrap = address.clone()),
            1 => members[0].bootstrap = address,
            _ => {}
        }
    }
    let count = members.len() / 2;
    for member in members {
        wait_for(&member.client, "its peers", |status| {
            status.peers.iter().filter(|peer| peer.is_provider).count() >= count
        })
        .await;
    }
    dids
}

/// Has every node run each program once: the first ones cost it some 20 MiB, for the compiler and for threads.
async fn warm_up(members: &[Member], pods: &[(Vec<u8>, Pod)]) {
    for (number, member) in members.iter().enumerate() {
        for (_, pod) in pods {
            let mut pod = pod.clone();
            pod.requirement.labels.insert("number".to_owned(), number.to_string());
            member.client.submit(&new_job("warm-up".to_owned(), pod)).await.expect("it is taken");
        }
    }
    for member in members {
        wait_for(&member.client, "the end of the first jobs", |status| status.active_job_count == 0).await;
    }
}

fn new_job(name: String, pod: Pod) -> NewJob {
    let (wait, max_attempts) = (Some(Millis(60_000)), Some(20));
    NewJob { name, pods: vec![pod], max_price: None, wanted: Some(2), wait, max_attempts }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_that_works_for_long_needs_no_more_of_anything() {
    let plan = Plan::of_environment();
    let logs = Home::new();
    let mut members: Vec<Member> = (0..plan.nodes).map(|number| Member::new(logs.path(), number)).collect();
    let dids = start_mesh(&mut members).await;
    let pods = pods();
    for member in &members {
        for (module, _) in &pods {
            member.client.put_blob(module.clone()).await.expect("the node answers");
        }
    }

    warm_up(&members, &pods).await;

    let start = Instant::now();
    let mut work = tokio::time::interval(Duration::from_micros(1_000_000 / JOBS_PER_SECOND));
    let mut looks = tokio::time::interval(plan.between_looks);
    let mut kills = tokio::time::interval(plan.time / (KILLS as u32 + 1));
    for ticks in [&mut work, &mut looks, &mut kills] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    kills.tick().await;
    let (mut submitted, mut taken, mut killed) = (0, 0, 0);
    let mut dead: Option<(usize, tokio::time::Instant)> = None;
    let mut submissions = JoinSet::new();
    while start.elapsed() < plan.time {
        tokio::select! {
            biased;
            _ = looks.tick() => {
                for member in &mut members {
                    member.look(start.elapsed().as_secs_f64()).await;
                }
            }
            () = tokio::time::sleep_until(dead.map_or_else(tokio::time::Instant::now, |(_, until)| until)),
                if dead.is_some() =>
            {
                let (number, _) = dead.take().expect("it was asked");
                members[number].start().await;
            }
            _ = kills.tick(), if killed < KILLS && dead.is_none() => {
                // The last ones: the first one is whom everybody asks on its start.
                let number = plan.nodes - 1 - killed % plan.mortals();
                members[number].kill();
                killed += 1;
                dead = Some((number, tokio::time::Instant::now() + DEAD));
            }
            _ = work.tick() => {
                while let Some(is_taken) = submissions.try_join_next() {
                    taken += usize::from(is_taken.expect("it is answered or fails"));
                }
                if submissions.len() >= IN_FLIGHT {
                    // One more than that waits for whoever is dead.
                    continue;
                }
                let client = members[submitted % plan.nodes].client.clone();
                let pod = pods[submitted / plan.nodes % pods.len()].1.clone();
                let name = format!("job {submitted}");
                submitted += 1;
                submissions.spawn(async move {
                    client.submit(&new_job(name, pod)).await.is_ok()
                });
            }
        }
    }
    let end = start.elapsed().as_secs_f64();
    if let Some((number, _)) = dead {
        members[number].start().await;
    }
    while let Some(is_taken) = submissions.join_next().await {
        taken += usize::from(is_taken.expect("it is answered or fails"));
    }

    // Of all nodes first: whoever has a job yet may ask anybody.
    for member in &members {
        wait_for(&member.client, "the end of all jobs", |status| status.active_job_count == 0).await;
    }
    for member in &members {
        wait_for(&member.client, "the end of all locks", |status| {
            status.active_allocation_count == 0 && status.lock_count == 0
        })
        .await;
        let books = member.client.capability().await.expect("the node answers");
        assert!(books.locks.is_empty() && books.allocations.is_empty(), "{books:?}");
        assert_eq!(Some(books.available), books.registered.map(|it| it.resources), "all is free again");
    }
    let mut verdict = Verdict::default();
    verdict.table.push_str(
        "node deaths looks     MiB    +/-  files   +/- threads  +/-   tasks   +/-    MiB/h wait most\n",
    );
    for (number, member) in members.iter_mut().enumerate() {
        verdict.judge(plan, end, number, member);
        member.process = None;
        let log = std::fs::read_to_string(&member.log).expect("its log is there");
        let panic = log.lines().find(|line| line.contains("panicked"));
        verdict.wrong.extend(panic.map(|line| format!("node {number}: {line}")));
    }
    println!("{}", verdict.table);
    let mut judged = "their logs, of which the beginnings are cut, are not judged".to_owned();
    // Nor would logs of hours fit into the memory of one judge.
    let logs = members.iter().filter(|_| !plan.is_long()).map(|member| read_log(&member.home));
    if let Some(entries) = logs.collect::<Option<Vec<_>>>().filter(|logs| !logs.is_empty()) {
        let mut judge = PostMortem::new(dids);
        let mut breaches = judge.read(entries);
        // Last words were on their way when all were killed.
        breaches.extend(judge.finish().into_iter().filter(|breach| breach.rule != DISAGREE));
        verdict.wrong.extend(breaches.iter().map(ToString::to_string));
        judged = format!("{} events of all logs judged together, 0 breaches", judge.summary().events);
    }
    assert!(verdict.wrong.is_empty(), "{}", verdict.wrong.join("\n"));
    assert!(taken > 0 && killed > 0, "nothing was shown");
    let memory = match plan.is_long() {
        true => format!("at most {:+.2} MiB an hour", verdict.highest_slope),
        false => format!("at most {:+.1} MiB from the second quarter to the last", verdict.highest_growth),
    };
    proof(&format!(
        "endurance: {} nodes for {:.0} s, {taken} jobs, {killed} kills: {memory}, files, threads and tasks flat, \
         0 panics, 0 locks left; {judged}",
        plan.nodes, end,
    ));
}
