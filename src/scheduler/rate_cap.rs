//! Rate caps (spec 1.7): a token bucket of bytes for each mirror that has a cap, and one for all together.
//!
//! A fetch takes the bytes that it asks for out of its buckets when it starts. A bucket holds one smallest fetch
//! and no more, so that over any second at most the cap and one smallest fetch are started.

use super::Scheduler;
use super::lanes::{Lane, Lanes};
use crate::chunk::{CHUNK_BYTES, Class, MirrorId, PAGE_BYTES, Pages};
use crate::clock::Time;
use std::time::Duration;

/// The smallest fetch is so much of a second of the cap, so that no second has more than 2 % above it …
const SMALLEST_SECONDS: f64 = 0.02;
/// … and at least a chunk: below some MB/s smaller ones would be more request than bytes.
const SMALLEST_BYTES_MIN: f64 = CHUNK_BYTES as f64;
/// Rounding may leave a bucket a byte short at its time; a look that comes in vain would be followed by others.
const ROUNDING: Duration = Duration::from_micros(1);

/// What may still be started under one cap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    bytes_per_second: Option<f64>,
    /// At `at`. Below 0 after a fetch that cannot be cut: a whole file.
    left_bytes: f64,
    at: Time,
}

impl Bucket {
    /// Another cap from here on, full to begin with.
    pub fn set(&mut self, now: Time, bytes_per_second: Option<f64>) {
        let bytes_per_second = bytes_per_second.filter(|rate| *rate > 0.0);
        if bytes_per_second != self.bytes_per_second {
            *self = Bucket { bytes_per_second, left_bytes: 0.0, at: now };
            self.left_bytes = self.smallest_bytes().unwrap_or(0.0);
        }
    }

    /// The cap, in bytes per second; without end where there is none.
    pub(super) fn rate(&self) -> f64 {
        self.bytes_per_second.unwrap_or(f64::INFINITY)
    }

    /// What a fetch should have at least, and what it may have at most just now, in bytes. Nothing: no cap.
    pub fn smallest_bytes(&self) -> Option<f64> {
        self.bytes_per_second.map(|rate| (rate * SMALLEST_SECONDS).max(SMALLEST_BYTES_MIN))
    }

    fn left_bytes(&self, now: Time) -> Option<f64> {
        let (rate, full) = (self.bytes_per_second?, self.smallest_bytes()?);
        Some((self.left_bytes + rate * now.seconds_since(self.at)).min(full))
    }

    /// A fetch of so many bytes starts.
    pub fn spend(&mut self, now: Time, bytes: u64) {
        if let Some(left_bytes) = self.left_bytes(now) {
            (self.left_bytes, self.at) = (left_bytes - bytes as f64, now);
        }
    }

    /// When a fetch of so many bytes, or a smallest one, may start, where that is not now.
    pub fn due(&self, now: Time, bytes: f64) -> Option<Time> {
        let (rate, full, left) = (self.bytes_per_second?, self.smallest_bytes()?, self.left_bytes(now)?);
        let bytes = bytes.min(full);
        (left < bytes).then(|| now + Duration::from_secs_f64((bytes - left) / rate) + ROUNDING)
    }
}

/// What the caps leave of a mirror in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    left_bytes: u64,
    smallest_bytes: u64,
}

impl Allowance {
    /// No cap.
    pub(super) const ANY: Allowance = Allowance { left_bytes: u64::MAX, smallest_bytes: 0 };

    fn of(now: Time, buckets: [&Bucket; 2]) -> Allowance {
        buckets.into_iter().fold(Allowance::ANY, |all, bucket| {
            match (bucket.left_bytes(now), bucket.smallest_bytes()) {
                (Some(left), Some(smallest)) => Allowance {
                    left_bytes: all.left_bytes.min(left.max(0.0) as u64),
                    smallest_bytes: if all.smallest_bytes == 0 {
                        smallest as u64
                    } else {
                        all.smallest_bytes.min(smallest as u64)
                    },
                },
                _ => all,
            }
        })
    }

    /// May some of a range of so many bytes start: all of it, or a smallest fetch?
    pub(super) fn allows(&self, bytes: u64) -> bool {
        self.left_bytes >= bytes.min(self.smallest_bytes)
    }
}

impl Lane {
    /// What the caps leave it bounds its fetches, and whether the background gets any.
    pub(super) fn bounded(mut self) -> Lane {
        self.bound();
        self
    }

    fn bound(&mut self) {
        let Allowance { left_bytes, smallest_bytes } = self.allowance;
        if left_bytes != u64::MAX {
            self.fetch_bytes = self.fetch_bytes.min(left_bytes);
            self.room_bytes = if left_bytes < smallest_bytes { 0 } else { self.room_bytes.min(left_bytes) };
        }
    }
}

impl Lanes {
    /// The first pages of `run`, as many as the caps allow to be asked of this lane now.
    pub(super) fn cut(&self, at: usize, run: Pages) -> Pages {
        let pages_max = (self.all[at].allowance.left_bytes / PAGE_BYTES).max(1);
        Pages::new(run.start, run.end.min(run.start.saturating_add(pages_max)))
    }

    /// So many bytes are to start on this lane.
    pub(super) fn spend(&mut self, at: usize, bytes: u64) {
        if !self.capped {
            return;
        }
        let among = if self.all_capped { 0..self.all.len() } else { at..at + 1 };
        for at in among {
            let lane = &mut self.all[at];
            if lane.allowance.left_bytes != u64::MAX {
                lane.allowance.left_bytes = lane.allowance.left_bytes.saturating_sub(bytes);
                lane.bound();
                self.room.set(at, lane.room_bytes > 0);
            }
        }
    }
}

impl Scheduler {
    /// A cap on what this mirror is asked for, in bytes per second; `None`: no cap.
    pub fn set_rate_limit(&mut self, now: Time, mirror: MirrorId, bytes_per_second: Option<f64>) {
        if let Some(mirror) = self.mirror_mut(mirror) {
            mirror.bucket.set(now, bytes_per_second);
            self.dirty = true;
        }
    }

    /// What the caps leave of a mirror.
    pub(super) fn allowance(&self, now: Time, mirror: &Bucket) -> Allowance {
        Allowance::of(now, [mirror, &self.bucket])
    }

    /// Something is queued and a cap holds it back: when to look again. The lanes are those of a pass just now.
    pub(super) fn cap_due(&mut self, now: Time) -> Option<Time> {
        if !self.lanes.capped || self.offline_since.is_some() {
            return None;
        }
        let demand = self.wants.next_pending(Class::Demand, None).and_then(|key| self.wants.get(&key));
        let left = demand.map(|want| Pages::new(want.from, want.pages.end).count() * PAGE_BYTES);
        let bytes = left.map_or(f64::INFINITY, |bytes| bytes as f64);
        let buckets = self.mirrors.iter().map(|mirror| &mirror.bucket).chain([&self.bucket]);
        let due = buckets.filter_map(|bucket| bucket.due(now, bytes)).min()?;
        (left.is_some() || self.any_background()).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn bucket(rate: f64) -> Bucket {
        let mut bucket = Bucket::default();
        bucket.set(Time(0), Some(rate));
        bucket
    }

    #[test]
    fn over_any_second_the_cap_and_one_smallest_fetch_are_started() {
        for rate in [100e3, 1e6, 20e6, 1e9] {
            let mut bucket = bucket(rate);
            let smallest = bucket.smallest_bytes().unwrap();
            let mut starts: Vec<(Time, f64)> = Vec::new();
            let mut now = Time(0) + SECOND;
            while now < Time(0) + 4 * SECOND {
                let allowance = Allowance::of(now, [&bucket, &Bucket::default()]);
                if allowance.allows(8 << 20) {
                    starts.push((now, allowance.left_bytes as f64));
                    bucket.spend(now, allowance.left_bytes);
                }
                now = bucket.due(now, f64::INFINITY).unwrap_or(now);
            }
            for &(from, _) in &starts {
                let inside = starts.iter().filter(|(at, _)| (from..from + SECOND).contains(at));
                let bytes: f64 = inside.map(|(_, bytes)| bytes).sum();
                assert!(bytes <= rate + smallest, "{bytes} of {rate}");
            }
            let bytes: f64 = starts.iter().map(|(_, bytes)| bytes).sum();
            assert!(bytes > 0.99 * 3.0 * rate, "{bytes} of {rate} in 3 s");
        }
    }

    #[test]
    fn a_small_read_needs_no_more_than_its_own_bytes() {
        let mut bucket = bucket(20e6);
        bucket.spend(Time(0), 400_000);
        assert_eq!(bucket.due(Time(0), f64::INFINITY), Some(Time(20_001_000)));
        assert_eq!(bucket.due(Time(0), 20_000.0), Some(Time(1_001_000)));
        let later = |ms: u64| Allowance::of(Time(ms * 1_000_000), [&bucket, &Bucket::default()]);
        assert!(!later(0).allows(4096) && later(1).allows(4096) && !later(1).allows(1 << 20));
        assert!(!later(19).allows(1 << 20) && later(21).allows(1 << 20));
        assert_eq!(bucket.due(Time(20_001_000), f64::INFINITY), None);
    }

    #[test]
    fn the_tighter_of_two_caps_counts_and_none_is_none() {
        let (wide, tight) = (bucket(1e9), bucket(1e6));
        let both = Allowance::of(Time(0), [&wide, &tight]);
        assert_eq!((both.left_bytes, both.smallest_bytes), (CHUNK_BYTES, CHUNK_BYTES));
        assert!(Allowance::of(Time(0), [&Bucket::default(); 2]).allows(u64::MAX));
    }
}
