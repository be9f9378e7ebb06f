//! A run: neighbouring pages of one file in neighbouring memory, and what ties it there.

use super::arena::Arena;
use super::mask::{MASK_PAGES, MASK_WORDS, Mask};
use super::memory::Stretch;
use super::tied::{Change, Tied, Word};
use crate::chunk::{Inode, PAGE_BYTES, Pages};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Pages in an extent; a run never crosses a boundary of this grid in its file.
pub const EXTENT_PAGES: u64 = MASK_PAGES as u64;

/// Neighbouring pages of one file in neighbouring memory: a whole extent or some slots of one.
pub(super) type Run = Stretch<Owner>;

/// Whose bytes a stretch of memory holds, and who needs them to stay.
pub struct Owner {
    file: Inode,
    pages: Pages,
    extent: usize,
    id: u64,
    arena: Arc<Arena>,
    tied: Tied,
    /// The arena's age clock when it was last looked at.
    touched: AtomicU64,
    consumed: [AtomicU64; MASK_WORDS],
    queued: AtomicBool,
    /// Let go by whoever needs its memory at once: nobody is to be told that there is some.
    quiet: bool,
}

/// What a word of ties puts on the arena's account, in bytes of a run of `bytes`.
struct Charge {
    reserved: u64,
    unread: u64,
    idle_unread: u64,
}

impl Charge {
    fn of(ties: Word, bytes: u64) -> Charge {
        let (reserved, unread) = (ties.reservations() > 0, ties.is_unread());
        let when = |condition: bool| if condition { bytes } else { 0 };
        Charge { reserved: when(reserved), unread: when(unread), idle_unread: when(unread && !reserved) }
    }
}

impl Owner {
    pub(super) fn new(arena: Arc<Arena>, id: u64, extent: usize, file: Inode, pages: Pages) -> Owner {
        let touched = AtomicU64::new(arena.age_bytes());
        let (tied, consumed, queued) = Default::default();
        Owner { file, pages, extent, id, arena, tied, touched, consumed, queued, quiet: false }
    }

    /// Of which file.
    pub(super) fn file(&self) -> Inode {
        self.file
    }

    /// Which pages there is room for.
    pub(super) fn pages(&self) -> Pages {
        self.pages
    }

    /// How much memory it takes.
    pub(super) fn len_bytes(&self) -> u64 {
        self.pages.count() * PAGE_BYTES
    }

    /// The place of a page in it.
    pub(super) fn place(&self, page: u64) -> usize {
        (page - self.pages.start) as usize
    }

    /// The places of the pages that it has of `pages`.
    pub(super) fn places(&self, pages: Pages) -> Mask {
        let pages = self.pages.intersect(pages);
        if pages.is_empty() {
            return Mask::default();
        }
        Mask::range(self.place(pages.start), pages.count() as usize)
    }

    /// Nobody has it pinned or reserved.
    pub(super) fn is_idle(&self) -> bool {
        self.tied.get().is_idle()
    }

    /// How many reservations and fillers there are for it.
    pub(super) fn reservations(&self) -> u64 {
        self.tied.get().reservations()
    }

    /// No reader has come for it yet.
    pub(super) fn is_unread(&self) -> bool {
        self.tied.get().is_unread()
    }

    /// When it was last looked at, by the arena's age clock.
    pub(super) fn touched(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }

    /// A reader or a waiter looked at it.
    pub(super) fn touch(&self) {
        let age = self.arena.age_bytes();
        if self.touched.load(Ordering::Relaxed) != age {
            self.touched.store(age, Ordering::Relaxed);
        }
        self.clear_unread();
    }

    /// A reader came for it, or none will: it no longer counts against the share of background work.
    pub(super) fn clear_unread(&self) {
        if self.is_unread() {
            self.account(self.tied.set_unread(false));
        }
    }

    /// Made for nobody who waits: it counts against the share of background work until it is touched.
    pub(super) fn mark_unread(&self) {
        self.account(self.tied.set_unread(true));
    }

    /// One more reservation. Under the lock of its place in the index, or by who has one already.
    pub(super) fn reserve(&self) {
        self.account(self.tied.reserve());
    }

    /// One reservation less; true where it was the last.
    pub(super) fn unreserve(&self) -> bool {
        let change = self.tied.unreserve();
        self.account(change);
        change.1.reservations() == 0
    }

    /// Nobody needs it: for good. Under the lock of its place in the index. See [`Tied::retire`].
    pub(super) fn retire(&self) -> bool {
        self.tied.retire()
    }

    fn account(&self, (before, after): Change) {
        let bytes = self.len_bytes();
        let (old, new) = (Charge::of(before, bytes), Charge::of(after, bytes));
        let shift = |counter: &AtomicU64, old: u64, new: u64| {
            if old != new {
                // Wraps for a moment where two threads report out of order; their sum is right.
                counter.fetch_add(new.wrapping_sub(old), Ordering::SeqCst);
            }
        };
        shift(&self.arena.reserved_bytes, old.reserved, new.reserved);
        shift(&self.arena.unread_bytes, old.unread, new.unread);
        shift(&self.arena.idle_unread_bytes, old.idle_unread, new.idle_unread);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.account((self.tied.get(), Word::default()));
        self.arena.release(self.extent, self.id, self.pages.count() as usize);
        if !self.quiet {
            self.arena.ring();
        }
    }
}

impl Run {
    /// A reader has been past `pages`; true where it is to be queued as consumed now.
    pub(super) fn consume(&self, pages: Pages) -> bool {
        let bits = self.places(pages);
        for (word, bits) in self.consumed.iter().zip(bits.0) {
            if bits != 0 {
                word.fetch_or(bits, Ordering::Relaxed);
            }
        }
        self.is_consumed() && !self.queued.swap(true, Ordering::Relaxed)
    }

    /// Readers have been past all that it holds, and it holds something.
    pub(super) fn is_consumed(&self) -> bool {
        let held = self.held_mask();
        let consumed = Mask(std::array::from_fn(|word| self.consumed[word].load(Ordering::Relaxed)));
        !held.is_empty() && consumed.covers(held)
    }

    /// It is not in the queue of consumed runs any more.
    pub(super) fn unqueue(&self) {
        self.queued.store(false, Ordering::Relaxed);
    }

    /// Lets go of it without telling whoever waits for memory; true where that freed it.
    pub(super) fn drop_quietly(run: Arc<Run>) -> bool {
        let last = Arc::into_inner(run);
        last.is_some_and(|mut run| {
            run.owner_mut().quiet = true;
            true
        })
    }
}

/// Held bytes of neighbouring pages of one file. While it lives they stay where they are.
///
/// It derefs to the bytes of its pages, whole pages always: behind the end of the file they are
/// zero. Keep it for as long as a reply or a write takes, not longer: it cannot be evicted.
pub struct Pinned {
    run: Arc<Run>,
    first: usize,
    count: usize,
}

impl Pinned {
    /// Pins `pages`, where all of them are held in `run` and it was not evicted meanwhile. No lock.
    pub(super) fn new(run: &Arc<Run>, pages: Pages) -> Option<Pinned> {
        if !run.pages().covers(pages) || pages.is_empty() {
            return None;
        }
        let (first, count) = (run.place(pages.start), pages.count() as usize);
        if !run.held_mask().covers(Mask::range(first, count)) {
            return None;
        }
        if !run.tied.pin() {
            return None;
        }
        run.touch();
        Some(Pinned { run: run.clone(), first, count })
    }

    /// Of which file.
    pub fn file(&self) -> Inode {
        self.run.file()
    }

    /// Which pages.
    pub fn pages(&self) -> Pages {
        let start = self.run.pages().start + self.first as u64;
        Pages::new(start, start + self.count as u64)
    }
}

impl std::ops::Deref for Pinned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.run.bytes(self.first, self.count).expect("a held page stays held while its run lives")
    }
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pinned({:?} of {:?})", self.pages(), self.file())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.run.tied.unpin();
        self.run.arena.ring();
    }
}
