//! Data files that are lent: somebody else reads them by their descriptor, past us.
//!
//! Nothing is punched out of a lent file and eviction passes it by. One that has to go all the same (its version turned
//! out to be wrong, a person evicts it) loses its name; its room counts as used until the last borrower has given it back.
//! Pages of it that are found damaged stay where they are until they are written anew in their place, which mends them
//! for the borrowers too; who lent it is told, to have them fetched.

use super::DiskFile;
use super::page_io::DataFile;
use super::record::Place;
use super::state::State;
use super::waiting::Damaged;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Closed files whose every page was found right are known to be so when they are opened again: so many of them, for
/// which their ids take 1 MiB or two.
const PROVEN_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not zero");

/// Which data files are lent, how often, and what is owed to the ledger for those that are deleted; and which need not be
/// read again to be lent.
pub(super) struct Lending {
    lent: Mutex<HashMap<u64, Borrowed>>,
    next: AtomicU64,
    proven: Mutex<LruCache<u64, ()>>,
}

impl Default for Lending {
    fn default() -> Lending {
        Lending { lent: Mutex::default(), next: AtomicU64::default(), proven: Mutex::new(LruCache::new(PROVEN_MAX)) }
    }
}

/// Told that a lent file has lost pages. Under the lock of its content: it may not ask for anything of the file.
type OnDamage = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Borrowed {
    /// Each with what tells it of damage.
    borrowers: Vec<(u64, OnDamage)>,
    owed_bytes: u64,
    /// To be dropped once nobody reads it any more, as far as they have not been written anew by then.
    damaged: Vec<Damaged>,
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

    /// These pages were found damaged. Gives them back where the file is not lent: then they can be dropped at once.
    pub(super) fn put_damaged(&self, damaged: Damaged) -> Option<Damaged> {
        let mut lent = self.lent.lock();
        let Some(borrowed) = lent.get_mut(&damaged.1.data_id) else { return Some(damaged) };
        borrowed.damaged.push(damaged);
        borrowed.borrowers.iter().for_each(|(_, tell)| tell());
        None
    }

    fn has_damage(&self, data_id: u64) -> bool {
        self.lent.lock().get(&data_id).is_some_and(|borrowed| !borrowed.damaged.is_empty())
    }

    fn begin(&self, data_id: u64, on_damage: OnDamage) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lent.lock().entry(data_id).or_default().borrowers.push((number, on_damage));
        number
    }

    /// Returns what it leaves behind, where this was the last one.
    fn end(&self, data_id: u64, number: u64) -> Option<Borrowed> {
        let mut lent = self.lent.lock();
        let borrowed = lent.get_mut(&data_id)?;
        borrowed.borrowers.retain(|&(known, _)| known != number);
        if borrowed.borrowers.is_empty() { lent.remove(&data_id) } else { None }
    }
}

/// A complete file, lent. Dropping it gives it back.
pub struct Lent {
    data: Arc<DataFile>,
    data_id: u64,
    file: Arc<DiskFile>,
    /// Of the file, when it was lent.
    discards: u64,
    number: u64,
}

/// What is known of a lent file by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LentStanding {
    /// It has the bytes of its version.
    Right,
    /// Some of its pages are damaged, and not written anew yet.
    Damaged,
    /// It is not that version, or is damaged and will not be mended.
    Wrong,
}

impl Lent {
    /// Reads what the file version holds: its bytes and nothing after them. None of a simulated disk.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.data.descriptor()
    }

    /// What is known of it by now?
    pub fn standing(&self) -> LentStanding {
        let content = self.file.content.lock();
        let is_named = content.place.is_some_and(|place| place.data_id == self.data_id);
        match () {
            () if content.discards != self.discards => LentStanding::Wrong,
            () if is_named && content.written.len() < self.file.key().page_count() => LentStanding::Damaged,
            // It was evicted before it was mended: what is written now is written elsewhere.
            () if !is_named && self.file.shared.lending.has_damage(self.data_id) => LentStanding::Wrong,
            () => LentStanding::Right,
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let shared = &self.file.shared;
        let Some(left) = shared.lending.end(self.data_id, self.number) else { return };
        for (file, place, pages) in left.damaged {
            shared.commits.put_damaged(file, place, &pages);
        }
        if left.owed_bytes > 0 {
            shared.space.give_back(left.owed_bytes);
        }
    }
}

impl DiskFile {
    /// Open its data file, where it can be lent: [`DiskFile::lend_now`] finds it so. Waits for the disk: never on a FUSE
    /// thread.
    pub fn prepare_to_lend(&self) {
        let place = self.content.lock().whole_place(self.key().page_count());
        if let Some(place) = place {
            // One that cannot be opened is not lent.
            let _ = self.shared.descriptors.get(place.data_id);
        }
    }

    /// Lend it, where it is complete, every page of it was written or matched its checksum since this cache was opened,
    /// and its data file is open. Never waits. `on_damage` is called whenever pages of it are found damaged; it may not
    /// ask for anything of the file there and then.
    pub fn lend_now(self: &Arc<DiskFile>, on_damage: impl Fn() + Send + Sync + 'static) -> Option<Lent> {
        let mut content = self.content.lock();
        let place = content.whole_place(self.key().page_count())?;
        let data = self.shared.descriptors.opened(place.data_id)?;
        // Under the lock of the content, under which eviction chooses and damage is noted.
        let number = self.shared.lending.begin(place.data_id, Box::new(on_damage));
        content.used_whole(self.shared.uses.fetch_add(1, Ordering::Relaxed));
        let discards = content.discards;
        drop(content);
        Some(Lent { data, data_id: place.data_id, file: self.clone(), discards, number })
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

#[cfg(test)]
mod tests {
    use super::super::tests::{MIB, bytes_of, check, job, key, open, put};
    use super::super::{Disk, ReadNow, WriteJob};
    use super::*;
    use crate::chunk::Pages;
    use crate::clock::now;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::time::Duration;

    const SIZE: u64 = 3 * MIB + 100;
    /// With the last one, and 128 KiB of neighbours, which are written past the page cache.
    const ROTTEN: [Pages; 2] = [Pages { start: 7, end: 9 }, Pages { start: 700, end: 769 }];

    fn synced(disk: &Disk) {
        // Bits, then the state, each with a commit of its own.
        (0..3).for_each(|_| assert!(disk.sync(now() + Duration::from_secs(60))));
    }

    fn whole(disk: &Disk) -> Arc<DiskFile> {
        let file = disk.file(&key("f", SIZE));
        put(disk, &file, Pages::of_file(SIZE)).unwrap();
        synced(disk);
        file
    }

    fn lend(file: &Arc<DiskFile>) -> (Lent, Arc<AtomicU64>) {
        let told = Arc::<AtomicU64>::default();
        let counting = told.clone();
        let lent = file.lend_now(move || _ = counting.fetch_add(1, Ordering::Relaxed)).expect("it is whole");
        (lent, told)
    }

    /// Overwrite pages in the data file behind the cache's back, and have it notice.
    fn rot(file: &DiskFile, lent: &Lent) {
        let data = &lent.data;
        for pages in ROTTEN {
            let rotten = vec![0x55; pages.len_bytes(SIZE) as usize];
            let behind = File::options().write(true).open(data.path()).unwrap();
            behind.write_all_at(&rotten, pages.bytes(SIZE).start).unwrap();
            let mut room = vec![0; rotten.len()];
            assert_eq!(file.verify(pages, &mut room), ReadNow::Damaged(vec![pages]));
        }
    }

    fn borrowed_bytes(lent: &Lent) -> Vec<u8> {
        let file = File::from(lent.descriptor().unwrap().try_clone_to_owned().unwrap());
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn what_is_damaged_while_it_is_lent_stays_in_its_place_until_it_is_written_anew_there() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let disk = open(dir.path(), 64 * MIB);
        let file = whole(&disk);
        let charged = || file.content.lock().charged_bytes;
        let whole_charge = charged();
        let (lent, told) = lend(&file);
        rot(&file, &lent);
        synced(&disk);
        assert_eq!((told.load(Ordering::Relaxed), lent.standing()), (2, LentStanding::Damaged));
        assert_eq!(borrowed_bytes(&lent)[7 * 4096], 0x55, "a hole would be zeros for all that was not damaged, too");
        assert!(file.lend_now(|| {}).is_none() && file.missing(Pages::of_file(SIZE)) == ROTTEN);
        put(&disk, &file, ROTTEN[0]).unwrap();
        let (path, (longest, seen)) = (lent.data.path().to_path_buf(), std::sync::mpsc::channel());
        let written = Box::new(move || _ = longest.send(path.metadata().unwrap().len()));
        assert!(disk.write(WriteJob { written: Some(written), ..job(&file, ROTTEN[1]) }).is_ok());
        assert_eq!(seen.recv(), Ok(SIZE), "its readers see no byte more at any time");
        assert_eq!(lent.standing(), LentStanding::Right);
        let mut right = bytes_of(file.key(), Pages::of_file(SIZE));
        right.truncate(SIZE as usize);
        assert!(borrowed_bytes(&lent) == right);
        synced(&disk);
        drop(lent);
        synced(&disk);
        assert_eq!((charged(), file.state().0), (whole_charge, State::Done));
        assert_eq!(check(&file), Pages::of_file(SIZE).count());
        assert!(file.lend_now(|| {}).is_some());
    }

    #[test]
    fn what_was_not_mended_is_dropped_when_it_is_given_back() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let disk = open(dir.path(), 64 * MIB);
        let file = whole(&disk);
        let charged = || file.content.lock().charged_bytes;
        let whole_charge = charged();
        let (lent, _) = lend(&file);
        rot(&file, &lent);
        put(&disk, &file, ROTTEN[0]).unwrap();
        synced(&disk);
        assert_eq!(charged(), whole_charge);
        drop(lent);
        synced(&disk);
        assert_eq!(charged(), whole_charge - ROTTEN[1].count() * 4096);
        assert_eq!((file.state().0, file.missing(Pages::of_file(SIZE))), (State::Transferring, vec![ROTTEN[1]]));
    }

    #[test]
    fn one_that_was_evicted_before_it_was_mended_is_wrong() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let disk = open(dir.path(), 64 * MIB);
        let file = whole(&disk);
        let (lent, _) = lend(&file);
        disk.evict(&[file.key().clone()]);
        synced(&disk);
        assert_eq!(lent.standing(), LentStanding::Right, "its bytes are still its version's");
        drop(lent);
        let file = whole(&disk);
        let (lent, _) = lend(&file);
        rot(&file, &lent);
        disk.evict(&[file.key().clone()]);
        synced(&disk);
        assert_eq!(lent.standing(), LentStanding::Wrong);
        let again = whole(&disk);
        assert_eq!(lent.standing(), LentStanding::Wrong);
        assert_eq!(lend(&again).0.standing(), LentStanding::Right);
    }
}
