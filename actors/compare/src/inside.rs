//! Runs something on the thread of an actor system, where its actors run.

use dms_actors::{Actor, ActorSystem, Context, Supervision};

/// Runs a closure once and ends.
struct Inside(Option<Box<dyn FnOnce() + Send>>);

impl Actor for Inside {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        if let Some(run) = self.0.take() {
            run();
        }
        ctx.stop();
    }
}

/// Runs `closure` on the actors' thread, soon.
pub(crate) fn inside(system: &ActorSystem, closure: impl FnOnce() + Send + 'static) {
    let mut closure: Option<Box<dyn FnOnce() + Send>> = Some(Box::new(closure));
    system.spawn(move || Inside(closure.take()), Supervision::never());
}

/// Runs `task` as a task of the actors' thread and waits for it, blocking the calling thread.
#[cfg(feature = "remote")]
pub(crate) fn run_inside<F>(system: &ActorSystem, task: F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let (done, output) = std::sync::mpsc::sync_channel(1);
    inside(system, move || {
        tokio::task::spawn_local(async move { done.send(task.await) });
    });
    output.recv().expect("a measurement does not panic")
}
