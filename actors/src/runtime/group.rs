//! Groups: siblings that are restarted together, under one budget and one back-off.
//!
//! A group is an actor whose children are its members. A member that fails keeps its mailbox and waits;
//! the group decides ([`plan`]) who ends with it, after which pause they come back, and when it is enough.
//! What a member tells its group is one slot on a board, and what the group tells a member is a command
//! with a number that the member's next word repeats: words that crossed are recognised and dropped.

mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use self::plan::{News, Plan, Step};
use super::actor_ref::Lifecycle;
use super::engine::{self, TaskKind};
use super::lane::Command;
use super::supervision::Limits;
use super::{
    Actor, ActorId, ActorRef, ActorSystem, Arbiter, Context, ExitReason, Restart, Supervision, lock,
};

/// Which siblings are restarted with a member that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// None: the members do not depend on each other.
    OneForOne,
    /// All: each depends on every other.
    OneForAll,
    /// Those that were added after it: each depends on its elders.
    RestForOne,
}

/// How a group is supervised: as [`Supervision`] is for one actor, with the restarts of all members
/// counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSupervision {
    /// Who is restarted with a member that failed.
    pub strategy: Strategy,
    /// How many restarts are made within [`Self::within`]; one more failure ends the group.
    pub max_restarts: u32,
    /// The sliding window in which restarts are counted.
    pub within: Duration,
    /// The pause before the first restart; it doubles with each restart in the window.
    pub backoff_min: Duration,
    /// The longest pause; each is drawn from the upper half of its length.
    pub backoff_max: Duration,
    /// When the restarts are used up, the group's parent fails with [`ExitReason::ChildFailed`].
    pub escalates: bool,
}

impl GroupSupervision {
    /// At most 5 restarts within a minute, with 10 ms to 5 s between; no escalation.
    pub fn new(strategy: Strategy) -> Self {
        let Supervision { max_restarts, within, backoff_min, backoff_max, escalates, .. } =
            Supervision::transient();
        Self { strategy, max_restarts, within, backoff_min, backoff_max, escalates }
    }

    /// The same, and the group's failure for good makes its parent fail, too.
    #[must_use]
    pub fn escalate(self) -> Self {
        Self { escalates: true, ..self }
    }

    fn limits(&self) -> Limits {
        Limits {
            max_restarts: self.max_restarts,
            within: self.within,
            backoff_min: self.backoff_min,
            backoff_max: self.backoff_max,
        }
    }
}

/// A running group. Cheap to clone; dropping it ends nothing.
#[derive(Clone)]
pub struct Group(ActorRef<Leader>);

impl Group {
    /// Asks the group to end: its members end one by one, the youngest first, also in the midst of a
    /// restart.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Its number in its system, which [`ExitReason::ChildFailed`] names.
    pub fn id(&self) -> ActorId {
        self.0.id()
    }

    /// True until it has ended.
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    /// Waits until the group has ended with all of its members, and says how: told to, because the last
    /// member had ended by itself (`Stopped`), or with its restarts used up.
    pub fn closed(&self) -> impl Future<Output = ExitReason> + Send + use<> {
        self.0.closed()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({})", self.id())
    }
}

/// Takes the members of a group that is being made, in the order of their start.
pub struct Members {
    system: ActorSystem,
    added: Vec<Added>,
}

struct Added {
    member: Arc<dyn Lifecycle>,
    restart: Restart,
    begin: Begin,
}

/// Puts a member on its thread, where it waits for its first start.
type Begin = Box<dyn FnOnce(&mut Context<'_, Leader>, Seat) + Send>;

impl Members {
    /// Adds a member. Its reference works at once, and through every restart.
    ///
    /// `restart` says which of its endings are failures to the group: those restart it (and whom the
    /// strategy names) within the group's budget. Others end it alone and for good, as
    /// [`ActorRef::stop`] does; so does a restart of the group for a member that is `Never` restarted.
    pub fn child<C: Actor>(
        &mut self,
        factory: impl FnMut() -> C + Send + 'static,
        restart: Restart,
    ) -> ActorRef<C> {
        self.add(None, factory, restart)
    }

    /// Adds a member that lives on the thread of an arbiter.
    pub fn child_on<C: Actor>(
        &mut self,
        arbiter: &Arbiter,
        factory: impl FnMut() -> C + Send + 'static,
        restart: Restart,
    ) -> ActorRef<C> {
        self.add(Some(arbiter.clone()), factory, restart)
    }

    fn add<C: Actor>(
        &mut self,
        arbiter: Option<Arbiter>,
        factory: impl FnMut() -> C + Send + 'static,
        restart: Restart,
    ) -> ActorRef<C> {
        let actor = ActorRef::new(self.system.next_actor_id(), self.system.shared());
        // Made here, so that a group that never starts still tells whoever waits for its members.
        let unended = engine::Unended::new(actor.clone());
        let (system, member) = (self.system.clone(), actor.lifecycle());
        let built = actor.clone();
        let begin = move |ctx: &mut Context<'_, Leader>, seat: Seat| {
            ctx.adopt(actor.lifecycle(), false);
            let supervision = Supervision { restart, ..Supervision::transient() };
            let start = move || {
                engine::start_here(system, unended, Box::new(factory), supervision, Some(seat));
            };
            match arbiter {
                None => start(),
                Some(arbiter) => {
                    if let Err(not_taken) = arbiter.engine().run(Box::new(start)) {
                        not_taken.tell(&actor);
                    }
                }
            }
        };
        self.added.push(Added { member, restart, begin: Box::new(begin) });
        built
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").field("count", &self.added.len()).finish_non_exhaustive()
    }
}

/// A member's side of its group.
pub(crate) struct Seat {
    board: Arc<Board>,
    member: usize,
    /// The number of the group's last command, repeated in every word to it.
    pub(crate) turn: u32,
}

impl Seat {
    /// It has started.
    pub(crate) fn up(&self) {
        self.board.post(self.member, self.turn, News::Up);
    }

    /// Its state has ended; it waits for a start.
    pub(crate) fn down(&self, reason: ExitReason) {
        self.board.post(self.member, self.turn, News::Down(reason));
    }
}

impl Drop for Seat {
    /// It has ended for good, by itself, on command, or with its thread.
    fn drop(&mut self) {
        self.board.post(self.member, self.turn, News::Gone);
    }
}

/// What the members have said and their group has not read: the last word of each, which is all that
/// counts. So it never holds more than one word per member.
#[derive(Default)]
struct Board {
    news: Mutex<BTreeMap<usize, (u32, News)>>,
    bell: Notify,
}

impl Board {
    fn post(&self, member: usize, turn: u32, news: News) {
        lock(&self.news).insert(member, (turn, news));
        self.bell.notify_one();
    }

    async fn read(self: Arc<Self>) -> BTreeMap<usize, (u32, News)> {
        self.bell.notified().await;
        std::mem::take(&mut *lock(&self.news))
    }
}

/// The actor behind a group. Nobody sends to it.
pub(crate) struct Leader {
    plan: Plan,
    board: Arc<Board>,
    members: Vec<Arc<dyn Lifecycle>>,
    begins: Vec<Begin>,
}

impl Leader {
    fn new(supervision: &GroupSupervision, added: Vec<Added>) -> Self {
        let kinds = added.iter().map(|added| added.restart).collect();
        let plan = Plan::new(supervision.strategy, supervision.limits(), kinds);
        let (members, begins) = added.into_iter().map(|added| (added.member, added.begin)).unzip();
        Self { plan, board: Arc::default(), members, begins }
    }

    fn listen(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.start(TaskKind::Watch, self.board.clone().read(), |leader, news, ctx| {
            let clock = ctx.system().clock();
            for (member, (turn, news)) in news {
                leader.plan.hear(member, turn, news, clock.monotonic(), clock.random()[0]);
            }
            leader.act(ctx);
            leader.listen(ctx);
        });
    }

    fn act(&mut self, ctx: &mut Context<'_, Self>) {
        while let Some(step) = self.plan.next_step() {
            match step {
                Step::Start { member, turn } => self.members[member].command(Command::Start(turn)),
                Step::Pause { member, turn } => self.members[member].command(Command::Pause(turn)),
                Step::Dismiss { member } => self.members[member].stop(ExitReason::Stopped),
                Step::Wait { pause, turn } => {
                    tracing::warn!(group = %ctx.me().id(), ?pause, "members restart");
                    ctx.after(pause, move |leader, ctx| {
                        leader.plan.wait_is_over(turn);
                        leader.act(ctx);
                    });
                }
                Step::Fail { member, reason } => {
                    // It waits for a start that will not come, and ends with the reason instead.
                    self.members[member].stop(reason.clone());
                    ctx.fail_as(reason);
                }
                Step::End => ctx.stop(),
            }
        }
    }
}

impl Actor for Leader {
    const MAILBOX: usize = 1;

    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        for (member, begin) in std::mem::take(&mut self.begins).into_iter().enumerate() {
            begin(ctx, Seat { board: self.board.clone(), member, turn: 0 });
        }
        self.act(ctx);
        self.listen(ctx);
    }
}

/// Makes a group: what `build` adds, and a factory that gives its leader once, since a group that has
/// ended is not restarted but escalates.
fn gather<R>(
    system: &ActorSystem,
    supervision: GroupSupervision,
    build: impl FnOnce(&mut Members) -> R,
) -> (impl FnMut() -> Leader + Send + 'static, Supervision, R) {
    let mut members = Members { system: system.clone(), added: Vec::new() };
    let built = build(&mut members);
    let mut added = Some(members.added);
    let leading = Supervision { escalates: supervision.escalates, ..Supervision::never() };
    let factory = move || Leader::new(&supervision, added.take().unwrap_or_default());
    (factory, leading, built)
}

impl ActorSystem {
    /// Starts siblings that are restarted together. `build` adds them in the order of their start; each
    /// starts when its elder has, and they end in the reverse order.
    ///
    /// ```
    /// use dms_actors::*;
    ///
    /// struct Database;
    /// impl Actor for Database {}
    /// struct Cache { database: ActorRef<Database> }
    /// impl Actor for Cache {}
    ///
    /// # let me = Keypair::generate().unwrap().did();
    /// # let system = ActorSystem::builder(me, "example").start().unwrap();
    /// // A cache of a database that has failed is of no use: both are built anew.
    /// let supervision = GroupSupervision::new(Strategy::RestForOne);
    /// let (group, (database, cache)) = system.spawn_group(supervision, |group| {
    ///     let database = group.child(|| Database, Restart::Permanent);
    ///     let of = database.clone();
    ///     let cache = group.child(move || Cache { database: of.clone() }, Restart::Permanent);
    ///     (database, cache)
    /// });
    /// # group.stop();
    /// # system.stop_blocking(std::time::Duration::from_secs(5)).unwrap();
    /// ```
    pub fn spawn_group<R>(
        &self,
        supervision: GroupSupervision,
        build: impl FnOnce(&mut Members) -> R,
    ) -> (Group, R) {
        let (factory, leading, built) = gather(self, supervision, build);
        (Group(self.spawn(factory, leading)), built)
    }
}

impl<A: Actor> Context<'_, A> {
    /// Starts siblings that are restarted together as children of this actor; see
    /// [`ActorSystem::spawn_group`].
    pub fn spawn_group<R>(
        &mut self,
        supervision: GroupSupervision,
        build: impl FnOnce(&mut Members) -> R,
    ) -> (Group, R) {
        let (factory, leading, built) = gather(self.system(), supervision, build);
        (Group(self.spawn_child(factory, leading)), built)
    }

    /// Calls `then` when `group` has ended, as [`Self::watch`] does for an actor.
    pub fn watch_group(
        &mut self,
        group: &Group,
        then: impl FnOnce(&mut A, ExitReason, &mut Context<'_, A>) + 'static,
    ) {
        self.start(TaskKind::Watch, group.closed(), then);
    }
}
