//! Readers that wait for a mirror do not hold up the others.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Fault, FaultyMirror, Rule, Tree};
use crate::support::mounted::Place;
use crate::support::{reading, wait};
use std::fs::File;

const SIZE: u64 = 64 << 20;
const STREAM: u64 = 12 << 20;

#[test]
fn sixty_four_stalled_reads_leave_another_file_alone() {
    let tree = Tree::new().with_generated("stalled.bin", 1, SIZE).with_generated("stream.bin", 2, STREAM);
    let (mirrors, place) = (mirrors(2, &tree), Place::new());
    mirrors.iter().for_each(|mirror| mirror.add(Rule::new(Fault::Silent).under("stalled")));
    let mount = place.mount(&faulty_urls(&mirrors), &["--read-timeout", "60s"]);
    let stalled = mount.path("stalled.bin");
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..64_u64)
            .map(|reader| {
                let stalled = &stalled;
                scope.spawn(move || reading::generated_at(&File::open(stalled)?, 1, reader << 20, 4096))
            })
            .collect();
        wait::until("the stalled file is asked for", || {
            mirrors.iter().any(|mirror| mirror.requests().iter().any(|request| request.path == b"stalled.bin"))
        });
        reading::generated(&mount.path("stream.bin"), 2, STREAM);
        std::fs::metadata(&stalled).expect("attributes need no network");
        assert!(readers.iter().any(|reader| !reader.is_finished()), "they were to be stalled meanwhile");
        mirrors.iter().for_each(FaultyMirror::honest);
        for reader in readers {
            reader.join().unwrap().expect("the read goes on once the mirrors do");
        }
    });
    mount.umount();
}

#[test]
fn a_read_that_nobody_answers_ends_at_its_deadline() {
    let (mirrors, place) = (mirrors(2, &Tree::new().with_generated("a.bin", 1, SIZE)), Place::new());
    mirrors.iter().for_each(|mirror| mirror.always(Fault::Silent));
    let mount = place.mount(&faulty_urls(&mirrors), &["--read-timeout", "2s"]);
    let read = File::open(mount.path("a.bin")).and_then(|file| reading::generated_at(&file, 1, 0, 4096));
    let errno = read.expect_err("nobody answers").raw_os_error();
    let wanted = [rustix::io::Errno::IO, rustix::io::Errno::TIMEDOUT].map(|errno| Some(errno.raw_os_error()));
    assert!(wanted.contains(&errno), "{errno:?}");
    rustix::fs::statvfs(place.mountpoint()).expect("df works meanwhile");
    mount.umount();
}

#[test]
fn many_small_files_by_many_readers() {
    let mut tree = Tree::new();
    for number in 0..600_u64 {
        tree = tree.with_generated(format!("small/{number}"), number, 100 + number * 37);
    }
    let (mirrors, place) = (mirrors(2, &tree), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    std::thread::scope(|scope| {
        for reader in 0..12_u64 {
            let mount = &mount;
            scope.spawn(move || {
                for number in (reader..600).step_by(12) {
                    reading::generated(&mount.path(format!("small/{number}")), number, 100 + number * 37);
                }
            });
        }
    });
    mount.umount();
}
