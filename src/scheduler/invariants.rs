//! What must hold between any two calls, spelled out: the simulator asks after each event.

use super::Scheduler;
use super::fetches::Phase;
use super::files::File;
use super::strategy::MirrorStats;
use super::table::State;
use crate::chunk::{Class, Inode, Pages};

/// Between two looks a rate may fall by a fifteenth of itself, or a little more.
const RATE_PART: f64 = 0.1;
/// A silence grows by 10 ms, which count five times; the first that is noticed is of up to 70.
const SILENCE_SECONDS: f32 = 0.051;
const SILENCE_SECONDS_AT_FIRST: f32 = 0.351;
/// Trouble, in seconds, and doubt, in parts, change by less.
const TROUBLE_SECONDS: f32 = 0.002;
const DOUBT_PART: f32 = 0.04;

impl Scheduler {
    /// The first invariant that does not hold, in words. Walks everything: for tests and simulations.
    pub fn broken_invariant(&self) -> Option<String> {
        let files = self.files.iter().find_map(|(&file, known)| self.broken_in_file(file, known));
        let others = || self.broken_in_counts().or_else(|| self.broken_in_wants());
        files.or_else(others).or_else(|| self.broken_in_lanes())
    }

    fn broken_in_file(&self, file: Inode, known: &File) -> Option<String> {
        let all = known.table.pages();
        let mut owned: Vec<Pages> = self.fetches.of_file(file).flat_map(|(_, fetch)| fetch.owned.clone()).collect();
        owned.sort();
        if owned.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return Some(format!("{file:?}: two fetches own one page: {owned:?}"));
        }
        let owned_pages: u64 = owned.iter().map(|run| run.count()).sum();
        let in_flight: u64 = owned.iter().map(|&run| known.table.count(run, State::InFlight)).sum();
        if owned_pages != in_flight || known.table.count(all, State::InFlight) != in_flight {
            let table: Vec<Pages> = known.table.runs(all, State::InFlight).collect();
            return Some(format!("{file:?}: in flight {table:?}, owned {owned:?}"));
        }
        known.table.runs(all, State::Queued).find_map(|run| {
            let wanted = |page| self.wanted(file, Pages::new(page, page + 1));
            let lost = run.iter().find(|&page| !wanted(page));
            lost.map(|page| format!("{file:?}: page {page} is queued for nobody"))
        })
    }

    fn broken_in_counts(&self) -> Option<String> {
        let live = || self.fetches.all.values().filter(|fetch| !fetch.cancelled);
        if live().count() != self.fetches.live {
            return Some(format!("{} live fetches, counted {}", live().count(), self.fetches.live));
        }
        self.mirrors.iter().enumerate().find_map(|(at, mirror)| {
            let of = || live().filter(|fetch| usize::from(fetch.mirror.0) == at);
            let fetches = (mirror.fetches, mirror.demand_fetches, mirror.extra_fetches, mirror.small_fetches);
            let counted = (fetches, mirror.bodies, mirror.remaining_bytes);
            let fetches = (
                of().count(),
                of().filter(|fetch| fetch.class == Class::Demand).count(),
                of().filter(|fetch| fetch.extra && fetch.class != Class::Demand).count(),
                of().filter(|fetch| fetch.small && fetch.class != Class::Demand).count(),
            );
            let true_ones = (
                fetches,
                of().filter(|fetch| fetch.phase == Phase::Body).count(),
                of().map(|fetch| fetch.remaining_bytes()).sum(),
            );
            (counted != true_ones).then(|| format!("mirror {at}: counted {counted:?}, is {true_ones:?}"))
        })
    }

    /// Nothing that a reader waits for may be lost: each page is queued, in flight or held.
    fn broken_in_wants(&self) -> Option<String> {
        self.wants.keyed().find_map(|(key, want)| {
            let Some(known) = self.files.get(&want.file) else { return Some(format!("a want of no file: {want:?}")) };
            if known.table.count(want.pages, State::Absent) > 0 {
                return Some(format!("nobody fetches some of {want:?}"));
            }
            let queued = known.table.next_run(want.pages, State::Queued, 1)?;
            let seen = self.wants.is_pending(key) && want.from <= queued.start;
            (!seen).then(|| format!("{queued:?} is queued, but the plan will not look at {want:?}"))
        })
    }

    /// What is kept of a mirror that nobody touched since is what would be made anew: exactly, as of when it was
    /// made, and nearly, as of the last look.
    fn broken_in_lanes(&self) -> Option<String> {
        let lanes = &self.lanes;
        if lanes.common != Some(self.common()) {
            return None;
        }
        let sum: f64 =
            lanes.all.iter().enumerate().filter(|&(at, _)| lanes.usable.contains(at)).map(|(_, lane)| lane.rate).sum();
        if (lanes.sum - sum).abs() > 1.0 + 1e-6 * sum {
            return Some(format!("all mirrors together: kept {}, is {sum}", lanes.sum));
        }
        (0..lanes.all.len()).find_map(|at| {
            let touched = self.mirrors.changed().contains(at) || lanes.given.contains(at);
            if touched { None } else { self.broken_in_row(at) }
        })
    }

    fn broken_in_row(&self, at: usize) -> Option<String> {
        let (lanes, now) = (&self.lanes, self.lanes.refreshed_at);
        let (stats, lane) = (lanes.stats(at), &lanes.all[at]);
        let (then_stats, then_lane) = self.row(lane.made_at, at);
        let then_stats = MirrorStats { weight_before: stats.weight_before, ..then_stats };
        if (&then_stats, &then_lane) != (&stats, lane) {
            return Some(format!("mirror {at}: kept {stats:?} {lane:?}, was {then_stats:?} {then_lane:?}"));
        }
        if now >= lane.stale_at || lanes.usable.contains(at) != self.mirrors[at].breaker.usable(now) {
            return Some(format!("mirror {at}: not looked at again at {now:?}: {lane:?}"));
        }
        let (now_stats, now_lane) = self.row(now, at);
        let silence = if stats.silence_seconds == 0.0 { SILENCE_SECONDS_AT_FIRST } else { SILENCE_SECONDS };
        let near = (now_lane.rate - lane.rate).abs() <= RATE_PART * lane.rate
            && (now_stats.silence_seconds - stats.silence_seconds).abs() <= silence
            && (now_stats.trouble_seconds - stats.trouble_seconds).abs() <= TROUBLE_SECONDS
            && (now_stats.doubt - stats.doubt).abs() <= DOUBT_PART;
        (!near).then(|| format!("mirror {at}: kept {stats:?} {lane:?}, is {now_stats:?} {now_lane:?}"))
    }
}
