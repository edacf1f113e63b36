//! Where every fact of a world goes, in one order: to the judge, and to the story.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dms_actors::clock::SharedClock;
use dms_messages::Did;
use tokio::time::Instant;

use super::facts::{Breach, Fact, Look, NodeIndex, Seen};
use super::oracle::Oracle;
use super::story::Story;

/// The ears of a world. Cheap to clone.
#[derive(Clone)]
pub struct Sink(Arc<Mutex<Ears>>);

struct Ears {
    start: Instant,
    oracle: Oracle,
    story: Story,
    clocks: Vec<SharedClock>,
    lives: Vec<u32>,
    /// The first breach: what follows it is of no interest.
    breach: Option<Breach>,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("breach", &self.lock().breach).finish_non_exhaustive()
    }
}

impl Sink {
    /// Ears for nodes with these clocks, in a world that began at `start`.
    pub fn new(start: Instant, oracle: Oracle, story: Story, clocks: Vec<SharedClock>) -> Self {
        let lives = vec![0; clocks.len()];
        Self(Arc::new(Mutex::new(Ears { start, oracle, story, clocks, lives, breach: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Ears> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A life of the node begins; its number.
    pub fn begin_life(&self, node: NodeIndex) -> u32 {
        let lives = &mut self.lock().lives;
        lives[node] += 1;
        lives[node]
    }

    /// Something happened at a node, in the life that it has now.
    pub fn tell(&self, node: NodeIndex, fact: Fact) {
        let ears = &mut *self.lock();
        if ears.breach.is_some() {
            return;
        }
        let (at, wall, life) = (ears.start.elapsed(), ears.clocks[node].now(), ears.lives[node]);
        let seen = Seen { at, wall, node, life, fact };
        ears.story.see(&seen);
        let judged = ears.oracle.see(&seen);
        ears.note(judged);
    }

    /// How a node stands.
    pub fn look(&self, look: &Look) {
        let ears = &mut *self.lock();
        if ears.breach.is_none() {
            let judged = ears.oracle.look(look);
            ears.note(judged);
        }
    }

    /// Something at a node is not as it must be, beside what the judge sees.
    pub fn break_promise(&self, node: NodeIndex, rule: &'static str, text: String) {
        let ears = &mut *self.lock();
        let at = ears.start.elapsed();
        ears.note(Err(Breach { at, node, rule, text }));
    }

    /// The first breach so far.
    pub fn breach(&self) -> Option<Breach> {
        self.lock().breach.clone()
    }

    /// Whether there is nothing left to wait for.
    pub fn is_quiet(&self) -> bool {
        self.lock().oracle.is_quiet()
    }

    /// The end: what is still broken then.
    pub fn finish(&self) {
        let ears = &mut *self.lock();
        if ears.breach.is_some() {
            return;
        }
        for breach in ears.oracle.finish(ears.start.elapsed()) {
            ears.note(Err(breach));
        }
    }

    /// The story, of which nothing is told any more.
    pub fn take_story(&self) -> Story {
        let ears = &mut *self.lock();
        std::mem::replace(&mut ears.story, Story::digest_only(Vec::new()))
    }

    /// What the judge has counted.
    pub fn with_oracle<T>(&self, read: impl FnOnce(&Oracle) -> T) -> T {
        read(&self.lock().oracle)
    }
}

impl Ears {
    fn note(&mut self, judged: Result<(), Breach>) {
        if let Err(breach) = judged {
            self.story.breach(&breach);
            self.breach.get_or_insert(breach);
        }
    }
}

/// Which of a world's nodes is called so.
pub fn index_of(dids: &[Did], did: Did) -> Option<NodeIndex> {
    dids.iter().position(|known| *known == did)
}
