//! Decisions about jobs and bids: pure, so that their tests are tables. No await, no I/O, no clock.

pub mod auction;
pub mod comparator;
pub mod discovery;
pub mod explain;
pub mod history;
pub mod job_state;
pub mod matching;
pub mod preferences;
pub mod pricing;
pub mod reconcile;
pub mod turns;
