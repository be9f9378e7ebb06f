//! The configuration file, read anew while readers read.

use super::mirrors;
use crate::support::faulty::{Fault, FaultyMirror, Request, Rule, Tree};
use crate::support::mounted::{Mount, Place, without_passthrough};
use crate::support::over::SetAtEnd;
use crate::support::{reading, wait};
use rustix::process::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once};

const SIZE: u64 = 24 << 20;

fn tree() -> Tree {
    Tree::new().with_generated("a.bin", 1, SIZE)
}

/// How many reloads a storm has: more than in the ordinary tests where somebody asks for it.
fn storm_reloads() -> u64 {
    std::env::var("BRAIDFS_TEST_RELOADS").map_or(60, |text| text.parse().expect("a number"))
}

struct Configured {
    place: Place,
    file: PathBuf,
}

impl Configured {
    fn new() -> Configured {
        let place = Place::new();
        Configured { file: place.path("d.toml"), place }
    }

    /// Put another file in its place, as editors and deployment tools do.
    fn write(&self, text: &str) {
        let new = self.place.path("d.toml.new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.file).unwrap();
    }

    fn mount(&self) -> Mount<'_> {
        let mut command = self.place.command();
        command.args(["mount".as_ref(), self.file.as_os_str(), self.place.mountpoint().as_os_str()]);
        command.args(["--cache-dir", "none", "--memory", "64MiB"]);
        if without_passthrough() {
            command.arg("--passthrough=false");
        }
        self.place.start(&mut command)
    }

    /// `braidfs reload`: what it says, where that is what should be.
    fn reload(&self, code: i32) -> String {
        self.reload_with(&[], code)
    }

    fn reload_with(&self, words: &[&str], code: i32) -> String {
        let mountpoint = self.place.mountpoint();
        let output = self.place.braidfs([&["reload", mountpoint.to_str().unwrap()], words].concat());
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    }
}

fn of(mirrors: &[&FaultyMirror]) -> String {
    mirrors.iter().map(|mirror| format!("[[mirror]]\nurl = \"{}\"\n", mirror.url())).collect()
}

fn version(mount: &Mount) -> u64 {
    mount.status()["configuration"]["version"].as_u64().unwrap()
}

#[test]
fn a_reader_goes_on_while_its_mirror_is_exchanged_for_another() {
    let (mirrors, configured) = (mirrors(2, &tree()), Configured::new());
    configured.write(&of(&[&mirrors[0]]));
    let mount = configured.mount();
    let file = File::open(mount.path("a.bin")).unwrap();
    reading::generated_at(&file, 1, 0, 1 << 20).unwrap();
    configured.write(&of(&[&mirrors[1]]));
    // The change of the file may have been noticed before the command came.
    configured.reload(0);
    assert_eq!(version(&mount), 2);
    mirrors.iter().for_each(FaultyMirror::forget);
    for at in 1..SIZE >> 20 {
        reading::generated_at(&file, 1, at << 20, 1 << 20).unwrap();
    }
    assert_eq!(mirrors[0].data_bytes(), 0, "nothing is asked of who is gone");
    assert!(mirrors[1].data_bytes() > SIZE / 2);
    let status = mount.status();
    let urls: Vec<_> = status["mirrors"].as_array().unwrap().iter().map(|mirror| mirror["url"].clone()).collect();
    assert_eq!(urls, [mirrors[1].url()]);
    drop(file);
    mount.umount();
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_is_named_with_its_line() {
    let (mirrors, configured) = (mirrors(1, &tree()), Configured::new());
    let right = of(&[&mirrors[0]]);
    configured.write(&right);
    let mount = configured.mount();
    let wrong = format!("{right}hedgin = false\n");
    configured.write(&wrong);
    let said = configured.reload(1);
    assert!(said.contains("d.toml:3:1: unknown key \"hedgin\""), "{said}");
    assert!(said.contains("nothing was changed: version 1 stays in force"), "{said}");
    let seen = mount.status()["configuration"].clone();
    assert_eq!(seen["version"], 1);
    assert!(seen["trouble"].as_str().unwrap().contains("d.toml:3:1"), "{seen}");
    assert!(mount.log().contains("the last good one stays"));
    // A certificate that cannot be believed is found before anything is changed too.
    fs::write(configured.place.path("ca.pem"), "no certificate").unwrap();
    configured.write(&format!("strategy = \"round-robin\"\n{right}ca-file = \"ca.pem\"\n"));
    configured.reload(1);
    assert_eq!(version(&mount), 1);
    configured.write(&format!("umask = \"077\"\nstrategy = \"round-robin\"\n{right}weight = 2.0\n"));
    let said = wait::for_some("the right one in force", || {
        configured.reload(0);
        (version(&mount) == 2).then(|| mount.status()["configuration"].clone())
    });
    assert_eq!((&said["trouble"], &said["waits_for_mount"]), (&Value::Null, &serde_json::json!(["umask"])));
    reading::generated(&mount.path("a.bin"), 1, SIZE);
    mount.umount();
}

#[test]
fn the_change_of_the_file_is_noticed_and_so_is_sighup() {
    let (mirrors, configured) = (mirrors(2, &tree()), Configured::new());
    configured.write(&of(&[&mirrors[0]]));
    let mount = configured.mount();
    configured.write(&of(&[&mirrors[0], &mirrors[1]]));
    wait::until("the change to be noticed", || version(&mount) == 2);
    fs::write(&configured.file, format!("hedging = false\n{}", of(&[&mirrors[1]]))).unwrap();
    mount.signal(Signal::HUP);
    wait::until("the signal to be heard", || mount.log().contains("why=\"SIGHUP\"") && version(&mount) >= 3);
    let status = mount.status();
    assert_eq!(status["mirrors"].as_array().unwrap().len(), 1, "{status:#}");
    reading::generated(&mount.path("a.bin"), 1, SIZE);
    mount.umount();
}

#[test]
fn a_change_while_the_mount_is_being_made_is_noticed() {
    let (mirrors, configured) = (mirrors(2, &tree()), Arc::new(Configured::new()));
    configured.write(&of(&[&mirrors[0]]));
    let (file, both, first) = (configured.clone(), of(&[&mirrors[0], &mirrors[1]]), Once::new());
    // Who asks has read the file, and is mounted only after the answer.
    let at_the_first_request = move |_: &Request| {
        first.call_once(|| file.write(&both));
        false
    };
    mirrors[0].add(Rule::everywhere(Fault::Hangup).when(at_the_first_request));
    let mount = configured.mount();
    wait::until("the change to be noticed", || version(&mount) == 2);
    assert_eq!(mount.status()["mirrors"].as_array().unwrap().len(), 2);
    mount.umount();
}

#[test]
fn a_mount_without_a_file_says_so() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&[mirrors[0].url()], &[]);
    let output = place.braidfs(["reload", place.mountpoint().to_str().unwrap(), "--json"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("has no configuration file"), "{said}");
    mount.umount();
}

/// The mirrors, weights, caps and strategies of a storm's step; every tenth one is broken.
fn step(at: u64, mirrors: &[FaultyMirror]) -> (String, bool) {
    let named: Vec<&FaultyMirror> = match at % 3 {
        0 => mirrors.iter().collect(),
        1 => vec![&mirrors[0], &mirrors[2]],
        _ => vec![&mirrors[1]],
    };
    let strategy = ["adaptive", "round-robin", "weighted-random", "response-time-first"][at as usize % 4];
    let text = format!("strategy = \"{strategy}\"\n{}weight = {}\n", of(&named), 1 + at % 7);
    match at % 10 {
        9 => (format!("{text}[[mirror]]\nurl = \"ftp://nowhere/\"\n"), false),
        _ => (text, true),
    }
}

#[test]
fn readers_notice_nothing_of_many_reloads() {
    let (mirrors, configured) = (mirrors(3, &tree()), Configured::new());
    configured.write(&of(&[&mirrors[0]]));
    let mount = configured.mount();
    let (over, passes) = (AtomicBool::new(false), AtomicU64::new(0));
    let path = mount.path("a.bin");
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let (over, passes, path) = (&over, &passes, &path);
            scope.spawn(move || {
                let mut at = reader;
                let file = File::open(path).unwrap();
                while !over.load(Ordering::Relaxed) {
                    at = (at * 7 + 3) % (SIZE >> 16);
                    reading::generated_at(&file, 1, at << 16, 1 << 16).unwrap();
                    reading::forget_kernel_pages(path);
                    passes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _over = SetAtEnd(&over);
        let mut version_before = 1;
        for at in 0..storm_reloads() {
            let (text, is_right) = step(at, &mirrors);
            // In place: nobody notices the change of a file that another reload has taken up before.
            configured.write(&text);
            // What the reload says is in force, and after a broken one what is.
            let now = match is_right {
                true => {
                    serde_json::from_str::<Value>(&configured.reload_with(&["--json"], 0)).unwrap()["result"]["version"]
                        .as_u64()
                        .unwrap()
                }
                false => {
                    configured.reload(1);
                    version(&mount)
                }
            };
            assert!(now >= version_before && now <= version_before + 1, "{version_before}, then {now}");
            assert!(is_right || now == version_before, "a broken one has no version");
            version_before = now;
        }
    });
    assert!(passes.load(Ordering::Relaxed) > 8);
    let status = mount.status();
    assert_eq!(status["read_errors"], 0, "{status:#}");
    println!("{} reads, {} bytes resident at most", passes.load(Ordering::Relaxed), mount.peak_resident_bytes());
    mount.umount();
}

#[test]
fn a_mirror_is_taken_out_weighted_and_put_back_by_hand_and_top_shows_it() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&[mirrors[0].url(), mirrors[1].url()], &["--cache-dir", "none"]);
    let change = |words: &[&str]| {
        let here = place.mountpoint();
        let mut all = vec!["mirrors".as_ref(), here.as_os_str(), "--json".as_ref()];
        all.extend(words.iter().map(|word| OsStr::new(*word)));
        let output = place.braidfs(all);
        (output.status.code(), serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap())
    };
    let (code, report) = change(&["--out", &mirrors[0].url()]);
    assert_eq!((code, &report["taken_out"]), (Some(0), &serde_json::json!([mirrors[0].url()])), "{report:#}");
    mirrors.iter().for_each(FaultyMirror::forget);
    reading::generated(&mount.path("a.bin"), 1, SIZE);
    assert_eq!(mirrors[0].data_bytes(), 0);
    let (code, refused) = change(&["--out", &mirrors[1].url()]);
    assert!(code == Some(1) && refused["error"]["message"].as_str().unwrap().contains("the only mirror"), "{refused}");
    assert_eq!(change(&["--out", "http://127.0.0.1:1/"]).0, Some(1));
    let (code, report) = change(&["--back", &mirrors[0].url()]);
    assert_eq!((code, report["mirrors"].as_array().unwrap().len()), (Some(0), 2), "{report:#}");
    let (code, report) = change(&["--weight", &format!("{}=4", mirrors[0].url())]);
    let weights = |report: &serde_json::Value| {
        report["mirrors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|mirror| mirror["base_weight"].as_f64().unwrap())
            .fold(0.0, f64::max)
    };
    assert_eq!((code, weights(&report)), (Some(0), 4.0));
    let open = File::open(mount.path("a.bin")).unwrap();
    reading::generated_at(&open, 1, 0, 1 << 16).unwrap();
    let files = mount.status()["files"].clone();
    assert_eq!(
        (&files[0]["path"], &files[0]["size"]),
        (&serde_json::json!("a.bin"), &serde_json::json!(SIZE)),
        "{files:#}"
    );
    assert_eq!(files[0]["map"].as_str().unwrap().len(), 64);
    let output = place.braidfs(["top", place.mountpoint().to_str().unwrap(), "--once"]);
    let screen = String::from_utf8(output.stdout).unwrap();
    for said in [place.mountpoint().to_str().unwrap(), "a.bin", "fetched", "closed", "q quit"] {
        assert!(screen.contains(said), "{said:?} is not in\n{screen}");
    }
    let output = place.braidfs(["top", place.mountpoint().to_str().unwrap()]);
    assert!(output.status.code() == Some(1) && String::from_utf8_lossy(&output.stderr).contains("this is none"));
    drop(open);
    mount.umount();
}
