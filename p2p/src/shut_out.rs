//! Peers that are kept out for a while. `swarm` says who and ends their connections; libp2p's own list, composed by
//! `behaviour`, denies new ones; here is only until when.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::allow_block_list::{self, BlockedPeers};
use tokio::time::Instant;

/// Most peers kept out: whoever shuts out more forgets whom it would let in first. A key costs an attacker nothing, so
/// the list is no wall, only a price.
const MAX_PEERS: usize = 4096;

/// Longest time that a peer is kept out.
pub(crate) const MAX_SHUT_OUT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Denies connections with blocked peers.
pub(crate) type Behaviour = allow_block_list::Behaviour<BlockedPeers>;

/// Until when each peer is kept out.
#[derive(Debug, Default)]
pub(crate) struct ShutOut(BTreeMap<PeerId, Instant>);

impl ShutOut {
    /// Keeps `peer` out until then, which ends its connections.
    pub(crate) fn add(&mut self, behaviour: &mut Behaviour, peer: PeerId, until: Instant) {
        if !self.0.contains_key(&peer) && self.0.len() >= MAX_PEERS {
            let first = self.0.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            if let Some(first) = first {
                self.0.remove(&first);
                behaviour.unblock_peer(first);
            }
        }
        self.0.insert(peer, until);
        behaviour.block_peer(peer);
    }

    /// Lets `peer` in again.
    pub(crate) fn remove(&mut self, behaviour: &mut Behaviour, peer: &PeerId) {
        if self.0.remove(peer).is_some() {
            behaviour.unblock_peer(*peer);
        }
    }

    /// Lets those in again whose time is over.
    pub(crate) fn end(&mut self, behaviour: &mut Behaviour, now: Instant) {
        self.0.retain(|peer, until| {
            let stays = *until > now;
            if !stays {
                behaviour.unblock_peer(*peer);
            }
            stays
        });
    }

    /// True if `peer` is kept out.
    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.0.contains_key(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;

    #[test]
    fn whoever_is_shut_out_is_let_in_when_its_time_is_over() {
        let (mut list, mut behaviour, now) = (ShutOut::default(), Behaviour::default(), Instant::now());
        let later = |seconds: u64| now + Duration::from_secs(seconds);
        list.add(&mut behaviour, test_peer(1), later(10));
        list.add(&mut behaviour, test_peer(2), later(20));
        list.add(&mut behaviour, test_peer(1), later(30));
        list.end(&mut behaviour, later(20));
        assert!(list.contains(&test_peer(1)) && !list.contains(&test_peer(2)));
        assert_eq!(behaviour.blocked_peers().iter().copied().collect::<Vec<_>>(), [test_peer(1)]);
        list.end(&mut behaviour, later(30));
        assert!(behaviour.blocked_peers().is_empty());
        list.add(&mut behaviour, test_peer(1), later(90));
        list.remove(&mut behaviour, &test_peer(1));
        assert!(behaviour.blocked_peers().is_empty() && !list.contains(&test_peer(1)));
    }

    #[test]
    fn the_list_is_bounded_and_forgets_whom_it_would_let_in_first() {
        let (mut list, mut behaviour, now) = (ShutOut::default(), Behaviour::default(), Instant::now());
        list.add(&mut behaviour, test_peer(1), now + Duration::from_secs(1));
        for _ in 0..MAX_PEERS {
            list.add(&mut behaviour, PeerId::random(), now + Duration::from_secs(2));
        }
        assert!(!list.contains(&test_peer(1)));
        assert_eq!((list.0.len(), behaviour.blocked_peers().len()), (MAX_PEERS, MAX_PEERS));
    }
}
