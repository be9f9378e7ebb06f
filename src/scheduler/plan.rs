//! One planning pass: the wanted pages in the order in which they are needed, each to the mirror that
//! completes it first.
//!
//! The pass is list scheduling by earliest finish. A range whose best mirror is full is meant for that
//! mirror and left queued, and the pass goes on, so a slow mirror with room gets a range far enough ahead
//! that it arrives before the reader does, and at the end of a file none at all.

use super::Scheduler;
use super::action::Action;
use super::class_weight::base;
use super::explain::{Cause, Decided};
use super::headroom::Kept;
use super::pick::{Lanes, Ranking};
use super::strategy::Strategy;
use super::table::State;
use super::wants::Key;
use crate::chunk::{CHUNK_PAGES, Class, FetchId, Inode, MirrorId, PAGE_BYTES, Pages, ReaderId};
use crate::clock::Time;
use rand::RngExt;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Ranges are dealt out in units of so much time of all mirrors together, of so many at most: among a thousand slow
/// ones a unit of them all would keep each busy for long …
const UNIT_SECONDS: f64 = 0.0125;
const UNIT_MIRRORS: f64 = 4.0;
/// … between what a request is worth and what one mirror should hold up.
const UNIT_BYTES_MIN: f64 = 128.0 * 1024.0;
const UNIT_BYTES_MAX: f64 = 1024.0 * 1024.0;
/// A pass looks at so many units: at 1 MiB more than any window is long.
const UNITS_MAX: usize = 512;
/// How readahead and prefetch share what demand leaves, on whichever mirror.
const WEIGHTS: [f64; 2] = [base(Class::Readahead), base(Class::Prefetch)];
/// Long fetches end on this grid, so that memory and disk get whole extents.
const EXTENT_PAGES: u64 = 256;

/// A fetch that the pass decided on.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) fetch: FetchId,
    pub(super) mirror: MirrorId,
    pub(super) file: Inode,
    pub(super) pages: Pages,
    /// The pages that it has in flight: all of them, or of a whole file what nobody else has.
    pub(super) owned: Vec<Pages>,
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
        let mut lanes = self.lanes(now);
        let mut decided = Vec::new();
        self.plan_demand(now, &mut lanes, &mut decided);
        self.plan_background(now, &mut lanes, &mut decided);
        for decision in decided {
            self.start(now, decision);
        }
        self.cap_due = self.cap_due(now);
        for at in 0..self.mirrors.len() {
            let rate = self.mirrors[at].rate(now);
            self.mirrors[at].had_room = self.mirrors[at].room_bytes(now, rate, self.tail.share, &self.settings) > 0;
        }
    }

    fn plan_demand(&mut self, now: Time, lanes: &mut Lanes, decided: &mut Vec<Decision>) {
        if self.demand_paused_until.is_some_and(|until| now < until) {
            return;
        }
        let unit_pages = unit_pages(lanes);
        let keys: Vec<Key> = self.wants.pending(Class::Demand).take(UNITS_MAX).collect();
        for key in keys {
            while let Some((file, run)) = self.next_of_want(&key, unit_pages) {
                let Some(known) = self.files.get(&file) else { break };
                let bytes = run.len_bytes(known.size_bytes);
                let by = self.wants.get(&key).map_or(now, |want| want.expires());
                let ranking = lanes.rank_demand(now, known, bytes, by);
                let Some(at) = ranking.winner() else {
                    if let Some(why) = known.hopeless(now) {
                        self.give_up(file, why);
                    } else if !known.mirrors.iter().any(|id| lanes.all.iter().any(|lane| lane.stats.id == id)) {
                        // Nobody who has it may be asked: try them now rather than at their time.
                        self.hurried = true;
                    }
                    break;
                };
                let whole = !lanes.all[at].ranges;
                if whole && self.fetches.of_file(file).any(|(_, fetch)| fetch.whole) {
                    break;
                }
                let run = lanes.cut(at, run);
                let bytes = run.len_bytes(known.size_bytes);
                let chosen = Chosen { at, file, pages: run, class: Class::Demand, whole };
                self.decide(now, chosen, lanes, &ranking, decided);
                lanes.spend(at, bytes);
                let lane = &mut lanes.all[at];
                lane.demand_room -= 1;
                lane.stats.load_bytes += bytes as f64;
                lane.stats.fetches += 1;
            }
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

    fn plan_background(&mut self, now: Time, lanes: &mut Lanes, decided: &mut Vec<Decision>) {
        let paused = self.background_paused_until.is_some_and(|until| now < until);
        let prefetched = self.wants.pending(Class::Prefetch).next().is_some();
        let kept = if prefetched { self.headroom(now, lanes) } else { None };
        let gap = kept.is_some_and(|kept| kept.pages.is_some());
        if paused || !(lanes.any_room() || gap) || self.offline_since.is_some() {
            return;
        }
        let mut queues = [Class::Readahead, Class::Prefetch].map(|class| self.background_queue(class));
        if let Some(kept) = kept {
            self.fill_gap(now, &kept, lanes, &mut queues[1], decided);
            lanes.not_for_prefetch = Some(kept.at);
            if queues[0].is_empty() {
                // There is nobody else that it could have room for.
                lanes.all[kept.at].room_bytes = 0;
            }
        }
        let mut served = self.served;
        for _ in 0..UNITS_MAX {
            // Weighted fair: whoever got less for its weight is next; who has nothing to do saves nothing up.
            let second = queues[0].is_empty() || (!queues[1].is_empty() && served[1] < served[0]);
            let class = usize::from(second);
            let Some(Reverse((_, source, from))) = queues[class].pop() else { break };
            let Some((file, window)) = self.window_of(source, from) else { continue };
            let unit_pages = unit_pages(lanes);
            let Some(table) = self.files.get(&file).map(|known| &known.table) else { continue };
            let Some(run) = table.next_run(window, State::Queued, unit_pages) else { continue };
            let position =
                if let Source::Stream(reader) = source { self.streams.get(&reader).map(|s| s.position) } else { None };
            let is_read = matches!(source, Source::Want(key) if self.wants.is_read(&key));
            match self.deal(now, lanes, class, file, run, window, position, is_read, decided) {
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
            if !lanes.any_room() {
                break;
            }
        }
        let least = if queues[0].is_empty() == queues[1].is_empty() { 0.0 } else { self.served[0].max(self.served[1]) };
        self.served = self.served.map(|value| value.max(least));
    }

    /// A small fetch of prefetch to the mirror that is left idle for readers, where its time has come.
    fn fill_gap(
        &mut self,
        now: Time,
        kept: &Kept,
        lanes: &mut Lanes,
        queue: &mut BinaryHeap<Cursor>,
        decided: &mut Vec<Decision>,
    ) {
        let Some(pages) = kept.pages else { return };
        let Some(&Reverse((_, source, from))) = queue.peek() else { return };
        let Some((file, window)) = self.window_of(source, from) else { return };
        let Some(known) = self.files.get(&file) else { return };
        let (lane, large) = (&lanes.all[kept.at], known.size_bytes > self.settings.whole_bytes_max);
        let Some(run) = known.table.next_run(window, State::Queued, pages) else { return };
        let bytes = run.len_bytes(known.size_bytes);
        if !known.serves(lane.stats.id, now)
            || (large && !lane.ranges)
            || bytes > self.budget_bytes
            || !lane.allowance.allows(bytes)
        {
            return;
        }
        let ranking = lanes.rank_only(known, bytes, kept.at);
        let chosen = Chosen { at: kept.at, file, pages: run, class: Class::Prefetch, whole: !lane.ranges };
        self.decide(now, chosen, lanes, &ranking, decided);
        self.headroom.gave(now, kept, run.count());
        lanes.spend(kept.at, bytes);
        let lane = &mut lanes.all[kept.at];
        lane.stats.load_bytes += bytes as f64;
        lane.stats.fetches += 1;
        lane.background_fetches += 1;
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
        for key in self.wants.pending(class).take(UNITS_MAX).collect::<Vec<_>>() {
            if let Some((_, run)) = self.next_of_want(&key, 1) {
                // A reader of a file that is ruled to this class waits for it.
                let distance = if self.wants.is_read(&key) { 0 } else { u64::MAX };
                queue.push(Reverse((distance, Source::Want(key), run.start)));
            }
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
    #[allow(clippy::too_many_arguments, reason = "the state of one pass; a struct of borrows would only rename it")]
    fn deal(
        &mut self,
        now: Time,
        lanes: &mut Lanes,
        class: usize,
        file: Inode,
        unit: Pages,
        window: Pages,
        position: Option<u64>,
        is_read: bool,
        decided: &mut Vec<Decision>,
    ) -> Outcome {
        let Some(known) = self.files.get(&file) else { return Outcome::Nobody };
        let size_bytes = known.size_bytes;
        let bytes = unit.len_bytes(size_bytes);
        let wanted = [Class::Readahead, Class::Prefetch][class];
        let ranking = lanes.rank(now, known, bytes, wanted);
        let Some(at) = ranking.winner() else {
            if let Some(why) = known.hopeless(now) {
                self.give_up(file, why);
            }
            return Outcome::Nobody;
        };
        let rate = lanes.rate;
        let lane = &mut lanes.all[at];
        if lane.room_bytes == 0 {
            lane.stats.load_bytes += bytes as f64;
            return Outcome::Dealt { to: unit.end, started_bytes: 0 };
        }
        let whole = !lane.ranges;
        if whole && self.fetches.of_file(file).any(|(_, fetch)| fetch.whole) {
            return Outcome::Nobody;
        }
        // No longer than the mirror's share of what is queued, so that all end together; nor than it takes
        // the reader to get there.
        let share = lane.stats.rate / rate;
        let ahead = position.map_or(u64::MAX, |position| unit.start.saturating_sub(position) * PAGE_BYTES);
        let fair = (window.len_bytes(size_bytes).min(ahead) as f64 * share) as u64;
        let unit_bytes = bytes.min(lane.fetch_bytes);
        let most = lane.fetch_bytes.min(fair.max(unit_bytes)).min(lane.room_bytes.max(unit_bytes));
        // Who waits for it has memory for it already.
        let budget_bytes = if is_read { u64::MAX } else { self.budget_bytes };
        let most = most.min(budget_bytes);
        if most < bytes.min(crate::chunk::CHUNK_BYTES) {
            return Outcome::Broke;
        }
        let Some(run) = known.table.next_run(window, State::Queued, (most / PAGE_BYTES).max(1)) else {
            return Outcome::Nobody;
        };
        let run = on_grid(run, window.end);
        let started_bytes = run.len_bytes(size_bytes);
        self.decide(now, Chosen { at, file, pages: run, class: wanted, whole }, lanes, &ranking, decided);
        lanes.spend(at, started_bytes);
        let lane = &mut lanes.all[at];
        lane.stats.load_bytes += started_bytes as f64;
        lane.stats.fetches += 1;
        lane.background_fetches += 1;
        let left = lane.room_bytes.saturating_sub(started_bytes);
        let enough = lane.background_fetches >= self.settings.background_fetches_max
            || lane.background_fetches >= lane.connections
                && (lane.stats.load_bytes >= lane.filled_bytes || !lane.stats.known);
        lane.room_bytes = if left < lane.fetch_bytes / 2 || enough { 0 } else { left };
        if !is_read {
            self.budget_bytes = self.budget_bytes.saturating_sub(started_bytes);
        }
        Outcome::Dealt { to: run.end, started_bytes }
    }

    /// Take note of a fetch: its pages are in flight from here on. Neighbours that go to one mirror for one
    /// purpose become one fetch.
    fn decide(&mut self, now: Time, chosen: Chosen, lanes: &mut Lanes, ranking: &Ranking, decided: &mut Vec<Decision>) {
        let Chosen { at, file, pages, class, whole } = chosen;
        let mirror = lanes.all[at].stats.id;
        let fetch = self.own(mirror, file, pages, class, whole, decided);
        self.note(now, fetch, chosen, Cause::Wanted, lanes, ranking);
    }

    /// Keep the decision for who asks why, and draw anew.
    pub(super) fn note(
        &mut self,
        now: Time,
        fetch: FetchId,
        chosen: Chosen,
        cause: Cause,
        lanes: &mut Lanes,
        ranking: &Ranking,
    ) {
        let Chosen { file, pages, class, .. } = chosen;
        let (strategy, considered, best) = (lanes.strategy, ranking.considered, ranking.rated(lanes));
        self.ring.push(Decided { at: now, file, pages, class, cause, strategy, fetch, considered, best });
        lanes.draw.counter = self.ring.made;
        if strategy == Strategy::WeightedRandom {
            self.lot = self.rng.random();
            lanes.draw.lot = self.lot;
        }
    }

    fn own(
        &mut self,
        mirror: MirrorId,
        file: Inode,
        pages: Pages,
        class: Class,
        whole: bool,
        decided: &mut Vec<Decision>,
    ) -> FetchId {
        let Some(known) = self.files.get_mut(&file) else { return FetchId(0) };
        if whole {
            let pages = known.table.pages();
            let mut owned = known.table.runs(pages, State::Queued);
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
                old.owned = vec![old.pages];
                old.fetch
            }
            None => {
                let fetch = self.fetches.next_id();
                decided.push(Decision { fetch, mirror, file, pages, owned: vec![pages], class, whole });
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

fn unit_pages(lanes: &Lanes) -> u64 {
    let squares: f64 = lanes.all.iter().map(|lane| lane.stats.rate * lane.stats.rate).sum();
    let rate = lanes.rate.min(UNIT_MIRRORS * squares / lanes.rate.max(1.0));
    (rate * UNIT_SECONDS).clamp(UNIT_BYTES_MIN, UNIT_BYTES_MAX) as u64 / PAGE_BYTES
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
