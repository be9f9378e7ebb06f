//! `braidfs doctor`: what is right is said, and each thing that can be wrong is found, named and comes with a way out.

use crate::support::faulty::{BlackHole, Content, Fault, FaultyMirror, Rule, Tree};
use crate::support::mounted::Place;
use crate::support::process::{output_of, run};
use crate::support::state::{self, Registered};
use crate::support::wait;
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SIZE: u64 = 3_000_000;

/// What it found, by `--json`.
struct Found {
    code: i32,
    report: Value,
}

impl Found {
    /// The findings of this check; with a URL those of that mirror.
    fn of(&self, check: &str, about: Option<&str>) -> Vec<&Value> {
        let all = self.report["findings"].as_array().unwrap();
        all.iter()
            .filter(|found| found["check"] == check && about.is_none_or(|about| found["about"].as_str() == Some(about)))
            .collect()
    }

    /// One of them has this level and says this.
    fn says(&self, check: &str, about: Option<&str>, level: &str, word: &str) {
        let found = self.of(check, about);
        let fits = |found: &&&Value| found["level"] == level && found["seen"].as_str().unwrap().contains(word);
        let fitting =
            found.iter().find(fits).unwrap_or_else(|| panic!("no {level} {check} with {word:?}: {:#}", self.report));
        let has_way_out = !fitting["do"].as_str().unwrap_or_default().is_empty();
        assert!(has_way_out || level == "ok" || level == "note", "no way out: {fitting:#}");
    }
}

fn doctor<S: AsRef<str>>(place: &Place, words: &[S]) -> Found {
    let words = words.iter().map(|word| OsString::from(word.as_ref()));
    let all = ["doctor".into(), "--json".into(), "--seed".into(), "7".into()].into_iter().chain(words);
    let output = place.braidfs(all.collect::<Vec<OsString>>());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr)));
    Found { code: output.status.code().unwrap(), report }
}

/// With nothing kept on disk: only the mirrors count.
fn doctor_of_mirrors(place: &Place, mirrors: &[&FaultyMirror]) -> Found {
    let urls = mirrors.iter().map(|mirror| mirror.url());
    let words: Vec<String> = urls.chain(["--cache-dir".into(), "none".into()]).collect();
    doctor(place, &words)
}

fn tree() -> Tree {
    Tree::new().with("readme", *b"hello").with_generated("big/data.bin", 1, SIZE).with_generated(
        "big/more.bin",
        2,
        70_000,
    )
}

#[test]
fn where_nothing_is_wrong_it_says_so_and_leaves_nothing_behind() {
    let place = Place::new();
    let (one, other) = (FaultyMirror::start(tree()), FaultyMirror::start(tree()));
    let (cache, mountpoint) = (place.cache(), place.mountpoint());
    let words =
        [one.url(), other.url(), mountpoint.display().to_string(), "--cache-dir".into(), cache.display().to_string()];
    let found = doctor(&place, &words);
    assert_eq!((found.code, &found.report["problems"]), (0, &Value::from(0)), "{:#}", found.report);
    for check in ["fuse device", "control folder", "mountpoint", "folder", "other mounts"] {
        found.says(check, None, "ok", "");
    }
    for mirror in [&one, &other] {
        for check in
            ["name", "connection", "index", "http", "file", "versions", "ranges", "first byte", "keep-alive", "speed"]
        {
            found.says(check, Some(&mirror.url()), "ok", "");
        }
    }
    found.says("file", Some(&one.url()), "ok", "big/data.bin: 3000000 bytes");
    found.says("names", None, "ok", "all 4 that were looked at");
    assert_eq!(
        found.of("bytes", None).iter().filter(|found| found["figures"]["mirrors"] == 2).count(),
        found.of("bytes", None).len()
    );
    assert!(found.of("bytes", None).len() >= 2, "the largest and the smallest: {:#}", found.report);
    assert!(fs::read_dir(&cache).unwrap().next().is_none() && !place.is_mounted());
    assert!(one.data_bytes() < 2 * SIZE, "it fetched {}", one.data_bytes());
    let output = place.braidfs(["doctor"].map(str::to_owned).into_iter().chain(words));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains(&format!("\nmirror {}\n  ok ", one.url())), "{text}");
    let last = text.lines().last().unwrap();
    assert!(
        last.contains("findings in") && (last.starts_with("nothing is wrong") || last.starts_with("no problem")),
        "{text}"
    );
}

#[test]
fn each_fault_of_a_mirror_is_found() {
    let place = Place::new();
    let mirror = FaultyMirror::start(tree());
    let url = mirror.url();
    let status = |code| Fault::Status { code, retry_after_s: None };
    let login = "<html><body><form action=login><input type=password></form></body></html>";
    for (rule, check, level, word) in [
        (Rule::new(Fault::NoRanges), "ranges", "warning", "serves whole files only"),
        (Rule::new(Fault::NoValidators), "versions", "warning", "neither ETag nor Last-Modified"),
        (Rule::new(Fault::Gzip), "file", "problem", "gzip"),
        (Rule::new(Fault::HtmlPage { status: 200 }), "file", "problem", "HTML page"),
        (Rule::new(Fault::ContentRange { start: 1, end: 1, total: 0 }), "file", "problem", "without saying how large"),
        (Rule::new(status(404)), "file", "problem", "404"),
        (Rule::new(Fault::ContentRange { start: 1, end: 1, total: 0 }).from(1), "ranges", "problem", "and sends bytes"),
        (Rule::new(Fault::Delay(Duration::from_millis(600))), "first byte", "warning", "the median of"),
        (
            Rule::new(Fault::TruncateAfter(100)).when(|asked| asked.range().is_some()).from(8),
            "speed",
            "problem",
            "after",
        ),
        (Rule::everywhere(status(401)), "index", "problem", "401"),
        (Rule::everywhere(status(503)), "index", "problem", "503"),
        (Rule::everywhere(Fault::Page(login.into())), "index", "problem", "login page"),
        (Rule::everywhere(Fault::Hangup), "index", "problem", ""),
    ] {
        mirror.honest();
        mirror.add(rule.clone());
        let found = doctor_of_mirrors(&place, &[&mirror]);
        found.says(check, Some(&url), level, word);
        assert_eq!(found.code, i32::from(level == "problem"), "{check} {word}: {:#}", found.report);
    }
}

#[test]
fn an_index_that_is_not_what_is_served() {
    let place = Place::new();
    let mirror = FaultyMirror::start(Tree::new().with_generated("a.bin", 1, 100_000));
    let page = |date: &str, size: &str| {
        let row = format!("<a href=\"a.bin\">a.bin</a>       {date}       {size}\n");
        let page = format!(
            "<html><head><title>Index of /</title></head><body><h1>Index of /</h1><hr><pre><a href=\"../\">../</a>\n{row}</pre><hr></body></html>"
        );
        Rule::everywhere(Fault::Page(page)).when(|asked| asked.is_index())
    };
    for (date, size, level, word) in [
        ("06-May-2024 07:08", "5", "problem", "a.bin: its index says 5 bytes, and it serves 100000"),
        ("06-May-2024 09:08", "100000", "warning", "its index is dated +2.00 h from UTC"),
        ("06-May-2024 07:11", "100000", "warning", "dated 3 min apart"),
        ("06-May-2024 07:08", "100000", "ok", "as it is listed"),
    ] {
        mirror.honest();
        mirror.add(page(date, size));
        doctor_of_mirrors(&place, &[&mirror]).says("file", Some(&mirror.url()), level, word);
    }
}

#[test]
fn mirrors_that_cannot_be_reached_are_each_a_finding_and_not_the_end() {
    let place = Place::new();
    let (good, mut down, hole) = (FaultyMirror::start(tree()), FaultyMirror::start(tree()), BlackHole::open());
    let stranger = FaultyMirror::start_tls(tree());
    down.down();
    let plain_tls = good.url().replace("http://", "https://");
    let nobody = "http://no-such-host.invalid/".to_owned();
    let words = [
        good.url(),
        down.url(),
        hole.url(),
        stranger.url(),
        plain_tls.clone(),
        nobody.clone(),
        "--cache-dir=none".into(),
    ];
    let found = doctor(&place, &words);
    assert_eq!(found.code, 1);
    found.says("connection", Some(&down.url()), "problem", "refused");
    found.says("connection", Some(&hole.url()), "problem", "no answer within");
    found.says("tls", Some(&stranger.url()), "problem", "its certificate is not believed");
    found.says("tls", Some(&plain_tls), "problem", "no TLS connection");
    found.says("name", Some(&nobody), "problem", "no-such-host.invalid");
    found.says("ranges", Some(&good.url()), "ok", "");
    found.says("mirrors", None, "note", "of 6 mirrors 1 can be listed");
    // The way out that is named for a certificate.
    fs::write(place.path("ca.pem"), stranger.certificate_pem()).unwrap();
    let file = format!("cache-dir = \"none\"\n[[mirror]]\nurl = \"{}\"\nca-file = \"ca.pem\"\n", stranger.url());
    fs::write(place.path("tls.toml"), file).unwrap();
    let found = doctor(&place, &["--config", place.path("tls.toml").to_str().unwrap()]);
    found.says("tls", Some(&stranger.url()), "ok", "TLS 1.3, its certificate is believed");
    assert_eq!(found.code, 0, "{:#}", found.report);
}

#[test]
fn mirrors_that_are_not_the_same_are_named() {
    let place = Place::new();
    let mirrors: Vec<FaultyMirror> = (0..3).map(|_| FaultyMirror::start(tree())).collect();
    let all: Vec<&FaultyMirror> = mirrors.iter().collect();
    let (first, odd) = (mirrors[0].url(), mirrors[2].url());
    mirrors[2].always(Fault::Corrupt);
    let found = doctor_of_mirrors(&place, &all);
    assert_eq!(found.code, 1);
    found.says("bytes", None, "problem", &format!("{odd} differs from {first}, {}", mirrors[1].url()));
    let found = doctor_of_mirrors(&place, &[all[0], all[2]]);
    found.says("bytes", None, "problem", &format!("{first} and {odd} differ, and nobody can decide"));
    mirrors[2].honest();
    mirrors[2].put("big/data.bin", Content::Generated { seed: 1, size_bytes: SIZE + 1 });
    let found = doctor_of_mirrors(&place, &all);
    found.says("files", None, "warning", &format!("3000001 bytes, 2024-05-06 07:09: {odd}"));
    mirrors[2].put_dated("big/data.bin", Content::Generated { seed: 1, size_bytes: SIZE }, 1_714_979_280 - 7200);
    let found = doctor_of_mirrors(&place, &all);
    found.says("files", None, "warning", &format!("3000000 bytes, 2024-05-06 05:08: {odd}"));
    mirrors[2].remove("big/more.bin");
    let found = doctor_of_mirrors(&place, &all);
    found.says("names", None, "warning", &format!("{odd} lacks 1 of 4, big/more.bin for one"));
    assert_eq!(found.code, 0, "warnings are no problem: {:#}", found.report);
    let stranger = FaultyMirror::start(Tree::new().with("other", *b"x"));
    doctor_of_mirrors(&place, &[all[0], &stranger]).says("files", None, "problem", "no file is on two mirrors");
}

#[test]
fn no_credentials_are_shown() {
    let place = Place::new();
    let (mirror, refusing) = (FaultyMirror::start(tree()), FaultyMirror::start(tree()));
    refusing.add(Rule::everywhere(Fault::Status { code: 403, retry_after_s: None }));
    let to = mirror.url();
    let signed = Fault::Redirect { base: to, query: "signature=hidden".into() };
    let redirecting = FaultyMirror::start(tree());
    redirecting.always(signed);
    let with_user = |mirror: &FaultyMirror| mirror.url().replace("http://", "http://joe:s3cret@");
    let file = format!(
        "cache-dir = \"none\"\n[[mirror]]\nurl = \"{}\"\nheaders = {{ Authorization = \"Bearer hidden\" }}\n[[mirror]]\nurl = \"{}\"\n[[mirror]]\nurl = \"{}\"\n",
        with_user(&mirror),
        with_user(&refusing),
        with_user(&redirecting)
    );
    fs::write(place.path("m.toml"), file).unwrap();
    for json in [&["--json"][..], &[]] {
        let mut command = place.command();
        let output = run(command.arg("doctor").arg(place.path("m.toml")).args(json));
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(said.contains("its files come from") && said.contains("403"), "{said}");
        for secret in ["s3cret", "joe", "hidden"] {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
    }
}

#[test]
fn behind_a_proxy_names_and_ports_are_its_business() {
    let (place, proxy) = (Place::new(), FaultyMirror::start(tree()));
    let url = "http://no-such-host.invalid/";
    let mut command = place.command();
    command.env("http_proxy", proxy.url().replace("http://", "http://joe:s3cret@"));
    let output = run(command.args(["doctor", "--json", "--cache-dir", "none", url]));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = Found { code: output.status.code().unwrap(), report: serde_json::from_str(&said).unwrap() };
    found.says("connection", Some(url), "note", &format!("through the proxy {}", proxy.address()));
    assert!(found.of("name", Some(url)).is_empty() && !said.contains("s3cret"), "{said}");
    assert!(!proxy.requests().is_empty(), "it was not asked");
}

#[test]
fn cache_folders_that_will_not_do() {
    let (place, mirror) = (Place::new(), FaultyMirror::start(tree()));
    let with = |cache: &Path| doctor(&place, &[&mirror.url(), "--cache-dir", cache.to_str().unwrap()]);
    // Not even root makes folders there.
    let found = with(Path::new("/proc/braidfs-cache"));
    found.says("folder", None, "problem", "/proc/braidfs-cache cannot be written");
    assert_eq!(found.code, 1);
    fs::write(place.path("file"), b"mine").unwrap();
    with(&place.path("file")).says("folder", None, "problem", "is not a folder");
    assert_eq!(fs::read(place.path("file")).unwrap(), b"mine");
    let fresh = place.path("not/yet");
    let found = with(&fresh);
    found.says("folder", None, "ok", "it can be made");
    found.says("disk", None, found.of("disk", None)[0]["level"].as_str().unwrap(), "read back at");
    assert!(!place.path("not").exists());
    let mount = place.mount(&[mirror.url()], &[]);
    let used = format!("process {} uses this folder", mount.pid());
    let found = with(&place.cache());
    found.says("other mounts", None, "note", &used);
    assert_eq!(found.code, 0);
    let (url, cache, other) = (mirror.url(), place.cache(), place.path("other"));
    fs::create_dir(&other).unwrap();
    let words = [&url, other.to_str().unwrap(), "--cache-dir", cache.to_str().unwrap()];
    doctor(&place, &words).says("other mounts", None, "problem", &used);
    mount.umount();
    with(&place.cache()).says("other mounts", None, "ok", "");
}

/// A disk of 6 MiB, which takes no writes where asked to.
struct SmallDisk<'a>(&'a Path, #[allow(dead_code, reason = "struck out when dropped")] Registered);

impl SmallDisk<'_> {
    fn mount(at: &Path) -> SmallDisk<'_> {
        fs::create_dir(at).unwrap();
        let registered = Registered::mount(at);
        output_of(Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "braidfs-test"]).arg(at));
        SmallDisk(at, registered)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_and_a_read_only_disk() {
    if !rustix::process::geteuid().is_root() {
        return state::skip("a_full_and_a_read_only_disk", "only root can mount a small disk");
    }
    let (place, mirror) = (Place::new(), FaultyMirror::start(tree()));
    let at = place.path("small");
    let disk = SmallDisk::mount(&at);
    let words = [mirror.url(), "--cache-dir".into(), at.join("cache").display().to_string()];
    let found = doctor(&place, &words);
    found.says("space", None, "warning", "nothing new is kept on disk");
    found.says("file system", None, "warning", "tmpfs: it is memory");
    found.says("disk", None, "note", "not measured");
    assert_eq!(found.code, 0, "a mount works there: {:#}", found.report);
    output_of(Command::new("mount").args(["-o", "remount,ro"]).arg(disk.0));
    let found = doctor(&place, &words);
    found.says("folder", None, "problem", "Read-only");
    assert_eq!(found.code, 1);
}

#[test]
fn a_live_mount_is_looked_at_from_any_path_on_it() {
    let (place, mut mirror) = (Place::new(), FaultyMirror::start(tree()));
    let mount = place.mount(&[mirror.url()], &[]);
    assert_eq!(fs::read(mount.path("readme")).unwrap(), b"hello");
    let path = mount.path("big").display().to_string();
    let found = doctor(&place, &[&path]);
    assert_eq!(found.code, 0, "{:#}", found.report);
    let mountpoint = place.mountpoint().display().to_string();
    found.says("daemon", Some(&mountpoint), "ok", &format!("process {} answers", mount.pid()));
    found.says("state", Some(&mountpoint), "ok", "online, 1 of 1 mirrors in use");
    found.says("root folder", Some(&mountpoint), "ok", "2 names");
    found.says("state", Some(&mirror.url()), "ok", "in use");
    mirror.down();
    wait::until("the mount to be offline", || {
        let _ = fs::read(mount.path("big/data.bin"));
        mount.status()["state"] == "offline"
    });
    let found = doctor(&place, &[&path]);
    assert_eq!(found.code, 1);
    found.says("state", Some(&mountpoint), "problem", "offline");
    mount.kill9();
    let found = doctor(&place, &[&mountpoint]);
    assert_eq!(found.code, 1);
    found.says("daemon", Some(&mountpoint), "problem", "it is gone");
}

#[test]
fn bad_input_is_a_finding_or_wrong_usage() {
    let place = Place::new();
    let found = doctor(&place, &["example.org/data"]);
    assert_eq!(found.code, 1);
    found.says("mount", None, "problem", "write https://example.org/data");
    found.says("fuse device", None, "ok", "");
    let found = doctor(&place, &["--config", "/no/such.toml"]);
    found.says("mount", None, "problem", "/no/such.toml");
    let found = doctor(&place, &["http://127.0.0.1:9/", "/no/such/folder", "--cache-dir", "none"]);
    found.says("mountpoint", None, "problem", "/no/such/folder does not exist");
    found.says("folder", None, "note", "nothing is kept on disk");
    found.says("connection", Some("http://127.0.0.1:9/"), "problem", "refused");
    for words in [&["doctor", "http://a/", "--memory", "lots"][..], &["doctor", "--no-such-option"]] {
        let output = place.braidfs(words);
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let found = doctor(&place, &[] as &[&str]);
    found.says("fuse device", None, "ok", "");
    found.says("mirrors", None, "note", "no SOURCE was given");
}
