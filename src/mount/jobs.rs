//! Prefetch jobs by number: those that run, and the last few that ended.

use crate::clock::{Time, now};
use crate::control::protocol::{PathText, Refusal, RefusalKind};
use crate::control::report::{FailedFile, JobReport, MirrorShare, PrefetchReport, Progress};
use crate::control::server::{PrefetchRequest, ProgressSender};
use crate::fetch::Engine;
use crate::fetch::prefetch::{self, Outcome};
use crate::fetch::rules::minute_text;
use crate::mount::Stop;
use crate::mount::kept_jobs::KeptJob;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};

/// Jobs that are remembered after their end.
const ENDED_KEPT: usize = 16;
/// Jobs at once. Each holds a window of memory and of open files.
const RUNNING_MAX: usize = 16;
/// What the lists of all jobs that run may take of memory together, in bytes: four of the longest requests.
const LISTS_BYTES_MAX: u64 = 64 << 20;
/// Paths of a job that reports name. It may have a hundred thousand.
const PATHS_SHOWN: usize = 20;
/// A bar that moves four times a second looks alive, …
const PROGRESS_PERIOD: Duration = Duration::from_millis(250);
/// … and is true where it moves as soon as more is durable, which comes in steps of up to a second's bytes.
const CHANGE_PERIOD: Duration = Duration::from_millis(20);

/// Failures of a job that `braidfs jobs` names. Who waits for it hears of all.
const FAILURES_SHOWN: usize = 20;
/// Mirrors that a report names: who brings a thousandth is of no use in a bar.
const SHARES_MAX: usize = 16;
/// How often it is looked whether a mirror is there again, for a job of an earlier mount.
const ONLINE_PERIOD: Duration = Duration::from_secs(1);

/// The jobs of one mount.
pub struct Jobs {
    known: Mutex<Known>,
    /// What the mount was told about its end: a job that is cut off by that goes on with the next one.
    stop: watch::Receiver<Stop>,
}

#[derive(Default)]
struct Known {
    jobs: Vec<Arc<Job>>,
    /// The last number that was given, or is written down: none is given twice.
    last_number: u64,
}

struct Job {
    number: u64,
    /// The first few.
    paths_shown: Vec<PathText>,
    paths_total: u64,
    ranges_total: Option<u64>,
    list_bytes: u64,
    rate: Option<u64>,
    since: Time,
    progress: Arc<prefetch::Progress>,
    brought: Brought,
    ended: Mutex<Option<Ended>>,
    cancelled: Notify,
    stop: watch::Receiver<Stop>,
}

struct Ended {
    /// As in reports.
    state: &'static str,
    elapsed: Duration,
    failures: Vec<FailedFile>,
    mirrors: Vec<MirrorShare>,
}

impl Jobs {
    /// None yet.
    pub fn new(stop: watch::Receiver<Stop>) -> Jobs {
        Jobs { known: Mutex::default(), stop }
    }

    /// For `status`.
    pub fn reports(&self) -> Vec<JobReport> {
        self.known.lock().jobs.iter().map(|job| job.report()).collect()
    }

    /// Run one: to its end where the client waits, else until it has begun and is written down.
    pub async fn run(
        self: Arc<Self>,
        engine: Arc<Engine>,
        request: PrefetchRequest,
        sender: ProgressSender,
    ) -> Result<PrefetchReport, Refusal> {
        if !engine.can_prefetch() {
            let what = "this mount keeps nothing on disk (--cache-dir none), so there is nowhere to prefetch to";
            return Err(Refusal::new(RefusalKind::Failed, what));
        }
        let wait = request.wait;
        let Some(work) = KeptJob::new(request) else {
            return Err(Refusal::new(RefusalKind::Request, "a range is of a path that is not among those given"));
        };
        let job = self.begin(&engine, &work)?;
        let fetched_before = engine.fetched_bytes();
        // A client that goes away ends its job, whatever that is at.
        let _waits = wait.then(|| Waits(job.clone()));
        let (begun, has_begun) = oneshot::channel();
        let work = tokio::spawn(job.clone().begin(engine.clone(), work, begun));
        let _ = has_begun.await;
        if !wait {
            return Ok(job.result(false, 0));
        }
        let Ok(Some(outcome)) = follow(work, &job, &sender).await else {
            let what = format!("job {} was cancelled; what it has brought stays in the cache", job.number);
            return Err(Refusal::new(RefusalKind::Failed, what));
        };
        for (path, trouble) in &outcome.failures {
            sender.failed(path.clone(), trouble.to_string()).await;
        }
        Ok(job.result(true, engine.fetched_bytes() - fetched_before))
    }

    /// Go on with what an earlier mount had not ended, once a mirror is there.
    pub fn resume(&self, engine: &Arc<Engine>) {
        let rows = engine.jobs().unwrap_or_else(|error| {
            tracing::warn!(%error, "prefetch jobs of an earlier mount cannot be read, and do not go on");
            Vec::new()
        });
        for (number, bytes) in rows {
            self.known.lock().last_number = number;
            let Some(kept) = KeptJob::decode(&bytes) else {
                tracing::warn!(number, "a prefetch job was written down by a later braidfs, and is left alone");
                continue;
            };
            tracing::info!(number, paths = kept.paths.len(), "going on with a prefetch job of an earlier mount");
            let job = Job::new(number, &kept, engine.clone(), self.stop.clone());
            self.known.lock().jobs.push(job.clone());
            let engine = engine.clone();
            engine.runtime().clone().spawn(async move {
                while engine.is_offline() && job.ended.lock().is_none() {
                    #[allow(clippy::disallowed_methods, reason = "who is offline may be so for days")]
                    tokio::time::sleep(ONLINE_PERIOD).await;
                }
                job.work(engine, kept).await
            });
        }
    }

    /// End one by its number.
    pub fn cancel(&self, number: u64) -> Result<JobReport, Refusal> {
        let known = self.known.lock();
        let missing = |what| Refusal::new(RefusalKind::Missing, format!("{what}; `braidfs jobs` lists them"));
        let job = known.jobs.iter().find(|job| job.number == number);
        let job = job.ok_or_else(|| missing(format!("no job has the number {number}")))?;
        if !job.end("cancelled", Vec::new()) {
            return Err(missing(format!("job {number} has ended already: {}", job.report().state)));
        }
        Ok(job.report())
    }

    fn begin(&self, engine: &Arc<Engine>, work: &KeptJob) -> Result<Arc<Job>, Refusal> {
        let mut known = self.known.lock();
        let running = known.jobs.iter().filter(|job| job.ended.lock().is_none());
        let (running, lists_bytes) = running.fold((0, 0), |(count, bytes), job| (count + 1, bytes + job.list_bytes));
        if running >= RUNNING_MAX {
            let what = format!("{RUNNING_MAX} prefetches are running already; wait for one");
            return Err(Refusal::new(RefusalKind::Busy, what));
        }
        if lists_bytes + work.memory_bytes() > LISTS_BYTES_MAX {
            let what = "the lists of the prefetches that run and this one take more than 64 MiB together; wait for one";
            return Err(Refusal::new(RefusalKind::Busy, what));
        }
        if known.jobs.len() - running >= ENDED_KEPT {
            let oldest = known.jobs.iter().position(|job| job.ended.lock().is_some());
            oldest.map(|at| known.jobs.remove(at));
        }
        known.last_number += 1;
        let job = Job::new(known.last_number, work, engine.clone(), self.stop.clone());
        known.jobs.push(job.clone());
        Ok(job)
    }
}

/// What mirrors bring while a job runs.
struct Brought {
    engine: Arc<Engine>,
    before: HashMap<String, u64>,
}

impl Brought {
    /// The most first. One that came meanwhile had brought nothing.
    fn shares(&self) -> Vec<MirrorShare> {
        let share = |(url, bytes): (String, u64)| {
            let before = self.before.get(&url).copied().unwrap_or(0);
            MirrorShare { url, bytes_fetched: bytes.saturating_sub(before) }
        };
        let mut shares: Vec<MirrorShare> = self.engine.fetched_by_mirror().into_iter().map(share).collect();
        shares.retain(|share| share.bytes_fetched > 0);
        shares.sort_by_key(|share| std::cmp::Reverse(share.bytes_fetched));
        shares.truncate(SHARES_MAX);
        shares
    }
}

/// A client that waits for its job.
struct Waits(Arc<Job>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.end("abandoned", Vec::new());
    }
}

async fn follow<T>(work: impl Future<Output = T>, job: &Job, sender: &ProgressSender) -> T {
    tokio::pin!(work);
    let (mut told, mut told_at) = (job.done(), now());
    loop {
        #[allow(clippy::disallowed_methods, reason = "a progress bar moves with time")]
        let tick = tokio::time::sleep(CHANGE_PERIOD);
        tokio::select! {
            outcome = &mut work => {
                sender.progress(job.progress());
                return outcome;
            }
            () = tick => {
                let done = job.done();
                if done != told || now().since(told_at) >= PROGRESS_PERIOD {
                    sender.progress(job.progress());
                    (told, told_at) = (done, now());
                }
            }
        }
    }
}

impl Job {
    fn new(number: u64, work: &KeptJob, engine: Arc<Engine>, stop: watch::Receiver<Stop>) -> Arc<Job> {
        Arc::new(Job {
            number,
            paths_shown: work.paths.iter().take(PATHS_SHOWN).cloned().collect(),
            paths_total: work.paths.len() as u64,
            ranges_total: (!work.ranges.is_empty()).then_some(work.ranges.len() as u64),
            list_bytes: work.memory_bytes(),
            rate: work.rate,
            since: now(),
            progress: Arc::default(),
            brought: Brought { before: engine.fetched_by_mirror().into_iter().collect(), engine },
            ended: Mutex::new(None),
            cancelled: Notify::new(),
            stop,
        })
    }

    /// So that the next mount goes on with it. Where the disk does not take it, it ends with this one.
    async fn write_down(&self, engine: &Engine, work: &KeptJob) {
        if let Err(error) = engine.put_job(self.number, Some(work.encode())).await {
            tracing::warn!(%error, job = self.number, "a prefetch job could not be written down: it ends with this mount");
        }
    }

    /// Written down, which is told, and then to its end.
    async fn begin(self: Arc<Self>, engine: Arc<Engine>, work: KeptJob, begun: oneshot::Sender<()>) -> Option<Outcome> {
        self.write_down(&engine, &work).await;
        // Nobody to hear it: the client has gone away.
        let _ = begun.send(());
        self.work(engine, work).await
    }

    /// To its end, or until somebody else has ended it: nothing then.
    async fn work(self: Arc<Self>, engine: Arc<Engine>, work: KeptJob) -> Option<Outcome> {
        let done = tokio::select! {
            biased;
            () = self.cancelled.notified() => None,
            outcome = engine.prefetch(work.work(), self.progress.clone()) => Some(outcome),
        };
        if let Some(outcome) = &done {
            let shown = outcome.failures.iter().take(FAILURES_SHOWN);
            let failures =
                shown.map(|(path, why)| FailedFile { path: PathText(path.clone()), reason: why.to_string() }).collect();
            self.end(if outcome.failed == 0 { "done" } else { "failed" }, failures);
        }
        // A client that is cut off by the end of the mount has not given its job up.
        let is_cut_off = done.is_none() && *self.stop.borrow() == Stop::Ended;
        if !is_cut_off && let Err(error) = engine.put_job(self.number, None).await {
            tracing::warn!(%error, job = self.number, "that a prefetch job has ended could not be written down");
        }
        done
    }

    /// Has ended so, unless it had before.
    fn end(&self, state: &'static str, failures: Vec<FailedFile>) -> bool {
        let mut ended = self.ended.lock();
        let is_first = ended.is_none();
        let (elapsed, mirrors) = (now().since(self.since), self.brought.shares());
        ended.get_or_insert(Ended { state, elapsed, failures, mirrors });
        self.cancelled.notify_one();
        is_first
    }

    /// What moves its bar.
    fn done(&self) -> (u64, u64) {
        (self.progress.bytes_done.load(Ordering::Relaxed), self.progress.files_done.load(Ordering::Relaxed))
    }

    fn progress(&self) -> Progress {
        let (elapsed, mirrors) = match &*self.ended.lock() {
            Some(ended) => (ended.elapsed, ended.mirrors.clone()),
            None => (now().since(self.since), self.brought.shares()),
        };
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        Progress {
            bytes_done: load(&self.progress.bytes_done),
            bytes_total: load(&self.progress.bytes),
            files_done: load(&self.progress.files_done),
            files_total: load(&self.progress.files),
            files_failed: load(&self.progress.files_failed),
            listing: !self.progress.complete.load(Ordering::Relaxed),
            elapsed_ms: elapsed.as_millis() as u64,
            files_waiting: load(&self.progress.waiting),
            waits_until: self.waits_until(),
            mirrors,
        }
    }

    /// Begin of the hours that some of its files wait for.
    fn waits_until(&self) -> Option<String> {
        let waits = self.progress.waiting.load(Ordering::Relaxed) > 0 && self.ended.lock().is_none();
        waits.then(|| minute_text(self.progress.waits_until_minute.load(Ordering::Relaxed)))
    }

    fn report(&self) -> JobReport {
        let (state, failures) = match &*self.ended.lock() {
            None => ("running", Vec::new()),
            Some(ended) => (ended.state, ended.failures.clone()),
        };
        let progress = self.progress();
        JobReport {
            job: self.number,
            state: state.into(),
            paths: self.paths_shown.clone(),
            paths_total: self.paths_total,
            ranges_total: self.ranges_total,
            rate_bytes_per_second: self.rate,
            failures,
            progress,
        }
    }

    fn result(&self, finished: bool, bytes_fetched: u64) -> PrefetchReport {
        PrefetchReport { job: self.number, finished, progress: self.progress(), bytes_fetched }
    }
}
