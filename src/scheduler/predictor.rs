//! By what a mirror's completions have shown the adaptive prediction to be off: recursive least squares with forgetting
//! (Ljung and Söderström, Theory and Practice of Recursive Identification, MIT Press 1983).
//!
//! It learns what is left over: the time a fetch took from its start to its last byte, less what adaptive foretold of it
//! then. So where it knows nothing it says nothing, and is adaptive; where a rate or a latency changes, adaptive's part
//! follows at once, and what was learned of overheads stays.

use super::mirror::Mirror;
use crate::clock::Time;

/// A constant, the transfer and the queue that adaptive foretold, in seconds, and the fetches in flight.
pub(super) const FEATURES: usize = 4;
/// What counts as one of each, so that all are of one size: a twentieth of a second, two fetches.
const UNITS: [f64; FEATURES] = [1.0, 0.05, 0.05, 2.0];
/// How much of what was known is left after each completion: a half-life of 35.
const FORGETTING: f64 = 0.98;
/// Before this many completions it says nothing.
const LEAST: u32 = 30;
/// The uncertainty at first, as a variance: a tenth of a completion says as much.
const UNCERTAINTY: f64 = 10.0;
/// Where a feature does not vary, forgetting makes its uncertainty grow without end, and the next sample would throw the
/// rest over ("blow-up"): with a trace above this nothing is forgotten until it has shrunk.
const TRACE_MAX: f64 = UNCERTAINTY * FEATURES as f64;
/// A time that is off by more than this many times what was foretold says something of a stall, not of the mirror's ways.
const OFF_MAX: f64 = 4.0;

/// What was foretold of a fetch when it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Asked {
    features: [f64; FEATURES],
    /// By adaptive.
    seconds: f64,
}

impl Asked {
    pub(super) fn new(latency_seconds: f64, queue_seconds: f64, transfer_seconds: f64, fetches: usize) -> Asked {
        Asked {
            features: [1.0, transfer_seconds / UNITS[1], queue_seconds / UNITS[2], fetches as f64 / UNITS[3]],
            seconds: latency_seconds + queue_seconds + transfer_seconds,
        }
    }
}

/// Of one mirror.
#[derive(Clone, Debug)]
pub(super) struct Predictor {
    weights: [f64; FEATURES],
    /// The covariance of these, but for the noise's variance.
    covariance: [[f64; FEATURES]; FEATURES],
    seen: u32,
}

impl Default for Predictor {
    fn default() -> Predictor {
        let mut covariance = [[0.0; FEATURES]; FEATURES];
        (0..FEATURES).for_each(|at| covariance[at][at] = UNCERTAINTY);
        Predictor { weights: [0.0; FEATURES], covariance, seen: 0 }
    }
}

impl Predictor {
    /// It took so long.
    pub(super) fn learn(&mut self, asked: &Asked, seconds: f64) {
        let most = OFF_MAX * asked.seconds;
        let off = (seconds - asked.seconds).clamp(-most, most);
        let x = &asked.features;
        if !off.is_finite() || x.iter().any(|value| !value.is_finite()) {
            return;
        }
        self.seen = self.seen.saturating_add(1);
        let px = self.covariance.map(|row| dot(&row, x));
        let spread = 1.0 + dot(&px, x);
        let error = off - dot(&self.weights, x);
        let trace: f64 = (0..FEATURES).map(|at| self.covariance[at][at]).sum();
        let kept = if trace > TRACE_MAX { 1.0 } else { FORGETTING };
        for at in 0..FEATURES {
            self.weights[at] += px[at] / spread * error;
            for other in 0..=at {
                // Both halves from one sum: rounding cannot make them differ, nor so the diagonal negative.
                let value = (self.covariance[at][other] - px[at] * px[other] / spread) / kept;
                (self.covariance[at][other], self.covariance[other][at]) = (value, value);
            }
        }
        if !(0..FEATURES).all(|at| self.covariance[at][at] > 0.0) {
            self.forget();
        }
    }

    /// The mirror is not what it was.
    pub(super) fn forget(&mut self) {
        *self = Predictor::default();
    }

    /// What is to be added to adaptive's seconds: a constant, and for each second of transfer, second of queue and fetch in
    /// flight. Nothing before enough was seen.
    pub(super) fn correction(&self) -> [f32; FEATURES] {
        if self.seen < LEAST {
            return [0.0; FEATURES];
        }
        std::array::from_fn(|at| (self.weights[at] / UNITS[at]) as f32)
    }
}

fn dot(a: &[f64; FEATURES], b: &[f64; FEATURES]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Mirror {
    /// What adaptive foretells of a fetch that begins now.
    pub(super) fn asked(&self, now: Time, bytes: u64, demand: bool) -> Asked {
        let (rate, latency) = (self.rate(now), self.latency_seconds());
        let (transfer, queued) = (bytes as f64 / rate, self.remaining_bytes as f64 / rate);
        let queue = if demand { queued.min(transfer * self.fetches as f64) } else { queued };
        Asked::new(latency, queue, transfer, self.fetches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(predictor: &Predictor, asked: &Asked) -> f64 {
        (0..FEATURES).map(|at| f64::from(predictor.correction()[at]) * UNITS[at] * asked.features[at]).sum()
    }

    fn asked(at: u32) -> Asked {
        let part = |prime: u32| f64::from(at * prime % 17) / 17.0;
        Asked::new(0.01, 0.2 * part(3), 0.1 * part(5), at as usize * 7 % 5)
    }

    /// A mirror that takes a third longer than foretold, 5 ms for each request and 2 ms for each other fetch.
    fn truth(asked: &Asked) -> f64 {
        asked.seconds + 0.005 + 0.33 * UNITS[1] * asked.features[1] + 0.002 * UNITS[3] * asked.features[3]
    }

    #[test]
    fn it_says_nothing_before_it_has_seen_enough_and_then_what_is_off() {
        let mut predictor = Predictor::default();
        for at in 0..LEAST - 1 {
            predictor.learn(&asked(at), truth(&asked(at)));
        }
        assert_eq!(predictor.correction(), [0.0; FEATURES]);
        (0..300).for_each(|at| predictor.learn(&asked(at), truth(&asked(at))));
        for at in 300..320 {
            let (said, off) = (said(&predictor, &asked(at)), truth(&asked(at)) - asked(at).seconds);
            assert!((said - off).abs() < 1e-3, "{said} {off}");
        }
        predictor.forget();
        assert_eq!(predictor.correction(), [0.0; FEATURES]);
    }

    #[test]
    fn what_was_so_long_ago_is_forgotten() {
        let mut predictor = Predictor::default();
        (0..300).for_each(|at| predictor.learn(&asked(at), asked(at).seconds * 2.0));
        (0..300).for_each(|at| predictor.learn(&asked(at), asked(at).seconds));
        assert!((300..320).all(|at| said(&predictor, &asked(at)).abs() < 2e-3));
    }

    #[test]
    fn the_same_again_and_again_does_not_make_it_throw_all_over_at_the_next() {
        let mut predictor = Predictor::default();
        (0..300).for_each(|at| predictor.learn(&asked(at), truth(&asked(at))));
        let same = Asked::new(0.01, 0.0, 0.004, 0);
        (0..100_000).for_each(|_| predictor.learn(&same, truth(&same)));
        let trace: f64 = (0..FEATURES).map(|at| predictor.covariance[at][at]).sum();
        assert!(trace < 2.0 * TRACE_MAX, "{trace}");
        // One that is off for once.
        predictor.learn(&asked(5), 1.5 * truth(&asked(5)));
        assert!((said(&predictor, &same) - (truth(&same) - same.seconds)).abs() < 0.02);
    }

    proptest! {
        #[test]
        fn whatever_comes_it_stays_a_number(
            samples in proptest::collection::vec((0.0..10.0f64, 0.0..100.0f64, 0.0..100.0f64, 0usize..40, 0.0..1e4f64), 1..400),
        ) {
            let mut predictor = Predictor::default();
            for (latency, queue, transfer, fetches, seconds) in samples {
                predictor.learn(&Asked::new(latency, queue, transfer, fetches), seconds);
                prop_assert!(predictor.correction().iter().all(|value| value.is_finite()));
                let trace: f64 = (0..FEATURES).map(|at| predictor.covariance[at][at]).sum();
                prop_assert!(trace > 0.0 && trace < 2.0 * TRACE_MAX);
            }
        }
    }
}
