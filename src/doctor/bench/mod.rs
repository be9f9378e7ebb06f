//! `braidfs bench`: what a live mount delivers to an ordinary reader, for a few seconds. Nothing is evicted or dropped
//! first: what was cached before, and what the kernel answered by itself, is said beside each figure.
//!
//! | file | one idea |
//! |---|---|
//! | `passes` | the reads, one kind after the other |
//! | `largest` | a file to read, where none is given |
//! | `daemon` | the daemon's counters and CPU time, before and after |
//! | `show` | for people and for programs |

mod daemon;
mod largest;
mod passes;
mod show;

use crate::clock::now;
use crate::config::command_line::BenchCommand;
use crate::config::size::Size;
use crate::control::client::{ClientError, Desk, Target};
use crate::control::commands::Screen;
use crate::control::file_report::FileReport;
use crate::control::protocol::{Answer, Command};
use crate::control::report::MirrorsReport;
use daemon::Daemon;
use passes::{Pass, Work};
use std::sync::mpsc;
use std::time::Duration;

/// All reads together, and what a read that hangs may take beyond.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Less shows nothing.
const BYTES_MIN: u64 = 1 << 20;

/// What was measured.
struct Measured {
    target: Target,
    daemon: Daemon,
    mirrors: MirrorsReport,
    /// What is read, relative to the mount, and what was held of it before.
    file: Option<(Vec<u8>, Option<FileReport>)>,
    passes: Vec<Pass>,
    /// What went wrong, where something did.
    trouble: Option<String>,
    elapsed: Duration,
}

/// Measure, show it, and return the exit code.
pub fn run(asked: &BenchCommand, desk: &Desk, screen: &mut Screen<'_>) -> u8 {
    if asked.bytes.0 < BYTES_MIN {
        let least = Size(BYTES_MIN);
        return fail(
            screen,
            &format!("--bytes {} is less than {least}, which shows nothing; give more", asked.bytes),
            2,
        );
    }
    let measured = match measure(asked, desk) {
        Ok(measured) => measured,
        Err(error) => return fail(screen, &error.to_string(), error.exit_code()),
    };
    let text = if screen.json { show::json(&measured) } else { show::text(&measured) };
    // A closed stdout is nobody's loss.
    drop(screen.out.write_all(text.as_bytes()).and_then(|()| screen.out.flush()));
    match &measured.trouble {
        Some(trouble) => {
            let trouble = format!("braidfs: {trouble}\n");
            drop(screen.err.write_all(trouble.as_bytes()));
            1
        }
        None => 0,
    }
}

fn fail(screen: &mut Screen<'_>, why: &str, code: u8) -> u8 {
    if screen.json {
        let object = serde_json::json!({ "error": { "message": why } });
        drop(writeln!(screen.out, "{object}"));
    }
    drop(writeln!(screen.err, "braidfs: {why}"));
    code
}

fn measure(asked: &BenchCommand, desk: &Desk) -> Result<Measured, ClientError> {
    let start = now();
    let target = desk.find_or_here(asked.path.as_deref())?;
    let daemon = Daemon::ask(desk, &target.mount)?;
    let mirrors = match desk.connect(&target.mount)?.run(&Command::Mirrors { strategy: None, change: None }, |_| {})? {
        Answer::Mirrors(mirrors) => *mirrors,
        _ => MirrorsReport::default(),
    };
    // By the path that was given, which a program would read.
    let root = target.mount.mountpoint.clone();
    let given = asked.path.as_ref().map_or_else(|| root.clone(), |path| desk.cwd.join(path));
    let (sender, receiver) = mpsc::channel();
    let work = Work { desk: desk.clone(), target: target.clone(), given, root, bytes: asked.bytes.0, start };
    std::thread::spawn(move || work.run(TIME_MAX, &sender));
    let mut measured =
        Measured { target, daemon, mirrors, file: None, passes: Vec::new(), trouble: None, elapsed: Duration::ZERO };
    // One read may hang for as long as the daemon lets it.
    let until = start + TIME_MAX + Duration::from_secs(5);
    loop {
        match receiver.recv_timeout(until.since(now())) {
            Ok(passes::Said::File(path, held)) => measured.file = Some((path, held.map(|held| *held))),
            Ok(passes::Said::Pass(pass)) => measured.passes.push(pass),
            Ok(passes::Said::Trouble(trouble)) => measured.trouble = Some(trouble),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                measured.trouble = Some(format!("a read has not come back after {} s", TIME_MAX.as_secs()));
                break;
            }
        }
    }
    measured.elapsed = now().since(start);
    Ok(measured)
}
