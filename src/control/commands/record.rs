//! `braidfs prefetch --record FILE [PATH] [-- COMMAND...]`: what is read, as a profile to fetch it by.

use super::{Screen, unexpected};
use crate::control::client::{ClientError, Desk, Ender};
use crate::control::human::{bytes, plain};
use crate::control::protocol::{Answer, Command, PathText, Reply};
use crate::control::report::{AccessReport, RecordReport};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct RecordAsked<'a> {
    /// Where the profile goes.
    pub file: &'a Path,
    /// A file, or a folder with all that is below it; none: the mount of the working folder, else the only one.
    pub paths: &'a [PathBuf],
    /// Record while this runs; empty: until a signal comes.
    pub command: &'a [OsString],
}

/// Record, and return the exit code: that of the command where it is not 0, else whether the profile is complete.
pub fn record(desk: &Desk, asked: &RecordAsked<'_>, screen: &mut Screen<'_>) -> u8 {
    match run(desk, asked, screen) {
        Ok(code) => code,
        Err(error) => screen.fail(&error),
    }
}

fn run(desk: &Desk, asked: &RecordAsked<'_>, screen: &mut Screen<'_>) -> Result<u8, ClientError> {
    let name = || asked.file.display().to_string();
    let wrong = |why: String| ClientError::Input { name: name(), why };
    if asked.paths.len() > 1 {
        return Err(wrong("one file or folder is recorded into it: give one PATH, not several".into()));
    }
    let target = desk.find_or_here(asked.paths.first().map(PathBuf::as_path))?;
    let connection = desk.connect(&target.mount)?;
    let end = End::of_signals().map_err(|error| wrong(format!("signals cannot be listened to: {error}")))?;
    let ender = Arc::new(connection.ender()?);
    let mut recording = Recording { file: None, end: Some(end), ender, at_work: None, trouble: None };
    let command = Command::Record { path: PathText(target.relative) };
    let answer = connection.run(&command, |reply| match reply {
        Reply::Access(access) => {
            recording.write(&access).unwrap_or_else(|error| recording.give_up(wrong(unwritten(&error))))
        }
        _ => recording.begin(asked, screen).unwrap_or_else(|trouble| recording.give_up(trouble)),
    });
    // A command runs on where the recording has ended before it.
    let status =
        recording.at_work.filter(|_| !asked.command.is_empty()).and_then(|at_work| at_work.join().ok()).flatten();
    if let Some(trouble) = recording.trouble {
        return Err(trouble);
    }
    let Answer::Recorded(report) = answer? else { return Err(unexpected()) };
    match screen.json {
        true => screen.say_json(&serde_json::json!({ "result": report })),
        false => screen.complain(&text(&name(), &report)),
    }
    let is_complete = !report.full && report.lost_reads == 0;
    Ok(status.map_or(0, code).max(u8::from(!is_complete)))
}

/// A recording that runs.
struct Recording {
    /// Once it has begun: a recording that is refused leaves an older profile as it is.
    file: Option<File>,
    /// Until it has begun.
    end: Option<End>,
    ender: Arc<Ender>,
    at_work: Option<JoinHandle<Option<ExitStatus>>>,
    trouble: Option<ClientError>,
}

impl Recording {
    /// Reads are recorded from now on.
    fn begin(&mut self, asked: &RecordAsked<'_>, screen: &mut Screen<'_>) -> Result<(), ClientError> {
        let Some(end) = self.end.take() else { return Ok(()) };
        let wrong = |name: String, why| Err(ClientError::Input { name, why });
        self.file = match File::create(asked.file) {
            Ok(file) => Some(file),
            Err(error) => return wrong(asked.file.display().to_string(), unwritten(&error)),
        };
        let ender = self.ender.clone();
        let Some((program, words)) = asked.command.split_first() else {
            screen.complain("recording what is read; Ctrl-C ends it\n");
            self.at_work = Some(std::thread::spawn(move || {
                end.wait();
                ender.end();
                None
            }));
            return Ok(());
        };
        let mut child = match std::process::Command::new(program).args(words).spawn() {
            Ok(child) => child,
            Err(error) => return wrong(program.display().to_string(), format!("it cannot be run: {error}")),
        };
        self.at_work = Some(std::thread::spawn(move || {
            // Signals from the terminal are the command's as well, and end that.
            let _end = end;
            let status = child.wait();
            ender.end();
            status.ok()
        }));
        Ok(())
    }

    /// Line by line: whatever ends us leaves a profile that can be used.
    fn write(&mut self, access: &AccessReport) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(access).expect("text and numbers are JSON");
        line.push(b'\n');
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(&line))
    }

    /// It can go on no more.
    fn give_up(&mut self, why: ClientError) {
        self.trouble.get_or_insert(why);
        self.ender.end();
    }
}

fn unwritten(error: &std::io::Error) -> String {
    format!("the profile cannot be written: {error}")
}

/// The signals that end a recording.
struct End {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
}

impl End {
    /// From now on they end nothing else.
    fn of_signals() -> std::io::Result<End> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        drop(inside);
        Ok(End { runtime, interrupt, terminate })
    }

    fn wait(mut self) {
        let (interrupt, terminate) = (&mut self.interrupt, &mut self.terminate);
        self.runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
    }
}

/// As a shell gives it.
fn code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map_or(1, |signal| 128 + signal);
    u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(1)
}

fn text(name: &str, report: &RecordReport) -> String {
    let lost = match report.lost_reads {
        0 => String::new(),
        lost => format!("; {lost} reads came too fast to be written down, and are not in it"),
    };
    let full = if report.full { "; it is full: what was read after that is not in it" } else { "" };
    let (files, ranges) = (report.files, report.ranges);
    format!("{}: {ranges} ranges of {files} files, {}{lost}{full}\n", plain(name), bytes(report.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_profile_lacks_is_said() {
        let report = RecordReport { files: 2, ranges: 3, bytes: 1 << 20, ..RecordReport::default() };
        assert_eq!(text("p.jsonl", &report), "p.jsonl: 3 ranges of 2 files, 1.00 MiB\n");
        let report = RecordReport { lost_reads: 5, full: true, ..report };
        assert!(text("p", &report).contains("5 reads came too fast") && text("p", &report).contains("it is full"));
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!((code(ExitStatus::from_raw(3 << 8)), code(ExitStatus::from_raw(9))), (3, 137));
    }
}
