//! All mirrors gone: what is cached works, the rest fails clearly, and it recovers by itself.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::{reading, wait};
use std::fs;

const SIZE: u64 = 5_000_000;

fn tree() -> Tree {
    let tree = Tree::new().with_generated("data/cached.bin", 1, SIZE).with_generated("data/other.bin", 2, SIZE);
    tree.with("never listed/file", *b"file")
}

fn is_offline(mount: &Mount) -> bool {
    mount.status()["state"] == "offline"
}

#[test]
fn cached_works_the_rest_fails_and_it_recovers() {
    let (mut mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--read-timeout", "5s"]);
    let (cached, other) = (mount.path("data/cached.bin"), mount.path("data/other.bin"));
    reading::generated(&cached, 1, SIZE);
    assert_eq!(fs::read_dir(place.mountpoint()).unwrap().count(), 2);
    assert!(!is_offline(&mount));
    mirrors.iter_mut().for_each(FaultyMirror::down);

    // Reading what is not cached is how it is found out.
    let read_other = || fs::File::open(&other).and_then(|file| reading::generated_at(&file, 2, 1 << 20, 4096));
    let error = read_other().expect_err("nobody has it");
    assert!(error.raw_os_error().is_some(), "an errno: {error}");
    wait::until("status says offline", || is_offline(&mount));

    assert_eq!(fs::read_dir(mount.path("data")).unwrap().count(), 2);
    assert_eq!(fs::metadata(&other).unwrap().len(), SIZE);
    rustix::fs::statvfs(place.mountpoint()).expect("df works");
    reading::forget_kernel_pages(&cached);
    reading::generated(&cached, 1, SIZE);
    assert!(read_other().is_err());
    assert!(fs::read_dir(mount.path("never listed")).is_err());

    mirrors.iter_mut().for_each(FaultyMirror::up);
    wait::until("a read after the recovery", || read_other().is_ok());
    wait::until("status says so", || !is_offline(&mount));
    reading::generated(&other, 2, SIZE);
    assert_eq!(fs::read(mount.path("never listed/file")).unwrap(), b"file");
    mount.umount();
}

#[test]
fn a_mount_without_any_mirror_serves_the_cache() {
    let (mut mirrors, place) = (mirrors(2, &tree()), Place::new());
    let urls = faulty_urls(&mirrors);
    let mount = place.mount(&urls, &[]);
    reading::generated(&mount.path("data/cached.bin"), 1, SIZE);
    assert_eq!(fs::read_dir(place.mountpoint()).unwrap().count(), 2);
    mount.umount();
    mirrors.iter_mut().for_each(FaultyMirror::down);
    let mount = place.mount(&urls, &["--read-timeout", "5s"]);
    assert_eq!(fs::read_dir(mount.path("data")).unwrap().count(), 2);
    reading::generated(&mount.path("data/cached.bin"), 1, SIZE);
    assert!(is_offline(&mount));
    assert!(mount.log().to_lowercase().contains("offline"), "the log says so: {}", mount.log());
    mount.umount();
}
