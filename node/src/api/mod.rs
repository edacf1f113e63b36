//! Programs on this machine: HTTP + JSON over a Unix socket that only the node's owner can use, and on request over a
//! port that asks for a token.
//!
//! | file | knows |
//! |---|---|
//! | [`types`] | the shapes and the table of routes |
//! | [`server`] | turns a request into one message to the Node actor |
//! | [`messages`] | the shapes of what is said to programs |
//! | [`address`] | where a node is asked |
//! | [`metrics`] | what is counted, as Prometheus reads it |
//! | [`token`] | what is shown at the port |
//! | [`client`] | the same routes as typed calls, for the CLI, tests and other programs |

use std::time::Duration;

pub mod address;
pub mod client;
pub mod messages;
pub mod metrics;
pub mod server;
pub mod token;
pub mod types;

/// Largest blob that travels through the API, in bytes: it is held in memory while it does.
pub const MAX_BLOB_BYTES: usize = 16 * 1024 * 1024;
/// Largest JSON body, in bytes: the longest arguments and environment of a job are 64 KiB.
pub const MAX_JSON_BYTES: usize = 1024 * 1024;
/// Longest wait for new events, well within the patience of any client.
pub const MAX_LOG_WAIT: Duration = Duration::from_secs(10);
/// The header that names the attempt which a piece of output is of (its number; absent before the first).
pub const ATTEMPT_HEADER: &str = "dms-attempt";
/// The header that says at which byte of the stream a piece of output begins.
pub const OFFSET_HEADER: &str = "dms-offset";
