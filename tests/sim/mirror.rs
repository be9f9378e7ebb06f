//! A simulated mirror: a link with a rate that its fetches share fairly, and a time to first byte.

use braidfs::chunk::{Class, FetchId, PAGE_BYTES, Pages};
use braidfs::clock::Time;
use braidfs::scheduler::{Event, Failure};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Health {
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

#[derive(Clone, Copy, Debug)]
pub enum Change {
    Rate(f64),
    Health(Health),
    /// Every running answer breaks off.
    Reset,
}

#[derive(Debug)]
pub struct Flow {
    pub fetch: FetchId,
    pub pages: Pages,
    class: Class,
    length_bytes: u64,
    sent_bytes: f64,
    quantum_bytes: f64,
    told_pages: u64,
    first_byte_at: Time,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Asked,
    Connected,
    Body,
}

#[derive(Debug)]
pub struct SimMirror {
    pub rate: f64,
    pub latency: Duration,
    /// What one connection gets at most, in bytes per second.
    pub connection_rate: f64,
    pub health: Health,
    pub ranges: bool,
    /// Serves something else than what was asked for.
    pub lies: bool,
    pub changes: Vec<(Time, Change)>,
    pub flows: Vec<Flow>,
    pub wire_bytes: f64,
    pub requests: u64,
    pub probes: u64,
    /// Moments with anything in flight, and the background fetches that were in them together.
    pub busy_moments: u64,
    pub flow_moments: u64,
}

impl SimMirror {
    pub fn new(rate: f64, latency_ms: u64) -> SimMirror {
        SimMirror {
            rate,
            latency: Duration::from_millis(latency_ms),
            connection_rate: f64::INFINITY,
            health: Health::Up,
            ranges: true,
            lies: false,
            changes: Vec::new(),
            flows: Vec::new(),
            wire_bytes: 0.0,
            requests: 0,
            probes: 0,
            busy_moments: 0,
            flow_moments: 0,
        }
    }

    pub fn at(mut self, ms: u64, change: Change) -> SimMirror {
        self.changes.push((Time(ms * 1_000_000), change));
        self
    }

    pub fn ask(&mut self, now: Time, fetch: FetchId, pages: Pages, size_bytes: u64, class: Class) {
        self.requests += 1;
        self.flows.push(Flow {
            fetch,
            pages,
            class,
            length_bytes: pages.len_bytes(size_bytes),
            sent_bytes: 0.0,
            quantum_bytes: 0.0,
            told_pages: 0,
            first_byte_at: now + self.latency,
            state: State::Asked,
        });
    }

    pub fn probe(&mut self) -> Option<(Duration, Result<Duration, Failure>)> {
        self.probes += 1;
        match self.health {
            Health::Up | Health::Bodiless => Some((self.latency, Ok(self.latency))),
            Health::BlackHole => None,
            Health::Refusing => Some((Duration::from_millis(1), Err(Failure::Unreachable))),
            Health::Throttling(seconds) => {
                let retry_after = Some(Duration::from_secs(seconds));
                Some((self.latency, Err(Failure::Throttled { retry_after })))
            }
        }
    }

    pub fn busy(&self) -> bool {
        !self.flows.is_empty()
    }

    /// One quantum: what happens on this link until `now`.
    pub fn step(&mut self, now: Time, quantum: Duration, events: &mut Vec<Event>) {
        self.busy_moments += u64::from(self.busy());
        let background = self.flows.iter().filter(|flow| flow.class != Class::Demand).count();
        self.flow_moments += background as u64;
        while self.changes.first().is_some_and(|&(at, _)| at <= now) {
            match self.changes.remove(0).1 {
                Change::Rate(rate) => self.rate = rate,
                Change::Health(health) => self.health = health,
                Change::Reset => self.fail_all(Failure::Unreachable, events),
            }
        }
        match self.health {
            Health::BlackHole => return,
            Health::Refusing => return self.fail_all(Failure::Unreachable, events),
            Health::Throttling(seconds) => {
                let retry_after = Some(Duration::from_secs(seconds));
                return self.fail_all(Failure::Throttled { retry_after }, events);
            }
            Health::Up | Health::Bodiless => {}
        }
        for flow in &mut self.flows {
            if flow.state == State::Asked {
                flow.state = State::Connected;
                events.push(Event::Connected { fetch: flow.fetch });
            }
        }
        let lies = self.lies;
        self.flows.retain_mut(|flow| {
            if flow.state == State::Body || flow.first_byte_at > now {
                return true;
            }
            if lies {
                events.push(Event::Failed { fetch: flow.fetch, failure: Failure::Corrupt });
                return false;
            }
            flow.state = State::Body;
            events.push(Event::FirstByte { fetch: flow.fetch });
            true
        });
        if self.health == Health::Up {
            self.send(quantum, events);
        }
    }

    fn fail_all(&mut self, failure: Failure, events: &mut Vec<Event>) {
        events.extend(self.flows.drain(..).map(|flow| Event::Failed { fetch: flow.fetch, failure }));
    }

    fn send(&mut self, quantum: Duration, events: &mut Vec<Event>) {
        let mut budget = self.rate * quantum.as_secs_f64();
        let most = self.connection_rate * quantum.as_secs_f64();
        let mut hungry: Vec<usize> = (0..self.flows.len()).filter(|&at| self.flows[at].state == State::Body).collect();
        self.flows.iter_mut().for_each(|flow| flow.quantum_bytes = 0.0);
        // Fair shares; what one does not need, the others get.
        while budget > 1e-6 && !hungry.is_empty() {
            let share = budget / hungry.len() as f64;
            hungry.retain(|&at| {
                let flow = &mut self.flows[at];
                let bytes = share.min(flow.length_bytes as f64 - flow.sent_bytes).min(most - flow.quantum_bytes);
                flow.quantum_bytes += bytes;
                flow.sent_bytes += bytes;
                self.wire_bytes += bytes;
                budget -= bytes;
                flow.length_bytes as f64 - flow.sent_bytes > 1e-6 && most - flow.quantum_bytes > 1e-6
            });
        }
        self.flows.retain_mut(|flow| {
            if flow.state != State::Body {
                return true;
            }
            let done = flow.length_bytes as f64 - flow.sent_bytes <= 1e-6;
            let pages = if done { flow.pages.count() } else { flow.sent_bytes as u64 / PAGE_BYTES };
            if pages > flow.told_pages {
                let run = Pages::new(flow.pages.start + flow.told_pages, flow.pages.start + pages);
                flow.told_pages = pages;
                events.push(Event::Arrived { fetch: flow.fetch, pages: run });
            } else if flow.sent_bytes > 0.0 {
                events.push(Event::Progress { fetch: flow.fetch, total_bytes: flow.sent_bytes as u64 });
            }
            if done {
                events.push(Event::Finished { fetch: flow.fetch });
            }
            !done
        });
    }
}
