//! Runs that readers have been past, oldest first: the first to go.
//!
//! Readers put them in and take no lock for it; the reserving side uses them up.

use super::run::Run;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use tokio::sync::mpsc;

/// The queue is swept of what is gone already when it is so long, and then at twice what is left.
const SWEEP_MIN: usize = 1024;

/// The queue. Bounded by the runs there are: each is in it once, and those that are gone are swept
/// out whenever the reserving side looks, or [`Consumed::settle`] is called.
pub(super) struct Consumed {
    // A queue that whoever puts in never waits at, not even for another one who does.
    passed: mpsc::UnboundedSender<Weak<Run>>,
    queue: Mutex<Queue>,
}

struct Queue {
    passed: mpsc::UnboundedReceiver<Weak<Run>>,
    runs: VecDeque<Weak<Run>>,
    sweep_at: usize,
}

impl Queue {
    fn settle(&mut self) {
        while let Ok(run) = self.passed.try_recv() {
            self.runs.push_back(run);
        }
        if self.runs.len() >= self.sweep_at {
            self.runs.retain(|run| run.strong_count() > 0);
            self.sweep_at = SWEEP_MIN.max(self.runs.len() * 2);
        }
    }
}

impl Consumed {
    pub(super) fn new() -> Consumed {
        let (passed, received) = mpsc::unbounded_channel();
        let queue = Queue { passed: received, runs: VecDeque::new(), sweep_at: SWEEP_MIN };
        Consumed { passed, queue: Mutex::new(queue) }
    }

    /// A reader has been past all that `run` holds. No lock.
    pub(super) fn push(&self, run: &Arc<Run>) {
        // The receiver lives as long as we do.
        let _ = self.passed.send(Arc::downgrade(run));
    }

    /// Takes in what readers have said, and forgets what is gone.
    pub(super) fn settle(&self) {
        self.queue.lock().settle();
    }

    /// The oldest.
    pub(super) fn pop(&self) -> Option<Weak<Run>> {
        let mut queue = self.queue.lock();
        queue.settle();
        queue.runs.pop_front()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let mut queue = self.queue.lock();
        queue.settle();
        queue.runs.len()
    }

    /// See [`super::index::Index::hold_locks`].
    #[cfg(test)]
    pub(super) fn hold_lock(&self) -> impl Sized {
        self.queue.lock()
    }
}
