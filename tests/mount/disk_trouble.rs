//! A cache disk that is full, read-only or taken away: readers see right bytes and no error, `status` sees it, and it
//! heals by itself.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::process::output_of;
use crate::support::state::{self, Registered};
use crate::support::{reading, wait};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE: u64 = 6_000_001;

fn tree() -> Tree {
    (0..6).fold(Tree::new(), |tree, at| tree.with_generated(format!("{at}.bin"), at, SIZE))
}

fn read(mount: &Mount, at: u64) {
    let path = mount.path(format!("{at}.bin"));
    reading::forget_kernel_pages(&path);
    reading::generated(&path, at, SIZE);
}

/// Something mounted for the length of a test.
struct Mounted {
    at: PathBuf,
    _registered: Registered,
}

impl Mounted {
    fn new(at: &Path, words: &[&str], what: &Path) -> Mounted {
        let mounted = Mounted { _registered: Registered::mount(at), at: at.to_owned() };
        output_of(Command::new("mount").args(words).arg(what).arg(at));
        mounted
    }

    fn remount(&self, options: &str) {
        output_of(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.at));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: after a failed test the daemon may not have let go of it yet.
        let _ = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
    }
}

fn may_mount(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        state::skip(test, "only root can mount a disk");
    }
    is_root
}

/// Until `status` says that of the disk, with these words in its reason.
fn wait_for(mount: &Mount, disk_state: &str, words: &str) {
    let mut status = serde_json::Value::Null;
    let holds = wait::within(wait::PATIENCE, || {
        status = mount.status();
        status["disk_state"] == disk_state && status["disk_trouble"].as_str().unwrap_or_default().contains(words)
    });
    assert!(holds, "the disk is never {disk_state} ({words}): {status:#}");
    let state = if disk_state == "ok" { "online" } else { "reading-through" };
    assert_eq!(status["state"], state, "{status:#}");
    assert_eq!(status["read_errors"], 0, "{status:#}");
}

/// The cache keeps what arrives: what is read is read from it after the next mount.
fn keeps(place: &Place, mirrors: &[FaultyMirror], mount: Mount, options: &[&str], at: u64) {
    // A read alone promises nothing: where the disk is slower than the mirrors, its write is let go.
    let output = place.braidfs([OsString::from("prefetch"), mount.path(format!("{at}.bin")).into_os_string()]);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), mount.log());
    mount.umount();
    let mount = place.mount(&faulty_urls(mirrors), options);
    mirrors.iter().for_each(FaultyMirror::forget);
    read(&mount, at);
    assert_eq!(data_bytes(mirrors), 0, "{:?}", mirrors[0].data_requests());
    mount.umount();
}

#[test]
fn a_full_disk_is_read_through_and_used_once_there_is_room() {
    if !may_mount("a_full_disk_is_read_through_and_used_once_there_is_room") {
        return;
    }
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let at = place.path("disk");
    fs::create_dir(&at).unwrap();
    let disk = Mounted::new(&at, &["-t", "tmpfs", "-o", "size=24m"], Path::new("braidfs-test"));
    let cache = at.join("cache");
    let options = ["--cache-dir", cache.to_str().unwrap(), "--cache-size", "1GiB", "--memory", "16MiB"];
    let mount = place.mount(&faulty_urls(&mirrors), &options);
    read(&mount, 0);
    wait_for(&mount, "full", "256 MiB are left to others");
    // Somebody else takes the last byte: now not even the cache's own tables can be written.
    let ballast = at.join("ballast");
    let _ = fs::write(&ballast, vec![1; 24 << 20]);
    read(&mount, 1);
    read(&mount, 0);
    let status = mount.status();
    assert!(status["disk_state"] == "full" || status["disk_state"] == "failing", "{status:#}");
    assert_eq!(status["read_errors"], 0, "{status:#}");
    fs::remove_file(ballast).unwrap();
    disk.remount("size=400m");
    wait_for(&mount, "ok", "");
    keeps(&place, &mirrors, mount, &options, 2);
}

#[test]
fn a_disk_that_becomes_read_only_is_read_through_and_used_once_it_can_be_written() {
    if !may_mount("a_disk_that_becomes_read_only_is_read_through_and_used_once_it_can_be_written") {
        return;
    }
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let options = ["--memory", "16MiB"];
    let mount = place.mount(&faulty_urls(&mirrors), &options);
    read(&mount, 0);
    let disk = Mounted::new(&place.cache(), &["--bind"], &place.cache());
    disk.remount("bind,ro");
    read(&mount, 1);
    wait_for(&mount, "failing", "Read-only file system");
    read(&mount, 2);
    read(&mount, 0);
    wait_for(&mount, "failing", "Read-only file system");
    drop(disk);
    wait_for(&mount, "ok", "");
    keeps(&place, &mirrors, mount, &options, 3);
}

#[test]
fn a_cache_folder_that_is_deleted_is_made_again() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let options = ["--memory", "16MiB"];
    let mount = place.mount(&faulty_urls(&mirrors), &options);
    read(&mount, 0);
    let opened = fs::File::open(mount.path("1.bin")).unwrap();
    reading::generated_at(&opened, 1, 0, 100_000).unwrap();
    // Again where the daemon made a file in it meanwhile.
    wait::until("the folder is deleted", || fs::remove_dir_all(place.cache()).is_ok());
    read(&mount, 2);
    read(&mount, 0);
    wait::until("the daemon has noticed", || mount.log().contains("the cache folder was removed; it is made again"));
    wait_for(&mount, "ok", "");
    reading::generated_at(&opened, 1, 3_000_000, 100_000).unwrap();
    drop(opened);
    assert!(place.cache().join("state.redb").exists());
    keeps(&place, &mirrors, mount, &options, 3);
}

#[test]
fn a_disk_that_is_taken_away_is_read_through_and_nothing_is_written_where_it_was() {
    if !may_mount("a_disk_that_is_taken_away_is_read_through_and_nothing_is_written_where_it_was") {
        return;
    }
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let at = place.path("disk");
    fs::create_dir(&at).unwrap();
    let disk = Mounted::new(&at, &["-t", "tmpfs", "-o", "size=400m"], Path::new("braidfs-test"));
    let cache = at.join("cache");
    let options = ["--cache-dir", cache.to_str().unwrap(), "--cache-size", "64MiB", "--memory", "16MiB"];
    let mount = place.mount(&faulty_urls(&mirrors), &options);
    read(&mount, 0);
    drop(disk);
    wait_for(&mount, "failing", "is gone, or another is mounted over it");
    read(&mount, 1);
    read(&mount, 0);
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0, "the root disk is not the cache's");
    mount.umount();
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
}
