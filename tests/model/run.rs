//! One mount over its mirrors, and all that is open on it.

use super::history::History;
use super::maps::Maps;
use super::oracle::{IO, STALE, TIMED_OUT};
use super::reading::{Job, Opened, Outcome};
use super::remote::{Habit, Remote};
use super::risk::Risk;
use crate::support::mounted::{Mount, Place};
use crate::support::wait;
use braidfs::clock::{Time, now};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A file that the child has mapped.
pub struct Mapped {
    pub key: u64,
    pub name: usize,
    pub version: usize,
    pub size_bytes: u64,
    pub at: Time,
}

/// How a mount keeps what arrives, and who reads it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeping {
    /// In memory only.
    Memory,
    /// On disk; every read comes to the daemon.
    Answered,
    /// On disk, where the kernel reads complete files by itself.
    PassedThrough,
}

impl Keeping {
    /// One mount in six keeps nothing on disk; the kernel takes over in every second.
    fn of(seed: u64) -> Keeping {
        match seed % 6 {
            3 => Keeping::Memory,
            1 | 5 => Keeping::Answered,
            _ => Keeping::PassedThrough,
        }
    }
}

/// A run under way.
pub struct Run<'a> {
    place: &'a Place,
    pub seed: u64,
    pub keeping: Keeping,
    pub remote: Remote,
    mount: Option<Mount<'a>>,
    pub handles: Vec<Arc<Opened>>,
    pub maps: Option<Maps>,
    pub mapped: Vec<Mapped>,
    /// Steps done.
    pub number: u64,
    /// Draws from the generator; each has one of its own, so that what came before shifts nothing.
    pub draw: u64,
    pub offline_until: Option<u64>,
    pub risk: Risk,
    pub history: History,
    /// When all folders were last looked at.
    pub folders_seen: Time,
    last_seen: Vec<usize>,
    /// When a read failed last because the machine was too busy to bring it in time.
    last_late: Time,
}

/// A read that fails after this has met a deadline (`--read-timeout`, or the one in all).
const DEADLINE: Duration = Duration::from_millis(2400);
/// What failed at a deadline fails at once for so long.
const AFTERMATH: Duration = Duration::from_secs(1);

/// So many steps from this seed; returns what was at risk, and how it was kept. Panics where anything was wrong.
pub fn run(seed: u64, steps: u64) -> (Keeping, Risk) {
    let place = Place::new();
    let mut random = StdRng::seed_from_u64(seed);
    let remote = Remote::start(random.random_range(2..5), seed);
    let last_seen = vec![0; remote.files.len()];
    let mut run = Run {
        place: &place,
        seed,
        keeping: Keeping::of(seed),
        remote,
        mount: None,
        handles: Vec::new(),
        maps: None,
        mapped: Vec::new(),
        number: 0,
        draw: 0,
        offline_until: None,
        risk: Risk::default(),
        history: History::of(seed),
        folders_seen: now(),
        last_seen,
        last_late: Time(0),
    };
    run.mount(&mut random);
    while run.number < steps {
        run.step();
    }
    run.end()
}

impl Run<'_> {
    pub fn keeps_on_disk(&self) -> bool {
        self.keeping != Keeping::Memory
    }

    /// Start the daemon, with options that chance has chosen.
    pub fn mount(&mut self, random: &mut StdRng) {
        let urls: Vec<String> = self.remote.mirrors.iter().map(|mirror| mirror.url()).collect();
        let strategies = ["adaptive", "predicted", "round-robin", "weighted-random", "response-time-first"];
        let mut options = vec!["--entry-lifetime", "500ms", "--read-timeout", "2500ms", "--read-deadline", "3s"];
        options.extend(["--memory", "16MiB"]);
        options.extend(["--strategy", strategies[random.random_range(0..strategies.len())]]);
        options.push(if random.random_bool(0.8) { "--hedging=true" } else { "--hedging=false" });
        options.extend(match self.keeping {
            Keeping::Memory => ["--cache-dir", "none"].as_slice(),
            Keeping::Answered => &["--cache-size", "24MiB", "--passthrough=false"],
            Keeping::PassedThrough => &["--cache-size", "24MiB"],
        });
        if std::env::var_os("BRAIDFS_MODEL_VERBOSE").is_some() {
            options.extend(["-v", "-v"]);
        }
        self.history.note(self.number, format!("mount of {} mirrors, {options:?}", urls.len()));
        self.mount = Some(self.place.mount(&urls, &options));
        self.remote.remembers(self.folders_seen);
    }

    /// The mount, which there is but in the middle of a restart.
    pub fn mounted(&self) -> &Mount<'_> {
        self.mount.as_ref().expect("it is mounted")
    }

    /// Close all and end the daemon, by `umount` or by SIGKILL while `jobs` are read.
    pub fn end_daemon(&mut self, killed_among: Option<Vec<Vec<Job>>>) {
        self.count_evictions();
        for mapped in self.mapped.drain(..) {
            self.maps.as_mut().expect("something is mapped").close(mapped.key);
        }
        let mount = self.mount.take().expect("it is mounted");
        match killed_among {
            None => {
                self.handles.clear();
                mount.umount();
            }
            Some(lists) => {
                for outcome in super::reading::together(lists, || mount.kill9()) {
                    self.check(&outcome, true);
                }
                self.handles.clear();
            }
        }
    }

    fn count_evictions(&mut self) {
        let status = self.mounted().status();
        let counter = |name: &str| status["counters"][name].as_u64().expect("a counter");
        self.risk.add("bytes evicted from memory", counter("memory_evicted_bytes"));
        self.risk.add("bytes evicted from disk", counter("disk_evicted_bytes"));
        self.risk.add("files passed through", counter("passthrough_opens"));
        assert_eq!(counter("disk_damaged_pages"), 0, "pages of the cache were damaged");
    }

    fn end(mut self) -> (Keeping, Risk) {
        self.come_online();
        self.end_daemon(None);
        self.risk.add("requests struck by a fault", self.remote.struck());
        (self.keeping, self.risk)
    }

    /// The path of a file of the model.
    pub fn path(&self, name: usize) -> PathBuf {
        self.place.mountpoint().join(self.remote.files[name].path)
    }

    /// A folder of the mount.
    pub fn folder(&self, folder: &str) -> PathBuf {
        self.place.mountpoint().join(folder)
    }

    /// Judge a read, and count it.
    pub fn check(&mut self, outcome: &Outcome, killed: bool) {
        // Also where that was no wonder: what failed at a deadline goes on to fail for a moment.
        let late = self.is_late(outcome.errno, outcome.from, outcome.to);
        if let Err(why) = self.remote.judge(outcome, killed) {
            match late {
                true => self.comes_later(&outcome.job, &why),
                false => self.wrong(outcome, &why),
            }
        }
        let opened = &outcome.job.opened;
        let file = &self.remote.files[opened.name];
        if outcome.errno.is_some() && self.offline_until.is_none() && !self.draw.is_multiple_of(4) {
            // A reader that gives up; with all that nobody brings the steps would only wait.
            self.handles.retain(|handle| !Arc::ptr_eq(handle, opened));
        }
        let replaced = opened.version + 1 < file.versions.len();
        self.count_read(!outcome.bytes.is_empty(), replaced, outcome.errno);
    }

    fn wrong(&self, outcome: &Outcome, why: &str) -> ! {
        let Outcome { job, from, to, .. } = outcome;
        let (opened, took) = (&job.opened, to.since(*from));
        let what = format!("{} bytes at {} of {}", job.length, job.offset, opened.size_bytes);
        panic!("version {}, {what} (took {took:?}): {why}\n{}", opened.version, self.explained(opened.name));
    }

    /// Did this fail at a deadline, or a moment after something else did? On a busy machine that says nothing yet.
    pub fn is_late(&mut self, errno: Option<i32>, from: Time, to: Time) -> bool {
        let at_deadline = matches!(errno, Some(IO | TIMED_OUT));
        if at_deadline && to.since(from) >= DEADLINE {
            self.last_late = self.last_late.max(to);
            self.risk.add("failures at a deadline on a busy machine", 1);
        }
        at_deadline && from <= self.last_late + AFTERMATH
    }

    /// What was late comes when it is asked for again.
    fn comes_later(&mut self, job: &Job, why: &str) {
        self.history.remark(&format!("late: {why}"));
        let came = wait::within(wait::PATIENCE, || {
            let outcome = job.clone().run();
            let judged = self.remote.judge(&outcome, false);
            if outcome.errno.is_none()
                && let Err(why) = &judged
            {
                self.wrong(&outcome, why);
            }
            judged.is_ok()
        });
        assert!(came, "a read that was late does not come later ({why})\n{}", self.explained(job.opened.name));
    }

    /// What the program itself says of a file and of its mirrors.
    fn explained(&self, name: usize) -> String {
        let path = self.path(name);
        let mountpoint = self.place.mountpoint();
        let questions: [&[&OsStr]; 3] = [
            &["explain".as_ref(), path.as_ref(), "--last".as_ref(), "4".as_ref()],
            &["status".as_ref(), path.as_ref()],
            &["mirrors".as_ref(), mountpoint.as_ref()],
        ];
        let answers = questions.map(|words| {
            let output = self.place.braidfs(words);
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
        });
        format!("{}\n{}", self.about(name), answers.join("\n"))
    }

    /// A read that was judged.
    pub fn count_read(&mut self, has_bytes: bool, replaced: bool, errno: Option<i32>) {
        self.risk.add("reads", 1);
        self.risk.add("reads of a version that was replaced", u64::from(replaced && has_bytes));
        self.risk.add("reads that ended with an error", u64::from(errno.is_some()));
        self.risk.add("reads that ended with ESTALE", u64::from(errno == Some(STALE)));
        let cached = self.offline_until.is_some() && has_bytes && errno.is_none();
        self.risk.add("reads of cached pages while offline", u64::from(cached));
    }

    /// What the mirrors have of a file, and what the program says of it.
    pub fn about(&self, name: usize) -> String {
        let file = &self.remote.files[name];
        let versions = file.versions.iter().enumerate().rev().take(4);
        let versions: Vec<_> = versions.map(|(at, it)| format!("version {at}: {it:?}")).collect();
        let on: Vec<_> = (0..self.remote.mirrors.len()).map(|mirror| self.remote.version_on(mirror, name)).collect();
        format!("{}\non the mirrors: {on:?} at {:?}\n{}", file.path, now(), versions.join("\n"))
    }

    /// Which version do this size and date belong to, and may it be shown?
    pub fn identified(&mut self, name: usize, size_bytes: u64, date: i64, from: Time, to: Time) -> usize {
        let Some(version) = self.remote.identify(name, size_bytes, date) else {
            panic!("no version has {size_bytes} bytes and the date {date}\n{}", self.about(name));
        };
        let may = self.remote.may_be_shown(name, version, from, to);
        assert!(may, "version {version} is shown, which no mirror has had for long\n{}", self.about(name));
        self.risk.add("changes seen by an open", u64::from(self.last_seen[name] != version));
        self.last_seen[name] = version;
        version
    }

    /// Open a file; nothing where that fails as it may.
    pub fn open(&mut self, name: usize) -> Option<Arc<Opened>> {
        let from = now();
        let opened = std::fs::File::open(self.path(name));
        let to = now();
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                let errno = error.raw_os_error().expect("the kernel gives an errno");
                self.check_lookup(errno, name, from, to);
                self.history.remark(&format!("open failed: {error}"));
                return None;
            }
        };
        let about = file.metadata().unwrap_or_else(|error| panic!("an open handle has no attributes: {error}"));
        let version = self.identified(name, about.len(), about.mtime(), from, to);
        self.history.remark(&format!("shows version {version}"));
        Some(Arc::new(Opened { file, name, version, size_bytes: about.len(), at: from }))
    }

    /// May a name fail so?
    pub fn check_lookup(&mut self, errno: i32, name: usize, from: Time, to: Time) {
        let judged = self.remote.judge_lookup(errno, name, from, to);
        if let Err(why) = judged
            && !self.is_late(Some(errno), from, to)
        {
            panic!("{why} (took {:?})\n{}", to.since(from), self.about(name));
        }
    }

    /// A handle's attributes are those of its version for ever.
    pub fn close(&mut self, at: usize) {
        let opened = self.handles.swap_remove(at);
        let about = opened.file.metadata().unwrap_or_else(|error| panic!("an open handle has no attributes: {error}"));
        let version = self.remote.identify(opened.name, about.len(), about.mtime());
        assert_eq!(version, Some(opened.version), "a handle's attributes have changed\n{}", self.about(opened.name));
    }

    /// A file that is or was replaced.
    pub fn changing(&self, random: &mut StdRng) -> usize {
        let changing = |at: &usize| self.remote.files[*at].habit != Habit::Stays;
        let all: Vec<usize> = (0..self.remote.files.len()).filter(changing).collect();
        all[random.random_range(0..all.len())]
    }
}
