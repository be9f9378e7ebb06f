//! What of a job is told as done: bytes that are durable, as they become so. What is only written would be lost with the daemon.

use super::Progress;
use crate::chunk::Pages;
use crate::fetch::opened::OpenFile;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;

/// Stretches of one file. Dropped where the file fails, which ends the counting.
pub(super) struct Settling {
    progress: Arc<Progress>,
    counted_bytes: Arc<AtomicU64>,
    tasks: Mutex<JoinSet<()>>,
}

impl Settling {
    pub(super) fn new(progress: &Arc<Progress>) -> Settling {
        Settling { progress: progress.clone(), counted_bytes: Arc::default(), tasks: Mutex::default() }
    }

    /// Count these pages, once: they are asked for.
    pub(super) fn begin(&self, file: &Arc<OpenFile>, pages: Pages) {
        let (file, progress, counted_bytes) = (file.clone(), self.progress.clone(), self.counted_bytes.clone());
        let mut tasks = self.tasks.lock();
        // A large file has a hundred thousand of them in its time.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            count(&file, pages, |bytes| {
                progress.bytes_done.fetch_add(bytes, Ordering::Relaxed);
                counted_bytes.fetch_add(bytes, Ordering::Relaxed);
            })
            .await;
        });
    }

    /// All of it is durable, `bytes` in all: whoever is told so has been told of all its bytes. Nothing is waited for that
    /// may not come any more: what was durable a moment ago may have been found to be wrong since.
    pub(super) async fn end(self, bytes: u64) {
        self.tasks.into_inner().shutdown().await;
        let rest = bytes.saturating_sub(self.counted_bytes.load(Ordering::Relaxed));
        self.progress.bytes_done.fetch_add(rest, Ordering::Relaxed);
    }
}

/// Until all of `pages` were durable once.
async fn count(file: &OpenFile, pages: Pages, more: impl Fn(u64)) {
    let Some(disk) = &file.disk else { return };
    let (all, mut counted) = (pages.len_bytes(file.size_bytes), 0);
    while counted < all {
        let changed = file.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let durable = disk.durable_bytes_in(pages);
        if durable > counted {
            more(durable - counted);
            counted = durable;
            continue;
        }
        changed.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::disk::{self, Disk, FileKey};
    use crate::chunk::Inode;
    use crate::fetch::opened::{Opened, Opening};
    use std::time::Duration;

    /// What was found wrong just after it was durable never becomes so for who looks a moment later.
    #[tokio::test]
    async fn the_end_waits_for_nothing_that_is_gone_again() {
        let dir = tempfile::tempdir().unwrap();
        let settings = disk::Settings {
            dir: dir.path().join("cache"),
            size_limit_bytes: 64 << 20,
            free_floor_bytes: 0,
            scrub_bytes_per_second: None,
            owner: "here".into(),
            queue_bytes_max: 1 << 20,
        };
        let cache = Disk::open(settings, Arc::default()).unwrap();
        let key = FileKey { path: b"a".to_vec(), size_bytes: 10_000, modified_unix_s: None, generation: 0 };
        let (path, rule) = (key.path.clone(), Default::default());
        let opening = Opening { inode: Inode(7), path, size_bytes: 10_000, rule, disk: Some(cache.file(&key)) };
        let file = Opened::default().open(opening, |_| {});
        let progress = Arc::new(Progress::default());
        let settling = Settling::new(&progress);
        settling.begin(&file, file.pages());
        tokio::task::yield_now().await;
        assert_eq!(progress.bytes_done.load(Ordering::Relaxed), 0, "nothing of it is durable");
        tokio::time::timeout(Duration::from_secs(30), settling.end(10_000)).await.expect("it ends");
        assert_eq!(progress.bytes_done.load(Ordering::Relaxed), 10_000);
    }
}
