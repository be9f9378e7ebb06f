//! One file version on disk, as those who read and write it see it.

use super::content::Content;
use super::page_io::{Checked, DataFile};
use super::record::{FileKey, Place, all_set, fill, gaps, runs};
use super::shared::Shared;
use super::state::State;
use crate::chunk::{PAGE_BYTES, Pages};
use parking_lot::{Condvar, Mutex};
use roaring::RoaringBitmap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A file version that somebody has open (or is writing). Its bitmap is in memory.
pub struct DiskFile {
    pub(super) number: u64,
    key: FileKey,
    encoded: Vec<u8>,
    pub(super) shared: Arc<Shared>,
    pub(super) content: Mutex<Content>,
    /// Signalled when room that was being given back has gone.
    pub(super) punched: Condvar,
}

/// What became of a read.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadNow {
    /// All bytes are there and match their checksums.
    Done,
    /// The bytes are held, but the disk would have to be waited for: [`DiskFile::read_blocking`].
    WouldBlock,
    /// Not all pages are held (any more).
    NotHeld,
    /// These pages did not match their checksums and are no longer held: fetch them again.
    Damaged(Vec<Pages>),
    /// The disk failed to read what is held. Fetch it.
    Failed,
}

/// In which way pages are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Now,
    Waiting,
    Verifying,
}

impl DiskFile {
    pub(super) fn new(shared: Arc<Shared>, number: u64, key: FileKey, content: Content) -> DiskFile {
        let encoded = key.encode();
        let content = Mutex::new(content);
        DiskFile { number, key, encoded, shared, content, punched: Condvar::new() }
    }

    /// Which file version this is.
    pub fn key(&self) -> &FileKey {
        &self.key
    }

    /// Can all of `pages` be read from disk?
    pub fn held(&self, pages: Pages) -> bool {
        self.content.lock().holds(pages)
    }

    /// Are all of `pages` held, and will be after a crash?
    pub fn durable(&self, pages: Pages) -> bool {
        let content = self.content.lock();
        content.holds(pages) && all_set(&content.durable, pages)
    }

    /// The runs of `pages` that are not held.
    pub fn missing(&self, pages: Pages) -> Vec<Pages> {
        gaps(&self.content.lock().written, pages)
    }

    /// The runs of pages that are held.
    pub fn held_runs(&self) -> Vec<Pages> {
        runs(&self.content.lock().written, Pages::new(0, self.key.page_count()))
    }

    /// The runs of pages that are held, and of those the ones that a crash leaves.
    pub fn held_and_durable_runs(&self, pages: Pages) -> (Vec<Pages>, Vec<Pages>) {
        let content = self.content.lock();
        (runs(&content.written, pages), runs(&(&content.written & &content.durable), pages))
    }

    /// How many bytes of the file are held.
    pub fn held_bytes(&self) -> u64 {
        self.bytes_in(&self.content.lock().written)
    }

    /// How many bytes of the file are held, and will be after a crash.
    pub fn durable_bytes(&self) -> u64 {
        let content = self.content.lock();
        self.bytes_in(&(&content.written & &content.durable))
    }

    /// The same of some pages.
    pub fn durable_bytes_in(&self, pages: Pages) -> u64 {
        let content = self.content.lock();
        let runs = runs(&content.durable, pages).into_iter();
        let held = runs.flat_map(|durable| self::runs(&content.written, durable));
        held.map(|run| run.len_bytes(self.key.size_bytes)).sum()
    }

    fn bytes_in(&self, pages: &RoaringBitmap) -> u64 {
        let last = self.key.page_count().checked_sub(1).filter(|&last| pages.contains(last as u32));
        pages.len() * PAGE_BYTES - last.map_or(0, |last| (last + 1) * PAGE_BYTES - self.key.size_bytes)
    }

    /// How far it is, as last committed, and the revision that says so (0: nothing is kept).
    pub fn state(&self) -> (State, u64) {
        let content = self.content.lock();
        content.record.as_ref().map_or((State::Idle, 0), |record| (record.state, record.revision))
    }

    /// Read `pages` into `into` without waiting for the disk. `into` has room for all of their bytes:
    /// whole pages, or to the exact end of the file; what lies beyond the end is zeros.
    pub fn read_now(&self, pages: Pages, into: &mut [u8]) -> ReadNow {
        self.read(pages, into, How::Now)
    }

    /// The same, waiting for the disk: never on a FUSE thread.
    pub fn read_blocking(&self, pages: Pages, into: &mut [u8]) -> ReadNow {
        let _operation = self.shared.condition.operation();
        self.read(pages, into, How::Waiting)
    }

    /// The same to see whether they are right on the disk: what the kernel has of them in memory is not asked, and it is
    /// no use that eviction counts.
    pub fn verify(&self, pages: Pages, into: &mut [u8]) -> ReadNow {
        let _operation = self.shared.condition.operation();
        self.read(pages, into, How::Verifying)
    }

    /// What the last [`DiskFile::set_note`] said.
    pub fn note(&self) -> Option<Vec<u8>> {
        self.content.lock().note.clone()
    }

    /// Keep a few bytes with the file version (its validators). Durable with the next commit, once
    /// the version has any durable page.
    pub fn set_note(self: &Arc<DiskFile>, bytes: Vec<u8>) {
        let mut content = self.content.lock();
        if content.note.as_ref() == Some(&bytes) {
            return;
        }
        content.note = Some(bytes);
        let kept = content.record.is_some();
        drop(content);
        if kept {
            self.shared.commits.put_note(self.clone());
        }
    }

    /// This version's bytes are wrong or gone: hold nothing of it from now on, and delete it.
    pub fn discard(&self) {
        let mut content = self.content.lock();
        let (place, charged) = (content.place, content.charged_bytes);
        content.note = None;
        content.reset();
        content.discards += 1;
        // Under the lock: no commit may see the new content before it knows of this.
        if let Some(place) = place {
            self.shared.commits.put_discarded(self.encoded.clone(), place, charged);
        }
    }

    /// How often it was discarded: for [`super::WriteJob::discards`].
    pub fn discards(&self) -> u64 {
        self.content.lock().discards
    }

    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Hold nothing of it from now on, and delete it; what is noted of it stays with who has it open. Says how many bytes
    /// of the file were held, and where.
    pub(super) fn let_go(&self) -> (u64, Option<Place>) {
        let held_bytes = self.held_bytes();
        let mut content = self.content.lock();
        let (place, charged) = (content.place, content.charged_bytes);
        content.reset();
        // Under the lock, as in `discard`.
        if let Some(place) = place {
            self.shared.commits.put_discarded(self.encoded.clone(), place, charged);
        }
        (held_bytes, place)
    }

    fn read(&self, pages: Pages, into: &mut [u8], how: How) -> ReadNow {
        let size_bytes = pages.len_bytes(self.key.size_bytes) as usize;
        if pages.is_empty() || into.len() < size_bytes || into.len() as u64 > pages.count() * PAGE_BYTES {
            debug_assert!(pages.is_empty(), "the room does not fit the pages");
            return if pages.is_empty() { ReadNow::Done } else { ReadNow::NotHeld };
        }
        let now = how == How::Now;
        let Some((place, epoch, proven)) = self.place_of(pages, how) else { return ReadNow::NotHeld };
        let (bytes, beyond) = into.split_at_mut(size_bytes);
        beyond.fill(0);
        let data = match now {
            true => self.shared.descriptors.opened(place.data_id).ok_or(io::ErrorKind::WouldBlock.into()),
            false => self.shared.descriptors.get(place.data_id),
        };
        let read = |data: Arc<DataFile>| {
            let start = place.base_page + pages.start;
            if how == How::Verifying {
                data.forget_cached(Pages::new(start, start + pages.count()));
            }
            data.read(start, bytes, now)
        };
        match data.and_then(read) {
            Ok(Checked::Right) => {
                self.count_read(how, size_bytes);
                if !proven {
                    self.prove(pages, epoch);
                }
                ReadNow::Done
            }
            Ok(Checked::Damaged(runs)) => {
                self.count_read(how, size_bytes);
                let back = |run: &Pages| Pages::new(run.start - place.base_page, run.end - place.base_page);
                self.lose(runs.iter().map(back).collect(), epoch)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ReadNow::WouldBlock,
            // Deleted behind our back: as good as damaged.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.lose(vec![pages], epoch),
            Err(error) => {
                self.shared.metrics.disk_errors.add(1);
                self.shared.condition.fail(format!("reading the cache failed: {error}"));
                ReadNow::Failed
            }
        }
    }

    fn count_read(&self, how: How, bytes: usize) {
        let metrics = &self.shared.metrics;
        let counter = if how == How::Verifying { &metrics.disk_verified_bytes } else { &metrics.disk_read_bytes };
        counter.add(bytes as u64);
    }

    /// They are right, unless they were taken away in the middle of the read.
    fn prove(&self, pages: Pages, epoch: u64) {
        let mut content = self.content.lock();
        if content.epoch == epoch {
            fill(&mut content.proven, pages, true);
        }
    }

    /// Where `pages` lie, the epoch, and whether they are known to be right.
    fn place_of(&self, pages: Pages, how: How) -> Option<(Place, u64, bool)> {
        let mut content = self.content.lock();
        if !content.holds(pages) {
            return None;
        }
        if how != How::Verifying {
            let tick = self.shared.uses.fetch_add(1, Ordering::Relaxed);
            content.used(pages, tick);
        }
        let proven = all_set(&content.proven, pages);
        content.place.map(|place| (place, content.epoch, proven))
    }

    /// Pages that did not pass their check, unless they were taken away in the middle of the read.
    fn lose(&self, damaged: Vec<Pages>, epoch: u64) -> ReadNow {
        let mut content = self.content.lock();
        if content.epoch != epoch {
            return ReadNow::NotHeld;
        }
        for &pages in &damaged {
            fill(&mut content.written, pages, false);
            fill(&mut content.proven, pages, false);
            self.shared.metrics.disk_damaged_pages.add(pages.count());
        }
        content.epoch += 1;
        // Kept until it is committed: who opens the file meanwhile must not find the old bits again.
        if let (Some(place), Some(file)) = (content.place, self.shared.opened(&self.encoded)) {
            self.shared.drop_damaged(file, place, &damaged);
        }
        drop(content);
        tracing::warn!(path = %String::from_utf8_lossy(&self.key.path), ?damaged, "cached pages are damaged, fetching them again");
        ReadNow::Damaged(damaged)
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        let content = self.content.get_mut();
        self.shared.forget(&self.encoded);
        let Some(place) = content.place else { return };
        if !place.packed && content.proven.len() == self.key.page_count() && content.proven == content.durable {
            self.shared.lending.remember_proven(place.data_id);
        }
        let empty = content.written.is_empty() && content.durable.is_empty();
        if empty && !place.packed {
            self.shared.commits.put_discarded(std::mem::take(&mut self.encoded), place, content.charged_bytes);
        } else if content.record.is_some() && (content.used_tick > 0 || content.touched) {
            self.shared.commits.put_closed(place, content.used_tick);
        }
    }
}
