//! Where the log goes, how it is written, and how much of it.

mod journal;
mod json;
mod record;

use crate::config::logging::{LogFormat, LogLevel};
use crate::config::plan::MountPlan;
use anyhow::Context;
use journal::Journal;
use json::JsonLines;
use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// As a plan says. Back comes whether the last words of this program belong into it too, because a line of text on
/// stderr would not fit there.
///
/// # Errors
/// The file cannot be written, or nobody listens where the journal should be.
pub fn start_log(plan: &MountPlan, stderr_is_journal: bool) -> anyhow::Result<bool> {
    let level = plan.log_level;
    match (plan.log, &plan.log_file) {
        (Some(LogFormat::Json), Some(file)) => {
            start(registry().with(JsonLines::new(open(file)?).with_filter(filter(level))))?
        }
        (Some(LogFormat::Json), None) => {
            start(registry().with(JsonLines::new(std::io::stderr()).with_filter(filter(level))))?
        }
        (_, Some(file)) => {
            let lines = fmt::layer().with_target(false).with_ansi(false).with_writer(Mutex::new(open(file)?));
            start(registry().with(lines.with_filter(filter(level))))?;
        }
        (Some(LogFormat::Text), None) => log_to_stderr(level)?,
        (Some(LogFormat::Journal), None) => {
            let journal = Journal::open(Path::new(journal::SOCKET)).with_context(|| {
                format!("log journal: nobody listens at {}; give `log text` or `log json`", journal::SOCKET)
            })?;
            start(registry().with(journal.with_filter(filter(level))))?;
        }
        (None, None) => match stderr_is_journal.then(|| Journal::open(Path::new(journal::SOCKET))) {
            Some(Ok(journal)) => {
                start(registry().with(journal.with_filter(filter(level))))?;
                return Ok(true);
            }
            // In a container whose stderr leads to the journal of its host, say: lines arrive there as well.
            Some(Err(_)) | None => log_to_stderr(level)?,
        },
    }
    let lands_in_log = match plan.log {
        Some(LogFormat::Json) => plan.log_file.is_none(),
        Some(LogFormat::Journal) => stderr_is_journal,
        _ => false,
    };
    Ok(lands_in_log)
}

/// To stderr, as text.
///
/// # Errors
/// There is a log already.
pub fn log_to_stderr(level: LogLevel) -> anyhow::Result<()> {
    let colours = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_target(false).with_ansi(colours).with_writer(std::io::stderr);
    start(registry().with(lines.with_filter(filter(level))))
}

/// Why the mount could not be, or ended badly.
pub fn log_failure(error: &anyhow::Error) {
    tracing::error!("{error:#}");
}

fn open(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("cannot write the log file {}: give another", path.display()))
}

fn start(log: impl SubscriberInitExt) -> anyhow::Result<()> {
    log.try_init().context("cannot start the log")
}

/// Ours at the level that was asked for; of libraries only what is wrong, unless everything was asked for.
fn filter(level: LogLevel) -> Targets {
    let (ours, of_libraries) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::ERROR),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::ERROR),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    Targets::new().with_default(of_libraries).with_target("braidfs", ours)
}
