//! `braidfs prefetch --no-wait`, `jobs`, `cancel` and `list`, on a real mount.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::{Fault, FaultyMirror, Rule, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::{reading, wait};
use serde_json::Value;

const SIZE: u64 = 8 << 20;
const FILES: u64 = 4;

fn tree() -> Tree {
    (0..FILES).fold(Tree::new(), |tree, at| tree.with_generated(format!("job/{at}.bin"), at, SIZE))
}

/// Some ten seconds for all of it.
fn slow(count: usize) -> Vec<FaultyMirror> {
    let mirrors = mirrors(count, &tree());
    mirrors.iter().for_each(|mirror| mirror.always(Fault::Shape { bytes_per_second: 3 << 20 }));
    mirrors
}

/// Exit code, and all that was said.
fn run(place: &Place, words: &[&str]) -> (Option<i32>, String) {
    let output = place.braidfs(words);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

fn jobs(place: &Place) -> Vec<Value> {
    let mountpoint = place.mountpoint();
    let (code, said) = run(place, &["jobs", mountpoint.to_str().unwrap(), "--json"]);
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str::<Value>(&said).unwrap()["jobs"].as_array().unwrap().clone()
}

fn begin(place: &Place, names: &str) -> String {
    let (code, said) = run(place, &["prefetch", "--no-wait", place.mountpoint().join(names).to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    said.trim().to_owned()
}

/// Some of it is durable, and not all.
fn wait_for_some(place: &Place) -> u64 {
    wait::for_some("a part of the job is durable", || {
        let done = jobs(place)[0]["progress"]["bytes_done"].as_u64().unwrap();
        (done > 0).then_some(done)
    })
}

fn nothing_is_left(mount: &Mount) {
    for gauge in ["open_handles", "open_files", "fetches_in_flight", "disk_queue_bytes"] {
        wait::until(&format!("{gauge} is zero"), || mount.status()["counters"][gauge] == 0);
    }
}

#[test]
fn a_cancelled_job_ends_and_leaves_nothing_open() {
    let (mirrors, place) = (slow(1), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let mountpoint = place.mountpoint();
    let mountpoint = mountpoint.to_str().unwrap();
    let number = begin(&place, "job");
    wait_for_some(&place);
    let (code, said) = run(&place, &["cancel", &number, mountpoint]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("job {number} cancelled")), "{said}");
    assert_eq!(jobs(&place)[0]["state"], "cancelled");
    nothing_is_left(&mount);
    let after = data_bytes(&mirrors);
    assert!(after < FILES * SIZE, "it was ended in the middle");
    let (code, said) = run(&place, &["cancel", &number, mountpoint]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has ended already: cancelled"), "{said}");
    let (code, said) = run(&place, &["cancel", "99", mountpoint]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no job has the number 99; `braidfs jobs` lists them"), "{said}");
    let (code, said) = run(&place, &["jobs", mountpoint]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("cancelled") && said.contains("job"), "{said}");
    mount.umount();
}

#[test]
fn a_job_whose_client_is_killed_ends_and_leaves_nothing_open() {
    let (mirrors, place) = (slow(1), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let mut client = place.command().arg("prefetch").arg(mount.path("job")).spawn().unwrap();
    wait::until("the job runs", || !jobs(&place).is_empty());
    wait_for_some(&place);
    client.kill().unwrap();
    client.wait().unwrap();
    wait::until("it is abandoned", || jobs(&place)[0]["state"] == "abandoned");
    nothing_is_left(&mount);
    assert!(data_bytes(&mirrors) < FILES * SIZE, "it was ended in the middle");
    mount.umount();
}

#[test]
fn a_cancelled_job_is_a_failure_for_who_waits_for_it() {
    let (mirrors, place) = (slow(1), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let mut command = place.command();
    let client = command.arg("prefetch").arg(mount.path("job")).stderr(std::process::Stdio::piped()).spawn().unwrap();
    wait::until("the job runs", || !jobs(&place).is_empty());
    let (code, said) = run(&place, &["cancel", "1", place.mountpoint().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("job 1 was cancelled"), "{said}");
    mount.umount();
}

/// Two fifths of it are durable, and it still runs.
fn wait_for_two_fifths(place: &Place) {
    wait::until("two fifths of it are durable", || {
        let known = jobs(place);
        known.first().is_some_and(|job| job["progress"]["bytes_done"].as_u64().unwrap() >= FILES * SIZE * 2 / 5)
    });
}

#[test]
fn what_is_told_as_done_outlives_a_kill() {
    let files = 2000;
    let tree = (0..files).fold(Tree::new(), |tree, at| tree.with_generated(format!("job/{at}.bin"), at, 16 << 10));
    let (mut mirrors, place) = (mirrors(1, &tree), Place::new());
    mirrors[0].always(Fault::Shape { bytes_per_second: 3 << 20 });
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    begin(&place, "job");
    let told = wait::for_some("a part of the job is durable", || {
        let done = jobs(&place)[0]["progress"]["bytes_done"].as_u64().unwrap();
        (done > 2 << 20).then_some(done)
    });
    mount.kill9();
    // Nothing more comes.
    mirrors[0].down();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let (code, said) = run(&place, &["prefetch", "--check", "--json", mount.path("job").to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said}");
    let result: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert!(result["result"]["bytes_durable"].as_u64().unwrap() >= told, "{told} were told of: {said}");
    mount.umount();
}

/// The next mount goes on with the job, and brings what is left of it; the one after that does not.
fn goes_on(place: &Place, mirrors: &[FaultyMirror]) {
    let before = data_bytes(mirrors);
    let mount = place.mount(&faulty_urls(mirrors), &[]);
    wait::until("the job has ended", || {
        let known = jobs(place);
        known.len() == 1 && known[0]["job"] == 1 && known[0]["state"] == "done"
    });
    let again = data_bytes(mirrors) - before;
    assert!(again < FILES * SIZE * 4 / 5, "what was durable is not fetched again: {again}");
    (0..FILES).for_each(|at| reading::generated(&mount.path(format!("job/{at}.bin")), at, SIZE));
    mount.umount();
    let mount = place.mount(&faulty_urls(mirrors), &[]);
    wait::until("the daemon hears commands", || {
        run(place, &["status", place.mountpoint().to_str().unwrap()]).0 == Some(0)
    });
    assert_eq!(jobs(place), Vec::<Value>::new());
    mount.umount();
}

#[test]
fn a_job_goes_on_where_it_was_after_the_daemon_was_killed() {
    let (mirrors, place) = (slow(1), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    begin(&place, "job");
    wait_for_two_fifths(&place);
    mount.kill9();
    goes_on(&place, &mirrors);
}

#[test]
fn a_job_goes_on_where_it_was_after_an_unmount() {
    let (mirrors, place) = (slow(1), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    begin(&place, "job");
    wait_for_two_fifths(&place);
    mount.umount();
    goes_on(&place, &mirrors);
}

#[test]
fn a_job_that_is_waited_for_goes_on_after_an_unmount_too() {
    let (mirrors, place) = (slow(1), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let mut client = place.command().arg("prefetch").arg(mount.path("job")).spawn().unwrap();
    wait_for_two_fifths(&place);
    mount.umount();
    // It went away before it was done.
    assert_eq!(client.wait().unwrap().code(), Some(2));
    goes_on(&place, &mirrors);
}

#[test]
fn what_a_job_gave_up_is_named_afterwards() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    mirrors[0].add(Rule::new(Fault::Status { code: 403, retry_after_s: None }).under("job/1.bin"));
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    begin(&place, "job");
    wait::until("it has ended", || jobs(&place)[0]["state"] == "failed");
    let failures = jobs(&place)[0]["failures"].clone();
    assert_eq!(failures.as_array().unwrap().len(), 1, "{failures}");
    assert_eq!(failures[0]["path"], "job/1.bin");
    let (_, said) = run(&place, &["jobs", place.mountpoint().to_str().unwrap()]);
    assert!(said.contains("job 1: job/1.bin: "), "{said}");
    mount.umount();
}

#[test]
fn all_mounts_are_listed() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let mountpoint = place.mountpoint();
    wait::until("the daemon hears commands", || run(&place, &["status", mountpoint.to_str().unwrap()]).0 == Some(0));
    let listed = || {
        let (code, said) = run(&place, &["list", "--json"]);
        assert_eq!(code, Some(0), "{said}");
        let value: Value = serde_json::from_str(&said).unwrap();
        let mut mounts = value["mounts"].as_array().unwrap().clone();
        mounts.retain(|mount| mount["mountpoint"] == mountpoint.to_str().unwrap());
        mounts
    };
    let seen = listed();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((&seen[0]["state"], &seen[0]["mirrors"]), (&"online".into(), &2.into()), "{seen:?}");
    assert_eq!(seen[0]["pid"], mount.pid());
    let (_, said) = run(&place, &["list"]);
    assert!(said.contains("MOUNTPOINT") && said.contains(mountpoint.to_str().unwrap()), "{said}");
    mount.kill9();
    let seen = listed();
    assert_eq!(seen[0]["state"], "gone", "{seen:?}");
    assert!(seen[0]["trouble"].as_str().unwrap().contains("braidfs umount"), "{seen:?}");
    place.clear();
    assert_eq!(listed(), Vec::<Value>::new());
}
