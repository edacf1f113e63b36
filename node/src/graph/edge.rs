//! An edge: how long, how wide and how reliable the way to a neighbour is, measured by what is said and fetched anyway.
//!
//! Everything is smoothed, so that one late answer does not make a neighbour far, and nothing is guessed: what was not
//! measured is none.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Least bytes of a transfer that says something of the bandwidth: a smaller one is mostly the way there and back.
pub const MIN_TRANSFER: u64 = 64 << 10;
/// Share of the newest transfer in the bandwidth: one in so many.
const BANDWIDTH_SHARE: u64 = 4;
/// Share of the newest question in the reliability: one in so many.
const RELIABILITY_SHARE: u32 = 16;
/// All of them.
const MILLION: u32 = 1_000_000;

/// A duration in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl From<Duration> for Micros {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} ms", self.0 / 1000, self.0 % 1000 / 100)
    }
}

/// Bytes in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BytesPerSecond(pub u64);

impl fmt::Display for BytesPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..1_000 => write!(f, "{bytes} B/s"),
            bytes @ 1_000..1_000_000 => write!(f, "{}.{} kB/s", bytes / 1_000, bytes % 1_000 / 100),
            bytes => write!(f, "{}.{} MB/s", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
        }
    }
}

/// A share in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerMillion(pub u32);

impl fmt::Display for PerMillion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} %", self.0 / 10_000, self.0 % 10_000 / 1_000)
    }
}

/// What was measured of the way to a neighbour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// How long a word takes to the neighbour's actor, and its answer back, smoothed (RFC 6298: an eighth of the
    /// newest); none before the first answer.
    pub round_trip: Option<Micros>,
    /// How far single round trips are from that, smoothed (RFC 6298: a quarter of the newest).
    pub deviation: Option<Micros>,
    /// What contents came over it in a second, smoothed; none before anything of size was fetched. A lower bound:
    /// nothing is sent for the sake of measuring.
    pub bandwidth: Option<BytesPerSecond>,
    /// The share of questions that were answered in time; each counts a sixteenth and fades with those that follow.
    pub reliability: Option<PerMillion>,
    /// Questions asked.
    pub asked: u64,
}

impl Edge {
    /// A question was answered after so long.
    pub fn answered(&mut self, after: Duration) {
        let sample = Micros::from(after).0;
        let (round_trip, deviation) = match (self.round_trip, self.deviation) {
            (Some(Micros(smoothed)), Some(Micros(deviation))) => {
                let off = smoothed.abs_diff(sample);
                let mean =
                    |old: u64, new: u64, share: u64| (old / share) * (share - 1) + old % share + new / share;
                (mean(smoothed, sample, 8), mean(deviation, off, 4))
            }
            _ => (sample, sample / 2),
        };
        (self.round_trip, self.deviation) = (Some(Micros(round_trip)), Some(Micros(deviation)));
        self.count(true);
    }

    /// A question was not answered in time.
    pub fn missed(&mut self) {
        self.count(false);
    }

    fn count(&mut self, is_answered: bool) {
        self.asked = self.asked.saturating_add(1);
        let newest = if is_answered { MILLION } else { 0 };
        let share = match self.reliability {
            Some(PerMillion(share)) => share - share / RELIABILITY_SHARE + newest / RELIABILITY_SHARE,
            None => newest,
        };
        self.reliability = Some(PerMillion(share.min(MILLION)));
    }

    /// So many bytes came in so long; little is not counted.
    pub fn carried(&mut self, bytes: u64, took: Duration) {
        if bytes < MIN_TRANSFER {
            return;
        }
        let rate = u128::from(bytes) * 1_000_000 / took.as_micros().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let smoothed = match self.bandwidth {
            Some(BytesPerSecond(smoothed)) => smoothed - smoothed / BANDWIDTH_SHARE + rate / BANDWIDTH_SHARE,
            None => rate,
        };
        self.bandwidth = Some(BytesPerSecond(smoothed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn round_trips_are_smoothed_as_the_rfc_says() {
        let mut edge = Edge::default();
        assert_eq!((edge.round_trip, edge.deviation, edge.reliability), (None, None, None));
        // Sample, smoothed, deviation, by hand.
        let table = [(100, 100_000, 50_000), (100, 100_000, 37_500), (180, 110_000, 48_125)];
        for (sample, smoothed, deviation) in table {
            edge.answered(ms(sample));
            assert_eq!(edge.round_trip, Some(Micros(smoothed)));
            assert_eq!(edge.deviation, Some(Micros(deviation)));
        }
        for _ in 0..200 {
            edge.answered(ms(40));
        }
        assert_eq!(edge.round_trip.map(|trip| trip.0 / 1000), Some(40));
        assert!(edge.deviation < Some(Micros(10)), "{edge:?}");
        edge.answered(Duration::MAX);
        assert!(edge.round_trip.is_some(), "a silly sample overflows nothing");
    }

    #[test]
    fn reliability_is_the_share_of_answers_and_fades() {
        let mut edge = Edge::default();
        edge.missed();
        assert_eq!(edge.reliability, Some(PerMillion(0)));
        for _ in 0..500 {
            edge.answered(ms(1));
        }
        assert!(edge.reliability > Some(PerMillion(999_900)), "{edge:?}");
        assert!(edge.reliability <= Some(PerMillion(MILLION)));
        // One in four is lost.
        for round in 0..400 {
            if round % 4 == 0 { edge.missed() } else { edge.answered(ms(1)) }
        }
        let share = edge.reliability.unwrap().0;
        assert!((680_000..=820_000).contains(&share), "{share}");
        assert_eq!(edge.asked, 901);
    }

    #[test]
    fn bandwidth_needs_something_of_size() {
        let mut edge = Edge::default();
        edge.carried(MIN_TRANSFER - 1, ms(1));
        assert_eq!(edge.bandwidth, None);
        edge.carried(1_000_000, ms(500));
        assert_eq!(edge.bandwidth, Some(BytesPerSecond(2_000_000)));
        edge.carried(1_000_000, ms(250));
        assert_eq!(edge.bandwidth, Some(BytesPerSecond(2_500_000)));
        edge.carried(u64::MAX, Duration::ZERO);
        assert!(edge.bandwidth > Some(BytesPerSecond(2_500_000)), "a silly sample overflows nothing");
    }

    #[test]
    fn measures_read_well() {
        let table = [
            (Micros(1_250).to_string(), "1.2 ms"),
            (BytesPerSecond(999).to_string(), "999 B/s"),
            (BytesPerSecond(65_536).to_string(), "65.5 kB/s"),
            (BytesPerSecond(12_345_678).to_string(), "12.3 MB/s"),
            (PerMillion(MILLION).to_string(), "100.0 %"),
            (PerMillion(937_500).to_string(), "93.7 %"),
        ];
        for (text, wanted) in table {
            assert_eq!(text, wanted);
        }
    }
}
