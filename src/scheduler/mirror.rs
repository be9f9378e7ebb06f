//! What is known of one mirror, and what it has in flight.

use super::breaker::Breaker;
use super::connections::Connections;
use super::distribution::{Bounds, Distribution};
use super::drift::Drift;
use super::event::Failure;
use super::history::Before;
use super::meter::{Latency, Meter};
use super::predictor::Predictor;
use super::rate_cap::Bucket;
use super::settings::Settings;
use super::stability::Stability;
use super::trouble::Trouble;
use super::weight::Weight;
use crate::chunk::Inode;
use crate::clock::Time;
use std::collections::BTreeSet;
use std::time::Duration;

/// What a mirror is supposed to bring before any is known, in bytes per second: modest for a public
/// mirror, so that the first fetches are small, and more than an awful one, so that each gets one.
pub(super) const SUPPOSED_RATE: f64 = 10e6;
/// And its supposed time to first byte: optimistic, or a mirror would never be tried.
pub(super) const SUPPOSED_LATENCY_SECONDS: f64 = 0.02;
/// A fetch takes about this long of its share of the link: short enough that a stall has little to move, long
/// enough that a request costs little …
const FETCH_SECONDS: f64 = 0.2;
/// … and that a round trip is a small part of it.
const FETCH_ROUND_TRIPS: f64 = 8.0;
/// In flight at a time: this much of its rate, beside what two round trips hold, so that the link never
/// idles between fetches.
const WINDOW_SECONDS: f64 = 0.2;
/// With less than this on its way a link is about to idle: a round trip until the next answer begins, and
/// another that the figure may be wrong by.
const FILLED_ROUND_TRIPS: f64 = 2.0;
/// Its times to first byte are of the last minute, or the last few of ten minutes where it answers seldom: a median of
/// fewer says nothing. At most 4 KiB of them, for a thousand mirrors fit in memory then.
const FIRST_BYTES: Bounds =
    Bounds { length: Duration::from_secs(60), wanted: 32, length_max: Duration::from_secs(600), count_max: 256 };
/// The first fetch of a mirror of which nothing is known.
pub(super) const FIRST_FETCH_BYTES: u64 = 128 << 10;

/// How often a mirror failed in each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// No connection, reset, timeout, 5xx.
    pub unreachable: u64,
    /// 429 or 503.
    pub throttled: u64,
    /// 404 or 410.
    pub missing: u64,
    /// Another version of the file.
    pub changed: u64,
    /// Not the range that was asked for.
    pub corrupt: u64,
    /// 401, 403, a redirect that policy forbids.
    pub refused: u64,
    /// Bytes stopped coming, or the first came too late.
    pub stalled: u64,
}

impl Failures {
    /// All together.
    pub fn total(&self) -> u64 {
        self.unreachable + self.throttled + self.missing + self.changed + self.corrupt + self.refused + self.stalled
    }

    pub(super) fn count(&mut self, failure: Failure) {
        match failure {
            Failure::Unreachable => self.unreachable += 1,
            Failure::Throttled { .. } => self.throttled += 1,
            Failure::Missing => self.missing += 1,
            Failure::Changed => self.changed += 1,
            Failure::Corrupt => self.corrupt += 1,
            Failure::Refused => self.refused += 1,
            Failure::NoRanges | Failure::Unlike | Failure::Cancelled => {}
        }
    }
}

#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) meter: Meter,
    pub(super) latency: Latency,
    /// What an earlier mount measured of it.
    pub(super) before: Before,
    /// All its times to first byte of late, those behind our own bytes too.
    pub(super) first_bytes: Distribution,
    /// It is taken to be no slower than this, in bytes per second, while prefetch leaves it idle and it is hardly measured.
    pub(super) rate_least: f64,
    /// The usual gap between two signs of life of one of its bodies, and how it varies, in seconds.
    gap_seconds: f64,
    gap_deviation_seconds: f64,
    pub(super) breaker: Breaker,
    pub(super) trouble: Trouble,
    pub(super) stability: Stability,
    pub(super) drift: Drift,
    /// By what its completions were off.
    pub(super) predictor: Predictor,
    /// What configuration gives it, and how it decays under load.
    pub(super) base_weight: f64,
    pub(super) weight: Weight,
    /// Lower ones are asked first.
    pub(super) tier: u8,
    /// What its rate cap leaves, where it has one.
    pub(super) bucket: Bucket,
    /// It serves ranges, as far as we know.
    pub(super) ranges: bool,
    /// Live fetches, and how many of them are demand.
    pub(super) fetches: usize,
    pub(super) demand_fetches: usize,
    /// Those of the background that only try whether one more connection is of use.
    pub(super) extra_fetches: usize,
    /// Of the background, of a chunk or less each.
    pub(super) small_fetches: usize,
    /// When a fetch ended well, and no other has begun since: its connection is free.
    pub(super) freed_at: Option<Time>,
    /// Fetches that it brought whole since it last failed or was late: what there is to go by where its bodies come in one
    /// piece and show no rate.
    pub(super) served: usize,
    /// Those whose body has begun.
    pub(super) bodies: usize,
    /// How many background fetches it has at a time.
    pub(super) connections: Connections,
    /// What its live fetches have still to bring, in bytes.
    pub(super) remaining_bytes: u64,
    pub(super) arrived_bytes: u64,
    /// When a byte last came from it.
    pub(super) sign_at: Time,
    /// When it was last asked for one byte.
    pub(super) probed_at: Option<Time>,
    pub(super) failures: Failures,
    pub(super) last_failure: Option<(Time, Failure)>,
    pub(super) corrupt_files: BTreeSet<Inode>,
    /// Files that it fell silent over since it last gave a byte.
    pub(super) silent_files: BTreeSet<Inode>,
}

impl Mirror {
    pub(super) fn new(now: Time) -> Mirror {
        Mirror {
            meter: Meter::new(SUPPOSED_RATE),
            latency: Latency::default(),
            before: Before::default(),
            first_bytes: Distribution::new(FIRST_BYTES),
            rate_least: 0.0,
            gap_seconds: 0.0,
            gap_deviation_seconds: 0.0,
            breaker: Breaker::new(),
            trouble: Trouble::default(),
            stability: Stability::default(),
            drift: Drift::default(),
            predictor: Predictor::default(),
            base_weight: 1.0,
            weight: Weight::new(),
            tier: 0,
            bucket: Bucket::default(),
            ranges: true,
            fetches: 0,
            demand_fetches: 0,
            extra_fetches: 0,
            small_fetches: 0,
            freed_at: None,
            served: 0,
            bodies: 0,
            connections: Connections::new(),
            remaining_bytes: 0,
            arrived_bytes: 0,
            sign_at: now,
            probed_at: None,
            failures: Failures::default(),
            last_failure: None,
            corrupt_files: BTreeSet::new(),
            silent_files: BTreeSet::new(),
        }
    }

    /// What it brings, in bytes per second: no more than its cap.
    pub(super) fn rate(&self, now: Time) -> f64 {
        let measured = self.meter.begun();
        let rate = if measured { self.meter.rate(now, SUPPOSED_RATE) } else { self.before.rate(now) };
        rate.max(self.rate_least).min(self.bucket.rate())
    }

    /// The same for a new fetch of it, which is to be noticed as late: a supposition could hide that for long.
    pub(super) fn fetch_rate(&self, now: Time) -> f64 {
        if self.meter.begun() { self.rate(now) } else { self.rate(now).min(SUPPOSED_RATE) }
    }

    pub(super) fn latency_seconds(&self) -> f64 {
        self.latency.seconds().unwrap_or_else(|| self.before.latency_seconds())
    }

    /// The size that a fetch from it should have, among as many as it has at a time.
    pub(super) fn fetch_bytes(&self, rate: f64, settings: &Settings) -> u64 {
        let most = settings.fetch_bytes_max;
        let most = if self.meter.known() { most } else { self.before.fetch_bytes_max(most) };
        let share = rate / self.connections.limit(settings.background_fetches_max) as f64;
        let length = share * FETCH_SECONDS.max(FETCH_ROUND_TRIPS * self.latency_seconds());
        (length as u64).clamp(settings.fetch_bytes_min.min(most), most.max(settings.fetch_bytes_min))
    }

    /// What it may have in flight for the background, in bytes: at least all the fetches that it has at a time.
    pub(super) fn window_bytes(&self, rate: f64, settings: &Settings) -> u64 {
        let filled = rate * (WINDOW_SECONDS + 2.0 * self.latency_seconds());
        let fetches = self.connections.limit(settings.background_fetches_max).max(2) as u64;
        (filled as u64).min(settings.window_bytes_max).max(fetches * self.fetch_bytes(rate, settings))
    }

    /// How overloaded it is, 0 to 1: what is queued on it beyond what streaming at full speed needs, over that.
    pub(super) fn load(&self, rate: f64, settings: &Settings) -> f64 {
        let window = self.window_bytes(rate, settings) as f64;
        ((self.remaining_bytes as f64 - window) / window).clamp(0.0, 1.0)
    }

    /// How many small fetches of the background it may have beside those that are counted.
    pub(super) fn small_max(&self, settings: &Settings) -> usize {
        settings.small_fetches_max.saturating_sub(settings.background_fetches_max + self.demand_fetches)
    }

    /// How many background fetches it may have at a time with so much on its way.
    pub(super) fn background_max(&self, rate: f64, load_bytes: f64, settings: &Settings) -> usize {
        let most = settings.background_fetches_max + self.small_fetches.min(self.small_max(settings));
        match self.meter.known() && load_bytes < self.filled_bytes(rate) {
            // What is left is here before the next answer could begin, however many fetches that is.
            true => most,
            false => self.background_when_full(settings).min(most),
        }
    }

    /// The same where its link is full, or where not enough is known of it to say so.
    pub(super) fn background_when_full(&self, settings: &Settings) -> usize {
        match self.meter.known() {
            true => self.connections.limit(settings.background_fetches_max),
            // A mirror on trial has one fetch to show what it is, and as many as it has brought: files so small that nothing
            // is measured would come one a round trip for ever.
            false => self.served.clamp(1, settings.background_fetches_max + self.small_max(settings)),
        }
    }

    /// Would one more background fetch only try whether another connection is of use?
    pub(super) fn would_try(&self, now: Time, settings: &Settings) -> bool {
        let steady = self.fetches - self.demand_fetches - self.extra_fetches;
        let filled = self.filled_bytes(self.rate(now));
        self.meter.known()
            && self.remaining_bytes as f64 >= filled
            && steady >= self.connections.proven(settings.background_fetches_max)
    }

    /// With so much on its way its link does not idle.
    pub(super) fn filled_bytes(&self, rate: f64) -> f64 {
        rate * FILLED_ROUND_TRIPS * self.latency_seconds()
    }

    /// How many more bytes of background it may be given; 0 until half a fetch is free, or fetches would
    /// be cut into crumbs. One that has nothing to do has room for that half however small its share is: the share grows
    /// only while something is in flight.
    pub(super) fn room_bytes(&self, now: Time, rate: f64, share: f64, settings: &Settings) -> u64 {
        let running = self.fetches - self.demand_fetches;
        let most = self.background_max(rate, self.remaining_bytes as f64, settings);
        // Those that are only tried take no other's place.
        let steady = self.connections.proven(settings.background_fetches_max) + self.extra_fetches;
        let steady = if self.extra_fetches > 0 { steady.min(settings.background_fetches_max) } else { 0 };
        if running >= most.max(steady) {
            return 0;
        }
        let window = self.window_bytes(rate, settings) as f64 * share * self.trouble.window_factor(now);
        let (room, least) =
            ((window as u64).saturating_sub(self.remaining_bytes), self.fetch_bytes(rate, settings) / 2);
        match room < least {
            true if self.fetches == 0 => least,
            true => 0,
            false => room,
        }
    }

    /// A probe was answered, or was not: it says how long a first byte takes and whether it lives, and nothing of its
    /// rate. Returns the index of drift where the mirror is another one than before.
    pub(super) fn learn_from_probe(&mut self, now: Time, result: Result<Duration, Failure>) -> Option<f64> {
        match result {
            Err(Failure::Cancelled) => {}
            // One that says no answers all the same: what a probe asks for need not be there.
            Err(Failure::Unreachable | Failure::Throttled { .. }) => self.stability.ended(now, false),
            _ => self.stability.ended(now, true),
        }
        let first_byte = result.ok()?.as_secs_f64();
        self.first_bytes.add(now, first_byte);
        // Behind our own bytes an answer says little of the mirror.
        if self.remaining_bytes == 0 { self.drift.add(first_byte) } else { None }
    }

    /// A body of it gave a sign of life so long after the one before.
    pub(super) fn learn_gap(&mut self, seconds: f64) {
        self.gap_deviation_seconds += 0.1 * ((seconds - self.gap_seconds).abs() - self.gap_deviation_seconds);
        self.gap_seconds += 0.1 * (seconds - self.gap_seconds);
    }

    /// Four times its usual gap and four deviations: longer silence is unusual.
    pub(super) fn unusual_gap_seconds(&self) -> f64 {
        4.0 * (self.gap_seconds + self.gap_deviation_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_idle_mirror_has_room_for_half_a_fetch_at_the_least_share() {
        let (settings, rate, now) = (Settings::default(), 10e6, Time(0));
        let mut mirror = Mirror::new(now);
        let half = mirror.fetch_bytes(rate, &settings) / 2;
        assert_eq!(mirror.room_bytes(now, rate, 1e-9, &settings), half);
        (mirror.fetches, mirror.demand_fetches) = (1, 1);
        assert_eq!(mirror.room_bytes(now, rate, 1e-9, &settings), 0);
        assert!(mirror.room_bytes(now, rate, 1.0, &settings) >= half);
    }

    #[test]
    fn an_unknown_mirror_gets_a_small_first_fetch_and_a_fast_one_long_ones() {
        let settings = Settings::default();
        let mut mirror = Mirror::new(Time(0));
        assert_eq!(mirror.fetch_bytes(mirror.rate(Time(0)), &settings), FIRST_FETCH_BYTES);
        mirror.meter.start(Time(0));
        for at in 1..2000 {
            mirror.meter.came(Time(at * 1_000_000), 1_000_000);
            mirror.meter.sample(Time(at * 1_000_000));
        }
        mirror.latency.add(Time(0), Duration::from_millis(1), false);
        let rate = mirror.rate(Time(1_999_000_000));
        assert_eq!(mirror.fetch_bytes(rate, &settings), settings.fetch_bytes_max);
        assert!(mirror.window_bytes(rate, &settings) >= 2 * settings.fetch_bytes_max);
        assert!(mirror.window_bytes(50e3, &settings) >= 2 * settings.fetch_bytes_min);
    }
}
