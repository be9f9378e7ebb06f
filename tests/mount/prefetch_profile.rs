//! `braidfs prefetch --range`, `--record` and `--profile`.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::Tree;
use crate::support::mounted::{Mount, Place};
use crate::support::process::{Process, run};
use crate::support::{reading, wait};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;

const SIZE: u64 = 16 << 20;
const CHUNK: u64 = 64 << 10;

fn tree() -> Tree {
    let tree = Tree::new().with_generated("d/a.bin", 1, SIZE).with_generated("d/b.bin", 2, SIZE);
    tree.with_generated("c.bin", 3, SIZE).with("d/small.txt", *b"small")
}

/// `braidfs prefetch WORDS` beside the mountpoint; exit code, and all that was said.
fn prefetch(place: &Place, words: &[&str]) -> (Option<i32>, String) {
    let output = run(place.command().current_dir(place.path("")).arg("prefetch").args(words));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

fn on_disk(place: &Place, mount: &Mount, name: &str) -> u64 {
    let output = place.braidfs(["status".into(), mount.path(name).into_os_string(), "--json".into()]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    status["on_disk_bytes"].as_u64().unwrap()
}

/// The lines of a profile: path, offset, bytes.
fn profile(file: &PathBuf) -> Vec<(String, u64, u64)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).expect(line);
        let number = |name: &str| value[name].as_u64().expect(line);
        (value["path"].as_str().expect(line).to_owned(), number("offset"), number("bytes"))
    };
    text.lines().map(line).collect()
}

/// The same without its order: the kernel's reads of a file overtake one another, and then it has more lines.
fn covered(file: &PathBuf) -> Vec<(String, u64, u64)> {
    let mut ranges = profile(file);
    ranges.sort();
    ranges.dedup_by(|next, last| {
        let joins = next.0 == last.0 && next.1 == last.1 + last.2;
        last.2 += if joins { next.2 } else { 0 };
        joins
    });
    ranges
}

#[test]
fn a_range_brings_its_chunks_and_no_more() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let (code, said) = prefetch(&place, &["mnt/d/a.bin", "--range", "1MiB+65537"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 of 1 files, 128.00 KiB, durable"), "{said}");
    assert_eq!(on_disk(&place, &mount, "d/a.bin"), 2 * CHUNK);
    assert_eq!(data_bytes(&mirrors), 2 * CHUNK);
    let (code, said) = prefetch(&place, &["mnt/d/a.bin", "--range", "16MiB+1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a.bin: it has 16777216 bytes, and a range begins at 16777216"), "{said}");
    let (code, said) = prefetch(&place, &["mnt/d", "--range", "0+1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("mnt/d: it is a folder, and ranges are of files"), "{said}");
    let (code, said) = prefetch(&place, &["mnt/c.bin", "mnt/d/a.bin", "--range", "0+1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--range: it is a part of one file: give one PATH, not several"), "{said}");
    mount.umount();
}

#[test]
fn what_a_command_reads_is_recorded_and_comes_again_in_its_order() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let script = "dd if=mnt/d/b.bin bs=64k skip=100 count=1 status=none && cat mnt/d/small.txt && \
                  dd if=mnt/d/a.bin bs=64k skip=7 count=1 status=none && \
                  dd if=mnt/d/b.bin bs=64k skip=30 count=1 status=none && head -c 9 mnt/c.bin; exit 3";
    let words = ["--record", "p.jsonl", "mnt/d", "--", "sh", "-c", script];
    let (code, said) = prefetch(&place, &words);
    assert_eq!(code, Some(3), "the command's own: {said}");
    let file = place.path("p.jsonl");
    let recorded = profile(&file);
    assert!(said.contains(&format!("p.jsonl: {} ranges of 3 files", recorded.len())), "{said}");
    let mut firsts: Vec<&str> = recorded.iter().map(|(path, ..)| path.as_str()).collect();
    firsts.dedup();
    assert_eq!(firsts, ["d/b.bin", "d/small.txt", "d/a.bin", "d/b.bin"], "not what is elsewhere: {recorded:?}");
    let covers = |name: &str, chunk: u64| {
        recorded
            .iter()
            .any(|(path, offset, bytes)| path == name && (*offset..offset + bytes).contains(&(chunk * CHUNK)))
    };
    assert!(covers("d/b.bin", 100) && covers("d/a.bin", 7) && covers("d/b.bin", 30), "{recorded:?}");
    assert!(
        recorded
            .iter()
            .all(|(path, offset, bytes)| offset % CHUNK == 0 && (path == "d/small.txt" || bytes % CHUNK == 0))
    );
    mount.umount();

    // Another one, which has nothing: it gets the same, and only that.
    let other = Place::new();
    let mount = other.mount(&faulty_urls(&mirrors), &["--strategy", "round-robin"]);
    mirrors.iter().for_each(super::FaultyMirror::forget);
    let (code, said) = prefetch(&other, &["--profile", file.to_str().unwrap(), "mnt", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let bytes_of = |name: &str| recorded.iter().filter(|(path, ..)| path == name).map(|(.., bytes)| bytes).sum::<u64>();
    for name in ["d/a.bin", "d/b.bin", "d/small.txt", "c.bin"] {
        assert_eq!(on_disk(&other, &mount, name), bytes_of(name), "{name}");
    }
    let output = other.braidfs([
        "explain".into(),
        other.mountpoint().into_os_string(),
        "--json".into(),
        "--last".into(),
        "4096".into(),
    ]);
    let mut order: Vec<String> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines().rev() {
        let decision: Value = serde_json::from_str(line).unwrap();
        order.extend(decision["decision"]["path"].as_str().map(str::to_owned));
    }
    order.dedup();
    assert_eq!(order, firsts);
    mirrors.iter().for_each(super::FaultyMirror::forget);
    let read = File::open(mount.path("d/b.bin")).unwrap();
    reading::generated_at(&read, 2, 100 * CHUNK, 4096).unwrap();
    assert_eq!(data_bytes(&mirrors), 0);
    drop(read);
    mount.umount();
}

#[test]
fn a_recording_ends_by_a_signal_and_a_second_one_is_refused() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let (file, log) = (place.path("p.jsonl"), place.path("record.log"));
    let words =
        ["prefetch".as_ref(), "--record".as_ref(), file.as_os_str(), place.mountpoint().as_os_str()].map(PathBuf::from);
    let mut recorder = Process::start(place.command().args(words), &log);
    wait::until("it records", || std::fs::read_to_string(&log).is_ok_and(|said| said.contains("Ctrl-C ends it")));
    reading::generated(&mount.path("c.bin"), 3, SIZE);
    let whole = vec![("c.bin".to_owned(), 0, SIZE)];
    wait::until("what was read is in the profile by now", || covered(&file) == whole);
    std::fs::write(place.path("older.jsonl"), "older").unwrap();
    let (code, said) = prefetch(&place, &["--record", "older.jsonl", "mnt"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("somebody records this mount already"), "{said}");
    assert_eq!(std::fs::read_to_string(place.path("older.jsonl")).unwrap(), "older", "nothing is lost");
    recorder.signal(Signal::INT);
    assert_eq!(recorder.ends_within(wait::PATIENCE).and_then(|status| status.code()), Some(0));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("p.jsonl: ") && said.contains(" ranges of 1 files, 16.00 MiB"), "{said}");
    assert_eq!(covered(&file), whole);
    // Nobody records any more.
    let (code, said) = prefetch(&place, &["--record", "older.jsonl", "mnt", "--", "true"]);
    assert_eq!(code, Some(0), "{said}");
    mount.umount();
}

#[test]
fn a_complete_file_is_wanted_wholly_where_the_kernel_reads_it_by_itself() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let (code, said) = prefetch(&place, &["mnt/d/a.bin"]);
    assert_eq!(code, Some(0), "{said}");
    reading::generated(&mount.path("d/a.bin"), 1, SIZE);
    let opens = || mount.status()["counters"]["passthrough_opens"].as_u64().unwrap();
    wait::until("it is closed", || mount.status()["counters"]["open_handles"] == 0);
    let before = opens();
    let (code, said) = prefetch(&place, &["--record", "p.jsonl", "mnt", "--", "sh", "-c", "head -c 1 < mnt/d/a.bin"]);
    assert_eq!(code, Some(0), "{said}");
    let recorded = profile(&place.path("p.jsonl"));
    match opens() > before {
        true => assert_eq!(recorded, [("d/a.bin".to_owned(), 0, SIZE)]),
        // The kernel has its pages already, but is not asked for what it has while somebody records.
        false => assert!(recorded[0].0 == "d/a.bin" && recorded[0].1 == 0, "{recorded:?}"),
    }
    mount.umount();
}

#[test]
fn a_profile_that_is_none_or_names_what_is_gone_is_said_with_its_line() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    std::fs::write(place.path("p.jsonl"), "{\"path\":\"c.bin\",\"offset\":0,\"bytes\":5}\nc.bin\n").unwrap();
    let (code, said) = prefetch(&place, &["--profile", "p.jsonl", "mnt"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("p.jsonl:2: this is no line of a profile"), "{said}");
    let lines = "{\"path\":\"no.bin\",\"offset\":0,\"bytes\":5}\n{\"path\":\"c.bin\",\"offset\":0,\"bytes\":5}\n\
                 {\"path\":\"no.bin\",\"offset\":9,\"bytes\":5}\n";
    std::fs::write(place.path("p.jsonl"), lines).unwrap();
    let (code, said) = prefetch(&place, &["--profile", "p.jsonl", "mnt"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("p.jsonl:1: ") && said.contains("no.bin: no mirror has it"), "{said}");
    assert_eq!(said.matches("no.bin").count(), 1, "once: {said}");
    assert_eq!(on_disk(&place, &mount, "c.bin"), CHUNK);
    mount.umount();
}
