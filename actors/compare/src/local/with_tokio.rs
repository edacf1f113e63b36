//! The floor: tasks and bounded channels of tokio, as somebody would write them who has no framework.

use std::future::{Future, pending};

use tokio::sync::{mpsc, oneshot};

use super::{CAPACITY, Cores, Framework, Ring, Tally, Ticks, Way, at_once, run_on_tokio};

#[derive(Debug, Clone)]
pub(super) struct Tokio;

type Asked = (u64, Option<oneshot::Sender<u64>>);

impl Framework for Tokio {
    type Sink = mpsc::Sender<u64>;
    type Echo = mpsc::Sender<Asked>;
    type Node = mpsc::Sender<u64>;

    fn run<F>(cores: Cores, bench: impl FnOnce(Self) -> F + Send + 'static) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        run_on_tokio(cores, || bench(Self))
    }

    fn fork(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    async fn sink(&self, mut tally: Tally) -> Self::Sink {
        let (to, mut mailbox) = mpsc::channel(CAPACITY);
        tokio::spawn(async move {
            while let Some(number) = mailbox.recv().await {
                tally.take(number);
            }
        });
        to
    }

    async fn tell(to: &Self::Sink, number: u64) {
        to.send(number).await.expect("it lives");
    }

    async fn echo(&self) -> Self::Echo {
        let (to, mut mailbox) = mpsc::channel::<Asked>(CAPACITY);
        tokio::spawn(async move {
            while let Some((number, reply)) = mailbox.recv().await {
                if let Some(reply) = reply {
                    // Whoever asked may have gone.
                    let _ = reply.send(number + 1);
                }
            }
        });
        to
    }

    async fn ask(to: &Self::Echo, number: u64) -> u64 {
        let (reply, answer) = oneshot::channel();
        to.send((number, Some(reply))).await.expect("it lives");
        answer.await.expect("it answers")
    }

    async fn node(&self, ring: Ring<Self::Node>, mut tally: Tally) -> Self::Node {
        let (to, mut mailbox) = mpsc::channel(CAPACITY);
        tokio::spawn(async move {
            while let Some(left) = mailbox.recv().await {
                match left {
                    0 => tally.take(left),
                    left => Self::hop(ring.next(), left - 1).await,
                }
            }
        });
        to
    }

    async fn hop(to: &Self::Node, left: u64) {
        to.send(left).await.expect("it lives");
    }

    async fn stalled(&self) -> Self::Echo {
        let (to, mailbox) = mpsc::channel::<Asked>(CAPACITY);
        tokio::spawn(async move {
            let _mailbox = mailbox;
            pending::<()>().await;
        });
        to
    }

    async fn offer(to: &Self::Echo, number: u64, way: Way) -> bool {
        match way {
            Way::Try => to.try_send((number, None)).is_ok(),
            Way::Tell => at_once(to.send((number, None))).await.is_some(),
            Way::Ask => at_once(Self::ask(to, number)).await.is_some(),
        }
    }

    fn depth(to: &Self::Echo) -> Option<usize> {
        Some(to.max_capacity() - to.capacity())
    }

    async fn flood(&self, ticks: Ticks) {
        let (to, mut mailbox) = mpsc::channel::<u64>(CAPACITY);
        to.send(0).await.expect("it lives");
        tokio::spawn(async move {
            while let Some(number) = mailbox.recv().await {
                to.send(number + 1).await.expect("it is this one");
            }
        });
        self.fork(ticks.by_tokio());
    }
}
