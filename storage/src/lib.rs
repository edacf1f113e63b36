//! The books: event log, look-up rows, and the one committer that writes both.
//!
//! | module | knows |
//! |---|---|
//! | [`schema`] | the column families and the schema version |
//! | [`engine`] | ordered rows in atomic batches, on RocksDB or in memory |
//! | [`committer`] | one ordered queue; one sync for all that arrived meanwhile |
//! | [`log`] | the events, by sequence number |
//! | [`books`] | what events mean: one fold, live and at rebuild |
//! | [`rows`] | where each row lies on disk, one file per index |
//! | [`reader`] | the log, any family's rows and the archive, without the books |
//! | `migration` | how a database of an older schema version becomes one of this |
//! | [`maintenance`] | check, rebuild, back up, restore: for a person with a stopped or running node |
//! | [`snapshot`] | the live rows as of one event, so that opening is quick and the log can be cut |
//! | `replay` | the way back: snapshot and log become books |
//! | [`store`] | all joined: open, rebuild, record |
//! | [`failpoints`] | where tests of crashes kill the process |
//!
//! No decision is made here: the node decides, then records.

pub mod books;
pub mod committer;
pub mod engine;
pub mod failpoints;
pub mod log;
pub mod maintenance;
mod migration;
pub mod reader;
mod replay;
pub mod rows;
pub mod sabotage;
pub mod schema;
pub mod snapshot;
pub mod store;

pub use books::{Accounts, Archived, ArchivedRow, Books, BooksError, Change, Entry, Event, Lock, LockEnd};
pub use committer::{CommitError, CommitTicket, Committer, WriteTime};
pub use engine::{
    Batch, Durability, Engine, EngineError, FamilySize, MemoryEngine, RocksEngine, RocksOptions, Sizes,
};
pub use reader::{AnyRow, Archive, QueriedRow, Reader, ReaderError};
pub use rows::RowError;
pub use snapshot::SnapshotMark;
pub use store::{RecordError, Store, StoreError, StoreOptions};

/// Longest event or row in bytes: a contract of 64 KiB of arguments, a job with 256 answers and all its
/// attempts, many times over.
pub(crate) const MAX_ENTRY_LENGTH: usize = 4 * 1024 * 1024;
