//! `mirrors` and `explain` asked about what is not there: exit code not 0, nothing on stdout but JSON, and a
//! message with the input and the way out.

use crate::support::faulty::{Fault, FaultyMirror, Rule, Tree};
use crate::support::mounted::Place;

fn mirror() -> FaultyMirror {
    FaultyMirror::start(Tree::new().with("data.bin", *b"12345").with("folder/b", *b"b").with("empty", *b""))
}

/// `braidfs WORDS` must end with `code`, say each of `wanted` in one message, and with `--json` there too.
fn refused(place: &Place, words: &[&str], code: i32, wanted: &[&str]) {
    let output = place.braidfs(words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    assert!(output.stdout.is_empty() && !said.contains("panicked"), "{words:?}: {said}");
    let has_all = |said: &str| {
        wanted.iter().for_each(|word| assert!(said.contains(word), "{words:?}: no {word:?} in: {said}"));
    };
    has_all(&said);
    if code == 1 {
        assert!(said.starts_with("braidfs: ") && said.lines().count() == 1, "{words:?}: {said}");
        let json = place.braidfs(words.iter().chain(&["--json"]));
        let value: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON value");
        // Not compared as a whole: other mounts that a message lists come and go.
        let message = value["error"]["message"].as_str().unwrap();
        has_all(&format!("braidfs: {message}"));
        assert_eq!(json.status.code(), Some(1), "{message}");
    }
}

#[test]
fn files_folders_and_offsets_that_are_none() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &[]);
    let path = |name: &str| mount.path(name).to_str().unwrap().to_owned();
    let bytes = "the file has 5 bytes; give an offset below that";
    for (name, wanted) in [
        ("nothing.bin", vec!["no mirror has a file of this name", "`ls` shows"]),
        ("nothing.bin:0", vec!["no mirror has a file of this name"]),
        ("data.bin/b", vec!["no mirror has a file of this name"]),
        ("folder", vec!["it is a folder", "name a file in it, or the mountpoint"]),
        ("folder:5", vec!["it is a folder"]),
        ("data.bin:5", vec!["there is no byte 5", bytes]),
        ("data.bin:18446744073709551615", vec!["there is no byte 18446744073709551615", bytes]),
        ("empty:0", vec!["there is no byte 0", "the file has 0 bytes", "or none for the whole file"]),
        ("data.bin:4k", vec!["what stands after the colon is no offset", "FILE:1048576"]),
        ("data.bin:-1", vec!["is no offset"]),
        ("data.bin:99999999999999999999", vec!["is no offset"]),
    ] {
        let path = path(name);
        let whole = format!("braidfs: {path}: ");
        refused(&place, &["explain", &path], 1, &[&[whole.as_str()], wanted.as_slice()].concat());
    }
    // What is asked about is there beside it.
    let output = place.braidfs(["explain", &path("data.bin:4")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    mount.umount();
}

#[test]
fn a_file_that_cannot_be_looked_up() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &[]);
    mirror.add(Rule::everywhere(Fault::Status { code: 500, retry_after_s: None }));
    let path = mount.path("folder/c").to_str().unwrap().to_owned();
    refused(&place, &["explain", &path], 1, &[&path, "it cannot be looked up", "`braidfs status` shows the mirrors"]);
    mount.umount();
}

#[test]
fn paths_outside_the_mount_list_the_mounts() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &[]);
    let mountpoint = place.mountpoint().to_str().unwrap().to_owned();
    let there_are = "is under no braidfs mount; there are: ";
    let home = place.path("home").to_str().unwrap().to_owned();
    refused(&place, &["explain", &home], 1, &[&home, there_are, &mountpoint]);
    refused(&place, &["mirrors", &home], 1, &[&home, there_are, &mountpoint]);
    for command in ["pin", "unpin", "evict", "verify"] {
        refused(&place, &[command, &home], 1, &[&home, there_are, &mountpoint]);
        refused(&place, &[command, &mountpoint, &home], 1, &[&home, there_are, &mountpoint]);
        refused(&place, &[command], 2, &["required arguments were not provided", "<PATH>..."]);
    }
    // A mountpoint has no bytes: it is no path in the mount then.
    let offset = format!("{mountpoint}:5");
    refused(&place, &["explain", &offset], 1, &[&offset, there_are]);
    mount.umount();
}

#[test]
fn strategies_and_numbers_that_are_none() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &[]);
    let mountpoint = place.mountpoint().to_str().unwrap().to_owned();
    let names = "give round-robin, weighted-random, response-time-first, adaptive or predicted";
    refused(&place, &["mirrors", &mountpoint, "--strategy", "fastest"], 2, &["fastest", "--strategy", names]);
    refused(&place, &["mirrors", &mountpoint, "--strategy", "Adaptive"], 2, &["\"Adaptive\"", names]);
    for (last, wanted) in [("0", "0 is not in 1..=4096"), ("4097", "4097 is not in 1..=4096"), ("all", "'all'")] {
        refused(&place, &["explain", &mountpoint, "--last", last], 2, &["--last", wanted]);
    }
    // Nothing was switched by it.
    let output = place.braidfs(["mirrors", &mountpoint]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("strategy    adaptive"), "{output:?}");
    mount.umount();
}

#[test]
fn what_is_not_pinned_or_not_there_cannot_be_unpinned_or_pinned() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &[]);
    let path = |name: &str| mount.path(name).to_str().unwrap().to_owned();
    let (file, nothing) = (path("data.bin"), path("nothing.bin"));
    refused(&place, &["pin", &file, &nothing], 1, &[&nothing, "no mirror has a file of this name", "`ls` shows"]);
    refused(&place, &["unpin", &file], 1, &[&file, "it is not pinned", "`braidfs status --json` lists the pins"]);
    assert!(mount.status()["pins"].as_array().unwrap().is_empty(), "all or nothing");
    mount.umount();
}

#[test]
fn without_a_cache_folder_nothing_can_be_pinned_or_verified() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &["--cache-dir", "none"]);
    let file = mount.path("data.bin").to_str().unwrap().to_owned();
    for command in ["pin", "unpin", "verify"] {
        refused(
            &place,
            &[command, &file],
            1,
            &["this mount keeps nothing on disk (--cache-dir none)", "--cache-dir DIR"],
        );
    }
    let output = place.braidfs(["evict", &file]);
    assert!(output.status.success(), "memory is evicted all the same: {}", String::from_utf8_lossy(&output.stderr));
    mount.umount();
}

#[test]
fn experiments_that_are_none() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &[]);
    let mountpoint = place.mountpoint().to_str().unwrap().to_owned();
    let start = |words: &[&'static str], wanted: &[&str]| {
        let all: Vec<&str> = ["ab", mountpoint.as_str(), "--start"].into_iter().chain(words.iter().copied()).collect();
        refused(&place, &all, 2, wanted);
    };
    start(&["--arms", "control=50,live=40"], &["--arms", "the shares sum to 90", "they must sum to 100"]);
    start(&["--arms", "control=50,canary=50"], &["\"canary\" is no arm", "control, live and predictor"]);
    start(&["--arms", "live=100"], &["control has no share", "give it 5 or more"]);
    start(&["--arms", "half"], &["\"half\" is no share", "ARM=PERCENT"]);
    start(&["--slice", "200ms"], &["--slice", "a slice of 200ms is over before", "give 1s or more"]);
    start(&["--slice", "1h"], &["give 10min or less"]);
    start(&["--slice", "10"], &["\"10\" is not a duration"]);
    start(&["--stop"], &["cannot be used with"]);
    refused(&place, &["ab", &mountpoint, "--slice", "10s"], 2, &["--start"]);
    let none = ["no experiment runs on this mount", "`braidfs ab PATH --start` starts one"];
    refused(&place, &["ab", &mountpoint], 1, &none);
    refused(&place, &["ab", &mountpoint, "--stop"], 1, &none);
    let begun = place.braidfs(["ab", &mountpoint, "--start", "--arms", "control=50,predictor=50"]);
    let said = String::from_utf8_lossy(&begun.stdout);
    assert!(begun.status.success() && said.starts_with("an experiment has begun, in slices of 10.0 s"), "{begun:?}");
    let runs = ["an experiment runs on this mount already", "--stop ends it"];
    refused(&place, &["ab", &mountpoint, "--start"], 1, &runs);
    let shown = place.braidfs(["ab", &mountpoint]);
    let said = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success() && said.contains("nothing to be said of predictor yet"), "{shown:?}");
    mount.umount();
}
