//! `Invocation`: a requester takes our bid. Its lock becomes an allocation for each task of the pod, in one batch with
//! the countersigned contract; only then do the allocations' actors start and the acceptance leave.
//!
//! `Accepted` and `Refused`, our providers' answers, go to the job's actor.

use dms_actors::{Answer, Context, Did, Handler, Responder};
use dms_messages::ability::REQUEST_INVOKE;
use dms_messages::{
    Accepted, AllocationId, AttemptId, BidId, Invocation, Refused, RefusedReason, Signed, StopCause,
};
use dms_storage::{Event, LockEnd};

use crate::capability::ledger;
use crate::commands::{CommandError, NodeMode};
use crate::job::Happened;
use crate::node::{Node, NotRecorded};
use crate::orchestrator::job_state::Input;
use crate::signer::{ANSWER_TTL, RECORD_TTL};
use crate::word::{Addressed, Word};

impl Handler<Signed<Invocation>> for Node {
    fn handle(&mut self, invocation: Signed<Invocation>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let requester = ctx.sender();
        let attempt = invocation.value().contract.value().attempt;
        // Check: an attempt that started once is never started again, but answered again.
        if invocation.issuer() != requester {
            self.refuse(requester, attempt, RefusedReason::NotYours, ctx);
        } else if !self.repeat_acceptance(requester, attempt, ctx) {
            // Decide.
            match self.may_invoke(requester, invocation.value()) {
                Ok(()) => self.accept(&invocation, None, ctx),
                Err(reason) => {
                    tracing::info!(%requester, %attempt, %reason, "invocation refused");
                    // It tried: what it locked is not counted as never used.
                    let is_ours = matches!(reason, RefusedReason::Draining | RefusedReason::ReadOnly);
                    self.refuse(requester, attempt, reason, ctx);
                    if is_ours {
                        self.take_back(requester, invocation.value().bid, ctx);
                    }
                }
            }
        }
        ().into()
    }
}

impl Node {
    pub(crate) fn may_invoke(&self, requester: Did, invocation: &Invocation) -> Result<(), RefusedReason> {
        match &self.mode {
            NodeMode::Draining => return Err(RefusedReason::Draining),
            NodeMode::ReadOnly { .. } => return Err(RefusedReason::ReadOnly),
            NodeMode::Serving => {}
        }
        if self.parts.gate.may(requester, REQUEST_INVOKE, None).is_err() {
            return Err(RefusedReason::NotTrusted);
        }
        let terms = invocation.contract.value();
        let contract = invocation.contract.header();
        if terms.provider != self.me() || contract.audience != Some(self.me()) {
            return Err(RefusedReason::NotYours);
        }
        if let Err(error) = contract.check(&self.decode_context()) {
            return Err(RefusedReason::ContractDiffers { what: error.to_string() });
        }
        ledger::take(&self.books, requester, invocation, self.now()).map(|_| ())
    }

    /// Records and starts; older attempts of the same pod stop. Who handed the invocation in here is answered, too.
    pub(crate) fn accept(
        &mut self,
        invocation: &Signed<Invocation>,
        responder: Option<Responder<Result<Signed<Accepted>, CommandError>>>,
        ctx: &mut Context<'_, Self>,
    ) {
        let contract = invocation.value().contract.clone();
        let attempt = contract.value().attempt;
        let (requester, bid) = (contract.value().requester, contract.value().bid);
        let contract_tasks = contract.value().pod.tasks.len();
        let allocation = AllocationId::from_random(self.parts.clock.random());
        let accepted = Accepted { attempt, contract: contract.content_id(), allocation };
        let Some(accepted) = self.sign(accepted, requester, RECORD_TTL) else { return };
        let superseded = self.books.newest_attempt_like(requester, attempt);
        let events = vec![Event::AllocationAccepted { allocation, contract, accepted: accepted.clone() }];
        let task_count = u16::try_from(contract_tasks).unwrap_or(u16::MAX);
        let pod: Vec<_> = (0..task_count).map(|task| allocation.of_task(task)).collect();
        pod.iter().for_each(|id| self.begin_accepting(*id));
        self.record(ctx, events, move |node, outcome, ctx| {
            // A stop was wanted of all of them.
            let stop = pod.iter().fold(None, |stop, id| stop.or(node.end_accepting(*id)));
            if let Some(responder) = responder {
                responder.reply(match &outcome {
                    Ok(()) => Ok(accepted.clone()),
                    Err(NotRecorded::Overloaded(_)) => Err(CommandError::Busy),
                    Err(NotRecorded::ReadOnly(reason)) => Err(CommandError::ReadOnly(reason.clone())),
                });
            }
            match outcome {
                Ok(()) => {
                    tracing::info!(%requester, %attempt, %allocation, "invocation accepted");
                    if let Some(older) = superseded {
                        node.stop_allocations(requester, older, StopCause::Superseded);
                    }
                    node.say(ctx, vec![Addressed::new(requester, Word::Accepted(accepted))]);
                    pod.iter().for_each(|id| node.spawn_allocation(ctx, *id));
                    if let Some(cause) = stop {
                        node.stop_allocations(requester, attempt, cause);
                    }
                }
                Err(NotRecorded::Overloaded(_)) => {
                    node.refuse(requester, attempt, RefusedReason::Busy, ctx);
                    node.take_back(requester, bid, ctx);
                }
                // Whatever is held when the node goes on is not counted either (`Node::expire_locks`).
                Err(NotRecorded::ReadOnly(_)) => {
                    node.refuse(requester, attempt, RefusedReason::ReadOnly, ctx)
                }
            }
        });
    }

    /// Takes back a lock whose invocation was refused for reasons of ours.
    fn take_back(&mut self, requester: Did, bid: BidId, ctx: &mut Context<'_, Self>) {
        if ledger::may_release(&self.books, requester, bid) {
            self.end_lock(bid, LockEnd::Withdrawn, ctx);
        }
    }

    /// Says the acceptance of an attempt that started once again; false if it never did.
    pub(crate) fn repeat_acceptance(
        &mut self,
        requester: Did,
        attempt: AttemptId,
        ctx: &mut Context<'_, Self>,
    ) -> bool {
        if let Some(accepted) = self.acceptance_of(requester, attempt) {
            self.say(ctx, vec![Addressed::new(requester, Word::Accepted(accepted))]);
        }
        self.books.allocations_of(requester, attempt).next().is_some()
    }

    /// What was answered when an attempt started, as long as its contract is known.
    pub(crate) fn acceptance_of(&self, requester: Did, attempt: AttemptId) -> Option<Signed<Accepted>> {
        let row = self.books.allocations_of(requester, attempt).next()?;
        self.books.contracts().get(&row.contract)?.accepted.clone()
    }

    /// Says a typed no; strangers get only so many.
    pub(crate) fn refuse(
        &mut self,
        to: Did,
        attempt: AttemptId,
        reason: RefusedReason,
        ctx: &mut Context<'_, Self>,
    ) {
        if !self.knows(to) && !self.stranger_answers.take() {
            return;
        }
        if let Some(refused) = self.sign(Refused { attempt, reason }, to, ANSWER_TTL) {
            self.say(ctx, vec![Addressed::new(to, Word::Refused(refused))]);
        }
    }
}

impl Handler<Signed<Accepted>> for Node {
    fn handle(&mut self, accepted: Signed<Accepted>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let attempt = accepted.value().attempt;
        let is_ours =
            self.books.jobs().get(&attempt.job).and_then(|row| row.current_attempt()).is_some_and(|row| {
                row.id == attempt
                    && row.contract == accepted.value().contract
                    && row.provider == accepted.issuer()
            });
        if accepted.issuer() == ctx.sender()
            && is_ours
            && let Some(actor) = self.route_to_job(attempt.job)
        {
            // What is lost here is learned from the next status.
            let _ = actor.try_tell(Happened(Input::Accepted(accepted)));
        }
        ().into()
    }
}

impl Handler<Signed<Refused>> for Node {
    fn handle(&mut self, refused: Signed<Refused>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let from = ctx.sender();
        let Refused { attempt, reason } = refused.value().clone();
        let job = self.books.jobs().get(&attempt.job);
        let is_ours =
            job.is_some_and(|row| row.attempts.iter().any(|row| row.id == attempt && row.provider == from));
        if refused.issuer() == from
            && is_ours
            && let Some(actor) = self.route_to_job(attempt.job)
        {
            let _ = actor.try_tell(Happened(Input::Refused { from, attempt, reason }));
        }
        ().into()
    }
}
