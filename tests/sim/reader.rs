//! Simulated readers: through a file in order, or here and there.

use braidfs::chunk::{Inode, PAGE_BYTES, Pages, ReaderId};
use braidfs::clock::Time;
use braidfs::scheduler::Hopeless;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

#[derive(Debug)]
pub enum Pattern {
    /// In order to the end.
    Sequential,
    /// So many reads at random pages.
    Random { left: u64, rng: Box<StdRng> },
}

#[derive(Debug)]
pub struct SimReader {
    pub id: ReaderId,
    pub file: Inode,
    pub pages: u64,
    pub read_pages: u64,
    pub pattern: Pattern,
    /// It takes so many bytes per second; nothing: as fast as they come.
    pub rate: Option<f64>,
    pub start_at: Time,
    pub position: u64,
    pub reads: u64,
    pub mark: Option<u64>,
    /// What it waits for, and since when.
    pub waiting: Option<(Pages, Time)>,
    pub next_at: Time,
    pub longest_wait: Duration,
    pub asked_bytes: u64,
    pub done_at: Option<Time>,
    pub errors: Vec<(Time, Hopeless)>,
}

impl SimReader {
    pub fn sequential(id: u64, file: Inode, size_bytes: u64) -> SimReader {
        SimReader {
            id: ReaderId(id),
            file,
            pages: size_bytes.div_ceil(PAGE_BYTES),
            read_pages: 32,
            pattern: Pattern::Sequential,
            rate: None,
            start_at: Time(0),
            position: 0,
            reads: 0,
            mark: None,
            waiting: None,
            next_at: Time(0),
            longest_wait: Duration::ZERO,
            asked_bytes: 0,
            done_at: None,
            errors: Vec::new(),
        }
    }

    pub fn random(id: u64, file: Inode, size_bytes: u64, reads: u64) -> SimReader {
        let rng = Box::new(StdRng::seed_from_u64(id));
        let pattern = Pattern::Random { left: reads, rng };
        SimReader { pattern, read_pages: 1, ..SimReader::sequential(id, file, size_bytes) }
    }

    pub fn starting(mut self, ms: u64) -> SimReader {
        self.start_at = Time(ms * 1_000_000);
        self.next_at = self.start_at;
        self
    }

    pub fn at_rate(mut self, bytes_per_second: f64) -> SimReader {
        self.rate = Some(bytes_per_second);
        self
    }

    /// The pages of its next read; nothing at its end.
    pub fn next_read(&mut self) -> Option<Pages> {
        match &mut self.pattern {
            Pattern::Sequential => {
                let end = (self.position + self.read_pages).min(self.pages);
                (self.position < end).then(|| Pages::new(self.position, end))
            }
            Pattern::Random { left, rng } => {
                *left = left.checked_sub(1)?;
                let at = rng.random_range(0..self.pages);
                Some(Pages::new(at, at + 1))
            }
        }
    }

    pub fn sequential_pattern(&self) -> bool {
        matches!(self.pattern, Pattern::Sequential)
    }
}
