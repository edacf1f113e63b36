//! `Bid`, `Decline`, `Release`: what answers a request of ours goes to the job's actor; what lets a bid
//! of ours go ends its lock.

use dms_actors::{Answer, Context, Handler};
use dms_messages::{Bid, Decline, Release, ReleaseCause, Signed};
use dms_storage::LockEnd;

use crate::capability::ledger;
use crate::job::Happened;
use crate::node::Node;
use crate::orchestrator::job_state::Input;
use crate::trust::conduct::Offence;
use crate::word::{Addressed, Word};

impl Handler<Signed<Bid>> for Node {
    fn handle(&mut self, bid: Signed<Bid>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let bidder = ctx.sender();
        if bid.issuer() != bidder {
            self.parts.gate.note(bidder, Offence::Forged);
            return ().into();
        }
        let job = self.books.requests_sent().get(&bid.value().request).map(|row| row.request.job);
        let release = |cause| Word::Release(Release { bid: bid.value().id, cause });
        if !self.may_provide(bidder) {
            // A stranger may hear a gossiped request; its bid is not taken.
            let word = release(ReleaseCause::NotAcceptable);
            self.say(ctx, vec![Addressed::new(bidder, word)]);
            return ().into();
        }
        let late = release(ReleaseCause::TooLate);
        match job.and_then(|job| self.route_to_job(job)) {
            Some(actor) if actor.try_tell(Happened(Input::Bid(bid))).is_ok() => {}
            _ => self.say(ctx, vec![Addressed::new(bidder, late)]),
        }
        ().into()
    }
}

impl Handler<Signed<Decline>> for Node {
    fn handle(&mut self, decline: Signed<Decline>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let from = ctx.sender();
        let Decline { request, reason, retry } = decline.value().clone();
        let job = self.books.requests_sent().get(&request).map(|row| row.request.job);
        if decline.issuer() == from
            && let Some(actor) = job.and_then(|job| self.route_to_job(job))
        {
            // A job too busy to hear a no treats it as silence.
            let _ = actor.try_tell(Happened(Input::Decline { from, request, reason, retry }));
        }
        ().into()
    }
}

impl Handler<Release> for Node {
    fn handle(&mut self, release: Release, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let sender = ctx.sender();
        if ledger::may_release(&self.books, sender, release.bid) {
            tracing::debug!(%sender, bid = %release.bid, cause = ?release.cause, "lock released");
            self.end_lock(release.bid, LockEnd::Released, ctx);
        }
        ().into()
    }
}
