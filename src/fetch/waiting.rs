//! Reads that wait for pages, and who wakes them.
//!
//! Whoever publishes the last missing page of a read answers it, from its own task. A read is
//! answered exactly once: the answer is taken out of its waiter under a lock.

use crate::cache::pool::{Pinned, Pool, Reservation};
use crate::chunk::{Class, Inode, PAGE_BYTES, Pages, ReaderId};
use crate::clock::{Time, now};
use crate::fetch::error::Trouble;
use crate::fetch::handle::Place;
use crate::fetch::handoff::Handoffs;
use crate::fetch::opened::OpenFile;
use crate::fetch::slow::SlowReads;
use crate::metrics::Metrics;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A read that follows on no other takes whole extents only where it is longer than this: beside lone reads of 256 KiB most of
/// each would stay empty, and to touch a huge page for the first time takes 0.1 ms, 5 ms where a host has to find the memory.
const LONE_PAGES_MAX: u64 = 64;

/// How a read is answered.
pub type Answer = Box<dyn FnOnce(Result<&[u8], Trouble>) + Send>;

/// A read that memory could not answer at once.
pub struct Waiter {
    /// The file version that its handle is pinned to.
    pub file: Arc<OpenFile>,
    /// What it needs.
    pub pages: Pages,
    /// Who reads.
    pub reader: ReaderId,
    /// When it began.
    pub since: Time,
    /// Its reader goes through the file in order.
    pub in_order: bool,
    /// The bytes of the file that it asked for, within `pages`.
    bytes: Range<u64>,
    last_byte: AtomicU64,
    /// Of `bytes`, those that were not in memory, and of those the ones that mirrors were asked for.
    missed_bytes: [AtomicU64; 2],
    /// Nanoseconds as in [`Time`]; 0: it has no memory yet.
    equipped: AtomicU64,
    /// Who is told of it where it takes long.
    slow_reads: Option<Arc<SlowReads>>,
    state: Mutex<State>,
}

struct State {
    answer: Option<Answer>,
    reservation: Option<Reservation>,
}

impl Waiter {
    /// A read of `bytes` of `file`. `slow_reads` hears of it where it takes long.
    pub fn new(
        file: Arc<OpenFile>,
        pages: Pages,
        bytes: Range<u64>,
        place: Place,
        slow_reads: Option<Arc<SlowReads>>,
        answer: Answer,
    ) -> Arc<Waiter> {
        let Place { reader, in_order } = place;
        let since = now();
        let (missed_bytes, equipped) = Default::default();
        Arc::new(Waiter {
            file,
            pages,
            reader,
            since,
            in_order,
            bytes,
            last_byte: AtomicU64::new(since.0),
            missed_bytes,
            equipped,
            slow_reads,
            state: Mutex::new(State { answer: Some(answer), reservation: None }),
        })
    }

    /// Give it the memory for all its pages; false where there is none now.
    pub fn reserve(&self, pool: &Pool) -> bool {
        let stream = self.in_order || self.pages.count() > LONE_PAGES_MAX;
        let reserved = pool.reserve(self.file.inode, self.pages, Class::Demand, stream).ok();
        reserved.map(|memory| self.equip(memory)).is_some()
    }

    fn equip(&self, reservation: Reservation) {
        if self.slow_reads.is_some() {
            self.equipped.store(now().0, Ordering::Relaxed);
        }
        self.state.lock().reservation = Some(reservation);
    }

    /// The bytes of the file that were asked for.
    pub fn bytes(&self) -> &Range<u64> {
        &self.bytes
    }

    /// When it got the memory for its pages.
    pub fn equipped(&self) -> Option<Time> {
        Some(self.equipped.load(Ordering::Relaxed)).filter(|&at| at > 0).map(Time)
    }

    /// `pages` are not in memory, and mirrors are asked for `remote`. Counted where somebody wants to know.
    pub fn misses(&self, pages: Option<Pages>, remote: &[Pages]) {
        if self.slow_reads.is_none() {
            return;
        }
        let of_it = |pages: &Pages| {
            let pages = pages.bytes(self.file.size_bytes);
            pages.end.min(self.bytes.end).saturating_sub(pages.start.max(self.bytes.start))
        };
        let [missing, asked] = &self.missed_bytes;
        missing.fetch_add(pages.iter().map(of_it).sum(), Ordering::Relaxed);
        asked.fetch_add(remote.iter().map(of_it).sum(), Ordering::Relaxed);
    }

    /// Of its bytes, those that were not in memory, and of those the ones that mirrors were asked for.
    pub fn missed_bytes(&self) -> (u64, u64) {
        let [missing, asked] = self.missed_bytes.each_ref().map(|bytes| bytes.load(Ordering::Relaxed));
        (missing, asked)
    }

    /// The last time that a byte arrived for it.
    pub fn last_byte(&self) -> Time {
        Time(self.last_byte.load(Ordering::Relaxed))
    }

    /// Answer it with an error. False where it was answered before.
    pub fn fail(&self, trouble: Trouble, metrics: &Metrics) -> bool {
        let Some((answer, reservation)) = self.take() else { return false };
        drop(reservation);
        metrics.read_errors.add(1);
        self.is_over(Some(trouble));
        answer(Err(trouble));
        true
    }

    /// Answer it where all its pages are held. False where some are missing, or may not be given to anybody yet.
    pub fn try_answer(&self, pool: &Pool, metrics: &Metrics) -> bool {
        if self.file.is_sealed() || !self.is_answered_from(pool, metrics) {
            return false;
        }
        if self.in_order {
            pool.mark_consumed(self.file.inode, self.pages);
        }
        true
    }

    fn is_answered_from(&self, pool: &Pool, metrics: &Metrics) -> bool {
        if let Some(pinned) = pool.pinned(self.file.inode, self.pages) {
            self.finish(self.wanted(&pinned), metrics);
            return true;
        }
        if !pool.missing(self.file.inode, self.pages).is_empty() {
            return false;
        }
        let mut scratch = vec![0; (self.pages.count() * PAGE_BYTES) as usize];
        if !pool.copy(self.file.inode, self.pages, &mut scratch) {
            return false;
        }
        metrics.read_copies.add(1);
        self.finish(wanted(&scratch, self.pages, &self.bytes), metrics);
        true
    }

    fn wanted<'a>(&self, pinned: &'a Pinned) -> &'a [u8] {
        wanted(pinned, self.pages, &self.bytes)
    }

    fn finish(&self, bytes: &[u8], metrics: &Metrics) {
        let Some((answer, reservation)) = self.take() else { return };
        metrics.read_bytes.add(bytes.len() as u64);
        self.is_over(None);
        answer(Ok(bytes));
        // Only now may its pages be evicted.
        drop(reservation);
    }

    /// Before its reader knows: who has read may end the mount, and the read is to be among the last that are told.
    fn is_over(&self, trouble: Option<Trouble>) {
        if let Some(slow_reads) = &self.slow_reads {
            slow_reads.over(self, trouble);
        }
    }

    fn take(&self) -> Option<(Answer, Option<Reservation>)> {
        let mut state = self.state.lock();
        let answer = state.answer.take()?;
        Some((answer, state.reservation.take()))
    }
}

/// Of the memory of `pages`, the part that is `bytes` of the file.
pub fn wanted<'a>(memory: &'a [u8], pages: Pages, bytes: &Range<u64>) -> &'a [u8] {
    let base = pages.start * PAGE_BYTES;
    &memory[(bytes.start - base) as usize..(bytes.end - base) as usize]
}

/// Every read that waits, by file.
#[derive(Default)]
pub struct Waiting {
    by_file: Mutex<HashMap<Inode, Vec<Arc<Waiter>>>>,
    /// From the publication of their last page to their answer.
    pub handoffs: Handoffs,
}

impl Waiting {
    /// Add one. The caller looks once more afterwards whether its pages have come meanwhile.
    pub fn add(&self, waiter: Arc<Waiter>, metrics: &Metrics) {
        metrics.waiting_reads.add(1);
        self.by_file.lock().entry(waiter.file.inode).or_default().push(waiter);
    }

    /// `pages` of `file` are held now, and bytes have come as far as page `reached`: answer whom that completes.
    pub fn published(&self, file: Inode, pages: Pages, reached: u64, pool: &Pool, metrics: &Metrics) {
        let touched = Pages::new(pages.start.min(reached), pages.end.max(reached + 1));
        let concerned = self.concerned(file, touched);
        if concerned.is_empty() {
            return;
        }
        let time = now();
        for waiter in &concerned {
            waiter.last_byte.store(time.0, Ordering::Relaxed);
            if !pages.is_empty() && waiter.try_answer(pool, metrics) {
                self.handoffs.add(now().since(time));
                self.remove(waiter, metrics);
            }
        }
    }

    /// Nobody can bring `pages`: whoever waits for one of them that is not held fails.
    pub fn hopeless(&self, file: Inode, pages: Pages, why: Trouble, pool: &Pool, metrics: &Metrics) {
        for waiter in self.concerned(file, pages) {
            let missing = pool.missing(file, waiter.pages);
            if waiter.file.is_sealed() || missing.iter().any(|missing| !missing.intersect(pages).is_empty()) {
                self.remove(&waiter, metrics);
                waiter.fail(why, metrics);
            }
        }
    }

    /// Take out and return those that are past their time.
    pub fn expired(&self, late: impl Fn(&Waiter) -> bool, metrics: &Metrics) -> Vec<Arc<Waiter>> {
        let mut late_ones = Vec::new();
        self.by_file.lock().retain(|_, waiters| {
            waiters.retain(|waiter| {
                let is_late = late(waiter);
                if is_late {
                    late_ones.push(waiter.clone());
                }
                !is_late
            });
            !waiters.is_empty()
        });
        metrics.waiting_reads.sub(late_ones.len() as u64);
        late_ones
    }

    /// Take one out. Counted once, however many try.
    pub fn remove(&self, waiter: &Arc<Waiter>, metrics: &Metrics) {
        let mut by_file = self.by_file.lock();
        let Some(waiters) = by_file.get_mut(&waiter.file.inode) else { return };
        if let Some(at) = waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            waiters.swap_remove(at);
            metrics.waiting_reads.sub(1);
        }
        if waiters.is_empty() {
            by_file.remove(&waiter.file.inode);
        }
    }

    /// Those that wait for one of `pages`.
    pub fn of(&self, file: Inode, pages: Pages) -> Vec<Arc<Waiter>> {
        self.concerned(file, pages)
    }

    /// Does a read of `file` wait for something at or after page `page`?
    pub fn beyond(&self, file: Inode, page: u64) -> bool {
        !self.concerned(file, Pages::new(page, u64::MAX)).is_empty()
    }

    /// The files of reads that have waited since `since`.
    pub fn files_since(&self, since: Time) -> Vec<Inode> {
        let by_file = self.by_file.lock();
        let long = |waiters: &Vec<Arc<Waiter>>| waiters.iter().any(|waiter| waiter.since <= since);
        by_file.iter().filter(|(_, waiters)| long(waiters)).map(|(file, _)| *file).collect()
    }

    /// When the oldest of them began.
    pub fn oldest(&self) -> Option<Time> {
        self.by_file.lock().values().flatten().map(|waiter| waiter.since).min()
    }

    /// What who publishes pages may hold, held. For tests of those who need nothing of it.
    #[cfg(test)]
    pub fn hold_lock(&self) -> impl Sized {
        self.by_file.lock()
    }

    /// No read waits.
    pub fn is_empty(&self) -> bool {
        self.by_file.lock().is_empty()
    }

    fn concerned(&self, file: Inode, pages: Pages) -> Vec<Arc<Waiter>> {
        let by_file = self.by_file.lock();
        let waiters = by_file.get(&file).into_iter().flatten();
        waiters.filter(|waiter| !waiter.pages.intersect(pages).is_empty()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::opened::{Opened, Opening};

    const LIMIT_BYTES: u64 = 16 << 20;

    fn opening() -> Opening {
        let (inode, path) = (Inode(7), b"a".to_vec());
        Opening { inode, path, size_bytes: LIMIT_BYTES, disk: None, rule: Default::default() }
    }

    /// How much of a pool is touched by reads that have waited for as much as it holds.
    fn touched_by(in_order: bool) -> u64 {
        let metrics = Arc::new(Metrics::default());
        let pool = Pool::new(LIMIT_BYTES, metrics.clone()).unwrap();
        let file = Opened::default().open(opening(), |_| {});
        for pages in Pages::of_file(LIMIT_BYTES).split(256) {
            let place = Place { reader: ReaderId(1), in_order };
            let waiter = Waiter::new(file.clone(), pages, pages.bytes(LIMIT_BYTES), place, None, Box::new(|_| {}));
            let memory = pool.reserve(Inode(7), pages, Class::Demand, true).unwrap();
            memory.filler(pages, LIMIT_BYTES).fill(&[1; 1 << 20], |_| {});
            waiter.equip(memory);
            assert!(waiter.try_answer(&pool, &metrics));
        }
        pool.resident_bytes()
    }

    /// How much of a pool is touched by reads of 256 KiB, 1 MiB apart.
    fn touched_by_short_reads(in_order: bool) -> u64 {
        let pool = Pool::new(LIMIT_BYTES, Arc::default()).unwrap();
        let file = Opened::default().open(opening(), |_| {});
        let reads: Vec<_> =
            Pages::of_file(LIMIT_BYTES).split(256).map(|all| Pages::new(all.start, all.start + 64)).collect();
        let place = |at: usize| Place { reader: ReaderId(at as u64), in_order };
        let read = |(at, &pages): (usize, &Pages)| {
            Waiter::new(file.clone(), pages, pages.bytes(LIMIT_BYTES), place(at), None, Box::new(|_| {}))
        };
        let waiters: Vec<_> = reads.iter().enumerate().map(read).collect();
        assert!(waiters.iter().all(|waiter| waiter.reserve(&pool)));
        pool.resident_bytes()
    }

    #[test]
    fn lone_reads_share_extents_and_those_in_order_do_not() {
        assert_eq!(touched_by_short_reads(false), LIMIT_BYTES / 4);
        assert_eq!(touched_by_short_reads(true), LIMIT_BYTES);
    }

    #[test]
    fn a_reader_in_order_is_past_what_it_has_waited_for() {
        assert_eq!(touched_by(true), LIMIT_BYTES / 8, "their memory is used again");
        assert_eq!(touched_by(false), LIMIT_BYTES, "one that reads here and there may come back");
    }
}
