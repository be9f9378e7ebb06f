//! What every thread may read of the scheduler, and of what mirrors brought: plain words, published by
//! the driver. Nobody who reads waits, and nobody who reads is ever waited for.
//!
//! What belongs together is in one word, so that nobody sees half of a change: the bytes in flight with
//! their fetches, the load with the weight that follows from it, a breaker's state with its reason and
//! its next try. (A lock of sequence numbers would keep more together, and a reader would spin while the
//! driver is off its core in the middle of a change.) Words of one mirror may be a change apart.
//!
//! Orderings: a word is whole by itself, so Relaxed does for each. The count of fetches is stored with
//! Release after the words of a drain and loaded with Acquire: who sees that a fetch was made sees what
//! is in flight with it, or later.

// Not from `std` at once: the model puts loom's in the place of these.
use super::atomic::{AtomicU64, Ordering};
use crate::chunk::{FetchId, MirrorId};
use crate::clock::Time;
use crate::scheduler::{BreakerState, Live, Reason};
use std::time::Duration;

/// Bits of a flow that count fetches; those above count bytes, up to 1 TiB. Either stops at its most.
const FETCH_BITS: u32 = 24;
/// Bits of a breaker's word: its state, 0 before the first publication.
const STATE_BITS: u32 = 2;
/// Its reason above those, 0 for none. The rest is its next try in microseconds, 0 for none: for 2,000 years.
const REASON_BITS: u32 = 6;
/// A time to the first byte that is not known.
const UNKNOWN: u64 = u64::MAX;

const STATES: [BreakerState; 3] = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];
const REASONS: [Reason; 5] =
    [Reason::Unreachable, Reason::Stalled, Reason::Throttled, Reason::Quarantined, Reason::Removed];

/// One mirror's words: a cache line of its own, so that news of one mirror costs the readers of another nothing.
#[derive(Default)]
#[repr(align(64))]
struct Line {
    flow: AtomicU64,
    share: AtomicU64,
    breaker: AtomicU64,
    rate: AtomicU64,
    first_byte: AtomicU64,
    stalled: AtomicU64,
    fetched_bytes: AtomicU64,
}

/// The published state of a mount.
pub struct Published {
    fetches: AtomicU64,
    mirrors: Box<[Line]>,
}

impl Published {
    /// For `mirrors` mirrors, of which nothing is known.
    pub fn new(mirrors: usize) -> Published {
        Published { fetches: AtomicU64::new(0), mirrors: (0..mirrors).map(|_| Line::default()).collect() }
    }

    /// What the scheduler thinks of `mirror` now. One thread publishes. Words that stay are not written, so
    /// that they stay in the caches of those who read them.
    pub fn publish(&self, mirror: MirrorId, live: &Live) {
        let Some(line) = self.mirrors.get(usize::from(mirror.0)) else { return };
        let put = |word: &AtomicU64, value: u64| {
            if word.load(Ordering::Relaxed) != value {
                word.store(value, Ordering::Relaxed);
            }
        };
        put(&line.flow, flow(live));
        put(&line.share, share(live));
        put(&line.breaker, breaker(live));
        put(&line.rate, live.bytes_per_second.unwrap_or(f64::NAN).to_bits());
        let first_byte = live.time_to_first_byte.map(|length| u64::try_from(length.as_nanos()).unwrap_or(UNKNOWN - 1));
        put(&line.first_byte, first_byte.unwrap_or(UNKNOWN));
        put(&line.stalled, live.stalled);
    }

    /// So many fetches were made. After the words of the mirrors that they are of.
    pub fn publish_fetches(&self, made: u64) {
        if self.fetches.load(Ordering::Relaxed) != made {
            self.fetches.store(made, Ordering::Release);
        }
    }

    /// `mirror` brought body bytes. From any thread.
    pub fn brought(&self, mirror: MirrorId, bytes: u64) {
        if let Some(line) = self.mirrors.get(usize::from(mirror.0)) {
            line.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// What was published of `mirror` last; none before the first time.
    pub fn live(&self, mirror: MirrorId) -> Option<Live> {
        let line = self.mirrors.get(usize::from(mirror.0))?;
        let word = line.breaker.load(Ordering::Relaxed);
        let reason = word >> STATE_BITS & ((1 << REASON_BITS) - 1);
        let next_try_us = word >> (STATE_BITS + REASON_BITS);
        let share = line.share.load(Ordering::Relaxed);
        let (in_flight_bytes, in_flight_fetches) = self.in_flight(mirror);
        Some(Live {
            state: *STATES.get((word as usize & ((1 << STATE_BITS) - 1)).checked_sub(1)?)?,
            reason: (reason as usize).checked_sub(1).and_then(|at| REASONS.get(at)).copied(),
            next_try: (next_try_us > 0).then(|| Time(next_try_us * 1000)),
            in_flight_bytes,
            in_flight_fetches,
            load: f64::from(f32::from_bits((share >> 32) as u32)),
            weight: f64::from(f32::from_bits(share as u32)),
            bytes_per_second: Some(f64::from_bits(line.rate.load(Ordering::Relaxed))).filter(|rate| !rate.is_nan()),
            time_to_first_byte: Some(line.first_byte.load(Ordering::Relaxed))
                .filter(|&nanos| nanos != UNKNOWN)
                .map(Duration::from_nanos),
            stalled: line.stalled.load(Ordering::Relaxed),
        })
    }

    /// Bytes that `mirror` has still to bring, and in how many fetches: of one moment.
    pub fn in_flight(&self, mirror: MirrorId) -> (u64, usize) {
        let word = self.mirrors.get(usize::from(mirror.0)).map_or(0, |line| line.flow.load(Ordering::Relaxed));
        (word >> FETCH_BITS, (word & ((1 << FETCH_BITS) - 1)) as usize)
    }

    /// Body bytes that `mirror` brought since the mount.
    pub fn fetched_bytes(&self, mirror: MirrorId) -> u64 {
        self.mirrors.get(usize::from(mirror.0)).map_or(0, |line| line.fetched_bytes.load(Ordering::Relaxed))
    }

    /// The id that the next fetch gets: one more than fetches were made. What is read of the mirrors after
    /// this has every fetch below it.
    pub fn next_fetch(&self) -> FetchId {
        FetchId(self.fetches.load(Ordering::Acquire) + 1)
    }
}

fn flow(live: &Live) -> u64 {
    let bytes = live.in_flight_bytes.min((1 << (64 - FETCH_BITS)) - 1);
    let fetches = (live.in_flight_fetches as u64).min((1 << FETCH_BITS) - 1);
    bytes << FETCH_BITS | fetches
}

fn share(live: &Live) -> u64 {
    // Seven digits are more than either is known to.
    let bits = |part: f64| u64::from((part as f32).to_bits());
    bits(live.load) << 32 | bits(live.weight)
}

fn breaker(live: &Live) -> u64 {
    let place = |at: Option<usize>| at.map_or(0, |at| at as u64 + 1);
    let state = place(STATES.iter().position(|state| *state == live.state));
    let reason = place(live.reason.and_then(|reason| REASONS.iter().position(|other| *other == reason)));
    let next_try_us = live.next_try.map_or(0, |at| (at.0 / 1000).max(1));
    next_try_us << (STATE_BITS + REASON_BITS) | reason << STATE_BITS | state
}
