//! Listings carry sizes and dates; nothing is asked for per file.

use super::{nginxes, urls};
use crate::support::dataset;
use crate::support::faulty::{Fault, FaultyMirror, Rule, Tree};
use crate::support::mounted::Place;
use crate::support::nginx::Setup;
use crate::support::process::output_of;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

#[test]
fn the_first_ls_has_sizes_and_dates_and_asks_for_no_file() {
    let (mirrors, place) = (nginxes(2, &Setup::default()), Place::new());
    let mount = place.mount(&urls(&mirrors), &[]);
    let ls = |root: &std::path::Path| {
        let mut ls = Command::new("ls");
        ls.args(["-l", "--time-style=+%s", "-G", "-o"]).env("LC_ALL", "C").env("TZ", "UTC");
        let said = output_of(ls.arg(root.join("many")).arg(root.join("big")));
        let said = String::from_utf8(said).unwrap();
        // Size, date and name: owners, modes and link counts are the mount's own.
        let line = |line: &str| line.split_whitespace().rev().take(3).map(str::to_owned).collect::<Vec<_>>();
        said.lines().filter(|line| line.starts_with('-')).map(line).collect::<Vec<_>>()
    };
    let (got, wanted) = (ls(&place.mountpoint()), ls(&dataset::root()));
    assert_eq!(wanted.len(), dataset::MANY + dataset::BIG.len());
    assert!(got == wanted, "the first lines: {:?}, wanted {:?}", &got[..3], &wanted[..3]);
    for mirror in &mirrors {
        let asked: BTreeSet<String> = mirror.requests().into_iter().map(|request| request.target).collect();
        assert!(asked.iter().all(|target| target.ends_with('/')), "{asked:?}");
    }
    mount.umount();
}

#[test]
fn a_folder_of_100_000_entries_is_listed_whole() {
    const ENTRIES: usize = 100_000;
    let mut tree = Tree::new();
    for number in 0..ENTRIES {
        tree = tree.with(format!("f/entry {number:06}"), *b"x");
    }
    let (mirror, place) = (FaultyMirror::start(tree), Place::new());
    let mount = place.mount(&[mirror.url()], &[]);
    let names: BTreeSet<_> = fs::read_dir(mount.path("f")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), ENTRIES);
    assert_eq!(fs::metadata(mount.path("f/entry 099999")).unwrap().len(), 1);
    assert_eq!(mirror.data_requests().len(), 0);
    mount.umount();
}

#[test]
fn a_listing_is_asked_for_once_while_it_is_fresh() {
    let (mirrors, place) = (nginxes(1, &Setup::default()), Place::new());
    let mount = place.mount(&urls(&mirrors), &[]);
    for _ in 0..5 {
        assert_eq!(fs::read_dir(mount.path("big")).unwrap().count(), dataset::BIG.len());
    }
    let asked = mirrors[0].requests().iter().filter(|request| request.target == "/big/").count();
    assert_eq!(asked, 1);
    mount.umount();
}

#[test]
fn hostile_links_are_refused_and_the_others_shown() {
    let long = "l".repeat(256);
    let hostile = [
        "../",
        "..%2Fevil",
        "%2e%2e/",
        "%2e",
        "/etc/passwd",
        "http://127.0.0.1:9/foreign",
        "//127.0.0.1:9/foreign",
        "nul%00nul",
        "folder%2Ffile",
        "javascript:alert(1)",
        &long,
        "?C=N;O=D",
        "#top",
    ];
    let line = |link: &str| format!("<a href=\"{link}\">{link}</a>   06-May-2024 07:08     4\r\n");
    let links: String = hostile.iter().chain(&["good"]).map(|link| line(link)).collect();
    let page = format!(
        "<html><head><title>Index of /</title></head><body><h1>Index of /</h1><pre>{links}</pre></body></html>"
    );
    let mirror = FaultyMirror::start(Tree::new().with("good", *b"good"));
    mirror.add(Rule::everywhere(Fault::Page(page)).when(|request| request.path.is_empty()));
    let place = Place::new();
    let mount = place.mount(&[mirror.url()], &[]);
    let names: Vec<_> = fs::read_dir(place.mountpoint()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["good"]);
    assert_eq!(fs::read(mount.path("good")).unwrap(), b"good");
    mount.umount();
}

/// An index page as `python -m http.server` writes it: names and nothing else.
fn bare_page(names: &[&str]) -> Fault {
    let links: String = names.iter().map(|name| format!("<li><a href=\"{name}\">{name}</a></li>\n")).collect();
    Fault::Page(format!(
        "<html><head><title>Directory listing for /</title></head><body><ul>\n{links}</ul></body></html>"
    ))
}

#[test]
fn sizes_that_no_listing_has_are_asked_for_without_head() {
    let mirror = FaultyMirror::start(Tree::new().with_generated("data.bin", 1, 12_345));
    mirror.add(Rule::everywhere(bare_page(&["data.bin"])).when(|request| request.path.is_empty()));
    mirror.add(Rule::new(Fault::Status { code: 405, retry_after_s: None }).when(|request| request.method == "HEAD"));
    let place = Place::new();
    let mount = place.mount(&[mirror.url()], &[]);
    assert_eq!(fs::metadata(mount.path("data.bin")).unwrap().len(), 12_345);
    crate::support::reading::generated(&mount.path("data.bin"), 1, 12_345);
    mount.umount();
}

#[test]
fn a_path_that_no_listing_shows_can_be_opened() {
    let mirror = FaultyMirror::start(Tree::new().with("shown", *b"shown").with("hidden", *b"hidden"));
    mirror.add(Rule::everywhere(bare_page(&["shown"])).when(|request| request.path.is_empty()));
    let place = Place::new();
    let mount = place.mount(&[mirror.url()], &[]);
    assert_eq!(fs::read(mount.path("hidden")).unwrap(), b"hidden");
    assert_eq!(fs::read(mount.path("shown")).unwrap(), b"shown");
    mount.umount();
}

#[test]
fn what_is_not_there_is_asked_for_once() {
    let mirror = FaultyMirror::start(Tree::new().with("there", *b"x"));
    let place = Place::new();
    let mount = place.mount(&[mirror.url()], &[]);
    for _ in 0..20 {
        assert!(fs::metadata(mount.path("not there")).is_err());
    }
    let asked = mirror.requests().iter().filter(|request| request.path.starts_with(b"not there")).count();
    assert!(asked <= 2, "as a file and as a folder, and then never again: {asked}");
    mount.umount();
}

#[test]
fn a_kept_connection_that_is_dead_does_not_fail_who_asks_for_a_name() {
    let mirror = FaultyMirror::start(Tree::new().with("there", *b"x"));
    let place = Place::new();
    let mount = place.mount(&[mirror.url()], &[]);
    assert_eq!(fs::read_dir(mount.path("")).unwrap().count(), 1);
    mirror.add(Rule::everywhere(Fault::Hangup).times(1));
    let error = fs::metadata(mount.path("never")).expect_err("it is not there");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    mount.umount();
}

#[test]
fn a_silent_mirror_does_not_hold_up_who_looks_for_what_is_not_there() {
    let mirrors = super::mirrors(2, &Tree::new().with("there", *b"there"));
    let place = Place::new();
    let mount = place.mount(&super::faulty_urls(&mirrors), &["--read-timeout", "5s"]);
    assert_eq!(std::fs::read(mount.path("there")).unwrap(), b"there");
    mirrors[1].always(Fault::Silent);
    // It is told by the other one, and not failed at the deadline of a read.
    let error = std::fs::metadata(mount.path("not there")).expect_err("nobody has it");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    mirrors[1].honest();
    mount.umount();
}

#[test]
fn the_first_look_into_a_folder_shows_what_a_slower_mirror_has() {
    let both = Tree::new().with("folder/on both", *b"1");
    let mirrors = [FaultyMirror::start(both.clone()), FaultyMirror::start(both.with("folder/on one", *b"2"))];
    mirrors[1].add(Rule::everywhere(Fault::Delay(std::time::Duration::from_millis(200))));
    let place = Place::new();
    let mount = place.mount(&super::faulty_urls(&mirrors), &[]);
    let names: BTreeSet<_> = fs::read_dir(mount.path("folder")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    mount.umount();
}
