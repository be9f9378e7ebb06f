//! The paths that a command was given.

use super::path_list::Given;
use crate::control::client::{ClientError, Desk, Target};
use crate::control::protocol::{Command, PathText, REQUEST_BYTES_MAX, Refusal, RefusalKind, request_line};

/// All that was `given` relative to the one mount that it is on, in its order.
pub(super) fn on_one_mount(desk: &Desk, given: &[Given]) -> Result<(Target, Vec<PathText>), ClientError> {
    let finder = desk.finder()?;
    let mut first: Option<(&Given, Target)> = None;
    let mut relative = Vec::with_capacity(given.len());
    for one in given {
        let found = finder.find(&one.path).map_err(|error| placed(one, error))?;
        relative.push(PathText(found.relative.clone()));
        match &first {
            Some((other, target)) if target.mount.device != found.mount.device => {
                return Err(placed(one, ClientError::TwoMounts(other.path.clone(), one.path.clone())));
            }
            Some(_) => {}
            None => first = Some((one, found)),
        }
    }
    match first {
        Some((_, target)) => Ok((target, relative)),
        None => Err(ClientError::NoPath("there is nothing to do".into())),
    }
}

fn placed(given: &Given, error: ClientError) -> ClientError {
    match &given.place {
        Some(place) => ClientError::Listed { place: place.clone(), error: Box::new(error) },
        None => error,
    }
}

/// The command, where it fits into one request.
pub(super) fn fitting(command: Command) -> Result<Command, ClientError> {
    match request_line(&command).len() as u64 > REQUEST_BYTES_MAX {
        true => {
            let message = "all that was given is longer than 16 MiB together: name folders instead of their files, or use several commands";
            Err(Refusal::new(RefusalKind::Request, message).into())
        }
        false => Ok(command),
    }
}
