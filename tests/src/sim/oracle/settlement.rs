//! The end of a story, when nothing disturbs it any more: everything is over, free, and both parties say the same.

use dms_messages::AllocationState;

use super::answers::Answers;
use super::capacity::Health;
use super::model::{KnownAllocation, KnownAttempt, Model};
use super::rules::{DISAGREE, LEAKED_ALLOCATION, LEAKED_LOCK, NOT_TERMINAL, ORPHAN_RUN};
use super::runs::Runs;
use super::{NodeIndex, Wrong};

/// What is not settled, and where. Of a node that is down only its jobs are asked for: it can free and tell nothing.
pub(super) fn find_unsettled(
    model: &Model,
    healths: &[Health],
    runs: &Runs,
    answers: &Answers,
) -> Vec<Wrong> {
    let mut found = Vec::new();
    let mut add = |node: NodeIndex, rule: &'static str, text: String| found.push(Wrong::at(node, rule, text));
    for (id, node) in answers.taken() {
        match model.jobs().get(id) {
            Some(job) if job.end.is_some() => {}
            Some(job) => {
                let newest = job.attempts.last().map(|attempt| (attempt.id.number, &attempt.observed));
                add(*node, NOT_TERMINAL, format!("job {id} has not ended; its newest attempt: {newest:?}"));
            }
            None => add(*node, NOT_TERMINAL, format!("job {id} is in no log")),
        }
    }
    for (node, log) in model.nodes().filter(|(node, _)| healths[*node].is_up()) {
        for (bid, lock) in log.capacity.locks() {
            let (resources, expires) = (&lock.resources, lock.expires.0);
            let text = format!("({resources}) is locked for bid {bid}, until {expires} by its own clock");
            add(node, LEAKED_LOCK, text);
        }
        for id in &log.live {
            let attempt = model.allocations().get(id).map(|known| known.attempt.to_string());
            let attempt = attempt.unwrap_or_default();
            add(node, LEAKED_ALLOCATION, format!("allocation {id} of attempt {attempt} has not ended"));
        }
    }
    for (id, run) in runs.running() {
        if !model.node(run.node).live.contains(id) {
            add(run.node, ORPHAN_RUN, format!("a program of allocation {id} runs, and that does not live"));
        }
    }
    for job in model.jobs().values() {
        for attempt in &job.attempts {
            let Some((id, known)) = model.allocation_of(attempt.id) else { continue };
            let is_done = job.done_with(attempt.id).is_some();
            let are_up = (healths[job.place.node].is_up(), healths[known.place.node].is_up());
            if is_done
                && are_up.1
                && let Some(text) = difference(model, attempt, known, are_up.0)
            {
                let (requester, provider) = (job.place.node, known.place.node);
                let text = format!("attempt {} as {id}, for node {requester}: {text}", attempt.id);
                add(provider, DISAGREE, text);
            }
        }
    }
    found
}

/// On what the parties differ of an attempt that its requester has done with. The provider is up.
fn difference(
    model: &Model,
    attempt: &KnownAttempt,
    known: &KnownAllocation,
    is_requester_up: bool,
) -> Option<String> {
    let observed = attempt.observed.as_ref();
    match &model.pod_end(known) {
        None => return Some("its requester has done with it, and it lives".to_owned()),
        Some((_, end)) if observed.is_some_and(|observed| observed != end) => {
            return Some(format!("its requester has {observed:?}, and its provider {end:?}"));
        }
        Some(_) => {}
    }
    // The words of a requester that is down do not come.
    let mut pod = known.pod.iter().filter_map(|id| model.allocations().get(id));
    let is_acknowledged = pod.all(|known| known.is_acknowledged);
    let is_owed = observed.is_some_and(AllocationState::is_terminal) && is_requester_up && !is_acknowledged;
    is_owed.then(|| "its requester has the result, and that is not acknowledged".to_owned())
}

/// True if nothing is left to wait for.
pub(super) fn is_quiet(model: &Model, healths: &[Health], runs: &Runs, answers: &Answers) -> bool {
    let is_waited_for = |job| answers.taken().contains_key(job);
    let is_owed = |known: &KnownAllocation| {
        let is_heard = model.index_of(known.requester).is_some_and(|requester| healths[requester].is_up());
        healths[known.place.node].is_up() && (known.end.is_none() || is_heard)
    };
    let is_free = |(node, health): (NodeIndex, &Health)| {
        !health.is_up() || model.node(node).capacity.locks().is_empty()
    };
    runs.running().is_empty()
        && !model.open().iter().any(is_waited_for)
        && healths.iter().enumerate().all(is_free)
        && !model.unsettled().iter().filter_map(|id| model.allocations().get(id)).any(is_owed)
}
