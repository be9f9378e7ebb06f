//! What the slices of one arm have shown, with intervals that need no shape of a distribution.

use super::slice::{Figures, Slice};
use std::collections::VecDeque;

/// Slices of an arm whose figures are kept: a day and more of slices of 10 s, at 24 bytes each.
const SLICES_MAX: usize = 8192;
/// How sure the intervals of one figure are.
const SURE: f64 = 0.99;

/// A figure of an arm: the median over its slices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median over the slices in which anything was to be seen.
    pub value: f64,
    /// Where the median of such slices is, with 99 %: from one slice's value to another's, by their order (Thompson, On
    /// Confidence Ranges for the Median, Annals of Mathematical Statistics 1936). Nothing with fewer than 8 slices.
    pub interval: Option<(f64, f64)>,
}

/// Of one arm.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    figures: VecDeque<Figures>,
    pub(super) slices: u64,
    pub(super) fetches: u64,
    pub(super) reads: u64,
    pub(super) bytes: u64,
    pub(super) busy_seconds: f64,
}

impl Tally {
    /// A slice of it is over.
    pub(super) fn add(&mut self, slice: &Slice, figures: Figures) {
        self.slices += 1;
        self.fetches += slice.fetches;
        self.reads += slice.reads();
        self.bytes += slice.bytes;
        self.busy_seconds += slice.busy_seconds();
        if figures != Figures::default() {
            self.figures.truncate(SLICES_MAX - 1);
            self.figures.push_front(figures);
        }
    }

    pub(super) fn estimate(&self, of: impl Fn(&Figures) -> Option<f64>) -> Option<Estimate> {
        let mut values: Vec<f64> = self.figures.iter().filter_map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        let value = middle(&values)?;
        let interval = outer(values.len()).map(|at| (values[at], values[values.len() - 1 - at]));
        Some(Estimate { value, interval })
    }
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted.get(half).copied(),
        _ => Some((sorted.get(half.checked_sub(1)?)? + sorted.get(half)?) / 2.0),
    }
}

/// The place of the value from which on, and as far from the end, the median lies: it is below the value at place k
/// where fewer than k + 1 of n coins fall on one side.
fn outer(count: usize) -> Option<usize> {
    let mut coin = 0.5f64.powi(count as i32);
    let (mut below, mut place) = (coin, None);
    if coin == 0.0 {
        // So many that the binomial is as good as normal: 2.576 deviations of half a root.
        return Some((count as f64 / 2.0 - 1.288 * (count as f64).sqrt()) as usize);
    }
    for at in 0..count / 2 {
        if 2.0 * below > 1.0 - SURE {
            break;
        }
        place = Some(at);
        coin *= (count - at) as f64 / (at + 1) as f64;
        below += coin;
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_median_is_between_two_values_by_their_place() {
        // Tables of the sign test at 1 %, two-sided: 8: 0, 20: 3, 50: 15, 100: 36.
        for (count, place) in [(0, None), (7, None), (8, Some(0)), (20, Some(3)), (50, Some(15)), (100, Some(36))] {
            assert_eq!(outer(count), place, "{count}");
        }
        assert_eq!((outer(1000), outer(2000)), (Some(458), Some(942)));
    }

    #[test]
    fn the_median_and_its_interval_of_what_is_there() {
        let mut tally = Tally::default();
        for at in 0..20 {
            tally.figures.push_front(Figures { wait_p50: Some(f64::from(at * 7 % 20)), ..Figures::default() });
        }
        let estimate = tally.estimate(|figures| figures.wait_p50).unwrap();
        assert_eq!(estimate, Estimate { value: 9.5, interval: Some((3.0, 16.0)) });
        assert_eq!(tally.estimate(|figures| figures.bytes_per_second), None);
    }
}
