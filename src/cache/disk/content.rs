//! What is known in memory of an open file: which pages can be read, which are durable, where they lie.

use super::leaf::{Leaf, leaf_sum, leaves_of};
use super::page_io::{GROUP_PAGES, GROUP_SUM_BYTES};
use super::record::{Place, Record, all_set, fill, gaps};
use super::store::Loaded;
use crate::chunk::{PAGE_BYTES, Pages};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

/// Everything behind the lock of a [`super::DiskFile`].
#[derive(Default)]
pub(super) struct Content {
    pub(super) place: Option<Place>,
    /// Readable.
    pub(super) written: RoaringBitmap,
    /// Written by us, or read back and found right, since the cache was opened.
    pub(super) proven: RoaringBitmap,
    /// As in the table of bitmaps; only the committer changes it.
    pub(super) durable: RoaringBitmap,
    /// As in the table of files.
    pub(super) record: Option<Record>,
    /// Raised whenever pages are taken away: a read that failed its check over it proves nothing.
    pub(super) epoch: u64,
    /// How often its bytes turned out to be wrong.
    pub(super) discards: u64,
    /// Raised whenever the place is taken away: what was being written there is lost.
    pub(super) life: u64,
    /// What the writer is at.
    pub(super) writing: Option<Pages>,
    /// Groups whose room is being given back: nobody writes there meanwhile.
    pub(super) punching: Vec<Pages>,
    /// When it was last used, in uses of the whole cache; 0: not by anybody since it was loaded.
    pub(super) used_tick: u64,
    /// The same for all groups at once...
    pub(super) whole_used: u64,
    /// ...and for each of those that were used since.
    pub(super) group_used: BTreeMap<u64, u64>,
    /// Bytes of the ledger that this file's own data file answers for.
    pub(super) charged_bytes: u64,
    pub(super) note: Option<Vec<u8>>,
    /// In the table of touched files, committed.
    pub(super) touched: bool,
    /// Not DONE before its bytes are checked as a whole, …
    pub(super) gated: bool,
    /// … which they were since the last of them came.
    pub(super) checked: bool,
}

impl Content {
    pub(super) fn of(loaded: Option<Loaded>) -> Content {
        let Some(Loaded { record, bitmap }) = loaded else { return Content::default() };
        Content {
            place: Some(record.place),
            charged_bytes: if record.place.packed { 0 } else { own_charge(&bitmap) },
            note: record.note.clone(),
            written: bitmap.clone(),
            durable: bitmap,
            record: Some(record),
            ..Content::default()
        }
    }

    /// Forget every page and the place; what is being written there is lost.
    pub(super) fn reset(&mut self) {
        let note = self.note.take();
        let (epoch, life, writing, used_tick) = (self.epoch + 1, self.life + 1, self.writing, self.used_tick);
        let (gated, discards) = (self.gated, self.discards);
        *self = Content { epoch, life, discards, writing, used_tick, note, gated, ..Content::default() };
    }

    /// May it become DONE?
    pub(super) fn may_end(&self) -> bool {
        !self.gated || self.checked
    }

    /// What is in the tables, after [`Content::reset`].
    pub(super) fn take_over(&mut self, loaded: Option<Loaded>) {
        let Content { epoch, life, discards, writing, used_tick, gated, .. } = *self;
        *self = Content { epoch, life, discards, writing, used_tick, gated, ..Content::of(loaded) };
    }

    /// Take pages away from readers.
    pub(super) fn clear(&mut self, pages: Pages) {
        fill(&mut self.written, pages, false);
        fill(&mut self.proven, pages, false);
        self.epoch += 1;
    }

    /// What writing `pages` into a data file of its own adds to the ledger. What is durable and cannot be read (it was found
    /// damaged) still has its room.
    pub(super) fn own_need(&self, pages: Pages) -> u64 {
        let fresh =
            gaps(&self.written, pages).into_iter().map(|gap| gap.count() - count(&self.durable, gap)).sum::<u64>();
        let groups = pages.split(GROUP_PAGES).map(|pages| group(pages.start / GROUP_PAGES));
        let empty = groups.filter(|&group| count(&self.written, group) + count(&self.durable, group) == 0);
        fresh * PAGE_BYTES + empty.count() as u64 * GROUP_SUM_BYTES
    }

    /// What taking these runs away gives back, and the groups of which nothing is left, so that their checksums go too.
    /// The runs are in `durable` and no longer in `written`.
    pub(super) fn refund_of_all(&self, runs: &[Pages]) -> (u64, Vec<Pages>) {
        let mut gone: BTreeMap<u64, u64> = BTreeMap::new();
        for pages in runs.iter().flat_map(|run| run.split(GROUP_PAGES)) {
            *gone.entry(pages.start / GROUP_PAGES).or_default() += count(&self.durable, pages);
        }
        let emptied = gone.iter().filter(|&(&number, &gone)| {
            gone > 0 && gone == count(&self.durable, group(number)) && count(&self.written, group(number)) == 0
        });
        let emptied: Vec<Pages> = emptied.map(|(&number, _)| group(number)).collect();
        (gone.values().sum::<u64>() * PAGE_BYTES + emptied.len() as u64 * GROUP_SUM_BYTES, emptied)
    }

    /// The leaves that change when `durable` becomes `after` (which differs in `pages` only), the new
    /// checksum, and what the change adds to the committed total of a file with a data file of its own.
    pub(super) fn leaf_changes(&self, after: &RoaringBitmap, pages: &[Pages]) -> LeafChanges {
        let numbers = leaves_of(pages);
        let mut changes = LeafChanges {
            leaves: Vec::with_capacity(numbers.len()),
            checksum: self.record.as_ref().map_or(0, |record| record.checksum),
            charge_delta: 0,
        };
        for number in numbers {
            let (was, is) = (Leaf::of(&self.durable, number), Leaf::of(after, number));
            let bytes = is.encode();
            changes.checksum ^= leaf_sum(number as u32, &was.encode()) ^ leaf_sum(number as u32, &bytes);
            changes.charge_delta += is.charge() as i64 - was.charge() as i64;
            changes.leaves.push((number, bytes));
        }
        changes
    }

    /// The groups of a file of `page_count` pages that may be evicted, the best one first: the least
    /// recently used, and of those the last in the file, since readers start at the front.
    pub(super) fn evictable_groups(&self) -> Vec<Pages> {
        let mut groups = Vec::new();
        let mut from = 0;
        while let Some(page) = next_set(&self.durable, from) {
            let number = page / GROUP_PAGES;
            from = (number + 1) * GROUP_PAGES;
            let pages = group(number);
            let writing = self.writing.is_some_and(|writing| !writing.intersect(pages).is_empty());
            let settled = count(&self.written, pages) == count_both(&self.written, &self.durable, pages);
            let leaving = self.punching.iter().any(|leaving| !leaving.intersect(pages).is_empty());
            if !writing && settled && !leaving {
                groups.push((
                    self.group_used.get(&number).copied().unwrap_or(self.whole_used),
                    std::cmp::Reverse(number),
                ));
            }
        }
        groups.sort_unstable();
        groups.into_iter().map(|(_, number)| group(number.0)).collect()
    }

    /// Are all pages that can be read durable, and is nobody writing?
    pub(super) fn is_settled(&self) -> bool {
        self.writing.is_none() && self.punching.is_empty() && self.written.is_subset(&self.durable)
    }

    pub(super) fn is_punching(&self, pages: Pages) -> bool {
        self.punching.iter().any(|leaving| {
            let around =
                Pages::new(pages.start / GROUP_PAGES * GROUP_PAGES, pages.end.div_ceil(GROUP_PAGES) * GROUP_PAGES);
            !leaving.intersect(around).is_empty()
        })
    }

    pub(super) fn used(&mut self, pages: Pages, tick: u64) {
        self.used_tick = tick;
        for pages in pages.split(GROUP_PAGES) {
            self.group_used.insert(pages.start / GROUP_PAGES, tick);
        }
    }

    /// All of it is used.
    pub(super) fn used_whole(&mut self, tick: u64) {
        (self.used_tick, self.whole_used) = (tick, tick);
        self.group_used.clear();
    }

    pub(super) fn holds(&self, pages: Pages) -> bool {
        all_set(&self.written, pages)
    }
}

/// See [`Content::leaf_changes`].
pub(super) struct LeafChanges {
    pub(super) leaves: Vec<(u64, Vec<u8>)>,
    pub(super) checksum: u32,
    pub(super) charge_delta: i64,
}

/// What a data file with these pages takes on disk.
pub(super) fn own_charge(bitmap: &RoaringBitmap) -> u64 {
    let mut groups = 0;
    let mut from = 0;
    while let Some(page) = next_set(bitmap, from) {
        groups += 1;
        from = (page / GROUP_PAGES + 1) * GROUP_PAGES;
    }
    bitmap.len() * PAGE_BYTES + groups * GROUP_SUM_BYTES
}

/// What a pack with this many pages given out takes on disk.
pub(super) fn pack_charge(pages: u64) -> u64 {
    pages * PAGE_BYTES + pages.div_ceil(GROUP_PAGES) * GROUP_SUM_BYTES
}

fn group(number: u64) -> Pages {
    Pages::new(number * GROUP_PAGES, (number + 1) * GROUP_PAGES)
}

fn next_set(bitmap: &RoaringBitmap, from: u64) -> Option<u64> {
    let from = u32::try_from(from).ok()?;
    bitmap.range(from..).next().map(u64::from)
}

/// How many of `pages` are set.
pub(super) fn count(bitmap: &RoaringBitmap, pages: Pages) -> u64 {
    match pages.is_empty() {
        true => 0,
        false => bitmap.range_cardinality(pages.start as u32..=(pages.end - 1) as u32),
    }
}

fn count_both(first: &RoaringBitmap, second: &RoaringBitmap, pages: Pages) -> u64 {
    first.range(pages.start as u32..=(pages.end - 1) as u32).filter(|&page| second.contains(page)).count() as u64
}
