//! What waits for the committer, and when it is due.

use super::burst::Owed;
use super::record::Place;
use super::transaction::Discarded;
use super::{DiskFile, Done};
use crate::chunk::Pages;
use crate::clock::{self, Time};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How often an idle committer looks at the disk's free space, and whether a failed disk is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Uses of files are no reason to wake the disk for; they are written down at the latest after this.
const CLOSED_WAIT: Duration = Duration::from_secs(10);
/// Closed files that are remembered until then.
const CLOSED_MAX: usize = 1024;
/// Bytes of listings that wait for a commit; more than that is not kept.
const LISTING_BYTES_WAITING_MAX: usize = 32 << 20;

/// What waits for the committer.
pub(super) struct Commits {
    state: Mutex<Waiting>,
    changed: Condvar,
    every: Duration,
}

#[derive(Default)]
struct Waiting {
    work: Work,
    /// When the first thing came that must not wait long.
    since: Option<Time>,
    closed_since: Option<Time>,
    /// Being deleted, until that is committed.
    discarding: HashSet<Vec<u8>>,
    room_bytes: u64,
    listing_bytes: usize,
    flush_asked: u64,
    flush_done: u64,
    stopped: bool,
}

/// Pages of a file that did not match their checksums, and where they lie.
pub(super) type Damaged = (Arc<DiskFile>, Place, Vec<Pages>);

/// What one commit takes.
#[derive(Default)]
pub(super) struct Work {
    pub(super) written: Vec<Written>,
    /// Files whose record is to be written although no page of theirs may be durable yet.
    pub(super) announced: Vec<Arc<DiskFile>>,
    pub(super) noted: Vec<Arc<DiskFile>>,
    /// Complete files that want their exact length, and whether to verify them first.
    pub(super) complete: Vec<(Arc<DiskFile>, bool)>,
    pub(super) finished: Vec<Arc<DiskFile>>,
    pub(super) damaged: Vec<Damaged>,
    pub(super) discarded: Vec<Discarded>,
    pub(super) closed: Vec<(Place, u64)>,
    pub(super) listings: BTreeMap<Vec<u8>, Vec<u8>>,
    /// By the labels of mirrors; nothing: to be forgotten.
    pub(super) mirrors: BTreeMap<u64, Option<Vec<u8>>>,
    pub(super) deleted: Vec<u64>,
    /// Packs that may have lost their last file.
    pub(super) emptied: Vec<u64>,
    pub(super) room_bytes: u64,
    pub(super) state_damaged: bool,
    pub(super) flush: u64,
}

/// Pages in their data file, in this life of the file.
pub(super) struct Written {
    pub(super) file: Arc<DiskFile>,
    pub(super) pages: Pages,
    pub(super) life: u64,
    pub(super) done: Option<Done>,
    /// Where they are in the kernel's memory only.
    pub(super) owed: Option<Arc<Owed>>,
}

impl Commits {
    pub(super) fn new(every: Duration) -> Commits {
        Commits { state: Mutex::default(), changed: Condvar::new(), every }
    }

    pub(super) fn put_written(&self, written: Written) {
        self.put(|work| work.written.push(written));
    }

    pub(super) fn put_announced(&self, file: Arc<DiskFile>) {
        self.put(|work| work.announced.push(file));
    }

    pub(super) fn put_note(&self, file: Arc<DiskFile>) {
        self.put(|work| work.noted.push(file));
    }

    pub(super) fn put_complete(&self, file: Arc<DiskFile>, verify: bool) {
        self.put(|work| work.complete.push((file, verify)));
    }

    pub(super) fn put_finished(&self, file: Arc<DiskFile>) {
        self.put(|work| work.finished.push(file));
    }

    pub(super) fn put_damaged(&self, file: Arc<DiskFile>, place: Place, pages: &[Pages]) {
        self.put(|work| work.damaged.push((file, place, pages.to_vec())));
    }

    pub(super) fn put_discarded(&self, key: Vec<u8>, place: Place, charged_bytes: u64) {
        let mut state = self.state.lock();
        state.discarding.insert(key.clone());
        state.work.discarded.push(Discarded { key, place, charged_bytes });
        self.touch(&mut state);
    }

    pub(super) fn put_emptied(&self, packs: Vec<u64>) {
        if !packs.is_empty() {
            self.put(|work| work.emptied.extend(packs));
        }
    }

    /// What waits to be deleted is not in the ledger any more.
    pub(super) fn charge_nothing(&self) {
        self.state.lock().work.discarded.iter_mut().for_each(|gone| gone.charged_bytes = 0);
    }

    pub(super) fn put_state_damaged(&self) {
        self.put(|work| work.state_damaged = true);
    }

    pub(super) fn put_deleted(&self, data_id: u64) {
        // Not worth a commit of its own: deleting it again after a crash does no harm.
        self.state.lock().work.deleted.push(data_id);
    }

    pub(super) fn put_closed(&self, place: Place, used_tick: u64) {
        let mut state = self.state.lock();
        state.work.closed.push((place, used_tick));
        state.closed_since.get_or_insert_with(clock::now);
        if state.work.closed.len() >= CLOSED_MAX {
            self.touch(&mut state);
        }
    }

    pub(super) fn put_listing(&self, folder: Vec<u8>, bytes: Vec<u8>) {
        let mut state = self.state.lock();
        if state.listing_bytes + bytes.len() <= LISTING_BYTES_WAITING_MAX {
            state.listing_bytes += bytes.len();
            state.work.listings.insert(folder, bytes);
            self.touch(&mut state);
        }
    }

    pub(super) fn put_mirror(&self, label: u64, bytes: Option<Vec<u8>>) {
        self.put(|work| _ = work.mirrors.insert(label, bytes));
    }

    /// A listing that waits for its commit.
    pub(super) fn listing(&self, folder: &[u8]) -> Option<Vec<u8>> {
        self.state.lock().work.listings.get(folder).cloned()
    }

    pub(super) fn is_discarding(&self, key: &[u8]) -> bool {
        self.state.lock().discarding.contains(key)
    }

    /// Is it to be deleted by a commit that has not been taken yet?
    pub(super) fn will_discard(&self, key: &[u8]) -> bool {
        self.state.lock().work.discarded.iter().any(|gone| gone.key == key)
    }

    /// Ask for room; the answer shows in the ledger.
    pub(super) fn want_room(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.room_bytes = state.room_bytes.max(bytes);
        self.changed.notify_all();
    }

    /// Wait until everything put before is committed or has failed. `false`: not by `deadline`.
    pub(super) fn flush(&self, deadline: Time) -> bool {
        let mut state = self.state.lock();
        state.flush_asked += 1;
        let asked = state.flush_asked;
        self.changed.notify_all();
        while state.flush_done < asked {
            let left = deadline.since(clock::now());
            if left.is_zero() {
                return false;
            }
            self.changed.wait_for(&mut state, left);
        }
        true
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    fn put(&self, add: impl FnOnce(&mut Work)) {
        let mut state = self.state.lock();
        add(&mut state.work);
        self.touch(&mut state);
    }

    fn touch(&self, state: &mut Waiting) {
        if state.since.is_none() {
            state.since = Some(clock::now());
            self.changed.notify_all();
        }
    }

    /// The next work, when it is due; an empty one now and then; `None` to end.
    pub(super) fn take(&self) -> Option<Work> {
        let mut state = self.state.lock();
        let look_at = clock::now() + LOOK_EVERY;
        loop {
            let now = clock::now();
            let due = [state.since.map(|at| at + self.every), state.closed_since.map(|at| at + CLOSED_WAIT)];
            let due = due.into_iter().flatten().min().unwrap_or(look_at).min(look_at);
            let asked = state.flush_asked > state.flush_done || state.room_bytes > 0;
            if state.stopped && !asked {
                return None;
            }
            if !asked && due <= now && due == look_at {
                // Only a look at the disk: nothing is worth a commit yet.
                return Some(Work { flush: state.flush_asked, ..Work::default() });
            }
            if asked || due <= now {
                let mut work = std::mem::take(&mut state.work);
                work.flush = state.flush_asked;
                work.room_bytes = std::mem::take(&mut state.room_bytes);
                (state.since, state.closed_since, state.listing_bytes) = (None, None, 0);
                return Some(work);
            }
            self.changed.wait_for(&mut state, due.since(now));
        }
    }

    /// These are gone from the tables. Said while the files of the same commit are still in memory:
    /// who opens one of them later must find what was committed after it was discarded.
    pub(super) fn discarded(&self, discarded: &[Discarded]) {
        let mut state = self.state.lock();
        for gone in discarded {
            if !state.work.discarded.iter().any(|later| later.key == gone.key) {
                state.discarding.remove(&gone.key);
            }
        }
    }

    /// What was taken is committed.
    pub(super) fn finished(&self, flush: u64) {
        let mut state = self.state.lock();
        state.flush_done = state.flush_done.max(flush);
        self.changed.notify_all();
    }

    /// What was taken has failed: what is to be deleted stays so.
    pub(super) fn failed(&self, flush: u64, discarded: Vec<Discarded>, deleted: Vec<u64>) {
        let mut state = self.state.lock();
        state.work.discarded.splice(0..0, discarded);
        state.work.deleted.extend(deleted);
        state.flush_done = state.flush_done.max(flush);
        self.changed.notify_all();
    }

    /// All that waits, due or not.
    pub(super) fn take_all(&self) -> Work {
        std::mem::take(&mut self.state.lock().work)
    }

    /// Wait a moment. `false`: it has ended.
    pub(super) fn pause(&self) -> bool {
        let mut state = self.state.lock();
        if !state.stopped {
            self.changed.wait_for(&mut state, LOOK_EVERY);
        }
        !state.stopped
    }
}
