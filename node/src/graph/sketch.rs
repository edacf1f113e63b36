//! A sample of everybody who takes part in an epoch: the keys with the least ranks, from which their number follows.
//!
//! A key's rank in an epoch is a hash of both, so it is as if drawn by chance, anew for each epoch, and the same
//! wherever it is computed. If the `k`th least of all ranks is the part `x` of the whole range, about `(k - 1) / x` keys
//! have been ranked (Bar-Yossef et al., 2002: "Counting distinct elements in a data stream"), give or take one in the
//! root of `k - 2`: with 256, 6 %. Fewer keys than that are counted.
//!
//! Samples are joined without harm in any order and any number of times, and what one has can only be taken by lesser
//! ranks: so whoever passes them on may be heard twice, late, or by another way.

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::{MAX_SAMPLE, Sample};
use sha2::{Digest, Sha256};

/// The bytes of a public key.
pub(super) type Key = [u8; 32];

/// What is known of the keys of an epoch.
#[derive(Debug, Clone)]
pub(super) struct Sketch {
    epoch: u64,
    /// The least, by their ranks; at most [`MAX_SAMPLE`].
    least: BTreeMap<u64, Key>,
    digest: u64,
}

impl Sketch {
    /// Of an epoch of which one key is known.
    pub(super) fn new(epoch: u64, key: Key) -> Self {
        let rank = rank(epoch, &key);
        Self { epoch, least: BTreeMap::from([(rank, key)]), digest: rank }
    }

    /// Takes keys that somebody knows of, and gives their ranks; says whether any was news.
    pub(super) fn join(&mut self, sample: &Sample) -> (Vec<u64>, bool) {
        let mut is_news = false;
        let ranks = sample.keys().iter().map(|key| {
            let rank = rank(self.epoch, key);
            is_news |= self.take(rank, *key);
            rank
        });
        (ranks.collect(), is_news)
    }

    fn take(&mut self, rank: u64, key: Key) -> bool {
        let is_full = self.least.len() >= MAX_SAMPLE;
        let is_wanted = !is_full || self.least.last_key_value().is_some_and(|(last, _)| rank < *last);
        if !is_wanted || self.least.contains_key(&rank) {
            return false;
        }
        let last = if is_full { self.least.pop_last() } else { None };
        self.digest ^= rank ^ last.map_or(0, |(last, _)| last);
        self.least.insert(rank, key);
        true
    }

    /// All of it, in short: who has the same number has the same keys.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// True if the key of this rank is in it.
    pub(super) fn has(&self, rank: u64) -> bool {
        self.least.contains_key(&rank)
    }

    /// The ranks of its keys.
    pub(super) fn ranks(&self) -> BTreeSet<u64> {
        self.least.keys().copied().collect()
    }

    /// What somebody lacks who has the keys of these ranks.
    pub(super) fn beyond(&self, known: &BTreeSet<u64>) -> (Sample, Vec<u64>) {
        let beyond = || self.least.iter().filter(|(rank, _)| !known.contains(rank));
        (Sample::of(beyond().map(|(_, key)| *key)), beyond().map(|(rank, _)| *rank).collect())
    }

    /// How many keys have been ranked: exactly, if they are few.
    pub(super) fn size(&self) -> u64 {
        let count = self.least.len() as u64;
        match self.least.last_key_value() {
            Some((last, _)) if self.least.len() >= MAX_SAMPLE => {
                let size = (u128::from(count - 1) << 64) / (u128::from(*last) + 1);
                // The estimate of a full sketch is never below what it holds.
                u64::try_from(size).unwrap_or(u64::MAX).max(count)
            }
            _ => count,
        }
    }
}

/// Where a key stands in an epoch.
pub(super) fn rank(epoch: u64, key: &Key) -> u64 {
    let hash = Sha256::new().chain_update(b"dms census").chain_update(epoch.to_be_bytes()).chain_update(key);
    u64::from_be_bytes(hash.finalize()[..8].try_into().expect("eight of thirty-two bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    /// A sketch of the keys of these numbers.
    fn sketch_of(epoch: u64, numbers: impl Iterator<Item = u64>) -> Sketch {
        let mut sketch = Sketch::new(epoch, key(0));
        numbers.for_each(|number| {
            sketch.join(&Sample::of([key(number)]));
        });
        sketch
    }

    #[test]
    fn few_are_counted_and_many_estimated() {
        for count in [1, 2, 100, 255] {
            assert_eq!(sketch_of(1, 0..count).size(), count);
        }
        // Each epoch is another draw: nearly all of them are within two standard deviations, none beyond five.
        for count in [256_u64, 1_000, 20_000] {
            let mut far = 0;
            for epoch in 0..20 {
                let off = sketch_of(epoch, 0..count).size().abs_diff(count) * 1000 / count;
                assert!(off < 320, "{count} in epoch {epoch} is {off} thousandths off");
                far += usize::from(off > 125);
            }
            assert!(far <= 3, "{far} of 20 are far off");
        }
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        let up = sketch_of(9, 0..2_000);
        let down = sketch_of(9, (0..2_000).rev().flat_map(|number| [number; 2]));
        assert_eq!((up.digest(), &up.least), (down.digest(), &down.least));
        assert_ne!(up.digest(), sketch_of(8, 0..2_000).digest(), "another epoch is another sample");
        let (lacks, ranks) = up.beyond(&BTreeSet::new());
        assert_eq!((lacks.keys().len(), ranks.len()), (MAX_SAMPLE, MAX_SAMPLE));
        let mut other = Sketch::new(9, key(1));
        assert!(other.join(&lacks).1 && !other.join(&lacks).1);
        assert_eq!(other.digest(), up.digest());
        assert!(other.beyond(&up.ranks()).0.is_empty());
    }

    #[test]
    fn a_rank_is_as_it_was() {
        // On the wire only keys are: everybody must rank them alike, whatever the program's version.
        assert_eq!(rank(1, &key(1)), 0x8b6b_e108_176e_620b);
    }
}
