//! Questions about an actor of another system, answered by its owner: is it there, and how does it end?
//!
//! They travel over the asker's own link, so nobody but the peer itself can answer them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::super::{Address, ExitReason, Refusal, RefusalCode, SendFailure};
use super::network::Links;
use super::outgoing::Link;
use crate::Kind;

/// How long a lookup may take, the dial included.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a lookup found nobody. Callers act differently on each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No address of the peer is known: it may become known.
    #[error("no route to the peer yet")]
    NoRouteYet,
    /// The peer could not be reached, or its link was lost before it answered.
    #[error("the peer cannot be reached: {0}")]
    Unreachable(String),
    /// No actor is registered at the path.
    #[error("nobody is there")]
    NobodyThere,
    /// The actor at the path does not understand the kind.
    #[error("the actor does not understand this kind")]
    NotUnderstood,
    /// The owner does not say, or refuses every link (another network, another version).
    #[error("refused")]
    Refused(#[source] Refusal),
    /// No answer came within 30 seconds.
    #[error("no answer in time")]
    TimedOut,
}

impl From<Refusal> for LookupError {
    fn from(refusal: Refusal) -> Self {
        match refusal.code {
            RefusalCode::UnknownPath => Self::NobodyThere,
            RefusalCode::UnknownKind => Self::NotUnderstood,
            _ => Self::Refused(refusal),
        }
    }
}

impl From<SendFailure> for LookupError {
    fn from(failure: SendFailure) -> Self {
        match failure {
            SendFailure::NoRouteYet => Self::NoRouteYet,
            SendFailure::Unreachable(reason) => Self::Unreachable(reason),
            SendFailure::Refused(refusal) => Self::Refused(refusal),
            SendFailure::Full => {
                Self::Refused(Refusal::new(RefusalCode::Busy, "too many questions are unanswered"))
            }
            other => Self::Unreachable(other.to_string()),
        }
    }
}

/// The kind by which a policy knows a watch: `actor.watch/1`.
pub(super) fn watch_kind() -> Kind {
    Kind { name: "actor.watch".to_owned(), version: 1 }
}

/// Asks the owner of `address` whether somebody there understands the kind.
pub(crate) async fn look_up(
    links: Option<Arc<Links>>,
    address: Address,
    kind: Kind,
) -> Result<(), LookupError> {
    let ask = async {
        let links = links.ok_or(LookupError::NoRouteYet)?;
        let link = links.link(address.did).await?;
        let (number, answer) = link.look_up(&address.path, &kind.to_string())?;
        let _open = OpenRequest { link, number };
        match answer.await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(LookupError::Unreachable("the link was lost".to_owned())),
        }
    };
    timeout(LOOKUP_TIMEOUT, ask).await.unwrap_or(Err(LookupError::TimedOut))
}

/// Waits until the actor at `address`, of another system, has ended.
pub(crate) async fn watch(links: Option<Arc<Links>>, address: Address) -> ExitReason {
    let Some(links) = links else { return ExitReason::PeerLost };
    let link = match links.link(address.did).await {
        Ok(link) => link,
        Err(SendFailure::Refused(refusal)) => return ExitReason::WatchRefused(refusal),
        Err(_) => return ExitReason::PeerLost,
    };
    let (number, answer) = match link.watch(&address.path) {
        Ok(request) => request,
        Err(SendFailure::Full) => {
            let text = "too many actors of the peer are watched";
            return ExitReason::WatchRefused(Refusal::new(RefusalCode::Busy, text));
        }
        Err(_) => return ExitReason::PeerLost,
    };
    let _open = OpenRequest { link, number };
    match answer.await {
        Ok(Ok(reason)) => reason,
        Ok(Err(refusal)) if refusal.code == RefusalCode::UnknownPath => ExitReason::NobodyThere,
        Ok(Err(refusal)) => ExitReason::WatchRefused(refusal),
        Err(_) => ExitReason::PeerLost,
    }
}

/// A question that waits at the link; taken back when nobody waits for its answer any more.
struct OpenRequest {
    link: Arc<Link>,
    number: u64,
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.link.forget_request(self.number);
    }
}
