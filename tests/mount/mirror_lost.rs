//! A mirror that goes away, in each way that mirrors go away, costs no reader a byte or an error.

use super::{mirrors, nginxes, urls};
use crate::support::dataset;
use crate::support::faulty::{BlackHole, Fault, FaultyMirror, Request, Rule, Tree};
use crate::support::mounted::Place;
use crate::support::netns::{self, ShapedMirror};
use crate::support::nginx::{Nginx, Setup};
use crate::support::reading::{self, big, big_with_trouble};
use crate::support::wait;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A mirror slow enough that a read of `big/a.bin` is in the middle of something when trouble comes:
/// bytes a second for each of its connections.
fn slow() -> Setup {
    Setup { bytes_per_second: 4 << 20, ..Setup::default() }
}

/// Into a read of 32 MiB, that is.
const MIDDLE: u64 = 5 << 20;

fn with_trouble_in_the_middle(trouble: impl FnOnce(&mut Nginx)) {
    let mut mirrors = nginxes(3, &slow());
    let place = Place::new();
    let mount = place.mount(&urls(&mirrors), &[]);
    big_with_trouble(&mount.path("big/a.bin"), "big/a.bin", MIDDLE, || trouble(&mut mirrors[1]));
    mount.umount();
}

#[test]
fn killed_in_the_middle() {
    with_trouble_in_the_middle(Nginx::kill9);
}

#[test]
fn paused_in_the_middle() {
    with_trouble_in_the_middle(|mirror| mirror.pause());
}

#[test]
fn paused_and_back() {
    let mirrors = nginxes(2, &slow());
    let place = Place::new();
    let mount = place.mount(&urls(&mirrors), &[]);
    big_with_trouble(&mount.path("big/a.bin"), "big/a.bin", MIDDLE, || mirrors[0].pause());
    mirrors[0].resume();
    mirrors[1].pause();
    big(&mount.path("big/b.bin"), "big/b.bin");
    mirrors[1].resume();
    mount.umount();
}

#[test]
fn all_but_one_killed_in_the_middle() {
    let mut mirrors = nginxes(3, &slow());
    let place = Place::new();
    let mount = place.mount(&urls(&mirrors), &[]);
    big_with_trouble(&mount.path("big/a.bin"), "big/a.bin", MIDDLE, || mirrors[..2].iter_mut().for_each(Nginx::kill9));
    big(&mount.path("big/b.bin"), "big/b.bin");
    mount.umount();
}

#[test]
fn dead_at_the_start() {
    let mut mirrors = nginxes(2, &Setup::default());
    let all = urls(&mirrors);
    mirrors[0].kill9();
    let place = Place::new();
    let mount = place.mount(&all, &[]);
    big(&mount.path("big/c.bin"), "big/c.bin");
    mirrors[0].restart();
    mirrors[1].kill9();
    // The one that was dead at the start is found again.
    big(&mount.path("big/d.bin"), "big/d.bin");
    mount.umount();
}

#[test]
fn silent_at_the_start() {
    let mirrors = nginxes(2, &Setup::default());
    mirrors[0].pause();
    let place = Place::new();
    let mount = place.mount(&urls(&mirrors), &[]);
    big(&mount.path("big/c.bin"), "big/c.bin");
    mirrors[0].resume();
    mount.umount();
}

#[test]
fn a_black_hole_at_the_start() {
    let (hole, mirrors, place) = (BlackHole::open(), nginxes(1, &Setup::default()), Place::new());
    let mount = place.mount(&[hole.url(), mirrors[0].url()], &[]);
    big(&mount.path("big/c.bin"), "big/c.bin");
    mount.umount();
}

#[test]
fn a_black_hole_in_the_middle() {
    if !netns::or_skip("a_black_hole_in_the_middle") {
        return;
    }
    let mirrors = [8_000_000, 8_000_000].map(|rate| ShapedMirror::start(&dataset::root(), rate));
    let place = Place::new();
    let mount = place.mount(&[mirrors[0].url(), mirrors[1].url()], &[]);
    big_with_trouble(&mount.path("big/a.bin"), "big/a.bin", MIDDLE, || mirrors[0].black_hole());
    mirrors[0].reachable_again();
    mirrors[1].black_hole();
    big(&mount.path("big/b.bin"), "big/b.bin");
    mirrors[1].reachable_again();
    mount.umount();
}

/// Two mirrors of the dataset, the first with a fault in every answer about a file.
fn beside_an_honest_one(faults: &[Fault]) {
    for fault in faults {
        let mirrors = mirrors(2, &Tree::of_folder(&dataset::root()).unwrap());
        mirrors[0].always(fault.clone());
        mirrors.iter().for_each(|mirror| mirror.always(Fault::Shape { bytes_per_second: 16 << 20 }));
        let place = Place::new();
        let mount = place.mount(&super::faulty_urls(&mirrors), &[]);
        println!("{fault:?}");
        big(&mount.path("big/d.bin"), "big/d.bin");
        mount.umount();
    }
}

#[test]
fn answers_that_break_off() {
    beside_an_honest_one(&[Fault::ResetAfter(100_000), Fault::TruncateAfter(100_000), Fault::Hangup]);
}

#[test]
fn answers_that_stall() {
    beside_an_honest_one(&[Fault::StallAfter(100_000), Fault::StallAfter(0), Fault::Silent, Fault::Trickle]);
}

#[test]
fn a_page_that_its_mirror_falls_silent_in_comes_from_the_other() {
    const AT: u64 = 32 << 20;
    const LENGTH: u64 = 64 << 10;
    let (mirrors, place) = (mirrors(2, &Tree::new().with_generated("a.bin", 1, 64 << 20)), Place::new());
    let mount = place.mount(&super::faulty_urls(&mirrors), &[]);
    let file = File::open(mount.path("a.bin")).unwrap();
    reading::generated_at(&file, 1, 0, 4096).unwrap();
    wait::until("both mirrors are compared", || mirrors.iter().all(|mirror| !mirror.data_requests().is_empty()));
    let asked = |request: &Request| request.range().is_some_and(|(from, _)| (AT..AT + LENGTH).contains(&from));
    let silent = Arc::new(AtomicBool::new(false));
    for mirror in &mirrors {
        let silent = silent.clone();
        let first = move |request: &Request| asked(request) && !silent.swap(true, Ordering::SeqCst);
        mirror.add(Rule::new(Fault::StallAfter(10_000)).when(first));
    }
    reading::generated_at(&file, 1, AT, LENGTH as usize).unwrap();
    // The second brings all of it, the page that the first is in the middle of as well.
    let ranges = mirrors.iter().flat_map(FaultyMirror::data_requests).filter(asked);
    let ranges: Vec<_> = ranges.filter_map(|request| request.range()).collect();
    assert!(silent.load(Ordering::SeqCst) && ranges.len() == 2, "{ranges:?}");
    drop(file);
    mount.umount();
}

#[test]
fn answers_that_refuse() {
    let status = |code, retry_after_s| Fault::Status { code, retry_after_s };
    beside_an_honest_one(&[
        status(403, None),
        status(404, None),
        status(429, Some(3600)),
        status(500, None),
        status(503, Some(1)),
    ]);
}

#[test]
fn late_headers() {
    beside_an_honest_one(&[Fault::Delay(std::time::Duration::from_millis(300))]);
}

#[test]
fn connections_reset_again_and_again() {
    let mirrors = mirrors(2, &Tree::of_folder(&dataset::root()).unwrap());
    mirrors.iter().for_each(|mirror| mirror.always(Fault::Shape { bytes_per_second: 8 << 20 }));
    let place = Place::new();
    let mount = place.mount(&super::faulty_urls(&mirrors), &[]);
    for at in [1 << 20, 3 << 20, 6 << 20] {
        let name = ["big/a.bin", "big/b.bin", "big/d.bin"][(at >> 21) as usize % 3];
        big_with_trouble(&mount.path(name), name, at, || mirrors.iter().for_each(FaultyMirror::reset_connections));
    }
    mount.umount();
}

#[test]
fn a_mirror_that_closes_at_accept() {
    let mirrors = mirrors(2, &Tree::of_folder(&dataset::root()).unwrap());
    mirrors[0].close_at_accept();
    let place = Place::new();
    let mount = place.mount(&super::faulty_urls(&mirrors), &[]);
    big(&mount.path("big/d.bin"), "big/d.bin");
    mount.umount();
}
