//! What the Node does with each word that arrives, one file per word. A handler reads in five sentences:
//! check, decide (pure code), record (one batch), speak (when it is on disk), report.

mod advert;
mod allocation;
mod archive;
mod benchmark;
mod bid;
mod bid_request;
pub(crate) mod candidates;
mod commands;
mod graph;
mod interface;
mod invocation;
mod listings;
mod membership;
mod monitor;
mod offboard;
mod peers;
pub(crate) mod preferences;
mod reconcile;
mod route;
mod succession;
mod trust;
pub(crate) mod turns;

pub(crate) use bid_request::{MAX_REQUESTS, Shares};
pub(crate) use route::MAX_ROUTED;
