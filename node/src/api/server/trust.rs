//! The routes of trust: who may do what here, tokens, invites, and meshes to come into.

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use dms_messages::Did;

use super::{Failure, Shared};
use crate::trust::commands::{
    BeginJoin, DistrustPeer, EndInvite, GetInvites, GetTokens, GetTrust, GrantToken, GrantedToken,
    InviteMade, InviteView, KeepTokens, MakeInvite, RevokeToken, SucceedPeer, SuccessionView, TokenView,
    TrustPeer, TrustView,
};

/// Adds the routes.
pub(super) fn routes(router: Router<Shared>) -> Router<Shared> {
    router
        .route("/v1/trust", get(show_trust).post(trust_peer))
        .route("/v1/trust/{did}", delete(distrust_peer))
        .route("/v1/succession", post(succeed_peer))
        .route("/v1/tokens", get(list_tokens).post(grant_token))
        .route("/v1/tokens/{id}", delete(revoke_token))
        .route("/v1/tokens/keep", post(keep_tokens))
        .route("/v1/invites", get(list_invites).post(make_invite))
        .route("/v1/invites/{id}", delete(end_invite))
        .route("/v1/join", post(begin_join))
}

async fn show_trust(State(shared): State<Shared>) -> Result<Json<TrustView>, Failure> {
    Ok(Json(shared.ask(GetTrust).await?))
}

async fn trust_peer(
    State(shared): State<Shared>,
    body: Result<Json<TrustPeer>, JsonRejection>,
) -> Result<StatusCode, Failure> {
    let Json(trust) = body?;
    shared.ask(trust).await??;
    Ok(StatusCode::NO_CONTENT)
}

async fn distrust_peer(
    State(shared): State<Shared>,
    did: Result<UrlPath<Did>, PathRejection>,
) -> Result<StatusCode, Failure> {
    let UrlPath(did) = did?;
    shared.ask(DistrustPeer { did }).await??;
    Ok(StatusCode::NO_CONTENT)
}

async fn succeed_peer(
    State(shared): State<Shared>,
    body: Result<Json<SucceedPeer>, JsonRejection>,
) -> Result<Json<SuccessionView>, Failure> {
    let Json(succeed) = body?;
    Ok(Json(shared.ask(succeed).await??))
}

async fn list_tokens(State(shared): State<Shared>) -> Result<Json<Vec<TokenView>>, Failure> {
    Ok(Json(shared.ask(GetTokens).await?))
}

async fn grant_token(
    State(shared): State<Shared>,
    body: Result<Json<GrantToken>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(grant) = body?;
    let granted: GrantedToken = shared.ask(grant).await??;
    Ok((StatusCode::CREATED, Json(granted)).into_response())
}

async fn keep_tokens(
    State(shared): State<Shared>,
    body: Result<Json<KeepTokens>, JsonRejection>,
) -> Result<Json<Vec<TokenView>>, Failure> {
    let Json(keep) = body?;
    Ok(Json(shared.ask(keep).await??))
}

async fn revoke_token(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
) -> Result<Json<TokenView>, Failure> {
    let UrlPath(id) = id?;
    Ok(Json(shared.ask(RevokeToken { id }).await??))
}

async fn list_invites(State(shared): State<Shared>) -> Result<Json<Vec<InviteView>>, Failure> {
    Ok(Json(shared.ask(GetInvites).await?))
}

async fn make_invite(
    State(shared): State<Shared>,
    body: Result<Json<MakeInvite>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(make) = body?;
    let made: InviteMade = shared.ask(make).await??;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

async fn end_invite(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
) -> Result<Json<InviteView>, Failure> {
    let UrlPath(id) = id?;
    Ok(Json(shared.ask(EndInvite { id }).await??))
}

async fn begin_join(
    State(shared): State<Shared>,
    body: Result<Json<BeginJoin>, JsonRejection>,
) -> Result<StatusCode, Failure> {
    let Json(join) = body?;
    shared.ask(join).await??;
    Ok(StatusCode::ACCEPTED)
}
