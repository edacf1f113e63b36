//! Words about allocations: at the provider `AllocationStatusRequest`, `Cancel` and `Acknowledge`; at the
//! requester `AllocationStatus` and `AllocationOutput`.

use dms_actors::{Answer, Context, Did, Handler};
use dms_messages::{
    Acknowledge, AllocationOutput, AllocationState, AllocationStatus, AllocationStatusRequest, AttemptId,
    AttemptStage, Cancel, ProvidedAttempt, RefusedReason, Signed, StopCause,
};
use dms_storage::Event;
use dms_storage::sabotage::{self, Bug};

use crate::allocation::{self, OutputFrom};
use crate::blobs::GrantId;
use crate::commands::NodeMode;
use crate::job::{Happened, Output};
use crate::node::Node;
use crate::orchestrator::job_state::Input;
use crate::orchestrator::reconcile;
use crate::word::{Addressed, Word};

impl Node {
    /// True if an allocation's end is what the disk has, too: that much is told by a node that cannot write.
    pub(crate) fn is_over_on_disk(&self, state: &AllocationState) -> bool {
        !self.is_beyond_disk() && state.is_terminal()
    }

    /// Says how each task of an attempt stands, as the books have it, or that it is not known here. One whose
    /// acceptance is still on its way to the disk is not spoken of: it will speak for itself. What ended before the
    /// disk failed has ended, and its result is here; of anything else nothing can be said any more.
    pub(crate) fn answer_about(&mut self, requester: Did, attempt: AttemptId, ctx: &mut Context<'_, Self>) {
        let state = self.books.pod_state(requester, attempt);
        let is_over_on_disk = state.as_ref().is_some_and(|state| self.is_over_on_disk(state));
        if matches!(self.mode, NodeMode::ReadOnly { .. }) && !is_over_on_disk {
            return self.refuse(requester, attempt, RefusedReason::ReadOnly, ctx);
        }
        if state.is_none() {
            return self.refuse(requester, attempt, RefusedReason::UnknownAttempt, ctx);
        }
        let rows = self.books.allocations_of(requester, attempt);
        let tasks: Vec<_> = rows.map(|row| (row.id, row.state.is_terminal())).collect();
        for (id, is_over) in tasks {
            let is_told = is_over || (self.is_attended(id, ctx) && !self.is_accepting(id));
            if is_told
                && let Some(word) = self.books.allocations().get(&id).and_then(|row| self.status_word(row))
            {
                self.say(ctx, vec![word]);
            }
        }
    }
}

impl Handler<AllocationStatusRequest> for Node {
    fn handle(&mut self, request: AllocationStatusRequest, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let requester = ctx.sender();
        for (task, actor) in self.route_to_allocations(requester, request.attempt) {
            // A mailbox that is full is one that hears of its requester soon enough.
            let _ = actor.try_tell(allocation::Heard);
            let (stdout, stderr) = match usize::from(task).checked_sub(1) {
                None => (request.stdout_offset, request.stderr_offset),
                Some(other) => request.others.get(other).copied().unwrap_or_default(),
            };
            let _ = actor.try_tell(OutputFrom { stdout, stderr });
        }
        self.answer_about(requester, request.attempt, ctx);
        ().into()
    }
}

impl Handler<Cancel> for Node {
    fn handle(&mut self, cancel: Cancel, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let requester = ctx.sender();
        // The end is told when it is on disk.
        if !self.stop_allocations(requester, cancel.attempt, cancel.cause) {
            self.answer_about(requester, cancel.attempt, ctx);
        }
        ().into()
    }
}

impl Handler<Acknowledge> for Node {
    fn handle(&mut self, acknowledge: Acknowledge, ctx: &mut Context<'_, Self>) -> Answer<()> {
        if sabotage::has(Bug::LosesAcknowledgements) {
            return ().into();
        }
        let rows = self.books.allocations_of(ctx.sender(), acknowledge.attempt);
        let rows: Vec<_> = rows.map(|row| (row.id, row.ended().is_some(), row.is_acknowledged)).collect();
        // Of a pod that goes on nobody has all results.
        let ended = rows.into_iter().filter(|(_, is_over, is_known)| *is_over && !is_known);
        let ended: Vec<_> = ended.map(|(allocation, ..)| allocation).collect();
        if !ended.is_empty() {
            let events = ended.iter().map(|id| Event::AllocationAcknowledged { allocation: *id }).collect();
            self.record(ctx, events, move |node, _, _| {
                ended.into_iter().for_each(|id| node.parts.blobs.revoke(GrantId::Allocation(id)));
            });
        }
        ().into()
    }
}

impl Handler<Signed<AllocationStatus>> for Node {
    fn handle(&mut self, status: Signed<AllocationStatus>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        if status.issuer() != ctx.sender() {
            return ().into();
        }
        let provider = status.issuer();
        let attempt = status.value().attempt;
        let Some(job) = self.books.jobs().get(&attempt.job) else {
            // Over for so long that it is archived, or forgotten with an older copy of the books.
            let claim = ProvidedAttempt { attempt, stage: AttemptStage::from(&status.value().state) };
            if self.mode == NodeMode::Serving
                && let Some(difference) = reconcile::as_requester(&self.books, provider, &claim)
            {
                self.mend(provider, difference, ctx);
            }
            return ().into();
        };
        if !job.attempts.iter().any(|row| row.id == attempt && row.provider == provider) {
            return ().into();
        }
        let is_over = job.phase.is_terminal();
        if let Some(actor) = self.route_to_job(attempt.job) {
            // What is lost here is learned from the next heartbeat.
            let _ = actor.try_tell(Happened(Input::Status(status)));
        } else if is_over && self.mode == NodeMode::Serving {
            // Nobody waits for it any more: let it be forgotten, or stopped.
            let word = match status.value().state.is_terminal() {
                true => Word::Acknowledge(Acknowledge { attempt }),
                false => Word::Cancel(Cancel { attempt, cause: StopCause::Superseded }),
            };
            self.say(ctx, vec![Addressed::new(provider, word)]);
        }
        ().into()
    }
}

impl Handler<AllocationOutput> for Node {
    fn handle(&mut self, output: AllocationOutput, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let attempt = self.books.jobs().get(&output.attempt.job).and_then(|row| row.current_attempt());
        let is_providers =
            attempt.is_some_and(|row| row.id == output.attempt && row.provider == ctx.sender());
        if is_providers && let Some(actor) = self.route_to_job(output.attempt.job) {
            // A convenience: the whole is in the result.
            let _ = actor.try_tell(Output(output));
        }
        ().into()
    }
}
