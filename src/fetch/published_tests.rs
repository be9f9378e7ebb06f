//! The published state: what goes in comes out, and no reader sees half of a change, in every order that
//! two threads can take and with every value that the memory model lets them see.

use crate::chunk::{FetchId, MirrorId};
use crate::clock::Time;
use crate::scheduler::{BreakerState, Live, Reason};
use loom::sync::Arc;
use loom::thread;
use std::time::Duration;

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}

/// The same code with loom's atomics.
#[path = "published.rs"]
#[allow(dead_code, reason = "the model asks for some of it only")]
#[allow(clippy::duplicate_mod, reason = "once with the machine's atomics, once with loom's: that is the point")]
mod modelled;

const MIRROR: MirrorId = MirrorId(1);

/// What a mirror may look like after `fetches` fetches of 1,000 bytes each.
fn live(fetches: usize) -> Live {
    Live {
        state: BreakerState::Closed,
        reason: None,
        next_try: None,
        in_flight_bytes: fetches as u64 * 1000,
        in_flight_fetches: fetches,
        load: fetches as f64 / 4.0,
        weight: 1.0 - fetches as f64 / 4.0,
        bytes_per_second: Some(1e6),
        time_to_first_byte: None,
        stalled: 0,
    }
}

#[test]
fn what_is_published_is_read() {
    let published = super::published::Published::new(2);
    assert_eq!(published.live(MIRROR), None, "before the first time");
    let bad = Live {
        state: BreakerState::HalfOpen,
        reason: Some(Reason::Quarantined),
        next_try: Some(Time(5_000_000)),
        time_to_first_byte: Some(Duration::from_nanos(7)),
        bytes_per_second: None,
        stalled: 3,
        ..live(3)
    };
    for seen in [live(0), bad, live(2), Live { reason: Some(Reason::Unreachable), ..bad }] {
        published.publish(MIRROR, &seen);
        assert_eq!(published.live(MIRROR), Some(seen));
    }
    assert_eq!(published.live(MirrorId(0)), None, "another mirror");
    published.publish(MIRROR, &Live { in_flight_bytes: u64::MAX, in_flight_fetches: usize::MAX, ..live(0) });
    assert_eq!(published.in_flight(MIRROR), ((1 << 40) - 1, (1 << 24) - 1), "the most, and nothing of the other");
    published.brought(MIRROR, 5);
    published.brought(MIRROR, 6);
    published.brought(MirrorId(9), 1);
    assert_eq!((published.fetched_bytes(MIRROR), published.fetched_bytes(MirrorId(9))), (11, 0));
    published.publish_fetches(7);
    assert_eq!(published.next_fetch(), FetchId(8));
}

#[test]
fn nobody_sees_half_of_a_change() {
    loom::model(|| {
        let published = Arc::new(modelled::Published::new(2));
        published.publish(MIRROR, &live(0));
        let reads = published.clone();
        let reader = thread::spawn(move || {
            let seen = reads.live(MIRROR).expect("it was published before");
            assert_eq!(seen.in_flight_bytes, seen.in_flight_fetches as u64 * 1000, "bytes without their fetches");
            assert_eq!(seen.load + seen.weight, 1.0, "a weight without its load");
        });
        published.publish(MIRROR, &live(1));
        published.publish(MIRROR, &live(2));
        reader.join().unwrap();
    });
}

#[test]
fn who_sees_a_fetch_sees_what_is_in_flight_with_it() {
    loom::model(|| {
        let published = Arc::new(modelled::Published::new(2));
        let reads = published.clone();
        let reader = thread::spawn(move || {
            let made = reads.next_fetch().0 - 1;
            let (_, fetches) = reads.in_flight(MIRROR);
            assert!(fetches as u64 >= made, "{made} fetches were made, and {fetches} are in flight");
        });
        for made in 1..=2 {
            published.publish(MIRROR, &live(made as usize));
            published.publish_fetches(made);
        }
        reader.join().unwrap();
    });
}

#[test]
fn bytes_are_counted_once_whoever_brings_them() {
    loom::model(|| {
        let published = Arc::new(modelled::Published::new(2));
        let other = published.clone();
        let other = thread::spawn(move || other.brought(MIRROR, 5));
        published.brought(MIRROR, 6);
        other.join().unwrap();
        assert_eq!(published.fetched_bytes(MIRROR), 11);
    });
}
