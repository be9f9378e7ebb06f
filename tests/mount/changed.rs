//! What a reader sees when a remote file changes: an open handle is pinned to the version that it opened.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Content, Fault, FaultyMirror, Rule, Tree, generate};
use crate::support::mounted::{Mount, Place};
use crate::support::{reading, wait};
use braidfs::clock;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Far more than is read ahead of one page.
const SIZE: u64 = 256 << 20;
const FAR: u64 = 200 << 20;
const OLD: u64 = 1;
const NEW: u64 = 2;
/// Names and sizes are looked at anew soon, so that a test need not wait a minute.
const SHORT_LIVED: [&str; 2] = ["--entry-lifetime", "1s"];

fn tree() -> Tree {
    Tree::new().with_generated("data.bin", OLD, SIZE)
}

fn change(mirror: &FaultyMirror) {
    mirror.put("data.bin", Content::Generated { seed: NEW, size_bytes: SIZE + 1 });
}

fn is_stale(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::STALE.raw_os_error())
}

fn wait_for_the_new_version(mount: &Mount) {
    wait::until("the new size", || fs::metadata(mount.path("data.bin")).is_ok_and(|about| about.len() == SIZE + 1));
}

#[test]
fn without_the_old_version_anywhere_an_open_handle_gets_estale_and_the_next_open_the_new_one() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &SHORT_LIVED);
    let old = File::open(mount.path("data.bin")).unwrap();
    reading::generated_at(&old, OLD, 0, 4096).unwrap();
    mirrors.iter().for_each(change);
    let error = old.read_at(&mut [0; 4096], FAR).expect_err("nobody has those bytes any more");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::STALE.raw_os_error()), "{error}");
    // What it has read it keeps.
    reading::generated_at(&old, OLD, 0, 4096).unwrap();
    wait_for_the_new_version(&mount);
    let new = File::open(mount.path("data.bin")).unwrap();
    reading::generated_at(&new, NEW, FAR, 4096).unwrap();
    reading::generated_at(&new, NEW, 0, 4096).unwrap();
    drop((old, new));
    mount.umount();
}

#[test]
fn a_mirror_that_still_has_the_old_version_serves_the_open_handle() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let old = File::open(mount.path("data.bin")).unwrap();
    reading::generated_at(&old, OLD, 0, 4096).unwrap();
    change(&mirrors[0]);
    for offset in [FAR, FAR / 2, FAR / 4] {
        reading::generated_at(&old, OLD, offset, 1 << 20).unwrap();
    }
    drop(old);
    mount.umount();
}

#[test]
fn a_stream_never_mixes_two_versions() {
    const SHORT: u64 = 24 << 20;
    let (mirrors, place) = (mirrors(2, &Tree::new().with_generated("data.bin", OLD, SHORT)), Place::new());
    mirrors.iter().for_each(|mirror| mirror.always(Fault::Shape { bytes_per_second: 8 << 20 }));
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let file = File::open(mount.path("data.bin")).unwrap();
    let (mut got, mut wanted) = (vec![0; 65_536], vec![0; 65_536]);
    for offset in (0..SHORT).step_by(65_536) {
        if offset == 4 << 20 {
            // The same size, other bytes, a newer date.
            let replaced = || Content::Generated { seed: NEW, size_bytes: SHORT };
            mirrors.iter().for_each(|mirror| mirror.put("data.bin", replaced()));
        }
        match file.read_exact_at(&mut got, offset) {
            Ok(()) => {
                generate(OLD, offset, &mut wanted);
                assert!(got == wanted, "bytes of another version at {offset}");
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::STALE.raw_os_error()), "{error}");
                break;
            }
        }
    }
    drop(file);
    mount.umount();
}

#[test]
fn a_file_that_is_removed_is_gone_for_the_next_open() {
    let tree = tree().with("other", *b"other");
    let (mirrors, place) = (mirrors(2, &tree), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &SHORT_LIVED);
    assert_eq!(fs::metadata(mount.path("data.bin")).unwrap().len(), SIZE);
    mirrors.iter().for_each(|mirror| mirror.remove("data.bin"));
    wait::until("it is gone", || {
        fs::metadata(mount.path("data.bin")).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    });
    assert_eq!(fs::read(mount.path("other")).unwrap(), b"other");
    mount.umount();
}

#[test]
fn mirrors_that_disagree_on_a_size_are_not_mixed() {
    let (mirrors, place) = (mirrors(3, &tree()), Place::new());
    // The odd one out has another file under the same name.
    mirrors[0].put("data.bin", Content::Generated { seed: NEW, size_bytes: SIZE - 4096 });
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    // Listings merge as they come: once all three are there, the two win.
    wait::until("the size that most have", || {
        fs::metadata(mount.path("data.bin")).is_ok_and(|about| about.len() == SIZE)
    });
    let file = File::open(mount.path("data.bin")).unwrap();
    for offset in [0, FAR / 2, FAR] {
        reading::generated_at(&file, OLD, offset, 1 << 20).unwrap();
    }
    drop(file);
    mount.umount();
}

/// Replaced in the middle of a sequential read, on one mirror first and on the others 5 s later.
fn replaced_one_after_the_other(old_bytes: u64, new_bytes: u64) {
    const LATER: Duration = Duration::from_secs(5);
    let (mirrors, place) = (mirrors(3, &Tree::new().with_generated("data.bin", OLD, old_bytes)), Place::new());
    // Slow enough that much is still to come after that time.
    mirrors.iter().for_each(|mirror| mirror.always(Fault::Shape { bytes_per_second: 3 << 19 }));
    let mount = place.mount(&faulty_urls(&mirrors), &SHORT_LIVED);
    let replace = |mirror: &FaultyMirror| {
        mirror.put("data.bin", Content::Generated { seed: NEW, size_bytes: new_bytes });
    };
    let file = File::open(mount.path("data.bin")).unwrap();
    let (mut first, mut others) = (None, false);
    let (mut got, mut wanted) = (vec![0; 65_536], vec![0; 65_536]);
    let mut ended = None;
    for offset in (0..old_bytes).step_by(65_536) {
        if offset >= 4 << 20 && first.is_none() {
            replace(&mirrors[0]);
            first = Some(clock::now());
        }
        if !others && first.is_some_and(|at| clock::now().since(at) >= LATER) {
            mirrors[1..].iter().for_each(replace);
            others = true;
        }
        if let Err(error) = file.read_exact_at(&mut got, offset) {
            assert!(is_stale(&error) && others, "{error} at {offset}, others replaced: {others}");
            ended = Some(offset);
            break;
        }
        generate(OLD, offset, &mut wanted);
        assert!(got == wanted, "bytes of another version at {offset}");
    }
    assert!(others, "the file was too small to see the second replacement");
    assert!(ended.is_some(), "nobody has all of the old version: was it replaced too late?");
    // What it has read it keeps, and who opens it now gets the new one.
    reading::generated_at(&file, OLD, 0, 65_536).unwrap();
    mirrors.iter().for_each(FaultyMirror::honest);
    wait::until("a reader that opens later gets the new version", || {
        let opened = File::open(mount.path("data.bin")).unwrap();
        let mut page = [0; 4096];
        let read = opened.read_exact_at(&mut page, 0);
        generate(NEW, 0, &mut wanted[..4096]);
        read.is_ok() && page[..] == wanted[..4096]
    });
    reading::generated(&mount.path("data.bin"), NEW, new_bytes);
    drop(file);
    mount.umount();
}

#[test]
fn replaced_by_another_size_on_one_mirror_first_and_on_the_others_5_s_later() {
    replaced_one_after_the_other(64 << 20, (64 << 20) + 1);
}

#[test]
fn replaced_by_the_same_size_on_one_mirror_first_and_on_the_others_5_s_later() {
    replaced_one_after_the_other(64 << 20, 64 << 20);
}

#[test]
fn a_mirror_that_was_replaced_before_it_was_first_asked_is_noticed() {
    const SHORT: u64 = 8 << 20;
    let (mirrors, place) = (mirrors(2, &Tree::new().with_generated("data.bin", OLD, SHORT)), Place::new());
    mirrors.iter().for_each(|mirror| mirror.always(Fault::Shape { bytes_per_second: 8 << 20 }));
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    wait::until("both mirrors are listed", || {
        let output = place.braidfs(["status", mount.path("data.bin").to_str().unwrap(), "--json"]);
        let file: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        fs::metadata(mount.path("data.bin")).is_ok() && file["mirrors"].as_array().is_some_and(|all| all.len() == 2)
    });
    // The same size, and no validator is known yet that could tell.
    mirrors[0].put("data.bin", Content::Generated { seed: NEW, size_bytes: SHORT });
    reading::generated(&mount.path("data.bin"), OLD, SHORT);
    assert!(!mirrors[0].data_requests().is_empty(), "it was never asked");
    mount.umount();
}

#[test]
fn a_file_that_changed_a_moment_ago_is_stale_once_and_new_when_it_is_opened_again() {
    for size_bytes in [SIZE, SIZE + 1] {
        let (mirrors, place) = (mirrors(2, &tree()), Place::new());
        let mount = place.mount(&faulty_urls(&mirrors), &[]);
        assert_eq!(fs::metadata(mount.path("data.bin")).unwrap().len(), SIZE);
        let replaced = || Content::Generated { seed: NEW, size_bytes };
        mirrors.iter().for_each(|mirror| mirror.put("data.bin", replaced()));
        // Its listing is believed for a minute, but a read that finds out has it listed again at once.
        wait::until("the new version", || {
            let file = File::open(mount.path("data.bin")).unwrap();
            let mut page = [0; 4096];
            match file.read_exact_at(&mut page, FAR) {
                Ok(()) => {
                    let mut wanted = [0; 4096];
                    generate(NEW, FAR, &mut wanted);
                    assert!(page == wanted, "nobody has the old bytes any more");
                    true
                }
                Err(error) => {
                    assert!(is_stale(&error), "{error}");
                    false
                }
            }
        });
        mount.umount();
    }
}

#[test]
fn a_removed_file_is_stale_for_who_has_it_open_but_for_what_is_cached() {
    let (mirrors, place) = (mirrors(2, &tree().with("other", *b"other")), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &SHORT_LIVED);
    let file = File::open(mount.path("data.bin")).unwrap();
    reading::generated_at(&file, OLD, 0, 4096).unwrap();
    mirrors.iter().for_each(|mirror| mirror.remove("data.bin"));
    wait::until("it is gone", || fs::metadata(mount.path("data.bin")).is_err());
    assert!(is_stale(&file.read_at(&mut [0; 4096], FAR).expect_err("nobody has it any more")));
    fadvise_all(&file);
    reading::generated_at(&file, OLD, 0, 4096).unwrap();
    assert_eq!(file.metadata().unwrap().len(), SIZE);
    drop(file);
    mount.umount();
}

fn fadvise_all(file: &File) {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).expect("advice about a regular file is taken");
}

#[test]
fn eviction_does_not_disturb_an_open_handle() {
    const OTHERS: u64 = 24 << 20;
    const HELD: u64 = 6 << 20;
    let tree = Tree::new().with_generated("held.bin", OLD, HELD).with_generated("packed", OLD, 30_000);
    let tree = (0..4).fold(tree, |tree, at| tree.with_generated(format!("other-{at}"), 10 + at, OTHERS));
    let (mirrors, place) = (mirrors(2, &tree), Place::new());
    let small = ["--memory", "16MiB", "--cache-size", "24MiB"];
    let mount = place.mount(&faulty_urls(&mirrors), &small);
    let (held, packed) = (File::open(mount.path("held.bin")).unwrap(), File::open(mount.path("packed")).unwrap());
    let read_held = || {
        fadvise_all(&held);
        fadvise_all(&packed);
        (0..HELD).step_by(1 << 20).for_each(|at| reading::generated_at(&held, OLD, at, 1 << 20).unwrap());
        reading::generated_at(&packed, OLD, 0, 30_000).unwrap();
    };
    read_held();
    for at in 0..4 {
        reading::generated(&mount.path(format!("other-{at}")), 10 + at, OTHERS);
        read_held();
    }
    let counters = mount.status()["counters"].clone();
    let evicted = |name: &str| counters[name].as_u64().expect("a counter");
    assert!(evicted("memory_evicted_bytes") > OTHERS, "too little was at risk: {counters}");
    assert!(evicted("disk_evicted_bytes") > OTHERS, "too little was at risk: {counters}");
    drop((held, packed));
    mount.umount();
}

#[test]
fn a_replacement_that_is_cached_beside_it_takes_nothing_from_an_open_handle() {
    const SHORT: u64 = 3 << 20;
    let (mut mirrors, place) = (mirrors(2, &Tree::new().with_generated("data.bin", OLD, SHORT)), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &SHORT_LIVED);
    let old = File::open(mount.path("data.bin")).unwrap();
    let read_old = || (0..SHORT).step_by(1 << 20).for_each(|at| reading::generated_at(&old, OLD, at, 1 << 20).unwrap());
    read_old();
    mirrors.iter().for_each(|mirror| mirror.put("data.bin", Content::Generated { seed: NEW, size_bytes: SHORT }));
    wait::until("the new version", || {
        let new = File::open(mount.path("data.bin")).unwrap();
        new.metadata().unwrap().modified().unwrap() != old.metadata().unwrap().modified().unwrap()
    });
    reading::generated(&mount.path("data.bin"), NEW, SHORT);
    mirrors.iter_mut().for_each(FaultyMirror::down);
    // Both versions are served from what is cached, each to its own handles.
    fadvise_all(&old);
    read_old();
    reading::forget_kernel_pages(&mount.path("data.bin"));
    reading::generated(&mount.path("data.bin"), NEW, SHORT);
    drop(old);
    mount.umount();
}

#[test]
fn a_mirror_that_changed_before_it_was_asked_does_not_take_the_old_version_with_it() {
    const SHORT: u64 = 3_000_000;
    let tree = Tree::new().with_generated("folder/data.bin", OLD, SHORT);
    let (mirrors, place) = (mirrors(2, &tree), Place::new());
    // The one that goes on to have the old version lists the folder last.
    let late = Fault::Delay(Duration::from_secs(2));
    mirrors[0].add(Rule::everywhere(late).when(|request| request.is_index() && request.path.starts_with(b"folder")));
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let old = File::open(mount.path("folder/data.bin")).unwrap();
    mirrors[1].put_dated("folder/data.bin", Content::Generated { seed: NEW, size_bytes: SHORT }, 1_800_000_000);
    reading::generated_at(&old, OLD, 0, SHORT as usize).expect("one mirror has it, and lists it in a moment");
    drop(old);
    mount.umount();
}
