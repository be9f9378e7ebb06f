//! How long it takes from the publication of a read's last page to its answer: a histogram that costs a
//! count for each read that waited.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Steps in each doubling: a quantile is shown at most a quarter too long.
const STEPS: usize = 4;
/// Doublings, from a nanosecond to 17 seconds. What is longer counts as that.
const DOUBLINGS: usize = 34;

/// The histogram. Each count is right by itself; together they may be a few reads apart.
pub struct Handoffs {
    counts: [AtomicU64; STEPS * DOUBLINGS],
    longest_ns: AtomicU64,
}

/// What it shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandoffReport {
    /// Reads that waited and were answered.
    pub count: u64,
    /// Half of them took at most so long.
    pub median: Duration,
    /// Of a hundred, 99 took at most so long.
    pub p99: Duration,
    /// The longest of all.
    pub longest: Duration,
}

impl Default for Handoffs {
    fn default() -> Handoffs {
        Handoffs { counts: std::array::from_fn(|_| AtomicU64::new(0)), longest_ns: AtomicU64::new(0) }
    }
}

impl Handoffs {
    /// One more.
    pub fn add(&self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(took_ns)].fetch_add(1, Ordering::Relaxed);
        self.longest_ns.fetch_max(took_ns, Ordering::Relaxed);
    }

    /// Of all since the mount; none before the first.
    pub fn report(&self) -> Option<HandoffReport> {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let longest = Duration::from_nanos(self.longest_ns.load(Ordering::Relaxed));
        let quantile = |part: f64| {
            let rank = (count as f64 * part).ceil() as u64;
            let below = counts.iter().scan(0, |sum, count| {
                *sum += count;
                Some(*sum)
            });
            let at = below.take_while(|&sum| sum < rank).count();
            Duration::from_nanos(end_ns(at)).min(longest)
        };
        (count > 0).then(|| HandoffReport { count, median: quantile(0.5), p99: quantile(0.99), longest })
    }
}

/// The highest bit says the doubling, the two below it the step.
fn bucket(took_ns: u64) -> usize {
    let took_ns = took_ns.max(STEPS as u64);
    let doubling = took_ns.ilog2() as usize;
    let step = (took_ns >> (doubling - 2)) as usize - STEPS;
    (doubling * STEPS + step).min(STEPS * DOUBLINGS - 1)
}

/// The longest time that falls into a bucket, in nanoseconds.
fn end_ns(bucket: usize) -> u64 {
    let (doubling, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    ((STEPS as u64 + step + 1) << doubling.saturating_sub(2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_where_it_ends_at_most_a_quarter_later() {
        for took_ns in (4..5000).chain([1 << 20, (1 << 30) + 12345]) {
            let end = end_ns(bucket(took_ns));
            assert!(end >= took_ns && end as f64 <= took_ns as f64 * 1.25, "{took_ns} ends at {end}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (bucket(4), STEPS * DOUBLINGS - 1));
    }

    #[test]
    fn quantiles_of_a_hundred() {
        let handoffs = Handoffs::default();
        assert_eq!(handoffs.report(), None);
        for took_us in 1..=100 {
            handoffs.add(Duration::from_micros(took_us));
        }
        let report = handoffs.report().unwrap();
        assert_eq!((report.count, report.longest), (100, Duration::from_micros(100)));
        assert!((50..=63).contains(&report.median.as_micros()), "{report:?}");
        assert!((99..=100).contains(&report.p99.as_micros()), "{report:?}");
    }
}
