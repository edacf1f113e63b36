//! The rules of capacity: pure decisions over the books, no await, no I/O.

pub mod headroom;
pub mod ledger;
pub mod rehearsal;
