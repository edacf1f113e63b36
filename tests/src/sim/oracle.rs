//! Judges a world by its facts: what was promised is kept, after every fact and at the end.
//!
//! It is fed by the world with every [`Seen`] and with [`Look`]s now and then. It knows what the words of the log mean
//! and nothing else: it never asks the books of a node, which are what is judged, and folds the logs itself.
//!
//! ```text
//!   Seen ──► runs      who runs what, and for how long two at once
//!        ├─► promises  before an entry is taken: what it says that others promised is on their disks
//!        ├─► fold      the entry changes the model; what is not synced can be undone
//!        ├─► answers   what people were told is on the disk, and stays
//!        └─► capacity  no lock outlives its lease
//!   Look ──► capacity  the node's own sums
//!   end  ──► settlement: all is over, free and agreed
//! ```
//!
//! A story with a breach is over: what comes after it is judged as well as may be.

mod answers;
mod capacity;
mod fold;
mod model;
mod promises;
pub mod rules;
mod runs;
mod settlement;
#[cfg(test)]
mod tests;

use std::time::Duration;

use dms_messages::{Did, JobEnd, Timestamp};
use dms_storage::{Entry, Event};

use self::answers::Answers;
use self::capacity::Health;
use self::model::Model;
pub use self::rules::Rules;
use self::runs::Runs;
use super::facts::{Breach, Fact, Look, NodeIndex, Seen};

/// How long the end of a lock may be on its way to the disk. Whether it was decided in time is seen when it is there.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// What the judge has seen, in numbers. What was lost with the power before it was synced does not count as a job or
/// an attempt, but as an event that was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events that were written.
    pub events: u64,
    /// Jobs in the logs.
    pub jobs_submitted: u64,
    /// Jobs that succeeded.
    pub jobs_succeeded: u64,
    /// Jobs that failed.
    pub jobs_failed: u64,
    /// Jobs that were cancelled.
    pub jobs_cancelled: u64,
    /// Attempts in the logs.
    pub attempts: u64,
    /// Programs that began to run.
    pub runs: u64,
    /// Locks that were made.
    pub locks: u64,
    /// Losses of power.
    pub crashes: u64,
    /// Starts of nodes that had run before.
    pub restarts: u64,
}

/// What is wrong, before it is known when and where.
#[derive(Debug)]
struct Wrong {
    rule: &'static str,
    text: String,
    /// Where, if it is not where the fact is.
    node: Option<NodeIndex>,
}

/// Whether something is as it should be.
type Judged = Result<(), Wrong>;

fn wrong<T>(rule: &'static str, text: String) -> Result<T, Wrong> {
    Err(Wrong { rule, text, node: None })
}

impl Wrong {
    fn at(node: NodeIndex, rule: &'static str, text: String) -> Self {
        Self { rule, text, node: Some(node) }
    }
}

/// The first thing that is wrong: the others may follow from it.
fn first_of(before: Judged, next: Judged) -> Judged {
    before.and(next)
}

/// When something was seen, and what the node's own clock said.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Duration,
    wall: Timestamp,
}

/// The judge of one world.
#[derive(Debug)]
pub struct Oracle {
    rules: Rules,
    model: Model,
    healths: Vec<Health>,
    runs: Runs,
    answers: Answers,
    counts: Summary,
}

impl Oracle {
    /// A judge of a world in which nothing has happened yet; `dids` are its nodes, in their order. What a log has
    /// before its node is first started is told as well, as it is written.
    pub fn new(rules: Rules, dids: Vec<Did>) -> Self {
        Self {
            healths: vec![Health::default(); dids.len()],
            runs: Runs::new(rules.orphan_after + rules.overlap_slack),
            model: Model::new(dids),
            answers: Answers::default(),
            counts: Summary::default(),
            rules,
        }
    }

    /// Takes one fact; facts come in the order in which they happened.
    ///
    /// # Errors
    /// The first promise that is broken by it.
    pub fn see(&mut self, seen: &Seen) -> Result<(), Breach> {
        let moment = Moment { at: seen.at, wall: seen.wall };
        let overlap = self.runs.check_overlap(seen.at);
        let fact = self.take(seen.node, seen.life, moment, &seen.fact);
        let lease = self.check_leases(seen.node, moment, self.rules.lease_slack + WRITTEN_WITHIN);
        first_of(first_of(overlap, fact), lease).map_err(|wrong| breach(wrong, seen.at, seen.node))
    }

    /// Takes one look at a node that is up.
    ///
    /// # Errors
    /// The first promise that is broken by what it says of itself.
    pub fn look(&mut self, look: &Look) -> Result<(), Breach> {
        let moment = Moment { at: look.at, wall: look.wall };
        let judged = first_of(capacity::check_view(&look.capability), self.check_bounds(look));
        let written = self.check_leases(look.node, moment, self.rules.lease_slack + WRITTEN_WITHIN);
        let judged = first_of(judged, written);
        let judged = first_of(judged, self.check_view_leases(look, moment));
        judged.map_err(|wrong| breach(wrong, look.at, look.node))
    }

    /// The liveness phase is over: everything must be terminal, free and agreed. Gives all that is not.
    pub fn finish(&mut self, at: Duration) -> Vec<Breach> {
        let overlap = self.runs.check_overlap(at).err();
        let rest = settlement::find_unsettled(&self.model, &self.healths, &self.runs, &self.answers);
        overlap.into_iter().chain(rest).map(|wrong| breach(wrong, at, 0)).collect()
    }

    /// True if nothing is left to wait for: every job that a person was told is taken has ended, no node that is up
    /// holds a lock or a live allocation, nothing runs, and every result is acknowledged where both parties are up.
    pub fn is_quiet(&self) -> bool {
        settlement::is_quiet(&self.model, &self.healths, &self.runs, &self.answers)
    }

    /// True if an event that `node` could write now says nothing of others that their logs do not say: for whoever
    /// has logs and no order of them.
    pub(super) fn is_founded(&self, node: NodeIndex, event: &Event) -> bool {
        promises::check(&self.model, node, event).is_ok()
    }

    /// What was seen, in numbers; walks over all jobs.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary { runs: self.runs.begun(), ..self.counts };
        for job in self.model.jobs().values() {
            summary.jobs_submitted += 1;
            summary.attempts += job.attempts.len() as u64;
            match &job.end {
                Some((_, JobEnd::Succeeded)) => summary.jobs_succeeded += 1,
                Some((_, JobEnd::Failed { .. })) => summary.jobs_failed += 1,
                Some((_, JobEnd::Cancelled)) => summary.jobs_cancelled += 1,
                None => {}
            }
        }
        summary
    }

    fn take(&mut self, node: NodeIndex, life: u32, moment: Moment, fact: &Fact) -> Judged {
        match fact {
            Fact::Started { last_event } => {
                self.counts.restarts += u64::from(life > 1);
                self.healths[node].started(moment.at);
                self.model.restarted(node, *last_event)
            }
            Fact::Survived { last_event } => {
                self.model.sync_to(node, *last_event);
                Ok(())
            }
            Fact::Crashed => {
                self.counts.crashes += 1;
                self.healths[node].ended();
                self.model.lose_tail(node);
                self.runs.power_off(moment.at, node)
            }
            Fact::Stopped => {
                self.healths[node].ended();
                self.model.sync(node);
                self.runs.power_off(moment.at, node)
            }
            Fact::Written { entries, is_synced } => {
                let mut judged = Ok(());
                for (sequence, entry) in entries {
                    judged = first_of(judged, self.write(node, moment, *sequence, entry, *is_synced));
                }
                if *is_synced {
                    self.model.sync(node);
                }
                judged
            }
            Fact::Disk { works } => {
                self.healths[node].disk(*works, moment.at);
                Ok(())
            }
            Fact::RunBegan { allocation } => {
                let recorded = promises::check_run(&self.model, node, *allocation);
                let known = self.model.allocations().get(allocation);
                let known = known.map(|known| (known.attempt, known.pod.as_slice()));
                first_of(recorded, self.runs.begin(moment.at, (node, life), *allocation, known))
            }
            Fact::RunEnded { allocation } => self.runs.end(moment.at, *allocation),
            Fact::SubmitAnswered { job } => self.answers.submitted(&self.model, node, *job),
            Fact::CancelAnswered { job } => self.answers.cancelled(&self.model, node, *job, moment.at),
            Fact::Fault { .. } | Fact::Heard { .. } => Ok(()),
        }
    }

    fn write(
        &mut self,
        node: NodeIndex,
        moment: Moment,
        sequence: u64,
        entry: &Entry,
        is_synced: bool,
    ) -> Judged {
        self.counts.events += 1;
        // The log is in the order of the decisions, however long the disk took for them.
        let decided = moment.at.saturating_sub(moment.wall.saturating_since(entry.at));
        let decided = Moment { at: decided, wall: entry.at };
        let lease = self.check_leases(node, decided, self.rules.lease_slack);
        self.counts.locks += u64::from(matches!(entry.event, Event::BidSent { .. }));
        let numbered = self.model.number(node, sequence);
        let promised = promises::check(&self.model, node, &entry.event);
        let answered = self.answers.check(&entry.event, moment.at);
        let folded = self.model.apply(node, moment, sequence, &entry.event, is_synced);
        first_of(first_of(numbered, promised), first_of(answered, first_of(folded, lease)))
    }

    fn check_bounds(&self, look: &Look) -> Judged {
        let bounds = [
            ("messages wait for its actor", look.waiting, self.rules.max_waiting),
            ("words wait to be said", look.pending_words, self.rules.max_pending_words),
        ];
        match bounds.into_iter().find(|(_, count, bound)| count > bound) {
            Some((what, count, bound)) => {
                wrong(rules::UNBOUNDED, format!("{count} {what}, and no more than {bound} may"))
            }
            None => Ok(()),
        }
    }

    /// The locks in a node's log, which may be behind what it has decided.
    fn check_leases(&self, node: NodeIndex, moment: Moment, slack: Duration) -> Judged {
        if self.healths[node].is_well(moment.at, slack) {
            self.model.node(node).capacity.check_leases(moment, slack)
        } else {
            Ok(())
        }
    }

    /// The locks that a node has in memory.
    fn check_view_leases(&self, look: &Look, moment: Moment) -> Judged {
        let slack = self.rules.lease_slack;
        if !self.healths[look.node].is_well(moment.at, slack) {
            return Ok(());
        }
        let capacity = &self.model.node(look.node).capacity;
        let mut locks = look.capability.locks.iter();
        locks.try_for_each(|lock| capacity.check_lease(lock.bid, lock.expires, moment, slack))
    }
}

fn breach(wrong: Wrong, at: Duration, node: NodeIndex) -> Breach {
    Breach { at, node: wrong.node.unwrap_or(node), rule: wrong.rule, text: wrong.text }
}
