//! A simulated mirror: a link with a rate that its fetches share fairly, a time to first byte, and faults.
//!
//! Bytes flow by arithmetic between two moments at which anything about the link changes; a mirror says
//! when its next such moment is, so one that has nothing to do costs nothing.

use super::flow::{Fate, Flow, Stage};
use crate::chunk::{Class, FetchId, Pages};
use crate::clock::Time;
use crate::scheduler::{Event, Failure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// A request is on its way, or a refusal is back, after this.
const CONNECT: Duration = Duration::from_millis(1);
/// How often the rate of a link that wobbles is drawn anew.
const WOBBLE_EVERY: Duration = Duration::from_millis(100);

/// Whether a mirror does what it should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Health {
    /// It does.
    Up,
    /// Takes everything, says nothing.
    BlackHole,
    /// Connection refused, at once.
    Refusing,
    /// 503 with so many seconds in Retry-After.
    Throttling(u64),
    /// Answers probes and headers, sends no body.
    Bodiless,
}

/// Something that happens to a mirror at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Its link has so many bytes per second now.
    Rate(f64),
    /// Its time to first byte.
    Latency(Duration),
    /// Its health.
    Health(Health),
    /// Every running answer breaks off.
    Reset,
    /// Nothing comes out of the link for so long; what was sent meanwhile then comes at once.
    Hold(Duration),
}

/// One mirror, its link, and what it has done.
#[derive(Debug)]
pub struct SimMirror {
    /// Bytes per second of its link.
    pub rate: f64,
    /// From request to first byte.
    pub latency: Duration,
    /// At most so much more, by chance, for each request.
    pub jitter: Duration,
    /// What one connection gets at most, in bytes per second.
    pub connection_rate: f64,
    /// What a connection that was opened beside others gets of the link, as a part of what those get: where senders keep
    /// to the rate that they measured at first (BBR), one that joins a full link measures little.
    pub joining: f64,
    /// The rate varies by this part of itself, up and down, ten times a second.
    pub wobble: f64,
    /// The link holds its bytes back for 200 ms, as for a lost packet, about so often in a busy second.
    pub losses_per_second: f64,
    /// Every so many requests one breaks off in mid-body; 0: none.
    pub reset_every: u64,
    /// Every so many requests one falls silent in mid-body for ever; 0: none.
    pub stall_every: u64,
    /// This request falls silent in mid-body for ever; 0: none.
    pub stall_request: u64,
    /// Whether it does what it should.
    pub health: Health,
    /// It serves ranges.
    pub ranges: bool,
    /// Serves something else than what was asked for.
    pub lies: bool,
    /// What is in its files: 0 in those of most.
    pub content: u8,
    /// Pages that it was asked for only to be compared.
    pub compared: u64,
    /// What is going to happen to it, in order of time.
    pub changes: Vec<(Time, Change)>,
    /// The answers that it owes.
    pub flows: Vec<Flow>,
    /// Body bytes that left it and were taken.
    pub wire_bytes: f64,
    /// The same, by second.
    pub wire_by_second: Vec<f64>,
    /// How often it was asked for a range.
    pub requests: u64,
    /// How often it was asked for one byte.
    pub probes: u64,
    /// How many of its answers were given to another mirror or given up.
    pub cancelled: u64,
    /// Seconds with anything in flight.
    pub busy_seconds: f64,
    /// The background fetches that were in flight then, times the seconds.
    pub flow_seconds: f64,
    /// Progress is told at most so often.
    pub grain: Duration,
    /// The weights of connections that nobody uses just now.
    idle: Vec<f64>,
    changed: usize,
    updated_at: Time,
    held_until: Time,
    wobble_at: Time,
    factor: f64,
    rng: StdRng,
}

impl SimMirror {
    /// A healthy mirror of so many bytes per second, so far away.
    pub fn new(rate: f64, latency_ms: u64) -> SimMirror {
        SimMirror {
            rate,
            latency: Duration::from_millis(latency_ms),
            jitter: Duration::ZERO,
            connection_rate: f64::INFINITY,
            joining: 1.0,
            wobble: 0.0,
            losses_per_second: 0.0,
            reset_every: 0,
            stall_every: 0,
            stall_request: 0,
            health: Health::Up,
            ranges: true,
            lies: false,
            content: 0,
            compared: 0,
            changes: Vec::new(),
            flows: Vec::new(),
            wire_bytes: 0.0,
            wire_by_second: Vec::new(),
            requests: 0,
            probes: 0,
            cancelled: 0,
            busy_seconds: 0.0,
            flow_seconds: 0.0,
            grain: Duration::from_millis(1),
            idle: Vec::new(),
            changed: 0,
            updated_at: Time(0),
            held_until: Time(0),
            wobble_at: Time(0),
            factor: 1.0,
            rng: StdRng::seed_from_u64(0),
        }
    }

    /// The same, with this happening to it `ms` after the start; in order of time.
    pub fn at(mut self, ms: u64, change: Change) -> SimMirror {
        self.changes.push((Time(ms * 1_000_000), change));
        self
    }

    /// All its chance comes from this seed.
    pub fn seed(&mut self, seed: u64) {
        self.rng = StdRng::seed_from_u64(seed);
    }

    /// It is asked for `pages` of a file of `size_bytes`.
    pub fn ask(&mut self, now: Time, fetch: FetchId, pages: Pages, size_bytes: u64, class: Class) {
        self.advance(now);
        self.requests += 1;
        let length_bytes = pages.len_bytes(size_bytes);
        let nth = |every: u64| every > 0 && self.requests.is_multiple_of(every);
        let half = length_bytes as f64 / 2.0;
        let fate = if nth(self.stall_every) || self.requests == self.stall_request {
            Fate::StallsAt(half)
        } else if nth(self.reset_every) {
            Fate::BreaksAt(half)
        } else {
            Fate::Ends
        };
        let first_byte_at = now + self.latency + self.late();
        let mut flow = Flow::new(fetch, pages, class, length_bytes, fate, now + CONNECT, first_byte_at);
        // The connection that was used last is used first.
        let full = self.flows.iter().filter(|flow| flow.hungry()).count() >= 2;
        flow.weight = self.idle.pop().unwrap_or(if full { self.joining } else { 1.0 });
        self.flows.push(flow);
    }

    /// What chance adds to its latency this time.
    fn late(&mut self) -> Duration {
        self.jitter.mul_f64(if self.jitter.is_zero() { 0.0 } else { self.rng.random::<f64>() })
    }

    /// Nobody wants this answer any more. What leaves it until it hears of that comes all the same: a round
    /// trip's worth.
    pub fn cancel(&mut self, now: Time, fetch: FetchId) {
        self.advance(now);
        let Some(at) = self.flows.iter().position(|flow| flow.fetch == fetch) else { return };
        self.cancelled += 1;
        let flows = if self.health == Health::Up && now >= self.held_until { self.flow_rate() } else { 0.0 };
        let rate = (flows * self.flows[at].weight).min(self.connection_rate);
        let on_the_way = self.flows[at].take(rate * self.latency.as_secs_f64());
        self.wire_bytes += on_the_way;
        self.flows.remove(at);
    }

    /// It is asked for one byte: after how long it answers what, if ever.
    pub fn probe(&mut self, now: Time) -> Option<(Duration, Result<Duration, Failure>)> {
        self.advance(now);
        self.probes += 1;
        match self.health {
            Health::Up | Health::Bodiless => {
                let first_byte = self.latency + self.late();
                Some((first_byte, Ok(first_byte)))
            }
            Health::BlackHole => None,
            Health::Refusing => Some((CONNECT, Err(Failure::Unreachable))),
            Health::Throttling(seconds) => {
                let retry_after = Some(Duration::from_secs(seconds));
                Some((self.latency, Err(Failure::Throttled { retry_after })))
            }
        }
    }

    /// It is asked for a page to be compared: after how long it answers, if ever, or with what it fails.
    pub fn compare(&mut self, now: Time, whole: bool) -> Option<(Duration, Result<(), Failure>)> {
        self.compared += 1;
        let (after, result) = self.probe(now)?;
        self.probes -= 1;
        let result = match result {
            Ok(_) if self.health == Health::Bodiless => return None,
            Ok(_) if self.lies => Err(Failure::Corrupt),
            Ok(_) if !whole && !self.ranges => Err(Failure::NoRanges),
            result => result.map(|_| ()),
        };
        Some((after, result))
    }

    /// Does it owe any answer?
    pub fn busy(&self) -> bool {
        !self.flows.is_empty()
    }

    /// Let the link run until `now`, and say what came of it.
    pub fn step(&mut self, now: Time, events: &mut Vec<Event>) {
        self.advance(now);
        while let Some(&(at, change)) = self.changes.get(self.changed).filter(|&&(at, _)| at <= now) {
            self.changed += 1;
            self.apply(at, change, events);
        }
        match self.health {
            Health::BlackHole => return,
            Health::Refusing => return self.fail(now, Failure::Unreachable, events),
            Health::Throttling(seconds) => {
                let retry_after = Some(Duration::from_secs(seconds));
                return self.fail(now, Failure::Throttled { retry_after }, events);
            }
            Health::Up | Health::Bodiless => {}
        }
        if now < self.held_until {
            return;
        }
        let lies = self.lies;
        let idle = &mut self.idle;
        self.flows.retain_mut(|flow| {
            let goes_on = flow.tell(now, lies, events);
            if matches!(events.last(), Some(Event::Finished { fetch }) if *fetch == flow.fetch) {
                idle.push(flow.weight);
            }
            goes_on
        });
    }

    /// The next moment at which it has anything to say or anything changes; nothing while it is idle.
    pub fn next_moment(&self) -> Option<Time> {
        if !self.busy() {
            return None;
        }
        let change = self.changes.get(self.changed).map(|&(at, _)| at);
        let flows = match self.health {
            Health::BlackHole => None,
            Health::Refusing | Health::Throttling(_) => self.flows.iter().map(|flow| flow.connected_at).min(),
            Health::Up | Health::Bodiless => {
                let rate = if self.health == Health::Up { self.flow_rate() } else { 0.0 };
                let wobble = (self.wobble > 0.0 || self.losses_per_second > 0.0).then_some(self.wobble_at);
                let of = |flow: &Flow| (rate * flow.weight).min(self.connection_rate);
                let due = self.flows.iter().map(|flow| flow.next_moment(self.updated_at, self.grain, of(flow))).min();
                [due, wobble].into_iter().flatten().min().map(|at| at.max(self.held_until))
            }
        };
        [change, flows].into_iter().flatten().min().map(|at| at.max(self.updated_at))
    }

    fn apply(&mut self, at: Time, change: Change, events: &mut Vec<Event>) {
        match change {
            Change::Rate(rate) => self.rate = rate,
            Change::Latency(latency) => self.latency = latency,
            Change::Health(health) => self.health = health,
            Change::Reset => self.fail(Time::NEVER, Failure::Unreachable, events),
            Change::Hold(length) => self.held_until = at + length,
        }
    }

    /// Every answer that was under way by `now` ends so.
    fn fail(&mut self, now: Time, failure: Failure, events: &mut Vec<Event>) {
        self.flows.retain(|flow| {
            let fails = flow.stage != Stage::Asked || flow.connected_at <= now;
            if fails {
                events.push(Event::Failed { fetch: flow.fetch, failure });
            }
            !fails
        });
    }

    /// What an answer of weight 1 gets, where no connection is the limit.
    fn flow_rate(&self) -> f64 {
        let weights: f64 = self.flows.iter().filter(|flow| flow.hungry()).map(|flow| flow.weight).sum();
        self.rate * self.factor / if weights > 0.0 { weights } else { 1.0 }
    }

    /// Move the bytes that flowed since the last time. An idle link also catches up with its changes.
    fn advance(&mut self, now: Time) {
        if !self.busy() {
            let mut none = Vec::new();
            self.updated_at = now;
            while let Some(&(at, change)) = self.changes.get(self.changed).filter(|&&(at, _)| at <= now) {
                self.changed += 1;
                self.apply(at, change, &mut none);
            }
            return;
        }
        if now < self.held_until {
            return;
        }
        let passed = now.seconds_since(self.updated_at);
        let background = self.flows.iter().filter(|flow| flow.class != Class::Demand).count();
        self.busy_seconds += passed;
        self.flow_seconds += passed * background as f64;
        self.updated_at = now;
        if self.health == Health::Up && passed > 0.0 {
            self.send(now, passed);
        }
        let sends = matches!(self.health, Health::Up | Health::Bodiless);
        self.flows.iter_mut().filter(|flow| sends && flow.first_byte_at <= now).for_each(Flow::begin);
        self.vary(now);
    }

    /// Fair shares; what one does not need, the others get.
    fn send(&mut self, now: Time, passed: f64) {
        let mut budget = self.rate * self.factor * passed;
        let most = self.connection_rate * passed;
        let mut hungry: Vec<(usize, f64)> =
            (0..self.flows.len()).filter(|&at| self.flows[at].hungry()).map(|at| (at, 0.0)).collect();
        let mut sent = 0.0;
        while budget > 1e-6 && !hungry.is_empty() {
            let share = budget / hungry.iter().map(|&(at, _)| self.flows[at].weight).sum::<f64>();
            hungry.retain_mut(|(at, got)| {
                let flow = &mut self.flows[*at];
                let bytes = flow.take((share * flow.weight).min(most - *got));
                *got += bytes;
                budget -= bytes;
                sent += bytes;
                self.flows[*at].hungry() && most - *got > 1e-6
            });
        }
        self.wire_bytes += sent;
        // What came until a moment belongs to the second before it.
        let second = (now.0.saturating_sub(1) / 1_000_000_000) as usize;
        if self.wire_by_second.len() <= second {
            self.wire_by_second.resize(second + 1, 0.0);
        }
        self.wire_by_second[second] += sent;
    }

    /// The link's own chance: another rate, a lost packet.
    fn vary(&mut self, now: Time) {
        if now < self.wobble_at || (self.wobble <= 0.0 && self.losses_per_second <= 0.0) {
            return;
        }
        self.wobble_at = now + WOBBLE_EVERY;
        self.factor = 1.0 + self.wobble * self.rng.random_range(-1.0..1.0);
        if self.rng.random::<f64>() < self.losses_per_second * WOBBLE_EVERY.as_secs_f64() {
            self.held_until = now + Duration::from_millis(200);
        }
    }
}
