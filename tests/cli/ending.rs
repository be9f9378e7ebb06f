//! Ways to start and to end: background, signals, umount, a busy mount.

use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::Place;
use crate::support::state::Registered;
use crate::support::wait;
use rustix::process::Signal;
use std::ffi::OsStr;
use std::fs::{self, File};

fn mirror() -> FaultyMirror {
    FaultyMirror::start(Tree::new().with("a", *b"a").with("folder/b", *b"b"))
}

fn umount(place: &Place, options: &[&str]) -> std::process::Output {
    let mountpoint = place.mountpoint();
    let words = [OsStr::new("umount"), mountpoint.as_os_str()].into_iter().chain(options.iter().map(OsStr::new));
    place.braidfs(words)
}

#[test]
fn the_background_begins_once_the_mount_can_be_used() {
    let (place, mirror) = (Place::new(), mirror());
    let _registered = Registered::mount(&place.mountpoint());
    let mut command = place.command();
    command.arg("mount").arg(mirror.url()).arg(place.mountpoint()).arg("--cache-dir").arg(place.cache());
    let output = crate::support::process::run(command.arg("--background"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(place.mountpoint().join("a")).unwrap(), b"a");
    let output = umount(&place, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!place.is_mounted());
    // The daemon has let go of the cache folder: another may have it at once.
    place.mount(&[mirror.url()], &[]).umount();
}

#[test]
fn the_background_fails_in_the_foreground() {
    let place = Place::new();
    let mut gone = mirror();
    gone.down();
    let mut command = place.command();
    command.arg("mount").arg(gone.url()).arg(place.mountpoint()).arg("--cache-dir").arg(place.cache());
    let output = crate::support::process::run(command.arg("--background"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(&gone.url()), "{said}");
    assert!(!place.is_mounted());
}

#[test]
fn signals_unmount_cleanly() {
    for signal in [Signal::INT, Signal::TERM] {
        let (place, mirror) = (Place::new(), mirror());
        let mount = place.mount(&[mirror.url()], &[]);
        assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
        let ended = mount.end_by(signal);
        assert!(ended.success(), "{signal:?}: {ended}");
        assert!(!place.is_mounted(), "{signal:?}");
    }
}

#[test]
fn a_busy_mount_says_by_whom() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &[]);
    let busy = File::open(mount.path("a")).unwrap();
    let output = umount(&place, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(&std::process::id().to_string()), "{said}");
    assert_eq!(fs::read(mount.path("folder/b")).unwrap(), b"b");
    drop(busy);
    mount.umount();
}

#[test]
fn a_lazy_umount_detaches_and_the_open_file_goes_on() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &[]);
    let busy = File::open(mount.path("a")).unwrap();
    let output = umount(&place, &["--lazy"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait::until("it is detached", || !place.is_mounted());
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&busy, &mut byte, 0).unwrap();
    assert_eq!(byte, *b"a");
}

#[test]
fn a_signal_after_another_hand_has_detached_it_is_no_error_and_names_nobody() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &[]);
    let busy = File::open(mount.path("a")).unwrap();
    rustix::mount::unmount(place.mountpoint(), rustix::mount::UnmountFlags::DETACH).unwrap();
    mount.signal(Signal::TERM);
    wait::until("its readers are told", || mount.log().contains("files are still open"));
    let log = mount.log();
    assert!(!log.contains("busy"), "{log}");
    let ended = mount.end_by(Signal::TERM);
    assert!(ended.success(), "{ended}");
    drop(busy);
}

#[test]
fn umount_of_what_is_no_mount_is_an_error() {
    let place = Place::new();
    let output = umount(&place, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(place.mountpoint().to_str().unwrap()), "{said}");
}

#[test]
fn fusermount_ends_the_daemon_too() {
    let (place, mirror) = (Place::new(), mirror());
    let mut mount = place.mount(&[mirror.url()], &[]);
    crate::support::process::output_of(std::process::Command::new("fusermount3").arg("-u").arg(place.mountpoint()));
    let ended = mount.ends().expect("the daemon ends after its unmount");
    assert!(ended.success(), "{ended}");
}
