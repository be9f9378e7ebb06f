//! Whether the disk can be written: errors and operations that do not come back turn it off for a while.

use crate::clock::{self, Time};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The first pause before a failing disk is tried again. It doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
/// A disk that comes back is used again within a minute.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Operations that can be under way at once: the writer, the committer and the readers.
const OPERATIONS: usize = 16;

/// What the disk cache can do.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// It keeps what arrives.
    Ok,
    /// It keeps nothing new; what it holds is still served where it can be read.
    ReadingThrough {
        /// What went wrong, as a sentence for people.
        why: String,
        /// Since when.
        since: Time,
    },
}

/// The one place that knows.
pub(super) struct Condition {
    failure: Mutex<Option<Failure>>,
    /// Start times in ns of the operations under way; 0: none.
    started_ns: [AtomicU64; OPERATIONS],
    hang_after: Duration,
}

struct Failure {
    why: String,
    since: Time,
    next_try: Time,
    pause: Duration,
}

impl Condition {
    /// An operation that takes longer than `hang_after` means that the disk hangs.
    pub(super) fn new(hang_after: Duration) -> Condition {
        Condition { failure: Mutex::new(None), started_ns: Default::default(), hang_after }
    }

    pub(super) fn health(&self) -> Health {
        if let Some(failure) = &*self.failure.lock() {
            return Health::ReadingThrough { why: failure.why.clone(), since: failure.since };
        }
        let now = clock::now();
        match self.oldest() {
            Some(start) if now.since(start) > self.hang_after => {
                let why = format!("the cache's disk has not answered for {} s", now.since(start).as_secs());
                Health::ReadingThrough { why, since: start }
            }
            _ => Health::Ok,
        }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.health() == Health::Ok
    }

    /// Something failed: nothing is written until a retry goes well.
    pub(super) fn fail(&self, why: String) {
        self.fail_at(clock::now(), why);
    }

    fn fail_at(&self, now: Time, why: String) {
        let mut failure = self.failure.lock();
        let (since, pause) = match &*failure {
            // One failure is met by everybody who comes by: it is no worse for that, and is tried again at its time.
            Some(before) if now < before.next_try => return,
            Some(before) => (before.since, (before.pause * 2).min(RETRY_MAX)),
            None => {
                tracing::warn!(%why, "the disk cache is off for now, reads go through to the mirrors");
                (now, RETRY_MIN)
            }
        };
        *failure = Some(Failure { why, since, next_try: now + pause, pause });
    }

    /// Is it time to try a failed disk again?
    pub(super) fn retry_due(&self, now: Time) -> bool {
        self.failure.lock().as_ref().is_some_and(|failure| failure.next_try <= now)
    }

    /// Has it failed (a hang does not count)?
    pub(super) fn has_failed(&self) -> bool {
        self.failure.lock().is_some()
    }

    pub(super) fn recover(&self) {
        if let Some(failure) = self.failure.lock().take() {
            let off_s = clock::now().since(failure.since).as_secs();
            tracing::info!(was = %failure.why, off_s, "the disk cache works again");
        }
    }

    /// Mark the start of something that waits for the disk; its end is the drop of what is returned.
    pub(super) fn operation(&self) -> Operation<'_> {
        let now = clock::now().0.max(1);
        let free = |slot: &&AtomicU64| slot.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Operation(self.started_ns.iter().find(free))
    }

    /// Is anything under way?
    pub(super) fn is_busy(&self) -> bool {
        self.oldest().is_some()
    }

    fn oldest(&self) -> Option<Time> {
        let started = self.started_ns.iter().map(|slot| slot.load(Ordering::Relaxed));
        started.filter(|&start| start > 0).min().map(Time)
    }
}

/// An operation under way.
pub(super) struct Operation<'a>(Option<&'a AtomicU64>);

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_that_never_ends_turns_the_disk_off_and_its_end_on() {
        let condition = Condition::new(Duration::ZERO);
        assert!(condition.is_ok());
        let operation = condition.operation();
        while condition.is_ok() {
            std::hint::spin_loop();
        }
        drop(operation);
        assert!(condition.is_ok());
    }

    #[test]
    fn a_failure_lasts_until_it_is_recovered_and_pauses_grow() {
        let condition = Condition::new(RETRY_MAX);
        let start = Time(7);
        condition.fail_at(start, "full".to_owned());
        let next_try = || condition.failure.lock().as_ref().unwrap().next_try;
        let first = start + RETRY_MIN;
        assert!(!condition.retry_due(start) && condition.retry_due(first));
        (0..100).for_each(|at| condition.fail_at(Time(8 + at), "full".to_owned()));
        assert_eq!(next_try(), first, "many who meet it are one failure");
        condition.fail_at(first, "full".to_owned());
        assert_eq!(next_try(), first + 2 * RETRY_MIN);
        condition.recover();
        assert_eq!(condition.health(), Health::Ok);
    }
}
