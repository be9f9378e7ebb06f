//! Whether a mirror is asked at all: closed, open until a time, or half-open while a probe is out.

use super::settings::Settings;
use crate::clock::Time;
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

/// A mirror that has done well for so long after its last trouble starts from the shortest wait again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);
/// The rest after a lone failure: long enough for a restarted mirror to be ready, too short to be noticed.
const REST: Duration = Duration::from_millis(50);
/// Throttled without a Retry-After: a first second, doubling.
const THROTTLED: Duration = Duration::from_secs(1);
/// No mirror may send us away for longer than this (an hour in a Retry-After is a misconfiguration).
const THROTTLED_MAX: Duration = Duration::from_secs(600);

/// Why a breaker is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No connection, resets, timeouts, 5xx.
    Unreachable,
    /// Bytes stopped coming.
    Stalled,
    /// It asked us to stay away.
    Throttled,
    /// It served wrong bytes.
    Quarantined,
    /// Configuration does not name it any more.
    Removed,
}

impl Reason {
    /// Its name in logs and in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Unreachable => "unreachable",
            Reason::Stalled => "stalled",
            Reason::Throttled => "throttled",
            Reason::Quarantined => "quarantined",
            Reason::Removed => "removed",
        }
    }
}

/// What a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// The mirror is asked.
    Closed,
    /// It is not asked until a time.
    Open,
    /// A probe is due or out; its answer decides.
    HalfOpen,
}

impl BreakerState {
    /// Its name in logs and in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        }
    }
}

#[derive(Debug)]
pub(super) struct Breaker {
    pub(super) state: BreakerState,
    /// Meaningless while closed.
    pub(super) reason: Reason,
    /// Open: when it is tried again. Closed: it rests until then.
    pub(super) next_try: Time,
    /// When the probe that is out was sent.
    pub(super) probe_at: Option<Time>,
    /// Attempts that failed since it last gave anything.
    pub(super) tries: u32,
    failures_in_row: u32,
    /// How often the wait was doubled.
    level: u32,
    /// The same for waits that it asked for without saying how long: a mirror that was away for long and asks for a moment
    /// when it comes back is not left alone for as long as it was away.
    throttles: u32,
    trouble_at: Time,
}

impl Breaker {
    pub(super) fn new() -> Breaker {
        Breaker {
            state: BreakerState::Closed,
            reason: Reason::Unreachable,
            next_try: Time(0),
            probe_at: None,
            tries: 0,
            failures_in_row: 0,
            level: 0,
            throttles: 0,
            trouble_at: Time(0),
        }
    }

    /// Configuration does not name it any more: nothing but [`restore`](Self::restore) changes that.
    pub(super) fn remove(&mut self) {
        *self = Breaker { state: BreakerState::Open, reason: Reason::Removed, next_try: Time::NEVER, ..Breaker::new() };
    }

    /// It is named again, and as one that was never seen.
    pub(super) fn restore(&mut self) {
        *self = Breaker::new();
    }

    pub(super) fn is_removed(&self) -> bool {
        self.reason == Reason::Removed
    }

    /// May it be asked now?
    pub(super) fn usable(&self, now: Time) -> bool {
        self.state == BreakerState::Closed && self.next_try <= now
    }

    /// When something changes without an event: a rest or a wait ends, a probe is lost.
    pub(super) fn timeout(&self, settings: &Settings) -> Option<Time> {
        match (self.state, self.probe_at) {
            _ if self.is_removed() => None,
            (_, Some(at)) => Some(at + settings.probe_timeout),
            (BreakerState::Closed, None) => Some(self.next_try).filter(|&at| at > Time(0)),
            (BreakerState::Open, None) => Some(self.next_try),
            (BreakerState::HalfOpen, None) => Some(Time(0)),
        }
    }

    /// The time has come: returns whether a probe is wanted now.
    pub(super) fn on_time(&mut self, now: Time, settings: &Settings, rng: &mut StdRng, longest: Duration) -> bool {
        if let Some(at) = self.probe_at {
            if now < at + settings.probe_timeout {
                return false;
            }
            self.probe_at = None;
            // A probe that only measured and got lost says little: the fetches will tell.
            if self.state != BreakerState::Closed {
                self.tries += 1;
                self.open(now, self.reason, settings, rng, longest);
                return false;
            }
        }
        match self.state {
            BreakerState::Closed => {
                if self.next_try <= now {
                    self.next_try = Time(0);
                }
                false
            }
            BreakerState::Open if self.next_try <= now => {
                self.state = BreakerState::HalfOpen;
                true
            }
            BreakerState::Open => false,
            BreakerState::HalfOpen => true,
        }
    }

    /// Somebody waits and nobody else can help: try it now rather than at its time, unless it asked for quiet.
    pub(super) fn hurry(&mut self, now: Time) {
        let quiet = matches!(self.reason, Reason::Throttled | Reason::Quarantined | Reason::Removed);
        if self.state == BreakerState::Open && !quiet && now >= self.trouble_at + Duration::from_millis(500) {
            self.next_try = self.next_try.min(now);
        }
    }

    /// A probe failed: open it for longer.
    pub(super) fn probe_failed(&mut self, now: Time, settings: &Settings, rng: &mut StdRng, longest: Duration) {
        self.tries += 1;
        if self.state != BreakerState::Closed && !self.is_removed() {
            self.open(now, Reason::Unreachable, settings, rng, longest);
        }
    }

    /// A fetch or a listing failed. Returns whether this opened it.
    pub(super) fn failure(&mut self, now: Time, settings: &Settings, rng: &mut StdRng, longest: Duration) -> bool {
        // Fetches that end together are one trouble: only the probe that follows can make it longer.
        if self.state != BreakerState::Closed {
            return false;
        }
        self.tries += 1;
        self.failures_in_row += 1;
        if self.failures_in_row >= settings.breaker_failures {
            self.open(now, Reason::Unreachable, settings, rng, longest);
            return true;
        }
        self.trouble_at = now;
        self.next_try = now + REST.mul_f64(1.0 + rng.random::<f64>());
        false
    }

    /// Its bytes stopped: a probe decides, at once the first time, after a wait when it happens again.
    pub(super) fn stall(&mut self, now: Time, settings: &Settings, rng: &mut StdRng) {
        if self.is_removed() {
            return;
        }
        self.tries += 1;
        let again = self.level > 0 && now < self.trouble_at + FORGIVEN_AFTER;
        if again {
            self.open(now, Reason::Stalled, settings, rng, settings.backoff_max);
        } else {
            (self.state, self.reason, self.level) = (BreakerState::HalfOpen, Reason::Stalled, 1);
            self.trouble_at = now;
        }
    }

    /// It was too slow to be waited for when nothing was known of it: a probe says what it is.
    pub(super) fn suspect(&mut self, now: Time, settings: &Settings, rng: &mut StdRng) {
        if self.state == BreakerState::Closed {
            let tries = self.tries;
            self.stall(now, settings, rng);
            self.tries = tries;
        }
    }

    /// Nothing would show any more whether it is there: a probe says it, at once. Where it is, it was no trouble: a link
    /// that loses packets falls silent time and again.
    pub(super) fn question(&mut self) {
        if self.state == BreakerState::Closed {
            (self.state, self.reason) = (BreakerState::HalfOpen, Reason::Stalled);
        }
    }

    /// It asked us to stay away. Returns whether that is news: fetches that end together are one refusal.
    pub(super) fn throttle(&mut self, now: Time, retry_after: Option<Duration>) -> bool {
        if self.is_removed() {
            return false;
        }
        if self.state == BreakerState::Open && self.reason == Reason::Throttled {
            self.next_try = self.next_try.max(now + retry_after.unwrap_or_default().min(THROTTLED_MAX));
            return false;
        }
        let grown = THROTTLED * 2u32.saturating_pow(self.throttles.min(5));
        let wait = retry_after.unwrap_or(grown).clamp(Duration::from_millis(100), THROTTLED_MAX);
        (self.state, self.reason) = (BreakerState::Open, Reason::Throttled);
        self.next_try = now + wait;
        self.level += 1;
        self.throttles += 1;
        self.trouble_at = now;
        self.tries = 0;
        true
    }

    /// It served wrong bytes too often.
    pub(super) fn quarantine(&mut self, now: Time, settings: &Settings) {
        if self.is_removed() {
            return;
        }
        (self.state, self.reason) = (BreakerState::Open, Reason::Quarantined);
        self.next_try = now + settings.quarantine;
    }

    /// It answered a probe or a listing.
    pub(super) fn answered(&mut self, now: Time) {
        let waits = matches!(self.reason, Reason::Throttled | Reason::Quarantined | Reason::Removed);
        if self.state == BreakerState::Open && waits && now < self.next_try {
            return;
        }
        (self.state, self.next_try) = (BreakerState::Closed, Time(0));
        self.failures_in_row = 0;
        self.tries = 0;
    }

    /// What opened it was not its fault.
    pub(super) fn forgive(&mut self) {
        self.level = 0;
    }

    /// Body bytes came from it.
    pub(super) fn sign_of_life(&mut self) {
        self.tries = 0;
    }

    /// A whole fetch of it ended well.
    pub(super) fn success(&mut self, now: Time) {
        self.failures_in_row = 0;
        self.tries = 0;
        if now >= self.trouble_at + FORGIVEN_AFTER {
            (self.level, self.throttles) = (0, 0);
        }
    }

    fn open(&mut self, now: Time, reason: Reason, settings: &Settings, rng: &mut StdRng, longest: Duration) {
        let wait = (settings.backoff_min * 2u32.saturating_pow(self.level.min(16))).min(longest);
        // Jitter, or every client of a mirror that comes back would come back with it.
        self.next_try = now + wait.mul_f64(0.75 + 0.5 * rng.random::<f64>());
        (self.state, self.reason) = (BreakerState::Open, reason);
        self.probe_at = None;
        self.level += 1;
        self.trouble_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn parts() -> (Breaker, Settings, StdRng) {
        (Breaker::new(), Settings::default(), StdRng::seed_from_u64(7))
    }

    #[test]
    fn one_failure_rests_it_two_open_it_and_a_probe_closes_it() {
        let (mut breaker, settings, mut rng) = parts();
        let now = Time(1_000_000_000);
        assert!(!breaker.failure(now, &settings, &mut rng, settings.backoff_max));
        assert!(!breaker.usable(now) && breaker.usable(now + Duration::from_millis(101)));
        assert!(breaker.failure(now, &settings, &mut rng, settings.backoff_max));
        let due = breaker.timeout(&settings).unwrap();
        assert!(due > now + Duration::from_millis(370) && due < now + Duration::from_millis(630), "{due:?}");
        assert!(!breaker.on_time(now, &settings, &mut rng, settings.backoff_max));
        assert!(breaker.on_time(due, &settings, &mut rng, settings.backoff_max));
        breaker.probe_at = Some(due);
        assert_eq!(breaker.state, BreakerState::HalfOpen);
        breaker.answered(due);
        breaker.probe_at = None;
        assert!(breaker.usable(due));
    }

    #[test]
    fn a_lost_probe_opens_it_for_longer_up_to_the_longest() {
        let (mut breaker, settings, mut rng) = parts();
        let mut now = Time(1);
        breaker.failure(now, &settings, &mut rng, settings.backoff_max);
        breaker.failure(now, &settings, &mut rng, settings.backoff_max);
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(breaker.next_try.since(now));
            now = breaker.next_try;
            assert!(breaker.on_time(now, &settings, &mut rng, settings.backoff_max));
            breaker.probe_at = Some(now);
            now = now + settings.probe_timeout;
            assert!(!breaker.on_time(now, &settings, &mut rng, settings.backoff_max));
            assert_eq!(breaker.state, BreakerState::Open);
        }
        assert!(waits[3] > waits[0] * 4, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= settings.backoff_max.mul_f64(1.25)));
        now = breaker.next_try;
        breaker.on_time(now, &settings, &mut rng, settings.offline_backoff_max);
        breaker.probe_failed(now, &settings, &mut rng, settings.offline_backoff_max);
        assert!(breaker.next_try.since(now) < Duration::from_secs(2), "offline, it is tried often");
    }

    #[test]
    fn a_rest_that_ended_while_a_probe_was_out_ends_with_the_probe() {
        let (mut breaker, settings, mut rng) = parts();
        breaker.failure(Time(1), &settings, &mut rng, settings.backoff_max);
        breaker.probe_at = Some(Time(2));
        let lost = Time(2) + settings.probe_timeout;
        assert!(!breaker.on_time(lost, &settings, &mut rng, settings.backoff_max));
        assert_eq!(breaker.timeout(&settings), None, "or its driver would be woken at once");
    }

    #[test]
    fn retry_after_is_honoured_even_when_it_answers_listings() {
        let (mut breaker, _, _) = parts();
        breaker.throttle(Time(0), Some(Duration::from_secs(5)));
        breaker.answered(Time(1_000_000_000));
        assert!(!breaker.usable(Time(4_900_000_000)));
        breaker.hurry(Time(2_000_000_000));
        assert_eq!(breaker.next_try, Time(5_000_000_000));
    }

    #[test]
    fn a_mirror_that_was_away_for_long_is_left_alone_for_a_moment_when_it_asks_for_less() {
        let (mut breaker, settings, mut rng) = parts();
        let mut now = Time(1);
        for _ in 0..10 {
            breaker.open(now, Reason::Unreachable, &settings, &mut rng, settings.backoff_max);
            now = breaker.next_try;
        }
        breaker.answered(now);
        let mut wait = || {
            breaker.throttle(now, None);
            let wait = breaker.next_try.since(now);
            now = breaker.next_try;
            breaker.answered(now);
            wait
        };
        assert_eq!([wait(), wait(), wait()], [THROTTLED, THROTTLED * 2, THROTTLED * 4]);
    }

    #[test]
    fn a_second_stall_waits_where_the_first_is_probed_at_once() {
        let (mut breaker, settings, mut rng) = parts();
        breaker.stall(Time(0), &settings, &mut rng);
        assert_eq!(breaker.state, BreakerState::HalfOpen);
        breaker.answered(Time(1));
        breaker.success(Time(2));
        breaker.stall(Time(3), &settings, &mut rng);
        assert_eq!(breaker.state, BreakerState::Open);
    }

    /// The shortest and the longest of many waits, in ms, which differ by chance only.
    fn waits_ms(mut wait: impl FnMut(&mut StdRng) -> Duration) -> (f64, f64) {
        let all = (0..500).map(|seed| wait(&mut StdRng::seed_from_u64(seed)).as_secs_f64() * 1e3);
        all.fold((f64::MAX, 0.0), |(least, most), ms| (ms.min(least), ms.max(most)))
    }

    fn is_about((least, most): (f64, f64), from_ms: f64, to_ms: f64) -> bool {
        let slack = (to_ms - from_ms) / 50.0;
        (from_ms..from_ms + slack).contains(&least) && (to_ms - slack..=to_ms).contains(&most)
    }

    #[test]
    fn a_rest_is_50_to_100_ms_and_waits_double_from_500_ms_to_30_s_by_a_quarter_more_or_less() {
        let settings = Settings::default();
        let longest = settings.backoff_max;
        let rest = waits_ms(|rng| {
            let mut breaker = Breaker::new();
            breaker.failure(Time(0), &settings, rng, longest);
            breaker.next_try.since(Time(0))
        });
        assert!(is_about(rest, 50.0, 100.0), "{rest:?}");
        for (level, ms) in [(0, 500.0), (1, 1000.0), (5, 16_000.0), (6, 30_000.0), (60, 30_000.0)] {
            let waits = waits_ms(|rng| {
                let mut breaker = Breaker { level, failures_in_row: 1, ..Breaker::new() };
                assert!(breaker.failure(Time(0), &settings, rng, longest), "the second in a row opens it");
                breaker.next_try.since(Time(0))
            });
            assert!(is_about(waits, 0.75 * ms, 1.25 * ms), "{level}: {waits:?}");
        }
    }

    #[test]
    fn a_refusal_without_a_time_is_1_s_then_2_and_none_is_longer_than_10_minutes() {
        let (mut breaker, settings, _) = parts();
        let mut waits = Vec::new();
        for retry_after in [None, None, Some(599), Some(601), Some(1 << 40)] {
            let now = Time(1);
            breaker.state = BreakerState::HalfOpen;
            breaker.throttle(now, retry_after.map(Duration::from_secs));
            waits.push(breaker.next_try.since(now).as_secs());
        }
        assert_eq!(waits, [1, 2, 599, 600, 600]);
        breaker.quarantine(Time(0), &settings);
        assert_eq!(breaker.next_try, Time(300_000_000_000));
    }

    #[test]
    fn ten_seconds_without_trouble_are_forgiven_and_less_is_not() {
        for (ms, level) in [(9_999, 3), (10_000, 0)] {
            let mut breaker = Breaker { level: 3, ..Breaker::new() };
            breaker.success(Time(0) + Duration::from_millis(ms));
            assert_eq!(breaker.level, level, "after {ms} ms");
        }
    }

    #[test]
    fn a_probe_is_lost_after_a_second() {
        let (mut breaker, settings, mut rng) = parts();
        (breaker.state, breaker.probe_at) = (BreakerState::HalfOpen, Some(Time(0)));
        let look = |breaker: &mut Breaker, rng: &mut StdRng, ms: u64| {
            breaker.on_time(Time(ms * 1_000_000), &settings, rng, settings.backoff_max);
            breaker.state
        };
        assert_eq!(look(&mut breaker, &mut rng, 999), BreakerState::HalfOpen);
        assert_eq!(look(&mut breaker, &mut rng, 1000), BreakerState::Open);
    }
}
