//! The reads, one kind after the other: as an ordinary program makes them.

use super::daemon::{Change, Daemon};
use super::largest::largest_file;
use crate::clock::{Time, now};
use crate::control::client::{Desk, Target};
use crate::control::file_report::FileReport;
use crate::control::protocol::{Answer, Command, PathText};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

/// To find a file.
const FIND_MAX: Duration = Duration::from_secs(4);
/// For each stream.
const STREAM_MAX: Duration = Duration::from_secs(9);
/// For the small reads.
const RANDOM_MAX: Duration = Duration::from_secs(5);
/// As much as a stream reads at a time: what `cp` does.
const STEP_BYTES: usize = 256 << 10;
const PAGE_BYTES: u64 = 4096;
/// Small reads: enough for a P99.
const RANDOM_READS: u64 = 256;
/// Names of the root that are listed.
const NAMES_MAX: usize = 100_000;

/// One kind of reads.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Of which kind.
    pub name: &'static str,
    /// What came; for a folder, how many names.
    pub count: u64,
    /// Its bytes.
    pub bytes: u64,
    /// How long each read took, sorted.
    pub lengths: Vec<Duration>,
    /// All of them.
    pub took: Duration,
    /// What the daemon says of it; `None` where it did not answer.
    pub change: Option<Change>,
}

/// What is told on the way.
pub enum Said {
    /// This file is read, by its path below the root of the file system; and what is held of it before.
    File(Vec<u8>, Option<Box<FileReport>>),
    /// A kind is done.
    Pass(Pass),
    /// It ends here.
    Trouble(String),
}

/// What is to be done.
pub struct Work {
    pub desk: Desk,
    pub target: Target,
    /// A file, or a folder.
    pub given: PathBuf,
    pub root: PathBuf,
    /// Read at most.
    pub bytes: u64,
    pub start: Time,
}

impl Work {
    /// All passes; what happens goes to `said`.
    pub fn run(&self, most: Duration, said: &Sender<Said>) {
        let until = self.start + most;
        let done = self.passes(until, said);
        if let Err(why) = done {
            let _ = said.send(Said::Trouble(why));
        }
    }

    fn passes(&self, until: Time, said: &Sender<Said>) -> Result<(), String> {
        // Nobody hears it any more: then nobody needs it.
        let tell = |pass: Pass| drop(said.send(Said::Pass(pass)));
        tell(self.counted("root folder", |pass| list(&self.root, pass))?);
        let path = self.file(until)?;
        let relative = self.relative(&path);
        let held = self.held(&relative);
        let _ = said.send(Said::File(relative, held));
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let mut opened = None;
        tell(self.counted("open and first 4 KiB", |pass| {
            let file = File::open(&path).map_err(failed)?;
            read_at(&file, 0, PAGE_BYTES as usize, pass).map_err(failed)?;
            opened = Some(file);
            Ok(())
        })?);
        let file = opened.expect("the pass before has opened it, or ended all");
        let size = file.metadata().map_err(failed)?.len();
        let small = (RANDOM_READS * PAGE_BYTES).min(self.bytes / 8);
        // Twice the same range, so that what is cached shows beside what is not.
        let stream = (self.bytes - small - PAGE_BYTES) / 2;
        let first = self.counted("in order", |pass| {
            in_order(&file, size.min(stream), until.min(now() + STREAM_MAX), pass).map_err(failed)
        })?;
        let again = first.bytes;
        tell(first);
        tell(self.counted("the same again", |pass| {
            in_order(&file, again, until.min(now() + STREAM_MAX), pass).map_err(failed)
        })?);
        tell(self.counted("4 KiB at random", |pass| {
            at_random(&file, size, small / PAGE_BYTES, until.min(now() + RANDOM_MAX), pass).map_err(failed)
        })?);
        Ok(())
    }

    fn file(&self, until: Time) -> Result<PathBuf, String> {
        let cannot = |error: io::Error| format!("{}: {error}", self.given.display());
        if !std::fs::metadata(&self.given).map_err(cannot)?.is_dir() {
            return Ok(self.given.clone());
        }
        let found = largest_file(&self.given, until.min(now() + FIND_MAX)).map_err(cannot)?;
        found.ok_or_else(|| format!("{}: no file that is not empty was found; give one", self.given.display()))
    }

    fn relative(&self, path: &Path) -> Vec<u8> {
        match path.strip_prefix(&self.target.mount.mountpoint) {
            Ok(_) => self.target.mount.relative(path),
            // Typed by way of a link: it is the one that was asked about.
            Err(_) => self.target.relative.clone(),
        }
    }

    /// Asked before anything of it is read.
    fn held(&self, relative: &[u8]) -> Option<Box<FileReport>> {
        let command = Command::Status { path: Some(PathText(relative.to_vec())) };
        match self.desk.connect(&self.target.mount).ok()?.run(&command, |_| {}).ok()? {
            Answer::File(file) => Some(file),
            _ => None,
        }
    }

    /// A pass, with what the daemon says of it.
    fn counted(&self, name: &'static str, work: impl FnOnce(&mut Pass) -> Result<(), String>) -> Result<Pass, String> {
        let before = Daemon::ask(&self.desk, &self.target.mount).ok();
        let mut pass = Pass { name, count: 0, bytes: 0, lengths: Vec::new(), took: Duration::ZERO, change: None };
        let start = now();
        work(&mut pass)?;
        pass.took = now().since(start);
        pass.lengths.sort();
        let after = Daemon::ask(&self.desk, &self.target.mount).ok();
        pass.change = after.zip(before).map(|(after, before)| after.since(&before));
        Ok(pass)
    }
}

fn list(root: &Path, pass: &mut Pass) -> Result<(), String> {
    let entries = std::fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
    pass.count = entries.take(NAMES_MAX).count() as u64;
    Ok(())
}

fn read_at(file: &File, offset: u64, length: usize, pass: &mut Pass) -> io::Result<usize> {
    let mut buffer = vec![0; length];
    let start = now();
    let count = file.read_at(&mut buffer, offset)?;
    pass.lengths.push(now().since(start));
    pass.count += 1;
    pass.bytes += count as u64;
    Ok(count)
}

fn in_order(file: &File, bytes: u64, until: Time, pass: &mut Pass) -> io::Result<()> {
    while pass.bytes < bytes && now() < until {
        let length = STEP_BYTES.min((bytes - pass.bytes) as usize);
        if read_at(file, pass.bytes, length, pass)? == 0 {
            break;
        }
    }
    Ok(())
}

fn at_random(file: &File, size: u64, reads: u64, until: Time, pass: &mut Pass) -> io::Result<()> {
    let mut random = StdRng::seed_from_u64(now().0);
    let pages = size.div_ceil(PAGE_BYTES);
    while pages > 0 && pass.count < reads && now() < until {
        read_at(file, random.random_range(0..pages) * PAGE_BYTES, PAGE_BYTES as usize, pass)?;
    }
    Ok(())
}
