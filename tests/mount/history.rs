//! What one mount measured of its mirrors is where the next one begins.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Fault, FaultyMirror, Rule, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::reading;
use serde_json::Value;

const SIZE: u64 = 8 << 20;
/// A rate that two cores are above even when they are busy.
const SLOW: u64 = 1_000_000;

fn tree() -> Tree {
    Tree::new().with_generated("first.bin", 1, SIZE).with_generated("second.bin", 2, SIZE)
}

/// Three mirrors, of which the last two are slow for files.
fn one_fast_of_three() -> Vec<FaultyMirror> {
    let mirrors = mirrors(3, &tree());
    mirrors[1..].iter().for_each(|mirror| mirror.add(Rule::new(Fault::Shape { bytes_per_second: SLOW })));
    mirrors
}

fn ask(place: &Place, command: &str, options: &[&str]) -> String {
    let path = place.mountpoint().to_str().expect("plain names").to_owned();
    let output = place.braidfs([command, &path].into_iter().chain(options.iter().copied()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What `mirrors` says is supposed of each.
fn supposed(place: &Place) -> Vec<Value> {
    let report: Value = serde_json::from_str(&ask(place, "mirrors", &["--json"])).unwrap();
    report["mirrors"].as_array().unwrap().iter().map(|mirror| mirror["supposed"].clone()).collect()
}

fn rate(supposed: &Value) -> f64 {
    supposed["throughput_bytes_per_second"].as_f64().unwrap_or_else(|| panic!("no rate: {supposed}"))
}

/// Read a file so that each mirror is measured: far more of it than one brings before the others are tried.
fn read_all(mount: &Mount) {
    reading::generated(&mount.path("first.bin"), 1, SIZE);
}

/// The winners of all decisions, the first one first.
fn winners(place: &Place) -> Vec<String> {
    let text = ask(place, "explain", &["--json", "--last", "4096"]);
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    let decisions: Vec<Value> = lines.map(|line| line["decision"].clone()).filter(Value::is_object).collect();
    decisions.iter().rev().map(|it| it["mirrors"][0]["url"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_next_mount_begins_with_the_fast_mirror() {
    let (mirrors, place) = (one_fast_of_three(), Place::new());
    let mut urls = faulty_urls(&mirrors);
    // The name keeps the cache, whichever mirror comes first.
    let named = ["--name", "data"];
    let mount = place.mount(&urls, &named);
    assert_eq!(supposed(&place), vec![Value::Null; 3], "nothing was measured before the first mount");
    read_all(&mount);
    mount.umount();
    // In another order: it is the URL that a history belongs to.
    urls.rotate_left(1);
    let fast = mirrors[0].url();
    for _ in 0..2 {
        // A mount that fetches nothing passes on what it was told.
        let mount = place.mount(&urls, &named);
        let before = supposed(&place);
        assert!(rate(&before[2]) > 2.0 * SLOW as f64, "{before:#?}");
        for slow in before[..2].iter().filter(|slow| !slow.is_null()) {
            assert!(slow["throughput_bytes_per_second"].is_null() || rate(slow) < rate(&before[2]), "{before:#?}");
        }
        let trust = before[2]["trust"].as_f64().unwrap();
        assert!(trust > 0.9 && trust <= 1.0, "{before:#?}");
        let text = ask(&place, "mirrors", &[]);
        assert!(text.contains("(in brackets: measured by an earlier mount, ") && text.contains("iB/s)"), "{text}");
        mount.umount();
    }
    let mount = place.mount(&urls, &named);
    reading::generated(&mount.path("second.bin"), 2, SIZE);
    assert_eq!(winners(&place)[0], fast, "the first decision");
    assert!(supposed(&place)[2].is_null(), "it is measured now");
    mount.umount();
}

#[test]
fn a_killed_mount_keeps_what_the_one_before_it_knew() {
    let (mirrors, place) = (one_fast_of_three(), Place::new());
    let urls = faulty_urls(&mirrors);
    let mount = place.mount(&urls, &[]);
    read_all(&mount);
    mount.umount();
    place.mount(&urls, &[]).kill9();
    place.clear();
    let mount = place.mount(&urls, &[]);
    assert!(rate(&supposed(&place)[0]) > 2.0 * SLOW as f64);
    mount.umount();
}

#[test]
fn without_a_cache_nothing_is_kept() {
    let (mirrors, place) = (one_fast_of_three(), Place::new());
    let urls = faulty_urls(&mirrors);
    for _ in 0..2 {
        let mount = place.mount(&urls, &["--cache-dir", "none"]);
        assert_eq!(supposed(&place), vec![Value::Null; 3]);
        read_all(&mount);
        mount.umount();
    }
}
