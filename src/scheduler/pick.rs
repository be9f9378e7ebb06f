//! Which mirror brings a range first: bandwidth, latency and what is already in flight.

use super::Scheduler;
use super::files::File;
use super::mirror::Mirror;
use crate::chunk::MirrorId;
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
    pub(super) id: MirrorId,
    /// Bytes per second.
    pub(super) rate: f64,
    pub(super) latency_seconds: f64,
    /// Bytes in flight on it or meant for it.
    pub(super) load_bytes: f64,
    /// Live fetches, started in this pass or before.
    pub(super) fetches: usize,
    /// How many more demand fetches it may have.
    pub(super) demand_room: usize,
    /// Those of the background, and how many they may be while the link is full.
    pub(super) background_fetches: usize,
    pub(super) connections: usize,
    /// With so many bytes on its way the link is full.
    pub(super) filled_bytes: f64,
    /// How many more bytes of background it may have; 0 where starting one would not be worth it yet.
    pub(super) room_bytes: u64,
    /// The size that its fetches should have.
    pub(super) fetch_bytes: u64,
    pub(super) ranges: bool,
    /// Its rate is measured, not supposed.
    pub(super) known: bool,
    /// Work of the background goes to it: its weight (spec 3.1) is not 0.
    pub(super) background: bool,
}

impl Lane {
    /// In how many seconds it would have brought `bytes` of background: after all that is before them.
    fn background_seconds(&self, bytes: u64, doubt_seconds: f64) -> f64 {
        let doubt = if self.known { 0.0 } else { doubt_seconds + 2.0 * self.latency_seconds };
        doubt + self.latency_seconds + (self.load_bytes + bytes as f64) / self.rate
    }

    /// The same for demand, which does not queue behind what is in flight but shares the link with it.
    fn demand_seconds(&self, bytes: u64) -> f64 {
        let shared = bytes as f64 * (self.fetches + 1) as f64;
        self.latency_seconds + shared.min(self.load_bytes + bytes as f64) / self.rate
    }
}

/// Every mirror that may be asked now.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) all: Vec<Lane>,
    /// Of all lanes together, in bytes per second.
    pub(super) rate: f64,
    /// Equal mirrors are taken in an order that differs from one client to the next.
    rotation: usize,
    whole_bytes_max: u64,
    doubt_seconds: f64,
}

impl Lanes {
    /// The lane that completes `bytes` of `file` first. Mirrors whose weight is 0 get background work only
    /// where nobody else can do it.
    pub(super) fn pick(&self, now: Time, file: &File, bytes: u64, demand: bool) -> Option<usize> {
        if demand {
            return self.first_to_finish(now, file, bytes, true, |lane| lane.demand_room > 0);
        }
        self.first_to_finish(now, file, bytes, false, |lane| lane.background)
            .or_else(|| self.first_to_finish(now, file, bytes, false, |_| true))
    }

    fn first_to_finish(
        &self,
        now: Time,
        file: &File,
        bytes: u64,
        demand: bool,
        may: impl Fn(&Lane) -> bool,
    ) -> Option<usize> {
        let large = file.size_bytes > self.whole_bytes_max;
        let ranged = large && self.all.iter().any(|lane| lane.ranges && file.serves(lane.id, now));
        let mut best: Option<(f64, usize)> = None;
        for step in 0..self.all.len() {
            let at = (step + self.rotation) % self.all.len();
            let lane = &self.all[at];
            if !may(lane) || (!lane.ranges && ranged) || !file.serves(lane.id, now) {
                continue;
            }
            let bytes = if lane.ranges { bytes } else { file.size_bytes };
            let seconds =
                if demand { lane.demand_seconds(bytes) } else { lane.background_seconds(bytes, self.doubt_seconds) };
            if best.is_none_or(|(least, _)| seconds < least) {
                best = Some((seconds, at));
            }
        }
        best.map(|(_, at)| at)
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
            if !mirror.breaker.usable(now) {
                continue;
            }
            let rate = mirror.rate(now);
            let latency_seconds = mirror.latency_seconds();
            all.push(Lane {
                id: MirrorId(at as u16),
                rate,
                latency_seconds: latency_seconds + self.silence_seconds(now, mirror),
                load_bytes: mirror.remaining_bytes as f64,
                fetches: mirror.fetches,
                demand_room: settings.demand_fetches_max.saturating_sub(mirror.demand_fetches),
                background_fetches: mirror.fetches - mirror.demand_fetches,
                connections: mirror.background_max(rate, f64::INFINITY, settings),
                filled_bytes: mirror.filled_bytes(rate),
                room_bytes: mirror.room_bytes(rate, settings),
                fetch_bytes: mirror.fetch_bytes(rate, settings),
                ranges: mirror.ranges,
                known: mirror.meter.known(),
                // weight = base * max(0, 1 - min(latency_ms / 1000, 1))
                background: latency_seconds < 1.0,
            });
        }
        let rate: f64 = all.iter().map(|lane| lane.rate).sum();
        let window_bytes = settings.readahead_bytes_max.min(settings.pool_bytes / 2);
        let doubt_seconds = UNKNOWN_SECONDS.min(UNKNOWN_OF_WINDOW * window_bytes as f64 / rate.max(1.0));
        Lanes { all, rate, rotation: self.rotation, whole_bytes_max: settings.whole_bytes_max, doubt_seconds }
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
    use super::*;
    use crate::chunk::MirrorSet;

    fn lane(id: u16, rate: f64, latency_seconds: f64, load_bytes: f64) -> Lane {
        Lane {
            id: MirrorId(id),
            rate,
            latency_seconds,
            load_bytes,
            fetches: usize::from(load_bytes > 0.0),
            demand_room: 1,
            background_fetches: 0,
            connections: 2,
            filled_bytes: 0.0,
            room_bytes: 1 << 20,
            fetch_bytes: 1 << 20,
            ranges: true,
            known: true,
            background: true,
        }
    }

    fn lanes(all: Vec<Lane>) -> Lanes {
        Lanes {
            rate: all.iter().map(|lane| lane.rate).sum(),
            all,
            rotation: 0,
            whole_bytes_max: 1 << 20,
            doubt_seconds: 0.2,
        }
    }

    #[test]
    fn the_first_to_finish_wins_not_the_fastest() {
        let file = File::new(1 << 30, MirrorSet::first(2));
        let idle_slow = lanes(vec![lane(0, 40e6, 0.01, 8e6), lane(1, 10e6, 0.01, 0.0)]);
        assert_eq!(idle_slow.pick(Time(0), &file, 1 << 20, false), Some(1));
        let busy_slow = lanes(vec![lane(0, 40e6, 0.01, 2e6), lane(1, 10e6, 0.01, 0.0)]);
        assert_eq!(busy_slow.pick(Time(0), &file, 1 << 20, false), Some(0));
    }

    #[test]
    fn a_page_on_demand_shares_the_link_instead_of_queueing() {
        let file = File::new(1 << 30, MirrorSet::first(2));
        let both = lanes(vec![lane(0, 40e6, 0.01, 8e6), lane(1, 10e6, 0.05, 0.0)]);
        assert_eq!(both.pick(Time(0), &file, 4096, true), Some(0));
    }

    #[test]
    fn a_mirror_without_ranges_is_for_small_files_or_the_last_resort() {
        let (large, small) = (File::new(1 << 30, MirrorSet::first(2)), File::new(1000, MirrorSet::first(2)));
        let mut both = lanes(vec![lane(0, 40e6, 0.01, 0.0), lane(1, 10e6, 0.05, 0.0)]);
        both.all[0].ranges = false;
        assert_eq!(both.pick(Time(0), &large, 1 << 20, false), Some(1));
        assert_eq!(both.pick(Time(0), &small, 1000, true), Some(0));
        both.all.truncate(1);
        assert_eq!(both.pick(Time(0), &large, 1 << 20, false), Some(0));
    }
}
