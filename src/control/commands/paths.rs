//! The paths that a command was given.

use crate::control::client::{ClientError, Desk, Target};
use crate::control::protocol::{Command, PathText, REQUEST_BYTES_MAX, Refusal, RefusalKind, request_line};
use std::path::PathBuf;

/// All `paths` relative to the one mount that they are on.
pub(super) fn on_one_mount(desk: &Desk, paths: &[PathBuf]) -> Result<(Target, Vec<PathText>), ClientError> {
    let mut first: Option<(&PathBuf, Target)> = None;
    let mut relative = Vec::new();
    for path in paths {
        let found = desk.find(path)?;
        relative.push(PathText(found.relative.clone()));
        match &first {
            Some((other, target)) if target.mount.device != found.mount.device => {
                return Err(ClientError::TwoMounts((*other).clone(), path.clone()));
            }
            Some(_) => {}
            None => first = Some((path, found)),
        }
    }
    match first {
        Some((_, target)) => Ok((target, relative)),
        None => Err(ClientError::NoPath("there is nothing to do".into())),
    }
}

/// The command, where it fits into one request.
pub(super) fn fitting(command: Command) -> Result<Command, ClientError> {
    match request_line(&command).len() as u64 > REQUEST_BYTES_MAX {
        true => {
            let message = "the paths are longer than 1 MiB together: name folders instead of their files, or use several commands";
            Err(Refusal::new(RefusalKind::Request, message).into())
        }
        false => Ok(command),
    }
}
