//! The routes of preferences.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::{Failure, Shared};
use crate::preferences::{
    Change, GetPreferences, PreferencesTest, PreferencesView, SetPreferences, TestPreferences,
};

/// Adds them.
pub(super) fn routes(router: Router<Shared>) -> Router<Shared> {
    router.route("/v1/preferences", get(show).post(set)).route("/v1/preferences/test", post(test))
}

async fn show(State(shared): State<Shared>) -> Result<Json<PreferencesView>, Failure> {
    Ok(Json(shared.ask(GetPreferences).await?))
}

async fn set(
    State(shared): State<Shared>,
    set: Result<Json<SetPreferences>, JsonRejection>,
) -> Result<Json<Vec<Change>>, Failure> {
    let Json(set) = set?;
    Ok(Json(shared.ask(set).await??))
}

async fn test(
    State(shared): State<Shared>,
    test: Result<Json<TestPreferences>, JsonRejection>,
) -> Result<Json<PreferencesTest>, Failure> {
    let Json(test) = test?;
    Ok(Json(shared.ask(test).await??))
}
