//! What is counted in one slice of time.

use super::shares::Arm;
use crate::chunk::PAGE_BYTES;
use crate::clock::Time;
use std::time::Duration;

/// Waits of a slice that are kept, in the order in which they end: 16 KiB. A slice of 10 s with more is as well known by
/// these.
const WAITS_MAX: usize = 4096;
/// Fewer waits than this say nothing of a slice …
const WAITS_LEAST: usize = 5;
/// … nor does a slice in which fetches were in flight for less than this part of it.
const BUSY_LEAST: f64 = 0.02;

/// One slice. What is counted begins when nothing is in flight any more that was asked for in the slice before, or in the
/// middle of it at the latest: until then its link is another arm's too.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub(super) arm: Arm,
    /// The number of its block.
    pub(super) block: u64,
    /// Of what is configured.
    pub(super) version: u64,
    begins: Time,
    length: Duration,
    settled_at: Option<Time>,
    /// Fetches in flight that began before it.
    carried: usize,
    /// Anything is in flight, and since when that is not counted yet.
    busy: bool,
    looked_at: Time,
    busy_seconds: f64,
    pub(super) bytes: u64,
    pub(super) fetches: u64,
    waits_seconds: Vec<f64>,
}

/// What one slice says of its arm; nothing where too little happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    /// Bytes per second in which anything was in flight.
    pub(super) bytes_per_second: Option<f64>,
    /// Waits of reads: the mean of the logarithms of their seconds, the median and the P99 in seconds.
    pub(super) wait_log: Option<f64>,
    pub(super) wait_p50: Option<f64>,
    pub(super) wait_p99: Option<f64>,
}

impl Slice {
    /// `live` fetches are in flight as it begins.
    pub(super) fn new(arm: Arm, block: u64, version: u64, begins: Time, length: Duration, live: usize) -> Slice {
        Slice {
            arm,
            block,
            version,
            begins,
            length,
            settled_at: (live == 0).then_some(begins),
            carried: live,
            busy: live > 0,
            looked_at: begins,
            busy_seconds: 0.0,
            bytes: 0,
            fetches: 0,
            waits_seconds: Vec::new(),
        }
    }

    pub(super) fn ends(&self) -> Time {
        self.begins + self.length
    }

    /// Did something that began at `at` begin in the part that counts?
    fn counts(&self, at: Time) -> bool {
        self.settled_at.is_some_and(|settled_at| at >= settled_at) && at < self.ends()
    }

    /// Time has gone on; `live` fetches are in flight from now on.
    pub(super) fn pass(&mut self, now: Time, live: usize) {
        let now = now.min(self.ends());
        let middle = self.begins + self.length / 2;
        if self.settled_at.is_none() && now >= middle {
            self.settled_at = Some(middle);
        }
        if let Some(settled_at) = self.settled_at.filter(|_| self.busy) {
            self.busy_seconds += now.seconds_since(self.looked_at.max(settled_at).min(now));
        }
        (self.looked_at, self.busy) = (now.max(self.looked_at), live > 0);
    }

    /// A fetch begins.
    pub(super) fn began(&mut self, now: Time, live: usize) {
        self.pass(now, live);
        self.fetches += u64::from(self.counts(now));
    }

    /// A fetch that began then is in flight no more.
    pub(super) fn ended(&mut self, now: Time, began: Time, live: usize) {
        self.pass(now, live);
        if began < self.begins && self.settled_at.is_none() {
            self.carried = self.carried.saturating_sub(1);
            self.settled_at = (self.carried == 0).then_some(now);
        }
    }

    /// Bytes came that were not held.
    pub(super) fn came(&mut self, now: Time, bytes: u64) {
        self.bytes += if self.counts(now) { bytes } else { 0 };
    }

    /// A read is answered that began to wait then. Returns whether it was one of this slice.
    pub(super) fn waited(&mut self, began: Time, waited: Duration) -> bool {
        let counts = self.counts(began);
        if counts && self.waits_seconds.len() < WAITS_MAX {
            self.waits_seconds.push(waited.as_secs_f64());
        }
        counts
    }

    pub(super) fn reads(&self) -> u64 {
        self.waits_seconds.len() as u64
    }

    pub(super) fn busy_seconds(&self) -> f64 {
        self.busy_seconds
    }

    /// What it says.
    pub(super) fn figures(&self) -> Figures {
        let busy = self.busy_seconds >= BUSY_LEAST * self.length.as_secs_f64();
        // One in which fetches brought nothing says a lot, and its logarithm must be one.
        let bytes_per_second = busy.then(|| self.bytes.max(PAGE_BYTES) as f64 / self.busy_seconds);
        if self.waits_seconds.len() < WAITS_LEAST {
            return Figures { bytes_per_second, ..Figures::default() };
        }
        let logs = self.waits_seconds.iter().map(|seconds| seconds.max(1e-6).ln());
        let quantiles = super::super::distribution::quantiles(self.waits_seconds.clone());
        Figures {
            bytes_per_second,
            wait_log: Some(logs.sum::<f64>() / self.waits_seconds.len() as f64),
            wait_p50: quantiles.map(|(p50, _)| p50),
            wait_p99: quantiles.map(|(_, p99)| p99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Time {
        Time(ms * MS)
    }

    fn slice(live: usize) -> Slice {
        Slice::new(Arm::Control, 0, 1, at(1000), Duration::from_secs(10), live)
    }

    #[test]
    fn what_the_arm_before_asked_for_is_waited_for() {
        let mut slice = slice(2);
        slice.came(at(1100), 1000);
        slice.began(at(1200), 3);
        assert!(!slice.waited(at(1200), Duration::from_millis(5)));
        slice.ended(at(1300), at(900), 2);
        slice.ended(at(1400), at(1200), 1);
        slice.ended(at(1500), at(950), 0);
        assert_eq!((slice.bytes, slice.fetches, slice.busy_seconds), (0, 0, 0.0));
        slice.began(at(2000), 1);
        slice.came(at(2100), 1000);
        slice.ended(at(3000), at(2000), 0);
        assert_eq!((slice.bytes, slice.fetches, slice.busy_seconds), (1000, 1, 1.0));
        assert!(slice.waited(at(1500), Duration::from_millis(5)) && !slice.waited(at(1499), Duration::from_millis(5)));
    }

    #[test]
    fn but_no_longer_than_to_the_middle() {
        let mut slice = slice(1);
        slice.pass(at(5999), 1);
        slice.came(at(5999), 1000);
        slice.pass(at(20_000), 1);
        assert_eq!((slice.bytes, slice.busy_seconds), (0, 5.0));
        assert!(
            slice.waited(at(6000), Duration::from_millis(5)) && !slice.waited(at(11_000), Duration::from_millis(5))
        );
    }

    #[test]
    fn a_slice_in_which_little_happened_says_nothing_and_one_that_brought_nothing_does() {
        let mut slice = slice(0);
        slice.began(at(2000), 1);
        slice.ended(at(2100), at(2000), 0);
        assert_eq!(slice.figures(), Figures::default());
        slice.began(at(3000), 1);
        slice.pass(at(5000), 1);
        assert!(slice.figures().bytes_per_second.is_some_and(|rate| rate < 4096.0));
        (0..9).for_each(|ms| _ = slice.waited(at(3000), Duration::from_millis(10 + ms)));
        let figures = slice.figures();
        assert!((figures.wait_p50.unwrap() - 0.014).abs() < 1e-3, "{figures:?}");
    }
}
