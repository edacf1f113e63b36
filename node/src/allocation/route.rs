//! Brings a message to an allocation wherever it runs, and asks how one stands: the two questions whose answers lie
//! with the provider. For the Node actor, and for programs that embed a system and know an address.
//!
//! ```text
//!   route_to_allocation ──ask──► did:key:…/node/alloc/ID      nobody there? ──ask──► did:key:…/node: why not
//!   check_allocation    ──ask──► did:key:…/node
//! ```

use std::time::Duration;

use dms_actors::{ActorSystem, Address, AskError, Did, Message, RefusalCode, SendFailure};
use dms_messages::{
    AllocationCheck, AllocationId, AllocationMessage, AllocationRefusal, AllocationReport, Delivered,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::path_of;
use crate::commands::CommandError;
use crate::errors::whole;
use crate::listings::Role;
use crate::paths::NODE_PATH;

/// How long a message may take to be brought to its program, dialling included; shorter than the API waits.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest wait for a program's reply, well within the patience of any client.
pub const MAX_REPLY_WAIT: Duration = Duration::from_secs(20);

/// Which allocation is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllocationTarget {
    /// One that this node runs, or has asked for: its id, or the beginning of it.
    Known(String),
    /// Anybody's.
    At {
        /// Who runs it.
        provider: Did,
        /// Which.
        allocation: AllocationId,
    },
}

/// Has the Node bring a message to an allocation, its own or one that it has asked for. Answered when the message lies
/// in the program's inbox, or with the program's reply if one is wanted.
#[doc(alias = "routeToAllocation")]
#[derive(Debug)]
pub struct RouteToAllocation {
    /// To which.
    pub to: AllocationTarget,
    /// What is said.
    pub message: AllocationMessage,
    /// How long the answer may take.
    pub patience: Duration,
}

impl Message for RouteToAllocation {
    type Reply = Result<Delivered, RouteError>;
}

/// Asks how an allocation stands now: its provider, if that is another node.
#[doc(alias = "checkAllocationStatus")]
#[derive(Debug)]
pub struct CheckAllocationStatus {
    /// Which.
    pub of: AllocationTarget,
}

impl Message for CheckAllocationStatus {
    type Reply = Result<CheckedAllocation, RouteError>;
}

/// How an allocation stands, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedAllocation {
    /// Who runs it.
    pub provider: Did,
    /// What this node is in it; none if it is neither's.
    pub role: Option<Role>,
    /// True if its provider was asked just now; what has ended, or runs here, is in this node's own books.
    pub is_asked: bool,
    /// How it stands.
    pub report: AllocationReport,
}

/// Why a message was not brought, or a question not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// This node cannot say which allocation is meant, or is busy.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The provider, or the allocation, refuses.
    #[error("allocation {allocation}: {refusal}")]
    Refused {
        /// Which.
        allocation: AllocationId,
        /// Why.
        refusal: AllocationRefusal,
    },
    /// Its provider cannot be reached: nothing was done.
    #[error("the provider {provider} cannot be reached: {reason}")]
    Unreachable {
        /// Who.
        provider: Did,
        /// Why.
        reason: String,
    },
    /// No answer came in time, from the provider or from the program.
    #[error("no answer from allocation {allocation} in time: unknown whether it was done")]
    TimedOut {
        /// Which.
        allocation: AllocationId,
    },
    /// The link broke, or the allocation ended, before the answer came.
    #[error("the answer of allocation {allocation} is lost: unknown whether it was done")]
    Lost {
        /// Which.
        allocation: AllocationId,
    },
    /// The provider is no node that understands this, or its answer is none.
    #[error("the provider {provider} does not answer as it should: {reason}")]
    Failed {
        /// Who.
        provider: Did,
        /// How.
        reason: String,
    },
}

impl RouteError {
    fn refused(allocation: AllocationId, refusal: AllocationRefusal) -> Self {
        Self::Refused { allocation, refusal }
    }
}

/// Brings a message to an allocation of `provider`'s, which may be this very system.
///
/// # Errors
/// Every [`RouteError`] but `Command`.
#[doc(alias = "routeToAllocation")]
pub async fn route_to_allocation(
    system: &ActorSystem,
    provider: Did,
    allocation: AllocationId,
    message: AllocationMessage,
    patience: Duration,
) -> Result<Delivered, RouteError> {
    let deadline = Instant::now() + patience;
    let recipient = system.resolve::<AllocationMessage>(&address(provider, &path_of(allocation)));
    match recipient.ask(message).deadline(deadline).await {
        Ok(answer) => answer.map_err(|refusal| RouteError::refused(allocation, refusal)),
        Err(error) if is_nobody_there(&error) => {
            Err(why_nobody_is_there(system, provider, allocation, deadline).await)
        }
        Err(error) => Err(failure(provider, allocation, &error)),
    }
}

/// Asks `provider`, which may be this very system, how an allocation of its stands.
///
/// # Errors
/// Every [`RouteError`] but `Command`.
#[doc(alias = "checkAllocationStatus")]
pub async fn check_allocation(
    system: &ActorSystem,
    provider: Did,
    allocation: AllocationId,
    patience: Duration,
) -> Result<AllocationReport, RouteError> {
    check_until(system, provider, allocation, Instant::now() + patience).await
}

async fn check_until(
    system: &ActorSystem,
    provider: Did,
    allocation: AllocationId,
    deadline: Instant,
) -> Result<AllocationReport, RouteError> {
    let recipient = system.resolve::<AllocationCheck>(&address(provider, NODE_PATH));
    match recipient.ask(AllocationCheck { allocation }).deadline(deadline).await {
        Ok(Ok(report)) if report.allocation != allocation => {
            let reason = "it speaks of another allocation".to_owned();
            Err(RouteError::Failed { provider, reason })
        }
        Ok(answer) => answer.map_err(|refusal| RouteError::refused(allocation, refusal)),
        Err(error) => Err(failure(provider, allocation, &error)),
    }
}

/// Nobody has the address: it has ended, or is about to begin, or there never was one. Nothing was done in any case.
async fn why_nobody_is_there(
    system: &ActorSystem,
    provider: Did,
    allocation: AllocationId,
    deadline: Instant,
) -> RouteError {
    let asked = timeout_at(deadline, check_until(system, provider, allocation, deadline)).await;
    let refusal = match asked {
        Ok(Ok(report)) if report.state.is_terminal() => AllocationRefusal::Ended,
        Ok(Ok(_)) => AllocationRefusal::NotStarted,
        Ok(Err(RouteError::Refused { refusal, .. })) => refusal,
        // Nothing was done, and it is not known whether anything ever will be.
        Ok(Err(error @ (RouteError::Command(_) | RouteError::Unreachable { .. }))) => return error,
        Ok(Err(_)) | Err(_) => {
            let reason = "nobody is at its address, and why was not said in time".to_owned();
            return RouteError::Unreachable { provider, reason };
        }
    };
    RouteError::refused(allocation, refusal)
}

fn address(provider: Did, path: &str) -> Address {
    Address::new(provider, path).expect("a path of plain names and a UUID is a path")
}

/// The refusal by name, by the far system or by our own registry.
fn refusal_of<M>(error: &AskError<M>) -> Option<RefusalCode> {
    match error {
        AskError::Refused(refusal) | AskError::NotSent { reason: SendFailure::Refused(refusal), .. } => {
            Some(refusal.code)
        }
        _ => None,
    }
}

fn is_nobody_there<M>(error: &AskError<M>) -> bool {
    refusal_of(error) == Some(RefusalCode::UnknownPath)
        || matches!(error, AskError::NotSent { reason: SendFailure::Closed, .. })
}

/// What an ask that has no answer means to whoever asked.
fn failure<M: 'static>(provider: Did, allocation: AllocationId, error: &AskError<M>) -> RouteError {
    match (refusal_of(error), error) {
        (Some(RefusalCode::NotTrusted), _) => RouteError::refused(allocation, AllocationRefusal::NotYours),
        (Some(RefusalCode::TooLong), _) => RouteError::refused(allocation, AllocationRefusal::TooLarge),
        (Some(RefusalCode::Expired), _) | (None, AskError::TimedOut) => RouteError::TimedOut { allocation },
        (Some(RefusalCode::Busy), _) | (None, AskError::NotSent { reason: SendFailure::Full, .. }) => {
            CommandError::Busy.into()
        }
        (None, AskError::NotSent { reason: SendFailure::Expired, .. }) => {
            RouteError::Unreachable { provider, reason: "not in time".to_owned() }
        }
        (None, AskError::NotSent { reason, .. }) => {
            RouteError::Unreachable { provider, reason: whole(reason) }
        }
        (None, AskError::Lost) => RouteError::Lost { allocation },
        (_, error) => RouteError::Failed { provider, reason: whole(error) },
    }
}

#[cfg(test)]
mod tests {
    use dms_actors::Refusal;

    use super::*;
    use crate::testing::did;

    #[test]
    fn what_becomes_of_an_ask_is_what_its_sender_can_act_on() {
        let allocation = AllocationId::from_random([1; 16]);
        let refused = |code| AskError::Refused::<()>(Refusal::new(code, "x"));
        let not_sent = |reason| AskError::NotSent { message: (), reason };
        let said = |refusal| RouteError::Refused { allocation, refusal };
        let table = [
            (refused(RefusalCode::NotTrusted), said(AllocationRefusal::NotYours)),
            (refused(RefusalCode::TooLong), said(AllocationRefusal::TooLarge)),
            (refused(RefusalCode::Busy), CommandError::Busy.into()),
            (not_sent(SendFailure::Full), CommandError::Busy.into()),
            (AskError::TimedOut, RouteError::TimedOut { allocation }),
            (refused(RefusalCode::Expired), RouteError::TimedOut { allocation }),
            (AskError::Lost, RouteError::Lost { allocation }),
        ];
        for (error, expected) in table {
            assert_eq!(failure(did(1), allocation, &error), expected, "{error:?}");
        }
        for reason in [SendFailure::NoRouteYet, SendFailure::Expired, SendFailure::Unreachable("no".into())] {
            let failed = failure(did(1), allocation, &not_sent(reason.clone()));
            assert!(matches!(failed, RouteError::Unreachable { .. }), "{reason:?}: {failed:?}");
        }
        let unknown = failure(did(1), allocation, &refused(RefusalCode::UnknownKind));
        assert!(matches!(unknown, RouteError::Failed { .. }), "{unknown:?}");
        let nobody = Refusal::new(RefusalCode::UnknownPath, "x");
        assert!(is_nobody_there(&refused(RefusalCode::UnknownPath)));
        assert!(is_nobody_there(&not_sent(SendFailure::Refused(nobody))));
        assert!(is_nobody_there(&not_sent(SendFailure::Closed)));
        assert!(!is_nobody_there(&AskError::TimedOut::<()>));
    }
}
