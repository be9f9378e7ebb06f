//! Where the pages of a file are: a sharded index of runs. A page has at most one run in it.
//!
//! Readers take no lock. What they look into is a table of buckets, each a short list of runs that is
//! never changed, only exchanged for another: whoever reads one keeps it alive as long as it looks. A
//! run that was found in a list may have left the index since, so a reader pins it and learns by that
//! whether it came too late (see [`super::tied`]).
//!
//! Whoever changes the index holds the lock of a shard: for an exchange, never over copying or I/O.
//! Reservations are made under it, and a run is evicted under it only while nobody has it pinned or
//! reserved: so what is pinned stays. (A run that makes place for a larger one, or whose file is
//! forgotten, leaves with its pins. Its memory stays while they do, its bytes are the same.)

use super::run::{EXTENT_PAGES, Pinned, Run};
use crate::chunk::{Inode, Pages};
use arc_swap::{ArcSwapOption, Guard};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Enough that the threads that fetch seldom meet; each costs a lock and an empty tree.
const SHARDS: usize = 64;
/// At the worst, a pool full of lone pages, a bucket lists eight runs: an exchange copies that many.
/// They cost 256 bytes for each MiB of the pool, used or not.
const BUCKETS_PER_EXTENT: usize = 32;

/// A group of [`EXTENT_PAGES`] pages of a file.
type Key = (Inode, u64);
/// The runs of one group, most often one.
type Group = Vec<Arc<Run>>;
/// All runs whose groups fall into one bucket.
type Bucket = Vec<(Key, Arc<Run>)>;

pub(super) struct Index {
    buckets: Box<[ArcSwapOption<Bucket>]>,
    // What the buckets have, in the order of files: so the groups of one file are neighbours and can be
    // forgotten without a walk over all. A bucket belongs to one shard and changes under its lock.
    shards: [Mutex<BTreeMap<Key, Group>>; SHARDS],
}

impl Index {
    /// For a pool of `extents` extents.
    pub(super) fn new(extents: usize) -> Index {
        let buckets = (extents * BUCKETS_PER_EXTENT).next_power_of_two().max(SHARDS);
        let buckets = (0..buckets).map(|_| ArcSwapOption::empty()).collect();
        Index { buckets, shards: std::array::from_fn(|_| Mutex::default()) }
    }

    fn place(&self, (file, group): Key) -> usize {
        // Fibonacci hashing: inode numbers and groups are dense, the top bits of the product are not.
        let mixed = (file.0.rotate_left(32) ^ group).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> (64 - self.buckets.len().ilog2())) as usize
    }

    fn shard(&self, key: Key) -> &Mutex<BTreeMap<Key, Group>> {
        &self.shards[self.place(key) % SHARDS]
    }

    /// The runs of a group as they are now, or were a moment ago. No lock.
    pub(super) fn runs(&self, file: Inode, group: u64) -> Found {
        let key = (file, group);
        Found { key, bucket: self.buckets[self.place(key)].load() }
    }

    /// Looks at the runs of a group while none can come or go. `look` must not copy, wait, or let go of a run.
    pub(super) fn locked<R>(&self, file: Inode, group: u64, look: impl FnOnce(&[Arc<Run>]) -> R) -> R {
        let shard = self.shard((file, group)).lock();
        look(shard.get(&(file, group)).map_or(&[], |runs| runs))
    }

    /// The longest run of held pages from the first of `pages` on that lies in one run of memory. No lock.
    pub(super) fn pin_prefix(&self, file: Inode, pages: Pages) -> Option<Pinned> {
        if pages.is_empty() {
            return None;
        }
        let found = self.runs(file, pages.start / EXTENT_PAGES);
        let run = found.iter().find(|run| run.pages().contains(pages.start))?;
        let length = run.held_mask().prefix(run.place(pages.start)) as u64;
        let end = run.pages().end.min(pages.end).min(pages.start + length);
        Pinned::new(run, Pages::new(pages.start, end))
    }

    /// Adds a run. Its pages have no other.
    pub(super) fn insert(&self, run: &Arc<Run>) {
        let key = key_of(run);
        let mut shard = self.shard(key).lock();
        shard.entry(key).or_default().push(run.clone());
        self.exchange(key, |_| true, Some(run));
    }

    /// Puts `run` in the place of all runs of its group, and gives those back.
    pub(super) fn replace(&self, run: &Arc<Run>) -> Vec<Arc<Run>> {
        let key = key_of(run);
        let mut shard = self.shard(key).lock();
        let old = shard.insert(key, vec![run.clone()]).unwrap_or_default();
        self.exchange(key, |(other, _)| *other != key, Some(run));
        old
    }

    /// Takes `run` out, where it is in and `may` says so of it under the lock.
    pub(super) fn remove_if(&self, run: &Arc<Run>, may: impl FnOnce(&Run) -> bool) -> Option<Arc<Run>> {
        let key = key_of(run);
        let mut shard = self.shard(key).lock();
        let runs = shard.get_mut(&key)?;
        let at = runs.iter().position(|other| Arc::ptr_eq(other, run))?;
        if !may(&runs[at]) {
            return None;
        }
        let run = runs.swap_remove(at);
        if runs.is_empty() {
            shard.remove(&key);
        }
        self.exchange(key, |(_, other)| !Arc::ptr_eq(other, &run), None);
        Some(run)
    }

    /// Another list in the place of a bucket's: what `stays` of it, and `new`. Under the lock of its shard.
    fn exchange(&self, key: Key, stays: impl Fn(&(Key, Arc<Run>)) -> bool, new: Option<&Arc<Run>>) {
        let bucket = &self.buckets[self.place(key)];
        let old = bucket.load();
        let stay = old.iter().flat_map(|old| old.iter()).filter(|entry| stays(entry)).cloned();
        let next: Bucket = stay.chain(new.map(|run| (key, run.clone()))).collect();
        // Or the list would live on through us, and its runs with it.
        drop(old);
        bucket.store((!next.is_empty()).then(|| Arc::new(next)));
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

    /// Every file that has a run.
    pub(super) fn files(&self) -> Vec<Inode> {
        let mut files = BTreeSet::new();
        self.shards.iter().for_each(|shard| files.extend(shard.lock().keys().map(|(file, _)| *file)));
        files.into_iter().collect()
    }

    /// Everything that who changes the index may hold, held. For tests of those who only read it.
    #[cfg(test)]
    pub(super) fn hold_locks(&self) -> impl Sized {
        self.shards.iter().map(|shard| shard.lock()).collect::<Vec<_>>()
    }
}

fn key_of(run: &Run) -> Key {
    (run.file(), run.pages().start / EXTENT_PAGES)
}

/// The runs of a group, as they were when it was looked for.
pub(super) struct Found {
    key: Key,
    bucket: Guard<Option<Arc<Bucket>>>,
}

impl Found {
    /// Each of them. One may have been evicted since.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Run>> {
        let entries = self.bucket.iter().flat_map(|bucket| bucket.iter());
        entries.filter(|(key, _)| *key == self.key).map(|(_, run)| run)
    }
}
