//! `braidfs explain` and `mirrors`: what they say of a real mount is what its mirrors saw.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Fault, FaultyMirror, Rule, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::{reading, wait};
use serde_json::Value;
use std::fs::File;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

const PAGE: u64 = 4096;
const SIZE: u64 = 8 << 20;

fn tree() -> Tree {
    Tree::new().with_generated("data.bin", 1, SIZE).with("folder/small", *b"small").with("other:7", *b"a name")
}

/// `braidfs COMMAND PATH OPTIONS`.
fn ask(place: &Place, command: &str, path: impl AsRef<Path>, options: &[&str]) -> Output {
    let path = path.as_ref().to_str().expect("plain names").to_owned();
    place.braidfs([command, &path].into_iter().chain(options.iter().copied()))
}

fn text_of(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The decisions about `path`, the newest first, and the result that comes after them.
fn explained(place: &Place, path: impl AsRef<Path>, options: &[&str]) -> (Vec<Value>, Value) {
    let text = text_of(&ask(place, "explain", path, &[&["--json"], options].concat()));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let (last, decisions) = lines.split_last().expect("the result is a line");
    assert!(last["result"].is_object(), "{last:#}");
    (decisions.iter().map(|line| line["decision"].clone()).collect(), last["result"].clone())
}

fn switch(place: &Place, strategy: &str) -> Value {
    let text = text_of(&ask(place, "mirrors", place.mountpoint(), &["--strategy", strategy, "--json"]));
    serde_json::from_str(&text).unwrap()
}

fn read_page(mount: &Mount, page: u64) {
    let file = File::open(mount.path("data.bin")).unwrap();
    reading::generated_at(&file, 1, page * PAGE, PAGE as usize).unwrap();
}

/// Reads pages of the upper half, backward, until a decision has both mirrors to choose from though one was first: the
/// other one's bytes are compared with its beside these reads.
fn until_both_are_considered(place: &Place, mount: &Mount) {
    let mut pages = (1024..2048).rev().step_by(8);
    read_page(mount, pages.next().expect("there are some"));
    wait::until("a decision considers both mirrors", || {
        read_page(mount, pages.next().expect("a page that was not read yet"));
        let (newest, _) = explained(place, place.mountpoint(), &["--last", "1"]);
        newest.iter().any(|it| it["considered"] == 2)
    });
}

/// The mirrors that sent the byte at `offset` of data.bin.
fn senders(mirrors: &[FaultyMirror], offset: u64) -> Vec<String> {
    let sent = |mirror: &&FaultyMirror| {
        let covers = |(first, last): (u64, Option<u64>)| first <= offset && last.is_none_or(|last| offset <= last);
        mirror.data_requests().iter().any(|request| request.path == b"data.bin" && request.range().is_some_and(covers))
    };
    mirrors.iter().filter(sent).map(FaultyMirror::url).collect()
}

fn url(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no URL: {value}")).to_owned()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// In each decision each score is the sum of its terms, the best comes first, and so the terms in which a loser
/// differs from the winner add up to what it lost by.
fn check_sums(decision: &Value) {
    let rated = decision["mirrors"].as_array().unwrap();
    assert!(!rated.is_empty() && rated.len() <= 8, "{decision:#}");
    let term = |rated: &Value, name: &str| number(&rated["terms"][name]);
    let winner = &rated[0];
    for loser in rated {
        let behind = number(&loser["score"]) - number(&winner["score"]);
        let names = loser["terms"].as_object().unwrap().keys();
        let differences: f64 = names.map(|name| term(loser, name) - term(winner, name)).sum();
        assert!((differences - behind).abs() < 1e-6, "{differences} is not {behind}: {decision:#}");
        assert!(behind > -1e-3, "the winner has not the least score: {decision:#}");
    }
}

#[test]
fn before_the_first_read_it_says_so() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let said = "no decision yet: nothing was fetched since the mount\n";
    assert_eq!(text_of(&ask(&place, "explain", place.mountpoint(), &[])), said);
    let of_file = text_of(&ask(&place, "explain", mount.path("data.bin"), &[]));
    assert_eq!(of_file, format!("data.bin, 8.00 MiB: 0 B here\n\n{said}"));
    let (decisions, result) = explained(&place, mount.path("data.bin:0"), &[]);
    assert!(decisions.is_empty() && result["decisions_made"] == 0, "{result:#}");
    assert_eq!(result["about"]["came_from"], Value::Null);
    mount.umount();
}

#[test]
fn the_winner_is_who_served_it_and_the_terms_add_up() {
    let (mirrors, place) = (mirrors(3, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    // Far apart and backward: each is a decision of its own, and nothing is read ahead.
    let pages: Vec<u64> = (0..30).map(|step| (29 - step) * 64 + 5).collect();
    pages.iter().for_each(|&page| read_page(&mount, page));
    let (decisions, result) = explained(&place, mount.path("data.bin"), &["--last", "4096"]);
    assert!(decisions.len() >= pages.len() && result["decisions_matching"] == decisions.len(), "{result:#}");
    let numbers: Vec<u64> = decisions.iter().map(|it| it["number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|newer, older| *newer == older + 1), "{numbers:?}");
    assert_eq!(Some(numbers[0]), result["decisions_made"].as_u64());
    for decision in &decisions {
        check_sums(decision);
        assert_eq!((&decision["path"], &decision["strategy"]), (&"data.bin".into(), &"adaptive".into()));
        let asked = senders(&mirrors, decision["offset_bytes"].as_u64().unwrap());
        let winner = url(&decision["mirrors"][0]["url"]);
        assert!(asked.contains(&winner), "{winner} was not asked, but {asked:?}: {decision:#}");
    }
    let losers = decisions.iter().filter(|it| it["mirrors"].as_array().unwrap().len() == 3).count();
    assert!(losers > 0, "three mirrors that are alike may all be asked");
    let text = text_of(&ask(&place, "explain", mount.path("data.bin"), &["--last", "1"]));
    for said in ["demand, wanted, by adaptive", "+LATENCY", "=SCORE (ms)", "  won\n", "\n  not http://127.0.0.1:"] {
        assert!(text.contains(said), "{said:?} is not in:\n{text}");
    }
    assert!(text.contains(&format!("{} older decisions about it are kept", decisions.len() - 1)), "{text}");
    mount.umount();
}

#[test]
fn after_a_switch_the_next_decisions_are_made_so() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    until_both_are_considered(&place, &mount);
    let switched = switch(&place, "round-robin");
    assert_eq!((&switched["strategy_before"], &switched["strategy"]), (&"adaptive".into(), &"round-robin".into()));
    let before = switched["decisions"].as_u64().unwrap();
    // Far apart, so that each is one decision.
    let pages = [900, 700, 500, 300, 100];
    pages.iter().for_each(|&page| read_page(&mount, page));
    let (decisions, _) = explained(&place, place.mountpoint(), &["--last", "4096"]);
    let (after, old): (Vec<&Value>, Vec<&Value>) =
        decisions.iter().partition(|it| it["number"].as_u64() > Some(before));
    assert!(after.len() >= pages.len() && !old.is_empty(), "{decisions:#?}");
    assert!(old.iter().all(|it| it["strategy"] == "adaptive" && it["unit"] == "ms"), "{old:#?}");
    for decision in &after {
        assert_eq!((&decision["strategy"], &decision["unit"]), (&"round-robin".into(), &"places".into()));
        check_sums(decision);
    }
    let both = |it: &&Value| it["cause"] == "wanted" && it["considered"] == 2;
    let neighbours: Vec<_> = after.windows(2).filter(|two| two.iter().all(both)).collect();
    assert!(!neighbours.is_empty(), "{after:#?}");
    for two in neighbours {
        assert_ne!(two[0]["mirrors"][0]["url"], two[1]["mirrors"][0]["url"], "each has its turn");
    }
    let text = text_of(&ask(&place, "explain", place.mountpoint(), &["--last", "1"]));
    assert!(text.contains("by round-robin") && text.contains("its turn comes 1 places later"), "{text}");
    let text = text_of(&ask(&place, "mirrors", place.mountpoint(), &["--strategy", "adaptive"]));
    assert!(text.starts_with("the strategy is adaptive now, and was round-robin\n\n"), "{text}");
    mount.umount();
}

#[test]
fn a_held_page_says_who_brought_it() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    read_page(&mount, 77);
    let target = mount.path(format!("data.bin:{}", 77 * PAGE + 123));
    let (decisions, result) = explained(&place, &target, &[]);
    let about = &result["about"];
    assert_eq!(
        (&about["path"], &about["asked_bytes"], &about["cached_bytes"]),
        (&"data.bin".into(), &PAGE.into(), &PAGE.into())
    );
    assert!(senders(&mirrors, 77 * PAGE).contains(&url(&about["came_from"])), "{about:#}");
    assert!(number(&about["came_ago_ms"]) >= 0.0, "{about:#}");
    let brought = decisions.last().expect("it was decided on");
    assert_eq!(brought["mirrors"][0]["url"], about["came_from"], "the decision that brought it is shown");
    let text = text_of(&ask(&place, "explain", &target, &[]));
    let first = text.lines().next().unwrap();
    assert!(first.starts_with(&format!("data.bin, the page at byte {}: in memory", 77 * PAGE + 123)), "{text}");
    assert!(first.contains(&format!("; it came from {} ", url(&about["came_from"]))), "{text}");
    // Of a page that nobody wanted there is nothing to tell.
    let (decisions, result) = explained(&place, mount.path(format!("data.bin:{}", SIZE - 1)), &[]);
    assert!(decisions.is_empty() && result["about"]["cached_bytes"] == 0, "{result:#}");
    mount.umount();
}

#[test]
fn a_page_that_a_silent_mirror_was_asked_for_came_from_the_other() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    // In turns, so that the silent one is asked for sure.
    until_both_are_considered(&place, &mount);
    switch(&place, "round-robin");
    mirrors[0].add(Rule::new(Fault::Delay(Duration::from_secs(20))));
    let asked = |it: &Value| url(&it["mirrors"][0]["url"]) == mirrors[0].url();
    let found = (0..20).find_map(|step| {
        let page = 1000 - 32 * step;
        read_page(&mount, page);
        let target = mount.path(format!("data.bin:{}", page * PAGE));
        let (usual, result) = explained(&place, &target, &[]);
        assert_eq!(url(&result["about"]["came_from"]), mirrors[1].url(), "only it answers: {result:#}");
        let (all, _) = explained(&place, &target, &["--last", "10"]);
        all.iter().any(asked).then_some(usual)
    });
    let usual = found.expect("every other page is the silent one's turn");
    assert_eq!(url(&usual.last().unwrap()["mirrors"][0]["url"]), mirrors[1].url(), "{usual:#?}");
    mount.umount();
}

#[test]
fn what_was_cached_before_the_mount_is_told_apart() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let urls = faulty_urls(&mirrors);
    let mount = place.mount(&urls, &[]);
    read_page(&mount, 3);
    let fetched = text_of(&ask(&place, "explain", mount.path("data.bin:12288"), &[]));
    assert!(fetched.contains("no other mirror could be asked"), "{fetched}");
    mount.umount();
    let mount = place.mount(&urls, &[]);
    std::fs::read(mount.path("folder/small")).unwrap();
    let text = text_of(&ask(&place, "explain", mount.path("data.bin:12288"), &[]));
    let said = "data.bin, the page at byte 12288: on disk\n\nno decision is kept about it: it is cached, and was fetched before this mount\n";
    assert_eq!(text, said);
    mount.umount();
}

#[test]
fn names_with_colons_are_names() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let text = text_of(&ask(&place, "explain", mount.path("other:7"), &[]));
    assert!(text.starts_with("other:7, 6 B: 0 B here\n"), "{text}");
    let text = text_of(&ask(&place, "explain", mount.path("other:7:5"), &[]));
    assert!(text.starts_with("other:7, the page at byte 5: not here\n"), "{text}");
    mount.umount();
}

/// Answers that come late all of a sudden are asked of the other mirror too, unless that is off.
#[test]
fn hedges_are_counted_and_can_be_off() {
    for (option, wanted) in [("--hedging=true", true), ("--hedging=false", false)] {
        let (mirrors, place) = (mirrors(2, &tree()), Place::new());
        let mount = place.mount(&faulty_urls(&mirrors), &[option, "--strategy", "round-robin"]);
        let file = std::fs::File::open(mount.path("data.bin")).unwrap();
        let read = |page: u64| reading::generated_at(&file, 1, page * 37 % (SIZE / PAGE) * PAGE, 4096).unwrap();
        until_both_are_considered(&place, &mount);
        (0..20).for_each(read);
        mirrors[0].always(Fault::Delay(Duration::from_millis(200)));
        (20..24).for_each(read);
        drop(file);
        let text = text_of(&ask(&place, "mirrors", place.mountpoint(), &["--json"]));
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(number(&report["hedges_issued"]) > 0.0, wanted, "{option}: {text}");
        mount.umount();
    }
}

#[test]
fn mirrors_shows_each_and_what_it_brought() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("data.bin"), 1, SIZE);
    let text = text_of(&ask(&place, "mirrors", mount.path("data.bin"), &["--json"]));
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["mountpoint"].as_str(), place.mountpoint().to_str());
    assert_eq!((&report["strategy"], &report["strategy_before"]), (&"adaptive".into(), &Value::Null));
    let listed = report["mirrors"].as_array().unwrap();
    let urls: Vec<String> = listed.iter().map(|mirror| url(&mirror["url"])).collect();
    assert_eq!(urls, faulty_urls(&mirrors), "in the order given");
    let shares: f64 = listed.iter().map(|mirror| number(&mirror["bytes_share"])).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{report:#}");
    for mirror in listed {
        let (weight, failures) = (number(&mirror["weight"]), mirror["failures_by_kind"].as_object().unwrap());
        assert!((0.1..=1.0).contains(&weight) && failures.len() == 7, "{mirror:#}");
    }
    let text = text_of(&ask(&place, "mirrors", place.mountpoint(), &[]));
    for said in ["MIRROR", "SHARE", "CONNECTIONS", "OVERLOAD", "strategy    adaptive, ", "hedges      "] {
        assert!(text.contains(said), "{said:?} is not in:\n{text}");
    }
    let mut command = place.command();
    command.current_dir(place.mountpoint()).arg("mirrors");
    let here = crate::support::process::run(&mut command);
    assert!(text_of(&here).starts_with("MIRROR"), "the mount of the working folder");
    mount.umount();
}
