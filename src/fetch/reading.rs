//! What is being read now: the open files, how much of each was read, is here and is on its way.

use crate::chunk::{FetchId, Pages};
use crate::fetch::engine::Engine;
use crate::fetch::opened::OpenFile;
use crate::fetch::plane::Plane;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Files that are reported: those read last.
pub const FILES_REPORTED_MAX: usize = 64;
/// Cells of a map: fewer than the columns of any terminal.
pub const MAP_CELLS: u64 = 64;
/// Memory is looked through extent by extent: not for files of which it could hold next to nothing.
const MEMORY_SHOWN_PAGES_MAX: u64 = (16 << 30) / crate::chunk::PAGE_BYTES;

/// How a file is used by those who have it open.
#[derive(Default)]
pub struct Usage {
    read_bytes: AtomicU64,
    /// The number of the mount's read that was the last of this file.
    last_read: AtomicU64,
    in_flight: Mutex<Vec<(FetchId, Pages)>>,
}

impl Usage {
    /// The mount's read `number` took so many bytes of it.
    pub(super) fn was_read(&self, number: u64, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_read.store(number, Ordering::Relaxed);
    }

    /// A fetch of some pages begins.
    pub(super) fn begins(&self, fetch: FetchId, pages: Pages) {
        self.in_flight.lock().push((fetch, pages));
    }

    /// It has ended, however.
    pub(super) fn ended(&self, fetch: FetchId) {
        self.in_flight.lock().retain(|(other, _)| *other != fetch);
    }
}

/// One open file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// Relative to the mount.
    pub path: Vec<u8>,
    /// Its size.
    pub size_bytes: u64,
    /// Handles and jobs that have it open.
    pub users: u64,
    /// Asked for by readers since it was opened; what the kernel reads by itself is not counted.
    pub read_bytes: u64,
    /// Bytes of it on disk.
    pub disk_bytes: u64,
    /// Fetches of it that are on their way.
    pub in_flight_fetches: u64,
    /// See [`cells`].
    pub map: String,
}

impl Engine {
    /// The files that are open, the one that was read last first.
    pub fn reading(&self) -> Vec<Reading> {
        let mut open = self.plane.opened.all();
        open.sort_by_key(|file| Reverse(file.usage.last_read.load(Ordering::Relaxed)));
        open.truncate(FILES_REPORTED_MAX);
        open.iter().map(|file| reading(&self.plane, file)).collect()
    }
}

fn reading(plane: &Plane, file: &Arc<OpenFile>) -> Reading {
    let all = file.pages();
    let disk = file.disk.as_ref().map(|disk| disk.held_runs()).unwrap_or_default();
    let memory = match all.count() <= MEMORY_SHOWN_PAGES_MAX {
        true => gaps(&plane.pool.missing(file.inode, all), all),
        false => Vec::new(),
    };
    let in_flight: Vec<Pages> = file.usage.in_flight.lock().iter().map(|(_, pages)| *pages).collect();
    Reading {
        path: file.path.clone(),
        size_bytes: file.size_bytes,
        users: file.user_count() as u64,
        read_bytes: file.usage.read_bytes.load(Ordering::Relaxed),
        disk_bytes: disk.iter().map(|run| run.len_bytes(file.size_bytes)).sum(),
        in_flight_fetches: in_flight.len() as u64,
        map: cells(all, &disk, &memory, &in_flight),
    }
}

/// What is between `runs`, which are in order, in `all`.
fn gaps(runs: &[Pages], all: Pages) -> Vec<Pages> {
    let ends = [all.start].into_iter().chain(runs.iter().map(|run| run.end));
    let starts = runs.iter().map(|run| run.start).chain([all.end]);
    ends.zip(starts).map(|(start, end)| Pages::new(start, end)).filter(|gap| !gap.is_empty()).collect()
}

/// A file in [`MAP_CELLS`] cells or one for each page: `#` on disk, `m` in memory (or there and on disk together), `:` in
/// part, `>` on its way, `.` not here. The runs of `disk` and `memory` are in order.
pub fn cells(all: Pages, disk: &[Pages], memory: &[Pages], in_flight: &[Pages]) -> String {
    let (pages, count) = (all.count(), all.count().min(MAP_CELLS));
    let cell = |at: u64| Pages::new(at * pages / count, (at + 1) * pages / count);
    let within = |runs: &[Pages], cell: Pages| {
        let from = runs.partition_point(|run| run.end <= cell.start);
        runs[from..].iter().take_while(|run| run.start < cell.end).map(|run| run.intersect(cell).count()).sum::<u64>()
    };
    let letter = |at: u64| {
        let cell = cell(at);
        let (on_disk, in_memory) = (within(disk, cell), within(memory, cell));
        if on_disk == cell.count() {
            '#'
        } else if in_flight.iter().any(|pages| !pages.intersect(cell).is_empty()) {
            '>'
        } else if in_memory == cell.count() || on_disk + in_memory >= cell.count() && covers(disk, memory, cell) {
            'm'
        } else if on_disk + in_memory > 0 {
            ':'
        } else {
            '.'
        }
    };
    (0..count).map(letter).collect()
}

/// Is every page of `cell` in one of the two?
fn covers(disk: &[Pages], memory: &[Pages], cell: Pages) -> bool {
    let mut runs: Vec<Pages> = disk.iter().chain(memory).map(|run| run.intersect(cell)).collect();
    runs.retain(|run| !run.is_empty());
    runs.sort_by_key(|run| run.start);
    let reached = runs.iter().fold(cell.start, |at, run| if run.start <= at { at.max(run.end) } else { at });
    reached >= cell.end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(start: u64, end: u64) -> Pages {
        Pages::new(start, end)
    }

    #[test]
    fn each_cell_says_where_its_pages_are() {
        let all = pages(0, 640);
        let map = cells(all, &[pages(0, 25)], &[pages(20, 40), pages(100, 105)], &[pages(200, 212)]);
        assert_eq!(map.len(), 64);
        // Ten pages a cell: two on disk, the third in both together, the fourth in memory.
        assert!(map.starts_with("##mm......:."), "{map}");
        assert_eq!((&map[20..22], &map[22..23]), (">>", "."));
        assert_eq!(cells(pages(0, 3), &[pages(0, 1)], &[pages(2, 3)], &[pages(0, 3)]), "#>>");
        assert_eq!(cells(pages(0, 0), &[], &[], &[]), "");
        // On disk and in memory, and yet not all of it.
        assert_eq!(cells(pages(0, 64 * 4), &[pages(0, 2)], &[pages(0, 2)], &[]).chars().next(), Some(':'));
    }

    #[test]
    fn what_is_missing_of_what_is_missing_is_there() {
        assert_eq!(gaps(&[pages(0, 2), pages(5, 10)], pages(0, 10)), [pages(2, 5)]);
        assert_eq!(gaps(&[], pages(0, 10)), [pages(0, 10)]);
    }
}
