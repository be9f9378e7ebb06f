//! What prefetch leaves free while somebody reads here and there: one mirror that is idle when a read comes.
//!
//! A mirror that streams at full speed has a full queue behind it, and whatever is asked of it waits for that queue
//! (some tens of ms on most links), whatever we do with our priorities: it is not our queue. So prefetch leaves a part
//! of the capacity of all mirrors to demand, and takes all of it from one mirror, the one that answers a lone read
//! soonest. What prefetch may still have of that one it gets in small fetches, one at a time, spaced out, and none
//! while demand is there.

use super::Scheduler;
use super::pick::Lanes;
use crate::chunk::{MirrorId, PAGE_BYTES};
use crate::clock::Time;
use std::time::Duration;

/// The part of all mirrors' rates that is left free. Prefetch beside a random reader is to get 0.8 of what is left,
/// and a part of that is lost between its fetches.
const FREE: f64 = 0.15;
/// Reads count by half after this: who has read nothing for some seconds has no use for an idle mirror.
const HALF_LIFE_SECONDS: f64 = 1.0;
/// Fewer recent reads than this are somebody's first ones, of a file that is then read in order.
const READS_MIN: f64 = 3.0;
/// The read that the idle mirror is chosen for, in bytes.
const READ_BYTES: f64 = 65536.0;
/// Another mirror must be so many times sooner to take the place of the one that was left idle: two that are alike
/// would change places for ever, and neither would be idle.
const SOONER: f64 = 1.5;
/// A fetch in the gaps takes as long as an answer takes to begin, and this: less would be all request.
const GAP_SECONDS: f64 = 0.005;
/// And has at least so many pages, 32 KiB.
const GAP_PAGES_MIN: u64 = 8;

/// How much is read at random of late, and which mirror is left idle for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Headroom {
    reads: f64,
    at: Time,
    /// The mirror that is left idle.
    kept: Option<MirrorId>,
    /// When it may have its next fetch of prefetch.
    next_at: Time,
    /// When to look again because of that.
    pub(super) due: Option<Time>,
}

/// What of a mirror's time prefetch may have in a pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kept {
    /// The mirror's place among the lanes.
    pub(super) at: usize,
    /// It may be given so many pages now; none: not yet.
    pub(super) pages: Option<u64>,
    /// What that costs of its time, in seconds a page.
    seconds_per_page: f64,
}

impl Headroom {
    /// Somebody reads here and there, and what they read is not held.
    pub(super) fn asked(&mut self, now: Time) {
        self.reads = self.reads_lately(now) + 1.0;
        self.at = now;
    }

    fn reads_lately(&self, now: Time) -> f64 {
        self.reads * (-now.seconds_since(self.at) / HALF_LIFE_SECONDS).exp2()
    }

    /// Is there somebody to leave a mirror idle for?
    fn wanted(&mut self, now: Time) -> bool {
        let wanted = self.reads_lately(now) >= READS_MIN;
        if !wanted {
            self.kept = None;
        }
        wanted
    }

    /// The mirror to leave idle among these.
    fn keep(&mut self, lanes: &Lanes) -> Option<usize> {
        // One of which nothing is known has to show what it is first.
        let known = || (0..lanes.all.len()).filter(|&at| lanes.all[at].stats.known);
        let seconds = |at: usize| {
            let stats = &lanes.all[at].stats;
            stats.latency_seconds + READ_BYTES / stats.rate
        };
        let best = known().min_by(|&a, &b| seconds(a).total_cmp(&seconds(b)))?;
        let old = known().find(|&at| Some(lanes.all[at].stats.id) == self.kept);
        let at = old.filter(|&old| seconds(old) < SOONER * seconds(best)).unwrap_or(best);
        self.kept = Some(lanes.all[at].stats.id);
        Some(at)
    }

    /// A fetch of prefetch in the gaps begins.
    pub(super) fn gave(&mut self, now: Time, kept: &Kept, pages: u64) {
        self.next_at = now + Duration::from_secs_f64(kept.seconds_per_page * pages as f64);
        self.due = Some(self.next_at);
    }
}

impl Scheduler {
    /// The mirror that prefetch must leave idle just now, if any, and what it may have of it.
    pub(super) fn headroom(&mut self, now: Time, lanes: &Lanes) -> Option<Kept> {
        self.headroom.due = None;
        let before = self.headroom.kept;
        let wanted = lanes.all.len() >= 2 && self.headroom.wanted(now);
        let at = if wanted { self.headroom.keep(lanes) } else { None };
        if let Some(mirror) = before.filter(|&id| at.is_none_or(|at| lanes.all[at].stats.id != id)) {
            self.mirrors[usize::from(mirror.0)].rate_least = 0.0;
        }
        let at = at?;
        let lane = &lanes.all[at];
        // What is left idle is hardly measured: it is taken to be no slower than the slowest of the others.
        let others = lanes.all.iter().enumerate().filter(|&(other, lane)| other != at && lane.stats.known);
        let slowest = others.map(|(_, lane)| lane.stats.rate).min_by(f64::total_cmp).unwrap_or(0.0);
        self.mirrors[usize::from(lane.stats.id.0)].rate_least = slowest;
        let rate = lane.stats.rate.max(slowest);
        // All that is left free comes from this one.
        let part = (1.0 - FREE * (lanes.rate - lane.stats.rate + rate) / rate).max(0.0);
        let seconds_per_page = PAGE_BYTES as f64 / (rate * part);
        let length = part * (lane.stats.latency_seconds + GAP_SECONDS) * rate;
        let pages = (length.min(lane.fetch_bytes as f64) as u64 / PAGE_BYTES).max(GAP_PAGES_MIN);
        let may = part > 0.0 && lane.stats.fetches == 0;
        let due = self.headroom.next_at <= now;
        if may && !due {
            self.headroom.due = Some(self.headroom.next_at);
        }
        Some(Kept { at, pages: (may && due).then_some(pages), seconds_per_page })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_few_reads_in_a_second_want_an_idle_mirror_and_two_do_not() {
        let mut headroom = Headroom::default();
        headroom.asked(Time(MS));
        headroom.asked(Time(2 * MS));
        assert!(!headroom.wanted(Time(2 * MS)));
        headroom.asked(Time(3 * MS));
        headroom.asked(Time(4 * MS));
        assert!(headroom.wanted(Time(4 * MS)) && !headroom.wanted(Time(504 * MS)));
    }
}
