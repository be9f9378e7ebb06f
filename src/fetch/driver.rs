//! The driver: takes events, drains actions, sleeps till the next timeout. No decision of its own.
//!
//! It owns the scheduler and runs, with all fetches and their connections, on one thread: one wake
//! brings a read in, and its answer leaves from the task of the fetch that completes it.

use crate::chunk::{Class, FetchId, Inode, PAGE_BYTES, Pages, ReaderId};
use crate::clock::{Time, now};
use crate::fetch::error::Trouble;
use crate::fetch::handle::Marks;
use crate::fetch::inbox::Command;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::{Doubt, Plane};
use crate::fetch::publisher::Publisher;
use crate::fetch::waiting::Waiter;
use crate::fetch::{from_disk, keeper, probe, transfer::Transfer};
use crate::scheduler::{Action, ComparisonId, Event, Failure, Scheduler};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::AbortHandle;

/// How often deadlines are looked at while somebody waits. Deadlines are seconds.
const EXPIRY_PERIOD: Duration = Duration::from_millis(100);
/// A read that has waited for so long is reason to ask mirrors for its folder that have not listed it.
const DOUBT_PERIOD: Duration = Duration::from_millis(500);
/// How often idle memory is given back, and connections are counted.
const TIDY_PERIOD: Duration = Duration::from_millis(200);
/// A read that the cache disk has not answered after this goes to the mirrors: a disk can hang for ever.
const DISK_PATIENCE: Duration = Duration::from_secs(2);
/// The kernel reads the page that somebody waits for once more when its readahead has failed. That second
/// try comes at once and fails at once, or a deadline would last twice its time.
const RETRY_FAILS: Duration = Duration::from_millis(250);
/// What a fetch in flight takes beside its pages: hyper reads into up to 400 KiB, and the kernel's copy of
/// the last frames is still held while it is poured into the pool.
const CONNECTION_BYTES: u64 = 448 << 10;
/// The pool is resized in steps of this.
const EXTERNAL_STEP_BYTES: u64 = 2 << 20;
/// Less than a round trip's worth is left of a fetch that is drained.
const DRAIN_PATIENCE: Duration = Duration::from_millis(300);
/// From this many pages on, a fetch takes whole extents of the pool.
pub const STREAM_PAGES: u64 = 64;

/// A read that failed at its deadline.
struct Expired {
    at: Time,
    file: Inode,
    pages: Pages,
    trouble: Trouble,
}

/// The driver of one mount.
pub struct Driver {
    pub(super) plane: Arc<Plane>,
    pub(super) scheduler: Scheduler,
    publisher: Publisher,
    marks: Marks,
    running: HashMap<FetchId, AbortHandle>,
    pub(super) comparing: HashMap<ComparisonId, AbortHandle>,
    /// Reads that found no memory, oldest first.
    parked: VecDeque<Arc<Waiter>>,
    /// Reads that the disk's threads were asked for, and when we stop to wait for them.
    disk_reads: VecDeque<(Time, Arc<OpenFile>, Pages)>,
    /// Fetches that are only read out, and when that must have ended: one that fell silent would keep the
    /// page that it was in the middle of from everybody else.
    draining: VecDeque<(Time, FetchId)>,
    dropped: Vec<(Inode, Pages)>,
    budget_bytes: u64,
    external_bytes: u64,
    /// Fetches at once lately.
    connections: u64,
    /// Reads that failed at their deadline just now.
    expired: Vec<Expired>,
    next_expiry: Time,
    next_tidy: Time,
    next_doubt: Time,
}

impl Driver {
    /// Drives `scheduler` for `plane`.
    pub fn new(plane: Arc<Plane>, scheduler: Scheduler) -> Driver {
        Driver {
            publisher: Publisher::default(),
            plane,
            marks: Marks::default(),
            scheduler,
            running: HashMap::new(),
            comparing: HashMap::new(),
            parked: VecDeque::new(),
            disk_reads: VecDeque::new(),
            draining: VecDeque::new(),
            dropped: Vec::new(),
            budget_bytes: u64::MAX,
            external_bytes: 0,
            connections: 0,
            expired: Vec::new(),
            next_expiry: Time(0),
            next_tidy: Time(0),
            next_doubt: Time(0),
        }
    }

    /// Until the mount ends. Must run inside a `LocalSet`.
    pub async fn run(mut self) {
        let mut commands = Vec::new();
        loop {
            self.plane.inbox.take(&mut commands);
            let time = now();
            for command in commands.drain(..) {
                if matches!(command, Command::End) {
                    return self.end();
                }
                self.obey(time, command);
            }
            self.housekeeping(time);
            self.act_on_all(time);
            self.publisher.drained(time, &self.scheduler, &self.plane.published, &self.plane.offline);
            self.sleep(time).await;
        }
    }

    async fn sleep(&self, time: Time) {
        let wake = self.scheduler.poll_timeout().unwrap_or(Time::NEVER).min(self.next_tidy);
        let waits = !self.parked.is_empty() || !self.plane.waiting.is_empty();
        let wake = if waits { wake.min(self.next_expiry) } else { wake };
        let wake = self.draining.front().map_or(wake, |(until, _)| wake.min(*until));
        #[allow(clippy::disallowed_methods, reason = "the driver is where time passes")]
        let timeout = tokio::time::sleep(wake.since(time));
        tokio::select! { () = self.plane.inbox.woken() => {}, () = timeout => {} }
    }

    fn obey(&mut self, time: Time, command: Command) {
        match command {
            Command::Read(waiter) => self.admit(time, waiter),
            Command::Tell(event) => {
                if let Event::Finished { fetch } | Event::Failed { fetch, .. } = event {
                    self.running.remove(&fetch);
                }
                if let Event::Compared { comparison, .. } = event {
                    self.comparing.remove(&comparison);
                }
                self.marks.heard(&event);
                if !matches!(event, Event::Progress { .. } | Event::Arrived { .. }) {
                    tracing::trace!(?event, "told");
                }
                self.scheduler.handle(time, event);
            }
            Command::Follow { reader, mark } => self.marks.follow(reader, mark),
            Command::FromDisk { file, pages } => {
                self.disk_reads.retain(|(_, read, asked)| read.inode != file || *asked != pages);
                let plane = &self.plane;
                plane.waiting.published(file, pages, pages.start, &plane.pool, &plane.metrics);
            }
            Command::NotOnDisk { file, pages } => self.disk_failed(time, &file, pages),
            Command::Keep { file, pages, reader } => self.keep(time, file, pages, reader),
            Command::Ahead { file, pages, reader } => self.want_ahead(time, &file, pages, reader),
            Command::Ask(question) => question(time, &mut self.scheduler),
            Command::MemoryFreed => {
                self.plane.memory_freed.notify_waiters();
                self.unpark(time);
            }
            Command::End => {}
        }
    }

    /// A read gets all its memory at once, or queues: reads that each held half of theirs would wait for ever.
    fn admit(&mut self, time: Time, waiter: Arc<Waiter>) {
        let again =
            |failed: &Expired| failed.file == waiter.file.inode && !failed.pages.intersect(waiter.pages).is_empty();
        self.expired.retain(|failed| time.since(failed.at) < RETRY_FAILS);
        if let Some(trouble) = self.expired.iter().find(|failed| again(failed)).map(|failed| failed.trouble) {
            waiter.fail(trouble, &self.plane.metrics);
            return;
        }
        if !self.parked.is_empty() || !self.begin(time, &waiter) {
            self.plane.metrics.waiting_reads.add(1);
            self.parked.push_back(waiter);
        }
    }

    /// False where there is no memory for it.
    fn begin(&mut self, time: Time, waiter: &Arc<Waiter>) -> bool {
        let pool = &self.plane.pool;
        let reserved = waiter.reserve(pool)
            || self.plane.disk.as_ref().is_some_and(|disk| {
                disk.let_go(waiter.pages.count() * PAGE_BYTES);
                waiter.reserve(pool)
            });
        if !reserved {
            return false;
        }
        self.plane.waiting.add(waiter.clone(), &self.plane.metrics);
        if waiter.try_answer(&self.plane.pool, &self.plane.metrics) {
            self.plane.waiting.remove(waiter, &self.plane.metrics);
        } else {
            self.want_missing(time, waiter);
        }
        true
    }

    pub(super) fn want_missing(&mut self, time: Time, waiter: &Arc<Waiter>) {
        for missing in self.plane.pool.missing(waiter.file.inode, waiter.pages) {
            self.want(time, &waiter.file, missing, Class::Demand, waiter);
        }
        self.want_sealed(time, waiter);
    }

    /// What of `pages` is on disk is read from there, the rest wanted from the mirrors.
    fn want(&mut self, time: Time, file: &Arc<OpenFile>, pages: Pages, class: Class, waiter: &Arc<Waiter>) {
        let remote = file.disk.as_ref().map_or(vec![pages], |disk| disk.missing(pages));
        waiter.misses(Some(pages), &remote);
        let mut at = pages.start;
        for part in remote.iter().copied().chain([Pages::new(pages.end, pages.end)]) {
            let local = Pages::new(at, part.start);
            if !local.is_empty() {
                from_disk::spawn(&self.plane, file, local);
                self.disk_reads.push_back((time + DISK_PATIENCE, file.clone(), local));
            }
            at = part.end;
        }
        let deadline = waiter.since + self.plane.settings().read_deadline;
        for pages in remote {
            self.want_remote(time, file, pages, class, waiter.reader, deadline);
        }
    }

    /// The disk could not bring `pages` (damaged, evicted meanwhile, or it hangs): the mirrors shall.
    fn disk_failed(&mut self, time: Time, file: &Arc<OpenFile>, pages: Pages) {
        self.disk_reads.retain(|(_, read, asked)| read.inode != file.inode || *asked != pages);
        for waiter in self.plane.waiting.of(file.inode, pages) {
            let deadline = waiter.since + self.plane.settings().read_deadline;
            for missing in self.plane.pool.missing(file.inode, waiter.pages.intersect(pages)) {
                waiter.misses(None, &[missing]);
                self.want_remote(time, file, missing, Class::Demand, waiter.reader, deadline);
            }
        }
    }

    pub(super) fn want_remote(
        &mut self,
        time: Time,
        file: &Arc<OpenFile>,
        pages: Pages,
        class: Class,
        reader: ReaderId,
        deadline: Time,
    ) {
        // We have just looked: whatever the table thinks is held of them is not.
        self.scheduler.handle(time, Event::Dropped { file: file.inode, pages });
        self.scheduler.handle(time, Event::Wanted { file: file.inode, pages, class, reader, deadline });
    }

    /// A prefetch job wants `pages` durable: from memory to disk what is here, the rest from the mirrors.
    fn keep(&mut self, time: Time, file: Arc<OpenFile>, pages: Pages, reader: ReaderId) {
        let Some(disk) = &file.disk else { return file.give_up(pages, Trouble::NotKept) };
        let deadline = time + self.plane.settings().read_deadline;
        for missing in disk.missing(pages) {
            let remote = self.plane.pool.missing(file.inode, missing);
            if remote.as_slice() != [missing] {
                let (plane, file) = (self.plane.clone(), file.clone());
                tokio::task::spawn_local(async move { keeper::keep_run(&plane, &file, missing, true).await });
            }
            for pages in remote {
                self.want_remote(time, &file, pages, Class::Prefetch, reader, deadline);
            }
        }
    }

    fn unpark(&mut self, time: Time) {
        while let Some(waiter) = self.parked.pop_front() {
            self.plane.metrics.waiting_reads.sub(1);
            if !self.begin(time, &waiter) {
                self.plane.metrics.waiting_reads.add(1);
                self.parked.push_front(waiter);
                return;
            }
        }
    }

    pub(super) fn act_on_all(&mut self, time: Time) {
        self.plane.pool.take_dropped(&mut self.dropped);
        for (file, pages) in std::mem::take(&mut self.dropped) {
            let Some(open) = self.plane.opened.get(file) else { continue };
            let gone = open.disk.as_ref().map_or(vec![pages], |disk| disk.missing(pages));
            for pages in gone {
                self.scheduler.handle(time, Event::Dropped { file, pages });
            }
        }
        let background_bytes = self.plane.pool.available_bytes(Class::Readahead);
        if background_bytes != self.budget_bytes {
            self.budget_bytes = background_bytes;
            self.scheduler.handle(time, Event::BudgetChanged { background_bytes });
        }
        while let Some(action) = self.scheduler.poll_action(time) {
            self.act(time, action);
        }
    }

    fn act(&mut self, time: Time, action: Action) {
        tracing::trace!(?action, "decided");
        match action {
            Action::Start { fetch, mirror, file, pages, class, whole } => {
                let is_hedge = self.plane.slow_reads.get().is_some() && self.scheduler.is_hedge(fetch);
                let transfer = self.plane.opened.get(file).map(|file| {
                    let (admitted, wait) = Default::default();
                    Transfer { fetch, mirror, file, pages, class, whole, is_hedge, admitted, wait }
                });
                self.start(time, fetch, transfer);
            }
            Action::Cancel { fetch, drain } => {
                self.plane.metrics.redispatches.add(1);
                match drain {
                    // It runs to its end by itself, and its pages are welcome; but nobody watches it any more.
                    true => self.draining.push_back((time + DRAIN_PATIENCE, fetch)),
                    false => self.abort(fetch),
                }
            }
            Action::Probe { mirror } => probe::spawn(&self.plane, mirror),
            Action::Fail { file, pages, why } => {
                let plane = &self.plane;
                plane.waiting.hopeless(file, pages, why.into(), &plane.pool, &plane.metrics);
                if let Some(file) = plane.opened.get(file) {
                    file.give_up(pages, why.into());
                }
            }
            Action::Mark { reader, page, .. } => self.marks.set(reader, page),
            Action::Alert { mirror, file, what } => {
                let mirror = mirror.map(|mirror| self.plane.mirrors.of(mirror).url());
                let file = file.and_then(|file| self.plane.opened.get(file));
                let path = file.map(|file| String::from_utf8_lossy(&file.path).into_owned());
                self.plane.metrics.alerts.add(1);
                tracing::warn!(mirror, path, "{what}");
            }
            other => self.act_on_sameness(time, other),
        }
    }

    fn abort(&mut self, fetch: FetchId) {
        if let Some(task) = self.running.remove(&fetch) {
            task.abort();
        }
    }

    fn start(&mut self, time: Time, fetch: FetchId, transfer: Option<Transfer>) {
        let Some(transfer) = transfer else { return self.refuse(time, fetch) };
        let memory = match transfer.whole {
            true => None,
            false => {
                let (file, pages) = (transfer.file.inode, transfer.pages);
                match self.plane.pool.reserve(file, pages, transfer.class, pages.count() >= STREAM_PAGES) {
                    Ok(memory) => Some(memory),
                    Err(short) => {
                        tracing::trace!(?pages, ?short, "no memory for a fetch");
                        return self.refuse(time, fetch);
                    }
                }
            }
        };
        let task = tokio::task::spawn_local(transfer.run(self.plane.clone(), memory));
        self.running.insert(fetch, task.abort_handle());
        self.count_external();
    }

    /// Connections and names count in the memory limit: what they take is taken from the pool.
    fn count_external(&mut self) {
        self.connections = self.connections.max(self.running.len() as u64);
        let connections = self.connections * CONNECTION_BYTES;
        let external_bytes = connections + self.plane.names_bytes.load(Ordering::Relaxed);
        // Shrinking looks through the pool: not for each fetch.
        if external_bytes.abs_diff(self.external_bytes) >= EXTERNAL_STEP_BYTES {
            self.plane.pool.set_external_bytes(external_bytes);
            self.external_bytes = external_bytes;
        }
    }

    /// There is no memory for it, or nobody has its file open any more.
    fn refuse(&mut self, time: Time, fetch: FetchId) {
        // Nothing more in this round: the budget is looked at anew in the next one.
        self.budget_bytes = 0;
        self.scheduler.handle(time, Event::BudgetChanged { background_bytes: 0 });
        self.scheduler.handle(time, Event::Failed { fetch, failure: Failure::Cancelled });
    }

    fn housekeeping(&mut self, time: Time) {
        while self.draining.front().is_some_and(|(until, _)| *until <= time) {
            let (_, fetch) = self.draining.pop_front().expect("it was just there");
            self.abort(fetch);
        }
        if time >= self.next_expiry {
            self.next_expiry = time + EXPIRY_PERIOD;
            self.expire(time);
            self.doubt_waiting(time);
            if !self.parked.is_empty() {
                self.unpark(time);
            }
        }
        if time >= self.next_tidy {
            self.next_tidy = time + TIDY_PERIOD;
            self.plane.pool.give_back(time);
            // Kept connections hold their buffers for a while after their fetch.
            self.connections -= self.connections / 16;
            self.count_external();
        }
    }

    /// Reads that have waited for a while: do mirrors that were not there before know their files now?
    fn doubt_waiting(&mut self, time: Time) {
        if time < self.next_doubt || self.plane.waiting.is_empty() {
            return;
        }
        self.next_doubt = time + DOUBT_PERIOD;
        for file in self.plane.waiting.files_since(time - DOUBT_PERIOD) {
            let _ = self.plane.doubts.send(Doubt::Waiting { file });
        }
    }

    fn expire(&mut self, time: Time) {
        while self.disk_reads.front().is_some_and(|(until, ..)| *until <= time) {
            let (_, file, pages) = self.disk_reads.pop_front().expect("it was just there");
            tracing::warn!(?pages, "the disk cache does not answer: reading through");
            self.disk_failed(time, &file, pages);
        }
        let settings = self.plane.settings();
        let late = |waiter: &Waiter| {
            time.since(waiter.last_byte()) > settings.read_timeout || time.since(waiter.since) > settings.read_deadline
        };
        let mut expired = self.plane.waiting.expired(late, &self.plane.metrics);
        let parked = self.parked.len();
        self.parked.retain(|waiter| {
            let is_late = late(waiter);
            if is_late {
                expired.push(waiter.clone());
            }
            !is_late
        });
        self.plane.metrics.waiting_reads.sub((parked - self.parked.len()) as u64);
        for waiter in expired {
            let answered = self.plane.last_answer() >= waiter.since;
            let trouble = if answered { Trouble::Stalled } else { Trouble::TimedOut };
            if waiter.fail(trouble, &self.plane.metrics) {
                let (file, pages) = (waiter.file.inode, waiter.pages);
                self.expired.push(Expired { at: time, file, pages, trouble });
                let path = String::from_utf8_lossy(&waiter.file.path).into_owned();
                let waited = time.since(waiter.since);
                tracing::warn!(path, pages = ?waiter.pages, ?waited, "a read failed: {trouble}");
            }
        }
    }

    /// Fail what waits. Fetches end with their tasks, when the runtime does.
    fn end(mut self) {
        self.plane.histories.ended(self.scheduler.history(now()));
        let mut left: Vec<_> = self.parked.drain(..).collect();
        self.plane.metrics.waiting_reads.sub(left.len() as u64);
        left.extend(self.plane.waiting.expired(|_| true, &self.plane.metrics));
        for waiter in left {
            waiter.fail(Trouble::Ending, &self.plane.metrics);
        }
        for task in self.running.drain().map(|(_, task)| task).chain(self.comparing.drain().map(|(_, task)| task)) {
            task.abort();
        }
    }
}
