//! Opening a file version for a handle, a job or a check, and closing it again however that ends.

use crate::cache::disk::FileKey;
use crate::chunk::{Inode, PAGE_BYTES, Pages};
use crate::fetch::error::Trouble;
use crate::fetch::opened::{OpenFile, Opening};
use crate::fetch::plane::{Doubt, Plane};
use crate::fetch::sums;
use crate::fetch::transfer::believed_mirrors;
use crate::fetch::tree::Tree;
use crate::scheduler::Event;
use std::ops::Deref;
use std::sync::Arc;

/// A file that is open until this is dropped, also where who uses it is dropped in the middle.
pub(in crate::fetch) struct InUse {
    plane: Arc<Plane>,
    file: Arc<OpenFile>,
}

impl InUse {
    /// Open it, away from threads that serve others: the disk's index is looked at.
    pub(in crate::fetch) async fn open(plane: &Arc<Plane>, tree: &Arc<Tree>, inode: Inode) -> Result<InUse, Trouble> {
        let (plane, tree) = (plane.clone(), tree.clone());
        // Made on the other thread: who is dropped while it opens leaves it closed all the same.
        let open = move || open_file(&plane, &tree, inode).map(|file| InUse { plane, file });
        tokio::task::spawn_blocking(open).await.unwrap_or(Err(Trouble::Ending))
    }
}

impl Deref for InUse {
    type Target = Arc<OpenFile>;

    fn deref(&self) -> &Arc<OpenFile> {
        &self.file
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        close_file(&self.plane, &self.file);
    }
}

/// Use a version that is open already once more. Never waits.
pub(in crate::fetch) fn reuse_file(plane: &Plane, inode: Inode) -> Option<Arc<OpenFile>> {
    let file = plane.opened.reuse(inode)?;
    plane.metrics.open_files.add(1);
    Some(file)
}

/// Open a version, or use it once more. Blocking where there is a disk cache.
pub(in crate::fetch) fn open_file(plane: &Plane, tree: &Arc<Tree>, inode: Inode) -> Result<Arc<OpenFile>, Trouble> {
    let version = tree.namespace.read().version(inode).ok_or(Trouble::Stale)?;
    if !tree.is_current(inode) {
        return Err(Trouble::Stale);
    }
    let key = FileKey {
        path: version.path.clone(),
        size_bytes: version.size_bytes,
        modified_unix_s: version.modified_unix_s,
        generation: version.generation,
    };
    let disk = plane.disk.as_ref().map(|disk| disk.file(&key));
    let rule = plane.rules().of(&version.path).file;
    let opening = Opening { inode, path: version.path.clone(), size_bytes: version.size_bytes, rule, disk };
    let mut sums_files = Vec::new();
    let file = plane.opened.open(opening, |file| {
        sums_files = sums::candidates(&tree.namespace.read(), inode);
        file.hashes_begin(&plane.checks, !sums_files.is_empty());
        let held = held(plane, file);
        let size_bytes = file.size_bytes;
        // Looked at again, and told under the lock: a listing that is merged from now on finds the file
        // open and tells of its mirrors after us.
        let namespace = tree.namespace.read();
        let version = namespace.version(inode).unwrap_or(version);
        let mirrors = version.mirrors.clone();
        file.served_as(&version);
        let believed = file.believed();
        let confirmed = believed.len() >= 2;
        file.seal(plane.settings().quorum && !confirmed);
        plane.inbox.tell(Event::Opened { file: inode, size_bytes, mirrors, held, rule });
        if !believed.is_empty() {
            let mirrors = believed_mirrors(plane, file);
            plane.inbox.tell(Event::Agreed { file: inode, mirrors, confirmed });
        }
        if tree.awaited(&namespace, inode, &version) {
            plane.inbox.tell(Event::Served { file: inode, mirrors: version.mirrors, awaited: true });
        }
        if !version.silent.is_empty() {
            // Mirrors that were not there when the folder was listed may be there now.
            let _ = plane.doubts.send(Doubt::Waiting { file: inode });
        }
    });
    plane.metrics.open_files.add(1);
    if !sums_files.is_empty() {
        sums::look_up(tree, file.clone(), sums_files);
    }
    Ok(file)
}

/// One user less; the last one tells the scheduler.
pub(in crate::fetch) fn close_file(plane: &Plane, file: &Arc<OpenFile>) {
    plane.metrics.open_files.sub(1);
    plane.opened.close(file, || plane.inbox.tell(Event::Forgotten { file: file.inode }));
}

/// What needs no fetch: on disk, or still in memory.
fn held(plane: &Plane, file: &OpenFile) -> Vec<Pages> {
    let mut held = file.disk.as_ref().map(|disk| disk.held_runs()).unwrap_or_default();
    // Looking through memory group by group is for files that memory could hold some part of.
    if file.size_bytes / PAGE_BYTES < (64 << 30) / PAGE_BYTES {
        let mut at = 0;
        let end = file.pages().end;
        for missing in plane.pool.missing(file.inode, file.pages()).into_iter().chain([Pages::new(end, end)]) {
            if missing.start > at {
                held.push(Pages::new(at, missing.start));
            }
            at = missing.end;
        }
    }
    held
}
