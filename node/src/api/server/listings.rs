//! The routes of lists and of what they list: peers, the graph, bid requests, bids, allocations, contracts.

use axum::Json;
use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path as UrlPath, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use super::{Failure, Shared};
use crate::graph::view::GetGraph;
use crate::listings::bids::{ListBidRequests, ListBids};
use crate::listings::contracts::{ListAllocations, ListContracts, ShowAllocation, ShowContract};
use crate::listings::{Direction, PAGE_LIMIT, Page};
use crate::peers::GetPeers;

/// Adds the routes.
pub(super) fn routes(router: Router<Shared>) -> Router<Shared> {
    router
        .route("/v1/peers", get(list_peers))
        .route("/v1/graph", get(show_graph))
        .route("/v1/bid-requests", get(list_bid_requests))
        .route("/v1/bids", get(list_bids))
        .route("/v1/allocations", get(list_allocations))
        .route("/v1/allocations/{id}", get(show_allocation))
        .route("/v1/contracts", get(list_contracts))
        .route("/v1/contracts/{id}", get(show_contract))
}

/// Which part of a list; shared by the queries below, which `serde` cannot flatten strictly.
fn page(limit: Option<usize>, after: Option<String>) -> Page {
    Page { limit: LimitQuery { limit }.limit(), after }
}

/// How much of a list that has no pages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitQuery {
    limit: Option<usize>,
}

impl LimitQuery {
    /// How many entries, if nothing is said and at most as [`PAGE_LIMIT`] has it.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE_LIMIT.0).min(PAGE_LIMIT.1)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    limit: Option<usize>,
    after: Option<String>,
}

impl From<PageQuery> for Page {
    fn from(PageQuery { limit, after }: PageQuery) -> Self {
        page(limit, after)
    }
}

async fn list_peers(
    State(shared): State<Shared>,
    query: Result<Query<LimitQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    Ok(Json(shared.ask(GetPeers { limit: query.limit() }).await?).into_response())
}

async fn show_graph(State(shared): State<Shared>) -> Result<Response, Failure> {
    Ok(Json(shared.ask(GetGraph).await?).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BidRequestsQuery {
    direction: Option<Direction>,
    limit: Option<usize>,
    after: Option<String>,
}

async fn list_bid_requests(
    State(shared): State<Shared>,
    query: Result<Query<BidRequestsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(BidRequestsQuery { direction, limit, after }) = query?;
    let list = ListBidRequests { direction, page: page(limit, after) };
    Ok(Json(shared.ask(list).await??).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BidsQuery {
    direction: Option<Direction>,
    request: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

async fn list_bids(
    State(shared): State<Shared>,
    query: Result<Query<BidsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(BidsQuery { direction, request, limit, after }) = query?;
    Ok(Json(shared.ask(ListBids { direction, request, page: page(limit, after) }).await??).into_response())
}

async fn list_allocations(
    State(shared): State<Shared>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    Ok(Json(shared.ask(ListAllocations { page: query.into() }).await??).into_response())
}

async fn show_allocation(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
) -> Result<Response, Failure> {
    let UrlPath(id) = id?;
    Ok(Json(shared.ask(ShowAllocation { id }).await??).into_response())
}

async fn list_contracts(
    State(shared): State<Shared>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    Ok(Json(shared.ask(ListContracts { page: query.into() }).await??).into_response())
}

async fn show_contract(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
) -> Result<Response, Failure> {
    let UrlPath(id) = id?;
    Ok(Json(shared.ask(ShowContract { id }).await??).into_response())
}
