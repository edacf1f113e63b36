//! `Census` and `CensusReply`: neighbours compare what they know of the mesh's size. A node asks a connected peer every
//! half minute, and each second while it has news; it is answered at once, which also measures the way between the two.
//!
//! Frames and direct: the link proves the sender, who speaks for nobody but itself. What is in them is hearsay, a sample
//! of the keys that somebody has heard of in this epoch: nothing is promised by it, nothing is kept of it on disk, and
//! one that is lost is made up for by the next.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;

/// Most keys in one word: 8 KiB. So many are the sample that the size is estimated from.
pub const MAX_SAMPLE: usize = 256;
/// Bytes of a public key.
const KEY_LENGTH: usize = 32;

/// Public keys in rising order, each once: one byte string of at most [`MAX_SAMPLE`] times 32 bytes. Whether anybody
/// has the secret to one of them is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample(Vec<[u8; KEY_LENGTH]>);

impl Sample {
    /// Of these keys as many as fit, in their order.
    pub fn of(keys: impl IntoIterator<Item = [u8; KEY_LENGTH]>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(MAX_SAMPLE);
        Self(keys)
    }

    /// The keys.
    pub fn keys(&self) -> &[[u8; KEY_LENGTH]] {
        &self.0
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.concat())
    }
}

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = ByteBuf::deserialize(deserializer)?;
        if bytes.len() > MAX_SAMPLE * KEY_LENGTH {
            return Err(D::Error::custom(format!("more than {MAX_SAMPLE} keys")));
        }
        let (keys, rest) = bytes.as_chunks::<KEY_LENGTH>();
        if !rest.is_empty() {
            return Err(D::Error::custom("a key has 32 bytes"));
        }
        // One form for one set; and nobody is counted twice.
        if !keys.is_sorted_by(|one, next| one < next) {
            return Err(D::Error::custom("keys are not in rising order"));
        }
        Ok(Self(keys.to_vec()))
    }
}

/// Asks a neighbour what it knows, and says what it may lack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Which question this is: drawn by chance, so that nobody can answer before it was asked.
    pub question: u64,
    /// Which count this belongs to: the wall clock in whole epochs.
    pub epoch: u64,
    /// What the sender knows, in short: the same number is the same sample.
    pub digest: u64,
    /// What the receiver lacks, as far as the sender knows.
    pub sample: Sample,
}

dms_actors::wire_message!(Census, "dms.census", 1);

/// The answer to a [`Census`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CensusReply {
    /// The question.
    pub question: u64,
    /// Which count this belongs to: the question's, or the answerer's own if that is too far from it.
    pub epoch: u64,
    /// What the sender knows now, in short.
    pub digest: u64,
    /// What the asker lacks, as far as the sender knows.
    pub sample: Sample,
}

dms_actors::wire_message!(CensusReply, "dms.census-reply", 1);

#[cfg(test)]
mod tests {
    use dms_actors::{WireMessage, cbor};

    use super::*;

    fn key(number: usize) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(number as u64).to_be_bytes());
        key
    }

    #[test]
    fn a_sample_is_bounded_sorted_and_whole_when_it_is_read() {
        let of = |numbers: &[usize]| numbers.iter().flat_map(|number| key(*number)).collect::<Vec<u8>>();
        let many = |count: usize| of(&(0..count).collect::<Vec<_>>());
        let table = [
            (vec![], None),
            (of(&[1, 2, 7]), None),
            (many(MAX_SAMPLE), None),
            (many(MAX_SAMPLE + 1), Some("more than 256 keys")),
            (vec![0; 31], Some("a key has 32 bytes")),
            (vec![0; 33], Some("a key has 32 bytes")),
            (of(&[2, 1]), Some("rising order")),
            (of(&[1, 1]), Some("rising order")),
        ];
        for (bytes, problem) in table {
            let body = cbor::to_canonical(&ByteBuf::from(bytes.clone())).unwrap();
            match (cbor::from_canonical::<Sample>(&body), problem) {
                (Ok(sample), None) => {
                    assert_eq!(cbor::to_canonical(&sample).unwrap(), body, "one form");
                }
                (Err(error), Some(problem)) => {
                    assert!(error.to_string().contains(problem), "{error}, not {problem}");
                }
                (outcome, problem) => panic!("{} bytes: {outcome:?}, {problem:?}", bytes.len()),
            }
        }
    }

    #[test]
    fn what_is_made_here_can_be_read() {
        let sample = Sample::of((0..1_000).rev().map(key).chain([key(3)]));
        assert_eq!(sample.keys().len(), MAX_SAMPLE);
        let word = CensusReply { question: u64::MAX, epoch: 1, digest: 2, sample };
        let body = word.encode_body().unwrap();
        assert_eq!(cbor::from_canonical::<CensusReply>(&body), Ok(word));
        assert!(body.len() < 9_000, "{} bytes", body.len());
    }
}
