//! Memory for all pages of a read or a fetch at once, or nothing.

use super::memory::EXTENT_BYTES;
use super::run::{EXTENT_PAGES, Run};
use super::victims::{Evictor, Victims, Want};
use super::{Inner, PoolFull, Reservation};
use crate::chunk::{Class, Inode, PAGE_BYTES, Pages};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::mask::Mask;
use super::reservation::Ties;

/// A stream gets the whole extent of a group when it wants so many of its 256 pages at once.
/// Fewer would pin four times their memory where the stream ends; more would cut the first reads
/// of each stream (256 KiB is a usual first window) into slots, and those are read by copying.
const STREAM_PAGES_MIN: u64 = 64;
/// A stretch of more slots than this is made room for by emptying extents. Up to it, evicting the
/// coldest runs one by one soon leaves a gap of this length, and keeps the warm ones.
const SHORT_PAGES_MAX: u64 = 16;
/// Runs evicted for one short stretch, for each of its pages, before it is put into several gaps.
const EVICTIONS_PER_PAGE: u64 = 4;
/// Of what nobody has read yet, background work may own so many quarters of the pool: the last
/// one is free or has been read, so that demand never has to throw readahead away to begin with.
const BACKGROUND_QUARTERS: u64 = 3;
/// After background work was refused, only free memory is promised to it until this part of the
/// pool was handed out: what may be evicted for it has to be looked for, and was just not found.
const BALK_PARTS: u64 = 16;

/// With this part of the pool in use, what readers have been past goes before more of it is touched: the kernel's cache has it
/// too, and clearing memory takes longer than filling it (measured, four streams: 1,330 MB/s at a quarter, 1,570 at an eighth) …
const GROWTH_PARTS: usize = 8;
/// … if it is among the oldest so many: those before it may be on their way to the disk cache.
const REUSE_TRIES: usize = 8;

/// Pages of one group that have no memory.
struct Gap {
    group: u64,
    /// By their place in the group.
    uncovered: Mask,
    /// They are to get a whole extent.
    whole: bool,
}

/// What one attempt works with, under the lock of the reserving side.
struct Attempt<'a> {
    pool: &'a Arc<Inner>,
    evictor: &'a Evictor<'a>,
    victims: &'a mut Victims,
    file: Inode,
    class: Class,
}

impl Inner {
    pub(super) fn reserve(
        self: &Arc<Self>,
        file: Inode,
        pages: Pages,
        class: Class,
        stream: bool,
    ) -> Result<Reservation, PoolFull> {
        self.attempt(file, pages, class, stream).or_else(|_| {
            // Whoever frees something from here on says so. What was freed before that and after
            // the first look is found by the second.
            self.arena.starve();
            let full = self.attempt(file, pages, class, stream);
            if full.is_err() && class != Class::Demand {
                self.balked.store(self.arena.age_bytes(), Ordering::Relaxed);
            }
            full
        })
    }

    /// See [`super::Pool::available_bytes`].
    pub(super) fn available_bytes(&self, class: Class) -> u64 {
        let arena = &self.arena;
        let (allowed, reserved) = (arena.allowed_bytes(), arena.reserved_bytes.load(Ordering::SeqCst));
        let for_demand = allowed.saturating_sub(reserved);
        if class == Class::Demand {
            return for_demand;
        }
        let idle_unread = arena.idle_unread_bytes.load(Ordering::SeqCst);
        let available = self.background_share_bytes().min(for_demand.saturating_sub(idle_unread));
        let since = arena.age_bytes().checked_sub(self.balked.load(Ordering::Relaxed));
        match since.is_some_and(|since| since < arena.limit_bytes() / BALK_PARTS) {
            true => available.min(allowed.saturating_sub(arena.owned_bytes())),
            false => available,
        }
    }

    /// How much more background work may own without anybody having read it.
    fn background_share_bytes(&self) -> u64 {
        let unread = self.arena.unread_bytes.load(Ordering::SeqCst);
        (self.arena.allowed_bytes() / 4 * BACKGROUND_QUARTERS).saturating_sub(unread)
    }

    fn attempt(
        self: &Arc<Self>,
        file: Inode,
        pages: Pages,
        class: Class,
        stream: bool,
    ) -> Result<Reservation, PoolFull> {
        let mut victims = self.victims.lock();
        let evictor = self.evictor();
        let mut ties = Ties::new(self.clone());
        let mut attempt = Attempt { pool: self, evictor: &evictor, victims: &mut victims, file, class };
        let gaps = attempt.attach(&mut ties, pages, stream);
        let wanted_bytes: u64 = gaps.iter().map(|gap| gap.uncovered.count() as u64 * PAGE_BYTES).sum();
        let available_bytes = match class {
            Class::Demand => self.available_bytes(class),
            // What it may evict is found out by trying.
            _ => self.background_share_bytes().min(self.available_bytes(Class::Demand)),
        };
        let fits = wanted_bytes <= available_bytes && gaps.iter().all(|gap| attempt.cover(&mut ties, gap));
        let result = match fits {
            true => {
                self.arena.grow_old(wanted_bytes);
                Ok(Reservation::new(file, pages, ties))
            }
            false => {
                // Under the lock, and quietly: nobody else has missed what is given up here.
                ties.abandon();
                Err(PoolFull { wanted_bytes, available_bytes: self.available_bytes(class) })
            }
        };
        drop(victims);
        if evictor.freed.get() {
            self.arena.ring();
        }
        result
    }
}

impl Attempt<'_> {
    /// Ties the runs that have memory for some of `pages`; says what has none.
    fn attach(&mut self, ties: &mut Ties, pages: Pages, stream: bool) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for part in pages.split(EXTENT_PAGES) {
            let group = part.start / EXTENT_PAGES;
            let place = |pages: Pages| Mask::range((pages.start % EXTENT_PAGES) as usize, pages.count() as usize);
            let mut uncovered = place(part);
            let movable = self.pool.index.locked(self.file, group, |runs| {
                let movable = runs.iter().all(|run| run.reservations() == 0);
                for run in runs {
                    let common = run.pages().intersect(part);
                    if !common.is_empty() {
                        uncovered = uncovered.without(place(common));
                        ties.add(run.clone());
                    }
                }
                movable
            });
            if !uncovered.is_empty() {
                let whole = stream && movable && part.count() >= STREAM_PAGES_MIN;
                gaps.push(Gap { group, uncovered, whole });
            }
        }
        if self.class == Class::Demand {
            ties.runs().iter().for_each(|run| run.touch());
        }
        gaps
    }

    /// Finds memory for a gap; false where there is not enough.
    fn cover(&mut self, ties: &mut Ties, gap: &Gap) -> bool {
        let (file, arena) = (self.file, &self.pool.arena);
        if gap.whole
            && let Some(run) = self.find(EXTENT_BYTES, Want::Extent, u64::MAX, || arena.take_extent(file, gap.group))
        {
            self.absorb(ties, run);
            return true;
        }
        let start = gap.group * EXTENT_PAGES;
        let mut stretches = gap.uncovered.runs().map(|(first, count)| (start + first as u64, count as u64));
        stretches.all(|(first, count)| self.cover_slots(ties, Pages::new(first, first + count)))
    }

    fn cover_slots(&mut self, ties: &mut Ties, mut pages: Pages) -> bool {
        let (file, arena) = (self.file, &self.pool.arena);
        let (want, evictions_max) = match pages.count() <= SHORT_PAGES_MAX {
            true => (Want::Slots, pages.count() * EVICTIONS_PER_PAGE),
            false => (Want::Extent, u64::MAX),
        };
        let bytes = pages.count() * PAGE_BYTES;
        if let Some(run) = self.find(bytes, want, evictions_max, || arena.take_slots(file, pages)) {
            self.adopt(ties, run);
            return true;
        }
        // No neighbours to be had: several gaps do, at the price of a copy by the reader.
        while !pages.is_empty() {
            let bytes = pages.count() * PAGE_BYTES;
            let Some(run) = self.find(bytes, Want::Slots, u64::MAX, || arena.take_some_slots(file, pages)) else {
                return false;
            };
            pages.start = run.pages().end;
            self.adopt(ties, run);
        }
        true
    }

    /// Takes memory, evicting where there is none.
    fn find(
        &mut self,
        bytes: u64,
        want: Want,
        evictions_max: u64,
        take: impl Fn() -> Option<Arc<Run>>,
    ) -> Option<Arc<Run>> {
        if self.class != Class::Demand && self.pool.background_share_bytes() < bytes {
            return None;
        }
        if want == Want::Extent && self.pool.arena.would_grow(GROWTH_PARTS) {
            self.evictor.evict_consumed(REUSE_TRIES);
        }
        let mut evictions = 0;
        loop {
            if let Some(run) = take() {
                return Some(run);
            }
            if evictions == evictions_max || !self.evictor.evict_one(self.victims, want, self.class) {
                return None;
            }
            evictions += 1;
        }
    }

    fn adopt(&self, ties: &mut Ties, run: Arc<Run>) {
        self.tie_new(ties, &run);
        self.pool.index.insert(&run);
    }

    /// Puts the new extent `run` in the place of whatever slots its group has, with the bytes that
    /// are held in them: so each page keeps one home. Nobody else has reserved them, so nobody
    /// writes to them; who has them pinned keeps the old ones until then.
    fn absorb(&self, ties: &mut Ties, run: Arc<Run>) {
        self.tie_new(ties, &run);
        let group = run.pages().start / EXTENT_PAGES;
        let old = self.pool.index.locked(self.file, group, |runs| runs.to_vec());
        for (old, (first, count)) in old.iter().flat_map(|old| old.held_mask().runs().map(move |held| (old, held))) {
            let place = run.place(old.pages().start + first as u64);
            if let (Some(from), Some(mut into)) = (old.bytes(first, count), run.claim(place, count)) {
                into.bytes_mut().copy_from_slice(from);
                into.publish(count);
            }
        }
        old.into_iter().for_each(|run| self.evictor.let_go(run));
        for old in self.pool.index.replace(&run) {
            ties.remove(&old);
            self.evictor.let_go(old);
        }
    }

    /// Before anybody else can see it: so nobody takes it away.
    fn tie_new(&self, ties: &mut Ties, run: &Arc<Run>) {
        ties.add(run.clone());
        if self.class != Class::Demand {
            run.mark_unread();
        }
    }
}
