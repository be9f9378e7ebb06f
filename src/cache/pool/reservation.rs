//! A reservation: memory that stays for as long as somebody waits for bytes to come into it.

use super::Inner;
use super::filler::Filler;
use super::run::{Pinned, Run};
use crate::chunk::{Inode, Pages};
use std::sync::Arc;

/// Runs that may not be evicted while this lives.
pub(super) struct Ties {
    pool: Arc<Inner>,
    runs: Vec<Arc<Run>>,
}

impl Ties {
    pub(super) fn new(pool: Arc<Inner>) -> Ties {
        Ties { pool, runs: Vec::new() }
    }

    /// One more. Under the lock of its place in the index, or before it is in there, or by who has it reserved.
    pub(super) fn add(&mut self, run: Arc<Run>) {
        run.reserve();
        self.runs.push(run);
    }

    /// One less, which is in the index no more.
    pub(super) fn remove(&mut self, run: &Arc<Run>) {
        if let Some(at) = self.runs.iter().position(|other| Arc::ptr_eq(other, run)) {
            self.runs.swap_remove(at).unreserve();
        }
    }

    pub(super) fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// The run that has memory for `page`.
    pub(super) fn run_of(&self, page: u64) -> Option<&Arc<Run>> {
        self.runs.iter().find(|run| run.pages().contains(page))
    }

    /// The runs that have memory for some of `pages`, once more.
    fn touching(&self, pages: Pages) -> Ties {
        let mut ties = Ties::new(self.pool.clone());
        let touching = self.runs.iter().filter(|run| !run.pages().intersect(pages).is_empty());
        touching.for_each(|run| ties.add(run.clone()));
        ties
    }

    /// Gives all up without telling those who wait for memory.
    pub(super) fn abandon(mut self) {
        for run in std::mem::take(&mut self.runs) {
            drop(self.release(&run));
            Run::drop_quietly(run);
        }
    }

    /// One reservation less. A run in which nothing is held and that nobody wants leaves the index:
    /// what is given back is what its last holder must let go of.
    fn release(&self, run: &Arc<Run>) -> Option<Arc<Run>> {
        if !run.unreserve() || !run.held_mask().is_empty() {
            return None;
        }
        // Nobody writes to it: who does has a reservation of his own. And where nothing is held, nobody pins.
        self.pool.index.remove_if(run, |run| run.is_idle() && run.held_mask().is_empty() && run.retire())
    }
}

impl Drop for Ties {
    fn drop(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        for run in std::mem::take(&mut self.runs) {
            drop(self.release(&run));
        }
        self.pool.arena.ring();
    }
}

/// Memory for pages of a file. While it lives none of it is evicted, whether held already or not.
///
/// Dropping it gives back at once what has nothing held and is reserved by nobody else.
pub struct Reservation {
    file: Inode,
    pages: Pages,
    ties: Ties,
}

impl Reservation {
    pub(super) fn new(file: Inode, pages: Pages, mut ties: Ties) -> Reservation {
        ties.runs.sort_unstable_by_key(|run| run.pages().start);
        Reservation { file, pages, ties }
    }

    /// Of which file.
    pub fn file(&self) -> Inode {
        self.file
    }

    /// Which pages.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// The bytes of `pages`, where all of them are held and neighbours in memory.
    pub fn bytes_if_held(&self, pages: Pages) -> Option<Pinned> {
        Pinned::new(self.ties.run_of(pages.start)?, pages)
    }

    /// Copies `pages` into `into`, where all of them are reserved here and held; false where not,
    /// and then what is in `into` is of no use. `into` may end anywhere in the last page.
    pub fn copy(&self, pages: Pages, into: &mut [u8]) -> bool {
        super::copy_by(pages, into, |rest| {
            let run = self.ties.run_of(rest.start)?;
            let length = run.held_mask().prefix(run.place(rest.start)) as u64;
            Pinned::new(run, Pages::new(rest.start, rest.end.min(run.pages().end).min(rest.start + length)))
        })
    }

    /// A writer for a body that brings `pages` of a file of `size_bytes`, front to back. What of
    /// `pages` is not reserved here is skipped (a mirror that sends whole files brings more than is
    /// wanted). It keeps the memory by itself: it may outlive the reservation.
    pub fn filler(&self, pages: Pages, size_bytes: u64) -> Filler {
        Filler::new(self.ties.touching(pages), pages, size_bytes)
    }
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reservation({:?} of {:?})", self.pages, self.file)
    }
}
