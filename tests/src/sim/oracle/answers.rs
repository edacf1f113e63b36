//! What people were told, and what must therefore be on the disk and stay there.

use std::collections::BTreeMap;
use std::time::Duration;

use dms_messages::{JobEnd, JobFailure, JobId};
use dms_storage::Event;

use super::model::Model;
use super::rules::FORGOTTEN;
use super::{Judged, NodeIndex, wrong};

/// How long after a cancel was answered a job may still end, or go on, by what was decided before its actor heard of
/// it: the decision waits for its turn and for the disk.
const DECIDED_BEFORE: Duration = Duration::from_secs(30);

/// What people were told.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Jobs that a person was told are taken, and by which node.
    taken: BTreeMap<JobId, NodeIndex>,
    /// Jobs that a person was told will be ended, and when that was.
    cancelled: BTreeMap<JobId, Duration>,
}

impl Answers {
    pub(super) fn taken(&self) -> &BTreeMap<JobId, NodeIndex> {
        &self.taken
    }

    /// A person was told that a job is taken: it is synced.
    pub(super) fn submitted(&mut self, model: &Model, node: NodeIndex, job: JobId) -> Judged {
        self.taken.insert(job, node);
        let place = model.jobs().get(&job).map(|known| known.place).filter(|place| place.node == node);
        match place {
            Some(place) if model.is_synced(node, place.sequence) => Ok(()),
            Some(place) => {
                let sequence = place.sequence;
                wrong(FORGOTTEN, format!("job {job} is said to be taken, and event {sequence} is not synced"))
            }
            None => wrong(FORGOTTEN, format!("job {job} is said to be taken, and is not in the log")),
        }
    }

    /// A person was told that a job will be ended: the wish is synced.
    pub(super) fn cancelled(&mut self, model: &Model, node: NodeIndex, job: JobId, at: Duration) -> Judged {
        self.cancelled.entry(job).or_insert(at);
        let known = model.jobs().get(&job).filter(|known| known.place.node == node);
        match known.and_then(|known| known.cancel) {
            Some(sequence) if model.is_synced(node, sequence) => Ok(()),
            Some(sequence) => wrong(
                FORGOTTEN,
                format!("job {job} is said to be cancelled, and event {sequence} is not synced"),
            ),
            None => {
                wrong(FORGOTTEN, format!("job {job} is said to be cancelled, and its log does not say so"))
            }
        }
    }

    /// A job whose cancel was answered does not go on: it ends as cancelled, or as its program had ended by then.
    pub(super) fn check(&self, event: &Event, at: Duration) -> Judged {
        let (job, what): (JobId, String) = match event {
            Event::AttemptMinted { attempt, .. } => (attempt.job, format!("attempt {attempt} was minted")),
            Event::JobEnded { end: JobEnd::Cancelled | JobEnd::Succeeded, .. }
            | Event::JobEnded { end: JobEnd::Failed { failure: JobFailure::Program { .. } }, .. } => {
                return Ok(());
            }
            Event::JobEnded { job, end } => (*job, format!("it ended as {end:?}")),
            _ => return Ok(()),
        };
        let Some(answered) = self.cancelled.get(&job) else { return Ok(()) };
        let since = at.saturating_sub(*answered);
        if since <= DECIDED_BEFORE {
            return Ok(());
        }
        wrong(FORGOTTEN, format!("the cancel of job {job} was answered {since:?} ago, and {what}"))
    }
}
