//! The distribution of a latency over a window that is bounded in time and in number; its quantiles by t-digest
//! (Dunning and Ertl, Computing Extremely Accurate Quantiles Using t-Digests, 2019).

use crate::clock::Time;
use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;
use tdigest::TDigest;

/// Centroids of a digest: with a hundred a P99 of a thousand samples is as good as exact.
const CENTROIDS: usize = 100;

/// How many samples took less than 1 ms, less than 2, less than 4 and so on; the last counts all longer ones too.
pub(super) const BUCKETS: usize = 16;

/// Which samples are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Older ones go …
    pub(super) length: Duration,
    /// … unless fewer than so many would be left: then they stay …
    pub(super) wanted: usize,
    /// … up to this age.
    pub(super) length_max: Duration,
    /// And never more than so many.
    pub(super) count_max: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Distribution {
    pub(super) bounds: Bounds,
    /// When they came, and how long they took in seconds.
    samples: VecDeque<(Time, f32)>,
    /// Its median and P99, once somebody asked and until another sample comes.
    quantiles: Cell<Option<(f64, f64)>>,
    /// Of all that ever came, so that who looks every second sees what came between.
    counts: [u64; BUCKETS],
}

impl Distribution {
    /// Without samples. Memory grows with the first ones, up to the bound, and not after that.
    pub(super) fn new(bounds: Bounds) -> Distribution {
        Distribution { bounds, samples: VecDeque::new(), quantiles: Cell::new(None), counts: [0; BUCKETS] }
    }

    pub(super) fn add(&mut self, now: Time, seconds: f64) {
        self.forget(now);
        while self.samples.len() >= self.bounds.count_max {
            self.samples.pop_front();
        }
        self.samples.push_back((now, seconds as f32));
        self.counts[bucket(seconds)] += 1;
        self.quantiles.set(None);
    }

    /// What is too old goes.
    pub(super) fn forget(&mut self, now: Time) {
        let Bounds { length, wanted, length_max, .. } = self.bounds;
        while let Some(&(at, _)) = self.samples.front() {
            let age = now.since(at);
            let enough = self.samples.len() > wanted;
            if age <= length || (!enough && age <= length_max) {
                break;
            }
            self.samples.pop_front();
            self.quantiles.set(None);
        }
    }

    pub(super) fn clear(&mut self) {
        self.samples.clear();
        self.quantiles.set(None);
    }

    /// Of all samples since it was made, by [how long they took](BUCKETS).
    pub(super) fn counts(&self) -> [u64; BUCKETS] {
        self.counts
    }

    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Median and P99 in seconds; nothing without samples. Sorts and allocates, once for each sample that came: for
    /// who looks now and then.
    pub(super) fn quantiles(&self) -> Option<(f64, f64)> {
        if self.quantiles.get().is_none() && !self.samples.is_empty() {
            self.quantiles.set(quantiles(self.samples.iter().map(|&(_, seconds)| f64::from(seconds)).collect()));
        }
        self.quantiles.get()
    }
}

/// Median and P99; nothing of nothing.
pub(super) fn quantiles(values: Vec<f64>) -> Option<(f64, f64)> {
    let digest = TDigest::new_with_size(CENTROIDS).merge_unsorted(values);
    digest.estimate_quantile(0.5).zip(digest.estimate_quantile(0.99))
}

fn bucket(seconds: f64) -> usize {
    let whole_ms = (seconds * 1e3) as u64;
    ((u64::BITS - whole_ms.leading_zeros()) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_counted_once_and_for_ever() {
        for (ms, wanted) in [(0.0, 0), (0.9, 0), (1.0, 1), (1.9, 1), (2.0, 2), (3.9, 2), (1024.0, 11), (1e9, 15)] {
            assert_eq!(bucket(ms / 1e3), wanted, "{ms} ms");
        }
        let mut all = Distribution::new(BOUNDS);
        (0..500).for_each(|at| all.add(Time(at * 1000 * MS), 0.005));
        all.clear();
        assert_eq!(all.counts()[3], 500);
        assert_eq!(all.counts().iter().sum::<u64>(), 500);
    }

    const MS: u64 = 1_000_000;
    const BOUNDS: Bounds =
        Bounds { length: Duration::from_secs(5), wanted: 10, length_max: Duration::from_secs(10), count_max: 100 };

    #[test]
    fn quantiles_are_those_of_what_is_kept_and_follow_what_comes() {
        let mut distribution = Distribution::new(BOUNDS);
        assert_eq!(distribution.quantiles(), None);
        (1..=100).for_each(|ms| distribution.add(Time(ms * MS), ms as f64 / 1e3));
        let (p50, p99) = distribution.quantiles().unwrap();
        assert!((0.049..=0.052).contains(&p50) && (0.098..=0.1).contains(&p99), "{p50} {p99}");
        (101..=200).for_each(|ms| distribution.add(Time(ms * MS), 1.0));
        let (p50, p99) = distribution.quantiles().unwrap();
        assert!((p50 - 1.0).abs() < 1e-6 && (p99 - 1.0).abs() < 1e-6, "{p50} {p99}");
    }

    #[test]
    fn it_is_bounded_in_time_and_in_number() {
        let mut distribution = Distribution::new(BOUNDS);
        (0..500).for_each(|ms| distribution.add(Time(ms * MS), 0.01));
        assert_eq!(distribution.len(), 100);
        distribution.forget(Time(5400 * MS));
        assert_eq!(distribution.len(), 100, "those from 400 ms on are 5 s old and no older");
        distribution.forget(Time(5490 * MS));
        assert_eq!(distribution.len(), 10);
        distribution.forget(Time(5600 * MS));
        assert_eq!(distribution.len(), 10, "as many stay, for up to 10 s");
        distribution.forget(Time(10_500 * MS));
        assert_eq!((distribution.len(), distribution.quantiles()), (0, None));
    }
}
