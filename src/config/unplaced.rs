//! The plan of who looks at a mount without making it: the place may be left out.

use super::command_line::MountCommand;
use super::defaults::Surroundings;
use super::plan::{MountPlan, plan_mount};
use super::plan_error::PlanError;
use std::path::PathBuf;

/// Stands for the place where none is given.
const NO_PLACE: &str = "/";

/// As [`plan_mount`], and the place where one is given. A last word that is a file is a SOURCE.
///
/// # Errors
/// As [`plan_mount`], but for a place that is missing.
pub fn plan_unplaced(command: &MountCommand, around: &Surroundings) -> Result<(MountPlan, Option<PathBuf>), PlanError> {
    match plan_mount(command, around) {
        Ok(plan) if !plan.mountpoint.is_file() => {
            let place = plan.mountpoint.clone();
            Ok((plan, Some(place)))
        }
        Ok(_) | Err(PlanError::NoMountpoint(_)) => {
            let mut command = command.clone();
            command.places.push(NO_PLACE.into());
            Ok((plan_mount(&command, around)?, None))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::command_line::{Command, CommandLine};

    #[test]
    fn the_place_may_be_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.toml");
        std::fs::write(&file, "[[mirror]]\nurl = \"http://b/\"\n").unwrap();
        let (file, dir) = (file.display(), folder.path().display());
        let around = Surroundings::of_process().unwrap();
        for (line, mirrors, placed) in [
            ("http://a/".to_owned(), 1, false),
            ("http://a/ http://c/".to_owned(), 2, false),
            (format!("http://a/ {dir}"), 1, true),
            (format!("{file}"), 1, false),
            (format!("http://a/ {file}"), 2, false),
            (format!("--config {file}"), 1, false),
            (format!("--config {file} {dir}"), 1, true),
        ] {
            let words = format!("braidfs doctor {line}");
            let Command::Doctor(asked) = CommandLine::read(words.split(' ').map(Into::into)).unwrap().command else {
                panic!("{line}")
            };
            let (plan, place) = plan_unplaced(&asked.mount(), &around).unwrap();
            assert_eq!((plan.mirrors.len(), place.is_some()), (mirrors, placed), "{line}");
        }
    }
}
