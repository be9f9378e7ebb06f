//! How many background fetches a mirror has at a time: as few as fill its link.
//!
//! Bodies that share a full link hold each other up: with six of them on a queue of 50 ms, the one that the
//! reader needs next lost packets and took three times as long as the others, for nothing (measured). But a
//! server may limit each connection, and a long path may not be filled by two. So it starts with two, one that
//! brings bytes while the other asks, and now and then another number is tried: it stays where it brings at
//! least half of what would be its share. No formula tells this from outside; hill climbing does.

use crate::clock::Time;
use std::time::Duration;

/// One brings bytes while the other asks.
pub(super) const CONNECTIONS_MIN: usize = 2;
/// A number is judged after it was in full use for so long: twice what the rate looks back on.
pub(super) const TRIAL: Duration = Duration::from_millis(300);
/// After one that was no use, the next is tried so much later; twice as late each time …
const WAIT_MIN: Duration = Duration::from_secs(2);
/// … up to this: links change.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// In a trial the number may be in less than full use for so long before it is given up: what is wanted, or
/// the window, is the limit then, and not the connections.
const IDLE_MAX: Duration = Duration::from_millis(100);
/// A number is worth it when it brings this much of what its share would be.
const WORTH: f64 = 0.5;

#[derive(Clone, Debug)]
pub(super) struct Connections {
    /// Background fetches at a time.
    limit: usize,
    trial: Option<Trial>,
    /// In full use since then, but for moments.
    full_since: Option<Time>,
    full_at: Time,
    next_trial: Time,
    wait: Duration,
    /// The next trial is of fewer.
    down: bool,
    /// Another number was tried.
    judged: bool,
}

#[derive(Clone, Debug)]
struct Trial {
    before: usize,
    rate_before: f64,
}

impl Connections {
    pub(super) fn new() -> Connections {
        Connections {
            limit: CONNECTIONS_MIN,
            trial: None,
            full_since: None,
            full_at: Time(0),
            next_trial: Time(0),
            wait: WAIT_MIN,
            down: false,
            judged: false,
        }
    }

    /// How many background fetches it may have at a time.
    pub(super) fn limit(&self, max: usize) -> usize {
        self.limit.min(max)
    }

    /// How many of them were found to be of use. The ones beyond may starve beside those: where a sender keeps to the
    /// rate that it measured at first (BBR), one that joins a full link measures little, and stays there.
    pub(super) fn proven(&self, max: usize) -> usize {
        self.trial.as_ref().map_or(self.limit, |trial| self.limit.min(trial.before)).min(max)
    }

    /// Is another number being tried?
    pub(super) fn trying(&self) -> bool {
        self.trial.is_some()
    }

    /// Begin with so many, which an earlier mount found.
    pub(super) fn suppose(&mut self, limit: usize) {
        if !self.judged && self.trial.is_none() {
            self.limit = limit.max(CONNECTIONS_MIN);
        }
    }

    /// The number that fills the link, where others were tried.
    pub(super) fn found(&self) -> Option<usize> {
        self.judged.then(|| self.trial.as_ref().map_or(self.limit, |trial| trial.before))
    }

    /// So many bodies of the background run now, at `rate` bytes per second together.
    /// `may_try`: not too many other mirrors try another number.
    pub(super) fn look(&mut self, now: Time, running: usize, rate: f64, max: usize, may_try: bool) {
        if running >= self.limit {
            self.full_at = now;
            self.full_since.get_or_insert(now);
        } else if now.since(self.full_at) > IDLE_MAX {
            self.full_since = None;
            if let Some(trial) = self.trial.take() {
                self.end(now, trial.before, false);
            }
        }
        if self.full_since.is_none_or(|since| now.since(since) < TRIAL) {
            return;
        }
        if let Some(trial) = self.trial.take() {
            self.judge(now, &trial, rate);
        } else if may_try && now >= self.next_trial {
            self.try_another(now, rate, max);
        }
    }

    fn judge(&mut self, now: Time, trial: &Trial, rate: f64) {
        let (before, after) = (trial.before as f64, self.limit as f64);
        let worth = 1.0 + WORTH * (after.max(before) / after.min(before) - 1.0);
        let more_is_worth =
            if after > before { rate >= trial.rate_before * worth } else { rate * worth <= trial.rate_before };
        let limit = if more_is_worth { self.limit.max(trial.before) } else { self.limit.min(trial.before) };
        self.judged = true;
        self.end(now, limit, limit != trial.before);
    }

    /// A trial is over: `limit` it is. What was of use is followed by the next step at once.
    fn end(&mut self, now: Time, limit: usize, useful: bool) {
        self.limit = limit;
        self.full_since = None;
        if useful {
            self.wait = WAIT_MIN;
            self.next_trial = now;
            return;
        }
        self.next_trial = now + self.wait;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        self.down = !self.down;
    }

    fn try_another(&mut self, now: Time, rate: f64, max: usize) {
        let before = self.limit.min(max);
        let after = match self.down {
            true => (before - before / 3).max(CONNECTIONS_MIN),
            false => (before + before.div_ceil(2)).min(max),
        };
        if after == before {
            self.end(now, before, false);
            return;
        }
        self.trial = Some(Trial { before, rate_before: rate });
        self.limit = after;
        self.full_since = None;
        self.full_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Always in full use for `seconds`; what the mirror brings depends on the number.
    fn run(connections: &mut Connections, from: u64, seconds: u64, rate: impl Fn(usize) -> f64) {
        for tick in 0..seconds * 40 {
            let now = Time(from * 1_000_000_000 + tick * 25_000_000);
            let running = connections.limit(8);
            connections.look(now, running, rate(running), 8, true);
        }
    }

    #[test]
    fn a_link_that_two_fill_keeps_two() {
        let mut connections = Connections::new();
        run(&mut connections, 0, 60, |_| 20e6);
        assert_eq!(connections.limit(8).min(2), 2);
        assert!(connections.wait >= WAIT_MIN * 8, "it is tried less and less often");
        let mut two = 0;
        for tick in 0..4000 {
            let running = connections.limit(8);
            two += usize::from(running == 2);
            connections.look(Time(60_000_000_000 + tick * 25_000_000), running, 20e6, 8, true);
        }
        assert!(two > 3900, "{two} of 4000 ticks with two");
    }

    #[test]
    fn a_server_that_limits_each_connection_gets_more_within_seconds_and_fewer_when_it_stops() {
        let mut connections = Connections::new();
        run(&mut connections, 0, 4, |running| running as f64 * 1e6);
        assert_eq!(connections.limit(8), 8);
        run(&mut connections, 4, 200, |_| 8e6);
        assert!(connections.limit(8) <= 3, "{}", connections.limit(8));
    }

    #[test]
    fn those_that_are_only_tried_are_not_proven_until_they_are_judged() {
        let mut connections = Connections::new();
        let mut tried = 0;
        for tick in 0..40 {
            tried += usize::from(connections.limit(8) == 3);
            assert_eq!(connections.proven(8), 2);
            connections.look(Time(tick * 25_000_000), connections.limit(8), 20e6, 8, true);
        }
        assert!(tried > 0, "three are tried");
        assert_eq!(connections.limit(8), 2);
        let mut useful = Connections::new();
        run(&mut useful, 0, 4, |running| running as f64 * 1e6);
        assert_eq!((useful.limit(8), useful.proven(8)), (8, 8));
    }

    #[test]
    fn just_under_half_of_its_share_is_not_worth_a_connection_and_just_over_is() {
        for (gain, limit) in [(0.49, 2), (0.51, 3)] {
            let mut connections = Connections::new();
            run(&mut connections, 0, 1, |running| if running > 2 { 1e6 * (1.0 + gain / 2.0) } else { 1e6 });
            assert_eq!(connections.limit.min(3), limit, "gain {gain}");
        }
    }

    #[test]
    fn what_is_not_in_full_use_is_not_tried() {
        let mut connections = Connections::new();
        for tick in 0..400 {
            connections.look(Time(tick * 25_000_000), 1, 20e6, 8, true);
        }
        assert_eq!((connections.limit(8), connections.trial.is_some()), (2, false));
    }
}
