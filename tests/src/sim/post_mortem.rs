//! Judges real nodes by what they leave on their disks, with the judge of the simulated worlds.
//!
//! Whoever has stopped (or killed) processes reads their event logs and gives them here. The logs are laid into one
//! order by the times of their entries: one machine, one clock, one millisecond. Within a millisecond a promise comes
//! before the word about it, as far as the logs can be laid so; beyond it nothing is moved, so that who wrote of
//! a promise before it was made is found.
//!
//! Judged are the rules of [`super::oracle`] that follow from logs alone, every event taken as synced: the sums, the
//! numbers and contracts of attempts, what was promised before others wrote of it, and at the end that everything is
//! over, free and agreed. In place of what only a world sees:
//!
//! * when a node was down is not in its log, so a lock may be *ended* as late as it likes; but none may be *taken* after
//!   its end, however long the node was frozen or dead;
//! * a program that ran is known by the event that says so, and that is there once.
//!
//! Logs are told from their first event. A node cuts what lies behind a snapshot and is older than its newest 50,000
//! events, so whoever has more reads on from time to time ([`PostMortem::read`]); a log whose beginning is cut is
//! a breach.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dms_messages::{AllocationId, AllocationState, BidId, Did, Timestamp};
use dms_storage::{Entry, Event};

use super::facts::{Breach, Fact, NodeIndex, Seen};
use super::oracle::rules::{LEASE, STARTED_TWICE};
use super::oracle::{Oracle, Rules, Summary};

/// How late a lock may be taken: the clock is read when it is decided and again when it is written down.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);
/// Longer than any suite runs: how long the end of a lock may be missing where nobody knows who was up.
const AS_LATE_AS_IT_LIKES: Duration = Duration::from_secs(365 * 24 * 3600);

/// The judge of nodes that do not run, who may run again.
#[derive(Debug)]
pub struct PostMortem {
    oracle: Oracle,
    node_count: usize,
    /// The time of the first entry of all.
    began: Option<Timestamp>,
    /// How long after it the newest one was.
    at: Duration,
    /// When each lock ends that was not.
    leases: BTreeMap<(NodeIndex, BidId), Timestamp>,
    /// Everything that ever ran.
    ran: BTreeSet<AllocationId>,
}

/// Judges whole logs of nodes that have come to rest; everything that is wrong.
pub fn judge(logs: Vec<(Did, Vec<(u64, Entry)>)>) -> Vec<Breach> {
    let (dids, logs) = logs.into_iter().unzip();
    let mut judge = PostMortem::new(dids);
    let mut breaches = judge.read(logs);
    breaches.extend(judge.finish());
    breaches
}

impl PostMortem {
    /// A judge of these nodes, of whose logs nothing was read yet.
    pub fn new(dids: Vec<Did>) -> Self {
        let node_count = dids.len();
        let rules = Rules { lease_slack: AS_LATE_AS_IT_LIKES, ..Rules::default() };
        let mut judge = Self {
            oracle: Oracle::new(rules, dids),
            node_count,
            began: None,
            at: Duration::ZERO,
            leases: BTreeMap::new(),
            ran: BTreeSet::new(),
        };
        for node in 0..node_count {
            let started = judge.see(node, Timestamp(0), Fact::Started { last_event: 0 });
            started.expect("a node that has written nothing broke nothing");
        }
        judge
    }

    /// Takes what each log has since it was read last, in the order of the nodes; everything that is wrong with it.
    ///
    /// All logs are read while no node runs: an entry that is still to come is missed by those that rest on it.
    pub fn read(&mut self, logs: Vec<Vec<(u64, Entry)>>) -> Vec<Breach> {
        assert_eq!(logs.len(), self.node_count, "one log for each node");
        let mut logs: Vec<VecDeque<(u64, Entry)>> = logs.into_iter().map(VecDeque::from).collect();
        let mut breaches = Vec::new();
        while let Some(node) = self.next_log(&logs) {
            let (sequence, entry) = logs[node].pop_front().expect("it has a next entry");
            breaches.extend(self.take(node, sequence, entry));
        }
        breaches
    }

    /// What is not over, free or agreed; nothing is expected to be while nodes have work. May be asked again when
    /// more was read.
    pub fn finish(&mut self) -> Vec<Breach> {
        self.oracle.finish(self.at)
    }

    /// What was read, in numbers; it knows of no crashes, and of runs by what the logs say.
    pub fn summary(&self) -> Summary {
        Summary { runs: self.ran.len() as u64, ..self.oracle.summary() }
    }

    /// Which log's entry comes next: the oldest, and of those of one millisecond the first that rests on nothing that is
    /// still to come.
    fn next_log(&self, logs: &[VecDeque<(u64, Entry)>]) -> Option<NodeIndex> {
        let next = |log: &VecDeque<(u64, Entry)>| log.front().map(|(_, entry)| entry.at);
        let oldest = logs.iter().filter_map(next).min()?;
        let mut of_that_time = (0..logs.len()).filter(|node| next(&logs[*node]) == Some(oldest));
        let first = of_that_time.clone().next();
        let is_founded = |node: &NodeIndex| {
            logs[*node].front().is_some_and(|(_, entry)| self.oracle.is_founded(*node, &entry.event))
        };
        of_that_time.find(is_founded).or(first)
    }

    fn take(&mut self, node: NodeIndex, sequence: u64, entry: Entry) -> Vec<Breach> {
        let wall = entry.at;
        let began = *self.began.get_or_insert(wall);
        self.at = self.at.max(wall.saturating_since(began));
        let own = self.check_lease(node, wall, &entry.event).or(self.check_run(&entry.event));
        let own = own.map(|(rule, text)| Breach { at: self.at, node, rule, text });
        let submitted = match &entry.event {
            Event::JobSubmitted { job } => Some(job.id),
            _ => None,
        };
        let written =
            self.see(node, wall, Fact::Written { entries: vec![(sequence, entry)], is_synced: true });
        // Whether a person was told is not known; that it ends is due anyway.
        let told = submitted.map_or(Ok(()), |job| self.see(node, wall, Fact::SubmitAnswered { job }));
        [own, written.err(), told.err()].into_iter().flatten().collect()
    }

    fn see(&mut self, node: NodeIndex, wall: Timestamp, fact: Fact) -> Result<(), Breach> {
        self.oracle.see(&Seen { at: self.at, wall, node, life: 1, fact })
    }

    /// No lock is taken after its end.
    fn check_lease(
        &mut self,
        node: NodeIndex,
        at: Timestamp,
        event: &Event,
    ) -> Option<(&'static str, String)> {
        match event {
            Event::BidSent { lock, .. } => {
                self.leases.insert((node, lock.bid), lock.expires);
            }
            Event::LockRenewed { bid, expires } => {
                self.leases.insert((node, *bid), *expires);
            }
            Event::LockEnded { bid, .. } => {
                self.leases.remove(&(node, *bid));
            }
            Event::AllocationAccepted { allocation, contract, .. } => {
                let bid = contract.value().bid;
                let expires = self.leases.remove(&(node, bid))?;
                if at > expires.saturating_add(TAKEN_WITHIN) {
                    let late = at.saturating_since(expires);
                    let text =
                        format!("allocation {allocation} takes the lock of bid {bid} {late:?} after its end");
                    return Some((LEASE, text));
                }
            }
            _ => {}
        }
        None
    }

    /// Nothing is said twice to run.
    fn check_run(&mut self, event: &Event) -> Option<(&'static str, String)> {
        match event {
            Event::AllocationMoved { allocation, state: AllocationState::Running }
                if !self.ran.insert(*allocation) =>
            {
                Some((STARTED_TWICE, format!("allocation {allocation} begins to run for the second time")))
            }
            _ => None,
        }
    }
}
