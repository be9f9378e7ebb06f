//! Under a supervisor such as systemd: ready, alive, stopping, by the protocol of sd_notify.

use crate::support::faulty::{FaultyMirror, Tree};
use crate::support::mounted::{Mount, Place, program};
use crate::support::process::{run, which};
use crate::support::{state, wait};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What the daemon is told to be heard of within, in microseconds. Short, so that many periods pass in a test.
const PATIENCE_US: &str = "200000";
/// Twenty beats would come in this, were there any.
const SILENCE: Duration = Duration::from_secs(2);

fn mirror() -> FaultyMirror {
    FaultyMirror::start(Tree::new().with("a", *b"a").with_generated("big", 1, 3_000_000))
}

struct Supervisor {
    socket: UnixDatagram,
}

impl Supervisor {
    fn start(place: &Place) -> Supervisor {
        let socket = UnixDatagram::bind(place.path("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Supervisor { socket }
    }

    fn mount<'a>(&self, place: &'a Place, mirror: &FaultyMirror, more: &[&str]) -> Mount<'a> {
        let mut command = place.command();
        command.arg("mount").arg(mirror.url()).arg(place.mountpoint()).arg("--cache-dir").arg(place.cache());
        command.args(more).env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", PATIENCE_US);
        place.start(&mut command)
    }

    fn next(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Until something with `words` in it is said.
    fn hears(&self, words: &str) -> String {
        wait::for_some(&format!("{words:?} from the daemon"), || self.next().filter(|said| said.contains(words)))
    }

    fn beats_in_silence(&self) -> usize {
        while self.next().is_some() {}
        let mut beats = 0;
        wait::within(SILENCE, || {
            beats += usize::from(self.next().is_some_and(|said| said.contains("WATCHDOG=1")));
            false
        });
        beats
    }
}

/// Threads of the daemon that are stopped as a debugger stops them; they go on when this is dropped. Nothing in the
/// daemon knows of it: each simply does not run any more.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn threads(mount: &Mount<'_>, names: &str) -> Stopped {
        let mut stopped = Stopped(Vec::new());
        for task in fs::read_dir(format!("/proc/{}/task", mount.pid())).unwrap() {
            let task = task.unwrap();
            let name = fs::read_to_string(task.path().join("comm")).unwrap();
            if name.starts_with(names) {
                let thread = Pid::from_raw(task.file_name().to_str().unwrap().parse().unwrap());
                ptrace::seize(thread, ptrace::Options::empty()).unwrap();
                ptrace::interrupt(thread).unwrap();
                waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
                stopped.0.push(thread);
            }
        }
        assert!(!stopped.0.is_empty(), "the daemon has no thread {names}");
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for thread in &self.0 {
            let _ = ptrace::detach(*thread, None);
        }
    }
}

#[test]
fn ready_alive_and_stopping_are_said_in_this_order() {
    let (place, mirror) = (Place::new(), mirror());
    let supervisor = Supervisor::start(&place);
    let mount = supervisor.mount(&place, &mirror, &[]);
    let ready = wait::for_some("the first word", || supervisor.next());
    assert_eq!(ready, "READY=1\nSTATUS=online; 1 of 1 mirrors in use");
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
    for _ in 0..5 {
        supervisor.hears("WATCHDOG=1");
    }
    assert!(mount.end_by(Signal::TERM).success());
    supervisor.hears("STOPPING=1");
    assert!(!place.is_mounted());
}

#[test]
fn how_it_stands_is_said_as_it_changes() {
    let (place, mut mirror) = (Place::new(), mirror());
    let supervisor = Supervisor::start(&place);
    let mount = supervisor.mount(&place, &mirror, &[]);
    supervisor.hears("STATUS=online");
    mirror.down();
    assert!(fs::read(mount.path("big")).is_err());
    supervisor.hears("STATUS=offline, what is cached is served; 0 of 1");
    // Without mirrors it is as alive as with them.
    supervisor.hears("WATCHDOG=1");
    mirror.up();
    supervisor.hears("STATUS=online; 1 of 1");
    mount.umount();
}

/// Beats, until the threads of that name stand still, and again when they go on.
fn beats_need(names: &str) {
    let (place, mirror) = (Place::new(), mirror());
    let supervisor = Supervisor::start(&place);
    let mount = supervisor.mount(&place, &mirror, &[]);
    supervisor.hears("WATCHDOG=1");
    let stopped = Stopped::threads(&mount, names);
    // One may have been on its way.
    let beats = supervisor.beats_in_silence();
    assert!(beats <= 1, "{beats} beats while {names} stood still");
    drop(stopped);
    supervisor.hears("WATCHDOG=1");
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
    mount.umount();
}

#[test]
fn no_beat_comes_while_the_data_thread_hangs() {
    beats_need("braidfs-data");
}

#[test]
fn no_beat_comes_while_the_fuse_threads_hang() {
    beats_need("fuser-");
}

#[test]
fn no_beat_comes_while_the_control_threads_hang() {
    beats_need("braidfs-meta");
}

#[test]
fn a_supervisor_that_is_gone_does_not_hold_up_the_mount() {
    let (place, mirror) = (Place::new(), mirror());
    let mut command = place.command();
    command.arg("mount").arg(mirror.url()).arg(place.mountpoint()).arg("--cache-dir").arg(place.cache());
    let mount = place.start(command.env("NOTIFY_SOCKET", "/nowhere/at/all"));
    wait::until("it says so", || mount.log().contains("nobody listens at NOTIFY_SOCKET"));
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
    mount.umount();
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    if !which("systemd-analyze") {
        return state::skip("systemd_finds_nothing_wrong_with_the_unit", "there is no systemd-analyze");
    }
    let place = Place::new();
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("mount-examples/braidfs@.service");
    let unit = fs::read_to_string(unit).unwrap();
    let verify = |text: &str| {
        let path = place.path("braidfs@mnt-data.service");
        fs::write(&path, text.replace("/usr/bin/braidfs", program().to_str().unwrap())).unwrap();
        let output = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(path));
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (is_right, said) = verify(&unit);
    assert!(is_right && !said.contains("braidfs@"), "{said}");
    // And it would have said so.
    let (_, said) = verify(&unit.replace("WatchdogSec=", "WatchdogSecs="));
    assert!(said.contains("WatchdogSecs"), "{said}");
}
