//! The routes about what is measured: samples for people, metrics for Prometheus.

use axum::Json;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::listings::LimitQuery;
use super::{Failure, Shared};
use crate::api::metrics;
use crate::monitor::{GetMeasurements, GetSamples};

/// Adds the routes.
pub(super) fn routes(router: Router<Shared>) -> Router<Shared> {
    router.route("/v1/samples", get(samples)).route("/metrics", get(measurements))
}

async fn samples(
    State(shared): State<Shared>,
    query: Result<Query<LimitQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    Ok(Json(shared.ask(GetSamples { limit: query.limit() }).await?).into_response())
}

async fn measurements(State(shared): State<Shared>) -> Result<Response, Failure> {
    let measured = shared.ask(GetMeasurements).await?;
    let text = metrics::text(&measured)
        .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}
