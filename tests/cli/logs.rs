//! The log, in each of its forms: what is in it, and what never is.

use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::{Mount, Place, program};
use crate::support::process::Process;
use crate::support::{state, wait};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

fn mirror() -> FaultyMirror {
    FaultyMirror::start(Tree::new().with("a", *b"a").with("folder/b", *b"b"))
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn of_message<'a>(objects: &'a [Value], message: &str) -> &'a Value {
    objects.iter().find(|object| object["message"] == message).unwrap_or_else(|| panic!("no {message:?}: {objects:?}"))
}

fn is_mounted_line(place: &Place, object: &Value) {
    assert_eq!(object["level"], "info", "{object}");
    assert_eq!(object["target"], "braidfs::mount", "{object}");
    assert_eq!(object["mountpoint"], place.mountpoint().to_str().unwrap(), "{object}");
    let time: jiff::Timestamp = object["time"].as_str().unwrap().parse().expect("RFC 3339");
    assert!(time.as_second() > 1_700_000_000, "{object}");
}

#[test]
fn json_is_an_object_a_line() {
    let (place, mirror) = (Place::new(), mirror());
    let mount = place.mount(&[mirror.url()], &["--log", "json"]);
    wait::until("the log says that it is mounted", || mount.log().contains("\"mounted\""));
    let log = objects(&mount.log());
    is_mounted_line(&place, of_message(&log, "mounted"));
    mount.umount();
    // Into a file, and by the environment.
    let file = place.path("log.json");
    let words = ["mount", &mirror.url(), place.mountpoint().to_str().unwrap()].map(str::to_owned);
    let mut command = place.command();
    command.args(words).arg("--cache-dir").arg(place.cache()).arg("--log-file").arg(&file);
    let mount = place.start(command.env("BRAIDFS_LOG", "json"));
    wait::until("the log says that it is mounted", || {
        fs::read_to_string(&file).is_ok_and(|log| log.contains("mounted"))
    });
    is_mounted_line(&place, of_message(&objects(&fs::read_to_string(&file).unwrap()), "mounted"));
    assert_eq!(mount.log(), "");
    mount.umount();
}

#[test]
fn the_reason_of_a_failure_is_an_object_too() {
    let (place, mut mirror) = (Place::new(), mirror());
    mirror.down();
    let (mountpoint, cache) = (place.mountpoint(), place.cache());
    let words = ["mount", &mirror.url(), mountpoint.to_str().unwrap(), "--cache-dir", cache.to_str().unwrap()];
    let output = place.braidfs(words.into_iter().chain(["--log", "json"]));
    assert_eq!(output.status.code(), Some(1));
    let log = objects(&String::from_utf8(output.stderr).unwrap());
    let last = log.last().unwrap();
    assert_eq!(last["level"], "error", "{last}");
    assert!(last["message"].as_str().unwrap().contains(&mirror.url()), "{last}");
}

#[test]
fn levels_leave_out_what_is_below() {
    let (place, mirror) = (Place::new(), mirror());
    let levels = |mount: &Mount| -> Vec<String> {
        fs::read(mount.path("a")).unwrap();
        let objects = objects(&mount.log());
        objects.iter().map(|object| object["level"].as_str().unwrap().to_owned()).collect()
    };
    let mount = place.mount(&[mirror.url()], &["--log", "json", "--log-level", "warn"]);
    assert!(!levels(&mount).contains(&"info".to_owned()));
    mount.umount();
    let mount = place.mount(&[mirror.url()], &["--log", "json", "-vv"]);
    wait::until("decisions are logged", || levels(&mount).contains(&"trace".to_owned()));
    mount.umount();
    let mount = place.mount(&[mirror.url()], &["--log", "json", "-vv", "--log-level", "info"]);
    wait::until("the log says that it is mounted", || mount.log().contains("\"mounted\""));
    let levels = levels(&mount);
    assert!(!levels.contains(&"debug".to_owned()) && !levels.contains(&"trace".to_owned()), "{levels:?}");
    mount.umount();
}

/// What takes the place of journald, in the mount namespace of the daemon alone.
struct Journald {
    folder: PathBuf,
    heard: Arc<Mutex<String>>,
}

const IN_NAMESPACE: &str = r#"mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$1" /run/systemd/journal && shift && exec "$@""#;

impl Journald {
    /// Only root can make a namespace of mounts.
    fn start(place: &Place, test: &str) -> Option<Journald> {
        if !rustix::process::geteuid().is_root() {
            state::skip(test, "only root can put another journal into a namespace");
            return None;
        }
        let folder = place.path("journal");
        fs::create_dir(&folder).unwrap();
        let socket = UnixDatagram::bind(folder.join("socket")).unwrap();
        let heard: Arc<Mutex<String>> = Arc::default();
        let hears = heard.clone();
        std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 20];
            while let Ok(length) = socket.recv(&mut bytes) {
                hears.lock().unwrap().push_str(&format!("{}\n", String::from_utf8_lossy(&bytes[..length])));
            }
        });
        Some(Journald { folder, heard })
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }

    /// The entry that has this in its message.
    fn entry(&self, message: &str) -> String {
        wait::for_some(&format!("an entry {message:?} in the journal"), || {
            self.heard()
                .split("\n\n")
                .find(|entry| entry.starts_with("MESSAGE") && entry.contains(message))
                .map(str::to_owned)
        })
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-ec", IN_NAMESPACE, "sh"]).arg(&self.folder).arg(program());
        place.environment(&mut command);
        command.arg("mount").arg(place.mountpoint());
        command
    }
}

#[test]
fn under_systemd_the_log_goes_to_the_journal_with_its_fields() {
    let (place, mut mirror) = (Place::new(), mirror());
    let Some(journald) = Journald::start(&place, "under_systemd_the_log_goes_to_the_journal_with_its_fields") else {
        return;
    };
    // systemd names what it connected stderr to; here that is a file.
    let log = place.path("stderr");
    fs::write(&log, "").unwrap();
    let about = fs::metadata(&log).unwrap();
    let mut command = journald.command(&place);
    command.args(["--cache-dir", "none", "--config", place.path("m.toml").to_str().unwrap()]);
    fs::write(place.path("m.toml"), format!("[[mirror]]\nurl = \"{}\"\n", mirror.url())).unwrap();
    command.env("JOURNAL_STREAM", format!("{}:{}", about.dev(), about.ino()));
    let mut daemon = Process::start(&mut command, &log);
    let entry = journald.entry("=mounted ");
    for line in [
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=braidfs",
        "TARGET=braidfs::mount",
        &format!("BRAIDFS_MOUNTPOINT={}", place.mountpoint().display()),
    ] {
        assert!(entry.lines().any(|have| have == line), "no {line} in {entry}");
    }
    let there = format!("/proc/{}/root{}", daemon.pid(), place.mountpoint().display());
    assert_eq!(fs::read(format!("{there}/a")).unwrap(), b"a");
    mirror.down();
    assert!(fs::read(format!("{there}/folder/b")).is_err());
    daemon.signal(Signal::TERM);
    assert!(daemon.ends_within(wait::PATIENCE).expect("it ends").success());
    assert_eq!(fs::read_to_string(&log).unwrap(), "", "stderr is the same journal: nothing stands there twice");
    // What it ends with has the priority of an error.
    let mut daemon = Process::start(&mut command, &log);
    assert_eq!(daemon.ends_within(wait::PATIENCE).expect("it ends").code(), Some(1));
    let entry = journald.entry("no mirror lists the dataset");
    assert!(entry.contains("PRIORITY=3"), "{entry}");
}

#[test]
fn another_stderr_than_the_journal_gets_text() {
    let (place, mirror) = (Place::new(), mirror());
    let mut command = place.command();
    command.arg("mount").arg(mirror.url()).arg(place.mountpoint()).arg("--cache-dir").arg(place.cache());
    let mount = place.start(command.env("JOURNAL_STREAM", "1:1"));
    wait::until("the log says that it is mounted", || mount.log().contains("mounted"));
    mount.umount();
}

#[test]
fn without_a_journal_it_cannot_be_written_to() {
    let place = Place::new();
    if std::path::Path::new("/run/systemd/journal/socket").exists() {
        return state::skip("without_a_journal_it_cannot_be_written_to", "this machine has a journal");
    }
    let output = place.braidfs(["mount", "http://127.0.0.1:9/", place.mountpoint().to_str().unwrap(), "--log=journal"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("/run/systemd/journal/socket"), "{said}");
    assert!(said.contains("log text") && !said.contains("panicked"), "{said}");
}

/// No form of the log, with all that it can say, has what is secret: in URLs, in headers, and as it goes over the wire.
#[test]
fn credentials_are_in_no_log() {
    const SECRETS: &[&str] = &["s3cret", "am9lOnMzY3JldA", "t0ken"];
    let tree = Tree::new().with("a", *b"a").with_generated("big", 1, 3_000_000);
    for format in ["text", "json", "journal"] {
        let place = Place::new();
        let mut mirrors: Vec<_> = (0..2).map(|_| FaultyMirror::start(tree.clone())).collect();
        let with_password = mirrors[0].url().replace("http://", "http://joe:s3cret@");
        let file = format!(
            "[[mirror]]\nurl = \"{with_password}\"\n[[mirror]]\nurl = \"{}\"\nheaders = {{ Authorization = \"Bearer t0ken\" }}\n",
            mirrors[1].url()
        );
        fs::write(place.path("m.toml"), file).unwrap();
        let journald = match format {
            "journal" => match Journald::start(&place, "credentials_are_in_no_log") {
                Some(journald) => Some(journald),
                None => continue,
            },
            _ => None,
        };
        let mut command = match &journald {
            Some(journald) => journald.command(&place),
            None => place.command(),
        };
        if journald.is_none() {
            command.arg("mount").arg(place.mountpoint());
        }
        command.arg("--cache-dir").arg(place.cache());
        command.args(["-vv", "--log", format, "--config"]).arg(place.path("m.toml"));
        let log = place.path("log");
        let mut daemon = Process::start(&mut command, &log);
        let there = format!("/proc/{}/root{}", daemon.pid(), place.mountpoint().display());
        wait::until("it is mounted", || fs::read(format!("{there}/a")).is_ok());
        fs::read(format!("{there}/big")).unwrap();
        mirrors.iter_mut().for_each(FaultyMirror::down);
        // Asked of nobody, and of the mirrors that are gone.
        assert!(fs::read_dir(format!("{there}/none")).is_err());
        daemon.signal(Signal::TERM);
        assert!(daemon.ends_within(wait::PATIENCE).expect("it ends").success());
        let mut text = fs::read_to_string(&log).unwrap();
        if let Some(journald) = &journald {
            text.push_str(&journald.heard());
        }
        assert!(text.contains("decided"), "{format}: it does not say what it decides");
        for secret in SECRETS {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{format}: {secret} in {line:?}");
        }
    }
}
