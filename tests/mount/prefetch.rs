//! `braidfs prefetch`: done only when durable, and truthful about what failed.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::{Fault, FaultyMirror, Rule, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::reading;
use std::ffi::OsString;
use std::process::Output;

const SIZE: u64 = 4_000_003;

fn tree() -> Tree {
    let tree = Tree::new().with_generated("job/a.bin", 1, SIZE).with_generated("job/deeper/b.bin", 2, SIZE);
    tree.with("job/notes.txt", *b"notes").with("job/empty", *b"").with_generated("not wanted.bin", 3, SIZE)
}

fn prefetch(place: &Place, paths: &[&str], options: &[&str]) -> Output {
    let mut words: Vec<OsString> = vec!["prefetch".into()];
    words.extend(paths.iter().map(|path| place.mountpoint().join(path).into_os_string()));
    words.extend(options.iter().map(OsString::from));
    place.braidfs(words)
}

fn check_job(mount: &Mount) {
    reading::generated(&mount.path("job/a.bin"), 1, SIZE);
    reading::generated(&mount.path("job/deeper/b.bin"), 2, SIZE);
    assert_eq!(std::fs::read(mount.path("job/notes.txt")).unwrap(), b"notes");
}

#[test]
fn what_was_prefetched_is_read_offline_even_after_a_kill() {
    let (mut mirrors, place) = (mirrors(2, &tree()), Place::new());
    let urls = faulty_urls(&mirrors);
    let mount = place.mount(&urls, &[]);
    let output = prefetch(&place, &["job"], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Durable when it returns: not even the daemon is needed any more.
    mount.kill9();
    let fetched = data_bytes(&mirrors);
    assert!((2 * SIZE..3 * SIZE).contains(&fetched), "{fetched}");
    mirrors.iter_mut().for_each(FaultyMirror::down);
    let mount = place.mount(&urls, &[]);
    check_job(&mount);
    mount.umount();
}

#[test]
fn a_second_prefetch_fetches_nothing() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    assert!(prefetch(&place, &["job"], &[]).status.success());
    mirrors.iter().for_each(FaultyMirror::forget);
    assert!(prefetch(&place, &["job/a.bin", "job"], &["--json"]).status.success());
    assert_eq!(data_bytes(&mirrors), 0);
    check_job(&mount);
    mount.umount();
}

#[test]
fn who_brings_it_is_told() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    // Not for the job, so not in its figures.
    reading::generated(&mount.path("not wanted.bin"), 3, SIZE);
    mirrors.iter().for_each(FaultyMirror::forget);
    let output = prefetch(&place, &["job"], &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let result: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let shares = result["result"]["progress"]["mirrors"].as_array().unwrap();
    let mut all = 0;
    for mirror in &mirrors {
        let told = shares.iter().find(|share| share["url"] == mirror.url().as_str());
        let told = told.map_or(0, |share| share["bytes_fetched"].as_u64().unwrap());
        // Pages that were compared come on top.
        let sent = mirror.data_bytes();
        assert!(told <= sent && sent <= told + 64 * 1024, "{told} of {sent}: {text}");
        all += told;
    }
    assert_eq!(all, 2 * SIZE + 5, "{text}");
    mount.umount();
}

#[test]
fn what_failed_is_named_and_the_rest_is_there() {
    let (mut mirrors, place) = (mirrors(1, &tree()), Place::new());
    mirrors[0].add(Rule::new(Fault::Status { code: 404, retry_after_s: None }).under("job/deeper/b.bin"));
    let mount = place.mount(&faulty_urls(&mirrors), &["--read-timeout", "5s"]);
    let output = prefetch(&place, &["job"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("b.bin") && !said.contains("a.bin"), "{said}");
    mirrors[0].down();
    reading::generated(&mount.path("job/a.bin"), 1, SIZE);
    mount.umount();
}

#[test]
fn a_path_that_does_not_exist_is_an_error() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let output = prefetch(&place, &["job/nothing"], &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("nothing"), "{said}");
    mount.umount();
}

/// Hours that neither hold now nor begin within the next minutes.
fn closed_hours() -> (String, String) {
    let hour = (braidfs::clock::local_second_of_day() / 3600 + 12) % 24;
    (format!("{hour:02}:00-{hour:02}:30"), format!("{hour:02}:00"))
}

#[test]
fn what_a_rule_gives_other_hours_waits_and_the_rest_is_fetched() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let (hours, begins) = closed_hours();
    let text = format!(
        "[[mirror]]\nurl = \"{}\"\n[[rule]]\npath = \"job/deeper/**\"\nprefetch-hours = \"{hours}\"\n\
         [[rule]]\npath = \"job/*.bin\"\nclass = \"prefetch\"\n",
        faulty_urls(&mirrors)[0]
    );
    std::fs::write(place.path("rules.toml"), text).unwrap();
    let mount = place.mount(&[place.path("rules.toml").to_str().unwrap()], &[]);
    let output = prefetch(&place, &["job"], &["--no-wait"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut status = String::new();
    crate::support::wait::until("three of four files, and one that waits", || {
        let output = place.braidfs(["status".into(), place.mountpoint().into_os_string()]);
        status = String::from_utf8_lossy(&output.stdout).into_owned();
        status.contains("3 of 4 files") && status.contains(&format!("1 file waits until {begins}"))
    });
    assert!(data_bytes(&mirrors) < SIZE + SIZE / 2, "the file that waits is not fetched: {status}");
    // Who reads it does not wait; nor does a reader of what is ruled to be prefetch.
    check_job(&mount);
    mount.umount();
}

#[test]
fn no_wait_returns_at_once_and_json_is_json() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    mirrors[0].always(Fault::Shape { bytes_per_second: 2 << 20 });
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let output = prefetch(&place, &["job"], &["--no-wait", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(!lines.is_empty(), "a job has a number");
    let output = prefetch(&place, &["job"], &["--json"]);
    assert!(output.status.success());
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        serde_json::from_str::<serde_json::Value>(line).expect(line);
    }
    check_job(&mount);
    mount.umount();
}
