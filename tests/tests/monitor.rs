//! The machine is watched: bids follow its owner's use and nothing that was promised does, a meter that fails or hangs
//! holds nothing up, and what is counted can be read by people and by Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dms_messages::{
    AttemptId, Bid, BidRequestId, Capability, CpuMillis, DeclineReason, Dimension, DiskMib, JobId, MemoryMib,
    Millis, Pod,
};
use dms_node::api::metrics;
use dms_node::capability::headroom::{MachineSample, Reserve};
use dms_node::commands::CapabilityView;
use dms_node::monitor::{GetMeasurements, GetSamples, HostMeter, MeterError, Monitoring, SamplesView};
use dms_storage::MemoryEngine;
use dms_tests::ear::Said;
use dms_tests::stage::{HoldingExecutor, Provider, Requester};
use dms_tests::{DEADLINE, Home, example, hand_made, pair, wait_for};

/// How often the made-up machines are sampled: three of these are longer than anything here is held up.
const PERIOD: Duration = Duration::from_millis(500);
/// A lease that outlives every test.
const LEASE: Duration = Duration::from_secs(600);

/// A machine that says whatever a test wants.
#[derive(Debug, Default)]
struct MadeUp {
    answer: Mutex<Answer>,
    changed: Condvar,
}

#[derive(Debug, Default)]
enum Answer {
    /// The owner uses nothing.
    #[default]
    Idle,
    /// The owner leaves so much memory.
    Memory(u64),
    /// It does not answer before it may.
    Hanging,
    /// It says that it does not know.
    Failing,
}

impl MadeUp {
    fn say(&self, answer: Answer) {
        *self.answer.lock().expect("nobody panics under the lock") = answer;
        self.changed.notify_all();
    }
}

impl HostMeter for MadeUp {
    fn sample(&self) -> Result<MachineSample, MeterError> {
        let answer = self.answer.lock().expect("nobody panics under the lock");
        let is_hanging = |answer: &mut Answer| matches!(answer, Answer::Hanging);
        let answer = self.changed.wait_while(answer, is_hanging).expect("nobody panics under the lock");
        let machine = hand_made::machine();
        let memory_free = match &*answer {
            Answer::Failing | Answer::Hanging => return Err(MeterError("made up".to_owned())),
            Answer::Idle => machine.memory,
            Answer::Memory(left) => MemoryMib(*left),
        };
        Ok(MachineSample {
            cpu: machine.cpu,
            memory: machine.memory,
            memory_free,
            disk: machine.disk,
            disk_free: machine.disk,
            ..MachineSample::default()
        })
    }
}

/// A node on a made-up machine, and a requester.
struct Stage {
    host: Arc<MadeUp>,
    executor: Arc<HoldingExecutor>,
    provider: Provider,
    requester: Requester,
    asked: u8,
}

impl Stage {
    async fn new() -> Self {
        let (host, executor) = (Arc::<MadeUp>::default(), HoldingExecutor::shared());
        let meter: Arc<dyn HostMeter> = Arc::<MadeUp>::clone(&host);
        let monitoring =
            Monitoring { meter, period: PERIOD, is_owner_first: true, reserve: Reserve::default() };
        let engine = Arc::new(MemoryEngine::new());
        let provider = Provider::start_measured(
            engine,
            Arc::<HoldingExecutor>::clone(&executor),
            hand_made::capability(),
            LEASE,
            monitoring,
        )
        .await;
        let requester = provider.requester(2);
        Self { host, executor, provider, requester, asked: 0 }
    }

    async fn samples(&self) -> SamplesView {
        self.provider.node.ask(GetSamples { limit: 5 }).timeout(DEADLINE).await.expect("the node answers")
    }

    /// Waits until the machine's samples are so.
    async fn wait(&self, what: &str, is_there: impl Fn(&SamplesView) -> bool) -> SamplesView {
        let look = async {
            loop {
                let samples = self.samples().await;
                if is_there(&samples) {
                    return samples;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, look).await {
            Ok(samples) => samples,
            Err(_) => panic!("{what} did not come; last: {:?}", self.samples().await),
        }
    }

    /// Asks for a bid on the next job; what is answered.
    async fn ask(&mut self) -> Result<Bid, DeclineReason> {
        self.asked += 1;
        let (job, request) = (self.job(), BidRequestId::from_random([self.asked; 16]));
        self.requester.ask(job, request, &pod()).await;
        loop {
            match self.requester.hear().await {
                Said::Bid(bid) => return Ok(bid.into_value()),
                Said::Decline(decline) => return Err(decline.reason),
                _ => {}
            }
        }
    }

    fn job(&self) -> JobId {
        JobId::from_random([self.asked; 16])
    }

    /// Takes a bid on the job asked for last (or before, if it is said which), and waits until it is accepted.
    async fn invoke(&mut self, bid: &Bid, job: JobId) {
        self.requester.invoke(bid, AttemptId { job, pod: 0, number: 1 }, pod()).await;
        loop {
            match self.requester.hear().await {
                Said::Accepted(_) => return,
                Said::Refused(refused) => panic!("a lock that was given does not hold: {refused:?}"),
                _ => {}
            }
        }
    }

    async fn running(&self, count: usize) {
        let mut running = self.executor.running();
        let waited = tokio::time::timeout(DEADLINE, running.wait_for(|running| *running == count)).await;
        waited.expect("it starts in time").expect("the executor lives");
    }

    async fn stop(self) {
        self.host.say(Answer::Idle);
        self.requester.stop().await;
        self.provider.stop().await;
    }
}

fn pod() -> Pod {
    hand_made::pod(Millis(600_000))
}

#[track_caller]
fn assert_law(view: &CapabilityView) {
    let registered = &view.registered.as_ref().expect("it is onboarded").resources;
    let promised = view.locked.checked_add(&view.allocated).expect("it adds up");
    assert_eq!(view.available.checked_add(&promised).as_ref(), Some(registered), "the law of the books");
}

/// The reason is the owner, in this dimension alone.
#[track_caller]
fn assert_owners(declined: Result<Bid, DeclineReason>, dimension: Dimension) {
    match declined {
        Err(DeclineReason::Busy { shortfalls }) => {
            let found: Vec<_> = shortfalls.iter().map(|it| (it.dimension, it.is_owners)).collect();
            assert_eq!(found, [(dimension, true)], "{shortfalls:?}");
        }
        other => panic!("not declined for the owner: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bids_stop_while_the_owner_uses_the_machine_and_what_was_promised_goes_on() {
    let mut stage = Stage::new().await;
    let (first, first_job) = (stage.ask().await.expect("the machine is idle"), stage.job());
    stage.invoke(&first, first_job).await;
    stage.running(1).await;
    // A bid that is not taken yet, and then the owner takes everything.
    let (held, held_job) = (stage.ask().await.expect("there is room for more"), stage.job());
    let before = stage.provider.capability().await;
    stage.host.say(Answer::Memory(0));
    let bounded = stage.wait("the bound", |it| it.room.memory == Some(MemoryMib(0))).await;
    assert_eq!(bounded.offered.memory, MemoryMib(0));
    assert_eq!(bounded.offered.cpu, before.available.cpu, "of the rest there is as much as ever");
    assert_owners(stage.ask().await, Dimension::Memory);
    assert_owners(stage.ask().await, Dimension::Memory);
    // The books know nothing of it: the lock holds, and becomes an allocation.
    let during = stage.provider.capability().await;
    assert_law(&during);
    assert_eq!((&during.available, &during.locked), (&before.available, &before.locked));
    stage.invoke(&held, held_job).await;
    stage.running(2).await;
    assert_law(&stage.provider.capability().await);
    // Less than all: what is left beyond what is promised may be promised.
    let promised = 2 * pod().requirement.memory.0;
    stage.host.say(Answer::Memory(promised + pod().requirement.memory.0));
    stage.wait("room for one more", |it| it.offered.memory == pod().requirement.memory).await;
    stage.ask().await.expect("it fits exactly");
    assert_owners(stage.ask().await, Dimension::Memory);
    stage.host.say(Answer::Idle);
    stage.wait("the owner's pause", |it| it.offered == stage_free(&during, 3)).await;
    stage.ask().await.expect("the owner is gone");
    assert_eq!(*stage.executor.running().borrow(), 2, "all the while");
    assert_law(&stage.provider.capability().await);
    stage.stop().await;
}

/// What the books of [`hand_made::machine`] have free with so many pods promised.
fn stage_free(view: &CapabilityView, pods: u64) -> dms_messages::Resources {
    let need = pod().requirement;
    let whole = view.registered.as_ref().map(|it: &Capability| it.resources.clone()).unwrap_or_default();
    dms_messages::Resources {
        cpu: CpuMillis(whole.cpu.0 - pods * need.cpu.0),
        memory: MemoryMib(whole.memory.0 - pods * need.memory.0),
        disk: DiskMib(whole.disk.0 - pods * need.disk.0),
        ..whole
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_meter_that_fails_or_hangs_stops_neither_the_node_nor_bids_for_ever() {
    for answer in [Answer::Failing, Answer::Hanging] {
        let mut stage = Stage::new().await;
        stage.host.say(Answer::Memory(0));
        stage.wait("the bound", |it| it.room.memory == Some(MemoryMib(0))).await;
        assert_owners(stage.ask().await, Dimension::Memory);
        stage.host.say(answer);
        let stale = stage.wait("that it is known to be stale", |it| it.is_stale).await;
        assert_eq!(stale.room, Default::default(), "what is of another time bounds nothing");
        stage.ask().await.expect("the books have room");
        // It comes back, and so does the bound.
        stage.host.say(Answer::Memory(0));
        stage.wait("the bound again", |it| it.room.memory == Some(MemoryMib(0))).await;
        assert_owners(stage.ask().await, Dimension::Memory);
        stage.stop().await;
    }
}

/// The samples of a page, by name and labels, if it keeps every rule of the text format 0.0.4.
#[track_caller]
fn strictly(page: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        let mut letters = name.chars();
        letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':')
            && letters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let (mut help, mut family): (Option<String>, Option<(String, String)>) = (None, None);
    assert!(page.ends_with('\n') && !page.contains('\r'), "lines end with a line feed");
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap_or_else(|| panic!("no help in {line:?}"));
            assert!(is_name(name) && !text.trim().is_empty(), "{line:?}");
            help = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type in {line:?}"));
            assert_eq!(help.take().as_deref(), Some(name), "a type follows its help");
            assert!(["counter", "gauge"].contains(&kind), "{line:?}");
            assert!(name.starts_with("dms_"), "{line:?}");
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "counters are called so, and nothing else: {line:?}"
            );
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            family = Some((name.to_owned(), kind.to_owned()));
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line:?}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number in {line:?}"));
            let name = series.split('{').next().unwrap_or_default();
            let (of, kind) = family.as_ref().unwrap_or_else(|| panic!("before any type: {line:?}"));
            assert_eq!(name, of, "a sample stands under its type");
            assert!(value.is_finite() && (kind != "counter" || value >= 0.0), "{line:?}");
            if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
                let inner = labels.strip_prefix("{").and_then(|it| it.strip_suffix("}"));
                for label in inner.unwrap_or_else(|| panic!("{line:?}")).split(',') {
                    let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("{line:?}"));
                    let quoted = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
                    let plain = quoted.unwrap_or_else(|| panic!("{line:?}"));
                    assert!(is_name(name) && !plain.contains(['"', '\\']), "{line:?}");
                }
            }
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
    }
    samples
}

/// Holds the law of the books against what the page says.
#[track_caller]
fn assert_law_in(samples: &BTreeMap<String, f64>) {
    for name in ["cpu_cores", "memory_bytes", "disk_bytes", "gpus", "ports"] {
        let of = |state: &str| {
            let series = format!("dms_capability_{name}{{state=\"{state}\"}}");
            *samples.get(&series).unwrap_or_else(|| panic!("{series} is missing"))
        };
        let parts = of("available") + of("locked") + of("allocated");
        assert!((of("registered") - parts).abs() < 1e-6, "{name}: {} is not {parts}", of("registered"));
        assert!(of("offered") <= of("available"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_prometheus_reads_keeps_the_format_and_the_law_of_the_books() {
    let mut stage = Stage::new().await;
    let (bid, job) = (stage.ask().await.expect("the machine is idle"), stage.job());
    stage.invoke(&bid, job).await;
    stage.running(1).await;
    stage.ask().await.expect("there is room for more");
    stage.host.say(Answer::Memory(0));
    stage.wait("the bound", |it| it.room.memory == Some(MemoryMib(0))).await;
    assert_owners(stage.ask().await, Dimension::Memory);
    // The allocation's gauge arrives as a message of its own.
    stage.wait("the gauge", |it| it.allocations.iter().any(|it| it.usage.is_some())).await;
    let measured = stage.provider.node.ask(GetMeasurements).timeout(DEADLINE).await;
    let page = metrics::text(&measured.expect("the node answers")).expect("names and labels keep the rules");
    let samples = strictly(&page);
    assert_law_in(&samples);
    let cores = hand_made::machine().cpu.0 as f64 / 1000.0;
    for (series, value) in [
        ("dms_bids_total", 2.0),
        ("dms_declines_total{reason=\"busy_owner\"}", 1.0),
        ("dms_locks", 1.0),
        ("dms_allocations{state=\"running\"}", 1.0),
        ("dms_capability_cpu_cores{state=\"registered\"}", cores),
        ("dms_capability_memory_bytes{state=\"offered\"}", 0.0),
        ("dms_machine_cpu_cores", cores),
        ("dms_machine_memory_free_bytes", 0.0),
        ("dms_machine_stale", 0.0),
        ("dms_serving", 1.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}\n{page}");
    }
    assert_eq!(samples.keys().filter(|it| it.starts_with("dms_allocation_memory_bytes{")).count(), 1);
    for absent in [stage.requester.did.to_string(), job.to_string()] {
        assert!(!page.contains(&absent), "no peer and no job is a label");
    }
    stage.stop().await;
}

/// What a node answers over its socket: the head and the body.
fn over_socket(home: &Home, path: &str) -> (String, String) {
    let mut socket = UnixStream::connect(home.path().join("api.sock")).expect("the node is there");
    socket.set_read_timeout(Some(DEADLINE)).expect("it is a time");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: dms\r\nConnection: close\r\n\r\n").expect("the node reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("the node answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    (head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn a_node_says_what_it_measures_over_its_socket_and_what_runs_on_it() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (_provider, requester) = pair(&provider_home, &requester_home);
    let spin = example("programs/spin.wat");
    let submitted = requester_home
        .json(&["job", "run", "--wasm", &spin, "--cpu", "500m", "--memory", "64MiB", "--detach"]);
    let job = submitted["job"].as_str().unwrap_or_else(|| panic!("no id in {submitted}")).to_owned();
    requester.wait_for_job(&job, &["running"]);
    let allocation = wait_for("the usage of a live allocation", || {
        let list = provider_home.json(&["alloc", "ls"]);
        let id = list[0]["id"].as_str().unwrap_or_default().to_owned();
        let view = provider_home.json(&["alloc", "show", &id]);
        let usage = &view["usage"];
        let is_used = usage["cpu_time"].as_u64() > Some(0) && usage["peak_memory"].as_u64() > Some(0);
        if is_used { Ok(id) } else { Err(view) }
    });
    let text = provider_home.dms(&["alloc", "show", &allocation]).stdout;
    assert!(text.contains("cores now") && text.contains("at most"), "{text}");
    // The real machine has a first sample at once.
    let page = wait_for("the machine", || {
        let (head, page) = over_socket(&provider_home, "/metrics");
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        if page.contains("dms_machine_memory_bytes ") { Ok(page) } else { Err(page) }
    });
    let samples = strictly(&page);
    assert_law_in(&samples);
    assert!(samples["dms_machine_cpu_cores"] >= 1.0 && samples["dms_process_memory_bytes"] > 0.0, "{page}");
    let watched = provider_home.dms(&["status", "--watch=0"]);
    assert_eq!(watched.code(), Some(2), "{watched}");
    let cancelled = requester_home.dms(&["job", "cancel", &job]);
    assert!(cancelled.status.success(), "{cancelled}");
}

#[test]
fn a_job_that_waits_for_an_owner_is_explained() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    provider_home.onboard("1", "256MiB");
    // More than any machine has free: the owner wants all of it, from the third sample on.
    let config = "owner_reserve_memory = \"100TiB\"\nmonitor_period = \"1s\"\n";
    std::fs::write(provider_home.path().join("config.toml"), config).expect("a small file can be written");
    let environment = ["env", "DMS_OWNER_FIRST=true"];
    let provider = provider_home.start_under(&environment, &["--listen", "/ip4/127.0.0.1/tcp/0", "--open"]);
    wait_for("the bound", || {
        let (_, body) = over_socket(&provider_home, "/v1/samples?limit=1");
        let samples: serde_json::Value = serde_json::from_str(&body).expect("an answer is JSON");
        assert_eq!(samples["is_owner_first"], true, "{samples}");
        if samples["room"]["memory"] == 0 { Ok(()) } else { Err(samples) }
    });
    let requester = requester_home.start(&["--open", "--bootstrap", &provider.address()]);
    requester.wait_for_providers(1);
    let hello = example("programs/hello.wat");
    let submitted = requester_home.json(&["job", "run", "--wasm", &hello, "--memory", "64MiB", "--detach"]);
    let job = submitted["job"].as_str().unwrap_or_else(|| panic!("no id in {submitted}")).to_owned();
    let explained = wait_for("the reason", || {
        let explained = requester_home.dms(&["job", "explain", &job]).stdout;
        if explained.contains("owner uses it") { Ok(explained) } else { Err(explained) }
    });
    assert!(
        explained.contains("needs 64 MiB memory, have 0 MiB while the machine's owner uses it"),
        "{explained}"
    );
    let books = provider_home.json(&["capability"]);
    assert_eq!(books["available"], books["registered"]["resources"], "the books know nothing of it");
}
