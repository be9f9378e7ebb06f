//! `--otlp`: slow reads as spans, to a receiver that is ours, down, or silent; and to nobody who was not named.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Fault, FaultyMirror, Request, Rule, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::receiver::Receiver;
use crate::support::{reading, wait};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

const SIZE: u64 = 4_000_003;
const SEED: u64 = 5;
/// Longer than any read that [`SLOW`] is meant for, shorter than anything that a test waits for.
const LATE: Fault = Fault::Delay(Duration::from_millis(400));
const SLOW: &str = "--otlp-slow=150ms";

fn tree() -> Tree {
    Tree::new().with_generated("a.bin", SEED, SIZE)
}

/// A mount that tells `otlp` of slow reads, with variables.
fn mounted<'a>(place: &'a Place, urls: &[String], options: &[&str], variables: &[(&str, &str)]) -> Mount<'a> {
    let mut command = place.command();
    command.arg("mount").args(urls).arg(place.mountpoint()).arg("--cache-dir").arg(place.cache());
    place.start(command.args(options).arg("--passthrough=false").envs(variables.iter().copied()))
}

fn read(mount: &Mount, offset: u64) {
    reading::generated_at(&File::open(mount.path("a.bin")).unwrap(), SEED, offset, 4096).unwrap();
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().expect("a span has attributes");
    let found = all.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("no {key} in {span:#}"));
    found["value"].as_object().and_then(|value| value.values().next()).expect("an attribute has a value")
}

/// OTLP has integers of 64 bits with a sign.
fn number(span: &Value, key: &str) -> u64 {
    let value = attribute(span, key).as_str().and_then(|text| text.parse::<i64>().ok()).expect("an integer is text");
    u64::try_from(value).expect("none of ours is below zero")
}

fn nanos(span: &Value, key: &str) -> u64 {
    span[key].as_str().and_then(|text| text.parse().ok()).expect("a time is text")
}

/// Each `read` with its children, every child within it.
fn reads(receiver: &Receiver) -> Vec<(Value, Vec<Value>)> {
    let spans = receiver.spans();
    let (roots, children): (Vec<_>, Vec<_>) = spans.into_iter().partition(|span| span["parentSpanId"].is_null());
    let (start, end) = ("startTimeUnixNano", "endTimeUnixNano");
    let with_children = |root: Value| {
        assert_eq!(root["name"], "read");
        let below = |child: &&Value| child["parentSpanId"] == root["spanId"] && child["traceId"] == root["traceId"];
        let below: Vec<_> = children.iter().filter(below).cloned().collect();
        for child in &below {
            let lies_within = nanos(&root, start) <= nanos(child, start)
                && nanos(child, start) <= nanos(child, end)
                && nanos(child, end) <= nanos(&root, end);
            assert!(lies_within, "{child:#} is not within {root:#}");
        }
        (root, below)
    };
    let all: Vec<_> = roots.into_iter().map(with_children).collect();
    assert_eq!(all.iter().map(|(_, below)| below.len()).sum::<usize>(), children.len(), "a child without its parent");
    all
}

/// The one that asked for the byte at `offset`, and its children.
fn read_of(receiver: &Receiver, offset: u64) -> (Value, Vec<Value>) {
    let has = |root: &Value| (0..number(root, "braidfs.length")).contains(&(offset - number(root, "braidfs.offset")));
    let covers = |root: &Value| number(root, "braidfs.offset") <= offset && has(root);
    let found = reads(receiver).into_iter().find(|(root, _)| covers(root));
    found.unwrap_or_else(|| panic!("no read of {offset} in {:#?}", receiver.spans()))
}

fn fetches(children: &[Value]) -> Vec<&Value> {
    children.iter().filter(|child| child["name"] == "fetch").collect()
}

fn counter(mount: &Mount, name: &str) -> u64 {
    mount.status()["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name}"))
}

#[test]
fn a_slow_read_is_a_span_over_what_it_waited_for_and_the_last_are_sent_at_the_unmount() {
    let (mirrors, place, receiver) = (mirrors(1, &tree()), Place::new(), Receiver::start());
    mirrors[0].always(LATE);
    let url = mirrors[0].url().replace("http://", "http://joe:s3cret@");
    let variables = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20t0ken,x-tenant=a"),
        ("OTEL_SERVICE_NAME", "genomes"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
    ];
    let mount = mounted(&place, &[url], &["--otlp", &receiver.url(), SLOW], &variables);
    let inode = std::fs::metadata(mount.path("a.bin")).unwrap().ino();
    read(&mount, 1 << 20);
    mount.umount();
    let (root, children) = read_of(&receiver, 1 << 20);
    assert_eq!(attribute(&root, "file.path"), "a.bin");
    assert_eq!((number(&root, "braidfs.errno"), attribute(&root, "braidfs.class").as_str()), (0, Some("demand")));
    let parts = ["memory", "disk", "mirror"].map(|name| number(&root, &format!("braidfs.{name}_bytes")));
    assert_eq!((parts[0], parts[1], parts.iter().sum()), (0, 0, number(&root, "braidfs.length")));
    assert_eq!(attribute(&root, "braidfs.inode").as_str().unwrap(), inode.to_string());
    let all = fetches(&children);
    let fetch = all.first().unwrap_or_else(|| panic!("no fetch in {children:#?}"));
    assert_eq!(attribute(fetch, "braidfs.mirror").as_str().unwrap(), mirrors[0].url());
    assert_eq!((attribute(fetch, "braidfs.outcome"), number(fetch, "braidfs.attempt")), (&"done".into(), 1));
    assert!(
        number(fetch, "braidfs.bytes") >= 4096 && attribute(fetch, "braidfs.first_byte_ms").as_f64().unwrap() > 0.0
    );
    let event = &fetch["events"][0];
    let at = nanos(event, "timeUnixNano");
    assert!(event["name"] == "first byte" && at > nanos(fetch, "startTimeUnixNano"), "{fetch:#}");
    let sent = receiver.requests();
    let (head, body) = &sent[0];
    let head = head.to_lowercase();
    assert!(head.starts_with("post /v1/traces ") && head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("authorization: bearer t0ken") && head.contains("x-tenant: a"), "{head}");
    let resource = &serde_json::from_str::<Value>(body).unwrap()["resourceSpans"][0]["resource"];
    assert_eq!(attribute(resource, "service.name"), "genomes");
    for secret in ["s3cret", "joe", "t0ken"] {
        assert!(sent.iter().all(|(_, body)| !body.contains(secret)), "{secret} is in a span");
    }
}

#[test]
fn a_read_that_is_not_slow_is_told_to_nobody() {
    let (mirrors, place, receiver) = (mirrors(1, &tree()), Place::new(), Receiver::start());
    let mount = mounted(&place, &faulty_urls(&mirrors), &["--otlp", &receiver.url(), "--otlp-slow=10min"], &[]);
    read(&mount, 1 << 20);
    assert_eq!(counter(&mount, "slow_reads"), 0);
    mount.umount();
    assert_eq!(receiver.connections(), 0);
}

/// The first attempt at the page at 2 MiB, the one that brought it, and all of them.
fn first_and_done(receiver: &Receiver) -> (Value, Value, Vec<Value>) {
    let (root, children) = read_of(receiver, 2 << 20);
    let all: Vec<Value> = fetches(&children).into_iter().cloned().collect();
    let first = all.iter().find(|fetch| number(fetch, "braidfs.attempt") == 1).expect("a first attempt").clone();
    let done =
        all.iter().find(|fetch| attribute(fetch, "braidfs.outcome") == "done").expect("one that brought it").clone();
    assert!(number(&done, "braidfs.attempt") > 1 && number(&root, "braidfs.errno") == 0, "{all:#?}");
    assert_ne!(attribute(&first, "braidfs.mirror"), attribute(&done, "braidfs.mirror"));
    (first, done, all)
}

fn asks_for_that_page(request: &Request) -> bool {
    request.range().is_some_and(|(from, _)| from == 2 << 20)
}

#[test]
fn a_failed_attempt_is_seen() {
    let (mirrors, place, receiver) = (mirrors(2, &tree()), Place::new(), Receiver::start());
    // What fails at once is no slow read, but for who calls every read slow.
    let mount = mounted(&place, &faulty_urls(&mirrors), &["--otlp", &receiver.url(), "--otlp-slow=0s"], &[]);
    // The first page that is read comes from one mirror and is compared with the other's: that is not to meet the fault.
    read(&mount, 3 << 20);
    wait::until("both to have answered", || mirrors.iter().all(|mirror| mirror.data_bytes() > 0));
    // Whoever is asked for it first.
    let once = Rule::new(Fault::Hangup).times(1).when(asks_for_that_page);
    mirrors.iter().for_each(|mirror| mirror.add(once.clone()));
    read(&mount, 2 << 20);
    mount.umount();
    let (first, _, all) = first_and_done(&receiver);
    assert!(attribute(&first, "braidfs.outcome") == "failed" && first["status"]["code"] == 2, "{all:#?}");
}

#[test]
fn a_late_attempt_is_seen_and_so_is_its_hedge() {
    let (mirrors, place, receiver) = (mirrors(2, &tree()), Place::new(), Receiver::start());
    for mirror in &mirrors {
        // One is asked to bring it and the other to compare: both are silent, and who is asked next is only late.
        mirror.add(Rule::new(Fault::Silent).times(1).when(asks_for_that_page));
        mirror.always(LATE);
    }
    let mount = mounted(&place, &faulty_urls(&mirrors), &["--otlp", &receiver.url(), SLOW], &[]);
    read(&mount, 2 << 20);
    mount.umount();
    let (first, _, all) = first_and_done(&receiver);
    assert_eq!(attribute(&first, "braidfs.outcome"), "cancelled", "{all:#?}");
    assert!(all.iter().any(|fetch| attribute(fetch, "braidfs.hedge") == true), "{all:#?}");
}

#[test]
fn a_read_that_fails_has_the_error_that_its_reader_gets() {
    let (mirrors, place, receiver) = (mirrors(1, &tree()), Place::new(), Receiver::start());
    mirrors[0].always(Fault::Silent);
    let options = ["--otlp", &receiver.url(), SLOW, "--read-timeout=500ms"];
    let mount = mounted(&place, &faulty_urls(&mirrors), &options, &[]);
    let error = reading::generated_at(&File::open(mount.path("a.bin")).unwrap(), SEED, 0, 4096).unwrap_err();
    mount.umount();
    let (root, _) = read_of(&receiver, 0);
    assert_eq!(number(&root, "braidfs.errno"), error.raw_os_error().unwrap() as u64, "{root:#}");
    assert!(root["status"]["code"] == 2 && root["status"]["message"].as_str().is_some_and(|why| !why.is_empty()));
}

/// So that the next read of the cache asks the disk.
fn forget(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => forget(&path),
            false => reading::forget_kernel_pages(&path),
        }
    }
}

#[test]
fn what_comes_from_disk_is_told_from_what_mirrors_bring() {
    let (mirrors, place, receiver) = (mirrors(1, &tree()), Place::new(), Receiver::start());
    let filling = mounted(&place, &faulty_urls(&mirrors), &[], &[]);
    reading::generated(&filling.path("a.bin"), SEED, SIZE);
    filling.umount();
    let mount = mounted(&place, &faulty_urls(&mirrors), &["--otlp", &receiver.url(), "--otlp-slow=0s"], &[]);
    forget(&place.cache());
    read(&mount, 3 << 20);
    mount.umount();
    let (root, children) = read_of(&receiver, 3 << 20);
    assert_eq!(number(&root, "braidfs.mirror_bytes"), 0);
    let Some(disk) = children.iter().find(|child| child["name"] == "disk") else {
        // The file system gave it without waiting, or keeps its pages: then nobody waited for the disk either.
        return assert_eq!(number(&root, "braidfs.disk_bytes"), 0, "{root:#} {children:#?}");
    };
    assert!(number(&root, "braidfs.disk_bytes") > 0 && attribute(disk, "braidfs.outcome") == "done", "{disk:#}");
}

#[test]
fn nobody_is_told_who_was_not_named() {
    let (mirrors, place, receiver) = (mirrors(1, &tree()), Place::new(), Receiver::start());
    mirrors[0].always(LATE);
    let base = [("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url())];
    let variables = [(base[0].0, base[0].1.as_str())];
    let mount = mounted(&place, &faulty_urls(&mirrors), &[SLOW], &variables);
    read(&mount, 0);
    assert_eq!((counter(&mount, "slow_reads"), counter(&mount, "export_failures")), (0, 0));
    mount.umount();
    assert_eq!(receiver.connections(), 0, "the variable alone switches nothing on");
    let mount = mounted(&place, &faulty_urls(&mirrors), &[SLOW, "--otlp=env"], &variables);
    read(&mount, 2 << 20);
    mount.umount();
    read_of(&receiver, 2 << 20);
}

#[test]
fn a_receiver_that_is_down_harms_no_read_and_is_told_of_once() {
    let (mirrors, place, receiver) = (mirrors(1, &tree()), Place::new(), Receiver::start());
    let (url, address) = (receiver.url(), receiver.address());
    drop(receiver);
    let mount = mounted(&place, &faulty_urls(&mirrors), &["--otlp", &url, "--otlp-slow=0s", "--memory=16MiB"], &[]);
    let read_all = || {
        reading::forget_kernel_pages(&mount.path("a.bin"));
        reading::generated(&mount.path("a.bin"), SEED, SIZE);
    };
    read_all();
    wait::until("two failures", || {
        place.braidfs(["evict", mount.path("a.bin").to_str().unwrap()]);
        read_all();
        counter(&mount, "export_failures") >= 2
    });
    assert!(counter(&mount, "slow_reads_dropped") >= 2);
    assert_eq!(mount.log().matches("are not taken").count(), 1, "{}", mount.log());
    let receiver = Receiver::start_at(address);
    wait::until("spans that are taken", || {
        place.braidfs(["evict", mount.path("a.bin").to_str().unwrap()]);
        read_all();
        counter(&mount, "exported_spans") > 0
    });
    wait::until("word of it", || mount.log().matches("are taken again").count() == 1);
    mount.umount();
    assert!(!reads(&receiver).is_empty());
}

#[test]
fn a_receiver_that_never_answers_does_not_hold_the_end() {
    let (mirrors, place, receiver): (Vec<FaultyMirror>, _, _) = (mirrors(1, &tree()), Place::new(), Receiver::silent());
    mirrors[0].always(LATE);
    let mount = mounted(&place, &faulty_urls(&mirrors), &["--otlp", &receiver.url(), SLOW], &[]);
    read(&mount, 0);
    mount.umount();
    assert!(receiver.connections() > 0);
}

#[test]
fn a_header_that_cannot_be_sent_is_an_error_before_the_mount() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mut command = place.command();
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3%0Acret").arg("mount").arg(mirrors[0].url());
    let output = crate::support::process::run(command.arg(place.mountpoint()).args(["--otlp", "http://127.0.0.1:9"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("\"x-key\" of OTEL_EXPORTER_OTLP_HEADERS") && !said.contains("cret"), "{said}");
    assert!(!place.is_mounted());
}
