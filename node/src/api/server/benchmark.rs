//! The route of the benchmark: the Node measures, which takes longer than other answers.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;

use super::{Failure, Shared};
use crate::commands::{BenchmarkCapability, CommandError};

/// How long the node may take: six figures for as long as may be set, and more on a disk that hardly moves.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(600);

/// Adds the route.
pub(super) fn routes(router: Router<Shared>) -> Router<Shared> {
    router.route("/v1/capability/benchmark", post(measure))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MeasureQuery {
    #[serde(default)]
    dry_run: bool,
}

async fn measure(
    State(shared): State<Shared>,
    query: Result<Query<MeasureQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(MeasureQuery { dry_run }) = query?;
    let mut stopping = shared.stopping.clone();
    let measured =
        shared.state.node.ask(BenchmarkCapability { is_registered: !dry_run }).timeout(MEASURE_TIMEOUT);
    tokio::select! {
        biased;
        // A node that stops is not kept from it.
        _ = stopping.wait_for(|is_stopping| *is_stopping) => Err(CommandError::Draining.into()),
        measured = measured => Ok(Json(measured??).into_response()),
    }
}
