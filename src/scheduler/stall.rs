//! Healing: what stopped coming, or comes too late for who waits, goes to another mirror.

use super::Scheduler;
use super::event::Failure;
use super::fetches::{Fetch, Phase};
use super::mirror::Mirror;
use super::tier::TIER_MAX;
use crate::chunk::{Class, FetchId, Inode, MirrorId, PAGE_BYTES};
use crate::clock::Time;
use smallvec::SmallVec;

/// A fetch that a reader waits for gets less than this part of an even share: the background stands back.
const CROWDED_OUT: f64 = 0.5;
/// … and less than this part of it: it has starved, and what it has on its way is worth less than to begin anew on a
/// connection that has not.
const STARVED: f64 = 0.25;
/// One silent fetch of a mirror whose others go on is a bad connection or an unfair share, more rarely a
/// stall: it is given this much longer.
const ALIVE_FACTOR: f64 = 3.0;
/// A mirror that falls silent over fewer files than this, and answers a probe, is not at fault itself: one
/// file of it is on a disk or behind a proxy that hangs, and the others must go on.
pub(super) const SILENT_FILES_MAX: usize = 3;
/// But not where a reader waits: what a mirror that has just died still had in its socket buffers arrives for
/// half a second, while what it was asked since is never answered.
const ALIVE_WAITED_FACTOR: f64 = 1.2;
/// Our own bytes before an answer excuse it for no longer than this; less where a reader waits.
const QUEUE_SECONDS_MAX: f64 = 0.5;
const QUEUE_WAITED_SECONDS_MAX: f64 = 0.1;
/// Who waits needs one read's worth first, and gets it elsewhere as demand, not behind what is in flight.
const NEXT_BYTES: u64 = 128 << 10;
/// A mirror of which nothing is known has so long to bring what a reader waits for, and twice the time of
/// the mirror that would do it instead.
const TRIAL_SECONDS: f64 = 0.03;
/// A mirror of which nothing is known is taken for so much later than what is supposed of it: what is known to be
/// slow is left for it, and what is good enough is not.
const UNKNOWN_SECONDS: f64 = 0.3;
/// Bodies of a healthy mirror have a byte every few ms; a lost packet is repaired within some tens.
const SILENCE_NOTICED_SECONDS: f64 = 0.06;
/// How much a silence counts against a mirror: after 100 ms of it, another that is half a second slower.
const SILENCE_WEIGHT: f64 = 5.0;
/// Fetches that are moved at a time because they are late. The next look is 25 ms later.
const MOVES_MAX: usize = 4;

/// What one look says of a fetch that somebody needs at some time.
struct Late {
    own_seconds: f64,
    allowed_seconds: f64,
    /// Until one read's worth of it is here.
    next_seconds: f64,
    /// A reader waits for that, too long.
    waited: bool,
    /// Another mirror must be so many times sooner.
    factor: f64,
}

/// What is done about a late fetch.
enum Cure {
    None,
    /// Nobody else is known to have its file: look for some.
    Others,
    /// The mirror at `at` brings it sooner.
    Move {
        at: usize,
    },
}

impl Scheduler {
    /// Fetches whose bytes stopped go to other mirrors; where there is no other, patience.
    pub(super) fn redispatch_stalled(&mut self, now: Time) {
        let (mut stalled, mut helpless) = (Vec::new(), SmallVec::<[(Inode, bool); 4]>::new());
        for (&id, fetch) in self.fetches.all.iter().filter(|(_, fetch)| !fetch.cancelled) {
            let silence = now.seconds_since(fetch.sign_at);
            let alive = now.since(self.mirrors[usize::from(fetch.mirror.0)].sign_at) < self.settings.stall;
            let factor = match (alive, fetch.waited) {
                (false, _) => 1.0,
                (true, true) => ALIVE_WAITED_FACTOR,
                (true, false) => ALIVE_FACTOR,
            };
            let borne = self.borne_seconds(now, fetch) * factor;
            if silence < borne {
                continue;
            }
            let alone = !self.another(now, fetch.file, fetch.mirror, alive);
            if alone {
                helpless.push((fetch.file, !alive));
            }
            let level = self.mirrors[usize::from(fetch.mirror.0)].breaker.tries.min(2);
            let patience = self.settings.patience * 2u32.pow(level);
            // A connection whose first packet was lost takes a second to try again; the mirror itself talks, so
            // somebody who waits asks it once more by another, twice as late each time.
            let unanswered = alive && fetch.waited && matches!(fetch.phase, Phase::Connecting | Phase::Asked(_));
            let again = unanswered && silence >= borne * self.patience(now, fetch);
            if !alone || again || silence >= patience.as_secs_f64().max(borne) {
                stalled.push((id, fetch.mirror, fetch.waited, alive, alone));
            }
        }
        helpless.into_iter().for_each(|(file, any_tier)| self.want_other(file, any_tier));
        for (id, mirror, waited, alive, alone) in stalled {
            self.on_stalled(now, id, mirror, waited, alive, alone);
        }
    }

    fn on_stalled(&mut self, now: Time, id: FetchId, mirror_id: MirrorId, waited: bool, alive: bool, alone: bool) {
        let longest = self.longest_backoff();
        if alone && alive {
            self.count_move(now, id);
        }
        let file = self.fetches.all.get(&id).map(|fetch| fetch.file);
        let mirror = &mut self.mirrors[usize::from(mirror_id.0)];
        mirror.silent_files.extend(file);
        mirror.disappoint();
        mirror.failures.stalled += 1;
        mirror.stability.stalled(now);
        mirror.trouble.learn(now, false);
        mirror.last_failure = Some((now, Failure::Unreachable));
        let usable = mirror.breaker.usable(now);
        if !alive && alone {
            mirror.breaker.failure(now, &self.settings, &mut self.rng, longest);
        } else if !alive && usable {
            mirror.breaker.stall(now, &self.settings, &mut self.rng);
            self.alert(
                Some(mirror_id),
                None,
                "stopped sending: its fetches go elsewhere until a probe succeeds".into(),
            );
        }
        if waited {
            self.alert(Some(mirror_id), None, "a read waited for bytes that stopped coming".into());
        }
        self.cancel(now, id, false);
    }

    /// How long this fetch may be silent.
    fn borne_seconds(&self, now: Time, fetch: &Fetch) -> f64 {
        let mirror = &self.mirrors[usize::from(fetch.mirror.0)];
        let settings = &self.settings;
        if fetch.phase == Phase::Ended {
            return settings.patience.as_secs_f64();
        }
        if fetch.phase == Phase::Body {
            return settings.stall.as_secs_f64().max(mirror.unusual_gap_seconds());
        }
        let late = match mirror.latency.late_seconds() {
            Some(seconds) => seconds.max(settings.first_byte.as_secs_f64()),
            None => settings.first_byte_unknown.as_secs_f64(),
        };
        let before = mirror.remaining_bytes.saturating_sub(fetch.remaining_bytes());
        let queue_max = if fetch.waited { QUEUE_WAITED_SECONDS_MAX } else { QUEUE_SECONDS_MAX };
        late + (before as f64 / mirror.rate(now)).min(queue_max)
    }

    /// Is there another mirror that may be asked for this file now, or will be once `than` is not `alive`?
    pub(super) fn another(&self, now: Time, file: Inode, than: MirrorId, alive: bool) -> bool {
        let Some(known) = self.files.get(&file) else { return false };
        let tier = if alive { self.tier_of(now, known) } else { TIER_MAX };
        self.mirrors.iter().enumerate().any(|(at, mirror)| {
            let id = MirrorId(at as u16);
            let serves = mirror.ranges || known.size_bytes <= self.settings.whole_bytes_max;
            id != than && serves && mirror.tier <= tier && mirror.breaker.usable(now) && known.could(id, now)
        })
    }

    /// Fetches that come too late for a reader go to a mirror that is much sooner.
    pub(super) fn redispatch_late(&mut self, now: Time) {
        let usable = self.mirrors.iter().filter(|mirror| mirror.breaker.usable(now));
        let total_rate: f64 = usable.map(|mirror| mirror.rate(now)).sum();
        let mut moved_bytes = vec![0.0; self.mirrors.len()];
        let (mut moves, mut again) = (Vec::new(), SmallVec::<[FetchId; 4]>::new());
        let mut helpless = SmallVec::<[Inode; 4]>::new();
        let mut crowded_out = std::mem::take(&mut self.crowded_out);
        for (&id, fetch) in self.fetches.all.iter().filter(|(_, fetch)| !fetch.cancelled) {
            if moves.len() == MOVES_MAX || fetch.remaining_bytes() == 0 {
                continue;
            }
            let Some(late) = self.late(now, fetch, total_rate) else { continue };
            if self.is_crowded_out(now, fetch) {
                if !crowded_out.contains(&id) {
                    crowded_out.push(id);
                }
                if self.has_starved(now, fetch) {
                    again.push(id);
                    continue;
                }
            }
            match self.cure(now, fetch, &late, &moved_bytes) {
                Cure::None => {}
                Cure::Others => helpless.push(fetch.file),
                Cure::Move { at } => {
                    moved_bytes[at] += fetch.remaining_bytes() as f64;
                    moves.push(id);
                }
            }
        }
        // Until it has come, or the background would be back as soon as its last fetch has ended.
        crowded_out.retain(|&id| self.is_in_flight(id));
        self.crowded_out = crowded_out;
        helpless.into_iter().for_each(|file| self.want_other(file, false));
        // By the connection that has just become free, which has the link.
        again.into_iter().for_each(|id| self.cancel(now, id, false));
        for id in moves {
            let drain = self.worth_draining(now, id);
            self.learn_from_moved(now, id);
            self.count_move(now, id);
            self.cancel(now, id, drain);
        }
    }

    /// How late a fetch is that has a time at all.
    fn late(&self, now: Time, fetch: &Fetch, total_rate: f64) -> Option<Late> {
        let slack = self.slack_seconds(fetch, total_rate)?;
        let (own_seconds, allowed_seconds) = self.lateness(now, fetch, slack)?;
        let patience = self.patience(now, fetch);
        let allowed_seconds = allowed_seconds * patience;
        let next_seconds = NEXT_BYTES.min(fetch.remaining_bytes()) as f64 / fetch.progress.rate(now);
        let waited = fetch.waited && fetch.phase == Phase::Body && next_seconds > allowed_seconds;
        Some(Late { own_seconds, allowed_seconds, next_seconds, waited, factor: self.settings.late_factor * patience })
    }

    /// What is to be done about it.
    fn cure(&self, now: Time, fetch: &Fetch, late: &Late, moved_bytes: &[f64]) -> Cure {
        let &Late { own_seconds, allowed_seconds, next_seconds, waited, factor } = late;
        if own_seconds <= allowed_seconds && !waited {
            return Cure::None;
        }
        let Some((seconds, at)) = self.soonest_other(now, fetch, fetch.remaining_bytes(), moved_bytes) else {
            return Cure::Others;
        };
        let other = &self.mirrors[at];
        let shared = (NEXT_BYTES * (other.fetches as u64 + 1)) as f64 / other.rate(now) + other.latency_seconds();
        let whole = own_seconds > allowed_seconds + factor * seconds;
        let next = waited && next_seconds > allowed_seconds + factor * shared;
        if whole || next { Cure::Move { at } } else { Cure::None }
    }

    /// It crawls beside others, and a connection of its mirror that has had the link is free again.
    fn has_starved(&self, now: Time, fetch: &Fetch) -> bool {
        let freed_at = self.mirrors[usize::from(fetch.mirror.0)].freed_at;
        let moves = now.seconds_since(fetch.sign_at) < SILENCE_NOTICED_SECONDS;
        self.part_of_share(now, fetch) < STARVED && moves && freed_at.is_some_and(|at| at > fetch.started_at)
    }

    /// Does somebody wait for it, long, while it gets less than half of an even share of its mirror's link? Its neighbours'
    /// connections hold the rest, and new fetches of the background would go on with that.
    fn is_crowded_out(&self, now: Time, fetch: &Fetch) -> bool {
        let mirror = &self.mirrors[usize::from(fetch.mirror.0)];
        let needed = if fetch.class == Class::Demand { fetch.remaining_bytes() } else { NEXT_BYTES };
        let rate = fetch.progress.rate(now);
        let long = needed.min(fetch.remaining_bytes()) as f64 > rate * self.settings.late_slack.as_secs_f64();
        fetch.waited
            && fetch.phase == Phase::Body
            && long
            && (mirror.fetches > 1 || mirror.freed_at.is_some())
            && self.part_of_share(now, fetch) < CROWDED_OUT
    }

    /// What it gets of an even share of its mirror's link.
    fn part_of_share(&self, now: Time, fetch: &Fetch) -> f64 {
        let mirror = &self.mirrors[usize::from(fetch.mirror.0)];
        fetch.progress.rate(now) * mirror.fetches as f64 / mirror.rate(now)
    }

    fn patience(&self, now: Time, fetch: &Fetch) -> f64 {
        let start = fetch.owned.first().map_or(0, |run| run.start);
        self.files.get(&fetch.file).map_or(1.0, |file| file.patience(start, now))
    }

    fn count_move(&mut self, now: Time, id: FetchId) {
        let Some(fetch) = self.fetches.all.get(&id) else { return };
        let (file, mirror) = (fetch.file, fetch.mirror);
        let start = fetch.owned.first().map_or(0, |run| run.start);
        if let Some(known) = self.files.get_mut(&file) {
            known.count_move(start, mirror, now);
        }
    }

    /// Less than a round trip holds is left: it is here before a new connection would be.
    fn worth_draining(&self, now: Time, id: FetchId) -> bool {
        self.fetches.all.get(&id).is_some_and(|fetch| {
            let mirror = &self.mirrors[usize::from(fetch.mirror.0)];
            (fetch.remaining_bytes() as f64) < mirror.rate(now) * mirror.latency_seconds()
        })
    }

    /// How many seconds a fetch still takes, or has taken if more cannot be said, and how many it may.
    fn lateness(&self, now: Time, fetch: &Fetch, slack: f64) -> Option<(f64, f64)> {
        let mirror = &self.mirrors[usize::from(fetch.mirror.0)];
        if !mirror.meter.known() {
            // A mirror on trial: what it takes is only seen by waiting, so it gets less time.
            let answer = mirror.latency.seconds().map_or_else(|| mirror.before.answer_seconds(), |usual| 2.0 * usual);
            return Some((now.seconds_since(fetch.started_at), slack + TRIAL_SECONDS + answer));
        }
        if fetch.phase != Phase::Body {
            return None;
        }
        let own = fetch.remaining_bytes() as f64 / fetch.progress.rate(now);
        // Its share of the link grows when its neighbours end, up to the whole link after all of them; but one that only
        // tries a connection is beside others to its end.
        let alone = mirror.remaining_bytes as f64 / mirror.rate(now);
        let own = if fetch.extra { own } else { own.min(alone) };
        Some((own, slack + self.settings.late_slack.as_secs_f64()))
    }

    /// That its first byte took at least so long is worth knowing of a mirror that showed nothing yet.
    fn learn_from_moved(&mut self, now: Time, id: FetchId) {
        let Some(fetch) = self.fetches.all.get(&id) else { return };
        let (mirror, started_at, queued) = (usize::from(fetch.mirror.0), fetch.started_at, fetch.queued);
        self.mirrors[mirror].disappoint();
        if fetch.phase == Phase::Body && fetch.total_bytes == 0 {
            // Heads without bodies come soon, and would be the best that there is for who goes by first bytes.
            self.mirrors[mirror].trouble.learn(now, false);
        }
        if fetch.phase == Phase::Body {
            self.question_silent(now, mirror);
        } else {
            let mirror = &mut self.mirrors[mirror];
            mirror.latency.add(now, now.since(started_at), queued);
            mirror.breaker.suspect(now, &self.settings, &mut self.rng);
        }
    }

    /// A mirror whose bodies have all stopped may be gone, which is known only when its silence has lasted.
    /// Until then whoever waits is better sent to one that is talking.
    pub(super) fn silence_seconds(&self, now: Time, mirror: &Mirror) -> f64 {
        let silence = now.seconds_since(mirror.sign_at);
        match mirror.bodies > 0 && silence > SILENCE_NOTICED_SECONDS && now >= self.blameless_until {
            true => SILENCE_WEIGHT * silence,
            false => 0.0,
        }
    }

    /// The last body of a mirror that says nothing is taken from it. Nothing is left that could show whether it is gone, and
    /// what it is asked next would wait for that anew: a probe says it in a round trip.
    fn question_silent(&mut self, now: Time, at: usize) {
        let mirror = &mut self.mirrors[at];
        let unusual = mirror.unusual_gap_seconds().max(SILENCE_NOTICED_SECONDS);
        if mirror.bodies == 1 && now.seconds_since(mirror.sign_at) > unusual {
            mirror.breaker.question();
        }
    }

    /// In how many seconds a reader needs this fetch: 0 where one waits; nothing where none will soon.
    fn slack_seconds(&self, fetch: &Fetch, total_rate: f64) -> Option<f64> {
        if fetch.waited {
            return Some(0.0);
        }
        if fetch.class == Class::Prefetch {
            return None;
        }
        let start = fetch.owned.first()?.start;
        let streams =
            self.streams.values().filter(|stream| stream.file == fetch.file && stream.window().contains(start));
        streams
            .map(|stream| (start - stream.position) as f64 * PAGE_BYTES as f64 / total_rate.max(1.0))
            .min_by(f64::total_cmp)
    }

    /// The mirror that would bring so many bytes first.
    fn soonest_other(&self, now: Time, fetch: &Fetch, rest: u64, moved_bytes: &[f64]) -> Option<(f64, usize)> {
        let known = self.files.get(&fetch.file)?;
        let tier = self.tier_of(now, known);
        let others = self.mirrors.iter().enumerate().filter(|&(at, mirror)| {
            let id = MirrorId(at as u16);
            id != fetch.mirror
                && mirror.tier <= tier
                && mirror.ranges
                && mirror.breaker.usable(now)
                && known.could(id, now)
        });
        others
            .map(|(at, mirror)| {
                let before = mirror.remaining_bytes as f64 + moved_bytes[at];
                let doubt = UNKNOWN_SECONDS * mirror.doubt(now);
                (doubt + mirror.latency_seconds() + (before + rest as f64) / mirror.rate(now), at)
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))
    }
}
