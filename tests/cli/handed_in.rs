//! `--fuse-fd`: a mount that somebody else has made, served by its descriptor.

use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::Place;
use crate::support::process::{Process, run};
use crate::support::state::{self, Registered};
use crate::support::wait;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

const SIZE: usize = 3_000_001;

fn mirror() -> FaultyMirror {
    FaultyMirror::start(Tree::new().with("a", *b"a").with_generated("big", 1, SIZE as u64))
}

/// `/dev/fuse`, opened so that a child has it too, and mounted by the system call: the part of a container's runtime.
fn mounted(place: &Place) -> OwnedFd {
    let fuse = rustix::fs::open("/dev/fuse", OFlags::RDWR, Mode::empty()).unwrap();
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", fuse.as_raw_fd());
    let data = CString::new(data).unwrap();
    mount("braidfs", place.mountpoint(), "fuse.braidfs", MountFlags::NOSUID | MountFlags::NODEV, &*data).unwrap();
    fuse
}

fn may_mount(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        state::skip(test, "only root may mount by the system call");
    }
    is_root
}

fn start(place: &Place, mirror: &FaultyMirror, words: &[&str]) -> Process {
    let mut command = place.command();
    command.arg("mount").arg(mirror.url()).args(words).arg("--cache-dir").arg(place.cache());
    Process::start(&mut command, &place.path("log"))
}

fn log(place: &Place) -> String {
    fs::read_to_string(place.path("log")).unwrap()
}

fn serves(place: &Place, daemon: &mut Process) {
    wait::until("it serves, or its end", || daemon.ended().is_some() || log(place).contains("mounted"));
    assert!(daemon.ended().is_none(), "{}", log(place));
}

#[test]
fn a_descriptor_is_served_until_its_owner_unmounts() {
    if !may_mount("a_descriptor_is_served_until_its_owner_unmounts") {
        return;
    }
    let (place, mirror) = (Place::new(), mirror());
    let _registered = Registered::mount(&place.mountpoint());
    let (mountpoint, number) = (place.mountpoint(), |fuse: &OwnedFd| fuse.as_raw_fd().to_string());
    for spelling in 0..3 {
        let fuse = mounted(&place);
        let words: Vec<String> = match spelling {
            0 => vec![format!("/dev/fd/{}", number(&fuse))],
            1 => vec!["--fuse-fd".into(), number(&fuse)],
            _ => vec!["--fuse-fd".into(), number(&fuse), mountpoint.to_str().unwrap().into()],
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut daemon = start(&place, &mirror, &words);
        drop(fuse);
        serves(&place, &mut daemon);
        assert_eq!(fs::read(mountpoint.join("a")).unwrap(), b"a");
        assert_eq!(fs::read(mountpoint.join("big")).unwrap().len(), SIZE);
        let names: Vec<_> = fs::read_dir(&mountpoint).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2);
        // It was not mounted read-only, and is all the same.
        assert_eq!(fs::write(mountpoint.join("new"), "x").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        assert_eq!(fs::remove_file(mountpoint.join("a")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        assert_eq!(fs::create_dir(mountpoint.join("new")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        // Commands find it by its path.
        let status = place.braidfs([OsStr::new("status"), mountpoint.as_os_str(), OsStr::new("--json")]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(
            (&status["pid"], &status["mountpoint"]),
            (&daemon.pid().into(), &mountpoint.to_str().unwrap().into())
        );
        let output = place.braidfs([OsStr::new("umount"), mountpoint.as_os_str()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("has to unmount it"), "{said}");
        assert!(place.is_mounted());
        unmount(&mountpoint, UnmountFlags::empty()).unwrap();
        let ended = daemon.ends_within(wait::PATIENCE).expect("it ends when the mount is gone");
        assert!(ended.success(), "{ended}: {}", log(&place));
        assert!(!log(&place).contains("WARN"), "{}", log(&place));
    }
}

#[test]
fn a_signal_ends_the_daemon_and_leaves_the_mount_to_its_owner() {
    if !may_mount("a_signal_ends_the_daemon_and_leaves_the_mount_to_its_owner") {
        return;
    }
    let (place, mirror) = (Place::new(), mirror());
    let _registered = Registered::mount(&place.mountpoint());
    let fuse = mounted(&place);
    let mut daemon = start(&place, &mirror, &["--fuse-fd", &fuse.as_raw_fd().to_string()]);
    drop(fuse);
    serves(&place, &mut daemon);
    assert_eq!(fs::read(place.mountpoint().join("a")).unwrap(), b"a");
    daemon.signal(Signal::TERM);
    let ended = daemon.ends_within(wait::PATIENCE).expect("it ends");
    assert!(ended.success(), "{ended}: {}", log(&place));
    assert!(place.is_mounted(), "it is not ours to unmount");
}

#[test]
fn it_goes_to_the_background_too() {
    if !may_mount("it_goes_to_the_background_too") {
        return;
    }
    let (place, mirror) = (Place::new(), mirror());
    let _registered = Registered::mount(&place.mountpoint());
    let fuse = mounted(&place);
    let mut command = place.command();
    command.arg("mount").arg(mirror.url()).arg(format!("/dev/fd/{}", fuse.as_raw_fd())).arg("--background");
    let output = run(command.arg("--cache-dir").arg(place.cache()));
    drop(fuse);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(place.mountpoint().join("a")).unwrap(), b"a");
    let status = place.braidfs([OsStr::new("status"), place.mountpoint().as_os_str(), OsStr::new("--json")]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let daemon = status["pid"].as_u64().unwrap();
    unmount(place.mountpoint(), UnmountFlags::empty()).unwrap();
    // Of one that has ended, and that nobody has asked about, there is no command line any more.
    let is_alive = || fs::read(format!("/proc/{daemon}/cmdline")).is_ok_and(|words| !words.is_empty());
    wait::until("the daemon has ended", || !is_alive());
}

#[test]
fn what_is_no_mounted_descriptor_is_refused() {
    let (place, mirror) = (Place::new(), mirror());
    let refused = |words: &[&str], wanted: &str| {
        let mut command = place.command();
        command.arg("mount").arg(mirror.url()).args(words).arg("--cache-dir").arg(place.cache());
        let output = run(&mut command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(wanted), "{words:?}: {said}");
    };
    refused(&["--fuse-fd", "77"], "descriptor 77 is not open");
    refused(&["/dev/fd/1"], "standard input or output");
    refused(&["/dev/fd/x"], "/dev/fd/x names no descriptor");
    let file = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()).unwrap();
    refused(&["--fuse-fd", &file.as_raw_fd().to_string()], "is not /dev/fuse");
    if may_mount("what_is_no_mounted_descriptor_is_refused") {
        let unmounted = rustix::fs::open("/dev/fuse", OFlags::RDWR, Mode::empty()).unwrap();
        refused(&["--fuse-fd", &unmounted.as_raw_fd().to_string()], "is it mounted");
    }
    assert!(Path::new("/dev/fuse").exists());
}
