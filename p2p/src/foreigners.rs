//! Peers of another network: remembered for a while, so that they are not looked for again at once.
//!
//! Two meshes on one machine or local network find each other by mDNS and by old addresses. `swarm`
//! lets such a peer go after identify; here it is only remembered. Nobody is locked out: a peer that
//! dials us and names our network now is welcome.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

/// How long a peer of another network is not looked for.
const MEMORY: Duration = Duration::from_secs(5 * 60);
/// Most peers remembered: as many as the address book holds.
const MAX_PEERS: usize = 1024;

/// The peers of other networks.
#[derive(Debug, Default)]
pub(crate) struct Foreigners(BTreeMap<PeerId, Instant>);

impl Foreigners {
    /// `peer` said that it is of another network.
    pub(crate) fn add(&mut self, peer: PeerId, now: Instant) {
        if self.0.len() >= MAX_PEERS {
            self.0.retain(|_, until| *until > now);
        }
        if self.0.len() < MAX_PEERS {
            self.0.insert(peer, now + MEMORY);
        }
    }

    /// `peer` said that it is of ours.
    pub(crate) fn remove(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }

    /// True if `peer` was of another network a while ago.
    pub(crate) fn contains(&self, peer: &PeerId, now: Instant) -> bool {
        self.0.get(peer).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;

    #[test]
    fn a_foreigner_is_remembered_for_a_while_and_memory_is_bounded() {
        let (mut foreigners, peer, now) = (Foreigners::default(), test_peer(1), Instant::now());
        foreigners.add(peer, now);
        assert!(foreigners.contains(&peer, now) && !foreigners.contains(&peer, now + MEMORY));
        foreigners.remove(&peer);
        assert!(!foreigners.contains(&peer, now));
        for _ in 0..2 * MAX_PEERS {
            foreigners.add(PeerId::random(), now);
        }
        assert_eq!(foreigners.0.len(), MAX_PEERS);
        foreigners.add(peer, now + MEMORY);
        assert_eq!(foreigners.0.len(), 1, "those that are over make room");
    }
}
