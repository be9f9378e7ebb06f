//! `braidfs bench`: figures of a live mount, bounded, and honest about what was cached.

use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::Place;
use serde_json::Value;
use std::fs;
use std::process::Output;

const SIZE: u64 = 6 << 20;

fn bench(place: &Place, words: &[&str]) -> (Option<i32>, Output) {
    let output = place.braidfs(["bench"].iter().chain(words));
    (output.status.code(), output)
}

fn json(place: &Place, words: &[&str]) -> Value {
    let (code, output) = bench(place, &[words, &["--json"]].concat());
    assert_eq!(code, Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn pass<'a>(report: &'a Value, name: &str) -> &'a Value {
    let passes = report["passes"].as_array().unwrap();
    passes.iter().find(|pass| pass["name"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

#[test]
fn the_largest_file_is_measured_within_its_bytes_and_nothing_is_evicted() {
    let tree = Tree::new().with("a", *b"a").with_generated("deep/data.bin", 1, SIZE);
    let (place, mirror) = (Place::new(), FaultyMirror::start(tree));
    let mount = place.mount(&[mirror.url()], &["--passthrough=false"]);
    let mountpoint = place.mountpoint().display().to_string();
    let report = json(&place, &[&mountpoint, "--bytes", "4MiB"]);
    assert_eq!((&report["file"]["path"], report["file"]["size"].as_u64()), (&"deep/data.bin".into(), Some(SIZE)));
    assert_eq!(report["file"]["cached_bytes_before"], 0);
    assert_eq!((report["state"].as_str(), report["pid"].as_u64()), (Some("online"), Some(mount.pid().into())));
    assert!(report["mount_options"].as_str().unwrap().starts_with("fuse.braidfs ro"), "{report:#}");
    assert_eq!(pass(&report, "root folder")["count"], 2);
    let cold = pass(&report, "in order");
    assert_eq!(pass(&report, "the same again")["bytes"], cold["bytes"]);
    // What comes ahead of the reader counts where it comes.
    let passes = report["passes"].as_array().unwrap();
    let sum = |name: &str| passes.iter().map(|pass| pass[name].as_u64().unwrap()).sum::<u64>();
    assert!(sum("fetched_bytes") >= cold["bytes"].as_u64().unwrap(), "{report:#}");
    assert!(sum("daemon_read_bytes") >= cold["bytes"].as_u64().unwrap(), "{report:#}");
    assert!(pass(&report, "4 KiB at random")["p99_ms"].as_f64() > Some(0.0));
    assert!((2 << 20..=4 << 20).contains(&sum("bytes")), "{report:#}");
    assert_eq!((report["trouble"].is_null(), &report["mirrors"][0]["url"]), (true, &mirror.url().into()));
    // What was cached before is said, and still there.
    let report = json(&place, &[&format!("{mountpoint}/deep/data.bin")]);
    assert!(report["file"]["cached_bytes_before"].as_u64().unwrap() >= 1 << 20, "{report:#}");
    assert_eq!(pass(&report, "in order")["bytes"], SIZE);
    mount.umount();
}

#[test]
fn text_can_be_pasted_and_has_no_credentials() {
    let (place, mirror) = (Place::new(), FaultyMirror::start(Tree::new().with_generated("a.bin", 1, 100_000)));
    let mount = place.mount(&[mirror.url().replace("http://", "http://joe:s3cret@")], &[]);
    let (code, output) = bench(&place, &[place.mountpoint().to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(code, Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for said in
        ["braidfs 0.", "Linux", "file     a.bin: 97.66 KiB, of which 0 B were cached before", "in order", &mirror.url()]
    {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    assert!(!text.contains("s3cret") && !text.contains("joe"), "{text}");
    mount.umount();
}

#[test]
fn what_cannot_be_measured_is_said() {
    let (place, mirror) = (Place::new(), FaultyMirror::start(Tree::new().with("empty", *b"")));
    let refused = |words: &[&str], wanted: i32, word: &str| {
        let (code, output) = bench(&place, words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code, Some(wanted), "{words:?}: {said}");
        assert!(said.contains(word), "{words:?}: {said}");
    };
    let mountpoint = place.mountpoint().display().to_string();
    refused(&[&mountpoint], 1, "is under no braidfs mount");
    refused(&[&mountpoint, "--bytes", "10"], 2, "--bytes 10 is less than 1MiB");
    refused(&[&mountpoint, "--bytes", "lots"], 2, "is not a size");
    let mount = place.mount(&[mirror.url()], &[]);
    refused(&[&mountpoint], 1, "no file that is not empty was found; give one");
    refused(&[&format!("{mountpoint}/nothing")], 1, "nothing: No such file");
    let (code, output) = bench(&place, &[&format!("{mountpoint}/nothing"), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(code == Some(1) && report["trouble"].as_str().unwrap().contains("No such file"), "{report:#}");
    mount.kill9();
    refused(&[&mountpoint], 2, "is gone");
    assert!(fs::metadata(place.cache()).is_ok());
}
