//! What is known of one file or folder, and what is held of it. Whoever asks opens nothing, and of a file that the kernel
//! knows no mirror is asked.

use crate::cache::disk::{Disk, DiskFile, FileKey};
use crate::chunk::{Inode, MirrorId, Pages};
use crate::fetch::engine::{Engine, walk};
use crate::fetch::error::Trouble;
use crate::fetch::held::{Held, HeldBytes, Map};
use crate::fetch::keeping::{is_below, plain};
use crate::fetch::plane::Plane;
use crate::fetch::tree::Tree;
use crate::namespace::{Kind, Version};
use std::collections::HashMap;
use std::sync::Arc;

/// File versions that are looked at in one go: a client that goes away ends it after that many.
const BATCH: usize = 256;

/// One file or folder.
#[derive(Clone, Debug, Default)]
pub struct FileReport {
    /// It is a folder.
    pub folder: bool,
    /// Its size; 0 of a folder.
    pub size_bytes: u64,
    /// Its date, in seconds since 1970; none of a folder, and where no mirror says it.
    pub modified_unix_s: Option<i64>,
    /// What is held of it; of a folder, of all that is below it, versions that are no longer current too.
    pub held: HeldBytes,
    /// Of a folder: file versions below it of which something is held.
    pub files: u64,
    /// All of it is durable on disk: it can be read without any mirror, also after a restart.
    pub complete: bool,
    /// Eviction leaves it alone.
    pub pinned: bool,
    /// Its date and generation, in words.
    pub version: String,
    /// The mirrors that serve this version; of a folder, all that are in use.
    pub mirrors: Vec<String>,
    /// Those that do not, and why.
    pub dissenters: Vec<(String, String)>,
    /// What is held of a file, a letter for each of 64 parts; empty of a folder.
    pub cells: String,
    /// The same, exactly.
    pub map: Map,
}

impl Engine {
    /// One path, relative to the mount. Asks mirrors for names that are not known.
    pub async fn file_report(self: &Arc<Self>, path: &[u8]) -> Result<FileReport, Trouble> {
        let found = walk(&self.tree, path).await?;
        match found.kind {
            Kind::Folder => self.folder_report(plain(path)).await,
            Kind::File => {
                let (plane, tree) = (self.plane.clone(), self.tree.clone());
                blocking(move || look(&plane, &tree, found.inode)).await?
            }
        }
    }

    /// One file by its inode, from what is here. The answer comes from another thread, since the disk's index is looked at.
    pub fn look_at<F>(&self, inode: Inode, answer: F)
    where
        F: FnOnce(Result<FileReport, Trouble>) + Send + 'static,
    {
        let (plane, tree) = (self.plane.clone(), self.tree.clone());
        drop(self.runtime().spawn_blocking(move || answer(look(&plane, &tree, inode))));
    }

    async fn folder_report(&self, path: Vec<u8>) -> Result<FileReport, Trouble> {
        let plane = &self.plane;
        let in_memory = self.in_memory_below(&path);
        let mut sum = Sum { plane: plane.clone(), in_memory, files: 0, held: HeldBytes::default() };
        if let Some(disk) = &plane.disk {
            let mut after = None;
            loop {
                let (disk, path) = (disk.clone(), path.clone());
                (sum, after) = blocking(move || sum.batch(&disk, &path, after.as_ref())).await??;
                if after.is_none() {
                    break;
                }
            }
        }
        let pinned = is_pinned(plane, &path);
        let (files, held) = blocking(move || sum.end()).await?;
        let mirrors = plane.mirrors.in_use().map(|(_, member)| member.url()).collect();
        Ok(FileReport { folder: true, files, held, pinned, mirrors, ..FileReport::default() })
    }

    fn in_memory_below(&self, path: &[u8]) -> HashMap<FileKey, Inode> {
        let files = self.plane.pool.files();
        let namespace = self.tree.namespace.read();
        let versions = files.into_iter().filter_map(|inode| Some((key(&namespace.version(inode)?), inode)));
        versions.filter(|(key, _)| is_below(&key.path, path)).collect()
    }
}

/// What is held below a folder, so far.
struct Sum {
    plane: Arc<Plane>,
    /// Versions that memory has some of, and that were not counted yet.
    in_memory: HashMap<FileKey, Inode>,
    files: u64,
    held: HeldBytes,
}

impl Sum {
    /// Count the next versions on disk. Gives the last of them; none where there were no more.
    fn batch(mut self, disk: &Disk, path: &[u8], after: Option<&FileKey>) -> Result<(Sum, Option<FileKey>), Trouble> {
        let keys = disk.kept(path, after, BATCH).map_err(|_| Trouble::DiskFailed)?;
        for key in &keys {
            let inode = self.in_memory.remove(key);
            self.count(key, inode);
        }
        Ok((self, keys.into_iter().next_back()))
    }

    /// Count those that are in memory only.
    fn end(mut self) -> (u64, HeldBytes) {
        for (key, inode) in std::mem::take(&mut self.in_memory) {
            self.count(&key, Some(inode));
        }
        (self.files, self.held)
    }

    fn count(&mut self, key: &FileKey, in_memory: Option<Inode>) {
        let on_disk = self.plane.disk.as_ref().map(|disk| disk.seen(key));
        let held = Held::of(&self.plane, in_memory, on_disk.as_deref(), Pages::of_file(key.size_bytes), key.size_bytes);
        let HeldBytes { asked_bytes, memory_bytes, disk_bytes, either_bytes } = held.bytes();
        self.files += u64::from(either_bytes > 0);
        self.held.asked_bytes += asked_bytes;
        self.held.memory_bytes += memory_bytes;
        self.held.disk_bytes += disk_bytes;
        self.held.either_bytes += either_bytes;
    }
}

/// One file version. Waits for the disk where its record is not in memory.
fn look(plane: &Plane, tree: &Tree, inode: Inode) -> Result<FileReport, Trouble> {
    let version = tree.namespace.read().version(inode).ok_or(Trouble::Stale)?;
    let size_bytes = version.size_bytes;
    let on_disk: Option<Arc<DiskFile>> = plane.disk.as_ref().map(|disk| disk.seen(&key(&version)));
    let held = Held::of(plane, Some(inode), on_disk.as_deref(), Pages::of_file(size_bytes), size_bytes);
    let url = |mirror: MirrorId| plane.mirrors.of(mirror).url();
    Ok(FileReport {
        folder: false,
        size_bytes,
        modified_unix_s: version.modified_unix_s,
        held: held.bytes(),
        files: 0,
        complete: held.bytes().disk_bytes == size_bytes,
        pinned: is_pinned(plane, &version.path),
        version: named(version.modified_unix_s, version.generation),
        mirrors: version.mirrors.iter().map(url).collect(),
        dissenters: version.dissenters.iter().map(|other| (url(other.mirror), other.why.clone())).collect(),
        cells: held.cells(),
        map: held.map(),
    })
}

fn key(version: &Version) -> FileKey {
    FileKey {
        path: version.path.clone(),
        size_bytes: version.size_bytes,
        modified_unix_s: version.modified_unix_s,
        generation: version.generation,
    }
}

fn is_pinned(plane: &Plane, path: &[u8]) -> bool {
    plane.disk.as_ref().is_some_and(|disk| disk.pin_over(path).is_some())
}

fn named(modified_unix_s: Option<i64>, generation: u32) -> String {
    let date = modified_unix_s.and_then(|unix_s| jiff::Timestamp::from_second(unix_s).ok());
    let date = date.map_or_else(|| "no date".to_owned(), |date| date.to_string());
    match generation {
        0 => date,
        changes => format!("{date}, changed {changes} times since under the same size and date"),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Trouble::Ending)
}
