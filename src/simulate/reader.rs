//! Simulated readers: through a file in order, backward, in strides, here and there, or file after file.

use crate::chunk::{Inode, PAGE_BYTES, Pages, ReaderId};
use crate::clock::Time;
use crate::scheduler::Hopeless;
use crate::scheduler::streak::Streak;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// A wait above this is a pause that a person notices.
pub const PAUSE: Duration = Duration::from_millis(300);

/// In which order a reader goes.
#[derive(Debug)]
pub enum Pattern {
    /// In order to the end.
    Sequential,
    /// In reverse order to the beginning.
    Backward,
    /// So many reads at random places.
    Random {
        /// Reads still to come.
        left: u64,
        /// Where they go.
        rng: Box<StdRng>,
    },
    /// A read at the beginning of every so many pages.
    Strided {
        /// From one read to the next.
        stride_pages: u64,
    },
    /// Each file of a run of them in order, one after another.
    Files {
        /// Files still to come after this one.
        left: u64,
    },
}

/// One reader, and what it has seen.
#[derive(Debug)]
pub struct SimReader {
    /// The streak that it is in.
    pub id: ReaderId,
    /// What it reads.
    pub file: Inode,
    /// How long that is.
    pub pages: u64,
    /// How much it reads at a time.
    pub read_pages: u64,
    /// In which order.
    pub pattern: Pattern,
    /// It takes so many bytes per second; nothing: as fast as they come.
    pub rate: Option<f64>,
    /// Reads arrive so many a second, whether or not the last one has ended; nothing: one after another.
    pub arrivals_per_second: Option<f64>,
    /// When it starts.
    pub start_at: Time,
    /// Where its next read begins; backward: where it ends.
    pub position: u64,
    /// Reads so far.
    pub reads: u64,
    /// What it waits for, and since when.
    pub waiting: Vec<(Pages, Time)>,
    /// Its next read comes then.
    pub next_at: Time,
    /// The longest of its waits.
    pub longest_wait: Duration,
    /// Every wait for what was not held yet.
    pub waits: Vec<Duration>,
    /// Reads that no answer came to before their deadline.
    pub timed_out: u64,
    /// What it has read, in bytes.
    pub asked_bytes: u64,
    /// When it was through.
    pub done_at: Option<Time>,
    /// Its reads that failed.
    pub errors: Vec<(Time, Hopeless)>,
    pub(super) streak: Streak,
    /// The scheduler knows of that, and wants to hear when the reader is past this page.
    pub(super) mark: Option<u64>,
    /// When a look at its deadlines is due.
    pub(super) watched: Option<Time>,
}

impl SimReader {
    /// Through a file in order, 128 KiB at a time, as the kernel reads ahead.
    pub fn sequential(id: u64, file: Inode, size_bytes: u64) -> SimReader {
        SimReader {
            id: ReaderId(id),
            file,
            pages: size_bytes.div_ceil(PAGE_BYTES),
            read_pages: 32,
            pattern: Pattern::Sequential,
            rate: None,
            arrivals_per_second: None,
            start_at: Time(0),
            position: 0,
            reads: 0,
            waiting: Vec::new(),
            next_at: Time(0),
            longest_wait: Duration::ZERO,
            waits: Vec::new(),
            timed_out: 0,
            asked_bytes: 0,
            done_at: None,
            errors: Vec::new(),
            streak: Streak::default(),
            mark: None,
            watched: None,
        }
    }

    /// One page here and there, so many times.
    pub fn random(id: u64, file: Inode, size_bytes: u64, reads: u64) -> SimReader {
        let rng = Box::new(StdRng::seed_from_u64(id));
        let pattern = Pattern::Random { left: reads, rng };
        SimReader { pattern, read_pages: 1, ..SimReader::sequential(id, file, size_bytes) }
    }

    /// The same reader, with so many pages in each read.
    pub fn reading(mut self, pages: u64) -> SimReader {
        self.read_pages = pages;
        self
    }

    /// The same reader, `ms` later.
    pub fn starting(mut self, ms: u64) -> SimReader {
        self.start_at = Time(ms * 1_000_000);
        self.next_at = self.start_at;
        self
    }

    /// The same reader, taking so many bytes a second.
    pub fn at_rate(mut self, bytes_per_second: f64) -> SimReader {
        self.rate = Some(bytes_per_second);
        self
    }

    /// The pages of its next read; nothing at the end of its file.
    pub(super) fn next_read(&mut self) -> Option<Pages> {
        match &mut self.pattern {
            Pattern::Sequential | Pattern::Strided { .. } | Pattern::Files { .. } => {
                let end = (self.position + self.read_pages).min(self.pages);
                (self.position < end).then(|| Pages::new(self.position, end))
            }
            Pattern::Backward => {
                let start = self.position.saturating_sub(self.read_pages);
                (start < self.position).then(|| Pages::new(start, self.position))
            }
            Pattern::Random { left, rng } => {
                *left = left.checked_sub(1)?;
                let places = (self.pages / self.read_pages).max(1);
                let at = rng.random_range(0..places) * self.read_pages;
                Some(Pages::new(at, (at + self.read_pages).min(self.pages)))
            }
        }
    }

    /// A read of these pages was answered, or given up: where the next one begins.
    pub(super) fn pass(&mut self, pages: Pages) {
        self.position = match self.pattern {
            Pattern::Strided { stride_pages } => pages.start + stride_pages.max(1),
            Pattern::Backward => pages.start,
            _ => pages.end,
        };
    }

    /// It waited so long for one read.
    pub(super) fn waited(&mut self, wait: Duration) {
        self.longest_wait = self.longest_wait.max(wait);
        self.waits.push(wait);
    }

    /// May its next read be sent now?
    pub(super) fn may_read(&self, now: Time) -> bool {
        self.done_at.is_none() && self.next_at <= now && (self.arrivals_per_second.is_some() || self.waiting.is_empty())
    }
}
