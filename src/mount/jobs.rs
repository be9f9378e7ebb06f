//! Prefetch jobs by number: those that run, and the last few that ended.

use crate::clock::{Time, now};
use crate::control::protocol::{Refusal, RefusalKind};
use crate::control::report::{JobReport, PrefetchReport, Progress};
use crate::control::server::{PrefetchRequest, ProgressSender};
use crate::fetch::Engine;
use crate::fetch::prefetch::{self, Outcome};
use crate::fetch::rules::minute_text;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Jobs that are remembered after their end.
const ENDED_KEPT: usize = 16;
/// Jobs at once. Each holds a window of memory and of open files.
const RUNNING_MAX: usize = 16;
/// A bar that moves four times a second looks alive.
const PROGRESS_PERIOD: Duration = Duration::from_millis(250);

/// The jobs of one mount.
#[derive(Default)]
pub struct Jobs {
    known: Mutex<Vec<Arc<Job>>>,
}

struct Job {
    number: u64,
    since: Time,
    progress: Arc<prefetch::Progress>,
    ended: Mutex<Option<Ended>>,
}

#[derive(Clone)]
struct Ended {
    failed: u64,
    elapsed: Duration,
}

impl Jobs {
    /// For `status`.
    pub fn reports(&self) -> Vec<JobReport> {
        self.known.lock().iter().map(|job| job.report()).collect()
    }

    /// Run one: to its end where the client waits, else until it has begun.
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
        let job = self.begin().ok_or_else(|| {
            Refusal::new(RefusalKind::Busy, format!("{RUNNING_MAX} prefetches are running already; wait for one"))
        })?;
        let fetched_before = engine.fetched_bytes();
        let work = {
            let (job, engine) = (job.clone(), engine.clone());
            async move {
                let outcome = engine.prefetch(request.paths, job.progress.clone()).await;
                job.end(&outcome);
                outcome
            }
        };
        if !request.wait {
            tokio::spawn(work);
            return Ok(job.result(false, 0));
        }
        let _unfinished = Unfinished(job.clone());
        let outcome = follow(work, &job, &sender).await;
        for (path, trouble) in &outcome.failures {
            sender.failed(path.clone(), trouble.to_string()).await;
        }
        Ok(job.result(true, engine.fetched_bytes() - fetched_before))
    }

    fn begin(&self) -> Option<Arc<Job>> {
        let mut known = self.known.lock();
        let running = known.iter().filter(|job| job.ended.lock().is_none()).count();
        if running >= RUNNING_MAX {
            return None;
        }
        if known.len() - running >= ENDED_KEPT {
            let oldest = known.iter().position(|job| job.ended.lock().is_some());
            oldest.map(|at| known.remove(at));
        }
        let number = known.last().map_or(1, |job| job.number + 1);
        let job = Arc::new(Job { number, since: now(), progress: Arc::default(), ended: Mutex::new(None) });
        known.push(job.clone());
        Some(job)
    }
}

/// A client that goes away drops its job in the middle: it has ended all the same.
struct Unfinished(Arc<Job>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut ended = self.0.ended.lock();
        if ended.is_none() {
            *ended = Some(Ended { failed: 1, elapsed: now().since(self.0.since) });
        }
    }
}

async fn follow(work: impl Future<Output = Outcome>, job: &Job, sender: &ProgressSender) -> Outcome {
    tokio::pin!(work);
    loop {
        #[allow(clippy::disallowed_methods, reason = "a progress bar moves with time")]
        let tick = tokio::time::sleep(PROGRESS_PERIOD);
        tokio::select! {
            outcome = &mut work => {
                sender.progress(job.progress());
                return outcome;
            }
            () = tick => sender.progress(job.progress()),
        }
    }
}

impl Job {
    fn end(&self, outcome: &Outcome) {
        *self.ended.lock() = Some(Ended { failed: outcome.failed, elapsed: now().since(self.since) });
    }

    fn progress(&self) -> Progress {
        let ended = self.ended.lock().clone();
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let elapsed = ended.as_ref().map_or_else(|| now().since(self.since), |ended| ended.elapsed);
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
        }
    }

    /// Begin of the hours that some of its files wait for.
    fn waits_until(&self) -> Option<String> {
        let waits = self.progress.waiting.load(Ordering::Relaxed) > 0 && self.ended.lock().is_none();
        waits.then(|| minute_text(self.progress.waits_until_minute.load(Ordering::Relaxed)))
    }

    fn report(&self) -> JobReport {
        let state = match &*self.ended.lock() {
            None => "running",
            Some(Ended { failed: 0, .. }) => "done",
            Some(_) => "failed",
        };
        JobReport { job: self.number, state: state.into(), progress: self.progress() }
    }

    fn result(&self, finished: bool, bytes_fetched: u64) -> PrefetchReport {
        PrefetchReport { job: self.number, finished, progress: self.progress(), bytes_fetched }
    }
}
