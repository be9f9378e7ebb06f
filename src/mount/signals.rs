//! What signals say to a mount.

use crate::mount::Readiness;
use std::os::fd::OwnedFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a mount. Taken before there is one: what comes between would leave it behind.
pub struct Signals {
    pub interrupt: Signal,
    pub terminate: Signal,
    /// Read the configuration anew; or the terminal is gone.
    pub hang_up: Signal,
    /// The terminal that stderr was at the start.
    terminal: Option<OwnedFd>,
}

impl Signals {
    pub fn take(runtime: &tokio::runtime::Handle) -> std::io::Result<Signals> {
        let _inside = runtime.enter();
        let stderr = rustix::stdio::stderr();
        // In the background the terminal is let go.
        let foreground = !Readiness::of_process().is_in_background();
        let terminal =
            if foreground && rustix::termios::isatty(stderr) { Some(rustix::io::dup(stderr)?) } else { None };
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            terminal,
        })
    }

    /// Was the terminal closed that the mount was started at? It hangs up on who is in its foreground.
    pub fn is_terminal_gone(&self) -> bool {
        let gone = |terminal: &OwnedFd| rustix::termios::tcgetattr(terminal).is_err();
        self.terminal.as_ref().is_some_and(gone)
    }
}
