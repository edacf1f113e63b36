//! mDNS: finds peers on the local network, and does nothing else.
//!
//! Whoever answers is a stranger: its addresses go into the address book as claims, and it is dialled if
//! there is room (see `ConnectionLimits::unasked`). How many are dialled within a minute is bounded, because
//! anyone on the network can answer with any number of names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use ::tokio::time::Instant;
use libp2p::mdns::{Config, tokio};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Multiaddr, PeerId};

use crate::addresses::{Reach, reach};

/// Most found peers dialled within one [`WINDOW`].
const MAX_PER_WINDOW: u32 = 32;
const WINDOW: Duration = Duration::from_secs(60);
/// How often peers that were found and are not connected any more are dialled again: libp2p reports each
/// only once for as long as it answers.
pub(crate) const MEET_AGAIN: Duration = Duration::from_secs(30);
/// Most peers looked at in one answer; a packet has no room for many more.
const MAX_PEERS_PER_ANSWER: usize = 64;
/// libp2p keeps every address that was answered, for as long as the answer asks. A network with more than
/// this many is no local network of ours, or somebody on it is flooding it.
pub(crate) const MAX_DISCOVERED: usize = 1024;

/// The behaviour, if it is wanted and there is a network to look at.
pub(crate) fn behaviour(me: PeerId, is_wanted: bool) -> Toggle<tokio::Behaviour> {
    let behaviour = is_wanted.then(|| tokio::Behaviour::new(Config::default(), me));
    let found = behaviour.and_then(|result| {
        result
            .inspect_err(|error| tracing::warn!(%error, "peers of the local network are not looked for"))
            .ok()
    });
    found.into()
}

/// How many found peers may still be dialled, and how many were found.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    window: Option<(Instant, u32)>,
    found: u64,
    /// Who was dialled again last: the others come first the next time.
    last: Option<PeerId>,
}

impl Finder {
    /// How many more found peers may be dialled now.
    pub(crate) fn budget(&self, now: Instant) -> u32 {
        match self.window {
            Some((since, count)) if now.saturating_duration_since(since) < WINDOW => MAX_PER_WINDOW - count,
            _ => MAX_PER_WINDOW,
        }
    }

    /// A dial of a found peer was queued.
    pub(crate) fn charge(&mut self, now: Instant) {
        self.window = match self.window {
            Some((since, count)) if now.saturating_duration_since(since) < WINDOW => {
                Some((since, (count + 1).min(MAX_PER_WINDOW)))
            }
            _ => Some((now, 1)),
        };
    }

    /// One more peer was found, and its dial was queued.
    pub(crate) fn count(&mut self) {
        self.found += 1;
    }

    /// Whose turn it is to be dialled again: as many as the budget has, going round.
    pub(crate) fn turn(&mut self, found: &BTreeSet<PeerId>, now: Instant) -> Vec<PeerId> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let later = found.range((after, Bound::Unbounded));
        let earlier = self.last.into_iter().flat_map(|last| found.range(..=last));
        let turn: Vec<PeerId> = later.chain(earlier).take(self.budget(now) as usize).copied().collect();
        self.last = turn.last().copied().or(self.last);
        turn
    }

    /// How many peers were found and dialled since the start.
    pub(crate) fn found(&self) -> u64 {
        self.found
    }
}

/// The peers of one answer, each with its addresses. A loopback address from the network is no place.
pub(crate) fn peers(found: Vec<(PeerId, Multiaddr)>) -> BTreeMap<PeerId, Vec<Multiaddr>> {
    let mut peers: BTreeMap<PeerId, Vec<Multiaddr>> = BTreeMap::new();
    for (peer, address) in found {
        let has_room = peers.len() < MAX_PEERS_PER_ANSWER || peers.contains_key(&peer);
        if has_room && reach(&address).is_some_and(|reach| reach > Reach::Host) {
            peers.entry(peer).or_default().push(address);
        }
    }
    peers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;

    #[test]
    fn a_flood_of_names_is_dialled_slowly() {
        let (mut finder, now) = (Finder::default(), Instant::now());
        let admitted = |finder: &mut Finder, now| {
            let admit = |_: &u32| {
                let is_admitted = finder.budget(now) > 0;
                if is_admitted {
                    finder.charge(now);
                }
                is_admitted
            };
            (0..1000).filter(admit).count()
        };
        assert_eq!(admitted(&mut finder, now), 32);
        assert_eq!(admitted(&mut finder, now + WINDOW / 2), 0);
        assert_eq!(admitted(&mut finder, now + WINDOW), 32);
    }

    #[test]
    fn those_that_do_not_answer_do_not_keep_the_others_from_their_turn() {
        let (mut finder, now) = (Finder::default(), Instant::now());
        let found: BTreeSet<PeerId> = (0..80).map(|_| PeerId::random()).collect();
        let mut seen = BTreeSet::new();
        for turn in 0..3 {
            let turn = finder.turn(&found, now + WINDOW * turn);
            assert_eq!(turn.len(), 32);
            seen.extend(turn);
        }
        assert_eq!(seen, found);
        assert_eq!(finder.turn(&BTreeSet::new(), now), []);
    }

    #[test]
    fn addresses_are_taken_by_peer_and_loopback_is_not() {
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let found = vec![
            (test_peer(1), address("/ip4/192.168.0.1/tcp/1")),
            (test_peer(1), address("/ip4/192.168.0.1/udp/1/quic-v1")),
            (test_peer(2), address("/ip4/127.0.0.1/tcp/1")),
        ];
        let peers = peers(found);
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[&test_peer(1)].len(), 2);
        let flood = (0..1000).map(|_| (PeerId::random(), address("/ip4/192.168.0.1/tcp/1"))).collect();
        assert_eq!(super::peers(flood).len(), MAX_PEERS_PER_ANSWER);
    }
}
