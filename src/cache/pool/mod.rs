//! The bounded page memory: where bytes are between their arrival and their reader.
//!
//! One mapping of `limit` bytes is made once and reused. It is handed out in *extents* of 1 MiB:
//! whole, to 256 neighbouring pages of a file that is read in order, or cut into slots of one page
//! for lone pages and short runs. A *run* is a stretch of such memory with neighbouring pages of
//! one file; each page of a file has at most one run in the index.
//!
//! | file | what it holds |
//! |---|---|
//! | `memory` | the mapping; who may read and write which page of it (the only unsafe code) |
//! | `mask` | 256 bits and their gaps |
//! | `arena` | the ledger of extents and slots; giving memory back to the machine |
//! | `ahead` | the thread that touches memory before it is needed |
//! | `run` | a run, its pins and reservations; pinned bytes |
//! | `tied` | the word that pins, reservations and evictions agree by |
//! | `index` | which run has which page |
//! | `reserve` | memory for all pages of a read at once, or nothing |
//! | `victims` `consumed` | who has to go for it |
//! | `reservation` `filler` | waiting for bytes; writing them |
//!
//! Locks, in this order: the reserving side's, one shard of the index, the ledger or a queue. Only
//! who reserves, evicts or forgets takes any: a read of held pages takes none, neither to find and pin
//! them, nor to say that it has been past them, nor where it is the last to let go of them. Nothing is
//! copied under a lock, and fetches write to memory under none.
//!
//! Invariant: what runs own is at most the limit at every instant, since they own nothing but
//! pages of the one mapping, each by one run, and whole extents are counted before they are used.

mod ahead;
mod arena;
mod consumed;
mod filler;
mod index;
mod mask;
mod memory;
mod reservation;
mod reserve;
mod run;
#[cfg(test)]
mod tests;
mod tied;
mod victims;

/// What [`tied`] is made of; in the model, loom's.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

pub use filler::Filler;
pub use reservation::Reservation;
pub use run::{EXTENT_PAGES, Pinned};

use crate::chunk::{Class, Inode, PAGE_BYTES, Pages};
use crate::clock::Time;
use crate::metrics::Metrics;
use arena::Arena;
use consumed::Consumed;
use index::Index;
use memory::EXTENT_BYTES;
use parking_lot::Mutex;
use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use victims::{Evictor, Victims, Want};

/// The least memory that a pool works with, in bytes: a reader's largest request is 1 MiB and may
/// touch two extents, and background work and a second reader must fit beside it.
pub const LIMIT_BYTES_MIN: u64 = 4 * EXTENT_BYTES;

/// There is no memory for these pages now. Wait for the hook of [`Pool::on_freed`] and try again;
/// more than [`Pool::limit_bytes`] never fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no memory for {wanted_bytes} bytes: {available_bytes} can be had now; wait for some to be freed")]
pub struct PoolFull {
    /// Bytes of memory that the wanted pages lack.
    pub wanted_bytes: u64,
    /// See [`Pool::available_bytes`].
    pub available_bytes: u64,
}

/// The bounded page memory of a mount. Clones are the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    arena: Arc<Arena>,
    index: Index,
    victims: Mutex<Victims>,
    consumed: Consumed,
    dropped: Mutex<Vec<(Inode, Pages)>>,
    /// The age clock when background work was last refused.
    balked: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Inner {
    fn evictor(&self) -> Evictor<'_> {
        let Inner { arena, index, consumed, dropped, metrics, .. } = self;
        Evictor { arena, index, consumed, dropped, metrics, freed: Cell::new(false) }
    }
}

impl Pool {
    /// Maps `limit_bytes`, rounded down to 1 MiB. Nothing is resident before it is used.
    ///
    /// Errors: less than [`LIMIT_BYTES_MIN`]; the kernel's, where the address space is limited.
    pub fn new(limit_bytes: u64, metrics: Arc<Metrics>) -> io::Result<Pool> {
        if limit_bytes < LIMIT_BYTES_MIN {
            let text = format!("a memory limit of {limit_bytes} bytes is too small: give at least {LIMIT_BYTES_MIN}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let arena = Arc::new(Arena::new((limit_bytes / EXTENT_BYTES) as usize)?);
        let (victims, dropped) = Default::default();
        let (index, consumed, balked) = (Index::new(arena.extents()), Consumed::new(), AtomicU64::new(u64::MAX));
        Ok(Pool(Arc::new(Inner { arena, index, victims, consumed, dropped, balked, metrics })))
    }

    /// The most bytes that it ever owns.
    pub fn limit_bytes(&self) -> u64 {
        self.0.arena.limit_bytes()
    }

    /// Bytes of extents and slots that are held, reserved or pinned.
    pub fn used_bytes(&self) -> u64 {
        self.0.arena.owned_bytes()
    }

    /// Bytes of the machine's memory that it occupies, free ones that are kept for reuse included.
    pub fn resident_bytes(&self) -> u64 {
        self.0.arena.resident_bytes()
    }

    /// The bytes of `pages`, where all are held in one run: the fast path of a read. No allocation.
    /// A run never crosses a multiple of [`EXTENT_PAGES`].
    pub fn pinned(&self, file: Inode, pages: Pages) -> Option<Pinned> {
        self.0.index.pin_prefix(file, pages).filter(|pinned| pinned.pages() == pages)
    }

    /// The longest front of `pages` that is held by neighbours in memory; `None` where the first is not held.
    pub fn pinned_front(&self, file: Inode, pages: Pages) -> Option<Pinned> {
        self.0.index.pin_prefix(file, pages)
    }

    /// Copies `pages` into `into`, where all are held, in however many runs; false where not, and
    /// then what is in `into` is of no use. `into` may end anywhere in the last page.
    pub fn copy(&self, file: Inode, pages: Pages, into: &mut [u8]) -> bool {
        copy_by(pages, into, |rest| self.0.index.pin_prefix(file, rest))
    }

    /// Which of `pages` are not held, in order, neighbours joined. No allocation where none is missing.
    pub fn missing(&self, file: Inode, pages: Pages) -> Vec<Pages> {
        let mut missing: Vec<Pages> = Vec::new();
        for part in pages.split(EXTENT_PAGES) {
            let first = part.start / EXTENT_PAGES * EXTENT_PAGES;
            let held =
                self.0.index.runs(file, part.start / EXTENT_PAGES).iter().fold(mask::Mask::default(), |held, run| {
                    let by = (run.pages().start - first) as usize;
                    run.held_mask().runs().fold(held, |held, (at, count)| held.with(mask::Mask::range(by + at, count)))
                });
            let wanted = mask::Mask::range((part.start - first) as usize, part.count() as usize);
            for (at, count) in wanted.without(held).runs() {
                let (start, end) = (first + at as u64, first + (at + count) as u64);
                match missing.last_mut() {
                    Some(last) if last.end == start => last.end = end,
                    _ => missing.push(Pages::new(start, end)),
                }
            }
        }
        missing
    }

    /// Memory for all of `pages` at once, or nothing. Pages that are held, or reserved by another,
    /// are shared. `stream`: the file is read in order; groups of which much is wanted get whole
    /// extents, so that a large read is one run of memory.
    ///
    /// Demand evicts anything that is neither pinned nor reserved. Readahead and prefetch evict only
    /// what has been read, and own at most 3/4 of the pool in pages that nobody has read.
    ///
    /// Errors: [`PoolFull`]. Then the hook of [`Pool::on_freed`] is called once when something was freed.
    pub fn reserve(&self, file: Inode, pages: Pages, class: Class, stream: bool) -> Result<Reservation, PoolFull> {
        self.0.reserve(file, pages, class, stream)
    }

    /// Bytes that a reservation of this class could get now: free, or to be evicted for it. An
    /// upper estimate: what replies have pinned for a moment is not taken off.
    pub fn available_bytes(&self, class: Class) -> u64 {
        self.0.available_bytes(class)
    }

    /// Every file that it holds something of.
    pub fn files(&self) -> Vec<Inode> {
        self.0.index.files()
    }

    /// Which of `pages` are held, in order, neighbours joined. Takes as long as there is much of the file in memory,
    /// however large it is.
    pub fn held(&self, file: Inode, pages: Pages) -> Vec<Pages> {
        let mut held = Vec::new();
        for run in self.0.index.runs_of(file, pages) {
            let first = run.pages().start;
            let parts = run.held_mask().runs().map(|(at, count)| (first + at as u64, first + (at + count) as u64));
            held.extend(parts.map(|(start, end)| Pages::new(start, end).intersect(pages)));
        }
        held.retain(|part| !part.is_empty());
        held.sort_unstable();
        held.dedup_by(|later, earlier| {
            let touches = later.start <= earlier.end;
            if touches {
                earlier.end = earlier.end.max(later.end);
            }
            touches
        });
        held
    }

    /// Lets go of `pages`: of every run that lies within them and that nobody has pinned or
    /// reserved. They are reported as dropped.
    pub fn evict(&self, file: Inode, pages: Pages) {
        let evictor = self.0.evictor();
        for run in self.0.index.runs_of(file, pages) {
            let held = run.held_mask();
            if run.places(pages).covers(held) {
                evictor.evict(&run);
            }
        }
    }

    /// Forgets a file: nobody will ask for it any more. What is pinned or reserved of it stays in
    /// memory until it is let go of, but cannot be found. Nothing is reported as dropped.
    pub fn forget_file(&self, file: Inode) {
        for run in self.0.index.runs_of(file, Pages::new(0, u64::MAX)) {
            self.0.index.remove_if(&run, |_| true);
        }
    }

    /// Appends the pages that were evicted since the last call. To be drained at every turn of the
    /// owner: an eviction adds at most as many entries as it dropped runs of held pages.
    pub fn take_dropped(&self, into: &mut Vec<(Inode, Pages)>) {
        into.append(&mut self.0.dropped.lock());
    }

    /// Calls `hook` when memory may have become available after a reservation failed, once for
    /// any number of failed ones, from whichever thread freed it and outside all locks. It should
    /// only wake somebody. To be set once; later calls change nothing and answer false.
    pub fn on_freed(&self, hook: Box<dyn Fn() + Send + Sync>) -> bool {
        self.0.arena.on_freed(hook)
    }

    /// A reader has been past `pages`, or nobody needs them in memory any more: a run whose held
    /// pages all are so is the first to be evicted.
    pub fn mark_consumed(&self, file: Inode, pages: Pages) {
        for part in pages.split(EXTENT_PAGES) {
            let found = self.0.index.runs(file, part.start / EXTENT_PAGES);
            let touching = found.iter().filter(|run| !run.pages().intersect(part).is_empty());
            let any = touching.fold(false, |any, run| {
                run.touch();
                let consumed = run.consume(part);
                if consumed {
                    self.0.consumed.push(run);
                }
                any | consumed
            });
            if any {
                self.0.balked.store(u64::MAX, Ordering::Relaxed);
                self.0.arena.ring();
            }
        }
    }

    /// So many bytes are used elsewhere and count in the limit: the pool owns at most what is left,
    /// but may always own [`LIMIT_BYTES_MIN`]. Evicts at once; what is pinned or reserved goes when it is let go of.
    pub fn set_external_bytes(&self, bytes: u64) {
        let left = self.limit_bytes().saturating_sub(bytes).max(LIMIT_BYTES_MIN);
        self.shrink_to(left);
        self.0.arena.ring();
    }

    /// Gives memory that nobody used for some seconds back to the machine, in units of 2 MiB, and
    /// lets what is held grow old by the time that has passed. To be called about once a second.
    pub fn give_back(&self, now: Time) {
        self.0.arena.give_back(now);
        self.0.consumed.settle();
        self.0.evictor().expire_unread();
        self.shrink_to(self.0.arena.allowed_bytes());
    }

    /// Every lock of the pool, held. For tests of those who need none.
    #[cfg(test)]
    pub(crate) fn hold_locks(&self) -> impl Sized {
        let inner = &*self.0;
        let index = inner.index.hold_locks();
        (inner.victims.lock(), index, inner.arena.hold_lock(), inner.consumed.hold_lock(), inner.dropped.lock())
    }

    fn shrink_to(&self, bytes: u64) {
        let mut victims = self.0.victims.lock();
        let evictor = self.0.evictor();
        let extents = (bytes / EXTENT_BYTES) as usize;
        while !self.0.arena.allow(extents) && evictor.evict_one(&mut victims, Want::Extent, Class::Demand) {}
        drop(victims);
        self.0.arena.shrink();
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} of {} bytes used)", self.used_bytes(), self.limit_bytes())
    }
}

/// Copies `pages` into `into`, run by run as `pin` finds them.
fn copy_by(pages: Pages, into: &mut [u8], pin: impl Fn(Pages) -> Option<Pinned>) -> bool {
    let mut at = pages.start;
    while at < pages.end {
        let Some(pinned) = pin(Pages::new(at, pages.end)) else { return false };
        let from = ((at - pages.start) * PAGE_BYTES) as usize;
        if let Some(into) = into.get_mut(from..) {
            let length = into.len().min(pinned.len());
            into[..length].copy_from_slice(&pinned[..length]);
        }
        at = pinned.pages().end;
    }
    true
}
