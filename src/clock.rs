//! Time as a number, and the one place that reads the machine's clocks.
//!
//! Everything that decides takes `now: Time` as an argument, so that it runs the same under a
//! simulator. [`now`] is boot time: it goes on while a laptop sleeps, so a deadline that passed
//! during sleep has passed.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds since boot (or since the start of a simulation).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// Later than every time that will be read.
    pub const NEVER: Time = Time(u64::MAX);

    /// How long after `earlier`; zero where it is not after it.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Seconds after `earlier`, as a number to divide by. Zero where it is not after it.
    pub fn seconds_since(self, earlier: Time) -> f64 {
        self.since(earlier).as_secs_f64()
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", self.0 as f64 / 1e9)
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, length: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, length: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The time since boot, sleep included (`CLOCK_BOOTTIME`).
pub fn now() -> Time {
    let read = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Time(read.tv_sec as u64 * 1_000_000_000 + read.tv_nsec as u64)
}

/// Seconds since 1970 by the wall clock: for what people and HTTP dates read, never for deadlines.
pub fn unix_seconds() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}

/// Milliseconds since 1970, alike.
pub fn unix_millis() -> i64 {
    let read = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    read.tv_sec * 1000 + read.tv_nsec / 1_000_000
}

/// Nanoseconds since 1970, alike.
pub fn unix_nanos() -> u64 {
    let read = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    (read.tv_sec as u64).saturating_mul(1_000_000_000) + read.tv_nsec as u64
}

/// The second of the day by the local clock of this machine, for hours that people give.
pub fn local_second_of_day() -> u32 {
    let now = jiff::Timestamp::from_second(unix_seconds()).unwrap_or_default();
    let time = now.to_zoned(jiff::tz::TimeZone::system()).time();
    (i32::from(time.hour()) * 3600 + i32::from(time.minute()) * 60 + i32::from(time.second())) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_at_both_ends() {
        assert_eq!(Time(5).since(Time(9)), Duration::ZERO);
        assert_eq!(Time(5) - Duration::from_secs(1), Time(0));
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
        assert!(now() <= now());
        assert!(local_second_of_day() < 24 * 3600);
    }
}
