//! What is measured of a mirror: its rate while it is busy, and its time to first byte.
//!
//! The rate is what came in the sliding window, as it is; where round trips vary much, or the window has a silence in
//! it, a moving average of the same samples (spec 2.3).

use super::average::{Average, Flow, KNOWN_BYTES, SHORT_SECONDS};
use super::window::Window;
use crate::clock::Time;
use std::time::Duration;

/// How much busy time the moving average looks back on. After 300 ms a new rate makes up six sevenths of it.
const MEMORY_SECONDS: f64 = 0.15;
/// Jitter is high above this. Answers that come so much sooner or later carry so much of the window's bytes across
/// one of its ends: a tenth of what is measured would be chance.
const JITTER_HIGH_SECONDS: f64 = 0.02;
/// With less busy time than this behind it, 10 ms of silence take more than a tenth of a rate.
const YOUNG_SECONDS: f64 = 0.1;
/// A slow rate that was last measured so long ago is doubted more and more.
const DOUBT_AFTER_SECONDS: f64 = 10.0;
/// And after this much longer it is two thirds of the way to what was supposed, in equal factors: in equal steps a
/// very slow mirror would look ten times as fast a second later.
const DOUBT_SECONDS: f64 = 30.0;

/// What an answer behind our own bytes says of the queue of a busy link: the last few make up most of it, since it
/// fills and drains within some of them.
const BUSY_GAIN: f64 = 0.25;

/// The rate of a mirror. Time in which nothing was asked of it does not count.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    average: Average,
    window: Window,
    /// Jitter was high when last looked, or is not known: the average is the rate.
    pub(super) filtered: bool,
    /// The part of its rate that it lost in the window when last looked, 0 to 1.
    pub(super) decay: f64,
}

impl Meter {
    /// Nothing measured, `supposed` bytes per second.
    pub(super) fn new(supposed: f64) -> Meter {
        Meter {
            average: Average::new(supposed, MEMORY_SECONDS),
            window: Window::new(supposed),
            filtered: true,
            decay: 0.0,
        }
    }

    /// Bytes are about to flow.
    pub(super) fn start(&mut self, now: Time) {
        self.average.start(now);
    }

    /// Nothing flows any more. What flowed too shortly says nothing of the link.
    pub(super) fn stop(&mut self, now: Time) {
        match self.average.tells() || now.seconds_since(self.average.came_at) >= SHORT_SECONDS {
            true => self.take(now),
            false => self.average.discard(),
        }
        self.average.stop();
    }

    /// So many bytes came since the last call.
    pub(super) fn came(&mut self, now: Time, bytes: u64) {
        self.average.came(now, bytes);
    }

    /// One of its transfers is sampled, and so is what all of them brought since the last sample, once that says
    /// something of the link.
    pub(super) fn sample(&mut self, now: Time) {
        if self.average.tells() {
            self.take(now);
        }
    }

    fn take(&mut self, now: Time) {
        if let Some(sample) = self.average.sample(now) {
            self.window.add(sample);
        }
    }

    /// The look that each mirror gets every period of the window: how jittery its round trips are decides how its
    /// rate is read until the next one.
    pub(super) fn look(&mut self, jitter_seconds: Option<f64>) {
        self.filtered = jitter_seconds.is_none_or(|jitter| jitter > JITTER_HIGH_SECONDS);
        self.decay = self.window.decay();
    }

    /// Is it more than a supposition?
    pub(super) fn known(&self) -> bool {
        self.average.total_bytes >= KNOWN_BYTES
    }

    /// Is so little of it measured that some ms of silence change the rate by more than a tenth?
    pub(super) fn young(&self) -> bool {
        self.flow().seconds < YOUNG_SECONDS
    }

    /// When the last sample was taken.
    pub(super) fn learned_at(&self) -> Option<Time> {
        (self.average.total_bytes > 0).then_some(self.average.at)
    }

    /// Replace what was supposed, while it is no more than that.
    pub(super) fn suppose(&mut self, rate: f64) {
        if !self.begun() {
            *self = Meter::new(rate);
        }
    }

    /// Has any of its bytes come, or begun to?
    pub(super) fn begun(&self) -> bool {
        self.average.total_bytes > 0 || self.average.busy()
    }

    /// Bytes per second. Silence while bytes should flow counts; `supposed` comes back with age.
    pub(super) fn rate(&self, now: Time, supposed: f64) -> f64 {
        let rate = self.average.rate_after(self.flow(), now);
        let age = now.seconds_since(self.average.at) - DOUBT_AFTER_SECONDS;
        if self.average.busy() || age <= 0.0 || rate >= supposed {
            return rate;
        }
        supposed * (rate / supposed).powf((-age / DOUBT_SECONDS).exp())
    }

    /// From when on its rate changes although nothing happens to it.
    pub(super) fn doubted_at(&self) -> Time {
        self.average.at + Duration::from_secs_f64(DOUBT_AFTER_SECONDS)
    }
}

impl Meter {
    /// What the rate is made of: the window as it is, or the moving average.
    fn flow(&self) -> Flow {
        if self.filtered || !self.window.steady { self.average.flow } else { self.window.flow }
    }
}

/// How much one answer counts in the jitter: the gain of RFC 3550, a good compromise of noise and speed.
const JITTER_GAIN: f64 = 1.0 / 16.0;

/// The time from request to first byte: what it is without our own bytes before it, and how it varies.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    mean_seconds: Option<f64>,
    deviation_seconds: f64,
    /// Of answers that had bytes of ours before them.
    busy_seconds: Option<f64>,
    last_seconds: f64,
    jitter_seconds: Option<f64>,
    /// When the last sample came.
    pub(super) at: Option<Time>,
}

impl Latency {
    /// One answer. `queued`: bytes of ours were on the link before it, so it says little of the mirror.
    pub(super) fn add(&mut self, now: Time, sample: Duration, queued: bool) {
        let sample = sample.as_secs_f64();
        self.at = Some(now);
        let last = std::mem::replace(&mut self.last_seconds, sample);
        if queued {
            let busy = self.busy_seconds.unwrap_or(sample);
            self.busy_seconds = Some(busy + BUSY_GAIN * (sample - busy));
        }
        let Some(mean) = self.mean_seconds else {
            self.mean_seconds = Some(sample);
            self.deviation_seconds = sample / 2.0;
            return;
        };
        let differs = (sample - last).abs();
        let jitter = self.jitter_seconds.unwrap_or(differs);
        self.jitter_seconds = Some(jitter + JITTER_GAIN * (differs - jitter));
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

    /// Round-trip jitter as in RFC 3550, 6.4.1 and A.8: `J += (|D| - J) / 16`, where D is by how much two answers in a
    /// row differ; it begins with the first D, not with 0. What our own bytes before an answer add is jitter too: it
    /// moves bytes across the ends of a window all the same. Nothing before the second answer.
    pub(super) fn jitter_seconds(&self) -> Option<f64> {
        self.jitter_seconds
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

    /// Reports every millisecond, a sample every ten.
    fn feed(meter: &mut Meter, from_ms: u64, to_ms: u64, bytes_per_ms: u64) {
        for at in from_ms + 1..=to_ms {
            meter.came(Time(at * MS), bytes_per_ms);
            if at % 10 == 0 {
                meter.sample(Time(at * MS));
            }
        }
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
    fn low_jitter_is_measured_directly_and_high_jitter_or_none_known_is_averaged() {
        let jitter = |ms: f64| Some(ms / 1e3);
        for (jitter, filtered) in [(jitter(0.0), false), (jitter(20.0), false), (jitter(20.1), true), (None, true)] {
            let mut meter = Meter::new(10e6);
            meter.start(Time(0));
            feed(&mut meter, 0, 2000, 40_000);
            meter.look(jitter);
            feed(&mut meter, 2000, 2300, 5_000);
            let rate = meter.rate(Time(2300 * MS), 1e6);
            match filtered {
                true => assert!((8e6..12e6).contains(&rate), "{jitter:?}: {rate}"),
                false => assert!((rate - 5e6).abs() < 1e5, "{jitter:?}: {rate}"),
            }
        }
    }

    #[test]
    fn a_silence_that_fills_the_window_is_no_rate() {
        let mut meter = Meter::new(10e6);
        meter.start(Time(0));
        feed(&mut meter, 0, 2000, 20_000);
        meter.look(Some(0.0));
        // All that is left of the last answer is given up after 300 ms of silence.
        meter.stop(Time(2300 * MS));
        let rate = meter.rate(Time(2300 * MS), 1e6);
        assert!(rate > 1e6, "it would never be asked again: {rate}");
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
            meter.came(Time(at * 10 * MS), 61440);
            meter.came(Time(at * 10 * MS + 4 * MS), 4096);
            meter.stop(Time(at * 10 * MS + 4 * MS + MS / 10));
        }
        assert!((meter.rate(Time(10_000 * MS), 10e6) - 10e6).abs() < 1.0);
    }

    #[test]
    fn the_first_burst_is_not_the_rate() {
        let mut meter = Meter::new(10e6);
        meter.start(Time(0));
        meter.came(Time(MS / 4), 256 << 10);
        meter.sample(Time(MS / 4));
        assert!(meter.rate(Time(MS / 4), 1e6) < 25e6);
    }

    #[test]
    fn jitter_is_by_how_much_answers_in_a_row_differ() {
        let mut latency = Latency::default();
        let mut add = |ms| {
            latency.add(Time(0), Duration::from_millis(ms), false);
            latency.jitter_seconds()
        };
        assert_eq!(add(100), None);
        let jitter = add(116).unwrap();
        assert!((jitter - 0.016).abs() < 1e-9, "{jitter}");
        let jitter = add(116).unwrap();
        assert!((jitter - 0.015).abs() < 1e-9, "a sixteenth less: {jitter}");
        let jitter = (0..100).filter_map(|at| add(100 + 20 * (at % 2))).last().unwrap();
        assert!((jitter - 0.02).abs() < 1e-4, "{jitter}");
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
