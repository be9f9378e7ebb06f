//! What seldom happens: restarts, spells without any mirror, handing a file over to the kernel, and looking whether all
//! settles.

use super::reading::Job;
use super::run::{Keeping, Run};
use crate::support::wait;
use braidfs::clock::now;
use rand::RngExt;
use rand::rngs::StdRng;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Each so many draws. Primes, so that they meet in every order.
const RESTART_EVERY: u64 = 173;
const SETTLE_EVERY: u64 = 151;
const OFFLINE_EVERY: u64 = 557;
const HAND_OVER_EVERY: u64 = 83;
/// Draws that a spell without mirrors lasts.
const OFFLINE_DRAWS: u64 = 20;
/// The kernel may take over files of this size: they lie in no pack, and the cache holds them beside others.
const HANDED_OVER_BYTES: std::ops::Range<u64> = (1 << 20)..(8 << 20);
/// A file that was read is complete on disk within a second or two, where nothing goes wrong. That it may: see below.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(3);

impl Run<'_> {
    /// False where it is not the turn of any of it.
    pub fn seldom(&mut self, random: &mut StdRng) -> bool {
        if self.offline_until.is_some_and(|until| self.draw >= until) {
            self.come_online();
        } else if self.draw % OFFLINE_EVERY == OFFLINE_EVERY / 2 {
            self.go_offline();
        } else if self.draw % RESTART_EVERY == RESTART_EVERY / 2 {
            self.restart(self.draw / RESTART_EVERY % 2 == 1, random);
        } else if self.draw % SETTLE_EVERY == SETTLE_EVERY / 2 && self.offline_until.is_none() {
            self.settle(random);
        } else if self.draw % HAND_OVER_EVERY == HAND_OVER_EVERY / 2 && self.keeping == Keeping::PassedThrough {
            self.hand_over(random);
        } else {
            return false;
        }
        true
    }

    fn go_offline(&mut self) {
        self.done("all mirrors are down".to_owned());
        self.risk.add("offline spells", 1);
        self.remote.steady_is_in_trouble(true);
        for mirror in 0..self.remote.mirrors.len() {
            self.remote.heal(mirror);
            self.remote.tells(mirror, false);
            self.remote.mirrors[mirror].down();
        }
        self.offline_until = Some(self.draw + OFFLINE_DRAWS);
    }

    /// All mirrors are back, and the program has noticed.
    pub fn come_online(&mut self) {
        if self.offline_until.take().is_none() {
            return;
        }
        self.done("all mirrors are back".to_owned());
        (0..self.remote.mirrors.len()).for_each(|mirror| self.remote.heal(mirror));
        let stays = self.path(0);
        let mut at = self.draw;
        wait::until("the mount is online", || {
            // Only who reads makes it look; a page that is not cached yet is soon found.
            at = at.wrapping_mul(31) % (24 << 20);
            let read = std::fs::File::open(&stays)
                .and_then(|file| std::os::unix::fs::FileExt::read_at(&file, &mut [0; 9], at));
            read.is_ok() && self.mounted().status()["state"] == "online"
        });
        self.remote.steady_is_in_trouble(false);
    }

    /// The daemon ends, and another one begins with what it left.
    fn restart(&mut self, kill: bool, random: &mut StdRng) {
        if self.offline_until.is_some() && !self.keeps_on_disk() {
            return;
        }
        self.done(format!("restart, kill {kill}"));
        let lists: Option<Vec<Vec<Job>>> = kill.then(|| self.lists(random));
        self.risk.add(if kill { "kills" } else { "clean restarts" }, 1);
        if self.offline_until.is_none() {
            self.look_at_folders();
        }
        self.end_daemon(lists);
        if self.offline_until.is_none() && random.random_bool(0.5) {
            self.change(None, random);
        }
        self.mount(random);
        self.look_at_folders();
    }

    fn look_at_folders(&mut self) {
        let before = now();
        // A mirror that is slow to list, without a saved listing, may be late for the first look at a folder.
        self.names_in("", self.keeps_on_disk());
        self.names_in("folder", self.keeps_on_disk());
        if self.offline_until.is_none() {
            self.folders_seen = before;
        }
    }

    /// Read a file as a whole, and open it until the kernel reads it by itself. Nothing says that it comes to that: it may
    /// be evicted or replaced meanwhile. How often it did is counted.
    fn hand_over(&mut self, random: &mut StdRng) {
        let files = self.remote.files.iter().enumerate();
        let fitting = files
            .filter(|(_, file)| file.versions.last().is_some_and(|it| HANDED_OVER_BYTES.contains(&it.size_bytes())));
        let fitting: Vec<usize> = fitting.map(|(name, _)| name).collect();
        let name = fitting[random.random_range(0..fitting.len())];
        self.done(format!("hand over {}", self.remote.files[name].path));
        // Open handles keep it in the mode in which it is.
        self.handles.retain(|handle| handle.name != name);
        for mapped in self.mapped.extract_if(.., |mapped| mapped.name == name) {
            self.maps.as_mut().expect("something is mapped").close(mapped.key);
        }
        let Some(opened) = self.open(name) else { return };
        for offset in (0..opened.size_bytes).step_by(1 << 20) {
            let outcome = Job { opened: opened.clone(), offset, length: 1 << 20 }.run();
            self.check(&outcome, false);
            if outcome.errno.is_some() {
                return;
            }
        }
        drop(opened);
        let before = self.taken_over();
        wait::within(HAND_OVER_WITHIN, || match self.open(name) {
            Some(opened) if self.taken_over() > before => {
                self.handles.push(opened);
                true
            }
            Some(_) => false,
            None => true,
        });
    }

    /// Opens after which the kernel reads by itself.
    fn taken_over(&self) -> u64 {
        self.mounted().status()["counters"]["passthrough_opens"].as_u64().expect("a counter")
    }

    /// All mirrors are honest and agree: soon the newest version is what everyone opens, and reads without an error.
    fn settle(&mut self, random: &mut StdRng) {
        let name = self.changing(random);
        self.done(format!("settle {}", self.remote.files[name].path));
        for mirror in 0..self.remote.mirrors.len() {
            self.remote.heal(mirror);
            self.remote.bring(mirror, name);
        }
        let (newest, path) = (self.remote.files[name].versions.len() - 1, self.path(name));
        let Some((_, size_bytes)) = self.remote.files[name].versions[newest].content else {
            return wait::until("it is gone", || {
                std::fs::metadata(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
            });
        };
        let offset = random.random_range(0..=size_bytes);
        wait::until("the newest version is read without an error", || {
            let about = std::fs::metadata(&path).ok();
            let shown = about.and_then(|about| self.remote.identify(name, about.len(), about.mtime()));
            let opened = if shown == Some(newest) { self.open(name) } else { None };
            opened.is_some_and(|opened| {
                let outcome = Job { opened, offset, length: 1 << 20 }.run();
                self.check(&outcome, false);
                outcome.errno.is_none()
            })
        });
    }
}
