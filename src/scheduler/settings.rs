//! What may be set of the scheduler, with the reason for each default.

use super::agreement::Verify;
use super::strategy::Strategy;
use super::tail::TailSettings;
use std::time::Duration;

/// Settings of the scheduler: plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How mirrors are chosen.
    pub strategy: Strategy,
    /// When bytes of a file are believed.
    pub verify: Verify,
    /// Late demand fetches are sent to a second mirror, inside a budget.
    pub hedging: bool,
    /// What all mirrors together are asked for at most, in bytes per second.
    pub rate_limit: Option<u64>,
    /// When the background is throttled for the sake of demand.
    pub tail: TailSettings,
    /// The smallest fetch that is made of background pages, in bytes. Under 128 KiB the request itself
    /// (about 60 µs of CPU and a round trip) costs more than the bytes.
    pub fetch_bytes_min: u64,
    /// The largest fetch, in bytes. Above 8 MiB the CPU per byte falls no more (measured), but a stall
    /// has more to move.
    pub fetch_bytes_max: u64,
    /// What one mirror may have in flight for the background, in bytes. 32 MiB is 1 Gbit/s over 250 ms.
    pub window_bytes_max: u64,
    /// Background fetches of one mirror at a time at most; how many it takes is found by trying. Browsers use 6
    /// connections to a host; 8 keep a long path full at the largest fetch.
    pub background_fetches_max: usize,
    /// Fetches of one mirror at a time, of all kinds, up to which more of a chunk or less are begun for the background while
    /// they do not fill its link. Small files over a long path cost a round trip each, however fast the link is: eight at a time
    /// are slower than readers who ask for themselves. As `demand_fetches_max` twice, since both may meet.
    pub small_fetches_max: usize,
    /// Demand fetches of one mirror at a time. Random readers need depth more than bytes; many public
    /// mirrors refuse more than some tens of connections from one address.
    pub demand_fetches_max: usize,
    /// What the pool holds in all, in bytes. Half of it is shared out to the readers' windows; the other
    /// half is for reads under way and what was read lately.
    pub pool_bytes: u64,
    /// Silence of a body after which its fetch counts as stalled. A lost packet is repaired after 200 ms
    /// (the kernel's least retransmission timeout), so less than that would blame the network.
    pub stall: Duration,
    /// The first byte is late after four times the mirror's usual time, but not before this.
    pub first_byte: Duration,
    /// The same for a mirror of which nothing is known: a connection, TLS and an answer over 120 ms.
    pub first_byte_unknown: Duration,
    /// Silence that is borne where no other mirror could help, before the same one is asked again.
    pub patience: Duration,
    /// A fetch that is waited for moves if another mirror needs less than its time divided by this …
    pub late_factor: f64,
    /// … less this: a connection and some tens of ms of bytes are thrown away by moving.
    pub late_slack: Duration,
    /// Failures in a row that open a mirror's breaker. One may be chance.
    pub breaker_failures: u32,
    /// The first time that a breaker stays open. It doubles each time.
    pub backoff_min: Duration,
    /// The longest that a breaker stays open.
    pub backoff_max: Duration,
    /// The same while no mirror answers: going on within 2 s of being back is worth the probes.
    pub offline_backoff_max: Duration,
    /// No mirror may be asked for so long, and each failed twice: that is being offline, and reads fail at
    /// once. A restart of the only mirror takes less.
    pub offline_after: Duration,
    /// A probe is lost after this.
    pub probe_timeout: Duration,
    /// Mirrors without ranges serve files up to this size, in bytes; larger ones only where nobody else can.
    pub whole_bytes_max: u64,
    /// How long a mirror is not asked again for a file that it said it has not, in this version.
    pub exclusion: Duration,
    /// How long a mirror is not asked for a file that it fell silent over while it answers otherwise.
    pub rest: Duration,
    /// How long a mirror that served wrong bytes is not believed.
    pub quarantine: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            strategy: Strategy::default(),
            verify: Verify::default(),
            hedging: true,
            rate_limit: None,
            tail: TailSettings::default(),
            fetch_bytes_min: 128 << 10,
            fetch_bytes_max: 8 << 20,
            window_bytes_max: 32 << 20,
            background_fetches_max: 8,
            small_fetches_max: 32,
            demand_fetches_max: 16,
            pool_bytes: 256 << 20,
            stall: Duration::from_millis(250),
            first_byte: Duration::from_millis(300),
            first_byte_unknown: Duration::from_millis(500),
            patience: Duration::from_secs(5),
            late_factor: 2.0,
            late_slack: Duration::from_millis(100),
            breaker_failures: 2,
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            offline_backoff_max: Duration::from_millis(1500),
            offline_after: Duration::from_secs(3),
            probe_timeout: Duration::from_secs(1),
            whole_bytes_max: 1 << 20,
            exclusion: Duration::from_secs(60),
            rest: Duration::from_secs(2),
            quarantine: Duration::from_secs(300),
        }
    }
}

/// Why settings are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The least is above the most.
    #[error("fetch sizes from {0} to {1} bytes leave nothing: the least must be 4096 or more, and at most the largest")]
    FetchSizes(u64, u64),
    /// A number that must not be zero.
    #[error("{0} is zero: nothing could ever be fetched; give at least 1")]
    Zero(&'static str),
    /// A wait that would fire all the time.
    #[error("{0} is under 10 ms: every fetch would count as stalled; give 10 ms or more")]
    TooShort(&'static str),
    /// The first wait is above the longest.
    #[error("a breaker's first wait is longer than its longest; lower backoff_min or raise backoff_max")]
    Backoff,
    /// The tail control outside of what it was made for.
    #[error("{0} is {1}: the tail control works from {2} to {3}")]
    Tail(&'static str, String, &'static str, &'static str),
    /// Moving a fetch to a mirror that is slower.
    #[error("late_factor is {0}: under 1 fetches would move to slower mirrors; give 1 or more")]
    LateFactor(String),
}

impl Settings {
    /// The furthest that readahead goes before one reader, in bytes: of the half of the pool that windows have,
    /// three quarters, so that another reader finds some.
    pub fn readahead_bytes_max(&self) -> u64 {
        self.pool_bytes / 8 * 3
    }

    /// Are they of use together?
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if self.fetch_bytes_min < 4096 || self.fetch_bytes_min > self.fetch_bytes_max {
            return Err(SettingsError::FetchSizes(self.fetch_bytes_min, self.fetch_bytes_max));
        }
        let counts = [
            ("window_bytes_max", self.window_bytes_max),
            ("background_fetches_max", self.background_fetches_max as u64),
            ("demand_fetches_max", self.demand_fetches_max as u64),
            ("pool_bytes", self.pool_bytes),
            ("breaker_failures", u64::from(self.breaker_failures)),
            ("rate_limit", self.rate_limit.unwrap_or(1)),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Err(SettingsError::Zero(name));
        }
        let waits = [
            ("stall", self.stall),
            ("first_byte", self.first_byte),
            ("first_byte_unknown", self.first_byte_unknown),
            ("patience", self.patience),
            ("backoff_min", self.backoff_min),
            ("offline_backoff_max", self.offline_backoff_max),
            ("probe_timeout", self.probe_timeout),
        ];
        if let Some((name, _)) = waits.iter().find(|(_, wait)| *wait < Duration::from_millis(10)) {
            return Err(SettingsError::TooShort(name));
        }
        if self.backoff_min > self.backoff_max {
            return Err(SettingsError::Backoff);
        }
        self.tail.validate()?;
        if self.late_factor.is_nan() || self.late_factor < 1.0 {
            return Err(SettingsError::LateFactor(self.late_factor.to_string()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_nonsense_is_named() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let zero = Settings { demand_fetches_max: 0, ..Settings::default() };
        assert_eq!(zero.validate(), Err(SettingsError::Zero("demand_fetches_max")));
        let sizes = Settings { fetch_bytes_min: 9 << 20, ..Settings::default() };
        assert!(matches!(sizes.validate(), Err(SettingsError::FetchSizes(..))));
        let short = Settings { stall: Duration::ZERO, ..Settings::default() };
        assert_eq!(short.validate(), Err(SettingsError::TooShort("stall")));
        let slack = TailSettings { slack: 2.0, ..TailSettings::default() };
        let slack = Settings { tail: slack, ..Settings::default() };
        assert!(matches!(slack.validate(), Err(SettingsError::Tail("slack", ..))));
        let factor = Settings { late_factor: f64::NAN, ..Settings::default() };
        assert!(matches!(factor.validate(), Err(SettingsError::LateFactor(_))));
    }
}
