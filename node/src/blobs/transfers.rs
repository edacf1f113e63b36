//! How fast contents come from each peer, noted by the store for whoever measures edges.
//!
//! Several contents may come from one peer at a time: what counts is all of them together, from the first that begins
//! until none is on its way.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dms_actors::clock::SharedClock;
use dms_messages::Did;

/// Transfers that are remembered until somebody takes them; later ones are not noted.
const MAX_ENDED: usize = 256;

/// What came from a peer in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// From whom.
    pub peer: Did,
    /// How many bytes.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Transfers under way and ended. The mutex is held for a look or a change: fetches run on the network's threads.
#[derive(Debug, Default)]
pub(super) struct Transfers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    under_way: BTreeMap<Did, UnderWay>,
    ended: Vec<Transfer>,
}

#[derive(Debug)]
struct UnderWay {
    count: usize,
    since: Duration,
    bytes: u64,
}

impl Transfers {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked held it for one change that is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A content is on its way, until what is given is dropped.
    pub(super) fn begin<'t>(&'t self, peer: Did, clock: &'t SharedClock) -> OnItsWay<'t> {
        let now = clock.monotonic();
        let mut state = self.lock();
        let under_way = state.under_way.entry(peer).or_insert(UnderWay { count: 0, since: now, bytes: 0 });
        under_way.count += 1;
        drop(state);
        OnItsWay { transfers: self, peer, clock, bytes: 0 }
    }

    /// Those that have ended since the last call.
    pub(super) fn take(&self) -> Vec<Transfer> {
        std::mem::take(&mut self.lock().ended)
    }
}

/// A content on its way.
#[derive(Debug)]
pub(super) struct OnItsWay<'t> {
    transfers: &'t Transfers,
    peer: Did,
    clock: &'t SharedClock,
    bytes: u64,
}

impl OnItsWay<'_> {
    /// It is here; without this word nothing came.
    pub(super) fn end(mut self, bytes: usize) {
        self.bytes = bytes as u64;
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let now = self.clock.monotonic();
        let mut state = self.transfers.lock();
        let Some(under_way) = state.under_way.get_mut(&self.peer) else { return };
        under_way.count -= 1;
        under_way.bytes += self.bytes;
        if under_way.count > 0 {
            return;
        }
        let (bytes, took) = (under_way.bytes, now.saturating_sub(under_way.since));
        state.under_way.remove(&self.peer);
        if bytes > 0 && state.ended.len() < MAX_ENDED {
            state.ended.push(Transfer { peer: self.peer, bytes, took });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{StillClock, did};

    #[test]
    fn what_comes_at_the_same_time_is_one_transfer() {
        let still = Arc::new(StillClock::default());
        let clock: SharedClock = Arc::<StillClock>::clone(&still);
        let transfers = Transfers::default();
        let second = Duration::from_secs(1);
        let (one, two) = (transfers.begin(did(1), &clock), transfers.begin(did(1), &clock));
        let other = transfers.begin(did(2), &clock);
        still.advance(second);
        one.end(100);
        assert!(transfers.take().is_empty(), "another one is on its way");
        still.advance(second);
        two.end(50);
        let expected = Transfer { peer: did(1), bytes: 150, took: 2 * second };
        assert_eq!(transfers.take(), [expected]);
        // What is given up says nothing, and does not stay.
        drop(other);
        assert!(transfers.take().is_empty() && transfers.lock().under_way.is_empty());
    }

    #[test]
    fn what_nobody_takes_does_not_grow() {
        let clock: SharedClock = Arc::new(StillClock::default());
        let transfers = Transfers::default();
        for _ in 0..MAX_ENDED + 10 {
            transfers.begin(did(1), &clock).end(1);
        }
        assert_eq!(transfers.take().len(), MAX_ENDED);
    }
}
