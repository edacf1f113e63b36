//! The local figures: what each framework has to do, and what is timed.
//!
//! One message is one `u64` everywhere, mailboxes hold 1024 where the framework bounds them, and each framework is
//! used as its own documentation tells. The floor is bare tokio: a task that takes from a bounded channel.

mod figures;
mod group;
mod ours;
#[cfg(feature = "local")]
mod with_kameo;
#[cfg(feature = "local")]
mod with_ractor;
mod with_tokio;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub use self::group::main;

/// The capacity of every bounded mailbox.
const CAPACITY: usize = 1024;

/// Where producers and actors run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cores {
    /// All on one thread.
    One,
    /// Each pinned to a core of its own: two workers, or the producers' thread and the actors'.
    Two,
}

/// How a message is offered to an actor that takes none.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Without waiting.
    Try,
    /// Waiting for room, given up after one look.
    Tell,
    /// Likewise, for a reply.
    Ask,
}

/// What the figures need of a framework; the value is what is at hand inside a run.
trait Framework: Clone + Send + Sync + 'static {
    /// Is told numbers.
    type Sink: Clone + Send + Sync + 'static;
    /// Is asked a number and replies with the next.
    type Echo: Clone + Send + Sync + 'static;
    /// Passes a number on to the next of its ring, one less.
    type Node: Clone + Send + Sync + 'static;

    /// Runs `bench` as a task (never as the root future, which costs more everywhere) and waits for it.
    fn run<F>(cores: Cores, bench: impl FnOnce(Self) -> F + Send + 'static) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static;

    /// Starts a task beside the calling one.
    fn fork(&self, task: impl Future<Output = ()> + Send + 'static);

    fn sink(&self, tally: Tally) -> impl Future<Output = Self::Sink> + Send;
    fn tell(to: &Self::Sink, number: u64) -> impl Future<Output = ()> + Send;

    fn echo(&self) -> impl Future<Output = Self::Echo> + Send;
    fn ask(to: &Self::Echo, number: u64) -> impl Future<Output = u64> + Send;

    fn node(&self, ring: Ring<Self::Node>, tally: Tally) -> impl Future<Output = Self::Node> + Send;
    fn hop(to: &Self::Node, left: u64) -> impl Future<Output = ()> + Send;

    /// An actor that takes nothing out of its mailbox.
    fn stalled(&self) -> impl Future<Output = Self::Echo> + Send;
    /// Offers it a message; true if it is known to be queued.
    fn offer(to: &Self::Echo, number: u64, way: Way) -> impl Future<Output = bool> + Send;
    /// How many messages wait, if the framework says so.
    fn depth(to: &Self::Echo) -> Option<usize>;

    /// Starts an actor that sends to itself without end, and a timer of the same thread.
    fn flood(&self, ticks: Ticks) -> impl Future<Output = ()> + Send;
}

/// Counts down what is awaited of many.
#[derive(Debug, Clone)]
struct Countdown(Arc<(AtomicU64, Notify)>);

impl Countdown {
    fn new(count: u64) -> Self {
        Self(Arc::new((AtomicU64::new(count), Notify::new())))
    }

    fn one_less(&self) {
        if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.1.notify_one();
        }
    }

    async fn over(&self) {
        self.0.1.notified().await;
    }
}

/// What one actor still waits for.
#[derive(Debug)]
struct Tally {
    left: u64,
    all: Countdown,
}

impl Tally {
    /// The last of `count` messages counts `all` down by one.
    fn new(count: u64, all: &Countdown) -> Self {
        Self { left: count, all: all.clone() }
    }

    fn take(&mut self, number: u64) {
        std::hint::black_box(number);
        self.left -= 1;
        if self.left == 0 {
            self.all.one_less();
        }
    }
}

/// A place in a ring whose members are known once all of them are there.
#[derive(Debug, Clone)]
struct Ring<N> {
    members: Arc<OnceLock<Vec<N>>>,
    place: usize,
}

impl<N> Ring<N> {
    /// Whoever comes next.
    fn next(&self) -> &N {
        let members = self.members.get().expect("hops begin when the ring is closed");
        &members[(self.place + 1) % members.len()]
    }
}

/// Between two ticks of the timer beside a flood.
const TICK: Duration = Duration::from_millis(100);

/// A timer's report: when its ticks were due and when they came.
#[derive(Debug)]
struct Ticks {
    start: Instant,
    /// How often it has to tick.
    count: u32,
    came: u32,
    worst: Duration,
    done: Option<tokio::sync::oneshot::Sender<Duration>>,
}

impl Ticks {
    fn new(count: u32) -> (Self, tokio::sync::oneshot::Receiver<Duration>) {
        let (done, worst) = tokio::sync::oneshot::channel();
        (Self { start: Instant::now(), count, came: 0, worst: Duration::ZERO, done: Some(done) }, worst)
    }

    /// One came, now.
    fn tick(&mut self) {
        self.came += 1;
        self.worst = self.worst.max(self.start.elapsed().saturating_sub(TICK * self.came));
        if self.came == self.count
            && let Some(done) = self.done.take()
        {
            // Whoever waited may have gone.
            let _ = done.send(self.worst);
        }
    }

    /// Ticks by tokio's own timer.
    async fn by_tokio(mut self) {
        let start = tokio::time::Instant::from_std(self.start);
        for number in 1..=self.count {
            tokio::time::sleep_until(start + TICK * number).await;
            self.tick();
        }
    }
}

/// The output of a future that is ready at the first look; else it is given up.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// [`Framework::run`] for frameworks whose actors are tokio tasks.
fn run_on_tokio<F>(cores: Cores, bench: impl FnOnce() -> F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let runtime = match cores {
        Cores::One => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        Cores::Two => {
            let started = std::sync::atomic::AtomicUsize::new(0);
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .on_thread_start(move || crate::machine::pin(started.fetch_add(1, Ordering::Relaxed) % 2))
                .enable_all()
                .build()
        }
    };
    let runtime = runtime.expect("a runtime");
    let bench = bench();
    runtime.block_on(async { tokio::spawn(bench).await.expect("the measurement does not panic") })
}
