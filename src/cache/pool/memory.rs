//! The one mapping, and the only unsafe code of the crate: who may read and write which page of it.
//!
//! Soundness rests on this file alone; the rest of the pool cannot break it:
//!
//! 1. Each page of the mapping belongs to at most one living [`Stretch`]: its bit in
//!    `Memory::taken` goes from 0 to 1 when the stretch is made, and back when it is dropped.
//! 2. Each page of a stretch has a *claimed* bit. Whoever turns it from 0 to 1 gets a [`Claim`],
//!    and a claim is the only way to a `&mut` of its bytes. It goes back to 0 only when the claim
//!    is dropped unpublished, so no two claims hold one page.
//! 3. Each page has a *held* bit, set by publishing a claim, which ends the claim and leaves the
//!    claimed bit set. So a held page is never written again, and bytes are only read where held.
//!
//! Ordering: a writer sets *held* with Release after its last write and readers load it with
//! Acquire, so who sees the bit sees the bytes. Claims are given up with Release and made with
//! Acquire, so a second writer's bytes come after the first one's. The same holds for *taken*:
//! the drop of a stretch happens after every use of it (it lives in an `Arc`), and its bits are
//! cleared with Release and taken with Acquire.
#![allow(unsafe_code, reason = "shared memory that several fetches fill at once, handed to the kernel without a copy")]

use super::mask::{MASK_PAGES, MASK_WORDS, Mask};
use crate::chunk::PAGE_BYTES;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: usize = PAGE_BYTES as usize;
/// Bytes of an extent.
pub(super) const EXTENT_BYTES: u64 = PAGE_BYTES * MASK_PAGES as u64;
/// The mapping starts at a multiple of this: a huge page.
const ALIGN_BYTES: usize = 2 << 20;

#[derive(Default)]
struct AtomicMask([AtomicU64; MASK_WORDS]);

impl AtomicMask {
    fn load(&self, order: Ordering) -> Mask {
        Mask(std::array::from_fn(|word| self.0[word].load(order)))
    }

    fn clear(&self, first: usize, count: usize) {
        for (at, word) in self.0.iter().enumerate() {
            let bits = Mask::word_of(first, count, at);
            if bits != 0 {
                word.fetch_and(!bits, Ordering::Release);
            }
        }
    }

    fn set(&self, first: usize, count: usize) {
        for (at, word) in self.0.iter().enumerate() {
            let bits = Mask::word_of(first, count, at);
            if bits != 0 {
                word.fetch_or(bits, Ordering::Release);
            }
        }
    }

    /// Sets one bit; true where this call set it.
    fn win(&self, at: usize) -> bool {
        let bit = 1 << (at % 64);
        // The load keeps losers from pulling the line away from the winner.
        self.0[at / 64].load(Ordering::Relaxed) & bit == 0
            && self.0[at / 64].fetch_or(bit, Ordering::Acquire) & bit == 0
    }

    /// Sets all of `first..first + count`, or nothing where one of them is set.
    fn win_all(&self, first: usize, count: usize) -> bool {
        let won = (first..first + count).take_while(|&at| self.win(at)).count();
        if won < count {
            self.clear(first, won);
        }
        won == count
    }
}

/// One anonymous mapping of whole extents, on huge pages where the kernel gives them. Nothing of
/// it is resident before it is written to.
pub(super) struct Memory {
    base: NonNull<u8>,
    taken: Box<[AtomicMask]>,
}

// SAFETY: `base` is only followed through stretches and claims, whose rules (see above) hold
// across threads; `taken` is atomic.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `extents` extents. Errors: the kernel's, where the address space is limited.
    pub(super) fn map(extents: usize) -> io::Result<Arc<Memory>> {
        let base = mapping::map(extents * EXTENT_BYTES as usize)?;
        Ok(Arc::new(Memory { base, taken: (0..extents).map(|_| AtomicMask::default()).collect() }))
    }

    /// How many extents there are.
    pub(super) fn extents(&self) -> usize {
        self.taken.len()
    }

    /// Which pages of an extent belong to a stretch.
    pub(super) fn taken(&self, extent: usize) -> Mask {
        self.taken[extent].load(Ordering::Relaxed)
    }

    /// The pages `first..first + count` of an extent, for whoever `owner` is; None where one of them is taken.
    pub(super) fn take<T>(self: &Arc<Self>, extent: usize, first: usize, count: usize, owner: T) -> Option<Stretch<T>> {
        assert!(count > 0 && first + count <= MASK_PAGES, "{first} + {count} pages do not lie in one extent");
        if !self.taken[extent].win_all(first, count) {
            return None;
        }
        let (held, claimed) = (AtomicMask::default(), AtomicMask::default());
        Some(Stretch { memory: self.clone(), extent, first, count, held, claimed, owner })
    }

    /// Lets the kernel put memory behind `count` extents now, rather than when they are first written to. No byte changes.
    pub(super) fn touch(&self, first: usize, count: usize) {
        assert!(first + count <= self.taken.len(), "{first} + {count} extents do not lie in the mapping");
        let extent_bytes = EXTENT_BYTES as usize;
        // SAFETY: the range lies in the mapping, as was just checked.
        unsafe { mapping::touch(self.base.add(first * extent_bytes), count * extent_bytes) };
    }

    /// Gives the memory of `count` extents back to the machine; false where some of it is taken.
    pub(super) fn discard(&self, first: usize, count: usize) -> bool {
        let all = &self.taken[first..first + count];
        let won = all.iter().take_while(|extent| extent.win_all(0, MASK_PAGES)).count();
        if won == count {
            let extent_bytes = EXTENT_BYTES as usize;
            // SAFETY: the range lies in the mapping, since `first..first + count` indexed `taken`.
            // All its pages were free and are taken by us now, so nobody has a reference into it.
            unsafe { mapping::discard(self.base.add(first * extent_bytes), count * extent_bytes) };
        }
        all[..won].iter().for_each(|extent| extent.clear(0, MASK_PAGES));
        won == count
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and of this length. Every stretch keeps an `Arc` of this
        // memory and every claim one of its stretch, so no reference into it is left.
        unsafe { mapping::unmap(self.base, self.taken.len() * EXTENT_BYTES as usize) };
    }
}

/// Neighbouring pages of one extent, and which of them are held. Pages are named by their place in
/// the stretch, from 0. It derefs to its owner.
pub struct Stretch<T> {
    memory: Arc<Memory>,
    extent: usize,
    first: usize,
    count: usize,
    held: AtomicMask,
    claimed: AtomicMask,
    // Dropped after `Drop::drop` of the stretch has freed the pages: an owner may count on that.
    owner: T,
}

impl<T> Stretch<T> {
    /// The owner, where nobody else has this stretch any more.
    pub(super) fn owner_mut(&mut self) -> &mut T {
        &mut self.owner
    }

    /// Which of its pages are held.
    pub(super) fn held_mask(&self) -> Mask {
        self.held.load(Ordering::Acquire)
    }

    /// The bytes of `count` pages; None where one of them is not held.
    pub(super) fn bytes(&self, first: usize, count: usize) -> Option<&[u8]> {
        if first + count > self.count || !self.held_mask().covers(Mask::range(first, count)) {
            return None;
        }
        // SAFETY: the pages lie in the mapping, belong to this stretch while it lives (rule 1) and
        // are held, hence never written again (rule 3); the Acquire load above saw their bytes.
        Some(unsafe { std::slice::from_raw_parts(self.at(first), count * PAGE) })
    }

    /// The right to write page `first` and as many of the pages behind it as nobody has claimed, at
    /// most `count` in all; None where `first` itself is claimed or held.
    pub(super) fn claim(self: &Arc<Self>, first: usize, count: usize) -> Option<Claim<T>> {
        let end = (first + count).min(self.count);
        let won = (first..end).take_while(|&at| self.claimed.win(at)).count();
        (won > 0).then(|| Claim { stretch: self.clone(), first, count: won })
    }

    fn at(&self, page: usize) -> *mut u8 {
        let page = self.extent * MASK_PAGES + self.first + page;
        // SAFETY: callers stay within the stretch, and `take` checked that it lies in the mapping.
        unsafe { self.memory.base.as_ptr().add(page * PAGE) }
    }
}

impl<T> Deref for Stretch<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.owner
    }
}

impl<T> Drop for Stretch<T> {
    fn drop(&mut self) {
        self.memory.taken[self.extent].clear(self.first, self.count);
    }
}

/// The sole right to write some pages of a stretch. Dropped unpublished, it gives that right back.
pub(super) struct Claim<T> {
    stretch: Arc<Stretch<T>>,
    first: usize,
    count: usize,
}

impl<T> Claim<T> {
    /// How many pages it has.
    pub(super) fn len_pages(&self) -> usize {
        self.count
    }

    /// Their bytes: whatever was there before, until written.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the pages lie in the stretch. We won their claimed bits, so no other claim has
        // them (rule 2), and they are not held, so nobody reads them (rule 3). `&mut self` keeps
        // this to one reference at a time. Anonymous memory is initialised.
        unsafe { std::slice::from_raw_parts_mut(self.stretch.at(self.first), self.count * PAGE) }
    }

    /// Makes the first `count` pages held, for good. The rest is given back.
    pub(super) fn publish(mut self, count: usize) {
        let count = count.min(self.count);
        self.stretch.held.set(self.first, count);
        // What is held stays claimed: only the rest is cleared by the drop.
        self.first += count;
        self.count -= count;
    }
}

impl<T> Drop for Claim<T> {
    fn drop(&mut self) {
        self.stretch.claimed.clear(self.first, self.count);
    }
}

#[cfg(not(miri))]
mod mapping {
    use super::{ALIGN_BYTES, NonNull, io};
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    pub(super) fn map(length: usize) -> io::Result<NonNull<u8>> {
        let wide = length + ALIGN_BYTES;
        // SAFETY: a fresh private mapping at a place of the kernel's choice touches nothing of ours.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                wide,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?
        .cast::<u8>();
        let head = start.align_offset(ALIGN_BYTES);
        // SAFETY: both ends lie in the mapping that was just made and nothing points into them;
        // `head < ALIGN_BYTES`, so the tail is not empty, and all bounds are multiples of a page.
        let base = unsafe {
            if head > 0 {
                munmap(start.cast(), head)?;
            }
            let base = start.add(head);
            munmap(base.add(length).cast(), ALIGN_BYTES - head)?;
            // Refused where the kernel has no huge pages: then small ones do, at some cost in speed.
            let _ = madvise(base.cast(), length, Advice::LinuxHugepage);
            base
        };
        Ok(NonNull::new(base).expect("the kernel maps nothing at address 0 unasked"))
    }

    /// SAFETY: `base..base + length` lies in a mapping of ours.
    pub(super) unsafe fn touch(base: NonNull<u8>, length: usize) {
        // Kernels before 5.14 refuse: then it is touched by whoever writes there first.
        // SAFETY: the caller's promise; the bytes stay what they are, so references into it do not mind.
        let _ = unsafe { madvise(base.as_ptr().cast(), length, Advice::LinuxPopulateWrite) };
    }

    /// SAFETY: `base..base + length` lies in a mapping of ours and nobody has a reference into it.
    pub(super) unsafe fn discard(base: NonNull<u8>, length: usize) {
        // A refusal leaves the memory resident, which costs nothing but that.
        // SAFETY: the caller's promise.
        let _ = unsafe { madvise(base.as_ptr().cast(), length, Advice::LinuxDontNeed) };
    }

    /// SAFETY: `base` is what [`map`] gave for this length, and nobody has a reference into it.
    pub(super) unsafe fn unmap(base: NonNull<u8>, length: usize) {
        // SAFETY: the caller's promise.
        let _ = unsafe { munmap(base.as_ptr().cast(), length) };
    }
}

/// Miri knows no mappings; the rules above are the same on the heap.
#[cfg(miri)]
mod mapping {
    use super::{ALIGN_BYTES, NonNull, io};
    use std::alloc::Layout;

    fn layout(length: usize) -> Layout {
        Layout::from_size_align(length, ALIGN_BYTES).expect("a power of two")
    }

    pub(super) fn map(length: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: the length is not zero.
        NonNull::new(unsafe { std::alloc::alloc_zeroed(layout(length)) }).ok_or(io::ErrorKind::OutOfMemory.into())
    }

    pub(super) unsafe fn touch(_base: NonNull<u8>, _length: usize) {}

    pub(super) unsafe fn discard(base: NonNull<u8>, length: usize) {
        // SAFETY: the caller's promise.
        unsafe { base.as_ptr().write_bytes(0, length) };
    }

    pub(super) unsafe fn unmap(base: NonNull<u8>, length: usize) {
        // SAFETY: the caller's promise.
        unsafe { std::alloc::dealloc(base.as_ptr(), layout(length)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_one_owner_one_writer_and_then_only_readers() {
        let memory = Memory::map(4).unwrap();
        let stretch = Arc::new(memory.take(1, 10, 20, ()).unwrap());
        assert!(memory.take(1, 29, 1, ()).is_none());
        assert!(memory.take(1, 0, 11, ()).is_none(), "overlaps by one page");
        let neighbour = memory.take(1, 0, 10, ()).expect("a failed take leaves no bits behind");

        let mut claim = stretch.claim(0, 3).unwrap();
        assert!(stretch.claim(2, 1).is_none());
        let later = stretch.claim(3, 100).unwrap();
        assert_eq!(later.len_pages(), 17);
        drop(later);
        claim.bytes_mut().fill(7);
        assert!(stretch.bytes(0, 1).is_none(), "claimed is not held");
        claim.publish(2);
        assert_eq!(stretch.bytes(0, 2).unwrap(), [7; 8192]);
        assert!(stretch.bytes(0, 3).is_none());
        assert!(stretch.claim(1, 1).is_none(), "held is for good");
        assert_eq!(stretch.claim(2, 1).unwrap().len_pages(), 1);

        assert!(!memory.discard(0, 2));
        drop((stretch, neighbour));
        assert!(memory.discard(0, 2));
        assert!(memory.taken(1).is_empty());
    }

    /// Which pages of the mapping have memory behind them, by the kernel's table of them.
    #[cfg(not(miri))]
    fn present(memory: &Memory) -> Vec<bool> {
        use std::os::unix::fs::FileExt;
        let pages = memory.extents() * MASK_PAGES;
        let mut entries = vec![0; pages * 8];
        let first = memory.base.addr().get() / PAGE;
        std::fs::File::open("/proc/self/pagemap").unwrap().read_exact_at(&mut entries, first as u64 * 8).unwrap();
        entries.chunks(8).map(|entry| entry[7] & 0x80 != 0).collect()
    }

    #[cfg(not(miri))]
    #[test]
    fn what_is_touched_has_memory_and_its_bytes_stay() {
        let memory = Memory::map(6).unwrap();
        let stretch = Arc::new(memory.take(2, 3, 1, ()).unwrap());
        stretch.claim(0, 1).unwrap().bytes_mut().fill(5);
        memory.touch(2, 4);
        let there = present(&memory);
        assert!(there[2 * MASK_PAGES..].iter().all(|&page| page));
        assert!(!there[..2 * MASK_PAGES].iter().any(|&page| page));
        assert!(stretch.claim(0, 1).unwrap().bytes_mut().iter().all(|&byte| byte == 5));
    }

    #[test]
    fn what_was_given_back_is_zero_again() {
        let memory = Memory::map(2).unwrap();
        let stretch = Arc::new(memory.take(0, 0, 256, ()).unwrap());
        stretch.claim(0, 256).unwrap().bytes_mut().fill(9);
        drop(stretch);
        assert!(memory.discard(0, 2));
        let stretch = Arc::new(memory.take(0, 0, 256, ()).unwrap());
        let mut claim = stretch.claim(0, 256).unwrap();
        assert!(claim.bytes_mut().iter().all(|&byte| byte == 0));
    }

    #[test]
    fn one_of_many_threads_wins_each_page() {
        let memory = Memory::map(1).unwrap();
        let stretch = Arc::new(memory.take(0, 0, 64, ()).unwrap());
        let write = |id: u8| {
            (0..64)
                .filter_map(|at| stretch.claim(at, 1))
                .map(|mut claim| {
                    claim.bytes_mut().fill(id);
                    claim.publish(1);
                })
                .count()
        };
        let won: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=3).map(|id| scope.spawn(move || write(id))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(won, 64);
        for at in 0..64 {
            let bytes = stretch.bytes(at, 1).unwrap();
            assert!((1..=3).contains(&bytes[0]) && bytes.iter().all(|&byte| byte == bytes[0]));
        }
    }
}
