//! What the owner asks of the node as a provider: to lock capacity, to let it go, to start what was invoked, and how
//! much is to be free; see [`crate::interface`].

use std::time::Duration;

use dms_actors::{Answer, Context, Handler, Message};
use dms_messages::{
    AttemptId, Bid, BidRequest, DeclineReason, Document, Invocation, JobId, RefusedReason, Resources, Signed,
};
use dms_storage::{Event, Lock, LockEnd};

use crate::commands::{CommandError, NodeMode, Onboard};
use crate::interface::{
    EndLock, LockCapability, MAX_OWN_LEASE, SetAvailableCapability, StartAllocation, StartLocked,
};
use crate::listings;
use crate::node::Node;
use crate::orchestrator::job_state;
use crate::signer::{ANSWER_TTL, RECORD_TTL};
use crate::word::{Addressed, Word};

/// A job that is to be started: what is recorded of it, and what is said then.
type Started = (JobId, Vec<Event>, Signed<Invocation>);

impl Handler<LockCapability> for Node {
    fn handle(
        &mut self,
        lock: LockCapability,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<LockCapability as Message>::Reply> {
        let LockCapability { request, lease } = lock;
        let drafted = self.draft_own_bid(&request, lease);
        let (bid, lock) = match drafted {
            Ok(drafted) => drafted,
            Err(error) => return Err(error).into(),
        };
        let (responder, answer) = Answer::later();
        let (requester, id) = (self.me(), bid.value().id);
        let received = Event::BidRequestReceived { requester, request: request.bare(), declined: None };
        let sent = Event::BidSent { bid: bid.clone(), lock };
        self.record(ctx, vec![received, sent], move |node, outcome, _| {
            let is_held = node.books.locks().contains_key(&id);
            responder.reply(match outcome {
                Ok(()) if is_held => Ok(bid),
                // The disk took longer than the lease.
                Ok(()) => Err(CommandError::Busy),
                Err(error) => Err(error.into()),
            });
        });
        answer
    }
}

impl Node {
    /// A bid of this node's to itself, with its lock.
    fn draft_own_bid(
        &mut self,
        request: &BidRequest,
        lease: Duration,
    ) -> Result<(Signed<Bid>, Lock), CommandError> {
        request.check().map_err(|what| CommandError::Declined(DeclineReason::Unsupported { what }))?;
        if lease.is_zero() || lease > MAX_OWN_LEASE {
            let what = format!("a lease of more than {} s, or of none", MAX_OWN_LEASE.as_secs());
            return Err(CommandError::Declined(DeclineReason::Unsupported { what }));
        }
        let me = self.me();
        if self.is_request_known(request.id) {
            let what = "a request that was made before".to_owned();
            return Err(CommandError::Declined(DeclineReason::Unsupported { what }));
        }
        let offer = self.decide(me, request).map_err(CommandError::Declined)?;
        self.draft_bid(me, request, offer, lease).ok_or(CommandError::Busy)
    }
}

impl Handler<EndLock> for Node {
    fn handle(&mut self, end: EndLock, ctx: &mut Context<'_, Self>) -> Answer<<EndLock as Message>::Reply> {
        let lock = match listings::lock(&self.books, &end.bid) {
            Ok(lock) => lock.clone(),
            Err(error) => return Err(error).into(),
        };
        // What was promised to others is theirs until its lease ends.
        if lock.requester != self.me() {
            return Err(CommandError::Refused(RefusedReason::NotYours)).into();
        }
        let (responder, answer) = Answer::later();
        let event = Event::LockEnded { bid: lock.bid, end: LockEnd::Released };
        self.record(ctx, vec![event], move |_, outcome, _| {
            responder.reply(outcome.map(|()| lock).map_err(CommandError::from));
        });
        answer
    }
}

impl Handler<SetAvailableCapability> for Node {
    fn handle(
        &mut self,
        set: SetAvailableCapability,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<SetAvailableCapability as Message>::Reply> {
        let Some(registered) = self.books.registered() else {
            return Err(CommandError::NotOnboarded).into();
        };
        if self.withdrawal.is_some() {
            let what = "the offer is being taken back, which onboarding calls off".to_owned();
            return Err(CommandError::InvalidCapability(what)).into();
        }
        match self.registered_for(&set.available.over(self.books.available())) {
            Some(resources) => {
                let capability = dms_messages::Capability { resources, ..registered.clone() };
                Handler::<Onboard>::handle(self, Onboard { capability }, ctx)
            }
            None => {
                let what = "more than can be counted, or a GPU or port that is promised".to_owned();
                Err(CommandError::InvalidCapability(what)).into()
            }
        }
    }
}

impl Node {
    /// What must be registered for so much to be free beside what is promised.
    fn registered_for(&self, available: &Resources) -> Option<Resources> {
        available.checked_add(&self.books.locked())?.checked_add(&self.books.allocated())
    }
}

impl Handler<StartAllocation> for Node {
    fn handle(
        &mut self,
        start: StartAllocation,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<StartAllocation as Message>::Reply> {
        let invocation = start.invocation;
        let requester = invocation.issuer();
        let attempt = invocation.value().contract.value().attempt;
        // Checked as on a link: it may have lain in a file.
        let context = self.decode_context();
        if invocation.header().check(&context).is_err() {
            return Err(CommandError::Refused(RefusedReason::NotYours)).into();
        }
        let (responder, answer) = Answer::later();
        if let Some(accepted) = self.acceptance_of(requester, attempt) {
            // Memory may be ahead of the disk.
            self.record(ctx, Vec::new(), |_, outcome, _| {
                responder.reply(outcome.map(|()| accepted).map_err(CommandError::from));
            });
            return answer;
        }
        if let Err(reason) = self.may_invoke(requester, invocation.value()) {
            return Err(CommandError::Refused(reason)).into();
        }
        self.accept(&invocation, Some(responder), ctx);
        answer
    }
}

impl Handler<StartLocked> for Node {
    fn handle(
        &mut self,
        start: StartLocked,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<StartLocked as Message>::Reply> {
        let (responder, answer) = Answer::later();
        match self.events_of_start(start) {
            Ok((id, events, invocation)) => {
                self.record(ctx, events, move |node, outcome, ctx| {
                    if outcome.is_ok() {
                        // Said before the job's actor asks how its attempt stands.
                        let invocation = Word::Invocation(Box::new(invocation));
                        node.say(ctx, vec![Addressed::new(node.me(), invocation)]);
                        node.spawn_job(ctx, id);
                    }
                    responder.reply(outcome.map(|()| id).map_err(CommandError::from));
                });
            }
            Err(error) => responder.reply(Err(error)),
        }
        answer
    }
}

impl Node {
    /// The job with its first attempt, which takes this node's own lock, and the word that takes it.
    fn events_of_start(&self, start: StartLocked) -> Result<Started, CommandError> {
        if self.mode != NodeMode::Serving {
            self.check_serving()?;
        }
        let lock = listings::lock(&self.books, &start.bid)?;
        if lock.requester != self.me() {
            return Err(CommandError::Refused(RefusedReason::NotYours));
        }
        let job = dms_messages::Job { id: lock.job, ..start.job };
        self.check_submission(&job)?;
        let unknown = || CommandError::Refused(RefusedReason::UnknownBid);
        let bid = self.books.bids_sent().get(&lock.bid).map(|row| row.bid.clone()).ok_or_else(unknown)?;
        let price = bid.value().price;
        if job.max_price.is_some_and(|limit| price > limit) {
            return Err(CommandError::BeyondLock(format!("it costs {price} per hour, over the job's limit")));
        }
        let attempt = AttemptId { job: job.id, pod: lock.pod, number: 1 };
        let terms = job_state::terms(self.me(), &bid, attempt, &job, self.parts.job_rules.orphan_after);
        let contract = self.sign(terms, self.me(), RECORD_TTL).ok_or(CommandError::Busy)?;
        let invocation = Invocation { bid: lock.bid, contract: contract.clone() };
        let invocation = self.sign(invocation, self.me(), ANSWER_TTL).ok_or(CommandError::Busy)?;
        // A job that does not fit its lock would be put out to bid instead.
        self.may_invoke(self.me(), invocation.value()).map_err(|reason| match reason {
            RefusedReason::ContractDiffers { what } => {
                CommandError::BeyondLock(format!("{what} is other than what was asked for"))
            }
            reason => CommandError::Refused(reason),
        })?;
        let minted = Event::AttemptMinted { attempt, provider: self.me(), addresses: Vec::new(), contract };
        Ok((job.id, vec![Event::JobSubmitted { job }, minted], invocation))
    }
}
