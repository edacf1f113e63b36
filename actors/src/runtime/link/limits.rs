//! What one peer may cost: how fast it may speak, how much at once, how long.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{MAX_BODY_LENGTH, MAX_OPEN_ASKS};
use crate::{Kind, WireMessage};

/// What each peer may send. One set holds for every peer; a peer has one link to us, so the limits of a
/// link are the limits of its peer.
///
/// Too fast is answered by reading slower, which holds the peer's senders back and loses nothing;
/// too many and too long is refused as [`Busy`](crate::RefusalCode::Busy) and
/// [`TooLong`](crate::RefusalCode::TooLong), word by word. All three are [counted](crate::Counters).
///
/// ```
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Search { text: String }
/// # dms_actors::wire_message!(Search, "example.search", 1);
/// use dms_actors::{KindLimits, Limits};
///
/// let limits = Limits { words_per_second: 10_000, burst: 1_000, ..Limits::default() };
/// // Searches are the first to be turned away, and there are never more than 16 at once.
/// let limits = limits.kind::<Search>(KindLimits { in_flight_asks: 16, admit_below: 64, body_length: 1_000 });
/// # assert_eq!(limits.burst, 1_000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Words read per second in the long run (lookups and watches count, too). The default is more than
    /// one core can read, so it binds only where it is lowered.
    pub words_per_second: u32,
    /// Words that may come at once after a silence: the default is a tenth of a second's worth.
    pub burst: u32,
    /// Asks that may be without an outcome at once. Each holds a few hundred bytes, and its reply up
    /// to [`MAX_BODY_LENGTH`]; the default, 1,024, is also the most that a system has open towards one
    /// peer, so that two systems of one configuration refuse each other's asks only if many were given up.
    pub in_flight_asks: usize,
    /// Longest body in bytes; the default, and the most, is [`MAX_BODY_LENGTH`].
    pub body_length: usize,
    /// Further limits of some kinds; see [`Self::kind`].
    pub kinds: BTreeMap<Kind, KindLimits>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            words_per_second: 1_000_000,
            burst: 100_000,
            in_flight_asks: MAX_OPEN_ASKS,
            body_length: MAX_BODY_LENGTH,
            kinds: BTreeMap::new(),
        }
    }
}

impl Limits {
    /// Other limits for the words of kind `M`, within those for all.
    #[must_use]
    pub fn kind<M: WireMessage>(mut self, limits: KindLimits) -> Self {
        self.kinds.insert(Kind::of::<M>(), limits);
        self
    }

    pub(super) fn of(&self, kind: &Kind) -> Option<KindLimits> {
        self.kinds.get(kind).copied()
    }
}

/// What each peer may send of one kind; see [`Limits::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindLimits {
    /// Asks of this kind that may be without an outcome at once.
    pub in_flight_asks: usize,
    /// The kind is taken, told or asked, only while the peer has fewer open asks than this, whatever
    /// their kind. Set below [`Limits::in_flight_asks`], it keeps room for the kinds that matter more.
    pub admit_below: usize,
    /// Longest body in bytes.
    pub body_length: usize,
}

impl Default for KindLimits {
    /// No limit beyond those for all kinds.
    fn default() -> Self {
        Self { in_flight_asks: usize::MAX, admit_below: usize::MAX, body_length: usize::MAX }
    }
}

/// A bucket of words that fills with time; the clock is looked at only when it is empty.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    burst: f64,
    words: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        // Less than one word would never be reached.
        let (per_second, burst) = (f64::from(limits.words_per_second.max(1)), f64::from(limits.burst.max(1)));
        Self { per_second, burst, words: burst, filled: now }
    }

    /// Takes one word, or says how long until there is one.
    pub(super) fn take(&mut self, now: impl FnOnce() -> Instant) -> Result<(), Duration> {
        if self.words < 1.0 {
            let now = now();
            let filled = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_second;
            self.words = (self.words + filled).min(self.burst);
            self.filled = now;
        }
        if self.words < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.words) / self.per_second));
        }
        self.words -= 1.0;
        Ok(())
    }

    /// Does not fill for so long.
    pub(super) fn hold(&mut self, time: Duration) {
        self.filled += time;
    }

    /// Takes more, for a word that costs more than one: what is not there is owed.
    pub(super) fn charge(&mut self, words: u32) {
        self.words -= f64::from(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_waited_for() {
        let now = Instant::now();
        let limits = Limits { words_per_second: 10, burst: 3, ..Limits::default() };
        let mut bucket = Bucket::new(&limits, now);
        assert_eq!(bucket.take(|| now), Ok(()));
        bucket.charge(9);
        // Two were left: seven are owed, and the next is one more.
        assert_eq!(bucket.take(|| now), Err(Duration::from_millis(800)));
        let later = now + Duration::from_millis(801);
        assert_eq!(bucket.take(|| later), Ok(()));
        assert!(bucket.take(|| later).is_err());
        // A pause that is longer than it had to be brings nothing.
        bucket.hold(Duration::from_secs(10));
        assert!(bucket.take(|| later + Duration::from_secs(10)).is_err());
        assert_eq!(bucket.take(|| later + Duration::from_millis(10_101)), Ok(()));
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let limits = Limits { words_per_second: 10, burst: 3, ..Limits::default() };
        let mut bucket = Bucket::new(&limits, start);
        let mut at = |ms| bucket.take(|| start + Duration::from_millis(ms));
        assert_eq!([at(0), at(0), at(0)], [Ok(()); 3]);
        let wait = at(0).unwrap_err();
        assert!((99..=100).contains(&wait.as_millis()), "{wait:?}");
        assert!(at(50).is_err());
        assert_eq!((at(101), at(101).is_err()), (Ok(()), true));
        // However long it was quiet, no more than the burst.
        assert_eq!([at(60_000), at(60_000), at(60_000)], [Ok(()); 3]);
        assert!(at(60_000).is_err());
    }

    #[test]
    fn a_bucket_of_nothing_still_gives_a_word_in_the_end() {
        let start = Instant::now();
        let limits = Limits { words_per_second: 0, burst: 0, ..Limits::default() };
        let mut bucket = Bucket::new(&limits, start);
        assert_eq!(bucket.take(|| start), Ok(()));
        assert!(bucket.take(|| start).is_err());
        assert_eq!(bucket.take(|| start + Duration::from_secs(1)), Ok(()));
    }
}
