//! `--background`: a child serves the mount, the parent returns 0 only once it can be used.
//!
//! Threads do not survive a fork, so the program is started once more, with a pipe by which it says
//! that it is ready. What it says on stderr until then reaches the user as it is.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Set in the child: its stdout is the pipe. Not called like an option, as which it would be looked at.
const MARK: &str = "IN_BACKGROUND_OF_BRAIDFS";
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

/// Why there is no mount in the background.
#[derive(Debug, thiserror::Error)]
pub enum NotInBackground {
    /// The system does not let us.
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
    /// By Ctrl-C, or a signal to end, before the mount could be used. It was ended too.
    #[error("interrupted, and not mounted")]
    Interrupted,
    /// It ended without a mount. It has said why on stderr.
    #[error("not mounted ({0})")]
    Failed(ExitStatus),
}

/// Start these words, the program's name first, in the background; back when its mount can be used.
///
/// # Errors
/// It cannot, or was not meant to any more.
pub fn go_to_background(words: &[OsString]) -> Result<(), NotInBackground> {
    let system = |what| move |error| NotInBackground::System(what, error);
    let program =
        std::env::current_exe().map_err(system("cannot find the program itself to start it in the background"))?;
    let mut command = Command::new(program);
    command.args(words.iter().skip(1)).env(MARK, "1").stdin(Stdio::null()).stdout(Stdio::piped());
    // Its own group: Ctrl-C in the terminal is not meant for it once it serves. Until then it is passed on below.
    command.process_group(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(system("cannot listen to signals"))?;
    runtime.block_on(async {
        let interrupts =
            signal(SignalKind::interrupt()).and_then(|first| Ok((first, signal(SignalKind::terminate())?)));
        let (mut interrupt, mut terminate) = interrupts.map_err(system("cannot listen to signals"))?;
        let mut child = command.spawn().map_err(system("cannot start in the background"))?;
        let (heard, hears) = oneshot::channel();
        let pipe = child.stdout.take();
        std::thread::spawn(move || {
            let mut said = Vec::new();
            // A pipe that cannot be read is one that says nothing.
            let _ = pipe.map(|pipe| pipe.take(READY.len() as u64).read_to_end(&mut said));
            let _ = heard.send(said);
        });
        tokio::select! {
            said = hears => match said {
                Ok(said) if said == READY => Ok(()),
                _ => Err(NotInBackground::Failed(child.wait().map_err(system("cannot wait for the background"))?)),
            },
            _ = interrupt.recv() => Err(interrupted(child)),
            _ = terminate.recv() => Err(interrupted(child)),
        }
    })
}

fn interrupted(mut child: Child) -> NotInBackground {
    // It unmounts, where it had come so far.
    let _ = kill_process(Pid::from_child(&child), Signal::TERM);
    let _ = child.wait();
    NotInBackground::Interrupted
}
