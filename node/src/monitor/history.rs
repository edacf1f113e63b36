//! The samples that are kept: a fixed number of each, and then a fixed number of means.

use std::collections::VecDeque;

use dms_messages::{CpuMillis, DiskMib, MemoryMib};

use crate::capability::headroom::{MachineSample, TimedSample};

/// Samples kept one by one: half an hour at the usual period, which is what a person who looks asks about.
const FINE: usize = 360;
/// How many samples become one mean when they leave: a minute at the usual period.
const MERGED: usize = 12;
/// Means kept: six hours at the usual period. Both together take some 100 KiB; who wants more has `/metrics`.
const COARSE: usize = 360;

/// The newest samples, and means of those before.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Oldest first, at most [`FINE`].
    fine: VecDeque<TimedSample>,
    /// What has left `fine` and is not a mean yet, fewer than [`MERGED`].
    leaving: Vec<TimedSample>,
    /// Oldest first, at most [`COARSE`].
    coarse: VecDeque<TimedSample>,
}

impl History {
    /// Takes one more.
    pub(crate) fn push(&mut self, sample: TimedSample) {
        self.fine.push_back(sample);
        if self.fine.len() <= FINE {
            return;
        }
        self.leaving.extend(self.fine.pop_front());
        if self.leaving.len() == MERGED {
            self.coarse.extend(mean(&self.leaving));
            self.leaving.clear();
        }
        if self.coarse.len() > COARSE {
            self.coarse.pop_front();
        }
    }

    /// The newest `limit`, newest first.
    pub(crate) fn newest(&self, limit: usize) -> Vec<TimedSample> {
        // What is leaving is younger than every mean; without it there would be a gap of up to a minute.
        let all = self.fine.iter().rev().chain(self.leaving.iter().rev()).chain(self.coarse.iter().rev());
        all.take(limit).copied().collect()
    }
}

/// The mean of samples, oldest first, as of the last; none of none. What only counts up is as it was last.
fn mean(samples: &[TimedSample]) -> Option<TimedSample> {
    let last = samples.last()?;
    let count = samples.len() as u64;
    let of = |amount: fn(&MachineSample) -> u64| {
        samples.iter().map(|sample| amount(&sample.machine)).fold(0, u64::saturating_add) / count
    };
    let loads: Vec<u32> = samples.iter().filter_map(|sample| sample.machine.load_hundredths).collect();
    let machine = MachineSample {
        cpu_used: CpuMillis(of(|it| it.cpu_used.0)),
        cpu_own: CpuMillis(of(|it| it.cpu_own.0)),
        load_hundredths: loads.iter().sum::<u32>().checked_div(u32::try_from(loads.len()).unwrap_or(0)),
        memory_free: MemoryMib(of(|it| it.memory_free.0)),
        memory_own: MemoryMib(of(|it| it.memory_own.0)),
        disk_free: DiskMib(of(|it| it.disk_free.0)),
        // The hottest moment is what is asked about.
        temperature: samples.iter().filter_map(|sample| sample.machine.temperature).max(),
        ..last.machine
    };
    Some(TimedSample { at: last.at, machine })
}

#[cfg(test)]
mod tests {
    use dms_messages::Timestamp;

    use super::*;

    fn sample(number: u64) -> TimedSample {
        let machine = MachineSample {
            cpu_used: CpuMillis(number),
            received_bytes: number * 10,
            temperature: Some(i16::try_from(number % 100).unwrap()),
            ..MachineSample::default()
        };
        TimedSample { at: Timestamp(number), machine }
    }

    #[test]
    fn the_newest_are_kept_whole_those_before_as_means_and_no_more_than_so_many() {
        let mut history = History::default();
        let all = FINE + MERGED * COARSE * 2;
        for number in 1..=all as u64 {
            history.push(sample(number));
            assert!(history.newest(usize::MAX).len() <= FINE + MERGED + COARSE);
        }
        let kept = history.newest(usize::MAX);
        assert_eq!(kept.len(), FINE + COARSE);
        assert!(kept.windows(2).all(|pair| pair[0].at > pair[1].at), "newest first");
        assert_eq!(
            kept[..FINE].to_vec(),
            (0..FINE as u64).map(|age| sample(all as u64 - age)).collect::<Vec<_>>()
        );
        let newest_mean = kept[FINE];
        let last = (all - FINE) as u64;
        assert_eq!(newest_mean.at, Timestamp(last));
        // The mean of twelve in a row that end at `last` lies between the sixth and the seventh.
        assert_eq!(newest_mean.machine.cpu_used.0, last - 6);
        assert_eq!(newest_mean.machine.received_bytes, last * 10, "a count is as it was last");
        assert_eq!(history.newest(2), kept[..2].to_vec());
    }

    #[test]
    fn a_mean_has_the_hottest_moment_and_the_loads_that_were_said() {
        let samples: Vec<TimedSample> = [(Some(10), Some(40)), (None, None), (Some(30), Some(90))]
            .into_iter()
            .map(|(load_hundredths, temperature)| {
                let machine = MachineSample { load_hundredths, temperature, ..MachineSample::default() };
                TimedSample { at: Timestamp(1), machine }
            })
            .collect();
        let found = mean(&samples).unwrap().machine;
        assert_eq!((found.load_hundredths, found.temperature), (Some(20), Some(90)));
        assert_eq!(mean(&samples[1..2]).unwrap().machine.load_hundredths, None);
        assert_eq!(mean(&[]), None);
    }
}
