//! What people do to what is kept of paths: pin it, let it go, verify it.
//!
//! Eviction and verification go by what the cache has of a path, not by what mirrors list: they work offline, and on
//! what no mirror has any more. Both go through it in batches, so that they take the same memory whatever there is.

use crate::cache::disk::{Disk, DiskFile, Health, Pin, PinError, ReadNow};
use crate::chunk::{Inode, PAGE_BYTES, Pages};
use crate::clock::{Time, now};
use crate::fetch::engine::{Engine, walk};
use crate::fetch::error::Trouble;
use crate::fetch::translate::join;
use crate::namespace::Kind;
use crate::scheduler::Event;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// File versions looked at at a time.
const BATCH: usize = 256;
/// Pages verified at a time: readers of the disk come between.
const PIECE_PAGES: u64 = 256;
/// A disk that has not read 1 MiB after this hangs.
const PIECE_WITHIN: Duration = Duration::from_secs(60);
/// How long what is to be durable may take.
const SYNC_WITHIN: Duration = Duration::from_secs(30);
/// A bar that moves four times a second looks alive.
const PROGRESS_PERIOD: Duration = Duration::from_millis(250);

/// What is said on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// So much is done.
    Progress(Count),
    /// This path was not done, and why, in words.
    Failed(Vec<u8>, String),
    /// These bytes of a file did not match their checksums, and are no longer kept.
    Damaged {
        /// The file.
        path: Vec<u8>,
        /// Where in it.
        offset_bytes: u64,
        /// How many.
        bytes: u64,
    },
}

/// To whom it is said.
pub type Hearer = mpsc::Sender<Heard>;

/// What was done, so far or in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// File versions.
    pub files: u64,
    /// Bytes of them: looked up, evicted from disk, or verified.
    pub bytes: u64,
    /// Bytes evicted from memory.
    pub memory_bytes: u64,
    /// Bytes that did not match.
    pub damaged_bytes: u64,
    /// Paths that were not done.
    pub failed: u64,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// There is no disk cache.
    #[error("this mount keeps nothing on disk (--cache-dir none)")]
    NoDisk,
    /// The path cannot be looked up.
    #[error("{1}")]
    Path(Vec<u8>, Trouble),
    /// It is not pinned, but perhaps a folder above it is.
    #[error("it is not pinned")]
    NotPinned(Vec<u8>, Option<Vec<u8>>),
    /// It cannot be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The disk fails.
    #[error("the cache's disk failed: {0}")]
    Disk(String),
}

impl Engine {
    /// Pin these paths, files or folders, relative to the mount. Durable when it is done. Says what the files there have
    /// in bytes, cached or not.
    pub async fn pin(self: &Arc<Self>, paths: Vec<Vec<u8>>) -> Result<Count, NotDone> {
        let disk = self.disk()?;
        let mut pins = Vec::new();
        let mut count = Count::default();
        for path in paths.iter().map(|path| plain(path)) {
            let measured = self.measure(&path).await.map_err(|trouble| NotDone::Path(path.clone(), trouble))?;
            count.files += measured.files;
            count.bytes += measured.bytes;
            pins.push(Pin { path, bytes: measured.bytes });
        }
        blocking(move || disk.pin(&pins)).await??;
        Ok(count)
    }

    /// Unpin these paths, all of which were pinned, or none.
    pub async fn unpin(self: &Arc<Self>, paths: Vec<Vec<u8>>) -> Result<(), NotDone> {
        let disk = self.disk()?;
        let paths: Vec<_> = paths.iter().map(|path| plain(path)).collect();
        for path in &paths {
            let over = disk.pin_over(path);
            if !disk.pins().iter().any(|pin| pin.path == *path) {
                return Err(NotDone::NotPinned(path.clone(), over));
            }
        }
        Ok(blocking(move || disk.unpin(paths)).await??)
    }

    /// What is pinned, and how many bytes that is and can be.
    pub fn pins(&self) -> (Vec<Pin>, u64, u64) {
        let disk = self.plane.disk.as_ref();
        disk.map_or_else(Default::default, |disk| (disk.pins(), disk.pinned_bytes(), disk.usable_bytes()))
    }

    /// Let go of what is kept of these paths, on disk and in memory. Pinned ones are said to have failed, and stay.
    pub async fn evict(self: &Arc<Self>, paths: Vec<Vec<u8>>, hearer: &Hearer) -> Result<Count, NotDone> {
        let mut count = Count::default();
        for path in paths.iter().map(|path| plain(path)) {
            if let Some(over) = self.plane.disk.as_ref().and_then(|disk| disk.pin_over(&path)) {
                let by = if over == path { "it is pinned".to_owned() } else { pinned_above(&over) };
                fail(&mut count, hearer, path, format!("{by}: it stays; `braidfs unpin` first")).await;
                continue;
            }
            let before = count;
            self.name_pins_below(&path, &mut count, hearer).await;
            self.evict_from_disk(&path, &mut count, hearer).await?;
            self.evict_from_memory(&path, &mut count);
            if count == before {
                self.must_exist(path, &mut count, hearer).await;
            }
        }
        Ok(count)
    }

    /// Read what is kept of these paths from the disk and compare it with its checksums. What does not match is dropped.
    pub async fn verify(self: &Arc<Self>, paths: Vec<Vec<u8>>, hearer: &Hearer) -> Result<Count, NotDone> {
        let disk = self.disk()?;
        synced(&disk).await?;
        let mut work = Verification { disk, hearer, count: Count::default(), said: Time(0) };
        for path in paths.iter().map(|path| plain(path)) {
            let before = work.count;
            work.path(&path).await?;
            if work.count == before {
                self.must_exist(path, &mut work.count, hearer).await;
            }
        }
        // What was dropped is gone from the tables before anybody is told so.
        synced(&work.disk).await?;
        Ok(work.count)
    }

    fn disk(&self) -> Result<Disk, NotDone> {
        self.plane.disk.clone().ok_or(NotDone::NoDisk)
    }

    /// The files at `path` and below it, and their sizes.
    async fn measure(self: &Arc<Self>, path: &[u8]) -> Result<Count, Trouble> {
        let mut count = Count::default();
        let found = walk(&self.tree, path).await?;
        if found.kind == Kind::File {
            return Ok(Count { files: 1, bytes: found.size_bytes, ..count });
        }
        let mut folders = vec![found.inode];
        while let Some(folder) = folders.pop() {
            for entry in self.tree.entries(folder).await?.iter() {
                match (entry.kind, entry.sized) {
                    (Kind::Folder, _) => folders.push(entry.inode),
                    (Kind::File, true) => {
                        count.files += 1;
                        count.bytes += self.attributes(entry.inode).map_or(0, |found| found.size_bytes);
                    }
                    (Kind::File, false) => {
                        count.files += 1;
                        count.bytes += self.tree.lookup(folder, entry.name, false).await?.size_bytes;
                    }
                }
            }
        }
        Ok(count)
    }

    /// Nothing was kept of `path`: does it exist at all?
    async fn must_exist(self: &Arc<Self>, path: Vec<u8>, count: &mut Count, hearer: &Hearer) {
        if let Err(trouble) = walk(&self.tree, &path).await {
            fail(count, hearer, path, format!("nothing of it is cached, and {trouble}")).await;
        }
    }

    async fn name_pins_below(&self, path: &[u8], count: &mut Count, hearer: &Hearer) {
        let pins = self.plane.disk.as_ref().map(|disk| disk.pins()).unwrap_or_default();
        for pin in pins.into_iter().filter(|pin| is_below(&pin.path, path)) {
            fail(count, hearer, pin.path, "it is pinned: it stays; `braidfs unpin` first".into()).await;
        }
    }

    async fn evict_from_disk(&self, path: &[u8], count: &mut Count, hearer: &Hearer) -> Result<(), NotDone> {
        let Some(disk) = self.plane.disk.clone() else { return Ok(()) };
        synced(&disk).await?;
        let mut after = None;
        loop {
            let (batch_disk, path, last) = (disk.clone(), path.to_vec(), after.take());
            let gone = blocking(move || {
                let keys = batch_disk.kept(&path, last.as_ref(), BATCH)?;
                let last = keys.last().cloned();
                let free: Vec<_> = keys.into_iter().filter(|key| batch_disk.pin_over(&key.path).is_none()).collect();
                let bytes = batch_disk.evict(&free);
                Ok::<_, std::io::Error>((last, free.len() as u64, bytes))
            });
            let (last, files, bytes) = gone.await?.map_err(|error| NotDone::Disk(error.to_string()))?;
            if last.is_none() {
                return Ok(());
            }
            after = last;
            // Before the next batch: what waits to be deleted is in memory.
            synced(&disk).await?;
            count.files += files;
            count.bytes += bytes;
            let _ = hearer.try_send(Heard::Progress(*count));
        }
    }

    fn evict_from_memory(&self, path: &[u8], count: &mut Count) {
        let plane = &self.plane;
        let is_meant = |path_of: &[u8]| {
            is_below(path_of, path) && plane.disk.as_ref().is_none_or(|disk| disk.pin_over(path_of).is_none())
        };
        let namespace = self.tree.namespace.read();
        let versions = plane.pool.files().into_iter().filter_map(|inode| Some((inode, namespace.version(inode)?)));
        let meant =
            versions.filter(|(_, version)| is_meant(&version.path)).map(|(inode, version)| (inode, version.size_bytes));
        let meant: Vec<(Inode, u64)> = meant.collect();
        drop(namespace);
        for (inode, size_bytes) in meant {
            let all = Pages::of_file(size_bytes);
            let missing = || plane.pool.missing(inode, all).iter().map(|run| run.len_bytes(size_bytes)).sum::<u64>();
            let before = missing();
            plane.pool.evict(inode, all);
            count.memory_bytes += missing().saturating_sub(before);
        }
        // Whoever has one open reads on, and what is neither here nor there has to be fetched.
        for file in plane.opened.all().into_iter().filter(|file| is_meant(&file.path)) {
            let off_memory = plane.pool.missing(file.inode, file.pages()).into_iter();
            let nowhere = off_memory.flat_map(|run| file.disk.as_ref().map_or(vec![run], |disk| disk.missing(run)));
            nowhere.for_each(|pages| plane.inbox.tell(Event::Dropped { file: file.inode, pages }));
        }
    }
}

/// A verification under way.
struct Verification<'a> {
    disk: Disk,
    hearer: &'a Hearer,
    count: Count,
    said: Time,
}

impl Verification<'_> {
    async fn path(&mut self, path: &[u8]) -> Result<(), NotDone> {
        let mut after = None;
        loop {
            let (disk, path, last) = (self.disk.clone(), path.to_vec(), after.take());
            let keys = blocking(move || disk.kept(&path, last.as_ref(), BATCH)).await?;
            let keys = keys.map_err(|error| NotDone::Disk(error.to_string()))?;
            after = keys.last().cloned();
            if after.is_none() {
                return Ok(());
            }
            for key in keys {
                let disk = self.disk.clone();
                let file = blocking(move || disk.seen(&key)).await?;
                self.file(&file).await;
            }
        }
    }

    async fn file(&mut self, file: &Arc<DiskFile>) {
        self.count.files += 1;
        let pieces = file.held_runs().into_iter().flat_map(|run| run.split(PIECE_PAGES).collect::<Vec<_>>());
        for pages in pieces {
            let bytes = pages.len_bytes(file.key().size_bytes);
            match self.piece(file, pages).await {
                Some(ReadNow::Done) => self.count.bytes += bytes,
                Some(ReadNow::Damaged(runs)) => {
                    self.count.bytes += bytes;
                    for run in runs {
                        self.damaged(file, run).await;
                    }
                }
                // Evicted meanwhile.
                Some(ReadNow::NotHeld | ReadNow::WouldBlock) => {}
                Some(ReadNow::Failed) | None => {
                    let why = match self.disk.health() {
                        Health::ReadingThrough { why, .. } => why,
                        Health::Ok => "the cache's disk did not read it".to_owned(),
                    };
                    return fail(&mut self.count, self.hearer, file.key().path.clone(), why).await;
                }
            }
            let time = now();
            if time.since(self.said) >= PROGRESS_PERIOD {
                self.said = time;
                let _ = self.hearer.try_send(Heard::Progress(self.count));
            }
        }
    }

    /// On a thread of the disk's, one at a time. None where it takes no more work, or hangs.
    async fn piece(&self, file: &Arc<DiskFile>, pages: Pages) -> Option<ReadNow> {
        let (reply, answer) = oneshot::channel();
        let on_disk = file.clone();
        let queued = self.disk.spawn_read(Box::new(move || {
            let mut room = vec![0; (pages.count() * PAGE_BYTES) as usize];
            // Nobody may be waiting any more.
            let _ = reply.send(on_disk.verify(pages, &mut room));
        }));
        queued.ok()?;
        tokio::time::timeout(PIECE_WITHIN, answer).await.ok()?.ok()
    }

    async fn damaged(&mut self, file: &DiskFile, run: Pages) {
        let bytes = run.len_bytes(file.key().size_bytes);
        self.count.damaged_bytes += bytes;
        let (path, offset_bytes) = (file.key().path.clone(), run.start * PAGE_BYTES);
        let _ = self.hearer.send(Heard::Damaged { path, offset_bytes, bytes }).await;
    }
}

async fn fail(count: &mut Count, hearer: &Hearer, path: Vec<u8>, why: String) {
    count.failed += 1;
    // Waits for a slow client. One that is gone ends this from outside.
    let _ = hearer.send(Heard::Failed(path, why)).await;
}

async fn synced(disk: &Disk) -> Result<(), NotDone> {
    let synced = disk.clone();
    match blocking(move || synced.sync(now() + SYNC_WITHIN)).await? {
        true => Ok(()),
        false => Err(NotDone::Disk("it takes too long to write".into())),
    }
}

pub(in crate::fetch) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NotDone> {
    tokio::task::spawn_blocking(work).await.map_err(|_| NotDone::Disk(Trouble::Ending.to_string()))
}

fn pinned_above(over: &[u8]) -> String {
    match over {
        [] => "the whole mount is pinned".to_owned(),
        _ => format!("{} is pinned, in which it lies", String::from_utf8_lossy(over)),
    }
}

/// Without empty names: as the cache and the tree write paths.
pub(in crate::fetch) fn plain(path: &[u8]) -> Vec<u8> {
    let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
    names.fold(Vec::new(), |path, name| join(&path, name))
}

/// Is `path` below `folder`, or the same?
pub(in crate::fetch) fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| folder.is_empty() || rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_in_one_way() {
        for (path, wanted) in [("", ""), ("/", ""), ("a/", "a"), ("//a//b", "a/b")] {
            assert_eq!(plain(path.as_bytes()), wanted.as_bytes(), "{path}");
        }
        assert!(is_below(b"a/b", b"a") && is_below(b"a", b"a") && is_below(b"a", b""));
        assert!(!is_below(b"ab", b"a") && !is_below(b"a", b"a/b"));
    }
}
