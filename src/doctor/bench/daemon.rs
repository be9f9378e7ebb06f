//! The daemon's counters and its CPU time, before and after.

use crate::control::client::{ClientError, Desk};
use crate::control::mountinfo::Mount;
use crate::control::protocol::{Answer, Command};
use crate::control::report::StatusReport;

/// `/proc/PID/stat` counts in hundredths of a second on every machine that Linux runs on today (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// What it says of itself at one moment.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// As `braidfs status` shows it.
    pub status: StatusReport,
    /// CPU seconds that it has used; `None` where the system does not show it.
    pub cpu_s: Option<f64>,
}

/// What changed between two moments.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Change {
    /// Handed to readers.
    pub read_bytes: u64,
    /// Body bytes from mirrors.
    pub fetched_bytes: u64,
    /// Reads answered by it.
    pub reads: u64,
    /// Of those, from memory or disk.
    pub hits: u64,
    /// Opens of files that the kernel reads past it.
    pub passthrough_opens: u64,
    /// CPU seconds.
    pub cpu_s: Option<f64>,
}

impl Daemon {
    /// Ask it.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(desk: &Desk, mount: &Mount) -> Result<Daemon, ClientError> {
        match desk.connect(mount)?.run(&Command::Status { path: None }, |_| {})? {
            Answer::Status(status) => {
                let cpu_s =
                    cpu_seconds(&std::fs::read_to_string(format!("/proc/{}/stat", status.pid)).unwrap_or_default());
                Ok(Daemon { status: *status, cpu_s })
            }
            _ => Err(ClientError::Nonsense {
                mountpoint: mount.mountpoint.clone(),
                error: "an answer to another command".into(),
            }),
        }
    }

    /// Since `before`.
    pub fn since(&self, before: &Daemon) -> Change {
        let grown = |name: &str| {
            let at = |daemon: &Daemon| daemon.status.counters.get(name).copied().unwrap_or(0);
            at(self).saturating_sub(at(before))
        };
        Change {
            read_bytes: grown("read_bytes"),
            fetched_bytes: grown("fetched_bytes"),
            reads: grown("reads"),
            hits: grown("read_memory_hits") + grown("read_disk_hits"),
            passthrough_opens: grown("passthrough_opens"),
            cpu_s: self.cpu_s.zip(before.cpu_s).map(|(after, before)| (after - before).max(0.0)),
        }
    }
}

/// User and system time of `/proc/PID/stat`; the name in its second field may hold blanks.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds(""), None);
    }
}
