//! Data files that are lent: somebody else reads them by their descriptor, past us.
//!
//! Nothing is punched out of a lent file and eviction passes it by. One that has to go all the same (its version turned
//! out to be wrong, a person evicts it) loses its name; its room counts as used until the last borrower has given it back.

use super::DiskFile;
use super::page_io::DataFile;
use super::record::Place;
use super::state::State;
use crate::chunk::Pages;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Closed files whose every page was found right are known to be so when they are opened again: so many of them, for
/// which their ids take 1 MiB or two.
const PROVEN_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not zero");

/// Which data files are lent, how often, and what is owed to the ledger for those that are deleted; and which need not be
/// read again to be lent.
pub(super) struct Lending {
    lent: Mutex<HashMap<u64, Borrowed>>,
    proven: Mutex<LruCache<u64, ()>>,
}

impl Default for Lending {
    fn default() -> Lending {
        Lending { lent: Mutex::default(), proven: Mutex::new(LruCache::new(PROVEN_MAX)) }
    }
}

#[derive(Default)]
struct Borrowed {
    count: u64,
    owed_bytes: u64,
}

impl Lending {
    pub(super) fn is_lent(&self, data_id: u64) -> bool {
        self.lent.lock().contains_key(&data_id)
    }

    /// It was deleted. Returns whether its room comes back later.
    pub(super) fn owe(&self, data_id: u64, bytes: u64) -> bool {
        let mut lent = self.lent.lock();
        let borrowed = lent.get_mut(&data_id);
        if let Some(borrowed) = borrowed {
            borrowed.owed_bytes += bytes;
            return true;
        }
        false
    }

    /// Every page of a closed file was right.
    pub(super) fn remember_proven(&self, data_id: u64) {
        self.proven.lock().put(data_id, ());
    }

    /// Was it? Whoever opens it answers for it from now on.
    pub(super) fn recall_proven(&self, data_id: u64) -> bool {
        self.proven.lock().pop(&data_id).is_some()
    }

    /// The ledger begins anew: nothing is given back twice.
    pub(super) fn forgive(&self) {
        self.lent.lock().values_mut().for_each(|borrowed| borrowed.owed_bytes = 0);
    }

    fn begin(&self, data_id: u64) {
        self.lent.lock().entry(data_id).or_default().count += 1;
    }

    /// Returns what is owed, where this was the last one.
    fn end(&self, data_id: u64) -> u64 {
        let mut lent = self.lent.lock();
        let Some(borrowed) = lent.get_mut(&data_id) else { return 0 };
        borrowed.count -= 1;
        if borrowed.count > 0 {
            return 0;
        }
        lent.remove(&data_id).map_or(0, |borrowed| borrowed.owed_bytes)
    }
}

/// A complete file, lent. Dropping it gives it back.
pub struct Lent {
    data: Arc<DataFile>,
    data_id: u64,
    file: Arc<DiskFile>,
    /// Of the file, when it was lent.
    discards: u64,
}

impl Lent {
    /// Reads what the file version holds: its bytes and nothing after them. None of a simulated disk.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.data.descriptor()
    }

    /// Has its version turned out to be wrong since?
    pub fn is_wrong(&self) -> bool {
        self.file.discards() != self.discards
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let shared = &self.file.shared;
        let owed_bytes = shared.lending.end(self.data_id);
        if owed_bytes > 0 {
            shared.space.give_back(owed_bytes);
        }
    }
}

impl DiskFile {
    /// Lend it, where it is complete and every page of it was written or matched its checksum since this cache was
    /// opened. Waits for the disk: never on a FUSE thread.
    pub fn lend(self: &Arc<DiskFile>) -> Option<Lent> {
        let place = self.whole_place()?;
        // Only where it could be opened is there anything to count.
        self.shared.descriptors.get(place.data_id).ok()?;
        self.lend_now()
    }

    /// The same without waiting: only where its data file is open already.
    pub fn lend_now(self: &Arc<DiskFile>) -> Option<Lent> {
        let mut content = self.content.lock();
        let place = content.whole_place(self.key().page_count())?;
        let data = self.shared.descriptors.opened(place.data_id)?;
        // Under the lock of the content, under which eviction chooses.
        self.shared.lending.begin(place.data_id);
        let tick = self.shared.uses.fetch_add(1, Ordering::Relaxed);
        content.used(Pages::new(0, self.key().page_count()), tick);
        let discards = content.discards;
        drop(content);
        Some(Lent { data, data_id: place.data_id, file: self.clone(), discards })
    }

    fn whole_place(&self) -> Option<Place> {
        self.content.lock().whole_place(self.key().page_count())
    }
}

impl super::content::Content {
    /// Where it lies, if it is done, in a data file of its own, and every page is known to be right.
    fn whole_place(&self, page_count: u64) -> Option<Place> {
        let done = self.record.as_ref().is_some_and(|record| record.state == State::Done);
        let whole = [&self.durable, &self.written, &self.proven].iter().all(|pages| pages.len() == page_count);
        self.place.filter(|place| done && whole && page_count > 0 && !place.packed && self.is_settled())
    }
}
