//! What a reader may see. Bytes are those of the version that the handle showed when it was opened, always. Errors are
//! those that the README's table allows in the situation, and none where the steady mirror had the version all the time.

use super::reading::{Job, Outcome};
use super::remote::{MOMENT, Remote, STEADY};
use braidfs::clock::Time;
use rustix::io::Errno;

/// The page that a wrong byte is looked for in.
const PAGE: usize = 4096;

pub const STALE: i32 = Errno::STALE.raw_os_error();
pub const IO: i32 = Errno::IO.raw_os_error();
pub const TIMED_OUT: i32 = Errno::TIMEDOUT.raw_os_error();
const NOBODY: i32 = Errno::HOSTUNREACH.raw_os_error();
const REFUSED: i32 = Errno::ACCESS.raw_os_error();
const ABSENT: i32 = Errno::NOENT.raw_os_error();

impl Remote {
    /// Is this what a read may bring? `killed`: the daemon was killed meanwhile, and any error will do.
    pub fn judge(&self, outcome: &Outcome, killed: bool) -> Result<(), String> {
        let Outcome { job, bytes, errno, .. } = outcome;
        let Job { opened, offset, length } = job;
        self.judge_bytes(outcome)?;
        let wanted = opened.size_bytes.saturating_sub(*offset).min(*length as u64);
        match errno {
            None if bytes.len() as u64 == wanted => Ok(()),
            None => Err(format!("{} bytes instead of {wanted}", bytes.len())),
            Some(_) if killed => Ok(()),
            Some(errno) => self.judge_error(*errno, opened.name, opened.version, opened.at, outcome.from, outcome.to),
        }
    }

    fn judge_bytes(&self, outcome: &Outcome) -> Result<(), String> {
        let Outcome { job: Job { opened, offset, .. }, bytes, .. } = outcome;
        let wanted = self.bytes(opened.name, opened.version, *offset, bytes.len());
        if *bytes == wanted {
            return Ok(());
        }
        let at = bytes.iter().zip(&wanted).position(|(a, b)| a != b).unwrap_or(0);
        let page = at / PAGE * PAGE..bytes.len().min(at / PAGE * PAGE + PAGE);
        let versions = 0..self.files[opened.name].versions.len();
        let there = versions
            .filter(|&it| self.files[opened.name].versions[it].content.is_some())
            .find(|&it| self.bytes(opened.name, it, offset + page.start as u64, page.len()) == bytes[page.clone()]);
        let whose = there.map_or("of no version".to_owned(), |it| format!("of version {it}"));
        Err(format!("wrong bytes: at {} there are some {whose} instead of {}", offset + at as u64, opened.version))
    }

    /// May a read of a version that was opened at `opened` fail so?
    pub fn judge_error(
        &self,
        errno: i32,
        file: usize,
        version: usize,
        opened: Time,
        from: Time,
        to: Time,
    ) -> Result<(), String> {
        let had = self.had_through(STEADY, file, version, opened - MOMENT, to);
        let well = self.steady_was_well(from, to);
        let may = match errno {
            STALE | REFUSED => !had,
            IO | TIMED_OUT => !had || !well,
            NOBODY => !well,
            _ => false,
        };
        let who = if had { "the steady mirror had it" } else { "the steady mirror did not have it all the time" };
        let how = if well { "well" } else { "in trouble" };
        if may { Ok(()) } else { Err(format!("{}, though {who} and was {how}", named(errno))) }
    }

    /// May a name fail so to be opened or looked at?
    pub fn judge_lookup(&self, errno: i32, file: usize, from: Time, to: Time) -> Result<(), String> {
        let may = match errno {
            ABSENT => !self.had_any_through(STEADY, file, self.horizon(STEADY, from), to),
            STALE => self.changed_within(file, from - MOMENT, to),
            IO | TIMED_OUT | NOBODY => !self.steady_was_well(from, to),
            _ => false,
        };
        if may { Ok(()) } else { Err(format!("{} for a name", named(errno))) }
    }

    /// May the names in a folder be these? (`names` below the root, with their folder.)
    /// `whole`: all mirrors were heard.
    pub fn judge_names(&self, folder: &str, names: &[String], whole: bool, from: Time, to: Time) -> Result<(), String> {
        for name in names {
            let Some(file) = self.files.iter().position(|it| it.path == name) else {
                if name == "folder" {
                    continue;
                }
                return Err(format!("{name} was never there"));
            };
            let versions = 0..self.files[file].versions.len();
            let mut there = versions.filter(|&it| self.files[file].versions[it].content.is_some());
            if !there.any(|it| self.may_be_shown(file, it, from, to)) {
                return Err(format!("{name} is shown long after it was removed"));
            }
        }
        for (at, file) in self.files.iter().enumerate() {
            let in_it = file.path.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
            let there = self.had_any_through(STEADY, at, self.horizon(STEADY, from), to);
            if whole && in_it && there && !names.iter().any(|name| name == file.path) {
                return Err(format!("{} is not shown", file.path));
            }
        }
        Ok(())
    }
}

fn named(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}
