//! Allocations: one actor per allocation at the provider, and its pure state machine.

mod actor;
pub mod state;

pub use actor::{AllocationActor, Heard, OutputFrom, Stop};
