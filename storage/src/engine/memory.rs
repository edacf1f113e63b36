//! Keeps rows in memory, with the loss a power cut would bring: for tests and the simulator.
//!
//! What a crash takes away is modelled, not the disk: [`MemoryEngine::crash`] is the engine as of the last synced
//! write. It refuses to write when told to ([`MemoryEngine::fail_writes`]), like a full or broken disk.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Batch, Durability, Engine, EngineError, Row, ScanRange, Write};
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
    failing: bool,
}

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
        state.failing = false;
        Self { state: Mutex::new(state) }
    }

    /// From now on every write fails and changes nothing (`true`), or works again (`false`).
    pub fn fail_writes(&self, failing: bool) {
        self.lock().failing = failing;
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
            .finish()
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let mut state = self.lock();
        if state.failing {
            return Err(EngineError::Io { reason: "writes are made to fail".to_owned() });
        }
        state.apply(batch.into_writes(), durability);
        Ok(())
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.lock().rows.get(&family).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        Ok(self.lock().range(family, &range).take(limit).collect())
    }

    fn scan_back(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        Ok(self.lock().range(family, &range).rev().take(limit).collect())
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
