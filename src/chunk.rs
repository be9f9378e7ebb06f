//! Identities and grid arithmetic: what a page, a chunk, a file version and a mirror are called.
//!
//! A *page* is 4 KiB of a file: the unit of what is held, of the bitmap and of its checksum. A
//! *chunk* is 16 pages, aligned: the unit of the scheduler's table. Nothing here knows what the
//! bytes are or where they come from.

use std::fmt;
use std::ops::Range;

/// Bytes in a page. The kernel's page size on every machine that FUSE passthrough runs on.
pub const PAGE_BYTES: u64 = 4096;
/// Pages in a chunk: a mask of 16 bits says which of them are held.
pub const CHUNK_PAGES: u64 = 16;
/// Bytes in a chunk.
pub const CHUNK_BYTES: u64 = PAGE_BYTES * CHUNK_PAGES;
/// The largest file that can be mounted, in bytes (page numbers fit 32 bits on disk): 16 TiB.
pub const FILE_BYTES_MAX: u64 = PAGE_BYTES << 32;
/// Mirrors of one dataset at most. [`MirrorSet`] and the published tables are sized by it.
pub const MIRRORS_MAX: usize = 1024;

/// One inode: a folder, or *one version* of a file (size, date and generation are part of it).
/// Stable across restarts. Page cache, handles, pool and disk all key by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Inode(pub u64);

/// A mirror of the dataset, by its place in the mount's list of mirrors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MirrorId(pub u16);

/// One request to one mirror for a run of neighbouring pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FetchId(pub u64);

/// One stream of reads: a handle, or one of several streaks inside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ReaderId(pub u64);

/// Why bytes are wanted. Ordered: the smaller, the more urgent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Class {
    /// P0: a reader waits.
    Demand,
    /// P1: a reader will probably want them soon.
    Readahead,
    /// P2: the control command asked for them.
    Prefetch,
}

impl Class {
    /// Its name in logs and in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Class::Demand => "demand",
            Class::Readahead => "readahead",
            Class::Prefetch => "prefetch",
        }
    }
}

/// A run of neighbouring pages of one file, `start..end` in page numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pages {
    /// The first page.
    pub start: u64,
    /// One past the last page.
    pub end: u64,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl Pages {
    /// `start..end`; an `end` before `start` gives an empty run.
    pub fn new(start: u64, end: u64) -> Pages {
        Pages { start, end: end.max(start) }
    }

    /// Every page of a file of `size_bytes`.
    pub fn of_file(size_bytes: u64) -> Pages {
        Pages::new(0, size_bytes.div_ceil(PAGE_BYTES))
    }

    /// The pages that `length_bytes` at `offset_bytes` touch in a file of `size_bytes`.
    pub fn touching(offset_bytes: u64, length_bytes: u64, size_bytes: u64) -> Pages {
        let end_bytes = offset_bytes.saturating_add(length_bytes).min(size_bytes);
        if end_bytes <= offset_bytes {
            return Pages::new(offset_bytes / PAGE_BYTES, offset_bytes / PAGE_BYTES);
        }
        Pages::new(offset_bytes / PAGE_BYTES, end_bytes.div_ceil(PAGE_BYTES))
    }

    /// How many pages.
    pub fn count(self) -> u64 {
        self.end - self.start
    }

    /// No page at all.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Is `page` one of them?
    pub fn contains(self, page: u64) -> bool {
        (self.start..self.end).contains(&page)
    }

    /// Are all of `other` among them?
    pub fn covers(self, other: Pages) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    /// What both have; empty where they have nothing in common.
    pub fn intersect(self, other: Pages) -> Pages {
        let start = self.start.max(other.start);
        Pages::new(start, self.end.min(other.end))
    }

    /// The bytes they hold in a file of `size_bytes` (its last page may be short).
    pub fn bytes(self, size_bytes: u64) -> Range<u64> {
        let start = (self.start * PAGE_BYTES).min(size_bytes);
        start..(self.end * PAGE_BYTES).min(size_bytes)
    }

    /// How many bytes that is.
    pub fn len_bytes(self, size_bytes: u64) -> u64 {
        let range = self.bytes(size_bytes);
        range.end - range.start
    }

    /// Cut into parts that each lie in one aligned group of `group_pages` pages.
    pub fn split(self, group_pages: u64) -> impl Iterator<Item = Pages> {
        let mut at = self.start;
        std::iter::from_fn(move || {
            if at >= self.end {
                return None;
            }
            let end = ((at / group_pages + 1) * group_pages).min(self.end);
            let part = Pages::new(at, end);
            at = end;
            Some(part)
        })
    }

    /// The page numbers.
    pub fn iter(self) -> Range<u64> {
        self.start..self.end
    }
}

/// A set of mirrors. Up to 64 mirrors cost one word; more cost one box.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct MirrorSet {
    low: u64,
    high: Option<Box<[u64; MIRRORS_MAX / 64 - 1]>>,
}

impl fmt::Debug for MirrorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|mirror| mirror.0)).finish()
    }
}

impl MirrorSet {
    /// The empty set.
    pub fn new() -> MirrorSet {
        MirrorSet::default()
    }

    /// The first `count` mirrors.
    pub fn first(count: usize) -> MirrorSet {
        (0..count.min(MIRRORS_MAX)).map(|at| MirrorId(at as u16)).collect()
    }

    /// Add one. Ids at or above [`MIRRORS_MAX`] never exist (the configuration refuses them).
    pub fn insert(&mut self, mirror: MirrorId) {
        let (word, bit) = (mirror.0 as usize / 64, mirror.0 as usize % 64);
        match word {
            0 => self.low |= 1 << bit,
            _ => self.high.get_or_insert_with(Default::default)[word - 1] |= 1 << bit,
        }
    }

    /// Take one out.
    pub fn remove(&mut self, mirror: MirrorId) {
        let (word, bit) = (mirror.0 as usize / 64, mirror.0 as usize % 64);
        match (word, self.high.as_mut()) {
            (0, _) => self.low &= !(1 << bit),
            (_, Some(high)) => high[word - 1] &= !(1 << bit),
            _ => {}
        }
        // One representation per set, so that equality and hashing stay true.
        if self.high.as_ref().is_some_and(|high| high.iter().all(|&word| word == 0)) {
            self.high = None;
        }
    }

    /// Is it in?
    pub fn contains(&self, mirror: MirrorId) -> bool {
        let (word, bit) = (mirror.0 as usize / 64, mirror.0 as usize % 64);
        match (word, &self.high) {
            (0, _) => self.low & (1 << bit) != 0,
            (_, Some(high)) if word <= high.len() => high[word - 1] & (1 << bit) != 0,
            _ => false,
        }
    }

    /// 64 of them as bits, from mirror `64 * at` on.
    pub fn word(&self, at: usize) -> u64 {
        match (at, &self.high) {
            (0, _) => self.low,
            (_, Some(high)) => high.get(at - 1).copied().unwrap_or(0),
            _ => 0,
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        let high = self.high.iter().flat_map(|high| high.iter());
        (self.low.count_ones() + high.map(|word| word.count_ones()).sum::<u32>()) as usize
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.low == 0 && self.high.is_none()
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = MirrorId> + '_ {
        let words = std::iter::once(self.low).chain(self.high.iter().flat_map(|high| high.iter().copied()));
        words.enumerate().flat_map(|(at, word)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| MirrorId((at * 64 + bit) as u16))
        })
    }
}

impl FromIterator<MirrorId> for MirrorSet {
    fn from_iter<I: IntoIterator<Item = MirrorId>>(mirrors: I) -> MirrorSet {
        let mut set = MirrorSet::new();
        mirrors.into_iter().for_each(|mirror| set.insert(mirror));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_read_are_clipped_to_the_file() {
        assert_eq!(Pages::touching(4095, 2, 10_000), Pages::new(0, 2));
        assert_eq!(Pages::touching(8192, 1 << 20, 10_000), Pages::new(2, 3));
        assert!(Pages::touching(10_000, 5, 10_000).is_empty());
        assert!(Pages::touching(u64::MAX, 5, 10_000).is_empty());
        assert_eq!(Pages::new(2, 3).bytes(10_000), 8192..10_000);
    }

    #[test]
    fn split_covers_the_run_and_crosses_no_boundary() {
        let parts: Vec<_> = Pages::new(3, 40).split(16).collect();
        assert_eq!(parts, [Pages::new(3, 16), Pages::new(16, 32), Pages::new(32, 40)]);
    }

    #[test]
    fn a_set_is_equal_to_itself_however_it_was_made() {
        let mut set: MirrorSet = [1, 63, 64, 1023].into_iter().map(MirrorId).collect();
        assert_eq!(set.iter().map(|mirror| mirror.0).collect::<Vec<_>>(), [1, 63, 64, 1023]);
        assert_eq!(set.len(), 4);
        set.remove(MirrorId(64));
        set.remove(MirrorId(1023));
        assert_eq!(set, [1, 63].into_iter().map(MirrorId).collect());
        assert!(!set.contains(MirrorId(64)) && set.contains(MirrorId(63)));
    }
}
