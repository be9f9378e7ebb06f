//! What is held of a file version, and where: looked at without opening it, so that nobody hears of it.

use crate::cache::disk::DiskFile;
use crate::chunk::{Inode, Pages};
use crate::fetch::plane::Plane;
use std::ops::Range;

/// Cells of a map as one line: with a word before it, it fits into the 80 columns of a terminal.
pub const MAP_CELLS: u64 = 64;

/// Runs of a map at most: some 400 kB of JSON, and more than anybody looks at.
pub const MAP_RUNS_MAX: usize = 4096;

/// How much of some pages of a file is held, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldBytes {
    /// All of them.
    pub asked_bytes: u64,
    /// In memory, ours or, where they are written and not durable yet, the kernel's.
    pub memory_bytes: u64,
    /// Durable on disk.
    pub disk_bytes: u64,
    /// In either, each counted once.
    pub either_bytes: u64,
}

/// Neighbouring pages that are held in the same places, one or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeldRun {
    pages: Pages,
    memory: bool,
    disk: bool,
}

/// Which of some pages of a file are held, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    asked: Pages,
    size_bytes: u64,
    runs: Vec<HeldRun>,
}

/// What is held of a file, in the order of its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// At most [`MAP_RUNS_MAX`]; what is between two of them is not held.
    pub runs: Vec<MapRun>,
    /// There were more: neighbours were joined over the smallest gaps between them, so that some runs are held in part.
    pub merged: bool,
}

/// One run of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRun {
    /// Where it begins.
    pub offset_bytes: u64,
    /// How long it is.
    pub bytes: u64,
    /// How much of it is held: all, unless runs were merged.
    pub held_bytes: u64,
    /// It is in memory; of a merged one, some of it is.
    pub memory: bool,
    /// It is durable on disk; likewise.
    pub disk: bool,
}

impl Held {
    /// Of `pages` of a version; `inode` where memory may have some of it. Waits for nobody but who changes what is held
    /// just now.
    pub(in crate::fetch) fn of(
        plane: &Plane,
        inode: Option<Inode>,
        disk: Option<&DiskFile>,
        pages: Pages,
        size_bytes: u64,
    ) -> Held {
        // Memory first: what leaves it meanwhile has reached the disk.
        let memory = inode.map(|inode| plane.pool.held(inode, pages)).unwrap_or_default();
        let (written, durable) = disk.map(|disk| disk.held_and_durable_runs(pages)).unwrap_or_default();
        Held { asked: pages, size_bytes, runs: overlay(&memory, &written, &durable) }
    }

    /// How much that is.
    pub fn bytes(&self) -> HeldBytes {
        let asked_bytes = self.asked.len_bytes(self.size_bytes);
        self.runs.iter().fold(HeldBytes { asked_bytes, ..HeldBytes::default() }, |sum, run| {
            let bytes = run.pages.len_bytes(self.size_bytes);
            HeldBytes {
                memory_bytes: sum.memory_bytes + if run.memory { bytes } else { 0 },
                disk_bytes: sum.disk_bytes + if run.disk { bytes } else { 0 },
                either_bytes: sum.either_bytes + bytes,
                ..sum
            }
        })
    }

    /// The file in [`MAP_CELLS`] parts of equal size, a letter each: `#` all of it is durable on disk, `m` all of it is
    /// here, some in memory only, `:` some of it is here, `.` nothing. An empty file is all there.
    pub fn cells(&self) -> String {
        self.cells_and_coming(&[])
    }

    /// The same, with `>` where some of it is on its way and not all of it is durable.
    pub fn cells_and_coming(&self, coming: &[Pages]) -> String {
        let cells: Vec<Range<u64>> = (0..MAP_CELLS).map(|at| cell(at, self.size_bytes)).collect();
        let mut held = [(0, 0); MAP_CELLS as usize];
        for run in &self.runs {
            let bytes = run.pages.bytes(self.size_bytes);
            for at in touched_cells(&bytes, self.size_bytes) {
                let common = bytes.end.min(cells[at].end).saturating_sub(bytes.start.max(cells[at].start));
                held[at].0 += common;
                held[at].1 += if run.disk { common } else { 0 };
            }
        }
        let comes = |cell: &Range<u64>| {
            let mut bytes = coming.iter().map(|pages| pages.bytes(self.size_bytes));
            bytes.any(|bytes| bytes.start < cell.end && cell.start < bytes.end)
        };
        let letters = cells.iter().zip(held).map(|(cell, (either, disk))| match cell.end - cell.start {
            all if disk == all => '#',
            _ if comes(cell) => '>',
            all if either == all => 'm',
            _ if either > 0 => ':',
            _ => '.',
        });
        letters.collect()
    }

    /// The runs of bytes that are held.
    pub fn map(&self) -> Map {
        let all = self.runs.iter().map(|run| {
            let Range { start, end } = run.pages.bytes(self.size_bytes);
            let bytes = end - start;
            MapRun { offset_bytes: start, bytes, held_bytes: bytes, memory: run.memory, disk: run.disk }
        });
        merge(all.collect(), MAP_RUNS_MAX)
    }
}

/// Part `at` of [`MAP_CELLS`]: never empty, but for an empty file.
fn cell(at: u64, size_bytes: u64) -> Range<u64> {
    let edge = |at: u64| (u128::from(at) * u128::from(size_bytes) / u128::from(MAP_CELLS)) as u64;
    let start = edge(at);
    start..edge(at + 1).max(start + 1).min(size_bytes)
}

/// The cells that may have something of `bytes`, or one more at each side.
fn touched_cells(bytes: &Range<u64>, size_bytes: u64) -> Range<usize> {
    let of = |byte: u64| (u128::from(byte) * u128::from(MAP_CELLS) / u128::from(size_bytes.max(1))) as usize;
    match size_bytes < MAP_CELLS {
        true => 0..MAP_CELLS as usize,
        false => of(bytes.start).saturating_sub(1)..(of(bytes.end) + 1).min(MAP_CELLS as usize),
    }
}

/// Runs that are each in order, laid over each other.
fn overlay(memory: &[Pages], written: &[Pages], durable: &[Pages]) -> Vec<HeldRun> {
    let mut edges: Vec<u64> =
        [memory, written, durable].into_iter().flatten().flat_map(|run| [run.start, run.end]).collect();
    edges.sort_unstable();
    edges.dedup();
    let (mut memory, mut written, mut durable) = (memory.iter(), written.iter(), durable.iter());
    let mut runs: Vec<HeldRun> = Vec::new();
    for between in edges.windows(2) {
        let pages = Pages::new(between[0], between[1]);
        let (on_disk, read_back) = (covers(&mut durable, pages), covers(&mut written, pages));
        // What is written and not durable yet is in the kernel's memory.
        let in_memory = covers(&mut memory, pages) || read_back && !on_disk;
        if !in_memory && !on_disk {
            continue;
        }
        match runs.last_mut() {
            Some(last) if (last.pages.end, last.memory, last.disk) == (pages.start, in_memory, on_disk) => {
                last.pages.end = pages.end;
            }
            _ => runs.push(HeldRun { pages, memory: in_memory, disk: on_disk }),
        }
    }
    runs
}

/// Is `pages`, which no edge cuts, in one of the runs? Those before it are left behind.
fn covers(runs: &mut std::slice::Iter<'_, Pages>, pages: Pages) -> bool {
    while runs.as_slice().first().is_some_and(|run| run.end <= pages.start) {
        runs.next();
    }
    runs.as_slice().first().is_some_and(|run| run.covers(pages))
}

/// At most `max` runs (1 or more): neighbours are joined where the least is between them, the first of equals first.
fn merge(runs: Vec<MapRun>, max: usize) -> Map {
    let over = runs.len().saturating_sub(max);
    if over == 0 {
        return Map { runs, merged: false };
    }
    let between = runs.windows(2).map(|pair| pair[1].offset_bytes - (pair[0].offset_bytes + pair[0].bytes));
    let mut gaps: Vec<(u64, usize)> = between.zip(1..).collect();
    gaps.select_nth_unstable(over - 1);
    let mut joins = vec![false; runs.len()];
    gaps[..over].iter().for_each(|&(_, later)| joins[later] = true);
    let mut merged: Vec<MapRun> = Vec::with_capacity(max);
    for (run, joins) in runs.into_iter().zip(joins) {
        match merged.last_mut().filter(|_| joins) {
            Some(last) => {
                last.bytes = run.offset_bytes + run.bytes - last.offset_bytes;
                last.held_bytes += run.held_bytes;
                last.memory |= run.memory;
                last.disk |= run.disk;
            }
            None => merged.push(run),
        }
    }
    Map { runs: merged, merged: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::PAGE_BYTES;
    use proptest::prelude::*;

    fn run(start: u64, end: u64, memory: bool, disk: bool) -> HeldRun {
        HeldRun { pages: Pages::new(start, end), memory, disk }
    }

    fn held(size_bytes: u64, runs: Vec<HeldRun>) -> Held {
        Held { asked: Pages::of_file(size_bytes), size_bytes, runs }
    }

    #[test]
    fn what_is_written_and_not_durable_is_in_memory() {
        let pages = |runs: &[(u64, u64)]| runs.iter().map(|&(start, end)| Pages::new(start, end)).collect::<Vec<_>>();
        let runs = overlay(&pages(&[(0, 4), (30, 31)]), &pages(&[(2, 10), (12, 20)]), &pages(&[(2, 6), (12, 20)]));
        let wanted = [
            run(0, 2, true, false),
            run(2, 4, true, true),
            run(4, 6, false, true),
            run(6, 10, true, false),
            run(12, 20, false, true),
            run(30, 31, true, false),
        ];
        assert_eq!(runs, wanted);
        let bytes = held(31 * PAGE_BYTES - 96, runs).bytes();
        let page = PAGE_BYTES;
        let wanted = HeldBytes {
            asked_bytes: 31 * page - 96,
            memory_bytes: 9 * page - 96,
            disk_bytes: 12 * page,
            either_bytes: 19 * page - 96,
        };
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn a_cell_is_as_good_as_its_worst_byte() {
        // Two pages a cell, the last one short.
        let size_bytes = 128 * PAGE_BYTES - 1;
        let line = held(
            size_bytes,
            vec![run(0, 2, true, true), run(2, 4, true, false), run(4, 5, false, true), run(127, 128, false, true)],
        )
        .cells();
        assert_eq!(line, format!("#m:{}:", ".".repeat(60)));
        assert_eq!(held(size_bytes, vec![run(0, 128, false, true)]).cells(), "#".repeat(64));
        assert_eq!(held(size_bytes, vec![]).cells(), ".".repeat(64));
        assert_eq!(held(0, vec![]).cells(), "#".repeat(64));
        for size_bytes in [1, 63, 64, 65, 4096, 5000] {
            assert_eq!(held(size_bytes, vec![run(0, 2, true, false)]).cells(), "m".repeat(64), "{size_bytes}");
        }
        let coming = held(128 * PAGE_BYTES, vec![run(0, 2, false, true), run(2, 4, true, false)]);
        let line = coming.cells_and_coming(&[Pages::new(0, 3), Pages::new(9, 10)]);
        assert_eq!(line, format!("#>..>{}", ".".repeat(59)), "what is durable is not fetched to be held");
        assert_eq!(held(u64::MAX, vec![run(0, 1, false, true)]).cells(), format!(":{}", ".".repeat(63)));
    }

    #[test]
    fn too_many_runs_are_joined_over_the_smallest_gaps() {
        let of = |offset_bytes, bytes, memory, disk| MapRun { offset_bytes, bytes, held_bytes: bytes, memory, disk };
        let runs =
            vec![of(0, 10, true, false), of(20, 10, false, true), of(35, 5, false, true), of(100, 1, true, true)];
        assert_eq!(merge(runs.clone(), 4), Map { runs: runs.clone(), merged: false });
        let joined = MapRun { offset_bytes: 20, bytes: 20, held_bytes: 15, memory: false, disk: true };
        assert_eq!(merge(runs.clone(), 3).runs, [runs[0], joined, runs[3]]);
        let joined = MapRun { offset_bytes: 0, bytes: 40, held_bytes: 25, memory: true, disk: true };
        assert_eq!(merge(runs.clone(), 2), Map { runs: vec![joined, runs[3]], merged: true });
    }

    proptest! {
        #[test]
        fn the_cells_the_runs_and_the_sums_say_the_same(
            kinds in proptest::collection::vec(0u8..4, 1..300), short in 0u64..4096, max in 1usize..20
        ) {
            let size_bytes = kinds.len() as u64 * PAGE_BYTES - short;
            let with = |bit: u8| (0..).zip(&kinds).filter(|(_, kind)| **kind & bit > 0)
                .map(|(page, _)| Pages::new(page, page + 1)).collect::<Vec<_>>();
            let held = held(size_bytes, overlay(&with(1), &with(2), &with(2)));
            let (sums, map) = (held.bytes(), held.map());
            prop_assert_eq!(map.runs.iter().map(|run| run.held_bytes).sum::<u64>(), sums.either_bytes);
            prop_assert_eq!(map.runs.iter().filter(|run| run.disk).map(|run| run.bytes).sum::<u64>(), sums.disk_bytes);
            prop_assert_eq!(held.cells().chars().all(|cell| cell == '#'), sums.disk_bytes == size_bytes);
            prop_assert_eq!(held.cells().chars().all(|cell| cell == '.'), sums.either_bytes == 0);
            let fewer = merge(map.runs, max);
            prop_assert!(fewer.runs.len() <= max);
            prop_assert_eq!(fewer.runs.iter().map(|run| run.held_bytes).sum::<u64>(), sums.either_bytes);
            for pair in fewer.runs.windows(2) {
                prop_assert!(pair[0].offset_bytes + pair[0].bytes <= pair[1].offset_bytes);
            }
        }
    }
}
