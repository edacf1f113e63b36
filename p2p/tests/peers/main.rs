//! Real peers on loopback, spoken to only through the seams of `dms-actors`.
//!
//! Every test has its own peers on ports that the system chose, and waits for states with a deadline.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as the tests do")]

mod blob;
mod conformance;
mod directory;
mod embedded;
mod gossip;
mod harness;
mod links;
mod mdns;
mod names;
mod private;
mod quic;
mod start;
