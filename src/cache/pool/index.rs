//! Where the pages of a file are: a sharded index of runs. A page has at most one run in it.
//!
//! A shard's lock is held for a look-up or an exchange, never over copying or I/O. Pins and
//! reservations are made under it, and a run leaves the index under it only while it has neither:
//! so what is pinned stays. (To become lock-free, a look-up needs a read-mostly map in place of
//! the tree and a pin that re-checks membership after its increment; nothing else leans on the lock.)

use super::run::{EXTENT_PAGES, Pinned, Run};
use crate::chunk::{Inode, Pages};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Enough that the threads of one machine seldom meet; each costs a lock and an empty tree.
const SHARDS: usize = 64;

/// The runs of one group of [`EXTENT_PAGES`] pages, most often one.
type Group = Vec<Arc<Run>>;

pub(super) struct Index {
    // A tree, so that the groups of one file are neighbours and can be forgotten without a walk over all.
    shards: [Mutex<BTreeMap<(Inode, u64), Group>>; SHARDS],
}

impl Index {
    pub(super) fn new() -> Index {
        Index { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    fn shard(&self, file: Inode, group: u64) -> &Mutex<BTreeMap<(Inode, u64), Group>> {
        // Fibonacci hashing: inode numbers and groups are dense, the top bits of the product are not.
        let mixed = (file.0.rotate_left(32) ^ group).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        &self.shards[(mixed >> 58) as usize % SHARDS]
    }

    /// Looks at the runs of a group. `look` must not copy, wait, or let go of a run.
    pub(super) fn look<R>(&self, file: Inode, group: u64, look: impl FnOnce(&[Arc<Run>]) -> R) -> R {
        let shard = self.shard(file, group).lock();
        look(shard.get(&(file, group)).map_or(&[], |runs| runs))
    }

    /// The longest run of held pages from the first of `pages` on that lies in one run of memory.
    pub(super) fn pin_prefix(&self, file: Inode, pages: Pages) -> Option<Pinned> {
        if pages.is_empty() {
            return None;
        }
        self.look(file, pages.start / EXTENT_PAGES, |runs| {
            let run = runs.iter().find(|run| run.pages().contains(pages.start))?;
            let length = run.held_mask().prefix(run.place(pages.start)) as u64;
            let end = run.pages().end.min(pages.end).min(pages.start + length);
            Pinned::new(run, Pages::new(pages.start, end))
        })
    }

    /// Adds a run. Its pages have no other.
    pub(super) fn insert(&self, run: &Arc<Run>) {
        let (file, group) = (run.file(), run.pages().start / EXTENT_PAGES);
        self.shard(file, group).lock().entry((file, group)).or_default().push(run.clone());
    }

    /// Puts `run` in the place of all runs of its group, and gives those back.
    pub(super) fn replace(&self, run: &Arc<Run>) -> Vec<Arc<Run>> {
        let (file, group) = (run.file(), run.pages().start / EXTENT_PAGES);
        self.shard(file, group).lock().insert((file, group), vec![run.clone()]).unwrap_or_default()
    }

    /// Takes `run` out, where it is in and `may` says so of it under the lock.
    pub(super) fn remove_if(&self, run: &Arc<Run>, may: impl FnOnce(&Run) -> bool) -> Option<Arc<Run>> {
        let (file, group) = (run.file(), run.pages().start / EXTENT_PAGES);
        let mut shard = self.shard(file, group).lock();
        let runs = shard.get_mut(&(file, group))?;
        let at = runs.iter().position(|other| Arc::ptr_eq(other, run))?;
        if !may(&runs[at]) {
            return None;
        }
        let run = runs.swap_remove(at);
        if runs.is_empty() {
            shard.remove(&(file, group));
        }
        Some(run)
    }

    /// Every run of a file that touches `pages`.
    pub(super) fn runs_of(&self, file: Inode, pages: Pages) -> Vec<Arc<Run>> {
        let (first, last) = (pages.start / EXTENT_PAGES, pages.end.saturating_sub(1) / EXTENT_PAGES);
        let mut found = Vec::new();
        if pages.is_empty() {
            return found;
        }
        for shard in &self.shards {
            let shard = shard.lock();
            let runs = shard.range((file, first)..=(file, last)).flat_map(|(_, runs)| runs);
            found.extend(runs.filter(|run| !run.pages().intersect(pages).is_empty()).cloned());
        }
        found
    }
}
