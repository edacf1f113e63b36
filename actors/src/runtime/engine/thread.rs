//! The thread of an actor system: one actix system, started and joined.

use std::io;
use std::sync::Mutex;
use std::thread::{self, JoinHandle, ThreadId};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::super::lock;

/// A running thread for actors.
pub(crate) struct Engine {
    arbiter: actix_rt::ArbiterHandle,
    system: actix_rt::System,
    runtime: Handle,
    thread_id: ThreadId,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Closed when the thread's loop has ended.
    ended: watch::Receiver<()>,
}

impl Engine {
    /// Starts a thread; errors are the operating system's.
    pub(crate) fn start(name: String) -> io::Result<Self> {
        let (ready_tx, ready_rx) = std::sync::mpsc::sync_channel(1);
        let (ended_tx, ended) = watch::channel(());
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _ended = ended_tx;
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    // The receiver waits for exactly this one message.
                    let _ = ready_tx.send(Err(error));
                    return;
                }
            };
            let handle = runtime.handle().clone();
            let runner = actix_rt::System::with_tokio_rt(move || runtime);
            let system = actix_rt::System::current();
            let _ = ready_tx.send(Ok((system.arbiter().clone(), system, handle)));
            if let Err(error) = runner.run() {
                tracing::error!(%error, "the actors' thread ended badly");
            }
        })?;
        let (arbiter, system, runtime) = ready_rx
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the actors' thread ended before it was ready")))?;
        let thread_id = thread.thread().id();
        Ok(Self { arbiter, system, runtime, thread_id, thread: Mutex::new(Some(thread)), ended })
    }

    /// Runs `start` on the thread; false if it has ended.
    pub(crate) fn run(&self, start: impl FnOnce() + Send + 'static) -> bool {
        self.arbiter.spawn_fn(start)
    }

    /// The thread's tokio runtime.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// True on the thread itself, which cannot wait for its own end.
    pub(crate) fn is_current(&self) -> bool {
        thread::current().id() == self.thread_id
    }

    /// Lets the thread end after what it is doing now.
    pub(crate) fn stop(&self) {
        self.system.stop();
    }

    /// Waits for the end of the thread and joins it.
    pub(crate) async fn join(&self) {
        let mut ended = self.ended.clone();
        // Nothing is ever sent: the error is the news.
        while ended.changed().await.is_ok() {}
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the actors' thread panicked");
        }
    }
}
