//! `BidRequest`: a peer (or this node) asks who would run a pod. Answered with a bid backed by a lock that
//! is on disk, or with a typed decline; a request heard by gossip is not declined.

use std::collections::BTreeMap;
use std::time::Duration;

use dms_actors::{Answer, Context, Did, Handler};
use dms_messages::ability::REQUEST_BIDS;
use dms_messages::{
    Bid, BidId, BidRequest, BidRequestId, ContentId, Decline, DeclineReason, DocumentId, Millis, Profile,
    Retry, Signed, Timestamp,
};
use dms_storage::{Event, Lock, LockEnd};

use crate::capability::ledger::{self, LEASE_GRACE, Renewal};
use crate::commands::NodeMode;
use crate::network::{BID_REQUESTS, Heard};
use crate::node::{Node, NotRecorded, OVERLOAD_PAUSE};
use crate::orchestrator::matching::{self, Offer, Terms};
use crate::signer::ANSWER_TTL;
use crate::trust::conduct::Offence;
use crate::word::{Addressed, Word};

/// Longest life of a request that is answered: for so long, and the skew, its id is remembered. Of one that lives
/// longer nothing is: it would fill the memory for as long as its issuer likes.
const MAX_REQUEST_LIFETIME: Duration = Duration::from_secs(300);
/// Most requests remembered: beyond, requests are declined as too much, and not kept. From half of it on they are
/// forgotten sooner (`Node::tidy`), so that some hundred a second may come for ever.
pub(crate) const MAX_REQUESTS: usize = 16_384;

/// How many requests are remembered of each requester, so that nobody fills the memory alone: as counted at the last
/// tidying, and since.
#[derive(Debug, Default)]
pub(crate) struct Shares(BTreeMap<Did, usize>);

impl Shares {
    /// Counts what is remembered.
    pub(crate) fn recount(&mut self, requesters: impl Iterator<Item = Did>) {
        self.0.clear();
        requesters.for_each(|requester| self.count(requester));
    }

    fn count(&mut self, requester: Did) {
        *self.0.entry(requester).or_default() += 1;
    }

    /// True if one more is remembered of this requester: while the memory is half empty, and then if it has less than
    /// its part of the half that is full.
    fn have_room(&self, requester: Did, remembered: usize) -> bool {
        let half = MAX_REQUESTS / 2;
        let asked = self.0.get(&requester).copied().unwrap_or_default();
        remembered < half || (remembered < MAX_REQUESTS && asked < half / self.0.len().max(1))
    }
}

/// How a request reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// On its requester's link: an answer is owed.
    Directly,
    /// By gossip: only a bid is worth saying.
    ByGossip,
}

impl Handler<Signed<BidRequest>> for Node {
    fn handle(&mut self, request: Signed<BidRequest>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        if request.issuer() == ctx.sender() {
            self.answer_request(&request, Asked::Directly, ctx);
        } else {
            tracing::debug!(sender = %ctx.sender(), issuer = %request.issuer(), "a request was passed on by another");
            self.parts.gate.note(ctx.sender(), Offence::Forged);
        }
        ().into()
    }
}

impl Handler<Heard> for Node {
    fn handle(&mut self, heard: Heard, ctx: &mut Context<'_, Self>) -> Answer<()> {
        match heard {
            Heard::BidRequest(request) if request.issuer() != self.me() => {
                self.network.remember(request.issuer(), request.value().addresses.clone());
                self.answer_request(&request, Asked::ByGossip, ctx);
            }
            Heard::Advert(advert) => {
                // Remembered from when it was heard, unless it was looked up.
                self.parts.gate.show(advert.issuer(), &advert.value().credentials);
                self.note_advert(&advert);
            }
            Heard::NodeStatus(status) => self.note_status(&status),
            Heard::Revocation(revocation) => self.take_revocations(vec![revocation], ctx),
            Heard::BidRequest(_) => {}
        }
        ().into()
    }
}

impl Node {
    fn answer_request(&mut self, request: &Signed<BidRequest>, asked: Asked, ctx: &mut Context<'_, Self>) {
        let requester = request.issuer();
        // Check: a repeat changes nothing, whoever brings it.
        if self.books.has_seen(seen_as(request)) {
            return self.repeat_answer(request, asked, ctx);
        }
        let topic = match asked {
            Asked::Directly => None,
            Asked::ByGossip => Some(BID_REQUESTS),
        };
        // What it shows has been looked at: with the link, or when it was heard.
        if self.parts.gate.may(requester, REQUEST_BIDS, topic).is_err() {
            self.monitor.tally.decline(&DeclineReason::NotTrusted);
            // Nothing of a stranger's is kept, and only so many get an answer a second.
            if asked == Asked::Directly && self.stranger_answers.take() {
                self.decline(requester, request.value().id, DeclineReason::NotTrusted, ctx);
            }
            return;
        }
        // Of what can be declined for good by itself nothing is kept: declining it again costs no more.
        if let Some(what) = self.why_unsupported(request) {
            let reason = DeclineReason::Unsupported { what: what.to_owned() };
            self.monitor.tally.decline(&reason);
            if asked == Asked::Directly {
                self.decline(requester, request.value().id, reason, ctx);
            }
            return;
        }
        if self.lock_holder(request.value().id).is_some() {
            return self.renew_bid(request, ctx);
        }
        // Decide.
        let decision = self.decide(requester, request.value());
        // Record, speak, report.
        let seen = Event::DocumentSeen { id: seen_as(request), until: remembered_until(request) };
        match decision {
            Ok(offer) => self.make_bid(request, offer, seen, asked, ctx),
            Err(reason) => {
                self.monitor.tally.decline(&reason);
                let id = request.value().id;
                let is_trusted = self.parts.gate.is_trusted(requester);
                // Strangers say so much that they do not fill the log.
                match is_trusted {
                    true => tracing::info!(%requester, request = %id, %reason, "declined"),
                    false => tracing::debug!(%requester, request = %id, %reason, "declined"),
                }
                let received = Event::BidRequestReceived {
                    requester,
                    request: request.value().bare(),
                    declined: Some(reason.clone()),
                };
                // A decline promises nothing: it need not wait for the disk, nor for books that are full or closed.
                // It is kept for people to see, of strangers as rarely as they would be answered elsewhere.
                let is_of_interest = is_trusted || self.stranger_notes.take();
                if is_of_interest && self.may_remember(requester) {
                    self.request_shares.count(requester);
                    self.record(ctx, vec![received, seen], |_, _, _| {});
                }
                if asked == Asked::Directly {
                    self.decline(requester, id, reason, ctx);
                }
            }
        }
    }

    /// Why a request is not one that this version answers, whatever else holds.
    fn why_unsupported(&self, request: &Signed<BidRequest>) -> Option<&'static str> {
        let header = request.header();
        if header.expires_at.saturating_since(header.issued_at) > MAX_REQUEST_LIFETIME {
            return Some("requests that live for more than 5 minutes");
        }
        // Its row is the other's.
        self.is_anothers(request).then_some("a request that has the id of somebody else's")
    }

    /// True while there is room for one more request: what has been seen is never forgotten for what is new.
    fn may_remember(&self, requester: Did) -> bool {
        let remembered = self.books.requests_received().len().max(self.books.seen_count());
        self.request_shares.have_room(requester, remembered)
    }

    /// True if another requester has named a request so.
    fn is_anothers(&self, request: &Signed<BidRequest>) -> bool {
        let id = request.value().id;
        let row = self.books.requests_received().get(&id).map(|row| row.requester);
        // The row may be forgotten before the lock ends, where leases are long.
        row.or_else(|| self.lock_holder(id)).is_some_and(|requester| requester != request.issuer())
    }

    /// True if a request of this name was answered, or holds a lock.
    pub(crate) fn is_request_known(&self, request: BidRequestId) -> bool {
        self.books.requests_received().contains_key(&request) || self.lock_holder(request).is_some()
    }

    /// Who holds a lock for a request of this name.
    fn lock_holder(&self, request: BidRequestId) -> Option<Did> {
        let lock = self.books.locks().values().find(|lock| lock.request == request);
        lock.map(|lock| lock.requester)
    }

    pub(crate) fn decide(&mut self, requester: Did, request: &BidRequest) -> Result<Offer, DeclineReason> {
        if !self.may_remember(requester) {
            return Err(DeclineReason::Busy { shortfalls: Vec::new() });
        }
        match &self.mode {
            NodeMode::Draining => return Err(DeclineReason::Draining),
            NodeMode::ReadOnly { .. } => return Err(DeclineReason::ReadOnly),
            NodeMode::Serving if self.withdrawal.is_some() => return Err(DeclineReason::NotOnboarded),
            NodeMode::Serving => {}
        }
        let preferences = self.preferences();
        let reputation = self.preferences.history.requester(requester, self.now());
        let room = self.room();
        let terms = Terms { preferences: &preferences, reputation, room: &room };
        matching::decide(&self.books, requester, self.me(), request, terms)
    }

    fn make_bid(
        &mut self,
        request: &Signed<BidRequest>,
        offer: Offer,
        seen: Event,
        asked: Asked,
        ctx: &mut Context<'_, Self>,
    ) {
        let requester = request.issuer();
        let lease = self.parts.provider_rules.lease;
        let Some((signed, lock)) = self.draft_bid(requester, request.value(), offer, lease) else { return };
        let id = lock.bid;
        self.request_shares.count(requester);
        let received =
            Event::BidRequestReceived { requester, request: request.value().bare(), declined: None };
        let sent = Event::BidSent { bid: signed.clone(), lock };
        self.record(ctx, vec![received, sent, seen], move |node, outcome, ctx| {
            let reason = match outcome {
                Ok(()) if node.books.locks().contains_key(&id) => {
                    tracing::info!(%requester, bid = %id, "bid");
                    node.monitor.tally.bid();
                    return node.say(ctx, vec![Addressed::new(requester, Word::Bid(signed))]);
                }
                // Its lock ended while it was written: a bid would promise what is not held.
                Ok(()) => node.why_unlocked(),
                Err(NotRecorded::Overloaded(_)) => DeclineReason::Busy { shortfalls: Vec::new() },
                Err(NotRecorded::ReadOnly(_)) => DeclineReason::ReadOnly,
            };
            node.monitor.tally.decline(&reason);
            if asked == Asked::Directly {
                node.decline(requester, signed.value().request, reason, ctx);
            }
        });
    }

    /// A signed bid on a request, with the lock that is to be on disk before anybody hears of it.
    pub(crate) fn draft_bid(
        &self,
        requester: Did,
        request: &BidRequest,
        offer: Offer,
        lease: Duration,
    ) -> Option<(Signed<Bid>, Lock)> {
        let profile = self.books.registered().map(|capability| Profile::of(capability, offer.load));
        let bid = Bid {
            id: BidId::from_random(self.parts.clock.random()),
            request: request.id,
            resources: offer.resources.clone(),
            price: offer.price,
            score: offer.score,
            lease: Millis::from(lease),
            profile: profile.unwrap_or_default(),
        };
        let lock = Lock {
            bid: bid.id,
            request: bid.request,
            requester,
            job: request.job,
            pod: request.pod,
            resources: offer.resources,
            expires: self.now().saturating_add(lease + LEASE_GRACE),
        };
        Some((self.sign(bid, requester, ANSWER_TTL)?, lock))
    }

    /// Why a lock is gone that nobody has heard of: the owner withdrew it, or the disk took longer than its lease.
    fn why_unlocked(&self) -> DeclineReason {
        match self.books.registered() {
            Some(_) if self.withdrawal.is_none() => DeclineReason::Busy { shortfalls: Vec::new() },
            _ => DeclineReason::NotOnboarded,
        }
    }

    fn decline(
        &mut self,
        requester: Did,
        request: dms_messages::BidRequestId,
        reason: DeclineReason,
        ctx: &mut Context<'_, Self>,
    ) {
        let retry: Retry = reason.retry();
        if let Some(decline) = self.sign(Decline { request, reason, retry }, requester, ANSWER_TTL) {
            self.say(ctx, vec![Addressed::new(requester, Word::Decline(decline))]);
        }
    }

    /// The same document again: the same answer to its issuer, as long as it holds, and nothing else. Heard by gossip it
    /// may come from anybody who has kept it, and is not answered.
    fn repeat_answer(&mut self, request: &Signed<BidRequest>, asked: Asked, ctx: &mut Context<'_, Self>) {
        let (requester, id) = (request.issuer(), request.value().id);
        if asked == Asked::ByGossip {
            return;
        }
        let row = self.books.requests_received().get(&id).filter(|row| row.requester == requester);
        if let Some(reason) = row.and_then(|row| row.declined.clone()) {
            return self.decline(requester, id, reason, ctx);
        }
        let (mut locks, now) = (self.books.locks().values(), self.now());
        let lock = locks.find(|lock| lock.request == id && lock.requester == requester && lock.expires > now);
        let sent = lock.and_then(|lock| self.books.bids_sent().get(&lock.bid)).map(|row| row.bid.clone());
        if let Some(sent) = sent {
            self.say(ctx, vec![Addressed::new(requester, Word::Bid(sent))]);
        }
    }

    /// A request that holds a lock is signed anew by its requester: the bid is said again, with a longer lease if that
    /// may be promised.
    fn renew_bid(&mut self, request: &Signed<BidRequest>, ctx: &mut Context<'_, Self>) {
        let (requester, lease) = (request.issuer(), self.parts.provider_rules.lease);
        let renewal = ledger::renew(&self.books, requester, self.me(), request.value().id, lease, self.now());
        if let Some(renewal) = renewal {
            self.say_bid_again(request, renewal, ctx);
        }
    }

    /// Says a bid that holds once more, with what its lease is now: longer, if that may be promised and is on disk.
    fn say_bid_again(&mut self, request: &Signed<BidRequest>, renewal: Renewal, ctx: &mut Context<'_, Self>) {
        let requester = request.issuer();
        let Renewal { bid, expires, lease, is_longer } = renewal;
        let Some(sent) = self.books.bids_sent().get(&bid).map(|row| row.bid.clone()) else { return };
        if self.mode != NodeMode::Serving || self.withdrawal.is_some() || !self.may_remember(requester) {
            // It holds as long as was said, and no longer.
            return self.say(ctx, vec![Addressed::new(requester, Word::Bid(sent))]);
        }
        let again = Bid { lease: Millis::from(lease), ..sent.value().clone() };
        let Some(again) = self.sign(again, requester, ANSWER_TTL) else { return };
        let seen = Event::DocumentSeen { id: seen_as(request), until: remembered_until(request) };
        let renewed = is_longer.then_some(Event::LockRenewed { bid, expires });
        self.record(ctx, renewed.into_iter().chain([seen]).collect(), move |node, outcome, ctx| {
            // What could not be recorded is not said: the requester has the first bid, or asks again.
            if outcome.is_ok() && node.books.locks().contains_key(&bid) {
                tracing::debug!(%requester, %bid, ?lease, "bid said again");
                node.say(ctx, vec![Addressed::new(requester, Word::Bid(again))]);
            }
        });
    }

    /// Ends a lock that was not invoked: let go by its requester, or taken back by this node. Tried again while the
    /// disk has no room for it, so that nobody is said to have held it for longer than it did.
    pub(crate) fn end_lock(&mut self, bid: BidId, end: LockEnd, ctx: &mut Context<'_, Self>) {
        if self.books.locks().contains_key(&bid) {
            self.record(ctx, vec![Event::LockEnded { bid, end }], move |_, outcome, ctx| {
                if let Err(NotRecorded::Overloaded(_)) = outcome {
                    ctx.after(OVERLOAD_PAUSE, move |node, ctx| node.end_lock(bid, end, ctx));
                }
            });
        }
    }
}

/// As what a signed word is remembered: its id together with its issuer, for an id alone is anybody's to take, and
/// whoever took another's would have that word held for a repeat.
fn seen_as<T>(document: &Signed<T>) -> DocumentId {
    let named = [document.issuer().public_key().as_slice(), &document.id().0].concat();
    let hash = ContentId::of_bytes(&named).to_bytes();
    // The last bytes: those before say what kind of hash it is.
    DocumentId(hash.last_chunk().copied().expect("a CID is longer than an id"))
}

/// Until when a signed word must be remembered, so that a repeat has no effect: expiry and skew.
pub(crate) fn remembered_until<T>(document: &Signed<T>) -> Timestamp {
    const SKEW: Duration = dms_actors::signed::SKEW;
    document.header().expires_at.saturating_add(SKEW)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dms_actors::signed::SignOptions;
    use dms_actors::wire::DecodeContext;

    use super::*;
    use crate::testing::tokens::key;
    use crate::testing::{StillClock, did, job, request, signer};

    #[test]
    fn whoever_asks_without_end_leaves_room_for_the_others() {
        let half = MAX_REQUESTS / 2;
        let mut shares = Shares::default();
        let flooders: Vec<Did> = (2..22).map(did).collect();
        let mut remembered = 0;
        for _ in 0..MAX_REQUESTS {
            for flooder in &flooders {
                if shares.have_room(*flooder, remembered) {
                    shares.count(*flooder);
                    remembered += 1;
                }
            }
        }
        assert!((half..half + flooders.len()).contains(&remembered), "{remembered}");
        for _ in 0..half / 21 {
            assert!(shares.have_room(did(1), remembered));
            shares.count(did(1));
            remembered += 1;
        }
        assert!(!shares.have_room(did(1), remembered), "it has its part");
        assert!(!Shares::default().have_room(did(1), MAX_REQUESTS), "and nothing goes beyond the whole");
        shares.recount(flooders.iter().copied());
        assert!(shares.have_room(flooders[0], half));
    }

    fn asked(by: u8, id: u8, ttl: Duration) -> Signed<BidRequest> {
        let issued_at = signer(by, &Arc::new(StillClock::default())).now();
        let options =
            SignOptions { network: "test".into(), audience: None, issued_at, ttl, id: DocumentId([id; 16]) };
        Signed::sign(request(&job()), &key(by), options).unwrap()
    }

    #[test]
    fn a_document_is_remembered_as_its_issuers() {
        let minute = Duration::from_secs(60);
        let first = seen_as(&asked(2, 7, minute));
        assert_eq!(first, seen_as(&asked(2, 7, 2 * minute)), "one id, one word");
        assert_ne!(first, seen_as(&asked(3, 7, minute)), "another's");
        assert_ne!(first, seen_as(&asked(2, 8, minute)), "another");
    }

    #[test]
    fn a_document_is_remembered_until_it_is_taken_no_more() {
        for seconds in [1, 60, 300] {
            let asked = asked(2, 7, Duration::from_secs(seconds));
            let until = remembered_until(&asked);
            let taken = |now| {
                let context = DecodeContext { me: did(1), now, network: "test".into() };
                Signed::<BidRequest>::verify(asked.bytes(), &context).is_ok()
            };
            assert!(taken(Timestamp(until.0 - 1)), "{seconds} s: the last instant");
            assert!(!taken(until), "{seconds} s");
        }
    }
}
