//! Prefetch jobs: what paths name, brought to disk, done only when durable.

mod ranges;
mod settling;

pub use ranges::FileRange;

use crate::cache::disk::DiskFile;
use crate::chunk::{Inode, PAGE_BYTES, Pages, ReaderId};
use crate::clock::local_second_of_day;
use crate::fetch::checking::until_looked_up;
use crate::fetch::engine::{Engine, walk};
use crate::fetch::error::Trouble;
use crate::fetch::hashes::{self, Standing};
use crate::fetch::held::Held;
use crate::fetch::in_use::InUse;
use crate::fetch::inbox::Command;
use crate::fetch::named::{Named, NamedFile, PathTrouble};
use crate::fetch::opened::OpenFile;
use crate::fetch::pace::Pace;
use crate::fetch::plane::Plane;
use crate::fetch::tree::Tree;
use settling::Settling;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Pages asked for at a time: 8 MiB, so that one file can use several mirrors and a job its window.
pub(in crate::fetch) const STRETCH_PAGES: u64 = 2048;
/// Files of a job that are fetched at a time: small ones need many round trips at once.
const FILES_AT_ONCE: usize = 256;
/// Files that are open at a time, with those that have come and wait for the next commit, which is a second away: with
/// them among those above, a job would bring 256 small files a second and no more. Some 2 KiB each.
const FILES_OPEN_MAX: usize = 8192;
/// What failed by chance is asked for again after all else of its file, so many times in all: one connection in a
/// hundred breaks off on a poor line, and a file of a gigabyte takes hundreds.
const PASSES_MAX: usize = 4;
/// The local clock is looked at so often while files wait for their hours: it may be set meanwhile, and a machine
/// that slept wakes late.
const HOURS_PERIOD: Duration = Duration::from_secs(10);
/// Checks of a file that end without a word on it: the disk cannot be read.
const CHECKS_MAX: usize = 3;
/// Failures that are kept by name. The rest are counted.
const FAILURES_KEPT: usize = 1000;

/// How far a job has come. Shared with whoever shows it.
#[derive(Default)]
pub struct Progress {
    /// Files found so far.
    pub files: AtomicU64,
    /// Files that are durable.
    pub files_done: AtomicU64,
    /// Files that failed.
    pub files_failed: AtomicU64,
    /// Bytes in the files found so far.
    pub bytes: AtomicU64,
    /// Bytes durable on disk, of these files.
    pub bytes_done: AtomicU64,
    /// Every folder has been looked through: `files` and `bytes` grow no more.
    pub complete: AtomicBool,
    /// Files that wait for the hours that a rule gives them, …
    pub waiting: AtomicU64,
    /// … and the minute of the day at which those of the last of them begin.
    pub waits_until_minute: AtomicU32,
}

/// How a job ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Files that are durable.
    pub files: u64,
    /// Files that are not.
    pub failed: u64,
    /// Their paths with the reasons, at most the first thousand.
    pub failures: Vec<(Vec<u8>, PathTrouble)>,
}

/// What a job is to bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Files, folders with all that is below them, and patterns, relative to the mount.
    pub paths: Vec<Vec<u8>>,
    /// Where there are any: nothing but these ranges of the paths, which are files then.
    pub ranges: Vec<FileRange>,
    /// It asks for no more than so much in any second; none: for as much as comes.
    pub bytes_per_second: Option<u64>,
}

/// How one file went, and its path.
type Ended = (Result<(), Trouble>, Vec<u8>);

/// Of one among [`FILES_AT_ONCE`].
type Turn = OwnedSemaphorePermit;

struct Job {
    plane: Arc<Plane>,
    tree: Arc<Tree>,
    reader: ReaderId,
    progress: Arc<Progress>,
    window: Arc<Semaphore>,
    pace: Pace,
    /// Of the files that are fetched at a time.
    files: Arc<Semaphore>,
}

impl Engine {
    /// Is there a disk to prefetch to?
    pub fn can_prefetch(&self) -> bool {
        self.plane.disk.is_some()
    }

    /// Write down what a job is, whatever its form, or with nothing that it has ended; durable when it returns.
    pub async fn put_job(&self, number: u64, bytes: Option<Vec<u8>>) -> std::io::Result<()> {
        let plane = self.plane.clone();
        let disk = move || plane.disk.as_ref().map_or(Ok(()), |disk| disk.put_job(number, bytes.as_deref()));
        let put = tokio::task::spawn_blocking(disk);
        put.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    /// The jobs that an earlier mount has written down, by number. Waits for the disk.
    pub fn jobs(&self) -> std::io::Result<Vec<(u64, Vec<u8>)>> {
        self.plane.disk.as_ref().map_or(Ok(Vec::new()), |disk| disk.jobs())
    }

    /// Bring all of it to disk. Ends when it is durable or has failed.
    pub async fn prefetch(self: &Arc<Self>, work: Work, progress: Arc<Progress>) -> Outcome {
        let window = (self.plane.settings().prefetch_window_bytes / PAGE_BYTES) as usize;
        let job = Arc::new(Job {
            plane: self.plane.clone(),
            tree: self.tree.clone(),
            reader: self.plane.readers.new_id(),
            progress,
            window: Arc::new(Semaphore::new(window)),
            pace: Pace::new(work.bytes_per_second, STRETCH_PAGES),
            files: Arc::new(Semaphore::new(FILES_AT_ONCE)),
        });
        match work.ranges.is_empty() {
            true => job.run(work.paths).await,
            false => job.run_ranges(work.paths, &work.ranges).await,
        }
    }
}

/// However it ends: done, or dropped in the middle.
impl Drop for Job {
    fn drop(&mut self) {
        self.plane.inbox.tell(crate::scheduler::Event::Closed { reader: self.reader });
    }
}

/// A file of which a job waits for pages, until this is dropped.
struct Wanted(Arc<OpenFile>);

impl Wanted {
    fn new(file: Arc<OpenFile>) -> Wanted {
        file.job(true);
        Wanted(file)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.job(false);
    }
}

impl Job {
    async fn run(self: &Arc<Self>, paths: Vec<Vec<u8>>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut at_work = JoinSet::new();
        // Those that may not be fetched now come last, or they would keep the others from their turn.
        let mut later: Vec<(u32, Inode, Vec<u8>)> = Vec::new();
        let mut named = Named::new(self.tree.clone(), paths);
        while let Some(found) = named.next().await {
            match found {
                Ok(NamedFile { inode, path }) => {
                    self.progress.files.fetch_add(1, Ordering::Relaxed);
                    match self.hours_wait_seconds(&path) {
                        Some(wait) => later.push((wait, inode, path)),
                        None => self.begin(&mut at_work, &mut outcome, inode, path).await,
                    }
                }
                Err((path, trouble)) => outcome.failed(path, trouble),
            }
        }
        self.progress.complete.store(true, Ordering::Relaxed);
        later.sort_by_key(|(wait, ..)| *wait);
        for (_, inode, path) in later {
            self.begin(&mut at_work, &mut outcome, inode, path).await;
        }
        while !at_work.is_empty() {
            outcome.add(at_work.join_next().await);
        }
        outcome
    }

    /// Set a file going once its turn has come.
    async fn begin(self: &Arc<Self>, at_work: &mut JoinSet<Ended>, outcome: &mut Outcome, inode: Inode, path: Vec<u8>) {
        while at_work.len() >= FILES_OPEN_MAX {
            outcome.add(at_work.join_next().await);
        }
        // Never closed: a job without it is one that ends.
        let Ok(turn) = self.files.clone().acquire_owned().await else { return };
        let job = self.clone();
        at_work.spawn(async move { (job.bring_named(inode, &path, turn).await, path) });
        while let Some(ended) = at_work.try_join_next() {
            outcome.add(Some(ended));
        }
    }

    /// How long it is until this path may be prefetched, where that is not now.
    fn hours_wait_seconds(&self, path: &[u8]) -> Option<u32> {
        self.plane.rules().of(path).prefetch_hours?.wait_seconds(local_second_of_day())
    }

    /// Wait until this path may be prefetched.
    async fn wait_for_hours(&self, path: &[u8]) {
        let Some(hours) = self.plane.rules().of(path).prefetch_hours else { return };
        if hours.wait_seconds(local_second_of_day()).is_none() {
            return;
        }
        self.progress.waits_until_minute.store(hours.from_minute(), Ordering::Relaxed);
        self.progress.waiting.fetch_add(1, Ordering::Relaxed);
        while let Some(wait) = hours.wait_seconds(local_second_of_day()) {
            #[allow(clippy::disallowed_methods, reason = "the wall clock rings no bell")]
            tokio::time::sleep(Duration::from_secs(u64::from(wait)).min(HOURS_PERIOD)).await;
        }
        self.progress.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    async fn bring_named(self: &Arc<Self>, inode: Inode, path: &[u8], turn: Turn) -> Result<(), Trouble> {
        self.wait_for_hours(path).await;
        let result = self.bring_open(inode, path, turn).await;
        let count = if result.is_ok() { &self.progress.files_done } else { &self.progress.files_failed };
        count.fetch_add(1, Ordering::Relaxed);
        result
    }

    async fn bring_open(self: &Arc<Self>, inode: Inode, path: &[u8], turn: Turn) -> Result<(), Trouble> {
        let opened = self.open(inode, path).await?;
        let file = &*opened;
        let asked_bytes = self.progress.bytes.fetch_add(file.size_bytes, Ordering::Relaxed) + file.size_bytes;
        if !self.fits(asked_bytes) {
            return Err(Trouble::NotKept);
        }
        let _wanted = Wanted::new(file.clone());
        self.bring(file, turn).await
    }

    async fn open(&self, inode: Inode, path: &[u8]) -> Result<InUse, Trouble> {
        match InUse::open(&self.plane, &self.tree, inode).await {
            // It changed between the listing and now: look again, once.
            Err(Trouble::Stale) => InUse::open(&self.plane, &self.tree, walk(&self.tree, path).await?.inode).await,
            other => other,
        }
    }

    /// Can the disk cache hold all that was asked for so far at once? What does not fit would push out what
    /// the same job has just brought.
    fn fits(&self, asked_bytes: u64) -> bool {
        asked_bytes <= self.plane.disk.as_ref().map_or(0, |disk| disk.usable_bytes())
    }

    /// Every page of a file, and again what failed by chance, then wait until all are durable; that is the next file's
    /// turn already.
    async fn bring(self: &Arc<Self>, file: &Arc<OpenFile>, turn: Turn) -> Result<(), Trouble> {
        self.not_condemned(file).await?;
        let mut left: Vec<Pages> = file.pages().split(self.pace.piece_pages()).collect();
        let settling = Settling::new(&self.progress);
        for pass in 1..=PASSES_MAX {
            left = self.pass(file, left, pass, &settling).await?;
            if left.is_empty() {
                break;
            }
        }
        drop(turn);
        let all = file.pages();
        self.until(file, all, |disk| disk.durable(all)).await?;
        settling.end(file.size_bytes).await;
        self.checked(file).await
    }

    /// Nobody's bytes match its hash? Then it is not fetched again, unless the hash is another one by now.
    async fn not_condemned(&self, file: &Arc<OpenFile>) -> Result<(), Trouble> {
        if file.is_condemned() {
            until_looked_up(file).await;
        }
        if file.is_condemned() { Err(Trouble::WrongHash) } else { Ok(()) }
    }

    /// Durable is not enough where the hash of the file is known: wait until it was checked.
    async fn checked(&self, file: &Arc<OpenFile>) -> Result<(), Trouble> {
        let mut begun = 0;
        loop {
            let changed = file.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match file.standing() {
                Standing::Unknown | Standing::Verified => return Ok(()),
                Standing::Condemned => return Err(Trouble::WrongHash),
                Standing::Unchecked(_) if !self.plane.checks.is_running(file.inode) => {
                    begun += 1;
                    let is_complete = hashes::is_complete(&self.plane, file);
                    if !is_complete || begun > CHECKS_MAX {
                        // Its bytes went, since no mirror's are right or the disk cannot keep them.
                        return Err(file.take_hopeless(file.pages()).unwrap_or(Trouble::NotKept));
                    }
                    hashes::consider(&self.plane, file);
                    continue;
                }
                Standing::Looking | Standing::Unchecked(_) => {}
            }
            let patience = self.plane.settings().read_deadline;
            tokio::time::timeout(patience, changed).await.map_err(|_| Trouble::TimedOut)?;
        }
    }

    /// Each of these stretches as the window allows. Returns those that failed and are worth another pass.
    async fn pass(
        self: &Arc<Self>,
        file: &Arc<OpenFile>,
        left: Vec<Pages>,
        number: usize,
        settling: &Settling,
    ) -> Result<Vec<Pages>, Trouble> {
        let (mut stretches, mut failed) = (JoinSet::new(), Vec::new());
        for pages in left {
            let permit = self.permit(file, pages).await?;
            if number == 1 {
                settling.begin(file, pages);
            }
            let (job, file) = (self.clone(), file.clone());
            stretches.spawn(async move {
                let result = job.until(&file, pages, |disk| disk.held(pages)).await;
                // The next commit is up to a second away, and the next stretch need not wait for it.
                drop(permit);
                (result, pages)
            });
        }
        while let Some(ended) = stretches.join_next().await {
            match ended.map_err(|_| Trouble::Ending)? {
                (Ok(()), _) => {}
                // Said of a connection that broke, too; but where nobody answers, there is nothing to wait for.
                (Err(Trouble::Offline), pages) if number < PASSES_MAX && !self.plane.is_offline() => failed.push(pages),
                (Err(trouble), _) => return Err(trouble),
            }
        }
        Ok(failed)
    }

    /// When `pages` may be asked for: by the window, the hours of their file and the job's pace.
    async fn permit(&self, file: &OpenFile, pages: Pages) -> Result<OwnedSemaphorePermit, Trouble> {
        let room = (pages.count() as u32).min(self.window.available_permits().max(1) as u32);
        // The hours may have ended meanwhile.
        self.wait_for_hours(&file.path).await;
        let permit = self.window.clone().acquire_many_owned(room).await.map_err(|_| Trouble::Ending)?;
        let held = Held::of(&self.plane, Some(file.inode), file.disk.as_deref(), pages, file.size_bytes).bytes();
        self.pace.turn(held.asked_bytes - held.either_bytes).await;
        Ok(permit)
    }

    async fn until(
        &self,
        file: &Arc<OpenFile>,
        pages: Pages,
        is_so: impl Fn(&DiskFile) -> bool,
    ) -> Result<(), Trouble> {
        until(&self.plane, file, pages, self.reader, is_so).await
    }
}

/// Ask for `pages` to be brought to disk.
fn ask(plane: &Plane, file: &Arc<OpenFile>, pages: Pages, reader: ReaderId) -> Result<(), Trouble> {
    let disk = file.disk.as_ref().ok_or(Trouble::NotKept)?;
    if !disk.held(pages) {
        plane.inbox.push(Command::Keep { file: file.clone(), pages, reader });
    }
    Ok(())
}

/// Ask for `pages` to be brought to disk and wait until they are as they should be.
pub(in crate::fetch) async fn until(
    plane: &Plane,
    file: &Arc<OpenFile>,
    pages: Pages,
    reader: ReaderId,
    is_so: impl Fn(&DiskFile) -> bool,
) -> Result<(), Trouble> {
    let disk = file.disk.as_ref().ok_or(Trouble::NotKept)?;
    if is_so(disk) {
        return Ok(());
    }
    ask(plane, file, pages, reader)?;
    let wait = async {
        loop {
            let changed = file.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_so(disk) {
                return Ok(());
            }
            if let Some(trouble) = file.take_hopeless(pages) {
                return Err(trouble);
            }
            changed.await;
        }
    };
    tokio::time::timeout(plane.settings().read_deadline, wait).await.unwrap_or(Err(Trouble::TimedOut))
}

impl Outcome {
    fn add(&mut self, ended: Option<Result<Ended, tokio::task::JoinError>>) {
        match ended {
            Some(Ok((Ok(()), _))) => self.files += 1,
            Some(Ok((Err(trouble), path))) => self.failed(path, trouble.into()),
            Some(Err(_)) => self.failed += 1,
            None => {}
        }
    }

    fn failed(&mut self, path: Vec<u8>, trouble: PathTrouble) {
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push((path, trouble));
        }
    }
}
