//! From the pool to the disk: the pages that a fetch brings, gathered into long runs.

use crate::cache::disk::{Health, WriteError, WriteJob};
use crate::chunk::{Class, Pages};
use crate::clock::{self, Time};
use crate::fetch::error::Trouble;
use crate::fetch::hashes;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use crate::sources::{Body, Failure};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Pages in a long run: 1 MiB on its grid, so that a run is one extent of the pool, one write.
const RUN_PAGES: u64 = 256;
/// What has come is handed over after this, though its run is not full: from then on it is the queue that waits for
/// neighbours, and a slow fetch, or one that falls silent, costs a crash no more than the last second.
const HAND_OVER: Duration = Duration::from_millis(100);

/// Gathers what one fetch brings.
pub struct Keeper {
    plane: Arc<Plane>,
    file: Arc<OpenFile>,
    class: Class,
    pending: Option<Pages>,
    /// When the first of them came.
    since: Time,
}

impl Keeper {
    /// For a fetch of `file`.
    pub fn new(plane: Arc<Plane>, file: Arc<OpenFile>, class: Class) -> Keeper {
        Keeper { plane, file, class, pending: None, since: Time(0) }
    }

    /// `pages` are in the pool now. Waits only where somebody was promised durability and the disk is behind.
    pub async fn add(&mut self, pages: Pages) {
        if self.file.disk.is_none() || pages.is_empty() {
            return;
        }
        let now = clock::now();
        let (before, mut since) = (self.pending.take(), self.since);
        let pending = match before {
            Some(pending) if pending.end == pages.start => Pages::new(pending.start, pages.end),
            Some(pending) => {
                self.keep(pending).await;
                since = now;
                pages
            }
            None => {
                since = now;
                pages
            }
        };
        let full = Pages::new(pending.start, (pending.end / RUN_PAGES * RUN_PAGES).max(pending.start));
        if !full.is_empty() {
            self.keep(full).await;
            since = now;
        }
        let rest = Pages::new(full.end, pending.end);
        self.pending = (!rest.is_empty()).then_some(rest);
        self.since = since;
        if now.since(since) >= HAND_OVER {
            self.hand_over().await;
        }
    }

    /// The next bytes of a body. What has come before is handed over where they are long in coming.
    pub async fn next_of(&mut self, body: &mut Body) -> Result<Option<Bytes>, Failure> {
        let mut next = std::pin::pin!(body.next());
        if self.pending.is_some() {
            let wait = (self.since + HAND_OVER).since(clock::now());
            #[allow(clippy::disallowed_methods, reason = "bytes that do not come ring no bell")]
            let waited = tokio::time::sleep(wait);
            tokio::select! { biased; body = &mut next => return body, () = waited => {} }
            self.hand_over().await;
        }
        next.await
    }

    /// Whoever brings the pages keeps their memory reserved until this was called: they are looked for in the pool, and what
    /// a reader is past by then may be gone from there.
    pub async fn hand_over(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.keep(pending).await;
        }
    }

    /// The fetch has ended: hand over what is left.
    pub async fn finish(mut self) {
        self.hand_over().await;
    }

    async fn keep(&self, pages: Pages) {
        let must = self.class == Class::Prefetch || self.file.wanted_durable();
        for run in pages.split(RUN_PAGES) {
            keep_run(&self.plane, &self.file, run, must).await;
        }
    }
}

impl Drop for Keeper {
    /// A cancelled fetch: what arrived is kept where the disk has room for it.
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            for run in pending.split(RUN_PAGES) {
                for job in jobs(&self.plane, &self.file, run, false) {
                    let_go(&self.plane, self.plane.disk.as_ref().map(|disk| disk.write(job)));
                }
            }
        }
    }
}

/// Bring `pages` from the pool to the disk. `must`: wait for room, since somebody was promised durability.
pub async fn keep_run(plane: &Arc<Plane>, file: &Arc<OpenFile>, pages: Pages, must: bool) {
    let Some(disk) = &plane.disk else { return };
    for mut job in jobs(plane, file, pages, must) {
        loop {
            let room = plane.disk_room.notified();
            match disk.write(job) {
                Ok(()) => break,
                Err(back) if must && disk.health() == Health::Ok => job = back,
                refused => {
                    if must {
                        file.give_up(pages, Trouble::NotKept);
                    }
                    let_go(plane, Some(refused));
                    break;
                }
            }
            room.await;
        }
    }
}

fn let_go(plane: &Plane, refused: Option<Result<(), WriteJob>>) {
    if let Some(Err(job)) = refused {
        plane.metrics.disk_let_go_bytes.add(job.pages.count() * crate::chunk::PAGE_BYTES);
    }
}

/// One job for each part of `pages` that is held in one run of memory and not on disk yet.
fn jobs(plane: &Arc<Plane>, file: &Arc<OpenFile>, pages: Pages, must: bool) -> Vec<WriteJob> {
    let Some(disk) = &file.disk else { return Vec::new() };
    let mut jobs = Vec::new();
    // Before any bytes are taken: what is discarded from here on is not kept.
    let discards = disk.discards();
    for missing in disk.missing(pages) {
        let mut at = missing.start;
        while at < missing.end {
            let Some(pinned) = plane.pool.pinned_front(file.inode, Pages::new(at, missing.end)) else {
                at += 1;
                continue;
            };
            let pages = pinned.pages();
            at = pages.end;
            jobs.push(WriteJob {
                file: disk.clone(),
                pages,
                bytes: Box::new(pinned),
                discards,
                may_let_go: !must,
                written: Some(written(plane.clone(), file.clone(), pages, must)),
                done: Some(done(plane.clone(), file.clone(), pages, must)),
            });
        }
    }
    jobs
}

fn written(plane: Arc<Plane>, file: Arc<OpenFile>, pages: Pages, prefetched: bool) -> Box<dyn FnOnce() + Send> {
    Box::new(move || {
        // Nobody reads now what was only prefetched, and the disk has it: its memory is the first to go.
        if prefetched {
            plane.pool.mark_consumed(file.inode, pages);
        }
        plane.disk_room.notify_waiters();
        now_open(&plane, file).changed.notify_waiters();
    })
}

/// The file as it is open now: it may have been closed and opened again since its pages were queued, and those who wait
/// for them, a prefetch that follows a read, wait at that one.
fn now_open(plane: &Plane, file: Arc<OpenFile>) -> Arc<OpenFile> {
    plane.opened.get(file.inode).unwrap_or(file)
}

fn done(
    plane: Arc<Plane>,
    file: Arc<OpenFile>,
    pages: Pages,
    must: bool,
) -> Box<dyn FnOnce(Result<(), WriteError>) + Send> {
    Box::new(move |result| {
        plane.disk_room.notify_waiters();
        match result {
            Ok(()) => {
                let file = now_open(&plane, file);
                file.hash_voided();
                hashes::consider(&plane, &file);
                file.changed.notify_waiters();
            }
            Err(error) if must => {
                tracing::warn!(pages = ?pages, %error, "the disk cache did not keep what prefetch brought");
                file.give_up(pages, Trouble::NotKept);
            }
            Err(_) => {}
        }
    })
}
