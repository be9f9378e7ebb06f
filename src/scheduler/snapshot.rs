//! What can be seen of the scheduler from outside: plain data, for `status`.

use super::Scheduler;
use super::breaker::{BreakerState, Reason};
use super::event::Failure;
use super::mirror::Failures;
use super::table::State;
use crate::chunk::{Class, PAGE_BYTES, Pages};
use crate::clock::Time;
use std::time::Duration;

/// One mirror, as the scheduler knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorSnapshot {
    /// Its breaker.
    pub state: BreakerState,
    /// Why it is not closed.
    pub reason: Option<Reason>,
    /// When it is tried again, where it is not asked now.
    pub next_try: Option<Time>,
    /// Bytes per second while it was busy; nothing where too little came to know.
    pub throughput_bytes_per_second: Option<f64>,
    /// From request to first byte.
    pub time_to_first_byte: Option<Duration>,
    /// What its fetches have still to bring, in bytes.
    pub in_flight_bytes: u64,
    /// How many fetches that is.
    pub in_flight_fetches: usize,
    /// What it may have in flight for the background, in bytes.
    pub window_bytes: u64,
    /// Body bytes that came from it.
    pub arrived_bytes: u64,
    /// How often it failed, by kind.
    pub failures: Failures,
    /// The last failure, and when.
    pub last_failure: Option<(Time, Failure)>,
    /// It serves ranges.
    pub ranges: bool,
}

/// The whole, at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Every mirror, by its id.
    pub mirrors: Vec<MirrorSnapshot>,
    /// Pages wanted and not yet asked for, in bytes, by class: demand, readahead, prefetch.
    pub queued_bytes: [u64; 3],
    /// What all fetches have still to bring, in bytes.
    pub in_flight_bytes: u64,
    /// Live fetches, by class: demand, readahead, prefetch.
    pub in_flight_fetches: [usize; 3],
    /// Demand and prefetch wants that are not satisfied yet.
    pub wants: usize,
    /// Readers with a window of readahead.
    pub streams: usize,
    /// Files in the table.
    pub files: usize,
    /// Memory that background fetches may still take, in bytes.
    pub budget_bytes: u64,
    /// Since when no mirror answers.
    pub offline_since: Option<Time>,
    /// Alerts so far.
    pub alerts: u64,
}

impl Scheduler {
    /// What it knows and does. Costs a walk over all wants: for people, not for each event.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let mirrors = self.mirrors.iter().map(|mirror| self.mirror_snapshot(now, mirror)).collect();
        let mut in_flight_fetches = [0; 3];
        for fetch in self.fetches.all.values().filter(|fetch| !fetch.cancelled) {
            in_flight_fetches[fetch.class as usize] += 1;
        }
        Snapshot {
            mirrors,
            queued_bytes: self.queued_bytes(),
            in_flight_bytes: self.mirrors.iter().map(|mirror| mirror.remaining_bytes).sum(),
            in_flight_fetches,
            wants: self.wants.iter().count(),
            streams: self.streams.len(),
            files: self.files.len(),
            budget_bytes: self.budget_bytes,
            offline_since: self.offline_since,
            alerts: self.alerts,
        }
    }

    fn mirror_snapshot(&self, now: Time, mirror: &super::mirror::Mirror) -> MirrorSnapshot {
        let closed = mirror.breaker.state == BreakerState::Closed;
        MirrorSnapshot {
            state: mirror.breaker.state,
            reason: (!closed).then_some(mirror.breaker.reason),
            next_try: Some(mirror.breaker.next_try).filter(|&at| at > now),
            throughput_bytes_per_second: mirror.meter.known().then(|| mirror.rate(now)),
            time_to_first_byte: mirror.latency.seconds().map(Duration::from_secs_f64),
            in_flight_bytes: mirror.remaining_bytes,
            in_flight_fetches: mirror.fetches,
            window_bytes: mirror.window_bytes(mirror.rate(now), &self.settings),
            arrived_bytes: mirror.arrived_bytes,
            failures: mirror.failures,
            last_failure: mirror.last_failure,
            ranges: mirror.ranges,
        }
    }

    /// A page that several want counts once for each class.
    fn queued_bytes(&self) -> [u64; 3] {
        let mut queued = [0; 3];
        let mut count = |class: Class, file, pages: Pages| {
            let pages = self.files.get(&file).map_or(0, |known| known.table.count(pages, State::Queued));
            queued[class as usize] += pages * PAGE_BYTES;
        };
        self.wants.iter().for_each(|want| count(want.class, want.file, want.pages));
        self.streams.values().for_each(|stream| count(Class::Readahead, stream.file, stream.window()));
        queued
    }
}
