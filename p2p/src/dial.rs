//! Dials: which are under way, who waits for them, and which come next.
//!
//! `swarm` asks [`Dialer::next_dial`] after every event and tells it what became of each dial by its
//! connection id. Every wish that is handed in is answered: by a connection (the wishes are handed
//! back), by a failure, or because its channel closes with the loop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dms_actors::clock::SharedClock;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::addresses::{AddressBook, elsewhere, first_choice, without_peer};
use crate::bootstrap::Bootstrap;
use crate::links::{OpenFailure, OpenStream};
use crate::status::UnreachedBootstrap;
use crate::transports;

/// Most dials under way: each may try eight addresses, so this bounds the sockets at 256.
const MAX_DIALS: usize = 32;
/// Most of these for peers that nobody asked for: a network full of silent strangers must not keep a job's
/// dial waiting.
const MAX_MEETINGS: usize = 8;
/// Most wishes that wait for one peer, so that one silent peer cannot hold everybody's places.
const MAX_WAITING_PER_PEER: usize = 64;
/// Most dials made for one set of wishes: another one only for addresses not tried yet.
const MAX_ATTEMPTS: u32 = 4;
/// Longest reason that is passed on; eight addresses may each have failed in their own words.
const MAX_REASON_LENGTH: usize = 400;

/// The address book, shared with the handles: adding an address must not wait for the loop, must not
/// fail, and must be seen by the open that follows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedBook(Arc<Mutex<AddressBook>>);

impl SharedBook {
    /// The book; held only for look-ups and inserts, never across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, AddressBook> {
        // Nothing in the book can be left half-written by a panic that would matter more than going on.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a dial is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Somebody wants a stream to this peer, or it is an expected bootstrap peer (with its index).
    Peer(PeerId, Option<usize>),
    /// Whoever answers at the address of this bootstrap peer.
    Address(usize),
    /// Nobody asked for this peer when its dial began.
    Meeting(PeerId),
}

/// A peer that is wanted and not connected.
#[derive(Debug, Default)]
struct Wanted {
    wishes: Vec<OpenStream>,
    /// Addresses of this round that are known to be wrong or silent.
    tried: Vec<Multiaddr>,
    attempts: u32,
    /// The dial under way, if one is, and its addresses.
    dialling: Option<(ConnectionId, Vec<Multiaddr>)>,
}

/// Decides what is dialled next.
pub(crate) struct Dialer {
    book: SharedBook,
    bootstrap: Bootstrap,
    clock: SharedClock,
    under_way: BTreeMap<ConnectionId, Purpose>,
    wanted: BTreeMap<PeerId, Wanted>,
    /// Wanted peers whose dial has not begun.
    queue: VecDeque<PeerId>,
    /// The same for those that nobody has asked for: they come after everyone else.
    strangers: VecDeque<PeerId>,
    /// True if we listen on loopback ourselves.
    listens_on_host: bool,
    /// True if other behaviours of the swarm may know addresses that the book does not.
    asks_others: bool,
}

impl Dialer {
    pub(crate) fn new(book: SharedBook, bootstrap: Bootstrap, clock: SharedClock) -> Self {
        Self {
            book,
            bootstrap,
            clock,
            under_way: BTreeMap::new(),
            wanted: BTreeMap::new(),
            queue: VecDeque::new(),
            strangers: VecDeque::new(),
            listens_on_host: false,
            asks_others: false,
        }
    }

    /// One for somebody else's swarm: no peer is dialled unasked, and every dial also tries what the
    /// other behaviours of that swarm know.
    pub(crate) fn embedded(book: SharedBook, clock: SharedClock) -> Self {
        Self { asks_others: true, ..Self::new(book, Bootstrap::none(), clock) }
    }

    /// How many dials are under way.
    pub(crate) fn count(&self) -> usize {
        self.under_way.len()
    }

    /// Whether we listen on loopback; only then addresses there are preferred to others.
    pub(crate) fn set_listens_on_host(&mut self, listens_on_host: bool) {
        self.listens_on_host = listens_on_host;
    }

    /// When a bootstrap peer is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        // At the cap, the end of a dial wakes the loop instead; a time that is past would spin it.
        if self.under_way.len() < MAX_DIALS { self.bootstrap.next_due() } else { None }
    }

    /// Takes a wish for a stream to a peer that is not connected; hands it back if no address is known.
    pub(crate) fn want(&mut self, peer: PeerId, wish: OpenStream) -> Result<(), OpenStream> {
        if let Some(wanted) = self.wanted.get_mut(&peer) {
            wanted.wishes.retain(|wish| !wish.reply.is_closed());
            if wanted.wishes.len() < MAX_WAITING_PER_PEER {
                wanted.wishes.push(wish);
            } else {
                wish.fail(OpenFailure::Unreachable("too many streams wait for this peer".to_owned()));
            }
            if self.take_stranger(&peer) {
                self.queue.push_back(peer);
            }
        } else if !self.asks_others && self.candidates(&peer, &[]).is_empty() {
            return Err(wish);
        } else {
            self.wanted.insert(peer, Wanted { wishes: vec![wish], ..Wanted::default() });
            self.queue.push_back(peer);
        }
        Ok(())
    }

    /// Dials a peer that nobody has asked for, if there is room and an address is known; true if it will
    /// be dialled.
    pub(crate) fn meet(&mut self, peer: PeerId) -> bool {
        let has_room = self.strangers.len() < MAX_DIALS && !self.wanted.contains_key(&peer);
        let is_queued = has_room && !self.candidates(&peer, &[]).is_empty();
        if is_queued {
            self.wanted.insert(peer, Wanted::default());
            self.strangers.push_back(peer);
        }
        is_queued
    }

    /// Takes a peer out of the queue of strangers; false if it was not there.
    fn take_stranger(&mut self, peer: &PeerId) -> bool {
        let index = self.strangers.iter().position(|stranger| stranger == peer);
        index.is_some_and(|index| self.strangers.remove(index).is_some())
    }

    /// The next dial to begin, if one is due and another one is allowed.
    pub(crate) fn next_dial(&mut self, now: Instant) -> Option<DialOpts> {
        if self.under_way.len() >= MAX_DIALS {
            return None;
        }
        while let Some(peer) = self.queue.pop_front() {
            if let Some(options) = self.begin_wanted(peer, Purpose::Peer(peer, None), now) {
                return Some(options);
            }
        }
        while let Some((index, due)) = self.bootstrap.take_due(now) {
            let Some(expected) = due.expected else {
                let options = DialOpts::unknown_peer_id().address(due.address).allocate_new_port().build();
                self.under_way.insert(options.connection_id(), Purpose::Address(index));
                return Some(options);
            };
            // A dial for somebody's wish is already under way: come back after the usual wait.
            if !self.take_stranger(&expected) && self.wanted.contains_key(&expected) {
                let random = self.random();
                self.bootstrap.later(index, now, random);
                continue;
            }
            self.wanted.insert(expected, Wanted::default());
            if let Some(options) = self.begin_wanted(expected, Purpose::Peer(expected, Some(index)), now) {
                return Some(options);
            }
        }
        let meetings = self.under_way.values().filter(|purpose| matches!(purpose, Purpose::Meeting(_)));
        if meetings.count() < MAX_MEETINGS {
            while let Some(peer) = self.strangers.pop_front() {
                if let Some(options) = self.begin_wanted(peer, Purpose::Meeting(peer), now) {
                    return Some(options);
                }
            }
        }
        None
    }

    /// A connection to `peer` is established: the wishes for it can be served now.
    pub(crate) fn on_established(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        now: Instant,
    ) -> Vec<OpenStream> {
        if let Some(Purpose::Address(index)) = self.under_way.remove(&connection) {
            self.bootstrap.on_answered(index, peer);
        }
        if let ConnectedPoint::Dialer { address, .. } = endpoint {
            self.book.lock().confirm(peer, address);
        }
        self.bootstrap.on_up(&peer, now);
        self.take_stranger(&peer);
        self.wanted.remove(&peer).map(|wanted| wanted.wishes).unwrap_or_default()
    }

    /// A dial failed; the peer if it was one that is wanted, and no address is left to try.
    pub(crate) fn on_failed(
        &mut self,
        connection: ConnectionId,
        error: &DialError,
        now: Instant,
    ) -> Option<PeerId> {
        match self.under_way.remove(&connection) {
            Some(Purpose::Peer(peer, index)) => {
                return self.on_peer_failed(connection, peer, index, error, now);
            }
            Some(Purpose::Meeting(peer)) => {
                return self.on_peer_failed(connection, peer, None, error, now);
            }
            Some(Purpose::Address(index)) if matches!(error, DialError::LocalPeerId { .. }) => {
                self.bootstrap.on_ourselves(index);
            }
            Some(Purpose::Address(index)) => self.bootstrap_failed(index, &reason(error), now),
            None => {}
        }
        None
    }

    /// The last connection to `peer` is gone.
    pub(crate) fn on_down(&mut self, peer: &PeerId, now: Instant) {
        let random = self.random();
        self.bootstrap.on_down(peer, now, random);
    }

    /// Everything that is known and not tried yet.
    fn candidates(&self, peer: &PeerId, tried: &[Multiaddr]) -> Vec<Multiaddr> {
        let mut candidates = elsewhere(self.book.lock().addresses(peer), self.listens_on_host);
        candidates.extend(self.bootstrap.addresses(peer).cloned());
        let mut seen = tried.to_vec();
        candidates.retain(|candidate| {
            let is_new = !seen.contains(candidate);
            seen.push(candidate.clone());
            is_new
        });
        candidates
    }

    fn begin_wanted(&mut self, peer: PeerId, purpose: Purpose, now: Instant) -> Option<DialOpts> {
        // Served in the meantime: the peer connected to us.
        let tried = self.wanted.get(&peer)?.tried.clone();
        let (refused, alive): (Vec<_>, Vec<_>) =
            self.candidates(&peer, &tried).into_iter().partition(transports::is_refused);
        if alive.is_empty() && !refused.is_empty() && !self.asks_others {
            let places: Vec<_> = refused.iter().map(Multiaddr::to_string).collect();
            let reason = format!("nobody listens at {}", places.join(" or "));
            self.give_up(&peer, &unreachable_because(&reason));
            if let Purpose::Peer(_, Some(index)) = purpose {
                self.bootstrap_failed(index, &reason, now);
            }
            return None;
        }
        let addresses = first_choice(alive);
        let options = DialOpts::peer_id(peer)
            // We know that it is not connected, and an older dial of another purpose must not refuse this one.
            .condition(PeerCondition::Always)
            .addresses(addresses.clone())
            // Dialling from the listening port makes two peers that dial each other at the same moment
            // open one TCP connection with two initiators, which fails for both.
            .allocate_new_port();
        let options =
            if self.asks_others { options.extend_addresses_through_behaviour() } else { options }.build();
        let wanted = self.wanted.get_mut(&peer)?;
        wanted.tried.extend(refused);
        wanted.attempts += 1;
        wanted.dialling = Some((options.connection_id(), addresses));
        self.under_way.insert(options.connection_id(), purpose);
        Some(options)
    }

    fn on_peer_failed(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        index: Option<usize>,
        error: &DialError,
        now: Instant,
    ) -> Option<PeerId> {
        let failed_address = match error {
            DialError::WrongPeerId { address, .. } | DialError::LocalPeerId { address } => {
                Some(without_peer(address))
            }
            _ => None,
        };
        if let Some(address) = &failed_address {
            self.book.lock().remove(&peer, address);
        }
        if let Some(index) = index {
            self.bootstrap_failed(index, &reason(error), now);
        }
        let wanted = self.wanted.get_mut(&peer)?;
        // An older dial, outlived by a connection that came and went: another one serves these wishes.
        let (_, dialled) = wanted.dialling.take_if(|(id, _)| *id == connection)?;
        // The first address that answers ends a dial; if it was another key, the rest is still untried.
        wanted.tried.extend(failed_address.map_or(dialled, |address| vec![address]));
        let (tried, attempts, is_awaited) =
            (wanted.tried.clone(), wanted.attempts, wanted.wishes.iter().any(|wish| !wish.reply.is_closed()));
        if is_awaited && attempts < MAX_ATTEMPTS && !self.candidates(&peer, &tried).is_empty() {
            self.queue.push_back(peer);
            return None;
        }
        self.give_up(&peer, &failure(error));
        is_awaited.then_some(peer)
    }

    fn give_up(&mut self, peer: &PeerId, failure: &OpenFailure) {
        for wish in self.wanted.remove(peer).into_iter().flat_map(|wanted| wanted.wishes) {
            wish.fail(failure.clone());
        }
    }

    fn bootstrap_failed(&mut self, index: usize, reason: &str, now: Instant) {
        let random = self.random();
        let reason: String = reason.chars().take(MAX_REASON_LENGTH).collect();
        if let Some(address) = self.bootstrap.on_failed(index, &reason, now, random) {
            tracing::warn!(%address, %reason, "a bootstrap peer cannot be reached; it is dialled again and again");
        }
    }

    /// The bootstrap peers that were dialled in vain, and why, in the order in which they were given.
    pub(crate) fn unreached_bootstraps(&self) -> Vec<UnreachedBootstrap> {
        let unreached = self.bootstrap.unreached();
        unreached
            .map(|(address, reason)| UnreachedBootstrap {
                address: address.to_string(),
                reason: reason.to_owned(),
            })
            .collect()
    }

    fn random(&self) -> u64 {
        let bytes = self.clock.random();
        u64::from_le_bytes(bytes[..8].try_into().expect("eight of sixteen bytes"))
    }
}

/// Why a dial leads to no stream.
fn failure(error: &DialError) -> OpenFailure {
    match error {
        // Only a dial that relied on other behaviours begins without an address.
        DialError::NoAddresses => OpenFailure::NoRoute,
        error => unreachable_because(&reason(error)),
    }
}

fn unreachable_because(reason: &str) -> OpenFailure {
    OpenFailure::Unreachable(reason.chars().take(MAX_REASON_LENGTH).collect())
}

/// What the dial said, in one line.
fn reason(error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, address } => {
            format!("{obtained} answered at {}", without_peer(address))
        }
        DialError::Transport(failures) => {
            let each = failures
                .iter()
                .map(|(address, error)| format!("{}: {}", without_peer(address), chain(error)));
            each.collect::<Vec<_>>().join("; ")
        }
        DialError::Denied { cause } => format!("refused by our own limits: {cause}"),
        other => other.to_string(),
    }
}

/// An error with the errors beneath it, each said once, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    // Some of libp2p's errors say nothing but the colon before their source.
    let mut text = error.to_string().trim_matches([':', ' ']).to_owned();
    let mut source = error.source();
    while let Some(error) = source {
        let beneath = error.to_string();
        if !text.contains(&beneath) {
            text = if text.is_empty() { beneath } else { format!("{text}: {beneath}") };
        }
        source = error.source();
    }
    // libp2p lists the failures of several addresses below each other, also if there is only one.
    let lines = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match lines.strip_prefix("Multiple dial errors occurred: - ") {
        Some(failures) => failures.split(" - ").collect::<Vec<_>>().join("; "),
        None => lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::BootstrapPeer;
    use crate::peer::tests::test_peer;
    use dms_actors::clock::SystemClock;
    use std::io;
    use std::time::Duration;
    use tokio::sync::oneshot;

    const PROTOCOL: &str = dms_actors::transport::LINK_PROTOCOL;

    type Reply = oneshot::Receiver<Result<libp2p::Stream, OpenFailure>>;

    fn dialer(bootstrap: Vec<BootstrapPeer>) -> Dialer {
        let bootstrap = Bootstrap::new(
            bootstrap,
            test_peer(9),
            Duration::from_secs(1),
            Duration::from_secs(9),
            Instant::now(),
        );
        Dialer::new(SharedBook::default(), bootstrap, SystemClock::shared())
    }

    fn wish() -> (OpenStream, Reply) {
        let (reply, receiver) = oneshot::channel();
        (OpenStream { protocol: PROTOCOL, reply }, receiver)
    }

    fn refused() -> DialError {
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let error = io::Error::from(io::ErrorKind::ConnectionRefused);
        DialError::Transport(vec![(address, libp2p::TransportError::Other(error))])
    }

    fn failure_of(mut reply: Reply) -> OpenFailure {
        reply.try_recv().expect("answered").expect_err("no stream")
    }

    #[test]
    fn without_an_address_there_is_no_route() {
        let mut dialer = dialer(Vec::new());
        let (wish, reply) = wish();
        assert!(dialer.want(test_peer(1), wish).is_err(), "it is handed back");
        drop(reply);
        assert!(dialer.next_dial(Instant::now()).is_none());
    }

    #[test]
    fn wishes_for_one_peer_share_a_dial_and_its_failure() {
        let (mut dialer, peer, now) = (dialer(Vec::new()), test_peer(1), Instant::now());
        dialer.book.lock().add_texts(peer, &["/ip4/127.0.0.1/tcp/1".to_owned()]);
        let (first, first_reply) = wish();
        let (second, second_reply) = wish();
        dialer.want(peer, first).expect("an address is known");
        let dial = dialer.next_dial(now).expect("a dial");
        dialer.want(peer, second).expect("an address is known");
        assert!(dialer.next_dial(now).is_none());
        let _ = dialer.on_failed(dial.connection_id(), &refused(), now);
        for reply in [first_reply, second_reply] {
            let OpenFailure::Unreachable(reason) = failure_of(reply) else { panic!("unreachable") };
            assert!(reason.contains("/ip4/127.0.0.1/tcp/1") && reason.contains("refused"), "{reason}");
        }
        assert!(dialer.wanted.is_empty() && dialer.under_way.is_empty());
    }

    #[test]
    fn an_address_learned_during_the_dial_is_tried_before_giving_up() {
        let (mut dialer, peer, now) = (dialer(Vec::new()), test_peer(1), Instant::now());
        dialer.book.lock().add_texts(peer, &["/ip4/127.0.0.1/tcp/1".to_owned()]);
        let (wish, reply) = wish();
        dialer.want(peer, wish).expect("an address is known");
        let first = dialer.next_dial(now).expect("a dial");
        dialer.book.lock().add_texts(peer, &["/ip4/127.0.0.1/tcp/2".to_owned()]);
        let _ = dialer.on_failed(first.connection_id(), &refused(), now);
        let second = dialer.next_dial(now).expect("another dial");
        let _ = dialer.on_failed(second.connection_id(), &refused(), now);
        assert!(dialer.next_dial(now).is_none());
        assert!(matches!(failure_of(reply), OpenFailure::Unreachable(_)));
    }

    #[test]
    fn a_quic_address_of_our_host_where_nobody_listens_costs_no_dial() {
        if !cfg!(target_os = "linux") {
            return;
        }
        let (mut dialer, peer, now) = (dialer(Vec::new()), test_peer(1), Instant::now());
        // Nobody can listen on port 1 without being asked to.
        let dead = "/ip4/127.0.0.1/udp/1/quic-v1".to_owned();
        dialer.book.lock().add_texts(peer, std::slice::from_ref(&dead));
        let (first, reply) = wish();
        dialer.want(peer, first).expect("an address is known");
        assert!(dialer.next_dial(now).is_none());
        let OpenFailure::Unreachable(reason) = failure_of(reply) else { panic!("unreachable") };
        assert!(reason.contains(&dead), "{reason}");
        // Beside another address it is not tried either, before or after.
        dialer.book.lock().add_texts(peer, &["/ip4/127.0.0.1/tcp/1".to_owned()]);
        let (second, reply) = wish();
        dialer.want(peer, second).expect("an address is known");
        let dial = dialer.next_dial(now).expect("a dial");
        let _ = dialer.on_failed(dial.connection_id(), &refused(), now);
        assert!(dialer.next_dial(now).is_none());
        assert!(matches!(failure_of(reply), OpenFailure::Unreachable(_)));
        assert!(dialer.wanted.is_empty() && dialer.under_way.is_empty());
    }

    #[test]
    fn another_key_at_one_address_does_not_spoil_the_others() {
        let (mut dialer, peer, now) = (dialer(Vec::new()), test_peer(1), Instant::now());
        dialer
            .book
            .lock()
            .add_texts(peer, &["/ip4/127.0.0.1/tcp/1".to_owned(), "/ip4/127.0.0.1/tcp/2".to_owned()]);
        let (wish, reply) = wish();
        dialer.want(peer, wish).expect("an address is known");
        for port in [1, 2] {
            let dial = dialer.next_dial(now).expect("a dial");
            let address = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{peer}").parse().unwrap();
            let _ = dialer.on_failed(
                dial.connection_id(),
                &DialError::WrongPeerId { obtained: test_peer(2), address },
                now,
            );
        }
        let OpenFailure::Unreachable(reason) = failure_of(reply) else { panic!("unreachable") };
        assert!(reason.contains(&test_peer(2).to_string()), "{reason}");
        assert_eq!(dialer.book.lock().addresses(&peer), [], "both addresses are forgotten");
    }

    #[test]
    fn a_connection_from_the_peer_itself_serves_the_wishes() {
        let (mut dialer, peer, now) = (dialer(Vec::new()), test_peer(1), Instant::now());
        dialer.book.lock().add_texts(peer, &["/ip4/127.0.0.1/tcp/1".to_owned()]);
        let (wish, _reply) = wish();
        dialer.want(peer, wish).expect("an address is known");
        let local_addr: Multiaddr = "/ip4/127.0.0.1/tcp/3".parse().unwrap();
        let endpoint = ConnectedPoint::Listener { send_back_addr: local_addr.clone(), local_addr };
        let served = dialer.on_established(peer, ConnectionId::new_unchecked(usize::MAX), &endpoint, now);
        assert_eq!(served.len(), 1);
        assert!(dialer.next_dial(now).is_none(), "the queued dial is not needed any more");
    }

    #[test]
    fn dials_and_waiting_wishes_are_bounded() {
        let (mut dialer, now) = (dialer(Vec::new()), Instant::now());
        let mut replies = Vec::new();
        for seed in 1..=40 {
            dialer.book.lock().add_texts(test_peer(seed), &["/ip4/127.0.0.1/tcp/1".to_owned()]);
            let (wish, reply) = wish();
            dialer.want(test_peer(seed), wish).expect("an address is known");
            replies.push(reply);
        }
        let mut begun = Vec::new();
        while let Some(dial) = dialer.next_dial(now) {
            begun.push(dial);
        }
        assert_eq!(begun.len(), MAX_DIALS);
        let _ = dialer.on_failed(begun[0].connection_id(), &refused(), now);
        assert!(dialer.next_dial(now).is_some(), "the queue moves on");

        let mut waiting = Vec::new();
        for _ in 0..MAX_WAITING_PER_PEER {
            let (wish, reply) = wish();
            dialer.want(test_peer(2), wish).expect("an address is known");
            waiting.push(reply);
        }
        assert!(
            matches!(failure_of(waiting.pop().unwrap()), OpenFailure::Unreachable(_)),
            "one had waited before"
        );
        waiting.clear();
        let (wish, mut reply) = wish();
        dialer.want(test_peer(2), wish).expect("an address is known");
        assert!(reply.try_recv().is_err(), "places of those who left are free again");
    }

    #[test]
    fn strangers_come_after_wishes_and_never_take_all_places() {
        let (mut dialer, now) = (dialer(Vec::new()), Instant::now());
        for seed in 1..=40 {
            dialer.book.lock().add_texts(test_peer(seed), &["/ip4/127.0.0.1/tcp/1".to_owned()]);
        }
        assert!(!dialer.meet(test_peer(50)), "no address is known");
        for seed in 1..=20 {
            assert!(dialer.meet(test_peer(seed)));
        }
        let mut replies = Vec::new();
        for seed in [30, 20] {
            let (wish, reply) = wish();
            dialer.want(test_peer(seed), wish).expect("an address is known");
            replies.push(reply);
        }
        let begun: Vec<_> = std::iter::from_fn(|| dialer.next_dial(now)).collect();
        assert_eq!(begun.len(), 2 + MAX_MEETINGS);
        assert_eq!(begun[0].get_peer_id(), Some(test_peer(30)));
        assert_eq!(begun[1].get_peer_id(), Some(test_peer(20)), "a stranger that is asked for is none");
        let _ = dialer.on_failed(begun[2].connection_id(), &refused(), now);
        assert!(dialer.next_dial(now).is_some(), "the next one takes the free place");
        assert!(dialer.next_dial(now).is_none());
    }

    #[test]
    fn a_failure_is_said_once_and_without_the_librarys_list_of_one() {
        #[derive(Debug)]
        struct Listed(&'static str);
        impl std::fmt::Display for Listed {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.0)
            }
        }
        impl std::error::Error for Listed {}
        let table = [
            ("Connection refused (os error 111)", "Connection refused (os error 111)"),
            ("Multiple dial errors occurred:\n - Connection refused", "Connection refused"),
            ("Multiple dial errors occurred:\n - refused\n - timed out", "refused; timed out"),
        ];
        for (text, expected) in table {
            assert_eq!(chain(&Listed(text)), expected);
        }
    }

    #[test]
    fn an_expected_bootstrap_peer_is_found_by_a_wish_and_by_its_turn() {
        let (peer, now) = (test_peer(1), Instant::now());
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let mut dialer = dialer(vec![BootstrapPeer { address, expected: Some(peer) }]);
        let turn = dialer.next_dial(now + Duration::from_secs(1)).expect("its turn");
        assert_eq!(turn.get_peer_id(), Some(peer));
        let (wish, reply) = wish();
        dialer.want(peer, wish).expect("an address is known");
        let _ = dialer.on_failed(turn.connection_id(), &refused(), now);
        assert!(matches!(failure_of(reply), OpenFailure::Unreachable(_)), "it shared the dial");
        assert!(dialer.next_due().is_some_and(|due| due > now));
    }
}
