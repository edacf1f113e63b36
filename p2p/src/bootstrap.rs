//! Bootstrap peers: dialled until they answer and again when they are lost, for as long as we run.
//!
//! Pure bookkeeping with the time passed in; `dial` asks it what is due and tells it what became of
//! it. The wait doubles from the initial to the longest one, with jitter, so that a mesh whose
//! bootstrap peer restarts does not fall on it all at once.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// A connection that lasted this long was a success: the next wait is the shortest again. One that
/// was closed sooner counts as a failure, or a peer that is full would be dialled every second.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// How often a peer that cannot be reached is worth a warning: whoever looks into the log finds one, and it does not
/// fill up with them.
const WARN_PAUSE: Duration = Duration::from_secs(10 * 60);

/// One configured bootstrap address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootstrapPeer {
    /// Where it is, without `/p2p/…`.
    pub(crate) address: Multiaddr,
    /// The only key that is accepted there; `None` accepts any.
    pub(crate) expected: Option<PeerId>,
}

/// What one bootstrap peer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Dial it at this time.
    Due(Instant),
    /// A dial is under way.
    Dialling,
    /// Connected since then.
    Up(Instant),
    /// It is ourselves: never dial it again.
    Ourselves,
}

#[derive(Debug)]
struct Entry {
    peer: BootstrapPeer,
    /// The key that is or was last connected: the expected one, or the one that answered.
    known: Option<PeerId>,
    state: State,
    failures: u32,
    /// Why the last dial failed, since it was last connected.
    trouble: Option<String>,
    /// When that was last worth a warning.
    warned: Option<Instant>,
}

/// All bootstrap peers.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    entries: Vec<Entry>,
    initial: Duration,
    max: Duration,
}

impl Bootstrap {
    /// Every peer is due at `now`, except one that names our own key.
    pub(crate) fn new(
        peers: Vec<BootstrapPeer>,
        local: PeerId,
        initial: Duration,
        max: Duration,
        now: Instant,
    ) -> Self {
        let entry = |peer: BootstrapPeer| Entry {
            known: peer.expected,
            state: if peer.expected == Some(local) { State::Ourselves } else { State::Due(now) },
            peer,
            failures: 0,
            trouble: None,
            warned: None,
        };
        Self { entries: peers.into_iter().map(entry).collect(), initial, max }
    }

    /// Nobody is dialled unasked.
    pub(crate) fn none() -> Self {
        Self { entries: Vec::new(), initial: Duration::ZERO, max: Duration::ZERO }
    }

    /// When the next dial is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.entries
            .iter()
            .filter_map(|entry| if let State::Due(due) = entry.state { Some(due) } else { None })
            .min()
    }

    /// Takes one peer that is due; the caller dials it and reports by the same index.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(usize, BootstrapPeer)> {
        let is_due = |entry: &Entry| matches!(entry.state, State::Due(due) if due <= now);
        let index = self.entries.iter().position(is_due)?;
        self.entries[index].state = State::Dialling;
        Some((index, self.entries[index].peer.clone()))
    }

    /// The configured addresses at which `peer` is expected.
    pub(crate) fn addresses<'a>(&'a self, peer: &'a PeerId) -> impl Iterator<Item = &'a Multiaddr> {
        self.entries
            .iter()
            .filter(move |entry| entry.known.as_ref() == Some(peer))
            .map(|entry| &entry.peer.address)
    }

    /// The dial of `index` led to `peer`.
    pub(crate) fn on_answered(&mut self, index: usize, peer: PeerId) {
        self.entries[index].known = Some(peer);
    }

    /// `peer` is connected, whoever dialled.
    pub(crate) fn on_up(&mut self, peer: &PeerId, now: Instant) {
        for entry in self.entries.iter_mut().filter(|entry| entry.known.as_ref() == Some(peer)) {
            if !matches!(entry.state, State::Up(_) | State::Ourselves) {
                entry.state = State::Up(now);
                (entry.trouble, entry.warned) = (None, None);
            }
        }
    }

    /// The last connection to `peer` is gone.
    pub(crate) fn on_down(&mut self, peer: &PeerId, now: Instant, random: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.known.as_ref() == Some(peer)) {
            if let State::Up(since) = entry.state {
                let was_stable = now.saturating_duration_since(since) >= STABLE_AFTER;
                entry.failures = if was_stable { 0 } else { entry.failures.saturating_add(1) };
                entry.state = State::Due(now + backoff(self.initial, self.max, entry.failures, random));
            }
        }
    }

    /// The dial of `index` failed; gives its address if somebody should be told: the first time, and again rarely.
    pub(crate) fn on_failed(
        &mut self,
        index: usize,
        reason: &str,
        now: Instant,
        random: u64,
    ) -> Option<&Multiaddr> {
        self.later(index, now, random);
        let entry = &mut self.entries[index];
        entry.trouble = Some(reason.to_owned());
        let is_news = entry.warned.is_none_or(|last| now.saturating_duration_since(last) >= WARN_PAUSE);
        if is_news {
            entry.warned = Some(now);
        }
        is_news.then_some(&entry.peer.address)
    }

    /// The dial of `index` did not begin: it is due again after the usual wait.
    pub(crate) fn later(&mut self, index: usize, now: Instant, random: u64) {
        let entry = &mut self.entries[index];
        if entry.state == State::Dialling {
            entry.state = State::Due(now + backoff(self.initial, self.max, entry.failures, random));
            entry.failures = entry.failures.saturating_add(1);
        }
    }

    /// Those that were dialled in vain and are not connected, and why.
    pub(crate) fn unreached(&self) -> impl Iterator<Item = (&Multiaddr, &str)> {
        let entries =
            self.entries.iter().filter(|entry| !matches!(entry.state, State::Up(_) | State::Ourselves));
        entries.filter_map(|entry| Some((&entry.peer.address, entry.trouble.as_deref()?)))
    }

    /// The dial of `index` led to ourselves.
    pub(crate) fn on_ourselves(&mut self, index: usize) {
        self.entries[index].state = State::Ourselves;
    }
}

/// The wait after `failures` failures: doubled each time, at most `max`, of which the second half is
/// drawn by `random`.
fn backoff(initial: Duration, max: Duration, failures: u32, random: u64) -> Duration {
    let full = initial.saturating_mul(2_u32.saturating_pow(failures)).min(max);
    let half = full / 2;
    // 1,024 steps are fine enough for jitter and cannot overflow.
    half + (full - half) * u32::try_from(random % 1024).unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;

    const INITIAL: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(300);

    fn peers(expected: &[Option<PeerId>]) -> Vec<BootstrapPeer> {
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        expected
            .iter()
            .map(|expected| BootstrapPeer { address: address.clone(), expected: *expected })
            .collect()
    }

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_jitter_takes_at_most_half_of_it() {
        for (failures, full_s) in
            [(0, 1), (1, 2), (2, 4), (8, 256), (9, 300), (31, 300), (32, 300), (u32::MAX, 300)]
        {
            let full = Duration::from_secs(full_s);
            assert_eq!(backoff(INITIAL, MAX, failures, 0), full / 2, "{failures}");
            let longest = backoff(INITIAL, MAX, failures, 1023);
            assert!(longest <= full && longest > full * 99 / 100, "{failures}: {longest:?}");
        }
    }

    #[test]
    fn a_silent_peer_is_dialled_again_later_and_later() {
        let now = Instant::now();
        let mut bootstrap = Bootstrap::new(peers(&[None]), test_peer(9), INITIAL, MAX, now);
        let mut waits = Vec::new();
        let mut time = now;
        for _ in 0..4 {
            let (index, _) = bootstrap.take_due(time).unwrap();
            assert_eq!(bootstrap.take_due(time + MAX), None, "one dial at a time");
            let _ = bootstrap.on_failed(index, "refused", time, 0);
            let due = bootstrap.next_due().unwrap();
            waits.push((due - time).as_millis());
            assert_eq!(bootstrap.take_due(due - Duration::from_millis(1)), None);
            time = due;
        }
        assert_eq!(waits, [500, 1000, 2000, 4000]);
    }

    #[test]
    fn who_cannot_be_reached_is_told_once_and_rarely_again_and_listed_until_it_answers() {
        let (start, peer) = (Instant::now(), test_peer(1));
        let mut bootstrap = Bootstrap::new(peers(&[Some(peer)]), test_peer(9), INITIAL, MAX, start);
        assert_eq!(bootstrap.unreached().count(), 0, "nobody has tried yet");
        let fails = |bootstrap: &mut Bootstrap, now| {
            let (index, _) = bootstrap.take_due(now).unwrap();
            bootstrap.on_failed(index, "refused", now, 0).is_some()
        };
        assert!(fails(&mut bootstrap, start));
        let listed: Vec<_> =
            bootstrap.unreached().map(|(at, why)| (at.to_string(), why.to_owned())).collect();
        assert_eq!(listed, [("/ip4/127.0.0.1/tcp/1".to_owned(), "refused".to_owned())]);
        assert!(!fails(&mut bootstrap, start + INITIAL));
        assert!(fails(&mut bootstrap, start + WARN_PAUSE));
        bootstrap.on_up(&peer, start + WARN_PAUSE);
        assert_eq!(bootstrap.unreached().count(), 0);
        bootstrap.on_down(&peer, start + WARN_PAUSE, 0);
        assert_eq!(bootstrap.unreached().count(), 0, "it may be back in a moment");
        assert!(fails(&mut bootstrap, start + WARN_PAUSE + MAX), "lost again: worth a word");
    }

    #[test]
    fn a_connected_peer_is_left_alone_and_a_lost_one_is_due_again() {
        let (now, peer) = (Instant::now(), test_peer(1));
        let mut bootstrap = Bootstrap::new(peers(&[Some(peer)]), test_peer(9), INITIAL, MAX, now);
        bootstrap.on_up(&peer, now);
        assert_eq!(bootstrap.next_due(), None, "it dialled us first");
        bootstrap.on_down(&peer, now + STABLE_AFTER, 0);
        assert_eq!(bootstrap.next_due(), Some(now + STABLE_AFTER + INITIAL / 2));
    }

    #[test]
    fn a_peer_that_hangs_up_at_once_is_dialled_less_and_less_often() {
        let (mut now, peer) = (Instant::now(), test_peer(1));
        let mut bootstrap = Bootstrap::new(peers(&[Some(peer)]), test_peer(9), INITIAL, MAX, now);
        let mut waits = Vec::new();
        for _ in 0..3 {
            bootstrap.take_due(now).unwrap();
            bootstrap.on_up(&peer, now);
            bootstrap.on_down(&peer, now, 0);
            let due = bootstrap.next_due().unwrap();
            waits.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(waits, [1000, 2000, 4000]);
    }

    #[test]
    fn whoever_answers_at_an_address_without_a_key_is_the_one_whose_loss_counts() {
        let (now, peer) = (Instant::now(), test_peer(1));
        let mut bootstrap = Bootstrap::new(peers(&[None]), test_peer(9), INITIAL, MAX, now);
        let (index, _) = bootstrap.take_due(now).unwrap();
        bootstrap.on_answered(index, peer);
        bootstrap.on_up(&peer, now);
        bootstrap.on_down(&test_peer(2), now, 0);
        assert_eq!(bootstrap.next_due(), None);
        bootstrap.on_down(&peer, now, 0);
        assert!(bootstrap.next_due().is_some());
    }

    #[test]
    fn we_never_dial_ourselves_twice() {
        let (now, local) = (Instant::now(), test_peer(9));
        let mut bootstrap = Bootstrap::new(peers(&[Some(local), None]), local, INITIAL, MAX, now);
        let (index, _) = bootstrap.take_due(now).unwrap();
        assert_eq!(index, 1);
        bootstrap.on_ourselves(index);
        assert_eq!(bootstrap.next_due(), None);
    }
}
