//! A mean with an interval that holds at any time: looking often, and stopping when it shows something, is allowed.

/// Over the square root of this the true mean is supposed to be, in standard deviations of one value, before any is
/// seen: the interval is the shortest where that is about so. A difference of a fifth between arms is one to two
/// deviations of a block's. Another value costs length, never validity.
const MIXING: f64 = 1.0;

/// Values that come one after the other; their mean is wanted, and their variance is not known.
///
/// The interval is the confidence sequence that belongs to the t test with a Gaussian mixture over the effect size:
/// the likelihood ratio of the maximal scale-invariant reduction (Lai, On Confidence Sequences, Annals of Statistics
/// 1976), whose closed form is the Bayes factor of Gönen et al. (The Bayesian Two-Sample t Test, The American
/// Statistician 2005): with n values that sum to S and whose squares sum to V, and c² = [`MIXING`],
///
/// ```text
/// E = sqrt(c² / (n + c²)) * ((n + c²) V / ((n + c²) V - S²))^(n/2)
/// ```
///
/// It is a nonnegative martingale of mean 1 where the true mean is 0 (Wang and Ramdas, Anytime-Valid t-Tests and
/// Confidence Sequences for Gaussian Means with Unknown Variance, Sequential Analysis 2025), so by Ville's inequality it
/// is ever above 1/α with probability α at most. The interval has every m for which E of the values less m is not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequence {
    count: u64,
    mean: f64,
    /// Of the squared distances from the mean.
    squares: f64,
}

impl Sequence {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// Where the true mean is, at all times with a probability of 1 - `alpha`; nothing while that may be anywhere.
    pub(super) fn interval(&self, alpha: f64) -> Option<(f64, f64)> {
        let n = self.count as f64;
        if self.count < 2 || self.squares <= 0.0 {
            return None;
        }
        // With w = n (mean - m)² / squares, E is sqrt(r) ((1 + w) / (1 + r w))^(n/2).
        let r = MIXING / (n + MIXING);
        let most = (1.0 / (alpha * r.sqrt())).powf(2.0 / n);
        if most * r >= 1.0 {
            return None;
        }
        let w = (most - 1.0) / (1.0 - most * r);
        let half = (self.squares * w / n).sqrt();
        Some((self.mean - half, self.mean + half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// As in the doc, without the algebra.
    fn evidence(values: &[f64], m: f64) -> f64 {
        let n = values.len() as f64;
        let (sum, squares) = values.iter().fold((0.0, 0.0), |(s, v), x| (s + x - m, v + (x - m).powi(2)));
        let scaled = (n + MIXING) * squares;
        (MIXING / (n + MIXING)).sqrt() * (scaled / (scaled - sum * sum)).powf(n / 2.0)
    }

    fn gauss(rng: &mut StdRng) -> f64 {
        (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
    }

    proptest! {
        #[test]
        fn the_ends_are_where_the_evidence_is_one_over_alpha(
            values in proptest::collection::vec(-5.0..5.0f64, 12..60),
            alpha in 0.001..0.1f64,
        ) {
            let mut sequence = Sequence::default();
            values.iter().for_each(|&value| sequence.add(value));
            let (low, high) = sequence.interval(alpha).unwrap();
            for end in [low, high] {
                prop_assert!((evidence(&values, end) * alpha - 1.0).abs() < 1e-6);
            }
            prop_assert!(evidence(&values, sequence.mean().unwrap()) < 1.0);
        }
    }

    #[test]
    fn a_few_values_show_nothing_and_many_show_where_the_mean_is() {
        let (mut sequence, mut rng) = (Sequence::default(), StdRng::seed_from_u64(1));
        assert_eq!((sequence.mean(), sequence.interval(0.01)), (None, None));
        for count in 1..=200 {
            sequence.add(0.2 + 0.1 * gauss(&mut rng));
            assert!(count > 3 || sequence.interval(0.01).is_none(), "{count}");
        }
        let (low, high) = sequence.interval(0.01).unwrap();
        assert!(low > 0.15 && high < 0.25, "{low} {high}");
    }

    #[test]
    fn looked_at_after_each_value_it_is_wrong_as_seldom_as_promised() {
        let wrong = (0..2000).filter(|&seed| {
            let (mut sequence, mut rng) = (Sequence::default(), StdRng::seed_from_u64(seed));
            (0..150).any(|_| {
                sequence.add(gauss(&mut rng));
                sequence.interval(0.05).is_some_and(|(low, high)| low > 0.0 || high < 0.0)
            })
        });
        // 100 would be 5 %, and three deviations are 29.
        assert!(wrong.count() <= 100);
    }
}
