//! What is to be written: a queue bounded in bytes, in which neighbours find each other.
//!
//! A run of 1 MiB goes at once, and so does a whole file, which has no neighbours; a shorter one waits for
//! some for a moment, because a lone page costs the disk as much as a long run.

use super::{WriteError, WriteJob};
use crate::chunk::{PAGE_BYTES, Pages};
use crate::clock::{self, Time};
use crate::metrics::Metrics;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A run this long is written without waiting for more.
const RUN_BYTES_READY: u64 = 1 << 20;
/// Longer runs gain nothing and hold memory longer.
const RUN_BYTES_MAX: u64 = 4 << 20;

/// The queue between those who fetch and the writer.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    bytes_max: u64,
    lone_wait: Duration,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<u64, Queued>,
    /// File number and first page -> job.
    starts: BTreeMap<(u64, u64), u64>,
    ready: VecDeque<u64>,
    /// Handed to the writer and not finished.
    writing: BTreeSet<u64>,
    bytes: u64,
    /// See [`Queue::is_behind`].
    behind: bool,
    next: u64,
    /// Jobs below it wait for no neighbours.
    hurried: u64,
    stopped: bool,
}

struct Queued {
    job: WriteJob,
    since: Time,
}

/// Neighbouring jobs of one file, in page order.
pub(super) struct Run {
    pub(super) jobs: Vec<(u64, WriteJob)>,
}

impl Run {
    pub(super) fn pages(&self) -> Pages {
        let (first, last) = (self.jobs.first(), self.jobs.last());
        Pages::new(first.map_or(0, |(_, job)| job.pages.start), last.map_or(0, |(_, job)| job.pages.end))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.jobs.iter().map(|(_, job)| bytes_of(job)).sum()
    }
}

impl Queue {
    pub(super) fn new(bytes_max: u64, lone_wait: Duration, metrics: Arc<Metrics>) -> Queue {
        Queue { state: Mutex::default(), changed: Condvar::new(), bytes_max, lone_wait, metrics }
    }

    /// Take a job in, or give it back where there is no room.
    pub(super) fn push(&self, job: WriteJob) -> Result<(), WriteJob> {
        let bytes = bytes_of(&job);
        let mut state = self.state.lock();
        let room = state.bytes == 0 || state.bytes + bytes <= self.bytes_max;
        if state.stopped || !room {
            return Err(job);
        }
        state.bytes += bytes;
        self.metrics.disk_queue_bytes.add(bytes);
        let number = state.next;
        state.next += 1;
        // A second job for the same pages finds the place taken and goes alone.
        state.starts.entry((job.file.number, job.pages.start)).or_insert(number);
        state.jobs.insert(number, Queued { job, since: clock::now() });
        let run = state.run_around(number);
        let bytes = run.iter().map(|number| bytes_of(&state.jobs[number].job)).sum::<u64>();
        let whole = bytes == state.jobs[&number].job.file.key().page_count() * PAGE_BYTES;
        let ready = bytes >= RUN_BYTES_READY || whole;
        if ready {
            state.ready.push_back(number);
        }
        if ready || state.jobs.len() == 1 || state.bytes > self.bytes_max / 2 {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// The next run, when one is due; `None` after [`Queue::stop`], when all is written.
    pub(super) fn next(&self) -> Option<Run> {
        let mut state = self.state.lock();
        loop {
            while let Some(number) = state.ready.pop_front() {
                if state.jobs.contains_key(&number) {
                    return Some(state.take(number));
                }
            }
            let now = clock::now();
            match state.jobs.first_key_value() {
                None if state.stopped => return None,
                None => {
                    self.changed.wait(&mut state);
                }
                Some((&number, queued)) => {
                    let age = now.since(queued.since);
                    let pressed = state.bytes > self.bytes_max / 2;
                    if age >= self.lone_wait || number < state.hurried || pressed || state.stopped {
                        return Some(state.take(number));
                    }
                    self.changed.wait_for(&mut state, self.lone_wait - age);
                }
            }
        }
    }

    /// Is the disk slower than what comes? From a quarter of the room on until next to nothing waits any more: who goes to
    /// and fro meets the stalls of a busy disk, which fill the rest of the room.
    pub(super) fn is_behind(&self) -> bool {
        let mut state = self.state.lock();
        let enough = if state.behind { self.bytes_max / 32 } else { self.bytes_max / 4 };
        state.behind = state.bytes > enough;
        state.behind
    }

    /// A run's jobs are written or have failed: their bytes are no longer held.
    pub(super) fn finished(&self, numbers: impl Iterator<Item = u64>, bytes: u64) {
        let mut state = self.state.lock();
        numbers.for_each(|number| {
            state.writing.remove(&number);
        });
        state.bytes -= bytes;
        self.metrics.disk_queue_bytes.sub(bytes);
        self.changed.notify_all();
    }

    /// Drop jobs that may be let go and have not started, oldest first, until `want_bytes` are free.
    pub(super) fn let_go(&self, want_bytes: u64) -> u64 {
        let mut gone = Vec::new();
        let mut freed = 0;
        let mut state = self.state.lock();
        let may: Vec<_> =
            state.jobs.iter().filter(|(_, queued)| queued.job.may_let_go).map(|(&number, _)| number).collect();
        for number in may {
            if freed >= want_bytes {
                break;
            }
            freed += state.remove(number, &mut gone);
        }
        drop(state);
        self.metrics.disk_let_go_bytes.add(freed);
        self.end(gone, freed, &WriteError::LetGo);
        freed
    }

    /// Drop everything that has not started.
    pub(super) fn drain(&self, error: &WriteError) {
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        let all: Vec<_> = state.jobs.keys().copied().collect();
        let freed = all.into_iter().map(|number| state.remove(number, &mut gone)).sum();
        drop(state);
        self.end(gone, freed, error);
    }

    /// Let no job wait for neighbours, and wait until all that are in are written. `false`: not in time.
    pub(super) fn flush(&self, deadline: Time) -> bool {
        let mut state = self.state.lock();
        let upto = state.next;
        state.hurried = upto;
        self.changed.notify_all();
        loop {
            let first = state.jobs.keys().next().into_iter().chain(state.writing.first()).min().copied();
            if first.is_none_or(|first| first >= upto) {
                return true;
            }
            let left = deadline.since(clock::now());
            if left.is_zero() {
                return false;
            }
            self.changed.wait_for(&mut state, left);
        }
    }

    /// Take no more; the writer finishes what is in.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Outside the lock: the owners of jobs may call back.
    fn end(&self, jobs: Vec<WriteJob>, bytes: u64, error: &WriteError) {
        for mut job in jobs {
            let done = job.done.take();
            drop(job);
            if let Some(done) = done {
                done(Err(error.clone()));
            }
        }
        let mut state = self.state.lock();
        state.bytes -= bytes;
        self.metrics.disk_queue_bytes.sub(bytes);
        self.changed.notify_all();
    }
}

impl State {
    /// The numbers of the jobs that join with `number` without a gap, itself included, in page order.
    fn run_around(&self, number: u64) -> Vec<u64> {
        let job = &self.jobs[&number].job;
        let file = job.file.number;
        let mut run = VecDeque::from([number]);
        if self.starts.get(&(file, job.pages.start)) != Some(&number) {
            return run.into();
        }
        let (mut start, mut end, mut bytes) = (job.pages.start, job.pages.end, bytes_of(job));
        while let Some((_, &left)) = self.starts.range((file, 0)..(file, start)).next_back() {
            let left_job = &self.jobs[&left].job;
            if left_job.pages.end != start || bytes + bytes_of(left_job) > RUN_BYTES_MAX {
                break;
            }
            run.push_front(left);
            start = left_job.pages.start;
            bytes += bytes_of(left_job);
        }
        while let Some(&right) = self.starts.get(&(file, end)) {
            let right_job = &self.jobs[&right].job;
            if bytes + bytes_of(right_job) > RUN_BYTES_MAX {
                break;
            }
            run.push_back(right);
            end = right_job.pages.end;
            bytes += bytes_of(right_job);
        }
        run.into()
    }

    fn take(&mut self, number: u64) -> Run {
        let numbers = self.run_around(number);
        let mut jobs = Vec::with_capacity(numbers.len());
        for number in numbers {
            let mut taken = Vec::new();
            self.remove(number, &mut taken);
            jobs.extend(taken.into_iter().map(|job| (number, job)));
            self.writing.insert(number);
        }
        Run { jobs }
    }

    fn remove(&mut self, number: u64, into: &mut Vec<WriteJob>) -> u64 {
        let Some(Queued { job, .. }) = self.jobs.remove(&number) else { return 0 };
        let start = (job.file.number, job.pages.start);
        if self.starts.get(&start) == Some(&number) {
            self.starts.remove(&start);
        }
        let bytes = bytes_of(&job);
        into.push(job);
        bytes
    }
}

pub(super) fn bytes_of(job: &WriteJob) -> u64 {
    job.pages.count() * PAGE_BYTES
}
