//! Storms of events in any order, nonsense included: nothing panics, and the invariants hold.

use braidfs::chunk::{Class, FetchId, Inode, MirrorId, MirrorSet, Pages, ReaderId};
use braidfs::clock::Time;
use braidfs::scheduler::{Action, Event, Failure, FileRule, Scheduler, Settings};
use proptest::prelude::*;
use std::time::Duration;

fn file() -> impl Strategy<Value = Inode> {
    (1u64..4).prop_map(Inode)
}

fn pages() -> impl Strategy<Value = Pages> {
    prop_oneof![
        (0u64..2000, 0u64..64).prop_map(|(start, count)| Pages::new(start, start + count)),
        (0u64..2000, 0u64..3000).prop_map(|(start, count)| Pages::new(start, start + count)),
    ]
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![3 => Just(Class::Demand), 1 => Just(Class::Readahead), 1 => Just(Class::Prefetch)]
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        3 => Just(Failure::Unreachable),
        1 => Just(Failure::Throttled { retry_after: None }),
        1 => Just(Failure::Throttled { retry_after: Some(Duration::from_millis(300)) }),
        1 => Just(Failure::Missing),
        1 => Just(Failure::Changed),
        1 => Just(Failure::Corrupt),
        1 => Just(Failure::Refused),
        1 => Just(Failure::NoRanges),
        1 => Just(Failure::Cancelled),
    ]
}

fn fetch() -> impl Strategy<Value = FetchId> {
    (0u64..60).prop_map(FetchId)
}

fn mirror() -> impl Strategy<Value = MirrorId> {
    (0u16..5).prop_map(MirrorId)
}

fn event() -> impl Strategy<Value = Event> {
    let opened = (file(), prop_oneof![Just(5_000_000u64), Just(300), Just(0)], 0usize..5, pages());
    let wanted = (file(), pages(), class(), 0u64..6, 0u64..5000);
    let result = prop_oneof![(1u64..500).prop_map(|ms| Ok(Duration::from_millis(ms))), failure().prop_map(Err)];
    prop_oneof![
        2 => opened.prop_map(|(file, size_bytes, mirrors, held)| Event::Opened {
            file, size_bytes, mirrors: MirrorSet::first(mirrors), held: vec![held], rule: FileRule::default(),
        }),
        1 => (file(), 0usize..5, any::<bool>()).prop_map(|(file, mirrors, awaited)| Event::Served {
            file, mirrors: MirrorSet::first(mirrors), awaited,
        }),
        1 => file().prop_map(|file| Event::Forgotten { file }),
        6 => wanted.prop_map(|(file, pages, class, reader, ms)| Event::Wanted {
            file, pages, class, reader: ReaderId(reader), deadline: Time(ms * 1_000_000),
        }),
        3 => (0u64..6, file(), 0u64..1500, 0u64..900).prop_map(|(reader, file, position, length_pages)| Event::Streak {
            reader: ReaderId(reader), file, position, length_pages,
        }),
        1 => (0u64..6).prop_map(|reader| Event::Closed { reader: ReaderId(reader) }),
        2 => fetch().prop_map(|fetch| Event::Connected { fetch }),
        2 => fetch().prop_map(|fetch| Event::FirstByte { fetch }),
        3 => (fetch(), 0u64..10_000_000).prop_map(|(fetch, total_bytes)| Event::Progress { fetch, total_bytes }),
        6 => (fetch(), pages()).prop_map(|(fetch, pages)| Event::Arrived { fetch, pages }),
        2 => fetch().prop_map(|fetch| Event::Finished { fetch }),
        3 => (fetch(), failure()).prop_map(|(fetch, failure)| Event::Failed { fetch, failure }),
        2 => (file(), pages()).prop_map(|(file, pages)| Event::Dropped { file, pages }),
        2 => (mirror(), result.clone()).prop_map(|(mirror, result)| Event::ProbeDone { mirror, result }),
        1 => (mirror(), result).prop_map(|(mirror, result)| Event::MirrorSeen { mirror, result }),
        2 => (0u64..20_000_000).prop_map(|background_bytes| Event::BudgetChanged { background_bytes }),
        2 => Just(Event::Tick),
    ]
}

/// Every action that one call leads to; more than a bound would be a loop.
fn drain(scheduler: &mut Scheduler, now: Time) -> Vec<Action> {
    let mut actions = Vec::new();
    while let Some(action) = scheduler.poll_action(now) {
        actions.push(action);
        assert!(actions.len() < 5000, "no end of actions");
    }
    actions
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_storm_breaks_nothing(steps in prop::collection::vec((event(), 0u64..120), 1..150), seed in 0u64..100) {
        let mut now = Time(0);
        let mut scheduler = Scheduler::new(Settings::default(), 3, seed, now);
        let mut twin = Scheduler::new(Settings::default(), 3, seed, now);
        for (event, wait_ms) in steps {
            now = now + Duration::from_millis(wait_ms);
            scheduler.handle(now, event.clone());
            twin.handle(now, event.clone());
            prop_assert_eq!(scheduler.broken_invariant(), None, "after handling {:?}", event);
            let actions = drain(&mut scheduler, now);
            prop_assert_eq!(&actions, &drain(&mut twin, now));
            prop_assert_eq!(scheduler.broken_invariant(), None, "after acting on {:?}: {:?}", event, actions);
            let due = scheduler.poll_timeout();
            prop_assert!(due.is_none_or(|due| due > now), "due {:?} at {:?}: it would spin", due, now);
        }
        // When all who wanted have given up and all fetches ended, nothing is left.
        for reader in 0..6 {
            scheduler.handle(now, Event::Closed { reader: ReaderId(reader) });
        }
        for _ in 0..400 {
            drain(&mut scheduler, now);
            for fetch in 0..400 {
                scheduler.handle(now, Event::Failed { fetch: FetchId(fetch), failure: Failure::Cancelled });
            }
            now = now + Duration::from_millis(100);
        }
        prop_assert_eq!(scheduler.broken_invariant(), None);
        let seen = scheduler.snapshot(now);
        prop_assert_eq!((seen.wants, seen.in_flight_bytes, seen.queued_bytes), (0, 0, [0; 3]));
    }
}
