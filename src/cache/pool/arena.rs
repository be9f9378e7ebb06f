//! The ledger: which extent is whole, which is cut into slots, what is free, what is resident.

use super::mask::MASK_PAGES;
use super::memory::{EXTENT_BYTES, Memory};
use super::run::{EXTENT_PAGES, Owner, Run};
use crate::chunk::{Inode, PAGE_BYTES, Pages};
use crate::clock::Time;
use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Extents in a unit of giving back: a huge page.
const UNIT_EXTENTS: usize = 2;
/// A unit that nobody used for so long is given back. Longer than the pause between two files of
/// one job, or each would fault its memory in again (a tenth of the speed of a cold read).
const IDLE: Duration = Duration::from_secs(5);
/// So many units that nobody has are touched ahead of who will need them.
const AHEAD_UNITS: usize = 1;
/// A second counts for the age of a run like so much of the pool handed out: without new memory
/// being asked for, what nobody looks at must still grow old.
const AGE_PARTS_PER_SECOND: u64 = 16;

/// The memory and its ledger. Outlives the pool while anybody has bytes pinned.
pub(super) struct Arena {
    memory: Arc<Memory>,
    ledger: Mutex<Ledger>,
    /// To the ledger, from whoever lets go of a run last. That may be a reader, who takes no lock for it.
    released: mpsc::UnboundedSender<Released>,
    /// Bytes handed out since the start, and time made bytes (see [`AGE_PARTS_PER_SECOND`]).
    age_bytes: AtomicU64,
    /// Owned by runs.
    owned_bytes: AtomicU64,
    allowed_bytes: AtomicU64,
    /// Of runs with a reservation.
    pub(super) reserved_bytes: AtomicU64,
    /// Of runs made for background work that no reader has come for.
    pub(super) unread_bytes: AtomicU64,
    /// Of those of them without a reservation.
    pub(super) idle_unread_bytes: AtomicU64,
    /// A reservation failed since the hook was last called.
    starved: AtomicBool,
    freed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A run is gone, and its pages are clear.
struct Released {
    extent: usize,
    id: u64,
    count: usize,
}

struct Ledger {
    /// What is to be entered before anything else. Bounded by the runs that were handed out.
    released: mpsc::UnboundedReceiver<Released>,
    extents: Vec<Extent>,
    /// Since when each unit is resident and free, as far as was seen.
    idle_since: Vec<Option<Time>>,
    used: usize,
    allowed: usize,
    next_id: u64,
    looked: Option<Time>,
    /// To who touches memory ahead ([`super::ahead`]): there is some to touch now.
    toucher: Option<SyncSender<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Free,
    /// The kernel is just putting memory behind it.
    Touching,
    Whole,
    Slots,
}

struct Extent {
    usage: Use,
    /// Slots that can be handed out. Zero unless it is cut into slots.
    free_slots: usize,
    residents: Vec<(u64, Weak<Run>)>,
    /// The machine's memory may be behind it.
    resident: bool,
    /// That was put there ahead, and nobody had it yet.
    ahead: bool,
}

impl Arena {
    pub(super) fn new(extents: usize) -> io::Result<Arena> {
        let extent =
            || Extent { usage: Use::Free, free_slots: 0, residents: Vec::new(), resident: false, ahead: false };
        let (released, receiver) = mpsc::unbounded_channel();
        let ledger = Ledger {
            released: receiver,
            extents: (0..extents).map(|_| extent()).collect(),
            idle_since: vec![None; extents.div_ceil(UNIT_EXTENTS)],
            used: 0,
            allowed: extents,
            next_id: 0,
            looked: None,
            toucher: None,
        };
        Ok(Arena {
            memory: Memory::map(extents)?,
            ledger: Mutex::new(ledger),
            released,
            age_bytes: AtomicU64::new(0),
            owned_bytes: AtomicU64::new(0),
            allowed_bytes: AtomicU64::new(extents as u64 * EXTENT_BYTES),
            reserved_bytes: AtomicU64::new(0),
            unread_bytes: AtomicU64::new(0),
            idle_unread_bytes: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            freed: OnceLock::new(),
        })
    }

    pub(super) fn limit_bytes(&self) -> u64 {
        self.memory.extents() as u64 * EXTENT_BYTES
    }

    /// What may be owned by runs now: the limit less what is used elsewhere.
    pub(super) fn allowed_bytes(&self) -> u64 {
        self.allowed_bytes.load(Ordering::SeqCst)
    }

    pub(super) fn owned_bytes(&self) -> u64 {
        self.owned_bytes.load(Ordering::SeqCst)
    }

    pub(super) fn age_bytes(&self) -> u64 {
        self.age_bytes.load(Ordering::Relaxed)
    }

    /// A whole extent for the group of `pages.start`; None where none is free.
    pub(super) fn take_extent(self: &Arc<Self>, file: Inode, group: u64) -> Option<Arc<Run>> {
        let mut ledger = self.ledger();
        let extent = ledger.free_extent(Use::Whole)?;
        let pages = Pages::new(group * EXTENT_PAGES, (group + 1) * EXTENT_PAGES);
        Some(self.settle(&mut ledger, extent, 0, file, pages))
    }

    /// Neighbouring slots for all of `pages`; None where there is no such gap and no free extent.
    pub(super) fn take_slots(self: &Arc<Self>, file: Inode, pages: Pages) -> Option<Arc<Run>> {
        let mut ledger = self.ledger();
        let (extent, first) = self.gap(&mut ledger, pages.count() as usize)?;
        ledger.extents[extent].free_slots -= pages.count() as usize;
        Some(self.settle(&mut ledger, extent, first, file, pages))
    }

    /// The longest gap there is, for the first of `pages`; None where no slot is free.
    pub(super) fn take_some_slots(self: &Arc<Self>, file: Inode, pages: Pages) -> Option<Arc<Run>> {
        let mut ledger = self.ledger();
        let gaps = ledger.extents.iter().enumerate().filter(|(_, extent)| extent.free_slots > 0);
        let longest = |extent: usize| self.memory.taken(extent).longest_gap();
        let (extent, (first, length)) = gaps
            .filter_map(|(at, _)| longest(at).map(|gap| (at, gap)))
            .max_by_key(|&(at, (_, length))| (length, std::cmp::Reverse(at)))?;
        // The slots of a run that is just being let go are clear before they are counted as free.
        let length = length.min(ledger.extents[extent].free_slots).min(pages.count() as usize);
        ledger.extents[extent].free_slots -= length;
        let pages = Pages::new(pages.start, pages.start + length as u64);
        Some(self.settle(&mut ledger, extent, first, file, pages))
    }

    fn gap(&self, ledger: &mut Ledger, count: usize) -> Option<(usize, usize)> {
        let open = ledger.extents.iter().enumerate().filter(|(_, extent)| extent.free_slots >= count);
        let found = open.filter_map(|(at, _)| self.memory.taken(at).gap(count).map(|first| (at, first))).next();
        found.or_else(|| {
            let extent = ledger.free_extent(Use::Slots)?;
            ledger.extents[extent].free_slots = MASK_PAGES;
            Some((extent, 0))
        })
    }

    fn settle(
        self: &Arc<Self>,
        ledger: &mut Ledger,
        extent: usize,
        first: usize,
        file: Inode,
        pages: Pages,
    ) -> Arc<Run> {
        let (count, bytes) = (pages.count() as usize, pages.count() * PAGE_BYTES);
        ledger.next_id += 1;
        let id = ledger.next_id;
        let owner = Owner::new(self.clone(), id, extent, file, pages);
        self.owned_bytes.fetch_add(bytes, Ordering::SeqCst);
        let run = self.memory.take(extent, first, count, owner).expect("free in the ledger is free in memory");
        let run = Arc::new(run);
        ledger.extents[extent].residents.push((id, Arc::downgrade(&run)));
        run
    }

    /// The ledger, with everything entered that was let go of before.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        let mut ledger = self.ledger.lock();
        while let Ok(released) = ledger.released.try_recv() {
            ledger.enter(&released);
        }
        ledger
    }

    /// The pages of a run are free again. Called once by the drop of its owner. No lock.
    pub(super) fn release(&self, extent: usize, id: u64, count: usize) {
        // The receiver lives as long as we do.
        let _ = self.released.send(Released { extent, id, count });
        self.owned_bytes.fetch_sub(count as u64 * PAGE_BYTES, Ordering::SeqCst);
        // Pairs with the one of `starve`: either a reservation that fails finds this entered, or the
        // `ring` that follows sees that somebody waits.
        fence(Ordering::SeqCst);
    }

    /// How many extents there are, free or not.
    pub(super) fn extents(&self) -> usize {
        self.memory.extents()
    }

    /// The runs in an extent. Letting go of them may free them: not under a lock of the index.
    pub(super) fn residents(&self, extent: usize) -> Vec<Arc<Run>> {
        let mut runs = Vec::new();
        self.add_residents(extent, &mut runs);
        runs
    }

    /// The same behind what is in `runs`: who walks over all extents needs no vector for each.
    pub(super) fn add_residents(&self, extent: usize, runs: &mut Vec<Arc<Run>>) {
        let ledger = self.ledger();
        runs.extend(ledger.extents[extent].residents.iter().filter_map(|(_, run)| run.upgrade()));
    }

    /// Owned, or kept resident for the next who asks.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.ledger().resident() as u64 * EXTENT_BYTES
    }

    /// Would the next extent be one that nobody had yet, with this part of all in use?
    pub(super) fn would_grow(&self, parts: usize) -> bool {
        let ledger = self.ledger();
        let had = ledger.extents.iter().filter(|extent| extent.resident && !extent.ahead);
        let free = had.clone().any(|extent| extent.usage == Use::Free);
        !free && had.count() >= ledger.extents.len() / parts
    }

    /// From now on `toucher` is told when there is something to touch ahead.
    pub(super) fn set_toucher(&self, toucher: SyncSender<()>) {
        self.ledger().toucher = Some(toucher);
    }

    /// Touches what is to be touched ahead, outside of the ledger's lock.
    pub(super) fn touch_ahead(&self) {
        loop {
            let Some(extents) = self.ledger().begin_touching() else { return };
            self.memory.touch(extents.start, extents.len());
            let mut ledger = self.ledger();
            ledger.extents[extents].iter_mut().for_each(|extent| extent.usage = Use::Free);
            drop(ledger);
            // Whoever found none free while these were kept from him.
            self.ring();
        }
    }

    /// At most so many extents may be in use from now on; true where that is so already.
    pub(super) fn allow(&self, extents: usize) -> bool {
        let mut ledger = self.ledger();
        ledger.allowed = extents.min(ledger.extents.len());
        self.allowed_bytes.store(ledger.allowed as u64 * EXTENT_BYTES, Ordering::SeqCst);
        ledger.used <= ledger.allowed
    }

    /// Gives back what has been idle for [`IDLE`], and at once what is resident over the allowance.
    pub(super) fn give_back(&self, now: Time) {
        let mut ledger = self.ledger();
        let passed = ledger.looked.map_or(Duration::ZERO, |looked| now.since(looked));
        ledger.looked = Some(now);
        let aged = passed.as_secs_f64() * (self.limit_bytes() / AGE_PARTS_PER_SECOND) as f64;
        self.age_bytes.fetch_add(aged as u64, Ordering::Relaxed);
        for unit in 0..ledger.idle_since.len() {
            let extents = ledger.of_unit(unit);
            if !ledger.is_free(unit) || !ledger.extents[extents.start].resident {
                ledger.idle_since[unit] = None;
                continue;
            }
            let since = *ledger.idle_since[unit].get_or_insert(now);
            if now.since(since) >= IDLE {
                self.discard(&mut ledger, extents);
            }
        }
    }

    /// Gives back free memory until what is resident is within the allowance: whole units, and
    /// where that is not enough lone extents, though that breaks up huge pages.
    pub(super) fn shrink(&self) {
        let mut ledger = self.ledger();
        let units = (0..ledger.idle_since.len()).rev().map(|unit| ledger.of_unit(unit)).collect::<Vec<_>>();
        let lone = (0..ledger.extents.len()).rev().map(|extent| extent..extent + 1);
        for extents in units.into_iter().chain(lone) {
            if ledger.resident() <= ledger.allowed {
                return;
            }
            let mut state = ledger.extents[extents.clone()].iter();
            if state.all(|extent| extent.usage == Use::Free && extent.resident) {
                self.discard(&mut ledger, extents);
            }
        }
    }

    fn discard(&self, ledger: &mut Ledger, extents: Range<usize>) {
        if self.memory.discard(extents.start, extents.len()) {
            ledger.extents[extents].iter_mut().for_each(|extent| (extent.resident, extent.ahead) = (false, false));
        }
    }

    /// So much was handed out.
    pub(super) fn grow_old(&self, bytes: u64) {
        self.age_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// To be called when memory becomes available after a reservation failed.
    pub(super) fn on_freed(&self, hook: Box<dyn Fn() + Send + Sync>) -> bool {
        self.freed.set(hook).is_ok()
    }

    /// From now on whoever frees something says so.
    pub(super) fn starve(&self) {
        self.starved.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Something may have become available: tells the one who waits for it. Not under a lock.
    pub(super) fn ring(&self) {
        if self.starved.load(Ordering::SeqCst)
            && self.starved.swap(false, Ordering::SeqCst)
            && let Some(hook) = self.freed.get()
        {
            hook();
        }
    }

    /// See [`super::index::Index::hold_locks`].
    #[cfg(test)]
    pub(super) fn hold_lock(&self) -> impl Sized {
        self.ledger.lock()
    }

    #[cfg(test)]
    pub(super) fn is_touching(&self) -> bool {
        let told = |extent: &Extent| extent.usage == Use::Touching;
        self.ledger().extents.iter().any(told)
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let ledger = self.ledger();
        let is_free = |extent: &Extent| matches!(extent.usage, Use::Free | Use::Touching);
        let used = ledger.extents.iter().filter(|extent| !is_free(extent)).count();
        assert_eq!(used, ledger.used);
        assert!(self.owned_bytes() <= used as u64 * EXTENT_BYTES && used <= ledger.extents.len());
        for (at, extent) in ledger.extents.iter().enumerate() {
            let taken = self.memory.taken(at).count();
            let free = if extent.usage == Use::Slots { MASK_PAGES - taken } else { 0 };
            assert_eq!(extent.free_slots, free);
            assert_eq!(is_free(extent), taken == 0);
        }
    }
}

impl Ledger {
    fn enter(&mut self, released: &Released) {
        let entry = &mut self.extents[released.extent];
        entry.residents.retain(|(resident, _)| *resident != released.id);
        if entry.usage == Use::Slots {
            entry.free_slots += released.count;
        }
        if entry.residents.is_empty() {
            // Whole extents have one resident, slots are all free: no run is left either way.
            (entry.usage, entry.free_slots) = (Use::Free, 0);
            self.used -= 1;
        }
    }

    fn resident(&self) -> usize {
        self.extents.iter().filter(|extent| extent.resident).count()
    }

    fn of_unit(&self, unit: usize) -> Range<usize> {
        unit * UNIT_EXTENTS..((unit + 1) * UNIT_EXTENTS).min(self.extents.len())
    }

    fn is_free(&self, unit: usize) -> bool {
        self.extents[self.of_unit(unit)].iter().all(|extent| extent.usage == Use::Free)
    }

    /// Counts a free extent as used: one that is resident, was in use before, beside one in use, and low, in
    /// this order, so that whole units stay free for giving back.
    fn free_extent(&mut self, usage: Use) -> Option<usize> {
        if self.used >= self.allowed {
            return None;
        }
        let free = (0..self.extents.len()).filter(|&at| self.extents[at].usage == Use::Free);
        let cost = |&at: &usize| {
            let unit = at / UNIT_EXTENTS;
            (!self.extents[at].resident, self.extents[at].ahead, self.is_free(unit), at)
        };
        let extent = free.min_by_key(cost)?;
        let unit = extent / UNIT_EXTENTS;
        self.idle_since[unit] = None;
        // The first touch of one may bring a huge page, which is behind both.
        let extents = self.of_unit(unit);
        self.extents[extents].iter_mut().for_each(|extent| extent.resident = true);
        (self.extents[extent].usage, self.extents[extent].ahead) = (usage, false);
        self.used += 1;
        if self.wants_touching()
            && let Some(toucher) = &self.toucher
        {
            // Full: it was told already.
            let _ = toucher.try_send(());
        }
        Some(extent)
    }

    /// Is too little ready for who needs memory next, and may more be resident?
    fn wants_touching(&self) -> bool {
        let ready = |extent: &&Extent| extent.resident && extent.usage == Use::Free;
        self.extents.iter().filter(ready).count() < AHEAD_UNITS * UNIT_EXTENTS
            && self.resident() + UNIT_EXTENTS <= self.allowed
    }

    /// A unit to be touched ahead, kept from everybody until it is; None where enough is, or where there is no room for more.
    fn begin_touching(&mut self) -> Option<Range<usize>> {
        if !self.wants_touching() {
            return None;
        }
        let untouched = |extents: &Range<usize>| {
            extents.len() == UNIT_EXTENTS
                && self.extents[extents.clone()].iter().all(|extent| extent.usage == Use::Free && !extent.resident)
        };
        let extents = (0..self.idle_since.len()).map(|unit| self.of_unit(unit)).find(untouched)?;
        for extent in &mut self.extents[extents.clone()] {
            (extent.usage, extent.resident, extent.ahead) = (Use::Touching, true, true);
        }
        Some(extents)
    }
}
