//! Peers that come and go, words that were not delivered, and what is known of each peer.

use std::collections::BTreeSet;

use dms_actors::{Answer, Context, Did, Handler, PeerEvent};
use dms_messages::{Millis, Timestamp};
use dms_storage::LockEnd;

use crate::commands::NodeMode;
use crate::job::{GossipRequest, Happened, Remember};
use crate::network::{PeerChanged, Trouble, Undelivered, bid_request_topic};
use crate::node::Node;
use crate::orchestrator::discovery;
use crate::orchestrator::job_state::Input;
use crate::peers::{GetPeers, PeerAdvert, PeerReport, PeerView};
use crate::word::{Addressed, Word};

/// Most adverts of others told to a new peer.
const MAX_ADVERTS_TOLD: usize = 16;

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
                self.mesh_size.disconnect(peer, self.parts.clock.monotonic());
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
            self.mesh_size.connect(peer, self.knows(peer), self.parts.clock.monotonic());
            self.repeat_status();
            self.greet(peer, ctx);
        }
    }

    /// On link-up: our offer, and what is shared with this peer, every result that it has not acknowledged among it.
    fn greet(&mut self, peer: Did, ctx: &mut Context<'_, Self>) {
        // First of all who we are: the rest is said by that name.
        self.greet_by_name(peer, ctx);
        // Ours, and those of others that this peer may not have heard of: so spokes of one hub meet.
        let now = self.now();
        let others = self.adverts.current(now).filter(|(did, _)| *did != peer && self.may_provide(*did));
        let others = others.take(MAX_ADVERTS_TOLD).map(|(_, note)| note.signed.clone());
        let adverts = self.advert().into_iter().chain(others);
        let words = adverts.map(|advert| Addressed::new(peer, Word::Advert(advert))).collect();
        self.say(ctx, words);
        self.greet_member(peer, ctx);
        self.reconcile_with(peer, ctx);
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
            // Its requester never had it.
            self.end_lock(bid, LockEnd::Withdrawn, ctx);
        }
        match trouble {
            Trouble::LinkLost => self.tell_jobs(&Input::PeerDown(peer)),
            Trouble::Unreachable => self.tell_jobs(&Input::Unreachable { peer, reason }),
            Trouble::Barred(word) => self.tell_jobs(&Input::Barred { peer, word, lacks: reason }),
            // It is there and did not take one word: timers and heartbeats decide what that means.
            Trouble::NotTaken => tracing::info!(%peer, %reason, "a word was not taken"),
        }
        ().into()
    }
}

impl Handler<GossipRequest> for Node {
    fn handle(&mut self, GossipRequest(request): GossipRequest, ctx: &mut Context<'_, Self>) -> Answer<()> {
        // Every word waits for what was recorded before it, and this one for its job's submission.
        self.record(ctx, Vec::new(), move |node, outcome, ctx| {
            let is_known = node.books.jobs().contains_key(&request.value().job);
            if outcome.is_ok() && node.mode == NodeMode::Serving && is_known {
                node.network.gossip(bid_request_topic(ctx.system().network()), &request);
            }
        });
        ().into()
    }
}

impl Handler<Remember> for Node {
    fn handle(&mut self, Remember(candidate): Remember, _: &mut Context<'_, Self>) -> Answer<()> {
        self.network.remember(candidate.did, candidate.addresses);
        ().into()
    }
}

impl Handler<GetPeers> for Node {
    fn handle(&mut self, GetPeers { limit }: GetPeers, _: &mut Context<'_, Self>) -> Answer<Vec<PeerView>> {
        self.peer_notes(limit).into()
    }
}

impl Node {
    /// What is known of each peer, the connected first.
    fn peer_notes(&self, limit: usize) -> Vec<PeerView> {
        let now = self.now();
        let adverts = self.adverts.current(now).map(|(did, _)| did);
        let statuses = self.statuses.current(now).map(|(did, _)| did);
        let all: BTreeSet<Did> = self.peers.iter().copied().chain(adverts).chain(statuses).collect();
        let banned = self.parts.gate.banned().into_iter();
        let all: BTreeSet<Did> = all.into_iter().chain(banned).collect();
        let (connected, others): (Vec<Did>, Vec<Did>) =
            all.into_iter().partition(|did| self.peers.contains(did));
        connected.into_iter().chain(others).take(limit).map(|did| self.peer_note(did, now)).collect()
    }

    fn peer_note(&self, did: Did, now: Timestamp) -> PeerView {
        let age = |heard: Timestamp| Millis::from(now.saturating_since(heard));
        let (advert, status) = (self.adverts.get(did, now), self.statuses.get(did, now));
        let addresses = advert.map(|note| note.signed.value().addresses.clone());
        let (offer, word) = discovery::without_contradiction(
            advert.map(|note| note.signed.value()),
            status.map(|note| note.signed.value()),
        );
        let connection = self.network.connection(did);
        PeerView {
            did,
            is_connected: self.peers.contains(&did),
            is_trusted: self.knows(did),
            standing: self.parts.gate.standing(did),
            addresses: addresses.unwrap_or_default(),
            transport: connection.as_ref().map(|connection| connection.transport.to_string()),
            round_trip_us: connection
                .as_ref()
                .and_then(|connection| connection.round_trip)
                .map(|trip| u64::try_from(trip.as_micros()).unwrap_or(u64::MAX)),
            agent: connection.map(|connection| connection.agent).filter(|agent| !agent.is_empty()),
            free: discovery::free(offer, word),
            advert: advert.zip(offer).map(|(note, offer)| PeerAdvert {
                available: offer.available.clone(),
                prices: offer.prices,
                age: age(note.heard),
            }),
            status: status
                .zip(word)
                .map(|(note, word)| PeerReport { status: word.clone(), age: age(note.heard) }),
        }
    }
}
