//! A trace of what happens in which order: no byte of a promise leaves before the sync of the batch that records it.
//!
//! Twice. Once over the real Node with an engine and a transport that write down, in one list, when a synced write has
//! returned and which bytes were handed to the network. And once over a real process under `strace`: the calls that
//! write a promise into the log of the books, the `fdatasync` behind them, and the call that acknowledges it. Words to
//! peers are encrypted there; what is looked for instead is the log line that the Node writes right before it speaks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use dms_actors::transport::{Duplex, OpenError, Pipe, Transport, TransportEvent};
use dms_messages::{
    AllocationId, AttemptId, BidId, BidRequestId, Cancel, Capability, ContentId, CpuMillis, Did, DiskMib,
    ExecutorKind, JobId, MemoryMib, Millis, Pod, Resources, StopCause, from_canonical_within,
};
use dms_node::api::client::ApiClient;
use dms_node::api::types::NewJob;
use dms_node::identity::BOOKS;
use dms_storage::engine::{Row, ScanRange};
use dms_storage::schema::Family;
use dms_storage::{Batch, Durability, Engine, EngineError, Entry, Event, MemoryEngine};
use dms_tests::ear::Said;
use dms_tests::stage::{HoldingExecutor, Provider, Requester};
use dms_tests::{DEADLINE, Home, hand_made, proof, size, skip, wait_for};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How often each requester asks: fewer than a quarter of the machine, which is the most it may hold.
const REQUESTS: usize = 12;

/// How many jobs are handed in to the traced process at once.
const AT_A_TIME: usize = 10;

/// One thing that happened.
#[derive(Debug)]
enum Step {
    /// These promises are on the disk.
    Synced(Vec<[u8; 16]>),
    /// These bytes were handed to the network, on this pipe.
    Left(usize, Vec<u8>),
}

/// All that happened, in its order.
#[derive(Debug, Default)]
struct Trace {
    steps: Vec<Step>,
    pipes: usize,
}

type SharedTrace = Arc<Mutex<Trace>>;

/// An engine that writes down when a promise is safe.
#[derive(Debug)]
struct TracedEngine {
    inner: MemoryEngine,
    trace: SharedTrace,
    /// Written and not yet synced.
    waiting: Mutex<Vec<[u8; 16]>>,
}

/// What an event promises to others.
fn promise(event: &Event) -> Option<[u8; 16]> {
    match event {
        Event::BidSent { lock, .. } => Some(*lock.bid.as_bytes()),
        Event::AllocationAccepted { allocation, .. } => Some(*allocation.as_bytes()),
        _ => None,
    }
}

impl Engine for TracedEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let events = batch.writes().iter().filter(|write| write.family == Family::Events);
        // Behind the version of the frame.
        let entries = events
            .filter_map(|write| from_canonical_within::<Entry>(&write.value.as_ref()?[1..], 1 << 22).ok());
        let promises: Vec<[u8; 16]> = entries.filter_map(|entry| promise(&entry.event)).collect();
        let mut waiting = self.waiting.lock().unwrap();
        waiting.extend(promises);
        self.inner.write(batch, durability)?;
        if durability == Durability::Synced && !waiting.is_empty() {
            let synced = Step::Synced(std::mem::take(&mut waiting));
            self.trace.lock().unwrap().steps.push(synced);
        }
        Ok(())
    }
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.inner.get(family, key)
    }
    fn scan(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.inner.scan(family, range, limit)
    }
    fn scan_back(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.inner.scan_back(family, range, limit)
    }
}

/// A transport that writes down what leaves.
struct TracedTransport {
    inner: Arc<dyn Transport>,
    trace: SharedTrace,
}

struct TracedPipe {
    inner: Pipe,
    number: usize,
    trace: SharedTrace,
}

fn traced(inner: Pipe, trace: &SharedTrace) -> Pipe {
    let number = {
        let mut trace = trace.lock().unwrap();
        trace.pipes += 1;
        trace.pipes
    };
    let pipe: Box<dyn Duplex> = Box::new(TracedPipe { inner, number, trace: Arc::clone(trace) });
    pipe
}

impl Transport for TracedTransport {
    fn open(&self, peer: Did, protocol: &'static str) -> BoxFuture<'static, Result<Pipe, OpenError>> {
        let opened = self.inner.open(peer, protocol);
        let trace = Arc::clone(&self.trace);
        Box::pin(async move { opened.await.map(|pipe| traced(pipe, &trace)) })
    }
    fn add_addresses(&self, peer: Did, addresses: Vec<String>) {
        self.inner.add_addresses(peer, addresses);
    }
    fn listen_addresses(&self) -> Vec<String> {
        self.inner.listen_addresses()
    }
    fn connected_peers(&self) -> Vec<Did> {
        self.inner.connected_peers()
    }
    fn take_events(&self) -> Option<mpsc::Receiver<TransportEvent>> {
        let mut events = self.inner.take_events()?;
        let (tx, taken) = mpsc::channel(64);
        let trace = Arc::clone(&self.trace);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let event = match event {
                    TransportEvent::Opened { peer, protocol, pipe } => {
                        TransportEvent::Opened { peer, protocol, pipe: traced(pipe, &trace) }
                    }
                    event => event,
                };
                if tx.send(event).await.is_err() {
                    return;
                }
            }
        });
        Some(taken)
    }
}

impl AsyncRead for TracedPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(ctx, buf)
    }
}

impl AsyncWrite for TracedPipe {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Before they leave: whoever reads them may be quicker than this thread.
        self.trace.lock().unwrap().steps.push(Step::Left(self.number, bytes.to_vec()));
        let written = Pin::new(&mut self.inner).poll_write(ctx, bytes);
        let taken = if let Poll::Ready(Ok(count)) = &written { *count } else { 0 };
        if taken < bytes.len() {
            // What was not taken is offered again: an empty step would hide it, a second one only repeats it.
            self.trace.lock().unwrap().steps.push(Step::Left(self.number, Vec::new()));
        }
        written
    }
    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(ctx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(ctx)
    }
}

/// Asks, and invokes whatever it is offered; gives the bids and the allocations.
async fn ask_and_invoke(mut requester: Requester) -> (Vec<BidId>, Vec<AllocationId>) {
    // Whatever else it says, its requests are its own.
    let own = ContentId::of_bytes(requester.did.to_string().as_bytes()).to_string();
    let own: [u8; 15] = own.as_bytes()[own.len() - 15..].try_into().unwrap();
    let id = |number: u8| {
        let mut bytes = [number; 16];
        bytes[1..].copy_from_slice(&own);
        bytes
    };
    let ids: Vec<[u8; 16]> = (0..REQUESTS as u8).map(id).collect();
    for id in &ids {
        requester.ask(JobId::from_random(*id), BidRequestId::from_random(*id), &pod()).await;
    }
    let (mut bids, mut allocations, mut over) = (Vec::new(), Vec::new(), 0);
    let mut declined = 0;
    while over + declined < REQUESTS {
        match requester.hear().await {
            Said::Bid(bid) => {
                let bid = bid.into_value();
                let id = ids.iter().find(|id| BidRequestId::from_random(**id) == bid.request).unwrap();
                bids.push(bid.id);
                let attempt = AttemptId { job: JobId::from_random(*id), pod: 0, number: 1 };
                requester.invoke(&bid, attempt, pod()).await;
            }
            Said::Accepted(word) => {
                allocations.push(word.allocation);
                requester.tell(Cancel { attempt: word.attempt, cause: StopCause::Cancelled }).await;
            }
            Said::Status(status) if status.state.is_terminal() => over += 1,
            Said::Status(_) => {}
            Said::Decline(_) => declined += 1,
            other @ Said::Refused(_) => panic!("{other:?}"),
        }
    }
    requester.stop().await;
    (bids, allocations)
}

fn pod() -> Pod {
    hand_made::pod(Millis(60_000))
}

/// Where `needle` begins to leave: the first step on whose pipe it is found.
fn leaves_at(trace: &Trace, needle: &[u8; 16]) -> Option<usize> {
    let mut pipes: BTreeMap<usize, (Vec<u8>, Vec<usize>)> = BTreeMap::new();
    for (at, step) in trace.steps.iter().enumerate() {
        if let Step::Left(pipe, bytes) = step {
            let (all, places) = pipes.entry(*pipe).or_default();
            all.extend(bytes);
            places.extend(std::iter::repeat_n(at, bytes.len()));
        }
    }
    let first = |(all, places): (Vec<u8>, Vec<usize>)| {
        Some(places[all.windows(16).position(|window| window == needle)?])
    };
    pipes.into_values().filter_map(first).min()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_a_bid_or_an_acceptance_leaves_before_its_sync() {
    let requesters = size(4, 16);
    let trace = SharedTrace::default();
    let engine =
        TracedEngine { inner: MemoryEngine::new(), trace: Arc::clone(&trace), waiting: Mutex::default() };
    let transport =
        |inner| -> Arc<dyn Transport> { Arc::new(TracedTransport { inner, trace: Arc::clone(&trace) }) };
    // Room for everything that is asked, so that every request is a promise to look at.
    let need = pod().requirement;
    let rooms = (requesters * REQUESTS) as u64;
    let resources = Resources {
        cpu: CpuMillis(need.cpu.0 * rooms),
        memory: MemoryMib(need.memory.0 * rooms),
        disk: DiskMib(need.disk.0 * rooms),
        ..Resources::default()
    };
    let capability =
        Capability { resources, executors: [ExecutorKind::Wasm].into(), ..Capability::default() };
    let lease = Duration::from_secs(60);
    let provider =
        Provider::start_over(transport, Arc::new(engine), HoldingExecutor::shared(), capability, lease).await;
    let mut asking = JoinSet::new();
    for seed in 0..requesters {
        asking.spawn(ask_and_invoke(provider.requester(2 + seed as u8)));
    }
    let (mut bids, mut allocations) = (Vec::new(), Vec::new());
    for (some_bids, some_allocations) in asking.join_all().await {
        bids.extend(some_bids);
        allocations.extend(some_allocations);
    }
    provider.stop().await;
    let all = requesters * REQUESTS;
    assert!(bids.len() >= all / 2 && bids.len() == allocations.len(), "{} bids of {all}", bids.len());
    let trace = trace.lock().unwrap();
    let promises = bids.iter().map(|id| *id.as_bytes()).chain(allocations.iter().map(|id| *id.as_bytes()));
    for promise in promises {
        let is_it = |step: &Step| matches!(step, Step::Synced(promises) if promises.contains(&promise));
        let synced = trace.steps.iter().position(is_it).expect("whatever was heard is on the disk");
        let left = leaves_at(&trace, &promise).expect("whatever was heard has left");
        assert!(synced < left, "{promise:x?} left at {left} and was synced at {synced}");
    }
    proof(&format!(
        "order, in one process: {} bids and {} acceptances, no byte of one left before its sync",
        bids.len(),
        allocations.len()
    ));
}

/// A call that a process made, as far as it matters here.
#[derive(Debug)]
struct Call {
    /// The line on which it began, and the one on which it was over.
    began: usize,
    ended: usize,
    name: String,
    /// The whole of its arguments with escapes undone, one character for each byte: text is searched quickly.
    arguments: String,
}

/// A character for each byte.
fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Undoes `\x41`.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(bytes.len() / 2);
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes[at..].strip_prefix(b"\\x").and_then(|rest| rest.get(..2));
        let escaped = escaped.and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                at += 4;
            }
            None => {
                out.push(char::from(bytes[at]));
                at += 1;
            }
        }
    }
    out
}

/// Reads what `strace -f` has written.
fn calls(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((process, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            if let Some(call) = open.remove(process) {
                calls[call].ended = number;
            }
        } else if let Some((name, arguments)) = rest.split_once('(') {
            let is_open = arguments.ends_with("<unfinished ...>");
            if is_open {
                open.insert(process, calls.len());
            }
            let ended = if is_open { usize::MAX } else { number };
            calls.push(Call { began: number, ended, name: name.to_owned(), arguments: unescaped(arguments) });
        }
    }
    calls
}

/// Whether a call is on a log file of the books.
fn is_on_log(call: &Call) -> bool {
    // The descriptor with its path comes first.
    let path = call.arguments.split('>').next().unwrap_or_default();
    path.contains(&format!("/{BOOKS}/")) && path.ends_with(".log")
}

/// Asserts that the sync of what first brought `promise` to the log was over when `word` began; false if the promise
/// lies across two calls and cannot be found.
#[track_caller]
fn assert_synced_before(
    calls: &[Call],
    promise: &[u8; 16],
    word: &str,
    is_word: impl Fn(&Call) -> bool,
) -> bool {
    let promise = characters(promise);
    let is_write =
        |call: &&Call| call.name.contains("write") && is_on_log(call) && call.arguments.contains(&promise);
    let Some(written) = calls.iter().find(is_write) else { return false };
    let is_sync = |call: &&Call| call.name.contains("sync") && is_on_log(call) && call.began > written.ended;
    let synced =
        calls.iter().filter(is_sync).map(|call| call.ended).min().expect("it was synced at some time");
    let said = calls.iter().find(|call| is_word(call)).unwrap_or_else(|| panic!("{word} was never said"));
    if synced >= said.began {
        // What happened around it, for whoever has to understand it.
        let around = calls.iter().filter(|call| {
            call.ended + 12 >= written.began.min(said.began) && call.began <= synced.max(said.began) + 2
        });
        for call in around {
            let marks = (call.arguments.contains(&promise), is_on_log(call));
            let arguments: String = call.arguments.chars().take(90).collect();
            println!(
                "{}..{} {} {marks:?} {} {arguments:?}",
                call.began + 1,
                call.ended,
                call.name,
                call.arguments.len()
            );
        }
        panic!(
            "{word} was said on line {}, written on {} and synced on {synced}",
            said.began + 1,
            written.began + 1
        );
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_traced_process_syncs_before_it_acknowledges() {
    let works = Command::new("strace").args(["-D", "-f", "-y", "-o", "/dev/null", "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        return skip("sync_before_word under strace (there is none, or it may not trace)");
    }
    let jobs = size(20, 200);
    let (home, traces) = (Home::new(), Home::new());
    std::fs::write(home.path().join("config.toml"), "auction = \"50ms\"\n").unwrap();
    home.onboard("2", "1GiB");
    let file = traces.path().join("trace");
    let strace = [
        "strace",
        "-D",
        "-f",
        "-y",
        "-xx",
        "-s",
        "65535",
        "-o",
        file.to_str().unwrap(),
        "-e",
        "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync",
        "--",
    ];
    let node = home.start_under(&strace, &["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    let client = ApiClient::new(home.path().join("api.sock"));
    let module = std::fs::read(dms_tests::example("programs/hello.wat")).unwrap();
    client.put_blob(module.clone()).await.unwrap();
    let mut pod = hand_made::pod(Millis(60_000));
    pod.requirement.cpu = CpuMillis(100);
    pod.tasks[0].module = ContentId::of_bytes(&module);
    let mut submitted: Vec<JobId> = Vec::new();
    // A few at a time, so that some share a sync and a traced process, which is slow, keeps up.
    for first in (0..jobs).step_by(AT_A_TIME) {
        let mut submissions = JoinSet::new();
        for number in first..jobs.min(first + AT_A_TIME) {
            let (client, pods) = (client.clone(), vec![pod.clone()]);
            let job = NewJob {
                name: format!("job {number}"),
                pods,
                max_price: None,
                wanted: Some(1),
                wait: None,
                max_attempts: None,
            };
            submissions.spawn(async move { client.submit(&job).await.unwrap() });
        }
        submitted.extend(submissions.join_all().await);
    }
    let is_idle = async {
        while client.status().await.unwrap().active_job_count > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, is_idle).await.expect("all jobs end in time");
    let trace = tokio::task::block_in_place(|| {
        let (_, log) = node.stop();
        // The tracer ends after what it traces.
        let trace = wait_for("the end of the trace", || {
            let trace = std::fs::read_to_string(&file).unwrap_or_default();
            if trace.contains("+++ exited with 0 +++") { Ok(trace) } else { Err(trace.len()) }
        });
        (trace, log)
    });
    let (trace, log) = trace;
    let calls = calls(&trace);
    let (mut acknowledged, mut said, mut lost) = (0, 0, 0);
    let mut count = |is_found: bool, counter: &mut usize| if is_found { *counter += 1 } else { lost += 1 };
    for job in &submitted {
        let (text, word) = (job.to_string(), format!("the acknowledgement of job {job}"));
        let is_answer = |call: &Call| {
            call.arguments.contains(&text) && call.arguments.contains("HTTP/1.1 2") && !is_on_log(call)
        };
        count(assert_synced_before(&calls, job.as_bytes(), &word, is_answer), &mut acknowledged);
    }
    for line in log.lines() {
        let value = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
        let id = match (value("bid="), value("allocation=")) {
            (Some(bid), _) if line.contains(" bid ") => *bid.parse::<BidId>().unwrap().as_bytes(),
            (_, Some(id)) if line.contains("invocation accepted") => {
                *id.parse::<AllocationId>().unwrap().as_bytes()
            }
            _ => continue,
        };
        let is_said = |call: &Call| call.arguments.contains(&characters(line.trim_end().as_bytes()));
        count(assert_synced_before(&calls, &id, line, is_said), &mut said);
    }
    assert!(acknowledged >= jobs / 2 && said >= jobs, "{acknowledged} and {said} found, {lost} not");
    proof(&format!(
        "order, under strace: {acknowledged} acknowledgements and {said} words of promises, each after the fdatasync \
         of its batch"
    ));
}
