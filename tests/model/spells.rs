//! What seldom happens: restarts, spells without any mirror, and looking whether all settles.

use super::reading::Job;
use super::run::Run;
use crate::support::wait;
use braidfs::clock::now;
use rand::RngExt;
use rand::rngs::StdRng;
use std::os::unix::fs::MetadataExt;

/// Each so many draws. Primes, so that they meet in every order.
const RESTART_EVERY: u64 = 173;
const SETTLE_EVERY: u64 = 151;
const OFFLINE_EVERY: u64 = 557;
/// Draws that a spell without mirrors lasts.
const OFFLINE_DRAWS: u64 = 20;

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
        if self.offline_until.is_some() && !self.keeps_on_disk {
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
        self.names_in("", self.keeps_on_disk);
        self.names_in("folder", self.keeps_on_disk);
        if self.offline_until.is_none() {
            self.folders_seen = before;
        }
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
