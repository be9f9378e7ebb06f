//! A rate that all answers of a mirror share.

use crate::clock::Time;
use parking_lot::Mutex;
use std::time::Duration;

/// Whose turn it is when, at so many bytes a second.
pub struct Pace {
    bytes_per_second: Option<u64>,
    /// When the last byte that has a turn will have gone.
    taken_until: Mutex<Time>,
}

impl Pace {
    /// No rate is no wait.
    pub fn new(bytes_per_second: Option<u64>) -> Pace {
        Pace { bytes_per_second, taken_until: Mutex::new(Time(0)) }
    }

    /// Take a turn for `bytes`; how long after `now` they may go.
    pub fn turn(&self, bytes: u64, now: Time) -> Duration {
        let Some(bytes_per_second) = self.bytes_per_second else { return Duration::ZERO };
        let mut taken_until = self.taken_until.lock();
        let starts = (*taken_until).max(now);
        *taken_until = starts + Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64);
        taken_until.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_each_other_at_the_rate_and_idle_time_is_not_saved_up() {
        let pace = Pace::new(Some(1000));
        let start = Time(5_000_000_000);
        assert_eq!(pace.turn(100, start), Duration::from_millis(100));
        assert_eq!(pace.turn(100, start), Duration::from_millis(200));
        assert_eq!(pace.turn(100, start + Duration::from_secs(9)), Duration::from_millis(100));
        assert_eq!(Pace::new(None).turn(1 << 40, start), Duration::ZERO);
    }
}
