//! What the user's commands do: ask the daemon, show the answer, return the exit code.
//!
//! Exit codes: 0 done; 1 refused, failed, or the input was wrong; 2 the daemon did not answer or went away.

mod ab;
mod check;
mod explain;
mod jobs;
mod keeping;
mod list;
mod mirrors;
mod path_list;
mod paths;
mod prefetch;
mod profile;
mod record;
mod reload;
mod stat;
mod status;
mod top;
mod umount;
mod web;
mod why;

pub use ab::ab;
pub use explain::explain;
pub use jobs::{cancel, jobs};
pub use keeping::keep;
pub use list::list;
pub use mirrors::mirrors;
pub use path_list::PathList;
pub use prefetch::{Asked, prefetch};
pub use record::{RecordAsked, record};
pub use reload::reload;
pub use stat::stat;
pub use status::status;
pub use top::top;
pub use umount::umount;
pub use web::web;

use super::client::ClientError;
use super::file_report::FileReport;
use super::human::{length, plain};
use super::protocol::Answer;
use super::report::{ExplainReport, MirrorReport, MirrorsReport, PrefetchReport, StatusReport};
use std::io::Write;

/// Where a command shows things.
pub struct Screen<'a> {
    /// What was asked for.
    pub out: &'a mut dyn Write,
    /// What went wrong, and progress.
    pub err: &'a mut dyn Write,
    /// stderr is a terminal: a bar is drawn on it.
    pub is_terminal: bool,
    /// Print JSON.
    pub json: bool,
}

impl Screen<'_> {
    /// Text for people, ready with its line breaks. Where nobody reads any more (`| head`), the text
    /// is dropped; the command goes on and its exit code still counts.
    fn say(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    fn complain(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }

    fn say_json(&mut self, value: &impl serde::Serialize) {
        let text = serde_json::to_string(value).expect("reports have text for keys");
        self.say(&format!("{text}\n"));
    }

    /// Show why it came to nothing; gives the exit code.
    fn fail(&mut self, error: &ClientError) -> u8 {
        if self.json {
            self.say_json(&serde_json::json!({ "error": { "message": error.to_string() } }));
        }
        self.complain(&format!("braidfs: {error}\n"));
        error.exit_code()
    }
}

/// The part of an answer that a command asked for. Another one is a daemon's fault.
fn unexpected() -> ClientError {
    let error = "an answer to another command".to_owned();
    ClientError::Nonsense { mountpoint: "this mount".into(), error }
}

fn status_of(answer: Answer) -> Result<StatusReport, ClientError> {
    match answer {
        Answer::Status(report) => Ok(*report),
        _ => Err(unexpected()),
    }
}

fn file_of(answer: Answer) -> Result<FileReport, ClientError> {
    match answer {
        Answer::File(report) => Ok(*report),
        _ => Err(unexpected()),
    }
}

fn mirrors_of(answer: Answer) -> Result<MirrorsReport, ClientError> {
    match answer {
        Answer::Mirrors(report) => Ok(*report),
        _ => Err(unexpected()),
    }
}

fn explain_of(answer: Answer) -> Result<ExplainReport, ClientError> {
    match answer {
        Answer::Explain(report) => Ok(*report),
        _ => Err(unexpected()),
    }
}

fn prefetch_of(answer: Answer) -> Result<PrefetchReport, ClientError> {
    match answer {
        Answer::Prefetch(report) => Ok(report),
        _ => Err(unexpected()),
    }
}

/// What does not fit a table: why mirrors are out of use, how they failed, what they lied about.
fn remarks_text<'a>(mirrors: impl Iterator<Item = &'a MirrorReport>) -> String {
    let mut lines = String::new();
    for mirror in mirrors {
        let mut remark = |text: String| lines.push_str(&format!("{}: {}\n", plain(&mirror.url), plain(&text)));
        if let Some(reason) = &mirror.reason {
            let next =
                mirror.next_try_s.map_or(String::new(), |s| format!("; next try in {}", length((s * 1e3) as u64)));
            remark(format!("{}: {reason}{next}", mirror.state));
        }
        if let Some(failure) = &mirror.last_failure {
            remark(format!("last failure: {failure}"));
        }
        mirror.lies.iter().for_each(|lie| remark(format!("lied: {lie}")));
    }
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}
