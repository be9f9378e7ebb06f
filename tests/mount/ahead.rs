//! Who goes through a folder in order finds the next names here already; who does not is sent nothing for them.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::{reading, wait};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const FILES: u64 = 60;
const SIZE: u64 = 20_000;

fn file(at: u64) -> String {
    format!("files/{at:03}")
}

fn tree() -> Tree {
    let tree = (0..FILES).fold(Tree::new(), |tree, at| tree.with_generated(file(at), at, SIZE));
    let tree = (0..FILES).fold(tree, |tree, at| tree.with(format!("folders/{at:03}/one"), *b"1"));
    (0..9).fold(tree, |tree, at| tree.with_generated(format!("large/{at}"), at, 100_000))
}

fn open(mount: &Mount, at: u64) {
    reading::generated(&mount.path(file(at)), at, SIZE);
}

fn paths(mirror: &FaultyMirror) -> BTreeSet<String> {
    let path = |request: &crate::support::faulty::Request| String::from_utf8(request.path.clone()).unwrap();
    mirror.requests().iter().map(path).collect()
}

fn files_asked_for(mirror: &FaultyMirror) -> BTreeSet<String> {
    paths(mirror).into_iter().filter(|path| path.starts_with("files/") && !path.ends_with('/')).collect()
}

/// With a disk cache and without.
fn with_each_cache(test: impl Fn(&FaultyMirror, &Mount)) {
    for options in [&["--cache-dir", "none"][..], &[]] {
        let (mirrors, place) = (mirrors(1, &tree()), Place::new());
        let mount = place.mount(&faulty_urls(&mirrors), options);
        test(&mirrors[0], &mount);
        mount.umount();
    }
}

#[test]
fn files_that_are_read_in_order_are_fetched_before_they_are_opened_and_once() {
    with_each_cache(|mirror, mount| {
        fs::read_dir(mount.path("files")).unwrap().for_each(drop);
        (0..3).for_each(|at| open(mount, at));
        wait::until("the next ones are asked for", || files_asked_for(mirror).contains(&file(6)));
        (3..FILES).for_each(|at| open(mount, at));
        assert_eq!(files_asked_for(mirror).len() as u64, FILES);
        assert_eq!(mirror.data_requests().len() as u64, FILES, "each once");
    });
}

#[test]
fn files_that_are_read_here_and_there_bring_no_others() {
    with_each_cache(|mirror, mount| {
        fs::read_dir(mount.path("files")).unwrap().for_each(drop);
        let read: Vec<u64> = (0..20).map(|at| at * 37 % FILES).collect();
        read.iter().for_each(|&at| open(mount, at));
        assert_eq!(files_asked_for(mirror), read.iter().map(|&at| file(at)).collect());
    });
}

#[test]
fn folders_that_are_listed_in_order_are_listed_before_they_are_opened_and_once() {
    with_each_cache(|mirror, mount| {
        let list = |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let mut folders = list(&mount.path("folders"));
        folders.sort();
        folders[..3].iter().for_each(|folder| drop(list(folder)));
        wait::until("the next ones are asked for", || paths(mirror).contains("folders/006/"));
        folders[3..].iter().for_each(|folder| assert_eq!(list(folder).len(), 1));
        let listed = mirror.requests().iter().filter(|request| request.path.starts_with(b"folders/0")).count();
        assert_eq!(listed as u64, FILES, "each once");
    });
}

/// Who looks at the beginning of each of many files pays for that and no more.
#[test]
fn of_large_files_nothing_is_brought() {
    with_each_cache(|mirror, mount| {
        fs::read_dir(mount.path("large")).unwrap().for_each(drop);
        for at in 0..6 {
            let file = fs::File::open(mount.path(format!("large/{at}"))).unwrap();
            reading::generated_at(&file, at, 0, 4096).unwrap();
        }
        let sent: u64 = mirror.data_bytes();
        assert!(sent <= 6 * (64 << 10), "{sent} bytes");
        assert!(!paths(mirror).contains("large/6"));
    });
}

/// Who goes from folder to folder finds the first files of the next one here; who stays in one is sent nothing of another.
#[test]
fn who_reads_folder_after_folder_gets_the_next_folder_before_it_is_opened() {
    const EACH: u64 = 12;
    let name = |folder: u64, at: u64| format!("walked/{folder}/{at:03}");
    let places = (0..5).flat_map(|folder| (0..EACH).map(move |at| (folder, at)));
    let tree = places.fold(Tree::new(), |tree, (folder, at)| tree.with_generated(name(folder, at), at, SIZE));
    let (mirrors, place) = (mirrors(1, &tree), Place::new());
    let (mirror, mount) = (&mirrors[0], place.mount(&faulty_urls(&mirrors), &[]));
    let read = |folder: u64| (0..EACH).for_each(|at| reading::generated(&mount.path(name(folder, at)), at, SIZE));
    read(1);
    assert!(!paths(mirror).contains("walked/2/"), "one folder is no walk through folders");
    read(2);
    wait::until("files of the next one are asked for", || paths(mirror).contains(&name(3, 0)));
    assert!(!paths(mirror).contains(&name(4, 0)));
    (3..5).for_each(read);
    assert_eq!(mirror.data_requests().len() as u64, 4 * EACH, "each once");
    mount.umount();
}
