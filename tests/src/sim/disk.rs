//! A node's disk: the engine in memory, which says what reached it, forgets what was not synced when the power goes,
//! and can be full.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dms_actors::testing::Chance;
use dms_messages::{from_canonical, without_verifying};
use dms_storage::engine::{Row, ScanRange, Sizes};
use dms_storage::log::EventLog;
use dms_storage::schema::Family;
use dms_storage::{Batch, Durability, Engine, EngineError, Entry, MemoryEngine, WriteTime};

use super::facts::{Fact, NodeIndex};
use super::sink::Sink;

/// The disk of one life of a node.
pub struct SimDisk {
    inner: MemoryEngine,
    node: NodeIndex,
    sink: Sink,
    /// The power is gone: nobody writes to it any more.
    is_dead: AtomicBool,
    /// Writes since the last sync, in order, each with its last event: some of them reach the disk by themselves.
    unsynced: Mutex<Vec<(Batch, Option<u64>)>>,
}

impl SimDisk {
    /// A disk that holds what `inner` does.
    pub fn new(inner: MemoryEngine, node: NodeIndex, sink: Sink) -> Self {
        Self { inner, node, sink, is_dead: AtomicBool::new(false), unsynced: Mutex::default() }
    }

    /// The power goes: what was synced, and of what was not a part from its beginning.
    pub fn crash(&self, chance: &mut Chance) -> MemoryEngine {
        self.is_dead.store(true, Ordering::Relaxed);
        let left = self.inner.crash();
        let mut unsynced = std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        unsynced.truncate(usize::try_from(chance.up_to(unsynced.len() as u64)).unwrap_or(0));
        for (batch, last_event) in unsynced {
            left.write(batch, Durability::Synced).expect("a disk in memory writes");
            if let Some(last_event) = last_event {
                self.sink.tell(self.node, Fact::Survived { last_event });
            }
        }
        left
    }

    /// From now on it is full, or has room again.
    pub fn fill(&self, is_full: bool) {
        let error = is_full.then(|| EngineError::NoSpace { reason: "the simulated disk is full".to_owned() });
        self.inner.fail_with(error);
        if !self.is_dead.load(Ordering::Relaxed) {
            self.sink.tell(self.node, Fact::Disk { works: !is_full });
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The events in a batch, numbered; what the log cuts off is none.
fn entries(batch: &Batch) -> Vec<(u64, Entry)> {
    let rows = batch.writes().iter().filter(|write| write.family == Family::Events);
    rows.filter_map(|write| {
        let frame = write.value.as_ref()?;
        let (number, event) = EventLog::parse(&write.key, frame).expect("the node wrote it");
        let entry = without_verifying(|| from_canonical::<Entry>(event)).expect("the node wrote it");
        Some((number, entry))
    })
    .collect()
}

impl Engine for SimDisk {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        if self.is_dead.load(Ordering::Relaxed) {
            return Err(EngineError::Io { reason: "there is no power".to_owned() });
        }
        let entries = entries(&batch);
        let is_synced = durability == Durability::Synced;
        let kept = (!is_synced).then(|| batch.clone());
        self.inner.write(batch, durability)?;
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        match kept {
            Some(batch) => unsynced.push((batch, entries.last().map(|(number, _)| *number))),
            None => unsynced.clear(),
        }
        drop(unsynced);
        if is_synced || !entries.is_empty() {
            self.sink.tell(self.node, Fact::Written { entries, is_synced });
        }
        Ok(())
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.inner.get(family, key)
    }

    fn scan(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.inner.scan(family, range, limit)
    }

    fn scan_back(&self, family: Family, range: ScanRange, limit: usize) -> Result<Vec<Row>, EngineError> {
        self.inner.scan_back(family, range, limit)
    }

    fn reopen(&self) -> Result<(), EngineError> {
        self.inner.reopen()
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), EngineError> {
        self.inner.checkpoint(directory)
    }

    fn sizes(&self) -> Result<Sizes, EngineError> {
        self.inner.sizes()
    }
}

/// How long a node's disk takes; it can be made slow. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DiskPace(Arc<Mutex<Pace>>);

#[derive(Debug)]
struct Pace {
    chance: Chance,
    sync: Duration,
    slow: Duration,
}

impl DiskPace {
    /// A disk that takes up to `sync` for a synced write.
    pub fn new(chance: Chance, sync: Duration) -> Self {
        Self(Arc::new(Mutex::new(Pace { chance, sync, slow: Duration::ZERO })))
    }

    /// Every write takes so much longer from now on.
    pub fn slow_down(&self, by: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).slow = by;
    }

    /// How long the next write takes.
    pub fn next(&self, durability: Durability) -> WriteTime {
        let pace = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = match durability {
            Durability::Synced => pace.sync,
            // To memory that outlives the process.
            Durability::Unsynced => pace.sync / 50,
        };
        let write = pace.chance.duration(longest) + pace.slow;
        // Now and then the thread that tells waits for its turn.
        let answer = if pace.chance.one_in(8) { pace.chance.duration(pace.sync) } else { Duration::ZERO };
        WriteTime { write, answer }
    }
}
