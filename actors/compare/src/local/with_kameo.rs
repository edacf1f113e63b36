//! kameo: bounded mailboxes, `tell(…).await` and `ask(…).await`.

use std::convert::Infallible;
use std::future::{Future, pending};

use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox;
use kameo::message::{Context, Message};

use super::{CAPACITY, Cores, Framework, Ring, Tally, Ticks, Way, at_once, run_on_tokio};

#[derive(Debug, Clone)]
pub(super) struct Kameo;

#[derive(kameo::Actor)]
pub(super) struct Sink(Tally);

struct Number(u64);

impl Message<Number> for Sink {
    type Reply = ();

    async fn handle(&mut self, Number(number): Number, _: &mut Context<Self, ()>) {
        self.0.take(number);
    }
}

#[derive(kameo::Actor)]
pub(super) struct Echo;

impl Message<Number> for Echo {
    type Reply = u64;

    async fn handle(&mut self, Number(number): Number, _: &mut Context<Self, u64>) -> u64 {
        number + 1
    }
}

/// Holds an actor for ever.
struct Stall;

impl Message<Stall> for Echo {
    type Reply = ();

    async fn handle(&mut self, _: Stall, _: &mut Context<Self, ()>) {
        pending().await
    }
}

pub(super) struct Node {
    ring: Ring<ActorRef<Node>>,
    tally: Tally,
}

impl kameo::Actor for Node {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }
}

impl Message<Number> for Node {
    type Reply = ();

    async fn handle(&mut self, Number(left): Number, _: &mut Context<Self, ()>) {
        match left {
            0 => self.tally.take(left),
            left => Kameo::hop(self.ring.next(), left - 1).await,
        }
    }
}

#[derive(kameo::Actor)]
struct Flood;

impl Message<Number> for Flood {
    type Reply = ();

    async fn handle(&mut self, Number(number): Number, ctx: &mut Context<Self, ()>) {
        ctx.actor_ref().tell(Number(number + 1)).await.expect("it is this one");
    }
}

fn spawn<A: kameo::Actor<Args = A>>(actor: A) -> ActorRef<A> {
    A::spawn_with_mailbox(actor, mailbox::bounded(CAPACITY))
}

impl Framework for Kameo {
    type Sink = ActorRef<Sink>;
    type Echo = ActorRef<Echo>;
    type Node = ActorRef<Node>;

    fn run<F>(cores: Cores, bench: impl FnOnce(Self) -> F + Send + 'static) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        run_on_tokio(cores, || bench(Self))
    }

    fn fork(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    async fn sink(&self, tally: Tally) -> Self::Sink {
        spawn(Sink(tally))
    }

    async fn tell(to: &Self::Sink, number: u64) {
        to.tell(Number(number)).await.expect("it lives");
    }

    async fn echo(&self) -> Self::Echo {
        spawn(Echo)
    }

    async fn ask(to: &Self::Echo, number: u64) -> u64 {
        to.ask(Number(number)).await.expect("it answers")
    }

    async fn node(&self, ring: Ring<Self::Node>, tally: Tally) -> Self::Node {
        spawn(Node { ring, tally })
    }

    async fn hop(to: &Self::Node, left: u64) {
        to.tell(Number(left)).await.expect("it lives");
    }

    async fn stalled(&self) -> Self::Echo {
        let echo = spawn(Echo);
        echo.tell(Stall).await.expect("it lives");
        while Self::depth(&echo) != Some(0) {
            tokio::task::yield_now().await;
        }
        echo
    }

    async fn offer(to: &Self::Echo, number: u64, way: Way) -> bool {
        match way {
            Way::Try => to.tell(Number(number)).try_send().is_ok(),
            Way::Tell => at_once(to.tell(Number(number)).send()).await.is_some(),
            Way::Ask => at_once(to.ask(Number(number)).send()).await.is_some(),
        }
    }

    fn depth(to: &Self::Echo) -> Option<usize> {
        let mailbox = to.mailbox_sender();
        Some(mailbox.max_capacity()? - mailbox.capacity()?)
    }

    async fn flood(&self, ticks: Ticks) {
        spawn(Flood).tell(Number(0)).await.expect("it lives");
        self.fork(ticks.by_tokio());
    }
}
