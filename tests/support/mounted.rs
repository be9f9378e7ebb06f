//! A mounted braidfs: the built program, run as a user would.

use super::process::{self, Process};
use super::state::{self, Registered};
use super::wait;
use rustix::process::Signal;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// The program under test: the one built with the tests, or another one (a release build, a package)
/// that `BRAIDFS_TEST_PROGRAM` names.
pub fn program() -> OsString {
    std::env::var_os("BRAIDFS_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_braidfs").into())
}

/// Is every read to come to the daemon, in all mounts? `BRAIDFS_TEST_PASSTHROUGH=false` says so: `tests/run` runs the
/// tests of mounts once more that way.
pub fn without_passthrough() -> bool {
    std::env::var_os("BRAIDFS_TEST_PASSTHROUGH").is_some_and(|said| said == "false")
}

/// The folders of one user with one mount: mountpoint, cache, sockets, logs. Gone when dropped.
pub struct Place {
    folder: TempDir,
    mounts_made: AtomicU32,
}

impl Place {
    /// Empty folders.
    pub fn new() -> Place {
        let place = Place { folder: state::folder(), mounts_made: AtomicU32::new(0) };
        for name in ["mnt", "cache", "run", "home"] {
            fs::create_dir(place.folder.path().join(name)).expect("a new folder is empty");
        }
        place
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    /// Its `--cache-dir`.
    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// A path for whatever else the test needs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `braidfs` with this user's folders, not started yet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program());
        self.environment(&mut command);
        command
    }

    /// Make any command this user's: own home, cache and socket folders, no proxies.
    pub fn environment(&self, command: &mut Command) {
        command.env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("XDG_CACHE_HOME", self.path("home/.cache")).env("XDG_CONFIG_HOME", self.path("home/.config"));
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
    }

    /// Run `braidfs WORDS` to its end.
    pub fn braidfs<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Output {
        process::run(self.command().args(words))
    }

    /// Start `braidfs mount SOURCES MOUNTPOINT --cache-dir … OPTIONS` and wait until it is mounted.
    pub fn mount<S: AsRef<str>>(&self, sources: &[S], options: &[&str]) -> Mount<'_> {
        let mut words: Vec<OsString> = vec!["mount".into()];
        words.extend(sources.iter().map(|source| source.as_ref().into()));
        words.push(self.mountpoint().into());
        if !options.contains(&"--cache-dir") {
            words.extend(["--cache-dir".into(), self.cache().into()]);
        }
        words.extend(options.iter().map(OsString::from));
        if without_passthrough() && !options.iter().any(|option| option.starts_with("--passthrough")) {
            words.push("--passthrough=false".into());
        }
        self.start(self.command().args(words))
    }

    /// Start a command that mounts on our mountpoint and stays in the foreground; wait until it has.
    pub fn start(&self, command: &mut Command) -> Mount<'_> {
        let number = self.mounts_made.fetch_add(1, Ordering::Relaxed);
        let log = self.path(&format!("log-{number}"));
        let registered = Registered::mount(&self.mountpoint());
        let before = mounts_at(&self.mountpoint());
        let process = Process::start(command, &log);
        let mut mount = Mount { place: self, process, log, _registered: registered };
        wait::until("the mount in /proc/self/mountinfo, or its end", || {
            mount.process.ended().is_some() || is_fresh(&self.mountpoint(), &before)
        });
        assert!(mount.process.ended().is_none(), "{command:?} ended without a mount");
        mount
    }

    /// Is anything mounted there?
    pub fn is_mounted(&self) -> bool {
        !mounts_at(&self.mountpoint()).is_empty()
    }

    /// Take away whatever is mounted there, also what a dead daemon left.
    pub fn clear(&self) {
        while self.is_mounted() {
            let lazily = rustix::mount::UnmountFlags::DETACH;
            if rustix::mount::unmount(self.mountpoint(), lazily).is_err() {
                process::run(Command::new("fusermount3").arg("-u").arg("-z").arg(self.mountpoint()));
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A running daemon. Dropping it unmounts, by force where it must.
pub struct Mount<'a> {
    place: &'a Place,
    process: Process,
    log: PathBuf,
    _registered: Registered,
}

impl Mount<'_> {
    /// A path below the mountpoint.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.place.mountpoint().join(below)
    }

    /// The daemon's number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `braidfs status --json`, parsed.
    pub fn status(&self) -> serde_json::Value {
        let output =
            self.place.braidfs([OsStr::new("status"), self.place.mountpoint().as_os_str(), OsStr::new("--json")]);
        assert!(output.status.success(), "status: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("status --json: {error}\n{}", String::from_utf8_lossy(&output.stdout)))
    }

    /// A number of the status, by its name.
    pub fn number(&self, name: &str) -> u64 {
        let status = self.status();
        status[name].as_u64().unwrap_or_else(|| panic!("status has no number {name}: {status:#}"))
    }

    /// What the status says of the mirror with this URL.
    pub fn mirror(&self, url: &str) -> serde_json::Value {
        let status = self.status();
        let same = |mirror: &&serde_json::Value| {
            mirror["url"].as_str().is_some_and(|have| have.trim_end_matches('/') == url.trim_end_matches('/'))
        };
        let found = status["mirrors"].as_array().and_then(|all| all.iter().find(same).cloned());
        found.unwrap_or_else(|| panic!("status has no mirror {url}: {status:#}"))
    }

    /// Everything that the daemon has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The most memory that it ever had resident, in bytes (VmHWM).
    pub fn peak_resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it is running");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
    }

    /// SIGKILL. What is mounted stays behind, as after a crash.
    pub fn kill9(mut self) {
        self.process.kill9();
    }

    /// `braidfs umount`, which must succeed and end the daemon.
    pub fn umount(mut self) {
        let output = self.place.braidfs([OsStr::new("umount"), self.place.mountpoint().as_os_str()]);
        assert!(output.status.success(), "umount: {}", String::from_utf8_lossy(&output.stderr));
        let ended = self.process.ends_within(wait::PATIENCE).expect("the daemon ends after its unmount");
        assert!(ended.success(), "the daemon ended with {ended}");
        assert!(!self.place.is_mounted(), "it is still mounted");
    }

    /// How it ended, if it does within [`wait::PATIENCE`].
    pub fn ends(&mut self) -> Option<ExitStatus> {
        self.process.ends_within(wait::PATIENCE)
    }

    /// Send it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Send a signal and give how it ended.
    pub fn end_by(mut self, signal: Signal) -> ExitStatus {
        self.process.signal(signal);
        self.process.ends_within(wait::PATIENCE).expect("the daemon ends after a signal")
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
        if self.process.ended().is_none() {
            self.process.signal(Signal::TERM);
            if self.process.ends_within(std::time::Duration::from_secs(10)).is_none() {
                // Its death aborts the connection, which frees everybody who waits in the mount.
                self.process.kill9();
            }
            self.place.clear();
        }
    }
}

/// The mount numbers at `path`, in `/proc/self/mountinfo`.
fn mounts_at(path: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let wanted = path.to_str().expect("test folders have plain names");
    let here = |line: &&str| line.split(' ').nth(4) == Some(wanted);
    table.lines().filter(here).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Is something mounted there that was not before, and does it answer?
fn is_fresh(path: &Path, before: &[String]) -> bool {
    // The kernel uses the number of a mount that is gone again, so a number that was there before may be
    // new. A folder is opened, since attributes of a dead mount may still be cached.
    let now = mounts_at(path);
    let changed = now.iter().any(|mount| !before.contains(mount)) || now.len() == 1 && before.len() == 1;
    // Between the end of a dead mount and the new one the folder below can be opened: that one is on its parent's disk.
    let device = |path: &Path| fs::File::open(path).and_then(|folder| folder.metadata()).map(|about| about.dev()).ok();
    let below = path.parent().and_then(device);
    changed && device(path).is_some_and(|device| Some(device) != below) && fs::read_dir(path).is_ok()
}
