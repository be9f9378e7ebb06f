//! The JSON schema of what commands print with `--json`, for programs that read it.

use super::report::{CheckReport, FailedFile, PrefetchReport, Progress, RecordReport};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

/// A line of `braidfs prefetch --json`. Fields may be added; none is taken away, and none changes what it means.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is of use: each line is made where it is known")]
enum PrefetchLine {
    /// How far it is.
    Progress(Progress),
    /// One file was given up, or a path came to nothing.
    Failed(FailedFile),
    /// How it ended; the last line.
    Result(PrefetchResult),
    /// Why it came to nothing; the last line.
    Error(ErrorText),
}

/// How it ended.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "as above")]
enum PrefetchResult {
    /// A job.
    Job(PrefetchReport),
    /// `--check`.
    Check(CheckReport),
    /// `--record`.
    Record(RecordReport),
}

/// Why it came to nothing.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "as above")]
struct ErrorText {
    /// In words: names the input and the way out.
    message: String,
}

/// Of the lines of `braidfs prefetch --json`.
pub fn prefetch() -> String {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    format!("{:#}\n", generator.into_root_schema_for::<PrefetchLine>().to_value())
}
