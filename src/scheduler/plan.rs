//! One planning pass: the wanted pages in the order in which they are needed, each to the mirror that
//! completes it first.
//!
//! The pass is list scheduling by earliest finish. A range whose best mirror is full is meant for that
//! mirror and left queued, and the pass goes on, so a slow mirror with room gets a range far enough ahead
//! that it arrives before the reader does, and at the end of a file none at all.

use super::Scheduler;
use super::action::Action;
use super::class_weight::base;
use super::connections::TRIAL;
use super::explain::Cause;
use super::fetches::Runs;
use super::headroom::Kept;
use super::lanes::UNIT_BYTES_MAX;
use super::pick::Ranking;
use super::strategy::Strategy;
use super::table::State;
use super::wants::Key;
use crate::chunk::{CHUNK_BYTES, CHUNK_PAGES, Class, FetchId, Inode, MirrorId, PAGE_BYTES, Pages, ReaderId};
use crate::clock::Time;
use rand::RngExt;
use smallvec::smallvec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A pass looks at so many units: at 1 MiB more than any window is long.
const UNITS_MAX: usize = 512;
/// How readahead and prefetch share what demand leaves, on whichever mirror.
const WEIGHTS: [f64; 2] = [base(Class::Readahead), base(Class::Prefetch)];
/// Long fetches end on this grid, so that memory and disk get whole extents.
const EXTENT_PAGES: u64 = 256;

/// What was late once and is waited for is asked of several mirrors, so many pages (256 KiB) of each: a new connection
/// on a full link gets a small share of it at first, and one of them may be slow again.
const LATE_PAGES: u64 = 64;

/// A fetch that the pass decided on.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) fetch: FetchId,
    pub(super) mirror: MirrorId,
    pub(super) file: Inode,
    pub(super) pages: Pages,
    /// The pages that it has in flight: all of them, or of a whole file what nobody else has.
    pub(super) owned: Runs,
    pub(super) class: Class,
    pub(super) whole: bool,
}

/// A range and the place of its mirror among the lanes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) at: usize,
    pub(super) file: Inode,
    pub(super) pages: Pages,
    pub(super) class: Class,
    pub(super) whole: bool,
}

/// Whose background pages come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Stream(ReaderId),
    Want(Key),
}

/// A place in the background queue: how near its reader is, whose, and the next page.
type Cursor = Reverse<(u64, Source, u64)>;

/// So much of the background is dealt out at a time.
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// 0: readahead, 1: prefetch.
    class: usize,
    file: Inode,
    pages: Pages,
    /// What it is the beginning of.
    window: Pages,
    /// Where its reader is, if there is one that goes in order.
    position: Option<u64>,
    /// A reader of a file that is ruled to its class waits for it.
    is_read: bool,
}

/// What a pass has to say of one unit.
enum Outcome {
    /// Started, or meant for a mirror, up to this page.
    Dealt { to: u64, started_bytes: u64 },
    /// No mirror can take it now.
    Nobody,
    /// Memory is used up.
    Broke,
}

impl Scheduler {
    /// Decide on every fetch that should start now.
    pub(super) fn plan(&mut self, now: Time) {
        self.refresh(now);
        self.plan_demand(now);
        self.plan_background(now);
        let mut decided = std::mem::take(&mut self.decided);
        decided.drain(..).for_each(|decision| self.start(now, decision));
        self.decided = decided;
        self.compare(now);
        self.cap_due = self.cap_due(now);
        self.note_room(now);
    }

    fn plan_demand(&mut self, now: Time) {
        if self.demand_paused_until.is_some_and(|until| now < until) {
            return;
        }
        let mut next = self.wants.next_pending(Class::Demand, None);
        for _ in 0..UNITS_MAX {
            let Some(key) = next else { break };
            while let Some((file, run)) = self.next_of_want(&key, self.lanes.unit_pages) {
                let Some(known) = self.files.get(&file) else { break };
                let late = known.late_with(run.start, now);
                let run = if late.is_some() { head(run, LATE_PAGES) } else { run };
                let bytes = run.len_bytes(known.size_bytes);
                let by = self.wants.get(&key).map_or(now, |want| want.expires());
                // By any other measure than who completes it first, who was late with it may well be chosen again.
                let late = late.filter(|_| !self.lanes.strategy.foretells_completion());
                let elsewhere = late.and_then(|late| self.lanes.rank_but(now, known, bytes, late));
                let ranking = elsewhere.unwrap_or_else(|| self.lanes.rank_demand(now, known, bytes, by));
                let Some(at) = ranking.winner() else {
                    let (hopeless, able) = (known.hopeless(now), self.lanes.any_able(known));
                    self.look_for_others(now, file);
                    if let Some(why) = hopeless {
                        self.give_up(file, why);
                    } else if !able {
                        // Nobody who has it may be asked: try them now rather than at their time.
                        self.hurried = true;
                    }
                    break;
                };
                let whole = !self.lanes.ranges.contains(at);
                if whole && self.fetches.of_file(file).any(|(_, fetch)| fetch.whole) {
                    break;
                }
                let run = self.lanes.cut(at, run);
                let bytes = run.len_bytes(known.size_bytes);
                self.decide(now, Chosen { at, file, pages: run, class: Class::Demand, whole }, &ranking);
                self.lanes.spend(at, bytes);
                self.lanes.give_demand(at, bytes);
            }
            next = self.wants.next_pending(Class::Demand, Some(key));
        }
    }

    /// The next queued pages of a want; its cursor moves up to them.
    fn next_of_want(&mut self, key: &Key, pages_max: u64) -> Option<(Inode, Pages)> {
        let want = self.wants.get(key)?;
        let (file, end) = (want.file, want.pages.end);
        let table = &self.files.get(&file)?.table;
        let run = table.next_run(Pages::new(want.from, end), State::Queued, pages_max);
        self.wants.advance(key, run.map_or(end, |run| run.start));
        run.map(|run| (file, run))
    }

    fn plan_background(&mut self, now: Time) {
        let paused = self.background_paused_until.is_some_and(|until| now < until);
        let prefetched = self.wants.next_pending(Class::Prefetch, None).is_some();
        let kept = if prefetched { self.headroom(now) } else { None };
        let gap = kept.is_some_and(|kept| kept.pages.is_some());
        if paused || !(self.lanes.any_room() || gap) || self.offline_since.is_some() {
            return;
        }
        // Without memory no readahead can start, and thousands of readers are a long walk.
        let named = prefetched || self.wants.next_pending(Class::Readahead, None).is_some();
        if self.budget_bytes < CHUNK_BYTES && !named {
            return;
        }
        for fetch in self.crowded_out.iter().filter_map(|id| self.fetches.all.get(id)) {
            if fetch.remaining_bytes() > 0 {
                self.lanes.close_room(usize::from(fetch.mirror.0));
            }
        }
        let mut queues = [Class::Readahead, Class::Prefetch].map(|class| self.background_queue(class));
        if let Some(kept) = kept {
            self.fill_gap(now, &kept, &mut queues[1]);
            self.lanes.not_for_prefetch = Some(kept.at);
            if queues[0].is_empty() {
                // There is nobody else that it could have room for.
                self.lanes.close_room(kept.at);
            }
        }
        let mut served = self.served;
        for _ in 0..UNITS_MAX {
            // Weighted fair: whoever got less for its weight is next; who has nothing to do saves nothing up.
            let second = queues[0].is_empty() || (!queues[1].is_empty() && served[1] < served[0]);
            let class = usize::from(second);
            let Some(Reverse((_, source, from))) = queues[class].pop() else { break };
            let Some((file, window)) = self.window_of(source, from) else { continue };
            let Some(table) = self.files.get(&file).map(|known| &known.table) else { continue };
            let Some(run) = table.next_run(window, State::Queued, self.lanes.unit_pages) else { continue };
            let position =
                if let Source::Stream(reader) = source { self.streams.get(&reader).map(|s| s.position) } else { None };
            let is_read = matches!(source, Source::Want(key) if self.wants.is_read(&key));
            match self.deal(now, Unit { class, file, pages: run, window, position, is_read }) {
                Outcome::Dealt { to, started_bytes } => {
                    served[class] += (to - run.start) as f64 * PAGE_BYTES as f64 / WEIGHTS[class];
                    self.served[class] += started_bytes as f64 / WEIGHTS[class];
                    let distance = if is_read { 0 } else { u64::MAX };
                    let distance = position.map_or(distance, |position| to.saturating_sub(position));
                    queues[class].push(Reverse((distance, source, to)));
                }
                Outcome::Nobody => {}
                Outcome::Broke => break,
            }
            if !self.lanes.any_room() {
                break;
            }
        }
        let least = if queues[0].is_empty() == queues[1].is_empty() { 0.0 } else { self.served[0].max(self.served[1]) };
        self.served = self.served.map(|value| value.max(least));
    }

    /// A small fetch of prefetch to the mirror that is left idle for readers, where its time has come.
    fn fill_gap(&mut self, now: Time, kept: &Kept, queue: &mut BinaryHeap<Cursor>) {
        let Some(pages) = kept.pages else { return };
        let Some(&Reverse((_, source, from))) = queue.peek() else { return };
        let Some((file, window)) = self.window_of(source, from) else { return };
        let Some(known) = self.files.get(&file) else { return };
        let (at, lanes) = (kept.at, &mut self.lanes);
        let (whole, large) = (!lanes.ranges.contains(at), known.size_bytes > self.settings.whole_bytes_max);
        let Some(run) = known.table.next_run(window, State::Queued, pages) else { return };
        let bytes = run.len_bytes(known.size_bytes);
        if !known.may(MirrorId(at as u16), now)
            || (large && whole)
            || bytes > self.budget_bytes
            || !lanes.all[at].allowance.allows(bytes)
        {
            return;
        }
        let ranking = lanes.rank_only(known, bytes, at);
        self.decide(now, Chosen { at, file, pages: run, class: Class::Prefetch, whole }, &ranking);
        self.headroom.gave(now, kept, run.count());
        self.lanes.spend(at, bytes);
        self.lanes.give_gap(at, bytes);
        self.budget_bytes = self.budget_bytes.saturating_sub(bytes);
        queue.pop();
        queue.push(Reverse((u64::MAX, source, run.end)));
    }

    /// The readers whose window has queued pages, the one that runs dry soonest first; then what was
    /// wanted by name.
    fn background_queue(&mut self, class: Class) -> BinaryHeap<Cursor> {
        let mut queue = BinaryHeap::new();
        for (&reader, stream) in &mut self.streams {
            stream.from = stream.from.max(stream.position);
            let Some(known) = self.files.get(&stream.file).filter(|known| known.rule.ahead() == class) else {
                continue;
            };
            let window = Pages::new(stream.from, stream.window_end);
            let run = known.table.next_run(window, State::Queued, 1);
            stream.from = run.map_or(stream.window_end, |run| run.start);
            if run.is_some() {
                queue.push(Reverse((stream.from - stream.position, Source::Stream(reader), stream.from)));
            }
        }
        let mut next = self.wants.next_pending(class, None);
        for _ in 0..UNITS_MAX {
            let Some(key) = next else { break };
            if let Some((_, run)) = self.next_of_want(&key, 1) {
                // A reader of a file that is ruled to this class waits for it.
                let distance = if self.wants.is_read(&key) { 0 } else { u64::MAX };
                queue.push(Reverse((distance, Source::Want(key), run.start)));
            }
            next = self.wants.next_pending(class, Some(key));
        }
        queue
    }

    /// Is anything of the background queued?
    pub(super) fn any_background(&mut self) -> bool {
        [Class::Readahead, Class::Prefetch].into_iter().any(|class| !self.background_queue(class).is_empty())
    }

    fn window_of(&self, source: Source, from: u64) -> Option<(Inode, Pages)> {
        match source {
            Source::Stream(reader) => {
                self.streams.get(&reader).map(|stream| (stream.file, Pages::new(from, stream.window_end)))
            }
            Source::Want(key) => self.wants.get(&key).map(|want| (want.file, Pages::new(from, want.pages.end))),
        }
    }

    /// Give one unit of background to a mirror, and more of its run where the mirror should have more.
    fn deal(&mut self, now: Time, unit: Unit) -> Outcome {
        let Unit { class, file, window, is_read, .. } = unit;
        let Some(known) = self.files.get(&file) else { return Outcome::Nobody };
        let size_bytes = known.size_bytes;
        let bytes = unit.pages.len_bytes(size_bytes);
        let wanted = [Class::Readahead, Class::Prefetch][class];
        let ranking = self.lanes.rank(now, known, bytes, wanted);
        let Some(at) = ranking.winner() else {
            let hopeless = known.hopeless(now);
            self.look_for_others(now, file);
            if let Some(why) = hopeless {
                self.give_up(file, why);
            }
            return Outcome::Nobody;
        };
        let lane = &self.lanes.all[at];
        if lane.room_bytes == 0 || (self.lanes.would_try(at) && self.is_near(&unit)) {
            self.lanes.mean(at, bytes);
            return Outcome::Dealt { to: unit.pages.end, started_bytes: 0 };
        }
        let whole = !self.lanes.ranges.contains(at);
        if whole && self.fetches.of_file(file).any(|(_, fetch)| fetch.whole) {
            return Outcome::Nobody;
        }
        // No longer than the mirror's share of what is queued, so that all end together; nor than it takes
        // the reader to get there.
        let share = lane.rate / self.lanes.rate;
        let ahead = unit.position.map_or(u64::MAX, |position| unit.pages.start.saturating_sub(position) * PAGE_BYTES);
        let fair = (window.len_bytes(size_bytes).min(ahead) as f64 * share) as u64;
        let unit_bytes = bytes.min(lane.fetch_bytes);
        let most = lane.fetch_bytes.min(fair.max(unit_bytes)).min(lane.room_bytes.max(unit_bytes));
        // Who waits for it has memory for it already.
        let most = most.min(if is_read { u64::MAX } else { self.budget_bytes });
        if most < bytes.min(CHUNK_BYTES) {
            return Outcome::Broke;
        }
        let Some(run) = known.table.next_run(window, State::Queued, most.div_ceil(PAGE_BYTES).max(1)) else {
            return Outcome::Nobody;
        };
        let run = on_grid(run, window.end);
        let started_bytes = run.len_bytes(size_bytes);
        self.decide(now, Chosen { at, file, pages: run, class: wanted, whole }, &ranking);
        self.lanes.spend(at, started_bytes);
        self.lanes.give_background(at, started_bytes, self.settings.background_fetches_max);
        if !is_read {
            self.budget_bytes = self.budget_bytes.saturating_sub(started_bytes);
        }
        Outcome::Dealt { to: run.end, started_bytes }
    }

    /// Will its reader be there before a trial of connections has ended?
    fn is_near(&self, unit: &Unit) -> bool {
        unit.is_read
            || unit.position.is_some_and(|position| {
                let ahead = unit.pages.start.saturating_sub(position) * PAGE_BYTES;
                (ahead as f64) < self.lanes.rate * TRIAL.as_secs_f64()
            })
    }

    /// Take note of a fetch: its pages are in flight from here on. Neighbours that go to one mirror for one
    /// purpose become one fetch.
    fn decide(&mut self, now: Time, chosen: Chosen, ranking: &Ranking) {
        let fetch = self.own(chosen);
        self.note(now, fetch, chosen, Cause::Wanted, ranking);
    }

    /// Keep the decision for who asks why, and draw anew.
    pub(super) fn note(&mut self, now: Time, fetch: FetchId, chosen: Chosen, cause: Cause, ranking: &Ranking) {
        let Chosen { file, pages, class, .. } = chosen;
        let lanes = &mut self.lanes;
        let (strategy, considered) = (lanes.strategy, ranking.considered);
        let decided = self.ring.next();
        ranking.rate(lanes, &mut decided.best);
        (decided.at, decided.file, decided.pages, decided.class) = (now, file, pages, class);
        (decided.cause, decided.strategy) = (cause, strategy);
        (decided.fetch, decided.considered) = (fetch, considered);
        lanes.draw.counter = self.ring.made;
        if strategy == Strategy::WeightedRandom {
            self.lot = self.rng.random();
            lanes.draw.lot = self.lot;
        }
    }

    fn own(&mut self, chosen: Chosen) -> FetchId {
        let Chosen { at, file, pages, class, whole } = chosen;
        let (mirror, decided) = (MirrorId(at as u16), &mut self.decided);
        let Some(known) = self.files.get_mut(&file) else { return FetchId(0) };
        known.agreement.ask_first(mirror);
        if whole {
            let pages = known.table.pages();
            let mut owned: Runs = known.table.runs(pages, State::Queued).collect();
            owned.extend(known.table.runs(pages, State::Absent));
            owned.sort();
            known.table.turn(pages, State::Queued, State::InFlight);
            known.table.turn(pages, State::Absent, State::InFlight);
            let fetch = self.fetches.next_id();
            decided.push(Decision { fetch, mirror, file, pages, owned, class, whole });
            return fetch;
        }
        known.table.turn(pages, State::Queued, State::InFlight);
        let twin = decided.iter_mut().rev().find(|old| {
            (old.mirror, old.file, old.class, old.whole) == (mirror, file, class, false)
                && old.pages.end == pages.start
                && (old.pages.count() + pages.count()) * PAGE_BYTES <= UNIT_BYTES_MAX as u64
        });
        match twin {
            Some(old) => {
                old.pages.end = pages.end;
                old.owned = smallvec![old.pages];
                old.fetch
            }
            None => {
                let fetch = self.fetches.next_id();
                decided.push(Decision { fetch, mirror, file, pages, owned: smallvec![pages], class, whole });
                fetch
            }
        }
    }

    fn start(&mut self, now: Time, decision: Decision) {
        let Decision { mirror, file, pages, class, whole, .. } = decision;
        let fetch = self.launch(now, decision);
        self.out.push_back(Action::Start { fetch, mirror, file, pages, class, whole });
    }
}

/// So many pages of a run at most.
fn head(run: Pages, pages_max: u64) -> Pages {
    Pages::new(run.start, run.end.min(run.start + pages_max))
}

/// Let a run end on a whole extent or chunk, if it has one inside and does not end its window.
fn on_grid(run: Pages, window_end: u64) -> Pages {
    for grid in [EXTENT_PAGES, CHUNK_PAGES] {
        let end = run.end / grid * grid;
        if run.end != window_end && run.count() > grid && end > run.start {
            return Pages::new(run.start, end);
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_end_on_extents_short_ones_on_chunks_and_the_last_where_it_must() {
        assert_eq!(on_grid(Pages::new(100, 1000), 2000), Pages::new(100, 768));
        assert_eq!(on_grid(Pages::new(100, 150), 2000), Pages::new(100, 144));
        assert_eq!(on_grid(Pages::new(100, 1000), 1000), Pages::new(100, 1000));
        assert_eq!(on_grid(Pages::new(100, 105), 2000), Pages::new(100, 105));
    }
}
