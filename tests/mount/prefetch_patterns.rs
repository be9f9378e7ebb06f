//! `braidfs prefetch` of patterns that no shell has expanded.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::{Fault, FaultyMirror, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::process::run;
use crate::support::{reading, wait};
use std::path::PathBuf;
use std::process::Output;

const SIZE: u64 = 300_001;

fn tree() -> Tree {
    let names =
        ["2024/01/a.bin", "2024/01/deep/b.bin", "2024/02/c.txt", "2023/01/d.bin", "e.bin", "odd/*.bin", "odd/f.bin"];
    names.iter().zip(0..).fold(Tree::new(), |tree, (name, seed)| tree.with_generated(name, seed, SIZE))
}

/// Run in a folder; exit code, and all that was said.
fn prefetch(place: &Place, folder: PathBuf, words: &[&str]) -> (Option<i32>, String) {
    let output: Output = run(place.command().current_dir(folder).arg("prefetch").args(words));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

/// The files of which all is on disk.
fn here(place: &Place, mount: &Mount) -> Vec<&'static str> {
    let names =
        ["2024/01/a.bin", "2024/01/deep/b.bin", "2024/02/c.txt", "2023/01/d.bin", "e.bin", "odd/*.bin", "odd/f.bin"];
    let is_here = |name: &&str| {
        let output = place.braidfs(["status".into(), mount.path(name).into_os_string(), "--json".into()]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        status["on_disk_bytes"] == SIZE
    };
    names.into_iter().filter(is_here).collect()
}

#[test]
fn a_pattern_brings_what_matches_and_nothing_else() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let (code, said) = prefetch(&place, place.path(""), &["mnt/2024/**/*.bin"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 of 2 files"), "{said}");
    assert_eq!(here(&place, &mount), ["2024/01/a.bin", "2024/01/deep/b.bin"]);
    // From within the mount; a folder that matches comes with all that is in it.
    let (code, said) = prefetch(&place, mount.path("2024"), &["0[2]", "../e.*"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(here(&place, &mount), ["2024/01/a.bin", "2024/01/deep/b.bin", "2024/02/c.txt", "e.bin"]);
    assert!(data_bytes(&mirrors) < 5 * SIZE, "nothing else was fetched");
    mount.umount();
}

#[test]
fn a_name_that_exists_wins_over_its_pattern() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let (code, said) = prefetch(&place, place.path(""), &["mnt/odd/*.bin"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(here(&place, &mount), ["odd/*.bin"]);
    mount.umount();
}

#[test]
fn what_matches_nothing_or_is_no_pattern_is_named_and_the_rest_comes() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let words = ["mnt/2024/*.parquet", "mnt/a[", "mnt/e.bin/*", "mnt/e.bin"];
    let (code, said) = prefetch(&place, place.path(""), &words);
    assert_eq!(code, Some(1), "{said}");
    let shown = |name: &str| mount.path(name).display().to_string();
    assert!(said.contains(&format!("{}: no file or folder matches this pattern", shown("2024/*.parquet"))), "{said}");
    let no_pattern = format!("{}: no mirror has it, and it is not a pattern: unclosed character class", shown("a["));
    assert!(said.contains(&no_pattern), "{said}");
    assert!(said.contains(&format!("{}: it is not a folder", shown("e.bin/*"))), "{said}");
    assert_eq!(here(&place, &mount), ["e.bin"]);
    mount.umount();
}

#[test]
fn a_job_keeps_its_pattern_over_a_restart() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    // Nothing of it can end before the daemon does.
    mirrors[0].always(Fault::Shape { bytes_per_second: 1000 });
    let (code, said) = prefetch(&place, place.path(""), &["--no-wait", "mnt/2024/**/*.bin"]);
    assert_eq!(code, Some(0), "{said}");
    wait::until("it has begun", || mirrors[0].data_bytes() > 0);
    mount.kill9();
    mirrors.iter().for_each(FaultyMirror::honest);
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    wait::until("the job has ended", || mount.status()["jobs"][0]["state"] == "done");
    assert_eq!(mount.status()["jobs"][0]["paths"][0], "2024/**/*.bin");
    assert_eq!(here(&place, &mount), ["2024/01/a.bin", "2024/01/deep/b.bin"]);
    reading::generated(&mount.path("2024/01/deep/b.bin"), 1, SIZE);
    mount.umount();
}
