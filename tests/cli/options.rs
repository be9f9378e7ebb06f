//! Options do what they say: owner, modes, name, the form that mount(8) uses.

use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::Place;
use std::fs;
use std::os::unix::fs::MetadataExt;

fn mirror() -> FaultyMirror {
    FaultyMirror::start(Tree::new().with("a", *b"a").with("folder/b", *b"b"))
}

#[test]
fn owner_group_and_umask() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &["--uid", "1234", "--gid", "2345", "--umask", "027"]);
    let (file, folder) = (fs::metadata(mount.path("a")).unwrap(), fs::metadata(mount.path("folder")).unwrap());
    assert_eq!((file.uid(), file.gid()), (1234, 2345));
    assert_eq!((folder.uid(), folder.gid()), (1234, 2345));
    assert_eq!((file.mode() & 0o7777) & 0o027, 0, "{:o}", file.mode());
    assert_eq!((folder.mode() & 0o7777), 0o550 | folder.mode() & 0o200, "{:o}", folder.mode());
    mount.umount();
}

#[test]
fn the_mount_table_names_braidfs() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &["--fsname", "my data"]);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(place.mountpoint().to_str().unwrap())).unwrap();
    assert!(line.contains(" fuse.braidfs ") && line.contains(r"my\040data") && line.contains("ro,"), "{line}");
    mount.umount();
}

#[test]
fn inodes_are_stable_across_restarts() {
    let (place, mirror) = (Place::new(), mirror());
    let look = |mount: &crate::support::mounted::Mount| {
        ["", "a", "folder", "folder/b"].map(|path| fs::metadata(mount.path(path)).unwrap().ino())
    };
    let mount = place.mount(&[mirror.url()], &[]);
    let first = look(&mount);
    mount.umount();
    let mount = place.mount(&[mirror.url()], &[]);
    assert_eq!(look(&mount), first);
    mount.umount();
}

#[test]
fn the_form_of_mount_fuse3() {
    let (place, mirror) = (Place::new(), mirror());
    let mut command = place.command();
    command.arg(mirror.url()).arg(place.mountpoint()).arg("-o");
    command.arg(format!("ro,dev,suid,memory=64MiB,cache-dir={}", place.cache().display()));
    // Called so, it goes to the background by itself, as mount(8) expects.
    let _registered = crate::support::state::Registered::mount(&place.mountpoint());
    let output = crate::support::process::run(&mut command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(place.mountpoint().join("a")).unwrap(), b"a");
    let output = place.braidfs([std::ffi::OsStr::new("umount"), place.mountpoint().as_os_str()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
