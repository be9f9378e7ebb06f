//! What configuration and listings say of the mirrors, and settings that change while it runs.

use super::Scheduler;
use super::mirror::Mirror;
use super::settings::Settings;
use crate::chunk::{FetchId, MIRRORS_MAX, MirrorId};
use crate::clock::Time;

/// What configuration says of one mirror.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Configured {
    /// It is named. Of one that is not any more nothing is asked, and its id stays its own.
    pub in_use: bool,
    /// How much it is to be used beside the others; above 0.
    pub weight: f64,
    /// Lower ones are asked first, 0 to 9.
    pub tier: u8,
    /// What it is asked for at most, in bytes per second; `None`: no limit.
    pub rate_limit: Option<u64>,
}

impl Scheduler {
    /// How many mirrors there ever were.
    pub fn mirror_count(&self) -> usize {
        self.mirrors.len()
    }

    /// Does this mirror serve ranges, as far as we know?
    pub fn has_ranges(&self, mirror: MirrorId) -> bool {
        self.mirrors.get(usize::from(mirror.0)).is_some_and(|mirror| mirror.ranges)
    }

    /// What a listing showed: whether it serves ranges.
    pub fn set_ranges(&mut self, mirror: MirrorId, ranges: bool) {
        if let Some(mirror) = self.mirrors.get_mut(usize::from(mirror.0)) {
            mirror.ranges = ranges;
            self.dirty = true;
        }
    }

    /// What configuration gives a mirror beside the others. Only what is above 0 counts.
    pub fn set_base_weight(&mut self, mirror: MirrorId, weight: f64) {
        if let Some(mirror) = self.mirrors.get_mut(usize::from(mirror.0))
            && weight.is_finite()
            && weight > 0.0
        {
            mirror.base_weight = weight;
            self.base_weight_max = self.largest_weight();
            self.dirty = true;
        }
    }

    /// What it goes by of each mirror, by id.
    pub fn configured(&self) -> Vec<Configured> {
        let of = |mirror: &Mirror| Configured {
            in_use: !mirror.breaker.is_removed(),
            weight: mirror.base_weight,
            tier: mirror.tier,
            rate_limit: Some(mirror.bucket.rate()).filter(|rate| rate.is_finite()).map(|rate| rate as u64),
        };
        self.mirrors.iter().map(of).collect()
    }

    fn largest_weight(&self) -> f64 {
        let in_use = self.mirrors.iter().filter(|mirror| !mirror.breaker.is_removed());
        in_use.map(|mirror| mirror.base_weight).fold(0.0, f64::max)
    }

    /// Those that are new have the ids that follow. What is under way from those that are not named any more goes to
    /// the others, and keeps what has arrived.
    pub(super) fn on_mirrors(&mut self, now: Time, given: &[Configured]) {
        while self.mirrors.len() < given.len().min(MIRRORS_MAX) {
            self.mirrors.push(Mirror::new(now));
        }
        self.comparing.grow(self.mirrors.len());
        let weights =
            |scheduler: &Scheduler| -> Vec<f64> { scheduler.mirrors.iter().map(|mirror| mirror.base_weight).collect() };
        let before = weights(self);
        for (at, configured) in given.iter().enumerate() {
            let id = MirrorId(at as u16);
            self.set_in_use(now, id, configured.in_use);
            self.set_base_weight(id, configured.weight);
            self.set_tier(id, configured.tier);
            self.set_rate_limit(now, id, configured.rate_limit.map(|limit| limit as f64));
        }
        self.base_weight_max = self.largest_weight();
        if weights(self) != before {
            self.renew_live_arm(now);
        }
        self.dirty = true;
        self.check_offline(now);
    }

    fn set_in_use(&mut self, now: Time, id: MirrorId, in_use: bool) {
        let Some(mirror) = self.mirror_mut(id) else { return };
        match (in_use, mirror.breaker.is_removed()) {
            (true, true) => mirror.breaker.restore(),
            (false, false) => {
                mirror.breaker.remove();
                let of = |fetch: &super::fetches::Fetch| fetch.mirror == id && !fetch.cancelled;
                let under_way: Vec<FetchId> =
                    self.fetches.all.iter().filter(|(_, fetch)| of(fetch)).map(|(&fetch, _)| fetch).collect();
                under_way.into_iter().for_each(|fetch| self.cancel(now, fetch, false));
            }
            _ => {}
        }
    }

    pub(super) fn on_settings(&mut self, now: Time, settings: Settings) {
        self.bucket.set(now, settings.rate_limit.map(|limit| limit as f64));
        self.tail.set(settings.tail);
        if self.given != settings {
            self.given = settings;
            self.renew_live_arm(now);
        }
        self.take_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{Class, Inode, MirrorSet, PAGE_BYTES, Pages, ReaderId};
    use crate::scheduler::{Action, Event, Failure, Reason};
    use std::time::Duration;

    const FILE: Inode = Inode(5);

    fn named(weight: f64) -> Configured {
        Configured { in_use: true, weight, tier: 0, rate_limit: None }
    }

    fn started(scheduler: &mut Scheduler, now: Time) -> Vec<(FetchId, MirrorId, Pages)> {
        let actions = std::iter::from_fn(|| scheduler.poll_action(now));
        actions
            .filter_map(|action| match action {
                Action::Start { fetch, mirror, pages, .. } => Some((fetch, mirror, pages)),
                _ => None,
            })
            .collect()
    }

    /// One mirror, and a file of 64 pages that somebody waits for.
    fn reading() -> (Scheduler, Time, Vec<(FetchId, MirrorId, Pages)>) {
        let now = Time(1_000_000_000);
        let mut scheduler = Scheduler::new(Settings::default(), 1, 7, now);
        let (mirrors, rule) = (MirrorSet::first(1), Default::default());
        scheduler.handle(now, Event::Opened { file: FILE, size_bytes: 64 * PAGE_BYTES, mirrors, held: vec![], rule });
        want(&mut scheduler, now, Pages::new(0, 16));
        let started = started(&mut scheduler, now);
        (scheduler, now, started)
    }

    fn want(scheduler: &mut Scheduler, now: Time, pages: Pages) {
        let (class, reader, deadline) = (Class::Demand, ReaderId(1), now + Duration::from_secs(30));
        scheduler.handle(now, Event::Wanted { file: FILE, pages, class, reader, deadline });
    }

    fn serve(scheduler: &mut Scheduler, now: Time, mirrors: usize) {
        let mirrors = MirrorSet::first(mirrors);
        scheduler.handle(now, Event::Served { file: FILE, mirrors, awaited: false });
    }

    #[test]
    fn what_is_under_way_from_a_mirror_that_is_taken_out_goes_to_the_one_that_was_added() {
        let (mut scheduler, now, first) = reading();
        assert_eq!(first.iter().map(|(_, mirror, _)| mirror.0).collect::<Vec<_>>(), [0]);
        let removed = Configured { in_use: false, ..named(1.0) };
        scheduler.handle(now, Event::MirrorsChanged { mirrors: vec![removed, named(1.0)] });
        serve(&mut scheduler, now, 2);
        assert_eq!(scheduler.mirror_count(), 2);
        let actions: Vec<_> = std::iter::from_fn(|| scheduler.poll_action(now)).collect();
        assert!(actions.contains(&Action::Cancel { fetch: first[0].0, drain: false }), "{actions:?}");
        let again = actions
            .iter()
            .any(|action| matches!(action, Action::Start { mirror: MirrorId(1), pages, .. } if *pages == first[0].2));
        assert!(again, "{actions:?}");
        // Whatever still comes of it, it is not asked again.
        scheduler.handle(now, Event::MirrorSeen { mirror: MirrorId(0), result: Ok(Duration::from_millis(1)) });
        let late = Failure::Throttled { retry_after: Some(Duration::ZERO) };
        scheduler.handle(now, Event::ProbeDone { mirror: MirrorId(0), result: Err(late) });
        let later = now + Duration::from_secs(3600);
        want(&mut scheduler, later, Pages::new(32, 48));
        assert!(started(&mut scheduler, later).iter().all(|(_, mirror, _)| mirror.0 == 1));
        assert_eq!(scheduler.live(later, MirrorId(0)).and_then(|live| live.reason), Some(Reason::Removed));
    }

    #[test]
    fn one_that_is_named_again_is_asked_again_and_has_its_id() {
        let (mut scheduler, now, _) = reading();
        let removed = Configured { in_use: false, ..named(1.0) };
        scheduler.handle(now, Event::MirrorsChanged { mirrors: vec![removed, named(1.0)] });
        serve(&mut scheduler, now, 2);
        scheduler.handle(now, Event::MirrorsChanged { mirrors: vec![named(1.0), removed] });
        let asked: Vec<u16> = started(&mut scheduler, now).iter().map(|(_, mirror, _)| mirror.0).collect();
        assert_eq!(asked, [0]);
    }

    #[test]
    fn a_mirror_that_is_taken_out_does_not_scale_the_weights_of_those_that_stay() {
        let (mut scheduler, now, _) = reading();
        let removed = Configured { in_use: false, ..named(100.0) };
        scheduler.handle(now, Event::MirrorsChanged { mirrors: vec![named(2.0), removed] });
        assert_eq!(scheduler.base_weight_max, 2.0);
    }
}
