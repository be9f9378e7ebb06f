//! Tail control: when demand misses take too long, the background classes and the mirrors' windows are cut
//! (spec 2.6).
//!
//! Only readers that go here and there count. One that goes in order waits for its own readahead: to cut that
//! because it is late would make it later.
//!
//! Additive increase and multiplicative decrease, with a memory: the share at which it last went wrong is not
//! tried again for a minute. Plain AIMD would go to and fro for ever; this settles.

use super::distribution::{Bounds, Distribution};
use super::settings::SettingsError;
use crate::clock::Time;
use std::time::Duration;

/// Samples older than this go …
const WINDOW: Duration = Duration::from_secs(5);
/// … unless fewer than this would be left: then they stay for up to twice the time.
const SAMPLES_WANTED: usize = 500;
const WINDOW_MAX: Duration = Duration::from_secs(10);
/// With fewer than this a P99 is the maximum, and one late answer would throttle everything.
const SAMPLES_MIN: usize = 20;
/// The objective is this, or twice the best mirror's median where that is more.
pub(super) const OBJECTIVE_SECONDS: f64 = 0.2;
const OBJECTIVE_OF_BEST: f64 = 2.0;
/// The share grows by so much a period, and is cut to so much of itself.
const INCREASE: f64 = 0.05;
const DECREASE: f64 = 0.7;
/// The least share: the background never starves for ever.
pub(super) const SHARE_MIN: f64 = 0.1;
/// Of the share at which it went wrong, so much is tried again.
const BELOW_CEILING: f64 = 0.9;
/// After so long a ceiling is doubted and a little more is tried.
const CEILING_DOUBTED_AFTER: Duration = Duration::from_secs(60);

/// Settings of the control. Plain data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TailSettings {
    /// How often P99 is looked at: 300 to 1,000 ms.
    pub period: Duration,
    /// Above the objective times this it is too much: 1.1 to 1.3.
    pub slack: f64,
    /// Samples kept at most: 800 to 1,200.
    pub samples_max: usize,
}

impl TailSettings {
    /// Are they inside of what the control was made for?
    ///
    /// # Errors
    /// The first that is not.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let period = format!("{:?}", self.period);
        let checks = [
            ("period", (300..=1000).contains(&self.period.as_millis()), period, "300 ms", "1 s"),
            ("slack", (1.1..=1.3).contains(&self.slack), self.slack.to_string(), "1.1", "1.3"),
            ("samples", (800..=1200).contains(&self.samples_max), self.samples_max.to_string(), "800", "1200"),
        ];
        let bad = checks.into_iter().find(|(_, fits, ..)| !fits);
        bad.map_or(Ok(()), |(name, _, value, least, most)| Err(SettingsError::Tail(name, value, least, most)))
    }
}

impl Default for TailSettings {
    fn default() -> TailSettings {
        TailSettings { period: Duration::from_millis(500), slack: 1.2, samples_max: 1000 }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Tail {
    settings: TailSettings,
    /// How long the misses took.
    samples: Distribution,
    /// The same over what each was to take at most: together as one, whatever their rules say.
    excesses: Distribution,
    next_look: Time,
    /// The part of its window that the background may use, [`SHARE_MIN`] to 1.
    pub(super) share: f64,
    ceiling: f64,
    ceiling_at: Time,
    /// What was seen at the last look, in seconds.
    pub(super) p99_seconds: Option<f64>,
    pub(super) objective_seconds: f64,
    /// Twice the best mirror's median just now: no objective is less.
    least_seconds: f64,
}

impl Tail {
    pub(super) fn new(settings: TailSettings) -> Tail {
        Tail {
            settings,
            samples: Distribution::new(bounds(&settings)),
            excesses: Distribution::new(bounds(&settings)),
            least_seconds: 0.0,
            next_look: Time(0),
            share: 1.0,
            ceiling: 1.0,
            ceiling_at: Time(0),
            p99_seconds: None,
            objective_seconds: OBJECTIVE_SECONDS,
        }
    }

    pub(super) fn set(&mut self, settings: TailSettings) {
        self.settings = settings;
        self.samples.bounds = bounds(&settings);
        self.excesses.bounds = bounds(&settings);
    }

    /// A demand miss was answered after so long; `objective_seconds` is its file's.
    pub(super) fn add(&mut self, now: Time, waited: Duration, objective_seconds: f64) {
        let seconds = waited.as_secs_f64();
        self.samples.add(now, seconds);
        self.excesses.add(now, seconds / objective_seconds.max(self.least_seconds));
    }

    /// Look, if it is time to. `best_median_seconds`: of the mirror with the least. Returns whether the share
    /// has changed.
    pub(super) fn look(&mut self, now: Time, best_median_seconds: f64) -> bool {
        self.least_seconds = OBJECTIVE_OF_BEST * best_median_seconds;
        if now < self.next_look {
            return false;
        }
        self.next_look = now + self.settings.period;
        self.samples.forget(now);
        self.excesses.forget(now);
        self.objective_seconds = OBJECTIVE_SECONDS.max(self.least_seconds);
        let enough = self.samples.len() >= SAMPLES_MIN;
        let p99 = |of: &Distribution| of.quantiles().filter(|_| enough).map(|(_, p99)| p99);
        self.p99_seconds = p99(&self.samples);
        let excess = p99(&self.excesses);
        let before = self.share;
        match excess {
            Some(excess) if excess > self.settings.slack => self.cut(now),
            Some(excess) if excess > 1.0 => {}
            _ => self.grow(now),
        }
        self.share != before
    }

    fn cut(&mut self, now: Time) {
        if self.share > SHARE_MIN {
            (self.ceiling, self.ceiling_at) = (self.share, now);
        }
        self.share = (self.share * DECREASE).max(SHARE_MIN);
        // What was seen was of the old share.
        self.samples.clear();
        self.excesses.clear();
    }

    fn grow(&mut self, now: Time) {
        if self.ceiling < 1.0 && now.since(self.ceiling_at) >= CEILING_DOUBTED_AFTER {
            (self.ceiling, self.ceiling_at) = ((self.ceiling + 2.0 * INCREASE).min(1.0), now);
        }
        let most = if self.ceiling < 1.0 { (self.ceiling * BELOW_CEILING).max(SHARE_MIN) } else { 1.0 };
        self.share = (self.share + INCREASE).min(most).max(self.share.min(most));
    }
}

fn bounds(settings: &TailSettings) -> Bounds {
    Bounds { length: WINDOW, wanted: SAMPLES_WANTED, length_max: WINDOW_MAX, count_max: settings.samples_max }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Demand of 200 misses a second whose time grows with the share; returns the share at each look.
    fn run(tail: &mut Tail, seconds: u64, waited_ms: impl Fn(f64, u64) -> f64) -> Vec<f64> {
        let mut shares = Vec::new();
        for at in 0..seconds * 200 {
            let now = Time(at * 5 * MS);
            tail.add(now, Duration::from_secs_f64(waited_ms(tail.share, at) / 1e3), OBJECTIVE_SECONDS);
            if now >= tail.next_look {
                tail.look(now, 0.0);
                shares.push(tail.share);
            }
        }
        shares
    }

    #[test]
    fn under_constant_load_it_settles_within_10_s_and_stays_within_10_percent() {
        // 300 ms at the full share: 240 ms, the most that is borne, at 0.8 of it.
        let mut tail = Tail::new(TailSettings::default());
        let shares = run(&mut tail, 60, |share, at| 300.0 * share * if at % 50 == 0 { 1.0 } else { 0.5 });
        let after: Vec<f64> = shares[20..].to_vec();
        let mean = after.iter().sum::<f64>() / after.len() as f64;
        assert!(after.iter().all(|share| (share / mean - 1.0).abs() < 0.1), "{after:?}");
        let reversals = after.windows(3).filter(|w| (w[1] - w[0]) * (w[2] - w[1]) < 0.0).count();
        assert!(reversals <= 2, "{reversals} in 50 s: {after:?}");
        assert!((0.5..0.9).contains(&mean), "{mean}");
    }

    #[test]
    fn just_above_the_slack_cuts_and_just_below_does_not() {
        for (waited_ms, cut) in [(243.0, true), (238.0, false), (199.0, false)] {
            let mut tail = Tail::new(TailSettings::default());
            run(&mut tail, 2, |_, _| waited_ms);
            assert_eq!(tail.share < 1.0, cut, "{waited_ms} ms");
        }
    }

    #[test]
    fn twice_the_best_median_is_the_objective_where_that_is_more() {
        let mut tail = Tail::new(TailSettings::default());
        tail.look(Time(0), 0.15);
        (0..30).for_each(|at| tail.add(Time(at), Duration::from_millis(300), OBJECTIVE_SECONDS));
        tail.look(Time(500 * MS), 0.15);
        assert_eq!((tail.objective_seconds, tail.share), (0.3, 1.0));
    }

    #[test]
    fn each_miss_counts_against_the_objective_of_its_own_file() {
        for (objective_ms, waited_ms, cut) in [(500, 590, false), (500, 610, true), (50, 59, false), (50, 61, true)] {
            let mut tail = Tail::new(TailSettings::default());
            for at in 0..900 {
                tail.add(Time(at), Duration::from_millis(100), OBJECTIVE_SECONDS);
            }
            for at in 900..1000 {
                tail.add(Time(at), Duration::from_millis(waited_ms), objective_ms as f64 / 1e3);
            }
            tail.look(Time(MS), 0.0);
            assert_eq!(tail.share < 1.0, cut, "{waited_ms} ms of {objective_ms}");
        }
    }

    #[test]
    fn samples_are_bounded_in_time_and_number() {
        let mut tail = Tail::new(TailSettings::default());
        (0..5000).for_each(|at| tail.add(Time(at * MS), Duration::from_millis(1), OBJECTIVE_SECONDS));
        assert_eq!(tail.samples.len(), 1000);
        tail.samples.forget(Time(9500 * MS));
        assert_eq!(tail.samples.len(), 500, "half of them are of the last 5 s");
        tail.samples.forget(Time(9900 * MS));
        assert_eq!(tail.samples.len(), 500, "500 stay for up to 10 s");
        tail.samples.forget(Time(15_100 * MS));
        assert_eq!(tail.samples.len(), 0);
    }

    #[test]
    fn few_samples_throttle_nothing_and_twenty_do() {
        for (count, throttles) in [(19, false), (20, true)] {
            let mut tail = Tail::new(TailSettings::default());
            (0..count).for_each(|at| tail.add(Time(at), Duration::from_secs(9), OBJECTIVE_SECONDS));
            assert_eq!(tail.look(Time(MS), 0.0), throttles, "{count}");
        }
    }
}
