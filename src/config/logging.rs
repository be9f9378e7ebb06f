//! How the log is written, and how much of it.

use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// What stands after `--log`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
    /// Entries of systemd's journal, fields and priorities kept.
    Journal,
}

/// What stands after `--log-level`: that and what is worse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum LogLevel {
    /// What is lost.
    Error,
    /// What is wrong and gone round.
    Warn,
    /// What people should know.
    #[default]
    Info,
    /// What it does.
    Debug,
    /// Every decision.
    Trace,
}

impl LogFormat {
    /// As given, beside a log file.
    ///
    /// # Errors
    /// The journal is no file.
    pub(super) fn beside(given: Option<LogFormat>, file: Option<&Path>) -> Result<Option<LogFormat>, String> {
        match (given, file) {
            (Some(LogFormat::Journal), Some(file)) => Err(format!(
                "log journal goes to systemd's journal and not into the log-file {}; leave one of them out",
                file.display()
            )),
            (given, _) => Ok(given),
        }
    }
}

impl LogLevel {
    /// What `-v`, so many times, stands for; none where it is not given.
    pub fn of_verbose(count: u8) -> Option<LogLevel> {
        match count {
            0 => None,
            1 => Some(LogLevel::Debug),
            _ => Some(LogLevel::Trace),
        }
    }
}

/// A word that is none of those that can stand there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{word:?} is not {what}: give {known}")]
pub struct BadWord {
    word: String,
    what: &'static str,
    known: &'static str,
}

impl FromStr for LogFormat {
    type Err = BadWord;

    fn from_str(word: &str) -> Result<LogFormat, BadWord> {
        let known = "text, json or journal";
        match word {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            "journal" => Ok(LogFormat::Journal),
            _ => Err(BadWord { word: word.to_owned(), what: "a way to write the log", known }),
        }
    }
}

impl FromStr for LogLevel {
    type Err = BadWord;

    fn from_str(word: &str) -> Result<LogLevel, BadWord> {
        let known = "error, warn, info, debug or trace";
        match word {
            "error" => Ok(LogLevel::Error),
            "warn" => Ok(LogLevel::Warn),
            "info" => Ok(LogLevel::Info),
            "debug" => Ok(LogLevel::Debug),
            "trace" => Ok(LogLevel::Trace),
            _ => Err(BadWord { word: word.to_owned(), what: "a level of the log", known }),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
            LogFormat::Journal => "journal",
        })
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        })
    }
}

impl<'de> Deserialize<'de> for LogFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LogFormat, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LogLevel, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for format in [LogFormat::Text, LogFormat::Json, LogFormat::Journal] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        let said = |error: BadWord| error.to_string();
        assert!("xml".parse::<LogFormat>().map_err(said).unwrap_err().contains("give text, json or journal"));
        assert!("loud".parse::<LogLevel>().map_err(said).unwrap_err().contains("give error, warn, info"));
    }
}
