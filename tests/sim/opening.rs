//! What is told of a file when it is opened, in whatever order it comes.

use braidfs::chunk::{Class, Inode, MirrorId, MirrorSet, PAGE_BYTES, Pages, ReaderId};
use braidfs::clock::Time;
use braidfs::scheduler::{Action, Event, Failure, FileRule, Scheduler, Settings};
use std::time::Duration;

const FILE: Inode = Inode(1);
const PAGES: u64 = 4096;

fn opened(held: Vec<Pages>) -> Event {
    let (size_bytes, mirrors) = (PAGES * PAGE_BYTES, MirrorSet::first(2));
    Event::Opened { file: FILE, size_bytes, mirrors, held, rule: FileRule::default() }
}

/// The pages that are asked for when all of the file is wanted after these events.
fn asked_for(events: Vec<Event>) -> Vec<Pages> {
    let now = Time(1_000_000_000);
    let mut scheduler = Scheduler::new(Settings::default(), 2, 1, now);
    events.into_iter().for_each(|event| scheduler.handle(now, event));
    let pages = Pages::new(0, PAGES);
    let deadline = now + Duration::from_secs(30);
    scheduler.handle(now, Event::Wanted { file: FILE, pages, class: Class::Demand, reader: ReaderId(1), deadline });
    let mut asked = Vec::new();
    while let Some(action) = scheduler.poll_action(now) {
        if let Action::Start { pages, .. } = action {
            asked.push(pages);
        }
    }
    asked
}

#[test]
fn what_is_held_is_not_asked_for_though_a_listing_was_heard_first() {
    let served = || Event::Served { file: FILE, mirrors: MirrorSet::first(1), awaited: false };
    let held = Pages::new(0, PAGES - 16);
    let missing = |asked: &[Pages]| !asked.is_empty() && asked.iter().all(|pages| pages.start >= held.end);
    // What an earlier mount held was compared by it: else nobody is asked before one was.
    let agreed = || Event::Agreed { file: FILE, mirrors: MirrorSet::first(2), confirmed: true };
    for events in [
        vec![opened(vec![held]), agreed()],
        vec![served(), opened(vec![held]), agreed()],
        vec![opened(vec![held]), agreed(), served()],
    ] {
        let asked = asked_for(events.clone());
        assert!(missing(&asked), "{events:?}: {asked:?}");
    }
}

/// A read that was on its way when its file was closed ends with the file, in whatever order its last fetch does.
#[test]
fn what_is_wanted_of_a_closed_file_goes_with_it() {
    let now = Time(1_000_000_000);
    let mut scheduler = Scheduler::new(Settings::default(), 2, 1, now);
    let wanted = |start| {
        let (pages, deadline) = (Pages::new(start, start + 16), now + Duration::from_secs(30));
        Event::Wanted { file: FILE, pages, class: Class::Demand, reader: ReaderId(1), deadline }
    };
    let mut started = Vec::new();
    for event in [opened(Vec::new()), wanted(0), Event::Forgotten { file: FILE }, wanted(64)] {
        scheduler.handle(now, event);
        while let Some(action) = scheduler.poll_action(now) {
            started.extend(if let Action::Start { fetch, .. } = action { Some(fetch) } else { None });
        }
    }
    for fetch in started {
        scheduler.handle(now, Event::Failed { fetch, failure: Failure::Unreachable });
        assert_eq!(scheduler.broken_invariant(), None);
    }
}

/// Wrong bytes are found when all of a file has come, and by then it may be closed.
#[test]
fn who_sent_wrong_bytes_of_a_file_is_not_asked_for_it_though_it_is_opened_again() {
    let now = Time(1_000_000_000);
    for closed in [false, true] {
        let mut scheduler = Scheduler::new(Settings::default(), 2, 1, now);
        let wanted = |start| {
            let (pages, deadline) = (Pages::new(start, start + 16), now + Duration::from_secs(30));
            Event::Wanted { file: FILE, pages, class: Class::Demand, reader: ReaderId(1), deadline }
        };
        scheduler.handle(now, opened(Vec::new()));
        scheduler.handle(now, Event::Blamed { mirror: MirrorId(0), file: FILE });
        if closed {
            scheduler.handle(now, Event::Forgotten { file: FILE });
            scheduler.handle(now, opened(Vec::new()));
        }
        let mut asked = Vec::new();
        for at in 0..8 {
            scheduler.handle(now, wanted(256 * at));
            while let Some(action) = scheduler.poll_action(now) {
                asked.extend(if let Action::Start { mirror, .. } = action { Some(mirror.0) } else { None });
            }
        }
        assert!(!asked.is_empty() && asked.iter().all(|&mirror| mirror == 1), "closed: {closed}, asked: {asked:?}");
    }
}

#[test]
fn a_listing_alone_opens_nothing() {
    assert_eq!(asked_for(vec![Event::Served { file: FILE, mirrors: MirrorSet::first(2), awaited: true }]), []);
}
