//! The disk cache: sparse data files with a checksum per page, and redb for everything small.
//!
//! A write travels `queue` -> `writer` (into the data file: readable) -> `commit` (synced, then one
//! transaction with the bits: durable). A page's bit is only ever on disk together with its bytes;
//! eviction goes the other way round: bits first, then the bytes. `space` is the ledger that bounds
//! what is on disk, `health` turns the disk off while it fails or hangs: then nothing new is kept,
//! what is held is still served, and no reader ever sees an error because of it.
//!
//! Files up to one chunk lie together in *packs*, data files that are evicted whole.

mod backend;
mod burst;
mod by_hand;
mod commit;
mod content;
mod descriptors;
mod drive;
mod evict;
mod fail_point;
mod file;
mod finish;
mod gate;
mod health;
mod jobs;
mod layout;
mod leaf;
mod lending;
mod lock;
mod page_io;
mod pins;
mod place;
mod queue;
mod readers;
mod record;
mod recover;
mod scrub;
mod shared;
mod space;
mod state;
mod store;
mod transaction;
mod vanished;
mod waiting;
mod writer;

#[cfg(test)]
mod burst_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod flip_tests;
#[cfg(test)]
mod keeping_tests;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;

pub use file::{DiskFile, ReadNow};
pub use health::Health;
pub use lending::{Lent, LentStanding};
pub use lock::user_of;
pub use pins::{Pin, PinError};
pub use record::FileKey;
pub use state::State;

use crate::chunk::{PAGE_BYTES, Pages};
use crate::clock::{self, Time};
use crate::metrics::Metrics;
use drive::Drive;
use parking_lot::Mutex;
use shared::{Shared, Tuning};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use store::StoreError;

/// Ending waits this long for what is queued to become durable, then leaves it to be fetched again.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// The part of a disk's free space that is used unless someone says otherwise.
const DEFAULT_SHARE: u64 = 10;

/// What the disk cache is told. Sizes in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The cache folder of the dataset; made where it is missing.
    pub dir: PathBuf,
    /// Most bytes that everything in the folder may take, at every instant.
    pub size_limit_bytes: u64,
    /// Free space of the file system that is never written below, and given back for.
    pub free_floor_bytes: u64,
    /// What the scrub reads in a second, in bytes; `None`: there is none.
    pub scrub_bytes_per_second: Option<u64>,
    /// Who opens it, for the message that a second daemon gets: the mountpoint.
    pub owner: String,
    /// Most bytes that wait to be written.
    pub queue_bytes_max: u64,
}

/// A tenth of the space that is free where `dir` is, or will be made. Fails where that cannot be asked.
pub fn default_size_limit(dir: &Path) -> io::Result<u64> {
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    Ok(Drive::default().free_bytes(there)? / DEFAULT_SHARE)
}

/// Is `dir` on an overlay, which lies on another file system itself?
pub fn lies_on_overlay(dir: &Path) -> bool {
    /// `OVERLAYFS_SUPER_MAGIC` of linux/magic.h.
    const OVERLAY: u64 = 0x794c_7630;
    rustix::fs::statfs(dir).is_ok_and(|about| about.f_type as u64 == OVERLAY)
}

/// Why the cache folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error(
        "the cache folder {} is in use by process {pid}, mounted at {owner}; unmount that, or give this mount a --name or --cache-dir of its own", dir.display()
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The process that has it; 0 where that is unknown.
        pid: u32,
        /// Its mountpoint.
        owner: String,
    },
    /// A newer program wrote it.
    #[error(
        "the cache folder {} was written by a newer braidfs (format {found}, this one knows {known}); use that version, or another --cache-dir", dir.display()
    )]
    NewerFormat {
        /// The folder.
        dir: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// It may not be written.
    #[error("cannot write {}: {error}; choose another --cache-dir, or 'none' to keep nothing on disk", path.display())]
    NotWritable {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The disk is full.
    #[error("no space left for {}; free some, or choose another --cache-dir, or 'none' to keep nothing on disk", path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
    },
    /// Damaged, and could not be set aside either.
    #[error("the cache in {} is damaged ({why}); move the folder away, or choose another --cache-dir", path.display())]
    Damaged {
        /// The folder or file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
}

impl OpenError {
    fn from_io(path: &Path, error: io::Error) -> OpenError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::Full { path: path.to_path_buf() },
            _ => OpenError::NotWritable { path: path.to_path_buf(), error },
        }
    }
}

/// Why a write did not become durable. The bytes have to be fetched again when they are wanted again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Let go of because the disk is slower than the network.
    #[error("let go of, because the disk is slower than the network")]
    LetGo,
    /// The disk fails or hangs.
    #[error("the cache's disk failed: {0}")]
    Failing(String),
    /// The size limit or the floor of free space leaves no room, even after eviction.
    #[error("no room within the cache's size limit and floor of free space")]
    NoSpace,
    /// The file version was discarded meanwhile.
    #[error("the file version was discarded")]
    Discarded,
}

/// Called when a write is durable, or will never be.
pub type Done = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// Pages to keep.
pub struct WriteJob {
    /// Whose pages.
    pub file: Arc<DiskFile>,
    /// Which; at least one, inside the file.
    pub pages: Pages,
    /// Their bytes: whole pages, the file's last one filled up with zeros. At a page's boundary in
    /// memory they are written without a copy.
    pub bytes: Box<dyn AsRef<[u8]> + Send>,
    /// [`DiskFile::discards`] before `bytes` were taken: they are not kept where the file was discarded since.
    pub discards: u64,
    /// May be dropped while it waits (demand, readahead); prefetch promises durability and may not.
    pub may_let_go: bool,
    /// Called once: when durable, or with the reason why it will not be. On a thread of the disk, or
    /// of whoever lets go.
    pub done: Option<Done>,
    /// Called when the pages can be read from disk (not yet durable); `bytes` was dropped just before.
    /// Dropped uncalled where that fails.
    pub written: Option<Box<dyn FnOnce() + Send>>,
}

/// An open disk cache. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct Disk {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Disk {
    /// Open the cache folder, or make it. Takes no time in proportion to what is cached.
    pub fn open(settings: Settings, metrics: Arc<Metrics>) -> Result<Disk, OpenError> {
        Disk::open_with(settings, metrics, Tuning::default())
    }

    fn open_with(settings: Settings, metrics: Arc<Metrics>, tuning: Tuning) -> Result<Disk, OpenError> {
        let shared = recover::open(settings, metrics, tuning)?;
        let mut threads = vec![
            spawn("disk-writer", &shared, writer::run),
            spawn("disk-commit", &shared, commit::run),
            spawn("disk-watch", &shared, commit::watch),
        ];
        if shared.scrub.is_wanted() {
            threads.push(spawn("disk-scrub", &shared, scrub::run));
        }
        threads.extend((0..readers::THREADS).map(|_| spawn("disk-read", &shared, readers::run)));
        Ok(Disk { handle: Arc::new(Handle { shared, threads: Mutex::new(threads) }) })
    }

    /// What is held of a file version; remembered from then on while anybody has it. Waits for the
    /// disk: never on a FUSE thread. On a failing disk, a file that holds nothing.
    pub fn file(&self, key: &FileKey) -> Arc<DiskFile> {
        self.shared().file(key, true)
    }

    /// Queue pages to be kept. Gives the job back where the queue is full or the disk is off.
    pub fn write(&self, job: WriteJob) -> Result<(), WriteJob> {
        let whole = (*job.bytes).as_ref().len() as u64 == job.pages.count() * PAGE_BYTES;
        let inside = job.pages.end <= job.file.key().page_count() && !job.pages.is_empty();
        debug_assert!(whole && inside, "a job is whole pages of its file");
        match whole && inside && self.shared().is_writable() {
            true => self.shared().queue.push(job),
            false => Err(job),
        }
    }

    /// Drop queued writes that may be let go, oldest first, until `want_bytes` are free; says how many
    /// were. Their `done` is called on this thread.
    pub fn let_go(&self, want_bytes: u64) -> u64 {
        self.shared().queue.let_go(want_bytes)
    }

    /// Bytes that the cache takes on disk, state file and all.
    pub fn used_bytes(&self) -> u64 {
        self.shared().space.used_bytes()
    }

    /// The most that it may take.
    pub fn limit_bytes(&self) -> u64 {
        self.shared().space.limit_bytes()
    }

    /// Whether it keeps what arrives, and if not, why.
    pub fn health(&self) -> Health {
        self.shared().health()
    }

    /// Why nothing new fits although the disk works, where that is so.
    pub fn full(&self) -> Option<String> {
        self.shared().space.refused()
    }

    /// Keep a folder's listing, whatever its form. Durable with the next commit.
    pub fn put_listing(&self, folder: &[u8], bytes: Vec<u8>) {
        if self.shared().is_writable() {
            self.shared().commits.put_listing(folder.to_vec(), bytes);
        }
    }

    /// A folder's listing as it was last kept. Waits for the disk.
    pub fn listing(&self, folder: &[u8]) -> Option<Vec<u8>> {
        self.shared().listing(folder)
    }

    /// Every durable listing. Waits for the disk; takes time in proportion to their number.
    pub fn listings(&self, each: impl FnMut(&[u8], &[u8])) {
        self.shared().listings(each);
    }

    /// Keep what was measured of the mirror with this label, whatever its form; nothing: forget it. Durable with
    /// the next commit.
    pub fn put_mirror(&self, label: u64, bytes: Option<Vec<u8>>) {
        if self.shared().is_writable() {
            self.shared().commits.put_mirror(label, bytes);
        }
    }

    /// What is durable of every mirror, by label. Waits for the disk.
    pub fn mirrors(&self) -> Vec<(u64, Vec<u8>)> {
        self.shared().mirrors()
    }

    /// At most `max` file versions that something is kept of at `path` or below it (empty: all), after `after`. Waits for
    /// the disk. Fails where it does.
    pub fn kept(&self, path: &[u8], after: Option<&FileKey>, max: usize) -> io::Result<Vec<FileKey>> {
        by_hand::kept(self.shared(), path, after, max).map_err(|error| self.failed(error))
    }

    /// What is held of a file version, without counting it as a use. Waits for the disk.
    pub fn seen(&self, key: &FileKey) -> Arc<DiskFile> {
        self.shared().file(key, false)
    }

    /// Let go of all that is kept of these; whoever has one open reads on from elsewhere. Their room is free after the
    /// next [`Disk::sync`], but for packs that they share with others. Says how many bytes of files it was. Waits for the disk.
    pub fn evict(&self, keys: &[FileKey]) -> u64 {
        by_hand::let_go(self.shared(), keys)
    }

    /// Pin all of these paths, or none: what is kept of them, or will be, is not evicted for others. Durable when it
    /// returns. Waits for the disk.
    pub fn pin(&self, pins: &[Pin]) -> Result<(), PinError> {
        pins::pin(self.shared(), pins)
    }

    /// Unpin these paths. Durable when it returns. Waits for the disk.
    pub fn unpin(&self, paths: Vec<Vec<u8>>) -> Result<(), PinError> {
        pins::unpin(self.shared(), paths)
    }

    /// Everything that is pinned, by path.
    pub fn pins(&self) -> Vec<Pin> {
        self.shared().pins.all()
    }

    /// The pinned path that is `path` or above it.
    pub fn pin_over(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.shared().pins.over(path)
    }

    /// What all pinned files had in bytes when they were pinned.
    pub fn pinned_bytes(&self) -> u64 {
        pins::pinned_bytes(self.shared())
    }

    /// Bytes of files that the cache can hold at once.
    pub fn usable_bytes(&self) -> u64 {
        pins::usable_bytes(self.shared())
    }

    /// Write down what a prefetch job is, whatever its form, or with nothing that it has ended. Durable when it returns.
    /// Waits for the disk. Fails where it does.
    pub fn put_job(&self, number: u64, bytes: Option<&[u8]>) -> io::Result<()> {
        jobs::put(self.shared(), number, bytes).map_err(|error| self.failed(error))
    }

    /// Every job that is written down, by number. Waits for the disk. Fails where it does.
    pub fn jobs(&self) -> io::Result<Vec<(u64, Vec<u8>)>> {
        jobs::all(self.shared()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: StoreError) -> io::Error {
        self.shared().store_failed(&error);
        io::Error::other(error)
    }

    /// Run something that waits for the disk on one of its reader threads. Gives it back where too
    /// many wait already, as when the disk hangs.
    pub fn spawn_read(&self, job: Box<dyn FnOnce() + Send>) -> Result<(), Box<dyn FnOnce() + Send>> {
        self.shared().readers.push(job)
    }

    /// Wait until all that was queued before is durable or has failed. `false`: not by `deadline`.
    pub fn sync(&self, deadline: Time) -> bool {
        self.shared().queue.flush(deadline) && self.shared().commits.flush(deadline)
    }

    /// Make everything durable and let go of the folder. Does not wait for a disk that hangs.
    pub fn close(self) {
        self.handle.end();
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Handle {
    fn end(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        if threads.is_empty() {
            return;
        }
        let deadline = clock::now() + CLOSE_PATIENCE;
        let shared = &self.shared;
        let durable = shared.queue.flush(deadline) && shared.commits.flush(deadline);
        if !durable {
            tracing::warn!("the disk cache was closed before all was durable; the rest is fetched again");
        }
        shared.queue.stop();
        shared.readers.stop();
        shared.scrub.stop();
        shared.commits.stop();
        // A thread that waits for a hung disk is left behind: nothing can end it.
        if durable && shared.condition.is_ok() {
            threads.into_iter().for_each(|thread| {
                let _ = thread.join();
            });
            recover::close(shared);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(name: &str, shared: &Arc<Shared>, work: fn(&Arc<Shared>)) -> JoinHandle<()> {
    let shared = shared.clone();
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared));
    spawned.expect("a handful of threads at the start of a mount")
}
