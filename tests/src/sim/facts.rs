//! What can be seen of a simulated world from outside of its nodes: the only thing that the judge and the story know.
//!
//! Written by the world's seams (engine, executor, network, clock) as it happens, in one order, on one thread. A fact
//! says nothing that the node under test has computed for the judge: what reached the disk, what the machine ran, what
//! a person was told, and what was done to it.

use std::time::Duration;

use dms_messages::{AllocationId, JobId, Timestamp};
use dms_storage::Entry;

/// A node of the world, from 0.
pub type NodeIndex = usize;

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When, in virtual time since the world began.
    pub at: Duration,
    /// The wall clock of the node, which may be wrong.
    pub wall: Timestamp,
    /// Where.
    pub node: NodeIndex,
    /// Which life of the node, from 1; one begins with each start.
    pub life: u32,
    /// What.
    pub fact: Fact,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The node was started; its log has this many events, all of them synced.
    Started {
        /// The number of the last event.
        last_event: u64,
    },
    /// Of what was not synced, this much had reached the disk by itself when the power went: the log is one file, written
    /// from its beginning. What the disk does may not be relied upon, and not be counted on to be gone.
    Survived {
        /// The number of the last event that did.
        last_event: u64,
    },
    /// It lost its power: whatever was not synced, and did not survive, is gone, and so is what ran.
    Crashed,
    /// It was stopped in order, with everything synced.
    Stopped,
    /// A write to its disk was done.
    Written {
        /// The events in it, numbered.
        entries: Vec<(u64, Entry)>,
        /// True if this write, and everything before it, will survive a loss of power.
        is_synced: bool,
    },
    /// Its disk refuses writes from now on, or works again.
    Disk {
        /// Whether it works.
        works: bool,
    },
    /// The machine began to run a program.
    RunBegan {
        /// Of which allocation.
        allocation: AllocationId,
    },
    /// A program is not running any more: by itself, because it was stopped, or with the power.
    RunEnded {
        /// Of which allocation.
        allocation: AllocationId,
    },
    /// A person was told that the node has taken a job.
    SubmitAnswered {
        /// The job.
        job: JobId,
    },
    /// A person was told that the job will be ended.
    CancelAnswered {
        /// The job.
        job: JobId,
    },
    /// Something was done to the world, for the story: a fault, or the end of one.
    Fault {
        /// In words.
        text: String,
    },
    /// Bytes arrived on a link from another node, or a message of its gossip.
    Heard {
        /// From whom.
        from: NodeIndex,
        /// How they came.
        by: Channel,
        /// How many.
        bytes: u64,
    },
}

/// How something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// On a direct stream.
    Stream,
    /// By gossip.
    Gossip,
}

/// How a node says that it stands; asked now and then, when it is up.
#[derive(Debug, Clone)]
pub struct Look {
    /// When, in virtual time.
    pub at: Duration,
    /// The node's wall clock.
    pub wall: Timestamp,
    /// Which.
    pub node: NodeIndex,
    /// What is free, as it says: `registered - locked - allocated`.
    pub capability: dms_node::commands::CapabilityView,
    /// How it stands.
    pub status: dms_node::commands::NodeStatus,
    /// Messages that wait for its actor.
    pub waiting: usize,
    /// Words that wait to be said.
    pub pending_words: usize,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// When.
    pub at: Duration,
    /// Where.
    pub node: NodeIndex,
    /// Which rule, by a short name that stays (`conservation`, `started-twice`, …).
    pub rule: &'static str,
    /// What is wrong, with ids and numbers.
    pub text: String,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:9.3} s  node {}  {}: {}", self.at.as_secs_f64(), self.node, self.rule, self.text)
    }
}
