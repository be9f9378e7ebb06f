//! `braidfs jobs [PATH] [--json]` and `braidfs cancel JOB [PATH] [--json]`.

use super::{Screen, status_of, unexpected};
use crate::control::client::Desk;
use crate::control::human::{bytes, length, plain, table};
use crate::control::protocol::{Answer, Command, PathText};
use crate::control::report::JobReport;
use std::path::Path;

/// Paths of a job that a table shows.
const PATHS_SHOWN: usize = 3;

/// Show the prefetch jobs of the mount of `path`: those that run, and the last few that ended. Returns the exit code.
pub fn jobs(desk: &Desk, path: Option<&Path>, screen: &mut Screen<'_>) -> u8 {
    let asked = desk
        .find_or_here(path)
        .and_then(|target| desk.connect(&target.mount)?.run(&Command::Status { path: None }, |_| {}));
    match asked.and_then(status_of) {
        Ok(report) => {
            match screen.json {
                true => screen.say_json(&serde_json::json!({ "jobs": report.jobs })),
                false if report.jobs.is_empty() => screen.say("no jobs: `braidfs prefetch` begins one\n"),
                false => screen.say(&text(&report.jobs)),
            }
            0
        }
        Err(error) => screen.fail(&error),
    }
}

/// End a prefetch job. What it has brought stays. Returns the exit code.
pub fn cancel(desk: &Desk, job: u64, path: Option<&Path>, screen: &mut Screen<'_>) -> u8 {
    let asked =
        desk.find_or_here(path).and_then(|target| desk.connect(&target.mount)?.run(&Command::Cancel { job }, |_| {}));
    match asked {
        Ok(Answer::Cancelled(report)) => {
            match screen.json {
                true => screen.say_json(&serde_json::json!({ "result": report })),
                false => screen.say(&format!(
                    "job {job} cancelled; {} of it stay in the cache\n",
                    bytes(report.progress.bytes_done)
                )),
            }
            0
        }
        Ok(_) => screen.fail(&unexpected()),
        Err(error) => screen.fail(&error),
    }
}

fn text(jobs: &[JobReport]) -> String {
    let rows: Vec<[String; 7]> = jobs
        .iter()
        .map(|job| {
            let progress = &job.progress;
            let more = if progress.listing && job.state == "running" { " or more" } else { "" };
            [
                job.job.to_string(),
                plain(&job.state),
                format!("{} of {}{more}", progress.files_done, progress.files_total),
                format!("{} of {}{more}", bytes(progress.bytes_done), bytes(progress.bytes_total)),
                progress.files_failed.to_string(),
                length(progress.elapsed_ms),
                format!("{}{}", paths_text(&job.paths, job.paths_total), plain(&progress.waiting_text())),
            ]
        })
        .collect();
    let failures = jobs.iter().flat_map(|job| job.failures.iter().map(move |file| (job.job, file)));
    let remarks: String = failures
        .map(|(job, file)| format!("job {job}: {}: {}\n", plain(&file.path.encode()), plain(&file.reason)))
        .collect();
    let head = ["JOB", "STATE", "FILES", "BYTES", "FAILED", "FOR", "PATHS"];
    let table = table(head, [true, false, true, true, true, true, false], &rows);
    if remarks.is_empty() { table } else { format!("{table}\n{remarks}") }
}

fn paths_text(paths: &[PathText], total: u64) -> String {
    let shown = paths.iter().take(PATHS_SHOWN).map(|path| match path.0.is_empty() {
        true => ".".to_owned(),
        false => path.encode(),
    });
    let mut text = shown.collect::<Vec<_>>().join(" ");
    let more = total.max(paths.len() as u64) - paths.len().min(PATHS_SHOWN) as u64;
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_paths_are_counted() {
        let path = |text: &str| PathText(text.into());
        assert_eq!(paths_text(&[path("")], 1), ".");
        assert_eq!(paths_text(&[path("a"), path("b"), path("c"), path("d"), path("e")], 5), "a b c and 2 more");
        assert_eq!(paths_text(&[path("a"), path("b"), path("c"), path("d")], 90), "a b c and 87 more");
    }
}
