//! `braidfs simulate`: what a person sees, and what bad input is told.

use crate::support::mounted::Place;
use braidfs::scheduler::Strategy;
use braidfs::simulate::outcome::Outcome;
use std::process::Output;

const SMALL: &str = "[[mirror]]\ncount = 2\nbandwidth = \"20MB/s\"\nlatency = \"5ms\"\n\
                     [[reader]]\npattern = \"sequential\"\nsize = \"4MiB\"\n";

fn simulate(place: &Place, words: &[&str]) -> Output {
    place.braidfs([&["simulate"], words].concat())
}

fn refused(place: &Place, words: &[&str], wanted: &[&str]) {
    let output = simulate(place, words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.status.code().is_some(), "{words:?}: {said}");
    assert!(!said.contains("panicked") && output.stdout.is_empty(), "{words:?}: {said}");
    for word in wanted {
        assert!(said.contains(word), "{words:?}: no {word:?} in: {said}");
    }
}

#[test]
fn a_scenario_is_run_and_told_in_each_form() {
    let place = Place::new();
    let path = place.path("two.toml");
    std::fs::write(&path, SMALL).unwrap();
    let path = path.to_str().unwrap();
    let text = String::from_utf8(simulate(&place, &[path]).stdout).unwrap();
    for word in ["two · adaptive · seed 1", "share of the ideal", "best mirror alone", "longest", "waste", "probes 0"]
    {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    let table = String::from_utf8(simulate(&place, &[path, "--table", "--strategy", "adaptive"]).stdout).unwrap();
    assert!(table.starts_with("| scenario | strategy |") && table.contains("\n| two | adaptive | 0."), "{table}");
    let json = simulate(&place, &[path, "--json", "--seed", "9", "--strategy", "adaptive"]).stdout;
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&value["seed"], &value["wanted_bytes"]), (&9.into(), &(4 << 20).into()));
    assert!(value["share_of_ideal"].as_f64().unwrap() > 0.5, "{value}");
    let again = simulate(&place, &[path, "--json", "--seed", "9", "--strategy", "adaptive"]).stdout;
    assert_eq!(json, again, "the same seed gives the same trace");
}

#[test]
fn every_scenario_of_the_set_is_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/scenarios");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 20);
    for file in files {
        braidfs::config::scenario::read(&file).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn bad_input_is_named_with_the_way_out() {
    let place = Place::new();
    let path = place.path("bad.toml");
    let word = path.to_str().unwrap().to_owned();
    for (text, wanted) in [
        (SMALL.replace("latency", "latncy"), vec!["bad.toml:4:1", "latncy", "did you mean \"latency\"?"]),
        (SMALL.replace("20MB/s", "fast"), vec!["bad.toml:3:13", "\"fast\" is not a rate; write 20MB/s"]),
        (SMALL.replace("sequential", "sideways"), vec!["bad.toml:6:11", "sideways", "backward"]),
        (SMALL.replace("5ms", "5"), vec!["bad.toml:4:11", "\"5\" is not a duration: its unit is missing"]),
        (SMALL.replace("count = 2", "count = 0"), vec!["bad.toml:2:9", "count = 0", "1 to 1024"]),
        ("[[reader]]\npattern = \"sequential\"\nsize = \"1MiB\"\n".into(), vec!["no mirrors", "[[mirror]]"]),
        ("[[mirror]".into(), vec!["bad.toml:1:"]),
    ] {
        std::fs::write(&path, text).unwrap();
        refused(&place, &[&word], &wanted);
    }
    refused(&place, &["nothing.toml"], &["nothing.toml", "cannot read"]);
    refused(&place, &[], &["SCENARIO.toml", "--random"]);
    std::fs::write(&path, SMALL).unwrap();
    refused(&place, &[&word, "--strategy", "best"], &["best", "adaptive"]);
    refused(&place, &[&word, "--random", "3"], &["--random"]);
    refused(&place, &["--random", "many"], &["many"]);
}

#[test]
fn small_files_are_not_begun_again_and_again_at_a_mirror_that_is_gone() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/scenarios/one-stalls-for-ever.small-files.toml");
    let scenario = braidfs::config::scenario::read(path.as_ref()).unwrap();
    let outcome = Outcome::of(&scenario, Strategy::Adaptive, 1);
    // One file finds it out, by its hedge. It was asked first for each of the next fifty.
    assert!(outcome.longest_wait_ms < 60.0, "{}", outcome.longest_wait_ms);
    assert!(outcome.requests <= 2005, "{} for 2,000 files", outcome.requests);
}
