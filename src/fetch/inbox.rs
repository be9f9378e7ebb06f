//! What other threads and tasks tell the driver, in order.
//!
//! A plain queue that is taken whole: the driver drains in batches, so that a burst of a hundred
//! reads costs one wake. It is bounded by what can be said at all: a command per read that waits,
//! per fetch in flight, per open handle and per control command.
//!
//! Who puts something in takes no lock, and waits neither for the driver nor for others who do: it may
//! be a reader whose bytes were in memory.

use crate::chunk::{Inode, Pages};
use crate::fetch::asking::Question;
use crate::fetch::opened::OpenFile;
use crate::fetch::waiting::Waiter;
use crate::scheduler::Event;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use tokio::sync::mpsc;

/// One message to the driver.
pub enum Command {
    /// A read that memory could not answer.
    Read(Arc<Waiter>),
    /// Something for the scheduler.
    Tell(Event),
    /// The mark of a streak: where its reader is to be heard of. Before the first word of that streak.
    Follow {
        /// Which.
        reader: crate::chunk::ReaderId,
        /// The page. The driver moves it.
        mark: Arc<AtomicU64>,
    },
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
    /// These pages will probably be read soon.
    Ahead {
        /// Of which file.
        file: Arc<OpenFile>,
        /// Which.
        pages: Pages,
        /// For whom.
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
pub struct Inbox {
    sender: mpsc::UnboundedSender<Command>,
    // Only ever locked by the driver.
    receiver: Mutex<mpsc::UnboundedReceiver<Command>>,
    /// Something was put in since the driver last asked.
    rung: AtomicBool,
    driver: AtomicWaker,
}

impl Default for Inbox {
    fn default() -> Inbox {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (rung, driver) = Default::default();
        Inbox { sender, receiver: Mutex::new(receiver), rung, driver }
    }
}

impl Inbox {
    /// Put one in and wake the driver. No lock.
    pub fn push(&self, command: Command) {
        // The receiver lives as long as we do.
        let _ = self.sender.send(command);
        // Pairs with the swap of `woken`: who is woken by it finds the command.
        self.rung.store(true, Ordering::Release);
        self.driver.wake();
    }

    /// Shorthand for [`Command::Tell`].
    pub fn tell(&self, event: Event) {
        self.push(Command::Tell(event));
    }

    /// Moves everything that is in by now to the end of `taken`. For the driver alone.
    pub fn take(&self, taken: &mut Vec<Command>) {
        let mut receiver = self.receiver.lock();
        // Not until it is empty: whoever goes on putting in must not keep the driver from its work.
        for _ in 0..receiver.len() {
            taken.extend(receiver.try_recv());
        }
    }

    /// Until something was put in. For the driver alone.
    pub async fn woken(&self) {
        std::future::poll_fn(|context| {
            // First of all, or what is put in between would wake nobody.
            self.driver.register(context.waker());
            match self.rung.swap(false, Ordering::Acquire) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// What the driver may hold, held. For tests of those who only put in.
    #[cfg(test)]
    pub fn hold_lock(&self) -> impl Sized {
        self.receiver.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many put in while one takes: nothing is lost, each one's order stays, and the last one wakes.
    #[test]
    fn everything_arrives_in_order_and_wakes() {
        const EACH: u64 = 2000;
        let inbox = Arc::new(Inbox::default());
        let pushers: Vec<_> = (0..3)
            .map(|who| {
                let inbox = inbox.clone();
                std::thread::spawn(move || {
                    for at in 0..EACH {
                        inbox.push(Command::FromDisk { file: Inode(who), pages: Pages::new(at, at + 1) });
                    }
                })
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut next = [0; 3];
        runtime.block_on(async {
            let mut taken = Vec::new();
            while next != [EACH; 3] {
                inbox.woken().await;
                inbox.take(&mut taken);
                for command in taken.drain(..) {
                    let Command::FromDisk { file, pages } = command else { panic!("nothing else was put in") };
                    assert_eq!(pages.start, next[file.0 as usize]);
                    next[file.0 as usize] += 1;
                }
            }
        });
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
    }
}
