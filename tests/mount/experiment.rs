//! An experiment on a mount that is read from: every arm has its slices, what is configured anew is noticed, and after it
//! all is as it was.

use super::mirrors;
use crate::support::faulty::Tree;
use crate::support::mounted::{Mount, Place};
use crate::support::over::SetAtEnd;
use crate::support::{reading, wait};
use serde_json::Value;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

const SIZE: u64 = 48 << 20;

/// `braidfs ab MOUNTPOINT WORDS --json`, parsed.
fn ab(place: &Place, words: &[&str]) -> Value {
    let mountpoint = place.mountpoint().to_str().unwrap().to_owned();
    let output = place.braidfs([&["ab", mountpoint.as_str(), "--json"], words].concat());
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn strategy(place: &Place, words: &[&str]) -> Value {
    let mountpoint = place.mountpoint().to_str().unwrap().to_owned();
    let output = place.braidfs([&["mirrors", mountpoint.as_str(), "--json"], words].concat());
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["strategy"].take()
}

/// Read all of it, then again from the mirrors, for as long as `while_this` takes.
fn with_load<T>(mount: &Mount, while_this: impl FnOnce() -> T) -> T {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = SetAtEnd(&ended);
        for part in 0..2 {
            let (path, ended) = (mount.path("a.bin"), &ended);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let file = File::open(&path).unwrap();
                    reading::generated_at(&file, 1, part * SIZE / 2, (SIZE / 2) as usize).unwrap();
                    reading::forget_kernel_pages(&path);
                }
            });
        }
        while_this()
    })
}

#[test]
fn every_arm_fetches_and_after_the_end_what_is_configured_is_in_force() {
    let tree = Tree::new().with_generated("a.bin", 1, SIZE);
    let (mirrors, place) = (mirrors(2, &tree), Place::new());
    let urls: Vec<String> = mirrors.iter().map(|mirror| mirror.url()).collect();
    let options = ["--cache-dir", "none", "--memory", "16MiB", "--strategy", "round-robin"];
    let mount = place.mount(&urls, &options);
    assert!(mount.status()["experiment"].is_null());
    with_load(&mount, || {
        let begun = ab(&place, &["--start", "--slice", "1s", "--arms", "control=50,live=25,predictor=25"]);
        assert_eq!((&begun["running"], &begun["block_slices"], &begun["slices"]), (&true.into(), &4.into(), &0.into()));
        wait::until("fetches of every arm", || {
            let arms = ab(&place, &[])["arms"].take();
            arms.as_array()
                .unwrap()
                .iter()
                .all(|arm| arm["fetches"].as_u64() > Some(0) && arm["bytes"].as_u64() > Some(0))
        });
        let seen = ab(&place, &[]);
        let strategies: Vec<&Value> = seen["arms"].as_array().unwrap().iter().map(|arm| &arm["strategy"]).collect();
        assert_eq!(strategies, ["adaptive", "round-robin", "predicted"]);
        assert_eq!(seen["comparisons"].as_array().unwrap().len(), 4);
        assert_eq!(mount.status()["experiment"]["arms"], "control=50,live=25,predictor=25");
        // Whosever slice it is, that is what is configured.
        assert_eq!(strategy(&place, &[]), "round-robin");
        assert_eq!(strategy(&place, &["--strategy", "weighted-random"]), "weighted-random");
        let seen = ab(&place, &[]);
        assert_eq!((&seen["reconfigured"], &seen["arms"][1]["slices"]), (&1.into(), &0.into()));
        let control = seen["arms"][0]["slices"].as_u64();
        assert!(control > Some(0), "{seen:#}");
        let ended = ab(&place, &["--stop"]);
        assert_eq!(ended["running"], false);
        assert!(ended["arms"][0]["slices"].as_u64() >= control, "{ended:#}");
    });
    assert!(mount.status()["experiment"].is_null());
    let output = place.braidfs(["ab", place.mountpoint().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "it goes on: {output:?}");
    assert_eq!(strategy(&place, &[]), "weighted-random");
    let log = mount.log();
    assert!(log.contains("an experiment was started") && log.contains("the experiment was ended"), "{log}");
    mount.umount();
}
