//! The life of a fetch: launched, connected, first byte, bytes, pages, ended.

use super::fetches::{Fetch, Phase, Runs};
use super::meter::{Latency, Meter};
use super::origins::Origin;
use super::plan::Decision;
use super::table::State;
use super::{Action, Failure, Scheduler, TICK};
use crate::chunk::{Class, FetchId, MirrorId, Pages};
use crate::clock::Time;

impl Scheduler {
    /// Its pages are in flight already; count it in.
    pub(super) fn launch(&mut self, now: Time, decision: Decision) -> FetchId {
        let Decision { fetch: fetch_id, mirror: id, file, pages, owned, class, whole } = decision;
        let size_bytes = self.files.get(&file).map_or(0, |known| known.size_bytes);
        let length_bytes = pages.len_bytes(size_bytes);
        let waited = class == Class::Demand || owned.iter().any(|&run| self.wants.waited(file, run));
        let mirror = &mut self.mirrors[usize::from(id.0)];
        let meter = Meter::of_fetch(mirror.rate(now) / (mirror.fetches + 1) as f64);
        let queued_bytes = mirror.remaining_bytes;
        let queued = queued_bytes > 0;
        mirror.fetches += 1;
        mirror.demand_fetches += usize::from(class == Class::Demand);
        mirror.remaining_bytes += length_bytes;
        if self.fetches.live == 0 {
            self.next_tick = now + TICK;
        }
        self.fetches.live += 1;
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
            meter,
            started_at: now,
            sign_at: now,
            waited,
            queued,
            queued_bytes,
            hedged: false,
            is_hedge: false,
            twin: None,
            cancelled: false,
        };
        self.fetches.all.insert(fetch_id, fetch);
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
            Phase::Body => return,
            Phase::Asked(at) => Some(at),
            Phase::Connecting => None,
        };
        fetch.phase = Phase::Body;
        fetch.sign_at = now;
        fetch.meter.start(now);
        let (mirror, queued) = (usize::from(fetch.mirror.0), fetch.queued);
        let mirror = &mut self.mirrors[mirror];
        if let Some(at) = asked_at {
            mirror.latency.add(now, now.since(at), queued);
        }
        // Behind our own bytes an answer says little of the mirror.
        let drifted = asked_at.filter(|_| !queued).and_then(|at| mirror.drift.add(now.seconds_since(at)));
        mirror.bodies += 1;
        mirror.meter.start(now);
        mirror.sign_at = now;
        mirror.silent_files.clear();
        mirror.breaker.sign_of_life();
        if let Some(psi) = drifted {
            self.on_drift(now, id, psi);
        }
        self.on_life(now);
    }

    /// The mirror is not what it was: it is learned anew.
    fn on_drift(&mut self, now: Time, id: FetchId, psi: f64) {
        let Some(fetch) = self.fetches.all.get(&id) else { return };
        let (mirror_id, first_byte) = (fetch.mirror, now.since(fetch.started_at));
        let mirror = &mut self.mirrors[usize::from(mirror_id.0)];
        mirror.latency = Latency::default();
        mirror.latency.add(now, first_byte, false);
        mirror.trouble.forget();
        if mirror.breaker.probe_at.is_none() {
            mirror.breaker.probe_at = Some(now);
            self.out.push_back(Action::Probe { mirror: mirror_id });
        }
        let what = format!("answers otherwise than it did (stability index {psi:.2}): it is learned anew");
        self.alert(Some(mirror_id), None, what);
    }

    pub(super) fn on_progress(&mut self, now: Time, id: FetchId, total_bytes: u64) {
        let Some(fetch) = self.live_mut(id) else { return };
        if fetch.phase != Phase::Body {
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
        fetch.meter.add(now, bytes);
        let at = usize::from(fetch.mirror.0);
        let mirror = &mut self.mirrors[at];
        mirror.learn_gap(gap);
        mirror.meter.add(now, bytes);
        mirror.sign_at = now;
        mirror.silent_files.clear();
        mirror.arrived_bytes += bytes;
        self.hedges.earn(bytes);
        mirror.remaining_bytes -= bytes;
        mirror.breaker.sign_of_life();
        let room = mirror.room_bytes(now, mirror.rate(now), self.tail.share, &self.settings) > 0;
        if room && !self.lanes.had_room.contains(at) {
            self.lanes.had_room.insert(at);
            self.dirty = true;
        }
    }

    pub(super) fn on_arrived(&mut self, now: Time, id: FetchId, pages: Pages) {
        let Some(fetch) = self.fetches.all.get_mut(&id) else { return };
        let file = fetch.file;
        let pages = pages.intersect(fetch.pages);
        self.origins.add(Origin { file, pages, mirror: fetch.mirror, fetch: id, at: now });
        let Some(known) = self.files.get_mut(&file) else { return };
        let pages = pages.intersect(known.table.pages());
        let own: u64 = fetch.disown(pages).iter().map(|run| run.count()).sum();
        fetch.arrived_bytes += pages.len_bytes(known.size_bytes);
        let arrived_bytes = fetch.arrived_bytes;
        let others = known.table.count(pages, State::InFlight) > own;
        known.table.turn_all(pages, State::Held);
        known.forget_failures(pages);
        let tail = &mut self.tail;
        self.wants.arrived(now, file, pages, &known.table, |waited| tail.add(now, waited));
        self.on_progress(now, id, arrived_bytes);
        let idle = if others { self.disown_others(id, pages) } else { Vec::new() };
        // A hedge that won says something of the mirror that lost, so that is settled before it is told to end.
        self.settle_hedge(now, id);
        // One that has brought nothing yet is worth no waiting.
        idle.into_iter().for_each(|(other, drain)| self.cancel(now, other, drain));
    }

    /// A hedge, or a fetch that was told to end, brought pages that another has been given. Returns those that have
    /// nothing left to bring, and whether their body has begun.
    fn disown_others(&mut self, id: FetchId, pages: Pages) -> Vec<(FetchId, bool)> {
        let mut idle = Vec::new();
        let Some(file) = self.fetches.all.get(&id).map(|fetch| fetch.file) else { return idle };
        self.fetches.all.each_of_file(file, |other, fetch| {
            if other != id && !fetch.cancelled && !fetch.disown(pages).is_empty() && fetch.owned.is_empty() {
                idle.push((other, fetch.phase == Phase::Body));
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
                self.mirrors[mirror].trouble.learn(now, true);
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
        self.dirty = true;
        let owned = std::mem::take(&mut fetch.owned);
        if let Some(known) = self.files.get_mut(&fetch.file) {
            for &run in &owned {
                known.table.turn(run, State::InFlight, State::Absent);
            }
        }
        let mirror = &mut self.mirrors[usize::from(fetch.mirror.0)];
        mirror.fetches -= 1;
        mirror.demand_fetches -= usize::from(fetch.class == Class::Demand);
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
