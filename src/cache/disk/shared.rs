//! What the threads of one disk cache share, and the table of files that somebody has open.

use super::DiskFile;
use super::burst::Burst;
use super::content::Content;
use super::descriptors::Descriptors;
use super::drive::Drive;
use super::evict::Evicting;
use super::health::{Condition, Health};
use super::layout::Layout;
use super::lending::Lending;
use super::lock::Lock;
use super::pins::Pins;
use super::place::Places;
use super::queue::Queue;
use super::readers::Readers;
use super::record::{FileKey, Place};
use super::scrub::Scrub;
use super::space::Space;
use super::state::State;
use super::store::{LISTINGS, Loaded, MIRRORS, Store, StoreError, from_redb};
use super::vanished::Identity;
use super::waiting::Commits;
use crate::chunk::Pages;
use crate::metrics::Metrics;
use parking_lot::Mutex;
use redb::{AccessGuard, ReadableTable};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Files whose names fall together load one after the other; 16 let the readers work side by side.
const LOAD_LOCKS: usize = 16;

/// What a test may look at or make fail, just before it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Pages and checksums of this data file are written.
    Write(u64),
    /// Its pages are synced.
    SyncPages(u64),
    /// Its checksums are synced.
    SyncSums(u64),
    /// A transaction begins.
    Commit,
    /// Room is given back to the file system.
    Punch(u64),
    /// A data file is deleted.
    Delete(u64),
}

/// Called before each step; its error is taken for the disk's.
pub(super) type Seam = Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>;

/// The times that matter, and the tests' seams.
#[derive(Clone)]
pub(super) struct Tuning {
    /// Bits follow their bytes at most this often: each commit costs some four syncs.
    pub(super) commit_every: Duration,
    /// How long a lone page waits for neighbours.
    pub(super) lone_wait: Duration,
    /// The scrub begins again no sooner than this after it last began.
    pub(super) scrub_every: Duration,
    /// It goes on once the disk had no other work for so long.
    pub(super) scrub_quiet: Duration,
    /// A disk that takes longer than this for one operation hangs. Slow USB sticks need some seconds
    /// for a sync of half a second's worth of fetching.
    pub(super) hang_after: Duration,
    pub(super) seam: Option<Seam>,
    pub(super) drive: Drive,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            // Together with the wait for a run, the wait for neighbours and the sync itself, a crash costs less than a
            // second.
            commit_every: Duration::from_millis(200),
            lone_wait: Duration::from_millis(150),
            // A disk is read through once a week by those who know them (RAID arrays, ZFS by habit: a month).
            scrub_every: Duration::from_secs(7 * 24 * 60 * 60),
            scrub_quiet: Duration::from_secs(2),
            hang_after: Duration::from_secs(20),
            seam: None,
            drive: Drive::default(),
        }
    }
}

/// See the module.
pub(super) struct Shared {
    pub(super) tuning: Tuning,
    pub(super) metrics: Arc<Metrics>,
    pub(super) layout: Layout,
    pub(super) store: Store,
    pub(super) space: Space,
    pub(super) condition: Condition,
    pub(super) descriptors: Descriptors,
    pub(super) lending: Lending,
    pub(super) queue: Queue,
    pub(super) burst: Arc<Burst>,
    pub(super) commits: Commits,
    pub(super) readers: Readers,
    pub(super) places: Places,
    pub(super) pins: Pins,
    pub(super) scrub: Scrub,
    pub(super) evicting: Mutex<Evicting>,
    /// The state file that was opened last.
    pub(super) identity: Mutex<Option<Identity>>,
    /// Counts uses of files and pages: the clock of eviction. Goes on where the last session was.
    pub(super) uses: AtomicU64,
    /// A damaged cache is being deleted; nothing is written meanwhile.
    pub(super) clearing: AtomicBool,
    pub(super) files: Mutex<HashMap<Vec<u8>, Weak<DiskFile>>>,
    pub(super) loads: [Mutex<()>; LOAD_LOCKS],
    pub(super) file_numbers: AtomicU64,
    pub(super) lock: Mutex<Option<Lock>>,
    /// For the lock: the mountpoint.
    pub(super) owner: String,
}

impl Shared {
    /// The file, loaded where nobody has it open. `used`: it counts as a use for eviction.
    pub(super) fn file(self: &Arc<Shared>, key: &FileKey, used: bool) -> Arc<DiskFile> {
        let encoded = key.encode();
        let spread = crc32c::crc32c(&encoded) as usize % LOAD_LOCKS;
        // One load at a time per name, or two would hold different truths about it.
        let _alone = self.loads[spread].lock();
        let there = self.opened(&encoded);
        let file = there.unwrap_or_else(|| {
            let loaded = self.load(&encoded);
            let finish = loaded.as_ref().is_some_and(|loaded| loaded.record.state == State::Committing);
            let number = self.file_numbers.fetch_add(1, Ordering::Relaxed);
            let mut content = Content::of(loaded);
            if content.place.is_some_and(|place| !place.packed && self.lending.recall_proven(place.data_id)) {
                content.proven = content.durable.clone();
            }
            let file = Arc::new(DiskFile::new(self.clone(), number, key.clone(), content));
            self.files.lock().insert(encoded, Arc::downgrade(&file));
            if finish {
                self.commits.put_complete(file.clone(), true);
            }
            file
        });
        if used {
            file.content.lock().used_tick = self.uses.fetch_add(1, Ordering::Relaxed);
        }
        file
    }

    /// Nobody has the file any more; unless somebody has opened it again since.
    pub(super) fn forget(&self, encoded: &[u8]) {
        let mut files = self.files.lock();
        if files.get(encoded).is_some_and(|file| file.strong_count() == 0) {
            files.remove(encoded);
        }
    }

    /// A file that somebody has.
    pub(super) fn opened(&self, encoded: &[u8]) -> Option<Arc<DiskFile>> {
        self.files.lock().get(encoded).and_then(Weak::upgrade)
    }

    /// These pages are not to be held any more: not before the last borrower of a lent file has given it back. Under the
    /// lock of its content, under which it is lent.
    pub(super) fn drop_damaged(&self, file: Arc<DiskFile>, place: Place, pages: &[Pages]) {
        if let Some((file, place, pages)) = self.lending.put_damaged((file, place, pages.to_vec())) {
            self.commits.put_damaged(file, place, &pages);
        }
    }

    /// Everybody's files.
    pub(super) fn open_files(&self) -> Vec<Arc<DiskFile>> {
        // Outside the lock: dropping the last one takes it.
        let weak: Vec<_> = self.files.lock().values().cloned().collect();
        weak.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn health(&self) -> Health {
        match self.clearing.load(Ordering::Relaxed) {
            true => {
                let why = "a damaged cache is being cleared".to_owned();
                Health::ReadingThrough { why, since: crate::clock::now() }
            }
            false => self.condition.health(),
        }
    }

    pub(super) fn is_writable(&self) -> bool {
        !self.clearing.load(Ordering::Relaxed) && self.condition.is_ok()
    }

    pub(super) fn listing(&self, folder: &[u8]) -> Option<Vec<u8>> {
        if let Some(bytes) = self.commits.listing(folder) {
            return Some(bytes);
        }
        let _operation = self.condition.operation();
        let found = self.store.read(|transaction| {
            let table = transaction.open_table(LISTINGS).map_err(from_redb)?;
            Ok(table.get(folder).map_err(from_redb)?.map(|row| row.value().to_vec()))
        });
        found.unwrap_or_else(|error| {
            self.store_failed(&error);
            None
        })
    }

    pub(super) fn listings(&self, mut each: impl FnMut(&[u8], &[u8])) {
        let _operation = self.condition.operation();
        let result = self.store.read(|transaction| {
            let table = transaction.open_table(LISTINGS).map_err(from_redb)?;
            for row in table.iter().map_err(from_redb)? {
                let (folder, bytes) = row.map_err(from_redb)?;
                each(folder.value(), bytes.value());
            }
            Ok(())
        });
        if let Err(error) = result {
            self.store_failed(&error);
        }
    }

    pub(super) fn mirrors(&self) -> Vec<(u64, Vec<u8>)> {
        let _operation = self.condition.operation();
        let found = self.store.read(|transaction| {
            let table = transaction.open_table(MIRRORS).map_err(from_redb)?;
            let rows = table.iter().map_err(from_redb)?;
            let row = |row: Result<(AccessGuard<u64>, AccessGuard<&[u8]>), _>| {
                let (label, bytes) = row.map_err(from_redb)?;
                Ok((label.value(), bytes.value().to_vec()))
            };
            rows.map(row).collect()
        });
        found.unwrap_or_else(|error| {
            self.store_failed(&error);
            Vec::new()
        })
    }

    /// Tell the committer, which is the one that repairs.
    pub(super) fn store_failed(&self, error: &StoreError) {
        self.metrics.disk_errors.add(1);
        match error {
            StoreError::Damaged(_) => self.commits.put_state_damaged(),
            StoreError::Io(_) => self.condition.fail(error.to_string()),
        }
    }

    /// The tests' seam.
    pub(super) fn step(&self, step: Step) -> io::Result<()> {
        self.tuning.seam.as_ref().map_or(Ok(()), |seam| seam(step))
    }

    fn load(&self, encoded: &[u8]) -> Option<Loaded> {
        // Not yet deleted, and no longer true.
        if self.commits.is_discarding(encoded) {
            return None;
        }
        let _operation = self.condition.operation();
        self.store.load(encoded).unwrap_or_else(|error| {
            self.store_failed(&error);
            None
        })
    }
}
