//! How long reads wait, and how long names are believed: as given, within what makes sense.

use super::defaults;
use super::duration::Length;
use super::plan_error::PlanError;
use std::time::Duration;

/// `--read-timeout` and `--read-deadline` together.
pub(super) fn deadlines(timeout: Option<Length>, deadline: Option<Length>) -> Result<(Duration, Duration), PlanError> {
    let least = defaults::READ_TIMEOUT_MIN;
    if let Some(given) = timeout.filter(|given| given.0 < least) {
        return Err(PlanError::Value(format!(
            "read-timeout {given} is shorter than {}, in which no mirror far away can answer; give more",
            Length(least)
        )));
    }
    let read_timeout = timeout.map_or(defaults::READ_TIMEOUT, |given| given.0);
    match deadline {
        Some(given) if given.0 < read_timeout && timeout.is_some() => Err(PlanError::Value(format!(
            "read-deadline {given} is shorter than read-timeout {}; make it longer",
            Length(read_timeout)
        ))),
        // One of them given alone moves the other with it, since it is what the user cares for.
        Some(given) if given.0 < least => Err(PlanError::Value(format!(
            "read-deadline {given} is shorter than {}, in which no mirror far away can answer; give more",
            Length(least)
        ))),
        Some(given) => Ok((read_timeout.min(given.0), given.0)),
        None => Ok((read_timeout, defaults::READ_DEADLINE.max(read_timeout))),
    }
}

/// `--entry-lifetime`.
pub(super) fn entry_lifetime(given: Option<Length>) -> Result<Duration, PlanError> {
    match given {
        Some(given) if given.0 > defaults::ENTRY_LIFETIME_MAX => Err(PlanError::Value(format!(
            "entry-lifetime {given} is longer than a year ({}); give less",
            Length(defaults::ENTRY_LIFETIME_MAX)
        ))),
        given => Ok(given.map_or(defaults::ENTRY_LIFETIME, |given| given.0)),
    }
}
