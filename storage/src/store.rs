//! The store: opens the books, and records events into memory and onto the disk in one order.
//!
//! Called by the Node actor alone. Memory moves at once, the disk a little later; whoever recorded
//! speaks only after the [`CommitTicket`] resolves. After a failed commit the memory is ahead of the
//! disk for good: the owner must drop it and take [`Store::reload`]'s.

use std::collections::BTreeSet;
use std::sync::Arc;

use dms_messages::{CborError, from_canonical_within, to_canonical_within};

use crate::MAX_ENTRY_LENGTH;
use crate::books::{Books, BooksError, Entry, Row, row_value};
use crate::committer::{CommitTicket, Committer, Overloaded};
use crate::engine::{Batch, Durability, Engine, EngineError, ScanRange};
use crate::log::EventLog;
use crate::migration;
use crate::schema::{Family, SCHEMA_VERSION};

/// How many events are read at a time during a rebuild.
const REBUILD_PAGE: usize = 1024;
/// How many rows are compared at a time after a rebuild.
const CHECK_PAGE: usize = 1024;

/// Why the books could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An event in the log cannot be read.
    #[error("event {sequence} in the log cannot be read")]
    Unreadable {
        /// Its number.
        sequence: u64,
        /// Why.
        #[source]
        source: CborError,
    },
    /// An event in the log does not fit the books before it.
    #[error("event {sequence} in the log does not fit the books before it")]
    Inconsistent {
        /// Its number.
        sequence: u64,
        /// Why.
        #[source]
        source: BooksError,
    },
    /// A row on disk is not what the log says.
    #[error("a row in {family} is not what the log says; the database is damaged")]
    RowDiffers {
        /// The column family.
        family: &'static str,
    },
}

/// Why events could not be recorded. In every case nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The committer's queue is full; nothing was changed, try again later.
    #[error("too many commits are waiting")]
    Overloaded(#[source] Overloaded),
    /// An event does not fit the books. Events before it in the same call are in memory: reload.
    #[error("an event does not fit the books")]
    Books(#[source] BooksError),
    /// An event cannot be written down.
    #[error("an event cannot be encoded")]
    Encode(#[source] CborError),
}

/// The books on disk, and the way in.
#[derive(Debug)]
pub struct Store {
    engine: Arc<dyn Engine>,
    committer: Committer,
    next_sequence: u64,
}

impl Store {
    /// Rebuilds the books from the log and compares every row on disk with them. A database of an older schema
    /// version is brought to this one on the way; a newer one is refused.
    pub fn open(engine: Arc<dyn Engine>, committer: Committer) -> Result<(Self, Books), StoreError> {
        let found = migration::stored_version(&*engine)?;
        let outdated = migration::outdated_families(found);
        let (books, next_sequence) = rebuild(&*engine)?;
        compare_rows(&*engine, &books, &outdated)?;
        if found < SCHEMA_VERSION {
            // Not through the committer: nothing can have been recorded yet, and nothing may be before this.
            engine.write(migration::rewrite(&*engine, &books, &outdated)?, Durability::Synced)?;
            tracing::info!(
                from = found,
                to = SCHEMA_VERSION,
                "the database was brought to a newer schema version"
            );
        }
        Ok((Self { engine, committer, next_sequence }, books))
    }

    /// The books as they are on disk, for an owner whose commit failed.
    pub fn reload(&self) -> Result<Books, StoreError> {
        Ok(rebuild(&*self.engine)?.0)
    }

    /// Applies `entries` to `books` in order and queues them, with every row they changed, as one atomic
    /// batch. The ticket resolves when the batch is as durable as its events ask for.
    pub fn record(&mut self, books: &mut Books, entries: &[Entry]) -> Result<CommitTicket, RecordError> {
        let permit = self.committer.reserve().map_err(RecordError::Overloaded)?;
        let mut batch = Batch::new();
        let mut changed: Vec<Row> = Vec::new();
        let mut durability = Durability::Unsynced;
        for (sequence, entry) in (self.next_sequence..).zip(entries) {
            let bytes = to_canonical_within(entry, MAX_ENTRY_LENGTH).map_err(RecordError::Encode)?;
            changed.extend(books.apply(entry).map_err(RecordError::Books)?);
            EventLog::append(&mut batch, sequence, &bytes);
            durability = durability.max(entry.event.durability());
        }
        changed.sort_unstable();
        changed.dedup();
        for row in changed {
            match row_value(books, &row) {
                Some(value) => batch.put(row.family(), row.key(), value),
                None => batch.delete(row.family(), row.key()),
            }
        }
        self.next_sequence += entries.len() as u64;
        Ok(permit.commit(batch, durability))
    }

    /// The number of events recorded so far.
    pub fn event_count(&self) -> u64 {
        self.next_sequence - FIRST_SEQUENCE
    }

    /// True once a commit has failed: nothing more can be recorded.
    pub fn is_poisoned(&self) -> bool {
        self.committer.is_poisoned()
    }
}

/// The number of the first event.
const FIRST_SEQUENCE: u64 = 1;

fn read_entries(engine: &dyn Engine, from: u64, limit: usize) -> Result<Vec<(u64, Entry)>, StoreError> {
    let page = EventLog::read(engine, from, limit)?;
    page.into_iter()
        .map(|(sequence, bytes)| match from_canonical_within(&bytes, MAX_ENTRY_LENGTH) {
            Ok(entry) => Ok((sequence, entry)),
            Err(source) => Err(StoreError::Unreadable { sequence, source }),
        })
        .collect()
}

/// Folds the whole log.
fn rebuild(engine: &dyn Engine) -> Result<(Books, u64), StoreError> {
    let mut books = Books::default();
    let mut next = FIRST_SEQUENCE;
    loop {
        let page = read_entries(engine, next, REBUILD_PAGE)?;
        if page.is_empty() {
            return Ok((books, next));
        }
        for (sequence, entry) in page {
            books.apply(&entry).map_err(|source| StoreError::Inconsistent { sequence, source })?;
            next = sequence + 1;
        }
    }
}

/// Refuses a database whose rows are not exactly those of its log; those of `outdated` families are not looked at.
fn compare_rows(engine: &dyn Engine, books: &Books, outdated: &BTreeSet<Family>) -> Result<(), StoreError> {
    use std::collections::BTreeMap;
    let mut expected: BTreeMap<(Family, Vec<u8>), Vec<u8>> = BTreeMap::new();
    for row in crate::books::all_rows(books).into_iter().filter(|row| !outdated.contains(&row.family())) {
        if let Some(value) = row_value(books, &row) {
            expected.insert((row.family(), row.key()), value);
        }
    }
    for family in crate::books::ROW_FAMILIES.into_iter().filter(|family| !outdated.contains(family)) {
        let mut from = Vec::new();
        loop {
            let page = engine.scan(family, ScanRange::from(from.clone()), CHECK_PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (key, value) in page {
                match expected.remove(&(family, key)) {
                    Some(wanted) if wanted == value => {}
                    _ => return Err(StoreError::RowDiffers { family: family.name() }),
                }
            }
        }
    }
    let card = (Family::Meta, b"card".to_vec());
    if let Some(wanted) = expected.remove(&card)
        && engine.get(Family::Meta, &card.1)? != Some(wanted)
    {
        return Err(StoreError::RowDiffers { family: Family::Meta.name() });
    }
    match expected.first_key_value() {
        Some(((family, _), _)) => Err(StoreError::RowDiffers { family: family.name() }),
        None => Ok(()),
    }
}
