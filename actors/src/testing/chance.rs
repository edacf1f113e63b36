//! Chance from a seed: everything random in a test world is drawn here.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// A stream of numbers (SplitMix64): small, quick, and the same on every machine. Nothing secret is drawn
/// from it.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// A stream of its own for whatever `parts` name, so that what happens elsewhere does not change it.
    pub fn of(seed: u64, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_be_bytes());
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        Self(u64::from_be_bytes(digest[..8].try_into().expect("eight of thirty-two bytes")))
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..=most`. A little uneven for huge ranges, which no fault minds.
    pub fn up_to(&mut self, most: u64) -> u64 {
        match most.checked_add(1) {
            Some(count) => self.next() % count,
            None => self.next(),
        }
    }

    /// A duration up to `most`.
    pub fn duration(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.up_to(u64::try_from(most.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// True once in `many` times; never for 0.
    pub fn one_in(&mut self, many: u32) -> bool {
        many > 0 && self.up_to(u64::from(many) - 1) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_names_separate_the_streams() {
        let draw = |mut chance: Chance| (0..8).map(|_| chance.next()).collect::<Vec<_>>();
        assert_eq!(draw(Chance::of(1, &[b"a"])), draw(Chance::of(1, &[b"a"])));
        assert_ne!(draw(Chance::of(1, &[b"a"])), draw(Chance::of(2, &[b"a"])));
        assert_ne!(draw(Chance::of(1, &[b"a", b"b"])), draw(Chance::of(1, &[b"ab"])));
    }

    #[test]
    fn draws_stay_in_their_range() {
        let mut chance = Chance(3);
        for most in [0, 1, 7, u64::MAX] {
            assert!((0..100).all(|_| chance.up_to(most) <= most));
        }
        assert!((0..100).all(|_| !chance.one_in(0) && chance.one_in(1)));
    }
}
