//! Which mirror gets a range: every mirror that may be asked is scored by the strategy, the least wins.

use super::Scheduler;
use super::class_weight::class_weight;
use super::explain::{RATED_KEPT, Rated};
use super::files::File;
use super::mirror::Mirror;
use super::rate_cap::Allowance;
use super::strategy::{self, Ask, Draw, MirrorStats, Score, Strategy};
use crate::chunk::{Class, MirrorId};
use crate::clock::Time;

/// A mirror of which nothing is known gets its first background fetch this far, and two of its round trips,
/// behind what the known ones would bring, so that no reader is there before it has shown what it is …
const UNKNOWN_SECONDS: f64 = 0.05;
/// … or this part of the longest window, where that is less: on fast links it would never get one.
const UNKNOWN_OF_WINDOW: f64 = 0.5;

/// Bodies of a healthy mirror have a byte every few ms; a lost packet is repaired within some tens.
const SILENCE_NOTICED_SECONDS: f64 = 0.06;
/// How much a silence counts against a mirror: after 100 ms of it, another that is half a second slower.
const SILENCE_WEIGHT: f64 = 5.0;

/// One mirror as a planning pass sees it. The pass gives it work, some of it only in thought.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) stats: MirrorStats,
    /// Those of its fetches that are of the background, and how many they may be while the link is full.
    pub(super) background_fetches: usize,
    pub(super) connections: usize,
    /// With so many bytes on its way the link is full.
    pub(super) filled_bytes: f64,
    /// How many more demand fetches it may have.
    pub(super) demand_room: usize,
    /// How many more bytes of background it may have; 0 where starting one would not be worth it yet.
    pub(super) room_bytes: u64,
    /// The size that its fetches should have.
    pub(super) fetch_bytes: u64,
    pub(super) ranges: bool,
    /// Work of the background goes to it: its weight (spec 3.1) is not 0.
    pub(super) background: bool,
    pub(super) tier: u8,
    /// What the rate caps leave it.
    pub(super) allowance: Allowance,
}

/// Every mirror that may be asked now.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) all: Vec<Lane>,
    /// Of all lanes together, in bytes per second.
    pub(super) rate: f64,
    pub(super) strategy: Strategy,
    /// For the strategies that take turns or draw lots.
    pub(super) draw: Draw,
    /// Equal mirrors are taken in an order that differs from one client to the next.
    rotation: usize,
    whole_bytes_max: u64,
    /// The place of the mirror that prefetch must leave idle.
    pub(super) not_for_prefetch: Option<usize>,
    pub(super) doubt_seconds: f64,
    /// Not all mirrors are of one tier, …
    pub(super) tiered: bool,
    /// … and these may be asked again as soon as they have rested: id, tier, ranges.
    pub(super) resting: Vec<(MirrorId, u8, bool)>,
    /// There is a rate cap, for some mirror or for all together.
    pub(super) capped: bool,
    pub(super) all_capped: bool,
}

/// The best mirrors for a range, the winner first: places among the lanes, and scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranking {
    best: [(u16, Score); RATED_KEPT],
    kept: usize,
    pub(super) considered: u16,
}

impl Ranking {
    fn new() -> Ranking {
        Ranking { best: [(0, Score::default()); RATED_KEPT], kept: 0, considered: 0 }
    }

    pub(super) fn add(&mut self, at: usize, score: Score) {
        self.considered += 1;
        let total = score.total();
        if self.kept == RATED_KEPT && total >= self.best[RATED_KEPT - 1].1.total() {
            return;
        }
        // Equal ones stay in the order in which they came.
        let place = self.best[..self.kept].iter().take_while(|(_, other)| other.total() <= total).count();
        self.kept = (self.kept + 1).min(RATED_KEPT);
        self.best.copy_within(place..self.kept - 1, place + 1);
        self.best[place] = (at as u16, score);
    }

    /// The winner's place among the lanes.
    pub(super) fn winner(&self) -> Option<usize> {
        (self.kept > 0).then(|| usize::from(self.best[0].0))
    }

    /// With the numbers that the scores were made of.
    pub(super) fn rated(&self, lanes: &Lanes) -> [Option<Rated>; RATED_KEPT] {
        let mut rated = [None; RATED_KEPT];
        for (slot, &(at, score)) in rated.iter_mut().zip(&self.best[..self.kept]) {
            let stats = &lanes.all[usize::from(at)].stats;
            *slot = Some(Rated {
                mirror: stats.id,
                score,
                bytes_per_second: stats.rate as f32,
                latency_seconds: stats.latency_seconds as f32,
                load_bytes: stats.load_bytes as u64,
                fetches: stats.fetches as u16,
                weight: stats.weight as f32,
            });
        }
        rated
    }
}

impl Lanes {
    /// The lanes for `bytes` of `file`, best first. Mirrors whose weight is 0 get background work only where
    /// nobody else can do it.
    pub(super) fn rank(&self, now: Time, file: &File, bytes: u64, class: Class) -> Ranking {
        let tier = self.tier(now, file);
        if class == Class::Demand {
            let may = |lane: &Lane| lane.tier <= tier && lane.demand_room > 0 && lane.allowance.allows(bytes);
            return self.rank_those(now, file, bytes, true, may);
        }
        let kept = self.not_for_prefetch.filter(|_| class == Class::Prefetch).map(|at| self.all[at].stats.id);
        // Adaptive may mean a range for a mirror that is full and leave it queued; the others only see who has room.
        let adaptive = self.strategy == Strategy::Adaptive;
        let may = |lane: &Lane| {
            let room = lane.background && (adaptive || lane.room_bytes > 0);
            lane.tier <= tier && room && Some(lane.stats.id) != kept
        };
        let ranking = self.rank_those(now, file, bytes, false, may);
        match ranking.kept {
            // Where it is the only one that has the file, what is left idle serves it all the same.
            0 => self.rank_those(now, file, bytes, false, |lane| lane.tier <= tier),
            _ => ranking,
        }
    }

    /// This lane alone, which was chosen otherwise.
    pub(super) fn rank_only(&self, file: &File, bytes: u64, at: usize) -> Ranking {
        let lane = &self.all[at];
        let bytes = if lane.ranges { bytes } else { file.size_bytes };
        let ask = Ask { bytes: bytes as f64, demand: false, doubt_seconds: self.doubt_seconds };
        let mut ranking = Ranking::new();
        ranking.add(at, strategy::score(self.strategy, &lane.stats, &ask, &self.draw));
        ranking
    }

    /// The same for a range that is asked of `first` already and is late: whoever else would bring it within
    /// `within_seconds`.
    pub(super) fn rank_others(
        &self,
        now: Time,
        file: &File,
        bytes: u64,
        first: MirrorId,
        within_seconds: f64,
    ) -> Ranking {
        let tier = self.tier(now, file);
        let soon = |lane: &Lane| lane.seconds(bytes) < within_seconds && lane.tier <= tier;
        self.rank_those(now, file, bytes, true, |lane| {
            lane.stats.id != first && lane.demand_room > 0 && lane.allowance.allows(bytes) && soon(lane)
        })
    }

    /// Is the file too large for who serves no ranges, with somebody there who does?
    pub(super) fn ranged(&self, now: Time, file: &File) -> bool {
        let large = file.size_bytes > self.whole_bytes_max;
        large && self.all.iter().any(|lane| lane.ranges && file.serves(lane.stats.id, now))
    }

    pub(super) fn rank_those(
        &self,
        now: Time,
        file: &File,
        bytes: u64,
        demand: bool,
        may: impl Fn(&Lane) -> bool,
    ) -> Ranking {
        let ranged = self.ranged(now, file);
        let eligible = |lane: &&Lane| may(lane) && (lane.ranges || !ranged) && file.serves(lane.stats.id, now);
        let mut draw = self.draw;
        if self.strategy == Strategy::WeightedRandom {
            draw.weight_sum =
                self.in_order().map(|(_, lane)| lane).filter(eligible).map(|lane| lane.stats.weight).sum();
        }
        let mut ranking = Ranking::new();
        for (at, lane) in self.in_order().filter(|(_, lane)| eligible(lane)) {
            let bytes = if lane.ranges { bytes } else { file.size_bytes };
            let ask = Ask { bytes: bytes as f64, demand, doubt_seconds: self.doubt_seconds };
            ranking.add(at, strategy::score(self.strategy, &lane.stats, &ask, &draw));
            draw.weight_before += lane.stats.weight;
        }
        if self.tiered {
            self.add_higher_tiers(now, file, bytes, demand, &mut ranking);
        }
        ranking
    }

    fn in_order(&self) -> impl Iterator<Item = (usize, &Lane)> {
        let start = self.rotation % self.all.len().max(1);
        let (before, after) = self.all.split_at(start);
        after.iter().enumerate().map(move |(at, lane)| (at + start, lane)).chain(before.iter().enumerate())
    }

    /// Could any of them start a background fetch?
    pub(super) fn any_room(&self) -> bool {
        self.all.iter().any(|lane| lane.room_bytes > 0)
    }
}

impl Scheduler {
    /// The mirrors that may be asked now, as a pass sees them.
    pub(super) fn lanes(&self, now: Time) -> Lanes {
        let settings = &self.settings;
        let mut all = Vec::with_capacity(self.mirrors.len());
        for (at, mirror) in self.mirrors.iter().enumerate() {
            if mirror.breaker.usable(now) {
                all.push(self.lane(now, MirrorId(at as u16), mirror));
            }
        }
        // Those of higher tiers bring nothing while there is one of a lower tier.
        let tier = all.iter().map(|lane| lane.tier).min().unwrap_or(0);
        let rate: f64 = all.iter().filter(|lane| lane.tier == tier).map(|lane| lane.stats.rate).sum();
        let rate = rate.min(self.bucket.rate());
        let window_bytes = settings.readahead_bytes_max();
        let doubt_seconds = UNKNOWN_SECONDS.min(UNKNOWN_OF_WINDOW * window_bytes as f64 / rate.max(1.0));
        let draw = Draw { counter: self.ring.made, lot: self.lot, mirrors: self.mirrors.len(), ..Draw::default() };
        Lanes {
            all,
            rate,
            strategy: settings.strategy,
            draw,
            rotation: self.rotation,
            whole_bytes_max: settings.whole_bytes_max,
            doubt_seconds,
            not_for_prefetch: None,
            tiered: self.tiered,
            resting: if self.tiered { self.resting(now) } else { Vec::new() },
            capped: self.capped(),
            all_capped: self.bucket.rate().is_finite(),
        }
    }

    fn lane(&self, now: Time, id: MirrorId, mirror: &Mirror) -> Lane {
        let (settings, rate) = (&self.settings, mirror.rate(now));
        let latency_seconds = mirror.latency_seconds();
        Lane {
            stats: self.mirror_stats(now, id, mirror),
            background_fetches: mirror.fetches - mirror.demand_fetches,
            connections: mirror.background_max(rate, f64::INFINITY, settings),
            filled_bytes: mirror.filled_bytes(rate),
            demand_room: settings.demand_fetches_max.saturating_sub(mirror.demand_fetches),
            room_bytes: mirror.room_bytes(now, rate, self.tail.share, settings),
            fetch_bytes: mirror.fetch_bytes(rate, settings),
            ranges: mirror.ranges,
            background: class_weight(Class::Prefetch, latency_seconds) > 0.0,
            tier: mirror.tier,
            allowance: self.allowance(now, &mirror.bucket),
        }
        .bounded()
    }

    /// What the strategies see of a mirror.
    pub(super) fn mirror_stats(&self, now: Time, id: MirrorId, mirror: &Mirror) -> MirrorStats {
        let rate = mirror.rate(now);
        let base = mirror.base_weight / self.base_weight_max;
        MirrorStats {
            id,
            rate,
            latency_seconds: mirror.latency_seconds(),
            busy_latency_seconds: mirror.latency.busy_seconds().unwrap_or(mirror.latency_seconds()),
            known: mirror.meter.known(),
            doubt: mirror.doubt(now),
            load_bytes: mirror.remaining_bytes as f64,
            fetches: mirror.fetches,
            silence_seconds: self.silence_seconds(now, mirror),
            trouble_seconds: mirror.trouble.seconds(now),
            weight: mirror.weight.live(base, mirror.load(rate, &self.settings)),
        }
    }

    /// A mirror whose bodies have all stopped may be gone, which is known only when its silence has lasted.
    /// Until then whoever waits is better sent to one that is talking.
    fn silence_seconds(&self, now: Time, mirror: &Mirror) -> f64 {
        let silence = now.seconds_since(mirror.sign_at);
        match mirror.bodies > 0 && silence > SILENCE_NOTICED_SECONDS && now >= self.blameless_until {
            true => SILENCE_WEIGHT * silence,
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::strategy::plain;
    use super::*;
    use crate::chunk::MirrorSet;

    fn lanes(all: Vec<MirrorStats>) -> Lanes {
        let lane = |stats: MirrorStats| Lane {
            stats,
            background_fetches: 0,
            connections: 2,
            filled_bytes: 0.0,
            demand_room: 1,
            room_bytes: 1 << 20,
            fetch_bytes: 1 << 20,
            ranges: true,
            background: true,
            tier: 0,
            allowance: Allowance::ANY,
        };
        Lanes {
            rate: all.iter().map(|stats| stats.rate).sum(),
            draw: Draw { mirrors: all.len(), ..Draw::default() },
            all: all.into_iter().map(lane).collect(),
            strategy: Strategy::Adaptive,
            rotation: 0,
            whole_bytes_max: 1 << 20,
            doubt_seconds: 0.2,
            not_for_prefetch: None,
            tiered: false,
            resting: Vec::new(),
            capped: false,
            all_capped: false,
        }
    }

    #[test]
    fn a_mirror_without_ranges_is_for_small_files_or_the_last_resort() {
        let (large, small) = (File::new(1 << 30, MirrorSet::first(2)), File::new(1000, MirrorSet::first(2)));
        let mut both = lanes(vec![plain(0, 40e6, 0.01, 0.0), plain(1, 10e6, 0.05, 0.0)]);
        both.all[0].ranges = false;
        assert_eq!(both.rank(Time(0), &large, 1 << 20, Class::Readahead).winner(), Some(1));
        assert_eq!(both.rank(Time(0), &small, 1000, Class::Demand).winner(), Some(0));
        both.all.truncate(1);
        assert_eq!(both.rank(Time(0), &large, 1 << 20, Class::Readahead).winner(), Some(0));
    }

    #[test]
    fn the_best_eight_are_kept_in_order_whatever_the_order_they_come_in() {
        let file = File::new(1 << 30, MirrorSet::first(20));
        let mirrors: Vec<_> = (0..20).map(|id| plain(id, 1e6 * f64::from(1 + id * 7 % 20), 0.01, 0.0)).collect();
        for rotation in 0..20 {
            let mut all = lanes(mirrors.clone());
            all.rotation = rotation;
            let ranking = all.rank(Time(0), &file, 1 << 20, Class::Readahead);
            let rated = ranking.rated(&all).map(|rated| rated.unwrap());
            assert!(rated.is_sorted_by(|a, b| a.score.total() <= b.score.total()));
            assert_eq!((rated[0].bytes_per_second, ranking.considered), (20e6, 20));
            assert_eq!(rated[7].bytes_per_second, 13e6);
        }
    }

    #[test]
    fn a_second_mirror_is_another_one_and_in_time() {
        let file = File::new(1 << 30, MirrorSet::first(3));
        let three = lanes(vec![plain(0, 40e6, 0.01, 0.0), plain(1, 10e6, 0.05, 0.0), plain(2, 10e6, 0.5, 0.0)]);
        assert_eq!(three.rank_others(Time(0), &file, 4096, MirrorId(0), 0.3).winner(), Some(1));
        assert_eq!(three.rank_others(Time(0), &file, 4096, MirrorId(1), 0.001).winner(), None);
    }
}
