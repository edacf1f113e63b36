//! Topics: one message to whoever has subscribed, near or far. No actor stands in between: publishing
//! is sending to each subscriber, and each says what becomes of a message that it is too slow for.

mod open;

pub use open::{OpenTopic, Subscribe, Unsubscribe};

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use futures::future::{Either, join_all, select};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::system::Shared;
use super::{
    ActorSystem, DeadLetter, DeadLetterReason, Recipient, RefusalCode, SendFailure, TellError, lock,
};
use crate::Message;

/// Subscribers of one topic: publishing clones the message for each, in the publisher's turn. Beyond
/// that a tree of topics, or gossip, serves better.
const MAX_SUBSCRIBERS: usize = 1024;

/// What becomes of a message for which a subscriber has no room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// The message is lost for this subscriber: counted, and a dead letter.
    Drop,
    /// The publisher waits until the subscriber has room. The other subscribers do not.
    Wait,
    /// The message is lost for this subscriber, and the subscription ends.
    Unsubscribe,
}

/// Why nobody was subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SubscribeError {
    /// The topic has 1,024 subscribers.
    #[error("the topic has {MAX_SUBSCRIBERS} subscribers already")]
    Full,
    /// The peer has 16 subscriptions to the topic.
    #[error("the peer has too many subscriptions already")]
    TooManyOfPeer,
}

/// What became of a published message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// How many subscribers have it queued.
    pub taken: usize,
    /// For how many it is lost: they were too slow, or out of reach.
    pub lost: usize,
}

/// Publishes `M` to subscribers of this system and of others. Cheap to clone.
///
/// A subscriber sees the messages of one publisher in their order, if the publisher awaits each
/// [`publish`](Self::publish) before the next. A subscriber whose actor has ended is removed by itself.
/// One on another machine is slow also while the link to it is being opened (that alone never ends a
/// subscription).
///
/// ```
/// use dms_actors::*;
///
/// #[derive(Clone)]
/// struct Price(u64);
/// impl Message for Price { type Reply = (); }
///
/// struct Screen;
/// impl Actor for Screen {}
/// impl Handler<Price> for Screen {
///     fn handle(&mut self, _: Price, _: &mut Context<'_, Self>) -> Answer<()> {
///         ().into()
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let me = Keypair::generate()?.did();
/// # let system = ActorSystem::builder(me, "example").start()?;
/// let prices = Topic::new(&system);
/// let screen = system.spawn(|| Screen, Supervision::transient());
/// prices.subscribe(screen.recipient(), Slow::Drop)?;
/// // In a handler: `ctx.pipe(prices.publish(Price(12)), |_, _, _| {})`.
/// assert_eq!(prices.publish(Price(12)).await.taken, 1);
/// # system.stop(std::time::Duration::from_secs(5)).await?;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct Topic<M: Message<Reply = ()> + Clone>(Arc<Inner<M>>);

struct Inner<M: Message> {
    shared: Arc<Shared>,
    /// Copied when it changes, so that a publisher holds no lock while it sends.
    subscribers: Mutex<Arc<Vec<Arc<Subscriber<M>>>>>,
    lost: AtomicU64,
}

struct Subscriber<M: Message> {
    recipient: Recipient<M>,
    slow: Slow,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    lost: AtomicU64,
    /// Publishers that wait; who comes later waits behind them, so that order is kept.
    waiting: AtomicUsize,
    has_ended: AtomicBool,
    ended: Notify,
}

impl State {
    fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Waits for the end of the subscription.
    async fn wait_for_end(&self) {
        let mut ended = pin!(self.ended.notified());
        // Before the flag is read, so that an end in between is not missed.
        ended.as_mut().enable();
        if !self.has_ended.load(Ordering::Acquire) {
            ended.await;
        }
    }
}

/// What a subscriber made of a message.
enum Fate {
    Taken,
    Lost,
    /// It has ended, and nobody expects the message any more.
    Ended,
}

impl<M: Message<Reply = ()> + Clone> Topic<M> {
    /// A topic without subscribers. Messages that are lost become dead letters of `system`.
    pub fn new(system: &ActorSystem) -> Self {
        Self(Arc::new(Inner {
            shared: system.shared().clone(),
            subscribers: Mutex::default(),
            lost: AtomicU64::new(0),
        }))
    }

    /// Subscribes. The subscription lasts until it is cancelled or its subscriber has ended; a recipient
    /// that subscribes twice hears everything twice.
    ///
    /// # Errors
    /// `Full`.
    pub fn subscribe(&self, recipient: Recipient<M>, slow: Slow) -> Result<Subscription, SubscribeError> {
        let state = Arc::new(State::default());
        let subscriber = Arc::new(Subscriber { recipient, slow, state: state.clone() });
        // Dropped when the lock is released: code of the application may run then, and use this topic.
        let mut gone = Vec::new();
        {
            let mut subscribers = lock(&self.0.subscribers);
            if subscribers.len() >= MAX_SUBSCRIBERS {
                let all = std::mem::take(Arc::make_mut(&mut subscribers));
                let (closed, open) = all.into_iter().partition(|subscriber| subscriber.recipient.is_closed());
                gone = closed;
                *subscribers = Arc::new(open);
                if subscribers.len() >= MAX_SUBSCRIBERS {
                    return Err(SubscribeError::Full);
                }
            }
            Arc::make_mut(&mut subscribers).push(subscriber);
        }
        drop(gone);
        let topic = Arc::downgrade(&self.0);
        Ok(Subscription { state, topic })
    }

    /// Sends `message` to all who are subscribed now. It is done when each has it queued or has lost it;
    /// only subscribers that chose [`Slow::Wait`] are waited for. Nothing is sent before the first poll,
    /// and if the future is dropped, those it waits for do not get the message.
    pub fn publish(&self, message: M) -> impl Future<Output = Published> + Send + use<M> {
        let inner = self.0.clone();
        async move {
            let subscribers = lock(&inner.subscribers).clone();
            let mut published = Published::default();
            let mut slow = Vec::new();
            for subscriber in subscribers.iter() {
                match subscriber.offer(message.clone()) {
                    Ok(fate) => inner.note(subscriber, &fate, &mut published),
                    Err(message) => slow.push((subscriber, message)),
                }
            }
            let fates = slow.into_iter().map(|(subscriber, message)| async move {
                let _waiting = Waiting::new(&subscriber.state);
                (subscriber, subscriber.wait(message).await)
            });
            for (subscriber, fate) in join_all(fates).await {
                inner.note(subscriber, &fate, &mut published);
            }
            published
        }
    }

    /// How many are subscribed.
    pub fn subscribers(&self) -> usize {
        lock(&self.0.subscribers).len()
    }

    /// How many messages were lost, one for each subscriber that lost it.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl<M: Message<Reply = ()> + Clone> Subscriber<M> {
    /// Sends `message` without waiting; hands it back if it has to be waited for.
    fn offer(&self, message: M) -> Result<Fate, M> {
        if self.state.has_ended.load(Ordering::Acquire) {
            return Ok(Fate::Ended);
        }
        if self.slow == Slow::Wait && self.state.waiting.load(Ordering::Acquire) > 0 {
            return Err(message);
        }
        let Err(TellError { message, reason }) = self.recipient.try_tell(message) else {
            return Ok(Fate::Taken);
        };
        let is_opening = reason == SendFailure::NoRouteYet;
        match self.judge(&reason) {
            Judgement::Slow if self.slow == Slow::Wait => return Err(message),
            Judgement::Slow | Judgement::OutOfReach if self.slow == Slow::Unsubscribe && !is_opening => {
                self.state.end();
            }
            Judgement::Slow | Judgement::OutOfReach | Judgement::Unfit => {}
            Judgement::Ended => return Ok(Fate::Ended),
        }
        Ok(Fate::Lost)
    }

    /// Sends `message` when there is room, unless the subscription ends first.
    async fn wait(&self, message: M) -> Fate {
        let told = pin!(self.recipient.tell(message));
        let ended = pin!(self.state.wait_for_end());
        match select(told, ended).await {
            Either::Left((Ok(()), _)) => Fate::Taken,
            Either::Left((Err(error), _)) => match self.judge(&error.reason) {
                Judgement::Ended => Fate::Ended,
                Judgement::Slow | Judgement::OutOfReach | Judgement::Unfit => Fate::Lost,
            },
            Either::Right(((), _)) => Fate::Ended,
        }
    }

    fn judge(&self, reason: &SendFailure) -> Judgement {
        match reason {
            // Whoever takes this message, as one worker of several, has ended; others may take the next.
            SendFailure::Closed if !self.recipient.is_closed() => Judgement::Unfit,
            reason => judge(reason),
        }
    }
}

/// Counts a publisher that waits for a subscriber, for as long as it does.
struct Waiting<'a>(&'a State);

impl<'a> Waiting<'a> {
    fn new(state: &'a State) -> Self {
        state.waiting.fetch_add(1, Ordering::AcqRel);
        Self(state)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

enum Judgement {
    /// It may have room later.
    Slow,
    /// It may come back.
    OutOfReach,
    /// This message, not this subscriber, is at fault.
    Unfit,
    /// It will take no message any more.
    Ended,
}

fn judge(reason: &SendFailure) -> Judgement {
    match reason {
        SendFailure::Full | SendFailure::NoRouteYet => Judgement::Slow,
        SendFailure::Refused(refusal) if refusal.code == RefusalCode::Busy => Judgement::Slow,
        SendFailure::Refused(refusal)
            if matches!(refusal.code, RefusalCode::Malformed | RefusalCode::TooLong) =>
        {
            Judgement::Unfit
        }
        SendFailure::TooLong | SendFailure::Expired => Judgement::Unfit,
        SendFailure::Unreachable(_) => Judgement::OutOfReach,
        SendFailure::Closed | SendFailure::Refused(_) => Judgement::Ended,
    }
}

impl<M: Message> Inner<M> {
    fn note(&self, subscriber: &Arc<Subscriber<M>>, fate: &Fate, published: &mut Published) {
        match fate {
            Fate::Taken => published.taken += 1,
            Fate::Lost => {
                published.lost += 1;
                subscriber.state.lost.fetch_add(1, Ordering::Relaxed);
                self.lost.fetch_add(1, Ordering::Relaxed);
                self.shared.bury(DeadLetter {
                    reason: DeadLetterReason::Overrun,
                    peer: None,
                    path: None,
                    type_name: Some(std::any::type_name::<M>()),
                    kind: None,
                    id: None,
                });
            }
            Fate::Ended => subscriber.state.end(),
        }
        if subscriber.state.has_ended.load(Ordering::Acquire) {
            self.remove(&subscriber.state);
        }
    }
}

/// Takes subscriptions out of a topic of any message.
trait Subscriptions: Send + Sync {
    fn remove(&self, state: &Arc<State>);
}

impl<M: Message> Subscriptions for Inner<M> {
    fn remove(&self, state: &Arc<State>) {
        let mut subscribers = lock(&self.subscribers);
        let at = subscribers.iter().position(|subscriber| Arc::ptr_eq(&subscriber.state, state));
        let gone = at.map(|at| Arc::make_mut(&mut subscribers).remove(at));
        // In this order: what is dropped with the subscriber may be code that uses this topic.
        drop(subscribers);
        drop(gone);
    }
}

/// One subscription to a [`Topic`]. Dropping it does not end it.
#[derive(Clone)]
pub struct Subscription {
    state: Arc<State>,
    topic: Weak<dyn Subscriptions>,
}

impl Subscription {
    /// Ends it: no message is sent to the subscriber after this, and publishers that wait for it go on.
    pub fn cancel(&self) {
        self.state.end();
        if let Some(topic) = self.topic.upgrade() {
            topic.remove(&self.state);
        }
    }

    /// False once it was cancelled, or the subscriber has ended or was too slow.
    pub fn is_active(&self) -> bool {
        !self.state.has_ended.load(Ordering::Acquire)
    }

    /// How many messages this subscriber has lost.
    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("is_active", &self.is_active())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

impl<M: Message<Reply = ()> + Clone> Clone for Topic<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Message<Reply = ()> + Clone> fmt::Debug for Topic<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("message", &std::any::type_name::<M>())
            .field("subscribers", &self.subscribers())
            .finish_non_exhaustive()
    }
}
