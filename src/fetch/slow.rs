//! Reads that took long, and what each waited for: handed out through a bounded queue to whoever asked for them.
//!
//! Until somebody asks nothing of this is done: a read that memory answers never comes here at all, and one that waits
//! looks at one word. From then on each fetch and each read from disk leaves a [`Wait`] with its file. A read that ends late
//! takes those along that touch its pages and its time. They are shared, not copied: when it ends, the fetch that brought
//! its last page is nearly always on its way still, and how that ended is known a moment later.

use crate::chunk::{Class, FetchId, Inode, Pages};
use crate::clock::{Time, now};
use crate::fetch::engine::Engine;
use crate::fetch::error::Trouble;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use crate::fetch::waiting::Waiter;
use crate::metrics::Metrics;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Slow reads that nobody has taken yet: where a thousand readers time out at once, most of what can be learned is in these.
const QUEUED_MAX: usize = 1024;
/// Waits that are kept with a file: more than are ever in flight for one, and a read that waits for minutes still shows its
/// last attempts.
const KEPT_MAX: usize = 128;

/// Who wants to know of slow reads.
pub struct SlowReads {
    longer_than: Duration,
    metrics: Arc<Metrics>,
    queue: mpsc::Sender<SlowRead>,
}

/// A read that took long.
pub struct SlowRead {
    /// Of what, relative to the mount.
    pub path: Vec<u8>,
    /// The same by its number.
    pub inode: Inode,
    /// The bytes of the file that were asked for.
    pub bytes: Range<u64>,
    /// When it came.
    pub began: Time,
    /// When it had the memory for its pages; none where it never had.
    pub equipped: Option<Time>,
    /// When it was answered.
    pub ended: Time,
    /// Of its bytes, those that were in memory when it began to wait.
    pub memory_bytes: u64,
    /// Those that were asked of the disk.
    pub disk_bytes: u64,
    /// Those that were asked of mirrors, also because the disk could not bring them.
    pub mirror_bytes: u64,
    /// How it failed, where it did.
    pub trouble: Option<Trouble>,
    /// What it may have waited for, in the order in which that began.
    pub waits: Vec<Arc<Wait>>,
}

/// What brings pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Bringer {
    /// The cache's disk.
    Disk,
    /// A mirror.
    Fetch {
        /// Its number, as `explain` has it.
        fetch: FetchId,
        /// Its URL, without credentials.
        mirror: String,
        /// For what it was asked.
        class: Class,
        /// Another fetch for the same was late.
        is_hedge: bool,
    },
}

/// How a wait ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All of it is here.
    Done,
    /// Nobody needed it any more, or it fell silent and others were asked.
    Cancelled,
    /// This came of it, in words without credentials.
    Failed(String),
}

/// Something that a read may wait for.
pub struct Wait {
    /// Who brings it.
    pub bringer: Bringer,
    /// What.
    pub pages: Pages,
    /// Since when.
    pub began: Time,
    /// Nanoseconds as in [`Time`]; 0: none yet.
    first_byte: AtomicU64,
    brought_bytes: AtomicU64,
    end: Mutex<Option<(Time, Outcome)>>,
}

impl Wait {
    /// One that begins now.
    pub fn new(bringer: Bringer, pages: Pages) -> Wait {
        let (first_byte, brought_bytes, end) = Default::default();
        Wait { bringer, pages, began: now(), first_byte, brought_bytes, end }
    }

    /// The mirror has begun to answer.
    pub fn answered(&self) {
        self.first_byte.store(now().0, Ordering::Relaxed);
    }

    /// Bytes came.
    pub fn brought(&self, bytes: u64) {
        self.brought_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It ended so. The first word counts.
    pub fn ended(&self, outcome: Outcome) {
        self.end.lock().get_or_insert_with(|| (now(), outcome));
    }

    /// When it began to answer.
    pub fn first_byte(&self) -> Option<Time> {
        Some(self.first_byte.load(Ordering::Relaxed)).filter(|&at| at > 0).map(Time)
    }

    /// So much came.
    pub fn brought_bytes(&self) -> u64 {
        self.brought_bytes.load(Ordering::Relaxed)
    }

    /// When and how it ended; none while it is on its way.
    pub fn end(&self) -> Option<(Time, Outcome)> {
        self.end.lock().clone()
    }

    /// May a read of `pages`, which began at `began`, have waited for it?
    fn concerns(&self, pages: Pages, began: Time) -> bool {
        let ended = self.end.lock().as_ref().map(|(at, _)| *at);
        !self.pages.intersect(pages).is_empty() && ended.is_none_or(|at| at >= began)
    }
}

/// The last waits of one file.
#[derive(Default)]
pub struct Waits(Mutex<VecDeque<Arc<Wait>>>);

impl Waits {
    fn add(&self, wait: Arc<Wait>) {
        let mut kept = self.0.lock();
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(wait);
    }

    fn concerning(&self, pages: Pages, began: Time) -> Vec<Arc<Wait>> {
        self.0.lock().iter().filter(|wait| wait.concerns(pages, began)).cloned().collect()
    }
}

/// `file` begins to wait for `pages`, where that is of interest to anybody.
pub fn begins(plane: &Plane, file: &OpenFile, pages: Pages, bringer: impl FnOnce() -> Bringer) -> Option<Arc<Wait>> {
    plane.slow_reads.get()?;
    let wait = Arc::new(Wait::new(bringer(), pages));
    file.waits.add(wait.clone());
    Some(wait)
}

impl SlowReads {
    /// A read was answered.
    pub fn over(&self, waiter: &Waiter, trouble: Option<Trouble>) {
        let ended = now();
        if ended.since(waiter.since) <= self.longer_than {
            return;
        }
        let read = SlowRead::of(waiter, ended, trouble);
        self.metrics.slow_reads.add(1);
        if self.queue.try_send(read).is_err() {
            self.metrics.slow_reads_dropped.add(1);
        }
    }
}

impl SlowRead {
    fn of(waiter: &Waiter, ended: Time, trouble: Option<Trouble>) -> SlowRead {
        let (file, bytes, began) = (&waiter.file, waiter.bytes().clone(), waiter.since);
        let length = bytes.end - bytes.start;
        let (missing, remote) = waiter.missed_bytes();
        // Asked for anew where what was held turned out to be wrong: counted twice then, and once is the most.
        let missing = missing.min(length);
        let mirror_bytes = remote.min(missing);
        SlowRead {
            path: file.path.clone(),
            inode: file.inode,
            bytes,
            began,
            equipped: waiter.equipped(),
            ended,
            memory_bytes: length - missing,
            disk_bytes: missing - mirror_bytes,
            mirror_bytes,
            trouble,
            waits: file.waits.concerning(waiter.pages, began),
        }
    }
}

impl Engine {
    /// Reads that take longer than this are told from now on. Once for each engine: none to who comes second.
    pub fn watch_slow_reads(&self, longer_than: Duration) -> Option<mpsc::Receiver<SlowRead>> {
        let (queue, slow_reads) = mpsc::channel(QUEUED_MAX);
        let metrics = self.plane.metrics.clone();
        self.plane.slow_reads.set(Arc::new(SlowReads { longer_than, metrics, queue })).ok()?;
        Some(slow_reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(pages: Pages) -> Arc<Wait> {
        Arc::new(Wait::new(Bringer::Disk, pages))
    }

    #[test]
    fn a_read_takes_along_what_touches_its_pages_and_its_time() {
        let waits = Waits::default();
        let [early, elsewhere, here] = [Pages::new(0, 4), Pages::new(8, 9), Pages::new(3, 5)].map(disk);
        early.ended(Outcome::Done);
        let began = now() + Duration::from_nanos(1);
        for wait in [&early, &elsewhere, &here] {
            waits.add(wait.clone());
        }
        let found = waits.concerning(Pages::new(0, 5), began);
        assert!(found.len() == 1 && Arc::ptr_eq(&found[0], &here));
        here.ended(Outcome::Cancelled);
        here.ended(Outcome::Done);
        assert_eq!(found[0].end().map(|(_, outcome)| outcome), Some(Outcome::Cancelled), "the first word counts");
    }

    #[test]
    fn the_last_waits_of_a_file_are_kept_and_no_more() {
        let waits = Waits::default();
        (0..KEPT_MAX as u64 + 5).for_each(|page| waits.add(disk(Pages::new(page, page + 1))));
        let found = waits.concerning(Pages::new(0, u64::MAX), Time(0));
        assert_eq!((found.len(), found[0].pages.start), (KEPT_MAX, 5));
    }
}
