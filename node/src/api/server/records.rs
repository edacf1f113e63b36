//! The routes of what lies on disk: the event log, and the database as a whole.
//!
//! They read the database beside the Node, on the threads for blocking work, and ask the Node nothing. Whoever waits
//! for new events is answered at once when the node stops, so that nobody keeps it from ending.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use dms_messages::Millis;
use dms_storage::maintenance::{self, BackupError};
use dms_storage::rows::RowError;
use dms_storage::{EngineError, ReaderError, StoreError};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Failure, Shared};
use crate::api::MAX_LOG_WAIT;
use crate::api::client::is_plain_id;
use crate::api::types::NewBackup;
use crate::listings::PAGE_LIMIT;
use crate::records::{self, LogPage, LogQuery, LogStart, RecordsError, RowQuery};

/// How often it is looked whether there is a new event: quick enough to feel live, and one key read each.
const LOOK: Duration = Duration::from_millis(100);

/// Adds the routes.
pub(super) fn routes(router: Router<Shared>) -> Router<Shared> {
    router
        .route("/v1/log", get(read_log))
        .route("/v1/db/stats", get(stats))
        .route("/v1/db/rows/{family}", get(read_rows))
        .route("/v1/db/backup", post(back_up))
}

impl From<RecordsError> for Failure {
    fn from(error: RecordsError) -> Self {
        let (status, code) = match &error {
            RecordsError::Log(ReaderError::Cut { .. }) => (StatusCode::GONE, "cut"),
            RecordsError::Log(ReaderError::Engine(error)) | RecordsError::Row(RowError::Engine(error)) => {
                engine_code(error)
            }
            RecordsError::Log(_) | RecordsError::Row(_) => DAMAGED,
            RecordsError::UnknownFamily(_) => (StatusCode::NOT_FOUND, "unknown_family"),
            RecordsError::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
        };
        Self::new(status, code, crate::errors::whole(&error))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (status, code) = match &error {
            StoreError::Engine(error) => engine_code(error),
            _ => DAMAGED,
        };
        Self::new(status, code, crate::errors::whole(&error))
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let (status, code) = match &error {
            BackupError::Engine(error) | BackupError::Store(StoreError::Engine(error)) => engine_code(error),
            _ => DAMAGED,
        };
        Self::new(status, code, crate::errors::whole(&error))
    }
}

const DAMAGED: (StatusCode, &str) = (StatusCode::INTERNAL_SERVER_ERROR, "damaged");

fn engine_code(error: &EngineError) -> (StatusCode, &'static str) {
    match error {
        EngineError::Damaged { .. } => DAMAGED,
        EngineError::Exists { .. } => (StatusCode::CONFLICT, "exists"),
        EngineError::Unsupported { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "unsupported"),
        EngineError::NoSpace { .. } => (StatusCode::INSUFFICIENT_STORAGE, "no_space"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "database"),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadLog {
    from: Option<u64>,
    newest: Option<usize>,
    limit: Option<usize>,
    job: Option<String>,
    bids: Option<String>,
    allocations: Option<String>,
    #[serde(default)]
    whole: bool,
    #[serde(default)]
    wait: Millis,
}

impl TryFrom<ReadLog> for LogQuery {
    type Error = Failure;

    fn try_from(query: ReadLog) -> Result<Self, Failure> {
        let limit = query.limit.unwrap_or(PAGE_LIMIT.0);
        if let Some(job) = query.job.as_deref().filter(|job| !is_plain_id(job)) {
            let job: String = job.chars().take(64).collect();
            return Err(Failure::malformed(format!("{job:?} is not an id or the beginning of one")));
        }
        let start = match (query.from, query.newest, &query.job) {
            (Some(_), Some(_), _) => return Err(Failure::malformed("either `from` or `newest`, not both")),
            (Some(from), None, _) => LogStart::From(from),
            (None, Some(count), _) => LogStart::Newest(count),
            // Which events are a job's is learned from those before: without a place all are looked at.
            (None, None, Some(_)) => LogStart::From(0),
            (None, None, None) => LogStart::Newest(limit),
        };
        Ok(Self {
            start,
            limit,
            job: query.job,
            bids: ids(query.bids.as_deref())?,
            allocations: ids(query.allocations.as_deref())?,
            is_whole: query.whole,
        })
    }
}

/// A list of ids, joined by commas.
fn ids<T: FromStr<Err: std::fmt::Display> + Ord>(list: Option<&str>) -> Result<BTreeSet<T>, Failure> {
    let ids = list.unwrap_or_default().split(',').filter(|id| !id.is_empty());
    ids.map(|id| id.parse().map_err(|error: T::Err| Failure::malformed(error.to_string()))).collect()
}

async fn read_log(
    State(shared): State<Shared>,
    query: Result<Query<ReadLog>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    let wait = query.wait.duration().min(MAX_LOG_WAIT);
    let mut query = LogQuery::try_from(query)?;
    let mut page = shared.log_page(query.clone()).await?;
    if page.lines.is_empty() && page.is_end && !wait.is_zero() {
        let Ok(_place) = shared.followers.try_acquire() else {
            let message = "too many follow the event log at once";
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message));
        };
        let deadline = Instant::now() + wait;
        while page.lines.is_empty() && shared.wait_for_event(page.next, deadline).await? {
            // It has no lines.
            query.go_on(page);
            page = shared.log_page(query.clone()).await?;
        }
    }
    Ok(Json(page).into_response())
}

async fn stats(State(shared): State<Shared>) -> Result<Response, Failure> {
    let engine = shared.state.engine.clone();
    Ok(Json(shared.blocking(move || maintenance::stats(&*engine)).await??).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadRows {
    prefix: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    whole: bool,
}

async fn read_rows(
    State(shared): State<Shared>,
    family: Result<UrlPath<String>, PathRejection>,
    query: Result<Query<ReadRows>, QueryRejection>,
) -> Result<Response, Failure> {
    let UrlPath(family) = family?;
    let Query(ReadRows { prefix, after, limit, whole }) = query?;
    let limit = limit.unwrap_or(PAGE_LIMIT.0);
    let query = RowQuery { family, prefix, after, limit, is_whole: whole };
    let engine = shared.state.engine.clone();
    Ok(Json(shared.blocking(move || records::row_page(&engine, &query)).await??).into_response())
}

async fn back_up(
    State(shared): State<Shared>,
    body: Result<Json<NewBackup>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(NewBackup { directory }) = body?;
    // Where a relative one would lie depends on where somebody once started the node.
    if !directory.is_absolute() {
        return Err(Failure::malformed("the directory must be an absolute path"));
    }
    let Ok(_place) = shared.backups.try_acquire() else {
        let message = "another backup is being made";
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message));
    };
    let (engine, now) = (shared.state.engine.clone(), shared.state.clock.now());
    let report = shared.blocking(move || maintenance::backup(&*engine, &directory, now)).await??;
    tracing::info!(directory = %report.directory.display(), last_event = report.last_event, "the books were backed up");
    Ok(Json(report).into_response())
}

impl Shared {
    async fn log_page(&self, query: LogQuery) -> Result<LogPage, Failure> {
        let engine = self.state.engine.clone();
        self.blocking(move || records::log_page(&engine, &query)).await?.map_err(Failure::from)
    }

    /// True once the event `next` is there; false if it is not by `deadline`, or the node stops.
    async fn wait_for_event(&self, next: u64, deadline: Instant) -> Result<bool, Failure> {
        let mut stopping = self.stopping.clone();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                // A sender that is gone has nothing more to serve, which is the same.
                _ = stopping.wait_for(|is_stopping| *is_stopping) => return Ok(false),
                () = tokio::time::sleep_until(deadline) => return Ok(false),
                _ = looks.tick() => {}
            }
            let engine = self.state.engine.clone();
            if self.blocking(move || records::last_event(&*engine)).await?? >= next {
                return Ok(true);
            }
        }
    }
}
