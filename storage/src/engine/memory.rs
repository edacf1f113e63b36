//! Keeps rows in memory, with the loss a power cut would bring: for tests and the simulator.
//!
//! What a crash takes away is modelled, not the disk: [`MemoryEngine::crash`] is the engine as of the last synced
//! write. It refuses to write when told to ([`MemoryEngine::fail_writes`], [`MemoryEngine::fail_with`]), like a full or
//! broken disk.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    Batch, Durability, Engine, EngineError, FamilySize, RocksEngine, RocksOptions, Row, ScanRange, Sizes,
    Write,
};
use crate::schema::{self, Family};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// An engine without a disk.
pub struct MemoryEngine {
    // A mutex, because `Engine` is shared between the committer and the readers just as RocksDB is, and a batch must
    // be seen whole or not at all. Held for map operations only.
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    rows: BTreeMap<Family, Rows>,
    /// What each row touched since the last sync held at that sync (`None`: no row), so that a crash can be undone
    /// without keeping a second copy of everything. Bounded by the rows touched, not by the writes made.
    unsynced: BTreeMap<(Family, Vec<u8>), Option<Vec<u8>>>,
    /// What every write and reopening answers.
    failing: Option<EngineError>,
    /// A reopening failed; until one succeeds nothing can be read either.
    is_closed: bool,
}

/// Rows handed to a checkpoint's engine at a time.
const CHECKPOINT_BATCH_BYTES: usize = 1024 * 1024;

impl MemoryEngine {
    /// A new database: nothing but the schema version, synced.
    pub fn new() -> Self {
        let engine = Self { state: Mutex::new(State::default()) };
        let mut first = Batch::new();
        first.put(Family::Meta, schema::SCHEMA_VERSION_KEY, schema::version_row());
        engine.lock().apply(first.into_writes(), Durability::Synced);
        engine
    }

    /// A copy as the disk would hold it after a power cut now: every synced write, none of the later ones.
    ///
    /// This engine goes on unchanged, and the copy does not fail writes.
    pub fn crash(&self) -> Self {
        let mut state = self.lock().clone();
        for ((family, key), before) in std::mem::take(&mut state.unsynced) {
            let rows = state.rows.entry(family).or_default();
            match before {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(&key)),
            }
        }
        state.failing = None;
        state.is_closed = false;
        Self { state: Mutex::new(state) }
    }

    /// From now on every write fails and changes nothing (`true`), or works again (`false`).
    pub fn fail_writes(&self, failing: bool) {
        self.fail_with(failing.then(|| EngineError::Io { reason: "writes are made to fail".to_owned() }));
    }

    /// From now on every write, and every reopening, fails with this error and changes no row; or works again (none).
    ///
    /// A real disk refuses on until the engine is reopened, whatever becomes of the cause; this one does not.
    pub fn fail_with(&self, error: Option<EngineError>) {
        self.lock().failing = error;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave a batch half applied: applying allocates, and running out of memory aborts.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, writes: Vec<Write>, durability: Durability) {
        for Write { family, key, value } in writes {
            let rows = self.rows.entry(family).or_default();
            let before = match value {
                Some(value) => rows.insert(key.clone(), value),
                None => rows.remove(&key),
            };
            self.unsynced.entry((family, key)).or_insert(before);
        }
        if durability == Durability::Synced {
            self.unsynced.clear();
        }
    }

    fn check_open(&self) -> Result<(), EngineError> {
        match &self.failing {
            Some(error) if self.is_closed => Err(error.clone()),
            None if self.is_closed => {
                Err(EngineError::Io { reason: "the database is closed since a reopening failed".to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn range(&self, family: Family, range: &ScanRange) -> impl DoubleEndedIterator<Item = Row> {
        // `BTreeMap::range` panics on a range that ends before it starts.
        let rows = self.rows.get(&family).filter(|_| !range.is_empty());
        let bounds = (
            Bound::Included(range.start.clone()),
            range.end.clone().map_or(Bound::Unbounded, Bound::Excluded),
        );
        rows.into_iter().flat_map(move |rows| rows.range::<Vec<u8>, _>(bounds.clone())).map(clone_row)
    }
}

fn clone_row((key, value): (&Vec<u8>, &Vec<u8>)) -> Row {
    (key.clone(), value.clone())
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let row_count: usize = state.rows.values().map(BTreeMap::len).sum();
        f.debug_struct("MemoryEngine")
            .field("row_count", &row_count)
            .field("unsynced_row_count", &state.unsynced.len())
            .field("failing", &state.failing)
            .field("is_closed", &state.is_closed)
            .finish()
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let mut state = self.lock();
        state.check_open()?;
        if let Some(error) = &state.failing {
            return Err(error.clone());
        }
        state.apply(batch.into_writes(), durability);
        Ok(())
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let state = self.lock();
        state.check_open()?;
        Ok(state.rows.get(&family).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        let state = self.lock();
        state.check_open()?;
        Ok(state.range(family, &range).take(limit).collect())
    }

    fn scan_back(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        let state = self.lock();
        state.check_open()?;
        Ok(state.range(family, &range).rev().take(limit).collect())
    }

    /// A restart of the process takes nothing away; only a [`MemoryEngine::crash`] does.
    fn reopen(&self) -> Result<(), EngineError> {
        let mut state = self.lock();
        match state.failing.clone() {
            // Found before anything is closed, as on a disk.
            Some(error @ EngineError::NoSpace { .. }) => Err(error),
            Some(error) => {
                state.is_closed = true;
                Err(error)
            }
            None => {
                state.is_closed = false;
                Ok(())
            }
        }
    }

    /// Makes a database on disk with the same rows.
    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError> {
        super::refuse_existing(directory)?;
        let copied = {
            let state = self.lock();
            state.check_open()?;
            state.rows.clone()
        };
        // Not with its parents, which the other engine does not make either.
        fs::create_dir(directory)
            .map_err(|error| EngineError::io(&format!("create {}", directory.display()), &error))?;
        let engine = RocksEngine::open(directory, &RocksOptions::default())?;
        let mut batch = Batch::new();
        for (family, rows) in copied {
            for (key, value) in rows {
                batch.put(family, key, value);
                if batch.byte_len() >= CHECKPOINT_BATCH_BYTES {
                    engine.write(std::mem::take(&mut batch), Durability::Unsynced)?;
                }
            }
        }
        engine.write(batch, Durability::Synced)
    }

    fn sizes(&self) -> Result<Sizes, EngineError> {
        let state = self.lock();
        state.check_open()?;
        let families: Vec<FamilySize> = Family::ALL
            .into_iter()
            .map(|family| {
                let rows = state.rows.get(&family);
                let bytes =
                    rows.map_or(0, |rows| rows.iter().map(|(key, value)| key.len() + value.len()).sum());
                FamilySize {
                    family: family.name().to_owned(),
                    rows: rows.map_or(0, BTreeMap::len) as u64,
                    bytes: bytes as u64,
                }
            })
            .collect();
        let write_buffer_bytes = families.iter().map(|family| family.bytes).sum();
        Ok(Sizes { write_buffer_bytes, families, ..Sizes::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(engine: &MemoryEngine, key: &str, value: &str, durability: Durability) {
        let mut batch = Batch::new();
        batch.put(Family::Notes, key, value);
        engine.write(batch, durability).expect("memory writes");
    }

    fn notes(engine: &MemoryEngine) -> Vec<(String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("tests write text");
        let rows = engine.scan(Family::Notes, ScanRange::all(), usize::MAX).expect("memory reads");
        rows.into_iter().map(|(key, value)| (text(key), text(value))).collect()
    }

    fn row(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn a_crash_takes_what_was_not_synced_and_only_that() {
        let engine = MemoryEngine::new();
        put(&engine, "a", "synced", Durability::Synced);
        put(&engine, "b", "carried", Durability::Unsynced);
        put(&engine, "c", "synced", Durability::Synced);
        put(&engine, "a", "late", Durability::Unsynced);
        put(&engine, "a", "later", Durability::Unsynced);
        put(&engine, "d", "late", Durability::Unsynced);
        let mut batch = Batch::new();
        batch.delete(Family::Notes, "c");
        engine.write(batch, Durability::Unsynced).expect("memory writes");

        let crashed = engine.crash();
        assert_eq!(notes(&crashed), [row("a", "synced"), row("b", "carried"), row("c", "synced")]);
        assert_eq!(notes(&engine), [row("a", "later"), row("b", "carried"), row("d", "late")]);
        // The survivor is a database of its own, with nothing left to lose.
        put(&crashed, "e", "new", Durability::Unsynced);
        assert_eq!(notes(&engine).len(), 3);
        assert_eq!(notes(&crashed.crash()), notes(&engine.crash()));
    }

    #[test]
    fn an_empty_synced_write_saves_what_came_before() {
        let engine = MemoryEngine::new();
        put(&engine, "a", "1", Durability::Unsynced);
        assert_eq!(notes(&engine.crash()), []);
        engine.write(Batch::new(), Durability::Synced).expect("memory writes");
        assert_eq!(notes(&engine.crash()), [row("a", "1")]);
    }

    #[test]
    fn failed_writes_change_nothing() {
        let engine = MemoryEngine::new();
        put(&engine, "a", "1", Durability::Synced);
        engine.fail_writes(true);
        let mut batch = Batch::new();
        batch.delete(Family::Notes, "a");
        assert!(matches!(engine.write(batch, Durability::Synced), Err(EngineError::Io { .. })));
        assert_eq!(notes(&engine), [row("a", "1")]);
        put(&engine.crash(), "b", "a reopened engine writes", Durability::Synced);
        engine.fail_writes(false);
        put(&engine, "b", "2", Durability::Synced);
        assert_eq!(notes(&engine).len(), 2);
    }

    #[test]
    fn a_new_database_survives_a_crash_with_its_version() {
        let crashed = MemoryEngine::new().crash();
        let row = crashed.get(Family::Meta, schema::SCHEMA_VERSION_KEY).expect("memory reads");
        assert_eq!(row.as_deref().map(schema::check_version), Some(Ok(schema::SCHEMA_VERSION)));
    }
}
