//! What a client does, the same for every stack.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::sync::mpsc;

use super::{Seen, payload};
use crate::machine::peak_resident;
use crate::rounds::{Sample, percentile, sample};

/// Asks one after another.
const SEQUENTIAL: u64 = 4000;
/// Asks before anything is timed: the connection is up and the code is warm.
const WARM_UP: u64 = 200;
/// How long many asks in flight are counted.
const WINDOW: Duration = Duration::from_millis(1500);
/// How long they run before that.
const WARM_UP_TIME: Duration = Duration::from_millis(300);
/// Tells of one burst.
const BURST: u64 = 20_000;
/// When no more tells have arrived for so long, the rest is lost.
const SILENCE: Duration = Duration::from_secs(3);
/// Asks and tells of a run that is only to end.
const RUN_ASKS: u64 = 5000;
const RUN_TELLS: u64 = 2000;
/// Asks that wait when the peer is killed.
const PENDING: u64 = 64;
/// How long they would wait: longer than the run may take.
const PENDING_TIME: Duration = Duration::from_secs(100);

/// One end of a connection.
pub(super) trait Client: Clone + Send + Sync + 'static {
    /// Starts a task beside the calling one.
    fn fork(&self, task: impl Future<Output = ()> + Send + 'static);
    /// Has `payload` echoed; `None` is an error.
    fn ask(&self, payload: Vec<u8>) -> impl Future<Output = Option<Vec<u8>>> + Send;

    /// Sends `payload` and goes on; false is an error.
    fn tell(&self, _payload: Vec<u8>) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// Which tells have arrived so far.
    fn seen(&self) -> impl Future<Output = Option<Seen>> + Send {
        async { None }
    }

    /// Asks something that is counted like a tell and never answered; ends when the ask does.
    fn ask_in_vain(&self, _time: Duration) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// Does what `figure` names.
pub(super) async fn run<C: Client>(client: C, figure: String) -> anyhow::Result<Sample> {
    let early = warm_up(&client).await?;
    match figure.as_str() {
        "sequential" => sequential(&client, early).await,
        "in_flight_64" => in_flight(&client, 64, early).await,
        "in_flight_256" => in_flight(&client, 256, early).await,
        "burst" => burst(&client).await,
        "loaded" => loaded(&client).await,
        "killed" => killed(&client).await,
        _ => bail!("there is no figure {figure:?}"),
    }
}

/// Asks until enough are answered; says how many were not.
async fn warm_up<C: Client>(client: &C) -> anyhow::Result<u64> {
    let (mut answered, mut failed) = (0, 0);
    while answered < WARM_UP {
        match client.ask(payload(answered)).await {
            Some(_) => answered += 1,
            None => failed += 1,
        }
        ensure!(failed < WARM_UP, "the first asks fail");
    }
    Ok(failed)
}

async fn sequential<C: Client>(client: &C, early: u64) -> anyhow::Result<Sample> {
    let (mut times, mut failed) = (Vec::new(), early);
    for number in 0..SEQUENTIAL {
        let start = Instant::now();
        let reply = client.ask(payload(number)).await;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        failed += u64::from(reply != Some(payload(number)));
    }
    let at = |part| percentile(times.iter().copied(), part);
    Ok(sample([("p50_us", at(0.5)), ("p99_us", at(0.99)), ("errors", failed as f64)]))
}

/// Keeps `width` asks in flight; counts what is answered and what fails within the window.
async fn in_flight<C: Client>(client: &C, width: u64, early: u64) -> anyhow::Result<Sample> {
    let counts = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let (start, end) = (Instant::now() + WARM_UP_TIME, Instant::now() + WARM_UP_TIME + WINDOW);
    let (done, mut all_done) = mpsc::channel::<()>(1);
    for number in 0..width {
        let (each, counts, done) = (client.clone(), counts.clone(), done.clone());
        client.fork(async move {
            let _done = done;
            loop {
                let reply = each.ask(payload(number)).await;
                let now = Instant::now();
                if now >= end {
                    return;
                }
                if now >= start {
                    let count = if reply.is_some() { &counts.0 } else { &counts.1 };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    drop(done);
    // Closed when the last of them has ended.
    all_done.recv().await;
    let (answered, failed) =
        (counts.0.load(Ordering::Relaxed) as f64, counts.1.load(Ordering::Relaxed) as f64);
    Ok(sample([
        ("rate", answered / WINDOW.as_secs_f64()),
        ("errors", failed + early as f64),
        ("answered", answered),
    ]))
}

async fn burst<C: Client>(client: &C) -> anyhow::Result<Sample> {
    let before = peak_resident()?;
    let start = Instant::now();
    let mut refused = 0;
    for number in 0..BURST {
        refused += u64::from(!client.tell(payload(number)).await);
    }
    let (mut last, mut changed) = (Seen::default(), Instant::now());
    while last.received < BURST - refused && changed.elapsed() < SILENCE {
        // A stack that drowns in its own tells may fail to answer.
        if let Some(seen) = client.seen().await
            && seen.received > last.received
        {
            (last, changed) = (seen, Instant::now());
        } else {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let growth = (peak_resident()? - before) / 1024.0 / 1024.0;
    Ok(sample([
        ("rate", last.received as f64 / changed.duration_since(start).as_secs_f64()),
        ("lost", (BURST - last.received) as f64),
        ("out_of_order", last.out_of_order as f64),
        ("growth_mib", growth),
    ]))
}

/// Asks 64 at a time and tells meanwhile; what matters is that it ends.
async fn loaded<C: Client>(client: &C) -> anyhow::Result<Sample> {
    let start = Instant::now();
    let failed = Arc::new(AtomicU64::new(0));
    let (done, mut all_done) = mpsc::channel::<()>(1);
    for number in 0..64 {
        let (each, failed, done) = (client.clone(), failed.clone(), done.clone());
        client.fork(async move {
            let _done = done;
            for _ in 0..RUN_ASKS / 64 {
                let is_echo = each.ask(payload(number)).await == Some(payload(number));
                failed.fetch_add(u64::from(!is_echo), Ordering::Relaxed);
            }
        });
    }
    drop(done);
    for number in 0..RUN_TELLS {
        failed.fetch_add(u64::from(!client.tell(payload(number)).await), Ordering::Relaxed);
    }
    all_done.recv().await;
    let seen = client.seen().await.context("the tells are not counted")?;
    let lost = RUN_TELLS - seen.received + seen.out_of_order + failed.load(Ordering::Relaxed);
    Ok(sample([("seconds", start.elapsed().as_secs_f64()), ("lost", lost as f64)]))
}

/// Says `pending` when its asks wait; whoever started this process then kills the peer.
async fn killed<C: Client>(client: &C) -> anyhow::Result<Sample> {
    let resolved = Arc::new(AtomicU64::new(0));
    let (done, mut all_done) = mpsc::channel::<()>(1);
    for _ in 0..PENDING {
        let (each, resolved, done) = (client.clone(), resolved.clone(), done.clone());
        client.fork(async move {
            let _done = done;
            each.ask_in_vain(PENDING_TIME).await;
            resolved.fetch_add(1, Ordering::Relaxed);
        });
    }
    drop(done);
    // The peer counts them; all of them have to wait there before it is killed.
    while client.seen().await.context("the peer does not answer")?.received < PENDING {
        tokio::task::yield_now().await;
    }
    ensure!(resolved.load(Ordering::Relaxed) == 0, "an ask in vain was resolved");
    println!("pending");
    let start = Instant::now();
    all_done.recv().await;
    let unresolved = PENDING - resolved.load(Ordering::Relaxed);
    Ok(sample([("seconds", start.elapsed().as_secs_f64()), ("unresolved", unresolved as f64)]))
}
