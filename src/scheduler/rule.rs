//! What a path rule says of a file (spec 3.1): how urgent its readers are, and how long they should wait.

use super::tail::OBJECTIVE_SECONDS;
use super::wants::Want;
use super::{Scheduler, State};
use crate::chunk::{Class, Inode};
use std::time::Duration;

/// What holds for one file. The default: its readers are demand, with the objective of the whole mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRule {
    /// What a reader of it counts for. Below demand it is served after all demand, and still has its deadline.
    pub class: Class,
    /// What the P99 of its demand misses should be; `None`: as for every file.
    pub objective: Option<Duration>,
}

impl Default for FileRule {
    fn default() -> FileRule {
        FileRule { class: Class::Demand, objective: None }
    }
}

impl FileRule {
    /// The class of what is fetched ahead of its readers.
    pub(super) fn ahead(&self) -> Class {
        self.class.max(Class::Readahead)
    }

    pub(super) fn objective_seconds(&self) -> f64 {
        self.objective.map_or(OBJECTIVE_SECONDS, |objective| objective.as_secs_f64())
    }
}

impl Scheduler {
    /// Readers of a lower class wait for pages that were given up: they are demand from now on (spec 3.3).
    pub(super) fn degrade_to_demand(&mut self, file: Inode, wants: Vec<Want>) {
        for want in wants {
            let (pages, expires) = (want.pages, want.expires());
            self.wants.add(want.into_demand(), expires);
            if let Some(known) = self.files.get_mut(&file) {
                known.table.turn(pages, State::Absent, State::Queued);
            }
        }
    }
}
