//! What a choice sees of the mirrors: kept from one pass to the next, and made anew for those that changed.
//!
//! To ask every mirror for its rate, window and trouble costs some 100 ns each, and most are what they were. A
//! mirror that was touched since ([`super::mirrors`]) is looked at again; so is one whose figures change with time
//! alone, a few ms later. What a rate cap leaves changes all the time: who has one is looked at in each pass.

use super::Scheduler;
use super::breaker::BreakerState;
use super::class_weight::class_weight;
use super::explain::RATED_KEPT;
use super::figures::{BESIDE, Figures};
use super::fresh::stale_at;
use super::marks::Marks;
use super::mirror::Mirror;
use super::pick::Ranked;
use super::rate_cap::Allowance;
use super::strategy::{Draw, MirrorStats, Strategy};
use crate::chunk::{CHUNK_BYTES, Class, MirrorId, PAGE_BYTES};
use crate::clock::Time;

/// A mirror of which nothing is known gets its first background fetch this far, and two of its round trips,
/// behind what the known ones would bring, so that no reader is there before it has shown what it is …
const UNKNOWN_SECONDS: f64 = 0.05;
/// … or this part of the longest window, where that is less: on fast links it would never get one.
const UNKNOWN_OF_WINDOW: f64 = 0.5;

/// When more than so many change at once, as with each tick, what is summed over all is summed anew.
const FEW: usize = 3;

/// Ranges are dealt out in units of so much time of all mirrors together, of so many at most: among a thousand slow
/// ones a unit of them all would keep each busy for long …
const UNIT_SECONDS: f64 = 0.0125;
const UNIT_MIRRORS: f64 = 4.0;
/// … between what a request is worth and what one mirror should hold up.
pub(super) const UNIT_BYTES_MIN: f64 = 128.0 * 1024.0;
pub(super) const UNIT_BYTES_MAX: f64 = 1024.0 * 1024.0;

/// One mirror as a planning pass sees it. The pass gives it work, some of it only in thought.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lane {
    /// Bytes per second while it was busy; supposed where nothing was measured.
    pub(super) rate: f64,
    /// The rate is measured, not supposed.
    pub(super) known: bool,
    /// Bytes in flight on it or meant for it.
    pub(super) load_bytes: f64,
    /// Those of its fetches that are of the background, and how many they may be while the link is full.
    pub(super) background_fetches: usize,
    /// Those that are small, and how many of these may be beside the others.
    small_fetches: usize,
    small_max: usize,
    pub(super) connections: usize,
    /// So many of these are known to be of use, and so many run that only try whether one more is.
    proven: usize,
    extra_fetches: usize,
    /// With so many bytes on its way the link is full.
    pub(super) filled_bytes: f64,
    /// How many more demand fetches it may have.
    pub(super) demand_room: usize,
    /// How many more bytes of background it may have; 0 where starting one would not be worth it yet.
    pub(super) room_bytes: u64,
    /// The size that its fetches should have.
    pub(super) fetch_bytes: u64,
    pub(super) tier: u8,
    /// What the rate caps leave it.
    pub(super) allowance: Allowance,
    /// Its figures are of this time, and good until then if nothing happens to it.
    pub(super) made_at: Time,
    pub(super) stale_at: Time,
}

/// What all figures depend on beside their mirrors: when it changes, all are looked at again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Common {
    share: f64,
    base_weight_max: f64,
    blameless_until: Time,
    tiered: bool,
    /// The cap on all mirrors together, in bytes per second.
    cap: f64,
    window_bytes: u64,
}

/// Every mirror by its place. Those that may not be asked are not `usable`.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// What strategies read.
    figures: Vec<Figures>,
    pub(super) all: Vec<Lane>,
    /// Of those that may be asked; 0 of the others.
    usable_rates: Vec<f64>,
    /// It may be asked.
    pub(super) usable: Marks,
    /// It serves ranges.
    pub(super) ranges: Marks,
    /// Work of the background goes to it: its weight (spec 3.1) is not 0.
    pub(super) background: Marks,
    /// It may have another demand fetch; and another of the background.
    pub(super) demand_room: Marks,
    pub(super) room: Marks,
    /// Was there room for a background fetch at the end of the last pass, or has it been seen since?
    pub(super) had_room: Marks,
    /// It failed once and may be asked again in a moment.
    pub(super) resting: Marks,
    /// It has a rate cap of its own.
    own_caps: Marks,
    /// Its breaker waits for a time.
    timed: Marks,
    /// The pass gave it work, if only in thought: what it is in truth is looked at again.
    pub(super) given: Marks,
    /// When they were last looked at, and when the first of them is to be looked at again.
    pub(super) refreshed_at: Time,
    stale_at: Time,
    /// What all that are asked bring together, in bytes per second: those of the lowest tier, and no more than the cap.
    pub(super) rate: f64,
    /// Of all that may be asked, and the sum of their squares.
    pub(super) sum: f64,
    squares: f64,
    /// In so many pages at a time ranges are dealt out.
    pub(super) unit_pages: u64,
    pub(super) doubt_seconds: f64,
    pub(super) common: Option<Common>,
    /// Not all mirrors are of one tier.
    pub(super) tiered: bool,
    /// Those of higher tiers that might have got the range of the last ranking.
    pub(super) higher: Marks,
    /// There is a rate cap, for some mirror or for all together.
    pub(super) capped: bool,
    pub(super) all_capped: bool,
    /// The place of the mirror that prefetch must leave idle in this pass.
    pub(super) not_for_prefetch: Option<usize>,
    pub(super) strategy: Strategy,
    /// For the strategies that take turns or draw lots.
    pub(super) draw: Draw,
    pub(super) whole_bytes_max: u64,
    /// Equal mirrors are taken in an order that begins here, different from one client to the next.
    pub(super) first: usize,
    /// Those that may be asked when that was found.
    ordered: Marks,
    /// The scores of the last ranking.
    pub(super) totals: Vec<f32>,
    /// Who stands in line for lots, from whom on, and the sum of their weights; nothing when a weight has changed.
    lined_up: Option<(Marks, usize, f64)>,
    /// Who might have got the range of the last ranking, and the best few of them.
    pub(super) eligible: Marks,
    pub(super) best: [Ranked; RATED_KEPT],
}

impl Lanes {
    /// What a strategy sees of one.
    #[inline(always)]
    pub(super) fn stats(&self, at: usize) -> MirrorStats {
        self.figures[at / BESIDE].of(MirrorId(at as u16))
    }

    /// Those of whom `eligible` says that they may get it, one after the other in their order: where the weight of
    /// each begins. Returns where that of the last ends.
    pub(super) fn line_up(&mut self, eligible: &Marks) -> f64 {
        if let Some((lined_up, first, sum)) = &self.lined_up
            && (lined_up, *first) == (eligible, self.first)
        {
            return *sum;
        }
        let mut before = 0.0;
        eligible.each_from(self.first, |at| {
            let (figures, at) = (&mut self.figures[at / BESIDE], at % BESIDE);
            figures.weight_before[at] = before as f32;
            before += f64::from(figures.weight[at]);
        });
        self.lined_up = Some((*eligible, self.first, before));
        before
    }

    /// The total of each; there may be some more than mirrors, so that the loop is one of vector instructions.
    #[inline(always)]
    pub(super) fn total_each(&mut self, total: impl Fn(&MirrorStats) -> f32) {
        let beside = self.figures.iter().zip(self.totals.chunks_exact_mut(BESIDE));
        for (at, (figures, totals)) in beside.enumerate() {
            for (lane, slot) in totals.iter_mut().enumerate() {
                *slot = total(&figures.of(MirrorId((at * BESIDE + lane) as u16)));
            }
        }
    }

    /// A demand fetch of so many bytes goes to it.
    pub(super) fn give_demand(&mut self, at: usize, bytes: u64) {
        self.mean(at, bytes);
        self.figures[at / BESIDE].fetches[at % BESIDE] += 1.0;
        let lane = &mut self.all[at];
        lane.demand_room = lane.demand_room.saturating_sub(1);
        self.demand_room.set(at, lane.demand_room > 0);
    }

    /// Would its next background fetch only be a trial of one more connection?
    pub(super) fn would_try(&self, at: usize) -> bool {
        let lane = &self.all[at];
        let steady = lane.background_fetches.saturating_sub(lane.extra_fetches);
        lane.known && steady >= lane.proven && lane.load_bytes >= lane.filled_bytes
    }

    /// So much is meant for it.
    pub(super) fn mean(&mut self, at: usize, bytes: u64) {
        self.given.insert(at);
        self.all[at].load_bytes += bytes as f64;
        self.figures[at / BESIDE].queued_seconds[at % BESIDE] = (self.all[at].load_bytes / self.all[at].rate) as f32;
    }

    /// A background fetch of so many bytes goes to it.
    pub(super) fn give_background(&mut self, at: usize, bytes: u64, fetches_max: usize) {
        let extra = self.would_try(at);
        self.mean(at, bytes);
        self.figures[at / BESIDE].fetches[at % BESIDE] += 1.0;
        let lane = &mut self.all[at];
        lane.background_fetches += 1;
        lane.small_fetches += usize::from(bytes <= CHUNK_BYTES);
        lane.extra_fetches += usize::from(extra);
        let left = lane.room_bytes.saturating_sub(bytes);
        // Those that are only tried take no other's place.
        let beside = if lane.extra_fetches > 0 { lane.proven + lane.extra_fetches } else { 0 };
        let enough = lane.background_fetches >= fetches_max + lane.small_fetches.min(lane.small_max)
            || lane.background_fetches >= lane.connections.max(beside)
                && (lane.load_bytes >= lane.filled_bytes || !lane.known);
        lane.room_bytes = if left < lane.fetch_bytes / 2 || enough { 0 } else { left };
        self.room.set(at, lane.room_bytes > 0);
    }

    /// A fetch of prefetch in its gaps goes to the one that is left idle.
    pub(super) fn give_gap(&mut self, at: usize, bytes: u64) {
        self.mean(at, bytes);
        self.figures[at / BESIDE].fetches[at % BESIDE] += 1.0;
        self.all[at].background_fetches += 1;
    }

    /// It gets no more of the background in this pass.
    pub(super) fn close_room(&mut self, at: usize) {
        self.given.insert(at);
        self.all[at].room_bytes = 0;
        self.room.remove(at);
    }

    /// Could any that may be asked start a background fetch?
    pub(super) fn any_room(&self) -> bool {
        self.usable.meets(&self.room)
    }

    /// What is known of one is this now. Returns whether what depends on all mirrors changes with it.
    fn put(&mut self, at: usize, stats: &MirrorStats, lane: Lane, usable: bool) -> bool {
        let counted = if usable { lane.rate } else { 0.0 };
        let before = std::mem::replace(&mut self.usable_rates[at], counted);
        self.sum += counted - before;
        self.squares += counted * counted - before * before;
        if self.figures[at / BESIDE].weight[at % BESIDE] != stats.weight {
            self.lined_up = None;
        }
        self.figures[at / BESIDE].put(stats);
        self.usable.set(at, usable);
        self.ranges.set(at, stats.whole == 0.0);
        self.background.set(at, class_weight(Class::Prefetch, f64::from(stats.latency_seconds)) > 0.0);
        self.demand_room.set(at, lane.demand_room > 0);
        self.room.set(at, lane.room_bytes > 0);
        self.stale_at = self.stale_at.min(lane.stale_at);
        let other_tier = self.tiered && self.all.get(at).is_none_or(|old| old.tier != lane.tier);
        match at < self.all.len() {
            true => self.all[at] = lane,
            false => self.all.push(lane),
        }
        counted != before || other_tier
    }

    fn resize(&mut self, count: usize) {
        self.figures.resize(count.div_ceil(BESIDE), Figures::default());
        self.totals.resize(count.next_multiple_of(BESIDE), 0.0);
        self.usable_rates.resize(count, 0.0);
    }

    /// The sums from the start: what was added and taken away leaves crumbs.
    fn sum_anew(&mut self) {
        self.sum = self.usable_rates.iter().sum();
        self.squares = self.usable_rates.iter().map(|rate| rate * rate).sum();
    }

    /// What depends on all of them.
    fn sum_up(&mut self, common: &Common, rotation: usize) {
        self.rate = if self.tiered { self.lowest_rate() } else { self.sum }.min(common.cap);
        let (rate, squares, window_bytes) = (self.rate, self.squares, common.window_bytes);
        self.doubt_seconds = UNKNOWN_SECONDS.min(UNKNOWN_OF_WINDOW * window_bytes as f64 / rate.max(1.0));
        let unit_rate = rate.min(UNIT_MIRRORS * squares / rate.max(1.0));
        self.unit_pages = (unit_rate * UNIT_SECONDS).clamp(UNIT_BYTES_MIN, UNIT_BYTES_MAX) as u64 / PAGE_BYTES;
        if self.ordered != self.usable {
            self.ordered = self.usable;
            let mut left = rotation % self.usable.count().max(1);
            self.ordered.each(|at| {
                self.first = if left == 0 { at } else { self.first };
                left = left.wrapping_sub(1);
            });
        }
    }
}

impl Scheduler {
    /// Look again at the mirrors that changed or may have, and let all others be what they were.
    pub(super) fn refresh(&mut self, now: Time) {
        let (settings, count) = (&self.settings, self.mirrors.len());
        (self.lanes.strategy, self.lanes.whole_bytes_max) = (settings.strategy, settings.whole_bytes_max);
        self.lanes.draw = Draw { counter: self.ring.made, lot: self.lot, mirrors: count, ..Draw::default() };
        (self.lanes.not_for_prefetch, self.lanes.refreshed_at) = (None, now);
        let common = self.common();
        let mut any = self.lanes.common != Some(common);
        if any {
            self.lanes.common = Some(common);
            (self.lanes.tiered, self.lanes.all_capped) = (common.tiered, common.cap.is_finite());
            self.mirrors.mark_all();
        }
        if now >= self.lanes.stale_at {
            self.mark_stale(now);
        }
        self.lanes.given.each(|at| self.mirrors.mark(at));
        self.lanes.given.clear();
        if !self.mirrors.changed().any() {
            return;
        }
        let changed = self.mirrors.take_changed();
        if self.lanes.all.len() < count {
            self.lanes.resize(count);
        }
        changed.each(|at| any |= self.look_at(now, at));
        self.lanes.capped = self.lanes.all_capped || self.lanes.own_caps.any();
        if changed.count() > FEW {
            self.lanes.sum_anew();
        }
        if any {
            self.lanes.sum_up(&common, self.rotation);
        }
    }

    pub(super) fn common(&self) -> Common {
        Common {
            share: self.tail.share,
            base_weight_max: self.base_weight_max,
            blameless_until: self.blameless_until,
            tiered: self.tiered,
            cap: self.bucket.rate(),
            window_bytes: self.settings.readahead_bytes_max(),
        }
    }

    fn look_at(&mut self, now: Time, at: usize) -> bool {
        let mirror = &self.mirrors[at];
        let (stats, lane) = self.row(now, at);
        let timed = mirror.breaker.timeout(&self.settings).is_some();
        let usable = mirror.breaker.usable(now);
        let capped = mirror.bucket.rate().is_finite();
        self.lanes.timed.set(at, timed);
        self.lanes.resting.set(at, mirror.breaker.state == BreakerState::Closed && !usable);
        self.lanes.own_caps.set(at, capped);
        if capped || self.lanes.all_capped {
            self.lanes.given.insert(at);
        }
        self.lanes.put(at, &stats, lane, usable)
    }

    /// What a choice sees of a mirror, made anew.
    pub(super) fn row(&self, now: Time, at: usize) -> (MirrorStats, Lane) {
        let mirror = &self.mirrors[at];
        let rate = mirror.rate(now);
        (self.mirror_stats(now, MirrorId(at as u16), mirror, rate), self.lane(now, rate, mirror))
    }

    /// A pass is over: who has room now, so that it is noticed when another has.
    pub(super) fn note_room(&mut self, now: Time) {
        let mut had_room = self.lanes.room;
        self.lanes.given.each(|at| {
            let (mirror, rate) = (&self.mirrors[at], self.lanes.all[at].rate);
            had_room.set(at, mirror.room_bytes(now, rate, self.tail.share, &self.settings) > 0);
        });
        self.lanes.had_room = had_room;
    }

    fn mark_stale(&mut self, now: Time) {
        let mut next = Time::NEVER;
        for (at, lane) in self.lanes.all.iter().enumerate() {
            match lane.stale_at <= now {
                true => self.mirrors.mark(at),
                false => next = next.min(lane.stale_at),
            }
        }
        self.lanes.stale_at = next;
    }

    fn lane(&self, now: Time, rate: f64, mirror: &Mirror) -> Lane {
        let settings = &self.settings;
        Lane {
            rate,
            known: mirror.meter.known(),
            load_bytes: mirror.remaining_bytes as f64,
            background_fetches: mirror.fetches - mirror.demand_fetches,
            small_fetches: mirror.small_fetches,
            small_max: mirror.small_max(settings),
            connections: mirror.background_when_full(settings),
            extra_fetches: mirror.extra_fetches,
            proven: mirror.connections.proven(settings.background_fetches_max),
            filled_bytes: mirror.filled_bytes(rate),
            demand_room: settings.demand_fetches_max.saturating_sub(mirror.demand_fetches),
            room_bytes: mirror.room_bytes(now, rate, self.tail.share, settings),
            fetch_bytes: mirror.fetch_bytes(rate, settings),
            tier: mirror.tier,
            allowance: self.allowance(now, &mirror.bucket),
            made_at: now,
            stale_at: stale_at(now, mirror),
        }
        .bounded()
    }

    /// What the strategies see of a mirror.
    fn mirror_stats(&self, now: Time, id: MirrorId, mirror: &Mirror, rate: f64) -> MirrorStats {
        let weight = self.live_weight(mirror, rate);
        MirrorStats {
            id,
            seconds_per_byte: (1.0 / rate) as f32,
            latency_seconds: mirror.latency_seconds() as f32,
            busy_latency_seconds: mirror.latency.busy_seconds().unwrap_or(mirror.latency_seconds()) as f32,
            doubt: mirror.doubt(now) as f32,
            whole: f32::from(u8::from(!mirror.ranges)),
            queued_seconds: (mirror.remaining_bytes as f64 / rate) as f32,
            fetches: mirror.fetches as f32,
            silence_seconds: self.silence_seconds(now, mirror) as f32,
            trouble_seconds: mirror.trouble.seconds(now) as f32,
            weight: weight as f32,
            weight_excess: (1.0 / weight - 1.0) as f32,
            weight_before: 0.0,
            learned: mirror.predictor.correction(),
        }
    }

    /// Its weight among all mirrors, after decay under load.
    pub(super) fn live_weight(&self, mirror: &Mirror, rate: f64) -> f64 {
        let base = if self.even_weights { 1.0 } else { mirror.base_weight / self.base_weight_max };
        mirror.weight.live(base, mirror.load(rate, &self.settings))
    }

    /// The mirrors whose breaker waits for a time, and some others.
    pub(super) fn timed_mirrors(&self) -> Marks {
        self.lanes.timed.or(self.mirrors.changed())
    }

    /// Hand each of them to `take`, some twice.
    pub(super) fn each_timed(&self, mut take: impl FnMut(&Mirror)) {
        self.lanes.timed.each(|at| take(&self.mirrors[at]));
        self.mirrors.changed().each(|at| take(&self.mirrors[at]));
    }
}

#[cfg(test)]
impl Lanes {
    /// All usable, each with room for one fetch of either kind.
    pub(super) fn of(all: &[MirrorStats]) -> Lanes {
        let mut lanes = Lanes { whole_bytes_max: 1 << 20, ..Lanes::default() };
        let common = Common {
            share: 1.0,
            base_weight_max: 1.0,
            blameless_until: Time(0),
            tiered: false,
            cap: f64::INFINITY,
            window_bytes: 256 << 20,
        };
        lanes.resize(all.len());
        lanes.draw.mirrors = all.len();
        for (at, stats) in all.iter().enumerate() {
            let rate = 1.0 / f64::from(stats.seconds_per_byte);
            let lane = Lane {
                rate,
                known: true,
                load_bytes: f64::from(stats.queued_seconds) * rate,
                background_fetches: 0,
                small_fetches: 0,
                small_max: 0,
                connections: 2,
                proven: 2,
                extra_fetches: 0,
                filled_bytes: 0.0,
                demand_room: 1,
                room_bytes: 1 << 20,
                fetch_bytes: 1 << 20,
                tier: 0,
                allowance: Allowance::ANY,
                made_at: Time(0),
                stale_at: Time::NEVER,
            };
            lanes.put(at, stats, lane, true);
        }
        lanes.sum_anew();
        lanes.sum_up(&common, 0);
        lanes
    }
}
