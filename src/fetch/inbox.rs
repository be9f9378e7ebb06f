//! What other threads and tasks tell the driver, in order.
//!
//! A plain queue that is taken whole: the driver drains in batches, so that a burst of a hundred
//! reads costs one wake. It is bounded by what can be said at all: a command per read that waits,
//! per fetch in flight, per open handle and per control command.

use crate::chunk::{Inode, Pages};
use crate::fetch::asking::Question;
use crate::fetch::opened::OpenFile;
use crate::fetch::waiting::Waiter;
use crate::scheduler::Event;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;

/// One message to the driver.
pub enum Command {
    /// A read that memory could not answer.
    Read(Arc<Waiter>),
    /// Something for the scheduler.
    Tell(Event),
    /// These pages came from disk into the pool.
    FromDisk {
        /// Of which file.
        file: Inode,
        /// Which.
        pages: Pages,
    },
    /// These pages were thought to be on disk and are not readable there.
    NotOnDisk {
        /// Of which file.
        file: Arc<OpenFile>,
        /// Which.
        pages: Pages,
    },
    /// A prefetch job wants these pages durable.
    Keep {
        /// Of which file.
        file: Arc<OpenFile>,
        /// Which.
        pages: Pages,
        /// The job.
        reader: crate::chunk::ReaderId,
    },
    /// Somebody wants to know, or to set, something of the scheduler.
    Ask(Question),
    /// The pool has memory again.
    MemoryFreed,
    /// End: fail what waits, stop what runs.
    End,
}

/// The queue.
#[derive(Default)]
pub struct Inbox {
    queue: Mutex<Vec<Command>>,
    wake: Notify,
}

impl Inbox {
    /// Put one in and wake the driver.
    pub fn push(&self, command: Command) {
        self.queue.lock().push(command);
        self.wake.notify_one();
    }

    /// Shorthand for [`Command::Tell`].
    pub fn tell(&self, event: Event) {
        self.push(Command::Tell(event));
    }

    /// Swap everything that is in with `taken`, which is empty.
    pub fn take(&self, taken: &mut Vec<Command>) {
        std::mem::swap(&mut *self.queue.lock(), taken);
    }

    /// Until something was put in.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}
