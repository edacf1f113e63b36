//! Who sends records to be checked, so that no peer fills the queue of checks alone.
//!
//! Pure bookkeeping of `directory` with the time passed in. A check costs a signature; a peer may have a
//! few waiting, and one whose records are refused again and again is not listened to for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

/// Most records of one peer that wait for their check.
const MAX_WAITING: u32 = 4;
/// So many refusals within [`WINDOW`], and a peer is ignored for [`IGNORED`]. An honest peer may now and
/// then pass on what has just expired.
const MAX_REFUSALS: u32 = 16;
const WINDOW: Duration = Duration::from_secs(60);
const IGNORED: Duration = Duration::from_secs(5 * 60);
/// Most peers remembered; without a place a peer is not listened to. Far more than are connected.
const MAX_SOURCES: usize = 1024;

#[derive(Debug)]
struct Source {
    waiting: u32,
    refusals: u32,
    /// When the refusals began to be counted.
    since: Instant,
    ignored_until: Option<Instant>,
}

impl Source {
    fn is_ignored(&self, now: Instant) -> bool {
        self.ignored_until.is_some_and(|until| until > now)
    }
}

/// The peers that sent records of late.
#[derive(Debug, Default)]
pub(crate) struct Sources(BTreeMap<PeerId, Source>);

impl Sources {
    /// True if one more record of `peer` may wait for its check; it is counted then.
    pub(crate) fn admit(&mut self, peer: PeerId, now: Instant) -> bool {
        if !self.0.contains_key(&peer) && self.0.len() >= MAX_SOURCES {
            return false;
        }
        let fresh = || Source { waiting: 0, refusals: 0, since: now, ignored_until: None };
        let source = self.0.entry(peer).or_insert_with(fresh);
        let is_admitted = source.waiting < MAX_WAITING && !source.is_ignored(now);
        source.waiting += u32::from(is_admitted);
        is_admitted
    }

    /// An admitted record will not be checked: there was no room.
    pub(crate) fn on_dropped(&mut self, peer: &PeerId) {
        if let Some(source) = self.0.get_mut(peer) {
            source.waiting = source.waiting.saturating_sub(1);
        }
    }

    /// A record of `peer` was checked.
    pub(crate) fn on_checked(&mut self, peer: PeerId, has_passed: bool, now: Instant) {
        self.on_dropped(&peer);
        let Some(source) = self.0.get_mut(&peer).filter(|_| !has_passed) else { return };
        if now.saturating_duration_since(source.since) >= WINDOW {
            (source.since, source.refusals) = (now, 0);
        }
        source.refusals += 1;
        if source.refusals >= MAX_REFUSALS {
            tracing::info!(%peer, "records of a peer are ignored for a while: too many were refused");
            (source.refusals, source.ignored_until) = (0, Some(now + IGNORED));
        }
    }

    /// Forgets those of whom there is nothing to remember.
    pub(crate) fn prune(&mut self, now: Instant) {
        self.0.retain(|_, source| {
            let is_counting = source.refusals > 0 && now.saturating_duration_since(source.since) < WINDOW;
            source.waiting > 0 || is_counting || source.is_ignored(now)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;

    #[test]
    fn one_peer_has_few_places_and_leaves_the_others_theirs() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        let admitted = (0..100).filter(|_| sources.admit(test_peer(1), now)).count();
        assert_eq!(admitted, 4);
        assert!(sources.admit(test_peer(2), now));
        sources.on_checked(test_peer(1), true, now);
        assert!(sources.admit(test_peer(1), now));
        assert!(!sources.admit(test_peer(1), now));
    }

    #[test]
    fn a_peer_whose_records_are_refused_is_ignored_for_a_while() {
        let (mut sources, peer, now) = (Sources::default(), test_peer(1), Instant::now());
        let refuse = |sources: &mut Sources, count: u32, now: Instant| {
            for _ in 0..count {
                assert!(sources.admit(peer, now));
                sources.on_checked(peer, false, now);
            }
        };
        refuse(&mut sources, MAX_REFUSALS - 1, now);
        let later = now + WINDOW;
        refuse(&mut sources, MAX_REFUSALS, later);
        assert!(!sources.admit(peer, later));
        sources.prune(later);
        assert!(!sources.admit(peer, later + IGNORED / 2), "a pruning forgives nothing");
        assert!(sources.admit(peer, later + IGNORED));
    }

    #[test]
    fn sources_are_bounded_and_forgotten() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        let peers: Vec<PeerId> = (0..2 * MAX_SOURCES).map(|_| PeerId::random()).collect();
        assert_eq!(peers.iter().filter(|peer| sources.admit(**peer, now)).count(), MAX_SOURCES);
        for peer in &peers {
            sources.on_checked(*peer, true, now);
        }
        sources.prune(now);
        assert!(sources.0.is_empty());
    }
}
