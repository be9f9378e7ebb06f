//! What a killed daemon leaves mounted is recognised and replaced.

use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::Place;
use std::fs;

#[test]
fn a_stale_mountpoint_is_replaced() {
    let (mirror, place) = (FaultyMirror::start(Tree::new().with("a", *b"a")), Place::new());
    place.mount(&[mirror.url()], &[]).kill9();
    assert!(place.is_mounted());
    let error = fs::read_dir(place.mountpoint()).expect_err("nobody answers there");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NOTCONN.raw_os_error()));
    let mount = place.mount(&[mirror.url()], &[]);
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
    // Nothing stale is left below the new one.
    mount.umount();
}

#[test]
fn the_leftovers_of_a_killed_daemon_block_neither_its_cache_nor_its_socket() {
    let (mirror, place) = (FaultyMirror::start(Tree::new().with("a", *b"a")), Place::new());
    place.mount(&[mirror.url()], &[]).kill9();
    place.clear();
    let mount = place.mount(&[mirror.url()], &[]);
    assert_eq!(mount.status()["mountpoint"].as_str(), place.mountpoint().to_str());
    mount.umount();
}

#[test]
fn umount_clears_a_stale_mountpoint() {
    let (mirror, place) = (FaultyMirror::start(Tree::new().with("a", *b"a")), Place::new());
    place.mount(&[mirror.url()], &[]).kill9();
    let output = place.braidfs([std::ffi::OsStr::new("umount"), place.mountpoint().as_os_str()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!place.is_mounted());
}
