//! What can be seen of the scheduler from outside: plain data, for `status`.

use super::Scheduler;
use super::breaker::{BreakerState, Reason};
use super::distribution::BUCKETS;
use super::event::Failure;
use super::history::Supposition;
use super::mirror::Failures;
use super::strategy::Strategy;
use super::table::State;
use super::weight::Decay;
use crate::chunk::{Class, MirrorId, PAGE_BYTES, Pages};
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
    /// What is supposed where nothing is measured yet, because an earlier mount measured it.
    pub supposed: Option<Supposition>,
    /// The median and the P99 of its times to first byte of late, those behind our own bytes too.
    pub first_byte_quantiles: Option<(Duration, Duration)>,
    /// How many took less than 1 ms, less than 2, less than 4 and so on, since the mount; the last counts all longer ones too.
    pub first_byte_counts: [u64; BUCKETS],
    /// By how much two answers in a row differ, as RFC 3550 reckons it.
    pub jitter: Option<Duration>,
    /// That is so much that the rate is a moving average, and not what was measured in the window.
    pub rate_is_filtered: bool,
    /// The part of its rate that it lost from one half of the window to the other, 0 to 1.
    pub throughput_decay: f64,
    /// When an answer, bytes, and the end of an answer last told something of it.
    pub learned: Learned,
    /// How much it is to be used beside the others, as given.
    pub base_weight: f64,
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
    /// Background fetches that it may have at a time.
    pub connections: usize,
    /// How overloaded it is, 0 to 1.
    pub load: f64,
    /// Its live weight, 0.1 to 1, and how it decays.
    pub weight: f64,
    /// How its weight decays just now.
    pub decay: Decay,
    /// The part of its fetches that came to nothing of late, 0 to 1.
    pub trouble: f64,
    /// The part of its last 64 answers that were errors, 0 to 1.
    pub error_rate: Option<f64>,
    /// How stable its connections were.
    pub connection_stability: ConnectionStability,
    /// How far its latency is from its baseline, where 500 samples of each are known.
    pub stability_index: Option<f64>,
}

/// What is published of a mirror for everybody to read, and changes with its fetches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Live {
    /// Its breaker.
    pub state: BreakerState,
    /// Why it is not closed.
    pub reason: Option<Reason>,
    /// When it is tried again, where it is not asked now.
    pub next_try: Option<Time>,
    /// What its fetches have still to bring, in bytes.
    pub in_flight_bytes: u64,
    /// How many fetches that is.
    pub in_flight_fetches: usize,
    /// How overloaded it is, 0 to 1.
    pub load: f64,
    /// Its live weight, 0.1 to 1.
    pub weight: f64,
    /// While it was busy; nothing where too little came to know.
    pub bytes_per_second: Option<f64>,
    /// From request to first byte.
    pub time_to_first_byte: Option<Duration>,
    /// How often its bytes stopped coming.
    pub stalled: u64,
}

impl MirrorSnapshot {
    /// The part that is published.
    pub fn live(&self) -> Live {
        Live {
            state: self.state,
            reason: self.reason,
            next_try: self.next_try,
            in_flight_bytes: self.in_flight_bytes,
            in_flight_fetches: self.in_flight_fetches,
            load: self.load,
            weight: self.weight,
            bytes_per_second: self.throughput_bytes_per_second,
            time_to_first_byte: self.time_to_first_byte,
            stalled: self.failures.stalled,
        }
    }
}

/// When each thing was last learned of a mirror.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The time to its first byte, and its jitter.
    pub first_byte: Option<Time>,
    /// Its rate.
    pub throughput: Option<Time>,
    /// Its error rate.
    pub outcome: Option<Time>,
}

/// What happened to the connections of a mirror. Each of these but the last makes its window smaller for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStability {
    /// Answers that broke off in their body.
    pub resets: u64,
    /// Answers that fell silent.
    pub stalls: u64,
    /// Times that it answered again after one of these.
    pub reconnects: u64,
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
    /// How mirrors are chosen.
    pub strategy: Strategy,
    /// Decisions so far.
    pub decisions: u64,
    /// Requests for data so far.
    pub requests: u64,
    /// Requests for one byte to mirrors that had nothing to do.
    pub light_probes: u64,
    /// All requests for one byte so far.
    pub probes: u64,
    /// Hedges sent, those that were first, and bytes that the losers had brought.
    pub hedges: HedgeCounts,
    /// The P99 of demand misses of late, where there are enough.
    pub demand_p99: Option<Duration>,
    /// What it should be.
    pub demand_objective: Duration,
    /// The part of the windows that the background may use, 0.1 to 1.
    pub background_share: f64,
}

/// What hedging did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HedgeCounts {
    /// Second fetches that were sent.
    pub issued: u64,
    /// Those that brought the pages first.
    pub won: u64,
    /// Bytes that the losers had brought.
    pub wasted_bytes: u64,
}

impl Scheduler {
    /// What it knows and does. Costs a walk over all wants: for people, not for each event.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let mirrors = self.mirrors.iter();
        let mirrors = mirrors.map(|mirror| self.mirror_snapshot(now, mirror)).collect();
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
            strategy: self.given.strategy,
            decisions: self.ring.made,
            requests: self.fetches.made(),
            light_probes: self.probing.light,
            probes: self.probing.sent,
            hedges: HedgeCounts {
                issued: self.hedges.issued,
                won: self.hedges.won,
                wasted_bytes: self.hedges.wasted_bytes,
            },
            demand_p99: self.tail.p99_seconds.map(Duration::from_secs_f64),
            demand_objective: Duration::from_secs_f64(self.tail.objective_seconds),
            background_share: self.tail.share,
        }
    }

    /// Bytes that a mirror has still to bring, and in how many fetches; none of a mirror that is not there.
    pub fn in_flight(&self, mirror: MirrorId) -> Option<(u64, usize)> {
        self.mirrors.get(usize::from(mirror.0)).map(|mirror| (mirror.remaining_bytes, mirror.fetches))
    }

    /// What everybody may read of a mirror. Costs no walk, and none of the quantiles of a snapshot: it is asked for with
    /// each fetch.
    pub fn live(&self, now: Time, mirror: MirrorId) -> Option<Live> {
        self.mirrors.get(usize::from(mirror.0)).map(|mirror| self.live_of(now, mirror))
    }

    fn live_of(&self, now: Time, mirror: &super::mirror::Mirror) -> Live {
        let (closed, rate) = (mirror.breaker.state == BreakerState::Closed, mirror.rate(now));
        Live {
            state: mirror.breaker.state,
            reason: (!closed).then_some(mirror.breaker.reason),
            next_try: Some(mirror.breaker.next_try).filter(|&at| at > now),
            in_flight_bytes: mirror.remaining_bytes,
            in_flight_fetches: mirror.fetches,
            load: mirror.load(rate, &self.settings),
            weight: self.live_weight(mirror, rate),
            bytes_per_second: mirror.meter.known().then_some(rate),
            time_to_first_byte: mirror.latency.seconds().map(Duration::from_secs_f64),
            stalled: mirror.failures.stalled,
        }
    }

    /// Fetches so far. The next one has the id after it.
    pub fn fetches_made(&self) -> u64 {
        self.fetches.made()
    }

    fn mirror_snapshot(&self, now: Time, mirror: &super::mirror::Mirror) -> MirrorSnapshot {
        let duration = Duration::from_secs_f64;
        let stability = &mirror.stability;
        let live = self.live_of(now, mirror);
        MirrorSnapshot {
            state: live.state,
            reason: live.reason,
            next_try: live.next_try,
            throughput_bytes_per_second: live.bytes_per_second,
            time_to_first_byte: live.time_to_first_byte,
            supposed: mirror.supposition(now),
            first_byte_quantiles: mirror.first_bytes.quantiles().map(|(p50, p99)| (duration(p50), duration(p99))),
            first_byte_counts: mirror.first_bytes.counts(),
            jitter: mirror.latency.jitter_seconds().map(duration),
            rate_is_filtered: mirror.meter.filtered,
            throughput_decay: mirror.meter.decay,
            learned: Learned {
                first_byte: mirror.latency.at,
                throughput: mirror.meter.learned_at(),
                outcome: stability.at,
            },
            in_flight_bytes: live.in_flight_bytes,
            in_flight_fetches: live.in_flight_fetches,
            base_weight: mirror.base_weight,
            window_bytes: mirror.window_bytes(mirror.rate(now), &self.settings),
            arrived_bytes: mirror.arrived_bytes,
            failures: mirror.failures,
            last_failure: mirror.last_failure,
            ranges: mirror.ranges,
            connections: mirror.connections.limit(self.settings.background_fetches_max),
            load: live.load,
            weight: live.weight,
            decay: mirror.weight.decay,
            trouble: mirror.trouble.part(now),
            error_rate: stability.error_rate(),
            connection_stability: ConnectionStability {
                resets: stability.resets,
                stalls: stability.stalls,
                reconnects: stability.reconnects,
            },
            stability_index: mirror.drift.psi,
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
