//! ractor: unbounded mailboxes, `cast` and `call`.

use std::future::{Future, pending};

use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::{Cores, Framework, Ring, Tally, Ticks, Way, at_once, run_on_tokio};

#[derive(Debug, Clone)]
pub(super) struct Ractor;

/// An actor whose state is its argument and which takes each message with one function.
macro_rules! actor {
    ($name:ident, $message:ty, $state:ty, |$me:ident, $taken:ident, $held:ident| $take:expr) => {
        struct $name;

        impl Actor for $name {
            type Msg = $message;
            type State = $state;
            type Arguments = $state;

            async fn pre_start(
                &self,
                _: ActorRef<Self::Msg>,
                state: $state,
            ) -> Result<$state, ActorProcessingErr> {
                Ok(state)
            }

            async fn handle(
                &self,
                $me: ActorRef<Self::Msg>,
                $taken: Self::Msg,
                $held: &mut Self::State,
            ) -> Result<(), ActorProcessingErr> {
                $take;
                Ok(())
            }
        }
    };
}

pub(super) struct Number(u64);

pub(super) enum Asked {
    Tell,
    Ask(u64, RpcReplyPort<u64>),
    Stall,
}

actor!(Sink, Number, Tally, |_me, message, tally| tally.take(message.0));

actor!(Echo, Asked, (), |_me, message, _state| match message {
    Asked::Tell => {}
    // Whoever asked may have gone.
    Asked::Ask(number, reply) => drop(reply.send(number + 1)),
    Asked::Stall => pending().await,
});

actor!(Node, Number, (Ring<ActorRef<Number>>, Tally), |_me, message, state| match message.0 {
    0 => state.1.take(0),
    left => state.0.next().cast(Number(left - 1))?,
});

actor!(Flood, Number, (), |me, message, _state| me.cast(Number(message.0 + 1))?);

async fn spawn<A: Actor>(actor: A, state: A::Arguments) -> ActorRef<A::Msg> {
    Actor::spawn(None, actor, state).await.expect("it starts").0
}

impl Framework for Ractor {
    type Sink = ActorRef<Number>;
    type Echo = ActorRef<Asked>;
    type Node = ActorRef<Number>;

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
        spawn(Sink, tally).await
    }

    async fn tell(to: &Self::Sink, number: u64) {
        to.cast(Number(number)).expect("it lives");
    }

    async fn echo(&self) -> Self::Echo {
        spawn(Echo, ()).await
    }

    async fn ask(to: &Self::Echo, number: u64) -> u64 {
        match to.call(|reply| Asked::Ask(number, reply), None).await {
            Ok(CallResult::Success(number)) => number,
            _ => panic!("it answers"),
        }
    }

    async fn node(&self, ring: Ring<Self::Node>, tally: Tally) -> Self::Node {
        spawn(Node, (ring, tally)).await
    }

    async fn hop(to: &Self::Node, left: u64) {
        to.cast(Number(left)).expect("it lives");
    }

    async fn stalled(&self) -> Self::Echo {
        let echo = spawn(Echo, ()).await;
        echo.cast(Asked::Stall).expect("it lives");
        echo
    }

    async fn offer(to: &Self::Echo, number: u64, way: Way) -> bool {
        match way {
            Way::Try | Way::Tell => to.cast(Asked::Tell).is_ok(),
            // It is queued, whether its reply is awaited or not.
            Way::Ask => at_once(Self::ask(to, number)).await.is_none(),
        }
    }

    fn depth(_: &Self::Echo) -> Option<usize> {
        None
    }

    async fn flood(&self, ticks: Ticks) {
        spawn(Flood, ()).await.cast(Number(0)).expect("it lives");
        self.fork(ticks.by_tokio());
    }
}
