//! What the machines run: nothing twice, and no two attempts of a pod side by side for long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dms_messages::{AllocationId, AttemptId, JobId};

use super::rules::{OVERLAP, STARTED_TWICE};
use super::{Judged, NodeIndex, Wrong, first_of, wrong};

/// A program that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) node: NodeIndex,
    /// Of which attempt, if that was known when it began.
    attempt: Option<AttemptId>,
}

/// Two programs of one pod that run, the one that ran first in front.
type Pair = (AllocationId, AllocationId);

/// All programs.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// For how long two may run at the same time.
    bound: Duration,
    running: BTreeMap<AllocationId, Run>,
    by_pod: BTreeMap<(JobId, u16), BTreeSet<AllocationId>>,
    /// Pairs that run at the same time, and when one of them must have ended.
    overlaps: BTreeSet<(Duration, Pair)>,
    /// Where and when each allocation began to run.
    first_runs: BTreeMap<AllocationId, (NodeIndex, u32, Duration)>,
    /// Which allocation of each task of an attempt ran first.
    first_of_attempt: BTreeMap<(AttemptId, usize), AllocationId>,
    begun: u64,
}

impl Runs {
    pub(super) fn new(bound: Duration) -> Self {
        Self { bound, ..Self::default() }
    }

    /// How many programs ever began to run.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// What runs.
    pub(super) fn running(&self) -> &BTreeMap<AllocationId, Run> {
        &self.running
    }

    /// A program begins to run, in a life of a node; its attempt and the allocations of that pod, if the log says so.
    pub(super) fn begin(
        &mut self,
        at: Duration,
        (node, life): (NodeIndex, u32),
        allocation: AllocationId,
        known: Option<(AttemptId, &[AllocationId])>,
    ) -> Judged {
        let attempt = known.map(|(id, _)| id);
        let pod = known.map_or(&[][..], |(_, pod)| pod);
        let task = pod.iter().position(|it| *it == allocation).unwrap_or(0);
        self.begun += 1;
        let first =
            attempt.map_or(allocation, |id| *self.first_of_attempt.entry((id, task)).or_insert(allocation));
        let before = self.first_runs.get(&first).copied();
        self.first_runs.entry(allocation).or_insert((node, life, at));
        if let Some(id) = attempt {
            let others = self.by_pod.entry((id.job, id.pod)).or_default();
            let due = at.saturating_add(self.bound);
            self.overlaps.extend(
                others
                    .iter()
                    .filter(|it| **it != allocation && !pod.contains(it))
                    .map(|it| (due, (*it, allocation))),
            );
            others.insert(allocation);
        }
        self.running.insert(allocation, Run { node, attempt });
        let Some((node, life, at)) = before else { return Ok(()) };
        let what = attempt.map_or_else(|| "of no known attempt".to_owned(), |id| format!("of attempt {id}"));
        let at = at.as_secs_f64();
        wrong(
            STARTED_TWICE,
            format!(
                "allocation {allocation} {what} begins to run, and it began as {first} at {at:.3} s in life {life} \
                 of node {node}"
            ),
        )
    }

    /// A program does not run any more.
    pub(super) fn end(&mut self, at: Duration, allocation: AllocationId) -> Judged {
        let judged = self.check_overlap(at);
        // One that ended with the power is reported again.
        let Some(run) = self.running.remove(&allocation) else { return judged };
        if let Some(id) = run.attempt
            && let Some(others) = self.by_pod.get_mut(&(id.job, id.pod))
        {
            others.remove(&allocation);
            if others.is_empty() {
                self.by_pod.remove(&(id.job, id.pod));
            }
        }
        self.overlaps.retain(|(_, (one, other))| *one != allocation && *other != allocation);
        judged
    }

    /// A node is down: nothing runs there.
    pub(super) fn power_off(&mut self, at: Duration, node: NodeIndex) -> Judged {
        let ended = self.running.iter().filter(|(_, run)| run.node == node).map(|(id, _)| *id);
        let ended: Vec<AllocationId> = ended.collect();
        let mut judged = Ok(());
        for allocation in ended {
            judged = first_of(judged, self.end(at, allocation));
        }
        judged
    }

    /// No two attempts of a pod have run at the same time for too long.
    pub(super) fn check_overlap(&self, at: Duration) -> Judged {
        let Some((due, (one, other))) = self.overlaps.first() else { return Ok(()) };
        if at <= *due {
            return Ok(());
        }
        let named = |id: &AllocationId| match self.running.get(id) {
            Some(Run { node, attempt: Some(attempt) }) => format!("{attempt} on node {node}"),
            _ => format!("allocation {id}"),
        };
        let long = at.saturating_sub(due.saturating_sub(self.bound)).as_secs_f64();
        let bound = self.bound;
        let text = format!(
            "{} and {} have run side by side for {long:.3} s, longer than {bound:?}",
            named(one),
            named(other)
        );
        let node = self.running.get(other).map(|run| run.node);
        Err(Wrong { rule: OVERLAP, text, node })
    }
}
