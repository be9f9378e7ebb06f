//! `braidfs config`, and options from the environment.

use crate::support::mounted::Place;
use crate::support::process::run;
use std::ffi::OsStr;

/// Exit code, stdout, stderr.
fn config<S: AsRef<OsStr>>(place: &Place, words: &[S], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = place.command();
    let output = run(command.arg("config").args(words).envs(variables.iter().copied()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn line<'a>(shown: &'a str, name: &str) -> &'a str {
    shown
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")))
        .unwrap_or_else(|| panic!("{name} is not in {shown}"))
}

const FILE: &str = "memory = \"64MiB\"\nstrategy = \"round-robin\"\n[[mirror]]\nurl = \"http://joe:pw@127.0.0.1:9/\"\n\
                    headers = { Authorization = \"Bearer hidden\" }\nrate-limit = \"20MB/s\"\n[[rule]]\npath = \"a/**\"\nclass = \"prefetch\"\n";

#[test]
fn each_layer_counts_before_the_next_and_is_named() {
    let place = Place::new();
    let file = place.path("mirrors.toml");
    std::fs::write(&file, FILE).unwrap();
    let file = file.to_str().unwrap();
    let environment = [("BRAIDFS_MEMORY", "128MiB"), ("BRAIDFS_HEDGING", "false")];
    let show = |more: &[&str], environment: &[(&str, &str)]| {
        let words: Vec<&str> = ["show", file].into_iter().chain(more.iter().copied()).collect();
        let (code, shown, said) = config(&place, &words, environment);
        assert_eq!(code, Some(0), "{said}");
        shown
    };
    let of = |shown: &str, name: &str| line(shown, name).split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = show(&[], &[]);
    assert_eq!(of(&shown, "memory"), "memory = \"64MiB\" # file");
    assert_eq!(of(&shown, "strategy"), "strategy = \"round-robin\" # file");
    assert_eq!(of(&shown, "hedging"), "hedging = true # built in");
    assert_eq!(of(&shown, "entry-lifetime"), "entry-lifetime = \"1m\" # built in");
    assert!(!shown.contains("hidden") && !shown.contains("pw"), "{shown}");
    let shown = show(&[], &environment);
    assert_eq!(of(&shown, "memory"), "memory = \"128MiB\" # environment");
    assert_eq!(of(&shown, "hedging"), "hedging = false # environment");
    let shown = show(&["-o", "memory=256MiB"], &environment);
    assert_eq!(of(&shown, "memory"), "memory = \"256MiB\" # -o");
    let shown = show(&["-o", "memory=256MiB", "--memory", "512MiB"], &environment);
    assert_eq!(of(&shown, "memory"), "memory = \"512MiB\" # command line");
    let shown = show(&["http://127.0.0.1:8", "/mnt"], &[]);
    assert_eq!(
        shown.lines().filter(|line| line.starts_with("[[mirror]]") && line.ends_with("# command line")).count(),
        1
    );
    assert_eq!(shown.lines().filter(|line| line.starts_with("[[mirror]]") && line.ends_with("# file")).count(), 1);
    assert!(shown.contains("path = \"a/**\"\nclass = \"prefetch\"\n"), "{shown}");
    let shown = show(&["-o", "memory=256MiB", "--memory", "512MiB"], &environment);
    // What is shown is a file again.
    let again = place.path("again.toml");
    std::fs::write(&again, &shown).unwrap();
    let (code, shown, said) = config(&place, &["check", again.to_str().unwrap()], &[]);
    assert_eq!(code, Some(0), "{shown}{said}");
    assert!(shown.contains("is right: 1 mirror"), "{shown}");
}

#[test]
fn variables_that_are_wrong_are_named() {
    let place = Place::new();
    let words = ["show", "http://127.0.0.1:9/", "/mnt"];
    let (code, _, said) = config(&place, &words, &[("BRAIDFS_MEMORY", "lots")]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("BRAIDFS_MEMORY in the environment: \"lots\" is not a size"), "{said}");
    let (code, shown, said) = config(&place, &words, &[("BRAIDFS_MEMROY", "1GiB"), ("BRAIDFS_OF_SOMEBODY_ELSE", "1")]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        shown.contains("# warning: BRAIDFS_MEMROY in the environment is no option; did you mean BRAIDFS_MEMORY?"),
        "{shown}"
    );
    assert!(!shown.contains("ELSE"), "{shown}");
}

#[test]
fn a_file_is_checked_as_a_whole() {
    let place = Place::new();
    let file = place.path("mirrors.toml");
    for (text, wanted) in [
        ("memroy = \"1GiB\"\n", vec![":1:1", "memroy", "did you mean \"memory\""]),
        ("[[mirror]]\nurl = \"http://127.0.0.1:9/\"\nweight = 1000.0\n", vec![":3:10", "weight 1000 is not from"]),
        ("[[mirror]]\nurl = \"http://127.0.0.1:9/\"\n[[rule]]\npath = \"/a\"\n", vec![":4:8", "write \"a\""]),
        ("verify = \"quorum\"\n[[mirror]]\nurl = \"http://127.0.0.1:9/\"\n", vec!["quorum", "one mirror"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let (code, shown, said) = config(&place, &["check", file.to_str().unwrap()], &[]);
        assert_eq!(code, Some(1), "{text}: {shown}{said}");
        assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{text}: {said}");
    }
    let (code, _, said) = config(&place, &["check", "/no/such.toml"], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("/no/such.toml"), "{said}");
}

#[test]
fn the_schema_has_every_option_and_table() {
    let place = Place::new();
    let (code, shown, _) = config(&place, &["schema"], &[]);
    assert_eq!(code, Some(0));
    let schema: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let (_, all, _) = config(&place, &["show", "http://127.0.0.1:9/", "/mnt"], &[]);
    for line in all.lines().filter(|line| line.contains('=') && !line.starts_with("url")) {
        let name = line.trim_start_matches("# ").split_whitespace().next().unwrap();
        let known = ["weight", "tier", "http2"].contains(&name) || properties.contains_key(name);
        assert!(known, "{name} is not in the schema");
    }
    assert!(properties.contains_key("mirror") && properties.contains_key("rule"), "{shown}");
    assert!(shown.contains("connect-timeout") && shown.contains("prefetch-hours"), "{shown}");
    assert_eq!(schema["additionalProperties"], false);
}
