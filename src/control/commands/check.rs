//! `braidfs prefetch --check`: what a prefetch would find done already.

use super::paths::fitting;
use super::prefetch::Show;
use super::{Screen, unexpected};
use crate::control::client::{ClientError, Desk, Target};
use crate::control::human::bytes;
use crate::control::protocol::{Answer, Command, PathText};
use crate::control::report::CheckReport;
use std::collections::HashMap;

/// Say how much of `paths` is durable on disk. Returns the exit code: 0 where all of it is.
pub(super) fn check(
    desk: &Desk,
    target: &Target,
    paths: Vec<PathText>,
    places: HashMap<Vec<u8>, String>,
    screen: &mut Screen<'_>,
) -> Result<u8, ClientError> {
    let command = fitting(Command::Check { paths })?;
    let mut show = Show::without_bar(screen, &target.mount.mountpoint, places);
    let Answer::Checked(report) = desk.connect(&target.mount)?.run(&command, |reply| show.hear(reply))? else {
        return Err(unexpected());
    };
    match screen.json {
        true => screen.say_json(&serde_json::json!({ "result": report })),
        false => screen.say(&text(&report)),
    }
    Ok(u8::from(report.files_complete < report.files_total || report.failed > 0))
}

fn text(report: &CheckReport) -> String {
    let failed =
        if report.failed > 0 { format!("; {} paths could not be looked at", report.failed) } else { String::new() };
    format!(
        "{} of {} files are durable on disk, {} in part, {} not at all: {} of {}{failed}\n",
        report.files_complete,
        report.files_total,
        report.files_in_part,
        report.files_missing,
        bytes(report.bytes_durable),
        bytes(report.bytes_total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_in_one_line() {
        let report = CheckReport {
            files_total: 4,
            files_complete: 2,
            files_in_part: 1,
            files_missing: 1,
            bytes_durable: 1 << 20,
            bytes_total: 2 << 20,
            failed: 0,
        };
        let said = "2 of 4 files are durable on disk, 1 in part, 1 not at all: 1.00 MiB of 2.00 MiB\n";
        assert_eq!(text(&report), said);
        assert!(text(&CheckReport { failed: 3, ..report }).ends_with("; 3 paths could not be looked at\n"));
    }
}
