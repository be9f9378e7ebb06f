//! What failures mean: for the mirror, for the file on it, for the class of the fetch, and for the mount
//! when no mirror is left.

use super::breaker::{BreakerState, Reason};
use super::fetches::Phase;
use super::stall::SILENT_FILES_MAX;
use super::table::State;
use super::{Action, Failure, Hopeless, INTEREST, OVERSLEPT, Scheduler, TICK};
use crate::chunk::{Class, FetchId, Inode, MirrorId, Pages};
use crate::clock::Time;
use std::time::Duration;

/// Wrong bytes in so many files are no accident of one file: the mirror is quarantined.
const CORRUPT_FILES_MAX: usize = 3;
/// One of so many mirrors tries another number of connections at a time, one at least: those that only try take a part of
/// its link, and what the readers need next comes from the others meanwhile.
const MIRRORS_A_TRIAL: usize = 4;
/// A fetch for which there was no memory is tried again after this, in the background and on demand. The
/// driver tells when memory is free; this only bounds the wait where it does not.
const NO_MEMORY_PAUSE: Duration = Duration::from_millis(50);
const NO_MEMORY_PAUSE_DEMAND: Duration = Duration::from_millis(5);
/// Attempts that each mirror must have failed before we say that we are offline. One may be chance.
const OFFLINE_TRIES: u32 = 2;

impl Scheduler {
    pub(super) fn on_failed(&mut self, now: Time, id: FetchId, failure: Failure) {
        let Some(fetch) = self.fetches.all.get(&id) else { return };
        let (file, mirror, class, waited, whole) = (fetch.file, fetch.mirror, fetch.class, fetch.waited, fetch.whole);
        if fetch.cancelled {
            self.bury(id);
            return;
        }
        let (is_hedge, broke_off) = (fetch.is_hedge, fetch.phase == Phase::Body);
        let owned = self.unlink(now, id);
        let owned = self.leave_to_twin(id, owned);
        let mut ahead = true;
        if failure == Failure::Cancelled {
            // Not ours, so the driver's: no memory.
            let background = (&mut self.background_paused_until, NO_MEMORY_PAUSE);
            let demand = (&mut self.demand_paused_until, NO_MEMORY_PAUSE_DEMAND);
            let (paused, pause) = if class == Class::Demand { demand } else { background };
            if !is_hedge {
                *paused = Some(now + pause);
            }
        } else {
            let failure = if whole && failure == Failure::NoRanges { Failure::Corrupt } else { failure };
            self.blame(now, mirror, Some(file), failure);
            let known = &mut self.mirrors[usize::from(mirror.0)];
            if matches!(failure, Failure::Unreachable | Failure::Corrupt) {
                known.trouble.learn(now, false);
            }
            if failure == Failure::Unreachable && broke_off {
                known.stability.reset();
            }
            if Self::blames(failure) {
                known.stability.ended(now, false);
                ahead = waited || self.apply_policy(now, file, &owned, class, mirror, failure);
                if waited {
                    let what = "a fetch that is waited for failed";
                    let what = format!("{what} ({failure:?}): its pages are asked for elsewhere");
                    self.alert(Some(mirror), Some(file), what);
                }
            }
        }
        for run in owned {
            self.requeue(file, run, ahead);
        }
        self.bury(id);
        self.check_offline(now);
    }

    /// The failure policies of the classes that nobody waits for (spec 3.3). Demand goes on until its deadline; the
    /// breakers see to it that each mirror is asked again later and later, with jitter. Readahead is left to demand
    /// after three failures. Prefetch does not try the same mirror again by itself: it moves to another that may be
    /// asked now, three times at most, or is reported and left for its job's next pass. Returns whether the pages may
    /// be asked for again.
    fn apply_policy(
        &mut self,
        now: Time,
        file: Inode,
        owned: &[Pages],
        class: Class,
        mirror: MirrorId,
        why: Failure,
    ) -> bool {
        let alone = class == Class::Prefetch && !self.another(now, file, mirror, false);
        let Some(known) = self.files.get_mut(&file) else { return true };
        let given_up: Vec<Pages> = owned.iter().copied().filter(|&run| known.count_failure(run) || alone).collect();
        if given_up.is_empty() {
            return true;
        }
        for &run in &given_up {
            let jobs = self
                .wants
                .take(|want| want.class != Class::Demand && want.file == file && !want.pages.intersect(run).is_empty());
            let (read, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|want| want.is_read);
            let prefetch: Vec<_> = jobs.iter().filter(|want| want.class == Class::Prefetch).collect();
            let why = match why {
                Failure::Missing => Hopeless::Missing,
                Failure::Changed => Hopeless::Changed,
                Failure::Refused => Hopeless::Refused,
                Failure::Corrupt => Hopeless::Corrupt,
                _ => Hopeless::Offline,
            };
            self.out.extend(prefetch.iter().map(|want| Action::Fail { file, pages: want.pages, why }));
            jobs.iter().for_each(|want| self.unwant(file, want.pages));
            self.degrade_to_demand(file, read);
        }
        false
    }

    /// Count a failure on a mirror and draw the consequence.
    pub(super) fn blame(&mut self, now: Time, id: MirrorId, file: Option<Inode>, failure: Failure) {
        let (settings, longest) = (&self.settings, self.longest_backoff());
        let Some(mirror) = self.mirrors.get_mut(usize::from(id.0)) else { return };
        mirror.failures.count(failure);
        if Self::blames(failure) {
            mirror.last_failure = Some((now, failure));
        }
        self.dirty = true;
        match failure {
            Failure::Unreachable => {
                mirror.disappoint();
                if mirror.breaker.failure(now, settings, &mut self.rng, longest) {
                    self.alert(Some(id), None, "does not answer: not asked until a probe succeeds".into());
                }
            }
            Failure::Throttled { retry_after } => {
                if mirror.breaker.throttle(now, retry_after) {
                    let wait = mirror.breaker.next_try.since(now);
                    self.alert(Some(id), None, format!("asks for less: not asked for {wait:.1?}"));
                }
            }
            Failure::Missing | Failure::Changed | Failure::Refused => {
                let until = now + settings.exclusion;
                if let Some(known) = file.and_then(|file| self.files.get_mut(&file)) {
                    known.exclude(id, failure, until);
                }
            }
            Failure::Corrupt => self.blame_corrupt(now, id, file),
            Failure::NoRanges => mirror.ranges = false,
            Failure::Unlike | Failure::Cancelled => {}
        }
    }

    fn blame_corrupt(&mut self, now: Time, id: MirrorId, file: Option<Inode>) {
        let Some(file) = file else { return };
        let until = now + self.settings.quarantine;
        if let Some(known) = self.files.get_mut(&file) {
            known.exclude(id, Failure::Corrupt, until);
        }
        let Some(mirror) = self.mirrors.get_mut(usize::from(id.0)) else { return };
        mirror.corrupt_files.insert(file);
        if mirror.corrupt_files.len() < CORRUPT_FILES_MAX {
            self.alert(Some(id), Some(file), "served something else than this file: not used for it".into());
            return;
        }
        mirror.corrupt_files.clear();
        mirror.breaker.quarantine(now, &self.settings);
        self.alert(Some(id), None, "served wrong answers for several files: quarantined".into());
    }

    pub(super) fn on_probe_done(&mut self, now: Time, id: MirrorId, result: Result<Duration, Failure>) {
        let Some(mirror) = self.mirror_mut(id) else { return };
        mirror.breaker.probe_at = None;
        let drifted = mirror.learn_from_probe(now, result);
        if let (Ok(first_byte), Some(psi)) = (result, drifted) {
            self.on_drift(now, id, first_byte, psi);
        }
        let Some(mirror) = self.mirror_mut(id) else { return };
        let closed = mirror.breaker.state == BreakerState::Closed;
        if result.is_ok() && mirror.breaker.reason == Reason::Stalled && !closed {
            self.rest_silent_files(now, id);
        }
        if result == Err(Failure::Unreachable) && !closed {
            let longest = self.longest_backoff();
            let mirror = &mut self.mirrors[usize::from(id.0)];
            mirror.failures.count(Failure::Unreachable);
            mirror.last_failure = Some((now, Failure::Unreachable));
            mirror.breaker.probe_failed(now, &self.settings, &mut self.rng, longest);
            self.check_offline(now);
            return;
        }
        self.on_mirror_seen(now, id, result);
    }

    /// It lives, and fell silent over few files: they are rested, not the mirror.
    fn rest_silent_files(&mut self, now: Time, id: MirrorId) {
        let until = now + self.settings.rest;
        let mirror = &mut self.mirrors[usize::from(id.0)];
        if mirror.silent_files.len() >= SILENT_FILES_MAX {
            return;
        }
        mirror.breaker.forgive();
        for file in std::mem::take(&mut mirror.silent_files) {
            if let Some(known) = self.files.get_mut(&file) {
                known.exclude(id, Failure::Unreachable, until);
                self.rest_due = Some(self.rest_due.map_or(until, |due| due.min(until)));
            }
        }
    }

    /// Every mirror was asked at once, from outside the data plane, and none answers: no need to wait for more.
    pub(super) fn on_nobody_answers(&mut self, now: Time) {
        let longest = self.longest_backoff();
        for mirror in &mut self.mirrors {
            // As many failures as open it; they are one trouble, so it stops there by itself.
            for _ in 0..self.settings.breaker_failures {
                mirror.breaker.failure(now, &self.settings, &mut self.rng, longest);
            }
        }
        self.go_offline(now);
    }

    pub(super) fn on_mirror_seen(&mut self, now: Time, id: MirrorId, result: Result<Duration, Failure>) {
        let Some(mirror) = self.mirror_mut(id) else { return };
        match result {
            Ok(first_byte) => {
                let queued = mirror.remaining_bytes > 0;
                mirror.latency.add(now, first_byte, queued);
                mirror.breaker.answered(now);
                self.dirty = true;
                self.on_life(now);
            }
            // It answers, if only to say no: it lives.
            Err(Failure::Missing | Failure::Changed | Failure::Refused | Failure::Corrupt | Failure::NoRanges) => {
                mirror.breaker.answered(now);
                self.dirty = true;
                self.on_life(now);
            }
            Err(Failure::Unlike | Failure::Cancelled) => {}
            Err(failure) => self.blame(now, id, None, failure),
        }
        self.check_offline(now);
    }

    /// A mirror gave something: whatever we were, we are not offline.
    pub(super) fn on_life(&mut self, _now: Time) {
        self.down_since = None;
        self.offline_due = None;
        if self.offline_since.take().is_some() {
            self.dirty = true;
            self.alert(None, None, "a mirror answers again".into());
        }
    }

    /// Timers: breakers, expiry, silence, lateness.
    pub(super) fn on_time(&mut self, now: Time) {
        if self.fetches.live > 0 && now >= self.next_tick + OVERSLEPT {
            // We slept (or the machine did): what the mirrors sent meanwhile is still on its way to us.
            self.blameless_until = now + super::GRACE;
        }
        for paused in [&mut self.demand_paused_until, &mut self.background_paused_until] {
            if paused.is_some_and(|until| until <= now) {
                *paused = None;
                self.dirty = true;
            }
        }
        for want in self.wants.expire(now) {
            self.unwant(want.file, want.pages);
        }
        if self.wants.is_empty() && self.wanted_at.is_some_and(|at| now >= at + INTEREST) {
            self.wanted_at = None;
        }
        if self.cap_due.is_some_and(|due| due <= now) {
            self.cap_due = None;
            self.dirty = true;
        }
        if self.rest_due.is_some_and(|due| due <= now) {
            self.rest_due = self.files.values().filter_map(|file| file.rest_ends(now)).min();
            self.dirty = true;
        }
        self.probe(now);
        self.look_at_mirrors(now);
        if self.fetches.live > 0 && now >= self.next_tick {
            self.next_tick = now + TICK;
            if now >= self.blameless_until {
                self.redispatch_stalled(now);
                self.redispatch_late(now);
                self.look_at_connections(now);
                // Here rather than in the next decision.
                self.refresh(now);
            }
        }
        if self.hedge_due.is_some_and(|due| due <= now) {
            self.hedge_late(now);
        }
        if self.headroom.due.is_some_and(|due| due <= now) {
            self.headroom.due = None;
            self.dirty = true;
        }
        self.look_at_tail(now);
        self.expire_comparisons(now);
        if self.offline_due.is_some_and(|due| due <= now) {
            self.offline_due = None;
        }
        self.check_offline(now);
    }

    fn look_at_connections(&mut self, now: Time) {
        let trials = self.mirrors.iter().filter(|mirror| mirror.connections.trying()).count();
        let mut left = (self.mirrors.len() / MIRRORS_A_TRIAL).max(1).saturating_sub(trials);
        for mirror in self.mirrors.iter_mut().filter(|mirror| mirror.bodies > 0) {
            let (running, rate) = (mirror.fetches - mirror.demand_fetches, mirror.rate(now));
            let tried = mirror.connections.trying();
            mirror.connections.look(now, running, rate, self.settings.background_fetches_max, left > 0);
            left -= usize::from(!tried && mirror.connections.trying());
        }
        for mirror in &mut self.mirrors {
            let load = mirror.load(mirror.rate(now), &self.settings);
            mirror.weight.look(now, load);
        }
    }

    /// Demand misses that take too long throttle the background.
    fn look_at_tail(&mut self, now: Time) {
        let medians = self.mirrors.iter().filter(|mirror| mirror.breaker.usable(now));
        let best = medians.filter_map(|mirror| mirror.latency.seconds()).min_by(f64::total_cmp);
        if self.fetches.live > 0 && self.tail.look(now, best.unwrap_or(0.0)) {
            self.dirty = true;
        }
    }

    /// Let the breakers know the time, and send the probes that are due.
    fn probe(&mut self, now: Time) {
        if !self.interested() {
            return;
        }
        let longest = self.longest_backoff();
        self.timed_mirrors().each(|at| {
            if self.mirrors[at].breaker.timeout(&self.settings).is_none_or(|due| now < due) {
                return;
            }
            let mirror = &mut self.mirrors[at];
            self.dirty = true;
            if mirror.breaker.on_time(now, &self.settings, &mut self.rng, longest) {
                self.send_probe(now, MirrorId(at as u16));
            }
        });
    }

    /// How long a breaker may stay open: short while nobody else could help.
    pub(super) fn longest_backoff(&self) -> Duration {
        match (self.offline_since, self.down_since) {
            (Some(_), _) => self.settings.offline_backoff_max,
            (None, Some(_)) => self.settings.backoff_min,
            (None, None) => self.settings.backoff_max,
        }
    }

    /// Somebody waits, and none of the mirrors that could help may be asked: try them now.
    pub(super) fn hurry(&mut self, now: Time) {
        if std::mem::take(&mut self.hurried) {
            self.mirrors.iter_mut().for_each(|mirror| mirror.breaker.hurry(now));
            self.probe(now);
        }
    }

    /// No mirror may be asked, none has given anything in two attempts, and that has lasted: offline.
    pub(super) fn check_offline(&mut self, now: Time) {
        let quarantined = |reason| matches!(reason, Reason::Quarantined | Reason::Removed);
        let mut any = false;
        for mirror in &self.mirrors {
            let breaker = &mirror.breaker;
            let closed = breaker.state == BreakerState::Closed;
            if closed || breaker.reason == Reason::Throttled {
                self.down_since = None;
                self.offline_due = None;
                return;
            }
            any |= !quarantined(breaker.reason);
        }
        if !any || self.offline_since.is_some() {
            return;
        }
        let since = *self.down_since.get_or_insert_with(|| {
            self.offline_due = Some(now + self.settings.offline_after);
            now
        });
        let tried = self
            .mirrors
            .iter()
            .all(|mirror| mirror.breaker.tries >= OFFLINE_TRIES || quarantined(mirror.breaker.reason));
        if tried && now >= since + self.settings.offline_after {
            self.go_offline(now);
        }
    }

    fn go_offline(&mut self, now: Time) {
        if self.offline_since.is_some() {
            return;
        }
        self.offline_since = Some(now);
        self.offline_due = None;
        self.alert(None, None, "no mirror answers: offline until one does".into());
        for (file, pages) in self.wants.take(|_| true).into_iter().map(|want| (want.file, want.pages)) {
            self.out.push_back(Action::Fail { file, pages, why: Hopeless::Offline });
            self.unwant(file, pages);
        }
    }

    /// No mirror can bring anything of this file: tell all who want some of it. Returns whether there was anybody.
    pub(super) fn give_up(&mut self, file: Inode, why: Hopeless) -> bool {
        let wants = self.wants.take(|want| want.file == file);
        let any = !wants.is_empty();
        for want in wants {
            self.out.push_back(Action::Fail { file, pages: want.pages, why });
        }
        for stream in self.streams.values_mut().filter(|stream| stream.file == file) {
            stream.window_end = stream.position;
        }
        if let Some(known) = self.files.get_mut(&file) {
            known.table.turn(known.table.pages(), State::Queued, State::Absent);
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Settings;

    #[test]
    fn a_mirror_that_failed_once_may_be_well_and_one_that_failed_twice_is_gone() {
        for (tries, is_offline) in [(1, false), (2, true)] {
            let mut scheduler = Scheduler::new(Settings::default(), 2, 1, Time(0));
            for (mirror, tries) in scheduler.mirrors.iter_mut().zip([9, tries]) {
                mirror.breaker.state = BreakerState::Open;
                mirror.breaker.reason = Reason::Unreachable;
                mirror.breaker.tries = tries;
            }
            scheduler.check_offline(Time(0));
            scheduler.check_offline(Time(0) + scheduler.settings.offline_after);
            assert_eq!(scheduler.offline_since.is_some(), is_offline, "{tries} tries");
        }
    }
}
