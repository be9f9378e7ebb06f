//! A child process that never outlives its test.

use super::state::Registered;
use super::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// A running child; dropping it kills it.
pub struct Process {
    child: Child,
    _registered: Registered,
}

impl Process {
    /// Start it, its output (both streams) into `log`.
    pub fn start(command: &mut Command, log: &Path) -> Process {
        let out = std::fs::File::create(log).expect("the log can be created");
        let err = out.try_clone().expect("a file can be cloned");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { _registered: Registered::process(child.id()), child }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Send it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{signal:?} to {pid:?}: {error}"));
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be waited for")
    }

    /// How it ended, or nothing where it does not within `patience`.
    pub fn ends_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        wait::within(patience, || self.ended().is_some());
        self.ended()
    }

    /// Kill it, at once and for good.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("a killed child ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill9();
        }
    }
}

/// Run to its end, bounded by [`wait::PATIENCE`].
pub fn run(command: &mut Command) -> Output {
    run_within(command, wait::PATIENCE)
}

/// Run to its end; one that does not end within `patience` is killed and fails the test.
pub fn run_within(command: &mut Command, patience: Duration) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = Pid::from_child(&child);
    let _registered = Registered::process(child.id());
    // Both pipes are drained while it runs, or a full one would stop it.
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    if !wait::within(patience, || child.try_wait().expect("a child of ours can be waited for").is_some()) {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{command:?} did not end within {patience:?}");
    }
    let status = child.wait().expect("it has ended");
    let take = |reader: std::thread::JoinHandle<Vec<u8>>| {
        // What it left running must not hold its output: whoever reads that would wait for ever.
        assert!(wait::within(wait::PATIENCE, || reader.is_finished()), "something still holds its output open");
        reader.join().expect("reading a pipe does not panic")
    };
    Output { status, stdout: take(out), stderr: take(err) }
}

/// Run, expect success, give its standard output.
pub fn output_of(command: &mut Command) -> Vec<u8> {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Is this tool installed?
pub fn which(tool: &str) -> bool {
    path_with_sbin().split(':').any(|folder| Path::new(folder).join(tool).is_file())
}

/// Debian keeps nginx, ip and tc where an ordinary user's PATH does not lead.
pub fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("it was asked for");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}
