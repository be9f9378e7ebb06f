//! Who has to go when memory is wanted.
//!
//! Order: what readers have been past, oldest first; then, least recently looked at first, whatever
//! the class that asks may take. Hits take no part in keeping that order: they leave a stamp. The
//! order is made by a walk over all runs, used up entry by entry (each one is checked again when its
//! turn comes), and made anew when it is used up. So a walk is paid for by the evictions that it
//! serves.

use super::arena::Arena;
use super::consumed::Consumed;
use super::index::Index;
use super::run::Run;
use crate::chunk::{Class, Inode, PAGE_BYTES, Pages};
use crate::metrics::Metrics;
use parking_lot::Mutex;
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// What a reader looked at is safe from background work until this part of the pool was handed
/// out since: the extents that a slow stream is in the middle of are not the price of a fast one's
/// readahead.
const RECENT_PARTS: u64 = 8;
/// Unread readahead is safe from background work, and counts against its share, until the pool was
/// handed out so many times over: by then its reader has gone elsewhere. (Time counts too, see
/// `Arena::give_back`: half a minute.)
const UNREAD_TIMES: u64 = 2;

/// What must become free.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A whole extent: runs are judged by the extent they lie in, or a stream would empty
    /// hundreds of extents by halves.
    Extent,
    /// A few slots.
    Slots,
}

/// Victims in order, one list for each want and kind of class. Behind the lock of the reserving side.
#[derive(Default)]
pub(super) struct Victims {
    // Last first.
    lists: [Vec<Candidate>; 4],
}

struct Candidate {
    rank: u64,
    runs: Runs,
}

enum Runs {
    One(Weak<Run>),
    AllOf(usize),
}

/// Everything that an eviction touches.
pub(super) struct Evictor<'a> {
    pub(super) arena: &'a Arena,
    pub(super) index: &'a Index,
    pub(super) consumed: &'a Consumed,
    pub(super) dropped: &'a Mutex<Vec<(Inode, Pages)>>,
    pub(super) metrics: &'a Metrics,
    /// Memory was freed under the lock of the reserving side: whoever waits for some is to be told
    /// once that is let go of.
    pub(super) freed: Cell<bool>,
}

impl Evictor<'_> {
    /// Lets go of one run, or of all runs of one extent; false where `class` may take nothing.
    pub(super) fn evict_one(&self, victims: &mut Victims, want: Want, class: Class) -> bool {
        self.evict_consumed(usize::MAX) || self.evict_listed(victims, want, class)
    }

    /// Takes `run` out of the index where nobody needs it, and reports its pages as dropped. Its
    /// memory is free once the caller has let go of it too.
    pub(super) fn evict(&self, run: &Arc<Run>) -> bool {
        let removed = self.index.remove_if(run, |run| run.retire());
        if let Some(removed) = &removed {
            self.report(removed);
        }
        removed.is_some()
    }

    /// Lets go of a run under the lock of the reserving side.
    pub(super) fn let_go(&self, run: Arc<Run>) {
        if Run::drop_quietly(run) {
            self.freed.set(true);
        }
    }

    /// Takes what nobody will come for any more off the share of background work. Not under a lock.
    pub(super) fn expire_unread(&self) {
        // A walk over all runs, so only where it is worth it: most of the share is used up by them.
        if self.arena.idle_unread_bytes.load(Ordering::SeqCst) < self.arena.allowed_bytes() / 2 {
            return;
        }
        let is_stale = |run: &Run| self.age_bytes(run) >= self.arena.limit_bytes() * UNREAD_TIMES;
        let mut runs = Vec::new();
        for extent in 0..self.arena.extents() {
            self.arena.add_residents(extent, &mut runs);
            runs.drain(..).filter(|run| is_stale(run)).for_each(|run| run.clear_unread());
        }
    }

    fn age_bytes(&self, run: &Run) -> u64 {
        self.arena.age_bytes().saturating_sub(run.touched())
    }

    /// Counts and reports what is held in a run that has left the index.
    pub(super) fn report(&self, run: &Run) {
        let held = run.held_mask();
        if held.is_empty() {
            return;
        }
        self.metrics.memory_evicted_bytes.add(held.count() as u64 * PAGE_BYTES);
        let mut dropped = self.dropped.lock();
        for (first, count) in held.runs() {
            let start = run.pages().start + first as u64;
            let end = start + count as u64;
            match dropped.last_mut() {
                Some((file, pages)) if *file == run.file() && pages.end == start => pages.end = end,
                _ => dropped.push((run.file(), Pages::new(start, end))),
            }
        }
    }

    /// Lets go of the oldest that readers have been past, of so many.
    pub(super) fn evict_consumed(&self, tries: usize) -> bool {
        for _ in 0..self.consumed.len().min(tries) {
            let Some(run) = self.consumed.pop() else { return false };
            let Some(run) = run.upgrade() else { continue };
            if !run.is_consumed() {
                // More has arrived since. It is queued again when a reader has been past that.
                run.unqueue();
            } else if self.evict(&run) {
                self.let_go(run);
                return true;
            } else {
                // A reply is still on its way out of it.
                self.consumed.push(&run);
            }
            self.let_go(run);
        }
        false
    }

    fn evict_listed(&self, victims: &mut Victims, want: Want, class: Class) -> bool {
        let background = class != Class::Demand;
        let list = &mut victims.lists[(want == Want::Extent) as usize * 2 + background as usize];
        for fresh in [false, true] {
            if fresh {
                *list = self.list(want, background);
            }
            while let Some(candidate) = list.pop() {
                let runs = self.runs(&candidate.runs);
                // Looked at since, or needed: its turn comes with the next list.
                let same = self.rank(&runs, background) == Some(candidate.rank);
                let mut evicted = false;
                for run in runs {
                    evicted |= same && self.evict(&run);
                    self.let_go(run);
                }
                if evicted {
                    return true;
                }
            }
        }
        false
    }

    /// All that may go, the first to go last.
    fn list(&self, want: Want, background: bool) -> Vec<Candidate> {
        let (mut list, mut runs) = (Vec::new(), Vec::new());
        for extent in 0..self.arena.extents() {
            self.arena.add_residents(extent, &mut runs);
            match want {
                Want::Extent => {
                    list.extend(self.rank(&runs, background).map(|rank| Candidate { rank, runs: Runs::AllOf(extent) }));
                }
                Want::Slots => list.extend(runs.iter().filter_map(|run| {
                    let rank = self.rank_one(run, background)?;
                    Some(Candidate { rank, runs: Runs::One(Arc::downgrade(run)) })
                })),
            }
            runs.drain(..).for_each(|run| self.let_go(run));
        }
        // Stable and reversed: of equals the lower in memory goes first.
        list.sort_by_key(|candidate| candidate.rank);
        list.reverse();
        list
    }

    fn runs(&self, runs: &Runs) -> Vec<Arc<Run>> {
        match runs {
            Runs::One(run) => run.upgrade().into_iter().collect(),
            Runs::AllOf(extent) => self.arena.residents(*extent),
        }
    }

    /// When the youngest of them was looked at; None where one of them must stay.
    fn rank(&self, runs: &[Arc<Run>], background: bool) -> Option<u64> {
        let ranks = runs.iter().map(|run| self.rank_one(run, background));
        ranks.reduce(|best, rank| Some(best?.max(rank?))).flatten()
    }

    fn rank_one(&self, run: &Run, background: bool) -> Option<u64> {
        if !run.is_idle() {
            return None;
        }
        if run.is_consumed() {
            return Some(0);
        }
        let limit = self.arena.limit_bytes();
        let safe = if run.is_unread() { limit * UNREAD_TIMES } else { limit / RECENT_PARTS };
        (!background || self.age_bytes(run) >= safe).then_some(1 + run.touched())
    }
}
