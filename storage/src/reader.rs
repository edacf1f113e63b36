//! Reads the database without the books: the event log page by page, any family's rows, and the archive.
//!
//! For exports, checks, people who ask about what is over, and whoever mirrors the books. It only reads, holds nothing
//! open between pages, and refuses to skip: a reader that fell behind the cut of the log is told so and starts again
//! from a snapshot. Every page is bounded, whatever is asked. All calls block: not for an actor's turn.

mod any_row;
mod archive;

use std::sync::Arc;

use dms_messages::{CborError, from_canonical_within, without_verifying};

pub use self::any_row::{AnyRow, QueriedRow};
pub use self::archive::{Archive, ArchivePage};
use crate::MAX_ENTRY_LENGTH;
use crate::books::Entry;
use crate::engine::{Engine, EngineError};
use crate::log::EventLog;
use crate::rows::RowError;
use crate::schema::Family;

/// Most events a page holds, so that no caller's number becomes memory: at a typical 1 KiB an event, 1 MiB.
pub const MAX_PAGE_EVENTS: usize = 1_024;

/// A place in the event log that moves forward.
#[doc(alias = "LocalDatabaseCollector")]
#[derive(Clone, Debug)]
pub struct Reader {
    engine: Arc<dyn Engine>,
    next: u64,
}

/// Why the next page cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReaderError {
    /// The log was cut past the reader's place; start again from a snapshot.
    #[error("event {wanted} has been cut from the log, which now begins with event {first}")]
    Cut {
        /// The event the reader wanted next.
        wanted: u64,
        /// The first event still kept.
        first: u64,
    },
    /// The engine failed, or the log has a hole.
    #[error("the event log cannot be read")]
    Engine(#[from] EngineError),
    /// An event cannot be read.
    #[error("event {sequence} in the log cannot be read")]
    Unreadable {
        /// Its number.
        sequence: u64,
        /// Why.
        #[source]
        source: CborError,
    },
}

impl Reader {
    /// A reader whose first event is `next`.
    pub fn new(engine: Arc<dyn Engine>, next: u64) -> Self {
        Self { engine, next }
    }

    /// The number of the event that comes next.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// The next events, at most `limit` and at most [`MAX_PAGE_EVENTS`]; empty at the end of the log, and then worth
    /// asking again later.
    ///
    /// # Errors
    /// See [`ReaderError`]; the reader stays where it is.
    pub fn next_page(&mut self, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, ReaderError> {
        match EventLog::read(&*self.engine, self.next, limit.min(MAX_PAGE_EVENTS)) {
            Ok(page) => {
                if let Some((last, _)) = page.last() {
                    // At the end of all numbers the reader would stay on the last event; nobody gets there.
                    self.next = last.saturating_add(1);
                }
                Ok(page)
            }
            // A missing first event is damage unless everything before some event is gone, which is a cut.
            Err(error) => match EventLog::first_sequence(&*self.engine)? {
                Some(first) if first > self.next => Err(ReaderError::Cut { wanted: self.next, first }),
                _ => Err(error.into()),
            },
        }
    }

    /// [`Reader::next_page`], with the events read.
    ///
    /// # Errors
    /// See [`ReaderError`]; the reader stays where it is.
    pub fn next_entries(&mut self, limit: usize) -> Result<Vec<(u64, Entry)>, ReaderError> {
        let from = self.next;
        let entry = |(sequence, bytes): (u64, Vec<u8>)| {
            from_canonical_within(&bytes, MAX_ENTRY_LENGTH)
                .map(|entry| (sequence, entry))
                .map_err(|source| ReaderError::Unreadable { sequence, source })
        };
        let page = self.next_page(limit)?;
        // They were verified before they were written.
        let entries: Result<Vec<_>, _> = without_verifying(|| page.into_iter().map(entry).collect());
        if entries.is_err() {
            self.next = from;
        }
        entries
    }

    /// At most `limit` rows of `family`, and at most [`crate::rows::MAX_PAGE_ROWS`], whose keys begin with `prefix`
    /// and come after the key `after`; to go on, ask for those after the last row's key.
    ///
    /// # Errors
    /// [`RowError`] if a key or a value is none of the family.
    pub fn query(
        &self,
        family: Family,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<QueriedRow>, RowError> {
        any_row::query(&*self.engine, family, prefix, after, limit)
    }

    /// What is over.
    pub fn archive(&self) -> Archive {
        Archive::new(Arc::clone(&self.engine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Batch, Durability, MemoryEngine};

    fn write(engine: &dyn Engine, change: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::new();
        change(&mut batch);
        engine.write(batch, Durability::Synced).expect("memory writes");
    }

    fn numbers(page: Vec<(u64, Vec<u8>)>) -> Vec<u64> {
        page.into_iter().map(|(sequence, _)| sequence).collect()
    }

    #[test]
    fn follows_the_log_and_is_told_of_cuts_and_holes() {
        let engine = Arc::new(MemoryEngine::new());
        let mut reader = Reader::new(engine.clone(), 1);
        assert_eq!(reader.next_page(10), Ok(vec![]));
        write(&*engine, |batch| (1..=5).for_each(|n| EventLog::append(batch, n, b"event")));
        assert_eq!(reader.next_page(2).map(numbers), Ok(vec![1, 2]));
        assert_eq!(reader.next_page(10).map(numbers), Ok(vec![3, 4, 5]));
        assert_eq!(reader.next_page(10), Ok(vec![]));
        write(&*engine, |batch| EventLog::append(batch, 6, b"event"));
        assert_eq!(reader.next_page(10).map(numbers), Ok(vec![6]));

        let mut late = Reader::new(engine.clone(), 2);
        write(&*engine, |batch| assert_eq!(EventLog::cut(&*engine, batch, 4, 10), Ok(3)));
        assert_eq!(late.next_page(10), Err(ReaderError::Cut { wanted: 2, first: 4 }));
        assert_eq!(late.next_sequence(), 2);

        write(&*engine, |batch| batch.delete(crate::schema::Family::Events, 5u64.to_be_bytes()));
        let mut holed = Reader::new(engine, 4);
        let read = holed.next_page(10);
        assert!(matches!(read, Err(ReaderError::Engine(EngineError::Damaged { .. }))), "{read:?}");
    }

    #[test]
    fn pages_are_bounded_whatever_is_asked() {
        let engine = Arc::new(MemoryEngine::new());
        write(&*engine, |batch| (1..=2_000).for_each(|n| EventLog::append(batch, n, b"event")));
        let mut reader = Reader::new(engine, 1);
        assert_eq!(reader.next_page(usize::MAX).map(|page| page.len()), Ok(MAX_PAGE_EVENTS));
    }
}
