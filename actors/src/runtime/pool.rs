//! Pools: several workers of one kind behind one reference. No actor stands in between: the sender picks
//! the worker, so a pool costs what a mailbox costs.

use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{BoxFuture, join_all};

use super::recipient::Port;
use super::send::Until;
use super::{
    Actor, ActorId, ActorRef, ActorSystem, Arbiter, AskError, AskRecipient, Context, Handler, Recipient,
    SendFailure, Supervision, TellError,
};
use crate::Message;

/// Workers of one pool: a sender may have to look at each of them to find one with room.
const MAX_WORKERS: usize = 1024;

/// Which worker takes a message that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// Each in turn; one whose mailbox is full is passed over while another has room.
    RoundRobin,
    /// The one with the fewest messages waiting, in turn among equals.
    LeastBusy,
}

/// What makes a [`Pool`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it spawns"]
pub struct PoolBuilder {
    workers: usize,
    routing: Routing,
    supervision: Supervision,
    arbiters: Vec<Arbiter>,
}

impl PoolBuilder {
    /// Begins a pool of this many workers: at least 1, at most 1,024.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: workers.clamp(1, MAX_WORKERS),
            routing: Routing::RoundRobin,
            supervision: Supervision::transient(),
            arbiters: Vec::new(),
        }
    }

    /// Which worker takes a message; each in turn by default.
    pub fn routing(mut self, routing: Routing) -> Self {
        self.routing = routing;
        self
    }

    /// How each worker is supervised, apart from the others; [`Supervision::transient`] by default.
    pub fn supervision(mut self, supervision: Supervision) -> Self {
        self.supervision = supervision;
        self
    }

    /// Spreads the workers over the threads of these arbiters, in turn. By default they share the thread
    /// of their system, or of their parent.
    pub fn spread(mut self, arbiters: impl IntoIterator<Item = Arbiter>) -> Self {
        self.arbiters = arbiters.into_iter().collect();
        self
    }

    /// Starts the workers. The factory is given the number of the worker that it builds, from 0.
    pub fn spawn<A: Actor>(
        self,
        system: &ActorSystem,
        factory: impl Fn(usize) -> A + Send + Sync + 'static,
    ) -> Pool<A> {
        self.spawn_with(factory, |arbiter, factory, supervision| match arbiter {
            Some(arbiter) => system.spawn_on(arbiter, factory, supervision),
            None => system.spawn(factory, supervision),
        })
    }

    /// Starts the workers as children of an actor, which end before it does.
    pub fn spawn_children<A: Actor, P: Actor>(
        self,
        ctx: &mut Context<'_, P>,
        factory: impl Fn(usize) -> A + Send + Sync + 'static,
    ) -> Pool<A> {
        self.spawn_with(factory, |arbiter, factory, supervision| match arbiter {
            Some(arbiter) => ctx.spawn_child_on(arbiter, factory, supervision),
            None => ctx.spawn_child(factory, supervision),
        })
    }

    fn spawn_with<A: Actor>(
        self,
        factory: impl Fn(usize) -> A + Send + Sync + 'static,
        mut spawn: impl FnMut(Option<&Arbiter>, Box<dyn FnMut() -> A + Send>, Supervision) -> ActorRef<A>,
    ) -> Pool<A> {
        let factory = Arc::new(factory);
        let workers = (0..self.workers).map(|number| {
            let factory = factory.clone();
            let arbiter = self.arbiters.get(number % self.arbiters.len().max(1));
            spawn(arbiter, Box::new(move || factory(number)), self.supervision.clone())
        });
        let workers = workers.collect();
        Pool(Arc::new(Workers { workers, routing: self.routing, turn: AtomicUsize::new(0) }))
    }
}

/// Several workers of one kind behind one reference. Cheap to clone; dropping it ends nothing.
///
/// A worker that restarts keeps its queue and stays in the pool; one that has ended for good is passed
/// over, and when all have, sends fail with `Closed`.
///
/// ```
/// use dms_actors::*;
///
/// struct Square(u64);
/// impl Message for Square { type Reply = u64; }
///
/// struct Worker;
/// impl Actor for Worker {}
/// impl Handler<Square> for Worker {
///     fn handle(&mut self, square: Square, _: &mut Context<'_, Self>) -> Answer<u64> {
///         (square.0 * square.0).into()
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let me = Keypair::generate()?.did();
/// # let system = ActorSystem::builder(me, "example").start()?;
/// let pool = PoolBuilder::new(4).routing(Routing::LeastBusy).spawn(&system, |_| Worker);
/// assert_eq!(pool.ask(Square(7)).await?, 49);
/// // All messages about one customer go to one worker, in order.
/// pool.worker_for("customer 12").tell(Square(8)).await?;
/// # system.stop(std::time::Duration::from_secs(5)).await?;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct Pool<A: Actor>(Arc<Workers<A>>);

struct Workers<A: Actor> {
    workers: Box<[ActorRef<A>]>,
    routing: Routing,
    turn: AtomicUsize,
}

impl<A: Actor> Workers<A> {
    /// Who takes the next message; `None` if all have ended. One of the `gone` has said that it takes none,
    /// and may be about to be known as ended.
    fn pick(&self, gone: &[ActorId]) -> Option<&ActorRef<A>> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.workers.len();
        let (before, after) = self.workers.split_at(first);
        let is_open = |worker: &&ActorRef<A>| worker.is_alive() && !gone.contains(&worker.id());
        let mut open = after.iter().chain(before).filter(is_open).peekable();
        match self.routing {
            Routing::RoundRobin => {
                let next = open.peek().copied();
                open.find(|worker| worker.depth() < worker.capacity()).or(next)
            }
            Routing::LeastBusy => open.min_by_key(|worker| worker.depth()),
        }
    }

    /// Sends to a worker that has room now.
    fn send_now<M: Message>(&self, mut message: M) -> Result<(), TellError<M>>
    where
        A: Handler<M>,
    {
        let mut gone = Vec::new();
        while let Some(worker) = self.pick(&gone) {
            match worker.try_tell(message) {
                Err(TellError { message: back, reason: SendFailure::Closed }) => {
                    message = back;
                    gone.push(worker.id());
                }
                done => return done,
            }
        }
        Err(TellError { message, reason: SendFailure::Closed })
    }
}

impl<A: Actor> Pool<A> {
    /// Sends `message` to a worker, waiting for room if none has any.
    ///
    /// # Errors
    /// `Closed`: all workers have ended.
    pub fn tell<M: Message>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<(), TellError<M>>> + Send + use<A, M>
    where
        A: Handler<M>,
    {
        self.recipient().tell(message)
    }

    /// Sends `message` to a worker that has room now.
    ///
    /// # Errors
    /// `Full` if it finds none that has room, `Closed` if all have ended.
    pub fn try_tell<M: Message>(&self, message: M) -> Result<(), TellError<M>>
    where
        A: Handler<M>,
    {
        self.0.send_now(message)
    }

    /// Sends `message` to a worker and waits for its reply, as [`Recipient::ask`] does.
    ///
    /// # Errors
    /// As [`ActorRef::ask`].
    pub fn ask<M: Message>(&self, message: M) -> AskRecipient<M>
    where
        A: Handler<M>,
    {
        AskRecipient::new(self.0.clone(), message)
    }

    /// The worker for `key`: the same for equal keys as long as the pool lives, also when it has ended
    /// (it then says `Closed`), since another would not know what it knew.
    pub fn worker_for<K: Hash + ?Sized>(&self, key: &K) -> &ActorRef<A> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let count = self.0.workers.len() as u64;
        let index = usize::try_from(hasher.finish() % count).expect("a remainder is below the count");
        &self.0.workers[index]
    }

    /// The pool as a receiver of `M`.
    pub fn recipient<M: Message>(&self) -> Recipient<M>
    where
        A: Handler<M>,
    {
        Recipient::new(self.0.clone())
    }

    /// The pool as a receiver of `M` that sends each message to the [worker for its
    /// key](Self::worker_for).
    pub fn recipient_by<M: Message, K: Hash>(
        &self,
        key: impl Fn(&M) -> K + Send + Sync + 'static,
    ) -> Recipient<M>
    where
        A: Handler<M>,
    {
        Recipient::new(Arc::new(Keyed { pool: self.clone(), key }))
    }

    /// The workers, in the order of their numbers.
    pub fn workers(&self) -> &[ActorRef<A>] {
        &self.0.workers
    }

    /// How many messages wait, of all workers together.
    pub fn depth(&self) -> usize {
        self.0.workers.iter().map(ActorRef::depth).sum()
    }

    /// Asks every worker to end.
    pub fn stop(&self) {
        self.0.workers.iter().for_each(ActorRef::stop);
    }

    /// Waits until every worker has ended for good.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<A> {
        let all = join_all(self.0.workers.iter().map(ActorRef::closed));
        async move { drop(all.await) }
    }
}

impl<A: Handler<M>, M: Message> Port<M> for Workers<A> {
    fn offer(&self, message: M) -> Result<(), M> {
        self.send_now(message).map_err(|error| error.message)
    }

    fn tell(self: Arc<Self>, mut message: M) -> BoxFuture<'static, Result<(), TellError<M>>> {
        Box::pin(async move {
            let mut gone = Vec::new();
            while let Some(worker) = self.pick(&gone) {
                match worker.tell(message).await {
                    Err(TellError { message: back, reason: SendFailure::Closed }) => {
                        message = back;
                        gone.push(worker.id());
                    }
                    done => return done,
                }
            }
            Err(TellError { message, reason: SendFailure::Closed })
        })
    }

    fn try_tell(self: Arc<Self>, message: M) -> Result<(), TellError<M>> {
        self.send_now(message)
    }

    fn ask(
        self: Arc<Self>,
        mut message: M,
        until: Until,
    ) -> BoxFuture<'static, Result<M::Reply, AskError<M>>> {
        Box::pin(async move {
            // One deadline for all attempts.
            let until = match until {
                Until::Timeout(_) => Until::Deadline(until.deadline()),
                Until::Default | Until::Deadline(_) => until,
            };
            let mut gone = Vec::new();
            while let Some(worker) = self.pick(&gone) {
                match worker.ask(message).until(until).await {
                    Err(AskError::NotSent { message: back, reason: SendFailure::Closed }) => {
                        message = back;
                        gone.push(worker.id());
                    }
                    done => return done,
                }
            }
            Err(AskError::NotSent { message, reason: SendFailure::Closed })
        })
    }

    fn is_closed(&self) -> bool {
        self.workers.iter().all(ActorRef::is_closed)
    }
}

/// A pool whose messages say whom they are for.
struct Keyed<A: Actor, F> {
    pool: Pool<A>,
    key: F,
}

impl<A: Actor, F> Keyed<A, F> {
    fn worker<M, K: Hash>(&self, message: &M) -> ActorRef<A>
    where
        F: Fn(&M) -> K,
    {
        self.pool.worker_for(&(self.key)(message)).clone()
    }
}

impl<A, M, K, F> Port<M> for Keyed<A, F>
where
    A: Handler<M>,
    M: Message,
    K: Hash,
    F: Fn(&M) -> K + Send + Sync + 'static,
{
    fn tell(self: Arc<Self>, message: M) -> BoxFuture<'static, Result<(), TellError<M>>> {
        let worker = self.worker(&message);
        Box::pin(async move { worker.tell(message).await })
    }

    fn try_tell(self: Arc<Self>, message: M) -> Result<(), TellError<M>> {
        self.worker(&message).try_tell(message)
    }

    fn ask(self: Arc<Self>, message: M, until: Until) -> BoxFuture<'static, Result<M::Reply, AskError<M>>> {
        Box::pin(self.worker(&message).ask(message).until(until))
    }

    /// One worker that has ended closes its own keys only.
    fn is_closed(&self) -> bool {
        self.pool.workers().iter().all(ActorRef::is_closed)
    }
}

impl<A: Actor> Clone for Pool<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor> fmt::Debug for Pool<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("actor", &std::any::type_name::<A>())
            .field("workers", &self.0.workers.len())
            .field("routing", &self.0.routing)
            .finish_non_exhaustive()
    }
}
