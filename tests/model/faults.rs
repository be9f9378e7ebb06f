//! What goes wrong with a mirror: all that the faulty mirror can do, but for wrong bytes under right headers.
//!
//! Those are another promise (spec 7.2), and have tests of their own. No validators at all, and redirects to another mirror, are
//! faults only of the file whose versions differ in size: a mirror's index says nothing of the dates of the host that it
//! redirects to, so nothing tells two versions of one size apart when it answers for the first time.

use super::remote::{Remote, STEADY};
use crate::support::faulty::{Fault, Request, Rule};
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

/// A file of which each version has another size.
const SIZED: &str = "folder/sized.bin";

/// Something goes wrong with a mirror. Returns what, in words.
pub fn strike(remote: &mut Remote, random: &mut StdRng) -> String {
    let mirror = random.random_range(0..remote.mirrors.len());
    match mirror {
        STEADY => passing(remote, random),
        _ if random.random_bool(0.1) => of_the_whole_mirror(remote, mirror, random),
        _ if random.random_bool(0.25) => of_index_pages_too(remote, mirror, random),
        _ => of_files(remote, mirror, random),
    }
}

/// What the steady mirror may do: nothing that it does not get over by itself long before a read's deadline, and
/// one thing at a time.
fn passing(remote: &mut Remote, random: &mut StdRng) -> String {
    remote.mirrors[STEADY].honest();
    let fault = match random.random_range(0..6) {
        0 => {
            remote.mirrors[STEADY].reset_connections();
            return "mirror 0: connections reset".to_owned();
        }
        1 => Fault::Delay(Duration::from_millis(random.random_range(1..60))),
        2 => Fault::Shape { bytes_per_second: random.random_range(4..32) << 20 },
        3 => Fault::ResetAfter(random.random_range(0..200_000)),
        4 => Fault::TruncateAfter(random.random_range(0..200_000)),
        _ => Fault::Hangup,
    };
    let what = format!("mirror 0: {fault:?}, twice");
    // Questions for a name are asked of all mirrors, once more after a hang-up: what strikes them is no passing trouble.
    remote.add(STEADY, Rule::new(fault).times(2).when(of_bytes));
    what
}

/// Not a question for a name, its size and date.
fn of_bytes(request: &Request) -> bool {
    request.range().is_some_and(|(_, last)| last != Some(0))
}

fn of_the_whole_mirror(remote: &mut Remote, mirror: usize, random: &mut StdRng) -> String {
    remote.tells(mirror, false);
    match random.random_range(0..3) {
        0 => {
            remote.mirrors[mirror].freeze();
            format!("mirror {mirror}: frozen")
        }
        1 => {
            remote.mirrors[mirror].close_at_accept();
            format!("mirror {mirror}: closes at accept")
        }
        _ => {
            remote.mirrors[mirror].down();
            format!("mirror {mirror}: down")
        }
    }
}

fn of_index_pages_too(remote: &mut Remote, mirror: usize, random: &mut StdRng) -> String {
    let status = |code| Fault::Status { code, retry_after_s: None };
    let fault = match random.random_range(0..9) {
        0 => Fault::Delay(Duration::from_millis(random.random_range(50..700))),
        1 => {
            remote.tells(mirror, false);
            remote.add(mirror, Rule::everywhere(Fault::Silent).times(1));
            return format!("mirror {mirror}: silent everywhere, once");
        }
        2 => Fault::Hangup,
        3 => status(500),
        4 => status(403),
        5 => status(404),
        6 => Fault::HtmlPage { status: 200 },
        7 => Fault::TruncateAfter(100),
        _ => Fault::Page("<html><body>Under construction</body></html>".to_owned()),
    };
    remote.tells(mirror, false);
    let times = random.random_range(1..6);
    let what = format!("mirror {mirror}: {fault:?} everywhere, {times} times");
    remote.add(mirror, Rule::everywhere(fault).times(times));
    what
}

fn of_files(remote: &mut Remote, mirror: usize, random: &mut StdRng) -> String {
    let status = |code, retry_after_s| Fault::Status { code, retry_after_s };
    let body = random.random_range(0..300_000);
    let other = (mirror + random.random_range(1..remote.mirrors.len())) % remote.mirrors.len();
    let fault = match random.random_range(0..29) {
        0 => Fault::Delay(Duration::from_millis(random.random_range(10..900))),
        1 => Fault::Shape { bytes_per_second: random.random_range(1..8) << 18 },
        2 => Fault::Trickle,
        3 => Fault::StallAfter(body),
        4 => Fault::ResetAfter(body),
        5 => Fault::TruncateAfter(body),
        6 => Fault::Silent,
        7 => Fault::Hangup,
        8 => Fault::ContentRange { start: 4096, end: 4096, total: 0 },
        9 => Fault::ContentRange { start: 0, end: -1, total: 0 },
        10 => Fault::ContentRange { start: 0, end: 0, total: 1 },
        11 | 12 => Fault::WholeForRange,
        13 | 14 => Fault::NoRanges,
        15 => Fault::Gzip,
        16 => Fault::HtmlPage { status: 200 },
        17 => Fault::HtmlPage { status: 206 },
        // For the program that is another version there. Where two of three mirrors say so, it is the one that is shown, and
        // the steady mirror has not got it.
        18 if mirror + 1 == remote.mirrors.len() => Fault::FlipEtag,
        19 => Fault::ContentLength(10),
        20 => Fault::ContentLength(-10),
        21 => Fault::Multipart,
        22 => status(416, None),
        23 => status(204, None),
        24 => status(429, Some(1)),
        25 => status(404, None),
        26 => status(403, None),
        27 => Fault::Redirect { base: remote.mirrors[other].url(), query: "signed=1".to_owned() },
        _ => Fault::NoValidators,
    };
    // One that only costs time strikes seldom, or the steps would only wait.
    let hangs = matches!(fault, Fault::Trickle | Fault::StallAfter(_) | Fault::Silent);
    let times = if hangs { random.random_range(1..3) } else { random.random_range(1..8) };
    let mut what = format!("mirror {mirror}: {fault:?}, {times} times");
    let mut rule = Rule::new(fault.clone()).times(times);
    if matches!(fault, Fault::ContentRange { total: 1, .. } | Fault::ContentLength(_)) {
        // Where nobody else has the file, what its only mirror answers to the question for its size is its size.
        rule = rule.when(of_bytes);
    }
    if matches!(fault, Fault::NoValidators | Fault::Redirect { .. }) {
        what += " for the file whose sizes differ";
        rule = rule.under(SIZED);
    }
    remote.add(mirror, rule);
    what
}
