//! Drift: is a mirror still what it was? The population stability index of its latency against its own
//! baseline (spec 2.11).
//!
//! `PSI = sum over ten bins of (now - then) * ln(now / then)`, the bins being the baseline's deciles. The usual
//! reading is that above 0.1 something has changed and above 0.25 much has.

use std::collections::VecDeque;
use tdigest::TDigest;

/// Samples on each side. Fewer make 0.15 out of pure noise.
pub(super) const SAMPLES: usize = 500;
/// Above this the mirror is another one.
pub(super) const PSI_MAX: f64 = 0.15;
/// Looked at after each so many samples.
const EVERY: usize = 100;
const BINS: usize = 10;
/// An empty bin counts like so much of one sample: its logarithm would be without bound.
const EMPTY: f64 = 0.5;

#[derive(Clone, Debug, Default)]
pub(super) struct Drift {
    first: Vec<f64>,
    /// The upper ends of all bins but the last, and what part of the baseline lies in each.
    edges: Vec<f64>,
    parts: [f64; BINS],
    recent: VecDeque<f64>,
    since_look: usize,
    /// At the last look.
    pub(super) psi: Option<f64>,
}

impl Drift {
    /// One time to first byte. Returns the index where it says that the mirror has changed.
    pub(super) fn add(&mut self, seconds: f64) -> Option<f64> {
        if self.edges.is_empty() {
            self.first.push(seconds);
            if self.first.len() == SAMPLES {
                self.take_baseline();
            }
            return None;
        }
        if self.recent.len() == SAMPLES {
            self.recent.pop_front();
        }
        self.recent.push_back(seconds);
        self.since_look += 1;
        if self.recent.len() < SAMPLES || self.since_look < EVERY {
            return None;
        }
        self.since_look = 0;
        let psi = index(&self.parts, &self.parts_of(self.recent.iter().copied()));
        self.psi = Some(psi);
        (psi > PSI_MAX).then(|| {
            self.first = self.recent.drain(..).collect();
            self.take_baseline();
            psi
        })
    }

    fn take_baseline(&mut self) {
        let first = std::mem::take(&mut self.first);
        let digest = TDigest::new_with_size(100).merge_unsorted(first.clone());
        let decile = |at| digest.estimate_quantile(at as f64 / BINS as f64).unwrap_or_default();
        self.edges = (1..BINS).map(decile).collect();
        self.parts = self.parts_of(first.into_iter());
    }

    fn parts_of(&self, samples: impl Iterator<Item = f64>) -> [f64; BINS] {
        let mut counts = [0.0; BINS];
        samples.for_each(|seconds| counts[self.edges.partition_point(|&edge| edge < seconds)] += 1.0);
        counts.map(|count: f64| count.max(EMPTY) / SAMPLES as f64)
    }
}

fn index(then: &[f64; BINS], now: &[f64; BINS]) -> f64 {
    then.iter().zip(now).map(|(then, now)| (now - then) * (now / then).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// A latency of 10 ms and up, exponentially spread.
    fn sample(rng: &mut StdRng, spread_ms: f64) -> f64 {
        0.01 - spread_ms / 1e3 * rng.random::<f64>().max(1e-9).ln()
    }

    #[test]
    fn the_same_distribution_is_no_drift_and_another_is() {
        let mut false_alarms = 0;
        for seed in 0..100 {
            let (mut rng, mut drift) = (StdRng::seed_from_u64(seed), Drift::default());
            false_alarms += (0..3000).filter(|_| drift.add(sample(&mut rng, 5.0)).is_some()).count();
            let found = (0..SAMPLES).find_map(|_| drift.add(sample(&mut rng, 15.0)));
            assert!(found.is_some_and(|psi| psi > PSI_MAX), "seed {seed}: {:?}", drift.psi);
        }
        assert!(false_alarms <= 2, "{false_alarms} of 100 x 21 looks");
    }

    #[test]
    fn fewer_than_500_on_either_side_say_nothing() {
        let mut drift = Drift::default();
        assert!((0..500).all(|at| drift.add(at as f64).is_none()));
        assert!((0..499).all(|_| drift.add(1e6).is_none()));
        assert!(drift.add(1e6).is_some());
        assert!((0..500).all(|_| drift.add(1e6).is_none()), "the new one is the baseline now");
    }

    #[test]
    fn the_index_just_under_and_just_over_its_bound() {
        // A shift of d from each of five bins to another: 5 d ln((0.1 + d) / (0.1 - d)).
        let shifted = |d: f64| {
            let mut now = [0.1; BINS];
            (0..5).for_each(|at| now[at] += d);
            (5..BINS).for_each(|at| now[at] -= d);
            index(&[0.1; BINS], &now)
        };
        assert!(shifted(0.0375) < PSI_MAX && shifted(0.0381) > PSI_MAX, "{} {}", shifted(0.0375), shifted(0.0381));
    }
}
