//! Cache folders that cannot be used, and one that is in use.

use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::Place;
use crate::support::process::output_of;
use crate::support::state::Registered;
use crate::support::{dataset, reading, state};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn mount_with(place: &Place, mirror: &FaultyMirror, cache: &Path) -> Output {
    let mut command = place.command();
    command.arg("mount").arg(mirror.url()).arg(place.mountpoint()).arg("--cache-dir").arg(cache);
    crate::support::process::run(&mut command)
}

fn mirror() -> FaultyMirror {
    FaultyMirror::start(Tree::new().with("a", *b"a"))
}

#[test]
fn in_use_names_the_other_daemon() {
    let (first, second, mirror) = (Place::new(), Place::new(), mirror());
    let mount = first.mount(&[mirror.url()], &[]);
    let output = mount_with(&second, &mirror, &first.cache());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "two daemons on one cache folder");
    assert!(said.contains(&mount.pid().to_string()), "it does not name {}: {said}", mount.pid());
    assert!(said.contains(first.cache().to_str().unwrap()), "{said}");
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
    mount.umount();
    let mount = second.mount(&[mirror.url()], &["--cache-dir", first.cache().to_str().unwrap()]);
    mount.umount();
}

#[test]
fn a_file_in_its_place() {
    let (place, mirror) = (Place::new(), mirror());
    let file = place.path("file");
    fs::write(&file, b"mine").unwrap();
    let output = mount_with(&place, &mirror, &file);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(file.to_str().unwrap()), "{said}");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert!(!place.is_mounted());
}

#[test]
fn what_else_lies_in_it_is_left_alone() {
    let (place, mirror) = (Place::new(), mirror());
    let folder = place.path("photos");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("cat.jpg"), b"mine").unwrap();
    let mount = place.mount(&[mirror.url()], &["--cache-dir", folder.to_str().unwrap(), "--cache-size", "16MiB"]);
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
    mount.umount();
    assert_eq!(fs::read(folder.join("cat.jpg")).unwrap(), b"mine");
}

/// Every file below `folder` with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = dataset::files(folder);
    files.into_iter().map(|file| (file.path.clone(), fs::read(folder.join(file.path)).unwrap())).collect()
}

#[test]
fn of_a_newer_version_it_is_refused_and_left_as_it_was() {
    let (place, mirror) = (Place::new(), mirror());
    place.mount(&[mirror.url()], &[]).umount();
    let format = contents(&place.cache()).into_keys().find(|path| path.ends_with("format"));
    let format = place.cache().join(format.expect("the folder says which version wrote it"));
    let form = "braidfs cache 4000000";
    fs::write(&format, format!("{form}\n{:08x}\n", crc32c::crc32c(form.as_bytes()))).unwrap();
    let before = contents(&place.cache());
    let output = mount_with(&place, &mirror, &place.cache());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("newer") && said.contains("4000000"), "{said}");
    let without_lock = |mut files: BTreeMap<PathBuf, Vec<u8>>| {
        files.retain(|path, _| !path.ends_with("lock"));
        files
    };
    assert_eq!(without_lock(contents(&place.cache())), without_lock(before));
}

#[test]
fn damaged_it_costs_a_fetch_and_never_a_wrong_byte() {
    let tree = Tree::new().with_generated("data.bin", 1, 3_000_000);
    let (place, mirror) = (Place::new(), FaultyMirror::start(tree));
    let mount = place.mount(&[mirror.url()], &[]);
    reading::generated(&mount.path("data.bin"), 1, 3_000_000);
    mount.umount();
    // A byte of every file of the cache is turned over, one kind of file after the other.
    for (path, mut bytes) in contents(&place.cache()) {
        if bytes.len() > 4096 {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            fs::write(place.cache().join(path), bytes).unwrap();
        }
    }
    let mount = place.mount(&[mirror.url()], &[]);
    reading::generated(&mount.path("data.bin"), 1, 3_000_000);
    mount.umount();
}

#[test]
fn it_is_made_where_it_is_missing() {
    let (place, mirror) = (Place::new(), mirror());
    let cache = place.path("not/yet/there");
    let mount = place.mount(&[mirror.url()], &["--cache-dir", cache.to_str().unwrap()]);
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
    mount.umount();
    assert!(cache.is_dir());
}

#[test]
fn one_that_cannot_be_written_is_refused() {
    let (place, mirror) = (Place::new(), mirror());
    // Not even root makes folders there.
    let output = mount_with(&place, &mirror, Path::new("/proc/braidfs-cache"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("/proc/braidfs-cache"), "{said}");
    assert!(!place.is_mounted());
}

#[test]
fn by_default_it_lies_in_the_users_cache_folder_under_the_datasets_name() {
    let (place, mirror) = (Place::new(), mirror());
    let mut command = place.command();
    command.arg("mount").arg(mirror.url()).arg(place.mountpoint()).args(["--name", "weather"]);
    let mount = place.start(&mut command);
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
    mount.umount();
    assert!(place.path("home/.cache/braidfs/weather").is_dir());
}

/// A disk of 6 MiB.
struct SmallDisk {
    at: PathBuf,
    _registered: Registered,
}

impl SmallDisk {
    fn mount(at: PathBuf) -> SmallDisk {
        fs::create_dir(&at).unwrap();
        let disk = SmallDisk { _registered: Registered::mount(&at), at };
        output_of(Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "braidfs-test"]).arg(&disk.at));
        disk
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: after a failed test the daemon may not have let go of it yet.
        let _ = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_turns_into_reading_through() {
    if !rustix::process::geteuid().is_root() {
        return state::skip("a_full_disk_turns_into_reading_through", "only root can mount a small disk");
    }
    let place = Place::new();
    let disk = SmallDisk::mount(place.path("small disk"));
    let mirror = FaultyMirror::start(Tree::new().with_generated("data.bin", 1, 20_000_000));
    let cache = disk.at.join("cache");
    let mount = place.mount(&[mirror.url()], &["--cache-dir", cache.to_str().unwrap(), "--cache-size", "1GiB"]);
    reading::generated(&mount.path("data.bin"), 1, 20_000_000);
    reading::forget_kernel_pages(&mount.path("data.bin"));
    reading::generated(&mount.path("data.bin"), 1, 20_000_000);
    mount.umount();
}
