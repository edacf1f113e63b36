//! What is promised: the rules by their names, and the bounds that a world sets for them.

use std::time::Duration;

/// Locked and allocated are no more than registered, in every dimension, on disk and in what a node says of itself.
pub const CONSERVATION: &str = "conservation";
/// No attempt begins to run twice, in any life, on any node.
pub const STARTED_TWICE: &str = "started-twice";
/// No program begins to run before its acceptance is synced.
pub const RAN_BEFORE_RECORDED: &str = "ran-before-recorded";
/// Two attempts of one pod do not run at the same time for longer than a provider goes on without its requester.
pub const OVERLAP: &str = "overlap";
/// Attempts are numbered one by one, are minted before they are accepted, and only the newest one's result counts.
pub const FENCING: &str = "fencing";
/// One attempt has one contract, and so one allocation, in the whole world.
pub const TWO_CONTRACTS: &str = "two-contracts";
/// What was synced, and what a person was told, is there for ever; the log has no gaps.
pub const FORGOTTEN: &str = "forgotten";
/// Whoever has heard a promise finds it synced at whoever made it.
pub const SPOKE_BEFORE_SYNC: &str = "spoke-before-sync";
/// No lock outlives its lease.
pub const LEASE: &str = "lease";
/// No queue grows without bound.
pub const UNBOUNDED: &str = "unbounded";
/// At the end every job is over that a person was told is taken.
pub const NOT_TERMINAL: &str = "not-terminal";
/// At the end there are no locks.
pub const LEAKED_LOCK: &str = "leaked-lock";
/// At the end there are no live allocations.
pub const LEAKED_ALLOCATION: &str = "leaked-allocation";
/// At the end nothing runs that has no live allocation.
pub const ORPHAN_RUN: &str = "orphan-run";
/// At the end both parties of an attempt say the same of it.
pub const DISAGREE: &str = "disagree";

/// The names of all rules.
pub const ALL: [&str; 15] = [
    CONSERVATION,
    STARTED_TWICE,
    RAN_BEFORE_RECORDED,
    OVERLAP,
    FENCING,
    TWO_CONTRACTS,
    FORGOTTEN,
    SPOKE_BEFORE_SYNC,
    LEASE,
    UNBOUNDED,
    NOT_TERMINAL,
    LEAKED_LOCK,
    LEAKED_ALLOCATION,
    ORPHAN_RUN,
    DISAGREE,
];

/// The bounds of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// After how long without its requester a provider stops what it runs.
    pub orphan_after: Duration,
    /// How late a lock may be ended after its lease, by the node's own wall clock, while the node is up and its disk
    /// works: in the node's memory, and by the times of the entries of its log. On its disk the end may be seconds
    /// later.
    pub lease_slack: Duration,
    /// How much longer than `orphan_after` two attempts of a pod may run at the same time.
    pub overlap_slack: Duration,
    /// Most messages that wait for a node's actor.
    pub max_waiting: usize,
    /// Most words that wait to be said.
    pub max_pending_words: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            orphan_after: Duration::from_secs(60),
            lease_slack: Duration::from_secs(3),
            overlap_slack: Duration::from_secs(5),
            max_waiting: 1024,
            max_pending_words: 4096,
        }
    }
}
