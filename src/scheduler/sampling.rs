//! How often a transfer's progress is sampled: the more bandwidth it has, the more often (spec 2.4).
//!
//! Body bytes are told as they come; what came between two samples is summed up. A slow transfer has little to say
//! in 40 ms, and a fast one has said all that the windows ask for in 10 ms, however many reports that was.

use super::average::Average;
use crate::clock::Time;
use std::time::Duration;

/// At or under this bandwidth a transfer is sampled [`SLOW_HZ`] times a second …
const SLOW_KBIT_PER_SECOND: f64 = 50.0;
const SLOW_HZ: f64 = 25.0;
/// … at or over this [`FAST_HZ`] times, and linearly between them. More often would see the gaps between packets.
const FAST_KBIT_PER_SECOND: f64 = 200.0;
const FAST_HZ: f64 = 100.0;
/// The rate of one fetch only says whether it is late: it looks back less far than its mirror's, to say so sooner.
const MEMORY_SECONDS: f64 = 0.1;

/// Samples a second of a transfer that has so much bandwidth: `25 + (bw - 50) * 75 / 150`, from 25 to 100.
pub(super) fn hertz(kbit_per_second: f64) -> f64 {
    let over = kbit_per_second.clamp(SLOW_KBIT_PER_SECOND, FAST_KBIT_PER_SECOND) - SLOW_KBIT_PER_SECOND;
    SLOW_HZ + over * (FAST_HZ - SLOW_HZ) / (FAST_KBIT_PER_SECOND - SLOW_KBIT_PER_SECOND)
}

/// The time between two samples of it.
fn period(bytes_per_second: f64) -> Duration {
    Duration::from_secs_f64(1.0 / hertz(bytes_per_second * 8.0 / 1e3))
}

/// The progress of one transfer, and the rate that its samples say.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    rate: Average,
    due: Time,
}

impl Progress {
    /// No byte came yet; `supposed` bytes per second will.
    pub(super) fn new(supposed: f64) -> Progress {
        Progress { rate: Average::new(supposed, MEMORY_SECONDS), due: Time(0) }
    }

    /// Its body begins.
    pub(super) fn start(&mut self, now: Time) {
        self.rate.start(now);
        self.due = now + period(self.rate(now));
    }

    /// So many bytes came. Returns whether it is time for a sample; it is taken here, and its mirror's is due too.
    pub(super) fn came(&mut self, now: Time, bytes: u64) -> bool {
        self.rate.came(now, bytes);
        if now < self.due {
            return false;
        }
        self.rate.sample(now);
        self.due = now + period(self.rate(now));
        true
    }

    /// Bytes per second.
    pub(super) fn rate(&self, now: Time) -> f64 {
        self.rate.rate(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_often_as_the_bandwidth_says() {
        let expected = [
            (0.0, 25.0),
            (49.0, 25.0),
            (50.0, 25.0),
            (51.0, 25.5),
            (125.0, 62.5),
            (199.0, 99.5),
            (200.0, 100.0),
            (201.0, 100.0),
            (8e6, 100.0),
        ];
        for (kbit_per_second, hz) in expected {
            assert!((hertz(kbit_per_second) - hz).abs() < 1e-9, "{kbit_per_second} kbit/s");
        }
    }

    /// Samples in four seconds of a transfer that tells its bytes every millisecond.
    fn samples(bytes_per_second: f64) -> usize {
        let mut progress = Progress::new(bytes_per_second);
        progress.start(Time(0));
        let told = (1..=4000).map(|ms| Time(ms * 1_000_000));
        told.filter(|&at| progress.came(at, (bytes_per_second / 1e3) as u64)).count()
    }

    #[test]
    fn reports_between_two_samples_are_summed_up() {
        for (bytes_per_second, count) in [(2e3, 100), (6e3, 99), (25e3, 400), (10e6, 400)] {
            let taken = samples(bytes_per_second);
            assert!(taken.abs_diff(count) <= 4, "{bytes_per_second} B/s: {taken} of {count}");
        }
        let mut progress = Progress::new(10e6);
        progress.start(Time(0));
        for ms in 1..=1000 {
            progress.came(Time(ms * 1_000_000), 10_000);
            let rate = progress.rate(Time(ms * 1_000_000));
            assert!((rate / 10e6 - 1.0).abs() < 0.01, "what is not sampled yet counts: {rate} at {ms} ms");
        }
    }
}
