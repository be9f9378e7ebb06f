//! What is read while somebody records: which chunks of which files, in the order in which they are first touched.
//!
//! A read that nobody records costs one look at a pointer. One that is recorded puts its pages into a queue and waits for
//! nobody; what does not fit into that is counted.

use crate::chunk::{CHUNK_BYTES, CHUNK_PAGES, Inode, Pages};
use crate::fetch::engine::Engine;
use crate::fetch::opened::OpenFile;
use arc_swap::ArcSwapOption;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Reads that wait to be looked at: a tenth of a second of the fastest readers, some 400 KiB.
const TOUCHES_MAX: usize = 16_384;
/// Ranges of one recording at most. With what is remembered of them, some 64 MiB.
const RANGES_MAX: u64 = 500_000;
/// A range that nothing was added to for so long is passed on.
const REST: Duration = Duration::from_millis(200);

/// A part of a file that was read, in whole chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The path, relative to the mount.
    pub path: Vec<u8>,
    /// Where it begins.
    pub offset_bytes: u64,
    /// How many.
    pub bytes: u64,
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Files that were touched.
    pub files: u64,
    /// Ranges that were passed on.
    pub ranges: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Reads that came faster than they could be written down.
    pub lost_reads: u64,
    /// It ended by itself: it had as many ranges as there may be.
    pub is_full: bool,
}

/// A read, or an open of a file that the kernel reads past us.
struct Touch {
    file: Arc<OpenFile>,
    pages: Pages,
}

/// The one recording of a mount, where there is one.
#[derive(Default)]
pub struct Recorder {
    to: ArcSwapOption<mpsc::Sender<Touch>>,
    lost: AtomicU64,
}

impl Recorder {
    /// Does anybody record?
    pub fn is_on(&self) -> bool {
        self.to.load().is_some()
    }

    /// `pages` are read. Never waits.
    pub fn touched(&self, file: &Arc<OpenFile>, pages: Pages) {
        let to = self.to.load();
        let Some(to) = &*to else { return };
        if to.try_send(Touch { file: file.clone(), pages }).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Nothing is recorded any more when it is dropped.
struct Recording<'a>(&'a Recorder);

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.0.to.store(None);
    }
}

impl Engine {
    /// Record what is read at `path` and below it until `stop`, and pass it on; `begun` is called once that is so.
    /// Nothing where somebody records already.
    pub async fn record(
        &self,
        path: &[u8],
        accesses: mpsc::Sender<Access>,
        begun: impl FnOnce(),
        stop: oneshot::Receiver<()>,
    ) -> Option<Recorded> {
        let recorder = &self.plane.recorder;
        let (to, mut touches) = mpsc::channel(TOUCHES_MAX);
        let is_first = recorder.to.compare_and_swap(&None::<Arc<_>>, Some(Arc::new(to))).is_none();
        if !is_first {
            return None;
        }
        let recording = Recording(recorder);
        recorder.lost.store(0, Ordering::Relaxed);
        begun();
        let mut seen = Seen::default();
        tokio::pin!(stop);
        while !seen.is_full() {
            tokio::select! {
                biased;
                _ = &mut stop => break,
                touch = tokio::time::timeout(REST, touches.recv()) => match touch {
                    Ok(Some(touch)) => seen.pass_on(&touch, path, &accesses).await,
                    Ok(None) => break,
                    Err(_) => seen.rest(&accesses).await,
                },
            }
        }
        drop(recording);
        while let Some(touch) = touches.recv().await.filter(|_| !seen.is_full()) {
            seen.pass_on(&touch, path, &accesses).await;
        }
        seen.rest(&accesses).await;
        let lost_reads = recorder.lost.load(Ordering::Relaxed);
        Some(Recorded { lost_reads, is_full: seen.is_full(), files: seen.chunks.len() as u64, ..seen.recorded })
    }
}

/// What was touched so far.
#[derive(Default)]
struct Seen {
    chunks: HashMap<Inode, RoaringBitmap>,
    /// The last range, which may still grow.
    last: Option<(Inode, Access)>,
    recorded: Recorded,
}

impl Seen {
    fn is_full(&self) -> bool {
        self.recorded.ranges >= RANGES_MAX
    }

    async fn pass_on(&mut self, touch: &Touch, path: &[u8], to: &mpsc::Sender<Access>) {
        if !is_below(&touch.file.path, path) {
            return;
        }
        for access in self.touch(&touch.file, touch.pages) {
            // Waits for a slow client. One that is gone ends this from outside.
            let _ = to.send(access).await;
        }
    }

    async fn rest(&mut self, to: &mpsc::Sender<Access>) {
        if let Some((_, last)) = self.last.take() {
            let _ = to.send(last).await;
        }
    }

    /// The ranges that can be passed on, now that these pages are read.
    fn touch(&mut self, file: &OpenFile, pages: Pages) -> Vec<Access> {
        let chunks = pages.start / CHUNK_PAGES..pages.end.div_ceil(CHUNK_PAGES);
        let known = self.chunks.entry(file.inode).or_default();
        let mut done = Vec::new();
        for run in new_runs(known, chunks) {
            let (start, end) = (run.start * CHUNK_BYTES, (run.end * CHUNK_BYTES).min(file.size_bytes));
            self.recorded.bytes += end - start;
            match &mut self.last {
                Some((inode, last)) if *inode == file.inode && last.offset_bytes + last.bytes == start => {
                    last.bytes += end - start;
                }
                last => {
                    self.recorded.ranges += 1;
                    let access = Access { path: file.path.clone(), offset_bytes: start, bytes: end - start };
                    done.extend(last.replace((file.inode, access)).map(|(_, access)| access));
                }
            }
        }
        done
    }
}

/// The runs of `chunks` that are not among `known`, where they are from now on.
fn new_runs(known: &mut RoaringBitmap, chunks: std::ops::Range<u64>) -> Vec<std::ops::Range<u64>> {
    // A file has 2^28 chunks at most.
    let (start, end) = (chunks.start as u32, chunks.end as u32);
    let before = known.range_cardinality(start..end);
    if before == u64::from(end - start) {
        return Vec::new();
    }
    let mut runs: Vec<std::ops::Range<u64>> = Vec::new();
    match before {
        0 => runs.push(chunks),
        _ => {
            for chunk in chunks.filter(|&chunk| !known.contains(chunk as u32)) {
                match runs.last_mut() {
                    Some(last) if last.end == chunk => last.end += 1,
                    _ => runs.push(chunk..chunk + 1),
                }
            }
        }
    }
    known.insert_range(start..end);
    runs
}

/// Is `path` below `folder`, or the same?
fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| folder.is_empty() || rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::opened::{Opened, Opening};
    use crate::scheduler::FileRule;

    const SIZE: u64 = 10 * CHUNK_BYTES + 5;

    fn file(inode: u64, path: &[u8]) -> Arc<OpenFile> {
        let (inode, path) = (Inode(inode), path.to_vec());
        let opening = Opening { inode, path, size_bytes: SIZE, rule: FileRule::default(), disk: None };
        Opened::default().open(opening, |_| {})
    }

    #[test]
    fn each_chunk_is_told_once_in_the_order_of_first_touch() {
        let (a, b, mut seen) = (file(1, b"a"), file(2, b"b"), Seen::default());
        let mut told = Vec::new();
        let touches = [(&a, 0, 1), (&a, 16, 40), (&b, 100, 101), (&a, 0, 161), (&b, 96, 110), (&a, 5, 100)];
        touches.iter().for_each(|&(file, start, end)| told.extend(seen.touch(file, Pages::new(start, end))));
        told.extend(seen.last.take().map(|(_, access)| access));
        let access =
            |path: &[u8], chunk: u64, bytes| Access { path: path.to_vec(), offset_bytes: chunk * CHUNK_BYTES, bytes };
        let wanted = [
            access(b"a", 0, 3 * CHUNK_BYTES),
            access(b"b", 6, CHUNK_BYTES),
            // To the end of the file and no further.
            access(b"a", 3, 7 * CHUNK_BYTES + 5),
        ];
        assert_eq!(told, wanted);
        assert_eq!((seen.recorded.ranges, seen.recorded.bytes), (3, SIZE + CHUNK_BYTES));
    }

    #[test]
    fn runs_between_what_is_known_are_found() {
        let mut known = RoaringBitmap::new();
        known.insert_range(3..5);
        known.insert(7);
        assert_eq!(new_runs(&mut known, 2..9), [2..3, 5..7, 8..9]);
        assert_eq!(new_runs(&mut known, 2..9), []);
        assert_eq!(known.len(), 7);
    }

    #[test]
    fn without_a_recording_nothing_is_kept_and_with_a_full_queue_reads_are_counted() {
        let (recorder, file) = (Recorder::default(), file(1, b"a"));
        recorder.touched(&file, Pages::new(0, 1));
        assert!(!recorder.is_on());
        let (to, _touches) = mpsc::channel(1);
        recorder.to.store(Some(Arc::new(to)));
        (0..3).for_each(|_| recorder.touched(&file, Pages::new(0, 1)));
        assert_eq!(recorder.lost.load(Ordering::Relaxed), 2);
        drop(Recording(&recorder));
        assert!(!recorder.is_on());
    }
}
