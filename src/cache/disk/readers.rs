//! Threads that may wait for the disk, for those that may not.

use super::shared::Shared;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

/// Reads under way at once. One disk is busy with a few; a hung one holds them all, and then the
/// queue fills and callers go to the mirrors.
pub(super) const THREADS: usize = 4;
/// Reads that wait for a thread.
const WAITING_MAX: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// A bounded queue of work for the reader threads.
#[derive(Default)]
pub(super) struct Readers {
    state: Mutex<(VecDeque<Job>, bool)>,
    changed: Condvar,
}

impl Readers {
    pub(super) fn push(&self, job: Job) -> Result<(), Job> {
        let mut state = self.state.lock();
        if state.1 || state.0.len() >= WAITING_MAX {
            return Err(job);
        }
        state.0.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn stop(&self) {
        self.state.lock().1 = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.0.pop_front() {
                return Some(job);
            }
            if state.1 {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }
}

/// The work of one reader thread.
pub(super) fn run(shared: &Arc<Shared>) {
    while let Some(job) = shared.readers.next() {
        job();
    }
}
