//! `--web`: the page is served, does what its buttons say, and does it for nobody else.

use super::{data_bytes, faulty_urls, mirrors};
use crate::support::faulty::{Fault, Tree};
use crate::support::mounted::{Mount, Place, program};
use crate::support::{process, reading, state, wait};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const SIZE: u64 = 4_000_003;
const HOSTILE: &str = "<img src=x onerror=alert(1)>.bin";
const WEB: [&str; 2] = ["--web", "127.0.0.1:0"];

fn tree() -> Tree {
    Tree::new().with_generated("a.bin", 1, SIZE).with_generated(HOSTILE, 2, 10_000)
}

/// A page as its user sees it.
struct Page {
    /// With the token.
    url: String,
    address: String,
    token: String,
}

impl Page {
    fn of(place: &Place) -> Page {
        let output = place.braidfs(["web", place.mountpoint().to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let url = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let (address, token) = url.strip_prefix("http://").unwrap().split_once("/#token=").unwrap();
        Page { address: address.to_owned(), token: token.to_owned(), url: url.clone() }
    }

    /// Head and body of the answer to these bytes.
    fn raw(&self, request: &[u8]) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        // It may be refused before its end.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        answer.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned())).unwrap_or_default()
    }

    fn get(&self, path: &str) -> (String, String) {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).as_bytes())
    }

    /// A command by any method, with these headers beside the host.
    fn ask(&self, method: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let own = [("host", self.address.as_str()), ("content-type", "application/json")];
        let left = own.iter().filter(|(name, _)| headers.iter().all(|(other, _)| other != name));
        let lines: String = left.chain(headers).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let request = format!("{method} /command HTTP/1.1\r\n{lines}Content-Length: {length}\r\n\r\n{body}");
        let (head, body) = self.raw(request.as_bytes());
        (head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default(), body)
    }

    /// With the token: the code, and the lines.
    fn command(&self, command: &str, args: Value) -> (u16, Vec<Value>) {
        let body = json!({ "v": 1, "command": command, "args": args }).to_string();
        let (code, body) = self.ask("POST", &[("braidfs-token", &self.token)], &body);
        (code, body.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// What it comes to.
    fn result(&self, command: &str, args: Value) -> Value {
        let (code, lines) = self.command(command, args);
        assert_eq!(code, 200, "{command}: {lines:?}");
        lines.last().unwrap()["result"].clone()
    }

    /// The file that tells the token.
    fn file(&self) -> PathBuf {
        let folders = ["/run/braidfs".to_owned(), format!("/tmp/braidfs-{}", rustix::process::geteuid().as_raw())];
        let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let mut files =
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "web"));
        let ours = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.trim() == self.url);
        files.find(ours).expect("a file beside the socket")
    }
}

fn prefetch() -> String {
    json!({ "v": 1, "command": "prefetch", "args": { "paths": ["a.bin"], "wait": false } }).to_string()
}

/// Nothing was asked for by anybody.
fn untouched(mount: &Mount) {
    let status = mount.status();
    assert_eq!((&status["jobs"], &status["pins"]), (&json!([]), &json!([])), "{status:#}");
}

#[test]
fn the_page_is_served_without_the_token_and_tells_nothing() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &WEB);
    let page = Page::of(&place);
    assert_eq!(page.token.len(), 64);
    assert!(mount.log().contains(&format!("page at http://{}/", page.address)), "{}", mount.log());
    assert!(!mount.log().contains(&page.token), "logs are shown around");
    assert!(!mount.status().to_string().contains(&page.token), "so is what status says");
    for (path, kind) in
        [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "javascript"), ("/charts.js", "javascript")]
    {
        let (head, body) = page.get(path);
        assert!(head.starts_with("HTTP/1.1 200") && head.contains(kind), "{head}");
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(head.contains(header), "{header} is not in {head}");
        }
        for secret in [&page.token, "a.bin", &mirrors[0].url(), place.mountpoint().to_str().unwrap()] {
            assert!(!body.contains(secret), "{path} tells {secret}");
        }
        for trap in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"] {
            assert!(!body.contains(trap), "{path} has {trap}");
        }
    }
    assert!(page.get("/status").0.starts_with("HTTP/1.1 404"));
    let head = page.raw(format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", page.address).as_bytes());
    assert!(head.0.starts_with("HTTP/1.1 200") && head.1.is_empty());
    let post = page.raw(format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", page.address).as_bytes());
    assert!(post.0.starts_with("HTTP/1.1 405"), "{}", post.0);
    mount.umount();
    assert!(TcpStream::connect(&page.address).is_err(), "nobody listens after the end");
}

#[test]
fn what_is_not_our_page_with_our_token_is_refused() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &WEB);
    let page = Page::of(&place);
    let (token, origin) = (page.token.as_str(), format!("http://{}", page.address));
    let (wrong, short) = (format!("{}0", &token[..63]), &token[..63]);
    let wrong = if wrong == token { format!("{}1", &token[..63]) } else { wrong };
    let right = ("braidfs-token", token);
    let status = json!({ "v": 1, "command": "status", "args": { "path": null } }).to_string();
    for body in [&prefetch(), &status] {
        for (code, headers) in [
            (401, vec![]),
            (401, vec![("braidfs-token", "")]),
            (401, vec![("braidfs-token", wrong.as_str())]),
            (401, vec![("braidfs-token", short)]),
            (401, vec![("authorization", token)]),
            (401, vec![("origin", origin.as_str())]),
            (403, vec![right, ("origin", "http://evil.example")]),
            (403, vec![right, ("origin", "null")]),
            (403, vec![right, ("origin", "http://127.0.0.1:1")]),
            (403, vec![right, ("sec-fetch-site", "cross-site")]),
            (403, vec![right, ("host", "rebound.example")]),
            (403, vec![right, ("host", "rebound.example"), ("origin", "http://rebound.example")]),
            (403, vec![right, ("host", "127.0.0.1.example")]),
            (415, vec![right, ("content-type", "text/plain")]),
        ] {
            let (got, said) = page.ask("POST", &headers, body);
            assert_eq!(got, code, "{headers:?}: {said}");
            assert!(!said.contains("a.bin") && !said.contains(token), "{said}");
        }
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            assert_eq!(page.ask(method, &[right], body).0, 405, "{method}");
        }
    }
    // A page under a name that leads here is not served either.
    assert!(page.raw(b"GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n").0.starts_with("HTTP/1.1 403"));
    assert!(
        page.raw(b"GET / HTTP/1.0\r\n\r\n").0.starts_with("HTTP/1.1 403")
            || page.raw(b"GET / HTTP/1.0\r\n\r\n").0.starts_with("HTTP/1.0 403")
    );
    untouched(&mount);
    assert_eq!(data_bytes(&mirrors), 0, "nothing was fetched");
    // The same with all that it takes.
    let (code, said) = page.ask("POST", &[right, ("origin", &origin), ("sec-fetch-site", "same-origin")], &prefetch());
    assert_eq!(code, 200, "{said}");
}

#[test]
fn what_the_page_has_no_button_for_is_refused() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &WEB);
    let page = Page::of(&place);
    for (command, args) in [
        ("umount", json!({ "lazy": true })),
        ("reload", Value::Null),
        ("record", json!({ "path": "" })),
        ("verify", json!({ "paths": [""] })),
        ("check", json!({ "paths": [""] })),
        ("prefetch", json!({ "paths": ["a.bin"], "wait": true })),
        ("mirrors", json!({ "strategy": "round-robin" })),
        (
            "mirrors",
            json!({ "strategy": null, "change": { "url": mirrors[0].url(), "weight": null, "in_use": false } }),
        ),
    ] {
        let (code, lines) = page.command(command, args);
        assert_eq!(code, 403, "{command}: {lines:?}");
        assert!(lines[0]["error"]["message"].as_str().unwrap().contains("the page does not do this"), "{lines:?}");
    }
    assert_eq!(page.command("format", Value::Null).0, 400);
    assert_eq!(page.ask("POST", &[("braidfs-token", &page.token)], "{").0, 400);
    untouched(&mount);
    mount.umount();
}

#[test]
fn each_button_works_with_the_token() {
    let (mirrors, place) = (mirrors(2, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &WEB);
    let page = Page::of(&place);
    let job = page.result("prefetch", json!({ "paths": ["a.bin", HOSTILE], "wait": false }))["prefetch"]["job"].clone();
    wait::until("the end of the prefetch", || mount.status()["jobs"][0]["state"] == "done");
    let status = page.result("status", json!({ "path": null }))["status"].clone();
    assert_eq!(status["jobs"][0]["job"], job);
    assert_eq!(status["jobs"][0]["paths"], json!(["a.bin", HOSTILE]));
    // The same as the command says.
    let own = mount.status();
    for name in ["mountpoint", "name", "pid", "bytes_fetched", "disk_bytes", "jobs"] {
        assert_eq!(status[name], own[name], "{name}");
    }
    let mirrors = page.result("mirrors", json!({ "strategy": null }))["mirrors"]["mirrors"].as_array().unwrap().clone();
    let sum: u64 = mirrors.iter().map(|mirror| mirror["bytes_fetched"].as_u64().unwrap()).sum();
    assert_eq!(sum, own["bytes_fetched"].as_u64().unwrap());
    let counts = mirrors.iter().flat_map(|mirror| mirror["time_to_first_byte_counts"].as_array().unwrap());
    assert!(counts.map(|count| count.as_u64().unwrap()).sum::<u64>() > 0, "{mirrors:#?}");
    let (code, lines) = page.command("explain", json!({ "target": null, "last": 5000 }));
    assert_eq!(code, 200);
    assert!(
        lines.len() > 1 && lines.len() <= 101 && lines[0]["decision"]["mirrors"][0]["url"].is_string(),
        "{lines:?}"
    );
    let file = page.result("status", json!({ "path": "a.bin" }))["file"].clone();
    assert_eq!((&file["complete"], &file["pinned"]), (&json!(true), &json!(false)), "{file}");

    assert_eq!(page.result("pin", json!({ "paths": ["a.bin"] }))["pinned"]["files"], json!(1));
    assert_eq!(mount.status()["pins"][0]["path"], json!("a.bin"));
    let (code, lines) = page.command("evict", json!({ "paths": ["a.bin"] }));
    assert_eq!((code, lines[0]["failed"]["path"].clone()), (200, json!("a.bin")), "a pinned one stays: {lines:?}");
    page.result("unpin", json!({ "paths": ["a.bin"] }));
    assert_eq!(mount.status()["pins"], json!([]));
    assert_eq!(page.result("evict", json!({ "paths": ["a.bin"] }))["evicted"]["disk_bytes"], json!(SIZE));
    assert_eq!(page.result("status", json!({ "path": "a.bin" }))["file"]["cached_bytes"], json!(0));
    assert_eq!(page.command("pin", json!({ "paths": ["none"] })).0, 404);
    reading::generated(&mount.path("a.bin"), 1, SIZE);
    mount.umount();
}

#[test]
fn a_job_is_cancelled() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &WEB);
    let page = Page::of(&place);
    mirrors.iter().for_each(|mirror| mirror.always(Fault::Shape { bytes_per_second: 100 << 10 }));
    let job = page.result("prefetch", json!({ "paths": ["a.bin"], "wait": false }))["prefetch"]["job"].clone();
    assert_eq!(page.result("cancel", json!({ "job": job }))["cancelled"]["state"], json!("cancelled"));
    assert_eq!(mount.status()["jobs"][0]["state"], json!("cancelled"));
    assert_eq!(page.command("cancel", json!({ "job": job })).0, 404, "it runs no more");
    mount.umount();
}

#[test]
fn what_is_too_long_or_too_slow_is_refused_and_disturbs_nobody() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &WEB);
    let page = Page::of(&place);
    let right = ("braidfs-token", page.token.as_str());
    let paths = vec!["a.bin"; 20_000];
    let long = json!({ "v": 1, "command": "pin", "args": { "paths": paths } }).to_string();
    assert_eq!(page.ask("POST", &[right], &long).0, 413);
    let head = "x".repeat(100 << 10);
    let code = page.ask("POST", &[right, ("x-long", &head)], &prefetch()).0;
    assert!(code == 431 || code == 0, "refused, or cut off while it came: {code}");
    // As many as there may be, and more, and none says a word, or ends what it says.
    let silent: Vec<_> = (0..20)
        .map(|at| {
            let mut stream = TcpStream::connect(&page.address).unwrap();
            if at % 2 == 0 {
                let head = format!("POST /command HTTP/1.1\r\nHost: {}\r\nbraidfs-", page.address);
                stream.write_all(head.as_bytes()).unwrap();
            }
            stream
        })
        .collect();
    untouched(&mount);
    reading::generated(&mount.path("a.bin"), 1, SIZE);
    // They are let go of, and the next one's turn comes.
    assert_eq!(page.result("status", json!({ "path": null }))["status"]["bytes_read"], json!(SIZE));
    drop(silent);
    mount.umount();
}

#[test]
fn another_user_of_the_machine_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return state::skip("another_user_of_the_machine_is_refused", "only root can be another user");
    }
    const NOBODY: u32 = 65534;
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &WEB);
    let page = Page::of(&place);
    let file = page.file();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let read = Command::new("cat").arg(&file).uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap();
    let said = String::from_utf8_lossy(&read.stderr);
    assert!(!read.status.success() && read.stdout.is_empty() && said.contains("Permission denied"), "{said}");
    // It reaches the port as anybody does, and gets the page and nothing else.
    let script = "import http.client, os, sys\n\
        assert os.getuid() == 65534\n\
        def ask(method, path, **headers):\n\
        \x20   c = http.client.HTTPConnection(sys.argv[1])\n\
        \x20   c.request(method, path, sys.argv[2], {'content-type': 'application/json', **headers})\n\
        \x20   return c.getresponse().status\n\
        print(ask('GET', '/'), ask('POST', '/command'), ask('POST', '/command', **{'braidfs-token': '0' * 64}))\n";
    for body in [prefetch(), json!({ "v": 1, "command": "status", "args": { "path": null } }).to_string()] {
        let mut python = Command::new("python3");
        let asked = python.args(["-c", script, &page.address, &body]).uid(NOBODY).gid(NOBODY).current_dir("/").output();
        let asked = asked.unwrap();
        let said = String::from_utf8_lossy(&asked.stdout);
        assert_eq!(said.trim(), "200 401 401", "{}", String::from_utf8_lossy(&asked.stderr));
    }
    untouched(&mount);
    assert_eq!(data_bytes(&mirrors), 0);
    mount.umount();
    assert!(!file.exists(), "the token went with the mount");
}

#[test]
fn each_mount_has_a_token_of_its_own_and_only_with_the_option() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let mount = place.mount(&faulty_urls(&mirrors), &WEB);
    let first = Page::of(&place);
    let mountpoint = place.mountpoint();
    let output = place.braidfs(["web", mountpoint.to_str().unwrap(), "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), json!({ "url": first.url }));
    // A daemon that was killed leaves its file; the next one's is another.
    mount.kill9();
    place.clear();
    let mount = place.mount(&faulty_urls(&mirrors), &WEB);
    let second = Page::of(&place);
    assert_ne!(first.token, second.token);
    let (code, _) = second.ask("POST", &[("braidfs-token", &first.token)], &prefetch());
    assert_eq!(code, 401);
    mount.umount();

    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let output = place.braidfs(["web", mountpoint.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("serves no page") && said.contains("--web 127.0.0.1:0"), "{said}");
    mount.umount();
}

#[test]
fn a_port_that_is_taken_is_an_error_before_the_mount() {
    let (mirrors, place) = (mirrors(1, &tree()), Place::new());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = place.braidfs(["mount", &mirrors[0].url(), place.mountpoint().to_str().unwrap(), "--web", &address]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on {address}: ")) && said.contains("--web"), "{said}");
    assert!(!place.is_mounted());
}

/// The page itself: tests/web/page.py looks at it as a person would.
#[test]
fn a_browser_shows_what_is_so_and_its_buttons_work() {
    const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| NAMES.iter().any(|name| folder.join(name).exists())) {
        return state::skip("a_browser_shows_what_is_so_and_its_buttons_work", "no chromium is installed");
    }
    let place = Place::new();
    let folder = place.path("browser");
    // The script takes it away, and should it die, whoever clears up after the tests does.
    let _registered = state::Registered::mount(&folder.join("mnt"));
    let mut python = Command::new("python3");
    place.environment(&mut python);
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/web/page.py");
    let done = process::run_within(python.arg("-B").arg(script).arg(program()).arg(&folder), Duration::from_secs(300));
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}
