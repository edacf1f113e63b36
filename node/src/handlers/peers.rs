//! Peers that come and go, words that were not delivered, and what jobs ask about peers.

use dms_actors::{Answer, Context, Did, Handler, PeerEvent};

use crate::job::{FindCandidates, GossipRequest, Happened, Remember};
use crate::network::{PeerChanged, Trouble, Undelivered, bid_request_topic};
use crate::node::Node;
use crate::orchestrator::job_state::{Candidate, Candidates, Input};
use crate::word::{Addressed, Word};

/// Most adverts of others told to a new peer.
const MAX_ADVERTS_TOLD: usize = 16;
/// Most candidates a job learns of at a time: five rounds of them.
const MAX_CANDIDATES: usize = 80;

impl Handler<PeerChanged> for Node {
    fn handle(&mut self, PeerChanged(event): PeerChanged, ctx: &mut Context<'_, Self>) -> Answer<()> {
        match event {
            PeerEvent::Up(peer) => {
                tracing::info!(%peer, "peer up");
                self.peer_up(peer, ctx);
            }
            PeerEvent::Down(peer) => {
                tracing::info!(%peer, "peer down");
                self.peers.remove(&peer);
                self.tell_jobs(&Input::PeerDown(peer));
            }
        }
        ().into()
    }
}

impl Node {
    /// Counts a peer as there, and greets it.
    pub(crate) fn peer_up(&mut self, peer: Did, ctx: &mut Context<'_, Self>) {
        if self.peers.insert(peer) {
            self.greet(peer, ctx);
        }
    }

    /// On link-up: our offer, and every result that this peer has not acknowledged.
    fn greet(&mut self, peer: Did, ctx: &mut Context<'_, Self>) {
        // Ours, and those of others that this peer may not have heard of: so spokes of one hub meet.
        let now = self.now();
        let others = self
            .adverts
            .iter()
            .filter(|(did, note)| **did != peer && note.expires > now && self.trusts(**did));
        let others = others.take(MAX_ADVERTS_TOLD).map(|(_, note)| note.signed.clone());
        let mut words: Vec<Addressed> = self
            .advert()
            .into_iter()
            .chain(others)
            .map(|advert| Addressed::new(peer, Word::Advert(advert)))
            .collect();
        let unacknowledged = self
            .books
            .allocations()
            .values()
            .filter(|row| row.requester == peer && row.state.is_terminal() && !row.is_acknowledged);
        words.extend(unacknowledged.filter_map(|row| self.status_word(row)));
        self.say(ctx, words);
    }

    fn tell_jobs(&self, input: &Input) {
        for actor in self.jobs.values() {
            // A job too busy to hear it learns it from the next heartbeat.
            let _ = actor.try_tell(Happened(input.clone()));
        }
    }
}

impl Handler<Undelivered> for Node {
    fn handle(&mut self, undelivered: Undelivered, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let Undelivered { peer, bid, trouble, reason } = undelivered;
        if let Some(bid) = bid {
            self.release_lock(bid, ctx);
        }
        match trouble {
            Trouble::LinkLost => self.tell_jobs(&Input::PeerDown(peer)),
            Trouble::Unreachable => self.tell_jobs(&Input::Unreachable { peer, reason }),
            // It is there and did not take one word: timers and heartbeats decide what that means.
            Trouble::NotTaken => tracing::info!(%peer, %reason, "a word was not taken"),
        }
        ().into()
    }
}

impl Handler<FindCandidates> for Node {
    fn handle(&mut self, _: FindCandidates, _: &mut Context<'_, Self>) -> Answer<Candidates> {
        let now = self.now();
        let mut known: Vec<(&Did, &crate::node::AdvertNote)> =
            self.adverts.iter().filter(|(did, note)| note.expires > now && self.trusts(**did)).collect();
        // The cheapest offers first, then those with the most memory free: hints, the bids decide.
        known.sort_by_key(|(did, note)| {
            let advert = note.signed.value();
            (advert.prices.core_hour, std::cmp::Reverse(advert.available.memory), **did)
        });
        let known = known
            .into_iter()
            .map(|(did, note)| Candidate { did: *did, addresses: note.signed.value().addresses.clone() });
        let own_addresses = self.network.addresses();
        let me = self.books.registered().map(|_| Candidate { did: self.me(), addresses: Vec::new() });
        // This node last, and never cut off.
        let known = known.take(MAX_CANDIDATES).chain(me).collect();
        Candidates { known, can_gossip: !self.peers.is_empty(), own_addresses }.into()
    }
}

impl Handler<GossipRequest> for Node {
    fn handle(&mut self, GossipRequest(request): GossipRequest, ctx: &mut Context<'_, Self>) -> Answer<()> {
        self.network.gossip(bid_request_topic(ctx.system().network()), &request);
        ().into()
    }
}

impl Handler<Remember> for Node {
    fn handle(&mut self, Remember(candidate): Remember, _: &mut Context<'_, Self>) -> Answer<()> {
        self.network.remember(candidate.did, candidate.addresses);
        ().into()
    }
}
