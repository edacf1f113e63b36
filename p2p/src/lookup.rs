//! Searches for peers whose addresses nobody told us: who waits for them, and which are not worth it.
//!
//! Pure bookkeeping with the time passed in; `swarm` runs the query. Only a peer without any known
//! address is waited for. One whose known addresses all failed is reported as unreachable at once, and
//! searched for in the background: the next open finds what the search brought.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use crate::links::{OpenFailure, OpenStream};

/// Longest wait for a search.
pub(crate) const SEARCH_TIME: Duration = Duration::from_secs(5);
/// How long a peer that was not found is not searched for again.
const MISS_TIME: Duration = Duration::from_secs(10);
/// Most searches under way; each is a query.
const MAX_SEARCHES: usize = 32;
/// Most wishes that wait for one peer, as in `dial`.
const MAX_WAITING_PER_PEER: usize = 64;
/// Most peers remembered as not found.
const MAX_MISSES: usize = 1024;

/// One search.
#[derive(Debug)]
struct Search {
    wishes: Vec<OpenStream>,
    deadline: Instant,
}

/// The searches under way and those that were in vain.
#[derive(Debug, Default)]
pub(crate) struct Seeker {
    searches: BTreeMap<PeerId, Search>,
    misses: BTreeMap<PeerId, Instant>,
}

impl Seeker {
    /// Takes a wish for a peer without an address; `begin` begins a search, or says that it cannot.
    pub(crate) fn want(
        &mut self,
        peer: PeerId,
        wish: OpenStream,
        now: Instant,
        begin: impl FnOnce() -> bool,
    ) {
        if let Some(search) = self.searches.get_mut(&peer) {
            search.wishes.retain(|wish| !wish.reply.is_closed());
            if search.wishes.len() < MAX_WAITING_PER_PEER {
                search.wishes.push(wish);
            } else {
                wish.fail(OpenFailure::Unreachable("too many streams wait for this peer".to_owned()));
            }
        } else if self.may_begin(&peer, now) && begin() {
            self.searches.insert(peer, Search { wishes: vec![wish], deadline: now + SEARCH_TIME });
        } else {
            wish.fail(OpenFailure::NoRoute);
        }
    }

    /// Searches for a peer although nobody waits for it.
    pub(crate) fn refresh(&mut self, peer: PeerId, now: Instant, begin: impl FnOnce() -> bool) {
        if !self.searches.contains_key(&peer) && self.may_begin(&peer, now) && begin() {
            self.searches.insert(peer, Search { wishes: Vec::new(), deadline: now + SEARCH_TIME });
        }
    }

    /// Ends the search for `peer`: the wishes that waited for it. It is not searched for again soon.
    pub(crate) fn end(&mut self, peer: &PeerId, now: Instant) -> Vec<OpenStream> {
        let Some(search) = self.searches.remove(peer) else { return Vec::new() };
        if self.misses.len() >= MAX_MISSES {
            self.misses.retain(|_, until| *until > now);
        }
        if self.misses.len() < MAX_MISSES {
            self.misses.insert(*peer, now + MISS_TIME);
        }
        search.wishes
    }

    /// `peer` is connected: the wishes that waited for it.
    pub(crate) fn on_established(&mut self, peer: &PeerId) -> Vec<OpenStream> {
        self.misses.remove(peer);
        self.searches.remove(peer).map(|search| search.wishes).unwrap_or_default()
    }

    /// One search that took too long.
    pub(crate) fn overdue(&self, now: Instant) -> Option<PeerId> {
        self.searches.iter().find(|(_, search)| search.deadline <= now).map(|(peer, _)| *peer)
    }

    /// When the next search will have taken too long.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.searches.values().map(|search| search.deadline).min()
    }

    fn may_begin(&self, peer: &PeerId, now: Instant) -> bool {
        self.searches.len() < MAX_SEARCHES && self.misses.get(peer).is_none_or(|until| *until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;
    use libp2p::Stream;
    use tokio::sync::oneshot;

    type Reply = oneshot::Receiver<Result<Stream, OpenFailure>>;

    fn wish() -> (OpenStream, Reply) {
        let (reply, receiver) = oneshot::channel();
        (OpenStream { protocol: dms_actors::transport::LINK_PROTOCOL, reply }, receiver)
    }

    fn is_no_route(mut reply: Reply) -> bool {
        matches!(reply.try_recv(), Ok(Err(OpenFailure::NoRoute)))
    }

    #[test]
    fn one_search_serves_all_who_wait_and_a_miss_is_remembered_for_a_while() {
        let (mut seeker, peer, now) = (Seeker::default(), test_peer(1), Instant::now());
        let (first, _first_reply) = wish();
        let (second, _second_reply) = wish();
        seeker.want(peer, first, now, || true);
        seeker.want(peer, second, now, || panic!("one search is enough"));
        assert_eq!(seeker.overdue(now), None);
        assert_eq!(seeker.overdue(now + SEARCH_TIME), Some(peer));
        assert_eq!(seeker.end(&peer, now).len(), 2);
        let (third, reply) = wish();
        seeker.want(peer, third, now, || panic!("it was not found a moment ago"));
        assert!(is_no_route(reply));
        let (fourth, _reply) = wish();
        let mut has_begun = false;
        seeker.want(peer, fourth, now + MISS_TIME, || {
            has_begun = true;
            true
        });
        assert!(has_begun);
        assert_eq!(seeker.on_established(&peer).len(), 1);
        assert_eq!(seeker.next_due(), None);
    }

    #[test]
    fn without_anyone_to_ask_the_answer_comes_at_once() {
        let (mut seeker, now) = (Seeker::default(), Instant::now());
        let (wish, reply) = wish();
        seeker.want(test_peer(1), wish, now, || false);
        assert!(is_no_route(reply));
        assert!(seeker.searches.is_empty() && seeker.misses.is_empty());
    }

    #[test]
    fn searches_and_misses_are_bounded() {
        let (mut seeker, now) = (Seeker::default(), Instant::now());
        for _ in 0..100 {
            seeker.refresh(PeerId::random(), now, || true);
        }
        assert_eq!(seeker.searches.len(), MAX_SEARCHES);
        for _ in 0..2 * MAX_MISSES {
            let peer = PeerId::random();
            seeker.searches.insert(peer, Search { wishes: Vec::new(), deadline: now });
            seeker.end(&peer, now);
        }
        assert_eq!(seeker.misses.len(), MAX_MISSES);
    }
}
