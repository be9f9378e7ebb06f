//! Mirrors that serve other bytes under the same name, size and date: nothing is mixed, and they are named.

use super::faulty_urls;
use crate::support::faulty::{FaultyMirror, Tree, generate};
use crate::support::mounted::{Mount, Place};
use crate::support::{reading, wait};
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SIZE: u64 = 24 << 20;
const SMALL: u64 = 300_000;
const RIGHT: u64 = 41;
const OTHER: u64 = 99;
const PAGE: usize = 4096;
const EIO: i32 = 5;
const ESTALE: i32 = 116;

/// Mirrors of one tree, as far as a listing shows: one of these seeds is in the files of each.
fn mirrors(seeds: &[u64]) -> Vec<FaultyMirror> {
    let tree = |seed| Tree::new().with_generated("data.bin", seed, SIZE).with_generated("small.bin", seed, SMALL);
    seeds.iter().map(|&seed| FaultyMirror::start(tree(seed))).collect()
}

/// Which of its pages are the right ones and which the other ones, in order. Anything else is nobody's.
fn pages_of(path: &Path) -> Vec<u64> {
    let file = File::open(path).unwrap();
    let (mut got, mut wanted) = (vec![0; PAGE], vec![0; PAGE]);
    let mut pages = Vec::new();
    let mut at = 0;
    while at < SIZE {
        file.read_exact_at(&mut got, at).unwrap_or_else(|error| panic!("at {at}: {error}"));
        let seed = [RIGHT, OTHER].into_iter().find(|&seed| {
            generate(seed, at, &mut wanted);
            wanted == got
        });
        pages.push(seed.unwrap_or_else(|| panic!("the page at {at} is nobody's")));
        at += PAGE as u64;
    }
    pages
}

fn lies(mount: &Mount, url: &str) -> String {
    mount.mirror(url)["lies"].to_string()
}

/// The first mirror that `explain` says is left out of a file.
fn left_out(place: &Place, path: &Path) -> serde_json::Value {
    let said = place.braidfs(["explain", path.to_str().unwrap(), "--json"]).stdout;
    let said = String::from_utf8(said).unwrap();
    let last: serde_json::Value = serde_json::from_str(said.lines().last().expect("a result")).unwrap();
    last["result"]["about"]["left_out"][0].clone()
}

fn is_named(mount: &Mount, url: &str) {
    let said = wait::for_some("the odd one in the status", || {
        let lies = mount.mirror(url)["lies"].to_string();
        lies.contains("other bytes of").then_some(lies)
    });
    assert!(said.contains("data.bin") && said.contains("page "), "{said}");
}

#[test]
fn of_three_with_a_quorum_no_wrong_byte_comes() {
    for odd in 0..3 {
        let mut seeds = [RIGHT; 3];
        seeds[odd] = OTHER;
        let (mirrors, place) = (mirrors(&seeds), Place::new());
        let mount = place.mount(&faulty_urls(&mirrors), &["--verify", "quorum"]);
        reading::generated(&mount.path("data.bin"), RIGHT, SIZE);
        is_named(&mount, &mirrors[odd].url());
        for honest in mirrors.iter().filter(|mirror| mirror.url() != mirrors[odd].url()) {
            assert_eq!(lies(&mount, &honest.url()), "[]", "the honest one is blamed");
        }
        mount.umount();
    }
}

#[test]
fn of_three_by_default_only_what_came_before_the_first_comparison_is_wrong() {
    for odd in 0..3 {
        let mut seeds = [RIGHT; 3];
        seeds[odd] = OTHER;
        let (mirrors, place) = (mirrors(&seeds), Place::new());
        let mount = place.mount(&faulty_urls(&mirrors), &[]);
        let pages = pages_of(&mount.path("data.bin"));
        let last_wrong = pages.iter().rposition(|&seed| seed == OTHER);
        println!("mirror {odd} is the odd one: wrong to page {last_wrong:?}");
        assert!(last_wrong.is_none_or(|page| page < 512), "{last_wrong:?}: wrong bytes after the first comparison");
        is_named(&mount, &mirrors[odd].url());
        // Whoever opens it now sees nothing of them, not in the kernel's memory either.
        assert!(pages_of(&mount.path("data.bin")).iter().all(|&seed| seed == RIGHT));
        mount.umount();
        // Nor from the cache, in another mount.
        let mount = place.mount(&faulty_urls(&mirrors), &[]);
        reading::generated(&mount.path("data.bin"), RIGHT, SIZE);
        mount.umount();
    }
}

#[test]
fn of_two_that_differ_only_one_is_used() {
    let (mirrors, place) = (mirrors(&[RIGHT, OTHER]), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let pages = pages_of(&mount.path("data.bin"));
    let used = pages[0];
    assert!(pages.iter().all(|&seed| seed == used), "two versions are mixed");
    let (first, second) = if used == RIGHT { (0, 1) } else { (1, 0) };
    is_named(&mount, &mirrors[second].url());
    assert_eq!(lies(&mount, &mirrors[first].url()), "[]");
    assert!(mirrors[second].data_bytes_of("data.bin") <= 64 << 10, "it was used");
    let left_out = left_out(&place, &mount.path("data.bin"));
    assert_eq!(left_out["url"].as_str(), Some(mirrors[second].url().as_str()), "{left_out}");
    assert_eq!(left_out["standing"], "differs");
    mount.umount();
}

#[test]
fn two_that_differ_are_no_quorum() {
    let (mirrors, place) = (mirrors(&[RIGHT, OTHER]), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--verify", "quorum"]);
    for name in ["data.bin", "small.bin"] {
        let error = std::fs::read(mount.path(name)).expect_err("nobody confirms it");
        assert_eq!(error.raw_os_error(), Some(EIO), "{name}: {error}");
    }
    assert!(mount.log().contains("no second mirror confirms"), "{}", mount.log());
    assert!(!mount.log().contains("deadline"), "it is known at once: {}", mount.log());
    mount.umount();
}

#[test]
fn a_file_that_only_one_mirror_has_is_no_quorum() {
    let place = Place::new();
    let tree = || Tree::new().with_generated("data.bin", RIGHT, SIZE);
    let mirrors = [tree().with("lone.bin", *b"alone"), tree(), tree()].map(FaultyMirror::start);
    let mount = place.mount(&faulty_urls(&mirrors), &["--verify", "quorum"]);
    let error = std::fs::read(mount.path("lone.bin")).expect_err("nobody confirms it");
    assert_eq!(error.raw_os_error(), Some(EIO), "{error}");
    reading::generated(&mount.path("data.bin"), RIGHT, SIZE);
    mount.umount();
}

#[test]
fn small_files_have_a_quorum_too_and_by_default_come_from_one_mirror() {
    let (mirrors, place) = (mirrors(&[RIGHT; 3]), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("small.bin"), RIGHT, SMALL);
    let asked = mirrors.iter().filter(|mirror| mirror.data_bytes_of("small.bin") > 0).count();
    assert_eq!(asked, 1);
    mount.umount();
    let place = Place::new();
    mirrors.iter().for_each(FaultyMirror::forget);
    let mount = place.mount(&faulty_urls(&mirrors), &["--verify", "quorum"]);
    reading::generated(&mount.path("small.bin"), RIGHT, SMALL);
    let asked = mirrors.iter().filter(|mirror| mirror.data_bytes_of("small.bin") > 0).count();
    assert_eq!(asked, 2);
    mount.umount();
}

#[test]
fn what_was_agreed_on_is_remembered() {
    let (mut mirrors, place) = (mirrors(&[RIGHT; 2]), Place::new());
    let quorum = ["--verify", "quorum"];
    let mount = place.mount(&faulty_urls(&mirrors), &quorum);
    reading::generated(&mount.path("data.bin"), RIGHT, SIZE);
    mount.umount();
    let urls = faulty_urls(&mirrors);
    mirrors.iter_mut().for_each(FaultyMirror::down);
    let mount = place.mount(&urls, &quorum);
    reading::generated(&mount.path("data.bin"), RIGHT, SIZE);
    mount.umount();
}

#[test]
fn the_cache_of_one_is_not_mixed_with_another_that_differs() {
    let (mirrors, place) = (mirrors(&[RIGHT, OTHER]), Place::new());
    let named = ["--name", "same"];
    let mount = place.mount(&[mirrors[0].url()], &named);
    let file = File::open(mount.path("data.bin")).unwrap();
    reading::generated_at(&file, RIGHT, 0, PAGE).unwrap();
    drop(file);
    mount.umount();
    let mount = place.mount(&[mirrors[1].url()], &named);
    let file = File::open(mount.path("data.bin")).unwrap();
    reading::generated_at(&file, RIGHT, 0, PAGE).expect("what is cached is there");
    let error = reading::generated_at(&file, RIGHT, SIZE / 2, PAGE).expect_err("nobody has the rest");
    assert_eq!(error.raw_os_error(), Some(ESTALE), "{error}");
    drop(file);
    // Who opens it from then on has the version of the one that there is.
    wait::until("the other version", || {
        File::open(mount.path("data.bin")).is_ok_and(|file| {
            let (mut got, mut wanted) = (vec![0; PAGE], vec![0; PAGE]);
            generate(OTHER, SIZE / 2, &mut wanted);
            file.read_exact_at(&mut got, SIZE / 2).is_ok() && got == wanted
        })
    });
    reading::generated(&mount.path("data.bin"), OTHER, SIZE);
    mount.umount();
}

#[test]
fn a_page_that_the_disk_has_lost_since_is_no_reason_to_distrust_a_mirror() {
    let tree = || {
        let tree = Tree::new().with_generated("data.bin", RIGHT, SIZE);
        (0..4).fold(tree, |tree, at| tree.with_generated(format!("other {at}.bin"), at, SIZE))
    };
    let (mut mirrors, place) = ([FaultyMirror::start(tree()), FaultyMirror::start(tree())], Place::new());
    let options = ["--memory", "16MiB", "--cache-size", "32MiB", "--read-timeout", "6s", "--read-deadline", "8s"];
    let mount = place.mount(&faulty_urls(&mirrors), &options);
    let file = File::open(mount.path("data.bin")).unwrap();
    mirrors[1].down();
    fadvise(&file, 0, None, Advice::Random).unwrap();
    reading::generated_at(&file, RIGHT, 0, PAGE).unwrap();
    // Out of memory, and then out of the cache on disk.
    for at in 0..4 {
        reading::generated(&mount.path(format!("other {at}.bin")), at, SIZE);
    }
    mirrors[0].down();
    mirrors[1].up();
    reading::generated_at(&file, RIGHT, SIZE / 2, PAGE).expect("the other one has it");
    drop(file);
    mount.umount();
}
