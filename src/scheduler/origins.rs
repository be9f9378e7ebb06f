//! Who brought which pages: the last runs that arrived (spec 2.12). A decision says who was asked; a hedge or a
//! drained answer may have been first.

use crate::chunk::{FetchId, Inode, MirrorId, Pages};
use crate::clock::Time;

/// Runs that are kept: some 10 GiB of whole fetches, or 64 MiB of single pages, in 800 KiB.
pub const RUNS_KEPT: usize = 16_384;
/// A fetch that goes on is among the newest runs, one for each of the others in flight. One that is not found
/// there begins another run, which costs a place and nothing else.
const LOOKED_BACK: usize = 32;

/// Pages that one fetch brought, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Of which file.
    pub file: Inode,
    /// Which.
    pub pages: Pages,
    /// From whom.
    pub mirror: MirrorId,
    /// By which fetch.
    pub fetch: FetchId,
    /// When the last of them came.
    pub at: Time,
}

/// The last of them, in memory that is taken once.
#[derive(Debug)]
pub(super) struct Origins {
    kept: Vec<Origin>,
    next: usize,
}

impl Origins {
    pub(super) fn new() -> Origins {
        Origins { kept: Vec::with_capacity(RUNS_KEPT), next: 0 }
    }

    pub(super) fn add(&mut self, origin: Origin) {
        if origin.pages.is_empty() {
            return;
        }
        let goes_on = |run: &Origin| run.fetch == origin.fetch && run.pages.end == origin.pages.start;
        let newest = self.newest_first().take(LOOKED_BACK).find(|&at| goes_on(&self.kept[at]));
        if let Some(at) = newest {
            self.kept[at].pages.end = origin.pages.end;
            self.kept[at].at = origin.at;
            return;
        }
        match self.kept.len() < RUNS_KEPT {
            true => self.kept.push(origin),
            false => self.kept[self.next] = origin,
        }
        self.next = (self.next + 1) % RUNS_KEPT;
    }

    /// The last one that brought this page.
    pub(super) fn of(&self, file: Inode, page: u64) -> Option<Origin> {
        self.newest_first().map(|at| self.kept[at]).find(|run| run.file == file && run.pages.contains(page))
    }

    /// All runs of a file, the newest first.
    pub(super) fn of_file(&self, file: Inode) -> Vec<Origin> {
        self.newest_first().map(|at| self.kept[at]).filter(|run| run.file == file).collect()
    }

    /// Places in `kept`.
    fn newest_first(&self) -> impl Iterator<Item = usize> + use<> {
        let (length, next) = (self.kept.len(), self.next);
        (1..=length).map(move |back| (next + RUNS_KEPT - back) % RUNS_KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(fetch: u64, start: u64, end: u64) -> Origin {
        let (file, mirror) = (Inode(1), MirrorId(fetch as u16 % 7));
        Origin { file, pages: Pages::new(start, end), mirror, fetch: FetchId(fetch), at: Time(end) }
    }

    #[test]
    fn a_fetch_that_goes_on_is_one_run_beside_others() {
        let mut origins = Origins::new();
        for step in 0..10 {
            origins.add(origin(1, step, step + 1));
            origins.add(origin(2, 100 + step, 101 + step));
        }
        assert_eq!(origins.kept, [origin(1, 0, 10), origin(2, 100, 110)]);
        origins.add(origin(3, 10, 20));
        origins.add(origin(1, 30, 30));
        assert_eq!(origins.kept.len(), 3, "another fetch is another run, and nothing is none");
    }

    #[test]
    fn the_last_who_brought_a_page_counts() {
        let mut origins = Origins::new();
        origins.add(origin(1, 0, 10));
        origins.add(origin(2, 5, 6));
        let by = |page| origins.of(Inode(1), page).map(|origin| origin.fetch.0);
        assert_eq!([by(4), by(5), by(6), by(10)], [Some(1), Some(2), Some(1), None]);
        assert_eq!(origins.of(Inode(2), 4), None);
        assert_eq!(origins.of_file(Inode(1)), [origin(2, 5, 6), origin(1, 0, 10)]);
        assert_eq!(origins.of_file(Inode(2)), []);
    }

    #[test]
    fn the_oldest_run_makes_room() {
        let mut origins = Origins::new();
        let count = RUNS_KEPT as u64 + 100;
        (0..count).for_each(|at| origins.add(origin(at, 2 * at, 2 * at + 1)));
        assert_eq!(origins.kept.len(), RUNS_KEPT);
        let is_kept = |at: u64| origins.of(Inode(1), 2 * at).is_some_and(|origin| origin.fetch.0 == at);
        assert!(!is_kept(99) && is_kept(100) && is_kept(count - 1));
        // The newest goes on across the place where the ring begins anew.
        origins.add(origin(count - 1, 2 * count - 1, 2 * count));
        assert_eq!(origins.of(Inode(1), 2 * count - 1).map(|origin| origin.pages.start), Some(2 * count - 2));
    }
}
