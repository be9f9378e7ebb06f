//! The state of each page of one file: absent, queued, in flight or held. One table owns that.
//!
//! Two levels: *leaves* of 256 chunks, so that what is wholly held or wholly absent costs 16 bytes
//! per 16 MiB, and masks of 16 pages per chunk in between.

use crate::chunk::{CHUNK_PAGES, Pages};

/// Chunks in a leaf: 16 MiB of file, 1.5 KiB of masks. Smaller leaves cost more for large files that
/// are held, larger ones more for a random reader that touches each once.
const LEAF_CHUNKS: usize = 256;
const LEAF_PAGES: u64 = LEAF_CHUNKS as u64 * CHUNK_PAGES;
/// For each so many leaves a file keeps the masks of one to spare, 6 bytes a MiB: small files, of which there may be
/// very many, keep none.
const LEAVES_PER_SPARE: usize = 16;
const SPARE_MAX: usize = 32;

/// What a page is. Each is exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not held, and nobody wants it.
    Absent,
    /// Somebody wants it; no fetch has it yet.
    Queued,
    /// A fetch has it.
    InFlight,
    /// In memory or on disk.
    Held,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    held: u16,
    in_flight: u16,
    queued: u16,
}

impl Entry {
    fn mask(self, state: State) -> u16 {
        match state {
            State::Absent => !(self.held | self.in_flight | self.queued),
            State::Queued => self.queued,
            State::InFlight => self.in_flight,
            State::Held => self.held,
        }
    }

    fn set(&mut self, mask: u16, state: State) {
        self.held &= !mask;
        self.in_flight &= !mask;
        self.queued &= !mask;
        match state {
            State::Absent => {}
            State::Queued => self.queued |= mask,
            State::InFlight => self.in_flight |= mask,
            State::Held => self.held |= mask,
        }
    }
}

#[derive(Debug)]
enum Leaf {
    Absent,
    Held,
    Mixed(Masks),
}

type Masks = Box<[Entry; LEAF_CHUNKS]>;

/// The pages of one file.
#[derive(Debug)]
pub(super) struct Table {
    pages: u64,
    leaves: Vec<Leaf>,
    /// Masks that were given back and say nothing: a reader of single pages that are not kept opens and closes a
    /// leaf with each, and needs no new memory for that.
    spare: Vec<Masks>,
}

impl Table {
    /// A file of so many pages, all absent.
    pub(super) fn new(pages: u64) -> Table {
        let leaves = (0..pages.div_ceil(LEAF_PAGES)).map(|_| Leaf::Absent).collect();
        Table { pages, leaves, spare: Vec::new() }
    }

    /// How many pages the file has.
    pub(super) fn pages(&self) -> Pages {
        Pages::new(0, self.pages)
    }

    /// What this page is; pages past the end are absent.
    #[cfg(test)]
    pub(super) fn state(&self, page: u64) -> State {
        let entry = self.entry(page / CHUNK_PAGES);
        let bit = 1u16 << (page % CHUNK_PAGES);
        [State::Held, State::InFlight, State::Queued]
            .into_iter()
            .find(|&state| entry.mask(state) & bit != 0)
            .unwrap_or(State::Absent)
    }

    /// Turn every page of `pages` that is `from` into `to`.
    pub(super) fn turn(&mut self, pages: Pages, from: State, to: State) {
        for part in pages.intersect(self.pages()).split(LEAF_PAGES) {
            let at = (part.start / LEAF_PAGES) as usize;
            let untouched = match self.leaves[at] {
                Leaf::Absent => from != State::Absent,
                Leaf::Held => from != State::Held,
                Leaf::Mixed(_) => false,
            };
            if untouched {
                continue;
            }
            let entries = self.open_leaf(at);
            let mut ended = false;
            for chunk in part.split(CHUNK_PAGES) {
                let entry = &mut entries[(chunk.start / CHUNK_PAGES) as usize % LEAF_CHUNKS];
                let mask = entry.mask(from) & mask_of(chunk);
                entry.set(mask, to);
                ended |= mask != 0 && matches!(to, State::Held | State::Absent);
            }
            if ended {
                self.close_leaf(at);
            }
        }
    }

    /// Turn every page of `pages` into `to`, whatever it is.
    pub(super) fn turn_all(&mut self, pages: Pages, to: State) {
        for from in [State::Absent, State::Queued, State::InFlight, State::Held] {
            if from != to {
                self.turn(pages, from, to);
            }
        }
    }

    /// The first run of neighbouring pages that are `state`, at or after `pages.start` and inside
    /// `pages`, of at most `pages_max` pages.
    pub(super) fn next_run(&self, pages: Pages, state: State, pages_max: u64) -> Option<Pages> {
        let pages = pages.intersect(self.pages());
        let start = self.seek(pages, state, true)?;
        let limit = Pages::new(start, pages.end.min(start.saturating_add(pages_max.max(1))));
        let end = self.seek(limit, state, false).unwrap_or(limit.end);
        Some(Pages::new(start, end))
    }

    /// Every run of `state` in `pages`.
    pub(super) fn runs(&self, pages: Pages, state: State) -> impl Iterator<Item = Pages> {
        let mut at = pages.start;
        std::iter::from_fn(move || {
            let run = self.next_run(Pages::new(at, pages.end), state, u64::MAX)?;
            at = run.end;
            Some(run)
        })
    }

    /// How many of `pages` are `state`.
    pub(super) fn count(&self, pages: Pages, state: State) -> u64 {
        self.runs(pages, state).map(|run| run.count()).sum()
    }

    /// The first page of `pages` that is not held.
    pub(super) fn first_missing(&self, pages: Pages) -> Option<u64> {
        self.seek(pages.intersect(self.pages()), State::Held, false)
    }

    /// The first page of `pages` that is (`wanted`) or is not (`!wanted`) in `state`.
    fn seek(&self, pages: Pages, state: State, wanted: bool) -> Option<u64> {
        let mut at = pages.start;
        while at < pages.end {
            match &self.leaves[(at / LEAF_PAGES) as usize] {
                Leaf::Mixed(entries) => {
                    let entry = entries[(at / CHUNK_PAGES) as usize % LEAF_CHUNKS];
                    let mask = if wanted { entry.mask(state) } else { !entry.mask(state) };
                    let left = mask >> (at % CHUNK_PAGES);
                    if left != 0 {
                        return Some(at + u64::from(left.trailing_zeros())).filter(|&page| page < pages.end);
                    }
                    at = (at / CHUNK_PAGES + 1) * CHUNK_PAGES;
                }
                uniform => {
                    let is = if matches!(uniform, Leaf::Held) { State::Held } else { State::Absent };
                    if (is == state) == wanted {
                        return Some(at);
                    }
                    at = (at / LEAF_PAGES + 1) * LEAF_PAGES;
                }
            }
        }
        None
    }

    #[cfg(test)]
    fn entry(&self, chunk: u64) -> Entry {
        match self.leaves.get(chunk as usize / LEAF_CHUNKS) {
            Some(Leaf::Mixed(entries)) => entries[chunk as usize % LEAF_CHUNKS],
            Some(Leaf::Held) => Entry { held: self.whole_mask(chunk), ..Entry::default() },
            _ => Entry::default(),
        }
    }

    /// The pages of this chunk that exist.
    fn whole_mask(&self, chunk: u64) -> u16 {
        let start = chunk * CHUNK_PAGES;
        mask_of(Pages::new(start, start + CHUNK_PAGES).intersect(Pages::new(start, self.pages.max(start))))
    }

    fn open_leaf(&mut self, at: usize) -> &mut [Entry; LEAF_CHUNKS] {
        let fill = match self.leaves[at] {
            Leaf::Held => true,
            Leaf::Absent | Leaf::Mixed(_) => false,
        };
        if !matches!(self.leaves[at], Leaf::Mixed(_)) {
            let mut entries = self.spare.pop().unwrap_or_else(|| Box::new([Entry::default(); LEAF_CHUNKS]));
            if fill {
                for (chunk, entry) in entries.iter_mut().enumerate() {
                    entry.held = self.whole_mask((at * LEAF_CHUNKS + chunk) as u64);
                }
            }
            self.leaves[at] = Leaf::Mixed(entries);
        }
        match &mut self.leaves[at] {
            Leaf::Mixed(entries) => entries,
            _ => unreachable!("the leaf was opened above"),
        }
    }

    /// Give the masks back where they say nothing: all held, or all absent.
    fn close_leaf(&mut self, at: usize) {
        let Leaf::Mixed(entries) = &self.leaves[at] else { return };
        // Most leaves are decided by their first entry.
        let absent = entries.iter().all(|entry| *entry == Entry::default());
        let is_held =
            |(chunk, entry): (usize, &Entry)| entry.held == self.whole_mask((at * LEAF_CHUNKS + chunk) as u64);
        let held = !absent && entries.iter().enumerate().all(is_held);
        if !held && !absent {
            return;
        }
        let uniform = if held { Leaf::Held } else { Leaf::Absent };
        if let Leaf::Mixed(masks) = std::mem::replace(&mut self.leaves[at], uniform)
            && absent
            && self.spare.len() < (self.leaves.len() / LEAVES_PER_SPARE).min(SPARE_MAX)
        {
            self.spare.push(masks);
        }
    }
}

/// The pages of `part`, which lies in one chunk, as bits.
fn mask_of(part: Pages) -> u16 {
    let count = part.count().min(CHUNK_PAGES);
    (((1u32 << count) - 1) << (part.start % CHUNK_PAGES)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_state() -> impl Strategy<Value = State> {
        prop_oneof![Just(State::Absent), Just(State::Queued), Just(State::InFlight), Just(State::Held)]
    }

    proptest! {
        #[test]
        fn the_table_is_an_array_of_states(
            pages in 1u64..9000,
            steps in prop::collection::vec((0u64..9000, 0u64..9000, any_state(), any_state()), 1..30),
        ) {
            let mut table = Table::new(pages);
            let mut model = vec![State::Absent; pages as usize];
            for (a, b, from, to) in steps {
                let run = Pages::new(a.min(b), a.max(b));
                table.turn(run, from, to);
                for page in run.intersect(Pages::new(0, pages)).iter() {
                    if model[page as usize] == from {
                        model[page as usize] = to;
                    }
                }
                for state in [State::Absent, State::Queued, State::InFlight, State::Held] {
                    let expected = model.iter().filter(|&&have| have == state).count() as u64;
                    prop_assert_eq!(table.count(Pages::new(0, u64::MAX), state), expected);
                }
            }
            for page in 0..pages {
                prop_assert_eq!(table.state(page), model[page as usize]);
            }
            let missing = model.iter().position(|&state| state != State::Held).map(|at| at as u64);
            prop_assert_eq!(table.first_missing(Pages::new(0, u64::MAX)), missing);
        }
    }

    #[test]
    fn what_is_uniform_costs_no_masks() {
        let mut table = Table::new(LEAF_PAGES * 3 + 5);
        table.turn(Pages::new(0, 10), State::Absent, State::Queued);
        table.turn_all(Pages::new(0, u64::MAX), State::Held);
        assert!(table.leaves.iter().all(|leaf| matches!(leaf, Leaf::Held)), "{:?}", table.leaves);
        table.turn(Pages::new(0, u64::MAX), State::Held, State::Absent);
        assert!(table.leaves.iter().all(|leaf| matches!(leaf, Leaf::Absent)));
    }

    #[test]
    fn a_run_ends_at_its_limit_and_at_its_neighbour() {
        let mut table = Table::new(100);
        table.turn(Pages::new(10, 50), State::Absent, State::Queued);
        table.turn(Pages::new(30, 31), State::Queued, State::InFlight);
        assert_eq!(table.next_run(Pages::new(0, 100), State::Queued, 5), Some(Pages::new(10, 15)));
        assert_eq!(table.next_run(Pages::new(12, 100), State::Queued, 99), Some(Pages::new(12, 30)));
        assert_eq!(table.next_run(Pages::new(50, 100), State::Queued, 99), None);
    }
}
