//! Where new files go: a data file of their own, or the pack that is being filled.

use super::content::pack_charge;
use super::record::Place;
use crate::chunk::{CHUNK_PAGES, PAGE_BYTES};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};

/// Ids that one commit sets aside. After a crash at most this many names are looked for.
const IDS_AHEAD: u64 = 512;
/// Pages in a pack: 16 MiB, a few hundred files of a chunk each; evicted in one go.
const PACK_PAGES_MAX: u64 = 4096;
/// A pack is at most this part of the cache, or evicting one would empty a small cache.
const PACK_SHARE: u64 = 32;

/// Gives out data ids, and pages of packs.
pub(super) struct Places {
    state: Mutex<Given>,
    pack_pages_max: u64,
}

struct Given {
    next_id: u64,
    reserved: u64,
    /// Given out and not yet in a committed record.
    creating: BTreeSet<u64>,
    filling: Option<u64>,
    /// Pages given out of the packs of this session.
    packs: HashMap<u64, u64>,
}

/// A place, and whether its data file has to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct GivenPlace {
    pub(super) place: Place,
    pub(super) fresh: bool,
}

/// What a commit writes down about ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdMarks {
    pub(super) reserved: u64,
    pub(super) floor: u64,
}

impl Places {
    /// Ids from `next_id` up to `reserved` may be given out.
    pub(super) fn new(next_id: u64, reserved: u64, limit_bytes: u64) -> Places {
        let given = Given { next_id, reserved, creating: BTreeSet::new(), filling: None, packs: HashMap::new() };
        let pack_pages_max = (limit_bytes / PACK_SHARE / PAGE_BYTES).clamp(CHUNK_PAGES, PACK_PAGES_MAX);
        Places { state: Mutex::new(given), pack_pages_max }
    }

    /// Do files of this many pages lie in packs?
    pub(super) fn is_packed(page_count: u64) -> bool {
        page_count <= CHUNK_PAGES
    }

    /// What giving `page_count` pages of a pack adds to the ledger.
    pub(super) fn pack_need(&self, page_count: u64) -> u64 {
        let state = self.state.lock();
        let before = self.filling(&state, page_count).map_or(0, |(_, pages)| pages);
        pack_charge(before + page_count) - pack_charge(before)
    }

    /// A place for a file of `page_count` pages; `None` until a commit has set more ids aside.
    pub(super) fn give(&self, page_count: u64) -> Option<GivenPlace> {
        let mut state = self.state.lock();
        let packed = Places::is_packed(page_count);
        if packed && let Some((data_id, base_page)) = self.filling(&state, page_count) {
            state.packs.insert(data_id, base_page + page_count);
            return Some(GivenPlace { place: Place { data_id, base_page, packed }, fresh: false });
        }
        if state.next_id >= state.reserved {
            return None;
        }
        let data_id = state.next_id;
        state.next_id += 1;
        state.creating.insert(data_id);
        if packed {
            state.filling = Some(data_id);
            state.packs.insert(data_id, page_count);
        }
        Some(GivenPlace { place: Place { data_id, base_page: 0, packed }, fresh: true })
    }

    /// Pages given out of a pack of this session.
    pub(super) fn pack_pages(&self, data_id: u64) -> Option<u64> {
        self.state.lock().packs.get(&data_id).copied()
    }

    /// Put no more files there; says how many pages were given out, where that is known.
    pub(super) fn seal(&self, data_id: u64) {
        let mut state = self.state.lock();
        if state.filling == Some(data_id) {
            state.filling = None;
        }
    }

    /// A pack or data file is gone.
    pub(super) fn gone(&self, data_id: u64) {
        let mut state = self.state.lock();
        state.packs.remove(&data_id);
        state.creating.remove(&data_id);
    }

    /// Is it in no committed record yet?
    pub(super) fn is_new(&self, data_id: u64) -> bool {
        self.state.lock().creating.contains(&data_id)
    }

    /// A committed record names it now.
    pub(super) fn committed(&self, data_id: u64) {
        self.state.lock().creating.remove(&data_id);
    }

    /// The marks to commit; [`Places::marked`] makes them count.
    pub(super) fn marks(&self) -> IdMarks {
        let state = self.state.lock();
        let floor = state.creating.first().copied().unwrap_or(state.next_id);
        IdMarks { reserved: state.next_id + IDS_AHEAD, floor }
    }

    pub(super) fn marked(&self, marks: IdMarks) {
        let mut state = self.state.lock();
        state.reserved = state.reserved.max(marks.reserved);
    }

    /// Everything on disk is gone; ids go on.
    pub(super) fn forget(&self) {
        let mut state = self.state.lock();
        state.creating.clear();
        state.packs.clear();
        state.filling = None;
    }

    fn filling(&self, state: &Given, page_count: u64) -> Option<(u64, u64)> {
        let data_id = state.filling?;
        let pages = state.packs.get(&data_id).copied()?;
        (pages + page_count <= self.pack_pages_max).then_some((data_id, pages))
    }
}
