//! What prefetch leaves free while somebody reads here and there: one mirror that is idle when a read comes.
//!
//! A mirror that streams at full speed has a full queue behind it, and whatever is asked of it waits for that queue
//! (some tens of ms on most links), whatever we do with our priorities: it is not our queue. So prefetch leaves a part
//! of the capacity of all mirrors to demand, and takes all of it from one mirror, the one that answers a lone read
//! soonest. What prefetch may still have of that one it gets in small fetches, one at a time, spaced out, and none
//! while demand is there.

use super::Scheduler;
use super::lanes::Lanes;
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

    /// When there is nobody any more to leave a mirror idle for, if nobody else comes.
    fn over_at(&self) -> Time {
        let seconds = HALF_LIFE_SECONDS * (self.reads / READS_MIN).log2().max(0.0);
        self.at + Duration::from_secs_f64(seconds) + Duration::from_millis(1)
    }

    /// The mirror to leave idle among these.
    fn keep(&mut self, lanes: &Lanes) -> Option<usize> {
        let seconds = |at: usize| f64::from(lanes.stats(at).latency_seconds) + READ_BYTES / lanes.all[at].rate;
        let mut best: Option<(usize, f64)> = None;
        lanes.usable.each(|at| {
            // One of which nothing is known has to show what it is first.
            if lanes.all[at].known && best.is_none_or(|(_, least)| seconds(at) < least) {
                best = Some((at, seconds(at)));
            }
        });
        let (best, least) = best?;
        let old = self.kept.map(|id| usize::from(id.0)).filter(|&old| lanes.usable.contains(old));
        let at = old.filter(|&old| seconds(old) < SOONER * least).unwrap_or(best);
        self.kept = Some(MirrorId(at as u16));
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
    pub(super) fn headroom(&mut self, now: Time) -> Option<Kept> {
        let (headroom, lanes) = (&mut self.headroom, &self.lanes);
        headroom.due = None;
        let before = headroom.kept;
        let wanted = lanes.usable.count() >= 2 && headroom.wanted(now);
        let at = if wanted { headroom.keep(lanes) } else { None };
        if let Some(old) = before.map(|id| usize::from(id.0)).filter(|&old| at != Some(old)) {
            self.mirrors[old].rate_least = 0.0;
        }
        let at = at?;
        let (lane, stats) = (&lanes.all[at], lanes.stats(at));
        // What is left idle is hardly measured: it is taken to be no slower than the slowest of the others.
        let mut slowest = f64::INFINITY;
        lanes.usable.each(|other| {
            if other != at && lanes.all[other].known {
                slowest = slowest.min(lanes.all[other].rate);
            }
        });
        let slowest = if slowest.is_finite() { slowest } else { 0.0 };
        if self.mirrors[at].rate_least != slowest {
            self.mirrors[at].rate_least = slowest;
        }
        let rate = lane.rate.max(slowest);
        // All that is left free comes from this one.
        let part = (1.0 - FREE * (lanes.rate - lane.rate + rate) / rate).max(0.0);
        let seconds_per_page = PAGE_BYTES as f64 / (rate * part);
        let length = part * (f64::from(stats.latency_seconds) + GAP_SECONDS) * rate;
        let pages = (length.min(lane.fetch_bytes as f64) as u64 / PAGE_BYTES).max(GAP_PAGES_MIN);
        let may = part > 0.0 && stats.fetches == 0.0;
        let due = headroom.next_at <= now;
        // At the latest when it need not be left idle any more: nothing else may happen until then.
        let over_at = headroom.over_at();
        headroom.due = Some(if may && !due { headroom.next_at.min(over_at) } else { over_at });
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
