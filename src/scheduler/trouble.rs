//! How often a mirror's fetches came to nothing of late, and what that is expected to cost the next one.

use crate::clock::Time;

/// How much one fetch counts. After five good ones a third of an old trouble is left.
const GAIN: f64 = 0.2;
/// What is not tried is forgiven by half in this time, or it would never be tried again.
const HALF_LIFE_SECONDS: f64 = 10.0;
/// What a fetch costs that comes to nothing: until its silence counts as a stall.
const COST_SECONDS: f64 = 0.25;

/// The part of a mirror's fetches that stalled, broke off or were overtaken by a hedge, 0 to 1.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    part: f64,
    at: Time,
}

impl Trouble {
    /// A fetch ended.
    pub(super) fn learn(&mut self, now: Time, well: bool) {
        let part = self.part(now);
        self.part = part + GAIN * (f64::from(u8::from(!well)) - part);
        self.at = now;
    }

    /// The part just now.
    pub(super) fn part(&self, now: Time) -> f64 {
        if self.part < 1e-4 {
            return 0.0;
        }
        self.part * (-now.seconds_since(self.at) / HALF_LIFE_SECONDS).exp2()
    }

    /// What a fetch must expect to lose by it, in seconds.
    pub(super) fn seconds(&self, now: Time) -> f64 {
        COST_SECONDS * self.part(now)
    }

    /// What of its window a mirror with such trouble keeps: at least half.
    pub(super) fn window_factor(&self, now: Time) -> f64 {
        1.0 - self.part(now) / 2.0
    }

    pub(super) fn forget(&mut self) {
        *self = Trouble::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_second_fetch_failing_counts_half_and_is_forgiven_with_time() {
        let mut trouble = Trouble::default();
        let mut now = Time(0);
        for at in 0..100 {
            now = now + Duration::from_millis(10);
            trouble.learn(now, at % 2 == 0);
        }
        assert!((0.4..0.6).contains(&trouble.part(now)), "{}", trouble.part(now));
        assert!(trouble.seconds(now) > 0.1 && trouble.window_factor(now) < 0.8);
        let later = now + Duration::from_secs(30);
        assert!((trouble.part(later) - trouble.part(now) / 8.0).abs() < 1e-6);
        (0..60).for_each(|_| trouble.learn(later, true));
        assert_eq!(trouble.seconds(later), 0.0);
    }
}
