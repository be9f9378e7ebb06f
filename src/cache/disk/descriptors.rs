//! The data files that are open: few enough for any descriptor limit, whatever the number of handles.

use super::layout::Layout;
use super::page_io::DataFile;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Data files kept open; each takes up to three descriptors, and 1,024 is the usual limit of a process.
const OPEN_MAX: usize = 128;

/// Data files by id, the least recently used one closed first.
pub(super) struct Descriptors {
    layout: Layout,
    open: Mutex<LruCache<u64, Arc<DataFile>>>,
    /// Data files with holes that may not be on the disk yet.
    punched: Mutex<BTreeSet<u64>>,
}

impl Descriptors {
    pub(super) fn new(layout: &Layout) -> Descriptors {
        let room = NonZeroUsize::new(OPEN_MAX).expect("128 is not zero");
        Descriptors { layout: layout.clone(), open: Mutex::new(LruCache::new(room)), punched: Mutex::default() }
    }

    /// One that is open already: never waits for the disk.
    pub(super) fn opened(&self, data_id: u64) -> Option<Arc<DataFile>> {
        self.open.lock().get(&data_id).cloned()
    }

    /// Open it where it is not. Waits for the disk.
    pub(super) fn get(&self, data_id: u64) -> io::Result<Arc<DataFile>> {
        if let Some(file) = self.opened(data_id) {
            return Ok(file);
        }
        let file = Arc::new(self.layout.open_data(data_id)?);
        Ok(self.keep(data_id, file))
    }

    /// Make it. Waits for the disk.
    pub(super) fn create(&self, data_id: u64) -> io::Result<Arc<DataFile>> {
        let file = Arc::new(self.layout.create_data(data_id)?);
        Ok(self.keep(data_id, file))
    }

    /// Room of it is being given back.
    pub(super) fn punched(&self, data_id: u64) {
        self.punched.lock().insert(data_id);
    }

    /// Has room been given back since it was last synced?
    pub(super) fn is_punched(&self, data_id: u64) -> bool {
        self.punched.lock().contains(&data_id)
    }

    /// All of it is on the disk. Only the committer says so, who is the one that punches, too.
    pub(super) fn synced(&self, data_id: u64) {
        self.punched.lock().remove(&data_id);
    }

    /// Let go of one that is about to be deleted; whoever reads from it still can.
    pub(super) fn forget(&self, data_id: u64) {
        self.synced(data_id);
        let file = self.open.lock().pop(&data_id);
        drop(file);
    }

    /// Let go of all of them.
    pub(super) fn forget_all(&self) {
        let mut open = self.open.lock();
        let room = open.cap();
        let all = std::mem::replace(&mut *open, LruCache::new(room));
        drop(open);
        drop(all);
    }

    /// The other one where two opened it at once.
    fn keep(&self, data_id: u64, file: Arc<DataFile>) -> Arc<DataFile> {
        let mut open = self.open.lock();
        if let Some(other) = open.get(&data_id) {
            return other.clone();
        }
        // Closing waits for nobody: the last user does it, outside the lock.
        let closed = open.push(data_id, file.clone());
        drop(open);
        drop(closed);
        file
    }
}
