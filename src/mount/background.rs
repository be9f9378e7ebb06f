//! `--background`: a child serves the mount, the parent returns 0 only once it can be used.
//!
//! Threads do not survive a fork, so the program is started once more, with a pipe by which it says
//! that it is ready. What it says on stderr until then reaches the user as it is.

use anyhow::{Context, bail};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Set in the child: its stdout is the pipe.
const MARK: &str = "BRAIDFS_IN_BACKGROUND";
const READY: &[u8] = b"ready\n";

/// How a daemon tells whoever started it that the mount can be used.
pub struct Readiness {
    in_background: bool,
}

impl Readiness {
    /// Of this process.
    pub fn of_process() -> Readiness {
        Readiness { in_background: std::env::var_os(MARK).is_some() }
    }

    /// Is this the child that serves?
    pub fn is_in_background(&self) -> bool {
        self.in_background
    }

    /// The mount can be used.
    pub fn say(&self) {
        if !self.in_background {
            return;
        }
        // A parent that is gone does not wait for the word.
        let _ = rustix::io::write(rustix::stdio::stdout(), READY);
        if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
            // The terminal is let go: closing it must not end the mount. A log file was opened before.
            let _ = rustix::stdio::dup2_stdin(&null);
            let _ = rustix::stdio::dup2_stdout(&null);
            let _ = rustix::stdio::dup2_stderr(&null);
        }
    }
}

/// Start the same command in the background; back when its mount can be used, or with its failure.
pub fn go_to_background(words: &[OsString]) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find the program itself to start it in the background")?;
    let mut command = Command::new(program);
    command.args(words.iter().skip(1)).env(MARK, "1").stdin(Stdio::null()).stdout(Stdio::piped());
    // Its own group: Ctrl-C in the terminal is not meant for it.
    command.process_group(0);
    let mut child = command.spawn().context("cannot start in the background")?;
    let mut said = Vec::new();
    let mut pipe = child.stdout.take().context("the pipe was just asked for")?;
    pipe.by_ref().take(READY.len() as u64).read_to_end(&mut said).context("cannot hear from the background")?;
    if said == READY {
        return Ok(());
    }
    let status = child.wait().context("cannot wait for the background")?;
    // It has said why on stderr.
    bail!("not mounted ({status})")
}
