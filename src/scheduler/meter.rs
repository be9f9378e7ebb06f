//! What is measured of a link: its rate while it is busy, and its time to first byte.

use crate::clock::Time;
use std::time::Duration;

/// How much busy time the rate looks back on. After 300 ms a new rate makes up six sevenths of it; below
/// 100 ms the bursts of a shaped link would show as changes.
const MEMORY_SECONDS: f64 = 0.15;
/// The rate of one fetch only says whether it is late: it looks back less far, to say so sooner.
const FETCH_MEMORY_SECONDS: f64 = 0.1;
/// What is supposed before anything is known counts like so much busy time, so that the burst with which
/// shaped links begin does not pass for their rate.
const SUPPOSED_SECONDS: f64 = 0.03;
/// But no more than so many bytes do, or a mirror that was fast once and is slow now would be believed for long.
const SUPPOSED_BYTES: f64 = 300e3;
/// A rate is known after so many bytes: one first fetch.
const KNOWN_BYTES: u64 = 128 << 10;
/// Small bodies that were here so soon after their headers had waited in a socket or came in the burst with which a shaped
/// link begins; what is left of them to time is how soon we looked.
const SHORT_SECONDS: f64 = 0.005;
/// And so are those of which most was here at once, unless the rest took so long that it must be the link.
const FLOW_SECONDS: f64 = 0.05;
/// A slow rate that was last measured so long ago is doubted more and more.
const DOUBT_AFTER_SECONDS: f64 = 10.0;
/// And after this much longer two thirds of it are doubt.
const DOUBT_SECONDS: f64 = 30.0;

/// What an answer behind our own bytes says of the queue of a busy link: the last few make up most of it, since it
/// fills and drains within some of them.
const BUSY_GAIN: f64 = 0.25;

/// The rate of a link, or of one fetch on it: bytes over busy time, older ones counting less.
///
/// Time in which nothing was asked of it does not count, so a slow reader does not make a slow mirror.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    memory_seconds: f64,
    bytes: f64,
    seconds: f64,
    /// Both of them when bytes began to flow.
    before: (f64, f64),
    /// Since then: what was here at once, and what came after that.
    burst_bytes: u64,
    flowed_bytes: u64,
    at: Time,
    busy_since: Option<Time>,
    total_bytes: u64,
}

impl Meter {
    /// Nothing measured, `supposed` bytes per second.
    pub(super) fn new(supposed: f64) -> Meter {
        Meter {
            memory_seconds: MEMORY_SECONDS,
            bytes: supposed * SUPPOSED_SECONDS,
            seconds: SUPPOSED_SECONDS,
            before: (supposed * SUPPOSED_SECONDS, SUPPOSED_SECONDS),
            burst_bytes: 0,
            flowed_bytes: 0,
            at: Time(0),
            busy_since: None,
            total_bytes: 0,
        }
    }

    /// The same for one fetch.
    pub(super) fn of_fetch(supposed: f64) -> Meter {
        Meter { memory_seconds: FETCH_MEMORY_SECONDS, ..Meter::new(supposed) }
    }

    /// Bytes are about to flow.
    pub(super) fn start(&mut self, now: Time) {
        if self.busy_since.is_none() {
            self.busy_since = Some(now);
            self.before = (self.bytes, self.seconds);
            (self.burst_bytes, self.flowed_bytes) = (0, 0);
            self.at = now;
        }
    }

    /// Nothing flows any more. What flowed too shortly says nothing of the link.
    pub(super) fn stop(&mut self, now: Time) {
        let Some(since) = self.busy_since else { return };
        if self.says_nothing(since) && now.seconds_since(self.at) < SHORT_SECONDS {
            (self.bytes, self.seconds) = self.before;
            self.total_bytes -= self.flowed_bytes;
        } else {
            self.add(now, 0);
        }
        self.busy_since = None;
    }

    fn says_nothing(&self, since: Time) -> bool {
        if self.burst_bytes + self.flowed_bytes >= KNOWN_BYTES {
            return false;
        }
        let seconds = self.at.seconds_since(since);
        seconds < SHORT_SECONDS || seconds < FLOW_SECONDS && self.flowed_bytes < self.burst_bytes
    }

    /// So many bytes came since the last call.
    pub(super) fn add(&mut self, now: Time, bytes: u64) {
        let Some(since) = self.busy_since else { return };
        // What came with the headers waited in a socket: it took no time that we saw.
        if since == now {
            self.burst_bytes += bytes;
            return;
        }
        self.flowed_bytes += bytes;
        let passed = now.seconds_since(self.at);
        let keep = (-passed / self.memory_seconds).exp();
        self.bytes = self.bytes * keep + bytes as f64;
        self.seconds = self.seconds * keep + passed;
        self.at = self.at.max(now);
        self.total_bytes += bytes;
    }

    /// Is it more than a supposition?
    pub(super) fn known(&self) -> bool {
        self.total_bytes >= KNOWN_BYTES
    }

    /// Replace what was supposed, while it is no more than that.
    pub(super) fn suppose(&mut self, rate: f64) {
        if !self.begun() {
            let seconds = SUPPOSED_SECONDS.min(SUPPOSED_BYTES / rate);
            *self = Meter { bytes: rate * seconds, seconds, ..Meter::new(rate) };
        }
    }

    /// Has any of its bytes come, or begun to?
    pub(super) fn begun(&self) -> bool {
        self.total_bytes > 0 || self.busy_since.is_some()
    }

    /// Bytes per second. Silence while bytes should flow counts; `supposed` comes back with age.
    pub(super) fn rate(&self, now: Time, supposed: f64) -> f64 {
        let silent = if self.busy_since.is_some() { now.seconds_since(self.at) } else { 0.0 };
        let keep = (-silent / self.memory_seconds).exp();
        let rate = (self.bytes * keep / (self.seconds * keep + silent)).max(1.0);
        let age = now.seconds_since(self.at) - DOUBT_AFTER_SECONDS;
        if self.busy_since.is_some() || age <= 0.0 || rate >= supposed {
            return rate;
        }
        rate + (supposed - rate) * (1.0 - (-age / DOUBT_SECONDS).exp())
    }
}

/// The time from request to first byte: what it is without our own bytes before it, and how it varies.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    mean_seconds: Option<f64>,
    deviation_seconds: f64,
    /// Of answers that had bytes of ours before them.
    busy_seconds: Option<f64>,
    /// When the last sample came.
    pub(super) at: Option<Time>,
}

impl Latency {
    /// One answer. `queued`: bytes of ours were on the link before it, so it says little of the mirror.
    pub(super) fn add(&mut self, now: Time, sample: Duration, queued: bool) {
        let sample = sample.as_secs_f64();
        self.at = Some(now);
        if queued {
            let busy = self.busy_seconds.unwrap_or(sample);
            self.busy_seconds = Some(busy + BUSY_GAIN * (sample - busy));
        }
        let Some(mean) = self.mean_seconds else {
            self.mean_seconds = Some(sample);
            self.deviation_seconds = sample / 2.0;
            return;
        };
        // Down at once, up slowly, and hardly at all where our own bytes were in the way.
        let gain = if sample < mean {
            0.5
        } else if queued {
            0.02
        } else {
            0.125
        };
        self.deviation_seconds +=
            0.25 * ((sample - mean).abs() - self.deviation_seconds) * if queued { 0.1 } else { 1.0 };
        self.mean_seconds = Some(mean + gain * (sample - mean));
    }

    /// The usual time, where one is known.
    pub(super) fn seconds(&self) -> Option<f64> {
        self.mean_seconds
    }

    /// The usual time while it has bytes of ours to send before: at least the usual one.
    pub(super) fn busy_seconds(&self) -> Option<f64> {
        self.busy_seconds.map(|busy| busy.max(self.mean_seconds.unwrap_or_default()))
    }

    /// The usual and four deviations: later than that is unusual.
    pub(super) fn unusual_seconds(&self) -> Option<f64> {
        self.mean_seconds.map(|mean| mean + 4.0 * self.deviation_seconds)
    }

    /// Four times the usual, and four deviations: later than that is late.
    pub(super) fn late_seconds(&self) -> Option<f64> {
        self.mean_seconds.map(|mean| 4.0 * (mean + self.deviation_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn feed(meter: &mut Meter, from_ms: u64, to_ms: u64, bytes_per_ms: u64) {
        (from_ms + 1..=to_ms).for_each(|at| meter.add(Time(at * MS), bytes_per_ms));
    }

    #[test]
    fn a_change_of_rate_shows_within_300_ms_and_idle_time_does_not() {
        let mut meter = Meter::new(10e6);
        meter.start(Time(0));
        feed(&mut meter, 0, 2000, 40_000);
        assert!((meter.rate(Time(2000 * MS), 1e6) - 40e6).abs() < 1e6);
        feed(&mut meter, 2000, 2300, 5_000);
        let rate = meter.rate(Time(2300 * MS), 1e6);
        assert!(rate < 15e6, "{rate}");
        feed(&mut meter, 2300, 4000, 5_000);
        meter.stop(Time(4000 * MS));
        let rate = meter.rate(Time(9000 * MS), 1e6);
        assert!((rate - 5e6).abs() < 1e5, "five idle seconds changed it to {rate}");
        assert!(meter.rate(Time(60_000 * MS), 10e6) > 6e6, "an old slow rate is doubted");
    }

    #[test]
    fn silence_while_bytes_should_flow_counts() {
        let mut meter = Meter::new(10e6);
        meter.start(Time(0));
        feed(&mut meter, 0, 1000, 20_000);
        assert!(meter.rate(Time(1500 * MS), 1e6) < 5e6);
    }

    #[test]
    fn small_bodies_that_come_with_their_headers_do_not_make_a_slow_link() {
        let mut meter = Meter::new(10e6);
        for at in 0..1000 {
            meter.start(Time(at * 10 * MS));
            meter.add(Time(at * 10 * MS), 61440);
            meter.add(Time(at * 10 * MS + 4 * MS), 4096);
            meter.stop(Time(at * 10 * MS + 4 * MS + MS / 10));
        }
        assert!((meter.rate(Time(10_000 * MS), 10e6) - 10e6).abs() < 1.0);
    }

    #[test]
    fn the_first_burst_is_not_the_rate() {
        let mut meter = Meter::new(10e6);
        meter.start(Time(0));
        meter.add(Time(MS / 4), 256 << 10);
        assert!(meter.rate(Time(MS / 4), 1e6) < 25e6);
    }

    #[test]
    fn our_own_queue_is_not_the_mirrors_latency() {
        let mut latency = Latency::default();
        latency.add(Time(0), Duration::from_millis(10), false);
        for _ in 0..10 {
            latency.add(Time(0), Duration::from_millis(200), true);
        }
        assert!(latency.seconds().unwrap() < 0.06);
        for _ in 0..40 {
            latency.add(Time(0), Duration::from_millis(200), false);
        }
        assert!(latency.seconds().unwrap() > 0.18);
    }
}
