//! Tiers (spec 1.7): a mirror of a higher tier, the paid one say, is for what no lower one can do.

use super::Scheduler;
use super::breaker::BreakerState;
use super::files::File;
use super::lanes::Lanes;
use super::marks::Marks;
use super::pick::Ranking;
use crate::chunk::{Class, MirrorId};
use crate::clock::Time;

/// The highest tier.
pub const TIER_MAX: u8 = 9;
/// What a tier counts beside the best one that may be asked, so that it shows in `explain`: more than any wait.
const TIER_SECONDS: f32 = 1e5;

impl Lanes {
    /// The tier that is asked for `file`: the lowest of those who may be asked for it.
    pub(super) fn tier(&self, now: Time, file: &File) -> u8 {
        if !self.tiered {
            return TIER_MAX;
        }
        // A mirror that rests for a moment after a lone failure is worth waiting for.
        let mut may = file.serving(now);
        may.keep(&self.usable.or(&self.resting));
        file.agreement.filter(&mut may);
        if self.ranged(now, file) {
            may.keep(&self.ranges);
        }
        let mut tier = TIER_MAX;
        may.each(|at| tier = tier.min(self.all[at].tier));
        tier
    }

    /// Only those of `tier` and below. The others might have been asked as well: they are kept for who wants to know.
    pub(super) fn keep_tier(&mut self, lanes: &mut Marks, tier: u8) {
        self.higher.clear();
        if self.tiered {
            lanes.each(|at| self.higher.set(at, self.all[at].tier > tier));
            self.higher.each(|at| lanes.remove(at));
        }
    }

    /// The lanes for what a reader waits for until `by`: where no lane of a tier brings it by then, those of
    /// the next one too.
    pub(super) fn rank_demand(&mut self, now: Time, file: &File, bytes: u64, by: Time) -> Ranking {
        let ranking = self.rank(now, file, bytes, Class::Demand);
        let Some(winner) = ranking.winner().filter(|_| self.tiered) else { return ranking };
        let left_seconds = by.seconds_since(now);
        if self.seconds(winner, bytes) <= left_seconds {
            return ranking;
        }
        let all = self.rank_any_tier(now, file, bytes);
        match all.winner().is_some_and(|at| self.seconds(at, bytes) <= left_seconds) {
            true => all,
            // The scores are those of the last ranking.
            false => self.rank(now, file, bytes, Class::Demand),
        }
    }

    /// What a lane's tier adds to its score where `tier` is asked, so that those above it show in `explain`.
    pub(super) fn tier_seconds(&self, at: usize, tier: u8) -> f32 {
        f32::from(self.all[at].tier.saturating_sub(tier)) * TIER_SECONDS
    }

    /// How long a demand range takes on it, which shares the link with what is in flight.
    pub(super) fn seconds(&self, at: usize, bytes: u64) -> f64 {
        let stats = self.stats(at);
        f64::from(stats.latency_seconds) + bytes as f64 * f64::from(stats.fetches + 1.0) / self.all[at].rate
    }

    /// The lowest tier of those that may be asked.
    pub(super) fn lowest_tier(&self) -> u8 {
        let mut tier = TIER_MAX;
        self.usable.each(|at| tier = tier.min(self.all[at].tier));
        tier
    }

    /// What the lowest tier brings together, in bytes per second: those of higher ones bring nothing while there is
    /// one of a lower tier.
    pub(super) fn lowest_rate(&self) -> f64 {
        let (tier, mut rate) = (self.lowest_tier(), 0.0);
        self.usable.each(|at| rate += if self.all[at].tier == tier { self.all[at].rate } else { 0.0 });
        rate
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

    /// The tier that is asked for `file` now.
    pub(super) fn tier_of(&self, now: Time, file: &File) -> u8 {
        if !self.tiered {
            return TIER_MAX;
        }
        let ranged = file.size_bytes > self.settings.whole_bytes_max;
        let mirrors = self.mirrors.iter().enumerate().filter(|&(at, mirror)| {
            mirror.breaker.state == BreakerState::Closed
                && (mirror.ranges || !ranged)
                && file.could(MirrorId(at as u16), now)
        });
        mirrors.map(|(_, mirror)| mirror.tier).min().unwrap_or(TIER_MAX)
    }
}
