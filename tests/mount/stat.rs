//! `braidfs stat`: what is known of files and folders, and a map of what is cached.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Content, FaultyMirror, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::wait;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Output;

const SIZE: u64 = 8 << 20;

fn tree() -> Tree {
    let tree = Tree::new().with_generated("in/data.bin", 1, SIZE).with_generated("in/deep/more.bin", 2, SIZE);
    tree.with("in/small", *b"small").with("other", *b"other")
}

fn stat(place: &Place, paths: &[&str], options: &[&str]) -> Output {
    let mut words: Vec<OsString> = vec!["stat".into()];
    words.extend(paths.iter().map(|path| place.mountpoint().join(path).into_os_string()));
    words.extend(options.iter().map(OsString::from));
    place.braidfs(words)
}

fn reports(place: &Place, paths: &[&str]) -> Vec<Value> {
    let output = stat(place, paths, &["--json"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn report(place: &Place, path: &str) -> Value {
    reports(place, &[path]).remove(0)
}

fn prefetch(mount: &Mount, place: &Place, path: &str) {
    let output = place.braidfs(["prefetch".into(), mount.path(path)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_file_is_shown_with_a_map_that_grows() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--memory", "64MiB"]);
    let nothing = report(&place, "in/data.bin");
    assert_eq!((&nothing["cached_bytes"], &nothing["map"]), (&json!(0), &json!([])), "{nothing:#}");
    assert_eq!((&nothing["kind"], &nothing["complete"]), (&json!("file"), &json!(false)), "{nothing:#}");
    // One page from the middle: nobody reads ahead for that.
    fs::File::open(mount.path("in/data.bin")).unwrap().read_exact_at(&mut [0; 4096], SIZE / 2).unwrap();
    let mut part = Value::Null;
    wait::until("what came is durable", || {
        part = report(&place, "in/data.bin");
        part["cached_bytes"].as_u64() >= Some(4096) && part["on_disk_bytes"] == part["cached_bytes"]
    });
    let run = part["map"].as_array().expect("runs").iter().find(|run| run["offset_bytes"].as_u64() <= Some(SIZE / 2));
    let run = run.unwrap_or_else(|| panic!("{part:#}"));
    assert!(run["bytes"].as_u64() < Some(SIZE) && run["cached_bytes"] == run["bytes"], "{part:#}");
    assert!(["disk", "both"].map(Value::from).contains(&run["where"]), "{part:#}");
    let sum = part["map"].as_array().unwrap().iter().filter_map(|run| run["bytes"].as_u64()).sum::<u64>();
    assert_eq!((Some(sum), &part["map_merged"]), (part["cached_bytes"].as_u64(), &json!(false)), "{part:#}");
    let cells = part["cells"].as_str().expect("cells");
    assert!(cells.len() == 64 && cells.starts_with('.') && cells[32..33] != *".", "{cells}");
    prefetch(&mount, &place, "in/data.bin");
    let output = stat(&place, &["in/data.bin"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let map = format!("map      {}\n         # on disk  m in memory  : in part  . not here\n", "#".repeat(64));
    assert!(text.ends_with(&map) && text.contains("(100 %): ") && text.contains(" on disk, complete\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let whole = report(&place, "in/data.bin");
    assert_eq!(
        (&whole["complete"], &whole["on_disk_bytes"], &whole["size"]),
        (&json!(true), &json!(SIZE), &json!(SIZE))
    );
    assert!(whole["modified_unix_s"].is_i64() && whole["mirrors"].as_array().map(Vec::len) == Some(2), "{whole:#}");
    mount.umount();
}

#[test]
fn without_a_disk_what_is_cached_is_in_memory() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--cache-dir", "none"]);
    assert_eq!(fs::read(mount.path("in/small")).unwrap(), b"small");
    let small = report(&place, "in/small");
    let run = json!([{"offset_bytes": 0, "bytes": 5, "cached_bytes": 5, "where": "memory"}]);
    assert_eq!((&small["map"], &small["complete"]), (&run, &json!(false)), "{small:#}");
    assert_eq!(small["cells"], "m".repeat(64));
    let root = report(&place, "");
    assert_eq!(
        (&root["cached_files"], &root["in_memory_bytes"], &root["on_disk_bytes"]),
        (&json!(1), &json!(5), &json!(0))
    );
    mount.umount();
}

#[test]
fn a_mirror_that_has_the_file_otherwise_is_named() {
    let (mirrors, place) = (mirrors(3, &tree()), Place::new());
    mirrors[2].put("other", Content::Bytes((*b"longer than the others'").into()));
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let url = mirrors[2].url();
    wait::until("the third mirror was heard", || {
        fs::metadata(mount.path("other")).unwrap();
        report(&place, "other")["dissenters"][0]["url"] == url
    });
    let text = String::from_utf8(stat(&place, &["other"], &[]).stdout).unwrap();
    assert!(text.contains(&format!("not used {url}: ")) && !text.contains(&format!("mirror   {url}")), "{text}");
    mount.umount();
}

#[test]
fn a_folder_is_the_sum_of_what_is_cached_below_it_and_no_mirror_is_asked() {
    let (mut mirrors, place) = (mirrors(2, &tree()), Place::new());
    let urls = faulty_urls(&mirrors);
    let mount = place.mount(&urls, &[]);
    prefetch(&mount, &place, "in/deep");
    assert_eq!(fs::read(mount.path("in/small")).unwrap(), b"small");
    assert_eq!(fs::read(mount.path("other")).unwrap(), b"other");
    let is_durable = |path: &str| {
        let seen = report(&place, path);
        seen["cached_bytes"] != 0 && seen["on_disk_bytes"] == seen["cached_bytes"]
    };
    wait::until("all of it is durable", || is_durable("in/small") && is_durable("other"));
    let sums = |place: &Place| {
        let all = reports(place, &["", "in", "in/deep"]);
        let of = |it: &Value| {
            (it["kind"].clone(), it["cached_files"].clone(), it["on_disk_bytes"].clone(), it["cached_bytes"].clone())
        };
        all.iter().map(of).collect::<Vec<_>>()
    };
    let wanted = [(3, SIZE + 10), (2, SIZE + 5), (1, SIZE)]
        .map(|(files, bytes)| (json!("folder"), json!(files), json!(bytes), json!(bytes)));
    let asked = || mirrors.iter().map(|mirror| mirror.requests().len()).sum::<usize>();
    let before = asked();
    assert_eq!(sums(&place), wanted);
    assert_eq!(asked(), before, "a mirror was asked");
    mount.umount();
    // After a restart nothing of it is in memory, and no mirror is there.
    mirrors.iter_mut().for_each(FaultyMirror::down);
    let mount = place.mount(&urls, &[]);
    assert_eq!(sums(&place), wanted);
    let text = String::from_utf8(stat(&place, &["in"], &[]).stdout).unwrap();
    assert!(
        text.starts_with("in: a folder\ncached   8.00 MiB of 2 files below it: 0 B in memory, 8.00 MiB on disk\n"),
        "{text}"
    );
    mount.umount();
}

#[test]
fn each_path_in_turn_and_1_where_one_failed() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let output = stat(&place, &["in/nothing", "other"], &[]);
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{text} {said}");
    assert!(said.contains("in/nothing: no mirror has it") && text.starts_with("other\nsize     5 B"), "{text} {said}");
    let output = stat(&place, &["other", "../home", "in"], &["--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!((output.status.code(), lines.len()), (Some(1), 3), "{text}");
    assert_eq!((&lines[0]["path"], &lines[2]["path"]), (&json!("other"), &json!("in")));
    assert!(lines[1]["error"]["message"].as_str().is_some_and(|message| message.contains("home")), "{text}");
    assert_eq!(place.braidfs(["stat"]).status.code(), Some(2));
    mount.umount();
}
