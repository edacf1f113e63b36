//! Work that blocks its thread (files, hashing, a library without async), kept away from the actors'.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::engine::panic_text;
use super::{Actor, Context};

/// Pieces of work that may wait for a thread, for each thread: as many as messages in a mailbox. Each
/// holds what it works on, and whoever waits behind more is better told so.
const WAITING_PER_THREAD: usize = 256;

/// Threads of one pool: as many as a tokio runtime has for such work, unless it was built otherwise.
const MAX_THREADS: usize = 512;

/// Why a piece of work has no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockingError {
    /// Too much of it waits already; it was not begun.
    #[error("the blocking pool is full")]
    Full,
    /// It panicked with this text. The pool is unharmed.
    #[error("the blocking work panicked: {0}")]
    Panicked(String),
    /// Its runtime ended before it began.
    #[error("the runtime has ended")]
    Ended,
}

/// A bounded number of threads for work that blocks. Cheap to clone; clones share the threads.
///
/// The threads are those of [`tokio::task::spawn_blocking`] of the runtime where it is asked for (in an
/// actor, that of the actor's thread), made when needed; the pool bounds how many of them it uses at a
/// time and how much waits: 256 pieces for each thread, and then `Full`.
#[derive(Clone)]
pub struct BlockingPool(Arc<Bounds>);

struct Bounds {
    threads: usize,
    /// One permit for each piece that runs or waits.
    admission: Arc<Semaphore>,
    /// One permit for each piece that runs.
    running: Arc<Semaphore>,
}

/// Pieces of work that run or wait at most.
fn admitted(threads: usize) -> usize {
    threads * (1 + WAITING_PER_THREAD)
}

impl BlockingPool {
    /// A pool of at most `threads` threads: at least 1, at most 512.
    pub fn new(threads: usize) -> Self {
        let threads = threads.clamp(1, MAX_THREADS);
        Self(Arc::new(Bounds {
            threads,
            admission: Arc::new(Semaphore::new(admitted(threads))),
            running: Arc::new(Semaphore::new(threads)),
        }))
    }

    /// Runs `work` on a thread of the pool. It has its place in the queue at once, before the first poll.
    /// Dropping the future takes back work that waits; work that has begun goes on, keeps its thread until
    /// it is done, and its output is dropped. Needs a tokio context.
    ///
    /// # Errors
    /// Every [`BlockingError`].
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, BlockingError>> + Send + 'static {
        let admitted = self.0.admission.clone().try_acquire_owned();
        let running = self.0.running.clone();
        async move {
            let admitted = admitted.map_err(|_| BlockingError::Full)?;
            let running = running.acquire_owned().await.map_err(|_| BlockingError::Ended)?;
            let guarded = move || {
                let output = catch_unwind(AssertUnwindSafe(work));
                // Only now, whether or not anybody still waits for it.
                drop((admitted, running));
                output
            };
            match tokio::task::spawn_blocking(guarded).await {
                Ok(Ok(output)) => Ok(output),
                Ok(Err(payload)) => Err(BlockingError::Panicked(panic_text(&*payload))),
                Err(_) => Err(BlockingError::Ended),
            }
        }
    }

    /// How many pieces of work run or wait.
    pub fn depth(&self) -> usize {
        admitted(self.0.threads) - self.0.admission.available_permits()
    }
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingPool")
            .field("threads", &self.0.threads)
            .field("depth", &self.depth())
            .finish()
    }
}

impl<A: Actor> Context<'_, A> {
    /// Runs `work`, which may block, on a thread of the pool and brings its output back to the actor.
    /// If the actor restarts or ends first, work that waits is dropped, and the output of work that has
    /// begun is.
    ///
    /// Counts as a [`pipe`](Self::pipe).
    ///
    /// ```
    /// use dms_actors::*;
    ///
    /// struct Disk { pool: BlockingPool }
    /// impl Actor for Disk {
    ///     fn started(&mut self, ctx: &mut Context<'_, Self>) {
    ///         let read = || std::fs::read("/etc/hostname");
    ///         ctx.blocking(&self.pool, read, |_, outcome, ctx| match outcome {
    ///             Ok(Ok(bytes)) => println!("{} bytes", bytes.len()),
    ///             Ok(Err(error)) => ctx.fail(error.to_string()),
    ///             Err(BlockingError::Full) => println!("later, then"),
    ///             Err(error) => ctx.fail(error.to_string()),
    ///         });
    ///     }
    /// }
    /// # let me = Keypair::generate().unwrap().did();
    /// # let system = ActorSystem::builder(me, "example").start().unwrap();
    /// # system.spawn(|| Disk { pool: BlockingPool::new(2) }, Supervision::never());
    /// # system.stop_blocking(std::time::Duration::from_secs(5)).unwrap();
    /// ```
    pub fn blocking<T: Send + 'static>(
        &mut self,
        pool: &BlockingPool,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut A, Result<T, BlockingError>, &mut Context<'_, A>) + 'static,
    ) {
        self.pipe(pool.run(work), then);
    }
}
