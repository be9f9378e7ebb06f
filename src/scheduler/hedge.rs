//! Hedging: a demand fetch that is late against its own prediction is sent to a second mirror as well; the
//! first answer wins (spec 2.9; Dean and Barroso, The Tail at Scale, CACM 2013).

use super::action::Action;
use super::explain::Cause;
use super::fetches::{Fetch, Phase, Runs};
use super::plan::Chosen;
use super::table::State;
use super::{Scheduler, TICK};
use crate::chunk::{Class, FetchId, MirrorId, PAGE_BYTES, Pages};
use crate::clock::Time;
use std::time::Duration;

/// The budget grows by this part of the bytes fetched …
const BUDGET_PART: f64 = 0.05;
/// … starts with this, and holds no more, so that a long quiet time does not pay for a storm.
const BUDGET_START_BYTES: f64 = 1_048_576.0;
const BUDGET_MAX_BYTES: f64 = 8.0 * BUDGET_START_BYTES;
/// Late: after this many times the time to first byte that was to be expected, deviations included: less would be
/// what shares the link with it …
const LATE_FACTOR: f64 = 1.25;
/// … and not before this, one tick: on a busy machine an answer waits some 10 ms for its thread, and a hedge would be
/// chance.
const LATE_MIN: Duration = Duration::from_millis(25);
/// Larger ones move as late fetches do; hedging is for those whose time is the waiting.
const HEDGED_BYTES_MAX: u64 = 1 << 20;
/// One whose body has begun has all but arrived: it is late when nothing came for so long, which is more than a
/// healthy link is ever silent …
const SILENT_BODY: Duration = Duration::from_millis(60);
/// … and larger than one read they are cheaper moved when they have stalled.
const HEDGED_BODY_BYTES_MAX: u64 = 128 << 10;
/// Of a larger fetch that a reader has come up to, the next pages are hedged once its whole mirror has been silent
/// for so long: half of what a lost packet takes to be repaired, and more than a burst of a shaped link …
const SILENT_MIRROR: Duration = Duration::from_millis(100);
/// … and so many pages at a time, 256 KiB: what a reader asks for next, while the rest may come yet.
const HEDGED_AHEAD_PAGES: u64 = 64;

/// What hedging may cost, and what it did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hedges {
    budget_bytes: f64,
    pub(super) issued: u64,
    /// The second fetch brought the pages first.
    pub(super) won: u64,
    /// Bytes that a hedge or its original had brought when it lost.
    pub(super) wasted_bytes: u64,
}

impl Hedges {
    pub(super) fn new() -> Hedges {
        Hedges { budget_bytes: BUDGET_START_BYTES, issued: 0, won: 0, wasted_bytes: 0 }
    }

    /// Bytes came, by any fetch.
    pub(super) fn earn(&mut self, bytes: u64) {
        self.budget_bytes = (self.budget_bytes + BUDGET_PART * bytes as f64).min(BUDGET_MAX_BYTES);
    }

    fn spend(&mut self, bytes: u64) -> bool {
        let may = self.budget_bytes >= bytes as f64;
        if may {
            self.budget_bytes -= bytes as f64;
            self.issued += 1;
        }
        may
    }
}

impl Scheduler {
    /// Was this fetch, which has not ended, made because another one was late?
    pub fn is_hedge(&self, fetch: FetchId) -> bool {
        self.fetches.all.get(&fetch).is_some_and(|fetch| fetch.is_hedge)
    }

    /// Send what is late to a second mirror. Returns when to look again.
    pub(super) fn hedge_late(&mut self, now: Time) {
        self.hedge_due = None;
        if !self.settings.hedging {
            return;
        }
        let mut late = Vec::new();
        for (&id, fetch) in self.fetches.all.iter().filter(|(_, fetch)| hedgeable(fetch)) {
            let due = self.late_at(fetch);
            match due <= now {
                true => late.push(id),
                false => self.hedge_due = Some(self.hedge_due.map_or(due, |at| at.min(due))),
            }
        }
        for id in late {
            match self.late_pages(id) {
                Some(pages) => self.hedge(now, id, pages),
                // Nobody waits for what comes next of it just now; somebody may soon.
                None => self.hedge_due = Some(self.hedge_due.map_or(now + TICK, |at| at.min(now + TICK))),
            }
        }
    }

    /// What of a late fetch is worth asking for twice: all of a small one, of a large one what somebody waits for.
    fn late_pages(&self, id: FetchId) -> Option<Pages> {
        let fetch = self.fetches.all.get(&id)?;
        let first = *fetch.owned.first()?;
        if is_small(fetch) {
            return Some(first);
        }
        let next = Pages::new(first.start, first.end.min(first.start + HEDGED_AHEAD_PAGES));
        self.wants.waited(fetch.file, next).then_some(next)
    }

    /// A fetch has just started: when it would be late.
    pub(super) fn note_hedge_due(&mut self, id: FetchId) {
        let Some(fetch) = self.fetches.all.get(&id).filter(|fetch| hedgeable(fetch)) else { return };
        if self.settings.hedging {
            let due = self.late_at(fetch);
            self.hedge_due = Some(self.hedge_due.map_or(due, |at| at.min(due)));
        }
    }

    /// When it is late: by what was to be expected for its first byte when it started; later by its silence.
    fn late_at(&self, fetch: &Fetch) -> Time {
        let mirror = &self.mirrors[usize::from(fetch.mirror.0)];
        let gap = Duration::from_secs_f64(mirror.unusual_gap_seconds());
        let silent = match is_small(fetch) {
            true => fetch.sign_at + SILENT_BODY.max(gap),
            false => fetch.sign_at.max(mirror.sign_at) + SILENT_MIRROR.max(gap),
        };
        if fetch.phase == Phase::Body {
            return silent;
        }
        let usual = mirror.latency.unusual_seconds().unwrap_or(self.settings.first_byte.as_secs_f64());
        let before = match fetch.queued_bytes {
            0 => 0.0,
            queued_bytes => queued_bytes as f64 / mirror.rate(fetch.started_at),
        };
        let late = fetch.started_at + Duration::from_secs_f64(LATE_FACTOR * (usual + before)).max(LATE_MIN);
        if is_small(fetch) { late } else { late.max(silent) }
    }

    fn hedge(&mut self, now: Time, id: FetchId, first: Pages) {
        let Some(fetch) = self.fetches.all.get_mut(&id) else { return };
        // One hedge at a time for each fetch, whether it can be had or not.
        fetch.hedged = true;
        let (file, mirror) = (fetch.file, fetch.mirror);
        self.refresh(now);
        let Some(known) = self.files.get(&file) else { return };
        let bytes = first.len_bytes(known.size_bytes);
        // Off when all mirrors are slow: one that would not be in time itself only adds to the load.
        let budget = self.settings.first_byte.as_secs_f64();
        let ranking = self.lanes.rank_others(now, known, bytes, mirror, budget);
        let Some(at) = ranking.winner() else {
            self.want_other(file, false);
            let compared = self.files.get(&file).is_some_and(|known| !known.agreement.asked.is_empty());
            if let Some(fetch) = self.fetches.all.get_mut(&id).filter(|_| compared) {
                // There may be somebody in a moment.
                fetch.hedged = false;
                self.hedge_due = Some(self.hedge_due.map_or(now + TICK, |at| at.min(now + TICK)));
            }
            return;
        };
        let second = MirrorId(at as u16);
        if !self.hedges.spend(bytes) {
            return;
        }
        let hedge = self.launch_hedge(now, id, second, first);
        let chosen = Chosen { at, file, pages: first, class: Class::Demand, whole: false };
        self.note(now, hedge, chosen, Cause::Hedge, &ranking);
        self.out.push_back(Action::Start {
            fetch: hedge,
            mirror: second,
            file,
            pages: first,
            class: Class::Demand,
            whole: false,
        });
    }

    /// The pages of a fetch came: whoever else was sent for them is told to end.
    pub(super) fn settle_hedge(&mut self, now: Time, id: FetchId) {
        let Some(fetch) = self.fetches.all.get(&id) else { return };
        let Some(twin) = fetch.twin else { return };
        let (file, pages, is_hedge) = (fetch.file, fetch.pages, fetch.is_hedge);
        let wanted = if is_hedge { pages } else { self.fetches.all.get(&twin).map_or(pages, |hedge| hedge.pages) };
        let all_here = self.files.get(&file).is_none_or(|known| known.table.first_missing(wanted).is_none());
        if !all_here {
            return;
        }
        if let Some(fetch) = self.fetches.all.get_mut(&id) {
            fetch.twin = None;
        }
        let Some(other) = self.fetches.all.get_mut(&twin) else { return };
        other.twin = None;
        self.hedges.wasted_bytes += other.total_bytes;
        if is_hedge {
            // Of a large one the next pages may be late as well.
            other.hedged = is_small(other);
            self.learn_from_lost(now, twin);
        }
        // The original may have more to bring than what was hedged.
        if !is_hedge || self.fetches.all.get(&twin).is_some_and(|other| other.owned.is_empty()) {
            self.cancel(now, twin, false);
        }
    }

    /// The second request for what this one was to bring was first.
    fn learn_from_lost(&mut self, now: Time, id: FetchId) {
        let Some(lost) = self.fetches.all.get(&id) else { return };
        self.hedges.won += 1;
        let loser = &mut self.mirrors[usize::from(lost.mirror.0)];
        loser.trouble.learn(now, false);
        if lost.phase == Phase::Body {
            loser.stability.stalled(now);
        } else if loser.fetches == 1 && loser.sign_at < lost.started_at {
            // Its one fetch will end unanswered, and the next would begin by waiting for it again.
            loser.breaker.question();
        }
    }

    /// A fetch is told to end because another mirror's bytes of a file were the first: those of its hedge, perhaps.
    pub(super) fn learn_from_void(&mut self, now: Time, id: FetchId) {
        let Some(void) = self.fetches.all.get(&id).filter(|fetch| !fetch.is_hedge) else { return };
        let hedge = void.twin.and_then(|twin| self.fetches.all.get(&twin));
        if hedge.is_some_and(|hedge| !hedge.void) {
            self.learn_from_lost(now, id);
        }
    }

    /// A fetch ends without its pages: its twin goes on alone and takes them over. Returns those that it leaves.
    pub(super) fn leave_to_twin(&mut self, id: FetchId, owned: Runs) -> Runs {
        let Some(twin) = self.fetches.all.get_mut(&id).and_then(|fetch| fetch.twin.take()) else { return owned };
        let Some(heir) = self.fetches.all.get_mut(&twin).filter(|heir| !heir.cancelled) else { return owned };
        heir.twin = None;
        if !heir.is_hedge {
            return owned;
        }
        let (file, pages) = (heir.file, heir.pages);
        let known = self.files.get(&file);
        let missing: Runs = known.into_iter().flat_map(|known| known.table.runs(pages, State::Absent)).collect();
        let mut left = Runs::new();
        for run in owned {
            let common = run.intersect(pages);
            if !missing.iter().any(|gap| gap.covers(common)) || common.is_empty() {
                left.push(run);
                continue;
            }
            self.inherit(twin, common);
            let around = [Pages::new(run.start, common.start), Pages::new(common.end, run.end)];
            left.extend(around.into_iter().filter(|part| !part.is_empty()));
        }
        left
    }

    fn inherit(&mut self, heir: FetchId, run: Pages) {
        let Some(fetch) = self.fetches.all.get_mut(&heir) else { return };
        fetch.owned.push(run);
        fetch.owned.sort();
        if let Some(known) = self.files.get_mut(&fetch.file) {
            known.table.turn(run, State::Absent, State::InFlight);
        }
    }
}

/// Somebody waits for it, and it has no second.
fn hedgeable(fetch: &Fetch) -> bool {
    let ended = fetch.cancelled || fetch.phase == Phase::Ended;
    !ended && fetch.waited && !fetch.hedged && !fetch.is_hedge && !fetch.whole
}

/// It is hedged as a whole, by its own lateness. A larger one is readahead that a reader has come up to: in a stream
/// that is every other fetch, and it is hedged only where its mirror has fallen silent.
fn is_small(fetch: &Fetch) -> bool {
    let bytes_max = if fetch.phase == Phase::Body { HEDGED_BODY_BYTES_MAX } else { HEDGED_BYTES_MAX };
    fetch.pages.count() * PAGE_BYTES <= bytes_max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_of_what_is_fetched_may_be_hedged_and_a_mebibyte_at_first() {
        let mut hedges = Hedges::new();
        assert!(hedges.spend(1 << 20) && !hedges.spend(1));
        hedges.earn(1000);
        assert!(!hedges.spend(51) && hedges.spend(50) && !hedges.spend(1));
        hedges.earn(1 << 40);
        assert!(hedges.budget_bytes <= BUDGET_MAX_BYTES);
        assert_eq!(hedges.issued, 2);
    }
}
