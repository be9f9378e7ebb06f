//! What is done with the mount and its mirrors.

use super::faults;
use super::maps::Maps;
use super::oracle::IO;
use super::reading::{Job, Opened, together};
use super::remote::Habit;
use super::run::{Mapped, Run};
use braidfs::clock::now;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::fs::{Advice, fadvise};
use sha2::{Digest, Sha256};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Handles open at once.
const HANDLES_MAX: usize = 24;
/// Maps at once.
const MAPS_MAX: usize = 6;
/// The kernel splits what is longer.
const READ_BYTES_MAX: usize = 1 << 20;

impl Run<'_> {
    /// One draw: a step, or several that belong together.
    pub fn step(&mut self) {
        self.draw += 1;
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.draw);
        if self.seldom(&mut random) {
            return;
        }
        let remote_too = self.offline_until.is_none();
        match random.random_range(0..1000) {
            0..220 => self.read_one(&mut random),
            220..300 => self.read_together(&mut random),
            300..400 => self.stream(&mut random),
            400..560 => self.open_one(&mut random),
            560..640 => self.close_one(&mut random),
            640..720 => self.look_at_one(&mut random),
            720..750 => self.list(&mut random),
            750..765 => self.look_for_nothing(),
            765..810 => self.forget_pages(&mut random),
            810..860 => self.map(&mut random),
            860..900 if remote_too => self.change(None, &mut random),
            900..945 if remote_too => {
                let what = faults::strike(&mut self.remote, &mut random);
                self.done(what);
            }
            945..985 if remote_too => {
                let mirror = random.random_range(0..self.remote.mirrors.len());
                self.done(format!("mirror {mirror}: healed"));
                self.remote.heal(mirror);
            }
            _ => self.read_one(&mut random),
        }
    }

    /// Says what comes now, and counts it.
    pub fn done(&mut self, what: String) {
        self.history.note(self.number, what);
        self.number += 1;
    }

    /// A handle: one that is open, or a new one where there is none.
    fn handle(&mut self, random: &mut StdRng) -> Option<Arc<Opened>> {
        if self.handles.is_empty() {
            self.open_one(random);
        }
        let count = self.handles.len();
        (count > 0).then(|| self.handles[random.random_range(0..count)].clone())
    }

    fn job(opened: Arc<Opened>, random: &mut StdRng) -> Job {
        let size = opened.size_bytes;
        let length = match random.random_range(0..6) {
            0 => random.random_range(1..100),
            1..4 => random.random_range(1..20_000),
            4 => 4096 * random.random_range(1..64),
            _ => random.random_range(1..READ_BYTES_MAX),
        };
        let offset = match random.random_range(0..10) {
            0 => 0,
            1 => size.saturating_sub(length as u64),
            2 => size.saturating_sub(random.random_range(0..5000)),
            3 => size + random.random_range(0..10_000),
            4 => random.random_range(0..=size) / 4096 * 4096,
            _ => random.random_range(0..=size),
        };
        Job { opened, offset, length }
    }

    fn read_one(&mut self, random: &mut StdRng) {
        let Some(opened) = self.handle(random) else { return };
        let job = Run::job(opened, random);
        self.done(format!("read {}", self.shown(&job)));
        let outcome = job.run();
        self.check(&outcome, false);
    }

    fn shown(&self, job: &Job) -> String {
        let path = self.remote.files[job.opened.name].path;
        format!("{path} version {}, {} bytes at {}", job.opened.version, job.length, job.offset)
    }

    /// Lists of reads for some threads.
    pub fn lists(&mut self, random: &mut StdRng) -> Vec<Vec<Job>> {
        let mut lists = Vec::new();
        for _ in 0..random.random_range(2..5) {
            let mut jobs = Vec::new();
            for _ in 0..random.random_range(1..6) {
                jobs.extend(self.handle(random).map(|opened| Run::job(opened, random)));
            }
            lists.push(jobs);
        }
        lists
    }

    fn read_together(&mut self, random: &mut StdRng) {
        let lists = self.lists(random);
        for (thread, job) in lists.iter().enumerate().flat_map(|(at, jobs)| jobs.iter().map(move |job| (at, job))) {
            self.history.note(self.number, format!("thread {thread} reads {}", self.shown(job)));
        }
        self.number += lists.iter().map(Vec::len).sum::<usize>() as u64;
        let name = lists.iter().flatten().map(|job| job.opened.name).find(|name| self.is_changing(*name));
        let meanwhile = name.filter(|_| self.offline_until.is_none() && random.random_bool(0.3));
        let outcomes = together(lists, || {
            if meanwhile.is_some() {
                self.change(meanwhile, random);
            }
        });
        self.risk.add("replaced while reads were under way", u64::from(meanwhile.is_some()));
        outcomes.iter().for_each(|outcome| self.check(outcome, false));
    }

    fn is_changing(&self, name: usize) -> bool {
        self.remote.files[name].habit != Habit::Stays
    }

    /// In order, forwards or backwards, with gaps or without.
    fn stream(&mut self, random: &mut StdRng) {
        let Some(opened) = self.handle(random) else { return };
        let length = [4096, 16_384, 65_536, 131_072, 300_000][random.random_range(0..5)];
        let stride = length as u64 * if random.random_bool(0.8) { 1 } else { random.random_range(2..5) };
        let backwards = random.random_bool(0.2);
        let first = if random.random_bool(0.4) { 0 } else { random.random_range(0..=opened.size_bytes) };
        let count = random.random_range(2..16);
        let path = self.remote.files[opened.name].path;
        self.history.note(
            self.number,
            format!("stream of {path} version {} from {first}: {count} of {length} bytes, stride {stride}, backwards {backwards}", opened.version),
        );
        for at in 0..count {
            let offset = if backwards { first.saturating_sub(at * stride) } else { first + at * stride };
            let outcome = Job { opened: opened.clone(), offset, length }.run();
            self.number += 1;
            self.check(&outcome, false);
            if outcome.errno.is_some() {
                break;
            }
        }
    }

    fn open_one(&mut self, random: &mut StdRng) {
        if self.handles.len() == HANDLES_MAX {
            return self.close_one(random);
        }
        let name = random.random_range(0..self.remote.files.len());
        self.done(format!("open {}", self.remote.files[name].path));
        if let Some(opened) = self.open(name) {
            self.handles.push(opened);
        }
    }

    fn close_one(&mut self, random: &mut StdRng) {
        if self.handles.is_empty() {
            return;
        }
        let at = random.random_range(0..self.handles.len());
        self.done(format!("close {}", self.remote.files[self.handles[at].name].path));
        self.close(at);
    }

    fn look_at_one(&mut self, random: &mut StdRng) {
        let name = random.random_range(0..self.remote.files.len());
        self.done(format!("stat {}", self.remote.files[name].path));
        let from = now();
        let about = std::fs::metadata(self.path(name));
        let to = now();
        match about {
            Ok(about) => drop(self.identified(name, about.len(), about.mtime(), from, to)),
            Err(error) => {
                let errno = error.raw_os_error().expect("the kernel gives an errno");
                self.check_lookup(errno, name, from, to);
            }
        }
    }

    fn list(&mut self, random: &mut StdRng) {
        let folder = ["", "folder"][random.random_range(0..2)];
        self.done(format!("list {folder:?}"));
        self.names_in(folder, true);
    }

    /// List a folder, and judge what it shows. `whole`: it was listed before, or is asked of all mirrors first.
    pub fn names_in(&mut self, folder: &str, whole: bool) {
        let from = now();
        let entries = std::fs::read_dir(self.folder(folder)).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let entries = entries.unwrap_or_else(|error| panic!("the folder {folder:?} cannot be listed: {error}"));
        let to = now();
        let below = |name: String| if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let names = entries.iter().map(|entry| below(entry.file_name().into_string().expect("plain names")));
        let names: Vec<String> = names.collect();
        if let Err(why) = self.remote.judge_names(folder, &names, whole, from, to) {
            panic!("names in {folder:?}: {why}: {names:?}");
        }
    }

    fn look_for_nothing(&mut self) {
        self.done("stat of what never was".to_owned());
        let from = now();
        let error = std::fs::metadata(self.folder("folder/never")).expect_err("it never was");
        let (absent, to) = (error.kind() == std::io::ErrorKind::NotFound, now());
        let excused = !self.remote.steady_was_well(from, to) || self.is_late(error.raw_os_error(), from, to);
        assert!(absent || excused, "{error}");
    }

    fn forget_pages(&mut self, random: &mut StdRng) {
        let Some(opened) = self.handle(random) else { return };
        self.done(format!("the kernel forgets {}", self.remote.files[opened.name].path));
        fadvise(&opened.file, 0, None, Advice::DontNeed).expect("advice about a regular file is taken");
    }

    /// Map a file, read some of one that is mapped, or unmap it.
    fn map(&mut self, random: &mut StdRng) {
        let name = random.random_range(0..self.remote.files.len());
        if self.mapped.is_empty() || self.mapped.len() < MAPS_MAX && random.random_bool(0.4) {
            self.done(format!("map {}", self.remote.files[name].path));
            return self.map_one(name);
        }
        let at = random.random_range(0..self.mapped.len());
        let Mapped { name, version, size_bytes, .. } = self.mapped[at];
        let start = random.random_range(0..size_bytes);
        let end = (start + random.random_range(1..50_000)).min(size_bytes);
        self.done(format!("read the map of {} version {version}, {start}-{end}", self.remote.files[name].path));
        self.read_map(at, start, end);
    }

    fn map_one(&mut self, name: usize) {
        let (key, path, from) = (self.draw, self.path(name), now());
        let answer = self.maps.get_or_insert_with(Maps::start).open(key, &path);
        let to = now();
        match answer {
            None => {}
            Some(Ok((size_bytes, date))) => {
                let version = self.identified(name, size_bytes, date, from, to);
                self.mapped.push(Mapped { key, name, version, size_bytes, at: from });
            }
            Some(Err(errno)) => self.check_lookup(errno, name, from, to),
        }
    }

    fn read_map(&mut self, at: usize, start: u64, end: u64) {
        let Mapped { key, name, version, at: opened, .. } = self.mapped[at];
        let from = now();
        let hash = self.maps.as_mut().expect("something is mapped").read(key, start, end);
        let to = now();
        let replaced = version + 1 < self.remote.files[name].versions.len();
        self.risk.add("reads through a memory map", 1);
        let Some(hash) = hash else {
            // The page fault failed, and the signal ended the child with all that it had mapped.
            self.maps = None;
            self.mapped.clear();
            let judged = self.remote.judge_error(IO, name, version, opened, from, to);
            if let Err(why) = judged
                && !self.is_late(Some(IO), from, to)
            {
                panic!("SIGBUS after {:?}: {why}\n{}", to.since(from), self.about(name));
            }
            return self.count_read(false, replaced, Some(IO));
        };
        let wanted = self.remote.bytes(name, version, start, (end - start) as usize);
        let right = hash == format!("{:x}", Sha256::digest(&wanted));
        assert!(right, "a map of version {version} has other bytes\n{}", self.about(name));
        self.count_read(true, replaced, None);
    }

    /// A file is replaced on one mirror, or the replacement reaches others.
    pub fn change(&mut self, name: Option<usize>, random: &mut StdRng) {
        let name = name.unwrap_or_else(|| self.changing(random));
        let mirrors = self.remote.mirrors.len();
        if self.remote.is_everywhere(name) {
            self.remote.publish(name, self.seed, random);
            let mirror = random.random_range(0..mirrors);
            let version = self.remote.files[name].versions.last().expect("just published");
            self.done(format!("{} is replaced on mirror {mirror}: {version:?}", self.remote.files[name].path));
            return self.remote.bring(mirror, name);
        }
        let all = random.random_bool(0.5);
        self.done(format!("the new {} reaches {}", self.remote.files[name].path, if all { "all" } else { "others" }));
        for mirror in 0..mirrors {
            if all || random.random_bool(0.5) {
                self.remote.bring(mirror, name);
            }
        }
    }
}
