//! `braidfs pin|unpin|evict|verify PATH... [--json]`.

use super::path_list::Given;
use super::paths::{fitting, on_one_mount};
use super::{Screen, unexpected};
use crate::control::client::{ClientError, Desk};
use crate::control::human::{bytes, length, plain};
use crate::control::protocol::{Answer, Command, PathText, Reply};
use crate::control::report::{EvictReport, PinReport, Progress, VerifyReport};
use crate::control::server::Keeping;
use std::path::{Path, PathBuf};

/// Without a terminal, a line of progress comes after so many milliseconds.
const LINE_EVERY_MS: u64 = 30_000;

/// Pin, unpin, evict or verify what is cached of `paths`: files, and folders with all that is below them. Returns the exit
/// code.
pub fn keep(desk: &Desk, what: Keeping, paths: &[PathBuf], screen: &mut Screen<'_>) -> u8 {
    match run(desk, what, paths, screen) {
        Ok(code) => code,
        Err(error) => screen.fail(&error),
    }
}

fn run(desk: &Desk, what: Keeping, paths: &[PathBuf], screen: &mut Screen<'_>) -> Result<u8, ClientError> {
    let given: Vec<Given> = paths.iter().map(Given::from).collect();
    let (target, paths) = on_one_mount(desk, &given)?;
    let command = fitting(match what {
        Keeping::Pin => Command::Pin { paths },
        Keeping::Unpin => Command::Unpin { paths },
        Keeping::Evict => Command::Evict { paths },
        Keeping::Verify => Command::Verify { paths },
    })?;
    let connection = desk.connect(&target.mount)?;
    let mut show = Show { screen, mountpoint: &target.mount.mountpoint, said_ms: 0 };
    let answer = connection.run(&command, |reply| show.hear(reply))?;
    let (json, text, code) = match (what, answer) {
        (Keeping::Pin, Answer::Pinned(report)) => (serde_json::json!({ "result": report }), pinned_text(&report), 0),
        (Keeping::Unpin, Answer::Unpinned(report)) => {
            (serde_json::json!({ "result": report }), unpinned_text(&report), 0)
        }
        (Keeping::Evict, Answer::Evicted(report)) => {
            (serde_json::json!({ "result": report }), evicted_text(&report), u8::from(report.failed > 0))
        }
        (Keeping::Verify, Answer::Verified(report)) => {
            let is_bad = report.failed > 0 || report.damaged_bytes > 0;
            (serde_json::json!({ "result": report }), verified_text(&report), u8::from(is_bad))
        }
        _ => return Err(unexpected()),
    };
    match screen.json {
        true => screen.say_json(&json),
        false => screen.say(&text),
    }
    Ok(code)
}

/// Shows what comes before the end.
struct Show<'s, 'a> {
    screen: &'s mut Screen<'a>,
    mountpoint: &'s Path,
    said_ms: u64,
}

impl Show<'_, '_> {
    fn hear(&mut self, reply: Reply) {
        if self.screen.json && reply != Reply::Alive {
            self.screen.say_json(&reply);
        }
        match reply {
            Reply::Failed(file) => self.complain(&file.path, &plain(&file.reason)),
            Reply::Damaged(range) => {
                let what = format!(
                    "{} at byte {} did not match their checksums, and are dropped",
                    bytes(range.bytes),
                    range.offset_bytes
                );
                self.complain(&range.path, &what);
            }
            Reply::Progress(progress) if !self.screen.json && progress.elapsed_ms >= self.said_ms + LINE_EVERY_MS => {
                self.said_ms = progress.elapsed_ms;
                self.screen.complain(&line_text(&progress));
            }
            _ => {}
        }
    }

    fn complain(&mut self, path: &PathText, what: &str) {
        let path = self.mountpoint.join(String::from_utf8_lossy(&path.0).as_ref());
        self.screen.complain(&format!("{}: {what}\n", plain(&path.display().to_string())));
    }
}

fn line_text(progress: &Progress) -> String {
    format!("{} files, {}, after {}\n", progress.files_done, bytes(progress.bytes_done), length(progress.elapsed_ms))
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn pinned_text(report: &PinReport) -> String {
    format!(
        "{} pinned: {}, {}; {} of {} are pinned now\n",
        count(report.paths, "path"),
        count(report.files, "file"),
        bytes(report.bytes),
        bytes(report.pinned_bytes),
        bytes(report.pinnable_bytes)
    )
}

fn unpinned_text(report: &PinReport) -> String {
    let (paths, now) = (count(report.paths, "path"), bytes(report.pinned_bytes));
    format!("{paths} unpinned; {now} of {} are pinned now\n", bytes(report.pinnable_bytes))
}

fn evicted_text(report: &EvictReport) -> String {
    let failed = if report.failed > 0 { format!("; {} not", count(report.failed, "path")) } else { String::new() };
    format!(
        "{} evicted: {} on disk, {} in memory{failed}\n",
        count(report.files, "file"),
        bytes(report.disk_bytes),
        bytes(report.memory_bytes)
    )
}

fn verified_text(report: &VerifyReport) -> String {
    let mut text = format!(
        "{}, {} read from disk in {}",
        count(report.files, "file"),
        bytes(report.bytes),
        length(report.elapsed_ms)
    );
    match report.damaged_bytes {
        0 => text += ": all match",
        damaged => text += &format!(": {} did not match and are fetched again when they are read", bytes(damaged)),
    }
    if report.failed > 0 {
        text += &format!("; {} could not be verified", count(report.failed, "path"));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_said_in_words() {
        let pin = PinReport { paths: 1, files: 2, bytes: 3 << 20, pinned_bytes: 4 << 20, pinnable_bytes: 19 << 20 };
        assert_eq!(pinned_text(&pin), "1 path pinned: 2 files, 3.00 MiB; 4.00 MiB of 19.00 MiB are pinned now\n");
        assert_eq!(unpinned_text(&pin), "1 path unpinned; 4.00 MiB of 19.00 MiB are pinned now\n");
        let evict = EvictReport { files: 1, disk_bytes: 4096, memory_bytes: 0, failed: 2 };
        assert_eq!(evicted_text(&evict), "1 file evicted: 4.00 KiB on disk, 0 B in memory; 2 paths not\n");
        let verify = VerifyReport { files: 3, bytes: 3 << 20, elapsed_ms: 1500, ..VerifyReport::default() };
        assert_eq!(verified_text(&verify), "3 files, 3.00 MiB read from disk in 1.5 s: all match\n");
        let verify = VerifyReport { damaged_bytes: 4096, failed: 1, ..verify };
        assert!(verified_text(&verify).ends_with(
            ": 4.00 KiB did not match and are fetched again when they are read; 1 path could not be verified\n"
        ));
    }
}
