//! `Reconcile`: a peer says what it shares with us. Where its books and ours differ we say what mends it; and we say
//! the same word to it, when the link comes up and every so often.
//!
//! A tell may be lost with its link, a side may be restored from an older copy of its books: this is what finds it.

use dms_actors::{Answer, Context, Did, Handler};
use dms_messages::{Acknowledge, Cancel, Reconcile, StopCause};
use dms_storage::sabotage::{self, Bug};

use crate::allocation;
use crate::commands::NodeMode;
use crate::job::Happened;
use crate::node::Node;
use crate::orchestrator::job_state::Input;
use crate::orchestrator::reconcile::{self, Difference, Mend};
use crate::word::{Addressed, Word};

/// Differences of one peer that are mended in a second: a word of them, so that a peer that makes them up costs a few
/// milliseconds. What is left out is found again by the next word.
const MAX_MENDED: usize = dms_messages::MAX_RECONCILED;
/// Requesters that are not connected and are dialled each time because results wait for them: few, for most of them are
/// gone for a while, and each costs a look-up and a dial.
const MAX_DIALLED: usize = 4;

impl Node {
    /// Says to one peer what is shared with it.
    pub(crate) fn reconcile_with(&mut self, peer: Did, ctx: &mut Context<'_, Self>) {
        self.say_shared(|did| did == peer, ctx);
    }

    /// Says to everybody connected what is shared with each. Those who are not connected are reconciled with when
    /// they are again; whoever runs something for us is dialled by its job, and those for whom results wait here are
    /// dialled in turn: their jobs may be over, and then nobody dials us.
    pub(crate) fn reconcile(&mut self, ctx: &mut Context<'_, Self>) {
        let (peers, me) = (self.peers.clone(), self.me());
        let waiting = reconcile::requesters_waited_for(&self.books);
        let absent = waiting.into_iter().filter(|did| *did != me && !peers.contains(did)).collect();
        let dialled = self.absent_requesters.next(&absent, MAX_DIALLED);
        self.say_shared(|did| did == me || peers.contains(&did) || dialled.contains(&did), ctx);
    }

    fn say_shared(&mut self, is_peer: impl Fn(Did) -> bool, ctx: &mut Context<'_, Self>) {
        // What the disk could not take must not be compared with.
        if matches!(self.mode, NodeMode::ReadOnly { .. }) || sabotage::has(Bug::NeverReconciles) {
            return;
        }
        let shared = reconcile::shared(&self.books, is_peer).into_iter();
        let words = shared.flat_map(|(peer, pages)| {
            pages.into_iter().map(move |page| Addressed::new(peer, Word::Reconcile(page)))
        });
        self.say(ctx, words.collect());
    }

    /// True if one more difference of this peer is mended in this second.
    fn may_mend(&mut self, peer: Did) -> bool {
        let mended = self.mended.entry(peer).or_insert(0);
        *mended += 1;
        *mended <= MAX_MENDED
    }

    pub(crate) fn mend(&mut self, peer: Did, difference: Difference, ctx: &mut Context<'_, Self>) {
        let Difference { attempt, here, there, mend } = difference;
        if (here.is_none() && !self.knows(peer)) || !self.may_mend(peer) {
            return;
        }
        let here = here.map_or_else(|| "nothing".to_owned(), |stage| stage.to_string());
        tracing::info!(%peer, %attempt, here, %there, ?mend, "a peer's books differ from ours");
        self.difference_count = self.difference_count.saturating_add(1);
        match mend {
            Mend::Disown | Mend::Tell => self.answer_about(peer, attempt, ctx),
            Mend::Countersign => drop(self.repeat_acceptance(peer, attempt, ctx)),
            Mend::CountersignAndTell => {
                self.repeat_acceptance(peer, attempt, ctx);
                self.answer_about(peer, attempt, ctx);
            }
            Mend::Ask => {
                // Its job knows how much live output is here. One too busy to hear it asks with its heartbeat.
                if let Some(actor) = self.route_to_job(attempt.job) {
                    let _ = actor.try_tell(Happened(Input::Differs(attempt)));
                }
            }
            Mend::Stop => {
                let cancel = Cancel { attempt, cause: StopCause::Superseded };
                self.say(ctx, vec![Addressed::new(peer, Word::Cancel(cancel))]);
            }
            Mend::Release => {
                self.say(ctx, vec![Addressed::new(peer, Word::Acknowledge(Acknowledge { attempt }))]);
            }
        }
    }
}

impl Handler<Reconcile> for Node {
    fn handle(&mut self, word: Reconcile, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let peer = ctx.sender();
        for claim in &word.requested {
            for (_, actor) in self.route_to_allocations(peer, claim.attempt) {
                // A sign of life; a mailbox that is full hears the next one.
                let _ = actor.try_tell(allocation::Heard);
            }
            if matches!(self.mode, NodeMode::ReadOnly { .. }) {
                if self.may_mend(peer) {
                    self.answer_about(peer, claim.attempt, ctx);
                }
            } else if let Some(difference) = reconcile::as_provider(&self.books, peer, claim) {
                self.mend(peer, difference, ctx);
            }
        }
        // Nothing is let go by books that may be behind.
        if !matches!(self.mode, NodeMode::ReadOnly { .. }) {
            for claim in &word.provided {
                if let Some(difference) = reconcile::as_requester(&self.books, peer, claim) {
                    self.mend(peer, difference, ctx);
                }
            }
        }
        ().into()
    }
}
