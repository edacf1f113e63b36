//! Where actors run: a thread of their own, or the caller's. Started, handed actors, stopped and joined.
//!
//! A place is a [`LocalSet`] with one loop in it that starts the actors handed over by others. Its own
//! thread has an actix system around it; on a thread of the caller it is one task of the caller's
//! [`LocalSet`], which takes every actor away with it when it ends.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, ThreadId};

use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::LocalSet;

use super::super::lock;

/// Starts that may wait for their thread. Each is an actor that exists and has its mailbox already, so
/// this bounds no more than the actors that a program may spawn ahead of a thread that stands still;
/// beyond it something is wrong, and saying so is better than to fill the memory.
const MAX_STARTS: usize = 1 << 20;

/// The number of a place for actors, among all of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    fn next() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

thread_local! {
    /// The place whose actors, or starts, have their turn on this thread now. Being on the thread is not
    /// enough to start an actor there: other tasks of its runtime are outside of its `LocalSet`.
    static HERE: Cell<Option<Place>> = const { Cell::new(None) };
}

/// The place that has its turn, if any has.
pub(super) fn here() -> Option<Place> {
    HERE.get()
}

/// Says that an actor of `place` has its turn, until the guard is dropped.
pub(super) fn turn_at(place: Option<Place>) -> Turn {
    Turn(HERE.replace(place))
}

/// See [`turn_at`].
#[must_use = "the turn ends when this is dropped"]
pub(super) struct Turn(Option<Place>);

impl Drop for Turn {
    fn drop(&mut self) {
        HERE.set(self.0);
    }
}

/// Something to do on a thread of actors.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A job that was not taken. Dropping it says so to whoever waits for its actor.
pub(crate) struct NotTaken {
    pub(crate) job: Job,
    /// The thread is there and too far behind; else it has ended.
    pub(crate) is_full: bool,
}

/// There is no current-thread runtime with a `LocalSet` around the caller.
#[derive(Debug)]
pub(crate) struct NotLocal;

/// A running place for actors.
pub(crate) struct Engine {
    name: String,
    place: Place,
    jobs: mpsc::Sender<Job>,
    stopping: Arc<Notify>,
    runtime: Handle,
    thread: ThreadId,
    /// `None` on a thread of the caller.
    own_thread: Option<OwnThread>,
    /// Closed when the place's loop has ended and all of its actors are gone.
    ended: watch::Receiver<()>,
}

struct OwnThread(Mutex<Option<JoinHandle<()>>>);

impl Engine {
    /// Starts a thread; errors are the operating system's.
    pub(crate) fn start(name: String) -> io::Result<Self> {
        let (ready_tx, ready_rx) = std::sync::mpsc::sync_channel(1);
        let (ended_tx, ended) = watch::channel(());
        let (jobs, waiting) = mpsc::channel(MAX_STARTS);
        let stopping = Arc::new(Notify::new());
        let (place, stop) = (Place::next(), stopping.clone());
        // The one character that no thread's name may have.
        let thread_name = name.replace('\0', " ");
        let handle = thread::Builder::new().name(thread_name).spawn(move || {
            let _ended = ended_tx;
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    // The receiver waits for exactly this one message, or for the next.
                    let _ = ready_tx.send(Ok(runtime.handle().clone()));
                    run_local(runtime, serve(place, waiting, stop));
                }
                Err(error) => drop(ready_tx.send(Err(error))),
            }
        })?;
        let runtime = ready_rx
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the actors' thread ended before it was ready")))?;
        let thread = handle.thread().id();
        let own_thread = Some(OwnThread(Mutex::new(Some(handle))));
        Ok(Self { name, place, jobs, stopping, runtime, thread, own_thread, ended })
    }

    /// Makes a place on the caller's thread, which must be in a `LocalSet` of a current-thread runtime.
    pub(crate) fn start_on_current(name: String) -> Result<Self, NotLocal> {
        let runtime = Handle::try_current().map_err(|_| NotLocal)?;
        if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
            return Err(NotLocal);
        }
        let (ended_tx, ended) = watch::channel(());
        let (jobs, waiting) = mpsc::channel(MAX_STARTS);
        let stopping = Arc::new(Notify::new());
        let (place, stop) = (Place::next(), stopping.clone());
        // A set of its own, so that the end of this one task is the end of every actor in it.
        let driver = async move {
            let _ended = ended_tx;
            LocalSet::new().run_until(serve(place, waiting, stop)).await;
        };
        // tokio has no other way to ask whether there is a `LocalSet`.
        catch_unwind(AssertUnwindSafe(|| drop(tokio::task::spawn_local(driver)))).map_err(|_| NotLocal)?;
        // A `LocalSet` never leaves its thread.
        let thread = thread::current().id();
        Ok(Self { name, place, jobs, stopping, runtime, thread, own_thread: None, ended })
    }

    /// What its thread is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `job` on the thread: at once if this is a turn of one of its actors, else after those that were
    /// handed over before.
    pub(crate) fn run(&self, job: Job) -> Result<(), NotTaken> {
        if HERE.get() == Some(self.place) {
            job();
            return Ok(());
        }
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) => NotTaken { job, is_full: true },
            TrySendError::Closed(job) => NotTaken { job, is_full: false },
        })
    }

    /// The thread's tokio runtime.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Lets the place end after what it is doing now.
    pub(crate) fn stop(&self) {
        self.stopping.notify_one();
    }

    /// True on the thread of this place, as long as actors can run there.
    pub(crate) fn is_here(&self) -> bool {
        self.thread == thread::current().id() && !self.has_ended()
    }

    /// True when its loop has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.has_changed().is_err()
    }

    /// Waits for the end and joins the thread. On that very thread, which cannot wait for its own end,
    /// it returns at once.
    pub(crate) async fn join(&self) {
        if self.own_thread.is_some() && self.thread == thread::current().id() {
            return;
        }
        let mut ended = self.ended.clone();
        // Nothing is ever sent: the error is the news.
        while ended.changed().await.is_ok() {}
        let Some(OwnThread(handle)) = &self.own_thread else { return };
        let handle = lock(handle).take();
        if let Some(handle) = handle
            && handle.join().is_err()
        {
            tracing::error!(thread = self.name, "a thread of actors panicked");
        }
    }
}

/// Starts what is handed over, until it is told to stop or nobody can hand over any more.
async fn serve(place: Place, mut jobs: mpsc::Receiver<Job>, stopping: Arc<Notify>) {
    loop {
        tokio::select! {
            biased;
            () = stopping.notified() => return,
            job = jobs.recv() => match job {
                Some(job) => {
                    let _turn = turn_at(Some(place));
                    job();
                }
                None => return,
            },
        }
    }
}

/// Runs `future` on `runtime` inside an actix system, then drops whatever it has left behind. Blocking
/// work that is still running is not waited for.
fn run_local<F: Future>(runtime: Runtime, future: F) -> F::Output {
    let runtime = Arc::new(runtime);
    let shared = runtime.clone();
    let runner = actix_rt::System::with_tokio_rt(move || shared);
    let output = runner.block_on(future);
    {
        // Destructors may need the runtime.
        let _entered = runtime.enter();
        drop(runner);
    }
    if let Ok(runtime) = Arc::try_unwrap(runtime) {
        runtime.shutdown_background();
    }
    output
}

/// Runs `future` on this thread: a current-thread tokio runtime with a `LocalSet`, in which systems that
/// were [started on the current thread](super::super::ActorSystemBuilder::start_on_current) share one
/// thread with their links. What is left when `future` has ended is dropped.
///
/// ```
/// use dms_actors::{ActorSystem, Keypair};
///
/// dms_actors::run(async {
///     let me = Keypair::generate().unwrap().did();
///     let system = ActorSystem::builder(me, "example").start_on_current().unwrap();
///     // Actors, links and this future: all on one thread.
///     system.stop(std::time::Duration::from_secs(1)).await.unwrap();
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The operating system gave no event loop, or this is inside of a runtime already, where no other can
/// be run.
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    if Handle::try_current().is_ok() {
        return Err(io::Error::other("a runtime is running on this thread already"));
    }
    Ok(run_local(Builder::new_current_thread().enable_all().build()?, future))
}
