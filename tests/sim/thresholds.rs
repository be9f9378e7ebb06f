//! The numbers by which a mirror is judged: just below each nothing happens, just above it what it is there for does.

use super::desk::{Desk, FILE};
use braidfs::chunk::{Class, FetchId, Inode, MirrorId, PAGE_BYTES, Pages, ReaderId};
use braidfs::scheduler::{Action, BreakerState, Event, Failure, Hopeless, Settings};
use std::collections::BTreeMap;
use std::time::Duration;

/// Running fetches are looked at so often.
const TICK_MS: u64 = 25;

fn without_hedging() -> Settings {
    Settings { hedging: false, ..Settings::default() }
}

fn is_within_a_tick(ms: u64, wanted_ms: u64) -> bool {
    (wanted_ms..=wanted_ms + TICK_MS + 1).contains(&ms)
}

/// Prefetches until one mirror has two: one of those, and all others.
fn two_of_one(desk: &mut Desk) -> (FetchId, Vec<FetchId>) {
    let mut begun: BTreeMap<MirrorId, Vec<FetchId>> = BTreeMap::new();
    for at in 0..8 {
        for (fetch, mirror) in desk.starts(Class::Prefetch, Pages::new(at * 2048, at * 2048 + 2048)) {
            begun.entry(mirror).or_default().push(fetch);
        }
        if let Some(two) = begun.values_mut().find(|begun| begun.len() >= 2) {
            let one = two.remove(0);
            return (one, begun.into_values().flatten().collect());
        }
    }
    panic!("none has got two: {begun:?}");
}

#[test]
fn a_body_has_stalled_after_250_ms_of_silence_and_three_times_that_beside_others_of_its_mirror() {
    let mut desk = Desk::of_two(without_hedging(), 10);
    let (fetch, _) = desk.want(Class::Prefetch, Pages::new(0, 256));
    desk.answers(fetch);
    desk.tell(Event::Progress { fetch, total_bytes: 1000 });
    let ms = desk.given_up_after_ms(fetch);
    assert!(is_within_a_tick(ms, 250), "{ms}");

    let mut desk = Desk::of_two(without_hedging(), 10);
    desk.learn_rate();
    let (silent, others) = two_of_one(&mut desk);
    let mut total_bytes = 0;
    let mut go_on = |desk: &mut Desk| {
        total_bytes += 1000;
        others.iter().for_each(|&fetch| desk.tell(Event::Progress { fetch, total_bytes }));
    };
    for &fetch in others.iter().chain([&silent]) {
        desk.tell(Event::Connected { fetch });
        desk.tell(Event::FirstByte { fetch });
    }
    desk.tell(Event::Progress { fetch: silent, total_bytes: 1000 });
    let ms = (1..2000).find(|_| {
        go_on(&mut desk);
        desk.pass();
        desk.decided().iter().any(|action| matches!(action, Action::Cancel { fetch, .. } if *fetch == silent))
    });
    assert!(ms.is_some_and(|ms| is_within_a_tick(ms, 750)), "{ms:?}");
}

#[test]
fn a_first_byte_is_given_up_after_four_times_the_usual_but_not_before_300_ms_and_of_the_unknown_after_500() {
    for (latency_ms, late_ms) in [(10, 300), (70, 300), (80, 320), (200, 800)] {
        let mut desk = Desk::of_two(without_hedging(), latency_ms);
        let (fetch, _) = desk.want(Class::Prefetch, Pages::new(0, 256));
        desk.tell(Event::Connected { fetch });
        let ms = desk.given_up_after_ms(fetch);
        assert!(is_within_a_tick(ms, late_ms), "usual {latency_ms} ms: {ms}");
    }
    let mut desk = Desk::new(without_hedging(), 2);
    let (fetch, _) = desk.want(Class::Prefetch, Pages::new(0, 256));
    desk.tell(Event::Connected { fetch });
    let ms = desk.given_up_after_ms(fetch);
    assert!(is_within_a_tick(ms, 500), "unknown: {ms}");
}

/// 200 pages of demand of which bytes come, a few at a time or none, until they are taken from their mirror; what is
/// decided then.
fn late(trickle_bytes: u64) -> Vec<Action> {
    let mut desk = Desk::of_two(without_hedging(), 10);
    desk.learn_rate();
    let (late, _) = desk.want(Class::Demand, Pages::new(0, 200));
    desk.answers(late);
    desk.tell(Event::Progress { fetch: late, total_bytes: 1000 });
    for total_bytes in (1..500).map(|ms| 1000 + ms * trickle_bytes) {
        desk.pass();
        desk.tell(Event::Progress { fetch: late, total_bytes });
        let decided = desk.decided();
        if decided.iter().any(|action| matches!(action, Action::Cancel { fetch, .. } if *fetch == late)) {
            return decided;
        }
    }
    panic!("it is never late");
}

#[test]
fn what_was_late_once_is_asked_of_several_in_pieces_of_256_kib() {
    let start = |action| if let Action::Start { pages, mirror, .. } = action { Some((pages, mirror)) } else { None };
    let pieces: Vec<_> = late(100).into_iter().filter_map(start).collect();
    // Neighbours that go to one mirror are one fetch.
    let pages: Vec<_> = pieces.iter().map(|&(pages, _)| pages).collect();
    assert_eq!(pages, [(0, 128), (128, 192), (192, 200)].map(|(from, to)| Pages::new(from, to)));
    assert_ne!(pieces[0].1, pieces[1].1);
}

#[test]
fn a_mirror_from_which_the_last_body_is_taken_in_silence_is_probed_at_once() {
    let probed = |decided: Vec<Action>| decided.iter().any(|action| matches!(action, Action::Probe { .. }));
    assert!(!probed(late(100)), "it talks");
    assert!(probed(late(0)), "nothing else would show that it is gone");
}

#[test]
fn where_nobody_else_could_help_silence_is_borne_for_5_s() {
    let mut desk = Desk::new(without_hedging(), 1);
    desk.learn(1, 10);
    let (fetch, _) = desk.want(Class::Demand, Pages::new(0, 256));
    desk.answers(fetch);
    desk.tell(Event::Progress { fetch, total_bytes: 1000 });
    let ms = desk.given_up_after_ms(fetch);
    assert!(is_within_a_tick(ms, 5000), "{ms}");
}

#[test]
fn what_a_reader_has_come_up_to_in_a_large_fetch_is_hedged_after_100_ms_of_its_mirrors_silence() {
    // It would be moved as late a moment before.
    let settings = Settings { late_slack: Duration::from_secs(1), ..Settings::default() };
    let mut desk = Desk::of_two(settings, 10);
    desk.learn_rate();
    let (fetch, _) = desk.want(Class::Prefetch, Pages::new(0, 2048));
    desk.answers(fetch);
    desk.tell(Event::Progress { fetch, total_bytes: 1000 });
    assert!(desk.starts(Class::Demand, Pages::new(0, 16)).is_empty(), "it is on its way");
    let ms = desk.hedged_after_ms();
    assert!((100..=102).contains(&ms), "{ms}");
}

#[test]
fn a_mirror_that_has_not_got_a_file_is_not_asked_for_it_for_a_minute() {
    for (ms, is_asked) in [(59_990, false), (60_010, true)] {
        let mut desk = Desk::new(without_hedging(), 1);
        desk.learn(1, 10);
        let (fetch, _) = desk.want(Class::Demand, Pages::new(0, 16));
        desk.tell(Event::Failed { fetch, failure: Failure::Missing });
        assert!(desk.decided().iter().any(|it| matches!(it, Action::Fail { why: Hopeless::Missing, .. })));
        desk.now = desk.now + Duration::from_millis(ms);
        desk.tell(Event::Tick);
        assert_eq!(!desk.starts(Class::Demand, Pages::new(0, 16)).is_empty(), is_asked, "after {ms} ms");
    }
}

#[test]
fn wrong_bytes_in_a_third_file_are_no_accident_of_one_file() {
    let mut desk = Desk::of_two(Settings::default(), 10);
    let mut state = |files: u64| {
        for file in (1..=files).map(Inode) {
            desk.open(file, 2);
            desk.tell(Event::Blamed { mirror: MirrorId(0), file });
        }
        desk.scheduler.snapshot(desk.now).mirrors[0].state
    };
    assert_eq!([state(2), state(3)], [BreakerState::Closed, BreakerState::Open]);
}

#[test]
fn we_are_offline_3_s_after_no_mirror_may_be_asked_any_more() {
    let mut desk = Desk::of_two(without_hedging(), 10);
    let mut down_for_ms = None;
    let mut begun = desk.starts(Class::Demand, Pages::new(0, 16));
    let offline = loop {
        for (fetch, _) in begun.drain(..) {
            desk.tell(Event::Failed { fetch, failure: Failure::Unreachable });
        }
        for action in desk.decided() {
            match action {
                Action::Start { fetch, mirror, .. } => begun.push((fetch, mirror)),
                Action::Probe { mirror } => {
                    desk.tell(Event::ProbeDone { mirror, result: Err(Failure::Unreachable) });
                }
                _ => {}
            }
        }
        let seen = desk.scheduler.snapshot(desk.now);
        if seen.offline_since.is_some() {
            break down_for_ms;
        }
        if seen.mirrors.iter().all(|mirror| mirror.state != BreakerState::Closed) {
            *down_for_ms.get_or_insert(0) += 1;
        }
        desk.pass();
    };
    assert!(offline.is_some_and(|ms| (3000..=3002).contains(&ms)), "{offline:?}");
    assert!(desk.starts(Class::Demand, Pages::new(0, 16)).is_empty());
}

/// All windows together give each mirror 32 MiB to bring, where that is less than a second of them.
#[test]
fn windows_on_fast_mirrors_are_short_and_shared() {
    let mut desk = Desk::of_two(Settings { pool_bytes: 1 << 30, ..Settings::default() }, 1);
    desk.learn_rate();
    let mib = |pages: u64| (pages * PAGE_BYTES) >> 20;
    for readers in 1..=4 {
        // Marks are set at a quarter of the window.
        let (reader, position) = (ReaderId(10 + readers), 20_000 * readers);
        desk.decided();
        desk.tell(Event::Streak { reader, file: FILE, position, length_pages: 50_000 });
        let mark = desk.decided().iter().find_map(|action| match *action {
            Action::Mark { reader: of, page, .. } if of == reader => Some(page),
            _ => None,
        });
        let window_mib = mib(4 * (mark.expect("the window ends before the file") - position));
        let wanted_mib = 64 / readers;
        assert!(
            (wanted_mib..=wanted_mib + wanted_mib / 16).contains(&window_mib),
            "{readers} readers: {window_mib} MiB"
        );
    }
}
