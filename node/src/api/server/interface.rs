//! The routes by which the owner uses the node as a provider: capacity locked and let go by hand, what is locked
//! started, and how much is to be free; see [`crate::interface`].

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use axum::{Json, Router};
use dms_messages::{BidRequest, BidRequestId, Credentials, JobId};
use dms_storage::Lock;

use super::{Failure, Shared, check_contents};
use crate::api::types::{JobCreated, Locked, NewLock, StartLockedJob};
use crate::interface::{Amounts, EndLock, LockCapability, SetAvailableCapability, StartLocked};

/// Adds the routes.
pub(super) fn routes(router: Router<Shared>) -> Router<Shared> {
    router
        .route("/v1/capability/available", post(set_available))
        .route("/v1/locks", post(lock))
        .route("/v1/locks/{bid}", delete(unlock))
        .route("/v1/locks/{bid}/start", post(start))
}

async fn set_available(
    State(shared): State<Shared>,
    body: Result<Json<Amounts>, JsonRejection>,
) -> Result<StatusCode, Failure> {
    let Json(available) = body?;
    shared.ask(SetAvailableCapability { available }).await??;
    Ok(StatusCode::NO_CONTENT)
}

async fn lock(
    State(shared): State<Shared>,
    body: Result<Json<NewLock>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(new) = body?;
    let clock = &shared.state.clock;
    let request = BidRequest {
        id: BidRequestId::from_random(clock.random()),
        job: JobId::from_random(clock.random()),
        pod: 0,
        requirement: new.requirement,
        run_time: new.run_time,
        max_price: new.max_price,
        wanted: 1,
        addresses: Vec::new(),
        credentials: Credentials::default(),
    };
    let job = request.job;
    let bid = shared.ask(LockCapability { request, lease: new.lease.duration() }).await??;
    let bid = bid.into_value();
    let locked = Locked { bid: bid.id, job, resources: bid.resources, price: bid.price, lease: bid.lease };
    Ok((StatusCode::CREATED, Json(locked)).into_response())
}

async fn unlock(
    State(shared): State<Shared>,
    bid: Result<UrlPath<String>, PathRejection>,
) -> Result<Json<Lock>, Failure> {
    let UrlPath(bid) = bid?;
    Ok(Json(shared.ask(EndLock { bid }).await??))
}

async fn start(
    State(shared): State<Shared>,
    bid: Result<UrlPath<String>, PathRejection>,
    body: Result<Json<StartLockedJob>, JsonRejection>,
) -> Result<Response, Failure> {
    let UrlPath(bid) = bid?;
    let Json(StartLockedJob { job }) = body?;
    check_contents(&shared, &job).await?;
    // The lock says which job it is.
    let id = JobId::from_random(shared.state.clock.random());
    let job = job.into_job(id, shared.state.clock.now(), &shared.state.defaults);
    let job = shared.ask(StartLocked { bid, job }).await??;
    Ok((StatusCode::CREATED, Json(JobCreated { job })).into_response())
}
