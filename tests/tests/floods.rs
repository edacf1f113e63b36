//! Peers that say more than anybody has to: they are slowed down and kept out, and honest peers are served meanwhile.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dms_messages::{
    BidRequest, BidRequestId, CpuMillis, Did, JobId, Millis, Release, ReleaseCause, Requirement, Signed,
};
use dms_node::api::client::ApiClient;
use dms_tests::requester::Requester;
use dms_tests::{DEADLINE, Home, Node, hand_made, is_soak, proof, size};

/// Whoever is honest.
const HONEST: u8 = 1;
/// The name of the first flooder; the others follow.
const FLOODER: u8 = 100;
/// Rounds that are enough for a percentile.
const ROUNDS: usize = 200;
/// How long a flood lasts at least, in seconds.
fn flood_time() -> Duration {
    Duration::from_secs(size(0, 60) as u64)
}
/// Different requests that a flooder says in turn.
const REQUESTS: u64 = 1_000;
/// Between two rounds: more than one requester may have remembered in a minute is nobody's honest need.
const PACE: Duration = Duration::from_millis(10);
/// Between two bursts of a flooder.
const BEAT: Duration = Duration::from_millis(10);

fn request(seed: u8, number: u64) -> BidRequest {
    let mut id = [seed; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    BidRequest {
        id: BidRequestId::from_random(id),
        job: JobId::from_random(id),
        pod: 0,
        requirement: hand_made::pod(Millis(10_000)).requirement,
        run_time: Millis(10_000),
        max_price: None,
        wanted: 1,
        addresses: vec![],
        credentials: Default::default(),
    }
}

/// Asks, is bid, and lets go, so often; how long each round took.
async fn rounds(honest: &mut Requester, next: &mut u64, count: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    for _ in 0..count {
        pace.tick().await;
        *next += 1;
        let word = honest.sign(request(HONEST, *next));
        let start = Instant::now();
        honest.tell(word).await;
        let bid = honest.bid().await.into_value();
        took.push(start.elapsed());
        honest.tell(Release { bid: bid.id, cause: ReleaseCause::NotChosen }).await;
    }
    took
}

fn p99(took: &mut [Duration]) -> Duration {
    took.sort();
    took[took.len() * 99 / 100]
}

/// Memory of the node's process, in MiB.
fn rss(node: &Node<'_>) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.process_id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Held by whoever floods: the machine is for one flood at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A flood of `per_second` requests until it is told to stop; whatever becomes of them.
async fn flood(
    seed: u8,
    mut flooder: Requester,
    per_second: u64,
    is_over: Arc<AtomicBool>,
    said: Arc<AtomicU64>,
) {
    // More than there is: who else gets what they would lock is another matter.
    let much = Requirement { cpu: CpuMillis(64_000), ..request(seed, 0).requirement };
    let word = |n| flooder.sign(BidRequest { requirement: much.clone(), ..request(seed, n) });
    let words: Vec<Signed<BidRequest>> = (0..REQUESTS).map(word).collect();
    let mut beat = tokio::time::interval(BEAT);
    for word in words.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let count = said.fetch_add(1, Ordering::Relaxed);
        if count.is_multiple_of((per_second / 100).max(1)) {
            beat.tick().await;
            flooder.forget_heard();
        }
        // Held back, refused, or without a connection: it goes on.
        let _ = tokio::time::timeout(BEAT, flooder.try_tell(word.clone())).await;
    }
    flooder.stop().await;
}

/// What was seen of a flood.
struct Seen {
    slowed: Duration,
    banned: Duration,
    ratio: f64,
    grown_mib: u64,
    said: u64,
    rounds: usize,
}

/// Floods a node while somebody honest is served, until every flooder is kept out and the time is over.
async fn endure(node: &Node<'_>, home: &Home, flooders: u8, per_second: u64) -> Seen {
    let api = ApiClient::new(home.path().join("api.sock"));
    let mut honest = Requester::new(HONEST, node).await;
    let mut next = 0;
    let mut quiet = rounds(&mut honest, &mut next, ROUNDS).await;
    let (before, address, did) = (rss(node), node.address(), node.did().parse::<Did>().unwrap());
    let (is_over, said) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let names: Vec<Did> = (0..flooders).map(|n| Requester::key(FLOODER + n).did()).collect();
    let mut tasks = Vec::new();
    for n in 0..flooders {
        let flooder = Requester::to(FLOODER + n, &address, did).await;
        tasks.push(tokio::spawn(flood(FLOODER + n, flooder, per_second, is_over.clone(), said.clone())));
    }
    let start = Instant::now();
    let (mut slowed, mut banned, mut grown_mib, mut loud) = (None, None, 0, Vec::new());
    while banned.is_none() || start.elapsed() < flood_time() || loud.len() < ROUNDS {
        assert!(start.elapsed() < DEADLINE + flood_time(), "slowed {slowed:?}, banned {banned:?}");
        loud.extend(rounds(&mut honest, &mut next, 10).await);
        let peers = api.peers(1_000).await.unwrap();
        let of = |name: &Did| peers.iter().find(|peer| peer.did == *name).and_then(|peer| peer.standing);
        if slowed.is_none() && names.iter().all(|name| of(name).is_some()) {
            slowed = Some(start.elapsed());
        }
        if banned.is_none() && names.iter().all(|name| of(name).is_some_and(|it| it.banned_for.is_some())) {
            banned = Some(start.elapsed());
        }
        grown_mib = grown_mib.max(rss(node).saturating_sub(before));
    }
    is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let ratio = p99(&mut loud).as_secs_f64() / p99(&mut quiet).as_secs_f64();
    honest.stop().await;
    let (slowed, banned) = (slowed.unwrap(), banned.unwrap());
    Seen { slowed, banned, ratio, grown_mib, said: said.load(Ordering::Relaxed), rounds: loud.len() }
}

fn tell(what: &str, seen: &Seen) {
    let Seen { slowed, banned, ratio, grown_mib, said, rounds } = seen;
    proof(&format!(
        "floods: {what}: {said} words said, slowed within {:.1} s, kept out within {:.1} s; {rounds} honest rounds \
         meanwhile, p99 {ratio:.2} x what it was before; memory grew by {grown_mib} MiB",
        slowed.as_secs_f64(),
        banned.as_secs_f64(),
    ));
    assert!(*grown_mib <= 64, "memory grew by {grown_mib} MiB");
    // The machine's own noise decides about the times of a short run.
    if is_soak() {
        assert!(
            *slowed <= Duration::from_secs(2) && *banned <= Duration::from_secs(10),
            "{slowed:?} {banned:?}"
        );
        assert!(*ratio <= 2.0, "{ratio}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_flooder_is_kept_out_until_the_owner_lets_it_in() {
    let _alone = ALONE.lock().await;
    let home = Home::new();
    home.onboard("2", "1GiB");
    let node = home.start(&["--trust", &Requester::key(HONEST).did().to_string()]);
    let seen = endure(&node, &home, 1, 5_000).await;
    tell("one stranger at 5,000 words a second", &seen);
    let listed = home.dms(&["peers"]);
    assert!(listed.stdout.contains("banned for"), "{listed}");
    let flooder = Requester::key(FLOODER).did().to_string();
    assert_eq!(home.dms(&["trust", "add", &flooder]).code(), Some(0));
    let mut friend = Requester::new(FLOODER, &node).await;
    friend.tell(friend.sign(request(FLOODER, REQUESTS))).await;
    friend.bid().await;
    friend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_flooders_of_an_open_mesh_are_kept_out() {
    let _alone = ALONE.lock().await;
    let home = Home::new();
    home.onboard("2", "1GiB");
    let node = home.start(&["--open", "--trust", &Requester::key(HONEST).did().to_string()]);
    let seen = endure(&node, &home, 20, 500).await;
    tell("twenty strangers of an open mesh at 500 words a second", &seen);
}
