//! The sender's side of an actor on another machine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::super::recipient::Port;
use super::super::send::Until;
use super::super::{
    ActorPath, Address, AskError, Refusal, RefusalCode, SendFailure, TellError, TraceContext, lock,
};
use super::MAX_BODY_LENGTH;
use super::network::Links;
use super::outgoing::{Link, Outcome, Outgoing, Target};
use crate::cbor::{self, CborError};
use crate::wire::DecodeError;
use crate::{Did, Kind, Message, WireMessage};

/// Longest time an ask may take; beyond the clock's range there is nothing to wait for.
const MAX_ASK: Duration = Duration::from_secs(30 * 24 * 3600);

/// One kind of word to an address of another system, with the links to get there (`None` in a system
/// without a network).
pub(crate) struct Far {
    links: Option<Arc<Links>>,
    peer: Did,
    target: Arc<Target>,
    /// The link that was used last; asked first whether it is still of use.
    link: Mutex<Option<Arc<Link>>>,
}

impl Far {
    pub(crate) fn new<M: WireMessage>(
        links: Option<Arc<Links>>,
        address: &Address,
        from: Option<ActorPath>,
    ) -> Self {
        let kind = Kind::of::<M>();
        let target = Target {
            path: address.path.clone(),
            kind_text: kind.to_string(),
            kind,
            type_name: std::any::type_name::<M>(),
            from,
        };
        Self { links, peer: address.did, target: Arc::new(target), link: Mutex::default() }
    }

    /// The link if it is up; else it starts to be opened.
    fn link_now(&self) -> Result<Arc<Link>, SendFailure> {
        let mut known = lock(&self.link);
        if let Some(link) = &*known
            && !link.is_dead()
        {
            return Ok(link.clone());
        }
        let links = self.links.as_ref().ok_or(SendFailure::NoRouteYet)?;
        *known = links.link_now(self.peer);
        known.clone().ok_or(SendFailure::NoRouteYet)
    }

    async fn link(&self) -> Result<Arc<Link>, SendFailure> {
        if let Some(link) = &*lock(&self.link)
            && !link.is_dead()
        {
            return Ok(link.clone());
        }
        let links = self.links.as_ref().ok_or(SendFailure::NoRouteYet)?;
        let link = links.link(self.peer).await?;
        *lock(&self.link) = Some(link.clone());
        Ok(link)
    }

    fn word<'a>(&'a self, body: &'a [u8], deadline: Option<Instant>) -> Outgoing<'a> {
        Outgoing { target: &self.target, body, deadline, trace: TraceContext::current() }
    }
}

fn encode<M: WireMessage>(message: &M) -> Result<Vec<u8>, SendFailure> {
    match message.encode_body() {
        Ok(body) if body.len() <= MAX_BODY_LENGTH => Ok(body),
        Ok(_) | Err(CborError::TooLong { .. }) => Err(SendFailure::TooLong),
        Err(error) => Err(SendFailure::Refused(Refusal::new(RefusalCode::Malformed, error.to_string()))),
    }
}

impl<M> Port<M> for Far
where
    M: Message + WireMessage,
    M::Reply: DeserializeOwned,
{
    fn tell(self: Arc<Self>, message: M) -> BoxFuture<'static, Result<(), TellError<M>>> {
        Box::pin(async move {
            // Encoded first and apart, so that nothing of the message is held across a wait but itself.
            let body = match encode(&message) {
                Ok(body) => body,
                Err(reason) => return Err(TellError { message, reason }),
            };
            let sent = async { self.link().await?.send(&self.word(&body, None), None).await };
            sent.await.map(|_| ()).map_err(|reason| TellError { message, reason })
        })
    }

    fn try_tell(self: Arc<Self>, message: M) -> Result<(), TellError<M>> {
        let send = || {
            // Before the body is encoded: most of the failures of a handler's send are these.
            let link = self.link_now()?;
            link.try_send(&self.word(&encode(&message)?, None), &mut None)
        };
        send().map(|_| ()).map_err(|reason| TellError { message, reason })
    }

    fn ask(self: Arc<Self>, message: M, until: Until) -> BoxFuture<'static, Result<M::Reply, AskError<M>>> {
        Box::pin(async move {
            let deadline = until.deadline();
            let now = Instant::now();
            let deadline = deadline.min(now + MAX_ASK);
            if deadline <= now {
                // As near: whether the link is up makes no difference.
                return Err(AskError::NotSent { message, reason: SendFailure::Expired });
            }
            let body = match encode(&message) {
                Ok(body) => body,
                Err(reason) => return Err(AskError::NotSent { message, reason }),
            };
            let (reply_tx, reply_rx) = oneshot::channel();
            // Decodes in the link's task, not on the thread of an actor that asks.
            let resolver = Box::new(move |outcome: Outcome<'_>| {
                let _ = reply_tx.send(match outcome {
                    Outcome::Reply(body) => cbor::from_canonical(body)
                        .map_err(|error| Unanswered::Unreadable(DecodeError::Cbor(error))),
                    Outcome::Refused(refusal) => Err(Unanswered::Refused(refusal)),
                    Outcome::Lost => Err(Unanswered::Lost),
                });
            });
            let link = match timeout_at(deadline, self.link()).await {
                Ok(Ok(link)) => link,
                Ok(Err(reason)) => return Err(AskError::NotSent { message, reason }),
                Err(_) => return Err(AskError::NotSent { message, reason: SendFailure::NoRouteYet }),
            };
            // What its asker did not limit, the receiver is not told to hurry with.
            let word = self.word(&body, (until != Until::Default).then_some(deadline));
            let mut open = match timeout_at(deadline, link.send(&word, Some(resolver))).await {
                Ok(Ok(id)) => OpenAsk { link: Some(link), id },
                Ok(Err(reason)) => return Err(AskError::NotSent { message, reason }),
                Err(_) => return Err(AskError::NotSent { message, reason: SendFailure::Full }),
            };
            let outcome = timeout_at(deadline, reply_rx).await;
            if outcome.is_ok() {
                // The link has forgotten it already.
                open.link = None;
            }
            match outcome {
                Ok(Ok(Ok(reply))) => Ok(reply),
                Ok(Ok(Err(Unanswered::Refused(refusal)))) => Err(AskError::Refused(refusal)),
                Ok(Ok(Err(Unanswered::Unreadable(error)))) => Err(AskError::Reply(error)),
                Ok(Ok(Err(Unanswered::Lost)) | Err(_)) => Err(AskError::Lost),
                Err(_) => Err(AskError::TimedOut),
            }
        })
    }
}

enum Unanswered {
    Refused(Refusal),
    Unreadable(DecodeError),
    Lost,
}

/// An ask that waits at the link; forgotten there when the asker gives up.
struct OpenAsk {
    link: Option<Arc<Link>>,
    id: u64,
}

impl Drop for OpenAsk {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.forget_ask(self.id);
        }
    }
}
