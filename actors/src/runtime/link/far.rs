//! The sender's side of an actor on another machine.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::super::recipient::Port;
use super::super::{Address, AskError, Refusal, RefusalCode, SendFailure, TellError};
use super::MAX_BODY_LENGTH;
use super::network::Links;
use super::outgoing::{Link, Outcome, Outgoing};
use crate::cbor::{self, CborError};
use crate::wire::DecodeError;
use crate::{Kind, Message, WireMessage};

/// Longest time an ask may take; beyond the clock's range there is nothing to wait for.
const MAX_ASK: Duration = Duration::from_secs(30 * 24 * 3600);

/// An address of another system, with the links to get there (`None` in a system without a network).
pub(crate) struct Far {
    links: Option<Arc<Links>>,
    address: Address,
}

impl Far {
    pub(crate) fn new(links: Option<Arc<Links>>, address: Address) -> Self {
        Self { links, address }
    }

    async fn link(&self) -> Result<Arc<Link>, SendFailure> {
        match &self.links {
            Some(links) => links.link(self.address.did).await,
            None => Err(SendFailure::NoRouteYet),
        }
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
            let kind = Kind::of::<M>();
            let word = Outgoing {
                to: &self.address.path,
                kind: &kind,
                type_name: std::any::type_name::<M>(),
                body: &body,
                ttl_ms: None,
            };
            let sent = async { self.link().await?.send(&word).await };
            sent.await.map_err(|reason| TellError { message, reason })
        })
    }

    fn try_tell(self: Arc<Self>, message: M) -> Result<(), TellError<M>> {
        let send = || {
            let links = self.links.as_ref().ok_or(SendFailure::NoRouteYet)?;
            // Before the body is encoded: most of the failures of a handler's send are these.
            let link = links.link_now(self.address.did).ok_or(SendFailure::NoRouteYet)?;
            let kind = Kind::of::<M>();
            link.try_send(&Outgoing {
                to: &self.address.path,
                kind: &kind,
                type_name: std::any::type_name::<M>(),
                body: &encode(&message)?,
                ttl_ms: None,
            })
        };
        send().map_err(|reason| TellError { message, reason })
    }

    fn ask(self: Arc<Self>, message: M, time: Duration) -> BoxFuture<'static, Result<M::Reply, AskError<M>>> {
        Box::pin(async move {
            let deadline = Instant::now() + time.min(MAX_ASK);
            let body = match encode(&message) {
                Ok(body) => body,
                Err(reason) => return Err(AskError::NotSent { message, reason }),
            };
            let kind = Kind::of::<M>();
            let (reply_tx, reply_rx) = oneshot::channel();
            // Decodes in the link's task, not on the thread of an actor that asks.
            let resolver = Box::new(move |outcome: Outcome| {
                let _ = reply_tx.send(match outcome {
                    Outcome::Reply(body) => cbor::from_canonical(&body)
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
            let left = deadline.saturating_duration_since(Instant::now());
            let word = Outgoing {
                to: &self.address.path,
                kind: &kind,
                type_name: std::any::type_name::<M>(),
                body: &body,
                ttl_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            };
            let _open = match timeout_at(deadline, link.send_ask(&word, resolver)).await {
                Ok(Ok(id)) => OpenAsk { link: link.clone(), id },
                Ok(Err(reason)) => return Err(AskError::NotSent { message, reason }),
                Err(_) => return Err(AskError::NotSent { message, reason: SendFailure::Full }),
            };
            match timeout_at(deadline, reply_rx).await {
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
    link: Arc<Link>,
    id: u64,
}

impl Drop for OpenAsk {
    fn drop(&mut self) {
        self.link.forget_ask(self.id);
    }
}
