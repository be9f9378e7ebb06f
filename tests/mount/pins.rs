//! `braidfs pin`, `unpin`, `evict` and `verify`, and the scrub, on a real mount.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::{dataset, reading, wait};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Output;

const SIZE: u64 = 5_000_003;

fn tree() -> Tree {
    let small = (0..20).fold(Tree::new(), |tree, at| tree.with(format!("keep/small {at}"), *b"small"));
    let tree = small.with_generated("keep/a.bin", 100, SIZE).with_generated("single.bin", 101, SIZE);
    (0..8).fold(tree, |tree, at| tree.with_generated(format!("go/{at}.bin"), at, SIZE))
}

/// Mounted, and its daemon hears commands: the kernel knows of a mount a moment before.
fn mounted<'a>(place: &'a Place, mirrors: &[FaultyMirror], options: &[&str]) -> Mount<'a> {
    let mount = place.mount(&faulty_urls(mirrors), options);
    wait::until("the daemon hears commands", || run(place, "status", &[""], &[]).status.success());
    mount
}

fn run(place: &Place, command: &str, paths: &[&str], options: &[&str]) -> Output {
    let mut words: Vec<OsString> = vec![command.into()];
    words.extend(paths.iter().map(|path| place.mountpoint().join(path).into_os_string()));
    words.extend(options.iter().map(OsString::from));
    place.braidfs(words)
}

/// `braidfs COMMAND PATHS` must end with `code`; gives all that it said.
fn said(place: &Place, command: &str, paths: &[&str], code: i32) -> String {
    let output = run(place, command, paths, &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command} {paths:?}: {said}");
    said
}

/// Read it from the daemon, not from the kernel's memory.
fn read(mount: &Mount, name: &str, seed: u64) {
    reading::forget_kernel_pages(&mount.path(name));
    reading::generated(&mount.path(name), seed, SIZE);
}

fn go_round(mount: &Mount) {
    (0..8).for_each(|at| read(mount, &format!("go/{at}.bin"), at));
}

/// What is written is durable, and evicted for.
fn written(mount: &Mount) {
    wait::until("nothing waits for the disk", || mount.status()["counters"]["disk_queue_bytes"] == 0);
}

fn on_disk_bytes(place: &Place, name: &str) -> u64 {
    let output = run(place, "status", &[name], &["--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the status of a file");
    value["on_disk_bytes"].as_u64().expect("a number")
}

#[test]
fn what_is_pinned_stays_while_everything_else_is_evicted_also_after_a_restart() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let options = ["--cache-size", "24MiB", "--memory", "16MiB"];
    let mount = mounted(&place, &mirrors, &options);
    let text = said(&place, "pin", &["keep", "single.bin"], 0);
    assert!(text.contains("2 paths pinned: 22 files") && text.contains("9.54 MiB of"), "{text}");
    let prefetched = run(&place, "prefetch", &["keep", "single.bin"], &[]);
    assert!(prefetched.status.success(), "{}", String::from_utf8_lossy(&prefetched.stderr));
    go_round(&mount);
    go_round(&mount);
    written(&mount);
    let status = mount.status();
    assert!(status["counters"]["disk_evicted_bytes"].as_u64() > Some(SIZE), "the test must fill the cache: {status:#}");
    assert_eq!(status["pins"].as_array().map(Vec::len), Some(2), "{status:#}");
    assert_eq!(status["pins"][0]["path"], "keep");
    assert!(status["disk_bytes"].as_u64() <= status["disk_limit"].as_u64());
    mount.umount();
    let mount = mounted(&place, &mirrors, &options);
    go_round(&mount);
    mirrors.iter().for_each(FaultyMirror::forget);
    read(&mount, "keep/a.bin", 100);
    read(&mount, "single.bin", 101);
    assert_eq!(fs::read(mount.path("keep/small 7")).unwrap(), b"small");
    assert_eq!(data_bytes(&mirrors), 0, "{:?}", mirrors[0].data_requests());
    // Unpinned, it goes like everything else.
    said(&place, "unpin", &["keep", "single.bin"], 0);
    go_round(&mount);
    go_round(&mount);
    written(&mount);
    assert!(on_disk_bytes(&place, "keep/a.bin") < SIZE);
    mount.umount();
}

#[test]
fn what_cannot_be_pinned_is_refused_with_the_way_out() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = mounted(&place, &mirrors, &["--cache-size", "24MiB"]);
    said(&place, "pin", &["single.bin"], 0);
    let text = said(&place, "pin", &["keep", "go"], 1);
    for wanted in ["42.92 MiB do not fit beside the 4.77 MiB that are pinned", "22.80 MiB can be", "--cache-size"] {
        assert!(text.contains(wanted), "no {wanted:?} in: {text}");
    }
    let text = said(&place, "pin", &["keep/nothing"], 1);
    assert!(text.contains("keep/nothing: no mirror has a file of this name"), "{text}");
    let text = said(&place, "unpin", &["keep/a.bin"], 1);
    assert!(text.contains("keep/a.bin: it is not pinned; `braidfs status --json` lists the pins"), "{text}");
    said(&place, "pin", &["keep"], 0);
    let text = said(&place, "unpin", &["keep/a.bin"], 1);
    assert!(text.contains("it is not pinned by itself: unpin ") && text.contains("/keep, in which it lies"), "{text}");
    assert_eq!(mount.status()["pins"].as_array().map(Vec::len), Some(2));
    let text = said(&place, "status", &["keep/a.bin"], 0);
    assert!(text.contains("on disk, pinned\n"), "{text}");
    let text = said(&place, "status", &["go/1.bin"], 0);
    assert!(text.contains("on disk\n"), "{text}");
    mount.umount();
}

#[test]
fn what_is_evicted_is_gone_and_comes_again_while_open_files_are_read_on() {
    let (mut mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = mounted(&place, &mirrors, &[]);
    let opened = fs::File::open(mount.path("keep/a.bin")).unwrap();
    assert!(run(&place, "prefetch", &["keep", "single.bin"], &[]).status.success());
    let used = mount.number("disk_bytes");
    let text = said(&place, "evict", &["keep"], 0);
    assert!(text.starts_with("21 files evicted: 4.77 MiB on disk"), "{text}");
    assert_eq!((on_disk_bytes(&place, "keep/a.bin"), on_disk_bytes(&place, "single.bin")), (0, SIZE));
    // The tables may have grown meanwhile.
    assert!(mount.number("disk_bytes") + SIZE / 2 <= used, "its room is back");
    mirrors.iter().for_each(FaultyMirror::forget);
    reading::forget_kernel_pages(&mount.path("keep/a.bin"));
    reading::generated_at(&opened, 100, 1_000_000, 100_000).unwrap();
    assert!(data_bytes(&mirrors) > 0, "nothing of it was left");
    drop(opened);
    read(&mount, "keep/a.bin", 100);
    // What is pinned stays, and is named; the rest of what was asked for goes. No mirror is needed for it.
    said(&place, "pin", &["single.bin"], 0);
    mirrors.iter_mut().for_each(FaultyMirror::down);
    let text = said(&place, "evict", &["single.bin", "keep"], 1);
    assert!(text.contains("single.bin: it is pinned: it stays; `braidfs unpin` first"), "{text}");
    let text = said(&place, "evict", &[""], 1);
    assert!(text.contains("single.bin: it is pinned"), "{text}");
    read(&mount, "single.bin", 101);
    let text = said(&place, "evict", &["keep/nothing"], 1);
    assert!(text.contains("keep/nothing: nothing of it is cached, and "), "{text}");
    mount.umount();
}

/// Turn over a byte in the middle of the largest file of pages in the cache.
fn rot(place: &Place) {
    let files = dataset::files(&place.cache());
    let pages = files.into_iter().filter(|file| file.path.extension().is_some_and(|end| end == "pages"));
    let largest = pages.max_by_key(|file| fs::metadata(place.cache().join(&file.path)).unwrap().len()).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(place.cache().join(largest.path)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, SIZE / 2).unwrap();
    file.write_all_at(&[!byte[0]], SIZE / 2).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn verify_finds_a_flipped_byte_and_it_is_fetched_again() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = mounted(&place, &mirrors, &[]);
    assert!(run(&place, "prefetch", &["single.bin", "keep/small 1"], &[]).status.success());
    let text = said(&place, "verify", &[""], 0);
    assert!(text.starts_with("2 files, 4.77 MiB read from disk in ") && text.ends_with(": all match\n"), "{text}");
    rot(&place);
    let output = run(&place, "verify", &["single.bin"], &["--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let damaged = lines.iter().find_map(|line| line.get("damaged")).unwrap_or_else(|| panic!("{text}"));
    let at = SIZE / 2 / 4096 * 4096;
    assert_eq!(*damaged, serde_json::json!({"path": "single.bin", "offset_bytes": at, "bytes": 4096}));
    let result = &lines.last().unwrap()["result"];
    assert_eq!(
        (output.status.code(), &result["damaged_bytes"], &result["bytes"]),
        (Some(1), &4096.into(), &SIZE.into())
    );
    assert_eq!(on_disk_bytes(&place, "single.bin"), SIZE - 4096);
    mount.umount();
    // The daemon's memory is gone: what is read now is what is on the disk, and what is fetched again.
    let mount = mounted(&place, &mirrors, &[]);
    mirrors.iter().for_each(FaultyMirror::forget);
    read(&mount, "single.bin", 101);
    let fetched = data_bytes(&mirrors);
    assert!((4096..SIZE / 2).contains(&fetched), "{fetched} bytes for one page");
    written(&mount);
    wait::until("it is whole on disk again", || on_disk_bytes(&place, "single.bin") == SIZE);
    said(&place, "verify", &["single.bin"], 0);
    mount.umount();
}

#[test]
fn the_scrub_drops_a_flipped_byte_before_anybody_reads_it() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = mounted(&place, &mirrors, &[]);
    assert!(run(&place, "prefetch", &["single.bin"], &[]).status.success());
    mount.umount();
    rot(&place);
    let mount = mounted(&place, &mirrors, &["--scrub-rate", "1GB/s"]);
    let counter = |name: &str| mount.status()["counters"][name].as_u64();
    wait::until("the scrub has read it all", || counter("disk_verified_bytes") == Some(SIZE));
    assert_eq!(counter("disk_damaged_pages"), Some(1));
    wait::until("the page is dropped", || on_disk_bytes(&place, "single.bin") == SIZE - 4096);
    let text = said(&place, "status", &[""], 0);
    assert!(text.contains("damaged  1 cached pages did not match"), "{text}");
    read(&mount, "single.bin", 101);
    mount.umount();
}
