//! Bad sources, options and files: exit code not 0, and a message with the input and the way out.

use crate::support::faulty::{BlackHole, Fault, FaultyMirror, Rule, Tree};
use crate::support::mounted::Place;
use std::ffi::OsString;

/// `braidfs mount WORDS` must fail, mount nothing, and say each of `wanted`.
fn refused(place: &Place, words: &[&str], wanted: &[&str]) {
    let mut all: Vec<OsString> = vec!["mount".into()];
    all.extend(words.iter().map(OsString::from));
    all.extend([place.mountpoint().into(), "--cache-dir".into(), place.cache().into()]);
    let output = place.braidfs(all);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{words:?} was accepted: {said}");
    assert!(output.status.code().is_some(), "{words:?} ended by a signal: {said}");
    assert!(!said.contains("panicked"), "{words:?}: {said}");
    assert!(!place.is_mounted(), "{words:?}: it is mounted: {said}");
    for word in wanted {
        assert!(said.to_lowercase().contains(&word.to_lowercase()), "{words:?}: no {word:?} in: {said}");
    }
}

#[test]
fn sources_that_are_none() {
    let place = Place::new();
    refused(&place, &["example.org/data"], &["example.org/data", "https://"]);
    refused(&place, &["ftp://example.org/data/"], &["ftp", "http"]);
    refused(&place, &["http://"], &["http://"]);
    refused(&place, &["./nothing.toml"], &["nothing.toml"]);
}

#[test]
fn mirrors_that_do_not_answer_as_mirrors() {
    let place = Place::new();
    let mirror = FaultyMirror::start(Tree::new().with("folder/file", *b"x"));
    let missing = format!("{}nothing/", mirror.url());
    refused(&place, &[&missing], &[&missing, "404"]);
    for (fault, word) in [
        (Fault::Page("<html><body><form>Please log in</form></body></html>".into()), ""),
        (Fault::Status { code: 401, retry_after_s: None }, "401"),
        (Fault::Status { code: 403, retry_after_s: None }, "403"),
        (Fault::Status { code: 500, retry_after_s: None }, "500"),
        (Fault::Hangup, ""),
    ] {
        mirror.honest();
        mirror.add(Rule::everywhere(fault));
        refused(&place, &[&mirror.url()], &[&mirror.url(), word]);
    }
}

#[test]
fn nobody_listens() {
    let place = Place::new();
    let mut mirrors: Vec<_> = (0..2).map(|_| FaultyMirror::start(Tree::new())).collect();
    let urls: Vec<_> = mirrors.iter().map(FaultyMirror::url).collect();
    mirrors.iter_mut().for_each(FaultyMirror::down);
    refused(&place, &[&urls[0], &urls[1]], &[&urls[0], &urls[1], "refused"]);
    let name = "http://no-such-host.invalid/";
    refused(&place, &[name], &[name]);
}

#[test]
fn a_black_hole_alone_does_not_hang_the_mount() {
    let (place, hole) = (Place::new(), BlackHole::open());
    refused(&place, &[&hole.url()], &[&hole.url()]);
}

#[test]
fn a_certificate_that_nobody_knows() {
    let place = Place::new();
    let mirror = FaultyMirror::start_tls(Tree::new().with("a", *b"a"));
    refused(&place, &[&mirror.url()], &[&mirror.url(), "certificate"]);
    // The way out that the message names.
    std::fs::write(place.path("ca.pem"), mirror.certificate_pem()).unwrap();
    let file = format!("[[mirror]]\nurl = \"{}\"\nca-file = \"ca.pem\"\n", mirror.url());
    std::fs::write(place.path("tls.toml"), file).unwrap();
    let mount = place.mount(&[place.path("tls.toml").to_str().unwrap()], &[]);
    assert_eq!(std::fs::read(mount.path("a")).unwrap(), b"a");
    mount.umount();
}

#[test]
fn one_good_mirror_is_enough() {
    let place = Place::new();
    let mirror = FaultyMirror::start(Tree::new().with("a", *b"a"));
    let bad = FaultyMirror::start_tls(Tree::new().with("a", *b"a"));
    let missing = format!("{}nothing/", mirror.url());
    let mount = place.mount(&[bad.url(), missing, mirror.url()], &[]);
    assert_eq!(std::fs::read(mount.path("a")).unwrap(), b"a");
    mount.umount();
}

#[test]
fn sizes_and_durations_that_do_not_parse() {
    let place = Place::new();
    let mirror = FaultyMirror::start(Tree::new().with("a", *b"a"));
    for (option, value) in [
        ("--memory", "lots"),
        ("--memory", "-5MiB"),
        ("--cache-size", "10 GoB"),
        ("--read-timeout", "soon"),
        ("--umask", "99"),
        ("--strategy", "fastest"),
        ("--hedging", "perhaps"),
        ("--metrics", "9190"),
        ("--otlp", "collector:4318"),
        ("--otlp", "grpc://127.0.0.1:4317"),
        ("--otlp-slow", "200"),
        ("--web", "9191"),
        ("--web", "localhost:9191"),
        ("--web", "0.0.0.0:9191"),
        ("--web", "[::]:9191"),
        ("--web", "192.168.7.7:9191"),
        ("--verify", "most"),
    ] {
        refused(&place, &[&mirror.url(), &format!("{option}={value}")], &[value, option]);
    }
    refused(&place, &[&mirror.url(), "--no-such-option"], &["--no-such-option"]);
    refused(&place, &[&mirror.url(), "--verify", "quorum"], &["one mirror", "--verify first"]);
}

#[test]
fn a_file_that_is_wrong_is_refused_with_line_and_column() {
    let place = Place::new();
    let path = place.path("mirrors.toml");
    for (text, wanted) in [
        ("memory = \"64MiB\"\nmemroy = \"1GiB\"\n[[mirror]]\nurl = \"http://127.0.0.1:9/\"\n", vec!["memroy", ":2:1"]),
        ("[[mirror]]\nurl = \"http://127.0.0.1:9/\"\ncolour = 3\n", vec!["colour", ":3:1"]),
        ("memory = \"many\"\n[[mirror]]\nurl = \"http://127.0.0.1:9/\"\n", vec!["many", ":1:10"]),
        ("[[mirror]]\nurl = \"example.org\"\n", vec!["example.org", "https://", ":2:7"]),
        ("[[mirror]\nurl = 5", vec![":1:"]),
        ("memory = \"64MiB\"\n", vec!["mirror"]),
    ] {
        std::fs::write(&path, text).unwrap();
        let mut wanted = wanted;
        wanted.push("mirrors.toml");
        refused(&place, &[path.to_str().unwrap()], &wanted);
    }
}

#[test]
fn nothing_at_all_shows_how_to() {
    let place = Place::new();
    let output = place.braidfs([] as [&str; 0]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("mount"), "{said}");
    let help = place.braidfs(["--help"]);
    let said = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.status.success());
    for command in ["mount", "status", "mirrors", "explain", "prefetch", "umount", "simulate", "demo"] {
        assert!(said.contains(command), "{said}");
    }
}
