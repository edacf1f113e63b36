//! The routes to allocations themselves: what is said to their programs, and how they stand now.

use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use dms_actors::Did;
use dms_messages::{AllocationMessage, AllocationRefusal, Millis};
use serde::Deserialize;

use super::{ASK_TIMEOUT, Failure, Shared};
use crate::allocation::route::{
    AllocationTarget, CheckAllocationStatus, DELIVERY_TIMEOUT, MAX_REPLY_WAIT, RouteError, RouteToAllocation,
};
use crate::api::messages::{MessageSent, NewMessage};

/// Adds the routes.
pub(super) fn routes(router: Router<Shared>) -> Router<Shared> {
    router.route("/v1/allocations/{id}/messages", post(send)).route("/v1/allocations/{id}/status", get(check))
}

impl From<RouteError> for Failure {
    fn from(error: RouteError) -> Self {
        let (status, code) = match &error {
            RouteError::Command(error) => return error.clone().into(),
            RouteError::Refused { refusal, .. } => (status_of(*refusal), refusal.code()),
            RouteError::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "provider_unreachable"),
            RouteError::TimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "no_answer"),
            RouteError::Lost { .. } => (StatusCode::BAD_GATEWAY, "answer_lost"),
            RouteError::Failed { .. } => (StatusCode::BAD_GATEWAY, "provider_failed"),
        };
        Self::new(status, code, error.to_string())
    }
}

fn status_of(refusal: AllocationRefusal) -> StatusCode {
    match refusal {
        AllocationRefusal::UnknownAllocation => StatusCode::NOT_FOUND,
        AllocationRefusal::NotYours => StatusCode::FORBIDDEN,
        AllocationRefusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        AllocationRefusal::InboxFull | AllocationRefusal::ReadOnly => StatusCode::SERVICE_UNAVAILABLE,
        // Not started, ended, not listening: as it stands now.
        _ => StatusCode::CONFLICT,
    }
}

/// Which allocation is meant by an id, or the beginning of one, and who runs it if that is said.
fn target(id: String, provider: Option<Did>) -> Result<AllocationTarget, Failure> {
    match provider {
        None => Ok(AllocationTarget::Known(id)),
        Some(provider) => match id.parse() {
            Ok(allocation) => Ok(AllocationTarget::At { provider, allocation }),
            Err(error) => Err(Failure::malformed(format!("with a provider: {error}"))),
        },
    }
}

async fn send(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
    body: Result<Json<NewMessage>, JsonRejection>,
) -> Result<Response, Failure> {
    let UrlPath(id) = id?;
    let Json(message) = body?;
    let content = message.content().map_err(|error| Failure::malformed(error.to_string()))?;
    let wait = message.wait.map_or(Duration::ZERO, Millis::duration).min(MAX_REPLY_WAIT);
    let wants_reply = !wait.is_zero();
    // A program may take its time: those who wait for it leave room for the others.
    let place = match wants_reply {
        true => Some(shared.followers.try_acquire().map_err(|_| {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many wait for replies at once")
        })?),
        false => None,
    };
    let patience = if wants_reply { wait } else { DELIVERY_TIMEOUT };
    let to = target(id, message.provider)?;
    let route = RouteToAllocation { to, message: AllocationMessage { content, wants_reply }, patience };
    let delivered = shared.state.node.ask(route).timeout(patience + ASK_TIMEOUT).await??;
    drop(place);
    Ok(Json(MessageSent { reply: delivered.reply.map(Into::into) }).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckQuery {
    provider: Option<Did>,
}

async fn check(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
    query: Result<Query<CheckQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let UrlPath(id) = id?;
    let Query(CheckQuery { provider }) = query?;
    let of = target(id, provider)?;
    Ok(Json(shared.ask(CheckAllocationStatus { of }).await??).into_response())
}

#[cfg(test)]
mod tests {
    use dms_messages::AllocationId;

    use super::*;
    use crate::commands::CommandError;

    #[test]
    fn every_outcome_has_the_status_its_caller_acts_on() {
        let allocation = AllocationId::from_random([1; 16]);
        let provider = crate::testing::did(1);
        let reason = String::new();
        let table = [
            (RouteError::Command(CommandError::Busy), 503, "busy"),
            (RouteError::Unreachable { provider, reason: reason.clone() }, 502, "provider_unreachable"),
            (RouteError::TimedOut { allocation }, 504, "no_answer"),
            (RouteError::Lost { allocation }, 502, "answer_lost"),
            (RouteError::Failed { provider, reason }, 502, "provider_failed"),
        ];
        for (error, status, code) in table {
            let failure = Failure::from(error);
            assert_eq!((failure.status.as_u16(), failure.error.code.as_str()), (status, code));
        }
        let statuses = [404, 403, 409, 409, 409, 503, 503, 413];
        for ((refusal, code), status) in AllocationRefusal::ALL.into_iter().zip(statuses) {
            let failure = Failure::from(RouteError::Refused { allocation, refusal });
            assert_eq!((failure.status.as_u16(), failure.error.code.as_str()), (status, code));
            assert!(failure.error.message.contains(&allocation.to_string()), "{:?}", failure.error);
        }
    }
}
