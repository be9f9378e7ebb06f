//! Files that are complete and verified on the cache's disk, read by the kernel itself.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::{Mount, Place, without_passthrough};
use crate::support::{dataset, reading, wait};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const SIZE: u64 = 5_000_003;
const SEED: u64 = 7;

fn tree() -> Tree {
    let tree = Tree::new().with_generated("a.bin", SEED, SIZE).with("small", *b"small");
    (0..8).fold(tree, |tree, at| tree.with_generated(format!("go/{at}.bin"), at, SIZE))
}

/// Open it until that is passed through. `None` where it is switched off, or this machine's kernel does not do that, which
/// only says so once it was tried.
fn passed_through(mount: &Mount, name: &str) -> Option<File> {
    if without_passthrough() {
        return None;
    }
    let before = mount.status()["counters"]["passthrough_opens"].as_u64().expect("a counter");
    let opened = wait::for_some("an open that is passed through, or a word why not", || {
        let file = File::open(mount.path(name)).expect("it is there");
        let now = mount.status()["counters"]["passthrough_opens"].as_u64().expect("a counter");
        if mount.log().contains("the kernel does not take over") {
            return Some(None);
        }
        (now > before).then_some(Some(file))
    });
    if opened.is_none() {
        eprintln!("not tested: this kernel passes nothing through ({})", mount.log());
    }
    opened
}

/// With little memory: what readers bring is let go of where the disk is behind, what prefetch brings is kept for sure.
fn prefetch(place: &Place, mount: &Mount) {
    assert!(place.braidfs(["prefetch".into(), mount.path("a.bin").into_os_string()]).status.success());
}

fn reads(mount: &Mount) -> u64 {
    mount.status()["counters"]["reads"].as_u64().expect("a counter")
}

fn disk_bytes(mount: &Mount) -> u64 {
    mount.number("disk_bytes")
}

#[test]
fn a_complete_file_is_read_by_the_kernel_itself_and_after_a_restart_once_it_was_verified() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("a.bin"), SEED, SIZE);
    let Some(file) = passed_through(&mount, "a.bin") else { return };
    let before = reads(&mount);
    reading::generated_at(&file, SEED, 0, SIZE as usize).unwrap();
    assert_eq!(file.read_at(&mut [0; 10], SIZE).unwrap(), 0, "its end is its end");
    assert_eq!(reads(&mount), before, "nobody asked us");
    drop(file);
    mount.umount();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    mirrors.iter().for_each(FaultyMirror::forget);
    let before = reads(&mount);
    reading::generated(&mount.path("a.bin"), SEED, SIZE);
    assert!(reads(&mount) > before, "nothing that was not verified since the start is passed through");
    let file = passed_through(&mount, "a.bin").expect("it was before");
    reading::generated_at(&file, SEED, 0, SIZE as usize).unwrap();
    assert_eq!(data_bytes(&mirrors), 0, "all of it was cached");
    drop(file);
    mount.umount();
}

#[test]
fn nothing_is_passed_through_where_that_is_switched_off_nor_small_files_that_share_a_pack() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--passthrough=false"]);
    reading::generated(&mount.path("a.bin"), SEED, SIZE);
    wait::until("it is durable", || mount.status()["counters"]["disk_written_bytes"].as_u64() >= Some(SIZE));
    for _ in 0..20 {
        reading::generated(&mount.path("a.bin"), SEED, SIZE);
    }
    assert_eq!(mount.status()["counters"]["passthrough_opens"], 0);
    mount.umount();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("a.bin"), SEED, SIZE);
    let Some(file) = passed_through(&mount, "a.bin") else { return };
    drop(file);
    let before = mount.status()["counters"]["passthrough_opens"].clone();
    for _ in 0..20 {
        assert_eq!(std::fs::read(mount.path("small")).unwrap(), b"small");
    }
    assert_eq!(mount.status()["counters"]["passthrough_opens"], before);
    mount.umount();
}

#[test]
fn the_first_open_decides_for_all_that_overlap_with_it() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let answered = File::open(mount.path("a.bin")).unwrap();
    reading::generated_at(&answered, SEED, 0, SIZE as usize).unwrap();
    wait::until("it is durable", || mount.status()["counters"]["disk_written_bytes"].as_u64() >= Some(SIZE));
    for _ in 0..20 {
        let file = File::open(mount.path("a.bin")).expect("no EIO: it is opened in the mode that it is in");
        reading::generated_at(&file, SEED, SIZE / 2, 4096).unwrap();
    }
    assert_eq!(mount.status()["counters"]["passthrough_opens"], 0);
    drop(answered);
    let Some(file) = passed_through(&mount, "a.bin") else { return };
    let many: Vec<File> = (0..20).map(|_| File::open(mount.path("a.bin")).expect("no EIO")).collect();
    many.iter().for_each(|file| reading::generated_at(file, SEED, SIZE - 5000, 5000).unwrap());
    drop(file);
    reading::generated_at(&many[0], SEED, 0, SIZE as usize).unwrap();
    drop(many);
    mount.umount();
}

#[test]
fn a_file_that_is_passed_through_is_not_evicted_and_the_limit_holds() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--cache-size", "24MiB", "--memory", "16MiB"]);
    prefetch(&place, &mount);
    let Some(file) = passed_through(&mount, "a.bin") else { return };
    for round in 0..3 {
        read_others(&mount);
        reading::forget_kernel_pages(&mount.path("a.bin"));
        reading::generated_at(&file, SEED, 0, SIZE as usize).unwrap();
        assert!(disk_bytes(&mount) <= mount.number("disk_limit"), "round {round}");
    }
    let evicted = mount.status()["counters"]["disk_evicted_bytes"].as_u64();
    assert!(evicted > Some(SIZE), "the others were: {evicted:?}");
    drop(file);
    mount.umount();
}

#[test]
fn one_that_is_evicted_by_hand_is_read_on_and_counts_until_it_is_closed() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("a.bin"), SEED, SIZE);
    let Some(file) = passed_through(&mount, "a.bin") else { return };
    let used = disk_bytes(&mount);
    let words = ["evict".into(), mount.path("a.bin").into_os_string()];
    assert!(place.braidfs(words).status.success());
    reading::forget_kernel_pages(&mount.path("a.bin"));
    reading::generated_at(&file, SEED, 0, SIZE as usize).unwrap();
    assert!(disk_bytes(&mount) + SIZE / 2 > used, "its blocks are still taken");
    drop(file);
    wait::until("its room is back", || disk_bytes(&mount) + SIZE / 2 < used);
    mirrors.iter().for_each(FaultyMirror::forget);
    reading::forget_kernel_pages(&mount.path("a.bin"));
    reading::generated(&mount.path("a.bin"), SEED, SIZE);
    wait::until("it is fetched again", || data_bytes(&mirrors) >= SIZE);
    mount.umount();
}

/// Overwrite a page in the middle of a data file of `a.bin`'s length, and have it verified.
fn rot(place: &Place, mount: &Mount) {
    let cache = place.cache();
    let files = dataset::files(&cache).into_iter().map(|file| cache.join(file.path));
    let of_length = |path: &PathBuf| path.extension().is_some_and(|end| end == "pages") && length(path) == SIZE;
    let path = files.into_iter().find(of_length).expect("its data file");
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0x55; 4096], SIZE / 2 / 4096 * 4096).unwrap();
    file.sync_all().unwrap();
    let words = ["verify".into(), mount.path("a.bin").into_os_string()];
    let output = place.braidfs(words);
    assert_eq!(output.status.code(), Some(1), "it is found: {output:?}");
}

/// More than 16 MiB of memory hold.
fn read_others(mount: &Mount) {
    for at in 0..8 {
        let path = mount.path(format!("go/{at}.bin"));
        reading::forget_kernel_pages(&path);
        reading::generated(&path, at, SIZE);
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |about| about.len())
}

#[test]
fn a_page_that_rots_under_a_reader_is_mended_in_its_place() {
    let (mut mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--memory", "16MiB"]);
    prefetch(&place, &mount);
    let Some(file) = passed_through(&mount, "a.bin") else { return };
    read_others(&mount);
    mirrors.iter().for_each(FaultyMirror::forget);
    rot(&place, &mount);
    wait::until("its reader has the right bytes again", || {
        reading::generated_at(&file, SEED, 0, SIZE as usize).is_ok()
    });
    assert_eq!(file.read_at(&mut [0; 10], SIZE).unwrap(), 0, "its end is its end");
    assert!(data_bytes(&mirrors) < SIZE / 2, "nothing but what was damaged was fetched");
    assert!(place.braidfs(["evict".into(), mount.path("go").into_os_string()]).status.success());
    read_others(&mount);
    mirrors.iter_mut().for_each(FaultyMirror::down);
    rot(&place, &mount);
    File::open(mount.path("a.bin")).expect_err("nobody else gets to read what is known to be damaged");
    mirrors.iter_mut().for_each(FaultyMirror::up);
    let again = wait::for_some("it is mended for those who open it", || File::open(mount.path("a.bin")).ok());
    [&file, &again].iter().for_each(|file| reading::generated_at(file, SEED, 0, SIZE as usize).unwrap());
    drop((file, again));
    mount.umount();
}
