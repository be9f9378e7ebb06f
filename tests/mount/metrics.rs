//! `--metrics`: what Prometheus scrapes agrees with what was read and sent, and disturbs nobody.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::Tree;
use crate::support::mounted::{Mount, Place};
use crate::support::process::{path_with_sbin, which};
use crate::support::{reading, wait};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

const SIZE: u64 = 4_000_003;

fn tree() -> Tree {
    Tree::new().with_generated("a.bin", 1, SIZE)
}

/// Where the log says that they are.
fn address(mount: &Mount) -> String {
    wait::for_some("the address in the log", || {
        let log = mount.log();
        let (_, after) = log.split_once("http://127.0.0.1:")?;
        Some(format!("127.0.0.1:{}", after.split_once("/metrics")?.0))
    })
}

/// Head and body of an answer.
fn ask(address: &str, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The sum of all values under a name.
fn value(page: &str, name: &str) -> f64 {
    let lines =
        page.lines().filter(|line| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{")));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn what_is_scraped_is_what_was_read_and_sent() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--metrics", "127.0.0.1:0"]);
    let address = address(&mount);
    reading::generated(&mount.path("a.bin"), 1, SIZE);
    let (head, page) = ask(&address, "GET", "/metrics");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text"), "{head}");
    assert!(page.ends_with("# EOF\n"), "{page}");
    assert_eq!(value(&page, "braidfs_read_bytes_total"), SIZE as f64);
    let fetched = value(&page, "braidfs_mirror_fetched_bytes_total");
    assert_eq!(fetched, value(&page, "braidfs_fetched_bytes_total"));
    assert!(fetched >= SIZE as f64 && fetched <= data_bytes(&mirrors) as f64, "{fetched} of {}", data_bytes(&mirrors));
    assert_eq!(page.lines().filter(|line| line.starts_with("braidfs_mirror_state{")).count(), 2 * 3);
    let (head, body) = ask(&address, "GET", "/");
    assert!(head.starts_with("HTTP/1.1 404") && body.contains("/metrics"), "{head} {body}");
    assert!(ask(&address, "POST", "/metrics").0.starts_with("HTTP/1.1 405"));
    assert_eq!(ask(&address, "HEAD", "/metrics").1, "");
    mount.umount();
    assert!(TcpStream::connect(&address).is_err(), "nobody listens after the end");
}

#[test]
fn a_port_that_is_taken_is_an_error_before_the_mount() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        place.braidfs(["mount", &mirrors[0].url(), place.mountpoint().to_str().unwrap(), "--metrics", &address]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on {address}: ")) && said.contains("--metrics"), "{said}");
    assert!(!place.is_mounted());
}

/// The expressions of the dashboard.
fn expressions() -> Vec<String> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("mount-examples/grafana.json");
    let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let panels = value["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let all: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(all.len() >= panels.len() && panels.len() > 10);
    all
}

/// The metrics in an expression.
fn names(expression: &str) -> Vec<&str> {
    let names = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let names: Vec<_> = names.filter(|name| name.starts_with("braidfs_")).collect();
    assert!(!names.is_empty(), "{expression}");
    names
}

#[test]
fn the_dashboard_shows_names_that_there_are() {
    let documented =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    for expression in expressions() {
        for name in names(&expression) {
            assert!(documented.contains(&format!("| `{name}` |")), "{name} of {expression} is not documented");
        }
    }
}

/// `promtool WORDS` with this on its stdin must find nothing wrong.
fn promtool(words: &[&str], stdin: &str) {
    let mut command = Command::new("promtool");
    command.args(words).env("PATH", path_with_sbin());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "promtool {words:?}: {said}");
}

/// `promtool check metrics` reads the text from before OpenMetrics, where what is said of a counter has its whole name.
fn as_older_text(page: &str) -> String {
    let counters: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let line = |line: &str| match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
        ["#", what, name, rest] if counters.contains(name) => format!("# {what} {name}_total {rest}\n"),
        _ => format!("{line}\n"),
    };
    page.lines().map(line).collect()
}

#[test]
fn prometheus_own_tool_finds_nothing_wrong_with_page_and_dashboard() {
    if !which("promtool") {
        return eprintln!("left out: no promtool here (package prometheus)");
    }
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &["--metrics", "127.0.0.1:0"]);
    reading::generated(&mount.path("a.bin"), 1, SIZE);
    let (_, page) = ask(&address(&mount), "GET", "/metrics");
    promtool(&["check", "metrics"], &as_older_text(&page));
    let shown: BTreeSet<_> =
        page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect();
    let rule =
        |(at, expression): (usize, &String)| serde_json::json!({ "record": format!("x:{at}"), "expr": expression });
    let expressions = expressions();
    for expression in &expressions {
        assert!(names(expression).iter().all(|name| shown.contains(name)), "{expression} has no values in {page}");
    }
    let rules: Vec<_> = expressions.iter().enumerate().map(rule).collect();
    // JSON is YAML.
    std::fs::write(place.path("rules"), serde_json::json!({ "groups": [{ "name": "x", "rules": rules }] }).to_string())
        .unwrap();
    promtool(&["check", "rules", place.path("rules").to_str().unwrap()], "");
    mount.umount();
}
