//! `dms-actors`: on one thread, producers are tasks of the actors' own thread; on two cores, the producers' thread
//! is another one.

use std::future::{Future, pending};

use dms_actors::{Actor, ActorRef, ActorSystem, Answer, Context, Handler, Keypair, Message, Supervision};

use super::{CAPACITY, Cores, Framework, Ring, TICK, Tally, Ticks, Way, at_once};
use crate::inside::inside;
use crate::machine::pin;

#[derive(Debug, Clone)]
pub(super) struct Ours {
    system: ActorSystem,
    cores: Cores,
}

struct Number(u64);

impl Message for Number {
    type Reply = u64;
}

pub(super) struct Sink(Tally);

impl Actor for Sink {
    const MAILBOX: usize = CAPACITY;
}

impl Handler<Number> for Sink {
    fn handle(&mut self, Number(number): Number, _: &mut Context<'_, Self>) -> Answer<u64> {
        self.0.take(number);
        number.into()
    }
}

pub(super) struct Echo {
    is_stalled: bool,
}

impl Actor for Echo {
    const MAILBOX: usize = CAPACITY;

    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        if self.is_stalled {
            ctx.exclusive(pending::<()>(), |_, (), _| {});
        }
    }
}

impl Handler<Number> for Echo {
    fn handle(&mut self, Number(number): Number, _: &mut Context<'_, Self>) -> Answer<u64> {
        (number + 1).into()
    }
}

pub(super) struct Node {
    ring: Ring<ActorRef<Node>>,
    tally: Tally,
}

impl Actor for Node {
    const MAILBOX: usize = CAPACITY;
}

impl Handler<Number> for Node {
    fn handle(&mut self, Number(left): Number, _: &mut Context<'_, Self>) -> Answer<u64> {
        match left {
            0 => self.tally.take(left),
            // What a handler sends it sends without waiting; one message goes round, so there is room.
            left => self.ring.next().try_tell(Number(left - 1)).expect("it has room"),
        }
        left.into()
    }
}

struct Flood(Option<Ticks>);

impl Actor for Flood {
    const MAILBOX: usize = CAPACITY;

    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        // The timer is the flooded actor's own, which has to get through to it as well.
        if let Some(mut ticks) = self.0.take() {
            ctx.every(TICK, move |_, _| ticks.tick());
        }
    }
}

impl Handler<Number> for Flood {
    fn handle(&mut self, Number(number): Number, ctx: &mut Context<'_, Self>) -> Answer<u64> {
        ctx.me().try_tell(Number(number + 1)).expect("it has room");
        number.into()
    }
}

impl Ours {
    /// Starts an actor from state that is there already; it is never started again.
    fn spawn<A: Actor + Send>(&self, actor: A) -> ActorRef<A> {
        let mut actor = Some(actor);
        self.system.spawn(move || actor.take().expect("it starts once"), Supervision::never())
    }
}

impl Framework for Ours {
    type Sink = ActorRef<Sink>;
    type Echo = ActorRef<Echo>;
    type Node = ActorRef<Node>;

    fn run<F>(cores: Cores, bench: impl FnOnce(Self) -> F + Send + 'static) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let me = Keypair::generate().expect("chance").did();
        let builder = ActorSystem::builder(me, "compare");
        match cores {
            // On the thread that the others have: one made for it allocates from another arena.
            Cores::One => dms_actors::run(async move {
                let system = builder.start_on_current().expect("it starts");
                let (done, output) = tokio::sync::oneshot::channel();
                let ours = Self { system: system.clone(), cores };
                // Among the actors, as whoever asks from inside one is.
                inside(&system, move || {
                    tokio::task::spawn_local(async move { drop(done.send(bench(ours).await)) });
                });
                output.await.expect("the measurement does not panic")
            })
            .expect("a runtime"),
            Cores::Two => {
                let ours = Self { system: builder.start().expect("it starts"), cores };
                pin(0);
                inside(&ours.system, || pin(1));
                super::run_on_tokio(Cores::One, || bench(ours.clone()))
            }
        }
    }

    fn fork(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self.cores {
            Cores::One => drop(tokio::task::spawn_local(task)),
            Cores::Two => drop(tokio::spawn(task)),
        }
    }

    async fn sink(&self, tally: Tally) -> Self::Sink {
        self.spawn(Sink(tally))
    }

    async fn tell(to: &Self::Sink, number: u64) {
        to.tell(Number(number)).await.expect("it lives");
    }

    async fn echo(&self) -> Self::Echo {
        self.spawn(Echo { is_stalled: false })
    }

    async fn ask(to: &Self::Echo, number: u64) -> u64 {
        to.ask(Number(number)).await.expect("it answers")
    }

    async fn node(&self, ring: Ring<Self::Node>, tally: Tally) -> Self::Node {
        self.spawn(Node { ring, tally })
    }

    async fn hop(to: &Self::Node, left: u64) {
        to.tell(Number(left)).await.expect("it lives");
    }

    async fn stalled(&self) -> Self::Echo {
        self.spawn(Echo { is_stalled: true })
    }

    async fn offer(to: &Self::Echo, number: u64, way: Way) -> bool {
        match way {
            Way::Try => to.try_tell(Number(number)).is_ok(),
            Way::Tell => at_once(to.tell(Number(number))).await.is_some(),
            Way::Ask => at_once(Self::ask(to, number)).await.is_some(),
        }
    }

    fn depth(to: &Self::Echo) -> Option<usize> {
        Some(to.depth())
    }

    async fn flood(&self, ticks: Ticks) {
        self.spawn(Flood(Some(ticks))).tell(Number(0)).await.expect("it lives");
    }
}
