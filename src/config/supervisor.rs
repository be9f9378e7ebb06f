//! What systemd, or another that starts daemons as it does, has told this process by variables.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::time::Duration;

/// Who looks after this process, and what it wants to hear.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Supervisor {
    /// `$NOTIFY_SOCKET`: where it wants to hear that the mount is ready. A path, or `@` and an abstract name.
    pub notify_socket: Option<OsString>,
    /// `$WATCHDOG_USEC`, where it is meant for this process: it is ended where it is not heard of for so long.
    pub watchdog: Option<Duration>,
    /// `$JOURNAL_STREAM` names what stderr is: what is written there lands in the journal.
    pub stderr_is_journal: bool,
}

impl Supervisor {
    /// Of this process.
    pub fn of_process() -> Supervisor {
        let text = |name| std::env::var(name).ok();
        let stderr = rustix::fs::fstat(rustix::stdio::stderr().as_fd()).ok();
        let stderr = stderr.map(|about| format!("{}:{}", about.st_dev, about.st_ino));
        Supervisor {
            notify_socket: std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()),
            watchdog: watchdog(text("WATCHDOG_USEC"), text("WATCHDOG_PID"), std::process::id()),
            stderr_is_journal: stderr.is_some() && stderr == text("JOURNAL_STREAM"),
        }
    }
}

/// The variables are inherited, so they say whom they are meant for.
fn watchdog(usec: Option<String>, pid: Option<String>, own_pid: u32) -> Option<Duration> {
    let is_meant = pid.is_none_or(|pid| pid.parse() == Ok(own_pid));
    let usec: u64 = usec.filter(|_| is_meant)?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_for_whom_it_names() {
        let of = |usec: &str, pid: Option<&str>| watchdog(Some(usec.into()), pid.map(str::to_owned), 7);
        assert_eq!(of("3000000", None), Some(Duration::from_secs(3)));
        assert_eq!(of("3000000", Some("7")), Some(Duration::from_secs(3)));
        for (usec, pid) in [("3000000", Some("8")), ("3000000", Some("x")), ("0", None), ("soon", None)] {
            assert_eq!(of(usec, pid), None, "{usec} {pid:?}");
        }
        assert_eq!(watchdog(None, Some("7".into()), 7), None);
    }
}
