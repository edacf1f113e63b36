//! A topic at a path, to which actors of other machines subscribe themselves.
//!
//! A peer names a path of its own, never an address, so that nobody can be subscribed by another; and the
//! publisher says what becomes of the slow, so that no stranger can hold it up.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::stream::{Stream, unfold};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::super::actor_ref::Lifecycle;
use super::super::{
    Actor, ActorPath, ActorSystem, Address, Answer, Context, ExitReason, Handler, PeerEvent, RegisterError,
    Supervision,
};
use super::{Slow, SubscribeError, Subscription, Topic};
use crate::{Did, Message, WireMessage, wire_message};

/// Subscriptions of one peer to one topic: one for each of its actors that listens, so that a peer cannot
/// take the places of all others.
const MAX_OF_PEER: usize = 16;

/// Subscribes the actor at this path of the sender's own system to the [topic](Topic::open) that it is
/// sent to. Twice is once. It lasts until [`Unsubscribe`], or until the peer's connection is lost: on
/// [`PeerEvent::Up`] it is to be said again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// The subscriber, which must accept the topic's messages there.
    pub path: ActorPath,
}
wire_message!(Subscribe, "actors.subscribe", 1, reply = Result<(), SubscribeError>);

/// Ends what [`Subscribe`] began. The reply says whether there was a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// The subscriber.
    pub path: ActorPath,
}
wire_message!(Unsubscribe, "actors.unsubscribe", 1, reply = bool);

/// A topic that others can subscribe to. Dropping it changes nothing.
#[derive(Clone)]
pub struct OpenTopic(Arc<dyn Lifecycle>);

impl OpenTopic {
    /// Ends the subscriptions that came by the path, and gives the path back. The topic stays.
    pub fn close(&self) {
        self.0.stop(ExitReason::Stopped);
    }

    /// Waits until it has closed.
    pub fn closed(&self) -> impl Future<Output = ExitReason> + Send + use<> {
        self.0.clone().closed()
    }
}

impl fmt::Debug for OpenTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenTopic({})", self.0.id())
    }
}

impl<M: Message<Reply = ()> + WireMessage + Clone> Topic<M> {
    /// Lets whoever the system's policy admits subscribe at `path`, with [`Subscribe`]. All who do are
    /// treated as `slow` says; [`Slow::Wait`] lets each of them hold up the publisher.
    ///
    /// ```
    /// # use dms_actors::*;
    /// # #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// # struct Price(u64);
    /// # wire_message!(Price, "example.price", 1);
    /// # fn publisher(system: &ActorSystem) -> Result<(), RegisterError> {
    /// let prices = Topic::<Price>::new(system);
    /// prices.open(system, "/prices", Slow::Drop)?;
    /// # Ok(())
    /// # }
    /// # async fn subscriber(system: &ActorSystem, publisher: Did) -> Result<(), Box<dyn std::error::Error>> {
    /// // On the other machine, where an actor at `/screen` accepts `Price`:
    /// let prices = Address::new(publisher, "/prices")?;
    /// system.resolve(&prices).ask(Subscribe { path: "/screen".parse()? }).await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Every [`RegisterError`].
    pub fn open(&self, system: &ActorSystem, path: &str, slow: Slow) -> Result<OpenTopic, RegisterError> {
        let topic = self.clone();
        let door = move || Door { topic: topic.clone(), slow, subscribed: BTreeMap::new() };
        let door = system.spawn(door, Supervision::transient());
        match system.register(path, &door) {
            Ok(registration) => {
                let _ = registration.accepts::<Subscribe>().accepts::<Unsubscribe>();
                Ok(OpenTopic(door.lifecycle()))
            }
            Err(error) => {
                door.stop();
                Err(error)
            }
        }
    }
}

/// The actor at the path. The subscriptions made through it go with it.
struct Door<M: Message<Reply = ()> + Clone> {
    topic: Topic<M>,
    slow: Slow,
    subscribed: BTreeMap<Did, BTreeMap<ActorPath, Subscription>>,
}

impl<M: Message<Reply = ()> + Clone> Door<M> {
    fn leave(&mut self, peer: Did) {
        for subscription in self.subscribed.remove(&peer).unwrap_or_default().into_values() {
            subscription.cancel();
        }
    }
}

impl<M: Message<Reply = ()> + Clone> Drop for Door<M> {
    fn drop(&mut self) {
        while let Some(peer) = self.subscribed.keys().next().copied() {
            self.leave(peer);
        }
    }
}

/// The peers that go. One whose going is missed, because very many went at once, stays subscribed; what
/// is published to it is lost and counted.
fn lost_peers(events: broadcast::Receiver<PeerEvent>) -> impl Stream<Item = Did> {
    unfold(events, |mut events| async {
        loop {
            match events.recv().await {
                Ok(PeerEvent::Down(peer)) => return Some((peer, events)),
                Ok(PeerEvent::Up(_)) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    })
}

impl<M: Message<Reply = ()> + WireMessage + Clone> Actor for Door<M> {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        let lost = lost_peers(ctx.system().peers());
        ctx.stream(lost, |door, peer, _| door.leave(peer), |_, _| {});
    }
}

impl<M: Message<Reply = ()> + WireMessage + Clone> Handler<Subscribe> for Door<M> {
    fn handle(
        &mut self,
        Subscribe { path }: Subscribe,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<Result<(), SubscribeError>> {
        let peer = ctx.sender();
        let mut theirs = self.subscribed.remove(&peer).unwrap_or_default();
        theirs.retain(|_, subscription| subscription.is_active());
        let subscribed = if theirs.contains_key(&path) {
            Ok(())
        } else if theirs.len() >= MAX_OF_PEER {
            Err(SubscribeError::TooManyOfPeer)
        } else {
            let recipient = ctx.system().resolve(&Address { did: peer, path: path.clone() });
            self.topic.subscribe(recipient, self.slow).map(|subscription| {
                theirs.insert(path, subscription);
            })
        };
        if !theirs.is_empty() {
            self.subscribed.insert(peer, theirs);
        }
        subscribed.into()
    }
}

impl<M: Message<Reply = ()> + WireMessage + Clone> Handler<Unsubscribe> for Door<M> {
    fn handle(&mut self, Unsubscribe { path }: Unsubscribe, ctx: &mut Context<'_, Self>) -> Answer<bool> {
        let theirs = self.subscribed.get_mut(&ctx.sender());
        let Some(subscription) = theirs.and_then(|theirs| theirs.remove(&path)) else {
            return false.into();
        };
        let was_active = subscription.is_active();
        subscription.cancel();
        was_active.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_their_golden_bytes() {
        let path: ActorPath = "/a".parse().unwrap();
        let golden = b"\xa1\x64path\x62/a";
        assert_eq!(Subscribe { path: path.clone() }.encode_body().unwrap(), golden);
        assert_eq!(Unsubscribe { path }.encode_body().unwrap(), golden);
        assert_eq!((Subscribe::KIND, Subscribe::VERSION), ("actors.subscribe", 1));
        assert_eq!((Unsubscribe::KIND, Unsubscribe::VERSION), ("actors.unsubscribe", 1));
        let full = crate::cbor::to_canonical(&Err::<(), _>(SubscribeError::Full)).unwrap();
        assert_eq!(full, b"\xa1\x63Err\x64full");
    }
}
