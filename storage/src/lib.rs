//! The books: event log, look-up rows, and the one committer that writes both.
//!
//! | module | knows |
//! |---|---|
//! | [`schema`] | the column families and the schema version |
//! | [`engine`] | ordered rows in atomic batches, on RocksDB or in memory |
//! | [`committer`] | one ordered queue; one sync for all that arrived meanwhile |
//! | [`log`] | the events, by sequence number |
//! | [`books`] | what events mean: one fold, live and at rebuild |
//! | `migration` | how a database of an older schema version becomes one of this |
//! | [`store`] | all joined: open, rebuild, record |
//!
//! No decision is made here: the node decides, then records.

pub mod books;
pub mod committer;
pub mod engine;
pub mod log;
mod migration;
pub mod reader;
pub mod schema;
pub mod store;

pub use books::{Books, BooksError, Entry, Event, Lock, LockEnd};
pub use committer::{CommitError, CommitTicket, Committer};
pub use engine::{Batch, Durability, Engine, EngineError, MemoryEngine, RocksEngine, RocksOptions};
pub use reader::{Reader, ReaderError};
pub use store::{RecordError, Store, StoreError};

/// Longest event or row in bytes: a contract of 64 KiB of arguments, a job with 256 answers and all its
/// attempts, many times over.
pub(crate) const MAX_ENTRY_LENGTH: usize = 4 * 1024 * 1024;
