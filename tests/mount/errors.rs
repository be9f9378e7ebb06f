//! Which errno a reader gets when nobody brings the bytes: a row of the README's table each.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Fault, FaultyMirror, Tree};
use crate::support::mounted::Place;
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

const SIZE: u64 = 5_000_000;
/// A `--read-timeout` that tests can wait for.
const SHORT: &str = "2s";
/// One that is not over before it is known that nobody is there.
const LONG: &str = "20s";

/// All mirrors have `trouble`, made once the names are known: what does a read of what is not cached end with?
fn reads_end_with(errno: Errno, timeout: &str, trouble: impl Fn(&mut FaultyMirror)) {
    let (mut mirrors, place) = (mirrors(2, &Tree::new().with_generated("data.bin", 1, SIZE)), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--read-timeout", timeout]);
    assert_eq!(fs::metadata(mount.path("data.bin")).unwrap().len(), SIZE);
    mirrors.iter_mut().for_each(trouble);
    let read = File::open(mount.path("data.bin")).and_then(|file| file.read_at(&mut [0; 4096], SIZE / 2));
    let error = read.expect_err("nobody brings it");
    assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()), "{error}");
    // Names and sizes go on, and it ends in order.
    assert_eq!(fs::metadata(mount.path("data.bin")).unwrap().len(), SIZE);
    mirrors.iter_mut().for_each(|mirror| {
        mirror.honest();
        mirror.thaw();
    });
    mount.umount();
}

fn status(code: u16) -> Fault {
    Fault::Status { code, retry_after_s: None }
}

#[test]
fn every_mirror_lies() {
    for lie in [Fault::HtmlPage { status: 200 }, Fault::Gzip, Fault::ContentRange { start: 4096, end: 4096, total: 0 }]
    {
        println!("{lie:?}");
        reads_end_with(Errno::IO, SHORT, |mirror| mirror.always(lie.clone()));
    }
}

#[test]
fn every_mirror_refuses() {
    reads_end_with(Errno::ACCESS, SHORT, |mirror| mirror.always(status(403)));
    reads_end_with(Errno::ACCESS, SHORT, |mirror| mirror.always(status(401)));
}

#[test]
fn all_mirrors_are_unreachable() {
    reads_end_with(Errno::HOSTUNREACH, LONG, FaultyMirror::down);
}

#[test]
fn all_mirrors_answer_only_with_errors() {
    use crate::support::faulty::Rule;
    reads_end_with(Errno::HOSTUNREACH, LONG, |mirror| mirror.add(Rule::everywhere(status(500))));
}

#[test]
fn all_mirrors_are_silent() {
    reads_end_with(Errno::TIMEDOUT, SHORT, |mirror| mirror.freeze());
}

#[test]
fn the_bytes_never_come() {
    reads_end_with(Errno::IO, SHORT, |mirror| mirror.always(Fault::StallAfter(100)));
}
