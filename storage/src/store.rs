//! The store: opens the books, and records events into memory and onto the disk in one order.
//!
//! Called by the Node actor alone. Memory moves at once, the disk a little later; whoever recorded
//! speaks only after the [`CommitTicket`] resolves. After a failed commit the memory is ahead of the
//! disk for good: the owner must drop it and take [`Store::reload`]'s.
//!
//! On the way it keeps a snapshot of the live rows ([`crate::snapshot`]) and cuts the log behind it, and it forgets
//! what was archived long ago when it is told to ([`Store::forget`]): both are housekeeping of the disk, done by the
//! committer in its order, and no event tells of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use dms_messages::{CborError, Timestamp, to_canonical_within};

use crate::MAX_ENTRY_LENGTH;
use crate::books::{Books, BooksError, Change, Entry, Row};
use crate::committer::{CommitTicket, Committer, CommitterStats, Overloaded};
use crate::engine::{Batch, Durability, Engine, EngineError, for_each_row};
use crate::log::EventLog;
use crate::migration;
use crate::replay::{FIRST_SEQUENCE, replay_remembering};
use crate::rows::{self, ForgetCursors, ROW_FAMILIES, RowError, all_rows, row_value};
use crate::schema::{Family, SCHEMA_VERSION};
use crate::snapshot::{self, Dirty, SnapshotMark};

pub use crate::replay::{Replayed, replay};

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
    /// A row of the snapshot cannot be read, or does not fit the others.
    #[error("the snapshot cannot be read")]
    Snapshot(#[source] RowError),
    /// Events are missing between the snapshot and the log.
    #[error("the log begins with event {first}, but the snapshot ends with event {snapshot}")]
    CutTooFar {
        /// The last event in the snapshot; 0 without one.
        snapshot: u64,
        /// The first event in the log.
        first: u64,
    },
    /// The log is older than the snapshot: events are missing at its end.
    #[error("the snapshot ends with event {snapshot}, but the log ends with event {last}")]
    SnapshotAhead {
        /// The last event in the snapshot.
        snapshot: u64,
        /// The last event in the log; 0 if there is none.
        last: u64,
    },
    /// A row on disk is not what the log says.
    #[error("a row in {family} is not what the log says; the database is damaged")]
    RowDiffers {
        /// The column family.
        family: &'static str,
    },
}

impl From<RowError> for StoreError {
    /// What the engine refused is the engine's, whoever asked it.
    fn from(error: RowError) -> Self {
        match error {
            RowError::Engine(error) => Self::Engine(error),
            other => Self::Snapshot(other),
        }
    }
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

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// A snapshot is taken when more rows than this changed since the last one; 4,096. It is what one batch copies:
    /// a few MiB, which commits wait for.
    pub snapshot_rows: usize,
    /// Or when this many events were recorded since; 8,192: what opening has to fold, within a tenth of a second.
    pub snapshot_events: u64,
    /// How many events are kept in the log at least, for people who look back; 50,000, some 50 MiB before they are
    /// compressed.
    pub keep_events: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { snapshot_rows: 4_096, snapshot_events: 8_192, keep_events: 50_000 }
    }
}

impl StoreOptions {
    /// How many changed rows are remembered one by one when books without a snapshot are opened: with more, the first
    /// one is made page by page.
    fn max_dirty(&self) -> usize {
        self.snapshot_rows
    }
}

/// The books on disk, and the way in.
#[derive(Debug)]
pub struct Store {
    engine: Arc<dyn Engine>,
    committer: Committer,
    options: StoreOptions,
    next_sequence: u64,
    /// The last event of the newest snapshot that was queued.
    snapshot: u64,
    /// The rows that changed since.
    dirty: BTreeSet<Row>,
    /// How far into the archive forgetting has come.
    forgotten: Arc<Mutex<ForgetCursors>>,
}

impl Store {
    /// [`Store::open_with`] the usual options.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(engine: Arc<dyn Engine>, committer: Committer) -> Result<(Self, Books), StoreError> {
        Self::open_with(engine, committer, StoreOptions::default())
    }

    /// Puts the books together from snapshot and log and compares every live row on disk with them. A database of an
    /// older schema version is brought to this one on the way; a newer one is refused.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open_with(
        engine: Arc<dyn Engine>,
        committer: Committer,
        options: StoreOptions,
    ) -> Result<(Self, Books), StoreError> {
        let found = migration::stored_version(&*engine)?;
        let outdated = migration::outdated_families(found);
        let replayed = replay_remembering(&*engine, options.max_dirty())?;
        let (books, mut dirty) = (replayed.books, replayed.dirty);
        compare_rows(&*engine, &books, &outdated)?;
        if found < SCHEMA_VERSION {
            // Not through the committer: nothing can have been recorded yet, and nothing may be before this.
            migration::rewrite(&*engine, &books, &outdated)?;
            tracing::info!(
                from = found,
                to = SCHEMA_VERSION,
                "the database was brought to a newer schema version"
            );
            // Their form changed, in a snapshot too if there is one.
            all_rows(&books)
                .into_iter()
                .filter(|row| outdated.contains(&row.family()))
                .for_each(|row| dirty.add(row));
        }
        let snapshot = replayed.snapshot.map_or(FIRST_SEQUENCE - 1, |mark| mark.sequence);
        let next_sequence = replayed.last_event + 1;
        let mut store = Self {
            engine,
            committer,
            options,
            next_sequence,
            snapshot,
            dirty: BTreeSet::new(),
            forgotten: Arc::default(),
        };
        match dirty {
            Dirty::Rows(rows) => {
                store.dirty = rows;
                store.snapshot_if_due(replayed.last_at);
            }
            // Not through the committer either: it is more than one batch.
            Dirty::All => {
                let mark = SnapshotMark { sequence: replayed.last_event, at: replayed.last_at };
                snapshot::make_first(&*store.engine, &books, mark, store.cut_before())?;
                store.snapshot = mark.sequence;
            }
        }
        Ok((store, books))
    }

    /// The books as they are on disk, for an owner whose commit failed. What is queued is written before, or given up
    /// if a write failed, so that they are of one instant; it may block for that.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn reload(self) -> Result<Books, StoreError> {
        let Self { engine, committer, .. } = self;
        drop(committer);
        Ok(replay(&*engine)?.books)
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
            for change in books.apply(entry).map_err(RecordError::Books)? {
                match change {
                    Change::Row(row) => changed.push(row),
                    Change::Archive(archived) => rows::put_archived(&mut batch, &archived),
                }
            }
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
            if Books::is_restored_from(row.family()) {
                self.dirty.insert(row);
            }
        }
        self.next_sequence += entries.len() as u64;
        let ticket = permit.commit(batch, durability);
        if let Some(last) = entries.last() {
            self.snapshot_if_due(last.at);
        }
        Ok(ticket)
    }

    /// Looks at `limit` things of each kind that are in the archive and began before `before`, and forgets those that
    /// ended before it too. The next call goes on where this one came to, and from the beginning after the last. The
    /// ticket resolves when they are gone from the disk; a power cut may bring them back, for the next time.
    ///
    /// # Errors
    /// [`Overloaded`] if the committer has no room now; nothing is forgotten.
    pub fn forget(&self, before: Timestamp, limit: usize) -> Result<CommitTicket, Overloaded> {
        let permit = self.committer.reserve()?;
        let cursors = Arc::clone(&self.forgotten);
        Ok(permit.commit_with(
            move |engine| {
                // Keys where to go on: whatever a panic left is good.
                let mut cursors = cursors.lock().unwrap_or_else(PoisonError::into_inner);
                rows::forget_archived(engine, before, limit, &mut cursors)
            },
            Durability::Unsynced,
        ))
    }

    /// Queues a snapshot of everything recorded so far, if enough has changed since the last one.
    fn snapshot_if_due(&mut self, at: Timestamp) {
        let sequence = self.next_sequence - 1;
        let events = sequence.saturating_sub(self.snapshot);
        let is_due = self.dirty.len() > self.options.snapshot_rows || events >= self.options.snapshot_events;
        if !is_due || events == 0 {
            return;
        }
        // Without room it is taken a little later: it stays due.
        let Ok(permit) = self.committer.reserve() else { return };
        let dirty = std::mem::take(&mut self.dirty);
        let cut_before = self.cut_before();
        let mark = SnapshotMark { sequence, at };
        // Unsynced: until the next sync takes it along, the older snapshot and the longer log do as well. Nobody waits
        // for the ticket; if it fails, so do all later commits.
        drop(permit.commit_with(
            move |engine| snapshot::advance(engine, &dirty, mark, cut_before),
            Durability::Unsynced,
        ));
        self.snapshot = sequence;
    }

    /// The first event that stays in the log.
    fn cut_before(&self) -> u64 {
        self.next_sequence.saturating_sub(self.options.keep_events)
    }

    /// The number of events recorded so far.
    pub fn event_count(&self) -> u64 {
        self.next_sequence - FIRST_SEQUENCE
    }

    /// What its committer has done so far.
    pub fn commit_stats(&self) -> CommitterStats {
        self.committer.stats()
    }

    /// True once a commit has failed: nothing more can be recorded.
    pub fn is_poisoned(&self) -> bool {
        self.committer.is_poisoned()
    }
}

/// Refuses a database whose rows are not exactly those of its log; those of `outdated` families are not looked at.
fn compare_rows(engine: &dyn Engine, books: &Books, outdated: &BTreeSet<Family>) -> Result<(), StoreError> {
    use std::collections::BTreeMap;
    let mut expected: BTreeMap<(Family, Vec<u8>), Vec<u8>> = BTreeMap::new();
    for row in all_rows(books).into_iter().filter(|row| !outdated.contains(&row.family())) {
        if let Some(value) = row_value(books, &row) {
            expected.insert((row.family(), row.key()), value);
        }
    }
    for family in ROW_FAMILIES.into_iter().filter(|family| !outdated.contains(family)) {
        for_each_row(engine, family, |key, value| match expected.remove(&(family, key)) {
            Some(wanted) if wanted == value => Ok(()),
            _ => Err(StoreError::RowDiffers { family: family.name() }),
        })?;
    }
    // Current and archived contracts share this family: here the current ones are looked up.
    let by_peer: Vec<_> =
        expected.keys().filter(|(family, _)| *family == Family::ContractsByPeer).cloned().collect();
    for row in by_peer {
        if engine.get(row.0, &row.1)? != expected.remove(&row) {
            return Err(StoreError::RowDiffers { family: row.0.name() });
        }
    }
    for row in [Row::Card, Row::Preferences].map(|row| (row.family(), row.key())) {
        if let Some(wanted) = expected.remove(&row)
            && engine.get(row.0, &row.1)? != Some(wanted)
        {
            return Err(StoreError::RowDiffers { family: row.0.name() });
        }
    }
    match expected.first_key_value() {
        Some(((family, _), _)) => Err(StoreError::RowDiffers { family: family.name() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;
