//! What peers said of themselves, the newest of each: outside the books, bounded, and void after a while.

use std::collections::BTreeMap;
use std::time::Duration;

use dms_actors::signed::SKEW;
use dms_messages::{Advert, Did, NodeStatus, Signed, Timestamp};

/// Most trusted peers noted: a row each in memory; what expires first goes first.
const MAX_TRUSTED: usize = 4096;
/// Most strangers noted, so that explanations and listings can name them; they push no trusted peer out.
const MAX_STRANGERS: usize = 64;

/// A word of which the newest counts.
pub(crate) trait Sequenced {
    /// Grows with every word of one issuer: milliseconds of its clock.
    fn sequence(&self) -> u64;
}

impl Sequenced for Advert {
    fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Sequenced for NodeStatus {
    fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// One peer's newest word.
#[derive(Debug, Clone)]
pub(crate) struct Note<T> {
    /// As its issuer signed it, also for peers that have not heard it.
    pub(crate) signed: Signed<T>,
    /// When it came, by our clock.
    pub(crate) heard: Timestamp,
    /// When it is void, by our clock.
    pub(crate) expires: Timestamp,
    is_trusted: bool,
}

/// The newest word of each peer.
#[derive(Debug)]
pub(crate) struct Notes<T> {
    notes: BTreeMap<Did, Note<T>>,
    ttl: Duration,
}

impl<T: Sequenced + Clone> Notes<T> {
    /// None yet; each is believed for `ttl` at most.
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { notes: BTreeMap::new(), ttl }
    }

    /// Notes a verified word; false if it is not newer than what is noted, or not of this time.
    pub(crate) fn take(&mut self, signed: &Signed<T>, is_trusted: bool, now: Timestamp) -> bool {
        let issuer = signed.issuer();
        let sequence = signed.value().sequence();
        let known = self.notes.get(&issuer);
        let is_newer = known.is_none_or(|note| note.signed.value().sequence() < sequence);
        // A sequence from the far future would silence its issuer for as long.
        if !is_newer || sequence > now.saturating_add(SKEW).0 {
            return false;
        }
        if known.is_none() {
            self.make_room(is_trusted);
        }
        let expires = signed.header().expires_at.min(now.saturating_add(self.ttl + SKEW));
        self.notes.insert(issuer, Note { signed: signed.clone(), heard: now, expires, is_trusted });
        true
    }

    fn make_room(&mut self, is_trusted: bool) {
        let alike = || self.notes.iter().filter(|(_, note)| note.is_trusted == is_trusted);
        let limit = if is_trusted { MAX_TRUSTED } else { MAX_STRANGERS };
        if alike().count() >= limit
            && let Some(oldest) = alike().min_by_key(|(_, note)| note.expires).map(|(did, _)| *did)
        {
            self.notes.remove(&oldest);
        }
    }

    /// What holds of one peer now.
    pub(crate) fn get(&self, did: Did, now: Timestamp) -> Option<&Note<T>> {
        self.notes.get(&did).filter(|note| note.expires > now)
    }

    /// What holds now, in the order of the DIDs.
    pub(crate) fn current(&self, now: Timestamp) -> impl Iterator<Item = (Did, &Note<T>)> {
        self.notes.iter().filter(move |(_, note)| note.expires > now).map(|(did, note)| (*did, note))
    }

    /// Of whom something is noted, void or not.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Did> {
        self.notes.keys()
    }

    /// Forgets what is void.
    pub(crate) fn prune(&mut self, now: Timestamp) {
        self.notes.retain(|_, note| note.expires > now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{StillClock, did, signer};
    use dms_messages::{Keypair, NodeRole, ResourceSummary, ServingMode};

    const TTL: Duration = Duration::from_secs(180);

    fn status(sequence: u64) -> NodeStatus {
        NodeStatus {
            role: NodeRole::Provider,
            mode: ServingMode::Serving,
            available: ResourceSummary::default(),
            allocations: 0,
            locks: 0,
            jobs: 0,
            peers: 0,
            sequence,
        }
    }

    #[test]
    fn the_newest_counts_until_it_is_void() {
        let clock = Arc::new(StillClock::default());
        let peer = signer(2, &clock);
        let now = peer.now();
        let mut notes = Notes::new(TTL);
        let mut take = |sequence, ttl| {
            let signed = peer.sign(status(sequence), None, ttl).unwrap();
            notes.take(&signed, true, now)
        };
        assert!(take(now.0, TTL));
        assert!(!take(now.0, TTL) && !take(now.0 - 1, TTL), "not newer");
        assert!(!take(now.0 + 31_000, TTL) && !take(now.0 + 30_001, TTL), "from the far future");
        assert!(
            take(now.0 + 1, Duration::from_secs(24 * 3600)),
            "newer, and kept no longer for its own wish"
        );
        assert!(notes.get(did(2), now.saturating_add(TTL)).is_some());
        let ahead = peer.sign(status(now.0 + 30_000), None, Duration::from_secs(24 * 3600)).unwrap();
        assert!(notes.take(&ahead, true, now), "by a clock that is just so far ahead");
        let later = now.saturating_add(TTL + SKEW);
        assert!(notes.get(did(2), Timestamp(later.0 - 1)).is_some(), "the last instant");
        assert!(notes.get(did(2), later).is_none() && notes.current(later).count() == 0);
        notes.prune(later);
        assert_eq!(notes.keys().count(), 0);
    }

    #[test]
    fn strangers_push_out_strangers_alone() {
        let clock = Arc::new(StillClock::default());
        let mut notes = Notes::new(TTL);
        let now = signer(1, &clock).now();
        let friend = signer(1, &clock).sign(status(1), None, TTL).unwrap();
        assert!(notes.take(&friend, true, now));
        for number in 0..=u8::try_from(MAX_STRANGERS).unwrap() {
            let secret = std::array::from_fn(|index| if index == 0 { number } else { 0xee });
            let pen = crate::signer::Signer::new(
                Arc::new(Keypair::from_secret(&secret)),
                Arc::clone(&clock) as Arc<dyn dms_actors::clock::Clock>,
                "test",
            );
            assert!(notes.take(&pen.sign(status(1), None, TTL).unwrap(), false, now));
        }
        assert_eq!(notes.keys().count(), MAX_STRANGERS + 1);
        assert!(notes.get(did(1), now).is_some(), "the trusted one stays");
    }
}
