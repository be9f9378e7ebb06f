//! Which mirror gets a range: every mirror that may be asked is scored by the strategy, the least wins.
//!
//! In two steps: the totals of all in one loop, which finds the winner; the terms of the best few only where a
//! decision came of it, for who asks why.

use super::explain::{RATED_KEPT, Rated};
use super::figures::BESIDE;
use super::files::File;
use super::lanes::Lanes;
use super::marks::Marks;
use super::strategy::{self, Ask, Draw, Strategy, Term};
use super::tier::TIER_MAX;
use crate::chunk::{Class, MirrorId, MirrorSet};
use crate::clock::Time;

/// Who gets a range, and of what that was said. The totals are with the lanes until the next ranking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranking {
    ask: Ask,
    draw: Draw,
    /// The highest tier that was asked.
    tier: u8,
    /// The winner's place among the lanes.
    winner: Option<usize>,
    /// How many might have got it.
    pub(super) considered: u16,
    /// The best few are with the lanes too.
    sorted: bool,
}

impl Ranking {
    /// The winner's place among the lanes.
    pub(super) fn winner(&self) -> Option<usize> {
        self.winner
    }

    /// The best, the winner first, with the numbers that their scores were made of.
    pub(super) fn rate(&self, lanes: &mut Lanes, rated: &mut [Option<Rated>; RATED_KEPT]) {
        if !self.sorted {
            lanes.sort_best();
        }
        for (slot, key) in rated.iter_mut().zip(lanes.best) {
            *slot = place_of(key).map(|at| {
                let (stats, lane) = (lanes.stats(at), &lanes.all[at]);
                let score = strategy::score(lanes.strategy, &stats, &self.ask, &self.draw);
                Rated {
                    mirror: stats.id,
                    score: score.with(Term::Tier, lanes.tier_seconds(at, self.tier)),
                    bytes_per_second: lane.rate as f32,
                    latency_seconds: stats.latency_seconds,
                    load_bytes: lane.load_bytes as u64,
                    fetches: stats.fetches as u16,
                    weight: stats.weight,
                }
            });
        }
    }
}

/// A total and who has it, in one number that sorts alike: of equal ones the first in the lanes' order is less.
pub(super) type Ranked = u64;
/// More than any.
const NOBODY: Ranked = u64::MAX;

fn place_of(key: Ranked) -> Option<usize> {
    (key != NOBODY).then_some((key & 0xffff) as usize)
}

impl Lanes {
    /// The lanes for `bytes` of `file`, best first. Mirrors whose weight is 0 get background work only where
    /// nobody else can do it.
    pub(super) fn rank(&mut self, now: Time, file: &File, bytes: u64, class: Class) -> Ranking {
        let tier = self.tier(now, file);
        let mut eligible = self.serving(now, file);
        self.keep_tier(&mut eligible, tier);
        if class == Class::Demand {
            self.keep_ready(&mut eligible, bytes);
            return self.rank_those(eligible, tier, file, bytes, true);
        }
        if eligible.meets(&self.background) {
            let all = eligible;
            eligible.keep(&self.background);
            // Who foretells completion may mean a range for a mirror that is full and leave it queued; the others only see who has
            // room.
            if !self.strategy.foretells_completion() {
                eligible.keep(&self.room);
            }
            if let Some(kept) = self.not_for_prefetch.filter(|_| class == Class::Prefetch) {
                eligible.remove(kept);
            }
            // Where it is the only one that has the file, what is left idle serves it all the same.
            eligible = if eligible.any() { eligible } else { all };
        }
        self.rank_those(eligible, tier, file, bytes, false)
    }

    /// The same for demand, whatever their tier.
    pub(super) fn rank_any_tier(&mut self, now: Time, file: &File, bytes: u64) -> Ranking {
        let mut eligible = self.serving(now, file);
        self.keep_ready(&mut eligible, bytes);
        self.higher.clear();
        self.rank_those(eligible, TIER_MAX, file, bytes, true)
    }

    /// This lane alone, which was chosen otherwise, for the background.
    pub(super) fn rank_only(&mut self, file: &File, bytes: u64, at: usize) -> Ranking {
        let mut only = Marks::default();
        only.insert(at);
        self.higher.clear();
        self.rank_those(only, TIER_MAX, file, bytes, false)
    }

    /// Only those that may have a demand fetch of so many bytes now.
    fn keep_ready(&self, lanes: &mut Marks, bytes: u64) {
        lanes.keep(&self.demand_room);
        if self.capped {
            let all = *lanes;
            all.each(|at| lanes.set(at, self.all[at].allowance.allows(bytes)));
        }
    }

    /// The same for a range that is asked of `first` already and is late: whoever else would bring it within
    /// `within_seconds`.
    pub(super) fn rank_others(
        &mut self,
        now: Time,
        file: &File,
        bytes: u64,
        first: MirrorId,
        within_seconds: f64,
    ) -> Ranking {
        let tier = self.tier(now, file);
        let mut others = file.serving(now);
        others.keep(&self.usable);
        file.agreement.filter_others(&mut others);
        self.keep_ranged(&mut others, file);
        self.keep_tier(&mut others, tier);
        self.keep_ready(&mut others, bytes);
        others.remove(usize::from(first.0));
        let all = others;
        all.each(|at| others.set(at, self.seconds(at, bytes) < within_seconds));
        self.rank_those(others, tier, file, bytes, true)
    }

    /// The same for a range that was moved away from `late`: those again only where there is nobody else.
    pub(super) fn rank_but(&mut self, now: Time, file: &File, bytes: u64, late: &MirrorSet) -> Option<Ranking> {
        let tier = self.tier(now, file);
        let mut others = self.serving(now, file);
        self.keep_tier(&mut others, tier);
        self.keep_ready(&mut others, bytes);
        late.iter().for_each(|mirror| others.remove(usize::from(mirror.0)));
        let ranking = self.rank_those(others, tier, file, bytes, true);
        ranking.winner().map(|_| ranking)
    }

    /// Is the file too large for who serves no ranges, with somebody there who does?
    pub(super) fn ranged(&self, now: Time, file: &File) -> bool {
        if file.size_bytes <= self.whole_bytes_max {
            return false;
        }
        self.able(file.serving(now), file).meets(&self.ranges)
    }

    /// Those that may be asked for a file: of a large one only those with ranges, if there are any.
    fn serving(&self, now: Time, file: &File) -> Marks {
        let mut serving = self.able(file.serving(now), file);
        self.keep_ranged(&mut serving, file);
        serving
    }

    /// May anybody be asked whose bytes may be used?
    pub(super) fn any_able(&self, file: &File) -> bool {
        self.able(Marks::of(&file.mirrors), file).any()
    }

    /// The same, those left out for this file for a time not counted.
    pub(super) fn any_asked(&self, now: Time, file: &File) -> bool {
        self.able(file.serving(now), file).any()
    }

    /// Those of `lanes` that can be asked and whose bytes of this file may be used.
    #[inline(always)]
    fn able(&self, mut lanes: Marks, file: &File) -> Marks {
        lanes.keep(&self.usable);
        file.agreement.filter(&mut lanes);
        lanes
    }

    /// Of a large file only those with ranges, if there are any.
    fn keep_ranged(&self, serving: &mut Marks, file: &File) {
        if file.size_bytes > self.whole_bytes_max && serving.meets(&self.ranges) {
            serving.keep(&self.ranges);
        }
    }

    /// `tier` is the highest that is asked. Those above it are scored for who wants to know why they were not.
    fn rank_those(&mut self, eligible: Marks, tier: u8, file: &File, bytes: u64, demand: bool) -> Ranking {
        let whole_excess_bytes = file.size_bytes.saturating_sub(bytes) as f32;
        let ask = Ask { bytes: bytes as f32, whole_excess_bytes, demand, doubt_seconds: self.doubt_seconds as f32 };
        let mut draw = self.draw;
        draw.turn = draw.counter % draw.mirrors.max(1) as u64;
        self.score_all(&eligible, &ask, &mut draw);
        self.eligible = eligible;
        if self.higher.any() && eligible.any() {
            let higher = self.higher;
            higher.each(|at| self.totals[at] += self.tier_seconds(at, tier));
            self.eligible = eligible.or(&higher);
        }
        self.eligible.each_other(self.totals.len(), |at| self.totals[at] = f32::INFINITY);
        let considered = self.eligible.count() as u16;
        // Demand is decided on at once; of background work most is only meant for somebody.
        if demand {
            self.sort_best();
            return Ranking { ask, draw, tier, winner: place_of(self.best[0]), considered, sorted: true };
        }
        let mut first = NOBODY;
        self.eligible.each(|at| first = first.min(self.ranked(at, self.totals[at])));
        Ranking { ask, draw, tier, winner: place_of(first), considered, sorted: false }
    }

    /// The totals of all mirrors, of those too that are not eligible.
    fn score_all(&mut self, eligible: &Marks, ask: &Ask, draw: &mut Draw) {
        match self.strategy {
            Strategy::WeightedRandom => {
                let weight_sum = self.line_up(eligible);
                draw.draw_among(weight_sum);
                self.total_each(|stats| strategy::score(Strategy::WeightedRandom, stats, ask, draw).total());
            }
            Strategy::RoundRobin => {
                self.total_each(|stats| strategy::score(Strategy::RoundRobin, stats, ask, draw).total());
            }
            Strategy::ResponseTimeFirst => {
                self.total_each(|stats| strategy::score(Strategy::ResponseTimeFirst, stats, ask, draw).total());
            }
            Strategy::Adaptive => {
                self.total_each(|stats| strategy::score(Strategy::Adaptive, stats, ask, draw).total());
            }
            Strategy::Predicted => {
                self.total_each(|stats| strategy::score(Strategy::Predicted, stats, ask, draw).total());
            }
        }
    }

    /// The best few. Those of the last ranking come first: they are the best again or nearly so, and then hardly
    /// anybody else has to be sorted in. A lot falls anywhere: there the neighbours of the winner come first.
    fn sort_best(&mut self) {
        let mut best = [NOBODY; RATED_KEPT];
        let seeds: [Option<usize>; RATED_KEPT] = match self.strategy {
            Strategy::WeightedRandom => self.around(self.first_of_all()),
            _ => self.best.map(place_of),
        };
        let mut totals = std::mem::take(&mut self.totals);
        for at in seeds.into_iter().flatten() {
            if totals[at] < f32::INFINITY {
                sort_in(&mut best, self.ranked(at, totals[at]));
                // Taken: not to be met again.
                totals[at] = f32::INFINITY;
            }
        }
        let mut most = total_of(best[RATED_KEPT - 1]);
        for (group, totals) in totals.chunks_exact(BESIDE).enumerate() {
            if least(totals) > most {
                continue;
            }
            for (at, &total) in totals.iter().enumerate() {
                if total <= most && total < f32::INFINITY {
                    sort_in(&mut best, self.ranked(group * BESIDE + at, total));
                    most = total_of(best[RATED_KEPT - 1]);
                }
            }
        }
        (self.totals, self.best) = (totals, best);
    }

    /// The one with the least total, whichever of equal ones.
    fn first_of_all(&self) -> usize {
        let (mut first, mut most) = (0, f32::INFINITY);
        for (group, totals) in self.totals.chunks_exact(BESIDE).enumerate() {
            if least(totals) < most {
                most = least(totals);
                first = group * BESIDE + totals.iter().position(|&total| total == most).unwrap_or(0);
            }
        }
        first
    }

    fn around(&self, at: usize) -> [Option<usize>; RATED_KEPT] {
        let (count, half) = (self.all.len(), RATED_KEPT / 2);
        std::array::from_fn(|place| (place < count).then(|| (at + count + place - half.min(count)) % count))
    }

    fn ranked(&self, at: usize, total: f32) -> Ranked {
        let place = if at >= self.first { at - self.first } else { at + self.all.len() - self.first };
        // Totals are not negative, so their bits sort as they do.
        u64::from(total.to_bits()) << 32 | (place as u64) << 16 | at as u64
    }
}

fn total_of(key: Ranked) -> f32 {
    if key == NOBODY { f32::INFINITY } else { f32::from_bits((key >> 32) as u32) }
}

#[inline(always)]
fn least(totals: &[f32]) -> f32 {
    let mut least = f32::INFINITY;
    for &total in totals {
        least = if total < least { total } else { least };
    }
    least
}

/// Without a branch, and no step waits for the one before.
#[inline(always)]
fn sort_in(best: &mut [Ranked; RATED_KEPT], key: Ranked) {
    for place in (1..RATED_KEPT).rev() {
        best[place] = best[place].min(best[place - 1].max(key));
    }
    best[0] = best[0].min(key);
}

#[cfg(test)]
mod tests {
    use super::super::strategy::plain;
    use super::*;
    use crate::chunk::MirrorSet;

    fn rated(ranking: &Ranking, lanes: &mut Lanes) -> [Rated; RATED_KEPT] {
        let mut rated = [None; RATED_KEPT];
        ranking.rate(lanes, &mut rated);
        rated.map(|rated| rated.unwrap())
    }

    #[test]
    fn a_mirror_without_ranges_is_for_small_files_or_the_last_resort() {
        let (large, small) = (File::new(1 << 30, MirrorSet::first(2)), File::new(1000, MirrorSet::first(2)));
        let mut fast = plain(0, 40e6, 0.01, 0.0);
        fast.whole = 1.0;
        let mut both = Lanes::of(&[fast, plain(1, 10e6, 0.05, 0.0)]);
        assert_eq!(both.rank(Time(0), &large, 1 << 20, Class::Readahead).winner(), Some(1));
        assert_eq!(both.rank(Time(0), &small, 1000, Class::Demand).winner(), Some(0));
        both.usable.remove(1);
        assert_eq!(both.rank(Time(0), &large, 1 << 20, Class::Readahead).winner(), Some(0));
    }

    #[test]
    fn the_best_eight_are_kept_in_order_whatever_the_order_they_come_in() {
        let file = File::new(1 << 30, MirrorSet::first(20));
        let mirrors: Vec<_> = (0..20).map(|id| plain(id, 1e6 * f32::from(1 + id * 7 % 20), 0.01, 0.0)).collect();
        for first in 0..20 {
            let mut all = Lanes::of(&mirrors);
            all.first = first;
            let ranking = all.rank(Time(0), &file, 1 << 20, Class::Readahead);
            let rated = rated(&ranking, &mut all);
            assert!(rated.is_sorted_by(|a, b| a.score.total() <= b.score.total()));
            assert_eq!((rated[0].bytes_per_second.round(), ranking.considered), (20e6, 20));
            assert_eq!(rated[7].bytes_per_second.round(), 13e6);
        }
    }

    #[test]
    fn of_equal_ones_the_first_in_order_wins_and_the_terms_add_up_to_what_it_won_with() {
        let file = File::new(1 << 30, MirrorSet::first(70));
        let mirrors: Vec<_> = (0..70).map(|id| plain(id, 1e6, 0.01, 0.0)).collect();
        for strategy in Strategy::ALL {
            for first in [0, 1, 63, 64, 69] {
                let mut all = Lanes::of(&mirrors);
                (all.strategy, all.first, all.draw.counter) = (strategy, first, first as u64);
                let ranking = all.rank(Time(0), &file, 1 << 20, Class::Demand);
                let rated = rated(&ranking, &mut all);
                assert_eq!((ranking.winner(), rated[0].mirror), (Some(first), MirrorId(first as u16)), "{strategy}");
                let mut places = rated.iter().enumerate();
                assert!(places.all(|(place, rated)| rated.score.total() == total_of(all.best[place])));
            }
        }
    }

    #[test]
    fn a_second_mirror_is_another_one_and_in_time() {
        let file = File::new(1 << 30, MirrorSet::first(3));
        let mirrors = [plain(0, 40e6, 0.01, 0.0), plain(1, 10e6, 0.05, 0.0), plain(2, 10e6, 0.5, 0.0)];
        let mut three = Lanes::of(&mirrors);
        assert_eq!(three.rank_others(Time(0), &file, 4096, MirrorId(0), 0.3).winner(), Some(1));
        assert_eq!(three.rank_others(Time(0), &file, 4096, MirrorId(1), 0.001).winner(), None);
    }
}
