//! The life of a fetch: launched, connected, first byte, bytes, pages, ended.

use super::fetches::{Fetch, Phase, Runs};
use super::meter::Latency;
use super::origins::Origin;
use super::plan::Decision;
use super::sampling::Progress;
use super::table::State;
use super::{Action, Failure, Scheduler, TICK};
use crate::chunk::{CHUNK_BYTES, Class, FetchId, MirrorId, PAGE_BYTES, Pages};
use crate::clock::Time;
use std::time::Duration;

impl Scheduler {
    /// Its pages are in flight already; count it in.
    pub(super) fn launch(&mut self, now: Time, decision: Decision) -> FetchId {
        self.begin_doubt(now);
        let Decision { fetch: fetch_id, mirror: id, file, pages, owned, class, whole } = decision;
        let size_bytes = self.files.get(&file).map_or(0, |known| known.size_bytes);
        let length_bytes = pages.len_bytes(size_bytes);
        let waited = class == Class::Demand || owned.iter().any(|&run| self.wants.waited(file, run));
        let mirror = &mut self.mirrors[usize::from(id.0)];
        let progress = Progress::new(mirror.fetch_rate(now) / (mirror.fetches + 1) as f64);
        let queued_bytes = mirror.remaining_bytes;
        let queued = queued_bytes > 0;
        let asked = mirror.asked(now, length_bytes, class == Class::Demand);
        let extra = class != Class::Demand && mirror.would_try(now, &self.settings);
        let small = class != Class::Demand && length_bytes <= CHUNK_BYTES;
        mirror.fetches += 1;
        mirror.small_fetches += usize::from(small);
        mirror.freed_at = None;
        mirror.extra_fetches += usize::from(extra);
        mirror.demand_fetches += usize::from(class == Class::Demand);
        mirror.remaining_bytes += length_bytes;
        mirror.bucket.spend(now, length_bytes);
        self.bucket.spend(now, length_bytes);
        if self.fetches.live == 0 {
            self.next_tick = now + TICK;
        }
        self.fetches.live += 1;
        if let Some(experiment) = &mut self.experiment {
            experiment.began(now, self.fetches.live);
        }
        self.probing.requested();
        let fetch = Fetch {
            mirror: id,
            file,
            pages,
            owned,
            class,
            whole,
            phase: Phase::Connecting,
            length_bytes,
            total_bytes: 0,
            arrived_bytes: 0,
            progress,
            started_at: now,
            sign_at: now,
            waited,
            queued,
            queued_bytes,
            asked,
            extra,
            small,
            hedged: false,
            is_hedge: false,
            twin: None,
            void: false,
            cancelled: false,
        };
        self.fetches.all.insert(fetch_id, fetch);
        if let Some(known) = self.files.get_mut(&file) {
            known.agreement.ask_first(id);
            if !known.agreement.settled {
                self.comparing.unsettled.insert(file);
            }
        }
        self.note_hedge_due(fetch_id);
        fetch_id
    }

    /// A second fetch for pages that `first` owns and goes on to own.
    pub(super) fn launch_hedge(&mut self, now: Time, first: FetchId, mirror: MirrorId, pages: Pages) -> FetchId {
        let Some(file) = self.fetches.all.get(&first).map(|fetch| fetch.file) else { return first };
        let class = Class::Demand;
        let fetch = self.fetches.next_id();
        let id = self.launch(now, Decision { fetch, mirror, file, pages, owned: Runs::new(), class, whole: false });
        for (one, other) in [(first, id), (id, first)] {
            if let Some(fetch) = self.fetches.all.get_mut(&one) {
                fetch.twin = Some(other);
                fetch.is_hedge = one == id;
            }
        }
        id
    }

    pub(super) fn on_connected(&mut self, now: Time, id: FetchId) {
        if let Some(fetch) = self.live_mut(id)
            && fetch.phase == Phase::Connecting
        {
            fetch.phase = Phase::Asked(now);
            fetch.sign_at = now;
        }
    }

    pub(super) fn on_first_byte(&mut self, now: Time, id: FetchId) {
        let Some(fetch) = self.live_mut(id) else { return };
        let asked_at = match fetch.phase {
            Phase::Body | Phase::Ended => return,
            Phase::Asked(at) => Some(at),
            Phase::Connecting => None,
        };
        fetch.phase = Phase::Body;
        fetch.sign_at = now;
        fetch.progress.start(now);
        let (mirror_id, queued, started_at) = (fetch.mirror, fetch.queued, fetch.started_at);
        let mirror = &mut self.mirrors[usize::from(mirror_id.0)];
        if let Some(at) = asked_at {
            mirror.latency.add(now, now.since(at), queued);
            mirror.first_bytes.add(now, now.seconds_since(at));
        }
        // Behind our own bytes an answer says little of the mirror.
        let drifted = asked_at.filter(|_| !queued).and_then(|at| mirror.drift.add(now.seconds_since(at)));
        mirror.bodies += 1;
        mirror.stability.answered();
        mirror.meter.start(now);
        mirror.sign_at = now;
        mirror.silent_files.clear();
        mirror.breaker.sign_of_life();
        if let Some(psi) = drifted {
            self.on_drift(now, mirror_id, now.since(started_at), psi);
        }
        self.on_life(now);
    }

    /// The mirror is not what it was: it is learned anew.
    pub(super) fn on_drift(&mut self, now: Time, id: MirrorId, first_byte: Duration, psi: f64) {
        let Some(mirror) = self.mirror_mut(id) else { return };
        mirror.latency = Latency::default();
        mirror.latency.add(now, first_byte, false);
        mirror.predictor.forget();
        mirror.first_bytes.clear();
        mirror.first_bytes.add(now, first_byte.as_secs_f64());
        mirror.trouble.forget();
        if mirror.breaker.probe_at.is_none() {
            self.send_probe(now, id);
        }
        let what = format!("answers otherwise than it did (stability index {psi:.2}): it is learned anew");
        self.alert(Some(id), None, what);
    }

    pub(super) fn on_progress(&mut self, now: Time, id: FetchId, total_bytes: u64) {
        let Some(fetch) = self.live_mut(id) else { return };
        if matches!(fetch.phase, Phase::Connecting | Phase::Asked(_)) {
            self.on_first_byte(now, id);
        }
        let Some(fetch) = self.live_mut(id) else { return };
        let total_bytes = total_bytes.min(fetch.length_bytes);
        let bytes = total_bytes.saturating_sub(fetch.total_bytes);
        if bytes == 0 {
            return;
        }
        fetch.total_bytes = total_bytes;
        let gap = now.seconds_since(fetch.sign_at);
        fetch.sign_at = now;
        let sampled = fetch.progress.came(now, bytes);
        let at = usize::from(fetch.mirror.0);
        let mirror = &mut self.mirrors[at];
        mirror.learn_gap(gap);
        mirror.meter.came(now, bytes);
        if sampled {
            mirror.meter.sample(now);
        }
        mirror.sign_at = now;
        mirror.silent_files.clear();
        mirror.arrived_bytes += bytes;
        self.hedges.earn(bytes);
        self.comparing.earn(bytes);
        mirror.remaining_bytes -= bytes;
        mirror.breaker.sign_of_life();
        let room = mirror.room_bytes(now, mirror.rate(now), self.tail.share, &self.settings) > 0;
        if room && !self.lanes.had_room.contains(at) {
            self.lanes.had_room.insert(at);
            self.dirty = true;
        }
        self.end_body(now, id);
    }

    /// The link is idle from its last byte on, not from the moment that its end is told.
    fn end_body(&mut self, now: Time, id: FetchId) {
        let Some(fetch) = self.live_mut(id) else { return };
        if fetch.phase != Phase::Body || fetch.remaining_bytes() > 0 {
            return;
        }
        fetch.phase = Phase::Ended;
        let (asked, seconds) = (fetch.asked, now.seconds_since(fetch.started_at));
        let mirror = usize::from(fetch.mirror.0);
        let mirror = &mut self.mirrors[mirror];
        mirror.predictor.learn(&asked, seconds);
        mirror.bodies -= 1;
        if mirror.bodies == 0 {
            mirror.meter.stop(now);
        }
    }

    pub(super) fn on_arrived(&mut self, now: Time, id: FetchId, pages: Pages) {
        let Some(fetch) = self.fetches.all.get(&id).filter(|fetch| !fetch.void) else { return };
        let (file, mirror) = (fetch.file, fetch.mirror);
        let first = self.begin_kin(file, mirror);
        let Some(fetch) = self.fetches.all.get_mut(&id) else { return };
        let pages = pages.intersect(fetch.pages);
        self.origins.add(Origin { file, pages, mirror: fetch.mirror, fetch: id, at: now });
        let Some(known) = self.files.get_mut(&file) else { return };
        let pages = pages.intersect(known.table.pages());
        let own: u64 = fetch.disown(pages).iter().map(|run| run.count()).sum();
        let bytes = pages.len_bytes(known.size_bytes);
        fetch.arrived_bytes += bytes;
        let recheck = known.agreement.came(bytes);
        let arrived_bytes = fetch.arrived_bytes;
        let others = known.table.count(pages, State::InFlight) > own;
        if let Some(experiment) = &mut self.experiment {
            let held = known.table.count(pages, State::Held);
            experiment.came(now, (pages.count() - held) * PAGE_BYTES, self.fetches.live);
        }
        known.table.turn_all(pages, State::Held);
        known.forget_failures(pages);
        let (tail, objective_seconds) = (&mut self.tail, known.rule.objective_seconds());
        let experiment = &mut self.experiment;
        self.wants.arrived(now, file, pages, &known.table, |waited, in_order| {
            if let Some(experiment) = experiment {
                experiment.waited(now, waited);
            }
            if !in_order {
                tail.add(now, waited, objective_seconds);
            }
        });
        self.on_progress(now, id, arrived_bytes);
        let idle = if others { self.disown_others(id, pages) } else { Vec::new() };
        // A hedge that won says something of the mirror that lost, so that is settled before it is told to end.
        self.settle_hedge(now, id);
        // One that has brought nothing yet is worth no waiting.
        idle.into_iter().for_each(|(other, drain)| self.cancel(now, other, drain));
        if first {
            self.end_void(now, file);
        }
        if recheck {
            self.recheck(now, file, mirror);
        }
    }

    /// A hedge, or a fetch that was told to end, brought pages that another has been given. Returns those that have
    /// nothing left to bring, and whether their body has begun.
    fn disown_others(&mut self, id: FetchId, pages: Pages) -> Vec<(FetchId, bool)> {
        let mut idle = Vec::new();
        let Some(file) = self.fetches.all.get(&id).map(|fetch| fetch.file) else { return idle };
        self.fetches.all.each_of_file(file, |other, fetch| {
            if other != id && !fetch.cancelled && !fetch.disown(pages).is_empty() && fetch.owned.is_empty() {
                idle.push((other, matches!(fetch.phase, Phase::Body | Phase::Ended)));
            }
        });
        idle
    }

    pub(super) fn on_finished(&mut self, now: Time, id: FetchId) {
        if self.live_mut(id).is_some() {
            let owned = self.unlink(now, id);
            if let Some(fetch) = self.fetches.all.get(&id) {
                let (file, mirror) = (fetch.file, usize::from(fetch.mirror.0));
                self.mirrors[mirror].breaker.success(now);
                self.mirrors[mirror].freed_at = Some(now);
                self.mirrors[mirror].served += 1;
                self.mirrors[mirror].trouble.learn(now, true);
                self.mirrors[mirror].stability.ended(now, true);
                // What it let go for want of memory is left to those who wait, or it would come and go for ever.
                for run in owned {
                    self.requeue(file, run, false);
                }
            }
        }
        self.bury(id);
    }

    /// The record goes with its last event.
    pub(super) fn bury(&mut self, id: FetchId) {
        if let Some(fetch) = self.fetches.all.remove(&id) {
            self.forget_if_idle(fetch.file);
        }
    }

    /// Tell a fetch to end; what it has not brought is wanted again by whoever wanted it.
    pub(super) fn cancel(&mut self, now: Time, id: FetchId, drain: bool) {
        let Some(file) = self.live_mut(id).map(|fetch| fetch.file) else { return };
        let owned = self.unlink(now, id);
        for run in self.leave_to_twin(id, owned) {
            self.requeue(file, run, true);
        }
        self.out.push_back(Action::Cancel { fetch: id, drain });
    }

    /// Count a live fetch out: its pages are absent, it owns nothing, its mirror is rid of it.
    pub(super) fn unlink(&mut self, now: Time, id: FetchId) -> Runs {
        let Some(fetch) = self.fetches.all.get_mut(&id).filter(|fetch| !fetch.cancelled) else { return Runs::new() };
        fetch.cancelled = true;
        self.fetches.live -= 1;
        if let Some(experiment) = &mut self.experiment {
            experiment.ended(now, fetch.started_at, self.fetches.live);
        }
        self.dirty = true;
        let owned = std::mem::take(&mut fetch.owned);
        if let Some(known) = self.files.get_mut(&fetch.file) {
            for &run in &owned {
                known.table.turn(run, State::InFlight, State::Absent);
            }
            if known.agreement.candidate == Some(fetch.mirror) {
                known.agreement.candidate = None;
            }
        }
        let mirror = &mut self.mirrors[usize::from(fetch.mirror.0)];
        mirror.fetches -= 1;
        mirror.demand_fetches -= usize::from(fetch.class == Class::Demand);
        mirror.extra_fetches -= usize::from(fetch.extra);
        mirror.small_fetches -= usize::from(fetch.small);
        mirror.remaining_bytes -= fetch.remaining_bytes();
        if fetch.phase == Phase::Body {
            mirror.bodies -= 1;
            if mirror.bodies == 0 {
                mirror.meter.stop(now);
            }
        }
        owned
    }

    fn live_mut(&mut self, id: FetchId) -> Option<&mut Fetch> {
        self.fetches.all.get_mut(&id).filter(|fetch| !fetch.cancelled)
    }

    pub(super) fn mirror_mut(&mut self, id: MirrorId) -> Option<&mut super::mirror::Mirror> {
        self.mirrors.get_mut(usize::from(id.0))
    }

    /// Does this failure say something of the mirror?
    pub(super) fn blames(failure: Failure) -> bool {
        !matches!(failure, Failure::Cancelled | Failure::NoRanges)
    }
}
