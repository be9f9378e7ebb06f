//! Where the log goes, and how much of it.

use anyhow::Context;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// To stderr. `verbose`: 0 what people should know, 1 what it does, 2 every decision.
pub fn log_to_stderr(verbose: u8) -> anyhow::Result<()> {
    let colours = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_target(false).with_ansi(colours).with_writer(std::io::stderr);
    start(registry().with(lines.with_filter(filter(verbose))))
}

/// To the end of a file.
pub fn log_to_file(path: &Path, verbose: u8) -> anyhow::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot write the log file {}: give another", path.display()))?;
    let lines = fmt::layer().with_target(false).with_ansi(false).with_writer(Mutex::new(file));
    start(registry().with(lines.with_filter(filter(verbose))))
}

fn start(log: impl SubscriberInitExt) -> anyhow::Result<()> {
    log.try_init().context("cannot start the log")
}

/// Ours at the level that was asked for; of libraries only what is wrong, unless everything was asked for.
fn filter(verbose: u8) -> Targets {
    match verbose {
        0 => Targets::new().with_default(LevelFilter::ERROR).with_target("braidfs", LevelFilter::INFO),
        1 => Targets::new().with_default(LevelFilter::WARN).with_target("braidfs", LevelFilter::DEBUG),
        _ => Targets::new().with_default(LevelFilter::DEBUG).with_target("braidfs", LevelFilter::TRACE),
    }
}
