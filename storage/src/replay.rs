//! Puts the books together from what is on disk: the snapshot, and the fold of the events after it.
//!
//! Called by the store when it opens, and by whoever checks or rebuilds a database. Events are read and decoded by a
//! few threads and folded by one, in order. What is read was verified before it was written and the engine has just
//! checked its checksums, so no signature is verified here. It refuses a log with a gap, one that was cut further than
//! the snapshot goes, and one that ends before the snapshot does.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use dms_messages::{Timestamp, from_canonical_within, without_verifying};

use crate::MAX_ENTRY_LENGTH;
use crate::books::{Books, Change, Entry, Event};
use crate::engine::{Engine, EngineError};
use crate::log::EventLog;
use crate::snapshot::{self, Dirty, SnapshotMark};
use crate::store::StoreError;

/// The number of the first event.
pub(crate) const FIRST_SEQUENCE: u64 = 1;

/// Events read and decoded at a time: small enough that a page is still in the processor's cache when it is folded.
const PAGE: u64 = 256;

/// Pages that each thread may be ahead of the fold.
const PAGES_AHEAD: usize = 4;

/// Most threads that decode; the fold cannot keep up with more.
const MAX_THREADS: usize = 4;

/// The books as they are on disk.
#[derive(Debug)]
pub struct Replayed {
    /// The books.
    pub books: Books,
    /// How many events were folded to get there.
    pub events: u64,
    /// The number of the last event; 0 if there never was one.
    pub last_event: u64,
    /// The snapshot that was begun with; none without one.
    pub snapshot: Option<SnapshotMark>,
    /// The rows of the snapshot.
    pub snapshot_rows: u64,
    /// What changed since the snapshot.
    pub(crate) dirty: Dirty,
    /// When the last event was.
    pub(crate) last_at: Timestamp,
}

/// Puts the books together from snapshot and log. Changes nothing, and does not look at the live rows.
///
/// # Errors
/// See [`StoreError`].
pub fn replay(engine: &dyn Engine) -> Result<Replayed, StoreError> {
    replay_with(engine, None)
}

/// [`replay`], in which at most `max_dirty` changed rows are remembered one by one if there is no snapshot yet. Where
/// there is one, all are: it may be all that is left of a log that was cut, and is only ever brought on whole.
pub(crate) fn replay_remembering(engine: &dyn Engine, max_dirty: usize) -> Result<Replayed, StoreError> {
    replay_with(engine, Some(max_dirty))
}

/// With `None`, no changed row is remembered.
fn replay_with(engine: &dyn Engine, max_dirty: Option<usize>) -> Result<Replayed, StoreError> {
    let snapshot = SnapshotMark::read(engine)?;
    let (books, snapshot_rows) = match snapshot {
        Some(_) => without_verifying(|| snapshot::restore(engine))?,
        None => Default::default(),
    };
    let reached = snapshot.map_or(FIRST_SEQUENCE - 1, |mark| mark.sequence);
    let last = EventLog::last_sequence(engine)?.unwrap_or(FIRST_SEQUENCE - 1);
    if last < reached {
        return Err(StoreError::SnapshotAhead { snapshot: reached, last });
    }
    let next = reached + 1;
    if let Some(first) = EventLog::first_sequence(engine)?.filter(|first| *first > next) {
        return Err(StoreError::CutTooFar { snapshot: reached, first });
    }
    let mut replayed = Replayed {
        books,
        events: 0,
        last_event: last,
        snapshot,
        snapshot_rows,
        dirty: if max_dirty.is_some() { Dirty::none() } else { Dirty::All },
        last_at: snapshot.map_or_else(Default::default, |mark| mark.at),
    };
    fold(engine, next, last, |sequence, entry| {
        let changes = replayed.books.apply(entry);
        for change in changes.map_err(|source| StoreError::Inconsistent { sequence, source })? {
            // What was archived is on disk, in the event's own batch, unless it was forgotten since.
            if let Change::Row(row) = change {
                replayed.dirty.add(row);
            }
        }
        if snapshot.is_none() && max_dirty.is_some_and(|most| replayed.dirty.exceeds(most)) {
            replayed.dirty = Dirty::All;
        }
        replayed.events += 1;
        replayed.last_at = entry.at;
        Ok(())
    })?;
    Ok(replayed)
}

type Page = Result<Vec<Entry>, StoreError>;

/// A thread that decodes.
struct Decoder {
    pages_read: Receiver<Page>,
    /// Takes pages back, to drop them where they were made: to free another thread's memory is slow.
    pages_used: SyncSender<Vec<Entry>>,
}

/// Hands the events `next` to `last` to `apply`, in order.
fn fold(
    engine: &dyn Engine,
    next: u64,
    last: u64,
    mut apply: impl FnMut(u64, &Entry) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let count = (last + 1).saturating_sub(next);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let pages = count.div_ceil(PAGE);
    let mut apply_page =
        |first: u64, page: &[Entry]| page.iter().zip(first..).try_for_each(|(entry, n)| apply(n, entry));
    if threads == 1 || pages <= 1 {
        return (0..pages).try_for_each(|page| {
            let first = next + page * PAGE;
            apply_page(first, &read_page(engine, first, last)?)
        });
    }
    thread::scope(|scope| {
        // Page n comes from thread n modulo their number: no thread waits for another, and the order is known.
        let mut decoders: Vec<Decoder> = Vec::new();
        for thread in 0..threads {
            let (sender, pages_read) = sync_channel(PAGES_AHEAD);
            let (pages_used, used) = sync_channel(PAGES_AHEAD);
            let decode = move || {
                for page in (0..pages).skip(thread).step_by(threads) {
                    used.try_iter().for_each(drop);
                    let page = read_page(engine, next + page * PAGE, last);
                    let is_failed = page.is_err();
                    // Nobody listens any more if the fold failed.
                    if sender.send(page).is_err() || is_failed {
                        return;
                    }
                }
            };
            let spawned = thread::Builder::new().name("dms-replay".to_owned()).spawn_scoped(scope, decode);
            spawned.map_err(|error| EngineError::io("start a thread", &error))?;
            decoders.push(Decoder { pages_read, pages_used });
        }
        (0..pages).zip(decoders.iter().cycle()).try_for_each(|(page, decoder)| {
            let read = decoder.pages_read.recv();
            let read = read.map_err(|_| EngineError::Panicked { reason: "while decoding".into() })??;
            apply_page(next + page * PAGE, &read)?;
            // Without room, or at the end, it is dropped here.
            let _ = decoder.pages_used.try_send(read);
            Ok(())
        })
    })
}

/// The page of events from `first` on, `last` at most; all of them, or an error.
fn read_page(engine: &dyn Engine, first: u64, last: u64) -> Page {
    let wanted = PAGE.min(last + 1 - first) as usize;
    let page = EventLog::read(engine, first, wanted)?;
    if page.len() < wanted {
        // Each is followed by another until the last: they were there a moment ago.
        return Err(EngineError::damaged(format!("event {} is missing", first + page.len() as u64)).into());
    }
    let mut entries = Vec::with_capacity(wanted);
    without_verifying(|| {
        for (sequence, bytes) in page {
            let entry: Entry = from_canonical_within(&bytes, MAX_ENTRY_LENGTH)
                .map_err(|source| StoreError::Unreadable { sequence, source })?;
            // Hashed here and remembered, because the fold asks for it and has no time for it.
            match &entry.event {
                Event::AllocationAccepted { contract, .. } | Event::AttemptMinted { contract, .. } => {
                    contract.content_id();
                }
                _ => {}
            }
            entries.push(entry);
        }
        Ok(entries)
    })
}
