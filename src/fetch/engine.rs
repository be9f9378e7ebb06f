//! The data plane and the tree of one mount, behind plain calls for `fs` and `control`.
//!
//! No call here waits: what cannot be answered at once is answered later, from another thread,
//! through the closure that the caller hands over.

use crate::chunk::{Inode, PAGE_BYTES, Pages};
use crate::clock::Time;
use crate::fetch::ahead::Ahead;
use crate::fetch::driver::Driver;
use crate::fetch::error::Trouble;
use crate::fetch::from_disk;
use crate::fetch::handle::Handle;
use crate::fetch::history;
use crate::fetch::in_use::{close_file, open_file, reuse_file};
use crate::fetch::inbox::Command;
use crate::fetch::listing::FirstLook;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::{Doubt, Plane};
use crate::fetch::roster::Member;
use crate::fetch::tree::Tree;
use crate::fetch::waiting::{Waiter, wanted};
use crate::fetch::whole::{Whole, mend};
use crate::metrics::Metrics;
use crate::namespace::{Attributes, Kind, Namespace, Snapshot};
use crate::scheduler::Scheduler;
use parking_lot::Mutex;
use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

pub use crate::fetch::plane::Parts;

/// Threads for listings, prefetch jobs and everything else that is not file data. They wait for the
/// network nearly always; two keep a big listing's parsing from holding up a small one.
const META_THREADS: usize = 2;

/// Threads that open files in the disk's index and parse listings. Each has a heap of its own, so not one for
/// each of a hundred files that are opened at once.
const BLOCKING_THREADS: usize = 4;
/// How long the end waits for a disk that is slow, or hangs.
const SYNC_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// How long the mount waits for a mirror where the last run saved what is there.
const FIRST_LOOK_SAVED: std::time::Duration = std::time::Duration::from_secs(2);

/// One mount's engine.
pub struct Engine {
    pub(in crate::fetch) plane: Arc<Plane>,
    pub(in crate::fetch) tree: Arc<Tree>,
    pub(in crate::fetch) started: Time,
    ahead: Arc<Ahead>,
    /// Reads of what is on disk take a buffer of their own.
    fresh_buffers: bool,
    runtime: tokio::runtime::Handle,
    /// The runtime of everything that is not file data; none where that shares the data's.
    meta: Option<Runtime>,
    data: Mutex<Option<DataPlane>>,
}

impl Engine {
    /// Start the threads, with what earlier mounts measured. Nothing is asked of any mirror yet.
    pub fn start(parts: Parts, namespace: Namespace, mut scheduler: Scheduler) -> io::Result<Arc<Engine>> {
        let (doubts, doubted) = tokio::sync::mpsc::unbounded_channel();
        let plane = Arc::new(Plane::new(parts, doubts));
        history::recall(&plane, &mut scheduler);
        let data = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let meta = match plane.settings().one_runtime {
            true => None,
            false => Some(
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(META_THREADS)
                    .max_blocking_threads(BLOCKING_THREADS)
                    .thread_name("braidfs-meta")
                    .enable_all()
                    .build()?,
            ),
        };
        let runtime = meta.as_ref().unwrap_or(&data).handle().clone();
        let tree = Tree::new(namespace, plane.clone(), runtime.clone());
        let inbox = plane.inbox.clone();
        // Weak would do too, but the inbox outlives the pool's last reservation either way.
        plane.pool.on_freed(Box::new(move || inbox.push(Command::MemoryFreed)));
        let data = DataPlane::spawn(data, plane.clone(), scheduler)?;
        runtime.spawn(follow_doubts(tree.clone(), doubted));
        runtime.spawn(history::keep(Arc::downgrade(&plane)));
        let started = crate::clock::now();
        let ahead = Arc::new(Ahead::new(plane.pool.limit_bytes(), plane.readers.new_id()));
        let fresh_buffers = plane.settings().fresh_buffers;
        Ok(Arc::new(Engine { plane, tree, started, ahead, fresh_buffers, runtime, meta, data: Mutex::new(Some(data)) }))
    }

    /// Where tasks that are not file data run: the control server lives there too.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    /// Its counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.plane.metrics
    }

    /// Look a name up in a folder.
    pub fn lookup<F>(&self, folder: Inode, name: &[u8], answer: F)
    where
        F: FnOnce(Result<Attributes, Trouble>) + Send + 'static,
    {
        if let Some(known) = self.tree.lookup_now(folder, name, true) {
            return answer(known);
        }
        let (tree, name) = (self.tree.clone(), name.to_vec());
        let deadline = self.plane.settings().read_timeout;
        self.runtime().spawn(async move {
            let found = within(deadline, tree.lookup(folder, &name, true)).await;
            answer(found);
        });
    }

    /// What is known of an inode. Never asks anybody.
    pub fn attributes(&self, inode: Inode) -> Option<Attributes> {
        self.tree.namespace.read().attributes(inode, crate::clock::now()).map(|(attributes, _)| attributes)
    }

    /// The names in a folder, as a snapshot.
    pub fn entries<F>(&self, folder: Inode, answer: F)
    where
        F: FnOnce(Result<Arc<Snapshot>, Trouble>) + Send + 'static,
    {
        self.ahead.opened(&self.plane, &self.tree, folder, Kind::Folder);
        if let Some(known) = self.tree.entries_now(folder) {
            return answer(known);
        }
        let tree = self.tree.clone();
        let deadline = self.plane.settings().read_timeout;
        self.runtime().spawn(async move { answer(within(deadline, tree.entries(folder)).await) });
    }

    /// The kernel knows an inode `count` times more.
    pub fn remember(&self, inode: Inode, count: u64) {
        self.tree.namespace.write().remember(inode, count);
    }

    /// The kernel knows an inode `count` times less.
    pub fn forget(&self, inode: Inode, count: u64) {
        self.tree.namespace.write().forget(inode, count);
    }

    /// Names known so far, and the bytes in those that are files.
    pub fn known(&self) -> (u64, u64) {
        let namespace = self.tree.namespace.read();
        (namespace.counts().names as u64, namespace.known_bytes())
    }

    /// Open a file version.
    pub fn open<F>(&self, inode: Inode, answer: F)
    where
        F: FnOnce(Result<Arc<Handle>, Trouble>) + Send + 'static,
    {
        self.ahead.opened(&self.plane, &self.tree, inode, Kind::File);
        if let Some(file) = reuse_file(&self.plane, inode) {
            self.plane.metrics.open_handles.add(1);
            return answer(Ok(Arc::new(Handle::new(file))));
        }
        let (plane, tree) = (self.plane.clone(), self.tree.clone());
        let open = move || {
            let file = open_file(&plane, &tree, inode);
            file.map(|file| {
                plane.metrics.open_handles.add(1);
                if let Some(disk) = file.disk.as_ref().filter(|_| plane.settings().passthrough) {
                    // Where it can be lent its data file is open from here on: what follows may not wait.
                    disk.prepare_to_lend();
                }
                Arc::new(Handle::new(file))
            })
        };
        match self.plane.disk {
            // The disk's index is not touched on a FUSE thread.
            Some(_) => drop(self.runtime().spawn_blocking(move || answer(open()))),
            None => answer(open()),
        }
    }

    /// May the kernel keep what it has of this file when it is opened now? Not where some of it is not believed any
    /// more; asking answers that once. Nor while somebody records: reads of what it has do not come to us.
    pub fn keeps_cached(&self, inode: Inode) -> bool {
        !self.plane.tainted.lock().remove(&inode) && !self.plane.recorder.is_on()
    }

    /// The whole file of a handle, where the kernel may read it past us. Never waits.
    pub fn whole(&self, handle: &Handle) -> Option<Whole> {
        Whole::of(&handle.file, &self.plane, self.runtime())
    }

    /// Bring back what is damaged of a file that the kernel reads past us.
    pub fn mend<F>(&self, handle: &Handle, answer: F)
    where
        F: FnOnce(Result<(), Trouble>) + Send + 'static,
    {
        let (plane, file) = (self.plane.clone(), handle.file.clone());
        let deadline = plane.settings().read_deadline;
        self.runtime().spawn(async move { answer(within(deadline, mend(&plane, &file)).await) });
    }

    /// The kernel reads this one past us: how much of it, nobody sees.
    pub fn note_passthrough(&self, handle: &Handle) {
        self.plane.recorder.touched(&handle.file, handle.file.pages());
        self.plane.metrics.passthrough_opens.add(1);
    }

    /// Close a handle.
    pub fn close(&self, handle: &Handle) {
        handle.close(&self.plane.inbox);
        self.plane.metrics.open_handles.sub(1);
        close_file(&self.plane, &handle.file);
    }

    /// Read `length_bytes` at `offset_bytes`; fewer only at the end of the file. The answer comes at once,
    /// on this thread, where memory or the page cache of the disk has it.
    pub fn read<F>(&self, handle: &Handle, offset_bytes: u64, length_bytes: u64, answer: F)
    where
        F: FnOnce(Result<&[u8], Trouble>) + Send + 'static,
    {
        let (plane, file) = (&self.plane, &handle.file);
        plane.metrics.reads.add(1);
        let pages = Pages::touching(offset_bytes, length_bytes, file.size_bytes);
        if pages.is_empty() {
            return answer(Ok(&[]));
        }
        if file.is_condemned() {
            plane.metrics.read_errors.add(1);
            return answer(Err(Trouble::WrongHash));
        }
        plane.recorder.touched(file, pages);
        let place = handle.reads(pages, &plane.readers, &plane.inbox);
        let bytes = offset_bytes..(offset_bytes + length_bytes).min(file.size_bytes);
        file.usage.was_read(plane.metrics.reads.get(), bytes.end - bytes.start);
        let sealed = file.is_sealed();
        if self.fresh_buffers
            && !sealed
            && let Some(fresh) = from_disk::fresh(file, pages)
        {
            plane.metrics.read_disk_hits.add(1);
            plane.metrics.read_bytes.add(bytes.end - bytes.start);
            return answer(Ok(wanted(&fresh, pages, &bytes)));
        }
        if !sealed && let Some(pinned) = plane.pool.pinned(file.inode, pages) {
            plane.metrics.read_memory_hits.add(1);
            plane.metrics.read_bytes.add(bytes.end - bytes.start);
            answer(Ok(wanted(&pinned, pages, &bytes)));
            drop(pinned);
            return self.consumed(file, pages, place.in_order);
        }
        if !sealed
            && plane.pool.missing(file.inode, pages).is_empty()
            && let Some(scratch) = copied(plane, file, pages)
        {
            // Its pages are not neighbours in memory (a read across two extents): copied once.
            plane.metrics.read_memory_hits.add(1);
            plane.metrics.read_copies.add(1);
            plane.metrics.read_bytes.add(bytes.end - bytes.start);
            answer(Ok(wanted(&scratch, pages, &bytes)));
            SCRATCH.set(scratch);
            return self.consumed(file, pages, place.in_order);
        }
        let pages = widened(file, pages);
        let slow_reads = plane.slow_reads.get().cloned();
        let waiter = Waiter::new(file.clone(), pages, bytes, place, slow_reads, Box::new(answer));
        if file.on_disk(pages) && from_disk::now(plane, file, pages) && waiter.try_answer(&plane.pool, &plane.metrics) {
            plane.metrics.read_disk_hits.add(1);
            return;
        }
        plane.metrics.read_misses.add(1);
        plane.inbox.push(Command::Read(waiter));
    }

    /// Memory that a reader in order has left behind is the first to go.
    fn consumed(&self, file: &OpenFile, pages: Pages, in_order: bool) {
        if in_order {
            self.plane.pool.mark_consumed(file.inode, pages);
        }
    }

    /// Is there anybody, or at least a cache that can serve? With every mirror's failure in words where
    /// nobody lists the dataset.
    pub fn first_look(&self) -> (FirstLook, Vec<(String, String)>) {
        let saved = self.plane.disk.as_ref().is_some_and(|disk| disk.listing(b"").is_some());
        // With something to serve, nobody is waited for long: mirrors are looked for behind the mount.
        let patience = if saved { FIRST_LOOK_SAVED } else { self.plane.settings().read_timeout };
        let seen = self.runtime().block_on(self.tree.first_look(patience));
        (seen, self.failures())
    }

    fn failures(&self) -> Vec<(String, String)> {
        let why = |member: &Member| member.words().last_failure.unwrap_or_else(|| "did not answer in time".into());
        self.plane.mirrors.in_use().map(|(_, member)| (member.url(), why(&member))).collect()
    }

    /// Is it known that no mirror answers?
    pub fn is_offline(&self) -> bool {
        self.plane.is_offline()
    }

    /// End in order: reads that wait fail, what the disk has queued becomes durable. Calls after that are
    /// answered with errors.
    pub fn end(&self) {
        self.plane.inbox.push(Command::End);
        if let Some(data) = &*self.data.lock() {
            data.wait();
        }
        history::write_last(&self.plane);
        if let Some(disk) = &self.plane.disk
            && !disk.sync(crate::clock::now() + SYNC_MAX)
        {
            tracing::warn!("the disk cache did not take the last writes in time: they will be fetched again");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
        drop(self.data.lock().take());
        if let Some(meta) = self.meta.take() {
            meta.shutdown_background();
        }
    }
}

thread_local! {
    /// Room for one read of each thread of `fs`, kept between reads.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// `pages` in the scratch of this thread, where all are still held.
fn copied(plane: &Plane, file: &OpenFile, pages: Pages) -> Option<Vec<u8>> {
    let mut scratch = SCRATCH.take();
    scratch.resize((pages.count() * PAGE_BYTES) as usize, 0);
    plane.pool.copy(file.inode, pages, &mut scratch).then_some(scratch)
}

/// A small file is fetched whole: its request costs more than its bytes, and the disk keeps it whole.
fn widened(file: &OpenFile, pages: Pages) -> Pages {
    if file.size_bytes <= crate::chunk::CHUNK_BYTES { file.pages() } else { pages }
}

async fn within<T>(
    deadline: std::time::Duration,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(Trouble::TimedOut))
}

async fn follow_doubts(tree: Arc<Tree>, mut doubts: tokio::sync::mpsc::UnboundedReceiver<Doubt>) {
    while let Some(doubt) = doubts.recv().await {
        tree.doubted(&doubt);
    }
}

/// The thread of the driver and all fetches.
struct DataPlane {
    /// Hangs up when the driver has ended.
    ended: Mutex<mpsc::Receiver<()>>,
    /// Its runtime lives until this is dropped: others may share it.
    _alive: oneshot::Sender<()>,
}

impl DataPlane {
    fn spawn(runtime: Runtime, plane: Arc<Plane>, scheduler: Scheduler) -> io::Result<DataPlane> {
        let (ending, ended) = mpsc::channel();
        let (alive, dropped) = oneshot::channel();
        std::thread::Builder::new().name("braidfs-data".into()).spawn(move || {
            let tasks = tokio::task::LocalSet::new();
            runtime.block_on(tasks.run_until(Driver::new(plane, scheduler).run()));
            // Tasks of fetches are dropped here, and say so to nobody: the mount has ended.
            drop(tasks);
            drop(ending);
            // Nothing is ever sent.
            let _ = runtime.block_on(dropped);
            runtime.shutdown_background();
        })?;
        Ok(DataPlane { ended: Mutex::new(ended), _alive: alive })
    }

    /// Until the driver has ended. A panic of it was printed by its own thread.
    fn wait(&self) {
        let _ = self.ended.lock().recv();
    }
}

/// What a path under the mount leads to, by names that are known or can be asked for.
pub(in crate::fetch) async fn walk(tree: &Arc<Tree>, path: &[u8]) -> Result<Attributes, Trouble> {
    let root = crate::namespace::ROOT;
    let known = tree.namespace.read().attributes(root, crate::clock::now());
    let mut found = known.map(|(attributes, _)| attributes).ok_or(Trouble::Absent)?;
    for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        if found.kind != Kind::Folder {
            return Err(Trouble::NotAFolder);
        }
        found = tree.lookup(found.inode, name, false).await?;
    }
    Ok(found)
}
