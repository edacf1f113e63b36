//! Allocations: one actor per allocation at the provider, and its pure state machine.

mod actor;
mod messages;
pub mod route;
pub mod state;

pub use crate::paths::{ALLOCATIONS_PATH, allocation_at, path_of};
pub use actor::{AllocationActor, Heard, OutputFrom, Stop};
pub(crate) use messages::{GetUsage, may_address};
