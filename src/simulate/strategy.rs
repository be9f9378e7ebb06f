//! The one place where a simulation chooses how the scheduler chooses.

use crate::scheduler::Settings;

/// The names of all strategies that the scheduler has.
pub fn names() -> Vec<&'static str> {
    vec!["adaptive"]
}

/// `settings`, with the strategy of this name; nothing: the one that they have.
pub(super) fn with_strategy(settings: Settings, _name: Option<&str>) -> Settings {
    settings
}
