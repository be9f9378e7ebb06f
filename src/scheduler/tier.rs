//! Tiers (spec 1.7): a mirror of a higher tier, the paid one say, is for what no lower one can do.

use super::Scheduler;
use super::breaker::BreakerState;
use super::files::File;
use super::pick::{Lane, Lanes, Ranking};
use super::strategy::{Ask, Term, score};
use crate::chunk::{Class, MirrorId};
use crate::clock::Time;

/// The highest tier.
pub const TIER_MAX: u8 = 9;
/// What a tier counts beside the best one that may be asked, so that it shows in `explain`: more than any wait.
const TIER_SECONDS: f64 = 1e5;

impl Lanes {
    /// The tier that is asked for `file`: the lowest of those who may be asked for it.
    pub(super) fn tier(&self, now: Time, file: &File) -> u8 {
        if !self.tiered {
            return TIER_MAX;
        }
        let ranged = self.ranged(now, file);
        let lanes = self.all.iter().map(|lane| (lane.stats.id, lane.tier, lane.ranges));
        // A mirror that rests for a moment after a lone failure is worth waiting for.
        let may = lanes.chain(self.resting.iter().copied());
        let may = may.filter(|&(id, _, ranges)| (ranges || !ranged) && file.serves(id, now));
        may.map(|(_, tier, _)| tier).min().unwrap_or(TIER_MAX)
    }

    /// The lanes for what a reader waits for until `by`: where no lane of a tier brings it by then, those of
    /// the next one too.
    pub(super) fn rank_demand(&self, now: Time, file: &File, bytes: u64, by: Time) -> Ranking {
        let ranking = self.rank(now, file, bytes, Class::Demand);
        let Some(winner) = ranking.winner().filter(|_| self.tiered) else { return ranking };
        let in_time = |at: usize| self.all[at].seconds(bytes) <= by.seconds_since(now);
        if in_time(winner) {
            return ranking;
        }
        let may = |lane: &Lane| lane.demand_room > 0 && lane.allowance.allows(bytes);
        let all = self.rank_those(now, file, bytes, true, may);
        if all.winner().is_some_and(in_time) { all } else { ranking }
    }

    /// The others that might have been asked, for who wants to know why they were not.
    pub(super) fn add_higher_tiers(&self, now: Time, file: &File, bytes: u64, demand: bool, ranking: &mut Ranking) {
        let Some(tier) = ranking.winner().map(|at| self.all[at].tier) else { return };
        let (ranged, ask) =
            (self.ranged(now, file), Ask { bytes: bytes as f64, demand, doubt_seconds: self.doubt_seconds });
        for (at, lane) in self.all.iter().enumerate().filter(|(_, lane)| lane.tier > tier) {
            if (lane.ranges || !ranged) && file.serves(lane.stats.id, now) {
                let more = f64::from(lane.tier - tier) * TIER_SECONDS;
                ranking.add(at, score(self.strategy, &lane.stats, &ask, &self.draw).with(Term::Tier, more));
            }
        }
    }
}

impl Lane {
    /// How long a demand range takes on it, which shares the link with what is in flight.
    pub(super) fn seconds(&self, bytes: u64) -> f64 {
        self.stats.latency_seconds + bytes as f64 * (self.stats.fetches + 1) as f64 / self.stats.rate
    }
}

impl Scheduler {
    /// Which tier a mirror is of, at most [`TIER_MAX`]. Lower ones are asked first.
    pub fn set_tier(&mut self, mirror: MirrorId, tier: u8) {
        if let Some(mirror) = self.mirror_mut(mirror) {
            mirror.tier = tier.min(TIER_MAX);
            self.tiered = self.mirrors.iter().any(|mirror| mirror.tier != self.mirrors[0].tier);
            self.dirty = true;
        }
    }

    /// Those that have failed once and may be asked again in a moment.
    pub(super) fn resting(&self, now: Time) -> Vec<(MirrorId, u8, bool)> {
        let mirrors = self.mirrors.iter().enumerate();
        let rests = mirrors.filter(|(_, it)| it.breaker.state == BreakerState::Closed && !it.breaker.usable(now));
        rests.map(|(at, mirror)| (MirrorId(at as u16), mirror.tier, mirror.ranges)).collect()
    }

    /// The tier that is asked for `file` now.
    pub(super) fn tier_of(&self, now: Time, file: &File) -> u8 {
        if !self.tiered {
            return TIER_MAX;
        }
        let ranged = file.size_bytes > self.settings.whole_bytes_max;
        let mirrors = self.mirrors.iter().enumerate().filter(|&(at, mirror)| {
            mirror.breaker.state == BreakerState::Closed
                && (mirror.ranges || !ranged)
                && file.serves(MirrorId(at as u16), now)
        });
        mirrors.map(|(_, mirror)| mirror.tier).min().unwrap_or(TIER_MAX)
    }
}
