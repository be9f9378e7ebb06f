//! What a reader sees when a remote file changes: an open handle is pinned to the version that it opened.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Content, FaultyMirror, Tree, generate};
use crate::support::mounted::{Mount, Place};
use crate::support::{reading, wait};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

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
    use crate::support::faulty::Fault;
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
