//! Both sides over a real socket, with doors that tests can see through.

use super::client::Desk;
use super::commands::{Asked, Screen, prefetch, status, umount};
use super::mountinfo::Device;
use super::place::{Places, socket_name};
use super::protocol::REQUEST_BYTES_MAX;
use super::server::{ExplainRequest, KeepRequest, PrefetchRequest, Server};
use fakes::doors;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, oneshot};

mod fakes;
mod keeping;
mod prefetching;
mod questions;

const DEVICE: Device = Device { major: 0, minor: 77 };

/// What the doors were asked.
#[derive(Default)]
struct Seen {
    explained: Mutex<Vec<ExplainRequest>>,
    prefetched: Mutex<Vec<PrefetchRequest>>,
    kept: Mutex<Vec<KeepRequest>>,
    dropped: Notify,
    unmounted: Mutex<Vec<bool>>,
}

/// Says when the future that holds it is dropped.
struct Witness(Arc<Seen>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.dropped.notify_one();
    }
}

/// A daemon on a thread of its own, and a desk from which it is found.
struct House {
    folder: tempfile::TempDir,
    seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl House {
    fn new() -> House {
        let mut house = House::without_daemon();
        let places = house.places();
        let doors = doors(house.seen.clone(), house.mountinfo());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(&places, DEVICE, doors).unwrap();
                ready.send(()).unwrap();
                server.run(async { drop(stopped.await) }).await;
            });
        };
        house.thread = Some(std::thread::spawn(run));
        is_ready.recv().unwrap();
        house.stop = Some(stop);
        house
    }

    fn without_daemon() -> House {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("50 1 {DEVICE} / /mnt/data rw - fuse.braidfs braidfs ro,user_id={}\n", me());
        std::fs::write(folder.path().join("mountinfo"), line).unwrap();
        House { folder, seen: Arc::default(), stop: None, thread: None }
    }

    fn mountinfo(&self) -> PathBuf {
        self.folder.path().join("mountinfo")
    }

    fn places(&self) -> Places {
        Places::in_folders(vec![self.folder.path().join("run")], me())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run").join(socket_name(DEVICE))
    }

    fn desk(&self) -> Desk {
        Desk {
            cwd: "/mnt/data/folder".into(),
            mountinfo: self.mountinfo(),
            xdg_runtime_dir: None,
            folder: Some(self.folder.path().join("run")),
        }
    }

    /// Run a command; gives its exit code, stdout and stderr.
    fn run(&self, json: bool, command: impl FnOnce(&Desk, &mut Screen<'_>) -> u8) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = command(&self.desk(), &mut Screen { out: &mut out, err: &mut err, is_terminal: false, json });
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn prefetch(&self, json: bool, no_wait: bool, paths: &[&str]) -> (u8, String, String) {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        self.run(json, |desk, screen| prefetch(desk, &Asked { paths: &paths, no_wait, ..Asked::default() }, screen))
    }

    /// One line to the daemon, and all that it says.
    fn say(&self, line: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        // A daemon that refuses a long line closes before it has read it all.
        let _ = stream.write_all(line);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        String::from_utf8(said).unwrap()
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.end();
    }
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[test]
fn status_is_shown_to_people_and_to_programs() {
    let house = House::new();
    let (code, out, err) = house.run(false, |desk, screen| status(desk, None, screen));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("/mnt/data: data, online") && out.contains("https://a/  closed"), "{out}");
    let (code, out, _) = house.run(true, |desk, screen| status(desk, Some(Path::new("/mnt/data/")), screen));
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &value["mountpoint"], &value["mirrors"][0]["url"]),
        (0, &"/mnt/data".into(), &"https://a/".into())
    );
}

#[test]
fn a_file_is_found_by_its_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let house = House::new();
    let name = std::ffi::OsStr::from_bytes(b"./100%\xff");
    let (code, out, _) = house.run(true, |desk, screen| status(desk, Some(Path::new(name)), screen));
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &value["path"], &value["size"]), (0, &"folder/100%25%FF".into(), &5.into()));
    let (code, out, err) = house.run(false, |desk, screen| status(desk, Some(Path::new("nothing")), screen));
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", "braidfs: there is no such file\n"));
}

#[test]
fn a_path_elsewhere_lists_the_mounts() {
    let house = House::without_daemon();
    let (code, _, err) = house.run(false, |desk, screen| status(desk, Some(Path::new("/etc/passwd")), screen));
    assert_eq!((code, err.as_str()), (1, "braidfs: /etc/passwd is under no braidfs mount; there are: /mnt/data\n"));
    std::fs::write(house.mountinfo(), "").unwrap();
    let (code, _, err) = house.run(false, |desk, screen| status(desk, None, screen));
    assert!(
        code == 1 && err.contains("no PATH was given, and there is none at all: `braidfs mount` makes one"),
        "{err}"
    );
}

#[test]
fn a_daemon_that_is_gone_is_told_from_one_that_answers() {
    let mut house = House::without_daemon();
    let gone =
        "braidfs: the daemon of /mnt/data is gone, and left its mount behind: `braidfs umount /mnt/data` cleans up\n";
    let ask = |house: &House| house.run(false, |desk, screen| status(desk, None, screen));
    assert_eq!(ask(&house), (2, String::new(), gone.to_owned()));
    // Killed: its socket is left, and nobody listens.
    house.places().make_folder().unwrap();
    drop(std::os::unix::net::UnixListener::bind(house.socket()).unwrap());
    assert_eq!(ask(&house), (2, String::new(), gone.to_owned()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::bind(&house.places(), DEVICE, doors(house.seen.clone(), house.mountinfo())).unwrap();
        // The first one's mount is gone and it is still ending: its device number belongs to another mount already.
        let next = Server::bind(&house.places(), DEVICE, doors(house.seen.clone(), house.mountinfo())).unwrap();
        server.run(std::future::ready(())).await;
        assert!(house.socket().exists(), "it is the next one's");
        next.run(std::future::ready(())).await;
    });
    assert!(!house.socket().exists(), "it is removed at the end");
    house.end();
}

#[test]
fn the_socket_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&house.socket()), 0o600);
    assert_eq!(mode(house.socket().parent().unwrap()), 0o700);
}

#[test]
fn a_prefetch_shows_lines_and_ends_durable() {
    let house = House::new();
    let (code, out, err) = house.prefetch(false, false, &["a", "/mnt/data/b c"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(out, "2 of 2 files, 100 B, durable on disk after 500 ms; 40 B fetched for it\n");
    assert!(err.starts_with("0 B of 100 B (0 %), 0 of 2 files") && err.contains("100 B of 100 B (100 %)"), "{err}");
    let request = PrefetchRequest {
        paths: vec![b"folder/a".to_vec(), b"b c".to_vec()],
        wait: true,
        ranges: Vec::new(),
        rate: None,
    };
    assert_eq!(*house.seen.prefetched.lock().unwrap(), [request]);
}

#[test]
fn what_failed_is_named_and_the_exit_code_is_1() {
    let house = House::new();
    let (code, _, err) = house.prefetch(false, false, &["bad"]);
    assert_eq!(code, 1);
    for at in 0..200 {
        assert!(err.contains(&format!("/mnt/data/folder/bad/{at}: no mirror has it\n")), "{at} is missing in {err}");
    }
    assert!(err.ends_with("braidfs: 200 files failed\n"), "{err}");
    let (code, out, _) = house.prefetch(true, false, &["bad"]);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(code, 1);
    assert_eq!(lines.iter().filter(|line| line["failed"]["path"].is_string()).count(), 200);
    assert_eq!(lines[0]["progress"]["bytes_total"], 100);
    assert_eq!(lines.last().unwrap()["result"]["progress"]["files_failed"], 200);
}

#[test]
fn without_waiting_there_is_a_job() {
    let house = House::new();
    let (code, out, _) = house.prefetch(false, true, &["."]);
    assert_eq!((code, out.as_str()), (0, "7\n"));
    assert!(!house.seen.prefetched.lock().unwrap()[0].wait);
}

#[test]
fn paths_on_two_mounts_are_refused() {
    let house = House::new();
    let mut text = std::fs::read_to_string(house.mountinfo()).unwrap();
    text.push_str("51 1 0:78 / /mnt/other rw - fuse.braidfs braidfs ro,user_id=0\n");
    std::fs::write(house.mountinfo(), text).unwrap();
    let (code, _, err) = house.prefetch(false, false, &["a", "/mnt/other/b"]);
    assert_eq!(
        (code, err.as_str()),
        (1, "braidfs: a and /mnt/other/b are on different mounts; use a command for each\n")
    );
    let (code, out, _) = house.run(false, |desk, screen| status(desk, None, screen));
    assert!(code == 0 && out.starts_with("/mnt/data: "), "the working folder is on it: {out}");
    let elsewhere = |desk: &Desk| Desk { cwd: "/home".into(), ..desk.clone() };
    let (_, _, err) = house.run(false, |desk, screen| status(&elsewhere(desk), None, screen));
    assert!(err.contains("there are: /mnt/data, /mnt/other"), "{err}");
}

#[test]
fn a_client_that_goes_ends_its_prefetch() {
    let house = House::new();
    let mut stream = UnixStream::connect(house.socket()).unwrap();
    stream.write_all(b"{\"v\":1,\"command\":\"prefetch\",\"args\":{\"paths\":[\"hang\"],\"wait\":true}}\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"progress\":"), "{line}");
    line.clear();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "\"alive\"\n", "silence would look like trouble");
    drop(reader);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dropped =
        async { tokio::time::timeout(std::time::Duration::from_secs(60), house.seen.dropped.notified()).await };
    runtime.block_on(dropped).expect("the job ends");
}

#[test]
fn a_daemon_that_goes_in_the_middle_is_an_error() {
    let mut house = House::new();
    let desk = house.desk();
    let waiting = std::thread::spawn(move || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen { out: &mut out, err: &mut err, is_terminal: false, json: true };
        let code = prefetch(&desk, &Asked { paths: &[PathBuf::from("hang")], ..Asked::default() }, &mut screen);
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    });
    let asked = || !house.seen.prefetched.lock().unwrap().is_empty();
    assert!(
        (0..60_000_000).any(|_| {
            std::thread::yield_now();
            asked()
        }),
        "the prefetch begins"
    );
    house.end();
    let (code, out, err) = waiting.join().unwrap();
    assert_eq!((code, err.as_str()), (2, "braidfs: the daemon of /mnt/data went away before it was done\n"));
    assert!(out.lines().last().unwrap().starts_with("{\"error\":"), "{out}");
}

#[test]
fn umount_asks_the_daemon_and_waits_until_the_mount_is_gone() {
    for lazy in [false, true] {
        let house = House::new();
        let (code, out, err) = house.run(true, |desk, screen| umount(desk, Path::new("/mnt/data/x"), lazy, screen));
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(out, "{\"result\":{\"unmounted\":\"/mnt/data\"}}\n");
        assert_eq!(*house.seen.unmounted.lock().unwrap(), [lazy]);
    }
}

#[test]
fn requests_that_are_none_are_answered_with_a_reason() {
    let house = House::new();
    assert_eq!(
        house.say(b"{\"v\":1,\"command\":\"ping\"}\n"),
        format!("{{\"result\":{{\"pong\":{}}}}}\n", std::process::id())
    );
    assert_eq!(house.say(b"{\"v\":1,\"command\":\"ping\"}\n").lines().count(), 1, "one command, one answer");
    let refusal = house.say(b"{\"v\":9,\"command\":\"ping\"}\n");
    assert!(
        refusal.starts_with("{\"error\":{\"kind\":\"version\",\"message\":\"this daemon speaks version 1"),
        "{refusal}"
    );
    let refusal = house.say(b"GET / HTTP/1.1\r\n\r\n");
    assert!(refusal.contains("\"kind\":\"request\"") && refusal.contains("not a line of JSON"), "{refusal}");
    let refusal = house.say(&vec![b'x'; REQUEST_BYTES_MAX as usize + 1]);
    assert!(refusal.contains("longer than 16 MiB: name folders"), "{refusal}");
    let paths: Vec<String> = (0..1700).map(|at| format!("{at}{}", "x".repeat(10_000))).collect();
    let (code, _, err) = house.prefetch(false, false, &paths.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(code == 1 && err.contains("longer than 16 MiB together"), "{err}");
    assert!(house.seen.prefetched.lock().unwrap().is_empty());
}

#[test]
fn more_clients_than_there_is_room_for_are_told_so() {
    let house = House::new();
    let mut held: Vec<UnixStream> = (0..16).map(|_| UnixStream::connect(house.socket()).unwrap()).collect();
    let refusal = house.say(b"{\"v\":1,\"command\":\"ping\"}\n");
    assert!(refusal.contains("\"kind\":\"busy\"") && refusal.contains("16 commands are running already"), "{refusal}");
    // One goes, by asking and reading to the end: then there is room.
    let mut first = held.remove(0);
    first.write_all(b"{\"v\":1,\"command\":\"ping\"}\n").unwrap();
    first.read_to_end(&mut Vec::new()).unwrap();
    assert!((0..1000).any(|_| house.say(b"{\"v\":1,\"command\":\"ping\"}\n").contains("pong")));
}
